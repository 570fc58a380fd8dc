//! The parts of a session as files, and a part run from its file.

use crate::run::{ONE_EPOCH, edgelesspart, folder, run};
use edgelesspart::data::npy;
use edgelesspart::model::{Constant, DType, Data};
use pretty_assertions::assert_eq;
use rstest::rstest;
use serde_json::Value;
use std::path::Path;
use std::process::Output;
use std::sync::Arc;

const SAMPLES: usize = 6;

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn done(folder: &Path, args: &[&str]) -> String {
    let output = edgelesspart(folder, args);
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

fn refused(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1));
    text(&output.stderr)
}

fn save(file: &Path, shape: &[usize], data: Data) {
    let shape = shape.to_vec();
    npy::write(file, &Constant { shape, data }).unwrap();
}

fn floats(file: &Path) -> (Vec<usize>, Vec<f32>) {
    let read = npy::read(file).unwrap();
    match read.to_constant(DType::F32).unwrap().data {
        Data::F32(values) => (read.shape, values.to_vec()),
        _ => panic!("no floats"),
    }
}

/// Pixels in x.npy, as bytes, and in f.npy what the demo's network makes of them.
fn images(folder: &Path) {
    let size = 3 * 32 * 32;
    let byte = |i: usize| (i * 2_654_435_761 % 256) as u8;
    let pixels: Vec<u8> = (0..SAMPLES * size).map(byte).collect();
    let floats = pixels
        .iter()
        .map(|&p| f32::from(p) * (1.0 / 255.0))
        .collect();
    let shape = [SAMPLES, 3, 32, 32];
    save(&folder.join("x.npy"), &shape, Data::U8(Arc::new(pixels)));
    save(&folder.join("f.npy"), &shape, Data::F32(Arc::new(floats)));
}

/// What became of each sample of a part's file.
fn infer(folder: &Path, part: &str, input: &str, more: &[&str]) -> Vec<Value> {
    let args = ["infer", "--part", part, "--input", input, "--json"];
    let said = done(folder, &[&args, more].concat());
    serde_json::from_str(&said).unwrap()
}

#[test]
fn the_parts_of_the_demo_one_behind_the_other_are_its_network() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    images(folder);
    let said = done(
        folder,
        &["export", "parts", "--out", "made", "--format", "bundle"],
    );
    assert!(
        said.contains("made/edge.tar: ") && said.contains("an agent serves it as"),
        "{said}"
    );
    let said = done(folder, &["export", "parts", "--out", "files", "--json"]);
    let said: Vec<Value> = serde_json::from_str(&said).unwrap();
    assert_eq!(
        (&said[0]["path"], &said[1]["path"]),
        (&"files/edge".into(), &"files/cloud".into())
    );
    // Nobody is sure enough for a threshold of 1.
    let stay = ["--threshold", "1", "--output", "split.npy"];
    let rows = infer(folder, "made/edge.tar", "x.npy", &stay);
    assert!(
        rows.iter()
            .all(|row| row["answered"] == false && row["exit"] == 2)
    );
    let stay = ["--threshold", "1", "--output", "scores.npy"];
    let rows = infer(folder, "made/cloud.tar", "split.npy", &stay);
    assert!(
        rows.iter()
            .all(|row| row["answered"] == true && row["after"].is_null())
    );
    done(
        folder,
        &["infer", "demo", "--input", "f.npy", "--output", "whole.npy"],
    );
    let (found, wanted) = (
        floats(&folder.join("scores.npy")),
        floats(&folder.join("whole.npy")),
    );
    assert_eq!(found.0, wanted.0);
    assert!(
        found
            .1
            .iter()
            .zip(&wanted.1)
            .all(|(a, b)| (a - b).abs() < 1e-4)
    );
    // Everybody is sure enough for one of 0, and nothing behind the first exit runs.
    let rows = infer(
        folder,
        "files/edge",
        "f.npy",
        &["--threshold", "0", "--output", "none.npy"],
    );
    for row in &rows {
        assert_eq!(
            (&row["answered"], &row["exit"], &row["segments"]),
            (&true.into(), &0.into(), &1.into())
        );
    }
    assert_eq!(floats(&folder.join("none.npy")).0[0], 0);
    // At its own thresholds the archive does as the folder.
    let of = |part: &str| -> Vec<Value> {
        let mut rows = infer(folder, part, "x.npy", &[]);
        rows.iter_mut().for_each(|row| row["ms"] = Value::Null);
        rows
    };
    assert_eq!(of("made/edge.tar"), of("files/edge/manifest.json"));
    let again = refused(&edgelesspart(folder, &["export", "parts", "--out", "made"]));
    assert!(again.contains("not an empty folder"), "{again}");
}

#[rstest]
#[case::no_part(&["infer", "--part", "x.npy", "--input", "x.npy"], "it is a NumPy array (.npy)")]
#[case::none(&["infer", "--part", "gone.tar", "--input", "x.npy"], "gone.tar")]
#[case::other_input(
    &["infer", "--part", "made/cloud.tar", "--input", "x.npy"],
    "x.npy: the part takes float32 [samples, "
)]
#[case::other_shape(
    &["infer", "--part", "made/edge.tar", "--input", "small.npy"],
    "or pixels as uint8 [samples, 3, 32, 32]; this is float32 [1, 3, 2, 2]"
)]
fn what_a_part_cannot_take_is_refused(#[case] args: &[&str], #[case] words: &str) {
    let folder = tempfile::tempdir().unwrap();
    images(folder.path());
    let small = Data::F32(Arc::new(vec![0.0; 12]));
    save(&folder.path().join("small.npy"), &[1, 3, 2, 2], small);
    done(
        folder.path(),
        &["export", "parts", "--out", "made", "--format", "bundle"],
    );
    let said = refused(&edgelesspart(folder.path(), args));
    assert!(said.contains(words), "{said}");
}

#[test]
fn parts_are_those_of_the_session_that_ran_or_none() {
    let folder = folder(ONE_EPOCH);
    let folder = folder.path();
    let export = |more: &[&str]| {
        let args = ["export", "parts", "small.ron", "--out", "made"];
        edgelesspart(folder, &[&args, more].concat())
    };
    let said = refused(&export(&[]));
    assert!(
        said.contains("was never run") && said.contains("edgelesspart run"),
        "{said}"
    );
    run(folder, &[]);
    assert!(export(&["--threshold", "0.25"]).status.success());
    let json = std::fs::read(folder.join("made/edge/manifest.json")).unwrap();
    let manifest: Value = serde_json::from_slice(&json).unwrap();
    assert_eq!(manifest["segments"][0]["exit"]["threshold"], 0.25);
    assert_eq!(manifest["output"]["kind"], "tensor");
    std::fs::remove_dir_all(folder.join("made")).unwrap();
    // The same layers with other weights, for which no head was trained.
    done(
        folder,
        &[
            "export", "resnet8", "net.onnx", "--width", "0.5", "--seed", "9",
        ],
    );
    let said = refused(&export(&[]));
    assert!(
        said.contains("no head after") && said.contains("edgelesspart run"),
        "{said}"
    );
    // Other layers.
    done(
        folder,
        &["export", "resnet14", "net.onnx", "--width", "0.5"],
    );
    let said = refused(&export(&[]));
    assert!(said.contains("of another network"), "{said}");
    assert!(!folder.join("made").exists());
}
