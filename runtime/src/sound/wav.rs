//! WAV files: any rate, 8 to 32 bits or floats, any number of channels in; one channel of 16 bits out.

use crate::files::write_atomically;
use crate::limits::{MAX_MODEL_BYTES, read_bounded};
use crate::{Error, Result};
use audioadapter_buffers::direct::SequentialSlice;
use hound::{SampleFormat, WavReader, WavSpec, WavWriter};
use rubato::{Fft, FixedSync, Resampler};
use std::io::{Cursor, Write};
use std::path::Path;

/// Rates that are read, samples a second.
const RATES: std::ops::RangeInclusive<u32> = 1_000..=384_000;
/// Samples that are brought to another rate at once.
const CHUNK: usize = 1024;

/// One channel.
#[derive(Clone, Debug, PartialEq)]
pub struct Sound {
    /// Samples a second.
    pub rate: u32,
    /// −1 to 1.
    pub samples: Vec<f32>,
}

/// Reads a WAV file: several channels become their mean.
///
/// # Errors
/// If the file cannot be read, is no WAV file, or holds nothing.
pub fn read_wav(path: &Path) -> Result<Sound> {
    Sound::from_bytes(&read_bounded(path, MAX_MODEL_BYTES)?, &path.display().to_string())
}

/// How many samples the WAV file `path` has at `rate`, by its header.
///
/// # Errors
/// If the file cannot be read, or is no WAV file.
pub fn sound_length(path: &Path, rate: u32) -> Result<usize> {
    let unreadable = |problem: String| Error::malformed(path.display(), problem);
    let reader = WavReader::open(path).map_err(|e| unreadable(format!("this sound cannot be read: {e}")))?;
    let own = u64::from(reader.spec().sample_rate.max(1));
    let length = u64::from(reader.duration()) * u64::from(rate) / own;
    usize::try_from(length).map_err(|_| unreadable("this sound is too long".into()))
}

impl Sound {
    /// Reads a WAV file that is in memory; `name` stands for it in errors.
    ///
    /// # Errors
    /// As [`read_wav`].
    pub fn from_bytes(bytes: &[u8], name: &str) -> Result<Self> {
        let unreadable = |e: hound::Error| Error::malformed(name, format!("this sound cannot be read: {e}"));
        let mut reader = WavReader::new(Cursor::new(bytes)).map_err(unreadable)?;
        let WavSpec { channels, sample_rate: rate, bits_per_sample: bits, sample_format } = reader.spec();
        if channels == 0 || !RATES.contains(&rate) {
            let problem = format!(
                "{channels} channels of {rate} samples a second: {} to {} are read",
                RATES.start(),
                RATES.end()
            );
            return Err(Error::unsupported(name, problem));
        }
        let values: Vec<f32> = match sample_format {
            SampleFormat::Float => {
                reader.samples::<f32>().collect::<hound::Result<_>>().map_err(unreadable)?
            }
            SampleFormat::Int => {
                let full = (1i64 << (bits.clamp(1, 32) - 1)) as f32;
                let samples = reader.samples::<i32>().map(|sample| sample.map(|value| value as f32 / full));
                samples.collect::<hound::Result<_>>().map_err(unreadable)?
            }
        };
        if let Some(value) = values.iter().find(|value| !value.is_finite()) {
            return Err(Error::malformed(name, format!("one of its samples is {value}")));
        }
        let channels = usize::from(channels);
        let mean = |frame: &[f32]| frame.iter().sum::<f32>() / frame.len() as f32;
        let samples: Vec<f32> = values.chunks_exact(channels).map(mean).collect();
        if samples.is_empty() {
            return Err(Error::malformed(name, "this sound has no samples"));
        }
        Ok(Self { rate, samples })
    }

    /// The same at another rate, without what that rate cannot hold.
    ///
    /// # Errors
    /// If there is no way from the one to the other.
    pub fn at_rate(self, rate: u32) -> Result<Self> {
        if rate == self.rate {
            return Ok(self);
        }
        let refused = |e: &dyn std::fmt::Display| {
            Error::invalid(format_args!("{} samples a second cannot become {rate}: {e}", self.rate))
        };
        let mut resampler = Fft::<f32>::new(self.rate as usize, rate as usize, CHUNK, 1, FixedSync::Input)
            .map_err(|e| refused(&e))?;
        let count = self.samples.len();
        let source = SequentialSlice::new(&self.samples, 1, count).map_err(|e| refused(&e))?;
        let samples = resampler.process_all(&source, count, None).map_err(|e| refused(&e))?.take_data();
        Ok(Self { rate, samples })
    }
}

