/*!
What leaves a part on its way to the next tier: from the edge of a run and from an agent between tiers
alike. Each sample goes to the target of the next tier that has the least to do; one that fails is passed
over, asked again later, and named.

A sender has one request under way, so what its targets have to do is mostly others' doing: each says
with an answer how many other requests it had, which is believed until it is asked again, and a little
less with every sample that went elsewhere. Among equals the one that has waited the longest is next.
*/

mod part;
mod request;
mod v2;

use super::error::JobError;
use super::offload::OffloadError;
use crate::data::{Preprocessing, jpeg};
use crate::engine::Cancel;
use crate::plan::Link;
use crate::predict::Confidence;
use crate::predict::policy::Decision;
use crate::protocol::message::{
    Asked, CloudTarget, EARLIER_HEADER, FailureKind, Hop, InferRequest, Onward, Passed,
};
use crate::protocol::wire;
use crate::runtime::runner::PartAnswer;
use hyper::body::Bytes;
use hyper::header::HeaderValue;
use part::RemotePart;
use request::Request;
use std::time::{Duration, Instant};
use v2::V2;

/// How long a target that failed is passed over; twice as long after each further failure.
const FIRST_BREAK: Duration = Duration::from_secs(1);
const LONGEST_BREAK: Duration = Duration::from_secs(30);
/// What a look at a target that failed may take, between two samples.
const RECHECK: Duration = Duration::from_millis(500);

/// How long the only target may say that it has too much to do, and the pause between two requests.
const BUSY_PATIENCE: Duration = Duration::from_secs(10);
const BUSY_PAUSE: Duration = Duration::from_millis(100);

/// What goes with every sample.
#[derive(Debug, Clone)]
pub(super) struct Terms {
    pub(super) confidence: Confidence,
    /// One per exit of all parts behind.
    pub(super) thresholds: Vec<f64>,
    pub(super) onward: Onward,
    /// Set where pixels are sent.
    pub(super) pixels: Option<Preprocessing>,
    /// Quality of the JPEG file that the pixels are sent as; as they are where absent.
    pub(super) jpeg: Option<u8>,
    /// Extents of a sample of what is sent; unknown to an agent that passes on what came.
    pub(super) sends: Option<Vec<usize>>,
    /// Whether an exit before the link can answer where nobody behind it does.
    pub(super) can_answer: bool,
}

