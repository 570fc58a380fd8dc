/*!
Steps over pixels: convolutions, windows and changes of layout, on tensors with the channels
innermost, cut into items for the threads. A run that is stopped leaves the items of its step that
were not begun: no step is so long that a stop would have to wait for all of it.
*/

use super::loops::{Block, Fold, Line, Loops, PANEL, Plane, Rows, TILE};
use super::memory::Memory;
use super::threads::Team;
use std::cell::RefCell;
use std::sync::Arc;

/// Work below this many multiplications is not worth waking a thread for.
const SMALL: usize = 40_000;
/// Tiles that pass over the weights together.
const BLOCK: usize = 16;

/// A tensor with the channels innermost, somewhere in the arena: sample, row, column, channel.
/// Neighbouring pixels may lie further apart than the channels are many (a slice of a concat).
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Pixels {
    /// Slot of the arena.
    pub slot: usize,
    /// Floats from the slot's start.
    pub offset: usize,
    /// Floats from one pixel to the next.
    pub stride: usize,
    pub samples: usize,
    pub height: usize,
    pub width: usize,
    pub channels: usize,
}

impl Pixels {
    pub(crate) fn positions(&self) -> usize {
        self.height * self.width
    }

    pub(crate) fn dense(&self) -> bool {
        self.stride == self.channels
    }

    pub(crate) fn len(&self) -> usize {
        self.samples * self.positions() * self.channels
    }

    /// Floats of the slot that it reaches to.
    fn end(&self) -> usize {
        match self.samples * self.positions() {
            0 => 0,
            n => self.offset + (n - 1) * self.stride + self.channels,
        }
    }
}

/// The arena while one step runs.
pub(crate) struct Arena<'a> {
    pub memory: &'a mut Memory,
    /// Byte offset and length of each slot.
    pub slots: &'a [std::ops::Range<usize>],
}

impl Arena<'_> {
    /// The first pixel of a tensor, which is checked to lie within its slot.
    fn start(&mut self, t: &Pixels) -> Shared<*mut f32> {
        let slot = &self.slots[t.slot];
        assert!(t.end() * 4 <= slot.len() && slot.end <= self.memory.bytes().len());
        let base = self.memory.as_mut_ptr();
        // SAFETY: slot and tensor lie within the block, as just checked.
        Shared(unsafe { base.add(slot.start).cast::<f32>().add(t.offset) })
    }
}

/// A pointer that goes to the workers.
#[derive(Clone, Copy)]
struct Shared<T>(T);

// SAFETY: the steps below give each item an output region of its own, and only read the rest.
unsafe impl<T> Sync for Shared<T> {}
// SAFETY: as above.
unsafe impl<T> Send for Shared<T> {}

impl<T: Copy> Shared<T> {
    fn get(&self) -> T {
        self.0
    }
}

/// Packed weights and biases, made by `weights`.
#[derive(Debug)]
pub(crate) struct Packed {
    /// Of a convolution `[group][panel][tap][run][PANEL]`; of a depthwise one `[tap][channels]`.
    pub weights: Memory,
    pub floats: usize,
}

impl Packed {
    fn ptr(&self) -> Shared<*const f32> {
        Shared(self.weights.bytes().as_ptr().cast())
    }
}

/// A convolution as a product over gathered rows.
#[derive(Debug, Clone)]
pub(crate) struct Conv {
    pub plane: Plane,
    pub samples: usize,
    /// (row, column) of each tap that ever falls on a real cell.
    pub taps: Vec<(usize, usize)>,
    /// Floats of one tap.
    pub run: usize,
    pub groups: usize,
    /// Output channels of one group.
    pub channels: usize,
    pub packed: Arc<Packed>,
    /// Of each group, padded to whole panels.
    pub bias: Arc<Vec<f32>>,
    pub low: f32,
    pub high: f32,
    /// (first pixel, pixels) of each tile.
    tiles: Vec<(usize, usize)>,
    position_major: bool,
    zeros: Vec<f32>,
}

