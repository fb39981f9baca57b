//! Kernels without special instructions: the reference, and what runs where there are none.

use crate::depthwise::{Channelwise, channelwise};
use crate::float::{Activate, FloatDepthwise, FloatFamily};
use crate::pack::{Depthwise, Limit};
use crate::quantized::{MOST_LEVELS, QuantizedDepthwise, QuantizedFamily, Requantize};
use crate::tile::{Arithmetic, kernels};

kernels!(INTEGERS: Integers, [(2, 2), (1, 2), (2, 1), (1, 1)]);
kernels!(FLOATS: Floats, [(2, 2), (1, 2), (2, 1), (1, 1)]);
channelwise!(DEPTHWISE_INTEGERS: Integers, [(2, 1), (1, 1)]);
channelwise!(DEPTHWISE_FLOATS: Floats, [(2, 1), (1, 1)]);

pub(crate) static QUANTIZED: &[QuantizedFamily] = &[QuantizedFamily {
    lanes: <Integers as Arithmetic>::LANES,
    depth: Integers::DEPTH,
    steps: Integers::STEPS,
    padded: true,
    limit: Limit::None,
    place: lane_by_lane::<{ Integers::DEPTH }>,
    kernels: &INTEGERS,
}];

pub(crate) static FLOAT: &[FloatFamily] = &[FloatFamily {
    lanes: <Floats as Arithmetic>::LANES,
    depth: Floats::DEPTH,
    steps: Floats::STEPS,
    padded: false,
    limit: Limit::None,
    place: lane_by_lane::<{ Floats::DEPTH }>,
    kernels: &FLOATS,
}];

pub(crate) static DEPTHWISE_QUANTIZED: QuantizedDepthwise =
    Depthwise { lanes: 4, taps: 1, limit: Limit::None, place: lane_by_lane::<1>, tiles: DEPTHWISE_INTEGERS };

pub(crate) static DEPTHWISE_FLOAT: FloatDepthwise =
    Depthwise { lanes: 4, taps: 1, limit: Limit::None, place: lane_by_lane::<1>, tiles: DEPTHWISE_FLOATS };

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

/// a · b + c, rounded once, as the other families' instructions do.
#[inline(always)]
#[cfg(target_arch = "aarch64")]
fn fused(a: f32, b: f32, c: f32) -> f32 {
    libm::fmaf(a, b, c)
}

/// a · b + c, rounded once, as the other families' instructions do. The product is exact in float64; their sum is rounded
/// to odd, which makes the second rounding, to float32, that of the exact sum (S. Boldo, G. Melquiond, "Emulation of a
/// FMA and correctly rounded sums", 2008). Without branches, so that lanes share instructions: a fifth of the time of libm's.
#[inline(always)]
#[cfg(not(target_arch = "aarch64"))]
fn fused(a: f32, b: f32, c: f32) -> f32 {
    let (product, c) = (f64::from(a) * f64::from(b), f64::from(c));
    let sum = product + c;
    // what the sum lost (D. Knuth's two-sum)
    let part = sum - product;
    let lost = (product - (sum - part)) + (c - part);
    let bits = sum.to_bits();
    // one place towards what was lost, if it lost something and is even; what is not finite loses nothing
    let even = u64::from(lost.abs() > 0.0) & !bits & 1;
    let inwards = (lost.to_bits() ^ bits) >> 63;
    f64::from_bits(bits.wrapping_add(even).wrapping_sub((even & inwards) << 1)) as f32
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
        core::array::from_fn(|lane| fused(input, weights[lane], sums[lane]))
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
                let value = if value < 0.0 { value * *finish.slope.add(lane) } else { value };
                *to.add(lane) = finish.clip.map_or(value, |(low, high)| value.max(low).min(high));
            }
        }
    }
}

impl Channelwise for Integers {
    type In = u8;
    type Weight = i8;
    type Out = u8;
    type Finish = Requantize;
    type Sums = [i32; 4];
    type Weights = [i8; 4];
    const LANES: usize = 4;
    const TAPS: usize = 1;

    #[inline(always)]
    unsafe fn zero() -> [i32; 4] {
        [0; 4]
    }

    #[inline(always)]
    unsafe fn weights(from: *const i8) -> [i8; 4] {
        // SAFETY: the caller vouches for four lanes, here and below
        unsafe { from.cast::<[i8; 4]>().read_unaligned() }
    }

    #[inline(always)]
    unsafe fn add(sums: [i32; 4], from: *const u8, offsets: *const u32, weights: [i8; 4]) -> [i32; 4] {
        // SAFETY: as above
        let inputs = unsafe { from.add(*offsets as usize).cast::<[u8; 4]>().read_unaligned() };
        core::array::from_fn(|lane| {
            sums[lane].wrapping_add(i32::from(inputs[lane]) * i32::from(weights[lane]))
        })
    }

    #[inline(always)]
    unsafe fn store<const N: usize>(sums: [[i32; 4]; N], finish: &Requantize, to: *mut u8, lanes: usize) {
        // SAFETY: as above
        unsafe { <Self as Arithmetic>::store(sums, finish, to, lanes) }
    }
}

impl Channelwise for Floats {
    type In = f32;
    type Weight = f32;
    type Out = f32;
    type Finish = Activate;
    type Sums = [f32; 4];
    type Weights = [f32; 4];
    const LANES: usize = 4;
    const TAPS: usize = 1;

    #[inline(always)]
    unsafe fn zero() -> [f32; 4] {
        [0.0; 4]
    }

    #[inline(always)]
    unsafe fn weights(from: *const f32) -> [f32; 4] {
        // SAFETY: the caller vouches for four lanes, here and below
        unsafe { from.cast::<[f32; 4]>().read_unaligned() }
    }

    #[inline(always)]
    unsafe fn add(sums: [f32; 4], from: *const f32, offsets: *const u32, weights: [f32; 4]) -> [f32; 4] {
        // SAFETY: as above
        let inputs = unsafe { from.add(*offsets as usize).cast::<[f32; 4]>().read_unaligned() };
        core::array::from_fn(|lane| fused(inputs[lane], weights[lane], sums[lane]))
    }

    #[inline(always)]
    unsafe fn store<const N: usize>(sums: [[f32; 4]; N], finish: &Activate, to: *mut f32, lanes: usize) {
        // SAFETY: as above
        unsafe { <Self as Arithmetic>::store(sums, finish, to, lanes) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_rounded_once() {
        // numbers of all sizes and signs, neighbours whose products nearly cancel, and what is not finite
        let mut state = 0x9e37_79b9_7f4a_7c15u64;
        let mut any = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 32) as u32
        };
        let rounds = if cfg!(miri) { 500 } else { 3_000_000 };
        for round in 0..rounds {
            let mut number = || match round % 3 {
                0 => f32::from_bits(any()),
                _ => f32::from_bits(any() & 0x83ff_ffff | 0x3c00_0000),
            };
            let (a, b) = (number(), number());
            let c = match round % 5 {
                0 => -a * b,
                1 => f32::from_bits((a * b).to_bits() ^ 0x8000_0001),
                2 => a * b * f32::from_bits(0x3380_0000 + (any() & 0xff)),
                _ => number(),
            };
            let (found, expected) = (fused(a, b, c), libm::fmaf(a, b, c));
            assert!(
                found.to_bits() == expected.to_bits() || found.is_nan() && expected.is_nan(),
                "{a:e} · {b:e} + {c:e}: {found:e}, not {expected:e}"
            );
        }
    }
}
