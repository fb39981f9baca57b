//! ONNX's messages, as far as networks are made of them: <https://github.com/onnx/onnx/blob/main/onnx/onnx.proto3>.
//! Weights are not copied out of the file.
//!
//! The macro [`message!`] does what `#[derive(prost::Message)]` would: building that derive takes longer than building
//! this crate's half (docs/decisions.md).

pub(crate) mod attributes;
pub(crate) mod normal;
pub(crate) mod tensor;

use std::cell::Cell;

use crate::limits::{MAX_MESSAGES, MAX_PACKED_BYTES};
use prost::bytes::{Buf, BufMut, Bytes};
use prost::encoding::{self, DecodeContext, WireType};
use prost::{DecodeError, Message};

/// A type that a field can have: how it is written, and read again.
trait Field {
    /// Writes the field, unless it is empty or 0.
    fn write(&self, tag: u32, to: &mut impl BufMut);

    /// Reads an occurrence of the field: it replaces what was there, or is appended to a `Vec`.
    fn read(
        &mut self,
        wire: WireType,
        from: &mut impl Buf,
        context: DecodeContext,
    ) -> Result<(), DecodeError>;

    /// Bytes that [`Self::write`] writes.
    fn bytes(&self, tag: u32) -> usize;
}

/// Fields of one value of protobuf's type `$kind`.
macro_rules! single {
    ($($type:ty = $kind:ident),+ $(,)?) => {$(
        impl Field for $type {
            fn write(&self, tag: u32, to: &mut impl BufMut) {
                if *self != <$type>::default() {
                    encoding::$kind::encode(tag, self, to);
                }
            }

            fn read(&mut self, wire: WireType, from: &mut impl Buf, context: DecodeContext) -> Result<(), DecodeError> {
                encoding::$kind::merge(wire, self, from, context)
            }

            fn bytes(&self, tag: u32) -> usize {
                if *self == <$type>::default() { 0 } else { encoding::$kind::encoded_len(tag, self) }
            }
        }
    )+};
}
single!(f32 = float, i32 = int32, i64 = int64, String = string, Bytes = bytes, Vec<u8> = bytes);

thread_local! {
    /// Messages and names that the file that is read may still have, and bytes of numbers whose bytes in the file are few: they
    /// take more memory than they take of the file.
    static LEFT: Cell<(usize, usize)> = const { Cell::new((MAX_MESSAGES, MAX_PACKED_BYTES)) };
}

/// What is said of a file that has too much of them: prost makes no error of another's.
fn too_many() -> Result<(), DecodeError> {
    encoding::skip_field(WireType::EndGroup, 1, &mut &[][..], DecodeContext::default())
}

/// Counts a message or a name.
fn count_one(_: WireType, _: &impl Buf) -> Result<(), DecodeError> {
    let (messages, bytes) = LEFT.get();
    match messages.checked_sub(1) {
        Some(left) => {
            LEFT.set((left, bytes));
            Ok(())
        }
        None => too_many(),
    }
}

/// Counts packed numbers that may take a byte each.
fn count_packed(wire: WireType, from: &impl Buf) -> Result<(), DecodeError> {
    let length = match wire {
        WireType::LengthDelimited => encoding::decode_varint(&mut from.chunk())?,
        _ => 1,
    };
    let (messages, bytes) = LEFT.get();
    match usize::try_from(length).ok().and_then(|length| bytes.checked_sub(length)) {
        Some(left) => {
            LEFT.set((messages, left));
            Ok(())
        }
        None => too_many(),
    }
}

/// Nothing is counted: these take no more memory than they take of the file.
fn as_large(_: WireType, _: &impl Buf) -> Result<(), DecodeError> {
    Ok(())
}

impl ModelProto {
    /// Reads a file.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn read(bytes: Bytes) -> Result<Self, &'static str> {
        LEFT.set((MAX_MESSAGES, MAX_PACKED_BYTES));
        Self::decode(bytes).map_err(|_| match LEFT.get() {
            (0, _) => "it has more nodes, attributes and names than are supported",
            _ => "this is not an ONNX model, or it is damaged",
        })
    }
}

