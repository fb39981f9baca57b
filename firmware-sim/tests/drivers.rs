//! Drawings through the real drivers and the virtual panels, compared with the same drawings on a
//! plain frame buffer.

use std::convert::Infallible;

use edgegen_firmware::PanelColor;
use edgegen_firmware_sim::panel::list::{self, Kind};
use edgegen_firmware_sim::panel::{BusLoad, Complaint, Mounting, Observed, Panel, Visit};
use edgegen_firmware_sim::picture::Picture;
use embedded_graphics::mono_font::{MonoTextStyle, ascii::FONT_6X10};
use embedded_graphics::pixelcolor::Gray8;
use embedded_graphics::prelude::*;
use embedded_graphics::primitives::{Circle, Line, Polyline, PrimitiveStyle, Rectangle};
use embedded_graphics::text::Text;

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

/// What a panel shows beside what was drawn.
struct Compare {
    panel: Panel,
    mounting: Mounting,
}

/// Levels of a colour of which only 5, 6 and 5 bits count, so that all panels can have it.
const PAPER: [u8; 3] = [2, 3, 1];
const COLORS: [[u8; 3]; 3] = [[31, 10, 3], [0, 63, 9], [20, 20, 31]];
/// On a panel of few greys.
const GREYS: [u8; 4] = [0, 3, 1, 2];

impl Compare {
    /// What a viewer sees of the colour with these levels of 16 bits, or of these greys.
    fn seen(&self, levels: [u8; 3]) -> [u8; 3] {
        let Mounting { bgr, inverted, .. } = self.mounting;
        let level = usize::from(levels[0]);
        match self.panel.kind {
            Kind::Tft(_) => {
                let six = |five: u8| five << 1 | five >> 4;
                let color = [levels[0], levels[1], levels[2]];
                // the driver exchanges red and blue of what it sends, which the panel then shows
                let [red, green, blue] = color;
                let mut color = [six(red), green, six(blue)];
                if bgr {
                    color.reverse();
                }
                if inverted {
                    color = color.map(|six| 63 - six);
                }
                color.map(|six| six << 2 | six >> 4)
            }
            // the driver's normal contrast, 0x5F
            Kind::Oled(_) => [if (level > 0) != inverted { 200 + 0x5F * 55 / 255 } else { 0 } as u8; 3],
            Kind::Paper { greys: false } => [if (level > 0) != inverted { 255 } else { 0 }; 3],
            Kind::Paper { greys: true } => [[0, 76, 204, 255][if inverted { 3 - level } else { level }]; 3],
            Kind::Matrix => {
                let mut color = levels;
                if bgr {
                    color.reverse();
                }
                color.map(|value| if inverted { 255 - value } else { value })
            }
        }
    }
}

impl Visit for Compare {
    type Output = ();

    fn visit<D: Observed>(self, device: &mut D) {
        fn levels_of<C: PanelColor>(levels: [u8; 3], grey: u8) -> [u8; 3] {
            if C::CHANNELS == 3 { levels } else { [grey.min(C::HIGHEST[0]); 3] }
        }
        fn levels<D: DrawTarget<Color: PanelColor>>(_: &D, at: usize) -> [u8; 3] {
            let levels = if at == 0 { PAPER } else { COLORS[at - 1] };
            levels_of::<D::Color>(levels, GREYS[at])
        }
        fn own<D: DrawTarget<Color: PanelColor>>(_: &D, levels: [u8; 3]) -> D::Color {
            D::Color::from_levels(levels)
        }
        let Mounting { quarters, mirrored, .. } = self.mounting;
        let size = device.target().bounding_box().size;
        // which of the colours, by its number
        let mut plain = Plain::new(size, Gray8::new(0));
        draw(&mut plain, Gray8::new(0), [1, 2, 3].map(Gray8::new));
        let all: [[u8; 3]; 4] = std::array::from_fn(|at| levels(device.target(), at));
        let colors: [_; 4] = std::array::from_fn(|at| own(device.target(), all[at]));
        draw(device.target(), colors[0], [colors[1], colors[2], colors[3]]);
        device.flush().unwrap();
        let shown = device.picture();
        let mirror = |picture: &Picture| {
            let width = picture.width();
            Picture::from_fn(width, picture.height(), |x, y| picture.at(width - 1 - x, y))
        };
        let found = if mirrored { mirror(&shown) } else { shown }.turned(4 - quarters);
        let name = (self.panel.name, self.mounting);
        assert_eq!((found.width(), found.height()), (size.width as usize, size.height as usize), "{name:?}");
        let exact = !matches!(self.panel.kind, Kind::Matrix);
        for y in 0..found.height() {
            for x in 0..found.width() {
                let corner = self.panel.is_round() && {
                    let from_middle = |at: usize| (2 * at + 1).abs_diff(found.width());
                    from_middle(x).pow(2) + from_middle(y).pow(2) > found.width().pow(2)
                };
                let color = all[usize::from(plain.at(x, y).luma())];
                let expected = if corner { [0; 3] } else { self.seen(color) };
                // LEDs have fewer levels in the dark
                let most = if exact { 0 } else { 5 };
                let near = found.at(x, y).iter().zip(expected).all(|(a, b)| a.abs_diff(b) <= most);
                assert!(near, "{name:?}, {x} {y}: {:?} instead of {expected:?}", found.at(x, y));
            }
        }
        assert!(device.complaints().is_empty(), "{name:?}: {:?}", device.complaints());
    }
}

