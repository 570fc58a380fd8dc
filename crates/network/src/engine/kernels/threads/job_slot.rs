/*! The slot in which a job is published, and from which its items are claimed. */

use crossbeam_utils::CachePadded;
use std::cell::UnsafeCell;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::*};

/// What is left of somebody's items.
pub(crate) type Items<'a> = &'a mut dyn Iterator<Item = usize>;
/// A job's closure, and how to call it.
type Job = (*const (), unsafe fn(*const (), Items<'_>));

/// A job's number and how many of its items are meant; one word to the threads.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Ticket {
    job: u64,
    items: usize,
}

impl Ticket {
    const BITS: u32 = 16;
    /// The most items that a job may have.
    pub(super) const MOST: usize = (1 << Ticket::BITS) - 1;
    /// Ticket of a slot that never held a job.
    pub(super) const NONE: Ticket = Ticket { job: 0, items: 0 };

    fn pack(self) -> u64 {
        (self.job << Ticket::BITS) | self.items as u64
    }

    fn unpack(word: u64) -> Ticket {
        Ticket {
            job: word >> Ticket::BITS,
            items: word as usize & Ticket::MOST,
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
fn share_of(count: usize, threads: usize, of: usize) -> Range<usize> {
    (count * of).div_ceil(threads)..(count * (of + 1)).div_ceil(threads)
}

/// What only the caller writes, so that a worker that waits has all of it with the line it looks at.
struct Latest {
    /// The job of the last call, and its items.
    ticket: AtomicU64,
    job: UnsafeCell<Job>,
}

/// How far a thread is. Both count for the job they name; in any other none.
#[derive(Default)]
struct Thread {
    /// How many of its own items were claimed, by itself or by a thread that had none left.
    claimed: AtomicU64,
    /// How many items, its own or another's, it is done with: written by itself alone.
    done: AtomicU64,
}

/// The last job. It is open from when the caller writes its number until its last item is done, and an
/// item is claimed by the one thread that counts it in its owner's `claimed`. Once all are done, the count of
/// every owner that had some has reached its end, under this number or a later one: a thread that comes
/// late, with an old number, finds nothing to claim. So nobody is waited for but those who claimed something.
pub(super) struct JobSlot {
    latest: CachePadded<Latest>,
    /// Share of each thread; the caller's is the first.
    threads: Vec<CachePadded<Thread>>,
    failed: AtomicBool,
}

// SAFETY: `job` is written only while no job is open, and read only by a thread that claimed an item of
// an open one and isn't done with it (see `publish` and `work`).
unsafe impl Sync for JobSlot {}
// SAFETY: as above.
unsafe impl Send for JobSlot {}

impl JobSlot {
    /// For so many threads, the caller's included.
    pub(super) fn new(threads: usize) -> JobSlot {
        unsafe fn nothing(_: *const (), _: Items<'_>) {}
        JobSlot {
            latest: CachePadded::new(Latest {
                ticket: AtomicU64::new(Ticket::NONE.pack()),
                job: UnsafeCell::new((std::ptr::null(), nothing)),
            }),
            threads: (0..threads.max(1))
                .map(|_| CachePadded::default())
                .collect(),
            failed: AtomicBool::new(false),
        }
    }

    /// The last job, as a worker looks for it.
    pub(super) fn latest(&self) -> Ticket {
        Ticket::unpack(self.latest.ticket.load(SeqCst))
    }

    /// Whether an item of any job ended in a panic.
    pub(super) fn failed(&self) -> bool {
        self.failed.load(SeqCst)
    }

    /// Publishes `count` items of `f`, at most [`Ticket::MOST`].
    ///
    /// # Safety
    /// There is one caller at a time, who drops what he gets before he lets go of `f`, or publishes
    /// another job.
    pub(super) unsafe fn publish<F: Fn(Items<'_>) + Sync>(&self, count: usize, f: &F) -> Open<'_> {
        unsafe fn call<F: Fn(Items<'_>)>(data: *const (), items: Items<'_>) {
            // SAFETY: `data` is the `F` below.
            unsafe { (*data.cast::<F>())(items) }
        }
        let last = Ticket::unpack(self.latest.ticket.load(Relaxed));
        let ticket = Ticket {
            job: last.job + 1,
            items: count,
        };
        // One a microsecond, they last for eight years.
        assert!(
            Ticket::unpack(ticket.pack()) == ticket,
            "job numbers ran out"
        );
        // SAFETY: the last job is done, and nobody claims an item of this one before its number is there.
        unsafe { *self.latest.job.get() = ((&raw const *f).cast(), call::<F>) };
        self.latest.ticket.store(ticket.pack(), SeqCst);
        Open { slot: self, ticket }
    }

    /// Claims an item of the `of`-th thread, if one is left.
    fn claim(&self, ticket: Ticket, of: usize) -> Option<usize> {
        let items = share_of(ticket.items, self.threads.len(), of);
        let next = |word: u64| {
            let claimed = Ticket::unpack(word);
            let left = claimed.job <= ticket.job && claimed.of(ticket.job) < items.len();
            left.then(|| Ticket {
                items: claimed.of(ticket.job) + 1,
                ..ticket
            })
        };
        let word = self.threads[of]
            .claimed
            .fetch_update(AcqRel, Acquire, |word| next(word).map(Ticket::pack));
        Some(items.start + Ticket::unpack(word.ok()?).of(ticket.job))
    }

    /// A thread's part in a job: its own items, and then those that others haven't claimed. What a thread
    /// wrote in one step it mostly reads in the next, out of its own cache.
    pub(super) fn work(&self, ticket: Ticket, me: usize) {
        let mut part = Part {
            slot: self,
            ticket,
            me,
            items: 0,
            ended: false,
        };
        for of in (me..self.threads.len()).chain(0..me) {
            let Some(first) = part.claim(of) else {
                continue;
            };
            let mut items = std::iter::once(first).chain(std::iter::from_fn(|| part.claim(of)));
            // SAFETY: an item of this job was claimed and isn't told to be done, so the job is open: nobody
            // writes, and `data` is the closure that `call` was made for.
            unsafe {
                let (data, call) = *self.latest.job.get();
                call(data, &mut items);
            }
            // What nobody claims, nobody ends.
            assert!(part.claim(of).is_none(), "items of the engine were left");
            part.tell();
        }
        part.ended = true;
    }

    fn is_done(&self, ticket: Ticket) -> bool {
        let done = |thread: &CachePadded<Thread>| Ticket::unpack(thread.done.load(Acquire));
        let done = self.threads.iter().map(|t| done(t).of(ticket.job));
        done.sum::<usize>() == ticket.items
    }
}

/// A job that was published. Dropping it waits until all its items are done, a panic of the caller's included.
pub(super) struct Open<'a> {
    slot: &'a JobSlot,
    ticket: Ticket,
}

impl Open<'_> {
    /// The caller's part in it.
    pub(super) fn work(&self) {
        self.slot.work(self.ticket, 0);
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        let mut spins = 0;
        while !self.slot.is_done(self.ticket) {
            spins += 1;
            // A worker that lost its core must get it back from somewhere.
            if spins % 1024 == 0 {
                std::thread::yield_now();
            }
            std::hint::spin_loop();
        }
    }
}

/// What a thread claimed of a job.
struct Part<'a> {
    slot: &'a JobSlot,
    ticket: Ticket,
    me: usize,
    items: usize,
    ended: bool,
}

impl Part<'_> {
    fn claim(&mut self, of: usize) -> Option<usize> {
        let item = self.slot.claim(self.ticket, of)?;
        self.items += 1;
        Some(item)
    }

    /// Tells the caller that it is done.
    fn tell(&self) {
        let done = Ticket {
            items: self.items,
            ..self.ticket
        };
        let thread = &self.slot.threads[self.me];
        thread.done.store(done.pack(), Release);
    }
}

impl Drop for Part<'_> {
    /// A panic in an item ends the job. Those that weren't claimed count as done, too.
    fn drop(&mut self) {
        if !self.ended {
            self.slot.failed.store(true, SeqCst);
            for of in 0..self.slot.threads.len() {
                while self.claim(of).is_some() {}
            }
            self.tell();
        }
    }
}
