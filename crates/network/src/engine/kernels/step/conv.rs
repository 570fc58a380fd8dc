/*! Convolutions, and products with weights, as products over gathered rows. */

use super::super::loops::{Block, KernelTable, PANEL, Pixel, Plane};
use super::super::threads::Team;
use super::tiles::Tiles;
use super::window::Window;
use super::{Arena, ConvOperands, Packed, SMALL, Shared};
use crate::engine::Cancel;
use std::cell::RefCell;
use std::ops::Range;
use std::sync::Arc;

/// Tiles that pass over the weights together, at most.
const BLOCK: usize = 16;
/// Bytes of input that the tiles of a block read, at most: it should stay in a core's own cache
/// with the weights that pass over it.
const BLOCK_BYTES: usize = 1 << 18;
/// Multiplications of an item that there is no use in cutting further.
const ITEM: usize = 50_000;

/// A convolution as a product over gathered rows.
#[derive(Debug, Clone)]
pub(crate) struct Conv {
    pub plane: Plane,
    pub samples: usize,
    window: Window,
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
    position_major: bool,
    zeros: Vec<f32>,
}

/// What a thread gathers for the block it is at.
#[derive(Default)]
struct Scratch {
    rows: Vec<*const f32>,
    tiles: Vec<Pixel>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// The work of a group, of which a thread takes some tiles and some columns at once.
struct Work<'a> {
    tiles: &'a Tiles,
    /// Pixels in a tile, at most.
    height: usize,
    /// Panels, as many together as the loops take.
    columns: usize,
    /// Multiplications, in all groups.
    macs: usize,
}

/// Everything of a [`Conv`] but what follows from it.
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

/// An input as the rows of a convolution's tiles are gathered from it: its first float, and floats from one
/// pixel to the next.
#[derive(Clone, Copy)]
struct Source {
    x: *const f32,
    stride: usize,
}

impl Conv {
    /// Bytes of weights and biases as the kernel keeps them.
    pub(crate) fn parameter_bytes(&self) -> usize {
        4 * (self.packed.floats + self.bias.len())
    }

