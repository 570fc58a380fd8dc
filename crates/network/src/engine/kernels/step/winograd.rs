/*!
Convolutions three by three by Winograd's minimal filtering: 36 products for four by four output pixels
where the definition has 144, or 16 for two by two where it has 36.
*/

use super::super::loops::{
    Block, InputTransform, KernelTable, OutputTransform, PANEL, PRODUCTS, Pixel, Plane,
    WinogradTile,
};
use super::super::memory::Memory;
use super::super::threads::Team;
use super::tiles::Tiles;
use super::{Arena, ConvOperands, ConvParts, Packed, Shared};
use std::cell::RefCell;
use std::ops::Range;
use std::sync::Arc;

/// Bytes of transformed input that a thread has at once, at most: they should stay in a core's own cache
/// with the weights that pass over them.
const INPUT_BYTES: usize = 1 << 19;
/// Floats between one product and the next beyond what they need: rows a power of two apart would
/// push each other out of the nearest cache.
const GAP: usize = 16;
/// Output positions of a map from which on tiles of a side pay, and bytes of weights that there may be for
/// each: there are 16/9 or four times as many as there were, and each thread reads them all.
const WORTH: [(WinogradTile, usize, usize); 2] = [
    (WinogradTile::Four, 200, 2 << 10),
    (WinogradTile::Two, 50, 32 << 10),
];
/// Channels from which on they do, in and out.
const CHANNELS: usize = 12;

/// A convolution three by three, of stride one, over maps large enough.
///
/// With tiles of four an output is off by up to about 3e-6 of the map's largest, ten times what the
/// definition's order has, since products of the tile's other pixels are added and taken away again; with
/// tiles of two it is as near as the definition's. So an infinity makes NaN of its tiles' other pixels
/// too, not of its own window alone, and cells beyond a hundredth of the largest float do likewise.
#[derive(Debug, Clone)]
pub(crate) struct Winograd {
    tile: WinogradTile,
    plane: Plane,
    samples: usize,
    /// Channels of the input and of the output.
    deep: usize,
    channels: usize,
    packed: Arc<Packed>,
    /// Padded to whole panels.
    bias: Arc<Vec<f32>>,
    low: f32,
    high: f32,
    zeros: Vec<f32>,
}

/// The tensors of a run: first floats, and floats from one pixel to the next.
struct Maps {
    x: (*const f32, usize),
    y: (*mut f32, usize),
    residual: Option<(*const f32, usize)>,
}

/// The first output pixel of a tile.
struct Corner {
    sample: usize,
    row: usize,
    column: usize,
}

/// The tiles that a thread takes together, which are pixels to the products.
struct Batch<'a> {
    tiles: &'a Tiles,
    range: Range<usize>,
    first: usize,
    count: usize,
    /// Panels, as many together as the loops take.
    columns: Range<usize>,
    /// Whether the thread transformed their input already.
    transformed: bool,
}

/// What a thread works in.
struct Scratch {
    inputs: Memory,
    products: Memory,
    rows: Vec<*const f32>,
    tiles: Vec<Pixel>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::new(Scratch {
        inputs: Memory::zeroed(0),
        products: Memory::zeroed(0),
        rows: vec![],
        tiles: vec![],
    });
}

/// `count` rows of `pitch` floats for each product of a tile, in memory made longer where it must be.
struct Room {
    start: *mut f32,
    /// Floats from one row to the next, and from one product to the next.
    pitch: usize,
    apart: usize,
}

impl Room {
    fn new(memory: &mut Memory, tile: WinogradTile, count: usize, pitch: usize) -> Room {
        let apart = count * pitch + GAP;
        let bytes = tile.products() * apart * 4;
        if memory.bytes().len() < bytes {
            *memory = Memory::zeroed(bytes);
        }
        Room {
            start: memory.as_mut_ptr().cast(),
            pitch,
            apart,
        }
    }

