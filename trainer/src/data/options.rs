//! How files become a data set: the settings, and how people write them.

use edgegen_runtime::sound::Format;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use edgegen_runtime::model::ImageShape;
use edgegen_runtime::pictures::Fit;
use regex::Regex;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Sides that pictures can be brought to.
pub const SIDES: std::ops::RangeInclusive<usize> = 8..=512;
/// Largest share of the pictures that can be held out.
const LARGEST_SHARE: f64 = 0.5;

/// The size that pictures are brought to, written as people write it: `64` or WIDTHxHEIGHT, `128x64`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Pixels in a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
}

impl Size {
    /// A square.
    pub const fn square(side: usize) -> Self {
        Self { width: side, height: side }
    }

    /// The size of pictures of `shape`.
    pub fn of(shape: ImageShape) -> Self {
        Self { width: shape.width, height: shape.height }
    }

    /// The shape of pictures of this size.
    pub fn shape(self, gray: bool) -> ImageShape {
        ImageShape { channels: if gray { 1 } else { 3 }, height: self.height, width: self.width }
    }

    /// Refuses sides outside of [`SIDES`], in words that follow the size's name.
    ///
    /// # Errors
    /// What sides it takes.
    pub fn check(self) -> Result<Self, String> {
        match [self.width, self.height].iter().all(|side| SIDES.contains(side)) {
            true => Ok(self),
            false => Err(format!("is {self}; it takes sides of {} to {}", SIDES.start(), SIDES.end())),
        }
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (width, height) = text.split_once(['x', 'X', '×']).unwrap_or((text, text));
        match (width.trim().parse(), height.trim().parse()) {
            (Ok(width), Ok(height)) => Ok(Self { width, height }),
            _ => Err("it takes a side, such as 64, or WIDTHxHEIGHT, such as 128x64".into()),
        }
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.width == self.height {
            true => write!(f, "{}", self.width),
            false => write!(f, "{}x{}", self.width, self.height),
        }
    }
}

/// What decides that pictures are variants of one drawing, which stay in one part.
#[derive(Clone, Debug, Default)]
pub enum GroupBy {
    /// Nothing: each picture stands for itself.
    #[default]
    None,
    /// The part of the name before the last of these separators: `prefix:_` makes one group of
    /// `1f34e_noto.png` and `1f34e_twitter.png`.
    Prefix(String),
    /// The innermost folder: `folder`, for a folder an object, or a film's frames.
    Folder,
    /// The first capture group of a regular expression, searched in the path below the data folder:
    /// `regex:(patient\d+)`.
    Pattern(Regex),
}

impl PartialEq for GroupBy {
    fn eq(&self, other: &Self) -> bool {
        self.to_string() == other.to_string()
    }
}

impl GroupBy {
    /// The group of the picture with this path below the data folder, `/` between its parts; `None`: its own.
    pub(super) fn group(&self, path: &str) -> Option<String> {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
        match self {
            Self::None => None,
            Self::Prefix(separator) => {
                let (prefix, _) = stem.rsplit_once(separator.as_str())?;
                Some(format!("{folder}/{prefix}"))
            }
            Self::Folder => Some(folder.to_string()),
            Self::Pattern(pattern) => Some(pattern.captures(path)?.get(1)?.as_str().to_string()),
        }
    }
}

impl FromStr for GroupBy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            _ if text == "none" => Ok(Self::None),
            _ if text == "folder" => Ok(Self::Folder),
            Some(("prefix", separator)) if !separator.is_empty() => Ok(Self::Prefix(separator.into())),
            Some(("regex", pattern)) => {
                let pattern = Regex::new(pattern).map_err(|e| {
                    let text = e.to_string();
                    format!("this is no regular expression: {}", text.lines().last().unwrap_or_default())
                })?;
                match pattern.captures_len() {
                    2.. => Ok(Self::Pattern(pattern)),
                    _ => {
                        Err("the regular expression needs a group in round brackets, such as regex:^(.*)-"
                            .into())
                    }
                }
            }
            _ => Err("it takes prefix:_ (the name before its last _), folder, regex:(…) or none".into()),
        }
    }
}

