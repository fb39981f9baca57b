//! Windows of a picture: pools, enlargement and reduction by any factor, padding.

use edgegen_kernels::Axis;
use edgegen_kernels::windows::{Pooling, Weights};

use crate::limits;
use crate::lower::Reason;
use crate::lower::graph::{Move, Number, Op, Shape};
use crate::lower::reader::{Made, Reader};
use crate::lower::window::Window;
use crate::onnx::NodeProto;
use crate::onnx::attributes::Attributes;
use crate::onnx::tensor::axis_of;

/// Largest whole factor of a Resize that the layer behind it may take in.
const MOST_TIMES: usize = 64;

impl<'a> Reader<'a> {
    fn pool(&mut self, from: Made, pooling: Pooling, (y, x): (Axis, Axis), made: Shape) -> Made {
        (self.push(Op::Pool { pooling, y, x }, vec![from.0], made, Number::Float), made)
    }

    /// One value of each channel.
    fn whole(&mut self, from: Made, pooling: Pooling, made: Shape) -> Result<Made, Reason> {
        let (_, height, width) = from.1.image();
        let axis = |size: usize| Axis::new(size, 1, 0, 1).map_err(|mismatch| mismatch.to_string());
        Ok(self.pool(from, pooling, (axis(height)?, axis(width)?), made))
    }

    fn pool_of(&mut self, node: &'a NodeProto, from: Made) -> Result<Made, Reason> {
        let Shape::Image(channels, height, width) = from.1 else {
            return Err("a pool of something that is no picture".into());
        };
        let window = Window::of_pool(node, &[height, width])?;
        let axis = |at: usize| {
            let (kernel, stride) = (window.kernel[at], window.strides[at]);
            Axis::new(kernel, stride, window.before[at], window.dilations[at]).map_err(|e| e.to_string())
        };
        let pooling = match (node.op_type.as_str(), Attributes(node).int("count_include_pad", 0)) {
            ("MaxPool", _) => Pooling::Max,
            (_, 0) => Pooling::Mean,
            _ => Pooling::PaddedMean { bottom: window.behind[0], right: window.behind[1] },
        };
        let made = Shape::Image(channels, window.made[0], window.made[1]);
        Ok(self.pool(from, pooling, (axis(0)?, axis(1)?), made))
    }
}

/// MaxPool and AveragePool.
pub(super) fn pool<'a>(reader: &mut Reader<'a>, node: &'a NodeProto) -> Result<Made, Reason> {
    let value = reader.float_value(node, 0)?;
    reader.pool_of(node, value)
}

/// onnxruntime's own, of levels.
pub(super) fn pool_levels<'a>(reader: &mut Reader<'a>, node: &'a NodeProto) -> Result<Made, Reason> {
    channels_first(node)?;
    reader.pooled_levels(node, |reader, value| reader.pool_of(node, value))
}

/// onnxruntime's own, of levels.
pub(super) fn global_levels<'a>(reader: &mut Reader<'a>, node: &'a NodeProto) -> Result<Made, Reason> {
    channels_first(node)?;
    reader.mean_of_levels(node)
}

fn channels_first(node: &NodeProto) -> Result<(), Reason> {
    match Attributes(node).int("channels_last", 0) {
        0 => Ok(()),
        _ => Err("a pool of pictures whose channels come last has no kernel here".into()),
    }
}

/// GlobalMaxPool and GlobalAveragePool.
pub(super) fn global<'a>(reader: &mut Reader<'a>, node: &'a NodeProto) -> Result<Made, Reason> {
    let value = reader.float_value(node, 0)?;
    let Shape::Image(channels, ..) = value.1 else {
        return Err("a pool of something that is no picture".into());
    };
    let pooling = if node.op_type == "GlobalMaxPool" { Pooling::Max } else { Pooling::Mean };
    reader.whole(value, pooling, Shape::Image(channels, 1, 1))
}

