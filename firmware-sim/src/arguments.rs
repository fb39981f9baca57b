//! The command line.

use std::path::PathBuf;

use clap::Parser;
use edgegen_firmware_sim::live::Show;
use edgegen_firmware_sim::names::{DitherName, ScalingName};
use edgegen_firmware_sim::panel::{Faults, Mounting, Panel};
use edgegen_firmware_sim::script::{MOST_PICTURES, Script};
use edgegen_firmware_sim::web::Address;
use edgegen_runtime::arguments::Foreign;
use edgegen_runtime::model::{Part, Precision};

/// Show what a small display would show
///
/// Without arguments: a gallery of the built-in model's pictures on a 240x240 panel, in the
/// terminal and in edgegen-sim.png.
#[derive(Clone, Debug, Parser)]
#[command(name = "edgegen-sim", version)]
pub(crate) struct Arguments {
    /// An .onnx file or a model folder [default: the built-in model]
    #[arg(long, value_name = "MODEL")]
    pub(crate) model: Option<PathBuf>,
    /// Which network of a model folder [default: the one that draws]
    #[arg(long, value_name = "decoder|generator", requires = "model")]
    pub(crate) part: Option<Part>,
    /// Precision, of those in a model folder [default: the one in model.json]
    #[arg(long, value_name = "fp32|fp16|int8", requires = "model")]
    pub(crate) precision: Option<Precision>,
    /// Class of the pictures, by its name or number, where the model is told one [default: a gallery shows each in turn,
    /// single pictures and walks the first]
    #[arg(long, value_name = "NAME|NUMBER", requires = "model")]
    pub(crate) class: Option<String>,
    #[command(flatten)]
    pub(crate) foreign: Foreign,
    /// Pictures for a model that takes some: a file (which may be written anew meanwhile, as by a camera), or a folder. A model that
    /// turns pictures into pictures shows what it makes of them, a folder with encoder and decoder how odd it finds them
    #[arg(long, value_name = "FILE|FOLDER", requires = "model")]
    pub(crate) pictures: Option<PathBuf>,
    /// Let the knobs (left, right, up, down of --script) turn the first two values of the latent, from the middle
    #[arg(long)]
    pub(crate) explore: bool,
    /// Show this PNG file instead of a model's pictures
    #[arg(long, value_name = "FILE", conflicts_with_all = ["model", "seed", "walk_to", "explore"])]
    pub(crate) frame: Option<PathBuf>,

    /// The panel: st7789, st7789-240x320, st7789-135x240, st7789-170x320, ili9341, st7735, gc9a01 (round), ssd1351, ssd1306,
    /// ssd1306-128x32, sh1106, epd2in9, epd2in9-grey or hub75
    #[arg(long, value_name = "PANEL", value_parser = Panel::named, default_value = "st7789")]
    pub(crate) panel: Panel,
    /// Turn what is drawn clockwise by so many degrees, and the panel the other way
    #[arg(long, value_name = "0|90|180|270", value_parser = quarters, default_value = "0")]
    pub(crate) rotate: u8,
    /// Mirror what is drawn, for a panel that is seen in a mirror
    #[arg(long)]
    pub(crate) mirror: bool,
    /// Exchange red and blue, for a panel that shows them the other way round
    #[arg(long)]
    pub(crate) bgr: bool,
    /// Exchange light and dark
    #[arg(long)]
    pub(crate) invert: bool,
    /// Bus clock in hertz [default: as the panel's makers allow, for example SPI 40000000, I2C 400000]
    #[arg(long, value_name = "HZ", value_parser = clap::value_parser!(u32).range(1_000..=200_000_000))]
    pub(crate) bus_hz: Option<u32>,
    /// How values between the panel's levels are shown [default: bayer on colours, atkinson on one]
    #[arg(long, value_enum)]
    pub(crate) dither: Option<DitherName>,
    /// How pictures grow: by a whole factor, or to the edge in blocks or smoothly [default: fill on colours, pixels on one]
    #[arg(long, value_enum)]
    pub(crate) scaling: Option<ScalingName>,
    /// Write below or beside each picture which one it is
    #[arg(long)]
    pub(crate) caption: bool,
    /// Add to the caption how many pictures a second there could be; depends on this machine
    #[arg(long)]
    pub(crate) fps: bool,

