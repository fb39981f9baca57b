//! Constants that are made of constants: computed once, while a graph is read. ONNX's own operators alone, as its
//! specification has them: <https://onnx.ai/onnx/operators/>.

use edgegen_kernels::{half_from_float, half_to_float};

use crate::limits;
use crate::onnx::attributes::Type::{Float, Int, Ints, Tensor, Text};
use crate::onnx::attributes::{Attributes, Known};
use crate::onnx::tensor::{Constant, Numbers, axis_of, is_floats};
use crate::onnx::{DataType, NodeProto};

use super::Reason;

/// The inputs of a node, all constants; `None` for one that is left out.
type Given<'a> = [Option<&'a Constant>];

/// What is made, or why it cannot be; `None`: these types are not computed here.
type Made = Result<Option<Constant>, Reason>;

/// An operator that is computed here, the attributes that it knows, and what it does.
struct Rule {
    name: &'static str,
    attributes: Known,
    make: fn(&NodeProto, &Given) -> Made,
}

const RULES: &[Rule] = &[
    Rule {
        name: "Constant",
        attributes: &[
            ("value", Tensor),
            ("value_int", Int),
            ("value_ints", Ints),
            ("value_float", Float),
            ("value_floats", super::Type::Floats),
        ],
        make: constant,
    },
    Rule { name: "ConstantOfShape", attributes: &[("value", Tensor)], make: constant_of_shape },
    Rule {
        name: "Identity",
        attributes: &[],
        make: |_, given| Ok(given.first().copied().flatten().cloned()),
    },
    Rule { name: "Cast", attributes: &[("to", Int), ("saturate", Int), ("round_mode", Text)], make: cast },
    Rule {
        name: "DequantizeLinear",
        attributes: &[("axis", Int), ("block_size", Int), ("output_dtype", Int)],
        make: dequantize,
    },
    Rule { name: "Gather", attributes: &[("axis", Int)], make: gather },
    Rule { name: "Reshape", attributes: &[("allowzero", Int)], make: reshape },
    Rule { name: "Squeeze", attributes: &[("axes", Ints)], make: squeeze },
    Rule { name: "Unsqueeze", attributes: &[("axes", Ints)], make: unsqueeze },
    Rule { name: "Concat", attributes: &[("axis", Int)], make: concat },
    Rule { name: "Slice", attributes: &[], make: slice },
    Rule { name: "Transpose", attributes: &[("perm", Ints)], make: transpose },
    Rule { name: "Expand", attributes: &[], make: expand },
    Rule { name: "Add", attributes: &[], make: arithmetic },
    Rule { name: "Sub", attributes: &[], make: arithmetic },
    Rule { name: "Mul", attributes: &[], make: arithmetic },
    Rule { name: "Div", attributes: &[], make: arithmetic },
    Rule { name: "Mod", attributes: &[("fmod", Int)], make: arithmetic },
    Rule { name: "Equal", attributes: &[], make: equal },
    Rule { name: "Where", attributes: &[], make: choose },
    Rule { name: "Range", attributes: &[], make: range },
    Rule {
        name: "ReduceProd",
        attributes: &[("axes", Ints), ("keepdims", Int), ("noop_with_empty_axes", Int)],
        make: product,
    },
];

/// What a node makes of constants; `None` if it is not computed here. `given` tells the constant of a name.
///
/// # Errors
/// If it is one of these operators, on constants, and what it asks for cannot be.
pub(crate) fn fold<'a>(node: &NodeProto, given: impl Fn(&str) -> Option<&'a Constant>) -> Made {
    let Some(rule) = RULES.iter().find(|rule| node.is_onnx() && rule.name == node.op_type) else {
        return Ok(None);
    };
    let mut inputs = Vec::with_capacity(node.input.len());
    for name in &node.input {
        match (name.as_str(), given(name)) {
            ("", _) => inputs.push(None),
            (_, None) => return Ok(None),
            (_, constant) => inputs.push(constant),
        }
    }
    Attributes(node).check(rule.attributes)?;
    (rule.make)(node, &inputs)
}

