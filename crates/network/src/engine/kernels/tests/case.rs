//! Cases of convolutions and windows: drawn at random, worked out by their definition, and laid out in
//! memory where a write beside a tensor shows.

use crate::engine::kernels::loops::{PANEL, Plane, WinogradTile};
use crate::engine::kernels::memory::Memory;
use crate::engine::kernels::step::{Arena, ConvOperands, Packed, Pixels};
use proptest::prelude::*;
use std::ops::Range;
use std::sync::Arc;

/// What must not be overwritten.
pub(super) const UNTOUCHED: f32 = 12345.0;

/// Tensors one after another in one block, each in a slot of exactly its size.
pub(super) struct Room {
    memory: Memory,
    slots: Vec<Range<usize>>,
}

impl Room {
    pub(super) fn new(tensors: &[Pixels]) -> Room {
        let mut end = 0;
        let mut slots = vec![];
        for t in tensors {
            let floats = match t.samples * t.height * t.width {
                0 => 0,
                n => t.offset + (n - 1) * t.stride + t.channels,
            };
            slots.push(end..end + floats * 4);
            end = (end + floats * 4).next_multiple_of(64);
        }
        let end = slots.last().map_or(0, |s| s.end);
        let mut memory = Memory::zeroed(end);
        bytemuck::cast_slice_mut::<u8, f32>(memory.bytes_mut()).fill(UNTOUCHED);
        Room { memory, slots }
    }

    pub(super) fn arena(&mut self) -> Arena<'_> {
        Arena {
            memory: &mut self.memory,
            slots: &self.slots,
        }
    }

    pub(super) fn floats(&mut self, t: &Pixels) -> &mut [f32] {
        bytemuck::cast_slice_mut(&mut self.memory.bytes_mut()[self.slots[t.slot].clone()])
    }

    /// Fills a tensor from plain (sample, channel, row, column) order.
    pub(super) fn fill(&mut self, t: &Pixels, plain: &[f32]) {
        let floats = self.floats(t);
        for (i, &value) in plain.iter().enumerate() {
            floats[place(t, i)] = value;
        }
    }

    /// The tensor in plain order; fails where anything else of its slot was written to.
    pub(super) fn take(&mut self, t: &Pixels) -> Vec<f32> {
        let floats = self.floats(t).to_vec();
        let mut own = vec![false; floats.len()];
        let plain = (0..t.len()).map(|i| {
            own[place(t, i)] = true;
            floats[place(t, i)]
        });
        let plain = plain.collect();
        let others = own.iter().zip(&floats).filter(|(own, _)| !**own);
        for (_, &value) in others {
            assert_eq!(value, UNTOUCHED, "written between pixels");
        }
        plain
    }
}

/// Where the `i`-th element in plain order lies.
pub(super) fn place(t: &Pixels, i: usize) -> usize {
    let (x, y) = (i % t.width, i / t.width % t.height);
    let (c, n) = (
        i / (t.width * t.height) % t.channels,
        i / (t.width * t.height * t.channels),
    );
    t.offset + ((n * t.height + y) * t.width + x) * t.stride + c
}

pub(super) fn pixels(slot: usize, dims: [usize; 4], gap: (usize, usize)) -> Pixels {
    let [samples, channels, height, width] = dims;
    Pixels {
        slot,
        offset: gap.0,
        stride: channels + gap.0 + gap.1,
        samples,
        height,
        width,
        channels,
    }
}

#[derive(Debug, Clone)]
pub(super) struct Case {
    pub(super) plane: Plane,
    pub(super) samples: usize,
    pub(super) channels: usize,
    pub(super) wide: usize,
    pub(super) groups: usize,
    /// Floats before and after a pixel's own.
    pub(super) gap: (usize, usize),
    pub(super) residual: bool,
    pub(super) clamp: (f32, f32),
    pub(super) threads: usize,
}

prop_compose! {
    /// Kernel, stride, dilation, padding before, input, output of one axis.
    fn axis(room: usize)(k in 1usize..5, s in 1usize..4, d in 1usize..3, before in 0usize..4,
              after in 0usize..4, more in 0..room) -> [usize; 6] {
        let reach = d * (k - 1) + 1;
        let (before, after) = (before.min(k - 1), after.min(k - 1));
        let input = (reach + more).saturating_sub(before + after).max(1);
        let output = (input + before + after - reach) / s + 1;
        [k, s, d, before, input, output]
    }
}

prop_compose! {
    fn plane()(y in axis(8), x in axis(20)) -> Plane {
        let both = |i: usize| [y[i], x[i]];
        Plane {
            kernel: both(0), stride: both(1), dilation: both(2), pad: both(3), input: both(4),
            output: both(5),
        }
    }
}

prop_compose! {
    pub(super) fn case()(plane in plane(), samples in 1usize..10, cin in 1usize..71, cout in 1usize..71,
              grouped in any::<bool>(), groups in 2usize..5, gap in (0usize..4, 0usize..4),
              residual in any::<bool>(), clamped in any::<bool>(), threads in 1usize..5) -> Case {
        let groups = if grouped { groups } else { 1 };
        Case {
            plane, samples, groups, gap, residual, threads,
            channels: cin.div_ceil(groups) * groups,
            wide: cout.div_ceil(groups) * groups,
            clamp: if clamped { (0.0, 6.0) } else { (f32::NEG_INFINITY, f32::INFINITY) },
        }
    }
}

