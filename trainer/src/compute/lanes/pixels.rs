//! Operations that move, pool or change pixels.

use rayon::prelude::*;

use super::batch::{Batch, LANES, groups, mask};
use super::buffers::Buffer;
use super::elements;
use crate::compute::axis::Axis;
use crate::compute::{Change, EPSILON};
use crate::graph::{Shape, Window};

/// `count` channels from `first` on.
pub(super) fn slice(x: &Batch, first: usize, count: usize) -> Batch {
    let mut y = x.like(x.shape.with_channels(count));
    let plane = x.shape.pixels() * LANES;
    let (from, to) = (x.shape.channels() * plane, count * plane);
    let parts = y.values.par_chunks_mut(to).zip(x.values.par_chunks(from));
    parts.for_each(|(y, x)| y.copy_from_slice(&x[first * plane..][..to]));
    y
}

/// Writes x as the channels from `first` on.
pub(super) fn put(x: &Batch, first: usize, y: &mut Batch) {
    let plane = x.shape.pixels() * LANES;
    let (from, to) = (x.shape.channels() * plane, y.shape.channels() * plane);
    let parts = y.values.par_chunks_mut(to).zip(x.values.par_chunks(from));
    parts.for_each(|(y, x)| y[first * plane..][..from].copy_from_slice(x));
}

/// Value i of each picture is value `places[i]` of x's.
pub(super) fn gather(x: &Batch, places: &[u32], shape: Shape) -> Batch {
    let mut y = x.like(shape);
    let (from, to) = (x.shape.values() * LANES, shape.values() * LANES);
    y.values.par_chunks_mut(to).zip(x.values.par_chunks(from)).for_each(|(y, x)| {
        let (y, x) = (y.as_chunks_mut::<LANES>().0, x.as_chunks::<LANES>().0);
        y.iter_mut().zip(places).for_each(|(y, place)| *y = x[*place as usize]);
    });
    y
}

/// The transpose of [`gather`].
pub(super) fn scatter(x: &Batch, places: &[u32], shape: Shape) -> Batch {
    let mut y = x.like(shape);
    let (from, to) = (x.shape.values() * LANES, shape.values() * LANES);
    y.values.par_chunks_mut(to).zip(x.values.par_chunks(from)).for_each(|(y, x)| {
        y.fill(0.0);
        let (y, x) = (y.as_chunks_mut::<LANES>().0, x.as_chunks::<LANES>().0);
        x.iter().zip(places).for_each(|(x, place)| y[*place as usize] = *x);
    });
    y
}

/// Each channel mapped along its rows and its columns.
pub(super) fn resample(x: &Batch, rows: &Axis, columns: &Axis) -> Batch {
    let shape = Shape::Image(x.shape.channels(), rows.outputs(), columns.outputs());
    let mut y = x.like(shape);
    let (from, to) = (x.shape.pixels() * LANES, shape.pixels() * LANES);
    let width = columns.inputs;
    // of every output pixel, the places and the factors
    let taps: Vec<Vec<(usize, f32)>> = rows
        .taps
        .iter()
        .flat_map(|row| {
            columns.taps.iter().map(move |column| {
                let pairs = row.iter().flat_map(|(y, a)| column.iter().map(move |(x, b)| (y, x, a * b)));
                pairs.map(|(y, x, factor)| ((y * width + x) * LANES, factor)).collect()
            })
        })
        .collect();
    y.values.par_chunks_mut(to).zip(x.values.par_chunks(from)).for_each(|(y, x)| {
        for (y, taps) in y.as_chunks_mut::<LANES>().0.iter_mut().zip(&taps) {
            elements::taps(x, taps, y);
        }
    });
    y
}

/// For each output position, the input positions of its window, row by row.
fn windows(window: &Window, (_, height, width): (usize, usize, usize)) -> Vec<Vec<usize>> {
    let Some(((top, out_height), (left, out_width))) = window.place(height, width) else { return Vec::new() };
    let along = |output: usize, before: usize, side: usize| {
        let first = output * window.stride;
        (first.max(before) - before)..(first + window.kernel).saturating_sub(before).min(side)
    };
    let mut all = Vec::with_capacity(out_height * out_width);
    for y in 0..out_height {
        for x in 0..out_width {
            let columns = along(x, left, width);
            let rows = along(y, top, height);
            all.push(rows.flat_map(|row| columns.clone().map(move |column| row * width + column)).collect());
        }
    }
    all
}

/// The largest value of each window.
pub(super) fn max_pool(x: &Batch, window: &Window, shape: Shape) -> Batch {
    let mut y = x.like(shape);
    let windows = windows(window, x.shape.image());
    let (from, to) = (x.shape.pixels() * LANES, shape.pixels() * LANES);
    y.values.par_chunks_mut(to).zip(x.values.par_chunks(from)).for_each(|(y, x)| {
        let x = x.as_chunks::<LANES>().0;
        for (y, places) in y.as_chunks_mut::<LANES>().0.iter_mut().zip(&windows) {
            let mut most = [f32::NEG_INFINITY; LANES];
            for place in places {
                for lane in 0..LANES {
                    // a NaN stays
                    if x[*place][lane] > most[lane] || x[*place][lane].is_nan() {
                        most[lane] = x[*place][lane];
                    }
                }
            }
            *y = most;
        }
    });
    y
}

