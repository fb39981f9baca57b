//! Pictures from files, in the size that a model takes.
//!
//! The content decides the format, not the name: a PNG that is called `.jpg` is read as a PNG.

use crate::generate::Frame;
use crate::model::limits::{MAX_IMAGE_SIDE, MAX_MODEL_BYTES, read_bounded};
use crate::model::{ImageShape, PixelFormat};
use crate::{Error, Result};
use image::imageops::{FilterType, overlay};
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits, Rgba, RgbaImage};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::io::Cursor;
use std::path::Path;
use std::str::FromStr;

/// Longest side of a picture that is read.
const LONGEST_SIDE: u32 = 16_384;
/// Most memory that decoding one picture may take.
const MOST_MEMORY: u64 = 512 << 20;
/// Brands of HEIF files (ISO/IEC 23008-12 and the AVIF specification), which phones write.
const HEIF_BRANDS: [&[u8; 4]; 12] = [
    b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1", b"avif",
    b"avis",
];

/// How a picture of other proportions comes to the proportions of a shape.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fit {
    /// The largest centred rectangle of the right proportions is cut out.
    #[default]
    Crop,
    /// The whole picture, centred on white.
    Pad,
    /// The whole picture, its proportions changed.
    Stretch,
}

impl FromStr for Fit {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text {
            "crop" => Ok(Self::Crop),
            "pad" => Ok(Self::Pad),
            "stretch" => Ok(Self::Stretch),
            _ => Err("it takes crop, pad or stretch".into()),
        }
    }
}

impl fmt::Display for Fit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Crop => "crop",
            Self::Pad => "pad",
            Self::Stretch => "stretch",
        })
    }
}

/// Reads a picture (PNG, GIF, or JPEG in the program) and brings it to `shape`: the largest centred
/// rectangle of the right proportions is cut out and resized with a triangle filter; a picture of
/// the right size stays as it is. It is turned as its EXIF data says.
/// Transparent pixels are laid on white. Colour becomes luminance
/// where the shape has one channel.
///
/// # Errors
/// If the file cannot be read or decoded, is too large, or `shape` is no picture.
pub fn read_picture(path: &Path, shape: ImageShape) -> Result<Frame> {
    check_shape(shape)?;
    let name = path.display().to_string();
    let picture = EncodedPicture::new(read_bounded(path, MAX_MODEL_BYTES)?, &name)?.decode()?;
    fit_picture(picture, shape, Fit::Crop)
}

/// Reads a picture in its own size: grey if its file is, else in colours. Otherwise as [`read_picture`].
///
/// # Errors
/// As [`read_picture`], or if a side is longer than [`MAX_IMAGE_SIDE`].
pub fn read_whole_picture(path: &Path) -> Result<Frame> {
    let name = path.display().to_string();
    let picture = EncodedPicture::new(read_bounded(path, MAX_MODEL_BYTES)?, &name)?.decode()?;
    let (width, height) = (picture.width() as usize, picture.height() as usize);
    if width.max(height) > MAX_IMAGE_SIDE {
        let problem =
            format!("a picture of {width}x{height}: sides of at most {MAX_IMAGE_SIDE} are supported");
        return Err(Error::unsupported(name, problem));
    }
    let channels = if picture.color().has_color() { 3 } else { 1 };
    fit_picture(picture, ImageShape { channels, height, width }, Fit::Stretch)
}

/// A picture whose header has been read, and whose pixels have not.
pub struct EncodedPicture<'a> {
    decoder: Box<dyn ImageDecoder>,
    name: &'a str,
}

impl<'a> EncodedPicture<'a> {
    /// Reads the header of the picture file `bytes`; messages call it `name`.
    ///
    /// # Errors
    /// If it is no picture, one of a format that is not read (HEIC and AVIF: the message says how to convert
    /// them), too large, or a JPEG that ends before its picture does.
    pub fn new(mut bytes: Vec<u8>, name: &'a str) -> Result<Self> {
        if let Some(problem) = foreign(&bytes) {
            return Err(Error::unsupported(name, problem));
        }
        if bytes.starts_with(&[0xFF, 0xD8]) {
            // decoders fill missing rows with grey, and trip over a video after the picture
            let end = jpeg_end(&bytes)
                .ok_or_else(|| Error::malformed(name, "this JPEG ends in the middle of its picture"))?;
            bytes.truncate(end);
        }
        let mut reader =
            ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(|e| unreadable(name, &e))?;
        let mut limits = Limits::default();
        limits.max_image_width = Some(LONGEST_SIDE);
        limits.max_image_height = Some(LONGEST_SIDE);
        limits.max_alloc = Some(MOST_MEMORY);
        reader.limits(limits);
        if reader.format().is_some_and(|format| !format.reading_enabled()) {
            let format = reader.format().map(format_name).unwrap_or_default();
            return Err(Error::unsupported(name, format!("this program does not read {format} pictures")));
        }
        let decoder = reader.into_decoder().map_err(|e| unreadable(name, &e))?;
        Ok(Self { decoder: Box::new(decoder), name })
    }

