//! aarch64: NEON, and SDOT where the CPU has it.
//!
//! Both multiply s8 × s8: levels lie in memory as `level − 128` ([`Isa`](crate::Isa)'s flip).

use core::arch::aarch64::*;

use crate::depthwise::{Channelwise, channelwise};
use crate::float::{Activate, FloatDepthwise, FloatFamily, HalfFamily};
use crate::pack::{Depthwise, Half, Limit};
use crate::quantized::{QuantizedDepthwise, QuantizedFamily, Requantize};
use crate::scalar::lane_by_lane;
use crate::tile::{Arithmetic, KernelsOf, kernels};

kernels!(NEON_INTEGERS_16: NeonIntegers<4>, "neon", [(4, 4), (1, 8), (2, 4), (1, 4), (4, 2), (2, 2), (1, 2), (8, 1), (4, 1), (1, 1)]);
kernels!(NEON_INTEGERS_4: NeonIntegers<1>, "neon", [(4, 4), (1, 8), (2, 4), (1, 4), (4, 2), (2, 2), (1, 2), (8, 1), (4, 1), (1, 1)]);
kernels!(DOT_INTEGERS_16: DotIntegers<4>, "neon,dotprod", [(4, 4), (1, 8), (2, 4), (1, 4), (8, 2), (4, 2), (2, 2), (1, 2), (8, 1), (4, 1), (1, 1)]);
kernels!(DOT_INTEGERS_4: DotIntegers<1>, "neon,dotprod", [(4, 4), (1, 8), (2, 4), (1, 4), (8, 2), (4, 2), (2, 2), (1, 2), (8, 1), (4, 1), (1, 1)]);
kernels!(NEON_FLOATS_4: NeonFloats<4>, "neon", [(4, 4), (1, 8), (2, 4), (1, 4), (8, 2), (4, 2), (2, 2), (1, 2), (8, 1), (4, 1), (1, 1)]);
kernels!(NEON_FLOATS_1: NeonFloats<1>, "neon", [(4, 4), (1, 8), (2, 4), (1, 4), (8, 2), (4, 2), (2, 2), (1, 2), (8, 1), (4, 1), (1, 1)]);

kernels!(NEON_HALVES_8: NeonHalves<8>, "neon,fp16", [(4, 4), (1, 8), (2, 4), (1, 4), (8, 2), (4, 2), (2, 2), (1, 2), (8, 1), (4, 1), (1, 1)]);
kernels!(NEON_HALVES_1: NeonHalves<1>, "neon,fp16", [(4, 4), (1, 8), (2, 4), (1, 4), (8, 2), (4, 2), (2, 2), (1, 2), (8, 1), (4, 1), (1, 1)]);

channelwise!(NEON_DEPTHWISE_INTEGERS: NeonIntegers<1>, "neon", [(4, 2), (2, 2), (4, 1), (2, 1), (1, 1)]);
channelwise!(NEON_DEPTHWISE_FLOATS: NeonFloats<1>, "neon", [(4, 4), (4, 2), (8, 1), (4, 1), (1, 1)]);

pub(crate) static NEON_DEPTHWISE_QUANTIZED: QuantizedDepthwise = Depthwise {
    lanes: 8,
    taps: 2,
    limit: Limit::Magnitude,
    place: tap_by_tap,
    tiles: NEON_DEPTHWISE_INTEGERS,
};
pub(crate) static NEON_DEPTHWISE_FLOAT: FloatDepthwise = Depthwise {
    lanes: 4,
    taps: 1,
    limit: Limit::None,
    place: lane_by_lane::<1>,
    tiles: NEON_DEPTHWISE_FLOATS,
};

/// All eight channels of a tap, then those of the next.
fn tap_by_tap(lane: usize, tap: usize) -> usize {
    tap * 8 + lane
}

