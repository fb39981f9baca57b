//! Every operator in f64, written as its definition says, with loops over single values: what the back ends are
//! compared with. Gradients are central differences.

use edgegen_trainer::graph::{Activation, Graph, Interpolation, Op, Over, Shape, Window};

/// The values of one batch: of each picture, (C, H, W) row-major.
pub(crate) type Rows = Vec<Vec<f64>>;

/// All values of a graph on `rows` (N pictures), batch norms by the batch's own statistics; `parameters` node by node.
pub(crate) fn values(graph: &Graph, parameters: &[Vec<f64>], rows: &Rows, classes: &[u32]) -> Vec<Rows> {
    let mut all: Vec<Rows> = vec![Vec::new(); graph.values.len()];
    all[graph.input] = rows.clone();
    let mut start = 0;
    for node in &graph.nodes {
        let own = &parameters[start..start + node.parameters.len()];
        start += node.parameters.len();
        let inputs: Vec<(&Rows, Shape)> =
            node.inputs.iter().map(|value| (&all[*value], graph.values[*value].shape)).collect();
        all[node.output] = apply(&node.op, own, &inputs, graph.values[node.output].shape, classes);
    }
    all
}

/// Output position → the input positions of a window along one axis, None outside.
fn window_places(window: &Window, side: usize, output: usize) -> Vec<Option<usize>> {
    let (before, _) = window.padding.along(side, window.kernel, window.stride).unwrap();
    (0..window.kernel)
        .map(|tap| (output * window.stride + tap).checked_sub(before).filter(|place| *place < side))
        .collect()
}

