//! Distances between two sets of features, in f64.
//!
//! - the Fréchet distance of Heusel et al. 2017 ("GANs trained by a two time-scale update rule converge to a
//!   local Nash equilibrium"), with a bootstrap spread;
//! - the kernel distance of Bińkowski et al. 2018 ("Demystifying MMD GANs"), which has no bias;
//! - precision and recall of Kynkäänniemi et al. 2019 ("Improved precision and recall metric for assessing
//!   generative models"), density and coverage of Naeem et al. 2020 ("Reliable fidelity and diversity
//!   metrics for generative models").
//!
//! Every figure depends on the features and a seed alone, not on the number of threads.

use std::ops::Range;

use crate::random::{Purpose, Stream};
use nalgebra::{DMatrix, DVector};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::features::Features;
use super::pairs::{map_distances, smallest, transposed, wide};
use crate::{Error, Result};

/// Longest rows whose covariance is computed: 128 MiB.
pub const LONGEST_ROWS: usize = 4096;
/// Neighbours whose distance is a radius in precision and recall: Kynkäänniemi et al. 2019.
pub const PRECISION_NEIGHBOURS: usize = 3;
/// The same in density and coverage: Naeem et al. 2020.
pub const DENSITY_NEIGHBOURS: usize = 5;
/// Subsets of the kernel distance: those of Bińkowski et al. 2018.
pub const SUBSETS: usize = 100;
/// Rows of each side in a subset, where there are as many.
pub const SUBSET: usize = 1000;
/// Rows of one step of a covariance.
const ROWS: usize = 512;
/// Parts of a covariance that are summed at once; a fixed number, so that the sum has always the same order.
const PARTS: usize = 4;

// which numbers of `Purpose::Evaluation` are drawn here: pictures' indices stay below
const BOOTSTRAP: u64 = 1 << 32;
const SUBSET_OF_FIRST: u64 = 2 << 32;
const SUBSET_OF_SECOND: u64 = 3 << 32;
const HALVES: u64 = 4 << 32;

/// Mean and covariance of rows.
#[derive(Clone, Debug, PartialEq)]
pub struct Moments {
    /// Rows.
    pub count: usize,
    /// (D).
    pub mean: Vec<f64>,
    /// (D, D): unbiased, that is, divided by N − 1.
    pub covariance: Vec<f64>,
}

impl Moments {
    /// The moments of `features`.
    ///
    /// # Errors
    /// [`Error::Config`] for fewer than two rows, or rows longer than [`LONGEST_ROWS`].
    pub fn of(features: &Features) -> Result<Self> {
        check_rows(features)?;
        let (count, dimension) = (features.count(), features.dimension);
        let mean = weighted_mean(features, None);
        let part = count.div_ceil(PARTS);
        let parts: Vec<DMatrix<f64>> = (0..PARTS)
            .into_par_iter()
            .map(|index| {
                scatter(features, (index * part).min(count)..((index + 1) * part).min(count), &mean, None)
            })
            .collect();
        let sum = parts.into_iter().fold(DMatrix::zeros(dimension, dimension), |sum, part| sum + part);
        Ok(Self::from_scatter(count, mean, sum))
    }

    /// The moments of `features` with row i counted `weights[i]` times.
    fn weighted(features: &Features, weights: &[u32]) -> Self {
        let mean = weighted_mean(features, Some(weights));
        let scatter = scatter(features, 0..features.count(), &mean, Some(weights));
        Self::from_scatter(weights.iter().map(|weight| *weight as usize).sum(), mean, scatter)
    }

    fn from_scatter(count: usize, mean: Vec<f64>, scatter: DMatrix<f64>) -> Self {
        let covariance = scatter.as_slice().iter().map(|value| value / (count as f64 - 1.0)).collect();
        Self { count, mean, covariance }
    }

    fn trace(&self) -> f64 {
        self.covariance.iter().step_by(self.mean.len() + 1).sum()
    }
}

