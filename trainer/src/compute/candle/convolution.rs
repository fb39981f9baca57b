//! Convolutions as matrix products: every tap of the kernel is a strided view of the padded picture.

use candle_core::{D, Tensor};

use crate::Result;
use crate::graph::geometry::{Geometry, Role};
use crate::graph::{Padding, Window};

/// A window's taps on a picture: padded so that each is a strided view.
struct Taps {
    kernel: usize,
    stride: usize,
    /// (above, left).
    padding: (usize, usize),
    /// (height, width) of what the window makes.
    made: (usize, usize),
}

impl Taps {
    fn of(g: &Geometry) -> Self {
        let made = (g.coarse.1, g.coarse.2);
        Self { kernel: g.kernel, stride: g.stride, padding: g.padding, made }
    }

    /// Steps that the taps reach along an axis, each of `stride` pixels.
    fn reach(&self, made: usize) -> usize {
        made + (self.kernel - 1) / self.stride
    }

    /// For each tap, row by row, what it reads at every place: (N, C, height, width). `outside` stands around the
    /// picture.
    fn views(&self, x: &Tensor, outside: f32) -> Result<Vec<Tensor>> {
        let (count, channels, height, width) = x.dims4()?;
        let (rows, columns) = (self.reach(self.made.0), self.reach(self.made.1));
        let fit = |x: &Tensor, axis: usize, before: usize, have: usize, want: usize| -> Result<Tensor> {
            let x = pad(x, axis, (before, want.saturating_sub(have + before)), outside)?;
            Ok(if x.dim(axis)? > want { x.narrow(axis, 0, want)? } else { x })
        };
        let x = fit(x, 2, self.padding.0, height, rows * self.stride)?;
        let x = fit(&x, 3, self.padding.1, width, columns * self.stride)?.contiguous()?;
        let x = x.reshape((count, channels, rows, self.stride, columns, self.stride))?;
        let mut taps = Vec::with_capacity(self.kernel * self.kernel);
        for a in 0..self.kernel {
            let row = x.narrow(3, a % self.stride, 1)?.narrow(2, a / self.stride, self.made.0)?;
            for b in 0..self.kernel {
                let tap = row.narrow(5, b % self.stride, 1)?.narrow(4, b / self.stride, self.made.1)?;
                taps.push(tap.reshape((count, channels, self.made.0, self.made.1))?);
            }
        }
        Ok(taps)
    }

    /// The transpose of [`Self::views`]: what each tap has at every place, added up over the picture of `size`.
    fn spread(&self, taps: &[Tensor], (height, width): (usize, usize)) -> Result<Tensor> {
        let (count, channels, ..) = taps[0].dims4()?;
        let (kernel, stride) = (self.kernel, self.stride);
        let reach = (kernel - 1) / stride;
        let (rows, columns) = (self.made.0 + reach, self.made.1 + reach);
        let mut phases = Vec::with_capacity(stride * stride);
        for phase_a in 0..stride {
            for phase_b in 0..stride {
                let mut sum: Option<Tensor> = None;
                for a in (phase_a..kernel).step_by(stride) {
                    for b in (phase_b..kernel).step_by(stride) {
                        let tap = &taps[a * kernel + b];
                        let tap = tap.pad_with_zeros(2, a / stride, reach - a / stride)?;
                        let tap = tap.pad_with_zeros(3, b / stride, reach - b / stride)?;
                        sum = Some(match sum {
                            Some(sum) => (sum + tap)?,
                            None => tap,
                        });
                    }
                }
                let empty =
                    || Tensor::zeros((count, channels, rows, columns), taps[0].dtype(), taps[0].device());
                phases.push(sum.map_or_else(empty, Ok)?);
            }
        }
        // (N, C, rows, columns, stride, stride) → (N, C, rows · stride, columns · stride)
        let all = Tensor::stack(&phases, D::Minus1)?;
        let all =
            all.reshape((count, channels, rows, columns, stride, stride))?.permute((0, 1, 2, 4, 3, 5))?;
        let all = all.reshape((count, channels, rows * stride, columns * stride))?;
        let cut = |x: &Tensor, axis: usize, before: usize, side: usize| -> Result<Tensor> {
            // pixels below and right that no window reaches
            let missing = (before + side).saturating_sub(x.dim(axis)?);
            let x = if missing > 0 { x.pad_with_zeros(axis, 0, missing)? } else { x.clone() };
            Ok(x.narrow(axis, before, side)?)
        };
        let all = cut(&all, 2, self.padding.0, height)?;
        Ok(cut(&all, 3, self.padding.1, width)?.contiguous()?)
    }
}

