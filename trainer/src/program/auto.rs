//! `edgegen-train auto --data FOLDER --out MODEL`: from pictures to a model, with nothing to know beforehand.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use edgegen_runtime::generate::Frame;
use edgegen_runtime::model::Precision;
use edgegen_trainer::data::Size;
use edgegen_trainer::export::export;
use edgegen_trainer::export::precisions::Request;
use edgegen_trainer::train::config::Config;
use edgegen_trainer::train::folder::RunFolder;
use edgegen_trainer::train::pictures::write_grid;
use edgegen_trainer::train::plan::{self, Choice, Look};
use edgegen_trainer::train::presets;
use edgegen_trainer::train::run::{Outcome, Trainer};
use edgegen_trainer::train::trained::{self, Need, Which};

use super::precisions;
use super::train::{self, INTERRUPTED, Settings};

/// Side of the pictures that are looked at to make a plan.
const LOOKED_AT: usize = 64;
/// Pictures in a row of the progress picture, and most rows.
const COLUMNS: usize = 8;
const ROWS: usize = 12;

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// A folder of images (sub-folders are classes) or of IDX files, or a file of an IDX set.
    #[arg(long, value_name = "PATH")]
    data: PathBuf,
    /// The model folder to write.
    #[arg(long, value_name = "MODEL")]
    out: PathBuf,
    /// The run folder, where training can be watched and goes on after an interruption [default: --out with -run].
    #[arg(long, value_name = "RUN")]
    run: Option<PathBuf>,
    /// Replace --out if it exists.
    #[arg(long)]
    force: bool,
    /// Print the plan, and do nothing.
    #[arg(long)]
    plan: bool,
    #[command(flatten)]
    settings: Settings,
}

/// Looks, plans, trains, exports.
pub(super) fn run(arguments: Arguments) -> Result<ExitCode> {
    let name = arguments.out.file_name().context("--out names no folder")?.to_string_lossy().into_owned();
    let path = arguments.run.clone().unwrap_or_else(|| arguments.out.with_file_name(format!("{name}-run")));
    if arguments.out.exists() && !arguments.force {
        bail!("{} exists; choose another --out, or --force replaces it", arguments.out.display());
    }
    let folder = RunFolder::new(&path);
    let mut trainer = if folder.config().is_file() && !arguments.plan {
        resumed(&arguments, folder.clone())?
    } else {
        match planned(&arguments, folder.clone())? {
            Some(trainer) => trainer,
            None => return Ok(ExitCode::SUCCESS),
        }
    };
    if trainer.step_count() < trainer.total_steps() {
        say!("watch it: {}", path.join("progress.png").display());
        let resume = "the same command";
        let outcome = train::execute(&mut trainer, resume, |_| {
            // a picture that cannot be written does not end the training
            if let Err(problem) = show_progress(&folder) {
                eprintln!("progress.png: {problem:#}");
            }
        })?;
        if outcome == Outcome::Stopped {
            return Ok(ExitCode::from(INTERRUPTED));
        }
    }
    drop(trainer);
    write_model(&arguments, &folder, &name)?;
    let out = arguments.out.display();
    say!("show it: edgegen-sim --model {out} --seed 7");
    Ok(ExitCode::SUCCESS)
}

/// Goes on with a run that an earlier call began.
fn resumed(arguments: &Arguments, folder: RunFolder) -> Result<Trainer> {
    let settings = &arguments.settings;
    say!("going on with the run in {}", folder.root().display());
    let config = settings.apply(Config::read(&folder.config())?, Some(&arguments.data))?;
    config.validate()?;
    let dataset = train::load(&config, &settings.caching)?;
    Ok(Trainer::resume(folder, config, dataset, settings.device.open()?.as_ref(), false)?)
}

