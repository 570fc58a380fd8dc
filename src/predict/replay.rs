/*!
A plan replayed over a confidence table and the devices' profiles: what a run would give, without
running anything.

[`Evidence`] is all that a prediction rests on besides the plan and its [`Terms`]; [`PreparedPlan`] is
a plan laid over it once, its columns borrowed, its times summed, its random draws made. Asking it at another threshold
then takes a walk over the samples and no more, fast enough to follow a key held down. Everything
is a pure function of its arguments, the seed among them.

How latency is predicted, for every plan alike. A sample takes the medians of the segments and heads
that it meets, and a round trip on a warm link for each tensor that is sent on. Layers' medians are
scaled so that together they take what the whole network does. Each device runs at a pace: for
percentiles a sample draws one of the recorded runs of the whole network, and all it meets there takes
longer or shorter in that proportion (one draw per device, not one per segment, since what slows a run
down, a clock or an interrupt, slows all of it). For the mean the pace is the mean of those runs, those
above their 95th percentile counted as that percentile: a stall in the profile is no property of the
plan, and a plain mean would carry it into every plan.
*/

mod baselines;
mod chain;
mod energy;
mod held;
mod memory;
#[cfg(test)]
pub(crate) mod tests;
mod times;
mod ways;

pub use baselines::{Baselines, baselines};
pub use chain::{Difference, Equality, Met, WITHIN, combinations, met};
pub use held::{Harm, HeldBack, harm_on_test, parted};
pub use ways::Ways;

use super::ConfidenceTable;
use super::billing::{BillingError, Clock, MemoryTier};
use super::energy::Spending;
use super::evidence::{Evidence, Missing, Terms};
use super::interval::Intervals;
use super::outcome::{
    Cost, ExitOutcome, HopOutcome, Kind, Latency, Outcome, Record, SampleResult, TierOutcome,
};
use super::table::TableError;
use crate::data::Set;
use crate::device::winsorised_mean;
use crate::plan::{Element, Plan, PlannedExit, Tier};
use chain::Chain;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use times::{Pace, Times};

/// Assumed body of the cloud's answer, which leaves the cloud and is billed: class, exit, confidence and
/// duration with their framing.
pub const ANSWER_BYTES: f64 = 64.0;

/// Why a plan can't be replayed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ReplayError {
    /// Something was never measured or computed.
    #[error(transparent)]
    Missing(#[from] Missing),
    /// A column is missing.
    #[error(transparent)]
    Table(#[from] TableError),
    /// There are no samples.
    #[error("the {0} table has no samples; give the set some images and build it afresh")]
    Empty(crate::data::Set),
    /// Several heads stand after one layer, and nothing says which is meant.
    #[error(
        "{count} heads were trained after `{after}`; name the one of the {tier:?} tier by its hash"
    )]
    Ambiguous {
        /// Layer after which the exit stands.
        after: String,
        /// The tier in whose part the exit stands.
        tier: Tier,
        /// Number of heads behind that layer.
        count: usize,
    },
    /// A head without a time.
    #[error("the head after `{after}` (hash {hash}) was not timed on {target}; profile it again")]
    HeadNotTimed {
        /// Layer after which the exit stands.
        after: String,
        /// Hash of the head.
        hash: String,
        /// Machine that was profiled.
        target: String,
    },
    /// A profile of another network.
    #[error("the profile of {target} has other layers than `{network}`; profile it again")]
    OtherProfile {
        /// Machine that was profiled.
        target: String,
        /// Name of the network.
        network: String,
    },
    /// A profile without the memory of one of the plan's segments.
    #[error(
        "the profile of {target} doesn't tell the memory of the layers `{from}` to `{to}`; profile it \
         again"
    )]
    NoMemory {
        /// Machine that was profiled.
        target: String,
        /// The segment's first layer.
        from: String,
        /// Last layer of the segment.
        to: String,
    },
    /// A profile without the times of the plan's segments.
    #[error(transparent)]
    NotTimed(#[from] crate::device::NotTimed),
    /// A plan that names a layer the network lacks, or whose exits are out of order.
    #[error("the plan doesn't fit `{network}`: {what}; make it anew")]
    OtherPlan {
        /// Name of the network.
        network: String,
        /// What doesn't fit, in words.
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
        /// What doesn't fit, in words.
        what: &'static str,
    },
    /// Whoever asked wants no answer any more.
    #[error("stopped")]
    Stopped,
    /// An exit whose confidence can't be told.
    #[error(transparent)]
    Policy(#[from] super::policy::PolicyError),
    /// There is no bill.
    #[error(transparent)]
    Billing(#[from] BillingError),
}

/// Which head stands at an exit, where several were trained after one layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeadKey {
    /// Layer after which the exit stands.
    pub after: String,
    /// The tier in whose part its exit stands.
    #[serde(alias = "part")]
    pub tier: Tier,
    /// Hash of the rendered head.
    pub hash: String,
}

impl HeadKey {
    /// The key of the head that stands at an exit of a plan; absent where none was named.
    pub fn find<'a>(keys: &'a [HeadKey], exit: &PlannedExit) -> Option<&'a HeadKey> {
        let stands = |key: &&HeadKey| key.after == exit.after && key.tier == exit.tier;
        keys.iter().find(stands)
    }
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

