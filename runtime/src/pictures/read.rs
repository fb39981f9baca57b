//! Pictures from files, in the size that a model takes.

use crate::generate::Frame;
use crate::model::limits::{MAX_MODEL_BYTES, read_bounded};
use crate::model::{ImageShape, PixelFormat};
use crate::{Error, Result};
use image::imageops::{FilterType, overlay};
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits, Rgba, RgbaImage};
use std::io::Cursor;
use std::path::Path;

/// Longest side of a picture that is read.
const LONGEST_SIDE: u32 = 16_384;
/// Most memory that decoding one picture may take.
const MOST_MEMORY: u64 = 512 << 20;

/// Reads a picture (PNG, GIF, or JPEG in the program) and brings it to `shape`: the largest centred
/// rectangle of the right proportions is cut out and resized with a triangle filter; a picture of
/// the right size stays as it is. It is turned as its EXIF data says.
/// Transparent pixels are laid on white. Colour becomes luminance
/// where the shape has one channel.
///
/// # Errors
/// If the file cannot be read or decoded, is too large, or `shape` is no picture.
pub fn read_picture(path: &Path, shape: ImageShape) -> Result<Frame> {
    let malformed = |problem: String| Error::malformed(path.display(), problem);
    let sides = u32::try_from(shape.width).ok().zip(u32::try_from(shape.height).ok());
    let format = PixelFormat::from_channels(shape.channels);
    let (Some((width, height)), Some(format)) = (sides.filter(|(w, h)| w * h > 0), format) else {
        return Err(Error::invalid(format_args!("{shape} is not the shape of a picture")));
    };
    let bytes = read_bounded(path, MAX_MODEL_BYTES)?;
    let whole = ends_as_jpeg(&bytes);
    let mut reader = ImageReader::new(Cursor::new(bytes))
        .with_guessed_format()
        .map_err(|e| malformed(format!("this picture cannot be read: {e}")))?;
    let mut limits = Limits::default();
    limits.max_image_width = Some(LONGEST_SIDE);
    limits.max_image_height = Some(LONGEST_SIDE);
    limits.max_alloc = Some(MOST_MEMORY);
    reader.limits(limits);
    if reader.format() == Some(ImageFormat::Jpeg) && !whole {
        return Err(malformed("this JPEG ends in the middle of its picture".into()));
    }
    let picture = upright(reader).map_err(|e| malformed(format!("this picture cannot be read: {e}")))?;
    let picture = without_transparency(picture);

    let (left, top, cut_width, cut_height) = centred(picture.width(), picture.height(), width, height);
    let mut picture = picture.crop_imm(left, top, cut_width, cut_height);
    if (cut_width, cut_height) != (width, height) {
        picture = picture.resize_exact(width, height, FilterType::Triangle);
    }
    let pixels = match format {
        PixelFormat::Gray8 => picture.into_luma8().into_raw(),
        PixelFormat::Rgb8 => picture.into_rgb8().into_raw(),
    };
    Ok(Frame { width: shape.width, height: shape.height, format, pixels })
}

/// Decodes, and turns the picture as the camera says that it was held.
fn upright(reader: ImageReader<Cursor<Vec<u8>>>) -> image::ImageResult<DynamicImage> {
    let mut decoder = reader.into_decoder()?;
    let orientation = decoder.orientation()?;
    let mut picture = DynamicImage::from_decoder(decoder)?;
    picture.apply_orientation(orientation);
    Ok(picture)
}

/// Whether JPEG's end marker stands near the end: decoders fill what is missing with grey without a word.
fn ends_as_jpeg(bytes: &[u8]) -> bool {
    /// Some cameras write a few bytes behind it.
    const NEAR: usize = 4096;
    bytes[bytes.len().saturating_sub(NEAR)..].windows(2).any(|pair| pair == [0xFF, 0xD9])
}

fn without_transparency(picture: DynamicImage) -> DynamicImage {
    if !picture.color().has_alpha() {
        return picture;
    }
    let mut white = RgbaImage::from_pixel(picture.width(), picture.height(), Rgba([255; 4]));
    overlay(&mut white, &picture.into_rgba8(), 0, 0);
    white.into()
}

/// Left, top, width and height of the largest centred rectangle of the proportions
/// `width` : `height` in a picture.
fn centred(picture_width: u32, picture_height: u32, width: u32, height: u32) -> (u32, u32, u32, u32) {
    let scale =
        |side: u32, by: u32, over: u32| ((u64::from(side) * u64::from(by) / u64::from(over)) as u32).max(1);
    let too_wide =
        u64::from(picture_width) * u64::from(height) > u64::from(picture_height) * u64::from(width);
    let (cut_width, cut_height) = match too_wide {
        true => (scale(picture_height, width, height), picture_height),
        false => (picture_width, scale(picture_width, height, width)),
    };
    ((picture_width - cut_width) / 2, (picture_height - cut_height) / 2, cut_width, cut_height)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_centred_part_is_taken() {
        assert_eq!(centred(100, 50, 10, 10), (25, 0, 50, 50));
        assert_eq!(centred(50, 100, 10, 10), (0, 25, 50, 50));
        assert_eq!(centred(50, 100, 50, 100), (0, 0, 50, 100));
        assert_eq!(centred(1, 1000, 1000, 1), (0, 499, 1, 1));
        assert_eq!(centred(30, 30, 20, 10), (0, 7, 30, 15));
    }

    #[test]
    fn pictures_of_the_right_size_stay_as_they_are() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.png");
        let pixels: Vec<u8> = (0..5 * 4 * 3).collect();
        image::RgbImage::from_raw(5, 4, pixels.clone()).unwrap().save(&path).unwrap();
        let frame = read_picture(&path, ImageShape { channels: 3, height: 4, width: 5 }).unwrap();
        assert_eq!((frame.width, frame.height, frame.pixels), (5, 4, pixels));
        let gray = read_picture(&path, ImageShape { channels: 1, height: 2, width: 2 }).unwrap();
        assert_eq!(gray.pixels.len(), 4);
    }

    #[test]
    fn transparent_pixels_are_white() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.png");
        RgbaImage::from_pixel(2, 2, Rgba([9, 9, 9, 0])).save(&path).unwrap();
        let frame = read_picture(&path, ImageShape { channels: 1, height: 2, width: 2 }).unwrap();
        assert_eq!(frame.pixels, [255; 4]);
    }

    #[test]
    fn files_that_are_no_pictures_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.png");
        std::fs::write(&path, "no picture").unwrap();
        let shape = ImageShape { channels: 1, height: 2, width: 2 };
        assert!(read_picture(&path, shape).unwrap_err().to_string().contains("a.png"));
        assert!(read_picture(&path, ImageShape { channels: 2, ..shape }).is_err());
        assert!(read_picture(&path, ImageShape { height: 0, ..shape }).is_err());
    }
}
