/*!
The answer: what to deploy. A plan is compared with what a user would do instead (the whole network on
the first tier or on the last, the first part alone) and with the best plan the explorer finds, on the
same samples, within the goal's limits.

A difference counts where it is beyond noise. Of latency: where the 95 % interval of the mean of the
paired differences, by the central limit theorem, leaves 0 out. Of accuracy: where McNemar's exact test of
the samples that one of the two alone has right gives less than 5 %. What is predicted is paired over the
samples of the calibration set. Of what was measured, latencies are paired over the samples that both ran,
answers over the whole test set, since the confidence table tells the answers of those that didn't run.
*/

use super::{Broken, Candidate, Goal, Limits, Objective, search::search_told};
use crate::data::Set;
use crate::plan::{Plan, Tier, TierNames};
use crate::predict::billing::BillingError;
use crate::predict::interval::{Z95, mcnemar};
use crate::predict::{Evidence, Kind, Outcome, PreparedPlan, ReplayError, SampleResult, Terms};
use crate::units::{self, energy};
use serde::{Deserialize, Serialize};

/// Differences that would come by chance less often than this are beyond noise.
const ALPHA: f64 = 0.05;

/// What may be deployed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Choice {
    /// Plan of the session, as its rules make it.
    ThisPlan,
    /// The unmodified network on the first tier.
    Original,
    /// The unmodified network on the last tier.
    CloudOnly,
    /// The same, its images sent as JPEG files.
    CloudOnlyJpeg,
    /// The plan's exits on the first tier, and the image for the whole network on the last tier where none
    /// of them is sure.
    ExitsElseImage,
    /// The first tier's part alone, its last exit always answering.
    EdgeOnly,
    /// The best plan of the explorer.
    Explored,
}

impl Choice {
    /// What it is called in a sentence.
    pub fn name(&self, names: &TierNames) -> String {
        let tiers: Vec<Tier> = names.tiers().collect();
        let first = names.name(tiers[0]);
        let last = names.name(tiers[tiers.len() - 1]);
        match self {
            Choice::ThisPlan => "this plan".into(),
            Choice::Original => format!("the whole network on the {first}"),
            Choice::CloudOnly => format!("the whole network in the {last}"),
            Choice::CloudOnlyJpeg => format!("the whole network in the {last} sent a JPEG"),
            Choice::ExitsElseImage => format!("the {first}'s exits, else a JPEG to the {last}"),
            Choice::EdgeOnly => format!("the {first} part alone"),
            Choice::Explored => "the explorer's best plan".into(),
        }
    }
}

/// One of those that are compared.
#[derive(Debug, Clone, PartialEq)]
pub struct Contender {
    /// Which plan or baseline it is.
    pub what: Choice,
    /// Outcome over the samples.
    pub outcome: Outcome,
    /// Each sample's share in that, by number of the sample.
    pub samples: Vec<SampleResult>,
}

/// A mean of paired differences.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    /// The mean: this plan's less the other's.
    pub mean: f64,
    /// The 95 % interval of the mean.
    pub interval: (f64, f64),
    /// Number of samples that both were compared on.
    pub samples: usize,
    /// Probability that chance alone makes so large a difference, by a test of its own; `None` where the
    /// interval tells.
    #[serde(default)]
    pub p_value: Option<f64>,
}

impl Difference {
    /// The mean of differences and its interval; `None` without at least two.
    fn of(differences: &[f64]) -> Option<Difference> {
        let n = differences.len() as f64;
        if differences.len() < 2 || differences.iter().any(|d| d.is_nan()) {
            return None;
        }
        let mean = differences.iter().sum::<f64>() / n;
        let squares = differences.iter().map(|d| (d - mean).powi(2));
        let error = Z95 * (squares.sum::<f64>() / (n - 1.0) / n).sqrt();
        Some(Difference {
            mean,
            interval: (mean - error, mean + error),
            samples: differences.len(),
            p_value: None,
        })
    }

