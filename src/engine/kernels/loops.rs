/*!
The inner loops, generic over [`Simd`], and the table of them for the instruction set at hand.

Everything in here is `#[inline(always)]` down to one function an instruction set that has the
target features: a closure, or a function that is not inlined, would not inherit them.
*/

#![allow(
    clippy::needless_range_loop,
    reason = "loops over lanes that unroll read best as they are counted"
)]

#[cfg(target_arch = "aarch64")]
use super::simd::Neon;
#[cfg(target_arch = "x86_64")]
use super::simd::{Avx2, Avx512};
use super::simd::{Portable, Simd};
use crate::engine::Isa;

/// Channels in a panel of weights.
pub(crate) const PANEL: usize = 16;
/// Pixels in a tile, at most.
pub(crate) const TILE: usize = 6;

/// One row of the reduction for each pixel of a tile. A null first pointer: padding for all.
pub(crate) type Rows = [*const f32; TILE];

/// A run of tiles against a run of panels.
pub(crate) struct Block<'a> {
    /// `[tile][tap]`
    pub rows: &'a [Rows],
    /// Pixels in each tile.
    pub heights: &'a [usize],
    /// For each tile the output pixels.
    pub out: &'a [[*mut f32; TILE]],
    /// For each tile the residual pixels; empty where there is none.
    pub residual: &'a [Rows],
    pub taps: usize,
    /// Floats of one tap.
    pub run: usize,
    /// `[panel][tap][run][PANEL]`
    pub weights: *const f32,
    /// One a channel, as many as the panels have.
    pub bias: *const f32,
    pub panels: std::ops::Range<usize>,
    pub channels: usize,
    pub low: f32,
    pub high: f32,
}

/// `MR` pixels of tile `t` against `NP` panels from `panel` on. The reduction is split over `KU`
/// accumulators, and the order of each sum depends on `KU` alone: never on `NP`.
///
/// # Safety
/// The instructions of `S` are there; `PANEL == NV · LANES`; tile `t` has `MR` pixels; there are
/// `NP` panels from `panel` on; every pointer of the block is good for what the block says lies
/// behind it.
#[inline(always)]
unsafe fn tile<S: Simd, const MR: usize, const NV: usize, const KU: usize, const NP: usize>(
    b: &Block,
    t: usize,
    panel: usize,
) {
    // SAFETY: all accesses below stay within what the function's contract promises.
    unsafe {
        let out = b.out.get_unchecked(t);
        for p in 0..NP {
            let channel = (panel + p) * PANEL;
            for &o in &out[..MR] {
                S::prefetch(o.wrapping_add(channel));
            }
            if !b.residual.is_empty() {
                for &r in &b.residual.get_unchecked(t)[..MR] {
                    S::prefetch(r.wrapping_add(channel));
                }
            }
        }
        let mut acc = [[[[S::splat(0.0); NV]; NP]; MR]; KU];
        let panel_floats = b.taps * b.run * PANEL;
        let mut tap_weights = b.weights.add(panel * panel_floats);
        for tap in 0..b.taps {
            let rows = b.rows.get_unchecked(t * b.taps + tap);
            let mut w = tap_weights;
            tap_weights = tap_weights.add(b.run * PANEL);
            if rows[0].is_null() {
                continue;
            }
            let mut k = 0;
            while k + KU <= b.run {
                for u in 0..KU {
                    let mut v = [[S::splat(0.0); NV]; NP];
                    for p in 0..NP {
                        for n in 0..NV {
                            let at = p * panel_floats + u * PANEL + n * S::LANES;
                            v[p][n] = S::load(w.add(at));
                        }
                    }
                    for r in 0..MR {
                        let x = S::splat(*rows[r].add(k + u));
                        for p in 0..NP {
                            for n in 0..NV {
                                acc[u][r][p][n] = S::fma(x, v[p][n], acc[u][r][p][n]);
                            }
                        }
                    }
                }
                w = w.add(KU * PANEL);
                k += KU;
            }
            while k < b.run {
                for r in 0..MR {
                    let x = S::splat(*rows[r].add(k));
                    for p in 0..NP {
                        for n in 0..NV {
                            let v = S::load(w.add(p * panel_floats + n * S::LANES));
                            acc[0][r][p][n] = S::fma(x, v, acc[0][r][p][n]);
                        }
                    }
                }
                w = w.add(PANEL);
                k += 1;
            }
        }
        // A copy: indexing `acc` by a variable would pin it to the stack throughout.
        let mut sum = acc[0];
        for more in &acc[1..] {
            for r in 0..MR {
                for p in 0..NP {
                    for n in 0..NV {
                        sum[r][p][n] = S::add(sum[r][p][n], more[r][p][n]);
                    }
                }
            }
        }
        let (low, high) = (S::splat(b.low), S::splat(b.high));
        for p in 0..NP {
            let channel = (panel + p) * PANEL;
            let live = b.channels - channel;
            for n in 0..NV {
                let c = n * S::LANES;
                if c >= live {
                    break;
                }
                let bias = S::load(b.bias.add(channel + c));
                for r in 0..MR {
                    let mut y = S::add(sum[r][p][n], bias);
                    let to = out[r].add(channel + c);
                    if c + S::LANES <= live {
                        if !b.residual.is_empty() {
                            let residual = b.residual.get_unchecked(t)[r].add(channel + c);
                            y = S::add(y, S::load(residual));
                        }
                        S::store(to, S::min(high, S::max(low, y)));
                    } else {
                        let mut last = [0.0f32; PANEL];
                        S::store(last.as_mut_ptr(), y);
                        for (i, &y) in last[..live - c].iter().enumerate() {
                            let mut y = y;
                            if !b.residual.is_empty() {
                                y += *b.residual.get_unchecked(t)[r].add(channel + c + i);
                            }
                            *to.add(i) = clamp(y, b.low, b.high);
                        }
                    }
                }
            }
        }
    }
}

