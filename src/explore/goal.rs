/*! What is wanted of a deployment: what to make small, within which limits. */

use super::Limits;
use crate::plan::Tier;
use crate::predict::EnergySettings;
use crate::predict::Outcome;
use crate::units;
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;

/// Seconds in the month that a monthly bill is for: 30 days.
const MONTH_S: f64 = 30.0 * 86_400.0;

/// Which latency of many samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Statistic {
    /// Mean over the samples.
    #[default]
    Mean,
    /// 95th percentile over the samples.
    P95,
}

/// What is to be small.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Objective {
    /// Milliseconds from sample to answer.
    Latency(Statistic),
    /// The bill of all tiers behind the first.
    Cost,
    /// Memory of the first tier.
    EdgeMemory,
    /// Energy per inference on the first tier, computing and radio.
    Energy,
}

impl Default for Objective {
    fn default() -> Self {
        Objective::Latency(Statistic::Mean)
    }
}

impl Objective {
    /// What an outcome has of it, in milliseconds, US dollars per million inferences, bytes or
    /// millijoules; infinite where latency or energy wasn't measured.
    pub fn value(self, outcome: &Outcome) -> f64 {
        let latency = |pick: fn(&crate::predict::Latency) -> f64| {
            outcome.latency_ms.as_ref().map_or(f64::INFINITY, pick)
        };
        match self {
            Objective::Latency(Statistic::Mean) => latency(|l| l.mean),
            Objective::Latency(Statistic::P95) => latency(|l| l.p95),
            Objective::Cost => outcome.cost_per_million.map_or(0.0, |c| c.rounded),
            Objective::EdgeMemory => outcome.memory_bytes(Tier::First) as f64,
            Objective::Energy => outcome.energy.map_or(f64::INFINITY, |energy| energy.mj()),
        }
    }

    /// Orders outcomes, the better first; of equal ones the faster, then the more accurate.
    pub fn compare(self, a: &Outcome, b: &Outcome) -> Ordering {
        let unrounded = |o: &Outcome| o.cost_per_million.map_or(0.0, |c| c.unrounded);
        let exact = match self {
            Objective::Cost => unrounded(a).total_cmp(&unrounded(b)),
            Objective::Latency(_) | Objective::EdgeMemory | Objective::Energy => Ordering::Equal,
        };
        let faster = Objective::default();
        self.value(a)
            .total_cmp(&self.value(b))
            .then(exact)
            .then(faster.value(a).total_cmp(&faster.value(b)))
            .then(b.accuracy.total_cmp(&a.accuracy))
    }
}

/// The limits of a goal; what is absent limits nothing.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Within {
    /// At most so many points of accuracy below the unmodified network, 0 to 100.
    pub accuracy_loss_points: Option<f64>,
    /// Mean milliseconds per sample at most.
    pub latency_ms: Option<f64>,
    /// Bytes of the first tier at most.
    #[serde(deserialize_with = "units::limit")]
    pub edge_memory: Option<usize>,
    /// Millijoules per inference on the first tier at most.
    pub energy_mj: Option<f64>,
    /// US dollars per month of 30 days at most, at `requests_per_second`.
    pub cost_per_month: Option<f64>,
    /// The load that a month's bill is for, and by which a radio is found asleep; 1 where it is absent.
    pub requests_per_second: Option<f64>,
}

impl Default for Within {
    fn default() -> Self {
        Within {
            accuracy_loss_points: Some(1.0),
            latency_ms: None,
            edge_memory: None,
            energy_mj: None,
            cost_per_month: None,
            requests_per_second: None,
        }
    }
}

/// What a session wants: by default the least mean latency within one point of the unmodified
/// network's accuracy.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Goal {
    /// What is to be small.
    pub minimise: Objective,
    /// Limits that a plan has to keep.
    pub within: Within,
}

impl Goal {
    /// The load, in requests per second.
    pub fn rate_hz(&self) -> f64 {
        self.within.requests_per_second.unwrap_or(1.0)
    }

    /// US dollars per month of 30 days for a bill per million inferences, at the goal's load.
    pub fn per_month(&self, usd_per_million: f64) -> f64 {
        usd_per_million * self.rate_hz() * MONTH_S / 1e6
    }

    /// Whether energy counts beside what the goal is about: by the usual picojoules over a cable it tells
    /// nothing that memory and latency don't.
    pub fn asks_energy(&self, settings: &EnergySettings) -> bool {
        *settings != EnergySettings::default()
            || self.minimise == Objective::Energy
            || self.within.energy_mj.is_some()
    }

    /// The limits for a network whose unmodified accuracy is known.
    pub fn limits(&self, unmodified_accuracy: f64) -> Limits {
        let within = &self.within;
        let dollars = within
            .cost_per_month
            .map(|most| most * 1e6 / (self.rate_hz() * MONTH_S));
        Limits {
            edge_memory_bytes: within.edge_memory,
            latency_ms: within.latency_ms,
            energy_mj: within.energy_mj,
            accuracy: within
                .accuracy_loss_points
                .map(|points| unmodified_accuracy - points / 100.0),
            cost_per_million: dollars,
        }
    }