    /// Of answers: 1 where the plan alone is right, -1 where the other alone is, in points.
    fn of_answers(differences: &[f64]) -> Option<Difference> {
        let points: Vec<f64> = differences.iter().map(|d| 100.0 * d).collect();
        let only = |sign: f64| differences.iter().filter(|d| **d == sign).count();
        Some(Difference {
            p_value: Some(mcnemar(only(1.0), only(-1.0))),
            ..Difference::of(&points)?
        })
    }

    /// Whether chance alone would hardly make it.
    pub fn beyond_noise(&self) -> bool {
        match self.p_value {
            Some(p) => p < ALPHA,
            None => self.interval.0 > 0.0 || self.interval.1 < 0.0,
        }
    }
}

/// The plan beside another choice.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Against {
    /// What the plan is compared with.
    pub what: Choice,
    /// The goal's limits that the other doesn't keep to.
    pub broken: Vec<Broken>,
    /// What the other has of the objective, in its unit.
    pub value: f64,
    /// The other's accuracy, 0 to 1.
    pub accuracy: f64,
    /// Milliseconds that the plan takes longer; negative where it is faster.
    pub latency_ms: Option<Difference>,
    /// Points of accuracy that the plan has more; negative where it has fewer.
    pub accuracy_points: Option<Difference>,
    /// US dollars per million inferences that the plan costs more.
    pub cost_per_million: f64,
    /// Bytes that the plan takes more on the first tier.
    pub edge_memory_bytes: f64,
    /// Millijoules per inference that the plan takes more on the first tier; absent where one isn't known.
    #[serde(default)]
    pub energy_mj: Option<f64>,
}

/// What to deploy, and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// What to deploy; absent where nothing keeps to the goal's limits.
    pub deploy: Option<Choice>,
    /// The choice nearest to the limits where none keeps to them.
    pub nearest: Option<Choice>,
    /// Whether the figures are predicted or measured.
    pub kind: Kind,
    /// Set of samples that the verdict rests on.
    pub set: Set,
    /// The goal it is for.
    pub goal: Goal,
    /// The limits that the plan doesn't keep to.
    pub broken: Vec<Broken>,
    /// What the plan has of the objective, in its unit.
    pub value: f64,
    /// The plan's accuracy, 0 to 1.
    pub accuracy: f64,
    /// What the plan was compared with, in the order of a report.
    pub against: Vec<Against>,
    /// The explorer's best plan, where it is among the others.
    pub explored: Option<Plan>,
}

/// How far an outcome is over limits, as the largest share of a limit; 0 where it keeps to them.
fn excess(limits: &Limits, outcome: &Outcome) -> f64 {
    let broken = limits.broken(outcome);
    broken.map(|b| b.excess()).fold(0.0, f64::max)
}

fn against(goal: &Goal, limits: &Limits, plan: &Contender, other: &Contender) -> Against {
    let (mut latency, mut accuracy) = (Vec::new(), Vec::new());
    let mut others = other.samples.iter().peekable();
    for own in &plan.samples {
        while others.next_if(|o| o.sample < own.sample).is_some() {}
        if let Some(o) = others.next_if(|o| o.sample == own.sample) {
            let ms = own.latency_ms - o.latency_ms;
            if !ms.is_nan() {
                latency.push(ms);
            }
            accuracy.push(f64::from(u8::from(own.right)) - f64::from(u8::from(o.right)));
        }
    }
    let cost = |o: &Outcome| o.cost_per_million.map_or(0.0, |c| c.rounded);
    let memory = |o: &Outcome| o.memory_bytes(Tier::First) as f64;
    Against {
        what: other.what.clone(),
        broken: limits.broken(&other.outcome).collect(),
        value: goal.minimise.value(&other.outcome),
        accuracy: other.outcome.accuracy,
        latency_ms: Difference::of(&latency),
        accuracy_points: Difference::of_answers(&accuracy),
        cost_per_million: cost(&plan.outcome) - cost(&other.outcome),
        edge_memory_bytes: memory(&plan.outcome) - memory(&other.outcome),
        energy_mj: plan
            .outcome
            .energy
            .zip(other.outcome.energy)
            .map(|(own, other)| own.mj() - other.mj()),
    }
}

