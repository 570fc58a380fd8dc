/*! Inference for ops that move elements without computing. */

use super::super::constant::DType;
use super::super::op::{PadMode, SliceRange};
use super::super::shape::{Dim, Shape};
use super::{
    Inferred, Operand, ShapeError, axis_of, broadcast, count, fixed, mismatch, one, volume,
};

pub(super) fn reshape(to: &[Dim], inputs: &[Operand]) -> Inferred {
    let (x, dtype) = one(inputs)?;
    let y = Shape(to.to_vec());
    if volume(&y).is_none() {
        return Err(ShapeError::TooLarge);
    }
    if volume(x) != volume(&y) {
        return mismatch(format!("{x} can't be reshaped to {y}"));
    }
    Ok(vec![(y, dtype)])
}

pub(super) fn transpose(perm: &[usize], inputs: &[Operand]) -> Inferred {
    let (x, dtype) = one(inputs)?;
    let mut sorted = perm.to_vec();
    sorted.sort_unstable();
    if sorted.iter().copied().ne(0..x.rank()) {
        return mismatch(format!("{perm:?} is no permutation of the axes of {x}"));
    }
    let dims = perm.iter().map(|&p| x.0[p]).collect();
    Ok(vec![(Shape(dims), dtype)])
}

pub(super) fn concat(axis: usize, inputs: &[Operand]) -> Inferred {
    count(inputs, "1 or more", 1, usize::MAX)?;
    let (first, dtype) = inputs[0];
    axis_of(first, axis)?;
    let mut total = first.0[axis];
    for &(x, t) in &inputs[1..] {
        let same =
            x.rank() == first.rank() && (0..x.rank()).all(|i| i == axis || x.0[i] == first.0[i]);
        if !same || t != dtype {
            return mismatch(format!("{first} and {x} can't be joined along axis {axis}"));
        }
        total = match (total, x.0[axis]) {
            (Dim::Fixed(a), Dim::Fixed(b)) => {
                Dim::Fixed(a.checked_add(b).ok_or(ShapeError::TooLarge)?)
            }
            (Dim::Batch(a), Dim::Batch(b)) => {
                Dim::Batch(a.checked_add(b).ok_or(ShapeError::TooLarge)?)
            }
            (d, Dim::Fixed(0)) | (Dim::Fixed(0), d) => d,
            _ => {
                return mismatch(format!(
                    "{first} and {x} can't be joined along axis {axis}: one depends on the batch"
                ));
            }
        };
    }
    let mut dims = first.0.clone();
    dims[axis] = total;
    Ok(vec![(Shape(dims), dtype)])
}

pub(super) fn split(axis: usize, sizes: &[usize], inputs: &[Operand]) -> Inferred {
    let (x, dtype) = one(inputs)?;
    axis_of(x, axis)?;
    let extent = fixed(x, axis)?;
    let total = sizes.iter().try_fold(0usize, |a, &b| a.checked_add(b));
    if total != Some(extent) || sizes.is_empty() {
        return mismatch(format!(
            "{sizes:?} do not add up to the {extent} of axis {axis}"
        ));
    }
    let part = |&n: &usize| {
        let mut dims = x.0.clone();
        dims[axis] = Dim::Fixed(n);
        (Shape(dims), dtype)
    };
    Ok(sizes.iter().map(part).collect())
}

