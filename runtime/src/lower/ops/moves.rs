//! What puts values elsewhere, or joins them.

use crate::lower::Reason;
use crate::lower::fold::{Cut, distinct, places, reshaped, spread, squeezed, unsqueezed};
use crate::lower::graph::{Id, Move, Number, Op, Shape};
use crate::lower::reader::{Known, Made, Reader};
use crate::onnx::NodeProto;
use crate::onnx::attributes::{Attributes, Type};
use crate::onnx::tensor::{Numbers, axis_of};

/// Largest block of a DepthToSpace.
const MOST_TIMES: usize = 64;

impl<'a> Reader<'a> {
    pub(super) fn moved(&mut self, from: Id, moved: Move, shape: Shape) -> Id {
        match self.graph.values[from].number {
            Number::Float => self.push(Op::Move(moved), vec![from], shape, Number::Float),
            Number::Level => {
                let kind = self.level_type(from);
                self.push_levels(Op::Move(moved), vec![from], shape, kind)
            }
        }
    }

    /// A move to `shape`, by the place in CHW order that each pixel comes from.
    pub(super) fn gather(
        &mut self,
        shape: Shape,
        from: impl Fn(usize, usize, usize) -> usize,
    ) -> Result<Move, Reason> {
        let (channels, height, width) = shape.image();
        self.budget.take_product(&[channels, height, width, size_of::<u32>()])?;
        let mut places = Vec::with_capacity(shape.values());
        for channel in 0..channels {
            for y in 0..height {
                places.extend((0..width).map(|x| from(channel, y, x) as u32));
            }
        }
        Ok(Move::Gather(places))
    }

    /// Each value of `made` from the place of `shape` that `place` tells for each axis, where both have as many axes.
    fn gathered(
        &mut self,
        shape: Shape,
        made: Shape,
        place: impl Fn(usize, usize) -> usize,
    ) -> Result<Move, Reason> {
        self.budget.take_product(&[made.values(), size_of::<u32>()])?;
        let (dims, made) = (shape.dims(), made.dims());
        let places = places(&made, |at| {
            dims.iter().enumerate().fold(0, |sum, (axis, size)| sum * size + place(axis, at[axis]))
        })?;
        Ok(Move::Gather(places.into_iter().map(|place| place as u32).collect()))
    }

    /// A part of a value: `place` tells the place of each output along each axis of its shape.
    fn window(
        &mut self,
        from: Id,
        shape: Shape,
        made: Shape,
        place: impl Fn(usize, usize) -> usize,
    ) -> Result<Id, Reason> {
        let (_, height, width) = shape.image();
        let moved = match shape {
            Shape::Vector(_) => self.gather(made, |c, _, _| place(c, 0))?,
            Shape::Matrix(..) => self.gather(made, |c, _, x| place(c, 0) * width + place(x, 1))?,
            Shape::Image(..) => {
                self.gather(made, |c, y, x| (place(c, 0) * height + place(y, 1)) * width + place(x, 2))?
            }
            Shape::Tensor(_) => self.gathered(shape, made, |axis, at| place(at, axis))?,
        };
        Ok(self.moved(from, moved, made))
    }

    pub(super) fn list(&self, node: &'a NodeProto, index: usize) -> Result<Vec<i64>, Reason> {
        let list = self.given(node, index)?.integers();
        Ok(list.ok_or_else(|| format!("input {:?} is not of integers", node.input[index]))?.to_vec())
    }
}

/// Reshape, Flatten, Squeeze, Unsqueeze.
pub(super) fn reshape<'a>(reader: &mut Reader<'a>, node: &'a NodeProto) -> Result<Made, Reason> {
    let (from, shape) = reader.value(node, 0)?;
    let dims: Vec<usize> = std::iter::once(1).chain(shape.dims()).collect();
    let attributes = Attributes(node);
    let axes = || -> Result<Option<Vec<i64>>, Reason> {
        match reader.named(node, 1) {
            Some(_) => Ok(Some(reader.list(node, 1)?)),
            None => Ok(attributes.find("axes").map(|attribute| attribute.ints.clone())),
        }
    };
    let target = match node.op_type.as_str() {
        "Flatten" => match axis_of(attributes.int("axis", 1), dims.len()) {
            Some(1) => vec![1, shape.values()],
            _ => return Err("a Flatten that mixes pictures of a batch has no kernel here".into()),
        },
        // without axes a batch of one would go too
        "Squeeze" => match axes()? {
            Some(axes) => squeezed(&dims, Some(&axes))?,
            None => return Err("a Squeeze without axes has no kernel here".into()),
        },
        "Unsqueeze" => unsqueezed(&dims, &axes()?.ok_or("it names no axes")?)?,
        _ => {
            let target = reader.list(node, 1)?;
            reshaped(&dims, shape.values(), &target, attributes.int("allowzero", 0) == 0)?
        }
    };
    // the first axis stays the batch
    match target.split_first() {
        Some((1, rest)) => {
            let made = Shape::of(rest)
                .ok_or_else(|| format!("a shape {target:?} that is no vector and no picture"))?;
            Ok((reader.moved(from, Move::Reshape, made), made))
        }
        _ => Err(format!("a shape {target:?} that mixes pictures of a batch")),
    }
}

