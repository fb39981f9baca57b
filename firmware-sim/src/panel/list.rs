//! Every panel, by its name. A new one of a known kind is a line here and, for a TFT, a file beside this one.

use edgegen_firmware::{Dither, Scaling};
use embedded_graphics::geometry::Size;

use super::dcs::Module;
use super::device::{DeviceError, Mounting};
use super::fault::Faults;
use super::rig::{Rig, Visit};
use super::ssd1306::{self, Glass};
use super::{gc9a01, hub75, ili9341, ssd1351, ssd1680, st7735, st7789};
use crate::show::Look;

/// A panel that can be asked for.
#[derive(Clone, Copy, Debug)]
pub struct Panel {
    /// What it is called.
    pub name: &'static str,
    /// What it is, for a list.
    about: &'static str,
    /// What it is driven by.
    pub kind: Kind,
    /// The clock that its bus has if nothing else is said, hertz.
    pub hertz: u32,
}

/// What a panel is driven by.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// A TFT or a colour OLED behind SPI.
    Tft(&'static Module),
    /// An OLED of one colour behind I2C.
    Oled(Glass),
    /// E-paper behind SPI.
    Paper {
        /// Four greys, each picture a full refresh; else black and white with partial ones.
        greys: bool,
    },
    /// LEDs behind HUB75.
    Matrix,
}

const fn tft(module: &'static Module) -> Panel {
    Panel { name: module.name, about: module.about, kind: Kind::Tft(module), hertz: module.hertz }
}

const fn oled(name: &'static str, about: &'static str, glass: Glass) -> Panel {
    Panel { name, about, kind: Kind::Oled(glass), hertz: 400_000 }
}

const fn paper(name: &'static str, about: &'static str, greys: bool) -> Panel {
    Panel { name, about, kind: Kind::Paper { greys }, hertz: 10_000_000 }
}

/// In the order in which a list shows them.
pub const ALL: [Panel; 14] = [
    tft(&st7789::SQUARE),
    tft(&st7789::FULL),
    tft(&st7789::NARROW),
    tft(&st7789::LONG),
    tft(&ili9341::MODULE),
    tft(&st7735::MODULE),
    tft(&gc9a01::MODULE),
    tft(&ssd1351::MODULE),
    oled("ssd1306", "SSD1306, 128x64, one colour", Glass::High),
    oled("ssd1306-128x32", "SSD1306, 128x32, one colour", Glass::Low),
    oled("sh1106", "SH1106, 128x64, one colour", Glass::Sh1106),
    paper("epd2in9", "SSD1680, 128x296, black and white paper", false),
    paper("epd2in9-grey", "SSD1680, 128x296, paper of four greys", true),
    Panel { name: "hub75", about: "HUB75, 64x64 LEDs", kind: Kind::Matrix, hertz: 20_000_000 },
];

impl Panel {
    /// The panel that is called so.
    ///
    /// # Errors
    /// A line with the names that there are.
    pub fn named(name: &str) -> Result<Self, String> {
        let found = ALL.into_iter().find(|panel| panel.name == name);
        found.ok_or_else(|| format!("there is no such panel; there are {}", Self::names()))
    }

    /// All names, for a list.
    pub fn names() -> String {
        ALL.map(|panel| panel.name).join(", ")
    }

    /// What it is, with its bus's clock in hertz.
    pub fn about(self, hertz: u32) -> String {
        let bus = match self.kind {
            Kind::Oled(_) => return format!("{}, I2C at {} kHz", self.about, f64::from(hertz) / 1e3),
            Kind::Tft(_) | Kind::Paper { .. } => "SPI",
            Kind::Matrix => "clocked",
        };
        format!("{}, {bus} at {} MHz", self.about, f64::from(hertz) / 1e6)
    }

    /// Size of what is drawn on it, turned by so many quarters.
    pub fn size(self, quarters: u8) -> Size {
        let (width, height) = match self.kind {
            Kind::Tft(module) => module.size,
            Kind::Oled(glass) => (ssd1306::WIDTH as u16, glass.height() as u16),
            Kind::Paper { .. } => (ssd1680::WIDTH as u16, ssd1680::HEIGHT as u16),
            Kind::Matrix => (hub75::SIDE as u16, hub75::SIDE as u16),
        };
        Mounting::turned(quarters).drawn(Size::new(width.into(), height.into()))
    }

    /// How the module looks.
    pub fn look(self) -> Look {
        match self.kind {
            Kind::Tft(_) => Look::TFT,
            Kind::Oled(_) => Look::OLED,
            Kind::Paper { .. } => Look::PAPER,
            Kind::Matrix => Look::MATRIX,
        }
    }

    /// Whether it has one colour.
    pub fn is_monochrome(self) -> bool {
        matches!(self.kind, Kind::Oled(_) | Kind::Paper { .. })
    }

    /// Whether its glass is a circle.
    pub fn is_round(self) -> bool {
        matches!(self.kind, Kind::Tft(module) if module.round)
    }

    /// How values between its levels are shown if nothing else is said.
    pub fn dither(self) -> Dither {
        if self.is_monochrome() { Dither::Atkinson } else { Dither::Bayer }
    }

    /// How pictures grow if nothing else is said: blocks that share an edge would be dithered in one colour.
    pub fn scaling(self) -> Scaling {
        if self.is_monochrome() { Scaling::Pixels } else { Scaling::Fill }
    }

    /// Opens a virtual one with a bus of `hertz` for `visit`.
    ///
    /// # Errors
    /// The driver's.
    pub fn open<V: Visit>(self, hertz: u32, mounting: Mounting, visit: V) -> Result<V::Output, DeviceError> {
        Rig::new(self, hertz, Faults::default()).open(mounting, visit)
    }
}
