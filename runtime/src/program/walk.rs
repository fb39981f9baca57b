//! `edgegen walk`: the way from one latent to another, as an animation.

use super::choice::{Choice, ClassChoice};
use super::output::{Layout, Output};
use anyhow::{Context, Result, bail};
use clap::Args;
use edgegen_runtime::generate::{Generator, Latents};
use edgegen_runtime::model::Part;
use edgegen_runtime::model::limits::{check_count, read_bounded};
use std::path::{Path, PathBuf};

/// Largest file of keys.
const MOST_BYTES: u64 = 1 << 20;

#[derive(Args)]
pub(super) struct Walk {
    #[command(flatten)]
    choice: Choice,
    #[command(flatten)]
    class: ClassChoice,
    /// Where to: .gif or .apng (an animation), .y4m (a film for ffmpeg), a folder (numbered .png), .png (a grid) or .npy (the
    /// network's float32 values, NCHW)
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Seed of the first latent
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Seed of the last latent
    #[arg(long, value_name = "SEED", required_unless_present = "keys", conflicts_with = "keys")]
    to: Option<u64>,
    /// Go round and come back: the last picture is followed by the first
    #[arg(long, conflicts_with = "keys")]
    closed: bool,
    /// A file of keys, one a line: SEED TIME [CLASS], times in seconds; --fps pictures are drawn a second
    #[arg(long, value_name = "FILE", conflicts_with_all = ["seed", "frames", "class"])]
    keys: Option<PathBuf>,
    /// How many pictures, both ends included
    #[arg(long, default_value_t = 30)]
    frames: usize,
    /// Pictures per second of the animation
    #[arg(long, default_value_t = 15.0)]
    fps: f32,
    /// Pictures in a row of the grid [default: nearly square]
    #[arg(long)]
    columns: Option<usize>,
    /// Network, of those in a model folder [default: decoder or generator]
    #[arg(long, value_name = "decoder|generator")]
    part: Option<Part>,
}

impl Walk {
    pub(super) fn run(self) -> Result<()> {
        let output = Output::to(&self.out)?;
        let mut generator = self.choice.open_generator(self.part)?;
        let (dim, values) = (generator.latent_dim(), generator.image_shape().values());
        let (latents, classes) = match &self.keys {
            Some(path) => {
                if !(0.01..=1000.0).contains(&self.fps) {
                    bail!("--fps {}: give 0.01 to 1000 pictures a second", self.fps);
                }
                let keys = Keys::read(path, &generator)?;
                let count = ((keys.length() * f64::from(self.fps)).min(1e9) as usize).saturating_add(1);
                check_count(count, dim.max(values)).with_context(|| path.display().to_string())?;
                let latents = Latents::along(&keys.places, f64::from(self.fps), dim);
                let classes = keys.classes(latents.count(), f64::from(self.fps), &generator)?;
                (latents, classes)
            }
            None => {
                check_count(self.frames, dim.max(values)).context("--frames")?;
                let to = self.to.unwrap_or(self.seed);
                let latents = match self.closed {
                    true => Latents::circle(self.seed, to, self.frames, dim),
                    false => Latents::walk(self.seed, to, self.frames, dim),
                };
                let classes = self.class.of(&generator, latents.count(), false)?;
                (latents, classes)
            }
        };
        let layout = Layout { columns: self.columns, frames_per_second: self.fps };
        output.draw(&mut generator, (&latents, &classes), &layout)
    }
}

/// Where a way leads through, and when.
struct Keys {
    /// Seeds, and times in seconds.
    places: Vec<(u64, f64)>,
    /// The class from each on; `None`: that of the one before.
    classes: Vec<Option<u32>>,
}

impl Keys {
    fn read(path: &Path, generator: &Generator) -> Result<Self> {
        let bytes = read_bounded(path, MOST_BYTES)?;
        let text = String::from_utf8(bytes).ok().with_context(|| format!("{}: no text", path.display()))?;
        let mut keys = Self { places: Vec::new(), classes: Vec::new() };
        for (number, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or_default().trim();
            if line.is_empty() {
                continue;
            }
            let place = || format!("{}, line {}", path.display(), number + 1);
            let mut words = line.splitn(3, char::is_whitespace);
            let seed = words.next().and_then(|word| word.parse().ok());
            let time = words.next().and_then(|word| word.parse::<f64>().ok());
            let (Some(seed), Some(time)) = (seed, time.filter(|time| time.is_finite())) else {
                bail!("{}: {line:?} is no key: give SEED TIME [CLASS]", place());
            };
            if keys.places.last().is_some_and(|last| last.1 >= time) {
                bail!("{}: its time {time} is not after the one before", place());
            }
            let class = words.next().map(str::trim).filter(|class| !class.is_empty());
            keys.classes
                .push(class.map(|class| generator.class_named(class)).transpose().with_context(place)?);
            keys.places.push((seed, time));
        }
        if keys.places.len() < 2 {
            bail!("{}: {} keys; a way needs two", path.display(), keys.places.len());
        }
        Ok(keys)
    }

    /// Seconds from the first to the last.
    fn length(&self) -> f64 {
        self.places.last().map_or(0.0, |last| last.1) - self.places[0].1
    }

    /// The class of each picture; empty if the network is told none.
    fn classes(&self, count: usize, rate: f64, generator: &Generator) -> Result<Vec<u32>> {
        if !generator.is_conditional() {
            return Ok(Vec::new());
        }
        let mut class = self.classes[0].or_else(|| generator.class_in_turn(0)).unwrap_or(0);
        let mut key = 0;
        Ok((0..count)
            .map(|frame| {
                let time = self.places[0].1 + frame as f64 / rate;
                while self.places.get(key + 1).is_some_and(|next| next.1 <= time + 1e-9) {
                    key += 1;
                    class = self.classes[key].unwrap_or(class);
                }
                class
            })
            .collect())
    }
}