#[derive(Default)]
struct Scratch {
    rows: Vec<Rows>,
    heights: Vec<usize>,
    out: Vec<[*mut f32; TILE]>,
    residual: Vec<Rows>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Everything of a [`Conv`] but its tiles.
pub(crate) struct ConvParts {
    pub plane: Plane,
    pub samples: usize,
    pub taps: Vec<(usize, usize)>,
    pub run: usize,
    pub groups: usize,
    pub channels: usize,
    pub packed: Arc<Packed>,
    pub bias: Arc<Vec<f32>>,
    pub clamp: (f32, f32),
}

impl Conv {
    /// Lays out the tiles. They depend on the node and the batch alone, and so does the order of
    /// every sum: never on the number of threads or on the graph around.
    pub(crate) fn new(parts: ConvParts) -> Conv {
        let ConvParts {
            plane,
            samples,
            taps,
            run,
            ..
        } = parts;
        let positions = plane.output[0] * plane.output[1];
        // With few positions and many samples, a tile of one position's samples can leave out
        // whole taps that are padding there.
        let padded = plane.pad != [0, 0] || taps.len() < plane.kernel[0] * plane.kernel[1];
        let position_major = samples >= 4 && taps.len() > 1 && padded && positions <= 64;
        let mut tiles = vec![];
        let mut split = |base: usize, pixels: usize| {
            let count = pixels.div_ceil(TILE);
            for i in 0..count {
                let (start, end) = (pixels * i / count, pixels * (i + 1) / count);
                tiles.push((base + start, end - start));
            }
        };
        if position_major {
            (0..positions).for_each(|p| split(p * samples, samples));
        } else {
            split(0, positions * samples);
        }
        let groups_bias = parts.channels.next_multiple_of(PANEL) * parts.groups;
        let panels = parts.channels.div_ceil(PANEL);
        assert_eq!(parts.bias.len(), groups_bias);
        assert_eq!(
            parts.packed.floats,
            parts.groups * panels * taps.len() * run * PANEL
        );
        Conv {
            plane,
            samples,
            taps,
            run,
            groups: parts.groups,
            channels: parts.channels,
            packed: parts.packed,
            bias: parts.bias,
            low: parts.clamp.0,
            high: parts.clamp.1,
            tiles,
            position_major,
            zeros: vec![0.0; run],
        }
    }

