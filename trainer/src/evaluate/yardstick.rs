//! Exported networks from pictures to pictures on the literature's test sets, by its protocol.
//!
//! Noise: normal, not rounded and not clamped, on grey pictures of any size; what comes out is rounded to levels and compared
//! with the clean picture (K. Zhang et al., 2017, "DnCNN"). Enlarging: the luminance of ITU-R BT.601 (16 to 235) of a colour
//! picture, its sides cut to multiples of the factor, made smaller by cubic interpolation; a border as wide as the factor is left
//! out (C. Dong et al., 2016, "FSRCNN").

use edgegen_runtime::generate::{Frame, Tiler};
use edgegen_runtime::model::{ImageShape, Range};
use serde::{Deserialize, Serialize};

use super::denoising::{Closeness, Figures};
use crate::data::degrade::{Degradation, Strength, bicubic, enlarged};
use crate::random::{Purpose, Stream};
use crate::{Error, Result};

/// A clean picture: grey, or three channels if the network takes them.
pub struct Clean {
    /// What it is called.
    pub name: String,
    /// Values in [0, 1], (C, H, W).
    pub values: Vec<f32>,
    /// Size.
    pub shape: ImageShape,
}

impl Clean {
    /// From a frame: of a colour picture for a grey network the luminance.
    pub fn new(name: String, frame: &Frame, channels: usize) -> Self {
        let shape = ImageShape { channels, ..frame.shape() };
        let (own, plane) = (frame.shape().channels, shape.height * shape.width);
        let level = |pixel: usize, channel: usize| f32::from(frame.pixels[pixel * own + channel]);
        let values = match (own, channels) {
            (3, 1) => (0..plane)
                .map(|pixel| {
                    let [red, green, blue] = [0, 1, 2].map(|channel| level(pixel, channel) / 255.0);
                    let luminance = 16.0 + 65.481 * red + 128.553 * green + 24.966 * blue;
                    luminance.round_ties_even() / 255.0
                })
                .collect(),
            _ => {
                (0..channels * plane).map(|at| level(at % plane, (at / plane).min(own - 1)) / 255.0).collect()
            }
        };
        Self { name, values, shape }
    }

    /// Its part at the top left whose sides are multiples of `factor`.
    fn cut(&self, factor: usize) -> Self {
        let ImageShape { channels, height, width } = self.shape;
        let shape = ImageShape { channels, height: height / factor * factor, width: width / factor * factor };
        let rows = self.values.chunks(width).enumerate();
        let kept = rows.filter(|(row, _)| row % height < shape.height);
        let values = kept.flat_map(|(_, row)| &row[..shape.width]).copied().collect();
        Self { name: self.name.clone(), values, shape }
    }

    /// Without a border of so many pixels.
    fn inner(values: &[f32], shape: ImageShape, border: usize) -> (Vec<f32>, ImageShape) {
        let inner =
            ImageShape { height: shape.height - 2 * border, width: shape.width - 2 * border, ..shape };
        let rows = values.chunks(shape.width).enumerate();
        let kept = rows.filter(|(row, _)| (border..shape.height - border).contains(&(row % shape.height)));
        (kept.flat_map(|(_, row)| &row[border..shape.width - border]).copied().collect(), inner)
    }
}

/// What a network makes of a test set.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Yardstick {
    /// Pictures.
    pub pictures: usize,
    /// What comes out.
    pub made: Closeness,
    /// What goes in; if it is smaller, brought to the size by cubic interpolation.
    pub given: Closeness,
    /// Mean absolute differences of the two, levels of 255.
    pub apart: [f64; 2],
}

