//! The loop.

use std::time::Duration;

use anyhow::{Result, anyhow};
use edgegen_firmware::states::Held;
use edgegen_firmware::{
    Button, DisplaySettings, DisplayTask, Dither, Generator, GeneratorSettings, GeneratorTask, Link,
    PanelColor, Progress, Scaling, State, View,
};
use embedded_graphics::prelude::*;

use super::{Control, Host, News, Open, Settings, Show, Time};
use crate::generator::Source;
use crate::panel::framebuffer::LONGEST_SIDE;
use crate::panel::open::With;
use crate::panel::{Device, Mounting};

/// Frame buffers: one being filled, one being shown.
const BUFFERS: usize = 2;
/// Queues hold one less than their slots.
const SLOTS: usize = BUFFERS + 1;
/// How long the loop sleeps at most before it asks its host.
const NAP: Duration = Duration::from_millis(20);
/// Before a panel that failed is opened again: at first, and at most.
const SHORTEST_WAIT: Duration = Duration::from_millis(250);
const LONGEST_WAIT: Duration = Duration::from_secs(8);
/// How often a panel that has never shown anything is opened.
const FIRST_TRIES: u32 = 4;
/// Before a picture that could not be read is read again.
const READ_AGAIN: Duration = Duration::from_secs(1);
/// The show goes on if nobody has pressed anything for so long, and what is shown rests.
const LEFT_ALONE: Duration = Duration::from_secs(60);

/// The colours of a panel.
type ColorOf<D> = <<D as Device>::Target as DrawTarget>::Color;

/// Why drawing on a panel ended, if nothing failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The host wants no more; the panel is blank.
    Done,
    /// The panel is to be initialised anew.
    Renew,
}

/// Shows pictures for as long as the host wants. A panel that fails a few times before it has shown one is an error; later it is opened
/// again and again, while the generator goes on.
///
/// # Errors
/// That of a panel that never showed anything, and a model's.
pub fn play<H: Host>(
    source: Source,
    panel: &impl Open<H>,
    settings: &Settings,
    time: &dyn Time,
    host: &mut H,
) -> Result<()> {
    let mut memory = vec![0u8; BUFFERS * source.shape().bytes()];
    let mut link = Link::<SLOTS>::new();
    let (generator_end, display_end) = link.split(memory.chunks_exact_mut(source.shape().bytes()))?;
    let tasks = GeneratorSettings { seed: settings.seed, tiles: 1, steps: settings.steps };
    let mut player = Player {
        generator: GeneratorTask::new(source, generator_end, tasks)?,
        display: DisplayTask::new(display_end, DisplaySettings::default()),
        tiles: 1,
        settings,
        time,
        host,
        shown: 0,
        due: time.now(),
        user_until: None,
        told: None,
        begun: false,
    };
    let mut wait = SHORTEST_WAIT;
    let mut told = None;
    let mut tries = 0;
    loop {
        let before = player.shown;
        let error = match panel.open(&mut player) {
            Ok(Ended::Done) => return Ok(()),
            Ok(Ended::Renew) => continue,
            Err(error) if player.shown == 0 => {
                tries += 1;
                if tries == FIRST_TRIES {
                    return Err(error);
                }
                if !player.is_kept_waiting(SHORTEST_WAIT) {
                    return Ok(());
                }
                continue;
            }
            Err(error) => error,
        };
        // one that came back begins anew
        wait = if player.shown > before { SHORTEST_WAIT } else { (2 * wait).min(LONGEST_WAIT) };
        if player.shown > before || told.as_ref() != Some(&error.to_string()) {
            player.host.failed(&error);
            told = Some(error.to_string());
        }
        if !player.is_kept_waiting(wait) {
            return Ok(());
        }
    }
}

/// The two tasks, and what is to be done.
pub struct Player<'link, 'buffer, H> {
    generator: GeneratorTask<'link, 'buffer, Source>,
    display: DisplayTask<'link, 'buffer, { LONGEST_SIDE as usize }>,
    /// Pictures in a gallery.
    tiles: u32,
    settings: &'link Settings,
    time: &'link dyn Time,
    host: &'link mut H,
    shown: u64,
    /// When the next picture is.
    due: Duration,
    /// Until when a user has the say.
    user_until: Option<Duration>,
    /// Why a picture could not be made.
    told: Option<String>,
    begun: bool,
}

