//! `edgegen-train train PRESET --out RUN`

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, bail};
use edgegen_trainer::data::{Dataset, Mirror, SideBySide};
use edgegen_trainer::evaluate::features::Scaling;
use edgegen_trainer::train::config::{Config, Length, Objective};
use edgegen_trainer::train::folder::RunFolder;
use edgegen_trainer::train::metrics::{Figures, Report};
use edgegen_trainer::train::presets;
use edgegen_trainer::train::run::{self, Observer, Outcome, Trainer};
use indicatif::{ProgressBar, ProgressStyle};

use super::DeviceName;
use super::data::{Caching, Loading};

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// One of `edgegen-train presets`; not needed with --resume.
    preset: Option<String>,
    /// A folder of images (sub-folders are classes) or of IDX files, or a file of an IDX set; without it: a small set
    /// inside the program.
    #[arg(long, value_name = "PATH")]
    data: Option<PathBuf>,
    /// The run folder to make, or to go on with.
    #[arg(long, value_name = "RUN")]
    out: PathBuf,
    /// Go on with the run in --out. With another length than it began with, a schedule that follows the
    /// length changes from here on.
    #[arg(long)]
    resume: bool,
    /// Go on although the pictures have changed since the run began.
    #[arg(long, requires = "resume")]
    data_changed: bool,
    #[command(flatten)]
    settings: Settings,
}

/// Settings of a run that flags change, whatever its other settings come from.
#[derive(clap::Args)]
pub(super) struct Settings {
    #[command(flatten)]
    length: LengthArguments,
    /// Begin with the weights of this model folder or run instead of random ones.
    #[arg(long, value_name = "MODEL|RUN")]
    init_from: Option<PathBuf>,
    /// Pictures per step.
    #[arg(long, value_name = "N")]
    batch: Option<usize>,
    /// Decides first weights, order and noise.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Values of a latent.
    #[arg(long, value_name = "N")]
    latent: Option<usize>,
    #[command(flatten)]
    pub(super) loading: Loading,
    /// Mirror training pictures at random [default: auto, where it does no harm].
    #[arg(long, value_name = "yes|no|auto")]
    mirror: Option<Mirror>,
    /// Show each class equally often, however many pictures it has.
    #[arg(long)]
    balance: bool,
    /// Learn from the pictures of one class alone; eval tells how well the others are told from it.
    #[arg(long, value_name = "CLASS")]
    only: Option<String>,
    /// Learn to translate the pictures in --data into those in this folder, of the same names.
    #[arg(long, value_name = "FOLDER", conflicts_with = "side_by_side")]
    to: Option<PathBuf>,
    /// Learn from pictures that each show a pair; this half of them goes in.
    #[arg(long, value_name = "left|right")]
    side_by_side: Option<SideBySide>,
    /// Weight of a discriminator of patches, which makes what comes out sharper, beside the difference [translate: 0.01].
    #[arg(long, value_name = "WEIGHT")]
    adversarial: Option<f64>,
    #[command(flatten)]
    pub(super) caching: Caching,
    /// Condition the generator or decoder on each picture's class: sub-folders, or an IDX set's labels.
    #[arg(long)]
    conditional: bool,
    /// Weight of a VAE's KL term.
    #[arg(long)]
    beta: Option<f64>,
    /// Maximise a VAE's importance-weighted bound of K posterior samples a picture instead of the evidence lower bound.
    #[arg(long, value_name = "K")]
    iwae: Option<usize>,
    /// Learning rate at the start.
    #[arg(long, value_name = "RATE")]
    learning_rate: Option<f64>,
    /// Train a VAE as a denoiser: noise of this deviation (range [0, 1]) on what goes in, clean pictures come out.
    #[arg(long, value_name = "SIGMA")]
    denoise: Option<f64>,
    /// Learn what pictures look alike from the features of this network, where a GAN's recipe takes them: any ImageNet CNN
    /// in ONNX.
    #[arg(long, value_name = "F.onnx")]
    features: Option<PathBuf>,
    /// The input of --features: unit (level / 255), signed (level / 127.5 - 1) or mean=M,scale=S, in levels.
    #[arg(long, value_name = "SCALING", requires = "features")]
    feature_input: Option<Scaling>,
    /// Judge a GAN's samples while it trains by the features of this network: (N, 1 or 3, H, W) → (N, D), float32
    /// [default: the shipped classifier for digits, otherwise the run's own discriminator].
    #[arg(long, value_name = "F.onnx")]
    judge: Option<PathBuf>,
    /// The input of --judge, as --feature-input.
    #[arg(long, value_name = "SCALING", requires = "judge")]
    judge_input: Option<Scaling>,
    /// Settings on top of the preset's; a run's config.toml shows them all.
    #[arg(long, value_name = "F.toml")]
    config: Option<PathBuf>,
    /// One setting, for example network.base=48; may be repeated.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Where to make the steps. On CUDA (a build with --features cuda) a run is the CPU's up to float rounding.
    #[arg(long, value_enum, default_value_t = DeviceName::Cpu)]
    pub(super) device: DeviceName,
}

