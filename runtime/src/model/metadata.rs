//! The description that an ONNX file carries in `metadata_props`.

use crate::kinds::{Kind, Part, PixelFormat, Precision, Range};
use crate::limits::MAX_IMAGE_SIDE;
use crate::{Error, Result};
use std::ops::RangeInclusive;
use std::str::FromStr;

/// The keys in `metadata_props`.
pub mod keys {
    /// [`Kind`](super::Kind).
    pub const KIND: &str = "edgegen.kind";
    /// [`Part`](super::Part).
    pub const PART: &str = "edgegen.part";
    /// Values of a latent, a decimal number.
    pub const LATENT_DIM: &str = "edgegen.latent_dim";
    /// Distribution of latents: `normal`.
    pub const PRIOR: &str = "edgegen.prior";
    /// Names of the classes, a JSON list of strings.
    pub const CLASSES: &str = "edgegen.classes";
    /// [`Range`](super::Range).
    pub const RANGE: &str = "edgegen.range";
    /// [`PixelFormat`](super::PixelFormat).
    pub const PIXEL_FORMAT: &str = "edgegen.pixel_format";
    /// [`Precision`](super::Precision).
    pub const PRECISION: &str = "edgegen.precision";
    /// Name of the training data.
    pub const DATASET: &str = "edgegen.dataset";
    /// Seed of the training, a decimal number.
    pub const SEED: &str = "edgegen.seed";
    /// SHA-256 of the file that this one was made from, 64 hexadecimal digits.
    pub const PARENT_SHA256: &str = "edgegen.parent_sha256";
    /// Of an encoder trained on pictures whose values were drawn as 0 or 1, with the grey value as the probability of
    /// 1: `stochastic`.
    pub const BINARIZE: &str = "edgegen.binarize";
    /// Of a denoiser's encoder: deviation of the normal noise on its pictures, a decimal number in units of the range
    /// [0, 1], after which values are clamped to it.
    pub const DENOISE: &str = "edgegen.denoise";
    /// Of a network from pictures to pictures: how many times as high and as wide they become, a whole number.
    pub const SCALE: &str = "edgegen.scale";
    /// Of one that takes pictures of any size: how many pixels around a pixel have a say in what it becomes, so that tiles
    /// need as many from their neighbours.
    pub const BORDER: &str = "edgegen.border";
    /// Of the same: what heights and widths, and the places of tiles, have to be multiples of.
    pub const MULTIPLE: &str = "edgegen.multiple";
    /// Of pictures that are log-mel spectrograms, how sound is made of them: samples a second, samples of a window, and from a
    /// column to the next, `8000,256,80`.
    pub const SOUND: &str = "edgegen.sound";
}

/// The only prior there is: independent standard normal values.
const NORMAL: &str = "normal";
/// Most times as high and as wide that pictures become.
const MOST_SCALE: usize = 64;
/// The only binarisation there is: each value is drawn with the grey value as the probability of 1.
const STOCHASTIC: &str = "stochastic";

/// What a file says about itself. Foreign files say little: everything is optional.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metadata {
    /// How the model was trained.
    pub kind: Option<Kind>,
    /// Which network the file holds.
    pub part: Option<Part>,
    /// Values of a latent.
    pub latent_dim: Option<usize>,
    /// Distribution of latents; only `normal` is accepted.
    pub prior: Option<String>,
    /// Names of the classes; empty if the model is not conditional.
    pub classes: Vec<String>,
    /// Range of the network's pictures.
    pub range: Option<Range>,
    /// Meaning of the picture's channels.
    pub pixel_format: Option<PixelFormat>,
    /// Numbers that the weights are stored in.
    pub precision: Option<Precision>,
    /// Name of the training data.
    pub dataset: Option<String>,
    /// Seed of the training.
    pub seed: Option<u64>,
    /// SHA-256 of the file that this one was made from.
    pub parent_sha256: Option<String>,
    /// Whether an encoder was trained on binarised pictures.
    pub binarized: bool,
    /// Deviation of the noise on what a denoiser's encoder was trained on, in units of the range [0, 1].
    pub noise: Option<f64>,
    /// How many times as high and as wide pictures become.
    pub scale: Option<usize>,
    /// Pixels around a pixel that have a say in what it becomes; `None`: all, or it is not known.
    pub border: Option<usize>,
    /// What heights and widths have to be multiples of.
    pub multiple: Option<usize>,
    /// Of pictures that are spectrograms: samples a second, of a window, from a column to the next.
    pub sound: Option<[usize; 3]>,
    /// ONNX's own field: the program that wrote the file.
    pub producer_name: Option<String>,
    /// ONNX's own field: its version.
    pub producer_version: Option<String>,
}

