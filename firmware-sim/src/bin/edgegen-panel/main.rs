//! `edgegen-panel`: the device's program on a real panel, for people to look at and for systemd to keep running.

mod config;
mod host;
mod inputs;
mod source;
mod wired;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Result;
use clap::Parser;
use config::{Config, PanelChoice};
use edgegen_firmware_sim::live::{self, Ended, Host, Mirrored, Open, Player, SystemTime};
use edgegen_firmware_sim::panel::drm::{self, Drm};
use edgegen_firmware_sim::panel::framebuffer::{Description, FramebufferColor};
use edgegen_firmware_sim::panel::open::With;
use edgegen_firmware_sim::panel::{Device, Framebuffer};
use edgegen_firmware_sim::web::{self, Hub, Operated, Reopen};
use edgegen_runtime::measure::Root;
use edgegen_runtime::model::Precision;
use embedded_graphics::geometry::Size;
use embedded_graphics::pixelcolor::{BinaryColor, Rgb565, Rgb888};
use host::Board;
use inputs::Gpio;

/// Show a model's pictures on a panel
///
/// Draws on a Linux framebuffer, a screen on HDMI or a panel that a kernel driver runs, or on a panel on the board's SPI or I2C
/// bus, whose driver it has. What it shows stands in a configuration file. It stops at SIGINT and SIGTERM and leaves a blank panel; under systemd it says when it is ready
/// and keeps the watchdog quiet for as long as it does not hang.
#[derive(Debug, Parser)]
#[command(name = "edgegen-panel", version)]
pub(crate) struct Arguments {
    /// The configuration file
    #[arg(long, value_name = "FILE", default_value = config::FILE)]
    config: PathBuf,
    /// Read the configuration, open model and panel, and say what they are, without drawing
    #[arg(long)]
    check: bool,
    /// Stop after so many pictures
    #[arg(long, value_name = "N", conflicts_with = "check")]
    pictures: Option<u64>,
    /// Read and write the board's files below this folder
    #[arg(long, value_name = "FOLDER", default_value = "/", hide = true)]
    root: PathBuf,
    /// Write man page and shell completions into this folder
    #[cfg(feature = "manual")]
    #[arg(long, value_name = "FOLDER", hide = true)]
    manual: Option<PathBuf>,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let (code, error) = match failure {
                Failure::Settings(error) => (ExitCode::from(BAD_SETTINGS), error),
                Failure::Other(error) => (ExitCode::FAILURE, error),
            };
            eprintln!("error: {error:#}");
            code
        }
    }
}

/// Exit code of a configuration or a model that has to be changed: to try again is of no use (EX_CONFIG of sysexits(3)).
const BAD_SETTINGS: u8 = 78;

/// Why the program ends.
enum Failure {
    /// The configuration, or the model that it names.
    Settings(anyhow::Error),
    /// A panel, which may come back.
    Other(anyhow::Error),
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Other(error.into())
    }
}

fn run(arguments: &Arguments) -> std::result::Result<(), Failure> {
    #[cfg(feature = "manual")]
    if let Some(folder) = &arguments.manual {
        return Ok(edgegen_runtime::manual::write(<Arguments as clap::CommandFactory>::command(), folder)?);
    }
    let root = Root::at(&arguments.root);
    let config = Config::read(&arguments.config).map_err(Failure::Settings)?;
    let panel = Configured { config: &config, root: &root };
    let opened = |room| source::open(&config, room, config.precision).map_err(Failure::Settings);
    // a bad model is told of before a panel that may come back
    let (room, about) = match panel.describe() {
        Ok(described) => described,
        Err(error) => {
            opened(Size::new(240, 240))?;
            return Err(error.into());
        }
    };
    let (source, model) = opened(room)?;
    println!("model {model}\npanel {about}");
    if arguments.check {
        return Ok(panel.check()?);
    }
    let gpio = Gpio::open(&config.inputs, &config.wiring.gpio, &root)?;
    let operated = panel.operated(about, model)?;
    let mut board = Board::new(&config, room, arguments.pictures, gpio, operated)?;
    Ok(live::play(source, &panel, &config.settings, &SystemTime::start(), &mut board)?)
}

