//! Computing a graph: one forward and one backward pass over it ([`network`]), on the tensor operations of a
//! [`Backend`]: [`lanes`] on the CPU, [`candle`] on candle's tensors, for CUDA.

pub mod adam;
pub mod axis;
pub mod candle;
mod change;
pub mod lanes;
pub mod network;
mod pass;

use crate::Result;
use crate::graph::geometry::{Geometry, Role};
use crate::graph::{Activation, Over, Shape, Window};

use axis::Axis;
pub use change::Change;
pub use lanes::Lanes;
pub use network::{ClassedRows, Network};
pub use pass::{Gradients, Hooks, Pass, Statistics};

/// Share of a new batch in a batch norm's running statistics.
pub const MOMENTUM: f32 = 0.1;
/// Added to variances over pictures and to squared lengths before their root.
const EPSILON: f64 = 1e-8;

/// What a decoder's output says of a picture's values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Density {
    /// Logits of the probability of 1.
    Bernoulli,
    /// Means of normal distributions with this deviation.
    Gaussian(f64),
}

/// One step of an optimiser: D. P. Kingma, J. Ba, 2015, algorithm 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamStep {
    /// Decays of both moments.
    pub decays: (f32, f32),
    /// Learning rate over 1 − β₁ᵗ.
    pub rate: f32,
    /// 1 over 1 − β₂ᵗ.
    pub second_scale: f32,
    /// Added to the root of the second moment.
    pub epsilon: f32,
}

/// A weight divided by its largest singular value, with what its gradient needs.
#[derive(Clone, Debug)]
pub struct Divided<W> {
    /// The quotient.
    pub weight: W,
    /// The singular value, one number.
    pub sigma: W,
    /// The right singular vector.
    pub right: W,
}

