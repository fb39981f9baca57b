//! Buttons and rotary encoders on the board's GPIO, through the kernel's character device.
//!
//! All of them close a contact between a line and ground; the lines are pulled up, and the kernel says when they change.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use edgegen_firmware::buttons::{first_button, second_button};
use edgegen_firmware::{Button, Debounce, Encoder, State};
use edgegen_runtime::measure::Root;
use gpiocdev::line::{Bias, EdgeDetection, EdgeKind};
use gpiocdev::request::Request;

/// What is wired to which line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Lines {
    /// The two push buttons that do everything, by short and long presses.
    pub(crate) buttons: Option<[u32; 2]>,
    /// Push buttons for one thing each.
    pub(crate) keys: Vec<(u32, Button)>,
    /// Both pins of the first and the second knob.
    pub(crate) encoders: [Option<[u32; 2]>; 2],
}

impl Lines {
    /// Every line that is used.
    pub(crate) fn all(&self) -> Vec<u32> {
        let pairs = self.buttons.iter().chain(self.encoders.iter().flatten()).flatten();
        pairs.copied().chain(self.keys.iter().map(|(line, _)| *line)).collect()
    }
}

/// A contact that has closed or opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    /// Of which line.
    pub(crate) line: u32,
    /// Whether it is closed now.
    pub(crate) closed: bool,
    /// When, milliseconds on a clock that may wrap round.
    pub(crate) at_ms: u32,
}

/// From changes to what they ask for.
pub(crate) struct Inputs {
    pairs: Vec<(u32, Debounce, bool)>,
    keys: Vec<(u32, Button, Debounce, bool)>,
    encoders: Vec<([u32; 2], u8, Encoder, [bool; 2])>,
    pressed: VecDeque<Button>,
}

impl Inputs {
    pub(crate) fn new(lines: &Lines) -> Self {
        let button = |line: &u32| (*line, Debounce::new(), false);
        let encoders = (0..)
            .zip(&lines.encoders)
            .filter_map(|(knob, pins)| Some((((*pins)?), knob, Encoder::new(), [false; 2])));
        Self {
            pairs: lines.buttons.iter().flatten().map(button).collect(),
            keys: lines.keys.iter().map(|(line, key)| (*line, *key, Debounce::new(), false)).collect(),
            encoders: encoders.collect(),
            pressed: VecDeque::new(),
        }
    }

    /// Takes a change of a line.
    pub(crate) fn change(&mut self, change: Change, state: State) {
        // what was so until now counts for as long as it was
        self.look(change.at_ms, state);
        for (line, _, closed) in &mut self.pairs {
            if *line == change.line {
                *closed = change.closed;
            }
        }
        for (line, _, _, closed) in &mut self.keys {
            if *line == change.line {
                *closed = change.closed;
            }
        }
        for (pins, knob, encoder, levels) in &mut self.encoders {
            let Some(pin) = pins.iter().position(|pin| *pin == change.line) else { continue };
            levels[pin] = change.closed;
            if let Some(clicks) = encoder.sample((levels[0], levels[1])) {
                self.pressed.push_back(Button::Turn { knob: *knob, clicks });
            }
        }
        self.look(change.at_ms, state);
    }

    /// Lets time pass.
    pub(crate) fn look(&mut self, now_ms: u32, state: State) {
        for (place, (_, debounce, closed)) in self.pairs.iter_mut().enumerate() {
            if let Some(press) = debounce.sample(*closed, now_ms) {
                let button = if place == 0 { first_button(press) } else { second_button(press, state) };
                self.pressed.push_back(button);
            }
        }
        for (_, key, debounce, closed) in &mut self.keys {
            // a key does one thing, however long it is held
            if debounce.sample(*closed, now_ms).is_some() {
                self.pressed.push_back(*key);
            }
        }
    }

    /// What was asked for first.
    pub(crate) fn next(&mut self) -> Option<Button> {
        self.pressed.pop_front()
    }
}

