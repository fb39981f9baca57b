//! Layer list + values → linear layers with weight and bias, batch norm folded away.
//!
//! Batch norm outside training is y = scale·(x − mean)/√(variance + ε) + shift, one factor and one
//! summand per channel, so it can be multiplied into the weights of the linear layer before it
//! (also across a reshape in between): exact up to float rounding.

use crate::network::module::Module;
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
    /// Adds the row of the class.
    ClassEmbedding {
        /// Rows of the table.
        classes: usize,
        /// (classes, features)
        table: Vec<f32>,
    },
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
                let values: Vec<Vec<f32>> = own.iter().map(|parameter| parameter.value.clone()).collect();
                let per_channel = shapes[index].values() / channels;
                fold_into(&mut folded, &values, per_channel)
                    .ok_or_else(|| no_linear_layer(index, network))?;
            }
            Layer::ClassEmbedding { classes, .. } => {
                folded.push(FoldedLayer::ClassEmbedding { classes, table: own[0].value.clone() })
            }
            Layer::ClassProjection { .. } => {
                return Err(Error::Export("a discriminator's head is not exported".into()));
            }
            layer => {
                let outputs = shapes[index + 1].channels();
                // there is none before a batch norm
                let bias = own.get(1).map_or_else(|| vec![0.0; outputs], |bias| bias.value.clone());
                folded.push(FoldedLayer::Linear { layer, weight: own[0].value.clone(), bias })
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

/// Folds (scale, shift, mean, variance) into the linear layer that ends `folded`, or that ends it
/// but for a reshape. `pixels` is the number of values per channel at the batch norm.
fn fold_into(folded: &mut [FoldedLayer], norm: &[Vec<f32>], pixels: usize) -> Option<()> {
    use FoldedLayer::{ClassEmbedding, Linear, Reshape};
    let [scale, shift, mean, variance] = norm else { return None };
    let (linear, embedding) = match folded {
        [.., linear @ Linear { .. }, embedding @ ClassEmbedding { .. }, Reshape(_)]
        | [.., linear @ Linear { .. }, embedding @ ClassEmbedding { .. }] => (linear, Some(embedding)),
        [.., linear @ Linear { .. }, Reshape(_)] | [.., linear @ Linear { .. }] => (linear, None),
        _ => return None,
    };
    let Linear { layer, weight, bias } = linear else { return None };
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
    if let Some(ClassEmbedding { table, .. }) = embedding {
        let features = bias.len();
        for (index, value) in table.iter_mut().enumerate() {
            *value = (f64::from(*value) * factor[channel_of(index % features)]) as f32;
        }
    }
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
        _ => 0,
    }
}
