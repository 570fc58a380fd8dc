/*!
The engine's threads: workers that spin for some microseconds after a job, so that the next step
of a running program finds them awake, and then sleep, so that an idle process uses no time.
*/

mod job_slot;
#[cfg(test)]
mod tests;

use crate::engine::Cancel;
use job_slot::{JobSlot, Ticket};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering::*};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;

pub(crate) use job_slot::Items;

/// Turns of the waiting loop before a worker sleeps.
const SPINS: usize = 10_000;

struct Shared {
    slot: JobSlot,
    stop: AtomicBool,
    asleep: Vec<AtomicBool>,
}

impl Shared {
    fn worker(&self, at: usize) {
        let mut last = Ticket::NONE;
        let mut spins = 0;
        while !self.stop.load(Relaxed) {
            let latest = self.slot.latest();
            if latest != last {
                self.slot.work(latest, at + 1);
                (last, spins) = (latest, 0);
            } else if spins < SPINS {
                spins += 1;
                std::hint::spin_loop();
            } else {
                self.asleep[at].store(true, SeqCst);
                if self.slot.latest() == last && !self.stop.load(SeqCst) {
                    std::thread::park();
                }
                self.asleep[at].store(false, SeqCst);
                spins = 0;
            }
        }
    }
}

/// Fork and join over a fixed number of threads, the caller's included.
pub(crate) struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    busy: Mutex<()>,
}

impl Pool {
    /// The process's pool of `threads` threads (0: as many as this process may use cores), made
    /// when first asked for and ended with its last user.
    pub(crate) fn shared(threads: usize) -> Arc<Pool> {
        static POOLS: Mutex<Option<HashMap<usize, Weak<Pool>>>> = Mutex::new(None);
        let threads = match threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            n => n,
        };
        let mut pools = POOLS.lock();
        let pools = pools.get_or_insert_default();
        let pool = pools.get(&threads).and_then(Weak::upgrade);
        // One that saw a panic may lack a worker, and hands out nothing any more.
        if let Some(pool) = pool.filter(|pool| !pool.shared.slot.failed()) {
            return pool;
        }
        let pool = Arc::new(Pool::new(threads));
        pools.insert(threads, Arc::downgrade(&pool));
        pool
    }

    fn new(threads: usize) -> Pool {
        let shared = Arc::new(Shared {
            slot: JobSlot::new(threads),
            stop: AtomicBool::new(false),
            asleep: (1..threads).map(|_| AtomicBool::new(false)).collect(),
        });
        // A thread the system won't give is done without: the caller's alone can do all the work.
        let workers = (0..threads.saturating_sub(1)).map_while(|at| {
            let shared = shared.clone();
            let builder = std::thread::Builder::new().name("engine".to_string());
            builder.spawn(move || shared.worker(at)).ok()
        });
        Pool {
            workers: workers.collect(),
            shared,
            busy: Mutex::default(),
        }
    }

    /// Threads, the caller's included.
    pub(crate) fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Hands out `count` items among the threads: each call of `f` has to do all it is given, one after
    /// the other; a thread gets more than one call where it takes over what others haven't claimed. Where
    /// another program has the workers at this moment, the caller's thread does it all: the result
    /// is the same.
    pub(crate) fn share<F: Fn(Items<'_>) + Sync>(&self, count: usize, f: F) {
        // A pool that saw a panic may lack a worker.
        let hands_out = count > 1 && !self.workers.is_empty() && !self.shared.slot.failed();
        let held = hands_out.then(|| self.busy.try_lock()).flatten();
        let Some(_held) = held else {
            return f(&mut (0..count));
        };
        for from in (0..count).step_by(Ticket::MOST) {
            let from_here = |items: Items<'_>| f(&mut items.map(|item| from + item));
            // SAFETY: `busy` is held, and what is returned dropped at the end of each turn.
            let open = unsafe {
                let count = Ticket::MOST.min(count - from);
                self.shared.slot.publish(count, &from_here)
            };
            for (worker, asleep) in self.workers.iter().zip(&self.shared.asleep) {
                if asleep.load(SeqCst) {
                    worker.thread().unpark();
                }
            }
            open.work();
        }
        assert!(!self.shared.slot.failed(), "a worker of the engine failed");
    }
}

/// A pool for the steps of a run that may be stopped.
#[derive(Clone, Copy)]
pub(crate) struct Team<'a> {
    pub pool: &'a Pool,
    pub cancel: &'a Cancel,
}

impl Team<'_> {
    /// Threads, the caller's included.
    pub(crate) fn threads(&self) -> usize {
        self.pool.threads()
    }

    /// Like [`Pool::share`], but once the run is stopped the items left are not handed out; the caller
    /// has to ask the token, and leave what was computed alone. Asking costs a relaxed load an item.
    pub(crate) fn share<F: Fn(Items<'_>) + Sync>(&self, count: usize, f: F) {
        let going = |_: &usize| !self.cancel.is_cancelled();
        self.pool.share(count, |items| f(&mut items.filter(going)));
    }

    /// Calls `f` once for each item, until the run is stopped.
    pub(crate) fn run<F: Fn(usize) + Sync>(&self, count: usize, f: F) {
        self.share(count, |items| items.for_each(&f));
    }
}

impl Team<'_> {
    /// Hands out `y` in pieces of `len` elements (the last may be shorter), each to one call of `f`
    /// with its number. Once the run is stopped the pieces left are not touched.
    pub(crate) fn pieces<T: Send, F>(&self, y: &mut [T], len: usize, f: F)
    where
        F: Fn(usize, &mut [T]) + Sync,
    {
        struct Start<T>(*mut T);
        // SAFETY: it only serves to make pieces that do not overlap, each for one thread.
        unsafe impl<T: Send> Sync for Start<T> {}
        impl<T> Start<T> {
            fn at(&self, from: usize) -> *mut T {
                self.0.wrapping_add(from)
            }
        }
        let (len, total) = (len.max(1), y.len());
        let start = Start(y.as_mut_ptr());
        self.run(total.div_ceil(len), |item| {
            let from = item * len;
            // SAFETY: from is below `total`, so the piece lies within y, which is borrowed for all
            // of this call; `run` calls once an item, and no two items' pieces overlap.
            let piece =
                unsafe { std::slice::from_raw_parts_mut(start.at(from), len.min(total - from)) };
            f(item, piece);
        });
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, SeqCst);
        for worker in self.workers.drain(..) {
            worker.thread().unpark();
            // A worker's panic was reported by the run it happened in.
            let _ = worker.join();
        }
    }
}
