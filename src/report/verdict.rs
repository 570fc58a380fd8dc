/*! The verdict, for the report. */

use crate::explore::verdict::Difference;
use crate::explore::{Against, Broken, Choice, Verdict};
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
    /// The limits that it doesn't keep to.
    #[serde(default)]
    pub broken: Vec<Broken>,
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
    /// The limits that it doesn't keep to.
    #[serde(default)]
    pub broken: Vec<Broken>,
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
    /// Millijoules per inference on the first tier; null where one of the two isn't known.
    #[serde(default)]
    pub energy_mj: Option<f64>,
}

impl VerdictRow {
    /// The plan beside the other, in words and with how sure that is.
    pub fn sentence(&self) -> String {
        let broken: Vec<String> = self.broken.iter().map(Broken::text).collect();
        let limits = if broken.is_empty() {
            String::new()
        } else {
            format!(", which {}", broken.join(", and "))
        };
        let latency = self.latency_ms.map(|d| d.text("ms"));
        let accuracy = self.accuracy_points.map(|d| d.text("points"));
        let sure: Vec<String> = latency.into_iter().chain(accuracy).collect();
        let sure = if sure.is_empty() {
            String::new()
        } else {
            format!(" ({})", sure.join("; "))
        };
        format!("beside {}{limits}: {}{sure}", self.name, self.plan_is)
    }
}

impl DifferenceReport {
    fn text(&self, unit: &str) -> String {
        let (low, high) = self.interval;
        let p = self.p_value.map_or(String::new(), |p| {
            if p < 0.001 {
                ", p < 0.001".into()
            } else {
                format!(", p = {p:.3}")
            }
        });
        let n = super::number::count(self.samples);
        let mean = self.difference;
        format!("{mean:+.2} {unit}, 95 % of {low:+.2} to {high:+.2}{p}, n = {n}")
    }
}

/// A mean of paired differences.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct DifferenceReport {
    /// Mean of the differences over the pairs.
    pub difference: f64,
    /// The 95 % interval of the mean.
    pub interval: (f64, f64),
    /// Whether chance alone would hardly make it.
    pub beyond_noise: bool,
    /// Number of samples that both were compared on.
    pub samples: usize,
    /// McNemar's exact test, of differences of accuracy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p_value: Option<f64>,
}

impl From<Difference> for DifferenceReport {
    fn from(d: Difference) -> Self {
        DifferenceReport {
            difference: d.mean,
            interval: d.interval,
            beyond_noise: d.beyond_noise(),
            samples: d.samples,
            p_value: d.p_value,
        }
    }
}

impl VerdictReport {
    /// A verdict in the words of a chain's names.
    pub fn new(verdict: &Verdict, names: &TierNames) -> VerdictReport {
        let row = |row: &Against| VerdictRow {
            what: row.what.clone(),
            name: row.what.name(names),
            feasible: row.is_feasible(),
            broken: row.broken.clone(),
            plan_is: row.plan_is(),
            latency_ms: row.latency_ms.map(DifferenceReport::from),
            accuracy_points: row.accuracy_points.map(DifferenceReport::from),
            cost_per_million_usd: row.cost_per_million,
            edge_memory_bytes: row.edge_memory_bytes,
            energy_mj: row.energy_mj,
        };
        VerdictReport {
            deploy: verdict.deploy.clone(),
            nearest: verdict.nearest.clone(),
            text: verdict.text(names),
            kind: verdict.kind,
            feasible: verdict.is_feasible(),
            broken: verdict.broken.clone(),
            against: verdict.against.iter().map(row).collect(),
        }
    }
}