/// An input that has to be there.
fn needed<'a>(given: &Given<'a>, index: usize) -> Result<&'a Constant, Reason> {
    given.get(index).copied().flatten().ok_or_else(|| format!("input {index} is missing"))
}

/// Integers of an input, for shapes, axes and indices.
fn integers<'a>(given: &Given<'a>, index: usize) -> Result<&'a [i64], Reason> {
    needed(given, index)?.integers().ok_or_else(|| format!("input {index} is not of integers"))
}

/// How many values a shape has.
fn count(dims: &[usize]) -> Result<usize, Reason> {
    let count = dims.iter().try_fold(1usize, |product, size| product.checked_mul(*size));
    count
        .filter(|count| *count <= limits::MAX_TENSOR_VALUES)
        .ok_or_else(|| format!("a constant of shape {dims:?}, too many values"))
}

fn size(value: i64) -> Result<usize, Reason> {
    usize::try_from(value).map_err(|_| format!("a size of {value}"))
}

/// For each place of a shape, in order, where its value comes from.
pub(super) fn places(dims: &[usize], from: impl Fn(&[usize]) -> usize) -> Result<Vec<usize>, Reason> {
    let total = count(dims)?;
    let mut at = vec![0; dims.len()];
    let mut all = Vec::with_capacity(total);
    for _ in 0..total {
        all.push(from(&at));
        for axis in (0..dims.len()).rev() {
            at[axis] += 1;
            if at[axis] < dims[axis] {
                break;
            }
            at[axis] = 0;
        }
    }
    Ok(all)
}

/// Values that lie so many apart along each axis.
fn strides(dims: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; dims.len()];
    for axis in (0..dims.len().saturating_sub(1)).rev() {
        strides[axis] = strides[axis + 1] * dims[axis + 1];
    }
    strides
}

/// Values of a constant, put elsewhere.
fn picked(of: &Constant, dims: Vec<usize>, places: &[usize]) -> Constant {
    fn pick<T: Copy>(values: &[T], places: &[usize]) -> Vec<T> {
        places.iter().map(|place| values[*place]).collect()
    }
    let numbers = match &of.numbers {
        Numbers::Floats(values) => Numbers::Floats(pick(values, places)),
        Numbers::Integers(values) => Numbers::Integers(pick(values, places)),
        Numbers::Levels(values) => Numbers::Levels(pick(values, places).into()),
        Numbers::Quantized { .. } => Numbers::Floats(pick(&of.floats().unwrap_or_default(), places)),
    };
    Constant { dims, kind: of.kind, numbers }
}

/// The same values in another shape.
fn shaped(of: &Constant, dims: Vec<usize>) -> Result<Constant, Reason> {
    if count(&dims)? != of.numbers.len() {
        return Err(format!("a shape {dims:?} for {} values", of.numbers.len()));
    }
    let numbers = match &of.numbers {
        Numbers::Quantized { scales, .. } if scales.len() > 1 => {
            Numbers::Floats(of.floats().unwrap_or_default())
        }
        numbers => numbers.clone(),
    };
    Ok(Constant { dims, kind: of.kind, numbers })
}

fn constant(node: &NodeProto, _: &Given) -> Made {
    let attributes = Attributes(node);
    let [attribute] = node.attribute.as_slice() else { return Err("it has not one value".into()) };
    Ok(Some(match attribute.name.as_str() {
        "value" => {
            attribute.t.as_ref().and_then(Constant::of).ok_or(
                "a constant of a type that is not known here, or whose numbers do not fill its shape",
            )?
        }
        "value_int" => Constant::integers_of(vec![], vec![attributes.int("value_int", 0)]),
        "value_float" => Constant::floats_of(vec![], vec![attributes.float("value_float", 0.0)]),
        "value_ints" => Constant::integers_of(vec![attribute.ints.len()], attribute.ints.clone()),
        _ => Constant::floats_of(vec![attribute.floats.len()], attribute.floats.clone()),
    }))
}

