//! Journey two: checkpoint → folded layers → ONNX → compared with the trainer's own through the runtime →
//! model folder (`model.json`, `PART.PRECISION.onnx`, card, a picture of samples).

mod card;
pub mod fold;
pub mod onnx;
mod verify;

use std::fs;
use std::path::{Path, PathBuf};

use edgegen_runtime::files::write_atomically;
use edgegen_runtime::generate::Latents;
use edgegen_runtime::model::{
    Kind, MANIFEST, Manifest, ManifestFile, Metadata, Model, OpenOptions, Part, Precision, Range, file_name,
    sha256_hex,
};
use serde_json::{Map, Value, json};

use crate::evaluate::HeldOut;
use crate::network::Shape;
use crate::network::module::Module;
use crate::train::run::Trained;
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

/// Writes `trained` as the model folder `out`.
///
/// `evaluation` is what `edgegen-train eval` found of these weights, for the card.
///
/// # Errors
/// [`Error::Export`] if `out` exists and `replace` is not set, or if a file does not compute what
/// the network computes; then nothing is left behind.
pub fn export(
    trained: &Trained,
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
    let report = write_into(trained, name, evaluation, &staging.path)?;
    staging.rename_to(out)?;
    Ok(report)
}

fn write_into(
    trained: &Trained,
    name: &str,
    evaluation: Option<&Map<String, Value>>,
    folder: &Path,
) -> Result<Report> {
    let mut files = Vec::new();
    let mut metrics = Map::new();
    let mut differences = Vec::new();
    let latent = Shape::Vector(trained.vae.latent);
    let shape = trained.dataset.shape;
    let image = Shape::Image(shape.channels, shape.height, shape.width);
    let encoder = onnx::Signature {
        name: "encoder",
        input: ("image", image),
        outputs: vec![
            onnx::Output { name: "mean", shape: latent },
            onnx::Output { name: "log_variance", shape: latent },
        ],
    };
    let decoder = onnx::Signature {
        name: "decoder",
        input: ("latent", latent),
        outputs: vec![onnx::Output { name: "image", shape: image }],
    };
    for (part, module, signature) in
        [(Part::Encoder, &trained.vae.encoder, encoder), (Part::Decoder, &trained.vae.decoder, decoder)]
    {
        let bytes = onnx::model(&fold::fold(module)?, &signature, &metadata(trained, part))?;
        let file = file_name(part, Precision::Fp32);
        let model = Model::from_bytes(&bytes, &file, &OpenOptions::default())?;
        let difference = verify::compare(trained, part, model)?;
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
    metrics.insert("steps".into(), json!(trained.position.step));
    metrics.insert("training_seconds".into(), json!(trained.position.seconds.round()));
    let (objective, pictures) = (&trained.config.objective, &trained.dataset.test);
    let test = HeldOut::new(&trained.vae, objective, shape, pictures, 0).bound();
    metrics.insert("test_elbo".into(), json!(test.elbo));
    metrics.insert("test_reconstruction".into(), json!(test.reconstruction));
    metrics.insert("test_kl".into(), json!(test.kl));
    for key in ["log_likelihood", "standard_error", "samples", "pictures"] {
        if let Some(value) = evaluation.and_then(|found| found.get(key)) {
            metrics.insert(format!("test_{key}"), value.clone());
        }
    }
    let manifest = Manifest {
        name: name.into(),
        kind: Kind::Vae,
        producer: format!("{} {}", PRODUCER.0, PRODUCER.1),
        parts: vec![Part::Encoder, Part::Decoder],
        precisions: vec![Precision::Fp32],
        default_precision: Precision::Fp32,
        files,
        metrics,
        command: trained.config.command(&trained.dataset.name)?,
    };
    manifest.write(folder)?;
    draw_samples(trained, folder)?;
    let card = card::card(trained, &manifest);
    write_atomically(&folder.join("README.md"), |out| std::io::Write::write_all(out, card.as_bytes()))?;
    Ok(Report { differences, manifest })
}

fn size(module: &Module) -> Result<(u64, u64)> {
    module.network().size().map_err(Error::Export)
}

fn metadata(trained: &Trained, part: Part) -> Metadata {
    Metadata {
        kind: Some(Kind::Vae),
        part: Some(part),
        latent_dim: Some(trained.vae.latent),
        prior: Some("normal".into()),
        classes: Vec::new(), // the network does not know them
        range: Some(Range::Unit),
        pixel_format: Some(trained.dataset.pixel_format()),
        precision: Some(Precision::Fp32),
        dataset: Some(trained.dataset.name.clone()),
        seed: Some(trained.config.training.seed),
        parent_sha256: Some(trained.checkpoint_sha256.clone()),
        producer_name: Some(PRODUCER.0.into()),
        producer_version: Some(PRODUCER.1.into()),
    }
}

/// The card's picture, drawn by the exported file itself.
fn draw_samples(trained: &Trained, folder: &Path) -> Result<()> {
    let path = folder.join(file_name(Part::Decoder, Precision::Fp32));
    let mut generator = Model::open(&path, &OpenOptions::default())?.into_generator(1)?;
    let latents = Latents::from_seed(0, 0, CARD_SAMPLES, trained.vae.latent, 1.0);
    let frames = generator.frames(&latents)?;
    crate::train::pictures::write_grid(&frames, Some(16), &folder.join("samples.png"))
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
