//! The firmware's two tasks in one loop, in front of a panel.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use edgegen_firmware::{
    Button, DisplaySettings, DisplayTask, Dither, Generator, GeneratorSettings, GeneratorTask, Grid, Link,
    PanelColor, Scaling, State,
};
use edgegen_firmware_sim::generator::ModelGenerator;
use edgegen_firmware_sim::panel::Device;
use edgegen_firmware_sim::panel::framebuffer::LONGEST_SIDE;
use embedded_graphics::prelude::*;
use sd_notify::NotifyState;
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::config::{Config, Show};
use crate::source::Watch;

/// Frame buffers: one being filled, one being shown.
const BUFFERS: usize = 2;
/// Queues hold one less than their slots.
const SLOTS: usize = BUFFERS + 1;
/// How long the loop sleeps at most before it looks at signals and pets the watchdog.
const NAP: Duration = Duration::from_millis(50);

/// The colours of a panel.
type ColorOf<D> = <<D as Device>::Target as DrawTarget>::Color;

/// Shows pictures until a signal comes, or `most` have been shown.
pub(crate) fn play<D: Device>(
    source: ModelGenerator,
    mut panel: D,
    config: &Config,
    most: Option<u64>,
) -> Result<()> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&stop)).context("signals cannot be caught")?;
    }
    let bytes = source.shape().bytes();
    let mut memory = vec![0u8; BUFFERS * bytes];
    let mut link = Link::<SLOTS>::new();
    let (generator_end, display_end) = link.split(memory.chunks_exact_mut(bytes))?;
    let tiles = Grid::for_panel(panel.target().bounding_box().size, source.shape()).tiles();
    let settings = GeneratorSettings { seed: config.seed, tiles, steps: config.steps };
    let mut generator = GeneratorTask::new(source, generator_end, settings)?;
    let one_colour = <ColorOf<D> as PanelColor>::CHANNELS == 1;
    let mut display = DisplayTask::<{ LONGEST_SIDE as usize }>::new(
        display_end,
        DisplaySettings {
            dither: config.dither.unwrap_or(if one_colour { Dither::Atkinson } else { Dither::Bayer }),
            scaling: config.scaling.unwrap_or(if one_colour { Scaling::Pixels } else { Scaling::Fill }),
            caption: config.caption,
        },
    );
    let mut systemd = Systemd::new();
    let mut watch = Watch::new(config);
    generator.press(match config.show {
        Show::Walk => Button::Walk,
        Show::Pictures => Button::Next,
        Show::Gallery => Button::Select,
    });
    let mut shown = 0;
    let mut due = Instant::now();
    while !stop.load(Ordering::Relaxed) && most.is_none_or(|most| shown < most) {
        let now = Instant::now();
        if now < due {
            systemd.pet();
            thread::sleep(NAP.min(due - now));
            continue;
        }
        if let Some(new) = watch.replacement(config, generator.generator()) {
            // of the same shape it always fits
            let _refused = generator.replace(new);
        }
        generator.poll()?;
        if display.poll(panel.target()).map_err(|error| anyhow::anyhow!("{error}"))?.is_none() {
            continue;
        }
        panel.flush()?;
        shown += 1;
        systemd.shown();
        // a step of a walk has its time from the last one; a picture stays its whole pause
        due = match generator.state() {
            State::Walk(_) => (due + config.step).max(Instant::now()),
            State::Hold(_) => {
                generator.press(Button::Next);
                Instant::now() + config.pause
            }
            _ => due,
        };
    }
    systemd.stopping();
    let paper = <ColorOf<D> as PanelColor>::PAPER;
    panel.target().clear(paper).map_err(|error| anyhow::anyhow!("the panel cannot be blanked: {error:?}"))?;
    panel.flush()?;
    Ok(())
}

/// What systemd is told (sd_notify(3)); nothing where it did not start the program.
struct Systemd {
    ready: bool,
    /// How often the watchdog wants to hear something, halved.
    every: Option<Duration>,
    told: Instant,
}

impl Systemd {
    fn new() -> Self {
        Self { ready: false, every: sd_notify::watchdog_enabled().map(|time| time / 2), told: Instant::now() }
    }

    fn tell(state: &[NotifyState<'_>]) {
        // a service manager that does not listen is no reason to stop
        let _ = sd_notify::notify(state);
    }

    /// A picture is on the panel.
    fn shown(&mut self) {
        if !self.ready {
            self.ready = true;
            Self::tell(&[NotifyState::Ready]);
        }
        self.pet();
    }

    fn pet(&mut self) {
        if self.every.is_some_and(|every| self.told.elapsed() >= every) {
            self.told = Instant::now();
            Self::tell(&[NotifyState::Watchdog]);
        }
    }

    fn stopping(&self) {
        Self::tell(&[NotifyState::Stopping]);
    }
}
