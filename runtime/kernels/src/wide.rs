//! Plain loops, compiled for the widest vectors of a CPU. Rust never contracts a product and a sum, so that all versions
//! round alike.

/// Runs a block compiled for the CPU's instructions: `wide!(cpu, [generics], (name: type, …), { … })`. The block reads the names
/// alone, which are variables of the place where it stands. What it calls should be inlined always, and be no closure of more
/// than a few instructions: the compiler inlines those where it likes.
macro_rules! wide {
    ($cpu:expr, ($($name:ident: $type:ty),* $(,)?), $block:block) => {
        $crate::wide::wide!($cpu, [], ($($name: $type),*), $block)
    };
    ($cpu:expr, [$($generics:tt)*], ($($name:ident: $type:ty),* $(,)?), $block:block) => {{
        #[allow(clippy::too_many_arguments, reason = "they are variables of the block")]
        #[inline(always)]
        fn plain<$($generics)*>($($name: $type),*) $block

        #[cfg(target_arch = "x86_64")]
        #[allow(clippy::too_many_arguments, reason = "as above")]
        #[target_feature(enable = "avx2")]
        unsafe fn avx2<$($generics)*>($($name: $type),*) {
            plain($($name),*)
        }

        #[cfg(target_arch = "x86_64")]
        #[allow(clippy::too_many_arguments, reason = "as above")]
        #[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl")]
        unsafe fn avx512<$($generics)*>($($name: $type),*) {
            plain($($name),*)
        }

        match $cpu.isa() {
            // SAFETY: a `Cpu` proves that it has them
            #[cfg(target_arch = "x86_64")]
            $crate::isa::Isa::Avx2 | $crate::isa::Isa::AvxVnni => unsafe { avx2($($name),*) },
            // SAFETY: as above
            #[cfg(target_arch = "x86_64")]
            $crate::isa::Isa::Avx512Vnni => unsafe { avx512($($name),*) },
            _ => plain($($name),*),
        }
    }};
}
pub(crate) use wide;