/// The panel that the configuration names.
struct Configured<'a> {
    config: &'a Config,
    root: &'a Root,
}

impl Configured<'_> {
    /// Size of what is drawn, and a line about the panel.
    fn describe(&self) -> Result<(Size, String)> {
        let Config { panel, wiring, device, mounting, .. } = self.config;
        Ok(match panel {
            PanelChoice::Wired(panel) => {
                wiring.check(*panel, self.root)?;
                (panel.size(mounting.quarters), wiring.about(*panel))
            }
            PanelChoice::Framebuffer => {
                let Description { size, bits, .. } = Description::read(self.root, device)?;
                let about = format!("{device}: {}x{} pixels of {bits} bits", size.width, size.height);
                (mounting.drawn(size), about)
            }
            PanelChoice::Drm => {
                let size = drm::size(&self.root.path(device))?;
                (
                    mounting.drawn(size),
                    format!("{device}: a display of {}x{} pixels", size.width, size.height),
                )
            }
        })
    }

    fn framebuffer<C: FramebufferColor>(&self) -> Result<Framebuffer<C>> {
        let description = Description::read(self.root, &self.config.device)?;
        Ok(Framebuffer::open(description, self.config.mounting)?)
    }

    /// Opens a framebuffer, as far as that draws nothing.
    fn check(&self) -> Result<()> {
        if !matches!(self.config.panel, PanelChoice::Framebuffer) {
            return Ok(());
        }
        match Description::read(self.root, &self.config.device)?.bits {
            1 => self.framebuffer::<BinaryColor>().map(drop),
            16 => self.framebuffer::<Rgb565>().map(drop),
            _ => self.framebuffer::<Rgb888>().map(drop),
        }
    }

    fn with<T>(&self, with: impl With<Output = Result<T>>) -> Result<T> {
        let Config { panel, wiring, device, mounting, .. } = self.config;
        match panel {
            PanelChoice::Wired(panel) => wiring.open(*panel, *mounting, self.root, with),
            PanelChoice::Drm => with.with(Drm::open(&self.root.path(device), *mounting)?),
            PanelChoice::Framebuffer => match Description::read(self.root, device)?.bits {
                1 => with.with(self.framebuffer::<BinaryColor>()?),
                16 => with.with(self.framebuffer::<Rgb565>()?),
                _ => with.with(self.framebuffer::<Rgb888>()?),
            },
        }
    }

    /// Serves the page, if there is to be one.
    fn operated(&self, panel: String, model: String) -> Result<Option<Operated>> {
        let Some((address, token)) = &self.config.web else { return Ok(None) };
        let hub = Arc::new(Hub::default());
        let served = web::serve(address, token.as_deref(), &hub)?;
        println!("page {}{}", served.url, if token.is_some() { "?token=…" } else { "" });
        let config = self.config.clone();
        let room = self.describe()?.0;
        let reopen: Reopen = Box::new(move |precision| {
            let precision: Precision = precision.parse()?;
            Ok(source::open(&config, room, Some(precision))?.0)
        });
        let mut operated = Operated::new(hub, (panel, model), Some(reopen));
        operated.round = self.config.settings.round;
        (operated.precisions, operated.precision) = source::precisions(self.config)?;
        Ok(Some(operated))
    }
}

impl Open<Board<'_>> for Configured<'_> {
    fn open(&self, player: &mut Player<'_, '_, Board<'_>>) -> Result<Ended> {
        if self.config.web.is_some() { self.with(Viewed(player)) } else { self.with(player) }
    }
}

/// Keeps a copy of what is drawn, for the page.
struct Viewed<'a, 'link, 'buffer, H>(&'a mut Player<'link, 'buffer, H>);

impl<H: Host> With for Viewed<'_, '_, '_, H> {
    type Output = Result<Ended>;

    fn with<D: Device>(self, device: D) -> Result<Ended> {
        self.0.draw_on(Mirrored::new(device))
    }
}
