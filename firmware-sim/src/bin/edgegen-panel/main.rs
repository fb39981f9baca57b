//! `edgegen-panel`: the device's program on a real panel, for people to look at and for systemd to keep running.

mod config;
mod play;
mod source;
mod wired;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use config::{Config, PanelChoice};
use edgegen_firmware_sim::panel::Framebuffer;
use edgegen_firmware_sim::panel::framebuffer::{Description, FramebufferColor};
use edgegen_runtime::measure::Root;
use embedded_graphics::pixelcolor::{BinaryColor, Rgb565, Rgb888};
use play::{Open, Player};

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
    let (source, about) = source::open(&config).map_err(Failure::Settings)?;
    if let PanelChoice::Wired(panel) = config.panel {
        config.wiring.check(panel, &root)?;
        println!("model {about}");
        println!("panel {}", config.wiring.about(panel));
    } else {
        let Description { size, bits, .. } = Description::read(&root, &config.device)?;
        println!("model {about}");
        println!("panel {}: {}x{} pixels of {bits} bits", config.device, size.width, size.height);
    }
    let panel = Configured { config: &config, root: &root };
    if arguments.check {
        return Ok(panel.check()?);
    }
    Ok(play::play(source, &panel, &config, arguments.pictures)?)
}

/// The panel that the configuration names.
struct Configured<'a> {
    config: &'a Config,
    root: &'a Root,
}

impl Configured<'_> {
    fn framebuffer<C: FramebufferColor>(&self) -> Result<Framebuffer<C>> {
        Ok(Framebuffer::open(Description::read(self.root, &self.config.device)?)?)
    }

    fn bits(&self) -> Result<u32> {
        Ok(Description::read(self.root, &self.config.device)?.bits)
    }

    /// Opens a framebuffer, as far as that draws nothing.
    fn check(&self) -> Result<()> {
        if let PanelChoice::Wired(_) = self.config.panel {
            return Ok(());
        }
        match self.bits()? {
            1 => self.framebuffer::<BinaryColor>().map(drop),
            16 => self.framebuffer::<Rgb565>().map(drop),
            _ => self.framebuffer::<Rgb888>().map(drop),
        }
    }
}

impl Open for Configured<'_> {
    fn open(&self, player: &mut Player<'_, '_>) -> Result<()> {
        if let PanelChoice::Wired(panel) = self.config.panel {
            return self.config.wiring.open(panel, self.root, player);
        }
        match self.bits()? {
            1 => player.draw_on(self.framebuffer::<BinaryColor>()?),
            16 => player.draw_on(self.framebuffer::<Rgb565>()?),
            _ => player.draw_on(self.framebuffer::<Rgb888>()?),
        }
    }
}
