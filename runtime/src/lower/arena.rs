//! Memory that planes lie in.

use std::ops::{Deref, DerefMut};

/// Bytes of a cache line: a vector that lies in two of them is loaded in twice the time.
const LINE: usize = 64;

/// Values from the start of a cache line on.
pub(super) struct Arena<T> {
    memory: Vec<T>,
    first: usize,
    len: usize,
}

impl<T: Copy + Default> Arena<T> {
    /// So many zeros.
    pub(super) fn new(len: usize) -> Self {
        let memory = vec![T::default(); len + LINE];
        let first = memory.as_ptr().align_offset(LINE).min(LINE);
        Self { memory, first, len }
    }
}

/// Of the same size; what it holds is written before it is read.
impl<T: Copy + Default> Clone for Arena<T> {
    fn clone(&self) -> Self {
        Self::new(self.len)
    }
}

impl<T> Deref for Arena<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.memory[self.first..self.first + self.len]
    }
}

impl<T> DerefMut for Arena<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.memory[self.first..self.first + self.len]
    }
}
