//! What a user does, written down: `next,walk:8,hold,select,back`.
//!
//! Each entry is a button, and is played until the device is at rest. A walk never rests, so it is
//! left after as many pictures as the number behind the colon says, or after one leg.

use std::fmt;
use std::str::FromStr;

use edgegen_firmware::{Button, Generator, GeneratorTask, Progress};

/// Most pictures of one script: an animation of all of them, enlarged, takes about 300 MB to make.
pub const MOST_PICTURES: u32 = 300;

/// Most pictures of an entry without a number: a leg of a walk, which is longer than any gallery.
pub const LEG: u32 = 24;

/// How an entry begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// A button is pressed.
    Press(Button),
    /// A walk between two seeds of the user's choice begins.
    Walk {
        /// Where it starts.
        from: u64,
        /// Where it leads.
        to: u64,
    },
}

/// One entry of a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// How it begins.
    pub start: Start,
    /// Most pictures until the next entry; `None`: one leg of a walk.
    pub pictures: Option<u32>,
}

/// Entries to be played in turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script(pub Vec<Entry>);

/// What is wrong with a script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScriptError {
    /// Not a button.
    UnknownButton(String),
    /// Not a number of pictures from 1 to [`MOST_PICTURES`].
    BadCount(String),
    /// More pictures than [`MOST_PICTURES`] in all.
    TooLong,
}

impl fmt::Display for ScriptError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownButton(word) => {
                write!(
                    out,
                    "there is no button {word:?}: use next, walk, hold, select, back, left, right, up, down"
                )
            }
            Self::BadCount(word) => {
                write!(out, "{word:?} is no number of pictures: use 1 to {MOST_PICTURES}, as in walk:8")
            }
            Self::TooLong => write!(
                out,
                "the script may show more than {MOST_PICTURES} pictures: an entry without a number counts as {LEG}"
            ),
        }
    }
}

impl std::error::Error for ScriptError {}

impl FromStr for Script {
    type Err = ScriptError;

    fn from_str(text: &str) -> Result<Self, ScriptError> {
        let mut entries = Vec::new();
        for word in text.split(',').map(str::trim) {
            let (name, count) = match word.split_once(':') {
                Some((name, count)) => (name, Some(count)),
                None => (word, None),
            };
            // a knob's clicks, a picture each
            let knob = match name {
                "right" => Some((0, 1)),
                "left" => Some((0, -1)),
                "up" => Some((1, 1)),
                "down" => Some((1, -1)),
                _ => None,
            };
            let in_range = |count: &u32| (1..=MOST_PICTURES).contains(count);
            let pictures = count
                .map(|word| word.parse().ok().filter(in_range).ok_or(ScriptError::BadCount(word.to_owned())))
                .transpose()?;
            if let Some((knob, clicks)) = knob {
                let click = Entry { start: Start::Press(Button::Turn { knob, clicks }), pictures: Some(1) };
                entries.extend(std::iter::repeat_n(click, pictures.unwrap_or(1) as usize));
                continue;
            }
            let button = match name {
                "next" => Button::Next,
                "walk" => Button::Walk,
                "hold" => Button::Hold,
                "select" => Button::Select,
                "back" => Button::Back,
                _ => return Err(ScriptError::UnknownButton(name.to_owned())),
            };
            entries.push(Entry { start: Start::Press(button), pictures });
        }
        let total: u64 = entries.iter().map(|entry| u64::from(entry.pictures.unwrap_or(LEG))).sum();
        if total > u64::from(MOST_PICTURES) {
            return Err(ScriptError::TooLong);
        }
        Ok(Self(entries))
    }
}

/// Plays a script on a generator task.
#[derive(Debug)]
pub struct Player<'script> {
    entries: std::slice::Iter<'script, Entry>,
    left: u32,
    leg: u32,
}

impl<'script> Player<'script> {
    /// Ready for the first entry; `leg` is how many pictures a leg of a walk has.
    pub fn new(script: &'script Script, leg: u32) -> Self {
        Self { entries: script.0.iter(), left: 0, leg }
    }

    /// Polls the task, and goes on to the next entry when the task rests or has shown enough;
    /// `None` when the script is over.
    pub fn poll<G: Generator>(
        &mut self,
        task: &mut GeneratorTask<'_, '_, G>,
    ) -> Result<Option<Progress>, G::Error> {
        loop {
            if self.left > 0 {
                match task.poll()? {
                    Progress::Sent => {
                        self.left -= 1;
                        return Ok(Some(Progress::Sent));
                    }
                    Progress::NoBuffer => return Ok(Some(Progress::NoBuffer)),
                    Progress::AtRest => {}
                }
            }
            let Some(entry) = self.entries.next() else { return Ok(None) };
            match entry.start {
                Start::Press(button) => task.press(button),
                Start::Walk { from, to } => task.walk(from, to),
            }
            self.left = entry.pictures.unwrap_or(self.leg);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_are_read() {
        let entry = |button, pictures| Entry { start: Start::Press(button), pictures };
        let script: Script = "next, walk:8,hold,select,back".parse().unwrap();
        let expected = [
            entry(Button::Next, None),
            entry(Button::Walk, Some(8)),
            entry(Button::Hold, None),
            entry(Button::Select, None),
            entry(Button::Back, None),
        ];
        assert_eq!(script.0, expected);
        let table = [
            ("", ScriptError::UnknownButton(String::new())),
            ("next,jump", ScriptError::UnknownButton("jump".into())),
            ("walk:0", ScriptError::BadCount("0".into())),
            ("walk:x", ScriptError::BadCount("x".into())),
            ("walk:99999999999999", ScriptError::BadCount("99999999999999".into())),
            ("walk:200,walk:101", ScriptError::TooLong),
        ];
        for (text, error) in table {
            assert_eq!(text.parse::<Script>(), Err(error), "{text:?}");
        }
    }
}
