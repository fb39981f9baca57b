//! `edgegen transform`: pictures into pictures.

use super::choice::Choice;
use super::output::Output;
use super::print;
use anyhow::{Context, Result, bail};
use clap::Args;
use edgegen_runtime::files::check_writable;
use edgegen_runtime::generate::{Frame, Tiler, USUAL_TILE, from_pixels};
use edgegen_runtime::model::limits::check_count;
use edgegen_runtime::model::{Facts, Part};
use edgegen_runtime::pictures::{
    grid, join_luminance, read_picture, read_whole_picture, split_luminance, write_npy, write_png,
};
use std::collections::HashMap;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

/// Extensions of the files of a folder that are taken for pictures.
const PICTURES: [&str; 4] = ["png", "jpg", "jpeg", "gif"];

#[derive(Args)]
pub(super) struct Transform {
    #[command(flatten)]
    choice: Choice,
    /// Pictures (PNG, JPEG, GIF), or folders of them: numbered frames, for example. A network of a fixed size is given the
    /// middle of each, brought to its size
    #[arg(required = true, value_name = "PICTURE|FOLDER")]
    pictures: Vec<PathBuf>,
    /// Where to: .png (one picture, or a grid of several), .gif, .apng or .y4m (several, one after the other), .npy (the network's float32
    /// values, in its own shape), or a folder for a .png of each picture's name
    #[arg(long, value_name = "FILE|FOLDER")]
    out: PathBuf,
    /// Longest side of the tiles that a large picture is cut into; smaller ones take less memory
    #[arg(long, value_name = "PIXELS", default_value_t = USUAL_TILE)]
    tile: usize,
    /// Pictures per second, where they move
    #[arg(long, value_name = "RATE", default_value_t = 10.0)]
    fps: f32,
}

/// Where results go.
enum Target {
    File(Output),
    Folder(PathBuf),
}

impl Target {
    fn of(out: &Path) -> Result<Self> {
        let folder = out.is_dir() || out.extension().is_none();
        if !folder {
            return Ok(Self::File(Output::to(out)?));
        }
        if !out.is_dir() {
            check_writable(out)?;
        }
        Ok(Self::Folder(out.to_path_buf()))
    }
}

impl Transform {
    pub(super) fn run(self) -> Result<()> {
        let target = Target::of(&self.out)?;
        let paths = paths_of(&self.pictures)?;
        if self.tile == 0 {
            bail!("--tile 0: give a number of pixels from 1 on");
        }
        let part = self.choice.model.is_dir().then_some(Part::Transform);
        let open = |size| self.choice.open_sized(part, size);
        let mut tiler = Tiler::new(Box::new(open), self.tile)?;
        match target {
            Target::Folder(folder) => self.fill_folder(&mut tiler, &paths, &folder),
            Target::File(output) if output.is_npy() => values(&mut tiler, &paths, output.path()),
            Target::File(output) => {
                let mut frames = Vec::with_capacity(paths.len());
                for (index, path) in paths.iter().enumerate() {
                    frames.push(made(&mut tiler, path)?);
                    check_count(frames.len(), frames[0].pixels.len())?;
                    tell(index + 1, paths.len());
                }
                match (output.is_moving(), frames.as_slice()) {
                    (true, _) => output.write_moving(&frames, self.fps)?,
                    (false, [frame]) => write_png(frame, output.path())?,
                    (false, _) => {
                        let several = "several pictures go into a folder, if they are no grid: --out FOLDER";
                        write_png(&grid(&frames, None).context(several)?, output.path())?;
                    }
                }
                print(&format!("{}\n", output.path().display()))
            }
        }
    }

    fn fill_folder(&self, tiler: &mut Tiler<'_>, paths: &[PathBuf], folder: &Path) -> Result<()> {
        let mut names: HashMap<PathBuf, &PathBuf> = HashMap::new();
        for path in paths {
            let Some(stem) = path.file_stem() else { bail!("{} is no picture", path.display()) };
            let mut name = stem.to_os_string();
            name.push(".png");
            let name = folder.join(name);
            if let Some(other) = names.insert(name.clone(), path) {
                bail!(
                    "{} and {} would both be written to {}: give them one after the other, with an --out each",
                    other.display(),
                    path.display(),
                    name.display()
                );
            }
            if path.canonicalize().ok().is_some_and(|own| name.canonicalize().ok() == Some(own)) {
                bail!("{}: the result would replace the picture; choose another --out", path.display());
            }
        }
        std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        let mut order: Vec<_> = names.into_iter().collect();
        order.sort();
        let total = order.len();
        for (index, (name, path)) in order.into_iter().enumerate() {
            write_png(&made(tiler, path)?, &name)?;
            tell(index + 1, total);
        }
        print(&format!("{} pictures in {}\n", total, folder.display()))
    }
}

