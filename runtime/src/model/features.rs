//! Networks that look at pictures: feature extractors and classifiers of any maker.
//!
//! Unlike [`Model`](super::Model), which knows edgegen's own parts, a [`FeatureNetwork`] asks for little: one
//! float32 picture goes in, (N, 1 or 3, H, W), and rows of float32 values come out, (N, D) or (N, D, 1, 1).

use super::graph::{self, Dim, Port};
use super::network::{Network, Runner, Wanted, ready};
use super::{ImageShape, Metadata, OpenOptions, Spelling, limits, metadata_of, sha256_hex};
use crate::onnx::{GraphProto, ModelProto};
use crate::{Error, Result};
use prost::bytes::Bytes;
use std::path::Path;

/// The key in `metadata_props` that says how such a network's input is scaled. Its value is the reader's
/// to interpret; `edgegen-train compare` knows `unit`, `signed` and `mean=…,scale=…`.
pub const INPUT_KEY: &str = "edgegen.input";
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

/// A checked network, picture → row, bound to a batch size. Threads share it; each runs its own
/// [`FeatureRunner`].
pub struct FeatureNetwork {
    name: String,
    sha256: String,
    metadata: Metadata,
    input_scaling: Option<String>,
    image: ImageShape,
    output: String,
    dimension: usize,
    batch: usize,
    runner: Runner,
}

impl FeatureNetwork {
    /// Opens an ONNX file.
    ///
    /// # Errors
    /// If the file cannot be read or is larger than [`limits::MAX_MODEL_BYTES`]; else see
    /// [`Self::from_bytes`].
    pub fn open(path: &Path, output: OutputChoice<'_>) -> Result<Self> {
        let bytes = limits::read_bounded(path, limits::MAX_MODEL_BYTES)?;
        Self::from_bytes(&bytes, &path.display().to_string(), output)
    }

    /// Opens an ONNX file that is in memory; `name` stands for it in errors.
    ///
    /// It is bound to a batch that suits the size of its pictures, or to the one that the file fixes: in its
    /// input, or in a Reshape that works for one picture alone.
    ///
    /// # Errors
    /// [`Error::Malformed`] if the bytes are not a sound ONNX model, [`Error::Unsupported`] if the network
    /// does not turn one float32 picture into a row of float32 values.
    pub fn from_bytes(bytes: &[u8], name: &str, output: OutputChoice<'_>) -> Result<Self> {
        if bytes.is_empty() {
            return Err(Error::malformed(name, "the file is empty"));
        }
        let mut proto = ModelProto::read(Bytes::copy_from_slice(bytes))
            .map_err(|problem| Error::malformed(name, problem))?;
        graph::check_versions(&proto, name)?;
        let metadata = metadata_of(&proto, name)?;
        let scaling = proto.metadata_props.iter().find(|entry| entry.key == INPUT_KEY);
        let input_scaling = scaling.map(|entry| entry.value.clone());
        let chosen = choose(proto.graph.as_ref(), output, name)?;
        // programs call these options --feature-output, --classifier-output, …
        let spelling = Spelling::Unnamed;
        let options = OpenOptions { output: Some(chosen), spelling, ..OpenOptions::default() };
        let selection = graph::select(&mut proto, &options, &metadata, name)?;
        if let Some(class) = &selection.class {
            let problem = format!("its output needs {:?} beside the picture", class.name);
            return Err(Error::unsupported(name, problem));
        }
        let (fixed_batch, image) = picture(&selection.input, name)?;
        limits::check_count(fixed_batch.unwrap_or(1), image.values())?;
        let output = &selection.outputs[0].name;
        let suitable = (BATCH_VALUES / image.values()).clamp(1, LARGEST_BATCH);
        let wanted = Wanted {
            input: &selection.input.name,
            row: &[image.channels, image.height, image.width],
            class: None,
            batches: &fixed_batch.map_or_else(|| vec![suitable, 1], |batch| vec![batch]),
            one_picture: false,
            mixed: false,
            halves: false,
            engine: options.engine,
            machine: options.machine,
        };
        let (ready, _) = ready(proto, &wanted).map_err(|reason| Error::unsupported(name, reason))?;
        let dimension = dimension(ready.shapes.first().cloned().flatten(), output, name)?;
        Ok(Self {
            name: name.to_string(),
            sha256: sha256_hex(bytes),
            metadata,
            input_scaling,
            image,
            output: output.clone(),
            dimension,
            batch: ready.batch,
            runner: ready.runner,
        })
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
        self.batch
    }

