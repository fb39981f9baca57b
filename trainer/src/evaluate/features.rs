//! Pictures → features: through any ONNX network that looks at pictures, on all cores.
//!
//! A picture is brought to the network's channels (grey is repeated, colour becomes luminance), resized to
//! its input with a triangle filter (bilinear; antialiased where it shrinks; rounded to 8 bits), and
//! scaled as the network expects. The features of a picture have the same bits whatever the number of
//! threads: networks run on whole batches, always cut at the same places.

use std::borrow::Cow;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};

use edgegen_runtime::generate::from_pixels;
use edgegen_runtime::model::{ImageShape, MANIFEST, Manifest, Range};
use image::imageops::FilterType;
use image::{DynamicImage, GrayImage, RgbImage};
use rayon::prelude::*;

use super::network::{FeatureNetwork, OutputChoice};
use super::scattered;
use crate::data::Pictures;
use crate::graph::features::INPUT_KEY;
use crate::{Error, Result};

/// How pictures are brought to a network's size, for reports and cache keys.
pub const RESIZING: &str = "triangle filter (bilinear, antialiased), 8 bits";

/// How levels 0…255 become a network's input.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scaling {
    /// level / 255.
    Unit,
    /// level / 127.5 − 1.
    Signed,
    /// (level − mean) / scale, with values for red, green and blue.
    Affine {
        /// Subtracted, levels.
        mean: [f32; 3],
        /// Divided by, levels.
        scale: [f32; 3],
    },
}

impl Scaling {
    /// What values in [−1, 1] are multiplied by, and what is added then: for red, green and blue.
    pub fn of_signed(self) -> ([f32; 3], [f32; 3]) {
        const HALF: f32 = 127.5;
        match self {
            Self::Unit => ([0.5; 3], [0.5; 3]),
            Self::Signed => ([1.0; 3], [0.0; 3]),
            Self::Affine { mean, scale } => {
                let summand = std::array::from_fn(|channel| (HALF - mean[channel]) / scale[channel]);
                (scale.map(|scale| HALF / scale), summand)
            }
        }
    }
}

impl fmt::Display for Scaling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |values: &[f32; 3]| match values {
            [a, b, c] if a == b && b == c => a.to_string(),
            [a, b, c] => format!("{a}/{b}/{c}"),
        };
        match self {
            Self::Unit => f.write_str("unit"),
            Self::Signed => f.write_str("signed"),
            Self::Affine { mean, scale } => write!(f, "mean={},scale={}", list(mean), list(scale)),
        }
    }
}

impl FromStr for Scaling {
    type Err = Error;

    /// `unit`, `signed`, `mean=127,scale=128`, or three values each: `mean=124/116/104,scale=58/57/57`.
    fn from_str(text: &str) -> Result<Self> {
        let refuse = || {
            Error::Config(format!(
                "{text:?} is no scaling of a network's input: give unit (level / 255), signed (level / 127.5 - 1) or mean=M,scale=S in levels, M and S one number or R/G/B, for example mean=127,scale=128"
            ))
        };
        let list = |text: &str| -> Option<[f32; 3]> {
            let values: Option<Vec<f32>> = text.split('/').map(|value| value.trim().parse().ok()).collect();
            let values = values.filter(|values| values.iter().all(|value| value.is_finite()))?;
            match values[..] {
                [all] => Some([all; 3]),
                [red, green, blue] => Some([red, green, blue]),
                _ => None,
            }
        };
        match text {
            "unit" => return Ok(Self::Unit),
            "signed" => return Ok(Self::Signed),
            _ => {}
        }
        let parts = text.split_once(',').and_then(|(mean, scale)| {
            Some((list(mean.trim().strip_prefix("mean=")?)?, list(scale.trim().strip_prefix("scale=")?)?))
        });
        match parts {
            Some((mean, scale)) if scale.iter().all(|scale| *scale > 0.0) => Ok(Self::Affine { mean, scale }),
            _ => Err(refuse()),
        }
    }
}

/// Where a network's [`Scaling`] was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScalingSource {
    /// The caller said so.
    Given,
    /// The file's metadata says so.
    Metadata,
    /// Nothing says so: [`Scaling::Unit`] is assumed.
    Assumed,
}

impl ScalingSource {
    /// In a word, for reports.
    pub fn word(self) -> &'static str {
        match self {
            Self::Given => "given",
            Self::Metadata => "metadata",
            Self::Assumed => "assumed",
        }
    }
}

