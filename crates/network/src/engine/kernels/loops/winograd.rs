/*!
The transforms of Winograd's minimal filtering, F(4×4, 3×3) and F(2×2, 3×3), channels innermost: the
input cells under a tile become the factors of as many products, and the products the tile's output
pixels (Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", 2015, sections 4.1 and 4.3;
points 0, ±1, ±2, ∞ and 0, ±1, ∞).
*/

use super::super::simd::Simd;

/// How many output pixels a tile has along an axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum WinogradTile {
    Two,
    Four,
}

/// The most products that a tile has.
pub(crate) const PRODUCTS: usize = 36;

impl WinogradTile {
    pub(crate) fn pixels(self) -> usize {
        match self {
            WinogradTile::Two => 2,
            WinogradTile::Four => 4,
        }
    }

    /// Input cells under a tile along an axis.
    pub(crate) fn cells(self) -> usize {
        self.pixels() + 2
    }

    /// Products of a tile.
    pub(crate) fn products(self) -> usize {
        self.cells() * self.cells()
    }

    /// `G`: what a kernel's three weights along an axis count for in each product.
    pub(crate) fn weights(self) -> &'static [[f64; 3]] {
        match self {
            WinogradTile::Two => &[
                [1.0, 0.0, 0.0],
                [0.5, 0.5, 0.5],
                [0.5, -0.5, 0.5],
                [0.0, 0.0, 1.0],
            ],
            WinogradTile::Four => &[
                [1.0 / 4.0, 0.0, 0.0],
                [-1.0 / 6.0, -1.0 / 6.0, -1.0 / 6.0],
                [-1.0 / 6.0, 1.0 / 6.0, -1.0 / 6.0],
                [1.0 / 24.0, 1.0 / 12.0, 1.0 / 6.0],
                [1.0 / 24.0, -1.0 / 12.0, 1.0 / 6.0],
                [0.0, 0.0, 1.0],
            ],
        }
    }
}

/// The input cells of one tile, to be transformed to the factors of its products.
pub(crate) struct InputTransform<'a> {
    pub tile: WinogradTile,
    /// As many as the tile has cells, by rows.
    pub cells: &'a [*const f32],
    pub channels: usize,
    pub to: *mut f32,
    /// Floats from one product to the next.
    pub apart: usize,
}

/// The products of one tile, to be transformed to its output pixels.
pub(crate) struct OutputTransform {
    pub tile: WinogradTile,
    pub from: *const f32,
    /// Floats from one product to the next.
    pub apart: usize,
    pub channels: usize,
    pub bias: *const f32,
    /// Address of the block's first output pixel.
    pub out: *mut f32,
    /// Floats from one pixel to the next, and from one row to the next.
    pub steps: [usize; 2],
    /// The first residual pixel; null where there is none.
    pub residual: *const f32,
    pub residual_steps: [usize; 2],
    /// Rows and columns of the tile that are real.
    pub real: [usize; 2],
    pub low: f32,
    pub high: f32,
}

/// `x · a + b`
///
/// # Safety
/// The instructions of `S` are there.
#[inline(always)]
unsafe fn times<S: Simd>(x: f32, a: S::V, b: S::V) -> S::V {
    // SAFETY: the caller's.
    unsafe { S::fma(S::splat(x), a, b) }
}

/// `Bᵀ d`
///
/// # Safety
/// The instructions of `S` are there.
#[inline(always)]
unsafe fn before<S: Simd, const CELLS: usize>(d: [S::V; CELLS]) -> [S::V; CELLS] {
    let mut products = d;
    // SAFETY: the caller's.
    unsafe {
        if CELLS == 4 {
            products[0] = times::<S>(-1.0, d[2], d[0]);
            products[1] = S::add(d[1], d[2]);
            products[2] = times::<S>(-1.0, d[1], d[2]);
            products[3] = times::<S>(-1.0, d[3], d[1]);
        } else {
            let (even, odd) = (times::<S>(-4.0, d[2], d[4]), times::<S>(-4.0, d[1], d[3]));
            let (near, far) = (times::<S>(-1.0, d[2], d[4]), times::<S>(-1.0, d[1], d[3]));
            products[0] = times::<S>(4.0, d[0], times::<S>(-5.0, d[2], d[4]));
            products[1] = S::add(even, odd);
            products[2] = times::<S>(-1.0, odd, even);
            products[3] = times::<S>(2.0, far, near);
            products[4] = times::<S>(-2.0, far, near);
            products[5] = times::<S>(4.0, d[1], times::<S>(-5.0, d[3], d[5]));
        }
    }
    products
}

