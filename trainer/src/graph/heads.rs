//! A trained graph as it goes into a file.

use edgegen_runtime::model::Metadata;

use super::{Graph, Op, Shape, parameters_of};
use crate::{Error, Result};

/// What a file puts out.
pub struct Heads<'a> {
    /// Name and shape of one output; or several, which split the rows of a last dense layer between them in order.
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

    /// Gives each output its own rows of a last dense layer: so each can have its own scale when it is quantised.
    fn split(&mut self, last: usize, outputs: &[(&str, Shape)]) -> Result<()> {
        let node = self.nodes.remove(last);
        let Op::Dense { inputs, outputs: rows } = node.op else { return Err(misfit()) };
        if last != self.nodes.len() || outputs.iter().map(|(_, shape)| shape.values()).sum::<usize>() != rows
        {
            return Err(misfit());
        }
        let mut start = 0;
        for (name, shape) in outputs {
            let end = start + shape.values();
            let op = Op::Dense { inputs, outputs: end - start };
            let values =
                vec![node.weight()[start * inputs..end * inputs].to_vec(), node.bias()[start..end].to_vec()];
            let parameters = parameters_of(name, &op, values);
            let output = self.push(name, op, &node.inputs, parameters, *name)?;
            self.outputs.push(output);
            start = end;
        }
        Ok(())
    }
}

fn misfit() -> Error {
    Error::Export("several outputs need a last dense layer of as many values".into())
}