fn constant_of_shape(node: &NodeProto, given: &Given) -> Made {
    let dims = integers(given, 0)?.iter().map(|value| size(*value)).collect::<Result<Vec<_>, _>>()?;
    let total = count(&dims)?;
    let value = match Attributes(node).find("value").and_then(|attribute| attribute.t.as_ref()) {
        None => Constant::floats_of(vec![1], vec![0.0]),
        Some(tensor) => Constant::of(tensor).ok_or("a value of a type that is not known here")?,
    };
    if value.numbers.len() != 1 {
        return Err("it has not one value".into());
    }
    Ok(Some(picked(&value, dims, &vec![0; total])))
}

/// The range of an integer type.
fn bounds(kind: DataType) -> Option<(i64, i64)> {
    Some(match kind {
        DataType::Int64 => (i64::MIN, i64::MAX),
        DataType::Int32 => (i32::MIN.into(), i32::MAX.into()),
        DataType::Int16 => (i16::MIN.into(), i16::MAX.into()),
        DataType::Uint16 => (0, u16::MAX.into()),
        DataType::Int8 => (i8::MIN.into(), i8::MAX.into()),
        DataType::Uint8 => (0, u8::MAX.into()),
        _ => return None,
    })
}

/// Integers of a type, if they fit it.
fn typed(dims: Vec<usize>, kind: DataType, values: Vec<i64>) -> Result<Constant, Reason> {
    let (low, high) = if kind == DataType::Bool { (0, 1) } else { bounds(kind).unwrap_or((0, 0)) };
    if let Some(value) = values.iter().find(|value| !(low..=high).contains(*value)) {
        return Err(format!("{value} is out of the range of its type"));
    }
    let numbers = match kind {
        DataType::Int8 | DataType::Uint8 => {
            Numbers::Levels(values.iter().map(|value| *value as u8).collect::<Vec<_>>().into())
        }
        _ => Numbers::Integers(values),
    };
    Ok(Constant { dims, kind, numbers })
}

fn cast(node: &NodeProto, given: &Given) -> Made {
    let from = needed(given, 0)?;
    let code = Attributes(node).int("to", 0);
    let to = i32::try_from(code).ok().and_then(|code| DataType::try_from(code).ok());
    let Some(to) = to else { return Err(format!("a cast to element type {code}")) };
    let floats = match &from.numbers {
        Numbers::Floats(_) | Numbers::Quantized { .. } => from.floats(),
        _ => None,
    };
    let dims = from.dims.clone();
    let whole = |values: Vec<i64>| -> Made {
        match to {
            DataType::Bool => {
                let values = values.iter().map(|value| i64::from(*value != 0)).collect();
                Ok(Some(typed(dims.clone(), to, values)?))
            }
            _ if bounds(to).is_some() => Ok(Some(typed(dims.clone(), to, values)?)),
            _ => Ok(None),
        }
    };
    match (floats, to) {
        (Some(_), DataType::Float | DataType::Double) => Ok(Some(from.clone())),
        (Some(values), DataType::Float16) => {
            let rounded = values.iter().map(|value| half_to_float(half_from_float(*value))).collect();
            Ok(Some(Constant::floats_of(dims, rounded)))
        }
        (Some(values), DataType::Bool) => {
            whole(values.iter().map(|value| i64::from(*value != 0.0)).collect())
        }
        (Some(values), _) => {
            // beyond the range of a type the result of a cast is not defined
            if let Some(value) = values.iter().find(|value| !(-9.2e18..=9.2e18).contains(*value)) {
                return Err(format!("a cast of {value} to integers"));
            }
            whole(values.iter().map(|value| *value as i64).collect())
        }
        (None, DataType::Float | DataType::Float16 | DataType::Double) => {
            let values = from.whole().unwrap_or_default();
            Ok(Some(Constant::floats_of(dims, values.into_iter().map(|value| value as f32).collect())))
        }
        (None, _) => whole(from.whole().unwrap_or_default()),
    }
}

