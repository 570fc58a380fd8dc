/*! Convolutions and pools over one, two or three spatial axes. */

use super::elementwise::clamp;
use super::view::{Number, View, ViewMut};
use super::{Team, TensorInfo, Work, expect_dims, expect_floats, expect_type, piece};
use crate::model::op::{PoolKind, Window};
use crate::model::{Activation, DType};

/// A window over exactly three spatial axes: missing ones are put in front with extent 1.
#[derive(Debug, Clone)]
struct Geometry {
    channels: usize,
    input: [usize; 3],
    output: [usize; 3],
    kernel: [usize; 3],
    strides: [usize; 3],
    dilations: [usize; 3],
    pads: [(usize, usize); 3],
}

impl Geometry {
    /// Checks `window` against the tensors; `channels` is what the output should have.
    fn new(
        window: &Window,
        channels: usize,
        x: &TensorInfo,
        y: &TensorInfo,
    ) -> Result<Geometry, String> {
        let spatial = x.dims.len().saturating_sub(2);
        let axes = [
            window.kernel.len(),
            window.strides.len(),
            window.dilations.len(),
            window.pads.len(),
        ];
        if !(1..=3).contains(&spatial) || axes != [spatial; 4] {
            return Err(format!(
                "a window over {} axes on extents {:?}",
                window.kernel.len(),
                x.dims
            ));
        }
        if window.strides.contains(&0) || window.dilations.contains(&0) {
            return Err("a window of stride or dilation 0".to_string());
        }
        if window.kernel.contains(&0) {
            return Err("an empty window".to_string());
        }
        let mut dims = vec![x.dims[0], channels];
        for axis in 0..spatial {
            let extent = x.dims[2 + axis];
            let output = window.output(axis, extent);
            dims.push(output.ok_or_else(|| format!("a window larger than its {extent} cells"))?);
        }
        expect_dims("a result", y, &dims)?;
        let lead = 3 - spatial;
        let at = |of: &[usize], missing| {
            std::array::from_fn(|i| if i < lead { missing } else { of[i - lead] })
        };
        Ok(Geometry {
            channels: x.dims[1],
            input: at(&x.dims[2..], 1),
            output: at(&dims[2..], 1),
            kernel: at(&window.kernel, 1),
            strides: at(&window.strides, 1),
            dilations: at(&window.dilations, 1),
            pads: std::array::from_fn(|i| {
                if i < lead {
                    (0, 0)
                } else {
                    window.pads[i - lead]
                }
            }),
        })
    }

    /// The input cell under output cell `o` and tap `k` of `axis`, unless it is padding.
    fn cell(&self, axis: usize, o: usize, k: usize) -> Option<usize> {
        (o * self.strides[axis] + k * self.dilations[axis])
            .checked_sub(self.pads[axis].0)
            .filter(|&i| i < self.input[axis])
    }

    /// The output cells of `axis` for which tap `k` falls on a real cell.
    fn span(&self, axis: usize, k: usize) -> std::ops::Range<usize> {
        let inside = |o: &usize| self.cell(axis, *o, k).is_some();
        let start = (0..self.output[axis]).find(inside).unwrap_or(0);
        let end = (start..self.output[axis]).rev().find(inside);
        start..end.map_or(start, |e| e + 1)
    }

    fn plane_in(&self) -> usize {
        self.input.iter().product()
    }

    fn plane_out(&self) -> usize {
        self.output.iter().product()
    }
}