pub(super) fn depth_to_space<'a>(reader: &mut Reader<'a>, node: &'a NodeProto) -> Result<Made, Reason> {
    let (from, shape) = reader.value(node, 0)?;
    let attributes = Attributes(node);
    let Shape::Image(channels, height, width) = shape else {
        return Err("a DepthToSpace of something that is no picture".into());
    };
    let block = usize::try_from(attributes.int("blocksize", 0)).ok();
    let block = block
        .filter(|block| (1..=MOST_TIMES).contains(block) && channels.is_multiple_of(block * block))
        .ok_or("a block size that its channels are no multiple of")?;
    let made = Shape::Image(channels / (block * block), height * block, width * block);
    let moved = match attributes.text("mode", "DCR") {
        "CRD" => Move::Shuffle(block),
        "DCR" => {
            let (outputs, _, _) = made.image();
            reader.gather(made, |channel, y, x| {
                let of = ((y % block) * block + x % block) * outputs + channel;
                (of * height + y / block) * width + x / block
            })?
        }
        other => return Err(format!("mode {other:?}, which is not known here")),
    };
    Ok((reader.moved(from, moved, made), made))
}

pub(super) fn space_to_depth<'a>(reader: &mut Reader<'a>, node: &'a NodeProto) -> Result<Made, Reason> {
    let (from, shape) = reader.value(node, 0)?;
    let Shape::Image(channels, height, width) = shape else {
        return Err("a SpaceToDepth of something that is no picture".into());
    };
    let block = usize::try_from(Attributes(node).int("blocksize", 0)).ok();
    let block = block
        .filter(|block| {
            (1..=MOST_TIMES).contains(block) && height.is_multiple_of(*block) && width.is_multiple_of(*block)
        })
        .ok_or("a block size that its sides are no multiple of")?;
    let made = Shape::Image(channels * block * block, height / block, width / block);
    let moved = reader.gather(made, |channel, y, x| {
        let (part, of) = (channel / channels, channel % channels);
        (of * height + y * block + part / block) * width + x * block + part % block
    })?;
    Ok((reader.moved(from, moved, made), made))
}

pub(super) fn slice<'a>(reader: &mut Reader<'a>, node: &'a NodeProto) -> Result<Made, Reason> {
    let (from, shape) = reader.value(node, 0)?;
    let (starts, ends) = (reader.list(node, 1)?, reader.list(node, 2)?);
    let axes = match reader.named(node, 3) {
        Some(_) => reader.list(node, 3)?,
        None => (0..starts.len() as i64).collect(),
    };
    let steps = match reader.named(node, 4) {
        Some(_) => reader.list(node, 4)?,
        None => vec![1; starts.len()],
    };
    let dims = shape.dims();
    let axes = distinct(&axes, dims.len() + 1)?;
    if axes.contains(&0) {
        return Err("a Slice of the batch has no kernel here".into());
    }
    let axes: Vec<usize> = axes.into_iter().map(|axis| axis - 1).collect();
    let cut = Cut::of(&dims, &axes, &starts, &ends, &steps)?;
    if cut.dims.contains(&0) {
        return Err("a Slice that leaves nothing".into());
    }
    let made = Shape::of(&cut.dims).ok_or("a Slice of another rank")?;
    match dims[..] {
        [channels, ..] if dims.len() == 3 && cut.is_window() && cut.dims[0] == channels => {
            let moved = Move::Crop(cut.place(1, 0), cut.place(2, 0));
            Ok((reader.moved(from, moved, made), made))
        }
        _ => Ok((reader.window(from, shape, made, |at, axis| cut.place(axis, at))?, made)),
    }
}

