//! `/etc/edgegen/edgegen.toml`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use edgegen_firmware::Button;
use edgegen_firmware_sim::live::{Settings, Show};
use edgegen_firmware_sim::names::{DitherName, ScalingName};
use edgegen_firmware_sim::panel::list::Kind;
use edgegen_firmware_sim::panel::{Mounting, Panel};
use edgegen_firmware_sim::web::{self, Address};
use edgegen_runtime::arguments::machine;
use edgegen_runtime::model::{OpenOptions, Precision, RangeChoice, Spelling};
use serde::Deserialize;

use crate::inputs::Lines;
use crate::wired::Wiring;

/// Where it lies.
pub(crate) const FILE: &str = "/etc/edgegen/edgegen.toml";

/// Longer pauses are a slip of the pen.
const LONGEST_PAUSE: f64 = 24.0 * 3600.0;
const MOST_PICTURES_A_SECOND: f64 = 1000.0;
const MOST_STEPS: u32 = 10_000;
/// Seconds after which a panel on SPI is initialised anew.
const RENEW: u32 = 600;

/// Buttons and knobs by the lines that they are wired to, as they stand in the file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Keys {
    next: Option<u32>,
    walk: Option<u32>,
    hold: Option<u32>,
    select: Option<u32>,
    back: Option<u32>,
    left: Option<u32>,
    right: Option<u32>,
    up: Option<u32>,
    down: Option<u32>,
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
    pictures: Option<PathBuf>,
    #[serde(default)]
    explore: bool,
    #[serde(default = "fb")]
    panel: String,
    device: Option<String>,
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
    busy: Option<u32>,
    hertz: Option<u32>,
    #[serde(default)]
    spi_mode: u8,
    #[serde(default)]
    rotate: u32,
    #[serde(default)]
    mirror: bool,
    #[serde(default)]
    bgr: bool,
    #[serde(default)]
    invert: bool,
    renew: Option<u32>,
    buttons: Option<[u32; 2]>,
    #[serde(default)]
    keys: Keys,
    encoder: Option<[u32; 2]>,
    encoder_2: Option<[u32; 2]>,
    web: Option<String>,
    web_token: Option<String>,
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
    /// On a display of the kernel's direct rendering manager.
    Drm,
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
    /// For a model that takes pictures.
    pub(crate) pictures: Option<PathBuf>,
    pub(crate) explore: bool,
    pub(crate) panel: PanelChoice,
    /// The framebuffer.
    pub(crate) device: String,
    /// Of a panel on a bus.
    pub(crate) wiring: Wiring,
    pub(crate) mounting: Mounting,
    pub(crate) inputs: Lines,
    /// Where the page is served, and its token.
    pub(crate) web: Option<(Address, Option<String>)>,
    pub(crate) settings: Settings,
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
            "drm" => PanelChoice::Drm,
            "hub75" => bail!(
                "panel = \"hub75\": a matrix of LEDs needs pins that are driven all the time, which a program on Linux cannot; edgegen-sim shows it"
            ),
            name => match Panel::named(name) {
                Ok(panel) => PanelChoice::Wired(panel),
                Err(_) => bail!(
                    "panel = {name:?}: there are fb, a Linux framebuffer, drm, a display of the kernel's direct rendering manager, and on SPI or I2C {}",
                    Panel::names().trim_end_matches(", hub75")
                ),
            },
        };
        ensure!(matches!(self.rotate, 0 | 90 | 180 | 270), "rotate = {}: 0, 90, 180 or 270", self.rotate);
        ensure!(matches!(self.spi_mode, 0 | 3), "spi_mode = {}: 0 or 3", self.spi_mode);
        if let Some(hertz) = self.hertz {
            ensure!((1_000..=200_000_000).contains(&hertz), "hertz = {hertz}: 1000 to 200000000");
        }
        let inputs = self.inputs()?;
        let wiring = Wiring {
            spi: self.spi,
            i2c: self.i2c,
            gpio: self.gpio,
            dc: self.dc,
            reset: self.reset,
            backlight: self.backlight,
            busy: self.busy,
            hertz: self.hertz,
            mode_3: self.spi_mode == 3,
        };
        let paper = matches!(panel, PanelChoice::Wired(Panel { kind: Kind::Paper { .. }, .. }));
        ensure!(
            !paper || self.busy.is_some(),
            "panel = {:?}: say which line BUSY is wired to: busy = 17",
            self.panel
        );
        ensure!(
            paper || self.busy.is_none(),
            "busy is for e-paper; panel = {:?} has no such line",
            self.panel
        );
        let mounting = Mounting {
            quarters: (self.rotate / 90) as u8,
            mirrored: self.mirror,
            bgr: self.bgr,
            inverted: self.invert,
        };
        let web = self.web.as_deref().map(str::parse::<Address>).transpose();
        let web =
            web.map_err(|problem| anyhow!("web = {:?}: {problem}", self.web.as_deref().unwrap_or("")))?;
        ensure!(web.is_some() || self.web_token.is_none(), "web_token is for a page: give web as well");
        if let Some(address) = &web {
            web::check(address, self.web_token.as_deref()).context("web")?;
        }
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
        // a panel on SPI does not say that it has lost its power
        let on_spi = matches!(panel, PanelChoice::Wired(Panel { kind: Kind::Tft(_), .. }));
        let renew = self.renew.unwrap_or(if on_spi { RENEW } else { 0 });
        let settings = Settings {
            show: self.show,
            seed: self.seed,
            step: Duration::from_secs_f64(1.0 / self.fps),
            steps: self.steps,
            pause: Duration::from_secs_f64(self.pause),
            scaling: self.scaling.map(ScalingName::scaling),
            dither: self.dither.map(DitherName::dither),
            caption: self.caption,
            round: matches!(panel, PanelChoice::Wired(panel) if panel.is_round()),
            renew: (renew > 0).then(|| Duration::from_secs(renew.into())),
        };
        Ok(Config {
            model: self.model,
            precision,
            open,
            class: self.class,
            pictures: self.pictures,
            explore: self.explore,
            device: self.device.unwrap_or_else(|| match panel {
                PanelChoice::Drm => "/dev/dri/card0".into(),
                _ => "/dev/fb0".into(),
            }),
            panel,
            wiring,
            mounting,
            inputs,
            web: web.map(|address| (address, self.web_token)),
            settings,
        })
    }

    /// What is wired to which line; every line is one thing.
    fn inputs(&self) -> Result<Lines> {
        let Keys { next, walk, hold, select, back, left, right, up, down } = self.keys;
        let turn = |knob, clicks| Button::Turn { knob, clicks };
        let keys = [
            (next, Button::Next),
            (walk, Button::Walk),
            (hold, Button::Hold),
            (select, Button::Select),
            (back, Button::Back),
            (left, turn(0, -1)),
            (right, turn(0, 1)),
            (up, turn(1, 1)),
            (down, turn(1, -1)),
        ];
        let keys: Vec<_> = keys.into_iter().filter_map(|(line, button)| Some((line?, button))).collect();
        let inputs = Lines { buttons: self.buttons, keys, encoders: [self.encoder, self.encoder_2] };
        let mut taken = inputs.all();
        let wired = self.panel != "fb" && self.panel != "drm";
        let lines = [Some(self.dc).filter(|_| wired), self.reset, self.backlight, self.busy];
        taken.extend(lines.into_iter().flatten());
        taken.sort_unstable();
        if let Some(twice) = taken.windows(2).find(|pair| pair[0] == pair[1]) {
            bail!("line {} of the GPIO is used twice", twice[0]);
        }
        Ok(inputs)
    }
}
