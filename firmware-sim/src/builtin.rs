//! The model that is part of the program, so that it runs without any file.

/// Its name.
pub const NAME: &str = "smileys64-gan";

/// Its ONNX file.
pub const MODEL: &[u8] = include_bytes!("../../models/smileys64-gan/generator.int8.onnx");