#[inline(always)]
fn clamp(x: f32, low: f32, high: f32) -> f32 {
    let x = if low > x { low } else { x };
    if high < x { high } else { x }
}

/// Two vectors or four a panel: few pixels split the reduction over more accumulators, so that the
/// multiplier's latency is hidden all the same.
///
/// # Safety
/// As for [`tile`], for every tile and panel of the block.
#[inline(always)]
unsafe fn block<S: Simd, const NV: usize>(b: &Block) {
    for panel in b.panels.clone() {
        for (t, &height) in b.heights.iter().enumerate() {
            // SAFETY: the caller's.
            unsafe {
                match height {
                    1 => tile::<S, 1, NV, 4, 1>(b, t, panel),
                    2 => tile::<S, 2, NV, 2, 1>(b, t, panel),
                    3 => tile::<S, 3, NV, 2, 1>(b, t, panel),
                    4 => tile::<S, 4, NV, 1, 1>(b, t, panel),
                    5 => tile::<S, 5, NV, 1, 1>(b, t, panel),
                    _ => tile::<S, 6, NV, 1, 1>(b, t, panel),
                }
            }
        }
    }
}

/// For vectors as wide as a panel: two panels at a time, so that what is broadcast serves twice.
///
/// # Safety
/// As for [`block`].
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn pairs<S: Simd>(b: &Block) {
    let mut panel = b.panels.start;
    while panel < b.panels.end {
        let two = panel + 1 < b.panels.end;
        for (t, &height) in b.heights.iter().enumerate() {
            // SAFETY: the caller's; there are two panels where two are taken.
            unsafe {
                match (height, two) {
                    (1, true) => tile::<S, 1, 1, 4, 2>(b, t, panel),
                    (2, true) => tile::<S, 2, 1, 4, 2>(b, t, panel),
                    (3, true) => tile::<S, 3, 1, 2, 2>(b, t, panel),
                    (4, true) => tile::<S, 4, 1, 2, 2>(b, t, panel),
                    (5, true) => tile::<S, 5, 1, 2, 2>(b, t, panel),
                    (_, true) => tile::<S, 6, 1, 2, 2>(b, t, panel),
                    (1, false) => tile::<S, 1, 1, 4, 1>(b, t, panel),
                    (2, false) => tile::<S, 2, 1, 4, 1>(b, t, panel),
                    (3, false) => tile::<S, 3, 1, 2, 1>(b, t, panel),
                    (4, false) => tile::<S, 4, 1, 2, 1>(b, t, panel),
                    (5, false) => tile::<S, 5, 1, 2, 1>(b, t, panel),
                    (_, false) => tile::<S, 6, 1, 2, 1>(b, t, panel),
                }
            }
        }
        panel += 2;
    }
}

/// Extents of a 2-D window on one sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Plane {
    /// Input, output, kernel, stride, dilation, padding before: (rows, columns).
    pub input: [usize; 2],
    pub output: [usize; 2],
    pub kernel: [usize; 2],
    pub stride: [usize; 2],
    pub dilation: [usize; 2],
    pub pad: [usize; 2],
}

