//! A panel that stays: through faults of its bus, with a user at its buttons, for a day of its time.

mod common;

use std::collections::VecDeque;
use std::path::Path;
use std::time::Duration;

use common::sim_ok;
use edgegen_firmware::{Button, State, View};
use edgegen_firmware_sim::generator::{Opening, Source};
use edgegen_firmware_sim::live::{self, Control, Host, News, Settings, Show, Time};
use edgegen_firmware_sim::panel::{Faults, Mounting, Panel, Rig};
use edgegen_firmware_sim::picture::Picture;
use embedded_graphics::geometry::Size;

fn source() -> Source {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/mnist-vae2");
    let opening = Opening {
        model: &model,
        part: None,
        precision: None,
        options: Default::default(),
        class: None,
        pictures: None,
        explore: false,
        room: Size::new(1, 1),
    };
    opening.open().unwrap().0
}

fn settings(show: Show) -> Settings {
    Settings {
        show,
        seed: 3,
        step: Duration::from_millis(100),
        steps: 8,
        pause: Duration::from_secs(10),
        scaling: None,
        dither: None,
        caption: false,
        round: false,
        renew: None,
    }
}

/// Runs for some time on the rig's clock, with a user who does something at times.
struct Watcher<'a> {
    rig: &'a Rig,
    until: Duration,
    user: VecDeque<(Duration, Control)>,
    /// When pictures came, and what the device was doing then.
    pictures: Vec<(Duration, State)>,
    failures: Vec<String>,
    refused: Vec<String>,
    /// What the panel showed before it was blanked.
    last: Option<Picture>,
}

impl<'a> Watcher<'a> {
    fn new(rig: &'a Rig, seconds: u64) -> Self {
        Self {
            rig,
            until: Duration::from_secs(seconds),
            user: VecDeque::new(),
            pictures: Vec::new(),
            failures: Vec::new(),
            refused: Vec::new(),
            last: None,
        }
    }

    /// The longest time between two pictures, in seconds.
    fn longest(&self) -> f64 {
        let gaps = self.pictures.windows(2).map(|pair| pair[1].0 - pair[0].0);
        gaps.max().unwrap_or_default().as_secs_f64()
    }

    /// What the device was doing at a time.
    fn state_at(&self, seconds: f64) -> State {
        let before = |(time, _): &&(Duration, State)| time.as_secs_f64() <= seconds;
        self.pictures.iter().rev().find(before).unwrap().1
    }
}

impl Host for Watcher<'_> {
    fn goes_on(&mut self) -> bool {
        let on = Time::now(self.rig.clock()) < self.until;
        if !on && self.last.is_none() {
            self.last = Some(self.rig.picture());
        }
        on
    }

    fn next_control(&mut self) -> Option<Control> {
        let due = self.user.front().is_some_and(|(at, _)| *at <= Time::now(self.rig.clock()));
        due.then(|| self.user.pop_front()).flatten().map(|(_, control)| control)
    }

    fn shown(&mut self, news: &News<'_>) {
        assert!(
            news.picture.is_some() && news.shown.view != View::Blank
                || matches!(news.state, State::Idle { .. })
        );
        self.pictures.push((Time::now(self.rig.clock()), news.state));
    }

    fn refused(&mut self, reason: &str) {
        self.refused.push(reason.to_owned());
    }

    fn failed(&mut self, error: &anyhow::Error) {
        self.failures.push(error.to_string());
    }
}

/// Pictures for some seconds on a panel with these faults.
fn run<'a>(rig: &'a Rig, seconds: u64, settings: &Settings) -> Watcher<'a> {
    let mut watcher = Watcher::new(rig, seconds);
    live::play(source(), &(rig, Mounting::default()), settings, rig.clock(), &mut watcher).unwrap();
    watcher
}

fn rig(panel: &str, faults: &str) -> Rig {
    let panel = Panel::named(panel).unwrap();
    let faults = if faults.is_empty() { Faults::default() } else { faults.parse().unwrap() };
    Rig::new(panel, panel.hertz, faults)
}

const PANELS: [&str; 5] = ["st7789", "ssd1351", "ssd1306", "sh1106", "epd2in9"];