    /// Runs over `x` into `y`. In a grouped convolution a tap reads `run` channels of its group.
    pub(crate) fn run(
        &self,
        arena: &mut Arena<'_>,
        x: &Pixels,
        residual: Option<&Pixels>,
        y: &Pixels,
        loops: &Loops,
        pool: Team<'_>,
    ) {
        let p = &self.plane;
        let output = (
            self.samples,
            p.output[0],
            p.output[1],
            self.channels * self.groups,
        );
        for t in residual.into_iter().chain([y]) {
            assert_eq!((t.samples, t.height, t.width, t.channels), output);
        }
        assert_eq!((x.samples, [x.height, x.width]), (self.samples, p.input));
        // A run may go on over the pixels of a row (the first layer); else it stays in its pixel.
        let reach = self.run.max(1).div_ceil(x.channels.max(1));
        assert!(self.groups * self.run <= x.channels || (self.groups == 1 && x.dense()));
        assert!(reach == 1 || (p.output[1].max(1) - 1) * p.stride[1] + reach <= p.input[1]);
        let (xs, ys, rs) = (x.stride, y.stride, residual.map_or(0, |r| r.stride));
        let (x, y) = (arena.start(x), arena.start(y));
        let residual = residual.map(|r| arena.start(r));
        let panels = self.channels.div_ceil(PANEL);
        let macs = self.tiles.len() * TILE * self.taps.len() * self.run * self.channels;
        let threads = if macs < SMALL { 1 } else { pool.threads() };
        let mut blocks = self.tiles.len().div_ceil(BLOCK);
        if threads > 1 && blocks > threads && blocks < 4 * threads {
            blocks = blocks.next_multiple_of(threads).min(self.tiles.len());
        }
        let shares = if threads == 1 || blocks * self.groups >= 4 * threads {
            1
        } else {
            panels.min((4 * threads).div_ceil(blocks.max(1)))
        };
        let (weights, bias) = (self.packed.ptr(), Shared(self.bias.as_ptr()));
        let group_weights = panels * self.taps.len() * self.run * PANEL;
        let items = self.groups * blocks * shares;
        let item = |item: usize| {
            let (group, left) = (item / (blocks * shares), item % (blocks * shares));
            let (block, share) = (left / shares, left % shares);
            let count = self.tiles.len();
            let tiles = &self.tiles[count * block / blocks..count * (block + 1) / blocks];
            let (gi, go) = (group * self.run, group * self.channels);
            SCRATCH.with_borrow_mut(|s| {
                s.rows.clear();
                s.heights.clear();
                s.out.clear();
                s.residual.clear();
                let (x, y) = (x.get().wrapping_add(gi), y.get().wrapping_add(go));
                for &tile in tiles {
                    s.heights.push(tile.1);
                    let mut out = [std::ptr::null_mut(); TILE];
                    let mut added = [std::ptr::null(); TILE];
                    let first = s.rows.len();
                    s.rows
                        .resize(first + self.taps.len(), [std::ptr::null(); TILE]);
                    for q in 0..tile.1 {
                        let (sample, at) = self.pixel(tile.0 + q);
                        let to = sample * p.output[0] * p.output[1] + at;
                        out[q] = y.wrapping_add(to * ys);
                        if let Some(r) = &residual {
                            added[q] = r.get().wrapping_add(go + to * rs).cast_const();
                        }
                        self.gather(x, xs, sample, at, q, &mut s.rows[first..]);
                    }
                    for rows in &mut s.rows[first..] {
                        if rows[..tile.1].iter().all(|&r| r == self.zeros.as_ptr()) {
                            rows[0] = std::ptr::null();
                        }
                    }
                    s.out.push(out);
                    if residual.is_some() {
                        s.residual.push(added);
                    }
                }
                let block = Block {
                    rows: &s.rows,
                    heights: &s.heights,
                    out: &s.out,
                    residual: &s.residual,
                    taps: self.taps.len(),
                    run: self.run,
                    weights: weights.get().wrapping_add(group * group_weights),
                    bias: bias.get().wrapping_add(group * panels * PANEL),
                    panels: panels * share / shares..panels * (share + 1) / shares,
                    channels: self.channels,
                    low: self.low,
                    high: self.high,
                };
                // SAFETY: the loops are those of this processor (`Loops::of`). Rows point to
                // `run` floats: to a real cell of x, whose extents and bounds were checked above,
                // or to `zeros`. Output and residual pixels lie within tensors of the checked
                // extents, and no two items share a pixel's panel. Weights and bias have the
                // lengths that `Conv::new` checked. The program places an output so that it
                // overlaps no input of its step.
                unsafe { (loops.block)(&block) }
            });
        };
        if threads == 1 {
            let going = |_: &usize| !pool.cancel.is_cancelled();
            (0..items).take_while(going).for_each(item);
        } else {
            pool.run(items, item);
        }
    }

    /// Sample and output position of the `m`-th pixel.
    fn pixel(&self, m: usize) -> (usize, usize) {
        let positions = self.plane.output[0] * self.plane.output[1];
        if self.position_major {
            (m % self.samples, m / self.samples)
        } else {
            (m / positions, m % positions)
        }
    }

