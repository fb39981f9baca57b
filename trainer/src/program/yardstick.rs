//! `edgegen-train yardstick MODEL PICTURES`

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use edgegen_runtime::arguments::{Foreign, machine};
use edgegen_runtime::generate::{Tiler, USUAL_TILE};
use edgegen_runtime::model::{Model, ModelFolder, OpenOptions, Part, Precision};
use edgegen_runtime::pictures::read_whole_picture;
use edgegen_trainer::data::degrade::{Degradation, Shrink, Strength};
use edgegen_trainer::data::listed_pairs;
use edgegen_trainer::evaluate::yardstick::{Clean, Yardstick, measure, measure_pairs};
use serde_json::json;

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// A model folder, or an ONNX file, that turns pictures into pictures: of the same size, or larger.
    model: PathBuf,
    /// A folder of clean pictures; with --to, of those that the model is given.
    pictures: PathBuf,
    /// The pictures that should come out, under the same names: how close a translator comes to them.
    #[arg(long, value_name = "FOLDER", conflicts_with_all = ["noise", "jpeg", "blur", "shrink", "levels"])]
    to: Option<PathBuf>,
    /// Deviation of the noise that is added, in levels of 255; several, one after the other.
    #[arg(long, value_name = "LEVELS,…", value_delimiter = ',')]
    noise: Vec<f64>,
    /// Quality of JPEG compression.
    #[arg(long, value_name = "1…100", default_value_t = 0)]
    jpeg: u8,
    /// Deviation of a Gaussian blur, pixels.
    #[arg(long, value_name = "PIXELS", default_value_t = 0.0)]
    blur: f64,
    /// How pictures become smaller: bicubic, as in the literature, or area, as a sensor's.
    #[arg(long, value_name = "bicubic|area", default_value = "bicubic")]
    shrink: String,
    /// Round what the network is given to levels, as a file holds it; the literature does not.
    #[arg(long)]
    levels: bool,
    /// Precisions of a model folder [default: all that it has].
    #[arg(long, value_name = "P,…", value_delimiter = ',')]
    precision: Vec<Precision>,
    #[command(flatten)]
    foreign: Foreign,
    /// Print one JSON object a line.
    #[arg(long)]
    json: bool,
}

/// Prints how close a model comes to clean pictures, beside what it is given.
pub(super) fn run(arguments: Arguments) -> Result<()> {
    let shrink = match arguments.shrink.as_str() {
        "bicubic" => Shrink::Bicubic,
        "area" => Shrink::Area,
        other => bail!("--shrink {other}: it takes bicubic or area"),
    };
    let noises = if arguments.noise.is_empty() { vec![0.0] } else { arguments.noise.clone() };
    let precisions: Vec<Option<Precision>> = match (arguments.model.is_dir(), &arguments.precision[..]) {
        (true, []) => {
            let manifest = ModelFolder::open(&arguments.model)?.manifest;
            manifest.precisions.into_iter().map(Some).collect()
        }
        (true, given) => given.iter().copied().map(Some).collect(),
        (false, []) => vec![None],
        (false, _) => bail!("--precision is for model folders; {} is a file", arguments.model.display()),
    };
    let part = arguments.model.is_dir().then_some(Part::Transform);
    let mut pictures: Option<Vec<Clean>> = None;
    let mut pairs: Option<Vec<(Clean, Clean)>> = None;
    for noise in noises {
        let degradation =
            Degradation { blur: [arguments.blur; 2], shrink, noise: [noise; 2], jpeg: [arguments.jpeg; 2] };
        degradation.check()?;
        let levels = arguments.levels || arguments.jpeg > 0;
        let strength = Strength { blur: arguments.blur, noise, jpeg: arguments.jpeg, levels };
        for precision in &precisions {
            let open = |size| {
                let options = OpenOptions { size, machine: machine(1)?, ..arguments.foreign.options()? };
                Model::open_named(&arguments.model, part, *precision, &options)
            };
            let mut tiler = Tiler::new(Box::new(open), USUAL_TILE)?;
            let (facts, channels) = (tiler.facts(), tiler.facts().source.map_or(1, |source| source.channels));
            if facts.scale.is_none() || facts.image.channels != channels {
                bail!(
                    "{}: it makes {} of {}, which no clean picture is compared with",
                    arguments.model.display(),
                    facts.image,
                    facts.source.unwrap_or(facts.image)
                );
            }
            let (scale, precision) = (facts.scale.unwrap_or(1), facts.precision);
            if let Some(to) = &arguments.to {
                let pairs = match &pairs {
                    Some(known) => known,
                    None => pairs.insert(read_pairs(&arguments.pictures, to, channels)?),
                };
                let bar = indicatif::ProgressBar::new(pairs.len() as u64);
                let found = measure_pairs(&mut tiler, pairs, &|done| bar.set_position(done as u64))?;
                bar.finish_and_clear();
                show(&arguments, precision, (scale, noise), &found);
                continue;
            }
            let clean = match &pictures {
                Some(clean) => clean,
                None => pictures.insert(read(&arguments.pictures, channels)?),
            };
            let bar = indicatif::ProgressBar::new(clean.len() as u64);
            let found =
                measure(&mut tiler, clean, &degradation, strength, &|done| bar.set_position(done as u64))?;
            bar.finish_and_clear();
            show(&arguments, precision, (scale, noise), &found);
        }
    }
    Ok(())
}

