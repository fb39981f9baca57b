//! Functions of one value, as vector code that rounds the same on every CPU: multiplications, additions, divisions and
//! square roots alone, never contracted.

/// A function of one value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Function {
    /// The value itself.
    Identity,
    /// Values below zero times this.
    Slope(f32),
    /// Hyperbolic tangent, within 5·10⁻⁷.
    Tanh,
    /// 1 / (1 + e⁻ˣ), within 3·10⁻⁷.
    Sigmoid,
    /// Between both.
    Clip(f32, f32),
    /// a · x + b, between 0 and 1.
    HardSigmoid(f32, f32),
    /// x · HardSigmoid(1/6, ½).
    HardSwish,
    /// x / (1 + e⁻ᵃˣ), within 3·10⁻⁷ of its size.
    Silu(f32),
    /// x, and a · (e^(x / b) − 1) below zero, times c: Elu (a, 1, 1), Celu (a, a, 1), Selu (a, 1, γ).
    Elu(f32, f32, f32),
    /// x / 2 · (1 + erf(x / √2)), within 2·10⁻⁷ · (1 + |x|).
    Gelu,
    /// x / 2 · (1 + tanh(√(2/π) · (x + 0.044715 · x³))), within 2·10⁻⁶ of its size.
    GeluTanh,
    /// ln(1 + eˣ), within 3·10⁻⁷ · (1 + |x|).
    Softplus,
    /// x / (1 + |x|).
    Softsign,
    /// x · tanh(ln(1 + eˣ)), within 5·10⁻⁷ of its size.
    Mish,
    /// x, and 0 up to this.
    Threshold(f32),
    /// |x|.
    Abs,
    /// −1, 0 or 1.
    Sign,
    /// eˣ, within 3·10⁻⁷ of its size.
    Exp,
    /// Natural logarithm, by libm.
    Log,
    /// Square root.
    Sqrt,
    /// 1 / x.
    Reciprocal,
    /// x to a power, by libm unless it is 2.
    Power(f32),
    /// The error function, within 3·10⁻⁷.
    Erf,
    /// The next whole number below.
    Floor,
    /// The next whole number above.
    Ceil,
    /// The nearest whole number, half to even.
    Round,
    /// By libm.
    Sin,
    /// By libm.
    Cos,
}

