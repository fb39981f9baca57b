//! Loops over f32 slices that the compiler vectorises, compiled once per x86 vector width.
//!
//! The arithmetic is written without fused multiply-add and without libm, so every width and every
//! platform gives the same bits.
#![allow(unsafe_code)]

use super::batch::LANES;

/// e^x for x ≤ 0, relative error below 2·10⁻⁷ (S. L. Moshier, Cephes `expf`); 0 below −87.
#[inline(always)]
fn exp_of_negative(x: f32) -> f32 {
    const SHIFT: f32 = 12_582_912.0; // 1.5 · 2²³: adding it rounds to an integer
    let clamped = x.max(-87.0);
    let shifted = clamped * std::f32::consts::LOG2_E + SHIFT;
    let exponent = shifted - SHIFT;
    let r = clamped - exponent * 0.693_359_4 - exponent * -2.121_944_4e-4;
    let mut p = 1.987_569_2e-4;
    p = p * r + 1.398_2e-3;
    p = p * r + 8.333_452e-3;
    p = p * r + 4.166_579_6e-2;
    p = p * r + 1.666_666_5e-1;
    p = p * r + 0.5;
    let mantissa = p * r * r + r + 1.0;
    let power = f32::from_bits(shifted.to_bits().wrapping_sub(SHIFT.to_bits()).wrapping_add(127) << 23);
    if x < -87.0 {
        0.0
    } else if x.is_nan() {
        x
    } else {
        mantissa * power
    }
}

/// ln(1 + e) for 0 ≤ e ≤ 1, as 2·atanh(e / (2 + e)); relative error below 2·10⁻⁷.
#[inline(always)]
fn log1p_of_unit(e: f32) -> f32 {
    let s = e / (2.0 + e);
    let q = s * s;
    let mut p = 1.0 / 13.0;
    p = p * q + 1.0 / 11.0;
    p = p * q + 1.0 / 9.0;
    p = p * q + 1.0 / 7.0;
    p = p * q + 1.0 / 5.0;
    p = p * q + 1.0 / 3.0;
    p = p * q + 1.0;
    2.0 * s * p
}

#[inline(always)]
fn sigmoid_lane(x: f32) -> f32 {
    let e = exp_of_negative(-x.abs());
    let small = e / (1.0 + e);
    if x >= 0.0 { 1.0 - small } else { small }
}

#[inline(always)]
fn tanh_lane(x: f32) -> f32 {
    let e = exp_of_negative(-2.0 * x.abs());
    let magnitude = (1.0 - e) / (1.0 + e);
    if x >= 0.0 { magnitude } else { -magnitude }
}

#[inline(always)]
fn softplus_lane(x: f32) -> f32 {
    x.max(0.0) + log1p_of_unit(exp_of_negative(-x.abs()))
}

