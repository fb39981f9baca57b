//! Gradients against central differences in f64, and the convolution family against candle's own.

use candle_core::{DType, Device, Result, Tensor, Var};
use edgegen_runtime::random::{Purpose, Stream};
use edgegen_trainer::network::module::{Mode, Module};
use edgegen_trainer::network::{Activation, Layer, Network, Shape};
use edgegen_trainer::nn::activation::bias_activation;
use edgegen_trainer::nn::convolution::{Correlation, Geometry, Role};
use edgegen_trainer::nn::likelihood;

/// Central differences with step 1e-5 in f64 are good to about 1e-9 of a value around 1.
const F64_TOLERANCE: f64 = 1e-7;
/// f32 sums of a few hundred products of values around 1.
const F32_TOLERANCE: f64 = 2e-4;

fn noise(dims: &[usize], index: u64) -> Result<Tensor> {
    let mut values = vec![0f32; dims.iter().product()];
    Stream::new(11, Purpose::Evaluation, index).fill_normal(&mut values);
    Tensor::from_vec(values, dims, &Device::Cpu)
}

fn largest(difference: &Tensor) -> Result<f64> {
    difference.abs()?.flatten_all()?.to_dtype(DType::F64)?.max(0)?.to_scalar()
}

/// Every kernel, stride and padding that a layer may have, with sides that leave a rest.
fn geometries() -> Vec<Geometry> {
    let mut all = Vec::new();
    for (kernel, stride, padding) in
        [(1, 1, 0), (3, 1, 1), (4, 2, 1), (5, 2, 2), (3, 2, 1), (4, 1, 0), (2, 3, 0)]
    {
        for (height, width) in [(8, 8), (7, 10), (5, 4)] {
            let side = |side: usize| (side + 2 * padding).checked_sub(kernel).map(|rest| rest / stride + 1);
            let (Some(h), Some(w)) = (side(height), side(width)) else { continue };
            all.push(Geometry { kernel, stride, padding, fine: (3, height, width), coarse: (5, h, w) });
        }
    }
    all
}

fn arguments(g: &Geometry, role: Role, batch: usize) -> Result<(Tensor, Tensor)> {
    let fine = noise(&[batch, g.fine.0, g.fine.1, g.fine.2], 1)?;
    let coarse = noise(&[batch, g.coarse.0, g.coarse.1, g.coarse.2], 2)?;
    let weights = noise(&[g.coarse.0, g.fine.0, g.kernel, g.kernel], 3)?;
    Ok(match role {
        Role::Coarse => (fine, weights),
        Role::Fine => (coarse, weights),
        Role::Weights => (fine, coarse),
    })
}

#[test]
fn every_role_has_the_gradient_of_central_differences() -> Result<()> {
    const STEP: f64 = 1e-5;
    for geometry in geometries() {
        for role in [Role::Coarse, Role::Fine, Role::Weights] {
            let op = Correlation { geometry, role };
            let (left, right) = arguments(&geometry, role, 2)?;
            let (left, right) = (
                Var::from_tensor(&left.to_dtype(DType::F64)?)?,
                Var::from_tensor(&right.to_dtype(DType::F64)?)?,
            );
            let weighting = noise(op.apply(&left, &right)?.dims(), 4)?.to_dtype(DType::F64)?;
            let value = |left: &Tensor, right: &Tensor| -> Result<Tensor> {
                // a square makes the gradient depend on the arguments
                (op.apply(left, right)?.sqr()? * &weighting)?.sum_all()
            };
            let gradients = value(&left, &right)?.backward()?;
            for (which, argument) in [(0, &left), (1, &right)] {
                let gradient = gradients.get(argument).unwrap().flatten_all()?.to_vec1::<f64>()?;
                let flat = argument.flatten_all()?.to_vec1::<f64>()?;
                for index in [0, flat.len() / 3, flat.len() / 2, flat.len() - 1] {
                    let moved = |by: f64| -> Result<f64> {
                        let mut flat = flat.clone();
                        flat[index] += by;
                        let moved = Tensor::from_vec(flat, argument.dims(), &Device::Cpu)?;
                        let result = if which == 0 { value(&moved, &right)? } else { value(&left, &moved)? };
                        result.to_scalar()
                    };
                    let expected = (moved(STEP)? - moved(-STEP)?) / (2.0 * STEP);
                    let error = (gradient[index] - expected).abs() / expected.abs().max(1.0);
                    assert!(
                        error < F64_TOLERANCE,
                        "{role:?} {geometry:?} argument {which} at {index}: {error:e}"
                    );
                }
            }
        }
    }
    Ok(())
}

#[test]
fn forward_passes_agree_with_candles_own() -> Result<()> {
    for geometry in geometries() {
        for batch in [1, 33] {
            let (fine, weights) = arguments(&geometry, Role::Coarse, batch)?;
            let ours = Correlation { geometry, role: Role::Coarse }.apply(&fine, &weights)?;
            let candles = fine.conv2d(&weights, geometry.padding, geometry.stride, 1, 1)?;
            assert!(largest(&(ours - candles)?)? < F32_TOLERANCE, "{geometry:?}");

            let (coarse, weights) = arguments(&geometry, Role::Fine, batch)?;
            let ours = Correlation { geometry, role: Role::Fine }.apply(&coarse, &weights)?;
            let whole = |side: usize| (side - 1) * geometry.stride + geometry.kernel - 2 * geometry.padding;
            let rests =
                (geometry.fine.1 - whole(geometry.coarse.1), geometry.fine.2 - whole(geometry.coarse.2));
            if rests.0 == rests.1 {
                let candles =
                    coarse.conv_transpose2d(&weights, geometry.padding, rests.0, geometry.stride, 1)?;
                assert!(largest(&(ours - candles)?)? < F32_TOLERANCE, "{geometry:?}");
            }
        }
    }
    Ok(())
}