/// What is sent of one sample.
pub(super) enum Payload<'a> {
    /// The tensor at a part's end.
    Tensor(&'a [f32]),
    /// Pixels as they are, beside the network's input for a server that doesn't preprocess.
    Pixels(&'a [u8], Option<&'a [f32]>),
    /// Pixels `[c, h, w]` and these extents, to be coded as a JPEG file.
    Image(&'a [u8], [usize; 3]),
    /// A body as it came, passed on.
    Body(Bytes),
}

/// What comes back for a sample.
#[derive(Debug, Clone)]
pub(super) struct Answered {
    pub(super) answer: PartAnswer,
    /// Milliseconds that the target worked for it itself; 0 where it doesn't say.
    pub(super) tier_ms: f32,
    /// Other requests it had then.
    pub(super) outstanding: u32,
    /// What became of it behind the target.
    pub(super) passed: Passed,
    /// What the target has to say.
    pub(super) notes: Vec<String>,
}

impl Answered {
    /// Milliseconds that the target and all behind it took, links between them included.
    pub(super) fn behind_ms(&self) -> f32 {
        let hops = self.passed.hops.iter();
        let hops: f32 = hops.map(|hop| hop.encode_ms + hop.network_ms).sum();
        self.tier_ms + hops + self.passed.tier_ms.iter().sum::<f32>()
    }
}

enum Protocol {
    Agent(RemotePart),
    V2(V2),
}

impl Protocol {
    fn open(
        target: &CloudTarget,
        hop: &Hop,
        terms: &Terms,
        cancel: &Cancel,
    ) -> Result<Protocol, JobError> {
        Ok(match &target.v2 {
            Some(model) => {
                let mut v2 = V2::open(target, model, hop.link, terms, cancel)?;
                if let Some(sends) = &terms.sends {
                    v2.fits(sends)?;
                }
                Protocol::V2(v2)
            }
            None => {
                let part = RemotePart::open(target, hop, terms, cancel)?;
                if let Some(sends) = &terms.sends {
                    part.fits(sends)?;
                }
                Protocol::Agent(part)
            }
        })
    }

    fn ready(&mut self) -> Result<(), OffloadError> {
        match self {
            Protocol::Agent(part) => part.ready(RECHECK),
            Protocol::V2(v2) => v2.ready(RECHECK),
        }
    }

    /// The request for a sample, of which the exits before said this.
    fn request(
        &mut self,
        payload: &Payload,
        earlier: &[Decision],
        terms: &Terms,
    ) -> Result<Request, JobError> {
        let mut request = self.without_earlier(payload, terms)?;
        if !earlier.is_empty() {
            let told = serde_json::to_vec(&[earlier]).map_err(JobError::invalid)?;
            let told = HeaderValue::from_bytes(&told).map_err(JobError::invalid)?;
            request.headers.insert(EARLIER_HEADER, told);
        }
        Ok(request)
    }

    fn without_earlier(&mut self, payload: &Payload, terms: &Terms) -> Result<Request, JobError> {
        let shape = || {
            let sample = terms.sends.as_deref().unwrap_or_default();
            [&[1], sample].concat()
        };
        match (self, payload) {
            (Protocol::Agent(part), Payload::Tensor(tensor)) => {
                let body = wire::encode(terms.onward.wire, &shape(), tensor);
                Ok(part.request(Bytes::from(body.map_err(JobError::invalid)?)))
            }
            (Protocol::Agent(part), Payload::Pixels(pixels, _)) => {
                Ok(part.request(Bytes::copy_from_slice(pixels)))
            }
            (Protocol::Agent(part), Payload::Image(pixels, shape)) => {
                let quality = terms.jpeg.unwrap_or_default();
                let file = jpeg::encode(*shape, pixels, quality).map_err(JobError::invalid)?;
                Ok(part.request(Bytes::from(file)))
            }
            (Protocol::Agent(part), Payload::Body(body)) => Ok(part.request(body.clone())),
            (Protocol::V2(v2), Payload::Tensor(tensor) | Payload::Pixels(_, Some(tensor))) => {
                v2.request(&shape(), tensor)
            }
            (Protocol::V2(_), Payload::Pixels(_, None) | Payload::Image(..) | Payload::Body(_)) => {
                Err(JobError::invalid(
                    "a server of the Open Inference Protocol takes tensors alone: give the tier before \
                     it something to run",
                ))
            }
        }
    }
}

/// How busy a target is believed to be; pure, so that it can be tested.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Load {
    /// Requests it is believed to have.
    requests: u32,
    /// When it was last asked, counted in samples.
    asked: u64,
    closed: bool,
}

/// The open one with the least to do, the one not asked for the longest among equals.
fn next(loads: impl Iterator<Item = Load>) -> Option<usize> {
    let open = loads.enumerate().filter(|(_, t)| !t.closed);
    open.min_by_key(|(_, t)| (t.requests, t.asked))
        .map(|(at, _)| at)
}

/// Requests that a target answered, and those it didn't, or not in time.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counts {
    answered: u64,
    failed: u64,
}

struct NextTarget {
    target: CloudTarget,
    protocol: Option<Protocol>,
    counts: Counts,
    load: Load,
    /// When a closed one is looked at again, and how long it is left alone after that.
    again: Instant,
    pause: Duration,
}

impl NextTarget {
    fn close(&mut self) {
        self.load.closed = true;
        self.again = Instant::now() + self.pause;
        self.pause = (self.pause * 2).min(LONGEST_BREAK);
    }
}

/// The way to the next tier.
pub(super) struct Forward {
    targets: Vec<NextTarget>,
    hop: Hop,
    terms: Terms,
    deadline: Option<Duration>,
    cancel: Cancel,
    /// Exits of all parts behind.
    pub(super) exits: usize,
    /// Whether a time behind the link, or the link itself, is emulated.
    pub(super) emulated: bool,
    /// What is worth a line in a log, until it is taken.
    notes: Vec<String>,
    samples: u64,
}

