//! What is done to values, windows and matrices: the same bits in every family, and what a direct transcription says.

use edgegen_kernels::elements::{self, Binary, Function, Scale, flipped, places};
use edgegen_kernels::norms::{Among, Norm, Over, Softmax};
use edgegen_kernels::windows::{self, Pooling, Resize, Weights};
use edgegen_kernels::{Axis, Border, Cpu, Isa, Plane, Product};

const ROUNDS: usize = if cfg!(miri) { 4 } else { 120 };

fn families() -> Vec<Cpu> {
    Isa::ALL.into_iter().filter_map(Cpu::with).collect()
}

/// xorshift64*.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        ((self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16) % bound as u64) as usize
    }

    fn unit(&mut self) -> f32 {
        self.below(1 << 24) as f32 / (1 << 23) as f32 - 1.0
    }

    fn plane(&mut self, channels: usize, height: usize, width: usize) -> Plane {
        let mut side = || self.below(3);
        let border = Border { top: side(), left: side(), bottom: side(), right: side() };
        Plane::new(channels, height, width).unwrap().with_border(border).unwrap()
    }
}

/// A picture's values, CHW, in a plane's memory.
fn laid<T: Copy>(plane: &Plane, values: &[T], other: T) -> Vec<T> {
    let mut memory = vec![other; plane.len()];
    places(plane).zip(values).for_each(|(at, value)| memory[at] = *value);
    memory
}

fn read<T: Copy>(plane: &Plane, memory: &[T]) -> Vec<T> {
    places(plane).map(|at| memory[at]).collect()
}

/// Runs in every family: the same bits in all of them, and close to what is expected, relative to `sizes`.
fn agree(to: &Plane, expected: &[f64], within: f64, what: &str, mut run: impl FnMut(Cpu, &mut [f32])) {
    let mut first: Option<Vec<u32>> = None;
    for cpu in families() {
        let mut memory = vec![77.0f32; to.len()];
        run(cpu, &mut memory);
        let found = read(to, &memory);
        for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
            let most = within * (1.0 + expected.abs());
            assert!(
                (f64::from(*found) - expected).abs() <= most,
                "{what}, {}, {index}: {found}, not {expected}",
                cpu.isa()
            );
        }
        let inside: Vec<usize> = places(to).collect();
        for (at, value) in memory.iter().enumerate() {
            assert!(inside.contains(&at) || *value == 77.0, "{what}: the border changed");
        }
        let bits: Vec<u32> = found.iter().map(|value| value.to_bits()).collect();
        match &first {
            None => first = Some(bits),
            Some(first) => assert_eq!(*first, bits, "{what}: {} differs", cpu.isa()),
        }
    }
}