/// Whether a DequantizeLinear makes floats, of the type that its scale has or of one that it names.
pub(super) fn makes_floats(node: &NodeProto) -> Result<(), Reason> {
    match Attributes(node).int("output_dtype", 0) {
        0 => Ok(()),
        code if is_floats(code) => Ok(()),
        code => Err(format!("its output_dtype is {code}, which is no type of floats")),
    }
}

fn dequantize(node: &NodeProto, given: &Given) -> Made {
    makes_floats(node)?;
    let attributes = Attributes(node);
    let (levels, scale) = (needed(given, 0)?, needed(given, 1)?);
    let zero = given.get(2).copied().flatten();
    super::check_scales(&scale.floats().ok_or("its scale is not float32")?)?;
    let (axis, block) = (attributes.int("axis", 1), attributes.int("block_size", 0));
    Ok(Some(Constant::dequantized(levels, scale, zero, axis, block)?))
}

fn gather(node: &NodeProto, given: &Given) -> Made {
    let (data, indices) = (needed(given, 0)?, needed(given, 1)?);
    let chosen = integers(given, 1)?;
    let axis = axis_of(Attributes(node).int("axis", 0), data.dims.len()).ok_or("an axis out of bounds")?;
    let along = data.dims[axis];
    let chosen = chosen
        .iter()
        .map(|index| axis_of(*index, along).ok_or("an index out of bounds"))
        .collect::<Result<Vec<_>, _>>()?;
    let rank = indices.dims.len();
    let dims = [&data.dims[..axis], &indices.dims[..], &data.dims[axis + 1..]].concat();
    let (steps, of_indices) = (strides(&data.dims), strides(&indices.dims));
    let from = |at: &[usize]| {
        let index: usize = (0..rank).map(|place| at[axis + place] * of_indices[place]).sum();
        let before: usize = (0..axis).map(|place| at[place] * steps[place]).sum();
        let behind: usize =
            (axis + 1..data.dims.len()).map(|place| at[place + rank - 1] * steps[place]).sum();
        before + chosen[index] * steps[axis] + behind
    };
    // without values there is no place to come from
    let places = if count(&dims)? == 0 { Vec::new() } else { places(&dims, from)? };
    Ok(Some(picked(data, dims, &places)))
}

fn reshape(node: &NodeProto, given: &Given) -> Made {
    let (data, target) = (needed(given, 0)?, integers(given, 1)?);
    let keeps = Attributes(node).int("allowzero", 0) == 0;
    Ok(Some(shaped(data, reshaped(&data.dims, data.numbers.len(), target, keeps)?)?))
}

/// The shape that a Reshape to `target` makes; `keeps`: 0 stands for the size that was there.
pub(super) fn reshaped(
    dims: &[usize],
    values: usize,
    target: &[i64],
    keeps: bool,
) -> Result<Vec<usize>, Reason> {
    let wrong = || format!("a shape {target:?} for {values} values");
    let mut known = 1usize;
    let mut open = None;
    let mut made = Vec::with_capacity(target.len());
    for (axis, size) in target.iter().enumerate() {
        let size = match size {
            -1 if open.is_none() => {
                open = Some(axis);
                made.push(1);
                continue;
            }
            0 if keeps => *dims.get(axis).ok_or_else(wrong)?,
            size => usize::try_from(*size).map_err(|_| wrong())?,
        };
        known = known.checked_mul(size).ok_or_else(wrong)?;
        made.push(size);
    }
    if let Some(axis) = open {
        if known == 0 || !values.is_multiple_of(known) {
            return Err(wrong());
        }
        made[axis] = values / known;
    } else if known != values {
        return Err(wrong());
    }
    Ok(made)
}

