//! `edgegen-train eval RUN`

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use edgegen_runtime::files::{check_writable, write_atomically};
use edgegen_runtime::model::limits::check_count;
use edgegen_trainer::evaluate::bound::BoundKind;
use edgegen_trainer::evaluate::samples::{DRAWN, Samples};
use edgegen_trainer::evaluate::{self, HeldOut, odd, restoring};
use edgegen_trainer::objective::vae::{ObjectiveConfig, Vae};
use edgegen_trainer::train::folder::RunFolder;
use edgegen_trainer::train::teacher::taught_by;
use edgegen_trainer::train::trained::{Need, Trained, TrainedRun};
use indicatif::ProgressBar;
use serde_json::{Map, Value, json};

use super::RunArguments;
use super::judge::{self, Judge};

/// Most samples that are drawn.
const MOST_DRAWN: usize = 1_000_000;

#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    run: RunArguments,
    /// Posterior samples per picture of a VAE's importance-weighted bound (1 to 5000).
    #[arg(long, value_name = "K", default_value_t = 100)]
    samples: usize,
    /// Use only N test pictures, evenly spread (validation or training ones where there are none); 0: all.
    #[arg(long, value_name = "N", default_value_t = 0)]
    limit: usize,
    /// Judge drawn pictures too, on the features of this network: (N, 1 or 3, H, W) → (N, D), float32. A GAN
    /// needs it.
    #[arg(long, value_name = "F.onnx")]
    features: Option<PathBuf>,
    /// How many pictures to draw for that.
    #[arg(long, value_name = "N", default_value_t = DRAWN)]
    count: usize,
    /// Decides their latents.
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    #[command(flatten)]
    judge: Judge,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Prints what is known of the run's network: a VAE's bounds on test pictures, how well a denoiser denoises, a
/// classifier's accuracy, and of anything that draws, with --features, how its samples compare with the pictures.
pub(super) fn run(arguments: Arguments) -> Result<()> {
    evaluate::check_samples(arguments.samples)?;
    if !(2..=MOST_DRAWN).contains(&arguments.count) {
        bail!("--count is {}; it takes 2 to {MOST_DRAWN}", arguments.count);
    }
    let folder = arguments.run.folder()?;
    check_writable(&folder.evaluation())?;
    let options = match &arguments.features {
        Some(features) => Some(arguments.judge.options(features.clone(), arguments.seed)?),
        None => None,
    };
    let run = arguments.run.open(&folder, Need::IfThere)?;
    if options.is_some() && run.drawer().is_none() {
        bail!("--features judges samples, and this network draws none");
    }
    let mut object = Map::new();
    let judge = arguments.features.as_deref();
    let taught = judge.map(|judge| taught_by(&run.config.objective, judge)).transpose()?;
    object.insert("judge_is_teacher".into(), json!(arguments.judge.allowed(taught.flatten())?));
    check_count(arguments.count, run.dataset.shape.values().div_ceil(4)).context("--count")?;
    let (reported, part) = run.dataset.report_part();
    object.insert("reported_on".into(), json!(part));
    object.insert("checkpoint_sha256".into(), json!(run.checkpoint_sha256));
    object.insert("step".into(), json!(run.position.step));
    if !arguments.json {
        say!(
            "weights of step {}, {} {part} pictures of {}",
            run.position.step,
            reported.count(),
            run.dataset.name
        );
    }
    match &run.trained {
        Trained::Vae(vae, objective) => {
            object.extend(likelihood(&run, vae, objective, &arguments)?);
            if run.classes.is_empty() {
                let shape = run.dataset.shape;
                let found = odd::measure(vae, objective, shape, (&run.dataset.test, &run.dataset.odd))?;
                if let (Some(found), false) = (&found, arguments.json) {
                    say!("told apart        {found}");
                }
                object.insert("odd".into(), json!(found));
            }
        }
        Trained::Classifier(classifier) => {
            let (loss, accuracy) =
                evaluate::verdicts(classifier, run.dataset.shape, reported, arguments.limit)?;
            if !arguments.json {
                say!("accuracy {:.2} %, cross-entropy {loss:.4} nats, of {part} pictures", 100.0 * accuracy);
            }
            object.insert("accuracy".into(), json!(accuracy));
            object.insert("cross_entropy".into(), json!(loss));
        }
        Trained::Transform(restorer, objective) => {
            let material = run.material(reported);
            let whole = objective.whole(material.one(), &run.config.network)?;
            let found = restoring::measure(restorer, objective, &material, whole, arguments.limit)?;
            if !arguments.json {
                say!("restored pictures: {found}");
            }
            object.insert("restoring".into(), json!(found));
        }
        Trained::Generator(_) if options.is_none() => bail!(
            "a GAN has no likelihood; --features F.onnx judges its samples on the features of any network that looks at pictures"
        ),
        Trained::Generator(_) => {}
    }
    if let (Some(options), Some(drawer)) = (options, run.drawer()) {
        let labels = evaluate::in_proportion(options.split.of(&run.dataset).labels(), arguments.count);
        let classes = drawer.classes(arguments.count).map(|turn| match labels.is_empty() {
            true => turn,
            false => labels.iter().map(|label| u32::from(*label)).collect(),
        });
        let frames = drawer.told(arguments.seed, arguments.count, classes.as_deref())?;
        let pixels = frames.into_iter().flat_map(|frame| frame.pixels).collect();
        let name = format!("{} seed {}", arguments.run.run.display(), arguments.seed);
        let mut samples = Samples::new(name, run.dataset.shape, pixels)?;
        samples.requested = classes.unwrap_or_default().into_iter().map(|class| class as u16).collect();
        let report = judge::measure(&samples, &run.dataset, &options)?;
        if !arguments.json {
            judge::show(&report, &samples, &run.dataset, &options);
        }
        object.insert("lines".into(), json!(report.lines()));
        object.insert("report".into(), serde_json::to_value(&report)?);
    }
    let object = Value::Object(object);
    if arguments.json {
        say!("{object}");
    }
    if arguments.limit == 0 {
        // what export puts on the card; a part of the pictures is no figure for that
        let text = format!("{object:#}\n");
        write_atomically(&folder.evaluation(), |out| out.write_all(text.as_bytes()))?;
    }
    Ok(())
}

