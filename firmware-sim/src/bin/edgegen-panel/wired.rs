//! Panels on the board's own SPI and I2C buses, through the kernel's spidev, gpio and i2c devices.

use anyhow::{Context, Result, bail};
use edgegen_firmware_sim::panel::device::Wires;
use edgegen_firmware_sim::panel::list::Kind;
use edgegen_firmware_sim::panel::open::{self, With};
use edgegen_firmware_sim::panel::{Mounting, Panel};
use edgegen_runtime::measure::Root;
use embedded_hal::digital::{ErrorType, InputPin, OutputPin};
use linux_embedded_hal::gpio_cdev::{Chip, LineRequestFlags};
use linux_embedded_hal::spidev::{SpiModeFlags, SpidevOptions};
use linux_embedded_hal::{CdevPin, Delay, I2cdev, SpidevDevice};

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
    /// By which e-paper says that it is busy.
    pub(crate) busy: Option<u32>,
    /// Clock of SPI, hertz; that of I2C is the kernel's.
    pub(crate) hertz: Option<u32>,
    /// SPI mode 3, which modules without a chip select want, instead of 0.
    pub(crate) mode_3: bool,
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

/// A line that is listened to, or none, which is low.
impl InputPin for Line {
    fn is_high(&mut self) -> Result<bool, Self::Error> {
        self.0.as_mut().map_or(Ok(false), InputPin::is_high)
    }

    fn is_low(&mut self) -> Result<bool, Self::Error> {
        self.0.as_mut().map_or(Ok(true), InputPin::is_low)
    }
}

impl Wiring {
    /// Says where a panel is wired to.
    pub(crate) fn about(&self, panel: Panel) -> String {
        match panel.kind {
            Kind::Oled(_) => format!("{} on {}", panel.name, self.i2c),
            _ => format!("{} on {}", panel.about(self.hertz(panel)), self.spi),
        }
    }

    fn hertz(&self, panel: Panel) -> u32 {
        self.hertz.unwrap_or(panel.hertz)
    }

    /// The files that have to be there.
    pub(crate) fn check(&self, panel: Panel, root: &Root) -> Result<()> {
        let files = match panel.kind {
            Kind::Oled(_) => vec![&self.i2c],
            _ => vec![&self.spi, &self.gpio],
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

    /// A line that is driven from this level on, or listened to.
    fn line(&self, root: &Root, offset: u32, level: Option<bool>) -> Result<CdevPin> {
        let path = root.path(&self.gpio);
        let named = || format!("line {offset} of {}", path.display());
        let mut chip = Chip::new(&path).with_context(|| self.missing(&path.display().to_string()))?;
        let line = chip.get_line(offset).with_context(named)?;
        let flags = if level.is_some() { LineRequestFlags::OUTPUT } else { LineRequestFlags::INPUT };
        let handle = line.request(flags, u8::from(level == Some(true)), CONSUMER).with_context(named)?;
        CdevPin::new(handle).with_context(named)
    }

    /// Opens the panel for `with`.
    pub(crate) fn open<T>(
        &self,
        panel: Panel,
        mounting: Mounting,
        root: &Root,
        with: impl With<Output = Result<T>>,
    ) -> Result<T> {
        // lit for as long as it is held
        let _backlight = self.backlight.map(|offset| self.line(root, offset, Some(true))).transpose()?;
        match panel.kind {
            Kind::Tft(module) => open::tft(module, mounting, self.wires(panel, root)?, &mut Delay, with)?,
            Kind::Oled(glass) => {
                let path = root.path(&self.i2c);
                let bus = I2cdev::new(&path).with_context(|| self.missing(&path.display().to_string()))?;
                open::oled(glass, mounting, bus, with)?
            }
            Kind::Paper { greys } => {
                let busy = Line(self.busy.map(|offset| self.line(root, offset, None)).transpose()?);
                open::paper(greys, mounting, self.wires(panel, root)?, (busy, Delay), with)?
            }
            Kind::Matrix => bail!("a matrix of LEDs is not driven here"),
        }
    }

    fn wires(&self, panel: Panel, root: &Root) -> Result<Wires<SpidevDevice, Line>> {
        let path = root.path(&self.spi);
        let named = || self.missing(&path.display().to_string());
        let mut spi = SpidevDevice::open(&path).with_context(named)?;
        let options = SpidevOptions::new()
            .bits_per_word(8)
            .max_speed_hz(self.hertz(panel))
            .mode(if self.mode_3 { SpiModeFlags::SPI_MODE_3 } else { SpiModeFlags::SPI_MODE_0 })
            .build();
        spi.configure(&options).with_context(|| path.display().to_string())?;
        let data = Line(Some(self.line(root, self.dc, Some(false))?));
        let reset = Line(self.reset.map(|offset| self.line(root, offset, Some(true))).transpose()?);
        Ok(Wires { spi, data, reset })
    }
}
