//! Pictures in memory.

/// Rows and columns around a picture that hold nothing: the zero point, or 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Border {
    /// Rows above.
    pub top: usize,
    /// Columns to the left.
    pub left: usize,
    /// Rows below.
    pub bottom: usize,
    /// Columns to the right.
    pub right: usize,
}

impl Border {
    /// As much as either needs.
    pub fn max(self, other: Self) -> Self {
        Self {
            top: self.top.max(other.top),
            left: self.left.max(other.left),
            bottom: self.bottom.max(other.bottom),
            right: self.right.max(other.right),
        }
    }
}

/// How one picture lies in memory: rows from top to bottom, pixels from left to right, channels innermost (HWC),
/// with a border around it. A vector is a picture of one pixel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plane {
    /// Values of a pixel.
    pub channels: usize,
    /// Rows, without the border.
    pub height: usize,
    /// Pixels of a row, without the border.
    pub width: usize,
    /// Around it.
    pub border: Border,
}

impl Plane {
    /// A picture without a border.
    pub fn new(channels: usize, height: usize, width: usize) -> Self {
        Self { channels, height, width, border: Border::default() }
    }

    /// A vector.
    pub fn vector(values: usize) -> Self {
        Self::new(values, 1, 1)
    }

    /// Elements from one row to the next.
    pub fn row(&self) -> usize {
        (self.border.left + self.width + self.border.right) * self.channels
    }

    /// Elements, with the border.
    pub fn len(&self) -> usize {
        (self.border.top + self.height + self.border.bottom) * self.row()
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Elements without the border.
    pub fn values(&self) -> usize {
        self.channels * self.height * self.width
    }

    /// Where the first channel of a pixel lies. Coordinates may reach into the border.
    pub(crate) fn at(&self, y: isize, x: isize) -> isize {
        (y + self.border.top as isize) * self.row() as isize
            + (x + self.border.left as isize) * self.channels as isize
    }

    /// Sets the border to `value`. `memory` holds the plane.
    pub fn fill_border<T: Copy>(&self, memory: &mut [T], value: T) {
        let Border { top, left, bottom, right } = self.border;
        let (row, channels) = (self.row(), self.channels);
        memory[..top * row].fill(value);
        memory[(top + self.height) * row..(top + self.height + bottom) * row].fill(value);
        if left + right > 0 {
            for line in memory[top * row..].chunks_exact_mut(row).take(self.height) {
                line[..left * channels].fill(value);
                line[row - right * channels..].fill(value);
            }
        }
    }
}
