//! Constants of an ONNX graph, and attributes of its nodes.

use std::collections::HashMap;

use edgegen_kernels::half_to_float;

use crate::onnx::{AttributeProto, DataType, GraphProto, NodeProto, TensorProto};
use prost::bytes::Bytes;

/// The numbers of a constant.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Numbers {
    /// float32, float16 and float64.
    Floats(Vec<f32>),
    /// int64 and int32.
    Integers(Vec<i64>),
    /// int8 and uint8, as their bits; whether they are signed.
    Levels(Bytes, bool),
    /// int8, uint8 or int32 behind a DequantizeLinear: as they are, scales and zero points, one or one for each index of the axis.
    Quantized { levels: Vec<i64>, scales: Vec<f32>, zeros: Vec<i64>, axis: usize },
}

/// A constant.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Constant {
    pub(crate) dims: Vec<usize>,
    pub(crate) numbers: Numbers,
}

impl Constant {
    pub(crate) fn of(tensor: &TensorProto) -> Option<Self> {
        let dims = tensor.dims.iter().map(|size| usize::try_from(*size).ok()).collect::<Option<Vec<_>>>()?;
        let count = dims.iter().try_fold(1usize, |product, size| product.checked_mul(*size))?;
        let raw = &tensor.raw_data;
        let small = tensor.int32_data.iter();
        macro_rules! stored {
            ($type:ty, $size:literal) => {
                raw.as_chunks::<$size>().0.iter().map(|bytes| <$type>::from_le_bytes(*bytes))
            };
        }
        let numbers = match DataType::try_from(tensor.data_type).ok()? {
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
            DataType::Int64 => {
                Numbers::Integers(stored!(i64, 8).chain(tensor.int64_data.iter().copied()).collect())
            }
            DataType::Int32 => {
                let values = stored!(i32, 4).chain(small.copied());
                Numbers::Integers(values.map(i64::from).collect())
            }
            kind @ (DataType::Uint8 | DataType::Int8) => {
                let bits = match tensor.int32_data.as_slice() {
                    [] => raw.clone(),
                    _ => raw.iter().copied().chain(small.map(|value| *value as u8)).collect(),
                };
                Numbers::Levels(bits, kind == DataType::Int8)
            }
            _ => return None,
        };
        (numbers.len() == count).then_some(Self { dims, numbers })
    }

    /// What a DequantizeLinear along `axis` makes of levels, as long as scales and zero points, 0 if they are left out, fit.
    pub(crate) fn dequantized(
        levels: &Self,
        scale: &Self,
        zero: Option<&Self>,
        axis: i64,
    ) -> Result<Self, &'static str> {
        let numbers = |constant: &Self| match &constant.numbers {
            Numbers::Levels(values, signed) => {
                Some(values.iter().map(|value| i64::from(number(*value, *signed))).collect::<Vec<_>>())
            }
            Numbers::Integers(values) => Some(values.clone()),
            _ => None,
        };
        let scales = scale.floats().ok_or("its scale is not float32")?;
        let zeros = match zero {
            None => vec![0; scales.len()],
            Some(zero) => numbers(zero).ok_or("its zero point is no integer")?,
        };
        let axis = if axis < 0 { axis + levels.dims.len() as i64 } else { axis };
        let axis = usize::try_from(axis).map_err(|_| "an axis out of bounds")?;
        let fits = scales.len() == 1 || levels.dims.get(axis) == Some(&scales.len());
        if !fits || zeros.len() != scales.len() {
            return Err("its scales and zero points do not fit its weights");
        }
        let values = numbers(levels).ok_or("it dequantises no integers")?;
        Ok(Self {
            dims: levels.dims.clone(),
            numbers: Numbers::Quantized { levels: values, scales, zeros, axis },
        })
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

    /// Integers that tell shapes.
    pub(crate) fn integers(&self) -> Option<&[i64]> {
        if let Numbers::Integers(values) = &self.numbers { Some(values) } else { None }
    }

    /// The only value of a float constant.
    pub(crate) fn float(&self) -> Option<f32> {
        match &self.numbers {
            Numbers::Floats(values) if values.len() == 1 => Some(values[0]),
            _ => None,
        }
    }
}

impl Numbers {
    fn len(&self) -> usize {
        match self {
            Self::Floats(values) => values.len(),
            Self::Integers(values) => values.len(),
            Self::Levels(values, _) => values.len(),
            Self::Quantized { levels, .. } => levels.len(),
        }
    }
}

/// A level's number, by its bits.
pub(crate) fn number(bits: u8, signed: bool) -> i16 {
    if signed { i16::from(bits as i8) } else { i16::from(bits) }
}

/// The initializers of a graph that no input replaces. Those that cannot be read are left out.
pub(crate) fn initializers(graph: &GraphProto) -> HashMap<String, Constant> {
    let is_input = |name: &str| graph.input.iter().any(|input| input.name == name);
    let tensors = graph.initializer.iter().filter(|tensor| !is_input(&tensor.name));
    tensors.filter_map(|tensor| Some((tensor.name.clone(), Constant::of(tensor)?))).collect()
}

/// A node's attributes, by name.
#[derive(Clone, Copy)]
pub(crate) struct Attributes<'a>(pub(crate) &'a NodeProto);

impl<'a> Attributes<'a> {
    pub(crate) fn find(self, name: &str) -> Option<&'a AttributeProto> {
        self.0.attribute.iter().find(|attribute| attribute.name == name)
    }

    pub(crate) fn int(self, name: &str, default: i64) -> i64 {
        self.find(name).map_or(default, |attribute| attribute.i)
    }

    pub(crate) fn float(self, name: &str, default: f32) -> f32 {
        self.find(name).map_or(default, |attribute| attribute.f)
    }

    pub(crate) fn ints(self, name: &str) -> &'a [i64] {
        self.find(name).map_or(&[], |attribute| &attribute.ints)
    }

    pub(crate) fn text(self, name: &str, default: &'a str) -> &'a str {
        self.find(name).and_then(|attribute| std::str::from_utf8(&attribute.s).ok()).unwrap_or(default)
    }
}