/// Whether a head is worth its time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HeadPays {
    /// Layer behind which it stands.
    pub after: String,
    /// The tier in whose part it stands.
    #[serde(alias = "part")]
    pub tier: Tier,
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

/// A plan over its evidence, ready to be asked at any threshold.
#[derive(Debug, Clone)]
pub struct PreparedPlan<'a> {
    chain: Chain<'a>,
    times: Times,
    /// For each sample, how its times on each tier and link compare with the usual ones.
    jitter: Vec<Pace<f32>>,
    /// How they compare in the mean.
    pace: Pace<f64>,
    common: f64,
    emulated: bool,
    /// Whether the first tier alone is.
    first_emulated: bool,
    /// Bytes of each tier's part.
    memory_bytes: Vec<usize>,
    /// What is rented for a tier and on which clock was measured, for tiers behind the first that
    /// run something.
    rented: Vec<(Tier, MemoryTier, Clock)>,
    spending: Spending,
    /// For each sample, whether it finds a radio asleep and how long it waits then; empty where none waits.
    sleeps: Vec<Sleep>,
}

/// A sample's draws of whether it finds the radio asleep.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Sleep {
    /// It does where this is below the share of those that do, 0 to 1.
    luck: f64,
    /// Milliseconds that it waits then.
    wait_ms: f64,
}

/// What a plan gives over a set, at the plan's own thresholds.
///
/// # Errors
/// As [`PreparedPlan::new`].
pub fn replay(
    evidence: &Evidence,
    terms: &Terms,
    set: Set,
    plan: &Plan,
) -> Result<Outcome, ReplayError> {
    Ok(PreparedPlan::new(evidence, terms, set, plan)?.outcome())
}

