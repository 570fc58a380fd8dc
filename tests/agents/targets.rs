//! The targets of a run that aren't there, or were left behind: passed over, named, taken up again.

use crate::serving::{Agent, until};
use edgelesspart::backend::{BackendId, CandleDevice};
use edgelesspart::engine::Cancel;
use edgelesspart::event::{Event, Stage};
use edgelesspart::predict::Record;
use edgelesspart::run::{Options, RunError, probe, run};
use edgelesspart::session::{Session, Target, Trust};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pretty_assertions::assert_eq;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

const PROGRAM: &str = env!("CARGO_BIN_EXE_edgelesspart");

fn text(edge: &str, cloud: &str, samples: usize) -> String {
    format!(
        "Session(
            version: 1,
            model: Onnx(\"net.onnx\"),
            data: Synthetic(seed: 3),
            calibration: FromTrain(60),
            train_samples: 100,
            test_samples: {samples},
            exits: (per_part: 1, placement: Linear, training: Frozen(epochs: 1)),
            policy: (confidence: MaxProbability, threshold: 0.9),
            edge: [{edge}],
            cloud: [{cloud}],
        )"
    )
}

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let export = Command::new(PROGRAM)
        .current_dir(folder.path())
        .args(["export", "resnet8", "net.onnx", "--width", "0.5"])
        .output();
    assert!(export.unwrap().status.success());
    folder
}

/// An address at which nobody listens.
fn nowhere() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

fn at(url: &str) -> String {
    format!("Agent(url: \"{url}\"),")
}

struct Told {
    report: Option<Value>,
    records: Vec<Record>,
    said: Vec<String>,
}

fn go(folder: &Path, session: &str) -> Result<Told, RunError> {
    let session = Session::parse(session, Path::new("small.ron"))
        .unwrap()
        .resolved(folder);
    let options = Options {
        out: folder.join("out"),
        name: "small".to_string(),
        fresh: false,
        until: Stage::Report,
        program: Some(PROGRAM.into()),
    };
    let (mut records, mut said) = (Vec::new(), Vec::new());
    let mut on = |event: Event| match event {
        Event::Records(all) => records = all,
        Event::Say(told) => said.push(told.to_string()),
        _ => {}
    };
    let done = run(&session, &options, &mut on, &Cancel::new())?;
    let report = done.report.as_ref();
    let report = report.map(|report| serde_json::to_value(report).unwrap());
    Ok(Told {
        report,
        records,
        said,
    })
}

fn each_once(records: &[Record], samples: u32) {
    let told: Vec<u32> = records.iter().map(|r| r.sample).collect();
    assert_eq!(told, (0..samples).collect::<Vec<_>>());
}

#[test]
fn an_edge_and_a_cloud_that_are_not_there_are_done_without_and_named() {
    let folder = folder();
    let (edge, cloud) = (Agent::start(&[]), Agent::start(&[]));
    let (no_edge, no_cloud) = (nowhere(), nowhere());
    // The ones that are missing come first, so that everything has to do without its first choice.
    let edges = at(&no_edge) + &at(edge.url());
    let clouds = at(&no_cloud) + &at(cloud.url());
    let told = go(folder.path(), &text(&edges, &clouds, 60)).unwrap();
    each_once(&told.records, 60);
    let report = told.report.unwrap();
    assert_eq!(report["measured"]["samples"], 60);
    assert_eq!(report["equality"]["differing"], 0);
    let report = report.to_string();
    for missing in [&no_edge, &no_cloud] {
        let named = told.said.iter().filter(|s| s.contains(missing)).count();
        assert_eq!(named, 1, "once, not at every stage: {:?}", told.said);
        assert!(report.contains(missing.as_str()), "{report}");
    }
    // What is known needs nobody: the same again with no agent at all.
    drop((edge, cloud));
    let again = go(folder.path(), &text(&edges, &clouds, 60)).unwrap();
    each_once(&again.records, 60);
}

#[test]
fn a_run_without_its_cloud_ends_in_a_report_where_the_last_exit_answers() {
    let folder = folder();
    let (edge, mut cloud) = (Agent::start(&[]), Agent::start(&[]));
    let session = text(&at(edge.url()), &at(cloud.url()), 60);
    let session = session.replace("edge: [", "offload: (degrade: LastExit), edge: [");
    go(folder.path(), &session).unwrap();
    cloud.kill();
    // What was measured of both sides is known, but neither this plan's run nor the cloud's baseline.
    std::fs::remove_file(folder.path().join("out/stages/cloud_only.stage")).unwrap();
    let session = session.replace("threshold: 0.9", "threshold: 0.95");
    let told = go(folder.path(), &session).unwrap();
    each_once(&told.records, 60);
    assert!(told.records.iter().any(|r| r.degraded));
    let report = told.report.unwrap();
    assert_eq!(report["measured"]["samples"], 60);
    assert!(report["baselines"]["original"].is_object());
    assert!(report["baselines"]["edge_only"].is_object());
    assert!(report["baselines"]["cloud_only"].is_null());
    let notes = serde_json::to_string(&report["caveats"]).unwrap();
    assert!(notes.contains("was not measured"), "{notes}");
}

