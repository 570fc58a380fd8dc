//! The workbench in a real terminal: start, size, suspend and resume, hang-up, a kill, a panic, a slow
//! line; the whole story from a session to its replay; runs that are paused, left and joined.

use crate::terminal::{Start, Terminal, nothing_left};
use edgelesspart::tui::{self, Job, JobControl, JobError, JobRunner, Results};
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::termios::{BaudRate, LocalFlags, SetArg, tcgetattr, tcsetattr};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

const BEGIN: &str = "\x1b[?2026h";
const END: &str = "\x1b[?2026l";

/// Frames in what came, each with its bytes.
fn frames(raw: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(raw);
    let frames = text.split(BEGIN).skip(1);
    frames
        .filter_map(|f| Some(f.split_once(END)?.0.to_string()))
        .collect()
}

#[test]
fn opens_follows_the_size_and_gives_the_terminal_back() {
    let Some(mut terminal) = Terminal::open() else {
        return;
    };
    terminal.wait_for("EdgeLessPart  demo");
    // It ships with numbers, and they say where they are from.
    terminal.wait_for("pred., calib. 1000, emu");
    assert!(terminal.parser.screen().alternate_screen());
    if terminal.resize(120, 40) {
        terminal.wait_for("5 Threshold 0.80 of all exits · predicted, calibration 1000");
        terminal.wait_for("3 Exits ");
        terminal.read_on(Duration::from_millis(300));
        // The screen is cleared only inside a frame, where nobody sees it empty.
        let text = String::from_utf8_lossy(&terminal.raw).into_owned();
        let inside: usize = frames(&terminal.raw)
            .iter()
            .map(|f| f.matches("\x1b[2J").count())
            .sum();
        assert_eq!(text.matches("\x1b[2J").count(), inside);
        assert!(inside >= 2);
    }
    terminal.press("q");
    assert!(terminal.wait().success());
    terminal.read_on(Duration::from_millis(500));
    assert!(!terminal.parser.screen().alternate_screen());
    assert!(!terminal.parser.screen().hide_cursor());
    assert!(!terminal.parser.screen().bracketed_paste());
    nothing_left(terminal.folder.path());
}

#[test]
fn lives_through_every_size() {
    let Some(mut terminal) = Terminal::open() else {
        return;
    };
    terminal.wait_for("pred., calib. 1000");
    for (columns, rows) in [(1, 1), (2, 1), (1, 24), (80, 1), (10, 3), (300, 100)] {
        if !terminal.resize(columns, rows) {
            return;
        }
        terminal.press("j");
        terminal.read_on(Duration::from_millis(150));
        assert!(
            terminal.child.try_wait().unwrap().is_none(),
            "{columns}×{rows}"
        );
    }
    terminal.resize(80, 24);
    terminal.wait_for("EdgeLessPart  demo");
    terminal.press("q");
    terminal.end();
}

#[test]
fn stops_for_the_shell_and_comes_back() {
    let Some(mut terminal) = Terminal::open() else {
        return;
    };
    terminal.wait_for("pred., calib. 1000");
    terminal.press("\x1a");
    terminal.wait_for_state('T');
    terminal.parser = vt100::Parser::new(24, 80, 0);
    while terminal.output.try_recv().is_ok() {}
    // As a shell does: the whole group.
    killpg(terminal.pid(), Signal::SIGCONT).unwrap();
    terminal.wait_for("EdgeLessPart  demo");
    terminal.press("q");
    terminal.end();
}

#[test]
fn a_stop_from_outside_leaves_the_keys_alive() {
    let Some(mut terminal) = Terminal::open() else {
        return;
    };
    terminal.wait_for("pred., calib. 1000");
    // SIGSTOP can't be caught: nothing is given back, and the shell puts its own modes in place.
    kill(terminal.pid(), Signal::SIGSTOP).unwrap();
    terminal.wait_for_state('T');
    let line = terminal.keys.as_ref().unwrap();
    let mut modes = tcgetattr(line).unwrap();
    modes.local_flags |= LocalFlags::ICANON | LocalFlags::ECHO;
    tcsetattr(line, SetArg::TCSANOW, &modes).unwrap();
    terminal.parser = vt100::Parser::new(24, 80, 0);
    kill(terminal.pid(), Signal::SIGCONT).unwrap();
    terminal.wait_for("EdgeLessPart  demo");
    // No line is ended here: a key counts at once.
    terminal.say("5", "5 Threshold 0.80");
    terminal.press("q");
    terminal.end();
}