/// Axes from an attribute, or from the second input since opset 13; `None` if neither names any.
fn axes(node: &NodeProto, given: &Given) -> Result<Option<Vec<i64>>, Reason> {
    let attribute = Attributes(node).find("axes").map(|attribute| attribute.ints.clone());
    match given.get(1).copied().flatten() {
        Some(_) if attribute.is_some() => Err("axes both as an attribute and as an input".into()),
        Some(_) => Ok(Some(integers(given, 1)?.to_vec())),
        None => Ok(attribute),
    }
}

/// Axes of a shape, each once.
pub(super) fn distinct(axes: &[i64], rank: usize) -> Result<Vec<usize>, Reason> {
    let mut found = Vec::with_capacity(axes.len());
    for axis in axes {
        let place = axis_of(*axis, rank).ok_or_else(|| format!("there is no axis {axis}"))?;
        if found.contains(&place) {
            return Err(format!("axis {axis} is there twice"));
        }
        found.push(place);
    }
    Ok(found)
}

/// A shape without axes of size 1: these, or all.
pub(super) fn squeezed(dims: &[usize], axes: Option<&[i64]>) -> Result<Vec<usize>, Reason> {
    let gone = match axes {
        Some(axes) => distinct(axes, dims.len())?,
        None => (0..dims.len()).filter(|axis| dims[*axis] == 1).collect(),
    };
    if let Some(axis) = gone.iter().find(|axis| dims[**axis] != 1) {
        return Err(format!("a Squeeze of axis {axis}, which has size {}", dims[*axis]));
    }
    Ok((0..dims.len()).filter(|axis| !gone.contains(axis)).map(|axis| dims[axis]).collect())
}

/// A shape with axes of size 1 between.
pub(super) fn unsqueezed(dims: &[usize], axes: &[i64]) -> Result<Vec<usize>, Reason> {
    let rank = dims.len() + axes.len();
    let new = distinct(axes, rank)?;
    let mut rest = dims.iter();
    let size = |axis: usize| if new.contains(&axis) { Some(1) } else { rest.next().copied() };
    Ok((0..rank).filter_map(size).collect())
}

fn squeeze(node: &NodeProto, given: &Given) -> Made {
    let data = needed(given, 0)?;
    let axes = axes(node, given)?;
    Ok(Some(shaped(data, squeezed(&data.dims, axes.as_deref())?)?))
}

fn unsqueeze(node: &NodeProto, given: &Given) -> Made {
    let data = needed(given, 0)?;
    let axes = axes(node, given)?.ok_or("it names no axes")?;
    Ok(Some(shaped(data, unsqueezed(&data.dims, &axes)?)?))
}

fn concat(node: &NodeProto, given: &Given) -> Made {
    let parts = (0..given.len()).map(|index| needed(given, index)).collect::<Result<Vec<_>, _>>()?;
    let first = *parts.first().ok_or("a Concat of nothing")?;
    let axis = Attributes(node).find("axis").ok_or("it names no axis")?.i;
    let axis = axis_of(axis, first.dims.len()).ok_or("an axis out of bounds")?;
    let fits = |part: &&Constant| {
        part.kind == first.kind
            && part.dims.len() == first.dims.len()
            && (0..first.dims.len()).all(|at| at == axis || part.dims[at] == first.dims[at])
    };
    if !parts.iter().all(fits) {
        return Err("a Concat of constants of different sizes or types".into());
    }
    let mut dims = first.dims.clone();
    dims[axis] = parts.iter().map(|part| part.dims[axis]).sum();
    let inner: usize = dims[axis + 1..].iter().product();
    let outer: usize = dims[..axis].iter().product();
    count(&dims)?;
    macro_rules! joined {
        ($values:expr) => {{
            let values = parts.iter().map($values).collect::<Option<Vec<_>>>();
            let Some(values) = values else { return Ok(None) };
            let mut all = Vec::new();
            for at in 0..outer {
                for (part, values) in parts.iter().zip(&values) {
                    let row = part.dims[axis] * inner;
                    all.extend_from_slice(&values[at * row..][..row]);
                }
            }
            all
        }};
    }
    let numbers = match &first.numbers {
        Numbers::Integers(_) => Numbers::Integers(joined!(|part: &&Constant| part.integers())),
        Numbers::Levels(_) => Numbers::Levels(
            joined!(|part: &&Constant| match &part.numbers {
                Numbers::Levels(bits) => Some(bits.clone()),
                _ => None,
            })
            .into(),
        ),
        _ => Numbers::Floats(joined!(|part: &&Constant| part.floats())),
    };
    Ok(Some(Constant { dims, kind: first.kind, numbers }))
}