#[test]
fn where_nobody_answers_that_is_the_error() {
    let folder = folder();
    let cloud = Agent::start(&[]);
    let (a, b) = (nowhere(), nowhere());
    let edges = at(&a) + &at(&b);
    let error = go(folder.path(), &text(&edges, &at(cloud.url()), 60));
    let error = error.err().unwrap().to_string();
    assert!(
        error.contains(&a) && error.contains("doesn't answer"),
        "{error}"
    );
}

#[test]
fn a_token_that_would_cross_a_network_in_the_clear_ends_the_run() {
    let folder = folder();
    let token = folder.path().join("token");
    std::fs::write(&token, "sesame").unwrap();
    let with_token = ["--token-file", token.to_str().unwrap()];
    let (edge, cloud) = (Agent::start(&with_token), Agent::start(&with_token));
    // This machine too, by an address that might be any.
    let open = edge.url().replace("127.0.0.1", "0.0.0.0");
    let named = |url: &str| format!("Agent(url: \"{url}\", token: File(\"token\")),");
    let error = go(folder.path(), &text(&named(&open), &named(cloud.url()), 60));
    let error = error.err();
    assert!(
        matches!(&error, Some(RunError::TokenInTheOpen { edge, .. }) if *edge == open),
        "{error:?}"
    );
}

/// A run of its own process; killed when dropped, and what it left with it.
struct Running(Child, PathBuf);

impl Running {
    fn start(folder: &Path) -> Running {
        let child = Command::new(PROGRAM)
            .current_dir(folder)
            .args(["run", "small.ron", "--out", "out", "--json"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Running(child.unwrap(), folder.join("out"))
    }

    fn left(&self) -> Vec<u32> {
        pids(&self.1)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
        for pid in self.left() {
            let _ = kill(Pid::from_raw(pid as i32), Signal::SIGKILL);
        }
    }
}

/// The targets that a run wrote down.
fn pids(out: &Path) -> Vec<u32> {
    let Ok(text) = std::fs::read_to_string(out.join("targets.json")) else {
        return Vec::new();
    };
    let written: Value = serde_json::from_str(&text).unwrap();
    let targets = written["targets"].as_array().unwrap().iter();
    let pid = |t: &Value| t["ready"]["pid"].as_u64().unwrap() as u32;
    targets.map(pid).collect()
}

fn runs(pid: u32) -> bool {
    // One that was left is nobody's child here, so that it is gone when it has ended; a zombie of
    // another parent has no command line.
    std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| !line.is_empty())
}

#[test]
fn what_a_killed_run_left_is_taken_up_by_the_next() {
    let folder = folder();
    let session = text("Local(cores: [0], slowdown: 60)", "Local(cores: [0])", 600);
    std::fs::write(folder.path().join("small.ron"), &session).unwrap();
    let mut first = Running::start(folder.path());
    let events = folder.path().join("out/events.jsonl");
    until("it evaluates", || {
        std::fs::read_to_string(&events).is_ok_and(|t| t.contains("\"Evaluating\""))
    });
    first.0.kill().unwrap();
    first.0.wait().unwrap();
    let left = first.left();
    assert_eq!(left.len(), 2);
    assert!(left.iter().all(|&pid| runs(pid)), "they go on");
    // Nothing that is written down lets anybody in.
    let written = std::fs::read_to_string(folder.path().join("out/targets.json")).unwrap();
    assert!(!written.contains("token"), "{written}");
    let told = go(folder.path(), &session).unwrap();
    each_once(&told.records, 600);
    let rejoined = told.said.iter().filter(|s| s.contains("rejoined")).count();
    assert_eq!(rejoined, 2, "{:?}", told.said);
    assert_eq!(told.report.unwrap()["equality"]["differing"], 0);
    until("they end with the run", || {
        !left.iter().any(|&pid| runs(pid))
    });
    assert!(pids(&folder.path().join("out")).is_empty());
}

#[test]
fn what_a_killed_run_left_and_nobody_wants_is_ended() {
    let folder = folder();
    let slow = text("Local(cores: [0], slowdown: 60)", "Local(cores: [0])", 600);
    std::fs::write(folder.path().join("small.ron"), &slow).unwrap();
    let mut first = Running::start(folder.path());
    until("both targets are there", || first.left().len() >= 2);
    first.0.kill().unwrap();
    first.0.wait().unwrap();
    let left = first.left();
    // Another session in the same folder: targets of another kind.
    let told = go(folder.path(), &text("Local()", "Local()", 60)).unwrap();
    each_once(&told.records, 60);
    assert!(!told.said.iter().any(|s| s.contains("rejoined")));
    until("they are ended", || !left.iter().any(|&pid| runs(pid)));
}

#[test]
fn an_agent_with_another_engine_is_refused_with_how_to_start_it() {
    let agent = Agent::start(&["--engine", "candle"]);
    let asked = |engine| {
        let target = Target::Agent {
            url: agent.1.url.clone(),
            token: None,
            trust: Trust::System,
            engine,
        };
        probe(&target, &Cancel::new())
    };
    let candle = BackendId::Candle(CandleDevice::Cpu);
    for wanted in [None, Some(candle)] {
        assert_eq!(asked(wanted).unwrap().unwrap().engine, candle);
    }
    let error = asked(Some(BackendId::Native)).unwrap_err();
    assert!(matches!(error, RunError::OtherEngine { .. }), "{error}");
    let words = "start the agent with --engine native --provider cpu";
    assert!(error.to_string().contains(words), "{error}");
}