    fn row(&self, product: usize, row: usize) -> *mut f32 {
        self.start
            .wrapping_add(product * self.apart + row * self.pitch)
    }
}

impl Winograd {
    /// By which tiles a convolution is best computed, if by any: a matter of the node alone, never of the
    /// batch, so that all batch sizes share one form of the weights.
    pub(crate) fn tile(
        plane: &Plane,
        groups: usize,
        deep: usize,
        channels: usize,
    ) -> Option<WinogradTile> {
        let Plane {
            kernel,
            stride,
            dilation,
            output,
            ..
        } = *plane;
        let fits = (kernel, stride, dilation, groups) == ([3, 3], [1, 1], [1, 1], 1);
        if !fits || deep.min(channels) < CHANNELS {
            return None;
        }
        let positions = output[0] * output[1];
        let weights = 4 * deep * channels.next_multiple_of(PANEL);
        let pays = |&(tile, least, bytes): &(WinogradTile, usize, usize)| {
            let pays = positions >= least && tile.products() * weights <= bytes * positions;
            pays.then_some(tile)
        };
        WORTH.iter().find_map(pays)
    }

    /// Panics unless weights and bias are as long as the extents say, and the kernel is three by three.
    pub(crate) fn new(tile: WinogradTile, parts: ConvParts) -> Winograd {
        let (deep, channels) = (parts.run, parts.channels);
        let padded = channels.next_multiple_of(PANEL);
        assert_eq!((parts.plane.kernel, parts.groups), ([3, 3], 1));
        assert_eq!(parts.packed.floats, tile.products() * deep * padded);
        assert_eq!(parts.bias.len(), padded);
        Winograd {
            tile,
            plane: parts.plane,
            samples: parts.samples,
            deep,
            channels,
            packed: parts.packed,
            bias: parts.bias,
            low: parts.clamp.0,
            high: parts.clamp.1,
            zeros: vec![0.0; deep.max(padded)],
        }
    }

    /// Bytes of weights and biases as the kernel keeps them.
    pub(crate) fn parameter_bytes(&self) -> usize {
        4 * (self.packed.floats + self.bias.len())
    }

    /// Bytes that so many threads work in, beside the arena: transformed input, and products.
    pub(crate) fn scratch_bytes(&self, kernels: &KernelTable, threads: usize) -> [usize; 2] {
        let tiles = self.tiles(kernels);
        let (blocks, shares) = self.cut(&tiles, kernels, threads);
        let count = tiles.count.div_ceil(blocks.max(1)) * kernels.height;
        [self.pitch(), kernels.panels * PANEL].map(|pitch| {
            let floats = self.tile.products() * (count * pitch + GAP);
            4 * floats * threads.min(blocks * shares)
        })
    }

    /// Floats from one tile's share in a product's input to the next.
    fn pitch(&self) -> usize {
        self.deep.next_multiple_of(PANEL)
    }

    /// Tiles of a map: rows, columns.
    fn grid(&self) -> [usize; 2] {
        self.plane.output.map(|o| o.div_ceil(self.tile.pixels()))
    }

    /// The tiles of all maps, as pixels of the products' tiles.
    fn tiles(&self, kernels: &KernelTable) -> Tiles {
        let [rows, columns] = self.grid();
        Tiles::new(1, self.samples * rows * columns, kernels.height)
    }

    /// Into how many blocks of tiles and how many shares of the panels the work is cut. A thread transforms
    /// the input of a block that it has a share of; where blocks are fewer than threads, that is less than
    /// to read all the weights.
    fn cut(&self, tiles: &Tiles, kernels: &KernelTable, threads: usize) -> (usize, usize) {
        let tile_bytes = kernels.height * self.tile.products() * self.pitch() * 4;
        let long = (INPUT_BYTES / tile_bytes).max(1);
        let blocks = tiles.count.div_ceil(long);
        let columns = self.channels.div_ceil(PANEL).div_ceil(kernels.panels);
        let shares = columns.min((4 * threads).div_ceil(blocks.max(1)));
        match blocks < threads && blocks * shares >= threads {
            true => (blocks, shares),
            false => (blocks.next_multiple_of(threads).min(tiles.count), 1),
        }
    }