fn show(arguments: &Arguments, precision: Precision, (scale, noise): (usize, f64), found: &Yardstick) {
    if arguments.json {
        let line = json!({
            "model": arguments.model.display().to_string(),
            "pictures": arguments.pictures.display().to_string(),
            "precision": precision, "scale": scale, "noise": noise, "jpeg": arguments.jpeg,
            "blur": arguments.blur, "levels": arguments.levels, "found": found,
        });
        say!("{line}");
        return;
    }
    let mut what = Vec::new();
    if scale > 1 {
        what.push(format!("x{scale}"));
    }
    if noise > 0.0 {
        what.push(format!("noise {noise}"));
    }
    if arguments.jpeg > 0 {
        what.push(format!("JPEG {}", arguments.jpeg));
    }
    if arguments.blur > 0.0 {
        what.push(format!("blur {}", arguments.blur));
    }
    if arguments.to.is_some() {
        what.push("pairs".into());
    }
    let given = if scale > 1 { "bicubic" } else { "given" };
    say!(
        "{:<14} {precision:<5} PSNR {:6.2} dB  SSIM {:.4}  L1 {:.2}   {given} {:6.2} dB  {:.4}  {:.2}   {} pictures",
        what.join(", "),
        found.made.psnr.mean,
        found.made.ssim.mean,
        found.apart[0],
        found.given.psnr.mean,
        found.given.ssim.mean,
        found.apart[1],
        found.pictures
    );
}

/// The pairs of two folders.
fn read_pairs(
    folder: &std::path::Path,
    to: &std::path::Path,
    channels: usize,
) -> Result<Vec<(Clean, Clean)>> {
    let of = |path: &PathBuf| -> Result<Clean> {
        Ok(Clean::new(path.display().to_string(), &read_whole_picture(path)?, channels))
    };
    listed_pairs(folder, to)?.iter().map(|(given, wanted)| Ok((of(given)?, of(wanted)?))).collect()
}

/// The pictures of a folder, in the order of their names.
fn read(folder: &std::path::Path, channels: usize) -> Result<Vec<Clean>> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.with_context(|| format!("cannot read {}", folder.display()))?.path();
        let extension = path.extension().map(|extension| extension.to_ascii_lowercase());
        let known = ["png", "bmp", "jpg", "jpeg", "gif"];
        if extension.as_ref().and_then(|e| e.to_str()).is_some_and(|e| known.contains(&e)) {
            paths.push(path);
        }
    }
    if paths.is_empty() {
        bail!("{}: this folder holds no pictures", folder.display());
    }
    paths.sort();
    let of =
        |path: &PathBuf| Ok(Clean::new(path.display().to_string(), &read_whole_picture(path)?, channels));
    paths.iter().map(of).collect()
}
