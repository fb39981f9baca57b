//! Clean pictures → what a network is to restore: blurred, smaller, noisy, compressed; and the pieces that it learns from.

use documented::DocumentedFields;
use edgegen_runtime::model::ImageShape;
use image::imageops::{FilterType, resize};
use image::{ExtendedColorType, ImageBuffer, ImageEncoder, ImageReader, Luma};
use serde::{Deserialize, Serialize};

use crate::random::Stream;
use crate::{Error, Result};

/// Largest deviation of noise, in levels.
const MOST_NOISE: f64 = 255.0;
/// Largest deviation of a blur, in pixels.
const MOST_BLUR: f64 = 16.0;

/// How a picture becomes smaller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shrink {
    /// By cubic interpolation with a kernel as wide as the factor (a = −0.5), as the literature makes its small pictures.
    Bicubic,
    /// Each pixel the mean of those it covers, as a sensor's.
    Area,
}

/// What is done to clean pictures, in this order; each strength is drawn evenly between two.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, DocumentedFields)]
#[serde(deny_unknown_fields)]
pub struct Degradation {
    /// Deviation of a Gaussian blur in pixels, from and to; 0: none.
    pub blur: [f64; 2],
    /// How pictures become smaller where the network enlarges: "bicubic" or "area".
    pub shrink: Shrink,
    /// Deviation of normal noise in levels of 255, from and to; 0: none.
    pub noise: [f64; 2],
    /// Quality of JPEG compression, from and to, 1 to 100; 0: none.
    pub jpeg: [u8; 2],
}

/// Strengths of one picture's degradation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Strength {
    /// Deviation of the blur, pixels.
    pub blur: f64,
    /// Deviation of the noise, levels.
    pub noise: f64,
    /// Quality, 0: not compressed.
    pub jpeg: u8,
    /// Whether values become whole levels within 0 to 255, as a file holds them.
    pub levels: bool,
}

impl Degradation {
    /// Refuses what cannot be done.
    ///
    /// # Errors
    /// [`Error::Config`] naming the setting.
    pub fn check(&self) -> Result<()> {
        let refused = |name: &str, found: String, takes: String| {
            Err(Error::Config(format!(
                "objective.{name} is {found}; it takes two numbers, the first not above the second, from {takes}"
            )))
        };
        for (name, [from, to], most) in [("blur", self.blur, MOST_BLUR), ("noise", self.noise, MOST_NOISE)] {
            if !(0.0 <= from && from <= to && to <= most) {
                return refused(name, format!("[{from}, {to}]"), format!("0 to {most}"));
            }
        }
        let [from, to] = self.jpeg;
        if !(from <= to && to <= 100) || from == 0 && to > 0 {
            return refused("jpeg", format!("[{from}, {to}]"), "1 to 100, or [0, 0]".into());
        }
        Ok(())
    }

    /// Strengths of a training picture. Half of the pictures are as files hold them: the published figures are of noise that
    /// is not rounded, a camera's pictures are.
    pub fn draw(&self, stream: &mut Stream) -> Strength {
        let mut between = |[from, to]: [f64; 2]| from + (to - from) * f64::from(stream.uniform());
        let (blur, noise) = (between(self.blur), between(self.noise));
        let jpeg = between(self.jpeg.map(f64::from)).round() as u8;
        Strength { blur, noise, jpeg, levels: stream.below(2) == 1 }
    }

    /// Those in the middle, which held-out pictures are given.
    pub fn middle(&self) -> Strength {
        let [blur, noise] = [self.blur, self.noise].map(|[from, to]| (from + to) / 2.0);
        let jpeg = ((u16::from(self.jpeg[0]) + u16::from(self.jpeg[1])) / 2) as u8;
        Strength { blur, noise, jpeg, levels: true }
    }

