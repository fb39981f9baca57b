//! Journey two: checkpoint → graph → ONNX → compared with the trainer's own through the runtime →
//! model folder (`model.json`, `PART.PRECISION.onnx`, card, a picture of samples).

mod card;
pub mod costs;
pub mod features;
mod pictures;
pub mod precisions;
pub mod ship;
mod verify;
pub mod zoo;

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use edgegen_runtime::files::write_atomically;
use edgegen_runtime::generate::{Likelihood, Scorer, threshold};
use edgegen_runtime::model::{
    Kind, MANIFEST, Manifest, ManifestFile, Metadata, Model, ModelFolder, OpenOptions, Part, Precision,
    Range, file_name, sha256_hex,
};
use half::f16;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::{Map, Value, json};

use crate::compute::Network;
use crate::data::{self, Dataset};
use crate::evaluate::bound::BoundKind;
use crate::evaluate::{HeldOut, Seen, odd, restoring, spread, verdicts};
use crate::graph::prepare::Form;
use crate::graph::{Heads, Op, Shape, onnx};
use crate::objective::gan::loss::Loss;
use crate::train::config::Objective;
use crate::train::init::{CLASSES_KEY, WEIGHTS};
use crate::train::teacher;
use crate::train::trained::{Trained, TrainedRun, Which};
use crate::{Error, Result};

use crate::objective::transform::{Examples, Material, TransformConfig};
use crate::quantize::Inputs;
use precisions::{Made, Quality, Request, Source};

/// Share of usual pictures that a threshold lets pass.
const USUAL: f64 = 0.95;
/// Most pictures that a threshold is found by.
const MOST_SCORED: usize = 1000;
/// What pieces of pictures are drawn with that networks from pictures to pictures are calibrated and compared on.
const PIECES_SEED: u64 = 1_000_003;
const CALIBRATION_STEP: u64 = 1;

/// The trainer's name and version, as cards and files carry it.
pub const PRODUCER: (&str, &str) = ("edgegen-train", env!("CARGO_PKG_VERSION"));

/// What an export did.
pub struct Report {
    /// Per part: largest difference between the trainer and the runtime, and the largest that is accepted.
    pub differences: Vec<(Part, f64, f64)>,
    /// Per file in another precision than float32: how far it is from that.
    pub others: Vec<Other>,
    /// The files that were written.
    pub manifest: Manifest,
}

/// A file in another precision than float32.
pub struct Other {
    /// Which network.
    pub part: Part,
    /// Its precision.
    pub precision: Precision,
    /// How far it is from float32.
    pub quality: Quality,
    /// Of integers, layer by layer.
    pub report: Option<crate::quantize::report::Report>,
}

/// Writes `run`'s network as the model folder `out`, in float32 and in the precisions of `request`; `tell` hears
/// what is being done.
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
    (out, replace): (&Path, bool),
    request: &Request,
    tell: &dyn Fn(&str),
) -> Result<Report> {
    staged(out, replace, |folder| write_into(run, name, evaluation, folder, request, tell))
}

/// Lets `write` fill a folder that then is `out`, whole or not at all.
fn staged<T>(out: &Path, replace: bool, write: impl FnOnce(&Path) -> Result<T>) -> Result<T> {
    check_out(out, replace)?;
    let staging = Staging::beside(out)?;
    let written = write(&staging.path)?;
    staging.rename_to(out)?;
    Ok(written)
}

/// Refuses an `out` that is something else than nothing, an empty folder, or a model folder to be replaced.
fn check_out(out: &Path, replace: bool) -> Result<()> {
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
    Ok(())
}