    /// First seed
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
    /// Show single pictures, so many: of successive seeds, or on the way to --walk-to
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(MOST_PICTURES)))]
    pub(crate) frames: Option<u32>,
    /// Walk from --seed to this one [in 24 pictures, if --frames does not say otherwise]
    #[arg(long, value_name = "SEED")]
    pub(crate) walk_to: Option<u64>,
    /// Press buttons, from a blank panel: for example next,walk:8,hold,select
    ///
    /// next: the next seed's picture or gallery; walk: towards the next seed, walk:8 for eight
    /// pictures, and of a gallery all its pictures; hold: stop a walk, or go on with it; select: between one picture and a gallery of
    /// the seed's; back: to a single picture, from there to a blank panel. right and left turn the first knob, up and down the second,
    /// right:5 by five clicks: classes or seeds, and the truncation, or with --explore the latent.
    #[arg(long, value_name = "BUTTONS", conflicts_with_all = ["frames", "walk_to"])]
    pub(crate) script: Option<Script>,
    /// One loop for everything instead of two threads; the pictures are the same
    #[arg(long)]
    pub(crate) single_thread: bool,

    /// Write a .png (the last picture) or a .gif (all of them)
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    /// Compare the last picture with a .png that --out has written, and fail if a pixel differs
    #[arg(long, value_name = "FILE", conflicts_with_all = ["sheet", "web", "hours"])]
    pub(crate) check: Option<PathBuf>,
    /// Show the same on every panel, in one .png with their names
    #[arg(long, value_name = "FILE", conflicts_with_all = ["out", "terminal", "panel", "bus_hz", "rotate", "mirror", "bgr", "invert"])]
    pub(crate) sheet: Option<PathBuf>,
    /// Draw into the terminal
    #[arg(long)]
    pub(crate) terminal: bool,

    /// Show the panel in a browser, with its buttons, until the program is stopped: a port of this machine, or an address that others
    /// reach
    #[arg(long, help_heading = LIVE, value_name = "PORT|ADDRESS:PORT", conflicts_with_all = ["out", "sheet", "terminal", "script", "frames", "walk_to", "hours", "fps"])]
    pub(crate) web: Option<Address>,
    /// What the page's address ends in, for whoever may see it: a page that others reach has to have one
    #[arg(long, help_heading = LIVE, value_name = "LETTERS", requires = "web")]
    pub(crate) web_token: Option<String>,
    /// Show the panel in a window, with keys for its buttons
    #[cfg(feature = "window")]
    #[arg(long, help_heading = LIVE, conflicts_with_all = ["out", "sheet", "terminal", "script", "frames", "walk_to", "hours", "fps", "web"])]
    pub(crate) window: bool,
    /// Run for so many hours of the panel's time, which takes no longer than the work in it, and tell what happened
    #[arg(long, help_heading = LIVE, value_name = "HOURS", value_parser = hours, conflicts_with_all = ["out", "sheet", "terminal", "script", "frames", "walk_to", "fps"])]
    pub(crate) hours: Option<f64>,
    /// What is shown meanwhile [default: gallery]
    #[arg(long, help_heading = LIVE, value_name = "walk|pictures|gallery|drift|still", value_parser = show)]
    pub(crate) show: Option<Show>,
    /// Faults of the panel's bus: of 10,000 bytes so many are lost, of 10,000 messages so many refused or 100 ms late, and the panel is
    /// gone from one millisecond to another, for example drop:5,nack:20,stall:1,gone:2000-5000
    #[arg(long, help_heading = LIVE, value_name = "FAULTS")]
    pub(crate) faults: Option<Faults>,
    /// Initialise the panel anew after so many seconds, as one on SPI cannot say that it has lost its power
    #[arg(long, help_heading = LIVE, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) renew: Option<u32>,
}

const LIVE: &str = "For a panel that stays";

fn hours(text: &str) -> Result<f64, String> {
    let hours = text.parse().ok().filter(|hours| *hours > 0.0 && *hours <= 10_000.0);
    hours.ok_or_else(|| "it takes a number of hours up to 10000".into())
}

fn show(text: &str) -> Result<Show, String> {
    match text {
        "walk" => Ok(Show::Walk),
        "pictures" => Ok(Show::Pictures),
        "gallery" => Ok(Show::Gallery),
        "drift" => Ok(Show::Drift),
        "still" => Ok(Show::Still),
        _ => Err("it takes walk, pictures, gallery, drift or still".into()),
    }
}

impl Arguments {
    /// Whether the panel stays in a window.
    pub(crate) fn in_window(&self) -> bool {
        #[cfg(feature = "window")]
        return self.window;
        #[cfg(not(feature = "window"))]
        false
    }

    /// How the panel is built in.
    pub(crate) fn mounting(&self) -> Mounting {
        Mounting { quarters: self.rotate, mirrored: self.mirror, bgr: self.bgr, inverted: self.invert }
    }
}

/// Quarters of a turn.
fn quarters(text: &str) -> Result<u8, String> {
    match text {
        "0" => Ok(0),
        "90" => Ok(1),
        "180" => Ok(2),
        "270" => Ok(3),
        _ => Err("it takes 0, 90, 180 or 270".into()),
    }
}