/// Compiles the body for AVX-512, AVX2 and the target's baseline, and picks at run time.
macro_rules! lanes {
    ($(#[$doc:meta])* fn $name:ident($($argument:ident: $kind:ty),*) $(-> $result:ty)? $body:block) => {
        $(#[$doc])*
        pub(crate) fn $name($($argument: $kind),*) $(-> $result)? {
            #[inline(always)]
            fn body($($argument: $kind),*) $(-> $result)? $body
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw")]
                fn avx512($($argument: $kind),*) $(-> $result)? { body($($argument),*) }
                #[target_feature(enable = "avx2")]
                fn avx2($($argument: $kind),*) $(-> $result)? { body($($argument),*) }
                if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512dq") && is_x86_feature_detected!("avx512bw")
                {
                    // SAFETY: the features were detected on this CPU.
                    return unsafe { avx512($($argument),*) };
                }
                if is_x86_feature_detected!("avx2") {
                    // SAFETY: the feature was detected on this CPU.
                    return unsafe { avx2($($argument),*) };
                }
            }
            body($($argument),*)
        }
    };
}

lanes! {
    /// values ← sigmoid(values).
    fn sigmoid(values: &mut [f32]) {
        for value in values { *value = sigmoid_lane(*value); }
    }
}

lanes! {
    /// values ← tanh(values).
    fn tanh(values: &mut [f32]) {
        for value in values { *value = tanh_lane(*value); }
    }
}

lanes! {
    /// values ← values, or slope · values below zero.
    fn leaky_relu(values: &mut [f32], slope: f32) {
        for value in values { *value = if *value < 0.0 { slope * *value } else { *value }; }
    }
}

lanes! {
    /// gradient ← gradient, or slope · gradient where the results are not above zero.
    fn leaky_relu_backward(gradient: &mut [f32], results: &[f32], slope: f32) {
        for (g, y) in gradient.iter_mut().zip(results) { *g = if *y > 0.0 { *g } else { slope * *g }; }
    }
}

lanes! {
    /// gradient ← gradient · tanh′.
    fn tanh_backward(gradient: &mut [f32], results: &[f32]) {
        for (g, y) in gradient.iter_mut().zip(results) { *g *= 1.0 - *y * *y; }
    }
}

lanes! {
    /// gradient ← gradient · sigmoid′.
    fn sigmoid_backward(gradient: &mut [f32], results: &[f32]) {
        for (g, y) in gradient.iter_mut().zip(results) { *g *= *y * (1.0 - *y); }
    }
}

lanes! {
    /// Σ of the vectors, lane by lane.
    fn sums(values: &[f32]) -> [f32; LANES] {
        let mut sums = [0f32; LANES];
        for vector in values.as_chunks::<LANES>().0 {
            for lane in 0..LANES { sums[lane] += vector[lane]; }
        }
        sums
    }
}

lanes! {
    /// Σ of (vectors − center)², lane by lane.
    fn square_sums(values: &[f32], center: f32) -> [f32; LANES] {
        let mut sums = [0f32; LANES];
        for vector in values.as_chunks::<LANES>().0 {
            for lane in 0..LANES { let d = vector[lane] - center; sums[lane] += d * d; }
        }
        sums
    }
}

lanes! {
    /// Σ of gradient · (values − center), lane by lane.
    fn product_sums(gradient: &[f32], values: &[f32], center: f32) -> [f32; LANES] {
        let mut sums = [0f32; LANES];
        let values = values.as_chunks::<LANES>().0;
        for (g, v) in gradient.as_chunks::<LANES>().0.iter().zip(values) {
            for lane in 0..LANES { sums[lane] += g[lane] * (v[lane] - center); }
        }
        sums
    }
}

lanes! {
    /// out ← values · factor + summand.
    fn affine(values: &[f32], factor: f32, summand: f32, out: &mut [f32]) {
        for (out, value) in out.iter_mut().zip(values) { *out = *value * factor + summand; }
    }
}

lanes! {
    /// gradient ← gradient · a + values · b + c.
    fn blend(gradient: &mut [f32], values: &[f32], a: f32, b: f32, c: f32) {
        for (g, v) in gradient.iter_mut().zip(values) { *g = *g * a + (*v * b + c); }
    }
}

lanes! {
    /// Σ x·l − ln(1 + e^l), lane by lane: the log-probability in nats of pixels x under Bernoulli logits l.
    fn bernoulli(logits: &[f32], pixels: &[f32]) -> [f32; LANES] {
        let mut sums = [0f32; LANES];
        let pixels = pixels.as_chunks::<LANES>().0;
        for (l, x) in logits.as_chunks::<LANES>().0.iter().zip(pixels) {
            for lane in 0..LANES {
                let (l, x) = (l[lane], x[lane]);
                sums[lane] += x * l - l.max(0.0) - log1p_of_unit(exp_of_negative(-l.abs()));
            }
        }
        sums
    }
}

lanes! {
    /// Σ (values − others)², lane by lane.
    fn square_distances(values: &[f32], others: &[f32]) -> [f32; LANES] {
        let mut sums = [0f32; LANES];
        let others = others.as_chunks::<LANES>().0;
        for (value, other) in values.as_chunks::<LANES>().0.iter().zip(others) {
            for lane in 0..LANES { let d = value[lane] - other[lane]; sums[lane] += d * d; }
        }
        sums
    }
}

lanes! {
    /// out ← scale · (x − sigmoid(l)): the gradient of [`bernoulli`] for the logits.
    fn bernoulli_gradient(logits: &[f32], pixels: &[f32], scale: f32, out: &mut [f32]) {
        for ((out, l), x) in out.iter_mut().zip(logits).zip(pixels) {
            *out = scale * (*x - sigmoid_lane(*l));
        }
    }
}

lanes! {
    /// values ← min(max(values, 0), 6).
    fn relu6(values: &mut [f32]) {
        for value in values { *value = value.clamp(0.0, 6.0); }
    }
}

lanes! {
    /// gradient ← gradient where the results lie between 0 and 6, and 0 elsewhere.
    fn relu6_backward(gradient: &mut [f32], results: &[f32]) {
        for (g, y) in gradient.iter_mut().zip(results) { *g = if *y > 0.0 && *y < 6.0 { *g } else { 0.0 }; }
    }
}

lanes! {
    /// values ← values · sigmoid(values).
    fn silu(values: &mut [f32]) {
        for value in values { *value *= sigmoid_lane(*value); }
    }
}

lanes! {
    /// gradient ← gradient · silu′ at the function's inputs.
    fn silu_backward(gradient: &mut [f32], inputs: &[f32]) {
        for (g, x) in gradient.iter_mut().zip(inputs) {
            let s = sigmoid_lane(*x);
            *g *= s * (1.0 + *x * (1.0 - s));
        }
    }
}

lanes! {
    /// values ← ln(1 + e^values).
    fn softplus(values: &mut [f32]) {
        for value in values { *value = softplus_lane(*value); }
    }
}

lanes! {
    /// gradient ← gradient · softplus′ = 1 − e^−results.
    fn softplus_backward(gradient: &mut [f32], results: &[f32]) {
        for (g, y) in gradient.iter_mut().zip(results) { *g *= 1.0 - exp_of_negative(-*y); }
    }
}

lanes! {
    /// values ← min(max(values / 6 + ½, 0), 1).
    fn hard_sigmoid(values: &mut [f32]) {
        for value in values { *value = (*value / 6.0 + 0.5).clamp(0.0, 1.0); }
    }
}

lanes! {
    /// gradient ← gradient / 6 where the results lie between 0 and 1, and 0 elsewhere.
    fn hard_sigmoid_backward(gradient: &mut [f32], results: &[f32]) {
        for (g, y) in gradient.iter_mut().zip(results) { *g = if *y > 0.0 && *y < 1.0 { *g / 6.0 } else { 0.0 }; }
    }
}

lanes! {
    /// values ← values · min(max(values / 6 + ½, 0), 1).
    fn hard_swish(values: &mut [f32]) {
        for value in values { *value *= (*value / 6.0 + 0.5).clamp(0.0, 1.0); }
    }
}

lanes! {
    /// gradient ← gradient · the slope of [`hard_swish`] at the function's inputs.
    fn hard_swish_backward(gradient: &mut [f32], inputs: &[f32]) {
        for (g, x) in gradient.iter_mut().zip(inputs) { *g *= if *x > 3.0 { 1.0 } else if *x < -3.0 { 0.0 } else { *x / 3.0 + 0.5 }; }
    }
}

lanes! {
    /// Σ of (vectors − centers)², lane by lane.
    fn lane_square_sums(values: &[f32], centers: &[f32; LANES]) -> [f32; LANES] {
        let mut sums = [0f32; LANES];
        for vector in values.as_chunks::<LANES>().0 {
            for lane in 0..LANES { let d = vector[lane] - centers[lane]; sums[lane] += d * d; }
        }
        sums
    }
}

lanes! {
    /// Σ of gradient · (values − centers), lane by lane.
    fn lane_product_sums(gradient: &[f32], values: &[f32], centers: &[f32; LANES]) -> [f32; LANES] {
        let mut sums = [0f32; LANES];
        let values = values.as_chunks::<LANES>().0;
        for (g, v) in gradient.as_chunks::<LANES>().0.iter().zip(values) {
            for lane in 0..LANES { sums[lane] += g[lane] * (v[lane] - centers[lane]); }
        }
        sums
    }
}

lanes! {
    /// out ← values · factors + summands, lane by lane.
    fn lane_affine(values: &[f32], factors: &[f32; LANES], summands: &[f32; LANES], out: &mut [f32]) {
        let values = values.as_chunks::<LANES>().0;
        for (out, value) in out.as_chunks_mut::<LANES>().0.iter_mut().zip(values) {
            for lane in 0..LANES { out[lane] = value[lane] * factors[lane] + summands[lane]; }
        }
    }
}

lanes! {
    /// gradient ← gradient · a + values · b + c, lane by lane.
    fn lane_blend(gradient: &mut [f32], values: &[f32], a: &[f32; LANES], b: &[f32; LANES], c: &[f32; LANES]) {
        let values = values.as_chunks::<LANES>().0;
        for (g, v) in gradient.as_chunks_mut::<LANES>().0.iter_mut().zip(values) {
            for lane in 0..LANES { g[lane] = g[lane] * a[lane] + (v[lane] * b[lane] + c[lane]); }
        }
    }
}

lanes! {
    /// values ← values · factors, lane by lane.
    fn lane_multiply(values: &mut [f32], factors: &[f32; LANES]) {
        for value in values.as_chunks_mut::<LANES>().0 {
            for lane in 0..LANES { value[lane] *= factors[lane]; }
        }
    }
}

lanes! {
    /// values ← values · factor.
    fn multiply(values: &mut [f32], factor: f32) {
        for value in values { *value *= factor; }
    }
}

lanes! {
    /// values ← values · others.
    fn multiply_by(values: &mut [f32], others: &[f32]) {
        for (value, other) in values.iter_mut().zip(others) { *value *= *other; }
    }
}

lanes! {
    /// values ← values + factor · others.
    fn add(values: &mut [f32], factor: f32, others: &[f32]) {
        for (value, other) in values.iter_mut().zip(others) { *value += factor * *other; }
    }
}

lanes! {
    /// values ← e^values, of none above 0.
    fn exp_of_negatives(values: &mut [f32]) {
        for value in values { *value = exp_of_negative(*value); }
    }
}

lanes! {
    /// values ← e^(values − largest), of no value above the largest of its lane.
    fn lane_exp(values: &mut [f32], largest: &[f32; LANES]) {
        for vector in values.as_chunks_mut::<LANES>().0 {
            for lane in 0..LANES { vector[lane] = exp_of_negative(vector[lane] - largest[lane]); }
        }
    }
}

lanes! {
    /// sums ← sums + a · b.
    fn add_product(sums: &mut [f32], a: &[f32], b: &[f32]) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) { *sum += a * b; }
    }
}