fn write_into(
    run: &TrainedRun,
    name: &str,
    evaluation: Option<&Map<String, Value>>,
    folder: &Path,
    request: &Request,
    tell: &dyn Fn(&str),
) -> Result<Report> {
    let mut files = Vec::new();
    let mut metrics = Map::new();
    let (mut differences, mut others) = (Vec::new(), Vec::new());
    for (part, network, input, heads) in parts(run) {
        let trained = &network.graph;
        let mut graph = trained.exported(&part.to_string(), input, &heads, metadata(run, part))?;
        graph.any_size = graph.metadata.border.is_some();
        let graph = graph.prepare(Form::Transposed)?;
        let bytes = onnx::model(&graph, Precision::Fp32)?;
        let file = file_name(part, Precision::Fp32);
        let difference = verify::compare(run, part, &bytes, &file)?;
        let tolerance = verify::tolerance(&graph);
        if difference.is_nan() || difference > tolerance {
            return Err(Error::Export(format!(
                "{file} differs by {difference:.2e} from the trained network; at most {tolerance:.0e} is accepted"
            )));
        }
        files.push(write_file(folder, part, Precision::Fp32, &bytes)?);
        if request.precisions.iter().any(|precision| *precision != Precision::Fp32) {
            tell(&format!("{part}"));
            let source = Source::open(bytes, &file, &sized(network))?;
            let inputs = match (&run.trained, source.latents(request)) {
                (_, Some(inputs)) => inputs,
                (Trained::Transform(_, objective), None) => degraded(run, objective, request)?,
                (_, None) => source.pictures(Some(&run.kept), request)?,
            };
            for made in source.make(request, &inputs, tell)? {
                others.push(write_made(folder, part, made, &mut files, &mut metrics)?);
            }
        }
        metrics.insert(format!("{part}_parameters"), json!(trained.trained_count()));
        metrics.insert(format!("{part}_macs"), json!(trained.macs()));
        metrics.insert(format!("{part}_fp32_max_difference"), json!(difference));
        differences.push((part, difference, tolerance));
    }
    metrics.extend(thresholds(run, folder, &files)?);
    metrics.insert("steps".into(), json!(run.position.step));
    metrics.insert("pictures_seen".into(), json!(run.pictures_seen()));
    metrics.insert("training_seconds".into(), json!(run.position.seconds.round()));
    metrics.extend(measured(run, evaluation)?);
    if let Some(told) = teacher::told(&run.config.objective) {
        metrics.insert("taught_by".into(), told);
    }
    let manifest = Manifest {
        name: name.into(),
        kind: run.kind(),
        producer: format!("{} {}", PRODUCER.0, PRODUCER.1),
        parts: files.iter().map(|file| file.part).collect::<BTreeSet<_>>().into_iter().collect(),
        precisions: precisions_of(&files),
        default_precision: Precision::Fp32,
        files,
        metrics,
        command: run.config.command(&run.dataset.name)?,
    };
    manifest.write(folder)?;
    write_weights(run, folder)?;
    pictures::draw(&manifest, folder)?;
    if let Trained::Transform(restorer, objective) = &run.trained {
        pictures::draw_restored(run, restorer, objective, folder)?;
    }
    let card = card::card(run, &manifest, evaluation);
    write_atomically(&folder.join("README.md"), |out| std::io::Write::write_all(out, card.as_bytes()))?;
    Ok(Report { differences, others, manifest })
}

/// Writes the weights from which `--init-from` goes on, where the ONNX files do not hold them all: a GAN's averaged
/// generator and its discriminator, or a network with batch norms.
fn write_weights(run: &TrainedRun, folder: &Path) -> Result<()> {
    let plain = match &run.trained {
        Trained::Vae(..) => true,
        Trained::Transform(restorer, _) => {
            !restorer.network.graph.nodes.iter().any(|node| matches!(node.op, Op::Norm { .. }))
        }
        Trained::Generator(_) | Trained::Classifier(_) => false,
    };
    if plain || matches!(run.which, Which::Step(_)) {
        return Ok(());
    }
    let bytes = fs::read(&run.weights).map_err(|e| Error::io("read", &run.weights, e))?;
    let refused = |e: safetensors::SafeTensorError| Error::run(&run.weights, e);
    let file = SafeTensors::deserialize(&bytes).map_err(refused)?;
    let unplayed = matches!(&run.config.objective, Objective::Gan(gan) if gan.loss == Loss::Matching);
    let mut tensors = Vec::new();
    for (name, view) in file.tensors() {
        let kept =
            ["weights/average.", "weights/discriminator.", "weights/classifier.", "weights/transform."];
        // without an adversary it has learned nothing
        let idle = unplayed && name.starts_with("weights/discriminator.");
        if idle || view.dtype() != Dtype::F32 || !kept.iter().any(|prefix| name.starts_with(prefix)) {
            continue;
        }
        let values = view.data().as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes));
        let halves: Vec<u8> = values.flat_map(|value| f16::from_f32(value).to_le_bytes()).collect();
        tensors.push((name, view.shape().to_vec(), halves));
    }
    let views = tensors.iter().map(|(name, shape, bytes)| {
        TensorView::new(Dtype::F16, shape.clone(), bytes).map(|view| (name.as_str(), view))
    });
    let views = views.collect::<std::result::Result<Vec<_>, _>>().map_err(refused)?;
    let metadata = HashMap::from([(CLASSES_KEY.to_string(), json!(run.classes).to_string())]);
    let bytes = safetensors::serialize(views, Some(metadata)).map_err(refused)?;
    Ok(write_atomically(&folder.join(WEIGHTS), |out| std::io::Write::write_all(out, &bytes))?)
}

