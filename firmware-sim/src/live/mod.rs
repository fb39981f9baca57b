//! The firmware's two tasks in one loop, in front of a panel that stays: for as long as its host wants, through faults, with a user at
//! its buttons.
//!
//! [`play`] opens the panel and shows pictures; a panel that fails is opened again and again, with longer and longer waits, while the
//! generator goes on. What a user does comes in as [`Control`]s from anywhere: pins, a script, a browser. Time is the host's: a board's
//! clock, or a rig's, in which a day takes seconds.

mod mirror;
mod player;
mod time;

pub use mirror::Mirrored;
pub use player::{Ended, Player, play};
pub use time::{SystemTime, Time};

use std::time::Duration;

use anyhow::Result;
use edgegen_firmware::{Button, Dither, Scaling, Shown, State};
use serde::Deserialize;

use crate::generator::Source;
use crate::picture::Picture;

/// What is shown while nobody presses anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Show {
    /// From seed to seed, step by step.
    Walk,
    /// One seed's picture, then the next one's.
    Pictures,
    /// One seed's gallery, then the next one's.
    Gallery,
    /// A gallery whose pictures walk from seed to seed.
    Drift,
    /// One picture, until a button is pressed or a knob turned.
    Still,
}

/// How it is shown.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What.
    pub show: Show,
    /// The first seed.
    pub seed: u64,
    /// Time of a step of a walk, at least.
    pub step: Duration,
    /// Pictures from seed to seed.
    pub steps: u32,
    /// How long a picture or a gallery stays.
    pub pause: Duration,
    /// How pictures grow; `None`: as suits the panel.
    pub scaling: Option<Scaling>,
    /// How values between the panel's levels are shown; `None`: as suits the panel.
    pub dither: Option<Dither>,
    /// Whether captions are written.
    pub caption: bool,
    /// Whether the glass is a circle.
    pub round: bool,
    /// How often the panel is initialised anew, as one on SPI cannot say that it has lost its power; `None`: never.
    pub renew: Option<Duration>,
}

/// What a user asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum Control {
    /// A button.
    Press(Button),
    /// Pictures of this class, by name or number, or of each in turn.
    Class(Option<String>),
    /// What latents are multiplied by.
    Truncation(f32),
    /// A value of the latent that stands for every seed's first one.
    Latent(usize, f32),
    /// Seeds count again.
    Seeds,
    /// What is shown, of this seed.
    Seed(u64),
}

/// What has just been shown.
pub struct News<'a> {
    /// Which picture, and where.
    pub shown: Shown,
    /// What the device is doing.
    pub state: State,
    /// What makes the pictures.
    pub source: &'a Source,
    /// How long the picture took to be made.
    pub making: Duration,
    /// How long it took to be painted and sent.
    pub showing: Duration,
    /// What a viewer sees, if the panel can tell.
    pub picture: Option<Picture>,
}

/// Who keeps the loop going.
pub trait Host {
    /// Whether to go on; asked many times a second.
    fn goes_on(&mut self) -> bool;

    /// What a user has asked for since.
    fn next_control(&mut self) -> Option<Control> {
        None
    }

    /// Another model, if there is one.
    fn replacement(&mut self, old: &Source) -> Option<Source> {
        let _ = old;
        None
    }

    /// A picture is on the panel.
    fn shown(&mut self, news: &News<'_>);

    /// What a user asked for cannot be done.
    fn refused(&mut self, reason: &str) {
        let _ = reason;
    }

    /// The panel failed, or a picture could not be made; it is tried again.
    fn failed(&mut self, error: &anyhow::Error);
}

/// Opens the panel and lets the player draw on it, until the player has done what it should or the panel fails.
pub trait Open<H> {
    /// Does it.
    ///
    /// # Errors
    /// The panel's, or the player's.
    fn open(&self, player: &mut Player<'_, '_, H>) -> Result<Ended>;
}