    /// (width, height) in pixels, as the camera was held.
    ///
    /// # Errors
    /// If the file is damaged.
    pub fn upright_dimensions(&mut self) -> Result<(u32, u32)> {
        use image::metadata::Orientation;
        let (width, height) = self.decoder.dimensions();
        Ok(match self.orientation()? {
            Orientation::Rotate90
            | Orientation::Rotate270
            | Orientation::Rotate90FlipH
            | Orientation::Rotate270FlipH => (height, width),
            _ => (width, height),
        })
    }

    fn orientation(&mut self) -> Result<image::metadata::Orientation> {
        self.decoder.orientation().map_err(|e| unreadable(self.name, &e))
    }

    /// Bytes of the decoded picture.
    pub fn decoded_bytes(&self) -> u64 {
        self.decoder.total_bytes()
    }

    /// The picture, turned as the camera says that it was held, transparent pixels laid on white. Of an animation
    /// or a file of several pages it is the first.
    ///
    /// # Errors
    /// If the file is damaged, or decoding takes too much memory.
    pub fn decode(mut self) -> Result<DynamicImage> {
        let orientation = self.orientation()?;
        let mut picture = DynamicImage::from_decoder(self.decoder).map_err(|e| unreadable(self.name, &e))?;
        picture.apply_orientation(orientation);
        Ok(without_transparency(picture))
    }
}

/// (width, height) of the picture file `path`, upright.
///
/// # Errors
/// As [`EncodedPicture::new`].
pub fn picture_dimensions(path: &Path) -> Result<(u32, u32)> {
    let name = path.display().to_string();
    EncodedPicture::new(read_bounded(path, MAX_MODEL_BYTES)?, &name)?.upright_dimensions()
}

/// Brings a decoded picture to `shape`, with a triangle filter; a picture of the right size stays as it is.
///
/// # Errors
/// If `shape` is no picture.
pub fn fit_picture(picture: DynamicImage, shape: ImageShape, fit: Fit) -> Result<Frame> {
    let (width, height, format) = check_shape(shape)?;
    let (own_width, own_height) = (picture.width(), picture.height());
    let resized = |picture: DynamicImage, width: u32, height: u32| {
        if (picture.width(), picture.height()) == (width, height) {
            return picture;
        }
        picture.resize_exact(width, height, FilterType::Triangle)
    };
    let picture = match fit {
        Fit::Stretch => resized(picture, width, height),
        Fit::Crop => {
            let (left, top, cut_width, cut_height) = centred(own_width, own_height, width, height);
            let whole = (cut_width, cut_height) == (own_width, own_height);
            let cut = if whole { picture } else { picture.crop_imm(left, top, cut_width, cut_height) };
            resized(cut, width, height)
        }
        Fit::Pad => {
            // the part of the shape that has the picture's proportions
            let (left, top, inner_width, inner_height) = centred(width, height, own_width, own_height);
            let inner = resized(picture, inner_width, inner_height);
            if (inner_width, inner_height) == (width, height) {
                inner
            } else {
                let mut white = RgbaImage::from_pixel(width, height, Rgba([255; 4]));
                overlay(&mut white, &inner.into_rgba8(), i64::from(left), i64::from(top));
                white.into()
            }
        }
    };
    let pixels = match format {
        PixelFormat::Gray8 => picture.into_luma8().into_raw(),
        PixelFormat::Rgb8 => picture.into_rgb8().into_raw(),
    };
    Ok(Frame { width: shape.width, height: shape.height, format, pixels })
}

/// Width, height and format of pictures of `shape`.
fn check_shape(shape: ImageShape) -> Result<(u32, u32, PixelFormat)> {
    let sides = u32::try_from(shape.width).ok().zip(u32::try_from(shape.height).ok());
    let format = PixelFormat::from_channels(shape.channels);
    match (sides.filter(|(width, height)| *width > 0 && *height > 0), format) {
        (Some((width, height)), Some(format)) => Ok((width, height, format)),
        _ => Err(Error::invalid(format_args!("{shape} is not the shape of a picture"))),
    }
}