/// Fields of any number of values; numbers are written packed.
macro_rules! repeated {
    ($($type:ty = $kind:ident, $encode:ident, $encoded_len:ident, $count:ident);+ $(;)?) => {$(
        impl Field for Vec<$type> {
            fn write(&self, tag: u32, to: &mut impl BufMut) {
                encoding::$kind::$encode(tag, self, to);
            }

            fn read(&mut self, wire: WireType, from: &mut impl Buf, context: DecodeContext) -> Result<(), DecodeError> {
                $count(wire, from)?;
                encoding::$kind::merge_repeated(wire, self, from, context)
            }

            fn bytes(&self, tag: u32) -> usize {
                encoding::$kind::$encoded_len(tag, self)
            }
        }
    )+};
}
repeated! {
    f32 = float, encode_packed, encoded_len_packed, as_large;
    f64 = double, encode_packed, encoded_len_packed, as_large;
    i32 = int32, encode_packed, encoded_len_packed, count_packed;
    i64 = int64, encode_packed, encoded_len_packed, count_packed;
    u64 = uint64, encode_packed, encoded_len_packed, count_packed;
    String = string, encode_repeated, encoded_len_repeated, count_one;
    Bytes = bytes, encode_repeated, encoded_len_repeated, count_one;
    Vec<u8> = bytes, encode_repeated, encoded_len_repeated, count_one;
}

/// A message of this file.
trait Part: Message + Default {}

impl<M: Part> Field for Option<M> {
    fn write(&self, tag: u32, to: &mut impl BufMut) {
        self.iter().for_each(|message| encoding::message::encode(tag, message, to));
    }

    fn read(
        &mut self,
        wire: WireType,
        from: &mut impl Buf,
        context: DecodeContext,
    ) -> Result<(), DecodeError> {
        encoding::message::merge(wire, self.get_or_insert_default(), from, context)
    }

    fn bytes(&self, tag: u32) -> usize {
        self.as_ref().map_or(0, |message| encoding::message::encoded_len(tag, message))
    }
}

impl<M: Part> Field for Vec<M> {
    fn write(&self, tag: u32, to: &mut impl BufMut) {
        self.iter().for_each(|message| encoding::message::encode(tag, message, to));
    }

    fn read(
        &mut self,
        wire: WireType,
        from: &mut impl Buf,
        context: DecodeContext,
    ) -> Result<(), DecodeError> {
        count_one(wire, from)?;
        encoding::message::merge_repeated(wire, self, from, context)
    }

    fn bytes(&self, tag: u32) -> usize {
        encoding::message::encoded_len_repeated(tag, self)
    }
}