fn pad(x: &Tensor, axis: usize, (before, after): (usize, usize), value: f32) -> Result<Tensor> {
    if value == 0.0 {
        return Ok(x.pad_with_zeros(axis, before, after)?);
    }
    let part = |length: usize| -> Result<Option<Tensor>> {
        let mut dims = x.dims().to_vec();
        dims[axis] = length;
        let full = || Tensor::full(value, dims, x.device());
        Ok((length > 0).then(full).transpose()?)
    };
    let parts: Vec<Tensor> = [part(before)?, Some(x.clone()), part(after)?].into_iter().flatten().collect();
    Ok(Tensor::cat(&parts, axis)?)
}

/// (C, N · pixels).
fn by_channel(x: &Tensor) -> Result<Tensor> {
    let channels = x.dim(1)?;
    Ok(x.transpose(0, 1)?.contiguous()?.reshape((channels, ()))?)
}

/// (N, C, H, W) of a side's rows.
fn picture(x: &Tensor, (channels, height, width): (usize, usize, usize)) -> Result<Tensor> {
    Ok(x.reshape((x.dim(0)?, channels, height, width))?)
}

/// The output of a convolution's `role`, (N, C, H, W).
pub(super) fn correlate(g: &Geometry, role: Role, x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    let x = picture(x, g.input(role))?;
    let weight = weight.reshape(&g.weight_dims())?;
    if g.groups == 1 {
        return match role {
            Role::Coarse => convolve(g, &x, &weight),
            Role::Fine => convolve_transposed(g, &x, &weight),
        };
    }
    if g.groups == g.fine.0 && g.groups == g.coarse.0 {
        return depthwise(g, role, &x, &weight);
    }
    let own = g.of_group();
    let (inputs, rows) = (own.input(role).0, own.coarse.0);
    let parts = (0..g.groups).map(|group| {
        let x = x.narrow(1, group * inputs, inputs)?.contiguous()?;
        correlate(&own, role, &x, &weight.narrow(0, group * rows, rows)?.contiguous()?)
    });
    Ok(Tensor::cat(&parts.collect::<Result<Vec<_>>>()?, 1)?)
}

fn convolve(g: &Geometry, x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    let gathered = gathered(g, x)?;
    let (_, height, width) = g.coarse;
    // (O, k·k·C) times (k·k·C, N·OH·OW)
    let weight = weight.permute((0, 2, 3, 1))?.reshape((g.coarse.0, ()))?;
    let product = weight.matmul(&gathered)?.reshape((g.coarse.0, x.dim(0)?, height, width))?;
    Ok(product.transpose(0, 1)?.contiguous()?)
}

/// What every tap reads at every place: (k·k·C, N·OH·OW).
fn gathered(g: &Geometry, x: &Tensor) -> Result<Tensor> {
    let views = Taps::of(g).views(x, 0.0)?;
    let taps = views.iter().map(by_channel).collect::<Result<Vec<_>>>()?;
    Ok(Tensor::cat(&taps, 0)?)
}

fn convolve_transposed(g: &Geometry, x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    let (count, inputs, height, width) = x.dims4()?;
    let outputs = g.fine.0;
    let weight = weight.permute((2, 3, 1, 0))?.reshape((g.area() * outputs, inputs))?;
    // (k·k, O, N, h, w)
    let spread = weight.matmul(&by_channel(x)?)?.reshape((g.area(), outputs, count, height * width))?;
    let tap = |index: usize| -> Result<Tensor> {
        let tap = spread.get(index)?.reshape((outputs, count, height, width))?;
        Ok(tap.transpose(0, 1)?.contiguous()?)
    };
    let taps = (0..g.area()).map(tap).collect::<Result<Vec<_>>>()?;
    Taps::of(g).spread(&taps, (g.fine.1, g.fine.2))
}