/// The direct f32 kernels (enough pictures to fill a vector, a rest in the last group) against the f64
/// products, which central differences have checked.
#[test]
fn every_role_is_the_same_in_f32_and_f64() -> Result<()> {
    let odd = Geometry { kernel: 4, stride: 2, padding: 1, fine: (7, 10, 6), coarse: (13, 5, 3) };
    for geometry in geometries().into_iter().chain([odd]) {
        for role in [Role::Coarse, Role::Fine, Role::Weights] {
            for batch in [16, 37] {
                let op = Correlation { geometry, role };
                let (left, right) = arguments(&geometry, role, batch)?;
                let wide = op.apply(&left.to_dtype(DType::F64)?, &right.to_dtype(DType::F64)?)?;
                let narrow = op.apply(&left, &right)?.to_dtype(DType::F64)?;
                let worst = largest(&(narrow - &wide)?)? / largest(&wide)?;
                assert!(worst < 1e-5, "{role:?} {geometry:?} batch {batch}: {worst:e}");
            }
        }
    }
    Ok(())
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() -> Result<()> {
    let geometry = Geometry { kernel: 4, stride: 2, padding: 1, fine: (3, 16, 16), coarse: (8, 8, 8) };
    let (fine, coarse) = arguments(&geometry, Role::Weights, 100)?;
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            Correlation { geometry, role: Role::Weights }
                .apply(&fine, &coarse)?
                .flatten_all()?
                .to_vec1::<f32>()
        })
    };
    assert_eq!(run(1)?, run(2)?);
    assert_eq!(run(1)?, run(5)?);
    Ok(())
}

#[test]
fn bias_and_activation_agree_with_candles_own_backward_pass() -> Result<()> {
    let all = [Activation::Relu, Activation::LeakyRelu(0.2), Activation::Tanh, Activation::Sigmoid];
    for activation in all.into_iter().map(Some).chain([None]) {
        for dims in [vec![6, 5], vec![3, 5, 4, 7]] {
            let x = Var::from_tensor(&noise(&dims, 5)?)?;
            let bias = Var::from_tensor(&noise(&[5], 6)?)?;
            let weighting = noise(&dims, 7)?;
            let ours = (bias_activation(&x, &bias, activation)? * &weighting)?.sum_all()?.backward()?;
            let mut shape = vec![1; dims.len()];
            shape[1] = 5;
            let sum = x.broadcast_add(&bias.reshape(shape)?)?;
            let plain = activation.map_or(Ok(sum.clone()), |activation| activation.apply(&sum))?;
            let theirs = (plain * &weighting)?.sum_all()?.backward()?;
            for variable in [&x, &bias] {
                let difference = (ours.get(variable).unwrap() - theirs.get(variable).unwrap())?;
                assert!(largest(&difference)? < F32_TOLERANCE, "{activation:?} {dims:?}");
            }
        }
    }
    Ok(())
}

#[test]
fn the_bernoulli_likelihood_is_cross_entropy_in_nats() -> Result<()> {
    let logits = Var::from_tensor(&(noise(&[4, 1, 9, 9], 8)? * 3.0)?)?;
    let pixels = noise(&[4, 1, 9, 9], 9)?.clamp(0.0, 1.0)?;
    let ours = likelihood::bernoulli(&logits, &pixels)?;
    let probability = Activation::Sigmoid.apply(&logits)?;
    let by_hand = ((&pixels * probability.log()?)? + ((1.0 - &pixels)? * (1.0 - probability)?.log()?)?)?;
    let by_hand = by_hand.flatten_from(1)?.sum(1)?;
    assert!(largest(&(&ours - &by_hand)?)? < F32_TOLERANCE);
    let weighting = noise(&[4], 10)?;
    let (ours, theirs) =
        ((ours * &weighting)?.sum_all()?.backward()?, (by_hand * &weighting)?.sum_all()?.backward()?);
    assert!(largest(&(ours.get(&logits).unwrap() - theirs.get(&logits).unwrap())?)? < F32_TOLERANCE);
    Ok(())
}

#[test]
fn batch_norm_normalises_in_training_and_remembers_for_later() -> Result<()> {
    let network = Network::new(Shape::Image(3, 4, 4), vec![Layer::BatchNorm { channels: 3 }]).unwrap();
    let module = Module::new(network, "test", 0, 0, &Device::Cpu)?;
    let x = ((noise(&[64, 3, 4, 4], 11)? * 2.0)? + 5.0)?;
    let y = module.forward(&x, Mode::Train)?;
    let by_channel = y.transpose(0, 1)?.flatten_from(1)?;
    assert!(largest(&by_channel.mean(1)?)? < 1e-4);
    assert!(largest(&(by_channel.var(1)? - 1.0)?)? < 5e-3);
    for _ in 0..200 {
        module.forward(&x, Mode::Train)?;
    }
    let later = module.forward(&x, Mode::Infer)?;
    assert!(largest(&(later - y)?)? < 5e-3, "the running statistics do not reach the batch's");
    Ok(())
}
