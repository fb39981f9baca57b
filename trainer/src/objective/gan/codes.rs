//! Codes: each real picture has a latent of its own, which is learned together with the generator that draws the picture
//! of it (generative latent optimisation, P. Bojanowski et al., 2018): so every picture is drawn sharply, however few there
//! are. A mapping brings the prior to where codes lie: the entropic optimal transport from N(0, I) to the codes, all of one
//! weight (A. Pooladian, J. Niles-Weed, 2021). It compares a latent with every code and takes their mean by the shares
//! softmax(⟨latent, code⟩ / temperature + bias); biases are such that all codes get the same share of the prior
//! (R. Sinkhorn, 1964), and the temperature is such that the largest share is a given one on average.

use edgegen_runtime::random::{Purpose, Stream};
use nalgebra::{DMatrix, DMatrixView, SymmetricEigen};
use rayon::prelude::*;

use crate::compute::lanes::exp_of_negatives;
use crate::compute::{Backend, Network};
use crate::graph::{Graph, Parameter};
use crate::{Error, Result};

/// Decays of the moments of codes.
const DECAYS: (f64, f64) = (0.9, 0.99);
const EPSILON: f64 = 1e-8;
/// Longest code, as a multiple of what normal values have.
const LONGEST: f32 = 1.5;
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

/// The codes of some pictures, and the mapping to them.
pub struct Codes<B: Backend> {
    /// The mapping.
    pub transport: Transport<B>,
    table: Table,
    /// The codes that are mapped to, by number.
    mapped: Vec<usize>,
}