    /// Refuses what no deployment can keep to.
    ///
    /// # Errors
    /// The field of the session that is out of range, and its range.
    pub fn check(&self) -> Result<(), GoalError> {
        for limit in Limit::ALL {
            if let Some(value) = limit.of(&self.within) {
                limit.check(value)?;
            }
        }
        Ok(())
    }
}

/// One of the limits of a goal, or the load that it is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// Points of accuracy below the unmodified network.
    AccuracyLoss,
    /// Milliseconds that a sample takes, by the objective's statistic.
    Latency,
    /// Bytes that the first tier's part takes.
    EdgeMemory,
    /// Millijoules per inference on the first tier.
    Energy,
    /// US dollars per month of 30 days.
    CostPerMonth,
    /// Requests per second that the bill is for.
    Load,
}

impl Limit {
    /// Every limit, in the order of the settings.
    pub const ALL: [Limit; 6] = [
        Limit::AccuracyLoss,
        Limit::Latency,
        Limit::EdgeMemory,
        Limit::Energy,
        Limit::CostPerMonth,
        Limit::Load,
    ];

    /// Its field in the session.
    pub fn field(self) -> &'static str {
        match self {
            Limit::AccuracyLoss => "accuracy_loss_points",
            Limit::Latency => "latency_ms",
            Limit::EdgeMemory => "edge_memory",
            Limit::Energy => "energy_mj",
            Limit::CostPerMonth => "cost_per_month",
            Limit::Load => "requests_per_second",
        }
    }

    /// Which numbers it may be, in words.
    pub fn range(self) -> &'static str {
        match self {
            Limit::AccuracyLoss => "a number from 0 to 100",
            Limit::Latency | Limit::Energy | Limit::CostPerMonth => "a number from 0 up",
            Limit::EdgeMemory => units::BYTES,
            Limit::Load => "a number above 0",
        }
    }

    /// What a goal has of it.
    pub fn of(self, within: &Within) -> Option<f64> {
        match self {
            Limit::AccuracyLoss => within.accuracy_loss_points,
            Limit::Latency => within.latency_ms,
            Limit::EdgeMemory => within.edge_memory.map(|bytes| bytes as f64),
            Limit::Energy => within.energy_mj,
            Limit::CostPerMonth => within.cost_per_month,
            Limit::Load => within.requests_per_second,
        }
    }

    /// Changes it; nothing is no limit.
    ///
    /// # Errors
    /// Where the value is out of range.
    pub fn set(self, within: &mut Within, value: Option<f64>) -> Result<(), GoalError> {
        value.map_or(Ok(()), |value| self.check(value))?;
        match self {
            Limit::AccuracyLoss => within.accuracy_loss_points = value,
            Limit::Latency => within.latency_ms = value,
            Limit::EdgeMemory => within.edge_memory = value.map(|bytes| bytes as usize),
            Limit::Energy => within.energy_mj = value,
            Limit::CostPerMonth => within.cost_per_month = value,
            Limit::Load => within.requests_per_second = value,
        }
        Ok(())
    }

    fn check(self, value: f64) -> Result<(), GoalError> {
        let most = match self {
            Limit::AccuracyLoss => 100.0,
            _ => f64::INFINITY,
        };
        let nothing = self == Limit::Load && value == 0.0;
        if value.is_finite() && (0.0..=most).contains(&value) && !nothing {
            return Ok(());
        }
        Err(GoalError { limit: self, value })
    }
}

/// A limit out of range.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[error("{value}, it must be {}", .limit.range())]
pub struct GoalError {
    /// Limit that this is about.
    pub limit: Limit,
    /// Value that is out of range.
    pub value: f64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case(Limit::AccuracyLoss, 100.0, true)]
    #[case(Limit::AccuracyLoss, 100.5, false)]
    #[case(Limit::Latency, 0.0, true)]
    #[case(Limit::Latency, -1.0, false)]
    #[case(Limit::Latency, f64::NAN, false)]
    #[case(Limit::EdgeMemory, 6e5, true)]
    #[case(Limit::Energy, 12.5, true)]
    #[case(Limit::CostPerMonth, f64::INFINITY, false)]
    #[case(Limit::Load, 0.0, false)]
    #[case(Limit::Load, 0.5, true)]
    fn a_limit_has_a_range(#[case] limit: Limit, #[case] value: f64, #[case] fits: bool) {
        let mut within = Within::default();
        let set = limit.set(&mut within, Some(value));
        assert_eq!(set.is_ok(), fits);
        if fits {
            assert_eq!(limit.of(&within), Some(value));
        }
        limit.set(&mut within, None).unwrap();
        assert_eq!(limit.of(&within), None);
    }
}
