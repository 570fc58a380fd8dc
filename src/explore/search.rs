/*! Every plan of a grid, replayed, and those of them that no other is better than in everything. */

use super::{Limits, latency};
use crate::data::Set;
use crate::plan::{ExitRule, MAX_PER_PART, Placement, Plan, Sends, Split, Tier, plan_at};
use crate::predict::billing::BillingError;
use crate::predict::{Evidence, Outcome, Policy, PreparedPlan, ReplayError, Terms};
use std::collections::HashSet;

/// A plan and what it gives.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// The plan, its thresholds set.
    pub plan: Plan,
    /// How its exits were spread.
    pub placement: Placement,
    /// What it gives on the calibration set.
    pub outcome: Outcome,
}

/// What is good about a candidate: each smaller is better; `energy` says whether that counts.
fn objectives(candidate: &Candidate, energy: bool) -> [f64; 5] {
    let outcome = &candidate.outcome;
    [
        -outcome.accuracy,
        latency(outcome),
        outcome.cost_per_million.map_or(0.0, |c| c.rounded),
        outcome.memory_bytes(Tier::First) as f64,
        if energy {
            outcome.energy.map_or(f64::INFINITY, |energy| energy.mj())
        } else {
            0.0
        },
    ]
}

/// Replays every way to split (all on one tier too) with 0 to 3 exits per part, spread linearly and by
/// Pareto, with and without one at each split, at each of the thresholds, which is every exit's,
/// whatever the policy names. Keeps what holds the limits.
///
/// # Errors
/// Where nothing can be predicted at all.
pub fn search(
    evidence: &Evidence,
    terms: &Terms,
    thresholds: &[f64],
    limits: &Limits,
) -> Result<Vec<Candidate>, ReplayError> {
    search_told(evidence, terms, thresholds, limits, &mut |_, _| true)
}

/// [`search`], which tells how many of how many ways to split are done, and stops where it is told to
/// go on no further.
///
/// # Errors
/// As [`search`], and [`ReplayError::Stopped`].
pub fn search_told(
    evidence: &Evidence,
    terms: &Terms,
    thresholds: &[f64],
    limits: &Limits,
    go_on: &mut dyn FnMut(usize, usize) -> bool,
) -> Result<Vec<Candidate>, ReplayError> {
    let terms = Terms {
        policy: Policy {
            exits: Vec::new(),
            ..terms.policy.clone()
        },
        ..terms.clone()
    };
    let hops = evidence.tiers.count().saturating_sub(1);
    let everywhere = vec![Split::all(&evidence.layers).collect::<Vec<_>>(); hops];
    let images = evidence.answers(Set::Calibration)?.images.is_some();
    let mut seen = HashSet::new();
    let mut found = Vec::new();
    let all = super::planner::combinations(&everywhere);
    let total = all.len();
    for (done, splits) in all.into_iter().enumerate() {
        if !go_on(done, total) {
            return Err(ReplayError::Stopped);
        }
        for (plan, placement) in spread_plans(evidence, &splits, images, &mut seen) {
            let Some(prepared) = predictable(evidence, &terms, &plan)? else {
                continue;
            };
            let without = [1.0];
            let at = if plan.exits.is_empty() {
                &without[..]
            } else {
                thresholds
            };
            for &threshold in at {
                let outcome = prepared.at(threshold);
                if limits.hold(&outcome) {
                    let mut plan = plan.clone();
                    plan.exits.iter_mut().for_each(|e| e.threshold = threshold);
                    found.push(Candidate {
                        plan,
                        placement,
                        outcome,
                    });
                }
            }
        }
    }
    Ok(found)
}

/// What tells a plan from another, thresholds apart: splits, layers of its exits, and what is sent.
type Places = (Vec<Split>, Vec<usize>, Sends);