fn check_rows(features: &Features) -> Result<()> {
    if features.count() < 2 {
        let problem = format!("{} pictures have no covariance: at least 2 are needed", features.count());
        return Err(Error::Config(problem));
    }
    if features.dimension > LONGEST_ROWS {
        let problem = format!(
            "features of {} values are too many for a covariance: at most {LONGEST_ROWS}; choose another output with --feature-output",
            features.dimension
        );
        return Err(Error::Config(problem));
    }
    Ok(())
}

fn weight_of(weights: Option<&[u32]>, index: usize) -> f64 {
    weights.map_or(1.0, |weights| f64::from(weights[index]))
}

fn weighted_mean(features: &Features, weights: Option<&[u32]>) -> Vec<f64> {
    let (mut sums, mut total) = (vec![0f64; features.dimension], 0.0);
    for (index, row) in features.values.chunks(features.dimension).enumerate() {
        let weight = weight_of(weights, index);
        total += weight;
        sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += weight * f64::from(*value));
    }
    sums.into_iter().map(|sum| sum / total).collect()
}

/// Σ weight · (row − mean)(row − mean)ᵀ over `rows`: (D, D).
fn scatter(features: &Features, rows: Range<usize>, mean: &[f64], weights: Option<&[u32]>) -> DMatrix<f64> {
    let dimension = features.dimension;
    let mut sum = DMatrix::zeros(dimension, dimension);
    let mut block = Vec::with_capacity(ROWS * dimension);
    let mut add = |block: &mut Vec<f64>| {
        let columns = transposed(block, block.len() / dimension, dimension);
        sum.gemm(1.0, &columns, &columns.transpose(), 1.0);
        block.clear();
    };
    for index in rows {
        let weight = weight_of(weights, index);
        if weight > 0.0 {
            let root = weight.sqrt();
            block.extend(features.row(index).iter().zip(mean).map(|(v, mean)| root * (f64::from(*v) - mean)));
        }
        if block.len() == ROWS * dimension {
            add(&mut block);
        }
    }
    if !block.is_empty() {
        add(&mut block);
    }
    sum
}

/// The Fréchet distance between the normal distributions that have these moments:
/// ‖μ₁ − μ₂‖² + Tr(Σ₁ + Σ₂ − 2 (Σ₁Σ₂)^½) (Dowson and Landau 1982; squared, as the literature reports it).
///
/// # Errors
/// [`Error::Config`] if the rows differ in length.
pub fn frechet(first: &Moments, second: &Moments) -> Result<f64> {
    Root::of(first).distance(second)
}

/// One side of a Fréchet distance, ready for many others.
///
/// Σ = R Rᵀ by its eigenvalues and eigenvectors; those that are 0 within rounding are left out, so that
/// R is (D, rank). Tr (Σ Σ₂)^½ is then the sum of the roots of the eigenvalues of Rᵀ Σ₂ R, which is
/// symmetric and has none below 0 but for rounding, whatever the ranks.
pub struct Root {
    mean: Vec<f64>,
    trace: f64,
    root: DMatrix<f64>,
}

impl Root {
    /// Takes the root of a covariance.
    pub fn of(moments: &Moments) -> Self {
        let dimension = moments.mean.len();
        let covariance = DMatrix::from_column_slice(dimension, dimension, &moments.covariance);
        let decomposition = covariance.symmetric_eigen();
        let largest = decomposition.eigenvalues.iter().copied().fold(0.0, f64::max);
        let threshold = largest * dimension as f64 * f64::EPSILON;
        let kept: Vec<usize> =
            (0..dimension).filter(|index| decomposition.eigenvalues[*index] > threshold).collect();
        let mut root = decomposition.eigenvectors.select_columns(&kept);
        for (index, mut column) in kept.iter().zip(root.column_iter_mut()) {
            column *= decomposition.eigenvalues[*index].sqrt();
        }
        Self { mean: moments.mean.clone(), trace: moments.trace(), root }
    }

    /// Rank of the covariance.
    pub fn rank(&self) -> usize {
        self.root.ncols()
    }

