/*!
Risk control: thresholds with a promise of how much accuracy leaving early may cost.

The loss of an image is 1 where the plan answers wrongly what the whole network answers rightly, else 0:
the accuracy falls by its mean less what leaving early mends, so by no more than its mean. (The same loss as
in Schuster et al. 2022, "Confident Adaptive Language Modeling", arXiv 2207.07061.)

With a probability: Learn then Test (Angelopoulos et al. 2021, arXiv 2110.01052) by fixed-sequence testing.
A path of thresholds leads from "nothing leaves early" through the plan's own to "all leave". Its steps come
from the images that are tuned on, never from those held back; along it, each step is tested on the images
held back for the hypothesis that its loss is above ε, until the first that isn't refuted at level δ. Every
step before keeps ε, all at once, with probability 1 − δ. The p-value is the binomial tail, which is exact
for a loss of 0 or 1: the bound of Hoeffding and Bentkus, which holds for any loss between, is never smaller.
Jazbec et al. 2024, "Fast yet Safe: Early-Exiting with Risk Control" (arXiv 2405.20915), apply the same to
networks with early exits.

In expectation: conformal risk control (Angelopoulos et al. 2022, arXiv 2208.02814). It wants a loss that
only grows along the path, so an image counts from the first step on that harms it.

Both hold for images drawn as the held-back ones were, which neither network nor exits learnt from.
*/

use crate::data::Set;
use crate::plan::Plan;
use crate::predict::{Evidence, Harm, Outcome, PreparedPlan, ReplayError, Terms, Ways};
use serde::{Deserialize, Serialize};

/// Steps of a path, at most.
const STEPS: usize = 200;

/// What is promised of accuracy.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Promise {
    /// ε: at most so many of 100 images are answered wrongly that the whole network answers rightly.
    pub accuracy_loss_points: f64,
    /// δ: the probability, over the draw of the images held back, that the promise is broken, above 0 and
    /// below 1; absent for a promise in expectation.
    #[serde(default)]
    pub delta: Option<f64>,
}

/// A promise that nobody can make.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum PromiseError {
    /// Points out of range.
    #[error("{0}, it may be above 0 and below 100")]
    Loss(f64),
    /// A probability out of range.
    #[error("{0}, it may be above 0 and below 1")]
    Delta(f64),
}

impl PromiseError {
    /// The field of the promise.
    pub fn field(&self) -> &'static str {
        match self {
            PromiseError::Loss(_) => "accuracy_loss_points",
            PromiseError::Delta(_) => "delta",
        }
    }
}

impl Promise {
    /// Refuses what nobody can promise.
    ///
    /// # Errors
    /// Where a number is out of range.
    pub fn check(&self) -> Result<(), PromiseError> {
        let (loss, delta) = (self.accuracy_loss_points, self.delta);
        if !(loss > 0.0 && loss < 100.0) {
            return Err(PromiseError::Loss(loss));
        }
        match delta.filter(|d| !(*d > 0.0 && *d < 1.0)) {
            Some(delta) => Err(PromiseError::Delta(delta)),
            None => Ok(()),
        }
    }

    fn epsilon(&self) -> f64 {
        self.accuracy_loss_points / 100.0
    }

    /// Images that must be held back for any threshold to keep it, should none of them be harmed.
    pub fn samples_needed(&self) -> usize {
        let epsilon = self.epsilon();
        let most = match self.delta {
            Some(delta) => delta.ln() / (-epsilon).ln_1p(),
            None => 1.0 / epsilon - 1.0,
        };
        // A whole number that division left a little above itself is that number.
        (most - 1e-9).ceil().max(1.0) as usize
    }

    /// Steps of a path that keep it: those before the first that may not.
    fn kept(&self, harm: &Harm) -> usize {
        let n = harm.samples;
        let epsilon = self.epsilon();
        match self.delta {
            Some(delta) => {
                let tested = harm.harmed.iter();
                let kept = |&&harmed: &&usize| p_value(harmed, n, epsilon) <= delta;
                tested.take_while(kept).count()
            }
            None => {
                let bound = |&&ever: &&usize| (ever as f64 + 1.0) / (n as f64 + 1.0) <= epsilon;
                harm.ever.iter().take_while(bound).count()
            }
        }
    }

