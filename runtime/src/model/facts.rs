//! What is known about an opened model, and how metadata, declared shapes and computed shapes are
//! brought together: they have to agree.

use super::graph::{self, Port, Selection};
use super::metadata::{Metadata, keys};
use super::{OpenOptions, limits};
use crate::kinds::{ImageShape, Part, PixelFormat, Precision, Range};
use crate::lower::engine::Prepared;
use crate::lower::{Arithmetic, Done, Reason};
use crate::onnx::{GraphProto, ModelProto, NodeProto};
use crate::raster::Raster;
use crate::{Error, Result};
use edgegen_kernels::Isa;
use std::collections::BTreeMap;
use std::fmt::Display;

/// What an opened model is: from its metadata where it has any, else from its graph.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Which network it is. A foreign file that draws pictures counts as a generator, one that turns pictures into something
    /// else than mean and log-variance as a transformation.
    pub part: Part,
    /// Values of a latent; 0 where there is none.
    pub latent_dim: usize,
    /// Size of a picture that a transformation reads.
    pub source: Option<ImageShape>,
    /// Whether it reads pictures of any size, and [`Self::source`] is one of them.
    pub any_size: bool,
    /// How many times as high and as wide a transformation makes them, if that is a whole number.
    pub scale: Option<usize>,
    /// Size of a picture; of an output that is none, its values in one row.
    pub image: ImageShape,
    /// How a picture's values lie in the output of a network that makes pictures.
    pub raster: Option<Raster>,
    /// Range of the network's pictures, if the file or its opener tells it: raw values do without.
    pub range: Option<Range>,
    /// Meaning of the picture's channels.
    pub pixel_format: PixelFormat,
    /// Numbers that the weights are stored in.
    pub precision: Precision,
    /// What the file says about itself.
    pub metadata: Metadata,
    /// ONNX operator set.
    pub opset: u64,
    /// ONNX file format version.
    pub ir_version: u64,
    /// Weights: elements of all initializers that are not single numbers, shapes or factors.
    pub parameters: u64,
    /// Size of the file, with those that hold its weights.
    pub file_bytes: u64,
    /// The input that tells each picture's class, if there is one.
    pub class_input: Option<String>,
    /// The inputs that have to be fed.
    pub inputs: Vec<TensorFact>,
    /// The outputs that are read.
    pub outputs: Vec<TensorFact>,
    /// Multiply-accumulates of convolutions and matrix products for one picture.
    pub macs: Option<u64>,
    /// How often each ONNX operator occurs in the part of the graph that is run.
    pub operators: BTreeMap<String, usize>,
    /// Every node of that part, in order, and who runs it.
    pub nodes: Vec<NodeFact>,
    /// What the kernels do, in order; empty if tract runs the network.
    pub steps: Vec<StepFact>,
    /// The family of kernels.
    pub isa: String,
    /// Why tract runs the network and not the kernels: the first node that they do not know.
    pub tract: Option<String>,
}

/// One ONNX node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeFact {
    /// Its name, or that of its output.
    pub name: String,
    /// Its operator.
    pub operator: String,
    /// The kernel that runs it, or part of what it does.
    pub runner: String,
}

/// Something that is done for each picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepFact {
    /// The ONNX node that it does: the layer if it does several, else the last; `input` for the way in.
    pub name: String,
    /// That node's operator.
    pub operator: String,
    /// The kernel.
    pub kernel: String,
    /// Shape of what it reads, (C, H, W) or (values).
    pub input: Vec<usize>,
    /// Shape of what it writes.
    pub output: Vec<usize>,
    /// Useful multiply-accumulates.
    pub macs: u64,
    /// What it multiplies.
    pub arithmetic: Arithmetic,
    /// Bytes of weights and values that it reads and writes at least.
    pub bytes: u64,
}

impl StepFact {
    pub(super) fn of(done: Done, graph: &GraphProto) -> Self {
        let nodes = || done.nodes.iter().filter_map(|node| graph.node.get(*node));
        let multiplies =
            |node: &&NodeProto| ["Conv", "Gemm", "MatMul"].iter().any(|op| node.op_type.contains(op));
        let node = nodes().find(multiplies).or_else(|| nodes().next_back());
        Self {
            name: node.map_or_else(|| "input".to_string(), name_of),
            operator: node.map(|node| node.op_type.clone()).unwrap_or_default(),
            kernel: done.what,
            input: done.input,
            output: done.output,
            macs: done.macs,
            arithmetic: done.arithmetic,
            bytes: done.bytes,
        }
    }
}