/// ReduceMean and ReduceMax over all pixels of a channel.
pub(super) fn reduce<'a>(reader: &mut Reader<'a>, node: &'a NodeProto) -> Result<Made, Reason> {
    let value = reader.float_value(node, 0)?;
    let attributes = Attributes(node);
    let dims = value.1.dims();
    let axes = match reader.named(node, 1) {
        Some(_) => reader.list(node, 1)?,
        None => attributes.ints("axes").to_vec(),
    };
    let mut axes: Vec<usize> = axes.iter().filter_map(|axis| axis_of(*axis, dims.len() + 1)).collect();
    axes.sort_unstable();
    let channels = value.1.channels();
    let kept = match (value.1, &axes[..]) {
        (Shape::Image(..), [2, 3]) => Shape::Image(channels, 1, 1),
        (Shape::Matrix(..), [2]) => Shape::Matrix(channels, 1),
        _ => {
            return Err(format!(
                "{} over other axes than a channel's pixels has no kernel here",
                node.op_type
            ));
        }
    };
    let made = if attributes.int("keepdims", 1) == 0 { Shape::Vector(channels) } else { kept };
    let pooling = if node.op_type == "ReduceMax" { Pooling::Max } else { Pooling::Mean };
    reader.whole(value, pooling, made)
}

/// A picture in another size.
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
    // factor and size made of both sides
    let sides = [height, width];
    let made: [(f32, usize); 2] = match (reader.named(node, 2), reader.named(node, 3)) {
        (Some(_), None) => match reader.floats(node, 2)?[..] {
            [1.0, 1.0, y, x] => {
                let side = |at: usize, factor: f32| (factor, (sides[at] as f32 * factor).floor() as usize);
                [side(0, y), side(1, x)]
            }
            _ => return Err("a Resize of channels, or of another rank".into()),
        },
        (_, Some(_)) => match reader.list(node, 3)?[..] {
            [_, c, y, x] if c == channels as i64 => {
                let side = |at: usize, size: i64| {
                    let size = usize::try_from(size).unwrap_or(0);
                    (size as f32 / sides[at] as f32, size)
                };
                [side(0, y), side(1, x)]
            }
            _ => return Err("a Resize of channels, or of another rank".into()),
        },
        _ => return Err("a Resize without factors or sizes".into()),
    };
    if made.iter().any(|(factor, size)| {
        !(factor.is_normal() && *factor > 0.0) || *size == 0 || *size > limits::MAX_IMAGE_SIDE
    }) {
        return Err(format!("a Resize to a picture of {} x {}", made[0].1, made[1].1));
    }
    let shape_made = Shape::Image(channels, made[0].1, made[1].1);
    let coordinates = attributes.text("coordinate_transformation_mode", "half_pixel");
    let whole = |(at, (factor, size)): (usize, &(f32, usize))| sides[at] as f32 * factor == *size as f32;
    let by_sizes = reader.named(node, 3).is_some();
    if coordinates == "align_corners" && !by_sizes && !made.iter().enumerate().all(whole) {
        // ONNX and onnxruntime differ
        return Err("a Resize with align_corners by factors that make no whole size".into());
    }
    let rounding = attributes.text("nearest_mode", "round_prefer_floor");
    let mode = attributes.text("mode", "nearest");
    let at = |axis: usize| (0..made[axis].1).map(move |at| (axis, at));
    let place = |(axis, at): (usize, usize)| coordinate(coordinates, at, made[axis], sides[axis]);
    let mut axes = Vec::new();
    for axis in 0..2 {
        let places = at(axis).map(place).collect::<Option<Vec<f32>>>();
        axes.push(
            places.ok_or_else(|| format!("a Resize with coordinates {coordinates:?} has no kernel here"))?,
        );
    }
    if mode == "nearest" {
        let nearest = |axis: usize| {
            axes[axis]
                .iter()
                .map(|place| round(rounding, *place, sides[axis]))
                .collect::<Option<Vec<usize>>>()
        };
        let unknown = || format!("nearest_mode {rounding:?}, which is not known here");
        let (rows, columns) = (nearest(0).ok_or_else(unknown)?, nearest(1).ok_or_else(unknown)?);
        // the layer behind takes in a whole factor
        let times = made[0].1 / height;
        let whole = |places: &[usize], size: usize| {
            places.len() == size * times && places.iter().enumerate().all(|(at, place)| at / times == *place)
        };
        let by_times = (1..=MOST_TIMES).contains(&times) && whole(&rows, height) && whole(&columns, width);
        let moved = if by_times {
            Move::Enlarge(times)
        } else {
            reader.gather(shape_made, |c, y, x| (c * height + rows[y]) * width + columns[x])?
        };
        return Ok((reader.moved(from, moved, shape_made), shape_made));
    }
    reader.expect(from, Number::Float)?;
    let outside = attributes.int("exclude_outside", 0) != 0;
    let weights = |axis: usize| -> Result<Weights, Reason> {
        let (mut places, mut weights) = (Vec::new(), Vec::new());
        let taps = match mode {
            "linear" => 2,
            "cubic" => 4,
            other => return Err(format!("a Resize of mode {other:?} has no kernel here")),
        };
        let last = sides[axis] as f32 - 1.0;
        for place in &axes[axis] {
            let place = if mode == "linear" { place.clamp(0.0, last) } else { *place };
            let (first, part) = (place.floor(), place - place.floor());
            let of_taps = match mode {
                "linear" => [1.0 - part, part, 0.0, 0.0],
                _ => cubic(part, attributes.float("cubic_coeff_a", -0.75)),
            };
            let inside = |tap: usize| {
                let at = first + tap as f32 - if mode == "cubic" { 1.0 } else { 0.0 };
                (at, (0.0..=last).contains(&at))
            };
            let total: f32 = if outside && mode == "cubic" {
                (0..taps).filter(|tap| inside(*tap).1).map(|tap| of_taps[tap]).sum()
            } else {
                1.0
            };
            for (tap, weight) in of_taps.iter().enumerate().take(taps) {
                let (at, within) = inside(tap);
                places.push(at.clamp(0.0, last) as u32);
                weights.push(if outside && mode == "cubic" && !within { 0.0 } else { weight / total });
            }
        }
        if weights.iter().any(|weight| !weight.is_finite()) {
            return Err("a Resize whose weights are no numbers".into());
        }
        Weights::new(places, weights, taps).map_err(|mismatch| mismatch.to_string())
    };
    let op = Op::Resize { y: weights(0)?, x: weights(1)? };
    Ok((reader.push(op, vec![from], shape_made, Number::Float), shape_made))
}

