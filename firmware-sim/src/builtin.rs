//! The model that is part of the program, so that it runs without any file.

/// Its name.
pub const NAME: &str = "mnist-vae";

/// Its ONNX file.
pub const MODEL: &[u8] = include_bytes!("../../models/mnist-vae/decoder.fp32.onnx");