/// A node's name, or that of its output.
fn name_of(node: &NodeProto) -> String {
    match node.name.as_str() {
        "" => node.output.first().cloned().unwrap_or_default(),
        name => name.to_string(),
    }
}

/// Name, shape and type of an input or output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorFact {
    /// Its name in the graph.
    pub name: String,
    /// Its declared shape as text, for example `N,1,28,28`.
    pub shape: String,
    /// Its element type, for example `float32`.
    pub dtype: String,
}

impl TensorFact {
    fn of(port: &Port) -> Self {
        Self { name: port.name.clone(), shape: port.shape_text(), dtype: port.dtype_text() }
    }
}

/// What the declared shape of the input tells.
pub(super) struct Input {
    /// The batch size, if the file fixes it.
    pub(super) fixed_batch: Option<usize>,
    /// Shape of one row: (L), (L, 1, 1) or (C, H, W).
    pub(super) row: Vec<usize>,
    /// True if a row is a latent, false if it is a picture.
    pub(super) is_latent: bool,
    /// Whether the file leaves the height and the width of its pictures open.
    pub(super) any_size: bool,
}

/// Side of the pictures that a network of any size is looked at with, if no size is asked for: at least.
const USUAL_SIDE: usize = 128;

impl Input {
    pub(super) fn of(
        selection: &Selection,
        metadata: &Metadata,
        options: &OpenOptions,
        file: &str,
    ) -> Result<Self> {
        let (port, spelling) = (&selection.input, options.spelling);
        // of mean and log-variance the size decides
        let transforms = selection.outputs.len() == 1;
        let shape = port.shape_text();
        let unusable = |hint: &str| {
            let problem = format!("input {:?} has shape ({shape}): {hint}", port.name);
            Err(Error::unsupported(file, problem))
        };
        let Some(dims) = &port.dims else {
            return unusable(&format!("the file leaves it out; give it{}", spelling.with("shape")));
        };
        let fixed_batch = match dims.first().map(|dim| (dim, dim.size())) {
            Some((graph::Dim::Symbol(_), _)) => None,
            Some((_, Some(batch))) if (1..=limits::MAX_BATCH).contains(&batch) => Some(batch),
            _ => return unusable("its batch size is not usable"),
        };
        let mut row: Vec<Option<usize>> = dims.iter().skip(1).map(graph::Dim::size).collect();
        let is_latent = match metadata.part {
            Some(part) => part.draws(),
            None => row.len() == 1 || matches!(row[..], [_, Some(1), Some(1)]),
        };
        let mut any_size = false;
        match (is_latent, &mut row[..]) {
            (false, [Some(1 | 3), height @ None, width @ None]) if transforms => {
                let side = USUAL_SIDE.next_multiple_of(metadata.multiple.unwrap_or(1));
                let (rows, columns) = options.size.unwrap_or((side, side));
                any_size = true;
                (*height, *width) = (Some(rows), Some(columns));
            }
            (true, [size] | [size, Some(1), Some(1)]) => {
                if size.is_none() {
                    *size = metadata.latent_dim;
                }
            }
            (false, [Some(1 | 3), Some(_), Some(_)]) => {}
            (true, _) => return unusable("a latent should be (N, L) or (N, L, 1, 1)"),
            (false, row) => {
                let open = format!("; give sizes that it leaves open{}", spelling.with("shape"));
                return unusable(&format!(
                    "this is neither a latent, (N, L) or (N, L, 1, 1), nor a picture, (N, 1 or 3, H, W){}",
                    if row.contains(&None) { &open } else { "" }
                ));
            }
        }
        let Some(row) = row.into_iter().collect::<Option<Vec<usize>>>() else {
            return unusable(&format!(
                "the size of a latent is told neither here nor in the metadata; give it{}",
                spelling.with("shape")
            ));
        };
        Ok(Self { fixed_batch, row, is_latent, any_size })
    }
}

/// How many times as high and as wide `made` is, if that is a whole number.
fn scale(source: ImageShape, made: ImageShape) -> Option<usize> {
    let times = made.height / source.height.max(1);
    let exact = times > 0 && (made.height, made.width) == (source.height * times, source.width * times);
    exact.then_some(times)
}

