//! Panels on the board's own SPI and I2C buses, through the kernel's spidev, gpio and i2c devices.

use std::path::PathBuf;

use anyhow::{Context, Result};
use edgegen_firmware_sim::panel::Panel;
use edgegen_firmware_sim::panel::dcs::{Driver, Module};
use edgegen_firmware_sim::panel::device::{Oled, SPI_BUFFER, Tft, Wires};
use edgegen_firmware_sim::panel::list::{display_rotation, rotation};
use edgegen_runtime::measure::Root;
use embedded_hal::digital::{ErrorType, OutputPin};
use linux_embedded_hal::gpio_cdev::{Chip, LineRequestFlags};
use linux_embedded_hal::spidev::{SpiModeFlags, SpidevOptions};
use linux_embedded_hal::{CdevPin, Delay, I2cdev, SpidevDevice};
use mipidsi::models::{GC9A01, ILI9341Rgb565, Model, ST7735s, ST7789};
use ssd1306::prelude::{DisplaySize128x32, DisplaySize128x64};

use crate::play::Player;

/// Who holds the lines, for `gpioinfo`.
const CONSUMER: &str = "edgegen-panel";

/// Which wires go where, as the configuration says.
#[derive(Clone, Debug)]
pub(crate) struct Wiring {
    /// The SPI device, which has the chip select.
    pub(crate) spi: String,
    /// The I2C bus.
    pub(crate) i2c: String,
    /// The chip of the lines that follow.
    pub(crate) gpio: String,
    /// Data or command.
    pub(crate) dc: u32,
    /// Reset, if it is wired.
    pub(crate) reset: Option<u32>,
    /// Backlight, if it is switched.
    pub(crate) backlight: Option<u32>,
    /// Clock of SPI, hertz; that of I2C is the kernel's.
    pub(crate) hertz: Option<u32>,
    /// SPI mode 3, which modules without a chip select want, instead of 0.
    pub(crate) mode_3: bool,
    /// Quarters that what is drawn is turned clockwise.
    pub(crate) quarters: u8,
}

/// A line, or none.
struct Line(Option<CdevPin>);

impl ErrorType for Line {
    type Error = <CdevPin as ErrorType>::Error;
}

impl OutputPin for Line {
    fn set_low(&mut self) -> Result<(), Self::Error> {
        self.0.as_mut().map_or(Ok(()), OutputPin::set_low)
    }

    fn set_high(&mut self) -> Result<(), Self::Error> {
        self.0.as_mut().map_or(Ok(()), OutputPin::set_high)
    }
}

impl Wiring {
    /// Says where a panel is wired to.
    pub(crate) fn about(&self, panel: Panel) -> String {
        match panel {
            Panel::Dcs(_) => format!("{} on {}", panel.about(self.hertz(panel)), self.spi),
            Panel::Ssd1306 | Panel::Ssd1306Low => format!("{} on {}", panel.name(), self.i2c),
        }
    }

    fn hertz(&self, panel: Panel) -> u32 {
        self.hertz.unwrap_or(panel.hertz())
    }

    /// The files that have to be there.
    pub(crate) fn check(&self, panel: Panel, root: &Root) -> Result<()> {
        let files = match panel {
            Panel::Dcs(_) => vec![&self.spi, &self.gpio],
            Panel::Ssd1306 | Panel::Ssd1306Low => vec![&self.i2c],
        };
        for file in files {
            let path = root.path(file);
            std::fs::metadata(&path).with_context(|| self.missing(&path.display().to_string()))?;
        }
        Ok(())
    }

    fn missing(&self, path: &str) -> String {
        let bus = if path.contains("i2c") { "dtparam=i2c_arm=on" } else { "dtparam=spi=on" };
        format!(
            "{path}: is the bus switched on ({bus} in config.txt), and the user in the groups spi, i2c and gpio?"
        )
    }

    fn line(&self, root: &Root, offset: u32, high: bool) -> Result<CdevPin> {
        let path = root.path(&self.gpio);
        let named = || format!("line {offset} of {}", path.display());
        let mut chip = Chip::new(&path).with_context(|| self.missing(&path.display().to_string()))?;
        let line = chip.get_line(offset).with_context(named)?;
        let handle = line.request(LineRequestFlags::OUTPUT, u8::from(high), CONSUMER).with_context(named)?;
        CdevPin::new(handle).with_context(named)
    }

    /// Opens the panel and lets `player` draw on it.
    pub(crate) fn open(&self, panel: Panel, root: &Root, player: &mut Player<'_, '_>) -> Result<()> {
        let turned = display_rotation(self.quarters);
        let i2c =
            |path: PathBuf| I2cdev::new(&path).with_context(|| self.missing(&path.display().to_string()));
        match panel {
            Panel::Dcs(module) => {
                // lit for as long as it is held
                let _backlight = self.backlight.map(|offset| self.line(root, offset, true)).transpose()?;
                match module.driver {
                    Driver::St7789 => self.tft(module, ST7789, root, player),
                    Driver::St7735 => self.tft(module, ST7735s, root, player),
                    Driver::Ili9341 => self.tft(module, ILI9341Rgb565, root, player),
                    Driver::Gc9a01 => self.tft(module, GC9A01, root, player),
                }
            }
            Panel::Ssd1306 => {
                player.draw_on(Oled::open(DisplaySize128x64, turned, i2c(root.path(&self.i2c))?)?)
            }
            Panel::Ssd1306Low => {
                player.draw_on(Oled::open(DisplaySize128x32, turned, i2c(root.path(&self.i2c))?)?)
            }
        }
    }

    fn tft<M: Model<ColorFormat = embedded_graphics::pixelcolor::Rgb565>>(
        &self,
        module: &'static Module,
        driver: M,
        root: &Root,
        player: &mut Player<'_, '_>,
    ) -> Result<()> {
        let path = root.path(&self.spi);
        let named = || self.missing(&path.display().to_string());
        let mut spi = SpidevDevice::open(&path).with_context(named)?;
        let options = SpidevOptions::new()
            .bits_per_word(8)
            .max_speed_hz(self.hertz.unwrap_or(module.hertz))
            .mode(if self.mode_3 { SpiModeFlags::SPI_MODE_3 } else { SpiModeFlags::SPI_MODE_0 })
            .build();
        spi.configure(&options).with_context(|| path.display().to_string())?;
        let data = Line(Some(self.line(root, self.dc, false)?));
        let reset = Line(self.reset.map(|offset| self.line(root, offset, true)).transpose()?);
        let mut buffer = [0; SPI_BUFFER];
        let wires = Wires { spi, data, reset };
        player.draw_on(Tft::open(module, driver, rotation(self.quarters), wires, &mut Delay, &mut buffer)?)
    }
}
