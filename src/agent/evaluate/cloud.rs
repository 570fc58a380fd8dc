/*! The cloud's part on an agent. */

use super::request::Request;
use crate::agent::error::JobError;
use crate::agent::offload::{Offload, OffloadError};
use crate::engine::Cancel;
use crate::protocol::message::{
    AgentInfo, CloudTarget, Evaluate, INFER_HEADER, InferReply, InferRequest, Mode,
};
use crate::runtime::runner::{PartAnswer, PartInfo};
use hyper::Method;
use hyper::body::Bytes;
use hyper::header::{HeaderMap, HeaderValue};
use std::time::Duration;

/// What comes back for a sample.
pub(super) struct Answered {
    pub(super) answer: PartAnswer,
    /// Milliseconds that the cloud worked for it; 0 where it doesn't say.
    pub(super) cloud_ms: f32,
    /// Other requests it had then.
    pub(super) outstanding: u32,
}

/// A part on an agent.
pub(super) struct Cloud {
    offload: Offload,
    path: String,
    header: HeaderValue,
    /// Exits of the part.
    pub(super) exits: usize,
    /// Extents of one sample of its input.
    input: Vec<usize>,
    /// Whether its times are stretched.
    pub(super) emulated: bool,
}

impl Cloud {
    /// Has the part made ready there, so that no sample waits for it. Of the run's `thresholds` those
    /// behind the first `edge_exits` are the part's.
    pub(super) fn open(
        cloud: &CloudTarget,
        part: &str,
        edge_exits: usize,
        run: &Evaluate,
        cancel: &Cancel,
    ) -> Result<Cloud, JobError> {
        let mut offload = Offload::new(cloud, run.link, cancel)?;
        let info: AgentInfo = offload.ask(Method::GET, "/v1/info")?;
        let prepared: PartInfo = offload.ask(Method::POST, &format!("/v1/parts/{part}"))?;
        if !prepared.ends_network {
            let what = "the part for the cloud doesn't end the network".to_string();
            return Err(JobError::invalid(what));
        }
        let pixels = matches!(run.mode, Mode::CloudOnly { .. });
        let thresholds = run.thresholds.get(edge_exits..).unwrap_or_default();
        let request = InferRequest {
            confidence: run.confidence,
            thresholds: thresholds.to_vec(),
            pixels: pixels.then(|| run.preprocessing.clone()),
        };
        let request = serde_json::to_string(&request).map_err(JobError::invalid)?;
        Ok(Cloud {
            offload,
            path: format!("/v1/parts/{part}/infer"),
            header: HeaderValue::from_str(&request).map_err(JobError::invalid)?,
            exits: prepared.exits,
            input: prepared.input,
            emulated: info.slowdown != 1.0,
        })
    }

    /// Whether a sample of these extents is what the part takes.
    pub(super) fn fits(&self, sends: &[usize]) -> Result<(), JobError> {
        if sends != self.input {
            return Err(JobError::invalid(format!(
                "the edge sends {sends:?} a sample, the cloud part takes {:?}: they are not of one \
                 plan",
                self.input
            )));
        }
        Ok(())
    }

    /// A request for one sample.
    pub(super) fn request(&self, body: Bytes) -> Request {
        let mut headers = HeaderMap::with_capacity(4);
        headers.insert(INFER_HEADER, self.header.clone());
        Request { headers, body }
    }

    pub(super) fn infer(
        &mut self,
        request: &Request,
        deadline: Option<Duration>,
    ) -> Result<Answered, OffloadError> {
        let (headers, body) = (request.headers.clone(), request.body.clone());
        let (path, offload) = (&self.path, &mut self.offload);
        let reply = offload.answered(Method::POST, path, headers, body, deadline)?;
        let reply: InferReply = self.offload.parse(&reply.body)?;
        match reply.answers.as_slice() {
            [answer] => Ok(Answered {
                answer: *answer,
                cloud_ms: (reply.decode_ms + reply.compute_ms) as f32,
                outstanding: reply.outstanding,
            }),
            other => Err(OffloadError::Answer {
                url: self.offload.url().to_string(),
                what: format!("{} answers for one sample", other.len()),
            }),
        }
    }

    /// Whether it answers, within this time.
    pub(super) fn ready(&mut self, within: Duration) -> Result<(), OffloadError> {
        // A part that an agent lost with its life is made ready again, or missed now.
        let path = self.path.trim_end_matches("/infer");
        let offload = &mut self.offload;
        let ready = offload.exchange(Method::POST, path, None, Bytes::new(), Some(within));
        ready.map(drop)
    }

    pub(super) fn reset_memory(&mut self) -> Result<(), OffloadError> {
        let reset =
            self.offload
                .exchange(Method::POST, "/v1/memory/reset", None, Bytes::new(), None);
        match reset {
            // A system that can't: the peak then counts from the start of the process.
            Ok(_) | Err(OffloadError::Refused { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Its peak of resident memory; 0 where it can't be asked any more.
    pub(super) fn resident_bytes(&mut self) -> usize {
        let info: Result<AgentInfo, _> = self.offload.ask(Method::GET, "/v1/info");
        info.map_or(0, |i| i.resident_bytes)
    }
}
