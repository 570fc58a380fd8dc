/*! Ops that move the elements of one tensor: reshape, transpose, slice, expand, tile, pad, resize. */

use super::broadcast::{Rows, broadcast, broadcast_strides};
use super::view::{View, ViewMut, by_width};
use super::{Team, TensorInfo, Work, expect_dims, expect_type, piece, strides};
use crate::model::DType;
use crate::model::op::{PadMode, SliceRange};

/// The same elements in the same order.
pub(super) fn copy(ins: &[TensorInfo], outs: &[TensorInfo]) -> Result<Work, String> {
    expect_type("a result", &outs[0], ins[0].dtype)?;
    if ins[0].len() != outs[0].len() {
        return Err(format!(
            "{:?} elements seen as {:?}",
            ins[0].dims, outs[0].dims
        ));
    }
    Ok(Box::new(
        |ins: &[View], outs: &mut [ViewMut], team: Team| {
            let len = piece(1);
            team.pieces(outs[0].0, len, |i, y| {
                y.copy_from_slice(&ins[0].0[i * len..][..y.len()]);
            });
            Ok(())
        },
    ))
}

/// Output element at index (i, j, …) is input element `Σ index · stride`.
fn strided(info: &TensorInfo, dims: &[usize], from: Vec<usize>) -> Work {
    let rows = Rows::new(dims, [from]);
    by_width!(info.dtype, T => Box::new(move |ins: &[View], outs: &mut [ViewMut], team: Team| {
        let (x, y) = (ins[0].of::<T>(), outs[0].of::<T>());
        rows.shared_out(y, piece(2), team, |[at], [step], y| {
            if step == 1 {
                y.copy_from_slice(&x[at..at + y.len()]);
            } else {
                y.iter_mut().enumerate().for_each(|(i, y)| *y = x[at + i * step]);
            }
        });
        Ok(())
    }))
}

pub(super) fn transpose(
    perm: &[usize],
    ins: &[TensorInfo],
    outs: &[TensorInfo],
) -> Result<Work, String> {
    let x = &ins[0];
    let mut seen = perm.to_vec();
    seen.sort_unstable();
    if seen != (0..x.dims.len()).collect::<Vec<_>>() {
        return Err(format!("a permutation {perm:?} of {} axes", x.dims.len()));
    }
    let dims: Vec<usize> = perm.iter().map(|&p| x.dims[p]).collect();
    expect_dims("a result", &outs[0], &dims)?;
    expect_type("a result", &outs[0], x.dtype)?;
    let own = strides(&x.dims);
    Ok(strided(x, &dims, perm.iter().map(|&p| own[p]).collect()))
}

pub(super) fn expand(ins: &[TensorInfo], outs: &[TensorInfo]) -> Result<Work, String> {
    let (x, y) = (&ins[0], &outs[0]);
    expect_dims("a result", y, &broadcast(&x.dims, &y.dims)?)?;
    expect_type("a result", y, x.dtype)?;
    Ok(strided(x, &y.dims, broadcast_strides(&x.dims, &y.dims)))
}

pub(super) fn tile(
    repeats: &[usize],
    ins: &[TensorInfo],
    outs: &[TensorInfo],
) -> Result<Work, String> {
    let x = &ins[0];
    if repeats.len() != x.dims.len() {
        return Err(format!(
            "{} repeats for {} axes",
            repeats.len(),
            x.dims.len()
        ));
    }
    let dims: Vec<usize> = x.dims.iter().zip(repeats).map(|(d, r)| d * r).collect();
    expect_dims("a result", &outs[0], &dims)?;
    expect_type("a result", &outs[0], x.dtype)?;
    let own = strides(&x.dims);
    let (mut split, mut from) = (vec![], vec![]);
    for axis in 0..dims.len() {
        split.extend([repeats[axis], x.dims[axis]]);
        from.extend([0, own[axis]]);
    }
    Ok(strided(x, &split, from))
}