/// How long to train: one of these.
#[derive(clap::Args)]
#[group(multiple = false)]
struct LengthArguments {
    /// Length in pictures seen, counted at each visit: 500000, 500k or 1M.
    #[arg(long, value_name = "N", value_parser = count)]
    pictures: Option<u64>,
    /// Length in hours: a step is measured first.
    #[arg(long, value_name = "H")]
    hours: Option<f64>,
    /// Length in steps.
    #[arg(long, value_name = "N")]
    steps: Option<u64>,
    /// Length in passes over the training pictures.
    #[arg(long, value_name = "N")]
    epochs: Option<u64>,
}

/// Most hours of a run: a year.
const MOST_HOURS: f64 = 8766.0;

impl LengthArguments {
    /// The length that was given.
    fn given(&self) -> Result<Option<Length>> {
        let counts = [
            ("--pictures", self.pictures, Length::Pictures as fn(u64) -> Length),
            ("--steps", self.steps, Length::Steps),
            ("--epochs", self.epochs, Length::Epochs),
        ];
        for (flag, count, length) in counts {
            match count {
                Some(0) => bail!("{flag} is 0; it takes 1 or more"),
                Some(count) => return Ok(Some(length(count))),
                None => {}
            }
        }
        match self.hours {
            Some(hours) if !(hours > 0.0 && hours <= MOST_HOURS) => {
                bail!("--hours is {hours}; it takes more than 0, up to {MOST_HOURS}")
            }
            hours => Ok(hours.map(Length::Hours)),
        }
    }
}

/// A count with k or M for thousands or millions.
fn count(text: &str) -> std::result::Result<u64, String> {
    let (digits, factor) = match text.strip_suffix(['k', 'K']) {
        Some(digits) => (digits, 1e3),
        None => text.strip_suffix(['m', 'M']).map_or((text, 1.0), |digits| (digits, 1e6)),
    };
    let value: f64 = digits.parse().map_err(|_| format!("{text:?} is no count; give 500000, 500k or 1M"))?;
    let value = value * factor;
    if value.fract() == 0.0 && (0.0..9e15).contains(&value) {
        Ok(value as u64)
    } else {
        Err(format!("{text:?} is no count; give 500000, 500k or 1M"))
    }
}

/// Exit code of a run that was asked to stop, as a shell gives it to a program that SIGINT ends.
pub(super) const INTERRUPTED: u8 = 130;

/// Trains.
pub(super) fn run(arguments: Arguments) -> Result<ExitCode> {
    let settings = &arguments.settings;
    let device = settings.device.open()?;
    let folder = RunFolder::new(&arguments.out);
    let mut stored = None;
    let base = if arguments.resume {
        if settings.init_from.is_some() {
            bail!("--init-from begins a run; --resume goes on with one: give one of the two");
        }
        let config = Config::read(&RunFolder::existing(&arguments.out)?.config())?;
        match &arguments.preset {
            Some(name) if *name != config.preset => {
                bail!("{} holds a run of {}, not of {name}", arguments.out.display(), config.preset)
            }
            _ => stored.insert(config).clone(),
        }
    } else {
        let Some(name) = &arguments.preset else {
            bail!("which preset? {} (or --resume to go on with a run)", presets::names());
        };
        presets::find(name)?.config
    };
    let config = settings.apply(base, arguments.data.as_deref())?;
    config.validate()?;
    if let Some(stored) = &stored
        && stored.training != config.training
    {
        eprintln!("the run's length changes: its learning rate follows the new one from here on");
    }
    let dataset = load(&config, &settings.caching)?;
    let mut trainer = if arguments.resume {
        Trainer::resume(folder, config, dataset, device.as_ref(), arguments.data_changed)?
    } else {
        Trainer::begin(folder, config, dataset, device.as_ref())?
    };
    let resume = format!("edgegen-train train --resume --out {}", arguments.out.display());
    let outcome = execute(&mut trainer, &resume, |_| ())?;
    if outcome == Outcome::Stopped {
        return Ok(ExitCode::from(INTERRUPTED));
    }
    let out = arguments.out.display();
    eprintln!("done: {out}; next: edgegen-train export {out} --out MODEL");
    Ok(ExitCode::SUCCESS)
}