/// Tile and Expand: values again and again.
pub(super) fn repeat<'a>(reader: &mut Reader<'a>, node: &'a NodeProto) -> Result<Made, Reason> {
    let (from, shape) = reader.value(node, 0)?;
    let dims: Vec<usize> = std::iter::once(1).chain(shape.dims()).collect();
    let sizes: Vec<usize> =
        reader.list(node, 1)?.iter().map(|size| usize::try_from(*size).unwrap_or(0)).collect();
    let made = match node.op_type.as_str() {
        "Tile" if sizes.len() == dims.len() => {
            let product = |(size, times): (&usize, &usize)| size.checked_mul(*times);
            dims.iter().zip(&sizes).map(product).collect::<Option<Vec<usize>>>().unwrap_or_default()
        }
        "Tile" => return Err(format!("{} repeats for {} axes", sizes.len(), dims.len())),
        _ => spread(&dims, &sizes)?,
    };
    let made = match made.split_first() {
        Some((1, rest)) if rest.len() == dims.len() - 1 => Shape::of(rest).filter(|made| made.is_sound()),
        _ => None,
    };
    let made = made.ok_or("it repeats pictures of a batch, or makes a shape that has no kernel here")?;
    let own = shape.dims();
    let moved = reader.gathered(shape, made, |axis, at| at % own[axis])?;
    Ok((reader.moved(from, moved, made), made))
}

pub(super) fn transpose<'a>(reader: &mut Reader<'a>, node: &'a NodeProto) -> Result<Made, Reason> {
    let (from, shape) = reader.value(node, 0)?;
    let dims = shape.dims();
    let [0, axes @ ..] = Attributes(node).ints("perm") else {
        return Err("a Transpose that moves the batch has no kernel here".into());
    };
    let order = distinct(axes, dims.len() + 1)?;
    if order.len() != dims.len() || order.contains(&0) {
        return Err("a Transpose of axes that there are not".into());
    }
    let order: Vec<usize> = order.into_iter().map(|axis| axis - 1).collect();
    let moved = match (&dims[..], &order[..]) {
        (_, [0] | [0, 1] | [0, 1, 2]) => return Ok((from, shape)),
        ([rows, columns], _) => (Move::Turn, Shape::Matrix(*columns, *rows)),
        ([_, height, width], &[a, b, c]) => {
            let made = Shape::Image(dims[a], dims[b], dims[c]);
            let place = |i, j, k| {
                let mut at = [0; 3];
                [at[a], at[b], at[c]] = [i, j, k];
                (at[0] * height + at[1]) * width + at[2]
            };
            (reader.gather(made, place)?, made)
        }
        _ => {
            let made: Vec<usize> = order.iter().map(|axis| dims[*axis]).collect();
            let made = Shape::of(&made).ok_or("a Transpose of another rank has no kernel here")?;
            // where each axis of the input has gone
            let gone = |axis: usize| order.iter().position(|from| *from == axis).unwrap_or(0);
            let gone: Vec<usize> = (0..dims.len()).map(gone).collect();
            reader.budget.take_product(&[made.values(), size_of::<u32>()])?;
            let places = places(&made.dims(), |at| {
                dims.iter().enumerate().fold(0, |sum, (axis, size)| sum * size + at[gone[axis]])
            })?;
            (Move::Gather(places.into_iter().map(|place| place as u32).collect()), made)
        }
    };
    Ok((reader.moved(from, moved.0, moved.1), moved.1))
}

/// The row of a table that belongs to the picture's class.
pub(super) fn class_row<'a>(reader: &mut Reader<'a>, node: &'a NodeProto) -> Result<Made, Reason> {
    let told = reader.named(node, 1).and_then(|name| reader.known.get(name));
    if !matches!(told, Some(Known::Class)) || Attributes(node).int("axis", 0) != 0 {
        return Err("a Gather by anything but the class has no kernel here".into());
    }
    let constant = reader.given(node, 0)?;
    let [classes, width] = constant.dims[..] else {
        return Err("a table of classes that is no matrix".into());
    };
    let made = Shape::Vector(width);
    if let Numbers::Levels(levels) = &constant.numbers {
        let flip = if constant.is_signed() { 0x80 } else { 0 };
        let (kind, table) = (constant.kind, levels.iter().map(|level| level ^ flip).collect());
        return Ok((reader.push_levels(Op::ClassLevels { classes, table }, vec![], made, kind), made));
    }
    let table = reader.floats(node, 0)?;
    Ok((reader.push(Op::ClassFloats { classes, table }, vec![], made, Number::Float), made))
}

