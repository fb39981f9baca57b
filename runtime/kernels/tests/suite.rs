//! Problems made by a generator, solved by every family that this CPU has and by a direct transcription of ONNX's
//! definitions: integers have to agree bit for bit with it, floats with each other.

use edgegen_kernels::elements::{Function, flipped};
use edgegen_kernels::{
    Axis, Border, Cpu, FloatLayer, FloatSpec, Isa, Kind, Plane, Pool, QuantizedLayer, QuantizedSpec, Times,
};

/// Problems of a test: few and small ones for Miri, which interprets them.
const ROUNDS: usize = if cfg!(miri) { 12 } else { 400 };

/// Families that can run here; what is left out is said.
fn families() -> Vec<Cpu> {
    let missing: Vec<Isa> = Isa::ALL.into_iter().filter(|isa| Cpu::with(*isa).is_none()).collect();
    let here: Vec<Cpu> = Isa::ALL.into_iter().filter_map(Cpu::with).collect();
    eprintln!("families tested: {here:?}; this CPU lacks {missing:?}");
    here
}

/// Of one to four threads.
fn pools() -> Vec<Pool> {
    (1..=4).map(|threads| Pool::new(threads).unwrap()).collect()
}

/// xorshift64*.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    /// −1 to 1.
    fn unit(&mut self) -> f32 {
        (self.next() % (1 << 24)) as f32 / (1 << 23) as f32 - 1.0
    }
}

/// A layer without its values.
#[derive(Clone, Debug)]
struct Problem {
    kind: Kind,
    input: Plane,
    output: Plane,
}

impl Problem {
    /// Any layer that the kernels know, with sizes that leave tails everywhere.
    fn any(random: &mut Random) -> Self {
        let channels =
            |random: &mut Random| random.pick(&[1, 2, 3, 4, 5, 7, 8, 12, 16, 17, 20, 31, 32, 33, 48, 64, 70]);
        loop {
            let (inputs, outputs) = (channels(random), channels(random));
            let (height, width) = (1 + random.below(9), 1 + random.below(9));
            let axis = |random: &mut Random, stride: usize, dilated: bool| {
                let (kernel, padding) = (1 + random.below(5), random.below(3));
                let dilation = if dilated { 1 + random.below(2) } else { 1 };
                Axis::new(kernel, stride, padding, dilation).unwrap()
            };
            // many layers have one group; half of the others have one for each channel
            let (inputs, outputs, groups) = match random.below(6) {
                0 | 1 => (inputs, inputs, inputs),
                2 => {
                    let groups = random.pick(&[2, 3, 4]);
                    (inputs.min(16) * groups, outputs.min(16) * groups, groups)
                }
                _ => (inputs, outputs, 1),
            };
            let (kind, size) = match random.below(6) {
                0 | 1 => {
                    let stride = 1 + random.below(3);
                    let (y, x) = (axis(random, stride, true), axis(random, stride, true));
                    (
                        Kind::Conv { y, x, enlarged: Times::ONE, block: Times::ONE, cropped: 0, groups },
                        conv(y, height, 1).zip(conv(x, width, 1)),
                    )
                }
                2 => {
                    let (enlarged, stride) = (2 + random.below(2), 1 + random.below(2));
                    let (y, x) = (axis(random, stride, false), axis(random, stride, false));
                    let size = conv(y, height, enlarged).zip(conv(x, width, enlarged));
                    let enlarged = Times::new(enlarged).unwrap();
                    (Kind::Conv { y, x, enlarged, block: Times::ONE, cropped: 0, groups }, size)
                }
                3 => {
                    let block = 2 + random.below(2);
                    let cropped = random.below(block);
                    let (y, x) = (axis(random, 1, false), axis(random, 1, false));
                    let cut = |size: usize| (size * block).checked_sub(2 * cropped).filter(|size| *size > 0);
                    let size = conv(y, height, 1).and_then(cut).zip(conv(x, width, 1).and_then(cut));
                    let (block, cropped) = (Times::new(block).unwrap(), cropped as u16);
                    (Kind::Conv { y, x, enlarged: Times::ONE, block, cropped, groups }, size)
                }
                4 => {
                    let stride = 1 + random.below(3);
                    let (y, x) = (axis(random, stride, true), axis(random, stride, true));
                    let added = random.below(stride);
                    let size = transposed(y, height, added).zip(transposed(x, width, added));
                    (Kind::Transposed { y, x, groups }, size)
                }
                _ => (Kind::Dense, Some((1 + random.below(5), 1 + random.below(5)))),
            };
            let Some(size) = size else { continue };
            let input = Plane::new(inputs, height, width).unwrap();
            let output = Plane::new(outputs, size.0, size.1).unwrap();
            if cfg!(miri) && input.values() * output.values() > 8_000 {
                continue;
            }
            let (mut around, mut made) = (kind.border(&input, &output), Border::default());
            if random.below(2) == 0 {
                around.left += 1;
                made.top = random.below(3);
                made.right = random.below(3);
            }
            let (input, output) = (input.with_border(around).unwrap(), output.with_border(made).unwrap());
            return Self { kind, input, output };
        }
    }