const fn quantized<A: Arithmetic>(
    limit: Limit,
    place: fn(usize, usize) -> usize,
    kernels: &'static KernelsOf<NeonIntegers<1>>,
) -> QuantizedFamily {
    QuantizedFamily { lanes: A::LANES, depth: A::DEPTH, steps: A::STEPS, padded: true, limit, place, kernels }
}

const fn float<A: Arithmetic>(kernels: &'static KernelsOf<NeonFloats<4>>) -> FloatFamily {
    let (place, limit) = (lane_by_lane::<1> as fn(usize, usize) -> usize, Limit::None);
    FloatFamily { lanes: A::LANES, depth: A::DEPTH, steps: A::STEPS, padded: false, limit, place, kernels }
}

const fn halves<A: Arithmetic>(kernels: &'static KernelsOf<NeonHalves<8>>) -> HalfFamily {
    let (place, limit) = (lane_by_lane::<1> as fn(usize, usize) -> usize, Limit::None);
    HalfFamily { lanes: A::LANES, depth: A::DEPTH, steps: A::STEPS, padded: false, limit, place, kernels }
}

pub(crate) static NEON_HALF: &[HalfFamily] =
    &[halves::<NeonHalves<8>>(&NEON_HALVES_8), halves::<NeonHalves<1>>(&NEON_HALVES_1)];
pub(crate) static NEON_QUANTIZED: &[QuantizedFamily] = &[
    quantized::<NeonIntegers<4>>(Limit::Magnitude, pair_by_pair, &NEON_INTEGERS_16),
    quantized::<NeonIntegers<1>>(Limit::Magnitude, pair_by_pair, &NEON_INTEGERS_4),
];
pub(crate) static NEONDOT_QUANTIZED: &[QuantizedFamily] = &[
    quantized::<DotIntegers<4>>(Limit::None, lane_by_lane::<4>, &DOT_INTEGERS_16),
    quantized::<DotIntegers<1>>(Limit::None, lane_by_lane::<4>, &DOT_INTEGERS_4),
];
pub(crate) static NEON_FLOAT: &[FloatFamily] =
    &[float::<NeonFloats<4>>(&NEON_FLOATS_4), float::<NeonFloats<1>>(&NEON_FLOATS_1)];

/// The first two inputs of all four lanes, then the other two.
fn pair_by_pair(lane: usize, input: usize) -> usize {
    input / 2 * 8 + lane * 2 + input % 2
}

/// Rounds four sums, from lane `first` of `finish` on, to 32 bits.
///
/// # Safety
/// The CPU has NEON; finish covers these lanes.
#[inline(always)]
unsafe fn scaled(sums: int32x4_t, finish: &Requantize, first: usize) -> int32x4_t {
    // SAFETY: the caller vouches for it
    unsafe {
        let sums = vaddq_s32(sums, vld1q_s32(finish.bias.add(first)));
        let mut scaled = vmulq_f32(vcvtq_f32_s32(sums), vld1q_f32(finish.scale.add(first)));
        if finish.slope != 1.0 {
            scaled = vmaxnmq_f32(vmulq_n_f32(scaled, finish.slope), scaled);
        }
        vcvtnq_s32_f32(scaled)
    }
}

/// Rounds the sums of two registers to 16 bits, with the zero point. Conversions and narrowings saturate.
///
/// # Safety
/// As for [`scaled`].
#[inline(always)]
unsafe fn words(sums: [int32x4_t; 2], finish: &Requantize, first: usize) -> int16x8_t {
    // SAFETY: the caller vouches for it
    unsafe {
        let [low, high] = [scaled(sums[0], finish, first), scaled(sums[1], finish, first + 4)];
        let words = vqmovn_high_s32(vqmovn_s32(low), high);
        vqaddq_s16(words, vdupq_n_s16(finish.zero as i16))
    }
}

