/*! Ways to the next tier that are open between two requests, so that none is opened for each sample. */

use super::forward::Forward;
use parking_lot::Mutex;
use std::time::{Duration, Instant};

/// Ways that are kept open, those in use not counted.
const OPEN: usize = 16;
/// How long one is kept that nobody asks for.
const LIFE: Duration = Duration::from_secs(60);

/// An open way: what it was opened for, when it was last used, and the way.
type Open = (String, Instant, Forward);

/// The open ways of an agent. With them go the tokens of their targets.
#[derive(Default)]
pub(super) struct Ways {
    idle: Mutex<Vec<Open>>,
}

impl Ways {
    /// A way that was opened for the same, if one is open.
    pub(super) fn take(&self, of: &str) -> Option<Forward> {
        let mut idle = self.idle.lock();
        let at = idle.iter().rposition(|(own, ..)| own == of)?;
        Some(idle.remove(at).2)
    }

    /// Keeps a way open; those unused for long, and the oldest of too many, go. Not for the threads of the
    /// runtime, since connections end here.
    pub(super) fn put(&self, of: String, way: Forward) {
        let mut idle = self.idle.lock();
        idle.retain(|(_, used, _)| used.elapsed() < LIFE);
        if idle.len() >= OPEN {
            idle.remove(0);
        }
        idle.push((of, Instant::now(), way));
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
