//! What a run does, in full: every default is written into the run folder as TOML.

use std::path::{Path, PathBuf};

use documented::DocumentedFields;
use edgegen_runtime::sound::Format;
use serde::{Deserialize, Serialize};

use super::presets;
use crate::compute::adam::AdamConfig;
use crate::data::{Dataset, Fit, GroupBy, HeldOut, Mirror, Pairs, SIDES, SideBySide, Size};
use crate::graph::Activation;
use crate::graph::family::NetworkConfig;
use crate::graph::family::Normalisation;
use crate::objective::classifier::ClassifierConfig;
use crate::objective::gan::GanConfig;
use crate::objective::gan::loss::Loss;
use crate::objective::transform::TransformConfig;
use crate::objective::vae::{Likelihood, ObjectiveConfig};
use crate::{Error, Result};

/// Largest batch, in pictures.
const LARGEST_BATCH: usize = 65_536;
/// Most samples of an importance-weighted bound.
const MOST_SAMPLES: usize = 5000;
/// Largest latent.
const LARGEST_LATENT: usize = 65_536;

/// Everything that decides a run, besides the pictures themselves.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, DocumentedFields)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Name of the preset that gave the defaults.
    pub preset: String,
    /// What is learned from.
    pub data: DataConfig,
    /// The network's form.
    pub network: NetworkConfig,
    /// What is learned.
    pub objective: Objective,
    /// How.
    pub training: TrainingConfig,
    /// Settings of the optimiser.
    pub adam: AdamConfig,
}

/// What is learned: the table `objective`, whose `kind` is the preset's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Objective {
    /// A variational autoencoder.
    Vae(ObjectiveConfig),
    /// A generative adversarial network.
    Gan(GanConfig),
    /// A classifier, whose features and verdicts samples are judged by.
    Classifier(ClassifierConfig),
    /// A network from pictures to pictures.
    Transform(TransformConfig),
}

/// Where pictures come from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, DocumentedFields)]
#[serde(deny_unknown_fields)]
pub struct DataConfig {
    /// A folder, or a file of an IDX set; empty: the set inside the program.
    pub path: PathBuf,
    /// Size that a folder's images are brought to, a side or "WIDTHxHEIGHT" (IDX files keep theirs).
    #[serde(alias = "side")]
    pub size: Size,
    /// Whether a folder's images become grey (IDX files are).
    pub gray: bool,
    /// How images of other proportions come to the size's: "crop", "pad" or "stretch".
    #[serde(default)]
    pub fit: Fit,
    /// What makes images variants of one drawing, which are held out together: "none", "prefix:_" (the name before
    /// its last _), "folder" or "regex:(…)".
    #[serde(default)]
    pub group_by: GroupBy,
    /// Share of the training pictures that is held out as validation pictures; "auto": by use.
    #[serde(default)]
    pub held_out: HeldOut,
    /// Whether training pictures are mirrored at random: "yes", "no" or "auto".
    #[serde(default)]
    pub mirror: Mirror,
    /// Whether each class comes equally often, however many pictures it has.
    #[serde(default)]
    pub balance: bool,
    /// The one class that is learned from, by its name, and the others count as odd; empty: all.
    #[serde(default)]
    pub only: String,
    /// Of pairs: the folder of the pictures that should come out, under the same names as those of `path`; empty: no pairs.
    #[serde(default)]
    pub to: PathBuf,
    /// Of pairs that lie side by side in one picture: the half that goes in, "left" or "right"; "no": no such pairs.
    #[serde(default)]
    pub side_by_side: SideBySide,
    /// Samples a second that a folder's sounds are brought to, whose log-mel spectrograms are then the pictures; 0: it holds
    /// pictures.
    #[serde(default)]
    pub rate: u32,
    /// Of sounds: samples of a window, an even number.
    #[serde(default)]
    pub window: usize,
    /// Of sounds: samples from a column of the spectrogram to the next.
    #[serde(default)]
    pub hop: usize,
    /// Of sounds: columns from a window of the picture's width to the next, each of which is a picture; 0: the first window of
    /// each sound.
    #[serde(default)]
    pub stride: usize,
}

