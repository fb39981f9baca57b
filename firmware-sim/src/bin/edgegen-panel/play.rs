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
/// Before a panel that failed is opened again: at first, and at most.
const SHORTEST_WAIT: Duration = Duration::from_millis(250);
const LONGEST_WAIT: Duration = Duration::from_secs(8);

/// The colours of a panel.
type ColorOf<D> = <<D as Device>::Target as DrawTarget>::Color;

/// Opens the panel and lets the player draw on it, until the player has done what it should or the panel fails.
pub(crate) trait Open {
    /// Does it.
    fn open(&self, player: &mut Player<'_, '_>) -> Result<()>;
}

/// Shows pictures until a signal comes, or `most` have been shown. A panel that fails before it has shown one is an error; later it is
/// opened again and again, while the generator goes on.
pub(crate) fn play(
    source: ModelGenerator,
    panel: &impl Open,
    config: &Config,
    most: Option<u64>,
) -> Result<()> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&stop)).context("signals cannot be caught")?;
    }
    let mut memory = vec![0u8; BUFFERS * source.shape().bytes()];
    let mut link = Link::<SLOTS>::new();
    let mut player = Player::new(source, (&mut link, &mut memory), config, (most, stop))?;
    let mut wait = SHORTEST_WAIT;
    loop {
        let before = player.shown;
        let error = match panel.open(&mut player) {
            Ok(()) => return Ok(()),
            Err(error) if player.shown == 0 => return Err(error),
            Err(error) => error,
        };
        // one that came back begins anew
        wait = if player.shown > before { SHORTEST_WAIT } else { (2 * wait).min(LONGEST_WAIT) };
        if player.shown > before || player.told.as_ref() != Some(&error.to_string()) {
            eprintln!("{error:#}; trying again");
            player.told = Some(error.to_string());
        }
        if !player.is_kept_waiting(wait) {
            player.systemd.stopping();
            return Ok(());
        }
    }
}

/// The two tasks, and what is to be done.
pub(crate) struct Player<'link, 'buffer> {
    generator: GeneratorTask<'link, 'buffer, ModelGenerator>,
    display: DisplayTask<'link, 'buffer, { LONGEST_SIDE as usize }>,
    config: &'link Config,
    watch: Watch,
    systemd: Systemd,
    stop: Arc<AtomicBool>,
    most: Option<u64>,
    shown: u64,
    due: Instant,
    /// Why the panel failed last.
    told: Option<String>,
    begun: bool,
}