/// The plans of all spreads of exits at some splits that weren't seen yet; with `images`, also those that send
/// the image.
pub(super) fn spread_plans(
    evidence: &Evidence,
    splits: &[Split],
    images: bool,
    seen: &mut HashSet<Places>,
) -> Vec<(Plan, Placement)> {
    let mut plans = Vec::new();
    for (placement, per_part, at_split) in spreads() {
        let rule = ExitRule {
            placement,
            per_part,
            at_split,
            threshold: 0.0,
            thresholds: Vec::new(),
        };
        let (layers, points) = (&evidence.layers, &evidence.points);
        let plan = plan_at(layers, points, splits.to_vec(), &rule);
        let other = image_plan(&plan, splits).filter(|_| images);
        for plan in [Some(plan), other].into_iter().flatten() {
            let exits = plan.exits.iter().map(|e| e.layer).collect();
            if seen.insert((plan.splits.clone(), exits, plan.sends)) {
                plans.push((plan, placement));
            }
        }
    }
    plans
}

/// The same plan with the image for what is sent on.
pub(super) fn image_plan(plan: &Plan, splits: &[Split]) -> Option<Plan> {
    let other = match plan.exits_in(Tier::First).next() {
        Some(_) => plan.sending_images(),
        None => plan.offloads().then(|| plan.clone().with_images()),
    };
    let other = other.filter(Plan::sends_images)?;
    let whole = !other.exits.is_empty() || splits.iter().all(|s| *s == Split::Start);
    whole.then_some(other)
}

/// A plan over the calibration set; `None` where an exit's head was never trained or timed, or a part is too
/// large for any tier that is rented: the others can be compared.
pub(super) fn predictable<'a>(
    evidence: &'a Evidence,
    terms: &Terms,
    plan: &Plan,
) -> Result<Option<PreparedPlan<'a>>, ReplayError> {
    match PreparedPlan::new(evidence, terms, Set::Calibration, plan) {
        Ok(prepared) => Ok(Some(prepared)),
        Err(
            ReplayError::Table(_)
            | ReplayError::HeadNotTimed { .. }
            | ReplayError::Billing(BillingError::TooLarge { .. }),
        ) => Ok(None),
        Err(error) => Err(error),
    }
}

fn spreads() -> impl Iterator<Item = (Placement, usize, bool)> {
    let counts = 0..=MAX_PER_PART;
    counts.flat_map(|n| {
        let placements = [Placement::Linear, Placement::Pareto];
        placements
            .into_iter()
            .flat_map(move |p| [(p, n, false), (p, n, true)])
    })
}

/// The candidates that no other beats: at least as good in accuracy, mean latency, cost, edge memory and,
/// where it counts ([`Goal::asks_energy`](super::Goal::asks_energy)), `energy`, and better in one. In order of
/// latency; of equal ones the first.
pub fn front(candidates: &[Candidate], energy: bool) -> Vec<&Candidate> {
    let values = candidates.iter().map(|c| objectives(c, energy));
    let values: Vec<[f64; 5]> = values.collect();
    let beats = |a: &[f64; 5], b: &[f64; 5]| {
        a.iter().zip(b).all(|(x, y)| x <= y) && a.iter().zip(b).any(|(x, y)| x < y)
    };
    let mut kept: Vec<usize> = Vec::new();
    for i in 0..values.len() {
        let beaten = values.iter().any(|other| beats(other, &values[i]));
        let repeated = kept.iter().any(|&k| values[k] == values[i]);
        if !beaten && !repeated {
            kept.push(i);
        }
    }
    kept.sort_by(|&a, &b| values[a][1].total_cmp(&values[b][1]));
    kept.into_iter().map(|i| &candidates[i]).collect()
}

