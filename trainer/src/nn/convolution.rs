//! Convolution, transposed convolution and their gradients as one bilinear family.
//!
//! A strided convolution links a fine picture x (N, C, H, W), a coarse one y (N, O, OH, OW) and
//! weights w (O, C, k, k):
//!
//! y[n,o,i,j] = Σ_{c,a,b} w[o,c,a,b] · x[n, c, i·s − p + a, j·s − p + b]
//!
//! Fixing two of the three gives an operation that is linear in each: [`Role::Coarse`] is the
//! convolution, [`Role::Fine`] the transposed convolution (with w in PyTorch's and ONNX's
//! ConvTranspose layout (in, out, k, k)), [`Role::Weights`] the weight gradient. The gradient of
//! each role is made of the other two, so the family is closed under differentiation.
//!
//! On the CPU, f32 runs through direct kernels where the CPU has them ([`super::direct`]); otherwise each
//! role is im2col and one matrix product over several pictures at a time, laid out with the pictures
//! innermost. Work is cut by shape alone and partial sums are added in a fixed order, so that results do not depend
//! on the number of threads. Elsewhere candle's own operations serve.

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp2, DType, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

#[cfg(target_arch = "x86_64")]
use super::direct::Vectors;
use super::gemm::{Float, Matrix, multiply};
use super::storage::{contiguous, storage_of};

/// Bound of the memory for partial weight gradients, in elements.
const PARTIAL_ELEMENTS: usize = 16 << 20;

/// Sizes of a convolution: square kernel, the same stride and padding on both axes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Side of the kernel.
    pub kernel: usize,
    /// Step on the fine side.
    pub stride: usize,
    /// Zeros around the fine side.
    pub padding: usize,
    /// (channels, height, width) of the fine side.
    pub fine: (usize, usize, usize),
    /// (channels, height, width) of the coarse side.
    pub coarse: (usize, usize, usize),
}

impl Geometry {
    pub(super) fn fine_len(&self) -> usize {
        self.fine.0 * self.fine.1 * self.fine.2
    }

    fn coarse_pixels(&self) -> usize {
        self.coarse.1 * self.coarse.2
    }

    pub(super) fn coarse_len(&self) -> usize {
        self.coarse.0 * self.coarse_pixels()
    }

    /// Rows of the im2col matrix: C·k·k.
    pub(super) fn taps(&self) -> usize {
        self.fine.0 * self.kernel * self.kernel
    }

    pub(super) fn weights_len(&self) -> usize {
        self.coarse.0 * self.taps()
    }

    /// For tap offset `tap`, the coarse positions whose fine position lies inside `0..fine`.
    fn valid(&self, tap: usize, fine: usize, coarse: usize) -> std::ops::Range<usize> {
        let first = self.padding.saturating_sub(tap).div_ceil(self.stride);
        let end = (fine + self.padding).saturating_sub(tap).div_ceil(self.stride).min(coarse);
        first.min(end)..end
    }

    /// Calls `visit(fine_position, column)` for every pair of a pixel and a place in the im2col matrix
    /// (taps, coarse pixels) that holds it.
    fn places(&self, mut visit: impl FnMut(usize, usize)) {
        let (channels, height, width) = self.fine;
        let (_, coarse_height, coarse_width) = self.coarse;
        for channel in 0..channels {
            for a in 0..self.kernel {
                for b in 0..self.kernel {
                    let row = (channel * self.kernel + a) * self.kernel + b;
                    let columns = self.valid(b, width, coarse_width);
                    for i in self.valid(a, height, coarse_height) {
                        let y = i * self.stride + a - self.padding;
                        for j in columns.clone() {
                            let x = j * self.stride + b - self.padding;
                            visit(
                                (channel * height + y) * width + x,
                                row * self.coarse_pixels() + i * coarse_width + j,
                            );
                        }
                    }
                }
            }
        }
    }

