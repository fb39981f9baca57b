//! Trains edgegen's generators on a host and exports them for a device.
//!
//! Layers, each knowing only those above it:
//! - [`nn`]: what candle lacks (convolution gradients, likelihoods, Adam with a state to store)
//! - [`network`]: what a network is, as one typed list of layers, and the presets
//! - [`data`]: IDX files, folders of images, a small embedded set → batches
//! - [`train`]: configuration, objective, loop, run folder, checkpoints, pictures
//! - [`evaluate`]: likelihoods on held-out pictures
//! - [`export`]: layer list + weights → ONNX → compared with candle through the runtime
//!
//! Guarantees: a step of a run depends on its configuration, its pictures and the step's number
//! alone, so runs can be cut and resumed and end in the same weights; files appear whole or not at
//! all; held-out pictures never decide a gradient.

pub mod data;
pub mod evaluate;
pub mod export;
pub mod network;
pub mod nn;
pub mod train;

mod error;

pub use error::{Error, Result};
