/*!
The inner loops, generic over [`Simd`], and the table of them for the instruction set at hand.

Everything in here is `#[inline(always)]` down to one function an instruction set that has the
target features: a closure, or a function that is not inlined, would not inherit them.
*/

#![allow(
    clippy::needless_range_loop,
    reason = "loops over lanes that unroll read best as they are counted"
)]

mod row;
mod tile;
mod winograd;

#[cfg(target_arch = "aarch64")]
use super::simd::Neon;
use super::simd::Portable;
#[cfg(target_arch = "x86_64")]
use super::simd::{Avx2, Avx512};
use row::row;
pub(crate) use row::{Fold, Plane, Row};
use tile::tile6;
#[cfg(target_arch = "x86_64")]
use tile::tile10;
pub(crate) use tile::{Block, PANEL, Pixel};
pub(crate) use winograd::{InputTransform, OutputTransform, PRODUCTS, WinogradTile};
use winograd::{transform_input, transform_output};

#[inline(always)]
fn clamp(x: f32, low: f32, high: f32) -> f32 {
    let x = if low > x { low } else { x };
    if high < x { high } else { x }
}

/// The loops for one instruction set.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KernelTable {
    pub(super) block: unsafe fn(&Block),
    pub(super) row: unsafe fn(&Row),
    pub(super) transform_input: unsafe fn(&InputTransform),
    pub(super) transform_output: unsafe fn(&OutputTransform),
    /// Pixels in a tile, at most.
    pub(super) height: usize,
    /// Panels of weights that a tile takes at once.
    pub(super) panels: usize,
}

macro_rules! loops {
    ($name:ident, $simd:ty, $block:expr, $row:expr, $height:literal, $panels:literal $(, $feature:literal)?) => {
        mod $name {
            use super::*;
            // The safety contracts are those of the generic functions.
            $(#[target_feature(enable = $feature)])?
            unsafe fn block_loop(b: &Block) {
                // SAFETY: the caller's.
                unsafe { $block(b) }
            }
            $(#[target_feature(enable = $feature)])?
            unsafe fn row_loop(l: &Row) {
                // SAFETY: the caller's.
                unsafe { $row(l) }
            }
            $(#[target_feature(enable = $feature)])?
            unsafe fn input_loop(s: &InputTransform) {
                // SAFETY: the caller's.
                unsafe { transform_input::<$simd>(s) }
            }
            $(#[target_feature(enable = $feature)])?
            unsafe fn output_loop(c: &OutputTransform) {
                // SAFETY: the caller's.
                unsafe { transform_output::<$simd>(c) }
            }
            pub(super) const TABLE: KernelTable = KernelTable {
                block: block_loop,
                row: row_loop,
                transform_input: input_loop,
                transform_output: output_loop,
                height: $height,
                panels: $panels,
            };
        }
    };
}

loops!(
    portable,
    Portable,
    tile6::<Portable, 4>,
    row::<Portable, Portable>,
    6,
    1
);
#[cfg(target_arch = "x86_64")]
loops!(
    avx2,
    Avx2,
    tile6::<Avx2, 2>,
    row::<Avx2, Avx2>,
    6,
    1,
    "avx2,fma"
);
#[cfg(target_arch = "x86_64")]
loops!(
    avx512,
    Avx512,
    tile10::<Avx512>,
    row::<Avx512, Avx2>,
    10,
    2,
    "avx512f,avx2,fma"
);
#[cfg(target_arch = "aarch64")]
loops!(
    neon,
    Neon,
    tile6::<Neon, 4>,
    row::<Neon, Neon>,
    6,
    1,
    "neon"
);

/// The loops that every processor runs.
pub(crate) const PORTABLE: KernelTable = portable::TABLE;
/// Those of a processor with AVX2 and FMA.
#[cfg(target_arch = "x86_64")]
pub(crate) const AVX2: KernelTable = avx2::TABLE;
/// Those of a processor with AVX-512's foundation beside AVX2 and FMA.
#[cfg(target_arch = "x86_64")]
pub(crate) const AVX512: KernelTable = avx512::TABLE;
/// Those of a 64-bit Arm processor.
#[cfg(target_arch = "aarch64")]
pub(crate) const NEON: KernelTable = neon::TABLE;