impl<'a> PreparedPlan<'a> {
    /// Lays a plan over the answers of a set and the profiles of the tiers it uses.
    ///
    /// # Errors
    /// Where the plan, the profiles and the network don't belong together, a head has no column or
    /// no time, a link that the plan uses was never measured, or no memory tier is large enough.
    pub fn new(
        evidence: &'a Evidence,
        terms: &Terms,
        set: Set,
        plan: &Plan,
    ) -> Result<PreparedPlan<'a>, ReplayError> {
        let answers = evidence.answers(set)?;
        let chain = Chain::new(evidence, terms, answers, plan)?;
        let times = Times::new(&chain, plan, evidence, terms)?;
        let memory_bytes = memory::predicted(&chain, plan, evidence)?;
        let mut rented = Vec::new();
        let mut emulated = false;
        for tier in plan.chain() {
            let rows = plan.rows(tier, evidence.layers.layers.len());
            if rows.is_empty() {
                continue;
            }
            let profile = evidence.profile(tier)?;
            emulated |= profile.slowdown != 1.0;
            if tier == Tier::First {
                continue;
            }
            // The process that measured held the whole network; one that holds the part has as
            // much more or less to hold.
            let whole = profile.weight_bytes + profile.arena_bytes;
            let part = memory_bytes[tier.index()];
            let resident = profile.resident_bytes.saturating_sub(whole) + part;
            let clock = Clock {
                ghz: profile.ghz,
                threads: profile.threads,
            };
            rented.push((tier, terms.billing.tier(resident)?, clock));
        }
        for tier in Tier::chain(plan.last_tier().index()) {
            emulated |= evidence.link(tier)?.emulated;
        }
        let first = evidence.profile(Tier::First);
        let spending = energy::spending(&chain, &times, plan, evidence, terms)?;
        let samples = answers.table.labels.len();
        Ok(PreparedPlan {
            sleeps: energy::sleeps(spending.radio, terms.seed, samples),
            spending,
            pace: pace(evidence),
            jitter: jitters(evidence, terms.seed, samples),
            common: terms.policy.threshold,
            chain,
            times,
            emulated,
            first_emulated: first.is_ok_and(|p| p.slowdown != 1.0),
            memory_bytes,
            rented,
        })
    }

    /// Memory in MiB that is rented for a tier; `None` of one that isn't billed.
    pub fn rented_mib(&self, tier: Tier) -> Option<usize> {
        let rented = self.rented.iter().find(|(at, ..)| *at == tier);
        rented.map(|(_, memory, _)| memory.mib)
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

    /// The first tier's part alone, its last exit always answering; `None` where that part can't
    /// answer. A part that is the whole network answers by its final classifier.
    pub fn edge_only(&self) -> Option<Outcome> {
        let here = self.chain.stages.iter();
        let here = here.take_while(|s| s.tier == Tier::First).count();
        if here == self.chain.stages.len() {
            return Some(self.outcome());
        }
        let last = here.checked_sub(1)?;
        let mut thresholds = self.chain.planned();
        thresholds[last] = f64::NEG_INFINITY;
        let mut outcome = self.answer(&thresholds, None, self.common);
        outcome.exits.truncate(last + 1);
        if let Some(exit) = outcome.exits.last_mut() {
            exit.threshold = 0.0;
        }
        outcome.emulated = self.first_emulated;
        for tier in outcome.tiers.iter_mut().skip(1) {
            tier.memory_bytes = 0;
        }
        outcome.cost_per_million = None;
        outcome.as_f32 = false;
        // Alone, the part has no radio.
        if let Some(energy) = &mut outcome.energy {
            energy.radio_mj = Some(0.0);
        }
        Some(outcome)
    }

    /// Each sample at the plan's own thresholds, by number of the sample; latencies are expected ones,
    /// whose mean is the outcome's.
    pub fn samples(&self) -> Vec<SampleResult> {
        self.each(&self.chain.planned())
    }

    /// Each sample of [`PreparedPlan::edge_only`].
    pub fn edge_only_samples(&self) -> Option<Vec<SampleResult>> {
        let here = self.chain.stages.iter();
        let here = here.take_while(|s| s.tier == Tier::First).count();
        let mut thresholds = self.chain.planned();
        if here < self.chain.stages.len() {
            thresholds[here.checked_sub(1)?] = f64::NEG_INFINITY;
        }
        Some(self.each(&thresholds))
    }

    fn each(&self, thresholds: &[f64]) -> Vec<SampleResult> {
        let times = self.times.reaching(None);
        let stages = self.chain.leave(thresholds).into_iter();
        let stages: Vec<usize> = stages.map(usize::from).collect();
        let sent = stages.iter().filter(|at| times[**at].hops > 0).count();
        let wait = self.spending.wait_ms(sent as f64 / stages.len() as f64);
        let all = stages.into_iter().zip(self.chain.labels).enumerate();
        all.map(|(sample, (at, &label))| SampleResult {
            sample: sample as u32,
            right: self.chain.stages[at].prediction[sample] == label,
            latency_ms: times[at].at(&self.pace) + if times[at].hops > 0 { wait } else { 0.0 },
        })
        .collect()
    }

    /// A run compared with this replay, sample by sample, at the plan's own thresholds.
    ///
    /// # Errors
    /// Where a record can't be of this set and plan.
    pub fn equality(&self, records: &[Record]) -> Result<Equality, ReplayError> {
        self.chain.equality(records)
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
                    tier: stage.tier,
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
        let mut billed_ms: Vec<Vec<f64>> = vec![Vec::new(); self.rented.len()];
        let mut sent = Vec::new();
        let mut open = thresholds.to_vec();
        if let Some(k) = without {
            open[k] = f64::INFINITY;
        }
        let leave = self.chain.leave(&open);
        let all = self.chain.labels.iter().zip(&self.jitter).zip(leave);
        for (i, ((&label, jitter), at)) in all.enumerate() {
            let at = usize::from(at);
            left[at] += 1;
            right[at] += usize::from(stages[at].prediction[i] == label);
            let spent = &times[at];
            let ms = |tier: Tier| {
                let index = tier.index();
                spent.tiers[index] * f64::from(jitter.tiers[index])
            };
            for ((tier, ..), billed) in self.rented.iter().zip(&mut billed_ms) {
                if *tier <= stages[at].tier {
                    billed.push(ms(*tier));
                }
            }
            latencies.push(spent.at(jitter) as f32);
            if !self.sleeps.is_empty() && spent.hops > 0 {
                sent.push(i);
            }
        }
        let n = samples as f64;
        let hops = self.hops(&left);
        let share = hops.first().map_or(0.0, |hop| hop.share);
        let asleep = self.spending.radio.filter(|_| !self.sleeps.is_empty());
        let asleep = asleep.map_or(0.0, |radio| radio.asleep(self.spending.rate_hz, share));
        for i in sent {
            let Sleep { luck, wait_ms } = self.sleeps[i];
            if luck < asleep {
                latencies[i] += wait_ms as f32;
            }
        }
        let shares: Vec<f64> = left.iter().map(|&count| count as f64 / n).collect();
        let mean = shares.iter().zip(&times);
        let mean = mean
            .map(|(share, spent)| share * spent.at(&self.pace))
            .sum::<f64>();
        let mean = mean + share * self.spending.wait_ms(share);
        let reached = energy::reached(&times, &self.pace);
        let spent = self.spending.stages(&reached, without);
        let memory = self.memory_bytes.iter();
        Outcome {
            kind: Kind::Predicted,
            emulated: self.emulated,
            as_f32: self.chain.as_f32,
            set: self.chain.set,
            samples,
            threshold: common,
            accuracy: right.iter().sum::<usize>() as f64 / n,
            exits: self.exits(&left, &right, thresholds),
            tiers: memory
                .map(|&memory_bytes| TierOutcome { memory_bytes })
                .collect(),
            hops,
            degraded: 0,
            latency_ms: Some(Latency::with_mean(mean, &latencies)),
            cost_per_million: self.bill(&billed_ms, samples),
            energy: Some(self.spending.energy(&spent, &shares, share)),
            intervals: Intervals::default(),
        }
    }

    /// What crosses each link: all that leave behind it.
    fn hops(&self, left: &[usize]) -> Vec<HopOutcome> {
        let samples = self.chain.labels.len() as f64;
        let links = Tier::chain(self.times.payload.len()).zip(&self.times.payload);
        links
            .map(|(before, payload)| {
                let stages = self.chain.stages.iter().zip(left);
                let behind = stages.filter(|(stage, _)| stage.tier > before);
                let share = behind.map(|(_, &count)| count).sum::<usize>() as f64 / samples;
                HopOutcome {
                    share,
                    bytes_sent: share * payload,
                }
            })
            .collect()
    }

    fn bill(&self, billed_ms: &[Vec<f64>], samples: usize) -> Option<Cost> {
        let rented = self.rented.iter().zip(billed_ms);
        rented
            .map(|((_, memory, clock), ms)| {
                memory.per_million(ms.iter().copied(), samples, *clock, ANSWER_BYTES)
            })
            .reduce(Cost::with)
    }

    fn exits(&self, left: &[usize], right: &[usize], thresholds: &[f64]) -> Vec<ExitOutcome> {
        let samples = self.chain.labels.len() as f64;
        let stages = self.chain.stages.iter().enumerate();
        stages
            .map(|(k, stage)| ExitOutcome {
                after: stage.after.clone(),
                tier: stage.tier,
                threshold: thresholds.get(k).copied().unwrap_or(0.0),
                share: left[k] as f64 / samples,
                accuracy: (left[k] > 0).then(|| right[k] as f64 / left[k] as f64),
            })
            .collect()
    }
}

