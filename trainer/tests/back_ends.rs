//! Whole training steps on candle's tensors (on its CPU device) beside the lanes: every preset, every loss, R1,
//! augmentation, classes, spectral normalisation, resumed runs.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use candle_core::Device;
use edgegen_runtime::model::{ImageShape, Metadata};
use edgegen_trainer::compute::adam::{Adam, AdamConfig};
use edgegen_trainer::compute::candle::Candle;
use edgegen_trainer::compute::{Backend, Gradients, Lanes, Network};
use edgegen_trainer::data::{LoadOptions, Size, load};
use edgegen_trainer::evaluate::quality::Measure;
use edgegen_trainer::graph::family::{self, Normalisation};
use edgegen_trainer::graph::teacher::Teacher;
use edgegen_trainer::graph::{Activation, Graph, Heads, Op, Parameter, Shape};
use edgegen_trainer::objective::classifier::Classifier;
use edgegen_trainer::objective::feature_loss::FeatureLoss;
use edgegen_trainer::objective::gan::augment::Augmentation;
use edgegen_trainer::objective::gan::codes::Codes;
use edgegen_trainer::objective::gan::loss::Loss;
use edgegen_trainer::objective::gan::{self, Gan, GanConfig, Pace};
use edgegen_trainer::objective::vae::{self, Likelihood, Vae};
use edgegen_trainer::quantize::{Inputs, Rounding, Settings, quantize};
use edgegen_trainer::random::{Purpose, Stream};
use edgegen_trainer::train::config::{Config, Length, Objective};
use edgegen_trainer::train::folder::RunFolder;
use edgegen_trainer::train::metrics::{Figures, Report};
use edgegen_trainer::train::presets;
use edgegen_trainer::train::run::{Observer, Trainer};
use edgegen_trainer::train::teacher;

/// Pictures of a step.
const COUNT: usize = 4;
const STEPS: u64 = 3;
/// Where both sides add a few thousand f32 products in their own order, three steps after another, as a part of how far
/// a parameter has moved.
const TOLERANCE: f32 = 2e-2;
/// With a large ε a step is about as large as its gradient: with the usual one, Adam makes rounding as large as
/// anything where a gradient is nearly zero.
const ADAM: AdamConfig = AdamConfig { beta1: 0.5, beta2: 0.999, epsilon: 1e-1 };

fn candle() -> Candle {
    Candle::new(Device::Cpu)
}

fn noise(count: usize, index: u64) -> Vec<f32> {
    let mut values = vec![0f32; count];
    Stream::new(4, Purpose::Evaluation, index).fill_normal(&mut values);
    values
}

/// Pictures in [0, 1].
fn pictures(image: ImageShape, index: u64) -> Vec<f32> {
    noise(COUNT * image.values(), index).iter().map(|x| (0.5 + 0.2 * x).clamp(0.0, 1.0)).collect()
}

#[track_caller]
fn same(what: &str, ours: &[Parameter], theirs: &[Parameter], before: &[Parameter]) {
    assert!(!ours.is_empty() && ours.len() == theirs.len());
    let apart = |a: &Parameter, b: &Parameter| {
        a.value.iter().zip(&b.value).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max)
    };
    let mut still = 0;
    for ((ours, theirs), before) in ours.iter().zip(theirs).zip(before) {
        let (moved, worst) = (apart(ours, before), apart(ours, theirs));
        still += usize::from(moved == 0.0);
        assert!(
            worst <= TOLERANCE * moved.max(0.02),
            "{what}: {} differs by {worst}, moved by {moved}",
            ours.name
        );
    }
    // a hinge's gradients of real and of generated pictures cancel in the last bias
    assert!(still <= 1, "{what}: {still} parameters stayed");
}

fn alike(what: &str, ours: &[f64], theirs: &[f64]) {
    for (a, b) in ours.iter().zip(theirs) {
        assert!((a - b).abs() < 2e-3 * a.abs().max(0.1), "{what}: {ours:?} {theirs:?}");
    }
}

