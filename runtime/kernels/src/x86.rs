//! x86-64: AVX2 with FMA, AVX-VNNI, AVX-512 with VNNI.

use core::arch::x86_64::*;

use crate::depthwise::{Channelwise, channelwise};
use crate::float::{Activate, FloatDepthwise, FloatFamily};
use crate::pack::{Depthwise, Limit};
use crate::quantized::{MOST_LEVELS, QuantizedDepthwise, QuantizedFamily, Requantize};
use crate::scalar::lane_by_lane;
use crate::tile::{Arithmetic, KernelsOf, kernels};

kernels!(AVX2_INTEGERS: Avx2Integers<false>, "avx2,fma", [(5, 2), (4, 2), (3, 3), (1, 8), (1, 4), (2, 2), (1, 2), (8, 1), (4, 1), (1, 1)]);
kernels!(AVXVNNI_INTEGERS: Avx2Integers<true>, "avx2,fma,avxvnni", [(6, 2), (4, 2), (4, 3), (1, 8), (1, 4), (2, 2), (1, 2), (8, 1), (4, 1), (1, 1)]);
kernels!(AVX512_INTEGERS: Avx512Integers, "avx2,fma,avx512f,avx512bw,avx512vl,avx512vnni",
    [(6, 4), (4, 4), (8, 3), (1, 8), (1, 4), (2, 4), (8, 2), (4, 2), (1, 2), (16, 1), (11, 1), (8, 1), (4, 1), (1, 1)]);
kernels!(AVX2_FLOATS: Avx2Floats, "avx2,fma", [(6, 2), (5, 2), (4, 2), (3, 3), (1, 8), (1, 4), (2, 2), (1, 2), (8, 1), (4, 1), (1, 1)]);
kernels!(AVX512_FLOATS: Avx512Floats, "avx2,fma,avx512f,avx512bw,avx512vl",
    [(6, 4), (4, 4), (8, 3), (1, 8), (1, 4), (2, 4), (8, 2), (4, 2), (1, 2), (16, 1), (11, 1), (8, 1), (4, 1), (1, 1)]);
channelwise!(AVX2_DEPTHWISE_INTEGERS: Avx2Integers<false>, "avx2,fma", [(4, 2), (8, 1), (4, 1), (1, 1)]);
channelwise!(AVX512_DEPTHWISE_INTEGERS: Avx512Integers, "avx2,fma,avx512f,avx512bw,avx512vl,avx512vnni", [(4, 2), (8, 1), (4, 1), (1, 1)]);
channelwise!(AVX2_DEPTHWISE_FLOATS: Avx2Floats, "avx2,fma", [(4, 2), (8, 1), (4, 1), (1, 1)]);
channelwise!(AVX512_DEPTHWISE_FLOATS: Avx512Floats, "avx2,fma,avx512f,avx512bw,avx512vl", [(8, 2), (4, 2), (8, 1), (4, 1), (1, 1)]);

pub(crate) static AVX2_DEPTHWISE_QUANTIZED: QuantizedDepthwise = Depthwise {
    lanes: 8,
    taps: 2,
    limit: Limit::None,
    place: lane_by_lane::<2>,
    tiles: AVX2_DEPTHWISE_INTEGERS,
};
pub(crate) static AVX512_DEPTHWISE_QUANTIZED: QuantizedDepthwise = Depthwise {
    lanes: 16,
    taps: 4,
    limit: Limit::None,
    place: lane_by_lane::<4>,
    tiles: AVX512_DEPTHWISE_INTEGERS,
};
pub(crate) static AVX2_DEPTHWISE_FLOAT: FloatDepthwise = Depthwise {
    lanes: 8,
    taps: 1,
    limit: Limit::None,
    place: lane_by_lane::<1>,
    tiles: AVX2_DEPTHWISE_FLOATS,
};
pub(crate) static AVX512_DEPTHWISE_FLOAT: FloatDepthwise = Depthwise {
    lanes: 16,
    taps: 1,
    limit: Limit::None,
    place: lane_by_lane::<1>,
    tiles: AVX512_DEPTHWISE_FLOATS,
};

