/*!
Thresholds of a plan by search over the confidence table, for a goal: one for all exits, or one per exit.

What a plan gives is a sum over samples of what each gives where it leaves ([`Ways`]), so a threshold does no
more than choose where samples leave, and only the confidences themselves are worth trying. One threshold
for all is searched for exactly: as it falls, each sample moves to an earlier exit a few times at most. One
per exit is searched for by branch and bound over all of them, pruned by a bound of Lagrange: with a price
on each wrong answer, no sample can do better than its best exit. Where time runs out first, what is found
is the best of a descent exit by exit over many prices, is said to be a heuristic's, and the bound says how
much better any thresholds could be at most. A 95th percentile is no sum: it is looked for among the points
of the budget curve, also by a heuristic.

Reads the calibration set alone.
*/

use super::{Goal, Limits, Objective, Statistic};
use crate::data::Set;
use crate::plan::Plan;
use crate::predict::{Evidence, Outcome, PreparedPlan, ReplayError, Terms, Ways};

mod descent;
mod exact;
pub mod joint;

/// Points of a budget curve, at most.
const POINTS: usize = 60;

/// Thresholds found, and what they give.
#[derive(Debug, Clone, PartialEq)]
pub struct Tuned {
    /// One per exit of the plan, in order.
    pub thresholds: Vec<f64>,
    /// What they give, predicted on the calibration set.
    pub outcome: Outcome,
    /// Whether no thresholds of this form can be better.
    pub exact: bool,
    /// The least that any thresholds can have of the objective, in its unit, where that is known.
    pub bound: Option<f64>,
    /// Whether they keep to the goal's limits; where none can, they are the nearest found.
    pub feasible: bool,
}

/// A point of a budget curve: nothing found is more accurate for as little.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// One threshold per exit.
    pub thresholds: Vec<f64>,
    /// What it has of the objective: milliseconds, millijoules, or US dollars per million inferences.
    pub value: f64,
    /// Share answered right, 0 to 1.
    pub accuracy: f64,
}

/// What the search found for a plan.
#[derive(Debug, Clone, PartialEq)]
pub struct Tuning {
    /// The plan at its own thresholds.
    pub own: Outcome,
    /// One threshold for all exits.
    pub common: Tuned,
    /// The best with a threshold per exit.
    pub per_exit: Tuned,
    /// What the values of curves and bounds are of: the bill of a plan that rents something or the energy,
    /// where the goal asks for it, else the mean latency.
    pub spent: Objective,
    /// Budget curve of common thresholds, by value; exact but for its length.
    pub common_curve: Vec<Point>,
    /// Budget curve of thresholds per exit, by value; a heuristic's.
    pub per_exit_curve: Vec<Point>,
}

/// What a search over sums minimises, within which limits.
struct Problem<'a> {
    ways: &'a Ways<'a>,
    /// Per stage and sample, what leaving there adds to the objective.
    price: Vec<Vec<f64>>,
    /// By number of samples sent over the first link, what is added; empty for nothing.
    more: Vec<f64>,
    /// What the price is of.
    spent: Objective,
    /// Wrong answers at most.
    wrong: usize,
    /// Sums that stay within a limit.
    caps: Vec<Cap>,
}

/// A sum that stays within a limit.
struct Cap {
    /// Per stage and sample.
    each: Vec<Vec<f64>>,
    /// As [`Problem::more`].
    more: Vec<f64>,
    most: f64,
}

impl Cap {
    fn holds(&self, sum: f64, sent: usize) -> bool {
        holds(sum + more(&self.more, sent), self.most)
    }
}

/// What is added for a number of samples sent.
fn more(by_sent: &[f64], sent: usize) -> f64 {
    by_sent.get(sent).copied().unwrap_or(0.0)
}

/// Sums of a choice of thresholds.
#[derive(Debug, Clone, PartialEq)]
struct Sums {
    price: f64,
    wrong: usize,
    /// Samples sent over the first link.
    sent: usize,
    caps: Vec<f64>,
}

