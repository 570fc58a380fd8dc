/*!
The engine's threads: workers that spin for some microseconds after a job, so that the next step
of a running program finds them awake, and then sleep, so that an idle process uses no time.
*/

use crate::engine::Cancel;
use std::cell::UnsafeCell;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::*};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::JoinHandle;

/// Turns of the waiting loop before a worker sleeps.
const SPINS: usize = 10_000;

type Job = (*const (), unsafe fn(*const (), usize));

/// On a cache line of its own, and the one that is fetched with it.
#[repr(align(128))]
struct Apart<T>(T);

/// The items of a job that the `of`-th of its threads has, the caller being the first.
fn own(count: usize, threads: usize, of: usize) -> Range<usize> {
    count * of / threads..count * (of + 1) / threads
}

/// What only the caller writes, so that a worker that waits has all of it with the line it looks at.
struct Latest {
    /// Twice the number of jobs so far, plus one while one is open.
    state: AtomicU64,
    count: AtomicUsize,
    job: UnsafeCell<Job>,
}

struct Shared {
    latest: Apart<Latest>,
    /// Workers that may be looking at the job.
    active: Apart<AtomicUsize>,
    /// Of each thread, the caller's first, how many of its items were begun.
    begun: Vec<Apart<AtomicUsize>>,
    stop: AtomicBool,
    failed: AtomicBool,
    asleep: Vec<AtomicBool>,
}

// SAFETY: `job` is written only while no worker is active and no job open (see `run`), and read
// only by active workers that saw the job open.
unsafe impl Sync for Shared {}
// SAFETY: as above.
unsafe impl Send for Shared {}

impl Shared {
    /// A thread's part in a job: its own items, and then those that others haven't begun. What a thread
    /// wrote in one step it mostly reads in the next, out of its own cache.
    fn work(&self, me: usize) {
        let count = self.latest.0.count.load(Relaxed);
        // SAFETY: the job is open, and stays so until every active worker is done.
        let (data, call) = unsafe { *self.latest.0.job.get() };
        let threads = self.begun.len();
        for of in (me..threads).chain(0..me) {
            let items = own(count, threads, of);
            loop {
                let item = items.start + self.begun[of].0.fetch_add(1, Relaxed);
                if !items.contains(&item) {
                    break;
                }
                // SAFETY: `data` is the closure `call` was made for, alive until the job is closed.
                unsafe { call(data, item) }
            }
        }
    }

    fn open_since(&self, last: u64) -> Option<u64> {
        let state = self.latest.0.state.load(SeqCst);
        (state & 1 == 1 && state != last).then_some(state)
    }

    fn worker(&self, at: usize) {
        let mut last = 0;
        let mut spins = 0;
        while !self.stop.load(Relaxed) {
            if let Some(state) = self.open_since(last) {
                self.active.0.fetch_add(1, SeqCst);
                let leave = Leave(self);
                // Only now is the job held: it may have been closed in between.
                if self.latest.0.state.load(SeqCst) == state {
                    self.work(at + 1);
                }
                drop(leave);
                (last, spins) = (state, 0);
            } else if spins < SPINS {
                spins += 1;
                std::hint::spin_loop();
            } else {
                self.asleep[at].store(true, SeqCst);
                if self.open_since(last).is_none() && !self.stop.load(SeqCst) {
                    std::thread::park();
                }
                self.asleep[at].store(false, SeqCst);
                spins = 0;
            }
        }
    }
}

/// Ends a worker's part in a job, a panic included.
struct Leave<'a>(&'a Shared);

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.failed.store(true, SeqCst);
        }
        self.0.active.0.fetch_sub(1, SeqCst);
    }
}

/// Closes the job and waits for the workers, a panic of the caller's part included.
struct Close<'a>(&'a Shared, u64);

