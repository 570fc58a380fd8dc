use super::*;
use crate::model::op::{PoolKind, Reduction, Window};
use crate::model::{Activation, Builder, Shape};
use rstest::rstest;

fn floats(n: usize, seed: u32) -> Vec<f32> {
    let at = |i: u32| (i ^ seed.wrapping_mul(97)).wrapping_mul(2_654_435_761) >> 12;
    (0..n as u32)
        .map(|i| (at(i) % 2001) as f32 / 1000.0 - 1.0)
        .collect()
}

fn noise(shape: &[usize], seed: u32) -> Tensor {
    let n: usize = shape.iter().product();
    Tensor::from_vec(floats(n, seed), shape, &Device::Cpu).unwrap()
}

fn all(t: &Tensor) -> Vec<f32> {
    t.flatten_all().unwrap().to_vec1().unwrap()
}

/// A constant of noise around `level`.
fn parameter(b: &mut Builder, name: &str, shape: &[usize], seed: u32, level: f32) -> ValueId {
    let values = floats(shape.iter().product(), seed);
    let values = values.iter().map(|v| v + level).collect();
    b.constant(name, Constant::f32(shape, values))
}

/// Compares the gradients of `Σ f(x) · noise` by the input and by each parameter with finite
/// differences at some elements of each. Returns what `f` gives.
fn check(graph: Graph, x: &Tensor, dropout: &[(ValueId, f32)], tolerance: f64) -> Tensor {
    let net = TrainableGraph::new(&graph).unwrap();
    let cancel = Cancel::new();
    let run = Run {
        input_gradients: true,
        dropout,
        seed: 3,
        cancel: &cancel,
    };
    let forward = || {
        let inputs = std::slice::from_ref(x);
        net.record(inputs, &graph.outputs, &run).unwrap()
    };
    let (y, tape) = forward();
    let seeds = graph.outputs.iter().zip(&y);
    let seeds = seeds
        .map(|(&id, y)| (id, floats(y.elem_count(), 5)))
        .collect();
    let grads = tape.backward(seeds, &cancel).unwrap();
    let loss = || -> f64 {
        let (y, _) = forward();
        let terms = y.iter().flat_map(|y| {
            let weigh = floats(y.elem_count(), 5);
            all(y).into_iter().zip(weigh)
        });
        terms.map(|(y, w)| f64::from(y) * f64::from(w)).sum()
    };
    let params = net.parameters();
    let ids = params.iter().map(|p| (p.id, p.tensor));
    for (id, tensor) in ids.chain([(graph.inputs[0], x)]) {
        let grad = grads.get(id).unwrap();
        let start = all(tensor);
        assert_eq!(grad.len(), start.len());
        for i in (0..start.len()).step_by(start.len().div_ceil(17)) {
            let at = |step: f32| {
                super::tensor::change(tensor, |v| v[i] = start[i] + step).unwrap();
                loss()
            };
            let step = 1e-2f32;
            let slope = (at(step) - at(-step)) / f64::from(2.0 * step);
            at(0.0);
            let error = (slope - f64::from(grad[i])).abs();
            assert!(
                error < tolerance * (1.0 + slope.abs()),
                "`{}`[{i}]: {} for {slope}",
                graph.value(id).name,
                grad[i]
            );
        }
    }
    y[0].clone()
}

fn window(k: [usize; 2], s: [usize; 2], d: [usize; 2], p: [(usize, usize); 2]) -> Window {
    Window {
        kernel: k.into(),
        strides: s.into(),
        dilations: d.into(),
        pads: p.into(),
    }
}

