//! PNG grids, GIF animations and `.npy` files.

use crate::Result;
use crate::generate::Frame;
use image::DynamicImage;
use std::path::Path;

/// The frames side by side.
#[allow(unused_variables)]
pub fn grid(frames: &[Frame], columns: Option<usize>) -> Result<DynamicImage> {
    todo!()
}

/// Writes a PNG file.
#[allow(unused_variables)]
pub fn write_png(picture: &DynamicImage, path: &Path) -> Result<()> {
    todo!()
}

/// Writes an animation that repeats for ever.
#[allow(unused_variables)]
pub fn write_gif(frames: &[Frame], frames_per_second: f32, path: &Path) -> Result<()> {
    todo!()
}

/// Reads a float32 array: shape and values in C order.
#[allow(unused_variables)]
pub fn read_npy(path: &Path) -> Result<(Vec<usize>, Vec<f32>)> {
    todo!()
}

/// Writes a float32 array in C order.
#[allow(unused_variables)]
pub fn write_npy(path: &Path, shape: &[usize], values: &[f32]) -> Result<()> {
    todo!()
}
