//! Which network, size, objective and length suit a user's pictures: what `edgegen-train auto` does.
//!
//! The rules are few and said with their reasons, so that a user can disagree. Figures behind them stand in
//! docs/your-own-pictures.md.

use std::fmt;

use super::config::{Config, Length};
use super::presets;
use crate::Result;
use crate::data::{Dataset, Size, is_colourless};

/// Fewest pictures that a generator of codes is trained on: between fewer there is nothing to be drawn.
const FEWEST_FOR_CODES: usize = 16;
/// Most classes that a network is conditioned on without being asked, and fewest pictures of each.
const MOST_CLASSES: usize = 32;
const FEWEST_OF_CLASS: usize = 20;
/// How many times as many pictures the largest class may have as the smallest before classes are balanced.
const UNEQUAL: usize = 4;
/// Hours of a run whose length nobody gave.
const HOURS: f64 = 1.0;
/// Sides to choose from, for files whose smaller side is at least as long.
const SIDES: [usize; 3] = [64, 48, 32];

/// One choice of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// What is chosen.
    pub what: &'static str,
    /// What it is.
    pub value: String,
    /// Why.
    pub why: String,
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<12} {:<16} {}", self.what, self.value, self.why)
    }
}

/// How pictures should be loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// Their size.
    pub size: Size,
    /// Whether they become grey.
    pub gray: bool,
}

/// Chooses size and colour for pictures that were loaded as 64x64 in colour.
pub fn look(dataset: &Dataset) -> (Look, Vec<Choice>) {
    let Some(dimensions) = dataset.facts.dimensions else {
        let size = Size::of(dataset.shape);
        let gray = dataset.shape.channels == 1;
        let value = format!("{}, {}", size, if gray { "grey" } else { "colour" });
        return (Look { size, gray }, vec![choice("size", value, "that of the IDX file")]);
    };
    let (width, height) = dimensions.median;
    let smaller = width.min(height) as usize;
    let side = SIDES.into_iter().find(|side| smaller >= *side).unwrap_or(SIDES[SIDES.len() - 1]);
    let why = match (smaller >= SIDES[0], width.max(height) as usize * 2 > smaller * 3) {
        (_, true) => format!(
            "the middle square of pictures of {width}x{height} (median); --fit pad keeps all of them, --size 96x64 their proportions"
        ),
        (true, _) => {
            format!("files have {width}x{height} pixels (median); larger networks are too slow for a board")
        }
        (false, _) => format!("files have {width}x{height} pixels (median)"),
    };
    let gray = dataset.shape.channels == 1 || is_colourless(&dataset.train);
    let colour = if gray {
        choice("colour", "grey", "the pictures have none")
    } else {
        choice("colour", "RGB", "the pictures have colours")
    };
    (Look { size: Size::square(side), gray }, vec![choice("size", format!("{side}x{side}"), why), colour])
}

/// Chooses everything else for pictures that were loaded as they will be learned from; `length`: whether the user gives
/// one.
///
/// # Errors
/// None that a user can cause.
pub fn plan(dataset: &Dataset, look: Look, length: bool) -> Result<(Config, Vec<Choice>)> {
    let total = dataset.train.count() + dataset.validation.count() + dataset.test.count();
    let mut choices = Vec::new();
    let name = match (total >= FEWEST_FOR_CODES, look.gray) {
        (false, _) => "vae-conv",
        (true, true) if look.size == Size::square(28) => "gan-28",
        (true, _) => "gan-64",
    };
    let why = if total >= FEWEST_FOR_CODES {
        format!("each of {total} pictures gets a code: sharp samples, however few there are")
    } else {
        format!(
            "a VAE: {total} pictures are too few to draw what lies between them (it takes {FEWEST_FOR_CODES})"
        )
    };
    choices.push(choice("preset", name, why));
    let mut config = presets::find(name)?.config;
    (config.data.size, config.data.gray) = (look.size, look.gray);

    let mut of_classes = vec![0usize; dataset.classes.len()];
    dataset.train.labels().iter().for_each(|label| of_classes[usize::from(*label)] += 1);
    let (fewest, most) = (of_classes.iter().min(), of_classes.iter().max());
    if let (2.., Some(fewest), Some(most)) = (of_classes.len(), fewest.copied(), most.copied()) {
        let classes = of_classes.len();
        if classes <= MOST_CLASSES && fewest >= FEWEST_OF_CLASS {
            config.network.conditional = true;
            choices.push(choice(
                "conditional",
                "yes",
                format!("{classes} classes of {fewest} pictures or more"),
            ));
            if most > UNEQUAL * fewest {
                config.data.balance = true;
                choices.push(choice("balance", "yes", format!("classes have {fewest} to {most} pictures")));
            }
        } else {
            let why = format!(
                "{classes} classes, the smallest of {fewest} pictures: too many or too small to learn apart"
            );
            choices.push(choice("conditional", "no", why));
        }
    }
    let mirror = if dataset.mirroring.on { "yes" } else { "no" };
    choices.push(choice("mirror", mirror, dataset.mirroring.why.clone()));
    if !length {
        config.training.set_length(Length::Hours(HOURS));
        choices.push(choice(
            "length",
            format!("{HOURS} hour"),
            "change it with --hours, --pictures or --steps",
        ));
    }
    Ok((config, choices))
}

fn choice(what: &'static str, value: impl Into<String>, why: impl Into<String>) -> Choice {
    Choice { what, value: value.into(), why: why.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Pictures;
    use edgegen_runtime::model::ImageShape;

    fn set(counts: &[usize], channels: usize) -> Dataset {
        let shape = ImageShape { channels, height: 8, width: 8 };
        let total: usize = counts.iter().sum();
        let labels = counts.iter().enumerate().flat_map(|(class, count)| vec![class as u16; *count]);
        let labels: Vec<u16> = if counts.len() > 1 { labels.collect() } else { Vec::new() };
        let pixels = (0..total * shape.values()).map(|value| (value * 7 % 251) as u8).collect();
        let classes = (0..counts.len()).map(|class| format!("class-{class}"));
        let classes = if counts.len() > 1 { classes.collect() } else { Vec::new() };
        let train = Pictures::from_rows(shape.values(), pixels, labels);
        let none = || Pictures::none(shape.values());
        Dataset::new("set", shape, classes, [train, none(), none()])
    }

    #[test]
    fn a_handful_of_pictures_gets_a_vae_and_more_a_gan() {
        let look = Look { size: Size::square(64), gray: false };
        for (counts, preset) in [(&[14][..], "vae-conv"), (&[40], "gan-64"), (&[424], "gan-64")] {
            let (config, choices) = plan(&set(counts, 3), look, false).unwrap();
            assert_eq!(config.preset, preset);
            config.validate().unwrap();
            assert!(!config.network.conditional && config.training.hours > 0.0, "{choices:?}");
        }
        let digits = Look { size: Size::square(28), gray: true };
        assert_eq!(plan(&set(&[3000], 1), digits, true).unwrap().0.preset, "gan-28");
    }

    #[test]
    fn classes_count_if_they_are_large_enough() {
        let look = Look { size: Size::square(64), gray: false };
        let conditional = |counts: &[usize]| {
            let (config, _) = plan(&set(counts, 3), look, true).unwrap();
            (config.network.conditional, config.data.balance)
        };
        assert_eq!(conditional(&[200, 100]), (true, false));
        assert_eq!(conditional(&[400, 30]), (true, true));
        assert_eq!(conditional(&[400, 3]), (false, false));
        assert_eq!(conditional(&[30; 40]), (false, false));
    }
}
