//! What a viewer sees: an RGB picture, and nothing else.

use embedded_graphics::geometry::Size;

/// An RGB picture, 8 bits per channel, rows from the top.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    width: usize,
    height: usize,
    rgb: Vec<u8>,
}

impl Picture {
    /// A picture of one colour.
    pub fn filled(width: usize, height: usize, color: [u8; 3]) -> Self {
        Self { width, height, rgb: color.repeat(width * height) }
    }

    /// A picture whose pixel (x, y) is `color(x, y)`.
    pub fn from_fn(width: usize, height: usize, mut color: impl FnMut(usize, usize) -> [u8; 3]) -> Self {
        let mut rgb = Vec::with_capacity(width * height * 3);
        for y in 0..height {
            for x in 0..width {
                rgb.extend(color(x, y));
            }
        }
        Self { width, height, rgb }
    }

    /// Pixels in a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Rows.
    pub fn height(&self) -> usize {
        self.height
    }

    /// Width and height as embedded-graphics has them.
    pub fn size(&self) -> Size {
        Size::new(self.width as u32, self.height as u32)
    }

    /// The pixels, NHWC.
    pub fn rgb(&self) -> &[u8] {
        &self.rgb
    }

    /// The colour at (x, y); both must be inside.
    pub fn at(&self, x: usize, y: usize) -> [u8; 3] {
        let first = (y * self.width + x) * 3;
        [self.rgb[first], self.rgb[first + 1], self.rgb[first + 2]]
    }

    /// The picture turned clockwise by so many quarters.
    pub fn turned(&self, quarters: u8) -> Self {
        match quarters % 4 {
            0 => self.clone(),
            1 => Self::from_fn(self.height, self.width, |x, y| self.at(y, self.height - 1 - x)),
            2 => Self::from_fn(self.width, self.height, |x, y| {
                self.at(self.width - 1 - x, self.height - 1 - y)
            }),
            _ => Self::from_fn(self.height, self.width, |x, y| self.at(self.width - 1 - y, x)),
        }
    }

    /// The picture as a mirror shows it.
    pub fn mirrored(&self) -> Self {
        Self::from_fn(self.width, self.height, |x, y| self.at(self.width - 1 - x, y))
    }

    /// Sets the colour at (x, y); both must be inside.
    pub fn set(&mut self, x: usize, y: usize, color: [u8; 3]) {
        let first = (y * self.width + x) * 3;
        self.rgb[first..first + 3].copy_from_slice(&color);
    }
}
