//! Journey one starts here: files → pictures as u8, NHWC → batches as f32, NCHW, in [0, 1].
//!
//! Three sources: IDX files ([`idx`]), a folder of images ([`folder`]), and the small set inside
//! the program ([`embedded`]). Training, validation and test pictures are kept apart from the start.

mod embedded;
mod folder;
mod idx;
mod labelled;

use std::path::{Path, PathBuf};

use edgegen_runtime::generate::{Frame, from_pixels};
use edgegen_runtime::model::{ImageShape, PixelFormat, Range};
use edgegen_runtime::random::{Purpose, Stream};
use sha2::{Digest, Sha256};

use crate::{Error, Result};

/// Fewest pictures that a data set needs: a few to train on, one to validate, one to test.
const FEWEST: usize = 10;

/// Pictures of one size, u8, NHWC, with a class each or none.
#[derive(Clone, Default)]
pub struct Pictures {
    /// (N, height, width, channels).
    pub pixels: Vec<u8>,
    /// (N), or empty.
    pub labels: Vec<u16>,
    /// Values per picture.
    pub values: usize,
}

impl Pictures {
    /// Rows of `values` values each, (N, height, width, channels), with labels (N) or none.
    pub fn from_rows(values: usize, pixels: Vec<u8>, labels: Vec<u16>) -> Self {
        Self { pixels, labels, values }
    }

    /// The classes of all pictures, (N), or empty.
    pub fn labels(&self) -> &[u16] {
        &self.labels
    }

    /// The pictures `indices`.
    pub fn chosen(&self, indices: impl Iterator<Item = usize>) -> Self {
        let mut chosen = Self::with(self.values);
        indices.for_each(|index| chosen.push(self.picture(index), self.labels.get(index).copied()));
        chosen
    }

    /// How many.
    pub fn count(&self) -> usize {
        self.pixels.len() / self.values.max(1)
    }

    /// Picture `index`, (height, width, channels).
    pub fn picture(&self, index: usize) -> &[u8] {
        &self.pixels[index * self.values..][..self.values]
    }

    /// The classes of the pictures `indices`; `None` if they have none.
    pub fn classes(&self, indices: impl IntoIterator<Item = usize>) -> Option<Vec<u32>> {
        let of = |index: usize| u32::from(self.labels[index]);
        (!self.labels.is_empty()).then(|| indices.into_iter().map(of).collect())
    }

    fn with(values: usize) -> Self {
        Self { values, ..Self::default() }
    }

    fn push(&mut self, pixels: &[u8], label: Option<u16>) {
        self.pixels.extend_from_slice(pixels);
        self.labels.extend(label);
    }

    /// Splits off the pictures for which `away` says so.
    fn split_off(self, mut away: impl FnMut(usize) -> bool) -> (Self, Self) {
        let (mut kept, mut gone) = (Self::with(self.values), Self::with(self.values));
        for index in 0..self.count() {
            let target = if away(index) { &mut gone } else { &mut kept };
            target.push(self.picture(index), self.labels.get(index).copied());
        }
        (kept, gone)
    }
}

/// A data set in three parts.
pub struct Dataset {
    /// What cards and metadata call it.
    pub name: String,
    /// Shape of every picture.
    pub shape: ImageShape,
    /// Names of the classes; empty if there are none.
    pub classes: Vec<String>,
    /// To learn from.
    pub train: Pictures,
    /// To choose by.
    pub validation: Pictures,
    /// To report, once.
    pub test: Pictures,
    /// Files that were not used, with the reason.
    pub skipped: Vec<(PathBuf, String)>,
    /// What else its owner should know.
    pub remarks: Vec<String>,
}

/// How pictures of any size become pictures of one size.
#[derive(Clone, Copy, Debug)]
pub struct LoadOptions {
    /// Side that a folder's images are resized to, pixels.
    pub side: usize,
    /// Whether a folder's images become grey.
    pub gray: bool,
}

