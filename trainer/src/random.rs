//! What the trainer's random numbers are for. The numbers are the runtime's, which draws users' latents itself.

pub use edgegen_runtime::random::Stream;

/// What the trainer draws numbers for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Purpose {
    /// First weights of a network; the index is the parameter's number.
    Weights = 1,
    /// The order of the training pictures; the index is the epoch.
    Order = 2,
    /// Noise of the posterior sample z = mean + sigma · noise; the index is the step.
    Posterior = 3,
    /// Binarisation of training pictures; the index is the step.
    Binarize = 4,
    /// Noise added to pictures for a denoiser; the index is the step.
    Denoise = 5,
    /// Everything drawn for evaluation; the index is the picture.
    Evaluation = 6,
    /// Binarisation of a held-out set; the index is the picture.
    BinarizeHeldOut = 7,
    /// Noise added to a held-out set for a denoiser; the index is the picture.
    DenoiseHeldOut = 8,
    /// Latents that a generator is trained on; the index is the step.
    Generator = 9,
    /// Differentiable augmentation; the index is the step.
    Augment = 10,
    /// First singular vectors of spectral normalisation; the index is the parameter's number.
    Spectral = 11,
    /// Inputs of fine-tuning a quantised network; the index is the step.
    Tune = 12,
    /// Which training pictures of a batch are mirrored; the index is the step.
    Mirror = 13,
    /// Uniform noise of one level on a held-out set; the index is the picture.
    DequantizeHeldOut = 14,
    /// Latents that real pictures are matched with, and which pictures are mirrored for it; the index is the round.
    Match = 15,
    /// What is added to matched latents; the index is the step.
    Jitter = 16,
    /// Pieces of pictures and what is done to them, for a network that restores them; the index is the step · 2¹⁶ + the
    /// picture's place in the batch.
    Degrade = 17,
    /// What is done to held-out pictures; the index is the picture.
    DegradeHeldOut = 18,
}

impl From<Purpose> for edgegen_runtime::random::Purpose {
    fn from(purpose: Purpose) -> Self {
        Self::new(purpose as u64)
    }
}
