//! Matching (implicit maximum likelihood estimation, K. Li and J. Malik, 2018; with the rejection of C. Vashist et al.,
//! 2024, "RS-IMLE"): at every so many steps a pool of latents is drawn, and each real picture takes the sample that is
//! nearest to it; then the generator draws these samples to their pictures. No real picture is left out, so nothing
//! collapses, and there is no adversary that could win.

use edgegen_runtime::random::Stream;
use nalgebra::{DMatrix, DMatrixView};

use crate::Result;
use crate::compute::{Backend, Network, Statistics};
use crate::graph::teacher::{DESCRIPTOR, Teacher};

/// Pictures of one pass through the teacher.
const BATCH: usize = 128;
/// Real pictures whose distances to the pool are held at once.
const HELD: usize = 64;
/// Weight of the mean length of the colours' differences beside the features' squared distance.
const COLOUR: f32 = 0.5;

/// A teacher on a back end.
pub struct Matcher<B: Backend> {
    network: Network<B>,
    taps: Vec<usize>,
    descriptor: usize,
}

/// How a pool is drawn and matched.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// Samples that are nearer to a real picture than this share of the pool's median are left out.
    pub rejection: f64,
    /// Whether a sample is taken by one real picture at most.
    pub distinct: bool,
}

impl<B: Backend> Matcher<B> {
    /// Puts a teacher on a back end.
    ///
    /// # Errors
    /// The device's.
    pub fn new(backend: &B, teacher: &Teacher) -> Result<Self> {
        let network = Network::new(backend, &teacher.graph)?;
        Ok(Self { network, taps: teacher.taps.clone(), descriptor: teacher.descriptor })
    }

    /// Descriptors (N, [`DESCRIPTOR`]) of pictures (N, C, H, W).
    ///
    /// # Errors
    /// The device's.
    pub fn describe(&self, pictures: &[f32]) -> Result<Vec<f32>> {
        let size = self.network.input_shape().values();
        let mut all = Vec::with_capacity(pictures.len() / size * DESCRIPTOR);
        for batch in pictures.chunks(BATCH * size) {
            all.extend(self.network.infer_value(batch, None, self.descriptor)?);
        }
        Ok(all)
    }

    /// Descriptors of what `generator` draws of rows of latents and their classes.
    ///
    /// # Errors
    /// The device's.
    pub fn describe_drawn(
        &self,
        generator: &Network<B>,
        latents: &[f32],
        classes: Option<&[u32]>,
    ) -> Result<Vec<f32>> {
        let (backend, latent) = (generator.backend(), generator.input_shape().values());
        let mut all = Vec::with_capacity(latents.len() / latent * DESCRIPTOR);
        for (index, rows) in latents.chunks(BATCH * latent).enumerate() {
            let own = classes.map(|classes| &classes[index * BATCH..][..rows.len() / latent]);
            let x = backend.tensor(rows, generator.input_shape())?;
            let drawn = generator.infer_tensor(x, own, generator.graph.output())?;
            all.extend(backend.rows(&self.network.infer_tensor(drawn, None, self.descriptor)?)?);
        }
        Ok(all)
    }

    /// How unlike drawn pictures are to real ones, pair by pair, on average; with the gradient for the drawn ones.
    ///
    /// # Errors
    /// The device's.
    pub fn loss(&self, drawn: &B::Tensor, real: B::Tensor) -> Result<(f64, B::Tensor)> {
        let backend = self.network.backend();
        let count = backend.count(drawn);
        let record = |x: B::Tensor| self.network.record(x, None, &self.taps, Statistics::Running, &[]);
        let (targets, _) = record(real.clone())?;
        let (found, pass) = record(drawn.clone())?;
        let (mut loss, mut seeds) = (0.0, Vec::new());
        for ((tap, found), target) in self.taps.iter().zip(found).zip(targets) {
            let difference = backend.add(found, -1.0, &target)?;
            let share = 1.0 / (backend.shape(&difference).pixels() * count) as f64;
            loss += backend.squares(&difference)?.iter().sum::<f64>() * share;
            seeds.push((*tap, scaled(backend, &difference, 2.0 * share as f32)?));
        }
        let zero = || scaled(backend, drawn, 0.0);
        let gradient = match self.network.backward(&pass, seeds, None, true, &[])? {
            Some(gradient) => gradient,
            None => zero()?,
        };
        let difference = backend.add(drawn.clone(), -1.0, &real)?;
        let direction = backend.unit(&difference)?;
        let share = COLOUR / (backend.shape(drawn).pixels() * count) as f32;
        let along = backend.rows(&backend.mul(difference, &direction)?)?;
        loss += along.iter().map(|value| f64::from(*value)).sum::<f64>() * f64::from(share);
        Ok((loss, backend.add(gradient, share, &direction)?))
    }
}

/// factor · x.
fn scaled<B: Backend>(backend: &B, x: &B::Tensor, factor: f32) -> Result<B::Tensor> {
    // from 0: the sum of x and (factor − 1) · x would lose the digits of a small factor
    let nothing = backend.add(x.clone(), -1.0, x)?;
    backend.add(nothing, factor, x)
}

