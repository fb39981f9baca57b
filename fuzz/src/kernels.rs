//! Layers of every kind and size: what each family of instructions makes of them.

use arbitrary::Arbitrary;
use edgegen_kernels::{
    Axis, Border, Cpu, FloatLayer, FloatSpec, Isa, Kind, Plane, QuantizedLayer, QuantizedSpec, Times,
};

/// A layer that may or may not be one.
#[derive(Arbitrary, Debug)]
pub struct Problem {
    kind: u8,
    input: [u8; 3],
    output: [u8; 3],
    axes: [[u8; 4]; 2],
    enlarged: u8,
    block: u8,
    cropped: u8,
    more: [u8; 4],
    zeros: [u8; 2],
    slope: u8,
    groups: u8,
    seed: u8,
    /// One of the sizes may be anything.
    wild: Option<(u8, usize)>,
}

impl Problem {
    fn spec(&self) -> Option<(Kind, Plane, Plane)> {
        let mut sizes: Vec<usize> =
            self.input.iter().chain(&self.output).map(|size| usize::from(size % 12) + 1).collect();
        sizes.extend(self.axes.iter().flatten().map(|size| usize::from(size % 5)));
        if let Some((place, size)) = self.wild {
            let place = usize::from(place) % sizes.len();
            sizes[place] = size;
        }
        let axis = |at: usize| Axis::new(sizes[at], sizes[at + 1], sizes[at + 2], sizes[at + 3]).ok();
        // as many as channels are often wanted
        let groups = match self.groups % 8 {
            0..4 => 1,
            4 | 5 => sizes[0],
            more => usize::from(more) - 3,
        };
        let kind = match self.kind % 3 {
            0 => Kind::Conv {
                y: axis(6)?,
                x: axis(10)?,
                enlarged: Times::new(usize::from(self.enlarged % 4))?,
                block: Times::new(usize::from(self.block % 4))?,
                cropped: u16::from(self.cropped % 4),
                groups,
            },
            1 => Kind::Transposed { y: axis(6)?, x: axis(10)?, groups },
            _ => Kind::Dense,
        };
        let input = Plane::new(sizes[0], sizes[1], sizes[2]).ok()?;
        let output = Plane::new(sizes[3], sizes[4], sizes[5]).ok()?;
        let Border { top, left, bottom, right } = kind.border(&input, &output);
        let [a, b, c, d] = self.more.map(|more| usize::from(more % 3));
        let border = Border { top: top + a, left: left + b, bottom: bottom + c, right: right + d };
        let input = input.with_border(border).ok()?;
        // large layers are slow under a sanitizer
        (input.len() < 1 << 16 && output.len() < 1 << 16).then_some((kind, input, output))
    }

    /// Runs it in every family that this CPU has, and compares.
    ///
    /// # Panics
    /// If families differ in integers, or by more than rounding in float32.
    pub fn check(&self) {
        let Some((kind, input, output)) = self.spec() else { return };
        let count =
            |weights: usize, outputs: usize| weights.checked_mul(outputs).filter(|count| *count < 1 << 18);
        let inputs = input.channels() / kind.groups();
        let weights = match kind {
            Kind::Conv { y, x, block, .. } => {
                count(inputs * y.kernel() * x.kernel(), output.channels() * block.get() * block.get())
            }
            Kind::Transposed { y, x, .. } => count(inputs * y.kernel() * x.kernel(), output.channels()),
            Kind::Dense => count(input.values(), output.values()),
        };
        let Some(weights) = weights else { return };
        let seed = usize::from(self.seed) + 1;
        let levels: Vec<i8> =
            (0..weights).map(|index| ((index * seed * 31) % 255) as u8 as i8).map(|w| w.max(-127)).collect();
        let slope = f32::from(self.slope) / 255.0;
        let families = || Isa::ALL.into_iter().filter_map(Cpu::with);
        let mut known: Option<Vec<u8>> = None;
        for cpu in families() {
            let spec = QuantizedSpec {
                kind,
                input,
                output,
                weights: &levels,
                bias: &[],
                scales: &[0.003],
                x_zero: self.zeros[0],
                y_zero: self.zeros[1],
                low: 0,
                high: 255,
                slope,
            };
            let Ok(layer) = QuantizedLayer::new(cpu, &spec) else { return };
            let flip = |level: u8| edgegen_kernels::elements::flipped(cpu.isa(), level);
            let x: Vec<u8> =
                (0..input.len() + layer.slack()).map(|index| flip((index * seed % 251) as u8)).collect();
            let mut y = vec![flip(0); output.len()];
            layer.run(&x, &mut y, &mut vec![0; layer.scratch()]);
            let y: Vec<u8> = y.into_iter().map(flip).collect();
            match &known {
                Some(known) => assert!(*known == y, "{} differs", cpu.isa()),
                None => known = Some(y),
            }
        }
        let floats: Vec<f32> = levels.iter().map(|level| f32::from(*level) / 127.0).collect();
        let mut known: Option<Vec<f32>> = None;
        for cpu in families() {
            let spec = FloatSpec {
                kind,
                input,
                output,
                weights: &floats,
                bias: &[],
                slopes: &[slope],
                clip: None,
                halves: false,
            };
            let Ok(layer) = FloatLayer::new(cpu, &spec) else { return };
            let x: Vec<f32> = (0..input.len() + layer.slack())
                .map(|index| (index * seed % 17) as f32 / 8.0 - 1.0)
                .collect();
            let mut y = vec![0.0; output.len()];
            layer.run(&x, &mut y, &mut vec![0.0; layer.scratch()]);
            match &known {
                Some(known) => {
                    let worst = known.iter().zip(&y).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
                    assert!(worst < 1e-2, "{} is {worst} apart", cpu.isa());
                }
                None => known = Some(y),
            }
        }
    }
}
