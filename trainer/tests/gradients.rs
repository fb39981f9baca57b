//! Forward and backward passes of every kind of layer against candle's automatic differentiation in f64.

use std::sync::Arc;

use candle_core::{Tensor, Var};
use edgegen_runtime::random::{Purpose, Stream};
use edgegen_trainer::network::module::{Gradients, Module};
use edgegen_trainer::network::{Activation, Layer, Network, Shape};
use edgegen_trainer::nn::batch::Batch;
use oracle::{by_candle, tensor};

mod oracle;

/// f32 sums of a few thousand products against f64, relative to the largest value.
const TOLERANCE: f64 = 2e-5;

fn noise(count: usize, index: u64) -> Vec<f32> {
    let mut values = vec![0f32; count];
    Stream::new(5, Purpose::Evaluation, index).fill_normal(&mut values);
    values
}

fn close(what: &str, found: &[f32], expected: &Tensor) {
    let expected = expected.flatten_all().unwrap().to_vec1::<f64>().unwrap();
    assert_eq!(found.len(), expected.len(), "{what}");
    let largest = expected.iter().fold(1e-3f64, |most, value| most.max(value.abs()));
    let worst = found.iter().zip(&expected).map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, f64::max);
    assert!(worst <= TOLERANCE * largest, "{what}: {worst:e} of {largest:e}");
}

fn check(name: &str, input: Shape, layers: Vec<Layer>) {
    for count in [3usize, 16, 21] {
        let mut module = Module::new(Network::new(input, layers.clone()).unwrap(), "test", 3, 0).unwrap();
        // values that are neither 0 nor 1, so that every parameter matters
        for (index, parameter) in module.parameters_mut().iter_mut().enumerate() {
            if parameter.shape.len() == 1 && parameter.trained {
                parameter.value = noise(parameter.value.len(), 100 + index as u64);
            }
        }
        let rows = noise(count * input.values(), 1);
        let classes: Vec<u32> = (0..count as u32).map(|row| row % 3).collect();
        let dims = [vec![count], input.dims()].concat();
        let x = Var::from_tensor(&tensor(&rows, &dims).unwrap()).unwrap();
        let variables: Vec<Var> = module
            .parameters()
            .iter()
            .map(|p| Var::from_tensor(&tensor(&p.value, &p.shape).unwrap()).unwrap())
            .collect();
        let expected = by_candle(&module, &variables, x.as_tensor(), &classes).unwrap();
        let weights = noise(expected.elem_count(), 2);
        let loss = (&expected * tensor(&weights, expected.dims()).unwrap()).unwrap().sum_all().unwrap();
        let oracle = loss.backward().unwrap();

        let what = format!("{name}, batch {count}");
        let (results, record) =
            module.record(Batch::from_rows(&rows, input), Some(Arc::from(classes.as_slice())));
        close(&what, &results.to_rows(), &expected);
        let mut gradients = Gradients::of(&module);
        let gradient = Batch::from_rows(&weights, results.shape);
        let of_input = module.backward(&record, gradient.clone(), Some(&mut gradients), true).unwrap();
        close(&format!("{what}, input"), &of_input.to_rows(), oracle.get(&x).unwrap());
        let trained = module.parameters().iter().zip(&variables).filter(|(parameter, _)| parameter.trained);
        for ((parameter, variable), found) in trained.zip(gradients.trained()) {
            close(&format!("{what}, {}", parameter.name), found, oracle.get(variable).unwrap());
        }
        // gradients add up, and without the input's nothing else changes
        let once: Vec<Vec<f32>> = gradients.trained().map(<[f32]>::to_vec).collect();
        assert!(module.backward(&record, gradient, Some(&mut gradients), false).is_none());
        for (twice, once) in gradients.trained().zip(&once) {
            let largest = once.iter().fold(1e-3f32, |most, value| most.max(value.abs()));
            assert!(twice.iter().zip(once).all(|(twice, once)| (twice - 2.0 * once).abs() <= 1e-4 * largest));
        }
    }
}

#[test]
fn every_layer_agrees_with_automatic_differentiation() {
    let image = Shape::Image(5, 6, 8);
    let conv = |kernel, stride, padding| Layer::Conv { inputs: 5, outputs: 7, kernel, stride, padding };
    let transposed =
        |kernel, stride, padding| Layer::ConvTranspose { inputs: 5, outputs: 7, kernel, stride, padding };
    check("dense", Shape::Vector(9), vec![Layer::Dense { inputs: 9, outputs: 13 }]);
    for (kernel, stride, padding) in [(4, 2, 1), (3, 1, 1), (5, 1, 2), (1, 1, 0), (4, 1, 0), (2, 2, 0)] {
        let name = format!("conv k{kernel} s{stride} p{padding}");
        check(&name, image, vec![conv(kernel, stride, padding)]);
    }
    for (kernel, stride, padding) in [(4, 2, 1), (4, 1, 0), (5, 3, 2), (7, 1, 0)] {
        let name = format!("transposed k{kernel} s{stride} p{padding}");
        check(&name, image, vec![transposed(kernel, stride, padding)]);
    }
    for kernel in [1, 3, 5] {
        check(
            &format!("upsample k{kernel}"),
            image,
            vec![Layer::UpsampleConv { inputs: 5, outputs: 4, kernel }],
        );
    }
    check("batch norm", image, vec![Layer::BatchNorm { channels: 5 }]);
    check("batch norm of features", Shape::Vector(9), vec![Layer::BatchNorm { channels: 9 }]);
    for activation in [Activation::Relu, Activation::LeakyRelu(0.2), Activation::Tanh, Activation::Sigmoid] {
        check(&format!("{activation:?}"), image, vec![conv(3, 1, 1), Layer::Activation(activation)]);
    }
}

#[test]
fn whole_networks_agree_with_automatic_differentiation() {
    let relu = Layer::Activation(Activation::Relu);
    let leaky = Layer::Activation(Activation::LeakyRelu(0.2));
    let generator = vec![
        Layer::Dense { inputs: 9, outputs: 6 * 16 },
        Layer::ClassEmbedding { classes: 3, features: 6 * 16 },
        Layer::Reshape(Shape::Image(6, 4, 4)),
        Layer::BatchNorm { channels: 6 },
        relu,
        Layer::ConvTranspose { inputs: 6, outputs: 5, kernel: 4, stride: 2, padding: 1 },
        Layer::BatchNorm { channels: 5 },
        relu,
        Layer::UpsampleConv { inputs: 5, outputs: 2, kernel: 3 },
        Layer::Activation(Activation::Tanh),
    ];
    check("generator", Shape::Vector(9), generator);
    let discriminator = vec![
        Layer::Conv { inputs: 2, outputs: 4, kernel: 4, stride: 2, padding: 1 },
        leaky,
        Layer::Conv { inputs: 4, outputs: 6, kernel: 4, stride: 2, padding: 1 },
        Layer::BatchNorm { channels: 6 },
        leaky,
        Layer::Conv { inputs: 6, outputs: 4, kernel: 4, stride: 1, padding: 0 },
        Layer::Reshape(Shape::Vector(4)),
        Layer::ClassProjection { classes: 3 },
    ];
    check("discriminator", Shape::Image(2, 16, 16), discriminator);
}
