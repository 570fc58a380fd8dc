//! From the start of the program to its first frame, on the demo and in a terminal of its own. The goal is
//! 150 ms.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a failure should stop it

use nix::pty::{OpenptyResult, Winsize, openpty};
use std::fs::File;
use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const STARTS: usize = 20;
/// What a frame ends with.
const FRAME: &[u8] = b"\x1b[?2026l";

fn main() {
    // Two starts: before the demo's network is read, and with its numbers on screen.
    let mut first: Vec<Duration> = (0..STARTS).map(|_| start(b"EdgeLessPart")).collect();
    let mut whole: Vec<Duration> = (0..STARTS).map(|_| start(b"predicted")).collect();
    for (what, times) in [
        ("first frame", &mut first),
        ("with its numbers", &mut whole),
    ] {
        times.sort();
        let [middle, last] = [times[STARTS / 2], times[STARTS - 1]];
        println!("{what}: median {middle:.1?}, slowest {last:.1?}");
    }
}

/// Time until a frame with a text is there.
fn start(text: &[u8]) -> Duration {
    let folder = tempfile::tempdir().unwrap();
    let size = Winsize {
        ws_row: 40,
        ws_col: 120,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    let OpenptyResult { master, slave } = openpty(&size, None).unwrap();
    let stdio = || Stdio::from(slave.try_clone().unwrap());
    let began = Instant::now();
    let mut child = Command::new(env!("CARGO_BIN_EXE_edgelesspart"))
        .current_dir(folder.path())
        .env("HOME", folder.path())
        .env("TERM", "xterm-256color")
        .stdin(stdio())
        .stdout(stdio())
        .stderr(stdio())
        .spawn()
        .unwrap();
    let mut master = File::from(master);
    let mut seen: Vec<u8> = Vec::new();
    let mut bytes = [0; 4096];
    let has = |seen: &[u8], what: &[u8]| seen.windows(what.len()).any(|w| w == what);
    while !(has(&seen, text) && has(&seen, FRAME)) {
        let n = master.read(&mut bytes).unwrap();
        seen.extend(&bytes[..n]);
    }
    let took = began.elapsed();
    // Left as a user does, so that no agent stays behind.
    master.write_all(b"q").unwrap();
    std::thread::spawn(move || while master.read(&mut bytes).is_ok_and(|n| n > 0) {});
    child.wait().unwrap();
    took
}