/// Stores the first `lanes` levels of registers of four.
///
/// # Safety
/// The CPU has NEON; finish covers all registers; `lanes` bytes can be written.
#[inline(always)]
unsafe fn store_levels<const N: usize>(sums: [int32x4_t; N], finish: &Requantize, to: *mut u8, lanes: usize) {
    // SAFETY: finish covers all registers, and no more than `lanes` bytes are written
    unsafe {
        let (low, high) = (vdupq_n_s8(finish.low as i8), vdupq_n_s8(finish.high as i8));
        let mut register = 0;
        // 16 at once, then 8, then 4; the last may be fewer
        while register + 4 <= N && register * 4 + 16 <= lanes {
            let first = register * 4;
            let one = words([sums[register], sums[register + 1]], finish, first);
            let other = words([sums[register + 2], sums[register + 3]], finish, first + 8);
            let levels = vqmovn_high_s16(vqmovn_s16(one), other);
            vst1q_s8(to.add(first).cast(), vminq_s8(vmaxq_s8(levels, low), high));
            register += 4;
        }
        while register < N {
            let first = register * 4;
            let both = if register + 1 < N {
                words([sums[register], sums[register + 1]], finish, first)
            } else {
                let words = vqmovn_s32(scaled(sums[register], finish, first));
                vqaddq_s16(vcombine_s16(words, words), vdupq_n_s16(finish.zero as i16))
            };
            let levels = vqmovn_s16(both);
            let levels = vmin_s8(vmax_s8(levels, vget_low_s8(low)), vget_low_s8(high));
            let count = lanes.saturating_sub(first);
            if register + 1 < N && count >= 8 {
                vst1_s8(to.add(first).cast(), levels);
            } else if count == 4 {
                to.add(first).cast::<u32>().write_unaligned(vget_lane_u32::<0>(vreinterpret_u32_s8(levels)));
            } else {
                let most = if register + 1 < N { 8 } else { 4 };
                let bytes = vget_lane_u64::<0>(vreinterpret_u64_s8(levels)).to_le_bytes();
                to.add(first).copy_from_nonoverlapping(bytes.as_ptr(), count.min(most));
            }
            register += 2;
        }
    }
}

/// s8 × s8 with 16-bit sums of pairs, which weights are packed never to overflow ([`Limit::Magnitude`]), in groups of
/// `STEPS` times four inputs.
pub(crate) struct NeonIntegers<const STEPS: usize>;

/// Two pairs of inputs in all lanes, and where the next two lie. Loads move the address on, which the compiler would
/// spend an instruction of its own on.
///
/// # Safety
/// The CPU has NEON; four bytes can be read.
#[inline(always)]
unsafe fn pairs(mut from: *const u8) -> (int8x16_t, int8x16_t, *const u8) {
    let (first, other);
    // SAFETY: it reads what the caller vouches for
    unsafe {
        core::arch::asm!(
            "ld1r {{{first:v}.8h}}, [{from}], #2",
            "ld1r {{{other:v}.8h}}, [{from}], #2",
            first = out(vreg) first,
            other = out(vreg) other,
            from = inout(reg) from,
            options(pure, readonly, nostack, preserves_flags),
        );
    }
    (first, other, from)
}

impl<const STEPS: usize> Arithmetic for NeonIntegers<STEPS> {
    type In = u8;
    type Weight = i8;
    type Out = u8;
    type Finish = Requantize;
    type Sums = int32x4_t;
    /// The first two inputs, and the other two, in all lanes, and where those of the next step lie.
    type Inputs = (int8x16_t, int8x16_t, *const u8);
    type Weights = int8x16_t;
    const LANES: usize = 4;
    const DEPTH: usize = 4;
    const STEPS: usize = STEPS;

    #[inline(always)]
    unsafe fn zero() -> int32x4_t {
        // SAFETY: the caller vouches for the CPU, here and below
        unsafe { vdupq_n_s32(0) }
    }