#[rstest]
#[case::same(3, 5, 1, [9, 8], window([3, 3], [1, 1], [1, 1], [(1, 1); 2]))]
#[case::wide(2, 7, 1, [5, 19], window([3, 3], [1, 1], [1, 1], [(1, 1); 2]))]
#[case::pointwise(6, 9, 1, [3, 5], window([1, 1], [1, 1], [1, 1], [(0, 0); 2]))]
#[case::pointwise_stride(4, 3, 1, [7, 16], window([1, 1], [2, 2], [1, 1], [(0, 0); 2]))]
#[case::strided(3, 4, 1, [8, 15], window([3, 3], [2, 2], [1, 1], [(0, 1), (0, 1)]))]
#[case::narrow_strided(3, 4, 1, [5, 5], window([3, 3], [2, 2], [1, 1], [(1, 1); 2]))]
#[case::uneven(3, 4, 1, [11, 17], window([5, 2], [3, 2], [1, 1], [(2, 0), (0, 3)]))]
#[case::dilated(2, 3, 1, [9, 16], window([3, 3], [1, 2], [2, 3], [(2, 2), (3, 1)]))]
#[case::grouped(6, 4, 2, [6, 8], window([3, 3], [1, 1], [1, 1], [(1, 1); 2]))]
#[case::grouped_narrow(6, 8, 2, [3, 3], window([3, 3], [1, 1], [1, 1], [(1, 1); 2]))]
#[case::depthwise(5, 5, 5, [7, 9], window([3, 3], [2, 2], [1, 1], [(1, 1); 2]))]
#[case::pad_beyond(2, 2, 1, [4, 8], window([1, 1], [1, 1], [1, 1], [(1, 2), (2, 1)]))]
fn convolution(
    #[case] cin: usize,
    #[case] cout: usize,
    #[case] groups: usize,
    #[case] size: [usize; 2],
    #[case] window: Window,
) {
    let k = (window.kernel[0], window.kernel[1]);
    let x = noise(&[3, cin, size[0], size[1]], 1);
    let mut b = Builder::new("conv");
    let from = b.input("x", Shape::batched(&[cin, size[0], size[1]]));
    let w = parameter(&mut b, "w", &[cout, cin / groups, k.0, k.1], 2, 0.0);
    let c = parameter(&mut b, "b", &[cout], 3, 0.0);
    let shape = b.windowed(from, cout, &window);
    let op = Op::Conv {
        window: window.clone(),
        groups,
        bias: true,
        residual: false,
        activation: Activation::NONE,
    };
    let y = b.node("y", op, &[from, w, c], shape, 0);
    b.output(y);
    let y = check(b.finish(), &x, &[], 5e-3);
    let w = noise(&[cout, cin / groups, k.0, k.1], 2);
    let plain = plain_conv(&x, &w, &noise(&[cout], 3), &window, groups, y.dims());
    for (y, p) in all(&y).iter().zip(all(&plain)) {
        assert!((y - p).abs() < 1e-4, "{y} {p}");
    }
}

/// The definition, output by output.
fn plain_conv(
    x: &Tensor,
    w: &Tensor,
    b: &Tensor,
    win: &Window,
    groups: usize,
    y: &[usize],
) -> Tensor {
    let (xd, wd) = (x.dims().to_vec(), w.dims().to_vec());
    let all = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let (x, w, b) = (all(x), all(w), all(b));
    let mut out = Vec::new();
    for n in 0..y[0] {
        for co in 0..y[1] {
            for i in 0..y[2] {
                for j in 0..y[3] {
                    let mut sum = b[co];
                    for c in 0..wd[1] {
                        for p in 0..wd[2] {
                            for q in 0..wd[3] {
                                let h = i * win.strides[0] + p * win.dilations[0];
                                let v = j * win.strides[1] + q * win.dilations[1];
                                let (h, v) =
                                    (h.wrapping_sub(win.pads[0].0), v.wrapping_sub(win.pads[1].0));
                                if h < xd[2] && v < xd[3] {
                                    let ci = co / (y[1] / groups) * wd[1] + c;
                                    sum += x[((n * xd[1] + ci) * xd[2] + h) * xd[3] + v]
                                        * w[((co * wd[1] + c) * wd[2] + p) * wd[3] + q];
                                }
                            }
                        }
                    }
                    out.push(sum);
                }
            }
        }
    }
    let n = out.len();
    Tensor::from_vec(out, n, &Device::Cpu).unwrap()
}

/// One op between an input `[3, 4, 6]` (batch 2) and the output, with constants behind it.
fn one(op: Op, to: &[usize], constants: &[(&[usize], f32)]) -> (Graph, Tensor) {
    let mut b = Builder::new("one");
    let mut ins = vec![b.input("x", Shape::batched(&[3, 4, 6]))];
    for (i, (shape, level)) in constants.iter().enumerate() {
        ins.push(parameter(
            &mut b,
            &format!("c{i}"),
            shape,
            i as u32 + 7,
            *level,
        ));
    }
    let y = b.node("y", op, &ins, Shape::batched(to), 0);
    b.output(y);
    (b.finish(), noise(&[2, 3, 4, 6], 1))
}

