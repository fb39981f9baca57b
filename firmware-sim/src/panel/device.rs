//! Real drivers, and the virtual panels behind them.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;

use edgegen_firmware::PanelColor;
use embedded_graphics::draw_target::DrawTarget;
use embedded_graphics::pixelcolor::Rgb565;
use embedded_hal::delay::DelayNs;
use embedded_hal::digital::OutputPin;
use embedded_hal::i2c::I2c;
use embedded_hal::spi::SpiDevice;
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

/// The wires of a TFT.
pub struct Wires<S, P> {
    /// The bus, with the chip select.
    pub spi: S,
    /// D/C: low for commands.
    pub data: P,
    /// Low resets.
    pub reset: P,
}

/// `mipidsi` on any bus.
pub struct Tft<'buffer, M: Model<ColorFormat = Rgb565>, S: SpiDevice, P: OutputPin> {
    driver: mipidsi::Display<SpiInterface<'buffer, S, P>, M, P>,
}

impl<'buffer, M: Model<ColorFormat = Rgb565>, S: SpiDevice, P: OutputPin> Tft<'buffer, M, S, P> {
    /// Resets and initialises the panel, by the driver for its controller; what is drawn is turned clockwise.
    ///
    /// # Errors
    /// The driver's.
    pub fn open(
        module: &'static Module,
        driver: M,
        rotation: Rotation,
        wires: Wires<S, P>,
        delay: &mut impl DelayNs,
        buffer: &'buffer mut [u8; SPI_BUFFER],
    ) -> Result<Self, DeviceError> {
        let upright = Orientation::new();
        let mounted = if module.mirrored { upright.flip_horizontal() } else { upright };
        let inversion = if module.inverts { ColorInversion::Inverted } else { ColorInversion::Normal };
        let driver = mipidsi::Builder::new(driver, SpiInterface::new(wires.spi, wires.data, buffer))
            .reset_pin(wires.reset)
            .display_size(module.size.0, module.size.1)
            .display_offset(module.offset.0, module.offset.1)
            .orientation(mounted.rotate(rotation))
            .color_order(if module.bgr { ColorOrder::Bgr } else { ColorOrder::Rgb })
            .invert_colors(inversion)
            .init(delay)
            .map_err(|error| DeviceError::new(module.name, format!("{error:?}")))?;
        Ok(Self { driver })
    }
}

impl<'buffer, M: Model<ColorFormat = Rgb565>, S: SpiDevice, P: OutputPin> Device for Tft<'buffer, M, S, P> {
    type Target = mipidsi::Display<SpiInterface<'buffer, S, P>, M, P>;

    fn target(&mut self) -> &mut Self::Target {
        &mut self.driver
    }

    fn flush(&mut self) -> Result<(), DeviceError> {
        Ok(())
    }
}

type VirtualSpi = ExclusiveDevice<DcsBus, DcsPin, VirtualDelay>;

/// `mipidsi` in front of a [`DcsPanel`].
pub struct DcsDevice<'buffer, M: Model<ColorFormat = Rgb565>> {
    tft: Tft<'buffer, M, VirtualSpi, DcsPin>,
    panel: Rc<RefCell<DcsPanel>>,
}

impl<'buffer, M: Model<ColorFormat = Rgb565>> DcsDevice<'buffer, M> {
    /// Resets and initialises the panel over a bus of `hertz`.
    ///
    /// # Errors
    /// The driver's.
    pub fn open(
        module: &'static Module,
        driver: M,
        (hertz, rotation): (u32, Rotation),
        buffer: &'buffer mut [u8; SPI_BUFFER],
    ) -> Result<Self, DeviceError> {
        let clock = Clock::default();
        let panel = Rc::new(RefCell::new(DcsPanel::new(module, clock.clone(), hertz)));
        let pin = |input| DcsPin { panel: Rc::clone(&panel), input };
        let mut delay = VirtualDelay(clock);
        let spi = ExclusiveDevice::new(DcsBus(Rc::clone(&panel)), pin(Input::ChipSelect), delay.clone())
            .map_err(|error| DeviceError::new(module.name, format!("{error:?}")))?;
        let wires = Wires { spi, data: pin(Input::DataCommand), reset: pin(Input::Reset) };
        let tft = Tft::open(module, driver, rotation, wires, &mut delay, buffer)?;
        Ok(Self { tft, panel })
    }
}

impl<'buffer, M: Model<ColorFormat = Rgb565>> Device for DcsDevice<'buffer, M> {
    type Target = <Tft<'buffer, M, VirtualSpi, DcsPin> as Device>::Target;

    fn target(&mut self) -> &mut Self::Target {
        self.tft.target()
    }

    fn flush(&mut self) -> Result<(), DeviceError> {
        self.tft.flush()
    }
}

impl<M: Model<ColorFormat = Rgb565>> Observed for DcsDevice<'_, M> {
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

/// `ssd1306` on any bus.
pub struct Oled<I: I2c, S: DisplaySize> {
    driver: Ssd1306<I2CInterface<I>, S, BufferedGraphicsMode<S>>,
}

impl<I: I2c, S: DisplaySize> Oled<I, S> {
    /// Initialises the panel of this size; what is drawn is turned clockwise.
    ///
    /// # Errors
    /// The driver's.
    pub fn open(size: S, rotation: DisplayRotation, bus: I) -> Result<Self, DeviceError> {
        let interface = I2CDisplayInterface::new(bus);
        let mut driver = Ssd1306::new(interface, size, rotation).into_buffered_graphics_mode();
        driver.init().map_err(oled_failed)?;
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

/// `ssd1306` in front of a [`Ssd1306Panel`].
pub struct Ssd1306Device<S: DisplaySize> {
    oled: Oled<Ssd1306Bus, S>,
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
        let oled = Oled::open(size, rotation, Ssd1306Bus(Rc::clone(&panel)))?;
        Ok(Self { oled, panel })
    }
}

impl<S: DisplaySize> Device for Ssd1306Device<S> {
    type Target = <Oled<Ssd1306Bus, S> as Device>::Target;

    fn target(&mut self) -> &mut Self::Target {
        self.oled.target()
    }

    fn flush(&mut self) -> Result<(), DeviceError> {
        self.oled.flush()
    }
}

impl<S: DisplaySize> Observed for Ssd1306Device<S> {
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
