//! The pictures that are judged: ours or another program's, from an array, a folder or a generator.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use edgegen_runtime::generate::{Generator, Latents};
use edgegen_runtime::model::{ImageShape, Model, ModelFolder, OpenOptions, Precision, limits};
use edgegen_runtime::pictures::{NpyValues, picture_dimensions, read_npy_values, read_picture};
use rayon::prelude::*;

use super::features::Rows;
use super::report::Split;
use super::{in_proportion, spread};
use crate::data::Dataset;
use crate::data::files::{self, FORMATS};
use crate::{Error, Result};

/// Pictures that a generator draws unless the caller says otherwise.
pub const DRAWN: usize = 10_000;
/// Latents that one thread turns into pictures at a time.
const CHUNK: usize = 64;

/// Pictures to judge, u8.
#[derive(Clone, Debug, PartialEq)]
pub struct Samples {
    /// What reports call them.
    pub name: String,
    /// Shape of every picture.
    pub shape: ImageShape,
    /// (N, height, width, channels).
    pub pixels: Vec<u8>,
    /// The class that each was drawn for, (N); or empty.
    pub requested: Vec<u16>,
    /// The classes that a generator draws; empty without.
    pub classes: Vec<String>,
    /// How many there are where these were taken from.
    available: usize,
}

/// How samples are read.
#[derive(Clone, Debug, Default)]
pub struct SampleOptions {
    /// How many: evenly spread over an array or folder, which may be sorted by class; `None`: all there are, or
    /// [`DRAWN`] of a generator.
    pub count: Option<usize>,
    /// Which latents a generator is given: sample i depends on the seed and i alone.
    pub seed: u64,
    /// What a generator's file does not tell.
    pub open: OpenOptions,
    /// Which of the precisions in a model folder; `None`: its default.
    pub precision: Option<Precision>,
    /// The class that a conditional generator draws, by name or number; `None`: see `labels`.
    pub class: Option<String>,
    /// The classes of the pictures that samples are compared with: a conditional generator draws classes in their
    /// proportions; empty: each in turn.
    pub labels: Vec<u16>,
}

impl Rows for Samples {
    fn count(&self) -> usize {
        Samples::count(self)
    }

    fn picture(&self, index: usize) -> &[u8] {
        Samples::picture(self, index)
    }
}

impl Samples {
    /// Pictures `pixels`, (N, height, width, channels).
    ///
    /// # Errors
    /// [`Error::Config`] if there are none, or they do not have `shape`.
    pub fn new(name: impl Into<String>, shape: ImageShape, pixels: Vec<u8>) -> Result<Self> {
        let name = name.into();
        let usable = matches!(shape.channels, 1 | 3) && shape.values() > 0;
        if !usable || pixels.is_empty() || !pixels.len().is_multiple_of(shape.values()) {
            return Err(Error::Config(format!("{name}: {} values are no pictures of {shape}", pixels.len())));
        }
        let available = pixels.len() / shape.values();
        Ok(Self { name, shape, pixels, requested: Vec::new(), classes: Vec::new(), available })
    }

    /// Reads the samples at `path`: a `.npy` array (uint8; (N, H, W, 1 or 3) or (N, H, W)), a folder of
    /// images (in the order of their paths; in colour, and brought to the first one's size), an ONNX generator,
    /// or a model folder.
    ///
    /// # Errors
    /// One that names `path`, if it is none of these, is damaged, or holds fewer than `options.count`.
    pub fn read(path: &Path, options: &SampleOptions) -> Result<Self> {
        if options.count == Some(0) {
            return Err(Error::Config("--count 0 asks for nothing: give 1 or more".into()));
        }
        let extension = path.extension().and_then(OsStr::to_str).map(str::to_lowercase);
        let draws =
            path.join(edgegen_runtime::model::MANIFEST).is_file() || extension.as_deref() == Some("onnx");
        if options.class.is_some() && path.exists() && !draws {
            return Err(Error::data(path, "holds pictures already: --class is for a generator"));
        }
        match extension.as_deref() {
            _ if !path.exists() => Err(Error::data(
                path,
                "does not exist; samples are a .npy array, a folder of images, an .onnx generator or a model folder",
            )),
            _ if path.is_dir() && path.join(edgegen_runtime::model::MANIFEST).is_file() => {
                Self::drawn(path, options)
            }
            _ if path.is_dir() => Self::folder(path, options),
            Some("npy") => Self::array(path, options),
            Some("onnx") => Self::drawn(path, options),
            _ => Err(Error::data(
                path,
                "is not known as samples: give a .npy array, a folder of images, an .onnx generator or a model folder",
            )),
        }
    }

