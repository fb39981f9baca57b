//! The loop and its run folder.
//!
//! ```text
//! RUN/config.toml                 every setting
//! RUN/metrics.jsonl               one line an epoch
//! RUN/curves.png
//! RUN/samples/epoch-0001.png      drawn from the prior, always the same latents
//! RUN/reconstructions/epoch-0001.png
//! RUN/evaluation.json             of the test pictures, once asked for
//! RUN/latent-grid.png             for latents of two values
//! RUN/checkpoints/last.safetensors    everything needed to go on
//! RUN/checkpoints/best.safetensors    weights of the best validation objective (β as configured)
//! ```
//!
//! Step s of a run depends on the configuration, the pictures and s alone, so a run that is cut and
//! resumed ends in the weights of one that was not (on the CPU).

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use edgegen_runtime::files::write_atomically;
use edgegen_runtime::model::Range;
use edgegen_runtime::random::{Purpose, Stream};

use super::checkpoint::{self, Checkpoint, Position};
use super::config::Config;
use super::metrics::{self, Epoch};
use super::pictures::{self, Drawer};
use crate::data::{self, Dataset, LoadOptions};
use crate::evaluate::{HeldOut, Sums};
use crate::network::module::Gradients;
use crate::nn::adam::Adam;
use crate::vae::{Binarize, Example, Vae};
use crate::{Error, Result};

/// Longest training time that a kill can cost.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(60);
/// Pictures in a grid of samples.
const SAMPLES: usize = 64;
/// Pictures in a grid of reconstructions: as many originals above them.
const RECONSTRUCTIONS: usize = 8;
/// Side of the latent grid.
const LATENT_GRID: usize = 20;
/// Most values of one layer's outputs for a whole batch: 1 GiB, of which a step keeps several.
const LARGEST_LAYER: usize = 1 << 28;

/// The paths of a run.
#[derive(Clone, Debug)]
pub struct RunFolder {
    root: PathBuf,
}

impl RunFolder {
    /// The run at `root`, which need not exist.
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_path_buf() }
    }

    /// A run that was begun.
    ///
    /// # Errors
    /// [`Error::Run`] if there is none.
    pub fn existing(root: &Path) -> Result<Self> {
        let folder = Self::new(root);
        if folder.config().is_file() {
            return Ok(folder);
        }
        Err(Error::run(
            root,
            "is no run folder: it has no config.toml; edgegen-train train PRESET --out RUN makes one",
        ))
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Every setting.
    pub fn config(&self) -> PathBuf {
        self.root.join("config.toml")
    }

    /// One line an epoch.
    pub fn metrics(&self) -> PathBuf {
        self.root.join("metrics.jsonl")
    }

    /// The state to go on from.
    pub fn last(&self) -> PathBuf {
        self.root.join("checkpoints/last.safetensors")
    }

    /// The weights to use.
    pub fn best(&self) -> PathBuf {
        self.root.join("checkpoints/best.safetensors")
    }

    /// What `edgegen-train eval` found last.
    pub fn evaluation(&self) -> PathBuf {
        self.root.join("evaluation.json")
    }

    fn picture(&self, kind: &str, epoch: u64) -> PathBuf {
        self.root.join(kind).join(format!("epoch-{epoch:04}.png"))
    }

    fn create(&self) -> Result<()> {
        for folder in ["checkpoints", "samples", "reconstructions"] {
            let path = self.root.join(folder);
            fs::create_dir_all(&path).map_err(|e| Error::io("create", &path, e))?;
        }
        Ok(())
    }
}

/// Which stored weights to use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// Those of the best validation objective.
    Best,
    /// Those of the last checkpoint.
    Last,
}

/// A trained network with what it was trained on.
pub struct Trained {
    /// Every setting.
    pub config: Config,
    /// The pictures.
    pub dataset: Dataset,
    /// The network.
    pub vae: Vae,
    /// Which of the run's weights these are.
    pub which: Which,
    /// Where the weights are from.
    pub position: Position,
    /// SHA-256 of the weights, see [`Checkpoint`].
    pub checkpoint_sha256: String,
}

impl Trained {
    /// The part that draws.
    pub fn drawer(&self) -> Drawer<'_> {
        Drawer { module: &self.vae.decoder, shape: self.dataset.shape, range: Range::Unit }
    }
}

fn restore_weights(checkpoint: &mut Checkpoint, vae: &mut Vae) -> Result<()> {
    checkpoint.restore_weights(vae.encoder.parameters_mut())?;
    checkpoint.restore_weights(vae.decoder.parameters_mut())
}

