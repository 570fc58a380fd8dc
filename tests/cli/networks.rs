//! The commands as a script uses them.

use pretty_assertions::assert_eq;
use rstest::rstest;
use std::path::Path;
use std::process::{Command, Output};

const MODELS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/models/cifar10");

fn edgelesspart(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_edgelesspart"))
        .args(args)
        .output()
        .unwrap()
}

fn model(name: &str) -> Option<String> {
    let path = format!("{MODELS}/{name}");
    if !Path::new(&path).is_file() {
        println!("skipped: no {path}");
        return None;
    }
    Some(path)
}

#[test]
fn layers_prints_one_json_document_with_the_split_memory_of_resnet20() {
    let Some(path) = model("resnet20_cifar10.onnx") else {
        return;
    };
    let output = edgelesspart(&["layers", &path, "--json"]);
    assert!(output.status.success());
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["memory_bytes"], 1_275_496);
    let splits: Vec<i64> = document["layers"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|l| l["split"] == true)
        .map(|l| (l["prefix_memory_share"].as_f64().unwrap() * 100.0).round() as i64)
        .collect();
    assert_eq!(splits, [6, 17, 18, 20, 24, 30, 36, 53, 77]);
}

#[test]
fn layers_writes_a_csv_line_a_layer() {
    let Some(path) = model("resnet20_cifar10.onnx") else {
        return;
    };
    let output = edgelesspart(&["layers", &path, "--csv"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text.lines().count(), 1 + 25);
}

#[test]
fn infer_writes_what_the_reference_holds() {
    let Some(path) = model("resnet20_cifar10.onnx") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let found = folder.path().join("y.npy");
    let input = format!("{MODELS}/resnet20_cifar10_input.npy");
    let output = edgelesspart(&[
        "infer",
        &path,
        "--input",
        &input,
        "--output",
        found.to_str().unwrap(),
    ]);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let read = |path: &Path| {
        let tensor = candle_core::Tensor::read_npy(path).unwrap();
        tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap()
    };
    let expected = read(Path::new(&format!("{MODELS}/resnet20_cifar10_output.npy")));
    let found = read(&found);
    assert_eq!(found.len(), expected.len());
    for (f, e) in found.iter().zip(&expected) {
        assert!((f - e).abs() < 1e-3, "{f} {e}");
    }
}

#[rstest]
#[case(&["profile", "demo", "--engine", "native", "--provider", "cuda"], 2, "it has cpu")]
#[case(&["profile", "demo", "--engine", "onnxruntime", "--provider", "metal"], 2, "tensorrt:N and openvino")]
#[case(&["profile", "demo", "--engine", "tract"], 2, "possible values: native, candle, onnxruntime")]
#[case(&["profile", "demo", "--engine", "onnxruntime"], 1, "`pip install onnxruntime`")]
#[case(&["profile", "demo", "--engine", "onnxruntime", "--provider", "cuda"], 1, "onnxruntime-gpu")]
#[case(&["agent", "--engine", "onnxruntime", "--provider", "openvino"], 1, "onnxruntime-openvino")]
fn an_engine_that_can_not_be_had_is_refused_with_the_remedy(
    #[case] args: &[&str],
    #[case] code: i32,
    #[case] words: &str,
) {
    let output = Command::new(env!("CARGO_BIN_EXE_edgelesspart"))
        .args(args)
        .env("ORT_DYLIB_PATH", "/nowhere/libonnxruntime.so")
        .output()
        .unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{error}");
    assert!(error.contains(words), "{error}");
}

#[test]
fn a_profile_by_onnx_runtime_has_times_of_prefixes_and_none_of_layers() {
    let args = ["profile", "demo", "--engine", "onnxruntime", "--runs", "3"];
    let output = edgelesspart(&[&args[..], &["--json"]].concat());
    if !output.status.success() {
        // Only for want of the library: what else may be wrong is an error of the test.
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(error.contains("pip install onnxruntime"), "{error}");
        println!("skipped: {error}");
        return;
    }
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let layers = document["layers"].as_array().unwrap();
    let prefixes = document["prefixes"].as_array().unwrap();
    assert_eq!((layers.len(), prefixes.len()), (0, 9));
    let device = document["device"].as_str().unwrap();
    assert!(device.contains("on ONNX Runtime"), "{device}");
    let text = String::from_utf8(edgelesspart(&args).stdout).unwrap();
    assert!(
        text.contains("up to") && text.contains("memory: parameters"),
        "{text}"
    );
}

#[test]
fn a_npy_header_that_asks_for_petabytes_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let (input, output) = (folder.path().join("x.npy"), folder.path().join("y.npy"));
    let header =
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000, 3, 1000, 400), }\n";
    let length = (header.len() as u16).to_le_bytes();
    let bytes = [b"\x93NUMPY\x01\0", &length[..], header.as_bytes(), &[0; 64]].concat();
    std::fs::write(&input, bytes).unwrap();
    let (input, output) = (input.to_str().unwrap(), output.to_str().unwrap());
    let output = edgelesspart(&["infer", "demo", "--input", input, "--output", output]);
    assert_eq!(output.status.code(), Some(1));
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(
        message.contains("x.npy") && message.contains("asks for [1000000000, 3, 1000, 400]"),
        "{message}"
    );
}