impl fmt::Display for GroupBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Prefix(separator) => write!(f, "prefix:{separator}"),
            Self::Folder => f.write_str("folder"),
            Self::Pattern(pattern) => write!(f, "regex:{pattern}"),
        }
    }
}

/// The share of the training pictures that is held out as validation pictures.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum HeldOut {
    /// By use: none for a GAN, whose training nothing is chosen by; otherwise 5 % of a folder's pictures and a
    /// twelfth of an IDX set's.
    #[default]
    Auto,
    /// This share, 0 to 0.5.
    Share(f64),
}

impl HeldOut {
    /// The share where that of the use is `usual`.
    pub(super) fn share(self, usual: f64) -> f64 {
        match self {
            Self::Auto => usual,
            Self::Share(share) => share,
        }
    }
}

impl FromStr for HeldOut {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        let number = match text.strip_suffix('%') {
            Some(percent) => percent.trim().parse::<f64>().map(|percent| percent / 100.0),
            None => text.parse(),
        };
        match number {
            Ok(share) if (0.0..=LARGEST_SHARE).contains(&share) => Ok(Self::Share(share)),
            _ => Err(format!("it takes a share of 0 to {LARGEST_SHARE}, or auto")),
        }
    }
}

impl fmt::Display for HeldOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Share(share) => write!(f, "{share}"),
        }
    }
}

/// Whether training pictures are mirrored at random, left to right.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mirror {
    /// Where it does no harm, see [`super::mirror`].
    #[default]
    Auto,
    /// Always.
    Yes,
    /// Never.
    No,
}

impl FromStr for Mirror {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "yes" | "true" => Ok(Self::Yes),
            "no" | "false" => Ok(Self::No),
            _ => Err("it takes yes, no or auto".into()),
        }
    }
}

impl fmt::Display for Mirror {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Yes => "yes",
            Self::No => "no",
        })
    }
}

/// Values that a configuration file holds as its writer would: a number, true or false, or text.
#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Truth(bool),
    Integer(i64),
    Number(f64),
    Text(String),
}

/// Written in configuration files as on the command line; numbers stay numbers.
macro_rules! as_written {
    ($($kind:ty),*) => { $(
        impl Serialize for $kind {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let text = self.to_string();
                match (text.parse::<i64>(), text.parse::<f64>()) {
                    (Ok(integer), _) => serializer.serialize_i64(integer),
                    (_, Ok(number)) => serializer.serialize_f64(number),
                    _ => serializer.serialize_str(&text),
                }
            }
        }

        impl<'de> Deserialize<'de> for $kind {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = match Written::deserialize(deserializer)? {
                    Written::Truth(truth) => truth.to_string(),
                    Written::Integer(integer) => integer.to_string(),
                    Written::Number(number) => number.to_string(),
                    Written::Text(text) => text,
                };
                text.parse().map_err(|problem| serde::de::Error::custom(format!("{text}: {problem}")))
            }
        }
    )* };
}

/// Which half of a picture that shows a pair goes in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SideBySide {
    /// Pictures show no pairs.
    #[default]
    No,
    /// The left half goes in, the right half should come out.
    Left,
    /// The right half goes in, the left half should come out.
    Right,
}

impl FromStr for SideBySide {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "no" | "false" => Ok(Self::No),
            "left" => Ok(Self::Left),
            "right" => Ok(Self::Right),
            _ => Err("it takes left or right, the half of each picture that goes in, or no".into()),
        }
    }
}

impl fmt::Display for SideBySide {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::No => "no",
            Self::Left => "left",
            Self::Right => "right",
        })
    }
}

/// Where pairs of pictures come from. A pair is one picture of twice the width: on the left what goes in, on the right what
/// should come out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pairs {
    /// What should come out lies in this folder, under the same names.
    With(PathBuf),
    /// Each picture shows a pair.
    Beside(SideBySide),
}

as_written!(Size, GroupBy, HeldOut, Mirror, SideBySide);