/// What a Slice takes of each axis.
pub(super) struct Cut {
    pub(super) dims: Vec<usize>,
    first: Vec<i64>,
    step: Vec<i64>,
}

impl Cut {
    /// Of a shape, by axes of it, each with its bounds and step.
    pub(super) fn of(
        shape: &[usize],
        axes: &[usize],
        starts: &[i64],
        ends: &[i64],
        steps: &[i64],
    ) -> Result<Self, Reason> {
        if [ends.len(), axes.len(), steps.len()] != [starts.len(); 3] {
            return Err("a Slice whose bounds, axes and steps are not equally many".into());
        }
        let rank = shape.len();
        let mut cut = Self { dims: shape.to_vec(), first: vec![0; rank], step: vec![1; rank] };
        for (index, &axis) in axes.iter().enumerate() {
            let size = shape[axis] as i64;
            let by = steps[index];
            let from_end = |at: i64| if at < 0 { at.saturating_add(size) } else { at };
            let (start, end) = (from_end(starts[index]), from_end(ends[index]));
            let (start, end) = match by {
                0 => return Err("a Slice with a step of 0".into()),
                1.. => (start.clamp(0, size), end.clamp(0, size)),
                // an axis without values has no last one
                _ => (start.max(0).min(size - 1), end.max(-1).min(size - 1)),
            };
            let span = if by > 0 { end - start } else { start - end };
            let count = if span > 0 { span.unsigned_abs().div_ceil(by.unsigned_abs()) } else { 0 };
            cut.dims[axis] = count as usize;
            (cut.first[axis], cut.step[axis]) = (start, by);
        }
        Ok(cut)
    }

    /// The place along an axis that one of the result comes from.
    pub(super) fn place(&self, axis: usize, at: usize) -> usize {
        (self.first[axis] + at as i64 * self.step[axis]) as usize
    }

    /// Whether all that lies between the first and the last is taken, in order.
    pub(super) fn is_window(&self) -> bool {
        self.step.iter().all(|step| *step == 1)
    }
}

fn slice(_: &NodeProto, given: &Given) -> Made {
    let data = needed(given, 0)?;
    let (starts, ends) = (integers(given, 1)?, integers(given, 2)?);
    let all: Vec<i64> = (0..starts.len() as i64).collect();
    let axes = if given.get(3).copied().flatten().is_some() { integers(given, 3)? } else { &all };
    let ones = vec![1; starts.len()];
    let steps = if given.get(4).copied().flatten().is_some() { integers(given, 4)? } else { &ones };
    let cut = Cut::of(&data.dims, &distinct(axes, data.dims.len())?, starts, ends, steps)?;
    let apart = strides(&data.dims);
    let from = |at: &[usize]| (0..at.len()).map(|axis| cut.place(axis, at[axis]) * apart[axis]).sum();
    let places = places(&cut.dims, from)?;
    Ok(Some(picked(data, cut.dims.clone(), &places)))
}

