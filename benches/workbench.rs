//! The workbench in a terminal of its own. From the start of the program to its first frame on the demo:
//! the goal is 150 ms. And a key held down over a table of 10,000 samples × 7 exits: each key is a replay
//! of the whole table, and the last one's number must be there when the key is let go.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a failure should stop it

use edgelesspart::predict::{Column, ConfidenceTable};
use edgelesspart::session::Session;
use edgelesspart::session::tables::PackedTable;
use nix::pty::{OpenptyResult, Winsize, openpty};
use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

const STARTS: usize = 20;
/// What a frame begins and ends with.
const BEGIN: &[u8] = b"\x1b[?2026h";
const END: &[u8] = b"\x1b[?2026l";
const SAMPLES: usize = 10_000;
const EXITS: usize = 7;
/// How often a keyboard repeats a key, fast ones a little oftener.
const REPEAT: Duration = Duration::from_millis(30);
const KEYS: usize = 60;

fn main() {
    // Two starts: before the demo's network is read, and with its numbers on screen.
    let mut first: Vec<Duration> = (0..STARTS).map(|_| start(b"EdgeLessPart")).collect();
    let mut whole: Vec<Duration> = (0..STARTS).map(|_| start(b"calib. 1000")).collect();
    for (what, times) in [
        ("first frame", &mut first),
        ("with its numbers", &mut whole),
    ] {
        times.sort();
        let [middle, last] = [times[STARTS / 2], times[STARTS - 1]];
        println!("{what}: median {middle:.1?}, slowest {last:.1?}");
    }
    held_down();
}

/// The workbench, and what it says.
struct Bench {
    child: Child,
    keys: File,
    output: Receiver<Vec<u8>>,
    began: Instant,
}

impl Bench {
    fn open(folder: &Path, args: &[&str]) -> Bench {
        let size = Winsize {
            ws_row: 40,
            ws_col: 120,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let OpenptyResult { master, slave } = openpty(&size, None).unwrap();
        let stdio = || Stdio::from(slave.try_clone().unwrap());
        let began = Instant::now();
        let child = Command::new(env!("CARGO_BIN_EXE_edgelesspart"))
            .args(args)
            .current_dir(folder)
            .env("HOME", folder)
            .env("TERM", "xterm-256color")
            .stdin(stdio())
            .stdout(stdio())
            .stderr(stdio())
            .spawn()
            .unwrap();
        let keys = File::from(master);
        let mut reader = keys.try_clone().unwrap();
        let (tell, output) = channel();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(n @ 1..) = reader.read(&mut bytes) {
                if tell.send(bytes[..n].to_vec()).is_err() {
                    return;
                }
            }
        });
        Bench {
            child,
            keys,
            output,
            began,
        }
    }

    /// Reads until a text has come, in a whole frame; gives what was read.
    fn wait_for(&self, text: &[u8]) -> Vec<u8> {
        let mut seen: Vec<u8> = Vec::new();
        let has = |seen: &[u8], what: &[u8]| seen.windows(what.len()).any(|w| w == what);
        while !(has(&seen, text) && has(&seen, END)) {
            seen.extend(self.output.recv_timeout(Duration::from_secs(60)).unwrap());
        }
        seen
    }

    /// Left as a user does, so that no agent stays behind.
    fn quit(mut self, keys: &[u8]) {
        self.keys.write_all(keys).unwrap();
        std::thread::spawn(move || while self.output.recv().is_ok() {});
        self.child.wait().unwrap();
    }
}

/// Time until a frame with a text is there.
fn start(text: &[u8]) -> Duration {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::open(folder.path(), &[]);
    bench.wait_for(text);
    let took = bench.began.elapsed();
    bench.quit(b"q");
    took
}

/// The demo's session with a calibration table of so many samples and exits.
fn large(folder: &Path) {
    let demo = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/sessions/demo.ron"));
    let mut session = Session::read(demo)
        .unwrap()
        .resolved(demo.parent().unwrap());
    let results = session.results.as_mut().unwrap();
    let small = results.calibration.as_ref().unwrap().unpack().unwrap();
    let times = SAMPLES / small.labels.len();
    let mut large = ConfidenceTable::new(small.set, small.labels.repeat(times));
    let last = small.columns.len() - 1;
    let spare = last.saturating_sub(EXITS);
    for column in &small.columns[spare..] {
        large
            .push(Column {
                prediction: column.prediction.repeat(times),
                max_probability: column.max_probability.repeat(times),
                entropy: column.entropy.repeat(times),
                margin: column.margin.repeat(times),
                ..column.clone()
            })
            .unwrap();
    }
    assert_eq!(
        (large.labels.len(), large.columns.len()),
        (SAMPLES, EXITS + 1)
    );
    results.calibration = Some(PackedTable::pack(&large).unwrap());
    session.save(&folder.join("large.ron")).unwrap();
}

fn held_down() {
    let folder = tempfile::tempdir().unwrap();
    large(folder.path());
    let mut bench = Bench::open(folder.path(), &["tui", "large.ron"]);
    bench.wait_for(b"predicted");
    bench.keys.write_all(b"5").unwrap();
    // The curves are there, and nothing else is to come.
    while bench.output.recv_timeout(Duration::from_secs(2)).is_ok() {}
    for _ in 0..KEYS {
        bench.keys.write_all(b"h").unwrap();
        std::thread::sleep(REPEAT);
    }
    let let_go = Instant::now();
    // All that came meanwhile, and what comes after; curves are drawn anew only when nothing moves.
    let mut seen = Vec::new();
    let mut last = let_go;
    while let Ok(bytes) = bench.output.recv_timeout(Duration::from_millis(500)) {
        seen.extend(bytes);
        last = last.max(Instant::now());
    }
    let frames = seen.windows(BEGIN.len()).filter(|w| *w == BEGIN).count();
    println!(
        "{KEYS} keys in {:.1?} over {SAMPLES} samples × {EXITS} exits: {frames} frames of {} bytes in the \
         mean, the last {:.0?} after the key was let go",
        REPEAT * KEYS as u32,
        seen.len() / frames.max(1),
        last - let_go,
    );
    bench.quit(b"qy");
}
