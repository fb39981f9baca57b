//! Real drivers, on any bus.

use std::fmt;

use edgegen_firmware::PanelColor;
use embedded_graphics::draw_target::DrawTarget;
use embedded_graphics::geometry::{Point, Size};
use embedded_graphics::pixelcolor::Rgb565;
use embedded_hal::delay::DelayNs;
use embedded_hal::digital::OutputPin;
use embedded_hal::i2c::I2c;
use embedded_hal::spi::SpiDevice;
use mipidsi::interface::{Interface, InterfaceKind, SpiInterface};
use mipidsi::models::Model;
use mipidsi::options::{ColorInversion, ColorOrder, Orientation, Rotation};
use ssd1306::mode::{BufferedGraphicsMode, DisplayConfig};
use ssd1306::prelude::{DisplayRotation, I2CInterface};
use ssd1306::size::DisplaySize;
use ssd1306::{I2CDisplayInterface, Ssd1306};

use super::Complaints;
use super::bus::BusLoad;
use super::dcs::{self, Module};
use crate::picture::Picture;

/// A driver that refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceError {
    driver: &'static str,
    reason: String,
}

impl DeviceError {
    /// That of `driver`, for this reason.
    pub fn new(driver: &'static str, reason: impl Into<String>) -> Self {
        Self { driver, reason: reason.into() }
    }
}

impl fmt::Display for DeviceError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "the {} driver failed: {}", self.driver, self.reason)
    }
}

impl std::error::Error for DeviceError {}

/// How a panel is built in, beside what its description says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mounting {
    /// Quarters that what is drawn is turned clockwise.
    pub quarters: u8,
    /// Whether what is drawn is mirrored along the panel's rows, for a panel that is seen in a mirror.
    pub mirrored: bool,
    /// Whether red and blue are exchanged.
    pub bgr: bool,
    /// Whether light and dark are exchanged.
    pub inverted: bool,
}

impl Mounting {
    /// Turned clockwise by so many quarters.
    pub fn turned(quarters: u8) -> Self {
        Self { quarters, ..Self::default() }
    }

    /// Size of what is drawn on a panel of this size.
    pub fn drawn(self, panel: Size) -> Size {
        if self.quarters % 2 == 1 { Size::new(panel.height, panel.width) } else { panel }
    }

    /// Column and row on a panel of this size of a pixel that is drawn, which must be inside.
    pub fn place(self, panel: Size, at: Point) -> (usize, usize) {
        let (width, height) = (panel.width as usize, panel.height as usize);
        let (x, y) = (at.x as usize, at.y as usize);
        let (x, y) = match self.quarters % 4 {
            0 => (x, y),
            1 => (width - 1 - y, x),
            2 => (width - 1 - x, height - 1 - y),
            _ => (y, height - 1 - x),
        };
        (if self.mirrored { width - 1 - x } else { x }, y)
    }

    fn rotation(self) -> Rotation {
        match self.quarters % 4 {
            0 => Rotation::Deg0,
            1 => Rotation::Deg90,
            2 => Rotation::Deg180,
            _ => Rotation::Deg270,
        }
    }

    fn display_rotation(self) -> DisplayRotation {
        match self.quarters % 4 {
            0 => DisplayRotation::Rotate0,
            1 => DisplayRotation::Rotate90,
            2 => DisplayRotation::Rotate180,
            _ => DisplayRotation::Rotate270,
        }
    }
}

/// A panel that can be drawn on through its driver.
pub trait Device {
    /// The driver.
    type Target: DrawTarget<Color: PanelColor, Error: fmt::Debug>;

    /// Where to draw.
    fn target(&mut self) -> &mut Self::Target;

    /// Sends what the driver has kept back.
    ///
    /// # Errors
    /// The driver's.
    fn flush(&mut self) -> Result<(), DeviceError>;

    /// Whether a flush takes so long that a gallery is sent as a whole.
    fn is_slow(&self) -> bool {
        false
    }

    /// What a viewer sees now, if that can be told.
    fn seen(&self) -> Option<Picture> {
        None
    }
}

/// A panel that can be looked at: a virtual one.
pub trait Observed: Device {
    /// What a viewer sees now.
    fn picture(&self) -> Picture;

    /// What went over the bus so far.
    fn load(&self) -> BusLoad;

    /// What the panel did not like so far.
    fn complaints(&self) -> Complaints;
}

/// Bytes that a TFT's driver gathers before it sends them.
pub const SPI_BUFFER: usize = 512;

/// The wires of a panel on SPI.
#[derive(Debug)]
pub struct Wires<S, P> {
    /// The bus, with the chip select.
    pub spi: S,
    /// D/C: low for commands.
    pub data: P,
    /// Low resets.
    pub reset: P,
}

/// A bus whose panel has a code of its own for writing pixels: `mipidsi` 0.10 sends that of the MIPI command set past the model when it
/// fills an area with one colour.
#[derive(Debug)]
pub struct Translated<I> {
    bus: I,
    write: u8,
}

