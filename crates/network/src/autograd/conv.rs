/*!
Convolution with bias and clamp, forward and backward.

The input's gradient is a set of stride-1 convolutions over the output's gradient, one for each
stride phase of the input, with the taps that reach that phase. The weights' gradient is a product
over positions, read through the same buffers as the forward pass.
*/

use super::gather::Gather;
use super::tensor::{clamp, share, sum, tensor, with};
use crate::engine::kernels::gather::{LANES, conv, pack, weight_grad};
use crate::model::{Activation, op::Window};
use candle_core::{Result, Tensor};
use rayon::prelude::*;

/// A 2-D convolution: `x [N, Cin, H, W]`, `weight [Cout, Cin/groups, KH, KW]`, perhaps
/// `bias [Cout]`. The clamp of `activation` is applied to the result.
#[derive(Debug, Clone)]
pub(super) struct Conv {
    pub window: Window,
    pub groups: usize,
    pub activation: Activation,
}

/// The extents of one call.
struct Extents {
    samples: usize,
    cin: usize,
    input: (usize, usize),
    cout: usize,
    out: (usize, usize),
}

impl Conv {
    fn extents(&self, x: &[usize], w: &[usize]) -> Result<Extents> {
        let fits = x.len() == 4
            && w.len() == 4
            && self.groups > 0
            && w[1] * self.groups == x[1]
            && w[0].is_multiple_of(self.groups)
            && w[2..] == self.window.kernel[..];
        let out = (self.window.output(0, x[2]), self.window.output(1, x[3]));
        let (true, (Some(oh), Some(ow))) = (fits, out) else {
            candle_core::bail!(
                "conv: input {x:?} and weight {w:?} don't fit {:?} with {} groups",
                self.window,
                self.groups
            )
        };
        Ok(Extents {
            samples: x[0],
            cin: x[1],
            input: (x[2], x[3]),
            cout: w[0],
            out: (oh, ow),
        })
    }

    fn taps(&self) -> usize {
        self.window.kernel[0] * self.window.kernel[1]
    }

    /// How outputs read the input.
    fn forward_gather(&self, e: &Extents) -> Gather {
        let w = &self.window;
        let mut taps = Vec::with_capacity(self.taps());
        for y in 0..w.kernel[0] {
            for x in 0..w.kernel[1] {
                taps.push((
                    (y * w.dilations[0]) as isize - w.pads[0].0 as isize,
                    (x * w.dilations[1]) as isize - w.pads[1].0 as isize,
                ));
            }
        }
        let stride = (w.strides[0], w.strides[1]);
        let channels = (e.cin / self.groups, self.groups);
        Gather::new(channels, e.input, e.out, stride, taps)
    }

    fn forward(&self, x: &[f32], w: &[f32], bias: Option<&[f32]>, e: &Extents) -> Vec<f32> {
        let gather = self.forward_gather(e);
        let (terms, og) = (gather.terms(), e.cout / self.groups);
        let packed: Vec<Vec<f32>> = (0..self.groups)
            .map(|g| pack(og, terms, |c, k| w[(g * og + c) * terms + k]))
            .collect();
        let plane = e.out.0 * e.out.1;
        let (sample_in, sample_out) = (e.cin * e.input.0 * e.input.1, e.cout * plane);
        let mut y = vec![0.0; e.samples * sample_out];
        let each = share(e.samples);
        let act = self.activation;
        y.par_chunks_mut(each * sample_out)
            .zip(x.par_chunks(each * sample_in))
            .for_each(|(y, x)| {
                Blocks::new(&gather, og).run(x, sample_in, &packed, |g, slots, first, samples| {
                    gather.rows(slots, samples, og, |n, c, row, values| {
                        let c = g * og + c;
                        let at = ((first + n) * e.cout + c) * plane + row * values.len();
                        let add = bias.map_or(0.0, |b| b[c]);
                        let to = &mut y[at..at + values.len()];
                        if act.is_none() {
                            to.iter_mut().zip(values).for_each(|(t, v)| *t = v + add);
                        } else {
                            let pairs = to.iter_mut().zip(values);
                            pairs.for_each(|(t, v)| *t = clamp(v + add, act));
                        }
                    });
                });
            });
        y
    }

