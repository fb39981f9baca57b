//! What can go wrong, as one clear line: where, what, and what to do about it.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// The library's result.
pub type Result<T> = std::result::Result<T, Error>;

/// Longest text of foreign origin (a parser's message, a name out of a file) in an error.
const LONGEST_FOREIGN_TEXT: usize = 300;

/// Everything that the library refuses. `Display` is always one line.
#[derive(Debug)]
pub enum Error {
    /// The system refused: which action, on which path, and its reason.
    Io {
        /// The verb phrase after "cannot", for example "read".
        action: &'static str,
        /// The path it was done to.
        path: PathBuf,
        /// The system's own reason.
        source: io::Error,
    },
    /// A file is damaged, or is not what it should be.
    Malformed {
        /// The file, as its caller named it.
        file: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A file is in order, but asks for something that this library does not do.
    Unsupported {
        /// The file, as its caller named it.
        file: String,
        /// What is not supported, and what to do instead.
        problem: String,
    },
    /// An argument makes no sense: a size, a count, a value.
    Invalid(String),
    /// A network failed while it ran.
    Run {
        /// The model, as its caller named it.
        model: String,
        /// The operator's message.
        problem: String,
    },
}

impl Error {
    /// The system's refusal of `action` on `path`.
    pub fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { action, path: path.to_path_buf(), source }
    }

    pub(crate) fn malformed(file: impl fmt::Display, problem: impl fmt::Display) -> Self {
        Self::Malformed { file: file.to_string(), problem: one_line(problem) }
    }

    pub(crate) fn unsupported(file: impl fmt::Display, problem: impl fmt::Display) -> Self {
        Self::Unsupported { file: file.to_string(), problem: one_line(problem) }
    }

    pub(crate) fn invalid(problem: impl fmt::Display) -> Self {
        Self::Invalid(one_line(problem))
    }

    pub(crate) fn run(model: &str, problem: impl fmt::Display) -> Self {
        Self::Run { model: model.to_string(), problem: one_line(problem) }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { action, path, source } => {
                write!(f, "cannot {action} {}: {}", path.display(), one_line(source))
            }
            Self::Malformed { file, problem } | Self::Unsupported { file, problem } => {
                write!(f, "{file}: {problem}")
            }
            Self::Invalid(problem) => f.write_str(problem),
            Self::Run { model, problem } => write!(f, "{model}: running the network failed: {problem}"),
        }
    }
}

impl std::error::Error for Error {
    // `Display` already tells the system's reason; giving it again as the source would print it twice.
}

/// `text` on one line, without control characters and of bounded length.
pub(crate) fn one_line(text: impl fmt::Display) -> String {
    let mut line = String::new();
    for word in text.to_string().split(|c: char| c.is_whitespace() || c.is_control()) {
        if word.is_empty() {
            continue;
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
        if line.len() > LONGEST_FOREIGN_TEXT {
            let end = line.floor_char_boundary(LONGEST_FOREIGN_TEXT);
            line.truncate(end);
            line.push('…');
            break;
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_becomes_one_short_line() {
        assert_eq!(one_line("a\n  b\tc\u{1b}[31m"), "a b c [31m");
        let long = one_line("ä".repeat(10_000));
        assert!(long.len() <= LONGEST_FOREIGN_TEXT + '…'.len_utf8() && long.ends_with('…'));
    }
}
