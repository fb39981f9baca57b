//! A picture's values as a network puts them out, and its pixels.

use crate::kinds::{ImageShape, Range};
use crate::limits::MAX_IMAGE_SIDE;

/// How one picture's values lie in a network's output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Raster {
    row: Vec<usize>,
    picture: Option<(ImageShape, Order)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    /// (C, H, W), or (H, W).
    Planes,
    /// (H, W, C).
    Interleaved,
}

impl Raster {
    /// Of an output's shape, without the batch: (C, H, W) or (H, W, C) of 1, 3 or 4 channels, the last of four being
    /// alpha, or (H, W). Where both orders fit, the first is meant, and colours before alpha. Others are no pictures.
    pub fn of(row: &[usize]) -> Self {
        let picture = match *row {
            [channels @ (1 | 3), height, width] => Some((channels, height, width, Order::Planes)),
            [height, width, channels @ (1 | 3)] => Some((channels, height, width, Order::Interleaved)),
            [4, height, width] => Some((4, height, width, Order::Planes)),
            [height, width, 4] => Some((4, height, width, Order::Interleaved)),
            [height, width] => Some((1, height, width, Order::Planes)),
            _ => None,
        };
        let sides = 1..=MAX_IMAGE_SIDE;
        let picture = picture.filter(|(_, height, width, _)| sides.contains(height) && sides.contains(width));
        let shaped = |(channels, height, width, order)| (ImageShape { channels, height, width }, order);
        Self { row: row.to_vec(), picture: picture.map(shaped) }
    }

    /// Of an output's shape, without the batch, whose values are a picture, channel after channel, rows from the top.
    /// `None` if they are not as many.
    pub(crate) fn told(row: &[usize], image: ImageShape) -> Option<Self> {
        let raster = Self { row: row.to_vec(), picture: Some((image, Order::Planes)) };
        (raster.values() == image.values()).then_some(raster)
    }

    /// The output's shape, without the batch.
    pub fn row(&self) -> &[usize] {
        &self.row
    }

    /// Values of a picture.
    pub fn values(&self) -> usize {
        self.row.iter().product()
    }

    /// Size of the picture that is seen: three channels where there are four. `None`: it is no picture.
    pub fn image(&self) -> Option<ImageShape> {
        self.picture.map(|(shape, _)| ImageShape { channels: shape.channels.min(3), ..shape })
    }

    /// Whether the values are a picture as [`to_pixels`] takes it.
    pub(crate) fn is_plain(&self) -> bool {
        self.picture.is_some_and(|(shape, order)| order == Order::Planes && shape.channels < 4)
    }

    /// Turns one picture's values in `range` into pixels, (H, W, C) of [`Self::image`]: as [`to_pixels`]; colours with
    /// alpha lie on black. Does nothing if it is no picture.
    pub fn pixels(&self, range: Range, values: &[f32], hwc: &mut [u8]) {
        let Some((shape, order)) = self.picture else { return };
        if self.is_plain() {
            return to_pixels(range, shape, values, hwc);
        }
        let (channels, seen) = (shape.channels, shape.channels.min(3));
        let plane = shape.height * shape.width;
        let level = |pixel: usize, channel: usize| {
            let place = match order {
                Order::Planes => channel * plane + pixel,
                Order::Interleaved => pixel * channels + channel,
            };
            range.pixel(values.get(place).copied().unwrap_or(f32::NAN))
        };
        for (pixel, target) in hwc.chunks_exact_mut(seen).enumerate().take(plane) {
            for (channel, target) in target.iter_mut().enumerate() {
                let colour = u16::from(level(pixel, channel));
                let alpha = if channels == 4 { u16::from(level(pixel, 3)) } else { 255 };
                *target = ((colour * alpha + 127) / 255) as u8;
            }
        }
    }
}

/// Turns one picture of a network, (C, H, W) in `range`, into pixels, (H, W, C): `range` is mapped
/// to 0…255 in f32, rounded half to even and clamped. NaN becomes 0.
///
/// Only as many values are converted as both slices hold; they should hold `shape.values()`.
pub fn to_pixels(range: Range, shape: ImageShape, chw: &[f32], hwc: &mut [u8]) {
    let plane = shape.height * shape.width;
    for (channel, values) in chw.chunks_exact(plane.max(1)).enumerate().take(shape.channels) {
        let targets = hwc.iter_mut().skip(channel).step_by(shape.channels);
        for (target, value) in targets.zip(values) {
            *target = range.pixel(*value);
        }
    }
}

