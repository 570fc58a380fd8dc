/*! The best plan over splits, exits and thresholds, and the accuracy that each budget buys, for the report. */

use super::Figures;
use super::number::{bytes, dollars, energy, ms, percent};
use crate::explore::{Budget, Found, Goal, Joint, Objective, Statistic};
use crate::plan::TierNames;
use serde::{Deserialize, Serialize};

/// Rows of the budget curve as text.
const ROWS: usize = 12;

/// What a search over splits, exits and thresholds found, predicted on calibration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BudgetReport {
    /// Plans that were considered, thresholds apart.
    pub plans: usize,
    /// Whether these are all sets of exits, at most three a part; else those of a spread.
    pub every_set: bool,
    /// The best with one threshold for all exits.
    pub common: FoundReport,
    /// The best with a threshold per exit.
    pub per_exit: FoundReport,
    /// What is to be small.
    pub objective: Objective,
    /// The least that any of the plans can have of it, in its unit; null where it isn't known.
    pub bound: Option<f64>,
    /// What the values of the curve are of.
    pub spent: Objective,
    /// The most accurate plan for each budget, with one threshold for all exits.
    pub curve: Vec<BudgetRow>,
}

/// A plan that was found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FoundReport {
    /// Where it splits, and behind which layers its exits stand, in words.
    pub plan: String,
    /// One per exit, in order of depth.
    pub thresholds: Vec<f64>,
    /// Whether it keeps to the goal's limits.
    pub feasible: bool,
    /// Whether no plan that was considered can be better.
    pub exact: bool,
    /// What it gives.
    pub predicted: Figures,
}

/// A point of the budget curve.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BudgetRow {
    /// Milliseconds, millijoules, bytes or US dollars per million inferences.
    pub value: f64,
    /// Share answered right, 0 to 1.
    pub accuracy: f64,
    /// The plan in words.
    pub plan: String,
    /// The threshold of all its exits.
    pub threshold: Option<f64>,
}

impl BudgetReport {
    /// Of what was found, in the words of a chain's names.
    pub fn new(found: &Joint, goal: &Goal, names: &TierNames) -> BudgetReport {
        let one = |found: &Found| FoundReport {
            plan: found.plan.describe_places(names),
            thresholds: found.plan.exits.iter().map(|e| e.threshold).collect(),
            feasible: found.feasible,
            exact: found.exact,
            predicted: Figures::from(&found.outcome),
        };
        let row = |point: &Budget| BudgetRow {
            value: point.value,
            accuracy: point.accuracy,
            plan: point.plan.describe_places(names),
            threshold: point.plan.exits.first().map(|e| e.threshold),
        };
        BudgetReport {
            plans: found.plans,
            every_set: found.every_set,
            common: one(&found.common),
            per_exit: one(&found.per_exit),
            objective: goal.minimise,
            bound: found.bound,
            spent: found.spent,
            curve: found.curve.iter().map(row).collect(),
        }
    }

    /// What the curve's values are of.
    pub fn unit(&self) -> &'static str {
        match self.spent {
            Objective::Latency(_) => "mean latency",
            Objective::Cost => "cost / 1 M",
            Objective::EdgeMemory => "edge memory",
            Objective::Energy => "energy",
        }
    }

    /// A value of the curve with its unit.
    pub fn written(&self, value: f64) -> String {
        match self.spent {
            Objective::Latency(_) => ms(value),
            Objective::Cost => dollars(value),
            Objective::EdgeMemory => bytes(value),
            Objective::Energy => energy(value),
        }
    }

    fn value_of(&self, figures: &Figures) -> String {
        let latency = |pick: fn(&crate::predict::Latency) -> f64| {
            ms(figures.latency_ms.as_ref().map_or(f64::NAN, pick))
        };
        match self.objective {
            Objective::Latency(Statistic::Mean) => latency(|l| l.mean),
            Objective::Latency(Statistic::P95) => latency(|l| l.p95),
            Objective::Cost => dollars(figures.cost_per_million_usd),
            Objective::EdgeMemory => bytes(figures.edge_memory_bytes as f64),
            Objective::Energy => figures
                .energy
                .map_or(super::number::NONE.into(), |e| energy(e.mj())),
        }
    }

    /// A sentence per plan that was found.
    pub fn sentences(&self) -> Vec<String> {
        let sets = match self.every_set {
            true => "every set of exits",
            false => "the spreads of exits",
        };
        let both = [
            ("one threshold for all exits", &self.common, None),
            ("one threshold per exit", &self.per_exit, self.bound),
        ];
        let one = |(how, found, bound): (&str, &FoundReport, Option<f64>)| {
            let figures = &found.predicted;
            let thresholds: Vec<String> = found.thresholds.iter().map(f64::to_string).collect();
            let at = match thresholds.is_empty() {
                true => String::new(),
                false => format!(" at {}", thresholds.join(", ")),
            };
            let what = match found.feasible {
                true => "the best",
                false => "no plan keeps the goal's limits; the best reachable",
            };
            let sure = match (found.exact, bound) {
                (true, _) => "proved",
                (false, Some(_)) if found.feasible => "the best found in time",
                (false, _) => "by a heuristic",
            };
            let least = match (found.exact, bound) {
                (false, Some(bound)) if found.feasible => {
                    format!("; none can be below {}", self.written(bound))
                }
                _ => String::new(),
            };
            format!(
                "With {how}, {what} is {}{at}: {} and {} ({sure}{least})",
                found.plan,
                self.value_of(figures),
                percent(figures.accuracy)
            )
        };
        let mut said = vec![format!(
            "{} plans over every split and {sets}, predicted on the calibration set",
            super::number::count(self.plans)
        )];
        said.extend(both.map(one));
        said
    }

    /// Some points of the curve, evenly taken, both ends among them.
    pub fn rows(&self) -> impl Iterator<Item = &BudgetRow> {
        let count = self.curve.len();
        let rows = ROWS.min(count);
        (0..rows).map(move |i| &self.curve[i * (count - 1) / (rows - 1).max(1)])
    }
}
