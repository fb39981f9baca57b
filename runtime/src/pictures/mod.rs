//! Frames to and from files: PNG grids, GIF animations, `.npy` arrays.
//!
//! Every file is written atomically and with the same bytes for the same frames.

mod npy;
mod read;

pub use npy::{NpyValues, read_npy, read_npy_values, write_npy};
pub use read::read_picture;

use crate::files::write_atomically;
use crate::generate::Frame;
use crate::model::limits::{MAX_RUN_VALUES, check_count};
use crate::model::{ImageShape, PixelFormat};
use crate::{Error, Result};
use image::codecs::gif::{GifEncoder, Repeat};
use image::codecs::png::PngEncoder;
use image::{Delay, DynamicImage, GrayImage, ImageEncoder, ImageError, RgbImage};
use std::io;
use std::path::Path;

/// Pixels between the pictures of a grid.
const GUTTER: usize = 2;
/// Level of the gutter: grey, so that black and white pictures both stand out.
const GUTTER_LEVEL: u8 = 128;
/// Effort of the colour reduction of frames with more than 256 colours, from 1 (best) to 30.
const GIF_SPEED: i32 = 10;

/// Lays frames out row by row with a grey gutter between them. Without `columns` the grid is about
/// as wide as it is high, in pictures.
///
/// # Errors
/// If there is no frame, if they differ in size or format, or if the grid would be too large.
pub fn grid(frames: &[Frame], columns: Option<usize>) -> Result<DynamicImage> {
    let shape = common_shape(frames)?;
    let columns = match columns {
        Some(0) => return Err(Error::invalid("a grid of 0 columns holds nothing: give 1 or more")),
        Some(columns) => columns.min(frames.len()),
        None => (1..).find(|side| side * side >= frames.len()).unwrap_or(1),
    };
    let rows = frames.len().div_ceil(columns);
    let (width, height) =
        (columns * (shape.width + GUTTER) - GUTTER, rows * (shape.height + GUTTER) - GUTTER);
    if width.saturating_mul(height).saturating_mul(shape.channels) > MAX_RUN_VALUES {
        return Err(Error::invalid(format_args!(
            "a grid of {width} x {height} pixels is too large: lower the count"
        )));
    }
    let stride = width * shape.channels;
    let mut pixels = vec![GUTTER_LEVEL; height * stride];
    let row_bytes = shape.width * shape.channels;
    for (index, frame) in frames.iter().enumerate() {
        let left = index % columns * (shape.width + GUTTER) * shape.channels;
        let top = index / columns * (shape.height + GUTTER);
        for (y, row) in frame.pixels.chunks_exact(row_bytes).enumerate() {
            pixels[(top + y) * stride + left..][..row_bytes].copy_from_slice(row);
        }
    }
    to_image(width, height, frames[0].format, pixels)
}

/// Writes a PNG file.
///
/// # Errors
/// If the file cannot be written.
pub fn write_png(picture: &DynamicImage, path: &Path) -> Result<()> {
    write_atomically(path, |writer| {
        let (width, height) = (picture.width(), picture.height());
        let encoder = PngEncoder::new(writer);
        encoder.write_image(picture.as_bytes(), width, height, picture.color().into()).map_err(to_io)
    })
}

/// Writes an animation that repeats for ever. The format counts in hundredths of a second, so not
/// every rate is met exactly; frames of more than 256 colours are reduced to 256.
///
/// # Errors
/// If there is no frame, if they differ in size or format, if the rate is not in 0.1 to 50, or if
/// the file cannot be written.
pub fn write_gif(frames: &[Frame], frames_per_second: f32, path: &Path) -> Result<()> {
    common_shape(frames)?;
    if !(0.1..=50.0).contains(&frames_per_second) {
        return Err(Error::invalid(format_args!(
            "a GIF shows 0.1 to 50 pictures per second, not {frames_per_second}"
        )));
    }
    let hundredths = (100.0 / frames_per_second).round() as u32;
    write_atomically(path, |writer| {
        let mut encoder = GifEncoder::new_with_speed(writer, GIF_SPEED);
        encoder.set_repeat(Repeat::Infinite).map_err(to_io)?;
        for frame in frames {
            let picture = to_image(frame.width, frame.height, frame.format, frame.pixels.clone());
            let picture = picture.map_err(io::Error::other)?.into_rgba8();
            let delay = Delay::from_numer_denom_ms(10 * hundredths, 1);
            encoder.encode_frame(image::Frame::from_parts(picture, 0, 0, delay)).map_err(to_io)?;
        }
        Ok(())
    })
}

