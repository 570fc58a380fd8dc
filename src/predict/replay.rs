/*!
A plan replayed over a confidence table and the devices' profiles: what a run would give, without
running anything.

[`World`] is all that a prediction rests on besides the plan; [`Prepared`] is a plan laid over it
once, its columns borrowed, its times summed, its random draws made. Asking it at another threshold
then takes a walk over the samples and no more, fast enough to follow a key held down. Everything
is a pure function of its arguments, the seed among them.

How latency is predicted. The mean is made of means: the share of samples that reaches a segment times
the mean time of the segment and its head, and for what is offloaded encoding, a round trip on a warm
link, and decoding. Percentiles are made of single samples: each draws one of the recorded runs of the
whole network on either device, and all its segments there take longer or shorter in that proportion.
One draw a device, not one a segment, since what slows a run down (a clock, an interrupt) slows all of
it.
*/

mod baselines;
mod chain;
mod memory;
#[cfg(test)]
pub(crate) mod tests;
mod times;

pub use baselines::{Baselines, baselines};
pub use chain::{Difference, Equality, WITHIN};

use super::billing::{BillingError, Clock, Tier};
use super::outcome::{Cost, ExitOutcome, Kind, Latency, Outcome, Record};
use super::table::TableError;
use super::{Billing, ConfidenceTable, Policy};
use crate::device::{LinkProfile, PartProfile, Profile};
use crate::model::layers::LayerTable;
use crate::plan::Part;
use crate::plan::{Element, Wire};
use crate::plan::{Plan, Split};
use chain::Chain;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use times::Times;

/// Assumed body of the cloud's answer, which leaves the cloud and is billed: class, exit, confidence and
/// duration with their framing.
pub const ANSWER_BYTES: f64 = 64.0;

/// Why a plan can't be replayed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ReplayError {
    /// A column is missing.
    #[error(transparent)]
    Table(#[from] TableError),
    /// There are no samples.
    #[error("the {0:?} table has no samples; give the set some images and build it afresh")]
    Empty(crate::data::Set),
    /// Several heads stand after one layer, and nothing says which is meant.
    #[error(
        "{count} heads were trained after `{after}`; name the one of the {part:?} part by its hash"
    )]
    Ambiguous {
        /// The layer.
        after: String,
        /// The part its exit stands in.
        part: Part,
        /// How many.
        count: usize,
    },
    /// A head without a time.
    #[error("the head after `{after}` (hash {hash}) was not timed on {target}; profile it again")]
    HeadNotTimed {
        /// The layer.
        after: String,
        /// Hash of the head.
        hash: String,
        /// The device.
        target: String,
    },
    /// A profile of another network.
    #[error("the profile of {target} has other layers than `{network}`; profile it again")]
    OtherProfile {
        /// The device.
        target: String,
        /// The network.
        network: String,
    },
    /// A plan that names a layer the network lacks, or whose exits are out of order.
    #[error("the plan doesn't fit `{network}`: {what}; make it anew")]
    OtherPlan {
        /// The network.
        network: String,
        /// What doesn't fit.
        what: String,
    },
    /// Offloading without a link.
    #[error("the link was never measured on a warm connection; measure it first")]
    NoLink,
    /// A record that can't be of this set and plan.
    #[error("record of sample {sample}: {what}; run the plan again")]
    Record {
        /// Number of the sample.
        sample: u32,
        /// What doesn't fit.
        what: &'static str,
    },
    /// There is no bill.
    #[error(transparent)]
    Billing(#[from] BillingError),
}

/// Which head stands at an exit, where several were trained after one layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeadKey {
    /// The layer.
    pub after: String,
    /// The part its exit stands in.
    pub part: Part,
    /// Hash of the rendered head.
    pub hash: String,
}

/// What the cloud's classifiers say of tensors that went over the wire as another element type than
/// F32, for one split.
#[derive(Debug, Clone, PartialEq)]
pub struct WireTable {
    /// Layer before the split.
    pub split_after: String,
    /// Element type on the wire.
    pub element: Element,
    /// The columns behind the split, over the same samples as the table they stand in for.
    pub table: ConfidenceTable,
}

/// The measured parts of one plan. They go before sums of layers wherever that plan is replayed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Assembled {
    /// Where it is cut.
    pub split: Split,
    /// Layer and part of each exit.
    pub exits: Vec<(usize, Part)>,
    /// The edge part, if it was measured.
    pub edge: Option<PartProfile>,
    /// The cloud part, if it was measured.
    pub cloud: Option<PartProfile>,
}

