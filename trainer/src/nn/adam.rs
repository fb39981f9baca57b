//! Adam with moments that can be stored and restored, so that a resumed run is the same run.

use std::ops::Range;

use candle_core::{CpuStorage, InplaceOp2, InplaceOp3, Layout, Result, Tensor, Var, backprop::GradStore};
use serde::{Deserialize, Serialize};

use super::lanes;

/// Settings of D. P. Kingma, J. Ba, "Adam: a method for stochastic optimization", 2015.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdamConfig {
    /// Decay of the gradient's average.
    pub beta1: f64,
    /// Decay of the squared gradient's average.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
}

impl Default for AdamConfig {
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.999, epsilon: 1e-8 }
    }
}

/// The optimiser of a list of parameters.
pub struct Adam {
    config: AdamConfig,
    step: u64,
    slots: Vec<Slot>,
}

struct Slot {
    parameter: Var,
    first: Tensor,
    second: Tensor,
}

impl Adam {
    /// Zero moments for each of `parameters`.
    ///
    /// # Errors
    /// Candle's.
    pub fn new(parameters: &[Var], config: AdamConfig) -> Result<Self> {
        let slots = parameters
            .iter()
            .map(|parameter| {
                let (first, second) = (parameter.zeros_like()?, parameter.zeros_like()?);
                Ok(Slot { parameter: parameter.clone(), first, second })
            })
            .collect::<Result<_>>()?;
        Ok(Self { config, step: 0, slots })
    }

    /// (first, second) moment of each parameter, in the parameters' order and shapes.
    pub fn moments(&self) -> impl Iterator<Item = (&Tensor, &Tensor)> {
        self.slots.iter().map(|slot| (&slot.first, &slot.second))
    }

    /// Takes up a stored state.
    ///
    /// # Errors
    /// If count or shapes differ from the parameters'.
    pub fn restore(&mut self, step: u64, moments: Vec<(Tensor, Tensor)>) -> Result<()> {
        if moments.len() != self.slots.len() {
            candle_core::bail!("{} stored moments for {} parameters", moments.len(), self.slots.len());
        }
        for (slot, (first, second)) in self.slots.iter_mut().zip(moments) {
            if first.shape() != slot.parameter.shape() || second.shape() != slot.parameter.shape() {
                candle_core::bail!(
                    "stored moments {:?} for a parameter {:?}",
                    first.shape(),
                    slot.parameter.shape()
                );
            }
            (slot.first, slot.second) = (first, second);
        }
        self.step = step;
        Ok(())
    }

    /// Moves every parameter that has a gradient against it, with learning rate `rate`.
    ///
    /// # Errors
    /// Candle's.
    pub fn update(&mut self, gradients: &GradStore, rate: f64) -> Result<()> {
        self.step += 1;
        let AdamConfig { beta1, beta2, epsilon } = self.config;
        let first_scale = 1.0 / (1.0 - beta1.powf(self.step as f64));
        let second_scale = 1.0 / (1.0 - beta2.powf(self.step as f64));
        for slot in &mut self.slots {
            let Some(gradient) = gradients.get(&slot.parameter) else { continue };
            let gradient = gradient.contiguous()?;
            if gradient.device().is_cpu() {
                slot.first.inplace_op2(&gradient, &Average { beta: beta1 as f32, of: lanes::average })?;
                slot.second
                    .inplace_op2(&gradient, &Average { beta: beta2 as f32, of: lanes::average_of_squares })?;
                let update = Update {
                    rate: (rate * first_scale) as f32,
                    second_scale: second_scale as f32,
                    epsilon: epsilon as f32,
                };
                slot.parameter.inplace_op3(&slot.first, &slot.second, &update)?;
            } else {
                slot.first = ((&slot.first * beta1)? + (&gradient * (1.0 - beta1))?)?;
                slot.second = ((&slot.second * beta2)? + (gradient.sqr()? * (1.0 - beta2))?)?;
                let scale = ((&slot.second * second_scale)?.sqrt()? + epsilon)?;
                let change = ((&slot.first / scale)? * (rate * first_scale))?;
                slot.parameter.set(&(slot.parameter.as_tensor() - change)?)?;
            }
        }
        Ok(())
    }
}

/// Moving average of the gradient, or of its square.
struct Average {
    beta: f32,
    of: fn(&mut [f32], &[f32], f32),
}

/// Step of the parameter from (first, second) moments.
struct Update {
    rate: f32,
    second_scale: f32,
    epsilon: f32,
}

fn range(layout: &Layout) -> Result<Range<usize>> {
    let Some((start, end)) = layout.contiguous_offsets() else {
        candle_core::bail!("the optimiser needs contiguous tensors, got {layout:?}");
    };
    Ok(start..end)
}

fn slice_mut<'a>(storage: &'a mut CpuStorage, layout: &Layout) -> Result<&'a mut [f32]> {
    match storage {
        CpuStorage::F32(values) => Ok(&mut values[range(layout)?]),
        _ => candle_core::bail!("the optimiser needs f32 tensors"),
    }
}

fn slice<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    Ok(&storage.as_slice::<f32>()?[range(layout)?])
}

impl InplaceOp2 for Average {
    fn name(&self) -> &'static str {
        "moving average"
    }

    fn cpu_fwd(
        &self,
        to: &mut CpuStorage,
        layout: &Layout,
        from: &CpuStorage,
        from_layout: &Layout,
    ) -> Result<()> {
        (self.of)(slice_mut(to, layout)?, slice(from, from_layout)?, self.beta);
        Ok(())
    }
}

impl InplaceOp3 for Update {
    fn name(&self) -> &'static str {
        "adam update"
    }

    fn cpu_fwd(
        &self,
        to: &mut CpuStorage,
        layout: &Layout,
        first: &CpuStorage,
        first_layout: &Layout,
        second: &CpuStorage,
        second_layout: &Layout,
    ) -> Result<()> {
        let Self { rate, second_scale, epsilon } = *self;
        lanes::adam_update(
            slice_mut(to, layout)?,
            slice(first, first_layout)?,
            slice(second, second_layout)?,
            rate,
            second_scale,
            epsilon,
        );
        Ok(())
    }
}
