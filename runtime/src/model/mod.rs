//! Model files: open, check, describe, make ready to run.
//!
//! The way of a file: bytes → protobuf → `graph` (sound? what goes in and out?) → `network`
//! (what runs it, which settles all shapes) → [`Facts`] → bound to a batch and optimised.
//! Each step has a limit on what it takes ([`limits`]).

mod external;
mod facts;
mod folder;
mod graph;

mod machine;
mod metadata;
mod network;
mod options;
mod rows;
#[cfg(feature = "tract")]
pub(crate) mod tract;

pub use crate::kinds::{ImageShape, Kind, Part, PixelFormat, Precision, Range};
pub use crate::limits;
pub use facts::{Facts, NodeFact, StepFact, TensorFact};
pub use folder::{MANIFEST, Manifest, ManifestFile, ModelFolder, file_name, sha256_hex};
pub use machine::Machine;
pub use metadata::{Metadata, keys};
pub(crate) use network::Network;
pub use options::{EngineChoice, InputShape, OpenOptions, RangeChoice, Spelling};
pub use rows::{AnyFile, RowNetwork, RowRunner};

use crate::onnx::ModelProto;
use crate::raster::Raster;
use crate::{Error, Result};
use network::{Runner, Wanted, ready};
use prost::{Message, bytes::Bytes};
use std::collections::HashSet;
use std::path::Path;

/// A checked ONNX model, not yet bound to a batch size.
pub struct Model {
    name: String,
    facts: Facts,
    runner: Runner,
    machine: Machine,
    /// The only batch size that the file allows, if it fixes one.
    fixed_batch: Option<usize>,
    spelling: Spelling,
}

impl Model {
    /// Opens an ONNX file, and the files of its folder that hold its weights, if it names some.
    ///
    /// # Errors
    /// If a file cannot be read or is larger than [`limits::MAX_MODEL_BYTES`]; else see
    /// [`Self::from_bytes`].
    pub fn open(path: &Path, options: &OpenOptions) -> Result<Self> {
        let bytes = limits::read_bounded(path, limits::MAX_MODEL_BYTES)?;
        Self::read(bytes.into(), &path.display().to_string(), Some(path), options)
    }

