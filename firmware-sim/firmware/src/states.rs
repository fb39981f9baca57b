//! Which picture is due, as a pure state machine.
//!
//! [`State::press`] is what a button does, [`State::work`] what the state wants made, and
//! [`State::advance`] what follows once it has been made. Nothing here knows of time, pixels or panels.
//!
//! ```text
//!            Next                    made
//!   Idle ──────────▶ Generate ─────────────────▶ Hold
//!     ▲                                          │ ▲
//!     │ Back        Select ⇄ Gallery    Walk / Hold │ Hold
//!     └── Clear ◀──────────                      ▼ │
//!                                                Walk
//! ```
//!
//! A gallery walks too, all its pictures at once: [`State::Drift`].

use crate::generator::Request;

/// What a user can ask for. [`crate::buttons`] turns pins into these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Button {
    /// The next seed's picture, or its gallery.
    Next,
    /// Walk from this seed to the next, and on; resumes a walk that is held.
    Walk,
    /// Stop a walk where it is; press again to go on.
    Hold,
    /// Between one picture and the gallery of a seed's pictures.
    Select,
    /// Back to a single picture; from there, clear the panel and rest.
    Back,
    /// A knob, turned clockwise by so many clicks, or the other way. What it changes is the generator's business; where it changes
    /// nothing, the first knob goes from seed to seed.
    Turn {
        /// Its number, from 0.
        knob: u8,
        /// How far.
        clicks: i8,
    },
}

/// A walk between two seeds, and how far it has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leg {
    /// Seed at step 0.
    pub from: u64,
    /// Seed at the last step.
    pub to: u64,
    /// The step that is due, in 0..steps.
    pub step: u32,
}

impl Leg {
    /// The step that follows. The next leg starts at its second picture: its first is the one just shown.
    fn advance(self, counts: Counts) -> Self {
        match self.step + 1 {
            step if step < counts.steps => Self { step, ..self },
            _ => Self { from: self.to, to: self.to.wrapping_add(1), step: 1 },
        }
    }
}

/// What the device is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The panel is blank and nothing is wanted; `seed` is what Next will show.
    Idle {
        /// Seed to show first.
        seed: u64,
    },
    /// The panel is to be blanked once.
    Clear {
        /// Seed to go on with.
        seed: u64,
    },
    /// One picture is due.
    Generate {
        /// Its seed.
        seed: u64,
    },
    /// The gallery is being filled; picture `tile` is due.
    Gallery {
        /// Its seed.
        seed: u64,
        /// The tile that is due, which is also the latent's number.
        tile: u32,
    },
    /// Pictures between two seeds are due, one after the other.
    Walk(Leg),
    /// The same for every picture of a gallery; that of tile number `.1` is due.
    Drift(Leg, u32),
    /// What is on the panel stays.
    Hold(Held),
}

/// What is on the panel while it is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// One seed's picture.
    Picture {
        /// Its seed.
        seed: u64,
    },
    /// One seed's gallery.
    Gallery {
        /// Its seed.
        seed: u64,
    },
    /// A stopped walk.
    Walk(Leg),
    /// A stopped walk of a gallery.
    Drift(Leg, u32),
}

/// Sizes that the states count up to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Pictures in a gallery; at least 1.
    pub tiles: u32,
    /// Pictures on a walk from seed to seed, both included; at least 2.
    pub steps: u32,
}

/// How a picture is to stand on the panel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// No picture: blank the panel.
    Blank,
    /// One picture, as large as it fits.
    Whole,
    /// Tile number `tile` of the gallery.
    Tile {
        /// Counted along rows from the top left, from 0.
        tile: u32,
    },
}

/// What a state wants made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Work {
    /// The picture; for [`View::Blank`] it is not generated.
    pub request: Request,
    /// Where it goes.
    pub view: View,
}

