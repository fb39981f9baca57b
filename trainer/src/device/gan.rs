//! [`Gan::learn`] on tensors.

use candle_core::{Device, Result, Tensor, Var};
use edgegen_runtime::random::Stream;

use super::adam::DeviceAdam;
use super::layers::{DeviceModule, Kinks, rows_of};
use super::{augment, softplus};
use crate::gan::augment::Draws;
use crate::gan::loss::{Loss, Wanted};
use crate::gan::penalty::{STEP, reach};
use crate::gan::{Example, Figures, Gan, GanConfig, Pace};
use crate::network::Shape;

/// A GAN and its optimisers on a device.
pub(crate) struct DeviceGan {
    device: Device,
    generator: DeviceModule,
    discriminator: DeviceModule,
    average: DeviceModule,
    generator_adam: DeviceAdam,
    discriminator_adam: DeviceAdam,
    /// The place of each weight that is divided by its largest singular value, and its left vector (outputs).
    spectral: Vec<(usize, Tensor)>,
    latent: Shape,
    image: Shape,
    config: GanConfig,
}

impl DeviceGan {
    /// Copies the whole state.
    pub(crate) fn of(gan: &Gan, device: &Device) -> Result<Self> {
        let module = |module| DeviceModule::of(module, device);
        let (generator, discriminator) = (module(&gan.generator)?, module(&gan.discriminator)?);
        let [(of_generator, _), (of_discriminator, _)] = gan.optimisers();
        let vectors = gan.singular_vectors();
        Ok(Self {
            generator_adam: DeviceAdam::of(of_generator, &[&generator], device)?,
            discriminator_adam: DeviceAdam::of(of_discriminator, &[&discriminator], device)?,
            average: module(&gan.average)?,
            spectral: vectors
                .into_iter()
                .map(|(place, left)| Ok((place, Tensor::from_slice(&left.value, left.value.len(), device)?)))
                .collect::<Result<_>>()?,
            latent: gan.generator.network().input,
            image: gan.discriminator.network().input,
            config: gan.config().clone(),
            device: device.clone(),
            generator,
            discriminator,
        })
    }

    /// Copies the whole state back.
    pub(crate) fn store(&self, gan: &mut Gan) -> Result<()> {
        self.generator.store(&mut gan.generator)?;
        self.average.store(&mut gan.average)?;
        self.discriminator.store(&mut gan.discriminator)?;
        let [(of_generator, _), (of_discriminator, _)] = gan.optimisers_mut();
        self.generator_adam.store(of_generator)?;
        self.discriminator_adam.store(of_discriminator)?;
        let vectors =
            self.spectral.iter().map(|(_, left)| left.to_vec1()).collect::<Result<Vec<Vec<f32>>>>()?;
        gan.set_singular_vectors(vectors);
        Ok(())
    }

    /// One step, as [`Gan::learn`].
    pub(crate) fn learn(
        &mut self,
        example: &Example<'_>,
        pace: Pace,
        chance: &mut Stream,
    ) -> Result<Figures> {
        let count = example.latents.len() / self.latent.values();
        let rows = |values: &[f32], shape| Tensor::from_slice(values, rows_of(count, shape), &self.device);
        let (latents, real) = (rows(example.latents, self.latent)?, rows(example.real, self.image)?);
        let classes = example.classes.as_deref();
        let classes = classes.map(|classes| Tensor::from_slice(classes, count, &self.device)).transpose()?;
        let classes = classes.as_ref();
        let mut figures = Figures::default();
        let drawn = self.generator.forward(&latents, classes, None, &[])?;

        let divided = self.divide()?;
        let draws = self.draws(count, chance);
        let wanted = Wanted::Real(self.config.label_smoothing);
        let seen = augmented(draws.as_ref(), &real)?;
        let mut loss = self.judge(&seen, classes, wanted, &divided, &mut figures)?;
        if self.config.r1 > 0.0 && pace.step.is_multiple_of(self.config.r1_every) {
            let weight = self.config.r1 * self.config.r1_every as f64;
            let (penalty, slope) = self.penalise(&real, classes, draws.as_ref(), weight)?;
            figures.slope = Some(slope);
            loss = (loss + penalty)?;
        }
        let seen = augmented(self.draws(count, chance).as_ref(), &drawn.detach())?;
        loss = (loss + self.judge(&seen, classes, Wanted::Drawn, &divided, &mut figures)?)?;
        let rate = pace.rate * self.config.discriminator_rate;
        figures.discriminator_norm =
            self.discriminator_adam.update(&[&self.discriminator], &loss.backward()?, rate, pace.clip)?;

        if self.config.moves_generator(pace.step) {
            let seen = augmented(self.draws(count, chance).as_ref(), &drawn)?;
            let divided = self.divide()?;
            let logits = self.discriminator.forward(&seen, classes, None, &divided)?;
            let loss = mean_loss(self.config.loss, &logits, Wanted::Fooled)?;
            figures.generator_loss = Some(f64::from(loss.to_scalar::<f32>()?));
            let gradients = loss.backward()?;
            let norm = self.generator_adam.update(&[&self.generator], &gradients, pace.rate, pace.clip)?;
            figures.generator_norm = Some(norm);
            let decay = self.config.decay(self.generator_adam.steps());
            self.average.follow(&self.generator, decay)?;
        }
        Ok(figures)
    }