    fn is_depthwise(&self) -> bool {
        let groups = self.kind.groups();
        groups > 1 && self.input.channels() == groups && self.outputs() == groups
    }

    /// Input channels of a group.
    fn group_inputs(&self) -> usize {
        self.input.channels() / self.kind.groups()
    }

    fn weights(&self) -> usize {
        match self.kind {
            Kind::Conv { y, x, block, .. } => {
                let block = block.get();
                self.output.channels() * block * block * self.group_inputs() * y.kernel() * x.kernel()
            }
            Kind::Transposed { y, x, .. } => {
                self.output.channels() * self.group_inputs() * y.kernel() * x.kernel()
            }
            Kind::Dense => self.input.values() * self.output.values(),
        }
    }

    fn outputs(&self) -> usize {
        match self.kind {
            Kind::Conv { block, .. } => self.output.channels() * block.get() * block.get(),
            Kind::Transposed { .. } => self.output.channels(),
            Kind::Dense => self.output.values(),
        }
    }

    /// Calls `visit(output number, place in CHW, [(input place in CHW, weight)])` for every output, by ONNX's definitions.
    fn solve(&self, mut visit: impl FnMut(usize, usize, Vec<(usize, usize)>)) {
        let (each, height, width) = (self.group_inputs(), self.input.height(), self.input.width());
        let (channels, out_height, out_width) =
            (self.output.channels(), self.output.height(), self.output.width());
        let inside = |at: isize, size: usize| usize::try_from(at).ok().filter(|at| *at < size);
        for channel in 0..channels {
            for oy in 0..out_height {
                for ox in 0..out_width {
                    let mut products = Vec::new();
                    let mut output = channel;
                    match self.kind {
                        Kind::Dense => {
                            output = (channel * out_height + oy) * out_width + ox;
                            let values = self.input.values();
                            products = (0..values).map(|input| (input, output * values + input)).collect();
                        }
                        Kind::Conv { y, x, enlarged, block, cropped, .. } => {
                            let (enlarged, block) = (enlarged.get(), block.get());
                            let cropped = usize::from(cropped);
                            let (fy, fx) = (oy + cropped, ox + cropped);
                            output = (channel * block + fy % block) * block + fx % block;
                            let group = channel / (channels / self.kind.groups());
                            for of_group in 0..each {
                                let input = group * each + of_group;
                                for ky in 0..y.kernel() {
                                    for kx in 0..x.kernel() {
                                        let at = |position: usize, axis: Axis, k: usize, size: usize| {
                                            let at =
                                                (position * axis.stride() + k * axis.dilation()) as isize;
                                            inside(at - axis.padding() as isize, size * enlarged)
                                                .map(|at| at / enlarged)
                                        };
                                        let iy = at(fy / block, y, ky, height);
                                        if let Some((iy, ix)) = iy.zip(at(fx / block, x, kx, width)) {
                                            let weight = ((output * each + of_group) * y.kernel() + ky)
                                                * x.kernel()
                                                + kx;
                                            products.push(((input * height + iy) * width + ix, weight));
                                        }
                                    }
                                }
                            }
                        }
                        Kind::Transposed { y, x, .. } => {
                            let of_group = channels / self.kind.groups();
                            for input in channel / of_group * each..(channel / of_group + 1) * each {
                                for iy in 0..height {
                                    for ix in 0..width {
                                        let tap = |o: usize, i: usize, axis: Axis| {
                                            let at =
                                                (o + axis.padding()) as isize - (i * axis.stride()) as isize;
                                            let dilation = axis.dilation();
                                            inside(at, axis.kernel() * dilation)
                                                .filter(|at| at.is_multiple_of(dilation))
                                                .map(|at| at / dilation)
                                        };
                                        if let Some((ky, kx)) = tap(oy, iy, y).zip(tap(ox, ix, x)) {
                                            let weight =
                                                ((input * of_group + channel % of_group) * y.kernel() + ky)
                                                    * x.kernel()
                                                    + kx;
                                            products.push(((input * height + iy) * width + ix, weight));
                                        }
                                    }
                                }
                            }
                        }
                    }
                    visit(output, (channel * out_height + oy) * out_width + ox, products);
                }
            }
        }
    }
}

