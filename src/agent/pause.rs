/*!
Letting a job wait: between two samples, or two runs of what is timed. Whoever asks says so again while
it lasts; a hold that nobody renews lapses, so that a client that died keeps nobody else waiting.
*/

use crate::engine::Cancel;
use parking_lot::Mutex;
use std::time::{Duration, Instant};

/// A hold lasts so long from the last time it was asked for.
const LAPSE: Duration = Duration::from_secs(60);
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Whether a job waits.
#[derive(Debug, Default)]
pub(super) struct PauseLease(Mutex<Option<Instant>>);

impl PauseLease {
    /// Lets it wait, or go on.
    pub(super) fn set(&self, held: bool) {
        let until = held.then(|| Instant::now() + LAPSE);
        *self.0.lock() = until;
    }

    /// Whether it is to wait now.
    pub(super) fn is_set(&self) -> bool {
        let until = self.0.lock();
        until.is_some_and(|until| Instant::now() < until)
    }

    /// Waits as long as it is to, or until somebody raises `cancel`.
    pub(super) fn wait(&self, cancel: &Cancel) {
        while self.is_set() && !cancel.is_cancelled() {
            std::thread::sleep(POLL_INTERVAL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hold_ends_when_it_is_let_go_of_or_the_job_is_stopped() {
        let (hold, cancel) = (PauseLease::default(), Cancel::new());
        hold.wait(&cancel);
        hold.set(true);
        assert!(hold.is_set());
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| hold.wait(&cancel));
            hold.set(false);
            waits.join().unwrap();
        });
        hold.set(true);
        cancel.cancel();
        hold.wait(&cancel);
    }
}