#[test]
fn a_message_that_is_refused_costs_a_new_start_and_no_pixel() {
    for name in PANELS {
        // a picture of a TFT is hundreds of messages, one of an OLED a few
        let often = match name {
            "st7789" => "nack:10",
            "ssd1351" => "nack:30",
            _ => "nack:100",
        };
        let (clean, faulty) = (rig(name, ""), rig(name, often));
        let shown = run(&clean, 300, &settings(Show::Pictures));
        let survived = run(&faulty, 300, &settings(Show::Pictures));
        assert!(shown.failures.is_empty() && !survived.failures.is_empty(), "{name}: no fault struck");
        let reason = &survived.failures[0];
        assert!(reason.contains("Refused") || reason.contains("BusWriteError"), "{name}: {reason}");
        assert!(faulty.struck().refused > 0 && survived.pictures.len() > 10, "{name}: {}", faulty.struck());
    }
}

#[test]
fn a_panel_on_i2c_that_was_gone_shows_the_same_again() {
    for name in ["ssd1306", "ssd1306-128x32", "sh1106"] {
        let (clean, faulty) = (rig(name, ""), rig(name, "gone:25000-63000"));
        let shown = run(&clean, 120, &settings(Show::Still));
        let survived = run(&faulty, 120, &settings(Show::Still));
        // a still picture is sent once: nobody notices until something else is to be sent
        assert_eq!(survived.pictures.len(), shown.pictures.len(), "{name}");
        let faulty = rig(name, "gone:25000-63000");
        let survived = run(&faulty, 320, &settings(Show::Pictures));
        assert_eq!(faulty.struck().returned, 1, "{name}");
        assert!(
            !survived.failures.is_empty() && survived.failures.len() <= 2,
            "{name}: told once: {:?}",
            survived.failures
        );
        // the last picture was at 20 s, and tries are eight seconds apart at most
        assert!((38.0..52.0).contains(&survived.longest()), "{name}: {}", survived.longest());
        let lit = |picture: &Option<Picture>| picture.as_ref().unwrap().rgb().iter().any(|level| *level > 0);
        assert!(lit(&survived.last), "{name}");
    }
}

#[test]
fn a_panel_on_spi_that_lost_its_power_is_right_after_the_next_renewal() {
    for name in ["st7789", "ssd1351", "epd2in9"] {
        let faulty = rig(name, "gone:100000-130000");
        let renewed = Settings { renew: Some(Duration::from_secs(60)), ..settings(Show::Pictures) };
        let survived = run(&faulty, 300, &renewed);
        assert!(survived.failures.is_empty(), "{name}: nothing on SPI says that it was heard");
        let clean = rig(name, "");
        let shown = run(&clean, 300, &renewed);
        assert_eq!(faulty.struck().returned, 1);
        let lit = |picture: &Option<Picture>| picture.as_ref().unwrap().rgb().iter().any(|level| *level > 0);
        assert!(lit(&survived.last) && lit(&shown.last), "{name}");
        assert!(survived.last == shown.last, "{name}: what is shown in the end is what should be");
        // without it the glass stays as it was
        let lost = rig(name, "gone:100000-130000");
        let without = run(&lost, 300, &settings(Show::Pictures));
        if name != "epd2in9" {
            assert!(without.last != shown.last, "{name}");
        }
    }
}

#[test]
fn bytes_that_get_lost_and_messages_that_stall_stop_nobody() {
    for name in PANELS {
        for faults in ["drop:50", "stall:200", "drop:20,stall:20,nack:5,gone:40000-50000,gone:90000-95000"] {
            let faulty = rig(name, faults);
            let renewed = Settings { renew: Some(Duration::from_secs(30)), ..settings(Show::Walk) };
            let survived = run(&faulty, 120, &renewed);
            assert!(survived.pictures.len() > 20, "{name} {faults}: {} pictures", survived.pictures.len());
        }
    }
}