impl<'link, 'buffer> Player<'link, 'buffer> {
    fn new(
        source: ModelGenerator,
        (link, memory): (&'link mut Link<'buffer, SLOTS>, &'buffer mut [u8]),
        config: &'link Config,
        (most, stop): (Option<u64>, Arc<AtomicBool>),
    ) -> Result<Self> {
        let bytes = source.shape().bytes();
        let (generator_end, display_end) = link.split(memory.chunks_exact_mut(bytes))?;
        let settings = GeneratorSettings { seed: config.seed, tiles: 1, steps: config.steps };
        Ok(Self {
            generator: GeneratorTask::new(source, generator_end, settings)?,
            display: DisplayTask::new(display_end, DisplaySettings::default()),
            config,
            watch: Watch::new(config),
            systemd: Systemd::new(),
            stop,
            most,
            shown: 0,
            due: Instant::now(),
            told: None,
            begun: false,
        })
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Waits without a panel; whether it should go on.
    fn is_kept_waiting(&mut self, time: Duration) -> bool {
        let end = Instant::now() + time;
        while Instant::now() < end && !self.is_stopped() {
            self.systemd.pet();
            thread::sleep(NAP);
        }
        !self.is_stopped()
    }

    /// Draws on a panel that was just opened.
    ///
    /// # Errors
    /// The panel's, or the generator's.
    pub(crate) fn draw_on(&mut self, mut panel: impl Device) -> Result<()> {
        self.prepare(&mut panel);
        while !self.is_stopped() && self.most.is_none_or(|most| self.shown < most) {
            let now = Instant::now();
            if now < self.due {
                self.systemd.pet();
                thread::sleep(NAP.min(self.due - now));
                continue;
            }
            if let Some(new) = self.watch.replacement(self.config, self.generator.generator()) {
                // of the same shape it always fits
                let _refused = self.generator.replace(new);
            }
            self.generator.poll()?;
            if self.display.poll(panel.target()).map_err(|error| anyhow::anyhow!("{error}"))?.is_none() {
                continue;
            }
            panel.flush()?;
            self.shown += 1;
            self.systemd.shown();
            // a step of a walk has its time from the last one; a picture stays its whole pause
            self.due = match self.generator.state() {
                State::Walk(_) => (self.due + self.config.step).max(Instant::now()),
                State::Hold(_) => {
                    self.generator.press(Button::Next);
                    Instant::now() + self.config.pause
                }
                _ => self.due,
            };
        }
        self.systemd.stopping();
        blank(&mut panel)
    }

    /// Suits the tasks to the panel.
    fn prepare<D: Device>(&mut self, panel: &mut D) {
        let config = self.config;
        let one_colour = <ColorOf<D> as PanelColor>::CHANNELS == 1;
        self.display.restart();
        self.display.set(DisplaySettings {
            dither: config.dither.unwrap_or(if one_colour { Dither::Atkinson } else { Dither::Bayer }),
            scaling: config.scaling.unwrap_or(if one_colour { Scaling::Pixels } else { Scaling::Fill }),
            caption: config.caption,
        });
        self.due = Instant::now();
        if std::mem::replace(&mut self.begun, true) {
            return;
        }
        let shape = self.generator.generator().shape();
        self.generator.set_tiles(Grid::for_panel(panel.target().bounding_box().size, shape).tiles());
        self.generator.press(match config.show {
            Show::Walk => Button::Walk,
            Show::Pictures => Button::Next,
            Show::Gallery => Button::Select,
        });
    }
}

/// Leaves nothing on a panel.
fn blank<D: Device>(panel: &mut D) -> Result<()> {
    let paper = <ColorOf<D> as PanelColor>::PAPER;
    panel.target().clear(paper).map_err(|error| anyhow::anyhow!("the panel cannot be blanked: {error:?}"))?;
    Ok(panel.flush()?)
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

#[cfg(test)]
mod tests {
    use super::*;
    use edgegen_firmware_sim::panel::{DeviceError, Observed, Ssd1306Device};
    use ssd1306::prelude::{DisplayRotation, DisplaySize128x64};
    use std::cell::Cell;

    /// A panel that fails in every third flush, and cannot be opened in every second try.
    struct Flaky {
        flushes: Cell<u32>,
        tries: Cell<u32>,
        lit: Cell<usize>,
    }

    struct Part<'a> {
        panel: Ssd1306Device<DisplaySize128x64>,
        flaky: &'a Flaky,
    }

    impl Device for Part<'_> {
        type Target = <Ssd1306Device<DisplaySize128x64> as Device>::Target;

        fn target(&mut self) -> &mut Self::Target {
            self.panel.target()
        }

        fn flush(&mut self) -> Result<(), DeviceError> {
            self.flaky.flushes.set(self.flaky.flushes.get() + 1);
            if self.flaky.flushes.get().is_multiple_of(3) {
                return Err(DeviceError::new("flaky", "no acknowledgement"));
            }
            self.panel.flush()?;
            let lit = self.panel.picture().rgb().iter().filter(|level| **level > 0).count();
            self.flaky.lit.set(lit);
            Ok(())
        }
    }

    impl Open for Flaky {
        fn open(&self, player: &mut Player<'_, '_>) -> Result<()> {
            self.tries.set(self.tries.get() + 1);
            if self.tries.get().is_multiple_of(2) {
                anyhow::bail!("it is not there");
            }
            let panel = Ssd1306Device::open(DisplaySize128x64, 400_000, DisplayRotation::Rotate0)?;
            player.draw_on(Part { panel, flaky: self })
        }
    }

    fn config(folder: &std::path::Path) -> Config {
        let model = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/mnist-vae2");
        let file = folder.join("edgegen.toml");
        let text = format!("model = {:?}\nprecision = \"int8\"\nfps = 1000\n", model.display().to_string());
        std::fs::write(&file, text).unwrap();
        Config::read(&file).unwrap()
    }

    #[test]
    fn a_panel_that_fails_is_opened_again() {
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path());
        let flaky = Flaky { flushes: Cell::new(0), tries: Cell::new(0), lit: Cell::new(1) };
        let (source, _) = crate::source::open(&config).unwrap();
        play(source, &flaky, &config, Some(7)).unwrap();
        // two pictures a time, then a failure, then one try in vain; the last flush blanks
        assert_eq!((flaky.flushes.get(), flaky.tries.get(), flaky.lit.get()), (11, 7, 0));
    }

    #[test]
    fn one_that_has_never_shown_a_picture_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path());
        let flaky = Flaky { flushes: Cell::new(2), tries: Cell::new(0), lit: Cell::new(1) };
        let (source, _) = crate::source::open(&config).unwrap();
        let error = play(source, &flaky, &config, Some(7)).unwrap_err().to_string();
        assert!(error.contains("no acknowledgement"), "{error}");
    }
}
