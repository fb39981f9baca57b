//! The card beside a model: what it is, how it was made, how good it is.

use std::fmt::Write;
use std::path::Path;

use edgegen_runtime::files::write_atomically;
use edgegen_runtime::model::Manifest;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::pictures::{RESTORED, SAMPLES, WALK};
use super::ship::rows;
use crate::Result;
use crate::data::degrade::Shrink;
use crate::evaluate::bound::{Bound, BoundKind, Weighted};
use crate::evaluate::denoising::{Closeness, Denoising};
use crate::evaluate::restoring::Restoring;
use crate::graph::family::Normalisation;
use crate::objective::gan::GanConfig;
use crate::objective::gan::loss::Loss;
use crate::objective::transform::{Difference, TransformConfig};
use crate::objective::vae::{Binarize, Likelihood, ObjectiveConfig};
use crate::train::config::Objective;
use crate::train::trained::{TrainedRun, Which};

/// Sources and licences of data sets by name.
const LICENCES: [(&str, &str); 6] = [
    ("mnist", "MNIST (Y. LeCun, C. Cortes, C. Burges), usually quoted as CC BY-SA 3.0"),
    ("fashion-mnist", "Fashion-MNIST (Zalando SE), MIT"),
    ("fashion-mnist-embedded", "Fashion-MNIST (Zalando SE), MIT; the 2,000 pictures inside the program"),
    (
        "train400",
        "400 crops of the Berkeley segmentation set (D. Martin et al., 2001), for research and education",
    ),
    ("fsdd", "Free Spoken Digit Dataset (Z. Jackson and contributors), CC BY-SA 4.0"),
    (
        "emoji64",
        "emoji drawings: Noto Emoji (Google, Apache-2.0), Twemoji (Twitter and contributors, CC BY 4.0), Fluent Emoji (Microsoft, MIT)",
    ),
];

/// Markdown.
pub(super) fn card(run: &TrainedRun, manifest: &Manifest, evaluation: Option<&Map<String, Value>>) -> String {
    let (config, dataset) = (&run.config, &run.dataset);
    let licence = LICENCES
        .iter()
        .find(|(name, _)| *name == dataset.name)
        .map_or("unknown to edgegen: yours to say before you pass the model on", |(_, licence)| licence);
    let number = |key: &str| manifest.metrics.get(key).and_then(Value::as_f64);
    let mut out = format!("# {}\n\n", manifest.name);
    let mut line = |text: String| {
        out.push_str(&text);
        out.push('\n');
    };
    if run.drawer().is_some() {
        line(format!("![samples]({SAMPLES})\n"));
    }
    if let Objective::Transform(_) = run.config.objective {
        line(format!("![given, made, clean]({RESTORED})\n"));
    }
    line(format!("{}\n", introduction(run)));
    if run.drawer().is_some() {
        let told = match run.config.network.latent {
            2 => {
                "Its map of latents: the first value grows to the right, the second upwards, both from quantile to quantile of the prior (`edgegen map`):"
            }
            _ => "Ways from one latent to another, a row a way (`edgegen walk`):",
        };
        line(format!("{told}\n\n![latents]({WALK})\n"));
    }
    line("| part | parameters | MACs per picture | float32: max difference to the trained network |".into());
    line("|---|---:|---:|---:|".into());
    for part in &manifest.parts {
        line(format!(
            "| {part} | {} | {} | {:.1e} |",
            number(&format!("{part}_parameters")).unwrap_or_default(),
            number(&format!("{part}_macs")).unwrap_or_default(),
            number(&format!("{part}_fp32_max_difference")).unwrap_or_default(),
        ));
    }
    line("\n## How it was trained\n".into());
    line(format!("    {}\n", manifest.command));
    line(format!(
        "- data: {}: {} training, {} validation, {} test pictures; {licence}",
        dataset.name, run.facts.counts[0], run.facts.counts[1], run.facts.counts[2]
    ));
    line(format!("- objective: {}", objective(&config.objective)));
    line(format!(
        "- seed {}, weights of step {} ({}), {} pictures seen, {:.0} s of training, {}",
        config.training.seed,
        run.position.step,
        match run.which {
            Which::Best => "the best report of the run",
            Which::Last => "last checkpoint",
            Which::Step(_) => "a snapshot",
        },
        run.pictures_seen(),
        run.position.seconds,
        manifest.producer
    ));
    line("\n## How good it is\n".into());
    let told = held_out(run, manifest);
    let anything = !told.is_empty();
    if anything {
        let part = match run.dataset.report_part().1 {
            "test" => "Test pictures",
            "validation" => "Validation pictures (there is no test part)",
            _ => "Training pictures (none are held out)",
        };
        line(format!("{part}, means per picture:\n"));
        told.into_iter().for_each(|(name, text)| line(format!("- {name}: {text}")));
    }
    let lines = evaluation.and_then(|found| found.get("lines")).and_then(Value::as_array);
    if let Some(lines) = lines {
        let gap = if anything { "\n" } else { "" };
        line(format!("{gap}Samples, by `edgegen-train eval RUN --features …`:\n"));
        lines.iter().filter_map(Value::as_str).for_each(|text| line(format!("    {text}")));
        if manifest.metrics.get("judge_is_teacher") == Some(&Value::Bool(true)) {
            line("\n**The judge is the network that the run learned by: these figures flatter it.**".into());
        }
    }
    out + &precisions(manifest)
}

