//! Where pictures go: the kind of file is told by the name's extension.

use super::print;
use anyhow::{Result, bail};
use edgegen_runtime::files::check_writable;
use edgegen_runtime::generate::{Generator, Latents};
use edgegen_runtime::model::limits::check_count;
use edgegen_runtime::pictures::{grid, write_gif, write_npy, write_png};
use std::path::{Path, PathBuf};

/// A file that pictures go to. That it can be written is known before any of them is drawn.
pub(super) struct Output {
    path: PathBuf,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Png,
    Gif,
    Npy,
}

/// How several pictures are shown.
pub(super) struct Layout {
    /// Pictures in a row of a grid; `None`: nearly square.
    pub(super) columns: Option<usize>,
    /// Pictures per second of an animation.
    pub(super) frames_per_second: f32,
}

impl Output {
    /// Checks name and place.
    pub(super) fn to(path: &Path) -> Result<Self> {
        let extension = path.extension().map(|extension| extension.to_ascii_lowercase());
        let kind = match extension.as_ref().and_then(|extension| extension.to_str()) {
            Some("png") => Kind::Png,
            Some("gif") => Kind::Gif,
            Some("npy") => Kind::Npy,
            _ => bail!("{}: the name has to end in .png, .gif or .npy", path.display()),
        };
        check_writable(path)?;
        Ok(Self { path: path.to_path_buf(), kind })
    }

    /// Draws all latents with their classes and writes them: a grid, an animation, or the network's values
    /// in its own shape.
    pub(super) fn draw(
        &self,
        generator: &mut Generator,
        (latents, classes): (&Latents, &[u32]),
        layout: &Layout,
    ) -> Result<()> {
        check_count(latents.count(), generator.raster().values())?;
        match self.kind {
            Kind::Npy => self.write_values(generator, (latents, classes))?,
            Kind::Png => write_png(&grid(&generator.frames(latents, classes)?, layout.columns)?, &self.path)?,
            Kind::Gif => {
                write_gif(&generator.frames(latents, classes)?, layout.frames_per_second, &self.path)?
            }
        }
        self.report()
    }

    /// Writes the network's values in its own shape.
    pub(super) fn write_values(
        &self,
        generator: &mut Generator,
        (latents, classes): (&Latents, &[u32]),
    ) -> Result<()> {
        let shape = [&[latents.count()], generator.raster().row()].concat();
        Ok(write_npy(&self.path, &shape, generator.run(latents.values(), classes)?)?)
    }

    /// Tells where the result is.
    pub(super) fn report(&self) -> Result<()> {
        print(&format!("{}\n", self.path.display()))
    }

    /// True if the file holds values, not pictures.
    pub(super) fn is_npy(&self) -> bool {
        self.kind == Kind::Npy
    }

    /// True if the file is an animation.
    pub(super) fn is_gif(&self) -> bool {
        self.kind == Kind::Gif
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}