    /// Pictures that one matrix product takes together: at least eight products a batch, so that a
    /// few threads have equal work.
    fn pictures_per_product(&self, batch: usize) -> usize {
        batch.div_ceil(8).clamp(8, 32).min(batch.max(1))
    }
}

/// Which of fine, coarse and weights is computed from the other two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// (fine, weights) → coarse.
    Coarse,
    /// (coarse, weights) → fine.
    Fine,
    /// (fine, coarse) → weights.
    Weights,
}

/// One member of the family, as a differentiable candle operation.
#[derive(Clone, Copy, Debug)]
pub struct Correlation {
    /// Sizes.
    pub geometry: Geometry,
    /// What is computed.
    pub role: Role,
}

impl Correlation {
    fn with(self, role: Role) -> Self {
        Self { role, ..self }
    }

    /// Applies the operation; see [`Role`] for the arguments.
    ///
    /// # Errors
    /// If shapes or types do not fit the geometry.
    pub fn apply(self, left: &Tensor, right: &Tensor) -> Result<Tensor> {
        if left.device().is_cpu() {
            left.contiguous()?.apply_op2(&right.contiguous()?, self)
        } else {
            self.apply_by_candle(left, right)
        }
    }

    /// The same through candle's own operations, for devices without a kernel of ours.
    fn apply_by_candle(self, left: &Tensor, right: &Tensor) -> Result<Tensor> {
        let Geometry { kernel, stride, padding, fine, coarse } = self.geometry;
        match self.role {
            Role::Coarse => left.conv2d(right, padding, stride, 1, 1),
            Role::Fine => {
                let whole = (coarse.1 - 1) * stride + kernel - 2 * padding;
                left.conv_transpose2d(right, padding, fine.1 - whole, stride, 1)
            }
            // there, candle differentiates its own operations
            Role::Weights => candle_core::bail!("the weight gradient has a kernel on the CPU alone"),
        }
    }

    fn coarse<T: Float>(&self, fine: &[T], weights: &[T]) -> Vec<T> {
        let g = &self.geometry;
        let batch = fine.len() / g.fine_len();
        let per = g.pictures_per_product(batch);
        let weights = Matrix::new(weights, g.coarse.0, g.taps());
        let mut out = vec![T::default(); batch * g.coarse_len()];
        out.par_chunks_mut(per * g.coarse_len()).zip(fine.par_chunks(per * g.fine_len())).for_each_init(
            || (Vec::new(), Vec::new(), Vec::new()),
            |(inner, columns, product), (out, fine)| {
                let total = unfold(g, fine, inner, columns);
                product.resize(g.coarse.0 * total, T::default());
                multiply(product, weights, Matrix::new(columns, g.taps(), total), false);
                transpose(product, total / g.coarse_pixels(), out);
            },
        );
        out
    }

    fn fine<T: Float>(&self, coarse: &[T], weights: &[T]) -> Vec<T> {
        let g = &self.geometry;
        let batch = coarse.len() / g.coarse_len();
        let per = g.pictures_per_product(batch);
        let weights = Matrix::new(weights, g.coarse.0, g.taps()).transposed();
        let mut out = vec![T::default(); batch * g.fine_len()];
        out.par_chunks_mut(per * g.fine_len()).zip(coarse.par_chunks(per * g.coarse_len())).for_each_init(
            || (Vec::new(), Vec::new(), Vec::new()),
            |(inner, columns, gathered), (out, coarse)| {
                let pictures = coarse.len() / g.coarse_len();
                let total = pictures_innermost(coarse, g.coarse_len(), gathered) * g.coarse_pixels();
                columns.resize(g.taps() * total, T::default());
                multiply(columns, weights, Matrix::new(gathered, g.coarse.0, total), false);
                inner.clear();
                inner.resize(out.len(), T::default());
                g.places(|pixel, place| {
                    let target = &mut inner[pixel * pictures..][..pictures];
                    let source = &columns[place * pictures..][..pictures];
                    target.iter_mut().zip(source).for_each(|(target, source)| *target += *source);
                });
                transpose(inner, pictures, out);
            },
        );
        out
    }