    #[inline(always)]
    unsafe fn inputs(from: *const u8) -> Self::Inputs {
        // SAFETY: as above
        unsafe { pairs(from) }
    }

    #[inline(always)]
    unsafe fn next((.., from): Self::Inputs) -> Self::Inputs {
        // SAFETY: as above
        unsafe { pairs(from) }
    }

    #[inline(always)]
    unsafe fn weights(from: *const i8) -> int8x16_t {
        // SAFETY: as above
        unsafe { vld1q_s8(from) }
    }

    #[inline(always)]
    unsafe fn add(
        sums: int32x4_t,
        (first, other, _): Self::Inputs,
        weights: int8x16_t,
        _: usize,
    ) -> int32x4_t {
        // SAFETY: as above
        unsafe {
            let mut pairs = vmull_s8(vget_low_s8(first), vget_low_s8(weights));
            // vmlal_high_s8 becomes two instructions, as the compiler sees that both halves of the inputs are the same
            core::arch::asm!(
                "smlal2 {pairs:v}.8h, {other:v}.16b, {weights:v}.16b",
                pairs = inout(vreg) pairs,
                other = in(vreg) other,
                weights = in(vreg) weights,
                options(pure, nomem, nostack, preserves_flags),
            );
            vpadalq_s16(sums, pairs)
        }
    }

    #[inline(always)]
    unsafe fn again((mut first, mut other, from): Self::Inputs, _: *const u8) -> Self::Inputs {
        // SAFETY: no instruction at all
        unsafe {
            core::arch::asm!(
                "/* {0:q} {1:q} */",
                inout(vreg) first,
                inout(vreg) other,
                options(nomem, nostack, preserves_flags),
            );
        }
        (first, other, from)
    }

    #[inline(always)]
    unsafe fn store<const N: usize>(sums: [int32x4_t; N], finish: &Requantize, to: *mut u8, lanes: usize) {
        // SAFETY: as above
        unsafe { store_levels(sums, finish, to, lanes) }
    }
}

/// s8 × s8 dot products of four, in groups of `STEPS` times that.
pub(crate) struct DotIntegers<const STEPS: usize>;

impl<const STEPS: usize> Arithmetic for DotIntegers<STEPS> {
    type In = u8;
    type Weight = i8;
    type Out = u8;
    type Finish = Requantize;
    type Sums = int32x4_t;
    type Inputs = int8x16_t;
    type Weights = int8x16_t;
    const LANES: usize = 4;
    const DEPTH: usize = 4;
    const STEPS: usize = STEPS;

    #[inline(always)]
    unsafe fn zero() -> int32x4_t {
        // SAFETY: the caller vouches for the CPU, here and below
        unsafe { vdupq_n_s32(0) }
    }

    #[inline(always)]
    unsafe fn inputs(from: *const u8) -> int8x16_t {
        // SAFETY: as above
        unsafe {
            match STEPS {
                1 => vreinterpretq_s8_s32(vdupq_n_s32(from.cast::<i32>().read_unaligned())),
                _ => vld1q_s8(from.cast()),
            }
        }
    }

    #[inline(always)]
    unsafe fn weights(from: *const i8) -> int8x16_t {
        // SAFETY: as above
        unsafe { vld1q_s8(from) }
    }

    /// `vdotq_laneq_s32` is not stable yet.
    #[inline(always)]
    unsafe fn add(sums: int32x4_t, inputs: int8x16_t, weights: int8x16_t, step: usize) -> int32x4_t {
        macro_rules! sdot {
            ($lane:literal) => {{
                let mut sums = sums;
                // SAFETY: the caller vouches for SDOT; it reads and writes registers alone
                unsafe {
                    core::arch::asm!(
                        concat!("sdot {sums:v}.4s, {weights:v}.16b, {inputs:v}.4b[", $lane, "]"),
                        sums = inout(vreg) sums,
                        weights = in(vreg) weights,
                        inputs = in(vreg) inputs,
                        options(pure, nomem, nostack, preserves_flags),
                    );
                }
                sums
            }};
        }
        match step {
            0 => sdot!("0"),
            1 => sdot!("1"),
            2 => sdot!("2"),
            _ => sdot!("3"),
        }
    }

