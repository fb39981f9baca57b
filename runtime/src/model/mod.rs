//! Model files: open, check, describe, make ready to run.
//!
//! The way of a file: bytes → protobuf → `graph` (sound? what goes in and out?) → `plan`
//! (typed with one picture, which settles all shapes) → [`Facts`] → bound to a batch and optimised.
//! Each step has a limit on what it takes ([`limits`]).

mod constants;
mod facts;
mod features;
mod folder;
mod graph;
mod kinds;
pub mod limits;
mod metadata;
mod network;
mod options;
#[cfg_attr(not(feature = "tract"), path = "no_stock.rs")]
pub(crate) mod stock;

pub use facts::{Facts, NodeFact, StepFact, TensorFact};
pub use features::{FeatureNetwork, FeatureRunner, INPUT_KEY, MAX_FEATURES, OutputChoice};
pub use folder::{MANIFEST, Manifest, ManifestFile, ModelFolder, file_name, sha256_hex};
pub use kinds::{ImageShape, Kind, Part, PixelFormat, Precision, Range};
pub use metadata::{Metadata, keys};
pub(crate) use network::Network;
pub use options::{InputShape, OpenOptions, RangeChoice, Spelling};

use crate::error::one_line;
use crate::generate::{Encoder, Generator};
use crate::lower::{self, Others, Program, Refusal};
use crate::onnx::{GraphProto, ModelProto};
use crate::{Error, Result, measure};
use prost::Message;
use prost::bytes::Bytes;
use std::path::Path;
use stock::Typed;

/// A checked ONNX model, not yet bound to a batch size.
pub struct Model {
    name: String,
    facts: Facts,
    engine: Engine,
    /// The only batch size that the file allows, if it fixes one.
    fixed_batch: Option<usize>,
    spelling: Spelling,
}

/// What will run a model.
enum Engine {
    /// The kernels, picture by picture.
    Kernels(Box<Program>),
    /// tract.
    Stock(Box<Stock>),
}

/// A graph for tract.
struct Stock {
    proto: ModelProto,
    /// The graph bound to `typed_batch` pictures.
    typed: Typed,
    typed_batch: usize,
    /// Shape of one row of the input: (L), (L, 1, 1) or (C, H, W).
    row: Vec<usize>,
}

impl Model {
    /// Opens an ONNX file.
    ///
    /// # Errors
    /// If the file cannot be read or is larger than [`limits::MAX_MODEL_BYTES`]; else see
    /// [`Self::from_bytes`].
    pub fn open(path: &Path, options: &OpenOptions) -> Result<Self> {
        let bytes = limits::read_bounded(path, limits::MAX_MODEL_BYTES)?;
        Self::read(bytes.into(), &path.display().to_string(), options)
    }

    /// Opens what a user names: a part of a model folder, or a file, whatever part it is. Without `part` a folder's is the one
    /// that draws, without `precision` its default one.
    ///
    /// # Errors
    /// As [`Self::open`] and [`ModelFolder::open_part`]; or if a file holds another part or precision than was asked for.
    pub fn open_named(
        path: &Path,
        part: Option<Part>,
        precision: Option<Precision>,
        options: &OpenOptions,
    ) -> Result<Self> {
        if path.is_dir() {
            let folder = ModelFolder::open(path)?;
            let part = part.map_or_else(|| folder.drawing_part(), Ok)?;
            return folder.open_part(part, precision, options);
        }
        let model = Self::open(path, options)?;
        let facts = model.facts();
        let name = path.display();
        if let Some(part) = part.filter(|part| *part != facts.part) {
            return Err(Error::invalid(format_args!(
                "{name}: this file holds a {}, not a {part}",
                facts.part
            )));
        }
        if let Some(precision) = precision.filter(|precision| *precision != facts.precision) {
            return Err(Error::invalid(format_args!(
                "{name}: this file is {}, not {precision}",
                facts.precision
            )));
        }
        Ok(model)
    }