/// The shape that all frames share.
fn common_shape(frames: &[Frame]) -> Result<ImageShape> {
    let shape = frames.first().map_or(ImageShape { channels: 1, height: 0, width: 0 }, Frame::shape);
    check_count(frames.len(), shape.values())?;
    for frame in frames {
        if frame.shape() != shape || frame.pixels.len() != shape.values() || shape.values() == 0 {
            return Err(Error::invalid(format_args!(
                "frames of {shape} and {} do not go together",
                frame.shape()
            )));
        }
    }
    Ok(shape)
}

fn to_image(width: usize, height: usize, format: PixelFormat, pixels: Vec<u8>) -> Result<DynamicImage> {
    let sides = u32::try_from(width).ok().zip(u32::try_from(height).ok());
    let image = sides.and_then(|(width, height)| match format {
        PixelFormat::Gray8 => GrayImage::from_raw(width, height, pixels).map(DynamicImage::from),
        PixelFormat::Rgb8 => RgbImage::from_raw(width, height, pixels).map(DynamicImage::from),
    });
    image.ok_or_else(|| {
        Error::invalid(format_args!("a picture of {width} x {height} does not hold its pixels"))
    })
}

fn to_io(error: ImageError) -> io::Error {
    match error {
        ImageError::IoError(error) => error,
        other => io::Error::other(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(level: u8, width: usize, height: usize, format: PixelFormat) -> Frame {
        Frame { width, height, format, pixels: vec![level; width * height * format.channels()] }
    }

    #[test]
    fn a_grid_is_nearly_square_and_keeps_the_order() {
        let frames: Vec<Frame> = (0..5).map(|i| frame(i, 4, 3, PixelFormat::Gray8)).collect();
        let picture = grid(&frames, None).unwrap().into_luma8();
        assert_eq!(picture.dimensions(), (3 * 4 + 2 * 2, 2 * 3 + 2)); // 3 columns, 2 rows
        assert_eq!(picture.get_pixel(0, 0).0, [0]);
        assert_eq!(picture.get_pixel(4, 0).0, [GUTTER_LEVEL]);
        assert_eq!(picture.get_pixel(6, 2).0, [1]);
        assert_eq!(picture.get_pixel(0, 5).0, [3]);
        assert_eq!(picture.get_pixel(15, 7).0, [GUTTER_LEVEL], "the last place stays empty");
        assert_eq!(grid(&frames, Some(99)).unwrap().width(), 5 * 4 + 4 * 2);
        assert_eq!(grid(&frames[..1], None).unwrap().width(), 4);
    }

    #[test]
    fn grids_of_nothing_or_of_different_frames_are_refused() {
        let gray = frame(0, 4, 3, PixelFormat::Gray8);
        assert!(grid(&[], None).is_err());
        assert!(grid(std::slice::from_ref(&gray), Some(0)).is_err());
        assert!(grid(&[gray.clone(), frame(0, 4, 3, PixelFormat::Rgb8)], None).is_err());
        assert!(grid(&[gray.clone(), frame(0, 3, 4, PixelFormat::Gray8)], None).is_err());
        let short = Frame { pixels: vec![0; 3], ..gray };
        assert!(grid(&[short], None).is_err());
        assert!(grid(&[frame(0, 0, 4, PixelFormat::Gray8)], None).is_err());
    }

    #[test]
    fn files_have_the_same_bytes_each_time_and_give_the_pixels_back() {
        let folder = tempfile::tempdir().unwrap();
        let pixels = (0..16 * 16 * 3).map(|i| (i * 7 % 256) as u8).collect();
        let frame = Frame { width: 16, height: 16, format: PixelFormat::Rgb8, pixels };
        let frames = [frame.clone(), frame];
        let write = |name: &str| {
            let path = folder.path().join(name);
            match name.ends_with("gif") {
                true => write_gif(&frames, 12.5, &path).unwrap(),
                false => write_png(&grid(&frames[..1], None).unwrap(), &path).unwrap(),
            }
            std::fs::read(path).unwrap()
        };
        assert_eq!(write("a.png"), write("b.png"));
        assert_eq!(write("a.gif"), write("b.gif"));
        let read = image::open(folder.path().join("a.png")).unwrap();
        assert_eq!(read.as_bytes(), frames[0].pixels);
        let gif = std::fs::File::open(folder.path().join("a.gif")).unwrap();
        let decoder = image::codecs::gif::GifDecoder::new(io::BufReader::new(gif)).unwrap();
        let animation = image::AnimationDecoder::into_frames(decoder).collect_frames().unwrap();
        assert_eq!(animation.len(), 2);
        assert_eq!(animation[0].delay().numer_denom_ms(), (80, 1));
    }

    #[test]
    fn rates_that_a_gif_cannot_show_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let frames = [frame(0, 4, 3, PixelFormat::Gray8)];
        for rate in [0.0, -1.0, 1000.0, f32::NAN] {
            assert!(write_gif(&frames, rate, &folder.path().join("a.gif")).is_err());
        }
        assert!(std::fs::read_dir(folder.path()).unwrap().next().is_none());
    }
}
