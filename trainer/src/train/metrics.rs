//! What a run reports: one JSON object per report in `metrics.jsonl`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use edgegen_runtime::files::write_atomically;
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Figures by name.
pub type Figures = BTreeMap<String, f64>;

/// Figures out of names and values.
pub fn figures<const N: usize>(values: [(&str, f64); N]) -> Figures {
    values.into_iter().map(|(name, value)| (name.to_string(), value)).collect()
}

/// Figures of several steps on their way to a mean.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sums {
    /// (sum, steps that told it) by name.
    sums: BTreeMap<String, (f64, u64)>,
}

impl Sums {
    /// Adds a step's.
    pub fn add(&mut self, figures: &Figures) {
        for (name, value) in figures {
            let (sum, steps) = self.sums.entry(name.clone()).or_default();
            (*sum, *steps) = (*sum + value, *steps + 1);
        }
    }

    /// The means, each over the steps that told it.
    pub fn means(&self) -> Figures {
        self.sums.iter().map(|(name, (sum, steps))| (name.clone(), sum / *steps as f64)).collect()
    }
}

/// What a run reports at intervals that grow, see [`next_report`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Steps done so far.
    pub step: u64,
    /// Training pictures seen so far, counted at each visit.
    #[serde(default)]
    pub pictures: u64,
    /// Passes over the training pictures so far.
    pub epoch: f64,
    /// Training time so far, seconds.
    pub seconds: f64,
    /// Learning rate of the last step.
    pub learning_rate: f64,
    /// Means over the steps since the last report, while they were made.
    pub train: Figures,
    /// What was measured now.
    pub validation: Figures,
    /// The features that distances of samples are measured on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub features: Option<String>,
}

/// Fewest steps between two reports.
const FEWEST_STEPS: u64 = 10;
/// Most reports of equal distance in a run: the later ones.
const REPORTS: u64 = 25;

/// The step after which the report that follows step `after` is made, in a run of `total` steps.
///
/// Intervals begin with a few steps, grow by a half each, and end at a 25th of the run. They are counted in steps and
/// not in seconds, so that a run that was cut and resumed makes the same reports, and keeps the same best weights, as
/// one that was not.
pub fn next_report(after: u64, total: u64) -> u64 {
    let longest = (total / REPORTS).max(FEWEST_STEPS);
    let mut step = 0u64;
    while step <= after {
        step = step.saturating_add((step / 2).clamp(FEWEST_STEPS, longest));
        if step >= total {
            return total;
        }
    }
    step
}

/// Reads every report of `path`; none if the file does not exist.
///
/// # Errors
/// [`Error::Run`] naming file and line.
pub fn read(path: &Path) -> Result<Vec<Report>> {
    if !path.exists() {
        return Ok(Vec::new());
    }
    let text = fs::read_to_string(path).map_err(|e| Error::io("read", path, e))?;
    let parse = |(number, line): (usize, &str)| {
        serde_json::from_str(line).map_err(|e| Error::run(path, format!("line {}: {e}", number + 1)))
    };
    text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()).map(parse).collect()
}

/// Writes all reports to `path`.
///
/// # Errors
/// The file system's.
pub fn write(path: &Path, reports: &[Report]) -> Result<()> {
    write_atomically(path, |out| {
        reports.iter().try_for_each(|report| {
            serde_json::to_writer(&mut *out, report)?;
            std::io::Write::write_all(out, b"\n")
        })
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(total: u64) -> Vec<u64> {
        let mut steps = vec![next_report(0, total)];
        while let Some(last) = steps.last().copied().filter(|last| *last < total) {
            steps.push(next_report(last, total));
        }
        steps
    }

    #[test]
    fn intervals_grow_up_to_a_25th_of_the_run() {
        assert_eq!(all(1), [1]);
        assert_eq!(all(25), [10, 20, 25]);
        for total in [1_000, 5_000, 100_000, 10_000_000] {
            let steps = all(total);
            assert!(steps.len() < 70, "{} reports of {total} steps", steps.len());
            let gaps: Vec<u64> = steps.windows(2).map(|pair| pair[1] - pair[0]).collect();
            let (last, rest) = gaps.split_last().unwrap();
            assert!(rest.is_sorted() && last <= &(total / REPORTS), "{gaps:?}");
        }
        // as quick where there are very many, and the same from any step on
        assert_eq!(next_report(u64::MAX - 1, u64::MAX), u64::MAX);
        assert_eq!(next_report(15, 5_000), next_report(19, 5_000));
    }
}
