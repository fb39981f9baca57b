//! What a run shows: grids of samples and reconstructions, the latent grid of a two-dimensional
//! latent, and the curves.

use std::path::Path;

use edgegen_runtime::generate::{Frame, Latents, to_pixels};
use edgegen_runtime::model::{ImageShape, Range};
use edgegen_runtime::pictures::{grid, write_png};
use plotters::prelude::*;

use super::metrics::Report;
use crate::Result;
use crate::compute::{Backend, Lanes, Network};
use crate::data::pixel_format;
use crate::plot::plot;

/// Pictures that are drawn at once.
const BATCH: usize = 256;
/// Pictures in a grid of samples.
pub const SAMPLES: usize = 64;

/// Images (N, C, H, W) of a range as frames.
pub fn frames(images: &[f32], shape: ImageShape, range: Range) -> Vec<Frame> {
    let format = pixel_format(shape);
    let frame = |values: &[f32]| {
        let mut pixels = vec![0u8; shape.values()];
        to_pixels(range, shape, values, &mut pixels);
        Frame { width: shape.width, height: shape.height, format, pixels }
    };
    images.chunks(shape.values()).map(frame).collect()
}

/// A network that draws, with what its pictures are.
pub struct Drawer<'a, B: Backend = Lanes> {
    /// Latent (N, L) → image (N, C, H, W).
    pub network: &'a Network<B>,
    /// Size of a picture.
    pub shape: ImageShape,
    /// Range of its values.
    pub range: Range,
}

impl<B: Backend> Drawer<'_, B> {
    /// Values of a latent.
    pub fn latent(&self) -> usize {
        self.network.input_shape().values()
    }

    /// Classes of `count` pictures: each in turn; `None` if the network takes none.
    pub fn classes(&self, count: usize) -> Option<Vec<u32>> {
        let classes = self.network.classes() as u32;
        (classes > 0).then(|| (0..classes).cycle().take(count).collect())
    }

    /// The network's values (N, C, H, W) for rows of latents.
    ///
    /// # Errors
    /// The device's.
    pub fn values(&self, latents: &[f32], classes: Option<&[u32]>) -> Result<Vec<f32>> {
        let mut all = Vec::new();
        for (index, latents) in latents.chunks(BATCH * self.latent()).enumerate() {
            let rows = latents.len() / self.latent();
            let classes = classes.map(|classes| &classes[index * BATCH..][..rows]);
            all.extend(self.network.infer(latents, classes)?);
        }
        Ok(all)
    }

    /// Pictures of latents that `seed` draws from the prior, classes in turn.
    ///
    /// # Errors
    /// The device's.
    pub fn samples(&self, seed: u64, count: usize) -> Result<Vec<Frame>> {
        self.of_class(seed, count, None)
    }

    /// The same, all of one class if it is given.
    ///
    /// # Errors
    /// The device's.
    pub fn of_class(&self, seed: u64, count: usize, class: Option<u32>) -> Result<Vec<Frame>> {
        let told = self.classes(count).map(|turn| class.map_or(turn, |class| vec![class; count]));
        self.told(seed, count, told.as_deref())
    }

    /// The same, of these classes (N), where the network takes them.
    ///
    /// # Errors
    /// The device's.
    pub fn told(&self, seed: u64, count: usize, told: Option<&[u32]>) -> Result<Vec<Frame>> {
        let mut all = Vec::with_capacity(count);
        // a batch at a time: values take four times the memory of pixels
        for first in (0..count).step_by(BATCH) {
            let rows = BATCH.min(count - first);
            let latents = Latents::from_seed(seed, first as u64, rows, self.latent(), 1.0);
            let classes = told.map(|classes| &classes[first..first + rows]);
            all.extend(frames(&self.values(latents.values(), classes)?, self.shape, self.range));
        }
        Ok(all)
    }
}

/// The pictures of [`Latents::map`].
///
/// # Errors
/// The device's.
pub fn latent_grid<B: Backend>(drawer: Drawer<'_, B>, side: usize) -> Result<Vec<Frame>> {
    let latents = Latents::map(side);
    Ok(frames(&drawer.values(latents.values(), None)?, drawer.shape, drawer.range))
}

