//! What a run shows: grids of samples and reconstructions, the latent grid of a two-dimensional
//! latent, and the curves.

use std::path::Path;

use candle_core::{Device, Tensor};
use edgegen_runtime::generate::{Frame, Latents, to_pixels};
use edgegen_runtime::model::{ImageShape, Range};
use edgegen_runtime::pictures::{grid, write_png};
use plotters::prelude::*;
use plotters::style::{FontStyle, register_font};

use super::metrics::Epoch;
use crate::data::pixel_format;
use crate::network::module::Mode;
use crate::vae::Vae;
use crate::{Error, Result};

/// Images (N, C, H, W) in [0, 1] as frames.
///
/// # Errors
/// Candle's.
pub fn frames(images: &Tensor, shape: ImageShape) -> Result<Vec<Frame>> {
    let values = images.flatten_all()?.to_vec1::<f32>()?;
    let format = pixel_format(shape);
    let frame = |values: &[f32]| {
        let mut pixels = vec![0u8; shape.values()];
        to_pixels(Range::Unit, shape, values, &mut pixels);
        Frame { width: shape.width, height: shape.height, format, pixels }
    };
    Ok(values.chunks(shape.values()).map(frame).collect())
}

/// Pictures of latents that `seed` draws from the prior.
///
/// # Errors
/// Candle's.
pub fn samples(vae: &Vae, shape: ImageShape, seed: u64, count: usize, device: &Device) -> Result<Vec<Frame>> {
    let latents = Latents::from_seed(seed, 0, count, vae.latent, 1.0);
    decode(vae, shape, latents.values(), device)
}

fn decode(vae: &Vae, shape: ImageShape, latents: &[f32], device: &Device) -> Result<Vec<Frame>> {
    /// Bounds the memory of a large grid.
    const BATCH: usize = 256;
    let mut all = Vec::new();
    for latents in latents.chunks(BATCH * vae.latent) {
        let latents = Tensor::from_slice(latents, (latents.len() / vae.latent, vae.latent), device)?;
        all.extend(frames(&vae.decoder.forward(&latents, Mode::Infer)?, shape)?);
    }
    Ok(all)
}

/// A `side` × `side` grid over a two-dimensional latent, at the normal quantiles of an even grid of
/// the unit square, as in the appendix of Kingma and Welling 2014.
///
/// # Errors
/// Candle's.
pub fn latent_grid(vae: &Vae, shape: ImageShape, side: usize, device: &Device) -> Result<Vec<Frame>> {
    let quantiles: Vec<f32> =
        (0..side).map(|i| normal_quantile((i as f64 + 0.5) / side as f64) as f32).collect();
    let latents: Vec<f32> =
        quantiles.iter().rev().flat_map(|y| quantiles.iter().flat_map(|x| [*x, *y])).collect();
    decode(vae, shape, &latents, device)
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

/// Draws the curves of all epochs: ELBO and KL of training and validation.
///
/// # Errors
/// [`Error::Run`] if the drawing fails, or the file system's.
pub fn write_curves(epochs: &[Epoch], path: &Path) -> Result<()> {
    const SIZE: (u32, u32) = (900, 700);
    let mut pixels = vec![0u8; (SIZE.0 * SIZE.1 * 3) as usize];
    draw_curves(epochs, &mut pixels, SIZE).map_err(|problem| Error::run(path, problem))?;
    let picture = image::RgbImage::from_raw(SIZE.0, SIZE.1, pixels)
        .ok_or_else(|| Error::run(path, "the curves do not fill their picture"))?;
    Ok(write_png(&picture.into(), path)?)
}

/// A curve's name, colour and value.
type Curve = (&'static str, RGBColor, fn(&Epoch) -> f64);

fn draw_curves(epochs: &[Epoch], pixels: &mut [u8], size: (u32, u32)) -> std::result::Result<(), String> {
    let font = epaint_default_fonts::UBUNTU_LIGHT;
    register_font("sans-serif", FontStyle::Normal, font)
        .map_err(|_| "the font cannot be read".to_string())?;
    let area = BitMapBackend::with_buffer(pixels, size).into_drawing_area();
    area.fill(&WHITE).map_err(|e| e.to_string())?;
    let (upper, lower) = area.split_vertically(size.1 / 2);
    let panels: [(_, _, [Curve; 2]); 2] = [
        (
            upper,
            "ELBO (nats per picture)",
            [("training", BLUE, |e| e.train.elbo), ("validation", RED, |e| e.validation.elbo)],
        ),
        (
            lower,
            "KL (nats per picture)",
            [("training", BLUE, |e| e.train.kl), ("validation", RED, |e| e.validation.kl)],
        ),
    ];
    for (area, title, curves) in panels {
        panel(&area, title, epochs, &curves).map_err(|e| e.to_string())?;
    }
    area.present().map_err(|e| e.to_string())
}

fn panel<B: DrawingBackend>(
    area: &DrawingArea<B, plotters::coord::Shift>,
    title: &str,
    epochs: &[Epoch],
    curves: &[Curve],
) -> std::result::Result<(), DrawingAreaErrorKind<B::ErrorType>> {
    // the first tenth of a run is far off and would flatten the rest
    let visible = &epochs[epochs.len() / 10..];
    let values: Vec<f64> = visible.iter().flat_map(|e| curves.iter().map(|(_, _, value)| value(e))).collect();
    let low = values.iter().copied().fold(f64::INFINITY, f64::min);
    let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let margin = ((high - low) * 0.05).max(1e-3);
    let first = visible.first().map_or(0, |e| e.epoch) as f64;
    let last = (visible.last().map_or(1, |e| e.epoch) as f64).max(first + 1.0);
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 22))
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
    for (name, color, value) in curves {
        let color = *color;
        chart
            .draw_series(LineSeries::new(
                visible.iter().map(|e| (e.epoch as f64, value(e))),
                color.stroke_width(2),
            ))?
            .label(*name)
            .legend(move |(x, y)| PathElement::new(vec![(x, y), (x + 18, y)], color.stroke_width(2)));
    }
    chart
        .configure_series_labels()
        .label_font(("sans-serif", 15))
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.3))
        .draw()
}