const fn quantized<A: Arithmetic>(
    limit: Limit,
    kernels: &'static KernelsOf<Avx512Integers>,
) -> QuantizedFamily {
    let place = lane_by_lane::<4>;
    QuantizedFamily { lanes: A::LANES, depth: A::DEPTH, steps: A::STEPS, padded: true, limit, place, kernels }
}

const fn float<A: Arithmetic>(kernels: &'static KernelsOf<Avx2Floats>) -> FloatFamily {
    let (place, limit) = (lane_by_lane::<1> as fn(usize, usize) -> usize, Limit::None);
    FloatFamily { lanes: A::LANES, depth: A::DEPTH, steps: A::STEPS, padded: false, limit, place, kernels }
}

pub(crate) static AVX2_QUANTIZED: &[QuantizedFamily] =
    &[quantized::<Avx2Integers<false>>(Limit::Pairs, &AVX2_INTEGERS)];
pub(crate) static AVXVNNI_QUANTIZED: &[QuantizedFamily] =
    &[quantized::<Avx2Integers<true>>(Limit::None, &AVXVNNI_INTEGERS)];
pub(crate) static AVX512_QUANTIZED: &[QuantizedFamily] =
    &[quantized::<Avx512Integers>(Limit::None, &AVX512_INTEGERS)];
pub(crate) static AVX2_FLOAT: &[FloatFamily] = &[float::<Avx2Floats>(&AVX2_FLOATS)];
pub(crate) static AVX512_FLOAT: &[FloatFamily] = &[float::<Avx512Floats>(&AVX512_FLOATS)];

/// Eight sums to levels, in the low half.
///
/// # Safety
/// The CPU has AVX2, and `bias` and `scale` eight lanes.
#[inline(always)]
unsafe fn levels_of_8(sums: __m256i, bias: *const i32, scale: *const f32, finish: &Requantize) -> __m128i {
    // SAFETY: the caller vouches for the CPU and the lanes
    unsafe {
        let sums = _mm256_add_epi32(sums, _mm256_loadu_si256(bias.cast()));
        let mut scaled = _mm256_mul_ps(_mm256_cvtepi32_ps(sums), _mm256_loadu_ps(scale));
        if finish.slope != 1.0 {
            scaled = _mm256_max_ps(_mm256_mul_ps(scaled, _mm256_set1_ps(finish.slope)), scaled);
        }
        // what is too low becomes the lowest integer anyway
        let rounded = _mm256_cvtps_epi32(_mm256_min_ps(scaled, _mm256_set1_ps(MOST_LEVELS)));
        let words = _mm_packs_epi32(_mm256_castsi256_si128(rounded), _mm256_extracti128_si256::<1>(rounded));
        let words = _mm_adds_epi16(words, _mm_set1_epi16(finish.zero as i16));
        let levels = _mm_packus_epi16(words, words);
        let levels = _mm_max_epu8(levels, _mm_set1_epi8(finish.low as i8));
        _mm_min_epu8(levels, _mm_set1_epi8(finish.high as i8))
    }
}

/// Stores the first `lanes` levels of registers of eight.
///
/// # Safety
/// The CPU has AVX2; finish covers all registers; `lanes` bytes can be written.
#[inline(always)]
unsafe fn store_levels<const N: usize>(sums: [__m256i; N], finish: &Requantize, to: *mut u8, lanes: usize) {
    for (register, sums) in sums.into_iter().enumerate() {
        let first = register * 8;
        // SAFETY: finish covers all registers, and no more than `lanes` bytes are written
        unsafe {
            let levels = levels_of_8(sums, finish.bias.add(first), finish.scale.add(first), finish);
            if first + 8 <= lanes {
                _mm_storel_epi64(to.add(first).cast(), levels);
            } else {
                let levels = _mm_cvtsi128_si64(levels).to_le_bytes();
                to.add(first).copy_from_nonoverlapping(levels.as_ptr(), lanes.saturating_sub(first));
            }
        }
    }
}

/// u8 × s8, eight lanes: by dot products of four where the CPU has them, else with 16-bit sums of pairs, which weights are
/// packed never to overflow ([`Limit::Pairs`]).
pub(crate) struct Avx2Integers<const VNNI: bool>;

impl<const VNNI: bool> Arithmetic for Avx2Integers<VNNI> {
    type In = u8;
    type Weight = i8;
    type Out = u8;
    type Finish = Requantize;
    type Sums = __m256i;
    type Inputs = __m256i;
    type Weights = __m256i;
    const LANES: usize = 8;
    const DEPTH: usize = 4;
    const STEPS: usize = 1;