/// Loads the data set at `path`, or the embedded one.
///
/// # Errors
/// [`Error::Data`] naming the file, if nothing usable is there.
pub fn load(path: Option<&Path>, options: LoadOptions) -> Result<Dataset> {
    let dataset = match path {
        None => embedded::load()?,
        Some(path) if !path.exists() => {
            return Err(Error::data(path, "does not exist; --data takes a folder of images or of IDX files"));
        }
        Some(path) if !path.is_dir() => {
            return Err(Error::data(path, "is a file; --data takes a folder of images or of IDX files"));
        }
        Some(path) if labelled::is_idx_folder(path) => labelled::load(path)?,
        Some(path) => folder::load(path, options)?,
    };
    let total = dataset.train.count() + dataset.validation.count() + dataset.test.count();
    if total < FEWEST {
        let place = path.unwrap_or(Path::new("the embedded set"));
        return Err(Error::data(
            place,
            format!("holds {total} usable pictures; at least {FEWEST} are needed"),
        ));
    }
    Ok(dataset)
}

impl Dataset {
    /// How the pictures' bytes are to be read.
    pub fn pixel_format(&self) -> PixelFormat {
        pixel_format(self.shape)
    }

    /// SHA-256 of all pictures and labels in their parts and order, hex.
    pub fn sha256(&self) -> String {
        let mut hash = Sha256::new();
        for part in [&self.train, &self.validation, &self.test] {
            hash.update((part.count() as u64).to_le_bytes());
            hash.update(&part.pixels);
            part.labels.iter().for_each(|label| hash.update(label.to_le_bytes()));
        }
        hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// One picture as the runtime's programs would show it.
    pub fn frame(&self, pixels: &[u8]) -> Frame {
        Frame {
            width: self.shape.width,
            height: self.shape.height,
            format: self.pixel_format(),
            pixels: pixels.to_vec(),
        }
    }
}

/// How the bytes of pictures of this shape are to be read.
pub fn pixel_format(shape: ImageShape) -> PixelFormat {
    if shape.channels == 1 { PixelFormat::Gray8 } else { PixelFormat::Rgb8 }
}

/// What a data set is called: its folder's name.
fn name_of(folder: &Path) -> String {
    let absolute = std::path::absolute(folder).ok();
    let name = absolute.as_deref().and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
    name.unwrap_or_else(|| "pictures".into())
}

/// The pictures `indices` as one batch (N, C, H, W), f32 in `range`.
pub fn batch(
    range: Range,
    shape: ImageShape,
    pictures: &Pictures,
    indices: impl ExactSizeIterator<Item = usize>,
) -> Vec<f32> {
    let mut out = vec![0f32; indices.len() * shape.values()];
    for (index, out) in indices.zip(out.chunks_mut(shape.values())) {
        from_pixels(range, shape, pictures.picture(index), out);
    }
    out
}

/// Draws each value as 0 or 1 with itself as the probability of 1.
pub fn binarize(values: &mut [f32], stream: &mut Stream) {
    values.iter_mut().for_each(|value| *value = if stream.uniform() < *value { 1.0 } else { 0.0 });
}

/// Binarises held-out pictures: picture `first + i` of the batch has its own stream, so that the
/// binarised set is the same whatever the batch size.
pub fn binarize_held_out(values: &mut [f32], values_per_picture: usize, seed: u64, first: usize) {
    for (index, picture) in values.chunks_mut(values_per_picture).enumerate() {
        binarize(picture, &mut Stream::new(seed, Purpose::BinarizeHeldOut, (first + index) as u64));
    }
}

/// Adds normal noise of this deviation and keeps values in [0, 1].
pub fn add_noise(values: &mut [f32], deviation: f32, stream: &mut Stream) {
    values.iter_mut().for_each(|value| *value = (*value + deviation * stream.normal()).clamp(0.0, 1.0));
}
