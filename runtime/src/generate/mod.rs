//! Latents in, pictures out ([`Generator`]); the way back ([`Encoder`]); and pictures in and out ([`Transformer`]; [`Tiler`] of any size).
//!
//! Networks read and write float32 in NCHW order; pictures for people and panels are [`Frame`]s,
//! u8 in NHWC order. [`to_pixels`] and [`from_pixels`] lead from one to the other.

mod encoder;
mod frame;
mod generator;
mod latents;
mod score;
mod tiles;
mod transformer;

pub use crate::raster::{Raster, from_pixels, to_pixels};
pub use encoder::{Encoder, Posterior};
pub use frame::Frame;
pub use generator::{Generator, class_named};
pub use latents::Latents;
pub use score::{Likelihood, Score, Scorer, auroc, threshold};
pub use tiles::{Opener, Tiler, USUAL_TILE};
pub use transformer::Transformer;
