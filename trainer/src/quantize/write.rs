//! The quantised network as an ONNX file.
//!
//! Layers are `QLinearConv` (a dense layer is one of a single pixel), or `Conv` between `DequantizeLinear` and
//! `QuantizeLinear`. Between them pixels are moved as uint8. What is not quantised is computed in float32 between a
//! `DequantizeLinear` and a `QuantizeLinear`.

use std::collections::HashSet;

use edgegen_runtime::model::Precision;

use super::calibrate::Encoding;
use super::layer::IntegerLayer;
use super::{Format, Quantized, class_level};
use crate::graph::onnx::builder::{Builder, int, window_of};
use crate::graph::onnx::write_op;
use crate::graph::{Graph, Node, Op, Shape, ValueId};

impl Quantized {
    /// Serialises it.
    pub fn to_onnx(&self, format: Format) -> Vec<u8> {
        let mut writer = Writer {
            quantized: self,
            graph: &self.graph,
            format,
            builder: Builder::new(&self.graph, self.half),
            levels: vec![None; self.graph.values.len()],
            floats: vec![None; self.graph.values.len()],
            encodings: vec![None; self.encodings.len()],
            reshaped: HashSet::new(),
        };
        let input = self.graph.input;
        writer.floats[input] = Some(self.graph.values[input].name.clone());
        writer.round(input);
        for (index, node) in self.graph.nodes.iter().enumerate() {
            writer.node(index, node);
        }
        for output in &self.graph.outputs {
            writer.float(*output);
        }
        let mut metadata = self.graph.metadata.clone();
        metadata.precision = Some(Precision::Int8);
        writer.builder.finish(&self.graph, &metadata)
    }
}

/// A tensor of the file: its name, and the shape that it has there, which may still wait to be changed.
#[derive(Clone)]
struct Levels {
    name: String,
    shape: Shape,
}

struct Writer<'a> {
    quantized: &'a Quantized,
    graph: &'a Graph,
    format: Format,
    builder: Builder,
    /// For each value that exists in uint8.
    levels: Vec<Option<Levels>>,
    /// For each value that exists in float32, in its own shape.
    floats: Vec<Option<String>>,
    /// Names of each tensor's scale and zero point.
    encodings: Vec<Option<(String, String)>>,
    /// What was made by changing a shape.
    reshaped: HashSet<String>,
}