/// A struct that is a message: each field with its type and its tag.
macro_rules! message {
    ($(#[$meta:meta])* $name:ident { $($(#[$field_meta:meta])* $field:ident: $type:ty = $tag:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, Default, PartialEq)]
        pub(crate) struct $name {
            $($(#[$field_meta])* pub(crate) $field: $type),+
        }

        impl Part for $name {}

        impl Message for $name {
            fn encode_raw(&self, to: &mut impl BufMut) {
                $(self.$field.write($tag, to);)+
            }

            fn merge_field(
                &mut self,
                tag: u32,
                wire: WireType,
                from: &mut impl Buf,
                context: DecodeContext,
            ) -> Result<(), DecodeError> {
                match tag {
                    $($tag => self.$field.read(wire, from, context),)+
                    _ => encoding::skip_field(wire, tag, from, context),
                }
            }

            fn encoded_len(&self) -> usize {
                [$(self.$field.bytes($tag)),+].into_iter().sum()
            }

            fn clear(&mut self) {
                *self = Self::default();
            }
        }
    };
}

message! {
    /// A file.
    ModelProto {
        ir_version: i64 = 1,
        producer_name: String = 2,
        producer_version: String = 3,
        graph: Option<GraphProto> = 7,
        opset_import: Vec<OperatorSetIdProto> = 8,
        metadata_props: Vec<StringStringEntryProto> = 14,
        functions: Vec<FunctionProto> = 25,
    }
}

message! {
    /// A version of a domain's operators.
    OperatorSetIdProto {
        domain: String = 1,
        version: i64 = 2,
    }
}

/// Whether a domain is that of ONNX's own operators.
fn is_own(domain: &str) -> bool {
    matches!(domain, "" | "ai.onnx")
}

impl OperatorSetIdProto {
    /// Whether it is of ONNX's own operators.
    pub(crate) fn is_onnx(&self) -> bool {
        is_own(&self.domain)
    }
}

message! {
    /// Nodes that stand for one.
    FunctionProto {
        name: String = 1,
        input: Vec<String> = 4,
        output: Vec<String> = 5,
        /// Attributes without a default.
        attribute: Vec<String> = 6,
        node: Vec<NodeProto> = 7,
        opset_import: Vec<OperatorSetIdProto> = 9,
        domain: String = 10,
        /// Attributes with their defaults.
        attribute_proto: Vec<AttributeProto> = 11,
        overload: String = 13,
    }
}

message! {
    /// A key and its value.
    StringStringEntryProto {
        key: String = 1,
        value: String = 2,
    }
}

message! {
    /// A network, or the body of a node that holds one.
    GraphProto {
        node: Vec<NodeProto> = 1,
        name: String = 2,
        initializer: Vec<TensorProto> = 5,
        input: Vec<ValueInfoProto> = 11,
        output: Vec<ValueInfoProto> = 12,
        value_info: Vec<ValueInfoProto> = 13,
        /// What is in them does not matter: they are not supported.
        sparse_initializer: Vec<Bytes> = 15,
    }
}

message! {
    /// An operator with its inputs and outputs.
    NodeProto {
        input: Vec<String> = 1,
        output: Vec<String> = 2,
        name: String = 3,
        op_type: String = 4,
        attribute: Vec<AttributeProto> = 5,
        domain: String = 7,
        overload: String = 8,
    }
}

impl NodeProto {
    /// Whether its operator is one of ONNX's own.
    pub(crate) fn is_onnx(&self) -> bool {
        is_own(&self.domain)
    }

    /// Its operator, with the domain if there is one.
    pub(crate) fn operator(&self) -> String {
        let domain = if self.is_onnx() { String::new() } else { format!("{}.", self.domain) };
        format!("{domain}{}", self.op_type)
    }

    /// What it is called in errors: its name and operator.
    pub(crate) fn label(&self) -> String {
        let name = if self.name.is_empty() { self.output.first() } else { Some(&self.name) };
        format!("{:?} ({})", name.map_or("", String::as_str), self.op_type)
    }

    /// Every name that it reads, those in graphs of its own (If, Loop) included.
    pub(crate) fn names_used(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.input.iter().map(String::as_str).collect();
        for attribute in &self.attribute {
            for graph in attribute.g.iter().chain(&attribute.graphs) {
                names.extend(graph.output.iter().map(|output| output.name.as_str()));
                names.extend(graph.node.iter().flat_map(Self::names_used));
            }
        }
        names
    }
}

message! {
    /// A constant of an operator.
    AttributeProto {
        name: String = 1,
        f: f32 = 2,
        i: i64 = 3,
        s: Vec<u8> = 4,
        t: Option<TensorProto> = 5,
        g: Option<GraphProto> = 6,
        floats: Vec<f32> = 7,
        ints: Vec<i64> = 8,
        strings: Vec<Vec<u8>> = 9,
        tensors: Vec<TensorProto> = 10,
        graphs: Vec<GraphProto> = 11,
        /// Which of the fields is meant, by ONNX's number.
        r#type: i32 = 20,
        /// In a function: the function's attribute whose value it has.
        ref_attr_name: String = 21,
    }
}

message! {
    /// An input or output.
    ValueInfoProto {
        name: String = 1,
        r#type: Option<TypeProto> = 2,
    }
}

message! {
    /// The type of a value. Tensors alone: other types are not supported.
    TypeProto {
        tensor_type: Option<TensorType> = 1,
    }
}

message! {
    /// The type of a tensor.
    TensorType {
        elem_type: i32 = 1,
        shape: Option<TensorShapeProto> = 2,
    }
}

message! {
    /// The shape of a value.
    TensorShapeProto {
        dim: Vec<Dimension> = 1,
    }
}

/// A side of a shape; `None`: nothing is said of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Dimension(pub(crate) Option<Size>);

/// What is said of a side: one of the two, as protobuf's oneof has it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Size {
    Value(i64),
    Symbol(String),
}

impl Part for Dimension {}

impl Message for Dimension {
    fn encode_raw(&self, to: &mut impl BufMut) {
        match &self.0 {
            Some(Size::Value(size)) => encoding::int64::encode(1, size, to),
            Some(Size::Symbol(name)) => encoding::string::encode(2, name, to),
            None => {}
        }
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire: WireType,
        from: &mut impl Buf,
        context: DecodeContext,
    ) -> Result<(), DecodeError> {
        match tag {
            1 => {
                let mut size = 0;
                encoding::int64::merge(wire, &mut size, from, context)?;
                self.0 = Some(Size::Value(size));
            }
            2 => {
                let mut name = String::new();
                encoding::string::merge(wire, &mut name, from, context)?;
                self.0 = Some(Size::Symbol(name));
            }
            _ => encoding::skip_field(wire, tag, from, context)?,
        }
        Ok(())
    }

    fn encoded_len(&self) -> usize {
        match &self.0 {
            Some(Size::Value(size)) => encoding::int64::encoded_len(1, size),
            Some(Size::Symbol(name)) => encoding::string::encoded_len(2, name),
            None => 0,
        }
    }

    fn clear(&mut self) {
        self.0 = None;
    }
}

message! {
    /// A constant.
    TensorProto {
        dims: Vec<i64> = 1,
        data_type: i32 = 2,
        float_data: Vec<f32> = 4,
        int32_data: Vec<i32> = 5,
        string_data: Vec<Vec<u8>> = 6,
        int64_data: Vec<i64> = 7,
        name: String = 8,
        /// Little endian, row-major: a part of the file.
        raw_data: Bytes = 9,
        double_data: Vec<f64> = 10,
        uint64_data: Vec<u64> = 11,
        /// Where in which other file the numbers lie.
        external_data: Vec<StringStringEntryProto> = 13,
        data_location: i32 = 14,
    }
}

/// [`TensorProto::data_location`] of what lies in another file.
pub(crate) const EXTERNAL: i32 = 1;

/// The numbers of an enumeration.
macro_rules! enumeration {
    ($(#[$meta:meta])* $name:ident { $($variant:ident = $number:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(i32)]
        pub(crate) enum $name {
            $($variant = $number),+
        }

        impl TryFrom<i32> for $name {
            type Error = i32;

            fn try_from(number: i32) -> Result<Self, i32> {
                match number {
                    $($number => Ok(Self::$variant),)+
                    unknown => Err(unknown),
                }
            }
        }
    };
}

impl DataType {
    /// The type in the words of this project: `float32`, `int64`.
    pub(crate) fn name(self) -> String {
        match self {
            Self::Float => "float32".into(),
            Self::Double => "float64".into(),
            known => format!("{known:?}").to_lowercase(),
        }
    }
}

enumeration! {
    /// [`TensorProto::data_type`].
    DataType {
        Undefined = 0,
        Float = 1,
        Uint8 = 2,
        Int8 = 3,
        Uint16 = 4,
        Int16 = 5,
        Int32 = 6,
        Int64 = 7,
        String = 8,
        Bool = 9,
        Float16 = 10,
        Double = 11,
        Uint32 = 12,
        Uint64 = 13,
        Complex64 = 14,
        Complex128 = 15,
        Bfloat16 = 16,
        Float8e4m3fn = 17,
        Float8e4m3fnuz = 18,
        Float8e5m2 = 19,
        Float8e5m2fnuz = 20,
        Uint4 = 21,
        Int4 = 22,
        Float4e2m1 = 23,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A model with every field that is read, over three levels of messages.
    fn model() -> ModelProto {
        let tensor = TensorProto {
            dims: vec![2, -1, 300],
            data_type: DataType::Float16 as i32,
            float_data: vec![0.5, -1.0],
            int32_data: vec![-1, 70_000],
            string_data: vec![b"a".to_vec(), Vec::new()],
            int64_data: vec![i64::MIN],
            name: "weights".into(),
            raw_data: Bytes::from_static(&[1, 2, 3]),
            double_data: vec![1e300],
            uint64_data: vec![u64::MAX],
            external_data: vec![StringStringEntryProto { key: "location".into(), value: "a".into() }],
            data_location: EXTERNAL,
        };
        let attribute = AttributeProto {
            name: "value".into(),
            f: -0.5,
            i: -7,
            s: b"text".to_vec(),
            t: Some(tensor.clone()),
            floats: vec![1.0],
            ints: vec![3, -4],
            strings: vec![b"one".to_vec()],
            tensors: vec![tensor.clone()],
            graphs: vec![GraphProto { name: "inner".into(), ..GraphProto::default() }],
            r#type: 4,
            ..AttributeProto::default()
        };
        let dims =
            [Some(Size::Value(0)), Some(Size::Symbol("N".into())), Some(Size::Symbol(String::new())), None];
        let shape = TensorShapeProto { dim: dims.into_iter().map(Dimension).collect() };
        let tensor_type = Some(TensorType { elem_type: 1, shape: Some(shape) });
        let graph = GraphProto {
            node: vec![NodeProto {
                input: vec!["x".into(), String::new()],
                op_type: "Conv".into(),
                attribute: vec![attribute],
                ..NodeProto::default()
            }],
            initializer: vec![tensor],
            input: vec![ValueInfoProto { name: "x".into(), r#type: Some(TypeProto { tensor_type }) }],
            // a SparseTensorProto with one dimension, of 5
            sparse_initializer: vec![Bytes::from_static(&[0x1a, 1, 5])],
            ..GraphProto::default()
        };
        let opset = OperatorSetIdProto { domain: String::new(), version: 17 };
        ModelProto { ir_version: 8, graph: Some(graph), opset_import: vec![opset], ..ModelProto::default() }
    }

    #[test]
    fn messages_are_read_as_written() {
        let (model, bytes) = (model(), model().encode_to_vec());
        assert_eq!(bytes.len(), model.encoded_len());
        assert!(ModelProto::decode(Bytes::from(bytes)).unwrap() == model);
        assert!(ModelProto::default().encode_to_vec().is_empty());
    }

    #[cfg(feature = "tract")]
    #[test]
    fn the_bytes_are_those_of_prosts_derive() {
        let bytes = model().encode_to_vec();
        let theirs = tract_onnx::pb::ModelProto::decode(&*bytes).unwrap();
        assert_eq!(theirs.graph.as_ref().unwrap().node[0].attribute[0].ints, [3, -4]);
        assert!(ModelProto::decode(Bytes::from(theirs.encode_to_vec())).unwrap() == model());
    }

    #[test]
    fn the_last_of_a_oneof_counts_and_unknown_fields_are_passed_over() {
        // dim_param "N", then dim_value 5, then field 9 of 2 bytes
        let bytes: &[u8] = &[0x12, 1, b'N', 0x08, 5, 0x4a, 2, 0, 0];
        assert!(Dimension::decode(bytes).unwrap() == Dimension(Some(Size::Value(5))));
        // numbers that are not packed, and packed ones, of one field
        let bytes: &[u8] = &[0x08, 1, 0x0a, 2, 2, 3];
        assert_eq!(TensorProto::decode(bytes).unwrap().dims, [1, 2, 3]);
        assert!(TensorProto::decode(&[0x0a, 200][..]).is_err(), "cut off");
        // a graph in an attribute of a node of a graph, and so on
        let mut nested = Vec::new();
        for level in 0..1000 {
            // from the inside: AttributeProto.g, NodeProto.attribute, GraphProto.node outermost
            let tag = [0x0a, 0x32, 0x2a][level % 3];
            let mut outer = vec![tag];
            encoding::encode_varint(nested.len() as u64, &mut outer);
            outer.extend(&nested);
            nested = outer;
        }
        assert!(GraphProto::decode(&*nested).is_err());
    }
}