fn transpose(node: &NodeProto, given: &Given) -> Made {
    let data = needed(given, 0)?;
    let rank = data.dims.len();
    let order = match Attributes(node).find("perm") {
        None => (0..rank).rev().collect(),
        Some(attribute) => distinct(&attribute.ints, rank)?,
    };
    if order.len() != rank {
        return Err("a Transpose of another number of axes than there are".into());
    }
    let dims: Vec<usize> = order.iter().map(|axis| data.dims[*axis]).collect();
    let apart = strides(&data.dims);
    let places = places(&dims, |at| at.iter().zip(&order).map(|(at, axis)| at * apart[*axis]).sum())?;
    if let Numbers::Quantized { levels, scales, zeros, axis } = &data.numbers {
        let levels = places.iter().map(|place| levels[*place]).collect();
        let axis = order.iter().position(|from| from == axis).unwrap_or(0);
        let numbers = Numbers::Quantized { levels, scales: scales.clone(), zeros: zeros.clone(), axis };
        return Ok(Some(Constant { dims, kind: data.kind, numbers }));
    }
    Ok(Some(picked(data, dims, &places)))
}

/// The shape of two that are spread over each other, as ONNX (and numpy) does it.
pub(super) fn spread(one: &[usize], other: &[usize]) -> Result<Vec<usize>, Reason> {
    let rank = one.len().max(other.len());
    let at = |dims: &[usize], axis: usize| match (axis + dims.len()).checked_sub(rank) {
        Some(place) => dims[place],
        None => 1,
    };
    (0..rank)
        .map(|axis| match (at(one, axis), at(other, axis)) {
            (a, b) if a == b || b == 1 => Ok(a),
            (1, b) => Ok(b),
            _ => Err(format!("shapes {one:?} and {other:?} do not fit each other")),
        })
        .collect()
}

/// Where each value of a shape comes from in a constant that is spread over it.
pub(super) fn spread_places(from: &[usize], dims: &[usize]) -> Result<Vec<usize>, Reason> {
    let apart = strides(from);
    let skipped = dims.len() - from.len();
    places(dims, |at| {
        (0..from.len()).map(|axis| if from[axis] == 1 { 0 } else { at[skipped + axis] * apart[axis] }).sum()
    })
}

fn expand(_: &NodeProto, given: &Given) -> Made {
    let data = needed(given, 0)?;
    let target = integers(given, 1)?.iter().map(|value| size(*value)).collect::<Result<Vec<_>, _>>()?;
    let dims = spread(&data.dims, &target)?;
    let places = spread_places(&data.dims, &dims)?;
    Ok(Some(picked(data, dims, &places)))
}

/// Two constants of one type, spread over each other.
fn both(given: &Given, first: usize) -> Result<(Constant, Constant), Reason> {
    let (one, other) = (needed(given, first)?, needed(given, first + 1)?);
    if one.kind != other.kind {
        return Err("constants of different types".into());
    }
    let dims = spread(&one.dims, &other.dims)?;
    let over = |of: &Constant| Ok::<_, Reason>(picked(of, dims.clone(), &spread_places(&of.dims, &dims)?));
    Ok((over(one)?, over(other)?))
}

fn arithmetic(node: &NodeProto, given: &Given) -> Made {
    let (one, other) = both(given, 0)?;
    let kind = node.op_type.as_str();
    match (&one.numbers, &other.numbers) {
        (Numbers::Integers(left), Numbers::Integers(right)) if one.kind != DataType::Bool => {
            let value = |(left, right): (&i64, &i64)| match kind {
                "Mul" => left.checked_mul(*right),
                "Add" => left.checked_add(*right),
                "Sub" => left.checked_sub(*right),
                "Div" => left.checked_div(*right),
                // the sign of the divisor, or with fmod, as C has it, of the dividend
                _ if Attributes(node).int("fmod", 0) != 0 => left.checked_rem(*right),
                _ => left
                    .checked_rem(*right)
                    .map(|rest| if rest != 0 && (rest < 0) != (*right < 0) { rest + right } else { rest }),
            };
            let values: Option<Vec<i64>> = left.iter().zip(right).map(value).collect();
            Ok(Some(typed(one.dims, one.kind, values.ok_or("arithmetic of integers that has no result")?)?))
        }
        (Numbers::Floats(left), Numbers::Floats(right)) if one.kind == DataType::Float && kind != "Mod" => {
            let value = |(left, right): (&f32, &f32)| match kind {
                "Mul" => left * right,
                "Add" => left + right,
                "Sub" => left - right,
                _ => left / right,
            };
            Ok(Some(Constant::floats_of(one.dims, left.iter().zip(right).map(value).collect())))
        }
        _ => Ok(None),
    }
}

