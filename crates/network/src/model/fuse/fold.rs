/*!
Nodes whose inputs are all constants become constants: dequantised weights, transposed or reshaped
weights, arithmetic on scales. Ops that don't turn up on weights are left to the engine.
*/

use super::Rewriting;
use crate::model::constant::{Constant, Data};
use crate::model::op::{Binary, Op, Unary};
use std::sync::Arc;

/// Elements of a constant that may be made of smaller ones.
const SMALL: usize = 1 << 20;

pub(super) fn fold(work: &mut Rewriting, i: usize) -> bool {
    let Some(node) = work.node(i) else {
        return false;
    };
    let output = node.outputs[0];
    if node.outputs.len() != 1 || work.graph.outputs.contains(&output) {
        return false;
    }
    let inputs: Option<Vec<&Constant>> = node.inputs.iter().map(|&v| work.constant(v)).collect();
    let shape: Option<Vec<usize>> = work.shape(output).0.iter().map(|d| d.fixed()).collect();
    let (Some(inputs), Some(shape)) = (inputs, shape) else {
        return false;
    };
    // Two small weights can make one that fills any memory; only what stays small is made beforehand.
    let count = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
    let largest = inputs.iter().map(|c| c.len()).max().unwrap_or(0);
    if count.is_none_or(|n| n > largest.max(SMALL)) {
        return false;
    }
    let Some(data) = evaluate(&node.op, &inputs, &shape) else {
        return false;
    };
    let params = node.params;
    work.graph
        .constants
        .insert(output, Constant { shape, data });
    work.producer[output.0 as usize] = None;
    work.remove(i);
    let reader = work
        .nodes
        .iter_mut()
        .flatten()
        .find(|n| n.inputs.contains(&output));
    if let Some(reader) = reader {
        reader.params += params;
    }
    true
}

fn evaluate(op: &Op, inputs: &[&Constant], shape: &[usize]) -> Option<Data> {
    let floats = |v: Vec<f32>| Some(Data::F32(Arc::new(v)));
    match op {
        Op::Reshape { .. } | Op::Identity => Some(inputs[0].data.clone()),
        Op::Transpose { perm } => {
            let x = inputs[0].floats()?;
            let strides = strides(&inputs[0].shape);
            let strides: Vec<usize> = perm.iter().map(|&p| strides[p]).collect();
            floats(walk(shape, &strides, x))
        }
        Op::Dequantize { axis } => floats(dequantized(*axis, inputs)?),
        Op::Unary(u) => {
            let f: fn(f32) -> f32 = match u {
                Unary::Sqrt => f32::sqrt,
                Unary::Reciprocal => f32::recip,
                Unary::Neg => |x| -x,
                Unary::Abs => f32::abs,
                Unary::Exp => f32::exp,
                _ => return None,
            };
            floats(inputs[0].floats()?.iter().map(|&x| f(x)).collect())
        }
        Op::Binary(b, activation) if activation.is_none() => {
            let f: fn(f32, f32) -> f32 = match b {
                Binary::Add => |a, b| a + b,
                Binary::Sub => |a, b| a - b,
                Binary::Mul => |a, b| a * b,
                Binary::Div => |a, b| a / b,
                _ => return None,
            };
            let side = |c: &Constant| {
                let own = strides(&c.shape);
                let skip = shape.len() - c.shape.len();
                let steps: Vec<usize> = (0..shape.len())
                    .map(|i| match i.checked_sub(skip) {
                        Some(k) if c.shape[k] != 1 => own[k],
                        _ => 0,
                    })
                    .collect();
                c.floats().map(|x| walk(shape, &steps, x))
            };
            let (a, b) = (side(inputs[0])?, side(inputs[1])?);
            floats(a.into_iter().zip(b).map(|(a, b)| f(a, b)).collect())
        }
        _ => None,
    }
}

fn strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for i in (0..shape.len().saturating_sub(1)).rev() {
        strides[i] = strides[i + 1] * shape[i + 1];
    }
    strides
}

/// The elements of `x` met by counting through `shape`, each axis with its own stride.
fn walk(shape: &[usize], strides: &[usize], x: &[f32]) -> Vec<f32> {
    let count = shape.iter().product();
    let mut out = Vec::with_capacity(count);
    let mut at = vec![0usize; shape.len()];
    let mut offset = 0;
    for _ in 0..count {
        out.push(x[offset]);
        for axis in (0..shape.len()).rev() {
            at[axis] += 1;
            offset += strides[axis];
            if at[axis] < shape[axis] {
                break;
            }
            offset -= strides[axis] * shape[axis];
            at[axis] = 0;
        }
    }
    out
}

/// `(x − zero point) · scale`.
fn dequantized(axis: usize, inputs: &[&Constant]) -> Option<Vec<f32>> {
    let integers = |c: &Constant| -> Option<Vec<i32>> {
        Some(match &c.data {
            Data::I8(v) => v.iter().map(|&x| i32::from(x)).collect(),
            Data::U8(v) => v.iter().map(|&x| i32::from(x)).collect(),
            Data::I32(v) => v.to_vec(),
            _ => return None,
        })
    };
    let x = integers(inputs[0])?;
    let scale = inputs[1].floats()?;
    let zero = match inputs.get(2) {
        Some(z) => integers(z)?,
        None => vec![0],
    };
    let shape = &inputs[0].shape;
    let (extent, inner) = if scale.len() == 1 {
        (1, 1)
    } else {
        (*shape.get(axis)?, shape[axis + 1..].iter().product())
    };
    if scale.len() != extent || (zero.len() != 1 && zero.len() != extent) {
        return None;
    }
    let value = |(i, &q): (usize, &i32)| {
        let c = i / inner % extent;
        let z = zero[if zero.len() == 1 { 0 } else { c }];
        (i64::from(q) - i64::from(z)) as f32 * scale[c]
    };
    Some(x.iter().enumerate().map(value).collect())
}
