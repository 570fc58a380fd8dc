/*! The vector vocabulary of the kernels: one trait, one implementation an instruction set. */

/// Vectors of floats. Every method may only be called where the processor has the instructions.
pub(super) trait Simd: Copy {
    /// Register that holds `LANES` values of F32.
    type V: Copy;
    /// Floats in a vector.
    const LANES: usize;
    /// # Safety
    /// The instructions are there, and `p` is good for reading `LANES` floats.
    unsafe fn load(p: *const f32) -> Self::V;
    /// # Safety
    /// The instructions are there, and `p` is good for writing `LANES` floats.
    unsafe fn store(p: *mut f32, v: Self::V);
    /// The first `n` floats, and zeros.
    /// # Safety
    /// The instructions are there, `n` is below `LANES`, and `p` is good for reading `n` floats.
    unsafe fn load_some(p: *const f32, n: usize) -> Self::V;
    /// The first `n` floats, and no more.
    /// # Safety
    /// The instructions are there, `n` is below `LANES`, and `p` is good for writing `n` floats.
    unsafe fn store_some(p: *mut f32, v: Self::V, n: usize);
    /// # Safety
    /// The instructions are there.
    unsafe fn splat(x: f32) -> Self::V;
    /// # Safety
    /// The instructions are there.
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V;
    /// # Safety
    /// The instructions are there.
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V;
    /// `a · b + c`
    /// # Safety
    /// The instructions are there.
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// The larger; `b` where one is NaN.
    /// # Safety
    /// The instructions are there.
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V;
    /// The smaller; `b` where one is NaN.
    /// # Safety
    /// The instructions are there.
    unsafe fn min(a: Self::V, b: Self::V) -> Self::V;
    /// Asks for the line at `p`, which may be any address.
    #[inline(always)]
    fn prefetch(_p: *const f32) {}
    /// Asks for the line at `p`, which may be any address, in the second-level cache.
    #[inline(always)]
    fn prefetch_second(_p: *const f32) {}
}

/// Plain arrays, for any processor.
#[derive(Debug, Clone, Copy)]
pub(super) struct Portable;

