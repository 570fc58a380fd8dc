/*! A clamp (ReLU, ReLU6), alone or behind a sum, as one candle op. */

use super::conv::{clamp, mask};
use super::tensor::{floats, shaped, share, with};
use crate::model::Activation;
use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

/// `clamp(x)`, or `clamp(a + b)` of equal shapes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clamp(pub Activation);

impl CustomOp1 for Clamp {
    fn name(&self) -> &'static str {
        "clamp"
    }

    fn cpu_fwd(&self, x: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = floats(x, l)?;
        let y = x.par_iter().with_min_len(4096).map(|&v| clamp(v, self.0));
        Ok((CpuStorage::F32(y.collect()), l.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, res: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let dx = with(grad, |g| with(res, |r| Ok(mask(g, r, self.0))))?;
        Ok(Some(shaped(dx, x)?))
    }
}

impl CustomOp2 for Clamp {
    fn name(&self) -> &'static str {
        "clamped sum"
    }

    fn cpu_fwd(
        &self,
        a: &CpuStorage,
        al: &Layout,
        b: &CpuStorage,
        bl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (a, b) = (floats(a, al)?, floats(b, bl)?);
        let mut y = vec![0.0; a.len()];
        let each = share(a.len()).max(4096);
        let parts = y.par_chunks_mut(each).zip(a.par_chunks(each));
        parts.zip(b.par_chunks(each)).for_each(|((y, a), b)| {
            for ((y, a), b) in y.iter_mut().zip(a).zip(b) {
                *y = clamp(a + b, self.0);
            }
        });
        Ok((CpuStorage::F32(y), al.shape().clone()))
    }

    fn bwd(
        &self,
        a: &Tensor,
        _b: &Tensor,
        res: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        if self.0.is_none() {
            return Ok((Some(grad.clone()), Some(grad.clone())));
        }
        let d = with(grad, |g| with(res, |r| Ok(mask(g, r, self.0))))?;
        let d = shaped(d, a)?;
        Ok((Some(d.clone()), Some(d)))
    }
}
