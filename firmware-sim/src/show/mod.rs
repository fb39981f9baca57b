//! The panel's picture for human eyes: PNG, GIF, or the terminal.
//!
//! Files show the module as it lies on the desk: enlarged, with a bezel and, on the OLED, with the
//! gaps between its pixels. The same pictures give the same bytes.

pub mod look;
pub mod sheet;
pub mod terminal;

pub use look::Look;

use std::fmt;
use std::path::{Path, PathBuf};

use edgegen_runtime::generate::Frame;
use edgegen_runtime::model::PixelFormat;
use edgegen_runtime::pictures;

use crate::picture::Picture;

/// A file format for pictures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One picture.
    Png,
    /// One or more, shown in turn.
    Gif,
}

/// Why a picture could not be shown.
#[derive(Debug)]
pub enum ShowError {
    /// The file's name does not say PNG or GIF.
    UnknownFormat(PathBuf),
    /// There is no picture.
    Nothing,
    /// The file cannot be written.
    File(edgegen_runtime::Error),
}

impl fmt::Display for ShowError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownFormat(path) => {
                write!(out, "cannot tell what to write to {}: end its name in .png or .gif", path.display())
            }
            Self::Nothing => write!(out, "the panel has shown nothing"),
            Self::File(error) => write!(out, "{error}"),
        }
    }
}

impl std::error::Error for ShowError {}

impl From<edgegen_runtime::Error> for ShowError {
    fn from(error: edgegen_runtime::Error) -> Self {
        Self::File(error)
    }
}

/// The format that a file's name asks for.
pub fn format_of(path: &Path) -> Result<Format, ShowError> {
    let extension = path.extension().map(|extension| extension.to_ascii_lowercase());
    match extension.as_ref().and_then(|extension| extension.to_str()) {
        Some("png") => Ok(Format::Png),
        Some("gif") => Ok(Format::Gif),
        _ => Err(ShowError::UnknownFormat(path.to_owned())),
    }
}

/// Writes the last picture (PNG) or all of them (GIF), dressed in `look`; all or nothing.
pub fn write(
    path: &Path,
    pictures: &[Picture],
    look: &Look,
    frames_per_second: f32,
) -> Result<(), ShowError> {
    let last = pictures.last().ok_or(ShowError::Nothing)?;
    match format_of(path)? {
        Format::Png => pictures::write_png(&frame_of(&look.dress(last)), path)?,
        Format::Gif => {
            let frames: Vec<Frame> = pictures.iter().map(|picture| frame_of(&look.dress(picture))).collect();
            pictures::write_gif(&frames, frames_per_second, path)?;
        }
    }
    Ok(())
}

/// Writes pictures side by side with their names below them, as PNG; all or nothing.
pub fn write_sheet(path: &Path, named: &[(&str, Picture)]) -> Result<(), ShowError> {
    Ok(pictures::write_png(&frame_of(&sheet::sheet(named)), path)?)
}

fn frame_of(picture: &Picture) -> Frame {
    Frame {
        width: picture.width(),
        height: picture.height(),
        format: PixelFormat::Rgb8,
        pixels: picture.rgb().to_vec(),
    }
}
