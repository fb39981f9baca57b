//! What is drawn on a panel that cannot be looked at.

use edgegen_firmware::PanelColor;
use embedded_graphics::prelude::*;
use embedded_graphics::primitives::Rectangle;

use crate::panel::{Device, DeviceError};
use crate::picture::Picture;

/// A panel, and a copy of what is drawn on it.
pub struct Mirrored<D: Device> {
    device: D,
    picture: Picture,
    /// The colours of an area on their way.
    colors: Vec<<D::Target as DrawTarget>::Color>,
}

impl<D: Device> Mirrored<D> {
    /// This panel; what it shows before something is drawn is taken for paper.
    pub fn new(mut device: D) -> Self {
        let size = device.target().bounding_box().size;
        let paper = <D::Target as DrawTarget>::Color::PAPER.rgb();
        let picture = Picture::filled(size.width as usize, size.height as usize, paper);
        Self { device, picture, colors: Vec::new() }
    }
}

impl<D: Device> Device for Mirrored<D> {
    type Target = Self;

    fn target(&mut self) -> &mut Self {
        self
    }

    fn flush(&mut self) -> Result<(), DeviceError> {
        self.device.flush()
    }

    fn is_slow(&self) -> bool {
        self.device.is_slow()
    }

    fn seen(&self) -> Option<Picture> {
        Some(self.picture.clone())
    }
}

impl<D: Device> Dimensions for Mirrored<D> {
    fn bounding_box(&self) -> Rectangle {
        Rectangle::new(Point::zero(), self.picture.size())
    }
}

impl<D: Device> DrawTarget for Mirrored<D> {
    type Color = <D::Target as DrawTarget>::Color;
    type Error = <D::Target as DrawTarget>::Error;

    fn draw_iter<I: IntoIterator<Item = Pixel<Self::Color>>>(
        &mut self,
        pixels: I,
    ) -> Result<(), Self::Error> {
        let inside = self.bounding_box();
        let picture = &mut self.picture;
        self.device.target().draw_iter(pixels.into_iter().inspect(|Pixel(at, color)| {
            if inside.contains(*at) {
                picture.set(at.x as usize, at.y as usize, color.rgb());
            }
        }))
    }

    fn fill_contiguous<I: IntoIterator<Item = Self::Color>>(
        &mut self,
        area: &Rectangle,
        colors: I,
    ) -> Result<(), Self::Error> {
        let inside = self.bounding_box();
        self.colors.clear();
        self.colors.extend(colors.into_iter().take((area.size.width * area.size.height) as usize));
        for (at, color) in area.points().zip(&self.colors).filter(|(at, _)| inside.contains(*at)) {
            self.picture.set(at.x as usize, at.y as usize, color.rgb());
        }
        self.device.target().fill_contiguous(area, self.colors.iter().copied())
    }

    fn fill_solid(&mut self, area: &Rectangle, color: Self::Color) -> Result<(), Self::Error> {
        for at in area.intersection(&self.bounding_box()).points() {
            self.picture.set(at.x as usize, at.y as usize, color.rgb());
        }
        self.device.target().fill_solid(area, color)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::panel::{Mounting, Observed, Panel, Visit};
    use embedded_graphics::primitives::{Circle, PrimitiveStyle};

    /// Draws on a panel and its mirror, and compares.
    struct Look;

    struct Borrowed<'a, D>(&'a mut D);

    impl<D: Device> Device for Borrowed<'_, D> {
        type Target = D::Target;

        fn target(&mut self) -> &mut D::Target {
            self.0.target()
        }

        fn flush(&mut self) -> Result<(), DeviceError> {
            self.0.flush()
        }
    }

    impl Visit for Look {
        type Output = ();

        fn visit<D: Observed>(self, device: &mut D) {
            fn colors<D: DrawTarget<Color: PanelColor>>(_: &D) -> [D::Color; 2] {
                [D::Color::PAPER, D::Color::INK]
            }
            let [paper, ink] = colors(device.target());
            let mut mirrored = Mirrored::new(Borrowed(device));
            mirrored.clear(paper).unwrap();
            Circle::new(Point::new(3, 5), 20)
                .into_styled(PrimitiveStyle::with_stroke(ink, 2))
                .draw(&mut mirrored)
                .unwrap();
            let area = Rectangle::new(Point::new(30, 30), Size::new(4, 3));
            mirrored.fill_contiguous(&area, std::iter::repeat(ink)).unwrap();
            mirrored.flush().unwrap();
            let seen = mirrored.seen().unwrap();
            drop(mirrored);
            let shown = device.picture();
            // an OLED's white is dimmer than paper's
            let lit = |picture: &Picture| picture.rgb().iter().map(|level| *level > 128).collect::<Vec<_>>();
            assert_eq!(lit(&seen), lit(&shown));
        }
    }

    #[test]
    fn a_mirror_shows_what_the_panel_shows() {
        for name in ["st7789-135x240", "ssd1306", "epd2in9", "hub75"] {
            let panel = Panel::named(name).unwrap();
            panel.open(panel.hertz, Mounting::default(), Look).unwrap();
        }
    }
}
