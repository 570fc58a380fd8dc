/*!
Steps over pixels: convolutions, windows and changes of layout, on tensors with the channels
innermost, cut into items for the threads. A run that is stopped leaves what was not begun: a tile,
a row of pixels. No step is so long that a stop would have to wait for all of it.
*/

mod conv;
mod convolution;
mod layout;
mod sweep;
mod tiles;
mod window;
mod winograd;

use super::memory::Memory;
pub(crate) use conv::{Conv, ConvParts};
pub(crate) use convolution::{ConvOperands, Convolution};
pub(crate) use layout::{Plain, copy_pixels, from_pixels, from_pixels_into, to_pixels};
pub(crate) use sweep::Sweep;
pub(crate) use winograd::Winograd;

/// Work below this many multiplications is not worth waking a thread for.
const SMALL: usize = 40_000;

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

impl<T> Shared<T> {
    fn inner(&self) -> &T {
        &self.0
    }
}

impl<T: Copy> Shared<T> {
    fn get(&self) -> T {
        self.0
    }
}

/// Packed weights and biases, made by `weights`.
#[derive(Debug)]
pub(crate) struct Packed {
    /// Of a convolution `[group][panel][tap][run][PANEL]`, of one by Winograd's products
    /// `[product][panel][Cin][PANEL]`, of a depthwise one `[tap][channels]`.
    pub weights: Memory,
    pub floats: usize,
}

impl Packed {
    fn ptr(&self) -> Shared<*const f32> {
        Shared(self.weights.bytes().as_ptr().cast())
    }
}
