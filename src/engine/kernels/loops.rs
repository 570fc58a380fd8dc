/*!
The inner loops, generic over [`Simd`], and the table of them for the instruction set at hand.

Everything in here is `#[inline(always)]` down to one function an instruction set that has the
target features: a closure, or a function that is not inlined, would not inherit them.
*/

#![allow(
    clippy::needless_range_loop,
    reason = "loops over lanes that unroll read best as they are counted"
)]

mod line;
mod tile;
mod winograd;

#[cfg(target_arch = "aarch64")]
use super::simd::Neon;
use super::simd::Portable;
#[cfg(target_arch = "x86_64")]
use super::simd::{Avx2, Avx512};
use crate::engine::Isa;
use line::line;
pub(crate) use line::{Fold, Line, Plane};
use tile::six;
#[cfg(target_arch = "x86_64")]
use tile::ten;
pub(crate) use tile::{Block, PANEL, Pixel};
pub(crate) use winograd::{Collect, PRODUCTS, Side, Spread};
use winograd::{collect, spread};

#[inline(always)]
fn clamp(x: f32, low: f32, high: f32) -> f32 {
    let x = if low > x { low } else { x };
    if high < x { high } else { x }
}

/// The loops for one instruction set.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Loops {
    pub(super) block: unsafe fn(&Block),
    pub(super) line: unsafe fn(&Line),
    pub(super) spread: unsafe fn(&Spread),
    pub(super) collect: unsafe fn(&Collect),
    /// Pixels in a tile, at most.
    pub(super) height: usize,
    /// Panels of weights that a tile takes at once.
    pub(super) panels: usize,
}

macro_rules! loops {
    ($name:ident, $simd:ty, $block:expr, $line:expr, $height:literal, $panels:literal $(, $feature:literal)?) => {
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
            $(#[target_feature(enable = $feature)])?
            unsafe fn spread_loop(s: &Spread) {
                // SAFETY: the caller's.
                unsafe { spread::<$simd>(s) }
            }
            $(#[target_feature(enable = $feature)])?
            unsafe fn collect_loop(c: &Collect) {
                // SAFETY: the caller's.
                unsafe { collect::<$simd>(c) }
            }
            pub(super) const LOOPS: Loops = Loops {
                block: block_loop,
                line: line_loop,
                spread: spread_loop,
                collect: collect_loop,
                height: $height,
                panels: $panels,
            };
        }
    };
}

loops!(
    portable,
    Portable,
    six::<Portable, 4>,
    line::<Portable, Portable>,
    6,
    1
);
#[cfg(target_arch = "x86_64")]
loops!(
    avx2,
    Avx2,
    six::<Avx2, 2>,
    line::<Avx2, Avx2>,
    6,
    1,
    "avx2,fma"
);
#[cfg(target_arch = "x86_64")]
loops!(
    avx512,
    Avx512,
    ten::<Avx512>,
    line::<Avx512, Avx2>,
    10,
    2,
    "avx512f,avx2,fma"
);
#[cfg(target_arch = "aarch64")]
loops!(neon, Neon, six::<Neon, 4>, line::<Neon, Neon>, 6, 1, "neon");

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