    fn corner(&self, tile: usize) -> Corner {
        let ([rows, columns], side) = (self.grid(), self.tile.pixels());
        Corner {
            sample: tile / (rows * columns),
            row: tile / columns % rows * side,
            column: tile % columns * side,
        }
    }

    /// The input cells under a tile, by rows; zeros where there are none.
    fn cells(&self, maps: &Maps, at: &Corner) -> [*const f32; PRODUCTS] {
        let cells = self.tile.cells();
        let ([height, width], [top, left]) = (self.plane.input, self.plane.pad);
        let (x, step) = maps.x;
        std::array::from_fn(|i| {
            let y = (at.row + i / cells).wrapping_sub(top);
            let column = (at.column + i % cells).wrapping_sub(left);
            match y < height && column < width {
                true => x.wrapping_add(((at.sample * height + y) * width + column) * step),
                false => self.zeros.as_ptr(),
            }
        })
    }

    /// Runs over `x` into `y`.
    pub(crate) fn run(
        &self,
        arena: &mut Arena<'_>,
        operands: &ConvOperands,
        kernels: &KernelTable,
        pool: Team<'_>,
    ) {
        let ConvOperands { x, residual, y } = operands;
        operands.check(&self.plane, self.samples, self.channels);
        assert_eq!(x.channels, self.deep);
        let maps = Shared(Maps {
            x: (arena.start(x).get(), x.stride),
            y: (arena.start(y).get(), y.stride),
            residual: residual.map(|r| (arena.start(&r).get().cast_const(), r.stride)),
        });
        let tiles = self.tiles(kernels);
        let (blocks, shares) = self.cut(&tiles, kernels, pool.threads());
        let columns = self.channels.div_ceil(PANEL).div_ceil(kernels.panels);
        pool.share(blocks * shares, |items| {
            let mut transformed = None;
            for item in items {
                let (block, share) = (item / shares, item % shares);
                let range = tiles.count * block / blocks..tiles.count * (block + 1) / blocks;
                let first = tiles.pixels(range.start).0;
                let batch = Batch {
                    tiles: &tiles,
                    first,
                    count: tiles.pixels(range.end - 1).1 - first,
                    range,
                    columns: columns * share / shares..columns * (share + 1) / shares,
                    transformed: transformed == Some(block),
                };
                SCRATCH.with_borrow_mut(|s| self.batch(s, maps.inner(), &batch, kernels, pool));
                transformed = Some(block);
            }
        });
    }

