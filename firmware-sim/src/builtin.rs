//! The model that is part of the program, so that it runs without any file.

/// Its name.
pub const NAME: &str = "mnist-vae";

/// Its ONNX file; `None` in a build without one.
pub const MODEL: Option<&[u8]> = None;