impl<'a> Problem<'a> {
    fn new(ways: &'a Ways<'a>, minimise: Objective, limits: &Limits) -> Problem<'a> {
        let n = ways.samples as f64;
        let means = |stages: &[f64]| -> Vec<Vec<f64>> {
            let stages = stages.iter();
            stages.map(|mean| vec![mean / n; ways.samples]).collect()
        };
        // What each objective sums to, and what is added by the number of samples sent.
        let latency = || (means(&ways.latency_ms), ways.waiting_ms.clone());
        let energy = || (means(&ways.energy_mj), ways.standby_mj.clone());
        let cost = || (ways.cost.clone(), Vec::new());
        let billed = !ways.cost.is_empty();
        let limited = [
            limits.latency_ms.map(|most| (latency(), most)),
            limits.energy_mj.map(|most| (energy(), most)),
            limits
                .cost_per_million
                .filter(|_| billed)
                .map(|most| (cost(), most)),
        ];
        let limited = limited.into_iter().flatten();
        let caps = limited.map(|((each, more), most)| Cap { each, more, most });
        let (spent, (price, more)) = match minimise {
            Objective::Cost if billed => (Objective::Cost, cost()),
            Objective::Energy => (Objective::Energy, energy()),
            _ => (Objective::Latency(Statistic::Mean), latency()),
        };
        Problem {
            price,
            more,
            spent,
            caps: caps.collect(),
            wrong: limits.accuracy.map_or(ways.samples, |least| {
                // As the limit is checked: right / n ≥ least.
                let wrong = (0..=ways.samples).rev();
                let holds = |w: &usize| (ways.samples - w) as f64 / n >= least;
                wrong.take(ways.samples + 1).find(holds).unwrap_or(0)
            }),
            ways,
        }
    }

    /// What sums have of the objective.
    fn value(&self, sums: &Sums) -> f64 {
        sums.price + more(&self.more, sums.sent)
    }

    fn stages(&self) -> usize {
        self.ways.latency_ms.len()
    }

    /// Where a sample leaves.
    fn at(&self, sample: usize, thresholds: &[f64]) -> usize {
        let mut exits = self.ways.confidence.iter().zip(thresholds);
        let leaves = exits.position(|(c, t)| f64::from(c[sample]) > *t);
        leaves.unwrap_or(thresholds.len())
    }

    fn sums(&self, thresholds: &[f64]) -> Sums {
        let mut sums = Sums {
            price: 0.0,
            wrong: 0,
            sent: 0,
            caps: vec![0.0; self.caps.len()],
        };
        for sample in 0..self.ways.samples {
            self.add(&mut sums, self.at(sample, thresholds), sample);
        }
        sums
    }

    /// Lets a sample leave at a stage.
    fn add(&self, sums: &mut Sums, stage: usize, sample: usize) {
        sums.price += self.price[stage][sample];
        sums.wrong += usize::from(self.ways.wrong[stage][sample]);
        sums.sent += usize::from(stage >= self.ways.sent_from);
        for (sum, cap) in sums.caps.iter_mut().zip(&self.caps) {
            *sum += cap.each[stage][sample];
        }
    }

    /// Takes a sample back that left at a stage.
    fn take(&self, sums: &mut Sums, stage: usize, sample: usize) {
        sums.price -= self.price[stage][sample];
        sums.wrong -= usize::from(self.ways.wrong[stage][sample]);
        sums.sent -= usize::from(stage >= self.ways.sent_from);
        for (sum, cap) in sums.caps.iter_mut().zip(&self.caps) {
            *sum -= cap.each[stage][sample];
        }
    }

    /// Whether sums keep to the limits. An accuracy that can't be reached at all keeps to none.
    fn holds(&self, sums: &Sums) -> bool {
        let mut caps = sums.caps.iter().zip(&self.caps);
        sums.wrong <= self.wrong && caps.all(|(sum, cap)| cap.holds(*sum, sums.sent))
    }
}

