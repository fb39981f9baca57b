//! A picture in memory that a driver sends as a whole: for panels whose pixels cannot be set one by one.

use std::convert::Infallible;

use edgegen_firmware::PanelColor;
use embedded_graphics::prelude::*;
use embedded_graphics::primitives::Rectangle;

use super::device::Mounting;

/// Pixels as the panel has them, drawn on as the viewer sees them.
#[derive(Clone, Debug)]
pub struct Canvas<C> {
    /// Columns and rows of the panel.
    size: Size,
    mounting: Mounting,
    pixels: Vec<C>,
}

impl<C: PanelColor> Canvas<C> {
    /// All paper, for a panel of this size.
    pub fn new(size: Size, mounting: Mounting) -> Self {
        Self { size, mounting, pixels: vec![C::PAPER; (size.width * size.height) as usize] }
    }

    /// The pixels in the panel's own rows.
    pub fn pixels(&self) -> &[C] {
        &self.pixels
    }

    /// Pixels of one of the panel's rows.
    pub fn width(&self) -> usize {
        self.size.width as usize
    }

    /// Where in the panel's rows the viewer's pixel lies; it must be inside.
    fn index(&self, at: Point) -> usize {
        let (x, y) = self.mounting.place(self.size, at);
        y * self.size.width as usize + x
    }
}

impl<C> OriginDimensions for Canvas<C> {
    fn size(&self) -> Size {
        self.mounting.drawn(self.size)
    }
}

impl<C: PanelColor> DrawTarget for Canvas<C> {
    type Color = C;
    type Error = Infallible;

    fn draw_iter<I: IntoIterator<Item = Pixel<C>>>(&mut self, pixels: I) -> Result<(), Infallible> {
        let area = self.bounding_box();
        for Pixel(at, color) in pixels.into_iter().filter(|Pixel(at, _)| area.contains(*at)) {
            let index = self.index(at);
            self.pixels[index] = color;
        }
        Ok(())
    }

    fn fill_solid(&mut self, area: &Rectangle, color: C) -> Result<(), Infallible> {
        self.fill_contiguous(area, std::iter::repeat(color))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use embedded_graphics::pixelcolor::BinaryColor::{self, Off, On};

    #[test]
    fn what_is_drawn_is_turned_and_mirrored() {
        // a panel of 3 × 2; the viewer's pixel (1, 0)
        let table = [
            (0, false, [Off, On, Off, Off, Off, Off]),
            (1, false, [Off, Off, Off, Off, Off, On]),
            (2, false, [Off, Off, Off, Off, On, Off]),
            (3, false, [On, Off, Off, Off, Off, Off]),
            (0, true, [Off, On, Off, Off, Off, Off]),
            (1, true, [Off, Off, Off, On, Off, Off]),
        ];
        for (quarters, mirrored, expected) in table {
            let mounting = Mounting { quarters, mirrored, ..Mounting::default() };
            let mut canvas = Canvas::<BinaryColor>::new(Size::new(3, 2), mounting);
            Pixel(Point::new(1, 0), On).draw(&mut canvas).unwrap();
            assert_eq!(canvas.pixels(), expected, "{quarters} {mirrored}");
            let outside = Point::new(canvas.size().width as i32, 0);
            Pixel(outside, On).draw(&mut canvas).unwrap();
            assert_eq!(canvas.pixels(), expected);
        }
    }
}
