use super::*;
use crate::backend::Compiled;
use crate::engine::{Cancel, Engine, Options};
use crate::model::op::Window;
use crate::model::{Builder, Dim};
use pretty_assertions::assert_eq;

fn numbers(n: usize, seed: u32) -> Vec<f32> {
    let mut x = seed.wrapping_mul(2_654_435_761).max(1);
    let mut next = || {
        x ^= x << 13;
        x ^= x >> 17;
        x ^= x << 5;
        x as f32 / u32::MAX as f32 - 0.4
    };
    (0..n).map(|_| next()).collect()
}

fn run(graph: &Graph, batch: usize) -> Vec<f32> {
    let input = graph.value(graph.inputs[0]).shape.elements(batch);
    let engine = Engine::new(graph.clone(), &Options { threads: 1 }).unwrap();
    let x = numbers(input, 77);
    engine
        .run_f32(batch, &[&x], &Cancel::new())
        .unwrap()
        .remove(0)
}

fn assert_same(a: &Graph, b: &Graph) {
    for (x, y) in run(a, 2).iter().zip(&run(b, 2)) {
        assert!((x - y).abs() <= 1e-5 + 1e-4 * y.abs(), "{x} is not {y}");
    }
}

fn conv(b: &mut Builder, name: &str, x: ValueId, channels: usize, seed: u32) -> ValueId {
    let cin = b.shape(x).0[1].at(1);
    let w = numbers(channels * cin * 9, seed);
    b.conv_with(name, x, w, channels, 3, 1, 1, Activation::NONE)
}

fn batch_norm(b: &mut Builder, name: &str, x: ValueId, seed: u32) -> ValueId {
    let c = b.shape(x).0[1].at(1);
    let mut inputs = vec![x];
    for (k, part) in ["scale", "shift", "mean", "variance"].iter().enumerate() {
        let mut v = numbers(c, seed + k as u32);
        if k == 3 {
            v.iter_mut().for_each(|x| *x = x.abs() + 0.1);
        }
        inputs.push(b.constant(&format!("{name}.{part}"), Constant::f32(&[c], v)));
    }
    let shape = b.shape(x).clone();
    b.node(name, Op::BatchNorm { epsilon: 1e-5 }, &inputs, shape, 2 * c)
}

fn relu(b: &mut Builder, name: &str, x: ValueId) -> ValueId {
    let shape = b.shape(x).clone();
    b.node(name, Op::Unary(Unary::Relu), &[x], shape, 0)
}

fn add(b: &mut Builder, name: &str, x: ValueId, y: ValueId) -> ValueId {
    let shape = b.shape(x).clone();
    let op = Op::Binary(Binary::Add, Activation::NONE);
    b.node(name, op, &[x, y], shape, 0)
}

/// A residual block with a projection, as ResNets have them.
fn block() -> Graph {
    let mut b = Builder::new("block");
    let x = b.input("x", Shape::batched(&[3, 6, 6]));
    let c1 = conv(&mut b, "conv1", x, 4, 1);
    let n1 = batch_norm(&mut b, "bn1", c1, 10);
    let r1 = relu(&mut b, "relu1", n1);
    let c2 = conv(&mut b, "conv2", r1, 4, 2);
    let n2 = batch_norm(&mut b, "bn2", c2, 20);
    let c3 = conv(&mut b, "down", x, 4, 3);
    let n3 = batch_norm(&mut b, "bn3", c3, 30);
    let sum = add(&mut b, "add", n2, n3);
    let out = relu(&mut b, "out", sum);
    b.output(out);
    b.finish()
}

fn names(graph: &Graph) -> Vec<&str> {
    graph.nodes.iter().map(|n| n.name.as_str()).collect()
}

#[test]
fn a_residual_block_becomes_its_convolutions() {
    let g = block();
    let fused = fuse(&g);
    assert_eq!(names(&fused), ["conv1", "down", "conv2"]);
    let out = |i: usize| fused.value(fused.nodes[i].outputs[0]).name.as_str();
    assert_eq!([out(0), out(1), out(2)], ["relu1", "bn3", "out"]);
    assert!(matches!(
        fused.nodes[2].op,
        Op::Conv { residual: true, bias: true, activation, .. } if activation == Activation::RELU
    ));
    let params = |g: &Graph| g.nodes.iter().map(|n| n.params).sum::<usize>();
    assert_eq!(params(&fused), params(&g));
    assert_same(&fused, &g);
}