/// Whether a sum keeps to its limit, but for rounding.
fn holds(sum: f64, most: f64) -> bool {
    sum <= most + 1e-9 * most.abs()
}

/// A threshold that parts confidences just there: at or above `below`, under `above`, with as few digits as
/// tell the two apart.
fn between(below: f32, above: f32) -> f64 {
    let (below, above) = (f64::from(below).max(0.0), f64::from(above));
    for digits in 2..=9 {
        let scale = 10_f64.powi(digits);
        let t = (below * scale).ceil() / scale;
        if t >= below && t < above {
            return t;
        }
    }
    below
}

/// A common threshold, and what it gives.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    /// Common threshold of all exits.
    pub threshold: f64,
    /// What the objective sums to.
    pub price: f64,
    /// Samples answered wrongly.
    pub wrong: usize,
    /// Samples sent over the first link.
    pub sent: usize,
}

/// What each common threshold gives that differs from the one before, from 1 down: all of them, exactly.
pub fn common_steps(ways: &Ways, price: &[Vec<f64>]) -> Vec<Step> {
    let last = ways.confidence.len();
    // Going down, a sample leaves at the exit of its largest confidence first, then at those of the
    // largest before it.
    let mut events: Vec<(u32, u32, u8)> = Vec::with_capacity(2 * ways.samples);
    for sample in 0..ways.samples {
        let mut best = f32::NEG_INFINITY;
        for (exit, confidence) in ways.confidence.iter().enumerate() {
            let c = confidence[sample];
            if c > best {
                best = c;
                // No threshold is below 0, so nothing leaves at a confidence of 0.
                if c > 0.0 {
                    // Bits of positive floats order as they do; the largest comes first.
                    events.push((!c.to_bits(), sample as u32, exit as u8));
                }
            }
        }
    }
    events.sort_unstable();
    let mut at = vec![last as u8; ways.samples];
    let mut now = Step {
        threshold: 1.0,
        price: price[last].iter().sum(),
        wrong: ways.wrong[last].iter().filter(|w| **w).count(),
        sent: if last >= ways.sent_from {
            ways.samples
        } else {
            0
        },
    };
    let mut steps = vec![now];
    let mut rest = events.as_slice();
    while let Some(&(key, ..)) = rest.first() {
        let count = rest.iter().take_while(|e| e.0 == key).count();
        let (group, others) = rest.split_at(count);
        rest = others;
        // Of exits equally sure the first; it stands last in none, for only a larger one is an event.
        for &(_, sample, exit) in group {
            let (sample, from, to) = (
                sample as usize,
                usize::from(at[sample as usize]),
                usize::from(exit),
            );
            now.price += price[to][sample] - price[from][sample];
            now.wrong += usize::from(ways.wrong[to][sample]);
            now.wrong -= usize::from(ways.wrong[from][sample]);
            now.sent += usize::from(to >= ways.sent_from);
            now.sent -= usize::from(from >= ways.sent_from);
            at[sample] = exit;
        }
        let next = rest.first().map_or(0.0, |e| f32::from_bits(!e.0));
        now.threshold = between(next, f32::from_bits(!key));
        steps.push(now);
    }
    steps
}