    fn batch(
        &self,
        s: &mut Scratch,
        maps: &Maps,
        batch: &Batch,
        kernels: &KernelTable,
        pool: Team<'_>,
    ) {
        let going = |_: &usize| !pool.cancel.is_cancelled();
        let inputs = Room::new(&mut s.inputs, self.tile, batch.count, self.pitch());
        let wide = kernels.panels * PANEL;
        let products = Room::new(&mut s.products, self.tile, batch.count, wide);
        if !batch.transformed {
            for i in (0..batch.count).take_while(going) {
                self.transform_input(maps, batch.first + i, &inputs, i, kernels);
            }
        }
        let panels = self.channels.div_ceil(PANEL);
        for panel in batch.columns.clone().map(|column| column * kernels.panels) {
            let group = panel..(panel + kernels.panels).min(panels);
            for product in 0..self.tile.products() {
                s.rows
                    .resize(batch.range.len() * kernels.height, std::ptr::null());
                s.tiles.clear();
                let rows = s.rows.chunks_exact_mut(kernels.height);
                for (tile, rows) in batch.range.clone().zip(rows) {
                    let (start, end) = batch.tiles.pixels(tile);
                    let (start, end) = (start - batch.first, end - batch.first);
                    for (i, row) in (start..end).zip(rows) {
                        *row = inputs.row(product, i);
                    }
                    s.tiles.push(Pixel {
                        count: end - start,
                        // Where channel 0 would be.
                        out: products.row(product, start).wrapping_sub(panel * PANEL),
                        residual: std::ptr::null(),
                    });
                }
                let panel_floats = self.deep * PANEL;
                let weights = self.packed.ptr().get();
                let block = Block {
                    rows: &s.rows,
                    height: kernels.height,
                    tiles: &s.tiles,
                    step: products.pitch,
                    residual_step: 0,
                    taps: 1,
                    run: self.deep,
                    weights: weights.wrapping_add(product * panels * panel_floats),
                    bias: self.zeros.as_ptr(),
                    panels: group.clone(),
                    // Those of the next product.
                    next: panels + panel,
                    channels: panels * PANEL,
                    low: f32::NEG_INFINITY,
                    high: f32::INFINITY,
                    cancel: pool.cancel,
                };
                // SAFETY: the loops are those of this processor (`Isa::kernels`). Rows are those that
                // `transform_input` wrote, at least `deep` floats each, and outputs lie in rows of `products`,
                // which have room for as many panels as the group has. Weights are as long as `new`
                // checked, and so are the zeros. What is asked for ahead may lie anywhere.
                unsafe { (kernels.block)(&block) }
            }
            for i in (0..batch.count).take_while(going) {
                self.transform_output(maps, batch.first + i, &products, i, panel, kernels);
            }
        }
    }

    /// A tile's input cells, as the `i`-th rows of the products.
    fn transform_input(
        &self,
        maps: &Maps,
        tile: usize,
        room: &Room,
        i: usize,
        kernels: &KernelTable,
    ) {
        let transform = InputTransform {
            tile: self.tile,
            cells: &self.cells(maps, &self.corner(tile)),
            channels: self.deep,
            to: room.row(0, i),
            apart: room.apart,
        };
        // SAFETY: the loops are those of this processor (`Isa::kernels`). Cells are those of x, whose
        // extents and bounds were checked, or zeros, `deep` floats each; the rows have room for whole
        // panels of them.
        unsafe { (kernels.transform_input)(&transform) }
    }

    /// A tile's output pixels out of the `i`-th rows of the products, for the panels from `panel` on.
    fn transform_output(
        &self,
        maps: &Maps,
        tile: usize,
        room: &Room,
        i: usize,
        panel: usize,
        kernels: &KernelTable,
    ) {
        let [height, width] = self.plane.output;
        let at = self.corner(tile);
        let pixel = (at.sample * height + at.row) * width + at.column;
        let channel = panel * PANEL;
        let (y, y_step) = maps.y;
        let (residual, residual_step) = maps.residual.unwrap_or((std::ptr::null(), 0));
        let transform = OutputTransform {
            tile: self.tile,
            from: room.row(0, i),
            apart: room.apart,
            channels: room.pitch.min(self.channels - channel),
            bias: self.bias[channel..].as_ptr(),
            out: y.wrapping_add(pixel * y_step + channel),
            steps: [y_step, width * y_step],
            residual: match residual.is_null() {
                true => residual,
                false => residual.wrapping_add(pixel * residual_step + channel),
            },
            residual_steps: [residual_step, width * residual_step],
            real: [height - at.row, width - at.column].map(|left| left.min(self.tile.pixels())),
            low: self.low,
            high: self.high,
        };
        // SAFETY: as above for the kernels. The rows were written, panels at a time, and the bias is padded
        // to panels; output and residual pixels lie within tensors of the checked extents, no two tiles
        // share one, and the program places an output apart from the inputs of its step.
        unsafe { (kernels.transform_output)(&transform) }
    }
}