    /// In words, for so many images held back.
    pub fn text(&self, held_back: usize) -> String {
        let points = self.accuracy_loss_points;
        let loss = format!(
            "leaving early costs at most {points} points of accuracy against the whole network"
        );
        match self.delta {
            Some(delta) => format!(
                "with a probability of {} %, over the draw of the {held_back} calibration images held back \
                 for it, {loss}",
                short(100.0 * (1.0 - delta))
            ),
            None => format!(
                "in expectation over the draw of the {held_back} calibration images held back for it, {loss}"
            ),
        }
    }
}

/// As few digits as tell a percentage apart.
fn short(percent: f64) -> String {
    let rounded = (percent * 1e4).round() / 1e4;
    rounded.to_string()
}

/// Probability of at most `harmed` of `n` where each is with probability `epsilon`: the p-value of "the loss
/// is above ε".
pub fn p_value(harmed: usize, n: usize, epsilon: f64) -> f64 {
    let (hit, miss) = (epsilon.ln(), (-epsilon).ln_1p());
    // Terms as logarithms: the first of many is no float.
    let mut log = n as f64 * miss;
    let mut sum = log.exp();
    for k in 1..=harmed.min(n) {
        log += ((n - k + 1) as f64 / k as f64).ln() + hit - miss;
        sum += log.exp();
    }
    sum.min(1.0)
}

/// Thresholds that keep a promise, and what they give.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Kept {
    /// One per exit of the plan, in order.
    pub thresholds: Vec<f64>,
    /// Images held back that they harm.
    pub harmed: usize,
    /// Of the test that they passed; absent of a promise in expectation.
    pub p_value: Option<f64>,
    /// What they give, predicted on the calibration images that are tuned on.
    pub outcome: Outcome,
    /// Whether the plan's own thresholds keep the promise too.
    pub plan_keeps: bool,
}

/// What came of a promise.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    /// Thresholds were found that keep the promise.
    Kept(Box<Kept>),
    /// No threshold could, were none of the images harmed.
    TooFewImages {
        /// Images that must be held back.
        needed: usize,
    },
    /// Already the first step, at which fewest leave early, may harm too many.
    NoThreshold {
        /// Images that it harms.
        harmed: usize,
    },
    /// Nothing leaves early, and nothing is harmed.
    NoExits,
    /// Temperatures were fitted on all calibration images, so none is held back.
    NothingHeldBack,
    /// The answers behind the split are those of F32 tensors, though another type travels.
    OtherWire,
}

/// A promise, and what came of it for a plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Guarantee {
    /// What was promised.
    pub promise: Promise,
    /// Images held back.
    pub samples: usize,
    /// What came of it.
    pub finding: Finding,
}

impl Guarantee {
    /// The thresholds that keep it.
    pub fn kept(&self) -> Option<&Kept> {
        match &self.finding {
            Finding::Kept(kept) => Some(kept),
            _ => None,
        }
    }

