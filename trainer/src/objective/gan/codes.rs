//! Codes: each real picture has a latent of its own, which is learned together with the generator that draws the picture
//! of it (generative latent optimisation, P. Bojanowski et al., 2018): so every picture is drawn sharply, however few there
//! are. A [`Transport`] brings the prior to where codes lie.

use nalgebra::{DMatrix, SymmetricEigen};

use crate::Result;
use crate::compute::Backend;
use crate::graph::{Graph, Parameter};
use crate::objective::transport::Transport;

/// Decays of the moments of codes.
const DECAYS: (f64, f64) = (0.9, 0.99);
const EPSILON: f64 = 1e-8;
/// Longest code, as a multiple of what normal values have.
const LONGEST: f32 = 1.5;

/// The codes of some pictures, and the mapping to them.
pub struct Codes<B: Backend> {
    /// The mapping.
    pub transport: Transport<B>,
    table: Table,
    /// The codes that are mapped to, by number.
    mapped: Vec<usize>,
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
    use crate::random::{Purpose, Stream};

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