#[rstest]
#[case::norm(Op::BatchNorm { epsilon: 1e-5 }, vec![3, 4, 6], vec![(vec![3], 2.0), (vec![3], 0.0), (vec![3], 0.0), (vec![3], 2.0)])]
#[case::global_mean(Op::GlobalPool { average: true }, vec![3, 1, 1], vec![])]
#[case::reshape(Op::Reshape { to: Shape::batched(&[72]).0 }, vec![72], vec![])]
#[case::transpose(Op::Transpose { perm: vec![0, 2, 3, 1] }, vec![4, 6, 3], vec![])]
#[case::layer_norm(Op::LayerNorm { axis: 3, epsilon: 1e-5 }, vec![3, 4, 6], vec![(vec![6], 2.0), (vec![6], 0.0)])]
#[case::matmul(Op::MatMul, vec![3, 4, 5], vec![(vec![6, 5], 0.0)])]
#[case::reduce(Op::Reduce { kind: Reduction::Mean, axes: vec![2, 3], keep: false }, vec![3], vec![])]
fn single_ops(#[case] op: Op, #[case] to: Vec<usize>, #[case] constants: Vec<(Vec<usize>, f32)>) {
    let constants: Vec<_> = constants.iter().map(|(s, l)| (s.as_slice(), *l)).collect();
    let (graph, x) = one(op, &to, &constants);
    check(graph, &x, &[], 2e-2);
}

#[rstest]
fn linear(#[values(false, true)] turned: bool, #[values(false, true)] bias: bool) {
    let mut b = Builder::new("linear");
    let x = b.input("x", Shape::batched(&[7]));
    let shape: &[usize] = if turned { &[5, 7] } else { &[7, 5] };
    let mut ins = vec![x, parameter(&mut b, "w", shape, 2, 0.0)];
    if bias {
        ins.push(parameter(&mut b, "b", &[5], 3, 0.0));
    }
    let op = Op::Gemm {
        trans_a: false,
        trans_b: turned,
        alpha: 1.0,
        beta: 1.0,
        activation: Activation::NONE,
    };
    let y = b.node("y", op, &ins, Shape::batched(&[5]), 0);
    b.output(y);
    check(b.finish(), &noise(&[3, 7], 1), &[], 5e-3);
}

/// A value read three times, joined, added, clamped, cut and dropped.
#[test]
fn branches_meet() {
    let mut b = Builder::new("net");
    let x = b.input("x", Shape::batched(&[2, 4, 5]));
    let conv = |b: &mut Builder, name: &str, x, cin: usize, activation| {
        let op = |residual| Op::Conv {
            window: Window::square(3, 1, 1),
            groups: 1,
            bias: false,
            residual,
            activation,
        };
        let w = parameter(b, &format!("{name}.w"), &[2, cin, 3, 3], 4, 0.1);
        let shape = Shape::batched(&[2, 4, 5]);
        let residual = cin == 2 && name != "a";
        let ins = if residual { vec![x, w, x] } else { vec![x, w] };
        b.node(name, op(residual), &ins, shape, 0)
    };
    let far = Activation {
        low: -9.0,
        high: 9.0,
    };
    let a = conv(&mut b, "a", x, 2, far);
    let c = conv(&mut b, "c", a, 2, far);
    let both = b.node(
        "cat",
        Op::Concat { axis: 1 },
        &[a, c],
        Shape::batched(&[4, 4, 5]),
        0,
    );
    let d = conv(&mut b, "d", both, 4, Activation::NONE);
    let add = Op::Binary(Binary::Add, far);
    let sum = b.node("sum", add, &[d, a], Shape::batched(&[2, 4, 5]), 0);
    let split = Op::Split {
        axis: 1,
        sizes: vec![1, 1],
    };
    let y = b.node("split", split, &[sum], Shape::batched(&[1, 4, 5]), 0);
    b.output(y);
    let mut graph = b.finish();
    let mut other = graph.value(y).clone();
    other.name = "rest".into();
    graph.values.push(other);
    let rest = ValueId(graph.values.len() as u32 - 1);
    graph.nodes.last_mut().unwrap().outputs.push(rest);
    check(graph.clone(), &noise(&[3, 2, 4, 5], 1), &[(d, 0.4)], 2e-2);
    graph.outputs.push(rest);
    check(graph, &noise(&[3, 2, 4, 5], 1), &[], 2e-2);
}