    fn weights<T: Float>(&self, fine: &[T], coarse: &[T]) -> Vec<T> {
        let g = &self.geometry;
        let batch = fine.len() / g.fine_len();
        let per = g.pictures_per_product(batch);
        // Groups depend on the shapes alone, so that the order of additions does too.
        let most_groups = (PARTIAL_ELEMENTS / g.weights_len().max(1)).clamp(1, 16);
        let group = per * batch.div_ceil(per).div_ceil(most_groups).max(1);
        let partial: Vec<Vec<T>> = fine
            .par_chunks(group * g.fine_len())
            .zip(coarse.par_chunks(group * g.coarse_len()))
            .map(|(fine, coarse)| {
                let (mut inner, mut columns, mut gathered) = (Vec::new(), Vec::new(), Vec::new());
                let mut sum = vec![T::default(); g.weights_len()];
                let pieces = fine.chunks(per * g.fine_len()).zip(coarse.chunks(per * g.coarse_len()));
                for (index, (fine, coarse)) in pieces.enumerate() {
                    let total = unfold(g, fine, &mut inner, &mut columns);
                    pictures_innermost(coarse, g.coarse_len(), &mut gathered);
                    let right = Matrix::new(&columns, g.taps(), total).transposed();
                    multiply(&mut sum, Matrix::new(&gathered, g.coarse.0, total), right, index > 0);
                }
                sum
            })
            .collect();
        add_in_order(partial)
    }

    /// By im2col and matrix products, for any element type.
    pub(super) fn by_products<T: Float>(&self, left: &[T], right: &[T]) -> Vec<T> {
        match self.role {
            Role::Coarse => self.coarse(left, right),
            Role::Fine => self.fine(left, right),
            Role::Weights => self.weights(left, right),
        }
    }

    /// By the direct kernels where the CPU has them and the pictures fill their lanes.
    fn fastest(&self, left: &[f32], right: &[f32]) -> Vec<f32> {
        #[cfg(target_arch = "x86_64")]
        if let Some(vectors) = Vectors::detect()
            && self.batch(left.len()) * 2 > vectors.lanes()
        {
            return match self.role {
                Role::Coarse => vectors.coarse(&self.geometry, left, right),
                Role::Fine => vectors.fine(&self.geometry, left, right),
                Role::Weights => vectors.weights(&self.geometry, left, right),
            };
        }
        self.by_products(left, right)
    }

    /// Pictures in a left argument of so many values.
    fn batch(&self, left: usize) -> usize {
        left / if self.role == Role::Fine { self.geometry.coarse_len() } else { self.geometry.fine_len() }
    }

    fn output(&self, left: &Shape) -> Shape {
        let Geometry { kernel, fine, coarse, .. } = self.geometry;
        let batch = left.dims()[0];
        match self.role {
            Role::Coarse => (batch, coarse.0, coarse.1, coarse.2).into(),
            Role::Fine => (batch, fine.0, fine.1, fine.2).into(),
            Role::Weights => (coarse.0, fine.0, kernel, kernel).into(),
        }
    }

    fn check(&self, left: &Shape, right: &Shape) -> Result<()> {
        let Geometry { kernel, fine, coarse, .. } = self.geometry;
        let picture = |shape: &Shape, (c, h, w): (usize, usize, usize)| {
            shape.rank() == 4 && shape.dims()[1..] == [c, h, w]
        };
        let weights = |shape: &Shape| shape.dims() == [coarse.0, fine.0, kernel, kernel];
        let fit = match self.role {
            Role::Coarse => picture(left, fine) && weights(right),
            Role::Fine => picture(left, coarse) && weights(right),
            Role::Weights => {
                picture(left, fine) && picture(right, coarse) && left.dims()[0] == right.dims()[0]
            }
        };
        if !fit {
            candle_core::bail!("{:?} of {:?} does not take {left:?} and {right:?}", self.role, self.geometry);
        }
        Ok(())
    }
}

