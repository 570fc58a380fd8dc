/*! Depthwise convolutions and pools, cut into rows of output pixels. */

use super::super::loops::{Fold, KernelTable, Plane, Row};
use super::super::threads::Team;
use super::{Arena, Packed, Pixels, SMALL, Shared};
use std::sync::Arc;

/// A depthwise convolution or a pool.
#[derive(Debug, Clone)]
pub(crate) struct Sweep {
    pub plane: Plane,
    pub fold: Fold,
    /// Weights and bias of a depthwise convolution.
    pub packed: Option<(Arc<Packed>, Arc<Vec<f32>>)>,
}

impl Sweep {
    pub(crate) fn run(
        &self,
        arena: &mut Arena<'_>,
        x: &Pixels,
        y: &Pixels,
        kernels: &KernelTable,
        pool: Team<'_>,
    ) {
        let p = &self.plane;
        assert_eq!([x.height, x.width], p.input);
        assert_eq!([y.height, y.width], p.output);
        assert_eq!((x.samples, x.channels), (y.samples, y.channels));
        let (mut weights, mut bias) = (std::ptr::null(), std::ptr::null());
        if let Some((packed, b)) = &self.packed {
            assert_eq!(packed.floats, p.kernel[0] * p.kernel[1] * x.channels);
            assert_eq!(b.len(), x.channels);
            (weights, bias) = (packed.ptr().get(), b.as_ptr());
        }
        assert_eq!(
            self.packed.is_some(),
            matches!(self.fold, Fold::Weigh { .. })
        );
        let (weights, bias) = (Shared(weights), Shared(bias));
        let (xp, yp) = (arena.start(x), arena.start(y));
        let rows = x.samples * p.output[0];
        let work = rows * p.output[1] * y.channels * p.kernel[0] * p.kernel[1];
        let items = if work < SMALL {
            1
        } else {
            rows.min(4 * pool.threads())
        };
        pool.run(items, |item| {
            for row in rows * item / items..rows * (item + 1) / items {
                if pool.cancel.is_cancelled() {
                    return;
                }
                let (sample, oy) = (row / p.output[0], row % p.output[0]);
                let from = sample * p.input[0] * p.input[1] * x.stride;
                let row = Row {
                    plane: p,
                    fold: self.fold,
                    x: xp.get().wrapping_add(from).cast_const(),
                    x_stride: x.stride,
                    y: yp.get().wrapping_add(row * p.output[1] * y.stride),
                    y_stride: y.stride,
                    channels: x.channels,
                    weights: weights.get(),
                    bias: bias.get(),
                    row: oy,
                };
                // SAFETY: the loops are this processor's; extents and bounds were checked above,
                // the window reaches real cells only, each item has rows of y of its own, and the
                // program places y apart from x.
                unsafe { (kernels.row)(&row) }
            }
        });
    }
}