impl Assembled {
    /// What was measured of this plan's parts.
    pub fn new(plan: &Plan, edge: Option<PartProfile>, cloud: Option<PartProfile>) -> Assembled {
        Assembled {
            split: plan.split.clone(),
            exits: plan.exits.iter().map(|e| (e.layer, e.part)).collect(),
            edge,
            cloud,
        }
    }

    fn is_of(&self, plan: &Plan) -> bool {
        let exits = plan.exits.iter().map(|e| (e.layer, e.part));
        self.split == plan.split && self.exits.iter().copied().eq(exits)
    }
}

/// What encoding the split tensor takes, and how far compression takes it, where measured.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Codec {
    /// On the edge, milliseconds.
    pub encode_ms: f64,
    /// In the cloud, milliseconds.
    pub decode_ms: f64,
    /// Compressed bytes as a share of the uncompressed; 1 without compression.
    pub compressed: f64,
}

impl Default for Codec {
    fn default() -> Self {
        Codec {
            encode_ms: 0.0,
            decode_ms: 0.0,
            compressed: 1.0,
        }
    }
}

/// All that a prediction rests on, besides the table and the plan.
#[derive(Debug, Clone, Copy)]
pub struct World<'a> {
    /// The network.
    pub layers: &'a LayerTable,
    /// What was measured on the edge.
    pub edge: &'a Profile,
    /// And in the cloud.
    pub cloud: &'a Profile,
    /// Between them.
    pub link: &'a LinkProfile,
    /// Measure of confidence, common threshold, and the exits with one of their own.
    pub policy: &'a Policy,
    /// How the split tensor travels.
    pub wire: Wire,
    /// Whose prices.
    pub billing: Billing,
    /// What encoding takes.
    pub codec: Codec,
    /// Which head stands where; needed only where several were trained after one layer.
    pub heads: &'a [HeadKey],
    /// Measured parts of any plans.
    pub assembled: &'a [Assembled],
    /// Columns for other element types than F32, of any splits.
    pub wire_tables: &'a [WireTable],
    /// Of the draws behind the percentiles.
    pub seed: u64,
}

impl<'a> World<'a> {
    /// With the default wire and prices, nothing measured but layers, and seed 0; set the other
    /// fields as needed.
    pub fn new(
        layers: &'a LayerTable,
        edge: &'a Profile,
        cloud: &'a Profile,
        link: &'a LinkProfile,
        policy: &'a Policy,
    ) -> World<'a> {
        World {
            layers,
            edge,
            cloud,
            link,
            policy,
            wire: Wire::default(),
            billing: Billing::default(),
            codec: Codec::default(),
            heads: &[],
            assembled: &[],
            wire_tables: &[],
            seed: 0,
        }
    }
}

/// Whether a head is worth its time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HeadPays {
    /// Layer behind which it stands.
    pub after: String,
    /// Its part.
    pub part: Part,
    /// Whether the mean latency would be higher without it.
    pub pays: bool,
    /// Mean latency of the plan, milliseconds.
    pub latency_ms: f64,
    /// And without this exit, at the same thresholds.
    pub latency_without_ms: f64,
    /// Accuracy of the plan, 0 to 1.
    pub accuracy: f64,
    /// And without this exit.
    pub accuracy_without: f64,
}

/// A plan over its world, ready to be asked at any threshold.
#[derive(Debug, Clone)]
pub struct Prepared<'a> {
    chain: Chain<'a>,
    times: Times,
    /// For each sample, how its times on the edge and in the cloud compare with the usual ones.
    pace: Vec<(f32, f32)>,
    common: f64,
    emulated: bool,
    edge_emulated: bool,
    edge_bytes: usize,
    cloud_bytes: usize,
    /// What is rented and on which clock was measured; `None` without a cloud side.
    tier: Option<(Tier, Clock)>,
}

/// What a plan gives over a table, at the plan's own thresholds.
///
/// # Errors
/// As [`Prepared::new`].
pub fn replay(table: &ConfidenceTable, plan: &Plan, world: &World) -> Result<Outcome, ReplayError> {
    Ok(Prepared::new(table, plan, world)?.outcome())
}

