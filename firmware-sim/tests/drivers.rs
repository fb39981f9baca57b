//! Drawings through the real drivers and the virtual panels, compared with the same drawings on a
//! plain frame buffer.

use std::convert::Infallible;

use edgegen_firmware_sim::panel::device::SPI_BUFFER;
use edgegen_firmware_sim::panel::{
    Complaint, DcsDevice, Device, Observed, Panel, Ssd1306Device, Visit, list, st7789,
};
use edgegen_firmware_sim::picture::Picture;
use embedded_graphics::mono_font::{MonoTextStyle, ascii::FONT_6X10};
use embedded_graphics::pixelcolor::{BinaryColor, Rgb565};
use embedded_graphics::prelude::*;
use embedded_graphics::primitives::{Circle, Line, Polyline, PrimitiveStyle, Rectangle};
use embedded_graphics::text::Text;
use mipidsi::models::ST7789;
use mipidsi::options::Rotation;
use ssd1306::prelude::{DisplayRotation, DisplaySize128x32, DisplaySize128x64};
use ssd1306::size::DisplaySize;

/// The plain frame buffer.
struct Plain<C> {
    size: Size,
    pixels: Vec<C>,
}

impl<C: PixelColor> Plain<C> {
    fn new(size: Size, color: C) -> Self {
        Self { size, pixels: vec![color; (size.width * size.height) as usize] }
    }

    fn at(&self, x: usize, y: usize) -> C {
        self.pixels[y * self.size.width as usize + x]
    }
}

impl<C> OriginDimensions for Plain<C> {
    fn size(&self) -> Size {
        self.size
    }
}

impl<C: PixelColor> DrawTarget for Plain<C> {
    type Color = C;
    type Error = Infallible;

    fn draw_iter<I: IntoIterator<Item = Pixel<C>>>(&mut self, pixels: I) -> Result<(), Infallible> {
        let inside = self.bounding_box();
        for Pixel(at, color) in pixels.into_iter().filter(|pixel| inside.contains(pixel.0)) {
            self.pixels[at.y as usize * self.size.width as usize + at.x as usize] = color;
        }
        Ok(())
    }
}

/// Shapes that leave no symmetry, some of them over the edge (where they are clipped: see the test
/// of what `mipidsi` does with pixels outside).
fn draw<D: DrawTarget>(target: &mut D, paper: D::Color, colors: [D::Color; 3])
where
    D::Error: std::fmt::Debug,
{
    let [first, second, third] = colors;
    let panel = target.bounding_box();
    let target = &mut target.clipped(&panel);
    let size = panel.size;
    let (width, height) = (size.width as i32, size.height as i32);
    target.clear(paper).unwrap();
    Circle::new(Point::new(3, 5), 30).into_styled(PrimitiveStyle::with_fill(first)).draw(target).unwrap();
    Line::new(Point::new(-5, 0), Point::new(width + 9, height / 2))
        .into_styled(PrimitiveStyle::with_stroke(second, 3))
        .draw(target)
        .unwrap();
    let path = [Point::new(width / 2, 9), Point::new(width - 2, height + 7), Point::new(20, height - 9)];
    Polyline::new(&path).into_styled(PrimitiveStyle::with_stroke(third, 1)).draw(target).unwrap();
    let corner = Rectangle::new(Point::new(width - 7, height - 11), Size::new(30, 9));
    target.fill_solid(&corner, first).unwrap();
    let style = MonoTextStyle::new(&FONT_6X10, second);
    Text::new("edgegen", Point::new(8, height - 4), style).draw(target).unwrap();
}

/// What a TFT shows, turned back, beside what was drawn.
struct Compare {
    name: &'static str,
    quarters: u8,
    round: bool,
}

impl Visit for Compare {
    type Output = ();

    fn visit<D: Observed>(self, device: &mut D) {
        let color = |[red, green, blue]: [u8; 3]| Rgb565::new(red, green, blue);
        let levels = [[31, 10, 3], [0, 63, 9], [20, 20, 31]];
        let paper = [2, 3, 1];
        let size = device.target().bounding_box().size;
        let mut plain = Plain::new(size, Rgb565::BLACK);
        draw(&mut plain, color(paper), levels.map(color));
        // the same colours in the panel's own type: of 16 bits all have 5, 6 and 5
        let own = |[red, green, blue]: [u8; 3]| edgegen_firmware::PanelColor::from_levels([red, green, blue]);
        draw(device.target(), own(paper), levels.map(own));
        device.flush().unwrap();
        let rgb = |color: Rgb565| {
            let six = [color.r() << 1 | color.r() >> 4, color.g(), color.b() << 1 | color.b() >> 4];
            six.map(|channel| channel << 2 | channel >> 4)
        };
        let found = device.picture().turned(4 - self.quarters);
        assert_eq!(
            (found.width(), found.height()),
            (size.width as usize, size.height as usize),
            "{}",
            self.name
        );
        for y in 0..found.height() {
            for x in 0..found.width() {
                let corner = self.round && {
                    let from_middle = |at: usize| (2 * at + 1).abs_diff(found.width());
                    from_middle(x).pow(2) + from_middle(y).pow(2) > found.width().pow(2)
                };
                let expected = if corner { [0; 3] } else { rgb(plain.at(x, y)) };
                assert_eq!(found.at(x, y), expected, "{} turned by {}, {x} {y}", self.name, self.quarters);
            }
        }
        assert!(device.complaints().is_empty(), "{}: {:?}", self.name, device.complaints());
    }
}

