//! The training pictures that samples are nearest to: so that copying shows.

use std::path::Path;

use edgegen_runtime::generate::Frame;
use edgegen_runtime::model::ImageShape;
use edgegen_runtime::pictures::{grid, write_png};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::features::{Features, resized};
use super::pairs::{map_distances, smallest};
use super::samples::Samples;
use super::{scattered, spread};
use crate::Result;
use crate::data::{Pictures, pixel_format};

/// Neighbours of a sample.
pub const NEIGHBOURS: usize = 5;
/// Rows of the picture that show samples evenly spread, and as many again the most suspicious ones.
const SHOWN: usize = 8;
/// Samples, and training pictures, whose nearest training picture is looked for.
const SEARCHED: usize = 1000;
/// Level of the empty place between the two kinds of neighbours.
const EMPTY: u8 = 128;

/// A training picture near a sample.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Neighbour {
    /// Its number in the training part.
    pub picture: usize,
    /// How far it is.
    pub distance: f64,
}

/// A sample and what it is near to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// The sample's number.
    pub sample: usize,
    /// Whether it was chosen because it is so near; else it is one of an even spread.
    pub suspicious: bool,
    /// The nearest by features, nearest first; distances are Euclidean.
    pub by_features: Vec<Neighbour>,
    /// The nearest by pixels, nearest first; distances are root mean square differences, levels of 0…255.
    pub by_pixels: Vec<Neighbour>,
}

/// How near samples come to training pictures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Neighbours {
    /// Samples that were searched for.
    pub searched: usize,
    /// Median distance of those samples to their nearest training picture, by features.
    pub median: f64,
    /// The same of training pictures to their nearest other one: samples that come much nearer are copies.
    pub median_within_training: f64,
    /// What [`Self::draw`] shows.
    pub rows: Vec<Row>,
}

impl Neighbours {
    /// Looks for the neighbours of `samples` among the pictures `training` of `shape`; the features are theirs,
    /// row by row.
    ///
    /// # Errors
    /// [`crate::Error::Config`] if samples cannot become pictures of `shape`.
    pub fn find(
        samples: &Samples,
        sample_features: &Features,
        training: &Pictures,
        shape: ImageShape,
        training_features: &Features,
    ) -> Result<Self> {
        let numbers = scattered(samples.count(), SEARCHED);
        let found = map_distances(&sample_features.scattered(SEARCHED), training_features, |_, distances| {
            smallest(distances, NEIGHBOURS, None)
        });
        let own = scattered(training_features.count(), SEARCHED);
        let within =
            map_distances(&training_features.scattered(SEARCHED), training_features, |index, distances| {
                smallest(distances, 1, Some(own[index])).first().map_or(0.0, |nearest| nearest.1.sqrt())
            });
        let nearest: Vec<f64> = found.iter().map(|row| row[0].1.sqrt()).collect();
        let mut by_nearness: Vec<usize> = (0..nearest.len()).collect();
        by_nearness.sort_by(|a, b| nearest[*a].total_cmp(&nearest[*b]));
        let even = spread(nearest.len(), SHOWN).map(|place| (place, false));
        let suspicious = by_nearness.into_iter().take(SHOWN).map(|place| (place, true));
        let rows = even.chain(suspicious).map(|(place, suspicious)| {
            let sample = numbers[place];
            let neighbour =
                |(picture, square): &(usize, f64)| Neighbour { picture: *picture, distance: square.sqrt() };
            let by_features = found[place].iter().map(neighbour).collect();
            let pixels = resized(samples.shape, samples.picture(sample), shape)?;
            Ok(Row { sample, suspicious, by_features, by_pixels: by_pixels(&pixels, training) })
        });
        let rows = rows.collect::<Result<_>>()?;
        Ok(Self {
            searched: nearest.len(),
            median: median(nearest),
            median_within_training: median(within),
            rows,
        })
    }

    /// Writes a PNG: one row per sample with the sample, its neighbours by features, an empty place, and its
    /// neighbours by pixels.
    ///
    /// # Errors
    /// The file system's, or [`crate::Error::Config`] as [`Self::find`].
    pub fn draw(&self, samples: &Samples, training: &Pictures, shape: ImageShape, path: &Path) -> Result<()> {
        let frame = |pixels: Vec<u8>| Frame {
            width: shape.width,
            height: shape.height,
            format: pixel_format(shape),
            pixels,
        };
        let mut frames = Vec::new();
        for row in &self.rows {
            frames.push(frame(resized(samples.shape, samples.picture(row.sample), shape)?.into_owned()));
            for neighbours in [&row.by_features, &row.by_pixels] {
                let pictures = neighbours.iter().map(|near| training.picture(near.picture).to_vec());
                frames.extend(pictures.map(frame));
                let missing = NEIGHBOURS.saturating_sub(neighbours.len());
                frames.extend((0..missing).map(|_| frame(vec![EMPTY; shape.values()])));
                frames.push(frame(vec![EMPTY; shape.values()]));
            }
            frames.pop(); // the empty place behind the last
        }
        Ok(write_png(&grid(&frames, Some(2 * NEIGHBOURS + 2))?, path)?)
    }
}

fn by_pixels(sample: &[u8], training: &Pictures) -> Vec<Neighbour> {
    let squares: Vec<f64> = (0..training.count())
        .into_par_iter()
        .map(|index| {
            let pairs = sample.iter().zip(training.picture(index));
            let sum: u64 = pairs.map(|(a, b)| u64::from(u32::from(a.abs_diff(*b)).pow(2))).sum();
            sum as f64 / sample.len().max(1) as f64
        })
        .collect();
    let near = smallest(&squares, NEIGHBOURS, None);
    near.into_iter().map(|(picture, square)| Neighbour { picture, distance: square.sqrt() }).collect()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => 0.0,
        count if count % 2 == 1 => values[middle],
        _ => 0.5 * (values[middle - 1] + values[middle]),
    }
}