#[test]
fn two_values_are_spread_over_each_other() {
    let mut random = Random(0xb1_7a5);
    let all = [Binary::Add, Binary::Sub, Binary::Mul, Binary::Div, Binary::Min, Binary::Max];
    for round in 0..ROUNDS {
        let dims = [1 + random.below(37), 1 + random.below(5), 1 + random.below(6)];
        let of = |random: &mut Random, whole: bool| {
            dims.map(|size| if whole || random.below(3) > 0 { size } else { 1 })
        };
        let whole = random.below(2);
        let shapes = [of(&mut random, whole == 0), of(&mut random, whole == 1)];
        let made: [usize; 3] = std::array::from_fn(|axis| shapes[0][axis].max(shapes[1][axis]));
        let planes = shapes.map(|[channels, height, width]| random.plane(channels, height, width));
        let to = random.plane(made[0], made[1], made[2]);
        let values =
            planes.map(|plane| (0..plane.values()).map(|_| random.unit() + 0.01).collect::<Vec<f32>>());
        let place = |shape: [usize; 3], at: [usize; 3]| {
            let own: [usize; 3] = std::array::from_fn(|axis| if shape[axis] == 1 { 0 } else { at[axis] });
            (own[0] * shape[1] + own[1]) * shape[2] + own[2]
        };
        let each = |index: usize| {
            let at = [index / (made[1] * made[2]), index / made[2] % made[1], index % made[2]];
            [place(shapes[0], at), place(shapes[1], at)]
        };
        let binary = all[random.below(all.len())];
        let after =
            [Function::Identity, Function::Slope(0.0), Function::Slope(0.2), Function::Tanh][random.below(4)];
        let expected: Vec<f64> = (0..to.values())
            .map(|index| {
                let [a, b] = each(index);
                f64::from(after.exact(binary.of(values[0][a], values[1][b])))
            })
            .collect();
        let memory = [0, 1].map(|side| laid(&planes[side], &values[side], f32::NAN));
        agree(
            &to,
            &expected,
            5e-7,
            &format!("round {round}, {binary:?}, {after:?}, {shapes:?}"),
            |cpu, y| {
                let operands = ((&planes[0], &memory[0][..]), (&planes[1], &memory[1][..]));
                elements::binary(cpu, binary, operands, after, (&to, y));
            },
        );
        // and of levels
        let levels =
            planes.map(|plane| (0..plane.values()).map(|_| random.below(256) as u8).collect::<Vec<u8>>());
        let scales = [(0.01, 3), (0.02, 128), (0.03, 7)].map(|(scale, zero)| Scale { scale, zero });
        let (low, high) = (random.below(100) as u8, 155 + random.below(101) as u8);
        for cpu in families() {
            let memory = [0, 1].map(|side| {
                let flipped: Vec<u8> = levels[side].iter().map(|level| flipped(cpu.isa(), *level)).collect();
                laid(&planes[side], &flipped, 0x55)
            });
            let mut y = vec![0u8; to.len()];
            let operands = ((&planes[0], &memory[0][..], scales[0]), (&planes[1], &memory[1][..], scales[1]));
            elements::binary_levels(cpu, binary, operands, (scales[2], low, high), (&to, &mut y));
            for (index, found) in read(&to, &y).into_iter().enumerate() {
                let [a, b] = each(index);
                let [a, b] = [(levels[0][a], scales[0]), (levels[1][b], scales[1])]
                    .map(|(level, scale)| elements::value(level, scale.scale, scale.zero));
                let expected = elements::level(binary.of(a, b), 0.03, 7).max(low).min(high);
                assert_eq!(
                    flipped(cpu.isa(), found),
                    expected,
                    "round {round}, {}, {binary:?} of {a}, {b}",
                    cpu.isa()
                );
            }
        }
    }
}

#[test]
fn functions_are_near_libm_and_the_same_everywhere() {
    let all = [
        Function::Slope(-0.5),
        Function::HardSigmoid(0.3, 0.4),
        Function::HardSwish,
        Function::Silu(1.0),
        Function::Silu(1.702),
        Function::Elu(1.0, 1.0, 1.0),
        Function::Elu(0.7, 0.7, 1.0),
        Function::Elu(1.67, 1.0, 1.05),
        Function::Gelu,
        Function::GeluTanh,
        Function::Softplus,
        Function::Softsign,
        Function::Mish,
        Function::Threshold(0.5),
        Function::Abs,
        Function::Sign,
        Function::Exp,
        Function::Erf,
        Function::Power(2.0),
        Function::Power(3.0),
        Function::Floor,
        Function::Ceil,
        Function::Round,
        Function::Sin,
        Function::Cos,
        Function::Tanh,
        Function::Sigmoid,
    ];
    let steps = if cfg!(miri) { 20 } else { 4000 };
    let values: Vec<f32> = (-steps..=steps).map(|at| at as f32 * (20.0 / steps as f32)).collect();
    let plane = Plane::new(1, 1, values.len()).unwrap();
    for function in all {
        let expected: Vec<f64> = values.iter().map(|value| f64::from(function.exact(*value))).collect();
        let most = if function == Function::Gelu { 2e-6 } else { 6e-7 };
        agree(&plane, &expected, most, &format!("{function:?}"), |cpu, y| {
            elements::map(cpu, function, (&plane, &values), (&plane, y));
        });
        let mut nan = [f32::NAN];
        function.apply(&mut nan);
        let clamps = matches!(function, Function::HardSigmoid(..));
        assert!(nan[0].is_nan() || clamps, "{function:?} of NaN is {}", nan[0]);
    }
    let (mut large, mut small) = ([89.5f32, f32::INFINITY], [-110.0f32, f32::NEG_INFINITY]);
    Function::Exp.apply(&mut large);
    Function::Exp.apply(&mut small);
    assert!(large == [f32::INFINITY; 2] && small == [0.0; 2], "{large:?} {small:?}");
}