/// The gradient goes to the first of the largest values.
pub(super) fn max_pool_backward(x: &Batch, largest: &Batch, gradient: &Batch, window: &Window) -> Batch {
    let mut before = x.like(x.shape);
    let windows = windows(window, x.shape.image());
    let (from, to) = (x.shape.pixels() * LANES, gradient.shape.pixels() * LANES);
    let planes = largest.values.par_chunks(to).zip(gradient.values.par_chunks(to));
    let inputs = before.values.par_chunks_mut(from).zip(x.values.par_chunks(from));
    inputs.zip(planes).for_each(|((before, x), (largest, gradient))| {
        before.fill(0.0);
        let (before, x) = (before.as_chunks_mut::<LANES>().0, x.as_chunks::<LANES>().0);
        let outputs = largest.as_chunks::<LANES>().0.iter().zip(gradient.as_chunks::<LANES>().0);
        for ((largest, gradient), places) in outputs.zip(&windows) {
            let mut left = *gradient;
            for place in places {
                for lane in 0..LANES {
                    if x[*place][lane] == largest[lane] {
                        before[*place][lane] += left[lane];
                        left[lane] = 0.0;
                    }
                }
            }
        }
    });
    before
}

/// Of every value of a picture, the mean and the deviation over the pictures.
fn over_pictures(x: &Batch) -> (Vec<f32>, Vec<f32>) {
    let values = x.shape.values();
    let count = x.count as f32;
    let sum_of = |value: usize, each: &dyn Fn(f32) -> f32| -> f32 {
        let vectors = (0..groups(x.count)).map(|group| {
            let vector = &x.values[(group * values + value) * LANES..][..LANES];
            let used = mask(x.count, group);
            vector.iter().zip(used).filter(|(_, used)| *used > 0.0).map(|(x, _)| each(*x)).sum::<f32>()
        });
        vectors.sum()
    };
    (0..values)
        .into_par_iter()
        .map(|value| {
            let mean = sum_of(value, &|x| x) / count;
            let variance = sum_of(value, &|x| (x - mean).powi(2)) / count;
            (mean, (variance + EPSILON as f32).sqrt())
        })
        .unzip()
}

/// x with one more channel: the deviation over the pictures, averaged over all values.
pub(super) fn deviation(x: &Batch) -> Batch {
    let channels = x.shape.channels();
    let mut y = x.like(x.shape.with_channels(channels + 1));
    put(x, 0, &mut y);
    let (_, deviations) = over_pictures(x);
    let mean = deviations.iter().map(|value| f64::from(*value)).sum::<f64>() / deviations.len() as f64;
    let plane = x.shape.pixels() * LANES;
    y.values.chunks_mut((channels + 1) * plane).for_each(|group| group[channels * plane..].fill(mean as f32));
    y
}

/// The gradient of [`deviation`].
pub(super) fn deviation_backward(x: &Batch, gradient: &Batch) -> Batch {
    let (channels, values) = (x.shape.channels(), x.shape.values());
    let mut before = slice(gradient, 0, channels);
    let last = slice(gradient, channels, 1);
    let whole: f64 = last.to_rows().iter().map(|value| f64::from(*value)).sum();
    let (means, deviations) = over_pictures(x);
    let factor = (whole / (values * x.count) as f64) as f32;
    before.values.par_chunks_mut(values * LANES).zip(x.values.par_chunks(values * LANES)).for_each(
        |(before, x)| {
            let vectors = before.as_chunks_mut::<LANES>().0.iter_mut().zip(x.as_chunks::<LANES>().0);
            for ((before, x), (mean, deviation)) in vectors.zip(means.iter().zip(&deviations)) {
                for lane in 0..LANES {
                    before[lane] += factor * (x[lane] - mean) / deviation;
                }
            }
        },
    );
    before.clear_unused();
    before
}

/// 1 over the length of each pixel of a group's pictures (C, H, W, [`LANES`]), (H, W, [`LANES`]).
fn inverse_lengths(x: &[f32], plane: usize) -> Vec<f32> {
    let mut sums = vec![0f32; plane];
    x.chunks(plane).for_each(|x| elements::add_product(&mut sums, x, x));
    elements::inverse_root(&mut sums, EPSILON as f32);
    sums
}

/// Each pixel's channels divided by their length.
pub(super) fn unit(x: &Batch) -> Batch {
    let mut y = x.like(x.shape);
    let (plane, values) = (x.shape.pixels() * LANES, x.shape.values() * LANES);
    y.values.par_chunks_mut(values).zip(x.values.par_chunks(values)).for_each(|(y, x)| {
        let inverse = inverse_lengths(x, plane);
        y.copy_from_slice(x);
        y.chunks_mut(plane).for_each(|y| elements::multiply_by(y, &inverse));
    });
    y
}

