//! The loop and its run folder.
//!
//! ```text
//! RUN/config.toml                 every setting
//! RUN/metrics.jsonl               one line an epoch
//! RUN/curves.png
//! RUN/samples/epoch-0001.png      drawn from the prior, always the same latents
//! RUN/reconstructions/epoch-0001.png  of a VAE
//! RUN/evaluation.json             of the test pictures, once asked for
//! RUN/latent-grid.png             of a VAE with latents of two values
//! RUN/checkpoints/last.safetensors    everything needed to go on
//! RUN/checkpoints/best.safetensors    weights of the best validation objective; a GAN has none
//! ```
//!
//! Step s of a run depends on the configuration, the pictures and s alone, so a run that is cut and
//! resumed ends in the weights of one that was not (on the CPU).

use std::fs::{self, File, TryLockError};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use candle_core::Device;
use edgegen_runtime::files::write_atomically;
use edgegen_runtime::random::{Purpose, Stream};

use super::checkpoint::{self, Checkpoint, Position};
use super::config::Config;
use super::folder::RunFolder;
use super::learner::{self, Learner, Step, Stop};
use super::metrics::{self, Epoch, Figures, Sums};
use super::pictures;
use crate::data::{self, Dataset, LoadOptions};
use crate::{Error, Result};

/// Longest training time that a kill can cost.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(60);
/// Most values of one layer's outputs for a whole batch: 1 GiB, of which a step keeps several.
const LARGEST_LAYER: usize = 1 << 28;

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
    /// Step `step` of `total` is done, with these figures of its batch.
    fn step(&mut self, step: u64, total: u64, figures: &Figures);
    /// An epoch is done.
    fn epoch(&mut self, epoch: &Epoch);
    /// Something that the run's owner should look at.
    fn warning(&mut self, warning: &str);
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
    learner: Box<dyn Learner>,
    position: Position,
    epochs: Vec<Epoch>,
    folder: RunFolder,
    order: (u64, Vec<u32>),
    /// Held while the run is trained, so that no second process trains it.
    lock: Option<File>,
}

impl Trainer {
    /// Begins a run in `folder`, which must not hold one, with steps on `device` (`None`: the CPU).
    ///
    /// # Errors
    /// If a run is there already, or the configuration, the data set or the device is unusable.
    pub fn begin(
        folder: RunFolder,
        config: Config,
        dataset: Dataset,
        device: Option<&Device>,
    ) -> Result<Self> {
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
        trainer.move_to(device)?; // refused before anything is written
        trainer.lock()?;
        trainer.write_config()?;
        Ok(trainer)
    }

    /// Goes on with the run in `folder` from its last checkpoint. Of its settings only the length, and
    /// the place of the same pictures, may differ.
    ///
    /// # Errors
    /// If settings differ, or a file is missing or damaged.
    pub fn resume(
        folder: RunFolder,
        config: Config,
        dataset: Dataset,
        device: Option<&Device>,
    ) -> Result<Self> {
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
        trainer.move_to(device)?;
        trainer.write_config()?;
        Ok(trainer)
    }

    /// Makes the folder this process's own.
    fn lock(&mut self) -> Result<()> {
        self.folder.make()?;
        let path = self.folder.root().join("lock");
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
        let learner = learner::of(&config, &dataset)?;
        let position = Position { data_sha256: Some(dataset.sha256()), ..Position::default() };
        let (epochs, order) = (Vec::new(), (u64::MAX, Vec::new()));
        let trainer = Self { config, dataset, learner, position, epochs, folder, order, lock: None };
        let (batch, largest) = (trainer.batch_size(), trainer.learner.largest_layer());
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
        let steps = checkpoint.position.step;
        self.learner.restore(&mut checkpoint, steps)?;
        self.position = Position { data_sha256: Some(sha256), ..checkpoint.position };
        // epochs that were reported after the checkpoint will come again
        self.epochs = metrics::read(&self.folder.metrics())?;
        self.epochs.retain(|epoch| epoch.step <= self.position.step);
        Ok(())
    }