    /// The Fréchet distance to `other`; see [`frechet`]. What rounding takes below 0 is 0.
    ///
    /// # Errors
    /// [`Error::Config`] if the rows differ in length.
    pub fn distance(&self, other: &Moments) -> Result<f64> {
        let dimension = self.mean.len();
        if other.mean.len() != dimension {
            let problem = format!("features of {dimension} and {} values have no distance", other.mean.len());
            return Err(Error::Config(problem));
        }
        let means = DVector::from_column_slice(&self.mean) - DVector::from_column_slice(&other.mean);
        let mut common = 0.0;
        if self.rank() > 0 {
            let product = transposed(&other.covariance, dimension, dimension) * &self.root; // symmetric
            let inner = self.root.transpose() * product;
            common = inner.symmetric_eigenvalues().iter().map(|value| value.max(0.0).sqrt()).sum();
        }
        Ok((means.norm_squared() + self.trace + other.trace() - 2.0 * common).max(0.0))
    }
}

/// How far a Fréchet distance moves with the samples.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bootstrap {
    /// Standard deviation over the resamples.
    pub deviation: f64,
    /// Their mean. Resampling repeats rows, so it lies above the distance itself.
    pub mean: f64,
    /// Resamples.
    pub resamples: usize,
}

/// Fréchet distances of `resamples` sets that are drawn from `samples` with replacement, each as large as
/// `samples`, to a reference that stays as it is (Efron 1979). `None` for fewer than two resamples.
///
/// # Errors
/// As [`Moments::of`] and [`Root::distance`].
pub fn bootstrap(
    reference: &Root,
    samples: &Features,
    resamples: usize,
    seed: u64,
    done: &(dyn Fn(usize) + Sync),
) -> Result<Option<Bootstrap>> {
    check_rows(samples)?;
    let count = u32::try_from(samples.count())
        .map_err(|_| Error::Config("more than 2^32 samples are not resampled".into()))?;
    if resamples < 2 {
        return Ok(None);
    }
    let distances: Vec<f64> = (0..resamples)
        .into_par_iter()
        .map(|index| {
            let mut stream = Stream::new(seed, Purpose::Evaluation, BOOTSTRAP + index as u64);
            let mut weights = vec![0u32; count as usize];
            (0..count).for_each(|_| weights[stream.below(count) as usize] += 1);
            let distance = reference.distance(&Moments::weighted(samples, &weights));
            done(1);
            distance
        })
        .collect::<Result<_>>()?;
    let (mean, deviation) = mean_and_deviation(&distances);
    Ok(Some(Bootstrap { deviation, mean, resamples }))
}

/// The Fréchet distance between two random halves of `features`, ⌊N / 2⌋ rows each: what two sets of one
/// distribution and that size are apart by chance.
///
/// # Errors
/// As [`Moments::of`].
pub fn between_halves(features: &Features, seed: u64) -> Result<f64> {
    let half = features.count() / 2;
    let rows = draw(features.count(), 2 * half, &mut Stream::new(seed, Purpose::Evaluation, HALVES));
    let moments = |rows: &[usize]| {
        let values = rows.iter().flat_map(|row| features.row(*row)).copied().collect();
        Moments::of(&Features { values, dimension: features.dimension })
    };
    frechet(&moments(&rows[..half])?, &moments(&rows[half..])?)
}

/// `number` of the numbers 0..count in random order.
fn draw(count: usize, number: usize, stream: &mut Stream) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    for place in 0..number {
        let rest = u32::try_from(count - place).unwrap_or(u32::MAX);
        order.swap(place, place + stream.below(rest) as usize);
    }
    order.truncate(number);
    order
}

/// Mean and standard deviation (N − 1).
pub(super) fn mean_and_deviation(values: &[f64]) -> (f64, f64) {
    let count = values.len().max(1) as f64;
    let mean = values.iter().sum::<f64>() / count;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (mean, (squares / (count - 1.0).max(1.0)).sqrt())
}

