//! The loop and its run folder.
//!
//! ```text
//! RUN/config.toml                     every setting, with what it means
//! RUN/pictures.safetensors            a few of the pictures, so that the run can be used without their folder
//! RUN/metrics.jsonl                   one line a report
//! RUN/events.out.tfevents.*           the same for TensorBoard
//! RUN/curves.png
//! RUN/samples/step-0000010.png        generated from the prior, always the same latents
//! RUN/reconstructions/step-0000010.png    of a VAE
//! RUN/latent-grid.png                 of a VAE with latents of two values
//! RUN/evaluation.json                 what `edgegen-train eval` found
//! RUN/checkpoints/last.safetensors    everything needed to go on
//! RUN/checkpoints/best.safetensors    the weights of the best report
//! RUN/checkpoints/judge.safetensors   of a GAN: the discriminator whose features rank the reports
//! RUN/snapshots/step-0000200.safetensors  of a GAN: averaged generators, a dozen at most
//! ```
//!
//! Step s of a run depends on the configuration, the pictures and s alone, and so do its reports. A run that is cut and
//! resumed therefore ends in the weights of one that was not (on the CPU).

use std::fs::{self, File, TryLockError};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use edgegen_runtime::files::write_atomically;

use super::checkpoint::{self, Checkpoint, Position};
use super::config::{Config, Objective, TrainingConfig};
use super::events::EventFile;
use super::folder::RunFolder;
use super::init::{Taken, Weights};
use super::kept::Kept;
use super::learner::{self, Learner, Moment, Step, Stop};
use super::metrics::{self, Figures, Report, Sums};
use super::pictures;
use crate::compute::candle::Candle;
use crate::data::{self, Dataset, HeldOut, LoadOptions, Mirror};
use crate::{Error, Result};

/// A checkpoint of so many bytes is written every `training.checkpoint_seconds`, a larger one as much less often, so that a
/// run does not wear out an SD card.
const CHECKPOINT_BYTES: f64 = 12e6;
/// Steps that a new discriminator learns alone before a generator that was trained already moves.
const NEW_DISCRIMINATOR: u64 = 200;
/// Steps without a better report before a run may stop early.
const FEWEST_STEPS_TO_STOP: u64 = 500;
/// Share of the time asked for that steps get; the rest is for reports.
const SHARE_OF_STEPS: f64 = 0.93;
/// What a step's time is measured on.
const MEASURED_STEPS: u64 = 8;
const MEASURED_TIME: Duration = Duration::from_secs(10);
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

/// Loads the data set that a configuration names. Decoded pictures are kept in the folder `cache`, if there is one;
/// `progress` is told of files that are decoded.
///
/// # Errors
/// [`Error::Data`]; [`Error::Config`] if classes are to be balanced and there are none.
pub fn load_data(config: &Config, cache: Option<&Path>, progress: &data::Progress<'_>) -> Result<Dataset> {
    let settings = &config.data;
    let path = Some(settings.path.as_path()).filter(|path| !path.as_os_str().is_empty());
    let held_out = match (settings.held_out, &config.objective) {
        // nothing is chosen by validation pictures
        (HeldOut::Auto, Objective::Gan(_)) => HeldOut::Share(0.0),
        (held_out, _) => held_out,
    };
    let options = LoadOptions {
        gray: settings.gray,
        fit: settings.fit,
        group_by: settings.group_by.clone(),
        held_out,
        // backwards is another sound
        mirror: if settings.sound().is_some() { Mirror::No } else { settings.mirror },
        sound: settings.sound(),
        stride: settings.stride,
        pairs: settings.pairs(),
        cache: cache.map(Path::to_path_buf),
        ..LoadOptions::new(settings.size)
    };
    let mut dataset = data::load(path, &options, progress)?;
    if !settings.only.is_empty() {
        dataset = dataset.only(&settings.only)?;
    }
    if settings.balance && dataset.classes.len() < 2 {
        return Err(Error::Config(format!(
            "--balance needs pictures of two classes or more; {} has {}: put them into one sub-folder a class, or leave --balance out",
            dataset.name,
            dataset.classes.len()
        )));
    }
    Ok(dataset)
}

