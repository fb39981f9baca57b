//! From a configuration and a data set to a run folder: objective, loop, checkpoints, pictures.

pub mod checkpoint;
pub mod config;
mod events;
pub mod folder;
pub mod init;
pub mod kept;
mod learner;
pub mod metrics;
pub mod pictures;
pub mod plan;
pub mod presets;
mod quality;
pub mod run;
pub mod teacher;
pub mod trained;
