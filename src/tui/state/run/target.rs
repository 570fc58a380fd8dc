/*! A target of a run: its connection, its sensors, how far and how fast it is, its log. */

use crate::event::{Connection, Vitals};
use crate::plan::Tier;
use crate::protocol::message::Progress;
use std::collections::VecDeque;

/// Lines kept of a log, and times of a sparkline.
const MOST_LINES: usize = 500;
const MOST_POINTS: usize = 240;
/// The least time that a rate is of.
const LEAST_MS: u64 = 150;

/// Whether a target can be reached, the best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// Nothing is known yet.
    Unknown,
    Connected,
    Connecting,
    Reconnecting,
    Lost,
}

/// A target of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct TargetState {
    pub part: Tier,
    pub index: usize,
    /// How the run says it can be reached.
    pub connection: Option<Connection>,
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

impl TargetState {
    pub(super) fn new(part: Tier, index: usize) -> TargetState {
        TargetState {
            part,
            index,
            connection: None,
            vitals: None,
            progress: Progress::default(),
            rate_hz: None,
            times_ms: VecDeque::new(),
            answered: (0, 0),
            log: Log::default(),
            last: None,
        }
    }

    pub fn reach(&self) -> Reach {
        match &self.connection {
            None => Reach::Unknown,
            Some(Connection::Connected { .. } | Connection::Reconnected) => Reach::Connected,
            Some(Connection::Connecting { .. }) => Reach::Connecting,
            Some(Connection::Reconnecting { .. }) => Reach::Reconnecting,
            Some(Connection::LeftOut | Connection::Lost) => Reach::Lost,
        }
    }

    /// Derives the rate per second from a count and its time in milliseconds. Several edges report on
    /// one cloud, sometimes a moment apart, which is too short a time for a rate.
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
