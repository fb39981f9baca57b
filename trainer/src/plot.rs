//! Drawings of figures.

use std::io::Write;
use std::path::Path;

use edgegen_runtime::files::write_atomically;
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{ExtendedColorType, ImageEncoder};
use plotters::prelude::*;
use plotters::style::{FontStyle, register_font};

use crate::{Error, Result};

/// Figures in a group: the group's name, and each figure's with its value.
pub(crate) type Group = (String, Vec<(&'static str, f64)>);

/// Draws a row of bars for each group, with `title` above and the values beside them; bars end at `most`.
///
/// # Errors
/// [`Error::Run`] if the drawing fails, or the file system's.
pub(crate) fn write_bars(groups: &[Group], title: &str, most: f64, path: &Path) -> Result<()> {
    const COLORS: [RGBColor; 3] = [BLUE, GREEN, RED];
    const ROW: i32 = 20;
    const LEFT: i32 = 440;
    const WIDTH: i32 = 400;
    let rows: i32 = groups.iter().map(|(_, figures)| figures.len() as i32 + 1).sum();
    plot(path, (LEFT as u32 + WIDTH as u32 + 90, (rows * ROW + 60) as u32), |area| {
        let text = |size: u32| ("sans-serif", size).into_font();
        area.draw(&Text::new(title.to_string(), (10, 10), text(22)))?;
        let mut top = 50;
        for (name, figures) in groups {
            for (index, (figure, value)) in figures.iter().enumerate() {
                let color = COLORS[index % COLORS.len()];
                if index == 0 {
                    area.draw(&Text::new(name.clone(), (10, top + 3), text(16)))?;
                }
                area.draw(&Text::new((*figure).to_string(), (220, top + 3), text(14)))?;
                let length = (value.clamp(0.0, most) / most * f64::from(WIDTH)) as i32;
                let corners = [(LEFT, top + 3), (LEFT + length, top + ROW - 3)];
                area.draw(&Rectangle::new(corners, color.mix(0.7).filled()))?;
                area.draw(&Text::new(format!("{value:.1}"), (LEFT + length + 6, top + 3), text(14)))?;
                top += ROW;
            }
            top += ROW;
        }
        Ok(())
    })
}

/// Height of a point's name, pixels.
const NAME: f64 = 13.0;
/// Pixels between the axes of a drawing of points, across and up.
const PLOT: [f64; 2] = [800.0, 475.0];

/// A point's name and its place.
pub(crate) type Point = (String, f64, f64);

/// Draws named points, with what lies along both axes.
///
/// # Errors
/// As [`write_bars`].
pub(crate) fn write_points(points: &[Point], [along, up]: [&str; 2], path: &Path) -> Result<()> {
    let largest = |value: &dyn Fn(&Point) -> f64| points.iter().map(value).fold(1e-9, f64::max);
    let (right, top) = (1.35 * largest(&|point| point.1), 1.1 * largest(&|point| point.2));
    plot(path, (900, 560), |area| {
        let mut chart = ChartBuilder::on(area)
            .margin(20)
            .x_label_area_size(45)
            .y_label_area_size(60)
            .build_cartesian_2d(0.0..right, 0.0..top)?;
        let label = ("sans-serif", 16);
        chart
            .configure_mesh()
            .disable_mesh()
            .x_desc(along)
            .y_desc(up)
            .label_style(label)
            .axis_desc_style(label)
            .draw()?;
        chart.draw_series(points.iter().map(|(_, x, y)| Circle::new((*x, *y), 4, BLUE.filled())))?;
        let places = beside(points, [right / PLOT[0], top / PLOT[1]]);
        let names = points.iter().zip(places);
        chart.draw_series(names.map(|((name, _, _), place)| {
            Text::new(name.clone(), place, ("sans-serif", NAME as u32).into_font())
        }))?;
        Ok(())
    })
}

/// Where each point's name begins: to its right, or as far below as it meets no other; `pixel` is one along either axis.
fn beside(points: &[Point], pixel: [f64; 2]) -> Vec<(f64, f64)> {
    let mut order: Vec<usize> = (0..points.len()).collect();
    order.sort_by(|a, b| points[*b].2.total_cmp(&points[*a].2));
    let mut taken: Vec<[f64; 3]> = Vec::new();
    let mut places = vec![(0.0, 0.0); points.len()];
    for index in order {
        let (name, x, y) = &points[index];
        // in pixels, upwards
        let (left, mut up) = (x / pixel[0] + 8.0, y / pixel[1] + 7.0);
        let right = left + 0.55 * NAME * name.chars().count() as f64;
        while let Some(other) =
            taken.iter().find(|other| other[0] < right && left < other[1] && (other[2] - up).abs() < NAME)
        {
            up = other[2] - NAME;
        }
        taken.push([left, right, up]);
        places[index] = (left * pixel[0], up * pixel[1]);
    }
    places
}

type PlotArea<'a> = DrawingArea<BitMapBackend<'a>, plotters::coord::Shift>;
type PlotError<'a> = DrawingAreaErrorKind<<BitMapBackend<'a> as DrawingBackend>::ErrorType>;

/// Writes what `draw` draws on white, as PNG of `size` (width, height).
pub(crate) fn plot(
    path: &Path,
    size: (u32, u32),
    draw: impl for<'a> FnOnce(&PlotArea<'a>) -> std::result::Result<(), PlotError<'a>>,
) -> Result<()> {
    let failed = |problem: String| Error::run(path, problem);
    register_font("sans-serif", FontStyle::Normal, epaint_default_fonts::UBUNTU_LIGHT)
        .map_err(|_| failed("the font cannot be read".into()))?;
    let mut pixels = vec![0u8; (size.0 * size.1 * 3) as usize];
    {
        let area = BitMapBackend::with_buffer(&mut pixels, size).into_drawing_area();
        let drawn = area.fill(&WHITE).and_then(|()| draw(&area)).and_then(|()| area.present());
        drawn.map_err(|e| failed(e.to_string()))?;
    }
    let mut bytes = Vec::new();
    // drawings are kept in repositories: small files, however long that takes
    PngEncoder::new_with_quality(&mut bytes, CompressionType::Best, FilterType::NoFilter)
        .write_image(&pixels, size.0, size.1, ExtendedColorType::Rgb8)
        .map_err(|e| failed(e.to_string()))?;
    Ok(write_atomically(path, |out| out.write_all(&bytes))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_points_at_one_place_stand_below_each_other() {
        let points: Vec<Point> = (0..4).map(|index| (format!("model {index}"), 1.0, 1.0)).collect();
        let places = beside(&points, [0.01, 0.01]);
        for (index, (left, up)) in places.iter().enumerate() {
            assert!((left - 1.08).abs() < 1e-9 && (up - (1.07 - 0.13 * index as f64)).abs() < 1e-9, "{up}");
        }
    }
}