pub(super) fn conv(
    window: &Window,
    groups: usize,
    bias: bool,
    residual: bool,
    activation: Activation,
    ins: &[TensorInfo],
    outs: &[TensorInfo],
) -> Result<Work, String> {
    let all: Vec<&TensorInfo> = ins.iter().chain(outs).collect();
    expect_floats("a tensor", &all)?;
    let (x, weight) = (&ins[0], &ins[1]);
    let channels = *weight.dims.first().unwrap_or(&0);
    let g = Geometry::new(window, channels, x, &outs[0])?;
    if groups == 0 || g.channels % groups != 0 || channels % groups != 0 {
        return Err(format!(
            "{} to {channels} channels in {groups} groups",
            g.channels
        ));
    }
    let (deep, wide) = (g.channels / groups, channels / groups);
    let taps: usize = g.kernel.iter().product();
    expect_dims(
        "a weight",
        weight,
        &[&[channels, deep], &window.kernel[..]].concat(),
    )?;
    if bias {
        expect_dims("a bias", &ins[2], &[channels])?;
    }
    if residual {
        expect_dims("a residual", &ins[ins.len() - 1], &outs[0].dims)?;
    }
    let spans: [Vec<_>; 3] =
        std::array::from_fn(|axis| (0..g.kernel[axis]).map(|k| g.span(axis, k)).collect());
    let Activation { low, high } = activation;
    Ok(Box::new(
        move |ins: &[View], outs: &mut [ViewMut], team: Team| {
            let (x, w, y) = (ins[0].of::<f32>(), ins[1].of::<f32>(), outs[0].of::<f32>());
            let bias = bias.then(|| ins[2].of::<f32>());
            let residual = residual.then(|| ins[ins.len() - 1].of::<f32>());
            let (plane_in, plane_out) = (g.plane_in(), g.plane_out());
            planes(y, plane_out, deep * taps, team, |plane, y| {
                let (sample, out) = (plane / channels, plane % channels);
                y.fill(bias.map_or(0.0, |b| b[out]));
                for c in 0..deep {
                    if team.cancel.is_cancelled() {
                        return;
                    }
                    let from = (sample * g.channels + out / wide * deep + c) * plane_in;
                    let x = &x[from..from + plane_in];
                    let w = &w[(out * deep + c) * taps..][..taps];
                    accumulate(&g, &spans, x, w, y);
                }
                let residual = residual.map(|r| &r[plane * plane_out..][..plane_out]);
                for (i, y) in y.iter_mut().enumerate() {
                    *y = clamp(*y + residual.map_or(0.0, |r| r[i]), low, high);
                }
            });
            Ok(())
        },
    ))
}

/// Calls `f(number, output)` for each plane of `len` cells, with the threads of `team`.
fn planes<T: Send>(
    y: &mut [T],
    len: usize,
    cost: usize,
    team: Team<'_>,
    f: impl Fn(usize, &mut [T]) + Sync,
) {
    let len = len.max(1);
    let many = (piece(cost) / len).max(1);
    team.pieces(y, many * len, |item, y| {
        for (plane, y) in y.chunks_exact_mut(len).enumerate() {
            f(item * many + plane, y);
        }
    });
}

/// Adds one input plane under one kernel plane to an output plane, tap by tap: the inner loop runs
/// along a row, without a branch.
fn accumulate(
    g: &Geometry,
    spans: &[Vec<std::ops::Range<usize>>; 3],
    x: &[f32],
    w: &[f32],
    y: &mut [f32],
) {
    let [_, kh, kw] = g.kernel;
    for (tap, &w) in w.iter().enumerate() {
        let (kd, ky, kx) = (tap / (kh * kw), tap / kw % kh, tap % kw);
        let columns = spans[2][kx].clone();
        let Some(first) = g.cell(2, columns.start, kx) else {
            continue;
        };
        for od in spans[0][kd].clone() {
            for oy in spans[1][ky].clone() {
                let (Some(id), Some(iy)) = (g.cell(0, od, kd), g.cell(1, oy, ky)) else {
                    continue;
                };
                let row = (id * g.input[1] + iy) * g.input[2] + first;
                let out = (od * g.output[1] + oy) * g.output[2];
                let y = &mut y[out + columns.start..out + columns.end];
                if g.strides[2] == 1 {
                    let x = &x[row..row + y.len()];
                    y.iter_mut().zip(x).for_each(|(y, &x)| *y += w * x);
                } else {
                    let x = x[row..].iter().step_by(g.strides[2]);
                    y.iter_mut().zip(x).for_each(|(y, &x)| *y += w * x);
                }
            }
        }
    }
}

/// Calls `f(input offset in the plane)` for each real cell under output cell `o`.
fn each_cell(g: &Geometry, o: [usize; 3], mut f: impl FnMut(usize)) {
    for kd in 0..g.kernel[0] {
        for ky in 0..g.kernel[1] {
            let (Some(d), Some(y)) = (g.cell(0, o[0], kd), g.cell(1, o[1], ky)) else {
                continue;
            };
            for kx in 0..g.kernel[2] {
                if let Some(x) = g.cell(2, o[2], kx) {
                    f((d * g.input[1] + y) * g.input[2] + x);
                }
            }
        }
    }
}

fn output_index(g: &Geometry, cell: usize) -> [usize; 3] {
    let [_, h, w] = g.output;
    [cell / (h * w), cell / w % h, cell % w]
}

