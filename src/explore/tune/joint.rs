/*!
Splits, exits and thresholds by one search: the best plan for a goal over every way to split and every set
of exits, with one threshold for all exits and with one per exit, and the accuracy that each budget of the
objective buys.

With one threshold for all exits every plan is searched exactly ([`common_steps`]): only the confidences
themselves can part samples. With one per exit a plan is left aside where its bound of Lagrange says that no
thresholds of it beat the best one so far, and the others are searched by branch and bound, the most promising
first. Where time runs out before all of them are, the best so far is said to be a heuristic's, and the least
bound of the rest says how much better any plan could be at most. A 95th percentile is no sum: it is looked for
among the points of the budget curve.

Reads the calibration set alone.
*/

use super::{
    Judge, Objective, POINTS, Point, Problem, Statistic, Step, common_steps, curve, exact, more,
};
use crate::data::Set;
use crate::explore::search::{image_plan, predictable, spread_plans};
use crate::explore::{Goal, Limits, planner};
use crate::plan::{MAX_PER_PART, Plan, Split, Tier};
use crate::predict::{Evidence, Outcome, Policy, PreparedPlan, ReplayError, Terms};
use rayon::prelude::*;
use std::collections::HashSet;

/// Sets of exits over all splits, at most; where there are more, only those of a spread are searched.
const MOST: usize = 20_000;
/// Plans searched between two looks at whether to go on.
const CHUNK: usize = 64;

/// A plan with thresholds, and what it gives.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// The plan at the thresholds that were found.
    pub plan: Plan,
    /// What it gives, predicted on the calibration set.
    pub outcome: Outcome,
    /// Whether it keeps to the goal's limits; where nothing does, it is the nearest found.
    pub feasible: bool,
    /// Whether no plan that was considered can be better.
    pub exact: bool,
}

/// A point of the budget curve: no plan that was considered is more accurate for as little.
#[derive(Debug, Clone, PartialEq)]
pub struct Budget {
    /// What it takes: milliseconds, millijoules, US dollars per million inferences or bytes.
    pub value: f64,
    /// Share answered right, 0 to 1.
    pub accuracy: f64,
    /// The plan at its thresholds.
    pub plan: Plan,
}

/// What a search over splits, exits and thresholds found.
#[derive(Debug, Clone, PartialEq)]
pub struct Joint {
    /// Plans that were considered, thresholds apart.
    pub plans: usize,
    /// Whether these are all sets of exits; else those of a spread.
    pub every_set: bool,
    /// The best with one threshold for all exits.
    pub common: Found,
    /// The best with a threshold per exit.
    pub per_exit: Found,
    /// The least that any plan can have of the objective with thresholds per exit, in its unit; `None` where
    /// nothing keeps to the limits or it isn't known.
    pub bound: Option<f64>,
    /// What the values of the curve are of.
    pub spent: Objective,
    /// Accuracy for each budget, with one threshold for all exits; by value, exact but for its length.
    pub curve: Vec<Budget>,
}

/// What is compared of plans: the objective, and of equal ones the mean latency.
type Key = (f64, f64);

fn before(a: Key, b: Key) -> bool {
    let eps = 1e-12 * b.0.abs();
    a.0 < b.0 - eps || (a.0 <= b.0 + eps && a.1 < b.1 - 1e-12 * b.1.abs())
}

/// A plan as it is considered.
struct Considered {
    plan: Plan,
    /// The least that its thresholds can reach within the limits.
    bound: Key,
    /// The best threshold for all exits within the limits.
    common: Option<(Key, f64)>,
    /// How far the nearest common threshold is over the limits, as a share, and that threshold.
    nearest: (f64, f64),
    /// Values and accuracies by common threshold.
    curve: Vec<Point>,
}

/// What a search is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Each plan at every common threshold, and its bound.
    Look,
    /// Thresholds per exit of the plans whose bound leaves room.
    Search,
}

