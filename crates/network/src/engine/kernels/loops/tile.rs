/*! Products: a tile of output pixels against one panel or two of weights. */

use super::super::simd::Simd;
use super::clamp;
use crate::engine::Cancel;

/// Channels in a panel of weights.
pub(crate) const PANEL: usize = 16;
/// Terms of the reduction that one turn of the loop takes: with more pixels than there are
/// registers for their addresses, each is fetched once a turn.
const TURN: usize = 4;
/// Floats of a cache line.
const LINE: usize = 16;

/// A run of tiles against a run of panels.
pub(crate) struct Block<'a> {
    /// `[tile][tap][height]`: the row of the reduction for each pixel of a tile. A null first
    /// pointer: padding for all.
    pub rows: &'a [*const f32],
    /// Room for the rows of a tile under one tap.
    pub height: usize,
    /// Pixels of each tile.
    pub tiles: &'a [Pixel],
    /// Floats from one output pixel of a tile to the next, and from one residual pixel.
    pub step: usize,
    pub residual_step: usize,
    pub taps: usize,
    /// Floats of one tap.
    pub run: usize,
    /// `[panel][tap][run][PANEL]`
    pub weights: *const f32,
    /// One a channel, as many as the panels have.
    pub bias: *const f32,
    pub panels: std::ops::Range<usize>,
    /// The panel from which on the same thread will likely go on after these; 0 where it won't.
    pub next: usize,
    pub channels: usize,
    pub low: f32,
    pub high: f32,
    /// Asked before each tile, so that a stop waits for one tile and not for a block.
    pub cancel: &'a Cancel,
}

/// What a tile writes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pixel {
    /// Number of output pixels in the tile.
    pub count: usize,
    /// The first of them; where channel 0 is, or would be: only the block's panels are written.
    pub out: *mut f32,
    /// The first residual pixel; null where there is none.
    pub residual: *const f32,
}

/// Weights to ask for while a tile is computed.
#[derive(Clone, Copy)]
struct Ahead {
    line: *const f32,
    /// Cache lines of weights asked for ahead in each turn.
    lines: usize,
}

impl Ahead {
    /// The share of tile `t` in the weights that are read after `panel`: those of a network don't
    /// fit the caches, and the first tile over a panel would have to wait for each line.
    #[inline(always)]
    fn new(b: &Block, panel: usize, width: usize, t: usize) -> Ahead {
        let nothing = Ahead {
            line: std::ptr::null(),
            lines: 0,
        };
        let next = match panel + width < b.panels.end {
            true => panel + width,
            false => b.next,
        };
        // One tile reads as fast as it can as it is.
        if next == 0 || b.tiles.len() < 2 {
            return nothing;
        }
        let floats = b.taps * b.run * PANEL;
        let turns = b.taps * (b.run / TURN);
        let lines = (TURN * width).div_ceil(b.tiles.len());
        let first = t * lines * turns * LINE;
        if first >= width * floats {
            return nothing;
        }
        Ahead {
            line: b.weights.wrapping_add(next * floats + first),
            lines,
        }
    }
}

/// `MR` pixels of tile `t` against `NP` panels from `panel` on. The reduction is split over `KU`
/// accumulators, and the order of each sum depends on `KU` alone: never on `NP`.
///
/// # Safety
/// The instructions of `S` are there; `PANEL == NV · LANES`; `TURN` is a multiple of `KU`; tile `t`
/// has `MR` pixels; there are `NP` panels from `panel` on; every pointer of the block is good for
/// what the block says lies behind it.
#[expect(
    clippy::too_many_lines,
    reason = "one loop, whose accumulators must stay in registers: no reference to them may leave it"
)]
#[inline(always)]
unsafe fn tile<S: Simd, const MR: usize, const NV: usize, const KU: usize, const NP: usize>(
    b: &Block,
    t: usize,
    panel: usize,
    ahead: Ahead,
) {
    // SAFETY: all accesses below stay within what the function's contract promises.
    unsafe {
        let to = b.tiles.get_unchecked(t);
        // The lines that the next tile will write and add to are asked for one pixel after the other
        // while this one is computed: all at once would be more than a core can have under way.
        let soon = b.tiles.get(t + 1).unwrap_or(to);
        let turns = b.taps * (b.run / TURN);
        let pace = MR.div_ceil(turns.max(1));
        let mut asked = 0;
        let Ahead { mut line, lines } = ahead;
        let mut acc = [[[[S::splat(0.0); NV]; NP]; MR]; KU];
        for p in 0..NP {
            for n in 0..NV {
                let bias = S::load(b.bias.add((panel + p) * PANEL + n * S::LANES));
                for r in 0..MR {
                    acc[0][r][p][n] = bias;
                }
            }
        }
        let panel_floats = b.taps * b.run * PANEL;
        let mut tap_weights = b.weights.add(panel * panel_floats);
        for tap in 0..b.taps {
            let from = b.rows.as_ptr().add((t * b.taps + tap) * b.height);
            let mut w = tap_weights;
            tap_weights = tap_weights.add(b.run * PANEL);
            if (*from).is_null() {
                continue;
            }
            let mut rows = [*from; MR];
            for r in 1..MR {
                rows[r] = *from.add(r);
            }
            let mut k = 0;
            while k + TURN <= b.run {
                if asked < MR {
                    for r in asked..asked + pace {
                        let channel = panel * PANEL;
                        for p in 0..NP {
                            let c = channel + p * PANEL;
                            S::prefetch(soon.out.wrapping_add(r * b.step + c));
                            if !soon.residual.is_null() {
                                S::prefetch(soon.residual.wrapping_add(r * b.residual_step + c));
                            }
                        }
                    }
                    asked += pace;
                }
                for _ in 0..lines {
                    S::prefetch_second(line);
                    line = line.wrapping_add(LINE);
                }
                for u in 0..TURN {
                    let mut v = [[S::splat(0.0); NV]; NP];
                    for p in 0..NP {
                        for n in 0..NV {
                            let at = p * panel_floats + u * PANEL + n * S::LANES;
                            v[p][n] = S::load(w.add(at));
                        }
                    }
                    for r in 0..MR {
                        let x = S::splat(*rows[r].add(k + u));
                        for p in 0..NP {
                            for n in 0..NV {
                                let sum = &mut acc[u % KU][r][p][n];
                                *sum = S::fma(x, v[p][n], *sum);
                            }
                        }
                    }
                }
                w = w.add(TURN * PANEL);
                k += TURN;
            }
            while k < b.run {
                for r in 0..MR {
                    let x = S::splat(*rows[r].add(k));
                    for p in 0..NP {
                        for n in 0..NV {
                            let v = S::load(w.add(p * panel_floats + n * S::LANES));
                            acc[0][r][p][n] = S::fma(x, v, acc[0][r][p][n]);
                        }
                    }
                }
                w = w.add(PANEL);
                k += 1;
            }
        }
        // A copy: indexing `acc` by a variable would pin it to the stack throughout.
        let mut sum = acc[0];
        for more in &acc[1..] {
            for r in 0..MR {
                for p in 0..NP {
                    for n in 0..NV {
                        sum[r][p][n] = S::add(sum[r][p][n], more[r][p][n]);
                    }
                }
            }
        }
        store::<S, MR, NV, NP>(b, to, panel, sum);
    }
}

