//! Pictures side by side on one page, each with its name below.

use std::convert::Infallible;

use embedded_graphics::mono_font::MonoTextStyle;
use embedded_graphics::mono_font::ascii::FONT_9X18;
use embedded_graphics::pixelcolor::Rgb888;
use embedded_graphics::prelude::*;
use embedded_graphics::text::{Alignment, Text};

use crate::picture::Picture;

/// Widest row of a page, pixels.
const WIDEST: usize = 2000;
/// Between pictures and around them, pixels.
const GAP: usize = 24;
/// Height of a name, pixels.
const NAME: usize = 26;
const PAPER: [u8; 3] = [250; 3];
const INK: Rgb888 = Rgb888::new(40, 40, 40);

/// The pictures in rows, in their order; those of a row stand on one line.
pub fn sheet(pictures: &[(&str, Picture)]) -> Picture {
    let mut rows: Vec<Vec<&(&str, Picture)>> = Vec::new();
    let mut width = WIDEST;
    for picture in pictures {
        let wide = picture.1.width() + GAP;
        if width + wide > WIDEST {
            rows.push(Vec::new());
            width = GAP;
        }
        width += wide;
        if let Some(row) = rows.last_mut() {
            row.push(picture);
        }
    }
    let wide = |row: &Vec<&(&str, Picture)>| {
        GAP + row.iter().map(|(_, picture)| picture.width() + GAP).sum::<usize>()
    };
    let high =
        |row: &Vec<&(&str, Picture)>| row.iter().map(|(_, picture)| picture.height()).max().unwrap_or(0);
    let width = rows.iter().map(wide).max().unwrap_or(GAP);
    let height = GAP + rows.iter().map(|row| high(row) + NAME + GAP).sum::<usize>();
    let mut page = Page(Picture::filled(width, height, PAPER));
    let mut top = GAP;
    for row in &rows {
        let (line, mut left) = (top + high(row), GAP);
        for (name, picture) in row {
            page.put(picture, left, line - picture.height());
            let below = Point::new((left + picture.width() / 2) as i32, (line + NAME - 8) as i32);
            let style = MonoTextStyle::new(&FONT_9X18, INK);
            // a page refuses nothing
            let Ok(_) = Text::with_alignment(name, below, style, Alignment::Center).draw(&mut page);
            left += picture.width() + GAP;
        }
        top = line + NAME + GAP;
    }
    page.0
}

struct Page(Picture);

impl Page {
    fn put(&mut self, picture: &Picture, left: usize, top: usize) {
        for y in 0..picture.height() {
            for x in 0..picture.width() {
                self.0.set(left + x, top + y, picture.at(x, y));
            }
        }
    }
}

impl OriginDimensions for Page {
    fn size(&self) -> Size {
        self.0.size()
    }
}

impl DrawTarget for Page {
    type Color = Rgb888;
    type Error = Infallible;

    fn draw_iter<I: IntoIterator<Item = Pixel<Rgb888>>>(&mut self, pixels: I) -> Result<(), Infallible> {
        let inside = self.bounding_box();
        for Pixel(at, color) in pixels.into_iter().filter(|pixel| inside.contains(pixel.0)) {
            self.0.set(at.x as usize, at.y as usize, [color.r(), color.g(), color.b()]);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_stand_on_lines_with_their_names_below() {
        let of = |width, height| Picture::filled(width, height, [200, 0, 0]);
        let page = sheet(&[("one", of(900, 50)), ("two", of(1000, 20)), ("three", of(300, 40))]);
        assert_eq!((page.width(), page.height()), (3 * GAP + 1900, 3 * GAP + 90 + 2 * NAME));
        // the second stands as low as the first, the third begins a row
        assert_eq!(page.at(GAP, GAP), [200, 0, 0]);
        assert_eq!(page.at(2 * GAP + 900, GAP + 29), PAPER);
        assert_eq!(page.at(2 * GAP + 900, GAP + 30), [200, 0, 0]);
        assert_eq!(page.at(GAP, 2 * GAP + 50 + NAME), [200, 0, 0]);
        let dark = page.rgb().chunks(3).filter(|color| color[0] == 40).count();
        assert!(dark > 50, "{dark}");
    }
}