impl Plane {
    /// The taps of `axis` that fall on real cells under output cell `o`.
    #[inline(always)]
    pub(crate) fn taps(&self, axis: usize, o: usize) -> (usize, usize) {
        let start = o * self.stride[axis];
        let d = self.dilation[axis];
        let first = self.pad[axis].saturating_sub(start).div_ceil(d);
        let room = (self.input[axis] + self.pad[axis]).saturating_sub(start);
        let end = room.div_ceil(d).min(self.kernel[axis]);
        (first.min(end), end)
    }
}

/// What a window does with the cells under it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Fold {
    /// Depthwise convolution, then a clamp.
    Weigh {
        low: f32,
        high: f32,
    },
    Max,
    /// Mean over the real cells.
    Mean,
    /// Sum over the real cells divided by this (a float, since a compiler may convert an integer
    /// before it knows that there is one).
    MeanOf(f32),
}

/// One row of output pixels of a depthwise convolution or a pool.
pub(crate) struct Line<'a> {
    pub plane: &'a Plane,
    pub fold: Fold,
    /// The sample's first pixel.
    pub x: *const f32,
    pub x_stride: usize,
    /// The row's first pixel.
    pub y: *mut f32,
    pub y_stride: usize,
    pub channels: usize,
    /// `[tap][channels]` and `[channels]`; for `Fold::Weigh` only.
    pub weights: *const f32,
    pub bias: *const f32,
    /// Which output row.
    pub row: usize,
}

/// `M` neighbouring output pixels from column `ox` on, all of whose taps `columns` are real, over
/// the channels from `c` on that fill vectors. Returns the first channel left.
///
/// # Safety
/// The instructions of `S` are there, and the line's pointers are good.
#[inline(always)]
unsafe fn pixels<S: Simd, const M: usize>(
    l: &Line,
    ox: usize,
    columns: (usize, usize),
    mut c: usize,
) -> usize {
    let p = l.plane;
    let rows = p.taps(0, l.row);
    let count = (rows.1 - rows.0) * (columns.1 - columns.0);
    let (weigh, max) = (
        matches!(l.fold, Fold::Weigh { .. }),
        matches!(l.fold, Fold::Max),
    );
    let step = p.stride[1] * l.x_stride;
    // SAFETY: taps() gives only cells inside the plane, and c + LANES stays within the channels.
    unsafe {
        while c + S::LANES <= l.channels {
            let start = match l.fold {
                Fold::Weigh { .. } => S::load(l.bias.add(c)),
                Fold::Max => S::splat(f32::NEG_INFINITY),
                _ => S::splat(0.0),
            };
            let mut acc = [start; M];
            for ky in rows.0..rows.1 {
                let iy = l.row * p.stride[0] + ky * p.dilation[0] - p.pad[0];
                for kx in columns.0..columns.1 {
                    let ix = ox * p.stride[1] + kx * p.dilation[1] - p.pad[1];
                    let x = l.x.add((iy * p.input[1] + ix) * l.x_stride + c);
                    if weigh {
                        let w = S::load(l.weights.add((ky * p.kernel[1] + kx) * l.channels + c));
                        for m in 0..M {
                            acc[m] = S::fma(S::load(x.add(m * step)), w, acc[m]);
                        }
                    } else if max {
                        for m in 0..M {
                            acc[m] = S::max(S::load(x.add(m * step)), acc[m]);
                        }
                    } else {
                        for m in 0..M {
                            acc[m] = S::add(acc[m], S::load(x.add(m * step)));
                        }
                    }
                }
            }
            for m in 0..M {
                let y = match l.fold {
                    Fold::Weigh { low, high } => {
                        S::min(S::splat(high), S::max(S::splat(low), acc[m]))
                    }
                    Fold::Max => acc[m],
                    Fold::Mean => S::mul(acc[m], S::splat(1.0 / count as f32)),
                    Fold::MeanOf(n) => S::mul(acc[m], S::splat(1.0 / n)),
                };
                S::store(l.y.add((ox + m) * l.y_stride + c), y);
            }
            c += S::LANES;
        }
    }
    c
}