impl DataConfig {
    /// The set inside the program, or a folder's images of this size.
    pub fn new(size: Size, gray: bool) -> Self {
        Self {
            path: PathBuf::new(),
            size,
            gray,
            fit: Fit::default(),
            group_by: GroupBy::default(),
            held_out: HeldOut::default(),
            mirror: Mirror::default(),
            balance: false,
            only: String::new(),
            to: PathBuf::new(),
            side_by_side: SideBySide::No,
            rate: 0,
            window: 0,
            hop: 0,
            stride: 0,
        }
    }
}

impl DataConfig {
    /// Where pairs come from; `None`: pictures stand for themselves.
    pub fn pairs(&self) -> Option<Pairs> {
        match (self.to.as_os_str().is_empty(), self.side_by_side) {
            (false, _) => Some(Pairs::With(self.to.clone())),
            (true, SideBySide::No) => None,
            (true, side) => Some(Pairs::Beside(side)),
        }
    }

    /// How a folder's sounds become spectrograms; `None`: it holds pictures.
    pub fn sound(&self) -> Option<Format> {
        (self.rate > 0).then_some(Format { rate: self.rate, window: self.window, hop: self.hop })
    }
}

/// How the learning rate moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Schedule {
    /// It stays.
    Constant,
    /// Straight from `learning_rate` to `final_rate`.
    Linear,
    /// Half a cosine from `learning_rate` to `final_rate` (I. Loshchilov, F. Hutter, 2017).
    Cosine,
    /// learning_rate · 10^(−i/7) for 3^i parts of the run, i = 0…7 (Y. Burda et al., 2015); with 3,280
    /// epochs a part is one epoch, as in the paper.
    Staged,
}

/// How long a run is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Length {
    /// Training pictures seen, counted at each visit.
    Pictures(u64),
    /// Steps.
    Steps(u64),
    /// Passes over the training pictures.
    Epochs(u64),
    /// Time.
    Hours(f64),
}

/// How it is learned.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, DocumentedFields)]
#[serde(deny_unknown_fields)]
pub struct TrainingConfig {
    /// Length in training pictures seen, counted at each visit; 0: another length counts.
    pub pictures: u64,
    /// Length in steps; counts before the others, unless it is 0.
    pub steps: u64,
    /// Length in passes over the training pictures; counts if pictures and steps are 0.
    pub epochs: u64,
    /// Length in hours; if it is not 0, the run measures a step when it begins, and sets `steps` by it.
    pub hours: f64,
    /// Pictures per step.
    pub batch: usize,
    /// Decides first weights, order and noise.
    pub seed: u64,
    /// At the start.
    pub learning_rate: f64,
    /// At the end of a linear or cosine schedule.
    pub final_rate: f64,
    /// Between the two.
    pub schedule: Schedule,
    /// Bound of the gradients' norm; 0: none.
    pub clip: f64,
    /// Validation pictures that each report is judged by, evenly spread; 0: all.
    pub validate: usize,
    /// A VAE or a classifier stops when its validation objective has not improved for this share of the run; 0: never.
    pub patience: f64,
    /// Seconds between checkpoints of up to 12 MB; larger ones are stored as much less often.
    pub checkpoint_seconds: f64,
    /// The model folder or the run whose weights are the first ones; empty: they are random.
    pub init_from: String,
}