impl State {
    /// What follows a press. Seeds wrap round at the end of u64.
    #[must_use]
    pub fn press(self, button: Button) -> Self {
        let seed = self.seed();
        let next = seed.wrapping_add(1);
        let leg = Leg { from: seed, to: next, step: 0 };
        match (self, button) {
            (Self::Idle { .. } | Self::Clear { .. }, Button::Next) => Self::Generate { seed },
            (Self::Idle { .. } | Self::Clear { .. }, Button::Hold | Button::Back) => self,
            (
                Self::Gallery { .. } | Self::Drift(..) | Self::Hold(Held::Gallery { .. } | Held::Drift(..)),
                Button::Next,
            ) => Self::Gallery { seed: next, tile: 0 },
            (_, Button::Next) => Self::Generate { seed: next },
            (Self::Walk(_) | Self::Drift(..), Button::Walk) => self,
            (Self::Hold(Held::Walk(leg)), Button::Walk | Button::Hold) => Self::Walk(leg),
            (Self::Hold(Held::Drift(leg, tile)), Button::Walk | Button::Hold) => Self::Drift(leg, tile),
            (Self::Gallery { .. } | Self::Hold(Held::Gallery { .. }), Button::Walk) => Self::Drift(leg, 0),
            (_, Button::Walk) => Self::Walk(leg),
            (Self::Walk(leg), Button::Hold) => Self::Hold(Held::Walk(leg)),
            (Self::Drift(leg, tile), Button::Hold) => Self::Hold(Held::Drift(leg, tile)),
            (Self::Generate { .. } | Self::Gallery { .. } | Self::Hold(_), Button::Hold) => self,
            (
                Self::Gallery { .. } | Self::Drift(..) | Self::Hold(Held::Gallery { .. } | Held::Drift(..)),
                Button::Select,
            ) => Self::Generate { seed },
            (_, Button::Select) => Self::Gallery { seed, tile: 0 },
            (Self::Generate { .. } | Self::Hold(Held::Picture { .. }), Button::Back) => Self::Clear { seed },
            (_, Button::Back) => Self::Generate { seed },
            (_, Button::Turn { .. }) => self.again(seed),
        }
    }

    /// The same of another seed, or of the same seed anew. A walk goes on, as its next step shows what has changed.
    #[must_use]
    pub fn again(self, seed: u64) -> Self {
        let goes_on = matches!(self, Self::Walk(_) | Self::Drift(..)) && seed == self.seed();
        match self {
            _ if goes_on => self,
            Self::Gallery { .. } | Self::Drift(..) | Self::Hold(Held::Gallery { .. } | Held::Drift(..)) => {
                Self::Gallery { seed, tile: 0 }
            }
            _ => Self::Generate { seed },
        }
    }

    /// What is due now; `None` when the device is at rest.
    pub fn work(self, counts: Counts) -> Option<Work> {
        let (request, view) = match self {
            Self::Idle { .. } | Self::Hold(_) => return None,
            Self::Clear { seed } => (Request::Still { seed, index: 0 }, View::Blank),
            Self::Generate { seed } => (Request::Still { seed, index: 0 }, View::Whole),
            Self::Gallery { seed, tile } => {
                (Request::Still { seed, index: u64::from(tile) }, View::Tile { tile })
            }
            Self::Walk(Leg { from, to, step }) => {
                (Request::Between { index: 0, from, to, step, steps: counts.steps }, View::Whole)
            }
            Self::Drift(Leg { from, to, step }, tile) => {
                let index = u64::from(tile);
                (Request::Between { index, from, to, step, steps: counts.steps }, View::Tile { tile })
            }
        };
        Some(Work { request, view })
    }

    /// What follows once [`State::work`] has been made.
    #[must_use]
    pub fn advance(self, counts: Counts) -> Self {
        match self {
            Self::Idle { .. } | Self::Hold(_) => self,
            Self::Clear { seed } => Self::Idle { seed },
            Self::Generate { seed } => Self::Hold(Held::Picture { seed }),
            Self::Gallery { seed, tile } if tile + 1 < counts.tiles => Self::Gallery { seed, tile: tile + 1 },
            Self::Gallery { seed, .. } => Self::Hold(Held::Gallery { seed }),
            Self::Walk(leg) => Self::Walk(leg.advance(counts)),
            Self::Drift(leg, tile) if tile + 1 < counts.tiles => Self::Drift(leg, tile + 1),
            Self::Drift(leg, _) => Self::Drift(leg.advance(counts), 0),
        }
    }

