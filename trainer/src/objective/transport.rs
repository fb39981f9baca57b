//! From the prior to codes: the entropic optimal transport from N(0, I) to some latents, all of one weight (A. Pooladian,
//! J. Niles-Weed, 2021). It compares a latent with every code and takes their mean by the shares
//! softmax(⟨latent, code⟩ / temperature + bias); biases are such that all codes get the same share of the prior
//! (R. Sinkhorn, 1964), and the temperature is such that the largest share is a given one on average.

use crate::random::{Purpose, Stream};
use nalgebra::{DMatrix, DMatrixView};
use rayon::prelude::*;

use crate::compute::lanes::exp_of_negatives;
use crate::compute::{Backend, Network};
use crate::graph::{Graph, Parameter};
use crate::{Error, Result};

/// Bias of a code of another class: no share at all.
const NEVER: f32 = -1e4;
/// Latents that shares are balanced on: so many a code and at least, as long as all products fit in so many values.
const LATENTS_PER_CODE: usize = 4;
const LATENTS: usize = 2048;
const MOST_PRODUCTS: usize = 1 << 27;
/// Latents that the largest share is measured on, which are others: shares of the same would be too even.
const MEASURED: usize = 2048;
/// Rounds in which shares are balanced, while the temperature is searched and with the one that was found.
const ROUNDS_OF_SEARCH: usize = 12;
const ROUNDS: usize = 30;
/// Temperatures between which it is searched, and halvings of their logarithms' distance.
const COLDEST: f64 = 0.01;
const HOTTEST: f64 = 10.0;
const HALVINGS: usize = 8;
/// Latents whose shares are added up together.
const PIECE: usize = 256;

/// The default mean of the largest weight.
pub(crate) fn share() -> f64 {
    0.8
}

/// A mapping of the prior to some codes.
pub struct Transport<B: Backend> {
    /// Latent (N, L) → code (N, L).
    pub mapping: Network<B>,
    /// How many codes.
    count: usize,
    /// Their classes; empty without.
    classes: Vec<u32>,
}

impl<B: Backend> Transport<B> {
    /// A mapping to codes of these classes, if it takes any, that is to be fitted; without any, one that is taken up as it was
    /// fitted.
    ///
    /// # Errors
    /// The device's.
    pub fn new(backend: &B, mapping: &Graph, count: usize, classes: Vec<u32>) -> Result<Self> {
        let without = (0..mapping.classes() as u32).find(|class| !classes.contains(class));
        if let (Some(class), false) = (without, classes.is_empty()) {
            return Err(Error::Config(format!(
                "none of the {count} pictures that have a code is of class number {class}: more network.codes, or no class without training pictures"
            )));
        }
        Ok(Self { mapping: Network::new(backend, mapping)?, count, classes })
    }

    /// Fits it to codes (N, L); `share` is that of the code with the largest one, on average over the prior. It depends on
    /// the codes alone.
    ///
    /// # Errors
    /// The device's.
    pub fn fit(&mut self, codes: &[f32], share: f64) -> Result<()> {
        let size = self.mapping.output_shape().values();
        let (kinds, count) = (self.mapping.classes(), self.count);
        let (mut scaled, mut biases) = (codes.to_vec(), vec![0f32; count]);
        for class in 0..kinds.max(1) as u32 {
            let of_class = |place: &usize| kinds == 0 || self.classes[*place] == class;
            let own: Vec<usize> = (0..count).filter(of_class).collect();
            let rows: Vec<f32> =
                own.iter().flat_map(|place| &codes[place * size..][..size]).copied().collect();
            let (temperature, found) = balance(&rows, size, share);
            for (place, bias) in own.into_iter().zip(found) {
                biases[place] = bias;
                let scores = scaled[place * size..][..size].iter_mut();
                scores.for_each(|value| *value = (f64::from(*value) / temperature) as f32);
            }
        }
        let table = |class: u32| {
            let own = self.classes.iter().zip(&biases);
            own.map(move |(of, bias)| if *of == class { *bias } else { NEVER }).collect::<Vec<f32>>()
        };
        let transposed = (0..size * count).map(|at| codes[at % count * size + at / count]).collect();
        let mut values = vec![scaled];
        if kinds == 0 {
            values.push(biases.clone());
        } else {
            values.extend([vec![0.0; count], (0..kinds as u32).flat_map(table).collect()]);
        }
        values.extend([transposed, vec![0.0; size]]);
        let backend = self.mapping.backend().clone();
        for (own, value) in self.mapping.graph.parameters_mut().zip(values) {
            own.value = backend.weight(&value, &own.shape)?;
        }
        Ok(())
    }

    /// Everything that is fitted, as it is stored.
    ///
    /// # Errors
    /// The device's.
    pub fn state(&self) -> Result<Vec<Parameter>> {
        self.mapping.parameters()
    }

