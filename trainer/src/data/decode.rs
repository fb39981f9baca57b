//! One file → one record of the cache: the picture at its size, and a small image of it that shows copies.

use std::sync::{Condvar, Mutex, PoisonError};

use edgegen_runtime::model::{ImageShape, Range};
use edgegen_runtime::pictures::{EncodedPicture, Fit, fit_picture};
use edgegen_runtime::sound::{Format, Sound};
use image::{DynamicImage, GrayImage};
use sha2::{Digest, Sha256};

use super::copies::{SIGNATURE, signature};
use super::{SideBySide, pairs};

/// Memory of all pictures that are being decoded at a time, but for one that needs more by itself: 1 GiB.
const BUDGET: u64 = 1 << 30;
/// Copies of its decoded pixels that a picture needs on its way (turning, cropping, transparency).
const COPIES: u64 = 3;

/// A file's picture.
pub(super) struct Decoded {
    /// (height, width, channels), then the signature.
    pub(super) record: Vec<u8>,
    /// SHA-256 of the first of these.
    pub(super) sha256: [u8; 32],
    /// (width, height) in the file, upright.
    pub(super) dimensions: (u32, u32),
    /// Whether the file holds further pictures or frames, which are not used.
    pub(super) more: bool,
}

/// How pictures are brought to size.
#[derive(Clone, Copy)]
pub(super) struct Target {
    pub(super) shape: ImageShape,
    pub(super) fit: Fit,
    /// The files are sounds, and pictures their spectrograms.
    pub(super) sound: Option<Format>,
    /// Columns from a sound's window to the next.
    pub(super) stride: usize,
    /// Each file shows a pair.
    pub(super) beside: SideBySide,
}

impl Target {
    /// Bytes of a record.
    pub(super) fn stride(self) -> usize {
        self.shape.values() + SIGNATURE
    }

    /// Decodes a file's bytes: of a sound the window of this number; with a `partner`, those of the file of the other picture of a
    /// pair.
    ///
    /// # Errors
    /// Why it cannot be used, without the file's name.
    pub(super) fn decode(
        self,
        bytes: Vec<u8>,
        (partner, window): (Option<Vec<u8>>, usize),
        budget: &Budget,
    ) -> Result<Decoded, String> {
        const NAME: &str = "picture";
        // the name is said where the reasons are listed
        let reason = |e: edgegen_runtime::Error| {
            let text = e.to_string();
            text.strip_prefix("picture: ").map(str::to_string).unwrap_or(text)
        };
        if let Some(format) = self.sound {
            return self.spectrogram(format, &bytes, window);
        }
        let more = holds_more(&bytes);
        let encoded = EncodedPicture::new(bytes, NAME).map_err(reason)?;
        let _held = budget.take(COPIES * encoded.decoded_bytes());
        let picture = encoded.decode().map_err(reason)?;
        let dimensions = (picture.width(), picture.height());
        if dimensions.0 == 0 || dimensions.1 == 0 {
            return Err("this picture has no pixels".into());
        }
        let small = signature(&small_image(&picture));
        let mut record = match (partner, self.beside) {
            (Some(bytes), _) => {
                let encoded = EncodedPicture::new(bytes, NAME).map_err(reason)?;
                let _held = budget.take_more(COPIES * encoded.decoded_bytes());
                let other = encoded.decode().map_err(reason)?;
                self.pair(picture, other).map_err(|problem| match problem {
                    Misfit::Proportions(is) => {
                        format!("{is} its partner: both pictures of a pair have the same proportions")
                    }
                    Misfit::Picture(e) => reason(e),
                })?
            }
            (None, SideBySide::No) => fit_picture(picture, self.shape, self.fit).map_err(reason)?.pixels,
            (None, side) => {
                let (width, height) = dimensions;
                if !width.is_multiple_of(2) {
                    return Err(format!(
                        "this picture is {width} pixels wide, which two beside each other are not"
                    ));
                }
                let [left, right] = [0, width / 2].map(|at| picture.crop_imm(at, 0, width / 2, height));
                let (given, wanted) = if side == SideBySide::Left { (left, right) } else { (right, left) };
                self.pair(given, wanted).map_err(|problem| match problem {
                    Misfit::Proportions(is) => is,
                    Misfit::Picture(e) => reason(e),
                })?
            }
        };
        let sha256 = Sha256::digest(&record).into();
        record.extend_from_slice(&small);
        Ok(Decoded { record, sha256, dimensions, more })
    }
}

