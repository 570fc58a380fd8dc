use super::conv::Conv;
use super::norm::BatchNorm;
use super::pool::Pool;
use super::*;
use crate::model::op::{PoolKind, Window};
use crate::model::{Activation, Builder, Shape};
use rstest::rstest;

fn noise(shape: &[usize], seed: u32) -> Tensor {
    let n: usize = shape.iter().product();
    let at = |i: u32| (i ^ seed.wrapping_mul(97)).wrapping_mul(2_654_435_761) >> 12;
    let v: Vec<f32> = (0..n as u32)
        .map(|i| (at(i) % 2001) as f32 / 1000.0 - 1.0)
        .collect();
    Tensor::from_vec(v, shape, &Device::Cpu).unwrap()
}

/// Compares the gradients of `Σ f(vars) · noise` with finite differences at some elements of each.
fn check(vars: &[Var], f: impl Fn() -> Tensor, tolerance: f64) {
    let weigh = noise(f().dims(), 5);
    let loss = || (f() * &weigh).unwrap().sum_all().unwrap();
    let grads = loss().backward().unwrap();
    for (v, var) in vars.iter().enumerate() {
        let grad = grads
            .get(var)
            .unwrap()
            .flatten_all()
            .unwrap()
            .to_vec1::<f32>()
            .unwrap();
        let start = var.as_tensor().copy().unwrap();
        let data = start.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        for i in (0..data.len()).step_by(data.len().div_ceil(17)) {
            let at = |step: f32| {
                let mut moved = data.clone();
                moved[i] += step;
                var.set(&Tensor::from_vec(moved, start.dims(), &Device::Cpu).unwrap())
                    .unwrap();
                let y = f().flatten_all().unwrap().to_vec1::<f32>().unwrap();
                let w = weigh.flatten_all().unwrap().to_vec1::<f32>().unwrap();
                y.iter().zip(w).map(|(y, w)| f64::from(y * w)).sum::<f64>()
            };
            let step = 1e-2f32;
            let slope = (at(step) - at(-step)) / f64::from(2.0 * step);
            let error = (slope - f64::from(grad[i])).abs();
            assert!(
                error < tolerance * (1.0 + slope.abs()),
                "var {v}[{i}]: {} for {slope}",
                grad[i]
            );
        }
        var.set(&start).unwrap();
    }
}

fn var(t: &Tensor) -> Var {
    Var::from_tensor(t).unwrap()
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
    let x = var(&noise(&[3, cin, size[0], size[1]], 1));
    let w = var(&noise(&[cout, cin / groups, k.0, k.1], 2));
    let b = var(&noise(&[cout], 3));
    let op = Conv {
        window: window.clone(),
        groups,
        activation: Activation::NONE,
        input_grad: true,
        weight_grad: true,
    };
    let y = x.apply_op3(&w, &b, op.clone()).unwrap();
    let plain = plain_conv(&x, &w, &b, &window, groups, y.dims());
    let error = (y.flatten_all().unwrap() - plain)
        .unwrap()
        .abs()
        .unwrap()
        .max(0)
        .unwrap();
    assert!(error.to_scalar::<f32>().unwrap() < 1e-4);
    let f = || x.apply_op3(&w, &b, op.clone()).unwrap();
    check(&[x.clone(), w.clone(), b.clone()], f, 5e-3);
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
    let x = var(&Tensor::from_vec(values, (2, 3, 7, 8), &Device::Cpu).unwrap());
    let window = window([3, 3], [2, 2], [1, 1], [(1, 1), (1, 1)]);
    let op = Pool {
        kind,
        window,
        extra,
    };
    check(
        std::slice::from_ref(&x),
        || x.apply_op1(op.clone()).unwrap(),
        1e-2,
    );
}

#[test]
fn batch_norm_with_clamp() {
    let x = var(&noise(&[3, 4, 2, 5], 1));
    let (scale, shift) = (var(&(noise(&[4], 2) + 2.0).unwrap()), var(&noise(&[4], 3)));
    let op = |activation| BatchNorm {
        epsilon: 1e-5,
        activation,
        stats: Default::default(),
    };
    let vars = [x.clone(), scale.clone(), shift.clone()];
    let f = || x.apply_op3(&scale, &shift, op(Activation::NONE)).unwrap();
    check(&vars, f, 2e-2);
    let y = f();
    let mean = y
        .mean_keepdim(0)
        .unwrap()
        .flatten_from(2)
        .unwrap()
        .mean(2)
        .unwrap();
    let gap = (mean.flatten_all().unwrap() - shift.as_tensor())
        .unwrap()
        .abs()
        .unwrap();
    assert!(gap.max(0).unwrap().to_scalar::<f32>().unwrap() < 1e-5);
    let clamped = x.apply_op3(&scale, &shift, op(Activation::RELU)).unwrap();
    let same = (clamped - y.relu().unwrap())
        .unwrap()
        .abs()
        .unwrap()
        .sum_all()
        .unwrap();
    assert_eq!(same.to_scalar::<f32>().unwrap(), 0.0);
}

