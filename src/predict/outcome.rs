/*!
What a plan gives over the samples of a set, in one form whether it was predicted by a replay or
measured by a run; and what a run notes of each sample.
*/

use super::interval::{Interval, Intervals, wilson};
use crate::data::Set;
use crate::device::percentiles;
use crate::plan::Tier;
use serde::{Deserialize, Serialize};

/// A count of bytes; a mean over samples where it has a fraction.
pub type Bytes = f64;

/// Where a number comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, strum::Display)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum Kind {
    /// By a run of the parts on their devices.
    Measured,
    /// By a replay of the confidence table over the profiles.
    Predicted,
}

/// What a run notes of one sample. Times are milliseconds on the first tier's own monotonic clock, but for
/// what the tiers behind tell, which are durations on theirs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(from = "stored::Record")]
pub struct Record {
    /// Number of the sample in its set.
    pub sample: u32,
    /// Exit it left at, counted over the plan's exits in order of depth; their count stands for the final
    /// classifier.
    pub exit: u16,
    /// Class that was answered.
    pub prediction: u16,
    /// Confidence at that exit, by the policy's measure.
    pub confidence: f32,
    /// Whether the last exit before a link had to answer because the tier behind it didn't.
    pub degraded: bool,
    /// From preprocessed tensor in the first tier's memory to answer there; NaN where the run doesn't
    /// measure latency (batches, several samples in flight).
    pub latency_ms: f32,
    /// What each tier that worked for the sample took for it, nearest first: decoding, segments and heads,
    /// its slowdown included. 0 for one that only passes samples on.
    pub tier_ms: Vec<f32>,
    /// One per link over which the sample was sent, nearest first, whether or not an answer came.
    pub hops: Vec<HopRecord>,
}

/// What sending a sample over one link took.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct HopRecord {
    /// Milliseconds to encode the tensor for the wire.
    pub encode_ms: f32,
    /// Round trip less the durations that the tiers behind told.
    pub network_ms: f32,
    /// Bytes of the request's body.
    pub bytes_sent: u32,
}

impl Record {
    /// Whether the sample left the first tier.
    pub fn offloaded(&self) -> bool {
        !self.hops.is_empty()
    }

    /// Bytes sent for it, over all links.
    pub fn bytes_sent(&self) -> u64 {
        self.hops.iter().map(|hop| u64::from(hop.bytes_sent)).sum()
    }
}

/// What one sample adds to an outcome.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SampleResult {
    /// Number of the sample in its set.
    pub sample: u32,
    /// Whether it was answered right.
    pub right: bool,
    /// Milliseconds from sample to answer; NaN where they weren't measured.
    pub latency_ms: f64,
}

/// Milliseconds from preprocessed tensor in edge memory to answer at the edge.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Latency {
    pub mean: f64,
    pub p50: f64,
    pub p95: f64,
    pub p99: f64,
}

impl Latency {
    /// Of single samples; `None` without any, or where one wasn't measured (NaN).
    pub fn of(samples: &[f32]) -> Option<Latency> {
        if samples.is_empty() || samples.iter().any(|ms| ms.is_nan()) {
            return None;
        }
        let sum: f64 = samples.iter().map(|&ms| f64::from(ms)).sum();
        Some(Latency::with_mean(sum / samples.len() as f64, samples))
    }

    /// A mean known from elsewhere with the percentiles ([`percentiles`]) of single samples; without any, the
    /// mean stands for them.
    pub fn with_mean(mean: f64, samples: &[f32]) -> Latency {
        let [p99, p95, p50] = if samples.is_empty() {
            [mean; 3]
        } else {
            percentiles(samples, [99.0, 95.0, 50.0])
        };
        Latency {
            mean,
            p50,
            p95,
            p99,
        }
    }
}

/// Share of the samples, the slowest ones, that one looks at apart; at least one sample.
const FEW: f64 = 0.001;
/// By how much of the mean without them the mean has to be larger for them to be told of.
const MAKES_THE_MEAN: f64 = 0.2;

/// A few samples so slow that they make the mean what it is, as those do that met a link while it was away.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Slowest {
    /// How many they are.
    pub few: usize,
    /// All samples.
    pub samples: usize,
    /// Milliseconds that the fastest of them took, and the slowest.
    pub ms: [f64; 2],
    /// Mean of all samples, in milliseconds.
    pub mean_ms: f64,
    /// Mean of the samples without them, in milliseconds.
    pub without_ms: f64,
}

