//! What is done to each value on its own, and the ways into planes and out of them.
//!
//! Pictures outside of planes are CHW, as ONNX has them, or HWC for frames. Levels in planes lie as a family keeps them:
//! every function that touches them takes the [`Cpu`], or its [`Isa`].

use crate::cpu::Cpu;
pub use crate::function::Function;
use crate::function::ROUNDING;
use crate::isa::Isa;
use crate::plane::Plane;
use crate::wide::wide;

/// A level as `isa`'s family keeps it in memory, and back.
#[inline(always)]
pub fn flipped(isa: Isa, level: u8) -> u8 {
    level ^ isa.flip()
}

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
#[inline(always)]
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
pub fn quantize(cpu: Cpu, chw: &[f32], scale: f32, zero: u8, plane: &Plane, levels: &mut [u8]) {
    const PIECE: usize = 128;
    let (isa, pixels) = (cpu.isa(), plane.height * plane.width);
    for (y, row) in rows_mut(plane, levels).enumerate() {
        for channel in 0..plane.channels {
            let values = &chw[channel * pixels + y * plane.width..][..plane.width];
            let pieces = row.chunks_mut(PIECE * plane.channels);
            for (values, row) in values.chunks(PIECE).zip(pieces) {
                let mut piece = [0u8; PIECE];
                let made = &mut piece[..values.len()];
                wide!(cpu, (isa: Isa, values: &[f32], scale: f32, zero: u8, made: &mut [u8]), {
                    for (to, value) in made.iter_mut().zip(values) {
                        *to = flipped(isa, level(*value, scale, zero));
                    }
                });
                let to = row[channel..].iter_mut().step_by(plane.channels);
                to.zip(&piece).for_each(|(to, level)| *to = *level);
            }
        }
    }
}

/// The levels of a plane to values, CHW, by a table.
pub fn look_up(cpu: Cpu, plane: &Plane, levels: &[u8], table: &[f32; 256], chw: &mut [f32]) {
    let pixels = plane.height * plane.width;
    for (y, row) in rows(plane, levels).enumerate() {
        for channel in 0..plane.channels {
            let to = &mut chw[channel * pixels + y * plane.width..][..plane.width];
            for (to, pixel) in to.iter_mut().zip(row.chunks_exact(plane.channels)) {
                *to = table[usize::from(flipped(cpu.isa(), pixel[channel]))];
            }
        }
    }
}

/// The levels of a plane to bytes, HWC, by a table.
pub fn look_up_bytes(cpu: Cpu, plane: &Plane, levels: &[u8], table: &[u8; 256], hwc: &mut [u8]) {
    let width = plane.width * plane.channels;
    let table = as_kept(cpu, table, 0);
    for (row, to) in rows(plane, levels).zip(hwc.chunks_exact_mut(width)) {
        through(cpu, row, &table, to);
    }
}

/// The levels of a plane to those of another of the same picture, by a table.
pub fn translate(
    cpu: Cpu,
    (from, source): (&Plane, &[u8]),
    table: &[u8; 256],
    (to, target): (&Plane, &mut [u8]),
) {
    let table = as_kept(cpu, table, cpu.isa().flip());
    for (source, target) in rows(from, source).zip(rows_mut(to, target)) {
        through(cpu, source, &table, target);
    }
}

/// A table of levels for bytes as a family keeps them; what it makes is XORed with `made`.
fn as_kept(cpu: Cpu, table: &[u8; 256], made: u8) -> [u8; 256] {
    core::array::from_fn(|at| table[at ^ usize::from(cpu.isa().flip())] ^ made)
}

/// Each byte through a table.
fn through(cpu: Cpu, source: &[u8], table: &[u8; 256], target: &mut [u8]) {
    let mut done = 0;
    if cpu.tables() {
        // SAFETY: a `Cpu` proves it
        #[cfg(target_arch = "x86_64")]
        unsafe {
            done = crate::x86::through(source, table, target);
        }
        // SAFETY: as above
        #[cfg(target_arch = "aarch64")]
        unsafe {
            done = crate::arm::through(source, table, target);
        }
    }
    for (target, at) in target.iter_mut().zip(source).skip(done) {
        *target = table[usize::from(*at)];
    }
}

