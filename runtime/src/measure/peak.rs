//! What one core can multiply at most.

use crate::lower::Arithmetic;
use edgegen_kernels::{Cpu, multiply_floats, multiply_halves, multiply_integers};
use std::hint::black_box;
use std::time::{Duration, Instant};

/// One measurement, and how long all of them go on.
const ONE: Duration = Duration::from_micros(500);
const ALL: Duration = Duration::from_millis(40);

/// Multiply-accumulates that one core does in a nanosecond, 10⁹ a second, with the instructions of `cpu`'s family and
/// everything in registers: the best of some measurements of half a millisecond, so that clocks can rise and interruptions
/// do not count. 0 for float16 on a CPU that does not compute in it.
pub fn peak_gmacs(cpu: Cpu, arithmetic: Arithmetic) -> f64 {
    if arithmetic == Arithmetic::Float16 && !cpu.halves() {
        return 0.0;
    }
    let multiply = |rounds| match arithmetic {
        Arithmetic::Int8 => multiply_integers(cpu, rounds),
        Arithmetic::Float32 => multiply_floats(cpu, rounds),
        Arithmetic::Float16 => multiply_halves(cpu, rounds),
    };
    let time = |rounds| {
        let start = Instant::now();
        let macs = multiply(rounds);
        (start.elapsed(), macs)
    };
    let mut rounds = 64;
    while time(rounds).0 < ONE {
        rounds *= 2;
    }
    best(|| {
        let (took, macs) = time(rounds);
        macs as f64 / took.as_secs_f64() / 1e9
    })
}

/// The highest rate of some measurements.
fn best(mut measure: impl FnMut() -> f64) -> f64 {
    let (start, mut best) = (Instant::now(), 0.0f64);
    while best == 0.0 || start.elapsed() < ALL {
        best = best.max(measure());
    }
    best
}

/// Bytes that one core reads in a nanosecond, 10⁹ a second, when it goes again and again through as many as a network has: from
/// the cache that they fit. The best of some measurements.
pub fn read_gbytes(bytes: usize) -> f64 {
    const LANES: usize = 16;
    let values = vec![1u64; (bytes / 8).max(LANES)];
    let pass = || {
        let mut sums = [0u64; LANES];
        for values in black_box(&values).as_chunks::<LANES>().0 {
            sums.iter_mut().zip(values).for_each(|(sum, value)| *sum = sum.wrapping_add(*value));
        }
        black_box(sums);
    };
    best(|| {
        let (mut passes, before) = (0u64, Instant::now());
        while passes == 0 || before.elapsed() < ONE {
            pass();
            passes += 1;
        }
        (passes * values.len() as u64 * 8) as f64 / before.elapsed().as_secs_f64() / 1e9
    })
}
