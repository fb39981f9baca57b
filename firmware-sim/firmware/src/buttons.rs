//! From a pin that bounces to a short or a long press.
//!
//! Two push buttons drive everything: the first goes on (short: [`Button::Next`], long:
//! [`Button::Select`]), the second moves (short: [`Button::Walk`] or, on a walk, [`Button::Hold`];
//! long: [`Button::Back`]).

use crate::states::{Button, State};

/// How long a button was held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Press {
    /// Let go before [`Debounce::long_ms`].
    Short,
    /// Held for [`Debounce::long_ms`]; reported while it is still down.
    Long,
}

/// Turns the sampled level of one pin into presses.
#[derive(Clone, Debug)]
pub struct Debounce {
    /// A level counts once it has been the same for so long, in milliseconds.
    pub stable_ms: u32,
    /// A press of at least so long is a long one, in milliseconds.
    pub long_ms: u32,
    level: bool,
    candidate: bool,
    candidate_since: u32,
    down_since: u32,
    reported: bool,
}

impl Debounce {
    /// 20 ms until a level counts (switches bounce for a few), 600 ms for a long press.
    pub const fn new() -> Self {
        Self {
            stable_ms: 20,
            long_ms: 600,
            level: false,
            candidate: false,
            candidate_since: 0,
            down_since: 0,
            reported: false,
        }
    }

    /// Takes a sample: `down` is the pin, `now_ms` a clock that may wrap round.
    pub fn sample(&mut self, down: bool, now_ms: u32) -> Option<Press> {
        if down != self.candidate {
            self.candidate = down;
            self.candidate_since = now_ms;
        }
        let stable = now_ms.wrapping_sub(self.candidate_since) >= self.stable_ms;
        if stable && self.level != self.candidate {
            self.level = self.candidate;
            if self.level {
                self.down_since = self.candidate_since;
                self.reported = false;
            } else if !self.reported {
                return Some(Press::Short);
            }
        }
        if self.level && !self.reported && now_ms.wrapping_sub(self.down_since) >= self.long_ms {
            self.reported = true;
            return Some(Press::Long);
        }
        None
    }
}

impl Default for Debounce {
    fn default() -> Self {
        Self::new()
    }
}

/// Turns the sampled levels of a rotary encoder's two pins into clicks.
///
/// The pins are a quarter apart, so four changes are a click; a change that is undone is none, and neither is one of both at once, which
/// an encoder cannot do and a bouncing pin seems to.
#[derive(Clone, Debug, Default)]
pub struct Encoder {
    levels: (bool, bool),
    /// Changes since the last click, clockwise ones counted up.
    quarters: i8,
}

impl Encoder {
    /// At rest, with both pins released.
    pub const fn new() -> Self {
        Self { levels: (false, false), quarters: 0 }
    }

    /// Takes a sample, `true` for a closed contact; a click clockwise (1) or the other way (-1), if it is complete.
    pub fn sample(&mut self, levels: (bool, bool)) -> Option<i8> {
        // the place in a click: closed, both, the other, none
        let place = |(first, second)| match (first, second) {
            (false, false) => 0i8,
            (true, false) => 1,
            (true, true) => 2,
            (false, true) => 3,
        };
        let moved = (place(levels) - place(self.levels)).rem_euclid(4);
        self.levels = levels;
        self.quarters += match moved {
            1 => 1,
            3 => -1,
            _ => 0,
        };
        // at rest: a click if most of it was seen, and nothing is carried over
        if levels == (false, false) && moved != 0 {
            let quarters = core::mem::take(&mut self.quarters);
            return (quarters.abs() >= 3).then(|| quarters.signum());
        }
        None
    }
}

/// What the first of two push buttons asks for.
pub fn first_button(press: Press) -> Button {
    match press {
        Press::Short => Button::Next,
        Press::Long => Button::Select,
    }
}

