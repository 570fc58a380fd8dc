use super::*;
use crate::backend::Compiled;
use crate::engine::{Cancel, Engine, Options};
use crate::model::op::{Activation, Binary, Reduction};
use crate::model::{Builder, DType};
use pretty_assertions::assert_eq;
use rstest::rstest;

fn fixed(dims: &[usize]) -> Vec<Dim> {
    dims.iter().map(|&n| Dim::Fixed(n)).collect()
}

/// `x` of extents `dims` through the ops one after the other, each with the constants named after it.
fn chain(dims: &[usize], ops: &[(Op, &[Constant])]) -> Graph {
    let mut b = Builder::new("chain");
    let mut at = b.input("x", Shape::fixed(dims));
    for (i, (op, constants)) in ops.iter().enumerate() {
        let more = constants.iter().enumerate();
        let more: Vec<ValueId> = more
            .map(|(k, c)| b.constant(&format!("c{i}.{k}"), c.clone()))
            .collect();
        // A concatenation has what is repeated for each sample in front.
        let inputs = match op {
            Op::Concat { .. } => [&more[..], &[at]].concat(),
            _ => [&[at], &more[..]].concat(),
        };
        let dtype = |i: usize| match op {
            Op::Gather { .. } if i > 0 => DType::I64,
            _ => DType::F32,
        };
        let operands = inputs.iter().enumerate();
        let operands: Vec<(Shape, DType)> = operands
            .map(|(i, &v)| (b.shape(v).clone(), dtype(i)))
            .collect();
        let operands: Vec<Operand> = operands.iter().map(|(s, t)| (s, *t)).collect();
        let shape = infer(op, &operands).unwrap().remove(0).0;
        at = b.node(&format!("n{i}"), op.clone(), &inputs, shape, 0);
    }
    b.output(at);
    b.finish()
}

fn numbers(n: usize, seed: usize) -> Vec<f32> {
    (0..n)
        .map(|i| ((i * 37 + seed * 101) % 64) as f32 / 16.0 - 2.0)
        .collect()
}

fn run(graph: &Graph, shape: Vec<usize>, data: Vec<f32>) -> Constant {
    let engine = Engine::new(graph.clone(), &Options { threads: 1 }).unwrap();
    let x = Constant::f32(&shape, data);
    engine.infer(&[x], &Cancel::new()).unwrap().remove(0)
}

fn add() -> Op {
    Op::Binary(Binary::Add, Activation::NONE)
}