    /// Takes up such a state; returns what follows it.
    ///
    /// # Errors
    /// The device's.
    pub fn restore<'a>(&mut self, stored: &'a [Parameter]) -> Result<&'a [Parameter]> {
        let (mapping, rest) = stored.split_at(self.mapping.graph.parameters().count().min(stored.len()));
        self.mapping.set(mapping)?;
        Ok(rest)
    }
}

/// The temperature at which the largest share of a code (N, `size`) is this on average, and biases with which codes get
/// about the same share of the prior each.
fn balance(codes: &[f32], size: usize, share: f64) -> (f64, Vec<f32>) {
    let count = codes.len() / size;
    if count < 2 {
        return (1.0, vec![0.0; count]);
    }
    let latents = (LATENTS_PER_CODE * count).min(MOST_PRODUCTS / count).max(LATENTS) + MEASURED;
    let mut values = vec![0f32; latents * size];
    Stream::new(0, Purpose::Match, 0).fill_normal(&mut values);
    let codes = DMatrixView::from_slice(codes, size, count).transpose();
    // a column a latent
    let latent = DMatrixView::from_slice(&values, size, latents);
    let mut products = DMatrix::<f32>::zeros(count, latents);
    products.gemm(1.0, &codes, &latent, 0.0);
    let (measured, balanced) = products.as_slice().split_at(count * MEASURED);
    let (mut low, mut high) = (COLDEST.ln(), HOTTEST.ln());
    for _ in 0..HALVINGS {
        let middle = 0.5 * (low + high);
        let biases = balanced_biases(balanced, count, middle.exp(), ROUNDS_OF_SEARCH);
        let (_, largest) = shares(measured, &biases, middle.exp());
        // the hotter, the more codes are mixed
        if largest > share { low = middle } else { high = middle }
    }
    let temperature = (0.5 * (low + high)).exp();
    (temperature, balanced_biases(balanced, count, temperature, ROUNDS))
}

/// Biases after so many rounds for `count` codes' products with latents, (latents, count).
fn balanced_biases(products: &[f32], count: usize, temperature: f64, rounds: usize) -> Vec<f32> {
    let mut biases = vec![0f32; count];
    for _ in 0..rounds {
        let (shares, _) = shares(products, &biases, temperature);
        for (share, bias) in shares.into_iter().zip(&mut biases) {
            // a code that no latent is near to comes nearer by degrees
            *bias -= (share * count as f64).max(1e-3).ln() as f32;
        }
    }
    biases
}

/// The mean share of each code for its products with latents, (latents, codes), and the mean of each latent's largest.
fn shares(products: &[f32], biases: &[f32], temperature: f64) -> (Vec<f64>, f64) {
    let (count, scale) = (biases.len(), (1.0 / temperature) as f32);
    let latents = (products.len() / count) as f64;
    let of_piece = |own: &[f32]| -> (Vec<f64>, f64) {
        let (mut sums, mut powers, mut largest) = (vec![0f64; count], vec![0f32; count], 0.0);
        for column in own.chunks(count) {
            let scores = column.iter().zip(biases);
            powers
                .iter_mut()
                .zip(scores)
                .for_each(|(power, (product, bias))| *power = scale * product + bias);
            let most = powers.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            powers.iter_mut().for_each(|power| *power -= most);
            exp_of_negatives(&mut powers);
            let part = 1.0 / powers.iter().map(|power| f64::from(*power)).sum::<f64>();
            largest += part; // its power is 1
            sums.iter_mut().zip(&powers).for_each(|(total, power)| *total += part * f64::from(*power));
        }
        (sums, largest)
    };
    // always the same pieces, so that sums do not depend on the number of threads
    let pieces: Vec<(Vec<f64>, f64)> = products.par_chunks(PIECE * count).map(of_piece).collect();
    let mean = |place: usize| pieces.iter().map(|(sums, _)| sums[place]).sum::<f64>() / latents;
    ((0..count).map(mean).collect(), pieces.iter().map(|(_, largest)| largest).sum::<f64>() / latents)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(count: usize, index: u64) -> Vec<f32> {
        let mut values = vec![0f32; count];
        Stream::new(4, Purpose::Evaluation, index).fill_normal(&mut values);
        values
    }

    #[test]
    fn many_codes_are_mixed_as_much_as_few() {
        let (count, size, wanted) = (3000, 32, 0.8);
        let values = noise(count * size, 4);
        let (temperature, biases) = balance(&values, size, wanted);
        let latents = noise(500 * size, 5);
        let products: Vec<f32> = latents
            .chunks(size)
            .flat_map(|latent| {
                values.chunks(size).map(move |code| code.iter().zip(latent).map(|(a, b)| a * b).sum::<f32>())
            })
            .collect();
        let (shares, largest) = shares(&products, &biases, temperature);
        assert!((largest - wanted).abs() < 0.05, "{largest}");
        let most = shares.iter().copied().fold(0.0, f64::max);
        assert!(most * (count as f64) < 20.0, "a code has {most} of the prior");
    }
}