#[test]
fn dropout_drops_its_share_and_keeps_the_mean() {
    let (graph, _) = one(Op::Identity, &[3, 4, 6], &[]);
    let (y, ones) = (
        graph.outputs[0],
        Tensor::ones((500, 3, 4, 6), candle_core::DType::F32, &Device::Cpu).unwrap(),
    );
    let net = TrainableGraph::new(&graph).unwrap();
    let cancel = Cancel::new();
    let run = |seed| {
        let run = Run {
            dropout: &[(y, 0.25)],
            seed,
            input_gradients: true,
            cancel: &cancel,
        };
        all(&net
            .record(std::slice::from_ref(&ones), &[y], &run)
            .unwrap()
            .0[0])
    };
    let first = run(1);
    let n = first.len() as f32;
    let zeros = first.iter().filter(|v| **v == 0.0).count() as f32;
    assert!((zeros / n - 0.25).abs() < 0.01, "{zeros} of {n}");
    assert!((first.iter().sum::<f32>() / n - 1.0).abs() < 0.02);
    assert_eq!(first, run(1));
    assert_ne!(first, run(2));
    // As in inference nothing is dropped.
    let plain = net.forward(std::slice::from_ref(&ones), &[y]).unwrap();
    assert!(all(&plain[0]).iter().all(|v| *v == 1.0));
}

#[test]
fn a_stop_is_heard_on_both_ways() {
    let (graph, x) = one(Op::GlobalPool { average: true }, &[3, 1, 1], &[]);
    let net = TrainableGraph::new(&graph).unwrap();
    let cancel = Cancel::new();
    let mut run = Run::new(&cancel);
    run.input_gradients = true;
    let (y, tape) = net
        .record(std::slice::from_ref(&x), &graph.outputs, &run)
        .unwrap();
    cancel.cancel();
    let seeds = vec![(graph.outputs[0], vec![1.0; y[0].elem_count()])];
    let back = tape.backward(seeds, &cancel);
    assert!(matches!(back, Err(EngineError::Cancelled)));
    let forth = net.record(std::slice::from_ref(&x), &graph.outputs, &run);
    assert!(matches!(forth, Err(EngineError::Cancelled)));
}

#[rstest]
#[case::max(PoolKind::Max, vec![0, 0])]
#[case::mean(PoolKind::Average { count_include_pad: false }, vec![0, 0])]
#[case::mean_padded(PoolKind::Average { count_include_pad: true }, vec![0, 1])]
fn pooling(#[case] kind: PoolKind, #[case] extra: Vec<usize>) {
    // Distinct values a step apart, so that no finite difference crosses a maximum.
    let n = 2 * 3 * 7 * 8;
    let values: Vec<f32> = (0..n as u32)
        .map(|i| (i * 211 % 337) as f32 * 0.05)
        .collect();
    let x = Tensor::from_vec(values, (2, 3, 7, 8), &Device::Cpu).unwrap();
    let mut b = Builder::new("pool");
    let from = b.input("x", Shape::batched(&[3, 7, 8]));
    let window = window([3, 3], [2, 2], [1, 1], [(1, 1), (1, 1)]);
    let shape = b.windowed(from, 3, &window);
    let op = Op::Pool {
        kind,
        window,
        column_major: false,
        extra,
    };
    let y = b.node("y", op, &[from], shape, 0);
    b.output(y);
    check(b.finish(), &x, &[], 1e-2);
}