lanes! {
    /// values ← values − a · b.
    fn subtract_product(values: &mut [f32], a: &[f32], b: &[f32]) {
        for ((value, a), b) in values.iter_mut().zip(a).zip(b) { *value -= a * b; }
    }
}

lanes! {
    /// values ← 1 / √(values + summand).
    fn inverse_root(values: &mut [f32], summand: f32) {
        for value in values { *value = 1.0 / (*value + summand).sqrt(); }
    }
}

lanes! {
    /// values ← decay · values + rest · others.
    fn approach(values: &mut [f32], others: &[f32], decay: f32, rest: f32) {
        for (value, other) in values.iter_mut().zip(others) { *value = decay * *value + rest * *other; }
    }
}

lanes! {
    /// out ← Σ factor · vector of `values` at each tap's place.
    fn taps(values: &[f32], taps: &[(usize, f32)], out: &mut [f32; LANES]) {
        let mut sums = [0f32; LANES];
        for (place, factor) in taps {
            let vector: &[f32; LANES] = values[*place..*place + LANES].try_into().expect("LANES values");
            for lane in 0..LANES { sums[lane] += *factor * vector[lane]; }
        }
        *out = sums;
    }
}

lanes! {
    /// One Adam step (D. P. Kingma, J. Ba, 2015, algorithm 1) with decays (β₁, β₂) and (rate over 1 − β₁ᵗ,
    /// 1 over 1 − β₂ᵗ, ε).
    fn adam(values: &mut [f32], gradient: &[f32], first: &mut [f32], second: &mut [f32], decay: (f32, f32), step: (f32, f32, f32)) {
        let (beta1, beta2) = decay;
        let (rate, second_scale, epsilon) = step;
        for (((value, g), m), v) in values.iter_mut().zip(gradient).zip(first).zip(second) {
            *m = beta1 * *m + (1.0 - beta1) * *g;
            *v = beta2 * *v + (1.0 - beta2) * *g * *g;
            *value -= rate * *m / ((*v * second_scale).sqrt() + epsilon);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rounding of a handful of f32 operations, relative.
    const FEW_ULP: f64 = 5e-7;

    #[test]
    fn what_is_no_number_stays_so() {
        let mut one = [f32::NAN];
        sigmoid(&mut one);
        assert!(one[0].is_nan());
        let mut one = [f32::NAN];
        tanh(&mut one);
        assert!(one[0].is_nan());
        assert!(bernoulli(&[f32::NAN; LANES], &[1.0; LANES])[3].is_nan());
    }

    #[test]
    fn elementary_functions_agree_with_f64() {
        for step in -4000..4000 {
            let x = step as f32 * 0.02;
            let wide = f64::from(x);
            let close = |got: f32, want: f64| {
                assert!((f64::from(got) - want).abs() <= FEW_ULP * want.abs().max(1e-3), "{x}: {got} {want}");
            };
            let mut one = [x];
            sigmoid(&mut one);
            close(one[0], 1.0 / (1.0 + (-wide).exp()));
            let mut one = [x];
            tanh(&mut one);
            close(one[0], wide.tanh());
            close(bernoulli(&[x; LANES], &[0.25; LANES])[5], 0.25 * wide - wide.exp().ln_1p());
        }
    }
}
