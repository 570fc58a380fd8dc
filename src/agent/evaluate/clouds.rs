/*!
The cloud targets of a run: each sample goes to the one that has the least to do; one that fails is
passed over, asked again later, and named.

An edge has one request under way, so what its clouds have to do is mostly others' doing: each says
with an answer how many other requests it had, which is believed until it is asked again, and a little
less with every sample that went elsewhere. Among equals the one that has waited the longest is next.
*/

use super::cloud::{Answered, Cloud};
use super::local_part::LocalPart;
use super::v2::V2;
use crate::agent::error::JobError;
use crate::agent::jobs::Job;
use crate::agent::offload::OffloadError;
use crate::protocol::message::{
    CloudShare, CloudTarget, Evaluate, FailureKind, JobEvent, RefusalKind,
};
use std::time::{Duration, Instant};

/// How long a cloud that failed is passed over; twice as long after each further failure.
const FIRST_BREAK: Duration = Duration::from_secs(1);
const LONGEST_BREAK: Duration = Duration::from_secs(30);
/// What a look at a cloud that failed may take, between two samples.
const RECHECK: Duration = Duration::from_millis(500);

/// How long the only cloud may say that it has too much to do, and the pause between two requests.
const BUSY_PATIENCE: Duration = Duration::from_secs(10);
const BUSY_PAUSE: Duration = Duration::from_millis(100);

enum CloudProtocol {
    Agent(Cloud),
    V2(V2),
}

impl CloudProtocol {
    fn open(
        target: &CloudTarget,
        part: &str,
        edge: &mut LocalPart,
        run: &Evaluate,
        job: &Job,
    ) -> Result<CloudProtocol, JobError> {
        let sends = edge.sends();
        Ok(match &target.v2 {
            Some(model) => {
                let exits = run.thresholds.len().saturating_sub(edge.exits());
                let mut v2 = V2::open(target, model, exits, run, &job.cancel)?;
                v2.fits(&sends)?;
                edge.preprocess();
                CloudProtocol::V2(v2)
            }
            None => {
                let cloud = Cloud::open(target, part, edge.exits(), run, &job.cancel)?;
                cloud.fits(&sends)?;
                CloudProtocol::Agent(cloud)
            }
        })
    }

    fn ready(&mut self) -> Result<(), OffloadError> {
        match self {
            CloudProtocol::Agent(cloud) => cloud.ready(RECHECK),
            CloudProtocol::V2(v2) => v2.ready(RECHECK),
        }
    }
}

/// How busy a cloud is believed to be; pure, so that it can be tested.
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

struct Target<'a> {
    target: &'a CloudTarget,
    protocol: Option<CloudProtocol>,
    share: CloudShare,
    load: Load,
    /// When a closed one is looked at again, and how long it is left alone after that.
    again: Instant,
    pause: Duration,
}

impl Target<'_> {
    fn close(&mut self) {
        self.load.closed = true;
        self.again = Instant::now() + self.pause;
        self.pause = (self.pause * 2).min(LONGEST_BREAK);
    }
}

/// Targets of the next tier, among which the offloaded samples are shared out.
pub(super) struct Clouds<'a> {
    targets: Vec<Target<'a>>,
    part: &'a str,
    run: &'a Evaluate,
    job: &'a Job,
    deadline: Option<Duration>,
    /// Exits of the cloud part.
    pub(super) exits: usize,
    /// Whether any of them stretches its times.
    pub(super) emulated: bool,
    samples: u64,
}

/// A sample that was answered for.
pub(super) struct Offloaded {
    pub(super) answered: Answered,
    pub(super) encode_ms: f32,
    pub(super) bytes: usize,
    pub(super) round_trip: Duration,
}

/// A sample that was not: why, and how long that took.
pub(super) struct OffloadFailure {
    pub(super) error: JobError,
    pub(super) encode_ms: f32,
    pub(super) bytes: usize,
    pub(super) took: Duration,
}

