//! From a description to its driver, on whatever bus: a board's, or a virtual panel's.

use embedded_graphics::pixelcolor::Gray2;
use embedded_hal::delay::DelayNs;
use embedded_hal::digital::{InputPin, OutputPin};
use embedded_hal::i2c::I2c;
use embedded_hal::spi::SpiDevice;
use mipidsi::models::{GC9A01, ILI9341Rgb565, ST7735s, ST7789};
use ssd1306::prelude::{DisplaySize128x32, DisplaySize128x64};

use super::dcs::{Driver, Module};
use super::device::{Device, DeviceError, Mounting, Oled, SPI_BUFFER, Tft, Wires};
use super::sh1106::Sh1106;
use super::ssd1306::Glass;
use super::ssd1351::Ssd1351;
use super::ssd1680::{BlackWhite, Epaper};

/// What is done with a panel, whose driver's type is known once it is open.
pub trait With {
    /// What comes of it.
    type Output;

    /// Does it.
    fn with<D: Device>(self, device: D) -> Self::Output;
}

/// A TFT or a colour OLED.
///
/// # Errors
/// The driver's.
pub fn tft<W: With>(
    module: &'static Module,
    mounting: Mounting,
    wires: Wires<impl SpiDevice, impl OutputPin>,
    delay: &mut impl DelayNs,
    with: W,
) -> Result<W::Output, DeviceError> {
    let buffer = &mut [0; SPI_BUFFER];
    Ok(match module.driver {
        Driver::St7789 => with.with(Tft::open(module, ST7789, mounting, wires, delay, buffer)?),
        Driver::St7735 => with.with(Tft::open(module, ST7735s, mounting, wires, delay, buffer)?),
        Driver::Ili9341 => with.with(Tft::open(module, ILI9341Rgb565, mounting, wires, delay, buffer)?),
        Driver::Gc9a01 => with.with(Tft::open(module, GC9A01, mounting, wires, delay, buffer)?),
        Driver::Ssd1351 => with.with(Tft::open(module, Ssd1351, mounting, wires, delay, buffer)?),
    })
}

/// An OLED of one colour.
///
/// # Errors
/// The driver's.
pub fn oled<W: With>(
    glass: Glass,
    mounting: Mounting,
    bus: impl I2c,
    with: W,
) -> Result<W::Output, DeviceError> {
    Ok(match glass {
        Glass::High => with.with(Oled::open(DisplaySize128x64, mounting, bus)?),
        Glass::Low => with.with(Oled::open(DisplaySize128x32, mounting, bus)?),
        Glass::Sh1106 => with.with(Sh1106::open(mounting, bus)?),
    })
}

/// An e-paper, whose pin `busy` is high while it refreshes.
///
/// # Errors
/// The driver's.
pub fn paper<W: With>(
    greys: bool,
    mounting: Mounting,
    wires: Wires<impl SpiDevice, impl OutputPin>,
    (busy, delay): (impl InputPin, impl DelayNs),
    with: W,
) -> Result<W::Output, DeviceError> {
    Ok(if greys {
        with.with(Epaper::<Gray2, _, _, _, _>::open(mounting, wires, busy, delay)?)
    } else {
        with.with(Epaper::<BlackWhite, _, _, _, _>::open(mounting, wires, busy, delay)?)
    })
}
