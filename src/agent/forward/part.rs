/*! The next tier's part, on an agent. */

use super::request::Request;
use super::{Answered, Terms, infer_request};
use crate::agent::error::JobError;
use crate::agent::offload::{Offload, OffloadError};
use crate::engine::Cancel;
use crate::protocol::message::{AgentInfo, CloudTarget, Hop, INFER_HEADER, InferReply, Prepared};
use hyper::Method;
use hyper::body::Bytes;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use std::time::Duration;

/// A part on an agent, or an agent that passes samples on.
pub(super) struct RemotePart {
    offload: Offload,
    /// Where it is made ready; its samples go to `/infer` below.
    prepare: String,
    path: String,
    header: HeaderValue,
    /// Exits of the part and of those behind it.
    pub(super) exits: usize,
    /// Extents of one sample of its input.
    input: Vec<usize>,
    /// Whether its times, or any behind it, are stretched.
    pub(super) emulated: bool,
}

impl RemotePart {
    /// Has the part made ready there, and what is behind it, so that no sample waits for it.
    pub(super) fn open(
        target: &CloudTarget,
        hop: &Hop,
        terms: &Terms,
        cancel: &Cancel,
    ) -> Result<RemotePart, JobError> {
        let mut offload = Offload::new(target, hop.link, cancel)?;
        let info: AgentInfo = offload.ask(Method::GET, "/v1/info")?;
        let request = serde_json::to_vec(&infer_request(terms)).map_err(JobError::invalid)?;
        // Names of models may be beyond ASCII.
        let header = HeaderValue::from_bytes(&request).map_err(JobError::invalid)?;
        let prepare = match &hop.part {
            Some(part) => format!("/v1/parts/{part}"),
            None => "/v1/relay".to_string(),
        };
        let name = HeaderName::from_static(INFER_HEADER);
        let with = Some((&name, &header));
        let answer = offload.exchange(Method::POST, &prepare, with, Bytes::new(), None)?;
        let prepared: Prepared = offload.parse(&answer)?;
        if !prepared.part.ends_network && prepared.behind.is_none() {
            let what = "the part for the cloud doesn't end the network".to_string();
            return Err(JobError::invalid(what));
        }
        let behind = prepared.behind;
        Ok(RemotePart {
            offload,
            path: format!("{prepare}/infer"),
            prepare,
            header,
            exits: prepared.part.exits + behind.map_or(0, |b| b.exits),
            input: prepared.part.input,
            emulated: info.slowdown != 1.0 || behind.is_some_and(|b| b.emulated),
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

    /// Extents of one sample of its input.
    pub(super) fn takes(&self) -> &[usize] {
        &self.input
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
                tier_ms: (reply.decode_ms + reply.compute_ms) as f32,
                outstanding: reply.outstanding,
                passed: reply.passed.into_iter().next().unwrap_or_default(),
                notes: reply.notes,
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
        let name = HeaderName::from_static(INFER_HEADER);
        let with = Some((&name, &self.header));
        let offload = &mut self.offload;
        let ready = offload.exchange(
            Method::POST,
            &self.prepare,
            with,
            Bytes::new(),
            Some(within),
        );
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
