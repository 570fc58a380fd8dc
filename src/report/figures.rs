/*! The numbers of the report, in the form they have in JSON. */

use crate::data::Set;
use crate::plan::Placement;
use crate::plan::{Tier, TierNames};
use crate::predict::{
    Bytes, Cost, Energy, ExitOutcome, HeadPays, HopOutcome, Interval, Intervals, Kind, Latency,
    Outcome, TierOutcome,
};
use serde::{Deserialize, Serialize};

/// What a plan or a baseline gives over a set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// Whether the figures are predicted or measured.
    pub kind: Kind,
    /// Set of samples that the figures are of.
    pub set: Set,
    /// Whether a device or the link was emulated.
    pub emulated: bool,
    /// Whether the cloud's answers are those of F32 tensors though another type travels.
    pub as_f32: bool,
    /// Number of samples.
    pub samples: usize,
    /// Confidence threshold of the exits that have none of their own, 0 to 1.
    pub threshold: f64,
    /// Share answered right, 0 to 1.
    pub accuracy: f64,
    /// Share sent to the cloud, 0 to 1.
    pub offloaded: f64,
    /// Samples the edge had to answer for the cloud.
    pub degraded: usize,
    /// Null where it wasn't measured.
    pub latency_ms: Option<Latency>,
    /// Memory of the first tier.
    pub edge_memory_bytes: usize,
    /// Memory of the last tier of a chain of several.
    pub cloud_memory_bytes: usize,
    /// Mean bytes sent per sample, over all links.
    pub bytes_sent: Bytes,
    /// One per tier, in order.
    #[serde(default)]
    pub tiers: Vec<TierOutcome>,
    /// One per hop, in order.
    #[serde(default)]
    pub hops: Vec<HopOutcome>,
    /// The cloud's bill as the provider rounds; 0 where no cloud is asked.
    pub cost_per_million_usd: f64,
    /// The bill in its three readings; null where no cloud is asked.
    pub bill_usd: Option<Bill>,
    /// Energy per inference on the first tier; null of a run without power rails.
    #[serde(default)]
    pub energy: Option<Energy>,
    /// How sure the accuracy is, and of how many samples, which may be more than ran.
    #[serde(default)]
    pub accuracy_interval: Option<Interval>,
    /// How sure latency and bill are; null of a prediction.
    #[serde(default)]
    pub intervals: Intervals,
}

/// The cloud's bill for a million inferences in US dollars.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Bill {
    /// Times scaled to the tier's clock and rounded up as the provider does.
    pub rounded: f64,
    /// Dollars with times scaled to the reference clock, not rounded up to billing steps.
    pub unrounded: f64,
    /// Dollars with times as measured, rounded up to billing steps.
    pub unscaled: f64,
    /// Memory of the tier, MiB.
    #[serde(alias = "tier_mb")]
    pub tier_mib: usize,
}

impl From<Cost> for Bill {
    fn from(c: Cost) -> Self {
        Bill {
            rounded: c.rounded,
            unrounded: c.unrounded,
            unscaled: c.unscaled,
            tier_mib: c.tier_mib,
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
            offloaded: o.offloaded(),
            degraded: o.degraded,
            latency_ms: o.latency_ms,
            edge_memory_bytes: o.memory_bytes(Tier::First),
            cloud_memory_bytes: o
                .tiers
                .iter()
                .skip(1)
                .next_back()
                .map_or(0, |t| t.memory_bytes),
            bytes_sent: o.bytes_sent(),
            tiers: o.tiers.clone(),
            hops: o.hops.clone(),
            cost_per_million_usd: o.cost_per_million.map_or(0.0, |c| c.rounded),
            bill_usd: o.cost_per_million.map(Bill::from),
            energy: o.energy,
            accuracy_interval: o.accuracy_interval(),
            intervals: o.intervals,
        }
    }
}

impl Figures {
    /// The same with the accuracy over a whole set, which the confidence table tells of samples that
    /// did not run.
    #[must_use]
    pub fn with_accuracy_of(self, whole: &Outcome) -> Figures {
        Figures {
            accuracy: whole.accuracy,
            accuracy_interval: whole.accuracy_interval(),
            ..self
        }
    }
}

/// What leaves at one exit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExitFigures {
    /// Layer behind which the exit stands; null for the final classifier.
    pub after: Option<String>,
    /// What the tier is called in whose part it stands.
    pub part: String,
    /// Its threshold; 0 for the final classifier, which lets everything out.
    pub threshold: f64,
    /// Share of all samples that leave here, 0 to 1.
    pub share: f64,
    /// Share of those that are right; null where nobody leaves.
    pub accuracy: Option<f64>,
}

impl ExitFigures {
    pub(super) fn new(exit: &ExitOutcome, names: &TierNames) -> ExitFigures {
        ExitFigures {
            after: exit.after.clone(),
            part: names.name(exit.tier).to_string(),
            threshold: exit.threshold,
            share: exit.share,
            accuracy: exit.accuracy,
        }
    }
}

/// Whether a head is worth its time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PaysFigures {
    /// Layer behind which it stands.
    pub after: String,
    /// What the tier is called in whose part it stands.
    pub part: String,
    /// Whether the mean latency would be higher without it.
    pub pays: bool,
    /// Mean latency of the plan, milliseconds.
    pub latency_ms: f64,
    /// Mean latency without this exit, at the same thresholds, milliseconds.
    pub latency_without_ms: f64,
    /// Accuracy of the plan, 0 to 1.
    pub accuracy: f64,
    /// Accuracy without this exit, 0 to 1.
    pub accuracy_without: f64,
}

impl PaysFigures {
    pub(super) fn new(pays: &HeadPays, names: &TierNames) -> PaysFigures {
        PaysFigures {
            after: pays.after.clone(),
            part: names.name(pays.tier).to_string(),
            pays: pays.pays,
            latency_ms: pays.latency_ms,
            latency_without_ms: pays.latency_without_ms,
            accuracy: pays.accuracy,
            accuracy_without: pays.accuracy_without,
        }
    }
}

/// What a plan is compared with.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct BaselineFigures {
    /// The unmodified network on the edge; null where it was not measured.
    pub original: Option<Figures>,
    /// The unmodified network in the cloud; null where it was not measured.
    pub cloud_only: Option<Figures>,
    /// The same, its images sent as JPEG files; null where it was not measured.
    #[serde(default)]
    pub cloud_only_jpeg: Option<Figures>,
    /// The plan's exits on the edge, and a JPEG file for the whole network in the cloud where none of them
    /// is sure: predicted; null without such an exit.
    #[serde(default)]
    pub exits_else_image: Option<Figures>,
    /// The edge part, its last exit always answering; null where it has none, or was not measured.
    pub edge_only: Option<Figures>,
}

/// A part as it was assembled on its device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PartFigures {
    /// What its tier is called.
    pub part: String,
    /// Packed weights, arena and heads.
    pub memory_bytes: usize,
    /// The same as it was predicted.
    pub predicted_memory_bytes: usize,
    /// Milliseconds of all its segments and heads one after the other: the sum of their medians.
    pub median_ms: f64,
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
            offloaded: predicted.offloaded() - measured.offloaded(),
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
    /// Confidence threshold of the exits that have none of their own, 0 to 1.
    pub threshold: f64,
    /// Of accuracy; null where cloud-only has none right.
    pub accuracy: Option<f64>,
    /// Mean latency as a multiple of the other's.
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
    /// How the exits are spread: linear or Pareto.
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