/// The loosened graph gives for three batches at once what the file's gives for one after the other.
#[rstest]
#[case::reshape_and_turn(vec![1, 4, 6], vec![
    (Op::Transpose { perm: vec![2, 0, 1] }, vec![]),
    (Op::Reshape { to: fixed(&[6, 2, 2]) }, vec![]),
    (Op::Transpose { perm: vec![1, 0, 2] }, vec![]),
    (Op::Reshape { to: fixed(&[1, 24]) }, vec![]),
])]
#[case::shared_in_front(vec![1, 3, 4], vec![
    (Op::Concat { axis: 1 }, vec![Constant::f32(&[1, 1, 4], numbers(4, 9))]),
    (add(), vec![Constant::f32(&[1, 4, 4], numbers(16, 5))]),
    (Op::Gather { axis: 1 }, vec![Constant::i64(&[], vec![0])]),
])]
#[case::along_the_first_axis(vec![1, 6], vec![
    (Op::Reshape { to: fixed(&[3, 2]) }, vec![]),
    (add(), vec![Constant::f32(&[3, 2], numbers(6, 3))]),
    (Op::Softmax { axis: 0, flatten: false, log: false }, vec![]),
    (Op::Concat { axis: 0 }, vec![Constant::f32(&[2, 2], numbers(4, 1))]),
    (Op::Slice { ranges: vec![Some(SliceRange { start: 4, step: -2, count: 3 }), None] }, vec![]),
    (Op::Reshape { to: fixed(&[1, 6]) }, vec![]),
])]
#[case::rows_of_many(vec![1, 2, 4], vec![
    (Op::Reshape { to: fixed(&[2, 4]) }, vec![]),
    (Op::MatMul, vec![Constant::f32(&[4, 3], numbers(12, 2))]),
    (Op::Expand { to: fixed(&[5, 2, 3]) }, vec![]),
    (Op::Reduce { kind: Reduction::Max, axes: vec![0], keep: false }, vec![]),
    (Op::Reshape { to: fixed(&[1, 6]) }, vec![]),
])]
#[case::a_scalar_each(vec![1, 5], vec![
    (Op::Reduce { kind: Reduction::Sum, axes: vec![0, 1], keep: false }, vec![]),
    (add(), vec![Constant::f32(&[1, 5], numbers(5, 4))]),
])]
#[case::eight_in_windows(vec![8, 2, 2, 4], vec![
    (Op::Reshape { to: fixed(&[16, 8]) }, vec![]),
    (Op::Reshape { to: fixed(&[8, 2, 8]) }, vec![]),
    (Op::Transpose { perm: vec![1, 0, 2] }, vec![]),
    (add(), vec![Constant::f32(&[2, 1, 8], numbers(16, 6))]),
    (Op::Transpose { perm: vec![1, 2, 0] }, vec![]),
    (Op::Reshape { to: fixed(&[8, 16]) }, vec![]),
])]
#[case::the_same_eight_times(vec![8, 2, 2, 2], vec![
    (Op::Reshape { to: fixed(&[8, 4, 2]) }, vec![]),
    (Op::Concat { axis: 1 }, vec![Constant::f32(&[8, 1, 2], numbers(2, 8).repeat(8))]),
    (Op::Reshape { to: fixed(&[8, 10]) }, vec![]),
])]
fn samples_come_out_as_they_do_alone(
    #[case] dims: Vec<usize>,
    #[case] ops: Vec<(Op, Vec<Constant>)>,
) {
    let ops: Vec<(Op, &[Constant])> = ops.iter().map(|(o, c)| (o.clone(), &c[..])).collect();
    let graph = chain(&dims, &ops);
    let loose = loosen(&graph).unwrap();
    let size: usize = dims.iter().product();
    let mut all = dims.clone();
    all[0] *= 3;
    let found = run(&loose, all, numbers(3 * size, 0));
    let data = numbers(3 * size, 0);
    let one_by_one: Vec<f32> = data
        .chunks(size)
        .flat_map(|x| {
            run(&graph, dims.clone(), x.to_vec())
                .floats()
                .unwrap()
                .to_vec()
        })
        .collect();
    assert_eq!(found.len(), one_by_one.len());
    for (found, want) in found.floats().unwrap().iter().zip(&one_by_one) {
        assert!(
            (found - want).abs() <= 1e-6 * want.abs().max(1.0),
            "{found}, not {want}"
        );
    }
    assert_eq!(found.shape[0], 3 * dims[0]);
}

#[rstest]
#[case::added_up(
    vec![(Op::Reduce { kind: Reduction::Mean, axes: vec![0], keep: true }, vec![])],
    "counts the samples"
)]
#[case::different(
    vec![(add(), vec![Constant::f32(&[8, 1, 1, 1], numbers(8, 1))])],
    "differs from sample to sample"
)]
#[case::split_across(
    vec![(Op::Reshape { to: fixed(&[4, 2, 8]) }, vec![])],
    "splits the axis"
)]
fn samples_that_meet_are_refused(#[case] ops: Vec<(Op, Vec<Constant>)>, #[case] why: &str) {
    let ops: Vec<(Op, &[Constant])> = ops.iter().map(|(o, c)| (o.clone(), &c[..])).collect();
    let graph = chain(&[8, 2, 2, 2], &ops);
    let error = loosen(&graph).unwrap_err();
    assert!(error.contains("n0") && error.contains(why), "{error}");
}
