//! [`Graph`] → [`Program`]: planes with their borders, an arena, packed layers, steps.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

use edgegen_kernels::elements::{Function, flipped, places, value};
use edgegen_kernels::norms::{Norm, Over, Softmax};
use edgegen_kernels::windows::{Pooling, Resize};
use edgegen_kernels::{
    Border, Cpu, FloatLayer, FloatSpec, Kind, Mismatch, Plane, Product, QuantizedLayer, QuantizedSpec,
};

use super::arena::Arena;
use super::{Arithmetic, Done};
use crate::limits::{self, Budget};

use super::graph::{Encoding, Graph, Id, Move, Node, Number, Op};
use super::program::{Buffer, Exit, Moves, Program, Step};

/// What a phase of a transposed convolution takes at least.
const PHASE_BYTES: usize = 256;
/// Values of the widest register: a vector's plane has no rows shorter than that.
const SHORTEST_ROW: usize = 16;

/// What runs some ONNX nodes: a step's name, and the nodes' indices.
pub(super) struct Run {
    pub(super) what: String,
    pub(super) sources: Vec<usize>,
}

/// Why a graph cannot be planned: the ONNX node, and what is wrong.
type Reason = (usize, String);

struct Planner<'a> {
    graph: &'a Graph,
    cpu: Cpu,
    /// Whether layers of floats are computed in float16.
    halves: bool,
    /// Values that share memory.
    roots: Classes,
    planes: HashMap<Id, Plane>,
    /// Level of 0 of each root of levels, for its border.
    zeros: HashMap<Id, u8>,
    /// Values that are only looked at on the way out: no step makes them.
    exits: Vec<bool>,
}

/// The program, who runs each ONNX node, and what each step and output does.
type Planned = (Program, Vec<Run>, Vec<Done>);

pub(super) fn plan(graph: &Graph, cpu: Cpu, halves: bool, budget: &mut Budget) -> Result<Planned, Reason> {
    let mut planner = Planner {
        graph,
        cpu,
        halves,
        roots: Classes::new(graph.values.len()),
        planes: HashMap::new(),
        zeros: HashMap::new(),
        exits: vec![false; graph.values.len()],
    };
    planner.share()?;
    planner.exits();
    planner.borders()?;
    planner.afford(budget)?;
    planner.build()
}

/// The ONNX node that a node's errors name.
fn named(node: &Node) -> usize {
    node.sources.first().copied().unwrap_or(0)
}

/// Whether the rows of a picture (channels, height, width) fill no register.
fn is_narrow((channels, height, width): (usize, usize, usize)) -> bool {
    height > 1 && channels * width < SHORTEST_ROW
}