impl Config {
    /// Parses TOML, complete or on top of `base`.
    ///
    /// # Errors
    /// [`Error::Config`] with `origin` and the line that is wrong.
    pub fn overlay(base: &Self, text: &str, origin: &str) -> Result<Self> {
        let mut table = base.table()?;
        let mut over: toml::Table =
            toml::from_str(text).map_err(|e| Error::Config(format!("{origin}: {e}")))?;
        // the name of the setting when pictures were squares
        if let Some(toml::Value::Table(data)) = over.get_mut("data")
            && let Some(side) = data.remove("side")
        {
            data.entry("size").or_insert(side);
        }
        merge(&mut table, over);
        table.try_into().map_err(|e| Error::Config(format!("{origin}: {e}")))
    }

    /// Reads a complete configuration.
    ///
    /// # Errors
    /// [`Error::Run`] naming the file.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|e| Error::io("read", path, e))?;
        toml::from_str(&text).map_err(|e| Error::run(path, e))
    }

    /// As TOML, with what it means above every setting.
    ///
    /// # Errors
    /// [`Error::Config`], which no valid configuration gives.
    pub fn to_toml(&self) -> Result<String> {
        let plain = toml::to_string_pretty(self).map_err(|e| Error::Config(e.to_string()))?;
        let (mut text, mut table) = (String::new(), "");
        for line in plain.lines() {
            if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
                table = name;
            }
            let key = line.split_once(" = ").map_or("", |(key, _)| key);
            for comment in self.meaning(table, key).into_iter().flat_map(str::lines) {
                text.push_str(format!("# {comment}").trim_end());
                text.push('\n');
            }
            text.push_str(line);
            text.push('\n');
        }
        Ok(text)
    }

    /// What the documentation of the setting `key` of `table` says.
    fn meaning(&self, table: &str, key: &str) -> Option<&'static str> {
        match (table, &self.objective) {
            ("", _) => Self::get_field_docs(key),
            ("data", _) => DataConfig::get_field_docs(key),
            ("network", _) => NetworkConfig::get_field_docs(key),
            ("training", _) => TrainingConfig::get_field_docs(key),
            ("adam", _) => AdamConfig::get_field_docs(key),
            ("objective", Objective::Vae(_)) => ObjectiveConfig::get_field_docs(key),
            ("objective", Objective::Gan(_)) => GanConfig::get_field_docs(key),
            ("objective", Objective::Classifier(_)) => ClassifierConfig::get_field_docs(key),
            ("objective", Objective::Transform(_)) => TransformConfig::get_field_docs(key),
            _ => return None,
        }
        .ok()
    }

    /// Refuses what cannot be trained.
    ///
    /// # Errors
    /// [`Error::Config`] naming the setting.
    pub fn validate(&self) -> Result<()> {
        let refuse = |problem: String| Err(Error::Config(problem));
        let TrainingConfig { pictures, epochs, steps, hours, batch, learning_rate, final_rate, clip, .. } =
            self.training;
        if batch == 0 || batch > LARGEST_BATCH {
            return refuse(format!("training.batch is {batch}; it takes 1 to {LARGEST_BATCH}"));
        }
        if [pictures, epochs, steps] == [0; 3] && hours == 0.0 {
            return refuse(
                "training.pictures, steps, epochs and hours are all 0; one of them must say how long to train"
                    .into(),
            );
        }
        if self.network.latent == 0 || self.network.latent > LARGEST_LATENT {
            return refuse(format!(
                "network.latent is {}; it takes 1 to {LARGEST_LATENT}",
                self.network.latent
            ));
        }
        // of a network from pictures to pictures they are numbers of blocks
        let least = usize::from(!matches!(self.objective, Objective::Transform(_)));
        let fits = |width: &&usize| !(least..=LARGEST_LATENT).contains(*width);
        if let Some(width) = self.network.hidden.iter().find(fits) {
            return refuse(format!("network.hidden holds {width}; widths are 1 to {LARGEST_LATENT}"));
        }
        if self.network.codes > LARGEST_LATENT || self.network.coarse > 16 {
            return refuse(format!(
                "network.codes is {} (0 to {LARGEST_LATENT}), network.coarse {} (0 to 16)",
                self.network.codes, self.network.coarse
            ));
        }
        if self.network.base == 0 || self.network.base > 1024 {
            return refuse(format!("network.base is {}; it takes 1 to 1024", self.network.base));
        }
        if let Some(format) = self.data.sound() {
            if let Err(e) = format.check() {
                return refuse(format!("data.rate, data.window and data.hop: {e}"));
            }
            if !self.data.gray || self.data.path.as_os_str().is_empty() {
                return refuse(
                    "spectrograms are grey (data.gray = true), and sounds are given with --data".into(),
                );
            }
        }
        if !self.data.to.as_os_str().is_empty() && self.data.side_by_side != SideBySide::No {
            return refuse(
                "pairs come from a second folder (--to) or lie side by side (--side-by-side): give one of the two"
                    .into(),
            );
        }
        if self.data.pairs().is_some() && !matches!(self.objective, Objective::Transform(_)) {
            return refuse(format!(
                "--to and --side-by-side give pairs to a network from pictures to pictures, as the preset translate; {} is none",
                self.preset
            ));
        }
        let size = self.data.size;
        // a spectrogram may be a few columns wide
        let few = self.data.sound().is_some() && (1..*SIDES.start()).contains(&size.width);
        let checked = if few { Size { width: *SIDES.start(), ..size } } else { size };
        if let Err(problem) = checked.check() {
            return refuse(format!("data.size {problem}"));
        }
        if self.data.stride > 0 && self.data.sound().is_none() {
            return refuse("data.stride is for sounds, which data.rate says there are".into());
        }
        let counts =
            [("seed", self.training.seed), ("pictures", pictures), ("epochs", epochs), ("steps", steps)];
        for (name, value) in counts {
            if i64::try_from(value).is_err() {
                return refuse(format!("training.{name} is {value}; it takes at most {}", i64::MAX));
            }
        }
        let AdamConfig { beta1, beta2, epsilon } = self.adam;
        for (name, value) in [("adam.beta1", beta1), ("adam.beta2", beta2)] {
            if !(0.0..1.0).contains(&value) {
                return refuse(format!("{name} is {value}; it takes 0 up to, but not, 1"));
            }
        }
        if let Activation::LeakyRelu(slope) = self.network.activation
            && !(0.0..1.0).contains(&slope)
        {
            return refuse(format!(
                "network.activation has a slope of {slope}; it takes 0 up to, but not, 1"
            ));
        }
        let mut bounded = vec![
            ("training.learning_rate", learning_rate, f64::MIN_POSITIVE),
            ("training.final_rate", final_rate, 0.0),
            ("training.clip", clip, 0.0),
            ("training.hours", hours, 0.0),
            ("training.patience", self.training.patience, 0.0),
            ("training.checkpoint_seconds", self.training.checkpoint_seconds, 0.0),
            ("adam.epsilon", epsilon, f64::MIN_POSITIVE),
        ];
        match &self.objective {
            Objective::Vae(ObjectiveConfig { denoise, .. }) if *denoise > 1.0 => {
                return refuse(format!(
                    "objective.denoise is {denoise}, but pictures have values in [0, 1]: for noise of {denoise} levels of 255, give --denoise {:.3}",
                    denoise / 255.0
                ));
            }
            Objective::Vae(ObjectiveConfig { iwae, beta, beta_warmup, free_bits, denoise, .. })
                if *iwae == 0
                    || *iwae > MOST_SAMPLES
                    || *iwae > 1 && (*beta, *beta_warmup, *free_bits, *denoise) != (1.0, 0, 0.0, 0.0) =>
            {
                return refuse(format!(
                    "objective.iwae is {iwae}; it takes 1 to {MOST_SAMPLES}, above 1 only with beta 1, no beta_warmup, no free_bits and no denoise: the importance-weighted bound has no such terms"
                ));
            }
            Objective::Vae(ObjectiveConfig { iwae, unlike, sigma, likelihood, .. })
                if *iwae > 1 && (*unlike > 0.0 || *sigma == 0.0 && *likelihood == Likelihood::Gaussian) =>
            {
                return refuse(format!(
                    "objective.iwae is {iwae}; above 1 it takes no objective.unlike, and a deviation: give objective.sigma"
                ));
            }
            Objective::Vae(ObjectiveConfig { unlike, features, .. })
                if *unlike == 0.0 && !features.is_empty() =>
            {
                return refuse(format!(
                    "objective.features is {features:?}, but nothing is learned by it: set objective.unlike, the weight of features in a VAE's loss"
                ));
            }
            Objective::Vae(ObjectiveConfig { unlike, likelihood: Likelihood::Bernoulli, .. })
                if *unlike > 0.0 =>
            {
                return refuse(
                    "objective.unlike is for a Gaussian likelihood, whose decoder gives the pictures themselves: set objective.likelihood to gaussian"
                        .into(),
                );
            }
            Objective::Vae(ObjectiveConfig { sigma, unlike, beta, free_bits, denoise, .. }) => bounded
                .extend([
                    ("objective.sigma", *sigma, 0.0),
                    ("objective.unlike", *unlike, 0.0),
                    ("objective.beta", *beta, 0.0),
                    ("objective.free_bits", *free_bits, 0.0),
                    ("objective.denoise", *denoise, 0.0),
                ]),
            Objective::Gan(gan) => {
                bounded.extend([
                    ("objective.discriminator_rate", gan.discriminator_rate, f64::MIN_POSITIVE),
                    ("objective.r1", gan.r1, 0.0),
                    ("objective.r2", gan.r2, 0.0),
                    ("objective.matching", gan.matching, 0.0),
                    ("objective.matching_rejection", gan.matching_rejection, 0.0),
                    ("objective.code_rate", gan.code_rate, 0.0),
                ]);
                let shares = [
                    ("objective.label_smoothing", gan.label_smoothing),
                    ("objective.average", gan.average),
                    ("objective.matching_jitter", gan.matching_jitter),
                    ("objective.adversarial_from", gan.adversarial_from),
                    ("objective.code_share", gan.code_share),
                ];
                for (name, value) in shares {
                    if !(0.0..1.0).contains(&value) {
                        return refuse(format!("{name} is {value}; it takes 0 up to, but not, 1"));
                    }
                }
                let steps = [
                    ("objective.discriminator_steps", gan.discriminator_steps),
                    ("objective.r1_every", gan.r1_every),
                ];
                if let Some((name, _)) = steps.into_iter().find(|(_, steps)| !(1..=1000).contains(steps)) {
                    return refuse(format!("{name} takes 1 to 1000 steps"));
                }
                if gan.discriminator_base == 0 || gan.discriminator_base > 1024 {
                    let base = gan.discriminator_base;
                    return refuse(format!("objective.discriminator_base is {base}; it takes 1 to 1024"));
                }
                if gan.discriminator_frozen > 0 && self.training.init_from.is_empty() {
                    return refuse(
                        "objective.discriminator_frozen keeps weights that were trained; give some with --init-from"
                            .into(),
                    );
                }
                if batch < 2 {
                    let problem = "training.batch is 1; a GAN's batch norm takes 2 pictures or more";
                    return refuse(problem.into());
                }
                if !matches!(gan.loss, Loss::NonSaturating | Loss::Minimax) && gan.label_smoothing > 0.0 {
                    return refuse(
                        "objective.label_smoothing is for cross-entropy with labels: the losses non-saturating and minimax"
                            .into(),
                    );
                }
                if gan.loss == Loss::Matching && !gan.matches() {
                    return refuse(
                        "objective.matching is 0, and nothing else is minimised with the loss \"matching\": set it to 1"
                            .into(),
                    );
                }
                if gan.matches() && (gan.matching_every == 0 || !(1..=1 << 24).contains(&gan.matching_pool)) {
                    return refuse(format!(
                        "matching needs latents and steps: objective.matching_pool is {} (1 to {}), objective.matching_every {} (1 or more)",
                        gan.matching_pool,
                        1 << 24,
                        gan.matching_every
                    ));
                }
                if self.network.codes > 0 && !gan.matches() {
                    return refuse(
                        "network.codes gives pictures codes, which matching learns: set objective.matching to 1, or network.codes to 0"
                            .into(),
                    );
                }
                if !gan.features.is_empty() && !gan.sees_features() {
                    return refuse(format!(
                        "{} learns by no features; to judge samples by a network while it trains, give it with --judge",
                        self.preset
                    ));
                }
                if gan.r1 > 0.0 && gan.discriminator_norm == Normalisation::Spectral {
                    return refuse(
                        "objective.r1 and discriminator_norm = \"spectral\" bound the same slope; use one"
                            .into(),
                    );
                }
            }
            Objective::Classifier(ClassifierConfig { shift }) => {
                if !self.network.hidden.is_empty() {
                    let problem =
                        "network.hidden is for VAEs; a classifier's dense layer has network.latent values";
                    return refuse(problem.into());
                }
                if *shift > 8 {
                    return refuse(format!("objective.shift is {shift}; it takes 0 to 8 pixels"));
                }
            }
            Objective::Transform(transform) => {
                transform.check(self.data.pairs().is_some())?;
                if transform.adversarial > 0.0 && batch < 2 {
                    return refuse(
                        "training.batch is 1; a discriminator's batch norm takes 2 pictures or more".into(),
                    );
                }
            }
        }
        for (name, value, least) in bounded {
            if !value.is_finite() || value < least {
                return refuse(format!("{name} is {value}; it takes a finite number of at least {least}"));
            }
        }
        Ok(())
    }

    /// Names of the classes that what draws is told; empty unless it is conditional.
    ///
    /// # Errors
    /// [`Error::Config`] if it is conditional and the pictures are of one class or none, or a class has no training
    /// picture.
    pub fn classes(&self, dataset: &Dataset) -> Result<Vec<String>> {
        match dataset.classes.len() {
            _ if !self.network.conditional => Ok(Vec::new()),
            0 | 1 => Err(Error::Config(format!(
                "--conditional needs pictures of two classes or more; {} has {}: put them into one sub-folder a class, or leave --conditional out",
                dataset.name,
                dataset.classes.len()
            ))),
            count => {
                let mut seen = vec![false; count];
                dataset.train.labels().iter().for_each(|label| seen[usize::from(*label)] = true);
                match seen.iter().position(|seen| !seen) {
                    Some(class) => Err(Error::Config(format!(
                        "class {:?} has no training picture to learn from: give it more pictures, or take it out",
                        dataset.classes[class]
                    ))),
                    None => Ok(dataset.classes.clone()),
                }
            }
        }
    }

    /// A command that makes this run on the data set that is called `dataset`: the preset, and every
    /// setting in which this differs from it.
    ///
    /// # Errors
    /// [`Error::Config`], which no valid configuration gives.
    pub fn command(&self, dataset: &str) -> Result<String> {
        const FLAGS: [(&str, &str); 22] = [
            ("training.init_from", "--init-from"),
            ("training.pictures", "--pictures"),
            ("training.epochs", "--epochs"),
            ("training.steps", "--steps"),
            ("training.hours", "--hours"),
            ("training.batch", "--batch"),
            ("training.seed", "--seed"),
            ("training.learning_rate", "--learning-rate"),
            ("network.latent", "--latent"),
            ("network.conditional", "--conditional"),
            ("data.size", "--size"),
            ("data.gray", "--gray"),
            ("data.fit", "--fit"),
            ("data.group_by", "--group-by"),
            ("data.held_out", "--held-out"),
            ("data.mirror", "--mirror"),
            ("data.balance", "--balance"),
            ("data.only", "--only"),
            ("data.side_by_side", "--side-by-side"),
            ("objective.adversarial", "--adversarial"),
            ("objective.beta", "--beta"),
            ("objective.denoise", "--denoise"),
        ];
        let mut words = vec![format!("edgegen-train train {}", self.preset)];
        if !self.data.path.as_os_str().is_empty() {
            words.push(format!("--data {dataset}"));
        }
        let mut base = presets::find(&self.preset)?.config;
        base.data.path.clone_from(&self.data.path);
        base.data.to.clone_from(&self.data.to);
        if let Some(to) = self.data.to.file_name() {
            words.push(format!("--to {}", to.to_string_lossy()));
        }
        // the length that counts is named, the others are not
        let TrainingConfig { pictures, steps, epochs, hours, .. } = self.training;
        let of_base = &mut base.training;
        of_base.hours = hours;
        if steps > 0 || pictures > 0 {
            of_base.epochs = epochs;
        }
        if steps > 0 || pictures == 0 {
            of_base.pictures = pictures;
        }
        let mut changed = Vec::new();
        changes("", &base.table()?, &self.table()?, &mut changed);
        for (key, _, value) in changed {
            let bare = value.trim_matches('"');
            let quote =
                if bare.contains(|letter: char| " []{}()*?$\\|^\"".contains(letter)) { "'" } else { "" };
            words.push(match FLAGS.iter().find(|(setting, _)| *setting == key) {
                Some((_, flag)) if bare == "true" => (*flag).to_string(),
                Some((_, flag)) if bare != "false" => format!("{flag} {quote}{bare}{quote}"),
                _ => format!("--set {quote}{key}={bare}{quote}"),
            });
        }
        words.push("--out RUN".into());
        Ok(words.join(" "))
    }

    fn table(&self) -> Result<toml::Table> {
        toml::Table::try_from(self).map_err(|e| Error::Config(e.to_string()))
    }

    /// The settings in which `other` differs, as `name was ours, now theirs`.
    ///
    /// # Errors
    /// [`Error::Config`], which no valid configuration gives.
    pub fn differences(&self, other: &Self) -> Result<Vec<String>> {
        let mut changed = Vec::new();
        changes("", &self.table()?, &other.table()?, &mut changed);
        Ok(changed
            .into_iter()
            .map(|(name, ours, theirs)| format!("{name} was {ours}, now {theirs}"))
            .collect())
    }
}

