/*! Batch norm in training mode with its clamp, in one candle op with its own backward. */

use super::conv::{clamp, mask, sum};
use super::tensor::{floats, shaped, share, with};
use crate::model::Activation;
use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor};
use rayon::prelude::*;
use std::sync::{Arc, Mutex, PoisonError};

/// Mean and (biased) variance of each channel over a batch.
#[derive(Debug, Clone, Default)]
pub(super) struct Stats {
    pub mean: Vec<f32>,
    pub variance: Vec<f32>,
    /// Elements a channel.
    pub count: usize,
}

/// `x [N, C, …], scale [C], shift [C]`, normalised by the batch's own statistics, then clamped.
#[derive(Debug, Clone)]
pub(super) struct BatchNorm {
    pub epsilon: f32,
    pub activation: Activation,
    /// Filled by the forward pass, for the backward pass and the running statistics.
    pub stats: Arc<Mutex<Stats>>,
}

/// A sum in eight lanes, so that it runs in vector registers and loses less than a running one.
fn lanes(values: &[f32], term: impl Fn(f32) -> f32) -> f32 {
    let mut acc = [0.0f32; 8];
    let chunks = values.chunks_exact(8);
    let rest: f32 = chunks.remainder().iter().map(|&v| term(v)).sum();
    for chunk in chunks {
        for (a, &v) in acc.iter_mut().zip(chunk) {
            *a += term(v);
        }
    }
    acc.iter().sum::<f32>() + rest
}

fn lanes2(a: &[f32], b: &[f32], term: impl Fn(f32, f32) -> f32) -> f32 {
    let mut acc = [0.0f32; 8];
    let (ca, cb) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest = ca.remainder().iter().zip(cb.remainder());
    let rest: f32 = rest.map(|(&a, &b)| term(a, b)).sum();
    for (a, b) in ca.zip(cb) {
        for ((acc, &a), &b) in acc.iter_mut().zip(a).zip(b) {
            *acc += term(a, b);
        }
    }
    acc.iter().sum::<f32>() + rest
}

/// `term(channel, plane)` summed over the samples, for each channel.
fn each_channel(
    x: &[f32],
    channels: usize,
    plane: usize,
    term: impl Fn(usize, usize, &[f32]) -> f32 + Sync,
) -> Vec<f32> {
    let samples = x.len() / (channels * plane).max(1);
    let each = share(samples);
    let parts = x
        .par_chunks(each * channels * plane)
        .enumerate()
        .map(|(part, x)| {
            let mut sums = vec![0.0; channels];
            for (i, values) in x.chunks_exact(plane).enumerate() {
                let at = (part * each * channels + i) * plane;
                sums[i % channels] += term(i % channels, at, values);
            }
            sums
        })
        .collect();
    sum(parts, channels)
}

impl BatchNorm {
    fn stats(&self) -> Stats {
        let stats = self.stats.lock();
        stats.unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn inverse(&self, stats: &Stats) -> Vec<f32> {
        let inverse = |v: &f32| 1.0 / (v + self.epsilon).sqrt();
        stats.variance.iter().map(inverse).collect()
    }
}

impl CustomOp3 for BatchNorm {
    fn name(&self) -> &'static str {
        "batch norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        xl: &Layout,
        scale: &CpuStorage,
        sl: &Layout,
        shift: &CpuStorage,
        hl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, scale, shift) = (floats(x, xl)?, floats(scale, sl)?, floats(shift, hl)?);
        let dims = xl.dims();
        let (c, plane) = (dims[1], dims[2..].iter().product::<usize>());
        let count = x.len() / c.max(1);
        if scale.len() != c || shift.len() != c || count < 2 {
            candle_core::bail!(
                "batch norm: {dims:?} with {} scales; training needs two values a channel",
                scale.len()
            )
        }
        let mut mean = each_channel(x, c, plane, |_, _, v| lanes(v, |v| v));
        mean.iter_mut().for_each(|m| *m /= count as f32);
        let mut variance = each_channel(x, c, plane, |c, _, v| {
            lanes(v, |v| (v - mean[c]) * (v - mean[c]))
        });
        variance.iter_mut().for_each(|v| *v /= count as f32);
        let stats = Stats {
            mean,
            variance,
            count,
        };
        let inverse = self.inverse(&stats);
        let mut y = vec![0.0; x.len()];
        y.par_chunks_mut(plane)
            .zip(x.par_chunks(plane))
            .enumerate()
            .for_each(|(i, (y, x))| {
                let c = i % c;
                let a = scale[c] * inverse[c];
                let b = shift[c] - a * stats.mean[c];
                for (y, x) in y.iter_mut().zip(x) {
                    *y = clamp(a * x + b, self.activation);
                }
            });
        *self.stats.lock().unwrap_or_else(PoisonError::into_inner) = stats;
        Ok((CpuStorage::F32(y), xl.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        scale: &Tensor,
        shift: &Tensor,
        res: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let stats = self.stats();
        let inverse = self.inverse(&stats);
        let dims = x.dims();
        let (c, plane) = (dims[1], dims[2..].iter().product::<usize>());
        let masked = match self.activation.is_none() {
            true => None,
            false => Some(with(grad, |g| {
                with(res, |r| Ok(mask(g, r, self.activation)))
            })?),
        };
        let (dx, dscale, dshift) = with(grad, |grad| {
            let grad = masked.as_deref().unwrap_or(grad);
            with(x, |x| {
                with(scale, |scale| {
                    let dshift = each_channel(grad, c, plane, |_, _, g| lanes(g, |g| g));
                    let dscale = each_channel(grad, c, plane, |c, at, g| {
                        let (mean, x) = (stats.mean[c], &x[at..at + plane]);
                        inverse[c] * lanes2(g, x, |g, x| g * (x - mean))
                    });
                    let mut dx = vec![0.0; x.len()];
                    let n = stats.count as f32;
                    let planes = dx.par_chunks_mut(plane).zip(x.par_chunks(plane));
                    planes
                        .zip(grad.par_chunks(plane))
                        .enumerate()
                        .for_each(|(i, ((dx, x), g))| {
                            let c = i % c;
                            let a = scale[c] * inverse[c];
                            let slope = a * inverse[c] * dscale[c] / n;
                            let level = a * dshift[c] / n - slope * stats.mean[c];
                            for ((dx, x), g) in dx.iter_mut().zip(x).zip(g) {
                                *dx = a * g - level - slope * x;
                            }
                        });
                    Ok((dx, dscale, dshift))
                })
            })
        })?;
        Ok((
            Some(shaped(dx, x)?),
            Some(shaped(dscale, scale)?),
            Some(shaped(dshift, shift)?),
        ))
    }
}
