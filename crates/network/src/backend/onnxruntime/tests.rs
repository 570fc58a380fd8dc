//! ONNX Runtime's answers against our own engine's. Without a library the tests say so and pass; a
//! provider that the library has not is passed over likewise.

use super::super::id::{BackendError, Provider};
use super::{Any, Library, OnnxRuntime, SessionGraph, to_onnx};
use crate::backend::{Backend, CompileOptions, Compiled, Native, Timing};
use crate::engine::{Cancel, EngineError, Port};
use crate::model::fuse::fuse;
use crate::model::op::{Activation, Binary, Op};
use crate::model::zoo::ZooModel;
use crate::model::{Builder, Constant, DType, Data, Graph, Shape};
use parking_lot::Mutex;
use pretty_assertions::assert_eq;
use rstest::rstest;
use std::sync::Arc;

fn open(provider: Provider) -> Option<OnnxRuntime> {
    match OnnxRuntime::open(provider) {
        Ok(opened) => Some(opened),
        Err(error) => {
            println!("skipped: {error}");
            None
        }
    }
}

fn noise(len: usize) -> Vec<f32> {
    (0..len).map(|i| (i as f32 * 0.731).sin()).collect()
}

fn close(found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len());
    let largest = expected.iter().fold(0f32, |m, x| m.max(x.abs()));
    for (f, e) in found.iter().zip(expected) {
        assert!((f - e).abs() <= 1e-4 * largest, "{f} for {e}");
    }
}

fn small() -> Graph {
    let model = ZooModel::ResNet { depth: 8, width: 4 };
    fuse(&model.build((3, 16, 16), 10, 1).unwrap())
}

#[rstest]
#[case::resnet(Provider::Cpu, small())]
#[case::resnet_openvino(Provider::OpenVino, small())]
#[case::mobilenet(Provider::Cpu, zoo("mobilenetv2", 32))]
#[case::mobilenet_openvino(Provider::OpenVino, zoo("mobilenetv2", 32))]
#[case::inception(Provider::Cpu, zoo("inceptionv3", 75))]
fn answers_are_our_engines_at_every_batch(#[case] provider: Provider, #[case] graph: Graph) {
    let Some(runtime) = open(provider) else {
        return;
    };
    let options = CompileOptions { threads: 2 };
    let ours = Native::default().compile(graph.clone(), &options).unwrap();
    let theirs = runtime.compile(graph, &options).unwrap();
    assert_eq!((theirs.inputs(), theirs.threads()), (ours.inputs(), 2));
    assert!(matches!(theirs.timing(), Timing::Whole));
    for batch in [1, 3, 1, 2] {
        let input = noise(ours.inputs()[0].elements(batch));
        let run = |network: &dyn Compiled| {
            network
                .run_f32(batch, &[&input], &Cancel::new())
                .unwrap()
                .remove(0)
        };
        close(&run(&*theirs), &run(&*ours));
    }
}

fn zoo(name: &str, size: usize) -> Graph {
    let model: ZooModel = name.parse().unwrap();
    fuse(&model.build((3, size, size), 10, 1).unwrap())
}

#[rstest]
#[case(DType::F32, Data::F32(Arc::new(vec![1.5, -2.0])), Data::F32(Arc::new(vec![3.0, -4.0])))]
#[case(DType::I64, Data::I64(Arc::new(vec![1, -2])), Data::I64(Arc::new(vec![2, -4])))]
#[case(DType::I32, Data::I32(Arc::new(vec![1, -2])), Data::I32(Arc::new(vec![2, -4])))]
fn tensors_keep_their_type(#[case] dtype: DType, #[case] input: Data, #[case] expected: Data) {
    let Some(runtime) = open(Provider::Cpu) else {
        return;
    };
    let mut b = Builder::new("double");
    let x = b.value("x", dtype, Shape::fixed(&[2]));
    let y = b.node(
        "y",
        Op::Binary(Binary::Add, Activation::NONE),
        &[x, x],
        Shape::fixed(&[2]),
        0,
    );
    b.output(y);
    let mut graph = b.finish();
    graph.inputs = vec![x];
    graph.values[y.0 as usize].dtype = dtype;
    let network = runtime.compile(graph, &CompileOptions::default()).unwrap();
    let fed = Constant {
        shape: vec![2],
        data: input,
    };
    let found = network.infer(&[fed], &Cancel::new()).unwrap().remove(0);
    assert_eq!(found.data, expected);
}

