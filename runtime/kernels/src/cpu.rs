//! What a CPU has, as a value that proves it.

use crate::isa::Isa;

/// Proof that the CPU has a family's instructions: layers are made with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cpu {
    isa: Isa,
    halves: bool,
    /// Whether it looks bytes up in a table of registers: AVX-512 VBMI, or NEON.
    tables: bool,
}

impl Cpu {
    /// Every CPU has these.
    pub const SCALAR: Self = Self { isa: Isa::Scalar, halves: false, tables: false };

    /// The family.
    pub fn isa(self) -> Isa {
        self.isa
    }

    /// Whether it multiplies and adds in float16 as well: [`Isa::NeonDot`] on a CPU with FEAT_FP16.
    pub fn halves(self) -> bool {
        self.halves
    }

    pub(crate) fn tables(self) -> bool {
        self.tables
    }

    /// Takes the caller's word for it.
    ///
    /// # Safety
    /// The CPU has the family's instructions.
    pub unsafe fn assume(isa: Isa) -> Self {
        Self { isa, halves: false, tables: false }
    }

    /// The family, if this CPU has it.
    #[cfg(feature = "std")]
    pub fn with(isa: Isa) -> Option<Self> {
        has(isa).then(|| Self { isa, halves: isa == Isa::NeonDot && has_halves(), tables: has_tables(isa) })
    }

    /// The best that this CPU has.
    #[cfg(feature = "std")]
    pub fn detect() -> Self {
        Isa::ALL.into_iter().rev().find_map(Self::with).unwrap_or(Self::SCALAR)
    }
}

#[cfg(feature = "std")]
fn has_tables(isa: Isa) -> bool {
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512Vnni => std::is_x86_feature_detected!("avx512vbmi"),
        Isa::Neon | Isa::NeonDot => true,
        _ => false,
    }
}

#[cfg(all(feature = "std", target_arch = "aarch64"))]
fn has_halves() -> bool {
    std::arch::is_aarch64_feature_detected!("fp16")
}

#[cfg(all(feature = "std", not(target_arch = "aarch64")))]
fn has_halves() -> bool {
    false
}

#[cfg(all(feature = "std", target_arch = "x86_64"))]
fn has(isa: Isa) -> bool {
    use std::is_x86_feature_detected as has;
    let avx2 = || has!("avx2") && has!("fma");
    match isa {
        Isa::Scalar => true,
        Isa::Avx2 => avx2(),
        Isa::AvxVnni => avx2() && has!("avxvnni"),
        Isa::Avx512Vnni => {
            avx2() && has!("avx512f") && has!("avx512bw") && has!("avx512vl") && has!("avx512vnni")
        }
        Isa::Neon | Isa::NeonDot => false,
    }
}

#[cfg(all(feature = "std", target_arch = "aarch64"))]
fn has(isa: Isa) -> bool {
    use std::arch::is_aarch64_feature_detected as has;
    match isa {
        Isa::Scalar => true,
        Isa::Neon => has!("neon"),
        Isa::NeonDot => has!("neon") && has!("dotprod"),
        Isa::Avx2 | Isa::AvxVnni | Isa::Avx512Vnni => false,
    }
}

#[cfg(all(feature = "std", not(any(target_arch = "x86_64", target_arch = "aarch64"))))]
fn has(isa: Isa) -> bool {
    isa == Isa::Scalar
}