/// Searches over all plans, until nothing better is proved to be possible or `go_on` says no: it hears how many
/// plans are done, of how many.
///
/// # Errors
/// Where no plan can be predicted, and [`ReplayError::Stopped`] where it is stopped before every plan was
/// looked at once.
pub fn joint(
    evidence: &Evidence,
    terms: &Terms,
    goal: &Goal,
    go_on: &mut dyn FnMut(Phase, usize, usize) -> bool,
) -> Result<Joint, ReplayError> {
    let terms = &Terms {
        policy: Policy {
            exits: Vec::new(),
            ..terms.policy.clone()
        },
        ..terms.clone()
    };
    let whole = evidence.answers(Set::Calibration)?;
    let unmodified = whole.table.final_column()?.accuracy(&whole.table.labels);
    let limits = goal.limits(unmodified);
    let (plans, every_set) = plans(evidence)?;
    let considered = look(evidence, terms, (goal, &limits), &plans, go_on)?;
    let spent = spent(goal);
    let found = |plan: &Plan, thresholds: &[f64], exact: bool| -> Result<Found, ReplayError> {
        let prepared = PreparedPlan::new(evidence, terms, Set::Calibration, plan)?;
        let outcome = prepared.with_thresholds(thresholds);
        Ok(Found {
            plan: at(plan, thresholds),
            feasible: limits.hold(&outcome),
            outcome,
            exact,
        })
    };
    let curve = budget(&considered);
    let best = considered.iter().filter_map(|c| Some((c.common?, c)));
    let best = best.reduce(|a, b| if before(b.0.0, a.0.0) { b } else { a });
    let Some(((key, threshold), first)) = best else {
        let nearest = considered.iter();
        let nearest = nearest.min_by(|a, b| a.nearest.0.total_cmp(&b.nearest.0));
        let nearest = nearest.ok_or(ReplayError::Stopped)?;
        let near = found(
            &nearest.plan,
            &same(&nearest.plan, nearest.nearest.1),
            false,
        )?;
        return Ok(Joint {
            plans: considered.len(),
            every_set,
            common: near.clone(),
            per_exit: near,
            bound: None,
            spent,
            curve,
        });
    };
    let common = found(&first.plan, &same(&first.plan, threshold), true)?;
    if goal.minimise == Objective::Latency(Statistic::P95) {
        let best = percentile(evidence, terms, goal, &limits, &curve)?;
        let best = best.unwrap_or(Found {
            exact: false,
            ..common
        });
        return Ok(Joint {
            plans: considered.len(),
            every_set,
            common: best.clone(),
            per_exit: best,
            bound: None,
            spent,
            curve,
        });
    }
    let start = (key, first.plan.clone(), same(&first.plan, threshold));
    let search = Search {
        evidence,
        terms,
        goal,
        limits: &limits,
    };
    let (best, exact, bound) = search.per_exit(&considered, start, go_on)?;
    Ok(Joint {
        plans: considered.len(),
        every_set,
        common,
        per_exit: found(&best.1, &best.2, exact)?,
        bound: Some(bound),
        spent,
        curve,
    })
}

/// Looks at each plan once.
fn look(
    evidence: &Evidence,
    terms: &Terms,
    (goal, limits): (&Goal, &Limits),
    plans: &[Plan],
    go_on: &mut dyn FnMut(Phase, usize, usize) -> bool,
) -> Result<Vec<Considered>, ReplayError> {
    let one = |plan: &Plan| consider(evidence, terms, goal, limits, plan);
    let mut considered: Vec<Considered> = Vec::with_capacity(plans.len());
    for (i, some) in plans.chunks(CHUNK).enumerate() {
        if !go_on(Phase::Look, i * CHUNK, plans.len()) {
            return Err(ReplayError::Stopped);
        }
        let looked: Result<Vec<Option<Considered>>, ReplayError> =
            some.par_iter().map(one).collect();
        considered.extend(looked?.into_iter().flatten());
    }
    Ok(considered)
}

/// What a curve for a goal is of.
fn spent(goal: &Goal) -> Objective {
    match goal.minimise {
        Objective::Latency(_) => Objective::Latency(Statistic::Mean),
        other => other,
    }
}

fn same(plan: &Plan, threshold: f64) -> Vec<f64> {
    vec![threshold; plan.exits.len()]
}

fn at(plan: &Plan, thresholds: &[f64]) -> Plan {
    let mut plan = plan.clone();
    for (exit, threshold) in plan.exits.iter_mut().zip(thresholds) {
        exit.threshold = *threshold;
    }
    plan
}

