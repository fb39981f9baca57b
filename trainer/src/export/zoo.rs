//! A folder of model folders: whether they are what their cards say, and a table of them.

use std::fs;
use std::path::{Path, PathBuf};

use edgegen_runtime::model::{Manifest, ModelFolder, Part, Precision, sha256_hex};
use serde_json::{Map, Value};

use super::pictures::{self, PICTURES};
use super::ship::rows;
use crate::data::{self, HeldOut, LoadOptions, Size};
use crate::evaluate::features::NetworkChoice;
use crate::evaluate::report::{Options, Split, evaluate_samples};
use crate::evaluate::samples::{SampleOptions, Samples};
use crate::{Error, Result};

/// Mean difference, levels, up to which a picture is the one that the card shows: float32 is added up in another order
/// on another CPU.
const SAME_PICTURE: f64 = 0.5;
/// Part of a figure by which it may differ when it is measured again, and the least difference that counts.
const SAME_FIGURE: f64 = 0.02;
const LEAST_FIGURE: f64 = 0.005;
/// The same part where the file in float32 is not there, so that another draws the samples.
const OTHER_PRECISION: f64 = 0.06;
/// How deep a data set's folder is looked for.
const DEPTH: usize = 3;

/// What was found of one thing that a card says.
pub struct Finding {
    /// The model.
    pub model: String,
    /// What was looked at.
    pub what: String,
    /// What is wrong with it, if anything is.
    pub problem: Option<String>,
}

/// Something that was looked at, and what is wrong with it.
type Looked = (String, Option<String>);

/// What figures are measured again with.
#[derive(Default)]
pub struct Again<'a> {
    /// The folder below which data sets lie by their names.
    pub data: Option<&'a Path>,
    /// Networks to judge by, known by their hashes.
    pub judges: Vec<NetworkChoice>,
}

/// The model folders in `folder`, by name.
///
/// # Errors
/// The file system's, or that there are none.
pub fn folders(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).map_err(|e| Error::io("read", folder, e))?;
    let mut found: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.join(edgegen_runtime::model::MANIFEST).is_file())
        .collect();
    found.sort();
    if found.is_empty() {
        return Err(Error::run(folder, "holds no model folders"));
    }
    Ok(found)
}

/// Looks whether a model folder is what its card and its manifest say.
///
/// # Errors
/// If the manifest cannot be read, or measuring fails.
pub fn verify(path: &Path, again: &Again<'_>) -> Result<Vec<Finding>> {
    let manifest = Manifest::read(path)?;
    let mut findings = Vec::new();
    let mut add = |what: &str, problem: Option<String>| {
        findings.push(Finding { model: manifest.name.clone(), what: what.into(), problem });
    };
    for file in &manifest.files {
        let bytes =
            fs::read(path.join(&file.file)).map_err(|e| Error::io("read", &path.join(&file.file), e))?;
        let same = bytes.len() as u64 == file.bytes && sha256_hex(&bytes) == file.sha256;
        add(&file.file, (!same).then(|| "it is not the file that model.json lists".into()));
    }
    let card = fs::read_to_string(path.join("README.md")).unwrap_or_default();
    let told = card.contains(&manifest.command);
    add("README.md", (!told).then(|| format!("it lacks the command {}", manifest.command)));
    match drawn_again(path, &manifest) {
        Ok(all) => all.into_iter().for_each(|(picture, problem)| add(picture, problem)),
        Err(error) => add("pictures", Some(format!("they cannot be drawn again: {error}"))),
    }
    if let (Some(data), Some(stored)) = (again.data, manifest.metrics.get("samples_compared")) {
        let stored = stored.as_object().cloned().unwrap_or_default();
        match measured_again(path, &manifest, &stored, data, &again.judges)? {
            Some(found) => found.into_iter().for_each(|(what, problem)| add(&what, problem)),
            None => {
                add("figures of samples", Some("no --judge is the network that they were measured by".into()))
            }
        }
    }
    Ok(findings)
}

