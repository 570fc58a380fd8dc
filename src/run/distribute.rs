/*! The parts of a plan on their devices: sent, timed, run over the test set, and the baselines. */

use super::stage_cache::Reporter;
use super::targets::{Delivery, Fleet, Shard};
use super::{Network, RunError};
use crate::data::{LoadedData, Set};
use crate::device::PartProfile;
use crate::event::{Event, Note, TargetId, Vitals};
use crate::plan::{Link, Plan, Tier, TierHead};
use crate::predict::{Combination, Record};
use crate::protocol::message::{
    CloudShare, CloudTarget, DataSet, Evaluate, Evaluated, Hop, JobEvent, JobRequest, JobResult,
    Route,
};
use crate::runtime::manifest::PartFiles;
use crate::runtime::parts::{Part, PartSettings, address, combine, parts};
use crate::session::{Degrade, Session};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

/// Samples run before the clock counts (the definition of latency).
const WARM_UP: usize = 50;
/// The most samples a baseline runs.
const BASELINE: usize = 500;
/// Runs of a part or network that is timed.
pub(super) const RUNS: usize = 100;

/// A part as it travels.
#[derive(Debug, Clone)]
pub(super) struct Packed {
    pub part: Part,
    pub bytes: Vec<u8>,
    pub address: String,
    /// Hash of what it computes, whatever its thresholds.
    pub content: String,
}

/// The parts of a plan, as they travel.
#[derive(Debug, Clone, Default)]
pub(super) struct Parts(Vec<Packed>);

impl Parts {
    /// Cuts the network as planned; `models` are those of its exits, where confidence is learned. A run brings
    /// its own thresholds all the same: who asks the agent by the part's address alone gets the plan's.
    pub fn of(
        network: &Network,
        plan: &Plan,
        heads: &[TierHead],
        settings: &PartSettings,
        models: &[Combination],
    ) -> Result<Parts, RunError> {
        let mut made = Parts::default();
        let mut all = parts(&network.fused, &network.table, plan, heads, settings)?;
        combine(&mut all, plan, models.to_vec());
        for part in all {
            let files = PartFiles::of(&part)?;
            let bytes = files.bundle()?;
            made.0.push(Packed {
                address: address(&bytes),
                content: files.content(),
                part,
                bytes,
            });
        }
        Ok(made)
    }

    /// The part of a tier, if it has something to run.
    pub fn on(&self, tier: Tier) -> Option<&Packed> {
        self.0.iter().find(|packed| packed.part.tier == tier)
    }

    /// The part of a tier alone.
    pub fn only(&self, tier: Tier) -> Parts {
        Parts(self.on(tier).cloned().into_iter().collect())
    }

    /// All parts, in order.
    pub fn all(&self) -> impl Iterator<Item = &Packed> {
        self.0.iter()
    }
}

/// What the parts of a session say besides their graphs.
pub(super) fn part_settings(session: &Session, data: &LoadedData) -> PartSettings {
    PartSettings {
        confidence: session.policy.confidence,
        exits_before: Vec::new(),
        preprocessing: Some(session.pixels().clone()),
        wire: session.wire,
        labels: data.class_names().to_vec(),
    }
}

/// The test set as agents get it.
pub(super) fn test_set(data: &LoadedData) -> Result<Vec<u8>, RunError> {
    let samples = data.len(Set::Test);
    let pixels = (0..samples)
        .flat_map(|i| data.pixels(Set::Test, i))
        .copied();
    let set = DataSet {
        shape: data.shape(),
        samples,
        pixels: pixels.collect(),
    };
    Ok(set.encode()?)
}

/// What a run of the parts is: the plan, or a baseline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Variant {
    Plan,
    Original,
    CloudOnly,
    /// As [`Variant::CloudOnly`], its images sent as JPEG files.
    CloudOnlyJpeg,
    EdgeOnly,
}

impl Variant {
    pub fn name(self) -> &'static str {
        match self {
            Variant::Plan => "plan",
            Variant::Original => "original",
            Variant::CloudOnly => "cloud_only",
            Variant::CloudOnlyJpeg => "cloud_only_jpeg",
            Variant::EdgeOnly => "edge_only",
        }
    }

    pub fn label(self) -> &'static str {
        match self {
            Variant::Plan => "the plan",
            Variant::Original => "unmodified on the edge",
            Variant::CloudOnly => "unmodified in the cloud",
            Variant::CloudOnlyJpeg => "unmodified in the cloud, images as JPEG files",
            Variant::EdgeOnly => "the edge part alone",
        }
    }
}

