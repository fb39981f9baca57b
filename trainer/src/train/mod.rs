//! From a configuration and a data set to a run folder: objective, loop, checkpoints, pictures.

pub mod checkpoint;
pub mod config;
pub mod metrics;
pub mod pictures;
pub mod presets;
pub mod run;