impl<I: Interface> Interface for Translated<I> {
    type Word = I::Word;
    type Error = I::Error;

    const KIND: InterfaceKind = I::KIND;

    fn send_command(&mut self, command: u8, arguments: &[u8]) -> Result<(), I::Error> {
        let command = if command == dcs::RAMWR { self.write } else { command };
        self.bus.send_command(command, arguments)
    }

    fn send_pixels<const N: usize>(
        &mut self,
        pixels: impl IntoIterator<Item = [I::Word; N]>,
    ) -> Result<(), I::Error> {
        self.bus.send_pixels(pixels)
    }

    fn send_repeated_pixel<const N: usize>(
        &mut self,
        pixel: [I::Word; N],
        count: u32,
    ) -> Result<(), I::Error> {
        self.bus.send_repeated_pixel(pixel, count)
    }
}

/// `mipidsi` on any bus.
pub struct Tft<'buffer, M: Model<ColorFormat = Rgb565>, S: SpiDevice, P: OutputPin> {
    driver: mipidsi::Display<Translated<SpiInterface<'buffer, S, P>>, M, P>,
}

impl<'buffer, M: Model<ColorFormat = Rgb565>, S: SpiDevice, P: OutputPin> Tft<'buffer, M, S, P> {
    /// Resets and initialises the panel, by the driver for its controller.
    ///
    /// # Errors
    /// The driver's.
    pub fn open(
        module: &'static Module,
        driver: M,
        mounting: Mounting,
        wires: Wires<S, P>,
        delay: &mut impl DelayNs,
        buffer: &'buffer mut [u8; SPI_BUFFER],
    ) -> Result<Self, DeviceError> {
        let upright = Orientation::new();
        let mirrored = module.mirrored != mounting.mirrored;
        let mounted = if mirrored { upright.flip_horizontal() } else { upright };
        let inverted = module.inverts != mounting.inverted;
        let bus = SpiInterface::new(wires.spi, wires.data, buffer);
        let bus = Translated { bus, write: module.controller.write };
        let driver = mipidsi::Builder::new(driver, bus)
            .reset_pin(wires.reset)
            .display_size(module.size.0, module.size.1)
            .display_offset(module.offset.0, module.offset.1)
            .orientation(mounted.rotate(mounting.rotation()))
            .color_order(if module.bgr != mounting.bgr { ColorOrder::Bgr } else { ColorOrder::Rgb })
            .invert_colors(if inverted { ColorInversion::Inverted } else { ColorInversion::Normal })
            .init(delay)
            .map_err(|error| DeviceError::new(module.name, format!("{error:?}")))?;
        Ok(Self { driver })
    }
}

impl<'buffer, M: Model<ColorFormat = Rgb565>, S: SpiDevice, P: OutputPin> Device for Tft<'buffer, M, S, P> {
    type Target = mipidsi::Display<Translated<SpiInterface<'buffer, S, P>>, M, P>;

    fn target(&mut self) -> &mut Self::Target {
        &mut self.driver
    }

    fn flush(&mut self) -> Result<(), DeviceError> {
        Ok(())
    }
}

/// `ssd1306` on any bus.
pub struct Oled<I: I2c, S: DisplaySize> {
    driver: Ssd1306<I2CInterface<I>, S, BufferedGraphicsMode<S>>,
}

impl<I: I2c, S: DisplaySize> Oled<I, S> {
    /// Initialises the panel of this size.
    ///
    /// # Errors
    /// The driver's.
    pub fn open(size: S, mounting: Mounting, bus: I) -> Result<Self, DeviceError> {
        let interface = I2CDisplayInterface::new(bus);
        // the driver mirrors what is drawn and turns it then; a mirrored panel shows that half a turn further on its side
        let quarters =
            mounting.quarters + if mounting.mirrored && mounting.quarters % 2 == 1 { 2 } else { 0 };
        let rotation = Mounting::turned(quarters).display_rotation();
        let mut driver = Ssd1306::new(interface, size, rotation).into_buffered_graphics_mode();
        driver.init().map_err(oled_failed)?;
        driver.set_mirror(mounting.mirrored).map_err(oled_failed)?;
        driver.set_invert(mounting.inverted).map_err(oled_failed)?;
        Ok(Self { driver })
    }
}

fn oled_failed(reason: impl fmt::Debug) -> DeviceError {
    DeviceError::new("SSD1306", format!("{reason:?}"))
}

impl<I: I2c, S: DisplaySize> Device for Oled<I, S> {
    type Target = Ssd1306<I2CInterface<I>, S, BufferedGraphicsMode<S>>;

    fn target(&mut self) -> &mut Self::Target {
        &mut self.driver
    }

    fn flush(&mut self) -> Result<(), DeviceError> {
        self.driver.flush().map_err(oled_failed)
    }
}