/// Operations on the values of a batch (`Tensor`, (N, shape)) and on parameters (`Weight`), each linear one with its
/// transpose, so that a backward pass is made of them too. Operations take tensors by value where they can reuse their
/// memory.
///
/// # Errors
/// Every operation may fail with what the device says: [`crate::Error::Training`].
pub trait Backend: Clone + Send + Sync + 'static {
    /// N values of one shape.
    type Tensor: Clone + Send + Sync;
    /// A parameter's values, or their gradient.
    type Weight: Clone + Send + Sync;
    /// Means and variances of a normalisation.
    type Moments: Send + Sync;

    /// From rows (N, shape…), row-major.
    fn tensor(&self, rows: &[f32], shape: Shape) -> Result<Self::Tensor>;
    /// The rows (N, shape…), row-major.
    fn rows(&self, x: &Self::Tensor) -> Result<Vec<f32>>;
    /// N.
    fn count(&self, x: &Self::Tensor) -> usize;
    /// Shape of one row.
    fn shape(&self, x: &Self::Tensor) -> Shape;
    /// A parameter with axes `dims`.
    fn weight(&self, values: &[f32], dims: &[usize]) -> Result<Self::Weight>;
    /// Its values, row-major.
    fn values(&self, weight: &Self::Weight) -> Result<Vec<f32>>;
    /// As many zeros.
    fn zeros(&self, like: &Self::Weight) -> Result<Self::Weight>;

    /// The output of a convolution's `role`, of `shape`, see [`Geometry`]; weights (coarse channels, fine channels of a
    /// group, k, k), bias (output channels).
    fn correlate(
        &self,
        geometry: &Geometry,
        role: Role,
        x: &Self::Tensor,
        operands: (&Self::Weight, Option<&Self::Weight>),
        shape: Shape,
    ) -> Result<Self::Tensor>;
    /// Adds the gradient of a convolution's weights.
    fn weight_gradient(
        &self,
        geometry: &Geometry,
        fine: &Self::Tensor,
        coarse: &Self::Tensor,
        into: &mut Self::Weight,
    ) -> Result<()>;
    /// Adds the sums over pictures and pixels, (channels).
    fn bias_gradient(&self, gradient: &Self::Tensor, into: &mut Self::Weight) -> Result<()>;
    /// The weights (inputs, outputs, k + 1, k + 1) of the transposed convolution of stride 2 that nearest-neighbour
    /// upsampling and a convolution with weights (outputs, inputs, k, k) are.
    fn expand(&self, weight: &Self::Weight, dims: (usize, usize, usize)) -> Result<Self::Weight>;
    /// Adds the transpose of [`Self::expand`].
    fn collect(
        &self,
        gradient: &Self::Weight,
        dims: (usize, usize, usize),
        into: &mut Self::Weight,
    ) -> Result<()>;

    /// f(x).
    fn activate(&self, activation: Activation, x: Self::Tensor) -> Result<Self::Tensor>;
    /// gradient · f′, from the function's results, or its inputs where [`Activation::slope_of_result`] says no.
    fn slope(
        &self,
        activation: Activation,
        at: &Self::Tensor,
        gradient: Self::Tensor,
    ) -> Result<Self::Tensor>;
    /// x + factor · y.
    fn add(&self, x: Self::Tensor, factor: f32, y: &Self::Tensor) -> Result<Self::Tensor>;
    /// x · y, value by value.
    fn mul(&self, x: Self::Tensor, y: &Self::Tensor) -> Result<Self::Tensor>;
    /// Each channel of a picture times its own number: (N, C, …) and (N, C).
    fn scale(&self, x: Self::Tensor, by: &Self::Tensor) -> Result<Self::Tensor>;
    /// Sums of x · y over the pixels of each channel, of the shape of N rows of C values.
    fn dots(&self, x: &Self::Tensor, y: &Self::Tensor, shape: Shape) -> Result<Self::Tensor>;

    /// Means and variances.
    fn moments(&self, x: &Self::Tensor, over: Over, epsilon: f64) -> Result<Self::Moments>;
    /// Those of running statistics: constants for the gradient.
    fn running(&self, mean: &Self::Weight, variance: &Self::Weight, epsilon: f64) -> Result<Self::Moments>;
    /// Moves running statistics towards those of a batch, the variance unbiased; by [`MOMENTUM`].
    fn follow_moments(
        &self,
        moments: &Self::Moments,
        mean: &mut Self::Weight,
        variance: &mut Self::Weight,
    ) -> Result<()>;
    /// scale · (x − mean) / √(variance + ε) + shift, scale and shift (channels).
    fn normalise(
        &self,
        x: &Self::Tensor,
        moments: &Self::Moments,
        scale: &Self::Weight,
        shift: &Self::Weight,
    ) -> Result<Self::Tensor>;
    /// The gradient of x; adds those of (scale, shift) to `into`.
    fn normalise_backward(
        &self,
        x: &Self::Tensor,
        moments: &Self::Moments,
        scale: &Self::Weight,
        gradient: Self::Tensor,
        into: Option<(&mut Self::Weight, &mut Self::Weight)>,
    ) -> Result<Self::Tensor>;

    /// The same values in another shape.
    fn reshape(&self, x: Self::Tensor, shape: Shape) -> Result<Self::Tensor>;
    /// Channels of some values, one after the other.
    fn concat(&self, parts: &[Self::Tensor], shape: Shape) -> Result<Self::Tensor>;
    /// `count` channels from `first` on.
    fn slice(&self, x: &Self::Tensor, first: usize, count: usize) -> Result<Self::Tensor>;
    /// The transpose of [`Self::slice`]: zeros for the other channels of `shape`.
    fn place(&self, x: &Self::Tensor, first: usize, shape: Shape) -> Result<Self::Tensor>;
    /// Value i of each row is value `places[i]` of x's.
    fn gather(&self, x: &Self::Tensor, places: &[u32], shape: Shape) -> Result<Self::Tensor>;
    /// The transpose of [`Self::gather`] for places of which none comes twice: zeros where there is none.
    fn scatter(&self, x: &Self::Tensor, places: &[u32], shape: Shape) -> Result<Self::Tensor>;
    /// Each channel mapped along its rows and its columns.
    fn resample(&self, x: &Self::Tensor, rows: &Axis, columns: &Axis) -> Result<Self::Tensor>;
    /// The largest value of each window.
    fn max_pool(&self, x: &Self::Tensor, window: &Window, shape: Shape) -> Result<Self::Tensor>;
    /// The gradient goes to the first of the largest values, row by row.
    fn max_pool_backward(
        &self,
        x: &Self::Tensor,
        largest: &Self::Tensor,
        gradient: &Self::Tensor,
        window: &Window,
    ) -> Result<Self::Tensor>;
    /// x with one more channel, see [`crate::graph::Op::BatchDeviation`].
    fn deviation(&self, x: &Self::Tensor) -> Result<Self::Tensor>;
    /// Its gradient.
    fn deviation_backward(&self, x: &Self::Tensor, gradient: &Self::Tensor) -> Result<Self::Tensor>;
    /// Each pixel's channels divided by their length, see [`crate::graph::Op::UnitLength`].
    fn unit(&self, x: &Self::Tensor) -> Result<Self::Tensor>;
    /// Its gradient.
    fn unit_backward(&self, x: &Self::Tensor, gradient: &Self::Tensor) -> Result<Self::Tensor>;
    /// e^x of each value of a vector, divided by their sum.
    fn softmax(&self, x: Self::Tensor) -> Result<Self::Tensor>;
    /// Its gradient, from its results.
    fn softmax_backward(&self, y: &Self::Tensor, gradient: Self::Tensor) -> Result<Self::Tensor>;
    /// Changes each picture by its own change, all of one kind.
    fn change(&self, x: Self::Tensor, changes: &[Change]) -> Result<Self::Tensor>;

    /// ln p(target) of each row, in nats.
    fn log_density(&self, density: Density, output: &Self::Tensor, target: &Self::Tensor)
    -> Result<Vec<f32>>;
    /// scale · its gradient for the output.
    fn log_density_gradient(
        &self,
        density: Density,
        output: &Self::Tensor,
        target: &Self::Tensor,
        scale: f32,
    ) -> Result<Self::Tensor>;
    /// Σ of squares of each row.
    fn squares(&self, x: &Self::Tensor) -> Result<Vec<f64>>;

    /// Σ of squares over all of them.
    fn sum_of_squares(&self, weights: &[&Self::Weight]) -> Result<f64>;
    /// weight · factor.
    fn multiply(&self, weight: &mut Self::Weight, factor: f32) -> Result<()>;
    /// weight ← decay · weight + (1 − decay) · other.
    fn approach(&self, weight: &mut Self::Weight, other: &Self::Weight, decay: f64) -> Result<()>;
    /// One step against the gradient, see [`AdamStep`].
    fn adam(
        &self,
        weight: &mut Self::Weight,
        gradient: &Self::Weight,
        moments: (&mut Self::Weight, &mut Self::Weight),
        step: AdamStep,
    ) -> Result<()>;
    /// Takes a step of power iteration, of which `left` (rows) is the left vector, and divides the weight, as a matrix
    /// (rows, the rest), by its largest singular value (T. Miyato et al., 2018).
    fn divide(&self, weight: &Self::Weight, left: &mut Self::Weight) -> Result<Divided<Self::Weight>>;
    /// The gradient for the quotient becomes that for the weight, with the singular vectors held fast (equation 12).
    fn divide_backward(
        &self,
        divided: &Divided<Self::Weight>,
        left: &Self::Weight,
        gradient: &mut Self::Weight,
    ) -> Result<()>;

    /// Each value as it comes back from uint8: scale · (round half to even, saturated).
    fn round(&self, x: Self::Tensor, scale: f32, zero_point: u8) -> Result<Self::Tensor>;
    /// The gradient where `at` lies in low..=high, zero elsewhere.
    fn inside(&self, at: &Self::Tensor, range: (f32, f32), gradient: Self::Tensor) -> Result<Self::Tensor>;

    /// Gives memory back that is kept for the next step of the same sizes.
    fn release(&self) {}
}
