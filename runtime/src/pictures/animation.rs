//! Moving pictures besides GIF: APNG, and Y4M for ffmpeg and the like.

use super::{check_frame, common_shape};
use crate::files::write_atomically;
use crate::generate::Frame;
use crate::model::PixelFormat;
use crate::{Error, Result};
use ::png::{BitDepth, ColorType, Compression, Encoder, Filter};
use std::io::{self, Write};
use std::path::Path;

/// Rates that are written, pictures a second.
const RATES: std::ops::RangeInclusive<f32> = 0.1..=240.0;
/// Luminance of red, green and blue, and what blue and red differ from it at most (ITU-R BT.601).
const WEIGHTS: [f32; 3] = [0.299, 0.587, 0.114];

/// A rate as a fraction of whole numbers, to a thousandth.
fn fraction(frames_per_second: f32) -> Result<(u32, u32)> {
    if !RATES.contains(&frames_per_second) {
        return Err(Error::invalid(format_args!(
            "{} to {} pictures a second are written, not {frames_per_second}",
            RATES.start(),
            RATES.end()
        )));
    }
    let whole = frames_per_second.round();
    match (frames_per_second - whole).abs() < 1e-4 {
        true => Ok((whole as u32, 1)),
        false => Ok(((frames_per_second * 1000.0).round() as u32, 1000)),
    }
}

/// Writes an animated PNG that repeats for ever, in all its colours (PNG, third edition).
///
/// # Errors
/// If there is no frame, if they differ in size or format, if the rate is not in 0.1 to 240, or if the file cannot be
/// written.
pub fn write_apng(frames: &[Frame], frames_per_second: f32, path: &Path) -> Result<()> {
    common_shape(frames)?;
    let (width, height) = check_frame::<u32>(&frames[0])?;
    let (rate, per) = fraction(frames_per_second)?;
    let delay = u16::try_from(per).ok().zip(u16::try_from(rate).ok());
    let (numerator, denominator) = delay.unwrap_or((1, 1));
    let count = u32::try_from(frames.len()).unwrap_or(u32::MAX);
    write_atomically(path, |writer| {
        let mut encoder = Encoder::new(writer, width, height);
        encoder.set_color(match frames[0].format {
            PixelFormat::Gray8 => ColorType::Grayscale,
            PixelFormat::Rgb8 => ColorType::Rgb,
        });
        encoder.set_depth(BitDepth::Eight);
        encoder.set_compression(Compression::Fast);
        encoder.set_filter(Filter::Adaptive);
        encoder.set_animated(count, 0).map_err(io::Error::from)?;
        encoder.set_frame_delay(numerator, denominator).map_err(io::Error::from)?;
        let mut writer = encoder.write_header().map_err(io::Error::from)?;
        for frame in frames {
            writer.write_image_data(&frame.pixels).map_err(io::Error::from)?;
        }
        writer.finish().map_err(io::Error::from)
    })
}

/// Writes uncompressed video, YUV4MPEG2: grey, or luminance and colours of full range for every pixel. `ffmpeg -i F.y4m F.mp4`
/// makes a film of it.
///
/// # Errors
/// As [`write_apng`].
pub fn write_y4m(frames: &[Frame], frames_per_second: f32, path: &Path) -> Result<()> {
    let shape = common_shape(frames)?;
    let (rate, per) = fraction(frames_per_second)?;
    let colours = if shape.channels == 1 { "Cmono" } else { "C444" };
    write_atomically(path, |writer| {
        let (width, height) = (shape.width, shape.height);
        writeln!(writer, "YUV4MPEG2 W{width} H{height} F{rate}:{per} Ip A1:1 {colours} XCOLORRANGE=FULL")?;
        for frame in frames {
            writer.write_all(b"FRAME\n")?;
            match frame.format {
                PixelFormat::Gray8 => writer.write_all(&frame.pixels)?,
                PixelFormat::Rgb8 => writer.write_all(&planes(&frame.pixels))?,
            }
        }
        Ok(())
    })
}

/// Red, green and blue of each pixel → planes of luminance, of blue and of red without it, full range (JFIF).
fn planes(pixels: &[u8]) -> Vec<u8> {
    let count = pixels.len() / 3;
    let mut planes = vec![0; 3 * count];
    for (place, pixel) in pixels.chunks_exact(3).enumerate() {
        let [red, green, blue] = [0, 1, 2].map(|channel| f32::from(pixel[channel]));
        let luminance = WEIGHTS[0] * red + WEIGHTS[1] * green + WEIGHTS[2] * blue;
        let difference = |value: f32, weight: f32| 128.0 + (value - luminance) / (2.0 * (1.0 - weight));
        let values = [luminance, difference(blue, WEIGHTS[2]), difference(red, WEIGHTS[0])];
        for (plane, value) in values.into_iter().enumerate() {
            planes[plane * count + place] = value.round_ties_even().clamp(0.0, 255.0) as u8;
        }
    }
    planes
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn frames(format: PixelFormat) -> Vec<Frame> {
        let level = |frame: usize| move |at: usize| ((at * 31 + frame * 90) % 256) as u8;
        let pixels = |frame: usize| (0..6 * 4 * format.channels()).map(level(frame)).collect();
        (0..3).map(|frame| Frame { width: 6, height: 4, format, pixels: pixels(frame) }).collect()
    }

    #[test]
    fn an_animated_png_holds_every_frame() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.png");
        for format in [PixelFormat::Gray8, PixelFormat::Rgb8] {
            let frames = frames(format);
            write_apng(&frames, 12.5, &path).unwrap();
            let mut reader =
                ::png::Decoder::new(std::io::Cursor::new(fs::read(&path).unwrap())).read_info().unwrap();
            assert_eq!(reader.info().animation_control.unwrap().num_frames, 3);
            for frame in &frames {
                let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
                reader.next_frame(&mut pixels).unwrap();
                assert_eq!(pixels, frame.pixels);
                let control = reader.info().frame_control.unwrap();
                assert_eq!((control.delay_num, control.delay_den), (1000, 12500));
            }
        }
        assert!(write_apng(&[], 10.0, &path).is_err());
        assert!(write_apng(&frames(PixelFormat::Gray8), 0.0, &path).is_err());
    }

    #[test]
    fn a_film_has_a_header_and_planes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.y4m");
        let grey = frames(PixelFormat::Gray8);
        write_y4m(&grey, 15.0, &path).unwrap();
        let bytes = fs::read(&path).unwrap();
        let header = b"YUV4MPEG2 W6 H4 F15:1 Ip A1:1 Cmono XCOLORRANGE=FULL\n";
        assert!(bytes.starts_with(header));
        assert_eq!(bytes.len(), header.len() + 3 * (6 + 24));
        assert_eq!(&bytes[header.len() + 6..][..24], grey[0].pixels);
        assert_eq!(planes(&[255, 255, 255, 0, 0, 0]), [255, 0, 128, 128, 128, 128]);
        assert_eq!(planes(&[255, 0, 0]), [76, 85, 255]); // JFIF's red
    }
}