/// Loads a configuration's pictures, and says what their owner should know.
pub(super) fn load(config: &Config, caching: &Caching) -> Result<Dataset> {
    let cache = caching.folder();
    let dataset = super::data::watched(|progress| run::load_data(config, cache.as_deref(), progress))?;
    super::data::remarks(&dataset).iter().for_each(|line| eprintln!("{line}"));
    Ok(dataset)
}

/// Trains with a progress bar, until the end or Ctrl-C; `resume` is the command that goes on after that, and `reported`
/// hears of every report.
pub(super) fn execute(trainer: &mut Trainer, resume: &str, reported: impl FnMut(&Report)) -> Result<Outcome> {
    let stop = Arc::new(AtomicBool::new(false));
    let asked = stop.clone();
    ctrlc::set_handler(move || asked.store(true, Ordering::Relaxed)).context("cannot listen for Ctrl-C")?;
    eprintln!("{}", trainer.summary());
    if let Some(taken) = trainer.taken() {
        let from = &trainer.config().training.init_from;
        eprintln!("first weights: {} of {} values from {from}", taken.values, taken.of);
        taken.left.iter().for_each(|why| eprintln!("  not taken over: {why}"));
    }
    let mut progress = Progress::new(trainer, reported);
    let outcome = trainer.train(&mut progress, &stop)?;
    progress.bar.finish_and_clear();
    let (step, total) = (trainer.step_count(), trainer.total_steps());
    match outcome {
        Outcome::Stopped => eprintln!("stopped at step {step} of {total}; {resume} goes on"),
        Outcome::Early => eprintln!(
            "stopped early, after step {step} of {total}: validation has not improved for a while (training.patience), and the best weights are kept"
        ),
        Outcome::Finished => {}
    }
    Ok(outcome)
}