/// How files become pictures of one size, and which are held out.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// Size that a folder's images are brought to; IDX files keep theirs.
    pub size: Size,
    /// Whether a folder's images become grey.
    pub gray: bool,
    /// How images of other proportions come to the size's.
    pub fit: Fit,
    /// Which images are variants of one drawing.
    pub group_by: GroupBy,
    /// How many pictures are held out.
    pub held_out: HeldOut,
    /// Whether training pictures are mirrored.
    pub mirror: Mirror,
    /// A folder's files are sounds, and their spectrograms the pictures.
    pub sound: Option<Format>,
    /// Of sounds: columns from a window to the next, each of which is a picture; 0: the first window of each sound.
    pub stride: usize,
    /// Pictures come in pairs, each of them brought to `size`.
    pub pairs: Option<Pairs>,
    /// The folder where decoded pictures are kept for the next time; `None`: in an unnamed temporary file.
    pub cache: Option<PathBuf>,
}

impl LoadOptions {
    /// Colour pictures of this size, everything else as it is usual, without a cache.
    pub fn new(size: Size) -> Self {
        Self {
            size,
            gray: false,
            fit: Fit::default(),
            group_by: GroupBy::default(),
            held_out: HeldOut::default(),
            mirror: Mirror::default(),
            sound: None,
            stride: 0,
            pairs: None,
            cache: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_written_width_first() {
        assert_eq!("64".parse(), Ok(Size::square(64)));
        assert_eq!("128x64".parse(), Ok(Size { width: 128, height: 64 }));
        assert_eq!("128x64".parse::<Size>().unwrap().shape(true).to_string(), "1x64x128");
        for size in ["64", "128x64"] {
            assert_eq!(size.parse::<Size>().unwrap().to_string(), size);
        }
        for wrong in ["", "x", "64x", "sixty", "64x64x3", "-8"] {
            assert!(wrong.parse::<Size>().is_err(), "{wrong}");
        }
        assert!(Size::square(7).check().is_err() && Size { width: 8, height: 513 }.check().is_err());
    }

    #[test]
    fn groups_follow_the_rule_that_is_named() {
        let group = |rule: &str, path: &str| rule.parse::<GroupBy>().unwrap().group(path);
        assert_eq!(group("none", "food/1f34e_noto.png"), None);
        assert_eq!(group("prefix:_", "food/1f34e_noto.png"), group("prefix:_", "food/1f34e_twitter.png"));
        assert_ne!(group("prefix:_", "food/1f34e_noto.png"), group("prefix:_", "drink/1f34e_noto.png"));
        assert_eq!(group("prefix:_", "food/apple.png"), None);
        assert_eq!(group("folder", "scan-7/slice.1.png"), Some("scan-7".into()));
        assert_eq!(group(r"regex:(patient\d+)", "ct/patient12-3.png"), Some("patient12".into()));
        assert_eq!(group(r"regex:(patient\d+)", "ct/phantom.png"), None);
        for wrong in ["prefix:", "regex:(", "regex:patient", "underscore"] {
            assert!(wrong.parse::<GroupBy>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn settings_survive_a_configuration_file() {
        #[derive(Debug, PartialEq, Serialize, Deserialize)]
        struct All {
            size: Size,
            group_by: GroupBy,
            held_out: HeldOut,
            mirror: Mirror,
        }
        let text = "size = 64\ngroup_by = \"prefix:_\"\nheld_out = 0.1\nmirror = \"no\"\n";
        let all: All = toml::from_str(text).unwrap();
        assert_eq!(toml::to_string(&all).unwrap(), text);
        let other = "size = \"128x64\"\ngroup_by = 'regex:^(\\d+)-'\nheld_out = 0\nmirror = true\n";
        let all: All = toml::from_str(other).unwrap();
        assert_eq!((all.size.width, all.held_out, all.mirror), (128, HeldOut::Share(0.0), Mirror::Yes));
        assert_eq!(toml::from_str::<All>(&toml::to_string(&all).unwrap()).unwrap(), all);
        assert!(
            toml::from_str::<All>(&text.replace("0.1", "0.9")).unwrap_err().to_string().contains("share")
        );
    }
}
