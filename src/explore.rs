/*! Plans predicted and compared: the planner that chooses one by the user's rules, the sweep over
thresholds, the search over many plans and those that no other beats. Reads the calibration table only. */

pub mod goal;
pub mod planner;
pub mod risk;
mod search;
pub mod sweep;
pub mod tune;
pub mod verdict;
pub mod what_if;

pub use goal::{Goal, GoalError, Limit, Objective, Statistic, Within};
pub use planner::{Planner, PlannerError};
pub use risk::{Guarantee, Promise, PromiseError, guarantee};
pub use search::{Candidate, front, knee, search};
pub use sweep::sweep;
pub use tune::joint::{Budget, Found, Joint, Phase, joint};
pub use tune::{Point, Tuned, Tuning, tune};
pub use verdict::{Against, Choice, Verdict};
pub use what_if::{WhatIf, what_if};

use crate::plan::Tier;
use crate::predict::Outcome;
use crate::units::{self, energy};
use serde::{Deserialize, Serialize};

/// What a plan must keep to; `None` is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Limits {
    /// Memory of the first tier, in bytes.
    pub edge_memory_bytes: Option<usize>,
    /// Mean latency in milliseconds.
    pub latency_ms: Option<f64>,
    /// Energy per inference on the first tier, in millijoules.
    pub energy_mj: Option<f64>,
    /// The least accuracy, 0 to 1.
    pub accuracy: Option<f64>,
    /// The bill in US dollars per million inferences, rounded as the provider does.
    pub cost_per_million: Option<f64>,
}

/// A limit that an outcome doesn't keep to.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Broken {
    /// Limit that this is about.
    pub limit: Limit,
    /// What the outcome has: bytes, milliseconds, millijoules, US dollars per million inferences, or of accuracy the
    /// share, 0 to 1.
    pub value: f64,
    /// The most that is allowed, or of accuracy the least.
    pub allowed: f64,
}

impl Broken {
    /// In words, as what a plan does.
    pub fn text(&self) -> String {
        let Broken { value, allowed, .. } = *self;
        match self.limit {
            Limit::AccuracyLoss => {
                let (value, allowed) = (100.0 * value, 100.0 * allowed);
                format!("has {value:.1} % where {allowed:.1} % is the least")
            }
            Limit::EdgeMemory => {
                let (value, allowed) = (units::bytes(value), units::bytes(allowed));
                format!("takes {value} where {allowed} is the most")
            }
            Limit::Energy => {
                let (value, allowed) = (energy(value), energy(allowed));
                format!("takes {value} where {allowed} is the most")
            }
            Limit::Latency => format!("takes {value:.2} ms where {allowed:.2} ms is the most"),
            Limit::CostPerMonth | Limit::Load => {
                format!("costs ${value:.2} per million where ${allowed:.2} is the most")
            }
        }
    }

    /// By how much, as a share of the limit.
    fn excess(&self) -> f64 {
        (self.value - self.allowed).abs() / self.allowed.abs().max(f64::MIN_POSITIVE)
    }
}

impl Limits {
    /// Whether an outcome keeps to them.
    pub fn hold(&self, outcome: &Outcome) -> bool {
        self.broken(outcome).next().is_none()
    }

    /// Those that an outcome doesn't keep to.
    pub fn broken(&self, outcome: &Outcome) -> impl Iterator<Item = Broken> {
        let memory = self.edge_memory_bytes.map(|bytes| bytes as f64);
        let cost = outcome.cost_per_million.map_or(0.0, |c| c.rounded);
        let most = [
            (
                Limit::EdgeMemory,
                outcome.memory_bytes(Tier::First) as f64,
                memory,
            ),
            (Limit::Latency, latency(outcome), self.latency_ms),
            (Limit::Energy, outcome.energy_mj(), self.energy_mj),
            (Limit::CostPerMonth, cost, self.cost_per_million),
        ];
        let over = most.into_iter().filter(|(_, value, most)| {
            // What isn't known keeps to no limit.
            most.is_some_and(|most| value.is_nan() || *value > most)
        });
        let under = self.accuracy.filter(|least| outcome.accuracy < *least);
        let under = under.map(|least| (Limit::AccuracyLoss, outcome.accuracy, Some(least)));
        under
            .into_iter()
            .chain(over)
            .map(|(limit, value, allowed)| Broken {
                limit,
                value,
                allowed: allowed.unwrap_or_default(),
            })
    }
}

fn latency(outcome: &Outcome) -> f64 {
    outcome.latency_ms.map_or(f64::INFINITY, |l| l.mean)
}