/// A GAN after [`STEPS`] steps: (parameters before, after, figures of each step).
fn play<B: Backend>(
    backend: &B,
    config: &Config,
    objective: &GanConfig,
    classes: usize,
) -> (Vec<Parameter>, Vec<Parameter>, Vec<f64>) {
    let image = config.data.size.shape(config.data.gray);
    let mut gan = Gan::new(backend, &config.network, objective, ADAM, image, classes, 1).unwrap();
    if config.network.codes > 0 {
        gan.match_by(&teacher::of(&objective.features, 0, image).unwrap()).unwrap();
        let mapping = family::mapping(&config.network, classes).unwrap().initialise(1, 0);
        let values = noise(2 * config.network.codes * config.network.latent, 99);
        let mapped = (0..config.network.codes).map(|code| 2 * code).collect();
        gan.learn_codes(Codes::new(backend, &mapping, values, mapped, Vec::new()).unwrap()).unwrap();
        // the features of a grey area lie together on their kinks: pictures with contrast
        let last = gan.generator.graph.parameters_mut().filter(|parameter| parameter.shape.len() == 4).last();
        backend.multiply(&mut last.unwrap().value, 20.0).unwrap();
    }
    let before = gan.parameters().unwrap();
    let mut figures = Vec::new();
    for step in 0..STEPS {
        figures.extend(learn(&mut gan, config, image, classes, step));
    }
    gan.map_codes().unwrap();
    // Adam makes rounding as large as anything in a code that hardly moves, and a pass's steps are counted
    let compared = |all: Vec<Parameter>| -> Vec<Parameter> {
        let counted = |name: &str| name == "gan.steps" || name.starts_with("codes.");
        all.into_iter().filter(|parameter| !counted(&parameter.name)).collect()
    };
    let moved = |all: Vec<Parameter>| -> Vec<Parameter> {
        // without an adversary, the discriminator and the mapping before it is fitted stay
        let stays = |name: &str| objective.loss == Loss::Matching && name.starts_with("discriminator.");
        compared(all).into_iter().filter(|parameter| !stays(&parameter.name)).collect()
    };
    (moved(before), moved(gan.parameters().unwrap()), figures)
}

fn learn<B: Backend>(
    gan: &mut Gan<B>,
    config: &Config,
    image: ImageShape,
    classes: usize,
    step: u64,
) -> Vec<f64> {
    let real: Vec<f32> = pictures(image, 2 * step).iter().map(|x| 2.0 * x - 1.0).collect();
    let latents = noise(COUNT * config.network.latent, 2 * step + 1);
    let told: Vec<u32> = (0..COUNT as u32).map(|row| row % classes.max(1) as u32).collect();
    let classes = (classes > 0).then_some(told.as_slice());
    let (numbers, jitter) = ([0, 3, 5, 2], noise(COUNT * config.network.latent, 2 * step + 100));
    let known = match gan.codes() {
        Some(_) => gan::Known::Codes(&numbers, &jitter),
        None => gan::Known::Nothing,
    };
    let example = gan::Example { real: &real, latents: &latents, classes, known };
    let pace = Pace { progress: 0.0, rate: 0.02, clip: 5.0 };
    let found = gan.learn(&example, pace, &mut Stream::new(1, Purpose::Augment, step)).unwrap();
    let of_discriminator = found.discriminator.unwrap_or_default();
    let told = [found.generator_loss, found.generator_norm, found.unlike, of_discriminator.slope];
    let mut all = vec![of_discriminator.loss, of_discriminator.norm];
    all.extend(told.into_iter().map(|value| value.unwrap_or(-1.0)));
    all
}

/// A preset's networks in the textbook's game.
fn gan_preset(name: &str) -> (Config, GanConfig) {
    let mut config = presets::find(name).unwrap().config;
    config.network.codes = 0;
    (config, GanConfig::textbook())
}

