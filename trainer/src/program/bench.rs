//! `edgegen-train bench WHAT`: how long a training step takes, or a pass through a feature network.

use std::io::BufRead;
use std::path::Path;
use std::time::Instant;

use anyhow::{Result, bail};
use edgegen_runtime::measure::peak_rss_kib;
use edgegen_runtime::model::limits::{MAX_MODEL_BYTES, read_bounded};
use edgegen_trainer::compute::adam::Adam;
use edgegen_trainer::compute::{Backend, Gradients, Lanes, Network, Statistics};
use edgegen_trainer::graph::family::{self, NetworkConfig};
use edgegen_trainer::graph::{Graph, Op, Shape, features};
use edgegen_trainer::objective::classifier::Classifier;
use edgegen_trainer::objective::gan::codes::Codes;
use edgegen_trainer::objective::gan::{self, Gan, Pace};
use edgegen_trainer::objective::patches::Critic;
use edgegen_trainer::objective::transform::{Adversary, Examples, Restorer};
use edgegen_trainer::objective::vae::{self, Vae};
use edgegen_trainer::random::{Purpose, Stream};
use edgegen_trainer::train::config::{Config, Objective};
use edgegen_trainer::train::{presets, teacher};
use serde_json::json;

use super::DeviceName;

/// Learning rate of a step: nothing is kept of it.
const RATE: f64 = 2e-4;
/// Classes of a classifier's noise.
const CLASSES: usize = 10;
/// Largest batch.
const LARGEST_BATCH: usize = 1024;

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// A preset, for its training step on noise of its own size; an ONNX network, for its features of a batch and the
    /// gradient for the pictures; depthwise-K:CxS, for a depthwise convolution with kernels of K on C channels of SxS,
    /// forward and backward.
    what: String,
    /// Side of the pictures of an ONNX network.
    #[arg(long, value_name = "PIXELS", default_value_t = 64)]
    size: usize,
    /// Where to make the steps.
    #[arg(long, value_enum, default_value_t = DeviceName::Cpu)]
    device: DeviceName,
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

/// Makes one step of a model; takes the step's number.
type Step = Box<dyn FnMut(u64) -> Result<()>>;

/// Steps of a preset's model on noise for pictures.
fn step_on<B: Backend>(backend: &B, config: &Config, batch: usize) -> Result<Step> {
    let (image, network, adam) = (config.data.size.shape(config.data.gray), &config.network, config.adam);
    let pictures = uniform(batch * image.values());
    let mut noise = vec![0f32; batch * network.latent];
    Stream::new(0, Purpose::Evaluation, 1).fill_normal(&mut noise);
    Ok(match config.objective.clone() {
        Objective::Gan(objective) => {
            let codes = network.codes.min(batch);
            let network = &NetworkConfig { codes, ..network.clone() };
            let mut gan = Gan::new(backend, network, &objective, adam, image, 0, 0)?;
            let (numbers, jitter): (Vec<usize>, Vec<f32>) =
                ((0..batch).collect(), noise.iter().map(|value| 0.1 * value).collect());
            if codes > 0 {
                gan.match_by(&teacher::of(&objective.features, objective.features_side, image)?)?;
                let mapping = family::mapping(network, 0)?.initialise(0, 0);
                let mapped = (0..codes).collect();
                gan.learn_codes(Codes::new(backend, &mapping, noise.clone(), mapped, Vec::new())?)?;
            }
            Box::new(move |step| {
                let known = match codes {
                    0 => gan::Known::Nothing,
                    _ => gan::Known::Codes(&numbers, &jitter),
                };
                let example = gan::Example { real: &pictures, latents: &noise, classes: None, known };
                let pace = Pace { progress: 0.0, rate: RATE, clip: 0.0 };
                gan.learn(&example, pace, &mut Stream::new(0, Purpose::Augment, step))?;
                Ok(())
            })
        }
        Objective::Vae(objective) => {
            let mut vae = Vae::new(backend, network, image, 0, 0)?;
            let mut adam = Adam::new(backend, &[&vae.encoder.graph, &vae.decoder.graph], adam)?;
            let mut gradients =
                [Gradients::of(backend, &vae.encoder.graph)?, Gradients::of(backend, &vae.decoder.graph)?];
            Box::new(move |_| {
                gradients.iter_mut().try_for_each(Gradients::clear)?;
                let example =
                    vae::Example { seen: &pictures, clean: &pictures, noise: &noise, classes: None };
                vae.learn(&example, &objective, 1.0, &mut gradients)?;
                let [of_encoder, of_decoder] = &gradients;
                let (encoder, decoder) = (&mut vae.encoder.graph, &mut vae.decoder.graph);
                adam.update(&mut [(encoder, of_encoder), (decoder, of_decoder)], RATE)?;
                Ok(())
            })
        }
        Objective::Classifier(_) => {
            let mut classifier = Classifier::new(backend, network, image, CLASSES, 0)?;
            let mut adam = Adam::new(backend, &[&classifier.network.graph], adam)?;
            let mut gradients = Gradients::of(backend, &classifier.network.graph)?;
            let labels: Vec<u16> = (0..batch).map(|row| (row % CLASSES) as u16).collect();
            Box::new(move |_| {
                gradients.clear()?;
                classifier.learn(&pictures, &labels, &mut gradients)?;
                adam.update(&mut [(&mut classifier.network.graph, &gradients)], RATE)?;
                Ok(())
            })
        }
        Objective::Transform(objective) => {
            let mut restorer = Restorer::new(backend, network, &objective, image.channels, 0)?;
            let critic = (objective.adversarial > 0.0).then(|| {
                let seen = objective.clean(image.channels);
                Critic::new(backend, objective.discriminator_base, seen, adam, 0)
            });
            let mut critic = critic.transpose()?;
            let mut adam = Adam::new(backend, &[&restorer.network.graph], adam)?;
            let mut gradients = Gradients::of(backend, &restorer.network.graph)?;
            let sizes = [objective.seen(image.channels), objective.clean(image.channels)];
            let [seen, clean] = sizes.map(|shape| uniform(batch * shape.values()));
            let examples = Examples { seen, clean };
            Box::new(move |_| {
                gradients.clear()?;
                let adversary = critic.as_mut().map(|critic| Adversary {
                    critic,
                    weight: objective.adversarial,
                    rate: RATE,
                });
                restorer.learn(&examples, objective.difference, adversary, &mut gradients)?;
                adam.update(&mut [(&mut restorer.network.graph, &gradients)], RATE)?;
                Ok(())
            })
        }
    })
}