#[test]
fn one_that_never_shows_anything_is_an_error() {
    let dead = rig("ssd1306", "gone:0-600000");
    let mut watcher = Watcher::new(&dead, 300);
    let played = live::play(
        source(),
        &(&dead, Mounting::default()),
        &settings(Show::Pictures),
        dead.clock(),
        &mut watcher,
    );
    assert!(played.unwrap_err().to_string().contains("SSD1306"));
    assert!(Time::now(dead.clock()) < Duration::from_secs(2), "after a few tries");
}

#[test]
fn a_user_has_the_say_until_the_panel_is_left_alone() {
    let rig = rig("st7789", "");
    let mut watcher = Watcher::new(&rig, 400);
    let at = Duration::from_secs;
    watcher.user.extend([
        (at(2), Control::Press(Button::Hold)),
        (at(20), Control::Seed(50)),
        (at(30), Control::Press(Button::Select)),
        (at(35), Control::Truncation(0.5)),
        (at(36), Control::Class(Some("3".into()))),
        (at(200), Control::Press(Button::Next)),
        (at(201), Control::Press(Button::Back)),
        (at(202), Control::Press(Button::Back)),
        (at(380), Control::Latent(0, 1.0)),
        (at(390), Control::Press(Button::Next)),
    ]);
    let played =
        live::play(source(), &(&rig, Mounting::default()), &settings(Show::Walk), rig.clock(), &mut watcher);
    played.unwrap();
    use edgegen_firmware::states::Held;
    assert!(
        matches!(watcher.state_at(19.0), State::Walk(_)) && watcher.state_at(19.0) == watcher.state_at(3.0),
        "held"
    );
    assert_eq!(watcher.state_at(29.0), State::Hold(Held::Picture { seed: 50 }));
    assert_eq!(watcher.state_at(60.0), State::Hold(Held::Gallery { seed: 50 }));
    assert_eq!(watcher.refused.len(), 1, "digits are not told a class: {:?}", watcher.refused);
    // a minute after the last press the walk goes on from there
    assert_eq!(watcher.state_at(94.0), State::Hold(Held::Gallery { seed: 50 }));
    assert!(matches!(watcher.state_at(98.0), State::Drift(..) | State::Walk(_)));
    // a panel that a user has blanked stays blank
    assert!(matches!(watcher.state_at(379.0), State::Idle { .. }), "{:?}", watcher.state_at(379.0));
    assert!(matches!(watcher.state_at(399.0), State::Hold(Held::Picture { .. })));
}

#[test]
fn shows_follow_their_own_pace() {
    let counts = |show| {
        let rig = rig("st7789", "");
        run(&rig, 61, &settings(show)).pictures.len()
    };
    assert_eq!(counts(Show::Still), 1);
    assert_eq!(counts(Show::Pictures), 7, "one at once, then every ten seconds");
    assert_eq!(counts(Show::Gallery), 7 * 16);
    // ten steps a second; the time of painting is part of it
    assert!((590..=612).contains(&counts(Show::Walk)), "{}", counts(Show::Walk));
    let drifting = counts(Show::Drift);
    assert!(drifting > 16 * 150, "{drifting}");
}

/// The last figure before a word in a line of the report.
fn figure(report: &str, line: &str, word: &str) -> i64 {
    let line = report.lines().find(|candidate| candidate.starts_with(line)).unwrap();
    let before = line.split(word).next().unwrap();
    before.split([' ', '(']).filter_map(|text| text.trim_start_matches('+').parse().ok()).next_back().unwrap()
}

#[test]
fn a_day_with_faults_takes_no_memory() {
    let folder = tempfile::tempdir().unwrap();
    let faults = "drop:2,nack:2,stall:5,gone:3600000-3700000,gone:40000000-43600000";
    let report = sim_ok(
        folder.path(),
        &["--panel", "ssd1306", "--hours", "24", "--show", "pictures", "--faults", faults, "--renew", "600"],
    );
    assert!(figure(&report, "time", " pictures") > 8_000, "{report}");
    assert!(figure(&report, "driver", " times") > 10, "{report}");
    assert_eq!(figure(&report, "faults", " times"), 2, "{report}");
    assert!(figure(&report, "memory", " kB since") <= 0, "{report}");
}
