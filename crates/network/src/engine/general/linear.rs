/*! Matrix products. */

use super::broadcast::{broadcast, broadcast_strides};
use super::elementwise::clamp;
use super::view::{Number, View, ViewMut, by_number};
use super::{Team, TensorInfo, Work, expect_dims, expect_floats, expect_type, piece};
use crate::engine::kernels::matmul::{Matrix, product};
use crate::model::{Activation, DType};

pub(super) fn gemm(
    trans_a: bool,
    trans_b: bool,
    alpha: f32,
    beta: f32,
    activation: Activation,
    ins: &[TensorInfo],
    outs: &[TensorInfo],
) -> Result<Work, String> {
    let all: Vec<&TensorInfo> = ins.iter().chain(outs).collect();
    expect_floats("an operand", &all)?;
    let ([a0, a1], [b0, b1]) = (two(&ins[0])?, two(&ins[1])?);
    let (m, k) = if trans_a { (a1, a0) } else { (a0, a1) };
    let (k2, n) = if trans_b { (b1, b0) } else { (b0, b1) };
    if k != k2 {
        return Err(format!(
            "a product of {:?} and {:?}",
            ins[0].dims, ins[1].dims
        ));
    }
    expect_dims("a result", &outs[0], &[m, n])?;
    let offset = match ins.get(2) {
        None => None,
        Some(c) if broadcast(&c.dims, &[m, n])? == [m, n] => {
            Some(broadcast_strides(&c.dims, &[m, n]))
        }
        Some(c) => return Err(format!("an offset of extents {:?}", c.dims)),
    };
    let stride = |transposed, row| if transposed { (1, row) } else { (row, 1) };
    let (a_stride, b_stride) = (stride(trans_a, a1), stride(trans_b, b1));
    Ok(Box::new(
        move |ins: &[View], outs: &mut [ViewMut], team: Team| {
            let y = outs[0].of::<f32>();
            let a = Matrix::new(ins[0].of(), m, k, a_stride);
            let b = Matrix::new(ins[1].of(), k, n, b_stride);
            let c = offset.as_ref().map(|s| (ins[2].of::<f32>(), s[0], s[1]));
            shared_out(a, b, [m, k, n], y, team, |first, y| {
                for (i, y) in y.iter_mut().enumerate() {
                    let at = first + i;
                    let sum = c.map_or(0.0, |(c, rows, columns)| {
                        beta * c[at / n * rows + at % n * columns]
                    });
                    *y = clamp(alpha * *y + sum, activation.low, activation.high);
                }
            });
            Ok(())
        },
    ))
}

/// Rows of a product that are worth handing to a thread; fewer than there are only where half a
/// million multiplications are. The same whatever the threads.
fn rows(m: usize, k: usize, n: usize) -> usize {
    let rows = (1usize << 19) / (k * n).max(1);
    if rows >= m {
        return rows.max(1);
    }
    rows.max(24).next_multiple_of(24)
}

/// Multiplications of one call that a stop may have to wait for.
const LONG: usize = 1 << 22;

/// `y = a · b` in pieces for the threads of `team`: some rows, or where a row alone is long some
/// columns of one. Then `f(index of the first, elements)` for each piece.
fn shared_out(
    a: Matrix<'_>,
    b: Matrix<'_>,
    [m, k, n]: [usize; 3],
    y: &mut [f32],
    team: Team<'_>,
    f: impl Fn(usize, &mut [f32]) + Sync,
) {
    let some = rows(m, k, n);
    if some.min(m) * k * n <= LONG {
        return team.pieces(y, some * n, |i, y| {
            product(a.rows(i * some, y.len() / n), b, y);
            f(i * some * n, y);
        });
    }
    let some = (LONG / 4 / k.max(1)).max(16);
    for (row, y) in y.chunks_exact_mut(n).enumerate() {
        team.pieces(y, some, |i, y| {
            product(a.rows(row, 1), b.columns(i * some, y.len()), y);
            f(row * n + i * some, y);
        });
    }
}

fn two(info: &TensorInfo) -> Result<[usize; 2], String> {
    <[usize; 2]>::try_from(info.dims.as_slice())
        .map_err(|_| format!("a matrix of extents {:?}", info.dims))
}