    /// D's loss on a batch.
    fn judge(
        &self,
        pictures: &Tensor,
        classes: Option<&Tensor>,
        wanted: Wanted,
        divided: &[(usize, Tensor)],
        figures: &mut Figures,
    ) -> Result<Tensor> {
        let logits = self.discriminator.forward(pictures, classes, None, divided)?;
        let loss = mean_loss(self.config.loss, &logits, wanted)?;
        figures.discriminator_loss += f64::from(loss.to_scalar::<f32>()?);
        let values = logits.flatten_all()?.to_vec1::<f32>()?;
        figures.note_accuracy(wanted, &values);
        Ok(loss)
    }

    /// R1 by a difference, see [`crate::gan::penalty`]: a tensor that has its gradient, and the mean of ‖∇D‖².
    fn penalise(
        &self,
        real: &Tensor,
        classes: Option<&Tensor>,
        draws: Option<&Draws>,
        weight: f64,
    ) -> Result<(Tensor, f64)> {
        let count = real.dim(0)?;
        let x = Var::from_tensor(real)?;
        // R1 and spectral normalisation exclude each other: no weight is divided
        let sum = |x: &Tensor, mut kinks: Kinks<'_>| {
            let seen = augmented(draws, x)?;
            self.discriminator.forward_along(&seen, classes, None, &[], &mut kinks)?.sum_all()
        };
        let mut slopes = Vec::new();
        let gradients = sum(&x, Kinks::Noted(&mut slopes))?.backward()?;
        let nothing = || Tensor::zeros_like(real);
        let slope = gradients.get(&x).map_or_else(nothing, |slope| Ok(slope.detach()))?;
        let rows = slope.flatten_all()?.to_vec1::<f32>()?;
        let squares = rows.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>() / count as f64;
        let Some(reach) = reach(&rows, rows.len() / count, STEP) else {
            return Ok((Tensor::zeros((), real.dtype(), real.device())?, squares));
        };
        let step = (slope * reach)?;
        let along = |x: &Tensor| sum(x, Kinks::Held(slopes.iter()));
        let difference = (along(&(real + &step)?)? - along(&(real - &step)?)?)?;
        Ok(((difference * (weight / (2.0 * reach * count as f64)))?, squares))
    }

    fn draws(&self, count: usize, chance: &mut Stream) -> Option<Draws> {
        let (channels, height, width) = self.image.image();
        let shape = edgegen_runtime::model::ImageShape { channels, height, width };
        let some = !self.config.augment.is_empty();
        some.then(|| Draws::new(&self.config.augment, shape, count, chance))
    }

    /// A step of power iteration; each weight divided by its largest singular value, as D is to use it.
    fn divide(&mut self) -> Result<Vec<(usize, Tensor)>> {
        let mut divided = Vec::with_capacity(self.spectral.len());
        for (place, left) in &mut self.spectral {
            let weight = self.discriminator.value(*place).as_tensor();
            let matrix = weight.flatten_from(1)?;
            let normal = |vector: Tensor| {
                let norm = f64::from(vector.sqr()?.sum_all()?.to_scalar::<f32>()?).sqrt().max(1e-12);
                vector * (1.0 / norm)
            };
            let held = matrix.detach();
            let right = normal(left.unsqueeze(0)?.matmul(&held)?.squeeze(0)?)?;
            *left = normal(held.matmul(&right.unsqueeze(1)?)?.squeeze(1)?)?;
            let sigma = left.unsqueeze(0)?.matmul(&matrix)?.matmul(&right.unsqueeze(1)?)?;
            let dims = vec![1; weight.rank()];
            divided.push((*place, weight.broadcast_div(&sigma.reshape(dims)?)?));
        }
        Ok(divided)
    }
}

/// Pictures (N, C, H, W) as D sees them.
fn augmented(draws: Option<&Draws>, pictures: &Tensor) -> Result<Tensor> {
    draws.map_or_else(|| Ok(pictures.clone()), |draws| augment::apply(draws, pictures))
}

/// [`Loss::of`] on a tensor of logits.
fn mean_loss(loss: Loss, logits: &Tensor, wanted: Wanted) -> Result<Tensor> {
    let opposite = || logits.neg();
    let terms = match (loss, wanted) {
        (Loss::Hinge, Wanted::Real(_)) => (opposite()? + 1.0)?.relu()?,
        (Loss::Hinge, Wanted::Drawn) => (logits + 1.0)?.relu()?,
        (Loss::Hinge, Wanted::Fooled) => opposite()?,
        (_, Wanted::Real(doubt)) => {
            ((softplus(&opposite()?)? * (1.0 - doubt))? + (softplus(logits)? * doubt)?)?
        }
        (_, Wanted::Drawn) => softplus(logits)?,
        (Loss::Minimax, Wanted::Fooled) => softplus(logits)?.neg()?,
        (_, Wanted::Fooled) => softplus(&opposite()?)?,
    };
    terms.mean_all()
}