/// Records of a run, and what else it found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Measurement {
    pub records: Vec<Record>,
    pub found: Evaluated,
    /// What the report has to say of its targets.
    #[serde(default)]
    pub notes: Vec<String>,
}

/// What a run needs.
pub(super) struct EvaluationContext<'a> {
    pub session: &'a Session,
    pub test: &'a [u8],
    /// Class of each sample of the test set, in order.
    pub labels: &'a [u16],
    pub samples: usize,
}

impl EvaluationContext<'_> {
    /// Times the assembled parts, each on the first target of its side.
    pub fn time_parts(
        &self,
        reporter: &mut Reporter,
        fleet: &mut Fleet,
        parts: &Parts,
    ) -> Result<Vec<(Tier, PartProfile)>, RunError> {
        let mut profiles = Vec::new();
        for packed in parts.all() {
            let side = packed.part.tier;
            let lead = fleet.lead(reporter, side)?;
            let part = fleet.put(reporter, side, lead, &packed.bytes)?;
            let request = JobRequest::ProfilePart { part, runs: RUNS };
            match fleet.job(reporter, side, request)? {
                JobResult::Part(profile) => profiles.push((side, profile)),
                _ => return Err(RunError::OtherAnswer),
            }
        }
        Ok(profiles)
    }

    /// Runs `plan`, cut into `parts`, over the test set (a baseline over some of it): sharded over the
    /// targets of the first tier, each of which sends on to a target of the next.
    pub fn run(
        &self,
        reporter: &mut Reporter,
        fleet: &mut Fleet,
        what: Variant,
        plan: &Plan,
        parts: &Parts,
    ) -> Result<Measurement, RunError> {
        let samples = self.chosen(what);
        let mut edges = match what {
            Variant::Plan => fleet.reachable(reporter, Tier::First)?,
            _ => vec![fleet.lead(reporter, Tier::First)?],
        };
        edges.truncate(samples.len().max(1));
        let behind = self.behind(reporter, fleet, what, plan, parts)?;
        let ready = self.ready(reporter, fleet, &edges, parts, &behind)?;
        let shards = self.shards(ready, &samples, what, plan);
        // Agents tell of themselves and of the next tier; those beyond are asked here.
        let beyond: Vec<Tier> = behind.iter().skip(1).map(|b| b.tier).collect();
        fleet.reset_memory(&beyond);
        let mut follower = Follower::new(self.session, what, &behind, samples.len());
        let deliveries = fleet.evaluate(
            reporter,
            shards,
            self.labels,
            &mut |reporter, index, event| follower.hear(reporter, index, event),
        )?;
        let mut ran = gather(deliveries, samples.len())?;
        let resident = &mut ran.found.resident_bytes;
        resident.resize(plan.tiers(), 0);
        for tier in beyond {
            resident[tier.index()] = fleet.resident_bytes(tier);
        }
        for one in behind.iter().filter(|b| b.part.is_none()) {
            // It passed samples on, and ran nothing of the plan.
            resident[one.tier.index()] = 0;
        }
        ran.notes = fleet.notes();
        Ok(ran)
    }

    /// Sends their part and the test set to the first tier's targets `edges`; passes over those that are
    /// lost on the way.
    fn ready(
        &self,
        reporter: &mut Reporter,
        fleet: &mut Fleet,
        edges: &[usize],
        parts: &Parts,
        behind: &[BehindTier],
    ) -> Result<Vec<ReadyTarget>, RunError> {
        let mut ready = Vec::new();
        for &index in edges {
            let put = route(reporter, fleet, parts, index, behind).and_then(|route| {
                let data = fleet.put(reporter, Tier::First, index, self.test)?;
                Ok(ReadyTarget { index, route, data })
            });
            match put {
                Ok(one) => ready.push(one),
                Err(error) => {
                    fleet.drop_target(reporter, Tier::First, index, error, edges.len() > 1)?
                }
            }
        }
        if ready.is_empty() {
            return Err(fleet.none_reachable(Tier::First, None));
        }
        Ok(ready)
    }

    /// Deals the samples out in turn, as jobs of the targets that run them.
    fn shards(
        &self,
        ready: Vec<ReadyTarget>,
        samples: &[u32],
        what: Variant,
        plan: &Plan,
    ) -> Vec<Shard> {
        let session = self.session;
        let exits = plan.exits.iter();
        let exits = exits.filter(|e| what != Variant::EdgeOnly || e.tier == Tier::First);
        let thresholds: Vec<f64> = exits.map(|e| e.threshold).collect();
        let edges = ready.len();
        let shard = |(turn, target): (usize, ReadyTarget)| {
            let mine: Vec<u32> = samples.iter().skip(turn).step_by(edges).copied().collect();
            let run = Evaluate {
                route: target.route,
                data: target.data,
                preprocessing: session.pixels().clone(),
                warm_up: WARM_UP.min(mine.len()),
                samples: mine,
                confidence: session.policy.confidence,
                thresholds: thresholds.clone(),
                last_exit_answers: what == Variant::EdgeOnly,
                wire: session.wire,
                jpeg: plan.sends_images().then_some(session.jpeg_quality),
                deadline_ms: session.offload.deadline_ms,
                degrade: session.offload.degrade == Degrade::LastExit,
            };
            let index = target.index;
            Shard { index, run }
        };
        ready.into_iter().enumerate().map(shard).collect()
    }

    /// The tiers of a run behind the first, each with its part and its targets; none where the first is
    /// alone.
    fn behind(
        &self,
        reporter: &mut Reporter,
        fleet: &mut Fleet,
        what: Variant,
        plan: &Plan,
        parts: &Parts,
    ) -> Result<Vec<BehindTier>, RunError> {
        if what == Variant::EdgeOnly {
            return Ok(Vec::new());
        }
        let last = plan.last_tier();
        let mut all = Vec::new();
        for tier in plan.chain().skip(1).take_while(|tier| *tier <= last) {
            let packed = parts.on(tier);
            let plans = (what == Variant::Plan)
                .then(|| packed.is_some_and(|packed| packed.part.final_is_probabilities));
            let bytes = packed.map(|packed| packed.bytes.as_slice());
            all.push(BehindTier {
                tier,
                part: packed.map(|packed| packed.address.clone()),
                targets: fleet.behind(reporter, tier, bytes, plans)?,
                link: self.session.link(Tier::ALL[tier.index() - 1]),
            });
        }
        Ok(all)
    }

    /// All samples for the plan; for a baseline some, drawn by seed: every tenth, say, would be of one
    /// class where classes take turns.
    fn chosen(&self, what: Variant) -> Vec<u32> {
        let mut samples: Vec<u32> = (0..self.samples as u32).collect();
        if what != Variant::Plan && samples.len() > BASELINE {
            let mut rng = ChaCha8Rng::seed_from_u64(self.session.seed);
            samples.shuffle(&mut rng);
            samples.truncate(BASELINE);
            samples.sort_unstable();
        }
        samples
    }
}

