//! A discriminator of small heads on the features of a frozen network (A. Sauer et al., 2021, "Projected GANs converge
//! faster"): the network knows shapes and textures from the first step on, and the heads have little to learn by heart.

use super::features::FeatureGraph;
use super::{Activation, Graph, Interpolation, Op, Shape, ValueId};
use crate::{Error, Result};

/// Strides that have a head.
const STRIDES: [usize; 4] = [2, 4, 8, 16];
/// Side of the map that a head's last convolution sees as a whole.
const LAST: usize = 4;

/// Pictures (C, H, W) in [−1, 1] → one logit a head, (heads): features at strides 2 to 16, mixed at random over channels and
/// from coarse to fine (section 4.1 of the paper), then strided convolutions of `base` channels and their doublings
/// down to 4×4. With `classes`, each head is a projection discriminator's. First values from `seed`, parameter number p
/// from stream `first + p`.
///
/// # Errors
/// [`Error::Config`] if the network has no features at these strides.
pub fn discriminator(
    features: FeatureGraph,
    base: usize,
    classes: usize,
    (seed, first): (u64, u64),
) -> Result<Graph> {
    let FeatureGraph { mut graph, taps, .. } = features;
    graph.name = "discriminator".into();
    for (index, node) in graph.nodes.iter_mut().enumerate() {
        for (slot, parameter) in node.parameters.iter_mut().enumerate() {
            parameter.trained = false;
            parameter.name = format!("discriminator.features.{index}.{slot}");
        }
    }
    let mut grown = Grown { graph, seed, stream: first };
    // from coarse to fine
    let mut coarser: Option<ValueId> = None;
    let mut logits = Vec::new();
    for (_, tap) in taps.into_iter().rev().filter(|(stride, _)| STRIDES.contains(stride)) {
        let Shape::Image(channels, height, width) = grown.graph.values[tap].shape else { continue };
        let width_of = 2 * base;
        let mut mixed = grown.add(Op::conv(channels, width_of, 1, 1, 0), &[tap], false)?;
        if let Some(coarser) = coarser {
            let larger = Op::Resize { height, width, by: Interpolation::Bilinear };
            let larger = grown.add(larger, &[coarser], false)?;
            let sum = grown.add(Op::Add, &[mixed, larger], false)?;
            mixed = grown.add(Op::conv(width_of, width_of, 3, 1, 1), &[sum], false)?;
        }
        coarser = Some(mixed);
        logits.push(grown.head(mixed, base, classes)?);
    }
    let output = match logits.as_slice() {
        [] => {
            return Err(Error::Config("the network of --features has no features at strides 2 to 16".into()));
        }
        [one] => *one,
        several => grown.add(Op::Concat, several, true)?,
    };
    let mut graph = grown.graph;
    graph.outputs = vec![output];
    graph.prune();
    Ok(graph)
}

/// A graph that gets more nodes with first values.
struct Grown {
    graph: Graph,
    seed: u64,
    /// Of the next parameter.
    stream: u64,
}

impl Grown {
    fn add(&mut self, op: Op, inputs: &[ValueId], trained: bool) -> Result<ValueId> {
        let index = self.graph.nodes.len();
        let name = format!("layer{index}");
        let next = matches!(op, Op::Conv { .. } if trained).then_some(Activation::LeakyRelu(0.2));
        let mut parameters = Vec::new();
        for spec in op.parameters(next) {
            let value = spec.init.draw(self.seed, self.stream, spec.shape.iter().product());
            self.stream += 1;
            parameters.push(super::Parameter {
                name: format!("discriminator.{index}.{}", spec.name),
                shape: spec.shape,
                value,
                trained: trained && spec.trained,
            });
        }
        let value = format!("{name}.{}", op.kind().to_lowercase());
        self.graph.push(&name, op, inputs, parameters, value)
    }

    /// Halves a map down to 4×4 or less, and sees that as a whole: (1).
    fn head(&mut self, from: ValueId, base: usize, classes: usize) -> Result<ValueId> {
        let mut value = from;
        let mut width = base;
        while let Shape::Image(channels, height, _) = self.graph.values[value].shape {
            if height <= LAST {
                let op = Op::conv(channels, width, 3, 1, 1);
                value = self.add(op, &[value], true)?;
                value = self.add(Op::Activation(Activation::LeakyRelu(0.2)), &[value], true)?;
                break;
            }
            value = self.add(Op::conv(channels, width, 4, 2, 1), &[value], true)?;
            value = self.add(Op::Activation(Activation::LeakyRelu(0.2)), &[value], true)?;
            width *= 2;
        }
        let inputs = self.graph.values[value].shape.values();
        value = self.add(Op::Reshape(Shape::Vector(inputs)), &[value], true)?;
        value = self.add(Op::Dense { inputs, outputs: 1 + classes }, &[value], true)?;
        if classes > 0 {
            value = self.add(Op::ClassProjection { classes }, &[value], true)?;
        }
        Ok(value)
    }
}