pub(super) fn slice(ranges: &[Option<SliceRange>], inputs: &[Operand]) -> Inferred {
    let (x, dtype) = one(inputs)?;
    if ranges.len() != x.rank() {
        return mismatch(format!("{} ranges for {x}", ranges.len()));
    }
    let mut dims = x.0.clone();
    for (axis, range) in ranges.iter().enumerate() {
        let Some(r) = range else { continue };
        let extent = fixed(x, axis)?;
        // All indices lie between the first and the last.
        let last = i64::try_from(r.count.saturating_sub(1))
            .ok()
            .and_then(|n| n.checked_mul(r.step))
            .and_then(|n| n.checked_add(i64::try_from(r.start).ok()?));
        let inside = |i: i64| (0..extent as i64).contains(&i);
        if r.count > 0 && !(r.start < extent && last.is_some_and(inside)) {
            let (count, start, step) = (r.count, r.start, r.step);
            return mismatch(format!(
                "{count} elements from {start} in steps of {step} leave axis {axis} of {x}"
            ));
        }
        dims[axis] = Dim::Fixed(r.count);
    }
    Ok(vec![(Shape(dims), dtype)])
}

pub(super) fn pad(mode: PadMode, pads: &[(i64, i64)], inputs: &[Operand]) -> Inferred {
    let (x, dtype) = one(inputs)?;
    if pads.len() != x.rank() {
        return mismatch(format!("{} pairs of pads for {x}", pads.len()));
    }
    let mut dims = x.0.clone();
    for (axis, &(before, after)) in pads.iter().enumerate() {
        if (before, after) == (0, 0) {
            continue;
        }
        let extent = fixed(x, axis)?;
        let padded = i64::try_from(extent)
            .ok()
            .and_then(|n| n.checked_add(before))
            .and_then(|n| n.checked_add(after))
            .and_then(|n| usize::try_from(n).ok());
        let Some(padded) = padded else {
            return mismatch(format!(
                "pads {before}, {after} leave nothing of axis {axis} of {x}"
            ));
        };
        let reach = before.max(after).max(0) as u64;
        let room = match mode {
            PadMode::Constant => u64::MAX,
            PadMode::Edge | PadMode::Wrap if extent == 0 => 0,
            PadMode::Edge | PadMode::Wrap => u64::MAX,
            PadMode::Reflect => (extent as u64).saturating_sub(1),
        };
        if reach > room {
            return mismatch(format!(
                "pads {before}, {after} reach beyond axis {axis} of {x}, which they mirror"
            ));
        }
        dims[axis] = Dim::Fixed(padded);
    }
    Ok(vec![(Shape(dims), dtype)])
}

pub(super) fn gather(axis: usize, inputs: &[Operand]) -> Inferred {
    count(inputs, "2", 2, 2)?;
    let ((x, dtype), (indices, ti)) = (inputs[0], inputs[1]);
    axis_of(x, axis)?;
    if !matches!(ti, DType::I64 | DType::I32) {
        return Err(ShapeError::Type {
            takes: "integer indices",
            found: ti,
        });
    }
    let mut dims = x.0[..axis].to_vec();
    dims.extend(&indices.0);
    dims.extend(&x.0[axis + 1..]);
    Ok(vec![(Shape(dims), dtype)])
}

pub(super) fn expand(to: &[Dim], inputs: &[Operand]) -> Inferred {
    let (x, dtype) = one(inputs)?;
    let y = Shape(to.to_vec());
    if broadcast(x, &y)? != y {
        return mismatch(format!("{x} can't be broadcast to {y}"));
    }
    Ok(vec![(y, dtype)])
}

pub(super) fn tile(repeats: &[usize], inputs: &[Operand]) -> Inferred {
    let (x, dtype) = one(inputs)?;
    if repeats.len() != x.rank() {
        return mismatch(format!("{} repeats for {x}", repeats.len()));
    }
    let mut dims = Vec::with_capacity(x.rank());
    for (&d, &r) in x.0.iter().zip(repeats) {
        dims.push(match d {
            Dim::Fixed(n) => Dim::Fixed(n.checked_mul(r).ok_or(ShapeError::TooLarge)?),
            Dim::Batch(_) if r == 0 => Dim::Fixed(0),
            Dim::Batch(k) => Dim::Batch(k.checked_mul(r).ok_or(ShapeError::TooLarge)?),
        });
    }
    Ok(vec![(Shape(dims), dtype)])
}
