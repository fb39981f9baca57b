//! Linear maps along one axis of a picture: pooling, resizing, blurring. Two of them, for rows and columns, map a picture;
//! their transposes map its gradient back.

use crate::graph::{Interpolation, Padding};

/// A sparse matrix (outputs, inputs).
#[derive(Clone, Debug, PartialEq)]
pub struct Axis {
    /// Its columns.
    pub inputs: usize,
    /// Of each output, the inputs that count and their factors.
    pub taps: Vec<Vec<(usize, f32)>>,
}

impl Axis {
    /// Means of windows; `counts_padding`: zeros before and after the axis count.
    pub fn average(
        inputs: usize,
        (kernel, stride, padding): (usize, usize, Padding),
        counts_padding: bool,
    ) -> Self {
        let (before, outputs) = padding.along(inputs, kernel, stride).unwrap_or((0, 0));
        let window = |output: usize| {
            let first = output * stride;
            let inside = (first.max(before) - before)..(first + kernel).saturating_sub(before).min(inputs);
            let count = if counts_padding { kernel } else { inside.len() };
            inside.map(|input| (input, 1.0 / count as f32)).collect()
        };
        Self { inputs, taps: (0..outputs).map(window).collect() }
    }

    /// The mean of all.
    pub fn mean(inputs: usize) -> Self {
        Self { inputs, taps: vec![(0..inputs).map(|input| (input, 1.0 / inputs as f32)).collect()] }
    }

    /// Another length.
    pub fn resize(inputs: usize, outputs: usize, by: Interpolation) -> Self {
        let taps = |output: usize| match by {
            Interpolation::Nearest => vec![(output * inputs / outputs, 1.0)],
            Interpolation::Bilinear => {
                let place = ((output as f64 + 0.5) * inputs as f64 / outputs as f64 - 0.5).max(0.0);
                let (first, part) = (place.floor() as usize, place.fract());
                let second = (first + 1).min(inputs - 1);
                if part == 0.0 || second == first {
                    vec![(first, 1.0)]
                } else {
                    vec![(first, (1.0 - part) as f32), (second, part as f32)]
                }
            }
        };
        Self { inputs, taps: (0..outputs).map(taps).collect() }
    }

    /// Convolution with [1, 2, 1] / 4, zeros at both ends.
    pub fn blur(inputs: usize) -> Self {
        let taps = |output: usize| {
            let near = output.saturating_sub(1)..(output + 2).min(inputs);
            near.map(|input| (input, if input == output { 0.5 } else { 0.25 })).collect()
        };
        Self { inputs, taps: (0..inputs).map(taps).collect() }
    }

    /// Number of outputs.
    pub fn outputs(&self) -> usize {
        self.taps.len()
    }

    /// The transpose: inputs and outputs change places.
    pub fn transposed(&self) -> Self {
        let mut taps = vec![Vec::new(); self.inputs];
        for (output, own) in self.taps.iter().enumerate() {
            own.iter().for_each(|(input, factor)| taps[*input].push((output, *factor)));
        }
        Self { inputs: self.outputs(), taps }
    }

    /// All entries, (outputs, inputs) row-major.
    pub fn dense(&self) -> Vec<f32> {
        let mut all = vec![0f32; self.outputs() * self.inputs];
        for (output, own) in self.taps.iter().enumerate() {
            own.iter().for_each(|(input, factor)| all[output * self.inputs + input] += factor);
        }
        all
    }
}
