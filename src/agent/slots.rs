/*!
The connections of an agent: so many at a time, a share of them for each peer address. One more than
that makes another go, the one least likely to be missed: first those that never made a request, then
bodies that hardly move, then the oldest of the most frequent kind. A request at work makes way for nobody, but requests may
not take all connections: the rest is kept for questions about health.
*/

use parking_lot::Mutex;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio::task::AbortHandle;

/// Bytes per second below which a body hardly moves.
const SLOW_BODY: f64 = 32e3;
/// How long a connection that says nothing yet has just come.
const FRESH: Duration = Duration::from_millis(250);
/// How long one that came with a question about health may take to be answered.
const URGENT: Duration = Duration::from_secs(1);
/// Time after which a body's pace is known.
const PACE_KNOWN: Duration = Duration::from_secs(1);

/// What a connection is doing.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Phase {
    /// Shaking hands, idle, or sending the head of a request.
    Waiting,
    /// Sending a body, of which so many bytes came.
    Receiving(u64),
    /// Its request is being worked on.
    Working,
    /// Being sent an answer.
    Sending,
}

/// What a connection is worth where another needs its place; the least goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Worth {
    /// It never made a request.
    Nothing,
    /// Its body hardly moves.
    Slow,
    /// It has just come.
    Fresh,
    /// It made requests, and waits.
    Idle,
    /// The request's body is being received.
    Body,
    /// Its answer is being sent.
    Answer,
    /// It has just begun with what is soon answered: a question about health, a whole greeting.
    Urgent,
}

/// The one to go: of the worthless the oldest; where there are none, the oldest of the most frequent
/// kind, which is the attackers' where there are attackers.
fn least(all: &[(Worth, Instant, u64)]) -> Option<u64> {
    let count = |worth: Worth| all.iter().filter(|(w, ..)| *w == worth).count();
    let kinds = [Worth::Fresh, Worth::Idle, Worth::Body];
    let oldest = |worth: Worth| {
        let of = all.iter().filter(|(w, ..)| *w == worth);
        of.min_by_key(|(_, since, _)| *since)
            .map(|(.., number)| *number)
    };
    oldest(Worth::Nothing)
        .or_else(|| oldest(Worth::Slow))
        .or_else(|| oldest(kinds.into_iter().max_by_key(|kind| count(*kind))?))
        .or_else(|| oldest(Worth::Answer))
        .or_else(|| oldest(Worth::Urgent))
}

#[derive(Debug)]
struct State {
    phase: Phase,
    /// When the phase began.
    since: Instant,
    /// Whether a request of this connection was admitted.
    proven: bool,
    /// Whether it began with a question about health, or with a whole greeting where that is encrypted.
    urgent: bool,
}

/// The connections of one peer address.
#[derive(Debug, Default)]
struct Peer {
    connections: AtomicUsize,
    working: AtomicUsize,
}

/// A connection, as its requests see it.
#[derive(Debug)]
pub(super) struct Connection {
    state: Mutex<State>,
    peer: Arc<Peer>,
    slots: Arc<Slots>,
}

impl Connection {
    /// Changes the phase; `false`, and no change, where too many requests are at work for one more.
    fn enter(&self, phase: Phase) -> bool {
        let (slots, peer) = (&self.slots, &self.peer);
        let mut state = self.state.lock();
        if phase == Phase::Working && state.phase != Phase::Working {
            let all = slots.working.fetch_add(1, Ordering::Relaxed);
            let own = peer.working.fetch_add(1, Ordering::Relaxed);
            if all >= slots.most_working || own >= slots.peer_working {
                slots.working.fetch_sub(1, Ordering::Relaxed);
                peer.working.fetch_sub(1, Ordering::Relaxed);
                return false;
            }
        } else if phase != Phase::Working && state.phase == Phase::Working {
            slots.working.fetch_sub(1, Ordering::Relaxed);
            peer.working.fetch_sub(1, Ordering::Relaxed);
        }
        (state.phase, state.since) = (phase, Instant::now());
        true
    }

    /// What this connection is worth, and since when; `None` for one that stays.
    fn worth(&self, now: Instant) -> Option<(Worth, Instant)> {
        let state = self.state.lock();
        let time = now.saturating_duration_since(state.since);
        let worth = match state.phase {
            Phase::Waiting if state.urgent && time < URGENT => Worth::Urgent,
            Phase::Waiting if state.proven => Worth::Idle,
            // One that has just come may be about to ask after the agent's health.
            Phase::Waiting if time < FRESH => Worth::Fresh,
            Phase::Waiting => Worth::Nothing,
            Phase::Receiving(bytes) => {
                let slow = time > PACE_KNOWN && (bytes as f64) < SLOW_BODY * time.as_secs_f64();
                if slow { Worth::Slow } else { Worth::Body }
            }
            Phase::Sending => Worth::Answer,
            Phase::Working => return None,
        };
        Some((worth, state.since))
    }

