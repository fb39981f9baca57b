//! Samples → log-mel spectrogram → samples.

use crate::model::Metadata;
use crate::random::{Purpose, Stream};
use crate::{Error, Result};
use realfft::num_complex::Complex;
use realfft::{ComplexToReal, RealFftPlanner, RealToComplex};
use serde::{Deserialize, Serialize};
use std::f64::consts::TAU;
use std::sync::Arc;

/// Loudest sample of what is made.
pub const LOUDEST: f32 = 0.7;
/// Rounds in which phases are looked for.
pub const ROUNDS: usize = 60;
/// What 0 is below 1, dB.
const DEPTH: f64 = 80.0;
/// Lowest frequency of a band, hertz.
const LOWEST: f64 = 50.0;
/// Power below which a sound is silence.
const SILENCE: f64 = 1e-12;
/// Rounds in which powers of frequencies are looked for that make those of the bands.
const UNMIXING: usize = 60;
/// How far phases are carried on from round to round (N. Perraudin et al., 2013, "A fast Griffin-Lim algorithm").
const MOMENTUM: f32 = 0.99;
/// Added where something is divided.
const TINY: f64 = 1e-20;

/// How sound and spectrogram belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Format {
    /// Samples a second.
    pub rate: u32,
    /// Samples of a window.
    pub window: usize,
    /// Samples from a column to the next.
    pub hop: usize,
}

impl Format {
    /// That of the pictures of a model; `None`: they are no spectrograms.
    ///
    /// # Errors
    /// If it is not usable.
    pub fn of(metadata: &Metadata) -> Result<Option<Self>> {
        let Some([rate, window, hop]) = metadata.sound else { return Ok(None) };
        let rate = u32::try_from(rate).map_err(|_| Error::invalid("the model's rate is too high"))?;
        let format = Self { rate, window, hop };
        format.check()?;
        Ok(Some(format))
    }

    /// Refuses what cannot be computed with.
    ///
    /// # Errors
    /// What is wrong.
    pub fn check(self) -> Result<()> {
        let Self { rate, window, hop } = self;
        let windows = 16..=16384;
        if !(1000..=384_000).contains(&rate)
            || !windows.contains(&window)
            || !window.is_multiple_of(2)
            || hop == 0
            || hop > window / 2
        {
            return Err(Error::invalid(format_args!(
                "a spectrogram of {rate} samples a second, windows of {window}, steps of {hop}: rates are 1000 to 384000, windows even from 16 to 16384, steps 1 to half of a window"
            )));
        }
        Ok(())
    }

    /// The log-mel spectrogram of the first `columns` steps of a sound of this rate, (bands, columns) in [0, 1]; a shorter one
    /// is followed by silence.
    ///
    /// # Errors
    /// If the format is not usable, or the sound is silence.
    pub fn spectrogram(self, samples: &[f32], bands: usize, columns: usize) -> Result<Vec<f32>> {
        let found = self.heard(samples, bands, columns)?;
        found.ok_or_else(|| Error::invalid("this sound is silence"))
    }

    /// As [`Self::spectrogram`]; `None`: the sound is silence.
    ///
    /// # Errors
    /// If the format is not usable.
    pub fn heard(self, samples: &[f32], bands: usize, columns: usize) -> Result<Option<Vec<f32>>> {
        self.check()?;
        let mut transform = Transform::new(self);
        let spectrum = transform.forward(samples, columns);
        let filters = filters(self, bands)?;
        let mut powers = vec![0f64; bands * columns];
        for (column, bins) in spectrum.chunks(transform.bins()).enumerate() {
            for (band, filter) in filters.iter().enumerate() {
                let power: f64 =
                    filter.iter().map(|(bin, weight)| weight * f64::from(bins[*bin].norm_sqr())).sum();
                // the highest band on top
                powers[(bands - 1 - band) * columns + column] = power;
            }
        }
        let loudest = powers.iter().copied().fold(0.0, f64::max);
        if loudest < SILENCE * (self.window * self.window) as f64 {
            return Ok(None);
        }
        let level = |power: f64| 10.0 * (power / loudest).max(1e-30).log10();
        let value = |power: f64| ((level(power) + DEPTH) / DEPTH).clamp(0.0, 1.0) as f32;
        Ok(Some(powers.into_iter().map(value).collect()))
    }

