//! What is done to each value on its own, and the ways into planes and out of them.
//!
//! Pictures outside of planes are CHW, as ONNX has them, or HWC for frames. Levels in planes lie as a family keeps them:
//! every function that touches them takes the [`Isa`].

use crate::isa::Isa;
use crate::plane::Plane;

/// A level as `isa`'s family keeps it in memory, and back.
pub fn flipped(isa: Isa, level: u8) -> u8 {
    level ^ isa.flip()
}

/// Added to a number between ±2²², it leaves the nearest integer, half to even, in the sum's lowest bits.
const ROUNDING: f32 = 12_582_912.0;

/// round_half_even(value / scale) + zero, saturated: ONNX's QuantizeLinear to uint8. NaN becomes `zero`.
#[inline(always)]
pub fn level(value: f32, scale: f32, zero: u8) -> u8 {
    // no branch and no call: loops over this become vector instructions
    let steps = value / scale;
    let steps = if steps.is_nan() { 0.0 } else { steps.clamp(-512.0, 512.0) };
    let rounded = (steps + ROUNDING).to_bits() as i32 - ROUNDING.to_bits() as i32;
    (rounded + i32::from(zero)).clamp(0, 255) as u8
}

/// (level − zero) · scale: ONNX's DequantizeLinear.
pub fn value(level: u8, scale: f32, zero: u8) -> f32 {
    (i32::from(level) - i32::from(zero)) as f32 * scale
}

/// Calls `visit` with the place in a plane's memory and in CHW order of every value.
fn each(plane: &Plane, mut visit: impl FnMut(usize, usize)) {
    let pixels = plane.height * plane.width;
    for y in 0..plane.height {
        let row = plane.at(y as isize, 0).unsigned_abs();
        for channel in 0..plane.channels {
            for x in 0..plane.width {
                visit(row + x * plane.channels + channel, channel * pixels + y * plane.width + x);
            }
        }
    }
}

/// The memory of a plane's rows, without the border.
fn rows<'a, T>(plane: &Plane, memory: &'a [T]) -> impl Iterator<Item = &'a [T]> + use<'a, T> {
    let (first, values) = (plane.at(0, 0).unsigned_abs(), plane.width * plane.channels);
    memory[first..].chunks(plane.row()).take(plane.height).map(move |row| &row[..values])
}

/// The memory of a plane's rows, without the border.
fn rows_mut<'a, T>(plane: &Plane, memory: &'a mut [T]) -> impl Iterator<Item = &'a mut [T]> + use<'a, T> {
    let (first, values) = (plane.at(0, 0).unsigned_abs(), plane.width * plane.channels);
    memory[first..].chunks_mut(plane.row()).take(plane.height).map(move |row| &mut row[..values])
}

/// Values, CHW, to the levels of a plane.
pub fn quantize(isa: Isa, chw: &[f32], scale: f32, zero: u8, plane: &Plane, levels: &mut [u8]) {
    each(plane, |at, index| levels[at] = flipped(isa, level(chw[index], scale, zero)));
}

/// The levels of a plane to values, CHW, by a table.
pub fn look_up(isa: Isa, plane: &Plane, levels: &[u8], table: &[f32; 256], chw: &mut [f32]) {
    let pixels = plane.height * plane.width;
    for (y, row) in rows(plane, levels).enumerate() {
        for channel in 0..plane.channels {
            let to = &mut chw[channel * pixels + y * plane.width..][..plane.width];
            for (to, pixel) in to.iter_mut().zip(row.chunks_exact(plane.channels)) {
                *to = table[usize::from(flipped(isa, pixel[channel]))];
            }
        }
    }
}

/// The levels of a plane to bytes, HWC, by a table.
pub fn look_up_bytes(isa: Isa, plane: &Plane, levels: &[u8], table: &[u8; 256], hwc: &mut [u8]) {
    let width = plane.width * plane.channels;
    for (row, to) in rows(plane, levels).zip(hwc.chunks_exact_mut(width)) {
        for (to, level) in to.iter_mut().zip(row) {
            *to = table[usize::from(flipped(isa, *level))];
        }
    }
}