#[test]
fn every_tft_shows_what_was_drawn_in_every_orientation() {
    for panel in list::ALL {
        let Panel::Dcs(module) = panel else { continue };
        for quarters in 0..4 {
            let compare = Compare { name: module.name, quarters, round: module.round };
            panel.open(module.hertz, quarters, compare).unwrap();
        }
    }
}

#[test]
fn the_ssd1306_shows_what_was_drawn_in_every_rotation() {
    on_oled(DisplaySize128x64);
    on_oled(DisplaySize128x32);
}

fn on_oled<S: DisplaySize + Copy>(size: S) {
    let colors = [BinaryColor::On, BinaryColor::Off, BinaryColor::On];
    for (rotation, turns) in [
        (DisplayRotation::Rotate0, 0),
        (DisplayRotation::Rotate90, 1),
        (DisplayRotation::Rotate180, 2),
        (DisplayRotation::Rotate270, 3),
    ] {
        let mut device = Ssd1306Device::open(size, 400_000, rotation).unwrap();
        let mut plain = Plain::new(device.target().bounding_box().size, BinaryColor::Off);
        draw(&mut plain, BinaryColor::Off, colors);
        draw(device.target(), BinaryColor::Off, colors);
        assert!(
            device.picture() != picture_of(&plain, S::HEIGHT.into(), turns),
            "nothing is sent before the flush"
        );
        device.flush().unwrap();
        assert!(device.picture() == picture_of(&plain, S::HEIGHT.into(), turns), "{rotation:?}");
        assert!(device.complaints().is_empty(), "{rotation:?}: {:?}", device.complaints());
    }
}

/// What a glass of 128 columns and so many rows shows when the drawing is turned clockwise by so many quarters.
fn picture_of(plain: &Plain<BinaryColor>, rows: usize, turns: usize) -> Picture {
    // The driver's normal contrast, 0x5F.
    let gray = 200 + 0x5F * 55 / 255;
    Picture::from_fn(128, rows, |x, y| {
        let (width, height) = (plain.size.width as usize, plain.size.height as usize);
        let (x, y) = match turns {
            0 => (x, y),
            1 => (y, height - 1 - x),
            2 => (width - 1 - x, height - 1 - y),
            _ => (width - 1 - y, x),
        };
        if plain.at(x, y).is_on() { [gray as u8; 3] } else { [0; 3] }
    })
}

#[test]
fn pixels_outside_are_noticed() {
    // mipidsi 0.10 clips areas but not single pixels, so a window beyond the RAM reaches the panel.
    let mut buffer = [0; SPI_BUFFER];
    let mut device =
        DcsDevice::open(&st7789::SQUARE, ST7789, (40_000_000, Rotation::Deg0), &mut buffer).unwrap();
    Pixel(Point::new(240, 0), Rgb565::RED).draw(device.target()).unwrap();
    assert_eq!(device.complaints().count(Complaint::BadParameter(0x2A)), 1);
}

#[test]
fn a_full_frame_takes_what_the_buses_allow() {
    let mut buffer = [0; SPI_BUFFER];
    let mut tft =
        DcsDevice::open(&st7789::SQUARE, ST7789, (40_000_000, Rotation::Deg0), &mut buffer).unwrap();
    let before = tft.load();
    tft.target().clear(Rgb565::BLACK).unwrap();
    let load = tft.load().since(before);
    // Pixels, two windows of 5 bytes and the RAM write command.
    assert_eq!(load.bytes, 240 * 240 * 2 + 11);
    assert_eq!(load.cycles, 8 * load.bytes);
    assert_eq!(load.nanoseconds, 23_042_200, "23 ms, 43 frames a second");

    let mut oled = Ssd1306Device::open(DisplaySize128x64, 400_000, DisplayRotation::Rotate0).unwrap();
    let before = oled.load();
    oled.target().clear(BinaryColor::On).unwrap();
    oled.flush().unwrap();
    let load = oled.load().since(before);
    // 64 messages of 16 bytes with a control byte each, and two windows of 3 bytes with theirs.
    assert_eq!(load.bytes, 64 * 17 + 2 * 4);
    assert_eq!(load.cycles, 64 * (2 + 9 * 18) + 2 * (2 + 9 * 5));
    assert_eq!(load.nanoseconds, 26_475_000, "26 ms, 37 frames a second");
}
