//! [`crate::gan::augment`] on tensors, where gradients are candle's.

use candle_core::{Result, Tensor};
use edgegen_runtime::model::ImageShape;

use crate::gan::augment::{Change, Draws, cut};

/// Changes pictures (N, C, H, W).
pub(super) fn apply(draws: &Draws, pictures: &Tensor) -> Result<Tensor> {
    let mut x = pictures.clone();
    let changes = draws.changes();
    for kind in 0..changes.first().map_or(0, Vec::len) {
        x = each(&x, &changes.iter().map(|changes| changes[kind]).collect::<Vec<_>>())?;
    }
    Ok(x)
}

/// One change of each picture, all of one kind.
fn each(x: &Tensor, changes: &[Change]) -> Result<Tensor> {
    let (count, channels, height, width) = x.dims4()?;
    let per_picture = |of: &dyn Fn(&Change) -> f32| {
        Tensor::from_vec(changes.iter().map(of).collect::<Vec<f32>>(), (count, 1, 1, 1), x.device())
    };
    match changes.first() {
        None => Ok(x.clone()),
        Some(Change::Color { .. }) => {
            let part = |number: usize| {
                per_picture(&move |change| match *change {
                    Change::Color { brightness, saturation, contrast } => {
                        [brightness, saturation, contrast][number]
                    }
                    _ => 1.0,
                })
            };
            let about = |x: &Tensor, mean: Tensor, factor: &Tensor| {
                x.broadcast_sub(&mean)?.broadcast_mul(factor)?.broadcast_add(&mean)
            };
            let x = x.broadcast_add(&part(0)?)?;
            let x = about(&x, x.mean_keepdim(1)?, &part(1)?)?;
            let mean = x.flatten_from(1)?.mean_keepdim(1)?.reshape((count, 1, 1, 1))?;
            about(&x, mean, &part(2)?)
        }
        Some(Change::Shift(_)) => {
            let by = |axis: usize| {
                move |change: &Change| if let Change::Shift(by) = change { by[axis] } else { 0 }
            };
            let (down, right) = (by(0), by(1));
            let x = shifted(
                x,
                2,
                &changes.iter().map(down).collect::<Vec<_>>(),
                (count, channels, height, width),
            )?;
            shifted(&x, 3, &changes.iter().map(right).collect::<Vec<_>>(), (count, channels, height, width))
        }
        Some(Change::Cut(_)) => {
            let mut mask = vec![1f32; count * height * width];
            let plane = ImageShape { channels: 1, height, width };
            for (mask, change) in mask.chunks_mut(plane.values()).zip(changes) {
                if let Change::Cut(bounds) = *change {
                    cut(plane, mask, bounds);
                }
            }
            x.broadcast_mul(&Tensor::from_vec(mask, (count, 1, height, width), x.device())?)
        }
    }
}

/// Moves each picture along an axis; what comes in is 0.
fn shifted(x: &Tensor, axis: usize, by: &[isize], dims: (usize, usize, usize, usize)) -> Result<Tensor> {
    let (count, channels, height, width) = dims;
    let side = if axis == 2 { height } else { width };
    let from = |by: isize, at: usize| at as isize - by;
    let mut index = Vec::with_capacity(count * side);
    let mut mask = Vec::with_capacity(count * side);
    for by in by {
        for at in 0..side {
            let from = from(*by, at);
            index.push(from.clamp(0, side as isize - 1) as u32);
            mask.push(if (0..side as isize).contains(&from) { 1f32 } else { 0.0 });
        }
    }
    let place = if axis == 2 { (count, 1, side, 1) } else { (count, 1, 1, side) };
    let index = Tensor::from_vec(index, place, x.device())?;
    let index = index.broadcast_as((count, channels, height, width))?.contiguous()?;
    let mask = Tensor::from_vec(mask, place, x.device())?;
    x.contiguous()?.gather(&index, axis)?.broadcast_mul(&mask)
}
