/*! A fully connected layer, forward and backward. */

use super::tensor::{share, with};
use crate::engine::kernels::matmul::{Matrix, product};
use candle_core::{Result, Tensor};
use rayon::prelude::*;

/// Multiply-accumulates from which on a product is worth threads.
const THREADED: usize = 1 << 21;

/// `x [N, K]` times `w` (`[M, K]` if `turned`, else `[K, M]`), plus `bias [M]` if there is one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Linear {
    pub rows: usize,
    pub deep: usize,
    pub wide: usize,
    pub turned: bool,
}

/// `a [rows, deep] · b [deep, wide]` by (row, column) strides.
fn multiply(
    (a, a_stride): (&[f32], (usize, usize)),
    (b, b_stride): (&[f32], (usize, usize)),
    (rows, deep, wide): (usize, usize, usize),
) -> Vec<f32> {
    let mut y = vec![0.0; rows * wide];
    if y.is_empty() || deep == 0 {
        return y;
    }
    let b = Matrix::new(b, deep, wide, b_stride);
    let each = match rows * deep * wide < THREADED {
        true => rows,
        false => share(rows),
    };
    let part = |(i, y): (usize, &mut [f32])| {
        let from = &a[i * each * a_stride.0..];
        product(Matrix::new(from, y.len() / wide, deep, a_stride), b, y);
    };
    match each == rows {
        true => part((0, &mut y)),
        false => y.par_chunks_mut(each * wide).enumerate().for_each(part),
    }
    y
}

impl Linear {
    pub(super) fn forward(&self, x: &[f32], w: &[f32], bias: Option<&[f32]>) -> Vec<f32> {
        let w_stride = if self.turned {
            (1, self.deep)
        } else {
            (self.wide, 1)
        };
        let extents = (self.rows, self.deep, self.wide);
        let mut y = multiply((x, (self.deep, 1)), (w, w_stride), extents);
        if let Some(bias) = bias {
            for row in y.chunks_exact_mut(self.wide) {
                row.iter_mut().zip(bias).for_each(|(y, b)| *y += b);
            }
        }
        y
    }

    /// Gradients of input, weight and bias, as far as wanted.
    pub(super) fn backward(
        &self,
        x: &Tensor,
        w: &Tensor,
        grad: &[f32],
        wanted: &[bool],
    ) -> Result<Vec<Option<Vec<f32>>>> {
        let Linear {
            rows,
            deep,
            wide,
            turned,
        } = *self;
        let mut found = vec![None; wanted.len()];
        if wanted[0] {
            let stride = if turned { (deep, 1) } else { (1, wide) };
            let dx = |w: &[f32]| Ok(multiply((grad, (wide, 1)), (w, stride), (rows, wide, deep)));
            found[0] = Some(with(w, dx)?);
        }
        if wanted[1] {
            let dw = |x: &[f32]| {
                let (g, x) = (grad, x);
                Ok(match turned {
                    true => multiply((g, (1, wide)), (x, (deep, 1)), (wide, rows, deep)),
                    false => multiply((x, (1, deep)), (g, (wide, 1)), (deep, rows, wide)),
                })
            };
            found[1] = Some(with(x, dw)?);
        }
        if wanted.get(2) == Some(&true) {
            let mut sums = vec![0.0; wide];
            for row in grad.chunks_exact(wide) {
                sums.iter_mut().zip(row).for_each(|(s, g)| *s += g);
            }
            found[2] = Some(sums);
        }
        Ok(found)
    }
}
