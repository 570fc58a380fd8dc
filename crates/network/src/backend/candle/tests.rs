//! The interpreter on candle's CPU device against the kernels and the general path. Convolutions
//! and pools are tested with the kernels' own property tests.

use super::Candle;
use crate::backend::{Backend, BackendError, CandleDevice, CompileOptions, Native};
use crate::engine::{Cancel, EngineError};
use crate::model::op::{Binary, Op, PadMode, PoolKind, Reduction, SliceRange, Unary, Window};
use crate::model::{Activation, Builder, Constant, DType, Shape};
use rstest::rstest;

fn noise(shape: &[usize], seed: usize) -> Constant {
    let n: usize = shape.iter().product();
    let value = |i: usize| ((i * 7 + seed * 13) as f32 * 0.731).sin() * 1.7;
    Constant::f32(shape, (0..n).map(value).collect())
}

fn candle() -> Candle {
    Candle::open(CandleDevice::Cpu).unwrap()
}

/// Runs one op over floats on both, with the operands from the second on as constants if asked.
fn both(op: Op, inputs: &[Constant], out: &[usize], dtype: DType, constants: bool) {
    let run = |device: bool| {
        let mut b = Builder::new("one");
        let mut fed = vec![];
        let mut ids = vec![];
        for (i, input) in inputs.iter().enumerate() {
            let name = format!("x{i}");
            if i > 0 && constants {
                ids.push(b.constant(&name, input.clone()));
                continue;
            }
            ids.push(b.value(&name, input.dtype(), Shape::fixed(&input.shape)));
            fed.push((ids[i], input.clone()));
        }
        let y = b.node("y", op.clone(), &ids, Shape::fixed(out), 0);
        b.output(y);
        let mut graph = b.finish();
        graph.inputs = fed.iter().map(|(id, _)| *id).collect();
        graph.values[y.0 as usize].dtype = dtype;
        let backend: Box<dyn Backend> = match device {
            true => Box::new(candle()),
            false => Box::new(Native::default()),
        };
        assert_eq!(backend.check(&graph), []);
        let network = backend.compile(graph, &CompileOptions::default());
        let fed: Vec<Constant> = fed.into_iter().map(|(_, c)| c).collect();
        let outputs = network.unwrap().infer(&fed, &Cancel::new());
        outputs.unwrap().remove(0)
    };
    let (want, got) = (run(false), run(true));
    assert_eq!(want.shape, got.shape);
    match (want.floats(), got.floats()) {
        (Some(want), Some(got)) => {
            for (i, (w, g)) in want.iter().zip(got).enumerate() {
                let off = (w - g).abs();
                let same = (w.is_nan() && g.is_nan()) || w == g || off <= 1e-4 + 1e-3 * w.abs();
                assert!(same, "{op:?}: {i}: {g} for {w}");
            }
        }
        _ => assert_eq!(want.data, got.data, "{op:?}"),
    }
}

#[rstest]
#[case(Unary::Relu)]
#[case(Unary::LeakyRelu { alpha: 0.1 })]
#[case(Unary::Elu { alpha: 0.7 })]
#[case(Unary::Selu { alpha: 1.67, gamma: 1.05 })]
#[case(Unary::Sigmoid)]
#[case(Unary::HardSigmoid { alpha: 0.4, beta: 0.3 })]
#[case(Unary::HardSwish)]
#[case(Unary::Silu)]
#[case(Unary::Tanh)]
#[case(Unary::Gelu { tanh: false })]
#[case(Unary::Gelu { tanh: true })]
#[case(Unary::Softplus)]
#[case(Unary::Softsign)]
#[case(Unary::Mish)]
#[case(Unary::Erf)]
#[case(Unary::Exp)]
#[case(Unary::Log)]
#[case(Unary::Sqrt)]
#[case(Unary::Reciprocal)]
#[case(Unary::Neg)]
#[case(Unary::Abs)]
#[case(Unary::Sign)]
#[case(Unary::Floor)]
#[case(Unary::Ceil)]
#[case(Unary::Round)]
#[case(Unary::Sin)]
#[case(Unary::Cos)]
#[case(Unary::Clip { low: -0.5, high: 0.8 })]
fn functions_of_one_element(#[case] op: Unary) {
    both(
        Op::Unary(op),
        &[noise(&[3, 5, 7], 1)],
        &[3, 5, 7],
        DType::F32,
        false,
    );
}

#[test]
fn rounding_goes_to_even() {
    let x = Constant::f32(&[8], vec![0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 2.4999, -7.0]);
    both(Op::Unary(Unary::Round), &[x], &[8], DType::F32, false);
}