impl Slowest {
    /// Of the latencies of single samples, in milliseconds; `None` where the mean is all samples', or one
    /// wasn't measured.
    pub fn of(latencies: &[f32]) -> Option<Slowest> {
        let samples = latencies.len();
        let few = ((FEW * samples as f64) as usize).max(1);
        if samples <= few || latencies.iter().any(|ms| ms.is_nan()) {
            return None;
        }
        let mut sorted: Vec<f64> = latencies.iter().map(|&ms| f64::from(ms)).collect();
        sorted.sort_by(f64::total_cmp);
        let (rest, slow) = sorted.split_at(samples - few);
        let mean = |ms: &[f64]| ms.iter().sum::<f64>() / ms.len() as f64;
        let (mean_ms, without_ms) = (mean(&sorted), mean(rest));
        let (Some(&fastest), Some(&slowest)) = (slow.first(), slow.last()) else {
            return None;
        };
        (mean_ms > (1.0 + MAKES_THE_MEAN) * without_ms).then_some(Slowest {
            few,
            samples,
            ms: [fastest, slowest],
            mean_ms,
            without_ms,
        })
    }
}

/// What leaves at one exit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExitOutcome {
    /// Layer behind which the exit stands; `None` for the final classifier.
    pub after: Option<String>,
    /// The tier in whose part it stands.
    #[serde(alias = "part")]
    pub tier: Tier,
    /// Its threshold; 0 for the final classifier, which lets everything out.
    pub threshold: f64,
    /// Share of all samples that leave here, 0 to 1.
    pub share: f64,
    /// Share of those that are right; `None` where nobody leaves.
    pub accuracy: Option<f64>,
}

/// The cloud's bill for a million inferences, in US dollars.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// Durations rounded up as the provider does.
    pub rounded: f64,
    /// Durations as they are.
    pub unrounded: f64,
    /// Rounded, with the measured time as it is, not scaled to the tier's clock.
    pub unscaled: f64,
    /// Memory of the tier that holds the cloud side, in MiB.
    #[serde(alias = "tier_mb")]
    pub tier_mib: usize,
}

impl Cost {
    /// This bill and another one, of the tiers of one run.
    pub fn with(self, other: Cost) -> Cost {
        Cost {
            rounded: self.rounded + other.rounded,
            unrounded: self.unrounded + other.unrounded,
            unscaled: self.unscaled + other.unscaled,
            tier_mib: self.tier_mib.max(other.tier_mib),
        }
    }
}

/// Where what is known of a board's power comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Power {
    /// Its power rails, integrated over the run: all that hangs on them, the radio too where it does.
    Run,
    /// Its power rails while it was profiled, times the predicted time.
    Rails,
    /// The session's `energy.watts`, times the predicted time.
    Watts,
    /// The session's picojoules per multiply-accumulate and per byte.
    Model,
}

impl Power {
    /// As files have it.
    pub fn name(self) -> &'static str {
        match self {
            Power::Run => "run",
            Power::Rails => "rails",
            Power::Watts => "watts",
            Power::Model => "model",
        }
    }

    /// In words.
    pub fn text(self) -> &'static str {
        match self {
            Power::Run => "the board's rails over the run",
            Power::Rails => "the board's rails in the profile",
            Power::Watts => "the session's watts",
            Power::Model => "a model by MACs and bytes",
        }
    }
}

/// Energy per inference on the first tier.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Energy {
    /// Millijoules to compute; of a measured run those of the whole board.
    pub compute_mj: f64,
    /// Millijoules of the radio; absent where it isn't told apart.
    pub radio_mj: Option<f64>,
    /// Where the power comes from.
    pub power: Power,
}

impl Energy {
    /// Millijoules in all.
    pub fn mj(&self) -> f64 {
        self.compute_mj + self.radio_mj.unwrap_or(0.0)
    }
}

/// What a tier takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TierOutcome {
    /// Predicted, packed weights, arena and heads of the tier's part; measured, peak resident memory
    /// of its process. 0 for a tier that runs nothing.
    pub memory_bytes: usize,
}

/// What crosses the link between a tier and the next.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct HopOutcome {
    /// Share of all samples sent on, 0 to 1.
    pub share: f64,
    /// Mean bytes sent per sample, over all samples.
    pub bytes_sent: Bytes,
}

