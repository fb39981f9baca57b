//! The network that a run learns by: the one that is shipped, or the user's own.

use std::borrow::Cow;
use std::path::Path;

use edgegen_runtime::model::{ImageShape, Manifest, sha256_hex};
use serde_json::{Value, json};

use super::config::Objective;
use crate::evaluate::features::{NetworkChoice, Scaling};
use crate::graph::features::{FeatureGraph, Front, Relation, input_scaling, read_for, relation};
use crate::graph::teacher::Teacher;
use crate::{Error, Result};

/// The shipped network to learn by, float16, and its name.
const SHIPPED: &[u8] = include_bytes!("../../../models/efficientnet-lite0-features/features.fp16.onnx");
/// What it is called.
pub const SHIPPED_NAME: &str = "efficientnet-lite0-features";
/// The setting that stands for colours and slopes instead of a network's features.
const NONE: &str = "none";
/// Side below which pictures are enlarged: coarse features of smaller ones would be single pixels.
const SMALLEST: usize = 56;

/// The network that the setting `features` names, for pictures of this shape whose shorter side is brought to `side`.
///
/// # Errors
/// [`Error::Config`] if its file is no such network.
pub fn features(setting: &str, side: usize, picture: ImageShape) -> Result<FeatureGraph> {
    if setting == NONE {
        return Err(Error::Config(
            "this recipe needs the features of a network: leave objective.features empty for the shipped one, or give any ImageNet CNN in ONNX with --features (EfficientNet-Lite, MobileNetV2, ResNet, SqueezeNet, VGG)"
                .into(),
        ));
    }
    let (bytes, name, given) = teacher(setting)?;
    let said = input_scaling(&bytes).map(|text| text.parse::<Scaling>()).transpose()?;
    let (factor, summand) = said.or(given).unwrap_or(Scaling::Unit).of_signed();
    let shorter = picture.height.min(picture.width);
    let side = match side {
        // small pictures whole times as large
        0 => shorter * SMALLEST.div_ceil(shorter).max(1),
        side => side,
    };
    let scaled = |length: usize| (length * side + shorter / 2) / shorter;
    let size = (scaled(picture.height), scaled(picture.width));
    read_for(&bytes, &name, &Front { picture, size, factor, summand })
}

/// What pictures are compared by with this setting.
///
/// # Errors
/// As [`features`].
pub fn of(setting: &str, side: usize, picture: ImageShape) -> Result<Teacher> {
    match setting {
        NONE => Teacher::plain(picture),
        _ => Teacher::of(features(setting, side, picture)?),
    }
}

/// The file of the network that a setting names, what it is called, and what was said of its input.
fn teacher(setting: &str) -> Result<(Cow<'static, [u8]>, String, Option<Scaling>)> {
    if setting.is_empty() {
        return Ok((Cow::Borrowed(SHIPPED), SHIPPED_NAME.into(), None));
    }
    let NetworkChoice { path, scaling, .. } = setting.parse()?;
    Ok((Cow::Owned(read(&path)?), path.to_string_lossy().into_owned(), scaling))
}

/// The setting that names what a run with this objective learns by; `None` if that is no network.
fn named(objective: &Objective) -> Option<&str> {
    let setting = match objective {
        Objective::Gan(gan) if gan.sees_features() => &gan.features,
        Objective::Vae(vae) if vae.unlike > 0.0 => &vae.features,
        _ => return None,
    };
    (setting != NONE).then_some(setting)
}

/// The metrics of a model folder that tell what its run has learned by: the network's name, and its file's SHA-256.
/// The hash is missing if the file is not there any more.
pub fn told(objective: &Objective) -> Option<Value> {
    let setting = named(objective)?;
    let Ok((bytes, name, _)) = teacher(setting) else { return Some(json!({ "name": setting })) };
    // a folder of this machine is nobody's business
    let name = Path::new(&name).file_name().map_or(name.clone(), |file| file.to_string_lossy().into_owned());
    Some(json!({ "name": name, "sha256": sha256_hex(&bytes) }))
}

/// Why the network in the file `judge` cannot judge a run with this objective: it has taught it. `None` if it has not.
///
/// # Errors
/// If a file cannot be read.
pub fn taught_by(objective: &Objective, judge: &Path) -> Result<Option<String>> {
    is_teacher(objective, &read(judge)?).map(|name| name.map(|name| problem(judge, &name)))
}

/// The name of what a run with this objective learns by, if the file `judge` holds it or may hold it.
///
/// # Errors
/// If the teacher's file cannot be read.
pub(super) fn is_teacher(objective: &Objective, judge: &[u8]) -> Result<Option<String>> {
    let Some(setting) = named(objective) else { return Ok(None) };
    let (bytes, name, _) = teacher(setting)?;
    Ok((relation(&bytes, judge) != Relation::Other).then_some(name))
}

/// The same as [`taught_by`] of a model folder, which tells what it was taught by.
///
/// # Errors
/// If the file cannot be read.
pub fn has_taught(manifest: &Manifest, judge: &Path) -> Result<Option<String>> {
    let text = |place: &str| manifest.metrics.get("taught_by").and_then(|told| told.pointer(place)?.as_str());
    let Some(name) = text("/name") else { return Ok(None) };
    let own = read(judge)?;
    let same = match name {
        SHIPPED_NAME => relation(SHIPPED, &own) != Relation::Other,
        _ => text("/sha256") == Some(sha256_hex(&own).as_str()),
    };
    Ok(same.then(|| problem(judge, name)))
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|e| Error::io("read", path, e))
}

fn problem(judge: &Path, name: &str) -> String {
    format!(
        "{} is the network that the run learned by ({name}), or cannot be told from it: what it was taught by cannot judge it",
        judge.display()
    )
}
