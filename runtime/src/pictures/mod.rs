//! Frames to and from files: PNG grids, GIF and PNG animations, Y4M films, `.npy` arrays; with the feature `read-pictures` also pictures of
//! any size and format.
//!
//! Every file is written atomically and with the same bytes for the same frames.

mod animation;
#[cfg(feature = "read-pictures")]
mod colour;
mod npy;
mod png;
#[cfg(feature = "read-pictures")]
mod read;

pub use animation::{write_apng, write_y4m};
#[cfg(feature = "read-pictures")]
pub use colour::{Chroma, join_luminance, split_luminance};
pub use npy::{NpyValues, read_npy, read_npy_values, write_npy};
pub use png::{encode_png, read_png, write_png};
#[cfg(feature = "read-pictures")]
pub use read::{EncodedPicture, Fit, fit_picture, picture_dimensions, read_picture, read_whole_picture};

use crate::files::write_atomically;
use crate::generate::Frame;
use crate::model::limits::{MAX_RUN_VALUES, check_count};
use crate::model::{ImageShape, PixelFormat};
use crate::{Error, Result};
use gif::{DisposalMethod, Encoder, EncodingError, Repeat};
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
pub fn grid(frames: &[Frame], columns: Option<usize>) -> Result<Frame> {
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
    Ok(Frame { width, height, format: frames[0].format, pixels })
}

/// Writes an animation that repeats for ever. The format counts in hundredths of a second, so not
/// every rate is met exactly; frames of more than 256 colours are reduced to 256.
///
/// # Errors
/// If there is no frame, if they differ in size or format or have a side longer than 65,535 pixels, if the rate is not
/// in 0.1 to 50, or if the file cannot be written.
pub fn write_gif(frames: &[Frame], frames_per_second: f32, path: &Path) -> Result<()> {
    common_shape(frames)?;
    let (width, height) = check_frame::<u16>(&frames[0])?;
    if !(0.1..=50.0).contains(&frames_per_second) {
        return Err(Error::invalid(format_args!(
            "a GIF shows 0.1 to 50 pictures per second, not {frames_per_second}"
        )));
    }
    let hundredths = (100.0 / frames_per_second).round() as u16;
    write_atomically(path, |writer| {
        let mut encoder = Encoder::new(writer, width, height, &[]).map_err(to_io)?;
        encoder.set_repeat(Repeat::Infinite).map_err(to_io)?;
        for frame in frames {
            let rgb: Vec<u8> = match frame.format {
                PixelFormat::Gray8 => frame.pixels.iter().flat_map(|level| [*level; 3]).collect(),
                PixelFormat::Rgb8 => frame.pixels.clone(),
            };
            let mut picture = gif::Frame::from_rgb_speed(width, height, &rgb, GIF_SPEED);
            picture.delay = hundredths;
            picture.dispose = DisposalMethod::Background;
            encoder.write_frame(&picture).map_err(to_io)?;
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

/// Width and height of a frame that holds as many pixels as it should, as a format counts them.
fn check_frame<Side: TryFrom<usize>>(frame: &Frame) -> Result<(Side, Side)> {
    let Frame { width, height, .. } = frame;
    let sides = Side::try_from(*width).ok().zip(Side::try_from(*height).ok());
    let filled = frame.pixels.len() == frame.shape().values() && !frame.pixels.is_empty();
    sides.filter(|_| filled).ok_or_else(|| {
        Error::invalid(format_args!(
            "a picture of {width} x {height} pixels cannot be written in this format"
        ))
    })
}

fn to_io(error: EncodingError) -> io::Error {
    match error {
        EncodingError::Io(error) => error,
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
        let picture = grid(&frames, None).unwrap();
        assert_eq!((picture.width, picture.height), (3 * 4 + 2 * 2, 2 * 3 + 2)); // 3 columns, 2 rows
        let at = |x: usize, y: usize| picture.pixels[y * picture.width + x];
        assert_eq!(at(0, 0), 0);
        assert_eq!(at(4, 0), GUTTER_LEVEL);
        assert_eq!(at(6, 2), 1);
        assert_eq!(at(0, 5), 3);
        assert_eq!(at(15, 7), GUTTER_LEVEL, "the last place stays empty");
        assert_eq!(grid(&frames, Some(99)).unwrap().width, 5 * 4 + 4 * 2);
        assert_eq!(grid(&frames[..1], None).unwrap().width, 4);
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
        assert_eq!(read_png(&folder.path().join("a.png"), 16).unwrap(), frames[0]);
        let mut options = gif::DecodeOptions::new();
        options.set_color_output(gif::ColorOutput::RGBA);
        let file = std::fs::File::open(folder.path().join("a.gif")).unwrap();
        let mut animation = options.read_info(io::BufReader::new(file)).unwrap();
        assert_eq!((animation.width(), animation.height()), (16, 16));
        let mut count = 0;
        while let Some(picture) = animation.read_next_frame().unwrap() {
            assert_eq!(picture.delay, 8, "hundredths of a second");
            let rgb: Vec<u8> =
                picture.buffer.chunks_exact(4).flat_map(|pixel| &pixel[..3]).copied().collect();
            assert_eq!(rgb, frames[0].pixels, "256 colours are kept as they are");
            count += 1;
        }
        assert_eq!(count, 2);
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
