//! Whole networks against the outputs other runtimes gave for them, at the batch size of the
//! reference and one by one.

use candle_core::{DType, Tensor};
use edgelesspart::backend::{
    Backend, BackendId, Candle, CandleDevice, CompileOptions, Compiled, Provider,
};
use edgelesspart::engine::{Cancel, Engine, Isa, Options};
use edgelesspart::model::fuse::fuse;
use edgelesspart::model::onnx::import_file;
use rstest::rstest;
use std::path::Path;

fn npy(path: &str) -> (Vec<usize>, Vec<f32>) {
    let tensor = Tensor::read_npy(path)
        .unwrap()
        .to_dtype(DType::F32)
        .unwrap();
    (
        tensor.dims().to_vec(),
        tensor.flatten_all().unwrap().to_vec1().unwrap(),
    )
}

#[rstest]
#[case("cifar10/resnet20_cifar10")]
#[case("cifar10/resnet8_float")]
#[case("torchvision/resnet50_32")]
#[case("torchvision/mobilenetv2_32")]
#[case("torchvision/inceptionv3_75")]
fn agrees_with_the_reference(#[case] name: &str) {
    let base = format!(
        concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/models/{}"),
        name
    );
    if !Path::new(&format!("{base}.onnx")).is_file() {
        println!("skipped: no {base}.onnx");
        return;
    }
    let graph = import_file(Path::new(&format!("{base}.onnx"))).unwrap();
    let graph = fuse(&graph);
    let kernels = Isa::ALL.into_iter().filter(|isa| isa.runs_here());
    for isa in kernels {
        let options = Options::default();
        let engine = Engine::with_kernels(graph.clone(), &options, Some(isa)).unwrap();
        agrees(&format!("{isa:?}"), &engine, &base);
    }
    // What a GPU would run.
    let candle = Candle::open(CandleDevice::Cpu).unwrap();
    let network = candle.compile(graph.clone(), &CompileOptions::default());
    agrees("candle", &*network.unwrap(), &base);
    // What the exporter writes, run by another runtime.
    for provider in [Provider::Cpu, Provider::OpenVino] {
        match BackendId::OnnxRuntime(provider).open() {
            Ok(runtime) => {
                let network = runtime.compile(graph.clone(), &CompileOptions::default());
                agrees(&runtime.name(), &*network.unwrap(), &base);
            }
            Err(error) => println!("skipped: {error}"),
        }
    }
}

fn agrees(by: &str, engine: &dyn Compiled, base: &str) {
    let (shape, input) = npy(&format!("{base}_input.npy"));
    let (_, expected) = npy(&format!("{base}_output.npy"));
    let batch = shape[0];
    let together = engine
        .run_f32(batch, &[&input], &Cancel::new())
        .unwrap()
        .remove(0);
    let each = input.len() / batch;
    let mut apart = Vec::new();
    for sample in input.chunks(each) {
        apart.extend(
            engine
                .run_f32(1, &[sample], &Cancel::new())
                .unwrap()
                .remove(0),
        );
    }
    let largest = expected.iter().fold(0f32, |m, x| m.max(x.abs()));
    for (kind, found) in [("together", &together), ("one by one", &apart)] {
        assert_eq!(found.len(), expected.len(), "{by}, {kind}");
        for (i, (f, e)) in found.iter().zip(&expected).enumerate() {
            assert!(
                (f - e).abs() <= 1e-3 * largest,
                "{by}, {kind}: output {i} is {f}, expected {e}"
            );
        }
    }
}