fn apply(op: &Op, own: &[Vec<f64>], inputs: &[(&Rows, Shape)], made: Shape, classes: &[u32]) -> Rows {
    let (x, shape) = inputs[0];
    let (channels, height, width) = shape.image();
    let (out_channels, out_height, out_width) = made.image();
    let each = |f: &dyn Fn(&[f64], usize) -> Vec<f64>| -> Rows {
        x.iter().enumerate().map(|(picture, row)| f(row, picture)).collect()
    };
    let bias = |channel: usize| own.get(1).map_or(0.0, |bias| bias[channel]);
    match *op {
        Op::Dense { inputs, outputs } => each(&|row, _| {
            let dot = |output: usize| (0..inputs).map(|i| own[0][output * inputs + i] * row[i]).sum::<f64>();
            (0..outputs).map(|output| dot(output) + bias(output)).collect()
        }),
        Op::Conv { inputs, outputs, ref window, groups } => each(&|row, _| {
            let (of_group, kernel) = (inputs / groups, window.kernel);
            let mut y = Vec::new();
            for output in 0..outputs {
                let group = output / (outputs / groups);
                for i in 0..out_height {
                    for j in 0..out_width {
                        let (rows, columns) =
                            (window_places(window, height, i), window_places(window, width, j));
                        let mut sum = bias(output);
                        for c in 0..of_group {
                            for (a, row_place) in rows.iter().enumerate() {
                                for (b, column) in columns.iter().enumerate() {
                                    if let (Some(u), Some(v)) = (row_place, column) {
                                        let weight =
                                            own[0][((output * of_group + c) * kernel + a) * kernel + b];
                                        sum +=
                                            weight * row[((group * of_group + c) * height + u) * width + v];
                                    }
                                }
                            }
                        }
                        y.push(sum);
                    }
                }
            }
            y
        }),
        Op::ConvTranspose { inputs, outputs, kernel, stride, padding } => each(&|row, _| {
            let mut y: Vec<f64> = (0..outputs).flat_map(|o| vec![bias(o); out_height * out_width]).collect();
            for c in 0..inputs {
                for (u, v) in (0..height * width).map(|place| (place / width, place % width)) {
                    for o in 0..outputs {
                        for (a, b) in (0..kernel * kernel).map(|tap| (tap / kernel, tap % kernel)) {
                            let at = |place: usize, tap: usize, side: usize| {
                                (place * stride + tap).checked_sub(padding).filter(|at| *at < side)
                            };
                            if let (Some(i), Some(j)) = (at(u, a, out_height), at(v, b, out_width)) {
                                let weight = own[0][((c * outputs + o) * kernel + a) * kernel + b];
                                y[(o * out_height + i) * out_width + j] +=
                                    weight * row[(c * height + u) * width + v];
                            }
                        }
                    }
                }
            }
            y
        }),
        Op::UpsampleConv { inputs, outputs, kernel } => {
            let larger = Shape::Image(inputs, 2 * height, 2 * width);
            let resize = Op::Resize { height: 2 * height, width: 2 * width, by: Interpolation::Nearest };
            let rows = apply(&resize, &[], inputs_of(x, shape).as_slice(), larger, classes);
            let conv = Op::conv(inputs, outputs, kernel, 1, kernel / 2);
            apply(&conv, own, &[(&rows, larger)], made, classes)
        }
        Op::Norm { over, epsilon, .. } => {
            let pixels = height * width;
            let mut y = x.clone();
            // (pictures, channels) of each set that is normalised together
            let sets: Vec<(Vec<usize>, Vec<usize>)> = match over {
                Over::Batch => (0..channels).map(|c| ((0..x.len()).collect(), vec![c])).collect(),
                Over::Groups(groups) => (0..x.len())
                    .flat_map(|n| {
                        let of_group = channels / groups;
                        (0..groups).map(move |g| (vec![n], (g * of_group..(g + 1) * of_group).collect()))
                    })
                    .collect(),
            };
            for (pictures, members) in sets {
                let places: Vec<(usize, usize)> = pictures
                    .iter()
                    .flat_map(|n| members.iter().map(move |c| (*n, *c)))
                    .flat_map(|(n, c)| (0..pixels).map(move |p| (n, c * pixels + p)))
                    .collect();
                let count = places.len() as f64;
                let mean = places.iter().map(|(n, at)| x[*n][*at]).sum::<f64>() / count;
                let variance = places.iter().map(|(n, at)| (x[*n][*at] - mean).powi(2)).sum::<f64>() / count;
                for (n, at) in places {
                    let normal = (x[n][at] - mean) / (variance + epsilon).sqrt();
                    y[n][at] = own[0][at / pixels] * normal + own[1][at / pixels];
                }
            }
            y
        }
        Op::Activation(activation) => each(&|row, _| row.iter().map(|x| function(activation, *x)).collect()),
        Op::Reshape(_) => x.clone(),
        Op::ClassRow { features, .. } => each(&|row, picture| {
            let table = &own[0][classes[picture] as usize * features..];
            row.iter().zip(table).map(|(x, row)| x + row).collect()
        }),
        Op::ClassProjection { .. } => each(&|row, picture| vec![row[0] + row[1 + classes[picture] as usize]]),
        Op::Add | Op::Mul => {
            let other = inputs[1].0;
            let both = |a: &f64, b: &f64| if *op == Op::Add { a + b } else { a * b };
            each(&|row, picture| row.iter().zip(&other[picture]).map(|(a, b)| both(a, b)).collect())
        }
        Op::Scale => {
            let scale = inputs[1].0;
            let pixels = height * width;
            each(&|row, picture| {
                row.iter().enumerate().map(|(at, x)| x * scale[picture][at / pixels]).collect()
            })
        }
        Op::Concat => (0..x.len())
            .map(|picture| inputs.iter().flat_map(|(rows, _)| rows[picture].clone()).collect())
            .collect(),
        Op::Slice { first, count } => {
            let pixels = height * width;
            each(&|row, _| row[first * pixels..(first + count) * pixels].to_vec())
        }
        Op::AveragePool { ref window, counts_padding } => pooled(x, shape, window, |found, area| {
            let count = if counts_padding { area } else { found.len() };
            found.iter().sum::<f64>() / count as f64
        }),
        Op::MaxPool(ref window) => {
            pooled(x, shape, window, |found, _| found.iter().copied().fold(f64::NEG_INFINITY, f64::max))
        }
        Op::GlobalAverage => each(&|row, _| {
            row.chunks(height * width).map(|plane| plane.iter().sum::<f64>() / plane.len() as f64).collect()
        }),
        Op::Resize { by, .. } => each(&|row, _| {
            let mut y = Vec::new();
            for plane in row.chunks(height * width) {
                for i in 0..out_height {
                    for j in 0..out_width {
                        y.push(match by {
                            Interpolation::Nearest => {
                                plane[i * height / out_height * width + j * width / out_width]
                            }
                            Interpolation::Bilinear => {
                                let place = |at: usize, from: usize, to: usize| {
                                    let at = (at as f64 + 0.5) * from as f64 / to as f64 - 0.5;
                                    let at = at.clamp(0.0, from as f64 - 1.0);
                                    (at as usize, (at as usize + 1).min(from - 1), at.fract())
                                };
                                let (top, bottom, down) = place(i, height, out_height);
                                let (left, right, across) = place(j, width, out_width);
                                let line = |y: usize| {
                                    plane[y * width + left] * (1.0 - across)
                                        + plane[y * width + right] * across
                                };
                                line(top) * (1.0 - down) + line(bottom) * down
                            }
                        });
                    }
                }
            }
            y
        }),
        Op::Blur => each(&|row, _| {
            let mut y = Vec::new();
            for plane in row.chunks(height * width) {
                for (i, j) in (0..height * width).map(|place| (place / width, place % width)) {
                    let mut sum = 0.0;
                    for (a, b) in (0..9).map(|tap| (tap / 3, tap % 3)) {
                        let at = (i + a).checked_sub(1).zip((j + b).checked_sub(1));
                        if let Some((u, v)) = at.filter(|(u, v)| *u < height && *v < width) {
                            sum += [0.25, 0.5, 0.25][a] * [0.25, 0.5, 0.25][b] * plane[u * width + v];
                        }
                    }
                    y.push(sum);
                }
            }
            y
        }),
        Op::Shuffle(shuffle) => each(&|row, _| {
            let block = shuffle.block;
            let mut y = Vec::new();
            for c in 0..out_channels {
                for (i, j) in (0..out_height * out_width).map(|at| (at / out_width, at % out_width)) {
                    let (u, v) = (i + shuffle.first, j + shuffle.first);
                    let from = c * block * block + u % block * block + v % block;
                    y.push(row[(from * height + u / block) * width + v / block]);
                }
            }
            y
        }),
        Op::Unshuffle { block } => each(&|row, _| {
            let mut y = Vec::new();
            for channel in 0..out_channels {
                let (c, a, b) = (channel / (block * block), channel / block % block, channel % block);
                for (i, j) in (0..out_height * out_width).map(|at| (at / out_width, at % out_width)) {
                    y.push(row[(c * height + i * block + a) * width + j * block + b]);
                }
            }
            y
        }),
        Op::Softmax => each(&|row, _| {
            let sum: f64 = row.iter().map(|x| x.exp()).sum();
            row.iter().map(|x| x.exp() / sum).collect()
        }),
        Op::UnitLength => each(&|row, _| {
            let length = |pixel: usize| {
                let own = row.iter().skip(pixel).step_by(height * width);
                (own.map(|x| x * x).sum::<f64>() + 1e-8).sqrt()
            };
            row.iter().enumerate().map(|(at, x)| x / length(at % (height * width))).collect()
        }),
        Op::BatchDeviation => {
            let (count, values) = (x.len() as f64, shape.values());
            let deviation = |at: usize| {
                let mean = x.iter().map(|row| row[at]).sum::<f64>() / count;
                (x.iter().map(|row| (row[at] - mean).powi(2)).sum::<f64>() / count + 1e-8).sqrt()
            };
            let mean = (0..values).map(deviation).sum::<f64>() / values as f64;
            each(&|row, _| row.iter().copied().chain(vec![mean; height * width]).collect())
        }
        Op::Foreign(_) => panic!("another maker's operator"),
    }
}