/// What the second of two push buttons asks for.
pub fn second_button(press: Press, state: State) -> Button {
    match (press, state) {
        (Press::Short, State::Walk(_) | State::Drift(..)) => Button::Hold,
        (Press::Short, _) => Button::Walk,
        (Press::Long, _) => Button::Back,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::states::Leg;

    /// Runs (until_ms, level) stretches at 1 ms per sample and returns the presses with their times.
    fn presses(start: u32, stretches: &[(u32, bool)]) -> heapless::Vec<(u32, Press), 8> {
        let mut button = Debounce::new();
        let mut seen = heapless::Vec::new();
        let mut time = 0;
        for &(until, down) in stretches {
            while time < until {
                if let Some(press) = button.sample(down, start.wrapping_add(time)) {
                    seen.push((time, press)).unwrap();
                }
                time += 1;
            }
        }
        seen
    }

    /// What it is, the pin's levels until when, the presses and when they are reported.
    type Case = (&'static str, &'static [(u32, bool)], &'static [(u32, Press)]);

    #[test]
    fn presses_are_told_apart() {
        let table: [Case; 6] = [
            ("nothing", &[(1000, false)], &[]),
            ("a spike is no press", &[(100, false), (110, true), (500, false)], &[]),
            ("short", &[(100, false), (300, true), (500, false)], &[(320, Press::Short)]),
            (
                "bouncing, both edges",
                &[
                    (100, false),
                    (103, true),
                    (106, false),
                    (300, true),
                    (304, false),
                    (307, true),
                    (500, false),
                ],
                &[(327, Press::Short)],
            ),
            ("long, reported once", &[(100, false), (2000, true), (2500, false)], &[(700, Press::Long)]),
            (
                "twice",
                &[(100, true), (200, false), (300, true), (400, false)],
                &[(120, Press::Short), (320, Press::Short)],
            ),
        ];
        for start in [0, u32::MAX - 310] {
            for (name, stretches, expected) in table {
                assert_eq!(presses(start, stretches).as_slice(), expected, "{name}, clock from {start}");
            }
        }
    }

    #[test]
    fn an_encoder_clicks_once_a_detent_and_not_when_it_bounces() {
        let clicks = |levels: &[(u8, u8)]| {
            let mut encoder = Encoder::new();
            let seen = levels.iter().filter_map(|(a, b)| encoder.sample((*a == 1, *b == 1)));
            seen.collect::<heapless::Vec<i8, 8>>()
        };
        let clockwise = [(1, 0), (1, 1), (0, 1), (0, 0)];
        let other = [(0, 1), (1, 1), (1, 0), (0, 0)];
        assert_eq!(clicks(&clockwise)[..], [1]);
        assert_eq!(clicks(&other)[..], [-1]);
        assert_eq!(clicks([clockwise, clockwise, other].as_flattened())[..], [1, 1, -1]);
        let bouncing = [(1, 0), (0, 0), (1, 0), (1, 1), (1, 0), (1, 1), (0, 1), (0, 0), (0, 1), (0, 0)];
        assert_eq!(clicks(&bouncing)[..], [1], "once, bouncing at both ends");
        assert_eq!(clicks(&[(1, 0), (1, 1), (1, 0), (0, 0)])[..], [0i8; 0], "there and back");
        assert_eq!(clicks(&[(1, 0), (0, 1), (0, 0)])[..], [0i8; 0], "what cannot be");
    }

    #[test]
    fn two_buttons_reach_everything() {
        let walking = State::Walk(Leg { from: 0, to: 1, step: 0 });
        let idle = State::Idle { seed: 0 };
        assert_eq!(first_button(Press::Short), Button::Next);
        assert_eq!(first_button(Press::Long), Button::Select);
        assert_eq!(second_button(Press::Short, idle), Button::Walk);
        assert_eq!(second_button(Press::Short, walking), Button::Hold);
        assert_eq!(second_button(Press::Long, walking), Button::Back);
    }
}
