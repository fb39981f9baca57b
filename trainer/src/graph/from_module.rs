//! A trained module → a graph.

use edgegen_runtime::model::Metadata;

use super::{BatchNorm, Graph, Linear, Op, ValueId};
use crate::network::module::Module;
use crate::network::{Layer, Shape};
use crate::nn::batch_norm::EPSILON;
use crate::{Error, Result};

/// What a graph puts out.
pub struct Heads<'a> {
    /// Name and shape of one output; or several, which split the rows of a last dense layer between them in order.
    pub outputs: Vec<(&'a str, Shape)>,
    /// A value inside that is an output too, the first: by its name, what enters the last layer.
    pub tap: Option<&'a str>,
}

impl Graph {
    /// Copies a module's layers and values.
    ///
    /// # Errors
    /// [`Error::Export`] if `heads` do not fit the last layer, or a layer has no place in a file.
    pub fn of_module(
        module: &Module,
        name: &str,
        input: &str,
        heads: &Heads<'_>,
        metadata: Metadata,
    ) -> Result<Self> {
        let network = module.network();
        let mut graph = Self::new(name, (input, network.input), metadata);
        let mut value = graph.input;
        let Some(last) = network.layers.len().checked_sub(1) else {
            return Err(Error::Export("the network has no layers".into()));
        };
        for (index, layer) in network.layers.iter().enumerate() {
            let own: Vec<Vec<f32>> =
                module.layer_parameters(index).iter().map(|parameter| parameter.value.clone()).collect();
            let op = op(layer, own)?;
            if index == last && heads.outputs.len() > 1 {
                graph.split(op, value, &heads.outputs)?;
                continue;
            }
            let shape = layer.output(graph.values[value].shape).map_err(Error::Export)?;
            let node = format!("layer{index}");
            let name = match heads.outputs.as_slice() {
                [(output, _)] if index == last => (*output).to_string(),
                _ => match heads.tap.filter(|_| index + 1 == last) {
                    Some(tap) => tap.to_string(),
                    None => format!("{node}.{}", op.kind().to_lowercase()),
                },
            };
            value = graph.push(&node, op, value, (name, Some(shape)))?;
            if index + 1 == last && heads.tap.is_some() || index == last {
                graph.outputs.push(value);
            }
        }
        let found = graph.outputs.iter().skip(usize::from(heads.tap.is_some()));
        let fit =
            found.map(|output| graph.values[*output].shape).eq(heads.outputs.iter().map(|(_, shape)| *shape));
        if !fit {
            return Err(misfit());
        }
        Ok(graph)
    }

    /// Gives each output its own rows of a last dense layer: so each can have its own scale when it is quantised.
    fn split(&mut self, op: Op, input: ValueId, outputs: &[(&str, Shape)]) -> Result<()> {
        let Op::Linear(Linear { layer: Layer::Dense { inputs, outputs: rows }, weight, bias }) = op else {
            return Err(misfit());
        };
        if outputs.iter().map(|(_, shape)| shape.values()).sum::<usize>() != rows {
            return Err(misfit());
        }
        let mut start = 0;
        for (name, shape) in outputs {
            let end = start + shape.values();
            let layer = Layer::Dense { inputs, outputs: end - start };
            let weight = weight[start * inputs..end * inputs].to_vec();
            let own = Op::Linear(Linear { layer, weight, bias: bias[start..end].to_vec() });
            let output = self.push(name, own, input, (*name, None))?;
            self.outputs.push(output);
            start = end;
        }
        Ok(())
    }
}

fn misfit() -> Error {
    Error::Export("several outputs need a last dense layer of as many values".into())
}

fn op(layer: &Layer, mut own: Vec<Vec<f32>>) -> Result<Op> {
    Ok(match *layer {
        Layer::Activation(activation) => Op::Activation(activation),
        Layer::Reshape(_) => Op::Reshape,
        Layer::BatchNorm { .. } => {
            let mut next = || own.remove(0);
            Op::BatchNorm(BatchNorm {
                scale: next(),
                shift: next(),
                mean: next(),
                variance: next(),
                epsilon: EPSILON,
            })
        }
        Layer::ClassEmbedding { classes, .. } => Op::ClassRow { classes, table: own.remove(0) },
        Layer::ClassProjection { .. } => {
            return Err(Error::Export("a discriminator's head is not exported".into()));
        }
        Layer::Dense { outputs, .. }
        | Layer::Conv { outputs, .. }
        | Layer::ConvTranspose { outputs, .. }
        | Layer::UpsampleConv { outputs, .. } => {
            // there is no bias before a batch norm
            let bias = if own.len() > 1 { own.remove(1) } else { vec![0.0; outputs] };
            Op::Linear(Linear { layer: *layer, weight: own.remove(0), bias })
        }
    })
}
