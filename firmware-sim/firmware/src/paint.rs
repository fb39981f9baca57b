//! One picture onto a panel: sampled, dithered and sent as one contiguous area, so that a serial
//! panel gets its window once and then nothing but pixels.

use core::cell::Cell;
use core::fmt;

use embedded_graphics::pixelcolor::{BinaryColor, Gray2, Rgb565, Rgb888};
use embedded_graphics::prelude::*;
use embedded_graphics::primitives::Rectangle;

use crate::dither::{Dither, Ditherer};
use crate::generator::PictureShape;
use crate::sample::{Filter, Resampler, Sampler};

/// A colour that a panel can show.
pub trait PanelColor: PixelColor {
    /// Channels that are dithered: 1 on a monochrome panel, else 3.
    const CHANNELS: usize;
    /// Each channel's highest level; with one channel the first counts.
    const HIGHEST: [u8; 3];
    /// Behind pictures and captions.
    const PAPER: Self;
    /// Captions.
    const INK: Self;
    /// The colour of these levels.
    fn from_levels(levels: [u8; 3]) -> Self;
    /// What it looks like: red, green and blue in 8 bits.
    fn rgb(self) -> [u8; 3];
}

impl PanelColor for Rgb565 {
    const CHANNELS: usize = 3;
    const HIGHEST: [u8; 3] = [31, 63, 31];
    const PAPER: Self = Self::BLACK;
    const INK: Self = Self::WHITE;

    fn from_levels([red, green, blue]: [u8; 3]) -> Self {
        Self::new(red, green, blue)
    }

    fn rgb(self) -> [u8; 3] {
        let five = |level: u8| level << 3 | level >> 2;
        [five(self.r()), self.g() << 2 | self.g() >> 4, five(self.b())]
    }
}

impl PanelColor for Rgb888 {
    const CHANNELS: usize = 3;
    const HIGHEST: [u8; 3] = [255; 3];
    const PAPER: Self = Self::BLACK;
    const INK: Self = Self::WHITE;

    fn from_levels([red, green, blue]: [u8; 3]) -> Self {
        Self::new(red, green, blue)
    }

    fn rgb(self) -> [u8; 3] {
        [self.r(), self.g(), self.b()]
    }
}

impl PanelColor for BinaryColor {
    const CHANNELS: usize = 1;
    const HIGHEST: [u8; 3] = [1; 3];
    const PAPER: Self = Self::Off;
    const INK: Self = Self::On;

    fn from_levels([level, ..]: [u8; 3]) -> Self {
        if level == 0 { Self::Off } else { Self::On }
    }

    fn rgb(self) -> [u8; 3] {
        [if self.is_on() { 255 } else { 0 }; 3]
    }
}

/// Four greys, of paper.
impl PanelColor for Gray2 {
    const CHANNELS: usize = 1;
    const HIGHEST: [u8; 3] = [3; 3];
    const PAPER: Self = Self::WHITE;
    const INK: Self = Self::BLACK;

    fn from_levels([level, ..]: [u8; 3]) -> Self {
        Self::new(level)
    }

    fn rgb(self) -> [u8; 3] {
        [85 * self.luma(); 3]
    }
}

/// Why a picture could not be painted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PaintError<E> {
    /// The panel's driver failed.
    Panel(E),
    /// The place is wider than the painter's row.
    TooWide {
        /// Columns of the place.
        width: u32,
        /// Columns of a row.
        room: usize,
    },
    /// The pixels are fewer than the picture's shape says, or the place is empty.
    BadPicture,
}

impl<E: fmt::Debug> fmt::Display for PaintError<E> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Panel(error) => write!(out, "the panel's driver failed: {error:?}"),
            Self::TooWide { width, room } => {
                write!(out, "a picture {width} columns wide does not fit the painter's {room}")
            }
            Self::BadPicture => write!(out, "the picture has fewer pixels than its shape says"),
        }
    }
}

impl<E: fmt::Debug> core::error::Error for PaintError<E> {}

impl<E> From<E> for PaintError<E> {
    fn from(error: E) -> Self {
        Self::Panel(error)
    }
}

/// Paints pictures of up to `WIDTH` columns; its memory is 59 bytes per column, and a kilobyte.
#[derive(Clone, Debug)]
pub struct Painter<const WIDTH: usize> {
    resampler: Resampler<WIDTH>,
    ditherer: Ditherer<WIDTH>,
    row: [[u8; 3]; WIDTH],
}

impl<const WIDTH: usize> Painter<WIDTH> {
    /// A painter that dithers so.
    pub const fn new(dither: Dither) -> Self {
        Self { resampler: Resampler::new(), ditherer: Ditherer::new(dither), row: [[0; 3]; WIDTH] }
    }

    /// Paints `pixels` (NHWC u8 of `shape`), resized to `place`.
    pub fn paint<D: DrawTarget<Color: PanelColor>>(
        &mut self,
        target: &mut D,
        pixels: &[u8],
        shape: PictureShape,
        (place, filter): (Rectangle, Filter),
    ) -> Result<(), PaintError<D::Error>> {
        let Size { width, height } = place.size;
        if width as usize > WIDTH {
            return Err(PaintError::TooWide { width, room: WIDTH });
        }
        let sampler = Sampler::new(pixels, shape, (width, height), filter).ok_or(PaintError::BadPicture)?;
        self.resampler.begin(&sampler);
        self.ditherer.restart();
        let mut colors = [D::Color::PAPER; WIDTH];
        let colors = Cell::from_mut(&mut colors[..width as usize]).as_slice_of_cells();
        let left = [].iter();
        target.fill_contiguous(&place, Rows { painter: self, sampler, place, colors, left, line: 0 })?;
        Ok(())
    }
}

