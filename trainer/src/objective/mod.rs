//! What a training step minimises: a [`vae`]'s bound, the game of a [`gan`], a [`classifier`]'s cross-entropy.

pub mod classifier;
pub mod feature_loss;
pub mod gan;
pub mod transport;
pub mod vae;
