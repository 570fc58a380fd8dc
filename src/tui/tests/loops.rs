//! The loop: how many frames, and when none.

use super::driver::Bench;
use crate::event::{Event, Vitals};
use crate::plan::Tier;
use crate::protocol::message::Progress;
use crate::tui::app::{self, Display};
use crate::tui::effects::Runner;
use crate::tui::message::Msg;
use crate::tui::ports::{Job, JobControl, JobError, JobRunner};
use crate::tui::work::Results;
use crossterm::event::{KeyCode, KeyEvent};
use ratatui::buffer::Buffer;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

/// Counts what is shown.
pub struct Counter {
    pub frames: usize,
    pub last: String,
    /// How often it was taken again.
    resumed: usize,
    /// Frames that are taken until the line stands still.
    room: usize,
}

impl Counter {
    pub fn new() -> Counter {
        Counter {
            frames: 0,
            last: String::new(),
            resumed: 0,
            room: usize::MAX,
        }
    }
}

impl Display for Counter {
    fn size(&self) -> (u16, u16) {
        (120, 40)
    }

    fn free(&self) -> Option<Instant> {
        (self.frames < self.room).then(Instant::now)
    }

    fn show(&mut self, next: Buffer) {
        self.frames += 1;
        self.last = app::text(&next);
    }

    fn send(&mut self, _: &[u8]) {}

    fn mouse(&mut self, _: bool) {}

    fn suspend(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn resume(&mut self) -> io::Result<()> {
        self.resumed += 1;
        Ok(())
    }
}

pub struct Idle;

impl JobRunner for Idle {
    fn run(
        &self,
        _: &Job,
        _: &mut dyn FnMut(u64, Event),
        _: &JobControl,
    ) -> Result<Results, JobError> {
        Err(JobError::None)
    }
}

/// Runs the loop while something else sends; gives the display and the time it took.
fn while_sent(
    bench: &mut Bench,
    room: usize,
    send: impl FnOnce(&Sender<Msg>) + Send,
) -> (Counter, Duration) {
    let (tell, messages) = channel();
    // A hang-up keeps the edits: here, and not where the tests are run.
    let folder = tempfile::tempdir().unwrap();
    bench.state.document.journal = folder.path().join("demo.autosave");
    let mut runner = Runner::new(tell.clone(), Arc::new(Idle)).unwrap();
    let mut display = Counter {
        room,
        ..Counter::new()
    };
    let start = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            send(&tell);
            tell.send(Msg::HangUp).unwrap();
        });
        app::run(
            &mut bench.state,
            &mut display,
            &messages,
            &mut runner,
            Vec::new(),
        )
        .unwrap();
    });
    (display, start.elapsed())
}

fn right() -> Msg {
    Msg::Key(KeyEvent::from(KeyCode::Right))
}

/// So many frames at most, one in each stretch of time, the first, and the last that was due.
fn most(took: Duration, ms: u64) -> usize {
    took.as_millis() as usize / ms as usize + 2
}

#[test]
fn keys_have_at_most_twenty_frames_a_second() {
    let mut bench = Bench::new(120, 40);
    bench.state.document.session.policy.threshold = 0.0;
    let (display, took) = while_sent(&mut bench, usize::MAX, |tell| {
        for _ in 0..90 {
            tell.send(right()).unwrap();
            std::thread::sleep(Duration::from_millis(5));
        }
    });
    assert!((bench.state.threshold() - 0.9).abs() < 1e-9);
    assert!(display.frames > 2);
    assert!(
        display.frames <= most(took, 50),
        "{} in {took:?}",
        display.frames
    );
}

#[test]
fn progress_has_at_most_five_frames_a_second() {
    let mut bench = Bench::new(120, 40);
    bench.press("r");
    let id = bench.jobs[0].0;
    let (display, took) = while_sent(&mut bench, usize::MAX, |tell| {
        for done in 1..=100u64 {
            let progress = Progress {
                done,
                total: 100,
                ..Progress::default()
            };
            let event = match done % 2 {
                0 => Event::Evaluating { index: 0, progress },
                _ => Event::Vitals {
                    part: Tier::First,
                    index: 0,
                    vitals: Vitals {
                        celsius: Some(done as f64),
                        ..Vitals::default()
                    },
                },
            };
            tell.send(Msg::Run(id, done * 10, Box::new(event))).unwrap();
            std::thread::sleep(Duration::from_millis(10));
        }
    });
    assert!(display.frames > 2);
    assert!(
        display.frames <= most(took, 200),
        "{} in {took:?}",
        display.frames
    );
}

#[test]
fn nothing_is_drawn_while_nothing_happens() {
    let mut bench = Bench::new(120, 40);
    let (display, _) = while_sent(&mut bench, usize::MAX, |_| {
        std::thread::sleep(Duration::from_millis(600));
    });
    assert_eq!(display.frames, 1);
}

#[test]
fn on_a_line_that_stands_still_keys_count_and_the_next_frame_is_the_newest() {
    let mut bench = Bench::new(120, 40);
    bench.state.document.session.policy.threshold = 0.0;
    let (display, _) = while_sent(&mut bench, 1, |tell| {
        std::thread::sleep(Duration::from_millis(200));
        for _ in 0..30 {
            tell.send(right()).unwrap();
            std::thread::sleep(Duration::from_millis(5));
        }
    });
    assert_eq!(display.frames, 1);
    assert!((bench.state.threshold() - 0.3).abs() < 1e-9);
    // Written at last: one more, with all of them.
    bench.state.gone = false;
    let (display, _) = while_sent(&mut bench, usize::MAX, |tell| {
        tell.send(Msg::Written(Ok(()))).unwrap();
        std::thread::sleep(Duration::from_millis(200));
    });
    assert_eq!(display.frames, 1);
    assert!(
        display.last.contains("5 Threshold 0.30"),
        "{}",
        display.last
    );
}

#[test]
fn a_line_that_is_gone_ends_it() {
    let mut bench = Bench::new(120, 40);
    let (_, _) = while_sent(&mut bench, usize::MAX, |tell| {
        let broken = io::Error::from(io::ErrorKind::BrokenPipe);
        tell.send(Msg::Written(Err(broken))).unwrap();
    });
    assert!(bench.state.gone);
}

#[test]
fn a_terminal_is_taken_again_whatever_came_before_in_the_same_moment() {
    let mut bench = Bench::new(120, 40);
    let (display, _) = while_sent(&mut bench, usize::MAX, |tell| {
        for message in [Msg::Written(Ok(())), right(), Msg::Resume] {
            tell.send(message).unwrap();
        }
    });
    assert_eq!(display.resumed, 1);
}
