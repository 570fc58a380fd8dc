/*! Changes of layout: pixels out of plain floats, plain floats out of pixels, copies. */

use super::super::threads::Team;
use super::{Arena, Pixels, SMALL, Shared};

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

/// Channels that change places together: a cache line of each pixel, which is then written, or read,
/// whole.
const TOGETHER: usize = 16;

/// Calls `f(column, channel)` for each cell of a row, in loops of their own for the usual counts of
/// channels.
#[inline(always)]
fn each_cell(channels: usize, width: usize, mut f: impl FnMut(usize, usize)) {
    let mut all = |channels: usize| {
        for x in 0..width {
            for c in 0..channels {
                f(x, c);
            }
        }
    };
    match channels {
        TOGETHER => all(TOGETHER),
        3 => all(3),
        other => all(other),
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
            if pool.cancel.is_cancelled() {
                return;
            }
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
                let from = from.get().add((sample * t.channels * height + y) * width);
                for c in (0..t.channels).step_by(TOGETHER) {
                    let (from, to) = (from.add(c * height * width), to.add(c));
                    each_cell(TOGETHER.min(t.channels - c), width, |x, c| {
                        *to.add(x * t.stride + c) = *from.add(c * height * width + x);
                    });
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
            if pool.cancel.is_cancelled() {
                return;
            }
            let (sample, y) = (row / t.height, row % t.height);
            // SAFETY: a row of t, which `start` checked; the target index is below t's length, and
            // no other item writes that row.
            unsafe {
                let from = from.get().add(row * t.width * t.stride);
                let to = to.get().add((sample * t.channels * t.height + y) * t.width);
                for c in (0..t.channels).step_by(TOGETHER) {
                    let (from, to) = (from.add(c), to.add(c * t.positions()));
                    each_cell(TOGETHER.min(t.channels - c), t.width, |x, c| {
                        *to.add(c * t.positions() + x) = *from.add(x * t.stride + c);
                    });
                }
            }
        }
    });
}

/// The same pixels elsewhere, in another slot or apart from where they are.
pub(crate) fn copy_pixels(arena: &mut Arena<'_>, from: &Pixels, to: &Pixels, pool: Team<'_>) {
    let shape = |t: &Pixels| (t.samples, t.height, t.width, t.channels);
    assert_eq!(shape(from), shape(to));
    let (source, target) = (arena.start(from), arena.start(to));
    let rows = from.samples * from.height;
    let items = shares(rows, from.len(), pool);
    pool.run(items, |item| {
        for row in rows * item / items..rows * (item + 1) / items {
            if pool.cancel.is_cancelled() {
                return;
            }
            for at in row * from.width..(row + 1) * from.width {
                // SAFETY: one pixel of each tensor, which `start` checked, and no other item has
                // that row of the target; `copy` allows overlap of the two pixels.
                unsafe {
                    let from_pixel = source.get().add(at * from.stride);
                    let to_pixel = target.get().add(at * to.stride);
                    std::ptr::copy(from_pixel, to_pixel, from.channels);
                }
            }
        }
    });
}