#[test]
fn fusing_twice_changes_nothing() {
    let once = fuse(&block());
    assert_eq!(fuse(&once), once);
}

#[test]
fn a_value_read_twice_or_returned_is_kept() {
    let mut b = Builder::new("g");
    let x = b.input("x", Shape::batched(&[3, 4, 4]));
    let c = conv(&mut b, "conv", x, 3, 1);
    let r = relu(&mut b, "relu", c);
    let s = add(&mut b, "add", c, r);
    b.output(s);
    b.output(c);
    let g = b.finish();
    let fused = fuse(&g);
    assert_eq!(names(&fused), ["conv", "relu", "add"]);
    assert_same(&fused, &g);
}

#[test]
fn a_convolution_waits_for_a_shortcut_that_comes_after_it() {
    let mut b = Builder::new("g");
    let x = b.input("x", Shape::batched(&[3, 4, 4]));
    let c = conv(&mut b, "conv", x, 3, 1);
    let t = b.node(
        "tanh",
        Op::Unary(Unary::Tanh),
        &[x],
        Shape::batched(&[3, 4, 4]),
        0,
    );
    let s = add(&mut b, "add", c, t);
    b.output(s);
    let g = b.finish();
    let fused = fuse(&g);
    assert_eq!(names(&fused), ["tanh", "conv"]);
    assert_same(&fused, &g);
}

#[test]
fn a_batch_norm_before_a_convolution_is_left_alone() {
    let mut b = Builder::new("g");
    let x = b.input("x", Shape::batched(&[3, 4, 4]));
    let n = batch_norm(&mut b, "bn", x, 5);
    let c = conv(&mut b, "conv", n, 3, 1);
    b.output(c);
    let g = b.finish();
    assert_eq!(fuse(&g), g);
}

#[test]
fn weights_that_two_convolutions_share_are_not_changed_for_both() {
    let mut b = Builder::new("g");
    let x = b.input("x", Shape::batched(&[3, 4, 4]));
    let w = b.constant("w", Constant::f32(&[3, 3, 1, 1], numbers(9, 3)));
    let op = Op::Conv {
        window: Window::square(1, 1, 0),
        groups: 1,
        bias: false,
        residual: false,
        activation: Activation::NONE,
    };
    let shape = Shape::batched(&[3, 4, 4]);
    let a = b.node("a", op.clone(), &[x, w], shape.clone(), 9);
    let n = batch_norm(&mut b, "bn", a, 5);
    let c = b.node("c", op, &[n, w], shape, 0);
    b.output(c);
    let g = b.finish();
    let fused = fuse(&g);
    assert_eq!(names(&fused), ["a", "c"]);
    assert_same(&fused, &g);
}

#[test]
fn factors_and_offsets_a_channel_go_into_the_weights() {
    let mut b = Builder::new("g");
    let x = b.input("x", Shape::batched(&[3, 4, 4]));
    let c = conv(&mut b, "conv", x, 4, 1);
    let shape = b.shape(c).clone();
    let k = b.constant("k", Constant::f32(&[4, 1, 1], numbers(4, 9)));
    let o = b.constant("o", Constant::f32(&[1, 4, 1, 1], numbers(4, 8)));
    let mul = Op::Binary(Binary::Mul, Activation::NONE);
    let m = b.node("mul", mul, &[k, c], shape, 4);
    let s = add(&mut b, "add", m, o);
    b.output(s);
    let g = b.finish();
    let fused = fuse(&g);
    assert_eq!(names(&fused), ["conv"]);
    assert_same(&fused, &g);

    // Along the width it is no factor a channel.
    let mut b = Builder::new("g");
    let x = b.input("x", Shape::batched(&[3, 4, 4]));
    let c = conv(&mut b, "conv", x, 4, 1);
    let shape = b.shape(c).clone();
    let k = b.constant("k", Constant::f32(&[4], numbers(4, 9)));
    let m = b.node(
        "mul",
        Op::Binary(Binary::Mul, Activation::NONE),
        &[c, k],
        shape,
        4,
    );
    b.output(m);
    assert_eq!(names(&fuse(&b.finish())), ["conv", "mul"]);
}

