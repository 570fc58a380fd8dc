/*!
Writes to the terminal on a thread of its own: a line that stands still holds up nothing but the next
frame. Keys are still folded in, edits are still kept, and the loop can end.
*/

use super::pace::Pace;
use crate::tui::message::Msg;
use std::fs::File;
use std::io::{self, Write as _};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The thread, and how far it is.
#[derive(Debug)]
pub struct Writer {
    queue: Sender<Vec<u8>>,
    waiting: Arc<AtomicUsize>,
    pace: Arc<Mutex<Pace>>,
    start: Instant,
}

impl Writer {
    /// Starts it; it tells when it has written.
    ///
    /// # Errors
    /// No thread is to be had.
    pub fn start(mut out: File, pace: Pace, tell: Sender<Msg>) -> io::Result<Writer> {
        let (queue, pieces) = channel::<Vec<u8>>();
        let waiting = Arc::new(AtomicUsize::new(0));
        let pace = Arc::new(Mutex::new(pace));
        let start = Instant::now();
        let (left, shared) = (waiting.clone(), pace.clone());
        std::thread::Builder::new()
            .name("output".into())
            .spawn(move || {
                for bytes in pieces {
                    let from = start.elapsed();
                    let written = out.write_all(&bytes);
                    let mut pace = shared.lock().unwrap_or_else(PoisonError::into_inner);
                    pace.wrote(bytes.len(), from, start.elapsed());
                    drop(pace);
                    left.fetch_sub(1, Ordering::Release);
                    // When the loop is over, what is still to be said is how the terminal is left.
                    let _ = tell.send(Msg::Written(written));
                }
            })?;
        Ok(Writer {
            queue,
            waiting,
            pace,
            start,
        })
    }

    /// Hands bytes over, behind all others.
    pub fn write(&self, bytes: Vec<u8>) {
        self.waiting.fetch_add(1, Ordering::AcqRel);
        // Its thread ends only with the process.
        let _ = self.queue.send(bytes);
    }

    /// When a frame may be handed over; `None` while the one before is being written.
    pub fn free(&self) -> Option<Instant> {
        if self.waiting.load(Ordering::Acquire) > 0 {
            return None;
        }
        let pace = self.pace.lock().unwrap_or_else(PoisonError::into_inner);
        Some(self.start + pace.free())
    }

    /// Waits until all is written, but not forever.
    pub fn drain(&self, at_most: Duration) {
        let began = Instant::now();
        while self.waiting.load(Ordering::Acquire) > 0 && began.elapsed() < at_most {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}