#[test]
fn files_of_other_kinds_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("net.onnx");
    for (bytes, words) in [
        (
            &b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n"[..],
            "git lfs pull",
        ),
        (
            b"<!DOCTYPE html><html></html>",
            "a web page (HTML), not an ONNX file",
        ),
        (b"\x1c\0\0\0TFL3\x14\0\x20\0", "tf2onnx.convert --tflite"),
        (b"\x1f\x8b\x08\0\0\0\0\0", "unpack it first"),
        (
            b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.",
            "torch.onnx.export",
        ),
    ] {
        std::fs::write(&path, bytes).unwrap();
        let output = edgelesspart(&["layers", path.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(1));
        let message = String::from_utf8(output.stderr).unwrap();
        assert!(
            message.contains("net.onnx") && message.contains(words),
            "{message}"
        );
    }
}

#[test]
fn a_bad_file_fails_with_its_name_and_wrong_use_with_two() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bad.onnx");
    std::fs::write(&path, "not a model").unwrap();
    let output = edgelesspart(&["layers", path.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(
        message.contains("bad.onnx") && message.contains("ONNX"),
        "{message}"
    );
    assert_eq!(edgelesspart(&["layers"]).status.code(), Some(2));
}

/// The parameters that `layers` counts, and the input it shows.
fn counted(args: &[&str]) -> (u64, String) {
    let output = edgelesspart(&[&["layers"], args, &["--json"]].concat());
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let input = document["input"].as_str().unwrap().to_string();
    (document["parameters"].as_u64().unwrap(), input)
}

#[test]
fn built_in_networks_come_as_in_their_papers_or_as_asked() {
    let (params, input) = counted(&["resnet50"]);
    assert_eq!(params, 25_557_032);
    assert!(input.contains("3×224×224"), "{input}");
    assert_eq!(counted(&["mobilenetv2"]).0, 3_504_872);
    let (params, input) = counted(&["inceptionv3"]);
    assert_eq!(params, 23_834_568);
    assert!(input.contains("3×299×299"), "{input}");

    let small = ["mobilenetv2", "--input", "3x32x64", "--classes", "10"];
    let (params, input) = counted(&small);
    assert_eq!(params, 3_504_872 - 990 * 1281);
    assert!(input.contains("3×32×64"), "{input}");
    // The last convolution never narrows, so that the classifier stays; torchvision counts so too.
    assert_eq!(counted(&["mobilenetv2", "--width", "0.5"]).0, 1_968_680);
    // 16 channels and 10 classes: table 6 of the paper says 0.27M of resnet20.
    let (params, input) = counted(&["ResNet20"]);
    assert!((270_000..275_000).contains(&params), "{params}");
    assert!(input.contains("3×32×32"), "{input}");
}

#[test]
fn what_a_network_does_not_take_is_wrong_use() {
    let refused = |args: &[&str], wanted: &str| {
        let output = edgelesspart(args);
        let message = String::from_utf8(output.stderr).unwrap();
        assert!(message.contains(wanted), "{message}");
        output.status.code()
    };
    let wrong = |args: &[&str], wanted: &str| assert_eq!(refused(args, wanted), Some(2));
    wrong(&["layers", "resnet50", "--width", "0.5"], "one width");
    wrong(&["layers", "inceptionv3", "--input", "3x32x32"], "75×75");
    wrong(&["layers", "resnet8", "--input", "32x32"], "3x224x224");
    let missing = refused(&["layers", "resnet51"], "no network `resnet51` built in");
    assert_eq!(missing, Some(1));
    let Some(path) = model("resnet20_cifar10.onnx") else {
        return;
    };
    wrong(&["layers", &path, "--input", "3x64x64"], "3×32×32");
    wrong(&["layers", &path, "--classes", "10"], "--classes");
    assert!(counted(&[&path, "--input", "3x32x32"]).0 > 0);
}

#[test]
fn an_exported_network_computes_what_its_name_does() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
    let x = candle_core::Tensor::randn(0f32, 1.0, (2, 3, 64, 32), &candle_core::Device::Cpu);
    x.unwrap().write_npy(at("x.npy")).unwrap();
    let done = |args: &[&str]| {
        let output = edgelesspart(args);
        let message = String::from_utf8_lossy(&output.stderr).to_string();
        assert!(output.status.success(), "{message}");
    };
    let small = ["--classes", "10", "--width", "0.5", "--seed", "3"];
    let shape = ["--shape", "3x64x32"];
    let files = ["--input", &at("x.npy"), "--output"];
    let y = at("y.npy");
    let name = [&["infer", "mobilenetv2"], &files[..], &[&y]].concat();
    done(&[&name[..], &small, &shape].concat());
    for (file, fused) in [("plain", None), ("fused", Some("--fused"))] {
        let onnx = at(&format!("{file}.onnx"));
        let export = ["export", "mobilenetv2", &onnx, "--input", "3x64x32"];
        let export: Vec<&str> = export.into_iter().chain(small).chain(fused).collect();
        done(&export);
        done(&[&["infer", &onnx], &files[..], &[&at(file)]].concat());
        let read = |path: String| {
            let tensor = candle_core::Tensor::read_npy(path).unwrap();
            tensor.to_vec2::<f32>().unwrap()
        };
        let (found, expected) = (read(at(file)), read(y.clone()));
        assert_eq!(found, expected, "{file}");
        assert_ne!(found[0], found[1]);
    }
}

