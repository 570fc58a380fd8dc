/*! The edge's side of a run: its part, and the sample that is being run. */

use crate::agent::error::JobError;
use crate::agent::forward::Payload;
use crate::agent::samples::Samples;
use crate::agent::state::Agent;
use crate::data::Layout;
use crate::engine::Cancel;
use crate::predict::policy::Decision;
use crate::protocol::message::Evaluate;
use crate::runtime::runner::{ExitRules, Runner, Verdict, Workspace};
use std::sync::Arc;

/// The edge's part (none in a cloud-only run), and the sample that is being run.
pub(super) struct LocalPart<'a> {
    samples: Samples,
    run: &'a Evaluate,
    part: Option<(Arc<Runner>, Workspace, Vec<f32>)>,
    thresholds: &'a [f64],
    pixels: Vec<u8>,
    /// Of a cloud-only run whose cloud doesn't preprocess: the network's input.
    plain: Option<Vec<f32>>,
}

impl<'a> LocalPart<'a> {
    pub(super) fn open(agent: &Agent, run: &'a Evaluate) -> Result<LocalPart<'a>, JobError> {
        let samples = Samples::open(agent.store.checked(&run.data)?)?;
        let count = samples.count();
        if let Some(wrong) = run.samples.iter().find(|&&s| s as usize >= count) {
            return Err(JobError::invalid(format!(
                "sample {wrong} of a data set of {count}"
            )));
        }
        let shape = samples.shape();
        let pixels = vec![0; shape.iter().product()];
        let part = match &run.route.part {
            None => None,
            Some(part) => {
                let runner = agent.parts.prepare(part, &agent.store)?;
                let about = runner.info();
                let distributed = !run.route.onward.is_empty();
                if distributed && about.ends_network {
                    return Err(JobError::invalid(
                        "the edge part ends the network: there is nothing left for a cloud",
                    ));
                }
                let answers = run.last_exit_answers && about.exits > 0;
                if !distributed && !about.ends_network && !answers {
                    return Err(JobError::invalid(
                        "the edge part doesn't end the network and its last exit may not answer",
                    ));
                }
                if runner.image(run.preprocessing.layout) != Some(shape) {
                    return Err(JobError::invalid(format!(
                        "the part takes {:?} in the layout {:?}, the data set has {shape:?}",
                        about.input, run.preprocessing.layout
                    )));
                }
                let work = runner.work();
                let input = vec![0.0; pixels.len()];
                Some((runner, work, input))
            }
        };
        let exits = part.as_ref().map_or(0, |(r, ..)| r.info().exits);
        let thresholds = run.thresholds.get(..exits).ok_or_else(|| {
            let found = run.thresholds.len();
            JobError::invalid(format!("{found} thresholds for {exits} exits at the edge"))
        })?;
        Ok(LocalPart {
            samples,
            run,
            part,
            thresholds,
            pixels,
            plain: None,
        })
    }

    /// Preprocesses here what a cloud-only run sends.
    pub(super) fn preprocess(&mut self) {
        if self.part.is_none() {
            self.plain = Some(vec![0.0; self.pixels.len()]);
        }
    }

    pub(super) fn exits(&self) -> usize {
        self.thresholds.len()
    }

    /// Extents of one sample of what leaves here.
    pub(super) fn sends(&self) -> Vec<usize> {
        match &self.part {
            Some((runner, ..)) if self.run.jpeg.is_none() => runner.output_shape(1)[1..].to_vec(),
            _ => {
                let [c, h, w] = self.samples.shape();
                match self.run.preprocessing.layout {
                    Layout::Nchw => vec![c, h, w],
                    Layout::Nhwc => vec![h, w, c],
                }
            }
        }
    }

    /// Reads and preprocesses a sample; not part of its time.
    pub(super) fn load(&mut self, sample: u32) -> Result<(), JobError> {
        self.samples.read(sample, &mut self.pixels)?;
        let input = match &mut self.part {
            Some((_, _, input)) => Some(input),
            None => self.plain.as_mut(),
        };
        if let Some(input) = input {
            let shape = self.samples.shape();
            let done = self.run.preprocessing.apply(shape, &self.pixels, input);
            done.map_err(JobError::invalid)?;
        }
        Ok(())
    }

    pub(super) fn run(&mut self, cancel: &Cancel) -> Result<Verdict, JobError> {
        let Some((runner, work, input)) = &mut self.part else {
            return Ok(Verdict::default());
        };
        let rules = ExitRules {
            confidence: self.run.confidence,
            thresholds: self.thresholds,
            last_exit_answers: self.run.last_exit_answers,
            earlier: &[],
        };
        runner.run(1, input, &rules, work, cancel)?;
        Ok(work.verdicts[0])
    }

    /// What the exits here said of the sample, where those behind look at it.
    pub(super) fn said(&self) -> &[Decision] {
        self.part
            .as_ref()
            .map_or(&[], |(_, work, _)| work.trail.of(0))
    }

    pub(super) fn compute_ms(&self) -> f32 {
        self.part.as_ref().map_or(0.0, |(_, w, _)| w.compute_ms())
    }

    /// Whether pixels are sent on, as they are or coded, rather than a tensor.
    pub(super) fn sends_pixels(&self) -> bool {
        self.part.is_none() || self.run.jpeg.is_some()
    }

    /// What is sent on: the image, the tensor at the split, or the pixels, beside the network's input where
    /// [`LocalPart::preprocess`] was asked for.
    pub(super) fn payload(&self) -> Payload<'_> {
        match &self.part {
            _ if self.run.jpeg.is_some() => Payload::Image(&self.pixels, self.samples.shape()),
            Some((_, work, _)) => Payload::Tensor(work.tensor()),
            None => Payload::Pixels(&self.pixels, self.plain.as_deref()),
        }
    }
}