    /// Where windows of `columns` steps begin, every `stride` steps, in samples: all that lie within a sound of `length` samples; of
    /// a shorter one the one at its beginning.
    pub fn windows(self, length: usize, columns: usize, stride: usize) -> impl Iterator<Item = usize> {
        let (own, stride) = (columns * self.hop, stride.max(1) * self.hop);
        (0..=length.saturating_sub(own) / stride).map(move |window| window * stride)
    }

    /// A sound whose spectrogram is near this one, (bands, columns) in [0, 1]: powers of frequencies that make those of the
    /// bands (D. Lee, H. Seung, 2001), phases by Griffin and Lim (1984), from random ones that are always the same. The loudest
    /// sample is [`LOUDEST`].
    ///
    /// # Errors
    /// If the format is not usable, or `picture` is not as large.
    pub fn sound(self, picture: &[f32], bands: usize, columns: usize, rounds: usize) -> Result<Vec<f32>> {
        self.check()?;
        if picture.len() != bands * columns || picture.is_empty() {
            return Err(Error::invalid(format_args!("{} values are no {bands} by {columns}", picture.len())));
        }
        let mut transform = Transform::new(self);
        let (bins, filters) = (transform.bins(), filters(self, bands)?);
        let mut magnitudes = vec![0f32; bins * columns];
        for (column, magnitudes) in magnitudes.chunks_mut(bins).enumerate() {
            let power = |band: usize| {
                let value = f64::from(picture[(bands - 1 - band) * columns + column]).clamp(0.0, 1.0);
                // what is 80 dB below or more is nothing
                if value <= 0.0 { 0.0 } else { 10f64.powf((value - 1.0) * DEPTH / 10.0) }
            };
            let wanted: Vec<f64> = (0..bands).map(power).collect();
            unmix(&filters, &wanted, magnitudes);
        }
        let length = self.hop * columns.saturating_sub(1) + 1;
        let mut stream = Stream::new(0, Purpose::SOUND, 0);
        let mut phases: Vec<Complex<f32>> = (0..bins * columns)
            .map(|_| Complex::from_polar(1.0, std::f32::consts::TAU * stream.uniform()))
            .collect();
        let mut before = vec![Complex::new(0.0, 0.0); phases.len()];
        let mut samples = Vec::new();
        for round in 0..=rounds {
            let spectrum: Vec<Complex<f32>> =
                phases.iter().zip(&magnitudes).map(|(phase, magnitude)| phase * magnitude).collect();
            samples = transform.backward(&spectrum, length);
            if round == rounds {
                break;
            }
            let found = transform.forward(&samples, columns);
            for ((phase, found), before) in phases.iter_mut().zip(&found).zip(&mut before) {
                let carried = found + (found - *before) * MOMENTUM;
                *before = *found;
                let length = carried.norm();
                *phase = if length > 0.0 { carried / length } else { Complex::new(1.0, 0.0) };
            }
        }
        let loudest = samples.iter().fold(0f32, |most, value| most.max(value.abs()));
        if loudest > 0.0 {
            samples.iter_mut().for_each(|value| *value *= LOUDEST / loudest);
        }
        Ok(samples)
    }
}

/// Triangles along the mel scale, 2595·log₁₀(1 + f/700): for each band, from the lowest, frequencies and weights.
fn filters(format: Format, bands: usize) -> Result<Vec<Vec<(usize, f64)>>> {
    let Format { rate, window, .. } = format;
    let mel = |hertz: f64| 2595.0 * (1.0 + hertz / 700.0).log10();
    let hertz = |mel: f64| 700.0 * (10f64.powf(mel / 2595.0) - 1.0);
    let (first, last) = (mel(LOWEST), mel(f64::from(rate) / 2.0));
    let ends: Vec<f64> =
        (0..bands + 2).map(|end| hertz(first + (last - first) * end as f64 / (bands + 1) as f64)).collect();
    let width = f64::from(rate) / window as f64;
    let filters: Vec<Vec<(usize, f64)>> = ends
        .windows(3)
        .map(|ends| {
            let [low, middle, high] = [ends[0], ends[1], ends[2]];
            let weight = |bin: usize| {
                let at = bin as f64 * width;
                ((at - low) / (middle - low)).min((high - at) / (high - middle)).max(0.0)
            };
            let mut filter: Vec<(usize, f64)> =
                (0..=window / 2).map(|bin| (bin, weight(bin))).filter(|(_, weight)| *weight > 0.0).collect();
            if filter.is_empty() {
                // narrower than the distance between frequencies: the nearest one
                filter.push((((middle / width).round() as usize).min(window / 2), 1.0));
            }
            filter
        })
        .collect();
    if filters.is_empty() {
        return Err(Error::invalid("a spectrogram of no bands"));
    }
    Ok(filters)
}

