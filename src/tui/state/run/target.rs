/*! A target of a run: its connection, its sensors, how far and how fast it is, its log. */

use crate::plan::Tier;
use crate::protocol::message::Progress;
use crate::run::Vitals;
use std::collections::VecDeque;

/// Lines kept of a log, and times of a sparkline.
const MOST_LINES: usize = 500;
const MOST_POINTS: usize = 240;
/// The least time that a rate is of.
const LEAST_MS: u64 = 150;

/// How a target can be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Connection {
    /// Nothing was told yet.
    Unknown,
    Connected,
    Connecting,
    Reconnecting,
    Lost,
}

/// A target of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Target {
    pub part: Tier,
    pub index: usize,
    /// In words.
    pub state: String,
    pub vitals: Option<Vitals>,
    /// Of an edge that runs the test set.
    pub progress: Progress,
    /// Samples, or answers of a cloud, in a second.
    pub rate_hz: Option<f64>,
    /// Milliseconds a sample at an edge, an answer in the cloud.
    pub times_ms: VecDeque<f64>,
    /// Of a cloud: answers, and requests that it failed.
    pub answered: (u64, u64),
    pub log: Log,
    last: Option<(u64, u64)>,
}

impl Target {
    pub(super) fn new(part: Tier, index: usize) -> Target {
        Target {
            part,
            index,
            state: String::new(),
            vitals: None,
            progress: Progress::default(),
            rate_hz: None,
            times_ms: VecDeque::new(),
            answered: (0, 0),
            log: Log::default(),
            last: None,
        }
    }

    pub fn connection(&self) -> Connection {
        let state = self.state.as_str();
        match state {
            "" => Connection::Unknown,
            _ if state.starts_with("connected") => Connection::Connected,
            _ if state.starts_with("reconnecting") => Connection::Reconnecting,
            _ if state.starts_with("connecting") => Connection::Connecting,
            _ => Connection::Lost,
        }
    }

    /// So many are done at a time: how many a second that is. Several edges tell of one cloud, at
    /// times a moment apart, which is too short to say.
    pub(super) fn done(&mut self, at: u64, done: u64) {
        if self.last.is_some_and(|(then, _)| at < then + LEAST_MS) {
            return;
        }
        self.rate_hz = match self.last {
            Some((then, before)) if at > then && done >= before => {
                Some((done - before) as f64 * 1000.0 / (at - then) as f64)
            }
            Some(_) => self.rate_hz,
            None => None,
        };
        self.last = Some((at, done));
    }

    pub(super) fn took(&mut self, ms: Option<f64>) {
        self.times_ms.extend(ms);
        if self.times_ms.len() > MOST_POINTS {
            self.times_ms.pop_front();
        }
    }
}

/// Whom a line of a log is about, where it begins as `edge 0: `, and what it says of it.
pub(super) fn about(text: &str) -> Option<(Tier, usize, &str)> {
    let (whom, what) = text.split_once(": ")?;
    let (side, index) = whom.split_once(' ')?;
    let part = match side {
        "edge" => Tier::First,
        "cloud" => Tier::Second,
        _ => return None,
    };
    Some((part, index.parse().ok()?, what))
}

/// A bounded log that counts what it drops.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Log {
    /// Milliseconds since the run's start, and the line.
    pub lines: VecDeque<(u64, String)>,
    pub dropped: usize,
}

impl Log {
    pub(super) fn push(&mut self, at: u64, line: String) {
        if self.lines.len() == MOST_LINES {
            self.lines.pop_front();
            self.dropped += 1;
        }
        self.lines.push_back((at, line));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_about_whom_they_name() {
        assert_eq!(about("edge 1: waits"), Some((Tier::First, 1, "waits")));
        assert_eq!(about("cloud 0: a: b"), Some((Tier::Second, 0, "a: b")));
        for other in ["edge: kept", "the edge 1: no", "split after x"] {
            assert_eq!(about(other), None);
        }
    }

    #[test]
    fn a_state_says_how_it_is_connected() {
        let mut target = Target::new(Tier::First, 0);
        for (state, connection) in [
            ("", Connection::Unknown),
            ("connecting to https://a", Connection::Connecting),
            ("connected: a board", Connection::Connected),
            ("reconnecting in 2 s: no route", Connection::Reconnecting),
            ("lost; its samples go to the others", Connection::Lost),
        ] {
            target.state = state.into();
            assert_eq!(target.connection(), connection);
        }
    }
}