impl Drop for Close<'_> {
    fn drop(&mut self) {
        self.0.latest.0.state.store(self.1 << 1, SeqCst);
        let mut spins = 0;
        while self.0.active.0.load(SeqCst) != 0 {
            spins += 1;
            // A worker that lost its core must get it back from somewhere.
            if spins % 1024 == 0 {
                std::thread::yield_now();
            }
            std::hint::spin_loop();
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
        let mut pools = POOLS.lock().unwrap_or_else(PoisonError::into_inner);
        let pools = pools.get_or_insert_default();
        if let Some(pool) = pools.get(&threads).and_then(Weak::upgrade) {
            return pool;
        }
        let pool = Arc::new(Pool::new(threads));
        pools.insert(threads, Arc::downgrade(&pool));
        pool
    }

    fn new(threads: usize) -> Pool {
        unsafe fn nothing(_: *const (), _: usize) {}
        let shared = Arc::new(Shared {
            latest: Apart(Latest {
                state: AtomicU64::new(0),
                count: AtomicUsize::new(0),
                job: UnsafeCell::new((std::ptr::null(), nothing)),
            }),
            active: Apart(AtomicUsize::new(0)),
            begun: (0..threads.max(1))
                .map(|_| Apart(AtomicUsize::new(0)))
                .collect(),
            stop: AtomicBool::new(false),
            failed: AtomicBool::new(false),
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

    /// Calls `f` once for each item. Where another program has the workers at this moment, the
    /// caller's thread does it all: the result is the same.
    pub(crate) fn run<F: Fn(usize) + Sync>(&self, count: usize, f: F) {
        let held = (count > 1 && !self.workers.is_empty()).then(|| self.busy.try_lock());
        let Some(Ok(_held)) = held else {
            return (0..count).for_each(f);
        };
        unsafe fn call<F: Fn(usize)>(data: *const (), item: usize) {
            // SAFETY: `data` is the `F` below.
            unsafe { (*data.cast::<F>())(item) }
        }
        let shared = &*self.shared;
        // SAFETY: `busy` is held, the last job is closed and no worker active in it: a worker that
        // becomes active now finds the state closed, or the new job whole.
        unsafe { *shared.latest.0.job.get() = ((&raw const f).cast(), call::<F>) };
        shared.latest.0.count.store(count, Relaxed);
        for begun in &shared.begun {
            begun.0.store(0, Relaxed);
        }
        let epoch = (shared.latest.0.state.load(Relaxed) >> 1) + 1;
        shared.latest.0.state.store((epoch << 1) | 1, SeqCst);
        let close = Close(shared, epoch);
        for (worker, asleep) in self.workers.iter().zip(&shared.asleep) {
            if asleep.load(SeqCst) {
                worker.thread().unpark();
            }
        }
        shared.work(0);
        drop(close);
        assert!(!shared.failed.load(SeqCst), "a worker of the engine failed");
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

    /// Like [`Pool::run`], but once the run is stopped the items left are not done; the caller has
    /// to ask the token, and leave what was computed alone. Asking costs a relaxed load an item.
    pub(crate) fn run<F: Fn(usize) + Sync>(&self, count: usize, f: F) {
        self.pool.run(count, |item| {
            if !self.cancel.is_cancelled() {
                f(item);
            }
        });
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_item_is_done_once_job_after_job() {
        let pool = Pool::new(3);
        for round in 0..2000 {
            let count = round % 17;
            let done: Vec<AtomicUsize> = (0..count).map(|_| AtomicUsize::new(0)).collect();
            pool.run(count, |i| {
                done[i].fetch_add(1, Relaxed);
            });
            assert!(done.iter().all(|d| d.load(Relaxed) == 1), "round {round}");
        }
    }

    #[test]
    fn a_stop_leaves_the_items_that_were_not_begun() {
        for threads in [1, 3] {
            let (pool, cancel) = (Pool::new(threads), Cancel::new());
            let team = Team {
                pool: &pool,
                cancel: &cancel,
            };
            let done = AtomicUsize::new(0);
            team.run(1000, |item| {
                // Whoever comes later waits for the stop, so that none slips through before it.
                if item == 5 {
                    cancel.cancel();
                } else if item > 5 {
                    while !cancel.is_cancelled() {
                        std::hint::spin_loop();
                    }
                }
                done.fetch_add(1, Relaxed);
            });
            // A thread may have taken an item, or be in one, when another stops them all.
            let done = done.load(Relaxed);
            assert!(
                (7 - threads..6 + threads).contains(&done),
                "{done} of {threads} threads"
            );
        }
    }
}
