//! What users call settings, on a command line and in a configuration file.

use clap::ValueEnum;
use edgegen_firmware::{Dither, Scaling};
use serde::Deserialize;

/// Ways of dithering that can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DitherName {
    /// The nearest level
    None,
    /// Bayer's 8x8 matrix: steady from picture to picture
    Bayer,
    /// Floyd and Steinberg's error diffusion: true to the mean
    FloydSteinberg,
    /// Atkinson's error diffusion: more contrast
    Atkinson,
}

impl DitherName {
    /// What it stands for.
    pub fn dither(self) -> Dither {
        match self {
            Self::None => Dither::None,
            Self::Bayer => Dither::Bayer,
            Self::FloydSteinberg => Dither::FloydSteinberg,
            Self::Atkinson => Dither::Atkinson,
        }
    }
}

/// Ways of growing that can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScalingName {
    /// By a whole factor
    Pixels,
    /// As large as it fits, in blocks as sharp as that allows
    Fill,
    /// As large as it fits, smoothly
    Smooth,
}

impl ScalingName {
    /// What it stands for.
    pub fn scaling(self) -> Scaling {
        match self {
            Self::Pixels => Scaling::Pixels,
            Self::Fill => Scaling::Fill,
            Self::Smooth => Scaling::Smooth,
        }
    }
}
