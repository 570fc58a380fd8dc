/*! The instruction sets, and which of them runs. */

use super::kernels::loops::{self, KernelTable};

/// An instruction set the kernels are written for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Isa {
    /// Plain loops that any processor runs.
    Portable,
    /// AVX2 with fused multiply-add, 8 lanes of F32.
    Avx2,
    /// AVX-512 (its foundation) beside AVX2.
    Avx512,
    /// NEON of 64-bit Arm, 4 lanes of F32.
    Neon,
}

impl Isa {
    /// All of them, the fastest first.
    pub const ALL: [Isa; 4] = [Isa::Avx512, Isa::Avx2, Isa::Neon, Isa::Portable];

    /// Its kernels, if this build and this processor have it.
    pub(crate) fn kernels(self) -> Option<KernelTable> {
        match self {
            Isa::Portable => Some(loops::PORTABLE),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") => {
                Some(loops::AVX2)
            }
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 if is_x86_feature_detected!("avx512f") && Isa::Avx2.runs_here() => {
                Some(loops::AVX512)
            }
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => Some(loops::NEON),
            _ => None,
        }
    }

    /// Whether this build and this processor have it.
    pub fn runs_here(self) -> bool {
        self.kernels().is_some()
    }

    /// The kernels for `wanted`, else for what the environment variable `EDGELESSPART_SIMD` names
    /// (portable, avx2, avx512, neon), else the fastest this processor has.
    /// The error names what isn't known, or can't run here.
    pub(crate) fn choose(wanted: Option<Isa>) -> Result<KernelTable, String> {
        let named = match std::env::var("EDGELESSPART_SIMD").as_deref() {
            Err(_) | Ok("") => None,
            Ok("portable") => Some(Isa::Portable),
            Ok("avx2") => Some(Isa::Avx2),
            Ok("avx512") => Some(Isa::Avx512),
            Ok("neon") => Some(Isa::Neon),
            Ok(other) => return Err(other.to_string()),
        };
        match wanted.or(named) {
            Some(isa) => isa.kernels().ok_or_else(|| format!("{isa:?}")),
            None => {
                let found = Isa::ALL.into_iter().find_map(Isa::kernels);
                found.ok_or_else(|| "portable".to_string())
            }
        }
    }
}