impl Simd for Portable {
    type V = [f32; 4];
    const LANES: usize = 4;
    #[inline(always)]
    unsafe fn load(p: *const f32) -> [f32; 4] {
        // SAFETY: the caller's.
        unsafe { p.cast::<[f32; 4]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, v: [f32; 4]) {
        // SAFETY: the caller's.
        unsafe { p.cast::<[f32; 4]>().write_unaligned(v) }
    }
    #[inline(always)]
    unsafe fn load_some(p: *const f32, n: usize) -> [f32; 4] {
        let mut v = [0.0; 4];
        for (i, x) in v.iter_mut().enumerate().take(n) {
            // SAFETY: the caller's.
            *x = unsafe { *p.add(i) };
        }
        v
    }
    #[inline(always)]
    unsafe fn store_some(p: *mut f32, v: [f32; 4], n: usize) {
        for (i, x) in v.into_iter().enumerate().take(n) {
            // SAFETY: the caller's.
            unsafe { *p.add(i) = x }
        }
    }
    #[inline(always)]
    unsafe fn splat(x: f32) -> [f32; 4] {
        [x; 4]
    }
    #[inline(always)]
    unsafe fn add(a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        [a[0] + b[0], a[1] + b[1], a[2] + b[2], a[3] + b[3]]
    }
    #[inline(always)]
    unsafe fn mul(a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        [a[0] * b[0], a[1] * b[1], a[2] * b[2], a[3] * b[3]]
    }
    #[inline(always)]
    unsafe fn fma(a: [f32; 4], b: [f32; 4], c: [f32; 4]) -> [f32; 4] {
        // SAFETY: no instructions of its own.
        unsafe { Self::add(Self::mul(a, b), c) }
    }
    #[inline(always)]
    unsafe fn max(a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        let max = |a, b| if a > b { a } else { b };
        [
            max(a[0], b[0]),
            max(a[1], b[1]),
            max(a[2], b[2]),
            max(a[3], b[3]),
        ]
    }
    #[inline(always)]
    unsafe fn min(a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        let min = |a, b| if a < b { a } else { b };
        [
            min(a[0], b[0]),
            min(a[1], b[1]),
            min(a[2], b[2]),
            min(a[3], b[3]),
        ]
    }
}

/// Implements [`Simd`] by intrinsics that do exactly what each method says.
macro_rules! intrinsics {
    ($name:ident, $v:ty, $lanes:expr, $load:ident, $store:ident,
     |$p:ident, $n:ident| $load_some:expr, |$q:ident, $w:ident, $m:ident| $store_some:expr,
     $splat:ident, $add:ident, $mul:ident, |$a:ident, $b:ident, $c:ident| $fma:expr, $max:expr,
     $min:expr, $prefetch:expr, $prefetch_second:expr) => {
        impl Simd for $name {
            type V = $v;
            const LANES: usize = $lanes;
            #[inline(always)]
            unsafe fn load(p: *const f32) -> $v {
                // SAFETY: the caller's.
                unsafe { $load(p) }
            }
            #[inline(always)]
            unsafe fn store(p: *mut f32, v: $v) {
                // SAFETY: the caller's.
                unsafe { $store(p, v) }
            }
            #[inline(always)]
            unsafe fn load_some($p: *const f32, $n: usize) -> $v {
                // SAFETY: the caller's.
                unsafe { $load_some }
            }
            #[inline(always)]
            unsafe fn store_some($q: *mut f32, $w: $v, $m: usize) {
                // SAFETY: the caller's.
                unsafe { $store_some }
            }
            #[inline(always)]
            unsafe fn splat(x: f32) -> $v {
                // SAFETY: the caller's.
                unsafe { $splat(x) }
            }
            #[inline(always)]
            unsafe fn add(a: $v, b: $v) -> $v {
                // SAFETY: the caller's.
                unsafe { $add(a, b) }
            }
            #[inline(always)]
            unsafe fn mul(a: $v, b: $v) -> $v {
                // SAFETY: the caller's.
                unsafe { $mul(a, b) }
            }
            #[inline(always)]
            unsafe fn fma($a: $v, $b: $v, $c: $v) -> $v {
                // SAFETY: the caller's.
                unsafe { $fma }
            }
            #[inline(always)]
            unsafe fn max($a: $v, $b: $v) -> $v {
                // SAFETY: the caller's.
                unsafe { $max($a, $b) }
            }
            #[inline(always)]
            unsafe fn min($a: $v, $b: $v) -> $v {
                // SAFETY: the caller's.
                unsafe { $min($a, $b) }
            }
            #[inline(always)]
            fn prefetch(p: *const f32) {
                let prefetch: fn(*const f32) = $prefetch;
                prefetch(p);
            }
            #[inline(always)]
            fn prefetch_second(p: *const f32) {
                let prefetch: fn(*const f32) = $prefetch_second;
                prefetch(p);
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::Simd;
    use std::arch::x86_64::*;

    /// A mask of the first `n` of eight lanes.
    ///
    /// # Safety
    /// The processor has AVX2.
    #[inline(always)]
    unsafe fn first(n: usize) -> __m256i {
        // SAFETY: the caller's.
        unsafe {
            let lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
            _mm256_cmpgt_epi32(_mm256_set1_epi32(n as i32), lane)
        }
    }

    /// AVX2 with fused multiply-add: 8 lanes.
    #[derive(Debug, Clone, Copy)]
    pub(in super::super) struct Avx2;

    intrinsics!(
        Avx2,
        __m256,
        8,
        _mm256_loadu_ps,
        _mm256_storeu_ps,
        |p, n| _mm256_maskload_ps(p, first(n)),
        |p, v, n| _mm256_maskstore_ps(p, first(n), v),
        _mm256_set1_ps,
        _mm256_add_ps,
        _mm256_mul_ps,
        |a, b, c| _mm256_fmadd_ps(a, b, c),
        _mm256_max_ps,
        _mm256_min_ps,
        |p| {
            // SAFETY: SSE is part of x86-64, and a prefetch of any address does no harm.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(p.cast()) }
        },
        |p| {
            // SAFETY: as above.
            unsafe { _mm_prefetch::<_MM_HINT_T1>(p.cast()) }
        }
    );

    /// AVX-512's foundation (AVX-512F): 16 lanes.
    #[derive(Debug, Clone, Copy)]
    pub(in super::super) struct Avx512;

    intrinsics!(
        Avx512,
        __m512,
        16,
        _mm512_loadu_ps,
        _mm512_storeu_ps,
        |p, n| _mm512_maskz_loadu_ps((1 << n) - 1, p),
        |p, v, n| _mm512_mask_storeu_ps(p, (1 << n) - 1, v),
        _mm512_set1_ps,
        _mm512_add_ps,
        _mm512_mul_ps,
        |a, b, c| _mm512_fmadd_ps(a, b, c),
        _mm512_max_ps,
        _mm512_min_ps,
        |p| {
            // SAFETY: SSE is part of x86-64, and a prefetch of any address does no harm.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(p.cast()) }
        },
        |p| {
            // SAFETY: as above.
            unsafe { _mm_prefetch::<_MM_HINT_T1>(p.cast()) }
        }
    );
}
#[cfg(target_arch = "x86_64")]
pub(super) use x86::{Avx2, Avx512};

#[cfg(target_arch = "aarch64")]
mod arm {
    use super::{Portable, Simd};
    use std::arch::aarch64::*;

    /// NEON of 64-bit Arm: 4 lanes.
    #[derive(Debug, Clone, Copy)]
    pub(in super::super) struct Neon;

    // `vmaxq` would make NaN of NaN and a number, so larger and smaller are chosen by comparison.
    intrinsics!(
        Neon,
        float32x4_t,
        4,
        vld1q_f32,
        vst1q_f32,
        |p, n| vld1q_f32(Portable::load_some(p, n).as_ptr()),
        |p, v, n| {
            let mut all = [0.0; 4];
            vst1q_f32(all.as_mut_ptr(), v);
            Portable::store_some(p, all, n);
        },
        vdupq_n_f32,
        vaddq_f32,
        vmulq_f32,
        |a, b, c| vfmaq_f32(c, a, b),
        |a, b| vbslq_f32(vcgtq_f32(a, b), a, b),
        |a, b| vbslq_f32(vcltq_f32(a, b), a, b),
        |_| {},
        |_| {}
    );
}
#[cfg(target_arch = "aarch64")]
pub(super) use arm::Neon;
