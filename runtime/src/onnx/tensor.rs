//! Constants: arrays of numbers of one element type.

use edgegen_kernels::half_to_float;
use prost::bytes::Bytes;

use super::{DataType, TensorProto};

/// The numbers of a constant, as far as they need to be told apart.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Numbers {
    /// float32, and other float types in float32.
    Floats(Vec<f32>),
    /// Truth values (0 and 1), and integers of other sizes than 8 bits.
    Integers(Vec<i64>),
    /// int8 and uint8, as their bits.
    Levels(Bytes),
    /// Integers behind a DequantizeLinear: as they are, scales and zero points, one or one for each index of the axis.
    Quantized { levels: Vec<i64>, scales: Vec<f32>, zeros: Vec<i64>, axis: usize },
}

/// A constant.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Constant {
    pub(crate) dims: Vec<usize>,
    /// Its element type in the file; float32 for all types of floats.
    pub(crate) kind: DataType,
    pub(crate) numbers: Numbers,
}

/// Whether an element type, by ONNX's number, is one of floats that are read: all are computed with in float32.
pub(crate) fn is_floats(code: i64) -> bool {
    let kind = i32::try_from(code).ok().and_then(|code| DataType::try_from(code).ok());
    use DataType::{Bfloat16, Double, Float, Float16};
    matches!(kind, Some(Float | Float16 | Double | Bfloat16))
}

