//! Trains edgegen's generators on a host and exports them for a device.
//!
//! Layers, each knowing only those above it:
//! - [`random`]: what random numbers are for
//! - [`graph`]: what a network is, as one typed graph of operators: families of networks, ONNX files read, forms for a
//!   device
//! - [`compute`]: one forward and one backward pass over a graph, on the tensor operations of a back end: lanes on the
//!   CPU, candle's tensors for CUDA
//! - [`data`]: IDX files, folders of images, a small embedded set → batches
//! - [`objective`]: what a step minimises: a VAE's bound, a GAN's game, a classifier's cross-entropy
//! - [`evaluate`]: likelihoods of held-out pictures; samples against pictures, on the features of any network
//! - [`train`]: configuration, presets, plan, loop, run folder, checkpoints, reports, first weights
//! - [`quantize`]: a graph in float32 → the same in integers of 8 bits, and a report of what that costs
//! - [`export`]: graph → ONNX → compared with the trainer's own through the runtime
//!
//! Guarantees: a step of a run depends on its configuration, its pictures and the step's number
//! alone, so runs can be cut and resumed and end in the same weights (on the CPU); files appear whole or not at
//! all; held-out pictures never decide a gradient.

pub mod compute;
pub mod data;
pub mod evaluate;
pub mod export;
pub mod graph;
pub mod objective;
pub mod quantize;
pub mod random;
pub mod train;

mod error;
mod plot;

pub use error::{Error, Result};
