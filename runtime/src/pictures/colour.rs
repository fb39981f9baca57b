//! Colour pictures for networks that know luminance alone: what they make is given the picture's colours again.

use crate::generate::Frame;
use crate::model::PixelFormat;
use crate::{Error, Result};
use image::imageops::{FilterType, resize};
use image::{ImageBuffer, Luma};

/// Luminance of red, green and blue (ITU-R BT.601, as JPEG has it).
const WEIGHTS: [f32; 3] = [0.299, 0.587, 0.114];

/// What a picture's luminance leaves out: red and blue without it, in levels.
pub struct Chroma {
    width: usize,
    height: usize,
    /// (height, width) each.
    planes: [Vec<f32>; 2],
}

/// A colour picture's luminance, grey, and the rest.
pub fn split_luminance(frame: &Frame) -> (Frame, Chroma) {
    let mut grey = Frame::black(frame.width, frame.height, PixelFormat::Gray8);
    let (mut red, mut blue) = (Vec::with_capacity(grey.pixels.len()), Vec::with_capacity(grey.pixels.len()));
    for (level, pixel) in grey.pixels.iter_mut().zip(frame.pixels.chunks_exact(3)) {
        let luminance: f32 =
            pixel.iter().zip(WEIGHTS).map(|(value, weight)| f32::from(*value) * weight).sum();
        *level = luminance.round_ties_even() as u8;
        // what rounding left out is kept, so that an unchanged picture comes back as it was
        red.push(f32::from(pixel[0]) - luminance);
        blue.push(f32::from(pixel[2]) - luminance);
    }
    (grey, Chroma { width: frame.width, height: frame.height, planes: [red, blue] })
}

/// A grey picture with these colours, which are brought to its size by cubic interpolation.
///
/// # Errors
/// If the picture is not grey.
pub fn join_luminance(grey: &Frame, chroma: &Chroma) -> Result<Frame> {
    if grey.format != PixelFormat::Gray8 {
        return Err(Error::invalid("colours are given to a grey picture"));
    }
    let planes = chroma.planes.each_ref().map(|plane| {
        let (width, height) = (chroma.width as u32, chroma.height as u32);
        if (chroma.width, chroma.height) == (grey.width, grey.height) {
            return plane.clone();
        }
        // the filter keeps values within [0, 1]
        let unit = plane.iter().map(|value| (value + 255.0) / 510.0).collect();
        let own = ImageBuffer::<Luma<f32>, Vec<f32>>::from_raw(width, height, unit).unwrap_or_default();
        let large = resize(&own, grey.width as u32, grey.height as u32, FilterType::CatmullRom);
        large.into_raw().into_iter().map(|value| value * 510.0 - 255.0).collect()
    });
    let mut frame = Frame::black(grey.width, grey.height, PixelFormat::Rgb8);
    let values = grey.pixels.iter().zip(planes[0].iter().zip(&planes[1]));
    for (pixel, (level, (red, blue))) in frame.pixels.chunks_exact_mut(3).zip(values) {
        let luminance = f32::from(*level);
        // of what red and blue differ from luminance, green is the rest
        let green = -(WEIGHTS[0] * red + WEIGHTS[2] * blue) / WEIGHTS[1];
        for (value, by) in pixel.iter_mut().zip([*red, green, *blue]) {
            *value = (luminance + by).round_ties_even().clamp(0.0, 255.0) as u8;
        }
    }
    Ok(frame)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture() -> Frame {
        let pixels = (0..16 * 12 * 3).map(|at| ((at * 37) % 256) as u8).collect();
        Frame { width: 16, height: 12, format: PixelFormat::Rgb8, pixels }
    }

    #[test]
    fn an_unchanged_picture_comes_back() {
        let frame = picture();
        let (grey, chroma) = split_luminance(&frame);
        let back = join_luminance(&grey, &chroma).unwrap();
        let apart = frame.pixels.iter().zip(&back.pixels).map(|(a, b)| a.abs_diff(*b)).max();
        assert!(apart <= Some(1), "{apart:?}");
        assert!(join_luminance(&frame, &chroma).is_err());
    }

    #[test]
    fn a_larger_picture_keeps_flat_colours() {
        let frame =
            Frame { width: 5, height: 4, format: PixelFormat::Rgb8, pixels: [200, 40, 90].repeat(20) };
        let (grey, chroma) = split_luminance(&frame);
        let large =
            Frame { width: 15, height: 12, format: PixelFormat::Gray8, pixels: vec![grey.pixels[0]; 180] };
        let made = join_luminance(&large, &chroma).unwrap();
        let apart = |pixel: &[u8]| pixel.iter().zip([200u8, 40, 90]).map(|(a, b)| a.abs_diff(b)).max();
        assert!(made.pixels.chunks(3).all(|pixel| apart(pixel) <= Some(1)), "{:?}", &made.pixels[..9]);
    }
}
