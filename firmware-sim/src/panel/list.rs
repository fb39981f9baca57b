//! Every panel, by its name. A new one of a known kind is a file beside this one and a line here.

use edgegen_firmware::{Dither, Scaling};
use mipidsi::models::{GC9A01, ILI9341Rgb565, ST7735s, ST7789};
use mipidsi::options::Rotation;
use ssd1306::prelude::{DisplayRotation, DisplaySize128x32, DisplaySize128x64};

use super::dcs::{Driver, Module};
use super::device::{DcsDevice, DeviceError, Observed, SPI_BUFFER, Ssd1306Device};
use super::{gc9a01, ili9341, st7735, st7789};
use crate::show::Look;

/// A panel that can be asked for.
#[derive(Clone, Copy, Debug)]
pub enum Panel {
    /// A TFT behind SPI.
    Dcs(&'static Module),
    /// The OLED of 128x64 behind I2C.
    Ssd1306,
    /// That of 128x32.
    Ssd1306Low,
}

/// In the order in which a list shows them.
pub const ALL: [Panel; 9] = [
    Panel::Dcs(&st7789::SQUARE),
    Panel::Dcs(&st7789::FULL),
    Panel::Dcs(&st7789::NARROW),
    Panel::Dcs(&st7789::LONG),
    Panel::Dcs(&ili9341::MODULE),
    Panel::Dcs(&st7735::MODULE),
    Panel::Dcs(&gc9a01::MODULE),
    Panel::Ssd1306,
    Panel::Ssd1306Low,
];

/// What is done with a virtual panel, whose driver's type is known once it is open.
pub trait Visit {
    /// What comes of it.
    type Output;

    /// Does it.
    fn visit<D: Observed>(self, device: &mut D) -> Self::Output;
}

impl Panel {
    /// The panel that is called so.
    ///
    /// # Errors
    /// A line with the names that there are.
    pub fn named(name: &str) -> Result<Self, String> {
        let found = ALL.into_iter().find(|panel| panel.name() == name);
        found.ok_or_else(|| format!("there is no such panel; there are {}", Self::names()))
    }

    /// All names, for a list.
    pub fn names() -> String {
        ALL.map(Self::name).join(", ")
    }

    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::Dcs(module) => module.name,
            Self::Ssd1306 => "ssd1306",
            Self::Ssd1306Low => "ssd1306-128x32",
        }
    }

    /// What it is, with its bus's clock in hertz.
    pub fn about(self, hertz: u32) -> String {
        match self {
            Self::Dcs(module) => format!("{}, SPI at {} MHz", module.about, f64::from(hertz) / 1e6),
            Self::Ssd1306 | Self::Ssd1306Low => {
                let height = if matches!(self, Self::Ssd1306) { 64 } else { 32 };
                format!("SSD1306, 128x{height}, one colour, I2C at {} kHz", f64::from(hertz) / 1e3)
            }
        }
    }

    /// The clock that its bus has if nothing else is said, hertz.
    pub fn hertz(self) -> u32 {
        match self {
            Self::Dcs(module) => module.hertz,
            Self::Ssd1306 | Self::Ssd1306Low => 400_000,
        }
    }

    /// How the module looks.
    pub fn look(self) -> Look {
        match self {
            Self::Dcs(_) => Look::TFT,
            Self::Ssd1306 | Self::Ssd1306Low => Look::OLED,
        }
    }

    /// Whether it has one colour.
    pub fn is_monochrome(self) -> bool {
        matches!(self, Self::Ssd1306 | Self::Ssd1306Low)
    }

    /// How values between its levels are shown if nothing else is said.
    pub fn dither(self) -> Dither {
        if self.is_monochrome() { Dither::Atkinson } else { Dither::Bayer }
    }

    /// How pictures grow if nothing else is said: blocks that share an edge would be dithered in one colour.
    pub fn scaling(self) -> Scaling {
        if self.is_monochrome() { Scaling::Pixels } else { Scaling::Fill }
    }

    /// Opens a virtual one with a bus of `hertz`, what is drawn turned clockwise by so many quarters, for `visit`.
    ///
    /// # Errors
    /// The driver's.
    pub fn open<V: Visit>(self, hertz: u32, quarters: u8, visit: V) -> Result<V::Output, DeviceError> {
        let mut buffer = [0; SPI_BUFFER];
        let to = (hertz, rotation(quarters));
        let turned = display_rotation(quarters);
        Ok(match self {
            Self::Dcs(module) => match module.driver {
                Driver::St7789 => visit.visit(&mut DcsDevice::open(module, ST7789, to, &mut buffer)?),
                Driver::St7735 => visit.visit(&mut DcsDevice::open(module, ST7735s, to, &mut buffer)?),
                Driver::Ili9341 => visit.visit(&mut DcsDevice::open(module, ILI9341Rgb565, to, &mut buffer)?),
                Driver::Gc9a01 => visit.visit(&mut DcsDevice::open(module, GC9A01, to, &mut buffer)?),
            },
            Self::Ssd1306 => visit.visit(&mut Ssd1306Device::open(DisplaySize128x64, hertz, turned)?),
            Self::Ssd1306Low => visit.visit(&mut Ssd1306Device::open(DisplaySize128x32, hertz, turned)?),
        })
    }
}

/// So many quarters clockwise, as `mipidsi` has them.
pub fn rotation(quarters: u8) -> Rotation {
    match quarters % 4 {
        0 => Rotation::Deg0,
        1 => Rotation::Deg90,
        2 => Rotation::Deg180,
        _ => Rotation::Deg270,
    }
}

/// The same, as `ssd1306` has them.
pub fn display_rotation(quarters: u8) -> DisplayRotation {
    match quarters % 4 {
        0 => DisplayRotation::Rotate0,
        1 => DisplayRotation::Rotate90,
        2 => DisplayRotation::Rotate180,
        _ => DisplayRotation::Rotate270,
    }
}
