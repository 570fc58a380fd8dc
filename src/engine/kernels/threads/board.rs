/*! Where a job is put up, and where its items are taken. */

use std::cell::UnsafeCell;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::*};

/// What is left of somebody's items.
pub(crate) type Items<'a> = &'a mut dyn Iterator<Item = usize>;
/// A job's closure, and how to call it.
type Job = (*const (), unsafe fn(*const (), Items<'_>));

/// On a cache line of its own, and the one that is fetched with it.
#[derive(Default)]
#[repr(align(128))]
struct Apart<T>(T);

/// A job's number and how many of its items are meant; one word to the threads.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Tally {
    job: u64,
    items: usize,
}

impl Tally {
    const BITS: u32 = 16;
    /// The most items that a job may have.
    pub(super) const MOST: usize = (1 << Tally::BITS) - 1;
    /// No job yet.
    pub(super) const NONE: Tally = Tally { job: 0, items: 0 };

    fn pack(self) -> u64 {
        (self.job << Tally::BITS) | self.items as u64
    }

    fn unpack(word: u64) -> Tally {
        Tally {
            job: word >> Tally::BITS,
            items: word as usize & Tally::MOST,
        }
    }

    /// How many items it means of this job.
    fn of(self, job: u64) -> usize {
        match self.job == job {
            true => self.items,
            false => 0,
        }
    }
}

/// Which of `count` items the `of`-th thread has, the caller being the first.
fn own(count: usize, threads: usize, of: usize) -> Range<usize> {
    (count * of).div_ceil(threads)..(count * (of + 1)).div_ceil(threads)
}

/// What only the caller writes, so that a worker that waits has all of it with the line it looks at.
struct Latest {
    /// The job of the last call, and its items.
    tally: AtomicU64,
    job: UnsafeCell<Job>,
}

/// How far a thread is. Both count for the job they name; in any other none.
#[derive(Default)]
struct Thread {
    /// How many of its own items were begun, by itself or by a thread that had none left.
    begun: AtomicU64,
    /// How many items, its own or another's, it is done with: written by itself alone.
    done: AtomicU64,
}

/// The last job. It is open from when the caller writes its number until its last item is done, and an
/// item is begun by the one thread that counts it in its owner's `begun`. Once all are done, the count of
/// every owner that had some has reached its end, under this number or a later one: a thread that comes
/// late, with an old number, finds nothing to begin. So nobody is waited for but those who began something.
pub(super) struct Board {
    latest: Apart<Latest>,
    /// The caller's first.
    threads: Vec<Apart<Thread>>,
    failed: AtomicBool,
}

// SAFETY: `job` is written only while no job is open, and read only by a thread that began an item of
// an open one and isn't done with it (see `put_up` and `work`).
unsafe impl Sync for Board {}
// SAFETY: as above.
unsafe impl Send for Board {}

impl Board {
    /// For so many threads, the caller's included.
    pub(super) fn new(threads: usize) -> Board {
        unsafe fn nothing(_: *const (), _: Items<'_>) {}
        Board {
            latest: Apart(Latest {
                tally: AtomicU64::new(Tally::NONE.pack()),
                job: UnsafeCell::new((std::ptr::null(), nothing)),
            }),
            threads: (0..threads.max(1)).map(|_| Apart::default()).collect(),
            failed: AtomicBool::new(false),
        }
    }

    /// The last job, as a worker looks for it.
    pub(super) fn latest(&self) -> Tally {
        Tally::unpack(self.latest.0.tally.load(SeqCst))
    }

    /// Whether an item of any job ended in a panic.
    pub(super) fn failed(&self) -> bool {
        self.failed.load(SeqCst)
    }

    /// Puts up `count` items of `f`, at most [`Tally::MOST`].
    ///
    /// # Safety
    /// There is one caller at a time, who drops what he gets before he lets go of `f`, or puts up
    /// another job.
    pub(super) unsafe fn put_up<F: Fn(Items<'_>) + Sync>(&self, count: usize, f: &F) -> Open<'_> {
        unsafe fn call<F: Fn(Items<'_>)>(data: *const (), items: Items<'_>) {
            // SAFETY: `data` is the `F` below.
            unsafe { (*data.cast::<F>())(items) }
        }
        let last = Tally::unpack(self.latest.0.tally.load(Relaxed));
        let tally = Tally {
            job: last.job + 1,
            items: count,
        };
        // One a microsecond, they last for eight years.
        assert!(Tally::unpack(tally.pack()) == tally, "job numbers ran out");
        // SAFETY: the last job is done, and nobody begins an item of this one before its number is there.
        unsafe { *self.latest.0.job.get() = ((&raw const *f).cast(), call::<F>) };
        self.latest.0.tally.store(tally.pack(), SeqCst);
        Open { board: self, tally }
    }

    /// Begins an item of the `of`-th thread, if one is left.
    fn begin(&self, tally: Tally, of: usize) -> Option<usize> {
        let items = own(tally.items, self.threads.len(), of);
        let next = |word: u64| {
            let begun = Tally::unpack(word);
            let left = begun.job <= tally.job && begun.of(tally.job) < items.len();
            left.then(|| Tally {
                items: begun.of(tally.job) + 1,
                ..tally
            })
        };
        let word = self.threads[of]
            .0
            .begun
            .fetch_update(AcqRel, Acquire, |word| next(word).map(Tally::pack));
        Some(items.start + Tally::unpack(word.ok()?).of(tally.job))
    }

    /// A thread's part in a job: its own items, and then those that others haven't begun. What a thread
    /// wrote in one step it mostly reads in the next, out of its own cache.
    pub(super) fn work(&self, tally: Tally, me: usize) {
        let mut part = Part {
            board: self,
            tally,
            me,
            items: 0,
            ended: false,
        };
        for of in (me..self.threads.len()).chain(0..me) {
            let Some(first) = part.begin(of) else {
                continue;
            };
            let mut items = std::iter::once(first).chain(std::iter::from_fn(|| part.begin(of)));
            // SAFETY: an item of this job was begun and isn't told to be done, so the job is open: nobody
            // writes, and `data` is the closure that `call` was made for.
            unsafe {
                let (data, call) = *self.latest.0.job.get();
                call(data, &mut items);
            }
            // What nobody begins, nobody ends.
            assert!(part.begin(of).is_none(), "items of the engine were left");
            part.tell();
        }
        part.ended = true;
    }

    fn is_done(&self, tally: Tally) -> bool {
        let done = |thread: &Apart<Thread>| Tally::unpack(thread.0.done.load(Acquire));
        let done = self.threads.iter().map(|t| done(t).of(tally.job));
        done.sum::<usize>() == tally.items
    }
}

/// A job that was put up. Dropping it waits until all its items are done, a panic of the caller's included.
pub(super) struct Open<'a> {
    board: &'a Board,
    tally: Tally,
}

impl Open<'_> {
    /// The caller's part in it.
    pub(super) fn work(&self) {
        self.board.work(self.tally, 0);
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        let mut spins = 0;
        while !self.board.is_done(self.tally) {
            spins += 1;
            // A worker that lost its core must get it back from somewhere.
            if spins % 1024 == 0 {
                std::thread::yield_now();
            }
            std::hint::spin_loop();
        }
    }
}

/// What a thread began of a job.
struct Part<'a> {
    board: &'a Board,
    tally: Tally,
    me: usize,
    items: usize,
    ended: bool,
}

impl Part<'_> {
    fn begin(&mut self, of: usize) -> Option<usize> {
        let item = self.board.begin(self.tally, of)?;
        self.items += 1;
        Some(item)
    }

    /// Tells the caller that it is done.
    fn tell(&self) {
        let done = Tally {
            items: self.items,
            ..self.tally
        };
        let thread = &self.board.threads[self.me].0;
        thread.done.store(done.pack(), Release);
    }
}

impl Drop for Part<'_> {
    /// A panic in an item ends the job. Those that weren't begun count as done, too.
    fn drop(&mut self) {
        if !self.ended {
            self.board.failed.store(true, SeqCst);
            for of in 0..self.board.threads.len() {
                while self.begin(of).is_some() {}
            }
            self.tell();
        }
    }
}
