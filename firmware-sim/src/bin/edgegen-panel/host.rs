//! Who keeps the show going: signals, systemd, buttons, the page, and the model's files.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use edgegen_firmware::State;
use edgegen_firmware_sim::generator::Source;
use edgegen_firmware_sim::live::{Control, Host, News};
use edgegen_firmware_sim::web::Operated;
use embedded_graphics::geometry::Size;
use sd_notify::NotifyState;
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::config::Config;
use crate::inputs::{Gpio, Inputs};
use crate::source::Watch;

/// A board.
pub(crate) struct Board<'a> {
    config: &'a Config,
    /// Of the panel.
    room: Size,
    watch: Watch,
    systemd: Systemd,
    stop: Arc<AtomicBool>,
    /// Pictures to be shown, and those that were.
    most: Option<u64>,
    shown: u64,
    gpio: Gpio,
    inputs: Inputs,
    /// What the device was doing when it was last heard of.
    state: State,
    operated: Option<Operated>,
}

impl<'a> Board<'a> {
    /// Catches signals from now on.
    ///
    /// # Errors
    /// If they cannot be caught.
    pub(crate) fn new(
        config: &'a Config,
        room: Size,
        most: Option<u64>,
        gpio: Gpio,
        operated: Option<Operated>,
    ) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            signal_hook::flag::register(signal, Arc::clone(&stop)).context("signals cannot be caught")?;
        }
        Ok(Self {
            config,
            room,
            watch: Watch::new(config),
            systemd: Systemd::new(),
            stop,
            most,
            shown: 0,
            gpio,
            inputs: Inputs::new(&config.inputs),
            state: State::Idle { seed: config.settings.seed },
            operated,
        })
    }
}

impl Host for Board<'_> {
    fn goes_on(&mut self) -> bool {
        self.systemd.pet();
        let on = !self.stop.load(Ordering::Relaxed) && self.most.is_none_or(|most| self.shown < most);
        if !on {
            self.systemd.stopping();
        }
        on
    }

    fn next_control(&mut self) -> Option<Control> {
        for change in self.gpio.changes() {
            self.inputs.change(change, self.state);
        }
        self.inputs.look(self.gpio.now_ms(), self.state);
        match self.inputs.next() {
            Some(button) => Some(Control::Press(button)),
            None => self.operated.as_mut()?.next_control(),
        }
    }

    fn replacement(&mut self, old: &Source) -> Option<Source> {
        let chosen = self.operated.as_mut().and_then(|operated| operated.replacement(old));
        chosen.or_else(|| self.watch.replacement(self.config, self.room, old))
    }

    fn shown(&mut self, news: &News<'_>) {
        self.shown += 1;
        self.state = news.state;
        self.systemd.shown();
        if let Some(operated) = &self.operated {
            operated.shown(news);
        }
    }

    fn refused(&mut self, reason: &str) {
        if let Some(operated) = &self.operated {
            operated.say(reason);
        }
    }

    fn failed(&mut self, error: &anyhow::Error) {
        eprintln!("{error:#}; trying again");
        self.refused(&format!("{error:#}; trying again"));
    }
}

/// What systemd is told (sd_notify(3)); nothing where it did not start the program.
struct Systemd {
    ready: bool,
    stopping: bool,
    /// How often the watchdog wants to hear something, halved.
    every: Option<Duration>,
    told: Instant,
}

impl Systemd {
    fn new() -> Self {
        let every = sd_notify::watchdog_enabled().map(|time| time / 2);
        Self { ready: false, stopping: false, every, told: Instant::now() }
    }

    fn tell(state: &[NotifyState<'_>]) {
        // a service manager that does not listen is no reason to stop
        let _ = sd_notify::notify(state);
    }

    /// A picture is on the panel.
    fn shown(&mut self) {
        if !std::mem::replace(&mut self.ready, true) {
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

    fn stopping(&mut self) {
        if !std::mem::replace(&mut self.stopping, true) {
            Self::tell(&[NotifyState::Stopping]);
        }
    }
}
