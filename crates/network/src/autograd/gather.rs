/*!
How a convolution, forward or backward, reads its source: which buffer to build from a sample, where
each term of the reduction lies in it, and how eight-wide slots map to output positions. The sums
themselves are in [`crate::engine::kernels::gather`].

Wide maps are copied once into padded planes, split by stride phase, so that neighbouring outputs
read neighbouring floats at every tap. Narrow maps would waste most of a slot on the end of each
row; they are unrolled into columns over several samples instead.
*/

use crate::engine::kernels::gather::LANES;

/// Floats of unrolled columns per block: about what stays in a core's second-level cache.
const COLUMN_FLOATS: usize = 1 << 18;

/// The reading pattern: output `(y, x)` sums over source `(y·stride + t, x·stride + u)` for all
/// taps `(t, u)` and the channels of a group; what falls outside the source is zero.
#[derive(Debug, Clone)]
pub(super) struct Gather {
    /// Source channels in a group.
    channels: usize,
    groups: usize,
    height: usize,
    width: usize,
    out: (usize, usize),
    stride: (usize, usize),
    taps: Vec<(isize, isize)>,
    layout: Layout,
}

#[derive(Debug, Clone)]
enum Layout {
    /// Padded planes of one sample.
    Planes {
        low: (isize, isize),
        rows: usize,
        pitch: usize,
        slots: usize,
    },
    /// `[slot][term][lane]` over several samples; `index[tap][position]` in the source plane, or
    /// `u32::MAX` in the padding.
    Columns { index: Vec<Vec<u32>> },
}

impl Gather {
    pub(super) fn new(
        (channels, groups): (usize, usize),
        (mut height, mut width): (usize, usize),
        mut out: (usize, usize),
        stride: (usize, usize),
        taps: Vec<(isize, isize)>,
    ) -> Gather {
        // A pointwise product knows no rows: one long row wastes no slot.
        if taps == [(0, 0)] && stride == (1, 1) && out == (height, width) {
            (height, width) = (1, height * width);
            out = (1, width);
        }
        let slots = out.1.div_ceil(LANES);
        let full = out.1 as f32 / (slots * LANES) as f32;
        let layout = if full >= 0.7 || channels == 1 {
            let low_y = taps.iter().map(|t| t.0).min().unwrap_or(0);
            let low_x = taps.iter().map(|t| t.1).min().unwrap_or(0);
            let high_y = taps.iter().map(|t| t.0).max().unwrap_or(0);
            let high_x = taps.iter().map(|t| t.1).max().unwrap_or(0);
            let rows = (high_y - low_y) as usize / stride.0 + out.0;
            let pitch = (high_x - low_x) as usize / stride.1 + slots * LANES;
            Layout::Planes {
                low: (low_y, low_x),
                rows,
                pitch,
                slots,
            }
        } else {
            let index = |&(t, u): &(isize, isize)| {
                let mut row = Vec::with_capacity(out.0 * out.1);
                for y in 0..out.0 {
                    for x in 0..out.1 {
                        let (y, x) = ((y * stride.0) as isize + t, (x * stride.1) as isize + u);
                        let inside =
                            y >= 0 && x >= 0 && (y as usize) < height && (x as usize) < width;
                        row.push(if inside {
                            (y as usize * width + x as usize) as u32
                        } else {
                            u32::MAX
                        });
                    }
                }
                row
            };
            Layout::Columns {
                index: taps.iter().map(index).collect(),
            }
        };
        Gather {
            channels,
            groups,
            height,
            width,
            out,
            stride,
            taps,
            layout,
        }
    }

    /// Samples worth building one buffer for.
    pub(super) fn block(&self) -> usize {
        match self.layout {
            Layout::Planes { .. } => 1,
            Layout::Columns { .. } => {
                let floats = self.terms() * self.groups * self.out.0 * self.out.1;
                (COLUMN_FLOATS / floats.max(1)).max(1 + 2 * LANES / (self.out.0 * self.out.1))
            }
        }
    }

    /// Terms of the reduction in a group.
    pub(super) fn terms(&self) -> usize {
        self.channels * self.taps.len()
    }

    /// Number of slots for `samples`, even.
    pub(super) fn slots(&self, samples: usize) -> usize {
        let slots = match self.layout {
            Layout::Planes { slots, .. } => slots * self.out.0,
            Layout::Columns { .. } => (samples * self.out.0 * self.out.1).div_ceil(LANES),
        };
        slots.next_multiple_of(2)
    }

    fn phases(&self) -> usize {
        self.stride.0 * self.stride.1
    }

    /// Floats of buffer for one group of `samples`.
    pub(super) fn group_len(&self, samples: usize) -> usize {
        match self.layout {
            Layout::Planes { rows, pitch, .. } => self.channels * self.phases() * rows * pitch,
            Layout::Columns { .. } => self.slots(samples) * self.terms() * LANES,
        }
    }

    /// A zeroed buffer for all groups of `samples`, with room for the slot that only fills a pair.
    pub(super) fn buffer(&self, samples: usize) -> Vec<f32> {
        vec![0.0; self.group_len(samples) * self.groups]
    }

