/*!
The inner loops of training: convolution as a product over *gathered* rows, forward and backward.

A source buffer holds padded planes (or unrolled columns); a table of offsets says where each term
of the reduction lies, and each *slot* of eight output positions has a base into the buffer. Output
position `j` of a slot reads `source[base + offset + j]`, so one loop serves any stride, dilation,
padding and group. Compiled once for AVX2 with FMA and once for what every processor of the target
has, chosen at run time.
*/

#![allow(
    clippy::needless_range_loop,
    reason = "loops over lanes that unroll read best as they are counted"
)]

use super::simd::Simd;

/// Output positions a slot covers.
pub const LANES: usize = 8;
/// Output channels a tile covers at most.
pub const ROWS: usize = 6;

/// The largest vectors a slot may need.
const PARTS: usize = LANES / 4;

/// # Safety
/// The instructions of `S` are there; `weights` holds `M` floats a term; `source` is good for
/// reading `LANES` floats at each base plus offset, `out` for writing two slots in `M` rows.
#[inline(always)]
unsafe fn rows<S: Simd, const M: usize>(
    weights: *const f32,
    source: *const f32,
    offsets: &[u32],
    bases: [usize; 2],
    out: *mut f32,
    pitch: usize,
) {
    // SAFETY: the caller's.
    unsafe {
        let parts = LANES / S::LANES;
        let mut acc = [[[S::splat(0.0); PARTS]; 2]; M];
        let (left, right) = (source.add(bases[0]), source.add(bases[1]));
        let mut w = weights;
        for &offset in offsets {
            for part in 0..parts {
                let a = S::load(left.add(offset as usize + part * S::LANES));
                let b = S::load(right.add(offset as usize + part * S::LANES));
                for m in 0..M {
                    let w = S::splat(*w.add(m));
                    acc[m][0][part] = S::fma(w, a, acc[m][0][part]);
                    acc[m][1][part] = S::fma(w, b, acc[m][1][part]);
                }
            }
            w = w.add(M);
        }
        for m in 0..M {
            for side in 0..2 {
                for part in 0..parts {
                    let to = out.add(m * pitch + side * LANES + part * S::LANES);
                    S::store(to, acc[m][side][part]);
                }
            }
        }
    }
}

/// # Safety
/// The instructions of `S` are there, and [`conv`] has checked the extents.
#[inline(always)]
unsafe fn conv_body<S: Simd>(
    weights: &[f32],
    channels: usize,
    source: &[f32],
    offsets: &[u32],
    bases: &[usize],
    out: &mut [f32],
) {
    let pitch = bases.len() * LANES;
    let k = offsets.len();
    let (weights, source, out) = (weights.as_ptr(), source.as_ptr(), out.as_mut_ptr());
    for (pair, base) in bases.chunks_exact(2).enumerate() {
        let base = [base[0], base[1]];
        let mut row = 0;
        while row < channels {
            let m = (channels - row).min(ROWS);
            // SAFETY: rows from `row` on lie within weights and output, as `conv` has checked.
            unsafe {
                let w = weights.add(row * k);
                let o = out.add(row * pitch + pair * 2 * LANES);
                match m {
                    1 => rows::<S, 1>(w, source, offsets, base, o, pitch),
                    2 => rows::<S, 2>(w, source, offsets, base, o, pitch),
                    3 => rows::<S, 3>(w, source, offsets, base, o, pitch),
                    4 => rows::<S, 4>(w, source, offsets, base, o, pitch),
                    5 => rows::<S, 5>(w, source, offsets, base, o, pitch),
                    _ => rows::<S, 6>(w, source, offsets, base, o, pitch),
                }
            }
            row += m;
        }
    }
}

/// # Safety
/// The instructions of `S` are there; `grad` holds `M` rows of `pitch`, `out` `M` rows of
/// `out_pitch` with `K` floats in the last; `source` is good for reading `LANES` floats at each
/// base plus offset.
#[inline(always)]
unsafe fn dots<S: Simd, const M: usize, const K: usize>(
    grad: *const f32,
    pitch: usize,
    source: *const f32,
    offsets: &[u32],
    bases: &[usize],
    out: *mut f32,
    out_pitch: usize,
) {
    // SAFETY: the caller's.
    unsafe {
        let mut acc = [[S::splat(0.0); K]; M];
        let mut taps = [source; K];
        for k in 0..K {
            taps[k] = source.add(offsets[k] as usize);
        }
        for (slot, &base) in bases.iter().enumerate() {
            for part in 0..LANES / S::LANES {
                let mut g = [S::splat(0.0); M];
                for m in 0..M {
                    g[m] = S::load(grad.add(m * pitch + slot * LANES + part * S::LANES));
                }
                for k in 0..K {
                    let x = S::load(taps[k].add(base + part * S::LANES));
                    for m in 0..M {
                        acc[m][k] = S::fma(g[m], x, acc[m][k]);
                    }
                }
            }
        }
        for m in 0..M {
            for k in 0..K {
                let mut lanes = [0.0f32; LANES];
                S::store(lanes.as_mut_ptr(), acc[m][k]);
                *out.add(m * out_pitch + k) += lanes.iter().sum::<f32>();
            }
        }
    }
}

