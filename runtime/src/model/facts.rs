//! What is known about an opened model.

use super::kinds::{ImageShape, Part, PixelFormat, Precision, Range};
use super::metadata::Metadata;
use std::collections::BTreeMap;

/// What an opened model is: from its metadata where it has any, else from its graph.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Which network it is.
    pub part: Part,
    /// Values of a latent.
    pub latent_dim: usize,
    /// Size of a picture.
    pub image: ImageShape,
    /// Range of the network's pictures.
    pub range: Range,
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
    /// Weights: elements of all initializers that are not shapes or indices.
    pub parameters: u64,
    /// Size of the file.
    pub file_bytes: u64,
    /// The inputs that have to be fed.
    pub inputs: Vec<TensorFact>,
    /// The outputs that are read.
    pub outputs: Vec<TensorFact>,
    /// Multiply-accumulates of convolutions and matrix products for one picture.
    pub macs: Option<u64>,
    /// How often each ONNX operator occurs.
    pub operators: BTreeMap<String, usize>,
}

/// Name, shape and type of an input or output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorFact {
    /// Its name in the graph.
    pub name: String,
    /// Its shape as text, for example `N,1,28,28`.
    pub shape: String,
    /// Its element type, for example `float32`.
    pub dtype: String,
}