/// Whether the other is better than the plan in the objective, by more than noise where that is known.
fn is_better(goal: &Goal, plan: &Contender, other: &Contender, against: &Against) -> bool {
    let ahead = goal.minimise.compare(&other.outcome, &plan.outcome).is_lt();
    let noise = match goal.minimise {
        Objective::Latency(_) => against.latency_ms.is_some_and(|d| !d.beyond_noise()),
        // Of equal bills, memories and energies nothing is better.
        Objective::Cost | Objective::EdgeMemory | Objective::Energy => {
            goal.minimise.value(&other.outcome) == goal.minimise.value(&plan.outcome)
        }
    };
    ahead && !noise
}

/// What to deploy of `plan` and the others. `unmodified_accuracy` is what the loss of accuracy is
/// counted from.
pub fn decide(
    goal: &Goal,
    unmodified_accuracy: f64,
    plan: &Contender,
    others: &[Contender],
) -> Verdict {
    let limits = goal.limits(unmodified_accuracy);
    let broken: Vec<Broken> = limits.broken(&plan.outcome).collect();
    let mut compared = Vec::with_capacity(others.len());
    let mut best: Option<&Contender> = broken.is_empty().then_some(plan);
    for other in others {
        let row = against(goal, &limits, plan, other);
        // What is within noise of the plan is no reason to leave it, whatever else is better than it.
        let ahead = !broken.is_empty() || is_better(goal, plan, other, &row);
        let better = match best {
            _ if !row.is_feasible() || !ahead => false,
            Some(best) if best.what != Choice::ThisPlan => {
                goal.minimise.compare(&other.outcome, &best.outcome).is_lt()
            }
            _ => true,
        };
        if better {
            best = Some(other);
        }
        compared.push(row);
    }
    let nearest = best.is_none().then(|| {
        let all = std::iter::once(plan).chain(others);
        let near = |c: &&Contender| excess(&limits, &c.outcome);
        let nearest = all.min_by(|a, b| near(a).total_cmp(&near(b)));
        nearest.map_or(Choice::ThisPlan, |c| c.what.clone())
    });
    Verdict {
        deploy: best.map(|c| c.what.clone()),
        nearest,
        kind: plan.outcome.kind,
        set: plan.outcome.set,
        goal: *goal,
        broken,
        value: goal.minimise.value(&plan.outcome),
        accuracy: plan.outcome.accuracy,
        against: compared,
        explored: None,
    }
}