fn inputs_of(x: &Rows, shape: Shape) -> Vec<(&Rows, Shape)> {
    vec![(x, shape)]
}

fn pooled(x: &Rows, shape: Shape, window: &Window, f: impl Fn(&[f64], usize) -> f64) -> Rows {
    let (_, height, width) = shape.image();
    let ((_, out_height), (_, out_width)) = window.place(height, width).unwrap();
    let of_picture = |row: &Vec<f64>| {
        let mut y = Vec::new();
        for plane in row.chunks(height * width) {
            for (i, j) in (0..out_height * out_width).map(|at| (at / out_width, at % out_width)) {
                let (rows, columns) = (window_places(window, height, i), window_places(window, width, j));
                let found: Vec<f64> = rows
                    .iter()
                    .flatten()
                    .flat_map(|u| columns.iter().flatten().map(move |v| plane[u * width + v]))
                    .collect();
                y.push(f(&found, window.kernel * window.kernel));
            }
        }
        y
    };
    x.iter().map(of_picture).collect()
}

fn function(activation: Activation, x: f64) -> f64 {
    let sigmoid = 1.0 / (1.0 + (-x).exp());
    match activation {
        Activation::Relu => x.max(0.0),
        Activation::LeakyRelu(slope) => {
            if x < 0.0 {
                f64::from(slope) * x
            } else {
                x
            }
        }
        Activation::Relu6 => x.clamp(0.0, 6.0),
        Activation::Tanh => x.tanh(),
        Activation::Sigmoid => sigmoid,
        Activation::Silu => x * sigmoid,
        Activation::HardSigmoid => (x / 6.0 + 0.5).clamp(0.0, 1.0),
        Activation::HardSwish => x * (x / 6.0 + 0.5).clamp(0.0, 1.0),
        Activation::Softplus => x.max(0.0) + (-x.abs()).exp().ln_1p(),
    }
}