fn conv(axis: Axis, size: usize, enlarged: usize) -> Option<usize> {
    let reach = (axis.kernel() - 1) * axis.dilation() + 1;
    (size * enlarged + 2 * axis.padding()).checked_sub(reach).map(|left| left / axis.stride() + 1)
}

fn transposed(axis: Axis, size: usize, added: usize) -> Option<usize> {
    ((size - 1) * axis.stride() + (axis.kernel() - 1) * axis.dilation() + 1 + added)
        .checked_sub(2 * axis.padding())
        .filter(|size| *size > 0)
}

/// Where a value of a CHW picture lies in a plane.
fn place(plane: &Plane, index: usize) -> usize {
    let pixels = plane.height() * plane.width();
    let (channel, y, x) = (index / pixels, index % pixels / plane.width(), index % plane.width());
    let row = (plane.border().left + plane.width() + plane.border().right) * plane.channels();
    (y + plane.border().top) * row + (x + plane.border().left) * plane.channels() + channel
}

#[test]
fn integers_agree_bit_for_bit_with_the_definition_in_every_family() {
    let families = families();
    let mut pools = pools();
    let mut random = Random(0x5eed);
    for round in 0..ROUNDS {
        let problem = Problem::any(&mut random);
        let Problem { kind, input, output } = problem;
        // small weights as trained ones are, all extremes, or all of one sign, which saturate what can saturate
        let style = random.below(3);
        let weights: Vec<i8> = (0..problem.weights())
            .map(|_| match style {
                0 => (random.unit() * random.unit() * 127.0) as i8,
                1 => random.pick(&[-128, -127, 127, 126, 0]),
                _ => 127,
            })
            .collect();
        let levels: Vec<u8> = (0..input.values())
            .map(|_| if style == 0 { random.below(256) as u8 } else { random.pick(&[0, 255, 254, 128]) })
            .collect();
        let bias: Vec<i32> = (0..problem.outputs()).map(|_| (random.unit() * 50_000.0) as i32).collect();
        let per_output = random.below(2) == 0;
        let scale = random.pick(&[1e-3, 0.01, 1e-5, 1.0, 3e7, 1e-30]);
        let scales: Vec<f32> = (0..if per_output { problem.outputs() } else { 1 })
            .map(|_| scale * (1.0 + 0.5 * random.unit()))
            .collect();
        let (x_zero, y_zero) = (random.pick(&[0u8, 3, 128, 255]), random.pick(&[0u8, 7, 128, 255]));
        let low = random.pick(&[0, y_zero]);
        let high = random.pick(&[255u8, 200]).max(low);
        let slope = random.pick(&[1.0f32, 1.0, 0.0, 0.2]);
        let spec = QuantizedSpec {
            kind,
            input,
            output,
            weights: &weights,
            bias: &bias,
            scales: &scales,
            x_zero,
            y_zero,
            low,
            high,
            slope,
        };
        let mut expected = vec![0u8; output.values()];
        problem.solve(|number, at, products| {
            let sum = products.iter().fold(bias[number], |sum, (x, w)| {
                sum.wrapping_add((i32::from(levels[*x]) - i32::from(x_zero)) * i32::from(weights[*w]))
            });
            let scaled = sum as f32 * scales[if per_output { number } else { 0 }];
            let scaled = if scaled < 0.0 { scaled * slope } else { scaled };
            let level = f64::from(scaled.round_ties_even()) + f64::from(y_zero);
            expected[at] = (level.clamp(0.0, 255.0) as u8).clamp(low, high);
        });
        for cpu in &families {
            let isa = &cpu.isa();
            let layer = QuantizedLayer::new(*cpu, &spec).unwrap();
            // what lies behind the plane and in the output's border must not matter, and not change
            let mut x = vec![0xa5u8; input.len() + layer.slack()];
            x[..input.len()].fill(flipped(*isa, x_zero));
            for (index, level) in levels.iter().enumerate() {
                x[place(&input, index)] = flipped(*isa, *level);
            }
            let parts = 1 + random.below(4);
            let mut y = vec![0x77u8; output.len()];
            let mut scratch = vec![0; layer.scratch() * parts];
            layer.run_on(&mut pools[parts - 1], &x, &mut y, &mut scratch);
            let mut border = y.clone();
            for (index, expected) in expected.iter().enumerate() {
                let at = place(&output, index);
                let found = flipped(*isa, y[at]);
                assert_eq!(
                    found, *expected,
                    "round {round}, {isa}, output {index} of {problem:?}, style {style}"
                );
                border[at] = 0x77;
            }
            assert!(
                border.iter().all(|byte| *byte == 0x77),
                "round {round}, {isa}: the border of {problem:?} changed"
            );
        }
    }
}

