//! `edgegen transform`: pictures into pictures.

use super::choice::Choice;
use super::output::Output;
use anyhow::{Result, bail};
use clap::Args;
use edgegen_runtime::generate::from_pixels;
use edgegen_runtime::model::Part;
use edgegen_runtime::model::limits::check_count;
use edgegen_runtime::pictures::{grid, read_picture, write_npy, write_png};
use std::path::PathBuf;

#[derive(Args)]
pub(super) struct Transform {
    #[command(flatten)]
    choice: Choice,
    /// Pictures (PNG, JPEG, GIF); the middle is cut out and brought to the size that the network reads
    #[arg(required = true, value_name = "PICTURE")]
    pictures: Vec<PathBuf>,
    /// Where to: .png (one picture, or a grid of several) or .npy (the network's float32 values, in its own shape)
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

impl Transform {
    pub(super) fn run(self) -> Result<()> {
        let output = Output::to(&self.out)?;
        if output.is_gif() {
            bail!("{}: pictures are written as .png or .npy", self.out.display());
        }
        let part = self.choice.model.is_dir().then_some(Part::Transform);
        let mut network = self.choice.open(part)?.into_transformer(1)?;
        let (source, range) = (network.source_shape(), network.range()?);
        check_count(self.pictures.len(), source.values())?;
        if output.is_npy() {
            let mut values = vec![0.0; self.pictures.len() * source.values()];
            for (path, values) in self.pictures.iter().zip(values.chunks_exact_mut(source.values())) {
                from_pixels(range, source, &read_picture(path, source)?.pixels, values);
            }
            let shape = [&[self.pictures.len()], network.raster().row()].concat();
            write_npy(output.path(), &shape, network.run(&values)?)?;
        } else {
            let mut frames = Vec::new();
            for path in &self.pictures {
                frames.push(network.frame(&read_picture(path, source)?)?);
            }
            write_png(&grid(&frames, None)?, output.path())?;
        }
        output.report()
    }
}
