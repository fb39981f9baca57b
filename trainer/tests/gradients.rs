//! Forward and backward passes of every operator, on both back ends, against the operator's definition in f64 and its
//! central differences, on generated sizes.

use candle_core::Device;
use edgegen_trainer::compute::candle::Candle;
use edgegen_trainer::compute::{Backend, Gradients, Lanes, Network};
use edgegen_trainer::graph::chain::Builder;
use edgegen_trainer::graph::{Activation, Graph, Interpolation, Op, Over, Padding, Shape, Shuffle, Window};
use edgegen_trainer::random::{Purpose, Stream};
use reference::{Rows, values};

mod reference;

/// f32 sums of a few thousand products against f64, relative to the largest value.
const TOLERANCE: f64 = 3e-5;
/// Central differences in f64: long enough for 9 digits, short enough that no kink is crossed.
const STEP: f64 = 1e-6;
/// Values of a tensor whose gradients are compared: differences take a forward pass for each.
const COMPARED: usize = 12;

fn noise(count: usize, index: u64) -> Vec<f32> {
    let mut values = vec![0f32; count];
    Stream::new(5, Purpose::Evaluation, index).fill_normal(&mut values);
    values
}

fn close(what: &str, found: &[f32], expected: &[f64], places: &[usize]) {
    let largest = expected.iter().fold(1e-2f64, |most, value| most.max(value.abs()));
    for (expected, place) in expected.iter().zip(places) {
        let apart = (f64::from(found[*place]) - expected).abs();
        assert!(apart <= TOLERANCE * largest, "{what}, value {place}: {} {expected}", found[*place]);
    }
}

/// A few places of a tensor, the first and the last among them.
fn places(count: usize) -> Vec<usize> {
    let taken = count.min(COMPARED);
    (0..taken).map(|index| index * (count - 1) / (taken - 1).max(1)).collect()
}

struct Case {
    name: String,
    graph: Graph,
    rows: Vec<f32>,
    classes: Vec<u32>,
    count: usize,
}

impl Case {
    fn new(name: &str, graph: &Graph<()>, count: usize) -> Self {
        let mut graph = graph.initialise(3, 0);
        // values that are neither 0 nor 1, so that every parameter matters
        for (index, parameter) in graph.parameters_mut().enumerate() {
            if parameter.shape.len() == 1 && parameter.trained {
                parameter.value = noise(parameter.value.len(), 100 + index as u64);
            }
        }
        let rows = noise(count * graph.input_shape().values(), 1);
        let classes = (0..count as u32).map(|row| row % 3).collect();
        Self { name: format!("{name}, batch {count}"), graph, rows, classes, count }
    }

    fn exact(&self, parameters: &[Vec<f64>], rows: &Rows) -> Rows {
        values(&self.graph, parameters, rows, &self.classes).swap_remove(self.graph.output())
    }

    fn wide(&self) -> (Vec<Vec<f64>>, Rows) {
        let wide = |values: &[f32]| values.iter().map(|value| f64::from(*value)).collect::<Vec<f64>>();
        let parameters = self.graph.parameters().map(|parameter| wide(&parameter.value)).collect();
        (parameters, self.rows.chunks(self.graph.input_shape().values()).map(wide).collect())
    }