/// bfloat16 is the upper half of float32.
fn bfloat_to_float(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

/// Whether a tensor holds as many numbers as its shape says. Types that are not known here are taken as they are.
pub(crate) fn fills_its_shape(tensor: &TensorProto) -> bool {
    let sizes = tensor.dims.iter().map(|size| usize::try_from(*size).ok());
    let count = sizes.into_iter().try_fold(1usize, |product, size| product.checked_mul(size?));
    let Some(count) = count else { return false };
    let bits = match DataType::try_from(tensor.data_type) {
        Ok(DataType::Double | DataType::Int64 | DataType::Uint64) => 64,
        Ok(DataType::Float | DataType::Int32 | DataType::Uint32) => 32,
        Ok(DataType::Float16 | DataType::Bfloat16 | DataType::Int16 | DataType::Uint16) => 16,
        Ok(DataType::Int8 | DataType::Uint8 | DataType::Bool) => 8,
        Ok(DataType::Int4 | DataType::Uint4) => 4,
        _ => return true,
    };
    let typed = [
        tensor.float_data.len(),
        // two numbers of 4 bits each
        if bits == 4 { 2 * tensor.int32_data.len() } else { tensor.int32_data.len() },
        tensor.int64_data.len(),
        tensor.double_data.len(),
        tensor.uint64_data.len(),
    ];
    let found = tensor.raw_data.len() * 8 / bits + typed.iter().sum::<usize>();
    // an odd number of halves of bytes leaves one
    found == count || bits == 4 && found == count + 1
}

impl Constant {
    pub(crate) fn integers_of(dims: Vec<usize>, values: Vec<i64>) -> Self {
        Self { dims, kind: DataType::Int64, numbers: Numbers::Integers(values) }
    }

    pub(crate) fn floats_of(dims: Vec<usize>, values: Vec<f32>) -> Self {
        Self { dims, kind: DataType::Float, numbers: Numbers::Floats(values) }
    }

    /// `None` for a type that is not known here, and where numbers do not fill the shape.
    pub(crate) fn of(tensor: &TensorProto) -> Option<Self> {
        let dims = tensor.dims.iter().map(|size| usize::try_from(*size).ok()).collect::<Option<Vec<_>>>()?;
        let count = dims.iter().try_fold(1usize, |product, size| product.checked_mul(*size))?;
        let raw = &tensor.raw_data;
        let small = tensor.int32_data.iter();
        macro_rules! stored {
            ($type:ty, $size:literal) => {{
                let (values, rest) = raw.as_chunks::<$size>();
                if !rest.is_empty() {
                    return None;
                }
                values.iter().map(|bytes| <$type>::from_le_bytes(*bytes))
            }};
        }
        macro_rules! integers {
            ($type:ty, $size:literal) => {
                Numbers::Integers(
                    stored!($type, $size).map(i64::from).chain(small.copied().map(i64::from)).collect(),
                )
            };
        }
        let kind = DataType::try_from(tensor.data_type).ok()?;
        let numbers = match kind {
            DataType::Float => {
                Numbers::Floats(stored!(f32, 4).chain(tensor.float_data.iter().copied()).collect())
            }
            DataType::Double => {
                let values = stored!(f64, 8).chain(tensor.double_data.iter().copied());
                Numbers::Floats(values.map(|value| value as f32).collect())
            }
            DataType::Float16 => {
                let values = stored!(u16, 2).chain(small.map(|bits| *bits as u16));
                Numbers::Floats(values.map(half_to_float).collect())
            }
            DataType::Bfloat16 => {
                let values = stored!(u16, 2).chain(small.map(|bits| *bits as u16));
                Numbers::Floats(values.map(bfloat_to_float).collect())
            }
            DataType::Int64 => {
                Numbers::Integers(stored!(i64, 8).chain(tensor.int64_data.iter().copied()).collect())
            }
            DataType::Int32 => integers!(i32, 4),
            DataType::Int16 => integers!(i16, 2),
            DataType::Uint16 => integers!(u16, 2),
            DataType::Bool => integers!(u8, 1),
            DataType::Int4 | DataType::Uint4 => {
                // two numbers a byte, the first in the lower half
                let bytes = raw.iter().copied().chain(small.map(|value| *value as u8));
                let halves = bytes.flat_map(|byte| [byte & 15, byte >> 4]).take(count);
                let signed = kind == DataType::Int4;
                Numbers::Integers(
                    halves.map(|bits| i64::from(bits) - if signed && bits > 7 { 16 } else { 0 }).collect(),
                )
            }
            DataType::Uint8 | DataType::Int8 => Numbers::Levels(match tensor.int32_data.as_slice() {
                [] => raw.clone(),
                _ => raw.iter().copied().chain(small.map(|value| *value as u8)).collect(),
            }),
            _ => return None,
        };
        let kind = if matches!(numbers, Numbers::Floats(_)) { DataType::Float } else { kind };
        (numbers.len() == count).then_some(Self { dims, kind, numbers })
    }

    /// Whether levels are int8.
    pub(crate) fn is_signed(&self) -> bool {
        self.kind == DataType::Int8
    }

    /// What a DequantizeLinear makes of integers, along `axis` or, with a block size, in blocks of so many along it.
    pub(crate) fn dequantized(
        levels: &Self,
        scale: &Self,
        zero: Option<&Self>,
        axis: i64,
        block: i64,
    ) -> Result<Self, &'static str> {
        let Numbers::Floats(scales) = &scale.numbers else { return Err("its scale is no float32") };
        if scale.kind != DataType::Float {
            return Err("its scale is no float32");
        }
        if zero.is_some_and(|zero| zero.kind != levels.kind) {
            return Err("its zero point is of another type than what it dequantises");
        }
        let values = levels.whole().ok_or("it dequantises no integers")?;
        let zeros = match zero {
            None => vec![0; scales.len()],
            Some(zero) => zero.whole().ok_or("its zero point is no integer")?,
        };
        if zeros.len() != scales.len() {
            return Err("its scales and zero points do not fit its weights");
        }
        let place = axis_of(axis, levels.dims.len());
        if block == 0 {
            let one = scales.len() == 1;
            let fits = one || place.is_some_and(|axis| scale.dims == [levels.dims[axis]]);
            if !fits {
                return Err("its scales and zero points do not fit its weights");
            }
            let numbers = Numbers::Quantized {
                levels: values,
                scales: scales.clone(),
                zeros,
                axis: place.unwrap_or(0),
            };
            return Ok(Self { dims: levels.dims.clone(), kind: DataType::Float, numbers });
        }
        let axis = place.ok_or("an axis out of bounds")?;
        let block = usize::try_from(block).map_err(|_| "a negative block size")?;
        let mut expected = levels.dims.clone();
        expected[axis] = expected[axis].div_ceil(block);
        if scale.dims != expected {
            return Err("its scales do not fit its weights in blocks of that size");
        }
        let inner: usize = levels.dims[axis + 1..].iter().product();
        let along = levels.dims[axis];
        let of = |index: usize| {
            let (outer, at, rest) = (index / (inner * along), index / inner % along, index % inner);
            (outer * expected[axis] + at / block) * inner + rest
        };
        let value = |(index, level): (usize, i64)| (level - zeros[of(index)]) as f32 * scales[of(index)];
        Ok(Self::floats_of(levels.dims.clone(), values.into_iter().enumerate().map(value).collect()))
    }

    /// Values in float32.
    pub(crate) fn floats(&self) -> Option<Vec<f32>> {
        match &self.numbers {
            Numbers::Floats(values) => Some(values.clone()),
            Numbers::Quantized { levels, scales, zeros, axis } => {
                let inner: usize = self.dims[(axis + 1).min(self.dims.len())..].iter().product();
                let value = |(index, level): (usize, &i64)| {
                    let place = if scales.len() == 1 { 0 } else { index / inner.max(1) % scales.len() };
                    (level - zeros.get(place).copied().unwrap_or(0)) as f32 * scales[place]
                };
                Some(levels.iter().enumerate().map(value).collect())
            }
            _ => None,
        }
    }

    /// Integers that tell shapes: int64, int32 and the like.
    pub(crate) fn integers(&self) -> Option<&[i64]> {
        if let Numbers::Integers(values) = &self.numbers { Some(values) } else { None }
    }

    /// Integers of any size.
    pub(crate) fn whole(&self) -> Option<Vec<i64>> {
        match &self.numbers {
            Numbers::Integers(values) => Some(values.clone()),
            Numbers::Levels(bits) => {
                let signed = self.is_signed();
                Some(bits.iter().map(|bits| i64::from(number(*bits, signed))).collect())
            }
            _ => None,
        }
    }

    /// The only value of a float32 constant.
    pub(crate) fn float(&self) -> Option<f32> {
        match &self.numbers {
            Numbers::Floats(values) if values.len() == 1 && self.kind == DataType::Float => Some(values[0]),
            _ => None,
        }
    }

    /// As a tensor of a file.
    pub(crate) fn tensor(&self, name: &str) -> TensorProto {
        let bytes = |values: &[i64], size: usize| -> Bytes {
            values.iter().flat_map(|value| value.to_le_bytes().into_iter().take(size)).collect()
        };
        let (kind, raw_data) = match &self.numbers {
            Numbers::Integers(values) => match self.kind {
                DataType::Bool => (self.kind, bytes(values, 1)),
                DataType::Int16 | DataType::Uint16 => (self.kind, bytes(values, 2)),
                DataType::Int32 => (self.kind, bytes(values, 4)),
                DataType::Int4 => (DataType::Int8, bytes(values, 1)),
                DataType::Uint4 => (DataType::Uint8, bytes(values, 1)),
                _ => (DataType::Int64, bytes(values, 8)),
            },
            Numbers::Levels(bits) => (self.kind, bits.clone()),
            Numbers::Floats(_) | Numbers::Quantized { .. } => {
                let values = self.floats().unwrap_or_default();
                (DataType::Float, values.iter().flat_map(|value| value.to_le_bytes()).collect())
            }
        };
        TensorProto {
            name: name.into(),
            dims: self.dims.iter().map(|size| *size as i64).collect(),
            data_type: kind as i32,
            raw_data,
            ..TensorProto::default()
        }
    }
}

impl Numbers {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Floats(values) => values.len(),
            Self::Integers(values) => values.len(),
            Self::Levels(values) => values.len(),
            Self::Quantized { levels, .. } => levels.len(),
        }
    }
}

/// A level's number, by its bits.
pub(crate) fn number(bits: u8, signed: bool) -> i16 {
    if signed { i16::from(bits as i8) } else { i16::from(bits) }
}

/// An axis as ONNX counts it, from the end if it is negative; `None` if there is no such axis.
pub(crate) fn axis_of(axis: i64, rank: usize) -> Option<usize> {
    let rank = rank as i64;
    let place = if axis < 0 { axis.checked_add(rank)? } else { axis };
    (0..rank).contains(&place).then_some(place as usize)
}
