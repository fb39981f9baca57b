//! Pictures of one size: a view of rows in memory or in a mapped file.

use std::sync::Arc;

use memmap2::Mmap;
use sha2::{Digest, Sha256};

/// Rows that pictures are views of.
enum Store {
    /// (N, height, width, channels), u8.
    Memory(Vec<u8>),
    /// Records of a file, each beginning with the (height, width, channels) bytes of its picture.
    Mapped(Mapped),
}

/// Records of a mapped file.
pub(super) struct Mapped {
    /// The file; `None` where there is no picture, since nothing cannot be mapped.
    pub(super) map: Option<Mmap>,
    /// Bytes of a record.
    pub(super) stride: usize,
    /// SHA-256 of the bytes of each record's picture.
    pub(super) sha256: Vec<[u8; 32]>,
}

/// Pictures of one size, u8, NHWC, with a class each or none. A view: cheap to clone, and to choose from.
#[derive(Clone)]
pub struct Pictures {
    store: Arc<Store>,
    /// Where each picture is in the store.
    rows: Arc<[u32]>,
    labels: Arc<[u16]>,
    values: usize,
}

impl Pictures {
    /// The pictures `pixels`, (N, height, width, channels) of `values` each, with a class each or none.
    pub fn from_rows(values: usize, pixels: Vec<u8>, labels: Vec<u16>) -> Self {
        let count = pixels.len() / values.max(1);
        debug_assert!(labels.is_empty() || labels.len() == count);
        let rows = (0..count as u32).collect();
        Self { store: Arc::new(Store::Memory(pixels)), rows, labels: labels.into(), values }
    }

    /// The records `rows` of a file, with a class each or none.
    pub(super) fn mapped(values: usize, mapped: Mapped) -> Self {
        let rows = (0..mapped.sha256.len() as u32).collect();
        Self { store: Arc::new(Store::Mapped(mapped)), rows, labels: Arc::from([]), values }
    }

    /// No pictures of this many values.
    pub fn none(values: usize) -> Self {
        Self::from_rows(values, Vec::new(), Vec::new())
    }

    /// How many.
    pub fn count(&self) -> usize {
        self.rows.len()
    }

    /// Values per picture.
    pub fn values(&self) -> usize {
        self.values
    }

    /// Picture `index`, (height, width, channels).
    pub fn picture(&self, index: usize) -> &[u8] {
        let row = self.rows[index] as usize;
        match &*self.store {
            Store::Memory(pixels) => &pixels[row * self.values..][..self.values],
            Store::Mapped(Mapped { map, stride, .. }) => {
                let bytes: &[u8] = map.as_ref().map_or(&[], |map| map);
                &bytes[row * stride..][..self.values]
            }
        }
    }

    /// Every picture, (height, width, channels) each.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        (0..self.count()).map(|index| self.picture(index))
    }

    /// All values in one piece, (N, height, width, channels): a copy, for sets that are known to be small.
    pub fn to_pixels(&self) -> Vec<u8> {
        self.iter().flatten().copied().collect()
    }

    /// The class of each, (N), or empty.
    pub fn labels(&self) -> &[u16] {
        &self.labels
    }

    /// The classes of the pictures `indices`; `None` if they have none.
    pub fn classes(&self, indices: impl IntoIterator<Item = usize>) -> Option<Vec<u32>> {
        let of = |index: usize| u32::from(self.labels[index]);
        (!self.labels.is_empty()).then(|| indices.into_iter().map(of).collect())
    }

    /// The pictures `indices`, in that order, as a view of the same rows.
    pub fn chosen(&self, indices: impl IntoIterator<Item = usize> + Clone) -> Self {
        let labels = if self.labels.is_empty() {
            Arc::from([])
        } else {
            indices.clone().into_iter().map(|index| self.labels[index]).collect()
        };
        let rows = indices.into_iter().map(|index| self.rows[index]).collect();
        Self { store: self.store.clone(), rows, labels, values: self.values }
    }

    /// The same pictures with these classes.
    pub(super) fn with_labels(self, labels: Vec<u16>) -> Self {
        debug_assert!(labels.is_empty() || labels.len() == self.count());
        Self { labels: labels.into(), ..self }
    }

    /// Adds number, pictures and classes to a hash: of a mapped file the hashes that are known of its pictures, so
    /// that a large set is not read for it.
    pub(super) fn hash_into(&self, hash: &mut Sha256) {
        hash.update((self.count() as u64).to_le_bytes());
        match &*self.store {
            Store::Memory(_) => self.iter().for_each(|picture| hash.update(picture)),
            Store::Mapped(mapped) => {
                self.rows.iter().for_each(|row| hash.update(mapped.sha256[*row as usize]));
            }
        }
        self.labels.iter().for_each(|label| hash.update(label.to_le_bytes()));
    }
}
