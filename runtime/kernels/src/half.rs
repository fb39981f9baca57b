//! float16 as it lies in files, IEEE 754's binary16, to and from float32.

/// 2⁻²⁴, the least float16 above zero.
const LEAST: f32 = f32::from_bits(0x3380_0000);

/// The float16 of these bits, as float32: exact.
pub fn half_to_float(bits: u16) -> f32 {
    let sign = u32::from(bits & 0x8000) << 16;
    let (exponent, mantissa) = (u32::from(bits >> 10) & 0x1f, u32::from(bits & 0x03ff));
    let magnitude = match exponent {
        0 => (mantissa as f32 * LEAST).to_bits(),
        // infinity, or NaN, which stays quiet
        0x1f if mantissa == 0 => 0x7f80_0000,
        0x1f => 0x7fc0_0000 | mantissa << 13,
        _ => (exponent + 127 - 15) << 23 | mantissa << 13,
    };
    f32::from_bits(sign | magnitude)
}

/// The bits of the float16 that is nearest to `value`, half to even; beyond the largest it is infinity.
pub fn half_from_float(value: f32) -> u16 {
    let bits = value.to_bits();
    let (sign, magnitude) = ((bits >> 16) as u16 & 0x8000, bits & 0x7fff_ffff);
    let half = match magnitude {
        0x7f80_0001.. => 0x7e00 | (magnitude >> 13) as u16 & 0x03ff,
        // from 2¹⁶ on
        0x4780_0000.. => 0x7c00,
        // from 2⁻¹⁴ on: what is cut off rounds the rest, and a carry moves into the exponent
        0x3880_0000.. => {
            let rounded = magnitude + 0x0fff + (magnitude >> 13 & 1);
            ((rounded >> 13) - ((127 - 15) << 10)) as u16
        }
        // subnormal: beside 0.5, float32 counts in steps of 2⁻²⁴
        _ => ((f32::from_bits(magnitude) + 0.5).to_bits() - 0.5f32.to_bits()) as u16,
    };
    sign | half
}

#[cfg(all(test, not(miri)))] // no memory is read
mod tests {
    use super::*;
    use half::f16;

    #[test]
    fn every_float16_is_what_the_crate_half_says() {
        for bits in 0..=u16::MAX {
            let (ours, theirs) = (half_to_float(bits), f16::from_bits(bits).to_f32());
            assert!(ours.to_bits() == theirs.to_bits() || (ours.is_nan() && theirs.is_nan()), "{bits:#06x}");
            assert!(half_from_float(ours) == bits || ours.is_nan(), "{bits:#06x} is not itself");
        }
    }

    #[test]
    fn rounding_is_that_of_the_crate_half() {
        // every exponent, with mantissas on both sides of each half-way point
        for high in 0..=u16::MAX {
            for low in
                [0, 1, 0x0fff, 0x1000, 0x1001, 0x1fff, 0x2000, 0x3000, 0x7000, 0x8000, 0x9000, 0xf000, 0xffff]
            {
                let value = f32::from_bits(u32::from(high) << 16 | low);
                let (ours, theirs) = (half_from_float(value), f16::from_f32(value).to_bits());
                let is_nan = |bits: u16| f16::from_bits(bits).is_nan();
                assert!(
                    ours == theirs || (is_nan(ours) && is_nan(theirs)),
                    "{value:e}: {ours:#06x} {theirs:#06x}"
                );
            }
        }
    }
}