/// Whether `inner` is `outer` or lies below it.
fn inside(inner: &Path, outer: &Path) -> bool {
    let resolved = |path: &Path| {
        let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
        // what does not exist yet lies where its parent lies
        let existing = absolute.ancestors().find_map(|ancestor| ancestor.canonicalize().ok());
        existing.unwrap_or(absolute)
    };
    resolved(inner).starts_with(resolved(outer))
}

/// Loads a run's network and data set; `data` is where the pictures lie now, if they were moved.
///
/// # Errors
/// [`Error::Run`] naming the file that is missing or damaged.
pub fn open(folder: &RunFolder, which: Which, data: Option<&Path>) -> Result<Trained> {
    let mut config = Config::read(&folder.config())?;
    if let Some(path) = data {
        config.data.path = path.to_path_buf();
    }
    config.validate()?;
    let dataset = load_data(&config)?;
    let mut vae = Vae::new(&config.network, dataset.shape, config.training.seed)?;
    let path = match which {
        Which::Best => folder.best(),
        Which::Last => folder.last(),
    };
    if !path.is_file() {
        return Err(Error::run(&path, "does not exist yet: the run has not finished an epoch"));
    }
    let mut stored = checkpoint::read(&path)?;
    stored.check_data(&dataset.name, &dataset.sha256())?;
    restore_weights(&mut stored, &mut vae)?;
    Ok(Trained { which, config, dataset, vae, position: stored.position, checkpoint_sha256: stored.sha256 })
}

/// Loads the data set that a configuration names.
///
/// # Errors
/// [`Error::Data`].
pub fn load_data(config: &Config) -> Result<Dataset> {
    let path = Some(config.data.path.as_path()).filter(|path| !path.as_os_str().is_empty());
    data::load(path, LoadOptions { side: config.data.side, gray: config.data.gray })
}

/// Told about a run while it goes on.
pub trait Observer {
    /// Step `step` of `total` is done, with these mean terms of its batch.
    fn step(&mut self, step: u64, total: u64, reconstruction: f64, kl: f64);
    /// An epoch is done.
    fn epoch(&mut self, epoch: &Epoch);
}

/// How a call of [`Trainer::train`] ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All steps are done.
    Finished,
    /// It was asked to stop; the state is stored.
    Stopped,
}

/// A run under way.
pub struct Trainer {
    config: Config,
    dataset: Dataset,
    vae: Vae,
    adam: Adam,
    gradients: [Gradients; 2],
    position: Position,
    epochs: Vec<Epoch>,
    folder: RunFolder,
    order: (u64, Vec<u32>),
    /// Held while the run is trained, so that no second process trains it.
    lock: Option<File>,
}

impl Trainer {
    /// Begins a run in `folder`, which must not hold one.
    ///
    /// # Errors
    /// If a run is there already, or the configuration or the data set is unusable.
    pub fn begin(folder: RunFolder, config: Config, dataset: Dataset) -> Result<Self> {
        let place = folder.root();
        if !config.data.path.as_os_str().is_empty() && inside(place, &config.data.path) {
            return Err(Error::run(
                place,
                "lies inside of --data, where its pictures would be learned from; choose another --out",
            ));
        }
        let in_use = fs::read_dir(place).is_ok_and(|mut entries| entries.next().is_some());
        if in_use && !folder.config().exists() {
            return Err(Error::run(place, "exists and is not empty; choose another --out"));
        }
        if folder.config().exists() {
            return Err(Error::run(
                folder.root(),
                "holds a run already; --resume goes on with it, another --out begins a new one",
            ));
        }
        let mut trainer = Self::new(folder, config, dataset)?;
        trainer.lock()?;
        trainer.write_config()?;
        Ok(trainer)
    }

    /// Goes on with the run in `folder` from its last checkpoint. Of its settings only the length, and
    /// the place of the same pictures, may differ.
    ///
    /// # Errors
    /// If settings differ, or a file is missing or damaged.
    pub fn resume(folder: RunFolder, config: Config, dataset: Dataset) -> Result<Self> {
        let stored = Config::read(&folder.config())?;
        let mut comparable = stored.clone();
        comparable.training.epochs = config.training.epochs;
        comparable.training.steps = config.training.steps;
        // the pictures themselves are compared, wherever they lie now
        comparable.data.path.clone_from(&config.data.path);
        let differences = comparable.differences(&config)?;
        if !differences.is_empty() {
            let problem = format!("cannot be resumed with other settings: {}", differences.join("; "));
            return Err(Error::run(folder.root(), problem));
        }
        let mut trainer = Self::new(folder, config, dataset)?;
        trainer.lock()?; // first: what another process still writes must not be read
        let path = trainer.folder.last();
        if path.is_file() {
            let checkpoint = checkpoint::read(&path)?;
            trainer.take_up(checkpoint)?;
        } else if trainer.folder.best().exists() || trainer.folder.metrics().exists() {
            return Err(Error::run(
                &path,
                "is missing, though the run has finished epochs; put it back, or begin a new run",
            ));
        } // else it was killed before its first checkpoint: it begins again
        if trainer.total_steps() < trainer.position.step {
            return Err(Error::run(
                trainer.folder.root(),
                format!(
                    "has done {} steps already, more than the {} asked for",
                    trainer.position.step,
                    trainer.total_steps()
                ),
            ));
        }
        trainer.write_config()?;
        Ok(trainer)
    }