/// Adds the residual to a tile's sums, clamps and writes them.
///
/// # Safety
/// That of [`tile`], for the tile that `to` says.
#[inline(always)]
unsafe fn store<S: Simd, const MR: usize, const NV: usize, const NP: usize>(
    b: &Block,
    to: &Pixel,
    panel: usize,
    sum: [[[S::V; NV]; NP]; MR],
) {
    // SAFETY: channels beyond the block's are left out, and all else lies within what the contract says.
    unsafe {
        let (low, high) = (S::splat(b.low), S::splat(b.high));
        for p in 0..NP {
            let channel = (panel + p) * PANEL;
            let live = b.channels - channel;
            for n in 0..NV {
                let c = n * S::LANES;
                if c >= live {
                    break;
                }
                for r in 0..MR {
                    let mut y = sum[r][p][n];
                    let out = to.out.wrapping_add(r * b.step + channel + c);
                    let residual = to.residual.wrapping_add(r * b.residual_step + channel + c);
                    if c + S::LANES <= live {
                        if !to.residual.is_null() {
                            y = S::add(y, S::load(residual));
                        }
                        S::store(out, S::min(high, S::max(low, y)));
                    } else {
                        let mut last = [0.0f32; PANEL];
                        S::store(last.as_mut_ptr(), y);
                        for (i, &y) in last[..live - c].iter().enumerate() {
                            let mut y = y;
                            if !to.residual.is_null() {
                                y += *residual.add(i);
                            }
                            *out.add(i) = clamp(y, b.low, b.high);
                        }
                    }
                }
            }
        }
    }
}

/// Calls [`tile`] for the pixels it has: few split the reduction over more accumulators, so that the
/// multiplier's latency is hidden all the same.
macro_rules! by_height {
    ($b:ident, $t:ident, $panel:ident, $ahead:ident, $nv:expr, $np:literal, $($mr:literal / $ku:literal)*) => {
        match $b.tiles.get_unchecked($t).count {
            $($mr => tile::<S, $mr, { $nv }, $ku, $np>($b, $t, $panel, $ahead),)*
            _ => {}
        }
    };
}

/// One panel at a time, up to six pixels.
///
/// # Safety
/// As for [`tile`], for every tile and panel of the block; no tile has more than six pixels.
#[inline(always)]
pub(super) unsafe fn tile6<S: Simd, const NV: usize>(b: &Block) {
    for panel in b.panels.clone() {
        for t in 0..b.tiles.len() {
            if b.cancel.is_cancelled() {
                return;
            }
            let ahead = Ahead::new(b, panel, 1, t);
            // SAFETY: the caller's.
            unsafe { by_height!(b, t, panel, ahead, NV, 1, 1/4 2/2 3/2 4/1 5/1 6/1) }
        }
    }
}

/// For vectors as wide as a panel, and 32 of them: two panels at a time, so that what is broadcast
/// serves twice, and up to ten pixels, so that a weight serves as often. More would find registers
/// too, but rows a power of two apart would then push each other out of the nearest cache.
///
/// # Safety
/// As for [`tile`], for every tile and panel of the block; no tile has more than ten pixels.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(super) unsafe fn tile10<S: Simd>(b: &Block) {
    let mut panel = b.panels.start;
    while panel < b.panels.end {
        let two = panel + 1 < b.panels.end;
        for t in 0..b.tiles.len() {
            if b.cancel.is_cancelled() {
                return;
            }
            let ahead = Ahead::new(b, panel, 2, t);
            // SAFETY: the caller's; there are two panels where two are taken.
            unsafe {
                if two {
                    by_height!(b, t, panel, ahead, 1, 2,
                        1/4 2/4 3/2 4/2 5/2 6/2 7/1 8/1 9/1 10/1)
                } else {
                    by_height!(b, t, panel, ahead, 1, 1,
                        1/4 2/4 3/2 4/2 5/2 6/2 7/1 8/1 9/1 10/1)
                }
            }
        }
        panel += 2;
    }
}
