//! What a training step minimises: a [`vae`]'s bound, the game of a [`gan`], a [`classifier`]'s cross-entropy, the distance of a
//! [`transform`]'s pictures to clean ones, and what a discriminator of their [`patches`] says.

pub mod classifier;
pub mod feature_loss;
pub mod gan;
pub mod patches;
pub mod transform;
pub mod transport;
pub mod vae;