/// A kernel distance, over random subsets.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct KernelDistance {
    /// Mean of the unbiased squared maximum mean discrepancy; below 0 for sets that are alike, by chance.
    pub mean: f64,
    /// Standard deviation over the subsets: of one subset, not of the mean.
    pub deviation: f64,
    /// Subsets.
    pub subsets: usize,
    /// Rows of each side in a subset.
    pub subset_size: usize,
}

/// The kernel distance of Bińkowski et al. 2018: the unbiased estimate of MMD² (Gretton et al. 2012, eq. 3)
/// with k(x, y) = (x·y / D + 1)³, over `subsets` random subsets of `size` rows of each side.
///
/// # Errors
/// [`Error::Config`] if the rows differ in length, a side has fewer than `size` rows, or there are fewer than two
/// rows or no subset.
pub fn kernel_distance(
    first: &Features,
    second: &Features,
    subsets: usize,
    size: usize,
    seed: u64,
    done: &(dyn Fn(usize) + Sync),
) -> Result<KernelDistance> {
    let dimension = first.dimension;
    if second.dimension != dimension || size < 2 || subsets == 0 || first.count().min(second.count()) < size {
        return Err(Error::Config(format!(
            "no kernel distance of {} rows of {dimension} and {} rows of {} over {subsets} subsets of {size}",
            first.count(),
            second.count(),
            second.dimension
        )));
    }
    let subset = |features: &Features, purpose: u64, index: usize| {
        let mut stream = Stream::new(seed, Purpose::Evaluation, purpose + index as u64);
        let rows = draw(features.count(), size, &mut stream);
        rows.into_iter().flat_map(|row| wide(features.row(row))).collect::<Vec<f64>>()
    };
    let estimates: Vec<f64> = (0..subsets)
        .into_par_iter()
        .map(|index| {
            let (x, y) = (subset(first, SUBSET_OF_FIRST, index), subset(second, SUBSET_OF_SECOND, index));
            let kernel = |left: &[f64], right: &[f64]| {
                let left = transposed(left, size, dimension).transpose();
                let products = left * transposed(right, size, dimension);
                products.map(|product| (product / dimension as f64 + 1.0).powi(3))
            };
            let apart = |kernel: DMatrix<f64>| kernel.sum() - kernel.trace();
            let (pairs, all) = ((size * (size - 1)) as f64, (size * size) as f64);
            let within = apart(kernel(&x, &x)) / pairs + apart(kernel(&y, &y)) / pairs;
            let estimate = within - 2.0 * kernel(&x, &y).sum() / all;
            done(1);
            estimate
        })
        .collect();
    let (mean, deviation) = mean_and_deviation(&estimates);
    Ok(KernelDistance { mean, deviation, subsets, subset_size: size })
}

/// How much of each set lies within the other's.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifolds {
    /// Share of the samples that lie within the reference's balls.
    pub precision: f64,
    /// Share of the reference that lies within the samples' balls.
    pub recall: f64,
    /// Reference balls that a sample lies in, over the number that is expected.
    pub density: f64,
    /// Share of the reference's balls that a sample lies in.
    pub coverage: f64,
    /// Rows of each side that were compared.
    pub rows: usize,
}

