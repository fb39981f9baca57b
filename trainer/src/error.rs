//! What can go wrong on the host, as one clear line: where, what, and what to do about it.

use std::fmt;
use std::path::{Path, PathBuf};

/// The library's result.
pub type Result<T> = std::result::Result<T, Error>;

/// Everything that the trainer refuses. `Display` is always one line.
#[derive(Debug)]
pub enum Error {
    /// A data set is missing, damaged or unusable.
    Data {
        /// File or folder.
        path: PathBuf,
        /// What is wrong with it and what to do.
        problem: String,
    },
    /// A preset, a flag or a configuration file asks for something impossible.
    Config(String),
    /// A run folder or checkpoint is missing, damaged or of another run.
    Run {
        /// File or folder.
        path: PathBuf,
        /// What is wrong with it and what to do.
        problem: String,
    },
    /// Training cannot go on.
    Training(String),
    /// An exported file does not compute what the trained network computes.
    Export(String),
    /// Files and exported models.
    Runtime(edgegen_runtime::Error),
}

impl Error {
    pub(crate) fn data(path: &Path, problem: impl fmt::Display) -> Self {
        Self::Data { path: path.to_path_buf(), problem: problem.to_string() }
    }

    pub(crate) fn run(path: &Path, problem: impl fmt::Display) -> Self {
        Self::Run { path: path.to_path_buf(), problem: problem.to_string() }
    }

    pub(crate) fn io(action: &'static str, path: &Path, source: std::io::Error) -> Self {
        Self::Runtime(edgegen_runtime::Error::io(action, path, source))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Data { path, problem } | Self::Run { path, problem } => {
                write!(f, "{}: {}", path.display(), one_line(problem))
            }
            Self::Config(problem) | Self::Training(problem) | Self::Export(problem) => {
                f.write_str(&one_line(problem))
            }
            Self::Runtime(source) => source.fmt(f),
        }
    }
}

fn one_line(text: &str) -> String {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ")
}

impl std::error::Error for Error {}

impl From<edgegen_runtime::Error> for Error {
    fn from(source: edgegen_runtime::Error) -> Self {
        Self::Runtime(source)
    }
}