    /// Makes it ready to run on one thread.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if the graph cannot be lowered.
    pub fn runner(&self) -> Result<FeatureRunner<'_>> {
        let network = Network::again(&self.runner);
        Ok(FeatureRunner { owner: self, network: network.map_err(|e| Error::unsupported(&self.name, e))? })
    }
}

/// A [`FeatureNetwork`] that is ready to run, with the state of one thread.
pub struct FeatureRunner<'a> {
    owner: &'a FeatureNetwork,
    network: Network,
}

impl FeatureRunner<'_> {
    /// Runs `pictures`, (n, C, H, W) in the network's own scaling with any n from 1, and fills `rows`,
    /// (n, D). They are run in chunks of the bound batch, the last one padded: a picture's row has the same
    /// bits wherever chunks of whole batches are cut.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the lengths fit neither a picture nor each other, [`Error::Run`] if the network
    /// fails or a value is not finite.
    pub fn run(&mut self, pictures: &[f32], rows: &mut [f32]) -> Result<()> {
        let FeatureNetwork { name, image, dimension, batch, .. } = self.owner;
        let (size, width) = (image.values(), *dimension);
        if pictures.is_empty() || !pictures.len().is_multiple_of(size) {
            let problem = format!("{name}: {} values are no pictures of {image}", pictures.len());
            return Err(Error::invalid(problem));
        }
        if rows.len() != pictures.len() / size * width {
            let problem = format!("{} values do not hold rows of {width}", rows.len());
            return Err(Error::invalid(format_args!(
                "{name}: {problem} of {} pictures",
                pictures.len() / size
            )));
        }
        for (input, output) in pictures.chunks(batch * size).zip(rows.chunks_mut(batch * width)) {
            self.network
                .run(input, size, &[], &mut [&mut *output])
                .map_err(|reason| Error::run(name, reason))?;
            if let Some(value) = output.iter().find(|value| !value.is_finite()) {
                let problem = format!("its output holds {value}; is its input scaled as it should be?");
                return Err(Error::run(name, problem));
            }
        }
        Ok(())
    }
}

/// The name of the output to read.
fn choose(graph: Option<&GraphProto>, choice: OutputChoice<'_>, file: &str) -> Result<String> {
    let ports: Vec<Port> = graph.iter().flat_map(|graph| &graph.output).map(Port::of).collect();
    let preferred = match choice {
        OutputChoice::Named(name) => return Ok(name.to_string()), // that it exists is checked by `select`
        OutputChoice::Prefer(names) => names.iter().find(|name| ports.iter().any(|port| port.name == **name)),
    };
    let first = || ports.iter().find(|port| port.is_float32()).map(|port| port.name.clone());
    preferred
        .map(|name| name.to_string())
        .or_else(first)
        .ok_or_else(|| Error::unsupported(file, "it has no float32 output"))
}

/// The batch size, if it is fixed, and the shape of the pictures that go in.
fn picture(port: &Port, file: &str) -> Result<(Option<usize>, ImageShape)> {
    let unusable = || {
        let (name, shape) = (&port.name, port.shape_text());
        let problem = format!(
            "input {name:?} has shape ({shape}); a network that looks at pictures takes (N, 1 or 3, height, width) with fixed sides of up to {}",
            limits::MAX_IMAGE_SIDE
        );
        Error::unsupported(file, problem)
    };
    let dims = port.dims.as_deref().unwrap_or_default();
    let [first, row @ ..] = dims else { return Err(unusable()) };
    let batch = match (first, first.size()) {
        (Dim::Symbol(_), _) => None,
        (_, Some(batch)) if (1..=limits::MAX_BATCH).contains(&batch) => Some(batch),
        _ => return Err(unusable()),
    };
    let row: Option<Vec<usize>> = row.iter().map(Dim::size).collect();
    let sides = 1..=limits::MAX_IMAGE_SIDE;
    match row.as_deref() {
        Some(&[channels @ (1 | 3), height, width]) if sides.contains(&height) && sides.contains(&width) => {
            Ok((batch, ImageShape { channels, height, width }))
        }
        _ => Err(unusable()),
    }
}

/// D of an output (N, D) or (N, D, 1, 1).
fn dimension(shape: Option<Vec<usize>>, output: &str, file: &str) -> Result<usize> {
    let shape = shape.ok_or_else(|| Error::unsupported(file, format!("output {output:?} is not float32")))?;
    match shape[..] {
        [_, size] | [_, size, 1, 1] if (1..=MAX_FEATURES).contains(&size) => Ok(size),
        _ => {
            let problem = format!(
                "output {output:?} has shape {shape:?}; features are (N, D) or (N, D, 1, 1) with D up to {MAX_FEATURES}"
            );
            Err(Error::unsupported(file, problem))
        }
    }
}