#[test]
fn windows_are_pooled() {
    let mut random = Random(0x9001);
    for round in 0..ROUNDS {
        let (channels, height, width) = (1 + random.below(70), 1 + random.below(8), 1 + random.below(8));
        let axis = |random: &mut Random, size: usize| loop {
            let (kernel, dilation) = (1 + random.below(4), 1 + random.below(2));
            let reach = (kernel - 1) * dilation + 1;
            let (padding, behind) = (random.below(reach), random.below(reach));
            let stride = 1 + random.below(3);
            if let Some(left) = (size + padding + behind).checked_sub(reach) {
                let made = left / stride + 1;
                if (made - 1) * stride < size + padding {
                    return (Axis::new(kernel, stride, padding, dilation).unwrap(), behind, made);
                }
            }
        };
        let ((y, bottom, rows), (x, right, cols)) = (axis(&mut random, height), axis(&mut random, width));
        let from = random.plane(channels, height, width);
        let to = random.plane(channels, rows, cols);
        let values: Vec<f32> = (0..from.values()).map(|_| random.unit()).collect();
        let memory = laid(&from, &values, 1e30);
        let pooling = [Pooling::Max, Pooling::Mean, Pooling::PaddedMean { bottom, right }][random.below(3)];
        let window = |channel: usize, row: usize, col: usize| {
            let (mut seen, mut padded) = (Vec::new(), 0);
            for ky in 0..y.kernel() {
                for kx in 0..x.kernel() {
                    let sy = (row * y.stride() + ky * y.dilation()) as isize - y.padding() as isize;
                    let sx = (col * x.stride() + kx * x.dilation()) as isize - x.padding() as isize;
                    padded += usize::from(sy < (height + bottom) as isize && sx < (width + right) as isize);
                    if (0..height as isize).contains(&sy) && (0..width as isize).contains(&sx) {
                        seen.push((channel * height + sy as usize) * width + sx as usize);
                    }
                }
            }
            (seen, padded)
        };
        let place = |index: usize| (index / (rows * cols), index / cols % rows, index % cols);
        let expected: Vec<f64> = (0..to.values())
            .map(|index| {
                let (channel, row, col) = place(index);
                let (seen, padded) = window(channel, row, col);
                let sum: f64 = seen.iter().map(|at| f64::from(values[*at])).sum();
                match pooling {
                    Pooling::Max => {
                        seen.iter().map(|at| f64::from(values[*at])).fold(f64::NEG_INFINITY, f64::max)
                    }
                    Pooling::Mean => sum / seen.len().max(1) as f64,
                    Pooling::PaddedMean { .. } => sum / padded as f64,
                }
            })
            .collect();
        if expected.iter().any(|value| value.is_infinite()) {
            continue; // dilated windows between pixels
        }
        agree(
            &to,
            &expected,
            1e-6,
            &format!("round {round}, {pooling:?}, {y:?}, {x:?}, {from:?}"),
            |cpu, made| match pooling {
                Pooling::Max => windows::largest(cpu, (y, x), (&from, &memory), (&to, made)),
                _ => windows::mean(cpu, pooling, (y, x), (&from, &memory), (&to, made)),
            },
        );
        let levels: Vec<u8> = (0..from.values()).map(|_| random.below(256) as u8).collect();
        for cpu in families() {
            let flip = |level: &u8| flipped(cpu.isa(), *level);
            let memory = laid(&from, &levels.iter().map(flip).collect::<Vec<u8>>(), flip(&255));
            let mut made = vec![0u8; to.len()];
            windows::largest_levels(cpu, (y, x), (&from, &memory), (&to, &mut made));
            for (index, found) in read(&to, &made).iter().enumerate() {
                let (channel, row, col) = place(index);
                let largest = window(channel, row, col).0.iter().map(|at| levels[*at]).max().unwrap_or(0);
                assert_eq!(flip(found), largest, "round {round}, {}", cpu.isa());
            }
            let pixel = Plane::new(channels, 1, 1).unwrap();
            let mut means = vec![0u8; pixel.len()];
            let scale = 0.5 / (height * width) as f32;
            windows::mean_levels(cpu, (scale, 9, 11), (&from, &memory), (&pixel, &mut means));
            for (channel, found) in means.iter().enumerate() {
                let of_channel = &levels[channel * height * width..][..height * width];
                let sum: i32 = of_channel.iter().map(|level| i32::from(*level) - 9).sum();
                let expected = ((sum as f32 * scale).round_ties_even() as i32 + 11).clamp(0, 255) as u8;
                assert_eq!(flip(found), expected, "round {round}, {}", cpu.isa());
            }
        }
    }
}

