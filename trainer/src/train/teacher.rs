//! The network that a run learns by: the one that is shipped, or the user's own.

use std::borrow::Cow;
use std::path::Path;

use edgegen_runtime::model::ImageShape;

use super::config::Objective;
use super::quality::parse;
use crate::evaluate::features::Scaling;
use crate::graph::features::{FeatureGraph, Front, are_related, input_scaling, read_for};
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
    let (path, scaling) = parse(setting)?;
    let bytes = std::fs::read(path).map_err(|e| Error::io("read", Path::new(path), e))?;
    Ok((Cow::Owned(bytes), path.into(), scaling))
}

/// Refuses the network in the file `judge` if a run with this objective has learned by it.
///
/// # Errors
/// [`Error::Config`] if it has.
pub fn check_judge(objective: &Objective, judge: &Path) -> Result<()> {
    let setting = match objective {
        Objective::Gan(gan) if gan.sees_features() => &gan.features,
        Objective::Vae(vae) if vae.unlike > 0.0 => &vae.features,
        _ => return Ok(()),
    };
    if setting == NONE {
        return Ok(());
    }
    let (bytes, name, _) = teacher(setting)?;
    let own = std::fs::read(judge).map_err(|e| Error::io("read", judge, e))?;
    if !are_related(&bytes, &own) {
        return Ok(());
    }
    Err(Error::Config(format!(
        "{} is the network that the run learned by ({name}): what it was taught by cannot judge it; give another network, or --judge-is-teacher to measure all the same, and the card says so",
        judge.display()
    )))
}