/// A target of the first tier that can begin.
struct ReadyTarget {
    /// Its place in the session.
    index: usize,
    route: Route,
    /// Address of the test set.
    data: String,
}

/// Listens to the agents of a run, and tells of them all together.
struct Follower<'a> {
    session: &'a Session,
    what: Variant,
    behind: &'a [BehindTier],
    /// Samples each target of the first tier has done.
    done: Vec<u64>,
    /// Samples of all of them.
    of: usize,
}

impl<'a> Follower<'a> {
    fn new(session: &'a Session, what: Variant, behind: &'a [BehindTier], of: usize) -> Self {
        Follower {
            session,
            what,
            behind,
            done: vec![0; session.targets(Tier::First).len().max(1)],
            of,
        }
    }

    /// Takes in what the first tier's target at `index` says.
    fn hear(&mut self, reporter: &mut Reporter, index: usize, event: JobEvent) {
        let part = Tier::First;
        match event {
            JobEvent::Progress(mut progress) => {
                self.done[index] = progress.done;
                if let Some(told) = progress.telemetry.take() {
                    reporter.event(Event::Vitals {
                        part,
                        index,
                        vitals: Vitals::from(&*told),
                    });
                }
                let sum: u64 = self.done.iter().sum();
                reporter.progress(sum as usize, self.of, self.what.label());
                if self.what == Variant::Plan {
                    progress.clouds = in_order(self.session, self.behind, &progress.clouds);
                    reporter.event(Event::Evaluating { index, progress });
                }
            }
            JobEvent::Queued { ahead } => {
                reporter.say_of(TargetId { part, index }, Note::Queued { ahead });
            }
            JobEvent::Log { text } => reporter.say_of(TargetId { part, index }, text),
            JobEvent::Lost { .. }
            | JobEvent::Found
            | JobEvent::Done(_)
            | JobEvent::Failed { .. }
            | JobEvent::Cancelled
            | JobEvent::Epoch(_) => {}
        }
    }
}