fn equal(_: &NodeProto, given: &Given) -> Made {
    let (one, other) = both(given, 0)?;
    match (&one.numbers, &other.numbers) {
        (Numbers::Integers(left), Numbers::Integers(right)) => {
            let values = left.iter().zip(right).map(|(left, right)| i64::from(left == right)).collect();
            Ok(Some(typed(one.dims, DataType::Bool, values)?))
        }
        _ => Ok(None),
    }
}

fn choose(_: &NodeProto, given: &Given) -> Made {
    let condition = needed(given, 0)?;
    if condition.kind != DataType::Bool {
        return Err("a Where whose condition is no truth value".into());
    }
    let (one, other) = both(given, 1)?;
    let dims = spread(&condition.dims, &one.dims)?;
    let truth = picked(condition, dims.clone(), &spread_places(&condition.dims, &dims)?);
    let places = spread_places(&one.dims, &dims)?;
    let (one, other) = (picked(&one, dims.clone(), &places), picked(&other, dims.clone(), &places));
    let truth = truth.integers().unwrap_or_default();
    match (&one.numbers, &other.numbers) {
        (Numbers::Integers(left), Numbers::Integers(right)) => {
            let value = |index: usize| if truth[index] != 0 { left[index] } else { right[index] };
            let numbers = Numbers::Integers((0..left.len()).map(value).collect());
            Ok(Some(Constant { dims, kind: one.kind, numbers }))
        }
        _ => Ok(None),
    }
}

fn range(_: &NodeProto, given: &Given) -> Made {
    let single = |index: usize| -> Result<Option<i64>, Reason> {
        Ok(match needed(given, index)?.integers() {
            Some([value]) => Some(*value),
            _ => None,
        })
    };
    let (Some(start), Some(limit), Some(delta)) = (single(0)?, single(1)?, single(2)?) else {
        return Ok(None);
    };
    let span = limit.checked_sub(start).ok_or("a Range that is too long")?;
    if delta == 0 {
        return Err("a Range with a step of 0".into());
    }
    let steps =
        if (span > 0) == (delta > 0) { span.unsigned_abs().div_ceil(delta.unsigned_abs()) } else { 0 };
    let total = count(&[usize::try_from(steps).unwrap_or(usize::MAX)])?;
    let values = (0..total as i64).map(|index| start + index * delta).collect();
    Ok(Some(typed(vec![total], needed(given, 0)?.kind, values)?))
}

fn product(node: &NodeProto, given: &Given) -> Made {
    let data = needed(given, 0)?;
    let Some(values) = data.integers() else { return Ok(None) };
    let attributes = Attributes(node);
    let axes = axes(node, given)?.unwrap_or_default();
    if axes.is_empty() && attributes.int("noop_with_empty_axes", 0) != 0 {
        return Ok(Some(data.clone()));
    }
    // shapes are vectors: of other constants nothing is needed
    if data.dims.len() > 1 || distinct(&axes, data.dims.len())?.len() > 1 {
        return Ok(None);
    }
    let product = values.iter().try_fold(1i64, |product, value| product.checked_mul(*value));
    let dims = if attributes.int("keepdims", 1) != 0 { vec![1; data.dims.len()] } else { vec![] };
    Ok(Some(typed(dims, data.kind, vec![product.ok_or("a product that has no result")?])?))
}