/// Every precision that a folder's files have, once.
fn precisions_of(files: &[ManifestFile]) -> Vec<Precision> {
    files.iter().map(|file| file.precision).collect::<BTreeSet<_>>().into_iter().collect()
}

/// Writes one network of the folder; returns its entry in the manifest.
fn write_file(folder: &Path, part: Part, precision: Precision, bytes: &[u8]) -> Result<ManifestFile> {
    let file = file_name(part, precision);
    write_atomically(&folder.join(&file), |out| std::io::Write::write_all(out, bytes))?;
    Ok(ManifestFile { file, part, precision, bytes: bytes.len() as u64, sha256: sha256_hex(bytes) })
}

/// Writes a file in another precision, and its report if it has one.
fn write_made(
    folder: &Path,
    part: Part,
    made: Made,
    files: &mut Vec<ManifestFile>,
    metrics: &mut Map<String, Value>,
) -> Result<Other> {
    let Made { precision, bytes, quality, report } = made;
    files.retain(|file| (file.part, file.precision) != (part, precision));
    files.push(write_file(folder, part, precision, &bytes)?);
    metrics.insert(ship::key(part, precision), quality.to_json());
    if let Some(report) = &report {
        report.write(&folder.join(format!("{part}.{precision}")))?;
    }
    Ok(Other { part, precision, quality, report })
}

/// Adds files in other precisions to the model folder `folder`, as the folder `out`, which may be the same. `data` has
/// the pictures that an encoder is calibrated on.
///
/// # Errors
/// As [`Source::make`]; [`Error::Export`] if an encoder is there and no `data`.
pub fn add_precisions(
    folder: &ModelFolder,
    dataset: Option<&Dataset>,
    (out, replace): (&Path, bool),
    request: &Request,
    tell: &dyn Fn(&str),
) -> Result<Report> {
    staged(out, replace, |to| {
        let mut manifest = folder.manifest.clone();
        copy_files(&folder.path, to)?;
        let mut others = Vec::new();
        for part in manifest.parts.clone() {
            let bytes = folder.read_part(part, Some(Precision::Fp32))?;
            let source = Source::open(bytes, &file_name(part, Precision::Fp32), &OpenOptions::default())?;
            tell(&format!("{part}"));
            let inputs = match source.latents(request) {
                Some(inputs) => inputs,
                None => source.pictures(dataset, request)?,
            };
            for made in source.make(request, &inputs, tell)? {
                others.push(write_made(to, part, made, &mut manifest.files, &mut manifest.metrics)?);
            }
        }
        manifest.precisions = precisions_of(&manifest.files);
        manifest.files.sort_by_key(|file| (file.part, file.precision));
        manifest.write(to)?;
        card::rewrite_precisions(&to.join("README.md"), &manifest)?;
        Ok(Report { differences: Vec::new(), others, manifest })
    })
}

/// Adds figures of a part's file to the metrics of the model folder `folder`, and to its card.
///
/// # Errors
/// The file system's, or if the folder's manifest is not sound.
pub fn add_metrics(folder: &Path, part: Part, precision: Precision, found: Value) -> Result<()> {
    let mut manifest = Manifest::read(folder)?;
    let entry = manifest.metrics.entry(ship::key(part, precision)).or_insert_with(|| json!({}));
    if let (Value::Object(entry), Value::Object(found)) = (entry, found) {
        entry.extend(found);
    }
    manifest.write(folder)?;
    card::rewrite_precisions(&folder.join("README.md"), &manifest)
}