/// The lines of a board.
pub(crate) struct Gpio {
    request: Option<Request>,
    /// The kernel's time of the last change, and when it was heard of: the clock goes on from there.
    last: Option<(u32, Instant)>,
}

impl Gpio {
    /// Listens to these lines of a chip.
    ///
    /// # Errors
    /// If there is no such chip or line, or another program holds one.
    pub(crate) fn open(lines: &Lines, chip: &str, root: &Root) -> Result<Self> {
        let lines = lines.all();
        if lines.is_empty() {
            return Ok(Self { request: None, last: None });
        }
        let path = root.path(chip);
        let request = Request::builder()
            .on_chip(&path)
            .with_consumer("edgegen-panel")
            .with_lines(&lines)
            .as_input()
            .as_active_low()
            .with_bias(Bias::PullUp)
            .with_edge_detection(EdgeDetection::BothEdges)
            .request();
        let named = || format!("lines {lines:?} of {} cannot be listened to", path.display());
        Ok(Self { request: Some(request.with_context(named)?), last: None })
    }

    /// What has changed since.
    pub(crate) fn changes(&mut self) -> Vec<Change> {
        let mut changes = Vec::new();
        let Some(request) = &self.request else { return changes };
        // a line that cannot be read any more is as one that does not change
        while request.wait_edge_event(Duration::ZERO).unwrap_or(false) {
            let Ok(event) = request.read_edge_event() else { break };
            let at_ms = (event.timestamp_ns / 1_000_000) as u32;
            self.last = Some((at_ms, Instant::now()));
            changes.push(Change { line: event.offset, closed: event.kind == EdgeKind::Rising, at_ms });
        }
        changes
    }

    /// The time on the clock of the changes.
    pub(crate) fn now_ms(&self) -> u32 {
        self.last.map_or(0, |(at, heard)| at.wrapping_add(heard.elapsed().as_millis() as u32))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pressed(lines: &Lines, changes: &[(u32, bool, u32)], until: u32) -> Vec<Button> {
        let mut inputs = Inputs::new(lines);
        let state = State::Idle { seed: 0 };
        for (line, closed, at_ms) in changes {
            inputs.change(Change { line: *line, closed: *closed, at_ms: *at_ms }, state);
        }
        inputs.look(until, state);
        std::iter::from_fn(|| inputs.next()).collect()
    }

    #[test]
    fn presses_and_clicks_become_buttons() {
        let lines = Lines {
            buttons: Some([5, 6]),
            keys: vec![(13, Button::Back), (19, Button::Turn { knob: 1, clicks: -1 })],
            encoders: [Some([17, 27]), None],
        };
        assert_eq!(lines.all(), [5, 6, 17, 27, 13, 19]);
        let down = |line, at| [(line, true, at), (line, false, at + 100)];
        assert_eq!(pressed(&lines, &down(5, 100), 300), [Button::Next]);
        assert_eq!(pressed(&lines, &down(6, 100), 300), [Button::Walk]);
        assert_eq!(pressed(&lines, &[(5, true, 100)], 800), [Button::Select], "held");
        assert_eq!(pressed(&lines, &[(6, true, 100), (6, false, 900)], 1000), [Button::Back], "held, once");
        assert_eq!(pressed(&lines, &down(13, 100), 300), [Button::Back]);
        assert_eq!(pressed(&lines, &down(19, 100), 300), [Button::Turn { knob: 1, clicks: -1 }]);
        assert_eq!(pressed(&lines, &[(5, true, 100), (5, false, 105)], 300), [], "a spike");
        let click = [(17, true, 10), (27, true, 11), (17, false, 12), (27, false, 13)];
        assert_eq!(pressed(&lines, &click, 20), [Button::Turn { knob: 0, clicks: 1 }]);
        let back = [(27, true, 10), (17, true, 11), (27, false, 12), (17, false, 13)];
        assert_eq!(pressed(&lines, &back, 20), [Button::Turn { knob: 0, clicks: -1 }]);
    }
}