    fn check<B: Backend>(&self, backend: &B, what: &str) {
        let what = format!("{}, {what}", self.name);
        let mut network = Network::new(backend, &self.graph).unwrap();
        let (parameters, rows) = self.wide();
        let expected = self.exact(&parameters, &rows).concat();
        let output = self.graph.output();
        let x = backend.tensor(&self.rows, self.graph.input_shape()).unwrap();
        let (results, pass) = network.train(x, Some(&self.classes), output, &[]).unwrap();
        let found = backend.rows(&results).unwrap();
        assert_eq!(found.len(), expected.len(), "{what}");
        close(&what, &found, &expected, &(0..expected.len()).collect::<Vec<_>>());

        // the gradient of Σ weight · result
        let weights = noise(expected.len(), 2);
        let loss = |parameters: &[Vec<f64>], rows: &Rows| -> f64 {
            let found = self.exact(parameters, rows).concat();
            found.iter().zip(&weights).map(|(value, weight)| value * f64::from(*weight)).sum()
        };
        let mut gradients = Gradients::of(backend, &network.graph).unwrap();
        let seed = || vec![(output, backend.tensor(&weights, self.graph.output_shape()).unwrap())];
        let of_input = network.backward(&pass, seed(), Some(&mut gradients), true, &[]).unwrap().unwrap();
        let of_input = backend.rows(&of_input).unwrap();
        let values = self.graph.input_shape().values();
        let chosen = places(self.rows.len());
        let slope = |at: usize| {
            let moved = |by: f64| {
                let mut rows = rows.clone();
                rows[at / values][at % values] += by;
                loss(&parameters, &rows)
            };
            (moved(STEP) - moved(-STEP)) / (2.0 * STEP)
        };
        close(
            &format!("{what}, input"),
            &of_input,
            &chosen.iter().map(|at| slope(*at)).collect::<Vec<_>>(),
            &chosen,
        );
        let host = gradients.to_host().unwrap();
        let trained = self.graph.parameters().enumerate().filter(|(_, parameter)| parameter.trained);
        for ((number, parameter), found) in trained.zip(&host) {
            let chosen = places(parameter.count());
            let slope = |at: usize| {
                let moved = |by: f64| {
                    let mut parameters = parameters.clone();
                    parameters[number][at] += by;
                    loss(&parameters, &rows)
                };
                (moved(STEP) - moved(-STEP)) / (2.0 * STEP)
            };
            let expected: Vec<f64> = chosen.iter().map(|at| slope(*at)).collect();
            close(&format!("{what}, {}", parameter.name), found, &expected, &chosen);
        }
        // gradients add up, and without the input's nothing else changes
        assert!(network.backward(&pass, seed(), Some(&mut gradients), false, &[]).unwrap().is_none());
        for (twice, once) in gradients.to_host().unwrap().iter().zip(&host) {
            let largest = once.iter().fold(1e-3f32, |most, value| most.max(value.abs()));
            assert!(
                twice.iter().zip(once).all(|(twice, once)| (twice - 2.0 * once).abs() <= 1e-4 * largest),
                "{what}"
            );
        }
        // frozen weights: the input's gradient alone is the same
        let alone = network.backward(&pass, seed(), None, true, &[]).unwrap().unwrap();
        assert_eq!(backend.rows(&alone).unwrap(), of_input, "{what}");
    }

    fn check_both(&self) {
        self.check(&Lanes, "lanes");
        self.check(&Candle::new(Device::Cpu), "candle");
        // a whole batch of lanes more, on the CPU's own
        assert!(self.count > 0);
    }
}

fn check(name: &str, input: Shape, ops: Vec<Op>) {
    let graph = Graph::chain("test", input, ops).unwrap();
    for count in [3, 17] {
        Case::new(name, &graph, count).check_both();
    }
}

fn conv(inputs: usize, outputs: usize, kernel: usize, stride: usize, padding: Padding, groups: usize) -> Op {
    Op::Conv { inputs, outputs, window: Window { kernel, stride, padding }, groups }
}

#[test]
fn linear_operators() {
    let image = Shape::Image(5, 6, 8);
    check("dense", Shape::Vector(9), vec![Op::Dense { inputs: 9, outputs: 13 }]);
    for (kernel, stride, padding) in
        [(4, 2, 1), (3, 1, 1), (5, 1, 2), (1, 1, 0), (4, 1, 0), (2, 2, 0), (3, 3, 2)]
    {
        let name = format!("conv k{kernel} s{stride} p{padding}");
        check(&name, image, vec![Op::conv(5, 7, kernel, stride, padding)]);
    }
    for (kernel, stride) in [(3, 1), (3, 2), (5, 2), (4, 2), (1, 2)] {
        for shape in [Shape::Image(3, 7, 8), Shape::Image(3, 1, 5)] {
            let name = format!("conv k{kernel} s{stride} SAME on {shape}");
            check(&name, shape, vec![conv(3, 4, kernel, stride, Padding::Same, 1)]);
        }
    }
    for (kernel, stride, padding) in [(4, 2, 1), (4, 1, 0), (5, 3, 2), (7, 1, 0)] {
        let name = format!("transposed k{kernel} s{stride} p{padding}");
        let op = Op::ConvTranspose { inputs: 5, outputs: 7, kernel, stride, padding };
        check(&name, image, vec![op]);
    }
    for kernel in [1, 3, 5] {
        let op = Op::UpsampleConv { inputs: 5, outputs: 4, kernel };
        check(&format!("upsample k{kernel}"), image, vec![op]);
    }
}

