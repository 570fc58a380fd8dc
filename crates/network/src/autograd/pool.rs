/*! Max and average pooling with any window, forward and backward. */

use super::tensor::{tensor, with};
use crate::model::op::{PoolKind, Window};
use candle_core::{Result, Tensor};
use rayon::prelude::*;

/// Pools `x [N, C, H, W]`. Kernel and stride may differ, which candle's own pools have no backward for.
#[derive(Debug, Clone)]
pub(super) struct Pool {
    pub kind: PoolKind,
    pub window: Window,
    /// Cells at the end of each axis that only rounding up added: never counted in a mean.
    pub extra: Vec<usize>,
}

impl Pool {
    fn out(&self, x: &[usize]) -> Result<(usize, usize)> {
        let out = match x {
            [_, _, h, w] => self.window.output(0, *h).zip(self.window.output(1, *w)),
            _ => None,
        };
        match out {
            Some(out) => Ok(out),
            None => candle_core::bail!("pool: {x:?} doesn't fit {:?}", self.window),
        }
    }

    /// Rows or columns that output `o` reads on `axis`, and how many cells a mean over the padding
    /// counts there.
    fn span(&self, axis: usize, o: usize, extent: usize) -> (Vec<usize>, usize) {
        let w = &self.window;
        let (before, after) = w.pads[axis];
        let end = extent + before + after - self.extra.get(axis).copied().unwrap_or(0);
        let padded = (0..w.kernel[axis]).map(|k| o * w.strides[axis] + k * w.dilations[axis]);
        let counted = padded.clone().filter(|&p| p < end).count();
        let inside = padded.filter(|&p| p >= before && p - before < extent);
        (inside.map(|p| p - before).collect(), counted)
    }

    /// Calls `each(output position, cells read, divisor)` for one plane.
    fn spans(&self, (h, w): (usize, usize), (oh, ow): (usize, usize)) -> Vec<(Vec<usize>, f32)> {
        let rows: Vec<_> = (0..oh).map(|o| self.span(0, o, h)).collect();
        let columns: Vec<_> = (0..ow).map(|o| self.span(1, o, w)).collect();
        let padded = matches!(
            self.kind,
            PoolKind::Average {
                count_include_pad: true
            }
        );
        let mut spans = Vec::with_capacity(oh * ow);
        for (ys, cy) in &rows {
            for (xs, cx) in &columns {
                let cells: Vec<usize> = ys
                    .iter()
                    .flat_map(|y| xs.iter().map(move |x| y * w + x))
                    .collect();
                let count = if padded { cy * cx } else { cells.len() };
                spans.push((cells, count.max(1) as f32));
            }
        }
        spans
    }
}

/// The cell with the largest value, the first of equal ones; NaN counts as largest.
fn largest(plane: &[f32], cells: &[usize]) -> Option<usize> {
    cells.iter().copied().reduce(|best, cell| {
        let (a, b) = (plane[best], plane[cell]);
        if b > a || (b.is_nan() && !a.is_nan()) {
            cell
        } else {
            best
        }
    })
}

impl Pool {
    pub(super) fn run(&self, x: &Tensor) -> Result<Tensor> {
        let d = x.dims();
        let (oh, ow) = self.out(d)?;
        let spans = self.spans((d[2], d[3]), (oh, ow));
        let mut y = vec![0.0; d[0] * d[1] * oh * ow];
        with(x, |x| {
            let planes = y
                .par_chunks_mut((oh * ow).max(1))
                .zip(x.par_chunks(d[2] * d[3]));
            planes.with_min_len(16).for_each(|(y, x)| {
                for (y, (cells, count)) in y.iter_mut().zip(&spans) {
                    *y = match self.kind {
                        PoolKind::Max => largest(x, cells).map_or(f32::NEG_INFINITY, |at| x[at]),
                        PoolKind::Average { .. } => {
                            cells.iter().map(|&c| x[c]).sum::<f32>() / count
                        }
                    };
                }
            });
            Ok(())
        })?;
        tensor(y, &[d[0], d[1], oh, ow])
    }

    /// Gives the gradient of the input from that of the output.
    pub(super) fn backward(&self, x: &Tensor, grad: &[f32]) -> Result<Vec<f32>> {
        let d = x.dims();
        let out = self.out(d)?;
        let spans = self.spans((d[2], d[3]), out);
        let plane = d[2] * d[3];
        let mut dx = vec![0.0; x.elem_count()];
        with(x, |x| {
            let planes = dx.par_chunks_mut(plane).zip(x.par_chunks(plane));
            planes
                .zip(grad.par_chunks(out.0 * out.1))
                .with_min_len(16)
                .for_each(|((dx, x), grad)| {
                    for (&g, (cells, count)) in grad.iter().zip(&spans) {
                        match self.kind {
                            PoolKind::Max => {
                                if let Some(at) = largest(x, cells) {
                                    dx[at] += g;
                                }
                            }
                            PoolKind::Average { .. } => {
                                cells.iter().for_each(|&c| dx[c] += g / count);
                            }
                        }
                    }
                });
            Ok(())
        })?;
        Ok(dx)
    }
}