/// `Aᵀ m`
///
/// # Safety
/// The instructions of `S` are there.
#[inline(always)]
unsafe fn after<S: Simd, const CELLS: usize, const PIXELS: usize>(
    m: [S::V; CELLS],
) -> [S::V; PIXELS] {
    // SAFETY: the caller's.
    unsafe {
        let mut pixels = [S::splat(0.0); PIXELS];
        let (ones, one) = (S::add(m[1], m[2]), times::<S>(-1.0, m[2], m[1]));
        if CELLS == 4 {
            pixels[0] = S::add(m[0], ones);
            pixels[1] = times::<S>(-1.0, m[3], one);
        } else {
            let (twos, two) = (S::add(m[3], m[4]), times::<S>(-1.0, m[4], m[3]));
            pixels[0] = S::add(m[0], S::add(ones, twos));
            pixels[1] = times::<S>(2.0, two, one);
            pixels[2] = times::<S>(4.0, twos, ones);
            pixels[3] = S::add(times::<S>(8.0, two, one), m[5]);
        }
        pixels
    }
}

/// # Safety
/// The instructions of `S` are there; each cell is good for reading `channels` floats, and each of the
/// products at `to` for writing whole vectors of them.
#[inline(always)]
pub(super) unsafe fn transform_input<S: Simd>(s: &InputTransform) {
    // SAFETY: the caller's.
    unsafe {
        match s.tile {
            WinogradTile::Two => transform_input_by::<S, 4>(s),
            WinogradTile::Four => transform_input_by::<S, 6>(s),
        }
    }
}

/// # Safety
/// As for [`transform_input`]; the tile has `CELLS`.
#[inline(always)]
unsafe fn transform_input_by<S: Simd, const CELLS: usize>(s: &InputTransform) {
    for c in (0..s.channels).step_by(S::LANES) {
        let left = s.channels - c;
        // SAFETY: the caller's.
        unsafe {
            let mut half = [[S::splat(0.0); CELLS]; CELLS];
            for x in 0..CELLS {
                let mut column = [S::splat(0.0); CELLS];
                for y in 0..CELLS {
                    let cell = s.cells.get_unchecked(y * CELLS + x).add(c);
                    column[y] = match left < S::LANES {
                        true => S::load_some(cell, left),
                        false => S::load(cell),
                    };
                }
                let column = before::<S, CELLS>(column);
                for y in 0..CELLS {
                    half[y][x] = column[y];
                }
            }
            for y in 0..CELLS {
                let row = before::<S, CELLS>(half[y]);
                for x in 0..CELLS {
                    S::store(s.to.add((y * CELLS + x) * s.apart + c), row[x]);
                }
            }
        }
    }
}

/// # Safety
/// The instructions of `S` are there; each of the products at `from` and the bias are good for reading
/// whole vectors of `channels` floats, the residual of each real pixel for reading so many, and each real
/// pixel for writing so many.
#[inline(always)]
pub(super) unsafe fn transform_output<S: Simd>(t: &OutputTransform) {
    // SAFETY: the caller's.
    unsafe {
        match t.tile {
            WinogradTile::Two => transform_output_by::<S, 4, 2>(t),
            WinogradTile::Four => transform_output_by::<S, 6, 4>(t),
        }
    }
}

/// # Safety
/// As for [`transform_output`]; the tile has `CELLS` and `PIXELS`.
#[inline(always)]
unsafe fn transform_output_by<S: Simd, const CELLS: usize, const PIXELS: usize>(
    t: &OutputTransform,
) {
    for c in (0..t.channels).step_by(S::LANES) {
        let left = t.channels - c;
        // SAFETY: the caller's.
        unsafe {
            let mut half = [[S::splat(0.0); CELLS]; PIXELS];
            for x in 0..CELLS {
                let mut column = [S::splat(0.0); CELLS];
                for y in 0..CELLS {
                    column[y] = S::load(t.from.add((y * CELLS + x) * t.apart + c));
                }
                let column = after::<S, CELLS, PIXELS>(column);
                for y in 0..PIXELS {
                    half[y][x] = column[y];
                }
            }
            let bias = S::load(t.bias.add(c));
            let (low, high) = (S::splat(t.low), S::splat(t.high));
            for y in 0..PIXELS {
                if y >= t.real[0] {
                    break;
                }
                let row = after::<S, CELLS, PIXELS>(half[y]);
                for x in 0..PIXELS {
                    if x >= t.real[1] {
                        break;
                    }
                    let mut sum = S::add(row[x], bias);
                    if !t.residual.is_null() {
                        let at = y * t.residual_steps[1] + x * t.residual_steps[0] + c;
                        let residual = t.residual.add(at);
                        let residual = match left < S::LANES {
                            true => S::load_some(residual, left),
                            false => S::load(residual),
                        };
                        sum = S::add(sum, residual);
                    }
                    let sum = S::min(high, S::max(low, sum));
                    let out = t.out.add(y * t.steps[1] + x * t.steps[0] + c);
                    match left < S::LANES {
                        true => S::store_some(out, sum, left),
                        false => S::store(out, sum),
                    }
                }
            }
        }
    }
}