/// The pictures that were named, those of folders in the order of their names.
pub(super) fn paths_of(named: &[PathBuf]) -> Result<Vec<PathBuf>> {
    paths_with(named, &PICTURES, "pictures")
}

/// The files of `what` that were named, and those of folders with one of `endings`, in the order of their names.
pub(super) fn paths_with(named: &[PathBuf], endings: &[&str], what: &str) -> Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for path in named {
        if !path.is_dir() {
            paths.push(path.clone());
            continue;
        }
        let entries = std::fs::read_dir(path).with_context(|| format!("cannot read {}", path.display()))?;
        let mut found = Vec::new();
        for entry in entries {
            let path = entry.with_context(|| format!("cannot read {}", path.display()))?.path();
            let extension = path.extension().map(|extension| extension.to_ascii_lowercase());
            let extension = extension.as_ref().and_then(|extension| extension.to_str());
            if extension.is_some_and(|extension| endings.contains(&extension)) && path.is_file() {
                found.push(path);
            }
        }
        if found.is_empty() {
            bail!("{}: this folder holds no {what} ({})", path.display(), endings.join(", "));
        }
        found.sort();
        paths.extend(found);
    }
    Ok(paths)
}

/// Says how far it is, where somebody looks on.
fn tell(done: usize, total: usize) {
    let mut out = std::io::stderr();
    if total > 1 && out.is_terminal() {
        // that nobody can be told is no error
        let _ = write!(out, "\r{done} of {total} pictures{}", if done == total { "\n" } else { "" });
    }
}

/// What the network makes of a picture file. A network of grey pictures is given a colour picture's luminance, and what it
/// makes the picture's colours.
fn made(tiler: &mut Tiler<'_>, path: &Path) -> Result<Frame> {
    let named = || path.display().to_string();
    let Facts { any_size, source, .. } = *tiler.facts();
    if let (false, Some(source)) = (any_size, source) {
        return tiler.frame(&read_picture(path, source)?).with_context(named);
    }
    let channels = source.map_or(1, |source| source.channels);
    let frame = read_whole_picture(path)?;
    let own = frame.shape().channels;
    match (own, channels) {
        (3, 1) => {
            let (grey, chroma) = split_luminance(&frame);
            let made = tiler.frame(&grey).with_context(named)?;
            Ok(if made.shape().channels == 1 { join_luminance(&made, &chroma)? } else { made })
        }
        (1, 3) => {
            let pixels = frame.pixels.iter().flat_map(|level| [*level; 3]).collect();
            let format = edgegen_runtime::model::PixelFormat::Rgb8;
            tiler.frame(&Frame { pixels, format, ..frame }).with_context(named)
        }
        _ => tiler.frame(&frame).with_context(named),
    }
}

/// Writes what the network puts out for pictures of one size: (N, …) in its own shape.
fn values(tiler: &mut Tiler<'_>, paths: &[PathBuf], out: &Path) -> Result<()> {
    let Facts { any_size, source, ref raster, .. } = *tiler.facts();
    let Some(source) = source else { bail!("the model takes no pictures") };
    let plain_row = raster.as_ref().map(|raster| raster.row().to_vec()).unwrap_or_default();
    let (mut all, mut size) = (Vec::new(), None);
    for path in paths {
        let mut shape = source;
        if any_size {
            let own = read_whole_picture(path)?.shape();
            (shape.height, shape.width) = (own.height, own.width);
        }
        if *size.get_or_insert(shape) != shape {
            bail!(
                "{}: its size is another than that of {}; values of one file are of one size",
                path.display(),
                paths[0].display()
            );
        }
        let frame = read_picture(path, shape)?;
        let mut values = vec![0.0; shape.values()];
        from_pixels(tiler.range(), shape, &frame.pixels, &mut values);
        all.extend(tiler.values(shape.height, shape.width, &values)?);
        check_count(paths.len(), all.len().div_ceil(paths.len()))?;
    }
    let row = match (any_size, size) {
        (true, Some(size)) => {
            let made = tiler.made(size.height, size.width)?;
            vec![made.channels, made.height, made.width]
        }
        _ => plain_row,
    };
    write_npy(out, &[&[paths.len()], &row[..]].concat(), &all)?;
    print(&format!("{}\n", out.display()))
}