/// Copies every file of a folder, whatever it is.
fn copy_files(from: &Path, to: &Path) -> Result<()> {
    for entry in fs::read_dir(from).map_err(|e| Error::io("read", from, e))? {
        let path = entry.map_err(|e| Error::io("read", from, e))?.path();
        if let (true, Some(name)) = (path.is_file(), path.file_name()) {
            fs::copy(&path, to.join(name)).map_err(|e| Error::io("copy", &path, e))?;
        }
    }
    Ok(())
}

/// The networks that become files, with the names of their inputs.
fn parts(run: &TrainedRun) -> Vec<(Part, &Network, &'static str, Heads<'static>)> {
    let shape = run.dataset.shape;
    let image = Shape::of_image(shape);
    let latent = Shape::Vector(run.config.network.latent);
    let draws = || Heads { outputs: vec![("image", image)], tap: None };
    match &run.trained {
        Trained::Vae(vae, _) => {
            let posterior = Heads { outputs: vec![("mean", latent), ("log_variance", latent)], tap: None };
            let mut parts = vec![
                (Part::Encoder, &vae.encoder, "image", posterior),
                (Part::Decoder, &vae.decoder, "latent", draws()),
            ];
            if vae.has_codes() {
                parts.push((Part::Generator, vae.drawing(), "latent", draws()));
            }
            parts
        }
        Trained::Generator(network) => vec![(Part::Generator, network, "latent", draws())],
        Trained::Classifier(classifier) => {
            let logits = Shape::Vector(classifier.classes());
            let heads = Heads { outputs: vec![("logits", logits)], tap: Some("features") };
            vec![(Part::Classifier, &classifier.network, "image", heads)]
        }
        Trained::Transform(restorer, objective) => {
            let made = Shape::of_image(objective.clean(shape.channels));
            let heads = Heads { outputs: vec![("transformed", made)], tap: None };
            vec![(Part::Transform, &restorer.network, "image", heads)]
        }
    }
}

/// Scores of held-out pictures by the files themselves, and the one that `edgegen score` takes for a threshold; of VAEs that
/// are told no class.
fn thresholds(run: &TrainedRun, folder: &Path, files: &[ManifestFile]) -> Result<Map<String, Value>> {
    let mut found = Map::new();
    let Trained::Vae(vae, objective) = &run.trained else { return Ok(found) };
    if !run.classes.is_empty() {
        return Ok(found);
    }
    let (pictures, part) = match run.dataset.validation.count() {
        0 => run.dataset.report_part(),
        _ => (&run.dataset.validation, "validation"),
    };
    let likelihood = odd::likelihood(vae, objective);
    for precision in precisions_of(files) {
        let open = |part| Model::open(&folder.join(file_name(part, precision)), &OpenOptions::default());
        let mut scorer = Scorer::of_vae(open(Part::Encoder)?, open(Part::Decoder)?, likelihood)?;
        let mut scores = Vec::new();
        for index in spread(pictures.count(), MOST_SCORED) {
            let item = data::batch(Range::Unit, run.dataset.shape, pictures, std::iter::once(index));
            scores.push(scorer.score(&item)?.value);
        }
        let mut entry = json!({
            "threshold": threshold(&scores, USUAL), "quantile": USUAL, "pictures": scores.len(), "part": part,
        });
        if let Likelihood::Gaussian(sigma) = likelihood {
            entry["sigma"] = json!(sigma);
        }
        found.insert(format!("score_{precision}"), entry);
    }
    Ok(found)
}

/// How the file of a network is opened for what the network itself takes.
fn sized(network: &Network) -> OpenOptions {
    let (_, height, width) = network.input_shape().image();
    OpenOptions { size: Some((height, width)), ..OpenOptions::default() }
}

