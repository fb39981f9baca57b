//! Pictures for the firmware: from a model, or from a file.

use std::fmt;
use std::path::Path;

use edgegen_firmware::{Generator, PictureShape, Request};
use edgegen_runtime::generate::{self, Latents};
use edgegen_runtime::pictures::read_png;

/// Longest side of a picture; it bounds the frame buffers.
pub const LONGEST_SIDE: u16 = 512;

/// Bytes of the largest picture.
pub const LARGEST_PICTURE: usize = 3 * LONGEST_SIDE as usize * LONGEST_SIDE as usize;

/// Truncation of the latents: the prior as it is.
const TRUNCATION: f32 = 1.0;

/// Why there are no pictures.
#[derive(Debug)]
pub enum SourceError {
    /// Pictures that no frame buffer holds.
    TooLarge {
        /// Channels, width, height.
        sizes: [usize; 3],
    },
    /// The model failed, or a picture file cannot be read.
    Runtime(edgegen_runtime::Error),
}

impl fmt::Display for SourceError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge { sizes: [channels, width, height] } => write!(
                out,
                "pictures of {width}x{height} with {channels} channels do not fit: 1 or 3 channels \
                 and at most {LONGEST_SIDE}x{LONGEST_SIDE} pixels do"
            ),
            Self::Runtime(error) => write!(out, "{error}"),
        }
    }
}

impl std::error::Error for SourceError {}

impl From<edgegen_runtime::Error> for SourceError {
    fn from(error: edgegen_runtime::Error) -> Self {
        Self::Runtime(error)
    }
}

/// A shape within the limits.
fn bounded(channels: usize, width: usize, height: usize) -> Result<PictureShape, SourceError> {
    let side = |side: usize| u16::try_from(side).ok().filter(|side| *side <= LONGEST_SIDE);
    let shape = || PictureShape::new(u8::try_from(channels).ok()?, side(width)?, side(height)?);
    shape().ok_or(SourceError::TooLarge { sizes: [channels, width, height] })
}

/// A decoder or generator of `edgegen_runtime` as the firmware sees it.
pub struct ModelGenerator {
    network: generate::Generator,
    shape: PictureShape,
    /// The class of every picture, if one was chosen.
    class: Option<u32>,
    /// The walk that was asked for last: (from, to, steps) and its latents.
    walk: Option<((u64, u64, u32), Latents)>,
}

impl ModelGenerator {
    /// Pictures of `class`; without one, where the network is told one, a gallery shows each in turn and single
    /// pictures and walks the first.
    ///
    /// An error when its pictures are too large, or their range is not known.
    pub fn new(network: generate::Generator, class: Option<u32>) -> Result<Self, SourceError> {
        network.range()?;
        let image = network.image_shape();
        let shape = bounded(image.channels, image.width, image.height)?;
        Ok(Self { network, shape, class, walk: None })
    }
}

impl Generator for ModelGenerator {
    type Error = SourceError;

    fn latent_dim(&self) -> usize {
        self.network.latent_dim()
    }

    fn shape(&self) -> PictureShape {
        self.shape
    }

    fn generate(&mut self, request: Request, pixels: &mut [u8]) -> Result<(), SourceError> {
        let dim = self.network.latent_dim();
        match request {
            Request::Still { seed, index } => {
                let latents = Latents::from_seed(seed, index, 1, dim, TRUNCATION);
                // as `edgegen generate`: picture `index` of a seed has the same class there
                let class = self.class.or_else(|| self.network.class_in_turn(index));
                self.network.frame_into(latents.row(0), class, pixels)?;
            }
            Request::Between { from, to, step, steps } => {
                let wanted = (from, to, steps);
                let walk = match self.walk.take() {
                    Some((known, latents)) if known == wanted => latents,
                    _ => Latents::walk(from, to, steps as usize, dim),
                };
                let class = self.class.or_else(|| self.network.class_in_turn(0));
                let made = self.network.frame_into(walk.row(step.min(steps - 1) as usize), class, pixels);
                self.walk = Some((wanted, walk));
                made?;
            }
        }
        Ok(())
    }
}

/// A picture that is the answer to every request: panels can be tested with it, free of any
/// model's rounding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredPicture {
    shape: PictureShape,
    pixels: Vec<u8>,
}

impl StoredPicture {
    /// `pixels` are NHWC u8; `None` if they are not as many as `shape` says.
    pub fn new(shape: PictureShape, pixels: Vec<u8>) -> Option<Self> {
        (pixels.len() == shape.bytes()).then_some(Self { shape, pixels })
    }

    /// Reads a PNG file. Gray stays gray; everything else becomes RGB, transparent pixels laid on white.
    pub fn read(path: &Path) -> Result<Self, SourceError> {
        let frame = read_png(path, LONGEST_SIDE.into())?;
        let shape = bounded(frame.format.channels(), frame.width, frame.height)?;
        Ok(Self { shape, pixels: frame.pixels })
    }
}

impl Generator for StoredPicture {
    type Error = SourceError;

    fn latent_dim(&self) -> usize {
        0
    }

    fn shape(&self) -> PictureShape {
        self.shape
    }

    fn generate(&mut self, _: Request, pixels: &mut [u8]) -> Result<(), SourceError> {
        pixels.copy_from_slice(&self.pixels);
        Ok(())
    }
}

/// A model or the test pattern, as the user asks. It is an enum and not a type parameter, so that the programs are compiled
/// once.
pub enum Source {
    /// A model's pictures.
    Model(Box<ModelGenerator>),
    /// One stored picture.
    Stored(StoredPicture),
}

impl Generator for Source {
    type Error = SourceError;

    fn latent_dim(&self) -> usize {
        match self {
            Self::Model(model) => model.latent_dim(),
            Self::Stored(picture) => picture.latent_dim(),
        }
    }

    fn shape(&self) -> PictureShape {
        match self {
            Self::Model(model) => model.shape(),
            Self::Stored(picture) => picture.shape(),
        }
    }

    fn generate(&mut self, request: Request, pixels: &mut [u8]) -> Result<(), SourceError> {
        match self {
            Self::Model(model) => model.generate(request, pixels),
            Self::Stored(picture) => picture.generate(request, pixels),
        }
    }
}