/// A sample that was answered for.
pub(super) struct Offloaded {
    pub(super) answered: Answered,
    pub(super) encode_ms: f32,
    pub(super) bytes: usize,
    pub(super) round_trip: Duration,
    /// The targets of the next tier that were asked for it.
    pub(super) asked: Vec<Asked>,
}

/// A sample that was not: why, and how long that took.
pub(super) struct OffloadFailure {
    pub(super) error: JobError,
    pub(super) encode_ms: f32,
    pub(super) bytes: usize,
    pub(super) took: Duration,
    pub(super) asked: Vec<Asked>,
}

/// A sample on its way to one of several targets.
struct Attempt {
    /// Of the deadline, gone before the first target was asked.
    before: Duration,
    start: Instant,
    /// Milliseconds and bytes of the last request.
    encode_ms: f32,
    bytes: usize,
    /// When the first request and the last one were sent.
    sent: Option<(Instant, Instant)>,
    /// What was left of the deadline then, if there is one.
    left: Option<Duration>,
    asked: Vec<Asked>,
}

impl Attempt {
    fn new(before: Duration) -> Attempt {
        Attempt {
            before,
            start: Instant::now(),
            encode_ms: 0.0,
            bytes: 0,
            sent: None,
            left: None,
            asked: Vec::new(),
        }
    }

    /// Sends a request to the target in place `at`, and waits for its answer.
    fn ask(
        &mut self,
        at: usize,
        protocol: &mut Protocol,
        request: &Request,
        deadline: Option<Duration>,
    ) -> Result<Answered, OffloadError> {
        self.bytes = request.body.len();
        let now = Instant::now();
        let first = self.sent.map_or(now, |(first, _)| first);
        self.sent = Some((first, now));
        self.left = deadline.map(|d| d.saturating_sub(self.before + (now - first)));
        let answered = match protocol {
            Protocol::Agent(part) => part.infer(request, self.left),
            Protocol::V2(v2) => v2.infer(request, self.left).map(|answer| Answered {
                answer,
                tier_ms: 0.0,
                outstanding: 0,
                passed: Passed::default(),
                notes: Vec::new(),
            }),
        };
        self.asked.push(Asked {
            hop: 0,
            target: at,
            answered: answered.is_ok(),
        });
        answered
    }

    /// Whether a target that is busy may be asked again.
    fn is_patient(&self) -> bool {
        self.sent
            .is_none_or(|(first, _)| first.elapsed() < BUSY_PATIENCE)
    }

    /// How long to wait until then.
    fn pause(&self) -> Duration {
        self.left.map_or(BUSY_PAUSE, |left| left.min(BUSY_PAUSE))
    }

    fn answered(self, answered: Answered) -> Offloaded {
        let round_trip = self.sent.map_or(Duration::ZERO, |(_, last)| last.elapsed());
        Offloaded {
            answered,
            encode_ms: self.encode_ms,
            bytes: self.bytes,
            round_trip,
            asked: self.asked,
        }
    }

    fn failed(self, error: JobError) -> OffloadFailure {
        OffloadFailure {
            error,
            encode_ms: self.encode_ms,
            bytes: self.bytes,
            took: self.start.elapsed(),
            asked: self.asked,
        }
    }
}