/// Every way to split with every set of exits that have a head, at most three a part; or with those of a spread
/// where these are too many. Whether it is every set.
fn plans(evidence: &Evidence) -> Result<(Vec<Plan>, bool), ReplayError> {
    let hops = evidence.tiers.count().saturating_sub(1);
    let everywhere = vec![Split::all(&evidence.layers).collect::<Vec<_>>(); hops];
    let answers = evidence.answers(Set::Calibration)?;
    let images = answers.images.is_some();
    let heads: HashSet<&str> = answers
        .table
        .columns
        .iter()
        .filter_map(|c| c.after.as_deref())
        .collect();
    let mut seen = HashSet::new();
    let mut all = Vec::new();
    let ways = planner::combinations(&everywhere);
    for splits in &ways {
        let bare = Plan::cut(&evidence.layers, splits.clone());
        let mut sets = vec![bare.clone()];
        for point in evidence
            .points
            .iter()
            .filter(|p| heads.contains(p.after.as_str()))
        {
            let tier = bare.tier_of(point.layer);
            let more = sets
                .iter()
                .filter(|plan| plan.exits_in(tier).count() < MAX_PER_PART);
            let more = more.map(|plan| plan.with_exit(point.layer, &point.after, 1.0));
            let more: Vec<Plan> = more.collect();
            sets.extend(more);
            if all.len() + sets.len() > MOST {
                return Ok((spreads(evidence, &ways, images), false));
            }
        }
        for plan in sets {
            let other = image_plan(&plan, splits).filter(|_| images);
            all.push(plan);
            if let Some(other) = other {
                let exits: Vec<usize> = other.exits.iter().map(|e| e.layer).collect();
                if seen.insert((other.splits.clone(), exits)) {
                    all.push(other);
                }
            }
        }
    }
    Ok((all, true))
}

fn spreads(evidence: &Evidence, ways: &[Vec<Split>], images: bool) -> Vec<Plan> {
    let mut seen = HashSet::new();
    let all = ways
        .iter()
        .flat_map(|splits| spread_plans(evidence, splits, images, &mut seen));
    all.map(|(plan, _)| plan).collect()
}

/// The goal's value of a plan whatever its thresholds, where it has one: memory, and the bill of what rents
/// nothing.
fn fixed(goal: &Goal, problem: &Problem, outcome: &Outcome) -> Option<f64> {
    match goal.minimise {
        Objective::Latency(_) => None,
        other if other == problem.spent => None,
        other => Some(other.value(outcome)),
    }
}

fn consider(
    evidence: &Evidence,
    terms: &Terms,
    goal: &Goal,
    limits: &Limits,
    plan: &Plan,
) -> Result<Option<Considered>, ReplayError> {
    let Some(prepared) = predictable(evidence, terms, plan)? else {
        return Ok(None);
    };
    let ways = prepared.ways();
    let problem = Problem::new(&ways, goal.minimise, limits);
    let exits = ways.confidence.len();
    let whole = prepared.with_thresholds(&vec![1.0; exits]);
    let fixed = fixed(goal, &problem, &whole);
    let key = |value: f64| fixed.map_or((value, 0.0), |fixed| (fixed, value));
    let value = |step: &Step| step.price + more(&problem.more, step.sent);
    let steps = common_steps(&ways, &problem.price);
    let accuracy = |step: &Step| (ways.samples - step.wrong) as f64 / ways.samples as f64;
    let points = steps.iter().map(|step| Point {
        thresholds: vec![step.threshold],
        value: fixed.unwrap_or(value(step)),
        accuracy: accuracy(step),
    });
    let points = curve(points.collect());
    // Memory is the same at any threshold.
    let memory = whole.memory_bytes(Tier::First);
    let fits = limits.edge_memory_bytes.is_none_or(|most| memory <= most);
    let over =
        |least: f64, most: f64| ((most - least) / most.abs().max(f64::MIN_POSITIVE)).max(0.0);
    let too_large = limits
        .edge_memory_bytes
        .map_or(0.0, |most| over(most as f64, memory as f64));
    if !fits {
        return Ok(Some(Considered {
            plan: plan.clone(),
            bound: (f64::INFINITY, 0.0),
            common: None,
            nearest: (too_large, 1.0),
            curve: Vec::new(),
        }));
    }
    let common = super::common(&problem, &steps, exits);
    let common = common.map(|thresholds| {
        let sums = problem.sums(&thresholds);
        (
            key(problem.value(&sums)),
            thresholds.first().copied().unwrap_or(1.0),
        )
    });
    let nearest = match common {
        Some((_, threshold)) => (0.0, threshold),
        None => nearest(&prepared, goal, limits, &points),
    };
    Ok(Some(Considered {
        plan: plan.clone(),
        bound: key(exact::bound(&problem)),
        common,
        nearest,
        curve: points,
    }))
}