#[test]
fn grouped_and_depthwise_convolutions() {
    for (kernel, stride) in [(3, 1), (3, 2), (5, 1), (5, 2), (1, 1)] {
        for shape in [Shape::Image(6, 7, 9), Shape::Image(6, 1, 1), Shape::Image(6, 8, 5)] {
            let name = format!("depthwise k{kernel} s{stride} on {shape}");
            check(&name, shape, vec![Op::depthwise(6, kernel, stride)]);
        }
    }
    check("two filters a channel", Shape::Image(3, 6, 5), vec![conv(3, 6, 3, 1, Padding::Zeros(1), 3)]);
    check("grouped", Shape::Image(6, 6, 5), vec![conv(6, 4, 3, 2, Padding::Zeros(1), 2)]);
    check("grouped SAME", Shape::Image(9, 5, 5), vec![conv(9, 6, 4, 2, Padding::Same, 3)]);
}

#[test]
fn sizes_up_to_65() {
    for (index, side) in [1usize, 2, 17, 33, 65].into_iter().enumerate() {
        let channels = 1 + 2 * index;
        let shape = Shape::Image(channels, side, 66 - side);
        let graph = Graph::chain(
            "test",
            shape,
            vec![
                conv(channels, 3, 3, 2, Padding::Same, 1),
                Op::Activation(Activation::Tanh),
                Op::depthwise(3, 5, 1),
            ],
        )
        .unwrap();
        Case::new(&format!("{shape}"), &graph, 2).check_both();
    }
}

#[test]
fn norms_and_activations() {
    let image = Shape::Image(6, 4, 5);
    check("batch norm", image, vec![Op::batch_norm(6)]);
    check("batch norm of features", Shape::Vector(9), vec![Op::batch_norm(9)]);
    for groups in [1, 2, 6] {
        let op = Op::Norm { channels: 6, over: Over::Groups(groups), epsilon: 1e-5 };
        check(&format!("group norm of {groups}"), image, vec![op]);
    }
    for activation in [
        Activation::Relu,
        Activation::LeakyRelu(0.2),
        Activation::Relu6,
        Activation::Tanh,
        Activation::Sigmoid,
        Activation::Silu,
        Activation::Softplus,
        Activation::HardSigmoid,
        Activation::HardSwish,
    ] {
        check(&format!("{activation:?}"), image, vec![Op::conv(6, 8, 3, 1, 1), Op::Activation(activation)]);
    }
}

#[test]
fn pixels_are_moved_pooled_and_resized() {
    let image = Shape::Image(4, 6, 8);
    for (kernel, stride, padding) in
        [(2, 2, Padding::Zeros(0)), (3, 2, Padding::Zeros(1)), (3, 1, Padding::Same), (3, 2, Padding::Same)]
    {
        let window = Window { kernel, stride, padding };
        check(&format!("max pool {window:?}"), image, vec![Op::MaxPool(window)]);
        for counts_padding in [false, true] {
            let op = Op::AveragePool { window, counts_padding };
            check(&format!("average pool {window:?} {counts_padding}"), image, vec![op]);
        }
    }
    check("global average", image, vec![Op::GlobalAverage]);
    for by in [Interpolation::Nearest, Interpolation::Bilinear] {
        for (height, width) in [(12, 16), (3, 4), (5, 13), (1, 1)] {
            check(&format!("{by:?} to {height}x{width}"), image, vec![Op::Resize { height, width, by }]);
        }
    }
    check("blur", image, vec![Op::Blur]);
    check("blur of a line", Shape::Image(2, 1, 7), vec![Op::Blur]);
    check("shuffle", image, vec![Op::Shuffle(Shuffle { block: 2, first: 1, size: (10, 14) })]);
    check("unshuffle", image, vec![Op::Unshuffle { block: 2 }]);
    check("slice", image, vec![Op::Slice { first: 1, count: 2 }]);
    check("slice of features", Shape::Vector(9), vec![Op::Slice { first: 3, count: 5 }]);
    check("reshape", image, vec![Op::Reshape(Shape::Vector(192))]);
    check("deviation over the batch", image, vec![Op::BatchDeviation]);
    check("unit length", image, vec![Op::conv(4, 5, 3, 1, 1), Op::UnitLength]);
    check("softmax", Shape::Vector(9), vec![Op::Dense { inputs: 9, outputs: 7 }, Op::Softmax]);
    check("unit length of features", Shape::Vector(9), vec![Op::UnitLength]);
}