/// Features of a batch at the largest stride of an ONNX network, and the gradient for the pictures.
fn features_on<B: Backend>(backend: &B, file: &str, batch: usize, size: usize) -> Result<Step> {
    let bytes = read_bounded(Path::new(file), MAX_MODEL_BYTES)?;
    let found = features::read(&bytes, file, (size, size))?;
    let network = Network::new(backend, &found.graph)?;
    let Some(tap) = found.taps.values().next_back().copied() else {
        bail!("{file} makes no smaller pictures")
    };
    let pictures = uniform(batch * network.input_shape().values());
    let seed = uniform(batch * found.graph.values[tap].shape.values());
    Ok(Box::new(move |_| {
        let backend = network.backend();
        let x = backend.tensor(&pictures, network.input_shape())?;
        let (values, pass) = network.record(x, None, &[tap], Statistics::Running, &[])?;
        let seed = backend.tensor(&seed, backend.shape(&values[0]))?;
        let gradient = network.backward(&pass, vec![(tap, seed)], None, true, &[])?;
        gradient.map(|gradient| backend.rows(&gradient)).transpose()?;
        Ok(())
    }))
}

/// A depthwise convolution forward, and backward to its input and its weights.
fn depthwise_on<B: Backend>(backend: &B, sizes: &str, batch: usize) -> Result<Step> {
    let parsed = || {
        let (kernel, rest) = sizes.split_once(':')?;
        let (channels, side) = rest.split_once('x')?;
        Some((kernel.parse().ok()?, channels.parse().ok()?, side.parse().ok()?))
    };
    let Some((kernel, channels, side)) = parsed() else {
        bail!("depthwise-{sizes}: give depthwise-3:144x32")
    };
    let shape = Shape::Image(channels, side, side);
    let graph = Graph::chain("bench", shape, vec![Op::depthwise(channels, kernel, 1)])?.initialise(0, 0);
    let mut network = Network::new(backend, &graph)?;
    let mut gradients = Gradients::of(backend, &network.graph)?;
    let x = backend.tensor(&uniform(batch * shape.values()), shape)?;
    let output = network.graph.output();
    Ok(Box::new(move |_| {
        let (y, pass) = network.train(x.clone(), None, output, &[])?;
        gradients.clear()?;
        network.backward(&pass, vec![(output, y)], Some(&mut gradients), true, &[])?;
        Ok(())
    }))
}

/// Numbers between 0 and 1.
fn uniform(count: usize) -> Vec<f32> {
    let mut stream = Stream::new(0, Purpose::Evaluation, 0);
    (0..count).map(|_| stream.uniform()).collect()
}

/// The step that `arguments` ask for.
fn step_of<B: Backend>(backend: &B, arguments: &Arguments) -> Result<Step> {
    let (what, batch) = (arguments.what.as_str(), arguments.batch);
    match what {
        depthwise if depthwise.starts_with("depthwise-") => {
            depthwise_on(backend, &depthwise["depthwise-".len()..], batch)
        }
        file if file.ends_with(".onnx") => features_on(backend, file, batch, arguments.size),
        preset => step_on(backend, &presets::find(preset)?.config, batch),
    }
}

struct Bench {
    step: Step,
    done: u64,
}

impl Bench {
    fn new(arguments: &Arguments) -> Result<Self> {
        let step = match arguments.device.open()? {
            None => step_of(&Lanes, arguments)?,
            Some(device) => step_of(&device, arguments)?,
        };
        Ok(Self { step, done: 0 })
    }

    /// Seconds of each of some steps.
    fn run(&mut self, steps: usize) -> Result<Vec<f64>> {
        let timed = |_| {
            let start = Instant::now();
            (self.step)(self.done)?;
            self.done += 1;
            Ok(start.elapsed().as_secs_f64())
        };
        (0..steps).map(timed).collect()
    }
}

/// Prints the median step, or serves a driver.
pub(super) fn run(arguments: Arguments) -> Result<()> {
    if arguments.batch == 0 || arguments.batch > LARGEST_BATCH || arguments.steps == 0 || arguments.size == 0
    {
        bail!("--batch takes 1 to {LARGEST_BATCH}, --steps and --size 1 or more");
    }
    let mut bench = Bench::new(&arguments)?;
    let peak_mib = || peak_rss_kib().map(|kib| kib as f64 / 1024.0);
    if arguments.serve {
        for line in std::io::stdin().lock().lines() {
            let line = line?;
            match line.split_whitespace().collect::<Vec<_>>()[..] {
                ["run", steps] => say!("{}", json!({ "seconds": bench.run(steps.parse()?)? })),
                ["memory"] => say!("{}", json!({ "peak_mib": peak_mib() })),
                ["quit"] => break,
                _ => bail!("{line:?} is none of run K, memory, quit"),
            }
        }
        return Ok(());
    }
    bench.run(3)?;
    let mut seconds = bench.run(arguments.steps)?;
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