#[test]
fn a_fused_graph_trains_and_gives_its_weights_back() {
    let mut b = Builder::new("net");
    let x = b.input("x", Shape::batched(&[2, 6, 6]));
    let w = noise(&[4, 2, 3, 3], 1)
        .flatten_all()
        .unwrap()
        .to_vec1::<f32>()
        .unwrap();
    let a = b.conv_with("a", x, w, 4, 3, 1, 1, Activation::RELU);
    let w = noise(&[4, 4, 3, 3], 2)
        .flatten_all()
        .unwrap()
        .to_vec1::<f32>()
        .unwrap();
    let c = b.conv_with("c", a, w, 4, 3, 1, 1, Activation::NONE);
    b.output(c);
    let mut net = TrainableGraph::new(&b.finish()).unwrap();
    assert_eq!(net.freeze("a."), 1);
    let input = noise(&[2, 2, 6, 6], 3);
    let y = net.forward(&[input], &[a, c], Mode::Train).unwrap();
    assert!(!y[0].track_op());
    let grads = y[1].sqr().unwrap().sum_all().unwrap().backward().unwrap();
    let (name, var) = net.vars()[0];
    assert_eq!(name, "c.weight");
    let step = (var.as_tensor() - (grads.get(var).unwrap() * 0.01).unwrap()).unwrap();
    var.set(&step).unwrap();
    let graph = net.to_graph().unwrap();
    let id = graph.find("c.weight").unwrap();
    let floats = graph.constants[&id].floats().unwrap().to_vec();
    assert_eq!(
        floats,
        step.flatten_all().unwrap().to_vec1::<f32>().unwrap()
    );
    assert_ne!(graph.constants[&id], net.graph().constants[&id]);
}

/// `cargo test --release --lib training::tests::step_time -- --ignored --nocapture`: resnet20's
/// forward and backward at batch 64 on 32×32.
#[test]
#[ignore = "measures, asserts nothing"]
fn step_time() {
    let mut b = Builder::new("resnet20");
    let x = b.input("x", Shape::batched(&[3, 32, 32]));
    let conv = |b: &mut Builder, name: &str, x, cin: usize, cout: usize, stride| {
        let w = noise(&[cout, cin, 3, 3], 1)
            .flatten_all()
            .unwrap()
            .to_vec1::<f32>()
            .unwrap();
        let y = b.conv_with(name, x, w, cout, 3, stride, 1, Activation::NONE);
        let mut ins = vec![y];
        for (part, v) in [("s", 1.0), ("b", 0.0), ("m", 0.0), ("v", 1.0)] {
            let c = Constant::f32(&[cout], vec![v; cout]);
            ins.push(b.constant(&format!("{name}.{part}"), c));
        }
        let shape = b.shape(y).clone();
        b.node(
            &format!("{name}.bn"),
            Op::BatchNorm { epsilon: 1e-5 },
            &ins,
            shape,
            0,
        )
    };
    let relu = |b: &mut Builder, name: &str, x: ValueId| {
        let shape = b.shape(x).clone();
        b.node(
            name,
            Op::Unary(crate::model::op::Unary::Relu),
            &[x],
            shape,
            0,
        )
    };
    let y = conv(&mut b, "stem", x, 3, 16, 1);
    let mut y = relu(&mut b, "stem.relu", y);
    let mut cin = 16;
    for (stage, cout) in [16, 32, 64].into_iter().enumerate() {
        for block in 0..3 {
            let name = format!("s{stage}b{block}");
            let stride = if stage > 0 && block == 0 { 2 } else { 1 };
            let z = conv(&mut b, &format!("{name}.1"), y, cin, cout, stride);
            let z = relu(&mut b, &format!("{name}.1r"), z);
            let z = conv(&mut b, &format!("{name}.2"), z, cout, cout, 1);
            let shape = b.shape(z).clone();
            let side = match stride == 2 {
                true => conv(&mut b, &format!("{name}.side"), y, cin, cout, 2),
                false => y,
            };
            let add = Op::Binary(Binary::Add, Activation::NONE);
            let z = b.node(&format!("{name}.add"), add, &[z, side], shape, 0);
            y = relu(&mut b, &format!("{name}.out"), z);
            cin = cout;
        }
    }
    let net = TrainableGraph::new(&b.finish()).unwrap();
    let input = noise(&[64, 3, 32, 32], 9);
    for _ in 0..8 {
        let start = std::time::Instant::now();
        let y = net
            .forward(std::slice::from_ref(&input), &[y], Mode::Train)
            .unwrap();
        let forward = start.elapsed();
        let grads = y[0].sqr().unwrap().mean_all().unwrap().backward().unwrap();
        assert!(net.vars().iter().all(|(_, v)| grads.get(v).is_some()));
        println!(
            "forward {forward:?}, forward and backward {:?}",
            start.elapsed()
        );
    }
}