#[test]
fn floats_agree_bit_for_bit_in_every_family_and_to_rounding_with_the_definition() {
    let families = families();
    let mut pools = pools();
    let mut random = Random(0xf10a7);
    for round in 0..ROUNDS {
        let problem = Problem::any(&mut random);
        let Problem { kind, input, output } = problem;
        let weights: Vec<f32> = (0..problem.weights()).map(|_| random.unit()).collect();
        let values: Vec<f32> = (0..input.values()).map(|_| random.unit()).collect();
        let bias: Vec<f32> = (0..problem.outputs()).map(|_| random.unit()).collect();
        let each = if random.below(3) == 0 { problem.outputs() } else { 1 };
        let clip = [None, None, Some((0.0, 6.0)), Some((-0.5, 0.75))][random.below(4)];
        let slopes: Vec<f32> = (0..each).map(|_| random.pick(&[1.0f32, 0.0, 0.2, 1.5, -0.3])).collect();
        let spec = FloatSpec {
            kind,
            input,
            output,
            weights: &weights,
            bias: &bias,
            slopes: &slopes,
            clip,
            halves: false,
        };
        let mut expected = vec![(0.0f64, 0.0f64); output.values()];
        problem.solve(|number, at, products| {
            let terms = products.iter().map(|(x, w)| f64::from(values[*x]) * f64::from(weights[*w]));
            let size: f64 = terms.clone().map(f64::abs).sum();
            let sum = f64::from(bias[number]) + terms.sum::<f64>();
            let slope = f64::from(slopes[if each == 1 { 0 } else { number }]);
            let value = if sum < 0.0 { sum * slope } else { sum };
            let value = clip.map_or(value, |(low, high)| value.clamp(f64::from(low), f64::from(high)));
            expected[at] = (value, (size + 1.0) * slope.abs().max(1.0));
        });
        let mut first: Option<Vec<f32>> = None;
        for cpu in &families {
            let isa = &cpu.isa();
            let layer = FloatLayer::new(*cpu, &spec).unwrap();
            let mut x = vec![0.0f32; input.len() + layer.slack()];
            x[input.len()..].fill(1e30);
            for (index, value) in values.iter().enumerate() {
                x[place(&input, index)] = *value;
            }
            let parts = 1 + random.below(4);
            let mut y = vec![77.0f32; output.len()];
            let mut scratch = vec![0.0; layer.scratch() * parts];
            layer.run_on(&mut pools[parts - 1], &x, &mut y, &mut scratch);
            for (index, (expected, size)) in expected.iter().enumerate() {
                let found = f64::from(y[place(&output, index)]);
                // sums of up to some thousands of terms: a few roundings of the largest partial sum
                let most = size * f64::from(f32::EPSILON) * 8.0;
                assert!(
                    (found - expected).abs() <= most,
                    "round {round}, {isa}, output {index} of {problem:?}: {found}, not {expected}"
                );
            }
            // all of them add the same products in the same order, and round each sum once
            match &first {
                None => first = Some(y.clone()),
                Some(first) => assert!(y == *first, "round {round}: {isa} differs on {problem:?}"),
            }
            let layer = FloatLayer::new(*cpu, &FloatSpec { halves: true, ..spec }).unwrap();
            // where each channel is a group, memory is waited for anyway
            assert_eq!(layer.halves(), cpu.halves() && !problem.is_depthwise());
            let mut scratch = vec![0.0; layer.scratch() * parts];
            x.resize(input.len() + layer.slack(), 1e30);
            layer.run_on(&mut pools[parts - 1], &x, &mut y, &mut scratch);
            for (index, (expected, size)) in expected.iter().enumerate().filter(|_| cpu.halves()) {
                let found = f64::from(y[place(&output, index)]);
                // each of up to some hundreds of terms is rounded to 11 bits
                let most = size * 2f64.powi(-11) * 12.0;
                assert!(
                    (found - expected).abs() <= most,
                    "round {round}, {isa} in float16, output {index} of {problem:?}: {found}, not {expected}"
                );
            }
        }
    }
}