    /// The labels in whose proportions a conditional generator's samples are compared with the part `split` of `dataset`; none
    /// if it draws one class, or its classes are others.
    pub fn proportions(&self, dataset: &Dataset, split: Split) -> Vec<u16> {
        let same = !self.classes.is_empty() && self.classes == dataset.classes;
        if same { split.of(dataset).labels().to_vec() } else { Vec::new() }
    }

    /// N.
    pub fn count(&self) -> usize {
        self.pixels.len() / self.shape.values()
    }

    /// Picture `index`, (height, width, channels).
    pub fn picture(&self, index: usize) -> &[u8] {
        &self.pixels[index * self.shape.values()..][..self.shape.values()]
    }

    /// Sets the class that each sample was drawn for, from a `.npy` array (N) of int64 or uint8: one for each sample, or
    /// for each of those that the samples were taken from.
    ///
    /// # Errors
    /// One that names `path`, if it holds something else, or another number of classes.
    pub fn read_requested(&mut self, path: &Path) -> Result<()> {
        let (shape, values) = read_npy_values(path)?;
        let classes: Option<Vec<u16>> = match values {
            NpyValues::Uint8(values) => Some(values.into_iter().map(u16::from).collect()),
            NpyValues::Int64(values) => values.into_iter().map(|value| u16::try_from(value).ok()).collect(),
            NpyValues::Float32(_) => None,
        };
        let Some(classes) = classes.filter(|_| shape.len() == 1) else {
            return Err(Error::data(
                path,
                "is no list of classes: it takes (N) int64 or uint8, from 0 to 65535",
            ));
        };
        if classes.len() != self.count() && classes.len() != self.available {
            let all = match self.available - self.count() {
                0 => String::new(),
                _ => format!(" of {}", self.available),
            };
            let problem = format!("holds {} classes for {} samples{all}", classes.len(), self.count());
            return Err(Error::data(path, problem));
        }
        self.requested = spread(classes.len(), self.count()).map(|index| classes[index]).collect();
        Ok(())
    }

    fn array(path: &Path, options: &SampleOptions) -> Result<Self> {
        let (shape, values) = read_npy_values(path)?;
        let NpyValues::Uint8(pixels) = values else {
            let problem = format!(
                "holds {}; pictures are uint8, (N, H, W, 1 or 3): scale them to 0…255, round and astype(\"uint8\")",
                values.dtype()
            );
            return Err(Error::data(path, problem));
        };
        let (count, picture) = match shape[..] {
            [count, height, width] => (count, ImageShape { channels: 1, height, width }),
            [count, height, width, channels @ (1 | 3)] => (count, ImageShape { channels, height, width }),
            _ => {
                let problem = format!("has shape {shape:?}; pictures are (N, H, W, 1 or 3) or (N, H, W)");
                return Err(Error::data(path, problem));
            }
        };
        let taken = taken(path, count, options.count)?;
        if picture.values() == 0 || picture.height.max(picture.width) > limits::MAX_IMAGE_SIDE {
            return Err(Error::data(path, format!("pictures of {picture} are not judged")));
        }
        let pixels = match taken {
            all if all == count => pixels,
            _ => spread(count, taken)
                .flat_map(|index| &pixels[index * picture.values()..][..picture.values()])
                .copied()
                .collect(),
        };
        Ok(Self { available: count, ..Self::new(name_of(path), picture, pixels)? })
    }

