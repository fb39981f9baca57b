//! Times of repeated runs.

use crate::Result;
use std::time::{Duration, Instant};

/// Warm-up ends after this many runs …
const WARM_UP_RUNS: usize = 10;
/// … or after this share of the time limit, whichever comes first.
const WARM_UP_SHARE: u32 = 10;

/// Times of single runs, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Timings {
    /// Runs that were timed.
    pub runs: usize,
    /// The fastest.
    pub min_us: f64,
    /// The median.
    pub p50_us: f64,
    /// 90 % of the runs took no longer.
    pub p90_us: f64,
    /// 99 % of the runs took no longer.
    pub p99_us: f64,
    /// The arithmetic mean.
    pub mean_us: f64,
}

impl Timings {
    /// Sums up some times. Percentiles are of the nearest rank: each is a time that was measured.
    /// `None` if there are no times.
    pub fn of(mut times: Vec<Duration>) -> Option<Self> {
        times.sort_unstable();
        let us = |time: &Duration| time.as_secs_f64() * 1e6;
        let rank = |percent: usize| us(&times[(times.len() * percent).div_ceil(100).max(1) - 1]);
        let min_us = us(times.first()?);
        let mean_us = times.iter().map(us).sum::<f64>() / times.len() as f64;
        Some(Self {
            runs: times.len(),
            min_us,
            p50_us: rank(50),
            p90_us: rank(90),
            p99_us: rank(99),
            mean_us,
        })
    }
}

/// Times `runs` runs of `run` after a warm-up, fewer if they would take longer than `limit`, but
/// at least one.
///
/// # Errors
/// The first error of `run`.
pub fn time_runs(
    runs: usize,
    limit: Duration,
    mut run: impl FnMut() -> Result<()>,
) -> Result<Option<Timings>> {
    let start = Instant::now();
    for _ in 0..WARM_UP_RUNS {
        run()?;
        if start.elapsed() > limit / WARM_UP_SHARE {
            break;
        }
    }
    let mut times = Vec::new();
    while times.len() < runs {
        let before = Instant::now();
        run()?;
        times.push(before.elapsed());
        if start.elapsed() > limit {
            break;
        }
    }
    Ok(Timings::of(times))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_nearest_rank() {
        let times = (1..=200).rev().map(Duration::from_micros).collect();
        let timings = Timings::of(times).unwrap();
        let round = |us: f64| us.round() as u64;
        assert_eq!((timings.runs, round(timings.min_us), round(timings.p50_us)), (200, 1, 100));
        assert_eq!((round(timings.p90_us), round(timings.p99_us)), (180, 198));
        assert!((timings.mean_us - 100.5).abs() < 1e-6);
        let one = Timings::of(vec![Duration::from_micros(5)]).unwrap();
        assert_eq!((round(one.p50_us), round(one.p99_us)), (5, 5));
        assert_eq!(Timings::of(vec![]), None);
    }

    #[test]
    fn a_time_limit_ends_the_runs() {
        let limit = Duration::from_millis(20);
        let sleep = || {
            std::thread::sleep(Duration::from_millis(4));
            Ok(())
        };
        let timings = time_runs(1_000_000, limit, sleep).unwrap().unwrap();
        assert!((1..=5).contains(&timings.runs), "{timings:?}");
        assert_eq!(time_runs(3, Duration::from_secs(60), || Ok(())).unwrap().unwrap().runs, 3);
    }
}
