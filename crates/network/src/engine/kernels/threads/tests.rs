use super::*;
use std::sync::atomic::AtomicUsize;

#[test]
fn every_item_is_done_once_job_after_job() {
    let pool = Pool::new(3);
    for round in 0..2000 {
        let count = round % 17;
        let done: Vec<AtomicUsize> = (0..count).map(|_| AtomicUsize::new(0)).collect();
        pool.share(count, |items| {
            for i in items {
                done[i].fetch_add(1, Relaxed);
            }
        });
        assert!(done.iter().all(|d| d.load(Relaxed) == 1), "round {round}");
    }
}

#[test]
fn a_thread_that_is_held_up_keeps_one_item_and_no_more() {
    let pool = Pool::new(2);
    let by: Vec<AtomicUsize> = (0..100).map(|_| AtomicUsize::new(0)).collect();
    let (held, left) = (AtomicUsize::new(0), AtomicUsize::new(99));
    pool.share(100, |items| {
        for item in items {
            by[item].fetch_add(1, Relaxed);
            // Whoever comes first waits until the other has done all the rest.
            if held.fetch_add(1, Relaxed) == 0 {
                while left.load(Relaxed) > 0 {
                    std::thread::yield_now();
                }
            } else {
                left.fetch_sub(1, Relaxed);
            }
        }
    });
    assert!(by.iter().all(|b| b.load(Relaxed) == 1));
}

#[test]
fn workers_that_fell_asleep_are_woken() {
    let pool = Pool::new(2);
    for _ in 0..3 {
        while !pool.shared.asleep[0].load(SeqCst) {
            std::thread::yield_now();
        }
        // Two items that wait for each other need two threads.
        let here = AtomicUsize::new(0);
        pool.share(2, |items| {
            for _ in items {
                here.fetch_add(1, SeqCst);
                while here.load(SeqCst) < 2 {
                    std::thread::yield_now();
                }
            }
        });
    }
}

#[test]
fn a_panic_in_an_item_reaches_the_caller_and_holds_up_nobody() {
    for bad in [0, 7, 15] {
        let pool = Pool::new(2);
        let done = AtomicUsize::new(0);
        let run = std::panic::AssertUnwindSafe(|| {
            pool.share(16, |items| {
                for item in items {
                    assert_ne!(item, bad, "as it should");
                    done.fetch_add(1, Relaxed);
                }
            });
        });
        assert!(std::panic::catch_unwind(run).is_err());
        assert!(done.load(Relaxed) < 16);
    }
}

#[test]
fn more_items_than_a_job_may_have_are_several_jobs() {
    let pool = Pool::new(2);
    let count = 2 * Ticket::MOST + 3;
    let done: Vec<AtomicUsize> = (0..count).map(|_| AtomicUsize::new(0)).collect();
    pool.share(count, |items| {
        for i in items {
            done[i].fetch_add(1, Relaxed);
        }
    });
    assert!(done.iter().all(|d| d.load(Relaxed) == 1));
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

#[test]
fn nobody_gets_a_pool_that_saw_a_panic() {
    let pool = Pool::shared(7);
    assert!(Arc::ptr_eq(&pool, &Pool::shared(7)));
    let run = std::panic::AssertUnwindSafe(|| pool.share(2, |_| panic!("as it should")));
    assert!(std::panic::catch_unwind(run).is_err());
    assert!(!Arc::ptr_eq(&pool, &Pool::shared(7)));
}

#[test]
#[should_panic(expected = "of the engine")]
fn items_that_a_closure_leaves_are_a_panic_and_no_wait() {
    let pool = Pool::new(2);
    pool.share(9, |items| {
        items.next();
    });
}