/// The figures on test pictures as (name, text), from the metrics.
fn held_out(run: &TrainedRun, manifest: &Manifest) -> Vec<(&'static str, String)> {
    let metric = |key: &str| manifest.metrics.get(&format!("test_{key}"));
    let number = |key: &str| metric(key).and_then(Value::as_f64);
    let count = |key: &str| metric(key).and_then(Value::as_u64).map(|count| count as usize);
    let mut rows = Vec::new();
    if let (Objective::Vae(objective), Some(elbo), Some(reconstruction), Some(kl)) =
        (&run.config.objective, number("elbo"), number("reconstruction"), number("kl"))
    {
        let bound = Bound { elbo, reconstruction, kl };
        let weighted = || {
            let (mean, standard_error) = (number("log_likelihood")?, number("standard_error")?);
            Some(Weighted { mean, standard_error, pictures: count("pictures")?, samples: count("samples")? })
        };
        let (values, conditional) = (run.dataset.shape.values(), !run.classes.is_empty());
        rows = BoundKind::of(objective).rows(&bound, weighted().as_ref(), values, conditional);
    }
    let rebuilding = metric("rebuilding").and_then(|found| Closeness::deserialize(found).ok());
    rows.extend(rebuilding.map(|rebuilding| ("rebuilt pictures", rebuilding.to_string())));
    let denoising = metric("denoising").and_then(|found| Denoising::deserialize(found).ok());
    rows.extend(denoising.map(|denoising| ("denoising", denoising.to_string())));
    let restoring = metric("restoring").and_then(|found| Restoring::deserialize(found).ok());
    rows.extend(restoring.map(|restoring| ("restored pictures", restoring.to_string())));
    rows.extend(number("accuracy").map(|accuracy| ("accuracy", format!("{:.2} %", 100.0 * accuracy))));
    rows.extend(number("cross_entropy").map(|nats| ("cross-entropy", format!("{nats:.4} nats"))));
    rows
}

/// The heading of the card's last section.
const PRECISIONS: &str = "\n## Files\n";

/// The files, and how far each is from that in float32.
fn precisions(manifest: &Manifest) -> String {
    let all = rows(manifest);
    let machine = all.iter().find_map(|row| row.text("measured_on"));
    let columns = if machine.is_some() { ["µs a picture | memory | ", "---:|---:|"] } else { ["", ""] };
    let [costs, lines] = columns;
    let mut text =
        format!("{PRECISIONS}\n| file | bytes | {costs}against float32 |\n|---|---:|{lines}---|\n");
    for row in &all {
        let figure = |key: &str, show: &dyn Fn(f64) -> String| {
            format!("{} | ", row.number(key).map_or("–".into(), show))
        };
        let costs = machine.map_or_else(String::new, |_| {
            figure("latency_us", &|us| format!("{us:.0}"))
                + &figure("peak_rss_kib", &|kib| format!("{:.1} MB", kib * 1024.0 / 1e6))
        });
        let quality = row.found.map_or_else(String::new, against_float32);
        let absent = if row.shipped { "" } else { " (not here)" };
        let _ = writeln!(text, "| `{}`{absent} | {} | {costs}{quality} |", row.file(), row.bytes);
    }
    if let Some(machine) = machine {
        let _ = writeln!(
            text,
            "\nLatency: median, one thread; memory: the most that the whole process held; by `edgegen bench` on {machine}."
        );
    }
    if all.iter().any(|row| !row.shipped) {
        text.push_str("\nFiles that are not here: the command above and `edgegen-train export` make them.\n");
    }
    text
}

