//! Memory that is used again: a training step needs the same buffers as the one before it, and fresh
//! pages cost more than many a kernel.

use std::collections::HashMap;
use std::ops::{Deref, DerefMut};
use std::sync::{LazyLock, Mutex, PoisonError};

/// Buffers that are free, by length.
static FREE: LazyLock<Mutex<HashMap<usize, Vec<Vec<f32>>>>> = LazyLock::new(Mutex::default);

/// A vector of a fixed length that goes back to the free ones when dropped.
#[derive(Debug, Default)]
pub(crate) struct Buffer(Vec<f32>);

impl Buffer {
    /// `len` values that are whatever was there before.
    pub(crate) fn any(len: usize) -> Self {
        let mut free = FREE.lock().unwrap_or_else(PoisonError::into_inner);
        let found = free.get_mut(&len).and_then(Vec::pop);
        drop(free);
        Self(found.unwrap_or_else(|| vec![0.0; len]))
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let values = std::mem::take(&mut self.0);
        if !values.is_empty() {
            let mut free = FREE.lock().unwrap_or_else(PoisonError::into_inner);
            free.entry(values.len()).or_default().push(values);
        }
    }
}

impl Clone for Buffer {
    fn clone(&self) -> Self {
        let mut copy = Self::any(self.len());
        copy.copy_from_slice(self);
        copy
    }
}

impl Deref for Buffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.0
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.0
    }
}

/// Gives the memory of all free buffers back: after work of other sizes than a training step's.
pub(crate) fn release() {
    FREE.lock().unwrap_or_else(PoisonError::into_inner).clear();
}
