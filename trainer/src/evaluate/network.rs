//! Networks that look at pictures: feature extractors and classifiers of any maker.

use std::path::Path;

use edgegen_runtime::model::limits::{MAX_IMAGE_SIDE, MAX_MODEL_BYTES, read_bounded};
use edgegen_runtime::model::{AnyFile, ImageShape, Metadata, RowNetwork, RowRunner, sha256_hex};

use crate::graph::features::INPUT_KEY;
use crate::{Error, Result};

/// Most values of one picture's row.
pub const MAX_FEATURES: usize = 65_536;

/// Most pictures of one run.
const LARGEST_BATCH: usize = 16;
/// Values of the pictures of one run. Larger ones go one by one: EfficientNet-Lite0 at 224 × 224 took 20 ms of a
/// core for each alone, and 45 ms in batches of 16, whose layers leave the caches.
const BATCH_VALUES: usize = 1 << 14;

/// Which of a network's outputs is read.
#[derive(Clone, Copy, Debug)]
pub enum OutputChoice<'a> {
    /// The first of these names that there is; if there is none, the first float32 output.
    Prefer(&'a [&'a str]),
    /// The one of this name.
    Named(&'a str),
}

/// A network that turns one float32 picture, (N, 1 or 3, H, W), into a row of float32 values, (N, D) or (N, D, 1, 1).
/// Threads share it; each has its own [`Self::runner`].
pub struct FeatureNetwork {
    sha256: String,
    metadata: Metadata,
    input_scaling: Option<String>,
    image: ImageShape,
    output: String,
    dimension: usize,
    network: RowNetwork,
}

impl FeatureNetwork {
    /// Opens an ONNX file.
    ///
    /// # Errors
    /// If the file cannot be read or is too large for the runtime; else see [`Self::from_bytes`].
    pub fn open(path: &Path, output: OutputChoice<'_>) -> Result<Self> {
        let bytes = read_bounded(path, MAX_MODEL_BYTES)?;
        Self::from_bytes(&bytes, &path.display().to_string(), output)
    }

    /// Opens an ONNX file that is in memory; `name` stands for it in errors. It is bound to a batch that suits the size
    /// of its pictures, or to the one that the file fixes.
    ///
    /// # Errors
    /// The runtime's: if the bytes are not a sound ONNX model, or if the network does not turn one float32 picture into
    /// a row of float32 values.
    pub fn from_bytes(bytes: &[u8], name: &str, output: OutputChoice<'_>) -> Result<Self> {
        let refused = |problem: &str| Error::Config(format!("{name}: {problem}"));
        let file = AnyFile::from_bytes(bytes, name)?;
        let output = match output {
            OutputChoice::Named(name) => name.to_string(),
            OutputChoice::Prefer(names) => {
                let outputs = file.outputs();
                let preferred = names.iter().map(ToString::to_string).find(|name| outputs.contains(name));
                let found = preferred.or_else(|| outputs.into_iter().next());
                found.ok_or_else(|| refused("it has no float32 output"))?
            }
        };
        let (metadata, input_scaling) =
            (file.metadata().clone(), file.property(INPUT_KEY).map(str::to_string));
        let mut image = None;
        let network = file.network(&output, |row| {
            let found = picture(row)?;
            image = Some(found);
            Ok((BATCH_VALUES / found.values()).clamp(1, LARGEST_BATCH))
        })?;
        let image = image.ok_or_else(|| refused("it has no input"))?;
        let dimension = match *network.output() {
            [size] | [size, 1, 1] if (1..=MAX_FEATURES).contains(&size) => size,
            ref shape => {
                let problem = format!(
                    "output {output:?} has rows of {shape:?}; features are (N, D) or (N, D, 1, 1) with D up to {MAX_FEATURES}"
                );
                return Err(refused(&problem));
            }
        };
        Ok(Self { sha256: sha256_hex(bytes), metadata, input_scaling, image, output, dimension, network })
    }

    /// SHA-256 of the file, hex.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// What the file says about itself; foreign files say little.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// What the file says about the scaling of its input, under [`INPUT_KEY`].
    pub fn input_scaling(&self) -> Option<&str> {
        self.input_scaling.as_deref()
    }

    /// Size of the pictures that go in.
    pub fn image_shape(&self) -> ImageShape {
        self.image
    }

    /// Name of the output that is read.
    pub fn output(&self) -> &str {
        &self.output
    }

    /// Values of a picture's row: D.
    pub fn dimension(&self) -> usize {
        self.dimension
    }

    /// Pictures of one run of the network.
    pub fn batch(&self) -> usize {
        self.network.batch()
    }

    /// Makes it ready to run on one thread: pictures (n, C, H, W) in the network's own scaling → rows (n, D).
    ///
    /// # Errors
    /// The runtime's, if the graph cannot be lowered.
    pub fn runner(&self) -> Result<RowRunner<'_>> {
        Ok(self.network.runner()?)
    }
}

/// The shape of the pictures that go in; else what is wrong with it.
fn picture(row: &[usize]) -> std::result::Result<ImageShape, String> {
    let sides = 1..=MAX_IMAGE_SIDE;
    match *row {
        [channels @ (1 | 3), height, width] if sides.contains(&height) && sides.contains(&width) => {
            Ok(ImageShape { channels, height, width })
        }
        _ => Err(format!(
            "a network that looks at pictures takes (N, 1 or 3, height, width) with fixed sides of up to {MAX_IMAGE_SIDE}"
        )),
    }
}
