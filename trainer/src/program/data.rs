//! `edgegen-train data PATH`

use std::path::PathBuf;

use anyhow::Result;
use edgegen_trainer::data::{self, Dataset, LoadOptions, Pictures};
use edgegen_trainer::train::pictures::write_grid;

/// Skipped files that are named one by one.
const NAMED: usize = 5;
/// Pictures of a contact sheet.
const SHEET: usize = 100;

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// A folder of images or of IDX files; without it: the set inside the program.
    path: Option<PathBuf>,
    /// Side that a folder's images are resized to, pixels.
    #[arg(long, value_name = "PIXELS", default_value_t = 64)]
    size: usize,
    /// Make a folder's images grey.
    #[arg(long)]
    gray: bool,
    /// The contact sheet of training pictures to write.
    #[arg(long, value_name = "F.png", default_value = "contact-sheet.png")]
    sheet: PathBuf,
}

/// Prints counts, shapes, classes and statistics; draws a contact sheet.
pub(super) fn run(arguments: Arguments) -> Result<()> {
    anyhow::ensure!((8..=512).contains(&arguments.size), "--size is {}; it takes 8 to 512", arguments.size);
    super::check_png(&arguments.sheet)?;
    let options = LoadOptions { side: arguments.size, gray: arguments.gray };
    let dataset = data::load(arguments.path.as_deref(), options)?;
    say!("{}: pictures of {} (channels x height x width)", dataset.name, dataset.shape);
    for (name, part) in parts(&dataset) {
        let (mean, deviation) = statistics(part);
        say!("  {name:<10} {:>7} pictures, mean {mean:.4}, deviation {deviation:.4}", part.count());
    }
    if dataset.classes.is_empty() {
        say!("  no classes");
    } else {
        say!("  {} classes (pictures in all parts):", dataset.classes.len());
        let mut counts = vec![0usize; dataset.classes.len()];
        let labels = parts(&dataset).into_iter().flat_map(|(_, part)| &part.labels);
        labels.for_each(|label| counts[usize::from(*label)] += 1);
        for (class, count) in dataset.classes.iter().zip(counts) {
            say!("    {class:<24} {count:>7}");
        }
    }
    for line in remarks(&dataset) {
        say!("  {line}");
    }
    let count = dataset.train.count();
    let shown = SHEET.min(count);
    // evenly spread, so that every class comes into view
    let frames: Vec<_> =
        (0..shown).map(|i| dataset.frame(dataset.train.picture(i * count / shown))).collect();
    write_grid(&frames, None, &arguments.sheet)?;
    say!("  contact sheet: {}", arguments.sheet.display());
    Ok(())
}

fn parts(dataset: &Dataset) -> [(&'static str, &Pictures); 3] {
    [("training", &dataset.train), ("validation", &dataset.validation), ("test", &dataset.test)]
}

/// Mean and standard deviation of all values, in [0, 1].
fn statistics(pictures: &Pictures) -> (f64, f64) {
    let mut counts = [0u64; 256];
    pictures.pixels.iter().for_each(|value| counts[usize::from(*value)] += 1);
    let total = pictures.pixels.len().max(1) as f64;
    let weighted = |f: &dyn Fn(f64) -> f64| {
        counts.iter().enumerate().map(|(value, count)| f(value as f64 / 255.0) * *count as f64).sum::<f64>()
            / total
    };
    let mean = weighted(&|value| value);
    (mean, weighted(&|value| (value - mean).powi(2)).sqrt())
}

/// Lines about what was not used, or not as one might think.
pub(super) fn remarks(dataset: &Dataset) -> Vec<String> {
    let files = &dataset.skipped;
    let mut lines: Vec<String> = files
        .iter()
        .take(NAMED)
        .map(|(path, reason)| format!("skipped {}: {reason}", path.display()))
        .collect();
    lines.extend_from_slice(&dataset.remarks);
    if files.len() > NAMED {
        lines.push(format!("skipped {} more files", files.len() - NAMED));
    }
    lines
}
