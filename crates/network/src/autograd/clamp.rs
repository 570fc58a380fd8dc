/*! A clamp (ReLU, ReLU6), alone or behind a sum; as a candle op too, for islands made of several. */

use super::tensor::{floats, light_share, mask, with};
use crate::engine::kernels::planes;
use crate::model::Activation;
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

/// `clamp(x)`, or `clamp(a + b)` of equal shapes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clamp(pub Activation);

impl Clamp {
    pub(super) fn of(self, x: &[f32]) -> Vec<f32> {
        let mut y = vec![0.0; x.len()];
        let each = light_share(x.len());
        let parts = y.par_chunks_mut(each).zip(x.par_chunks(each));
        parts.for_each(|(y, x)| planes::line(y, x, 1.0, 0.0, (self.0.low, self.0.high)));
        y
    }

    pub(super) fn of_sum(self, a: &[f32], b: &[f32]) -> Vec<f32> {
        let mut y = vec![0.0; a.len()];
        let each = light_share(a.len());
        let parts = y.par_chunks_mut(each).zip(a.par_chunks(each));
        parts.zip(b.par_chunks(each)).for_each(|((y, a), b)| {
            planes::clamped_sum(y, a, b, (self.0.low, self.0.high));
        });
        y
    }
}

impl CustomOp1 for Clamp {
    fn name(&self) -> &'static str {
        "clamp"
    }

    fn cpu_fwd(&self, x: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        let y = self.of(floats(x, l)?);
        Ok((CpuStorage::F32(y), l.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, res: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let mut dx = grad.flatten_all()?.to_vec1::<f32>()?;
        with(res, |r| {
            mask(&mut dx, r, self.0);
            Ok(())
        })?;
        Tensor::from_vec(dx, x.shape(), x.device()).map(Some)
    }
}
