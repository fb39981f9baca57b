//! Arrays in NumPy's `.npy` format: <https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>.

use crate::files::write_atomically;
use crate::model::limits::{MAX_RUN_VALUES, read_bounded};
use crate::{Error, Result};
use std::io::Write;
use std::path::Path;

/// Longest header that is parsed: NumPy's own limit.
const LONGEST_HEADER: usize = 10_000;
/// Most dimensions: NumPy's own limit.
const MOST_DIMENSIONS: usize = 64;
/// NumPy pads headers, so that the values start at a multiple of this.
const ALIGNMENT: usize = 64;
const MAGIC: &[u8; 6] = b"\x93NUMPY";
const READ: &str = "only float32, float64, uint8 and int64 are read";

/// The values of an array, in C order.
#[derive(Clone, Debug, PartialEq)]
pub enum NpyValues {
    /// `'<f4'`, or `'<f8'` rounded to float32.
    Float32(Vec<f32>),
    /// `'|u1'`.
    Uint8(Vec<u8>),
    /// `'<i8'`.
    Int64(Vec<i64>),
}

impl NpyValues {
    /// The element type in NumPy's words.
    pub fn dtype(&self) -> &'static str {
        match self {
            Self::Float32(_) => "float32",
            Self::Uint8(_) => "uint8",
            Self::Int64(_) => "int64",
        }
    }
}

/// Reads an array of float32, or of float64 rounded to float32: its shape, and its values in C order.
///
/// # Errors
/// As [`read_npy_values`], and if it holds integers.
pub fn read_npy(path: &Path) -> Result<(Vec<usize>, Vec<f32>)> {
    match read_npy_values(path)? {
        (shape, NpyValues::Float32(values)) => Ok((shape, values)),
        (_, other) => {
            let problem = format!(
                "it holds {}: only float32 and float64 are read here; convert it with astype",
                other.dtype()
            );
            Err(Error::unsupported(path.display(), problem))
        }
    }
}

/// Reads an array of float32, float64 (rounded to float32), uint8 or int64: its shape, and its values in C order.
/// Format versions 1.0 to 3.0; an array in Fortran order is brought to C order.
///
/// # Errors
/// If the file is not a `.npy` file of one of these types, little-endian, if its size is not what its header says, or
/// if it is larger than [`MAX_RUN_VALUES`] float32 values are.
pub fn read_npy_values(path: &Path) -> Result<(Vec<usize>, NpyValues)> {
    let malformed = |problem: &str| Error::malformed(path.display(), problem);
    let bytes = read_bounded(path, (4 * MAX_RUN_VALUES + LONGEST_HEADER) as u64)?;
    let (text, data) = split(&bytes).map_err(malformed)?;
    let header = Header::parse(&text).ok_or_else(|| malformed("its .npy header is damaged"))?;
    let Header { descr, fortran_order, shape } = header;
    let dtype = Dtype::of(descr).map_err(|problem| Error::unsupported(path.display(), problem))?;
    if shape.len() > MOST_DIMENSIONS {
        let problem = format!("it has {} dimensions: at most {MOST_DIMENSIONS} are read", shape.len());
        return Err(Error::unsupported(path.display(), problem));
    }
    let values = shape.iter().try_fold(1usize, |product, side| product.checked_mul(*side));
    if values.and_then(|values| values.checked_mul(dtype.size())) != Some(data.len()) {
        let problem =
            format!("its header says {shape:?}, which does not fit the {} bytes after it", data.len());
        return Err(malformed(&problem));
    }
    let floats = |values| NpyValues::Float32(in_c_order(fortran_order, &shape, values));
    let values = match dtype {
        Dtype::Float32 => floats(data.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()),
        Dtype::Float64 => floats(data.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b) as f32).collect()),
        Dtype::Uint8 => NpyValues::Uint8(in_c_order(fortran_order, &shape, data.to_vec())),
        Dtype::Int64 => {
            let values = data.as_chunks().0.iter().map(|b| i64::from_le_bytes(*b)).collect();
            NpyValues::Int64(in_c_order(fortran_order, &shape, values))
        }
    };
    Ok((shape, values))
}

