//! The instruction sets that matter for small networks.

use std::fmt;

/// An instruction set, named as in reports. It says what the CPU offers, not what a network uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isa {
    /// Nothing beyond the architecture's base.
    Scalar,
    /// x86-64: AVX2 and FMA.
    Avx2,
    /// x86-64: AVX2 with 8-bit dot products.
    AvxVnni,
    /// x86-64: AVX-512 with 8-bit dot products.
    Avx512Vnni,
    /// ARM: NEON.
    Neon,
    /// ARM: NEON with 8-bit dot products (SDOT).
    NeonDot,
}

impl Isa {
    /// The best of this CPU.
    #[cfg(target_arch = "x86_64")]
    pub fn detect() -> Self {
        use std::is_x86_feature_detected as has;
        if !has!("avx2") || !has!("fma") {
            Self::Scalar
        } else if has!("avx512vnni") && has!("avx512vl") && has!("avx512bw") {
            Self::Avx512Vnni
        } else if has!("avxvnni") {
            Self::AvxVnni
        } else {
            Self::Avx2
        }
    }

    /// The best of this CPU.
    #[cfg(target_arch = "aarch64")]
    pub fn detect() -> Self {
        use std::arch::is_aarch64_feature_detected as has;
        match (has!("neon"), has!("dotprod")) {
            (true, true) => Self::NeonDot,
            (true, false) => Self::Neon,
            _ => Self::Scalar,
        }
    }

    /// The best of this CPU that is known here: of other architectures none is.
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    pub fn detect() -> Self {
        Self::Scalar
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Scalar => "scalar",
            Self::Avx2 => "avx2",
            Self::AvxVnni => "avxvnni",
            Self::Avx512Vnni => "avx512vnni",
            Self::Neon => "neon",
            Self::NeonDot => "neondot",
        })
    }
}