impl Forward {
    /// Has the parts of the next tier's targets made ready, so that no sample waits for it.
    pub(super) fn open(terms: Terms, cancel: &Cancel) -> Result<Forward, JobError> {
        let Some(hop) = terms.onward.hops.first().cloned() else {
            return Err(JobError::invalid("the run names no tier behind the part"));
        };
        let mut forward = Forward {
            targets: Vec::new(),
            deadline: terms
                .onward
                .deadline_ms
                .map(|ms| Duration::from_secs_f64(ms / 1e3)),
            cancel: cancel.clone(),
            exits: terms.thresholds.len(),
            emulated: hop.link != Link::Measured,
            notes: Vec::new(),
            samples: 0,
            hop,
            terms,
        };
        let mut first_error = None;
        for target in forward.hop.targets.clone() {
            let opened = Protocol::open(&target, &forward.hop, &forward.terms, cancel);
            if let Ok(Protocol::Agent(part)) = &opened {
                forward.exits = part.exits;
                forward.emulated |= part.emulated;
            }
            let several = forward.hop.targets.len() > 1;
            let mut target = NextTarget {
                target,
                protocol: None,
                counts: Counts::default(),
                load: Load::default(),
                again: Instant::now(),
                pause: FIRST_BREAK,
            };
            match opened {
                Ok(protocol) => target.protocol = Some(protocol),
                Err(JobError::Cancelled) => return Err(JobError::Cancelled),
                Err(error) => {
                    target.close();
                    target.counts.failed += 1;
                    if several {
                        forward.say(format!("{error}; the other clouds are asked"));
                    }
                    first_error.get_or_insert(error);
                }
            }
            forward.targets.push(target);
        }
        let any = forward.targets.iter().any(|t| t.protocol.is_some());
        match (any, first_error) {
            (true, _) => Ok(forward),
            // The last exit before the link answers until one of them is there.
            (false, Some(error)) if forward.terms.onward.degrade && forward.terms.can_answer => {
                forward.say(format!(
                    "{error}; the edge's last exit answers until a cloud does"
                ));
                Ok(forward)
            }
            (false, Some(error)) => Err(error),
            (false, None) => Err(JobError::invalid("the run names no cloud".to_string())),
        }
    }

    /// What stops whatever is under way; a way on which it was raised is of no more use.
    pub(super) fn cancel(&self) -> &Cancel {
        &self.cancel
    }

    /// Extents of a sample of what the next tier takes, as far as a target told.
    pub(super) fn takes(&self) -> &[usize] {
        let told = self
            .targets
            .iter()
            .find_map(|target| match &target.protocol {
                Some(Protocol::Agent(part)) => Some(part.takes()),
                _ => None,
            });
        told.unwrap_or_default()
    }

    fn say(&mut self, text: String) {
        self.notes.push(text);
    }

