//! A trained graph as it goes into a file.

use edgegen_runtime::model::Metadata;

use super::{Graph, Op, Shape, parameters_of};
use crate::{Error, Result};

/// What a file puts out.
pub struct Heads<'a> {
    /// Name and shape of one output; or several, which split the rows of a last dense layer, or the
    /// maps of a last convolution, between them in order.
    pub outputs: Vec<(&'a str, Shape)>,
    /// A value inside that is an output too, the first: by its name, what enters the last layer.
    pub tap: Option<&'a str>,
}

impl Graph {
    /// A copy with named input and outputs, in which every linear operator has a bias.
    ///
    /// # Errors
    /// [`Error::Export`] if `heads` do not fit the last layer, or an operator has no place in a file.
    pub fn exported(&self, name: &str, input: &str, heads: &Heads<'_>, metadata: Metadata) -> Result<Self> {
        let mut graph = Self { name: name.into(), metadata, ..self.clone() };
        let Some(last) = graph.maker(graph.output()) else {
            return Err(Error::Export("the network has no layers".into()));
        };
        let entry = graph.input;
        graph.values[entry].name = input.into();
        for node in &graph.nodes {
            if !node.op.resizes_as_onnx(graph.values[node.inputs[0]].shape) {
                return Err(Error::Export(format!(
                    "{} is not exported: ONNX chooses the nearest pixel otherwise for a factor that is not whole",
                    node.label()
                )));
            }
        }
        for node in &mut graph.nodes {
            if matches!(node.op, Op::ClassProjection { .. } | Op::BatchDeviation | Op::UnitLength) {
                return Err(Error::Export(format!(
                    "{} is for training alone, and is not exported",
                    node.label()
                )));
            }
            if node.op.is_linear() && node.parameters.len() == 1 {
                let values = vec![node.weight().to_vec(), vec![0.0; node.op.outputs()]];
                node.parameters = parameters_of(&node.name, &node.op, values);
            }
        }
        let before = graph.nodes[last].inputs[0];
        graph.outputs.clear();
        if let Some(tap) = heads.tap {
            graph.values[before].name = tap.into();
            graph.outputs.push(before);
        }
        match heads.outputs.as_slice() {
            [(output, _)] => {
                let made = graph.nodes[last].output;
                graph.values[made].name = (*output).into();
                graph.outputs.push(made);
            }
            several => graph.split(last, several)?,
        }
        let found = graph.outputs.iter().skip(usize::from(heads.tap.is_some()));
        let fit =
            found.map(|output| graph.values[*output].shape).eq(heads.outputs.iter().map(|(_, shape)| *shape));
        if !fit {
            return Err(misfit());
        }
        Ok(graph)
    }

    /// Gives each output its own rows of a last dense layer, or its own maps of a last convolution that a Reshape follows: so
    /// each can have its own scale when it is quantised.
    fn split(&mut self, last: usize, outputs: &[(&str, Shape)]) -> Result<()> {
        if last + 1 != self.nodes.len() {
            return Err(misfit());
        }
        let tail = self.nodes.remove(last);
        let (node, flattened) = match tail.op {
            // a chain: what it flattens is what the node before it makes
            Op::Reshape(Shape::Vector(_)) => (self.nodes.pop().ok_or_else(misfit)?, true),
            _ => (tail, false),
        };
        let (rows, each) = match (&node.op, flattened) {
            (Op::Dense { outputs, .. }, false) => (*outputs, 1),
            (Op::Conv { outputs, groups: 1, .. }, true) => {
                (*outputs, self.values[node.output].shape.values() / outputs)
            }
            _ => return Err(misfit()),
        };
        if outputs.iter().map(|(_, shape)| shape.values()).sum::<usize>() != rows * each {
            return Err(misfit());
        }
        let inner = node.weight().len() / rows;
        let mut start = 0;
        for (name, shape) in outputs {
            let end = start + shape.values() / each;
            let op = match node.op.clone() {
                Op::Dense { inputs, .. } => Op::Dense { inputs, outputs: end - start },
                Op::Conv { inputs, window, groups, .. } => {
                    Op::Conv { inputs, outputs: end - start, window, groups }
                }
                other => other,
            };
            let values =
                vec![node.weight()[start * inner..end * inner].to_vec(), node.bias()[start..end].to_vec()];
            let parameters = parameters_of(name, &op, values);
            let output = if flattened {
                let maps = format!("{name}.maps");
                let maps = self.push(&maps, op, &node.inputs, parameters, maps.clone())?;
                let flat = Op::Reshape(*shape);
                self.push(&format!("{name}.values"), flat, &[maps], Vec::new(), *name)?
            } else {
                self.push(name, op, &node.inputs, parameters, *name)?
            };
            self.outputs.push(output);
            start = end;
        }
        Ok(())
    }
}

fn misfit() -> Error {
    Error::Export("several outputs need a last dense layer, or convolution, of as many values".into())
}
