//! Sound as pictures: WAV files, log-mel spectrograms of them, and sound of a spectrogram again.
//!
//! A spectrogram is a picture of one channel in [0, 1]: a row for each mel band, the highest on top, a column for each
//! step of time. 1 is the loudest place of the sound, 0 is 80 dB below it or less.

mod spectrogram;
mod wav;

pub use spectrogram::{Format, LOUDEST, ROUNDS};
pub use wav::{Sound, read_wav, sound_length, write_wav};