    /// Opens an ONNX file that is in memory; `name` stands for it in errors.
    ///
    /// # Errors
    /// [`Error::Malformed`] if the bytes are not a sound ONNX model or contradict their own
    /// metadata, [`Error::Unsupported`] if they ask for something that is not done here.
    pub fn from_bytes(bytes: &[u8], name: &str, options: &OpenOptions) -> Result<Self> {
        Self::read(Bytes::copy_from_slice(bytes), name, options)
    }

    fn read(bytes: Bytes, name: &str, options: &OpenOptions) -> Result<Self> {
        let file_bytes = bytes.len() as u64;
        if bytes.is_empty() {
            return Err(Error::malformed(name, "the file is empty"));
        }
        if file_bytes > limits::MAX_MODEL_BYTES {
            return Err(Error::unsupported(name, "the model is too large"));
        }
        let mut proto = ModelProto::decode(bytes)
            .map_err(|_| Error::malformed(name, "this is not an ONNX model, or it is damaged"))?;
        let opset = graph::check_versions(&proto, name)?;
        let metadata = metadata_of(&proto, name)?;
        if metadata.part == Some(Part::Classifier) {
            let problem =
                "this is a classifier: it draws nothing; edgegen-train compare judges samples by it";
            return Err(Error::unsupported(name, problem));
        }
        if metadata.part == Some(Part::Features) {
            let problem = "these are feature maps: they draw nothing; edgegen-train learns by them";
            return Err(Error::unsupported(name, problem));
        }
        let selection = graph::select(&mut proto, options, &metadata, name)?;
        let input = facts::Input::of(&selection.input, &metadata, options.spelling, name)?;
        let graph = proto.graph.as_mut().ok_or_else(|| Error::malformed(name, "it holds no graph"))?;
        let stored = graph::Stored::of(graph);
        let class = selection.class.as_ref().map(|port| port.name.as_str());
        let cpu = measure::cpu()?;
        let batch = input.fixed_batch.unwrap_or(1);
        let others = Others { opsets: &proto.opset_import, one_picture: input.fixed_batch == Some(1) };
        let others = stock::HERE.then_some(others);
        let halves = metadata.precision.unwrap_or(stored.precision) == Precision::Fp16;
        let lowered = lower::lower(graph, &selection.input.name, &input.row, class, cpu, others, halves);
        let with_batch = |row: &Vec<usize>| Some(shape_of(batch, row));
        let (run, shapes, macs, runners, steps) = match lowered {
            Ok(lowered) => {
                let shapes = lowered.outputs.iter().map(with_batch).collect();
                let macs = lowered.macs.checked_mul(batch as u64);
                let steps = lowered.steps.into_iter().map(|done| facts::StepFact::of(done, graph)).collect();
                (Ok(lowered.program), shapes, macs, Ok(lowered.runners), steps)
            }
            Err(refusal) => {
                let reason = refused(graph, &refusal);
                if !stock::HERE {
                    return Err(Error::unsupported(name, without_tract(&reason)));
                }
                let foreign = graph.node.iter().any(|node| !matches!(node.domain.as_str(), "" | "ai.onnx"));
                if foreign {
                    return Err(Error::unsupported(name, reason));
                }
                graph::check_operators(graph, name)?;
                constants::widen(graph, name)?;
                lower::network_in_floats(graph);
                let typed = stock::typed_rows(&proto, &shape_of(batch, &input.row))
                    .map_err(|reason| Error::unsupported(name, reason))?;
                let shapes = (0..selection.outputs.len()).map(|index| typed.output_shape(index)).collect();
                let macs = typed.macs();
                (Err(typed), shapes, macs, Err(reason), Vec::new())
            }
        };
        let evidence = facts::Evidence {
            file: name,
            file_bytes,
            opset,
            proto: &proto,
            stored,
            metadata,
            options,
            selection: &selection,
            input: &input,
            shapes,
            batch,
            macs,
            isa: cpu.isa(),
            steps,
            runners,
        };
        let facts = evidence.settle()?;
        let facts::Input { fixed_batch, row, .. } = input;
        let engine = match run {
            Ok(program) => Engine::Kernels(Box::new(program)),
            Err(typed) => Engine::Stock(Box::new(Stock { proto, typed, typed_batch: batch, row })),
        };
        Ok(Self { name: name.to_string(), facts, engine, fixed_batch, spelling: options.spelling })
    }

