//! Journey two: checkpoint → graph → ONNX → compared with the trainer's own through the runtime →
//! model folder (`model.json`, `PART.PRECISION.onnx`, card, a picture of samples).

pub(crate) mod builder;
mod card;
pub mod onnx;
mod verify;

use std::fs;
use std::path::{Path, PathBuf};

use edgegen_runtime::files::write_atomically;
use edgegen_runtime::generate::Latents;
use edgegen_runtime::model::{
    MANIFEST, Manifest, ManifestFile, Metadata, Model, OpenOptions, Part, Precision, Range, file_name,
    sha256_hex,
};
use serde_json::{Map, Value, json};

use crate::evaluate::{HeldOut, verdicts};
use crate::graph::prepare::Form;
use crate::graph::{Graph, Heads};
use crate::network::Shape;
use crate::network::module::Module;
use crate::train::trained::{Trained, TrainedRun};
use crate::{Error, Result};

pub use verify::TOLERANCE;

/// The trainer's name and version, as cards and files carry it.
pub const PRODUCER: (&str, &str) = ("edgegen-train", env!("CARGO_PKG_VERSION"));
/// Pictures of a card's sample grid.
const CARD_SAMPLES: usize = 64;

/// What an export did.
pub struct Report {
    /// Per part: largest difference between the trainer and the runtime.
    pub differences: Vec<(Part, f64)>,
    /// The files that were written.
    pub manifest: Manifest,
}

/// Writes `run`'s network as the model folder `out`.
///
/// `evaluation` is what `edgegen-train eval` found of these weights, for the card.
///
/// # Errors
/// [`Error::Export`] if `out` exists and `replace` is not set, or if a file does not compute what
/// the network computes; then nothing is left behind.
pub fn export(
    run: &TrainedRun,
    name: &str,
    evaluation: Option<&Map<String, Value>>,
    out: &Path,
    replace: bool,
) -> Result<Report> {
    let empty = fs::read_dir(out).is_ok_and(|mut entries| entries.next().is_none());
    if out.exists() && !empty && !replace {
        return Err(Error::Export(format!(
            "{} exists; choose another --out, or --force replaces it",
            out.display()
        )));
    }
    if out.exists() && !empty && !out.join(MANIFEST).is_file() {
        return Err(Error::Export(format!(
            "{} is no model folder; --force does not replace it",
            out.display()
        )));
    }
    let staging = Staging::beside(out)?;
    let report = write_into(run, name, evaluation, &staging.path)?;
    staging.rename_to(out)?;
    Ok(report)
}

fn write_into(
    run: &TrainedRun,
    name: &str,
    evaluation: Option<&Map<String, Value>>,
    folder: &Path,
) -> Result<Report> {
    let mut files = Vec::new();
    let mut metrics = Map::new();
    let mut differences = Vec::new();
    for (part, module, input, heads) in parts(run) {
        let graph = Graph::of_module(module, &part.to_string(), input, &heads, metadata(run, part))?;
        let graph = graph.prepare(Form::Transposed)?;
        let bytes = onnx::model(&graph, Precision::Fp32)?;
        let file = file_name(part, Precision::Fp32);
        let difference = verify::compare(run, part, &bytes, &file)?;
        if difference.is_nan() || difference > TOLERANCE {
            return Err(Error::Export(format!(
                "{file} differs by {difference:.2e} from the trained network; at most {TOLERANCE:.0e} is accepted"
            )));
        }
        let path = folder.join(&file);
        write_atomically(&path, |out| std::io::Write::write_all(out, &bytes))?;
        files.push(ManifestFile {
            file,
            part,
            precision: Precision::Fp32,
            bytes: bytes.len() as u64,
            sha256: sha256_hex(&bytes),
        });
        let (parameters, macs) = size(module)?;
        metrics.insert(format!("{part}_parameters"), json!(parameters));
        metrics.insert(format!("{part}_macs"), json!(macs));
        metrics.insert(format!("{part}_fp32_max_difference"), json!(difference));
        differences.push((part, difference));
    }
    metrics.insert("steps".into(), json!(run.position.step));
    metrics.insert("pictures_seen".into(), json!(run.pictures_seen()));
    metrics.insert("training_seconds".into(), json!(run.position.seconds.round()));
    metrics.extend(measured(run, evaluation));
    let manifest = Manifest {
        name: name.into(),
        kind: run.kind(),
        producer: format!("{} {}", PRODUCER.0, PRODUCER.1),
        parts: files.iter().map(|file| file.part).collect(),
        precisions: vec![Precision::Fp32],
        default_precision: Precision::Fp32,
        files,
        metrics,
        command: run.config.command(&run.dataset.name)?,
    };
    manifest.write(folder)?;
    draw_samples(&manifest, folder)?;
    let card = card::card(run, &manifest, evaluation);
    write_atomically(&folder.join("README.md"), |out| std::io::Write::write_all(out, card.as_bytes()))?;
    Ok(Report { differences, manifest })
}

/// The networks that become files, with the names of their inputs.
fn parts(run: &TrainedRun) -> Vec<(Part, &Module, &'static str, Heads<'static>)> {
    let shape = run.dataset.shape;
    let image = Shape::Image(shape.channels, shape.height, shape.width);
    let latent = Shape::Vector(run.config.network.latent);
    let draws = || Heads { outputs: vec![("image", image)], tap: None };
    match &run.trained {
        Trained::Vae(vae, _) => {
            let posterior = Heads { outputs: vec![("mean", latent), ("log_variance", latent)], tap: None };
            vec![
                (Part::Encoder, &vae.encoder, "image", posterior),
                (Part::Decoder, &vae.decoder, "latent", draws()),
            ]
        }
        Trained::Generator(module) => vec![(Part::Generator, module, "latent", draws())],
        Trained::Classifier(classifier) => {
            let logits = Shape::Vector(classifier.classes());
            let heads = Heads { outputs: vec![("logits", logits)], tap: Some("features") };
            vec![(Part::Classifier, &classifier.module, "image", heads)]
        }
    }
}