/// For each real picture the number of its sample, both given by descriptors (N, dimension).
///
/// Real pictures choose in an order that `chance` draws.
pub fn assign(dimension: usize, real: &[f32], pool: &[f32], rule: Rule, chance: &mut Stream) -> Vec<u32> {
    let (count, samples) = (real.len() / dimension, pool.len() / dimension);
    let squares = |rows: &[f32]| -> Vec<f32> {
        rows.chunks(dimension).map(|row| row.iter().map(|value| value * value).sum()).collect()
    };
    let of_pool = squares(pool);
    let columns = DMatrixView::from_slice(pool, dimension, samples);
    let transposed = columns.transpose();
    // squared distances of some real pictures to all of the pool, less the real pictures' own squares
    let distances = |rows: &[f32]| -> DMatrix<f32> {
        let rows = DMatrixView::from_slice(rows, dimension, rows.len() / dimension);
        let mut products = DMatrix::zeros(samples, rows.ncols());
        products.gemm(-2.0, &transposed, &rows, 0.0);
        products.column_iter_mut().for_each(|mut column| {
            column.iter_mut().zip(&of_pool).for_each(|(value, square)| *value += square);
        });
        products
    };
    let mut used = vec![false; samples];
    if rule.rejection > 0.0 {
        let of_real = squares(real);
        let mut nearest = vec![f32::INFINITY; samples];
        for (rows, own) in real.chunks(HELD * dimension).zip(of_real.chunks(HELD)) {
            let found = distances(rows);
            for (column, own) in found.column_iter().zip(own) {
                nearest.iter_mut().zip(&column).for_each(|(least, value)| *least = least.min(value + own));
            }
        }
        let mut ordered = nearest.clone();
        ordered.sort_by(f32::total_cmp);
        let bound = (rule.rejection * rule.rejection) as f32 * ordered[samples / 2];
        used = nearest.iter().map(|square| *square < bound).collect();
    }
    let rejected = used.clone();
    let order = chance.permutation(count as u32);
    let mut chosen = vec![0u32; count];
    for block in order.chunks(HELD) {
        let rows: Vec<f32> = block
            .iter()
            .flat_map(|index| &real[*index as usize * dimension..][..dimension])
            .copied()
            .collect();
        let found = distances(&rows);
        for (index, column) in block.iter().zip(found.column_iter()) {
            let nearest = |free: &dyn Fn(usize) -> bool| {
                let all = column.iter().enumerate().filter(|(place, _)| free(*place));
                all.min_by(|a, b| a.1.total_cmp(b.1)).map(|(place, _)| place)
            };
            let place = nearest(&|place| !used[place]).or_else(|| nearest(&|place| !rejected[place]));
            let place = place.or_else(|| nearest(&|_| true)).unwrap_or(0);
            chosen[*index as usize] = place as u32;
            used[place] |= rule.distinct;
        }
    }
    chosen
}

#[cfg(test)]
mod tests {
    use edgegen_runtime::random::Purpose;

    use super::*;

    const DIMENSION: usize = 3;

    fn chance() -> Stream {
        Stream::new(1, Purpose::Match, 0)
    }

    fn noise(count: usize, index: u64) -> Vec<f32> {
        let mut values = vec![0f32; count * DIMENSION];
        Stream::new(2, Purpose::Evaluation, index).fill_normal(&mut values);
        values
    }

    fn distance(a: &[f32], b: &[f32]) -> f32 {
        a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum()
    }

    #[test]
    fn the_nearest_sample_is_taken() {
        let (real, pool) = (noise(100, 0), noise(500, 1));
        let rule = Rule { rejection: 0.0, distinct: false };
        let found = assign(DIMENSION, &real, &pool, rule, &mut chance());
        for (real, found) in real.chunks(DIMENSION).zip(found) {
            let own = distance(real, &pool[found as usize * DIMENSION..][..DIMENSION]);
            assert!(pool.chunks(DIMENSION).all(|other| distance(real, other) >= own - 1e-5));
        }
    }

    #[test]
    fn no_sample_is_taken_twice_or_close_to_a_picture() {
        let (real, pool) = (noise(100, 0), noise(120, 1));
        let rule = Rule { rejection: 0.0, distinct: true };
        let mut found = assign(DIMENSION, &real, &pool, rule, &mut chance());
        found.sort_unstable();
        found.dedup();
        assert_eq!(found.len(), 100, "each has its own");

        let rule = Rule { rejection: 0.5, distinct: false };
        let nearest = |sample: usize| {
            let sample = &pool[sample * DIMENSION..][..DIMENSION];
            real.chunks(DIMENSION).map(|real| distance(real, sample)).fold(f32::INFINITY, f32::min)
        };
        let mut all: Vec<f32> = (0..120).map(nearest).collect();
        let found = assign(DIMENSION, &real, &pool, rule, &mut chance());
        all.sort_by(f32::total_cmp);
        let bound = 0.25 * all[60];
        assert!(all[0] < bound, "some are closer");
        assert!(found.iter().all(|sample| nearest(*sample as usize) >= bound - 1e-5));
        // more pictures than samples: they share
        let few =
            assign(DIMENSION, &real, &pool[..9], Rule { rejection: 0.9, distinct: true }, &mut chance());
        assert!(few.iter().all(|sample| *sample < 3));
    }
}