impl Settings {
    /// The base, then --config, then --set, then the flags; `data` is where the pictures lie, if it was given.
    pub(super) fn apply(&self, base: Config, data: Option<&Path>) -> Result<Config> {
        let arguments = self;
        let mut config = base;
        if let Some(path) = &arguments.config {
            let text =
                std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
            config = Config::overlay(&config, &text, &path.display().to_string())?;
        }
        for setting in &arguments.set {
            let Some((key, value)) = setting.split_once('=') else {
                bail!("--set {setting}: expected KEY=VALUE, for example network.base=48");
            };
            let line = format!("{key} = {value}");
            let set = |line: &str| Config::overlay(&config, line, &format!("--set {setting}"));
            // a bare word is a string, unless it is a value of its own
            let word = value.chars().all(|letter| letter.is_ascii_alphanumeric() || "-_".contains(letter));
            config = match set(&line) {
                Err(_) if word && value.parse::<f64>().is_err() => set(&format!("{key} = {value:?}"))?,
                other => other?,
            };
        }
        if let Some(data) = data {
            // so that the run can be resumed and evaluated from any folder
            config.data.path =
                std::path::absolute(data).with_context(|| format!("--data {}", data.display()))?;
        }
        let training = &mut config.training;
        if let Some(path) = &arguments.init_from {
            training.init_from = path.display().to_string();
        }
        if let Some(length) = arguments.length.given()? {
            training.set_length(length);
        }
        fn replace<T>(target: &mut T, value: Option<T>) {
            if let Some(value) = value {
                *target = value;
            }
        }
        replace(&mut training.batch, arguments.batch);
        replace(&mut training.seed, arguments.seed);
        replace(&mut training.learning_rate, arguments.learning_rate);
        replace(&mut config.network.latent, arguments.latent);
        arguments.loading.apply(&mut config.data);
        replace(&mut config.data.mirror, arguments.mirror);
        config.data.balance |= arguments.balance;
        replace(&mut config.data.only, arguments.only.clone());
        replace(&mut config.data.side_by_side, arguments.side_by_side);
        if let Some(to) = &arguments.to {
            config.data.to = std::path::absolute(to).with_context(|| format!("--to {}", to.display()))?;
        }
        match (&mut config.objective, arguments.adversarial) {
            (Objective::Transform(objective), Some(weight)) => objective.adversarial = weight,
            (_, Some(_)) => {
                bail!("--adversarial is for networks from pictures to pictures; {} is none", config.preset)
            }
            (_, None) => {}
        }
        config.network.conditional |= arguments.conditional;
        let network = |option: &str, path: &PathBuf, scaling: Option<Scaling>| -> Result<String> {
            let path = std::path::absolute(path).with_context(|| format!("{option} {}", path.display()))?;
            let scaling = scaling.map(|scaling| format!(" {scaling}")).unwrap_or_default();
            Ok(format!("{}{scaling}", path.display()))
        };
        match &mut config.objective {
            Objective::Vae(objective) => {
                if let Some(path) = &arguments.features {
                    objective.features = network("--features", path, arguments.feature_input)?;
                }
                replace(&mut objective.beta, arguments.beta);
                replace(&mut objective.denoise, arguments.denoise);
                replace(&mut objective.iwae, arguments.iwae);
            }
            Objective::Gan(objective) if arguments.beta.is_none() && arguments.denoise.is_none() => {
                if let Some(path) = &arguments.features {
                    objective.features = network("--features", path, arguments.feature_input)?;
                }
                if let Some(path) = &arguments.judge {
                    objective.judge = network("--judge", path, arguments.judge_input)?;
                }
            }
            _ if arguments.beta.is_some() || arguments.denoise.is_some() => {
                bail!("--beta and --denoise are for VAEs; {} is none", config.preset)
            }
            _ => {}
        }
        if arguments.iwae.is_some() && !matches!(config.objective, Objective::Vae(_)) {
            bail!("--iwae is for VAEs; {} is none", config.preset);
        }
        for (option, given) in [("--features", &arguments.features), ("--judge", &arguments.judge)] {
            let learns = option == "--features" && matches!(config.objective, Objective::Vae(_));
            if given.is_some() && !learns && !matches!(config.objective, Objective::Gan(_)) {
                bail!("{option} is for GANs; {} is none", config.preset);
            }
        }
        Ok(config)
    }

    /// Whether a length was given.
    pub(super) fn has_length(&self) -> Result<bool> {
        Ok(self.length.given()?.is_some())
    }
}

/// A bar where there is a terminal, a line a report everywhere.
struct Progress<F> {
    bar: ProgressBar,
    reported: F,
    /// The last report's figure that the bar shows too.
    validation: Option<String>,
}

impl<F: FnMut(&Report)> Progress<F> {
    fn new(trainer: &Trainer, reported: F) -> Self {
        let style = ProgressStyle::with_template("{wide_bar} {pos}/{len} steps, {eta} left, {msg}")
            .unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = ProgressBar::new(trainer.total_steps()).with_style(style);
        bar.set_position(trainer.step_count());
        bar.reset_eta();
        Self { bar, reported, validation: None }
    }
}

impl<F: FnMut(&Report)> Observer for Progress<F> {
    fn step(&mut self, step: u64, _total: u64, figures: &Figures) {
        self.bar.set_position(step);
        let validation = self.validation.as_deref().unwrap_or_default();
        self.bar.set_message(format!("{validation}{}", listed(figures)));
    }

    fn report(&mut self, report: &Report) {
        let mut line =
            format!("step {:>7}  {:>6.0} s  train: {}", report.step, report.seconds, listed(&report.train));
        if !report.validation.is_empty() {
            line += &format!("; validation: {}", listed(&report.validation));
        }
        self.validation = report.validation.get("frechet").map(|distance| format!("Fréchet {distance:.4}, "));
        self.bar.suspend(|| eprintln!("{line}"));
        (self.reported)(report);
    }

    fn warning(&mut self, warning: &str) {
        self.bar.suspend(|| eprintln!("warning: {warning}"));
    }
}

/// `d_loss 0.532, g_loss 1.94`.
fn listed(figures: &Figures) -> String {
    let figure = |(name, value): (&String, &f64)| match value.abs() {
        small if small < 10.0 => format!("{name} {value:.3}"),
        _ => format!("{name} {value:.2}"),
    };
    figures.iter().map(figure).collect::<Vec<_>>().join(", ")
}
