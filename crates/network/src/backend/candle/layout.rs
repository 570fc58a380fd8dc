/*! Ops that move elements. */

use crate::model::op::{PadMode, SliceRange};
use candle_core::{DType, Device, Result, Tensor, bail};

/// The elements `at` of an axis, in that order.
pub(super) fn select(
    x: &Tensor,
    axis: usize,
    at: impl IntoIterator<Item = usize>,
) -> Result<Tensor> {
    let at: Vec<u32> = at.into_iter().map(|i| i as u32).collect();
    let count = at.len();
    let at = Tensor::from_vec(at, count, x.device())?;
    x.contiguous()?.index_select(&at, axis)
}

/// `count` elements of an axis from `start` on, `step` apart.
pub(super) fn every(
    x: &Tensor,
    axis: usize,
    start: usize,
    step: usize,
    count: usize,
) -> Result<Tensor> {
    if step == 1 {
        return x.narrow(axis, start, count);
    }
    // Seen as (count, step) of which the first column is taken; the last row may hang over.
    let reach = (count - 1) * step + 1;
    let room = (x.dim(axis)? - start).min(count * step);
    let mut x = x.narrow(axis, start, room.max(reach))?;
    if room < count * step {
        x = x.pad_with_zeros(axis, 0, count * step - room)?;
    }
    let mut dims = x.dims().to_vec();
    dims[axis] = count;
    dims.insert(axis + 1, step);
    x.reshape(dims)?.narrow(axis + 1, 0, 1)?.squeeze(axis + 1)
}

pub(super) fn slice(x: &Tensor, ranges: &[Option<SliceRange>]) -> Result<Tensor> {
    let mut y = x.clone();
    for (axis, range) in ranges.iter().enumerate() {
        let Some(r) = range else { continue };
        y = match r.step {
            1 => y.narrow(axis, r.start, r.count)?,
            step => {
                let at = (0..r.count as i64).map(|i| (r.start as i64 + i * step) as usize);
                select(&y, axis, at)?
            }
        };
    }
    Ok(y)
}

/// `value` before and after an axis.
pub(super) fn border(
    x: &Tensor,
    axis: usize,
    (before, after): (usize, usize),
    value: f64,
) -> Result<Tensor> {
    if before + after == 0 {
        return Ok(x.clone());
    }
    if value == 0.0 {
        return x.pad_with_zeros(axis, before, after);
    }
    let edge = |extent: usize| {
        let mut dims = x.dims().to_vec();
        dims[axis] = extent;
        filled(value, &dims, x.dtype(), x.device())
    };
    let mut all = vec![];
    if before > 0 {
        all.push(edge(before)?);
    }
    all.push(x.contiguous()?);
    if after > 0 {
        all.push(edge(after)?);
    }
    Tensor::cat(&all, axis)
}

fn filled(value: f64, dims: &[usize], dtype: DType, device: &Device) -> Result<Tensor> {
    match dtype {
        DType::F32 => Tensor::full(value as f32, dims, device),
        DType::I64 => Tensor::full(value as i64, dims, device),
        DType::U8 => Tensor::full(value as u8, dims, device),
        other => bail!("a constant of type {other:?}"),
    }
}

pub(super) fn pad(x: &Tensor, mode: PadMode, pads: &[(i64, i64)], value: f32) -> Result<Tensor> {
    let mut y = x.clone();
    for (axis, &(before, after)) in pads.iter().enumerate() {
        if (before, after) == (0, 0) {
            continue;
        }
        let n = y.dim(axis)? as i64;
        let total = n + before + after;
        if mode != PadMode::Constant {
            let source = |i: i64| match mode {
                PadMode::Wrap => i.rem_euclid(n),
                PadMode::Reflect if n > 1 => {
                    let at = i.rem_euclid(2 * (n - 1));
                    at.min(2 * (n - 1) - at)
                }
                _ => i.clamp(0, n - 1),
            };
            y = select(&y, axis, (0..total).map(|i| source(i - before) as usize))?;
            continue;
        }
        let (first, end) = ((-before).max(0), n + after.min(0));
        if end <= first {
            bail!("a crop by {before} and {after} of extent {n}");
        }
        y = y.narrow(axis, first as usize, (end - first) as usize)?;
        let outside = (before.max(0) as usize, after.max(0) as usize);
        y = border(&y, axis, outside, f64::from(value))?;
    }
    Ok(y)
}

/// `x` at `indices` along `axis`. Indices are looked at on the host: a device would read out of
/// bounds where one is wrong.
pub(super) fn gather(x: &Tensor, indices: &Tensor, axis: usize) -> Result<Tensor> {
    let extent = x.dim(axis)? as i64;
    let mut at = vec![];
    for i in indices
        .flatten_all()?
        .to_dtype(DType::I64)?
        .to_vec1::<i64>()?
    {
        let from = if i < 0 { i + extent } else { i };
        if !(0..extent).contains(&from) {
            bail!("index {i} on an axis of {extent}");
        }
        at.push(from as usize);
    }
    let dims = [&x.dims()[..axis], indices.dims(), &x.dims()[axis + 1..]].concat();
    select(x, axis, at)?.reshape(dims)
}

/// Resamples the spatial axes, one after the other.
pub(super) fn resize(x: &Tensor, to: &[usize], linear: bool, half_pixel: bool) -> Result<Tensor> {
    let mut y = x.clone();
    for (i, &to) in to.iter().enumerate() {
        let axis = i + 2;
        let from = y.dim(axis)?;
        if from == to {
            continue;
        }
        let scale = from as f32 / to as f32;
        let source = |i: usize| match half_pixel {
            true => (i as f32 + 0.5) * scale - 0.5,
            false => i as f32 * scale,
        };
        if !linear {
            let nearest = |i: usize| {
                let at = source(i);
                let at = if half_pixel {
                    (at - 0.5).ceil()
                } else {
                    at.floor()
                };
                (at.max(0.0) as usize).min(from - 1)
            };
            y = select(&y, axis, (0..to).map(nearest))?;
            continue;
        }
        let at: Vec<f32> = (0..to)
            .map(|i| source(i).clamp(0.0, (from - 1) as f32))
            .collect();
        let low = |at: &f32| at.floor() as usize;
        let below = select(&y, axis, at.iter().map(low))?;
        let above = select(&y, axis, at.iter().map(|at| (low(at) + 1).min(from - 1)))?;
        let mut dims = vec![1; y.rank()];
        dims[axis] = to;
        let share = at.iter().map(|at| at - at.floor()).collect::<Vec<f32>>();
        let share = Tensor::from_vec(share, dims, y.device())?;
        y = (&below + (above - &below)?.broadcast_mul(&share)?)?;
    }
    Ok(y)
}
