/*! What a plan is worth by a goal, within limits: the score the split rules `Fastest` and `Cheapest`
choose by. Reads the calibration table only. */

mod search;
pub mod sweep;

pub use search::{Candidate, front, search};
pub use sweep::sweep;

use crate::data::Set;
use crate::plan::Plan;
use crate::predict::{ConfidenceTable, Outcome, World, replay};

/// What is to be small.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Goal {
    /// Mean latency.
    Fastest,
    /// The cloud's bill, rounded as the provider does; nothing where no cloud is asked.
    Cheapest,
}

/// What a plan must keep to; `None` is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Limits {
    /// Memory of the edge side, in bytes.
    pub edge_memory_bytes: Option<usize>,
    /// Mean latency in milliseconds.
    pub latency_ms: Option<f64>,
    /// The least accuracy, 0 to 1.
    pub accuracy: Option<f64>,
}

impl Limits {
    /// Whether an outcome keeps to them.
    pub fn hold(&self, outcome: &Outcome) -> bool {
        let within = |limit: Option<f64>, value: f64| limit.is_none_or(|limit| value <= limit);
        let memory = self.edge_memory_bytes;
        memory.is_none_or(|limit| outcome.edge_memory_bytes <= limit)
            && within(self.latency_ms, latency(outcome))
            && self.accuracy.is_none_or(|least| outcome.accuracy >= least)
    }
}

fn latency(outcome: &Outcome) -> f64 {
    outcome.latency_ms.map_or(f64::INFINITY, |l| l.mean)
}

/// A score for [`crate::plan::plan`]: smaller is better. `None` for a plan that can't be
/// replayed or breaks a limit, and for every plan on another table than the calibration set's.
///
/// Of equally cheap plans (with an edge that never asks the cloud, all that end there) none is
/// preferred here; the rule takes the earliest split.
pub fn score<'a>(
    table: &'a ConfidenceTable,
    world: World<'a>,
    goal: Goal,
    limits: Limits,
) -> impl Fn(&Plan) -> Option<f64> + 'a {
    move |plan| {
        if table.set != Set::Calibration {
            return None;
        }
        let outcome = replay(table, plan, &world).ok()?;
        let value = match goal {
            Goal::Fastest => latency(&outcome),
            Goal::Cheapest => outcome.cost_per_million.map_or(0.0, |c| c.rounded),
        };
        limits.hold(&outcome).then_some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{ExitRule, Placement, Split, SplitRule};
    use crate::predict::replay::tests::{LAYERS, plan, setting};

    #[test]
    fn the_rule_takes_the_best_of_all_splits() {
        let s = setting(200, 2);
        let exits = ExitRule {
            placement: Placement::Linear,
            per_part: 0,
            at_split: false,
            threshold: 0.7,
            thresholds: vec![],
        };
        let fastest = score(&s.table, s.world(), Goal::Fastest, Limits::default());
        let choose = |rule: SplitRule, score: &dyn Fn(&Plan) -> Option<f64>| {
            crate::plan::plan(&s.layers, &[], &rule, &exits, None, Some(score)).unwrap()
        };
        // The cloud is six times faster and the link short.
        assert_eq!(choose(SplitRule::Fastest, &fastest).split, Split::CloudOnly);
        let cheapest = score(&s.table, s.world(), Goal::Cheapest, Limits::default());
        assert_eq!(
            choose(SplitRule::Cheapest, &cheapest).split,
            Split::EdgeOnly
        );
        // A later split is cheaper, but the edge holds no more than a part.
        let small = Limits {
            edge_memory_bytes: Some(50_000),
            ..Limits::default()
        };
        let cheapest = score(&s.table, s.world(), Goal::Cheapest, small);
        let found = choose(SplitRule::Cheapest, &cheapest).split;
        let within = |at: &usize| {
            let plan = plan(Split::After(*at), &[], 0.7);
            let outcome = replay(&s.table, &plan, &s.world()).unwrap();
            outcome.edge_memory_bytes <= 50_000
        };
        let last = (0..LAYERS - 1).rev().find(within).unwrap();
        let cost = |at: usize| cheapest(&plan(Split::After(at), &[], 0.7)).unwrap();
        let Split::After(at) = found else {
            panic!("{found:?}");
        };
        assert_eq!(cost(at), cost(last));
    }

    #[test]
    fn limits_and_the_test_set_rule_plans_out() {
        let mut s = setting(50, 3);
        let chosen = plan(Split::After(3), &[1], 0.7);
        let outcome = replay(&s.table, &chosen, &s.world()).unwrap();
        let scored = |limits| score(&s.table, s.world(), Goal::Fastest, limits)(&chosen);
        assert_eq!(scored(Limits::default()), Some(latency(&outcome)));
        let accurate = Limits {
            accuracy: Some(outcome.accuracy + 0.01),
            ..Limits::default()
        };
        assert_eq!(scored(accurate), None);
        let quick = Limits {
            latency_ms: Some(latency(&outcome) - 0.01),
            ..Limits::default()
        };
        assert_eq!(scored(quick), None);
        s.table.set = Set::Test;
        let score = score(&s.table, s.world(), Goal::Fastest, Limits::default());
        assert_eq!(score(&chosen), None);
    }
}