#[test]
fn branches() {
    let image = Shape::Image(4, 5, 6);
    let branch = |name: &str, build: &dyn Fn(&mut Builder) -> usize| {
        let mut builder = Builder::new("test", image);
        let output = build(&mut builder);
        let graph = builder.finish(&[output]);
        for count in [3, 17] {
            Case::new(name, &graph, count).check_both();
        }
    };
    let block = || [Op::conv(4, 4, 3, 1, 1), Op::Activation(Activation::Silu), Op::conv(4, 4, 3, 1, 1)];
    branch("residual", &|builder| builder.residual(builder.input(), block()).unwrap());
    branch("add twice the same", &|builder| {
        let input = builder.input();
        builder.add(Op::Add, &[input, input]).unwrap()
    });
    branch("product", &|builder| {
        let (left, input) = (builder.chain(builder.input(), block()).unwrap(), builder.input());
        builder.add(Op::Mul, &[left, input]).unwrap()
    });
    branch("square", &|builder| {
        let input = builder.input();
        builder.add(Op::Mul, &[input, input]).unwrap()
    });
    branch("gated linear unit", &|builder| builder.glu(builder.input()).unwrap());
    branch("concatenation", &|builder| {
        let input = builder.input();
        let other = builder.add(Op::conv(4, 3, 1, 1, 0), &[input]).unwrap();
        builder.add(Op::Concat, &[other, input, other]).unwrap()
    });
    // squeeze and excitation: a scale a channel
    branch("channel scale", &|builder| {
        let input = builder.input();
        let squeezed = [Op::GlobalAverage, Op::conv(4, 4, 1, 1, 0), Op::Activation(Activation::Sigmoid)];
        let scale = builder.chain(input, squeezed).unwrap();
        builder.add(Op::Scale, &[input, scale]).unwrap()
    });
    branch("scale by features", &|builder| {
        let input = builder.input();
        let squeezed =
            [Op::GlobalAverage, Op::Reshape(Shape::Vector(4)), Op::Dense { inputs: 4, outputs: 4 }];
        let scale = builder.chain(input, squeezed).unwrap();
        builder.add(Op::Scale, &[input, scale]).unwrap()
    });
}

#[test]
fn whole_networks() {
    let relu = || Op::Activation(Activation::Relu);
    let leaky = || Op::Activation(Activation::LeakyRelu(0.2));
    let generator = vec![
        Op::Dense { inputs: 9, outputs: 6 * 16 },
        Op::ClassRow { classes: 3, features: 6 * 16 },
        Op::Reshape(Shape::Image(6, 4, 4)),
        Op::batch_norm(6),
        relu(),
        Op::ConvTranspose { inputs: 6, outputs: 5, kernel: 4, stride: 2, padding: 1 },
        Op::batch_norm(5),
        relu(),
        Op::UpsampleConv { inputs: 5, outputs: 2, kernel: 3 },
        Op::Activation(Activation::Tanh),
    ];
    check("generator", Shape::Vector(9), generator);
    let discriminator = vec![
        Op::conv(2, 4, 4, 2, 1),
        leaky(),
        Op::conv(4, 6, 4, 2, 1),
        Op::batch_norm(6),
        leaky(),
        Op::conv(6, 4, 4, 1, 0),
        Op::Reshape(Shape::Vector(4)),
        Op::ClassProjection { classes: 3 },
    ];
    check("discriminator", Shape::Image(2, 16, 16), discriminator);
}

/// Gradients of several values at once, inner ones among them.
#[test]
fn gradients_of_taps_add_up() {
    let mut builder = Builder::new("test", Shape::Image(3, 8, 8));
    let first =
        builder.chain(builder.input(), [Op::conv(3, 4, 3, 2, 1), Op::Activation(Activation::Tanh)]).unwrap();
    let second = builder.chain(first, [Op::conv(4, 5, 3, 2, 1), Op::Activation(Activation::Silu)]).unwrap();
    let graph = builder.finish(&[second]).initialise(1, 0);
    let network = Network::new(&Lanes, &graph).unwrap();
    let rows = noise(2 * 192, 1);
    let x = || Lanes.tensor(&rows, Shape::Image(3, 8, 8)).unwrap();
    let statistics = edgegen_trainer::compute::Statistics::Running;
    let (taps, pass) = network.record(x(), None, &[first, second], statistics, &[]).unwrap();
    let seeds: Vec<_> = [first, second].into_iter().zip(taps).collect();
    let gradient = |seeds: Vec<_>| {
        let found = network.backward(&pass, seeds, None, true, &[]).unwrap().unwrap();
        found.to_rows()
    };
    let both = gradient(seeds.clone());
    let (one, other) = (gradient(seeds[..1].to_vec()), gradient(seeds[1..].to_vec()));
    for (both, (one, other)) in both.iter().zip(one.iter().zip(&other)) {
        assert!((both - one - other).abs() < 1e-5, "{both} {one} {other}");
    }
    assert!(one.iter().any(|value| *value != 0.0) && other.iter().any(|value| *value != 0.0));
}