#[rstest]
#[case(Binary::Add, DType::F32)]
#[case(Binary::Sub, DType::F32)]
#[case(Binary::Mul, DType::F32)]
#[case(Binary::Div, DType::F32)]
#[case(Binary::Mod, DType::F32)]
#[case(Binary::Min, DType::F32)]
#[case(Binary::Max, DType::F32)]
#[case(Binary::PRelu, DType::F32)]
#[case(Binary::Equal, DType::Bool)]
#[case(Binary::Greater, DType::Bool)]
#[case(Binary::GreaterOrEqual, DType::Bool)]
#[case(Binary::Less, DType::Bool)]
#[case(Binary::LessOrEqual, DType::Bool)]
fn functions_of_two_elements_broadcast(#[case] op: Binary, #[case] dtype: DType) {
    let operands = [noise(&[2, 3, 4, 5], 1), noise(&[3, 1, 5], 2)];
    both(
        Op::Binary(op, Activation::NONE),
        &operands,
        &[2, 3, 4, 5],
        dtype,
        false,
    );
}

#[rstest]
#[case(2.0)]
#[case(0.5)]
#[case(3.0)]
fn powers_of_one_constant(#[case] exponent: f32) {
    let operands = [noise(&[2, 9], 1), Constant::f32(&[], vec![exponent])];
    let op = Op::Binary(Binary::Pow, Activation::NONE);
    both(op, &operands, &[2, 9], DType::F32, true);
}

#[rstest]
#[case(Reduction::Mean)]
#[case(Reduction::Sum)]
#[case(Reduction::Max)]
#[case(Reduction::Min)]
#[case(Reduction::Prod)]
#[case(Reduction::SumSquare)]
#[case(Reduction::L1)]
#[case(Reduction::L2)]
fn reductions(#[case] kind: Reduction, #[values(true, false)] keep: bool) {
    let out: &[usize] = if keep { &[2, 1, 4, 1] } else { &[2, 4] };
    let op = Op::Reduce {
        kind,
        axes: vec![1, 3],
        keep,
    };
    both(op, &[noise(&[2, 3, 4, 5], 1)], out, DType::F32, false);
}

#[test]
fn the_index_of_the_largest_among_equals() {
    let x = Constant::f32(&[2, 4], vec![1.0, 3.0, 3.0, 0.0, -1.0, -1.0, -2.0, -2.0]);
    for (last, min) in [(false, false), (true, false), (false, true), (true, true)] {
        let op = Op::ArgMax {
            axis: 1,
            keep: false,
            last,
            min,
        };
        both(op, std::slice::from_ref(&x), &[2], DType::I64, false);
    }
}

#[test]
fn products_and_normalisations() {
    let x = noise(&[2, 6, 5], 1);
    both(
        Op::MatMul,
        &[x.clone(), noise(&[5, 3], 2)],
        &[2, 6, 3],
        DType::F32,
        false,
    );
    both(
        Op::MatMul,
        &[noise(&[5], 3), noise(&[4, 5, 3], 2)],
        &[4, 3],
        DType::F32,
        false,
    );
    both(
        Op::MatMul,
        &[x.clone(), noise(&[5], 2)],
        &[2, 6],
        DType::F32,
        false,
    );
    let gemm = Op::Gemm {
        trans_a: true,
        trans_b: true,
        alpha: 0.5,
        beta: 2.0,
        activation: Activation::RELU,
    };
    let operands = [noise(&[4, 3], 1), noise(&[5, 4], 2), noise(&[5], 3)];
    both(gemm, &operands, &[3, 5], DType::F32, false);
    let five: Vec<Constant> = (2..6)
        .map(|seed| {
            let positive = noise(&[6], seed)
                .floats()
                .unwrap()
                .iter()
                .map(|x| x.abs() + 0.1)
                .collect();
            Constant::f32(&[6], positive)
        })
        .collect();
    let batch = [std::slice::from_ref(&x), &five[..]].concat();
    both(
        Op::BatchNorm { epsilon: 1e-3 },
        &batch,
        &[2, 6, 5],
        DType::F32,
        false,
    );
    let instance = [x.clone(), five[0].clone(), five[1].clone()];
    both(
        Op::InstanceNorm { epsilon: 1e-3 },
        &instance,
        &[2, 6, 5],
        DType::F32,
        false,
    );
    let layer = Op::LayerNorm {
        axis: 1,
        epsilon: 1e-3,
    };
    let operands = [x.clone(), noise(&[6, 5], 4), noise(&[6, 5], 5)];
    both(layer, &operands, &[2, 6, 5], DType::F32, false);
    let lrn = Op::Lrn {
        alpha: 0.3,
        beta: 0.7,
        bias: 1.5,
        size: 4,
    };
    both(lrn, std::slice::from_ref(&x), &[2, 6, 5], DType::F32, false);
    for (axis, flatten, log) in [(1, false, false), (2, false, true), (1, true, false)] {
        let op = Op::Softmax { axis, flatten, log };
        both(op, std::slice::from_ref(&x), &[2, 6, 5], DType::F32, false);
    }
}

