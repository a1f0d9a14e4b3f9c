//! The two float types that the engine runs on: `f32` to train and serve, `f64` to prove gradients.
//!
//! The transcendental functions of `f32` are written as straight arithmetic, so that a loop over them
//! becomes vector instructions; those of `f64` are the standard library's, because nothing waits for them.

use std::fmt::Debug;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Div, DivAssign, Mul, MulAssign, Neg, Sub, SubAssign};

/// A float that the engine computes in.
pub trait Real:
    Copy
    + Default
    + Debug
    + PartialEq
    + PartialOrd
    + Send
    + Sync
    + Sum
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + AddAssign
    + SubAssign
    + MulAssign
    + DivAssign
    + 'static
{
    /// Zero.
    const ZERO: Self;
    /// One.
    const ONE: Self;
    /// The nearest value to `value`.
    fn of(value: f64) -> Self;
    /// The value as `f64`, exactly.
    fn to_f64(self) -> f64;
    /// `self * factor + term`, rounded once where the processor can.
    fn fused(self, factor: Self, term: Self) -> Self;
    /// e to the power of `self`; never infinite.
    fn exponential(self) -> Self;
    /// The square root.
    fn square_root(self) -> Self;
    /// Whether the value is neither infinite nor NaN.
    fn finite(self) -> bool;

    /// The logistic function.
    #[inline(always)]
    fn sigmoid(self) -> Self {
        Self::ONE / (Self::ONE + (-self).exponential())
    }

    /// The hyperbolic tangent, to the absolute precision of the type.
    #[inline(always)]
    fn hyperbolic_tangent(self) -> Self {
        let two = Self::ONE + Self::ONE;
        two.fused((two * self).sigmoid(), -Self::ONE)
    }
}

impl Real for f32 {
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;

    #[inline(always)]
    fn of(value: f64) -> Self {
        value as f32
    }

    #[inline(always)]
    fn to_f64(self) -> f64 {
        f64::from(self)
    }

    #[inline(always)]
    fn fused(self, factor: Self, term: Self) -> Self {
        self.mul_add(factor, term)
    }

    /// Range reduction to `|r| <= ln(2)/2` and a polynomial of degree 6, as in the Cephes library
    /// (S. Moshier); about one unit in the last place of error, inputs clamped to ±87.
    #[inline(always)]
    fn exponential(self) -> Self {
        // Adding and taking away 1.5 * 2^23 rounds to the nearest whole number without a branch; the
        // low bits of the sum are that number, ready to become an exponent.
        const ROUND: f32 = 12_582_912.0;
        const LN2_HIGH: f32 = 0.693_359_4;
        const LN2_LOW: f32 = -2.121_944_4e-4;
        let x = self.clamp(-87.0, 87.0);
        let shifted = x.mul_add(std::f32::consts::LOG2_E, ROUND);
        let whole = shifted - ROUND;
        let r = whole.mul_add(-LN2_LOW, whole.mul_add(-LN2_HIGH, x));
        let mut p = 1.987_569_1e-4f32;
        for coefficient in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 0.166_666_65, 0.5] {
            p = p.mul_add(r, coefficient);
        }
        let mantissa = p.mul_add(r * r, r) + 1.0;
        mantissa * f32::from_bits(shifted.to_bits().wrapping_add(127) << 23)
    }

    #[inline(always)]
    fn square_root(self) -> Self {
        self.sqrt()
    }

    #[inline(always)]
    fn finite(self) -> bool {
        self.is_finite()
    }
}

impl Real for f64 {
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;

    fn of(value: f64) -> Self {
        value
    }

    fn to_f64(self) -> f64 {
        self
    }

    fn fused(self, factor: Self, term: Self) -> Self {
        self.mul_add(factor, term)
    }

    fn exponential(self) -> Self {
        self.clamp(-700.0, 700.0).exp()
    }

    fn square_root(self) -> Self {
        self.sqrt()
    }

    fn finite(self) -> bool {
        self.is_finite()
    }
}

#[cfg(test)]
mod tests {
    use super::Real;

    #[test]
    fn single_precision_functions_follow_the_standard_librarys() {
        for step in -4000..4000 {
            let x = step as f32 * 0.02;
            let exact = f64::from(x).exp();
            let near = f64::from(x.exponential());
            assert!((near - exact).abs() <= exact * 3e-7, "exp({x}) = {near}, not {exact}");
            let tanh = f64::from(x).tanh();
            assert!((f64::from(x.hyperbolic_tangent()) - tanh).abs() < 2e-7, "tanh({x})");
            let sigmoid = 1.0 / (1.0 + (-f64::from(x)).exp());
            assert!((f64::from(x.sigmoid()) - sigmoid).abs() < 2e-7, "sigmoid({x})");
        }
    }

    #[test]
    fn extreme_inputs_give_finite_results() {
        for x in [f32::MAX, f32::MIN, 1e9, -1e9] {
            assert!(x.exponential().is_finite());
            assert!(x.hyperbolic_tangent().abs() <= 1.0);
        }
    }
}