    /// It has said what is soon answered.
    pub(super) fn hurry(&self) {
        self.state.lock().urgent = true;
    }

    /// Counts a body's bytes.
    pub(super) fn received(&self, count: usize) {
        if let Phase::Receiving(bytes) = &mut self.state.lock().phase {
            *bytes += count as u64;
        }
    }

    /// The body is whole; `false` where too many requests are at work for one more.
    pub(super) fn received_all(&self) -> bool {
        self.enter(Phase::Working)
    }

    /// The head of the answer is made.
    pub(super) fn answers(&self) {
        self.enter(Phase::Sending);
    }

    /// An admitted request, until the result is dropped.
    pub(super) fn begin(self: &Arc<Self>) -> RequestSlot {
        self.enter(Phase::Receiving(0));
        self.state.lock().proven = true;
        RequestSlot(self.clone())
    }
}

/// A request under way.
#[derive(Debug)]
pub(super) struct RequestSlot(Arc<Connection>);

impl Drop for RequestSlot {
    fn drop(&mut self) {
        self.0.enter(Phase::Waiting);
    }
}

#[derive(Debug)]
struct Entry {
    connection: Arc<Connection>,
    /// Ends the connection's task; absent until that runs.
    task: Option<AbortHandle>,
}

/// Connections that are open, and how many each peer has.
#[derive(Debug)]
pub(super) struct Slots {
    entries: Mutex<HashMap<u64, Entry>>,
    peers: Mutex<HashMap<IpAddr, Arc<Peer>>>,
    numbers: AtomicU64,
    working: AtomicUsize,
    /// Told of each that ends.
    left: Notify,
    most: usize,
    most_working: usize,
    per_peer: usize,
    peer_working: usize,
}

/// A place among the connections, given back when dropped.
#[derive(Debug)]
pub(super) struct Slot {
    number: u64,
    peer: IpAddr,
    pub(super) connection: Arc<Connection>,
}

/// The address that counts as one peer: a network of IPv6 hands out 64 bits of it to each host.
fn peer(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) if !v6.is_loopback() => {
            let network = u128::from(v6) & !u128::from(u64::MAX);
            IpAddr::V6(Ipv6Addr::from(network))
        }
        other => other,
    }
}

impl Slots {
    /// Places for so many connections, half of them for one address.
    pub(super) fn new(most: usize) -> Arc<Slots> {
        let per_peer = most / 2;
        Arc::new(Slots {
            entries: Mutex::default(),
            peers: Mutex::default(),
            numbers: AtomicU64::new(0),
            working: AtomicUsize::new(0),
            left: Notify::new(),
            most,
            most_working: most - most / 8,
            per_peer,
            peer_working: per_peer - per_peer / 8,
        })
    }

    /// A place for one more connection from this address; another goes where there is none. `None`
    /// where every other is at work. An urgent one came with a question about health.
    pub(super) fn take(self: &Arc<Self>, from: IpAddr, urgent: bool) -> Option<Slot> {
        let from = peer(from);
        let peer = self.join(from);
        let mut entries = self.entries.lock();
        let own = peer.connections.load(Ordering::Relaxed) > self.per_peer;
        if own || entries.len() >= self.most {
            let now = Instant::now();
            let all: Vec<(Worth, Instant, u64)> = entries
                .iter()
                .filter(|(_, e)| e.task.is_some())
                .filter(|(_, e)| !own || Arc::ptr_eq(&e.connection.peer, &peer))
                .filter_map(|(&number, e)| {
                    let (worth, since) = e.connection.worth(now)?;
                    Some((worth, since, number))
                })
                .collect();
            let Some(number) = least(&all) else {
                drop(entries);
                self.leave(from, &peer);
                return None;
            };
            if let Some(task) = entries.remove(&number).and_then(|e| e.task) {
                task.abort();
            }
        }
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let state = State {
            phase: Phase::Waiting,
            since: Instant::now(),
            proven: false,
            urgent,
        };
        let connection = Arc::new(Connection {
            state: Mutex::new(state),
            peer,
            slots: self.clone(),
        });
        let entry = Entry {
            connection: connection.clone(),
            task: None,
        };
        entries.insert(number, entry);
        Some(Slot {
            number,
            peer: from,
            connection,
        })
    }