impl Function {
    /// Its name, in lower case.
    pub fn name(self) -> &'static str {
        match self {
            Self::Identity => "as it is",
            Self::Slope(0.0) => "ReLU",
            Self::Slope(_) => "leaky ReLU",
            Self::Tanh => "tanh",
            Self::Sigmoid => "sigmoid",
            Self::Clip(..) => "clip",
            Self::HardSigmoid(..) => "hard sigmoid",
            Self::HardSwish => "hard swish",
            Self::Silu(_) => "SiLU",
            Self::Elu(..) => "ELU",
            Self::Gelu | Self::GeluTanh => "GELU",
            Self::Softplus => "softplus",
            Self::Softsign => "softsign",
            Self::Mish => "mish",
            Self::Threshold(_) => "thresholded ReLU",
            Self::Abs => "absolute value",
            Self::Sign => "sign",
            Self::Exp => "exponential",
            Self::Log => "logarithm",
            Self::Sqrt => "square root",
            Self::Reciprocal => "reciprocal",
            Self::Power(_) => "power",
            Self::Erf => "error function",
            Self::Floor => "floor",
            Self::Ceil => "ceiling",
            Self::Round => "rounding",
            Self::Sin => "sine",
            Self::Cos => "cosine",
        }
    }

    /// Applies it to every value.
    #[inline(always)]
    pub(crate) fn apply_here(self, values: &mut [f32]) {
        // loops and no closures, which may not be inlined where wider vectors are
        macro_rules! each {
            ($x:ident => $made:expr) => {
                for value in values.iter_mut() {
                    let $x = *value;
                    *value = $made;
                }
            };
        }
        match self {
            Self::Identity => {}
            Self::Slope(slope) => each!(x => if x < 0.0 { x * slope } else { x }),
            Self::Tanh => each!(x => tanh(x)),
            Self::Sigmoid => each!(x => sigmoid(x)),
            Self::Clip(low, high) => each!(x => x.max(low).min(high)),
            Self::HardSigmoid(a, b) => each!(x => (a * x + b).clamp(0.0, 1.0)),
            Self::HardSwish => each!(x => x * (x * (1.0 / 6.0) + 0.5).clamp(0.0, 1.0)),
            Self::Silu(factor) => each!(x => x / (1.0 + exp(-factor * x))),
            Self::Elu(a, b, c) => each!(x => c * if x < 0.0 { a * (exp(x / b) - 1.0) } else { x }),
            Self::Gelu => each!(x => 0.5 * x * (1.0 + erf(x * core::f32::consts::FRAC_1_SQRT_2))),
            Self::GeluTanh => each!(x => {
                // (1 + tanh(u)) / 2 = 1 / (1 + e^−2u), and 2 · √(2/π)
                x / (1.0 + exp(-2.0 * 0.797_884_6 * (x + 0.044_715 * x * x * x)))
            }),
            Self::Softplus => each!(x => softplus(x)),
            Self::Softsign => each!(x => x / (1.0 + x.abs())),
            Self::Mish => each!(x => {
                // tanh(ln(1 + e)) = n / (n + 2), n = e² + 2 · e
                let e = exp(if x > 20.0 { 20.0 } else { x });
                let n = e * (e + 2.0);
                x * (n / (n + 2.0))
            }),
            Self::Threshold(least) => each!(x => if x <= least { 0.0 } else { x }),
            Self::Abs => each!(x => x.abs()),
            Self::Sign => each!(x => {
                if x > 0.0 {
                    1.0
                } else if x < 0.0 {
                    -1.0
                } else {
                    x
                }
            }),
            Self::Exp => each!(x => exp(x)),
            Self::Log => each!(x => libm::logf(x)),
            Self::Sqrt => each!(x => libm::sqrtf(x)),
            Self::Reciprocal => each!(x => 1.0 / x),
            Self::Power(2.0) => each!(x => x * x),
            Self::Power(power) => each!(x => libm::powf(x, power)),
            Self::Erf => each!(x => erf(x)),
            Self::Floor => each!(x => libm::floorf(x)),
            Self::Ceil => each!(x => libm::ceilf(x)),
            Self::Round => each!(x => libm::rintf(x)),
            Self::Sin => each!(x => libm::sinf(x)),
            Self::Cos => each!(x => libm::cosf(x)),
        }
    }

    /// Applies it to every value.
    pub fn apply(self, values: &mut [f32]) {
        self.apply_here(values);
    }

    /// Its exact value, by libm: what tables hold.
    pub fn exact(self, value: f32) -> f32 {
        let x = f64::from(value);
        let sigmoid = |x: f64| 1.0 / (1.0 + libm::exp(-x));
        let exact = match self {
            Self::Tanh => return libm::tanhf(value),
            Self::Sigmoid => sigmoid(x),
            Self::Silu(factor) => x * sigmoid(x * f64::from(factor)),
            Self::Elu(a, b, c) => {
                let [a, b, c] = [a, b, c].map(f64::from);
                c * if x < 0.0 { a * libm::expm1(x / b) } else { x }
            }
            Self::Gelu => 0.5 * x * (1.0 + libm::erf(x * core::f64::consts::FRAC_1_SQRT_2)),
            Self::GeluTanh => {
                let root = libm::sqrt(core::f64::consts::FRAC_2_PI);
                0.5 * x * (1.0 + libm::tanh(root * (x + 0.044_715 * x * x * x)))
            }
            Self::Softplus => x.max(0.0) + libm::log1p(libm::exp(-x.abs())),
            Self::Mish => x * libm::tanh(x.max(0.0) + libm::log1p(libm::exp(-x.abs()))),
            Self::Exp => libm::exp(x),
            Self::Erf => libm::erf(x),
            other => {
                let mut values = [value];
                other.apply_here(&mut values);
                return values[0];
            }
        };
        exact as f32
    }
}

/// Added to a number between ±2²², it leaves the nearest integer, half to even, in the sum's lowest bits.
pub(crate) const ROUNDING: f32 = 12_582_912.0;