    /// Panics unless weights and bias are as long as the extents say.
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
        let groups_bias = parts.channels.next_multiple_of(PANEL) * parts.groups;
        let panels = parts.channels.div_ceil(PANEL);
        assert_eq!(parts.bias.len(), groups_bias);
        assert_eq!(
            parts.packed.floats,
            parts.groups * panels * taps.len() * run * PANEL
        );
        Conv {
            window: Window::new(&plane, &taps),
            plane,
            samples,
            run,
            groups: parts.groups,
            channels: parts.channels,
            packed: parts.packed,
            bias: parts.bias,
            low: parts.clamp.0,
            high: parts.clamp.1,
            position_major,
            zeros: vec![0.0; run],
        }
    }

    fn tiles(&self, height: usize) -> Tiles {
        let positions = self.plane.output[0] * self.plane.output[1];
        let (spans, span) = match self.position_major {
            true => (positions, self.samples),
            false => (1, positions * self.samples),
        };
        Tiles::new(spans, span, height)
    }

    /// Runs over `x` into `y`. In a grouped convolution a tap reads `run` channels of its group.
    pub(crate) fn run(
        &self,
        arena: &mut Arena<'_>,
        operands: &ConvOperands,
        kernels: &KernelTable,
        pool: Team<'_>,
    ) {
        let (p, ConvOperands { x, residual, y }) = (&self.plane, operands);
        operands.check(p, self.samples, self.channels * self.groups);
        // A run may go on over the pixels of a row (the first layer); else it stays in its pixel.
        let reach = self.run.max(1).div_ceil(x.channels.max(1));
        assert!(self.groups * self.run <= x.channels || (self.groups == 1 && x.dense()));
        assert!(reach == 1 || (p.output[1].max(1) - 1) * p.stride[1] + reach <= p.input[1]);
        let panels = self.channels.div_ceil(PANEL);
        let columns = panels.div_ceil(kernels.panels);
        let tiles = self.tiles(kernels.height);
        let macs = tiles.count * kernels.height * self.window.taps.len() * self.run;
        let macs = macs * self.channels * self.groups;
        let threads = if macs < SMALL { 1 } else { pool.threads() };
        let work = Work {
            tiles: &tiles,
            height: kernels.height,
            columns,
            macs,
        };
        let (blocks, shares) = self.cut(&work, threads);
        let call = Call {
            conv: self,
            kernels,
            cancel: pool.cancel,
            tiles: &tiles,
            panels,
            columns,
            blocks,
            shares,
            source: Shared(Source {
                x: arena.start(x).get().cast_const(),
                stride: x.stride,
            }),
            y: arena.start(y),
            step: y.stride,
            residual: residual.map(|r| arena.start(&r)),
            residual_step: residual.map_or(0, |r| r.stride),
            weights: self.packed.ptr(),
            bias: Shared(self.bias.as_ptr()),
        };
        let all = |items: &mut dyn Iterator<Item = usize>| {
            SCRATCH.with_borrow_mut(|s| {
                let mut gathered = None;
                items.for_each(|item| call.item(s, &mut gathered, item));
            });
        };
        let items = self.groups * blocks * shares;
        if threads == 1 {
            let going = |_: &usize| !pool.cancel.is_cancelled();
            all(&mut (0..items).take_while(going));
        } else {
            pool.share(items, all);
        }
    }

    /// Into how many blocks of tiles and how many shares of the panels the work of a group is cut: four
    /// items a thread, so that a core that others use too doesn't hold up the rest, or fewer where they
    /// would be short.
    fn cut(&self, work: &Work, threads: usize) -> (usize, usize) {
        let tile_bytes = work.height * self.run * 4;
        let long = (BLOCK_BYTES / tile_bytes.max(1)).clamp(4, BLOCK);
        let blocks = work.tiles.count.div_ceil(long);
        if threads == 1 || blocks == 0 {
            return (blocks, 1);
        }
        let items = (work.macs / ITEM).clamp(threads, 4 * threads);
        let items = items.div_ceil(self.groups);
        let shares = work.columns.min(items.div_ceil(blocks));
        let mut blocks = blocks.max(items.div_ceil(shares));
        if blocks > threads {
            blocks = blocks.next_multiple_of(threads);
        }
        (blocks.min(work.tiles.count), shares)
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

    /// The rows of these tiles, `[tile][tap][height]`, from the `lead`-th channel on.
    fn gather(
        &self,
        source: Source,
        lead: usize,
        tiles: &Tiles,
        range: Range<usize>,
        height: usize,
        rows: &mut Vec<*const f32>,
    ) {
        let tile_rows = self.window.taps.len() * height;
        // What is left there of another step is overwritten as far as it is read.
        rows.resize(range.len() * tile_rows, std::ptr::null());
        let x = source.x.wrapping_add(lead);
        for (tile, rows) in range.zip(rows.chunks_exact_mut(tile_rows.max(1))) {
            let (first, end) = tiles.pixels(tile);
            if self.window.same {
                for (q, row) in rows[..end - first].iter_mut().enumerate() {
                    *row = x.wrapping_add((first + q) * source.stride);
                }
            } else {
                self.gather_tile(source, x, first, end - first, height, rows);
            }
        }
    }

    /// The rows of `count` pixels from the `first` on; divides once, then goes on from pixel to
    /// pixel, in one go where neighbours lie evenly.
    fn gather_tile(
        &self,
        source: Source,
        x: *const f32,
        first: usize,
        count: usize,
        height: usize,
        rows: &mut [*const f32],
    ) {
        let p = &self.plane;
        let zeros = self.zeros.as_ptr();
        let (mut sample, at) = self.pixel(first);
        let (mut oy, mut ox) = (at / p.output[1], at % p.output[1]);
        let mut whole = true;
        let mut q = 0;
        while q < count {
            let at = self.window.first(oy, ox);
            let inside = self.window.holds(at);
            // How many pixels go on like this one, and how far apart their windows are.
            let (many, cells) = if self.position_major {
                (count - q, p.input[0] * p.input[1])
            } else if inside {
                let room =
                    (p.input[1] + p.pad[1] - self.window.far.1 as usize).div_ceil(p.stride[1]);
                (room.min(p.output[1]).min(ox + count - q) - ox, p.stride[1])
            } else {
                (1, 0)
            };
            let step = cells * source.stride;
            let cell = ((sample * p.input[0]) as isize + at.0) * p.input[1] as isize + at.1;
            for (tap, row) in self.window.taps.iter().zip(rows[q..].chunks_mut(height)) {
                let row = &mut row[..many];
                if inside || self.window.real(at, *tap) {
                    let cell = cell + tap.0 * p.input[1] as isize + tap.1;
                    let start = x.wrapping_offset(cell * source.stride as isize);
                    for (i, row) in row.iter_mut().enumerate() {
                        *row = start.wrapping_add(i * step);
                    }
                } else {
                    row.fill(zeros);
                }
            }
            whole &= inside;
            q += many;
            ox += many;
            if ox == p.output[1] {
                (ox, oy) = (0, oy + 1);
                if oy == p.output[0] {
                    (oy, sample) = (0, sample + 1);
                }
            }
        }
        if whole {
            return;
        }
        for rows in rows.chunks_exact_mut(height) {
            if rows[..count].iter().all(|&r| r == zeros) {
                rows[0] = std::ptr::null();
            }
        }
    }
}