/// Why two pictures are no pair.
enum Misfit {
    /// Their sizes, as the first words of a reason.
    Proportions(String),
    Picture(edgegen_runtime::Error),
}

impl Target {
    /// Both pictures of a pair at their size, side by side.
    fn pair(self, given: DynamicImage, wanted: DynamicImage) -> Result<Vec<u8>, Misfit> {
        let sizes = [&given, &wanted].map(|picture| (picture.width(), picture.height()));
        let [across, down] =
            [u64::from(sizes[0].0) * u64::from(sizes[1].1), u64::from(sizes[1].0) * u64::from(sizes[0].1)];
        // a pixel more or less comes of rounding
        let rounding = sizes.iter().map(|(width, height)| u64::from(*width.max(height))).max().unwrap_or(0);
        if across.abs_diff(down) > rounding {
            let [own, other] = sizes.map(|(width, height)| format!("{width}x{height}"));
            return Err(Misfit::Proportions(format!("is {own}, {other}")));
        }
        let half = pairs::half(self.shape);
        let fit = |picture| fit_picture(picture, half, self.fit).map_err(Misfit::Picture);
        Ok(pairs::joined(&fit(given)?.pixels, &fit(wanted)?.pixels, half))
    }

    /// The spectrogram of a window of a WAV file's bytes.
    fn spectrogram(self, format: Format, bytes: &[u8], window: usize) -> Result<Decoded, String> {
        let reason = |e: edgegen_runtime::Error| {
            let text = e.to_string();
            text.strip_prefix("sound: ").map(str::to_string).unwrap_or(text)
        };
        let sound = Sound::from_bytes(bytes, "sound").and_then(|sound| sound.at_rate(format.rate));
        let ImageShape { height, width, .. } = self.shape;
        let samples = sound.map_err(reason)?.samples;
        let first = window * self.stride * format.hop;
        let samples = samples.get(first..).ok_or("this sound is shorter than its header says")?;
        let values = format.spectrogram(samples, height, width).map_err(reason)?;
        let mut record: Vec<u8> = values.iter().map(|value| Range::Unit.pixel(*value)).collect();
        let sha256 = Sha256::digest(&record).into();
        let picture = GrayImage::from_raw(width as u32, height as u32, record.clone());
        let picture = picture.ok_or("its spectrogram has another size")?;
        record.extend_from_slice(&signature(&small_image(&picture.into())));
        Ok(Decoded { record, sha256, dimensions: (width as u32, height as u32), more: false })
    }
}

/// A picture as the signature's square, each cell the mean of the pixels that it covers.
fn small_image(picture: &DynamicImage) -> image::RgbImage {
    const SIDE: u32 = super::copies::SIDE as u32;
    if picture.width() < SIDE || picture.height() < SIDE {
        return picture.resize_exact(SIDE, SIDE, image::imageops::FilterType::Triangle).into_rgb8();
    }
    picture.thumbnail_exact(SIDE, SIDE).into_rgb8()
}

/// Lets threads decode side by side as long as their pictures fit into [`BUDGET`].
#[derive(Default)]
pub(super) struct Budget {
    used: Mutex<u64>,
    freed: Condvar,
}

/// A part of the budget, given back when dropped.
pub(super) struct Held<'a> {
    budget: &'a Budget,
    bytes: u64,
}

impl Budget {
    /// For a thread that holds some already, and so must not wait.
    fn take_more(&self, bytes: u64) -> Held<'_> {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner) += bytes;
        Held { budget: self, bytes }
    }

    fn take(&self, bytes: u64) -> Held<'_> {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        while *used > 0 && *used + bytes > BUDGET {
            used = self.freed.wait(used).unwrap_or_else(PoisonError::into_inner);
        }
        *used += bytes;
        Held { budget: self, bytes }
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        *self.budget.used.lock().unwrap_or_else(PoisonError::into_inner) -= self.bytes;
        self.budget.freed.notify_all();
    }
}

