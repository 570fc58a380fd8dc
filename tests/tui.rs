//! The workbench in a real terminal: start, resize, suspend and resume, quit, hang-up.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a failure should stop a test

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::pty::{OpenptyResult, Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, ttyname};
use std::fs::File;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// Long enough for a machine that builds something else meanwhile; nothing waits for it to pass.
const PATIENCE: Duration = Duration::from_secs(180);

struct Terminal {
    child: Child,
    keys: Option<File>,
    output: Receiver<Vec<u8>>,
    parser: vt100::Parser,
    raw: Vec<u8>,
    tty: PathBuf,
    folder: tempfile::TempDir,
}

impl Terminal {
    /// The demo at 80×24, in a session and on a terminal of its own; `None` where no `setsid` is.
    fn open() -> Option<Terminal> {
        Terminal::start(tempfile::tempdir().unwrap(), &[])
    }

    /// The program with arguments in a folder.
    fn start(folder: tempfile::TempDir, args: &[&str]) -> Option<Terminal> {
        // A terminal's own end must not be open in any child, or it never hangs up.
        static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
        let _guard = ONE_AT_A_TIME.lock().unwrap();
        let size = Winsize {
            ws_row: 24,
            ws_col: 80,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let OpenptyResult { master, slave } = openpty(&size, None).unwrap();
        fcntl(&master, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).unwrap();
        let slave = File::from(slave);
        let tty = ttyname(&slave).unwrap();
        let stdio = || Stdio::from(slave.try_clone().unwrap());
        let spawned = Command::new("setsid")
            .args(["--ctty", env!("CARGO_BIN_EXE_edgelesspart")])
            .args(args)
            .current_dir(folder.path())
            .env("HOME", folder.path())
            .env_remove("XDG_STATE_HOME")
            .env_remove("XDG_CONFIG_HOME")
            .env("TERM", "xterm-256color")
            .stdin(stdio())
            .stdout(stdio())
            .stderr(stdio())
            .spawn();
        let Ok(child) = spawned else {
            println!("skipped: no setsid");
            return None;
        };
        let master = File::from(master);
        let mut reader = master.try_clone().unwrap();
        let (tell, output) = channel();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(n @ 1..) = reader.read(&mut bytes) {
                if tell.send(bytes[..n].to_vec()).is_err() {
                    return;
                }
            }
        });
        Some(Terminal {
            child,
            keys: Some(master),
            output,
            parser: vt100::Parser::new(24, 80, 0),
            raw: Vec::new(),
            tty,
            folder,
        })
    }

    fn press(&mut self, keys: &str) {
        self.keys
            .as_mut()
            .unwrap()
            .write_all(keys.as_bytes())
            .unwrap();
    }

    /// Reads until the screen has a text.
    fn wait_for(&mut self, text: &str) {
        while !self.parser.screen().contents().contains(text) {
            let Ok(bytes) = self.output.recv_timeout(PATIENCE) else {
                panic!("no `{text}` in\n{}", self.parser.screen().contents());
            };
            self.parser.process(&bytes);
            self.raw.extend(bytes);
        }
    }

    /// Types, and reads until the screen has a text.
    fn say(&mut self, keys: &str, text: &str) {
        self.press(keys);
        self.wait_for(text);
    }

    fn contents(&self) -> String {
        self.parser.screen().contents()
    }

    /// The first number after a label in its line, and the second.
    fn numbers(&self, label: &str) -> Vec<f64> {
        let screen = self.contents();
        let line = screen
            .lines()
            .find_map(|l| l.split_once(label).map(|(_, rest)| rest));
        let line = line.unwrap_or_else(|| panic!("no `{label}` in\n{screen}"));
        let words = line.split_whitespace();
        words.filter_map(|w| w.parse().ok()).collect()
    }

    /// Reads until the program has ended; gives its folder.
    fn end(mut self) -> tempfile::TempDir {
        assert!(self.child.wait().unwrap().success());
        std::mem::replace(&mut self.folder, tempfile::tempdir().unwrap())
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id() as i32)
    }

    /// `R`, `S`, `T`, … as the system has it.
    fn state(&self) -> char {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        stat.rsplit(") ").next().unwrap().chars().next().unwrap()
    }

    fn wait_for_state(&self, wanted: char) {
        for _ in 0..600 {
            if self.state() == wanted {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("the process is in state {}, not {wanted}", self.state());
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        end_runs(self.folder.path());
    }
}

/// Kills what runs in the out folders below a folder, which outlives a workbench on purpose: a run that
/// it left behind, and the targets of one that was killed.
fn end_runs(folder: &std::path::Path) {
    let end = |pid: &serde_json::Value| {
        if let Some(pid) = pid.as_i64() {
            let _ = kill(Pid::from_raw(pid as i32), Signal::SIGKILL);
        }
    };
    let read = |file: PathBuf| -> Option<serde_json::Value> {
        serde_json::from_str(&std::fs::read_to_string(file).ok()?).ok()
    };
    for out in std::fs::read_dir(folder.join("runs")).into_iter().flatten() {
        let out = out.unwrap().path();
        if let Some(lock) = read(out.join("run.lock")) {
            end(&lock[0]);
        }
        if let Some(left) = read(out.join("targets.json")) {
            let targets = left["targets"].as_array();
            targets
                .into_iter()
                .flatten()
                .for_each(|t| end(&t["ready"]["pid"]));
        }
    }
}

#[test]
fn opens_follows_the_size_and_gives_the_terminal_back() {
    let Some(mut terminal) = Terminal::open() else {
        return;
    };
    terminal.wait_for("EdgeLessPart  demo");
    // It ships with numbers, and they say where they are from.
    terminal.wait_for("predicted, calibration");
    assert!(terminal.parser.screen().alternate_screen());
    let stty = Command::new("stty")
        .args(["rows", "40", "cols", "120", "-F"])
        .arg(&terminal.tty)
        .status();
    if stty.is_ok_and(|s| s.success()) {
        terminal.parser.screen_mut().set_size(40, 120);
        terminal.wait_for("5 Threshold 0.80 of all exits");
        terminal.wait_for("3 Exits ");
    }
    terminal.press("q");
    assert!(terminal.child.wait().unwrap().success());
    while let Ok(bytes) = terminal.output.recv_timeout(Duration::from_millis(500)) {
        terminal.parser.process(&bytes);
    }
    assert!(!terminal.parser.screen().alternate_screen());
    assert!(!terminal.parser.screen().hide_cursor());
    assert!(!terminal.parser.screen().bracketed_paste());
}

#[test]
fn stops_for_the_shell_and_comes_back() {
    let Some(mut terminal) = Terminal::open() else {
        return;
    };
    terminal.wait_for("predicted, calibration");
    terminal.press("\x1a");
    terminal.wait_for_state('T');
    terminal.parser = vt100::Parser::new(24, 80, 0);
    while terminal.output.try_recv().is_ok() {}
    kill(terminal.pid(), Signal::SIGCONT).unwrap();
    terminal.wait_for("EdgeLessPart  demo");
    terminal.press("q");
    assert!(terminal.child.wait().unwrap().success());
}

#[test]
fn a_hang_up_keeps_unsaved_edits_and_ends() {
    let Some(mut terminal) = Terminal::open() else {
        return;
    };
    terminal.wait_for("predicted, calibration");
    terminal.press("[");
    terminal.wait_for("[unsaved]");
    kill(terminal.pid(), Signal::SIGHUP).unwrap();
    terminal.child.wait().unwrap();
    let kept = terminal
        .folder
        .path()
        .join(".local/state/edgelesspart/demo.autosave");
    let text = std::fs::read_to_string(kept).unwrap();
    assert!(text.contains("After("), "{text}");
}

#[test]
fn a_terminal_that_is_gone_ends_it() {
    let Some(mut terminal) = Terminal::open() else {
        return;
    };
    terminal.wait_for("predicted, calibration");
    // The reader's copy of the master goes with its thread, at the next byte that it can't pass on.
    let (_, nobody) = channel();
    terminal.output = nobody;
    terminal.press("j");
    terminal.keys = None;
    terminal.child.wait().unwrap();
}

#[test]
fn without_a_terminal_it_says_so() {
    let output = Command::new(env!("CARGO_BIN_EXE_edgelesspart"))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("needs a terminal"));
}

