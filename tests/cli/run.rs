//! The main job from the command line: from a session to the report of a distributed run.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pretty_assertions::assert_eq;
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;
use tempfile::TempDir;

pub fn edgelesspart(folder: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_edgelesspart"))
        .current_dir(folder)
        .args(args)
        .output()
        .unwrap()
}

/// A small network with drawn weights, and a session of a few images: what is tested is the way of
/// the samples, not how many are right.
pub fn folder(settings: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let export = ["export", "resnet8", "net.onnx", "--width", "0.5"];
    assert!(edgelesspart(folder.path(), &export).status.success());
    let session = format!(
        "Session(
            version: 1,
            model: Onnx(\"net.onnx\"),
            data: Synthetic(seed: 3),
            calibration: FromTrain(60),
            train_samples: 200,
            test_samples: 90,
            edge: [Local(cores: [0])],
            cloud: [Local(cores: [0])],
            {settings}
        )"
    );
    std::fs::write(folder.path().join("small.ron"), session).unwrap();
    folder
}

pub const ONE_EPOCH: &str = "exits: (per_part: 2, placement: Linear, training: Frozen(epochs: 1)),";

pub fn run(folder: &Path, more: &[&str]) -> (Value, String) {
    let output = edgelesspart(folder, &[&["run", "small.ron", "--json"], more].concat());
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{told}");
    (serde_json::from_slice(&output.stdout).unwrap(), told)
}

#[test]
fn thresholds_are_tuned_on_what_a_run_left_and_a_guarantee_holds_images_back() {
    let folder = folder(ONE_EPOCH);
    let (report, _) = run(folder.path(), &["--guarantee", "2"]);
    let text = report["guarantee"]["text"].as_str().unwrap();
    assert!(
        text.contains("30 images are held back for it and 114 are needed"),
        "{text}"
    );
    assert_eq!(report["predicted_on_calibration"]["samples"], 30);
    let exits = report["plan"]["exits"].as_array().unwrap().len();
    let errors = report["calibration_errors"].as_array().unwrap();
    assert_eq!(errors.len(), exits + 1);
    assert!(errors[0]["error_before"].is_number() && errors[0]["error"].is_number());
    assert!(errors[exits]["after"].is_null());
    let tune = ["tune", "small.ron", "--json", "--save", "tuned.ron"];
    let promise = ["--guarantee", "90", "--delta", "0.5"];
    let output = edgelesspart(folder.path(), &[&tune[..], &promise].concat());
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(found["common"]["exact"], true);
    let mean = |form: &str| {
        found[form]["predicted"]["latency_ms"]["mean"]
            .as_f64()
            .unwrap()
    };
    assert!(mean("per_exit") <= mean("common") + 1e-9);
    assert_eq!(found["test"]["samples"], 90);
    assert_eq!(found["guarantee"]["held_back"], 30);
    assert_eq!(found["guarantee"]["on_test"]["samples"], 90);
    let saved = std::fs::read_to_string(folder.path().join("tuned.ron")).unwrap();
    assert!(saved.contains("accuracy_loss_points: 90"), "{saved}");
    let refused = edgelesspart(folder.path(), &["tune", "small.ron", "--guarantee", "0"]);
    assert_eq!(refused.status.code(), Some(2));
}

#[test]
fn a_run_ends_in_a_report_and_the_next_one_takes_what_is_kept() {
    let folder = folder(ONE_EPOCH);
    let (report, _) = run(folder.path(), &[]);
    assert!(report["plan"]["split"].is_string());
    let exits = report["plan"]["exits"].as_array().unwrap();
    assert!(!exits.is_empty());
    for side in ["predicted", "measured"] {
        assert_eq!(report[side]["samples"], 90);
        assert_eq!(report[side]["set"], "test");
    }
    assert_eq!(report["equality"]["differing"], 0);
    assert_eq!(
        report["predicted"]["accuracy"],
        report["measured"]["accuracy"]
    );
    let sweep = report["sweep"].as_array().unwrap();
    assert_eq!(sweep.len(), 7);
    for point in sweep {
        for key in [
            "threshold",
            "accuracy",
            "offloaded",
            "edge_memory_bytes",
            "cloud_memory_bytes",
            "bytes_sent",
            "cost_per_million_usd",
        ] {
            assert!(point[key].is_number(), "{key}: {point}");
        }
        for key in ["mean", "p50", "p95", "p99"] {
            assert!(point["latency_ms"][key].is_number(), "{key}: {point}");
        }
    }
    for exit in report["exits"].as_array().unwrap() {
        assert!(
            exit["part"].is_string() && exit["share"].is_number(),
            "{exit}"
        );
    }
    for baseline in ["original", "cloud_only", "edge_only"] {
        assert_eq!(
            report["baselines"][baseline]["kind"], "measured",
            "{baseline}"
        );
    }
    let out = folder.path().join("runs/small");
    for file in ["report.html", "report.csv", "report.txt", "session.ron"] {
        assert!(out.join(file).is_file(), "{file}");
    }

    let (again, told) = run(folder.path(), &[]);
    assert_eq!(again, report);
    // Two profiles, link, exits, tables, those of JPEG files, parts, the run and four baselines.
    assert_eq!(told.matches("[kept from before]").count(), 12, "{told}");

    // The session the run wrote is a session, and knows what it needs.
    let plan = edgelesspart(folder.path(), &["plan", "runs/small/session.ron", "--json"]);
    let plan: Value = serde_json::from_slice(&plan.stdout).unwrap();
    assert_eq!(plan["split"]["after"], report["plan"]["split"]);
}