/// # Safety
/// The instructions of `S` are there, and [`weight_grad`] has checked the extents.
#[inline(always)]
unsafe fn weight_body<S: Simd>(
    grad: &[f32],
    channels: usize,
    source: &[f32],
    offsets: &[u32],
    bases: &[usize],
    out: &mut [f32],
) {
    let pitch = bases.len() * LANES;
    let terms = offsets.len();
    let (grad, source, out) = (grad.as_ptr(), source.as_ptr(), out.as_mut_ptr());
    let mut k = 0;
    while k < terms {
        let width = (terms - k).min(3);
        let taps = &offsets[k..k + width];
        let mut row = 0;
        while row < channels {
            let m = if channels - row >= 4 { 4 } else { 1 };
            // SAFETY: rows from `row` on and terms from `k` on lie within gradient and output, as
            // `weight_grad` has checked.
            unsafe {
                let g = grad.add(row * pitch);
                let o = out.add(row * terms + k);
                match (m, width) {
                    (4, 3) => dots::<S, 4, 3>(g, pitch, source, taps, bases, o, terms),
                    (4, 2) => dots::<S, 4, 2>(g, pitch, source, taps, bases, o, terms),
                    (4, _) => dots::<S, 4, 1>(g, pitch, source, taps, bases, o, terms),
                    (_, 3) => dots::<S, 1, 3>(g, pitch, source, taps, bases, o, terms),
                    (_, 2) => dots::<S, 1, 2>(g, pitch, source, taps, bases, o, terms),
                    _ => dots::<S, 1, 1>(g, pitch, source, taps, bases, o, terms),
                }
            }
            row += m;
        }
        k += width;
    }
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use super::super::simd::Avx2;

    #[target_feature(enable = "avx2,fma")]
    pub(super) unsafe fn conv(
        weights: &[f32],
        channels: usize,
        source: &[f32],
        offsets: &[u32],
        bases: &[usize],
        out: &mut [f32],
    ) {
        // SAFETY: the caller's.
        unsafe { super::conv_body::<Avx2>(weights, channels, source, offsets, bases, out) }
    }

    #[target_feature(enable = "avx2,fma")]
    pub(super) unsafe fn weight(
        grad: &[f32],
        channels: usize,
        source: &[f32],
        offsets: &[u32],
        bases: &[usize],
        out: &mut [f32],
    ) {
        // SAFETY: the caller's.
        unsafe { super::weight_body::<Avx2>(grad, channels, source, offsets, bases, out) }
    }

    pub(super) fn there() -> bool {
        is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")
    }
}

#[cfg(target_arch = "aarch64")]
type Base = super::simd::Neon;
#[cfg(not(target_arch = "aarch64"))]
type Base = super::simd::Portable;

/// Panics where a slot would read past the end of `source`.
fn check(source: &[f32], offsets: &[u32], bases: &[usize]) {
    let far = offsets.iter().max().zip(bases.iter().max());
    if let Some((&offset, &base)) = far {
        let end = base.checked_add(offset as usize + LANES);
        assert!(end.is_some_and(|end| end <= source.len()));
    }
}

/// `out[c][slot][j] = Σ_k weight[c][k] · source[bases[slot] + offsets[k] + j]`.
///
/// `weights` is packed by [`pack`]; `bases` has an even length; `out` is
/// `[channels][bases.len()][LANES]`. Panics where a slice is too short.
pub fn conv(
    weights: &[f32],
    channels: usize,
    source: &[f32],
    offsets: &[u32],
    bases: &[usize],
    out: &mut [f32],
) {
    assert!(bases.len().is_multiple_of(2));
    assert!(weights.len() >= channels * offsets.len());
    assert!(out.len() >= channels * bases.len() * LANES);
    check(source, offsets, bases);
    #[cfg(target_arch = "x86_64")]
    if avx2::there() {
        // SAFETY: the instructions were just detected, the extents checked.
        return unsafe { avx2::conv(weights, channels, source, offsets, bases, out) };
    }
    // SAFETY: `Base` needs what every processor of the target has; the extents were checked.
    unsafe { conv_body::<Base>(weights, channels, source, offsets, bases, out) }
}

