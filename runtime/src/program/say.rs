//! `edgegen say`: sound of a model that draws spectrograms.

use super::choice::{Choice, ClassChoice};
use super::print;
use anyhow::{Context, Result, bail};
use clap::Args;
use edgegen_runtime::files::check_writable;
use edgegen_runtime::generate::Latents;
use edgegen_runtime::model::limits::check_count;
use edgegen_runtime::model::{Part, Range};
use edgegen_runtime::sound::{Format, ROUNDS, Sound, write_wav};
use std::path::PathBuf;

/// Seconds of silence between two sounds.
const PAUSE: f32 = 0.15;
/// Most rounds in which phases are looked for.
const MOST_ROUNDS: usize = 10_000;

#[derive(Args)]
pub(super) struct Say {
    #[command(flatten)]
    choice: Choice,
    #[command(flatten)]
    class: ClassChoice,
    /// Where to: a WAV file
    #[arg(long, value_name = "F.wav")]
    out: PathBuf,
    /// Which random latents
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Walk to the latent of this seed, from sound to sound
    #[arg(long, value_name = "SEED")]
    to: Option<u64>,
    /// How many sounds, one after the other
    #[arg(long, default_value_t = 1)]
    count: usize,
    /// Scale of the latents: below 1 the sounds become more alike
    #[arg(long, value_name = "T", default_value_t = 1.0)]
    truncation: f32,
    /// Rounds in which phases are looked for: fewer are faster, and rougher
    #[arg(long, value_name = "N", default_value_t = ROUNDS)]
    rounds: usize,
    /// Network, of those in a model folder [default: decoder or generator]
    #[arg(long, value_name = "decoder|generator")]
    part: Option<Part>,
}

impl Say {
    pub(super) fn run(self) -> Result<()> {
        let extension = self.out.extension().map(|extension| extension.to_ascii_lowercase());
        if extension.is_none_or(|extension| extension != "wav") {
            bail!("{}: sound is written as .wav; give a name that ends so", self.out.display());
        }
        check_writable(&self.out)?;
        check_count(self.count, 1).context("--count")?;
        if !self.truncation.is_finite() || self.rounds > MOST_ROUNDS {
            bail!("--truncation takes a number, --rounds 0 to {MOST_ROUNDS}");
        }
        let model = self.choice.open(self.part)?;
        let facts = model.facts().clone();
        let Some(format) = Format::of(&facts.metadata)? else {
            bail!(
                "{}: it draws pictures, not spectrograms: edgegen generate takes it",
                self.choice.model.display()
            );
        };
        let range = model.range()?;
        let mut generator = model.into_generator(1)?;
        let (dim, image) = (generator.latent_dim(), generator.image_shape());
        if image.channels != 1 {
            bail!("{}: a spectrogram has one channel, not {}", self.choice.model.display(), image.channels);
        }
        check_count(self.count, dim.max(image.values())).context("--count")?;
        let latents = match self.to {
            Some(to) => Latents::walk(self.seed, to, self.count.max(2), dim),
            None => Latents::from_seed(self.seed, 0, self.count, dim, self.truncation),
        };
        let classes = self.class.of(&generator, latents.count(), self.to.is_none())?;
        let pictures = generator.run(latents.values(), &classes)?;
        let mut samples = Vec::new();
        for picture in pictures.chunks_exact(image.values()) {
            let unit: Vec<f32> = match range {
                Range::Unit => picture.to_vec(),
                Range::Signed => picture.iter().map(|value| 0.5 * (value + 1.0)).collect(),
                Range::Bytes => picture.iter().map(|value| value / 255.0).collect(),
            };
            if !samples.is_empty() {
                samples.resize(samples.len() + (PAUSE * format.rate as f32) as usize, 0.0);
            }
            samples.extend(format.sound(&unit, image.height, image.width, self.rounds)?);
        }
        write_wav(&Sound { rate: format.rate, samples }, &self.out)?;
        print(&format!("{}\n", self.out.display()))
    }
}