/// What to deploy by prediction on the calibration set. `explored` are candidates to choose the best
/// of; none where nothing was explored.
///
/// # Errors
/// Where the plan or a baseline can't be predicted.
pub fn predicted(
    evidence: &Evidence,
    terms: &Terms,
    goal: &Goal,
    plan: &Plan,
    explored: &[Candidate],
) -> Result<Verdict, ReplayError> {
    let tiers = evidence.tiers.count();
    let prepare = |plan: &Plan| PreparedPlan::new(evidence, terms, Set::Calibration, plan);
    let contender = |what, prepared: &PreparedPlan| Contender {
        what,
        outcome: prepared.outcome(),
        samples: prepared.samples(),
    };
    // One whose part no tier that is rented can hold is nobody's choice.
    let rented = |what, plan: &Plan| match prepare(plan) {
        Ok(prepared) => Ok(Some(contender(what, &prepared))),
        Err(ReplayError::Billing(BillingError::TooLarge { .. })) => Ok(None),
        Err(error) => Err(error),
    };
    let own = prepare(plan)?;
    let this = contender(Choice::ThisPlan, &own);
    let whole_on_first = Plan::unmodified(Tier::First, tiers);
    let original = contender(Choice::Original, &prepare(&whole_on_first)?);
    let unmodified = original.outcome.accuracy;
    // What the plan is itself stands beside it no second time.
    let mut others = Vec::new();
    if !plan.runs_as(&whole_on_first) {
        others.push(original);
    }
    let last = evidence.tiers.tiers().next_back().unwrap_or(Tier::First);
    if last != Tier::First {
        let whole_on_last = Plan::unmodified(last, tiers);
        if !plan.runs_as(&whole_on_last) {
            others.extend(rented(Choice::CloudOnly, &whole_on_last)?);
        }
        // What a user would send who sends the picture; known where the network was given such.
        if evidence.answers(Set::Calibration)?.images.is_some() {
            let sent = [
                (Choice::CloudOnlyJpeg, Some(whole_on_last.with_images())),
                (Choice::ExitsElseImage, plan.sending_images()),
            ];
            for (what, other) in sent {
                if let Some(other) = other.filter(|other| !plan.runs_as(other)) {
                    others.extend(rented(what, &other)?);
                }
            }
        }
        if plan.offloads()
            && let Some((outcome, samples)) = own.edge_only().zip(own.edge_only_samples())
        {
            others.push(Contender {
                what: Choice::EdgeOnly,
                outcome,
                samples,
            });
        }
    }
    let best = best(goal, &goal.limits(unmodified), explored);
    let best = best.filter(|best| !best.plan.runs_as(plan));
    if let Some(best) = best {
        // Predicted anew under the terms at hand, so that all stand on the same ground.
        others.push(contender(Choice::Explored, &prepare(&best.plan)?));
    }
    Ok(Verdict {
        explored: best.map(|best| best.plan.clone()),
        ..decide(goal, unmodified, &this, &others)
    })
}

/// What to deploy by prediction, the explorer's best plan at these thresholds among the others.
///
/// # Errors
/// Where the plan or a baseline can't be predicted.
pub fn explored(
    evidence: &Evidence,
    terms: &Terms,
    goal: &Goal,
    plan: &Plan,
    thresholds: &[f64],
) -> Result<Verdict, ReplayError> {
    explored_told(evidence, terms, goal, plan, thresholds, &mut |_, _| true)
}

/// [`explored`], which tells how many of how many ways to split are done, and can be stopped.
///
/// # Errors
/// As [`explored`], and [`ReplayError::Stopped`].
pub fn explored_told(
    evidence: &Evidence,
    terms: &Terms,
    goal: &Goal,
    plan: &Plan,
    thresholds: &[f64],
    go_on: &mut dyn FnMut(usize, usize) -> bool,
) -> Result<Verdict, ReplayError> {
    let found = search_told(evidence, terms, thresholds, &Limits::default(), go_on)?;
    predicted(evidence, terms, goal, plan, &found)
}

/// The best candidate that keeps to the limits.
pub fn best<'a>(goal: &Goal, limits: &Limits, explored: &'a [Candidate]) -> Option<&'a Candidate> {
    let feasible = explored.iter().filter(|c| limits.hold(&c.outcome));
    feasible.min_by(|a, b| goal.minimise.compare(&a.outcome, &b.outcome))
}

impl Verdict {
    /// The row of a choice.
    pub fn row(&self, what: &Choice) -> Option<&Against> {
        self.against.iter().find(|row| row.what == *what)
    }