    /// Makes the folder this process's own.
    fn lock(&mut self) -> Result<()> {
        self.folder.create()?;
        let path = self.folder.root.join("lock");
        let lock = File::create(&path).map_err(|e| Error::io("write", &path, e))?;
        if let Err(TryLockError::WouldBlock) = lock.try_lock() {
            return Err(Error::run(self.folder.root(), "is being trained by another process"));
        } // a file system without locks does without
        self.lock = Some(lock);
        Ok(())
    }

    fn write_config(&self) -> Result<()> {
        let text = self.config.to_toml()?;
        Ok(write_atomically(&self.folder.config(), |out| std::io::Write::write_all(out, text.as_bytes()))?)
    }

    fn new(folder: RunFolder, config: Config, dataset: Dataset) -> Result<Self> {
        config.validate()?;
        if dataset.train.count() == 0 {
            return Err(Error::data(&config.data.path, "holds no training pictures"));
        }
        let vae = Vae::new(&config.network, dataset.shape, config.training.seed)?;
        let adam = Adam::new(&[&vae.encoder, &vae.decoder], config.adam);
        let gradients = [Gradients::of(&vae.encoder), Gradients::of(&vae.decoder)];
        let position = Position { data_sha256: Some(dataset.sha256()), ..Position::default() };
        let (epochs, order) = (Vec::new(), (u64::MAX, Vec::new()));
        let trainer =
            Self { config, dataset, vae, adam, gradients, position, epochs, folder, order, lock: None };
        let (batch, largest) = (trainer.batch_size(), trainer.vae.largest_layer());
        if largest.saturating_mul(batch) > LARGEST_LAYER {
            return Err(Error::Config(format!(
                "a batch of {batch} with {largest} values in its largest layer is more than memory should hold; choose a smaller --batch or --size"
            )));
        }
        trainer.config.to_toml()?; // refused before anything is written
        Ok(trainer)
    }

    fn take_up(&mut self, mut checkpoint: Checkpoint) -> Result<()> {
        let sha256 = self.position.data_sha256.take().unwrap_or_else(|| self.dataset.sha256());
        checkpoint.check_data(&self.dataset.name, &sha256)?;
        restore_weights(&mut checkpoint, &mut self.vae)?;
        let moments = checkpoint.moments(self.vae.parameters())?;
        self.adam.restore(checkpoint.position.step, moments);
        self.position = Position { data_sha256: Some(sha256), ..checkpoint.position };
        // epochs that were reported after the checkpoint will come again
        self.epochs = metrics::read(&self.folder.metrics())?;
        self.epochs.retain(|epoch| epoch.step <= self.position.step);
        Ok(())
    }

    /// Steps done so far.
    pub fn step_count(&self) -> u64 {
        self.position.step
    }

    /// What is about to happen, for a person.
    pub fn summary(&self) -> String {
        /// Below this, a network has hardly begun to learn whatever the pictures are.
        const FEW_STEPS: u64 = 1_000;
        let Dataset { name, shape, train, validation, test, .. } = &self.dataset;
        let total = self.total_steps();
        let advice = if total < FEW_STEPS { "; that is few: expect mud, and see --steps" } else { "" };
        format!(
            "{name}: {} training, {} validation, {} test pictures of {shape}; {total} steps of {} pictures{advice}",
            train.count(),
            validation.count(),
            test.count(),
            self.batch_size()
        )
    }

    fn batch_size(&self) -> usize {
        self.config.training.batch.min(self.dataset.train.count())
    }

    fn steps_per_epoch(&self) -> u64 {
        (self.dataset.train.count() / self.batch_size()) as u64
    }

    /// All steps of the run.
    pub fn total_steps(&self) -> u64 {
        self.config.training.total_steps(self.steps_per_epoch())
    }