impl TrainingConfig {
    /// All steps of a run whose epochs have `steps_per_epoch` steps of `batch` pictures.
    pub fn total_steps(&self, steps_per_epoch: u64, batch: u64) -> u64 {
        match (self.steps, self.pictures) {
            (0, 0) => self.epochs.saturating_mul(steps_per_epoch),
            (0, pictures) => pictures.div_ceil(batch.max(1)),
            (steps, _) => steps,
        }
    }

    /// Sets one length and no other.
    pub fn set_length(&mut self, length: Length) {
        (self.pictures, self.steps, self.epochs, self.hours) = (0, 0, 0, 0.0);
        match length {
            Length::Pictures(pictures) => self.pictures = pictures,
            Length::Steps(steps) => self.steps = steps,
            Length::Epochs(epochs) => self.epochs = epochs,
            Length::Hours(hours) => self.hours = hours,
        }
    }

    /// Learning rate of step `step` (from 0) of `total`.
    pub fn rate(&self, step: u64, total: u64) -> f64 {
        let progress = step as f64 / total.max(1) as f64;
        match self.schedule {
            Schedule::Constant => self.learning_rate,
            Schedule::Linear => self.learning_rate + (self.final_rate - self.learning_rate) * progress,
            Schedule::Cosine => {
                let height = 0.5 * (1.0 + (std::f64::consts::PI * progress).cos());
                self.final_rate + (self.learning_rate - self.final_rate) * height
            }
            Schedule::Staged => {
                const PARTS: f64 = 3280.0; // 3⁰ + 3¹ + … + 3⁷
                let done = progress * PARTS;
                let ends = (0..7u32).map(|stage| f64::from((3u32.pow(stage + 1) - 1) / 2));
                let stage = ends.take_while(|end| done >= *end).count();
                self.learning_rate * 10f64.powf(-(stage as f64) / 7.0)
            }
        }
    }
}