fn against_float32(found: &Map<String, Value>) -> String {
    let number = |key: &str| found.get(key).and_then(Value::as_f64);
    let mut told = Vec::new();
    if let (Some(mean), Some(worst), Some(similar)) =
        (number("psnr_mean"), number("psnr_worst"), number("ssim_mean"))
    {
        let count = number("pictures").unwrap_or_default();
        told.push(format!("PSNR {mean:.1} dB, worst of {count} pictures {worst:.1} dB; SSIM {similar:.4}"));
    }
    let ratio = |(key, value): (&String, &Value)| {
        Some(format!("{} {:.1} dB", key.strip_suffix("_sqnr")?, value.as_f64()?))
    };
    let ratios: Vec<String> = found.iter().filter_map(ratio).collect();
    if !ratios.is_empty() {
        told.push(format!("SQNR {}", ratios.join(", ")));
    }
    if let (Some(distance), Some(spread), Some(change), Some(features)) = (
        number("frechet"),
        number("frechet_deviation"),
        number("frechet_change"),
        found.get("frechet_features").and_then(Value::as_str),
    ) {
        let change = if change == 0.0 { String::new() } else { format!(" ({:+.2} %)", 100.0 * change) };
        let teacher =
            if found.get("judge_is_teacher") == Some(&Value::Bool(true)) { ", its teacher's," } else { "" };
        told.push(format!(
            "Fréchet distance on {features} features{teacher} {distance:.2} ± {spread:.2}{change}"
        ));
    }
    told.join("; ")
}

/// Replaces the section of files in a card; adds it where there is none.
pub(super) fn rewrite_precisions(path: &Path, manifest: &Manifest) -> Result<()> {
    let text = std::fs::read_to_string(path).unwrap_or_else(|_| format!("# {}\n", manifest.name));
    let before = text.split(PRECISIONS).next().unwrap_or_default();
    let text = format!("{}\n{}", before.trim_end(), precisions(manifest));
    write_atomically(path, |out| std::io::Write::write_all(out, text.as_bytes()))?;
    Ok(())
}

/// What it is, in a paragraph.
fn introduction(run: &TrainedRun) -> String {
    let (latent, shape) = (run.config.network.latent, run.dataset.shape);
    let classes = match run.classes.len() {
        0 => String::new(),
        _ => format!(" Classes: {}.", run.classes.join(", ")),
    };
    match run.config.objective {
        Objective::Vae(_) => format!(
            "A variational autoencoder: latents of {latent} values → pictures of {shape} (channels × height × width). The picture above is samples of seed 0, drawn by the {} file.{classes}",
            if run.config.network.codes > 0 { "generator's" } else { "decoder's" }
        ),
        Objective::Gan(ref gan) if gan.loss == Loss::Matching && run.config.network.codes > 0 => format!(
            "A generator: latents of {latent} values → pictures of {shape} (channels × height × width). It maps a latent to the codes of {} training pictures first and mixes those near it. The picture above is samples of seed 0, drawn by the file.{classes}",
            run.config.network.codes
        ),
        Objective::Gan(ref gan) => format!(
            "A generator, trained {}: latents of {latent} values → pictures of {shape} (channels × height × width). The picture above is samples of seed 0, drawn by the file.{classes}",
            if gan.loss == Loss::Matching {
                "by matching samples with pictures"
            } else {
                "against a discriminator"
            }
        ),
        Objective::Transform(ref transform) => format!(
            "From pictures to pictures{}: grey values or colours in [0, 1] of any height and width (`edgegen transform`). A row of the picture above is a held-out picture as the network is given it (a smaller one by cubic interpolation), what it makes of it, and the clean one.",
            match transform.scale {
                1 if run.config.data.pairs().is_some() => ", as pairs show it".to_string(),
                1 => "; it restores them".to_string(),
                scale => format!(" {scale} times as high and as wide"),
            }
        ),
        Objective::Classifier(_) => format!(
            "A classifier: pictures of {shape} (channels × height × width) in [0, 1] → {latent} features and one logit a class. Samples are judged by it: `edgegen-train compare --features` and `--classifier`.{classes}"
        ),
    }
}