    /// Whether one more from this address would take the place of one that is worth something.
    fn is_full(&self, from: IpAddr) -> bool {
        let peer = self.peers.lock().get(&peer(from)).cloned();
        let own = peer.filter(|p| p.connections.load(Ordering::Relaxed) >= self.per_peer);
        let entries = self.entries.lock();
        if own.is_none() && entries.len() < self.most {
            return false;
        }
        let now = Instant::now();
        let worthless = |entry: &Entry| {
            let of = own.as_ref();
            of.is_none_or(|peer| Arc::ptr_eq(&entry.connection.peer, peer))
                && matches!(
                    entry.connection.worth(now),
                    Some((Worth::Nothing | Worth::Slow, _))
                )
        };
        !entries.values().any(worthless)
    }

    /// Waits until one more from this address takes no place of one that is worth something; `false` where
    /// that takes too long.
    pub(super) async fn room(&self, from: IpAddr, within: Duration) -> bool {
        let room = async {
            while self.is_full(from) {
                self.left.notified().await;
            }
        };
        tokio::time::timeout(within, room).await.is_ok()
    }

    fn join(&self, from: IpAddr) -> Arc<Peer> {
        let mut peers = self.peers.lock();
        let peer = peers.entry(from).or_default();
        peer.connections.fetch_add(1, Ordering::Relaxed);
        peer.clone()
    }

    fn leave(&self, from: IpAddr, peer: &Peer) {
        let mut peers = self.peers.lock();
        if peer.connections.fetch_sub(1, Ordering::Relaxed) == 1 {
            peers.remove(&from);
        }
    }

    /// Names the task that serves the connection, so that it can be ended for another.
    pub(super) fn serves(&self, number: u64, task: AbortHandle) {
        if let Some(entry) = self.entries.lock().get_mut(&number) {
            entry.task = Some(task);
        }
    }
}

