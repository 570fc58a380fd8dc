/*! Windows: depthwise convolutions and pools, one row of output pixels at a time. */

use super::super::simd::Simd;
use super::clamp;

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
pub(crate) struct Row<'a> {
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
    /// Index of the output row, from 0.
    pub row: usize,
}

/// `M` neighbouring output pixels from column `ox` on, all of whose taps `columns` are real, over
/// the channels from `c` on that fill vectors. Returns the first channel left.
///
/// # Safety
/// The instructions of `S` are there, and the row's pointers are good.
#[inline(always)]
unsafe fn pixels<S: Simd, const M: usize>(
    l: &Row,
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

/// Floats of a sample beyond which a core's own caches don't hold it.
const FAR: usize = 1 << 17;

/// What [`three`] does with a cell, as a constant, so that its loops hold nothing else.
const WEIGH: u8 = 0;
const MAX: u8 = 1;
const ADD: u8 = 2;

/// As [`pixels`], for windows three cells wide, `STEP` cells apart: neighbouring windows share what
/// they load. The order of each sum is that of [`pixels`].
///
/// # Safety
/// As for [`pixels`]; the window is three columns wide, without dilation, with a stride of `STEP`
/// columns, and `KIND` is that of the fold.
#[inline(always)]
unsafe fn three<S: Simd, const M: usize, const STEP: usize, const KIND: u8>(
    l: &Row,
    ox: usize,
    mut c: usize,
) -> usize {
    let p = l.plane;
    let rows = p.taps(0, l.row);
    let left = ox * STEP - p.pad[1];
    let scale = match l.fold {
        Fold::Mean => 1.0 / ((rows.1 - rows.0) * 3) as f32,
        Fold::MeanOf(n) => 1.0 / n,
        _ => 1.0,
    };
    // The rows that the next output row reads and this one does not, unless all is at hand.
    let large = p.input[0] * p.input[1] * l.x_stride > FAR;
    let below = (l.row * p.stride[0] + p.kernel[0]).saturating_sub(p.pad[0]);
    let below = match large {
        true => below..below + p.stride[0],
        false => 0..0,
    };
    // SAFETY: taps() gives only cells inside the plane, and c + LANES stays within the channels.
    unsafe {
        while c + S::LANES <= l.channels {
            for iy in below.clone() {
                let row = l.x.wrapping_add((iy * p.input[1] + left) * l.x_stride + c);
                for column in 0..M * STEP {
                    S::prefetch_second(row.wrapping_add(column * l.x_stride));
                }
            }
            let start = match KIND {
                WEIGH => S::load(l.bias.add(c)),
                MAX => S::splat(f32::NEG_INFINITY),
                _ => S::splat(0.0),
            };
            let mut acc = [start; M];
            for ky in rows.0..rows.1 {
                let iy = l.row * p.stride[0] + ky * p.dilation[0] - p.pad[0];
                let x = l.x.add((iy * p.input[1] + left) * l.x_stride + c);
                let mut w = [S::splat(0.0); 3];
                if KIND == WEIGH {
                    for kx in 0..3 {
                        w[kx] = S::load(l.weights.add((ky * 3 + kx) * l.channels + c));
                    }
                }
                for column in 0..(M - 1) * STEP + 3 {
                    let x = S::load(x.add(column * l.x_stride));
                    for m in 0..M {
                        // The cell is one of the three under window m.
                        if column >= m * STEP && column < m * STEP + 3 {
                            acc[m] = match KIND {
                                WEIGH => S::fma(x, w[column - m * STEP], acc[m]),
                                MAX => S::max(x, acc[m]),
                                _ => S::add(acc[m], x),
                            };
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
                    _ => S::mul(acc[m], S::splat(scale)),
                };
                S::store(l.y.add((ox + m) * l.y_stride + c), y);
            }
            c += S::LANES;
        }
    }
    c
}

/// `M` pixels whose windows lie inside the plane, by the loop made for them where there is one.
///
/// # Safety
/// As for [`pixels`].
#[inline(always)]
unsafe fn inner<S: Simd, const M: usize>(l: &Row, ox: usize, c: usize) -> usize {
    let p = l.plane;
    let small = p.kernel[1] == 3 && p.dilation[1] == 1;
    // SAFETY: the caller's; the kind is that of the fold.
    unsafe {
        match (small, p.stride[1], l.fold) {
            (true, 1, Fold::Weigh { .. }) => three::<S, M, 1, WEIGH>(l, ox, c),
            (true, 2, Fold::Weigh { .. }) => three::<S, M, 2, WEIGH>(l, ox, c),
            (true, 1, Fold::Max) => three::<S, M, 1, MAX>(l, ox, c),
            (true, 2, Fold::Max) => three::<S, M, 2, MAX>(l, ox, c),
            (true, 1, Fold::Mean | Fold::MeanOf(_)) => three::<S, M, 1, ADD>(l, ox, c),
            (true, 2, Fold::Mean | Fold::MeanOf(_)) => three::<S, M, 2, ADD>(l, ox, c),
            _ => pixels::<S, M>(l, ox, (0, p.kernel[1]), c),
        }
    }
}

/// The channels from `c` on that fill no vector, of one output pixel.
///
/// # Safety
/// The line's pointers are good.
#[inline(always)]
unsafe fn rest(l: &Row, ox: usize, from: usize) {
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
/// The instructions of `S` and `N` are there, and the row's pointers are good.
#[inline(always)]
pub(super) unsafe fn row<S: Simd, N: Simd>(l: &Row) {
    let p = l.plane;
    // Columns whose windows lie inside share what they load: of the weights, of the cells. Eight
    // windows two cells apart would read more rows of memory at once than are fetched ahead.
    let first = p.pad[1].div_ceil(p.stride[1]);
    let reach = p.dilation[1] * (p.kernel[1] - 1) + 1;
    let end = match (p.input[1] + p.pad[1]).checked_sub(reach) {
        Some(last) => (last / p.stride[1] + 1).min(p.output[1]),
        None => 0,
    };
    let many = match end.saturating_sub(first) {
        8.. if p.stride[1] == 1 => 8,
        4.. => 4,
        _ => 1,
    };
    let mut ox = 0;
    while ox < p.output[1] {
        // The last few go back over columns that are done: the same values again.
        let at = match many > 1 && (first..end).contains(&ox) {
            true => ox.min(end - many),
            false => ox,
        };
        // SAFETY: the caller's.
        unsafe {
            let (done, vectors) = if many > 1 && at >= first && at + many <= end {
                let vectors = match many {
                    8 => inner::<N, 8>(l, at, inner::<S, 8>(l, at, 0)),
                    _ => inner::<N, 4>(l, at, inner::<S, 4>(l, at, 0)),
                };
                (at + many, vectors)
            } else {
                let columns = p.taps(1, at);
                let wide = pixels::<S, 1>(l, at, columns, 0);
                (at + 1, pixels::<N, 1>(l, at, columns, wide))
            };
            if vectors < l.channels {
                for m in at..done {
                    rest(l, m, vectors);
                }
            }
            ox = done;
        }
    }
}