/// A network of eight layers with drawn weights, a few images, both sides on this machine.
fn small() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let exported = Command::new(env!("CARGO_BIN_EXE_edgelesspart"))
        .current_dir(folder.path())
        .args(["export", "resnet8", "net.onnx", "--width", "0.5"])
        .output();
    assert!(exported.unwrap().status.success());
    let session = "Session(
        version: 1,
        model: Onnx(\"net.onnx\"),
        data: Synthetic(seed: 3),
        calibration: FromTrain(60),
        train_samples: 200,
        test_samples: 90,
        exits: (per_part: 2, placement: Linear, training: Frozen(epochs: 2)),
        edge: [Local(cores: [0])],
        cloud: [Local(cores: [0])],
    )";
    std::fs::write(folder.path().join("story.ron"), session).unwrap();
    folder
}

fn percent(share: &serde_json::Value) -> f64 {
    (share.as_f64().unwrap() * 1000.0).round() / 10.0
}

#[test]
fn the_whole_story() {
    let Some(mut terminal) = Terminal::start(small(), &["tui", "story.ron"]) else {
        return;
    };
    terminal.wait_for("EdgeLessPart  story");
    terminal.wait_for("no profile:");
    // Another split, another exit classifier.
    terminal.say("[", "[unsaved]");
    terminal.say("3", "✓ ");
    terminal.say("T\r", "Linear probe");
    terminal.say("7", "2 back, 0 forth");
    terminal.say("2", "by hand");
    terminal.say("4t", "train 1 is done");
    terminal.say("r", "run 2 is done");
    // What it gave stands in the plan as the report has it.
    terminal.say("2", "measured");
    terminal.wait_for("accuracy");
    let report = terminal.folder.path().join("runs/story/report.json");
    let report: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(report).unwrap()).unwrap();
    let shown = terminal.numbers("accuracy ");
    assert_eq!(
        shown[0],
        percent(&report["predicted_on_calibration"]["accuracy"])
    );
    assert_eq!(shown[1], percent(&report["measured"]["accuracy"]));
    let shown = terminal.numbers("offloaded ");
    assert_eq!(
        shown[0],
        percent(&report["predicted_on_calibration"]["offloaded"])
    );
    assert_eq!(shown[1], percent(&report["measured"]["offloaded"]));

    // Another threshold, saved.
    terminal.say("5\x1b[D\x1b[D\x1b[D", "5 Threshold 0.67");
    terminal.say("2", "≠ measured");
    let tuned = [
        terminal.numbers("accuracy ")[0],
        terminal.numbers("offloaded ")[0],
    ];
    terminal.say("w", "saved to story.ron");
    terminal.press("q");
    let folder = terminal.end();
    let run = Command::new(env!("CARGO_BIN_EXE_edgelesspart"))
        .current_dir(folder.path())
        .args(["run", "story.ron", "--json"])
        .output()
        .unwrap();
    assert!(
        run.status.success(),
        "{}",
        String::from_utf8_lossy(&run.stderr)
    );
    let report: serde_json::Value = serde_json::from_slice(&run.stdout).unwrap();
    let figures = &report["predicted_on_calibration"];
    assert_eq!(
        tuned,
        [
            percent(&figures["accuracy"]),
            percent(&figures["offloaded"])
        ]
    );
    assert_eq!(report["plan"]["exits"][0]["threshold"], 0.67);

    // The file alone is enough to play the run and to tune it.
    let alone = tempfile::tempdir().unwrap();
    let file = folder.path().join("runs/story/session.ron");
    std::fs::copy(file, alone.path().join("session.ron")).unwrap();
    drop(folder);
    let args = ["replay", "session.ron", "--speed", "64"];
    let Some(mut terminal) = Terminal::start(alone, &args) else {
        return;
    };
    terminal.wait_for("at its end");
    terminal.say("2", "measured");
    let shown = terminal.numbers("accuracy ");
    assert_eq!(
        shown[..2],
        [tuned[0], percent(&report["measured"]["accuracy"])]
    );
    terminal.say("5\x1b[C", "5 Threshold 0.68");
    terminal.say("w", "saved to");
    terminal.press("q");
    terminal.end();
}

#[test]
fn a_run_that_is_left_goes_on_and_is_found_again() {
    let Some(mut terminal) = Terminal::start(small(), &["tui", "story.ron"]) else {
        return;
    };
    terminal.wait_for("no profile:");
    terminal.say("4r", "run 1 started");
    terminal.say("q", "let it finish");
    terminal.press("f");
    let folder = terminal.end();
    let report = folder.path().join("runs/story/report.json");
    let Some(mut terminal) = Terminal::start(folder, &["tui", "story.ron"]) else {
        return;
    };
    // Followed to its end, or over already: either way its numbers are here.
    terminal.say("2", "measured");
    let screen = |t: &Terminal| t.contents();
    while !screen(&terminal).contains("test") {
        let Ok(bytes) = terminal.output.recv_timeout(PATIENCE) else {
            let words = std::fs::read_to_string(report.with_file_name("run.log"));
            panic!("{}\n{words:?}", screen(&terminal));
        };
        terminal.parser.process(&bytes);
    }
    let report: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(report).unwrap()).unwrap();
    assert_eq!(
        terminal.numbers("accuracy ")[1],
        percent(&report["measured"]["accuracy"])
    );
    terminal.press("q");
    terminal.end();
}