/// For each of the card's pictures whether the files draw it.
fn drawn_again(path: &Path, manifest: &Manifest) -> Result<Vec<(&'static str, Option<String>)>> {
    let shown: Vec<&str> = PICTURES.into_iter().filter(|picture| path.join(picture).is_file()).collect();
    if shown.is_empty() || manifest.drawing_part().is_none() {
        return Ok(Vec::new());
    }
    let folder = tempfile::tempdir().map_err(|e| Error::io("create", Path::new("a temporary folder"), e))?;
    for file in manifest.files.iter().filter(|file| file.precision == pictures::drawn_by(manifest)) {
        let (from, to) = (path.join(&file.file), folder.path().join(&file.file));
        fs::copy(&from, &to).map_err(|e| Error::io("copy", &from, e))?;
    }
    pictures::draw(manifest, folder.path())?;
    let each = shown
        .into_iter()
        .map(|picture| Ok((picture, other_picture(&path.join(picture), &folder.path().join(picture))?)));
    each.collect()
}

/// The difference between the card's picture and the one that was drawn again, if it is too large.
fn other_picture(shown: &Path, drawn: &Path) -> Result<Option<String>> {
    let pixels = |path: &Path| -> Result<Vec<u8>> {
        let picture = image::open(path).map_err(|e| Error::run(path, e))?;
        Ok(picture.to_rgb8().into_raw())
    };
    let (shown, drawn) = (pixels(shown)?, pixels(drawn)?);
    if shown.len() != drawn.len() {
        return Ok(Some("it has another size than what the file draws".into()));
    }
    let apart: f64 = shown.iter().zip(&drawn).map(|(a, b)| f64::from(a.abs_diff(*b))).sum();
    let mean = apart / shown.len().max(1) as f64;
    Ok((mean > SAME_PICTURE).then(|| format!("it is {mean:.1} levels from what the file draws")))
}

/// Measures the card's figures of samples again; `None` if no judge is the network that they were measured by.
fn measured_again(
    path: &Path,
    manifest: &Manifest,
    stored: &Map<String, Value>,
    data: &Path,
    judges: &[NetworkChoice],
) -> Result<Option<Vec<Looked>>> {
    let text = |key: &str| stored.get(key).and_then(Value::as_str).unwrap_or_default();
    let count = |key: &str| stored.get(key).and_then(Value::as_u64).unwrap_or_default() as usize;
    let is_judge = |choice: &&NetworkChoice| {
        fs::read(&choice.path).is_ok_and(|bytes| sha256_hex(&bytes) == text("features_sha256"))
    };
    let Some(judge) = judges.iter().find(is_judge) else { return Ok(None) };
    let folder = ModelFolder::open(path)?;
    let Some(part) = manifest.drawing_part() else { return Ok(None) };
    let name = dataset_of(&folder, part)?;
    let found = below(data, &name, DEPTH)
        .ok_or_else(|| Error::Config(format!("{}: there is no folder {name:?} in it", data.display())))?;
    let precision = pictures::drawn_by(manifest);
    let same = if precision == Precision::Fp32 { SAME_FIGURE } else { OTHER_PRECISION };
    let mut how = SampleOptions { count: Some(2), precision: Some(precision), ..SampleOptions::default() };
    let first = Samples::read(path, &how)?;
    let shape = first.shape;
    let options = LoadOptions {
        gray: shape.channels == 1,
        held_out: HeldOut::Share(0.0),
        ..LoadOptions::new(Size::of(shape))
    };
    let dataset = data::load(Some(&found), &options, &|_, _| {})?;
    let split = [Split::Train, Split::Validation, Split::Test]
        .into_iter()
        .find(|split| split.word() == text("split"));
    let split = split.unwrap_or(Split::Train);
    how.count = Some(count("samples"));
    how.labels = first.proportions(&dataset, split);
    let samples = Samples::read(path, &how)?;
    let options = Options { split, pictures: count("pictures"), resamples: 0, ..Options::new(judge.clone()) };
    let report = serde_json::to_value(evaluate_samples(&samples, &dataset, &options, &|_, _, _| ())?)
        .map_err(|e| Error::Config(e.to_string()))?;
    let figures = [
        ("frechet", "/frechet"),
        ("precision", "/manifolds/precision"),
        ("recall", "/manifolds/recall"),
        ("coverage", "/manifolds/coverage"),
    ];
    let compared = figures.into_iter().filter_map(|(name, pointer)| {
        let told = stored.get(name)?.as_f64()?;
        let found = report.pointer(pointer)?.as_f64()?;
        let apart = (told - found).abs();
        let wrong = apart > LEAST_FIGURE && apart > same * told.abs();
        Some((name.to_string(), wrong.then(|| format!("the card says {told:.4}, now it is {found:.4}"))))
    });
    Ok(Some(compared.collect()))
}

