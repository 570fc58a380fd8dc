/*! The token that stops a run. */

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A shared flag that stops a run between two steps, or between two pieces of a long one.
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<Flag>);

#[derive(Debug, Default)]
struct Flag {
    raised: AtomicBool,
    #[cfg(test)]
    asked: asked::Asked,
}

impl Cancel {
    /// A flag nobody has raised.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks whatever holds a clone to stop.
    pub fn cancel(&self) {
        self.0.raised.store(true, Ordering::Relaxed);
    }

    /// Whether the work was asked to stop.
    #[inline]
    pub fn is_cancelled(&self) -> bool {
        #[cfg(test)]
        if self.0.asked.runs_out() {
            self.cancel();
        }
        self.0.raised.load(Ordering::Relaxed)
    }
}

/// How often a run looks at its token, so that tests can count what lies between two looks instead
/// of timing it.
#[cfg(test)]
mod asked {
    use super::Cancel;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    #[derive(Debug, Default)]
    pub(super) struct Asked {
        times: AtomicUsize,
        /// Raises the flag at this look; 0 for never.
        limit: AtomicUsize,
    }

    impl Asked {
        pub(super) fn runs_out(&self) -> bool {
            let times = self.times.fetch_add(1, Relaxed) + 1;
            let limit = self.limit.load(Relaxed);
            limit > 0 && times >= limit
        }
    }

    impl Cancel {
        /// A flag that raises itself when looked at for the `times`-th time.
        pub(crate) fn at_look(times: usize) -> Cancel {
            let cancel = Cancel::new();
            cancel.0.asked.limit.store(times, Relaxed);
            cancel
        }

        /// How often it was looked at.
        pub(crate) fn looks(&self) -> usize {
            self.0.asked.times.load(Relaxed)
        }
    }
}