/// As many groups as channels on both sides.
fn depthwise(g: &Geometry, role: Role, x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    let factors = weight.reshape((g.groups, g.area()))?;
    let factor = |tap: usize| -> Result<Tensor> {
        Ok(factors.narrow(1, tap, 1)?.contiguous()?.reshape((1, g.groups, 1, 1))?)
    };
    let taps = Taps::of(g);
    match role {
        Role::Coarse => {
            let mut sum: Option<Tensor> = None;
            for (index, view) in taps.views(x, 0.0)?.iter().enumerate() {
                let part = view.broadcast_mul(&factor(index)?)?;
                sum = Some(match sum {
                    Some(sum) => (sum + part)?,
                    None => part,
                });
            }
            Ok(sum.map_or_else(|| x.zeros_like(), Ok)?)
        }
        Role::Fine => {
            let parts = (0..g.area()).map(|index| Ok(x.broadcast_mul(&factor(index)?)?));
            taps.spread(&parts.collect::<Result<Vec<_>>>()?, (g.fine.1, g.fine.2))
        }
    }
}

/// The gradient of a convolution's weights, (coarse channels, fine channels of a group, k, k).
pub(super) fn weight_gradient(g: &Geometry, fine: &Tensor, coarse: &Tensor) -> Result<Tensor> {
    let (fine, coarse) = (picture(fine, g.fine)?, picture(coarse, g.coarse)?);
    if g.groups == 1 {
        // (O, N·P) times (N·P, k·k·C)
        let product = by_channel(&coarse)?.matmul(&gathered(g, &fine)?.t()?)?;
        let product = product.reshape((g.coarse.0, g.kernel, g.kernel, g.fine.0))?;
        return Ok(product.permute((0, 3, 1, 2))?.contiguous()?);
    }
    if g.groups == g.fine.0 && g.groups == g.coarse.0 {
        let of_tap = |view: &Tensor| -> Result<Tensor> {
            let product = (view * &coarse)?;
            Ok(product.reshape((fine.dim(0)?, g.groups, ()))?.sum(2)?.sum(0)?)
        };
        let taps = Taps::of(g).views(&fine, 0.0)?.iter().map(of_tap).collect::<Result<Vec<_>>>()?;
        return Ok(Tensor::stack(&taps, 1)?.reshape(&g.weight_dims())?);
    }
    let own = g.of_group();
    let part =
        |x: &Tensor, group: usize, channels: usize| x.narrow(1, group * channels, channels)?.contiguous();
    let parts = (0..g.groups).map(|group| {
        weight_gradient(&own, &part(&fine, group, own.fine.0)?, &part(&coarse, group, own.coarse.0)?)
    });
    Ok(Tensor::cat(&parts.collect::<Result<Vec<_>>>()?, 0)?)
}

fn taps_of(x: &Tensor, window: &Window) -> Result<Taps> {
    let (.., height, width) = x.dims4()?;
    let Window { kernel, stride, padding } = *window;
    let along = |side| Padding::along(padding, side, kernel, stride).unwrap_or((0, 0));
    let ((top, rows), (left, columns)) = (along(height), along(width));
    Ok(Taps { kernel, stride, padding: (top, left), made: (rows, columns) })
}

/// What each tap of a window reads at every place, `outside` around the picture.
pub(super) fn windows(x: &Tensor, window: &Window, outside: f32) -> Result<Vec<Tensor>> {
    taps_of(x, window)?.views(x, outside)
}

/// The transpose of [`windows`].
pub(super) fn windows_backward(parts: &[Tensor], x: &Tensor, window: &Window) -> Result<Tensor> {
    let (.., height, width) = x.dims4()?;
    taps_of(x, window)?.spread(parts, (height, width))
}