    #[inline(always)]
    unsafe fn store<const N: usize>(sums: [int32x4_t; N], finish: &Requantize, to: *mut u8, lanes: usize) {
        // SAFETY: as above
        unsafe { store_levels(sums, finish, to, lanes) }
    }
}

/// Stores four values from lane `first` on, as far as there are `lanes`.
///
/// # Safety
/// The CPU has NEON; finish covers these four; `lanes` values can be written.
#[inline(always)]
unsafe fn store_floats(sums: float32x4_t, first: usize, finish: &Activate, to: *mut f32, lanes: usize) {
    // SAFETY: the caller vouches for it
    unsafe {
        let sums = vaddq_f32(sums, vld1q_f32(finish.bias.add(first)));
        let sloped = vmulq_f32(sums, vld1q_f32(finish.slope.add(first)));
        let mut values = vbslq_f32(vcltzq_f32(sums), sloped, sums);
        if let Some((low, high)) = finish.clip {
            values = vminnmq_f32(vmaxnmq_f32(values, vdupq_n_f32(low)), vdupq_n_f32(high));
        }
        if first + 4 <= lanes {
            vst1q_f32(to.add(first), values);
        } else if first < lanes {
            let mut whole = [0.0f32; 4];
            vst1q_f32(whole.as_mut_ptr(), values);
            to.add(first).copy_from_nonoverlapping(whole.as_ptr(), lanes - first);
        }
    }
}

/// Four lanes, in groups of `STEPS` inputs.
pub(crate) struct NeonFloats<const STEPS: usize>;

impl<const STEPS: usize> Arithmetic for NeonFloats<STEPS> {
    type In = f32;
    type Weight = f32;
    type Out = f32;
    type Finish = Activate;
    type Sums = float32x4_t;
    type Inputs = float32x4_t;
    type Weights = float32x4_t;
    const LANES: usize = 4;
    const DEPTH: usize = 1;
    const STEPS: usize = STEPS;

    #[inline(always)]
    unsafe fn zero() -> float32x4_t {
        // SAFETY: the caller vouches for the CPU, here and below
        unsafe { vdupq_n_f32(0.0) }
    }

    #[inline(always)]
    unsafe fn inputs(from: *const f32) -> float32x4_t {
        // SAFETY: as above
        unsafe { if STEPS == 1 { vdupq_n_f32(*from) } else { vld1q_f32(from) } }
    }

    #[inline(always)]
    unsafe fn weights(from: *const f32) -> float32x4_t {
        // SAFETY: as above
        unsafe { vld1q_f32(from) }
    }

    #[inline(always)]
    unsafe fn add(sums: float32x4_t, inputs: float32x4_t, weights: float32x4_t, step: usize) -> float32x4_t {
        // SAFETY: as above
        unsafe {
            match step {
                0 => vfmaq_laneq_f32::<0>(sums, weights, inputs),
                1 => vfmaq_laneq_f32::<1>(sums, weights, inputs),
                2 => vfmaq_laneq_f32::<2>(sums, weights, inputs),
                _ => vfmaq_laneq_f32::<3>(sums, weights, inputs),
            }
        }
    }

    #[inline(always)]
    unsafe fn store<const N: usize>(sums: [float32x4_t; N], finish: &Activate, to: *mut f32, lanes: usize) {
        for (register, sums) in sums.into_iter().enumerate() {
            let first = register * 4;
            // SAFETY: finish covers all registers, and no more than `lanes` values are written
            unsafe { store_floats(sums, first, finish, to, lanes) }
        }
    }
}