impl Slot {
    pub(super) fn number(&self) -> u64 {
        self.number
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let slots = &self.connection.slots;
        slots.entries.lock().remove(&self.number);
        let mut peers = slots.peers.lock();
        let left = self
            .connection
            .peer
            .connections
            .fetch_sub(1, Ordering::Relaxed)
            - 1;
        if left == 0 {
            peers.remove(&self.peer);
        }
        drop(peers);
        slots.left.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn task() -> AbortHandle {
        tokio::spawn(std::future::pending::<()>()).abort_handle()
    }

    /// Takes a place whose task runs.
    fn connect(slots: &Arc<Slots>, from: &str) -> Option<(Slot, AbortHandle)> {
        let slot = slots.take(from.parse().unwrap(), false)?;
        let task = task();
        slots.serves(slot.number(), task.clone());
        Some((slot, task))
    }

    async fn ended(task: &AbortHandle) -> bool {
        for _ in 0..100 {
            if task.is_finished() {
                return true;
            }
            tokio::task::yield_now().await;
        }
        false
    }

    #[tokio::test]
    async fn one_more_makes_the_oldest_go_that_never_made_a_request() {
        let slots = Slots::new(8);
        let idle = connect(&slots, "10.0.0.1").unwrap();
        drop(idle.0.connection.begin());
        let first = connect(&slots, "10.0.0.1").unwrap();
        first.0.connection.state.lock().since -= FRESH;
        let working = connect(&slots, "10.0.0.1").unwrap();
        let request = working.0.connection.begin();
        assert!(working.0.connection.received_all());
        let _last = connect(&slots, "10.0.0.1").unwrap();
        // The share of this peer is four.
        let _more = connect(&slots, "10.0.0.1").unwrap();
        assert!(ended(&first.1).await);
        assert!(!ended(&idle.1).await && !ended(&working.1).await);
        drop(request);
    }

    #[tokio::test]
    async fn one_that_has_just_come_outlives_bodies() {
        let slots = Slots::new(8);
        let mut receiving = Vec::new();
        for _ in 0..3 {
            let (slot, task) = connect(&slots, "10.0.0.1").unwrap();
            let request = slot.connection.begin();
            receiving.push((slot, task, request));
        }
        let fresh = connect(&slots, "10.0.0.1").unwrap();
        let _more = connect(&slots, "10.0.0.1").unwrap();
        assert!(ended(&receiving[0].1).await);
        assert!(!ended(&fresh.1).await);
    }

    #[tokio::test]
    async fn a_question_about_health_outlives_all_that_come_after_it() {
        let slots = Slots::new(16);
        let asks = slots.take("10.0.0.1".parse().unwrap(), true).unwrap();
        let asking = task();
        slots.serves(asks.number(), asking.clone());
        let mut others = Vec::new();
        for _ in 0..100 {
            others.push(connect(&slots, "10.0.0.1").unwrap());
        }
        assert!(!ended(&asking).await);
        // One that only says so keeps nobody out for longer.
        asks.connection.state.lock().since -= URGENT;
        others.push(connect(&slots, "10.0.0.1").unwrap());
        assert!(ended(&asking).await);
    }

    #[tokio::test]
    async fn one_more_waits_for_a_place_where_places_come_free() {
        let slots = Slots::new(4);
        let from = "10.0.0.1".parse().unwrap();
        let first = connect(&slots, "10.0.0.1").unwrap();
        assert!(slots.room(from, Duration::from_secs(60)).await);
        let second = connect(&slots, "10.0.0.1").unwrap();
        assert!(!slots.room(from, Duration::ZERO).await);
        assert!(
            slots
                .room("10.0.0.2".parse().unwrap(), Duration::ZERO)
                .await
        );
        // One that never asked is no reason to wait.
        second.0.connection.state.lock().since -= FRESH;
        assert!(slots.room(from, Duration::ZERO).await);
        drop(second.0.connection.begin());
        let (room, ()) = tokio::join!(slots.room(from, Duration::from_secs(60)), async {
            tokio::task::yield_now().await;
            drop(first);
        });
        assert!(room);
    }

    #[test]
    fn the_most_frequent_kind_makes_way() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let honest = [(Worth::Idle, at(0), 0), (Worth::Body, at(1), 1)];
        let fresh = [(Worth::Fresh, at(5), 2), (Worth::Fresh, at(4), 3)];
        assert_eq!(least(&[honest.as_slice(), &fresh].concat()), Some(3));
        let bodies = [(Worth::Body, at(8), 4), (Worth::Fresh, at(9), 5)];
        assert_eq!(least(&[honest.as_slice(), &bodies].concat()), Some(1));
        let slow = [(Worth::Slow, at(9), 6)];
        assert_eq!(least(&[honest.as_slice(), &fresh, &slow].concat()), Some(6));
        let silent = [(Worth::Nothing, at(9), 7)];
        assert_eq!(
            least(&[honest.as_slice(), &slow, &silent].concat()),
            Some(7)
        );
        let urgent = [(Worth::Urgent, at(0), 9), (Worth::Answer, at(1), 8)];
        assert_eq!(least(&urgent), Some(8));
        assert_eq!(least(&urgent[..1]), Some(9));
        assert_eq!(least(&[]), None);
    }

    #[tokio::test]
    async fn who_works_stays_and_leaves_room_for_questions_about_health() {
        let slots = Slots::new(32);
        let mut working = Vec::new();
        for host in 0..2 {
            for _ in 0..14 {
                let (slot, task) = connect(&slots, &format!("10.0.0.{host}")).unwrap();
                let request = slot.connection.begin();
                assert!(slot.connection.received_all());
                working.push((slot, task, request));
            }
        }
        // The next request of this peer, and the next of anybody, is one too many.
        for host in ["10.0.0.0", "10.0.0.9"] {
            let (slot, _task) = connect(&slots, host).unwrap();
            let _request = slot.connection.begin();
            assert!(!slot.connection.received_all(), "{host}");
        }
        // Connections are there for whoever asks after health, as often as anybody does.
        let mut asking = Vec::new();
        for _ in 0..100 {
            asking.push(connect(&slots, "10.0.0.0").unwrap());
        }
        for (_, task, _) in &working {
            assert!(!task.is_finished());
        }
        drop(working);
        drop(asking);
        assert!(slots.peers.lock().is_empty() && slots.entries.lock().is_empty());
    }

    #[rstest]
    #[case("::ffff:10.0.0.1", "10.0.0.1")]
    #[case("2001:db8::1:2:3:4", "2001:db8::")]
    #[case("::1", "::1")]
    fn a_network_of_one_host_counts_as_one(#[case] address: &str, #[case] expected: &str) {
        let expected: IpAddr = expected.parse().unwrap();
        assert_eq!(peer(address.parse().unwrap()), expected);
    }
}