impl Writer<'_> {
    fn node(&mut self, index: usize, node: &Node) {
        let (input, output) = (node.inputs[0], node.output);
        let plan = &self.quantized.plan;
        if let Some(layer) = &self.quantized.layers[index] {
            self.layer(index, layer);
            return;
        }
        // what only moves or vanishes stays in integers
        let held = self.levels[input].clone().filter(|_| plan.tensor[input] == plan.tensor[output]);
        if let Some(held) = held {
            self.levels[output] = Some(match &node.op {
                Op::Shuffle(shuffle) => {
                    let before = self.graph.values[input].shape;
                    let from = self.shaped(&held, before);
                    let name = format!("{}.levels", self.graph.values[output].name);
                    let name = self.builder.shuffle(shuffle, before, &from, &name);
                    Levels { name, shape: self.graph.values[output].shape }
                }
                // shapes are changed where it matters; a ReLU and a class's row are in the layer
                _ => held,
            });
            return;
        }
        let inputs: Vec<String> = node.inputs.iter().map(|input| self.float(*input)).collect();
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        let name = self.graph.values[output].name.clone();
        write_op(&mut self.builder, self.graph, node, &inputs, &name);
        self.floats[output] = Some(name);
        self.round(output);
    }

    /// Lets every reader of a value that integers hold read what they hold, as the simulation does.
    fn round(&mut self, value: ValueId) {
        let (plan, tensor) = (&self.quantized.plan, self.quantized.plan.tensor[value]);
        let encoded = self.quantized.encodings[tensor].is_some() && plan.tensors[tensor].holds(value);
        if encoded && !self.graph.outputs.contains(&value) {
            self.quantized(value, self.graph.values[value].shape);
            self.floats[value] = None;
        }
    }

    /// The names of a tensor's scale and zero point.
    fn encoding(&mut self, value: ValueId) -> (String, String) {
        let tensor = self.quantized.plan.tensor[value];
        if let Some(names) = &self.encodings[tensor] {
            return names.clone();
        }
        let Encoding { scale, zero_point } = self.held(value);
        let settled = self.quantized.plan.tensors[tensor].settled();
        let name = &self.graph.values[settled].name;
        let scale = self.builder.floats(&format!("{name}.scale"), &[], &[scale]);
        let zero = self.builder.bytes(&format!("{name}.zero_point"), &[], &[zero_point]);
        self.encodings[tensor] = Some((scale.clone(), zero.clone()));
        (scale, zero)
    }

    fn held(&self, value: ValueId) -> Encoding {
        let tensor = self.quantized.plan.tensor[value];
        self.quantized.encodings[tensor].expect("a tensor of integers has an encoding")
    }

    /// A value in float32, in its own shape.
    fn float(&mut self, value: ValueId) -> String {
        if let Some(name) = &self.floats[value] {
            return name.clone();
        }
        let levels = self.levels[value].clone().expect("a value is made before it is read");
        let (scale, zero) = self.encoding(value);
        let shape = self.graph.values[value].shape;
        // an output of the graph has to have its name
        let name = match self.graph.outputs.contains(&value) {
            true => self.graph.values[value].name.clone(),
            false => format!("{}.float", self.graph.values[value].name),
        };
        let held = self.shaped(&levels, shape);
        let name = self.builder.node("DequantizeLinear", &[&held, &scale, &zero], vec![], &name);
        self.floats[value] = Some(name.clone());
        name
    }

    /// A value in uint8, in the shape `shape`.
    fn quantized(&mut self, value: ValueId, shape: Shape) -> String {
        if self.levels[value].is_none() {
            let float = self.floats[value].clone().expect("a value is made before it is read");
            let (scale, zero) = self.encoding(value);
            let name = format!("{}.levels", self.graph.values[value].name);
            let name = self.builder.node("QuantizeLinear", &[&float, &scale, &zero], vec![], &name);
            self.levels[value] = Some(Levels { name, shape: self.graph.values[value].shape });
        }
        let levels = self.levels[value].clone().expect("it was just made");
        self.shaped(&levels, shape)
    }

    /// A tensor of the file in another shape.
    fn shaped(&mut self, levels: &Levels, shape: Shape) -> String {
        if levels.shape == shape {
            return levels.name.clone();
        }
        let name = format!("{}.as.{shape}", levels.name);
        if self.reshaped.insert(name.clone()) {
            self.builder.reshape(&name, shape, &levels.name, &name);
        }
        name
    }

    fn layer(&mut self, index: usize, layer: &IntegerLayer) {
        let node = &self.graph.nodes[index];
        let (input, output) = (node.inputs[0], node.output);
        let own = |what: &str| format!("{}.{what}", node.name);
        let outputs = node.op.outputs();
        let before = self.graph.values[input].shape;
        let flat = matches!(before, Shape::Vector(_));
        let row = self.quantized.plan.row_of(self.graph, index);
        let (x_scale, x_zero) = self.encoding(input);
        let x = match row.map(|row| &self.graph.nodes[row].op) {
            Some(Op::ClassRow { classes, .. }) => {
                let latent = self.quantized(input, before);
                self.with_class(&latent, before.values(), *classes, self.held(input), &own("input"))
            }
            _ if flat => self.quantized(input, Shape::Image(before.values(), 1, 1)),
            _ => self.quantized(input, before),
        };
        let mut dims = node.parameters[0].shape.clone();
        if flat {
            dims = vec![outputs, layer.weight.len() / outputs, 1, 1];
        }
        let weight = self.builder.int8s(&own("weight"), &dims, &layer.weight);
        let axis: &[usize] = if layer.scales.len() == 1 { &[] } else { &[outputs] };
        let w_scale = self.builder.floats(&own("weight.scale"), axis, &layer.scales);
        let bias = self.builder.int32s(&own("bias"), &[outputs], &layer.bias);
        let (y_scale, y_zero) = self.encoding(output);
        let name = format!("{}.levels", self.graph.values[output].name);
        let window = window_of(&node.op, before);
        let name = match self.format {
            Format::Qlinear => {
                let zeros = vec![0i8; layer.scales.len()];
                let w_zero = self.builder.int8s(&own("weight.zero_point"), axis, &zeros);
                let inputs = [&x, &x_scale, &x_zero, &weight, &w_scale, &w_zero, &y_scale, &y_zero, &bias]
                    .map(String::as_str);
                self.builder.node("QLinearConv", &inputs, window, &name)
            }
            Format::Qdq => {
                let by_axis =
                    |axis: i64| if layer.scales.len() == 1 { vec![] } else { vec![int("axis", axis)] };
                let x = self.builder.node(
                    "DequantizeLinear",
                    &[&x, &x_scale, &x_zero],
                    vec![],
                    &own("input.float"),
                );
                let w = [weight.as_str(), &w_scale];
                let weight = self.builder.node("DequantizeLinear", &w, by_axis(0), &own("weight.float"));
                let scale = self.held(input).scale;
                let steps: Vec<f32> = layer.scales.iter().map(|weight| scale * weight).collect();
                let steps = self.builder.floats(&own("bias.scale"), axis, &steps);
                let bias =
                    self.builder.node("DequantizeLinear", &[&bias, &steps], by_axis(0), &own("bias.float"));
                let sums = self.builder.node("Conv", &[&x, &weight, &bias], window, &own("sums"));
                self.builder.node("QuantizeLinear", &[&sums, &y_scale, &y_zero], vec![], &name)
            }
        };
        let made = self.graph.values[output].shape;
        let shape = if flat { Shape::Image(outputs, 1, 1) } else { made };
        self.levels[output] = Some(Levels { name, shape });
    }

    /// The latent's levels with those of its class behind them: [`class_level`] for its own, the zero point, which
    /// is nothing, for the others.
    fn with_class(
        &mut self,
        latent: &str,
        width: usize,
        classes: usize,
        held: Encoding,
        name: &str,
    ) -> String {
        let mut table = vec![held.zero_point; classes * classes];
        table.iter_mut().step_by(classes + 1).for_each(|level| *level = class_level(held));
        let table = self.builder.bytes(&format!("{name}.classes"), &[classes, classes], &table);
        let gathered = [table.as_str(), &self.graph.class_input];
        let class = self.builder.node("Gather", &gathered, vec![int("axis", 0)], &format!("{name}.class"));
        let joined =
            self.builder.node("Concat", &[latent, &class], vec![int("axis", 1)], &format!("{name}.joined"));
        let shape = Shape::Image(width + classes, 1, 1);
        self.builder.reshape(name, shape, &joined, name)
    }
}
