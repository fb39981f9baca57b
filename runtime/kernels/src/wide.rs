//! Plain loops, compiled for the widest vectors of a CPU. Rust never contracts a product and a sum, so that all versions
//! round alike.

use crate::cpu::Cpu;
use crate::isa::Isa;

/// Does it, compiled for the CPU's instructions as far as it is inlined.
#[inline(always)]
pub(crate) fn wide<R>(cpu: Cpu, work: impl FnOnce() -> R) -> R {
    match cpu.isa() {
        // SAFETY: a `Cpu` proves that it has them
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 | Isa::AvxVnni => unsafe { avx2(work) },
        // SAFETY: as above
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512Vnni => unsafe { avx512(work) },
        _ => work(),
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn avx2<R>(work: impl FnOnce() -> R) -> R {
    work()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl")]
unsafe fn avx512<R>(work: impl FnOnce() -> R) -> R {
    work()
}
