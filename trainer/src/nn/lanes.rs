//! Loops over f32 slices that the compiler vectorises, compiled once per x86 vector width.
//!
//! The arithmetic is written without fused multiply-add and without libm, so every width and every
//! platform gives the same bits.
#![allow(unsafe_code)]

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
    /// Σ x·l − ln(1 + e^l): the log-probability in nats of pixels x under Bernoulli logits l.
    fn bernoulli(logits: &[f32], pixels: &[f32]) -> f32 {
        const WIDTH: usize = 16;
        let term = |l: f32, x: f32| x * l - l.max(0.0) - log1p_of_unit(exp_of_negative(-l.abs()));
        let mut sums = [0f32; WIDTH];
        let (l, l_rest) = logits.as_chunks::<WIDTH>();
        let (x, x_rest) = pixels.as_chunks::<WIDTH>();
        for (l, x) in l.iter().zip(x) {
            for lane in 0..WIDTH { sums[lane] += term(l[lane], x[lane]); }
        }
        let rest: f32 = l_rest.iter().zip(x_rest).map(|(l, x)| term(*l, *x)).sum();
        sums.iter().sum::<f32>() + rest
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
    /// One Adam step (D. P. Kingma, J. Ba, 2015, algorithm 1) on moments that are already updated.
    fn adam_update(values: &mut [f32], first: &[f32], second: &[f32], rate: f32, second_scale: f32, epsilon: f32) {
        for ((value, m), v) in values.iter_mut().zip(first).zip(second) {
            *value -= rate * *m / ((*v * second_scale).sqrt() + epsilon);
        }
    }
}

lanes! {
    /// average ← beta · average + (1 − beta) · values.
    fn average(average: &mut [f32], values: &[f32], beta: f32) {
        for (average, value) in average.iter_mut().zip(values) {
            *average = beta * *average + (1.0 - beta) * *value;
        }
    }
}

lanes! {
    /// average ← beta · average + (1 − beta) · values².
    fn average_of_squares(average: &mut [f32], values: &[f32], beta: f32) {
        for (average, value) in average.iter_mut().zip(values) {
            *average = beta * *average + (1.0 - beta) * *value * *value;
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
        assert!(bernoulli(&[f32::NAN], &[1.0]).is_nan());
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
            close(bernoulli(&[x], &[0.25]), 0.25 * wide - wide.exp().ln_1p());
        }
    }
}