    /// Trains until the end, or until `stop` is set; the state is stored in both cases.
    ///
    /// # Errors
    /// [`Error::Training`] if the loss is no longer a number: the last checkpoint stays.
    pub fn train(&mut self, observer: &mut dyn Observer, stop: &AtomicBool) -> Result<Outcome> {
        let total = self.total_steps();
        let mut clock = Instant::now();
        let mut stored = Instant::now();
        while self.position.step < total {
            if stop.load(Ordering::Relaxed) {
                self.position.seconds += clock.elapsed().as_secs_f64();
                self.store()?;
                return Ok(Outcome::Stopped);
            }
            let (reconstruction, kl) = self.step(total)?;
            self.position.sums.add(reconstruction, kl, self.batch_size());
            self.position.step += 1;
            observer.step(self.position.step, total, reconstruction, kl);
            if self.position.step.is_multiple_of(self.steps_per_epoch()) || self.position.step == total {
                self.position.seconds += clock.elapsed().as_secs_f64();
                self.finish_epoch(total)?;
                if let Some(epoch) = self.epochs.last() {
                    observer.epoch(epoch);
                }
                stored = Instant::now();
                clock = Instant::now();
            } else if stored.elapsed() > CHECKPOINT_EVERY {
                self.position.seconds += clock.elapsed().as_secs_f64();
                clock = Instant::now();
                self.store()?;
                stored = Instant::now();
            }
        }
        Ok(Outcome::Finished)
    }

    fn beta(&self, step: u64) -> f64 {
        let objective = &self.config.objective;
        let grown = (step + 1) as f64 / objective.beta_warmup.max(1) as f64;
        objective.beta * grown.min(1.0)
    }

    /// One step; returns the mean terms of its batch.
    fn step(&mut self, total: u64) -> Result<(f64, f64)> {
        let step = self.position.step;
        let seed = self.config.training.seed;
        let (clean, seen) = self.batch();
        let mut noise = vec![0f32; self.batch_size() * self.vae.latent];
        Stream::new(seed, Purpose::Posterior, step).fill_normal(&mut noise);
        let seen = seen.as_deref().unwrap_or(&clean);
        let beta = self.beta(step);
        self.gradients.iter_mut().for_each(Gradients::clear);
        let example = Example { seen, clean: &clean, noise: &noise };
        let terms = self.vae.learn(&example, &self.config.objective, beta, &mut self.gradients);
        let (reconstruction, kl) = terms.means();
        if !(reconstruction - beta * kl).is_finite() {
            return Err(self.diverged(&format!("the loss is {}", beta * kl - reconstruction)));
        }
        if !clip(&mut self.gradients, self.config.training.clip) {
            return Err(self.diverged("the gradients' norm is not finite"));
        }
        let rate = self.config.training.rate(step, total);
        let [of_encoder, of_decoder] = &self.gradients;
        let Vae { encoder, decoder, .. } = &mut self.vae;
        self.adam.update(&mut [(encoder, of_encoder), (decoder, of_decoder)], rate);
        Ok((reconstruction, kl))
    }

    fn diverged(&self, what: &str) -> Error {
        Error::Training(format!(
            "{what} after step {}: the run has diverged; its last checkpoint is kept in {}; begin a new run with a lower --learning-rate or with --set training.clip=10",
            self.position.step,
            self.folder.root().display()
        ))
    }

    /// (target, what the encoder sees if that is something else) of the step under way, each (N, C, H, W).
    fn batch(&mut self) -> (Vec<f32>, Option<Vec<f32>>) {
        let step = self.position.step;
        let seed = self.config.training.seed;
        let epoch = step / self.steps_per_epoch();
        if self.order.0 != epoch {
            let count = self.dataset.train.count() as u32;
            self.order = (epoch, Stream::new(seed, Purpose::Order, epoch).permutation(count));
        }
        let start = (step % self.steps_per_epoch()) as usize * self.batch_size();
        let indices = self.order.1[start..start + self.batch_size()].iter().map(|index| *index as usize);
        let shape = self.dataset.shape;
        let mut clean = data::batch(shape, &self.dataset.train, indices);
        if self.config.objective.binarize == Binarize::Stochastic {
            data::binarize(&mut clean, &mut Stream::new(seed, Purpose::Binarize, step));
        }
        let deviation = self.config.objective.denoise as f32;
        let seen = (deviation > 0.0).then(|| {
            let mut seen = clean.clone();
            data::add_noise(&mut seen, deviation, &mut Stream::new(seed, Purpose::Denoise, step));
            seen
        });
        (clean, seen)
    }