/// Those that none is more accurate than for as little, by value, [`POINTS`] at most.
fn curve(mut points: Vec<Point>) -> Vec<Point> {
    points.sort_by(|a, b| {
        a.value
            .total_cmp(&b.value)
            .then(b.accuracy.total_cmp(&a.accuracy))
    });
    let mut best = f64::NEG_INFINITY;
    points.retain(|p| {
        let better = p.accuracy > best;
        best = best.max(p.accuracy);
        better
    });
    let count = points.len();
    if count <= POINTS {
        return points;
    }
    // Evenly over the values, since most points lie where little is spent; both ends stay.
    let (low, high) = (points[0].value, points[count - 1].value);
    let at = |i: usize| {
        let most = low + (high - low) * i as f64 / (POINTS - 1) as f64;
        let within = points.partition_point(|p| p.value <= most);
        if i + 1 == POINTS {
            count - 1
        } else {
            within.max(1) - 1
        }
    };
    let mut kept: Vec<usize> = (0..POINTS).map(at).collect();
    kept.dedup();
    kept.into_iter().map(|i| points[i].clone()).collect()
}

/// Searches for the thresholds of a plan that a goal asks for, until they are proved to be the best or
/// `go_on` says no.
///
/// # Errors
/// Where the plan can't be predicted.
pub fn tune(
    evidence: &Evidence,
    terms: &Terms,
    goal: &Goal,
    plan: &Plan,
    go_on: &dyn Fn() -> bool,
) -> Result<Tuning, ReplayError> {
    let prepared = PreparedPlan::new(evidence, terms, Set::Calibration, plan)?;
    let own = prepared.outcome();
    let whole = evidence.answers(Set::Calibration)?;
    let unmodified = whole.table.final_column()?.accuracy(&whole.table.labels);
    let limits = goal.limits(unmodified);
    let ways = prepared.ways();
    let problem = Problem::new(&ways, goal.minimise, &limits);
    let n = ways.samples as f64;
    let exits = ways.confidence.len();
    let point = |thresholds: Vec<f64>, sums: &Sums| Point {
        thresholds,
        value: problem.value(sums),
        accuracy: (ways.samples - sums.wrong) as f64 / n,
    };

    let steps = common_steps(&ways, &problem.price);
    let common_curve = curve(
        steps
            .iter()
            .map(|step| Point {
                thresholds: vec![step.threshold; exits],
                value: step.price + more(&problem.more, step.sent),
                accuracy: (ways.samples - step.wrong) as f64 / n,
            })
            .collect(),
    );
    let chosen = common(&problem, &steps, exits);

    let start: Vec<Vec<f64>> = common_curve.iter().map(|p| p.thresholds.clone()).collect();
    let found = descent::search(&problem, &start, go_on);
    let per_exit_curve = curve(
        found
            .iter()
            .map(|(t, sums)| point(t.clone(), sums))
            .collect(),
    );

    let judge = Judge {
        prepared: &prepared,
        goal,
        limits: &limits,
    };
    if goal.minimise == Objective::Latency(Statistic::P95) {
        // No sum: the points of the curves, replayed.
        let of = |points: &[Point]| judge.best(points.iter().map(|p| p.thresholds.clone()));
        let all: Vec<Point> = [common_curve.clone(), per_exit_curve.clone()].concat();
        return Ok(Tuning {
            own,
            common: of(&common_curve),
            per_exit: of(&all),
            spent: problem.spent,
            common_curve,
            per_exit_curve,
        });
    }
    let start = chosen
        .clone()
        .into_iter()
        .chain(found.into_iter().map(|(t, _)| t));
    let searched = exact::search(&problem, start.collect(), go_on);
    let common = match chosen {
        Some(thresholds) => judge.tuned(thresholds, true, None),
        None => judge.best(common_curve.iter().map(|p| p.thresholds.clone())),
    };
    let per_exit = match searched.thresholds {
        Some(thresholds) => {
            // Memory is the same at any threshold, and so is the bill of what rents nothing; what was
            // bounded is the mean latency.
            let bound = Some(searched.bound).filter(|_| goal.minimise == problem.spent);
            judge.tuned(thresholds, searched.exact, bound)
        }
        None => {
            let points = per_exit_curve.iter().chain(&common_curve);
            judge.best(points.map(|p| p.thresholds.clone()))
        }
    };
    Ok(Tuning {
        own,
        common,
        per_exit,
        spent: problem.spent,
        common_curve,
        per_exit_curve,
    })
}