pub(super) fn pool(
    kind: PoolKind,
    window: &Window,
    extra: &[usize],
    column_major: bool,
    ins: &[TensorInfo],
    outs: &[TensorInfo],
) -> Result<Work, String> {
    let (x, y) = (&ins[0], &outs[0]);
    expect_type("a result", y, x.dtype)?;
    let channels = *x.dims.get(1).unwrap_or(&0);
    let g = Geometry::new(window, channels, x, y)?;
    if let Some(indices) = outs.get(1) {
        expect_type("the indices", indices, DType::I64)?;
        expect_dims("the indices", indices, &y.dims)?;
    }
    match (kind, x.dtype) {
        (PoolKind::Average { count_include_pad }, DType::F32) if outs.len() == 1 => {
            let extra = extra_cells(&g, extra)?;
            Ok(mean(g, count_include_pad, extra))
        }
        (PoolKind::Max, DType::F32) => Ok(max::<f32>(g, column_major)),
        (PoolKind::Max, DType::U8) => Ok(max::<u8>(g, column_major)),
        (PoolKind::Max, DType::I8) => Ok(max::<i8>(g, column_major)),
        _ => Err(format!("a pool {kind:?} of type {:?}", x.dtype)),
    }
}

/// The cells that only rounding up added, over exactly three axes.
fn extra_cells(g: &Geometry, extra: &[usize]) -> Result<[usize; 3], String> {
    let lead = 3usize.checked_sub(extra.len());
    let lead = lead.ok_or_else(|| format!("extra cells {extra:?}"))?;
    let cells = std::array::from_fn(|i| if i < lead { 0 } else { extra[i - lead] });
    if (0..3).any(|axis| cells[axis] > g.pads[axis].1) {
        return Err(format!("extra cells {extra:?} beyond the padding"));
    }
    Ok(cells)
}

/// Cells of the window that a mean divides by when it counts padding: not those which only
/// rounding up added.
fn counted(g: &Geometry, axis: usize, o: usize, extra: usize) -> usize {
    let (before, after) = g.pads[axis];
    let end = g.input[axis] + before + after - extra;
    let start = o * g.strides[axis];
    (0..g.kernel[axis])
        .filter(|k| start + k * g.dilations[axis] < end)
        .count()
}

fn mean(g: Geometry, count_include_pad: bool, extra: [usize; 3]) -> Work {
    Box::new(move |ins: &[View], outs: &mut [ViewMut], team: Team| {
        let (x, y) = (ins[0].of::<f32>(), outs[0].of::<f32>());
        let plane_in = g.plane_in();
        let taps = g.kernel.iter().product();
        planes(y, g.plane_out(), taps, team, |plane, y| {
            let x = &x[plane * plane_in..][..plane_in];
            for (cell, y) in y.iter_mut().enumerate() {
                let o = output_index(&g, cell);
                let (mut sum, mut n) = (0.0f32, 0);
                each_cell(&g, o, |at| {
                    sum += x[at];
                    n += 1;
                });
                if count_include_pad {
                    n = (0..3)
                        .map(|axis| counted(&g, axis, o[axis], extra[axis]))
                        .product();
                }
                *y = if n == 0 { 0.0 } else { sum / n as f32 };
            }
        });
        Ok(())
    })
}

fn max<T: Number>(g: Geometry, column_major: bool) -> Work {
    Box::new(move |ins: &[View], outs: &mut [ViewMut], team: Team| {
        let plane_in = g.plane_in();
        let taps = g.kernel.iter().product();
        let x = ins[0].of::<T>();
        // The largest cell under each window, and where it is in its plane.
        let largest = |plane: usize, cell: usize| {
            let x = &x[plane * plane_in..][..plane_in];
            let (mut best, mut top) = (None, T::LOWEST);
            each_cell(&g, output_index(&g, cell), |at| {
                // NaN is never greater, so the first of them is kept by the second test only.
                if best.is_none() || x[at] > top {
                    (best, top) = (Some(at), x[at]);
                }
            });
            (best.unwrap_or(0), top)
        };
        let (values, indices) = outs.split_at_mut(1);
        planes(
            values[0].of::<T>(),
            g.plane_out(),
            taps,
            team,
            |plane, y| {
                for (cell, y) in y.iter_mut().enumerate() {
                    *y = largest(plane, cell).1;
                }
            },
        );
        let Some(indices) = indices.first_mut() else {
            return Ok(());
        };
        planes(
            indices.of::<i64>(),
            g.plane_out(),
            taps,
            team,
            |plane, y| {
                for (cell, y) in y.iter_mut().enumerate() {
                    let (at, _) = largest(plane, cell);
                    let [d, h, w] = g.input;
                    let at = if column_major {
                        // The first spatial axis runs fastest.
                        let (z, row, column) = (at / (h * w), at / w % h, at % w);
                        (column * h + row) * d + z
                    } else {
                        at
                    };
                    *y = (plane * plane_in + at) as i64;
                }
            },
        );
        Ok(())
    })
}
