//! A layer list as a candle module with named parameters.

use candle_core::{Device, Result, Tensor, Var};
use edgegen_runtime::random::{Purpose, Stream};

use super::{Init, Layer, Network};
use crate::nn::activation::bias_activation;
use crate::nn::batch_norm::BatchNorm;
use crate::nn::convolution::{Correlation, Role};

/// Whether batch statistics or running statistics normalise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Batch statistics; the running ones follow.
    Train,
    /// Running statistics.
    Infer,
}

/// A named tensor of a module.
#[derive(Clone)]
pub struct Parameter {
    /// `PART.LAYER.NAME`, for example `decoder.3.weight`.
    pub name: String,
    /// The value.
    pub value: Var,
    /// False for running statistics.
    pub trained: bool,
}

/// A network with values.
#[derive(Clone)]
pub struct Module {
    network: Network,
    parameters: Vec<Parameter>,
    /// For each layer, where its parameters start.
    starts: Vec<usize>,
    shapes: Vec<super::Shape>,
}

impl Module {
    /// First values from `seed`; parameter number p of the whole model draws stream `first + p`.
    ///
    /// # Errors
    /// If the layers do not fit each other, or candle's.
    pub fn new(network: Network, part: &str, seed: u64, first: u64, device: &Device) -> Result<Self> {
        let shapes = network.shapes().map_err(candle_core::Error::Msg)?;
        let (mut parameters, mut starts) = (Vec::new(), Vec::new());
        for (index, layer) in network.layers.iter().enumerate() {
            starts.push(parameters.len());
            for spec in layer.parameters(network.activation_reached_from(index)) {
                let mut stream = Stream::new(seed, Purpose::Weights, first + parameters.len() as u64);
                let count = spec.shape.iter().product();
                let values: Vec<f32> = (0..count)
                    .map(|_| match spec.init {
                        Init::Normal(deviation) => stream.normal() * deviation as f32,
                        Init::Uniform(bound) => (stream.uniform() * 2.0 - 1.0) * bound as f32,
                        Init::Constant(value) => value as f32,
                    })
                    .collect();
                parameters.push(Parameter {
                    name: format!("{part}.{index}.{}", spec.name),
                    value: Var::from_vec(values, spec.shape.as_slice(), device)?,
                    trained: spec.trained,
                });
            }
        }
        Ok(Self { network, parameters, starts, shapes })
    }

    /// The description this was made from.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// All named tensors, in layer order.
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// The tensors of layer `index`, in the order of [`Layer::parameters`].
    pub fn layer_parameters(&self, index: usize) -> &[Parameter] {
        let end = self.starts.get(index + 1).copied().unwrap_or(self.parameters.len());
        &self.parameters[self.starts[index]..end]
    }

    /// Runs all layers: (N, input…) → (N, output…).
    ///
    /// # Errors
    /// Candle's.
    pub fn forward(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        self.run(x, mode, self.network.layers.len())
    }

    /// Runs all layers but a last activation: what enters the final sigmoid or tanh.
    ///
    /// # Errors
    /// Candle's.
    pub fn logits(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        let count = self.network.layers.len();
        let without_last = matches!(self.network.layers.last(), Some(Layer::Activation(_)));
        self.run(x, mode, count - usize::from(without_last))
    }

    fn run(&self, x: &Tensor, mode: Mode, count: usize) -> Result<Tensor> {
        let mut x = x.clone();
        let mut index = 0;
        while index < count {
            let layer = self.network.layers[index];
            // an activation right behind is applied together with the bias
            let activation = (index + 1 < count).then(|| self.network.activation_after(index)).flatten();
            let own = self.layer_parameters(index);
            let linear = match layer {
                Layer::Dense { .. } => Some(x.matmul(&own[0].value.t()?)?),
                Layer::Conv { .. } => Some(self.correlate(index, Role::Coarse, &x)?),
                Layer::ConvTranspose { .. } => Some(self.correlate(index, Role::Fine, &x)?),
                Layer::UpsampleConv { .. } => {
                    let super::Shape::Image(_, height, width) = self.shapes[index] else {
                        candle_core::bail!("layer {index} upsamples something that is no picture");
                    };
                    Some(self.correlate(
                        index,
                        Role::Coarse,
                        &x.upsample_nearest2d(2 * height, 2 * width)?,
                    )?)
                }
                _ => None,
            };
            if let Some(linear) = linear {
                x = bias_activation(&linear, &own[1].value, activation)?;
                index += 1 + usize::from(activation.is_some());
                continue;
            }
            x = match layer {
                Layer::BatchNorm { .. } => {
                    let [scale, shift, mean, variance] = [0, 1, 2, 3].map(|slot| own[slot].value.clone());
                    let norm = BatchNorm { scale, shift, mean, variance };
                    match mode {
                        Mode::Train => norm.train(&x)?,
                        Mode::Infer => norm.infer(&x)?,
                    }
                }
                Layer::Activation(activation) => activation.apply(&x)?,
                Layer::Reshape(shape) => {
                    let mut dims = vec![x.dim(0)?];
                    dims.extend(shape.dims());
                    x.reshape(dims)?
                }
                _ => unreachable!("linear layers are handled above"),
            };
            index += 1;
        }
        Ok(x)
    }

    fn correlate(&self, index: usize, role: Role, x: &Tensor) -> Result<Tensor> {
        let Some(geometry) = self.network.layers[index].geometry(self.shapes[index]) else {
            candle_core::bail!("layer {index} is no convolution");
        };
        Correlation { geometry, role }.apply(x, &self.layer_parameters(index)[0].value)
    }
}