/// The best common threshold within the limits.
fn common(problem: &Problem, steps: &[Step], exits: usize) -> Option<Vec<f64>> {
    let right = |at: &usize| steps[*at].wrong <= problem.wrong;
    let value = |step: &Step| step.price + more(&problem.more, step.sent);
    let mut order: Vec<usize> = (0..steps.len()).filter(right).collect();
    order.sort_by(|&a, &b| {
        let (a, b) = (&steps[a], &steps[b]);
        value(a).total_cmp(&value(b)).then(a.wrong.cmp(&b.wrong))
    });
    let all = |step: &Step| vec![step.threshold; exits];
    // What a step sums to within the other limits, at the same thresholds: a pass for each, not for each step.
    let within: Vec<Vec<bool>> = problem
        .caps
        .iter()
        .map(|cap| {
            let sums = common_steps(problem.ways, &cap.each);
            sums.iter()
                .map(|sum| cap.holds(sum.price, sum.sent))
                .collect()
        })
        .collect();
    let holds = |at: &&usize| within.iter().all(|within| within[**at]);
    order.iter().find(holds).map(|&at| all(&steps[at]))
}

/// Replays what a search found.
struct Judge<'a> {
    prepared: &'a PreparedPlan<'a>,
    goal: &'a Goal,
    limits: &'a Limits,
}