    /// A clean picture (C, H, W) in [0, 1] → (C, H / scale, W / scale). Both sides are multiples of `scale`.
    ///
    /// # Errors
    /// Those of the JPEG encoder.
    pub fn apply(
        &self,
        clean: &[f32],
        shape: ImageShape,
        scale: usize,
        strength: Strength,
        stream: &mut Stream,
    ) -> Result<Vec<f32>> {
        let mut values = clean.to_vec();
        if strength.blur > 0.0 {
            each_plane(&mut values, shape, |plane, height, width| {
                blurred(plane, height, width, strength.blur)
            });
        }
        let mut small = shape;
        if scale > 1 {
            small = ImageShape { height: shape.height / scale, width: shape.width / scale, ..shape };
            values = self.smaller(&values, shape, small)?;
        }
        if strength.noise > 0.0 {
            let deviation = (strength.noise / 255.0) as f32;
            values.iter_mut().for_each(|value| *value += deviation * stream.normal());
        }
        if strength.levels || strength.jpeg > 0 {
            let level = |value: f32| (value * 255.0).round_ties_even().clamp(0.0, 255.0);
            values.iter_mut().for_each(|value| *value = level(*value) / 255.0);
        }
        if strength.jpeg > 0 {
            values = compressed(&values, small, strength.jpeg)?;
        }
        Ok(values)
    }

    fn smaller(&self, values: &[f32], shape: ImageShape, small: ImageShape) -> Result<Vec<f32>> {
        let mut made = Vec::with_capacity(small.values());
        for plane in values.chunks(shape.height * shape.width) {
            match self.shrink {
                Shrink::Bicubic => {
                    made.extend(bicubic(plane, (shape.height, shape.width), (small.height, small.width))?)
                }
                Shrink::Area => {
                    let factor = shape.width / small.width;
                    let share = 1.0 / (factor * factor) as f32;
                    for y in 0..small.height {
                        for x in 0..small.width {
                            let rows = (0..factor).flat_map(|row| {
                                &plane[(y * factor + row) * shape.width + x * factor..][..factor]
                            });
                            made.push(rows.sum::<f32>() * share);
                        }
                    }
                }
            }
        }
        Ok(made)
    }
}

/// One channel (height, width) in another size, by cubic interpolation (a = −0.5); the kernel is as wide as the factor where it
/// becomes smaller. Values are kept within [0, 1].
///
/// # Errors
/// [`Error::Config`] if `plane` is not as large as it is said to be.
pub fn bicubic(plane: &[f32], from: (usize, usize), to: (usize, usize)) -> Result<Vec<f32>> {
    let buffer = ImageBuffer::<Luma<f32>, Vec<f32>>::from_raw(from.1 as u32, from.0 as u32, plane.to_vec());
    let buffer = buffer.ok_or_else(|| Error::Config(format!("{} values are no {from:?}", plane.len())))?;
    Ok(resize(&buffer, to.1 as u32, to.0 as u32, FilterType::CatmullRom).into_raw())
}

/// Pictures (N, C, H, W) of shape `from` brought to the size of `to` by cubic interpolation, within [0, 1].
///
/// # Errors
/// As [`bicubic`].
pub fn enlarged(values: &[f32], from: ImageShape, to: ImageShape) -> Result<Vec<f32>> {
    let mut made = Vec::with_capacity(values.len() / from.values() * to.values());
    for plane in values.chunks(from.height * from.width) {
        if (from.height, from.width) == (to.height, to.width) {
            made.extend_from_slice(plane);
        } else {
            made.extend(bicubic(plane, (from.height, from.width), (to.height, to.width))?);
        }
    }
    made.iter_mut().for_each(|value| *value = value.clamp(0.0, 1.0));
    Ok(made)
}

fn each_plane(values: &mut [f32], shape: ImageShape, change: impl Fn(&[f32], usize, usize) -> Vec<f32>) {
    for plane in values.chunks_mut(shape.height * shape.width) {
        let changed = change(plane, shape.height, shape.width);
        plane.copy_from_slice(&changed);
    }
}

