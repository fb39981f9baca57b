//! Passes that bring operators together until only what a kernel does is left.

use std::collections::{BTreeSet, HashMap};

use edgegen_kernels::elements::{Binary, Function, level, value};
use edgegen_kernels::norms::Over;
use edgegen_kernels::windows::Pooling;
use edgegen_kernels::{Axis, Kind, Times};

use super::graph::{
    BinaryLevels, Encoding, Graph, Id, Linear, Move, Node, Number, Op, Quantized, Shape, Value, requantised,
};

/// What is done to a node and the only one that reads it.
enum Edit {
    /// Both become one, which reads these.
    Join(Op, Vec<Id>),
    /// The second comes first, as this operator.
    Swap(Op),
    /// The first takes the second in.
    Absorb(Box<dyn FnOnce(&mut Op)>),
    /// The second takes the first in.
    Precede(Box<dyn FnOnce(&mut Op)>),
    /// They stay two, and become these.
    Become(Op, Op),
    /// The first goes.
    Drop,
}

/// Fuses until nothing changes, and removes what nobody reads.
pub(super) fn fuse(graph: &mut Graph) {
    spread_look_ups(graph);
    // every edit takes a node away or moves one on its way down or up, and none is moved back: this ends
    let mut fuser = Fuser::new(graph);
    let mut waiting: BTreeSet<usize> = (0..fuser.nodes.len()).collect();
    // the first that can be fused, always; what an edit does not touch stays as it was found
    while let Some(first) = waiting.pop_first() {
        let Some((second, edit)) = fuser.edit(first) else { continue };
        for changed in fuser.apply(first, second, edit) {
            waiting.insert(changed);
        }
    }
    graph.nodes = fuser.nodes.into_iter().flatten().collect();
    gather_look_ups(graph);
    let mut read = vec![false; graph.values.len()];
    graph.outputs.iter().for_each(|output| read[*output] = true);
    for node in graph.nodes.iter().rev() {
        if read[node.output] {
            node.inputs.iter().for_each(|input| read[*input] = true);
        }
    }
    graph.nodes.retain(|node| read[node.output]);
}

/// Gives each reader of levels' values a DequantizeLinear of its own, so that it can be fused with it.
fn spread_look_ups(graph: &mut Graph) {
    let mut read = vec![0usize; graph.values.len()];
    graph.nodes.iter().flat_map(|node| &node.inputs).for_each(|input| read[*input] += 1);
    let mut nodes: Vec<Node> = Vec::with_capacity(graph.nodes.len());
    // by the value that it makes
    let mut shared: HashMap<Id, Node> = HashMap::new();
    for mut node in std::mem::take(&mut graph.nodes) {
        for input in &mut node.inputs {
            if let Some(look_up) = shared.get(input) {
                let value = graph.values[*input];
                let output = graph.value(value.shape, value.number);
                nodes.push(Node { output, ..look_up.clone() });
                *input = output;
            }
        }
        if matches!(node.op, Op::LookUp(..)) && read[node.output] > 1 && !graph.outputs.contains(&node.output)
        {
            shared.insert(node.output, node);
        } else {
            nodes.push(node);
        }
    }
    graph.nodes = nodes;
}

/// Makes one of those that are left and do the same.
fn gather_look_ups(graph: &mut Graph) {
    let mut first: Vec<(Id, Encoding, Function, Id)> = Vec::new();
    let mut same: HashMap<Id, Id> = HashMap::new();
    let mut nodes = Vec::with_capacity(graph.nodes.len());
    for mut node in std::mem::take(&mut graph.nodes) {
        for input in &mut node.inputs {
            *input = same.get(input).copied().unwrap_or(*input);
        }
        if let Op::LookUp(encoding, function) = node.op
            && !graph.outputs.contains(&node.output)
        {
            let (input, output) = (node.inputs[0], node.output);
            let known = first.iter().find(|known| (known.0, known.1, known.2) == (input, encoding, function));
            if let Some((.., made)) = known {
                same.insert(output, *made);
                continue;
            }
            first.push((input, encoding, function, output));
        }
        nodes.push(node);
    }
    graph.nodes = nodes;
}