/// Where an output lies in the input, in float32 as onnxruntime has it.
fn coordinate(mode: &str, at: usize, (factor, made): (f32, usize), size: usize) -> Option<f32> {
    let (at, size_f, made_f) = (at as f32, size as f32, made as f32);
    if factor == 1.0 && made == size {
        return Some(at);
    }
    Some(match mode {
        "half_pixel" => (at + 0.5) / factor - 0.5,
        "pytorch_half_pixel" => {
            if made > 1 {
                (at + 0.5) / factor - 0.5
            } else {
                0.0
            }
        }
        "asymmetric" => at / factor,
        "align_corners" => {
            if made > 1 {
                at * (size_f - 1.0) / (made_f - 1.0)
            } else {
                0.0
            }
        }
        "half_pixel_symmetric" => {
            let adjusted = made_f / (factor * size_f);
            size_f / 2.0 * (1.0 - adjusted) + (at + 0.5) / factor - 0.5
        }
        _ => return None,
    })
}

/// The nearest place inside.
fn round(mode: &str, place: f32, size: usize) -> Option<usize> {
    let half = place == place.floor() + 0.5;
    let rounded = match mode {
        "round_prefer_floor" if half => place.floor(),
        "round_prefer_floor" => place.round(),
        "round_prefer_ceil" if half => place.ceil(),
        "round_prefer_ceil" => place.round(),
        "floor" => place.floor(),
        "ceil" => place.ceil(),
        _ => return None,
    };
    Some(rounded.clamp(0.0, size as f32 - 1.0) as usize)
}

/// R. Keys, "Cubic convolution interpolation for digital image processing", 1981.
fn cubic(part: f32, a: f32) -> [f32; 4] {
    let near = |x: f32| ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0;
    let far = |x: f32| ((a * x - 5.0 * a) * x + 8.0 * a) * x - 4.0 * a;
    [far(part + 1.0), near(part), near(1.0 - part), far(2.0 - part)]
}

