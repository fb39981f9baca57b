//! Slices out of candle's CPU storage and back.

use candle_core::{CpuStorage, Layout, Result};

use super::gemm::Float;

/// The elements of a contiguous tensor.
pub(crate) fn contiguous<'a, T: Float>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [T]> {
    let Some((start, end)) = layout.contiguous_offsets() else {
        candle_core::bail!("expected a contiguous tensor, got {layout:?}");
    };
    Ok(&storage.as_slice::<T>()?[start..end])
}

/// Storage that owns `values`.
pub(crate) fn storage_of<T: Float>(values: Vec<T>) -> CpuStorage {
    T::to_cpu_storage_owned(values)
}
