//! How close a network from pictures to pictures comes to the clean ones, beside what it is given.

use edgegen_runtime::generate::{Frame, to_pixels};
use edgegen_runtime::model::{ImageShape, Range};
use serde::{Deserialize, Serialize};

use super::denoising::{Closeness, Figures};
use super::spread;
use crate::Result;
use crate::compute::Backend;
use crate::data::degrade::enlarged;
use crate::data::pixel_format;
use crate::objective::transform::{Examples, Material, Restorer, TransformConfig};

/// Pictures that are restored at once.
const BATCH: usize = 4;

/// What a network makes of held-out pictures.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Restoring {
    /// Pictures.
    pub pictures: usize,
    /// What comes out.
    pub restored: Closeness,
    /// What goes in; if it is smaller, brought to the size by cubic interpolation.
    pub given: Closeness,
}

impl std::fmt::Display for Restoring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { pictures, restored, given } = self;
        write!(
            f,
            "PSNR {:.2} dB, SSIM {:.4} against the clean picture (given: {:.2} dB, {:.4}; {pictures} pictures)",
            restored.psnr.mean, restored.ssim.mean, given.psnr.mean, given.ssim.mean
        )
    }
}

/// Measures the middle `part` of at most `limit` pictures (0: all), degraded as in the middle of the ranges, or paired.
///
/// # Errors
/// The device's.
pub fn measure<B: Backend>(
    restorer: &Restorer<B>,
    config: &TransformConfig,
    material: &Material<'_>,
    part: ImageShape,
    limit: usize,
) -> Result<Restoring> {
    let seen = ImageShape { height: part.height / config.scale, width: part.width / config.scale, ..part };
    let network = restorer.sized(seen)?;
    let strength = config.degradation().middle();
    let indices: Vec<usize> = spread(material.pictures.count(), limit).collect();
    let (mut restored, mut given) = (Figures::default(), Figures::default());
    for some in indices.chunks(BATCH) {
        let examples = Examples::held_out(config, strength, material, part, some)?;
        let mut made = network.infer(&examples.seen, None)?;
        made.iter_mut().for_each(|value| *value = value.clamp(0.0, 1.0));
        restored.add(&examples.clean, &made, part);
        given.add(&examples.clean, &enlarged(&examples.seen, seen, part)?, part);
    }
    Ok(Restoring { pictures: indices.len(), restored: restored.closeness(), given: given.closeness() })
}

/// Each example as it is given, as it is restored, and clean: three frames of `part` each.
///
/// # Errors
/// The device's.
pub fn beside<B: Backend>(
    restorer: &Restorer<B>,
    scale: usize,
    examples: &Examples,
    part: ImageShape,
    range: Range,
) -> Result<Vec<Frame>> {
    let seen = ImageShape { height: part.height / scale, width: part.width / scale, ..part };
    let made = restorer.sized(seen)?.infer(&examples.seen, None)?;
    let given = enlarged(&examples.seen, seen, part)?;
    let format = pixel_format(part);
    let frame = |values: &[f32]| {
        let mut frame = Frame::black(part.width, part.height, format);
        to_pixels(range, part, values, &mut frame.pixels);
        frame
    };
    let each = part.values();
    let rows = given.chunks(each).zip(made.chunks(each)).zip(examples.clean.chunks(each));
    Ok(rows.flat_map(|((given, made), clean)| [frame(given), frame(made), frame(clean)]).collect())
}
