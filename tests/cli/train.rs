//! Training from the command line: what it writes, and that a stopped one goes on.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pretty_assertions::assert_eq;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};

const SMALL: [&str; 10] = [
    "--model",
    "resnet8",
    "--width",
    "0.25",
    "--train-samples",
    "96",
    "--calibration",
    "64",
    "--batch",
    "32",
];

fn train(out: &Path, more: &[&str]) -> (Child, BufReader<ChildStderr>) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_edgelesspart"))
        .args(["train", "--data", "synthetic", "--out"])
        .arg(out)
        .args(SMALL)
        .args(more)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let said = BufReader::new(child.stderr.take().unwrap());
    (child, said)
}

/// Reads on until a line has `wanted`.
fn until(said: &mut impl BufRead, wanted: &str) {
    let mut all = String::new();
    loop {
        let from = all.len();
        assert!(said.read_line(&mut all).unwrap() > 0, "no {wanted}: {all}");
        if all[from..].contains(wanted) {
            return;
        }
    }
}

fn interrupt(child: &Child) {
    kill(Pid::from_raw(child.id() as i32), Signal::SIGINT).unwrap();
}

#[test]
fn it_learns_and_writes_a_network_with_the_classes_of_its_data() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("small.onnx");
    let (mut child, mut said) = train(&out, &["--epochs", "2", "--flip", "--shift", "2"]);
    let mut all = String::new();
    said.read_to_string(&mut all).unwrap();
    assert!(child.wait().unwrap().success(), "{all}");
    assert!(all.contains("epoch 2/2") && all.contains("calibration accuracy"));
    assert!(!folder.path().join("small.onnx.checkpoint").exists());
    let listed = Command::new(env!("CARGO_BIN_EXE_edgelesspart"))
        .args(["layers", "--json"])
        .arg(&out)
        .output()
        .unwrap();
    let document: serde_json::Value = serde_json::from_slice(&listed.stdout).unwrap();
    assert_eq!(document["classes"], 10);
}

#[test]
fn a_stopped_training_goes_on_and_one_of_other_settings_begins_anew() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("small.onnx");
    // Far more epochs than can pass before the signal arrives.
    let epochs = ["--epochs", "100000"];
    let (mut child, mut said) = train(&out, &epochs);
    until(&mut said, "epoch 1/");
    interrupt(&child);
    until(&mut said, "goes on from there");
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert!(!out.exists());

    let (mut child, mut said) = train(&out, &epochs);
    until(&mut said, "goes on after epoch");
    interrupt(&child);
    child.wait().unwrap();

    let (mut child, mut said) = train(&out, &["--epochs", "100000", "--seed", "8"]);
    until(&mut said, "begins anew");
    interrupt(&child);
    child.wait().unwrap();
}

#[test]
fn a_network_and_images_must_be_named() {
    for args in [
        &["train", "--out", "x.onnx"][..],
        &["train", "--model", "resnet8", "--out", "x.onnx"],
        &["train", "--model", "resnet8", "--data", "synthetic"],
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_edgelesspart"))
            .args(args)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}");
    }
}