/// The gradient of [`unit`]: of y = x / length, (gradient − y · Σ y · gradient) / length.
pub(super) fn unit_backward(x: &Batch, gradient: &Batch) -> Batch {
    let mut before = gradient.like(x.shape);
    let (plane, values) = (x.shape.pixels() * LANES, x.shape.values() * LANES);
    let parts = x.values.par_chunks(values).zip(gradient.values.par_chunks(values));
    before.values.par_chunks_mut(values).zip(parts).for_each(|(before, (x, gradient))| {
        let inverse = inverse_lengths(x, plane);
        let mut along = vec![0f32; plane];
        x.chunks(plane)
            .zip(gradient.chunks(plane))
            .for_each(|(x, g)| elements::add_product(&mut along, x, g));
        elements::multiply_by(&mut along, &inverse);
        elements::multiply_by(&mut along, &inverse);
        before.copy_from_slice(gradient);
        for (before, x) in before.chunks_mut(plane).zip(x.chunks(plane)) {
            elements::subtract_product(before, x, &along);
            elements::multiply_by(before, &inverse);
        }
    });
    before.clear_unused();
    before
}

/// e^x of each value of a vector, divided by their sum.
pub(super) fn softmax(x: &mut Batch) {
    let values = x.shape.values() * LANES;
    x.values.par_chunks_mut(values).for_each(|group| {
        let mut largest = [f32::NEG_INFINITY; LANES];
        for vector in group.as_chunks::<LANES>().0 {
            largest.iter_mut().zip(vector).for_each(|(largest, x)| *largest = largest.max(*x));
        }
        elements::lane_exp(group, &largest);
        let mut sums = [0f32; LANES];
        for vector in group.as_chunks::<LANES>().0 {
            sums.iter_mut().zip(vector).for_each(|(sum, x)| *sum += x);
        }
        elements::lane_multiply(group, &sums.map(|sum| 1.0 / sum));
    });
}

/// The gradient of [`softmax`], of its results y: y · (gradient − Σ y · gradient).
pub(super) fn softmax_backward(y: &Batch, gradient: &mut Batch) {
    let values = y.shape.values() * LANES;
    gradient.values.par_chunks_mut(values).zip(y.values.par_chunks(values)).for_each(|(gradient, y)| {
        let along = elements::lane_product_sums(gradient, y, &[0.0; LANES]);
        for (gradient, y) in gradient.as_chunks_mut::<LANES>().0.iter_mut().zip(y.as_chunks::<LANES>().0) {
            for lane in 0..LANES {
                gradient[lane] = y[lane] * (gradient[lane] - along[lane]);
            }
        }
    });
    gradient.clear_unused();
}

/// Changes each picture by its own change.
pub(super) fn change(x: &Batch, changes: &[Change]) -> Batch {
    let mut y = x.like(x.shape);
    let (channels, height, width) = x.shape.image();
    let values = x.shape.values();
    let pairs = y.values.par_chunks_mut(values * LANES).zip(x.values.par_chunks(values * LANES));
    pairs.zip(changes.par_chunks(LANES)).for_each(|((y, x), changes)| {
        y.copy_from_slice(x);
        let mut row = Buffer::any(values);
        for (lane, change) in changes.iter().enumerate() {
            row.iter_mut().zip(x.as_chunks::<LANES>().0).for_each(|(value, vector)| *value = vector[lane]);
            change_one(&mut row, *change, (channels, height, width));
            y.as_chunks_mut::<LANES>().0.iter_mut().zip(row.iter()).for_each(|(vector, value)| {
                vector[lane] = *value;
            });
        }
    });
    y
}

fn change_one(values: &mut [f32], change: Change, (channels, height, width): (usize, usize, usize)) {
    let plane = height * width;
    match change {
        Change::Color { own, pixel, picture, summand } => {
            let sum = values.iter().map(|value| f64::from(*value)).sum::<f64>();
            let rest = picture * (sum / values.len().max(1) as f64) as f32 + summand;
            let mut means = Buffer::any(plane);
            means.fill(0.0);
            for channel in values.chunks(plane) {
                elements::add(&mut means, 1.0, channel);
            }
            means.iter_mut().for_each(|mean| *mean = pixel * *mean / channels as f32 + rest);
            for channel in values.chunks_mut(plane) {
                channel.iter_mut().zip(means.iter()).for_each(|(x, mean)| *x = own * *x + mean);
            }
        }
        Change::Shift([down, right]) => {
            let mut before = Buffer::any(plane);
            for values in values.chunks_mut(plane) {
                before.copy_from_slice(values);
                values.fill(0.0);
                let (first, last) = (right.max(0) as usize, (width as isize + right.min(0)).max(0) as usize);
                for row in 0..height {
                    let from = row as isize - down;
                    if (0..height as isize).contains(&from) && first < last {
                        let from = from as usize * width + (first as isize - right) as usize;
                        values[row * width + first..row * width + last]
                            .copy_from_slice(&before[from..][..last - first]);
                    }
                }
            }
        }
        Change::Cut([top, bottom, left, right]) => {
            for values in values.chunks_mut(plane) {
                values.chunks_mut(width).take(bottom).skip(top).for_each(|row| row[left..right].fill(0.0));
            }
        }
    }
}