/// A graph while it is fused: nodes keep their places, and who makes and reads each value is known.
struct Fuser<'a> {
    values: &'a mut Vec<Value>,
    nodes: Vec<Option<Node>>,
    makers: Vec<Option<usize>>,
    /// With a place for each input.
    readers: Vec<Vec<usize>>,
    outputs: Vec<bool>,
}

impl<'a> Fuser<'a> {
    fn new(graph: &'a mut Graph) -> Self {
        let count = graph.values.len();
        let (mut makers, mut readers) = (vec![None; count], vec![Vec::new(); count]);
        let mut outputs = vec![false; count];
        for (index, node) in graph.nodes.iter().enumerate() {
            makers[node.output] = Some(index);
            node.inputs.iter().for_each(|input| readers[*input].push(index));
        }
        graph.outputs.iter().for_each(|output| outputs[*output] = true);
        let nodes = std::mem::take(&mut graph.nodes).into_iter().map(Some).collect();
        Self { values: &mut graph.values, nodes, makers, readers, outputs }
    }

    fn node(&self, index: usize) -> Option<&Node> {
        self.nodes.get(index)?.as_ref()
    }

    /// Whether a product alone reads it.
    fn is_multiplied(&self, value: Id) -> bool {
        let product =
            |reader: &usize| matches!(self.node(*reader), Some(Node { op: Op::Product { .. }, .. }));
        !self.outputs[value] && !self.readers[value].is_empty() && self.readers[value].iter().all(product)
    }

    fn shape(&self, value: Id) -> Shape {
        self.values[value].shape
    }

    /// What is done to a node and the only one that reads it.
    fn edit(&self, first: usize) -> Option<(usize, Edit)> {
        let made = self.node(first)?.output;
        // the only one, and once
        let [second] = self.readers[made][..] else { return None };
        if self.outputs[made] {
            return None;
        }
        Some((second, edit(self, first, second)?))
    }

    /// Takes a node out of the graph.
    fn take(&mut self, index: usize) -> Option<Node> {
        let node = self.nodes[index].take()?;
        self.makers[node.output] = None;
        for input in &node.inputs {
            if let Some(at) = self.readers[*input].iter().position(|reader| *reader == index) {
                self.readers[*input].swap_remove(at);
            }
        }
        Some(node)
    }

    /// Puts a node into its place.
    fn put(&mut self, index: usize, node: Node) {
        self.makers[node.output] = Some(index);
        node.inputs.iter().for_each(|input| self.readers[*input].push(index));
        self.nodes[index] = Some(node);
    }

    /// Does it, and returns the nodes for which something else may be done now.
    fn apply(&mut self, first: usize, second: usize, edit: Edit) -> Vec<usize> {
        let (Some(mut one), Some(mut other)) = (self.take(first), self.take(second)) else {
            return Vec::new();
        };
        let joined = |one: &mut Node, other: &mut Node| {
            let mut sources = std::mem::take(&mut one.sources);
            sources.append(&mut other.sources);
            sources
        };
        match edit {
            Edit::Join(op, inputs) => {
                let sources = joined(&mut one, &mut other);
                let before = std::mem::take(&mut one.inputs);
                self.put(second, Node { op, inputs, output: other.output, sources });
                // what was passed over
                for value in before {
                    let unread = self.readers[value].is_empty() && !self.outputs[value];
                    if let Some(maker) = self.makers[value].filter(|_| unread)
                        && matches!(self.node(maker), Some(Node { op: Op::LookUp(..), .. }))
                    {
                        self.take(maker);
                    }
                }
            }
            Edit::Absorb(change) => {
                let sources = joined(&mut one, &mut other);
                change(&mut one.op);
                // the nodes between them do not read what the first makes
                self.put(second, Node { output: other.output, sources, ..one });
            }
            Edit::Precede(change) => {
                let sources = joined(&mut one, &mut other);
                change(&mut other.op);
                self.put(second, Node { inputs: one.inputs, sources, ..other });
            }
            Edit::Swap(op) => {
                // a → first → b → second → c becomes a → second → b → first → c
                let (a, b, c) = (one.inputs[0], one.output, other.output);
                // a move and a pool change the shape alone, anything else the numbers alone
                let moves = matches!(op, Op::Move(_) | Op::Pool { .. });
                let (shape, number) = if moves { (c, a) } else { (a, c) };
                self.values[b] =
                    Value { shape: self.values[shape].shape, number: self.values[number].number };
                let moved = std::mem::replace(&mut one.op, op);
                other.op = moved;
                std::mem::swap(&mut one.sources, &mut other.sources);
                self.put(first, one);
                self.put(second, other);
            }
            Edit::Become(op, next) => {
                if let Op::Quantize(_) | Op::Table(_) = op {
                    self.values[one.output].number = Number::Level;
                }
                (one.op, other.op) = (op, next);
                self.put(first, one);
                self.put(second, other);
            }
            Edit::Drop => {
                let input = one.inputs[0];
                let sources = joined(&mut one, &mut other);
                let inputs = other.inputs.iter().map(|id| if *id == one.output { input } else { *id });
                self.put(second, Node { inputs: inputs.collect(), sources, ..other });
            }
        }
        // what is done depends on a node, its reader, and who makes what it reads
        let mut changed = Vec::new();
        for index in [first, second] {
            let Some(node) = self.node(index) else { continue };
            changed.push(index);
            changed.extend(node.inputs.iter().filter_map(|input| self.makers[*input]));
            changed.extend(&self.readers[node.output]);
        }
        changed
    }
}