    /// In one sentence, or two.
    pub fn text(&self) -> String {
        let promise = self.promise.text(self.samples);
        let points = self.promise.accuracy_loss_points;
        let n = self.samples;
        let none = format!("No guarantee of {points} points");
        match &self.finding {
            Finding::Kept(kept) => {
                let thresholds: Vec<String> = kept.thresholds.iter().map(f64::to_string).collect();
                let p = kept
                    .p_value
                    .map_or(String::new(), |p| format!(", p = {p:.3}"));
                let plan = if kept.plan_keeps {
                    "this plan's own thresholds keep it too"
                } else {
                    "this plan's own thresholds don't keep it"
                };
                format!(
                    "Guaranteed for images like these: {promise}, at thresholds {} ({} of the {n} images \
                     harmed{p}); {plan}",
                    thresholds.join(", "),
                    kept.harmed
                )
            }
            Finding::TooFewImages { needed } => format!(
                "{none}: not enough calibration data, {n} images are held back for it and {needed} are \
                 needed, so calibrate with {} at least",
                needed.saturating_mul(2)
            ),
            Finding::NoThreshold { harmed } => format!(
                "{none}: even where fewest leave early, {harmed} of the {n} images held back for it are \
                 answered wrongly that the whole network answers rightly"
            ),
            Finding::NoExits => {
                "Nothing leaves early, so that leaving early costs no accuracy".to_string()
            }
            Finding::NothingHeldBack => format!(
                "{none} yet: temperatures were fitted on all calibration images; run the session again \
                 with the guarantee, which holds half of them back"
            ),
            Finding::OtherWire => format!(
                "{none} yet: the answers behind the split are those of F32 tensors, and another type \
                 travels; run the plan to compute its own"
            ),
        }
    }
}

/// The path of thresholds through a plan's own, from where fewest leave on: at step s, each exit's distance
/// from 1 is s times the plan's. Its steps are quantiles of where the samples of `ways` begin to leave. The
/// plan's own thresholds are one of the steps; the second value tells which.
fn path(ways: &Ways, own: &[f64]) -> (Vec<Vec<f64>>, Option<usize>) {
    let begins = (0..ways.samples).filter_map(|i| {
        let exits = ways.confidence.iter().zip(own);
        let steps = exits.filter(|(_, own)| **own < 1.0);
        let step = steps.map(|(c, own)| (1.0 - f64::from(c[i])) / (1.0 - own));
        step.min_by(f64::total_cmp)
    });
    let mut begins: Vec<f64> = begins.filter(|s| s.is_finite()).collect();
    if begins.is_empty() {
        return (Vec::new(), None);
    }
    begins.sort_by(f64::total_cmp);
    let quantile = |k: usize| begins[(k * (begins.len() - 1)) / STEPS];
    let mut steps: Vec<f64> = (1..=STEPS).map(quantile).chain([1.0]).collect();
    steps.sort_by(f64::total_cmp);
    let mut found: Vec<Vec<f64>> = Vec::with_capacity(steps.len());
    let mut at = None;
    for step in steps {
        let threshold = |own: &f64| {
            let exact = 1.0 - step * (1.0 - own);
            // A millionth up is stricter, and can be typed.
            ((exact * 1e6).ceil() / 1e6).clamp(0.0, 1.0)
        };
        let thresholds: Vec<f64> = if step == 1.0 {
            own.to_vec()
        } else {
            own.iter().map(threshold).collect()
        };
        if found.last() != Some(&thresholds) && thresholds.iter().any(|t| *t < 1.0) {
            found.push(thresholds);
        }
        if step == 1.0 {
            at = found.len().checked_sub(1);
        }
    }
    (found, at)
}

