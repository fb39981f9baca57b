//! What a family's multipliers can do at most, to measure layers against.

use crate::cpu::Cpu;
use crate::pack::Family;
use crate::tile::SUMS;

/// Values that [`Arithmetic::inputs`](crate::tile::Arithmetic) or a register's weights may read.
const VALUES: usize = 64;

/// Multiplies for a while in registers, with no memory in the way, in u8 × s8: returns how many multiply-accumulates these
/// were. Time it to know the most that one core can do.
pub fn multiply_integers(cpu: Cpu, rounds: usize) -> u64 {
    multiply(&crate::quantized::families(cpu.isa())[0], [1; VALUES], [1; VALUES], rounds)
}

/// [`multiply_integers`] in float32.
pub fn multiply_floats(cpu: Cpu, rounds: usize) -> u64 {
    multiply(&crate::float::families(cpu.isa())[0], [1.0; VALUES], [1e-3; VALUES], rounds)
}

/// [`multiply_integers`] in float16; 0 if the CPU does not ([`Cpu::halves`]).
pub fn multiply_halves(cpu: Cpu, rounds: usize) -> u64 {
    let (one, small) = (1.0, crate::pack::Half::of(1e-3));
    crate::float::half_families(cpu)
        .map_or(0, |families| multiply(&families[0], [one; VALUES], [small; VALUES], rounds))
}

fn multiply<In, Weight, Out, Finish>(
    family: &Family<In, Weight, Out, Finish>,
    inputs: [In; VALUES],
    weights: [Weight; VALUES],
    rounds: usize,
) -> u64 {
    debug_assert!(family.depth * family.steps <= VALUES && family.depth * family.lanes <= VALUES);
    // SAFETY: a family is chosen by a `Cpu`, which proves that it can run here; both arrays hold what is read
    unsafe { (family.kernels.multiply)(inputs.as_ptr(), weights.as_ptr(), rounds) };
    (rounds * SUMS * family.lanes * family.depth) as u64
}
