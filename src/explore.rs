/*! Plans predicted and compared: the planner that chooses one by the user's rules, the sweep over
thresholds, the search over many plans and those that no other beats. Reads the calibration table only. */

pub mod goal;
pub mod planner;
mod search;
pub mod sweep;
pub mod verdict;

pub use goal::{Goal, GoalError, Limit, Objective, Statistic, Within};
pub use planner::{Planner, PlannerError};
pub use search::{Candidate, front, search};
pub use sweep::sweep;
pub use verdict::{Against, Choice, Verdict};

use crate::plan::Tier;
use crate::predict::Outcome;

/// What a plan must keep to; `None` is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Limits {
    /// Memory of the first tier, in bytes.
    pub edge_memory_bytes: Option<usize>,
    /// Mean latency in milliseconds.
    pub latency_ms: Option<f64>,
    /// The least accuracy, 0 to 1.
    pub accuracy: Option<f64>,
    /// The bill in US dollars per million inferences, rounded as the provider does.
    pub cost_per_million: Option<f64>,
}

impl Limits {
    /// Whether an outcome keeps to them.
    pub fn hold(&self, outcome: &Outcome) -> bool {
        let within = |limit: Option<f64>, value: f64| limit.is_none_or(|limit| value <= limit);
        let memory = self.edge_memory_bytes;
        memory.is_none_or(|limit| outcome.memory_bytes(Tier::First) <= limit)
            && within(self.latency_ms, latency(outcome))
            && within(
                self.cost_per_million,
                outcome.cost_per_million.map_or(0.0, |c| c.rounded),
            )
            && self.accuracy.is_none_or(|least| outcome.accuracy >= least)
    }
}

fn latency(outcome: &Outcome) -> f64 {
    outcome.latency_ms.map_or(f64::INFINITY, |l| l.mean)
}
