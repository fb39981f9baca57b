//! A card's pictures, drawn by the exported file itself.

use std::path::Path;

use edgegen_runtime::generate::{Generator, Latents};
use edgegen_runtime::model::{ImageShape, Manifest, Model, OpenOptions, Precision, Range, file_name};

use crate::Result;
use crate::evaluate::{restoring, spread};
use crate::objective::transform::{Examples, Restorer, TransformConfig};
use crate::train::pictures::write_grid;
use crate::train::trained::TrainedRun;

/// The names of the pictures: samples, ways between latents, and what a network makes of pictures.
pub(super) const PICTURES: [&str; 3] = [SAMPLES, WALK, RESTORED];
/// Samples of seed 0, of a conditional model a column a class.
pub(super) const SAMPLES: &str = "samples.png";
/// Each row the way from one latent to another; of a latent of two values its map.
pub(super) const WALK: &str = "walk.png";

/// A row a held-out picture: as it is given, as the network makes it, and clean.
pub(super) const RESTORED: &str = "restored.png";
/// Rows of it, and the longest side of their pictures.
const ROWS: usize = 2;
const LONGEST: usize = 96;

/// Samples that are drawn.
const COUNT: usize = 64;
/// Ways that are walked, and pictures on each.
const WAYS: u64 = 5;
const STEPS: usize = 10;
/// Side of a map.
const MAP: usize = 12;

/// Draws them into the model folder `folder`, if it draws pictures at all.
pub(super) fn draw(manifest: &Manifest, folder: &Path) -> Result<()> {
    let Some(part) = manifest.drawing_part() else { return Ok(()) };
    let path = folder.join(file_name(part, drawn_by(manifest)));
    let mut generator = Model::open(&path, &OpenOptions::default())?.into_generator(1)?;
    samples(&mut generator, &folder.join(SAMPLES))?;
    walk(&mut generator, &folder.join(WALK))
}

/// Draws what a network from pictures to pictures makes of held-out ones.
pub(super) fn draw_restored(
    run: &TrainedRun,
    restorer: &Restorer,
    objective: &TransformConfig,
    folder: &Path,
) -> Result<()> {
    let (pictures, _) = run.dataset.report_part();
    let material = run.material(pictures);
    let shape = material.one();
    let cut = ImageShape { height: shape.height.min(LONGEST), width: shape.width.min(LONGEST), ..shape };
    let part = objective.whole(cut, &run.config.network)?;
    let indices: Vec<usize> = spread(pictures.count(), ROWS).collect();
    let strength = objective.degradation().middle();
    let examples = Examples::held_out(objective, strength, &material, part, &indices)?;
    let frames = restoring::beside(restorer, objective.scale, &examples, part, Range::Unit)?;
    write_grid(&frames, Some(3), &folder.join(RESTORED))
}

/// The most exact of the precisions that the folder has.
pub(super) fn drawn_by(manifest: &Manifest) -> Precision {
    manifest.precisions.iter().min().copied().unwrap_or(Precision::Fp32)
}

fn samples(generator: &mut Generator, path: &Path) -> Result<()> {
    // a row holds all classes, where it can
    let columns = Some(generator.classes().len()).filter(|classes| (2..=20).contains(classes));
    let columns = columns.filter(|_| generator.is_conditional()).unwrap_or(16);
    let count = COUNT.next_multiple_of(columns);
    let latents = Latents::from_seed(0, 0, count, generator.latent_dim(), 1.0);
    let classes: Vec<u32> = (0..count as u64).filter_map(|index| generator.class_in_turn(index)).collect();
    write_grid(&generator.frames(&latents, &classes)?, Some(columns), path)
}

fn walk(generator: &mut Generator, path: &Path) -> Result<()> {
    let dim = generator.latent_dim();
    let (latents, columns) = match dim {
        2 => (Latents::map(MAP), MAP),
        _ => {
            let ways =
                (0..WAYS).flat_map(|way| Latents::walk(2 * way, 2 * way + 1, STEPS, dim).values().to_vec());
            (Latents::from_values(ways.collect(), dim)?, STEPS)
        }
    };
    // a class a row
    let class_of = |index: usize| generator.class_in_turn((index / columns) as u64);
    let classes: Vec<u32> = (0..latents.count()).filter_map(class_of).collect();
    write_grid(&generator.frames(&latents, &classes)?, Some(columns), path)
}