pub(super) fn concat<'a>(reader: &mut Reader<'a>, node: &'a NodeProto) -> Result<Made, Reason> {
    let parts =
        (0..node.input.len()).map(|index| reader.value(node, index)).collect::<Result<Vec<_>, _>>()?;
    let axis = axis_of_parts(node, Some(1), &parts)?;
    joined(reader, parts, axis)
}

/// The axis of a picture's value along which parts are joined.
pub(super) fn axis_of_parts(node: &NodeProto, default: Option<i64>, parts: &[Made]) -> Result<usize, Reason> {
    let axis = Attributes(node).find("axis").map(|attribute| attribute.i).or(default);
    let rank = parts.first().map_or(0, |(_, shape)| shape.dims().len() + 1);
    match axis.and_then(|axis| axis_of(axis, rank)) {
        Some(0) => Err("a Concat of pictures has no kernel here".into()),
        Some(axis) => Ok(axis - 1),
        None => Err(format!("a Concat along an axis that {rank} axes do not have")),
    }
}

/// Parts, one behind the other along an axis of their shapes.
pub(super) fn joined(reader: &mut Reader<'_>, parts: Vec<Made>, axis: usize) -> Result<Made, Reason> {
    let Some((first, shape)) = parts.first().copied() else { return Err("a Concat of nothing".into()) };
    if !shape.is_plane() {
        return Err(format!("a Concat of values of {} axes has no kernel here", shape.dims().len() + 1));
    }
    let (number, kind) = (reader.graph.values[first].number, reader.level_type(first));
    let others = |shape: Shape| {
        let mut dims = shape.dims();
        dims.remove(axis);
        dims
    };
    let same = |(id, other): &Made| {
        reader.graph.values[*id].number == number
            && (number == Number::Float || reader.level_type(*id) == kind)
            && other.dims().len() == shape.dims().len()
            && others(*other) == others(shape)
    };
    if !parts.iter().all(same) {
        return Err("a Concat of values of different sizes or types".into());
    }
    let total = parts.iter().try_fold(0usize, |sum, (_, shape)| sum.checked_add(shape.dims()[axis]));
    let mut dims = shape.dims();
    dims[axis] = total.ok_or("a Concat of too much")?;
    let made = Shape::of(&dims).ok_or("a Concat of another rank")?;
    // a matrix's columns are the last axis of a plane
    let axis = if matches!(shape, Shape::Matrix(..)) { 2 * axis } else { axis };
    let ids = parts.iter().map(|(id, _)| *id).collect();
    Ok(match number {
        Number::Float => (reader.push(Op::Concat(axis), ids, made, Number::Float), made),
        Number::Level => (reader.push_levels(Op::Concat(axis), ids, made, kind), made),
    })
}

/// Parts of a value along an axis, for each output of a Split that is read.
pub(super) fn split<'a>(reader: &mut Reader<'a>, node: &'a NodeProto) -> Result<Vec<Made>, Reason> {
    let attributes = Attributes(node);
    attributes.check(&[("axis", Type::Int), ("num_outputs", Type::Int), ("split", Type::Ints)])?;
    let (from, shape) = reader.value(node, 0)?;
    let dims = shape.dims();
    let axis = match axis_of(attributes.int("axis", 0), dims.len() + 1) {
        Some(0) | None => return Err("a Split of pictures has no kernel here".into()),
        Some(axis) => axis - 1,
    };
    let count = node.output.len();
    let sizes: Vec<i64> = match reader.named(node, 1) {
        Some(_) => reader.list(node, 1)?,
        None if !attributes.ints("split").is_empty() => attributes.ints("split").to_vec(),
        None => {
            // the last part may be smaller
            let each = dims[axis].div_ceil(count);
            let size = |part: usize| dims[axis].saturating_sub(part * each).min(each) as i64;
            (0..count).map(size).collect()
        }
    };
    let total: Option<i64> = sizes.iter().try_fold(0i64, |sum, size| sum.checked_add(*size));
    if sizes.len() != count || sizes.iter().any(|size| *size < 1) || total != Some(dims[axis] as i64) {
        return Err(format!("parts of {sizes:?} along an axis of {}", dims[axis]));
    }
    let mut made = Vec::new();
    let mut first = 0;
    for size in sizes {
        let size = size as usize;
        let cut = |at: usize, of: usize| if of == axis { first + at } else { at };
        let mut dims = dims.clone();
        dims[axis] = size;
        let part = Shape::of(&dims).ok_or("a Split of another rank")?;
        made.push((reader.window(from, shape, part, cut)?, part));
        first += size;
    }
    Ok(made)
}