/// What was minimised, in a line.
fn objective(objective: &Objective) -> String {
    match objective {
        Objective::Vae(ObjectiveConfig {
            likelihood, sigma, binarize, beta, iwae, denoise, unlike, ..
        }) => {
            let reconstruction = match (likelihood, binarize) {
                (Likelihood::Bernoulli, Binarize::Stochastic) => {
                    "ELBO with a Bernoulli likelihood of pictures binarised afresh at each visit (test pictures once, with a fixed seed)".into()
                }
                (Likelihood::Bernoulli, Binarize::No) => "Bernoulli cross-entropy of grey values + KL".into(),
                (Likelihood::Gaussian, _) if *sigma == 0.0 => {
                    "ELBO with a Gaussian likelihood of the deviation that fits best, a density of values in [0, 1]".into()
                }
                (Likelihood::Gaussian, _) => {
                    format!("ELBO with a Gaussian likelihood of deviation {sigma}, a density of values in [0, 1]")
                }
            };
            let denoiser = match denoise {
                0.0 => String::new(),
                sigma => format!(
                    "; a denoiser: noise of deviation {sigma} on what the encoder sees, clean pictures as target"
                ),
            };
            let unlike = match unlike {
                0.0 => String::new(),
                weight => {
                    format!(", and features of reconstructions and pictures alike (weight {weight} nats)")
                }
            };
            let weighted = match iwae {
                1 => String::new(),
                samples => format!(", importance-weighted with {samples} samples"),
            };
            format!("{reconstruction}, β = {beta}{weighted}{unlike}{denoiser}")
        }
        Objective::Gan(gan) => game(gan),
        Objective::Transform(transform) => transforming(transform),
        Objective::Classifier(classifier) => {
            format!("cross-entropy, pictures shifted by at most {} pixels", classifier.shift)
        }
    }
}

/// What is learned from which pictures.
fn transforming(transform: &TransformConfig) -> String {
    let TransformConfig { scale, patch, difference, blur, shrink, noise, jpeg, adversarial, .. } = transform;
    let mut done = Vec::new();
    let range = |[from, to]: [f64; 2]| if from == to { format!("{to}") } else { format!("{from} to {to}") };
    if blur[1] > 0.0 {
        done.push(format!("blurred by {} pixels", range(*blur)));
    }
    if *scale > 1 {
        let how = match shrink {
            Shrink::Bicubic => "by cubic interpolation",
            Shrink::Area => "by means of their pixels",
        };
        done.push(format!("made {scale} times smaller {how}"));
    }
    if noise[1] > 0.0 {
        done.push(format!("with normal noise of {} levels", range(*noise)));
    }
    if jpeg[1] > 0 {
        done.push(format!("compressed as JPEG of quality {}", range(jpeg.map(f64::from))));
    }
    let difference = match difference {
        Difference::L1 => "absolute",
        Difference::L2 => "squared",
    };
    let from = match done[..] {
        [] => format!("pieces of {patch}x{patch} pixels of the other picture of each pair"),
        _ => format!("pieces of {patch}x{patch} clean pixels, given {}", done.join(", ")),
    };
    let played = match adversarial {
        0.0 => String::new(),
        weight => format!("; {weight} times the cross-entropy of a discriminator of patches (pix2pix)"),
    };
    format!("mean {difference} difference to {from}{played}")
}

fn game(gan: &GanConfig) -> String {
    let mut text = String::from(match gan.loss {
        Loss::NonSaturating => "non-saturating cross-entropy",
        Loss::Minimax => "minimax cross-entropy",
        Loss::Hinge => "hinge",
        Loss::Relativistic => "relativistic cross-entropy",
        Loss::Matching => "matching",
    });
    let mut add = |more: String| {
        let _ = write!(text, ", {more}"); // writing to a String cannot fail
    };
    if gan.matches() {
        add(format!("real pictures matched by features (weight {})", gan.matching));
    }
    if gan.loss == Loss::Matching {
        add(format!("the generator's moving average (decay {})", gan.average));
        return text;
    }
    add(match gan.discriminator_norm {
        Normalisation::Batch => "batch norm in the discriminator".into(),
        Normalisation::Spectral => "spectral normalisation of the discriminator".into(),
        Normalisation::None => "no normalisation of the discriminator".into(),
    });
    if gan.r1 > 0.0 {
        add(format!("R1 with γ = {} at every {} steps", gan.r1, gan.r1_every));
    }
    if gan.r2 > 0.0 {
        add(format!("R2 with γ = {}", gan.r2));
    }
    if gan.label_smoothing > 0.0 {
        add(format!("labels smoothed by {}", gan.label_smoothing));
    }
    if !gan.augment.is_empty() {
        let kinds: Vec<String> = gan.augment.iter().map(|kind| format!("{kind:?}").to_lowercase()).collect();
        add(format!("differentiable augmentation ({})", kinds.join(", ")));
    }
    add(format!("the generator's moving average (decay {})", gan.average));
    text
}