    #[inline(always)]
    unsafe fn zero() -> __m256i {
        // SAFETY: the caller vouches for the CPU, here and below
        unsafe { _mm256_setzero_si256() }
    }

    #[inline(always)]
    unsafe fn inputs(from: *const u8) -> __m256i {
        // SAFETY: as above
        unsafe { _mm256_set1_epi32(from.cast::<i32>().read_unaligned()) }
    }

    #[inline(always)]
    unsafe fn weights(from: *const i8) -> __m256i {
        // SAFETY: as above
        unsafe { _mm256_loadu_si256(from.cast()) }
    }

    #[inline(always)]
    unsafe fn add(sums: __m256i, inputs: __m256i, weights: __m256i, _: usize) -> __m256i {
        // SAFETY: as above
        unsafe {
            if VNNI {
                return _mm256_dpbusd_avx_epi32(sums, inputs, weights);
            }
            let pairs = _mm256_maddubs_epi16(inputs, weights);
            _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
        }
    }

    #[inline(always)]
    unsafe fn again(inputs: __m256i, mut from: *const u8) -> __m256i {
        if VNNI {
            return inputs;
        }
        // SAFETY: no instruction at all; the caller vouches for the inputs
        unsafe {
            core::arch::asm!("/* {0} */", inout(reg) from, options(readonly, nostack, preserves_flags));
            Self::inputs(from)
        }
    }

    #[inline(always)]
    unsafe fn store<const N: usize>(sums: [__m256i; N], finish: &Requantize, to: *mut u8, lanes: usize) {
        // SAFETY: as above
        unsafe { store_levels(sums, finish, to, lanes) }
    }
}

/// The first `lanes` of 16.
#[inline(always)]
fn mask_of_16(lanes: usize) -> __mmask16 {
    if lanes >= 16 { 0xffff } else { ((1u32 << lanes) - 1) as __mmask16 }
}

/// u8 × s8 dot products of four, 16 lanes.
pub(crate) struct Avx512Integers;

impl Arithmetic for Avx512Integers {
    type In = u8;
    type Weight = i8;
    type Out = u8;
    type Finish = Requantize;
    type Sums = __m512i;
    type Inputs = __m512i;
    type Weights = __m512i;
    const LANES: usize = 16;
    const DEPTH: usize = 4;
    const STEPS: usize = 1;

    #[inline(always)]
    unsafe fn zero() -> __m512i {
        // SAFETY: the caller vouches for the CPU, here and below
        unsafe { _mm512_setzero_si512() }
    }

    #[inline(always)]
    unsafe fn inputs(from: *const u8) -> __m512i {
        // SAFETY: as above
        unsafe { _mm512_set1_epi32(from.cast::<i32>().read_unaligned()) }
    }

    #[inline(always)]
    unsafe fn weights(from: *const i8) -> __m512i {
        // SAFETY: as above
        unsafe { _mm512_loadu_si512(from.cast()) }
    }

    #[inline(always)]
    unsafe fn add(sums: __m512i, inputs: __m512i, weights: __m512i, _: usize) -> __m512i {
        // SAFETY: as above
        unsafe { _mm512_dpbusd_epi32(sums, inputs, weights) }
    }

    #[inline(always)]
    unsafe fn store<const N: usize>(sums: [__m512i; N], finish: &Requantize, to: *mut u8, lanes: usize) {
        for (register, sums) in sums.into_iter().enumerate() {
            let first = register * 16;
            // SAFETY: finish covers all registers, and no more than `lanes` bytes are written
            unsafe {
                let sums = _mm512_add_epi32(sums, _mm512_loadu_si512(finish.bias.add(first).cast()));
                let mut scaled =
                    _mm512_mul_ps(_mm512_cvtepi32_ps(sums), _mm512_loadu_ps(finish.scale.add(first)));
                if finish.slope != 1.0 {
                    scaled = _mm512_max_ps(_mm512_mul_ps(scaled, _mm512_set1_ps(finish.slope)), scaled);
                }
                let rounded = _mm512_cvtps_epi32(_mm512_min_ps(scaled, _mm512_set1_ps(MOST_LEVELS)));
                // the lowest integer does not wrap: zero is not negative here
                let moved = _mm512_add_epi32(rounded, _mm512_set1_epi32(finish.zero));
                let levels = _mm512_cvtusepi32_epi8(_mm512_max_epi32(moved, _mm512_setzero_si512()));
                let levels = _mm_max_epu8(levels, _mm_set1_epi8(finish.low as i8));
                let levels = _mm_min_epu8(levels, _mm_set1_epi8(finish.high as i8));
                _mm_mask_storeu_epi8(to.add(first).cast(), mask_of_16(lanes.saturating_sub(first)), levels);
            }
        }
    }
}