/// The header's text, and the values' bytes.
fn split(bytes: &[u8]) -> std::result::Result<(String, &[u8]), &'static str> {
    const CUT: &str = "its .npy header is too long or cut off";
    let rest = bytes.strip_prefix(MAGIC).ok_or("this is not a .npy file")?;
    let (version, rest) = rest.split_first_chunk::<2>().ok_or(CUT)?;
    let (length, rest) = match version {
        [1, 0] => {
            let (length, rest) = rest.split_first_chunk().ok_or(CUT)?;
            (u32::from(u16::from_le_bytes(*length)), rest)
        }
        [2 | 3, 0] => {
            let (length, rest) = rest.split_first_chunk().ok_or(CUT)?;
            (u32::from_le_bytes(*length), rest)
        }
        _ => return Err("this .npy file has a version other than 1.0, 2.0 and 3.0"),
    };
    let length = usize::try_from(length).ok().filter(|length| *length <= LONGEST_HEADER).ok_or(CUT)?;
    let (text, data) = rest.split_at_checked(length).ok_or(CUT)?;
    // Only names of fields can be other than ASCII, and arrays with fields are refused.
    Ok((String::from_utf8_lossy(text).into_owned(), data))
}

/// Element types that are read.
#[derive(Clone, Copy)]
enum Dtype {
    Float32,
    Float64,
    Uint8,
    Int64,
}

impl Dtype {
    /// From `'<f4'`, with its quotes; or why it is not read.
    fn of(descr: &str) -> std::result::Result<Self, String> {
        match descr.trim_matches(['\'', '"']) {
            "<f4" => Ok(Self::Float32),
            "<f8" => Ok(Self::Float64),
            "<i8" => Ok(Self::Int64),
            // the byte order of single bytes does not matter
            "|u1" | "<u1" | ">u1" => Ok(Self::Uint8),
            other if other.starts_with('>') => Err(format!(
                "its values are big-endian ({descr}), which is not read: convert it with astype('<{}')",
                &other[1..]
            )),
            _ => Err(format!("it holds {descr}: {READ}; convert it with astype")),
        }
    }

    /// Bytes of a value.
    fn size(self) -> usize {
        match self {
            Self::Uint8 => 1,
            Self::Float32 => 4,
            Self::Float64 | Self::Int64 => 8,
        }
    }
}

/// What a header says.
struct Header<'a> {
    /// The element type as it is written, with its quotes or brackets.
    descr: &'a str,
    /// The first index runs fastest, not the last.
    fortran_order: bool,
    shape: Vec<usize>,
}

impl<'a> Header<'a> {
    /// Parses a Python literal: `{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }`. `None`: it is none.
    fn parse(text: &'a str) -> Option<Self> {
        let mut literal = Literal(text);
        let (mut descr, mut fortran_order, mut shape) = (None, None, None);
        literal.take("{")?;
        while literal.take("}").is_none() {
            let key = literal.quoted()?;
            literal.take(":")?;
            match key.trim_matches(['\'', '"']) {
                "descr" => descr = Some(literal.quoted().or_else(|| literal.bracketed())?),
                "fortran_order" => fortran_order = Some(literal.truth()?),
                "shape" => shape = Some(literal.tuple()?),
                _ => return None,
            }
            if literal.take(",").is_none() {
                literal.take("}")?;
                break;
            }
        }
        let ends = literal.0.trim_end_matches('\0').trim().is_empty();
        ends.then_some(Self { descr: descr?, fortran_order: fortran_order?, shape: shape? })
    }
}

/// What is left of a Python literal.
struct Literal<'a>(&'a str);

impl<'a> Literal<'a> {
    /// Passes over a token, if it comes next.
    fn take(&mut self, token: &str) -> Option<()> {
        self.0 = self.0.trim_start().strip_prefix(token)?;
        Some(())
    }

    /// The next `length` bytes.
    fn cut(&mut self, length: usize) -> Option<&'a str> {
        let (word, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(word)
    }

    /// A string, with its quotes; one with escapes is not taken.
    fn quoted(&mut self) -> Option<&'a str> {
        self.0 = self.0.trim_start();
        let quote = self.0.chars().next().filter(|first| matches!(first, '\'' | '"'))?;
        let length = self.0[1..].find(quote)?;
        let word = self.cut(length + 2)?;
        (!word.contains('\\')).then_some(word)
    }

    /// A list up to the bracket that closes it, whatever is inside.
    fn bracketed(&mut self) -> Option<&'a str> {
        self.0 = self.0.trim_start();
        let mut depth = 0usize;
        for (at, letter) in self.0.char_indices() {
            match letter {
                '[' => depth += 1,
                ']' => depth = depth.checked_sub(1)?,
                _ => {}
            }
            if depth == 0 {
                return if at == 0 { None } else { self.cut(at + 1) };
            }
        }
        None
    }

    fn truth(&mut self) -> Option<bool> {
        if self.take("True").is_some() { Some(true) } else { self.take("False").map(|()| false) }
    }

    /// Whole numbers in parentheses; Python 2 wrote an L after them.
    fn tuple(&mut self) -> Option<Vec<usize>> {
        let mut numbers = Vec::new();
        self.take("(")?;
        while self.take(")").is_none() {
            self.0 = self.0.trim_start();
            let digits = self.0.bytes().take_while(u8::is_ascii_digit).count();
            numbers.push(self.cut(digits)?.parse().ok()?);
            let _python2 = self.take("L");
            if self.take(",").is_none() {
                self.take(")")?;
                break;
            }
        }
        Some(numbers)
    }
}