/// Writes frames as one PNG grid.
///
/// # Errors
/// The file system's.
pub fn write_grid(frames: &[Frame], columns: Option<usize>, path: &Path) -> Result<()> {
    Ok(write_png(&grid(frames, columns)?, path)?)
}

/// Which of a report's figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Means over its steps.
    Train,
    /// What was measured then.
    Validation,
}

/// One figure over the run.
#[derive(Clone, Copy, Debug)]
pub struct Curve {
    /// What the legend calls it.
    pub label: &'static str,
    /// Where the figure stands.
    pub source: Source,
    /// Its name there.
    pub key: &'static str,
}

impl Curve {
    fn value(&self, report: &Report) -> Option<f64> {
        let figures = match self.source {
            Source::Train => &report.train,
            Source::Validation => &report.validation,
        };
        figures.get(self.key).copied()
    }
}

/// Curves that share axes.
#[derive(Clone, Debug)]
pub struct Panel {
    /// What stands above.
    pub title: String,
    /// Up to four.
    pub curves: Vec<Curve>,
}

impl Panel {
    /// A figure in training and validation.
    pub fn of_both(title: &str, key: &'static str) -> Self {
        let curve = |label, source| Curve { label, source, key };
        let curves = vec![curve("training", Source::Train), curve("validation", Source::Validation)];
        Self { title: title.to_string(), curves }
    }
}

/// Draws panels of curves over all reports, one below the other.
///
/// # Errors
/// [`crate::Error::Run`] if the drawing fails, or the file system's.
pub fn write_curves(reports: &[Report], panels: &[Panel], path: &Path) -> Result<()> {
    plot(path, (900, 350 * panels.len().max(1) as u32), |area| {
        let areas = area.split_evenly((panels.len().max(1), 1));
        areas.iter().zip(panels).try_for_each(|(area, panel)| draw_panel(area, panel, reports))
    })
}

fn draw_panel<B: DrawingBackend>(
    area: &DrawingArea<B, plotters::coord::Shift>,
    panel: &Panel,
    reports: &[Report],
) -> std::result::Result<(), DrawingAreaErrorKind<B::ErrorType>> {
    const COLORS: [RGBColor; 4] = [BLUE, RED, GREEN, BLACK];
    // the first steps of a run are far off and would flatten the rest
    let begin = reports.last().map_or(0, |last| last.step / 20);
    let visible = &reports[reports.partition_point(|report| report.step < begin)..];
    let values: Vec<f64> =
        visible.iter().flat_map(|e| panel.curves.iter().filter_map(|curve| curve.value(e))).collect();
    if values.is_empty() {
        return Ok(());
    }
    let low = values.iter().copied().fold(f64::INFINITY, f64::min);
    let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let margin = ((high - low) * 0.05).max(1e-3);
    let first = visible.first().map_or(0, |report| report.step) as f64;
    let last = (visible.last().map_or(1, |report| report.step) as f64).max(first + 1.0);
    let mut chart = ChartBuilder::on(area)
        .caption(&panel.title, ("sans-serif", 22))
        .margin(10)
        .x_label_area_size(32)
        .y_label_area_size(64)
        .build_cartesian_2d(first..last, low - margin..high + margin)?;
    chart
        .configure_mesh()
        .x_desc("step")
        .x_label_formatter(&|step| format!("{step:.0}"))
        .label_style(("sans-serif", 15))
        .draw()?;
    for (curve, color) in panel.curves.iter().zip(COLORS) {
        let points = visible.iter().filter_map(|e| Some((e.step as f64, curve.value(e)?)));
        chart
            .draw_series(LineSeries::new(points, color.stroke_width(2)))?
            .label(curve.label)
            .legend(move |(x, y)| PathElement::new(vec![(x, y), (x + 18, y)], color.stroke_width(2)));
    }
    chart
        .configure_series_labels()
        .label_font(("sans-serif", 15))
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.3))
        .draw()
}