impl<H: Host> With for &mut Player<'_, '_, H> {
    type Output = Result<Ended>;

    fn with<D: Device>(self, device: D) -> Result<Ended> {
        self.draw_on(device)
    }
}

impl<H: Host> Player<'_, '_, H> {
    /// Waits without a panel; whether it should go on.
    fn is_kept_waiting(&mut self, time: Duration) -> bool {
        let end = self.time.now() + time;
        while self.time.now() < end {
            if !self.host.goes_on() {
                return false;
            }
            self.take_controls();
            self.time.sleep(NAP);
        }
        self.host.goes_on()
    }

    /// Draws on a panel that was just opened.
    ///
    /// # Errors
    /// The panel's, or the model's.
    pub fn draw_on(&mut self, mut panel: impl Device) -> Result<Ended> {
        self.prepare(&mut panel);
        let opened = self.time.now();
        while self.host.goes_on() {
            self.take_controls();
            let now = self.time.now();
            if self.settings.renew.is_some_and(|renew| now - opened >= renew) {
                return Ok(Ended::Renew);
            }
            if let Some(new) = self.host.replacement(self.generator.generator()) {
                // of the same shape it always fits
                let _refused = self.generator.replace(new);
                self.again();
                self.due = now;
            }
            if now < self.due {
                self.time.sleep(NAP.min(self.due - now));
                continue;
            }
            let progress = match self.generator.poll() {
                Ok(progress) => progress,
                Err(error) if self.generator.generator().model().is_none() => {
                    // once, however often it is tried
                    let reason = error.to_string();
                    if self.told.as_ref() != Some(&reason) {
                        self.host.failed(&anyhow!(error));
                        self.told = Some(reason);
                    }
                    self.due = now + READ_AGAIN;
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            let made = self.time.now();
            let shown = self.display.poll(panel.target()).map_err(|error| anyhow!("{error}"))?;
            let Some(shown) = shown else {
                if progress == Progress::AtRest {
                    self.rest(now);
                }
                continue;
            };
            let last = !matches!(shown.view, View::Tile { tile } if tile + 1 < self.tiles);
            if last || !panel.is_slow() {
                panel.flush()?;
            }
            self.shown += 1;
            self.told = None;
            let news = News {
                shown,
                state: self.generator.state(),
                source: self.generator.generator(),
                making: made - now,
                showing: self.time.now() - made,
                picture: panel.seen(),
            };
            self.host.shown(&news);
            // a step of a walk has its time from the last one; a picture stays its whole pause
            self.due = match self.generator.state() {
                State::Walk(_) | State::Drift(_, 0) => (self.due + self.settings.step).max(self.time.now()),
                State::Hold(_) => self.time.now() + self.settings.pause,
                _ => self.due,
            };
        }
        blank(&mut panel)?;
        Ok(Ended::Done)
    }

    /// Nothing is due: the show goes on by itself, if nobody has the say.
    fn rest(&mut self, now: Duration) {
        let user = self.user_until.is_some_and(|until| now < until);
        let state = self.generator.state();
        let stays = self.settings.show == Show::Still || matches!(state, State::Idle { .. });
        if user || stays {
            self.time.sleep(NAP);
            return;
        }
        self.user_until = None;
        self.generator.press(match (self.settings.show, state) {
            // a user stopped it and went away
            (Show::Walk | Show::Drift, State::Hold(Held::Walk(_) | Held::Drift(..))) => Button::Walk,
            (Show::Walk, _) => Button::Walk,
            (Show::Drift, State::Hold(Held::Gallery { .. })) => Button::Walk,
            (Show::Drift, _) => Button::Select,
            _ => Button::Next,
        });
    }

    /// Does what a user has asked for.
    fn take_controls(&mut self) {
        while let Some(control) = self.host.next_control() {
            let seed = self.generator.state().seed();
            self.due = self.time.now();
            self.user_until = Some(self.due + LEFT_ALONE.max(self.settings.pause));
            match control {
                Control::Press(button) => {
                    self.generator.press(button);
                    continue;
                }
                Control::Seed(seed) => {
                    self.generator.show(seed);
                    continue;
                }
                _ => {}
            }
            let Some(model) = self.generator.generator_mut().model_mut() else {
                self.host.refused("only a model that draws has latents and classes");
                continue;
            };
            let done = match control {
                Control::Class(class) => model.set_class(class.as_deref()),
                Control::Truncation(truncation) => {
                    model.set_truncation(truncation);
                    Ok(())
                }
                Control::Latent(index, value) => {
                    model.set_latent(seed, index, value);
                    Ok(())
                }
                Control::Seeds => {
                    model.forget_latent();
                    Ok(())
                }
                Control::Press(_) | Control::Seed(_) => Ok(()),
            };
            match done {
                Ok(()) => self.again(),
                Err(error) => self.host.refused(&error.to_string()),
            }
        }
    }

    /// Shows the same anew, unless the panel is blank because nothing is to be seen.
    fn again(&mut self) {
        let state = self.generator.state();
        if !matches!(state, State::Idle { .. } | State::Clear { .. }) {
            self.generator.show(state.seed());
        }
    }

    /// Suits the tasks to the panel.
    fn prepare<D: Device>(&mut self, panel: &mut D) {
        let settings = self.settings;
        let one_colour = <ColorOf<D> as PanelColor>::CHANNELS == 1;
        let display = DisplaySettings {
            dither: settings.dither.unwrap_or(if one_colour { Dither::Atkinson } else { Dither::Bayer }),
            scaling: settings.scaling.unwrap_or(if one_colour { Scaling::Pixels } else { Scaling::Fill }),
            caption: settings.caption,
            round: settings.round,
        };
        self.display.restart();
        self.display.set(display);
        self.due = self.time.now();
        if std::mem::replace(&mut self.begun, true) {
            self.again();
            return;
        }
        let shape = self.generator.generator().shape();
        self.tiles = display.grid(panel.target().bounding_box().size, shape).tiles();
        self.generator.set_tiles(self.tiles);
        self.generator.press(match settings.show {
            Show::Walk => Button::Walk,
            Show::Pictures | Show::Still => Button::Next,
            Show::Gallery | Show::Drift => Button::Select,
        });
        if settings.show == Show::Drift {
            self.generator.press(Button::Walk);
        }
    }
}

/// Leaves nothing on a panel.
fn blank<D: Device>(panel: &mut D) -> Result<()> {
    let paper = <ColorOf<D> as PanelColor>::PAPER;
    panel.target().clear(paper).map_err(|error| anyhow!("the panel cannot be blanked: {error:?}"))?;
    Ok(panel.flush()?)
}

/// A virtual panel on a rig is opened as it is mounted.
impl<H: Host> Open<H> for (&crate::panel::Rig, Mounting) {
    fn open(&self, player: &mut Player<'_, '_, H>) -> Result<Ended> {
        self.0.open(self.1, OnRig(player))?
    }
}

struct OnRig<'a, 'link, 'buffer, H>(&'a mut Player<'link, 'buffer, H>);

impl<H: Host> crate::panel::Visit for OnRig<'_, '_, '_, H> {
    type Output = Result<Ended>;

    fn visit<D: crate::panel::Observed>(self, device: &mut D) -> Result<Ended> {
        self.0.draw_on(Seen(device))
    }
}

/// A panel that can be looked at.
struct Seen<'a, D>(&'a mut D);

impl<D: crate::panel::Observed> Device for Seen<'_, D> {
    type Target = D::Target;

    fn target(&mut self) -> &mut D::Target {
        self.0.target()
    }

    fn flush(&mut self) -> Result<(), crate::panel::DeviceError> {
        self.0.flush()
    }

    fn is_slow(&self) -> bool {
        self.0.is_slow()
    }

    fn seen(&self) -> Option<crate::picture::Picture> {
        Some(self.0.picture())
    }
}