    fn grad_input(&self, grad: &[f32], w: &[f32], e: &Extents) -> Vec<f32> {
        let ig = e.cin / self.groups;
        let strides = &self.window.strides;
        let mut phases = Vec::new();
        for a in 0..strides[0].min(e.input.0) {
            for b in 0..strides[1].min(e.input.1) {
                if let Some(phase) = self.phase(e, a, b, w) {
                    phases.push(phase);
                }
            }
        }
        let plane = e.input.0 * e.input.1;
        let (sample_in, sample_out) = (e.cin * plane, e.cout * e.out.0 * e.out.1);
        let mut dx = vec![0.0; e.samples * sample_in];
        let each = share(e.samples);
        dx.par_chunks_mut(each * sample_in)
            .zip(grad.par_chunks(each * sample_out))
            .for_each(|(dx, grad)| {
                for Phase {
                    a,
                    b,
                    gather,
                    packed,
                } in &phases
                {
                    Blocks::new(gather, ig).run(
                        grad,
                        sample_out,
                        packed,
                        |g, slots, first, samples| {
                            gather.rows(slots, samples, ig, |n, c, row, values| {
                                let start = ((first + n) * e.cin + g * ig + c) * plane;
                                if strides[0] == 1 && strides[1] == 1 {
                                    // Pointwise or not: rows follow each other without a gap.
                                    dx[start + row * values.len()..][..values.len()]
                                        .copy_from_slice(values);
                                } else {
                                    // A pointwise phase has all its rows in one.
                                    let width = (e.input.1 - b).div_ceil(strides[1]);
                                    for (i, values) in values.chunks_exact(width).enumerate() {
                                        let y = (row + i) * strides[0] + a;
                                        let to = dx[start + y * e.input.1 + b..].iter_mut();
                                        let to = to.step_by(strides[1]);
                                        to.zip(values).for_each(|(t, v)| *t = *v);
                                    }
                                }
                            });
                        },
                    );
                }
            });
        dx
    }

    /// The convolution that makes the input's gradient at rows ≡ `a`, columns ≡ `b` modulo the
    /// strides; none where no tap reaches them.
    fn phase(&self, e: &Extents, a: usize, b: usize, w: &[f32]) -> Option<Phase> {
        let win = &self.window;
        let reach = |axis: usize, at: usize| -> Vec<(usize, isize)> {
            let stride = win.strides[axis] as isize;
            (0..win.kernel[axis])
                .filter_map(|k| {
                    let t = (at + win.pads[axis].0) as isize - (k * win.dilations[axis]) as isize;
                    (t.rem_euclid(stride) == 0).then(|| (k, t.div_euclid(stride)))
                })
                .collect()
        };
        let (rows, columns) = (reach(0, a), reach(1, b));
        if rows.is_empty() || columns.is_empty() {
            return None;
        }
        let mut taps = Vec::new();
        let mut kernel = Vec::new();
        for &(ky, ty) in &rows {
            for &(kx, tx) in &columns {
                taps.push((ty, tx));
                kernel.push(ky * win.kernel[1] + kx);
            }
        }
        let out = (
            (e.input.0 - a).div_ceil(win.strides[0]),
            (e.input.1 - b).div_ceil(win.strides[1]),
        );
        let (ig, og) = (e.cin / self.groups, e.cout / self.groups);
        let gather = Gather::new((og, self.groups), e.out, out, (1, 1), taps);
        let (terms, taps) = (gather.terms(), self.taps());
        let packed = (0..self.groups)
            .map(|g| {
                pack(ig, terms, |ci, k| {
                    let (co, tap) = (k / kernel.len(), kernel[k % kernel.len()]);
                    w[((g * og + co) * ig + ci) * taps + tap]
                })
            })
            .collect();
        Some(Phase {
            a,
            b,
            gather,
            packed,
        })
    }

    fn grad_weight(&self, x: &[f32], grad: &[f32], e: &Extents) -> Vec<f32> {
        let gather = self.forward_gather(e);
        let (terms, og) = (gather.terms(), e.cout / self.groups);
        let sample_in = e.cin * e.input.0 * e.input.1;
        let sample_out = e.cout * e.out.0 * e.out.1;
        let each = share(e.samples);
        let offsets = gather.offsets();
        let parts: Vec<Vec<f32>> = x
            .par_chunks(each * sample_in)
            .zip(grad.par_chunks(each * sample_out))
            .map(|(x, grad)| {
                let mut dw = vec![0.0; e.cout * terms];
                let block = gather.block();
                let (mut buffer, mut slots, mut bases) = (Vec::new(), Vec::new(), Vec::new());
                let mut built = 0;
                let pairs = x
                    .chunks(block * sample_in)
                    .zip(grad.chunks(block * sample_out));
                for (x, grad) in pairs {
                    let samples = x.len() / sample_in;
                    if samples != built {
                        built = samples;
                        buffer = gather.buffer(samples);
                        bases = gather.bases(samples);
                        slots = vec![0.0; og * bases.len() * LANES];
                    }
                    gather.fill(x, samples, &mut buffer);
                    let group = gather.group_len(samples);
                    for g in 0..self.groups {
                        gather.to_slots(grad, samples, (e.cout, g * og, og), &mut slots);
                        let dw = &mut dw[g * og * terms..(g + 1) * og * terms];
                        weight_grad(&slots, og, &buffer[g * group..], &offsets, &bases, dw);
                    }
                }
                dw
            })
            .collect();
        sum(parts, e.cout * terms)
    }