    /// One sentence with figures and their kind.
    pub fn text(&self, names: &TierNames) -> String {
        let kind = match self.kind {
            Kind::Measured => "measured",
            Kind::Predicted => "predicted",
        };
        let set = match self.set {
            Set::Train => "training",
            Set::Calibration => "calibration",
            Set::Test => "test",
        };
        let whence = format!("({kind} on {set})");
        match &self.deploy {
            None => {
                let nearest = self.nearest.as_ref().map(|what| what.name(names));
                let nearest = nearest.unwrap_or_default();
                format!("No plan holds your limits; the nearest is {nearest} {whence}")
            }
            Some(Choice::ThisPlan) => {
                let own = self.figures(self.value, self.accuracy);
                let others = self.against.iter().map(|row| row.other_is(names));
                let all: Vec<String> = std::iter::once(format!("Deploy this plan: {own}"))
                    .chain(others)
                    .collect();
                format!("{} {whence}", all.join("; "))
            }
            Some(other) => {
                let which = match (&self.explored, other) {
                    (Some(plan), Choice::Explored) => format!(" ({})", plan.describe(names)),
                    _ => String::new(),
                };
                let mut said = Vec::new();
                let name = other.name(names);
                if let Some(row) = self.row(other) {
                    let figures = self.figures(row.value, row.accuracy);
                    said.push(format!("Deploy {name}{which}: {figures}"));
                    let broken = self.broken.iter().map(Broken::text);
                    let is: Vec<String> = broken.chain([format!("is {}", row.plan_is())]).collect();
                    said.push(format!("this plan {}", is.join(", and ")));
                }
                // Why not simply the network as it is.
                let whole = [Choice::Original, Choice::CloudOnly, Choice::CloudOnlyJpeg];
                let out = self.against.iter().filter(|row| whole.contains(&row.what));
                let out = out.filter(|row| !row.is_feasible());
                said.extend(out.map(|row| format!("{} {}", row.what.name(names), row.breaks())));
                format!("{} {whence}", said.join("; "))
            }
        }
    }

    /// Whether the plan keeps to the limits.
    pub fn is_feasible(&self) -> bool {
        self.broken.is_empty()
    }

    fn figures(&self, value: f64, accuracy: f64) -> String {
        format!("{} at {:.1} %", self.objective(value), 100.0 * accuracy)
    }

    fn objective(&self, value: f64) -> String {
        match self.goal.minimise {
            Objective::Latency(super::Statistic::Mean) => format!("{value:.2} ms"),
            Objective::Latency(super::Statistic::P95) => format!("{value:.2} ms at p95"),
            Objective::Cost => format!("${value:.2} per million"),
            Objective::EdgeMemory => units::bytes(value),
            Objective::Energy => format!("{} per inference", energy(value)),
        }
    }
}

/// A difference in words: `more` and `less` than the other.
fn words(difference: f64, (more, less): (&str, &str), figure: &str) -> String {
    let way = if difference > 0.0 { more } else { less };
    format!("{way} by {figure}")
}

impl Against {
    /// What the plan is beside the other: slower or faster, less or more accurate, dearer or cheaper.
    pub fn plan_is(&self) -> String {
        self.comparison(1.0)
    }

    /// Whether the other keeps to the limits.
    pub fn is_feasible(&self) -> bool {
        self.broken.is_empty()
    }

    /// The limits that the other breaks, in words.
    pub fn breaks(&self) -> String {
        let broken: Vec<String> = self.broken.iter().map(Broken::text).collect();
        broken.join(", and ")
    }

    /// What the other is beside the plan: which limits it breaks, or else how it compares.
    fn other_is(&self, names: &TierNames) -> String {
        let name = self.what.name(names);
        if self.is_feasible() {
            format!("{name} is {}", self.comparison(-1.0))
        } else {
            format!("{name} {}", self.breaks())
        }
    }

