//! Matching (implicit maximum likelihood estimation, K. Li and J. Malik, 2018; with the rejection of C. Vashist et al.,
//! 2024, "RS-IMLE"): at every so many steps a pool of latents is drawn, and each real picture takes the sample that is
//! nearest to it; then the generator draws these samples to their pictures. No real picture is left out, so nothing
//! collapses, and there is no adversary that could win.

use crate::random::Stream;
use nalgebra::{DMatrix, DMatrixView};

/// Real pictures whose distances to the pool are held at once.
const HELD: usize = 64;

/// How a pool is drawn and matched.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// Samples that are nearer to a real picture than this share of the pool's median are left out.
    pub rejection: f64,
    /// Whether a sample is taken by one real picture at most.
    pub distinct: bool,
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
    use crate::random::Purpose;

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
