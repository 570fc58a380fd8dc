/*! How many threads an engine has, and what shares their number. */

use super::kernels::threads::Pool;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Settings of an engine that change its speed and memory, never its results.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Threads of the engine's pool, the caller's included; 0 for what [`share_threads`] said, or else
    /// for all the cores this process may use; [`most_threads`] at most. Engines with the same number share one pool.
    pub threads: usize,
}

/// Threads per core that an engine has at most: more only wait for each other, and thousands of them
/// stall a machine.
const THREADS_PER_CORE: usize = 4;

/// The most threads that an engine has here: four for each core this process may use.
pub fn most_threads() -> usize {
    THREADS_PER_CORE * std::thread::available_parallelism().map_or(1, usize::from)
}

impl Options {
    pub(super) fn pool(&self) -> Arc<Pool> {
        Pool::shared(self.threads())
    }

    /// Threads that are really had, the caller's included: at least 1.
    pub(crate) fn threads(&self) -> usize {
        let asked = match self.threads {
            0 => THREADS.load(Ordering::Relaxed),
            n => n.min(most_threads()),
        };
        match asked {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            n => n,
        }
    }
}

/// Threads of an engine that isn't told how many; 0 for all the cores.
static THREADS: AtomicUsize = AtomicUsize::new(0);

/// Gives the pool on which training and candle's operations run, and engines that aren't told
/// otherwise, `threads` threads; 0 for one per core that this process may use. Meant for the start of
/// a process: `false` where that pool runs already.
pub fn share_threads(threads: usize) -> bool {
    let threads = threads.min(most_threads());
    THREADS.store(threads, Ordering::Relaxed);
    // Without a number the pool takes the cores this process may use, as an engine does.
    threads == 0
        || rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build_global()
            .is_ok()
}