/// What to say of a file of a kind that users take for a picture, and that is not read.
fn foreign(bytes: &[u8]) -> Option<&'static str> {
    let brand = bytes.get(8..12).filter(|_| bytes.get(4..8) == Some(b"ftyp"))?;
    Some(if HEIF_BRANDS.iter().any(|known| known.as_slice() == brand) {
        "HEIC, HEIF and AVIF pictures are not read: convert them to JPEG, for example with `heif-convert IN.heic OUT.jpg` or `magick IN.heic OUT.jpg`"
    } else {
        "this is a video, not a picture"
    })
}

fn unreadable(name: &str, e: &dyn fmt::Display) -> Error {
    Error::malformed(name, format!("this picture cannot be read: {e}"))
}

fn format_name(format: ImageFormat) -> String {
    format!("{format:?}").to_uppercase()
}

/// Where the first picture of a JPEG file ends: after its end-of-image marker (ITU-T T.81, annex B). Phones append a
/// video or further pictures after it. `None` if the file ends before.
fn jpeg_end(bytes: &[u8]) -> Option<usize> {
    const END_OF_IMAGE: u8 = 0xD9;
    let mut at = 2;
    loop {
        // what stands between a segment and the next marker is passed over, as decoders do: after a scan, its data
        let marker = loop {
            at += bytes.get(at..)?.iter().position(|byte| *byte == 0xFF)?;
            match *bytes.get(at + 1)? {
                0x00 | 0x01 | 0xD0..=0xD8 => at += 2, // a stuffed byte, or a marker without a segment
                0xFF => at += 1,                      // fill
                marker => break marker,
            }
        };
        at += 2;
        if marker == END_OF_IMAGE {
            return Some(at);
        }
        let length = usize::from(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]));
        at += length.max(2);
    }
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
    fn a_picture_is_cropped_padded_or_stretched() {
        // left half black, right half red, twice as wide as high
        let picture =
            image::RgbImage::from_fn(8, 4, |x, _| image::Rgb(if x < 4 { [0; 3] } else { [255, 0, 0] }));
        let shape = ImageShape { channels: 3, height: 4, width: 4 };
        let row = |fit, y: usize| {
            let frame = fit_picture(picture.clone().into(), shape, fit).unwrap();
            frame.pixels[y * 12..][..12].as_chunks::<3>().0.to_vec()
        };
        let (black, red, white) = ([0; 3], [255, 0, 0], [255; 3]);
        assert_eq!(row(Fit::Crop, 0), [black, black, red, red]);
        assert_eq!((row(Fit::Stretch, 0)[0], row(Fit::Stretch, 0)[3]), (black, red));
        assert_eq!(row(Fit::Pad, 0), [white; 4]);
        assert_eq!((row(Fit::Pad, 1)[0], row(Fit::Pad, 2)[3]), (black, red));
        assert_eq!(row(Fit::Pad, 3), [white; 4]);
    }

    #[test]
    fn a_jpeg_ends_where_its_first_picture_does() {
        let segment = |marker: u8, content: &[u8]| {
            let length = (content.len() as u16 + 2).to_be_bytes();
            [&[0xFF, marker], &length[..], content].concat()
        };
        // a thumbnail with its own end marker, two scans with stuffed bytes and a restart marker
        let picture = [
            &[0xFF, 0xD8][..],
            &segment(0xE1, &[0xFF, 0xD8, 0xFF, 0xD9]),
            &segment(0xDA, &[1, 2]),
            &[5, 0xFF, 0x00, 7, 0xFF, 0xD3, 9],
            &segment(0xDA, &[3]),
            &[6, 0xFF, 0xFF, 0xD9],
        ]
        .concat();
        assert_eq!(jpeg_end(&picture), Some(picture.len()));
        let with_video = [&picture[..], &[0; 9000], &[0xFF, 0xD9]].concat();
        assert_eq!(jpeg_end(&with_video), Some(picture.len()));
        for cut in 2..picture.len() {
            assert_eq!(jpeg_end(&picture[..cut]), None, "cut at {cut}");
        }
    }

    #[test]
    fn heic_files_and_videos_are_refused_with_what_to_do() {
        let refused = |brand: &[u8]| {
            let bytes = [&[0, 0, 0, 24][..], b"ftyp", brand, &[0; 12]].concat();
            EncodedPicture::new(bytes, "a.jpg").err().unwrap().to_string()
        };
        assert!(refused(b"heic").contains("convert"), "{}", refused(b"heic"));
        assert!(refused(b"avif").contains("heif-convert"));
        assert!(refused(b"isom").contains("video"));
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