/// A Gaussian blur of a deviation in pixels; the outermost pixels are repeated.
fn blurred(plane: &[f32], height: usize, width: usize, deviation: f64) -> Vec<f32> {
    let radius = (3.0 * deviation).ceil() as isize;
    let weight = |at: isize| (-0.5 * (at as f64 / deviation).powi(2)).exp();
    let sum: f64 = (-radius..=radius).map(weight).sum();
    let weights: Vec<(isize, f32)> = (-radius..=radius).map(|at| (at, (weight(at) / sum) as f32)).collect();
    let inside = |at: isize, side: usize| at.clamp(0, side as isize - 1) as usize;
    let mut across = vec![0f32; plane.len()];
    for (y, row) in across.chunks_mut(width).enumerate() {
        for (x, value) in row.iter_mut().enumerate() {
            let taps = weights.iter();
            *value = taps.map(|(by, w)| w * plane[y * width + inside(x as isize + by, width)]).sum();
        }
    }
    let mut both = vec![0f32; plane.len()];
    for (y, row) in both.chunks_mut(width).enumerate() {
        for (x, value) in row.iter_mut().enumerate() {
            let taps = weights.iter();
            *value = taps.map(|(by, w)| w * across[inside(y as isize + by, height) * width + x]).sum();
        }
    }
    both
}

/// A picture of whole levels (C, H, W) as JPEG compression leaves it.
fn compressed(values: &[f32], shape: ImageShape, quality: u8) -> Result<Vec<f32>> {
    let refused = |e: &dyn std::fmt::Display| Error::Config(format!("a picture cannot be compressed: {e}"));
    let plane = shape.height * shape.width;
    let pixels: Vec<u8> = (0..shape.values())
        .map(|at| (values[at % shape.channels * plane + at / shape.channels] * 255.0).round() as u8)
        .collect();
    let colour = if shape.channels == 1 { ExtendedColorType::L8 } else { ExtendedColorType::Rgb8 };
    let mut bytes = Vec::new();
    image::codecs::jpeg::JpegEncoder::new_with_quality(&mut bytes, quality)
        .write_image(&pixels, shape.width as u32, shape.height as u32, colour)
        .map_err(|e| refused(&e))?;
    let mut reader = ImageReader::new(std::io::Cursor::new(bytes));
    reader.set_format(image::ImageFormat::Jpeg);
    let decoded = reader.decode().map_err(|e| refused(&e))?;
    let pixels =
        if shape.channels == 1 { decoded.into_luma8().into_raw() } else { decoded.into_rgb8().into_raw() };
    Ok((0..shape.values())
        .map(|at| f32::from(pixels[at % plane * shape.channels + at / plane]) / 255.0)
        .collect())
}

/// Where a square piece of a picture lies, in pixels.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    top: usize,
    left: usize,
    side: usize,
}

impl Place {
    /// Anywhere. `side` is at most the shorter side of pictures of `shape`.
    pub fn draw(shape: ImageShape, side: usize, stream: &mut Stream) -> Self {
        let top = stream.below((shape.height - side + 1) as u32) as usize;
        let left = stream.below((shape.width - side + 1) as u32) as usize;
        Self { top, left, side }
    }
}

/// One of the eight ways to turn and mirror a square.
#[derive(Clone, Copy, Debug)]
pub struct Turn(u32);

impl Turn {
    /// As it is.
    pub const NONE: Self = Self(0);
    /// Left and right exchanged.
    pub const MIRRORED: Self = Self(4);

    /// Any of them.
    pub fn draw(stream: &mut Stream) -> Self {
        Self(stream.below(8))
    }
}

