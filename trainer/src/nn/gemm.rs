//! One matrix product with bounds checked slices: the only door to the `gemm` crate.
#![allow(unsafe_code)]

use gemm::Parallelism;

/// A row-major matrix view: element (row, column) is `values[row * row_stride + column * column_stride]`.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<'a, T> {
    pub(crate) values: &'a [T],
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    pub(crate) row_stride: usize,
    pub(crate) column_stride: usize,
}

impl<'a, T> Matrix<'a, T> {
    /// A dense row-major matrix of `rows` × `columns`.
    pub(crate) fn new(values: &'a [T], rows: usize, columns: usize) -> Self {
        Self { values, rows, columns, row_stride: columns, column_stride: 1 }
    }

    /// The same memory read as its transpose.
    pub(crate) fn transposed(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }

    fn fits(&self) -> bool {
        self.rows == 0
            || self.columns == 0
            || (self.rows - 1) * self.row_stride + (self.columns - 1) * self.column_stride < self.values.len()
    }
}

/// `out = (accumulate ? out : 0) + left · right`, `out` dense row-major, on the calling thread alone.
///
/// # Panics
/// If the shapes do not fit each other or their slices: a bug of the caller.
pub(crate) fn multiply<T: Float>(out: &mut [T], left: Matrix<'_, T>, right: Matrix<'_, T>, accumulate: bool) {
    assert_eq!(left.columns, right.rows, "inner sizes of a matrix product");
    assert_eq!(out.len(), left.rows * right.columns, "output size of a matrix product");
    assert!(left.fits() && right.fits(), "a matrix view larger than its slice");
    // SAFETY: the asserts above keep every element that gemm reads or writes inside its slice;
    // `out` is a unique borrow, so nothing aliases it.
    unsafe {
        gemm::gemm(
            left.rows,
            right.columns,
            left.columns,
            out.as_mut_ptr(),
            1,
            right.columns as isize,
            accumulate,
            left.values.as_ptr(),
            left.column_stride as isize,
            left.row_stride as isize,
            right.values.as_ptr(),
            right.column_stride as isize,
            right.row_stride as isize,
            T::ONE,
            T::ONE,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
}

/// The numbers that training computes with: f32, and f64 where gradients are checked.
pub(crate) trait Float:
    Copy + Default + Send + Sync + std::ops::AddAssign + candle_core::WithDType + 'static
{
    /// 1.
    const ONE: Self;
}

impl Float for f32 {
    const ONE: Self = 1.0;
}

impl Float for f64 {
    const ONE: Self = 1.0;
}