#[test]
fn pictures_are_resized_by_weights() {
    let mut random = Random(0x2e51);
    for round in 0..ROUNDS {
        let (channels, height, width) = (1 + random.below(40), 1 + random.below(6), 1 + random.below(6));
        let from = random.plane(channels, height, width);
        let mut axis = |size: usize| {
            let (outputs, taps) = (1 + random.below(9), 1 + random.below(4));
            let places: Vec<u32> = (0..outputs * taps).map(|_| random.below(size) as u32).collect();
            let weights: Vec<f32> = places.iter().map(|_| random.unit()).collect();
            (places, weights, taps, outputs)
        };
        let (y, x) = (axis(height), axis(width));
        let to = random.plane(channels, y.3, x.3);
        let values: Vec<f32> = (0..from.values()).map(|_| random.unit()).collect();
        let memory = laid(&from, &values, f32::NAN);
        let expected: Vec<f64> = (0..to.values())
            .map(|index| {
                let (channel, row, col) = (index / (y.3 * x.3), index / x.3 % y.3, index % x.3);
                let mut sum = 0.0;
                for ty in row * y.2..(row + 1) * y.2 {
                    for tx in col * x.2..(col + 1) * x.2 {
                        let at = (channel * height + y.0[ty] as usize) * width + x.0[tx] as usize;
                        sum += f64::from(y.1[ty]) * f64::from(x.1[tx]) * f64::from(values[at]);
                    }
                }
                sum
            })
            .collect();
        let weights = |axis: &(Vec<u32>, Vec<f32>, usize, usize)| {
            Weights::new(axis.0.clone(), axis.1.clone(), axis.2).unwrap()
        };
        let mut resize = Resize::new(weights(&y), weights(&x), &from, &to).unwrap();
        agree(&to, &expected, 5e-6, &format!("round {round}"), |cpu, made| {
            resize.run(cpu, (&from, &memory), (&to, made));
        });
    }
    assert!(Weights::new(vec![1], vec![1.0, 2.0], 1).is_err());
    let plane = Plane::new(1, 2, 2).unwrap();
    let outside = || Weights::new(vec![0, 2], vec![1.0; 2], 1).unwrap();
    assert!(Resize::new(outside(), outside(), &plane, &plane).is_err());
}

