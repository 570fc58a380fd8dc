/*!
The first tier's side of a run: every sample through its part, on to the next tier if no exit is confident,
and a record of it. All times are this process's own; the tiers behind contribute durations. Nothing is
logged, locked or written while a sample's clock runs.
*/

mod local_part;
mod meter;

use super::error::JobError;
use super::forward::{Answered, Forward, Offloaded, Terms};
use super::info::peak_resident;
use super::jobs::Job;
use super::onward::{Places, check_route};
use super::state::Agent;
use crate::device::memory::reset_peak;
use crate::plan::Tier;
use crate::predict::{HopRecord, Record};
use crate::protocol::message::{CloudShare, Evaluate, Evaluated, JobEvent, Onward, Progress};
use crate::runtime::emulation;
use crate::runtime::runner::PartAnswer;
use local_part::LocalPart;
use meter::Meter;
use std::time::{Duration, Instant};

/// Time between two reports of progress.
const REPORT: Duration = Duration::from_millis(200);
/// Time between two looks at the sensors.
const SENSE: Duration = Duration::from_secs(2);

/// Runs every sample of the job and gives a record for each.
pub(super) fn evaluate(job: &Job, agent: &Agent, run: &Evaluate) -> Result<Evaluated, JobError> {
    let mut evaluation = EvaluationRun::open(job, agent, run)?;
    if let Err(error) = reset_peak() {
        let text = format!("the peak of memory counts from the agent's start: {error}");
        job.events.push(JobEvent::Log { text });
    }
    if let Some(forward) = &mut evaluation.forward {
        forward.reset_memory();
    }
    evaluation.warm_up()?;
    let mut meter = Meter::start();
    let result = evaluation.all(&mut meter);
    meter.stop();
    // What was measured before a failure stays.
    evaluation.report()?;
    result?;
    let (seconds, joules) = (meter.seconds(), meter.joules());
    let mut resident_bytes = vec![peak_resident()];
    resident_bytes.extend(evaluation.forward.as_mut().map(Forward::resident_bytes));
    let emulated_behind = evaluation.forward.as_ref().is_some_and(|f| f.emulated);
    let count = evaluation.progress.done;
    let joules_per_inference = joules.filter(|_| count > 0).map(|j| j / count as f64);
    agent.note_energy(joules_per_inference);
    Ok(Evaluated {
        records: evaluation.progress.done,
        resident_bytes,
        emulated: agent.slowdown != 1.0 || emulated_behind,
        seconds,
        wire: sends_tensors(run).then_some(run.wire.tensor),
        joules_per_inference,
        clouds: evaluation.shares(),
    })
}

/// Whether any tier sends a tensor on, rather than pixels.
fn sends_tensors(run: &Evaluate) -> bool {
    if run.jpeg.is_some() {
        return false;
    }
    let behind = run.route.onward.iter().map(|hop| &hop.part);
    let parts = std::iter::once(&run.route.part).chain(behind);
    parts.flatten().count() > 1
}

/// A run in progress.
struct EvaluationRun<'a> {
    job: &'a Job,
    run: &'a Evaluate,
    edge: LocalPart<'a>,
    forward: Option<Forward>,
    /// Among the agent's connections to next tiers.
    _places: Places,
    /// Samples that the targets of tiers behind the next answered for, and those that they didn't, as the
    /// tiers before them tell.
    told: Vec<Vec<(u64, u64)>>,
    agent: &'a Agent,
    /// Exits of the edge part.
    edge_exits: usize,
    slowdown: f64,
    /// Records not yet in the job's file.
    fresh: Vec<Record>,
    progress: Progress,
    /// When the sensors were last looked at.
    sensed: Option<Instant>,
}