#[test]
fn gans_of_every_preset_take_the_same_steps() {
    for preset in presets::all() {
        let Objective::Gan(objective) = &preset.config.objective else { continue };
        let mut config = preset.config.clone();
        config.network.codes = config.network.codes.min(3);
        // codes stay: their Adam has no large ε
        let objective = &GanConfig { code_rate: 0.0, ..objective.clone() };
        let name = &config.preset;
        let (before, ours, figures) = play(&Lanes, &config, objective, 0);
        let (_, theirs, others) = play(&candle(), &config, objective, 0);
        // networks this large have a feature near its kink: which one crosses it depends on the core, whose sums have another order
        roughly_same(name, &ours, &theirs, &before);
        // of the first step: later ones see kinks that were crossed
        let first = figures.len() / STEPS as usize;
        alike(name, &figures[..first], &others[..first]);
    }
}

/// As [`same`], of all values together: a feature that is on the other side of its kink moves each of them a little.
#[track_caller]
fn roughly_same(what: &str, ours: &[Parameter], theirs: &[Parameter], before: &[Parameter]) {
    let distance = |a: &[Parameter], b: &[Parameter]| -> f64 {
        let pairs = a.iter().zip(b).flat_map(|(a, b)| a.value.iter().zip(&b.value));
        pairs.map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>().sqrt()
    };
    let (moved, apart) = (distance(ours, before), distance(ours, theirs));
    assert!(moved > 0.0 && apart < 0.1 * moved, "{what}: {apart} apart, moved by {moved}");
}

#[test]
fn every_loss_and_regulariser_takes_the_same_steps() {
    let all = vec![Augmentation::Color, Augmentation::Translation, Augmentation::Cutout];
    for (name, base, cases) in [
        ("dcgan-32", 8, [(Loss::Hinge, Normalisation::None), (Loss::Minimax, Normalisation::Spectral)]),
        (
            "gan-64-slim",
            4,
            [(Loss::NonSaturating, Normalisation::Batch), (Loss::Hinge, Normalisation::Spectral)],
        ),
    ] {
        for (index, (loss, discriminator_norm)) in cases.into_iter().enumerate() {
            let (mut config, objective) = gan_preset(name);
            (config.network.base, config.network.latent) = (base, 6);
            let objective = GanConfig {
                loss,
                discriminator_norm,
                discriminator_base: base,
                label_smoothing: if loss == Loss::Hinge { 0.0 } else { 0.1 },
                discriminator_rate: 1.5,
                discriminator_steps: 1 + index as u64,
                r1: if discriminator_norm == Normalisation::Spectral { 0.0 } else { 0.3 },
                r1_every: 2,
                augment: all.clone(),
                average: 0.9,
                ..objective
            };
            let what = format!("{name}, {loss:?}, {discriminator_norm:?}");
            let (before, ours, figures) = play(&Lanes, &config, &objective, 3);
            let (_, theirs, others) = play(&candle(), &config, &objective, 3);
            same(&what, &ours, &theirs, &before);
            alike(&what, &figures, &others);
        }
    }
}

#[test]
fn a_state_moves_between_back_ends() {
    let (mut config, objective) = gan_preset("gan-64-slim");
    (config.network.base, config.network.latent) = (4, 6);
    let objective = GanConfig { discriminator_base: 4, ..objective };
    let image = config.data.size.shape(config.data.gray);
    let (before, ours, _) = play(&Lanes, &config, &objective, 0);
    // two steps on one back end, the third on the other
    let mut first = Gan::new(&Lanes, &config.network, &objective, ADAM, image, 0, 1).unwrap();
    (0..STEPS - 1).for_each(|step| drop(learn(&mut first, &config, image, 0, step)));
    let mut second = Gan::new(&candle(), &config.network, &objective, ADAM, image, 0, 2).unwrap();
    second.set_parameters(&first.parameters().unwrap()).unwrap();
    let steps = second.steps_of_each(STEPS - 1, &[]);
    for (((to, _), (from, network)), steps) in
        second.optimisers_mut().into_iter().zip(first.optimisers()).zip(steps)
    {
        to.restore(steps, from.moments(&[network]).unwrap()).unwrap();
    }
    learn(&mut second, &config, image, 0, STEPS - 1);
    same("moved", &ours, &second.parameters().unwrap(), &before);
}