/// In the mean: the recorded runs of the whole network as a share of their median, and what round trips
/// take more than usual; stalls left aside.
fn pace(evidence: &Evidence) -> Pace<f64> {
    let tier = |tier| match evidence.profile(tier) {
        Ok(profile) if !profile.samples_ms.is_empty() && profile.total_ms.median > 0.0 => {
            winsorised_mean(&profile.samples_ms) / profile.total_ms.median
        }
        _ => 1.0,
    };
    let link = |before| match evidence.link(before) {
        Ok(link) if !link.jitter_ms.is_empty() => winsorised_mean(&link.jitter_ms),
        _ => 0.0,
    };
    Pace {
        tiers: Tier::ALL.map(tier),
        links: [Tier::First, Tier::Second, Tier::Third].map(link),
    }
}

/// For each sample a recorded run of the whole network on each tier, as a share of their median, and what
/// a recorded round trip took more than usual on each link.
fn jitters(evidence: &Evidence, seed: u64, samples: usize) -> Vec<Pace<f32>> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let links = [Tier::First, Tier::Second, Tier::Third];
    let mut draw = || Pace {
        tiers: Tier::ALL.map(|tier| {
            let Ok(profile) = evidence.profile(tier) else {
                return 1.0;
            };
            let (runs, usual) = (&profile.samples_ms, profile.total_ms.median);
            if runs.is_empty() || usual <= 0.0 {
                return 1.0;
            }
            (runs[rng.random_range(0..runs.len())] / usual) as f32
        }),
        links: links.map(|before| match evidence.link(before) {
            Ok(link) if !link.jitter_ms.is_empty() => {
                link.jitter_ms[rng.random_range(0..link.jitter_ms.len())] as f32
            }
            _ => 0.0,
        }),
    };
    (0..samples).map(|_| draw()).collect()
}
