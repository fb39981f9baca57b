//! `edgegen-train bench PRESET`: how long a training step takes.

use std::io::BufRead;
use std::time::Instant;

use anyhow::{Result, bail};
use edgegen_runtime::measure::peak_rss_kib;
use edgegen_runtime::random::{Purpose, Stream};
use edgegen_trainer::gan::{self, Gan, Pace};
use edgegen_trainer::network::module::Gradients;
use edgegen_trainer::nn::adam::Adam;
use edgegen_trainer::train::config::Objective;
use edgegen_trainer::train::presets;
use edgegen_trainer::vae::{self, ObjectiveConfig, Vae};
use serde_json::json;

/// Learning rate of a step: nothing is kept of it.
const RATE: f64 = 2e-4;
/// Largest batch.
const LARGEST_BATCH: usize = 1024;

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// A preset of a VAE or a GAN; its pictures are noise of its own size.
    preset: String,
    /// Pictures per step.
    #[arg(long, value_name = "N", default_value_t = 64)]
    batch: usize,
    /// Steps that count, after three that do not.
    #[arg(long, value_name = "N", default_value_t = 20)]
    steps: usize,
    /// Take "run K", "memory" and "quit" from stdin and answer each with a line of JSON, for a driver that
    /// interleaves this program with another.
    #[arg(long)]
    serve: bool,
}

/// A step of some model on noise for pictures.
enum Step {
    Gan(Box<Gan>),
    Vae(Box<(Vae, Adam, [Gradients; 2], ObjectiveConfig)>),
}

struct Bench {
    step: Step,
    pictures: Vec<f32>,
    noise: Vec<f32>,
    done: u64,
}

impl Bench {
    fn new(preset: &str, batch: usize) -> Result<Self> {
        let config = presets::find(preset)?.config;
        let (image, network) = (config.data.size.shape(config.data.gray), &config.network);
        let step = match config.objective {
            Objective::Gan(objective) => {
                Step::Gan(Box::new(Gan::new(network, &objective, config.adam, image, 0, 0)?))
            }
            Objective::Vae(objective) => {
                let vae = Vae::new(network, image, 0, 0)?;
                let adam = Adam::new(&[&vae.encoder, &vae.decoder], config.adam);
                let gradients = [Gradients::of(&vae.encoder), Gradients::of(&vae.decoder)];
                Step::Vae(Box::new((vae, adam, gradients, objective)))
            }
            Objective::Classifier(_) => bail!("{preset} draws nothing: a VAE or a GAN is timed"),
        };
        let latent = network.latent;
        let (mut pictures, mut noise) = (vec![0f32; batch * image.values()], vec![0f32; batch * latent]);
        let mut stream = Stream::new(0, Purpose::Evaluation, 0);
        pictures.iter_mut().for_each(|value| *value = stream.uniform());
        stream.fill_normal(&mut noise);
        Ok(Self { step, pictures, noise, done: 0 })
    }

    /// Does one step.
    fn once(&mut self) {
        match &mut self.step {
            Step::Gan(gan) => {
                let example = gan::Example { real: &self.pictures, latents: &self.noise, classes: None };
                let pace = Pace { step: self.done, rate: RATE, clip: 0.0 };
                gan.learn(&example, pace, &mut Stream::new(0, Purpose::Augment, self.done));
            }
            Step::Vae(all) => {
                let (vae, adam, gradients, objective) = &mut **all;
                gradients.iter_mut().for_each(Gradients::clear);
                let (seen, clean) = (&*self.pictures, &*self.pictures);
                vae.learn(
                    &vae::Example { seen, clean, noise: &self.noise, classes: None },
                    objective,
                    1.0,
                    gradients,
                );
                let [of_encoder, of_decoder] = &*gradients;
                adam.update(&mut [(&mut vae.encoder, of_encoder), (&mut vae.decoder, of_decoder)], RATE);
            }
        }
        self.done += 1;
    }

    /// Seconds of each of some steps.
    fn run(&mut self, steps: usize) -> Vec<f64> {
        let timed = |_| {
            let start = Instant::now();
            self.once();
            start.elapsed().as_secs_f64()
        };
        (0..steps).map(timed).collect()
    }
}

/// Prints the median step, or serves a driver.
pub(super) fn run(arguments: Arguments) -> Result<()> {
    if arguments.batch == 0 || arguments.batch > LARGEST_BATCH || arguments.steps == 0 {
        bail!("--batch takes 1 to {LARGEST_BATCH}, --steps 1 or more");
    }
    let mut bench = Bench::new(&arguments.preset, arguments.batch)?;
    let peak_mib = || peak_rss_kib().map(|kib| kib as f64 / 1024.0);
    if arguments.serve {
        for line in std::io::stdin().lock().lines() {
            let line = line?;
            match line.split_whitespace().collect::<Vec<_>>()[..] {
                ["run", steps] => say!("{}", json!({ "seconds": bench.run(steps.parse()?) })),
                ["memory"] => say!("{}", json!({ "peak_mib": peak_mib() })),
                ["quit"] => break,
                _ => bail!("{line:?} is none of run K, memory, quit"),
            }
        }
        return Ok(());
    }
    bench.run(3);
    let mut seconds = bench.run(arguments.steps);
    seconds.sort_by(f64::total_cmp);
    say!(
        "{:.1} ms a step of {} pictures (median of {}), peak {:.0} MiB",
        seconds[seconds.len() / 2] * 1e3,
        arguments.batch,
        seconds.len(),
        peak_mib().unwrap_or(f64::NAN)
    );
    Ok(())
}