/// Of the points of a plan's curve the nearest to the limits: how far it is over them, and its threshold.
fn nearest(prepared: &PreparedPlan, goal: &Goal, limits: &Limits, points: &[Point]) -> (f64, f64) {
    let judge = Judge {
        prepared,
        goal,
        limits,
    };
    let exits = prepared.planned().len();
    let all = points.iter().filter_map(|p| p.thresholds.first());
    // A few say enough: the curve is dense.
    let step = (points.len() / 6).max(1);
    let all = all.step_by(step).map(|t| vec![*t; exits]);
    let near = judge.best(all);
    let broken = limits.broken(&near.outcome);
    let excess = broken.map(|b| b.excess()).fold(0.0, f64::max);
    (excess, near.thresholds.first().copied().unwrap_or(1.0))
}

/// The curves of all plans as one.
fn budget(considered: &[Considered]) -> Vec<Budget> {
    let own = |(at, one): (usize, &Considered)| -> Vec<Point> {
        let points = one.curve.iter();
        // The plan's number beside the threshold, until only the points that stay are left.
        points
            .map(|p| Point {
                thresholds: vec![p.thresholds[0], at as f64],
                ..p.clone()
            })
            .collect()
    };
    let all = considered.iter().enumerate().flat_map(own).collect();
    let kept = curve(all);
    debug_assert!(kept.len() <= POINTS);
    kept.into_iter()
        .map(|point| {
            let plan = &considered[point.thresholds[1] as usize].plan;
            Budget {
                value: point.value,
                accuracy: point.accuracy,
                plan: at(plan, &same(plan, point.thresholds[0])),
            }
        })
        .collect()
}

/// The point of the curve with the least 95th percentile within the limits.
fn percentile(
    evidence: &Evidence,
    terms: &Terms,
    goal: &Goal,
    limits: &Limits,
    curve: &[Budget],
) -> Result<Option<Found>, ReplayError> {
    let mut best: Option<Found> = None;
    for point in curve {
        let outcome = PreparedPlan::new(evidence, terms, Set::Calibration, &point.plan)?.outcome();
        let better = |b: &Found| goal.minimise.compare(&outcome, &b.outcome).is_lt();
        if limits.hold(&outcome) && best.as_ref().is_none_or(better) {
            best = Some(Found {
                plan: point.plan.clone(),
                outcome,
                feasible: true,
                exact: false,
            });
        }
    }
    Ok(best)
}

struct Search<'a> {
    evidence: &'a Evidence,
    terms: &'a Terms,
    goal: &'a Goal,
    limits: &'a Limits,
}

/// The best so far: its key, its plan and its thresholds.
type Best = (Key, Plan, Vec<f64>);