/// Batch norm with the ReLU behind it, and what the running statistics make of two batches.
#[test]
fn batch_norm_normalises_and_remembers() {
    let mut b = Builder::new("norm");
    let x = b.input("x", Shape::batched(&[4, 2, 5]));
    let ins = [
        ("scale", 2.0),
        ("shift", 0.0),
        ("mean", 0.0),
        ("variance", 2.0),
    ];
    let mut ins: Vec<ValueId> = ins
        .iter()
        .zip(2..)
        .map(|((name, level), seed)| parameter(&mut b, name, &[4], seed, *level))
        .collect();
    ins.insert(0, x);
    let shape = Shape::batched(&[4, 2, 5]);
    let norm = b.node(
        "norm",
        Op::BatchNorm { epsilon: 1e-5 },
        &ins,
        shape.clone(),
        0,
    );
    let relu = Op::Unary(crate::model::op::Unary::Relu);
    let y = b.node("y", relu, &[norm], shape, 0);
    b.output(y);
    let graph = b.finish();
    let x = (noise(&[3, 4, 2, 5], 1) * 2.0).unwrap();
    let net = TrainableGraph::new(&graph).unwrap();
    let cancel = Cancel::new();
    let batch = std::slice::from_ref(&x);
    let (clamped, _) = net.record(batch, &[y], &Run::new(&cancel)).unwrap();
    let state = net.state().unwrap();
    let (both, _) = net.record(batch, &[norm, y], &Run::new(&cancel)).unwrap();
    let (plain, shift) = (all(&both[0]), all(&noise(&[4], 3)));
    for (c, shift) in shift.iter().enumerate() {
        let planes = plain.chunks_exact(10).skip(c).step_by(4);
        let mean = planes.flatten().sum::<f32>() / 30.0;
        assert!((mean - shift).abs() < 1e-5, "{mean} {shift}");
        let planes = all(&x);
        let values: Vec<f64> = planes
            .chunks_exact(10)
            .skip(c)
            .step_by(4)
            .flatten()
            .map(|&v| v.into())
            .collect();
        let mean = values.iter().sum::<f64>() / 30.0;
        let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / 29.0;
        let old = f64::from(floats(4, 5)[c]) + 2.0;
        let now = f64::from(all(&state["variance"])[c]);
        assert!((now - (0.9 * old + 0.1 * variance)).abs() < 1e-5);
    }
    let relu: Vec<f32> = plain.iter().map(|v| v.max(0.0)).collect();
    assert_eq!(relu, all(&clamped[0]));
    assert_eq!(relu, all(&both[1]));
}

/// Frozen norms go by their running statistics, and still hand the gradient on.
#[test]
fn a_frozen_norm_stands_still() {
    let (graph, x) = one(
        Op::BatchNorm { epsilon: 1e-5 },
        &[3, 4, 6],
        &[(&[3], 2.0), (&[3], 0.0), (&[3], 0.0), (&[3], 2.0)],
    );
    let mut net = TrainableGraph::new(&graph).unwrap();
    assert_eq!(net.freeze("c"), 2);
    let cancel = Cancel::new();
    let mut run = Run::new(&cancel);
    run.input_gradients = true;
    let before = all(&net.state().unwrap()["c2"]);
    let batch = std::slice::from_ref(&x);
    let (y, tape) = net.record(batch, &graph.outputs, &run).unwrap();
    assert_eq!(
        all(&y[0]),
        all(&net.forward(batch, &graph.outputs).unwrap()[0])
    );
    let ones = vec![1.0; x.elem_count()];
    let grads = tape
        .backward(vec![(graph.outputs[0], ones)], &cancel)
        .unwrap();
    let factor = (floats(3, 7)[0] + 2.0) / (floats(3, 10)[0] + 2.0 + 1e-5).sqrt();
    let found = grads.get(graph.inputs[0]).unwrap()[0];
    assert!((found - factor).abs() < 1e-5, "{found} {factor}");
    assert!(grads.get(graph.nodes[0].inputs[1]).is_none());
    assert_eq!(all(&net.state().unwrap()["c2"]), before);
}

#[test]
fn a_fused_graph_trains_and_gives_its_weights_back() {
    let mut b = Builder::new("net");
    let x = b.input("x", Shape::batched(&[2, 6, 6]));
    let a = b.conv_with("a", x, floats(72, 1), 4, 3, 1, 1, Activation::RELU);
    let c = b.conv_with("c", a, floats(144, 2), 4, 3, 1, 1, Activation::NONE);
    b.output(c);
    let mut net = TrainableGraph::new(&b.finish()).unwrap();
    assert_eq!(net.freeze("a."), 1);
    let cancel = Cancel::new();
    let (y, tape) = net
        .record(&[noise(&[2, 2, 6, 6], 3)], &[a, c], &Run::new(&cancel))
        .unwrap();
    let grads = tape.backward(vec![(c, all(&y[1]))], &cancel).unwrap();
    let param = net.parameters()[0];
    assert_eq!(param.name, "c.weight");
    let grad = grads.get(param.id).unwrap();
    param
        .change(|w| w.iter_mut().zip(grad).for_each(|(w, g)| *w -= 0.01 * g))
        .unwrap();
    let graph = net.to_graph().unwrap();
    let id = graph.find("c.weight").unwrap();
    assert_eq!(graph.constants[&id].floats().unwrap(), all(param.tensor));
    assert_ne!(graph.constants[&id], net.graph().constants[&id]);
}
