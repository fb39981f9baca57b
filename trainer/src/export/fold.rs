//! Layer list + values → linear layers with weight and bias, batch norm folded away.
//!
//! Batch norm outside training is y = scale·(x − mean)/√(variance + ε) + shift, one factor and one
//! summand per channel, so it can be multiplied into the weights of the linear layer before it
//! (also across a reshape in between): exact up to float rounding.

use candle_core::Result as CandleResult;

use crate::network::module::{Module, Parameter};
use crate::network::{Activation, Layer, Network, Shape};
use crate::nn::batch_norm::EPSILON;
use crate::{Error, Result};

/// A layer with its values, ready to be written.
#[derive(Clone, Debug)]
pub enum FoldedLayer {
    /// Dense, Conv, ConvTranspose or UpsampleConv.
    Linear {
        /// Which one.
        layer: Layer,
        /// In the layer's own layout, see [`Layer`].
        weight: Vec<f32>,
        /// (outputs)
        bias: Vec<f32>,
    },
    /// Applied to each value.
    Activation(Activation),
    /// The same values in another shape.
    Reshape(Shape),
}

/// Copies a module's values and folds every batch norm.
///
/// # Errors
/// [`Error::Export`] if a batch norm has no linear layer before it.
pub fn fold(module: &Module) -> Result<Vec<FoldedLayer>> {
    let network = module.network();
    let shapes = network.shapes().map_err(Error::Export)?;
    let mut folded: Vec<FoldedLayer> = Vec::new();
    for (index, layer) in network.layers.iter().enumerate() {
        let own = module.layer_parameters(index);
        match *layer {
            Layer::Activation(activation) => folded.push(FoldedLayer::Activation(activation)),
            Layer::Reshape(shape) => folded.push(FoldedLayer::Reshape(shape)),
            Layer::BatchNorm { channels } => {
                let values: Vec<Vec<f32>> = own.iter().map(values).collect::<CandleResult<_>>()?;
                let per_channel = shapes[index].values() / channels;
                fold_into(&mut folded, &values, per_channel)
                    .ok_or_else(|| no_linear_layer(index, network))?;
            }
            layer => {
                folded.push(FoldedLayer::Linear { layer, weight: values(&own[0])?, bias: values(&own[1])? })
            }
        }
    }
    Ok(folded)
}

fn no_linear_layer(index: usize, network: &Network) -> Error {
    Error::Export(format!(
        "layer {index}, {:?}, has no linear layer before it and cannot be folded",
        network.layers[index]
    ))
}

fn values(parameter: &Parameter) -> CandleResult<Vec<f32>> {
    parameter.value.flatten_all()?.to_vec1()
}

/// Folds (scale, shift, mean, variance) into the linear layer that ends `folded`, or that ends it
/// but for a reshape. `pixels` is the number of values per channel at the batch norm.
fn fold_into(folded: &mut [FoldedLayer], norm: &[Vec<f32>], pixels: usize) -> Option<()> {
    let [scale, shift, mean, variance] = norm else { return None };
    let last = match folded {
        [.., linear @ FoldedLayer::Linear { .. }, FoldedLayer::Reshape(_)]
        | [.., linear @ FoldedLayer::Linear { .. }] => linear,
        _ => return None,
    };
    let FoldedLayer::Linear { layer, weight, bias } = last else { return None };
    let factor: Vec<f64> = scale
        .iter()
        .zip(variance)
        .map(|(scale, variance)| f64::from(*scale) / (f64::from(*variance) + EPSILON).sqrt())
        .collect();
    // a dense layer's outputs are (channel, y, x) flattened; a convolution's are the channels
    let outputs_per_channel = if matches!(layer, Layer::Dense { .. }) { pixels } else { 1 };
    if bias.len() != scale.len() * outputs_per_channel {
        return None;
    }
    let channel_of = |output: usize| output / outputs_per_channel;
    for (output, bias) in bias.iter_mut().enumerate() {
        let channel = channel_of(output);
        *bias = (f64::from(shift[channel]) + factor[channel] * (f64::from(*bias) - f64::from(mean[channel])))
            as f32;
    }
    for (index, weight) in weight.iter_mut().enumerate() {
        let channel = channel_of(output_of(layer, index));
        *weight = (f64::from(*weight) * factor[channel]) as f32;
    }
    Some(())
}

/// The output channel of weight number `index`.
fn output_of(layer: &Layer, index: usize) -> usize {
    match *layer {
        Layer::Dense { inputs, .. } => index / inputs,
        Layer::Conv { inputs, kernel, .. } | Layer::UpsampleConv { inputs, kernel, .. } => {
            index / (inputs * kernel * kernel)
        }
        Layer::ConvTranspose { outputs, kernel, .. } => index / (kernel * kernel) % outputs,
        Layer::BatchNorm { .. } | Layer::Activation(_) | Layer::Reshape(_) => 0,
    }
}
