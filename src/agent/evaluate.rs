/*!
The edge's side of a run: every sample through the edge part, on to the cloud if no exit is confident,
and a record of it. All times are this process's own; the cloud contributes durations. Nothing is
logged, locked or written while a sample's clock runs.
*/

mod sides;

use super::about;
use super::error::JobError;
use super::jobs::Job;
use super::offload::OffloadError;
use super::server::Agent;
use super::wait;
use crate::device::memory::reset_peak;
use crate::evaluate::Record;
use crate::remote::Link;
use crate::remote::message::{Evaluate, Evaluated, JobEvent, Mode, PartAnswer, Progress};
use sides::{Cloud, Edge};
use std::time::{Duration, Instant};

/// Time between two reports of progress.
const REPORT: Duration = Duration::from_millis(200);
/// After a cloud that doesn't answer isn't asked again for so long, where the edge may answer for it.
const BREAK: Duration = Duration::from_secs(1);

/// Runs all samples.
pub(super) fn evaluate(job: &Job, agent: &Agent, run: &Evaluate) -> Result<Evaluated, JobError> {
    let mut session = Session::open(job, agent, run)?;
    if let Err(error) = reset_peak() {
        let text = format!("the peak of memory counts from the agent's start: {error}");
        job.events.push(JobEvent::Log { text });
    }
    if let Some(cloud) = &mut session.cloud {
        cloud.reset_memory()?;
    }
    for at in 0..run.warm_up {
        if !run.samples.is_empty() {
            session.sample(run.samples[at % run.samples.len()])?;
        }
    }
    let start = Instant::now();
    let result = session.all(start);
    // What was measured before a failure stays.
    session.report()?;
    result?;
    let seconds = start.elapsed().as_secs_f64();
    let edge_resident_bytes = about::peak_resident();
    let cloud_resident_bytes = match &mut session.cloud {
        Some(cloud) => cloud.resident_bytes(),
        None => 0,
    };
    let emulated_cloud = session.cloud.as_ref().is_some_and(|c| c.emulated);
    Ok(Evaluated {
        records: session.progress.done,
        edge_resident_bytes,
        cloud_resident_bytes,
        emulated: agent.slowdown != 1.0 || run.link != Link::Measured || emulated_cloud,
        seconds,
        wire: matches!(run.mode, Mode::Distributed { .. }).then_some(run.wire.tensor),
    })
}

/// A run in progress.
struct Session<'a> {
    job: &'a Job,
    run: &'a Evaluate,
    edge: Edge<'a>,
    cloud: Option<Cloud<'a>>,
    /// Exits of the edge part.
    edge_exits: usize,
    slowdown: f64,
    /// The cloud isn't asked before this.
    closed_until: Option<Instant>,
    /// Records not yet in the job's file.
    fresh: Vec<Record>,
    progress: Progress,
}

impl<'a> Session<'a> {
    fn open(job: &'a Job, agent: &'a Agent, run: &'a Evaluate) -> Result<Session<'a>, JobError> {
        let edge = Edge::open(agent, run)?;
        let edge_exits = edge.exits();
        let cloud = match &run.mode {
            Mode::EdgeOnly { .. } => None,
            Mode::Distributed {
                cloud, cloud_part, ..
            }
            | Mode::CloudOnly { cloud, cloud_part } => {
                let thresholds = run.thresholds.get(edge_exits..).unwrap_or_default();
                Some(Cloud::open(
                    cloud,
                    cloud_part,
                    thresholds,
                    run,
                    &job.cancel,
                )?)
            }
        };
        let exits = edge_exits + cloud.as_ref().map_or(0, |c| c.exits);
        if run.thresholds.len() != exits {
            return Err(JobError::Failed(format!(
                "{} thresholds for {exits} exits ({edge_exits} of them at the edge)",
                run.thresholds.len()
            )));
        }
        if let Some(cloud) = &cloud {
            edge.fits(&cloud.input, run)?;
        }
        Ok(Session {
            job,
            run,
            edge,
            cloud,
            edge_exits,
            slowdown: agent.slowdown,
            closed_until: None,
            fresh: Vec::new(),
            progress: Progress {
                total: run.samples.len() as u64,
                exits: vec![0; exits + 1],
                ..Progress::default()
            },
        })
    }

    fn all(&mut self, start: Instant) -> Result<(), JobError> {
        let mut reported = Duration::ZERO;
        for &sample in &self.run.samples {
            let record = self.sample(sample)?;
            self.fresh.push(record);
            let now = start.elapsed();
            if now - reported >= REPORT {
                self.report()?;
                reported = now;
            }
        }
        Ok(())
    }

    /// One sample, from its pixels to its record.
    fn sample(&mut self, sample: u32) -> Result<Record, JobError> {
        if self.job.cancel.is_cancelled() {
            return Err(JobError::Cancelled);
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
        record.latency_ms = wait::ms(start.elapsed());
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
        let Some(cloud) = &mut self.cloud else {
            return Err(JobError::Failed(
                "the part neither ends the network nor lets its last exit answer".to_string(),
            ));
        };
        let fallback = latest.filter(|_| self.run.degrade);
        if let (Some(until), Some(answer)) = (self.closed_until, fallback) {
            if Instant::now() < until {
                record.degraded = true;
                return Ok(answer);
            }
            self.closed_until = None;
        }
        let start = Instant::now();
        let body = self.edge.body(self.run)?;
        record.encode_ms = wait::ms(wait::stretch(start, self.slowdown, &self.job.cancel));
        record.offloaded = true;
        record.bytes_sent = body.len() as u32;
        let sent = Instant::now();
        let error = match cloud.infer(body) {
            Ok((answer, cloud_ms)) => {
                let round_trip = wait::ms(sent.elapsed());
                record.cloud_ms = cloud_ms;
                record.network_ms = (round_trip - cloud_ms).max(0.0);
                let exit = answer.exit + self.edge_exits as u16;
                return Ok(PartAnswer { exit, ..answer });
            }
            Err(error) => error,
        };
        record.network_ms = wait::ms(sent.elapsed());
        // Somebody who asks to stop gets that, and no answer of the edge's.
        let Some(answer) = fallback.filter(|_| error != OffloadError::Cancelled) else {
            return Err(error.into());
        };
        if matches!(error, OffloadError::Unreachable { .. }) {
            self.closed_until = Some(Instant::now() + BREAK);
        }
        if self.progress.note.is_empty() {
            let text = format!("{error}; the edge's last exit answers for it");
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
        }
        let count = self.fresh.len() as u64;
        let sum: f64 = self.fresh.iter().map(|r| f64::from(r.latency_ms)).sum();
        progress.mean_latency_ms = (count > 0).then(|| sum / count as f64);
        progress.done += count;
        self.fresh.clear();
        self.job.events.push(JobEvent::Progress(progress.clone()));
        progress.note.clear();
        Ok(())
    }
}
