//! What the user knows about a file and the file does not say.

use super::Machine;
use crate::kinds::{ImageShape, Range};
use crate::{Error, Result};
use std::fmt;
use std::str::FromStr;

/// What the user knows about a file and the file does not say.
#[derive(Clone, Debug, Default)]
pub struct OpenOptions {
    /// Range of the network's pictures; `None`: metadata, or else the last node tells.
    pub range: Option<Range>,
    /// Name of the input to feed. It has to be the only one that the output needs.
    pub input: Option<String>,
    /// Name of the output to read, where there are several.
    pub output: Option<String>,
    /// Shape of the input, where the file leaves sizes open.
    pub shape: Option<InputShape>,
    /// Size of the picture that an output of plain values is, channel after channel, rows from the top.
    pub picture: Option<ImageShape>,
    /// Height and width of the pictures that a network reads, where the file leaves them open.
    pub size: Option<(usize, usize)>,
    /// How messages name these options.
    pub spelling: Spelling,
    /// What may run the network.
    pub engine: EngineChoice,
    /// What it runs on.
    pub machine: Machine,
}

/// Which engine runs a network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EngineChoice {
    /// The kernels; tract what they do not know.
    #[default]
    Auto,
    /// The kernels alone.
    Kernels,
    /// tract alone.
    Tract,
}

impl FromStr for EngineChoice {
    type Err = Error;

    fn from_str(word: &str) -> Result<Self> {
        match word {
            "auto" => Ok(Self::Auto),
            "kernels" => Ok(Self::Kernels),
            "tract" => Ok(Self::Tract),
            _ => Err(Error::invalid(format_args!("{word:?} is no engine: use auto, kernels or tract"))),
        }
    }
}

/// How a program's user gives [`OpenOptions`], for messages that say what is missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Spelling {
    /// As flags on the command line: `--range unit`.
    #[default]
    Flags,
    /// As keys of a TOML file: `range = "unit"`.
    Keys,
    /// Not by these names.
    Unnamed,
}

impl Spelling {
    /// The end of "choose one": by which option.
    pub(crate) fn with(self, name: &str) -> String {
        match self {
            Self::Flags => format!(" with --{name}"),
            Self::Keys => format!(" with the key {name}"),
            Self::Unnamed => String::new(),
        }
    }

    /// An option with a value.
    pub(crate) fn setting(self, name: &str, value: &str) -> String {
        match self {
            Self::Flags => format!("--{name} {value}"),
            Self::Keys => format!("{name} = {value:?}"),
            Self::Unnamed => format!("the {name} {value}"),
        }
    }

    /// Why a file has no pictures: its range is not known.
    pub(crate) fn no_range(self, file: &str) -> Error {
        let [unit, signed] = ["unit", "signed"].map(|word| self.setting("range", word));
        let problem = format!(
            "the range of its pictures is not known: give {unit} (0 is black, 1 white) or {signed} (-1 and 1)"
        );
        Error::unsupported(file, problem)
    }
}

/// A range, or `auto`: what the file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RangeChoice(Option<Range>);

impl RangeChoice {
    /// The range that was chosen; `None` for `auto`.
    pub fn range(self) -> Option<Range> {
        self.0
    }
}

impl FromStr for RangeChoice {
    type Err = Error;

    fn from_str(word: &str) -> Result<Self> {
        match word {
            "auto" => Ok(Self(None)),
            _ => word.parse().map(|range| Self(Some(range))).map_err(|_| {
                Error::invalid(format_args!("{word:?} is not a range: use unit, signed or auto"))
            }),
        }
    }
}

/// The shape of an input as a user writes it: `N,100,1,1`. The first size is the batch: a number, or a letter for any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputShape {
    /// Pictures or latents of one run, if it is fixed.
    pub(crate) batch: Option<usize>,
    /// Sizes of one row.
    pub(crate) row: Vec<usize>,
}

impl FromStr for InputShape {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bad = || {
            Error::invalid(format_args!(
                "{text:?} is not the shape of an input: give N and sizes from 1 on, for example N,100 or 1,100,1,1"
            ))
        };
        let size = |word: &str| word.trim().parse::<usize>().ok().filter(|size| *size > 0);
        let (batch, row) = text.split_once(',').ok_or_else(bad)?;
        let named = !batch.trim().is_empty() && batch.trim().chars().all(char::is_alphabetic);
        let batch = if named { None } else { Some(size(batch).ok_or_else(bad)?) };
        let row = row.split(',').map(size).collect::<Option<Vec<_>>>().ok_or_else(bad)?;
        Ok(Self { batch, row })
    }
}

impl fmt::Display for InputShape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.batch {
            Some(batch) => write!(f, "{batch}")?,
            None => f.write_str("N")?,
        }
        self.row.iter().try_for_each(|size| write!(f, ",{size}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_and_ranges_are_read_as_users_write_them() {
        for (text, batch, row) in [
            ("N,100", None, vec![100]),
            ("batch, 6,1,1", None, vec![6, 1, 1]),
            ("1,3,8,8", Some(1), vec![3, 8, 8]),
        ] {
            let shape: InputShape = text.parse().unwrap();
            assert_eq!((shape.batch, shape.row), (batch, row), "{text}");
        }
        for text in
            ["", "N", "100", "N,", "N,0", "N,-1", "0,6", ",6", "N,99999999999999999999", "N,H,W", "1x6"]
        {
            let line = text.parse::<InputShape>().unwrap_err().to_string();
            assert!(line.contains("N,100"), "{line}");
        }
        assert_eq!("auto".parse::<RangeChoice>().unwrap().range(), None);
        assert_eq!("signed".parse::<RangeChoice>().unwrap().range(), Some(Range::Signed));
        assert!("dark".parse::<RangeChoice>().unwrap_err().to_string().contains("unit, signed or auto"));
    }

    #[test]
    fn messages_name_what_the_program_has() {
        let line = Spelling::Flags.no_range("a.onnx").to_string();
        assert!(line.contains("--range unit") && line.contains("--range signed"), "{line}");
        let line = Spelling::Keys.no_range("a.onnx").to_string();
        assert!(line.contains("range = \"unit\"") && !line.contains("--"), "{line}");
        let with =
            [Spelling::Flags, Spelling::Keys, Spelling::Unnamed].map(|spelling| spelling.with("output"));
        assert_eq!(with, [" with --output", " with the key output", ""]);
    }
}