/// An ONNX file, and what it does not say about itself.
#[derive(Clone, Debug, Default)]
pub struct NetworkChoice {
    /// The file.
    pub path: PathBuf,
    /// The output to read; without it, the one whose name suits the purpose, else the first.
    pub output: Option<String>,
    /// Scaling of its input; without it, the file's metadata decides, else [`Scaling::Unit`].
    pub scaling: Option<Scaling>,
}

impl FromStr for NetworkChoice {
    type Err = Error;

    /// Reads `PATH`, or `PATH SCALING` (see [`Scaling`]), as settings name a network.
    fn from_str(text: &str) -> Result<Self> {
        let (path, scaling) = match text.rsplit_once(' ') {
            Some((path, scaling)) if !Path::new(text).exists() => (path, Some(scaling.parse()?)),
            _ => (text, None),
        };
        Ok(Self { path: path.into(), output: None, scaling })
    }
}

/// What a network's rows are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Features: prefers an output `features`.
    Features,
    /// A classifier's verdict: prefers `probabilities`, then `logits`.
    Classes,
}

impl Purpose {
    /// The outputs that suit it, the best first.
    fn outputs(self) -> &'static [&'static str] {
        match self {
            Self::Features => &["features"],
            Self::Classes => &["probabilities", "logits"],
        }
    }
}

/// Pictures that are looked at, wherever they lie.
pub trait Rows: Sync {
    /// How many.
    fn count(&self) -> usize;

    /// Picture `index`, (height, width, channels).
    fn picture(&self, index: usize) -> &[u8];
}

impl Rows for Pictures {
    fn count(&self) -> usize {
        Pictures::count(self)
    }

    fn picture(&self, index: usize) -> &[u8] {
        Pictures::picture(self, index)
    }
}

/// Rows of f32, one per picture.
#[derive(Clone, Debug, PartialEq)]
pub struct Features {
    /// (N, D).
    pub values: Vec<f32>,
    /// D.
    pub dimension: usize,
}

impl Features {
    /// Rows `values`, (N, D).
    ///
    /// # Errors
    /// [`Error::Config`] if the length is not a multiple of `dimension`, or that is 0.
    pub fn new(values: Vec<f32>, dimension: usize) -> Result<Self> {
        if dimension == 0 || !values.len().is_multiple_of(dimension) {
            let problem = format!("{} values are no rows of {dimension}", values.len());
            return Err(Error::Config(problem));
        }
        Ok(Self { values, dimension })
    }

    /// N.
    pub fn count(&self) -> usize {
        self.values.len() / self.dimension
    }

    /// Row `index`, (D).
    pub fn row(&self, index: usize) -> &[f32] {
        &self.values[index * self.dimension..][..self.dimension]
    }

    /// At most `most` rows in their order, see [`scattered`]; all if there are no more.
    pub fn scattered(&self, most: usize) -> Cow<'_, Self> {
        if self.count() <= most {
            return Cow::Borrowed(self);
        }
        let rows =
            scattered(self.count(), most).into_iter().flat_map(|index| self.row(index)).copied().collect();
        Cow::Owned(Self { values: rows, dimension: self.dimension })
    }
}

/// A network with everything settled that decides a picture's row.
pub struct Extractor {
    network: FeatureNetwork,
    path: PathBuf,
    scaling: Scaling,
    source: ScalingSource,
}

impl Extractor {
    /// Opens a network.
    ///
    /// # Errors
    /// The runtime's, if the file is not such a network; [`Error::Config`] if the file's metadata names an
    /// unknown scaling, or another one than the caller.
    pub fn open(choice: &NetworkChoice, purpose: Purpose) -> Result<Self> {
        let preferred = purpose.outputs();
        let output = choice.output.as_deref().map_or(OutputChoice::Prefer(preferred), OutputChoice::Named);
        Self::of(FeatureNetwork::open(&choice.path, output)?, choice)
    }