#[test]
fn a_product_and_its_bias_become_a_classifier() {
    let mut b = Builder::new("g");
    let x = b.input("x", Shape::batched(&[6]));
    let w = b.constant("w", Constant::f32(&[6, 3], numbers(18, 3)));
    let o = b.constant("o", Constant::f32(&[3], numbers(3, 4)));
    let p = b.node("fc", Op::MatMul, &[x, w], Shape::batched(&[3]), 18);
    let s = add(&mut b, "bias", p, o);
    let softmax = Op::Softmax {
        axis: 1,
        flatten: false,
        log: false,
    };
    let y = b.node("softmax", softmax, &[s], Shape::batched(&[3]), 0);
    b.output(y);
    let g = b.finish();
    let fused = fuse(&g);
    assert_eq!(names(&fused), ["fc", "softmax"]);
    assert_same(&fused, &g);
    assert!(ends_in_softmax(&fused));
    let logits = without_softmax(&fused);
    assert_eq!(names(&logits), ["fc"]);
    assert!(!ends_in_softmax(&logits));
    assert_eq!(logits.value(logits.outputs[0]).name, "bias");
    assert_eq!(without_softmax(&logits), logits);
}

#[test]
fn dequantised_weights_are_folded_and_nothing_crosses_a_quantisation() {
    let mut b = Builder::new("g");
    let x = b.input("x", Shape::batched(&[2, 3, 3]));
    let q: Vec<i8> = (0..18).map(|i| (i * 7 % 23) as i8 - 11).collect();
    let q = Constant {
        shape: vec![3, 2, 3],
        data: crate::model::Data::I8(std::sync::Arc::new(q)),
    };
    let q = b.constant("q", q);
    let scales = b.constant("scales", Constant::f32(&[3], vec![0.1, 0.2, 0.3]));
    let w = b.node(
        "dq",
        Op::Dequantize { axis: 0 },
        &[q, scales],
        Shape::fixed(&[3, 2, 3]),
        18,
    );
    let to = [3, 2, 3, 1].map(Dim::Fixed).to_vec();
    let w = b.node(
        "r",
        Op::Reshape { to },
        &[w],
        Shape::fixed(&[3, 2, 3, 1]),
        0,
    );
    let op = Op::Conv {
        window: Window {
            kernel: vec![3, 1],
            strides: vec![1; 2],
            dilations: vec![1; 2],
            pads: vec![(1, 1), (0, 0)],
        },
        groups: 1,
        bias: false,
        residual: false,
        activation: Activation::NONE,
    };
    let c = b.node("conv", op, &[x, w], Shape::batched(&[3, 3, 3]), 0);
    let scale = b.constant("s", Constant::f32(&[], vec![0.05]));
    let to = DType::U8;
    let codes = b.value("codes", to, Shape::batched(&[3, 3, 3]));
    let d = b.node("r0", Op::Identity, &[c], Shape::batched(&[3, 3, 3]), 0);
    let mut g = {
        let r = relu(&mut b, "relu", codes);
        b.output(r);
        b.finish()
    };
    // Quantize by hand, since the builder makes floats only.
    let relu = g.nodes.pop().unwrap();
    let back = ValueId(g.values.len() as u32);
    g.values.push(Value {
        name: "back".into(),
        dtype: DType::F32,
        shape: Shape::batched(&[3, 3, 3]),
    });
    let node = |name: &str, op, inputs, output| Node {
        name: name.into(),
        op,
        inputs,
        outputs: vec![output],
        params: 0,
    };
    let quantize = Op::Quantize { axis: 0, to };
    g.nodes
        .push(node("quantize", quantize, vec![d, scale], codes));
    let dequantize = Op::Dequantize { axis: 0 };
    g.nodes
        .push(node("dequantize", dequantize, vec![codes, scale], back));
    g.nodes.push(Node {
        inputs: vec![back],
        ..relu
    });
    let fused = fuse(&g);
    assert_eq!(names(&fused), ["conv", "quantize", "dequantize", "relu"]);
    assert_eq!(fused.nodes[0].params, 18);
    assert_same(&fused, &g);
}