/// A polynomial, the constant term first.
#[inline(always)]
fn polynomial<const N: usize>(x: f32, terms: [f32; N]) -> f32 {
    let mut sum = terms[N - 1];
    for term in terms[..N - 1].iter().rev() {
        sum = sum * x + term;
    }
    sum
}

/// 2ⁿ · e^r, with |r| ≤ ln 2 / 2 and Cephes' polynomial (S. L. Moshier, `expf`).
#[inline(always)]
pub(crate) fn exp(value: f32) -> f32 {
    const HIGH: f32 = 0.693_359_4;
    const LOW: f32 = -2.121_944_4e-4;
    let x = value.clamp(-104.0, 89.0);
    let rounded = x * core::f32::consts::LOG2_E + ROUNDING;
    let n = rounded - ROUNDING;
    let r = x - n * HIGH - n * LOW;
    let p = polynomial(r, [0.5, 0.166_666_66, 4.166_579_6e-2, 8.333_452e-3, 1.398_199_9e-3, 1.987_569_1e-4]);
    let e = p * r * r + r + 1.0;
    // in two steps: one power of two alone may be larger than float32 holds
    let n = (rounded.to_bits() as i32).wrapping_sub(ROUNDING.to_bits() as i32);
    let half = n >> 1;
    let two = |n: i32| f32::from_bits((n.wrapping_add(127) as u32) << 23);
    e * two(half) * two(n.wrapping_sub(half))
}

/// ln(1 + x) of 0 to 1: Cephes' polynomial of `logf`, below √2 and from there on.
#[inline(always)]
fn log_of_1_and(x: f32) -> f32 {
    // ln(1 + x) = ln 2 + ln((1 + x) / 2)
    let large = x > 0.414_213_57;
    let r = if large { 0.5 * (x - 1.0) } else { x };
    let terms = [
        0.333_333_3,
        -2.499_999_4e-1,
        2.000_071_5e-1,
        -1.666_805_8e-1,
        1.424_932_3e-1,
        -1.242_014_1e-1,
        1.167_699_9e-1,
        -1.151_461e-1,
        7.037_683_6e-2,
    ];
    let square = r * r;
    let log = polynomial(r, terms) * square * r - 0.5 * square + r;
    if large { log + core::f32::consts::LN_2 } else { log }
}

/// max(x, 0) + ln(1 + e^−|x|).
#[inline(always)]
fn softplus(x: f32) -> f32 {
    // a NaN stays one, which `max` would lose
    (if x < 0.0 { 0.0 } else { x }) + log_of_1_and(exp(-x.abs()))
}

/// Formula 7.1.26 of Abramowitz and Stegun.
#[inline(always)]
fn erf(x: f32) -> f32 {
    let size = x.abs();
    let t = 1.0 / (1.0 + 0.327_591_1 * size);
    let p = polynomial(t, [0.254_829_6, -0.284_496_74, 1.421_413_7, -1.453_152, 1.061_405_4]);
    (1.0 - p * t * exp(-size * size)).copysign(x)
}

/// A rational function of degrees 13 and 6 between the points where float32's tanh is ±1, with Eigen's coefficients
/// (`Eigen/src/Core/MathFunctionsImpl.h`, MPL 2).
#[inline(always)]
fn tanh(value: f32) -> f32 {
    const ODD: [f32; 7] = [
        4.893_524_6e-3,
        6.372_619_3e-4,
        1.485_722_4e-5,
        5.122_297_1e-8,
        -8.604_672e-11,
        2.000_188e-13,
        -2.760_768_5e-16,
    ];
    const EVEN: [f32; 4] = [4.893_525e-3, 2.268_434_6e-3, 1.185_347_1e-4, 1.198_258_4e-6];
    let x = value.clamp(-7.905_311, 7.905_311);
    let square = x * x;
    let tanh = x * polynomial(square, ODD) / polynomial(square, EVEN);
    tanh.clamp(-1.0, 1.0)
}

#[inline(always)]
fn sigmoid(value: f32) -> f32 {
    0.5 * tanh(0.5 * value) + 0.5
}
