/*!
The job that trains heads: over a network and images that were sent, with the same function the
workbench calls. A slowed-down agent trains as fast as it can: only what is measured is stretched.
*/

use super::error::JobError;
use super::jobs::Job;
use super::samples::Samples;
use super::state::Agent;
use crate::data::Preprocessing;
use crate::engine::EngineError;
use crate::exits::Dropout;
use crate::model::export::to_onnx;
use crate::model::fuse::fused;
use crate::protocol::message;
use crate::protocol::message::{Epoch, JobEvent, Progress, TrainHeads, Trained};
use crate::train::{self, CacheLimits, HeadSpec, Task, TrainError, train_heads};
use parking_lot::Mutex;
use std::time::{Duration, Instant};

/// Memory for cached features; more goes to the disk.
const CACHE_BYTES: u64 = 1 << 28;
const REPORT: Duration = Duration::from_millis(200);

impl From<TrainError> for JobError {
    fn from(error: TrainError) -> JobError {
        match error {
            TrainError::Engine(EngineError::Cancelled) => JobError::Cancelled,
            other => JobError::invalid(other.to_string()),
        }
    }
}

/// Images and labels as they were sent.
struct LabelledImages<'a> {
    samples: Samples,
    labels: Vec<u16>,
    preprocessing: &'a Preprocessing,
    identity: String,
    failed: Mutex<Option<JobError>>,
}

impl<'a> LabelledImages<'a> {
    fn open(
        agent: &Agent,
        of: &message::LabelledSet,
        preprocessing: &'a Preprocessing,
    ) -> Result<LabelledImages<'a>, JobError> {
        let samples = Samples::open(agent.store.checked(&of.data)?)?;
        let labels = agent.store.read(&of.labels)?;
        let (pairs, rest) = labels.as_chunks::<2>();
        let count = samples.count();
        if pairs.len() != count || !rest.is_empty() {
            let found = labels.len();
            let what = format!("{found} bytes of labels for {count} images, two each are needed");
            return Err(JobError::invalid(what));
        }
        let lessons = LabelledImages {
            samples,
            labels: pairs.iter().map(|b| u16::from_le_bytes(*b)).collect(),
            preprocessing,
            identity: format!("{} {} {preprocessing:?}", of.data, of.labels),
            failed: Mutex::default(),
        };
        // What is wrong with the preprocessing is so for all.
        if count > 0 {
            let mut out = vec![0.0; lessons.samples.shape().iter().product()];
            lessons.image(0, &mut out)?;
        }
        Ok(lessons)
    }

    fn image(&self, index: usize, out: &mut [f32]) -> Result<(), JobError> {
        let shape = self.samples.shape();
        let mut pixels = vec![0; shape.iter().product()];
        self.samples.read(index as u32, &mut pixels)?;
        let done = self.preprocessing.apply(shape, &pixels, out);
        done.map_err(JobError::invalid)
    }
}

impl train::Samples for LabelledImages<'_> {
    fn len(&self) -> usize {
        self.samples.count()
    }

    fn label(&self, index: usize) -> u16 {
        self.labels.get(index).copied().unwrap_or(0)
    }

    fn input(&self, index: usize, out: &mut [f32]) {
        if let Err(error) = self.image(index, out) {
            // Numbers that are none make a loss that is none, which ends the training.
            out.fill(f32::NAN);
            let mut failed = self.failed.lock();
            failed.get_or_insert(error);
        }
    }

    fn identity(&self) -> String {
        self.identity.clone()
    }
}

/// Trains all heads; each is kept as an ONNX file, in the order of the request.
pub(super) fn heads(job: &Job, agent: &Agent, request: &TrainHeads) -> Result<Trained, JobError> {
    let start = Instant::now();
    let backbone = fused(agent.store.graph(&request.model, "network")?);
    let open = |of| LabelledImages::open(agent, of, &request.preprocessing);
    let lessons = open(&request.lessons)?;
    let judge = request.judge.as_ref().map(open).transpose()?;
    let mut graphs = Vec::new();
    let mut dropout: Vec<Vec<Dropout>> = Vec::new();
    for head in &request.heads {
        graphs.push(agent.store.graph(&head.model, &head.name)?);
        let dropped = head.dropout.iter().cloned();
        dropout.push(
            dropped
                .map(|(value, rate)| Dropout { value, rate })
                .collect(),
        );
    }
    let pairs = request.heads.iter().zip(&graphs).zip(&dropout);
    let specs: Vec<HeadSpec> = pairs
        .map(|((head, graph), dropout)| HeadSpec {
            name: head.name.clone(),
            value: head.value.clone(),
            graph,
            dropout,
            recipe: head.recipe,
        })
        .collect();
    let task = Task {
        data: &lessons,
        hyper: &request.hyper,
        judge: judge.as_ref().map(|j| j as &dyn train::Samples),
        saved: None,
        cancel: &job.cancel,
    };
    let limits = CacheLimits {
        memory_bytes: CACHE_BYTES,
        folder: Some(agent.folder.clone()),
        kept: None,
        batch: request.batch,
    };
    let mut curve = Vec::new();
    let mut reporter = Reporter {
        job,
        reported: None,
    };
    let trained = train_heads(&backbone, &specs, &task, &limits, &mut |event| {
        curve.extend(reporter.report(event));
    });
    // Why the numbers were none is told rather than that they were.
    for lessons in judge.into_iter().chain([lessons]) {
        if let Some(error) = lessons.failed.into_inner() {
            return Err(error);
        }
    }
    for head in &trained? {
        job.keep(&to_onnx(head).map_err(JobError::invalid)?)?;
    }
    Ok(Trained {
        heads: request.heads.len(),
        curve,
        seconds: start.elapsed().as_secs_f64(),
    })
}

/// Tells a training's events to a job's followers.
struct Reporter<'a> {
    job: &'a Job,
    reported: Option<Instant>,
}

impl Reporter<'_> {
    /// Gives the epoch that is over, if one is.
    fn report(&mut self, event: train::Event) -> Option<Epoch> {
        if let Some(text) = event.remark() {
            self.job.events.push(JobEvent::Log { text });
        }
        match event {
            train::Event::Features { done, total } => {
                let due = self.reported.is_none_or(|at| at.elapsed() >= REPORT);
                if due || done == total {
                    self.reported = Some(Instant::now());
                    self.progress(done, total, "images through the network");
                }
            }
            train::Event::Epoch {
                epoch,
                epochs,
                scores,
                validation,
                ..
            } => {
                let over = Epoch {
                    epoch,
                    epochs,
                    scores,
                    validation,
                };
                self.job.events.push(JobEvent::Epoch(over.clone()));
                self.progress(epoch, epochs, "epochs");
                return Some(over);
            }
            _ => {}
        }
        None
    }

    fn progress(&self, done: usize, total: usize, note: &str) {
        self.job.events.push(JobEvent::Progress(Progress {
            done: done as u64,
            total: total as u64,
            note: note.to_string(),
            ..Progress::default()
        }));
    }
}
