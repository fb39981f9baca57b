//! A real driver wired to a virtual panel.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;

use edgegen_firmware::PanelColor;
use embedded_graphics::draw_target::DrawTarget;
use embedded_hal_bus::spi::ExclusiveDevice;
use mipidsi::interface::SpiInterface;
use mipidsi::models::ST7789;
use mipidsi::options::{ColorInversion, Orientation};
use ssd1306::mode::{BufferedGraphicsMode, DisplayConfig};
use ssd1306::prelude::{DisplayRotation, DisplaySize128x64, I2CInterface};
use ssd1306::{I2CDisplayInterface, Ssd1306};

use super::Complaints;
use super::bus::{BusLoad, Clock, VirtualDelay};
use super::ssd1306::{Ssd1306Bus, Ssd1306Panel};
use super::st7789::{Input, SIDE, St7789Bus, St7789Panel, St7789Pin};
use crate::picture::Picture;

/// A driver that refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceError {
    driver: &'static str,
    reason: String,
}

impl fmt::Display for DeviceError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "the {} driver failed: {}", self.driver, self.reason)
    }
}

impl std::error::Error for DeviceError {}

/// A panel that can be drawn on through its driver and looked at.
pub trait Device {
    /// The driver.
    type Target: DrawTarget<Color: PanelColor, Error: fmt::Debug>;

    /// Where to draw.
    fn target(&mut self) -> &mut Self::Target;

    /// Sends what the driver has kept back.
    fn flush(&mut self) -> Result<(), DeviceError>;

    /// What a viewer sees now.
    fn picture(&self) -> Picture;

    /// What went over the bus so far.
    fn load(&self) -> BusLoad;

    /// What the panel did not like so far.
    fn complaints(&self) -> Complaints;
}

/// Bytes that the ST7789's driver gathers before it sends them.
pub const SPI_BUFFER: usize = 512;

type Spi = ExclusiveDevice<St7789Bus, St7789Pin, VirtualDelay>;

/// `mipidsi` in front of a [`St7789Panel`].
pub struct St7789Device<'buffer> {
    driver: mipidsi::Display<SpiInterface<'buffer, Spi, St7789Pin>, ST7789, St7789Pin>,
    panel: Rc<RefCell<St7789Panel>>,
}

impl<'buffer> St7789Device<'buffer> {
    /// Resets and initialises the panel over a bus of `hertz`.
    pub fn open(
        hertz: u32,
        orientation: Orientation,
        buffer: &'buffer mut [u8; SPI_BUFFER],
    ) -> Result<Self, DeviceError> {
        let failed =
            |reason: &dyn fmt::Debug| DeviceError { driver: "ST7789", reason: format!("{reason:?}") };
        let clock = Clock::default();
        let panel = Rc::new(RefCell::new(St7789Panel::new(clock.clone(), hertz)));
        let pin = |input| St7789Pin { panel: Rc::clone(&panel), input };
        let mut delay = VirtualDelay(clock);
        let spi = ExclusiveDevice::new(St7789Bus(Rc::clone(&panel)), pin(Input::ChipSelect), delay.clone())
            .map_err(|error| failed(&error))?;
        let driver = mipidsi::Builder::new(ST7789, SpiInterface::new(spi, pin(Input::DataCommand), buffer))
            .reset_pin(pin(Input::Reset))
            .display_size(SIDE as u16, SIDE as u16)
            .orientation(orientation)
            .invert_colors(ColorInversion::Inverted)
            .init(&mut delay)
            .map_err(|error| failed(&error))?;
        Ok(Self { driver, panel })
    }
}

impl<'buffer> Device for St7789Device<'buffer> {
    type Target = mipidsi::Display<SpiInterface<'buffer, Spi, St7789Pin>, ST7789, St7789Pin>;

    fn target(&mut self) -> &mut Self::Target {
        &mut self.driver
    }

    fn flush(&mut self) -> Result<(), DeviceError> {
        Ok(())
    }

    fn picture(&self) -> Picture {
        self.panel.borrow().picture()
    }

    fn load(&self) -> BusLoad {
        self.panel.borrow().load()
    }

    fn complaints(&self) -> Complaints {
        self.panel.borrow().complaints().clone()
    }
}

type Oled = Ssd1306<I2CInterface<Ssd1306Bus>, DisplaySize128x64, BufferedGraphicsMode<DisplaySize128x64>>;

/// `ssd1306` in front of a [`Ssd1306Panel`].
pub struct Ssd1306Device {
    driver: Oled,
    panel: Rc<RefCell<Ssd1306Panel>>,
}

impl Ssd1306Device {
    /// Initialises the panel over a bus of `hertz`.
    pub fn open(hertz: u32, rotation: DisplayRotation) -> Result<Self, DeviceError> {
        let panel = Rc::new(RefCell::new(Ssd1306Panel::new(Clock::default(), hertz)));
        let interface = I2CDisplayInterface::new(Ssd1306Bus(Rc::clone(&panel)));
        let mut driver = Ssd1306::new(interface, DisplaySize128x64, rotation).into_buffered_graphics_mode();
        driver.init().map_err(oled_failed)?;
        Ok(Self { driver, panel })
    }
}

fn oled_failed(reason: impl fmt::Debug) -> DeviceError {
    DeviceError { driver: "SSD1306", reason: format!("{reason:?}") }
}

impl Device for Ssd1306Device {
    type Target = Oled;

    fn target(&mut self) -> &mut Oled {
        &mut self.driver
    }

    fn flush(&mut self) -> Result<(), DeviceError> {
        self.driver.flush().map_err(oled_failed)
    }

    fn picture(&self) -> Picture {
        self.panel.borrow().picture()
    }

    fn load(&self) -> BusLoad {
        self.panel.borrow().load()
    }

    fn complaints(&self) -> Complaints {
        self.panel.borrow().complaints().clone()
    }
}
