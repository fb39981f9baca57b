//! [`Graph`] → [`Program`]: planes with their borders, an arena, packed layers, steps.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

use edgegen_kernels::elements::{Function, flipped, places, value};
use edgegen_kernels::{Border, Cpu, FloatLayer, FloatSpec, Kind, Plane, QuantizedLayer, QuantizedSpec};

use super::{Arithmetic, Done};
use crate::limits::{self, Budget};

use super::graph::{Encoding, Graph, Id, Move, Node, Number, Op, Shape};
use super::program::{Buffer, Exit, Program, Step};

/// What a phase of a transposed convolution takes at least.
const PHASE_BYTES: usize = 256;

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
                    | Op::Add
                    | Op::Quantize(_)
                    | Op::LookUp(..)
                    | Op::Table(_)
            );
            if single {
                node.inputs.iter().for_each(|input| sizes.join(*input, node.output));
            }
        }
        // a vector fits the plane of any picture
        let mut pictures: HashMap<Id, Shape> = HashMap::new();
        for (id, value) in self.graph.values.iter().enumerate().filter(|(_, value)| !value.shape.is_flat()) {
            pictures.insert(sizes.of(id), value.shape);
        }
        for node in self.graph.nodes.iter().filter(|node| matches!(node.op, Op::Move(Move::Reshape))) {
            let (from, to) = (sizes.of(node.inputs[0]), sizes.of(node.output));
            let shape = match (pictures.get(&from), pictures.get(&to)) {
                (Some(one), Some(other)) if one != other => continue,
                (one, other) => one.or(other).copied(),
            };
            sizes.join(node.inputs[0], node.output);
            shape.map(|shape| pictures.insert(sizes.of(from), shape));
            self.roots.join(node.inputs[0], node.output);
        }
        for id in 0..self.graph.values.len() {
            let shape = pictures.get(&sizes.of(id)).copied().unwrap_or(self.graph.values[id].shape);
            let (channels, height, width) = shape.image();
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
                Op::Move(_) | Op::Concat => 8 * self.graph.values[node.output].shape.values(),
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
                let input = self.root(node.inputs[0]);
                let slack = match &layer {
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
                Op::Linear(_) | Op::Quantized(_) => match layers.remove(&index) {
                    Some(Layer::Quantized(layer)) => {
                        say(self.describe(node, layer.tile()), &node.sources);
                        steps.push(Step::Quantized { layer: Arc::new(layer), from: from(), to });
                    }
                    Some(Layer::Float(layer)) => {
                        say(self.describe(node, layer.tile()), &node.sources);
                        steps.push(Step::Float { layer: Arc::new(layer), from: from(), to });
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
                Op::LookUp(encoding, function) => {
                    say("levels to float32 by a table".into(), &node.sources);
                    steps.push(Step::LookUp { table: values_of(*encoding, *function), from: from(), to });
                }
                Op::Table(table) => {
                    say("levels to levels by a table".into(), &node.sources);
                    steps.push(Step::Translate { table: table.clone(), from: from(), to });
                }
                Op::Function(function) => {
                    say(format!("float32 {}", name_of(*function)), &node.sources);
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
                Op::Add => {
                    say("float32 sum".into(), &node.sources);
                    let (left, right) = (from(), buffer(node.inputs[1]));
                    steps.push(Step::Add { left, right, function: Function::Identity, to });
                }
                Op::Softmax => {
                    let from = from();
                    if !from.plane.is_pixel() || !to.plane.is_pixel() {
                        return Err((named(node), "a softmax of a picture that is a vector".into()));
                    }
                    say("float32 softmax".into(), &node.sources);
                    steps.push(Step::Softmax { from, to });
                }
                Op::Move(Move::Reshape) if self.root(node.inputs[0]) == self.root(node.output) => {
                    say("the same memory".into(), &node.sources);
                }
                Op::Move(moved) => {
                    say("values moved".into(), &node.sources);
                    let pairs = self.pairs(moved, node.inputs[0], node.output);
                    steps.push(self.moved(pairs, node.output, from(), to));
                }
                Op::Concat => {
                    say("values joined".into(), &node.sources);
                    let targets: Vec<usize> = places(&to.plane).collect();
                    let mut first = 0;
                    for input in &node.inputs {
                        let part = buffer(*input);
                        let sources: Vec<usize> = places(&part.plane).collect();
                        let joined = sources.iter().zip(&targets[first..]);
                        let pairs = joined.map(|(from, to)| (*from as u32, *to as u32)).collect();
                        first += sources.len();
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
                    say(format!("float32 {}, on the way out", name_of(*function)), &node.sources);
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
            isa: self.cpu.isa(),
            steps,
            exits,
            levels: vec![0; level_total],
            floats: vec![0.0; float_total],
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
                let (weights, bias, slope) = (&linear.weights[..], &linear.bias[..], linear.slope);
                let halves = self.halves;
                FloatLayer::new(self.cpu, &FloatSpec { kind, input, output, weights, bias, slope, halves })
                    .map(Layer::Float)
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
        format!("{number} {what}; {}, {pixels} x {registers} registers{phases}", self.cpu.isa())
    }

    /// Places in both planes of every value that is moved.
    fn pairs(&self, moved: &Move, input: Id, output: Id) -> Vec<(u32, u32)> {
        let sources: Vec<usize> = places(&self.plane(input)).collect();
        let (_, height, width) = self.graph.values[input].shape.image();
        let (channels, rows, cols) = self.graph.values[output].shape.image();
        let from = |index: usize| {
            let (channel, y, x) = (index / (rows * cols), index / cols % rows, index % cols);
            let at = |channel: usize, y: usize, x: usize| (channel * height + y) * width + x;
            match moved {
                Move::Reshape => index,
                Move::Enlarge(times) => at(channel, y / times, x / times),
                Move::Shuffle(block) => {
                    at((channel * block + y % block) * block + x % block, y / block, x / block)
                }
                Move::Crop(top, left) => at(channel, y + top, x + left),
                Move::Gather(from) => from[index] as usize,
            }
        };
        debug_assert_eq!(channels * rows * cols, self.plane(output).values());
        places(&self.plane(output))
            .enumerate()
            .map(|(index, to)| (sources[from(index)] as u32, to as u32))
            .collect()
    }

    fn moved(&self, pairs: Vec<(u32, u32)>, output: Id, from: Buffer, to: Buffer) -> Step {
        match self.graph.values[output].number {
            Number::Level => Step::MoveLevels { pairs, from, to },
            Number::Float => Step::MoveFloats { pairs, from, to },
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

fn name_of(function: Function) -> &'static str {
    match function {
        Function::Identity => "as it is",
        Function::Slope(0.0) => "ReLU",
        Function::Slope(_) => "leaky ReLU",
        Function::Tanh => "tanh",
        Function::Sigmoid => "sigmoid",
        Function::Clip(..) => "clip",
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