fn edit(graph: &Fuser<'_>, first: usize, second: usize) -> Option<Edit> {
    let (one, other) = (graph.node(first)?, graph.node(second)?);
    let input = *one.inputs.first()?; // a class's row has none, and nothing is fused with it
    let join = |op: Op| Some(Edit::Join(op, vec![input]));
    let before = graph.shape(input);
    let made = graph.shape(other.output);
    match (&one.op, &other.op) {
        // single values first: then moves come to lie behind layers
        (Op::Move(Move::Pad { .. }), Op::Function(_) | Op::Quantize(_) | Op::Table(_)) => None,
        (Op::Move(_), Op::Function(_) | Op::Quantize(_) | Op::Table(_)) => Some(Edit::Swap(other.op.clone())),
        (Op::Move(Move::Reshape), Op::Affine { scale, shift }) => {
            let spread = |values: &[f32]| -> Vec<f32> {
                let each = made.values() / values.len();
                values.iter().flat_map(|value| std::iter::repeat_n(*value, each)).collect()
            };
            before.is_flat().then(|| Edit::Swap(Op::Affine { scale: spread(scale), shift: spread(shift) }))
        }
        // but levels are moved as levels
        (Op::LookUp(from, function), Op::Move(Move::Pad { top, left, value: added, .. })) => {
            // the level that becomes what is added, if there is one
            let level =
                (0..=u8::MAX).find(|at| function.exact(value(*at, from.scale, from.zero)) == *added)?;
            let (top, left, value) = (*top, *left, *added);
            Some(Edit::Swap(Op::Move(Move::Pad { top, left, value, level })))
        }
        // what a product reads is turned by it
        (Op::LookUp(..), Op::Move(Move::Turn)) if graph.is_multiplied(other.output) => None,
        (Op::Move(Move::Turn), Op::LookUp(..)) if graph.is_multiplied(other.output) => {
            Some(Edit::Swap(other.op.clone()))
        }
        (Op::Move(Move::Turn), Op::Product { left_turned, right_turned }) => {
            let (left, right) = (other.inputs[0] == one.output, other.inputs[1] == one.output);
            let (left_turned, right_turned) = (left_turned ^ left, right_turned ^ right);
            let read = |value: &Id| if *value == one.output { input } else { *value };
            let op = Op::Product { left_turned, right_turned };
            Some(Edit::Join(op, other.inputs.iter().map(read).collect()))
        }
        (Op::LookUp(..), Op::Move(moved)) => Some(Edit::Swap(Op::Move(moved.clone()))),
        // and the largest level is that of the largest value
        (Op::LookUp(_, Function::Identity), Op::Pool { pooling: Pooling::Max, .. }) => {
            Some(Edit::Swap(other.op.clone()))
        }
        (Op::Move(Move::Pad { top, left, value, level }), Op::Linear(_) | Op::Quantized(_)) => {
            let zero = match &other.op {
                Op::Quantized(layer) => *level == layer.x_zero,
                _ => *value == 0.0,
            };
            let kind = padded(other.op.kind()?, *top, *left).filter(|_| zero)?;
            Some(Edit::Precede(Box::new(move |op| set_kind(op, kind))))
        }
        (Op::Function(Function::Sigmoid), Op::Binary(Binary::Mul, Function::Identity)) => {
            let both = other.inputs.contains(&input) && graph.shape(one.output) == before;
            both.then(|| Edit::Join(Op::Function(Function::Silu(1.0)), vec![input]))
        }
        // what is made of a level and a function of it is a function of it
        (Op::Table(of_level), Op::BinaryLevels(two)) if other.inputs.contains(&input) => {
            let left = other.inputs[0] == one.output;
            let through = |at: usize| {
                let (own, made) = (at as u8, of_level[at]);
                let (a, b) = if left { (made, own) } else { (own, made) };
                let a = value(a, two.left.scale, two.left.zero);
                let b = value(b, two.right.scale, two.right.zero);
                level(two.binary.of(a, b), two.to.scale, two.to.zero).max(two.low).min(two.high)
            };
            join(table(through))
        }
        (Op::Binary(..), Op::Function(Function::Slope(slope)))
            if matches!(one.op, Op::Binary(_, Function::Identity)) =>
        {
            let slope = *slope;
            Some(Edit::Absorb(Box::new(move |op| {
                if let Op::Binary(_, function) = op {
                    *function = Function::Slope(slope);
                }
            })))
        }
        (Op::Binary(binary, after), Op::Quantize(to)) => {
            let low = match after {
                Function::Identity => 0,
                Function::Slope(0.0) => to.zero,
                _ => return None,
            };
            let looked_up = |value: Id| match graph.node(graph.makers[value]?)? {
                Node { op: Op::LookUp(from, Function::Identity), inputs, .. } => Some((*from, inputs[0])),
                _ => None,
            };
            let ((left, a), (right, b)) = (looked_up(one.inputs[0])?, looked_up(one.inputs[1])?);
            let levels = BinaryLevels { binary: *binary, left, right, to: *to, low, high: 255 };
            Some(Edit::Join(Op::BinaryLevels(levels), vec![a, b]))
        }
        // a norm of groups, as exporters spell it
        (Op::Move(Move::Reshape), Op::Norm { over: Over::Channels(1), epsilon, scale, shift, after }) => {
            let (Shape::Image(channels, ..), Shape::Matrix(groups, _)) = (before, made) else { return None };
            let each = channels / groups;
            if each * groups != channels {
                return None;
            }
            let spread = |values: &[f32]| values.iter().flat_map(|v| std::iter::repeat_n(*v, each)).collect();
            let (over, epsilon) = (Over::Channels(each), *epsilon);
            let (scale, shift, after) = (spread(scale), spread(shift), *after);
            Some(Edit::Swap(Op::Norm { over, epsilon, scale, shift, after }))
        }
        (Op::Norm { after, .. }, Op::Function(function)) if *after == Function::Identity => {
            let function = *function;
            Some(Edit::Absorb(Box::new(move |op| {
                if let Op::Norm { after, .. } = op {
                    *after = function;
                }
            })))
        }
        (
            Op::Norm { over: Over::Channels(_) | Over::Pixel, after: Function::Identity, .. },
            Op::Affine { scale, shift },
        ) if scale.len() == before.channels() => {
            let (scale, shift) = (scale.clone(), shift.clone());
            Some(Edit::Absorb(Box::new(move |op| {
                if let Op::Norm { scale: own, shift: own_shift, .. } = op {
                    for (channel, own) in own.iter_mut().enumerate() {
                        *own *= scale[channel];
                        own_shift[channel] = own_shift[channel] * scale[channel] + shift[channel];
                    }
                }
            })))
        }
        // the same shape again
        (Op::Move(Move::Reshape), _) if graph.shape(one.output) == before => Some(Edit::Drop),
        (Op::Slopes(slopes), Op::Quantize(to)) => {
            let maker = graph.node(graph.makers[one.inputs[0]]?)?;
            let Op::LookUp(from, Function::Identity) = &maker.op else { return None };
            let of_channel = |slope: &f32| {
                std::array::from_fn(|at| {
                    let value = Function::Slope(*slope).exact(value(at as u8, from.scale, from.zero));
                    level(value, to.scale, to.zero)
                })
            };
            Some(Edit::Join(Op::Tables(slopes.iter().map(of_channel).collect()), vec![maker.inputs[0]]))
        }
        (Op::Move(Move::Reshape), Op::Move(Move::Reshape)) => join(Op::Move(Move::Reshape)),
        (Op::LookUp(from, Function::Identity), Op::Function(function)) => join(Op::LookUp(*from, *function)),
        (Op::LookUp(from, function), Op::Quantize(to)) => {
            let through =
                |at: usize| level(function.exact(value(at as u8, from.scale, from.zero)), to.scale, to.zero);
            join(table(through))
        }
        // rounding keeps the order of values
        (Op::Function(Function::Slope(0.0)), Op::Quantize(to)) => {
            Some(Edit::Become(Op::Quantize(*to), table(|at| (at as u8).max(to.zero))))
        }
        (Op::Function(Function::Clip(low, high)), Op::Quantize(to)) if low <= high => {
            let (low, high) = (level(*low, to.scale, to.zero), level(*high, to.scale, to.zero));
            Some(Edit::Become(Op::Quantize(*to), table(|at| (at as u8).clamp(low, high))))
        }
        (Op::Table(one), Op::Table(other)) => join(table(|at| other[usize::from(one[at])])),
        (Op::Table(table), _) if table.iter().enumerate().all(|(at, to)| at == usize::from(*to)) => {
            Some(Edit::Drop)
        }
        (Op::Move(Move::Enlarge(times)), Op::Linear(_) | Op::Quantized(_)) => {
            let kind = enlarged(other.op.kind()?, *times)?;
            Some(Edit::Precede(Box::new(move |op| set_kind(op, kind))))
        }
        (Op::Linear(linear), Op::Affine { scale, shift }) if linear.is_plain() => {
            join(Op::Linear(Box::new(scaled(linear, scale, shift)?)))
        }
        (Op::Linear(linear), Op::Function(Function::Slope(slope))) if linear.is_plain() => {
            Some(with_slopes(vec![*slope]))
        }
        (Op::Linear(linear), Op::Function(function)) if linear.after == Function::Identity => {
            let function = *function;
            // a clip in registers, anything else behind
            let clips = linear.clip.is_none() && matches!(function, Function::Clip(low, high) if low <= high);
            Some(Edit::Absorb(Box::new(move |op| {
                if let Op::Linear(linear) = op {
                    match function {
                        Function::Clip(low, high) if clips => linear.clip = Some((low, high)),
                        function => linear.after = function,
                    }
                }
            })))
        }
        (Op::Linear(linear), Op::Slopes(slopes))
            if linear.is_plain() && linear.bias.len().is_multiple_of(slopes.len()) =>
        {
            let each = linear.bias.len() / slopes.len();
            Some(with_slopes(slopes.iter().flat_map(|slope| std::iter::repeat_n(*slope, each)).collect()))
        }
        (Op::Linear(linear), Op::Quantize(to)) => {
            let maker = graph.node(graph.makers[one.inputs[0]]?)?;
            let Op::LookUp(from, Function::Identity) = &maker.op else { return None };
            let layer = quantized(linear, *from, *to)?;
            Some(Edit::Join(Op::Quantized(Box::new(layer)), vec![maker.inputs[0]]))
        }
        (Op::Linear(_) | Op::Quantized(_), Op::Move(moved)) => {
            let kind = shuffled(one.op.kind()?, moved, graph.shape(one.output), made)?;
            Some(Edit::Absorb(Box::new(move |op| set_kind(op, kind))))
        }
        (Op::Quantized(_) | Op::BinaryLevels(_), Op::Table(table)) => {
            // a clamp
            let (low, high) = (table[0], table[255]);
            let clamps =
                low <= high && table.iter().enumerate().all(|(at, to)| (at as u8).clamp(low, high) == *to);
            clamps.then(|| {
                Edit::Absorb(Box::new(move |op| {
                    let (own_low, own_high) = match op {
                        Op::Quantized(layer) => (&mut layer.low, &mut layer.high),
                        Op::BinaryLevels(two) => (&mut two.low, &mut two.high),
                        _ => return,
                    };
                    (*own_low, *own_high) = ((*own_low).clamp(low, high), (*own_high).clamp(low, high));
                }))
            })
        }
        _ => None,
    }
}