/// The levels of a plane to values of a plane, by a table.
pub fn look_up_plane(
    cpu: Cpu,
    (from, levels): (&Plane, &[u8]),
    table: &[f32; 256],
    (to, values): (&Plane, &mut [f32]),
) {
    for (levels, values) in rows(from, levels).zip(rows_mut(to, values)) {
        for (value, level) in values.iter_mut().zip(levels) {
            *value = table[usize::from(flipped(cpu.isa(), *level))];
        }
    }
}

/// The levels of a plane to values of a plane: DequantizeLinear.
pub fn dequantize_plane(
    cpu: Cpu,
    (from, levels): (&Plane, &[u8]),
    scale: f32,
    zero: u8,
    (to, values): (&Plane, &mut [f32]),
) {
    let isa = cpu.isa();
    for (levels, values) in rows(from, levels).zip(rows_mut(to, values)) {
        wide!(cpu, (isa: Isa, levels: &[u8], scale: f32, zero: u8, values: &mut [f32]), {
            for (to, at) in values.iter_mut().zip(levels) {
                *to = value(flipped(isa, *at), scale, zero);
            }
        });
    }
}

/// The values of a plane to levels of a plane.
pub fn quantize_plane(
    cpu: Cpu,
    (from, values): (&Plane, &[f32]),
    scale: f32,
    zero: u8,
    (to, levels): (&Plane, &mut [u8]),
) {
    let isa = cpu.isa();
    for (values, levels) in rows(from, values).zip(rows_mut(to, levels)) {
        wide!(cpu, (isa: Isa, values: &[f32], scale: f32, zero: u8, levels: &mut [u8]), {
            for (to, value) in levels.iter_mut().zip(values) {
                *to = flipped(isa, level(*value, scale, zero));
            }
        });
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

/// Applies a function to every value.
pub fn apply(cpu: Cpu, function: Function, values: &mut [f32]) {
    wide!(cpu, (function: Function, values: &mut [f32]), { function.apply_here(values) });
}

/// Applies a function to every value of a plane, but its border's.
pub fn apply_rows(cpu: Cpu, function: Function, (plane, values): (&Plane, &mut [f32])) {
    rows_mut(plane, values).for_each(|row| apply(cpu, function, row));
}

/// The values of a plane into another of the same picture, each through a function.
pub fn map(
    cpu: Cpu,
    function: Function,
    (from, source): (&Plane, &[f32]),
    (to, target): (&Plane, &mut [f32]),
) {
    for (source, target) in rows(from, source).zip(rows_mut(to, target)) {
        target.copy_from_slice(source);
        apply(cpu, function, target);
    }
}

/// The values of a plane into another of the same picture, those below zero times one of `slopes`, which belong to channels.
pub fn slopes(
    cpu: Cpu,
    slopes: &[f32],
    (from, source): (&Plane, &[f32]),
    (to, target): (&Plane, &mut [f32]),
) {
    for (source, target) in rows(from, source).zip(rows_mut(to, target)) {
        wide!(cpu, (source: &[f32], slopes: &[f32], target: &mut [f32]), {
            for (source, target) in source.chunks_exact(slopes.len()).zip(target.chunks_exact_mut(slopes.len())) {
                for ((target, value), slope) in target.iter_mut().zip(source).zip(slopes) {
                    *target = if *value < 0.0 { value * slope } else { *value };
                }
            }
        });
    }
}

/// The levels of a plane to those of another of the same picture, by a table for each channel.
pub fn translate_channels(
    cpu: Cpu,
    (from, source): (&Plane, &[u8]),
    tables: &[[u8; 256]],
    (to, target): (&Plane, &mut [u8]),
) {
    let isa = cpu.isa();
    for (source, target) in rows(from, source).zip(rows_mut(to, target)) {
        let pixels = source.chunks_exact(from.channels).zip(target.chunks_exact_mut(to.channels));
        for (source, target) in pixels {
            for ((target, level), table) in target.iter_mut().zip(source).zip(tables) {
                *target = flipped(isa, table[usize::from(flipped(isa, *level))]);
            }
        }
    }
}

/// What is made of two values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binary {
    /// Their sum.
    Add,
    /// The first without the second.
    Sub,
    /// Their product.
    Mul,
    /// The first divided by the second.
    Div,
    /// The smaller.
    Min,
    /// The larger.
    Max,
}

impl Binary {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Add => "sum",
            Self::Sub => "difference",
            Self::Mul => "product",
            Self::Div => "quotient",
            Self::Min => "smaller",
            Self::Max => "larger",
        }
    }

    /// Of two values.
    pub fn of(self, left: f32, right: f32) -> f32 {
        struct Of<'a>(f32, f32, &'a mut f32);
        impl Each for Of<'_> {
            fn run(self, function: impl Fn(f32, f32) -> f32) {
                *self.2 = function(self.0, self.1);
            }
        }
        let mut made = 0.0;
        self.each(Of(left, right, &mut made));
        made
    }

    /// Calls `with` with the function, each time another one, so that loops in it are compiled for each.
    #[inline(always)]
    fn each(self, with: impl Each) {
        match self {
            Self::Add => with.run(|a, b| a + b),
            Self::Sub => with.run(|a, b| a - b),
            Self::Mul => with.run(|a, b| a * b),
            Self::Div => with.run(|a, b| a / b),
            Self::Min => with.run(|a, b| if b < a { b } else { a }),
            Self::Max => with.run(|a, b| if b > a { b } else { a }),
        }
    }
}