/// Measures a network on pictures that are degraded with `strength`; each picture's noise is always the same.
///
/// # Errors
/// The network's, or if a picture is too small.
pub fn measure(
    tiler: &mut Tiler<'_>,
    pictures: &[Clean],
    degradation: &Degradation,
    strength: Strength,
    tell: &dyn Fn(usize),
) -> Result<Yardstick> {
    let scale = tiler.facts().scale.unwrap_or(1);
    let range = tiler.range();
    let mut sums = Sums::default();
    for (index, picture) in pictures.iter().enumerate() {
        let clean = picture.cut(scale);
        let shape = clean.shape;
        if shape.height.min(shape.width) < 4 * scale {
            return Err(Error::Data { path: picture.name.clone().into(), problem: "is too small".into() });
        }
        let mut stream = Stream::new(0, Purpose::DegradeHeldOut, index as u64);
        let seen = degradation.apply(&clean.values, shape, scale, strength, &mut stream)?;
        let small = ImageShape { height: shape.height / scale, width: shape.width / scale, ..shape };
        let signed = |values: &[f32]| values.iter().map(|value| 2.0 * value - 1.0).collect::<Vec<f32>>();
        let input = if range == Range::Signed { signed(&seen) } else { seen.clone() };
        let mut found = tiler.values(small.height, small.width, &input)?;
        found.iter_mut().for_each(|value| *value = f32::from(range.pixel(*value)) / 255.0);
        let mut before = Vec::with_capacity(shape.values());
        for plane in seen.chunks(small.height * small.width) {
            match scale {
                1 => before.extend_from_slice(plane),
                _ => before.extend(bicubic(plane, (small.height, small.width), (shape.height, shape.width))?),
            }
        }
        if scale > 1 || strength.levels {
            before.iter_mut().for_each(|value| *value = f32::from(Range::Unit.pixel(*value)) / 255.0);
        }
        let border = if scale > 1 { scale } else { 0 };
        let inner = |values: &[f32]| Clean::inner(values, shape, border);
        let ((clean, size), (found, _), (before, _)) = (inner(&clean.values), inner(&found), inner(&before));
        sums.add(&clean, [&found, &before], size);
        tell(index + 1);
    }
    Ok(sums.yardstick())
}

/// Measures a network on pairs: what it is given, and what should come out.
///
/// # Errors
/// The network's; [`Error::Data`] if a pair's pictures have other sizes than the network's.
pub fn measure_pairs(
    tiler: &mut Tiler<'_>,
    pairs: &[(Clean, Clean)],
    tell: &dyn Fn(usize),
) -> Result<Yardstick> {
    let scale = tiler.facts().scale.unwrap_or(1);
    let range = tiler.range();
    let mut sums = Sums::default();
    for (index, (given, wanted)) in pairs.iter().enumerate() {
        let ImageShape { height, width, .. } = given.shape;
        let shape = ImageShape { height: scale * height, width: scale * width, ..wanted.shape };
        if wanted.shape != shape {
            return Err(Error::Data {
                path: wanted.name.clone().into(),
                problem: format!("is {}; its pair, {}, becomes {shape}", wanted.shape, given.name),
            });
        }
        let signed = |value: &f32| if range == Range::Signed { 2.0 * value - 1.0 } else { *value };
        let input: Vec<f32> = given.values.iter().map(signed).collect();
        let mut found = tiler.values(height, width, &input)?;
        found.iter_mut().for_each(|value| *value = f32::from(range.pixel(*value)) / 255.0);
        let before = enlarged(&given.values, given.shape, shape)?;
        sums.add(&wanted.values, [&found, &before], shape);
        tell(index + 1);
    }
    Ok(sums.yardstick())
}

/// Figures of one picture after another.
#[derive(Default)]
struct Sums {
    made: Figures,
    given: Figures,
    apart: [f64; 2],
    pictures: usize,
}

impl Sums {
    /// A clean picture with what is made, and what is given.
    fn add(&mut self, clean: &[f32], [made, given]: [&[f32]; 2], shape: ImageShape) {
        self.made.add(clean, made, shape);
        self.given.add(clean, given, shape);
        for (sum, other) in self.apart.iter_mut().zip([made, given]) {
            let apart: f64 = clean.iter().zip(other).map(|(a, b)| f64::from((a - b).abs())).sum();
            *sum += 255.0 * apart / clean.len() as f64;
        }
        self.pictures += 1;
    }

    fn yardstick(&self) -> Yardstick {
        let count = self.pictures.max(1) as f64;
        Yardstick {
            pictures: self.pictures,
            made: self.made.closeness(),
            given: self.given.closeness(),
            apart: self.apart.map(|sum| sum / count),
        }
    }
}