/// Everything that is known about a file before its parts are compared.
pub(super) struct Evidence<'a> {
    pub(super) file: &'a str,
    pub(super) file_bytes: u64,
    pub(super) opset: u64,
    pub(super) proto: &'a ModelProto,
    /// The graph before weights were widened.
    pub(super) stored: graph::Stored,
    pub(super) metadata: Metadata,
    pub(super) options: &'a OpenOptions,
    pub(super) selection: &'a Selection,
    pub(super) input: &'a Input,
    /// The shape of each float32 output for `batch` rows.
    pub(super) shapes: Vec<Option<Vec<usize>>>,
    pub(super) batch: usize,
    /// Multiply-accumulates of `batch` rows.
    pub(super) macs: Option<u64>,
    pub(super) isa: Isa,
    pub(super) steps: Vec<StepFact>,
    /// Who runs each node, or why the kernels do not.
    pub(super) runners: std::result::Result<Vec<String>, String>,
}

impl Evidence<'_> {
    /// Compares everything and draws the conclusion.
    pub(super) fn settle(self) -> Result<Facts> {
        let (file, selection) = (self.file, self.selection);
        let part = self.part();
        if let (Part::Encoder | Part::Transform, Some(class)) = (part, &selection.class) {
            let problem =
                format!("a network of pictures that is told classes ({:?}) is not supported", class.name);
            return Err(Error::unsupported(file, problem));
        }
        let makes_pictures = part.draws() || part == Part::Transform;
        let (latent_dim, image, raster) = if makes_pictures {
            let row = self.output_row(0)?;
            let raster = match self.options.picture {
                None => Raster::of(&row),
                Some(image) => Raster::told(&row, image).ok_or_else(|| {
                    let name = &selection.outputs[0].name;
                    let problem =
                        format!("output {name:?} is {row:?} per picture, which is no picture of {image}");
                    Error::unsupported(file, problem)
                })?,
            };
            let width = raster.values();
            if !(1..=limits::MAX_RUN_VALUES).contains(&width) {
                let name = &selection.outputs[0].name;
                return Err(Error::unsupported(
                    file,
                    format!("output {name:?} has {width} values per picture"),
                ));
            }
            let image = raster.image().unwrap_or(ImageShape { channels: 1, height: 1, width });
            (if part.draws() { self.input.row[0] } else { 0 }, image, Some(raster))
        } else {
            (self.posterior_dim()?, image_shape(&self.input.row, &selection.input.name, file)?, None)
        };
        let read = image_shape(&self.input.row, &selection.input.name, file);
        let source = (part == Part::Transform).then_some(read).transpose()?;
        let scale = source.and_then(|source| scale(source, image));
        if let (Some(said), Some(source)) = (self.metadata.scale, source)
            && scale != Some(said)
        {
            let problem = format!("metadata {} is {said}, but it makes {image} of {source}", keys::SCALE);
            return Err(Error::malformed(file, problem));
        }
        if source.is_none() && (latent_dim == 0 || latent_dim > limits::MAX_LATENT_DIM) {
            let most = limits::MAX_LATENT_DIM;
            let problem = format!("a latent of {latent_dim} values is not supported: 1 to {most} are");
            return Err(Error::unsupported(file, problem));
        }
        let pixel_format = PixelFormat::from_channels(image.channels)
            .ok_or_else(|| Error::unsupported(file, "pictures have 1 or 3 channels"))?;
        if source.is_none() {
            self.agree(keys::LATENT_DIM, self.metadata.latent_dim, latent_dim)?;
        }
        self.agree(keys::PIXEL_FORMAT, self.metadata.pixel_format, pixel_format)?;

        let graph = self.proto.graph.as_ref().ok_or_else(|| Error::malformed(file, "it holds no graph"))?;
        let last_node = makes_pictures.then(|| graph::range_of_last_node(graph, &selection.outputs[0].name));
        let pixels = makes_pictures && selection.outputs[0].is_uint8();
        let range = self.options.range.or(self.metadata.range).or(last_node.flatten());
        let range = range.or(pixels.then_some(Range::Bytes));
        let macs = self.macs.map(|macs| macs / self.batch as u64);
        Ok(Facts {
            part,
            latent_dim,
            source,
            any_size: self.input.any_size,
            scale,
            image,
            raster,
            range,
            pixel_format,
            precision: self.metadata.precision.unwrap_or(self.stored.precision),
            opset: self.opset,
            ir_version: self.proto.ir_version.unsigned_abs(),
            parameters: self.stored.parameters,
            file_bytes: self.file_bytes,
            class_input: selection.class.as_ref().map(|port| port.name.clone()),
            inputs: std::iter::once(&selection.input).chain(&selection.class).map(TensorFact::of).collect(),
            outputs: selection.outputs.iter().map(TensorFact::of).collect(),
            macs,
            steps: self.steps,
            nodes: nodes(graph, &self.runners),
            tract: self.runners.err(),
            isa: self.isa.to_string(),
            operators: self.stored.operators,
            metadata: self.metadata,
        })
    }

    /// [`Input::of`] has already asked the metadata, if there is any.
    fn part(&self) -> Part {
        match self.metadata.part {
            Some(part) => part,
            None if self.input.is_latent => Part::Generator,
            // mean and log-variance are two
            None if self.selection.outputs.len() == 1 => Part::Transform,
            None => Part::Encoder,
        }
    }

    /// Shape of one row of an output.
    fn output_row(&self, index: usize) -> Result<Vec<usize>> {
        let (name, batch) = (&self.selection.outputs[index].name, self.batch);
        let Some(shape) = self.shapes.get(index).cloned().flatten() else {
            return Err(Error::unsupported(self.file, format!("output {name:?} is not float32")));
        };
        match shape.split_first() {
            Some((first, row)) if *first == batch => Ok(row.to_vec()),
            _ => {
                let problem = format!("output {name:?} has shape {shape:?} for a batch of {batch}");
                Err(Error::unsupported(self.file, problem))
            }
        }
    }

    /// An encoder's outputs are `mean` and `log_variance`, both (N, L).
    fn posterior_dim(&self) -> Result<usize> {
        if self.selection.outputs.len() != 2 {
            let problem = "an encoder needs two outputs, \"mean\" and \"log_variance\"";
            return Err(Error::unsupported(self.file, problem));
        }
        let (mean, log_variance) = (self.output_row(0)?, self.output_row(1)?);
        match mean[..] {
            [size] if mean == log_variance => Ok(size),
            _ => {
                let problem = format!(
                    "mean is {mean:?} and log_variance {log_variance:?} per picture: both should be [L]"
                );
                Err(Error::unsupported(self.file, problem))
            }
        }
    }

    fn agree<T: PartialEq + Display>(&self, key: &str, said: Option<T>, found: T) -> Result<()> {
        match said {
            Some(said) if said != found => {
                let problem = format!("metadata {key} is {said}, but the graph has {found}");
                Err(Error::malformed(self.file, problem))
            }
            _ => Ok(()),
        }
    }
}

