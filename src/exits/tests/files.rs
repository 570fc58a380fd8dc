/*! Networks from files as layers. */

use super::support::{learns, noise, point, run, sound};
use crate::exits::{Diagnostic, Library, head_with};
use crate::model::export::to_onnx;
use crate::model::{Activation, Builder, Constant, Op, Shape, zoo::ZooModel};
use pretty_assertions::assert_eq;

/// A small network with a softmax: convolution, batch norm, pool, linear.
pub(super) fn network() -> Vec<u8> {
    let mut b = Builder::new("own");
    let x = b.input("in", Shape::batched(&[4, 6, 6]));
    let conv = b.conv_with("conv", x, noise(5 * 4 * 9), 5, 3, 1, 1, Activation::NONE);
    let part =
        |b: &mut Builder, name: &str, v: f32| b.constant(name, Constant::f32(&[5], vec![v; 5]));
    let norm: Vec<_> = [
        ("scale", 1.5),
        ("shift", 0.2),
        ("mean", 0.1),
        ("variance", 2.0),
    ]
    .map(|(name, v)| part(&mut b, name, v))
    .to_vec();
    let shape = Shape::batched(&[5, 6, 6]);
    let ins = [&[conv], norm.as_slice()].concat();
    let y = b.node("norm", Op::BatchNorm { epsilon: 1e-5 }, &ins, shape, 10);
    let y = b.node(
        "pool",
        Op::GlobalPool { average: true },
        &[y],
        Shape::batched(&[5, 1, 1]),
        0,
    );
    let to = Shape::batched(&[5]).0;
    let y = b.node("flat", Op::Reshape { to }, &[y], Shape::batched(&[5]), 0);
    let w = b.constant("w", Constant::f32(&[10, 5], noise(50)));
    let gemm = Op::Gemm {
        trans_a: false,
        trans_b: true,
        alpha: 1.0,
        beta: 1.0,
        activation: Activation::NONE,
    };
    let y = b.node("fc", gemm, &[y, w], Shape::batched(&[10]), 50);
    let softmax = Op::Softmax {
        axis: 1,
        flatten: false,
        log: false,
    };
    let y = b.node("probabilities", softmax, &[y], Shape::batched(&[10]), 0);
    b.output(y);
    to_onnx(&b.finish()).unwrap()
}

#[test]
fn a_network_from_a_file_is_a_head_with_its_weights() {
    let bytes = network();
    let files = |name: &str| match name {
        "own.onnx" => Ok(bytes.clone()),
        _ => Err("no such file".to_string()),
    };
    let library = Library::new().with_files(&files);
    let at = point(&[4, 6, 6]);
    let make = |source: &str| head_with(source, &at, "edge", 3, &library);
    let trained = make("[Onnx(\"own.onnx\")]").unwrap();
    let softmax = |d: &&Diagnostic| {
        d.message
            .starts_with("the softmax at the end of `own.onnx`")
    };
    assert_eq!(trained.warnings.iter().filter(softmax).count(), 1);
    sound(&trained, 1e-4).unwrap();
    assert_eq!(learns(&trained).unwrap(), 4);
    let own = crate::model::onnx::import_bytes(&bytes, "own.onnx").unwrap();
    let x = noise(2 * 4 * 36);
    let expected = run(&crate::model::without_softmax(&own), &x);
    assert_eq!(run(&trained.graph, &x), expected);
    let kept = make("[Onnx(\"own.onnx\", trainable: false)]").unwrap();
    sound(&kept, 1e-4).unwrap();
    assert_eq!(learns(&kept).unwrap(), 0);
    assert!(super::support::difference(&expected, &run(&kept.graph, &x)) < 1e-5);
    // As features for layers of one's own, which alone are trained.
    let both = make("[Relu, Onnx(\"own.onnx\", trainable: false), Linear(classes)]").unwrap();
    sound(&both, 1e-4).unwrap();
    assert_eq!(learns(&both).unwrap(), 2);
    assert_ne!(trained.hash, kept.hash);
    let error = make("[\n Onnx(\"other.onnx\")]").unwrap_err();
    assert!(
        error.diagnostics[0].message.contains("no such file"),
        "{error}"
    );
    let wrong = head_with(
        "[Onnx(\"own.onnx\")]",
        &point(&[4, 5, 5]),
        "edge",
        0,
        &library,
    );
    let wrong = wrong.unwrap_err().diagnostics.remove(0).message;
    assert_eq!(wrong, "`own.onnx` takes N×4×6×6, not N×4×5×5");
    let text = both.pytorch().unwrap();
    assert!(text.contains("(\"onnx_2\", Onnx1()),"), "{text}");
    let place = |name: &str, trained: &str| {
        let line = format!("place(self, \"{name}\", torch.zeros(");
        text.lines()
            .any(|l| l.contains(&line) && l.ends_with(&format!(", {trained})")))
    };
    assert!(place("conv.weight", "False"), "{text}");
}

#[test]
fn other_weights_in_the_file_make_another_head() {
    let network = ZooModel::ResNet { depth: 8, width: 4 };
    let hash = |seed| {
        let graph = network.build((3, 32, 32), 10, seed).unwrap();
        let bytes = to_onnx(&graph).unwrap();
        let files = move |_: &str| Ok(bytes.clone());
        let library = Library::new().with_files(&files);
        let at = point(&[3, 32, 32]);
        head_with("[Onnx(\"a.onnx\")]", &at, "edge", 0, &library)
            .unwrap()
            .hash
    };
    assert_ne!(hash(1), hash(2));
    assert_eq!(hash(1), hash(1));
}
