//! A picture as people and panels take it.

use crate::kinds::{ImageShape, PixelFormat};

/// One picture: u8, rows from top to bottom, pixels from left to right, channels innermost (HWC).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Pixels from left to right.
    pub width: usize,
    /// Pixels from top to bottom.
    pub height: usize,
    /// Meaning of the channels.
    pub format: PixelFormat,
    /// height × width × channels values.
    pub pixels: Vec<u8>,
}

impl Frame {
    /// A black frame.
    pub fn black(width: usize, height: usize, format: PixelFormat) -> Self {
        Self { width, height, format, pixels: vec![0; width * height * format.channels()] }
    }

    /// Size and channels.
    pub fn shape(&self) -> ImageShape {
        ImageShape { channels: self.format.channels(), height: self.height, width: self.width }
    }
}