    /// Opens the ONNX file `bytes`, which messages call `name`.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn from_bytes(bytes: &[u8], name: &str, purpose: Purpose) -> Result<Self> {
        let network = FeatureNetwork::from_bytes(bytes, name, OutputChoice::Prefer(purpose.outputs()))?;
        Self::of(network, &NetworkChoice { path: name.into(), ..NetworkChoice::default() })
    }

    fn of(network: FeatureNetwork, choice: &NetworkChoice) -> Result<Self> {
        let said = said_scaling(&network, &choice.path)?;
        let (scaling, source) = match (choice.scaling, said) {
            (Some(given), Some(said)) if given != said => {
                return Err(Error::Config(format!(
                    "{}: its metadata says that its input is {said}, not {given}: leave that option out",
                    choice.path.display()
                )));
            }
            (Some(given), _) => (given, ScalingSource::Given),
            (None, Some(said)) => (said, ScalingSource::Metadata),
            (None, None) => (Scaling::Unit, ScalingSource::Assumed),
        };
        Ok(Self { network, path: choice.path.clone(), scaling, source })
    }

    /// The network.
    pub fn network(&self) -> &FeatureNetwork {
        &self.network
    }

    /// The network's file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the features are called: the model's name for a file of a model folder, else the file's name without
    /// its ending, and without a last `_features`.
    pub fn name(&self) -> String {
        let folder = self.path.parent().filter(|folder| folder.join(MANIFEST).is_file());
        if let Some(manifest) = folder.and_then(|folder| Manifest::read(folder).ok()) {
            return manifest.name;
        }
        let stem = self.path.file_stem().unwrap_or_default().to_string_lossy();
        let short = stem.strip_suffix("features").map(|stem| stem.trim_end_matches(['_', '-', '.', ' ']));
        short.filter(|short| !short.is_empty()).unwrap_or(&stem).to_string()
    }

    /// How its input is scaled.
    pub fn scaling(&self) -> Scaling {
        self.scaling
    }

    /// Who said so.
    pub fn scaling_source(&self) -> ScalingSource {
        self.source
    }

    /// Everything besides the pictures that decides a row, as text: for cache keys.
    pub fn identity(&self) -> String {
        let (output, batch) = (self.network.output(), self.network.batch());
        format!(
            "network {} output {output:?} input {} resized by {RESIZING} batch {batch} version {}",
            self.network.sha256(),
            self.scaling,
            env!("CARGO_PKG_VERSION")
        )
    }

    /// The features of `pictures`, (height, width, channels) of `shape` each. `done` is told of every number of
    /// pictures that is done.
    ///
    /// # Errors
    /// [`Error::Config`] if they are no pictures of `shape` or none at all; the runtime's, if the network
    /// fails or gives values that are not finite.
    pub fn features(
        &self,
        shape: ImageShape,
        pictures: &dyn Rows,
        done: &(dyn Fn(usize) + Sync),
    ) -> Result<Features> {
        let (size, count) = (shape.values(), pictures.count());
        if size == 0 || count == 0 || pictures.picture(0).len() != size {
            return Err(Error::Config(format!("{count} pictures are none of {shape}")));
        }
        let (input, batch, dimension) =
            (self.network.image_shape(), self.network.batch(), self.network.dimension());
        let mut values = vec![0f32; count * dimension];
        // a state is made when no thread has one to spare, and handed on
        let idle = Mutex::new(Vec::new());
        let lock = || idle.lock().unwrap_or_else(PoisonError::into_inner);
        values.par_chunks_mut(batch * dimension).enumerate().try_for_each(
            |(number, rows)| -> Result<()> {
                let (first, of_batch) = (number * batch, rows.len() / dimension);
                let spare = lock().pop();
                let mut runner = match spare {
                    Some(runner) => runner,
                    None => self.network.runner()?,
                };
                let mut prepared = vec![0f32; of_batch * input.values()];
                for (index, values) in prepared.chunks_mut(input.values()).enumerate() {
                    self.scale(&resized(shape, pictures.picture(first + index), input)?, values);
                }
                runner.run(&prepared, rows)?;
                done(of_batch);
                lock().push(runner);
                Ok(())
            },
        )?;
        Features::new(values, dimension)
    }

    /// One picture, (H, W, C), to the network's values, (C, H, W).
    fn scale(&self, pixels: &[u8], out: &mut [f32]) {
        let shape = self.network.image_shape();
        let (mean, scale) = match self.scaling {
            Scaling::Unit => return from_pixels(Range::Unit, shape, pixels, out),
            Scaling::Signed => return from_pixels(Range::Signed, shape, pixels, out),
            Scaling::Affine { mean, scale } => (mean, scale),
        };
        for (channel, plane) in out.chunks_mut(shape.height * shape.width).enumerate() {
            let levels = pixels.iter().skip(channel).step_by(shape.channels);
            for (value, level) in plane.iter_mut().zip(levels) {
                *value = (f32::from(*level) - mean[channel]) / scale[channel];
            }
        }
    }
}

