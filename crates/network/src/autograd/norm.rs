/*! Batch norm with its clamp: by the batch's own statistics, and by fixed ones. */

use super::tensor::{mask, share, sum, tensor, with};
use crate::engine::kernels::planes;
use crate::model::Activation;
use candle_core::{Result, Tensor};
use rayon::prelude::*;

/// Mean and (biased) variance of each channel over a batch.
#[derive(Debug, Clone, Default)]
pub(super) struct Stats {
    pub mean: Vec<f32>,
    pub variance: Vec<f32>,
    /// Elements per channel that mean and variance were taken over.
    pub count: usize,
}

/// `x [N, C, …], scale [C], shift [C]`, normalised by the batch's own statistics, then clamped.
#[derive(Debug, Clone)]
pub(super) struct BatchNorm {
    pub epsilon: f32,
    pub activation: Activation,
    /// Of the pass forward.
    pub stats: Stats,
}

/// `terms(channel, at, plane)` summed over the samples, for each channel: first sums, then second.
fn each_channel(
    x: &[f32],
    channels: usize,
    plane: usize,
    terms: impl Fn(usize, usize, &[f32]) -> [f32; 2] + Sync,
) -> [Vec<f32>; 2] {
    let samples = x.len() / (channels * plane).max(1);
    let each = share(samples);
    let parts = x
        .par_chunks(each * channels * plane)
        .enumerate()
        .map(|(part, x)| {
            let mut sums = vec![0.0; 2 * channels];
            for (i, values) in x.chunks_exact(plane).enumerate() {
                let at = (part * each * channels + i) * plane;
                let t = terms(i % channels, at, values);
                sums[i % channels] += t[0];
                sums[channels + i % channels] += t[1];
            }
            sums
        })
        .collect();
    let mut first = sum(parts, 2 * channels);
    let second = first.split_off(channels);
    [first, second]
}

/// `clamp(factor[c] · x + level[c])`.
fn scaled(
    x: &[f32],
    factor: &[f32],
    level: &[f32],
    plane: usize,
    activation: Activation,
) -> Vec<f32> {
    let channels = factor.len();
    let bounds = (activation.low, activation.high);
    let mut y = vec![0.0; x.len()];
    let each = share(x.len() / plane.max(1));
    let parts = y
        .par_chunks_mut(each * plane)
        .zip(x.par_chunks(each * plane));
    parts.enumerate().for_each(|(part, (y, x))| {
        let planes = y.chunks_exact_mut(plane).zip(x.chunks_exact(plane));
        for (i, (y, x)) in planes.enumerate() {
            let c = (part * each + i) % channels;
            planes::line(y, x, factor[c], level[c], bounds);
        }
    });
    y
}

fn extents(dims: &[usize]) -> (usize, usize) {
    let channels = dims.get(1).copied().unwrap_or(1);
    (channels, dims.iter().skip(2).product())
}

impl BatchNorm {
    fn inverse(&self) -> Vec<f32> {
        let inverse = |v: &f32| 1.0 / (v + self.epsilon).sqrt();
        self.stats.variance.iter().map(inverse).collect()
    }

    /// Factor and level of each channel.
    fn line(&self, scale: &[f32], shift: &[f32]) -> (Vec<f32>, Vec<f32>) {
        let inverse = self.inverse();
        let factor: Vec<f32> = scale.iter().zip(&inverse).map(|(s, i)| s * i).collect();
        let means = factor.iter().zip(&self.stats.mean);
        let level = means.zip(shift).map(|((f, m), s)| s - f * m);
        let level = level.collect();
        (factor, level)
    }

    /// Normalises `x`, and keeps its statistics.
    pub(super) fn forward(&mut self, x: &Tensor, scale: &Tensor, shift: &Tensor) -> Result<Tensor> {
        let (c, plane) = extents(x.dims());
        let count = x.elem_count() / c.max(1);
        if scale.elem_count() != c || shift.elem_count() != c || count < 2 {
            candle_core::bail!(
                "batch norm: {:?} with {} scales; training needs two values a channel",
                x.dims(),
                scale.elem_count()
            )
        }
        let y = with(x, |x| {
            // The first value of each channel as origin: squares of what is left lose little.
            let origin: Vec<f32> = (0..c).map(|c| x[c * plane]).collect();
            let [first, second] =
                each_channel(x, c, plane, |c, _, v| planes::moments(v, origin[c]));
            let n = count as f32;
            let mut stats = Stats {
                count,
                ..Stats::default()
            };
            for ((first, second), o) in first.iter().zip(&second).zip(&origin) {
                let mean = first / n;
                stats.mean.push(o + mean);
                stats.variance.push((second / n - mean * mean).max(0.0));
            }
            self.stats = stats;
            let (factor, level) = with(scale, |scale| {
                with(shift, |shift| Ok(self.line(scale, shift)))
            })?;
            Ok(scaled(x, &factor, &level, plane, self.activation))
        })?;
        tensor(y, x.dims())
    }