impl<'a> EvaluationRun<'a> {
    fn open(
        job: &'a Job,
        agent: &'a Agent,
        run: &'a Evaluate,
    ) -> Result<EvaluationRun<'a>, JobError> {
        check_route(&run.route.onward, run.deadline_ms, run.thresholds.len())?;
        let mut edge = LocalPart::open(agent, run)?;
        let edge_exits = edge.exits();
        let next = run.route.onward.first();
        let places = agent.ways.places(next.map_or(0, |hop| hop.targets.len()))?;
        let forward = if run.route.onward.is_empty() {
            None
        } else {
            for hop in run.route.onward.iter().take(1) {
                hop.targets
                    .iter()
                    .try_for_each(|t| agent.may_reach(&t.url))?;
            }
            let terms = Terms {
                confidence: run.confidence,
                thresholds: run.thresholds[edge_exits..].to_vec(),
                onward: Onward {
                    hops: run.route.onward.clone(),
                    wire: run.wire,
                    deadline_ms: run.deadline_ms,
                    degrade: run.degrade,
                },
                pixels: edge.sends_pixels().then(|| run.preprocessing.clone()),
                jpeg: run.jpeg,
                sends: Some(edge.sends()),
                can_answer: edge_exits > 0,
            };
            let forward = Forward::open(terms, &job.cancel)?;
            if forward.wants_input() {
                edge.preprocess();
            }
            Some(forward)
        };
        let exits = edge_exits + forward.as_ref().map_or(0, |f| f.exits);
        if run.thresholds.len() != exits {
            return Err(JobError::invalid(format!(
                "{} thresholds for {exits} exits ({edge_exits} of them at the edge)",
                run.thresholds.len()
            )));
        }
        Ok(EvaluationRun {
            job,
            run,
            edge,
            forward,
            _places: places,
            told: run
                .route
                .onward
                .iter()
                .skip(1)
                .map(|hop| vec![(0, 0); hop.targets.len()])
                .collect(),
            agent,
            edge_exits,
            slowdown: agent.slowdown,
            fresh: Vec::new(),
            progress: Progress {
                total: run.samples.len() as u64,
                exits: vec![0; exits + 1],
                ..Progress::default()
            },
            sensed: None,
        })
    }

    /// The first samples, whose times are thrown away; nor do the answers to them count as answers of
    /// a target.
    fn warm_up(&mut self) -> Result<(), JobError> {
        let counts = self.forward.as_ref().map(Forward::counts);
        let told = self.told.clone();
        let samples = self.run.samples.iter().cycle();
        for &sample in samples.take(self.run.warm_up) {
            self.sample(sample)?;
        }
        if let (Some(forward), Some(counts)) = (&mut self.forward, &counts) {
            forward.count_from(counts);
        }
        self.told = told;
        Ok(())
    }

    fn all(&mut self, meter: &mut Meter) -> Result<(), JobError> {
        let mut reported = Instant::now();
        for &sample in &self.run.samples {
            if self.job.pause.is_set() {
                self.wait(meter)?;
                reported = Instant::now();
            }
            let record = self.sample(sample)?;
            self.fresh.push(record);
            if reported.elapsed() >= REPORT {
                self.report()?;
                reported = Instant::now();
            }
        }
        Ok(())
    }

    /// Waits until it may go on. What was measured is told before; time and energy of the waiting
    /// count for nothing, nor do the first samples after it, since caches, clocks and connections
    /// have gone cold.
    fn wait(&mut self, meter: &mut Meter) -> Result<(), JobError> {
        meter.stop();
        self.progress.held = true;
        self.report()?;
        self.job.pause.wait(&self.job.cancel);
        self.progress.held = false;
        self.report()?;
        self.warm_up()?;
        meter.go_on();
        Ok(())
    }

    /// One sample, from its pixels to its record.
    fn sample(&mut self, sample: u32) -> Result<Record, JobError> {
        if self.job.cancel.is_cancelled() {
            return Err(JobError::Cancelled);
        }
        if let Some(forward) = &mut self.forward {
            forward.look()?;
        }
        self.edge.load(sample)?;
        let mut record = Record {
            sample,
            exit: 0,
            prediction: 0,
            confidence: 0.0,
            degraded: false,
            latency_ms: 0.0,
            // So that nothing is allocated while the clock runs.
            tier_ms: Vec::with_capacity(self.run.route.tiers()),
            hops: Vec::with_capacity(self.run.route.tiers()),
        };
        let start = Instant::now();
        let verdict = self.edge.run(&self.job.cancel)?;
        record.tier_ms.push(self.edge.compute_ms());
        let answer = match verdict.latest {
            Some(answer) if verdict.answered => answer,
            latest => self.offload(latest, &mut record)?,
        };
        record.latency_ms = emulation::ms(start.elapsed());
        record.exit = answer.exit;
        record.prediction = answer.prediction;
        record.confidence = answer.confidence;
        Ok(record)
    }

    /// Sends the sample on; where nobody behind answers, the last exit here may.
    fn offload(
        &mut self,
        latest: Option<PartAnswer>,
        record: &mut Record,
    ) -> Result<PartAnswer, JobError> {
        let Some(forward) = &mut self.forward else {
            return Err(JobError::invalid(
                "the part neither ends the network nor lets its last exit answer",
            ));
        };
        let fallback = latest.filter(|_| self.run.degrade);
        if let Some(answer) = fallback.filter(|_| forward.closed()) {
            record.degraded = true;
            return Ok(answer);
        }
        let (slowdown, cancel) = (self.slowdown, &self.job.cancel);
        let stretch = |start| emulation::stretch(start, slowdown, cancel);
        let (payload, said) = (self.edge.payload(), self.edge.said());
        let failure = match forward.infer(&payload, said, Duration::ZERO, &stretch) {
            Ok(offloaded) => {
                note(record, &offloaded);
                self.tell(&offloaded.answered);
                let answer = offloaded.answered.answer;
                let exit = answer.exit + self.edge_exits as u16;
                return Ok(PartAnswer { exit, ..answer });
            }
            Err(failure) => failure,
        };
        record.hops.push(HopRecord {
            encode_ms: failure.encode_ms,
            network_ms: (emulation::ms(failure.took) - failure.encode_ms).max(0.0),
            bytes_sent: failure.bytes as u32,
        });
        // Somebody who asks to stop gets that, and no answer of the edge's.
        let Some(answer) = fallback.filter(|_| failure.error != JobError::Cancelled) else {
            return Err(failure.error);
        };
        if self.progress.note.is_empty() {
            let text = format!("{}; the edge's last exit answers for it", failure.error);
            self.job.events.push(JobEvent::Log { text: text.clone() });
            self.progress.note = text;
        }
        record.degraded = true;
        Ok(answer)
    }

    /// Counts what the next tier tells of those behind it, and passes on what it has to say.
    fn tell(&mut self, answered: &Answered) {
        for asked in &answered.passed.asked {
            let tier = self.told.get_mut(asked.hop);
            if let Some(share) = tier.and_then(|tier| tier.get_mut(asked.target)) {
                if asked.answered {
                    share.0 += 1;
                } else {
                    share.1 += 1;
                }
            }
        }
        for text in &answered.notes {
            self.job.events.push(JobEvent::Log { text: text.clone() });
        }
    }

    /// What each target behind a link contributed so far, tier by tier.
    fn shares(&self) -> Vec<CloudShare> {
        let share = |tier, (url, answered, failed): (&str, u64, u64)| CloudShare {
            tier,
            url: url.to_string(),
            answered,
            failed,
        };
        let next = self.forward.iter().flat_map(Forward::shares);
        let mut all: Vec<CloudShare> = next.map(|one| share(Tier::Second, one)).collect();
        let behind = self.run.route.onward.iter().skip(1).zip(&self.told);
        for ((hop, told), tier) in behind.zip([Tier::Third, Tier::Fourth]) {
            for (target, (answered, failed)) in hop.targets.iter().zip(told) {
                all.push(share(tier, (&target.url, *answered, *failed)));
            }
        }
        all
    }

    /// Puts the new records where they can be fetched, and tells how far it is.
    fn report(&mut self) -> Result<(), JobError> {
        self.job.append(&self.fresh)?;
        let notes = self.forward.as_mut().map(Forward::take_notes);
        for text in notes.unwrap_or_default() {
            self.job.events.push(JobEvent::Log { text });
        }
        let shares = self.shares();
        let progress = &mut self.progress;
        for record in &self.fresh {
            if let Some(count) = progress.exits.get_mut(usize::from(record.exit)) {
                *count += 1;
            }
            progress.offloaded += u64::from(record.offloaded());
            progress.bytes_sent += record.bytes_sent();
            self.agent.metrics.left(record);
        }
        let mean = |times: &mut dyn Iterator<Item = f32>| {
            let (count, sum) = times.fold((0, 0.0), |(n, sum), ms| (n + 1, sum + f64::from(ms)));
            (count > 0).then(|| sum / f64::from(count))
        };
        progress.mean_latency_ms = mean(&mut self.fresh.iter().map(|r| r.latency_ms));
        let behind = |tier: Tier| {
            let worked = self.fresh.iter();
            mean(&mut worked.filter_map(|r| r.tier_ms.get(tier.index()).copied()))
        };
        let tiers = Tier::chain(self.run.route.tiers());
        progress.mean_tier_ms = tiers.map(behind).collect();
        progress.mean_cloud_ms = progress.mean_tier_ms.get(1).copied().flatten();
        progress.done += self.fresh.len() as u64;
        progress.clouds = shares;
        let now = Instant::now();
        progress.telemetry = None;
        if self.sensed.is_none_or(|then| now - then >= SENSE) {
            self.sensed = Some(now);
            progress.telemetry = self.agent.telemetry().map(Box::new);
        }
        self.fresh.clear();
        self.job.events.push(JobEvent::Progress(progress.clone()));
        progress.note.clear();
        Ok(())
    }
}

/// Notes what sending a sample on took, and what the tiers behind tell.
fn note(record: &mut Record, offloaded: &Offloaded) {
    let answered = &offloaded.answered;
    let passed = &answered.passed;
    record.hops.push(HopRecord {
        encode_ms: offloaded.encode_ms,
        network_ms: (emulation::ms(offloaded.round_trip) - answered.behind_ms()).max(0.0),
        bytes_sent: offloaded.bytes as u32,
    });
    record.hops.extend(&passed.hops);
    record.tier_ms.push(answered.tier_ms);
    record.tier_ms.extend(&passed.tier_ms);
    record.degraded = passed.degraded;
}
