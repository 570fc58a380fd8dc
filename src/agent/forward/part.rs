/*! The next tier's part, on an agent. */

use super::request::Request;
use super::{Answered, Terms, infer_request};
use crate::agent::error::JobError;
use crate::agent::offload::{Offload, OffloadError};
use crate::agent::onward::EXITS;
use crate::engine::Cancel;
use crate::plan::Tier;
use crate::protocol::message::{AgentInfo, CloudTarget, Hop, INFER_HEADER, InferReply, Prepared};
use hyper::Method;
use hyper::body::Bytes;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use std::time::Duration;

/// Bytes of the largest answer about a part or for one sample.
const LARGEST_REPLY: usize = 1 << 20;
/// Extents of a sample.
const MOST_DIMS: usize = 8;
/// Targets behind that may have been asked for one sample.
const MOST_ASKED: usize = 64;
/// Milliseconds that a sample takes nowhere: a month.
const LONGEST_MS: f64 = 2.6e9;
/// Lines for a log that are taken of one answer, and characters of each.
const MOST_NOTES: usize = 4;
const LONGEST_NOTE: usize = 500;

/// The answer for one sample, as far as it can be true; `exits` stand in the part and behind it.
fn answer_of(reply: InferReply, exits: usize) -> Result<Answered, &'static str> {
    let [answer] = reply.answers.as_slice() else {
        return Err("not one answer for one sample");
    };
    if usize::from(answer.exit) > exits {
        return Err("an exit that isn't there");
    }
    let passed = reply.passed.into_iter().next().unwrap_or_default();
    let tiers = Tier::ALL.len();
    if passed.hops.len() >= tiers
        || passed.tier_ms.len() >= tiers
        || passed.asked.len() > MOST_ASKED
    {
        return Err("more tiers or targets than there can be");
    }
    let hops = passed.hops.iter();
    let hops = hops.flat_map(|hop| [hop.encode_ms, hop.network_ms]);
    let mut times = hops.chain(passed.tier_ms.iter().copied()).map(f64::from);
    let own = [reply.decode_ms, reply.compute_ms];
    let is_time = |ms: f64| (0.0..LONGEST_MS).contains(&ms);
    if !times.all(is_time) || !own.into_iter().all(is_time) || !answer.confidence.is_finite() {
        return Err("a time or a confidence that can't be");
    }
    let notes = reply.notes.into_iter().take(MOST_NOTES);
    Ok(Answered {
        answer: *answer,
        tier_ms: (reply.decode_ms + reply.compute_ms) as f32,
        outstanding: reply.outstanding,
        passed,
        notes: notes
            .map(|note| note.chars().take(LONGEST_NOTE).collect())
            .collect(),
    })
}

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
        let mut offload = Offload::new(target, hop.link, cancel)?.reads_at_most(LARGEST_REPLY);
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
        let exits = prepared
            .part
            .exits
            .checked_add(behind.map_or(0, |b| b.exits));
        let dims = prepared.part.input.len();
        let Some(exits) = exits.filter(|n| *n <= EXITS && dims <= MOST_DIMS) else {
            return Err(offload
                .misunderstood("a part of too many exits or extents")
                .into());
        };
        Ok(RemotePart {
            offload,
            path: format!("{prepare}/infer"),
            prepare,
            header,
            exits,
            input: prepared.part.input,
            emulated: info.slowdown != 1.0 || behind.is_some_and(|b| b.emulated),
        })
    }

    /// Whether a sample of these extents is what the part takes.
    pub(super) fn fits(&self, sends: &[usize]) -> Result<(), JobError> {
        if sends != self.input {
            return Err(JobError::invalid(format!(
                "the edge sends {sends:?} per sample, the cloud part takes {:?}: they are not of one \
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
        let checked = answer_of(reply, self.exits);
        checked.map_err(|what| self.offload.misunderstood(what))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::predict::HopRecord;
    use crate::protocol::message::{Asked, Passed};
    use crate::runtime::runner::PartAnswer;
    use rstest::rstest;

    fn good() -> InferReply {
        InferReply {
            answers: vec![PartAnswer {
                exit: 3,
                prediction: 7,
                confidence: 0.5,
            }],
            decode_ms: 1.0,
            compute_ms: 2.0,
            outstanding: 0,
            passed: vec![Passed {
                tier_ms: vec![1.0],
                hops: vec![HopRecord::default()],
                degraded: false,
                asked: Vec::new(),
            }],
            notes: Vec::new(),
        }
    }

    #[rstest]
    #[case::as_it_should_be(|_: &mut InferReply| {}, true)]
    #[case::none(|r: &mut InferReply| r.answers.clear(), false)]
    #[case::two(|r: &mut InferReply| r.answers.push(r.answers[0]), false)]
    #[case::exit(|r: &mut InferReply| r.answers[0].exit = 4, false)]
    #[case::largest_exit(|r: &mut InferReply| r.answers[0].exit = u16::MAX, false)]
    #[case::confidence(|r: &mut InferReply| r.answers[0].confidence = f32::INFINITY, false)]
    #[case::negative(|r: &mut InferReply| r.compute_ms = -1.0, false)]
    #[case::for_ever(|r: &mut InferReply| r.decode_ms = f64::MAX, false)]
    #[case::tier(|r: &mut InferReply| r.passed[0].tier_ms = vec![f32::INFINITY], false)]
    #[case::link(|r: &mut InferReply| r.passed[0].hops[0].network_ms = -0.5, false)]
    #[case::tiers(|r: &mut InferReply| r.passed[0].tier_ms = vec![0.0; 4], false)]
    #[case::links(|r: &mut InferReply| r.passed[0].hops = vec![HopRecord::default(); 4], false)]
    #[case::asked(
        |r: &mut InferReply| {
            r.passed[0].asked = vec![Asked { hop: 0, target: 0, answered: true }; 65];
        },
        false
    )]
    fn an_answer_is_believed_as_far_as_it_can_be_true(
        #[case] change: fn(&mut InferReply),
        #[case] believed: bool,
    ) {
        let mut reply = good();
        change(&mut reply);
        assert_eq!(answer_of(reply, 3).is_ok(), believed);
    }

    #[test]
    fn what_a_target_has_to_say_is_cut_short() {
        let reply = InferReply {
            notes: vec!["x".repeat(10_000); 100],
            ..good()
        };
        let notes = answer_of(reply, 3).unwrap().notes;
        assert_eq!(notes, vec!["x".repeat(500); 4]);
    }
}