impl Metadata {
    /// Reads the entries of `metadata_props`. Keys that are not in [`keys`] are passed over.
    /// `producer_name` and `producer_version` are not among them and stay empty.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the key whose value is bad or given twice.
    pub fn from_props<'a>(props: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self> {
        let mut metadata = Self::default();
        let mut seen = Vec::new();
        for (key, value) in props {
            if !key.starts_with("edgegen.") {
                continue;
            }
            if seen.contains(&key) {
                return Err(Error::invalid(format_args!("metadata {key} is given twice")));
            }
            seen.push(key);
            metadata.set(key, value)?;
        }
        Ok(metadata)
    }

    fn set(&mut self, key: &str, value: &str) -> Result<()> {
        match key {
            keys::KIND => self.kind = Some(word(key, value)?),
            keys::PART => self.part = Some(word(key, value)?),
            keys::LATENT_DIM => self.latent_dim = Some(number(key, value)?),
            keys::PRIOR if value == NORMAL => self.prior = Some(value.to_string()),
            keys::PRIOR => return Err(bad(key, value, "the only prior supported is normal")),
            keys::CLASSES => {
                let classes = serde_json::from_str(value);
                self.classes = classes.map_err(|_| bad(key, value, "it should be a JSON list of strings"))?;
            }
            keys::RANGE => self.range = Some(word(key, value)?),
            keys::PIXEL_FORMAT => self.pixel_format = Some(word(key, value)?),
            keys::PRECISION => self.precision = Some(word(key, value)?),
            keys::DATASET => self.dataset = Some(value.to_string()),
            keys::SEED => self.seed = Some(number(key, value)?),
            keys::PARENT_SHA256 if is_sha256(value) => self.parent_sha256 = Some(value.to_string()),
            keys::PARENT_SHA256 => {
                return Err(bad(key, value, "it should be 64 lower-case hexadecimal digits"));
            }
            keys::BINARIZE if value == STOCHASTIC => self.binarized = true,
            keys::BINARIZE => return Err(bad(key, value, "the only binarisation supported is stochastic")),
            keys::DENOISE => {
                let deviation = value.parse::<f64>().ok().filter(|sigma| sigma.is_finite() && *sigma >= 0.0);
                let hint = "it should be a number of at least 0";
                self.noise = Some(deviation.ok_or_else(|| bad(key, value, hint))?);
            }
            keys::SCALE => self.scale = Some(bounded(key, value, 1..=MOST_SCALE)?),
            keys::BORDER => self.border = Some(bounded(key, value, 0..=MAX_IMAGE_SIDE)?),
            keys::MULTIPLE => self.multiple = Some(bounded(key, value, 1..=MAX_IMAGE_SIDE)?),
            keys::SOUND => {
                let sizes: Option<Vec<usize>> = value.split(',').map(|size| size.parse().ok()).collect();
                let sizes = sizes.and_then(|sizes| <[usize; 3]>::try_from(sizes).ok());
                let hint = "it should be three whole numbers, as 8000,256,80";
                self.sound = Some(sizes.ok_or_else(|| bad(key, value, hint))?);
            }
            _ => {} // of a newer version: what the file needs is told by its graph
        }
        Ok(())
    }

    /// The entries for `metadata_props`, in the order of [`keys`]. The producer is not among them:
    /// it has fields of its own in an ONNX file.
    pub fn to_props(&self) -> Vec<(String, String)> {
        let classes = serde_json::Value::from(self.classes.clone());
        let entries = [
            (keys::KIND, self.kind.map(|v| v.to_string())),
            (keys::PART, self.part.map(|v| v.to_string())),
            (keys::LATENT_DIM, self.latent_dim.map(|v| v.to_string())),
            (keys::PRIOR, self.prior.clone()),
            (keys::CLASSES, (!self.classes.is_empty()).then(|| classes.to_string())),
            (keys::RANGE, self.range.map(|v| v.to_string())),
            (keys::PIXEL_FORMAT, self.pixel_format.map(|v| v.to_string())),
            (keys::PRECISION, self.precision.map(|v| v.to_string())),
            (keys::DATASET, self.dataset.clone()),
            (keys::SEED, self.seed.map(|v| v.to_string())),
            (keys::PARENT_SHA256, self.parent_sha256.clone()),
            (keys::BINARIZE, self.binarized.then(|| STOCHASTIC.to_string())),
            (keys::DENOISE, self.noise.map(|v| v.to_string())),
            (keys::SCALE, self.scale.map(|v| v.to_string())),
            (keys::BORDER, self.border.map(|v| v.to_string())),
            (keys::MULTIPLE, self.multiple.map(|v| v.to_string())),
            (keys::SOUND, self.sound.map(|[rate, window, hop]| format!("{rate},{window},{hop}"))),
        ];
        entries.into_iter().filter_map(|(key, value)| Some((key.to_string(), value?))).collect()
    }
}