#[test]
fn at_threshold_one_the_network_answers_and_at_zero_the_first_exit() {
    let folder = folder(ONE_EPOCH);
    let (one, _) = run(folder.path(), &["--threshold", "1.0"]);
    let last = one["exits"].as_array().unwrap().last().unwrap().clone();
    assert_eq!(
        (&last["share"], &last["after"]),
        (&1.0.into(), &Value::Null)
    );
    assert_eq!(one["measured"]["offloaded"], 1.0);
    // The table's final column is the whole network's, computed without any split.
    assert_eq!(one["equality"]["differing"], 0);
    assert_eq!(one["equality"]["compared"], 90);
    let (zero, told) = run(folder.path(), &["--threshold", "0"]);
    assert_eq!(zero["exits"][0]["share"], 1.0);
    assert_eq!(zero["measured"]["offloaded"], 0.0);
    assert_eq!(zero["measured"]["bytes_sent"], 0.0);
    // Another threshold needs no new training, profile or table, and no new parts.
    assert!(told.matches("[kept from before]").count() >= 6, "{told}");
}

/// Ends the agents of a run that was killed, which would wait ten minutes for somebody to need them.
fn end_agents(folder: &Path) {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let here =
        entries.filter(|e| std::fs::read_link(e.path().join("cwd")).is_ok_and(|c| c == folder));
    for pid in here.filter_map(|e| e.file_name().to_str()?.parse().ok()) {
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
}

#[test]
fn a_killed_run_goes_on_with_what_it_finished() {
    let folder = folder("exits: (training: Frozen(epochs: 60)),");
    let mut child = Command::new(env!("CARGO_BIN_EXE_edgelesspart"))
        .current_dir(folder.path())
        .args(["run", "small.ron"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let link = folder.path().join("runs/small/stages/link.stage");
    let pause = Duration::from_millis(5);
    // Two minutes: for a machine that builds something else meanwhile.
    let there = (0..24_000).any(|_| {
        std::thread::sleep(pause);
        link.is_file()
    });
    assert!(there, "no link was measured");
    child.kill().unwrap();
    child.wait().unwrap();
    end_agents(folder.path());
    let (report, told) = run(folder.path(), &[]);
    assert_eq!(report["equality"]["differing"], 0);
    let kept = told.matches("[kept from before]").count();
    assert!((3..10).contains(&kept), "{told}");
}

#[test]
fn pixels_wire_and_last_exit_have_their_say() {
    let wire = "wire: (tensor: U8, compression: Lz4),";
    let folder = folder(&format!("{ONE_EPOCH} {wire}"));
    let (report, _) = run(folder.path(), &["--threshold", "0.9"]);
    // The table behind the split was computed from tensors as U8 delivers them.
    assert_eq!(report["equality"]["differing"], 0, "{}", report["equality"]);
    assert_eq!(report["measured"]["as_f32"], false);
}

#[test]
fn joint_training_changes_the_network_and_still_agrees() {
    let folder = folder("exits: (per_part: 1, training: Mixed(backbone: 1, epochs: 1)),");
    let (report, _) = run(folder.path(), &[]);
    assert_eq!(report["equality"]["differing"], 0);
    assert_eq!(report["placements"].as_array().unwrap().len(), 1);
}

#[test]
fn what_cannot_run_says_why() {
    let folder = folder(ONE_EPOCH);
    let refused = |args: &[&str], wanted: &str| {
        let output = edgelesspart(folder.path(), args);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{told}");
        assert!(told.contains(wanted), "{told}");
    };
    refused(&["run", "none.ron"], "none.ron");
    refused(&["run", "small.ron", "--threshold", "1.5"], "threshold");
    let untrained = [
        "run",
        "small.ron",
        "--model",
        "resnet8",
        "--input",
        "3x32x32",
    ];
    refused(&untrained, "untrained");
}

#[test]
fn settings_that_only_go_together_are_set_in_any_order() {
    let folder = folder("");
    let run = |set: &[&str]| {
        let set = set.iter().flat_map(|setting| ["--set", setting]);
        let args: Vec<&str> = ["run", "small.ron", "--dry-run"]
            .into_iter()
            .chain(set)
            .collect();
        edgelesspart(folder.path(), &args)
    };
    for order in [
        ["sweep.to=0.99", "sweep.from=0.96"],
        ["sweep.from=0.96", "sweep.to=0.99"],
    ] {
        let ran = run(&order);
        assert!(ran.status.success(), "{ran:?}");
    }
    let wrong = run(&["seed=3", "sweep.from=0.96"]);
    assert_eq!(wrong.status.code(), Some(2));
    let said = String::from_utf8(wrong.stderr).unwrap();
    assert!(said.contains("--set sweep.from=0.96: sweep.from"), "{said}");
}
