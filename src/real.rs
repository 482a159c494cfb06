//! The scalar type of every model: `f32` or `f64`.

use crate::linalg::Kernel;
use nalgebra::RealField;
use rand::Rng;
use rand_distr::{Distribution, StandardNormal};

/// A real scalar, `f32` or `f64`; the trait is sealed, because matrix products reach the fast
/// kernels through it.
///
/// ```
/// fn half<T: elbo::Real>() -> T { T::of(0.5) }
/// assert_eq!(half::<f32>(), 0.5);
/// ```
pub trait Real: RealField + Copy + Kernel + std::iter::Sum<Self> {
    /// The distance from 1 to the next larger number.
    const EPSILON: Self;
    /// The largest finite number.
    const MAX: Self;
    /// The smallest positive number that has all its digits.
    const MIN_POSITIVE: Self;
    /// Below this a sum of squares may have lost digits to underflow.
    #[doc(hidden)]
    const TINY_SQUARE: f64;
    /// The nearest number of this type to `value`.
    fn of(value: f64) -> Self;
    /// The nearest number of this type to the count `value`.
    fn of_usize(value: usize) -> Self;
    /// This number in double precision.
    fn as_f64(self) -> f64;
    /// One draw from N(0, 1).
    fn standard_normal<R: Rng + ?Sized>(rng: &mut R) -> Self;
}

macro_rules! real {
    ($t:ty) => {
        impl Real for $t {
            const EPSILON: Self = <$t>::EPSILON;
            const MAX: Self = <$t>::MAX;
            const MIN_POSITIVE: Self = <$t>::MIN_POSITIVE;
            const TINY_SQUARE: f64 =
                <$t>::MIN_POSITIVE as f64 / (<$t>::EPSILON as f64 * <$t>::EPSILON as f64);
            #[inline]
            fn of(value: f64) -> Self {
                value as $t
            }
            #[inline]
            fn of_usize(value: usize) -> Self {
                value as $t
            }
            #[inline]
            fn as_f64(self) -> f64 {
                self as f64
            }
            #[inline]
            fn standard_normal<R: Rng + ?Sized>(rng: &mut R) -> Self {
                StandardNormal.sample(rng)
            }
        }
    };
}
real!(f32);
real!(f64);