fn encode<B: Backend>(
    backend: &B,
    config: &Config,
    objective: &vae::ObjectiveConfig,
    classes: usize,
) -> (Vec<Parameter>, Vec<Parameter>, Vec<f64>) {
    let image = config.data.size.shape(config.data.gray);
    let mut vae = Vae::new(backend, &config.network, image, classes, 1).unwrap();
    let before = vae.parameters().unwrap();
    let mut adam = Adam::new(backend, &[&vae.encoder.graph, &vae.decoder.graph], ADAM).unwrap();
    let mut gradients =
        [&vae.encoder, &vae.decoder].map(|network| Gradients::of(backend, &network.graph).unwrap());
    let told: Vec<u32> = (0..COUNT as u32).map(|row| row % classes.max(1) as u32).collect();
    let mut figures = Vec::new();
    for step in 0..STEPS {
        let seen = pictures(image, 2 * step);
        let noise = noise(COUNT * config.network.latent, 2 * step + 1);
        let classes = (classes > 0).then_some(told.as_slice());
        let example = vae::Example { seen: &seen, clean: &seen, noise: &noise, classes };
        gradients.iter_mut().for_each(|gradients| gradients.clear().unwrap());
        let (reconstruction, kl) = vae.learn(&example, objective, 0.7, &mut gradients).unwrap().means();
        let [of_encoder, of_decoder] = &mut gradients;
        let norm = Gradients::clip(&mut [of_encoder, of_decoder], 5.0).unwrap();
        let (encoder, decoder) = (&mut vae.encoder.graph, &mut vae.decoder.graph);
        adam.update(&mut [(encoder, of_encoder), (decoder, of_decoder)], 0.05).unwrap();
        figures.extend([reconstruction, kl, norm]);
    }
    (before, vae.parameters().unwrap(), figures)
}

#[test]
fn vaes_of_every_preset_take_the_same_steps() {
    for preset in presets::all() {
        let Objective::Vae(objective) = &preset.config.objective else { continue };
        // a latent of maps is told no class
        let classes = if preset.config.network.latent_side > 0 { 0 } else { 3 };
        for (likelihood, free_bits, classes) in
            [(Likelihood::Bernoulli, 0.0, 0), (Likelihood::Gaussian, 0.05, classes)]
        {
            let objective = vae::ObjectiveConfig { likelihood, sigma: 0.5, free_bits, ..objective.clone() };
            let what = format!("{}, {likelihood:?}", preset.config.preset);
            let (before, ours, figures) = encode(&Lanes, &preset.config, &objective, classes);
            let (_, theirs, others) = encode(&candle(), &preset.config, &objective, classes);
            if preset.config.network.fine {
                // of the many values of a picture's size some are on the other side of their kink
                roughly_same(&what, &ours, &theirs, &before);
                let first = figures.len() / STEPS as usize;
                alike(&what, &figures[..first], &others[..first]);
            } else {
                same(&what, &ours, &theirs, &before);
                alike(&what, &figures, &others);
            }
        }
    }
}