#[test]
#[cfg_attr(miri, ignore = "it is slow and reads no memory")]
fn functions_are_as_exact_as_they_say() {
    for (function, exact, most) in [
        (Function::Tanh, f64::tanh as fn(f64) -> f64, 5e-7),
        (Function::Sigmoid, |x: f64| 1.0 / (1.0 + (-x).exp()), 3e-7),
    ] {
        let mut values: Vec<f32> = (-20_000..=20_000).map(|i| i as f32 / 1000.0).collect();
        values.extend([f32::INFINITY, f32::NEG_INFINITY, 0.0, 1e-20]);
        let before = values.clone();
        function.apply(&mut values);
        for (x, y) in before.iter().zip(&values) {
            let exact = exact(f64::from(*x));
            assert!((f64::from(*y) - exact).abs() <= most, "{function:?} of {x}: {y}, not {exact}");
            assert!((f64::from(function.exact(*x)) - exact).abs() <= 1.3e-7, "{function:?} of {x}");
        }
        let mut nan = [f32::NAN];
        function.apply(&mut nan);
        assert!(nan[0].is_nan());
    }
}

#[test]
fn sizes_whose_offsets_would_wrap_cannot_be_made() {
    let huge = [usize::MAX, usize::MAX / 2 + 1, 1 << 40, 40_000];
    for size in huge {
        assert!(Plane::new(1, size, 1).is_err() && Plane::new(1, 1, size).is_err(), "{size}");
        assert!(Axis::new(size, 1, 0, 1).is_err() && Axis::new(1, size, 0, 1).is_err(), "{size}");
        assert!(Axis::new(1, 1, size, 1).is_err() && Axis::new(1, 1, 0, size).is_err(), "{size}");
        let border = Border { top: size, ..Border::default() };
        assert!(Plane::new(1, 1, 1).unwrap().with_border(border).is_err(), "{size}");
        assert!(Times::new(size).is_none(), "{size}");
    }
    assert!(Plane::new(usize::MAX / 2, 2, 2).is_err() && Plane::new(0, 1, 1).is_err());
    assert!(Axis::new(0, 1, 0, 1).is_err() && Axis::new(1, 0, 0, 1).is_err() && Times::new(0).is_none());
    // as large as they can be, a layer of them is made or refused, and nothing wraps
    let axis = Axis::new(16_384, 16_384, 16_384, 16_384).unwrap();
    let (enlarged, block) = (Times::ONE, Times::ONE);
    let kind = Kind::Conv { y: axis, x: axis, enlarged, block, cropped: u16::MAX, groups: 1 };
    let plane = Plane::new(1, 8, 8).unwrap();
    assert!(plane.with_border(kind.border(&plane, &plane)).is_err());
}