#[test]
fn a_raised_token_stops_a_run_and_the_next_one_goes_on() {
    let Some(runtime) = open(Provider::Cpu) else {
        return;
    };
    let graph = zoo("resnet50", 64);
    let options = CompileOptions { threads: 1 };
    let network = runtime.compile(graph, &options).unwrap();
    let input = noise(network.inputs()[0].elements(64));
    let cancel = Cancel::new();
    let ended = std::thread::scope(|scope| {
        let run = scope.spawn(|| network.run_f32(64, &[&input], &cancel));
        // Until the run looks at its token for the first time: then it goes on.
        while cancel.looks() < 3 {
            std::thread::yield_now();
        }
        cancel.cancel();
        run.join().unwrap()
    });
    assert!(matches!(ended, Err(EngineError::Cancelled)), "{ended:?}");
    let one = &input[..network.inputs()[0].elements(1)];
    assert!(network.run_f32(1, &[one], &Cancel::new()).is_ok());
    assert!(matches!(
        network.run_f32(1, &[one], &cancel),
        Err(EngineError::Cancelled)
    ));
}

#[rstest]
#[case::before(1, false)]
#[case::after(2, true)]
fn a_session_for_other_batches_looks_at_the_token_around_its_making(
    #[case] look: usize,
    #[case] kept: bool,
) {
    let Some(runtime) = open(Provider::Cpu) else {
        return;
    };
    let graph = small();
    let network = SessionGraph {
        name: graph.name.clone(),
        inputs: Port::of(&graph, &graph.inputs),
        outputs: Port::of(&graph, &graph.outputs),
        threads: 1,
        one: None,
        any: Mutex::new(Any::File(to_onnx(&graph).unwrap())),
        runtime,
    };
    let mut any = network.any.lock();
    let ended = network.ready(&mut any, &Cancel::at_look(look)).map(|_| ());
    assert!(matches!(ended, Err(EngineError::Cancelled)), "{ended:?}");
    assert_eq!(matches!(*any, Any::Ready(_)), kept);
    network.ready(&mut any, &Cancel::new()).unwrap();
}

#[rstest]
#[case::tensorrt(
    Provider::TensorRt(0),
    true,
    "1.24.1",
    "ONNX Runtime 1.24.1 (tensorrt:0, TF32)"
)]
#[case::exact(Provider::TensorRt(0), false, "", "ONNX Runtime (tensorrt:0)")]
#[case::cuda(Provider::Cuda(1), false, "1.24.1", "ONNX Runtime 1.24.1 (cuda:1)")]
fn a_runtime_that_may_take_tf32_says_so(
    #[case] provider: Provider,
    #[case] tf32: bool,
    #[case] version: &str,
    #[case] name: &str,
) {
    let runtime = OnnxRuntime {
        provider,
        library: Library {
            version: version.to_string(),
            file: "libonnxruntime.so".into(),
        },
        tf32,
        cache: None,
    };
    assert_eq!(runtime.name(), name);
}

#[test]
fn a_provider_that_is_not_there_is_refused_with_its_package() {
    if open(Provider::Cpu).is_none() {
        return;
    }
    for (provider, package) in [
        (Provider::Cuda(0), "onnxruntime-gpu"),
        (Provider::TensorRt(0), "onnxruntime-gpu"),
        (Provider::OpenVino, "onnxruntime-openvino"),
    ] {
        match OnnxRuntime::open(provider) {
            Ok(_) => println!("skipped: {provider:?} is there"),
            Err(error) => {
                assert!(matches!(error, BackendError::Library { .. }), "{error}");
                assert!(error.to_string().contains(package), "{error}");
            }
        }
    }
}
