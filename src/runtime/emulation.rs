/*!
Waiting to the hundredth of a millisecond: asleep for most of it, so that the core is free for others,
awake for the rest. Emulated devices and emulated links both come here.
*/

use crate::engine::Cancel;
use std::time::{Duration, Instant};

/// What a sleep may be late by, once [`precise`] was called.
const MARGIN: Duration = Duration::from_micros(120);
/// Longest sleep between two looks at the cancel token.
const CANCEL_POLL: Duration = Duration::from_millis(50);

/// Asks the kernel to wake this thread on time; 50 µs late is its habit.
pub fn precise() {
    #[cfg(target_os = "linux")]
    {
        // Where it refuses, waits end a little later than they could.
        let _ = nix::sys::prctl::set_timerslack(1);
    }
}

/// Waits until `due`, or until somebody raises `cancel`.
pub fn until(due: Instant, cancel: &Cancel) {
    loop {
        let now = Instant::now();
        let Some(left) = due.checked_duration_since(now).filter(|d| !d.is_zero()) else {
            return;
        };
        if left > MARGIN {
            if cancel.is_cancelled() {
                return;
            }
            std::thread::sleep((left - MARGIN).min(CANCEL_POLL));
        } else {
            std::hint::spin_loop();
        }
    }
}

/// Lets work that began at `start` take `factor` times as long as it did; returns how long it took.
pub fn stretch(start: Instant, factor: f64, cancel: &Cancel) -> Duration {
    if factor > 1.0 {
        until(start + start.elapsed().mul_f64(factor), cancel);
    }
    start.elapsed()
}

/// Gives a duration in milliseconds.
pub fn ms(duration: Duration) -> f32 {
    duration.as_secs_f64() as f32 * 1e3
}