#[test]
fn a_terminal_of_lines_is_told_so_and_one_without_letters_gets_ascii() {
    let dumb = Start {
        env: &[("TERM", "dumb")],
        ..Start::default()
    };
    let Some(mut terminal) = Terminal::start(tempfile::tempdir().unwrap(), &dumb) else {
        return;
    };
    assert!(!terminal.wait().success());
    terminal.read_on(Duration::from_millis(300));
    assert!(
        terminal.contents().contains("TERM=dumb"),
        "{}",
        terminal.contents()
    );
    let plain = Start {
        env: &[("LC_ALL", "C")],
        ..Start::default()
    };
    let Some(mut terminal) = Terminal::start(tempfile::tempdir().unwrap(), &plain) else {
        return;
    };
    terminal.wait_for("pred., calib. 1000");
    assert!(terminal.raw.is_ascii());
    terminal.press("q");
    terminal.end();
}

#[test]
fn nobody_reading_what_is_told_ends_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full");
    let Ok(full) = full else {
        println!("skipped: no /dev/full");
        return;
    };
    let done = Command::new(env!("CARGO_BIN_EXE_edgelesspart"))
        .current_dir(folder.path())
        .args(["export", "resnet8", "net.onnx"])
        .stderr(full)
        .status();
    assert!(done.unwrap().success());
    // A failure keeps its exit code.
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full");
    let failed = Command::new(env!("CARGO_BIN_EXE_edgelesspart"))
        .current_dir(folder.path())
        .args(["layers", "gone.onnx"])
        .stderr(full.unwrap())
        .status();
    assert_eq!(failed.unwrap().code(), Some(1));
}

#[test]
fn a_classifier_that_does_not_check_survives_a_kill() {
    let Some(mut terminal) = Terminal::open() else {
        return;
    };
    terminal.wait_for("pred., calib. 1000");
    terminal.say("3\r", "typing");
    terminal.say("(mine", "finding");
    let draft = autosave(terminal.folder.path()).with_extension("autosave.draft");
    while !std::fs::read_to_string(&draft).is_ok_and(|text| text.contains("(mine")) {
        std::thread::sleep(Duration::from_millis(20));
    }
    kill(terminal.pid(), Signal::SIGKILL).unwrap();
    terminal.wait();
    let Some(mut terminal) = Terminal::with(terminal.leave(), &[]) else {
        return;
    };
    terminal.wait_for("Unsaved edits of a workbench that ended early");
    terminal.say("y", "[unsaved]");
    terminal.say("3", "(mine");
    terminal.say("q", "Quit without saving?");
    terminal.press("y");
    terminal.end();
}

fn autosave(folder: &Path) -> std::path::PathBuf {
    folder.join(".local/state/edgelesspart/demo.autosave")
}

#[test]
fn a_hang_up_keeps_unsaved_edits_and_ends() {
    let Some(mut terminal) = Terminal::open() else {
        return;
    };
    terminal.wait_for("pred., calib. 1000");
    terminal.press("[");
    terminal.wait_for("[unsaved]");
    kill(terminal.pid(), Signal::SIGHUP).unwrap();
    terminal.wait();
    let text = std::fs::read_to_string(autosave(terminal.folder.path())).unwrap();
    assert!(text.contains("After("), "{text}");
    nothing_left(terminal.folder.path());
}

#[test]
fn edits_survive_a_kill_and_come_back() {
    let Some(mut terminal) = Terminal::open() else {
        return;
    };
    terminal.wait_for("pred., calib. 1000");
    terminal.say("[", "[unsaved]");
    let kept = autosave(terminal.folder.path());
    while !kept.exists() {
        std::thread::sleep(Duration::from_millis(20));
    }
    kill(terminal.pid(), Signal::SIGKILL).unwrap();
    terminal.wait();
    let folder = terminal.leave();
    // What nobody asked for has no use without its workbench.
    nothing_left(folder.path());
    let Some(mut terminal) = Terminal::with(folder, &[]) else {
        return;
    };
    terminal.wait_for("Unsaved edits of a workbench that ended early");
    terminal.say("y", "[unsaved]");
    terminal.say("2", "rule by hand");
    terminal.say("q", "Quit without saving?");
    terminal.press("y");
    let folder = terminal.end();
    assert!(!autosave(folder.path()).exists());
}

