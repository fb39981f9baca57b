//! Pictures in memory. Planes are made by checked constructors alone: no plane has more elements than an offset can
//! count, so that what kernels compute from one never wraps.

use crate::quantized::Mismatch;

/// Most elements of a plane, border and all: with it every offset, in bytes of any type, fits `isize`.
const MOST_ELEMENTS: usize = isize::MAX as usize / 16;
/// Most rows, and pixels of a row, border and all: with it products with the numbers of an [`Axis`](crate::Axis) fit too.
const MOST_SIDE: usize = 1 << 15;

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
    pub(crate) channels: usize,
    pub(crate) height: usize,
    pub(crate) width: usize,
    pub(crate) border: Border,
}

impl Plane {
    /// A picture without a border.
    ///
    /// # Errors
    /// If it holds nothing, a side is above 32,768, or there are more elements than an offset can count.
    pub fn new(channels: usize, height: usize, width: usize) -> Result<Self, Mismatch> {
        Self { channels, height, width, border: Border::default() }.checked()
    }

    /// The same with a border.
    ///
    /// # Errors
    /// If a side is above 32,768, or there are more elements than an offset can count.
    pub fn with_border(self, border: Border) -> Result<Self, Mismatch> {
        Self { border, ..self }.checked()
    }

    /// The same without its border.
    pub fn without_border(self) -> Self {
        Self { border: Border::default(), ..self }
    }

    /// Whether it is one pixel, as a vector is.
    pub fn is_pixel(&self) -> bool {
        self.height * self.width == 1
    }

    fn checked(self) -> Result<Self, Mismatch> {
        let Border { top, left, bottom, right } = self.border;
        let sum = |parts: [usize; 3]| parts.into_iter().try_fold(0usize, usize::checked_add);
        let side = |parts| sum(parts).filter(|side| *side <= MOST_SIDE);
        let rows = side([top, self.height, bottom]);
        let columns = side([left, self.width, right]);
        let product = rows.zip(columns).and_then(|(rows, columns)| rows.checked_mul(columns));
        let elements = product.and_then(|pixels| pixels.checked_mul(self.channels));
        if self.channels == 0 || self.height == 0 || self.width == 0 {
            return Err(Mismatch("a plane is empty"));
        }
        match elements {
            Some(elements) if elements <= MOST_ELEMENTS => Ok(self),
            _ => Err(Mismatch("a plane has sides above 32768, or more elements than an offset can count")),
        }
    }

    /// Values of a pixel.
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// Rows, without the border.
    pub fn height(&self) -> usize {
        self.height
    }

    /// Pixels of a row, without the border.
    pub fn width(&self) -> usize {
        self.width
    }

    /// What is around it.
    pub fn border(&self) -> Border {
        self.border
    }

    /// Elements from one row to the next.
    pub fn row(&self) -> usize {
        (self.border.left + self.width + self.border.right) * self.channels
    }

    /// Elements, with the border.
    pub fn len(&self) -> usize {
        (self.border.top + self.height + self.border.bottom) * self.row()
    }

    /// Whether it holds nothing: never.
    pub fn is_empty(&self) -> bool {
        false
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