/// Told about a run while it goes on.
pub trait Observer {
    /// Step `step` of `total` is done, with these figures of its batch.
    fn step(&mut self, step: u64, total: u64, figures: &Figures);
    /// A report is made.
    fn report(&mut self, report: &Report);
    /// Something that the run's owner should look at.
    fn warning(&mut self, warning: &str);
}

/// How a call of [`Trainer::train`] ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All steps are done.
    Finished,
    /// Its validation objective no longer improved.
    Early,
    /// It was asked to stop; the state is stored.
    Stopped,
}

/// A run under way.
pub struct Trainer {
    config: Config,
    dataset: Dataset,
    learner: Box<dyn Learner>,
    position: Position,
    reports: Vec<Report>,
    folder: RunFolder,
    order: (u64, Vec<u32>),
    /// Best weights that are not stored yet, as a file's bytes.
    best: Option<Vec<u8>>,
    /// Bytes of the last checkpoint, with the best weights.
    stored_bytes: usize,
    taken: Option<Taken>,
    /// Seconds of a step, where a length in hours asked for it.
    measured: Option<f64>,
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
        mut config: Config,
        dataset: Dataset,
        device: Option<&Candle>,
    ) -> Result<Self> {
        let place = folder.root();
        for (flag, path) in [("--data", &config.data.path), ("--to", &config.data.to)] {
            if !path.as_os_str().is_empty() && inside(place, path) {
                return Err(Error::run(
                    place,
                    format!(
                        "lies inside of {flag}, where its pictures would be learned from; choose another --out"
                    ),
                ));
            }
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
        let first = match config.training.init_from.as_str() {
            "" => None,
            path => Some(Weights::read(Path::new(path))?),
        };
        if let (Some(weights), Objective::Gan(gan)) = (&first, &mut config.objective)
            && !weights.has("discriminator")
            && gan.generator_delay == 0
        {
            gan.generator_delay = NEW_DISCRIMINATOR;
        }
        config.network.codes = config.network.codes.min(dataset.train.count());
        let mut trainer = Self::new(folder, config, dataset, device)?; // refused before anything is written
        trainer.learner.begin(&trainer.dataset)?;
        if let Some(weights) = &first {
            trainer.taken = Some(trainer.learner.init_from(weights, &trainer.dataset)?);
        }
        trainer.set_hours(device)?;
        trainer.lock()?;
        Kept::of(&trainer.dataset).write(&trainer.folder.pictures())?;
        trainer.write_config()?;
        if first.is_some() {
            trainer.store()?; // a run that is killed early begins again from here, wherever the model is then
        }
        Ok(trainer)
    }

    /// What `training.init_from` gave, and what it did not, for a person; none if the first weights are random.
    pub fn taken(&self) -> Option<&Taken> {
        self.taken.as_ref()
    }

    /// Goes on with the run in `folder` from its last checkpoint. Of its settings only the length, `training.patience`,
    /// and the place of the same pictures may differ; with `data_changed` also the pictures.
    ///
    /// # Errors
    /// If settings or pictures differ, or a file is missing or damaged.
    pub fn resume(
        folder: RunFolder,
        mut config: Config,
        dataset: Dataset,
        device: Option<&Candle>,
        data_changed: bool,
    ) -> Result<Self> {
        let kept = Kept::of(&dataset);
        let looked_at = folder.pictures();
        if data_changed
            && config.network.codes > 0
            && looked_at.is_file()
            && Kept::read(&looked_at)?.check(&kept, folder.root()).is_err()
        {
            return Err(Error::run(
                folder.root(),
                "has learned a code for each of its pictures, which are others now: begin a new run, --init-from takes this one's weights over",
            ));
        }
        config.network.codes = config.network.codes.min(dataset.train.count());
        let mut comparable = Config::read(&folder.config())?;
        let TrainingConfig { pictures, steps, epochs, hours, patience, .. } = config.training;
        comparable.training =
            TrainingConfig { pictures, steps, epochs, hours, patience, ..comparable.training };
        // the pictures themselves are compared, wherever they lie now
        comparable.data.path.clone_from(&config.data.path);
        comparable.data.to.clone_from(&config.data.to);
        let differences = comparable.differences(&config)?;
        if !differences.is_empty() {
            let problem = format!("cannot be resumed with other settings: {}", differences.join("; "));
            return Err(Error::run(folder.root(), problem));
        }
        let mut trainer = Self::new(folder, config, dataset, device)?; // refused before anything is written
        trainer.lock()?; // first: what another process still writes must not be read
        if looked_at.is_file() && !data_changed {
            Kept::read(&looked_at)?.check(&kept, trainer.folder.root())?;
        }
        let path = trainer.folder.last();
        if path.is_file() {
            let checkpoint = checkpoint::read(&path)?;
            trainer.take_up(checkpoint)?;
        } else if trainer.folder.best().exists() {
            return Err(Error::run(
                &path,
                "is missing, though the run has stored its best weights; put it back, or begin a new run",
            ));
        } else {
            trainer.learner.begin(&trainer.dataset)?; // it was killed before its first checkpoint
        }
        trainer.set_hours(device)?;
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
        kept.write(&trainer.folder.pictures())?;
        trainer.write_config()?;
        Ok(trainer)
    }

    /// Turns a length in hours into steps, by what a step takes: measured on a copy of the networks, or what the run's own
    /// steps took so far.
    fn set_hours(&mut self, device: Option<&Candle>) -> Result<()> {
        let TrainingConfig { hours, steps, .. } = self.config.training;
        if hours == 0.0 || steps > 0 {
            return Ok(());
        }
        let Position { step: done, seconds, .. } = self.position;
        let one = if done > 0 { seconds / done as f64 } else { self.measure_step(device)? };
        self.measured = Some(one);
        let left = (hours * 3600.0 - seconds).max(0.0);
        let more = (SHARE_OF_STEPS * left / one.max(1e-6)) as u64;
        self.config.training.steps = (done + more).max(1);
        Ok(())
    }

    /// Seconds of a step, on networks that are thrown away afterwards.
    fn measure_step(&mut self, device: Option<&Candle>) -> Result<f64> {
        let mut learner = learner::of(&self.config, &self.dataset, device)?;
        let indices = self.indices();
        let rate = self.config.training.learning_rate;
        let early = match &self.config.objective {
            Objective::Gan(gan) => gan.adversarial_from,
            _ => 0.0,
        };
        let mut whole = 0.0;
        // before and after an adversary joins
        for (progress, share) in
            [(0.0, early), (1.0, 1.0 - early)].into_iter().filter(|(_, share)| *share > 0.0)
        {
            let mut times = Vec::new();
            let begun = Instant::now();
            for step in 0..MEASURED_STEPS {
                let clock = Instant::now();
                let at = Step { step, progress, rate, indices: &indices };
                learner.step(&at, &self.dataset).map_err(|stop| self.stopped(stop))?;
                times.push(clock.elapsed().as_secs_f64());
                if begun.elapsed() > MEASURED_TIME {
                    break;
                }
            }
            // the first steps allocate and wake threads
            times.sort_by(f64::total_cmp);
            whole += share * times[times.len() / 2];
        }
        Ok(whole)
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

    fn new(folder: RunFolder, config: Config, dataset: Dataset, device: Option<&Candle>) -> Result<Self> {
        config.validate()?;
        if dataset.train.count() == 0 {
            return Err(Error::data(&config.data.path, "holds no training pictures"));
        }
        let learner = learner::of(&config, &dataset, device)?;
        let trainer = Self {
            config,
            dataset,
            learner,
            position: Position::default(),
            reports: Vec::new(),
            folder,
            order: (u64::MAX, Vec::new()),
            best: None,
            stored_bytes: 0,
            taken: None,
            measured: None,
            lock: None,
        };
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
        let steps = checkpoint.position.step;
        self.learner.restore(&mut checkpoint, steps, &self.dataset)?;
        self.position = checkpoint.position;
        // reports that were made after the checkpoint will come again
        self.reports = metrics::read(&self.folder.metrics())?;
        self.reports.retain(|report| report.step <= steps);
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
        /// The same where pictures have codes: how often each picture is seen.
        const FEW_SIGHTS: u64 = 50;
        let Dataset { name, shape, train, validation, test, mirroring, .. } = &self.dataset;
        let total = self.total_steps();
        let few = match self.config.network.codes as u64 {
            0 => FEW_STEPS,
            codes => (FEW_SIGHTS * codes.min(train.count() as u64)).div_ceil(self.batch_size() as u64),
        };
        let advice = if total < few { "; that is few: expect mud, and see --steps" } else { "" };
        format!(
            "{name}: {} training, {} validation, {} test pictures of {shape}; {total} steps of {} pictures{advice}\nmirrored at random: {}, {}",
            train.count(),
            validation.count(),
            test.count(),
            self.batch_size(),
            if mirroring.on { "yes" } else { "no" },
            mirroring.why
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
        self.config.training.total_steps(self.steps_per_epoch(), self.batch_size() as u64)
    }

    /// Seconds of a step, if they were measured for a length in hours.
    pub fn seconds_per_step(&self) -> Option<f64> {
        self.measured
    }

    /// The configuration, with a length in hours turned into steps.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Trains until the end, or until `stop` is set; the state is stored in both cases.
    ///
    /// # Errors
    /// [`Error::Training`] if the loss becomes NaN or infinite: the last checkpoint stays.
    pub fn train(&mut self, observer: &mut dyn Observer, stop: &AtomicBool) -> Result<Outcome> {
        let total = self.total_steps();
        let mut events = EventFile::create(self.folder.root(), self.position.step)?;
        let mut clock = Instant::now();
        let mut stored = Instant::now();
        let mut report_at = metrics::next_report(self.position.step, total);
        while self.position.step < total {
            if stop.load(Ordering::Relaxed) {
                self.position.seconds += clock.elapsed().as_secs_f64();
                self.store()?;
                return Ok(Outcome::Stopped);
            }
            let figures = self.step(total)?;
            self.position.sums.add(&figures);
            self.position.step += 1;
            self.position.pictures += self.batch_size() as u64;
            observer.step(self.position.step, total, &figures);
            if self.position.step == report_at {
                self.position.seconds += clock.elapsed().as_secs_f64();
                let reported = self.report(total, &mut events, observer);
                if let Err(error) = reported {
                    // what fails here, a full disk for example, must not cost the steps since the last checkpoint
                    if !matches!(error, Error::Training(_)) {
                        self.store()?;
                    }
                    return Err(error);
                }
                if self.no_longer_improves(total) {
                    self.store()?;
                    return Ok(Outcome::Early);
                }
                report_at = metrics::next_report(self.position.step, total);
                clock = Instant::now();
            }
            let size = (self.stored_bytes as f64 / CHECKPOINT_BYTES).max(1.0);
            if stored.elapsed().as_secs_f64() > size * self.config.training.checkpoint_seconds {
                self.position.seconds += clock.elapsed().as_secs_f64();
                self.store()?;
                (stored, clock) = (Instant::now(), Instant::now());
            }
        }
        self.store()?;
        Ok(Outcome::Finished)
    }

    /// Whether a run that can tell has gone on for long enough without a better report.
    fn no_longer_improves(&self, total: u64) -> bool {
        let patience = self.config.training.patience;
        let since = self.position.step - self.position.best_step.min(self.position.step);
        patience > 0.0
            && !matches!(self.config.objective, Objective::Gan(_))
            && self.position.best.is_some()
            && self.position.step < total
            && since >= FEWEST_STEPS_TO_STOP.max((patience * total as f64) as u64)
    }

    /// One step; returns its figures.
    fn step(&mut self, total: u64) -> Result<Figures> {
        let indices = self.indices();
        let step = self.position.step;
        let rate = self.config.training.rate(step, total);
        let at = Step { step, progress: step as f64 / total.max(1) as f64, rate, indices: &indices };
        self.learner.step(&at, &self.dataset).map_err(|stop| self.stopped(stop))
    }

    /// Why a step could not be made, as the run's error.
    fn stopped(&self, stop: Stop) -> Error {
        match stop {
            Stop::Diverged(why) => self.diverged(&why),
            Stop::Failed(error) if self.folder.last().is_file() => Error::Training(format!(
                "{error}; the last checkpoint is kept in {}",
                self.folder.root().display()
            )),
            Stop::Failed(error) => error,
        }
    }

    fn diverged(&self, what: &str) -> Error {
        let kept = if self.folder.last().is_file() {
            format!("its last checkpoint is kept in {}", self.folder.root().display())
        } else {
            format!("no checkpoint was stored yet in {}", self.folder.root().display())
        };
        let rate = self.config.training.learning_rate;
        Error::Training(format!(
            "{what} after step {}: the run has diverged; {kept}; begin a new run with a lower --learning-rate, such as {:.0e} instead of {rate:.0e}, or with --set training.clip=10",
            self.position.step,
            rate / 3.0
        ))
    }

    /// The training pictures of the step under way.
    fn indices(&mut self) -> Vec<usize> {
        let step = self.position.step;
        let epoch = step / self.steps_per_epoch();
        if self.order.0 != epoch {
            let (seed, balance) = (self.config.training.seed, self.config.data.balance);
            self.order = (epoch, data::order(seed, epoch, &self.dataset.train, balance));
        }
        let start = (step % self.steps_per_epoch()) as usize * self.batch_size();
        self.order.1[start..start + self.batch_size()].iter().map(|index| *index as usize).collect()
    }

    /// Judges, shows and notes what the run has come to.
    fn report(&mut self, total: u64, events: &mut EventFile, observer: &mut dyn Observer) -> Result<()> {
        let train = self.position.sums.means();
        let step = self.position.step;
        let moment = Moment { step, total, folder: &self.folder, dataset: &self.dataset };
        let verdict = self.learner.judge(&moment, &train)?;
        if let Some((name, value)) = verdict.figures.iter().find(|(_, value)| !value.is_finite()) {
            return Err(self.diverged(&format!("{name} is {value}")));
        }
        let parameters = self.learner.parameters()?;
        if let Some(name) = checkpoint::not_finite(&parameters) {
            return Err(self.diverged(&format!("{name} holds a NaN or an infinite value")));
        }
        let report = Report {
            step,
            pictures: self.position.pictures,
            epoch: step as f64 / self.steps_per_epoch() as f64,
            seconds: self.position.seconds,
            learning_rate: self.config.training.rate(step.saturating_sub(1), total),
            train,
            validation: verdict.figures,
            features: verdict.features,
        };
        self.position.sums = Sums::default();
        if verdict.score.is_some_and(|score| self.position.best.is_none_or(|best| score > best)) {
            (self.position.best, self.position.best_step) = (verdict.score, step);
            self.best = Some(checkpoint::encode(&parameters, &Vec::new(), &self.position)?);
        }
        let pictures = self.learner.draw(&self.folder, step, &self.dataset)?;
        events.add(&report, &pictures)?;
        observer.report(&report);
        self.reports.push(report);
        let curves = self.folder.root().join("curves.png");
        pictures::write_curves(&self.reports, &self.learner.panels(), &curves)?;
        metrics::write(&self.folder.metrics(), &self.reports)?;
        verdict.warnings.iter().for_each(|warning| observer.warning(warning));
        Ok(())
    }

    /// Stores the best weights and the state; if a kill comes between the two, the resumed run finds the best again.
    fn store(&mut self) -> Result<()> {
        let (parameters, moments) = (self.learner.parameters()?, self.learner.moments()?);
        // first: it refuses a state that is no longer finite
        let last = checkpoint::encode(&parameters, &moments, &self.position)?;
        self.stored_bytes = last.len();
        if let Some(best) = self.best.take() {
            self.stored_bytes += best.len();
            checkpoint::save(&self.folder.best(), &best)?;
        }
        checkpoint::save(&self.folder.last(), &last)
    }
}
