//! PNG files of frames.

use super::check_frame;
use crate::files::write_atomically;
use crate::generate::Frame;
use crate::model::limits::{MAX_MODEL_BYTES, read_bounded};
use crate::model::{ImageShape, PixelFormat};
use crate::{Error, Result};
use ::png::{BitDepth, ColorType, Compression, Decoder, Encoder, Filter, Limits, Transformations};
use std::io::{self, Cursor};
use std::path::Path;

/// Most memory that decoding may take besides the pixels themselves.
const MOST_MEMORY: usize = 64 << 20;

/// Writes a PNG file.
///
/// # Errors
/// If the frame does not have as many pixels as its sides say, or the file cannot be written.
pub fn write_png(frame: &Frame, path: &Path) -> Result<()> {
    let size = check_frame::<u32>(frame)?;
    write_atomically(path, |writer| encode(frame, size, writer))
}

/// The bytes of a PNG file.
///
/// # Errors
/// If the frame does not have as many pixels as its sides say.
pub fn encode_png(frame: &Frame) -> Result<Vec<u8>> {
    let size = check_frame::<u32>(frame)?;
    let mut bytes = Vec::new();
    encode(frame, size, &mut bytes).map_err(|error| Error::invalid(error.to_string()))?;
    Ok(bytes)
}

fn encode(frame: &Frame, (width, height): (u32, u32), writer: impl io::Write) -> io::Result<()> {
    let mut encoder = Encoder::new(writer, width, height);
    encoder.set_color(match frame.format {
        PixelFormat::Gray8 => ColorType::Grayscale,
        PixelFormat::Rgb8 => ColorType::Rgb,
    });
    encoder.set_depth(BitDepth::Eight);
    encoder.set_compression(Compression::Fast);
    encoder.set_filter(Filter::Adaptive);
    let mut writer = encoder.write_header().map_err(io::Error::from)?;
    writer.write_image_data(&frame.pixels).and_then(|()| writer.finish()).map_err(io::Error::from)
}

/// Reads a PNG file as it is: grey stays grey, everything else becomes RGB; 16 bits become 8, transparent pixels are laid on
/// white.
///
/// # Errors
/// If the file cannot be read, is no PNG file, is damaged, or has a side longer than `longest_side` pixels.
pub fn read_png(path: &Path, longest_side: usize) -> Result<Frame> {
    let bytes = read_bounded(path, MAX_MODEL_BYTES)?;
    let damaged = |error: ::png::DecodingError| {
        Error::malformed(path.display(), format!("this PNG file cannot be read: {error}"))
    };
    if !bytes.starts_with(b"\x89PNG") {
        return Err(Error::malformed(path.display(), "this is not a PNG file"));
    }
    let mut decoder = Decoder::new_with_limits(Cursor::new(bytes), Limits { bytes: MOST_MEMORY });
    decoder.set_transformations(Transformations::normalize_to_color8());
    let mut reader = decoder.read_info().map_err(damaged)?;
    let (width, height) = (reader.info().width as usize, reader.info().height as usize);
    if width.max(height) > longest_side {
        let problem = format!(
            "a picture of {width}x{height} is too large: up to {longest_side}x{longest_side} are read"
        );
        return Err(Error::unsupported(path.display(), problem));
    }
    let mut pixels = vec![0; reader.output_buffer_size().unwrap_or(0)];
    let color = reader.next_frame(&mut pixels).map_err(damaged)?.color_type;
    let (channels, format) = match color {
        ColorType::Grayscale => (1, PixelFormat::Gray8),
        ColorType::GrayscaleAlpha => (2, PixelFormat::Gray8),
        ColorType::Rgb | ColorType::Indexed => (3, PixelFormat::Rgb8),
        ColorType::Rgba => (4, PixelFormat::Rgb8),
    };
    let shape = ImageShape { channels: format.channels(), height, width };
    let pixels: Vec<u8> = match channels == shape.channels {
        true => pixels,
        false => {
            let laid = |pixel: &[u8]| {
                let alpha = u32::from(pixel[shape.channels]);
                let on_white = move |level: u8| (u32::from(level) * alpha + 255 * (255 - alpha) + 127) / 255;
                pixel[..shape.channels].iter().map(move |level| on_white(*level) as u8).collect::<Vec<u8>>()
            };
            pixels.chunks_exact(channels).flat_map(laid).collect()
        }
    };
    if pixels.len() != shape.values() {
        return Err(Error::malformed(path.display(), "this PNG file is cut short"));
    }
    Ok(Frame { width, height, format, pixels })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixels_survive_the_way_there_and_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.png");
        for format in [PixelFormat::Gray8, PixelFormat::Rgb8] {
            let pixels = (0..7 * 5 * format.channels()).map(|i| (i * 37 % 256) as u8).collect();
            let frame = Frame { width: 7, height: 5, format, pixels };
            write_png(&frame, &path).unwrap();
            assert_eq!(read_png(&path, 7).unwrap(), frame);
            assert!(read_png(&path, 6).unwrap_err().to_string().contains("7x5"));
            assert!(write_png(&Frame { width: 8, ..frame }, &path).is_err());
        }
    }

    /// A file that some other program could have written.
    fn encode(color: ColorType, depth: BitDepth, palette: &[u8], data: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut encoder = Encoder::new(&mut bytes, 2, 1);
        encoder.set_color(color);
        encoder.set_depth(depth);
        if !palette.is_empty() {
            encoder.set_palette(palette);
        }
        encoder.write_header().unwrap().write_image_data(data).unwrap();
        bytes
    }

    #[test]
    fn every_colour_type_becomes_grey_or_rgb() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.png");
        let palette = [1, 2, 3, 4, 5, 6];
        for (bytes, format, pixels) in [
            (
                encode(ColorType::Grayscale, BitDepth::One, &[], &[0b0100_0000]),
                PixelFormat::Gray8,
                vec![0, 255],
            ),
            (
                encode(ColorType::Grayscale, BitDepth::Sixteen, &[], &[9, 1, 8, 2]),
                PixelFormat::Gray8,
                vec![9, 8],
            ),
            (
                encode(ColorType::GrayscaleAlpha, BitDepth::Eight, &[], &[9, 0, 8, 255]),
                PixelFormat::Gray8,
                vec![255, 8],
            ),
            (
                encode(ColorType::Indexed, BitDepth::One, &palette, &[0b1000_0000]),
                PixelFormat::Rgb8,
                vec![4, 5, 6, 1, 2, 3],
            ),
            (
                encode(ColorType::Rgba, BitDepth::Eight, &[], &[1, 2, 3, 255, 0, 100, 200, 128]),
                PixelFormat::Rgb8,
                vec![1, 2, 3, 127, 177, 227],
            ),
        ] {
            std::fs::write(&path, bytes).unwrap();
            assert_eq!(read_png(&path, 2).unwrap(), Frame { width: 2, height: 1, format, pixels });
        }
    }

    #[test]
    fn files_that_are_no_png_or_damaged_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.png");
        let sound = encode(ColorType::Rgb, BitDepth::Eight, &[], &[1, 2, 3, 4, 5, 6]);
        for length in 0..sound.len() - 12 {
            std::fs::write(&path, &sound[..length]).unwrap();
            let line = read_png(&path, 2).unwrap_err().to_string();
            assert!(line.contains("a.png") && !line.contains('\n'), "{length}: {line}");
        }
        std::fs::write(&path, "GIF89a").unwrap();
        assert!(read_png(&path, 2).unwrap_err().to_string().contains("not a PNG file"));
    }
}