/// A tier of a run behind a link.
struct BehindTier {
    tier: Tier,
    /// Address of its part; none where it passes samples on.
    part: Option<String>,
    /// Its targets that can be asked, by their place in the session.
    targets: Vec<(usize, CloudTarget)>,
    /// The link in front of it.
    link: Link,
}

/// What each target behind a link contributed, in the session's order, whichever of them an agent asks
/// first.
fn in_order(session: &Session, behind: &[BehindTier], told: &[CloudShare]) -> Vec<CloudShare> {
    let mut all = Vec::new();
    for one in behind {
        let tier = one.tier;
        let none = CloudShare {
            tier,
            ..CloudShare::default()
        };
        let mut shares = vec![none; session.targets(tier).len()];
        for (at, target) in &one.targets {
            let own = told.iter().find(|s| s.tier == tier && s.url == target.url);
            if let (Some(own), Some(share)) = (own, shares.get_mut(*at)) {
                share.clone_from(own);
            }
        }
        all.extend(shares);
    }
    all
}

/// The way of a first tier's target: its part, and the tiers behind. Each begins with another of their
/// targets, so that they don't all ask the same one first.
fn route(
    reporter: &mut Reporter,
    fleet: &mut Fleet,
    parts: &Parts,
    index: usize,
    behind: &[BehindTier],
) -> Result<Route, RunError> {
    let part = match parts.on(Tier::First) {
        Some(packed) => Some(fleet.put(reporter, Tier::First, index, &packed.bytes)?),
        None => None,
    };
    if part.is_none() && behind.is_empty() {
        return Err(RunError::NothingToRun);
    }
    let hop = |one: &BehindTier| {
        let mut targets: Vec<CloudTarget> = one.targets.iter().map(|(_, t)| t.clone()).collect();
        let first = index % targets.len().max(1);
        targets.rotate_left(first);
        Hop {
            part: one.part.clone(),
            targets,
            link: one.link,
        }
    };
    Ok(Route {
        part,
        onward: behind.iter().map(hop).collect(),
    })
}

fn gather(deliveries: Vec<Delivery>, expected: usize) -> Result<Measurement, RunError> {
    let mut records = Vec::new();
    let mut found = Evaluated::default();
    let (mut energy, mut measured) = (0.0, 0);
    for delivery in deliveries {
        let JobResult::Evaluated(one) = delivery.result else {
            return Err(RunError::OtherAnswer);
        };
        records.extend(delivery.records);
        found.records += one.records;
        let tiers = found.resident_bytes.len().max(one.resident_bytes.len());
        found.resident_bytes.resize(tiers, 0);
        for (all, own) in found.resident_bytes.iter_mut().zip(&one.resident_bytes) {
            *all = (*all).max(*own);
        }
        found.emulated |= one.emulated;
        found.seconds = found.seconds.max(one.seconds);
        found.wire = found.wire.or(one.wire);
        let joules = one.joules_per_inference.unwrap_or(0.0) * one.records as f64;
        measured += if joules > 0.0 { one.records } else { 0 };
        energy += joules;
        for share in one.clouds {
            match found
                .clouds
                .iter_mut()
                .find(|s| (s.tier, &s.url) == (share.tier, &share.url))
            {
                Some(all) => {
                    all.answered += share.answered;
                    all.failed += share.failed;
                }
                None => found.clouds.push(share),
            }
        }
    }
    found.joules_per_inference = (measured > 0).then(|| energy / measured as f64);
    records.sort_by_key(|r| r.sample);
    let distinct = records.windows(2).all(|w| w[0].sample < w[1].sample);
    if records.len() != expected || !distinct {
        return Err(RunError::Records {
            found: records.len(),
            expected,
        });
    }
    Ok(Measurement {
        records,
        found,
        notes: Vec::new(),
    })
}
