//! The ONNX backend tests, through the public path: import, fuse, run. The folder comes from
//! `ONNX_CONFORMANCE_DIR`, so that others can be run; absent, the test says so and passes.

use edgelesspart::backend::{Backend, Candle, CandleDevice, CompileOptions, Compiled};
use edgelesspart::engine::{Cancel, Engine, EngineError, Isa, Options};
use edgelesspart::model::fuse::fuse;
use edgelesspart::model::onnx::{self, ImportError, Settings, import_file, read_tensor};
use edgelesspart::model::{Constant, Data, Graph};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// Tests that can't apply to an inference runtime for classifiers, with the reason.
const NOT_APPLICABLE: &[(&str, &str)] = &[(
    "test_identity_opt",
    "its input is an optional sequence of tensors; networks here take tensors",
)];

fn folder() -> PathBuf {
    let default = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../shared/onnx-conformance/node"
    );
    std::env::var_os("ONNX_CONFORMANCE_DIR").map_or_else(|| default.into(), PathBuf::from)
}

fn tensors(set: &Path, kind: &str) -> Result<Vec<Constant>, String> {
    let mut found = Vec::new();
    for i in 0.. {
        let path = set.join(format!("{kind}_{i}.pb"));
        let Ok(bytes) = std::fs::read(&path) else {
            break;
        };
        found.push(read_tensor(&bytes, &path.display().to_string()).map_err(|e| e.to_string())?);
    }
    Ok(found)
}

fn close(found: &Constant, expected: &Constant) -> Result<(), String> {
    if found.shape != expected.shape || found.dtype() != expected.dtype() {
        return Err(format!(
            "{:?} {:?}, expected {:?} {:?}",
            found.dtype(),
            found.shape,
            expected.dtype(),
            expected.shape
        ));
    }
    let (Data::F32(f), Data::F32(e)) = (&found.data, &expected.data) else {
        return if found.data == expected.data {
            Ok(())
        } else {
            Err("integers differ".into())
        };
    };
    for (i, (&f, &e)) in f.iter().zip(e.iter()).enumerate() {
        let same = f == e || (f.is_nan() && e.is_nan()) || (f - e).abs() <= 1e-5 + 1e-3 * e.abs();
        if !same {
            return Err(format!("element {i} is {f}, expected {e}"));
        }
    }
    Ok(())
}

/// The network and the inputs left to feed. Where an op's settings (axes, pads, a shape) are inputs of
/// the test, they are bound at import; the first input is always fed.
fn import(case: &Path, inputs: Vec<Constant>) -> Result<(Graph, Vec<Constant>), String> {
    let model = case.join("model.onnx");
    match import_file(&model) {
        Ok(graph) => return Ok((graph, inputs)),
        Err(ImportError::Unbound { .. }) => {}
        Err(error) => return Err(error.to_string()),
    }
    let bytes = std::fs::read(&model).unwrap();
    let proto = candle_onnx::read_file(&model).unwrap();
    let names = proto.graph.unwrap().input.into_iter().map(|i| i.name);
    let bound: HashMap<String, Constant> = names.zip(inputs.clone()).skip(1).collect();
    let settings = Settings {
        bound,
        ..Settings::default()
    };
    let graph = onnx::import(&bytes, &model.display().to_string(), None, &settings);
    let fed = inputs.into_iter().take(1).collect();
    Ok((graph.map_err(|e| e.to_string())?, fed))
}

/// What runs the tests.
#[derive(Debug, Clone, Copy)]
enum By {
    Kernels(Isa),
    /// Candle's operations, on the CPU: what a GPU would run.
    Candle,
}

impl By {
    fn compile(self, graph: Graph) -> Result<Box<dyn Compiled>, EngineError> {
        Ok(match self {
            By::Kernels(isa) => {
                let options = Options::default();
                Box::new(Engine::with_kernels(graph, &options, Some(isa))?)
            }
            By::Candle => {
                let candle = Candle::open(CandleDevice::Cpu).unwrap();
                candle.compile(graph, &CompileOptions::default())?
            }
        })
    }
}

/// Whether it ran; the error says what is wrong. What candle has no operation for does not run.
fn run(case: &Path, by: By) -> Result<bool, String> {
    for set in 0.. {
        let set = case.join(format!("test_data_set_{set}"));
        if !set.is_dir() {
            break;
        }
        let inputs = tensors(&set, "input")?;
        let expected = tensors(&set, "output")?;
        let (graph, inputs) = import(case, inputs)?;
        let engine = match (by.compile(fuse(&graph)), by) {
            (Err(EngineError::Unsupported(unsupported)), By::Candle) => {
                println!("{}: {}", case.display(), unsupported.what);
                return Ok(false);
            }
            (engine, _) => engine.map_err(|e| e.to_string())?,
        };
        let found = engine
            .infer(&inputs, &Cancel::new())
            .map_err(|e| e.to_string())?;
        if found.len() != expected.len() {
            return Err(format!(
                "{} outputs, expected {}",
                found.len(),
                expected.len()
            ));
        }
        for (i, (f, e)) in found.iter().zip(&expected).enumerate() {
            close(f, e).map_err(|what| format!("output {i}: {what}"))?;
        }
    }
    Ok(true)
}

/// How many ran and passed.
fn all(by: By) -> usize {
    let Ok(entries) = std::fs::read_dir(folder()) else {
        println!("skipped: no folder {}", folder().display());
        return 0;
    };
    let mut cases: Vec<PathBuf> = entries.flatten().map(|e| e.path()).collect();
    cases.retain(|c| c.join("model.onnx").is_file());
    cases.sort();
    assert!(!cases.is_empty(), "{} holds no tests", folder().display());
    let (mut failures, mut passed) = (Vec::new(), 0);
    for case in &cases {
        let name = case
            .file_name()
            .map_or(String::new(), |n| n.to_string_lossy().into_owned());
        if let Some((_, reason)) = NOT_APPLICABLE.iter().find(|(n, _)| *n == name) {
            println!("{name}: not applicable: {reason}");
        } else {
            match run(case, by) {
                Ok(ran) => passed += usize::from(ran),
                Err(what) => failures.push(format!("{name}: {what}")),
            }
        }
    }
    assert!(
        failures.is_empty(),
        "{by:?}: {} of {} fail:\n{}",
        failures.len(),
        cases.len(),
        failures.join("\n")
    );
    println!("{by:?}: {passed} of {} ran and passed", cases.len());
    passed
}

#[test]
fn every_backend_test_passes_with_every_kernel() {
    for isa in Isa::ALL.into_iter().filter(|isa| isa.runs_here()) {
        all(By::Kernels(isa));
    }
}

#[test]
fn what_candle_covers_passes_too() {
    let (kernels, candle) = (all(By::Kernels(Isa::Portable)), all(By::Candle));
    // Few of them may have no operation in candle: integers, indices of maxima.
    assert!(candle * 10 >= kernels * 8, "only {candle} of {kernels}");
}
