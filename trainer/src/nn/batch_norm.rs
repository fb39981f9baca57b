//! Batch normalisation (S. Ioffe, C. Szegedy, 2015) over (N, C, …), one mean and variance per channel.

use candle_core::{Result, Tensor, Var};

/// Added to the variance, as PyTorch and the DCGAN papers do.
pub const EPSILON: f64 = 1e-5;
/// Share of a new batch in the running statistics.
const MOMENTUM: f64 = 0.1;

/// Parameters (scale, shift) and running statistics, each (C).
#[derive(Clone)]
pub struct BatchNorm {
    /// Factor after normalisation.
    pub scale: Var,
    /// Summand after normalisation.
    pub shift: Var,
    /// Running mean, used outside training.
    pub mean: Var,
    /// Running unbiased variance, used outside training.
    pub variance: Var,
}

impl BatchNorm {
    /// Normalises by the batch's own statistics and moves the running ones towards them.
    ///
    /// # Errors
    /// If x's channel count differs.
    pub fn train(&self, x: &Tensor) -> Result<Tensor> {
        let per_channel = Self::broadcast_shape(x);
        let by_channel = x.transpose(0, 1)?.flatten_from(1)?;
        let count = by_channel.dim(1)? as f64;
        let mean = by_channel.mean_keepdim(1)?;
        let variance = by_channel.broadcast_sub(&mean)?.sqr()?.mean_keepdim(1)?;
        let unbiased = count / (count - 1.0).max(1.0);
        let blend = |running: &Var, batch: &Tensor, factor: f64| {
            let batch = batch.detach().flatten_all()?;
            running.set(&((running.as_tensor() * (1.0 - MOMENTUM))? + (batch * (MOMENTUM * factor))?)?)
        };
        blend(&self.mean, &mean, 1.0)?;
        blend(&self.variance, &variance, unbiased)?;
        self.normalize(x, &mean.reshape(per_channel.as_slice())?, &variance.reshape(per_channel.as_slice())?)
    }

    /// Normalises by the running statistics.
    ///
    /// # Errors
    /// If x's channel count differs.
    pub fn infer(&self, x: &Tensor) -> Result<Tensor> {
        let per_channel = Self::broadcast_shape(x);
        let mean = self.mean.reshape(per_channel.as_slice())?;
        let variance = self.variance.reshape(per_channel.as_slice())?;
        self.normalize(x, &mean, &variance)
    }

    fn broadcast_shape(x: &Tensor) -> Vec<usize> {
        x.dims().iter().enumerate().map(|(axis, size)| if axis == 1 { *size } else { 1 }).collect()
    }

    fn normalize(&self, x: &Tensor, mean: &Tensor, variance: &Tensor) -> Result<Tensor> {
        let per_channel = Self::broadcast_shape(x);
        let scale =
            self.scale.reshape(per_channel.as_slice())?.broadcast_div(&(variance + EPSILON)?.sqrt()?)?;
        x.broadcast_sub(mean)?
            .broadcast_mul(&scale)?
            .broadcast_add(&self.shift.reshape(per_channel.as_slice())?)
    }
}