/// What a plan gives over a set of samples.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(from = "stored::Outcome")]
pub struct Outcome {
    /// Whether the figures are predicted or measured.
    pub kind: Kind,
    /// Whether a device or the link was emulated.
    pub emulated: bool,
    /// Whether the cloud's answers are those of F32 tensors though the wire carries another type.
    pub as_f32: bool,
    /// The set of the samples.
    pub set: Set,
    /// Number of samples.
    pub samples: usize,
    /// Confidence threshold of the exits that have none of their own, 0 to 1.
    pub threshold: f64,
    /// Share answered right, 0 to 1.
    pub accuracy: f64,
    /// In order of depth, the final classifier last.
    pub exits: Vec<ExitOutcome>,
    /// One per tier, in order.
    pub tiers: Vec<TierOutcome>,
    /// One per hop, in order.
    pub hops: Vec<HopOutcome>,
    /// Samples the last exit before a link had to answer because nobody was behind it.
    pub degraded: usize,
    /// `None` where it wasn't measured.
    pub latency_ms: Option<Latency>,
    /// The bill of all tiers behind the first for a million inferences; `None` without one to bill.
    pub cost_per_million: Option<Cost>,
    /// Energy per inference on the first tier; `None` of a run without power rails.
    pub energy: Option<Energy>,
    /// How sure latency and bill are; none of a prediction, and of what ran before they were kept.
    pub intervals: Intervals,
}

impl Outcome {
    /// How sure the accuracy is: Wilson's interval of the share answered right.
    pub fn accuracy_interval(&self) -> Option<Interval> {
        let right = (self.accuracy * self.samples as f64).round() as usize;
        wilson(right, self.samples)
    }

    /// Millijoules per inference on the first tier; NaN where they aren't known.
    pub fn energy_mj(&self) -> f64 {
        self.energy.map_or(f64::NAN, |energy| energy.mj())
    }

    /// Memory of a tier; 0 for one the plan doesn't have.
    pub fn memory_bytes(&self, tier: Tier) -> usize {
        self.tiers.get(tier.index()).map_or(0, |t| t.memory_bytes)
    }

    /// Share of samples that leave the first tier.
    pub fn offloaded(&self) -> f64 {
        self.hops.first().map_or(0.0, |hop| hop.share)
    }

    /// Mean bytes sent per sample, over all links.
    pub fn bytes_sent(&self) -> Bytes {
        self.hops.iter().map(|hop| hop.bytes_sent).sum()
    }
}

mod stored {
    /*! Outcomes and records as files hold them: those of version 1 knew an edge and a cloud. */

    use super::{
        Cost, Energy, ExitOutcome, HopOutcome, HopRecord, Intervals, Kind, Latency, Set,
        TierOutcome,
    };
    use serde::Deserialize;

    #[derive(Deserialize)]
    #[serde(rename = "Record")]
    pub(super) struct Record {
        sample: u32,
        exit: u16,
        prediction: u16,
        confidence: f32,
        degraded: bool,
        latency_ms: f32,
        #[serde(default)]
        tier_ms: Vec<f32>,
        #[serde(default)]
        hops: Vec<HopRecord>,
        #[serde(default)]
        offloaded: bool,
        #[serde(default)]
        edge_ms: f32,
        #[serde(default)]
        encode_ms: f32,
        #[serde(default)]
        network_ms: f32,
        #[serde(default)]
        cloud_ms: f32,
        #[serde(default)]
        bytes_sent: u32,
    }

    impl From<Record> for super::Record {
        fn from(stored: Record) -> super::Record {
            let (mut tier_ms, mut hops) = (stored.tier_ms, stored.hops);
            if tier_ms.is_empty() {
                tier_ms.push(stored.edge_ms);
                if stored.offloaded {
                    hops.push(HopRecord {
                        encode_ms: stored.encode_ms,
                        network_ms: stored.network_ms,
                        bytes_sent: stored.bytes_sent,
                    });
                }
                if stored.offloaded && !stored.degraded {
                    tier_ms.push(stored.cloud_ms);
                }
            }
            super::Record {
                sample: stored.sample,
                exit: stored.exit,
                prediction: stored.prediction,
                confidence: stored.confidence,
                degraded: stored.degraded,
                latency_ms: stored.latency_ms,
                tier_ms,
                hops,
            }
        }
    }

