/*!
The inner loops of training: convolution as a product over *gathered* rows, forward and backward.

A source buffer holds padded planes (or unrolled columns); a table of offsets says where each term
of the reduction lies, and each *slot* of eight output positions has a base into the buffer. Output
position `j` of a slot reads `source[base + offset + j]`, so one loop serves any stride, dilation,
padding and group. The loops are plain Rust over fixed-size arrays: compiled once for AVX2 with FMA
and once for the target's own baseline, chosen at run time.
*/

/// Output positions a slot covers.
pub const LANES: usize = 8;
/// Output channels a tile covers at most.
pub const ROWS: usize = 6;

/// `a · b + c`, in one instruction where the caller is compiled for it: without FMA `mul_add` is
/// a call into the maths library.
#[inline(always)]
fn fma<const FMA: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FMA { a.mul_add(b, c) } else { a * b + c }
}

/// Reads eight floats from `at`.
#[inline(always)]
fn load(source: &[f32], at: usize) -> [f32; LANES] {
    let mut x = [0.0; LANES];
    x.copy_from_slice(&source[at..at + LANES]);
    x
}

#[inline(always)]
fn rows<const M: usize, const FMA: bool>(
    weights: &[f32],
    source: &[f32],
    offsets: &[u32],
    bases: [usize; 2],
    out: &mut [f32],
    pitch: usize,
) {
    let mut left = [[0.0f32; LANES]; M];
    let mut right = [[0.0f32; LANES]; M];
    for (w, &offset) in weights.chunks_exact(M).zip(offsets) {
        let a = load(source, bases[0] + offset as usize);
        let b = load(source, bases[1] + offset as usize);
        for m in 0..M {
            for j in 0..LANES {
                left[m][j] = fma::<FMA>(w[m], a[j], left[m][j]);
                right[m][j] = fma::<FMA>(w[m], b[j], right[m][j]);
            }
        }
    }
    for m in 0..M {
        let row = &mut out[m * pitch..m * pitch + 2 * LANES];
        row[..LANES].copy_from_slice(&left[m]);
        row[LANES..].copy_from_slice(&right[m]);
    }
}

#[inline(always)]
fn conv_body<const FMA: bool>(
    weights: &[f32],
    channels: usize,
    source: &[f32],
    offsets: &[u32],
    bases: &[usize],
    out: &mut [f32],
) {
    let pitch = bases.len() * LANES;
    let k = offsets.len();
    for (pair, base) in bases.chunks_exact(2).enumerate() {
        let base = [base[0], base[1]];
        let mut row = 0;
        while row < channels {
            let m = (channels - row).min(ROWS);
            let w = &weights[row * k..(row + m) * k];
            let o = &mut out[row * pitch + pair * 2 * LANES..];
            match m {
                1 => rows::<1, FMA>(w, source, offsets, base, o, pitch),
                2 => rows::<2, FMA>(w, source, offsets, base, o, pitch),
                3 => rows::<3, FMA>(w, source, offsets, base, o, pitch),
                4 => rows::<4, FMA>(w, source, offsets, base, o, pitch),
                5 => rows::<5, FMA>(w, source, offsets, base, o, pitch),
                _ => rows::<6, FMA>(w, source, offsets, base, o, pitch),
            }
            row += m;
        }
    }
}

#[inline(always)]
fn dots<const M: usize, const K: usize, const FMA: bool>(
    grad: &[f32],
    pitch: usize,
    source: &[f32],
    offsets: &[u32],
    bases: &[usize],
    out: &mut [f32],
    out_pitch: usize,
) {
    let mut acc = [[[0.0f32; LANES]; K]; M];
    for (slot, &base) in bases.iter().enumerate() {
        let mut g = [[0.0; LANES]; M];
        for (m, g) in g.iter_mut().enumerate() {
            *g = load(grad, m * pitch + slot * LANES);
        }
        for k in 0..K {
            let x = load(source, base + offsets[k] as usize);
            for m in 0..M {
                for j in 0..LANES {
                    acc[m][k][j] = fma::<FMA>(g[m][j], x[j], acc[m][k][j]);
                }
            }
        }
    }
    for m in 0..M {
        for k in 0..K {
            out[m * out_pitch + k] += acc[m][k].iter().sum::<f32>();
        }
    }
}

#[inline(always)]
fn weight_body<const FMA: bool>(
    grad: &[f32],
    channels: usize,
    source: &[f32],
    offsets: &[u32],
    bases: &[usize],
    out: &mut [f32],
) {
    let pitch = bases.len() * LANES;
    let terms = offsets.len();
    let mut k = 0;
    while k < terms {
        let width = (terms - k).min(3);
        let taps = &offsets[k..k + width];
        let mut row = 0;
        while row < channels {
            let m = if channels - row >= 4 { 4 } else { 1 };
            let g = &grad[row * pitch..];
            let o = &mut out[row * terms + k..];
            match (m, width) {
                (4, 3) => dots::<4, 3, FMA>(g, pitch, source, taps, bases, o, terms),
                (4, 2) => dots::<4, 2, FMA>(g, pitch, source, taps, bases, o, terms),
                (4, _) => dots::<4, 1, FMA>(g, pitch, source, taps, bases, o, terms),
                (_, 3) => dots::<1, 3, FMA>(g, pitch, source, taps, bases, o, terms),
                (_, 2) => dots::<1, 2, FMA>(g, pitch, source, taps, bases, o, terms),
                _ => dots::<1, 1, FMA>(g, pitch, source, taps, bases, o, terms),
            }
            row += m;
        }
        k += width;
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn conv_avx2(
    weights: &[f32],
    channels: usize,
    source: &[f32],
    offsets: &[u32],
    bases: &[usize],
    out: &mut [f32],
) {
    conv_body::<true>(weights, channels, source, offsets, bases, out);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn weight_avx2(
    grad: &[f32],
    channels: usize,
    source: &[f32],
    offsets: &[u32],
    bases: &[usize],
    out: &mut [f32],
) {
    weight_body::<true>(grad, channels, source, offsets, bases, out);
}

#[cfg(target_arch = "x86_64")]
fn has_avx2() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")
}

/// Whether `a · b + c` is one instruction in the target's baseline.
const BASE_FMA: bool = cfg!(any(target_arch = "aarch64", target_feature = "fma"));

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
    debug_assert!(bases.len().is_multiple_of(2));
    #[cfg(target_arch = "x86_64")]
    if has_avx2() {
        // SAFETY: the features the function is compiled for were just detected; its memory
        // accesses are all bounds-checked.
        return unsafe { conv_avx2(weights, channels, source, offsets, bases, out) };
    }
    conv_body::<BASE_FMA>(weights, channels, source, offsets, bases, out);
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
    #[cfg(target_arch = "x86_64")]
    if has_avx2() {
        // SAFETY: the features the function is compiled for were just detected; its memory
        // accesses are all bounds-checked.
        return unsafe { weight_avx2(grad, channels, source, offsets, bases, out) };
    }
    weight_body::<BASE_FMA>(grad, channels, source, offsets, bases, out);
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
            conv_body::<false>(&packed, channels, &source, &offsets, &bases, &mut portable);
            let mut grads = vec![0.5; channels * terms];
            weight_grad(&out, channels, &source, &offsets, &bases, &mut grads);
            let mut grads2 = vec![0.5; channels * terms];
            weight_body::<false>(&out, channels, &source, &offsets, &bases, &mut grads2);
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
