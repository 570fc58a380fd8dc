/*! Normalisations and softmax, over floats. Sums run in double precision. */

use super::view::{View, ViewMut};
use super::{Team, TensorInfo, Work, around, expect_axis, expect_dims, expect_floats, piece};

fn floats(ins: &[TensorInfo], outs: &[TensorInfo]) -> Result<(), String> {
    let all: Vec<&TensorInfo> = ins.iter().chain(outs).collect();
    expect_floats("a tensor", &all)?;
    expect_dims("a result", &outs[0], &ins[0].dims)
}

/// `[samples, channels, positions]` of an image-like tensor.
fn channels(x: &TensorInfo) -> Result<[usize; 3], String> {
    expect_axis(1, x)?;
    Ok(around(&x.dims, 1))
}

pub(super) fn batch(epsilon: f32, ins: &[TensorInfo], outs: &[TensorInfo]) -> Result<Work, String> {
    floats(ins, outs)?;
    let [_, c, inner] = channels(&ins[0])?;
    for parameter in &ins[1..] {
        expect_dims("a parameter", parameter, &[c])?;
    }
    Ok(Box::new(
        move |ins: &[View], outs: &mut [ViewMut], team: Team| {
            let [scale, shift, mean, variance] = [1, 2, 3, 4].map(|i| ins[i].of::<f32>());
            rows(ins[0].of(), outs[0].of(), inner, 2, team, |plane, x, y| {
                let i = plane % c;
                let factor = scale[i] / (variance[i] + epsilon).sqrt();
                for (y, &x) in y.iter_mut().zip(x) {
                    *y = (x - mean[i]) * factor + shift[i];
                }
            });
            Ok(())
        },
    ))
}

/// Calls `f(number, input, output)` for each row of `len` elements, with the threads of `team`.
fn rows(
    x: &[f32],
    y: &mut [f32],
    len: usize,
    cost: usize,
    team: Team<'_>,
    f: impl Fn(usize, &[f32], &mut [f32]) + Sync,
) {
    let len = len.max(1);
    let many = (piece(cost) / len).max(1);
    team.pieces(y, many * len, |i, y| {
        let x = &x[i * many * len..][..y.len()];
        for (row, (x, y)) in x.chunks_exact(len).zip(y.chunks_exact_mut(len)).enumerate() {
            f(i * many + row, x, y);
        }
    });
}

/// Mean, and one over the standard deviation.
fn moments(x: &[f32], epsilon: f32) -> (f32, f32) {
    let n = x.len() as f64;
    let mean = x.iter().map(|&x| f64::from(x)).sum::<f64>() / n;
    let square = x
        .iter()
        .map(|&x| (f64::from(x) - mean).powi(2))
        .sum::<f64>()
        / n;
    (
        mean as f32,
        (1.0 / (square + f64::from(epsilon)).sqrt()) as f32,
    )
}

pub(super) fn layer(
    axis: usize,
    epsilon: f32,
    ins: &[TensorInfo],
    outs: &[TensorInfo],
) -> Result<Work, String> {
    floats(ins, outs)?;
    expect_axis(axis, &ins[0])?;
    if outs.len() > 1 {
        return Err("a second output".to_string());
    }
    let inner: usize = ins[0].dims[axis..].iter().product();
    for parameter in &ins[1..] {
        if parameter.len() != inner {
            return Err(format!("a parameter of extents {:?}", parameter.dims));
        }
    }
    Ok(Box::new(
        move |ins: &[View], outs: &mut [ViewMut], team: Team| {
            let scale = ins[1].of::<f32>();
            let shift = ins.get(2).map(|v| v.of::<f32>());
            rows(ins[0].of(), outs[0].of(), inner, 8, team, |_, x, y| {
                let (mean, factor) = moments(x, epsilon);
                for (i, (y, &x)) in y.iter_mut().zip(x).enumerate() {
                    *y = (x - mean) * factor * scale[i] + shift.map_or(0.0, |s| s[i]);
                }
            });
            Ok(())
        },
    ))
}

pub(super) fn instance(
    epsilon: f32,
    ins: &[TensorInfo],
    outs: &[TensorInfo],
) -> Result<Work, String> {
    floats(ins, outs)?;
    let [_, c, inner] = channels(&ins[0])?;
    for parameter in &ins[1..] {
        expect_dims("a parameter", parameter, &[c])?;
    }
    Ok(Box::new(
        move |ins: &[View], outs: &mut [ViewMut], team: Team| {
            let [scale, shift] = [1, 2].map(|i| ins[i].of::<f32>());
            rows(ins[0].of(), outs[0].of(), inner, 8, team, |plane, x, y| {
                let (mean, factor) = moments(x, epsilon);
                let (scale, shift) = (scale[plane % c], shift[plane % c]);
                for (y, &x) in y.iter_mut().zip(x) {
                    *y = (x - mean) * factor * scale + shift;
                }
            });
            Ok(())
        },
    ))
}

pub(super) fn lrn(
    alpha: f32,
    beta: f32,
    bias: f32,
    size: usize,
    ins: &[TensorInfo],
    outs: &[TensorInfo],
) -> Result<Work, String> {
    floats(ins, outs)?;
    let [_, c, inner] = channels(&ins[0])?;
    if size == 0 {
        return Err("a window of no channels".to_string());
    }
    // An even window has its longer half behind, as the specification has it.
    let (before, after) = ((size - 1) / 2, size / 2);
    Ok(Box::new(
        move |ins: &[View], outs: &mut [ViewMut], team: Team| {
            rows(ins[0].of(), outs[0].of(), c * inner, 32, team, |_, x, y| {
                for (i, y) in y.iter_mut().enumerate() {
                    let (channel, position) = (i / inner, i % inner);
                    let near = channel.saturating_sub(before)..=(channel + after).min(c - 1);
                    let square: f32 = near.map(|k| x[k * inner + position].powi(2)).sum();
                    *y = x[i] / (bias + alpha / size as f32 * square).powf(beta);
                }
            });
            Ok(())
        },
    ))
}

pub(super) fn softmax(
    axis: usize,
    flatten: bool,
    log: bool,
    ins: &[TensorInfo],
    outs: &[TensorInfo],
) -> Result<Work, String> {
    floats(ins, outs)?;
    let dims = &ins[0].dims;
    let (n, inner) = if flatten {
        if axis > dims.len() {
            return Err(format!("axis {axis} of {} axes", dims.len()));
        }
        (dims[axis..].iter().product(), 1)
    } else {
        expect_axis(axis, &ins[0])?;
        let [_, n, inner] = around(dims, axis);
        (n, inner)
    };
    Ok(Box::new(
        move |ins: &[View], outs: &mut [ViewMut], team: Team| {
            rows(ins[0].of(), outs[0].of(), n * inner, 16, team, |_, x, y| {
                for lane in 0..inner {
                    let at = |i: usize| lane + i * inner;
                    let top = (0..n).fold(f32::NEG_INFINITY, |m, i| m.max(x[at(i)]));
                    let mut sum = 0.0f64;
                    for i in 0..n {
                        let e = (x[at(i)] - top).exp();
                        y[at(i)] = e;
                        sum += f64::from(e);
                    }
                    let (factor, offset) = ((1.0 / sum) as f32, top + sum.ln() as f32);
                    for i in 0..n {
                        y[at(i)] = if log {
                            x[at(i)] - offset
                        } else {
                            y[at(i)] * factor
                        };
                    }
                }
            });
            Ok(())
        },
    ))
}