    /// Makes steps on a device from here on; `None`: on the CPU.
    fn move_to(&mut self, device: Option<&Device>) -> Result<()> {
        device.map_or(Ok(()), |device| self.learner.move_to(device))
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
            let figures = self.step(total)?;
            self.position.sums.add(&figures);
            self.position.step += 1;
            observer.step(self.position.step, total, &figures);
            if self.position.step.is_multiple_of(self.steps_per_epoch()) || self.position.step == total {
                self.position.seconds += clock.elapsed().as_secs_f64();
                let warnings = self.finish_epoch(total)?;
                if let Some(epoch) = self.epochs.last() {
                    observer.epoch(epoch);
                }
                warnings.iter().for_each(|warning| observer.warning(warning));
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

    /// One step; returns its figures.
    fn step(&mut self, total: u64) -> Result<Figures> {
        let indices = self.indices();
        let step = self.position.step;
        let rate = self.config.training.rate(step, total);
        let at = Step { step, rate, indices: &indices };
        self.learner.step(&at, &self.dataset).map_err(|stop| match stop {
            Stop::Diverged(why) => self.diverged(&why),
            Stop::Device(error) => crate::device::failed(&error),
        })
    }

    fn diverged(&self, what: &str) -> Error {
        Error::Training(format!(
            "{what} after step {}: the run has diverged; its last checkpoint is kept in {}; begin a new run with a lower --learning-rate or with --set training.clip=10",
            self.position.step,
            self.folder.root().display()
        ))
    }

    /// The training pictures of the step under way.
    fn indices(&mut self) -> Vec<usize> {
        let step = self.position.step;
        let epoch = step / self.steps_per_epoch();
        if self.order.0 != epoch {
            let count = self.dataset.train.count() as u32;
            let order = Stream::new(self.config.training.seed, Purpose::Order, epoch).permutation(count);
            self.order = (epoch, order);
        }
        let start = (step % self.steps_per_epoch()) as usize * self.batch_size();
        self.order.1[start..start + self.batch_size()].iter().map(|index| *index as usize).collect()
    }

    /// Judges, draws and stores; returns warnings.
    fn finish_epoch(&mut self, total: u64) -> Result<Vec<String>> {
        self.learner.settle()?;
        let train = self.position.sums.means();
        let verdict = self.learner.judge(&self.dataset, &train);
        if let Some((name, value)) = verdict.figures.iter().find(|(_, value)| !value.is_finite()) {
            return Err(self.diverged(&format!("{name} is {value} at the end of the epoch")));
        }
        let step = self.position.step;
        let epoch = Epoch {
            epoch: step.div_ceil(self.steps_per_epoch()),
            step,
            seconds: self.position.seconds,
            learning_rate: self.config.training.rate(step.saturating_sub(1), total),
            train,
            validation: verdict.figures,
        };
        self.position.sums = Sums::default();
        let improved = verdict.score.is_some_and(|score| self.position.best.is_none_or(|best| score > best));
        if improved {
            self.position.best = verdict.score;
        }
        // made before anything is stored: it refuses a state that is no longer finite
        let last = self.encode()?;
        if improved {
            let best = checkpoint::encode(self.learner.parameters().into_iter(), &[], &self.position)?;
            checkpoint::save(&self.folder.best(), &best)?;
        }
        let number = epoch.epoch;
        self.epochs.push(epoch);
        if number.is_multiple_of(self.config.training.pictures_every) || step == total {
            self.learner.draw(&self.folder, number, &self.dataset)?;
            let curves = self.folder.root().join("curves.png");
            pictures::write_curves(&self.epochs, &self.learner.panels(), &curves)?;
        }
        metrics::write(&self.folder.metrics(), &self.epochs)?;
        checkpoint::save(&self.folder.last(), &last)?;
        Ok(verdict.warnings)
    }

    fn encode(&self) -> Result<Vec<u8>> {
        let parameters = self.learner.parameters().into_iter();
        checkpoint::encode(parameters, &self.learner.optimisers(), &self.position)
    }

    fn store(&mut self) -> Result<()> {
        self.learner.settle()?;
        checkpoint::save(&self.folder.last(), &self.encode()?)
    }
}