#[test]
fn a_spec_that_does_not_fit_is_an_error() {
    let axis = Axis::new(3, 1, 1, 1).unwrap();
    let (enlarged, block) = (Times::ONE, Times::ONE);
    let kind = Kind::Conv { y: axis, x: axis, enlarged, block, cropped: 0, groups: 1 };
    let input = Plane::new(2, 4, 4).unwrap();
    let output = Plane::new(3, 4, 4).unwrap();
    let weights = vec![0.5; 2 * 3 * 9];
    let spec = FloatSpec {
        kind,
        input,
        output,
        weights: &weights,
        bias: &[],
        slopes: &[1.0],
        clip: None,
        halves: false,
    };
    assert!(FloatLayer::new(Cpu::SCALAR, &spec).is_err(), "no border");
    let input = input.with_border(kind.border(&input, &output)).unwrap();
    let spec = FloatSpec { input, ..spec };
    assert!(FloatLayer::new(Cpu::SCALAR, &spec).is_ok());
    assert!(FloatLayer::new(Cpu::SCALAR, &FloatSpec { weights: &weights[1..], ..spec }).is_err());
    assert!(FloatLayer::new(Cpu::SCALAR, &FloatSpec { bias: &[0.0; 2], ..spec }).is_err());
    assert!(FloatLayer::new(Cpu::SCALAR, &FloatSpec { slopes: &[f32::NAN], ..spec }).is_err());
    assert!(FloatLayer::new(Cpu::SCALAR, &FloatSpec { clip: Some((f32::NAN, 1.0)), ..spec }).is_err());
    let spec = QuantizedSpec {
        kind,
        input,
        output,
        weights: &[1; 54],
        bias: &[],
        scales: &[0.1],
        x_zero: 0,
        y_zero: 0,
        low: 0,
        high: 255,
        slope: 1.0,
    };
    assert!(QuantizedLayer::new(Cpu::SCALAR, &spec).is_ok());
    assert!(QuantizedLayer::new(Cpu::SCALAR, &QuantizedSpec { scales: &[f32::NAN], ..spec }).is_err());
    assert!(QuantizedLayer::new(Cpu::SCALAR, &QuantizedSpec { scales: &[0.1, 0.2], ..spec }).is_err());
    assert!(QuantizedLayer::new(Cpu::SCALAR, &QuantizedSpec { scales: &[f32::INFINITY], ..spec }).is_err());
}

#[test]
fn threads_share_a_layer_and_change_nothing() {
    let mut random = Random(0x7472);
    for threads in [1, 2, 3, 8] {
        let mut pool = Pool::new(threads).unwrap();
        for _ in 0..if cfg!(miri) { 6 } else { 60 } {
            let problem = Problem::any(&mut random);
            let Problem { kind, input, output } = problem;
            let weights: Vec<f32> = (0..problem.weights()).map(|_| random.unit()).collect();
            let spec = FloatSpec {
                kind,
                input,
                output,
                weights: &weights,
                bias: &[],
                slopes: &[1.0],
                clip: None,
                halves: false,
            };
            let layer = FloatLayer::new(Cpu::detect(), &spec).unwrap();
            let x: Vec<f32> = (0..input.len() + layer.slack()).map(|_| random.unit()).collect();
            let (mut alone, mut shared) = (vec![7.0; output.len()], vec![7.0; output.len()]);
            layer.run(&x, &mut alone, &mut vec![0.0; layer.scratch()]);
            layer.run_on(&mut pool, &x, &mut shared, &mut vec![0.0; layer.scratch() * threads]);
            assert_eq!(alone, shared, "{threads} threads, {problem:?}");
        }
    }
}

#[test]
fn a_failure_in_a_thread_is_one_of_the_caller() {
    let mut pool = Pool::new(3).unwrap();
    let failed =
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| pool.run(&|part| assert!(part != 2))));
    assert!(failed.is_err());
    let count = std::sync::atomic::AtomicUsize::new(0);
    pool.run(&|_| _ = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
    assert_eq!(count.into_inner(), 3, "the pool goes on");
}
