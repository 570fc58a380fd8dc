/*! Inference for ops that slide over, resample or normalise the spatial axes. */

use super::super::constant::DType;
use super::super::op::{Op, PoolKind, Window};
use super::super::shape::{Dim, Shape};
use super::{Inferred, MAX_WINDOW, Operand, ShapeError, count, fixed, float, mismatch, one};

/// `[N, channels, …]` with the spatial extents the window leaves.
fn slide(x: &Shape, channels: Dim, window: &Window) -> Result<Shape, ShapeError> {
    let axes = x.rank().saturating_sub(2);
    let lengths = [
        window.kernel.len(),
        window.strides.len(),
        window.dilations.len(),
        window.pads.len(),
    ];
    if axes == 0 || lengths != [axes; 4] {
        return mismatch(format!(
            "a window over {} axes can't slide over {x}",
            window.kernel.len()
        ));
    }
    let mut dims = vec![x.0[0], channels];
    for i in 0..axes {
        let (before, after) = window.pads[i];
        let steps = [window.kernel[i], window.strides[i], window.dilations[i]];
        if steps.iter().any(|&n| n == 0 || n > MAX_WINDOW) || before.max(after) > MAX_WINDOW {
            return mismatch(format!(
                "kernel {}, stride {}, dilation {} and padding {before}, {after} on one axis",
                steps[0], steps[1], steps[2]
            ));
        }
        let input = fixed(x, i + 2)?;
        if input > super::MAX_ELEMENTS {
            return Err(ShapeError::TooLarge);
        }
        match window.output(i, input) {
            Some(n) => dims.push(Dim::Fixed(n)),
            None => {
                return mismatch(format!(
                    "a window of {} (dilation {}) does not fit {input} with padding {before}, {after}",
                    steps[0], steps[2]
                ));
            }
        }
    }
    Ok(Shape(dims))
}

pub(super) fn conv(op: &Op, inputs: &[Operand]) -> Inferred {
    let Op::Conv {
        window,
        groups,
        bias,
        residual,
        ..
    } = op
    else {
        return mismatch("not a convolution");
    };
    let takes = 2 + usize::from(*bias) + usize::from(*residual);
    count(inputs, "2 to 4", takes, takes)?;
    let x = float(inputs[0])?;
    let weight = float(inputs[1])?;
    if x.rank() < 3 || weight.rank() != x.rank() {
        return mismatch(format!("input {x} and weights {weight} don't go together"));
    }
    let channels = fixed(x, 1)?;
    let (out, per_group) = (fixed(weight, 0)?, fixed(weight, 1)?);
    if *groups == 0 || per_group.checked_mul(*groups) != Some(channels) || out % groups != 0 {
        return mismatch(format!(
            "{channels} input channels in {groups} groups don't fit weights {weight}"
        ));
    }
    for (i, &k) in window.kernel.iter().enumerate() {
        if weight.0.get(i + 2) != Some(&Dim::Fixed(k)) {
            return mismatch(format!(
                "the kernel {:?} is not that of {weight}",
                window.kernel
            ));
        }
    }
    let y = slide(x, Dim::Fixed(out), window)?;
    if *bias && *float(inputs[2])? != Shape::fixed(&[out]) {
        return mismatch(format!("the bias is {}, not {out}", inputs[2].0));
    }
    if *residual && *float(inputs[takes - 1])? != y {
        let found = inputs[takes - 1].0;
        return mismatch(format!("the residual is {found}, the result {y}"));
    }
    Ok(vec![(y, DType::F32)])
}

pub(super) fn pool(
    kind: PoolKind,
    window: &Window,
    extra: &[usize],
    inputs: &[Operand],
) -> Inferred {
    let (x, dtype) = one(inputs)?;
    if x.rank() < 3 {
        return mismatch(format!("a pool needs spatial axes, {x} has none"));
    }
    let fits = extra.len() == window.pads.len()
        && extra.iter().zip(&window.pads).all(|(e, (_, end))| e <= end);
    if !fits {
        return mismatch("the cells added by rounding up are not part of the padding");
    }
    let y = slide(x, x.0[1], window)?;
    match kind {
        PoolKind::Average { .. } => {
            float(inputs[0])?;
            Ok(vec![(y, DType::F32)])
        }
        PoolKind::Max => Ok(vec![(y.clone(), dtype), (y, DType::I64)]),
    }
}

pub(super) fn global_pool(inputs: &[Operand]) -> Inferred {
    let x = float(one(inputs)?)?;
    if x.rank() < 3 {
        return mismatch(format!("a global pool needs spatial axes, {x} has none"));
    }
    let mut dims = x.0.clone();
    dims[2..].fill(Dim::Fixed(1));
    Ok(vec![(Shape(dims), DType::F32)])
}

pub(super) fn resize(to: &[usize], inputs: &[Operand]) -> Inferred {
    let x = float(one(inputs)?)?;
    if x.rank() != to.len() + 2 {
        return mismatch(format!("{} spatial extents for {x}", to.len()));
    }
    let mut dims = x.0[..2].to_vec();
    dims.extend(to.iter().map(|&n| Dim::Fixed(n)));
    Ok(vec![(Shape(dims), DType::F32)])
}

/// Norms with one entry a channel in each further input.
pub(super) fn channel_norm(inputs: &[Operand], takes: &'static str, n: usize) -> Inferred {
    count(inputs, takes, n, n)?;
    let x = float(inputs[0])?;
    if x.rank() < 2 {
        return mismatch(format!("{x} has no channels"));
    }
    for &operand in &inputs[1..] {
        if *float(operand)? != Shape(vec![x.0[1]]) {
            return mismatch(format!("{} is not one number a channel of {x}", operand.0));
        }
    }
    Ok(vec![(x.clone(), DType::F32)])
}

pub(super) fn lrn(size: usize, inputs: &[Operand]) -> Inferred {
    let x = float(one(inputs)?)?;
    if x.rank() < 2 || size == 0 {
        return mismatch(format!("{size} channels of {x}"));
    }
    Ok(vec![(x.clone(), DType::F32)])
}
