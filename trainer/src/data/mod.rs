//! Journey one starts here: files → pictures as u8, NHWC → batches as f32, NCHW, in [0, 1].
//!
//! Three sources: IDX files ([`idx`]), a folder of images ([`folder`]), and the small set inside
//! the program ([`embedded`]). Training, validation and test pictures are kept apart from the start.
//! A folder's pictures are decoded once ([`cache`]) and compared with each other ([`copies`]), so that no copy
//! of a training picture is held out ([`split`]).

mod cache;
mod copies;
mod decode;
pub mod degrade;
mod embedded;
pub(crate) mod files;
mod folder;
mod idx;
mod labelled;
mod map;
mod mirror;
mod options;
mod order;
pub(crate) mod pairs;
mod pictures;
mod split;

use std::path::{Path, PathBuf};

use crate::random::{Purpose, Stream};
use edgegen_runtime::generate::{Frame, from_pixels};
use edgegen_runtime::model::{ImageShape, PixelFormat, Range};
use sha2::{Digest, Sha256};

pub use edgegen_runtime::pictures::Fit;
pub use mirror::{Mirroring, is_colourless};
pub use options::{GroupBy, HeldOut, LoadOptions, Mirror, Pairs, SIDES, SideBySide, Size};
pub use order::order;
pub use pairs::listed as listed_pairs;
pub use pictures::Pictures;

use crate::{Error, Result};

/// Fewest pictures that a data set needs.
const FEWEST: usize = 10;

/// Told how many of how many files are read and decoded. Not called where everything comes out of the cache.
pub type Progress<'a> = dyn Fn(usize, usize) + Sync + 'a;

/// A data set in three parts, of which the last two may be empty.
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
    /// Test pictures of the classes that were left out; mostly none.
    pub odd: Pictures,
    /// Whether training pictures are mirrored, and why.
    pub mirroring: Mirroring,
    /// Files that were not used, with the reason.
    pub skipped: Vec<(PathBuf, String)>,
    /// What else its owner should know.
    pub remarks: Vec<String>,
    /// What was found in a folder's files.
    pub facts: Facts,
}

/// What was found in the files of a folder of images.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Sizes of the pictures in their files; `None` for other sources.
    pub dimensions: Option<Dimensions>,
    /// Pictures that are copies of others.
    pub copies: Copies,
    /// Files that had to be decoded, and were not in the cache.
    pub decoded: usize,
}

/// Sizes of pictures, (width, height) in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dimensions {
    /// Of the fewest pixels.
    pub smallest: (u32, u32),
    /// Of as many pixels as half of the pictures have at most.
    pub median: (u32, u32),
    /// Of the most pixels.
    pub largest: (u32, u32),
}

/// Pictures that are copies of others; the first of each is not counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Copies {
    /// Of the same bytes.
    pub exact: usize,
    /// Of the same picture in another file format, quality or size.
    pub near: usize,
}

/// Loads the data set at `path`, or the embedded one; `progress` is told of files that are decoded.
///
/// # Errors
/// [`Error::Data`] naming the file, if nothing usable is there.
pub fn load(path: Option<&Path>, options: &LoadOptions, progress: &Progress<'_>) -> Result<Dataset> {
    let mut idx = true;
    let mut dataset = match path {
        None if options.pairs.is_some() => {
            return Err(Error::Config(
                "pairs are of pictures in folders: give those that go in with --data FOLDER".into(),
            ));
        }
        None => embedded::load(options.held_out)?,
        Some(path) if !path.exists() => {
            return Err(Error::data(path, "does not exist; --data takes a folder of images or of IDX files"));
        }
        Some(path) if options.pairs.is_none() && labelled::is_idx(path) => {
            labelled::load(path, options.held_out)?
        }
        Some(path) if !path.is_dir() => {
            return Err(Error::data(path, "is a file; --data takes a folder of images or of IDX files"));
        }
        Some(path) => {
            idx = false;
            folder::load(path, options, progress)?
        }
    };
    let total = dataset.train.count() + dataset.validation.count() + dataset.test.count();
    if total < FEWEST || dataset.train.count() < 2 {
        let place = path.unwrap_or(Path::new("the embedded set"));
        let first = dataset.skipped.first();
        let skipped = first.map(|(path, problem)| {
            format!("; {} were skipped, the first, {}: {problem}", dataset.skipped.len(), path.display())
        });
        return Err(Error::data(
            place,
            format!(
                "holds {total} usable pictures, {} of them to learn from; at least {FEWEST} are needed{}",
                dataset.train.count(),
                skipped.unwrap_or_default()
            ),
        ));
    }
    dataset.mirroring = match (options.mirror, &options.pairs) {
        (Mirror::Auto, Some(_)) => Mirroring { on: false, why: "pairs are not, unless asked for".into() },
        (asked, _) => mirror::decide(asked, &dataset.train, dataset.shape, &dataset.classes, idx),
    };
    Ok(dataset)
}