/// Turns pixels, (H, W, C), into one picture for a network, (C, H, W) in `range`.
///
/// Only as many values are converted as both slices hold; they should hold `shape.values()`.
pub fn from_pixels(range: Range, shape: ImageShape, hwc: &[u8], chw: &mut [f32]) {
    let plane = shape.height * shape.width;
    for (channel, values) in chw.chunks_exact_mut(plane.max(1)).enumerate().take(shape.channels) {
        let pixels = hwc.iter().skip(channel).step_by(shape.channels);
        for (value, pixel) in values.iter_mut().zip(pixels) {
            *value = match range {
                Range::Unit => f32::from(*pixel) / 255.0,
                Range::Signed => f32::from(*pixel) / 127.5 - 1.0,
                Range::Bytes => f32::from(*pixel),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_lie_in_every_order() {
        let shape = |row: &[usize]| Raster::of(row).image().map(|image| image.to_string());
        for (row, seen) in [
            (&[3, 8, 6][..], Some("3x8x6")),
            (&[8, 6, 3], Some("3x8x6")),
            (&[8, 6, 1], Some("1x8x6")),
            (&[8, 6], Some("1x8x6")),
            (&[4, 8, 6], Some("3x8x6")),
            (&[8, 6, 4], Some("3x8x6")),
            (&[4, 6, 3], Some("3x4x6")),
            (&[2, 8, 6], None),
            (&[784], None),
            (&[3, 9000, 6], None),
            (&[1, 3, 8, 6], None),
        ] {
            assert_eq!(shape(row).as_deref(), seen, "{row:?}");
        }
        // two rows: red, and green that is half transparent; nothing
        let planes = [1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.5, 0.0, 0.0];
        let interleaved = [1.0, 0.0, 0.0, 1.0, 0.0, 1.0, 0.0, 0.5, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0];
        for (row, values) in [([4, 2, 2], planes), ([2, 2, 4], interleaved)] {
            let mut pixels = [9; 12];
            Raster::of(&row).pixels(Range::Unit, &values, &mut pixels);
            assert_eq!(pixels, [255, 0, 0, 0, 128, 0, 0, 0, 0, 0, 0, 0]);
        }
    }

    fn quantise(range: Range, value: f32) -> u8 {
        let mut pixel = [99];
        to_pixels(range, ImageShape { channels: 1, height: 1, width: 1 }, &[value], &mut pixel);
        pixel[0]
    }

    #[test]
    fn values_are_rounded_half_to_even_and_clamped() {
        for (value, expected) in
            [(0.0, 0), (1.0, 255), (0.5, 128), (-0.1, 0), (1.1, 255), (f32::NAN, 0), (f32::INFINITY, 255)]
        {
            assert_eq!(quantise(Range::Unit, value), expected, "unit {value}");
        }
        // 127.5 in the middle of the signed range: half goes to the even level.
        for (value, expected) in
            [(-1.0, 0), (1.0, 255), (0.0, 128), (-2.0, 0), (2.0, 255), (f32::NAN, 0), (f32::NEG_INFINITY, 0)]
        {
            assert_eq!(quantise(Range::Signed, value), expected, "signed {value}");
        }
        assert_eq!(quantise(Range::Signed, 126.5 / 127.5 - 1.0), 126, "126.5 goes down to the even level");
    }

    #[test]
    fn pixels_survive_the_way_there_and_back() {
        let shape = ImageShape { channels: 3, height: 16, width: 16 };
        let pixels: Vec<u8> = (0..shape.values()).map(|i| (i % 256) as u8).collect();
        for range in [Range::Unit, Range::Signed] {
            let mut values = vec![0.0; shape.values()];
            let mut again = vec![0; shape.values()];
            from_pixels(range, shape, &pixels, &mut values);
            to_pixels(range, shape, &values, &mut again);
            assert_eq!(again, pixels);
        }
    }

    #[test]
    fn planes_become_interleaved_channels() {
        let shape = ImageShape { channels: 3, height: 1, width: 2 };
        let mut pixels = [0; 6];
        to_pixels(Range::Unit, shape, &[0.0, 1.0, 0.2, 0.4, 0.6, 0.8], &mut pixels);
        assert_eq!(pixels, [0, 51, 153, 255, 102, 204]);
    }
}