/// Index of the matrix of a and of that of b whose product each matrix of the result is.
fn pairs(a_outer: &[usize], b_outer: &[usize], outer: &[usize]) -> Vec<(usize, usize)> {
    let a_step = broadcast_strides(a_outer, outer);
    let b_step = broadcast_strides(b_outer, outer);
    let pair = |at: usize| {
        let (mut left, mut pa, mut pb) = (at, 0, 0);
        for axis in (0..outer.len()).rev() {
            let i = left % outer[axis];
            left /= outer[axis];
            pa += i * a_step[axis];
            pb += i * b_step[axis];
        }
        (pa, pb)
    };
    (0..outer.iter().product()).map(pair).collect()
}

pub(super) fn matmul(ins: &[TensorInfo], outs: &[TensorInfo]) -> Result<Work, String> {
    let (a, b, y) = (&ins[0], &ins[1], &outs[0]);
    expect_type("an operand", b, a.dtype)?;
    expect_type("a result", y, a.dtype)?;
    if a.dims.is_empty() || b.dims.is_empty() {
        return Err("a product with a scalar".to_string());
    }
    // A vector on the left is a row, on the right a column; that axis is then gone again.
    let mut ad = a.dims.clone();
    let mut bd = b.dims.clone();
    let (row, column) = (ad.len() == 1, bd.len() == 1);
    if row {
        ad.insert(0, 1);
    }
    if column {
        bd.push(1);
    }
    let (a_outer, a_inner) = ad.split_at(ad.len() - 2);
    let (b_outer, b_inner) = bd.split_at(bd.len() - 2);
    let (m, k, n) = (a_inner[0], a_inner[1], b_inner[1]);
    if k != b_inner[0] {
        return Err(format!("a product of {:?} and {:?}", a.dims, b.dims));
    }
    let outer = broadcast(a_outer, b_outer)?;
    let mut dims = outer.clone();
    if !row {
        dims.push(m);
    }
    if !column {
        dims.push(n);
    }
    expect_dims("a result", y, &dims)?;
    let pairs = pairs(a_outer, b_outer, &outer);
    if a.dtype == DType::F32 {
        return Ok(Box::new(
            move |ins: &[View], outs: &mut [ViewMut], team: Team| {
                let (a, b, y) = (ins[0].of::<f32>(), ins[1].of::<f32>(), outs[0].of::<f32>());
                if m * n == 0 {
                    return Ok(());
                }
                // Whole products, or where those are large some rows of one.
                let rows = rows(m, k, n);
                let many = if rows < m { 1 } else { rows / m };
                let each = m.div_ceil(rows);
                let pair = |at: usize| {
                    let (pa, pb) = pairs[at];
                    let a = Matrix::new(&a[pa * m * k..][..m * k], m, k, (k, 1));
                    (a, Matrix::new(&b[pb * k * n..][..k * n], k, n, (n, 1)))
                };
                if each == 1 && m * k * n <= LONG {
                    team.pieces(y, many * m * n, |i, y| {
                        for (at, y) in y.chunks_exact_mut(m * n).enumerate() {
                            let (a, b) = pair(i * many + at);
                            product(a, b, y);
                        }
                    });
                    return Ok(());
                }
                for (at, y) in y.chunks_exact_mut(m * n).enumerate() {
                    let (a, b) = pair(at);
                    shared_out(a, b, [m, k, n], y, team, |_, _| {});
                }
                Ok(())
            },
        ));
    }
    by_number!(a.dtype, T => Ok(Box::new(move |ins: &[View], outs: &mut [ViewMut], team: Team| {
        let (a, b, y) = (ins[0].of::<T>(), ins[1].of::<T>(), outs[0].of::<T>());
        let len = piece(k).max(1);
        team.pieces(y, len, |item, y| {
            for (i, y) in y.iter_mut().enumerate() {
                let (at, i) = ((item * len + i) / (m * n), (item * len + i) % (m * n));
                let (pa, pb) = pairs[at];
                let (a, b) = (&a[pa * m * k + i / n * k..], &b[pb * k * n + i % n..]);
                *y = (0..k).fold(T::ZERO, |sum, j| {
                    Number::add(sum, Number::mul(a[j], b[j * n]))
                });
            }
        });
        Ok(())
    })))
}
