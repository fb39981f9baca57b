//! Kernels without special instructions: the reference, and what runs where there are none.

use crate::float::{Activate, FloatFamily};
use crate::pack::Limit;
use crate::quantized::{MOST_LEVELS, QuantizedFamily, Requantize};
use crate::tile::{Arithmetic, kernels};

kernels!(INTEGERS: Integers, [(2, 2), (1, 2), (2, 1), (1, 1)]);
kernels!(FLOATS: Floats, [(2, 2), (1, 2), (2, 1), (1, 1)]);

pub(crate) static QUANTIZED: &[QuantizedFamily] = &[QuantizedFamily {
    lanes: Integers::LANES,
    depth: Integers::DEPTH,
    steps: Integers::STEPS,
    padded: true,
    limit: Limit::None,
    place: lane_by_lane::<{ Integers::DEPTH }>,
    kernels: &INTEGERS,
}];

pub(crate) static FLOAT: &[FloatFamily] = &[FloatFamily {
    lanes: Floats::LANES,
    depth: Floats::DEPTH,
    steps: Floats::STEPS,
    padded: false,
    limit: Limit::None,
    place: lane_by_lane::<{ Floats::DEPTH }>,
    kernels: &FLOATS,
}];

/// The inputs of a lane side by side.
pub(crate) fn lane_by_lane<const DEPTH: usize>(lane: usize, input: usize) -> usize {
    lane * DEPTH + input
}

pub(crate) struct Integers;

impl Arithmetic for Integers {
    type In = u8;
    type Weight = i8;
    type Out = u8;
    type Finish = Requantize;
    type Sums = [i32; 4];
    type Inputs = [u8; 4];
    type Weights = [i8; 16];
    const LANES: usize = 4;
    const DEPTH: usize = 4;
    const STEPS: usize = 1;

    #[inline(always)]
    unsafe fn zero() -> [i32; 4] {
        [0; 4]
    }

    #[inline(always)]
    unsafe fn inputs(from: *const u8) -> [u8; 4] {
        // SAFETY: the caller vouches for four bytes
        unsafe { from.cast::<[u8; 4]>().read_unaligned() }
    }

    #[inline(always)]
    unsafe fn weights(from: *const i8) -> [i8; 16] {
        // SAFETY: the caller vouches for four weights of four lanes
        unsafe { from.cast::<[i8; 16]>().read_unaligned() }
    }

    #[inline(always)]
    unsafe fn add(sums: [i32; 4], inputs: [u8; 4], weights: [i8; 16], _: usize) -> [i32; 4] {
        core::array::from_fn(|lane| {
            let product = |input: usize| i32::from(inputs[input]) * i32::from(weights[lane * 4 + input]);
            sums[lane].wrapping_add(product(0) + product(1) + product(2) + product(3))
        })
    }

    #[inline(always)]
    unsafe fn again(_: Self::Inputs, from: *const Self::In) -> Self::Inputs {
        // SAFETY: the caller vouches for the inputs
        unsafe { Self::inputs(core::hint::black_box(from)) }
    }

    #[inline(always)]
    unsafe fn store<const N: usize>(sums: [[i32; 4]; N], finish: &Requantize, to: *mut u8, lanes: usize) {
        for (lane, sum) in sums.as_flattened().iter().enumerate().take(lanes) {
            // SAFETY: finish covers all lanes, and `lanes` values can be written
            unsafe {
                let sum = sum.wrapping_add(*finish.bias.add(lane));
                let scaled = sum as f32 * *finish.scale.add(lane);
                let scaled = scaled.max(scaled * finish.slope).min(MOST_LEVELS);
                let level = (libm::rintf(scaled) as i32).saturating_add(finish.zero).clamp(0, 255) as u8;
                *to.add(lane) = level.max(finish.low).min(finish.high);
            }
        }
    }
}

pub(crate) struct Floats;

impl Arithmetic for Floats {
    type In = f32;
    type Weight = f32;
    type Out = f32;
    type Finish = Activate;
    type Sums = [f32; 4];
    type Inputs = f32;
    type Weights = [f32; 4];
    const LANES: usize = 4;
    const DEPTH: usize = 1;
    const STEPS: usize = 1;

    #[inline(always)]
    unsafe fn zero() -> [f32; 4] {
        [0.0; 4]
    }

    #[inline(always)]
    unsafe fn inputs(from: *const f32) -> f32 {
        // SAFETY: the caller vouches for it
        unsafe { *from }
    }

    #[inline(always)]
    unsafe fn weights(from: *const f32) -> [f32; 4] {
        // SAFETY: the caller vouches for four lanes
        unsafe { from.cast::<[f32; 4]>().read_unaligned() }
    }

    #[inline(always)]
    unsafe fn add(sums: [f32; 4], input: f32, weights: [f32; 4], _: usize) -> [f32; 4] {
        core::array::from_fn(|lane| sums[lane] + input * weights[lane])
    }

    #[inline(always)]
    unsafe fn again(_: Self::Inputs, from: *const Self::In) -> Self::Inputs {
        // SAFETY: the caller vouches for the inputs
        unsafe { Self::inputs(core::hint::black_box(from)) }
    }

    #[inline(always)]
    unsafe fn store<const N: usize>(sums: [[f32; 4]; N], finish: &Activate, to: *mut f32, lanes: usize) {
        for (lane, sum) in sums.as_flattened().iter().enumerate().take(lanes) {
            // SAFETY: finish covers all lanes, and `lanes` values can be written
            unsafe {
                let value = sum + *finish.bias.add(lane);
                *to.add(lane) = value.max(value * finish.slope);
            }
        }
    }
}
