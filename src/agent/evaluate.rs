/*!
The edge's side of a run: every sample through the edge part, on to the cloud if no exit is confident,
and a record of it. All times are this process's own; the cloud contributes durations. Nothing is
logged, locked or written while a sample's clock runs.
*/

mod cloud;
mod clouds;
mod local_part;
mod meter;
mod request;
mod v2;

use super::error::JobError;
use super::info::peak_resident;
use super::jobs::Job;
use super::state::Agent;
use crate::device::memory::reset_peak;
use crate::plan::Link;
use crate::predict::Record;
use crate::protocol::message::{Evaluate, Evaluated, JobEvent, Mode, Progress};
use crate::runtime::emulation;
use crate::runtime::runner::PartAnswer;
use clouds::Clouds;
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
    if let Some(clouds) = &mut evaluation.clouds {
        clouds.reset_memory();
    }
    evaluation.warm_up()?;
    let mut meter = Meter::start();
    let result = evaluation.all(&mut meter);
    meter.stop();
    // What was measured before a failure stays.
    evaluation.report()?;
    result?;
    let (seconds, joules) = (meter.seconds(), meter.joules());
    let edge_resident_bytes = peak_resident();
    let cloud_resident_bytes = match &mut evaluation.clouds {
        Some(clouds) => clouds.resident_bytes(),
        None => 0,
    };
    let emulated_cloud = evaluation.clouds.as_ref().is_some_and(|c| c.emulated);
    let count = evaluation.progress.done;
    let joules_per_inference = joules.filter(|_| count > 0).map(|j| j / count as f64);
    agent.note_energy(joules_per_inference);
    Ok(Evaluated {
        records: evaluation.progress.done,
        edge_resident_bytes,
        cloud_resident_bytes,
        emulated: agent.slowdown != 1.0 || run.link != Link::Measured || emulated_cloud,
        seconds,
        wire: matches!(run.mode, Mode::Distributed { .. }).then_some(run.wire.tensor),
        joules_per_inference,
        clouds: evaluation.clouds.map_or_else(Vec::new, |c| c.shares()),
    })
}

/// A run in progress.
struct EvaluationRun<'a> {
    job: &'a Job,
    run: &'a Evaluate,
    edge: LocalPart<'a>,
    clouds: Option<Clouds<'a>>,
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
        let mut edge = LocalPart::open(agent, run)?;
        let edge_exits = edge.exits();
        let clouds = match &run.mode {
            Mode::EdgeOnly { .. } => None,
            Mode::Distributed {
                clouds, cloud_part, ..
            }
            | Mode::CloudOnly { clouds, cloud_part } => {
                for cloud in clouds {
                    agent.may_reach(&cloud.url)?;
                }
                Some(Clouds::open(clouds, cloud_part, &mut edge, run, job)?)
            }
        };
        let exits = edge_exits + clouds.as_ref().map_or(0, |c| c.exits);
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
            clouds,
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

    /// The first samples, whose times are thrown away.
    fn warm_up(&mut self) -> Result<(), JobError> {
        let samples = self.run.samples.iter().cycle();
        for &sample in samples.take(self.run.warm_up) {
            self.sample(sample)?;
        }
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
        if let Some(clouds) = &mut self.clouds {
            clouds.look(&mut self.edge)?;
        }
        self.edge.load(sample)?;
        let mut record = Record {
            sample,
            exit: 0,
            prediction: 0,
            confidence: 0.0,
            offloaded: false,
            degraded: false,
            latency_ms: 0.0,
            edge_ms: 0.0,
            encode_ms: 0.0,
            network_ms: 0.0,
            cloud_ms: 0.0,
            bytes_sent: 0,
        };
        let start = Instant::now();
        let verdict = self.edge.run(&self.job.cancel)?;
        record.edge_ms = self.edge.compute_ms();
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

    /// Sends the sample on; where the cloud doesn't answer, the edge's last exit may.
    fn offload(
        &mut self,
        latest: Option<PartAnswer>,
        record: &mut Record,
    ) -> Result<PartAnswer, JobError> {
        let Some(clouds) = &mut self.clouds else {
            return Err(JobError::invalid(
                "the part neither ends the network nor lets its last exit answer",
            ));
        };
        let fallback = latest.filter(|_| self.run.degrade);
        if let Some(answer) = fallback.filter(|_| clouds.closed()) {
            record.degraded = true;
            return Ok(answer);
        }
        record.offloaded = true;
        let (slowdown, cancel) = (self.slowdown, &self.job.cancel);
        let stretch = |start| emulation::stretch(start, slowdown, cancel);
        let failure = match clouds.infer(&self.edge, &stretch) {
            Ok(offloaded) => {
                record.encode_ms = offloaded.encode_ms;
                record.bytes_sent = offloaded.bytes as u32;
                record.cloud_ms = offloaded.answered.cloud_ms;
                record.network_ms =
                    (emulation::ms(offloaded.round_trip) - record.cloud_ms).max(0.0);
                let answer = offloaded.answered.answer;
                let exit = answer.exit + self.edge_exits as u16;
                return Ok(PartAnswer { exit, ..answer });
            }
            Err(failure) => failure,
        };
        record.encode_ms = failure.encode_ms;
        record.bytes_sent = failure.bytes as u32;
        record.network_ms = (emulation::ms(failure.took) - failure.encode_ms).max(0.0);
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

    /// Puts the new records where they can be fetched, and tells how far it is.
    fn report(&mut self) -> Result<(), JobError> {
        self.job.append(&self.fresh)?;
        let progress = &mut self.progress;
        for record in &self.fresh {
            if let Some(count) = progress.exits.get_mut(usize::from(record.exit)) {
                *count += 1;
            }
            progress.offloaded += u64::from(record.offloaded);
            progress.bytes_sent += u64::from(record.bytes_sent);
            self.agent.metrics.left(record);
        }
        let mean = |times: &mut dyn Iterator<Item = f32>| {
            let (count, sum) = times.fold((0, 0.0), |(n, sum), ms| (n + 1, sum + f64::from(ms)));
            (count > 0).then(|| sum / f64::from(count))
        };
        progress.mean_latency_ms = mean(&mut self.fresh.iter().map(|r| r.latency_ms));
        let answered = self.fresh.iter().filter(|r| r.offloaded && !r.degraded);
        progress.mean_cloud_ms = mean(&mut answered.map(|r| r.cloud_ms));
        progress.done += self.fresh.len() as u64;
        progress.clouds = self.clouds.as_ref().map_or_else(Vec::new, Clouds::shares);
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
