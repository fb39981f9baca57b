//! IDX, the MNIST family's format (Y. LeCun, C. Cortes, C. Burges, "The MNIST database"), plain or gzip.
//!
//! Big-endian: two zero bytes, a type (0x08: u8), the number of axes, each axis' length as u32, then
//! the values, the last axis fastest.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use flate2::read::MultiGzDecoder;

use crate::{Error, Result};

/// Bound of one unpacked file: 2 GiB, 45 times MNIST.
const LARGEST_FILE: u64 = 2 << 30;
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
const UNSIGNED_BYTE: u8 = 0x08;

/// An unpacked IDX file of bytes.
pub(crate) struct Idx {
    /// Length of each axis.
    pub(crate) axes: Vec<usize>,
    /// Row-major values.
    pub(crate) values: Vec<u8>,
}

/// Reads the IDX file `path` with `axes` axes.
pub(crate) fn read(path: &Path, axes: usize) -> Result<Idx> {
    let file = File::open(path).map_err(|e| Error::io("read", path, e))?;
    parse(BufReader::new(file), path, axes)
}

/// Reads IDX, gzip or plain, from `source`; `path` is only for messages.
pub(crate) fn parse(mut source: impl Read, path: &Path, axes: usize) -> Result<Idx> {
    let mut head = [0u8; 2];
    source.read_exact(&mut head).map_err(|_| Error::data(path, "is shorter than an IDX header"))?;
    let whole = head.chain(source);
    if head == GZIP_MAGIC {
        unpacked(MultiGzDecoder::new(whole), path, axes)
    } else {
        unpacked(whole, path, axes)
    }
}

fn unpacked(mut source: impl Read, path: &Path, axes: usize) -> Result<Idx> {
    let mut header = vec![0u8; 4 + 4 * axes];
    let short = |e: std::io::Error| {
        Error::data(path, format!("ends inside its IDX header, or its gzip is damaged ({e})"))
    };
    source.read_exact(&mut header[..4]).map_err(short)?;
    if header[..2] != [0, 0] || header[2] != UNSIGNED_BYTE || usize::from(header[3]) != axes {
        return Err(Error::data(
            path,
            format!(
                "has the wrong magic {:02x}{:02x}{:02x}{:02x}; an IDX file of bytes with {axes} axes starts with 000008{axes:02x}",
                header[0], header[1], header[2], header[3]
            ),
        ));
    }
    source.read_exact(&mut header[4..]).map_err(short)?;
    let lengths: Vec<u64> = header[4..]
        .chunks_exact(4)
        .map(|b| u64::from(u32::from_be_bytes([b[0], b[1], b[2], b[3]])))
        .collect();
    let claimed = lengths.iter().try_fold(1u64, |product, length| product.checked_mul(*length));
    let Some(claimed) = claimed.filter(|claimed| *claimed <= LARGEST_FILE) else {
        return Err(Error::data(
            path,
            format!("claims axes {lengths:?}: more than {LARGEST_FILE} bytes are not read"),
        ));
    };
    let mut values = Vec::new();
    // one byte more than claimed shows files that go on
    source
        .take(claimed + 1)
        .read_to_end(&mut values)
        .map_err(|e| Error::data(path, format!("cannot be unpacked: {e}; fetch it again")))?;
    if values.len() as u64 != claimed {
        let got = if values.len() as u64 > claimed { "more".into() } else { values.len().to_string() };
        return Err(Error::data(
            path,
            format!("claims {claimed} values in its header but holds {got}; fetch it again"),
        ));
    }
    Ok(Idx { axes: lengths.iter().map(|length| *length as usize).collect(), values })
}