impl<'a> Clouds<'a> {
    /// Reaches them. One that can't be reached is passed over, as long as another can.
    pub(super) fn open(
        targets: &'a [CloudTarget],
        part: &'a str,
        edge: &mut LocalPart,
        run: &'a Evaluate,
        job: &'a Job,
    ) -> Result<Clouds<'a>, JobError> {
        let given = run.thresholds.len().saturating_sub(edge.exits());
        let mut clouds = Clouds {
            targets: Vec::new(),
            part,
            run,
            job,
            deadline: run
                .deadline_ms
                .map(|ms| Duration::from_secs_f64(ms.max(0.0) / 1e3)),
            // A server of the Open Inference Protocol knows the final classifier alone.
            exits: given,
            emulated: false,
            samples: 0,
        };
        let mut first_error = None;
        for target in targets {
            let opened = CloudProtocol::open(target, part, edge, run, job);
            if let Ok(CloudProtocol::Agent(cloud)) = &opened {
                clouds.exits = cloud.exits;
                clouds.emulated |= cloud.emulated;
            }
            let mut target = Target {
                target,
                protocol: None,
                share: CloudShare {
                    url: target.url.clone(),
                    ..CloudShare::default()
                },
                load: Load::default(),
                again: Instant::now(),
                pause: FIRST_BREAK,
            };
            match opened {
                Ok(protocol) => target.protocol = Some(protocol),
                Err(JobError::Cancelled) => return Err(JobError::Cancelled),
                Err(error) => {
                    target.close();
                    target.share.failed += 1;
                    if targets.len() > 1 {
                        clouds.say(format!("{error}; the other clouds are asked"));
                    }
                    first_error.get_or_insert(error);
                }
            }
            clouds.targets.push(target);
        }
        let any = clouds.targets.iter().any(|t| t.protocol.is_some());
        match (any, first_error) {
            (true, _) => Ok(clouds),
            // The edge's last exit answers until one of them is there.
            (false, Some(error)) if run.degrade && edge.exits() > 0 => {
                clouds.say(format!(
                    "{error}; the edge's last exit answers until a cloud does"
                ));
                Ok(clouds)
            }
            (false, Some(error)) => Err(error),
            (false, None) => Err(JobError::invalid("the run names no cloud".to_string())),
        }
    }

    fn say(&self, text: String) {
        self.job.events.push(JobEvent::Log { text });
    }

    /// Whether none would be asked now.
    pub(super) fn closed(&self) -> bool {
        self.targets.iter().all(|t| t.load.closed)
    }

    /// Looks at those that failed, if their time has come. Between samples: no clock runs.
    pub(super) fn look(&mut self, edge: &mut LocalPart) -> Result<(), JobError> {
        for at in 0..self.targets.len() {
            let target = &mut self.targets[at];
            if !target.load.closed || target.again > Instant::now() {
                continue;
            }
            let found = match &mut target.protocol {
                Some(protocol) => protocol.ready().map_err(JobError::from),
                None => CloudProtocol::open(target.target, self.part, edge, self.run, self.job)
                    .map(|protocol| target.protocol = Some(protocol)),
            };
            match found {
                Ok(()) => {
                    target.load.closed = false;
                    target.pause = FIRST_BREAK;
                    let text = format!("the cloud at {} answers again", target.share.url);
                    self.say(text);
                }
                Err(JobError::Cancelled) => return Err(JobError::Cancelled),
                Err(JobError::Failed { .. }) => target.close(),
            }
        }
        Ok(())
    }

    /// Sends the edge's sample to one of them, and to the next where that one fails.
    pub(super) fn infer(
        &mut self,
        edge: &LocalPart,
        stretch: &dyn Fn(Instant) -> Duration,
    ) -> Result<Offloaded, OffloadFailure> {
        self.samples += 1;
        let (mut encode_ms, mut bytes) = (0.0, 0);
        let start = Instant::now();
        let mut last: Option<OffloadError> = None;
        let mut first_sent = None;
        let failure = |error: JobError, encode_ms, bytes| OffloadFailure {
            error,
            encode_ms,
            bytes,
            took: start.elapsed(),
        };
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
            let request = match protocol {
                CloudProtocol::Agent(cloud) => edge.body().map(|body| cloud.request(body)),
                CloudProtocol::V2(v2) => {
                    let shape = [&[1], edge.sends().as_slice()].concat();
                    v2.request(&shape, edge.tensor())
                }
            };
            let request = match request {
                Ok(request) => request,
                Err(error) => return Err(failure(error, encode_ms, bytes)),
            };
            encode_ms = stretch(encoding).as_secs_f64() as f32 * 1e3;
            bytes = request.body.len();
            let sent = Instant::now();
            let spent = sent - *first_sent.get_or_insert(sent);
            let left = self.deadline.map(|d| d.saturating_sub(spent));
            let answered = match protocol {
                CloudProtocol::Agent(cloud) => cloud.infer(&request, left),
                CloudProtocol::V2(v2) => v2.infer(&request, left).map(|answer| Answered {
                    answer,
                    cloud_ms: 0.0,
                    outstanding: 0,
                }),
            };
            let error = match answered {
                Ok(answered) => {
                    target.share.answered += 1;
                    target.load.requests = answered.outstanding;
                    return Ok(Offloaded {
                        answered,
                        encode_ms,
                        bytes,
                        round_trip: sent.elapsed(),
                    });
                }
                Err(error) => error,
            };
            if error == OffloadError::Cancelled {
                return Err(failure(JobError::Cancelled, encode_ms, bytes));
            }
            let busy = matches!(
                &error,
                OffloadError::Refused {
                    kind: RefusalKind::Busy,
                    ..
                }
            );
            let pause = left.map_or(BUSY_PAUSE, |left| left.min(BUSY_PAUSE));
            if busy && alone && first_sent.is_none_or(|first| first.elapsed() < BUSY_PATIENCE) {
                // A cloud that has too much to do for a moment is no cloud that is away.
                std::thread::sleep(pause);
                continue;
            }
            target.share.failed += 1;
            let away = match &error {
                OffloadError::Unreachable { .. } => true,
                OffloadError::Refused { status, .. } => *status >= 500 || *status == 429,
                _ => false,
            };
            if !away {
                // What one refuses the others would, and what is late has no time left for them.
                return Err(failure(error.into(), encode_ms, bytes));
            }
            target.close();
            if !self.closed() {
                self.say(format!("{error}; the other clouds are asked"));
            }
            last = Some(error);
        }
        let error = match last {
            Some(error) => error.into(),
            None => JobError::new(FailureKind::CloudUnreachable, "no cloud answers"),
        };
        Err(failure(error, encode_ms, bytes))
    }

    /// Lets the peaks of resident memory count from now.
    pub(super) fn reset_memory(&mut self) {
        for target in &mut self.targets {
            if let Some(CloudProtocol::Agent(cloud)) = &mut target.protocol
                && !target.load.closed
            {
                // One that doesn't answer shows with the first sample.
                let _ = cloud.reset_memory();
            }
        }
    }

    /// The largest peak of resident memory; 0 where none tells.
    pub(super) fn resident_bytes(&mut self) -> usize {
        let open = self.targets.iter_mut().filter(|t| !t.load.closed);
        let told = open.filter_map(|t| match &mut t.protocol {
            Some(CloudProtocol::Agent(cloud)) => Some(cloud.resident_bytes()),
            _ => None,
        });
        told.max().unwrap_or(0)
    }

    /// Gives the samples that each target answered, and its time.
    pub(super) fn shares(&self) -> Vec<CloudShare> {
        self.targets.iter().map(|t| t.share.clone()).collect()
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