/// What is said of each node.
fn nodes(graph: &GraphProto, runners: &std::result::Result<Vec<String>, String>) -> Vec<NodeFact> {
    let fact = |(index, node): (usize, &NodeProto)| NodeFact {
        name: name_of(node),
        operator: node.op_type.clone(),
        runner: runners.as_ref().map_or_else(|_| "tract".into(), |runners| runners[index].clone()),
    };
    graph.node.iter().enumerate().map(fact).collect()
}

/// A graph that is typed again with another batch has to follow it.
pub(super) fn check_batch(typed: &dyn Prepared, batch: usize) -> std::result::Result<(), Reason> {
    let shape = typed.output_shape(0).unwrap_or_default();
    if shape.first() == Some(&batch) {
        return Ok(());
    }
    Err(format!("for a batch of {batch} its output has shape {shape:?}: use a batch of 1"))
}

fn image_shape(row: &[usize], name: &str, file: &str) -> Result<ImageShape> {
    let sides = 1..=limits::MAX_IMAGE_SIDE;
    match *row {
        [channels @ (1 | 3), height, width] if sides.contains(&height) && sides.contains(&width) => {
            Ok(ImageShape { channels, height, width })
        }
        _ => {
            let problem = format!(
                "{name:?} is {row:?} per picture: a picture is 1 or 3 channels, height, width, with sides up to {}",
                limits::MAX_IMAGE_SIDE
            );
            Err(Error::unsupported(file, problem))
        }
    }
}