impl Judge<'_> {
    fn tuned(&self, thresholds: Vec<f64>, exact: bool, bound: Option<f64>) -> Tuned {
        let outcome = self.prepared.with_thresholds(&thresholds);
        Tuned {
            feasible: self.limits.hold(&outcome),
            thresholds,
            outcome,
            exact,
            bound,
        }
    }

    /// The best of some thresholds by the goal, or the nearest to its limits; by a heuristic.
    fn best(&self, all: impl Iterator<Item = Vec<f64>>) -> Tuned {
        let over = |t: &Tuned| {
            let broken = self.limits.broken(&t.outcome);
            broken.map(|b| b.excess()).fold(0.0, f64::max)
        };
        let none = vec![1.0; self.prepared.planned().len()];
        let first = self.tuned(none, false, None);
        all.map(|thresholds| self.tuned(thresholds, false, None))
            .fold(first, |best, other| {
                let nearer = over(&other).total_cmp(&over(&best));
                let better = self.goal.minimise.compare(&other.outcome, &best.outcome);
                if nearer.then(better).is_lt() {
                    other
                } else {
                    best
                }
            })
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Within, search, verdict};
    use super::*;
    use crate::plan::Split;
    use crate::predict::replay::tests::{Setting, plan, setting, table};
    use crate::predict::{Answers, Radio, replay};
    use rstest::rstest;
    use std::sync::Arc;

    fn goal(minimise: Objective, points: f64) -> Goal {
        Goal {
            minimise,
            within: Within {
                accuracy_loss_points: Some(points),
                ..Within::default()
            },
        }
    }

    const MEAN: Objective = Objective::Latency(Statistic::Mean);

    fn unmodified(s: &Setting) -> f64 {
        let table = &s.evidence.answers(Set::Calibration).unwrap().table;
        table.final_column().unwrap().accuracy(&table.labels)
    }

    /// Every combination of thresholds that parts the samples differently, replayed.
    fn brute_force(s: &Setting, goal: &Goal, chosen: &Plan, common: bool) -> Option<Outcome> {
        let set = Set::Calibration;
        let prepared = PreparedPlan::new(&s.evidence, &s.terms, set, chosen).unwrap();
        let ways = prepared.ways();
        let values = |exit: usize| -> Vec<f64> {
            let own = ways.confidence[exit].iter().map(|c| f64::from(*c));
            own.chain([0.0, 1.0]).collect()
        };
        let exits = ways.confidence.len();
        let all: Vec<Vec<f64>> = if common {
            let values = (0..exits).flat_map(values);
            values.map(|t| vec![t; exits]).collect()
        } else {
            (0..exits).fold(vec![vec![]], |taken: Vec<Vec<f64>>, exit| {
                let more = taken.iter().flat_map(|t| {
                    values(exit)
                        .into_iter()
                        .map(|v| [t.clone(), vec![v]].concat())
                });
                more.collect()
            })
        };
        let limits = goal.limits(unmodified(s));
        let outcomes = all.iter().map(|t| prepared.with_thresholds(t));
        let feasible = outcomes.filter(|o| limits.hold(o));
        feasible.min_by(|a, b| goal.minimise.compare(a, b))
    }

    #[rstest]
    #[case(goal(MEAN, 0.0))]
    #[case(goal(MEAN, 10.0))]
    #[case(goal(Objective::Cost, 10.0))]
    #[case(Goal { within: Within { latency_ms: Some(40.0), ..Within::default() }, ..goal(Objective::Cost, 100.0) })]
    #[case(goal(Objective::Energy, 10.0))]
    #[case(Goal { within: Within { energy_mj: Some(500.0), ..Within::default() }, ..goal(MEAN, 30.0) })]
    fn what_is_called_exact_is_what_brute_force_finds(
        #[case] goal: Goal,
        #[values(Radio::Wired, Radio::Wlan, Radio::Lte)] radio: Radio,
    ) {
        let mut reached = 0;
        for seed in 0..12 {
            let mut s = setting(13, seed);
            s.terms.energy.radio = radio;
            let chosen = plan(Split::After(3), &[1, 2, 4], 0.7);
            let tuned = tune(&s.evidence, &s.terms, &goal, &chosen, &|| true).unwrap();
            for (found, common) in [(&tuned.common, true), (&tuned.per_exit, false)] {
                let expected = brute_force(&s, &goal, &chosen, common);
                assert_eq!(found.feasible, expected.is_some(), "seed {seed}");
                let Some(expected) = expected else { continue };
                reached += 1;
                assert!(found.exact);
                let value = |o: &Outcome| goal.minimise.value(o);
                let (own, best) = (value(&found.outcome), value(&expected));
                assert!((own - best).abs() < 1e-9, "seed {seed}: {own} {best}");
            }
        }
        assert!(reached > 3, "{reached}");
    }

    #[test]
    fn a_search_that_is_stopped_says_so_and_still_keeps_the_limits() {
        let chosen = plan(Split::After(3), &[1, 2, 4, 5], 0.7);
        let goal = goal(MEAN, 1.0);
        let mut stopped = 0;
        for seed in 0..8 {
            let s = setting(400, seed);
            let found = tune(&s.evidence, &s.terms, &goal, &chosen, &|| false).unwrap();
            assert!(found.common.exact && found.common.feasible);
            assert!(found.per_exit.feasible);
            stopped += usize::from(!found.per_exit.exact);
            let ms = found.per_exit.outcome.latency_ms.unwrap().mean;
            assert!(found.per_exit.bound.unwrap() <= ms + 1e-9);
            assert!(ms <= found.common.outcome.latency_ms.unwrap().mean + 1e-9);
        }
        assert!(stopped > 0);
    }

    #[test]
    fn where_a_limit_can_t_be_met_the_best_reachable_is_found() {
        let s = setting(60, 2);
        let chosen = plan(Split::After(3), &[1, 4], 0.7);
        let mut goal = goal(MEAN, 100.0);
        goal.within.latency_ms = Some(0.001);
        let found = tune(&s.evidence, &s.terms, &goal, &chosen, &|| true).unwrap();
        assert!(!found.common.feasible && !found.per_exit.feasible);
        // All leave at the first exit.
        assert_eq!(found.per_exit.outcome.exits[0].share, 1.0);
    }

    #[test]
    fn a_plan_that_rents_nothing_is_tuned_for_its_time_and_says_so() {
        let s = setting(120, 3);
        let cost = goal(Objective::Cost, 5.0);
        let alone = plan(Split::End, &[1, 4], 0.7);
        let found = tune(&s.evidence, &s.terms, &cost, &alone, &|| false).unwrap();
        assert_eq!((found.spent, found.per_exit.bound), (MEAN, None));
        let sent = plan(Split::After(3), &[1, 4], 0.7);
        let found = tune(&s.evidence, &s.terms, &cost, &sent, &|| false).unwrap();
        assert_eq!(found.spent, Objective::Cost);
        assert!(found.per_exit.bound.is_some());
    }

    #[test]
    fn a_budget_curve_climbs_and_its_points_are_what_a_replay_gives() {
        let s = setting(300, 8);
        let chosen = plan(Split::After(3), &[1, 4], 0.7);
        let found = tune(&s.evidence, &s.terms, &goal(MEAN, 5.0), &chosen, &|| true).unwrap();
        let set = Set::Calibration;
        let prepared = PreparedPlan::new(&s.evidence, &s.terms, set, &chosen).unwrap();
        for curve in [&found.common_curve, &found.per_exit_curve] {
            assert!(curve.len() > 3);
            assert!(curve.windows(2).all(|w| w[0].value <= w[1].value));
            assert!(curve.windows(2).all(|w| w[0].accuracy < w[1].accuracy));
            for point in curve.iter() {
                let outcome = prepared.with_thresholds(&point.thresholds);
                assert!((outcome.accuracy - point.accuracy).abs() < 1e-12);
                assert!((outcome.latency_ms.unwrap().mean - point.value).abs() < 1e-9);
            }
        }
    }

    #[rstest]
    #[case(0.5, 0.9, 0.5)]
    #[case(0.123, 0.9, 0.13)]
    #[case(0.700_000_1, 0.700_001, 0.700_001)]
    fn a_threshold_parts_with_few_digits(
        #[case] below: f32,
        #[case] above: f32,
        #[case] most: f64,
    ) {
        let t = between(below, above);
        assert!(t >= f64::from(below) && t < f64::from(above));
        assert!(t <= most, "{t}");
    }

    /// What is searched, tuned, planned or judged for a choice reads neither the test images nor those held
    /// back.
    #[test]
    fn neither_test_images_nor_those_held_back_reach_a_choice() {
        let of = |test: u64, held: u64| {
            let mut s = setting(120, 4);
            let answers = |set, seed| Answers {
                table: table(set, 120, seed),
                wires: Vec::new(),
                images: None,
            };
            s.evidence.test = Some(Arc::new(answers(Set::Test, test)));
            let (_, held) = answers(Set::Calibration, held).hold_back();
            s.evidence.held_back = Some(Arc::new(held));
            s
        };
        let chosen = |s: &Setting| {
            let (evidence, terms, goal) = (&s.evidence, &s.terms, goal(MEAN, 5.0));
            let own = plan(Split::After(3), &[1, 4], 0.7);
            let found = search(evidence, terms, &[0.4, 0.8], &Limits::default()).unwrap();
            let said = verdict::predicted(evidence, terms, &goal, &own, &found).unwrap();
            let tuned = tune(evidence, terms, &goal, &own, &|| true).unwrap();
            let swept = super::super::sweep(evidence, terms, &own, &[0.2, 0.6]).unwrap();
            (found, said, tuned, swept)
        };
        let (one, other) = (of(1, 2), of(3, 4));
        assert!(chosen(&one) == chosen(&other));
        // The test would notice: a replay over the test images differs.
        let judged = |s: &Setting| {
            let own = plan(Split::After(3), &[1, 4], 0.7);
            replay(&s.evidence, &s.terms, Set::Test, &own)
                .unwrap()
                .accuracy
        };
        assert_ne!(judged(&one), judged(&other));
    }
}