/// The thresholds along the path through a plan's own that keep a promise, the most early of them, tested on
/// the images held back.
///
/// # Errors
/// Where the plan can't be predicted.
pub fn guarantee(
    evidence: &Evidence,
    terms: &Terms,
    promise: Promise,
    plan: &Plan,
) -> Result<Guarantee, ReplayError> {
    let held_back = evidence.held_back.as_deref();
    let found = |finding| Guarantee {
        promise,
        samples: held_back.map_or(0, |held| held.samples()),
        finding,
    };
    let prepared = PreparedPlan::new(evidence, terms, Set::Calibration, plan)?;
    let (path, own) = path(&prepared.ways(), &prepared.planned());
    if path.is_empty() {
        return Ok(found(Finding::NoExits));
    }
    let Some(held) = held_back else {
        return Ok(found(Finding::NothingHeldBack));
    };
    let needed = promise.samples_needed();
    if held.samples() < needed {
        return Ok(found(Finding::TooFewImages { needed }));
    }
    let harm = held.harm(evidence, terms, plan, &path)?;
    if harm.as_f32 {
        return Ok(found(Finding::OtherWire));
    }
    let kept = promise.kept(&harm);
    let Some(last) = kept.checked_sub(1) else {
        let harmed = harm.harmed[0];
        return Ok(found(Finding::NoThreshold { harmed }));
    };
    let harmed = harm.harmed[last];
    Ok(found(Finding::Kept(Box::new(Kept {
        harmed,
        p_value: promise
            .delta
            .map(|_| p_value(harmed, harm.samples, promise.epsilon())),
        outcome: prepared.with_thresholds(&path[last]),
        plan_keeps: own.is_some_and(|own| own <= last),
        thresholds: path[last].clone(),
    }))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Split;
    use crate::predict::replay::tests::{Setting, plan, setting};
    use crate::predict::{Answers, ConfidenceTable};
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;
    use rstest::rstest;
    use std::sync::Arc;

    // Expected values are scipy.stats.binom.cdf(harmed, n, epsilon).
    #[rstest]
    #[case(0, 230, 0.01, 0.099_104_815_518_874_86)]
    #[case(3, 500, 0.02, 0.009_812_155_535_351_051)]
    #[case(10, 500, 0.02, 0.583_044_005_527_535_7)]
    #[case(40, 2500, 0.02, 0.083_910_612_527_595_21)]
    #[case(0, 1, 0.5, 0.5)]
    #[case(500, 500, 0.02, 1.0)]
    #[case(1200, 20_000, 0.05, 0.999_999_999_868_851_7)]
    fn the_p_value_is_the_binomial_tail(
        #[case] harmed: usize,
        #[case] n: usize,
        #[case] epsilon: f64,
        #[case] expected: f64,
    ) {
        let found = p_value(harmed, n, epsilon);
        assert!((found - expected).abs() < 1e-10, "{found}");
    }

    /// Hoeffding's bound by relative entropy; Bentkus's is e times the tail.
    #[test]
    fn the_tail_is_never_above_the_bound_of_hoeffding() {
        for n in [50, 500, 5000] {
            for epsilon in [0.005, 0.02, 0.1] {
                for harmed in 0..=(epsilon * n as f64) as usize {
                    let a = harmed as f64 / n as f64;
                    let hit = if harmed == 0 {
                        0.0
                    } else {
                        a * (a / epsilon).ln()
                    };
                    let entropy = hit + (1.0 - a) * ((1.0 - a) / (1.0 - epsilon)).ln();
                    let tail = p_value(harmed, n, epsilon);
                    assert!(tail <= (-(n as f64) * entropy).exp() + 1e-12);
                }
            }
        }
    }

    fn promise(points: f64, delta: Option<f64>) -> Promise {
        Promise {
            accuracy_loss_points: points,
            delta,
        }
    }

    #[rstest]
    // 0.99^230 is just below a tenth, 0.99^229 isn't.
    #[case(promise(1.0, Some(0.1)), 230)]
    #[case(promise(50.0, Some(0.5)), 1)]
    #[case(promise(1.0, None), 99)]
    #[case(promise(5.0, None), 19)]
    fn the_images_needed_are_the_fewest_that_can_keep_it(
        #[case] promise: Promise,
        #[case] needed: usize,
    ) {
        assert_eq!(promise.samples_needed(), needed);
        let unharmed = |samples| Harm {
            samples,
            harmed: vec![0],
            ever: vec![0],
            as_f32: false,
        };
        assert_eq!(promise.kept(&unharmed(needed)), 1);
        assert_eq!(promise.kept(&unharmed(needed - 1)), 0);
    }

    #[rstest]
    #[case(promise(0.0, None), "accuracy_loss_points")]
    #[case(promise(100.0, None), "accuracy_loss_points")]
    #[case(promise(f64::NAN, None), "accuracy_loss_points")]
    #[case(promise(1.0, Some(0.0)), "delta")]
    #[case(promise(1.0, Some(1.0)), "delta")]
    fn what_nobody_can_promise_is_refused(#[case] promise: Promise, #[case] field: &str) {
        assert_eq!(promise.check().unwrap_err().field(), field);
    }

    #[test]
    fn testing_stops_at_the_first_step_that_fails() {
        let harm = Harm {
            samples: 500,
            // The third fails; what comes behind isn't tested.
            harmed: vec![0, 3, 30, 0],
            ever: vec![0, 3, 30, 30],
            as_f32: false,
        };
        assert_eq!(promise(2.0, Some(0.1)).kept(&harm), 2);
        assert_eq!(promise(2.0, None).kept(&harm), 2);
    }

    /// Images of a network that has 90 % right, with exits that are right the more often the surer they
    /// are, and overconfident.
    fn images(count: usize, rng: &mut ChaCha8Rng, like: &ConfidenceTable) -> ConfidenceTable {
        let mut table = like.clone();
        table.labels = (0..count).map(|_| rng.random_range(0..3)).collect();
        for column in &mut table.columns {
            let depth = match column.after.as_deref() {
                Some("l1") => 0.0,
                Some(_) => 0.5,
                None => 1.0,
            };
            column.prediction.clear();
            column.max_probability.clear();
            for &label in &table.labels {
                let sure = rng.random_range(0.34..1.0_f32);
                let share = f64::from(sure).powf(1.0 - 0.7 * depth);
                let right = if column.after.is_none() { 0.9 } else { share };
                let other = (label + rng.random_range(1..3)) % 3;
                let is_right = rng.random_bool(right);
                column.prediction.push(if is_right { label } else { other });
                column.max_probability.push(sure);
            }
            column.entropy = column.max_probability.clone();
            column.margin = column.max_probability.clone();
        }
        table
    }

    /// The setting with `calibration` of so many images, half of them held back.
    fn drawn(s: &mut Setting, count: usize, rng: &mut ChaCha8Rng) {
        let like = s.evidence.answers(Set::Calibration).unwrap().table.clone();
        let table = images(count, rng, &like);
        let wires = Vec::new();
        let (tuning, held) = Answers {
            table,
            wires,
            images: None,
        }
        .hold_back();
        s.evidence.calibration = Some(Arc::new(tuning));
        s.evidence.held_back = Some(Arc::new(held));
    }

    /// What leaving early really costs: over many images, none of them seen before.
    fn truth(s: &Setting, rng: &mut ChaCha8Rng) -> Evidence {
        let like = s.evidence.answers(Set::Calibration).unwrap();
        let mut table = images(40_000, rng, &like.table);
        table.set = Set::Test;
        let wires = Vec::new();
        let mut evidence = s.evidence.clone();
        evidence.test = Some(Arc::new(Answers {
            table,
            wires,
            images: None,
        }));
        evidence
    }

    /// Both promises, a thousand times.
    #[test]
    fn a_promise_is_broken_no_more_often_than_it_says_and_sometimes_is() {
        let mut s = setting(10, 1);
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        let judge = truth(&s, &mut rng);
        let chosen = plan(Split::After(3), &[1, 4], 0.9);
        let (epsilon, delta) = (0.04, 0.1);
        let (with_probability, expected) = (promise(4.0, Some(delta)), promise(4.0, None));
        let (mut broken, mut kept, mut mean) = (0, 0, 0.0);
        let redraws = 1000;
        for _ in 0..redraws {
            drawn(&mut s, 600, &mut rng);
            let harm = |promise| {
                let found = guarantee(&s.evidence, &s.terms, promise, &chosen).unwrap();
                let thresholds = found.kept().map(|kept| kept.thresholds.clone())?;
                let mut plan = chosen.clone();
                for (exit, threshold) in plan.exits.iter_mut().zip(thresholds) {
                    exit.threshold = threshold;
                }
                let harm = crate::predict::harm_on_test(&judge, &s.terms, &plan).unwrap();
                Some(harm.harmed[0] as f64 / harm.samples as f64)
            };
            // What promises nothing harms nothing.
            if let Some(harm) = harm(with_probability) {
                kept += 1;
                broken += usize::from(harm > epsilon);
            }
            mean += harm(expected).unwrap_or(0.0) / f64::from(redraws);
        }
        assert!(kept > 900, "{kept}");
        let share = f64::from(u16::try_from(broken).unwrap()) / f64::from(redraws);
        assert!(share <= delta, "broken {broken} times of {redraws}");
        // It isn't vacuous: a promise that is never broken leaves savings behind.
        assert!(share > delta / 10.0, "broken {broken} times of {redraws}");
        assert!(mean <= epsilon && mean > epsilon / 2.0, "{mean}");
    }

    #[test]
    fn the_plan_s_own_thresholds_are_a_step_of_the_path() {
        let mut s = setting(10, 1);
        drawn(&mut s, 600, &mut ChaCha8Rng::seed_from_u64(9));
        let mut chosen = plan(Split::After(3), &[1, 4], 0.9);
        chosen.exits[1].threshold = 0.6;
        let prepared = PreparedPlan::new(&s.evidence, &s.terms, Set::Calibration, &chosen).unwrap();
        let (path, own) = path(&prepared.ways(), &[0.9, 0.6]);
        assert_eq!(path[own.unwrap()], [0.9, 0.6]);
        // From the strictest to the loosest.
        assert!(
            path.windows(2)
                .all(|w| w[0][0] >= w[1][0] && w[0][1] >= w[1][1])
        );
        let offloaded = |thresholds: &[f64]| prepared.with_thresholds(thresholds).offloaded();
        assert!(offloaded(&path[0]) > 0.9, "{:?}", path[0]);
        let found = guarantee(&s.evidence, &s.terms, promise(99.0, Some(0.5)), &chosen).unwrap();
        let kept = found.kept().unwrap();
        assert!(kept.plan_keeps);
        assert_eq!(&kept.thresholds, path.last().unwrap());
    }

    #[rstest]
    #[case(
        promise(1.0, Some(0.1)),
        200,
        "not enough calibration data, 100 images are held back for it and 230"
    )]
    #[case(
        promise(20.0, Some(0.1)),
        400,
        "with a probability of 90 %, over the draw of the 200"
    )]
    #[case(promise(20.0, None), 400, "in expectation over the draw of the 200")]
    fn the_sentence_says_what_holds_and_what_lacks(
        #[case] promise: Promise,
        #[case] images: usize,
        #[case] expected: &str,
    ) {
        let mut s = setting(10, 1);
        drawn(&mut s, images, &mut ChaCha8Rng::seed_from_u64(3));
        let chosen = plan(Split::After(3), &[1, 4], 0.9);
        let text = guarantee(&s.evidence, &s.terms, promise, &chosen)
            .unwrap()
            .text();
        assert!(text.contains(expected), "{text}");
    }

    #[test]
    fn where_the_strictest_step_may_harm_too_many_nothing_is_promised() {
        let found = Guarantee {
            promise: promise(0.9, Some(0.4)),
            samples: 200,
            finding: Finding::NoThreshold { harmed: 3 },
        };
        let text = found.text();
        let expected = "No guarantee of 0.9 points: even where fewest leave early, 3 of the 200";
        assert!(text.starts_with(expected), "{text}");
        assert_eq!(found.kept(), None);
    }

    #[test]
    fn without_images_held_back_there_is_no_guarantee() {
        let s = setting(300, 1);
        let chosen = plan(Split::After(3), &[1, 4], 0.9);
        let asked = promise(2.0, Some(0.1));
        let found = guarantee(&s.evidence, &s.terms, asked, &chosen).unwrap();
        assert_eq!(found.finding, Finding::NothingHeldBack);
        let none = plan(Split::After(3), &[], 0.9);
        let found = guarantee(&s.evidence, &s.terms, asked, &none).unwrap();
        assert_eq!(found.finding, Finding::NoExits);
    }
}
