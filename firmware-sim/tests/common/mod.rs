//! What the tests share: stored pictures, and the program in a folder of its own.
#![allow(dead_code)] // every test program uses another part of it

use std::path::Path;
use std::process::{Command, Output};

use edgegen_firmware_sim::picture::Picture;
use image::{GrayImage, Luma, Rgb, RgbImage};

/// A 28×28 gray "5" with soft edges, drawn in integers: a hook above a bowl.
pub(crate) fn five() -> GrayImage {
    // Distance to the nearest of these points (1/16 pixel) decides; strokes are dense rows of them.
    let mut points: Vec<(i32, i32)> = Vec::new();
    let mut stroke = |from: (i32, i32), to: (i32, i32)| {
        points.extend((0..=64).map(|t| {
            let along = |a: i32, b: i32| (a * (64 - t) + b * t) / 4;
            (along(from.0, to.0), along(from.1, to.1))
        }));
    };
    stroke((19, 6), (11, 6));
    stroke((11, 6), (10, 13));
    let bowl = [(10, 13), (14, 12), (18, 14), (19, 17), (17, 21), (13, 22), (9, 20)];
    bowl.windows(2).for_each(|ends| stroke(ends[0], ends[1]));
    GrayImage::from_fn(28, 28, |x, y| {
        let (x, y) = (x as i32 * 16, y as i32 * 16);
        let nearest = points.iter().map(|(px, py)| (px - x).pow(2) + (py - y).pow(2)).min().unwrap_or(0);
        // White up to one pixel from the stroke, black from two on.
        Luma([(255 - (nearest - 256) * 255 / 768).clamp(0, 255) as u8])
    })
}

/// A 64×64 RGB picture with gradients and hard edges: sun, sky, sea.
pub(crate) fn sunset() -> RgbImage {
    RgbImage::from_fn(64, 64, |x, y| {
        let (dx, dy) = (x as i32 - 40, y as i32 - 28);
        let sea = y >= 42;
        if dx * dx + dy * dy < 144 && !sea {
            return Rgb([255, 240 - (y * 3) as u8, 96]);
        }
        let wave = if sea && (x + 2 * y) % 9 < 2 { 40 } else { 0 };
        let level = (y * 4) as u8;
        if sea {
            Rgb([wave + 20, 40 + wave + level / 4, 90 + wave])
        } else {
            Rgb([level, 70, 200 - level / 2])
        }
    })
}

/// Runs the program with these arguments, in `folder`, without a terminal.
pub(crate) fn sim(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_edgegen-sim"));
    command.current_dir(folder).args(arguments).env_remove("NO_COLOR").env_remove("COLUMNS");
    command.output().unwrap()
}

/// The same; its report. It must succeed and have nothing to complain of.
pub(crate) fn sim_ok(folder: &Path, arguments: &[&str]) -> String {
    let output = sim(folder, arguments);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && errors.is_empty(), "{arguments:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// Decodes a PNG file.
pub(crate) fn read_png(path: &Path) -> Picture {
    let rgb = image::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).into_rgb8();
    let (width, height) = (rgb.width() as usize, rgb.height() as usize);
    Picture::from_fn(width, height, |x, y| rgb.get_pixel(x as u32, y as u32).0)
}