    /// Where each term lies, relative to a slot's base; terms run over (channel, tap).
    pub(super) fn offsets(&self) -> Vec<u32> {
        let mut offsets = Vec::with_capacity(self.terms());
        for c in 0..self.channels {
            for (i, &(t, u)) in self.taps.iter().enumerate() {
                offsets.push(match self.layout {
                    Layout::Planes {
                        low, rows, pitch, ..
                    } => {
                        let (y, x) = ((t - low.0) as usize, (u - low.1) as usize);
                        let phase = (y % self.stride.0) * self.stride.1 + x % self.stride.1;
                        let plane = c * self.phases() + phase;
                        ((plane * rows + y / self.stride.0) * pitch + x / self.stride.1) as u32
                    }
                    Layout::Columns { .. } => ((c * self.taps.len() + i) * LANES) as u32,
                });
            }
        }
        offsets
    }

    /// The base of each slot.
    pub(super) fn bases(&self, samples: usize) -> Vec<usize> {
        let count = self.slots(samples);
        match self.layout {
            Layout::Planes { pitch, slots, .. } => {
                let mut bases = Vec::with_capacity(count);
                for y in 0..self.out.0 {
                    bases.extend((0..slots).map(|s| y * pitch + s * LANES));
                }
                bases.resize(count, 0);
                bases
            }
            Layout::Columns { .. } => (0..count).map(|s| s * self.terms() * LANES).collect(),
        }
    }

    /// Builds the buffer from `samples` samples of `groups · channels` planes. `buffer` comes from
    /// [`Gather::buffer`], and may have served before for as many samples.
    pub(super) fn fill(&self, source: &[f32], samples: usize, buffer: &mut [f32]) {
        let plane = self.height * self.width;
        match &self.layout {
            Layout::Planes {
                low, rows, pitch, ..
            } => {
                let size = rows * pitch;
                for (c, source) in source.chunks_exact(plane).enumerate() {
                    let planes = &mut buffer[c * self.phases() * size..][..self.phases() * size];
                    self.fill_plane(source, *low, *rows, *pitch, planes);
                }
            }
            Layout::Columns { index } => {
                let positions = self.out.0 * self.out.1;
                let group = self.group_len(samples);
                let terms = self.terms();
                for n in 0..samples {
                    for gc in 0..self.groups * self.channels {
                        let source = &source[(n * self.groups * self.channels + gc) * plane..];
                        let (g, c) = (gc / self.channels, gc % self.channels);
                        for (i, index) in index.iter().enumerate() {
                            let term = c * self.taps.len() + i;
                            for (p, &at) in index.iter().enumerate() {
                                let flat = n * positions + p;
                                let to = g * group
                                    + (flat / LANES * terms + term) * LANES
                                    + flat % LANES;
                                buffer[to] = if at == u32::MAX {
                                    0.0
                                } else {
                                    source[at as usize]
                                };
                            }
                        }
                    }
                }
            }
        }
    }

    fn fill_plane(
        &self,
        source: &[f32],
        low: (isize, isize),
        rows: usize,
        pitch: usize,
        planes: &mut [f32],
    ) {
        let (sy, sx) = self.stride;
        for y in 0..self.height {
            let at = y as isize - low.0;
            if at < 0 || at as usize / sy >= rows {
                continue;
            }
            let (phase_y, row) = (at as usize % sy, at as usize / sy);
            let line = &source[y * self.width..(y + 1) * self.width];
            // First column inside, and the last one the buffer has room for.
            let first = low.1.max(0) as usize;
            for phase_x in 0..sx {
                let to = &mut planes[((phase_y * sx + phase_x) * rows + row) * pitch..][..pitch];
                let skip = (first as isize - low.1) as usize;
                let start = first + (phase_x + sx - skip % sx) % sx;
                let column = (start as isize - low.1) as usize / sx;
                if start >= self.width || column >= pitch {
                    continue;
                }
                let from = &line[start..];
                if sx == 1 {
                    let n = from.len().min(pitch - column);
                    to[column..column + n].copy_from_slice(&from[..n]);
                } else {
                    let pairs = to[column..].iter_mut().zip(from.iter().step_by(sx));
                    pairs.for_each(|(to, &from)| *to = from);
                }
            }
        }
    }

    /// Where row `y` of sample `n` begins among a channel's slots.
    fn row(&self, n: usize, y: usize) -> usize {
        match self.layout {
            Layout::Planes { slots, .. } => y * slots * LANES,
            Layout::Columns { .. } => (n * self.out.0 + y) * self.out.1,
        }
    }

    /// Calls `each(sample, channel, y, row)` for every row of outputs in `slots`, which is
    /// `[channels][slot][lane]`.
    pub(super) fn rows(
        &self,
        slots: &[f32],
        samples: usize,
        channels: usize,
        mut each: impl FnMut(usize, usize, usize, &[f32]),
    ) {
        let pitch = self.slots(samples) * LANES;
        for n in 0..samples {
            for c in 0..channels {
                for y in 0..self.out.0 {
                    each(n, c, y, &slots[c * pitch + self.row(n, y)..][..self.out.1]);
                }
            }
        }
    }

    /// The reverse of [`Gather::rows`] for a gradient: channels `from..from + channels` of samples
    /// of `all` channels into slots. `slots` keeps its zeros in unused lanes.
    pub(super) fn to_slots(
        &self,
        grad: &[f32],
        samples: usize,
        (all, from, channels): (usize, usize, usize),
        slots: &mut [f32],
    ) {
        let pitch = self.slots(samples) * LANES;
        for n in 0..samples {
            for c in 0..channels {
                for y in 0..self.out.0 {
                    let row = ((n * all + from + c) * self.out.0 + y) * self.out.1;
                    slots[c * pitch + self.row(n, y)..][..self.out.1]
                        .copy_from_slice(&grad[row..row + self.out.1]);
                }
            }
        }
    }
}
