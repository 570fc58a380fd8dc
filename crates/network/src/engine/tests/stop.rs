//! How soon a run stops, counted in the work between two looks at the token: time would depend on
//! the machine.

use super::*;
use crate::model::op::Reduction;

/// Multiplications, or cells moved, that one look may have to wait for: under 200 ms at 25 million a
/// second, which any core does.
const LONG: usize = 5_000_000;

/// An op over tensors of these extents, those from `fixed` on known beforehand; one thread.
fn engine(op: Op, inputs: &[&[usize]], fixed: usize, out: &[usize]) -> Engine {
    let mut b = Builder::new("one");
    let mut ids = vec![];
    for (i, dims) in inputs.iter().enumerate() {
        let name = format!("x{i}");
        ids.push(if i < fixed {
            b.value(&name, DType::F32, Shape::fixed(dims))
        } else {
            let len = dims.iter().product();
            b.constant(&name, Constant::f32(dims, vec![0.5; len]))
        });
    }
    let y = b.node("y", op, &ids, Shape::fixed(out), 0);
    b.output(y);
    let mut graph = b.finish();
    graph.inputs = ids[..fixed].to_vec();
    Engine::new(graph, &Options { threads: 1 }).unwrap()
}

fn window(kernel: usize) -> Window {
    Window {
        kernel: vec![kernel; 2],
        strides: vec![1; 2],
        dilations: vec![1; 2],
        pads: vec![(kernel / 2, kernel / 2); 2],
    }
}

fn conv(kernel: usize, groups: usize) -> Op {
    Op::Conv {
        window: window(kernel),
        groups,
        bias: false,
        residual: false,
        activation: Activation::NONE,
    }
}

fn pool(kind: PoolKind) -> Op {
    Op::Pool {
        kind,
        window: window(3),
        extra: vec![0, 0],
        column_major: false,
    }
}

/// Runs, and fails where the looks are too few for this much work, or where the run ends well though
/// the token was raised half way.
fn stops(what: &str, engine: &Engine, work: usize) {
    let shapes = engine.inputs().iter().map(|port| port.shape.at(1));
    let inputs: Vec<Constant> = shapes
        .map(|dims| Constant::f32(&dims, vec![0.25; dims.iter().product()]))
        .collect();
    let cancel = Cancel::new();
    engine.infer(&inputs, &cancel).unwrap();
    let looks = cancel.looks();
    assert!(looks * LONG >= work, "{what}: {looks} looks for {work}");
    let cancel = Cancel::at_look(looks / 2);
    let stopped = engine.infer(&inputs, &cancel);
    assert!(matches!(stopped, Err(EngineError::Cancelled)), "{what}");
    // Whoever still had a piece to begin looked, and let it be.
    assert!(cancel.looks() <= looks, "{what}");
}

#[test]
fn no_step_is_longer_than_a_stop_may_wait() {
    let map = [1, 64, 96, 96];
    let cells: usize = map.iter().product();
    let wide = [64, 64, 3, 3];
    let macs = cells * 64 * 9;
    for (what, fixed) in [("by the kernels", 1), ("with weights that are inputs", 2)] {
        let engine = engine(conv(3, 1), &[&map, &wide], fixed, &map);
        stops(&format!("convolution {what}"), &engine, macs);
    }
    let depthwise = engine(conv(15, 64), &[&map, &[64, 1, 15, 15]], 1, &map);
    stops("depthwise", &depthwise, cells * 15 * 15);
    let pads = PoolKind::Average {
        count_include_pad: false,
    };
    let large = [1, 16, 512, 512];
    let cells: usize = large.iter().product();
    for kind in [PoolKind::Max, pads] {
        stops("pool", &engine(pool(kind), &[&large], 1, &large), cells * 9);
    }
    // One long row of one product.
    let gemm = |alpha| Op::Gemm {
        trans_a: false,
        trans_b: false,
        alpha,
        beta: 0.0,
        activation: Activation::NONE,
    };
    for (what, alpha) in [("product", 1.0), ("scaled product", 2.0)] {
        let engine = engine(gemm(alpha), &[&[1, 8192], &[8192, 8192]], 1, &[1, 8192]);
        stops(what, &engine, 8192 * 8192);
    }
    let matrix = [1024, 1024];
    let matmul = engine(Op::MatMul, &[&matrix, &matrix], 2, &matrix);
    stops("product of inputs", &matmul, 1 << 30);
    let reduce = Op::Reduce {
        kind: Reduction::Mean,
        axes: vec![2, 3],
        keep: true,
    };
    let one = [1, 16, 1, 1];
    stops("mean", &engine(reduce, &[&large], 1, &one), 4 * cells);
    let joined = [2, 16, 512, 512];
    let concat = engine(Op::Concat { axis: 0 }, &[&large, &large], 2, &joined);
    stops("concat", &concat, 2 * cells);
    let twice = [1, 16, 1024, 1024];
    let resize = Op::Resize {
        to: vec![1024, 1024],
        linear: true,
        half_pixel: true,
    };
    stops("resize", &engine(resize, &[&large], 1, &twice), 16 * cells);
    let unary = Op::Unary(crate::model::op::Unary::Sqrt);
    stops(
        "element by element",
        &engine(unary, &[&large], 1, &large),
        cells,
    );
}