/// Eight lanes in float16, in groups of `STEPS` inputs, which planes hold in float32.
pub(crate) struct NeonHalves<const STEPS: usize>;

impl<const STEPS: usize> Arithmetic for NeonHalves<STEPS> {
    type In = f32;
    type Weight = Half;
    type Out = f32;
    type Finish = Activate;
    type Sums = float16x8_t;
    type Inputs = float16x8_t;
    type Weights = float16x8_t;
    const LANES: usize = 8;
    const DEPTH: usize = 1;
    const STEPS: usize = STEPS;

    #[inline(always)]
    unsafe fn zero() -> float16x8_t {
        // SAFETY: the caller vouches for the CPU, here and below
        unsafe { vreinterpretq_f16_u16(vdupq_n_u16(0)) }
    }

    #[inline(always)]
    unsafe fn inputs(from: *const f32) -> float16x8_t {
        // SAFETY: as above
        unsafe {
            if STEPS == 1 {
                let input = vcvt_f16_f32(vdupq_n_f32(*from));
                vcombine_f16(input, input)
            } else {
                vcvt_high_f16_f32(vcvt_f16_f32(vld1q_f32(from)), vld1q_f32(from.add(4)))
            }
        }
    }

    #[inline(always)]
    unsafe fn weights(from: *const Half) -> float16x8_t {
        // SAFETY: as above; a weight is its bits
        unsafe { vreinterpretq_f16_u16(vld1q_u16(from.cast())) }
    }

    /// `vfmaq_laneq_f16` is not inlined for sure into functions that enable float16 further out.
    #[inline(always)]
    unsafe fn add(sums: float16x8_t, inputs: float16x8_t, weights: float16x8_t, step: usize) -> float16x8_t {
        macro_rules! fmla {
            ($lane:literal) => {{
                let mut sums = sums;
                // SAFETY: the caller vouches for float16; it reads and writes registers alone
                unsafe {
                    core::arch::asm!(
                        concat!("fmla {sums:v}.8h, {weights:v}.8h, {inputs:v}.h[", $lane, "]"),
                        sums = inout(vreg) sums,
                        weights = in(vreg) weights,
                        inputs = in(vreg_low16) inputs,
                        options(pure, nomem, nostack, preserves_flags),
                    );
                }
                sums
            }};
        }
        match step {
            0 => fmla!("0"),
            1 => fmla!("1"),
            2 => fmla!("2"),
            3 => fmla!("3"),
            4 => fmla!("4"),
            5 => fmla!("5"),
            6 => fmla!("6"),
            _ => fmla!("7"),
        }
    }

    #[inline(always)]
    unsafe fn store<const N: usize>(sums: [float16x8_t; N], finish: &Activate, to: *mut f32, lanes: usize) {
        for (register, sums) in sums.into_iter().enumerate() {
            let first = register * 8;
            // SAFETY: finish covers all registers, and no more than `lanes` values are written
            unsafe {
                store_floats(vcvt_f32_f16(vget_low_f16(sums)), first, finish, to, lanes);
                store_floats(vcvt_high_f32_f16(sums), first + 4, finish, to, lanes);
            }
        }
    }
}

/// Pairs of taps, whose products are added in 16 bits, which weights are packed never to overflow ([`Limit::Magnitude`]).
impl Channelwise for NeonIntegers<1> {
    type In = u8;
    type Weight = i8;
    type Out = u8;
    type Finish = Requantize;
    type Sums = [int32x4_t; 2];
    type Weights = [int8x8_t; 2];
    const LANES: usize = 8;
    const TAPS: usize = 2;

    #[inline(always)]
    unsafe fn zero() -> [int32x4_t; 2] {
        // SAFETY: the caller vouches for the CPU and the pointers, here and below
        unsafe { [vdupq_n_s32(0); 2] }
    }

    #[inline(always)]
    unsafe fn weights(from: *const i8) -> [int8x8_t; 2] {
        // SAFETY: as above
        unsafe { [vld1_s8(from), vld1_s8(from.add(8))] }
    }