/// The sum of equally long parts, first to last. There is at least one.
fn add_in_order<T: Float>(parts: Vec<Vec<T>>) -> Vec<T> {
    let mut parts = parts.into_iter();
    let mut sum = parts.next().unwrap_or_default();
    for part in parts {
        sum.iter_mut().zip(&part).for_each(|(sum, value)| *sum += *value);
    }
    sum
}

/// im2col of several pictures: (taps, coarse pixels, pictures), the pictures innermost, so that it is
/// made of whole vectors whatever the stride. `inner` is scratch. Returns the columns of the matrix.
fn unfold<T: Float>(g: &Geometry, fine: &[T], inner: &mut Vec<T>, columns: &mut Vec<T>) -> usize {
    let pictures = pictures_innermost(fine, g.fine_len(), inner);
    let total = pictures * g.coarse_pixels();
    columns.clear();
    columns.resize(g.taps() * total, T::default());
    g.places(|pixel, place| {
        columns[place * pictures..][..pictures].copy_from_slice(&inner[pixel * pictures..][..pictures]);
    });
    total
}

/// (pictures, values) → (values, pictures). Returns the number of pictures.
fn pictures_innermost<T: Float>(values: &[T], per_picture: usize, inner: &mut Vec<T>) -> usize {
    inner.resize(values.len(), T::default());
    transpose(values, per_picture, inner);
    values.len() / per_picture
}

/// (rows, `columns`) → (columns, rows), in tiles that stay in the cache.
fn transpose<T: Float>(from: &[T], columns: usize, to: &mut [T]) {
    const TILE: usize = 16;
    let rows = from.len() / columns;
    for row in (0..rows).step_by(TILE) {
        for column in (0..columns).step_by(TILE) {
            for row in row..(row + TILE).min(rows) {
                for column in column..(column + TILE).min(columns) {
                    to[column * rows + row] = from[row * columns + column];
                }
            }
        }
    }
}

impl CustomOp2 for Correlation {
    fn name(&self) -> &'static str {
        match self.role {
            Role::Coarse => "convolution",
            Role::Fine => "transposed convolution",
            Role::Weights => "convolution weight gradient",
        }
    }

    fn cpu_fwd(
        &self,
        left: &CpuStorage,
        left_layout: &Layout,
        right: &CpuStorage,
        right_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.check(left_layout.shape(), right_layout.shape())?;
        let values = match left.dtype() {
            DType::F32 => {
                let (left, right) =
                    (contiguous::<f32>(left, left_layout)?, contiguous::<f32>(right, right_layout)?);
                storage_of(self.fastest(left, right))
            }
            DType::F64 => {
                let (left, right) =
                    (contiguous::<f64>(left, left_layout)?, contiguous::<f64>(right, right_layout)?);
                storage_of(self.by_products(left, right))
            }
            other => candle_core::bail!("{} does not take {other:?}", self.name()),
        };
        Ok((values, self.output(left_layout.shape())))
    }

    fn bwd(
        &self,
        left: &Tensor,
        right: &Tensor,
        _result: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let wanted = |argument: &Tensor, op: Correlation, a: &Tensor, b: &Tensor| {
            argument.track_op().then(|| op.apply(a, b)).transpose()
        };
        let (fine, coarse, weights) =
            (self.with(Role::Fine), self.with(Role::Coarse), self.with(Role::Weights));
        Ok(match self.role {
            Role::Coarse => (wanted(left, fine, gradient, right)?, wanted(right, weights, left, gradient)?),
            Role::Fine => (wanted(left, coarse, gradient, right)?, wanted(right, weights, gradient, left)?),
            Role::Weights => (wanted(left, fine, right, gradient)?, wanted(right, coarse, left, gradient)?),
        })
    }
}
