//! Changes of single pictures, drawn at random: a batch's differ from picture to picture.

/// An affine change of a picture (C, H, W). Its linear part's transpose is of the same kind.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Change {
    /// own · x + pixel · (mean of a pixel's channels) + picture · (mean of the picture) + summand.
    Color {
        /// Factor of the value itself.
        own: f32,
        /// Factor of the mean over the channels of its pixel.
        pixel: f32,
        /// Factor of the mean over the picture.
        picture: f32,
        /// Added to all.
        summand: f32,
    },
    /// Rows and columns that a pixel moves down and right; zeros follow.
    Shift([isize; 2]),
    /// First and last row, first and last column (exclusive) that become 0.
    Cut([usize; 4]),
}

impl Change {
    /// The transpose of its linear part: what a gradient goes through.
    pub fn transposed(self) -> Self {
        match self {
            Self::Color { own, pixel, picture, .. } => Self::Color { own, pixel, picture, summand: 0.0 },
            Self::Shift([down, right]) => Self::Shift([-down, -right]),
            Self::Cut(_) => self,
        }
    }
}