/// Rows and columns around a picture.
pub(super) fn pad<'a>(reader: &mut Reader<'a>, node: &'a NodeProto) -> Result<Made, Reason> {
    let (from, shape) = reader.plane_value(node, 0)?;
    let dims = shape.dims();
    let pads = match reader.named(node, 1) {
        Some(_) => reader.list(node, 1)?,
        None => Attributes(node).ints("pads").to_vec(),
    };
    let axes = match reader.named(node, 3) {
        Some(_) => reader.list(node, 3)?,
        None => (0..=dims.len() as i64).collect(),
    };
    if pads.len() != 2 * axes.len() {
        return Err(format!("{} pads for {} axes", pads.len(), axes.len()));
    }
    // of (C, H, W): before and behind
    let mut around = [(0usize, 0usize); 3];
    for (index, axis) in axes.iter().enumerate() {
        let axis = axis_of(*axis, dims.len() + 1).ok_or("a Pad of an axis that there is not")?;
        let size = |value: i64| usize::try_from(value).ok().filter(|size| *size <= limits::MAX_IMAGE_SIDE);
        let sides = size(pads[index]).zip(size(pads[index + axes.len()]));
        let (before, behind) = sides.ok_or("a Pad that cuts off, or adds too much, has no kernel here")?;
        match (axis, shape) {
            (0, _) if before + behind > 0 => return Err("a Pad of the batch has no kernel here".into()),
            (0, _) => {}
            (2, Shape::Matrix(..)) => around[2] = (before, behind),
            _ => around[axis - 1] = (before, behind),
        }
    }
    let (channels, height, width) = shape.image();
    let mode = Attributes(node).text("mode", "constant");
    let [channel, rows, columns] = around;
    let sides = [channels + channel.0 + channel.1, height + rows.0 + rows.1, width + columns.0 + columns.1];
    if sides.iter().any(|side| *side > limits::MAX_IMAGE_SIDE.max(channels)) {
        return Err("a Pad to too large a picture".into());
    }
    let made = match shape {
        Shape::Matrix(..) => Shape::Matrix(sides[0], sides[2]),
        Shape::Image(..) => Shape::Image(sides[0], sides[1], sides[2]),
        Shape::Vector(_) | Shape::Tensor(_) => Shape::Vector(sides[0]),
    };
    if !made.is_sound() {
        return Err(format!("it would hold {:?} values", made.dims()));
    }
    if mode == "constant" {
        let value = match reader.named(node, 2) {
            Some(_) => reader.given(node, 2)?.float().ok_or("a Pad by something else than one number")?,
            None => Attributes(node).float("value", 0.0),
        };
        if channel != (0, 0) {
            return Err("a Pad of channels by a number has no kernel here".into());
        }
        if !value.is_finite() {
            return Err(format!("a Pad by {value}"));
        }
        let moved = Move::Pad { top: rows.0, left: columns.0, value, level: 0 };
        return Ok((reader.moved(from, moved, made), made));
    }
    let sizes = [channels, height, width];
    let place = |axis: usize, at: usize| -> usize {
        let (size, before) = (sizes[axis] as isize, around[axis].0 as isize);
        let at = at as isize - before;
        let inside = match mode {
            "reflect" => {
                let last = size - 1;
                if at < 0 {
                    -at
                } else if at > last {
                    2 * last - at
                } else {
                    at
                }
            }
            "edge" => at,
            _ => at.rem_euclid(size),
        };
        inside.clamp(0, size - 1).unsigned_abs()
    };
    match mode {
        "edge" | "wrap" => {}
        "reflect" => {
            if (0..3).any(|axis| {
                around[axis].0.max(around[axis].1) >= sizes[axis].max(1) && around[axis] != (0, 0)
            }) {
                return Err("a Pad that reflects more than there is".into());
            }
        }
        other => return Err(format!("a Pad of mode {other:?}, which is not known here")),
    }
    let moved = reader.gather(made, |c, y, x| (place(0, c) * height + place(1, y)) * width + place(2, x))?;
    Ok((reader.moved(from, moved, made), made))
}
