/*! A clamp (ReLU, ReLU6), alone or behind a sum; as a candle op too, for islands made of several. */

use super::tensor::{clamp, floats, light_share, mask, with};
use crate::model::Activation;
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

/// `clamp(x)`, or `clamp(a + b)` of equal shapes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clamp(pub Activation);

impl Clamp {
    pub(super) fn of(self, x: &[f32]) -> Vec<f32> {
        let y = x.par_iter().with_min_len(light_share(x.len()));
        y.map(|&v| clamp(v, self.0)).collect()
    }

    pub(super) fn of_sum(self, a: &[f32], b: &[f32]) -> Vec<f32> {
        let mut y = vec![0.0; a.len()];
        let each = light_share(a.len());
        let parts = y.par_chunks_mut(each).zip(a.par_chunks(each));
        parts.zip(b.par_chunks(each)).for_each(|((y, a), b)| {
            for ((y, a), b) in y.iter_mut().zip(a).zip(b) {
                *y = clamp(a + b, self.0);
            }
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