impl Dataset {
    /// Training, validation and test pictures, and nothing else to say of them; they are not mirrored.
    pub fn new(
        name: impl Into<String>,
        shape: ImageShape,
        classes: Vec<String>,
        [train, validation, test]: [Pictures; 3],
    ) -> Self {
        Self {
            name: name.into(),
            shape,
            classes,
            train,
            validation,
            test,
            odd: Pictures::none(shape.values()),
            mirroring: Mirroring { on: false, why: "as asked for".into() },
            skipped: Vec::new(),
            remarks: Vec::new(),
            facts: Facts::default(),
        }
    }

    /// The pictures of one class, without it; those of other classes in the test part become odd ones.
    ///
    /// # Errors
    /// [`Error::Config`] if there is no such class.
    pub fn only(mut self, class: &str) -> Result<Self> {
        let Some(own) = self.classes.iter().position(|name| name == class) else {
            return Err(Error::Config(format!(
                "--only {class}: {} has the classes {}",
                self.name,
                if self.classes.is_empty() { "none".into() } else { self.classes.join(", ") }
            )));
        };
        let of = |pictures: &Pictures, is: bool| {
            let labels = pictures.labels().to_vec();
            let chosen: Vec<usize> =
                (0..labels.len()).filter(|index| (usize::from(labels[*index]) == own) == is).collect();
            pictures.chosen(chosen).with_labels(Vec::new())
        };
        self.odd = of(&self.test, false);
        for part in [&mut self.train, &mut self.validation, &mut self.test] {
            *part = of(part, true);
        }
        self.classes.clear();
        Ok(self)
    }

    /// How the pictures' bytes are to be read.
    pub fn pixel_format(&self) -> PixelFormat {
        pixel_format(self.shape)
    }

    /// The pictures that figures are reported of, and what messages call them: those of the test part, or else the
    /// validation pictures, or else those that were learned from.
    pub fn report_part(&self) -> (&Pictures, &'static str) {
        let parts = [(&self.test, "test"), (&self.validation, "validation")];
        parts.into_iter().find(|(part, _)| part.count() > 0).unwrap_or((&self.train, "training"))
    }

    /// SHA-256 of all pictures and labels in their parts and order, hex.
    pub fn sha256(&self) -> String {
        let mut hash = Sha256::new();
        [&self.train, &self.validation, &self.test].into_iter().for_each(|part| part.hash_into(&mut hash));
        hex(hash)
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

/// The training pictures `indices` of step `step` as one batch (N, C, H, W), f32 in `range`; where the data set is
/// mirrored, each with probability ½.
pub fn training_batch(range: Range, dataset: &Dataset, indices: &[usize], seed: u64, step: u64) -> Vec<f32> {
    let mut mirrored = mirrored(dataset, indices.len(), seed, step).into_iter();
    mirrored_batch(range, dataset, indices, |_| mirrored.next().unwrap_or(false))
}

/// Which of the `count` pictures of step `step` are mirrored.
pub fn mirrored(dataset: &Dataset, count: usize, seed: u64, step: u64) -> Vec<bool> {
    let mut chance = Stream::new(seed, Purpose::Mirror, step);
    (0..count).map(|_| dataset.mirroring.on && chance.below(2) == 1).collect()
}

/// The training pictures `indices` as one batch (N, C, H, W), f32 in `range`; left and right are exchanged where
/// `mirrored` says so of a picture's number.
pub fn mirrored_batch(
    range: Range,
    dataset: &Dataset,
    indices: &[usize],
    mut mirrored: impl FnMut(usize) -> bool,
) -> Vec<f32> {
    let mut out = batch(range, dataset.shape, &dataset.train, indices.iter().copied());
    for (picture, index) in out.chunks_mut(dataset.shape.values()).zip(indices) {
        if mirrored(*index) {
            mirror::flip(picture, dataset.shape.width);
        }
    }
    out
}

/// Draws each value as 0 or 1 with itself as the probability of 1.
pub fn binarize(values: &mut [f32], stream: &mut Stream) {
    values.iter_mut().for_each(|value| *value = if stream.uniform() < *value { 1.0 } else { 0.0 });
}

/// Adds normal noise of this deviation and keeps values in [0, 1].
pub fn add_noise(values: &mut [f32], deviation: f32, stream: &mut Stream) {
    values.iter_mut().for_each(|value| *value = (*value + deviation * stream.normal()).clamp(0.0, 1.0));
}

/// A finished SHA-256, hex.
pub(crate) fn hex(hash: Sha256) -> String {
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