/// Whether a file holds more than one frame or page. A damaged file may be called either; decoding judges it.
fn holds_more(bytes: &[u8]) -> bool {
    if bytes.starts_with(b"GIF8") {
        return gif_frames(bytes).is_some_and(|frames| frames > 1);
    }
    if bytes.starts_with(b"\x89PNG") {
        // an animation's control chunk stands before the first picture data (PNG, third edition)
        let data = bytes.windows(4).position(|window| window == b"IDAT").unwrap_or(bytes.len());
        return bytes[..data].windows(4).any(|window| window == b"acTL");
    }
    if bytes.starts_with(b"RIFF") && bytes.get(8..16) == Some(b"WEBPVP8X") {
        const ANIMATION: u8 = 0x02;
        return bytes.get(20).is_some_and(|flags| flags & ANIMATION != 0);
    }
    tiff_pages(bytes).is_some_and(|further| further)
}

/// Frames of a GIF, at most 2: its blocks are passed over one by one (GIF89a, CompuServe 1990).
fn gif_frames(bytes: &[u8]) -> Option<usize> {
    const EXTENSION: u8 = 0x21;
    const IMAGE: u8 = 0x2C;
    let table = |flags: u8| if flags & 0x80 == 0 { 0 } else { 3 << ((flags & 7) + 1) };
    let mut at = 13 + table(*bytes.get(10)?);
    let mut frames = 0;
    while frames < 2 {
        match bytes.get(at) {
            Some(&EXTENSION) => at += 2,
            Some(&IMAGE) => {
                frames += 1;
                at += 11 + table(*bytes.get(at + 9)?);
            }
            _ => break,
        }
        // sub-blocks, up to an empty one
        while let Some(length) = bytes.get(at).copied().filter(|length| *length > 0) {
            at += 1 + usize::from(length);
        }
        at += 1;
    }
    Some(frames)
}

/// Whether a TIFF (revision 6.0) has a second directory; `None` if it is no TIFF.
fn tiff_pages(bytes: &[u8]) -> Option<bool> {
    let big = match bytes.get(..4)? {
        b"II*\0" => false,
        b"MM\0*" => true,
        _ => return None,
    };
    let number = |at: usize, length: usize| -> Option<usize> {
        let digits = bytes.get(at..at.checked_add(length)?)?;
        let add = |sum: usize, digit: &u8| sum << 8 | usize::from(*digit);
        Some(if big { digits.iter().fold(0, add) } else { digits.iter().rev().fold(0, add) })
    };
    let first = number(4, 4)?;
    let entries = number(first, 2)?;
    Some(number(first + 2 + 12 * entries, 4)? != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::codecs::gif::GifEncoder;

    #[test]
    fn further_frames_and_pages_are_noticed() {
        let frame = || image::Frame::new(image::RgbaImage::from_pixel(4, 4, image::Rgba([9, 200, 9, 255])));
        let gif = |frames: usize| {
            let mut bytes = Vec::new();
            GifEncoder::new(&mut bytes).encode_frames((0..frames).map(|_| frame())).unwrap();
            bytes
        };
        assert!(!holds_more(&gif(1)) && holds_more(&gif(2)) && holds_more(&gif(5)));
        let page = |next: u32| {
            let entry = [[0u8; 12]; 1].concat();
            [&b"II*\0"[..], &8u32.to_le_bytes(), &1u16.to_le_bytes(), &entry, &next.to_le_bytes()].concat()
        };
        assert!(!holds_more(&page(0)) && holds_more(&page(26)));
        let kinds = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/pictures");
        for (name, more) in
            [("animated.gif", true), ("animated.png", true), ("animated.webp", true), ("cmyk.jpg", false)]
        {
            assert_eq!(holds_more(&std::fs::read(kinds.join(name)).unwrap()), more, "{name}");
        }
    }

    #[test]
    fn pictures_are_decoded_side_by_side_within_the_budget() {
        let budget = Budget::default();
        let first = budget.take(BUDGET / 2);
        let second = budget.take(BUDGET / 2);
        std::thread::scope(|scope| {
            let third = scope.spawn(|| budget.take(1).bytes);
            drop(first);
            assert_eq!(third.join().unwrap(), 1);
        });
        drop(second);
        // a picture that needs more than all is decoded alone
        assert_eq!(budget.take(3 * BUDGET).bytes, 3 * BUDGET);
        assert_eq!(*budget.used.lock().unwrap(), 0);
    }
}
