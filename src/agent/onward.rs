/*!
Ways to the next tier, for requests that go on from here: what a request may ask for, those that are open
between two requests, so that none is opened for each sample, and their end where a client is gone.
*/

use super::error::{JobError, Refused};
use super::forward::{Forward, Terms};
use super::state::Agent;
use crate::engine::Cancel;
use crate::plan::link::{LONGEST_DEADLINE_MS, LONGEST_ROUND_TRIP_MS, MOST_TARGETS};
use crate::plan::{Link, Tier};
use crate::protocol::message::{Hop, RefusalKind};
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How long one is kept that nobody asks for.
const LIFE: Duration = Duration::from_secs(60);
/// The most exits of all parts of a route.
pub(super) const EXITS: usize = 1024;

/// Whether a way over these tiers can be gone at all, with a bounded number of connections and waits.
///
/// # Errors
/// Where it can't; the error names the number.
pub(super) fn check_route(
    hops: &[Hop],
    deadline_ms: Option<f64>,
    thresholds: usize,
) -> Result<(), JobError> {
    if hops.len() >= Tier::ALL.len() {
        let what = format!("{} tiers behind the first, three at most", hops.len());
        return Err(JobError::invalid(what));
    }
    for hop in hops {
        let targets = hop.targets.len();
        if !(1..=MOST_TARGETS).contains(&targets) {
            let what = format!("{targets} targets of a tier; there are 1 to {MOST_TARGETS}");
            return Err(JobError::invalid(what));
        }
        check_link(hop.link)?;
    }
    if thresholds > EXITS {
        let what = format!("{thresholds} thresholds, {EXITS} at most");
        return Err(JobError::invalid(what));
    }
    match deadline_ms {
        Some(ms) if !(ms > 0.0 && ms <= LONGEST_DEADLINE_MS) => Err(JobError::invalid(format!(
            "a deadline of {ms} ms; it is more than 0 and at most {LONGEST_DEADLINE_MS} ms"
        ))),
        _ => Ok(()),
    }
}

/// Whether a link can be emulated.
///
/// # Errors
/// Where it can't; the error names the number.
pub(super) fn check_link(link: Link) -> Result<(), JobError> {
    let Link::Emulated { mbit, rtt_ms } = link else {
        return Ok(());
    };
    let fits = mbit > 0.0 && mbit.is_finite() && (0.0..=LONGEST_ROUND_TRIP_MS).contains(&rtt_ms);
    if fits {
        return Ok(());
    }
    Err(JobError::invalid(format!(
        "a link of {mbit} Mbit/s and {rtt_ms} ms can't be emulated: give it more than 0 Mbit/s and a round \
         trip of at most {LONGEST_ROUND_TRIP_MS} ms"
    )))
}

/// Places among the connections to next tiers, given back when dropped.
pub(super) struct Places {
    _permit: OwnedSemaphorePermit,
}

/// An open way. With it go the tokens of its targets.
pub(super) struct Way {
    pub(super) forward: Forward,
    _places: Places,
}

/// A way that waits: what it was opened for, when it was last used, and the way.
type Idle = (String, Instant, Way);

/// The open ways of an agent.
pub(super) struct Ways {
    idle: Mutex<Vec<Idle>>,
    places: Arc<Semaphore>,
    most: usize,
}

impl Ways {
    /// Of so many connections at a time, those that wait included.
    pub(super) fn new(most: usize) -> Ways {
        Ways {
            idle: Mutex::default(),
            places: Arc::new(Semaphore::new(most)),
            most,
        }
    }

    /// A way that was opened for the same, or a new one, for as long as `client` is there. Not for the
    /// threads of the runtime, since connections are made and end here.
    ///
    /// # Errors
    /// Busy where there are too many; else as the terms or the next tier say.
    pub(super) fn open(
        &self,
        agent: &Agent,
        key: &str,
        client: &Client,
        terms: impl FnOnce() -> Result<Terms, Refused>,
    ) -> Result<Way, Refused> {
        if let Some(way) = self.take(key) {
            client.waits_for(way.forward.cancel());
            return Ok(way);
        }
        let terms = terms()?;
        let hops = &terms.onward.hops;
        let checked = check_route(hops, terms.onward.deadline_ms, terms.thresholds.len());
        checked.map_err(super::infer::refused)?;
        let next = hops.first().map_or(&[][..], |hop| &hop.targets);
        for target in next {
            agent
                .may_reach(&target.url)
                .map_err(super::infer::refused)?;
        }
        let places = self.places(next.len())?;
        let cancel = Cancel::new();
        client.waits_for(&cancel);
        let forward = Forward::open(terms, &cancel).map_err(super::infer::refused)?;
        Ok(Way {
            forward,
            _places: places,
        })
    }

    /// Places for so many connections; ways that wait make room, the longest unused first.
    ///
    /// # Errors
    /// Busy where all are in use.
    pub(super) fn places(&self, count: usize) -> Result<Places, Refused> {
        let most = self.most;
        let Some(permits) = u32::try_from(count).ok().filter(|_| count <= most) else {
            return Err(Refused::bad(format!(
                "{count} targets of the next tier, and {most} connections to it at most: raise the limit \
                 of open files (ulimit -n) of the agent, or name fewer"
            )));
        };
        loop {
            if let Ok(permit) = self.places.clone().try_acquire_many_owned(permits) {
                return Ok(Places { _permit: permit });
            }
            let oldest = {
                let mut idle = self.idle.lock();
                (!idle.is_empty()).then(|| idle.remove(0))
            };
            if oldest.is_none() {
                let what = format!(
                    "all {most} connections to next tiers are in use; try again, or raise the limit of open \
                     files (ulimit -n) of the agent"
                );
                return Err(Refused::new(RefusalKind::Busy, what));
            }
        }
    }