/// A piece of a picture (height, width, channels): (C, side, side) in [0, 1].
pub fn piece(pixels: &[u8], shape: ImageShape, place: Place, turn: Turn) -> Vec<f32> {
    let ImageShape { channels, width, .. } = shape;
    let (Place { top, left, side }, Turn(turn)) = (place, turn);
    let mut values = Vec::with_capacity(channels * side * side);
    for channel in 0..channels {
        for y in 0..side {
            for x in 0..side {
                let (y, x) = if turn & 1 == 0 { (y, x) } else { (x, y) };
                let y = if turn & 2 == 0 { y } else { side - 1 - y };
                let x = if turn & 4 == 0 { x } else { side - 1 - x };
                let level = pixels[((top + y) * width + left + x) * channels + channel];
                values.push(f32::from(level) / 255.0);
            }
        }
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Purpose;

    const SHAPE: ImageShape = ImageShape { channels: 3, height: 24, width: 36 };

    fn nothing() -> Degradation {
        Degradation { blur: [0.0; 2], shrink: Shrink::Bicubic, noise: [0.0; 2], jpeg: [0; 2] }
    }

    fn picture() -> Vec<f32> {
        (0..SHAPE.values()).map(|i| ((i * 31) % 256) as f32 / 255.0).collect()
    }

    fn apply(degradation: &Degradation, scale: usize, strength: Strength) -> Vec<f32> {
        let mut stream = Stream::new(1, Purpose::Degrade, 2);
        degradation.apply(&picture(), SHAPE, scale, strength, &mut stream).unwrap()
    }

    #[test]
    fn each_strength_does_what_it_says() {
        let none = Strength { blur: 0.0, noise: 0.0, jpeg: 0, levels: false };
        assert_eq!(apply(&nothing(), 1, none), picture());
        assert_eq!(apply(&nothing(), 1, Strength { levels: true, ..none }), picture());
        let apart = |found: &[f32]| {
            let squares: f32 = found.iter().zip(picture()).map(|(a, b)| (a - b).powi(2)).sum();
            (squares / found.len() as f32).sqrt() * 255.0
        };
        let noisy = apply(&nothing(), 1, Strength { noise: 25.0, ..none });
        assert!((apart(&noisy) - 25.0).abs() < 1.0 && noisy.iter().any(|value| *value < 0.0));
        let rounded = apply(&nothing(), 1, Strength { noise: 25.0, levels: true, ..none });
        assert!(rounded.iter().all(|value| (0.0..=1.0).contains(value) && (value * 255.0).fract() < 1e-3
            || (value * 255.0).fract() > 0.999));
        let blurred = apply(&nothing(), 1, Strength { blur: 2.0, ..none });
        let mean = |values: &[f32]| values.iter().sum::<f32>() / values.len() as f32;
        assert!((mean(&blurred) - mean(&picture())).abs() < 0.02 && apart(&blurred) > 20.0);
        let (good, bad) = (
            apply(&nothing(), 1, Strength { jpeg: 95, ..none }),
            apply(&nothing(), 1, Strength { jpeg: 10, ..none }),
        );
        assert!(apart(&good) < apart(&bad) && apart(&bad) > 10.0);
    }

    #[test]
    fn smaller_pictures_keep_their_means_and_their_slopes() {
        let slope: Vec<f32> = (0..24 * 36).map(|at| (at % 36) as f32 / 35.0 * 0.8 + 0.1).collect();
        let shape = ImageShape { channels: 1, ..SHAPE };
        let small = ImageShape { channels: 1, height: 8, width: 12 };
        for shrink in [Shrink::Bicubic, Shrink::Area] {
            let made = Degradation { shrink, ..nothing() }.smaller(&slope, shape, small).unwrap();
            assert_eq!(made.len(), 96);
            for x in 1..11 {
                // the middle of three pixels
                assert!((made[12 * 4 + x] - slope[3 * x + 1]).abs() < 2.1 / 255.0, "{shrink:?} {x}");
            }
        }
    }

    #[test]
    fn pieces_are_turned_in_eight_ways() {
        let shape = ImageShape { channels: 1, height: 3, width: 3 };
        let pixels: Vec<u8> = (0..9).map(|level| level * 20).collect();
        let mut found: Vec<Vec<u32>> = (0..200)
            .map(|index| {
                let mut stream = Stream::new(4, Purpose::Degrade, index);
                let place = Place::draw(shape, 3, &mut stream);
                let values = piece(&pixels, shape, place, Turn::draw(&mut stream));
                values.iter().map(|value| (value * 255.0).round() as u32).collect()
            })
            .collect();
        found.sort();
        found.dedup();
        assert_eq!(found.len(), 8);
        assert!(found.iter().all(|values| values[4] == 80));
    }

    #[test]
    fn impossible_strengths_are_refused() {
        for (bad, expected) in [
            (Degradation { noise: [30.0, 10.0], ..nothing() }, "objective.noise"),
            (Degradation { noise: [0.0, f64::NAN], ..nothing() }, "objective.noise"),
            (Degradation { blur: [0.0, 99.0], ..nothing() }, "objective.blur"),
            (Degradation { jpeg: [0, 50], ..nothing() }, "objective.jpeg"),
        ] {
            let line = bad.check().unwrap_err().to_string();
            assert!(line.contains(expected), "{line}");
        }
        assert!(nothing().check().is_ok());
    }
}