/// Eight lanes.
pub(crate) struct Avx2Floats;

impl Arithmetic for Avx2Floats {
    type In = f32;
    type Weight = f32;
    type Out = f32;
    type Finish = Activate;
    type Sums = __m256;
    type Inputs = __m256;
    type Weights = __m256;
    const LANES: usize = 8;
    const DEPTH: usize = 1;
    const STEPS: usize = 1;

    #[inline(always)]
    unsafe fn zero() -> __m256 {
        // SAFETY: the caller vouches for the CPU, here and below
        unsafe { _mm256_setzero_ps() }
    }

    #[inline(always)]
    unsafe fn inputs(from: *const f32) -> __m256 {
        // SAFETY: as above
        unsafe { _mm256_set1_ps(*from) }
    }

    #[inline(always)]
    unsafe fn weights(from: *const f32) -> __m256 {
        // SAFETY: as above
        unsafe { _mm256_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn add(sums: __m256, inputs: __m256, weights: __m256, _: usize) -> __m256 {
        // SAFETY: as above
        unsafe { _mm256_fmadd_ps(inputs, weights, sums) }
    }

    #[inline(always)]
    unsafe fn store<const N: usize>(sums: [__m256; N], finish: &Activate, to: *mut f32, lanes: usize) {
        for (register, sums) in sums.into_iter().enumerate() {
            let first = register * 8;
            // SAFETY: finish covers all registers, and no more than `lanes` values are written
            unsafe {
                let sums = _mm256_add_ps(sums, _mm256_loadu_ps(finish.bias.add(first)));
                let sloped = _mm256_mul_ps(sums, _mm256_loadu_ps(finish.slope.add(first)));
                // by the sign
                let mut values = _mm256_blendv_ps(sums, sloped, sums);
                if let Some((low, high)) = finish.clip {
                    values = _mm256_max_ps(values, _mm256_set1_ps(low));
                    values = _mm256_min_ps(values, _mm256_set1_ps(high));
                }
                if first + 8 <= lanes {
                    _mm256_storeu_ps(to.add(first), values);
                } else {
                    let mut whole = [0.0f32; 8];
                    _mm256_storeu_ps(whole.as_mut_ptr(), values);
                    to.add(first).copy_from_nonoverlapping(whole.as_ptr(), lanes.saturating_sub(first));
                }
            }
        }
    }
}

/// Sixteen lanes.
pub(crate) struct Avx512Floats;

impl Arithmetic for Avx512Floats {
    type In = f32;
    type Weight = f32;
    type Out = f32;
    type Finish = Activate;
    type Sums = __m512;
    type Inputs = __m512;
    type Weights = __m512;
    const LANES: usize = 16;
    const DEPTH: usize = 1;
    const STEPS: usize = 1;

    #[inline(always)]
    unsafe fn zero() -> __m512 {
        // SAFETY: the caller vouches for the CPU, here and below
        unsafe { _mm512_setzero_ps() }
    }

    #[inline(always)]
    unsafe fn inputs(from: *const f32) -> __m512 {
        // SAFETY: as above
        unsafe { _mm512_set1_ps(*from) }
    }

    #[inline(always)]
    unsafe fn weights(from: *const f32) -> __m512 {
        // SAFETY: as above
        unsafe { _mm512_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn add(sums: __m512, inputs: __m512, weights: __m512, _: usize) -> __m512 {
        // SAFETY: as above
        unsafe { _mm512_fmadd_ps(inputs, weights, sums) }
    }

    #[inline(always)]
    unsafe fn store<const N: usize>(sums: [__m512; N], finish: &Activate, to: *mut f32, lanes: usize) {
        for (register, sums) in sums.into_iter().enumerate() {
            let first = register * 16;
            // SAFETY: finish covers all registers, and no more than `lanes` values are written
            unsafe {
                let sums = _mm512_add_ps(sums, _mm512_loadu_ps(finish.bias.add(first)));
                let below = _mm512_cmp_ps_mask::<_CMP_LT_OQ>(sums, _mm512_setzero_ps());
                let mut values =
                    _mm512_mask_mul_ps(sums, below, sums, _mm512_loadu_ps(finish.slope.add(first)));
                if let Some((low, high)) = finish.clip {
                    values = _mm512_max_ps(values, _mm512_set1_ps(low));
                    values = _mm512_min_ps(values, _mm512_set1_ps(high));
                }
                _mm512_mask_storeu_ps(to.add(first), mask_of_16(lanes.saturating_sub(first)), values);
            }
        }
    }
}

/// Pairs of taps, interleaved and widened to 16 bits: no product and no sum of two overflows.
impl Channelwise for Avx2Integers<false> {
    type In = u8;
    type Weight = i8;
    type Out = u8;
    type Finish = Requantize;
    type Sums = __m256i;
    type Weights = __m256i;
    const LANES: usize = 8;
    const TAPS: usize = 2;

    #[inline(always)]
    unsafe fn zero() -> __m256i {
        // SAFETY: the caller vouches for the CPU and the pointers, here and below
        unsafe { _mm256_setzero_si256() }
    }

    #[inline(always)]
    unsafe fn weights(from: *const i8) -> __m256i {
        // SAFETY: as above
        unsafe { _mm256_cvtepi8_epi16(_mm_loadu_si128(from.cast())) }
    }

    #[inline(always)]
    unsafe fn add(sums: __m256i, from: *const u8, offsets: *const u32, weights: __m256i) -> __m256i {
        // SAFETY: as above
        unsafe {
            let tap = |tap: usize| _mm_loadl_epi64(from.add(*offsets.add(tap) as usize).cast());
            let inputs = _mm256_cvtepu8_epi16(_mm_unpacklo_epi8(tap(0), tap(1)));
            _mm256_add_epi32(sums, _mm256_madd_epi16(inputs, weights))
        }
    }

    #[inline(always)]
    unsafe fn store<const N: usize>(sums: [__m256i; N], finish: &Requantize, to: *mut u8, lanes: usize) {
        // SAFETY: as above
        unsafe { store_levels(sums, finish, to, lanes) }
    }
}

/// `_mm512_permutexvar_epi32`, which the compiler would join with the shuffle behind it and cut into eight others.
///
/// # Safety
/// The CPU has AVX-512.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn vpermd(places: __m512i, mut values: __m512i) -> __m512i {
    // SAFETY: it reads and writes registers alone
    unsafe {
        core::arch::asm!(
            "vpermd {values}, {places}, {values}",
            values = inout(zmm_reg) values,
            places = in(zmm_reg) places,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    values
}

/// Four taps, whose bytes are turned so that those of a channel lie side by side.
impl Channelwise for Avx512Integers {
    type In = u8;
    type Weight = i8;
    type Out = u8;
    type Finish = Requantize;
    type Sums = __m512i;
    type Weights = __m512i;
    const LANES: usize = 16;
    const TAPS: usize = 4;

    #[inline(always)]
    unsafe fn zero() -> __m512i {
        // SAFETY: the caller vouches for the CPU and the pointers, here and below
        unsafe { _mm512_setzero_si512() }
    }

    #[inline(always)]
    unsafe fn weights(from: *const i8) -> __m512i {
        // SAFETY: as above
        unsafe { _mm512_loadu_si512(from.cast()) }
    }

    #[inline(always)]
    unsafe fn add(sums: __m512i, from: *const u8, offsets: *const u32, weights: __m512i) -> __m512i {
        // SAFETY: as above
        unsafe {
            let tap = |tap: usize| _mm_loadu_si128(from.add(*offsets.add(tap) as usize).cast());
            let inputs = _mm512_castsi128_si512(tap(0));
            let inputs = _mm512_inserti32x4::<1>(inputs, tap(1));
            let inputs = _mm512_inserti32x4::<2>(inputs, tap(2));
            let inputs = _mm512_inserti32x4::<3>(inputs, tap(3));
            // four channels of all taps to each quarter, then the taps of a channel side by side
            let quarters = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
            let turned = _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
            let inputs = vpermd(quarters, inputs);
            let inputs = _mm512_shuffle_epi8(inputs, _mm512_broadcast_i32x4(turned));
            _mm512_dpbusd_epi32(sums, inputs, weights)
        }
    }

    #[inline(always)]
    unsafe fn store<const N: usize>(sums: [__m512i; N], finish: &Requantize, to: *mut u8, lanes: usize) {
        // SAFETY: as above
        unsafe { <Self as Arithmetic>::store(sums, finish, to, lanes) }
    }
}

impl Channelwise for Avx2Floats {
    type In = f32;
    type Weight = f32;
    type Out = f32;
    type Finish = Activate;
    type Sums = __m256;
    type Weights = __m256;
    const LANES: usize = 8;
    const TAPS: usize = 1;

    #[inline(always)]
    unsafe fn zero() -> __m256 {
        // SAFETY: the caller vouches for the CPU and the pointers, here and below
        unsafe { _mm256_setzero_ps() }
    }

    #[inline(always)]
    unsafe fn weights(from: *const f32) -> __m256 {
        // SAFETY: as above
        unsafe { _mm256_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn add(sums: __m256, from: *const f32, offsets: *const u32, weights: __m256) -> __m256 {
        // SAFETY: as above
        unsafe { _mm256_fmadd_ps(_mm256_loadu_ps(from.add(*offsets as usize)), weights, sums) }
    }

    #[inline(always)]
    unsafe fn store<const N: usize>(sums: [__m256; N], finish: &Activate, to: *mut f32, lanes: usize) {
        // SAFETY: as above
        unsafe { <Self as Arithmetic>::store(sums, finish, to, lanes) }
    }
}

impl Channelwise for Avx512Floats {
    type In = f32;
    type Weight = f32;
    type Out = f32;
    type Finish = Activate;
    type Sums = __m512;
    type Weights = __m512;
    const LANES: usize = 16;
    const TAPS: usize = 1;

    #[inline(always)]
    unsafe fn zero() -> __m512 {
        // SAFETY: the caller vouches for the CPU and the pointers, here and below
        unsafe { _mm512_setzero_ps() }
    }

    #[inline(always)]
    unsafe fn weights(from: *const f32) -> __m512 {
        // SAFETY: as above
        unsafe { _mm512_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn add(sums: __m512, from: *const f32, offsets: *const u32, weights: __m512) -> __m512 {
        // SAFETY: as above
        unsafe { _mm512_fmadd_ps(_mm512_loadu_ps(from.add(*offsets as usize)), weights, sums) }
    }

    #[inline(always)]
    unsafe fn store<const N: usize>(sums: [__m512; N], finish: &Activate, to: *mut f32, lanes: usize) {
        // SAFETY: as above
        unsafe { <Self as Arithmetic>::store(sums, finish, to, lanes) }
    }
}

/// Bytes through a table, 64 at a time: how many were done.
///
/// # Safety
/// The CPU has AVX-512 VBMI.
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
pub(crate) unsafe fn through(source: &[u8], table: &[u8; 256], target: &mut [u8]) -> usize {
    let (sources, targets) = (source.as_chunks::<64>().0, target.as_chunks_mut::<64>().0);
    // SAFETY: chunks and quarters of the table are 64 bytes
    unsafe {
        let quarter = |number: usize| _mm512_loadu_si512(table[64 * number..].as_ptr().cast());
        let [a, b, c, d] = [quarter(0), quarter(1), quarter(2), quarter(3)];
        for (source, target) in sources.iter().zip(targets.iter_mut()) {
            let at = _mm512_loadu_si512(source.as_ptr().cast());
            // by the seven lowest bits, then by the highest
            let (low, high) = (_mm512_permutex2var_epi8(a, at, b), _mm512_permutex2var_epi8(c, at, d));
            let made = _mm512_mask_blend_epi8(_mm512_movepi8_mask(at), low, high);
            _mm512_storeu_si512(target.as_mut_ptr().cast(), made);
        }
    }
    64 * sources.len().min(targets.len())
}