/// The colours of `place`, row by row.
struct Rows<'a, C, const WIDTH: usize> {
    painter: &'a mut Painter<WIDTH>,
    sampler: Sampler<'a>,
    place: Rectangle,
    /// A row, and those of its colours that are left; both refer to it, so that the next one costs no index.
    colors: &'a [Cell<C>],
    left: core::slice::Iter<'a, Cell<C>>,
    line: u32,
}

impl<C: PanelColor, const WIDTH: usize> Rows<'_, C, WIDTH> {
    fn make_row(&mut self) {
        let row = &mut self.painter.row[..self.colors.len()];
        let made = self.painter.resampler.row(&self.sampler, self.line);
        if C::CHANNELS == 1 {
            row.iter_mut().zip(made).for_each(|(pixel, color)| *pixel = [luma(*color); 3]);
        } else {
            row.copy_from_slice(made);
        }
        let corner = self.place.top_left;
        let at = (corner.x as u32, (corner.y as u32).wrapping_add(self.line));
        self.painter.ditherer.row(row, C::CHANNELS, C::HIGHEST, at);
        self.colors.iter().zip(row).for_each(|(color, levels)| color.set(C::from_levels(*levels)));
        self.left = self.colors.iter();
        self.line += 1;
    }
}

impl<C: PanelColor, const WIDTH: usize> Iterator for Rows<'_, C, WIDTH> {
    type Item = C;

    #[inline]
    fn next(&mut self) -> Option<C> {
        if let Some(color) = self.left.next() {
            return Some(color.get());
        }
        if self.line == self.place.size.height {
            return None;
        }
        self.make_row();
        self.left.next().map(Cell::get)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let lines = (self.place.size.height - self.line) as usize;
        let left = lines * self.colors.len() + self.left.len();
        (left, Some(left))
    }

    /// Row by row, for targets that take all there is.
    fn fold<B, F: FnMut(B, C) -> B>(mut self, first: B, mut fold: F) -> B {
        let mut sum = first;
        loop {
            sum = self.left.by_ref().map(Cell::get).fold(sum, &mut fold);
            if self.line == self.place.size.height {
                return sum;
            }
            self.make_row();
        }
    }
}

/// Luma of ITU-R BT.601 in 1/256.
fn luma([red, green, blue]: [u8; 3]) -> u8 {
    ((77 * u32::from(red) + 150 * u32::from(green) + 29 * u32::from(blue) + 128) >> 8) as u8
}

#[cfg(test)]
mod tests {
    use super::*;
    use embedded_graphics::mock_display::MockDisplay;

    #[test]
    fn gray_stays_gray_and_colours_have_their_luma() {
        for value in 0..=255 {
            assert_eq!(luma([value; 3]), value);
        }
        assert!(luma([0, 255, 0]) > luma([255, 0, 0]) && luma([255, 0, 0]) > luma([0, 0, 255]));
    }

    #[test]
    fn a_picture_lands_where_it_should() {
        let shape = PictureShape::new(1, 2, 2).unwrap();
        let place = Rectangle::new(Point::new(1, 1), Size::new(4, 4));
        let mut mono = MockDisplay::<BinaryColor>::new();
        Painter::<8>::new(Dither::None)
            .paint(&mut mono, &[255, 0, 0, 255], shape, (place, Filter::Nearest))
            .unwrap();
        mono.assert_pattern(&["     ", " ##..", " ##..", " ..##", " ..##"]);
        let shape = PictureShape::new(3, 2, 1).unwrap();
        let place = Rectangle::new(Point::zero(), Size::new(2, 1));
        let mut colour = MockDisplay::<Rgb565>::new();
        Painter::<8>::new(Dither::Atkinson)
            .paint(&mut colour, &[255, 0, 0, 255, 255, 255], shape, (place, Filter::Nearest))
            .unwrap();
        colour.assert_pattern(&["RW"]);
        // 8 bits a channel arrive as they are, however they would be dithered
        let pixels: [u8; 12] = core::array::from_fn(|at| (at * 23) as u8);
        for dither in [Dither::None, Dither::Bayer, Dither::FloydSteinberg, Dither::Atkinson] {
            let mut full = MockDisplay::<Rgb888>::new();
            let place = Rectangle::new(Point::zero(), Size::new(2, 2));
            let shape = PictureShape::new(3, 2, 2).unwrap();
            Painter::<8>::new(dither).paint(&mut full, &pixels, shape, (place, Filter::Nearest)).unwrap();
            for (index, rgb) in pixels.as_chunks::<3>().0.iter().enumerate() {
                let at = Point::new(index as i32 % 2, index as i32 / 2);
                assert_eq!(full.get_pixel(at), Some(Rgb888::new(rgb[0], rgb[1], rgb[2])), "{dither:?}");
            }
        }
    }

    #[test]
    fn what_cannot_be_painted_is_an_error() {
        let shape = PictureShape::new(1, 2, 2).unwrap();
        let mut target = MockDisplay::<BinaryColor>::new();
        let wide = Rectangle::new(Point::zero(), Size::new(9, 1));
        let mut painter = Painter::<8>::new(Dither::None);
        let error = painter.paint(&mut target, &[0; 4], shape, (wide, Filter::Area));
        assert_eq!(error, Err(PaintError::TooWide { width: 9, room: 8 }));
        let place = Rectangle::new(Point::zero(), Size::new(2, 2));
        let error = painter.paint(&mut target, &[0; 3], shape, (place, Filter::Nearest));
        assert_eq!(error, Err(PaintError::BadPicture));
    }
}