#[test]
fn norms_and_softmaxes_are_of_their_values() {
    let mut random = Random(0x5047);
    for round in 0..ROUNDS {
        let groups = 1 + random.below(5);
        let (of_group, height, width) = (1 + random.below(9), 1 + random.below(7), 2 + random.below(7));
        let channels = groups * of_group;
        let (from, to) = (random.plane(channels, height, width), random.plane(channels, height, width));
        let values: Vec<f32> = (0..from.values()).map(|_| 3.0 * random.unit() + 1.0).collect();
        let memory = laid(&from, &values, f32::NAN);
        // values that belong together have the same number
        let place = |index: usize| (index / (height * width), index / width % height, index % width);
        let over = [Over::Channels(of_group), Over::Pixel, Over::Row][random.below(3)];
        let together = |index: usize| match (over, place(index)) {
            (Over::Channels(each), (channel, ..)) => channel / each,
            (Over::Pixel, (_, row, col)) => row * width + col,
            (Over::Row, (channel, row, _)) => channel * height + row,
        };
        let count = if over == Over::Row { width } else { channels };
        let scale: Vec<f32> = (0..count).map(|_| random.unit()).collect();
        let shift: Vec<f32> = (0..count).map(|_| random.unit()).collect();
        let expected: Vec<f64> = (0..values.len())
            .map(|index| {
                let same = (0..values.len()).filter(|other| together(*other) == together(index));
                let same: Vec<f64> = same.map(|other| f64::from(values[other])).collect();
                let mean = same.iter().sum::<f64>() / same.len() as f64;
                let variance = same.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / same.len() as f64;
                let (channel, _, col) = place(index);
                let of = if over == Over::Row { col } else { channel };
                (f64::from(values[index]) - mean) / (variance + 1e-2).sqrt() * f64::from(scale[of])
                    + f64::from(shift[of])
            })
            .collect();
        let mut norm = Norm::new(over, 1e-2, (scale, shift), &from).unwrap();
        agree(&to, &expected, 3e-5, &format!("round {round}, {over:?}"), |cpu, made| {
            norm.run(cpu, (&from, &memory), (&to, made));
        });
        let among = [Among::Channels, Among::Columns, Among::Rows][random.below(3)];
        let together = |index: usize| match (among, place(index)) {
            (Among::Channels, (_, row, col)) => (row, col),
            (Among::Columns, (channel, row, _)) => (channel, row),
            (Among::Rows, (channel, _, col)) => (channel, col),
        };
        let expected: Vec<f64> = (0..values.len())
            .map(|index| {
                let same = (0..values.len()).filter(|other| together(*other) == together(index));
                f64::from(values[index]).exp() / same.map(|other| f64::from(values[other]).exp()).sum::<f64>()
            })
            .collect();
        agree(&to, &expected, 1e-6, &format!("round {round}, {among:?}"), |cpu, made| {
            Softmax::new(among, &from).run(cpu, (&from, &memory), (&to, made));
        });
    }
    assert!(
        Norm::new(Over::Channels(2), 0.1, (vec![1.0; 3], vec![1.0; 3]), &Plane::new(3, 1, 1).unwrap())
            .is_err()
    );
}

#[test]
fn matrices_are_multiplied() {
    let mut random = Random(0x3a71);
    for round in 0..ROUNDS {
        let [rows, inner, columns] = [0; 3].map(|_| 1 + random.below(40));
        let plane = |channels, width| Plane::new(channels, 1, width).unwrap();
        let (left, right, to) = (plane(rows, inner), plane(inner, columns), plane(rows, columns));
        let mut values = |plane: &Plane| (0..plane.values()).map(|_| random.unit()).collect::<Vec<f32>>();
        let (a, b) = (values(&left), values(&right));
        let expected: Vec<f64> = (0..to.values())
            .map(|index| {
                let (row, column) = (index / columns, index % columns);
                (0..inner).map(|k| f64::from(a[row * inner + k]) * f64::from(b[k * columns + column])).sum()
            })
            .collect();
        // the same values, rows and columns exchanged
        let turned = [random.below(2) == 0, random.below(2) == 0];
        let turn = |plane: &Plane, values: &[f32]| -> (Plane, Vec<f32>) {
            let (rows, columns) = (plane.channels(), plane.width());
            let at = |index: usize| values[index % rows * columns + index / rows];
            (Plane::new(columns, 1, rows).unwrap(), (0..values.len()).map(at).collect())
        };
        let (left, a) = if turned[0] { turn(&left, &a) } else { (left, a) };
        let (right, b) = if turned[1] { turn(&right, &b) } else { (right, b) };
        let (a, b) = (laid(&left, &a, 0.0), laid(&right, &b, 0.0));
        agree(&to, &expected, 1e-5, &format!("round {round}, {rows} x {inner} x {columns}"), |cpu, made| {
            let mut product = Product::new(cpu, (left, turned[0]), (right, turned[1]), to).unwrap();
            let mut right = b.clone();
            right.resize(right.len() + product.slack(), 1e30);
            product.run(&a, &right, made);
            let first = made.to_vec();
            product.clone().run(&a, &right, made);
            assert_eq!(first, made, "a copy has weights of its own");
        });
    }
    let plane = Plane::new(3, 1, 4).unwrap();
    assert!(Product::new(Cpu::SCALAR, (plane, false), (plane, false), plane).is_err());
}