    /// Sets pixel `q` of each tap's row.
    fn gather(
        &self,
        x: *mut f32,
        stride: usize,
        sample: usize,
        at: usize,
        q: usize,
        rows: &mut [Rows],
    ) {
        let p = &self.plane;
        let (oy, ox) = (at / p.output[1], at % p.output[1]);
        let base = sample * p.input[0] * p.input[1];
        for (row, &(ky, kx)) in rows.iter_mut().zip(&self.taps) {
            let iy = (oy * p.stride[0] + ky * p.dilation[0]).wrapping_sub(p.pad[0]);
            let ix = (ox * p.stride[1] + kx * p.dilation[1]).wrapping_sub(p.pad[1]);
            row[q] = if iy < p.input[0] && ix < p.input[1] {
                x.wrapping_add((base + iy * p.input[1] + ix) * stride)
                    .cast_const()
            } else {
                self.zeros.as_ptr()
            };
        }
    }
}

/// A depthwise convolution or a pool.
#[derive(Debug, Clone)]
pub(crate) struct Sweep {
    pub plane: Plane,
    pub fold: Fold,
    /// Weights and bias of a depthwise convolution.
    pub packed: Option<(Arc<Packed>, Arc<Vec<f32>>)>,
}

impl Sweep {
    pub(crate) fn run(
        &self,
        arena: &mut Arena<'_>,
        x: &Pixels,
        y: &Pixels,
        loops: &Loops,
        pool: Team<'_>,
    ) {
        let p = &self.plane;
        assert_eq!([x.height, x.width], p.input);
        assert_eq!([y.height, y.width], p.output);
        assert_eq!((x.samples, x.channels), (y.samples, y.channels));
        let (mut weights, mut bias) = (std::ptr::null(), std::ptr::null());
        if let Some((packed, b)) = &self.packed {
            assert_eq!(packed.floats, p.kernel[0] * p.kernel[1] * x.channels);
            assert_eq!(b.len(), x.channels);
            (weights, bias) = (packed.ptr().get(), b.as_ptr());
        }
        assert_eq!(
            self.packed.is_some(),
            matches!(self.fold, Fold::Weigh { .. })
        );
        let (weights, bias) = (Shared(weights), Shared(bias));
        let (xp, yp) = (arena.start(x), arena.start(y));
        let rows = x.samples * p.output[0];
        let work = rows * p.output[1] * y.channels * p.kernel[0] * p.kernel[1];
        let items = if work < SMALL {
            1
        } else {
            rows.min(4 * pool.threads())
        };
        pool.run(items, |item| {
            for row in rows * item / items..rows * (item + 1) / items {
                let (sample, oy) = (row / p.output[0], row % p.output[0]);
                let from = sample * p.input[0] * p.input[1] * x.stride;
                let line = Line {
                    plane: p,
                    fold: self.fold,
                    x: xp.get().wrapping_add(from).cast_const(),
                    x_stride: x.stride,
                    y: yp.get().wrapping_add(row * p.output[1] * y.stride),
                    y_stride: y.stride,
                    channels: x.channels,
                    weights: weights.get(),
                    bias: bias.get(),
                    row: oy,
                };
                // SAFETY: the loops are this processor's; extents and bounds were checked above,
                // the window reaches real cells only, each item has rows of y of its own, and the
                // program places y apart from x.
                unsafe { (loops.line)(&line) }
            }
        });
    }
}

/// Plain floats (sample, channel, row, column) outside the arena or in a slot of it.
pub(crate) enum Plain<'a> {
    Outside(&'a [f32]),
    Slot(usize),
}

/// Rows to hand out: few enough that an item is worth handing out.
fn shares(rows: usize, floats: usize, pool: Team<'_>) -> usize {
    if floats < SMALL {
        1
    } else {
        rows.min(4 * pool.threads())
    }
}

/// `len` floats of a slot, as one row.
fn row_of(slot: usize, len: usize) -> Pixels {
    Pixels {
        slot,
        offset: 0,
        stride: 1,
        samples: 1,
        height: 1,
        width: len,
        channels: 1,
    }
}

/// Pixels out of plain floats; `pad` rows and columns of zeros stand before the tensor's own, and
/// the rest of `t` behind them is zero too.
pub(crate) fn to_pixels(
    arena: &mut Arena<'_>,
    plain: Plain<'_>,
    extents: (usize, usize),
    t: &Pixels,
    pad: (usize, usize),
    pool: Team<'_>,
) {
    let (height, width) = extents;
    assert!(height + pad.0 <= t.height && width + pad.1 <= t.width);
    let len = t.samples * height * width * t.channels;
    let from = match plain {
        Plain::Outside(floats) => {
            assert_eq!(floats.len(), len);
            Shared(floats.as_ptr())
        }
        Plain::Slot(slot) => {
            assert_ne!(slot, t.slot);
            Shared(arena.start(&row_of(slot, len)).get().cast_const())
        }
    };
    let to = arena.start(t);
    let rows = t.samples * t.height;
    let items = shares(rows, t.len(), pool);
    pool.run(items, |item| {
        for row in rows * item / items..rows * (item + 1) / items {
            let (sample, y) = (row / t.height, (row % t.height).wrapping_sub(pad.0));
            let real = if y < height {
                pad.1..pad.1 + width
            } else {
                0..0
            };
            // SAFETY: `at` is a column of a row of t, which `start` checked, and no other item has
            // that row; the source index is below `len`, which was checked above.
            unsafe {
                let to = to.get().add(row * t.width * t.stride);
                for at in (0..t.width).filter(|at| !real.contains(at)) {
                    std::ptr::write_bytes(to.add(at * t.stride), 0, t.channels);
                }
                if real.is_empty() {
                    continue;
                }
                let to = to.add(pad.1 * t.stride);
                for c in 0..t.channels {
                    let from = from
                        .get()
                        .add(((sample * t.channels + c) * height + y) * width);
                    for x in 0..width {
                        *to.add(x * t.stride + c) = *from.add(x);
                    }
                }
            }
        }
    });
}

/// Plain floats out of pixels, into a slot.
pub(crate) fn from_pixels_into(arena: &mut Arena<'_>, t: &Pixels, slot: usize, pool: Team<'_>) {
    assert_ne!(slot, t.slot);
    let to = arena.start(&row_of(slot, t.len()));
    flatten(arena, t, to, pool);
}

/// Plain floats out of pixels, as many as `t` has.
pub(crate) fn from_pixels(arena: &mut Arena<'_>, t: &Pixels, plain: &mut [f32], pool: Team<'_>) {
    assert_eq!(plain.len(), t.len());
    flatten(arena, t, Shared(plain.as_mut_ptr()), pool);
}

/// `to` is good for writing as many floats as `t` has, apart from t.
fn flatten(arena: &mut Arena<'_>, t: &Pixels, to: Shared<*mut f32>, pool: Team<'_>) {
    let from = arena.start(t);
    let rows = t.samples * t.height;
    let items = shares(rows, t.len(), pool);
    pool.run(items, |item| {
        for row in rows * item / items..rows * (item + 1) / items {
            let (sample, y) = (row / t.height, row % t.height);
            // SAFETY: a row of t, which `start` checked; the target index is below t's length, and
            // no other item writes that row.
            unsafe {
                let from = from.get().add(row * t.width * t.stride);
                for c in 0..t.channels {
                    let to = to
                        .get()
                        .add(((sample * t.channels + c) * t.height + y) * t.width);
                    for x in 0..t.width {
                        *to.add(x) = *from.add(x * t.stride + c);
                    }
                }
            }
        }
    });
}

/// The same pixels elsewhere.
pub(crate) fn copy_pixels(arena: &mut Arena<'_>, from: &Pixels, to: &Pixels) {
    let shape = |t: &Pixels| (t.samples, t.height, t.width, t.channels);
    assert_eq!(shape(from), shape(to));
    let (source, target) = (arena.start(from), arena.start(to));
    for at in 0..from.samples * from.positions() {
        // SAFETY: one pixel of each tensor, which `start` checked; `copy` allows overlap.
        unsafe {
            let from_pixel = source.get().add(at * from.stride);
            let to_pixel = target.get().add(at * to.stride);
            std::ptr::copy(from_pixel, to_pixel, from.channels);
        }
    }
}