fn set_kind(op: &mut Op, kind: Kind) {
    match op {
        Op::Linear(linear) => linear.kind = kind,
        Op::Quantized(layer) => layer.kind = kind,
        _ => {}
    }
}

fn table(of: impl Fn(usize) -> u8) -> Op {
    Op::Table(Box::new(std::array::from_fn(of)))
}

/// A layer whose values below zero are multiplied by these, one an output or one for all.
fn with_slopes(slopes: Vec<f32>) -> Edit {
    Edit::Absorb(Box::new(move |op| {
        if let Op::Linear(linear) = op {
            linear.slopes = slopes;
        }
    }))
}

/// A convolution of a picture with so many more rows above and columns to the left.
fn padded(kind: Kind, top: usize, left: usize) -> Option<Kind> {
    let more = |axis: Axis, by: usize| {
        let padding = axis.padding().checked_add(by)?;
        Axis::new(axis.kernel(), axis.stride(), padding, axis.dilation()).ok()
    };
    match kind {
        Kind::Conv { y, x, enlarged: Times::ONE, block, cropped, groups } => {
            let (y, x) = (more(y, top)?, more(x, left)?);
            Some(Kind::Conv { y, x, enlarged: Times::ONE, block, cropped, groups })
        }
        _ => None,
    }
}