/// One run of a convolution, as each of its items sees it. Items are ordered by group, then by block of
/// tiles, then by share of the panels.
struct Call<'a> {
    conv: &'a Conv,
    kernels: &'a KernelTable,
    cancel: &'a Cancel,
    tiles: &'a Tiles,
    /// Panels of a group, and columns of as many as the loops take at once.
    panels: usize,
    columns: usize,
    /// Blocks and shares that a group is cut into.
    blocks: usize,
    shares: usize,
    source: Shared<Source>,
    y: Shared<*mut f32>,
    /// Floats from one pixel of the output to the next.
    step: usize,
    residual: Option<Shared<*mut f32>>,
    /// Floats from one pixel of the residual to the next.
    residual_step: usize,
    weights: Shared<*const f32>,
    bias: Shared<*const f32>,
}

impl Call<'_> {
    /// Computes one share of a block. `gathered` is the block whose rows and pixels lie in `s`.
    #[inline(always)]
    fn item(&self, s: &mut Scratch, gathered: &mut Option<usize>, item: usize) {
        let (conv, blocks, shares) = (self.conv, self.blocks, self.shares);
        let (group, left) = (item / (blocks * shares), item % (blocks * shares));
        let (block, share) = (left / shares, left % shares);
        if *gathered != Some(item / shares) {
            let count = self.tiles.count;
            let range = count * block / blocks..count * (block + 1) / blocks;
            self.gather(s, group, range);
            *gathered = Some(item / shares);
        }
        // Tiles of one position lie as far apart as the samples do.
        let apart = if conv.position_major {
            conv.plane.output[0] * conv.plane.output[1]
        } else {
            1
        };
        let group_weights = self.panels * conv.window.taps.len() * conv.run * PANEL;
        let end = self.first_panel(share + 1);
        let block = Block {
            rows: &s.rows,
            height: self.kernels.height,
            tiles: &s.tiles,
            step: apart * self.step,
            residual_step: apart * self.residual_step,
            taps: conv.window.taps.len(),
            run: conv.run,
            weights: self.weights.get().wrapping_add(group * group_weights),
            bias: self.bias.get().wrapping_add(group * self.panels * PANEL),
            panels: self.first_panel(share)..end,
            // A thread takes its items in order.
            next: if share + 1 < shares { end } else { 0 },
            channels: conv.channels,
            low: conv.low,
            high: conv.high,
            cancel: self.cancel,
        };
        // SAFETY: the loops are those of this processor (`Isa::kernels`). Rows point to
        // `run` floats: to a real cell of x, whose extents and bounds `Conv::run` checked,
        // or to `zeros`. Output and residual pixels lie within tensors of the checked
        // extents, and no two items share a pixel's panel. Weights and bias have the
        // lengths that `Conv::new` checked. The program places an output so that it
        // overlaps no input of its step.
        unsafe { (self.kernels.block)(&block) }
    }

    /// The panel at which a share begins.
    fn first_panel(&self, share: usize) -> usize {
        (self.columns * share / self.shares * self.kernels.panels).min(self.panels)
    }

    /// Leaves in `s` what these tiles of a group read, and where they write.
    #[inline(always)]
    fn gather(&self, s: &mut Scratch, group: usize, range: Range<usize>) {
        let (conv, p) = (self.conv, &self.conv.plane);
        let channel = group * conv.channels;
        s.tiles.clear();
        for tile in range.clone() {
            let (first, end) = self.tiles.pixels(tile);
            let (sample, at) = conv.pixel(first);
            let to = sample * p.output[0] * p.output[1] + at;
            s.tiles.push(Pixel {
                count: end - first,
                out: self.y.get().wrapping_add(channel + to * self.step),
                residual: match &self.residual {
                    Some(r) => {
                        let r = r.get().wrapping_add(channel + to * self.residual_step);
                        r.cast_const()
                    }
                    None => std::ptr::null(),
                },
            });
        }
        let (lead, height) = (group * conv.run, self.kernels.height);
        conv.gather(
            self.source.get(),
            lead,
            self.tiles,
            range,
            height,
            &mut s.rows,
        );
    }
}
