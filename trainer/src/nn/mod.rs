//! What training computes with: activations in lanes, convolutions and their gradients, batch norm,
//! likelihoods, and an Adam whose state can be stored.
//!
//! Kernels are ours, and so is the backward pass ([`crate::network::module`]): candle's own gradients of
//! convolutions are several times slower, and its tensors cannot keep a batch in lanes.

pub mod activation;
pub mod adam;
pub mod batch;
pub mod batch_norm;
pub(crate) mod buffers;
pub(crate) mod correlate;
pub mod geometry;
mod kernels;
mod lanes;
pub mod likelihood;
pub(crate) mod upsample;