    fn comparison(&self, sign: f64) -> String {
        let mut said = Vec::new();
        if let Some(d) = self.latency_ms
            && d.beyond_noise()
        {
            let figure = format!("{:.2} ms", d.mean.abs());
            said.push(words(sign * d.mean, ("slower", "faster"), &figure));
        }
        if let Some(d) = self.accuracy_points
            && d.beyond_noise()
        {
            let figure = format!("{:.1} points", d.mean.abs());
            said.push(words(
                sign * d.mean,
                ("more accurate", "less accurate"),
                &figure,
            ));
        }
        if self.cost_per_million.abs() >= 0.005 {
            let figure = format!("${:.2} per million", self.cost_per_million.abs());
            said.push(words(
                sign * self.cost_per_million,
                ("dearer", "cheaper"),
                &figure,
            ));
        }
        match said.as_slice() {
            [] => "no different beyond noise".into(),
            [one] => one.clone(),
            [all @ .., last] => format!("{} and {last}", all.join(", ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Statistic, Within};
    use super::*;
    use crate::plan::Split;
    use crate::predict::replay::tests::{plan, setting};
    use pretty_assertions::assert_eq;
    use rstest::rstest;

    /// Paired by hand: n = 4, mean 0.5, standard deviation 1, so an error of 1.96 · 1 / 2.
    #[test]
    fn an_interval_is_that_of_the_central_limit_theorem() {
        let d = Difference::of(&[-0.5, 0.5, 0.5, 1.5]).unwrap();
        let error = 1.959_963_984_540_054 * (2.0_f64 / 3.0).sqrt() / 2.0;
        assert_eq!(d.mean, 0.5);
        assert!((d.interval.0 - (0.5 - error)).abs() < 1e-12);
        assert!((d.interval.1 - (0.5 + error)).abs() < 1e-12);
        assert!(!d.beyond_noise());
        assert!(Difference::of(&[1.0, 1.1, 0.9]).unwrap().beyond_noise());
        assert_eq!(Difference::of(&[1.0]), None);
        assert_eq!(Difference::of(&[1.0, f64::NAN]), None);
    }

    fn contender(what: Choice, latency_ms: f64, accuracy: f64, memory_bytes: usize) -> Contender {
        let s = setting(100, 3);
        let mut outcome = s.replay(&plan(Split::End, &[], 0.7)).unwrap();
        outcome.accuracy = accuracy;
        outcome.cost_per_million = None;
        outcome.tiers[0].memory_bytes = memory_bytes;
        if let Some(latency) = &mut outcome.latency_ms {
            (latency.mean, latency.p95) = (latency_ms, 2.0 * latency_ms);
        }
        let sample = |i: u32| SampleResult {
            sample: i,
            right: f64::from(i) < 100.0 * accuracy,
            // Spread by a millisecond to either side.
            latency_ms: latency_ms + if i.is_multiple_of(2) { 1.0 } else { -1.0 },
        };
        Contender {
            what,
            outcome,
            samples: (0..100).map(sample).collect(),
        }
    }

    fn goal(minimise: Objective, points: f64, edge_memory: Option<usize>) -> Goal {
        Goal {
            minimise,
            within: Within {
                accuracy_loss_points: Some(points),
                edge_memory,
                ..Within::default()
            },
        }
    }

    const MEAN: Objective = Objective::Latency(Statistic::Mean);

    #[rstest]
    // The network on the first tier is faster and no less accurate.
    #[case(goal(MEAN, 5.0, None), Some(Choice::Original))]
    // It doesn't fit there.
    #[case(goal(MEAN, 5.0, Some(50)), Some(Choice::ThisPlan))]
    // Neither fits, and the plan loses too much: only the cloud is left.
    #[case(goal(MEAN, 1.0, Some(50)), Some(Choice::CloudOnly))]
    #[case(goal(Objective::EdgeMemory, 5.0, None), Some(Choice::CloudOnly))]
    fn the_best_within_the_limits_is_deployed(
        #[case] goal: Goal,
        #[case] expected: Option<Choice>,
    ) {
        let this = contender(Choice::ThisPlan, 5.5, 0.89, 40);
        let others = [
            contender(Choice::Original, 2.3, 0.91, 90),
            contender(Choice::CloudOnly, 13.5, 0.91, 0),
        ];
        let verdict = decide(&goal, 0.91, &this, &others);
        assert_eq!(verdict.deploy, expected);
        assert_eq!(verdict.nearest, None);
    }

    /// Whatever else is better than the plan, and whichever stands first.
    #[rstest]
    #[case([0, 1])]
    #[case([1, 0])]
    fn what_is_within_noise_of_the_plan_is_never_chosen(#[case] order: [usize; 2]) {
        let plan = contender(Choice::ThisPlan, 5.0, 0.9, 1);
        let sure = contender(Choice::Original, 4.0, 0.9, 1);
        let mut noisy = contender(Choice::CloudOnly, 3.9, 0.9, 1);
        for (i, sample) in noisy.samples.iter_mut().enumerate() {
            sample.latency_ms += if i % 4 < 2 { 50.0 } else { -50.0 };
        }
        let both = [sure, noisy];
        let others = order.map(|i| both[i].clone());
        let verdict = decide(&goal(MEAN, 5.0, None), 0.9, &plan, &others);
        assert_eq!(verdict.deploy, Some(Choice::Original));
    }

    #[test]
    fn what_is_within_noise_is_no_reason_to_change() {
        let mut this = contender(Choice::ThisPlan, 5.0, 0.91, 40);
        // As fast in the mean but for noise of up to 8 ms per sample.
        for (i, sample) in this.samples.iter_mut().enumerate() {
            sample.latency_ms += if i % 4 < 2 { 8.0 } else { -8.0 };
        }
        let other = contender(Choice::Original, 4.9, 0.91, 40);
        let verdict = decide(&goal(MEAN, 1.0, None), 0.91, &this, &[other]);
        assert_eq!(verdict.deploy, Some(Choice::ThisPlan));
        let text = verdict.text(&TierNames::default());
        assert!(text.contains("no different beyond noise"), "{text}");
    }

    #[test]
    fn where_nothing_fits_the_nearest_is_named() {
        let this = contender(Choice::ThisPlan, 5.5, 0.80, 40);
        let others = [contender(Choice::Original, 2.3, 0.91, 90)];
        let verdict = decide(&goal(MEAN, 1.0, Some(50)), 0.91, &this, &others);
        assert_eq!(verdict.deploy, None);
        // 80 % more memory than allowed, against 11 % less accuracy.
        assert_eq!(verdict.nearest, Some(Choice::ThisPlan));
        let text = verdict.text(&TierNames::default());
        assert!(text.starts_with("No plan holds your limits"), "{text}");
    }

    #[test]
    fn the_sentence_has_figures_and_their_kind() {
        let this = contender(Choice::ThisPlan, 5.5, 0.89, 40);
        let others = [contender(Choice::Original, 2.3, 0.99, 40)];
        let verdict = decide(&goal(MEAN, 50.0, None), 0.99, &this, &others);
        assert_eq!(
            verdict.text(&TierNames::default()),
            "Deploy the whole network on the edge: 2.30 ms at 99.0 %; this plan is slower by 3.20 ms and \
             less accurate by 10.0 points (predicted on calibration)"
        );
    }

    #[test]
    fn a_plan_is_not_compared_with_itself() {
        let s = setting(50, 7);
        let goal = goal(MEAN, 100.0, None);
        let whole = Plan::unmodified(Tier::First, 2);
        let verdict = predicted(&s.evidence, &s.terms, &goal, &whole, &[]).unwrap();
        let what: Vec<&Choice> = verdict.against.iter().map(|row| &row.what).collect();
        assert_eq!(what, [&Choice::CloudOnly]);
    }

    #[test]
    fn the_prediction_compares_what_a_user_would_do_instead() {
        let s = setting(200, 7);
        let chosen = plan(Split::After(3), &[1, 4], 0.7);
        let goal = goal(MEAN, 100.0, None);
        let verdict = predicted(&s.evidence, &s.terms, &goal, &chosen, &[]).unwrap();
        let what: Vec<&Choice> = verdict.against.iter().map(|row| &row.what).collect();
        let expected = [Choice::Original, Choice::CloudOnly, Choice::EdgeOnly];
        assert_eq!(what, expected.iter().collect::<Vec<_>>());
        let own = s.replay(&chosen).unwrap().latency_ms.unwrap().mean;
        let cloud = s.replay(&Plan::unmodified(Tier::Second, 2)).unwrap();
        let expected = own - cloud.latency_ms.unwrap().mean;
        let found = verdict.row(&Choice::CloudOnly).unwrap().latency_ms.unwrap();
        assert!(
            (found.mean - expected).abs() < 1e-9,
            "{} {expected}",
            found.mean
        );
        assert_eq!(found.samples, 200);
    }
}
