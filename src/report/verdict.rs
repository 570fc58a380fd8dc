/*! The verdict, for the report. */

use crate::explore::verdict::Difference;
use crate::explore::{Against, Choice, Verdict};
use crate::plan::TierNames;
use crate::predict::Kind;
use serde::{Deserialize, Serialize};

/// What to deploy, and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VerdictReport {
    /// What to deploy; null where nothing keeps to the goal's limits.
    pub deploy: Option<Choice>,
    /// The choice nearest to the limits where none keeps to them.
    pub nearest: Option<Choice>,
    /// The answer in one sentence.
    pub text: String,
    /// Whether its figures are predicted or measured.
    pub kind: Kind,
    /// Whether the plan keeps to the goal's limits.
    pub feasible: bool,
    /// The plan beside each of the others.
    pub against: Vec<VerdictRow>,
}

/// The plan beside another choice; differences are the plan's figure less the other's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VerdictRow {
    /// What the plan is compared with.
    pub what: Choice,
    /// What it is called in a sentence.
    pub name: String,
    /// Whether the other keeps to the goal's limits.
    pub feasible: bool,
    /// The plan beside the other, in words.
    pub plan_is: String,
    /// Difference of the mean latency in milliseconds, plan minus other.
    pub latency_ms: Option<DifferenceReport>,
    /// Points of accuracy, -100 to 100.
    pub accuracy_points: Option<DifferenceReport>,
    /// US dollars per million inferences.
    pub cost_per_million_usd: f64,
    /// Bytes of the first tier, packed weights, arena and heads.
    pub edge_memory_bytes: f64,
}

/// A mean of paired differences.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct DifferenceReport {
    /// Mean of the differences over the pairs.
    pub difference: f64,
    /// The 95 % interval of the mean.
    pub interval: (f64, f64),
    /// Whether the interval leaves 0 out.
    pub beyond_noise: bool,
    /// Number of samples that both were compared on.
    pub samples: usize,
}

impl From<Difference> for DifferenceReport {
    fn from(d: Difference) -> Self {
        DifferenceReport {
            difference: d.mean,
            interval: d.interval,
            beyond_noise: d.beyond_noise(),
            samples: d.samples,
        }
    }
}

impl VerdictReport {
    /// A verdict in the words of a chain's names.
    pub fn new(verdict: &Verdict, names: &TierNames) -> VerdictReport {
        let row = |row: &Against| VerdictRow {
            what: row.what.clone(),
            name: row.what.name(names),
            feasible: row.feasible,
            plan_is: row.plan_is(),
            latency_ms: row.latency_ms.map(DifferenceReport::from),
            accuracy_points: row.accuracy_points.map(DifferenceReport::from),
            cost_per_million_usd: row.cost_per_million,
            edge_memory_bytes: row.edge_memory_bytes,
        };
        VerdictReport {
            deploy: verdict.deploy.clone(),
            nearest: verdict.nearest.clone(),
            text: verdict.text(names),
            kind: verdict.kind,
            feasible: verdict.feasible,
            against: verdict.against.iter().map(row).collect(),
        }
    }
}