/// Magnitudes of frequencies whose powers, mixed by the filters, come to `wanted`.
fn unmix(filters: &[Vec<(usize, f64)>], wanted: &[f64], magnitudes: &mut [f32]) {
    let mut powers = vec![0f64; magnitudes.len()];
    let mut shares = powers.clone();
    for (filter, wanted) in filters.iter().zip(wanted) {
        let sum: f64 = filter.iter().map(|(_, weight)| weight).sum();
        for (bin, weight) in filter {
            powers[*bin] += weight * wanted / sum;
            shares[*bin] += weight;
        }
    }
    powers.iter_mut().zip(&shares).for_each(|(power, share)| *power /= share.max(TINY));
    for _ in 0..UNMIXING {
        let (mut above, mut below) = (vec![0f64; powers.len()], vec![0f64; powers.len()]);
        for (filter, wanted) in filters.iter().zip(wanted) {
            let mixed: f64 = filter.iter().map(|(bin, weight)| weight * powers[*bin]).sum();
            for (bin, weight) in filter {
                above[*bin] += weight * wanted;
                below[*bin] += weight * mixed;
            }
        }
        for ((power, above), below) in powers.iter_mut().zip(&above).zip(&below) {
            *power *= above / (below + TINY);
        }
    }
    magnitudes.iter_mut().zip(&powers).for_each(|(magnitude, power)| *magnitude = power.sqrt() as f32);
}

/// The short-time Fourier transform with Hann windows that are centred on their steps, and its inverse of least squares.
struct Transform {
    format: Format,
    hann: Vec<f32>,
    there: Arc<dyn RealToComplex<f32>>,
    back: Arc<dyn ComplexToReal<f32>>,
}

impl Transform {
    fn new(format: Format) -> Self {
        let mut planner = RealFftPlanner::new();
        let window = format.window;
        let hann =
            (0..window).map(|at| (0.5 - 0.5 * (TAU * at as f64 / window as f64).cos()) as f32).collect();
        Self { format, hann, there: planner.plan_fft_forward(window), back: planner.plan_fft_inverse(window) }
    }

    fn bins(&self) -> usize {
        self.format.window / 2 + 1
    }

    /// (columns, bins).
    fn forward(&mut self, samples: &[f32], columns: usize) -> Vec<Complex<f32>> {
        let Format { window, hop, .. } = self.format;
        let mut spectrum = vec![Complex::new(0.0, 0.0); self.bins() * columns];
        let mut piece = vec![0f32; window];
        for (column, bins) in spectrum.chunks_mut(window / 2 + 1).enumerate() {
            let first = (column * hop) as isize - (window / 2) as isize;
            for (at, (value, hann)) in piece.iter_mut().zip(&self.hann).enumerate() {
                let sample = usize::try_from(first + at as isize).ok().and_then(|place| samples.get(place));
                *value = hann * sample.copied().unwrap_or(0.0);
            }
            // of the right lengths it does not fail
            let _ = self.there.process(&mut piece, bins);
        }
        spectrum
    }