/// How good the network is: on its test pictures, and what `edgegen-train eval` found of these weights.
fn measured(run: &TrainedRun, evaluation: Option<&Map<String, Value>>) -> Map<String, Value> {
    let mut metrics = Map::new();
    let (test, shape) = (&run.dataset.test, run.dataset.shape);
    match &run.trained {
        Trained::Vae(vae, objective) => {
            let bound = HeldOut::new(vae, objective, shape, test, 0).bound();
            metrics.insert("test_elbo".into(), json!(bound.elbo));
            metrics.insert("test_reconstruction".into(), json!(bound.reconstruction));
            metrics.insert("test_kl".into(), json!(bound.kl));
        }
        Trained::Classifier(classifier) => {
            let (loss, accuracy) = verdicts(classifier, shape, test, 0);
            metrics.insert("test_accuracy".into(), json!(accuracy));
            metrics.insert("test_cross_entropy".into(), json!(loss));
        }
        Trained::Generator(_) => {}
    }
    let found = |key: &str| evaluation.and_then(|found| found.get(key));
    for key in ["log_likelihood", "standard_error", "samples", "pictures"] {
        if let Some(value) = found(key) {
            metrics.insert(format!("test_{key}"), value.clone());
        }
    }
    if let Some(report) = found("report") {
        let figures = [
            ("features", "/features/name"),
            ("features_sha256", "/features/sha256"),
            ("samples", "/samples/count"),
            ("pictures", "/reference/count"),
            ("split", "/split"),
            ("frechet", "/frechet"),
            ("kernel_distance", "/kernel/mean"),
            ("precision", "/manifolds/precision"),
            ("recall", "/manifolds/recall"),
            ("classes_hit", "/modes/hit"),
            ("as_requested", "/modes/as_requested"),
        ];
        let told = figures.into_iter().filter_map(|(name, path)| {
            Some((name.to_string(), report.pointer(path).filter(|value| !value.is_null())?.clone()))
        });
        metrics.insert("samples_compared".into(), Value::Object(told.collect()));
    }
    metrics
}

fn size(module: &Module) -> Result<(u64, u64)> {
    module.network().size().map_err(Error::Export)
}

fn metadata(run: &TrainedRun, part: Part) -> Metadata {
    let draws = part.draws() || part == Part::Encoder;
    Metadata {
        kind: Some(run.kind()),
        part: Some(part),
        latent_dim: draws.then_some(run.config.network.latent),
        prior: draws.then(|| "normal".into()),
        // the encoder is not told them
        classes: if part == Part::Encoder { Vec::new() } else { run.classes.clone() },
        range: Some(run.drawer().map_or(Range::Unit, |drawer| drawer.range)),
        pixel_format: Some(run.dataset.pixel_format()),
        precision: Some(Precision::Fp32),
        dataset: Some(run.dataset.name.clone()),
        seed: Some(run.config.training.seed),
        parent_sha256: Some(run.checkpoint_sha256.clone()),
        producer_name: Some(PRODUCER.0.into()),
        producer_version: Some(PRODUCER.1.into()),
    }
}

/// The card's picture, drawn by the exported file itself.
fn draw_samples(manifest: &Manifest, folder: &Path) -> Result<()> {
    let Some(part) = manifest.parts.iter().copied().find(|part| part.draws()) else { return Ok(()) };
    let path = folder.join(file_name(part, Precision::Fp32));
    let mut generator = Model::open(&path, &OpenOptions::default())?.into_generator(1)?;
    // a row a class, where a row can hold all
    let columns = Some(generator.classes().len()).filter(|classes| (2..=20).contains(classes));
    let columns = columns.filter(|_| generator.is_conditional()).unwrap_or(16);
    let count = CARD_SAMPLES.next_multiple_of(columns);
    let latents = Latents::from_seed(0, 0, count, generator.latent_dim(), 1.0);
    let classes: Vec<u32> = (0..count as u64).filter_map(|index| generator.class_in_turn(index)).collect();
    let frames = generator.frames(&latents, &classes)?;
    crate::train::pictures::write_grid(&frames, Some(columns), &folder.join("samples.png"))
}

/// A folder that is only there under its name once it is complete.
struct Staging {
    path: PathBuf,
}

impl Staging {
    fn beside(out: &Path) -> Result<Self> {
        let Some(name) = out.file_name() else {
            return Err(Error::Export(format!("{} is not the name of a folder", out.display())));
        };
        let path = out.with_file_name(format!(".{}.{}", name.to_string_lossy(), std::process::id()));
        fs::create_dir_all(&path).map_err(|e| Error::io("create", out, e))?;
        Ok(Self { path })
    }

    fn rename_to(self, out: &Path) -> Result<()> {
        let refused = |e| Error::io("write", out, e);
        if !out.exists() {
            return fs::rename(&self.path, out).map_err(refused);
        }
        // the old folder goes last: whatever happens in between, one of the two is whole
        let old = self.path.with_extension("old");
        fs::rename(out, &old).map_err(refused)?;
        fs::rename(&self.path, out).map_err(refused)?;
        fs::remove_dir_all(&old).map_err(|e| Error::io("remove", &old, e))
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // gone already after a rename; after a failure, what cannot be removed does no harm
        let _ = fs::remove_dir_all(&self.path);
    }
}