fn classify<B: Backend>(backend: &B, config: &Config) -> (Vec<Parameter>, Vec<Parameter>, Vec<f64>) {
    let image = config.data.size.shape(config.data.gray);
    let mut classifier = Classifier::new(backend, &config.network, image, 3, 1).unwrap();
    let before = classifier.network.parameters().unwrap();
    let mut adam = Adam::new(backend, &[&classifier.network.graph], ADAM).unwrap();
    let mut gradients = Gradients::of(backend, &classifier.network.graph).unwrap();
    let mut figures = Vec::new();
    for step in 0..STEPS {
        gradients.clear().unwrap();
        let found = classifier.learn(&pictures(image, step), &[0, 2, 1, 1], &mut gradients).unwrap();
        adam.update(&mut [(&mut classifier.network.graph, &gradients)], 0.02).unwrap();
        figures.push(found.0);
    }
    // and judged by the running statistics that the steps have left
    figures.push(classifier.judge(&pictures(image, 9), &[0, 1, 2, 0]).unwrap().0);
    (before, classifier.network.parameters().unwrap(), figures)
}

#[test]
fn a_classifier_takes_the_same_steps() {
    let config = presets::find("classifier").unwrap().config;
    let (before, ours, figures) = classify(&Lanes, &config);
    let (_, theirs, others) = classify(&candle(), &config);
    same("classifier", &ours, &theirs, &before);
    alike("classifier", &figures, &others);
}

struct Silent;

impl Observer for Silent {
    fn step(&mut self, _step: u64, _total: u64, _figures: &Figures) {}
    fn report(&mut self, _report: &Report) {}
    fn warning(&mut self, _warning: &str) {}
}

/// The reports of a run in `folder`, cut after half of its steps.
fn run(config: &Config, device: Option<&Candle>, folder: &Path) -> Vec<Report> {
    let dataset = || load(None, &LoadOptions::new(Size::square(28)), &|_, _| {}).unwrap();
    let folder = || RunFolder::new(folder);
    let length = |steps| {
        let mut config = config.clone();
        config.training.set_length(Length::Steps(steps));
        config
    };
    let mut trainer = Trainer::begin(folder(), length(6), dataset(), device).unwrap();
    trainer.train(&mut Silent, &AtomicBool::new(false)).unwrap();
    drop(trainer);
    let mut trainer = Trainer::resume(folder(), length(12), dataset(), device, false).unwrap();
    trainer.train(&mut Silent, &AtomicBool::new(false)).unwrap();
    edgegen_trainer::train::metrics::read(&folder().metrics()).unwrap()
}

/// Steps, validation, previews, checkpoints and resuming, all on the device.
#[test]
fn whole_runs_are_the_same() {
    for name in ["vae-mlp", "dcgan-28", "gan-64-slim", "classifier"] {
        let mut config = presets::find(name).unwrap().config;
        (config.training.batch, config.training.learning_rate, config.adam) = (16, 1e-2, ADAM);
        config.training.schedule = edgegen_trainer::train::config::Schedule::Constant;
        config.training.validate = 50;
        if let Objective::Gan(objective) = &mut config.objective {
            config.network.base = 8;
            objective.discriminator_base = 8;
            (objective.code_rate, objective.features_side) = (0.0, 28);
            (config.data.size, config.data.gray) = (Size::square(28), true);
        }
        let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let ours = run(&config, None, &folders[0].path().join("run"));
        let theirs = run(&config, Some(&candle()), &folders[1].path().join("run"));
        assert!(!ours.is_empty() && ours.len() == theirs.len(), "{name}");
        for (ours, theirs) in ours.iter().zip(&theirs) {
            assert_eq!(ours.step, theirs.step);
            let of = |report: &Report| -> Vec<(String, f64)> {
                let (train, validation) = (report.train.iter(), report.validation.iter());
                train.chain(validation).map(|(key, value)| (key.clone(), *value)).collect()
            };
            for ((key, value), (_, other)) in of(ours).into_iter().zip(of(theirs)) {
                // distances of a few features amplify rounding
                let amplified = key.contains("frechet") || key.contains("kernel");
                // and kinks of a teacher's features add up
                let tolerance = if amplified || name == "gan-64-slim" { 0.1 } else { 1e-2 };
                assert!(
                    (value - other).abs() <= tolerance * value.abs().max(0.1),
                    "{name}, {key}: {value} {other}"
                );
            }
        }
        for file in ["checkpoints/last.safetensors", "curves.png"] {
            assert!(folders[1].path().join("run").join(file).is_file(), "{name}: {file}");
        }
    }
}

