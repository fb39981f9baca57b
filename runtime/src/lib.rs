//! edgegen-runtime: ONNX model in, pictures out, on a device's CPU.

pub mod files;
pub mod generate;
pub mod measure;
pub mod model;
#[cfg(feature = "pictures")]
pub mod pictures;
pub mod random;

mod error;

pub use error::{Error, Result};