    /// `length` samples.
    fn backward(&mut self, spectrum: &[Complex<f32>], length: usize) -> Vec<f32> {
        let Format { window, hop, .. } = self.format;
        let (mut samples, mut weights) = (vec![0f32; length], vec![0f32; length]);
        let mut piece = vec![0f32; window];
        for (column, bins) in spectrum.chunks(self.bins()).enumerate() {
            let mut bins = bins.to_vec();
            // of a real sound these two are real
            bins[0].im = 0.0;
            bins[window / 2].im = 0.0;
            let _ = self.back.process(&mut bins, &mut piece);
            let first = (column * hop) as isize - (window / 2) as isize;
            for (at, (value, hann)) in piece.iter().zip(&self.hann).enumerate() {
                if let Some(place) = usize::try_from(first + at as isize).ok().filter(|place| *place < length)
                {
                    samples[place] += hann * value / window as f32;
                    weights[place] += hann * hann;
                }
            }
        }
        samples.iter_mut().zip(&weights).for_each(|(sample, weight)| *sample /= weight.max(1e-3));
        samples
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORMAT: Format = Format { rate: 8000, window: 256, hop: 80 };

    /// A tone that rises, with an overtone, and fades.
    fn sweep() -> Vec<f32> {
        let mut phase = 0.0;
        (0..5000)
            .map(|at| {
                let time = at as f64 / 8000.0;
                phase += TAU * (300.0 + 1500.0 * time) / 8000.0;
                ((phase.sin() + 0.3 * (2.0 * phase).sin()) * (-2.0 * time).exp() * 0.4) as f32
            })
            .collect()
    }

    #[test]
    fn a_tone_lies_in_its_band() {
        let tone: Vec<f32> = (0..5120).map(|at| (TAU * 1000.0 * at as f64 / 8000.0).sin() as f32).collect();
        let picture = FORMAT.spectrogram(&tone, 64, 64).unwrap();
        let column: Vec<f32> = (0..64).map(|row| picture[row * 64 + 30]).collect();
        let loudest = (0..64).max_by(|a, b| column[*a].total_cmp(&column[*b])).unwrap();
        // 1000 hertz are 1000 mel, of 78 to 2146 in 65 steps: the 29th band from below
        assert!((63 - loudest as i32 - 28).abs() <= 1, "{loudest}");
        assert!(column[loudest] > 0.98 && column[5] < 0.2 && column[60] < 0.2);
    }

    #[test]
    fn a_sound_of_a_spectrogram_has_that_spectrogram() {
        let picture = FORMAT.spectrogram(&sweep(), 64, 64).unwrap();
        let sound = FORMAT.sound(&picture, 64, 64, ROUNDS).unwrap();
        assert_eq!(sound, FORMAT.sound(&picture, 64, 64, ROUNDS).unwrap());
        let again = FORMAT.spectrogram(&sound, 64, 64).unwrap();
        // where it is not nearly silent
        let apart: Vec<f32> = picture
            .iter()
            .zip(&again)
            .filter(|(a, _)| **a > 0.5)
            .map(|(a, b)| (a - b).abs() * 80.0)
            .collect();
        let mean = apart.iter().sum::<f32>() / apart.len() as f32;
        assert!(mean < 2.5, "{mean} dB");
        let loudest = sound.iter().fold(0f32, |most, value| most.max(value.abs()));
        assert!((loudest - LOUDEST).abs() < 1e-6);
    }

    #[test]
    fn windows_lie_within_the_sound() {
        let starts = |length: usize| FORMAT.windows(length, 64, 32).collect::<Vec<_>>();
        assert_eq!(starts(100), [0]);
        assert_eq!(starts(64 * 80), [0]);
        assert_eq!(starts(96 * 80), [0, 2560]);
        assert_eq!(starts(128 * 80 - 1), [0, 2560]);
        assert_eq!(starts(128 * 80), [0, 2560, 5120]);
    }

    #[test]
    fn silence_and_misfits_are_refused() {
        assert!(FORMAT.spectrogram(&[0.0; 4000], 64, 64).unwrap_err().to_string().contains("silence"));
        assert!(Format { hop: 0, ..FORMAT }.check().is_err());
        assert!(Format { window: 255, ..FORMAT }.check().is_err());
        assert!(FORMAT.sound(&[0.0; 10], 64, 64, 1).is_err());
        // all black: nothing is heard, and nothing fails
        assert!(FORMAT.sound(&[0.0; 64 * 64], 64, 64, 3).unwrap().iter().all(|value| *value == 0.0));
    }
}