    #[derive(Deserialize)]
    pub(super) struct Outcome {
        kind: Kind,
        emulated: bool,
        as_f32: bool,
        set: Set,
        samples: usize,
        threshold: f64,
        accuracy: f64,
        exits: Vec<ExitOutcome>,
        #[serde(default)]
        tiers: Vec<TierOutcome>,
        #[serde(default)]
        hops: Vec<HopOutcome>,
        degraded: usize,
        latency_ms: Option<Latency>,
        cost_per_million: Option<Cost>,
        #[serde(default)]
        energy: Option<Energy>,
        #[serde(default)]
        intervals: Intervals,
        #[serde(default)]
        offloaded: f64,
        #[serde(default)]
        bytes_sent: f64,
        #[serde(default)]
        edge_memory_bytes: usize,
        #[serde(default)]
        cloud_memory_bytes: usize,
    }

    impl From<Outcome> for super::Outcome {
        fn from(stored: Outcome) -> super::Outcome {
            let (mut tiers, mut hops) = (stored.tiers, stored.hops);
            if tiers.is_empty() {
                let memory = [stored.edge_memory_bytes, stored.cloud_memory_bytes];
                tiers = memory
                    .map(|memory_bytes| TierOutcome { memory_bytes })
                    .into();
                hops = vec![HopOutcome {
                    share: stored.offloaded,
                    bytes_sent: stored.bytes_sent,
                }];
            }
            super::Outcome {
                kind: stored.kind,
                emulated: stored.emulated,
                as_f32: stored.as_f32,
                set: stored.set,
                samples: stored.samples,
                threshold: stored.threshold,
                accuracy: stored.accuracy,
                exits: stored.exits,
                tiers,
                hops,
                degraded: stored.degraded,
                latency_ms: stored.latency_ms,
                cost_per_million: stored.cost_per_million,
                energy: stored.energy,
                intervals: stored.intervals,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_profiles() {
        let samples: Vec<f32> = (1..=200).rev().map(|i| i as f32).collect();
        let latency = Latency::of(&samples).unwrap();
        let found = [latency.mean, latency.p50, latency.p95, latency.p99];
        // numpy.percentile's.
        for (found, expected) in found.iter().zip([100.5, 100.5, 190.05, 198.01]) {
            assert!((found - expected).abs() < 1e-9, "{found} {expected}");
        }
        let one = Latency::of(&[3.0]).unwrap();
        assert_eq!([one.p50, one.p95, one.p99], [3.0; 3]);
    }

    #[test]
    fn a_record_of_version_1_is_one_of_two_tiers() {
        let old = |offloaded, degraded| {
            let text = format!(
                "(sample: 3, exit: 1, prediction: 2, confidence: 0.5, offloaded: {offloaded}, degraded: \
                 {degraded}, latency_ms: 9.0, edge_ms: 1.0, encode_ms: 2.0, network_ms: 3.0, cloud_ms: 4.0, \
                 bytes_sent: 5)"
            );
            ron::from_str::<Record>(&text).unwrap()
        };
        let hop = HopRecord {
            encode_ms: 2.0,
            network_ms: 3.0,
            bytes_sent: 5,
        };
        let now = |record: &Record| (record.tier_ms.clone(), record.hops.clone());
        assert_eq!(now(&old(false, false)), (vec![1.0], vec![]));
        assert_eq!(now(&old(true, true)), (vec![1.0], vec![hop]));
        let whole = old(true, false);
        assert_eq!(now(&whole), (vec![1.0, 4.0], vec![hop]));
        let written = ron::to_string(&whole).unwrap();
        assert_eq!(ron::from_str::<Record>(&written).unwrap(), whole);
    }

    #[test]
    fn a_sample_that_makes_the_mean_is_told_of() {
        // A link was away for 70 s: numpy's mean of these is 15.600014 ms, without the last 1.46 ms.
        let mut ms = vec![1.46_f32; 4999];
        assert_eq!(Slowest::of(&ms), None);
        ms.insert(7, 70_700.0);
        let found = Slowest::of(&ms).unwrap();
        assert_eq!((found.few, found.samples), (5, 5000));
        assert_eq!(found.ms[1], 70_700.0);
        assert!((found.mean_ms - 15.600).abs() < 1e-3 && (found.without_ms - 1.46).abs() < 1e-6);
        ms[0] = f32::NAN;
        assert_eq!(Slowest::of(&ms), None);
    }

    #[test]
    fn what_was_not_measured_has_no_latency() {
        assert_eq!(Latency::of(&[1.0, f32::NAN]), None);
        assert_eq!(Latency::of(&[]), None);
    }
}
