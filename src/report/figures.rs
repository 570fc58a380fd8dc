/*! The numbers of the report, in the form they have in JSON. */

use crate::data::Set;
use crate::plan::Placement;
use crate::predict::{Bytes, Cost, Kind, Latency, Outcome};
use serde::{Deserialize, Serialize};

/// What a plan or a baseline gives over a set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// Predicted or measured.
    pub kind: Kind,
    /// On which set.
    pub set: Set,
    /// Whether a device or the link was emulated.
    pub emulated: bool,
    /// Whether the cloud's answers are those of F32 tensors though another type travels.
    pub as_f32: bool,
    /// Samples.
    pub samples: usize,
    /// The common threshold.
    pub threshold: f64,
    /// Share answered right, 0 to 1.
    pub accuracy: f64,
    /// Share sent to the cloud, 0 to 1.
    pub offloaded: f64,
    /// Samples the edge had to answer for the cloud.
    pub degraded: usize,
    /// Null where it wasn't measured.
    pub latency_ms: Option<Latency>,
    /// Edge side.
    pub edge_memory_bytes: usize,
    /// Cloud side.
    pub cloud_memory_bytes: usize,
    /// Mean bytes sent to the cloud a sample.
    pub bytes_sent: Bytes,
    /// The cloud's bill as the provider rounds; 0 where no cloud is asked.
    pub cost_per_million_usd: f64,
    /// The bill in its three readings; null where no cloud is asked.
    pub bill_usd: Option<Bill>,
}

/// The cloud's bill for a million inferences in US dollars.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Bill {
    /// Times scaled to the tier's clock and rounded up as the provider does.
    pub rounded: f64,
    /// Scaled, not rounded.
    pub unrounded: f64,
    /// As measured, rounded.
    pub unscaled: f64,
    /// Memory of the tier, MB.
    pub tier_mb: usize,
}

impl From<Cost> for Bill {
    fn from(c: Cost) -> Self {
        Bill {
            rounded: c.rounded,
            unrounded: c.unrounded,
            unscaled: c.unscaled,
            tier_mb: c.tier_mb,
        }
    }
}

impl From<&Outcome> for Figures {
    fn from(o: &Outcome) -> Self {
        Figures {
            kind: o.kind,
            set: o.set,
            emulated: o.emulated,
            as_f32: o.as_f32,
            samples: o.samples,
            threshold: o.threshold,
            accuracy: o.accuracy,
            offloaded: o.offloaded,
            degraded: o.degraded,
            latency_ms: o.latency_ms,
            edge_memory_bytes: o.edge_memory_bytes,
            cloud_memory_bytes: o.cloud_memory_bytes,
            bytes_sent: o.bytes_sent,
            cost_per_million_usd: o.cost_per_million.map_or(0.0, |c| c.rounded),
            bill_usd: o.cost_per_million.map(Bill::from),
        }
    }
}

/// What a plan is compared with.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct BaselineFigures {
    /// The unmodified network on the edge.
    pub original: Option<Figures>,
    /// The unmodified network in the cloud.
    pub cloud_only: Option<Figures>,
    /// The edge part, its last exit always answering; null where it has none.
    pub edge_only: Option<Figures>,
}

/// How far a prediction is off the measurement on the same set.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PredictionError {
    /// Predicted less measured accuracy.
    pub accuracy: f64,
    /// Predicted less measured share offloaded.
    pub offloaded: f64,
    /// Predicted ÷ measured − 1, of the mean and each percentile; null without a measured latency.
    pub latency: Option<Latency>,
}

impl PredictionError {
    /// Of this prediction against this measurement.
    pub fn new(predicted: &Outcome, measured: &Outcome) -> PredictionError {
        let off = |p: f64, m: f64| if m > 0.0 { p / m - 1.0 } else { 0.0 };
        let latency = predicted.latency_ms.zip(measured.latency_ms);
        PredictionError {
            accuracy: predicted.accuracy - measured.accuracy,
            offloaded: predicted.offloaded - measured.offloaded,
            latency: latency.map(|(p, m)| Latency {
                mean: off(p.mean, m.mean),
                p50: off(p.p50, m.p50),
                p95: off(p.p95, m.p95),
                p99: off(p.p99, m.p99),
            }),
        }
    }
}

/// A plan's numbers divided by those of the unmodified network in the cloud.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Ratios {
    /// The common threshold.
    pub threshold: f64,
    /// Of accuracy; null where cloud-only has none right.
    pub accuracy: Option<f64>,
    /// Of mean latency.
    pub latency: Option<f64>,
    /// Of the rounded bill.
    pub cost: Option<f64>,
}

impl Ratios {
    /// Of an outcome to the unmodified network in the cloud.
    pub fn new(outcome: &Outcome, cloud_only: &Outcome) -> Ratios {
        let ratio = |part: f64, whole: f64| (whole > 0.0).then(|| part / whole);
        let latency = outcome.latency_ms.zip(cloud_only.latency_ms);
        let whole = cloud_only.cost_per_million;
        let cost = outcome.cost_per_million.map_or(0.0, |c| c.rounded);
        Ratios {
            threshold: outcome.threshold,
            accuracy: ratio(outcome.accuracy, cloud_only.accuracy),
            latency: latency.and_then(|(own, whole)| ratio(own.mean, whole.mean)),
            cost: whole.and_then(|whole| ratio(cost, whole.rounded)),
        }
    }
}

/// A placement of exits, beside the others.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlacementReport {
    /// Linear or Pareto.
    pub placement: Placement,
    /// Layers behind which its exits stand.
    pub exits: Vec<String>,
    /// At the plan's threshold, as ratios to cloud-only.
    pub ratios: Ratios,
    /// At the plan's threshold.
    pub figures: Figures,
    /// At each threshold of the sweep, as ratios to cloud-only.
    pub sweep: Vec<Ratios>,
}
