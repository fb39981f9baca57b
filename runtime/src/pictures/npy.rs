//! Arrays in NumPy's `.npy` format.

use crate::files::write_atomically;
use crate::model::limits::{MAX_RUN_VALUES, read_bounded};
use crate::{Error, Result};
use npyz::{NpyFile, Order, WriterBuilder};
use std::path::Path;

/// Longest header that is parsed: NumPy's own for a float32 array of up to four dimensions takes
/// 118 or 182 bytes. The parser is recursive, so a longer one could exhaust the stack.
const LONGEST_HEADER: u16 = 256;

/// The values of an array, in C order.
#[derive(Clone, Debug, PartialEq)]
pub enum NpyValues {
    /// `'<f4'`.
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

/// Reads a float32 array: its shape, and its values in C order.
///
/// # Errors
/// As [`read_npy_values`], and if it holds something else than float32.
pub fn read_npy(path: &Path) -> Result<(Vec<usize>, Vec<f32>)> {
    match read_npy_values(path)? {
        (shape, NpyValues::Float32(values)) => Ok((shape, values)),
        (_, other) => {
            let problem =
                format!("it holds {}: only float32 is read here; convert it with astype", other.dtype());
            Err(Error::unsupported(path.display(), problem))
        }
    }
}

/// Reads an array of float32, uint8 or int64: its shape, and its values in C order.
///
/// # Errors
/// If the file is not a `.npy` file of one of these types in C order, if its size is not what its
/// header says, or if it is larger than [`MAX_RUN_VALUES`] float32 values are.
pub fn read_npy_values(path: &Path) -> Result<(Vec<usize>, NpyValues)> {
    let malformed = |problem: &str| Error::malformed(path.display(), problem);
    let bytes = read_bounded(path, 4 * MAX_RUN_VALUES as u64 + u64::from(LONGEST_HEADER))?;
    // Magic, version 1.0, then the header's length in 16 bits (NEP 1).
    let Some(b"\x93NUMPY\x01\x00") = bytes.get(..8) else {
        return Err(malformed("this is not a .npy file of version 1.0"));
    };
    match bytes.get(8..10) {
        Some(&[low, high]) if u16::from_le_bytes([low, high]) <= LONGEST_HEADER => {}
        _ => return Err(malformed("its .npy header is too long or cut off")),
    }
    let mut rest = &bytes[..];
    let file = NpyFile::new(&mut rest).map_err(|e| malformed(&format!("its .npy header is damaged: {e}")))?;
    let dtype = file.dtype().descr();
    let size = match dtype.as_str() {
        "'<f4'" => 4,
        "'|u1'" => 1,
        "'<i8'" => 8,
        _ => {
            let problem =
                format!("it holds {dtype}: only float32, uint8 and int64 are read; convert it with astype");
            return Err(Error::unsupported(path.display(), problem));
        }
    };
    if file.order() != Order::C && file.shape().len() > 1 {
        return Err(Error::unsupported(path.display(), "it is in Fortran order: save it in C order"));
    }
    let shape: Option<Vec<usize>> = file.shape().iter().map(|side| usize::try_from(*side).ok()).collect();
    let shape = shape.ok_or_else(|| malformed("its shape is too large"))?;
    let values = shape.iter().try_fold(1usize, |product, side| product.checked_mul(*side));
    drop(file);
    if values.and_then(|values| values.checked_mul(size)) != Some(rest.len()) {
        let problem =
            format!("its header says {shape:?}, which does not fit the {} bytes after it", rest.len());
        return Err(malformed(&problem));
    }
    let values = match size {
        4 => NpyValues::Float32(rest.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()),
        8 => NpyValues::Int64(rest.as_chunks().0.iter().map(|b| i64::from_le_bytes(*b)).collect()),
        _ => NpyValues::Uint8(rest.to_vec()),
    };
    Ok((shape, values))
}

/// Writes a float32 array in C order.
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
    let sides: Vec<u64> = shape.iter().map(|side| *side as u64).collect();
    write_atomically(path, |writer| {
        let mut array = npyz::WriteOptions::new().default_dtype().shape(&sides).writer(writer).begin_nd()?;
        array.extend(values.iter().copied())?;
        array.finish()
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
        }
        assert!(write_npy(&path, &[5, 5], &values).is_err());
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
        let huge = "{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387905, 4), }\n";
        let deep = format!("{{'descr': {}", "(".repeat(60_000));
        for (bytes, expected) in [
            (vec![], "not a .npy file"),
            (b"\x89PNG\r\n\x1a\n and more".to_vec(), "not a .npy file"),
            (good[..20].to_vec(), "header"),
            (good[..good.len() - 1].to_vec(), "does not fit"),
            (npy("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 1), }\n", &one), "does not fit"),
            (npy(huge, &[0; 16]), "a.npy"),
            (npy("{'descr': '<f8', 'fortran_order': False, 'shape': (1,), }\n", &[0; 8]), "float32"),
            (npy("{'descr': '<f4', 'fortran_order': True, 'shape': (1, 1), }\n", &one), "Fortran"),
            (npy("{'descr': ", &one), "header"),
            (npy(&deep, &one), "header"),
            (npy(&"(".repeat(250), &one), "header"),
        ] {
            let line = read(&bytes).unwrap_err().to_string();
            assert!(line.contains(expected) && line.contains("a.npy") && !line.contains('\n'), "{line}");
        }
    }
}