impl Planner<'_> {
    fn root(&self, value: Id) -> Id {
        self.roots.of(value)
    }

    /// Settles the size of each value's plane, and which reshaped values share memory: those that one plane serves.
    fn share(&mut self) -> Result<(), Reason> {
        // what is done to single values has planes of the same size before and behind it
        let mut sizes = Classes::new(self.graph.values.len());
        for node in &self.graph.nodes {
            let single = matches!(
                node.op,
                Op::Function(_)
                    | Op::Affine { .. }
                    | Op::Slopes(_)
                    | Op::Binary(..)
                    | Op::BinaryLevels(_)
                    | Op::Quantize(_)
                    | Op::LookUp(..)
                    | Op::Table(_)
                    | Op::Tables(_)
                    | Op::Norm { .. }
                    | Op::Softmax(_)
            );
            if single {
                // what is the same for all rows, columns or channels has a plane of its own size
                let made = self.graph.values[node.output].shape;
                let same = node.inputs.iter().filter(|input| self.graph.values[**input].shape == made);
                same.for_each(|input| sizes.join(*input, node.output));
            }
        }
        // a vector fits the plane of any picture
        let mut pictures: HashMap<Id, (usize, usize, usize)> = HashMap::new();
        for (id, value) in self.graph.values.iter().enumerate().filter(|(_, value)| !value.shape.is_flat()) {
            pictures.insert(sizes.of(id), value.shape.image());
        }
        // but for where its values have to be channels, or one for all
        for node in &self.graph.nodes {
            let as_it_is = match &node.op {
                Op::Softmax(_) | Op::Norm { .. } | Op::Slopes(_) | Op::Tables(_) => true,
                Op::Pool { .. } | Op::MeanLevels(..) | Op::Resize { .. } | Op::Product { .. } => true,
                Op::Linear(_) | Op::Quantized(_) => node.op.kind() != Some(Kind::Dense),
                Op::Binary(..) | Op::BinaryLevels(_) => {
                    let shape = |id: &Id| self.graph.values[*id].shape;
                    node.inputs.iter().any(|input| shape(input) != shape(&node.output))
                }
                _ => false,
            };
            if as_it_is {
                for id in node.inputs.iter().chain([&node.output]) {
                    pictures.insert(sizes.of(*id), self.graph.values[*id].shape.image());
                }
            }
        }
        for node in self.graph.nodes.iter().filter(|node| matches!(node.op, Op::Move(Move::Reshape))) {
            let (from, to) = (sizes.of(node.inputs[0]), sizes.of(node.output));
            let shape = match (pictures.get(&from), pictures.get(&to)) {
                (Some(one), Some(other)) if one != other => continue,
                // a dense layer would make a register of each short row
                (Some(picture), None) | (None, Some(picture)) if is_narrow(*picture) => continue,
                (one, other) => one.or(other).copied(),
            };
            sizes.join(node.inputs[0], node.output);
            shape.map(|shape| pictures.insert(sizes.of(from), shape));
            self.roots.join(node.inputs[0], node.output);
        }
        for id in 0..self.graph.values.len() {
            let shape = pictures.get(&sizes.of(id)).copied();
            let (channels, height, width) = shape.unwrap_or(self.graph.values[id].shape.image());
            let plane = Plane::new(channels, height, width).map_err(|mismatch| {
                let maker = self.graph.nodes.iter().find(|node| node.output == id);
                (maker.map_or(0, named), mismatch.to_string())
            })?;
            self.planes.insert(self.root(id), plane);
        }
        Ok(())
    }

    /// What is only looked up, or sent through a function, on the way out needs no plane.
    fn exits(&mut self) {
        for output in &self.graph.outputs {
            let read = self.graph.nodes.iter().any(|node| node.inputs.contains(output));
            let maker = self.graph.nodes.iter().find(|node| node.output == *output);
            if let Some(Node { op: Op::LookUp(..) | Op::Function(_), .. }) = maker
                && !read
                && self.graph.outputs.iter().filter(|other| *other == output).count() == 1
            {
                self.exits[*output] = true;
            }
        }
    }

    fn plane(&self, value: Id) -> Plane {
        self.planes[&self.root(value)]
    }

    fn borders(&mut self) -> Result<(), Reason> {
        // and the last layer that asks for it
        let mut needed: HashMap<Id, (Border, usize)> = HashMap::new();
        for node in &self.graph.nodes {
            if let Some(kind) = node.op.kind() {
                let (input, output) = (node.inputs[0], node.output);
                let border = kind.border(&self.plane(input), &self.plane(output));
                let most = needed.entry(self.root(input)).or_default();
                *most = (most.0.max(border), named(node));
            }
            if let Op::Quantized(layer) = &node.op {
                let root = self.root(node.inputs[0]);
                let zero = *self.zeros.entry(root).or_insert(layer.x_zero);
                let (plane, (border, _)) = (self.plane(node.inputs[0]), needed[&root]);
                // a border can hold only one level
                if zero != layer.x_zero && (border != Border::default()) && !plane.is_pixel() {
                    return Err((named(node), "its input has another zero point for another layer".into()));
                }
            }
        }
        for (root, (border, node)) in needed {
            if let Some(plane) = self.planes.get_mut(&root) {
                let bordered = plane.with_border(border);
                *plane = bordered.map_err(|mismatch| (node, mismatch.to_string()))?;
            }
        }
        Ok(())
    }

    /// Charges planes with their borders, and packed weights, before either is made.
    fn afford(&self, budget: &mut Budget) -> Result<(), Reason> {
        let end = self.graph.nodes.len();
        let mut planes: HashSet<Id> = HashSet::new();
        let mut charge = |value: Id, at: usize, budget: &mut Budget| {
            let root = self.root(value);
            if !planes.insert(root) {
                return Ok(());
            }
            let bytes = if self.graph.values[value].number == Number::Level { 1 } else { 4 };
            budget.take_product(&[self.planes[&root].len(), bytes]).map_err(|reason| (at, reason))
        };
        for node in &self.graph.nodes {
            for value in node.inputs.iter().chain([&node.output]) {
                charge(*value, named(node), budget)?;
            }
            let weights = match &node.op {
                Op::Linear(linear) => 4 * linear.weights.len(),
                Op::Quantized(layer) => layer.weights.len(),
                Op::ClassFloats { table, .. } => 4 * table.len(),
                Op::ClassLevels { table, .. } => table.len(),
                // places in both planes
                Op::Constant(values) => 4 * values.len(),
                Op::Tables(tables) => 256 * tables.len(),
                Op::Product { .. } => 4 * self.graph.values[node.inputs[0]].shape.values(),
                Op::Move(_) | Op::Concat(_) => 8 * self.graph.values[node.output].shape.values(),
                Op::Affine { .. } => 8 * self.graph.values[node.output].shape.values(),
                _ => 0,
            };
            budget.take(weights as u64).map_err(|reason| (named(node), reason))?;
            if let Some(Kind::Transposed { y, x, .. }) = node.op.kind() {
                // each step has a phase of its own
                let charged = budget.take_product(&[y.stride(), x.stride(), PHASE_BYTES]);
                charged.map_err(|reason| (named(node), reason))?;
            }
            if let Some(groups) = node.op.kind().map(|kind| kind.groups()).filter(|groups| *groups > 1) {
                // phases of each group, with the places of their taps
                let taps = match node.op.kind() {
                    Some(Kind::Conv { y, x, .. } | Kind::Transposed { y, x, .. }) => y.kernel() * x.kernel(),
                    _ => 1,
                };
                let charged = budget.take_product(&[groups, taps, PHASE_BYTES]);
                charged.map_err(|reason| (named(node), reason))?;
            }
            if let Some(kind) = node.op.kind() {
                let macs = kind.macs(&self.plane(node.inputs[0]), &self.plane(node.output));
                if macs > limits::MAX_MACS {
                    return Err((
                        named(node),
                        format!("it would multiply {macs} times a picture, too often"),
                    ));
                }
            }
        }
        for output in &self.graph.outputs {
            charge(*output, end, budget)?;
        }
        Ok(())
    }

    fn build(self) -> Result<Planned, Reason> {
        let mut layers: HashMap<usize, Layer> = HashMap::new();
        let mut memory = Memory::default();
        let (mut level_scratch, mut float_scratch) = (0, 0);
        for (index, node) in self.graph.nodes.iter().enumerate() {
            if let Some(layer) = self.layer(node).map_err(|reason| (named(node), reason))? {
                // what a product multiplies with channels is its second input
                let input = self.root(node.inputs[usize::from(matches!(layer, Layer::Product(_)))]);
                let slack = match &layer {
                    Layer::Product(product) => product.slack(),
                    Layer::Quantized(layer) => {
                        level_scratch = level_scratch.max(layer.scratch());
                        layer.slack()
                    }
                    Layer::Float(layer) => {
                        float_scratch = float_scratch.max(layer.scratch());
                        layer.slack()
                    }
                };
                let most = memory.slack.entry(input).or_default();
                *most = (*most).max(slack);
                layers.insert(index, layer);
            }
        }
        self.lives(&mut memory);
        let (level_ranges, level_total) =
            memory.place(|id| self.graph.values[id].number == Number::Level, &self.planes);
        let (float_ranges, float_total) =
            memory.place(|id| self.graph.values[id].number == Number::Float, &self.planes);
        let buffer = |value: Id| {
            let root = self.root(value);
            let range = level_ranges.get(&root).or(float_ranges.get(&root));
            Buffer {
                plane: self.planes[&root],
                memory: range.cloned().unwrap_or(0..0),
                zero: self.zeros.get(&root).copied().unwrap_or(0),
            }
        };
        let (mut steps, mut runs, mut done) = (Vec::new(), Vec::new(), Vec::new());
        if self.memory_of_input() {
            steps.push(Step::EnterFloats { to: buffer(self.graph.input) });
            done.push(self.done(None, self.graph.input, self.graph.input, "the input into a plane"));
        }
        for (index, node) in self.graph.nodes.iter().enumerate() {
            if self.exits[node.output] {
                continue;
            }
            let to = buffer(node.output);
            let from = || buffer(node.inputs[0]);
            let mut say =
                |what: String, sources: &[usize]| runs.push(Run { what, sources: sources.to_vec() });
            match &node.op {
                Op::Linear(_) | Op::Quantized(_) | Op::Product { .. } => match layers.remove(&index) {
                    Some(Layer::Product(product)) => {
                        let rows = self.graph.values[node.output].shape.channels();
                        let inner = self.graph.values[node.inputs[0]].shape.values() / rows;
                        say(format!("float32 product of matrices, inner size {inner}"), &node.sources);
                        let (left, right) = (from(), buffer(node.inputs[1]));
                        steps.push(Step::Product { product: Box::new(product), left, right, to });
                    }
                    Some(Layer::Quantized(layer)) => {
                        say(self.describe(node, layer.tile()), &node.sources);
                        steps.push(Step::Quantized { layer: Arc::new(layer), from: from(), to });
                    }
                    Some(Layer::Float(layer)) => {
                        say(self.describe(node, layer.tile()), &node.sources);
                        let Op::Linear(linear) = &node.op else { continue };
                        let (layer, function) = (Arc::new(layer), linear.after);
                        steps.push(Step::Float { layer, function, from: from(), to });
                    }
                    None => {}
                },
                Op::Quantize(encoding) if node.inputs[0] == self.graph.input => {
                    say("quantised on the way in".into(), &node.sources);
                    steps.push(Step::EnterLevels { encoding: *encoding, to });
                }
                Op::Quantize(encoding) => {
                    say("float32 to levels".into(), &node.sources);
                    steps.push(Step::Quantize { encoding: *encoding, from: from(), to });
                }
                Op::LookUp(encoding, Function::Identity) => {
                    say("levels to float32".into(), &node.sources);
                    steps.push(Step::Dequantize { encoding: *encoding, from: from(), to });
                }
                Op::LookUp(encoding, function) => {
                    say("levels to float32 by a table".into(), &node.sources);
                    steps.push(Step::LookUp { table: values_of(*encoding, *function), from: from(), to });
                }
                Op::Table(table) => {
                    say("levels to levels by a table".into(), &node.sources);
                    steps.push(Step::Translate { table: table.clone(), from: from(), to });
                }
                Op::Function(function) => {
                    say(format!("float32 {}", function.name()), &node.sources);
                    steps.push(Step::Function { function: *function, from: from(), to });
                }
                Op::Affine { scale, shift } => {
                    say("float32 factors and summands".into(), &node.sources);
                    let spread = |factors: &[f32]| {
                        let plane = to.plane.without_border();
                        let mut all = vec![0.0; plane.values()];
                        let each = plane.values() / factors.len();
                        places(&plane).enumerate().for_each(|(index, at)| all[at] = factors[index / each]);
                        all
                    };
                    let (scale, shift) = (spread(scale), spread(shift));
                    steps.push(Step::Affine { scale, shift, from: from(), to });
                }
                Op::Slopes(slopes) => {
                    say("float32 leaky ReLU, a slope for each channel".into(), &node.sources);
                    steps.push(Step::Slopes { slopes: slopes.clone(), from: from(), to });
                }
                Op::Tables(tables) => {
                    say("levels to levels by a table for each channel".into(), &node.sources);
                    steps.push(Step::TranslateChannels { tables: tables.clone(), from: from(), to });
                }
                Op::Binary(binary, function) => {
                    let then = match function {
                        Function::Identity => String::new(),
                        function => format!(", {}", function.name()),
                    };
                    say(format!("float32 {} of two values{then}", binary.name()), &node.sources);
                    let (left, right) = (from(), buffer(node.inputs[1]));
                    let (binary, function) = (*binary, *function);
                    steps.push(Step::Binary { binary, left, right, function, to });
                }
                Op::BinaryLevels(binary) => {
                    say(format!("int8 {} of two values", binary.binary.name()), &node.sources);
                    let (left, right) = (from(), buffer(node.inputs[1]));
                    steps.push(Step::BinaryLevels { binary: *binary, left, right, to });
                }
                Op::Softmax(among) => {
                    say("float32 softmax".into(), &node.sources);
                    let softmax = Softmax::new(*among, &to.plane);
                    steps.push(Step::Softmax { softmax, from: from(), to });
                }
                Op::Norm { over, epsilon, scale, shift, after } => {
                    let then = match after {
                        Function::Identity => String::new(),
                        after => format!(", {}", after.name()),
                    };
                    say(format!("float32 norm of {}{then}", norm_name(*over)), &node.sources);
                    let norm = Norm::new(*over, *epsilon, (scale.clone(), shift.clone()), &to.plane);
                    let norm = norm.map_err(|mismatch| (named(node), mismatch.to_string()))?;
                    steps.push(Step::Norm { norm: Box::new(norm), function: *after, from: from(), to });
                }
                Op::Pool { pooling, y, x } => {
                    let number = self.graph.values[node.output].number;
                    let kind = if number == Number::Level { "int8" } else { "float32" };
                    let what = if *pooling == Pooling::Max { "largest" } else { "mean" };
                    let sides = format!("{} x {}, stride {}", y.kernel(), x.kernel(), y.stride());
                    say(format!("{kind} {what} of windows {sides}"), &node.sources);
                    let (pooling, axes, from) = (*pooling, (*y, *x), from());
                    steps.push(match number {
                        Number::Level => Step::PoolLevels { axes, from, to },
                        Number::Float => Step::PoolFloats { pooling, axes, from, to },
                    });
                }
                Op::MeanLevels(own, made) => {
                    say("int8 mean of each channel".into(), &node.sources);
                    let (from, pixels) = (from(), self.graph.values[node.inputs[0]].shape.image());
                    let scale = own.scale / (made.scale * (pixels.1 * pixels.2) as f32);
                    steps.push(Step::MeanLevels { scale, zeros: (own.zero, made.zero), from, to });
                }
                Op::Resize { y, x } => {
                    say("float32 picture in another size".into(), &node.sources);
                    let from = from();
                    let resize = Resize::new(y.clone(), x.clone(), &from.plane, &to.plane);
                    let resize = resize.map_err(|mismatch| (named(node), mismatch.to_string()))?;
                    steps.push(Step::Resize { resize: Box::new(resize), from, to });
                }
                Op::Constant(values) => {
                    say("constant".into(), &node.sources);
                    let values = by_plane(&to.plane, values, 1, 0.0, |value| value);
                    steps.push(Step::Constant { values, to });
                }
                Op::Move(Move::Reshape) if self.root(node.inputs[0]) == self.root(node.output) => {
                    say("the same memory".into(), &node.sources);
                }
                Op::Move(moved) => {
                    say("values moved".into(), &node.sources);
                    if let Move::Pad { value, level, .. } = moved {
                        let to = to.clone();
                        steps.push(match self.graph.values[node.output].number {
                            Number::Level => Step::FillLevels { level: *level, to },
                            Number::Float => Step::FillFloats { value: *value, to },
                        });
                    }
                    let pairs = self.pairs(moved, node.inputs[0], node.output);
                    steps.push(self.moved(pairs, node.output, from(), to));
                }
                Op::Concat(axis) => {
                    say("values joined".into(), &node.sources);
                    let targets: Vec<usize> = places(&to.plane).collect();
                    let (_, rows, cols) = self.graph.values[node.output].shape.image();
                    let mut first = [0; 3];
                    for input in &node.inputs {
                        let part = buffer(*input);
                        let (channels, height, width) = self.graph.values[*input].shape.image();
                        let target = |index: usize| {
                            let (channel, y, x) =
                                (index / (height * width), index / width % height, index % width);
                            targets[((first[0] + channel) * rows + first[1] + y) * cols + first[2] + x]
                        };
                        let pairs = places(&part.plane).enumerate();
                        let pairs = pairs.map(|(index, from)| (from as u32, target(index) as u32)).collect();
                        first[*axis] += [channels, height, width][*axis];
                        steps.push(self.moved(pairs, node.output, part, to.clone()));
                    }
                }
                Op::Other(other) => {
                    for (source, reason) in &other.reasons {
                        say(format!("{}: {reason}", other.engine), &[*source]);
                    }
                    let running = other.prepared.start().map_err(|reason| (named(node), reason))?;
                    let from = node.inputs.iter().map(|input| buffer(*input)).collect();
                    steps.push(Step::Other { running, from, to });
                }
                Op::ClassFloats { classes, table } => {
                    say("the class's row".into(), &node.sources);
                    let table = by_plane(&to.plane, table, *classes, 0.0, |value| value);
                    steps.push(Step::ClassFloats { classes: *classes, table, to });
                }
                Op::ClassLevels { classes, table } => {
                    say("the class's row".into(), &node.sources);
                    let isa = self.cpu.isa();
                    let zero = flipped(isa, to.zero);
                    let table = by_plane(&to.plane, table, *classes, zero, |level| flipped(isa, level));
                    steps.push(Step::ClassLevels { classes: *classes, table, to });
                }
            }
            let what = runs.last().map_or("", |run: &Run| run.what.as_str());
            let input = node.inputs.first().copied().unwrap_or(node.output);
            done.resize_with(steps.len(), || self.done(Some(node), input, node.output, what));
        }
        let mut exits = Vec::new();
        for output in &self.graph.outputs {
            let maker = self.graph.nodes.iter().find(|node| node.output == *output && self.exits[*output]);
            let input = maker.map_or(*output, |node| node.inputs[0]);
            let mut say =
                |what: String, sources: &[usize]| runs.push(Run { what, sources: sources.to_vec() });
            exits.push(match maker.map(|node| (&node.op, node)) {
                Some((Op::LookUp(encoding, function), node)) => {
                    say("looked up on the way out".into(), &node.sources);
                    Exit::Levels { from: buffer(input), table: values_of(*encoding, *function) }
                }
                Some((Op::Function(function), node)) => {
                    say(format!("float32 {}, on the way out", function.name()), &node.sources);
                    Exit::Floats { from: buffer(input), function: *function }
                }
                _ => Exit::Floats { from: buffer(input), function: Function::Identity },
            });
            let what = match maker {
                Some(_) => runs.last().map_or("", |run: &Run| run.what.as_str()),
                None => "the output out of its plane",
            };
            done.push(self.done(maker, input, *output, what));
        }
        let program = Program {
            cpu: self.cpu,
            steps,
            exits,
            levels: Arena::new(level_total),
            floats: Arena::new(float_total),
            level_scratch: vec![0; level_scratch],
            float_scratch: vec![0.0; float_scratch],
            pool: None,
        };
        Ok((program, runs, done))
    }

    /// What a step does.
    fn done(&self, node: Option<&Node>, input: Id, output: Id, what: &str) -> Done {
        let size = |value: Id| match self.graph.values[value].number {
            Number::Level => self.graph.values[value].shape.values() as u64,
            Number::Float => 4 * self.graph.values[value].shape.values() as u64,
        };
        let weights = match node.map(|node| &node.op) {
            Some(Op::Quantized(layer)) => layer.weights.len() as u64,
            Some(Op::Linear(layer)) => (if self.halves { 2 } else { 4 }) * layer.weights.len() as u64,
            _ => 0,
        };
        let kind = node.and_then(|node| node.op.kind());
        Done {
            nodes: node.map_or_else(Vec::new, |node| node.sources.clone()),
            what: what.to_string(),
            input: self.graph.values[input].shape.dims(),
            output: self.graph.values[output].shape.dims(),
            macs: match node.map(|node| &node.op) {
                Some(Op::Other(other)) => other.prepared.macs().unwrap_or(0),
                Some(Op::Product { .. }) => {
                    let made = self.graph.values[output].shape;
                    let inner = self.graph.values[input].shape.values() / made.channels();
                    (inner as u64).saturating_mul(made.values() as u64)
                }
                _ => kind.map_or(0, |kind| kind.macs(&self.plane(input), &self.plane(output))),
            },
            arithmetic: match node.map(|node| &node.op) {
                Some(Op::Quantized(_)) => Arithmetic::Int8,
                Some(Op::Linear(_)) if self.halves => Arithmetic::Float16,
                _ => Arithmetic::Float32,
            },
            bytes: weights + size(input) + size(output),
        }
    }

    /// Whether the input is read as float32.
    fn memory_of_input(&self) -> bool {
        let input = self.graph.input;
        let reads = |node: &&Node| node.inputs.contains(&input) && !matches!(node.op, Op::Quantize(_));
        self.graph.nodes.iter().any(|node| reads(&node)) || self.graph.outputs.contains(&input)
    }

    fn layer(&self, node: &Node) -> Result<Option<Layer>, String> {
        if let Op::Product { left_turned, right_turned } = &node.op {
            let [left, right, made] = [node.inputs[0], node.inputs[1], node.output].map(|id| self.plane(id));
            let product = Product::new(self.cpu, (left, *left_turned), (right, *right_turned), made);
            let product = product.map(Layer::Product);
            return product.map(Some).map_err(|mismatch: Mismatch| mismatch.to_string());
        }
        let Some(kind) = node.op.kind() else { return Ok(None) };
        let (input, output) = (self.plane(node.inputs[0]), self.plane(node.output));
        let layer = match &node.op {
            Op::Quantized(layer) => QuantizedLayer::new(
                self.cpu,
                &QuantizedSpec {
                    kind,
                    input,
                    output,
                    weights: &layer.weights,
                    bias: &layer.bias,
                    scales: &layer.scales,
                    x_zero: layer.x_zero,
                    y_zero: layer.y_zero,
                    low: layer.low,
                    high: layer.high,
                    slope: layer.slope,
                },
            )
            .map(Layer::Quantized),
            Op::Linear(linear) => {
                let (weights, bias, slopes) = (&linear.weights[..], &linear.bias[..], &linear.slopes[..]);
                let (clip, halves) = (linear.clip, self.halves);
                let spec = FloatSpec { kind, input, output, weights, bias, slopes, clip, halves };
                FloatLayer::new(self.cpu, &spec).map(Layer::Float)
            }
            _ => return Ok(None),
        };
        layer.map(Some).map_err(|mismatch| mismatch.to_string())
    }

    /// `int8 transposed convolution 4 × 4, stride 2; avx2, tiles of 4 pixels × 2 registers`.
    fn describe(&self, node: &Node, (merged, tile): (bool, Option<(usize, usize)>)) -> String {
        let number = match node.op {
            Op::Quantized(_) => "int8",
            _ if self.halves => "float16",
            _ => "float32",
        };
        let what = match node.op.kind() {
            Some(Kind::Conv { y, x, enlarged, block, .. }) => {
                let mut text = format!("convolution {} x {}", y.kernel(), x.kernel());
                if (y.stride(), x.stride()) != (1, 1) {
                    text += &format!(", stride {}", y.stride());
                }
                let (enlarged, block) = (enlarged.get(), block.get());
                if enlarged > 1 {
                    text += &format!(" of the picture {enlarged} times as large");
                }
                if block > 1 {
                    text += &format!(" to blocks of {block} x {block} pixels");
                }
                text
            }
            Some(Kind::Transposed { y, x, .. }) => {
                format!("transposed convolution {} x {}, stride {}", y.kernel(), x.kernel(), y.stride())
            }
            _ => "dense".into(),
        };
        let what = match node.op.kind().map_or(1, |kind| kind.groups()) {
            1 => what,
            groups if groups == self.graph.values[node.inputs[0]].shape.channels() => {
                format!("{what}, depthwise")
            }
            groups => format!("{what}, {groups} groups"),
        };
        let phases = if merged { ", phases in one" } else { "" };
        let (pixels, registers) = tile.unwrap_or((0, 0));
        let then = match &node.op {
            Op::Linear(linear) if linear.after != Function::Identity => format!(", {}", linear.after.name()),
            _ => String::new(),
        };
        format!("{number} {what}{then}; {}, {pixels} x {registers} registers{phases}", self.cpu.isa())
    }

    /// Places in both planes of every value that is moved; what a padding adds is not.
    fn pairs(&self, moved: &Move, input: Id, output: Id) -> Vec<(u32, u32)> {
        let sources: Vec<usize> = places(&self.plane(input)).collect();
        let (_, height, width) = self.graph.values[input].shape.image();
        let (channels, rows, cols) = self.graph.values[output].shape.image();
        let from = |index: usize| {
            let (channel, y, x) = (index / (rows * cols), index / cols % rows, index % cols);
            let at = |channel: usize, y: usize, x: usize| (channel * height + y) * width + x;
            let from = match moved {
                Move::Reshape => index,
                Move::Enlarge(times) => at(channel, y / times, x / times),
                Move::Shuffle(block) => {
                    at((channel * block + y % block) * block + x % block, y / block, x / block)
                }
                Move::Crop(top, left) => at(channel, y + top, x + left),
                Move::Pad { top, left, .. } => {
                    let inside = (*top..top + height).contains(&y) && (*left..left + width).contains(&x);
                    return inside.then(|| at(channel, y - top, x - left));
                }
                // of a matrix, which is one row of pixels: channel c of pixel x was channel x of pixel c
                Move::Turn => x * width + channel,
                Move::Gather(from) => from[index] as usize,
            };
            Some(from)
        };
        debug_assert_eq!(channels * rows * cols, self.plane(output).values());
        places(&self.plane(output))
            .enumerate()
            .filter_map(|(index, to)| Some((sources[from(index)?] as u32, to as u32)))
            .collect()
    }

    fn moved(&self, pairs: Vec<(u32, u32)>, output: Id, from: Buffer, to: Buffer) -> Step {
        let moves = Moves::of(pairs);
        match self.graph.values[output].number {
            Number::Level => Step::MoveLevels { moves, from, to },
            Number::Float => Step::MoveFloats { moves, from, to },
        }
    }

    /// From which node to which each plane is needed.
    fn lives(&self, memory: &mut Memory) {
        let end = self.graph.nodes.len();
        let mut touch = |value: Id, at: usize| {
            let (first, last) = memory.lives.entry(self.root(value)).or_insert((at, at));
            (*first, *last) = ((*first).min(at), (*last).max(at));
        };
        if self.memory_of_input() {
            touch(self.graph.input, 0);
        }
        for (index, node) in self.graph.nodes.iter().enumerate() {
            if self.exits[node.output] {
                continue;
            }
            node.inputs
                .iter()
                .filter(|input| **input != self.graph.input || !matches!(node.op, Op::Quantize(_)))
                .for_each(|input| touch(*input, index));
            touch(node.output, index);
        }
        for output in &self.graph.outputs {
            let maker = self.graph.nodes.iter().find(|node| node.output == *output && self.exits[*output]);
            touch(maker.map_or(*output, |node| node.inputs[0]), end);
        }
    }
}