    /// What is worth a line in a log since it was last asked.
    pub(super) fn take_notes(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notes)
    }

    /// Whether a target reads the network's input, and doesn't preprocess.
    pub(super) fn wants_input(&self) -> bool {
        self.hop.targets.iter().any(|target| target.v2.is_some())
    }

    /// Whether none would be asked now.
    pub(super) fn closed(&self) -> bool {
        self.targets.iter().all(|t| t.load.closed)
    }

    /// Looks at those that failed, if their time has come. Between samples: no clock runs.
    pub(super) fn look(&mut self) -> Result<(), JobError> {
        for at in 0..self.targets.len() {
            let target = &mut self.targets[at];
            if !target.load.closed || target.again > Instant::now() {
                continue;
            }
            let found = match &mut target.protocol {
                Some(protocol) => protocol.ready().map_err(JobError::from),
                None => Protocol::open(&target.target, &self.hop, &self.terms, &self.cancel)
                    .map(|protocol| target.protocol = Some(protocol)),
            };
            match found {
                Ok(()) => {
                    target.load.closed = false;
                    target.pause = FIRST_BREAK;
                    let text = format!("the cloud at {} answers again", target.target.url);
                    self.say(text);
                }
                Err(JobError::Cancelled) => return Err(JobError::Cancelled),
                Err(JobError::Failed { .. }) => target.close(),
            }
        }
        Ok(())
    }

    /// Sends a sample to one of them, and to the next where that one fails, with what the exits before said
    /// where those behind look at it; `spent` of the deadline is over already.
    pub(super) fn infer(
        &mut self,
        payload: &Payload,
        earlier: &[Decision],
        spent: Duration,
        stretch: &dyn Fn(Instant) -> Duration,
    ) -> Result<Offloaded, OffloadFailure> {
        self.samples += 1;
        let mut attempt = Attempt::new(spent);
        let mut last: Option<OffloadError> = None;
        while let Some(at) = next(self.targets.iter().map(|t| t.load)) {
            for other in &mut self.targets {
                other.load.requests = other.load.requests.saturating_sub(1);
            }
            let alone = self.targets.iter().filter(|t| !t.load.closed).count() == 1;
            let target = &mut self.targets[at];
            target.load.asked = self.samples;
            let Some(protocol) = &mut target.protocol else {
                target.close();
                continue;
            };
            let encoding = Instant::now();
            let request = match protocol.request(payload, earlier, &self.terms) {
                Ok(request) => request,
                Err(error) => return Err(attempt.failed(error)),
            };
            attempt.encode_ms = stretch(encoding).as_secs_f64() as f32 * 1e3;
            let error = match attempt.ask(at, protocol, &request, self.deadline) {
                Ok(answered) => {
                    target.counts.answered += 1;
                    target.load.requests = answered.outstanding;
                    return Ok(attempt.answered(answered));
                }
                Err(error) => error,
            };
            if error == OffloadError::Cancelled {
                return Err(attempt.failed(JobError::Cancelled));
            }
            if error.is_busy() && alone && attempt.is_patient() {
                // A target that has too much to do for a moment is no target that is away.
                attempt.asked.pop();
                std::thread::sleep(attempt.pause());
                continue;
            }
            target.counts.failed += 1;
            if !error.is_away() {
                // What one refuses the others would, and what is late has no time left for them.
                return Err(attempt.failed(error.into()));
            }
            target.close();
            if !self.closed() {
                self.say(format!("{error}; the other clouds are asked"));
            }
            last = Some(error);
        }
        Err(attempt.failed(match last {
            Some(error) => error.into(),
            None => JobError::new(FailureKind::CloudUnreachable, "no cloud answers"),
        }))
    }

    /// Lets the peaks of resident memory count from now.
    pub(super) fn reset_memory(&mut self) {
        for target in &mut self.targets {
            if let Some(Protocol::Agent(part)) = &mut target.protocol
                && !target.load.closed
            {
                // One that doesn't answer shows with the first sample.
                let _ = part.reset_memory();
            }
        }
    }

    /// The largest peak of resident memory; 0 where none tells.
    pub(super) fn resident_bytes(&mut self) -> usize {
        let open = self.targets.iter_mut().filter(|t| !t.load.closed);
        let told = open.filter_map(|t| match &mut t.protocol {
            Some(Protocol::Agent(part)) => Some(part.resident_bytes()),
            _ => None,
        });
        told.max().unwrap_or(0)
    }

    /// How often each target answered so far, and how often it didn't.
    pub(super) fn counts(&self) -> Vec<Counts> {
        self.targets.iter().map(|target| target.counts).collect()
    }

    /// Goes on counting from here, as if what came since hadn't been asked.
    pub(super) fn count_from(&mut self, counts: &[Counts]) {
        for (target, counts) in self.targets.iter_mut().zip(counts) {
            target.counts = *counts;
        }
    }

    /// What each target of the next tier contributed: its address, samples it answered for, and requests it
    /// didn't answer.
    pub(super) fn shares(&self) -> impl Iterator<Item = (&str, u64, u64)> {
        let targets = self.targets.iter();
        targets.map(|t| (t.target.url.as_str(), t.counts.answered, t.counts.failed))
    }
}

/// The request that goes to a target with every sample.
fn infer_request(terms: &Terms) -> InferRequest {
    let behind = &terms.onward.hops[1..];
    InferRequest {
        confidence: terms.confidence,
        thresholds: terms.thresholds.clone(),
        onward: (!behind.is_empty()).then(|| Onward {
            hops: behind.to_vec(),
            ..terms.onward.clone()
        }),
        pixels: terms.pixels.clone(),
        jpeg: terms.jpeg.is_some(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn load(requests: u32, asked: u64, closed: bool) -> Load {
        Load {
            requests,
            asked,
            closed,
        }
    }

    #[rstest]
    #[case(&[load(2, 1, false), load(0, 5, false)], Some(1))]
    #[case(&[load(1, 7, false), load(1, 5, false)], Some(1))]
    #[case(&[load(0, 0, true), load(9, 5, false)], Some(1))]
    #[case(&[load(0, 0, true), load(0, 0, true)], None)]
    fn the_least_busy_is_next(#[case] loads: &[Load], #[case] chosen: Option<usize>) {
        assert_eq!(next(loads.iter().copied()), chosen);
    }
}