    /// Gradients of input, scale and shift; `grad`'s buffer becomes the input's.
    pub(super) fn backward(
        &self,
        x: &Tensor,
        scale: &Tensor,
        shift: &Tensor,
        mut grad: Vec<f32>,
    ) -> Result<Vec<Option<Vec<f32>>>> {
        let (c, plane) = extents(x.dims());
        let inverse = self.inverse();
        let (factor, level) = with(scale, |scale| {
            with(shift, |shift| Ok(self.line(scale, shift)))
        })?;
        let bounds = (self.activation.low, self.activation.high);
        let (dscale, dshift) = with(x, |x| {
            let [mut dscale, dshift] = each_channel(&grad, c, plane, |c, at, g| {
                let (mean, x) = (self.stats.mean[c], &x[at..at + plane]);
                planes::line_sums(g, x, mean, factor[c], level[c], bounds)
            });
            dscale.iter_mut().zip(&inverse).for_each(|(d, i)| *d *= i);
            let n = self.stats.count as f32;
            let each = share(x.len() / plane.max(1));
            let parts = grad
                .par_chunks_mut(each * plane)
                .zip(x.par_chunks(each * plane));
            parts.enumerate().for_each(|(part, (grad, x))| {
                let planes = grad.chunks_exact_mut(plane).zip(x.chunks_exact(plane));
                for (i, (grad, x)) in planes.enumerate() {
                    let c = (part * each + i) % c;
                    let a = factor[c];
                    let slope = a * inverse[c] * dscale[c] / n;
                    let base = a * dshift[c] / n - slope * self.stats.mean[c];
                    planes::line_back(grad, x, a, level[c], bounds, base, slope);
                }
            });
            Ok((dscale, dshift))
        })?;
        Ok(vec![Some(grad), Some(dscale), Some(dshift)])
    }
}

/// A norm by fixed statistics: a factor and a level a channel.
#[derive(Debug, Clone)]
pub(super) struct Affine {
    factor: Vec<f32>,
    level: Vec<f32>,
    plane: usize,
    activation: Activation,
}

impl Affine {
    pub(super) fn new(
        dims: &[usize],
        [scale, shift, mean, variance]: [&Tensor; 4],
        epsilon: f32,
        activation: Activation,
    ) -> Result<Affine> {
        let (channels, plane) = extents(dims);
        let all = |t: &Tensor| t.flatten_all()?.to_vec1::<f32>();
        let stats = Stats {
            mean: all(mean)?,
            variance: all(variance)?,
            count: 0,
        };
        let norm = BatchNorm {
            epsilon,
            activation,
            stats,
        };
        let (factor, level) = norm.line(&all(scale)?, &all(shift)?);
        if level.len() != channels {
            candle_core::bail!("batch norm: {dims:?} with {} scales", level.len())
        }
        Ok(Affine {
            factor,
            level,
            plane,
            activation,
        })
    }

    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let y = with(x, |x| {
            Ok(scaled(
                x,
                &self.factor,
                &self.level,
                self.plane,
                self.activation,
            ))
        })?;
        tensor(y, x.dims())
    }

    /// The input's gradient; `y` where there is a clamp.
    pub(super) fn backward(&self, mut grad: Vec<f32>, y: Option<&Tensor>) -> Result<Vec<f32>> {
        if let Some(y) = y {
            with(y, |y| {
                mask(&mut grad, y, self.activation);
                Ok(())
            })?;
        }
        let zeros = vec![0.0; self.factor.len()];
        Ok(scaled(
            &grad,
            &self.factor,
            &zeros,
            self.plane,
            Activation::NONE,
        ))
    }
}
