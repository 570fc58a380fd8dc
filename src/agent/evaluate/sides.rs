/*! The two sides of a run as the edge sees them: its own part, and the cloud's over the wire. */

use crate::agent::error::JobError;
use crate::agent::infer::image;
use crate::agent::offload::{Offload, OffloadError};
use crate::agent::runner::{Rules, Runner, Verdict, Work};
use crate::agent::samples::Samples;
use crate::agent::server::Agent;
use crate::engine::Cancel;
use crate::remote::message::{
    AgentInfo, CloudTarget, Evaluate, INFER_HEADER, InferReply, InferRequest, Mode, PartAnswer,
    Prepared,
};
use crate::remote::wire;
use hyper::Method;
use hyper::body::Bytes;
use hyper::header::{HeaderName, HeaderValue};
use std::sync::Arc;
use std::time::Duration;

/// The edge's part (none in a cloud-only run), and the sample that is being run.
pub(super) struct Edge<'a> {
    samples: Samples,
    run: &'a Evaluate,
    part: Option<(Arc<Runner>, Work, Vec<f32>)>,
    thresholds: &'a [f64],
    pixels: Vec<u8>,
}

impl<'a> Edge<'a> {
    pub(super) fn open(agent: &Agent, run: &'a Evaluate) -> Result<Edge<'a>, JobError> {
        let samples = Samples::open(agent.store.need(&run.data)?)?;
        let count = samples.count();
        if let Some(wrong) = run.samples.iter().find(|&&s| s as usize >= count) {
            return Err(JobError::Failed(format!(
                "sample {wrong} of a data set of {count}"
            )));
        }
        let shape = samples.shape();
        let pixels = vec![0; shape.iter().product()];
        let part = match &run.mode {
            Mode::CloudOnly { .. } => None,
            Mode::EdgeOnly { part } | Mode::Distributed { part, .. } => {
                let runner = agent.parts.prepare(part, &agent.store)?;
                let about = runner.about();
                let distributed = matches!(run.mode, Mode::Distributed { .. });
                if distributed && about.ends_network {
                    return Err(JobError::Failed(
                        "the edge part ends the network: there is nothing left for a cloud".into(),
                    ));
                }
                let answers = run.last_exit_answers && about.exits > 0;
                if !distributed && !about.ends_network && !answers {
                    return Err(JobError::Failed(
                        "the edge part doesn't end the network and its last exit may not answer"
                            .into(),
                    ));
                }
                if image(&runner, run.preprocessing.layout) != Some(shape) {
                    return Err(JobError::Failed(format!(
                        "the part takes {:?} in the layout {:?}, the data set has {shape:?}",
                        about.input, run.preprocessing.layout
                    )));
                }
                let work = runner.work();
                let input = vec![0.0; pixels.len()];
                Some((runner, work, input))
            }
        };
        let exits = part.as_ref().map_or(0, |(r, ..)| r.about().exits);
        let thresholds = run.thresholds.get(..exits).ok_or_else(|| {
            let found = run.thresholds.len();
            JobError::Failed(format!("{found} thresholds for {exits} exits at the edge"))
        })?;
        Ok(Edge {
            samples,
            run,
            part,
            thresholds,
            pixels,
        })
    }

    pub(super) fn exits(&self) -> usize {
        self.thresholds.len()
    }

    /// Whether what leaves here is what the cloud part takes.
    pub(super) fn fits(&self, cloud: &[usize], run: &Evaluate) -> Result<(), JobError> {
        let sent = match &self.part {
            Some((runner, ..)) => runner.output_shape(1)[1..].to_vec(),
            None => {
                let [c, h, w] = self.samples.shape();
                match run.preprocessing.layout {
                    crate::data::Layout::Nchw => vec![c, h, w],
                    crate::data::Layout::Nhwc => vec![h, w, c],
                }
            }
        };
        if sent != cloud {
            return Err(JobError::Failed(format!(
                "the edge sends {sent:?} a sample, the cloud part takes {cloud:?}: they are not of \
                 one plan"
            )));
        }
        Ok(())
    }

    /// Reads and preprocesses a sample; not part of its time.
    pub(super) fn load(&mut self, sample: u32) -> Result<(), JobError> {
        self.samples.read(sample, &mut self.pixels)?;
        if let Some((_, _, input)) = &mut self.part {
            let shape = self.samples.shape();
            let done = self.run.preprocessing.apply(shape, &self.pixels, input);
            done.map_err(JobError::of)?;
        }
        Ok(())
    }

    pub(super) fn run(&mut self, cancel: &Cancel) -> Result<Verdict, JobError> {
        let Some((runner, work, input)) = &mut self.part else {
            return Ok(Verdict::default());
        };
        let rules = Rules {
            confidence: self.run.confidence,
            thresholds: self.thresholds,
            last_exit_answers: self.run.last_exit_answers,
        };
        runner.run(1, input, &rules, work, cancel)?;
        Ok(work.verdicts[0])
    }

    pub(super) fn compute_ms(&self) -> f32 {
        self.part.as_ref().map_or(0.0, |(_, w, _)| w.compute_ms())
    }

    /// What is sent on: the tensor at the split, or the pixels.
    pub(super) fn body(&self, run: &Evaluate) -> Result<Bytes, JobError> {
        let bytes = match &self.part {
            Some((runner, work, _)) => {
                wire::encode(run.wire, &runner.output_shape(1), work.tensor())
                    .map_err(JobError::of)?
            }
            None => self.pixels.clone(),
        };
        Ok(Bytes::from(bytes))
    }
}

/// The cloud's part.
pub(super) struct Cloud<'a> {
    offload: Offload,
    path: String,
    header: (HeaderName, HeaderValue),
    deadline: Option<Duration>,
    pub(super) exits: usize,
    /// Extents of one sample of its input.
    pub(super) input: Vec<usize>,
    /// Whether its times are stretched.
    pub(super) emulated: bool,
    cancel: &'a Cancel,
}