/// The scaling that a file tells: under [`INPUT_KEY`], or as the range of edgegen's own encoders.
fn said_scaling(network: &FeatureNetwork, path: &Path) -> Result<Option<Scaling>> {
    if let Some(text) = network.input_scaling() {
        let named = |e: Error| Error::Config(format!("{}: metadata {INPUT_KEY}: {e}", path.display()));
        return text.parse().map(Some).map_err(named);
    }
    Ok(network.metadata().range.map(|range| match range {
        Range::Unit => Scaling::Unit,
        Range::Signed => Scaling::Signed,
        Range::Bytes => Scaling::Affine { mean: [0.0; 3], scale: [1.0; 3] },
    }))
}

/// One picture, (H, W, C) of shape `from`, brought to shape `to`; one that has it stays as it is.
///
/// # Errors
/// [`Error::Config`] if `pixels` are no picture of `from`, or a shape is none of a picture.
pub fn resized<'a>(from: ImageShape, pixels: &'a [u8], to: ImageShape) -> Result<Cow<'a, [u8]>> {
    if from == to && pixels.len() == from.values() {
        return Ok(Cow::Borrowed(pixels));
    }
    let side = |side: usize| u32::try_from(side).ok().filter(|side| *side > 0);
    let picture = side(from.width).zip(side(from.height)).and_then(|(width, height)| match from.channels {
        1 => GrayImage::from_raw(width, height, pixels.to_vec()).map(DynamicImage::from),
        3 => RgbImage::from_raw(width, height, pixels.to_vec()).map(DynamicImage::from),
        _ => None,
    });
    let (Some(mut picture), Some(width), Some(height)) = (picture, side(to.width), side(to.height)) else {
        return Err(Error::Config(format!("{} values of {from} cannot become {to}", pixels.len())));
    };
    if to.channels == 1 {
        picture = picture.into_luma8().into();
    }
    if (from.width, from.height) != (to.width, to.height) {
        picture = picture.resize_exact(width, height, FilterType::Triangle);
    }
    Ok(Cow::Owned(if to.channels == 1 {
        picture.into_luma8().into_raw()
    } else {
        picture.into_rgb8().into_raw()
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scalings_are_read_as_they_are_printed() {
        for text in ["unit", "signed", "mean=127,scale=128", "mean=123.5/116.25/103.5,scale=58/57/57.5"] {
            assert_eq!(text.parse::<Scaling>().unwrap().to_string(), text);
        }
        for bad in [
            "",
            "imagenet",
            "mean=1",
            "mean=1,scale=0",
            "mean=1/2,scale=1",
            "scale=1,mean=1",
            "mean=nan,scale=1",
        ] {
            assert!(bad.parse::<Scaling>().unwrap_err().to_string().contains("scaling"), "{bad}");
        }
    }

    #[test]
    fn pictures_change_size_and_channels() {
        let shape = |channels, side| ImageShape { channels, height: side, width: side };
        let grey: Vec<u8> = (0..16).map(|i| i * 16).collect();
        assert_eq!(&*resized(shape(1, 4), &grey, shape(1, 4)).unwrap(), &grey);
        let rgb = resized(shape(1, 4), &grey, shape(3, 4)).unwrap();
        assert!(rgb.chunks(3).zip(&grey).all(|(pixel, level)| pixel == [*level; 3]));
        assert_eq!(&*resized(shape(3, 4), &rgb, shape(1, 4)).unwrap(), &grey);
        // every pixel of a flat picture stays as it is, larger or smaller
        for side in [1, 3, 9] {
            assert!(
                resized(shape(3, 4), &[77; 48], shape(3, side)).unwrap().iter().all(|level| *level == 77)
            );
        }
        // a checkerboard that shrinks becomes its mean: no aliasing
        let board: Vec<u8> = (0..256).map(|i| if (i / 16 + i % 16) % 2 == 0 { 0 } else { 200 }).collect();
        let small = resized(shape(1, 16), &board, shape(1, 4)).unwrap();
        assert!(small.iter().all(|level| (95..=105).contains(level)), "{small:?}");
        assert!(resized(shape(1, 4), &grey[1..], shape(1, 2)).is_err());
        assert!(resized(shape(2, 4), &[0; 32], shape(1, 2)).is_err());
    }
}
