//! Networks as people bring them, each one of its kind: every file of tests/onnx gives what ONNX Runtime
//! computes of it, to 1e-5 of the largest output. `tests/onnx/make.py` writes what is expected.

use edgelesspart::backend::Compiled;
use edgelesspart::engine::{Cancel, Engine, Options};
use edgelesspart::model::export::to_onnx;
use edgelesspart::model::layers::LayerTable;
use edgelesspart::model::onnx::{self, ImportError, Outputs, Settings, import_bytes};
use edgelesspart::model::{Constant, DType, Data, Graph, fuse};
use edgelesspart::plan::TierNames;
use edgelesspart::run::{ExitSource, Network};
use pretty_assertions::assert_eq;
use rstest::rstest;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

#[derive(Deserialize)]
struct Tensor {
    shape: Vec<usize>,
    data: Vec<f32>,
}

#[derive(Deserialize)]
struct Case {
    inputs: Vec<Vec<usize>>,
    outputs: Vec<Tensor>,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/onnx")
}

fn cases() -> BTreeMap<String, Case> {
    let text = std::fs::read_to_string(folder().join("expected.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn import(name: &str, settings: Settings) -> Result<Graph, ImportError> {
    onnx::import_file_with(&folder().join(name), &settings)
}

/// As a session would import it, with all outputs.
fn whole(name: &str) -> Graph {
    let settings = Settings {
        image: Some([3, 48, 192]),
        ..Settings::default()
    };
    import(name, settings).unwrap()
}

/// Input number `at` of a case: the numbers that make.py feeds.
fn fed(shape: &[usize], dtype: DType) -> Constant {
    let whole = |i: usize| (i * 7919 % 1000) as f32 - 500.0;
    let count: usize = shape.iter().product();
    let data = match dtype {
        DType::I8 => {
            let values: Vec<i8> = (0..count).map(|i| (whole(i) / 12.5) as i8).collect();
            Data::I8(values.into())
        }
        _ => {
            let values: Vec<f32> = (0..count).map(|i| whole(i) / 250.0).collect();
            Data::F32(values.into())
        }
    };
    Constant {
        shape: shape.to_vec(),
        data,
    }
}

fn floats(constant: &Constant) -> Vec<f32> {
    match &constant.data {
        Data::F32(v) => v.to_vec(),
        Data::I8(v) => v.iter().map(|&x| f32::from(x)).collect(),
        other => panic!("{other:?}"),
    }
}

fn run(graph: &Graph, case: &Case) -> Vec<Constant> {
    let inputs = case.inputs.iter().zip(&graph.inputs);
    let inputs: Vec<Constant> = inputs
        .map(|(shape, &v)| fed(shape, graph.value(v).dtype))
        .collect();
    let engine = Engine::new(fuse(graph), &Options::default()).unwrap();
    engine.infer(&inputs, &Cancel::new()).unwrap()
}

fn differ(found: &[Constant], case: &Case) -> Option<String> {
    if found.len() != case.outputs.len() {
        return Some(format!("{} outputs", found.len()));
    }
    for (found, want) in found.iter().zip(&case.outputs) {
        if found.shape != want.shape {
            return Some(format!("{:?}, not {:?}", found.shape, want.shape));
        }
        let largest = want.data.iter().fold(0.0_f32, |m, v| m.max(v.abs()));
        let values = floats(found);
        let off = values.iter().zip(&want.data).map(|(a, b)| (a - b).abs());
        let off = off.fold(0.0_f32, f32::max);
        if off.is_nan() || off > 1e-5 * largest {
            return Some(format!("off by {off}, the largest is {largest}"));
        }
    }
    None
}

#[test]
fn every_network_gives_what_onnx_runtime_computes() {
    let cases = cases();
    assert!(cases.len() > 40, "{}", cases.len());
    let wrong: Vec<String> = cases
        .iter()
        .filter_map(|(name, case)| {
            let found = run(&whole(name), case);
            differ(&found, case).map(|what| format!("{name}: {what}"))
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_is_written_of_a_network_computes_the_same() {
    let mut wrong = Vec::new();
    for (name, case) in cases() {
        // The file's own 4-bit and 16-bit types come back as wider ones.
        let bytes = to_onnx(&whole(&name)).unwrap();
        let again = import_bytes(&bytes, &name).unwrap();
        if let Some(what) = differ(&run(&again, &case), &case) {
            wrong.push(format!("{name}: {what}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The number of places for a split; attention has its input alive throughout.
#[rstest]
#[case::tokens("vit_b1_cls.onnx", 5)]
#[case::eight("batch8_windows.onnx", 0)]
#[case::windows("batch1_windows.onnx", 0)]
#[case::filled("vit_constantofshape_float.onnx", 3)]
#[case::quantised("qoperator_u8.onnx", 2)]
fn a_batch_that_the_file_fixes_is_loosened(#[case] name: &str, #[case] splits: usize) {
    let graph = whole(name);
    assert_eq!(graph.fixed_batch, None);
    let table = LayerTable::new(&fuse(&graph)).unwrap();
    assert_eq!(table.classes, 10);
    assert_eq!(table.splits().count(), splits, "{:?}", table.why_no_split());
}

#[test]
fn samples_that_meet_keep_the_files_batch_and_say_why() {
    let settings = Settings::default();
    let graph = import("op_scatter_nd.onnx", settings).unwrap();
    let why = graph.fixed_batch.clone().unwrap();
    assert!(why.contains("may be no batch"), "{why}");
}

/// Weights count whatever their type; scales, zero points, shapes and bounds don't.
#[rstest]
#[case::operators("qoperator_u8.onnx", 216 + 8 + 576 + 8 + 72 + 8 + 160 + 10)]
#[case::sixteen_bits("qdq_a16.onnx", 216 + 8 + 576 + 8 + 72 + 8 + 160 + 10)]
// Four scales are factors of products like any other there.
#[case::dynamic("quant_dynamic.onnx", 216 + 8 + 576 + 8 + 72 + 8 + 160 + 10 + 4)]
#[case::four_bits("op_int4_blocks.onnx", 48)]
fn quantised_weights_are_parameters(#[case] name: &str, #[case] params: usize) {
    let graph = fuse(&whole(name));
    let found: usize = graph.nodes.iter().map(|n| n.params).sum();
    assert_eq!(found, params);
}

#[test]
fn of_several_outputs_the_deepest_is_the_classifiers_unless_one_is_named() {
    let settings = |outputs| Settings {
        outputs,
        ..Settings::default()
    };
    let names = |g: &Graph| -> Vec<String> {
        let names = g.outputs.iter().map(|&v| g.value(v).name.clone());
        names.collect()
    };
    let found = import("early_exit_3out.onnx", settings(Outputs::Classifier)).unwrap();
    assert_eq!(names(&found), ["exit2"]);
    assert_eq!(found.other_outputs, ["exit0", "exit1"]);
    assert!(LayerTable::new(&fuse(&found)).is_ok());
    let named = settings(Outputs::Named("exit1".into()));
    assert_eq!(
        names(&import("early_exit_3out.onnx", named).unwrap()),
        ["exit1"]
    );
    let unknown = settings(Outputs::Named("exit7".into()));
    let error = import("early_exit_3out.onnx", unknown)
        .unwrap_err()
        .to_string();
    assert!(error.contains("exit0, exit1, exit2"), "{error}");
    let constant = import("const_output.onnx", settings(Outputs::Classifier)).unwrap();
    assert_eq!(names(&constant), ["logits"]);
}

/// The heads of a file's own exits, behind the network up to them, give what ONNX Runtime computes of them.
#[test]
fn exits_that_a_file_brings_along_are_heads() {
    let settings = |outputs| Settings {
        outputs,
        ..Settings::default()
    };
    let graph = import("early_exit_3out.onnx", settings(Outputs::Classifier)).unwrap();
    let network = Network::of(graph, false).unwrap();
    let source = ExitSource::own(&network.fused).unwrap();
    assert_eq!(source.own_outputs(&network.fused), ["exit0", "exit1"]);
    let case = &cases()["early_exit_3out.onnx"];
    let mut heads = Vec::new();
    for point in &network.points {
        heads.extend(source.heads(point, &TierNames::default(), 7).unwrap());
    }
    assert_eq!(heads.len(), 2);
    for (of, wanted) in heads.iter().zip(&case.outputs) {
        let fused = &network.fused;
        let value = fused.find(&of.head.point.value).unwrap();
        let before = fused.subgraph(&fused.inputs, &[value]).unwrap();
        let features = run(&before, case);
        let engine = Engine::new(fuse(&of.head.graph), &Options::default()).unwrap();
        let found = engine.infer(&features, &Cancel::new()).unwrap();
        let largest = wanted.data.iter().fold(0.0_f32, |m, v| m.max(v.abs()));
        for (found, wanted) in floats(&found[0]).iter().zip(&wanted.data) {
            assert!((found - wanted).abs() <= 1e-5 * largest, "{found} {wanted}");
        }
    }
    // The graph of the whole file has none beside its outputs, nor has one without further outputs.
    let plain = Network::of(
        import("head_gem.onnx", settings(Outputs::Classifier)).unwrap(),
        false,
    );
    let refused = ExitSource::own(&plain.unwrap().fused).unwrap_err();
    assert!(
        refused.to_string().contains("brings no exit along"),
        "{refused}"
    );
}

/// Softmax of the scores of two classes: the second one's.
fn second(scores: &[f32]) -> f32 {
    1.0 / (1.0 + (scores[0] - scores[1]).exp())
}

fn largest(scores: &[f32]) -> f32 {
    let best = (0..scores.len()).max_by(|&a, &b| scores[a].total_cmp(&scores[b]));
    best.unwrap() as f32
}

/// What ONNX Runtime computes of the whole file, from the scores that are split here.
#[rstest]
#[case::argmax("end_argmax.onnx", 3, |s: &[f32]| vec![largest(s)], "ArgMax")]
#[case::sigmoid("end_sigmoid.onnx", 3, |s: &[f32]| s.iter().map(|x| 1.0 / (1.0 + (-x).exp())).collect(), "Sigmoid")]
#[case::logit("end_logit.onnx", 2, |s: &[f32]| vec![s[1] - s[0]], "one number")]
#[case::probability("end_probability.onnx", 2, |s: &[f32]| vec![second(s)], "Sigmoid")]
fn a_classifier_has_a_score_per_class_whatever_its_file_ends_in(
    #[case] name: &str,
    #[case] classes: usize,
    #[case] as_file: fn(&[f32]) -> Vec<f32>,
    #[case] told: &str,
) {
    let case = &cases()[name];
    let outputs = Outputs::Classifier;
    let settings = Settings {
        outputs,
        ..Settings::default()
    };
    let graph = import(name, settings).unwrap();
    assert!(graph.ending.as_ref().unwrap().contains(told));
    let scores = run(&graph, case);
    assert_eq!(scores[0].shape[1], classes);
    let found = floats(&scores[0]);
    let found: Vec<f32> = found.chunks(classes).flat_map(as_file).collect();
    let want = &case.outputs[0].data;
    assert_eq!(found.len(), want.len());
    for (a, b) in found.iter().zip(want) {
        assert!((a - b).abs() < 1e-5, "{found:?}, not {want:?}");
    }
}

#[test]
fn an_input_may_be_a_number_throughout() {
    let settings = Settings {
        numbers: vec![("meta".into(), 0.5)],
        ..Settings::default()
    };
    let graph = import("two_inputs.onnx", settings).unwrap();
    assert_eq!(graph.inputs.len(), 1);
    assert_eq!(graph.value(graph.inputs[0]).shape.to_string(), "N×3×8×8");
    let unknown = Settings {
        numbers: vec![("mata".into(), 0.5)],
        ..Settings::default()
    };
    let error = import("two_inputs.onnx", unknown).unwrap_err().to_string();
    assert!(error.contains("x, meta"), "{error}");
}

#[test]
fn an_open_size_is_asked_for() {
    let error = import("dyn_hw.onnx", Settings::default()).unwrap_err();
    assert!(error.to_string().contains("--input"), "{error}");
    assert_eq!(
        whole("dyn_hw.onnx").inputs.len(),
        1,
        "with its size it imports"
    );
}
