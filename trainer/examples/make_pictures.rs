//! Writes pictures that are all different, to measure how long a large folder takes to load (docs/data.md):
//!
//!     cargo run --release -p edgegen-trainer --example make_pictures -- FOLDER 100000 64
//!     edgegen-train data FOLDER --size 64

use std::path::PathBuf;

use anyhow::{Context, Result};
use image::{Rgb, RgbImage};
use rayon::prelude::*;

/// Pictures of one sub-folder.
const PER_FOLDER: u32 = 10_000;

/// Soft waves of a few colours, as JPEG: like photos, no two alike.
fn picture(index: u32, side: u32) -> RgbImage {
    let at = |place: u32| (index.wrapping_mul(2_654_435_761).rotate_left(7 * place) % 10_007) as f32 / 997.0;
    let (phases, slopes) = ([at(0), at(1), at(2)], [at(3), at(4), at(5)]);
    RgbImage::from_fn(side, side, |x, y| {
        let (x, y) = (x as f32 / side as f32, y as f32 / side as f32);
        Rgb([0, 1, 2].map(|channel| {
            let wave = (slopes[channel] * x + phases[channel]).sin() + (slopes[(channel + 1) % 3] * y).cos();
            (127.5 + 60.0 * wave) as u8
        }))
    })
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let folder = PathBuf::from(arguments.next().context("FOLDER COUNT SIDE")?);
    let count: u32 = arguments.next().context("how many?")?.parse()?;
    let side: u32 = arguments.next().context("of which side?")?.parse()?;
    for part in 0..count.div_ceil(PER_FOLDER) {
        std::fs::create_dir_all(folder.join(format!("{part:03}")))?;
    }
    (0..count).into_par_iter().try_for_each(|index| {
        let path = folder.join(format!("{:03}/{index:07}.jpg", index / PER_FOLDER));
        picture(index, side).save(&path).with_context(|| format!("cannot write {}", path.display()))
    })
}