impl Case {
    /// Of input, residual and output.
    pub(super) fn operands(&self, &[x, residual, y]: &[Pixels; 3]) -> ConvOperands {
        let residual = self.residual.then_some(residual);
        ConvOperands { x, residual, y }
    }

    pub(super) fn input(&self) -> [usize; 4] {
        let [h, w] = self.plane.input;
        [self.samples, self.channels, h, w]
    }

    pub(super) fn output(&self) -> [usize; 4] {
        let [h, w] = self.plane.output;
        [self.samples, self.wide, h, w]
    }

    /// Value and sum of magnitudes of each output, as the definition has them.
    pub(super) fn convolution(
        &self,
        x: &[f32],
        w: &[f32],
        bias: &[f32],
        added: &[f32],
    ) -> Vec<(f64, f64)> {
        let p = &self.plane;
        let ([_, cin, h, wd], [_, _, oh, ow]) = (self.input(), self.output());
        let (deep, per_group) = (cin / self.groups, self.wide / self.groups);
        let taps = p.kernel[0] * p.kernel[1];
        let mut y = vec![];
        for (i, added) in added.iter().enumerate() {
            let (ox, oy, o, n) = (
                i % ow,
                i / ow % oh,
                i / (ow * oh) % self.wide,
                i / (ow * oh * self.wide),
            );
            let mut sum = f64::from(bias[o]);
            let mut size = sum.abs();
            for c in 0..deep {
                for tap in 0..taps {
                    let (ky, kx) = (tap / p.kernel[1], tap % p.kernel[1]);
                    let iy = (oy * p.stride[0] + ky * p.dilation[0]).wrapping_sub(p.pad[0]);
                    let ix = (ox * p.stride[1] + kx * p.dilation[1]).wrapping_sub(p.pad[1]);
                    if iy < h && ix < wd {
                        let from = o / per_group * deep + c;
                        let term = f64::from(x[((n * cin + from) * h + iy) * wd + ix])
                            * f64::from(w[(o * deep + c) * taps + tap]);
                        sum += term;
                        size += term.abs();
                    }
                }
            }
            if self.residual {
                sum += f64::from(*added);
            }
            let (low, high) = (f64::from(self.clamp.0), f64::from(self.clamp.1));
            y.push((sum.max(low).min(high), size));
        }
        y
    }

    /// `[group][panel][tap][run][PANEL]`; a tap is one cell, or a whole kernel row.
    pub(super) fn panels(&self, w: &[f32], by_rows: bool) -> Packed {
        let [kh, kw] = self.plane.kernel;
        let (deep, per_group) = (self.channels / self.groups, self.wide / self.groups);
        let (taps, run) = if by_rows {
            (kh, kw * deep)
        } else {
            (kh * kw, deep)
        };
        let mut floats = vec![];
        for group in 0..self.groups {
            for panel in 0..per_group.div_ceil(PANEL) {
                for tap in 0..taps {
                    for k in 0..run {
                        for lane in 0..PANEL {
                            let o = panel * PANEL + lane;
                            let (tap, c) = match by_rows {
                                true => (tap * kw + k / deep, k % deep),
                                false => (tap, k),
                            };
                            let at = ((group * per_group + o) * deep + c) * kh * kw + tap;
                            floats.push(if o < per_group { w[at] } else { 0.0 });
                        }
                    }
                }
            }
        }
        pack(&floats)
    }

    /// `[product][panel][Cin][PANEL]` of a kernel three by three.
    pub(super) fn products(&self, w: &[f32], tile: WinogradTile) -> Packed {
        let mut floats = vec![];
        let (weights, cells) = (tile.weights(), tile.cells());
        for product in 0..tile.products() {
            for o in (0..self.wide).step_by(PANEL) {
                for c in 0..self.channels {
                    for o in o..o + PANEL {
                        let mut sum = 0.0;
                        for (ky, y) in weights[product / cells].iter().enumerate() {
                            for (kx, x) in weights[product % cells].iter().enumerate() {
                                let at = ((o * self.channels + c) * 3 + ky) * 3 + kx;
                                let w = if o < self.wide { w[at] } else { 0.0 };
                                sum += y * x * f64::from(w);
                            }
                        }
                        floats.push(sum as f32);
                    }
                }
            }
        }
        pack(&floats)
    }

    pub(super) fn bias_panels(&self, bias: &[f32]) -> Arc<Vec<f32>> {
        let per_group = self.wide / self.groups;
        let rows = bias.chunks(per_group).flat_map(|row| {
            let mut row = row.to_vec();
            row.resize(per_group.next_multiple_of(PANEL), 0.0);
            row
        });
        Arc::new(rows.collect())
    }
}

pub(super) fn pack(floats: &[f32]) -> Packed {
    let mut weights = Memory::zeroed(floats.len() * 4);
    bytemuck::cast_slice_mut::<u8, f32>(weights.bytes_mut()).copy_from_slice(floats);
    Packed {
        weights,
        floats: floats.len(),
    }
}

/// The plainest case: as many samples, channels and outputs, a map of `side`, three by three.
pub(super) fn square(side: usize, samples: usize, channels: usize) -> Case {
    Case {
        plane: Plane {
            input: [side; 2],
            output: [side; 2],
            kernel: [3; 2],
            stride: [1; 2],
            dilation: [1; 2],
            pad: [1; 2],
        },
        samples,
        channels,
        wide: channels,
        groups: 1,
        gap: (0, 0),
        residual: false,
        clamp: (f32::NEG_INFINITY, f32::INFINITY),
        threads: 1,
    }
}
