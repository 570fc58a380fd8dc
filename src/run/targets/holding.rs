/*! Jobs that wait on their targets while the run is asked to, and what is told of the way to them. */

use super::LAST_WORDS;
use crate::event::{Connection, Event};
use crate::plan::Tier;
use crate::protocol::client::Client;
use crate::protocol::message::JobEvent;
use crate::run::pause::Pause;
use crate::run::stage_cache::Reporter;
use std::time::{Duration, Instant};

/// How often agents that wait are told to go on waiting: a hold lapses after a minute.
const RENEW: Duration = Duration::from_secs(5);

/// Tells of a connection to a job that is lost, or there again.
pub(super) fn connection(reporter: &mut Reporter, part: Tier, index: usize, event: &JobEvent) {
    let connection = match event {
        JobEvent::Lost { error, again_ms } => Connection::Reconnecting {
            after_ms: *again_ms,
            error: error.clone(),
        },
        JobEvent::Found => Connection::Reconnected,
        _ => return,
    };
    reporter.event(Event::Target {
        part,
        index,
        connection,
    });
}

/// Lets the jobs of agents wait while the run is asked to.
pub(super) struct Holding<'a> {
    pause: &'a Pause,
    /// When they were last told to wait.
    told: Option<Instant>,
    /// Whether they say that they do.
    held: bool,
}

impl<'a> Holding<'a> {
    pub fn new(pause: &'a Pause) -> Holding<'a> {
        pause.elsewhere(true);
        Holding {
            pause,
            told: None,
            held: false,
        }
    }

    /// Tells them, where there is something to tell.
    pub async fn mind<'c>(&mut self, jobs: impl Iterator<Item = (&'c Client, &'c str)>) {
        let asked = self.pause.is_asked();
        let due = match self.told {
            None => asked,
            Some(then) => !asked || then.elapsed() >= RENEW,
        };
        if !due {
            return;
        }
        self.told = asked.then(Instant::now);
        for (client, job) in jobs {
            // One that is over has nothing to hold; one that can't be reached is asked again.
            let _ = tokio::time::timeout(LAST_WORDS, client.pause(job, asked)).await;
        }
    }

    /// Tells of the run whether its agents wait.
    pub fn told(&mut self, reporter: &mut Reporter, held: bool) {
        if self.held != held {
            self.held = held;
            reporter.event(Event::Paused(held));
        }
    }
}

impl Drop for Holding<'_> {
    fn drop(&mut self) {
        self.pause.elsewhere(false);
    }
}