/// The levels of a plane to those of another of the same picture, by a table.
pub fn translate(
    isa: Isa,
    (from, source): (&Plane, &[u8]),
    table: &[u8; 256],
    (to, target): (&Plane, &mut [u8]),
) {
    for (source, target) in rows(from, source).zip(rows_mut(to, target)) {
        for (target, level) in target.iter_mut().zip(source) {
            *target = flipped(isa, table[usize::from(flipped(isa, *level))]);
        }
    }
}

/// The levels of a plane to values of a plane, by a table.
pub fn look_up_plane(
    isa: Isa,
    (from, levels): (&Plane, &[u8]),
    table: &[f32; 256],
    (to, values): (&Plane, &mut [f32]),
) {
    for (levels, values) in rows(from, levels).zip(rows_mut(to, values)) {
        for (value, level) in values.iter_mut().zip(levels) {
            *value = table[usize::from(flipped(isa, *level))];
        }
    }
}

/// The values of a plane to levels of a plane.
pub fn quantize_plane(
    isa: Isa,
    (from, values): (&Plane, &[f32]),
    scale: f32,
    zero: u8,
    (to, levels): (&Plane, &mut [u8]),
) {
    for (values, levels) in rows(from, values).zip(rows_mut(to, levels)) {
        for (to, value) in levels.iter_mut().zip(values) {
            *to = flipped(isa, level(*value, scale, zero));
        }
    }
}

/// Values, CHW, into a plane.
pub fn enter(chw: &[f32], plane: &Plane, values: &mut [f32]) {
    each(plane, |at, index| values[at] = chw[index]);
}

/// The values of a plane, CHW.
pub fn leave(plane: &Plane, values: &[f32], chw: &mut [f32]) {
    let pixels = plane.height * plane.width;
    for (y, row) in rows(plane, values).enumerate() {
        for channel in 0..plane.channels {
            let to = &mut chw[channel * pixels + y * plane.width..][..plane.width];
            for (to, pixel) in to.iter_mut().zip(row.chunks_exact(plane.channels)) {
                *to = pixel[channel];
            }
        }
    }
}

/// The values of a plane into another of the same picture, each through a function.
pub fn map(function: Function, (from, source): (&Plane, &[f32]), (to, target): (&Plane, &mut [f32])) {
    for (source, target) in rows(from, source).zip(rows_mut(to, target)) {
        target.copy_from_slice(source);
        function.apply(target);
    }
}

/// Adds a plane's values to those of another, and applies a function.
pub fn add((from, source): (&Plane, &[f32]), function: Function, (to, target): (&Plane, &mut [f32])) {
    for (source, target) in rows(from, source).zip(rows_mut(to, target)) {
        for (target, value) in target.iter_mut().zip(source) {
            *target += value;
        }
        function.apply(target);
    }
}

/// e^x of each of a vector's values, divided by their sum, in one order on every CPU: the powers of libm, in f32, added up
/// in f64.
pub fn softmax(source: &[f32], target: &mut [f32]) {
    let largest = source.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0.0;
    for (target, value) in target.iter_mut().zip(source) {
        *target = libm::expf(value - largest);
        sum += f64::from(*target);
    }
    let part = (1.0 / sum) as f32;
    target.iter_mut().for_each(|value| *value *= part);
}

/// A function of one value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Function {
    /// The value itself.
    Identity,
    /// Values below zero times this, 0 to 1.
    Slope(f32),
    /// Hyperbolic tangent, within 5·10⁻⁷.
    Tanh,
    /// 1 / (1 + e⁻ˣ), within 3·10⁻⁷.
    Sigmoid,
    /// Between both.
    Clip(f32, f32),
}

