/*! QuantizeLinear and DequantizeLinear: round half to even, saturate, scales for the whole tensor
or along one axis. */

use super::view::{Number, View, ViewMut};
use super::{Team, TensorInfo, Work, around, expect_axis, expect_dims, expect_type, piece};
use crate::model::DType;

/// Elements that share a scale: `[count, scales, inner]`.
fn scales(
    axis: usize,
    x: &TensorInfo,
    scale: &TensorInfo,
    zero: Option<&TensorInfo>,
) -> Result<[usize; 3], String> {
    expect_type("a scale", scale, DType::F32)?;
    if let Some(zero) = zero
        && zero.len() != scale.len()
    {
        return Err(format!(
            "{} zero points for {} scales",
            zero.len(),
            scale.len()
        ));
    }
    if scale.len() == 1 {
        return Ok([1, 1, x.len()]);
    }
    if scale.dims.len() != 1 {
        return Err(format!("scales of extents {:?} (blocks)", scale.dims));
    }
    expect_axis(axis, x)?;
    let around = around(&x.dims, axis);
    if around[1] != scale.len() {
        return Err(format!(
            "{} scales for an axis of {}",
            scale.len(),
            around[1]
        ));
    }
    Ok(around)
}

/// Calls `f(run, inputs, outputs)` for what lies in one run of `inner` elements, in pieces for the
/// threads of `team`.
fn runs<X: Sync, Y: Send>(
    x: &[X],
    y: &mut [Y],
    inner: usize,
    team: Team<'_>,
    f: impl Fn(usize, &[X], &mut [Y]) + Sync,
) {
    let len = piece(4);
    team.pieces(y, len, |item, mut y| {
        let mut at = item * len;
        while !y.is_empty() {
            let left = (inner - at % inner).min(y.len());
            let (head, tail) = y.split_at_mut(left);
            f(at / inner, &x[at..at + left], head);
            (at, y) = (at + left, tail);
        }
    });
}

fn quantize_to<T: Number>(n: usize, inner: usize) -> Work {
    let inner = inner.max(1);
    Box::new(move |ins: &[View], outs: &mut [ViewMut], team: Team| {
        let (x, scale, y) = (ins[0].of::<f32>(), ins[1].of::<f32>(), outs[0].of::<T>());
        let zero = ins.get(2).map(|v| v.of::<T>());
        runs(x, y, inner, team, |i, x, y| {
            let scale = scale[i % n];
            let zero = zero.map_or(0.0, |z| z[i % n].to_f64());
            for (y, &x) in y.iter_mut().zip(x) {
                *y = T::from_f64(f64::from((x / scale).round_ties_even()) + zero);
            }
        });
        Ok(())
    })
}

pub(super) fn quantize(
    axis: usize,
    to: DType,
    ins: &[TensorInfo],
    outs: &[TensorInfo],
) -> Result<Work, String> {
    expect_type("an input", &ins[0], DType::F32)?;
    expect_type("a result", &outs[0], to)?;
    expect_dims("a result", &outs[0], &ins[0].dims)?;
    let [_, n, inner] = scales(axis, &ins[0], &ins[1], ins.get(2))?;
    if let Some(zero) = ins.get(2) {
        expect_type("a zero point", zero, to)?;
    }
    match to {
        DType::U8 => Ok(quantize_to::<u8>(n, inner)),
        DType::I8 => Ok(quantize_to::<i8>(n, inner)),
        DType::I32 => Ok(quantize_to::<i32>(n, inner)),
        other => Err(format!("quantising to {other:?}")),
    }
}

fn dequantize_from<T: Number>(n: usize, inner: usize) -> Work {
    let inner = inner.max(1);
    Box::new(move |ins: &[View], outs: &mut [ViewMut], team: Team| {
        let (x, scale, y) = (ins[0].of::<T>(), ins[1].of::<f32>(), outs[0].of::<f32>());
        let zero = ins.get(2).map(|v| v.of::<T>());
        runs(x, y, inner, team, |i, x, y| {
            let scale = scale[i % n];
            let zero = zero.map_or(0.0, |z| z[i % n].to_f64());
            for (y, &x) in y.iter_mut().zip(x) {
                *y = (x.to_f64() - zero) as f32 * scale;
            }
        });
        Ok(())
    })
}

pub(super) fn dequantize(
    axis: usize,
    ins: &[TensorInfo],
    outs: &[TensorInfo],
) -> Result<Work, String> {
    let x = &ins[0];
    expect_type("a result", &outs[0], DType::F32)?;
    expect_dims("a result", &outs[0], &x.dims)?;
    let [_, n, inner] = scales(axis, x, &ins[1], ins.get(2))?;
    if let Some(zero) = ins.get(2) {
        expect_type("a zero point", zero, x.dtype)?;
    }
    match x.dtype {
        DType::U8 => Ok(dequantize_from::<u8>(n, inner)),
        DType::I8 => Ok(dequantize_from::<i8>(n, inner)),
        DType::I32 => Ok(dequantize_from::<i32>(n, inner)),
        other => Err(format!("dequantising {other:?}")),
    }
}