/// Output element at index (i, j, …) is input element `Σ maps[axis][index]`, or `fill` where one of
/// them is `None`. Offsets in elements.
fn mapped(info: &TensorInfo, maps: Vec<Vec<Option<usize>>>, fill: u64) -> Work {
    by_width!(info.dtype, T => Box::new(move |ins: &[View], outs: &mut [ViewMut], team: Team| {
        let (x, y) = (ins[0].of::<T>(), outs[0].of::<T>());
        let Some((inner, outer)) = maps.split_last() else {
            y.copy_from_slice(x);
            return Ok(());
        };
        if inner.is_empty() {
            return Ok(());
        }
        let fill = fill as T;
        let many = (piece(4) / inner.len()).max(1);
        team.pieces(y, many * inner.len(), |item, y| {
            for (row, y) in y.chunks_exact_mut(inner.len()).enumerate() {
                let mut left = item * many + row;
                let base = outer.iter().rev().try_fold(0, |base, map| {
                    let at = map[left % map.len()];
                    left /= map.len();
                    at.map(|at| base + at)
                });
                match base {
                    None => y.fill(fill),
                    Some(base) => y.iter_mut().zip(inner).for_each(|(y, at)| {
                        *y = at.map_or(fill, |at| x[base + at]);
                    }),
                }
            }
        });
        Ok(())
    }))
}

pub(super) fn slice(
    ranges: &[Option<SliceRange>],
    ins: &[TensorInfo],
    outs: &[TensorInfo],
) -> Result<Work, String> {
    let x = &ins[0];
    if ranges.len() != x.dims.len() {
        return Err(format!("{} ranges for {} axes", ranges.len(), x.dims.len()));
    }
    let own = strides(&x.dims);
    let mut maps = vec![];
    for (axis, range) in ranges.iter().enumerate() {
        let extent = x.dims[axis];
        let map: Option<Vec<_>> = match range {
            None => Some((0..extent).map(|i| Some(i * own[axis])).collect()),
            Some(r) => (0..r.count)
                .map(|i| {
                    let at = r.start as i64 + i as i64 * r.step;
                    let at = usize::try_from(at).ok().filter(|&at| at < extent)?;
                    Some(Some(at * own[axis]))
                })
                .collect(),
        };
        maps.push(map.ok_or_else(|| format!("a slice {range:?} of extent {extent}"))?);
    }
    let dims: Vec<usize> = maps.iter().map(Vec::len).collect();
    expect_dims("a result", &outs[0], &dims)?;
    expect_type("a result", &outs[0], x.dtype)?;
    Ok(mapped(x, maps, 0))
}

/// The bits of `value` in an element of type `dtype`.
fn bits(value: f32, dtype: DType) -> u64 {
    match dtype {
        DType::F32 => u64::from(value.to_bits()),
        DType::I64 => value as i64 as u64,
        DType::I32 => u64::from(value as i32 as u32),
        DType::I8 => u64::from(value as i8 as u8),
        DType::U8 => u64::from(value as u8),
        DType::Bool => u64::from(value != 0.0),
    }
}

pub(super) fn pad(
    mode: PadMode,
    pads: &[(i64, i64)],
    value: f32,
    ins: &[TensorInfo],
    outs: &[TensorInfo],
) -> Result<Work, String> {
    let x = &ins[0];
    if pads.len() != x.dims.len() {
        return Err(format!("{} pads for {} axes", pads.len(), x.dims.len()));
    }
    let own = strides(&x.dims);
    let mut maps = vec![];
    for (axis, &(before, after)) in pads.iter().enumerate() {
        let n = x.dims[axis] as i64;
        let total = n + before + after;
        if total < 0 {
            return Err(format!("a crop by {before} and {after} of extent {n}"));
        }
        let source = |at: i64| match mode {
            PadMode::Constant => (0..n).contains(&at).then_some(at),
            PadMode::Edge => (n > 0).then(|| at.clamp(0, n - 1)),
            PadMode::Wrap => (n > 0).then(|| at.rem_euclid(n)),
            PadMode::Reflect if n == 1 => Some(0),
            PadMode::Reflect => (n > 1).then(|| {
                let at = at.rem_euclid(2 * (n - 1));
                at.min(2 * (n - 1) - at)
            }),
        };
        let map = (0..total).map(|i| source(i - before).map(|at| at as usize * own[axis]));
        maps.push(map.collect());
    }
    let dims: Vec<usize> = maps.iter().map(Vec::len).collect();
    expect_dims("a result", &outs[0], &dims)?;
    expect_type("a result", &outs[0], x.dtype)?;
    Ok(mapped(x, maps, bits(value, x.dtype)))
}