impl<B: Backend> Transport<B> {
    /// A mapping to codes of these classes, if it takes any, that is to be fitted.
    ///
    /// # Errors
    /// The device's.
    pub fn new(backend: &B, mapping: &Graph, count: usize, classes: Vec<u32>) -> Result<Self> {
        let without = (0..mapping.classes() as u32).find(|class| !classes.contains(class));
        if let Some(class) = without {
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

/// Numbers as a part of a state, in so many columns.
fn stored(name: &str, value: &[f32], columns: usize) -> Parameter {
    let shape = vec![value.len() / columns, columns];
    Parameter { name: format!("codes.{name}"), shape, value: value.to_vec(), trained: false }
}

impl<B: Backend> Codes<B> {
    /// First codes (pictures, L), and those which latents are mapped to, by number, with their classes if the mapping
    /// takes them.
    ///
    /// # Errors
    /// The device's.
    pub fn new(
        backend: &B,
        mapping: &Graph,
        values: Vec<f32>,
        mapped: Vec<usize>,
        classes: Vec<u32>,
    ) -> Result<Self> {
        let transport = Transport::new(backend, mapping, mapped.len(), classes)?;
        let size = transport.mapping.output_shape().values();
        Ok(Self { table: Table::new(values, size), transport, mapped })
    }

    /// Sets first codes, (pictures, L).
    pub(super) fn begin(&mut self, values: Vec<f32>) {
        self.table = Table::new(values, self.table.size);
    }

    /// Some codes, (N, L).
    pub fn rows(&self, numbers: &[usize]) -> Vec<f32> {
        numbers.iter().flat_map(|number| self.table.row(*number)).copied().collect()
    }

    /// At most `most` of the codes that are mapped to, evenly spread, (N, L).
    pub(super) fn some(&self, most: usize) -> Vec<f32> {
        let count = self.mapped.len();
        let shown = most.min(count);
        let chosen: Vec<usize> = (0..shown).map(|index| self.mapped[index * count / shown]).collect();
        self.rows(&chosen)
    }

    /// Moves codes against their gradients (N, L).
    pub(super) fn update(&mut self, numbers: &[usize], gradient: &[f32], rate: f64) {
        for (number, gradient) in numbers.iter().zip(gradient.chunks(self.table.size)) {
            self.table.update(*number, gradient, rate);
        }
    }

    /// Fits the mapping to the codes as they are.
    ///
    /// # Errors
    /// The device's.
    pub(super) fn fit(&mut self, share: f64) -> Result<()> {
        let codes = self.rows(&self.mapped);
        self.transport.fit(&codes, share)
    }

    /// Everything that is learned, as it is stored.
    ///
    /// # Errors
    /// The device's.
    pub(super) fn state(&self) -> Result<Vec<Parameter>> {
        let mut all = self.transport.state()?;
        let Table { values, first, second, visits, size } = &self.table;
        all.extend(
            [("values", values), ("first", first), ("second", second)]
                .map(|(name, value)| stored(name, value, *size)),
        );
        all.push(stored("visits", visits, 1));
        Ok(all)
    }

    /// Takes up such a state.
    ///
    /// # Errors
    /// The device's.
    pub(super) fn restore(&mut self, stored: &[Parameter]) -> Result<()> {
        let rest = self.transport.restore(stored)?;
        let Table { values, first, second, visits, .. } = &mut self.table;
        for (own, stored) in [values, first, second, visits].into_iter().zip(rest) {
            own.clone_from(&stored.value);
        }
        Ok(())
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

/// Codes with the state of their optimiser: Adam that moves a code when its picture is seen, and only then.
struct Table {
    /// (pictures, K), and their moments.
    values: Vec<f32>,
    first: Vec<f32>,
    second: Vec<f32>,
    /// How often each was moved.
    visits: Vec<f32>,
    /// K.
    size: usize,
}

impl Table {
    fn new(values: Vec<f32>, size: usize) -> Self {
        let zeros = vec![0f32; values.len()];
        Self { visits: vec![0.0; values.len() / size], first: zeros.clone(), second: zeros, values, size }
    }

    fn row(&self, number: usize) -> &[f32] {
        &self.values[number * self.size..][..self.size]
    }

    fn update(&mut self, number: usize, gradient: &[f32], rate: f64) {
        let range = number * self.size..(number + 1) * self.size;
        self.visits[number] += 1.0;
        let visits = f64::from(self.visits[number]);
        let scale = |decay: f64| 1.0 / (1.0 - decay.powf(visits));
        let (of_first, of_second) = (scale(DECAYS.0), scale(DECAYS.1));
        let moments = self.first[range.clone()].iter_mut().zip(&mut self.second[range.clone()]);
        let mut length = 0f32;
        for ((value, (first, second)), gradient) in
            self.values[range.clone()].iter_mut().zip(moments).zip(gradient)
        {
            let gradient = f64::from(*gradient);
            *first = (DECAYS.0 * f64::from(*first) + (1.0 - DECAYS.0) * gradient) as f32;
            *second = (DECAYS.1 * f64::from(*second) + (1.0 - DECAYS.1) * gradient * gradient) as f32;
            let root = (f64::from(*second) * of_second).sqrt() + EPSILON;
            *value -= (rate * f64::from(*first) * of_first / root) as f32;
            length += *value * *value;
        }
        let longest = LONGEST * (self.size as f32).sqrt();
        let length = length.sqrt();
        if length > longest {
            self.values[range].iter_mut().for_each(|value| *value *= longest / length);
        }
    }
}

/// First codes (N, `size`) of descriptors (N, D): their principal components, each of mean 0 and variance 1; pictures that
/// look alike begin beside each other. Zeros after the last component.
pub fn principal(descriptors: &[f32], dimension: usize, size: usize) -> Vec<f32> {
    let count = descriptors.len() / dimension;
    let rows =
        DMatrix::from_fn(count, dimension, |row, column| f64::from(descriptors[row * dimension + column]));
    let means = rows.row_mean();
    let centred = DMatrix::from_fn(count, dimension, |row, column| rows[(row, column)] - means[column]);
    let covariance = centred.transpose() * &centred / count.max(1) as f64;
    let SymmetricEigen { eigenvectors, eigenvalues } = SymmetricEigen::new(covariance);
    let mut order: Vec<usize> = (0..dimension).collect();
    order.sort_by(|a, b| eigenvalues[*b].total_cmp(&eigenvalues[*a]));
    let mut codes = vec![0f32; count * size];
    let largest = order.first().map_or(0.0, |first| eigenvalues[*first]);
    for (place, component) in order.into_iter().take(size).enumerate() {
        if eigenvalues[component] <= 1e-6 * largest {
            break;
        }
        let vector = eigenvectors.column(component);
        // a sign that does not depend on the solver
        let turned = if vector[vector.iamax()] < 0.0 { -1.0 } else { 1.0 };
        let scale = turned / eigenvalues[component].sqrt();
        let values = &centred * vector;
        values.iter().enumerate().for_each(|(row, value)| codes[row * size + place] = (value * scale) as f32);
    }
    codes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compute::Lanes;
    use crate::graph::family::{self, Architecture, NetworkConfig};

    const SIZE: usize = 6;

    fn noise(count: usize, index: u64) -> Vec<f32> {
        let mut values = vec![0f32; count];
        Stream::new(4, Purpose::Evaluation, index).fill_normal(&mut values);
        values
    }

    /// A mapping to `count` codes, three classes in turn if `classes`.
    fn codes(count: usize, classes: bool) -> Codes<Lanes> {
        let config = NetworkConfig {
            latent: SIZE,
            codes: count,
            conditional: classes,
            ..NetworkConfig::plain(Architecture::Upsample)
        };
        let mapping = family::mapping(&config, if classes { 3 } else { 0 }).unwrap().initialise(1, 0);
        let own = (0..count as u32).map(|code| if classes { code % 3 } else { 0 }).collect();
        // codes of two pictures each, of which the first is mapped to
        let values = noise(2 * count * SIZE, 1);
        Codes::new(&Lanes, &mapping, values, (0..count).map(|code| 2 * code).collect(), own).unwrap()
    }

    /// The code that each of many latents is nearest to, of those which are mapped to.
    fn reached(codes: &Codes<Lanes>, classes: Option<&[u32]>, latents: &[f32]) -> Vec<usize> {
        let found = codes.transport.mapping.infer(latents, classes).unwrap();
        let nearest = |row: &[f32]| {
            let distance = |code: &usize| -> f32 {
                codes.table.row(2 * code).iter().zip(row).map(|(a, b)| (a - b).powi(2)).sum()
            };
            (0..codes.mapped.len()).min_by(|a, b| distance(a).total_cmp(&distance(b))).unwrap()
        };
        found.chunks(SIZE).map(nearest).collect()
    }

    #[test]
    fn every_code_gets_about_the_same_share_of_the_prior() {
        let mut codes = codes(20, false);
        let latents = noise(4000 * SIZE, 2);
        let shares = |codes: &Codes<Lanes>| {
            let mut shares = vec![0usize; 20];
            reached(codes, None, &latents).into_iter().for_each(|code| shares[code] += 1);
            shares
        };
        codes.fit(0.9).unwrap();
        let after = shares(&codes);
        assert!(after.iter().all(|share| (120..=280).contains(share)), "{after:?}");
        // without biases codes further out are nearer to nothing
        codes.transport.mapping.graph.parameters_mut().nth(1).unwrap().value.fill(0.0);
        let before = shares(&codes);
        let spread = |shares: &[usize]| shares.iter().max().unwrap() - shares.iter().min().unwrap();
        assert!(spread(&before) > 3 * spread(&after), "{before:?} {after:?}");
        // and the nearest has the share that was asked for
        for wanted in [0.6, 0.9] {
            codes.fit(wanted).unwrap();
            let softmax = codes.transport.mapping.graph.nodes[1].output;
            let rows = codes.transport.mapping.infer_value(&latents, None, softmax).unwrap();
            let largest =
                rows.chunks(20).map(|row| row.iter().copied().fold(0f32, f32::max)).sum::<f32>() / 4000.0;
            assert!((f64::from(largest) - wanted).abs() < 0.05, "{wanted}: {largest}");
        }
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

    #[test]
    fn a_class_is_mapped_to_its_own_codes() {
        let mut codes = codes(30, true);
        codes.fit(0.8).unwrap();
        let classes: Vec<u32> = (0..300).map(|row| row % 3).collect();
        let latents = noise(300 * SIZE, 2);
        assert_eq!(codes.transport.mapping.graph.nodes.len(), 4, "compare, class, softmax, mean");
        let softmax = codes.transport.mapping.graph.nodes[2].output;
        let shares = codes.transport.mapping.infer_value(&latents, Some(&classes), softmax).unwrap();
        for (row, class) in shares.chunks(30).zip(&classes) {
            let own: f32 = row.iter().skip(*class as usize).step_by(3).sum();
            assert!((own - 1.0).abs() < 1e-5, "{class}: {own}");
        }
    }

    #[test]
    fn a_code_moves_when_its_picture_is_seen_and_stays_in_bounds() {
        let mut codes = codes(4, false);
        let before = codes.table.values.clone();
        codes.update(&[3], &[1.0; SIZE], 0.1);
        let moved: Vec<usize> =
            (0..8).filter(|code| codes.table.row(*code) != &before[code * SIZE..][..SIZE]).collect();
        assert_eq!(moved, [3]);
        let step = before[3 * SIZE] - codes.table.row(3)[0];
        assert!((step - 0.1).abs() < 1e-4, "Adam's first step has the length of the rate: {step}");
        (0..200).for_each(|_| codes.update(&[3], &[-1.0; SIZE], 0.1));
        let length = codes.table.row(3).iter().map(|value| value * value).sum::<f32>().sqrt();
        assert!((length - LONGEST * (SIZE as f32).sqrt()).abs() < 1e-3, "{length}");
    }

    #[test]
    fn a_state_is_taken_up_whole() {
        let mut first = codes(5, false);
        first.update(&[0, 4], &noise(2 * SIZE, 5), 0.1);
        first.fit(0.8).unwrap();
        let mut second = codes(5, false);
        second.restore(&first.state().unwrap()).unwrap();
        let values = |codes: &Codes<Lanes>| -> Vec<Vec<f32>> {
            codes.state().unwrap().into_iter().map(|parameter| parameter.value).collect()
        };
        assert_eq!(values(&first), values(&second));
    }

    /// Principal components are uncorrelated, of variance 1, and keep neighbours together.
    #[test]
    fn first_codes_are_principal_components() {
        let (count, dimension) = (300, 8);
        let mut rows = noise(count * dimension, 7);
        // a direction that stands out
        rows.chunks_mut(dimension).for_each(|row| row[3] = 10.0 * row[3] + row[1]);
        let codes = principal(&rows, dimension, 4);
        for a in 0..4 {
            for b in 0..4 {
                let dot: f32 = codes.chunks(4).map(|row| row[a] * row[b]).sum::<f32>() / count as f32;
                let expected = if a == b { 1.0 } else { 0.0 };
                assert!((dot - expected).abs() < 1e-3, "{a} {b}: {dot}");
            }
        }
        let along: f32 = codes.chunks(4).zip(rows.chunks(dimension)).map(|(c, r)| c[0] * r[3]).sum();
        assert!(along.abs() > 9.0 * count as f32, "the first component lies along it: {along}");
        // more components than there are
        let few = principal(&rows[..3 * dimension], dimension, 5);
        assert!(few.chunks(5).all(|row| row[2..].iter().all(|value| *value == 0.0)), "{few:?}");
    }
}
