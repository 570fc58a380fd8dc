/*!
Stopping a run of ONNX Runtime: it looks at no flag of ours, so one thread of the process looks at the
tokens of all runs that go on, and terminates those whose token is raised. The thread sleeps while
nothing runs.
*/

use crate::engine::Cancel;
use ort::session::RunOptions;
use parking_lot::{Condvar, Mutex};
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// Time between two looks at the tokens.
const POLL_INTERVAL: Duration = Duration::from_millis(5);
/// Looks without a run after which the thread sleeps until there is one: between the runs of a part it
/// stays awake, for waking it would take the time of a small layer.
const PATIENCE: u32 = 200;

struct Watch {
    state: Mutex<State>,
    wake: Condvar,
}

struct State {
    runs: Vec<(u64, Cancel, Arc<RunOptions>)>,
    next: u64,
    thread: Thread,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Thread {
    None,
    Awake,
    Asleep,
}

static WATCH: Watch = Watch {
    state: Mutex::new(State {
        runs: Vec::new(),
        next: 0,
        thread: Thread::None,
    }),
    wake: Condvar::new(),
};

/// A run whose token is looked at, until this is dropped.
pub(super) struct Watched(u64);

/// Looks at `cancel` while the run with these options goes on.
///
/// # Errors
/// Where there is no thread to be had.
pub(super) fn watch(cancel: &Cancel, options: &Arc<RunOptions>) -> io::Result<Watched> {
    let mut state = WATCH.state.lock();
    match state.thread {
        Thread::None => {
            let name = "onnxruntime-watch".to_string();
            std::thread::Builder::new().name(name).spawn(look)?;
            state.thread = Thread::Awake;
        }
        Thread::Asleep => {
            WATCH.wake.notify_one();
        }
        Thread::Awake => {}
    }
    state.next += 1;
    let number = state.next;
    state.runs.push((number, cancel.clone(), options.clone()));
    Ok(Watched(number))
}

impl Drop for Watched {
    fn drop(&mut self) {
        let mut state = WATCH.state.lock();
        state.runs.retain(|(number, ..)| *number != self.0);
    }
}

fn look() {
    let mut state = WATCH.state.lock();
    let (mut idle, mut seen) = (0, 0);
    loop {
        for (_, cancel, options) in &state.runs {
            if cancel.is_cancelled() {
                // What it says is of no use here: a run that isn't terminated ends by itself.
                let _ = options.terminate();
            }
        }
        idle = if state.runs.is_empty() && state.next == seen {
            idle + 1
        } else {
            0
        };
        seen = state.next;
        if idle < PATIENCE {
            WATCH.wake.wait_for(&mut state, POLL_INTERVAL);
            continue;
        }
        state.thread = Thread::Asleep;
        while state.next == seen {
            WATCH.wake.wait(&mut state);
        }
        state.thread = Thread::Awake;
        idle = 0;
    }
}