impl<'a> Cloud<'a> {
    /// Has the part made ready there, so that no sample waits for it.
    pub(super) fn open(
        cloud: &CloudTarget,
        part: &str,
        thresholds: &[f64],
        run: &Evaluate,
        cancel: &'a Cancel,
    ) -> Result<Cloud<'a>, JobError> {
        let mut offload = Offload::new(cloud, run.link, cancel)?;
        let info: AgentInfo = offload.ask(Method::GET, "/v1/info")?;
        let prepared: Prepared = offload.ask(Method::POST, &format!("/v1/parts/{part}"))?;
        if !prepared.ends_network {
            let what = "the part for the cloud doesn't end the network".to_string();
            return Err(JobError::Failed(what));
        }
        let pixels = matches!(run.mode, Mode::CloudOnly { .. });
        let request = InferRequest {
            confidence: run.confidence,
            thresholds: thresholds.to_vec(),
            pixels: pixels.then(|| run.preprocessing.clone()),
        };
        let request = serde_json::to_string(&request).map_err(JobError::of)?;
        Ok(Cloud {
            offload,
            path: format!("/v1/parts/{part}/infer"),
            header: (
                HeaderName::from_static(INFER_HEADER),
                HeaderValue::from_str(&request).map_err(JobError::of)?,
            ),
            deadline: run
                .deadline_ms
                .map(|ms| Duration::from_secs_f64(ms.max(0.0) / 1e3)),
            exits: prepared.exits,
            input: prepared.input,
            emulated: info.slowdown != 1.0,
            cancel,
        })
    }

    /// The answer, and the milliseconds that the cloud worked for it.
    pub(super) fn infer(&mut self, body: Bytes) -> Result<(PartAnswer, f32), OffloadError> {
        let header = Some((&self.header.0, &self.header.1));
        let reply = self
            .offload
            .exchange(Method::POST, &self.path, header, body, self.deadline);
        let reply: InferReply = self.offload.parse(&reply?)?;
        match reply.answers.as_slice() {
            [answer] => Ok((*answer, (reply.decode_ms + reply.compute_ms) as f32)),
            other => Err(OffloadError::Answer {
                url: self.offload.url().to_string(),
                what: format!("{} answers for one sample", other.len()),
            }),
        }
    }

    pub(super) fn reset_memory(&mut self) -> Result<(), JobError> {
        let reset =
            self.offload
                .exchange(Method::POST, "/v1/memory/reset", None, Bytes::new(), None);
        match reset {
            // A system that can't: the peak then counts from the start of the process.
            Ok(_) | Err(OffloadError::Refused { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Its peak of resident memory; 0 where it can't be asked any more.
    pub(super) fn resident_bytes(&mut self) -> usize {
        if self.cancel.is_cancelled() {
            return 0;
        }
        let info: Result<AgentInfo, _> = self.offload.ask(Method::GET, "/v1/info");
        info.map_or(0, |i| i.resident_bytes)
    }
}