#[test]
fn every_panel_shows_what_was_drawn_in_every_orientation() {
    for panel in list::ALL {
        for (quarters, mirrored) in (0..4).flat_map(|quarters| [(quarters, false), (quarters, true)]) {
            let mounting = Mounting { quarters, mirrored, ..Mounting::default() };
            panel.open(panel.hertz, mounting, Compare { panel, mounting }).unwrap();
        }
    }
}

#[test]
fn colours_are_exchanged_as_settings_say() {
    for panel in list::ALL {
        for (bgr, inverted) in [(true, false), (false, true), (true, true)] {
            let mounting = Mounting { bgr, inverted, ..Mounting::default() };
            panel.open(panel.hertz, mounting, Compare { panel, mounting }).unwrap();
        }
    }
}

/// Draws with nothing but pixels on a panel that was white.
struct Unflushed;

impl Visit for Unflushed {
    type Output = bool;

    fn visit<D: Observed>(self, device: &mut D) -> bool {
        fn ink<D: DrawTarget<Color: PanelColor>>(_: &D) -> D::Color {
            D::Color::INK
        }
        device.flush().unwrap();
        let before = device.picture();
        let color = ink(device.target());
        device.target().clear(color).unwrap();
        device.picture() == before
    }
}

#[test]
fn panels_with_a_buffer_wait_for_the_flush() {
    for panel in list::ALL {
        let waits = panel.open(panel.hertz, Mounting::default(), Unflushed).unwrap();
        assert_eq!(waits, !matches!(panel.kind, Kind::Tft(_)), "{}", panel.name);
    }
}

/// Does something with a device.
struct Do<F>(F);

trait Action {
    fn act<D: Observed>(self, device: &mut D);
}

impl<A: Action> Visit for Do<A> {
    type Output = ();

    fn visit<D: Observed>(self, device: &mut D) {
        self.0.act(device);
    }
}

fn on(name: &str, action: impl Action) {
    let panel = Panel::named(name).unwrap();
    panel.open(panel.hertz, Mounting::default(), Do(action)).unwrap();
}

struct Outside;

impl Action for Outside {
    fn act<D: Observed>(self, device: &mut D) {
        fn paper<D: DrawTarget<Color: PanelColor>>(_: &D) -> D::Color {
            D::Color::PAPER
        }
        let color = paper(device.target());
        Pixel(Point::new(240, 0), color).draw(device.target()).unwrap();
        assert_eq!(device.complaints().count(Complaint::BadParameter(0x2A)), 1);
    }
}

#[test]
fn pixels_outside_are_noticed() {
    // mipidsi 0.10 clips areas but not single pixels, so a window beyond the RAM reaches the panel.
    on("st7789", Outside);
}

/// What clearing takes.
struct Cleared(BusLoad);

impl Action for Cleared {
    fn act<D: Observed>(self, device: &mut D) {
        fn ink<D: DrawTarget<Color: PanelColor>>(_: &D) -> D::Color {
            D::Color::INK
        }
        device.flush().unwrap();
        let before = device.load();
        let color = ink(device.target());
        device.target().clear(color).unwrap();
        device.flush().unwrap();
        assert_eq!(device.load().since(before), self.0);
    }
}

#[test]
fn a_full_frame_takes_what_the_buses_allow() {
    // pixels, two windows of 5 bytes and the RAM write command: 23 ms, 43 frames a second
    let bytes = 240 * 240 * 2 + 11;
    on("st7789", Cleared(BusLoad { bytes, cycles: 8 * bytes, nanoseconds: 23_042_200, refresh: 0 }));
    // 64 messages of 16 bytes with a control byte each, and two windows of 3 bytes with theirs: 26 ms, 37 frames a second
    let (bytes, cycles) = (64 * 17 + 2 * 4, 64 * (2 + 9 * 18) + 2 * (2 + 9 * 5));
    on("ssd1306", Cleared(BusLoad { bytes, cycles, nanoseconds: 26_475_000, refresh: 0 }));
    // 8 pages: 4 bytes to address, 129 with the control byte
    let (bytes, cycles) = (8 * 133, 8 * (2 + 9 * 5 + 2 + 9 * 130));
    on("sh1106", Cleared(BusLoad { bytes, cycles, nanoseconds: 24_380_000, refresh: 0 }));
}

/// Two pictures on e-paper, the second of which differs in a corner.
struct Corner;

impl Action for Corner {
    fn act<D: Observed>(self, device: &mut D) {
        fn ink<D: DrawTarget<Color: PanelColor>>(_: &D) -> D::Color {
            D::Color::INK
        }
        device.flush().unwrap();
        let full = device.load().refresh;
        let color = ink(device.target());
        let corner = Rectangle::new(Point::new(0, 280), Size::new(8, 8));
        device.target().fill_solid(&corner, color).unwrap();
        let before = device.load();
        device.flush().unwrap();
        let part = device.load().since(before);
        assert_eq!((full, part.refresh), (1_940_000_000, 620_000_000));
        // all rows of the one RAM, eight of the other, and the waveform
        assert!((4_736 + 128 + 153..4_736 + 128 + 153 + 60).contains(&part.bytes), "{part:?}");
        device.flush().unwrap();
        assert_eq!(device.load().since(before), part, "nothing to be shown");
        let shown = device.picture();
        assert_eq!((shown.at(0, 280), shown.at(8, 280)), ([0; 3], [255; 3]));
    }
}

#[test]
fn paper_is_refreshed_in_part_where_little_differs() {
    on("epd2in9", Corner);
}