/// The name of the pictures that a part was trained on, as its file says.
fn dataset_of(folder: &ModelFolder, part: Part) -> Result<String> {
    let bytes = folder.read_part(part, Some(pictures::drawn_by(&folder.manifest)))?;
    let model = edgegen_runtime::model::Model::from_bytes(&bytes, &part.to_string(), &Default::default())?;
    let name = model.facts().metadata.dataset.clone();
    name.ok_or_else(|| {
        Error::Config(format!("{}: its file does not say what it was trained on", folder.path.display()))
    })
}

/// The folder called `name` in `folder` or below it.
fn below(folder: &Path, name: &str, depth: usize) -> Option<PathBuf> {
    let direct = folder.join(name);
    if direct.is_dir() {
        return Some(direct);
    }
    if depth == 0 {
        return None;
    }
    let mut folders: Vec<PathBuf> = fs::read_dir(folder)
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.is_dir())
        .collect();
    folders.sort();
    folders.into_iter().find_map(|folder| below(&folder, name, depth - 1))
}

/// A remark behind the name of a model's judge: whether it has taught the model.
pub(super) fn judged_by_teacher(manifest: &Manifest) -> &'static str {
    let teacher = manifest.metrics.get("judge_is_teacher") == Some(&Value::Bool(true));
    if teacher { " (its teacher)" } else { "" }
}

/// The models that draw as a table in Markdown, with figures of their cards.
///
/// # Errors
/// If a manifest cannot be read.
pub fn table(folders: &[PathBuf]) -> Result<String> {
    let mut text = String::from(
        "| model | weights, multiplications | bytes fp32, fp16, int8 | int8 against fp32: mean, worst | judged by | Fréchet distance | precision, recall | coverage |\n|---|---|---|---|---|---:|---|---:|\n",
    );
    for path in folders {
        let manifest = Manifest::read(path)?;
        let Some(part) = manifest.drawing_part() else { continue };
        let metric = |pointer: &str| Value::Object(manifest.metrics.clone()).pointer(pointer).cloned();
        let number = |pointer: &str| metric(pointer).and_then(|value| value.as_f64());
        let fixed = |pointer: &str, digits: usize| {
            number(pointer).map_or("–".into(), |value| format!("{value:.digits$}"))
        };
        let millions =
            |pointer: &str| number(pointer).map_or("–".into(), |value| format!("{:.1} M", value / 1e6));
        let bytes: Vec<String> = rows(&manifest)
            .into_iter()
            .filter(|row| row.part == part)
            .map(|row| format!("{:.1} MB", row.bytes as f64 / 1e6))
            .collect();
        let quality = format!("/{part}_int8/psnr_");
        let judge = metric("/samples_compared/features").and_then(|value| value.as_str().map(String::from));
        text.push_str(&format!(
            "| [{name}](models/{name}/README.md) | {}, {} | {} | {} dB, {} dB | {} | {} | {}, {} | {} |\n",
            millions(&format!("/{part}_parameters")),
            millions(&format!("/{part}_macs")),
            bytes.join(", "),
            fixed(&format!("{quality}mean"), 1),
            fixed(&format!("{quality}worst"), 1),
            judge.map_or("–".into(), |judge| judge + judged_by_teacher(&manifest)),
            fixed("/samples_compared/frechet", 1),
            fixed("/samples_compared/precision", 2),
            fixed("/samples_compared/recall", 2),
            fixed("/samples_compared/coverage", 2),
            name = manifest.name,
        ));
    }
    Ok(text)
}
