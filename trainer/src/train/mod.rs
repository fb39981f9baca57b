//! From a configuration and a data set to a run folder: objective, loop, checkpoints, pictures.

pub mod checkpoint;
pub mod config;
pub mod folder;
mod learner;
pub mod metrics;
pub mod pictures;
pub mod presets;
pub mod run;
pub mod trained;
