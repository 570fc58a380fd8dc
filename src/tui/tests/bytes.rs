//! What goes over the line: nothing while nothing changes, one synchronized update a frame, and little
//! of it.

use super::driver::Bench;
use crate::event::{Connection, Event, Stage, Vitals};
use crate::plan::Tier;
use crate::protocol::message::{CloudShare, Progress};
use crate::tui::term::color::Depth;
use crate::tui::term::encode::Screen;

/// Shows a bench through the encoder to another terminal, which must see the same.
struct Line {
    screen: Screen,
    parser: vt100::Parser,
}

impl Line {
    fn new(columns: u16, rows: u16) -> Line {
        Line {
            screen: Screen::new(Depth::Sixteen),
            parser: vt100::Parser::new(rows, columns, 0),
        }
    }

    fn show(&mut self, bench: &Bench) -> Vec<u8> {
        let bytes = self.screen.frame(bench.buffer());
        self.parser.process(&bytes);
        let (_, columns) = self.parser.screen().size();
        let seen: Vec<String> = self.parser.screen().rows(0, columns).collect();
        let seen: Vec<&str> = seen.iter().map(|l| l.trim_end()).collect();
        let screen = bench.screen();
        let drawn: Vec<&str> = screen.lines().collect();
        pretty_assertions::assert_eq!(seen, drawn);
        bytes
    }
}

fn whole_update(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    text.starts_with("\x1b[?2026h")
        && text.ends_with("\x1b[?2026l")
        && text.matches("\x1b[?2026h").count() == 1
}

#[test]
fn a_still_screen_sends_nothing() {
    let bench = Bench::new(120, 40);
    let mut line = Line::new(120, 40);
    assert!(whole_update(&line.show(&bench)));
    assert_eq!(line.show(&bench), b"");
}

#[test]
fn every_frame_is_one_update_and_the_terminal_sees_what_was_drawn() {
    let mut bench = Bench::new(80, 24);
    let mut line = Line::new(80, 24);
    line.show(&bench);
    for keys in [
        "j", "s", "]", "2", "P", "3", "<ret>", "x", "<esc>", "5", "<right>", "?", "<esc>", ":",
        "<esc>",
    ] {
        bench.press(keys);
        let bytes = line.show(&bench);
        assert!(bytes.is_empty() || whole_update(&bytes), "{keys}");
    }
}

#[test]
fn a_progress_frame_is_small() {
    for (columns, rows) in [(80, 24), (120, 40), (200, 60)] {
        let mut bench = Bench::new(columns, rows);
        bench.press("4r");
        let id = bench.jobs[0].0;
        let mut line = Line::new(columns, rows);
        for part in [Tier::First, Tier::Second] {
            bench.run_event(
                id,
                0,
                Event::Target {
                    part,
                    index: 0,
                    connection: Connection::Reconnected,
                },
            );
        }
        bench.run_event(id, 0, Event::Started(Stage::Run));
        line.show(&bench);
        for step in 1..60u64 {
            let done = step * 40;
            let progress = Progress {
                done,
                total: 10_000,
                exits: vec![done / 2, done / 5, done / 7, 1, done / 9],
                offloaded: done / 9,
                mean_latency_ms: Some(4.0 + (step % 7) as f64),
                bytes_sent: done * 700,
                mean_cloud_ms: Some(0.4 + (step % 5) as f64 / 10.0),
                clouds: vec![CloudShare {
                    answered: done / 9,
                    ..CloudShare::default()
                }],
                ..Progress::default()
            };
            let vitals = Vitals {
                celsius: Some(40.0 + step as f64),
                watts: Some(5.0 + step as f64 / 10.0),
                cpu: Some(step as f64 / 100.0),
                ..Vitals::default()
            };
            for part in [Tier::First, Tier::Second] {
                let index = 0;
                bench.run_event(
                    id,
                    step * 200,
                    Event::Vitals {
                        part,
                        index,
                        vitals,
                    },
                );
            }
            bench.run_event(id, step * 200, Event::Evaluating { index: 0, progress });
            let bytes = line.show(&bench);
            assert!(whole_update(&bytes));
            assert!(
                bytes.len() < 2000,
                "{} bytes at {columns}×{rows}",
                bytes.len()
            );
        }
    }
}

#[test]
fn moving_the_threshold_is_cheap_too() {
    let mut bench = Bench::new(120, 40);
    let mut line = Line::new(120, 40);
    line.show(&bench);
    for _ in 0..20 {
        bench.press("<right>");
        let bytes = line.show(&bench);
        assert!(bytes.len() < 2000, "{} bytes", bytes.len());
    }
}
