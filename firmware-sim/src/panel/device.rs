//! A real driver wired to a virtual panel.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;

use edgegen_firmware::PanelColor;
use embedded_graphics::draw_target::DrawTarget;
use embedded_graphics::pixelcolor::Rgb565;
use embedded_hal_bus::spi::ExclusiveDevice;
use mipidsi::interface::SpiInterface;
use mipidsi::models::Model;
use mipidsi::options::{ColorInversion, ColorOrder, Orientation, Rotation};
use ssd1306::mode::{BufferedGraphicsMode, DisplayConfig};
use ssd1306::prelude::{DisplayRotation, I2CInterface};
use ssd1306::size::DisplaySize;
use ssd1306::{I2CDisplayInterface, Ssd1306};

use super::Complaints;
use super::bus::{BusLoad, Clock, VirtualDelay};
use super::dcs::{DcsBus, DcsPanel, DcsPin, Input, Module};
use super::ssd1306::{Ssd1306Bus, Ssd1306Panel};
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

/// Bytes that a TFT's driver gathers before it sends them.
pub const SPI_BUFFER: usize = 512;

type Spi = ExclusiveDevice<DcsBus, DcsPin, VirtualDelay>;
type Tft<'buffer, M> = mipidsi::Display<SpiInterface<'buffer, Spi, DcsPin>, M, DcsPin>;

/// `mipidsi` in front of a [`DcsPanel`].
pub struct DcsDevice<'buffer, M: Model<ColorFormat = Rgb565>> {
    driver: Tft<'buffer, M>,
    panel: Rc<RefCell<DcsPanel>>,
}

impl<'buffer, M: Model<ColorFormat = Rgb565>> DcsDevice<'buffer, M> {
    /// Resets and initialises the panel over a bus of `hertz`, by the driver for its controller; what is drawn is turned clockwise.
    ///
    /// # Errors
    /// The driver's.
    pub fn open(
        module: &'static Module,
        driver: M,
        (hertz, rotation): (u32, Rotation),
        buffer: &'buffer mut [u8; SPI_BUFFER],
    ) -> Result<Self, DeviceError> {
        let failed =
            |reason: &dyn fmt::Debug| DeviceError { driver: module.name, reason: format!("{reason:?}") };
        let clock = Clock::default();
        let panel = Rc::new(RefCell::new(DcsPanel::new(module, clock.clone(), hertz)));
        let pin = |input| DcsPin { panel: Rc::clone(&panel), input };
        let mut delay = VirtualDelay(clock);
        let spi = ExclusiveDevice::new(DcsBus(Rc::clone(&panel)), pin(Input::ChipSelect), delay.clone())
            .map_err(|error| failed(&error))?;
        let upright = Orientation::new();
        let mounted = if module.mirrored { upright.flip_horizontal() } else { upright };
        let inversion = if module.inverts { ColorInversion::Inverted } else { ColorInversion::Normal };
        let driver = mipidsi::Builder::new(driver, SpiInterface::new(spi, pin(Input::DataCommand), buffer))
            .reset_pin(pin(Input::Reset))
            .display_size(module.size.0, module.size.1)
            .display_offset(module.offset.0, module.offset.1)
            .orientation(mounted.rotate(rotation))
            .color_order(if module.bgr { ColorOrder::Bgr } else { ColorOrder::Rgb })
            .invert_colors(inversion)
            .init(&mut delay)
            .map_err(|error| failed(&error))?;
        Ok(Self { driver, panel })
    }
}

impl<'buffer, M: Model<ColorFormat = Rgb565>> Device for DcsDevice<'buffer, M> {
    type Target = Tft<'buffer, M>;

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

type Oled<S> = Ssd1306<I2CInterface<Ssd1306Bus>, S, BufferedGraphicsMode<S>>;

/// `ssd1306` in front of a [`Ssd1306Panel`].
pub struct Ssd1306Device<S: DisplaySize> {
    driver: Oled<S>,
    panel: Rc<RefCell<Ssd1306Panel>>,
}

impl<S: DisplaySize> Ssd1306Device<S> {
    /// Initialises the panel of this size over a bus of `hertz`.
    ///
    /// # Errors
    /// The driver's.
    pub fn open(size: S, hertz: u32, rotation: DisplayRotation) -> Result<Self, DeviceError> {
        let panel = Ssd1306Panel::new(usize::from(S::HEIGHT), Clock::default(), hertz);
        let panel = Rc::new(RefCell::new(panel));
        let interface = I2CDisplayInterface::new(Ssd1306Bus(Rc::clone(&panel)));
        let mut driver = Ssd1306::new(interface, size, rotation).into_buffered_graphics_mode();
        driver.init().map_err(oled_failed)?;
        Ok(Self { driver, panel })
    }
}

fn oled_failed(reason: impl fmt::Debug) -> DeviceError {
    DeviceError { driver: "SSD1306", reason: format!("{reason:?}") }
}

impl<S: DisplaySize> Device for Ssd1306Device<S> {
    type Target = Oled<S>;

    fn target(&mut self) -> &mut Oled<S> {
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