/// Which values belong together.
struct Classes(Vec<Id>);

impl Classes {
    fn new(count: usize) -> Self {
        Self((0..count).collect())
    }

    fn of(&self, value: Id) -> Id {
        let mut at = value;
        while self.0[at] != at {
            at = self.0[at];
        }
        at
    }

    fn join(&mut self, one: Id, other: Id) {
        let (one, other) = (self.of(one), self.of(other));
        self.0[other] = one;
    }
}

enum Layer {
    Quantized(QuantizedLayer),
    Float(FloatLayer),
    Product(Product),
}

/// What is known about planes before they have a place.
#[derive(Default)]
struct Memory {
    slack: HashMap<Id, usize>,
    /// First and last node.
    lives: HashMap<Id, (usize, usize)>,
}

/// Places start at multiples of this many elements: a cache line of bytes.
const ALIGNMENT: usize = 64;

impl Memory {
    /// Gives each plane a place that no other plane has at the same time: the largest first, each as low as it fits.
    fn place(
        &self,
        chosen: impl Fn(Id) -> bool,
        planes: &HashMap<Id, Plane>,
    ) -> (HashMap<Id, Range<usize>>, usize) {
        let size = |id: Id| planes[&id].len() + self.slack.get(&id).copied().unwrap_or(0);
        let mut ids: Vec<Id> = self.lives.keys().copied().filter(|id| chosen(*id)).collect();
        ids.sort_by_key(|id| (std::cmp::Reverse(size(*id)), *id));
        let mut placed: HashMap<Id, Range<usize>> = HashMap::new();
        // from which node to which, and where
        let mut all: Vec<(usize, usize, Range<usize>)> = Vec::new();
        let mut total = 0;
        for id in ids {
            let (first, last) = self.lives[&id];
            let meets = |(start, end, _): &&(usize, usize, Range<usize>)| *start <= last && first <= *end;
            let mut taken: Vec<Range<usize>> =
                all.iter().filter(meets).map(|(_, _, range)| range.clone()).collect();
            taken.sort_by_key(|range| range.start);
            let mut start = 0;
            for range in taken {
                if start + size(id) <= range.start {
                    break;
                }
                start = start.max(range.end.next_multiple_of(ALIGNMENT));
            }
            total = total.max(start + size(id));
            placed.insert(id, start..start + size(id));
            all.push((first, last, start..start + size(id)));
        }
        (placed, total)
    }
}

fn values_of(encoding: Encoding, function: Function) -> Box<[f32; 256]> {
    Box::new(std::array::from_fn(|level| function.exact(value(level as u8, encoding.scale, encoding.zero))))
}

fn norm_name(over: Over) -> String {
    match over {
        Over::Channels(1) => "each channel".into(),
        Over::Channels(channels) => format!("groups of {channels} channels"),
        Over::Pixel => "each pixel".into(),
        Over::Row => "each row".into(),
    }
}

/// Rows of a table, CHW, as they lie in a plane.
fn by_plane<T: Copy>(plane: &Plane, table: &[T], classes: usize, border: T, put: impl Fn(T) -> T) -> Vec<T> {
    let mut all = vec![border; classes * plane.len()];
    let rows = table.chunks_exact(plane.values()).zip(all.chunks_exact_mut(plane.len()));
    for (row, to) in rows {
        places(plane).zip(row).for_each(|(at, value)| to[at] = put(*value));
    }
    all
}
