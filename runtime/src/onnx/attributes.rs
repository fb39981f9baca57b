//! Attributes of nodes: what an operator does not know is an error, not a default.

use super::{AttributeProto, NodeProto};

/// The type of an attribute, by ONNX's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub(crate) enum Type {
    Float = 1,
    Int = 2,
    Text = 3,
    Tensor = 4,
    Floats = 6,
    Ints = 7,
    Strings = 8,
}

/// Attributes that an operator understands.
pub(crate) type Known = &'static [(&'static str, Type)];

/// Those of convolutions.
pub(crate) const CONV: Known = &[
    ("auto_pad", Type::Text),
    ("dilations", Type::Ints),
    ("group", Type::Int),
    ("kernel_shape", Type::Ints),
    ("pads", Type::Ints),
    ("strides", Type::Ints),
];

/// Those of transposed convolutions.
pub(crate) const CONV_TRANSPOSE: Known = &[
    ("auto_pad", Type::Text),
    ("dilations", Type::Ints),
    ("group", Type::Int),
    ("kernel_shape", Type::Ints),
    ("output_padding", Type::Ints),
    ("output_shape", Type::Ints),
    ("pads", Type::Ints),
    ("strides", Type::Ints),
];

/// Those of batch norms, in all versions.
pub(crate) const BATCH_NORM: Known = &[
    ("epsilon", Type::Float),
    ("momentum", Type::Float),
    ("spatial", Type::Int),
    ("training_mode", Type::Int),
];

/// Those of pools, the mean's and the maximum's.
pub(crate) const POOL: Known = &[
    ("auto_pad", Type::Text),
    ("ceil_mode", Type::Int),
    ("count_include_pad", Type::Int),
    ("dilations", Type::Ints),
    ("kernel_shape", Type::Ints),
    ("pads", Type::Ints),
    ("storage_order", Type::Int),
    ("strides", Type::Ints),
];

/// Those of a Resize.
pub(crate) const RESIZE: Known = &[
    ("antialias", Type::Int),
    ("axes", Type::Ints),
    ("coordinate_transformation_mode", Type::Text),
    ("cubic_coeff_a", Type::Float),
    ("exclude_outside", Type::Int),
    ("extrapolation_value", Type::Float),
    ("keep_aspect_ratio_policy", Type::Text),
    ("mode", Type::Text),
    ("nearest_mode", Type::Text),
];

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

    /// Whether each is known, of its type, and there once.
    pub(crate) fn check(self, known: Known) -> Result<(), String> {
        for (index, attribute) in self.0.attribute.iter().enumerate() {
            let name = &attribute.name;
            let Some((_, kind)) = known.iter().find(|(known, _)| known == name) else {
                return Err(format!("its attribute {name:?} is not known here"));
            };
            // files of the first ONNX versions leave the type out
            if attribute.r#type != 0 && attribute.r#type != *kind as i32 {
                return Err(format!("its attribute {name:?} is of another type than it should be"));
            }
            if std::str::from_utf8(&attribute.s).is_err() {
                return Err(format!("its attribute {name:?} is no text"));
            }
            if self.0.attribute[..index].iter().any(|earlier| earlier.name == *name) {
                return Err(format!("its attribute {name:?} is there twice"));
            }
        }
        Ok(())
    }
}