/// Brings values to C order, in which the last index runs fastest. There are as many as `shape` says.
fn in_c_order<T: Copy>(fortran_order: bool, shape: &[usize], values: Vec<T>) -> Vec<T> {
    if !fortran_order || values.is_empty() {
        return values;
    }
    let strides: Vec<usize> = (0..shape.len()).map(|axis| shape[..axis].iter().product()).collect();
    let mut index = vec![0; shape.len()];
    let mut from = 0;
    let mut ordered = Vec::with_capacity(values.len());
    for _ in 0..values.len() {
        ordered.push(values[from]);
        for axis in (0..shape.len()).rev() {
            index[axis] += 1;
            from += strides[axis];
            if index[axis] < shape[axis] {
                break;
            }
            from -= strides[axis] * shape[axis];
            index[axis] = 0;
        }
    }
    ordered
}

/// Writes a float32 array in C order, format version 1.0.
///
/// # Errors
/// If `values` does not have the size of `shape`, or the file cannot be written.
pub fn write_npy(path: &Path, shape: &[usize], values: &[f32]) -> Result<()> {
    if shape.iter().product::<usize>() != values.len() {
        return Err(Error::invalid(format_args!(
            "{} values do not fill an array of {shape:?}",
            values.len()
        )));
    }
    let sides: String = shape.iter().map(|side| format!("{side}, ")).collect();
    let mut header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({sides}), }}");
    let before = MAGIC.len() + 2 + 2; // then version and length
    let padded = (before + header.len() + 1).next_multiple_of(ALIGNMENT) - before;
    let length = u16::try_from(padded).map_err(|_| Error::invalid("an array of that many dimensions"))?;
    header = format!("{header:<width$}\n", width = padded - 1);
    write_atomically(path, |writer| {
        writer.write_all(MAGIC)?;
        writer.write_all(&[1, 0])?;
        writer.write_all(&length.to_le_bytes())?;
        writer.write_all(header.as_bytes())?;
        values.iter().try_for_each(|value| writer.write_all(&value.to_le_bytes()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A `.npy` file by hand, after NEP 1.
    fn npy(header: &str, data: &[u8]) -> Vec<u8> {
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((header.len() as u16).to_le_bytes());
        bytes.extend(header.bytes());
        bytes.extend(data);
        bytes
    }

    #[test]
    fn arrays_are_read_as_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npy");
        let values: Vec<f32> = (0..24).map(|i| i as f32 * 0.1 - 1.0).collect();
        for shape in [vec![24], vec![2, 12], vec![1, 2, 3, 4], vec![4, 6, 1, 1]] {
            write_npy(&path, &shape, &values).unwrap();
            assert_eq!(read_npy(&path).unwrap(), (shape, values.clone()));
            let bytes = std::fs::read(&path).unwrap();
            assert_eq!((bytes.len() - 4 * values.len()) % ALIGNMENT, 0, "values are aligned");
        }
        write_npy(&path, &[], &values[..1]).unwrap();
        assert_eq!(read_npy(&path).unwrap(), (vec![], values[..1].to_vec()));
        assert!(write_npy(&path, &[5, 5], &values).is_err());
    }

    #[test]
    fn every_version_and_order_that_numpy_writes_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npy");
        let read = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            read_npy(&path)
        };
        let floats = |values: &[f32]| -> Vec<u8> { values.iter().flat_map(|v| v.to_le_bytes()).collect() };
        let c_order = floats(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let expected = (vec![2, 3], vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let text = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }\n";
        for version in [2u8, 3] {
            let mut bytes = b"\x93NUMPY".to_vec();
            bytes.extend([version, 0]);
            bytes.extend((text.len() as u32).to_le_bytes());
            bytes.extend(text.bytes().chain(c_order.iter().copied()));
            assert_eq!(read(&bytes).unwrap(), expected, "version {version}");
        }
        for text in [
            "{\"shape\": (2,3), \"descr\": \"<f4\", \"fortran_order\": False}",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (2L, 3L), }   \n",
        ] {
            assert_eq!(read(&npy(text, &c_order)).unwrap(), expected, "{text}");
        }
        let text = "{'descr': '<f4', 'fortran_order': True, 'shape': (2, 3), }\n";
        let fortran = floats(&[1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
        assert_eq!(read(&npy(text, &fortran)).unwrap(), expected);
        // value 100·i + 10·j + k at (i, j, k)
        let text = "{'descr': '|u1', 'fortran_order': True, 'shape': (2, 3, 2), }\n";
        let at = |i: u8, j: u8, k: u8| 100 * i + 10 * j + k;
        let mut bytes = Vec::new();
        (0..2).for_each(|k| (0..3).for_each(|j| (0..2).for_each(|i| bytes.push(at(i, j, k)))));
        let mut values = Vec::new();
        (0..2).for_each(|i| (0..3).for_each(|j| (0..2).for_each(|k| values.push(at(i, j, k)))));
        std::fs::write(&path, npy(text, &bytes)).unwrap();
        assert_eq!(read_npy_values(&path).unwrap(), (vec![2, 3, 2], NpyValues::Uint8(values)));
        // 0.1 in float64 is another number than in float32
        let doubles: Vec<u8> = [0.1f64, -2.5].iter().flat_map(|v| v.to_le_bytes()).collect();
        let text = "{'descr': '<f8', 'fortran_order': False, 'shape': (1, 2), }\n";
        assert_eq!(read(&npy(text, &doubles)).unwrap(), (vec![1, 2], vec![0.1, -2.5]));
    }

    #[test]
    fn files_of_other_makers_are_read_and_bad_ones_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npy");
        let read = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            read_npy(&path)
        };
        let one = 1f32.to_le_bytes();
        let good = npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1, 1), }\n", &one);
        assert_eq!(read(&good).unwrap(), (vec![1, 1], vec![1.0]));
        for (dtype, bytes, expected) in [
            ("|u1", vec![3, 255], NpyValues::Uint8(vec![3, 255])),
            ("<i8", [[255; 8], 9i64.to_le_bytes()].concat(), NpyValues::Int64(vec![-1, 9])),
        ] {
            let header = format!("{{'descr': '{dtype}', 'fortran_order': False, 'shape': (2,), }}\n");
            let line = read(&npy(&header, &bytes)).unwrap_err().to_string();
            assert!(line.contains(expected.dtype()) && line.contains("only float32"), "{line}");
            assert_eq!(read_npy_values(&path).unwrap(), (vec![2], expected));
        }
        let of = |descr: &str| format!("{{'descr': {descr}, 'fortran_order': False, 'shape': (1,), }}\n");
        let huge = "{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387905, 4), }\n";
        let endless =
            format!("{{'descr': '<f4', 'fortran_order': True, 'shape': ({}), }}\n", "1,".repeat(65));
        let deep = format!("{{'descr': {}", "[".repeat(60_000));
        for (bytes, expected) in [
            (vec![], "not a .npy file"),
            (b"\x89PNG\r\n\x1a\n and more".to_vec(), "not a .npy file"),
            (b"\x93NUMPY\x04\x00\x10\x00".to_vec(), "version"),
            (b"\x93NUMPY\x02\x00\xff\xff\xff\xff".to_vec(), "header"),
            (b"\x93NUMPY\x02\x00\x10".to_vec(), "header"),
            (good[..7].to_vec(), "header"),
            (good[..20].to_vec(), "header"),
            (good[..good.len() - 1].to_vec(), "does not fit"),
            (npy("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 1), }\n", &one), "does not fit"),
            (npy("{'descr': '<f4', 'fortran_order': False, 'shape': (0, 1), }\n", &one), "does not fit"),
            (npy(huge, &[0; 16]), "does not fit"),
            (npy(&of("'<f2'"), &[0; 2]), "float64"),
            (npy(&of("'>f4'"), &one), "big-endian ('>f4'), which is not read: convert it with astype('<f4')"),
            (npy(&of("[('x', '<f4')]"), &one), "[('x', '<f4')]"),
            (npy(&of("[('x', '<f4')"), &one), "header"),
            (npy("{'descr': '<f4', 'fortran_order': 0, 'shape': (1, 1), }\n", &one), "header"),
            (npy("{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 1), }\n", &one), "header"),
            (npy("{'descr': '<f4', 'fortran_order': False, 'shape': 1, }\n", &one), "header"),
            (npy("{'descr': '<f4', 'shape': (1, 1), }\n", &one), "header"),
            (npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1, 1), } 1\n", &one), "header"),
            (npy(&endless, &one), "65 dimensions"),
            (npy("{'descr': ", &one), "header"),
            (npy(&deep, &one), "header"),
            (npy(&"(".repeat(250), &one), "header"),
        ] {
            let line = read(&bytes).unwrap_err().to_string();
            assert!(line.contains(expected) && line.contains("a.npy") && !line.contains('\n'), "{line}");
        }
    }
}