/// What is done with a function of two values.
trait Each {
    fn run(self, function: impl Fn(f32, f32) -> f32);
}

/// A plane whose channels, rows and columns may each be one for all.
#[derive(Clone, Copy)]
struct Operand<'a, T> {
    memory: &'a [T],
    first: usize,
    /// From one row, and one pixel, to the next.
    row: usize,
    pixel: usize,
    /// Whether all channels of a pixel are one.
    one: bool,
}

impl<'a, T> Operand<'a, T> {
    fn of((plane, memory): (&Plane, &'a [T]), to: &Plane) -> Self {
        let fits = |own: usize, other: usize| own == other || own == 1;
        assert!(
            fits(plane.channels, to.channels) && fits(plane.height, to.height) && fits(plane.width, to.width),
            "planes of other sizes"
        );
        Self {
            memory,
            first: plane.at(0, 0).unsigned_abs(),
            row: if plane.height == to.height { plane.row() } else { 0 },
            pixel: if plane.width == to.width { plane.channels } else { 0 },
            one: plane.channels != to.channels,
        }
    }

    /// `values` values of a row from a pixel on.
    #[inline(always)]
    fn from(&self, row: usize, pixel: usize, values: usize) -> &'a [T] {
        &self.memory[self.first + row * self.row + pixel * self.pixel..][..if self.one { 1 } else { values }]
    }
}

/// Two operands and a target, and what is read and written.
struct Both<'a, T, Out, Read, Write> {
    left: Operand<'a, T>,
    right: Operand<'a, T>,
    to: Plane,
    target: &'a mut [Out],
    /// Of the left and of the right.
    read: (Read, Read),
    write: Write,
    after: Function,
    cpu: Cpu,
}

impl<T: Copy, Out, Read: Fn(T) -> f32, Write: Fn(f32) -> Out> Each for Both<'_, T, Out, Read, Write> {
    #[inline(always)]
    fn run(self, function: impl Fn(f32, f32) -> f32) {
        match self.after {
            Function::Slope(slope) => self.wide(|a, b| {
                let made = function(a, b);
                if made < 0.0 { made * slope } else { made }
            }),
            _ => self.wide(function),
        }
    }
}