#[test]
fn a_terminal_that_is_gone_ends_it() {
    let Some(mut terminal) = Terminal::open() else {
        return;
    };
    terminal.wait_for("pred., calib. 1000");
    // The reader's copy of the master goes with its thread, at the next byte that it can't pass on.
    let (_, nobody) = channel();
    terminal.output = nobody;
    terminal.press("j");
    terminal.keys = None;
    terminal.child.wait().unwrap();
    nothing_left(terminal.folder.path());
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

#[test]
fn on_a_slow_line_frames_do_not_pile_up_and_keys_count() {
    let slow = Start {
        speed: Some(BaudRate::B9600),
        bytes_per_second: Some(960),
        ..Start::default()
    };
    let Some(mut terminal) = Terminal::start(tempfile::tempdir().unwrap(), &slow) else {
        return;
    };
    terminal.wait_for("pred., calib. 1000");
    terminal.say("5", "5 Threshold 0.80");
    let before = frames(&terminal.raw).len();
    // A key held down for three seconds.
    for _ in 0..60 {
        terminal.press("\x1b[D");
        std::thread::sleep(Duration::from_millis(50));
    }
    terminal.wait_for("5 Threshold 0.20");
    let shown = frames(&terminal.raw).len() - before;
    assert!(shown <= 30, "{shown} frames for 60 keys");
    terminal.press("q");
    terminal.press("y");
    terminal.end();
}

/// A room below that breaks.
struct Broken;

impl JobRunner for Broken {
    fn run(
        &self,
        _: &Job,
        _: &mut dyn FnMut(u64, edgelesspart::event::Event),
        _: &JobControl,
    ) -> Result<Results, JobError> {
        Err(JobError::None)
    }
}

/// Not a test of its own: the workbench over a room that breaks, for the test below.
#[test]
#[ignore = "run by the test of a panic, on a terminal of its own"]
fn a_workbench_that_breaks() {
    let options = tui::Options {
        once_taken: Some(|| panic!("the workbench broke")),
        ..tui::Options::default()
    };
    let _ = tui::run(&options, Arc::new(Broken));
}

#[test]
fn a_panic_gives_the_terminal_back_and_leaves_a_report() {
    let folder = tempfile::tempdir().unwrap();
    let temporary = folder.path().to_str().unwrap().to_string();
    let start = Start {
        program: std::env::current_exe().unwrap(),
        args: &[
            "--exact",
            "story::a_workbench_that_breaks",
            "--ignored",
            "--nocapture",
        ],
        env: &[("TMPDIR", &temporary)],
        ..Start::default()
    };
    let Some(mut terminal) = Terminal::start(folder, &start) else {
        return;
    };
    assert!(!terminal.wait().success());
    terminal.read_on(Duration::from_millis(500));
    let text = String::from_utf8_lossy(&terminal.raw).into_owned();
    assert!(
        text.contains("\x1b[?1049h"),
        "it never had the terminal:\n{text}"
    );
    assert!(!terminal.parser.screen().alternate_screen());
    assert!(!terminal.parser.screen().hide_cursor());
    assert!(
        terminal.contents().contains("the workbench broke"),
        "{}",
        terminal.contents()
    );
    assert!(terminal.contents().contains("the report is in"));
    let files = std::fs::read_dir(&temporary).unwrap().flatten();
    let mut names = files.map(|f| f.path());
    let report = names.find(|f| f.to_string_lossy().contains("edgelesspart-panic-"));
    let report = std::fs::read_to_string(report.unwrap()).unwrap();
    assert!(
        report.contains("the workbench broke") && report.contains(file!()),
        "{report}"
    );
}

/// A network of eight layers with drawn weights, a few images, both sides on this machine.
fn small(test_samples: usize, more: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let exported = Command::new(env!("CARGO_BIN_EXE_edgelesspart"))
        .current_dir(folder.path())
        .args(["export", "resnet8", "net.onnx", "--width", "0.5"])
        .output();
    assert!(exported.unwrap().status.success());
    let session = format!(
        "Session(
        version: 1,
        model: Onnx(\"net.onnx\"),
        data: Synthetic(seed: 3),
        calibration: FromTrain(60),
        train_samples: 200,
        test_samples: {test_samples},
        exits: (per_part: 2, placement: Linear, training: Frozen(epochs: 2)),
        edge: [Local(cores: [0])],
        cloud: [Local(cores: [0])],
        {more}
    )"
    );
    std::fs::write(folder.path().join("story.ron"), session).unwrap();
    folder
}

fn percent(share: &serde_json::Value) -> f64 {
    (share.as_f64().unwrap() * 1000.0).round() / 10.0
}

fn report(folder: &Path) -> serde_json::Value {
    let text = std::fs::read_to_string(folder.join("runs/story/report.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// Another split, another exit classifier: from a template, and then by hand. Trained, each head's
/// curve in the panel; run on two agents.
fn edit_train_and_run(terminal: &mut Terminal) {
    terminal.say("[", "[unsaved]");
    terminal.say("3", "✓ ");
    terminal.say("T\r", "Linear probe");
    terminal.say("7", "2 back, 0 forth");
    terminal.say("3\r", "typing");
    terminal.say("\r// and mine\x1b", "// and mine");
    terminal.say("7", "and mine");
    terminal.say("2", "by hand");
    terminal.say("4t", "train 1 is done");
    terminal.say("r", "run 2 started");
    terminal.wait_for("edge ● connected");
    terminal.wait_for("cloud ● connected");
    terminal.wait_for("run 2 is done");
}

/// What a run gave stands in the plan as the report has it.
fn shows_what_was_reported(terminal: &mut Terminal) {
    terminal.say("2", "measured");
    terminal.wait_for("accuracy");
    let ran = report(terminal.folder.path());
    for figure in ["accuracy", "offloaded"] {
        let shown = terminal.numbers(&format!("{figure} "));
        let predicted = percent(&ran["predicted_on_calibration"][figure]);
        assert_eq!(shown[..2], [predicted, percent(&ran["measured"][figure])]);
    }
}

/// Runs the session by the command, and says what it reports.
fn run_again(folder: &Path) -> serde_json::Value {
    let run = Command::new(env!("CARGO_BIN_EXE_edgelesspart"))
        .current_dir(folder)
        .args(["run", "story.ron", "--json"])
        .output()
        .unwrap();
    assert!(
        run.status.success(),
        "{}",
        String::from_utf8_lossy(&run.stderr)
    );
    serde_json::from_slice(&run.stdout).unwrap()
}

#[test]
fn the_whole_story() {
    let Some(mut terminal) = Terminal::with(small(90, ""), &["tui", "story.ron"]) else {
        return;
    };
    terminal.wait_for("EdgeLessPart  story");
    terminal.wait_for("no profile:");
    edit_train_and_run(&mut terminal);
    shows_what_was_reported(&mut terminal);

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
    let saved = std::fs::read_to_string(folder.path().join("story.ron")).unwrap();
    assert!(saved.contains("and mine"), "{saved}");
    let report = run_again(folder.path());
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
    let args = ["playback", "session.ron", "--speed", "64"];
    let Some(mut terminal) = Terminal::with(alone, &args) else {
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

/// Opens the session again, and waits until the run's numbers are on the plan's page as its report
/// has them.
fn found_again(folder: tempfile::TempDir) {
    let Some(mut terminal) = Terminal::with(folder, &["tui", "story.ron"]) else {
        return;
    };
    // Followed to its end, or over already: either way its numbers are here.
    terminal.say("2", "measured");
    terminal.wait_until("measured numbers", |screen| screen.contains(" test 300"));
    let ran = report(terminal.folder.path());
    assert_eq!(
        terminal.numbers("accuracy ")[1],
        percent(&ran["measured"]["accuracy"])
    );
    terminal.press("q");
    terminal.end();
}

#[test]
fn a_run_that_is_left_goes_on_and_is_found_again() {
    let Some(mut terminal) = Terminal::with(small(300, ""), &["tui", "story.ron"]) else {
        return;
    };
    terminal.wait_for("no profile:");
    terminal.say("4r", "run 1 started");
    terminal.say("q", "let it finish");
    terminal.press("f");
    assert!(terminal.wait().success());
    found_again(terminal.leave());
}

#[test]
fn a_run_outlives_a_killed_workbench_and_is_found_again() {
    let Some(mut terminal) = Terminal::with(small(300, ""), &["tui", "story.ron"]) else {
        return;
    };
    terminal.wait_for("no profile:");
    terminal.say("4r", "edge ● connected");
    kill(terminal.pid(), Signal::SIGKILL).unwrap();
    terminal.wait();
    found_again(terminal.leave());
}

#[test]
fn a_run_pauses_at_its_agent_and_goes_on_without_loss() {
    // Every sample crosses a slow link, so that there is time to pause it.
    let link = "link: Emulated(mbit: 20, rtt_ms: 10), policy: (confidence: MaxProbability, threshold: 1.0),";
    let Some(mut terminal) = Terminal::with(small(600, link), &["tui", "story.ron"]) else {
        return;
    };
    terminal.wait_for("no profile:");
    terminal.say("4r", " of 600  ");
    terminal.say(" ", "edge ● paused");
    terminal.wait_for("▸ run 1 paused");
    // Its sensors are still read, and nothing else changes.
    let done = |t: &Terminal| {
        t.contents()
            .lines()
            .find_map(|l| Some(l.split_once(" of 600")?.0.to_string()))
    };
    let held = done(&terminal);
    assert!(held.is_some());
    terminal.read_on(Duration::from_millis(700));
    assert_eq!(done(&terminal), held);
    assert!(terminal.contents().contains("paused"));
    terminal.say(" ", "run 1 is done");
    let ran = report(terminal.folder.path());
    assert_eq!(ran["measured"]["samples"], 600);
    terminal.press("q");
    terminal.end();
}
