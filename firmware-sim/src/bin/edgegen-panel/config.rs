//! `/etc/edgegen/edgegen.toml`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use edgegen_firmware::{Dither, Scaling};
use edgegen_firmware_sim::names::{DitherName, ScalingName};
use edgegen_firmware_sim::panel::Panel;
use edgegen_runtime::arguments::machine;
use edgegen_runtime::model::{OpenOptions, Precision, RangeChoice, Spelling};
use serde::Deserialize;

use crate::wired::Wiring;

/// Where it lies.
pub(crate) const FILE: &str = "/etc/edgegen/edgegen.toml";

/// Longer pauses are a slip of the pen.
const LONGEST_PAUSE: f64 = 24.0 * 3600.0;
const MOST_PICTURES_A_SECOND: f64 = 1000.0;
const MOST_STEPS: u32 = 10_000;

/// What is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Show {
    /// From seed to seed, step by step.
    Walk,
    /// One seed's picture, then the next one's.
    Pictures,
    /// One seed's gallery, then the next one's.
    Gallery,
}

/// As it stands in the file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    model: PathBuf,
    precision: Option<String>,
    range: Option<String>,
    input: Option<String>,
    output: Option<String>,
    shape: Option<String>,
    picture: Option<String>,
    class: Option<String>,
    #[serde(default = "fb")]
    panel: String,
    #[serde(default = "fb0")]
    device: String,
    #[serde(default = "spidev")]
    spi: String,
    #[serde(default = "i2c")]
    i2c: String,
    #[serde(default = "gpiochip")]
    gpio: String,
    #[serde(default = "dc")]
    dc: u32,
    reset: Option<u32>,
    backlight: Option<u32>,
    hertz: Option<u32>,
    #[serde(default)]
    spi_mode: u8,
    #[serde(default)]
    rotate: u32,
    #[serde(default = "walk")]
    show: Show,
    #[serde(default)]
    seed: u64,
    #[serde(default = "ten")]
    fps: f64,
    #[serde(default = "steps")]
    steps: u32,
    #[serde(default = "ten")]
    pause: f64,
    scaling: Option<ScalingName>,
    dither: Option<DitherName>,
    #[serde(default)]
    caption: bool,
}

fn fb() -> String {
    "fb".into()
}

fn fb0() -> String {
    "/dev/fb0".into()
}

fn spidev() -> String {
    "/dev/spidev0.0".into()
}

fn i2c() -> String {
    "/dev/i2c-1".into()
}

fn gpiochip() -> String {
    "/dev/gpiochip0".into()
}

/// As the package's documentation wires it.
fn dc() -> u32 {
    24
}

fn walk() -> Show {
    Show::Walk
}

fn ten() -> f64 {
    10.0
}

fn steps() -> u32 {
    24
}

/// Where pictures are shown.
#[derive(Clone, Copy, Debug)]
pub(crate) enum PanelChoice {
    /// On the framebuffer.
    Framebuffer,
    /// On a panel on a bus.
    Wired(Panel),
}

/// What the program is to do.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) model: PathBuf,
    pub(crate) precision: Option<Precision>,
    /// What the file of another program does not say.
    pub(crate) open: OpenOptions,
    pub(crate) class: Option<String>,
    pub(crate) panel: PanelChoice,
    /// The framebuffer.
    pub(crate) device: String,
    /// Of a panel on a bus.
    pub(crate) wiring: Wiring,
    pub(crate) show: Show,
    pub(crate) seed: u64,
    /// Time of a step of a walk, at least.
    pub(crate) step: Duration,
    /// Pictures from seed to seed.
    pub(crate) steps: u32,
    /// How long a picture or a gallery stays.
    pub(crate) pause: Duration,
    pub(crate) scaling: Option<Scaling>,
    pub(crate) dither: Option<Dither>,
    pub(crate) caption: bool,
}

impl Config {
    /// Reads a file.
    ///
    /// # Errors
    /// If it cannot be read, is no TOML, has a key that is not known, or a value out of bounds: with file and line.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let name = path.display();
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {name}"))?;
        let file: File = toml::from_str(&text).map_err(|error| {
            let before = error.span().map_or("", |span| &text[..span.start.min(text.len())]);
            let line = before.matches('\n').count() + 1;
            anyhow!("{name}, line {line}: {}", error.message().replace('\n', " "))
        })?;
        file.checked().with_context(|| name.to_string())
    }
}

impl File {
    fn checked(self) -> Result<Config> {
        let panel = match self.panel.as_str() {
            "fb" => PanelChoice::Framebuffer,
            name => match Panel::named(name) {
                Ok(panel) => PanelChoice::Wired(panel),
                Err(_) => bail!(
                    "panel = {name:?}: there are fb, a Linux framebuffer, and on SPI or I2C {}",
                    Panel::names()
                ),
            },
        };
        ensure!(matches!(self.rotate, 0 | 90 | 180 | 270), "rotate = {}: 0, 90, 180 or 270", self.rotate);
        ensure!(matches!(self.spi_mode, 0 | 3), "spi_mode = {}: 0 or 3", self.spi_mode);
        if let Some(hertz) = self.hertz {
            ensure!((1_000..=200_000_000).contains(&hertz), "hertz = {hertz}: 1000 to 200000000");
        }
        let wiring = Wiring {
            spi: self.spi,
            i2c: self.i2c,
            gpio: self.gpio,
            dc: self.dc,
            reset: self.reset,
            backlight: self.backlight,
            hertz: self.hertz,
            mode_3: self.spi_mode == 3,
            quarters: (self.rotate / 90) as u8,
        };
        ensure!(
            (1.0 / LONGEST_PAUSE..=MOST_PICTURES_A_SECOND).contains(&self.fps),
            "fps = {}: {:.6} (one a day) to {MOST_PICTURES_A_SECOND}",
            self.fps,
            1.0 / LONGEST_PAUSE
        );
        ensure!(
            (0.0..=LONGEST_PAUSE).contains(&self.pause),
            "pause = {}: 0 to {LONGEST_PAUSE} seconds",
            self.pause
        );
        ensure!((2..=MOST_STEPS).contains(&self.steps), "steps = {}: 2 to {MOST_STEPS}", self.steps);
        let precision = self.precision.as_deref().map(str::parse).transpose()?;
        let range = self.range.as_deref().map(str::parse::<RangeChoice>).transpose()?;
        let open = OpenOptions {
            range: range.and_then(RangeChoice::range),
            input: self.input,
            output: self.output,
            shape: self.shape.as_deref().map(str::parse).transpose()?,
            picture: self.picture.as_deref().map(str::parse).transpose()?,
            spelling: Spelling::Keys,
            machine: machine(1)?,
            ..OpenOptions::default()
        };
        Ok(Config {
            model: self.model,
            precision,
            open,
            class: self.class,
            panel,
            device: self.device,
            wiring,
            show: self.show,
            seed: self.seed,
            step: Duration::from_secs_f64(1.0 / self.fps),
            steps: self.steps,
            pause: Duration::from_secs_f64(self.pause),
            scaling: self.scaling.map(ScalingName::scaling),
            dither: self.dither.map(DitherName::dither),
            caption: self.caption,
        })
    }
}
