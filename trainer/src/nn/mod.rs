//! What candle lacks for training: convolutions whose gradients are fast and exact, fused bias and
//! activation, a Bernoulli likelihood, and an Adam whose state can be stored.
//!
//! Everything here works on candle tensors and is differentiable through candle's own backward
//! pass. CPU kernels are ours; other devices fall back to candle's operations.

pub mod activation;
pub mod adam;
pub mod batch_norm;
pub mod convolution;
#[cfg(target_arch = "x86_64")]
mod direct;
mod gemm;
mod lanes;
pub mod likelihood;
mod storage;
