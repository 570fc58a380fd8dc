/*! Inference for products, element-wise functions and reductions. */

use super::super::constant::DType;
use super::super::op::{Binary, Unary};
use super::super::shape::{Dim, Shape};
use super::{Inferred, Operand, ShapeError, axis_of, broadcast, count, float, mismatch, one};

pub(super) fn gemm(trans_a: bool, trans_b: bool, inputs: &[Operand]) -> Inferred {
    count(inputs, "2 or 3", 2, 3)?;
    let (a, b) = (float(inputs[0])?, float(inputs[1])?);
    if a.rank() != 2 || b.rank() != 2 {
        return mismatch(format!("{a} times {b}: both must have two axes"));
    }
    let (m, k) = if trans_a {
        (a.0[1], a.0[0])
    } else {
        (a.0[0], a.0[1])
    };
    let (k2, n) = if trans_b {
        (b.0[1], b.0[0])
    } else {
        (b.0[0], b.0[1])
    };
    if k != k2 {
        return mismatch(format!(
            "the inner extents differ: {k} and {k2} ({a} times {b})"
        ));
    }
    let y = Shape(vec![m, n]);
    if let Some(&c) = inputs.get(2)
        && broadcast(float(c)?, &y)? != y
    {
        return mismatch(format!("a bias of {} for a result of {y}", c.0));
    }
    Ok(vec![(y, DType::F32)])
}

pub(super) fn matmul(inputs: &[Operand]) -> Inferred {
    count(inputs, "2", 2, 2)?;
    let (a, b) = (float(inputs[0])?, float(inputs[1])?);
    if a.rank() == 0 || b.rank() == 0 {
        return mismatch("a scalar can't be multiplied as a matrix");
    }
    // Numpy: a vector is a row on the left, a column on the right; its axis of 1 is dropped again.
    let mut left = a.0.clone();
    let mut right = b.0.clone();
    if a.rank() == 1 {
        left.insert(0, Dim::Fixed(1));
    }
    if b.rank() == 1 {
        right.push(Dim::Fixed(1));
    }
    let (l, r) = (left.len(), right.len());
    if left[l - 1] != right[r - 2] {
        return mismatch(format!("the inner extents of {a} times {b} differ"));
    }
    let batch = broadcast(
        &Shape(left[..l - 2].to_vec()),
        &Shape(right[..r - 2].to_vec()),
    )?;
    let mut dims = batch.0;
    if a.rank() > 1 {
        dims.push(left[l - 2]);
    }
    if b.rank() > 1 {
        dims.push(right[r - 1]);
    }
    Ok(vec![(Shape(dims), DType::F32)])
}

pub(super) fn unary(u: Unary, inputs: &[Operand]) -> Inferred {
    let (x, dtype) = one(inputs)?;
    let any_number = matches!(
        u,
        Unary::Relu | Unary::Neg | Unary::Abs | Unary::Sign | Unary::Clip { .. }
    );
    match (u, dtype) {
        (Unary::Not, DType::Bool) | (_, DType::F32) => {}
        (_, DType::I64 | DType::I32 | DType::I8 | DType::U8) if any_number => {}
        (Unary::Not, found) => {
            return Err(ShapeError::Type {
                takes: "booleans",
                found,
            });
        }
        (_, found) => {
            return Err(ShapeError::Type {
                takes: "floats",
                found,
            });
        }
    }
    if u == Unary::Not && dtype == DType::F32 {
        return Err(ShapeError::Type {
            takes: "booleans",
            found: dtype,
        });
    }
    Ok(vec![(x.clone(), dtype)])
}

pub(super) fn binary(b: Binary, inputs: &[Operand]) -> Inferred {
    count(inputs, "2", 2, 2)?;
    let ((x, tx), (y, ty)) = (inputs[0], inputs[1]);
    if tx != ty {
        return mismatch(format!("its inputs are {tx:?} and {ty:?}"));
    }
    let shape = broadcast(x, y)?;
    let dtype = match b {
        Binary::Equal
        | Binary::Greater
        | Binary::GreaterOrEqual
        | Binary::Less
        | Binary::LessOrEqual => DType::Bool,
        Binary::And | Binary::Or | Binary::Xor => {
            if tx != DType::Bool {
                return Err(ShapeError::Type {
                    takes: "booleans",
                    found: tx,
                });
            }
            DType::Bool
        }
        Binary::PRelu => {
            float(inputs[0])?;
            if shape != *x {
                return mismatch(format!("slopes of {y} for {x}"));
            }
            tx
        }
        _ => {
            if tx == DType::Bool {
                return Err(ShapeError::Type {
                    takes: "numbers",
                    found: tx,
                });
            }
            tx
        }
    };
    Ok(vec![(shape, dtype)])
}

