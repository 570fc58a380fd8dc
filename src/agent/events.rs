/*!
The events of a job: numbered, kept in a ring, told to whoever follows. Progress is a state, so that
only the last one is kept; a follower that comes back too late gets the last state instead of what it
missed.
*/

use crate::protocol::message::{JobEvent, Snapshot};
use axum::response::sse::Event;
use futures_util::stream::{Stream, unfold};
use parking_lot::{Mutex, MutexGuard};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use tokio::sync::watch;

/// Number of events that are kept for those who come back.
const RING: usize = 256;

#[derive(Default)]
struct Log {
    /// Number of the last event; the first is 1.
    last: u64,
    /// Number of the last event that the ring lost.
    lost: u64,
    ring: VecDeque<(u64, JobEvent)>,
    /// The last progress or place in the queue.
    state: Option<JobEvent>,
    ended: bool,
}

/// The events of one job.
pub(super) struct Events {
    log: Mutex<Log>,
    /// Tells that there is something new.
    changed: watch::Sender<u64>,
}

/// What a follower hasn't seen.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct News {
    /// First where it came too late; then with the number of the last event that is gone.
    pub(super) snapshot: Option<(u64, Snapshot)>,
    pub(super) events: Vec<(u64, JobEvent)>,
    /// Whether the last event has been sent.
    pub(super) ended: bool,
}

fn is_terminal(event: &JobEvent) -> bool {
    matches!(
        event,
        JobEvent::Done(_) | JobEvent::Failed { .. } | JobEvent::Cancelled
    )
}

fn is_state(event: &JobEvent) -> bool {
    matches!(event, JobEvent::Progress(_) | JobEvent::Queued { .. })
}

impl Events {
    pub(super) fn new() -> Events {
        Events {
            log: Mutex::default(),
            changed: watch::Sender::new(0),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Log> {
        self.log.lock()
    }

    /// Adds an event; nothing is added behind one that ends the job.
    pub(super) fn push(&self, event: JobEvent) {
        let mut log = self.lock();
        if log.ended {
            return;
        }
        log.last += 1;
        log.ended = is_terminal(&event);
        if is_state(&event) {
            log.ring.retain(|(_, e)| !is_state(e));
            log.state = Some(event.clone());
        }
        let last = log.last;
        log.ring.push_back((last, event));
        if log.ring.len() > RING
            && let Some((id, _)) = log.ring.pop_front()
        {
            log.lost = id;
        }
        drop(log);
        self.changed.send_replace(last);
    }

    /// Whether the job has ended.
    pub(super) fn ended(&self) -> bool {
        self.lock().ended
    }

    /// The event that ended the job, or its last state.
    pub(super) fn latest(&self) -> Option<JobEvent> {
        let log = self.lock();
        let end = log.ring.back().filter(|(_, e)| is_terminal(e));
        end.map(|(_, e)| e.clone()).or_else(|| log.state.clone())
    }

    /// What came after the event `seen` (0 for all).
    pub(super) fn after(&self, seen: u64) -> News {
        let log = self.lock();
        // An id from another life of the agent counts as none.
        let seen = if seen > log.last { 0 } else { seen };
        let snapshot = (seen < log.lost).then(|| {
            let snapshot = Snapshot {
                missed: log.lost - seen,
                latest: log.state.clone(),
            };
            (log.lost, snapshot)
        });
        let events = log.ring.iter().filter(|(id, _)| *id > seen);
        News {
            snapshot,
            events: events.cloned().collect(),
            ended: log.ended,
        }
    }

    /// The events after `seen` as server-sent events, until the job has ended. `held` is dropped
    /// with the stream.
    pub(super) fn follow<H: Send + 'static>(
        self: Arc<Self>,
        seen: u64,
        held: H,
    ) -> impl Stream<Item = Result<Event, Infallible>> + Send + 'static {
        let start = Follower {
            changed: self.changed.subscribe(),
            events: self,
            seen,
            waiting: VecDeque::new(),
            ended: false,
            _held: held,
        };
        unfold(start, |mut follower| async move {
            let event = follower.next().await?;
            Some((Ok(event), follower))
        })
    }
}

struct Follower<H> {
    events: Arc<Events>,
    changed: watch::Receiver<u64>,
    seen: u64,
    waiting: VecDeque<Event>,
    ended: bool,
    _held: H,
}

impl<H> Follower<H> {
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.waiting.pop_front() {
                return Some(event);
            }
            if self.ended {
                return None;
            }
            // Marked as seen before the log is read, so that nothing falls between the two.
            self.changed.borrow_and_update();
            let news = self.events.after(self.seen);
            if let Some((id, snapshot)) = news.snapshot {
                self.seen = id;
                self.waiting.extend(named("snapshot", id, &snapshot));
            }
            for (id, event) in news.events {
                self.seen = id;
                self.waiting.extend(named("event", id, &event));
            }
            self.ended = news.ended;
            if self.waiting.is_empty() && !self.ended {
                self.changed.changed().await.ok()?;
            }
        }
    }
}

fn named(name: &str, id: u64, data: &impl serde::Serialize) -> Option<Event> {
    // Messages hold nothing that JSON can't say.
    let json = serde_json::to_string(data).ok()?;
    Some(Event::default().event(name).id(id.to_string()).data(json))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::message::Progress;

    fn log(text: &str) -> JobEvent {
        JobEvent::Log { text: text.into() }
    }

    fn progress(done: u64) -> JobEvent {
        JobEvent::Progress(Progress {
            done,
            ..Progress::default()
        })
    }

    #[test]
    fn only_the_last_progress_is_kept() {
        let events = Events::new();
        events.push(progress(1));
        events.push(log("a"));
        events.push(progress(2));
        let news = events.after(0);
        assert_eq!(news.events, [(2, log("a")), (3, progress(2))]);
        assert_eq!((news.snapshot, news.ended), (None, false));
        assert_eq!(events.after(2).events, [(3, progress(2))]);
    }

    #[test]
    fn late_comers_get_the_last_state() {
        let events = Events::new();
        events.push(progress(5));
        for i in 0..RING {
            events.push(log(&i.to_string()));
        }
        let (id, snapshot) = events.after(0).snapshot.unwrap();
        assert_eq!((id, snapshot.missed), (1, 1));
        assert_eq!(snapshot.latest, Some(progress(5)));
        assert_eq!(events.after(1).snapshot, None);
        assert_eq!(events.after(1).events.len(), RING);
    }

    #[test]
    fn nothing_follows_the_end() {
        let events = Events::new();
        events.push(JobEvent::Cancelled);
        events.push(log("late"));
        assert_eq!(events.after(0).events, [(1, JobEvent::Cancelled)]);
        assert!(events.ended());
        assert_eq!(events.latest(), Some(JobEvent::Cancelled));
    }
}
