//! log p(x|z) per picture, in nats.

use std::f64::consts::TAU;

use candle_core::{CpuStorage, CustomOp2, DType, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::lanes;
use super::storage::{contiguous, storage_of};

/// Σ over pixels of x·l − ln(1 + e^l), per picture: logits (N, …) and pixels (N, …) in [0, 1] → (N).
///
/// Pixels between 0 and 1 give the usual cross-entropy; only for 0 and 1 is it a log-probability.
///
/// # Errors
/// If the shapes differ.
pub fn bernoulli(logits: &Tensor, pixels: &Tensor) -> Result<Tensor> {
    if logits.device().is_cpu() && logits.dtype() == DType::F32 {
        return logits.contiguous()?.apply_op2(&pixels.contiguous()?, Bernoulli);
    }
    let softplus = (logits.relu()? + (logits.abs()?.neg()?.exp()? + 1.0)?.log()?)?;
    ((logits * pixels)? - softplus)?.flatten_from(1)?.sum(1)
}

/// Σ over pixels of ln N(x; mean, sigma²), per picture: (N, …), (N, …) → (N).
///
/// # Errors
/// If the shapes differ.
pub fn gaussian(mean: &Tensor, pixels: &Tensor, sigma: f64) -> Result<Tensor> {
    let pixels_per_picture = mean.elem_count() / mean.dim(0)?.max(1);
    let squares = (mean - pixels)?.sqr()?.flatten_from(1)?.sum(1)?;
    let constant = -0.5 * pixels_per_picture as f64 * (TAU * sigma * sigma).ln();
    squares.affine(-0.5 / (sigma * sigma), constant)
}

struct Bernoulli;

impl CustomOp2 for Bernoulli {
    fn name(&self) -> &'static str {
        "bernoulli log-likelihood"
    }

    fn cpu_fwd(
        &self,
        logits: &CpuStorage,
        ll: &Layout,
        pixels: &CpuStorage,
        pl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        if ll.shape() != pl.shape() {
            candle_core::bail!("logits {:?} and pixels {:?} differ", ll.shape(), pl.shape());
        }
        let count = ll.dims()[0];
        let per_picture = ll.shape().elem_count() / count.max(1);
        let logits = contiguous::<f32>(logits, ll)?.par_chunks(per_picture.max(1));
        let pixels = contiguous::<f32>(pixels, pl)?.par_chunks(per_picture.max(1));
        let sums: Vec<f32> = logits.zip(pixels).map(|(l, x)| lanes::bernoulli(l, x)).collect();
        Ok((storage_of(sums), count.into()))
    }

    fn bwd(
        &self,
        logits: &Tensor,
        pixels: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let scales = gradient.to_vec1::<f32>()?;
        let of_logits = logits.apply_op2_no_bwd(pixels, &BernoulliGradient { scales })?;
        Ok((Some(of_logits), None))
    }
}

struct BernoulliGradient {
    scales: Vec<f32>,
}

impl CustomOp2 for BernoulliGradient {
    fn name(&self) -> &'static str {
        "bernoulli gradient"
    }

    fn cpu_fwd(
        &self,
        logits: &CpuStorage,
        ll: &Layout,
        pixels: &CpuStorage,
        pl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let logits = contiguous::<f32>(logits, ll)?;
        let pixels = contiguous::<f32>(pixels, pl)?;
        let per_picture = (logits.len() / self.scales.len().max(1)).max(1);
        let mut out = vec![0f32; logits.len()];
        out.par_chunks_mut(per_picture)
            .zip(logits.par_chunks(per_picture))
            .zip(pixels.par_chunks(per_picture))
            .zip(&self.scales)
            .for_each(|(((out, l), x), scale)| lanes::bernoulli_gradient(l, x, *scale, out));
        Ok((storage_of(out), ll.shape().clone()))
    }
}
