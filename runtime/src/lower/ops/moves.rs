//! What puts values elsewhere, or joins them.

use crate::limits;
use crate::lower::Reason;
use crate::lower::fold::{Cut, distinct, reshaped, squeezed, unsqueezed};
use crate::lower::graph::{Id, Move, Number, Op, Shape};
use crate::lower::reader::{Known, Made, Reader};
use crate::onnx::NodeProto;
use crate::onnx::attributes::Attributes;
use crate::onnx::tensor::{Numbers, axis_of};

/// Largest whole factor of a Resize, and block of a DepthToSpace.
const MOST_TIMES: usize = 64;

impl<'a> Reader<'a> {
    fn moved(&mut self, from: Id, moved: Move, shape: Shape) -> Id {
        match self.graph.values[from].number {
            Number::Float => self.push(Op::Move(moved), vec![from], shape, Number::Float),
            Number::Level => {
                let kind = self.level_type(from);
                self.push_levels(Op::Move(moved), vec![from], shape, kind)
            }
        }
    }

    /// A move to `shape`, by the place in CHW order that each pixel comes from.
    fn gather(&mut self, shape: Shape, from: impl Fn(usize, usize, usize) -> usize) -> Result<Move, Reason> {
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

    fn list(&self, node: &'a NodeProto, index: usize) -> Result<Vec<i64>, Reason> {
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

/// By the same whole factor, nearest neighbours.
pub(super) fn resize<'a>(reader: &mut Reader<'a>, node: &'a NodeProto) -> Result<Made, Reason> {
    let (from, shape) = reader.value(node, 0)?;
    let Shape::Image(channels, height, width) = shape else {
        return Err("a Resize of something that is no picture".into());
    };
    let attributes = Attributes(node);
    let plain = attributes.int("antialias", 0) == 0
        && attributes.find("axes").is_none()
        && attributes.text("keep_aspect_ratio_policy", "stretch") == "stretch";
    if !plain {
        return Err("a Resize with antialias, axes or keep_aspect_ratio_policy has no kernel here".into());
    }
    let by = |ratio: f64| {
        let whole = ratio.round();
        (ratio == whole && (1.0..=MOST_TIMES as f64).contains(&whole)).then_some(whole as usize)
    };
    let times = match (reader.named(node, 2), reader.named(node, 3)) {
        (Some(_), None) => match reader.floats(node, 2)?[..] {
            [1.0, 1.0, y, x] if y == x => by(f64::from(y)),
            _ => None,
        },
        (_, Some(_)) => match reader.list(node, 3)?[..] {
            [_, c, y, x] if c == channels as i64 => {
                let (y, x) = (y as f64 / height as f64, x as f64 / width as f64);
                by(y).filter(|_| y == x)
            }
            _ => None,
        },
        _ => None,
    };
    let times =
        times.ok_or("a Resize by other than the same whole factor of both sides has no kernel here")?;
    let coordinates = attributes.text("coordinate_transformation_mode", "half_pixel");
    let rounding = attributes.text("nearest_mode", "round_prefer_floor");
    let nearest = attributes.text("mode", "nearest") == "nearest";
    let floors = match (coordinates, rounding) {
        ("asymmetric", "floor") => true,
        ("asymmetric", "round_prefer_floor") => times <= 2,
        (
            "half_pixel" | "pytorch_half_pixel" | "half_pixel_symmetric",
            "round_prefer_floor" | "round_prefer_ceil",
        ) => true,
        _ => false,
    };
    if !nearest || !floors {
        return Err(format!(
            "a Resize other than nearest neighbour ({coordinates}, {rounding}) has no kernel here"
        ));
    }
    let made = Shape::Image(channels, height * times, width * times);
    if height.max(width) * times > limits::MAX_IMAGE_SIDE {
        return Err("a Resize to too large a picture".into());
    }
    Ok((reader.moved(from, Move::Enlarge(times), made), made))
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
    let moved = match dims[..] {
        [channels, ..] if dims.len() == 3 && cut.is_window() && cut.dims[0] == channels => {
            Move::Crop(cut.place(1, 0), cut.place(2, 0))
        }
        [_, height, width] => reader
            .gather(made, |c, y, x| (cut.place(0, c) * height + cut.place(1, y)) * width + cut.place(2, x))?,
        _ => reader.gather(made, |c, _, _| cut.place(0, c))?,
    };
    Ok((reader.moved(from, moved, made), made))
}

pub(super) fn transpose<'a>(reader: &mut Reader<'a>, node: &'a NodeProto) -> Result<Made, Reason> {
    let (from, shape) = reader.value(node, 0)?;
    let (Shape::Image(..), [0, axes @ ..]) = (shape, Attributes(node).ints("perm")) else {
        return Err("a Transpose that moves the batch, or of something that is no picture".into());
    };
    let dims = shape.dims();
    let order = distinct(axes, dims.len() + 1)?;
    if order.len() != dims.len() || order.contains(&0) {
        return Err("a Transpose of axes that there are not".into());
    }
    let order: Vec<usize> = order.into_iter().map(|axis| axis - 1).collect();
    let made = Shape::Image(dims[order[0]], dims[order[1]], dims[order[2]]);
    let moved = reader.gather(made, |i, j, k| {
        let mut at = [0; 3];
        [at[order[0]], at[order[1]], at[order[2]]] = [i, j, k];
        (at[0] * dims[1] + at[1]) * dims[2] + at[2]
    })?;
    Ok((reader.moved(from, moved, made), made))
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
    axis_of_channels(node, Some(1), &parts)?;
    joined(reader, parts)
}

/// Whether parts are joined along their channels.
pub(super) fn axis_of_channels(node: &NodeProto, default: Option<i64>, parts: &[Made]) -> Result<(), Reason> {
    let axis = Attributes(node).find("axis").map(|attribute| attribute.i).or(default);
    let rank = parts.first().map_or(0, |(_, shape)| shape.dims().len() + 1);
    match axis.and_then(|axis| axis_of(axis, rank)) {
        Some(1) => Ok(()),
        _ => Err("a Concat of another axis than that of channels has no kernel here".into()),
    }
}

pub(super) fn joined(reader: &mut Reader<'_>, parts: Vec<Made>) -> Result<Made, Reason> {
    let Some((first, shape)) = parts.first().copied() else { return Err("a Concat of nothing".into()) };
    let (number, kind) = (reader.graph.values[first].number, reader.level_type(first));
    let same = |(id, other): &Made| {
        reader.graph.values[*id].number == number
            && (number == Number::Float || reader.level_type(*id) == kind)
            && other.dims()[1..] == shape.dims()[1..]
            && other.dims().len() == shape.dims().len()
    };
    if !parts.iter().all(same) {
        return Err("a Concat of values of different sizes or types".into());
    }
    let channels = parts.iter().try_fold(0usize, |sum, (_, shape)| sum.checked_add(shape.channels()));
    let channels = channels.ok_or("a Concat of too much")?;
    let made = match shape {
        Shape::Vector(_) => Shape::Vector(channels),
        Shape::Image(_, height, width) => Shape::Image(channels, height, width),
    };
    let ids = parts.iter().map(|(id, _)| *id).collect();
    Ok(match number {
        Number::Float => (reader.push(Op::Concat, ids, made, Number::Float), made),
        Number::Level => (reader.push_levels(Op::Concat, ids, made, kind), made),
    })
}