    #[inline(always)]
    unsafe fn add(
        sums: [int32x4_t; 2],
        from: *const u8,
        offsets: *const u32,
        weights: [int8x8_t; 2],
    ) -> [int32x4_t; 2] {
        // SAFETY: as above
        unsafe {
            let tap = |tap: usize| vld1_s8(from.add(*offsets.add(tap) as usize).cast());
            let products = vmlal_s8(vmull_s8(tap(0), weights[0]), tap(1), weights[1]);
            [vaddw_s16(sums[0], vget_low_s16(products)), vaddw_high_s16(sums[1], products)]
        }
    }

    #[inline(always)]
    unsafe fn store<const N: usize>(
        sums: [[int32x4_t; 2]; N],
        finish: &Requantize,
        to: *mut u8,
        lanes: usize,
    ) {
        for (register, sums) in sums.into_iter().enumerate() {
            let first = register * 8;
            // SAFETY: as above; finish covers all registers
            unsafe {
                let (bias, scale) = (finish.bias.add(first), finish.scale.add(first));
                let finish = Requantize { bias, scale, ..*finish };
                store_levels(sums, &finish, to.wrapping_add(first), lanes.saturating_sub(first));
            }
        }
    }
}

impl Channelwise for NeonFloats<1> {
    type In = f32;
    type Weight = f32;
    type Out = f32;
    type Finish = Activate;
    type Sums = float32x4_t;
    type Weights = float32x4_t;
    const LANES: usize = 4;
    const TAPS: usize = 1;

    #[inline(always)]
    unsafe fn zero() -> float32x4_t {
        // SAFETY: the caller vouches for the CPU and the pointers, here and below
        unsafe { vdupq_n_f32(0.0) }
    }

    #[inline(always)]
    unsafe fn weights(from: *const f32) -> float32x4_t {
        // SAFETY: as above
        unsafe { vld1q_f32(from) }
    }

    #[inline(always)]
    unsafe fn add(
        sums: float32x4_t,
        from: *const f32,
        offsets: *const u32,
        weights: float32x4_t,
    ) -> float32x4_t {
        // SAFETY: as above
        unsafe { vfmaq_f32(sums, vld1q_f32(from.add(*offsets as usize)), weights) }
    }

    #[inline(always)]
    unsafe fn store<const N: usize>(sums: [float32x4_t; N], finish: &Activate, to: *mut f32, lanes: usize) {
        // SAFETY: as above
        unsafe { <Self as Arithmetic>::store(sums, finish, to, lanes) }
    }
}

/// Bytes through a table, 16 at a time: how many were done.
///
/// # Safety
/// The CPU has NEON.
#[target_feature(enable = "neon")]
pub(crate) unsafe fn through(source: &[u8], table: &[u8; 256], target: &mut [u8]) -> usize {
    let (sources, targets) = (source.as_chunks::<16>().0, target.as_chunks_mut::<16>().0);
    // SAFETY: chunks are 16 bytes, and quarters of the table 64
    unsafe {
        let quarter = |number: usize| vld1q_u8_x4(table[64 * number..].as_ptr());
        let [a, b, c, d] = [quarter(0), quarter(1), quarter(2), quarter(3)];
        for (source, target) in sources.iter().zip(targets.iter_mut()) {
            let at = vld1q_u8(source.as_ptr());
            let next = |by: u8| vsubq_u8(at, vdupq_n_u8(by));
            // what is outside of a quarter is left as it was
            let made = vqtbl4q_u8(a, at);
            let made = vqtbx4q_u8(made, b, next(64));
            let made = vqtbx4q_u8(made, c, next(128));
            vst1q_u8(target.as_mut_ptr(), vqtbx4q_u8(made, d, next(192)));
        }
    }
    16 * sources.len().min(targets.len())
}