    fn folder(path: &Path, options: &SampleOptions) -> Result<Self> {
        let files: Vec<PathBuf> = files::below(path)?.files.into_iter().map(|file| file.path).collect();
        if files.is_empty() {
            return Err(Error::data(
                path,
                format!(
                    "holds neither model.json nor images; samples are {FORMATS} files, in sub-folders or not"
                ),
            ));
        }
        let available = files.len();
        let taken = taken(path, available, options.count)?;
        let files: Vec<PathBuf> = spread(available, taken).map(|index| files[index].clone()).collect();
        let (width, height) = picture_dimensions(&files[0])?;
        let shape = ImageShape { channels: 3, height: height as usize, width: width as usize };
        let read = |file: &PathBuf| Ok(read_picture(file, shape)?.pixels);
        let pictures: Vec<Vec<u8>> = files.par_iter().map(read).collect::<Result<_>>()?;
        Ok(Self { available, ..Self::new(name_of(path), shape, pictures.concat())? })
    }

    /// The pictures that `edgegen generate` draws from the same seed: one latent at a time.
    fn drawn(path: &Path, options: &SampleOptions) -> Result<Self> {
        let open = || -> Result<Generator> {
            let model = if path.is_dir() {
                let folder = ModelFolder::open(path)?;
                folder.open_part(folder.drawing_part()?, options.precision, &options.open)?
            } else {
                Model::open(path, &options.open)?
            };
            model.range()?;
            if let Some(precision) =
                options.precision.filter(|precision| *precision != model.facts().precision)
            {
                let problem = format!("this file is {}, not {precision}", model.facts().precision);
                return Err(Error::data(path, problem));
            }
            Ok(model.into_generator(1)?)
        };
        let first = open()?;
        let (shape, latent, count) =
            (first.image_shape(), first.latent_dim(), options.count.unwrap_or(DRAWN));
        limits::check_count(count, shape.values().div_ceil(4).max(latent))?;
        let requested = match &options.class {
            Some(class) => vec![first.class_named(class)?; count],
            None if first.is_conditional() && first.classes().is_empty() => {
                return Err(Error::data(path, "does not tell which classes it has: give --class"));
            }
            None if first.is_conditional() && !options.labels.is_empty() => {
                in_proportion(&options.labels, count).into_iter().map(u32::from).collect()
            }
            None => (0..count as u64).filter_map(|index| first.class_in_turn(index)).collect(),
        };
        let classes = if first.is_conditional() { first.classes().to_vec() } else { Vec::new() };
        let mut pixels = vec![0u8; count * shape.values()];
        let idle = std::sync::Mutex::new(vec![first]);
        let lock = || idle.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let chunks = pixels.par_chunks_mut(CHUNK * shape.values()).enumerate();
        chunks.try_for_each(|(chunk, pixels)| -> Result<()> {
            let spare = lock().pop();
            let mut generator = match spare {
                Some(generator) => generator,
                None => open()?,
            };
            let number = pixels.len() / shape.values();
            let latents = Latents::from_seed(options.seed, (chunk * CHUNK) as u64, number, latent, 1.0);
            for (index, pixels) in pixels.chunks_mut(shape.values()).enumerate() {
                let class = requested.get(chunk * CHUNK + index).copied();
                generator.frame_into(latents.row(index), class, pixels)?;
            }
            lock().push(generator);
            Ok(())
        })?;
        let samples = Self::new(format!("{} seed {}", name_of(path), options.seed), shape, pixels)?;
        Ok(Self { requested: requested.into_iter().map(|class| class as u16).collect(), classes, ..samples })
    }
}

fn taken(path: &Path, count: usize, asked: Option<usize>) -> Result<usize> {
    match asked {
        Some(asked) if asked > count => {
            Err(Error::data(path, format!("holds {count} samples; --count {asked} asks for more")))
        }
        _ => Ok(asked.unwrap_or(count)),
    }
}

fn name_of(path: &Path) -> String {
    let absolute = std::path::absolute(path).ok();
    let name = absolute.as_deref().and_then(Path::file_name);
    name.map_or_else(|| "samples".into(), |name| name.to_string_lossy().into_owned())
}