/// Begins a run by a plan, which is printed; `None` if nothing more is asked for.
fn planned(arguments: &Arguments, folder: RunFolder) -> Result<Option<Trainer>> {
    let settings = &arguments.settings;
    let device = settings.device.open()?;
    // look at the pictures as any network could see them
    let mut first = presets::find("gan-64-slim")?.config;
    first.data.size = Size::square(LOOKED_AT);
    let first = settings.apply(first, Some(&arguments.data))?;
    first.validate()?;
    let seen = train::load(&first, &settings.caching)?;
    let (mut look, mut choices) = plan::look(&seen);
    if settings.loading.has_look() {
        look = Look { size: first.data.size, gray: first.data.gray };
        choices.clear();
    }
    let (config, rest) = plan::plan(&seen, look, settings.has_length()?)?;
    let config = settings.apply(config, Some(&arguments.data))?;
    config.validate()?;
    drop(seen);
    let dataset = train::load(&config, &settings.caching)?;
    say!(
        "{}: {} training and {} held-out pictures, {}",
        dataset.name,
        dataset.train.count(),
        dataset.validation.count() + dataset.test.count(),
        match dataset.classes.len() {
            0 | 1 => "no classes".into(),
            count => format!("{count} classes"),
        }
    );
    say!("plan:");
    choices.extend(rest);
    choices.iter().for_each(|choice: &Choice| say!("  {choice}"));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    if arguments.plan {
        say!("  (nothing is done: --plan)");
        return Ok(None);
    }
    let trainer = Trainer::begin(folder, config, dataset, device.as_ref())?;
    let total = trainer.total_steps();
    let seconds = trainer.seconds_per_step().map(|one| one * total as f64 / 0.93);
    let time = match seconds {
        Some(seconds) if seconds >= 5400.0 => format!("about {:.1} hours", seconds / 3600.0),
        Some(seconds) => format!("about {:.0} minutes", (seconds / 60.0).max(1.0)),
        None => "as long as asked for".into(),
    };
    say!("  {total} steps on {cores} cores, {time}; every choice can be changed by the flags of train");
    Ok(Some(trainer))
}

/// Adds a row of a report's first samples to `RUN/progress.png`: from the first report above to the last below.
fn show_progress(folder: &RunFolder) -> Result<()> {
    let samples = folder.root().join("samples");
    if !samples.is_dir() {
        return Ok(()); // a classifier
    }
    let mut steps: Vec<PathBuf> = std::fs::read_dir(&samples)?.flatten().map(|entry| entry.path()).collect();
    steps.sort();
    // rows evenly spread over the reports, the last one always
    let rows = steps.len().min(ROWS);
    let chosen = (0..rows).map(|row| &steps[(row + 1) * steps.len() / rows - 1]);
    let config = Config::read(&folder.config())?;
    let mut frames = Vec::new();
    for path in chosen {
        frames.extend(first_row(path, &config)?);
    }
    Ok(write_grid(&frames, Some(COLUMNS), &folder.root().join("progress.png"))?)
}

/// The first pictures of a grid of samples.
fn first_row(path: &Path, config: &Config) -> Result<Vec<Frame>> {
    /// Pixels between the pictures of a grid, see `edgegen_runtime::pictures::grid`.
    const GUTTER: u32 = 2;
    let grid = image::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let Size { width, height } = config.data.size;
    let (w, h) = (width as u32, height as u32);
    let columns = ((grid.width() + GUTTER) / (w + GUTTER)).max(1);
    let shape = config.data.size.shape(grid.color().channel_count() == 1);
    let cut = |index: u32| {
        let (x, y) = (index % columns * (w + GUTTER), index / columns * (h + GUTTER));
        let part = grid.crop_imm(x, y, w, h);
        let pixels =
            if shape.channels == 1 { part.into_luma8().into_raw() } else { part.into_rgb8().into_raw() };
        Frame { width, height, format: edgegen_trainer::data::pixel_format(shape), pixels }
    };
    Ok((0..COLUMNS as u32).map(cut).collect())
}

/// Exports the best weights in three precisions.
fn write_model(arguments: &Arguments, folder: &RunFolder, name: &str) -> Result<()> {
    let run = trained::open(folder, Which::Best, None, Need::IfThere)?;
    let request = Request {
        precisions: vec![Precision::Fp32, Precision::Fp16, Precision::Int8],
        least: 0.0, // it is printed, and on the card
        ..Request::default()
    };
    let bar = precisions::spinner();
    let out = (arguments.out.as_path(), arguments.force);
    let report = export(&run, name, None, out, &request, &|what| bar.set_message(what.to_string()));
    bar.finish_and_clear();
    let report = report?;
    for other in &report.others {
        say!("{}, {} against fp32: {}", other.part, other.precision, other.quality);
    }
    for file in &report.manifest.files {
        say!("{} {} bytes", arguments.out.join(&file.file).display(), file.bytes);
    }
    Ok(())
}
