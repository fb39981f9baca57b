//! Where pictures go: the kind of file is told by the name's extension.

use super::print;
use anyhow::{Context, Result, bail};
use edgegen_runtime::files::check_writable;
use edgegen_runtime::generate::{Frame, Generator, Latents};
use edgegen_runtime::model::limits::check_count;
use edgegen_runtime::pictures::{grid, write_apng, write_gif, write_npy, write_png, write_y4m};
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
    Apng,
    Y4m,
    Npy,
    /// A folder of numbered PNG files.
    Folder,
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
            Some("apng") => Kind::Apng,
            Some("y4m") => Kind::Y4m,
            Some("npy") => Kind::Npy,
            None if !path.exists() || path.is_dir() => Kind::Folder,
            _ => bail!(
                "{}: the name has to end in .png, .gif, .apng, .y4m or .npy, or be that of a folder, without an ending",
                path.display()
            ),
        };
        if kind != Kind::Folder || !path.is_dir() {
            check_writable(path)?;
        }
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
            _ => self.write_moving(&generator.frames(latents, classes)?, layout.frames_per_second)?,
        }
        self.report()
    }

    /// Writes an animation, a film, or numbered pictures.
    pub(super) fn write_moving(&self, frames: &[Frame], frames_per_second: f32) -> Result<()> {
        match self.kind {
            Kind::Apng => write_apng(frames, frames_per_second, &self.path)?,
            Kind::Y4m => write_y4m(frames, frames_per_second, &self.path)?,
            Kind::Folder => {
                std::fs::create_dir_all(&self.path)
                    .with_context(|| format!("cannot create {}", self.path.display()))?;
                for (index, frame) in frames.iter().enumerate() {
                    write_png(frame, &self.path.join(format!("{:05}.png", index + 1)))?;
                }
            }
            _ => write_gif(frames, frames_per_second, &self.path)?,
        }
        Ok(())
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

    /// True if it shows one picture after the other.
    pub(super) fn is_moving(&self) -> bool {
        matches!(self.kind, Kind::Gif | Kind::Apng | Kind::Y4m | Kind::Folder)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}