/// Infers `Where`: the three inputs broadcast, the type of the two branches.
pub(super) fn choose(inputs: &[Operand]) -> Inferred {
    count(inputs, "3", 3, 3)?;
    let [(condition, tc), (x, tx), (y, ty)] = [inputs[0], inputs[1], inputs[2]];
    if tc != DType::Bool {
        return Err(ShapeError::Type {
            takes: "a boolean condition",
            found: tc,
        });
    }
    if tx != ty {
        return mismatch(format!("its choices are {tx:?} and {ty:?}"));
    }
    Ok(vec![(broadcast(condition, &broadcast(x, y)?)?, tx)])
}

pub(super) fn softmax(axis: usize, inputs: &[Operand]) -> Inferred {
    let x = float(one(inputs)?)?;
    axis_of(x, axis)?;
    Ok(vec![(x.clone(), DType::F32)])
}

pub(super) fn layer_norm(axis: usize, inputs: &[Operand]) -> Inferred {
    count(inputs, "2 or 3", 2, 3)?;
    let x = float(inputs[0])?;
    axis_of(x, axis)?;
    let over = Shape(x.0[axis..].to_vec());
    for &operand in &inputs[1..] {
        if broadcast(float(operand)?, &over).as_ref() != Ok(&over) {
            return mismatch(format!(
                "{} does not scale the {over} that are normalised",
                operand.0
            ));
        }
    }
    Ok(vec![(x.clone(), DType::F32)])
}

pub(super) fn reduce(axes: &[usize], keep: bool, inputs: &[Operand]) -> Inferred {
    let (x, dtype) = one(inputs)?;
    if dtype == DType::Bool {
        return Err(ShapeError::Type {
            takes: "numbers",
            found: dtype,
        });
    }
    for &axis in axes {
        axis_of(x, axis)?;
    }
    Ok(vec![(without(x, axes, keep), dtype)])
}

pub(super) fn arg_max(axis: usize, keep: bool, inputs: &[Operand]) -> Inferred {
    let (x, _) = one(inputs)?;
    axis_of(x, axis)?;
    if x.0[axis] == Dim::Fixed(0) {
        return mismatch(format!("axis {axis} of {x} is empty"));
    }
    Ok(vec![(without(x, &[axis], keep), DType::I64)])
}

/// The shape once `axes` are reduced.
fn without(x: &Shape, axes: &[usize], keep: bool) -> Shape {
    let dims = x.0.iter().enumerate();
    Shape(
        dims.filter_map(|(i, &d)| match (axes.contains(&i), keep) {
            (false, _) => Some(d),
            (true, true) => Some(Dim::Fixed(1)),
            (true, false) => None,
        })
        .collect(),
    )
}

/// Quantize (`to` given) and Dequantize.
pub(super) fn quantize(axis: usize, to: Option<DType>, inputs: &[Operand]) -> Inferred {
    count(inputs, "2 or 3", 2, 3)?;
    let (x, dtype) = inputs[0];
    let scale = float(inputs[1])?;
    let per_axis = |s: &Shape| s.rank() == 1 && x.0.get(axis) == s.0.first();
    let whole = |s: &Shape| s.rank() == 0 || *s == Shape::fixed(&[1]);
    if !whole(scale) && !per_axis(scale) {
        return mismatch(format!("scales of {scale} for {x} along axis {axis}"));
    }
    let quantised = match to {
        Some(to) => {
            float(inputs[0])?;
            to
        }
        None => dtype,
    };
    if !matches!(quantised, DType::U8 | DType::I8 | DType::I32) {
        return Err(ShapeError::Type {
            takes: "8-bit or 32-bit integers",
            found: quantised,
        });
    }
    if let Some(&(zero, tz)) = inputs.get(2)
        && (tz != quantised || (!whole(zero) && zero != scale))
    {
        return mismatch(format!(
            "a zero point of {zero} {tz:?} for scales of {scale}"
        ));
    }
    Ok(vec![(x.clone(), to.unwrap_or(DType::F32))])
}
