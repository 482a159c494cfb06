//! The trait of scalar types: `f32` and `f64`.

use crate::linalg::Kernel;
use nalgebra::RealField;
use rand::Rng;
use rand_distr::{Distribution, StandardNormal};

/// With the feature `serde`, a scalar can be saved. As [`Real`] is sealed, a feature may add a bound.
#[cfg(feature = "serde")]
pub trait SavedScalar: serde::Serialize + serde::de::DeserializeOwned {}
#[cfg(feature = "serde")]
impl<T: serde::Serialize + serde::de::DeserializeOwned> SavedScalar for T {}

/// Without the feature `serde` there is nothing to require.
#[cfg(not(feature = "serde"))]
pub trait SavedScalar {}
#[cfg(not(feature = "serde"))]
impl<T> SavedScalar for T {}

/// A real scalar type, `f32` or `f64`.
///
/// The trait is sealed: matrix products are dispatched to kernels by it, which exist for these two
/// types only.
///
/// ```
/// fn half<T: elbo::Real>() -> T { T::of(0.5) }
/// assert_eq!(half::<f32>(), 0.5);
/// ```
pub trait Real: RealField + Copy + Kernel + std::iter::Sum<Self> + SavedScalar {
    /// The machine epsilon: the distance from 1 to the next larger number.
    const EPSILON: Self;
    /// The largest finite number.
    const MAX: Self;
    /// The smallest positive normal number.
    const MIN_POSITIVE: Self;
    /// The limit below which a sum of squares may have lost accuracy to underflow.
    // A square that underflows has an absolute error of at most ε·MIN_POSITIVE. Beside a sum of
    // MIN_POSITIVE/ε² that is a relative error of ε³: even 1/ε² such terms do not matter.
    #[doc(hidden)]
    const TINY_SQUARE: f64;
    /// The size below which a number that decays, or is a factor of a product, counts as 0:
    /// `MIN_POSITIVE`/ε, 1.0e-31 in `f32` and 1.0e-292 in `f64`.
    // Its product with any number of at least ε is still a normal number.
    #[doc(hidden)]
    const NEGLIGIBLE: Self;
    /// Converts from `f64`, rounding to the nearest number of this type.
    fn of(value: f64) -> Self;
    /// Converts from a count, rounding to the nearest number of this type.
    fn of_usize(value: usize) -> Self;
    /// Converts to `f64`, exactly.
    fn as_f64(self) -> f64;
    /// Returns one sample of N(0, 1).
    fn standard_normal<R: Rng + ?Sized>(rng: &mut R) -> Self;
}

// Both types have the same code, and `as` rounds to nearest in each of these conversions.
macro_rules! real {
    ($t:ty) => {
        impl Real for $t {
            const EPSILON: Self = <$t>::EPSILON;
            const MAX: Self = <$t>::MAX;
            const MIN_POSITIVE: Self = <$t>::MIN_POSITIVE;
            const TINY_SQUARE: f64 =
                <$t>::MIN_POSITIVE as f64 / (<$t>::EPSILON as f64 * <$t>::EPSILON as f64);
            const NEGLIGIBLE: Self = <$t>::MIN_POSITIVE / <$t>::EPSILON;
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