impl<T: Copy, Out, Read: Fn(T) -> f32, Write: Fn(f32) -> Out> Both<'_, T, Out, Read, Write> {
    fn wide(self, function: impl Fn(f32, f32) -> f32) {
        let both = self;
        wide!(
            both.cpu,
            [T: Copy, Out, Read: Fn(T) -> f32, Write: Fn(f32) -> Out, Two: Fn(f32, f32) -> f32],
            (both: Both<'_, T, Out, Read, Write>, function: Two),
            { both.loops(function) }
        );
    }

    #[inline(always)]
    fn loops(self, function: impl Fn(f32, f32) -> f32) {
        let Self { left, right, to, target, read, write, .. } = self;
        let whole = |operand: &Operand<'_, T>| !operand.one && operand.pixel == to.channels;
        // whole rows at once, or pixels
        let pixels = if whole(&left) && whole(&right) { 1 } else { to.width };
        let values = to.width * to.channels / pixels;
        for (y, target) in rows_mut(&to, target).enumerate() {
            for (x, target) in target.chunks_exact_mut(values).enumerate() {
                match (left.from(y, x, values), right.from(y, x, values)) {
                    (left, [right]) if values > 1 => {
                        let right = read.1(*right);
                        let values = target.iter_mut().zip(left);
                        values.for_each(|(to, left)| *to = write(function(read.0(*left), right)));
                    }
                    ([left], right) if values > 1 => {
                        let left = read.0(*left);
                        let values = target.iter_mut().zip(right);
                        values.for_each(|(to, right)| *to = write(function(left, read.1(*right))));
                    }
                    (left, right) => {
                        let values = target.iter_mut().zip(left).zip(right);
                        values.for_each(|((to, left), right)| {
                            *to = write(function(read.0(*left), read.1(*right)));
                        });
                    }
                }
            }
        }
    }
}

/// A plane and its values.
pub type Values<'a> = (&'a Plane, &'a [f32]);

/// A plane, its levels as they lie in memory, and what they stand for.
pub type Levels<'a> = (&'a Plane, &'a [u8], Scale);

/// Two planes' values, value by value, then through a function. A side of either plane, or its channels, may be 1 where
/// the target's is not: it is one for all.
///
/// # Panics
/// If their sizes do not fit, or a buffer is too small.
pub fn binary(
    cpu: Cpu,
    binary: Binary,
    (left, right): (Values<'_>, Values<'_>),
    after: Function,
    (to, target): (&Plane, &mut [f32]),
) {
    let (left, right) = (Operand::of(left, to), Operand::of(right, to));
    let (read, write) = (|value: f32| value, |value: f32| value);
    binary.each(Both { left, right, to: *to, target: &mut *target, read: (read, read), write, after, cpu });
    if !matches!(after, Function::Identity | Function::Slope(_)) {
        apply_rows(cpu, after, (to, target));
    }
}

/// Scale and zero point of levels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scale {
    /// The value of a step.
    pub scale: f32,
    /// The level of 0.
    pub zero: u8,
}

/// [`binary`] of two planes of levels, each with its own scale, to levels between `low` and `high`: as DequantizeLinear of
/// both, the function in float32, and QuantizeLinear.
///
/// # Panics
/// If their sizes do not fit, or a buffer is too small.
pub fn binary_levels(
    cpu: Cpu,
    binary: Binary,
    (left, right): (Levels<'_>, Levels<'_>),
    (made, low, high): (Scale, u8, u8),
    (to, target): (&Plane, &mut [u8]),
) {
    let isa = cpu.isa();
    let of = |scale: Scale| move |at: u8| value(flipped(isa, at), scale.scale, scale.zero);
    let write = |value: f32| flipped(isa, level(value, made.scale, made.zero).max(low).min(high));
    let read = (of(left.2), of(right.2));
    let (left, right) = (Operand::of((left.0, left.1), to), Operand::of((right.0, right.1), to));
    binary.each(Both { left, right, to: *to, target, read, write, after: Function::Identity, cpu });
}

/// value · scale + shift with one of each for every place of a plane's rows, (height, width, channels).
pub fn affine(
    cpu: Cpu,
    (from, source): (&Plane, &[f32]),
    scale: &[f32],
    shift: &[f32],
    (to, target): (&Plane, &mut [f32]),
) {
    let width = from.width * from.channels;
    let factors = scale.chunks_exact(width).zip(shift.chunks_exact(width));
    for ((source, target), (scale, shift)) in rows(from, source).zip(rows_mut(to, target)).zip(factors) {
        scaled(cpu, source, (scale, shift), target);
    }
}

/// value · scale + shift of each.
pub(crate) fn scaled(cpu: Cpu, source: &[f32], (scale, shift): (&[f32], &[f32]), target: &mut [f32]) {
    wide!(cpu, (source: &[f32], scale: &[f32], shift: &[f32], target: &mut [f32]), {
        for (((target, value), scale), shift) in target.iter_mut().zip(source).zip(scale).zip(shift) {
            *target = value * scale + shift;
        }
    });
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
