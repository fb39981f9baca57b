//! What a run shows: grids of samples and reconstructions, the latent grid of a two-dimensional
//! latent, and the curves.

use std::path::Path;

use edgegen_runtime::generate::{Frame, Latents, to_pixels};
use edgegen_runtime::model::{ImageShape, Range};
use edgegen_runtime::pictures::{grid, write_png};
use plotters::prelude::*;
use plotters::style::{FontStyle, register_font};

use super::metrics::Epoch;
use crate::data::pixel_format;
use crate::network::module::Module;
use crate::{Error, Result};

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
#[derive(Clone, Copy)]
pub struct Drawer<'a> {
    /// Latent (N, L) → image (N, C, H, W).
    pub module: &'a Module,
    /// Size of a picture.
    pub shape: ImageShape,
    /// Range of its values.
    pub range: Range,
}

impl Drawer<'_> {
    /// Values of a latent.
    pub fn latent(&self) -> usize {
        self.module.network().input.values()
    }

    /// Classes of `count` pictures: each in turn; `None` if the network takes none.
    pub fn classes(&self, count: usize) -> Option<Vec<u32>> {
        let classes = self.module.network().classes() as u32;
        (classes > 0).then(|| (0..classes).cycle().take(count).collect())
    }

    /// The network's values (N, C, H, W) for rows of latents.
    pub fn values(&self, latents: &[f32], classes: Option<&[u32]>) -> Vec<f32> {
        let mut all = Vec::new();
        for (index, latents) in latents.chunks(BATCH * self.latent()).enumerate() {
            let rows = latents.len() / self.latent();
            let classes = classes.map(|classes| &classes[index * BATCH..][..rows]);
            all.extend(self.module.infer(latents, classes));
        }
        all
    }

    /// Pictures of latents that `seed` draws from the prior, classes in turn.
    pub fn samples(&self, seed: u64, count: usize) -> Vec<Frame> {
        self.of_class(seed, count, None)
    }

    /// The same, all of one class if it is given.
    pub fn of_class(&self, seed: u64, count: usize, class: Option<u32>) -> Vec<Frame> {
        let told = self.classes(count).map(|turn| class.map_or(turn, |class| vec![class; count]));
        let mut all = Vec::with_capacity(count);
        // a batch at a time: values take four times the memory of pixels
        for first in (0..count).step_by(BATCH) {
            let rows = BATCH.min(count - first);
            let latents = Latents::from_seed(seed, first as u64, rows, self.latent(), 1.0);
            let classes = told.as_ref().map(|classes| &classes[first..first + rows]);
            all.extend(frames(&self.values(latents.values(), classes), self.shape, self.range));
        }
        all
    }
}

/// A `side` × `side` grid over a two-dimensional latent, at the normal quantiles of an even grid of
/// the unit square, as in the appendix of Kingma and Welling 2014.
pub fn latent_grid(drawer: Drawer<'_>, side: usize) -> Vec<Frame> {
    let quantiles: Vec<f32> =
        (0..side).map(|i| normal_quantile((i as f64 + 0.5) / side as f64) as f32).collect();
    let latents: Vec<f32> =
        quantiles.iter().rev().flat_map(|y| quantiles.iter().flat_map(|x| [*x, *y])).collect();
    frames(&drawer.values(&latents, None), drawer.shape, drawer.range)
}

/// Inverse of the standard normal's distribution function, by bisection on `erfc`.
fn normal_quantile(probability: f64) -> f64 {
    let cdf = |x: f64| 0.5 * libm::erfc(-x / std::f64::consts::SQRT_2);
    let (mut low, mut high) = (-9.0f64, 9.0f64);
    for _ in 0..60 {
        let middle = 0.5 * (low + high);
        if cdf(middle) < probability { low = middle } else { high = middle }
    }
    0.5 * (low + high)
}

/// Writes frames as one PNG grid.
///
/// # Errors
/// The file system's.
pub fn write_grid(frames: &[Frame], columns: Option<usize>, path: &Path) -> Result<()> {
    Ok(write_png(&grid(frames, columns)?, path)?)
}

