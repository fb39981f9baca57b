//! Instruction sets, as values.

use core::fmt;
use core::str::FromStr;

/// A family of kernels, by the instructions that it needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Isa {
    /// Nothing beyond the architecture's base: the reference, on every platform.
    Scalar,
    /// x86-64: AVX2 and FMA.
    Avx2,
    /// x86-64: AVX2, FMA and 8-bit dot products of 256 bits.
    AvxVnni,
    /// x86-64: AVX-512 (F, BW, VL) with 8-bit dot products.
    Avx512Vnni,
    /// aarch64: NEON.
    Neon,
    /// aarch64: NEON with 8-bit dot products (SDOT).
    NeonDot,
}

impl Isa {
    /// All of them, the portable one first.
    pub const ALL: [Self; 6] =
        [Self::Scalar, Self::Avx2, Self::AvxVnni, Self::Avx512Vnni, Self::Neon, Self::NeonDot];

    /// Its name in reports and in `EDGEGEN_ISA`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::Avx2 => "avx2",
            Self::AvxVnni => "avxvnni",
            Self::Avx512Vnni => "avx512vnni",
            Self::Neon => "neon",
            Self::NeonDot => "neondot",
        }
    }

    /// What a level is XORed with in memory: families that multiply s8 × s8 keep levels as `level − 128`.
    pub(crate) fn flip(self) -> u8 {
        match self {
            Self::Neon | Self::NeonDot => 0x80,
            _ => 0,
        }
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Isa {
    type Err = UnknownIsa;

    fn from_str(name: &str) -> Result<Self, UnknownIsa> {
        Self::ALL.into_iter().find(|isa| isa.name() == name).ok_or(UnknownIsa)
    }
}

/// No [`Isa`] has that name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownIsa;

impl fmt::Display for UnknownIsa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no such instruction set; there are ")?;
        for (index, isa) in Isa::ALL.iter().enumerate() {
            write!(f, "{}{isa}", if index == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

impl core::error::Error for UnknownIsa {}
