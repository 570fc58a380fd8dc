/*! Reductions over axes, global pools, and the index of the largest element. */

use super::view::{Number, View, ViewMut, by_number};
use super::{Team, TensorInfo, Work, around, expect_axis, expect_dims, expect_type, piece};
use crate::model::DType;
use crate::model::op::Reduction;

/// For every output cell the input offset of its first element, and the offsets of the elements
/// reduced into it relative to that.
fn offsets(dims: &[usize], axes: &[usize]) -> (Vec<usize>, Vec<usize>) {
    let own = super::strides(dims);
    let walk = |reduced: bool| {
        let mut at = vec![0];
        for (axis, &extent) in dims.iter().enumerate() {
            if axes.contains(&axis) == reduced {
                at = at
                    .iter()
                    .flat_map(|&base| (0..extent).map(move |i| (base, i)))
                    .map(|(base, i)| base + i * own[axis])
                    .collect();
            }
        }
        at
    };
    (walk(false), walk(true))
}

/// Calls `f(output, base)` for each output and its base, with the threads of `team`: the order in
/// which one is summed doesn't depend on them.
fn each<T: Send>(
    y: &mut [T],
    bases: &[usize],
    taps: usize,
    team: Team<'_>,
    f: impl Fn(&mut T, usize) + Sync,
) {
    let len = piece(taps).max(1);
    team.pieces(y, len, |item, y| {
        for (y, &base) in y.iter_mut().zip(&bases[item * len..]) {
            f(y, base);
        }
    });
}

pub(super) fn reduce(
    kind: Reduction,
    axes: &[usize],
    keep: bool,
    ins: &[TensorInfo],
    outs: &[TensorInfo],
) -> Result<Work, String> {
    let x = &ins[0];
    for &axis in axes {
        expect_axis(axis, x)?;
    }
    let dims: Vec<usize> = (0..x.dims.len())
        .filter(|axis| keep || !axes.contains(axis))
        .map(|axis| {
            if axes.contains(&axis) {
                1
            } else {
                x.dims[axis]
            }
        })
        .collect();
    expect_dims("a result", &outs[0], &dims)?;
    expect_type("a result", &outs[0], x.dtype)?;
    let (bases, taps) = offsets(&x.dims, axes);
    let n = taps.len() as f64;
    if x.dtype == DType::F32 {
        return Ok(Box::new(
            move |ins: &[View], outs: &mut [ViewMut], team: Team| {
                let (x, y) = (ins[0].of::<f32>(), outs[0].of::<f32>());
                each(y, &bases, taps.len(), team, |y, base| {
                    let all = taps.iter().map(|tap| x[base + tap]);
                    let wide = all.clone().map(f64::from);
                    *y = match kind {
                        Reduction::Mean => (wide.sum::<f64>() / n) as f32,
                        Reduction::Sum => wide.sum::<f64>() as f32,
                        Reduction::Prod => wide.product::<f64>() as f32,
                        Reduction::SumSquare => wide.map(|x| x * x).sum::<f64>() as f32,
                        Reduction::L1 => wide.map(f64::abs).sum::<f64>() as f32,
                        Reduction::L2 => wide.map(|x| x * x).sum::<f64>().sqrt() as f32,
                        Reduction::Max => all.fold(f32::NEG_INFINITY, f32::max),
                        Reduction::Min => all.fold(f32::INFINITY, f32::min),
                    };
                });
                Ok(())
            },
        ));
    }
    by_number!(x.dtype, T => Ok(Box::new(move |ins: &[View], outs: &mut [ViewMut], team: Team| {
        let (x, y) = (ins[0].of::<T>(), outs[0].of::<T>());
        each(y, &bases, taps.len(), team, |y, base| {
            let all = taps.iter().map(|tap| x[base + tap]);
            let sum = |a: T, b: T| Number::add(a, b);
            *y = match kind {
                Reduction::Sum => all.fold(T::ZERO, sum),
                Reduction::Mean => {
                    T::from_f64((all.map(Number::to_f64).sum::<f64>() / n).trunc())
                }
                Reduction::Prod => all.fold(T::ONE, Number::mul),
                Reduction::SumSquare => all.map(|x| Number::mul(x, x)).fold(T::ZERO, sum),
                Reduction::L1 => all.map(Number::abs).fold(T::ZERO, sum),
                Reduction::L2 => {
                    T::from_f64(all.map(|x| x.to_f64().powi(2)).sum::<f64>().sqrt())
                }
                Reduction::Max => all.fold(T::LOWEST, |a, b| if b > a { b } else { a }),
                Reduction::Min => all.fold(T::HIGHEST, |a, b| if b < a { b } else { a }),
            };
        });
        Ok(())
    })))
}

pub(super) fn global_pool(
    average: bool,
    ins: &[TensorInfo],
    outs: &[TensorInfo],
) -> Result<Work, String> {
    let rank = ins[0].dims.len();
    if rank < 2 {
        return Err(format!("a pool over {rank} axes"));
    }
    let axes: Vec<usize> = (2..rank).collect();
    let kind = if average {
        Reduction::Mean
    } else {
        Reduction::Max
    };
    reduce(kind, &axes, true, ins, outs)
}

pub(super) fn arg_max(
    axis: usize,
    keep: bool,
    last: bool,
    min: bool,
    ins: &[TensorInfo],
    outs: &[TensorInfo],
) -> Result<Work, String> {
    let x = &ins[0];
    expect_axis(axis, x)?;
    expect_type("a result", &outs[0], DType::I64)?;
    let mut dims = x.dims.clone();
    if keep {
        dims[axis] = 1;
    } else {
        dims.remove(axis);
    }
    expect_dims("a result", &outs[0], &dims)?;
    let [_, n, inner] = around(&x.dims, axis);
    if n == 0 {
        return Err("the largest of nothing".to_string());
    }
    by_number!(x.dtype, T => Ok(Box::new(move |ins: &[View], outs: &mut [ViewMut], team: Team| {
        let (x, y) = (ins[0].of::<T>(), outs[0].of::<i64>());
        let len = piece(n).max(1);
        team.pieces(y, len, |item, y| {
            for (i, y) in y.iter_mut().enumerate() {
                let i = item * len + i;
                let at = |k: usize| x[i / inner * n * inner + i % inner + k * inner];
                let mut best = 0;
                for k in 1..n {
                    let (new, old) = (at(k), at(best));
                    let better = if min { new < old } else { new > old };
                    if better || (last && new == old) {
                        best = k;
                    }
                }
                *y = best as i64;
            }
        });
        Ok(())
    })))
}