/// Which of an epoch's figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Means over its steps.
    Train,
    /// What was measured at its end.
    Validation,
}

/// One figure over the epochs.
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
    fn value(&self, epoch: &Epoch) -> Option<f64> {
        let figures = match self.source {
            Source::Train => &epoch.train,
            Source::Validation => &epoch.validation,
        };
        figures.get(self.key).copied()
    }
}

/// Curves that share axes.
#[derive(Clone, Debug)]
pub struct Panel {
    /// What stands above.
    pub title: &'static str,
    /// Up to four.
    pub curves: Vec<Curve>,
}

impl Panel {
    /// A figure in training and validation.
    pub fn of_both(title: &'static str, key: &'static str) -> Self {
        let curve = |label, source| Curve { label, source, key };
        let curves = vec![curve("training", Source::Train), curve("validation", Source::Validation)];
        Self { title, curves }
    }
}

/// Draws panels of curves over all epochs, one below the other.
///
/// # Errors
/// [`Error::Run`] if the drawing fails, or the file system's.
pub fn write_curves(epochs: &[Epoch], panels: &[Panel], path: &Path) -> Result<()> {
    let size = (900, 350 * panels.len().max(1) as u32);
    let mut pixels = vec![0u8; (size.0 * size.1 * 3) as usize];
    draw_curves(epochs, panels, &mut pixels, size).map_err(|problem| Error::run(path, problem))?;
    let picture = image::RgbImage::from_raw(size.0, size.1, pixels)
        .ok_or_else(|| Error::run(path, "the curves do not fill their picture"))?;
    Ok(write_png(&picture.into(), path)?)
}

fn draw_curves(
    epochs: &[Epoch],
    panels: &[Panel],
    pixels: &mut [u8],
    size: (u32, u32),
) -> std::result::Result<(), String> {
    let font = epaint_default_fonts::UBUNTU_LIGHT;
    register_font("sans-serif", FontStyle::Normal, font)
        .map_err(|_| "the font cannot be read".to_string())?;
    let area = BitMapBackend::with_buffer(pixels, size).into_drawing_area();
    area.fill(&WHITE).map_err(|e| e.to_string())?;
    for (area, panel) in area.split_evenly((panels.len().max(1), 1)).iter().zip(panels) {
        draw_panel(area, panel, epochs).map_err(|e| e.to_string())?;
    }
    area.present().map_err(|e| e.to_string())
}

fn draw_panel<B: DrawingBackend>(
    area: &DrawingArea<B, plotters::coord::Shift>,
    panel: &Panel,
    epochs: &[Epoch],
) -> std::result::Result<(), DrawingAreaErrorKind<B::ErrorType>> {
    const COLORS: [RGBColor; 4] = [BLUE, RED, GREEN, BLACK];
    // the first tenth of a run is far off and would flatten the rest
    let visible = &epochs[epochs.len() / 10..];
    let values: Vec<f64> =
        visible.iter().flat_map(|e| panel.curves.iter().filter_map(|curve| curve.value(e))).collect();
    if values.is_empty() {
        return Ok(());
    }
    let low = values.iter().copied().fold(f64::INFINITY, f64::min);
    let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let margin = ((high - low) * 0.05).max(1e-3);
    let first = visible.first().map_or(0, |e| e.epoch) as f64;
    let last = (visible.last().map_or(1, |e| e.epoch) as f64).max(first + 1.0);
    let mut chart = ChartBuilder::on(area)
        .caption(panel.title, ("sans-serif", 22))
        .margin(10)
        .x_label_area_size(32)
        .y_label_area_size(64)
        .build_cartesian_2d(first..last, low - margin..high + margin)?;
    chart
        .configure_mesh()
        .x_desc("epoch")
        .x_label_formatter(&|epoch| format!("{epoch:.0}"))
        .label_style(("sans-serif", 15))
        .draw()?;
    for (curve, color) in panel.curves.iter().zip(COLORS) {
        let points = visible.iter().filter_map(|e| Some((e.epoch as f64, curve.value(e)?)));
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