    /// What the file is.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// Range of the network's pictures.
    ///
    /// # Errors
    /// If neither the file nor the options that it was opened with tell it.
    pub fn range(&self) -> Result<Range> {
        self.facts.range.ok_or_else(|| self.spelling.no_range(&self.name))
    }

    /// Makes the decoder or generator ready to run `batch` latents at once, or as many as the file
    /// fixes.
    ///
    /// # Errors
    /// If the model is an encoder, if `batch` is 0 or too large, or if the graph cannot be lowered.
    pub fn into_generator(self, batch: usize) -> Result<Generator> {
        if !self.facts.part.draws() {
            return Err(Error::unsupported(&self.name, "this is an encoder: it turns pictures into latents"));
        }
        let spelling = self.spelling;
        let (name, facts, network, batch) = self.into_network(batch)?;
        Ok(Generator::new(name, &facts, network, batch, spelling))
    }

    /// Makes the encoder ready to run `batch` pictures at once, or as many as the file fixes.
    ///
    /// # Errors
    /// If the model is not an encoder, if `batch` is 0 or too large, or if the graph cannot be
    /// lowered.
    pub fn into_encoder(self, batch: usize) -> Result<Encoder> {
        if self.facts.part.draws() {
            let problem = format!("this is a {}: it turns latents into pictures", self.facts.part);
            return Err(Error::unsupported(&self.name, problem));
        }
        let spelling = self.spelling;
        let (name, facts, network, batch) = self.into_network(batch)?;
        Ok(Encoder::new(name, &facts, network, batch, spelling))
    }

    fn into_network(self, batch: usize) -> Result<(String, Facts, Network, usize)> {
        let Self { name, facts, engine, fixed_batch, .. } = self;
        if batch == 0 || batch > limits::MAX_BATCH {
            return Err(Error::invalid(format_args!("a batch of {batch}: give 1 to {}", limits::MAX_BATCH)));
        }
        let batch = fixed_batch.unwrap_or(batch);
        limits::check_count(batch, facts.image.values().max(facts.latent_dim))?;
        let unsupported = |reason| Error::unsupported(&name, reason);
        let network = match engine {
            Engine::Kernels(mut program) => {
                let threads = measure::threads();
                program
                    .share(threads)
                    .map_err(|error| Error::invalid(format_args!("{threads} threads: {error}")))?;
                Network::Kernels(program)
            }
            Engine::Stock(stock) if batch == stock.typed_batch => {
                Network::stock(stock.typed).map_err(unsupported)?
            }
            Engine::Stock(stock) => {
                let Stock { proto, typed, row, .. } = *stock;
                drop(typed);
                let typed = stock::typed_rows(&proto, &shape_of(batch, &row)).map_err(unsupported)?;
                facts::check_batch(&typed, batch).map_err(unsupported)?;
                Network::stock(typed).map_err(unsupported)?
            }
        };
        Ok((name, facts, network, batch))
    }
}

/// What the kernels do not know, on one line.
fn refused(graph: &GraphProto, refusal: &Refusal) -> String {
    let node = graph.node.get(refusal.node).map(|node| format!("node {}: ", graph::label(node)));
    one_line(format_args!("{}{}", node.unwrap_or_default(), refusal.reason))
}

fn without_tract(reason: &str) -> String {
    format!(
        "{reason}; this program was built without tract, which may run it: build it with --features tract"
    )
}

fn metadata_of(proto: &ModelProto, name: &str) -> Result<Metadata> {
    let props = proto.metadata_props.iter().map(|entry| (entry.key.as_str(), entry.value.as_str()));
    let metadata = Metadata::from_props(props).map_err(|e| Error::malformed(name, e))?;
    let text = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
    let (producer_name, producer_version) = (text(&proto.producer_name), text(&proto.producer_version));
    Ok(Metadata { producer_name, producer_version, ..metadata })
}

fn shape_of(batch: usize, row: &[usize]) -> Vec<usize> {
    std::iter::once(batch).chain(row.iter().copied()).collect()
}