/// Writes one channel of 16 bits; what is louder than full scale is cut off.
///
/// # Errors
/// If the file cannot be written.
pub fn write_wav(sound: &Sound, path: &Path) -> Result<()> {
    let spec = WavSpec {
        channels: 1,
        sample_rate: sound.rate,
        bits_per_sample: 16,
        sample_format: SampleFormat::Int,
    };
    let mut bytes = Cursor::new(Vec::new());
    encode(sound, spec, &mut bytes).map_err(|e| Error::invalid(format_args!("{}: {e}", path.display())))?;
    write_atomically(path, |out| out.write_all(bytes.get_ref()))
}

fn encode(sound: &Sound, spec: WavSpec, to: &mut Cursor<Vec<u8>>) -> hound::Result<()> {
    let mut writer = WavWriter::new(to, spec)?;
    for sample in &sound.samples {
        writer.write_sample((sample * 32767.0).round_ties_even().clamp(-32768.0, 32767.0) as i16)?;
    }
    writer.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tone(rate: u32, hertz: f32, seconds: f32) -> Sound {
        let count = (rate as f32 * seconds) as usize;
        let samples = (0..count)
            .map(|at| 0.5 * (std::f32::consts::TAU * hertz * at as f32 / rate as f32).sin())
            .collect();
        Sound { rate, samples }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tone.wav");
        let sound = tone(8000, 440.0, 0.2);
        write_wav(&sound, &path).unwrap();
        let read = read_wav(&path).unwrap();
        assert_eq!((read.rate, read.samples.len()), (8000, 1600));
        assert!(sound.samples.iter().zip(&read.samples).all(|(a, b)| (a - b).abs() < 1e-4));
        std::fs::write(&path, b"RIFF....WAVE").unwrap();
        assert!(read_wav(&path).unwrap_err().to_string().contains("tone.wav"));
        write_wav(&Sound { rate: 8000, samples: Vec::new() }, &path).unwrap();
        assert!(read_wav(&path).unwrap_err().to_string().contains("no samples"));
    }

    #[test]
    fn every_width_and_several_channels_are_read() {
        for (bits, format) in [
            (8, SampleFormat::Int),
            (16, SampleFormat::Int),
            (24, SampleFormat::Int),
            (32, SampleFormat::Float),
        ] {
            let mut bytes = Cursor::new(Vec::new());
            let spec =
                WavSpec { channels: 2, sample_rate: 16000, bits_per_sample: bits, sample_format: format };
            let mut writer = WavWriter::new(&mut bytes, spec).unwrap();
            for at in 0..50 {
                for value in [0.5f32, if at % 2 == 0 { 0.25 } else { -0.25 }] {
                    match format {
                        SampleFormat::Float => writer.write_sample(value).unwrap(),
                        SampleFormat::Int => {
                            writer.write_sample((value * (1 << (bits - 1)) as f32) as i32).unwrap()
                        }
                    }
                }
            }
            writer.finalize().unwrap();
            let sound = Sound::from_bytes(bytes.get_ref(), "two").unwrap();
            assert_eq!(sound.samples.len(), 50);
            assert!((sound.samples[0] - 0.375).abs() < 0.01 && (sound.samples[1] - 0.125).abs() < 0.01);
        }
    }

    #[test]
    fn another_rate_keeps_a_tone_and_its_length() {
        let given = tone(44100, 440.0, 0.5);
        let found = given.at_rate(8000).unwrap();
        assert!(found.samples.len().abs_diff(4000) <= 2, "{}", found.samples.len());
        let expected = tone(8000, 440.0, 0.5);
        let worst = found.samples[200..3800]
            .iter()
            .zip(&expected.samples[200..3800])
            .map(|(a, b)| (a - b).abs())
            .fold(0.0, f32::max);
        assert!(worst < 0.02, "{worst}");
    }
}