impl Search<'_> {
    /// The best thresholds per exit of all plans, whether nothing can be better, and the least that anything
    /// can have.
    fn per_exit(
        &self,
        considered: &[Considered],
        mut best: Best,
        go_on: &mut dyn FnMut(Phase, usize, usize) -> bool,
    ) -> Result<(Best, bool, f64), ReplayError> {
        let mut order: Vec<&Considered> = considered
            .iter()
            .filter(|c| c.plan.exits.len() > 1)
            .collect();
        order.sort_by(|a, b| {
            a.bound
                .0
                .total_cmp(&b.bound.0)
                .then(a.bound.1.total_cmp(&b.bound.1))
        });
        let mut least = f64::INFINITY;
        let total = order.len();
        for (done, one) in order.into_iter().enumerate() {
            if !before(one.bound, best.0) {
                // Those behind it are no better.
                break;
            }
            if !go_on(Phase::Search, done, total) {
                least = least.min(one.bound.0);
                break;
            }
            let prepared =
                PreparedPlan::new(self.evidence, self.terms, Set::Calibration, &one.plan)?;
            let ways = prepared.ways();
            let problem = Problem::new(&ways, self.goal.minimise, self.limits);
            let whole = prepared.with_thresholds(&vec![1.0; ways.confidence.len()]);
            let fixed = fixed(self.goal, &problem, &whole);
            // Nothing of this plan matters that isn't below the best so far.
            let below = match fixed {
                None => best.0.0,
                Some(fixed) if before((fixed, f64::INFINITY), best.0) => f64::INFINITY,
                Some(_) => best.0.1,
            };
            let heard = std::cell::RefCell::new(&mut *go_on);
            let starts = one.common.map(|(_, threshold)| same(&one.plan, threshold));
            let starts: Vec<Vec<f64>> = starts.into_iter().collect();
            let found = super::descent::search(&problem, &starts, &|| {
                (heard.borrow_mut())(Phase::Search, done, total)
            });
            let starts = found
                .into_iter()
                .map(|(thresholds, _)| thresholds)
                .collect();
            let searched = exact::search_below(&problem, starts, below, &|| {
                (heard.borrow_mut())(Phase::Search, done, total)
            });
            if let Some(thresholds) = searched.thresholds {
                let value = problem.value(&problem.sums(&thresholds));
                let key = fixed.map_or((value, 0.0), |fixed| (fixed, value));
                if before(key, best.0) {
                    best = (key, one.plan.clone(), thresholds);
                }
            }
            if !searched.exact {
                least = least.min(fixed.unwrap_or(searched.bound));
            }
        }
        let exact = least == f64::INFINITY || least >= best.0.0;
        let bound = least.min(best.0.0);
        Ok((best, exact, bound))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::explore::Within;
    use crate::predict::Radio;
    use crate::predict::replay::tests::{Setting, setting};
    use rstest::rstest;

    fn goal(minimise: Objective, within: Within) -> Goal {
        Goal { minimise, within }
    }

    fn loss(points: f64) -> Within {
        Within {
            accuracy_loss_points: Some(points),
            ..Within::default()
        }
    }

    const MEAN: Objective = Objective::Latency(Statistic::Mean);

    /// Four layers with a head each, so that every set of exits and every threshold can be tried.
    fn small(samples: usize, seed: u64) -> Setting {
        let mut s = setting(samples, seed);
        let points = std::sync::Arc::make_mut(&mut s.evidence.points);
        points.retain(|p| [1, 2, 4].contains(&p.layer));
        s
    }

    /// Every plan at every threshold that parts its samples differently.
    fn brute_force(s: &Setting, goal: &Goal, common: bool) -> Option<Outcome> {
        let table = &s.evidence.answers(Set::Calibration).unwrap().table;
        let unmodified = table.final_column().unwrap().accuracy(&table.labels);
        let limits = goal.limits(unmodified);
        let mut best: Option<Outcome> = None;
        for split in Split::all(&s.evidence.layers) {
            for set in 0..8_u32 {
                let exits: Vec<usize> = [1, 2, 4]
                    .into_iter()
                    .enumerate()
                    .filter(|(i, _)| set >> i & 1 == 1)
                    .map(|(_, l)| l)
                    .collect();
                let plan = crate::predict::replay::tests::plan(split, &exits, 1.0);
                let set = Set::Calibration;
                let prepared = PreparedPlan::new(&s.evidence, &s.terms, set, &plan).unwrap();
                let ways = prepared.ways();
                let values = |exit: usize| -> Vec<f64> {
                    let own = ways.confidence[exit].iter().map(|c| f64::from(*c));
                    own.chain([0.0, 1.0]).collect()
                };
                let all: Vec<Vec<f64>> = if common {
                    let every = (0..exits.len()).flat_map(values).chain([1.0]);
                    every.map(|t| vec![t; exits.len()]).collect()
                } else {
                    (0..exits.len()).fold(vec![vec![]], |taken: Vec<Vec<f64>>, exit| {
                        let own = values(exit);
                        taken
                            .iter()
                            .flat_map(|t| own.iter().map(|v| [t.clone(), vec![*v]].concat()))
                            .collect()
                    })
                };
                for thresholds in all {
                    let outcome = prepared.with_thresholds(&thresholds);
                    let better =
                        |b: &Outcome| goal.minimise.value(&outcome) < goal.minimise.value(b);
                    if limits.hold(&outcome) && best.as_ref().is_none_or(better) {
                        best = Some(outcome);
                    }
                }
            }
        }
        best
    }

    #[rstest]
    #[case(goal(MEAN, loss(0.0)))]
    #[case(goal(MEAN, loss(15.0)))]
    #[case(goal(Objective::Cost, loss(10.0)))]
    #[case(goal(Objective::EdgeMemory, loss(10.0)))]
    #[case(goal(Objective::Energy, loss(10.0)))]
    #[case(goal(Objective::Cost, Within { latency_ms: Some(60.0), ..loss(30.0) }))]
    #[case(goal(MEAN, Within { edge_memory: Some(60_000), ..loss(20.0) }))]
    fn it_is_what_brute_force_over_splits_exits_and_thresholds_finds(
        #[case] goal: Goal,
        #[values(Radio::Wired, Radio::Wlan)] radio: Radio,
    ) {
        let mut reached = 0;
        for seed in 0..4 {
            let mut s = small(8, seed);
            s.terms.energy.radio = radio;
            let found = joint(&s.evidence, &s.terms, &goal, &mut |_, _, _| true).unwrap();
            assert!(found.every_set);
            for (found, common) in [(&found.common, true), (&found.per_exit, false)] {
                let expected = brute_force(&s, &goal, common);
                assert_eq!(found.feasible, expected.is_some(), "seed {seed}");
                let Some(expected) = expected else { continue };
                reached += 1;
                assert!(found.exact);
                let (own, best) = (
                    goal.minimise.value(&found.outcome),
                    goal.minimise.value(&expected),
                );
                assert!(
                    (own - best).abs() <= 1e-9 * best.abs(),
                    "seed {seed}: {own} {best}"
                );
            }
        }
        assert!(reached > 1, "{reached}");
    }

    #[test]
    fn stopped_it_keeps_the_limits_and_says_that_it_is_a_heuristic() {
        let goal = goal(MEAN, loss(3.0));
        // Every plan once, then no more.
        let mut go_on = |phase, _: usize, _: usize| phase == Phase::Look;
        let mut open = 0;
        for seed in 0..6 {
            let s = setting(200, seed);
            let found = joint(&s.evidence, &s.terms, &goal, &mut go_on).unwrap();
            assert!(found.common.exact && found.common.feasible && found.per_exit.feasible);
            open += usize::from(!found.per_exit.exact);
            let ms = found.per_exit.outcome.latency_ms.unwrap().mean;
            assert!(found.bound.unwrap() <= ms + 1e-9);
        }
        assert!(open > 0);
        let s = setting(40, 1);
        let stopped = joint(&s.evidence, &s.terms, &goal, &mut |_, _, _| false);
        assert_eq!(stopped, Err(ReplayError::Stopped));
    }

    #[test]
    fn where_nothing_keeps_the_limits_the_best_reachable_is_found() {
        let s = small(60, 2);
        let mut goal = goal(MEAN, loss(100.0));
        goal.within.latency_ms = Some(0.001);
        let found = joint(&s.evidence, &s.terms, &goal, &mut |_, _, _| true).unwrap();
        assert!(!found.common.feasible && found.bound.is_none());
        let fastest = found.curve.first().unwrap();
        let ms = found.common.outcome.latency_ms.unwrap().mean;
        assert!((ms - fastest.value).abs() < 1e-9, "{ms} {}", fastest.value);
    }

    #[rstest]
    #[case(MEAN)]
    #[case(Objective::Energy)]
    #[case(Objective::EdgeMemory)]
    fn a_budget_buys_the_most_accurate_of_all_plans(#[case] minimise: Objective) {
        let s = small(40, 6);
        let goal = goal(minimise, loss(5.0));
        let found = joint(&s.evidence, &s.terms, &goal, &mut |_, _, _| true).unwrap();
        assert!(found.curve.windows(2).all(|w| w[0].value < w[1].value));
        assert!(
            found
                .curve
                .windows(2)
                .all(|w| w[0].accuracy < w[1].accuracy)
        );
        for point in &found.curve {
            let outcome = s.replay(&point.plan).unwrap();
            assert!((outcome.accuracy - point.accuracy).abs() < 1e-12);
            let value = minimise.value(&outcome);
            assert!((value - point.value).abs() <= 1e-9 * value);
        }
    }
}
