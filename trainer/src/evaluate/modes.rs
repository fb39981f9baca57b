//! Which classes samples fall into, by a classifier: whether modes are missing.

use serde::{Deserialize, Serialize};

use super::features::Features;
use crate::{Error, Result};

/// A class is hit by at least this share of the samples that each class would get if all got the same.
const HIT_SHARE: f64 = 0.1;

/// How samples are spread over classes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Modes {
    /// Classes: K.
    pub classes: usize,
    /// Their names, (K), where the classifier's file tells them.
    pub names: Vec<String>,
    /// Samples that are taken for each class, (K).
    pub histogram: Vec<usize>,
    /// Fewest samples of a class that is hit: 0.1 · N / K, rounded up.
    pub fewest: usize,
    /// Classes that are hit.
    pub hit: usize,
    /// Entropy of the histogram, nats; ln K if all classes are as frequent.
    pub entropy: f64,
    /// Share of the samples that are taken for the class that they were drawn for.
    pub as_requested: Option<f64>,
}

impl Modes {
    /// Counts the largest value of each row of `verdicts`, (N, K): probabilities or logits; the first of equal
    /// ones. `requested` is the class that each sample was drawn for, (N), or empty.
    ///
    /// # Errors
    /// As [`check_requested`].
    pub fn count(verdicts: &Features, names: &[String], requested: &[u16]) -> Result<Self> {
        let (count, classes) = (verdicts.count(), verdicts.dimension);
        check_requested(classes, count, requested)?;
        let mut histogram = vec![0usize; classes];
        let mut agreeing = 0;
        for index in 0..count {
            let row = verdicts.row(index);
            let best = (1..classes).fold(0, |best, class| if row[class] > row[best] { class } else { best });
            histogram[best] += 1;
            agreeing += usize::from(requested.get(index).is_some_and(|class| usize::from(*class) == best));
        }
        let fewest = ((HIT_SHARE * count as f64 / classes as f64).ceil() as usize).max(1);
        let shares =
            histogram.iter().filter(|number| **number > 0).map(|number| *number as f64 / count as f64);
        Ok(Self {
            classes,
            names: if names.len() == classes { names.to_vec() } else { Vec::new() },
            fewest,
            hit: histogram.iter().filter(|number| **number >= fewest).count(),
            entropy: shares.map(|share| -share * share.ln()).sum::<f64>().max(0.0),
            as_requested: (!requested.is_empty()).then(|| agreeing as f64 / count as f64),
            histogram,
        })
    }
}

/// Refuses a classifier of `classes` classes, or classes that are requested of `count` samples, before any work.
///
/// # Errors
/// [`Error::Config`] if there are fewer than two classes, a class is requested that there is not, or the numbers
/// differ.
pub fn check_requested(classes: usize, count: usize, requested: &[u16]) -> Result<()> {
    if classes < 2 {
        return Err(Error::Config("the classifier knows one class alone: at least 2 are needed".into()));
    }
    if let Some(class) = requested.iter().find(|class| usize::from(**class) >= classes) {
        let problem = format!("class {class} is requested, but the classifier knows {classes} (from 0)");
        return Err(Error::Config(problem));
    }
    if !requested.is_empty() && requested.len() != count {
        return Err(Error::Config(format!("{} classes are requested of {count} samples", requested.len())));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdicts(classes: &[usize], count: usize) -> Features {
        let values =
            classes.iter().flat_map(|class| (0..count).map(move |i| if i == *class { 2.5 } else { -1.0 }));
        Features { values: values.collect(), dimension: count }
    }

    #[test]
    fn classes_are_counted_by_the_stated_rule() {
        // 40 samples, 4 classes: a class is hit from 1 sample on
        let classes: Vec<usize> = (0..40).map(|i| if i == 0 { 1 } else { (i % 2) * 2 }).collect();
        let requested: Vec<u16> =
            classes.iter().map(|class| if *class == 1 { 3 } else { *class as u16 }).collect();
        let modes = Modes::count(&verdicts(&classes, 4), &[], &requested).unwrap();
        assert_eq!((modes.histogram.as_slice(), modes.hit, modes.fewest), ([19, 1, 20, 0].as_slice(), 3, 1));
        assert_eq!(modes.as_requested, Some(39.0 / 40.0));
        // 2,000 samples, 10 classes: from 20 on
        let classes: Vec<usize> = (0..2000)
            .map(|i| {
                if i < 19 {
                    1
                } else if i < 39 {
                    2
                } else {
                    0
                }
            })
            .collect();
        let modes = Modes::count(&verdicts(&classes, 10), &vec!["x".to_string(); 10], &[]).unwrap();
        assert_eq!((modes.fewest, modes.hit, modes.as_requested, modes.names.len()), (20, 2, None, 10));
        let even = Modes::count(&verdicts(&[0, 1, 2, 0, 1, 2], 3), &[], &[]).unwrap();
        assert!((even.entropy - 3f64.ln()).abs() < 1e-12);
        assert_eq!(Modes::count(&verdicts(&[1, 1], 3), &[], &[]).unwrap().entropy, 0.0);
        assert!(Modes::count(&verdicts(&[0], 1), &[], &[]).is_err());
        assert!(Modes::count(&verdicts(&[0], 2), &[], &[2]).is_err());
        assert!(Modes::count(&verdicts(&[0], 2), &[], &[0, 0]).is_err());
    }
}