/// Precision, recall, density and coverage of `samples` against `reference`. A row's ball reaches to its k-th
/// nearest neighbour in its own set: [`PRECISION_NEIGHBOURS`] for precision and recall, [`DENSITY_NEIGHBOURS`]
/// for density and coverage.
///
/// # Errors
/// [`Error::Config`] if the rows differ in length, or a side has no more than [`DENSITY_NEIGHBOURS`] rows.
pub fn manifolds(samples: &Features, reference: &Features) -> Result<Manifolds> {
    let fewest = samples.count().min(reference.count());
    if samples.dimension != reference.dimension || fewest <= DENSITY_NEIGHBOURS {
        return Err(Error::Config(format!(
            "precision and recall need more than {DENSITY_NEIGHBOURS} rows of the same length on each side"
        )));
    }
    // (small, large) radius of each row's balls, squared
    let radii = |features: &Features| {
        map_distances(features, features, |index, distances| {
            let nearest = smallest(distances, DENSITY_NEIGHBOURS, Some(index));
            (nearest[PRECISION_NEIGHBOURS - 1].1, nearest[DENSITY_NEIGHBOURS - 1].1)
        })
    };
    let (sample_radii, reference_radii) = (radii(samples), radii(reference));
    let of_samples = map_distances(samples, reference, |_, distances| {
        let balls = distances.iter().zip(&reference_radii);
        let within = balls.clone().any(|(distance, (small, _))| distance <= small);
        (within, balls.filter(|(distance, (_, large))| **distance <= *large).count())
    });
    let of_reference = map_distances(reference, samples, |index, distances| {
        let within = distances.iter().zip(&sample_radii).any(|(distance, (small, _))| distance <= small);
        let (_, large) = reference_radii[index];
        (within, distances.iter().any(|distance| *distance <= large))
    });
    let share = |count: usize, of: usize| count as f64 / of as f64;
    let balls: usize = of_samples.iter().map(|(_, balls)| balls).sum();
    Ok(Manifolds {
        precision: share(of_samples.iter().filter(|(within, _)| *within).count(), samples.count()),
        recall: share(of_reference.iter().filter(|(within, _)| *within).count(), reference.count()),
        density: share(balls, DENSITY_NEIGHBOURS * samples.count()),
        coverage: share(of_reference.iter().filter(|(_, covered)| *covered).count(), reference.count()),
        rows: fewest,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rounding of eigenvalues near 0, whose roots are summed: √ε times the largest, a few at most.
    const ROUNDING: f64 = 1e-6;

    fn normal(count: usize, dimension: usize, index: u64) -> Features {
        let mut values = vec![0.0; count * dimension];
        Stream::new(3, Purpose::Evaluation, index).fill_normal(&mut values);
        Features { values, dimension }
    }

    fn moments(mean: &[f64], covariance: &[f64]) -> Moments {
        Moments { count: 10, mean: mean.to_vec(), covariance: covariance.to_vec() }
    }

    #[test]
    fn moments_are_those_of_the_definition() {
        let features = normal(ROWS * PARTS + 5, 3, 0);
        let found = Moments::of(&features).unwrap();
        let count = features.count() as f64;
        for i in 0..3 {
            let mean =
                |i: usize| (0..features.count()).map(|n| f64::from(features.row(n)[i])).sum::<f64>() / count;
            assert!((found.mean[i] - mean(i)).abs() < 1e-12);
            for j in 0..3 {
                let apart = |n: usize, i: usize| f64::from(features.row(n)[i]) - mean(i);
                let sum: f64 = (0..features.count()).map(|n| apart(n, i) * apart(n, j)).sum();
                assert!((found.covariance[3 * i + j] - sum / (count - 1.0)).abs() < 1e-12);
            }
        }
        // a row that counts twice is a row that is there twice
        let few = normal(4, 3, 1);
        let weighted = Moments::weighted(&few, &[2, 0, 1, 1]);
        let rows: Vec<f32> = [0, 0, 2, 3].iter().flat_map(|index| few.row(*index)).copied().collect();
        let repeated = Moments::of(&Features { values: rows, dimension: 3 }).unwrap();
        assert_eq!(weighted.count, 4);
        let pairs = weighted.covariance.iter().zip(&repeated.covariance);
        assert!(pairs.chain(weighted.mean.iter().zip(&repeated.mean)).all(|(a, b)| (a - b).abs() < 1e-12));
    }

    #[test]
    fn frechet_distances_of_normal_distributions_are_known() {
        // one dimension: (μ₁ − μ₂)² + (σ₁ − σ₂)²
        let one = |mean, deviation: f64| moments(&[mean], &[deviation * deviation]);
        assert!((frechet(&one(1.0, 2.0), &one(-2.0, 5.0)).unwrap() - 18.0).abs() < 1e-12);
        assert!(frechet(&one(1.0, 2.0), &one(1.0, 2.0)).unwrap() < 1e-12);
        // covariances that commute: Σ (√λ₁ − √λ₂)² along the common axes, here turned by 30°
        let (c, s) = (0.75f64.sqrt(), 0.5);
        let turned =
            |a: f64, b: f64| [c * c * a + s * s * b, c * s * (a - b), c * s * (a - b), s * s * a + c * c * b];
        let (first, second) =
            (moments(&[0.0; 2], &turned(4.0, 9.0)), moments(&[3.0, 4.0], &turned(1.0, 16.0)));
        assert!((frechet(&first, &second).unwrap() - (25.0 + 1.0 + 1.0)).abs() < 1e-10);
        // covariances that don't: Tr (Σ₁Σ₂)^½ = √(Tr Σ₁Σ₂ + 2 √det Σ₁Σ₂) in two dimensions
        let (first, second) =
            (moments(&[0.0; 2], &[2.0, 1.0, 1.0, 3.0]), moments(&[0.0; 2], &[5.0, -1.0, -1.0, 1.0]));
        let (trace_of_product, determinant) = (2.0 * 5.0 - 1.0 - 1.0 + 3.0, 5.0 * 4.0);
        let common = (trace_of_product + 2.0 * f64::sqrt(determinant)).sqrt();
        assert!((frechet(&first, &second).unwrap() - (5.0 + 6.0 - 2.0 * common)).abs() < 1e-12);
        assert!((frechet(&second, &first).unwrap() - (5.0 + 6.0 - 2.0 * common)).abs() < 1e-12);
        // without any spread only the means are left
        let point = moments(&[1.0, 1.0], &[0.0; 4]);
        assert!((frechet(&point, &moments(&[0.0, 0.0], &[0.0; 4])).unwrap() - 2.0).abs() < 1e-12);
        assert!((frechet(&point, &first).unwrap() - frechet(&first, &point).unwrap()).abs() < 1e-12);
        assert!(frechet(&point, &one(0.0, 1.0)).is_err());
    }

    #[test]
    fn covariances_of_few_rows_are_no_trouble() {
        let features = normal(10, 40, 0);
        let moments = Moments::of(&features).unwrap();
        assert_eq!(Root::of(&moments).rank(), 9);
        assert!(frechet(&moments, &moments).unwrap() < ROUNDING);
        let shifted =
            Features { values: features.values.iter().map(|value| value + 0.5).collect(), dimension: 40 };
        let distance = frechet(&moments, &Moments::of(&shifted).unwrap()).unwrap();
        assert!((distance - 40.0 * 0.25).abs() < 1e-5, "{distance}");
        let full = Moments::of(&normal(500, 40, 1)).unwrap();
        let (there, back) = (frechet(&moments, &full).unwrap(), frechet(&full, &moments).unwrap());
        assert!((there - back).abs() < ROUNDING * there, "{there} {back}");
        assert!(Moments::of(&normal(1, 40, 0)).is_err());
        assert!(Moments::of(&normal(2, LONGEST_ROWS + 1, 0)).is_err());
    }

    #[test]
    fn the_bootstrap_spread_is_that_of_other_samples() {
        let reference = Root::of(&Moments::of(&normal(5000, 4, 0)).unwrap());
        let spread = bootstrap(&reference, &normal(400, 4, 1), 40, 0, &|_| {}).unwrap().unwrap();
        let fresh: Vec<f64> = (0..40)
            .map(|index| reference.distance(&Moments::of(&normal(400, 4, 100 + index)).unwrap()).unwrap())
            .collect();
        let (_, deviation) = mean_and_deviation(&fresh);
        assert!((0.4..2.5).contains(&(spread.deviation / deviation)), "{spread:?} against {deviation}");
        let halves = between_halves(&normal(800, 4, 2), 0).unwrap();
        assert!(halves > 0.0 && halves < 4.0 * fresh.iter().copied().fold(0.0, f64::max), "{halves}");
        assert_eq!(bootstrap(&reference, &normal(400, 4, 1), 1, 0, &|_| {}).unwrap(), None);
    }

    #[test]
    fn kernel_distances_are_those_of_the_definition() {
        let (x, y) = (normal(6, 3, 0), normal(6, 3, 1));
        let found = kernel_distance(&x, &y, 2, 6, 0, &|_| {}).unwrap();
        let kernel = |a: &[f32], b: &[f32]| {
            let product: f64 = a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
            (product / 3.0 + 1.0).powi(3)
        };
        let mut expected = 0.0;
        for i in 0..6 {
            for j in 0..6 {
                if i != j {
                    expected += (kernel(x.row(i), x.row(j)) + kernel(y.row(i), y.row(j))) / 30.0;
                }
                expected -= 2.0 * kernel(x.row(i), y.row(j)) / 36.0;
            }
        }
        assert!((found.mean - expected).abs() < 1e-12 && found.deviation < 1e-12, "{found:?} {expected}");
        // unbiased: sets of one distribution are 0 apart within their spread, others are not
        let (x, y) = (normal(2000, 8, 2), normal(2000, 8, 3));
        let same = kernel_distance(&x, &y, 50, 200, 0, &|_| {}).unwrap();
        assert!(same.mean.abs() < 3.0 * same.deviation / 10f64.sqrt(), "{same:?}");
        let shifted = Features { values: y.values.iter().map(|value| value + 1.0).collect(), dimension: 8 };
        let apart = kernel_distance(&x, &shifted, 50, 200, 0, &|_| {}).unwrap();
        assert!(apart.mean > 10.0 * apart.deviation, "{apart:?}");
        assert!(kernel_distance(&x, &normal(10, 8, 0), 1, 11, 0, &|_| {}).is_err());
        assert!(kernel_distance(&x, &normal(2000, 7, 0), 1, 11, 0, &|_| {}).is_err());
    }

    #[test]
    fn balls_are_counted_as_by_hand() {
        // reference on a line with gaps of 1; radii: 3rd neighbour, 5th neighbour
        let line = |values: &[f32]| Features { values: values.to_vec(), dimension: 1 };
        let reference = line(&[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
        assert_eq!(
            manifolds(&reference, &reference).unwrap(),
            Manifolds { precision: 1.0, recall: 1.0, density: 1.2, coverage: 1.0, rows: 6 }
        );
        // all samples in one place, inside: precise, but nothing is recalled that is not there
        let one = manifolds(&line(&[2.0; 8]), &reference).unwrap();
        assert_eq!((one.precision, one.recall, one.coverage), (1.0, 1.0 / 6.0, 1.0));
        let far = manifolds(&line(&[100.0, 101.0, 102.0, 103.0, 104.0, 105.0]), &reference).unwrap();
        assert_eq!((far.precision, far.recall, far.density, far.coverage), (0.0, 0.0, 0.0, 0.0));
        assert!(manifolds(&line(&[1.0; 5]), &reference).is_err());
    }

    /// The figures are scipy's and numpy's, of n rows of 4 values:
    ///
    ///     A = np.array([[2., 1, 0, 0], [0, 1, -1, 2], [1, 0, 3, 0], [0, 2, 0, 1]])
    ///     B = np.array([[1., 0, 2, 0], [1, 3, 0, 0], [0, 1, 1, -1], [2, 0, 0, 2]])
    ///     s1, s2, d = A @ A.T, B @ B.T, np.array([1., 0, 2, -1]) - [0, 1, 1, 3]
    ///     (d**2).sum() + np.trace(s1 + s2 - 2 * scipy.linalg.sqrtm(s1 @ s2).real)
    ///     low = A[:, :2] @ A[:, :2].T  # of rank 2
    ///     root = np.sqrt(np.sort(np.linalg.eigvals(low @ s2).real)[-2:]).sum()  # the others are 0
    ///     (d**2).sum() + np.trace(low + s2) - 2 * root
    ///     x = np.array([[(3*i + j*j) % 7 for j in range(4)] for i in range(12)], float)
    ///     y = np.array([[(5*i + 2*j + i*j) % 9 for j in range(4)] for i in range(12)], float)
    ///     a, b, n = np.cov(x.T), np.cov(y.T), 12
    ///     root = np.sqrt(np.linalg.eigvals(a @ b).astype(complex)).real.sum()
    ///     ((x.mean(0) - y.mean(0))**2).sum() + np.trace(a + b) - 2 * root
    ///     k = lambda p, q: (p @ q.T / 4 + 1)**3
    ///     apart = lambda m: (m.sum() - np.trace(m)) / (n * (n - 1))
    ///     apart(k(x, x)) + apart(k(y, y)) - 2 * k(x, y).mean()
    #[test]
    fn distances_are_those_of_scipy() {
        let close = |found: f64, expected: f64| {
            assert!((found - expected).abs() < 1e-9 * expected, "{found} {expected}");
        };
        let s1 = [5., 1., 2., 2., 1., 6., -3., 4., 2., -3., 10., 0., 2., 4., 0., 5.];
        let s2 = [5., 1., 2., 2., 1., 10., 3., 2., 2., 3., 3., -2., 2., 2., -2., 8.];
        let low = [5., 1., 2., 2., 1., 1., 0., 2., 2., 0., 1., 0., 2., 2., 0., 4.];
        let second = moments(&[0., 1., 1., 3.], &s2);
        close(frechet(&moments(&[1., 0., 2., -1.], &s1), &second).unwrap(), 29.346434217519466);
        close(frechet(&moments(&[1., 0., 2., -1.], &low), &second).unwrap(), 29.516243642601637);
        let rows = |value: &dyn Fn(usize, usize) -> usize| Features {
            values: (0..48).map(|at| value(at / 4, at % 4) as f32).collect(),
            dimension: 4,
        };
        let x = rows(&|i, j| (3 * i + j * j) % 7);
        let y = rows(&|i, j| (5 * i + 2 * j + i * j) % 9);
        close(frechet(&Moments::of(&x).unwrap(), &Moments::of(&y).unwrap()).unwrap(), 12.757981230269579);
        close(kernel_distance(&x, &y, 3, 12, 0, &|_| {}).unwrap().mean, 3939.404770359849);
    }

    /// The figures are numpy's:
    ///
    ///     r = np.array([[100*i + i*j % 5, 100*j + (i + 2*j) % 7] for i in range(6) for j in range(6)], float)
    ///     s = np.concatenate([r[::2] * [0.5, 1] + [310, 140], r[::3] * 0.25 + [40, 900]])
    ///     d = lambda p, q: np.sqrt(((p[:, None] - q[None])**2).sum(2))
    ///     radius = lambda p, k: np.sort(d(p, p), axis=1)[:, k]
    ///     c, large = d(s, r), d(s, r) <= radius(r, 5)[None]
    ///     (c <= radius(r, 3)[None]).any(1).sum() / 30, (c <= radius(s, 3)[:, None]).any(0).sum() / 36
    ///     large.sum() / (5 * 30), large.any(0).sum() / 36
    #[test]
    fn manifolds_are_those_of_numpy() {
        let grid: Vec<[f32; 2]> = (0..36)
            .map(|at| (at / 6, at % 6))
            .map(|(i, j)| [(100 * i + i * j % 5) as f32, (100 * j + (i + 2 * j) % 7) as f32])
            .collect();
        let inside = grid.iter().step_by(2).map(|[x, y]| [0.5 * x + 310.0, y + 140.0]);
        let outside = grid.iter().step_by(3).map(|[x, y]| [0.25 * x + 40.0, 0.25 * y + 900.0]);
        let samples: Vec<[f32; 2]> = inside.chain(outside).collect();
        let features = |rows: &[[f32; 2]]| Features { values: rows.concat(), dimension: 2 };
        let found = manifolds(&features(&samples), &features(&grid)).unwrap();
        let expected = Manifolds {
            precision: 18.0 / 30.0,
            recall: 21.0 / 36.0,
            density: 80.0 / 150.0,
            coverage: 23.0 / 36.0,
            rows: 30,
        };
        assert_eq!(found, expected);
    }
}