    fn take(&self, key: &str) -> Option<Way> {
        let mut idle = self.idle.lock();
        let at = idle.iter().rposition(|(own, ..)| own == key)?;
        Some(idle.remove(at).2)
    }

    /// Keeps a way open, unless its client left it in the middle of an answer. Not for the threads of the
    /// runtime.
    pub(super) fn put(&self, key: String, way: Way, client: &Client) {
        client.has_its_answer();
        if !way.forward.cancel().is_cancelled() {
            self.idle.lock().push((key, Instant::now(), way));
        }
        self.sweep();
    }

    /// Closes those that were not used for a minute. Not for the threads of the runtime.
    pub(super) fn sweep(&self) {
        let mut idle = self.idle.lock();
        let all = std::mem::take(&mut *idle);
        let (kept, old) = all
            .into_iter()
            .partition(|(_, used, _)| used.elapsed() < LIFE);
        *idle = kept;
        drop(idle);
        drop::<Vec<Idle>>(old);
    }
}

impl Drop for Ways {
    fn drop(&mut self) {
        let all = std::mem::take(&mut *self.idle.lock());
        if !all.is_empty() {
            // Each has a runtime of its own, which may not end on a thread of another.
            let ended = std::thread::spawn(move || drop(all)).join();
            debug_assert!(ended.is_ok());
        }
    }
}

#[derive(Default)]
struct Waiting {
    gone: bool,
    cancel: Option<Cancel>,
}

/// The client of a request that goes on from here, as the thread sees it that works for the client.
#[derive(Clone, Default)]
pub(super) struct Client(Arc<Mutex<Waiting>>);

/// Lives as long as the request of a client: what goes on for one that is gone is stopped.
pub(super) struct Presence(Client);

impl Drop for Presence {
    fn drop(&mut self) {
        let mut waiting = self.0.0.lock();
        waiting.gone = true;
        if let Some(cancel) = waiting.cancel.take() {
            cancel.cancel();
        }
    }
}

impl Client {
    /// A client, and what has to be dropped with its request.
    pub(super) fn arrives() -> (Client, Presence) {
        let client = Client::default();
        (client.clone(), Presence(client))
    }

    /// Has this cancelled where the client goes, or is gone already.
    fn waits_for(&self, cancel: &Cancel) {
        let mut waiting = self.0.lock();
        if waiting.gone {
            cancel.cancel();
        }
        waiting.cancel = Some(cancel.clone());
    }

    /// What it waited for is over: other clients may need it.
    fn has_its_answer(&self) {
        self.0.lock().cancel = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::message::CloudTarget;
    use rstest::rstest;

    fn hop(targets: usize, link: Link) -> Hop {
        let target = |at| CloudTarget::new(format!("http://127.0.0.1:{at}"));
        Hop {
            part: None,
            targets: (0..targets).map(target).collect(),
            link,
        }
    }

    fn emulated(mbit: f64, rtt_ms: f64) -> Vec<Hop> {
        vec![hop(1, Link::Emulated { mbit, rtt_ms })]
    }

    #[rstest]
    #[case::one(vec![hop(1, Link::Measured)], None, 3, "")]
    #[case::as_many_as_may_be(vec![hop(16, Link::Measured); 3], Some(86_400e3), 1024, "")]
    #[case::tiers(vec![hop(1, Link::Measured); 4], None, 0, "4 tiers")]
    #[case::no_target(vec![hop(0, Link::Measured)], None, 0, "0 targets")]
    #[case::targets(vec![hop(17, Link::Measured)], None, 0, "17 targets")]
    #[case::thresholds(vec![hop(1, Link::Measured)], None, 1025, "1025 thresholds")]
    #[case::past(vec![hop(1, Link::Measured)], Some(-1.0), 0, "-1 ms")]
    #[case::never(vec![hop(1, Link::Measured)], Some(1e300), 0, "deadline")]
    #[case::slow(emulated(0.0, 1.0), None, 0, "0 Mbit/s")]
    #[case::far(emulated(1.0, 1e300), None, 0, "round trip")]
    #[case::backwards(emulated(1.0, -1.0), None, 0, "-1 ms")]
    #[case::nowhere(emulated(f64::INFINITY, 1.0), None, 0, "inf Mbit/s")]
    fn a_route_is_checked_before_it_is_gone(
        #[case] hops: Vec<Hop>,
        #[case] deadline_ms: Option<f64>,
        #[case] thresholds: usize,
        #[case] words: &str,
    ) {
        match check_route(&hops, deadline_ms, thresholds) {
            Ok(()) => assert_eq!(words, ""),
            Err(error) => {
                let error = error.to_string();
                assert!(!words.is_empty() && error.contains(words), "{error}");
            }
        }
    }

    #[test]
    fn a_client_that_goes_stops_what_goes_on_for_it_and_nothing_else() {
        let (client, presence) = Client::arrives();
        let (first, second, third) = (Cancel::new(), Cancel::new(), Cancel::new());
        client.waits_for(&first);
        client.has_its_answer();
        client.waits_for(&second);
        drop(presence);
        assert!(!first.is_cancelled() && second.is_cancelled());
        client.waits_for(&third);
        assert!(third.is_cancelled(), "it was gone before");
    }

    #[test]
    fn places_come_back_with_what_took_them() {
        let ways = Ways::new(3);
        let two = ways.places(2).unwrap_or_else(|e| panic!("{e:?}"));
        let kind = |count| ways.places(count).err().map(|refused| refused.kind);
        assert_eq!(kind(2), Some(RefusalKind::Busy));
        assert_eq!(kind(4), Some(RefusalKind::Invalid));
        assert_eq!(kind(1), None);
        drop(two);
        assert_eq!(kind(3), None);
    }
}