impl Function {
    /// Applies it to every value.
    pub fn apply(self, values: &mut [f32]) {
        match self {
            Self::Identity => {}
            Self::Slope(slope) => values.iter_mut().for_each(|v| *v = v.max(*v * slope)),
            Self::Tanh => values.iter_mut().for_each(|v| *v = tanh(*v)),
            Self::Sigmoid => values.iter_mut().for_each(|v| *v = sigmoid(*v)),
            Self::Clip(low, high) => values.iter_mut().for_each(|v| *v = v.max(low).min(high)),
        }
    }

    /// Its exact value, by libm: what tables hold.
    pub fn exact(self, value: f32) -> f32 {
        match self {
            Self::Tanh => libm::tanhf(value),
            Self::Sigmoid => (1.0 / (1.0 + libm::exp(-f64::from(value)))) as f32,
            other => {
                let mut values = [value];
                other.apply(&mut values);
                values[0]
            }
        }
    }
}

/// A rational function of degrees 13 and 6 between the points where float32's tanh is ±1, with Eigen's coefficients
/// (`Eigen/src/Core/MathFunctionsImpl.h`, MPL 2): multiplications and additions alone, so that all platforms agree to the bit.
#[inline(always)]
fn tanh(value: f32) -> f32 {
    const ODD: [f32; 7] = [
        4.893_524_6e-3,
        6.372_619_3e-4,
        1.485_722_4e-5,
        5.122_297_1e-8,
        -8.604_672e-11,
        2.000_188e-13,
        -2.760_768_5e-16,
    ];
    const EVEN: [f32; 4] = [4.893_525e-3, 2.268_434_6e-3, 1.185_347_1e-4, 1.198_258_4e-6];
    let x = value.clamp(-7.905_311, 7.905_311);
    let square = x * x;
    let polynomial = |terms: &[f32]| terms.iter().rev().fold(0.0f32, |sum, term| sum * square + term);
    let tanh = x * polynomial(&ODD) / polynomial(&EVEN);
    tanh.clamp(-1.0, 1.0)
}

#[inline(always)]
fn sigmoid(value: f32) -> f32 {
    0.5 * tanh(0.5 * value) + 0.5
}

/// value · scale + shift with one of each for every place of a plane's rows, (height, width, channels).
pub fn affine(
    (from, source): (&Plane, &[f32]),
    scale: &[f32],
    shift: &[f32],
    (to, target): (&Plane, &mut [f32]),
) {
    let width = from.width * from.channels;
    let factors = scale.chunks_exact(width).zip(shift.chunks_exact(width));
    for ((source, target), (scale, shift)) in rows(from, source).zip(rows_mut(to, target)).zip(factors) {
        for (((target, value), scale), shift) in target.iter_mut().zip(source).zip(scale).zip(shift) {
            *target = value * scale + shift;
        }
    }
}

/// Where the values of a picture lie in a plane, in CHW order.
pub fn places(plane: &Plane) -> impl Iterator<Item = usize> + use<> {
    let plane = *plane;
    let pixels = plane.height * plane.width;
    (0..plane.values()).map(move |index| {
        let (channel, pixel) = (index / pixels, index % pixels);
        let row = plane.at((pixel / plane.width) as isize, (pixel % plane.width) as isize);
        row.unsigned_abs() + channel
    })
}

#[cfg(test)]
mod tests {
    use super::level;

    #[test]
    fn levels_are_rounded_half_to_even_and_saturate() {
        for scale in [1.0, 0.5, 3.0e-3, 1e-38, 1e38] {
            for zero in [0, 3, 128, 255] {
                let steps = (-1400..1400).map(|step| step as f32 * scale * 0.25);
                for value in steps.chain([f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, -0.0]) {
                    let steps = value / scale;
                    let steps = if steps.is_nan() { 0.0 } else { libm::rintf(steps).clamp(-512.0, 512.0) };
                    let expected = (steps + f32::from(zero)).clamp(0.0, 255.0) as u8;
                    assert_eq!(level(value, scale, zero), expected, "{value} / {scale} + {zero}");
                }
            }
        }
    }
}