fn enlarged(kind: Kind, times: usize) -> Option<Kind> {
    match kind {
        Kind::Conv { y, x, enlarged: Times::ONE, block, cropped, groups } => {
            Some(Kind::Conv { y, x, enlarged: Times::new(times)?, block, cropped, groups })
        }
        _ => None,
    }
}

/// A layer whose outputs are moved from `before` to `made`.
fn shuffled(kind: Kind, moved: &Move, before: Shape, made: Shape) -> Option<Kind> {
    let Kind::Conv { y, x, enlarged, block, cropped, groups } = kind else { return None };
    match moved {
        Move::Shuffle(by)
            if block == Times::ONE && cropped == 0 && made.channels().is_multiple_of(groups) =>
        {
            Some(Kind::Conv { y, x, enlarged, block: Times::new(*by)?, cropped, groups })
        }
        Move::Crop(top, left) if top == left && before.channels() == made.channels() => {
            let cropped = cropped.checked_add(u16::try_from(*top).ok()?)?;
            Some(Kind::Conv { y, x, enlarged, block, cropped, groups })
        }
        _ => None,
    }
}

/// A layer whose outputs, or groups of them, are scaled and shifted.
fn scaled(linear: &Linear, scale: &[f32], shift: &[f32]) -> Option<Linear> {
    let outputs = linear.bias.len();
    if scale.is_empty() || !outputs.is_multiple_of(scale.len()) {
        return None;
    }
    let of = |output: usize| output / (outputs / scale.len());
    let weights = linear.weights.iter().enumerate();
    let weights = weights.map(|(index, weight)| weight * scale[of(linear.output_of(index))]).collect();
    let bias = linear.bias.iter().enumerate();
    let bias = bias.map(|(output, bias)| bias * scale[of(output)] + shift[of(output)]).collect();
    let only_shifted = scale.iter().all(|scale| *scale == 1.0);
    let levels = linear.levels.clone().filter(|_| only_shifted);
    Some(Linear { weights, bias, levels, ..linear.clone() })
}

/// The layer in integers, between levels.
fn quantized(linear: &Linear, from: Encoding, to: Encoding) -> Option<Quantized> {
    let (weights, w_scales) = linear.levels.clone()?;
    let [slope] = linear.slopes[..] else { return None };
    if !(0.0..=1.0).contains(&slope) || linear.after != Function::Identity {
        return None;
    }
    // rounding keeps the order of values
    let bound = |value: f32| level(value, to.scale, to.zero);
    let (low, high) = linear.clip.map_or((0, 255), |(low, high)| (bound(low), bound(high)));
    let step = |output: usize| from.scale * if w_scales.len() == 1 { w_scales[0] } else { w_scales[output] };
    let bias = linear.bias.iter().enumerate().map(|(output, bias)| {
        let steps = (f64::from(*bias) / f64::from(step(output))).round_ties_even();
        (steps.abs() < f64::from(i32::MAX)).then_some(steps as i32)
    });
    let bias = bias.collect::<Option<Vec<i32>>>()?;
    Some(Quantized {
        kind: linear.kind,
        weights,
        bias,
        scales: requantised(from, &w_scales, to)?,
        x_zero: from.zero,
        y_zero: to.zero,
        low,
        high,
        slope,
    })
}