    fn held_out(&self, limit: usize) -> HeldOut<'_> {
        let (objective, pictures) = (&self.config.objective, &self.dataset.validation);
        HeldOut::new(&self.vae, objective, self.dataset.shape, pictures, limit)
    }

    fn finish_epoch(&mut self, total: u64) -> Result<()> {
        let validation = self.held_out(self.config.training.validate).bound();
        if !validation.elbo.is_finite() {
            return Err(self.diverged(&format!("the validation ELBO is {}", validation.elbo)));
        }
        let step = self.position.step;
        let epoch = Epoch {
            epoch: step.div_ceil(self.steps_per_epoch()),
            step,
            seconds: self.position.seconds,
            beta: self.beta(step.saturating_sub(1)),
            learning_rate: self.config.training.rate(step.saturating_sub(1), total),
            train: self.position.sums.bound(),
            validation,
        };
        self.position.sums = Sums::default();
        let score = validation.reconstruction - self.config.objective.beta * validation.kl;
        let improved = self.position.best.is_none_or(|best| score > best);
        if improved {
            self.position.best = Some(score);
        }
        // made before anything is stored: it refuses a state that is no longer finite
        let last = checkpoint::encode(self.vae.parameters(), &[self.optimised()], &self.position)?;
        if improved {
            let best = checkpoint::encode(self.vae.parameters(), &[], &self.position)?;
            checkpoint::save(&self.folder.best(), &best)?;
        }
        let number = epoch.epoch;
        self.epochs.push(epoch);
        if number.is_multiple_of(self.config.training.pictures_every) || step == total {
            self.draw(number)?;
        }
        metrics::write(&self.folder.metrics(), &self.epochs)?;
        checkpoint::save(&self.folder.last(), &last)
    }

    fn optimised(&self) -> checkpoint::Optimised<'_> {
        (&self.adam, self.vae.parameters().filter(|parameter| parameter.trained).collect())
    }

    fn drawer(&self) -> Drawer<'_> {
        Drawer { module: &self.vae.decoder, shape: self.dataset.shape, range: Range::Unit }
    }

    fn store(&self) -> Result<()> {
        let last = checkpoint::encode(self.vae.parameters(), &[self.optimised()], &self.position)?;
        checkpoint::save(&self.folder.last(), &last)
    }

    fn draw(&self, epoch: u64) -> Result<()> {
        let samples = self.drawer().samples(self.config.training.seed, SAMPLES);
        pictures::write_grid(&samples, None, &self.folder.picture("samples", epoch))?;
        let pairs = self.reconstructions();
        pictures::write_grid(&pairs, Some(RECONSTRUCTIONS), &self.folder.picture("reconstructions", epoch))?;
        if self.vae.latent == 2 {
            let grid = pictures::latent_grid(self.drawer(), LATENT_GRID);
            pictures::write_grid(&grid, Some(LATENT_GRID), &self.folder.root.join("latent-grid.png"))?;
        }
        pictures::write_curves(&self.epochs, &self.folder.root.join("curves.png"))
    }

    /// Rows of validation pictures, each above its reconstruction from the posterior mean.
    fn reconstructions(&self) -> Vec<edgegen_runtime::generate::Frame> {
        const ROWS: usize = 4;
        let shape = self.dataset.shape;
        let count = (ROWS * RECONSTRUCTIONS).min(self.dataset.validation.count());
        let (_, seen) = self.held_out(0).batch(0..count);
        let rebuilt = self.drawer().values(&self.vae.encode(&seen).mean, None);
        let rebuilt = pictures::frames(&rebuilt, shape, Range::Unit);
        let originals = pictures::frames(&seen, shape, Range::Unit);
        let rows = originals.chunks(RECONSTRUCTIONS).zip(rebuilt.chunks(RECONSTRUCTIONS));
        // a last row that is not full would tear pairs apart
        let full = rows.filter(|(row, _)| row.len() == RECONSTRUCTIONS || count < RECONSTRUCTIONS);
        full.flat_map(|(original, rebuilt)| original.iter().chain(rebuilt)).cloned().collect()
    }
}

/// Scales all gradients down so that their common norm is at most `bound` (0: none). False if the norm
/// is no number.
fn clip(gradients: &mut [Gradients], bound: f64) -> bool {
    if bound == 0.0 {
        return true;
    }
    let norm = gradients.iter().map(Gradients::squares).sum::<f64>().sqrt();
    if norm > bound && norm.is_finite() {
        gradients.iter_mut().for_each(|gradients| gradients.scale((bound / norm) as f32));
    }
    norm.is_finite()
}