    /// Opens what a user names: a part of a model folder, or a file, whatever part it is. Without `part` a folder's is the one
    /// that draws, or turns pictures into pictures, without `precision` its default one.
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
            let main = part.or_else(|| folder.manifest.main_part());
            let part = main.map_or_else(|| folder.drawing_part(), Ok)?;
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
        Self::read(Bytes::copy_from_slice(bytes), name, None, options)
    }

    fn read(bytes: Bytes, name: &str, path: Option<&Path>, options: &OpenOptions) -> Result<Self> {
        let Opened { mut proto, file_bytes, opset, metadata } = Opened::read(bytes, name, path)?;
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
        let input = facts::Input::of(&selection, &metadata, options, name)?;
        let graph = proto.graph.as_ref().ok_or_else(|| Error::malformed(name, "it holds no graph"))?;
        let stored = graph::Stored::of(graph);
        let wanted = Wanted {
            input: &selection.input.name,
            row: &input.row,
            class: selection.class_input.as_deref(),
            batches: &[input.fixed_batch.unwrap_or(1)],
            one_picture: input.fixed_batch == Some(1),
            mixed: true,
            halves: metadata.precision.unwrap_or(stored.precision) == Precision::Fp16,
            engine: options.engine,
            machine: options.machine,
        };
        let (ready, proto) = ready(proto, &wanted).map_err(|reason| {
            let [.., height, width] = input.row[..] else { return Error::unsupported(name, reason) };
            match input.any_size {
                true => Error::unsupported(name, format!("for pictures of {width}x{height}: {reason}")),
                false => Error::unsupported(name, reason),
            }
        })?;
        let graph = proto.graph.as_ref().ok_or_else(|| Error::malformed(name, "it holds no graph"))?;
        let steps = ready.steps.into_iter().map(|done| facts::StepFact::of(done, graph)).collect();
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
            shapes: ready.shapes,
            batch: ready.batch,
            macs: ready.macs,
            isa: options.machine.cpu().isa(),
            steps,
            runners: ready.runners,
        };
        let facts = evidence.settle()?;
        Ok(Self {
            name: name.to_string(),
            facts,
            runner: ready.runner,
            machine: options.machine,
            fixed_batch: input.fixed_batch,
            spelling: options.spelling,
        })
    }

    /// Reads an ONNX file into a plainer one, for programs that read its graph themselves: with weights of other files,
    /// without functions and what the chosen output does not need, nodes in an order in which they can run, operators of
    /// versions before 11 as in version 11, and constants in place of the nodes that compute them, for one picture.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn read_plain(path: &Path, options: &OpenOptions) -> Result<Vec<u8>> {
        let bytes = limits::read_bounded(path, limits::MAX_MODEL_BYTES)?;
        let name = path.display().to_string();
        let Opened { mut proto, metadata, .. } = Opened::read(bytes.into(), &name, Some(path))?;
        if matches!(metadata.part, Some(Part::Classifier | Part::Features)) {
            return Ok(proto.encode_to_vec());
        }
        let selection = graph::select(&mut proto, options, &metadata, &name)?;
        let input = facts::Input::of(&selection, &metadata, options, &name)?;
        let computed = network::computed(&proto, &selection, &input.row);
        let computed = computed.map_err(|reason| Error::unsupported(&name, reason))?;
        if let Some(graph) = &mut proto.graph {
            let (nodes, constants): (HashSet<usize>, Vec<_>) = computed.into_iter().unzip();
            let mut place = 0..;
            graph.node.retain(|_| !place.next().is_some_and(|place| nodes.contains(&place)));
            graph.initializer.extend(constants);
            let read: HashSet<&String> = graph.node.iter().flat_map(|node| &node.input).collect();
            graph.initializer.retain(|tensor| read.contains(&tensor.name));
        }
        Ok(proto.encode_to_vec())
    }

    /// What it is called in errors.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// How messages name the options that it was opened with.
    pub(crate) fn spelling(&self) -> Spelling {
        self.spelling
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

    /// Makes it ready to run `batch` rows at once, or as many as the file fixes: its name, what it is, and the batch.
    pub(crate) fn into_network(self, batch: usize) -> Result<(String, Facts, Network, usize)> {
        let Self { name, facts, runner, machine, fixed_batch, .. } = self;
        if batch == 0 || batch > limits::MAX_BATCH {
            return Err(Error::invalid(format_args!("a batch of {batch}: give 1 to {}", limits::MAX_BATCH)));
        }
        let batch = fixed_batch.unwrap_or(batch);
        let drawn = facts.raster.as_ref().map_or(0, Raster::values);
        let read = facts.source.map_or(facts.latent_dim, ImageShape::values);
        limits::check_count(batch, facts.image.values().max(drawn).max(read))?;
        let network = Network::start(runner, batch, machine);
        let network = network.map_err(|reason| Error::unsupported(&name, reason))?;
        Ok((name, facts, network, batch))
    }
}

/// A file as it was read, of which nothing is chosen yet.
struct Opened {
    proto: ModelProto,
    file_bytes: u64,
    opset: u64,
    metadata: Metadata,
}

impl Opened {
    /// Weights in other files are read if the model's own path is known.
    fn read(bytes: Bytes, name: &str, path: Option<&Path>) -> Result<Self> {
        let mut file_bytes = bytes.len() as u64;
        if bytes.is_empty() {
            return Err(Error::malformed(name, "the file is empty"));
        }
        if file_bytes > limits::MAX_MODEL_BYTES {
            return Err(Error::unsupported(name, "the model is too large"));
        }
        let mut proto = ModelProto::read(bytes).map_err(|problem| Error::malformed(name, problem))?;
        let opset = graph::check_versions(&proto, name)?;
        if let Some(path) = path {
            file_bytes += external::read(&mut proto, path)?;
        }
        proto.normalise().map_err(|problem| Error::unsupported(name, problem))?;
        let metadata = metadata_of(&proto, name)?;
        Ok(Self { proto, file_bytes, opset, metadata })
    }
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