#[test]
fn moves_of_elements() {
    let x = noise(&[2, 3, 6, 5], 1);
    let one = std::slice::from_ref(&x);
    let turn = Op::Transpose {
        perm: vec![0, 2, 3, 1],
    };
    both(turn, one, &[2, 6, 5, 3], DType::F32, false);
    let range = |start, step, count| Some(SliceRange { start, step, count });
    let ranges = vec![None, range(1, 1, 2), range(5, -2, 3), range(0, 3, 2)];
    both(Op::Slice { ranges }, one, &[2, 2, 3, 2], DType::F32, false);
    for mode in [
        PadMode::Constant,
        PadMode::Reflect,
        PadMode::Edge,
        PadMode::Wrap,
    ] {
        let pads = vec![(0, 0), (0, 1), (2, -1), (-1, 2)];
        let value = 1.5;
        let op = Op::Pad { mode, pads, value };
        both(op, one, &[2, 4, 7, 6], DType::F32, false);
    }
    let op = Op::Gather { axis: 2 };
    let at = Constant::i64(&[2, 2], vec![0, -1, 3, 3]);
    both(op, &[x.clone(), at], &[2, 3, 2, 2, 5], DType::F32, false);
    let op = Op::Tile {
        repeats: vec![1, 2, 1, 3],
    };
    both(op, one, &[2, 6, 6, 15], DType::F32, false);
    for (linear, half_pixel) in [(false, false), (false, true), (true, false), (true, true)] {
        let to = vec![9, 4];
        let op = Op::Resize {
            to,
            linear,
            half_pixel,
        };
        both(op, one, &[2, 3, 9, 4], DType::F32, false);
    }
    let condition = Constant {
        shape: vec![6, 1],
        data: crate::model::Data::Bool(vec![1, 0, 0, 1, 1, 0].into()),
    };
    both(
        Op::Where,
        &[condition, x.clone(), noise(&[5], 3)],
        &[2, 3, 6, 5],
        DType::F32,
        false,
    );
}

#[test]
fn quantising_rounds_and_saturates_alike() {
    let x = Constant::f32(&[2, 3], vec![0.5, 1.5, 2.5, -300.0, 300.0, -0.5]);
    let scale = Constant::f32(&[3], vec![1.0, 0.5, 2.0]);
    for (to, zero) in [
        (DType::U8, crate::model::Data::U8(vec![2, 0, 200].into())),
        (DType::I8, crate::model::Data::I8(vec![2, 0, -100].into())),
    ] {
        let zero = Constant {
            shape: vec![3],
            data: zero,
        };
        let op = Op::Quantize { axis: 1, to };
        both(
            op,
            &[x.clone(), scale.clone(), zero.clone()],
            &[2, 3],
            to,
            false,
        );
        let quantised = Constant {
            shape: vec![1, 3],
            data: zero.data.clone(),
        };
        let op = Op::Dequantize { axis: 1 };
        both(
            op,
            &[quantised, scale.clone(), zero],
            &[1, 3],
            DType::F32,
            false,
        );
    }
}

#[test]
fn a_mean_with_uncounted_cells() {
    for count_include_pad in [true, false] {
        let op = Op::Pool {
            kind: PoolKind::Average { count_include_pad },
            window: Window {
                kernel: vec![3, 2],
                strides: vec![2, 1],
                dilations: vec![1, 2],
                pads: vec![(1, 2), (0, 1)],
            },
            extra: vec![1, 0],
            column_major: false,
        };
        both(
            op,
            &[noise(&[2, 3, 4, 5], 1)],
            &[2, 3, 3, 4],
            DType::F32,
            false,
        );
    }
}

#[test]
fn an_uneven_window_goes_by_its_taps() {
    let op = Op::Conv {
        window: Window {
            kernel: vec![3, 2],
            strides: vec![2, 1],
            dilations: vec![1, 2],
            pads: vec![(1, 0), (0, 2)],
        },
        groups: 2,
        bias: true,
        residual: false,
        activation: Activation::RELU6,
    };
    let operands = [
        noise(&[2, 4, 7, 6], 1),
        noise(&[6, 2, 3, 2], 2),
        noise(&[6], 3),
    ];
    both(op, &operands, &[2, 6, 3, 6], DType::F32, false);
}

#[test]
fn what_candle_lacks_is_refused_with_node_and_op() {
    let mut b = Builder::new("one");
    let x = b.value("x", DType::I32, Shape::fixed(&[2]));
    let y = b.node(
        "sum",
        Op::Binary(Binary::Add, Activation::NONE),
        &[x, x],
        Shape::fixed(&[2]),
        0,
    );
    b.output(y);
    let mut graph = b.finish();
    graph.inputs = vec![x];
    graph.values[y.0 as usize].dtype = DType::I32;
    let refused = candle().check(&graph);
    let error = candle().compile(graph, &CompileOptions::default());
    let error = error.unwrap_err();
    assert!(matches!(&error, EngineError::Unsupported(one) if refused == [one.clone()]));
    let text = error.to_string();
    assert!(
        text.contains("`sum`") && text.contains("Binary Add"),
        "{text}"
    );
}

#[cfg(not(feature = "cuda"))]
#[test]
fn a_device_this_build_does_not_know_is_refused() {
    let error = Candle::open(CandleDevice::Cuda(0)).unwrap_err();
    let feature = "cuda";
    assert!(matches!(error, BackendError::NotBuilt { feature: f, .. } if f == feature));
    assert!(error.to_string().contains("--features cuda"), "{error}");
}