/// The knee of a front: of the points (x, y), x to be small and y large, that no other beats, the one
/// farthest above the line between the first and the last of them, both axes scaled to their lengths.
/// `None` of fewer than three.
pub fn knee(points: &[(f64, f64)]) -> Option<usize> {
    let mut order: Vec<usize> = (0..points.len())
        .filter(|&i| points[i].0.is_finite())
        .collect();
    order.sort_by(|&a, &b| {
        let ((xa, ya), (xb, yb)) = (points[a], points[b]);
        xa.total_cmp(&xb).then(yb.total_cmp(&ya))
    });
    let mut best = f64::NEG_INFINITY;
    order.retain(|&i| {
        let above = points[i].1 > best;
        best = best.max(points[i].1);
        above
    });
    let [first, .., last] = order.as_slice() else {
        return None;
    };
    let ((x0, y0), (x1, y1)) = (points[*first], points[*last]);
    let above = |i: usize| (points[i].1 - y0) / (y1 - y0) - (points[i].0 - x0) / (x1 - x0);
    let inner = order[1..order.len() - 1].iter().copied();
    inner.max_by(|&a, &b| above(a).total_cmp(&above(b)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::explore::{Goal, verdict};
    use crate::predict::Billing;
    use crate::predict::replay::tests::{plan, setting};
    use proptest::prelude::*;
    use rstest::rstest;
    use std::sync::Arc;

    #[test]
    fn the_front_holds_all_that_is_not_beaten() {
        let s = setting(80, 9);
        let thresholds = [0.3, 0.6, 0.9];
        let all = search(&s.evidence, &s.terms, &thresholds, &Limits::default()).unwrap();
        assert!(all.len() > 50, "{}", all.len());
        let front = front(&all, true);
        for candidate in &all {
            let own = objectives(candidate, true);
            let covered = front.iter().any(|f| {
                let best = objectives(f, true);
                best.iter().zip(&own).all(|(a, b)| a <= b)
            });
            assert!(covered);
        }
        let strictly = |a: &Candidate, b: &Candidate| {
            let (a, b) = (objectives(a, true), objectives(b, true));
            a.iter().zip(&b).all(|(x, y)| x <= y) && a != b
        };
        for a in &front {
            assert!(front.iter().all(|b| !strictly(a, b)));
        }
    }

    #[test]
    fn a_part_too_large_to_rent_leaves_what_stays_on_the_edge() {
        let mut s = setting(60, 3);
        s.terms.billing = Billing::AwsLambda { arm: false };
        let cloud = Arc::make_mut(s.evidence.profiles[1].as_mut().unwrap());
        cloud.resident_bytes = 11_000 << 20;
        let all = search(&s.evidence, &s.terms, &[0.5], &Limits::default()).unwrap();
        assert!(!all.is_empty());
        assert!(all.iter().all(|c| !c.plan.offloads()), "{all:?}");
        let goal = Goal::default();
        let alone = plan(Split::End, &[1], 0.5);
        let verdict = verdict::predicted(&s.evidence, &s.terms, &goal, &alone, &all).unwrap();
        assert!(verdict.deploy.is_some());
    }

    #[rstest]
    // The corner of a staircase; what another beats is no knee.
    #[case(&[(0.0, 0.0), (1.0, 8.0), (10.0, 10.0), (1.5, 7.9)], Some(1))]
    // In any order.
    #[case(&[(10.0, 10.0), (0.0, 0.0), (2.0, 5.0), (4.0, 9.0)], Some(3))]
    #[case(&[(0.0, 0.0), (1.0, 1.0)], None)]
    #[case(&[(0.0, 5.0), (1.0, 4.0), (2.0, 3.0)], None)]
    fn the_knee_is_farthest_from_the_chord(
        #[case] points: &[(f64, f64)],
        #[case] expected: Option<usize>,
    ) {
        assert_eq!(knee(points), expected);
    }

    proptest! {
        #[test]
        fn limits_hold(accuracy in 0.0..0.5, latency in 0.5..20.0) {
            let s = setting(40, 4);
            let limits = Limits {
                accuracy: Some(accuracy),
                latency_ms: Some(latency),
                ..Limits::default()
            };
            let found = search(&s.evidence, &s.terms, &[0.5], &limits).unwrap();
            for c in found {
                prop_assert!(c.outcome.accuracy >= accuracy);
                prop_assert!(c.outcome.latency_ms.unwrap().mean <= latency);
            }
        }
    }
}
