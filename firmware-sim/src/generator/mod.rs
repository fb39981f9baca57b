//! Pictures for the firmware: a model's, those of files through a model, or a file's.

mod files;
mod meter;
mod model;
mod transform;

pub use files::Files;
pub use meter::Meter;
pub use model::ModelGenerator;
pub use transform::Transform;

use std::fmt;
use std::path::Path;

use edgegen_firmware::{Generator, PictureShape, Request};
use edgegen_runtime::generate::{Likelihood, Scorer};
use edgegen_runtime::model::{Model, ModelFolder, OpenOptions, Part, Precision};
use edgegen_runtime::pictures::read_png;
use embedded_graphics::geometry::Size;

/// Longest side of a picture; it bounds the frame buffers.
pub const LONGEST_SIDE: u16 = 512;

/// Bytes of the largest picture.
pub const LARGEST_PICTURE: usize = 3 * LONGEST_SIDE as usize * LONGEST_SIDE as usize;

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
    /// What was asked for does not go with the model, or there are no pictures.
    Unfit(String),
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
            Self::Unfit(problem) => write!(out, "{problem}"),
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

/// What makes pictures, as the user asks. It is an enum and not a type parameter, so that the programs are compiled once.
pub enum Source {
    /// A model's pictures.
    Model(Box<ModelGenerator>),
    /// Pictures of files, and what a model makes of them.
    Transform(Box<Transform>),
    /// Pictures of files, and how odd a model finds them.
    Meter(Box<Meter>),
    /// One stored picture.
    Stored(StoredPicture),
}

/// What is to be opened.
#[derive(Clone, Debug)]
pub struct Opening<'a> {
    /// An ONNX file or a model folder.
    pub model: &'a Path,
    /// Which network of a folder; `None`: the one that draws, or the one that turns pictures into pictures.
    pub part: Option<Part>,
    /// `None`: the folder's default.
    pub precision: Option<Precision>,
    /// What a foreign file does not say.
    pub options: OpenOptions,
    /// A class, by name or number.
    pub class: Option<&'a str>,
    /// A file or folder of pictures, for a model that takes pictures.
    pub pictures: Option<&'a Path>,
    /// Whether knobs turn the latent's values.
    pub explore: bool,
    /// Size of the panel, which a picture of any size is brought to.
    pub room: Size,
}

impl Opening<'_> {
    /// Opens the model; a folder with an encoder and a decoder measures how odd pictures are, if there are any.
    ///
    /// # Errors
    /// If a file cannot be opened, or what was asked for does not go together.
    pub fn open(&self) -> Result<(Source, String), SourceError> {
        let name = self.model.display();
        let Some(pictures) = self.pictures else {
            let model = Model::open_named(self.model, self.part, self.precision, &self.options)?;
            return self.of_model(model);
        };
        let files = Files::open(pictures)?;
        if self.explore || self.class.is_some() {
            let problem = "a model that is given pictures has no latent and no class to be chosen";
            return Err(SourceError::Unfit(format!("{name}: {problem}")));
        }
        let folder = self.model.is_dir().then(|| ModelFolder::open(self.model)).transpose()?;
        let both = [Part::Encoder, Part::Decoder];
        if let Some(folder) =
            folder.filter(|folder| both.iter().all(|part| folder.manifest.parts.contains(part)))
        {
            let open = |part| folder.open_part(part, self.precision, &self.options);
            let (encoder, decoder) = (open(Part::Encoder)?, open(Part::Decoder)?);
            let facts = decoder.facts();
            let said = folder.manifest.metrics.get(&format!("score_{}", facts.precision));
            let number =
                |name: &str| said.and_then(|said| said.get(name)).and_then(serde_json::Value::as_f64);
            let about =
                format!("{name}: {} encoder and decoder, pictures of {}", facts.precision, facts.image);
            let likelihood = number("sigma").map_or(Likelihood::Bernoulli, Likelihood::Gaussian);
            let threshold = number("threshold");
            let scorer = Scorer::of_vae(encoder, decoder, likelihood)?;
            return Ok((Source::Meter(Box::new(Meter::new(scorer, threshold, files)?)), about));
        }
        let open = |size| {
            let options = OpenOptions { size, ..self.options.clone() };
            Model::open_named(self.model, self.part, self.precision, &options)
        };
        let opened = Transform::open(&open, files, self.room);
        let (transform, about) = opened.map_err(|error| match error {
            SourceError::Unfit(problem) => SourceError::Unfit(format!("{name}: {problem}")),
            other => other,
        })?;
        Ok((Source::Transform(Box::new(transform)), format!("{name}: {about}")))
    }

    /// The pictures of a model that draws.
    fn of_model(&self, model: Model) -> Result<(Source, String), SourceError> {
        let (facts, name) = (model.facts(), self.model.display());
        let about = format!(
            "{name}: {} {}, latents of {}, pictures of {}",
            facts.precision, facts.part, facts.latent_dim, facts.image
        );
        if facts.part == Part::Transform {
            let problem = "this model turns pictures into pictures: say which with --pictures FILE|FOLDER";
            return Err(SourceError::Unfit(format!("{name}: {problem} (pictures = in a configuration)")));
        }
        let network = model.into_generator(1)?;
        let class = self.class.map(|class| network.class_named(class)).transpose()?;
        let mut source = ModelGenerator::new(network, class)?;
        if self.explore {
            source.explore();
        }
        Ok((Source::Model(Box::new(source)), about))
    }
}

impl Source {
    /// The model's own pictures, where there are some.
    pub fn model(&self) -> Option<&ModelGenerator> {
        match self {
            Self::Model(model) => Some(model),
            _ => None,
        }
    }

    /// The same, to be changed.
    pub fn model_mut(&mut self) -> Option<&mut ModelGenerator> {
        match self {
            Self::Model(model) => Some(model),
            _ => None,
        }
    }
}

macro_rules! each {
    ($source:ident, $it:ident => $what:expr) => {
        match $source {
            Self::Model($it) => $what,
            Self::Transform($it) => $what,
            Self::Meter($it) => $what,
            Self::Stored($it) => $what,
        }
    };
}

impl Generator for Source {
    type Error = SourceError;

    fn latent_dim(&self) -> usize {
        each!(self, it => it.latent_dim())
    }

    fn shape(&self) -> PictureShape {
        each!(self, it => it.shape())
    }

    fn generate(&mut self, request: Request, pixels: &mut [u8]) -> Result<(), SourceError> {
        each!(self, it => it.generate(request, pixels))
    }

    fn turn(&mut self, knob: u8, clicks: i8) -> bool {
        each!(self, it => it.turn(knob, clicks))
    }
}