/// Pieces of the kept pictures, degraded as in training, to calibrate on; and others to compare on.
fn degraded(run: &TrainedRun, objective: &TransformConfig, request: &Request) -> Result<[Inputs; 2]> {
    let paired = run.config.data.pairs().is_some();
    let (held_out, _) = run.kept.report_part();
    let sets = [(&run.kept.train, request.calibration, CALIBRATION_STEP), (held_out, request.held_out, 0)];
    let mut inputs = sets.into_iter().map(|(pictures, count, step)| {
        // some pieces of each picture
        let indices: Vec<usize> = (0..count).map(|index| index % pictures.count().max(1)).collect();
        let material = Material::new(pictures, &run.kept, paired);
        let examples = Examples::pieces(objective, &material, &indices, (PIECES_SEED, step))?;
        let shape = Shape::of_image(objective.seen(material.shape.channels));
        Ok(Inputs { shape, rows: examples.seen, classes: None, count })
    });
    let mut next = || inputs.next().unwrap_or_else(|| Err(Error::Export("there are no pictures".into())));
    Ok([next()?, next()?])
}

/// How good the network is: on its test pictures, or whatever part stands for them (`reported_on`), and what `edgegen-train eval` found of these weights.
fn measured(run: &TrainedRun, evaluation: Option<&Map<String, Value>>) -> Result<Map<String, Value>> {
    let mut metrics = Map::new();
    let ((test, part), shape) = (run.dataset.report_part(), run.dataset.shape);
    if run.kind() != Kind::Gan {
        metrics.insert("reported_on".into(), json!(part));
    }
    match &run.trained {
        Trained::Vae(vae, objective) => {
            let held_out = HeldOut::new(vae, objective, shape, test, 0);
            let bound = held_out.bound()?;
            metrics.insert("test_what".into(), json!(BoundKind::of(objective)));
            metrics.insert("test_elbo".into(), json!(bound.elbo));
            metrics.insert("test_reconstruction".into(), json!(bound.reconstruction));
            metrics.insert("test_kl".into(), json!(bound.kl));
            if let Some(rebuilding) = held_out.rebuilding()? {
                metrics.insert("test_rebuilding".into(), json!(rebuilding));
            }
            if let Some(denoising) = held_out.denoising()? {
                metrics.insert("test_denoising".into(), json!(denoising));
            }
        }
        Trained::Classifier(classifier) => {
            let (loss, accuracy) = verdicts(classifier, shape, test, 0)?;
            metrics.insert("test_accuracy".into(), json!(accuracy));
            metrics.insert("test_cross_entropy".into(), json!(loss));
        }
        Trained::Transform(restorer, objective) => {
            let material = run.material(test);
            let whole = objective.whole(material.one(), &run.config.network)?;
            let found = restoring::measure(restorer, objective, &material, whole, 0)?;
            metrics.insert("test_restoring".into(), json!(found));
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
            ("density", "/manifolds/density"),
            ("coverage", "/manifolds/coverage"),
            ("classes_hit", "/modes/hit"),
            ("as_requested", "/modes/as_requested"),
        ];
        let told = figures.into_iter().filter_map(|(name, path)| {
            Some((name.to_string(), report.pointer(path).filter(|value| !value.is_null())?.clone()))
        });
        metrics.insert("samples_compared".into(), Value::Object(told.collect()));
        if found("judge_is_teacher") == Some(&Value::Bool(true)) {
            metrics.insert("judge_is_teacher".into(), json!(true));
        }
    }
    Ok(metrics)
}

fn metadata(run: &TrainedRun, part: Part) -> Metadata {
    let draws = part.draws() || part == Part::Encoder;
    let seen = match &run.trained {
        Trained::Vae(_, objective) if part == Part::Encoder => Some(Seen::of(objective)),
        _ => None,
    };
    let (scale, reach) = match &run.trained {
        Trained::Transform(restorer, objective) => (Some(objective.scale), restorer.network.graph.reach()),
        _ => (None, None),
    };
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
        binarized: seen.is_some_and(|seen| seen.binarized),
        noise: seen.map(|seen| seen.noise).filter(|noise| *noise > 0.0),
        scale,
        border: reach.map(|reach| reach.border),
        multiple: reach.map(|reach| reach.multiple),
        sound: run.config.data.sound().map(|format| [format.rate as usize, format.window, format.hop]),
        producer_name: Some(PRODUCER.0.into()),
        producer_version: Some(PRODUCER.1.into()),
    }
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