fn merge(table: &mut toml::Table, over: toml::Table) {
    for (key, value) in over {
        match (table.get_mut(&key), value) {
            (Some(toml::Value::Table(inner)), toml::Value::Table(value)) => merge(inner, value),
            (_, value) => {
                table.insert(key, value);
            }
        }
    }
}

/// (setting, value, other value) wherever two tables of the same form differ.
fn changes(
    prefix: &str,
    ours: &toml::Table,
    theirs: &toml::Table,
    changed: &mut Vec<(String, String, String)>,
) {
    for (key, value) in ours {
        let name = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        match (value, theirs.get(key)) {
            (toml::Value::Table(value), Some(toml::Value::Table(other))) => {
                changes(&name, value, other, changed)
            }
            (value, Some(other)) if value == other => {}
            (value, other) => {
                let other = other.map_or("absent".into(), ToString::to_string);
                changed.push((name, value.to_string(), other));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_staged_schedule_is_burdas() {
        let mut training = presets::find("vae-mlp-50").unwrap().config.training;
        training.schedule = Schedule::Staged;
        let rate = |epoch| training.rate(epoch, 3280);
        let stages = [(0, 0), (1, 1), (3, 1), (4, 2), (12, 2), (13, 3), (1092, 6), (1093, 7), (3279, 7)];
        for (epoch, stage) in stages {
            let expected = training.learning_rate * 10f64.powf(-f64::from(stage) / 7.0);
            assert!((rate(epoch) - expected).abs() < 1e-12, "epoch {epoch}");
        }
    }

    #[test]
    fn a_configuration_survives_its_own_toml() {
        for preset in presets::all() {
            let text = preset.config.to_toml().unwrap();
            let parsed: Config = toml::from_str(&text).unwrap();
            assert_eq!(parsed, preset.config);
            assert!(preset.config.differences(&parsed).unwrap().is_empty());
        }
    }

    #[test]
    fn every_setting_is_explained() {
        for preset in presets::all() {
            let text = preset.config.to_toml().unwrap();
            let mut before = "";
            for line in text.lines() {
                let setting = line.split_once(" = ").is_some_and(|(key, _)| !key.contains(['#', ' ']));
                let told = before.starts_with('#') || line.starts_with("kind = ");
                assert!(!setting || told, "{}: {line:?} is not explained", preset.config.preset);
                before = line;
            }
        }
    }

    #[test]
    fn the_command_gives_the_configuration_back() {
        let mut config = presets::find("vae-conv").unwrap().config;
        config.data.path = "pictures/mnist".into();
        config.network.hidden = vec![64, 32];
        config.network.activation = Activation::LeakyRelu(0.25);
        let Objective::Vae(objective) = &mut config.objective else { panic!("vae-conv is no VAE") };
        objective.binarize = crate::objective::vae::Binarize::Stochastic;
        config.training.steps = 7;
        config.network.conditional = true;
        assert_eq!(
            config.command("mnist").unwrap(),
            "edgegen-train train vae-conv --data mnist --set 'network.activation={ leaky-relu = 0.25 }' \
             --conditional --set 'network.hidden=[64, 32]' --set objective.binarize=stochastic --steps 7 --out RUN"
        );
    }

    #[test]
    fn an_unknown_setting_is_named() {
        let base = presets::all()[0].config.clone();
        let error = Config::overlay(&base, "[network]\nlatnet = 3", "my.toml").unwrap_err().to_string();
        assert!(error.contains("my.toml") && error.contains("latnet"), "{error}");
    }
}