/// A VAE's bounds on its test pictures, or on the part that stands for them, and how well a denoiser denoises them.
fn likelihood(
    run: &TrainedRun,
    vae: &Vae,
    objective: &ObjectiveConfig,
    arguments: &Arguments,
) -> Result<Map<String, Value>> {
    let (reported, shape) = (run.dataset.report_part().0, run.dataset.shape);
    let held_out = HeldOut::new(vae, objective, shape, reported, arguments.limit);
    let bound = held_out.bound()?;
    let bar = ProgressBar::new(held_out.count() as u64);
    let weighted = held_out.importance_weighted(arguments.samples, || bar.inc(1))?;
    bar.finish_and_clear();
    let denoising = held_out.denoising()?;
    let rebuilding = held_out.rebuilding()?;
    let kind = BoundKind::of(objective);
    if !arguments.json {
        let mut rows = kind.rows(&bound, Some(&weighted), shape.values(), !run.classes.is_empty());
        rows.extend(denoising.map(|denoising| ("denoising", denoising.to_string())));
        rows.extend(rebuilding.map(|rebuilding| ("rebuilt pictures", rebuilding.to_string())));
        let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
        rows.iter().for_each(|(name, text)| say!("{name:width$}  {text}"));
    }
    let object = json!({
        "what": kind, "pictures": weighted.pictures,
        "elbo": bound.elbo, "reconstruction": bound.reconstruction, "kl": bound.kl,
        "samples": weighted.samples, "log_likelihood": weighted.mean, "standard_error": weighted.standard_error,
    });
    let mut object = object.as_object().cloned().unwrap_or_default();
    if let Some(rebuilding) = rebuilding {
        object.insert("rebuilding".into(), json!(rebuilding));
    }
    if let Some(denoising) = denoising {
        object.insert("denoising".into(), json!(denoising));
    }
    Ok(object)
}

/// What an earlier evaluation of these very weights found.
pub(super) fn stored(folder: &RunFolder, run: &TrainedRun) -> Result<Option<Map<String, Value>>> {
    let path = folder.evaluation();
    if !path.is_file() {
        return Ok(None);
    }
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let found: Map<String, Value> =
        serde_json::from_str(&text).with_context(|| format!("{} is damaged", path.display()))?;
    let same = found.get("checkpoint_sha256").and_then(Value::as_str) == Some(&run.checkpoint_sha256);
    Ok(same.then_some(found))
}