    /// The seed that Next counts on from. On a walk it is the one walked from.
    pub fn seed(self) -> u64 {
        match self {
            Self::Idle { seed }
            | Self::Clear { seed }
            | Self::Generate { seed }
            | Self::Gallery { seed, .. } => seed,
            Self::Hold(Held::Picture { seed } | Held::Gallery { seed }) => seed,
            Self::Walk(leg) | Self::Drift(leg, _) | Self::Hold(Held::Walk(leg) | Held::Drift(leg, _)) => {
                leg.from
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COUNTS: Counts = Counts { tiles: 2, steps: 3 };

    fn leg(from: u64, to: u64, step: u32) -> Leg {
        Leg { from, to, step }
    }

    #[test]
    fn every_button_in_every_state() {
        use Button::{Back, Hold, Next, Select, Walk};
        let idle = State::Idle { seed: 7 };
        let clear = State::Clear { seed: 7 };
        let generate = |seed| State::Generate { seed };
        let gallery = |seed, tile| State::Gallery { seed, tile };
        let walk = |from, step| State::Walk(leg(from, from + 1, step));
        let drift = |from, step, tile| State::Drift(leg(from, from + 1, step), tile);
        let floating = State::Hold(Held::Drift(leg(7, 8, 1), 1));
        let picture = State::Hold(Held::Picture { seed: 7 });
        let hung = State::Hold(Held::Gallery { seed: 7 });
        let stopped = State::Hold(Held::Walk(leg(7, 8, 1)));
        let table = [
            (
                idle,
                [
                    (Next, generate(7)),
                    (Walk, walk(7, 0)),
                    (Hold, idle),
                    (Select, gallery(7, 0)),
                    (Back, idle),
                ],
            ),
            (
                clear,
                [
                    (Next, generate(7)),
                    (Walk, walk(7, 0)),
                    (Hold, clear),
                    (Select, gallery(7, 0)),
                    (Back, clear),
                ],
            ),
            (
                generate(7),
                [
                    (Next, generate(8)),
                    (Walk, walk(7, 0)),
                    (Hold, generate(7)),
                    (Select, gallery(7, 0)),
                    (Back, clear),
                ],
            ),
            (
                gallery(7, 1),
                [
                    (Next, gallery(8, 0)),
                    (Walk, drift(7, 0, 0)),
                    (Hold, gallery(7, 1)),
                    (Select, generate(7)),
                    (Back, generate(7)),
                ],
            ),
            (
                walk(7, 1),
                [
                    (Next, generate(8)),
                    (Walk, walk(7, 1)),
                    (Hold, stopped),
                    (Select, gallery(7, 0)),
                    (Back, generate(7)),
                ],
            ),
            (
                picture,
                [
                    (Next, generate(8)),
                    (Walk, walk(7, 0)),
                    (Hold, picture),
                    (Select, gallery(7, 0)),
                    (Back, clear),
                ],
            ),
            (
                hung,
                [
                    (Next, gallery(8, 0)),
                    (Walk, drift(7, 0, 0)),
                    (Hold, hung),
                    (Select, generate(7)),
                    (Back, generate(7)),
                ],
            ),
            (
                drift(7, 1, 1),
                [
                    (Next, gallery(8, 0)),
                    (Walk, drift(7, 1, 1)),
                    (Hold, floating),
                    (Select, generate(7)),
                    (Back, generate(7)),
                ],
            ),
            (
                floating,
                [
                    (Next, gallery(8, 0)),
                    (Walk, drift(7, 1, 1)),
                    (Hold, drift(7, 1, 1)),
                    (Select, generate(7)),
                    (Back, generate(7)),
                ],
            ),
            (
                stopped,
                [
                    (Next, generate(8)),
                    (Walk, walk(7, 1)),
                    (Hold, walk(7, 1)),
                    (Select, gallery(7, 0)),
                    (Back, generate(7)),
                ],
            ),
        ];
        for (state, row) in table {
            for (button, expected) in row {
                assert_eq!(state.press(button), expected, "{button:?} in {state:?}");
            }
        }
    }

    #[test]
    fn what_is_due_and_what_follows() {
        let still = |seed, index| Request::Still { seed, index };
        let between = |from, to, step| Request::Between { index: 0, from, to, step, steps: 3 };
        let table = [
            (State::Idle { seed: 1 }, None, State::Idle { seed: 1 }),
            (State::Clear { seed: 1 }, Some((still(1, 0), View::Blank)), State::Idle { seed: 1 }),
            (
                State::Generate { seed: 1 },
                Some((still(1, 0), View::Whole)),
                State::Hold(Held::Picture { seed: 1 }),
            ),
            (
                State::Gallery { seed: 1, tile: 0 },
                Some((still(1, 0), View::Tile { tile: 0 })),
                State::Gallery { seed: 1, tile: 1 },
            ),
            (
                State::Gallery { seed: 1, tile: 1 },
                Some((still(1, 1), View::Tile { tile: 1 })),
                State::Hold(Held::Gallery { seed: 1 }),
            ),
            (State::Walk(leg(1, 5, 0)), Some((between(1, 5, 0), View::Whole)), State::Walk(leg(1, 5, 1))),
            (State::Walk(leg(1, 5, 2)), Some((between(1, 5, 2), View::Whole)), State::Walk(leg(5, 6, 1))),
            (
                State::Drift(leg(1, 5, 1), 0),
                Some((between(1, 5, 1), View::Tile { tile: 0 })),
                State::Drift(leg(1, 5, 1), 1),
            ),
            (
                State::Drift(leg(1, 5, 2), 1),
                Some((
                    Request::Between { index: 1, from: 1, to: 5, step: 2, steps: 3 },
                    View::Tile { tile: 1 },
                )),
                State::Drift(leg(5, 6, 1), 0),
            ),
            (State::Hold(Held::Picture { seed: 1 }), None, State::Hold(Held::Picture { seed: 1 })),
        ];
        for (state, work, next) in table {
            assert_eq!(state.work(COUNTS), work.map(|(request, view)| Work { request, view }), "{state:?}");
            assert_eq!(state.advance(COUNTS), next, "{state:?}");
        }
    }

    #[test]
    fn a_knob_shows_the_same_anew_and_leaves_a_walk_going() {
        let turn = Button::Turn { knob: 1, clicks: -2 };
        let table = [
            (State::Idle { seed: 7 }, State::Generate { seed: 7 }),
            (State::Hold(Held::Picture { seed: 7 }), State::Generate { seed: 7 }),
            (State::Hold(Held::Gallery { seed: 7 }), State::Gallery { seed: 7, tile: 0 }),
            (State::Gallery { seed: 7, tile: 1 }, State::Gallery { seed: 7, tile: 0 }),
            (State::Walk(leg(7, 8, 1)), State::Walk(leg(7, 8, 1))),
            (State::Drift(leg(7, 8, 1), 1), State::Drift(leg(7, 8, 1), 1)),
        ];
        for (state, expected) in table {
            assert_eq!(state.press(turn), expected, "{state:?}");
        }
        assert_eq!(State::Walk(leg(7, 8, 1)).again(9), State::Generate { seed: 9 });
        assert_eq!(State::Hold(Held::Gallery { seed: 7 }).again(9), State::Gallery { seed: 9, tile: 0 });
    }

    #[test]
    fn the_last_seed_is_followed_by_the_first() {
        let last = State::Hold(Held::Picture { seed: u64::MAX });
        assert_eq!(last.press(Button::Next), State::Generate { seed: 0 });
        assert_eq!(last.press(Button::Walk), State::Walk(leg(u64::MAX, 0, 0)));
    }
}