    fn bias_grad(grad: &[f32], e: &Extents) -> Vec<f32> {
        let plane = e.out.0 * e.out.1;
        let each = share(e.samples);
        let parts: Vec<Vec<f32>> = grad
            .par_chunks(each * e.cout * plane)
            .map(|grad| {
                let mut sums = vec![0.0; e.cout];
                for (i, values) in grad.chunks_exact(plane).enumerate() {
                    sums[i % e.cout] += values.iter().sum::<f32>();
                }
                sums
            })
            .collect();
        sum(parts, e.cout)
    }

    /// The layer's result; `bias [Cout]` if there is one.
    pub(super) fn run(&self, x: &Tensor, w: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
        let e = self.extents(x.dims(), w.dims())?;
        if let Some(bias) = bias.filter(|b| b.elem_count() != e.cout) {
            candle_core::bail!("conv: {} biases for {} channels", bias.elem_count(), e.cout)
        }
        let y = with(x, |x| {
            with(w, |w| match bias {
                Some(b) => with(b, |b| Ok(self.forward(x, w, Some(b), &e))),
                None => Ok(self.forward(x, w, None, &e)),
            })
        })?;
        tensor(y, &[e.samples, e.cout, e.out.0, e.out.1])
    }

    /// Gradients of input, weight and bias, as far as wanted, from that before the clamp.
    pub(super) fn backward(
        &self,
        x: &Tensor,
        w: &Tensor,
        grad: &[f32],
        wanted: &[bool],
    ) -> Result<Vec<Option<Vec<f32>>>> {
        let e = self.extents(x.dims(), w.dims())?;
        let mut found = vec![None; wanted.len()];
        if wanted[0] {
            found[0] = Some(with(w, |w| Ok(self.grad_input(grad, w, &e)))?);
        }
        if wanted[1] {
            found[1] = Some(with(x, |x| Ok(self.grad_weight(x, grad, &e)))?);
        }
        if wanted.get(2) == Some(&true) {
            found[2] = Some(Self::bias_grad(grad, &e));
        }
        Ok(found)
    }
}

/// One stride phase of the input's gradient.
struct Phase {
    a: usize,
    b: usize,
    gather: Gather,
    packed: Vec<Vec<f32>>,
}

/// Runs a gather over samples block by block.
struct Blocks<'a> {
    gather: &'a Gather,
    channels: usize,
}

impl<'a> Blocks<'a> {
    fn new(gather: &'a Gather, channels: usize) -> Self {
        Blocks { gather, channels }
    }

    /// Calls `done(group, slots, first sample, samples)` with the results of each block and group.
    fn run(
        &self,
        source: &[f32],
        sample: usize,
        packed: &[Vec<f32>],
        mut done: impl FnMut(usize, &[f32], usize, usize),
    ) {
        let (gather, block) = (self.gather, self.gather.block());
        let offsets = gather.offsets();
        let (mut buffer, mut slots, mut bases) = (Vec::new(), Vec::new(), Vec::new());
        let mut built = 0;
        for (i, source) in source.chunks(block * sample).enumerate() {
            let samples = source.len() / sample;
            if samples != built {
                built = samples;
                buffer = gather.buffer(samples);
                bases = gather.bases(samples);
                slots = vec![0.0; self.channels * bases.len() * LANES];
            }
            gather.fill(source, samples, &mut buffer);
            let group = gather.group_len(samples);
            for (g, weights) in packed.iter().enumerate() {
                let buffer = &buffer[g * group..];
                conv(weights, self.channels, buffer, &offsets, &bases, &mut slots);
                done(g, &slots, i * block, samples);
            }
        }
    }
}
