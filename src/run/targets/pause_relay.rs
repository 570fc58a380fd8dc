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

/// Relays a pause of the run to the jobs of its agents.
pub(super) struct PauseRelay<'a> {
    pause: &'a Pause,
    /// When the jobs were last asked to wait.
    sent: Option<Instant>,
    /// Whether they say that they do.
    held: bool,
}

impl<'a> PauseRelay<'a> {
    pub fn new(pause: &'a Pause) -> PauseRelay<'a> {
        pause.elsewhere(true);
        PauseRelay {
            pause,
            sent: None,
            held: false,
        }
    }

    /// Asks the jobs to wait or to go on, where that is due.
    pub async fn relay<'c>(&mut self, jobs: impl Iterator<Item = (&'c Client, &'c str)>) {
        let asked = self.pause.is_asked();
        let due = match self.sent {
            None => asked,
            Some(then) => !asked || then.elapsed() >= RENEW,
        };
        if !due {
            return;
        }
        self.sent = asked.then(Instant::now);
        for (client, job) in jobs {
            // One that is over has nothing to hold; one that can't be reached is asked again.
            let _ = tokio::time::timeout(LAST_WORDS, client.pause(job, asked)).await;
        }
    }

    /// Reports whether all agents wait, where that has changed.
    pub fn report(&mut self, reporter: &mut Reporter, held: bool) {
        if self.held != held {
            self.held = held;
            reporter.event(Event::Paused(held));
        }
    }
}

impl Drop for PauseRelay<'_> {
    fn drop(&mut self) {
        self.pause.elsewhere(false);
    }
}