#[test]
fn the_demo_network_is_inside() {
    let (params, input) = counted(&["demo"]);
    assert!(params > 0 && input.contains("3×32×32"), "{input}");
    let output = edgelesspart(&["layers", "demo", "--seed", "1"]);
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn profile_prints_one_json_document_with_a_row_a_layer() {
    let Some(path) = model("resnet20_cifar10.onnx") else {
        return;
    };
    let run = |args: &[&str]| edgelesspart(&[&["profile", &path], args].concat());
    let output = run(&["--runs", "5", "--batch", "2", "--threads", "1", "--json"]);
    assert!(output.status.success());
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let layers = document["layers"].as_array().unwrap();
    assert_eq!(layers.len(), 25);
    for layer in layers {
        assert!(layer["ms"].as_f64().unwrap() > 0.0, "{layer}");
        assert!(layer["bytes"].as_u64().unwrap() > 0, "{layer}");
        assert!(layer["name"].is_string());
    }
    let total = &document["total_ms"];
    let of = |key: &str| total[key].as_f64().unwrap();
    assert!(0.0 < of("min") && of("min") <= of("median") && of("median") <= of("p95"));
    assert_eq!(document["samples_ms"].as_array().unwrap().len(), 5);
    assert_eq!(
        (&document["batch"], &document["threads"]),
        (&2.into(), &1.into())
    );
    assert_eq!(run(&["--batch", "0"]).status.code(), Some(2));
    let text = String::from_utf8(run(&["--runs", "5"]).stdout).unwrap();
    assert_eq!(text.lines().count(), 3 + 25 + 2, "{text}");
}
