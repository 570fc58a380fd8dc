/*! Ops that put tensors together or take them apart: concat, split, gather, where. */

use super::broadcast::{Rows, broadcast, broadcast_strides};
use super::view::{View, ViewMut, by_width};
use super::{Team, TensorInfo, Work, around, expect_axis, expect_dims, expect_type, piece};
use crate::model::DType;

pub(super) fn concat(axis: usize, ins: &[TensorInfo], outs: &[TensorInfo]) -> Result<Work, String> {
    let y = &outs[0];
    expect_axis(axis, y)?;
    let mut total = 0;
    for x in ins {
        expect_type("an input", x, y.dtype)?;
        let mut dims = y.dims.clone();
        dims[axis] = *x.dims.get(axis).unwrap_or(&0);
        expect_dims("an input", x, &dims)?;
        total += dims[axis];
    }
    if total != y.dims[axis] {
        return Err(format!(
            "inputs of {total} in all for an axis of {}",
            y.dims[axis]
        ));
    }
    let width = y.dtype.bytes();
    let runs: Vec<usize> = ins
        .iter()
        .map(|x| around(&x.dims, axis)[1..].iter().product::<usize>() * width)
        .collect();
    let row: usize = runs.iter().sum();
    Ok(Box::new(
        move |ins: &[View], outs: &mut [ViewMut], team: Team| {
            if row == 0 {
                return Ok(());
            }
            let many = (piece(1) / row).max(1);
            team.pieces(outs[0].0, many * row, |item, y| {
                for (i, mut y) in y.chunks_exact_mut(row).enumerate() {
                    let i = item * many + i;
                    for (x, &run) in ins.iter().zip(&runs) {
                        let (head, tail) = y.split_at_mut(run);
                        head.copy_from_slice(&x.0[i * run..(i + 1) * run]);
                        y = tail;
                    }
                }
            });
            Ok(())
        },
    ))
}

pub(super) fn split(
    axis: usize,
    sizes: &[usize],
    ins: &[TensorInfo],
    outs: &[TensorInfo],
) -> Result<Work, String> {
    let x = &ins[0];
    expect_axis(axis, x)?;
    if sizes.len() != outs.len() || sizes.iter().sum::<usize>() != x.dims[axis] {
        return Err(format!("sizes {sizes:?} for an axis of {}", x.dims[axis]));
    }
    for (y, &size) in outs.iter().zip(sizes) {
        let mut dims = x.dims.clone();
        dims[axis] = size;
        expect_dims("a result", y, &dims)?;
        expect_type("a result", y, x.dtype)?;
    }
    let inner = around(&x.dims, axis)[2] * x.dtype.bytes();
    let runs: Vec<usize> = sizes.iter().map(|s| s * inner).collect();
    let row: usize = runs.iter().sum();
    Ok(Box::new(
        move |ins: &[View], outs: &mut [ViewMut], team: Team| {
            if row == 0 {
                return Ok(());
            }
            let mut before = 0;
            for (y, &run) in outs.iter_mut().zip(&runs) {
                let many = (piece(1) / run.max(1)).max(1);
                team.pieces(y.0, many * run, |item, y| {
                    for (i, y) in y.chunks_exact_mut(run).enumerate() {
                        let from = (item * many + i) * row + before;
                        y.copy_from_slice(&ins[0].0[from..from + run]);
                    }
                });
                before += run;
            }
            Ok(())
        },
    ))
}

pub(super) fn gather(axis: usize, ins: &[TensorInfo], outs: &[TensorInfo]) -> Result<Work, String> {
    let (x, indices, y) = (&ins[0], &ins[1], &outs[0]);
    expect_axis(axis, x)?;
    expect_type("a result", y, x.dtype)?;
    let dims = [&x.dims[..axis], &indices.dims[..], &x.dims[axis + 1..]].concat();
    expect_dims("a result", y, &dims)?;
    let narrow = match indices.dtype {
        DType::I32 => true,
        DType::I64 => false,
        other => return Err(format!("indices of type {other:?}")),
    };
    let [_, extent, inner] = around(&x.dims, axis);
    let run = inner * x.dtype.bytes();
    let block = extent * run;
    Ok(Box::new(
        move |ins: &[View], outs: &mut [ViewMut], team: Team| {
            let indices: Vec<i64> = if narrow {
                ins[1].of::<i32>().iter().map(|&i| i64::from(i)).collect()
            } else {
                ins[1].of::<i64>().to_vec()
            };
            let n = extent as i64;
            if let Some(bad) = indices.iter().find(|&&i| i < -n || i >= n) {
                return Err(format!("index {bad} on an axis of {extent}"));
            }
            if run == 0 || indices.is_empty() {
                return Ok(());
            }
            let many = (piece(1) / run).max(1);
            team.pieces(outs[0].0, many * run, |item, y| {
                for (i, y) in y.chunks_exact_mut(run).enumerate() {
                    let i = item * many + i;
                    let at = indices[i % indices.len()].rem_euclid(n) as usize;
                    let from = i / indices.len() * block + at * run;
                    y.copy_from_slice(&ins[0].0[from..from + run]);
                }
            });
            Ok(())
        },
    ))
}

/// `condition ? x : y`, broadcast.
pub(super) fn choose(ins: &[TensorInfo], outs: &[TensorInfo]) -> Result<Work, String> {
    let [condition, x, y] = [&ins[0], &ins[1], &ins[2]];
    expect_type("a condition", condition, DType::Bool)?;
    expect_type("a choice", y, x.dtype)?;
    expect_type("a result", &outs[0], x.dtype)?;
    let dims = broadcast(&condition.dims, &broadcast(&x.dims, &y.dims)?)?;
    expect_dims("a result", &outs[0], &dims)?;
    let rows = Rows::new(
        &dims,
        [condition, x, y].map(|t| broadcast_strides(&t.dims, &dims)),
    );
    Ok(
        by_width!(x.dtype, T => Box::new(move |ins: &[View], outs: &mut [ViewMut], team: Team| {
            let (c, x, y) = (ins[0].of::<u8>(), ins[1].of::<T>(), ins[2].of::<T>());
            rows.shared_out(outs[0].of::<T>(), piece(4), team, |at, step, out| {
                for (i, out) in out.iter_mut().enumerate() {
                    *out = if c[at[0] + i * step[0]] != 0 {
                        x[at[1] + i * step[1]]
                    } else {
                        y[at[2] + i * step[2]]
                    };
                }
            });
            Ok(())
        })),
    )
}
