//! `edgegen-panel`: the device's program on a real panel, for people to look at and for systemd to keep running.

mod config;
mod play;
mod wired;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use config::{Config, PanelChoice};
use edgegen_firmware_sim::generator::ModelGenerator;
use edgegen_firmware_sim::panel::framebuffer::{Description, FramebufferColor};
use edgegen_firmware_sim::panel::{Device, Framebuffer};
use edgegen_runtime::measure::Root;
use edgegen_runtime::model::Model;
use embedded_graphics::pixelcolor::{BinaryColor, Rgb565, Rgb888};

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
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    #[cfg(feature = "manual")]
    if let Some(folder) = &arguments.manual {
        return Ok(edgegen_runtime::manual::write(<Arguments as clap::CommandFactory>::command(), folder)?);
    }
    let root = Root::at(&arguments.root);
    let config = Config::read(&arguments.config)?;
    let model = Model::open_named(&config.model, None, config.precision, &config.open)?;
    let facts = model.facts();
    let about = format!(
        "{}: {} {}, latents of {}, pictures of {}",
        config.model.display(),
        facts.precision,
        facts.part,
        facts.latent_dim,
        facts.image
    );
    let network = model.into_generator(1)?;
    let class = config.class.as_ref().map(|class| network.class_named(class)).transpose()?;
    let source = ModelGenerator::new(network, class).with_context(|| config.model.display().to_string())?;
    if let PanelChoice::Wired(panel) = config.panel {
        config.wiring.check(panel, &root)?;
        println!("model {about}");
        println!("panel {}", config.wiring.about(panel));
        if arguments.check {
            return Ok(());
        }
        return config.wiring.open(panel, &root, Play { source, config: &config, arguments });
    }
    let description = Description::read(&root, &config.device)?;
    let (size, bits) = (description.size, description.bits);
    println!("model {about}");
    println!("panel {}: {}x{} pixels of {bits} bits", config.device, size.width, size.height);
    match bits {
        1 => show::<BinaryColor>(source, description, &config, arguments),
        16 => show::<Rgb565>(source, description, &config, arguments),
        _ => show::<Rgb888>(source, description, &config, arguments),
    }
}

fn show<C: FramebufferColor>(
    source: ModelGenerator,
    description: Description,
    config: &Config,
    arguments: &Arguments,
) -> Result<()> {
    let panel = Framebuffer::<C>::open(description)?;
    if arguments.check {
        return Ok(());
    }
    play::play(source, panel, config, arguments.pictures)
}

/// Plays on a panel that is open.
struct Play<'a> {
    source: ModelGenerator,
    config: &'a Config,
    arguments: &'a Arguments,
}

impl wired::Drive for Play<'_> {
    fn drive<D: Device>(self, panel: D) -> Result<()> {
        play::play(self.source, panel, self.config, self.arguments.pictures)
    }
}