/// `out[c][k] += Σ_slot Σ_j grad[c][slot][j] · source[bases[slot] + offsets[k] + j]`.
///
/// `grad` is `[channels][bases.len()][LANES]`, zero in lanes that hold no position. Panics where a
/// slice is too short.
pub fn weight_grad(
    grad: &[f32],
    channels: usize,
    source: &[f32],
    offsets: &[u32],
    bases: &[usize],
    out: &mut [f32],
) {
    assert!(grad.len() >= channels * bases.len() * LANES);
    assert!(out.len() >= channels * offsets.len());
    check(source, offsets, bases);
    #[cfg(target_arch = "x86_64")]
    if avx2::there() {
        // SAFETY: the instructions were just detected, the extents checked.
        return unsafe { avx2::weight(grad, channels, source, offsets, bases, out) };
    }
    // SAFETY: `Base` needs what every processor of the target has; the extents were checked.
    unsafe { weight_body::<Base>(grad, channels, source, offsets, bases, out) }
}

/// Lays `channels × terms` weights out for [`conv`]: panels of [`ROWS`] channels (the last one
/// narrower), the channels of a panel side by side for each term. `at(c, k)` is the weight.
pub fn pack(channels: usize, terms: usize, at: impl Fn(usize, usize) -> f32) -> Vec<f32> {
    let mut packed = Vec::with_capacity(channels * terms);
    let mut row = 0;
    while row < channels {
        let m = (channels - row).min(ROWS);
        for k in 0..terms {
            packed.extend((row..row + m).map(|c| at(c, k)));
        }
        row += m;
    }
    packed
}

#[cfg(test)]
mod tests {
    use super::super::simd::Portable;
    use super::*;
    use proptest::prelude::*;

    fn noise(n: usize, seed: u32) -> Vec<f32> {
        let step = |i: usize| ((i as u32 ^ seed).wrapping_mul(2_654_435_761) >> 16) as f32;
        (0..n).map(|i| step(i) / 32768.0 - 1.0).collect()
    }

    proptest! {
        #[test]
        fn both_products_equal_the_plain_sums(
            channels in 1usize..15, terms in 1usize..40, pairs in 1usize..4, seed: u32,
        ) {
            let slots = 2 * pairs;
            let source = noise(terms * 5 + slots * 11 + LANES, seed);
            let offsets: Vec<u32> = (0..terms as u32).map(|k| k * 5).collect();
            let bases: Vec<usize> = (0..slots).map(|s| s * 11).collect();
            let weights = noise(channels * terms, !seed);
            let packed = pack(channels, terms, |c, k| weights[c * terms + k]);
            let mut out = vec![0.0; channels * slots * LANES];
            conv(&packed, channels, &source, &offsets, &bases, &mut out);
            let mut portable = out.clone();
            // SAFETY: for any processor; the extents are those `conv` has just checked.
            unsafe {
                conv_body::<Portable>(&packed, channels, &source, &offsets, &bases, &mut portable);
            }
            let mut grads = vec![0.5; channels * terms];
            weight_grad(&out, channels, &source, &offsets, &bases, &mut grads);
            let mut grads2 = vec![0.5; channels * terms];
            // SAFETY: for any processor; the extents are those `weight_grad` has just checked.
            unsafe {
                weight_body::<Portable>(&out, channels, &source, &offsets, &bases, &mut grads2);
            }
            let mut plain = vec![0.5f64; channels * terms];
            for c in 0..channels {
                for (s, &base) in bases.iter().enumerate() {
                    for j in 0..LANES {
                        let at = (c * slots + s) * LANES + j;
                        let sum: f64 = (0..terms)
                            .map(|k| f64::from(weights[c * terms + k] * source[base + 5 * k + j]))
                            .sum();
                        prop_assert!((f64::from(out[at]) - sum).abs() < 1e-4);
                        prop_assert!((f64::from(portable[at]) - sum).abs() < 1e-4);
                        for k in 0..terms {
                            plain[c * terms + k] += f64::from(out[at] * source[base + 5 * k + j]);
                        }
                    }
                }
            }
            for (i, p) in plain.iter().enumerate() {
                prop_assert!((f64::from(grads[i]) - p).abs() < 1e-3);
                prop_assert!((f64::from(grads2[i]) - p).abs() < 1e-3);
            }
        }
    }
}
