//! A picture as people and panels take it, and the mapping between it and a network's values.

use crate::model::{ImageShape, PixelFormat, Range};

/// One picture: u8, rows from top to bottom, pixels from left to right, channels innermost (HWC).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Pixels from left to right.
    pub width: usize,
    /// Pixels from top to bottom.
    pub height: usize,
    /// Meaning of the channels.
    pub format: PixelFormat,
    /// height × width × channels values.
    pub pixels: Vec<u8>,
}

impl Frame {
    /// A black frame.
    pub fn black(width: usize, height: usize, format: PixelFormat) -> Self {
        Self { width, height, format, pixels: vec![0; width * height * format.channels()] }
    }

    /// Size and channels.
    pub fn shape(&self) -> ImageShape {
        ImageShape { channels: self.format.channels(), height: self.height, width: self.width }
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
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