/// Where output cell `i` of `to` lies on an axis of `from` cells.
fn source(i: usize, from: usize, to: usize, half_pixel: bool) -> f32 {
    let scale = from as f32 / to as f32;
    if half_pixel {
        (i as f32 + 0.5) * scale - 0.5
    } else {
        i as f32 * scale
    }
}

pub(super) fn resize(
    to: &[usize],
    linear: bool,
    half_pixel: bool,
    ins: &[TensorInfo],
    outs: &[TensorInfo],
) -> Result<Work, String> {
    let x = &ins[0];
    expect_type("a result", &outs[0], x.dtype)?;
    if x.dims.len() != to.len() + 2 {
        return Err(format!("{} extents for {} axes", to.len(), x.dims.len()));
    }
    let dims = [&x.dims[..2], to].concat();
    expect_dims("a result", &outs[0], &dims)?;
    let own = strides(&x.dims);
    if !linear {
        let maps = (0..dims.len()).map(|axis| {
            let (from, to) = (x.dims[axis], dims[axis]);
            let nearest = |i| {
                let at = source(i, from, to, half_pixel);
                // Halves go down with half pixels (`round_prefer_floor`); the asymmetric form is
                // what Upsample did, which takes the cell the coordinate falls into.
                let at = if half_pixel {
                    (at - 0.5).ceil()
                } else {
                    at.floor()
                };
                (at.max(0.0) as usize).min(from.saturating_sub(1))
            };
            (0..to).map(|i| Some(nearest(i) * own[axis])).collect()
        });
        return Ok(mapped(x, maps.collect(), 0));
    }
    expect_type("a linearly resized tensor", x, DType::F32)?;
    if x.dims.contains(&0) {
        return Err("resizing nothing".to_string());
    }
    // For each spatial axis and output cell: the two source offsets and the weight of the second.
    let axes: Vec<Vec<(usize, usize, f32)>> = (2..dims.len())
        .map(|axis| {
            let from = x.dims[axis];
            let cell = |i| {
                let at = source(i, from, dims[axis], half_pixel).clamp(0.0, (from - 1) as f32);
                let low = at.floor() as usize;
                let high = (low + 1).min(from - 1);
                (low * own[axis], high * own[axis], at - low as f32)
            };
            (0..dims[axis]).map(cell).collect()
        })
        .collect();
    if axes.len() > 3 {
        return Err(format!("a resize over {} axes", axes.len()));
    }
    let plane_in: usize = x.dims[2..].iter().product();
    let plane_out: usize = to.iter().product();
    Ok(Box::new(
        move |ins: &[View], outs: &mut [ViewMut], team: Team| {
            let (x, y) = (ins[0].of::<f32>(), outs[0].of::<f32>());
            let len = piece(16);
            team.pieces(y, len, |item, y| {
                for (i, y) in y.iter_mut().enumerate() {
                    let cell = item * len + i;
                    let x = &x[cell / plane_out * plane_in..][..plane_in];
                    let mut left = cell % plane_out;
                    let (mut corners, mut count) = ([(0usize, 1.0f32); 8], 1);
                    for map in axes.iter().rev() {
                        let (low, high, t) = map[left % map.len()];
                        left /= map.len();
                        // Each corner becomes two, in place from the last on.
                        for corner in (0..count).rev() {
                            let (at, w) = corners[corner];
                            corners[2 * corner] = (at + low, w * (1.0 - t));
                            corners[2 * corner + 1] = (at + high, w * t);
                        }
                        count *= 2;
                    }
                    *y = corners[..count].iter().map(|&(at, w)| x[at] * w).sum();
                }
            });
            Ok(())
        },
    ))
}