/// True for 64 lower-case hexadecimal digits.
pub(super) fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

fn word<T: FromStr<Err = Error>>(key: &str, value: &str) -> Result<T> {
    value.parse().map_err(|e| Error::invalid(format_args!("metadata {key}: {e}")))
}

fn bounded(key: &str, value: &str, range: RangeInclusive<usize>) -> Result<usize> {
    let found: usize = number(key, value)?;
    let hint = || bad(key, value, &format!("it should be {} to {}", range.start(), range.end()));
    range.contains(&found).then_some(found).ok_or_else(hint)
}

fn number<T: FromStr>(key: &str, value: &str) -> Result<T> {
    value.parse().map_err(|_| bad(key, value, "it should be a whole number"))
}

fn bad(key: &str, value: &str, hint: &str) -> Error {
    Error::invalid(format_args!("metadata {key} is {value:?}: {hint}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(props: &[(String, String)]) -> Result<Metadata> {
        Metadata::from_props(props.iter().map(|(key, value)| (key.as_str(), value.as_str())))
    }

    #[test]
    fn what_is_written_is_read_again() {
        let metadata = Metadata {
            kind: Some(Kind::Vae),
            part: Some(Part::Decoder),
            latent_dim: Some(32),
            prior: Some(NORMAL.into()),
            classes: vec!["T-shirt".into(), "\"quoted\"".into()],
            range: Some(Range::Unit),
            pixel_format: Some(PixelFormat::Gray8),
            precision: Some(Precision::Int8),
            dataset: Some("fashion-mnist".into()),
            seed: Some(u64::MAX),
            parent_sha256: Some("0a".repeat(32)),
            binarized: true,
            noise: Some(0.3),
            scale: Some(2),
            border: Some(0),
            multiple: Some(4),
            sound: Some([8000, 256, 80]),
            producer_name: None,
            producer_version: None,
        };
        let props = metadata.to_props();
        assert_eq!(props.len(), 17);
        assert_eq!(read(&props).unwrap(), metadata);
        assert_eq!(read(&[]).unwrap(), Metadata::default());
        assert!(Metadata::default().to_props().is_empty());
    }

    #[test]
    fn bad_values_are_errors_that_name_the_key() {
        for (key, value) in [
            (keys::KIND, "VAE"),
            (keys::PART, "discriminator"),
            (keys::LATENT_DIM, "-1"),
            (keys::PRIOR, "uniform"),
            (keys::CLASSES, "[1, 2]"),
            (keys::RANGE, ""),
            (keys::PIXEL_FORMAT, "bgr8"),
            (keys::PRECISION, "fp8"),
            (keys::SEED, "18446744073709551616"),
            (keys::PARENT_SHA256, "0A"),
            (keys::BINARIZE, "no"),
            (keys::DENOISE, "-0.1"),
            (keys::DENOISE, "inf"),
        ] {
            let line = read(&[(key.into(), value.into())]).unwrap_err().to_string();
            assert!(line.contains(key), "{line}");
        }
        let twice = vec![(keys::SEED.to_string(), "1".to_string()); 2];
        assert!(read(&twice).unwrap_err().to_string().contains("twice"));
        assert_eq!(
            read(&[("author".into(), "x".into()), ("edgegen.future".into(), "y".into())]).unwrap(),
            Metadata::default()
        );
    }
}
