//! The few words that a model is described with, and their spelling in files.

use crate::limits::MAX_IMAGE_SIDE;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fmt;

/// An enum whose variants have one spelling each, in metadata, JSON and on the command line.
macro_rules! words {
    ($(#[$meta:meta])* $name:ident, $what:literal { $($(#[$variant_meta:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "lowercase")]
        pub enum $name { $($(#[$variant_meta])* $variant),+ }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(match self { $(Self::$variant => $word),+ })
            }
        }

        impl std::str::FromStr for $name {
            type Err = Error;

            fn from_str(word: &str) -> Result<Self> {
                match word {
                    $($word => Ok(Self::$variant),)+
                    _ => Err(Error::invalid(format_args!(
                        "{word:?} is not {}: use {}", $what, [$($word),+].join(" or "),
                    ))),
                }
            }
        }
    };
}

words! {
    /// How a model was trained.
    Kind, "a kind of model" {
        /// A variational autoencoder: encoder and decoder.
        Vae = "vae",
        /// A generative adversarial network: a generator.
        Gan = "gan",
        /// A network that tells classes apart: a classifier, which samples are judged by.
        Classifier = "classifier",
        /// Feature maps of pictures, which generators learn by.
        Features = "features",
        /// A network from pictures to pictures: it restores, enlarges or translates them.
        Transform = "transform",
    }
}

words! {
    /// Which network of a model a file holds.
    Part, "a part of a model" {
        /// Picture → mean and log-variance of the posterior.
        Encoder = "encoder",
        /// Latent → picture, of a VAE.
        Decoder = "decoder",
        /// Latent → picture, of a GAN.
        Generator = "generator",
        /// Picture → picture.
        Transform = "transform",
        /// Picture → features and one logit a class.
        Classifier = "classifier",
        /// Picture → feature maps.
        Features = "features",
    }
}

words! {
    /// The values that stand for black and white in a network's pictures.
    Range, "a range" {
        /// 0 to 1.
        Unit = "unit",
        /// −1 to 1.
        Signed = "signed",
        /// 0 to 255: of networks that make pixels themselves.
        Bytes = "bytes",
    }
}

words! {
    /// What the channels of a picture mean.
    PixelFormat, "a pixel format" {
        /// One channel of 8 bits: luminance.
        Gray8 = "gray8",
        /// Three channels of 8 bits: red, green, blue.
        Rgb8 = "rgb8",
    }
}

words! {
    /// The numbers that a file's weights are stored in.
    Precision, "a precision" {
        /// 32-bit floating point.
        Fp32 = "fp32",
        /// 16-bit floating point.
        Fp16 = "fp16",
        /// 8-bit integers.
        Int8 = "int8",
    }
}

impl Part {
    /// True if the part turns latents into pictures.
    pub fn draws(self) -> bool {
        matches!(self, Self::Decoder | Self::Generator)
    }
}

impl Range {
    /// The 8-bit level of a value: the range is mapped to 0…255 in float32, rounded half to even and clamped. NaN is 0.
    pub fn pixel(self, value: f32) -> u8 {
        let level = match self {
            Self::Unit => value * 255.0,
            Self::Signed => (value + 1.0) * 127.5,
            Self::Bytes => value,
        };
        level.round_ties_even().clamp(0.0, 255.0) as u8 // NaN as u8 is 0
    }
}

impl PixelFormat {
    /// Channels of a picture.
    pub fn channels(self) -> usize {
        match self {
            Self::Gray8 => 1,
            Self::Rgb8 => 3,
        }
    }

    /// The format of pictures of that many channels, if there is one.
    pub fn from_channels(channels: usize) -> Option<Self> {
        match channels {
            1 => Some(Self::Gray8),
            3 => Some(Self::Rgb8),
            _ => None,
        }
    }
}

/// The size of one picture. Prints as `1x28x28` (channels, height, width).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageShape {
    /// 1 or 3.
    pub channels: usize,
    /// Pixels from top to bottom.
    pub height: usize,
    /// Pixels from left to right.
    pub width: usize,
}

impl ImageShape {
    /// Values of one picture: channels × height × width.
    pub fn values(self) -> usize {
        self.channels * self.height * self.width
    }
}

impl fmt::Display for ImageShape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}x{}x{}", self.channels, self.height, self.width))
    }
}

/// As it prints.
impl std::str::FromStr for ImageShape {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let sizes: Option<Vec<usize>> = text.split(['x', '×']).map(|size| size.trim().parse().ok()).collect();
        let sides = 1..=MAX_IMAGE_SIDE;
        match sizes.as_deref() {
            Some(&[channels @ (1 | 3), height, width])
                if sides.contains(&height) && sides.contains(&width) =>
            {
                Ok(Self { channels, height, width })
            }
            _ => Err(Error::invalid(format_args!(
                "{text:?} is not the size of a picture: give channels, 1 or 3, height and width, for example 1x28x28"
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_display_and_parse_spell_a_word_alike() {
        fn check<T>(values: &[T])
        where
            T: fmt::Display + fmt::Debug + PartialEq + std::str::FromStr<Err = Error> + Serialize,
        {
            for value in values {
                assert_eq!(&value.to_string().parse::<T>().unwrap(), value);
                assert_eq!(serde_json::to_string(value).unwrap(), format!("\"{value}\""));
            }
        }
        check(&[Kind::Vae, Kind::Gan, Kind::Transform]);
        check(&[Part::Encoder, Part::Decoder, Part::Generator]);
        check(&[Range::Unit, Range::Signed]);
        check(&[PixelFormat::Gray8, PixelFormat::Rgb8]);
        check(&[Precision::Fp32, Precision::Fp16, Precision::Int8]);
        let line = "fp8".parse::<Precision>().unwrap_err().to_string();
        assert_eq!(line, "\"fp8\" is not a precision: use fp32 or fp16 or int8");
    }
}