/// The channels from `c` on that fill no vector, of one output pixel.
///
/// # Safety
/// The line's pointers are good.
#[inline(always)]
unsafe fn rest(l: &Line, ox: usize, from: usize) {
    let p = l.plane;
    let (rows, columns) = (p.taps(0, l.row), p.taps(1, ox));
    let count = (rows.1 - rows.0) * (columns.1 - columns.0);
    for c in from..l.channels {
        // SAFETY: as in `pixels`, one channel at a time.
        unsafe {
            let mut acc = match l.fold {
                Fold::Weigh { .. } => *l.bias.add(c),
                Fold::Max => f32::NEG_INFINITY,
                _ => 0.0,
            };
            for ky in rows.0..rows.1 {
                let iy = l.row * p.stride[0] + ky * p.dilation[0] - p.pad[0];
                for kx in columns.0..columns.1 {
                    let ix = ox * p.stride[1] + kx * p.dilation[1] - p.pad[1];
                    let x = *l.x.add((iy * p.input[1] + ix) * l.x_stride + c);
                    match l.fold {
                        Fold::Weigh { .. } => {
                            acc += x * *l.weights.add((ky * p.kernel[1] + kx) * l.channels + c);
                        }
                        Fold::Max => acc = if x > acc { x } else { acc },
                        _ => acc += x,
                    }
                }
            }
            *l.y.add(ox * l.y_stride + c) = match l.fold {
                Fold::Weigh { low, high } => clamp(acc, low, high),
                Fold::Max => acc,
                Fold::Mean => acc * (1.0 / count as f32),
                Fold::MeanOf(n) => acc * (1.0 / n),
            };
        }
    }
}

/// Channels that fill no vector of `S` go by the narrower vectors of `N`, and the last of all one
/// by one.
///
/// # Safety
/// The instructions of `S` and `N` are there, and the line's pointers are good.
#[inline(always)]
unsafe fn line<S: Simd, N: Simd>(l: &Line) {
    let p = l.plane;
    let all = (0, p.kernel[1]);
    let mut ox = 0;
    while ox < p.output[1] {
        // SAFETY: the caller's.
        unsafe {
            // Four pixels away from the borders share each load of the weights.
            let inner = ox + 4 <= p.output[1] && p.taps(1, ox) == all && p.taps(1, ox + 3) == all;
            let (many, vectors) = if inner {
                let wide = pixels::<S, 4>(l, ox, all, 0);
                (4, pixels::<N, 4>(l, ox, all, wide))
            } else {
                let columns = p.taps(1, ox);
                let wide = pixels::<S, 1>(l, ox, columns, 0);
                (1, pixels::<N, 1>(l, ox, columns, wide))
            };
            if vectors < l.channels {
                for m in 0..many {
                    rest(l, ox + m, vectors);
                }
            }
            ox += many;
        }
    }
}

/// The loops for one instruction set.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Loops {
    pub(super) block: unsafe fn(&Block),
    pub(super) line: unsafe fn(&Line),
}

macro_rules! loops {
    ($name:ident, $block:expr, $line:expr $(, $feature:literal)?) => {
        mod $name {
            use super::*;
            // The safety contracts are those of the generic functions.
            $(#[target_feature(enable = $feature)])?
            unsafe fn block_loop(b: &Block) {
                // SAFETY: the caller's.
                unsafe { $block(b) }
            }
            $(#[target_feature(enable = $feature)])?
            unsafe fn line_loop(l: &Line) {
                // SAFETY: the caller's.
                unsafe { $line(l) }
            }
            pub(super) const LOOPS: Loops = Loops {
                block: block_loop,
                line: line_loop,
            };
        }
    };
}

loops!(portable, block::<Portable, 4>, line::<Portable, Portable>);
#[cfg(target_arch = "x86_64")]
loops!(avx2, block::<Avx2, 2>, line::<Avx2, Avx2>, "avx2,fma");
#[cfg(target_arch = "x86_64")]
loops!(
    avx512,
    pairs::<Avx512>,
    line::<Avx512, Avx2>,
    "avx512f,avx2,fma"
);
#[cfg(target_arch = "aarch64")]
loops!(neon, block::<Neon, 4>, line::<Neon, Neon>, "neon");

impl Loops {
    /// The loops for `isa`, if this processor has it.
    pub(crate) fn of(isa: Isa) -> Option<Loops> {
        match isa {
            Isa::Portable => Some(portable::LOOPS),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") => {
                Some(avx2::LOOPS)
            }
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 if is_x86_feature_detected!("avx512f") && Isa::Avx2.runs_here() => {
                Some(avx512::LOOPS)
            }
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => Some(neon::LOOPS),
            _ => None,
        }
    }
}