/// Fine-tuning of a network in integers.
#[test]
fn a_quantised_network_is_tuned_alike() {
    let ops = vec![
        Op::Dense { inputs: 6, outputs: 4 * 16 },
        Op::Reshape(Shape::Image(4, 4, 4)),
        Op::Activation(Activation::LeakyRelu(0.1)),
        Op::UpsampleConv { inputs: 4, outputs: 3, kernel: 3 },
        Op::Activation(Activation::Tanh),
    ];
    let mut graph = Graph::chain("generator", Shape::Vector(6), ops).unwrap().initialise(2, 0);
    // one channel is much larger than the others, so that one scale for all fits badly
    graph.nodes[0].weight_mut()[..16 * 6].iter_mut().for_each(|weight| *weight *= 12.0);
    let heads = Heads { outputs: vec![("image", Shape::Image(3, 8, 8))], tap: None };
    let graph = graph.exported("generator", "latent", &heads, Metadata::default()).unwrap();
    let inputs =
        |index| Inputs { shape: Shape::Vector(6), rows: noise(64 * 6, index), classes: None, count: 64 };
    let settings = Settings {
        tune: 200,
        rounding: Rounding::Nearest,
        equalize: false,
        per_tensor: true,
        ..Settings::default()
    };
    let measure = Measure::Pictures { values: 192, peak: 2.0 };
    let exact = Network::new(&Lanes, &graph).unwrap().infer(&inputs(1).rows, None).unwrap();
    let score = |tune: usize, device: Option<&Candle>| {
        let settings = Settings { tune, ..settings.clone() };
        let quantized = quantize(&graph, &inputs(1), measure, &settings, device, &|_| ()).unwrap();
        measure.score(std::slice::from_ref(&exact), &quantized.simulate(&inputs(1)).unwrap())
    };
    let (before, ours, theirs) = (score(0, None), score(200, None), score(200, Some(&candle())));
    assert!(ours > before + 0.05 && theirs > before + 0.05, "{before} {ours} {theirs}");
    assert!((ours - theirs).abs() < 0.2, "{ours} dB on lanes, {theirs} dB on candle");
}

/// How unlike pictures are, and which way they would be less so.
#[test]
fn pictures_are_as_unlike_on_both() {
    for side in [64, 28] {
        let image = ImageShape { channels: 3, height: side, width: side };
        let graph = teacher::of("", 0, image).unwrap();
        let both = [pictures(image, 1), pictures(image, 2)];
        let [drawn, real] = both.map(|rows| rows.iter().map(|x| 2.0 * x - 1.0).collect::<Vec<f32>>());
        fn found<B: Backend>(backend: &B, graph: &Teacher, drawn: &[f32], real: &[f32]) -> (f64, Vec<f32>) {
            let feature_loss = FeatureLoss::new(backend, graph).unwrap();
            let shape = graph.graph.input_shape();
            let tensor = |rows: &[f32]| backend.tensor(rows, shape).unwrap();
            let (unlike, gradient) = feature_loss.loss(&tensor(drawn), tensor(real)).unwrap();
            (unlike, backend.rows(&gradient).unwrap())
        }
        let (ours, of_ours) = found(&Lanes, &graph, &drawn, &real);
        let (theirs, of_theirs) = found(&candle(), &graph, &drawn, &real);
        assert!((ours - theirs).abs() < 1e-5 * ours, "{side}: {ours} {theirs}");
        let square = |values: &mut dyn Iterator<Item = f32>| -> f64 {
            values.map(|value| f64::from(value).powi(2)).sum()
        };
        let apart = square(&mut of_ours.iter().zip(&of_theirs).map(|(a, b)| a - b));
        let share = (apart / square(&mut of_theirs.iter().copied())).sqrt();
        assert!(share < 2e-2, "{side}: {share}");
    }
}