impl<'a> Prepared<'a> {
    /// Lays a plan over a table and its world.
    ///
    /// # Errors
    /// Where the plan, the profiles and the network don't belong together, a head has no column or
    /// no time, the link was never measured though the plan offloads, or no tier is large enough.
    pub fn new(
        table: &'a ConfidenceTable,
        plan: &Plan,
        world: &World<'a>,
    ) -> Result<Prepared<'a>, ReplayError> {
        let chain = Chain::new(table, plan, world)?;
        let times = Times::new(&chain, plan, world)?;
        let [edge_bytes, cloud_bytes] = memory::predicted(&chain, plan, world)?;
        let offloads = plan.split != Split::EdgeOnly;
        let tier = if offloads {
            // The process that measured held the whole network; one that holds the part has as
            // much more or less to hold.
            let whole = world.cloud.weight_bytes + world.cloud.arena_bytes;
            let resident = world.cloud.resident_bytes.saturating_sub(whole) + cloud_bytes;
            let clock = Clock {
                ghz: world.cloud.ghz,
                threads: world.cloud.threads,
            };
            Some((world.billing.tier(resident)?, clock))
        } else {
            None
        };
        let emulated = match plan.split {
            Split::EdgeOnly => world.edge.slowdown != 1.0,
            Split::CloudOnly => world.cloud.slowdown != 1.0 || world.link.emulated,
            Split::After(_) => {
                let slowed = [world.edge, world.cloud].iter().any(|p| p.slowdown != 1.0);
                slowed || world.link.emulated
            }
        };
        Ok(Prepared {
            pace: paces(world, table.labels.len()),
            common: world.policy.threshold,
            chain,
            times,
            emulated,
            edge_emulated: world.edge.slowdown != 1.0,
            edge_bytes,
            cloud_bytes,
            tier,
        })
    }

    /// At the plan's own thresholds.
    pub fn outcome(&self) -> Outcome {
        self.answer(&self.chain.planned(), None, self.common)
    }

    /// At a common threshold for all exits, but those the policy names, which keep their own.
    pub fn at(&self, threshold: f64) -> Outcome {
        self.answer(&self.chain.common(threshold), None, threshold)
    }

    /// At a threshold for each exit, in the plan's order. Exits without one keep the plan's; what is
    /// too many is left aside.
    pub fn with_thresholds(&self, thresholds: &[f64]) -> Outcome {
        let mut own = self.chain.planned();
        for (own, threshold) in own.iter_mut().zip(thresholds) {
            *own = *threshold;
        }
        self.answer(&own, None, self.common)
    }

    /// For each exit, what would be without it, at the plan's own thresholds.
    pub fn head_pays(&self) -> Vec<HeadPays> {
        self.pays(self.chain.planned())
    }

    /// Likewise at a common threshold, as [`Prepared::at`].
    pub fn head_pays_at(&self, threshold: f64) -> Vec<HeadPays> {
        self.pays(self.chain.common(threshold))
    }

    /// The edge part alone, its last exit always answering; `None` where the edge part can't
    /// answer. An edge part that is the whole network answers by its final classifier.
    pub fn edge_only(&self) -> Option<Outcome> {
        if self.chain.first_cloud == self.chain.stages.len() {
            return Some(self.outcome());
        }
        let last = self.chain.first_cloud.checked_sub(1)?;
        let mut thresholds = self.chain.planned();
        thresholds[last] = f64::NEG_INFINITY;
        let mut outcome = self.answer(&thresholds, None, self.common);
        outcome.exits.truncate(last + 1);
        if let Some(exit) = outcome.exits.last_mut() {
            exit.threshold = 0.0;
        }
        outcome.emulated = self.edge_emulated;
        outcome.cloud_memory_bytes = 0;
        outcome.cost_per_million = None;
        outcome.as_f32 = false;
        Some(outcome)
    }

    /// A run compared with this replay, sample by sample, at the plan's own thresholds.
    ///
    /// # Errors
    /// Where a record can't be of this set and plan.
    pub fn equality(&self, records: &[Record]) -> Result<Equality, ReplayError> {
        self.chain.equality(records)
    }

    /// Bytes an offloaded sample sends.
    pub fn payload_bytes(&self) -> f64 {
        self.times.payload
    }

    /// Whether both sides' times are of measured parts rather than of sums over layers.
    pub fn from_parts(&self) -> bool {
        self.times.from_parts
    }

    /// Factor by which billed time is longer than measured; `None` without a cloud side or where its
    /// clock isn't known.
    pub fn billing_scale(&self) -> Option<f64> {
        self.tier.and_then(|(tier, clock)| tier.scale(clock))
    }

    fn pays(&self, thresholds: Vec<f64>) -> Vec<HeadPays> {
        let with = self.answer(&thresholds, None, self.common);
        let mean = |o: &Outcome| o.latency_ms.map_or(f64::NAN, |l| l.mean);
        let exits = self.chain.stages.iter().take(thresholds.len()).enumerate();
        exits
            .map(|(k, stage)| {
                let without = self.answer(&thresholds, Some(k), self.common);
                HeadPays {
                    after: stage.after.clone().unwrap_or_default(),
                    part: stage.part,
                    pays: mean(&without) > mean(&with),
                    latency_ms: mean(&with),
                    latency_without_ms: mean(&without),
                    accuracy: with.accuracy,
                    accuracy_without: without.accuracy,
                }
            })
            .collect()
    }

    fn answer(&self, thresholds: &[f64], without: Option<usize>, common: f64) -> Outcome {
        let times = self.times.reaching(without);
        let stages = &self.chain.stages;
        let samples = self.chain.labels.len();
        let mut left = vec![0_usize; stages.len()];
        let mut right = vec![0_usize; stages.len()];
        let mut latencies = Vec::with_capacity(samples);
        let mut cloud_ms = Vec::with_capacity(samples);
        let mut open = thresholds.to_vec();
        if let Some(k) = without {
            open[k] = f64::INFINITY;
        }
        for (i, (&label, &(edge, cloud))) in self.chain.labels.iter().zip(&self.pace).enumerate() {
            let at = self.chain.leaves_at(i, &open);
            left[at] += 1;
            right[at] += usize::from(stages[at].prediction[i] == label);
            let time = &times[at];
            let in_cloud = time.cloud.median * f64::from(cloud);
            if at >= self.chain.first_cloud {
                cloud_ms.push(in_cloud + self.times.decode);
            }
            let on_edge = time.edge.median * f64::from(edge);
            latencies.push((on_edge + time.fixed + in_cloud) as f32);
        }
        let n = samples as f64;
        let mean = left.iter().zip(&times);
        let mean = mean
            .map(|(&count, t)| count as f64 / n * (t.edge.mean + t.fixed + t.cloud.mean))
            .sum();
        let offloaded = left[self.chain.first_cloud..].iter().sum::<usize>() as f64 / n;
        Outcome {
            kind: Kind::Predicted,
            emulated: self.emulated,
            as_f32: self.chain.as_f32,
            set: self.chain.set,
            samples,
            threshold: common,
            accuracy: right.iter().sum::<usize>() as f64 / n,
            exits: self.exits(&left, &right, thresholds),
            offloaded,
            degraded: 0,
            latency_ms: Some(Latency::with_mean(mean, &mut latencies)),
            edge_memory_bytes: self.edge_bytes,
            cloud_memory_bytes: self.cloud_bytes,
            bytes_sent: offloaded * self.times.payload,
            cost_per_million: self.bill(&cloud_ms, samples),
        }
    }

    fn bill(&self, cloud_ms: &[f64], samples: usize) -> Option<Cost> {
        let (tier, clock) = self.tier?;
        Some(tier.per_million(cloud_ms.iter().copied(), samples, clock, ANSWER_BYTES))
    }

    fn exits(&self, left: &[usize], right: &[usize], thresholds: &[f64]) -> Vec<ExitOutcome> {
        let samples = self.chain.labels.len() as f64;
        let stages = self.chain.stages.iter().enumerate();
        stages
            .map(|(k, stage)| ExitOutcome {
                after: stage.after.clone(),
                part: stage.part,
                threshold: thresholds.get(k).copied().unwrap_or(0.0),
                share: left[k] as f64 / samples,
                accuracy: (left[k] > 0).then(|| right[k] as f64 / left[k] as f64),
            })
            .collect()
    }
}

/// For each sample a recorded run of the whole network on either device, as a share of their median.
fn paces(world: &World, samples: usize) -> Vec<(f32, f32)> {
    let mut rng = ChaCha8Rng::seed_from_u64(world.seed);
    let mut draw = |profile: &Profile| {
        let (runs, usual) = (&profile.samples_ms, profile.total_ms.median);
        if runs.is_empty() || usual <= 0.0 {
            return 1.0;
        }
        (runs[rng.random_range(0..runs.len())] / usual) as f32
    };
    (0..samples)
        .map(|_| {
            let edge = draw(world.edge);
            (edge, draw(world.cloud))
        })
        .collect()
}
