//! Trains edgegen's generators on a host and exports them for a device.
//!
//! Layers, each knowing only those above it:
//! - [`nn`]: what training computes with (convolutions and their gradients, likelihoods, Adam with a state to store)
//! - [`network`]: what a network is, as one typed list of layers, and families of them
//! - [`data`]: IDX files, folders of images, a small embedded set → batches
//! - [`vae`]: encoder and decoder, and the objective's terms
//! - [`gan`]: generator and discriminator, and one step of both
//! - [`classifier`]: what samples are judged by
//! - [`device`]: the same steps on candle's tensors, for CUDA
//! - [`evaluate`]: likelihoods of held-out pictures; samples against pictures, on the features of any network
//! - [`train`]: configuration, presets, plan, loop, run folder, checkpoints, reports, first weights
//! - [`graph`]: a network with its values as files hold it, from a trained module or an ONNX file
//! - [`quantize`]: a graph in float32 → the same in integers of 8 bits, and a report of what that costs
//! - [`export`]: graph → ONNX → compared with the trainer's own through the runtime
//!
//! Guarantees: a step of a run depends on its configuration, its pictures and the step's number
//! alone, so runs can be cut and resumed and end in the same weights (on the CPU); files appear whole or not at
//! all; held-out pictures never decide a gradient.

pub mod classifier;
pub mod data;
pub mod device;
pub mod evaluate;
pub mod export;
pub mod gan;
pub mod graph;
pub mod network;
pub mod nn;
pub mod quantize;
pub mod train;
pub mod vae;

mod error;

pub use error::{Error, Result};
