//! Negative binomial distribution of overdispersed counts.

use super::entries::{Entry, Entrywise, LANES, finite, univariate_by_entries};
use super::poisson::{COUNTS, exp_with_tangent, is_count, sample_poisson};
use super::positive::Positive;
use super::start::Exposures;
use super::univariate::Univariate;
use crate::linalg::Elementary;
use crate::linalg::special::{RisingConstants, ln_factorials, ln_rising};
use crate::{Error, Real, Result};
use rand::Rng;
use rand_distr::Distribution;

/// Negative binomial distribution of counts with the logarithm of its mean as predictor, and with a
/// size r of its own: mean μ = e^y, variance μ + μ²/r.
///
/// ```math
/// \ln p(x|y) = \ln\frac{\Gamma(x+r)}{\Gamma(r)\,x!} + x\ln\frac\mu{\mu+r} - r\ln\Bigl(1+\frac\mu
/// r\Bigr)
/// ```
///
/// The parameter is ln(r − floor), unless r is fixed; the floor is 1e-6 by default. For large r the
/// log-density converges to the one of a Poisson distribution without cancellation; a learned r is
/// at most 1e12. The expectation under a distribution of y needs quadrature.
///
/// ```
/// use elbo::likelihood::{NegativeBinomial, Univariate};
/// // Size 1 and mean 1: a geometric distribution with p = ½.
/// let density = NegativeBinomial::fixed(1.0)?.log_density(2.0f64, 0.0, &[]);
/// assert!((density - 0.125f64.ln()).abs() < 1e-14);
/// # Ok::<(), elbo::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NegativeBinomial {
    size: Positive,
}

impl Default for NegativeBinomial {
    fn default() -> Self {
        Self { size: Positive::learned(1e-6) }
    }
}

/// The largest size; there the distribution is that of Poisson to all digits.
const LARGEST_SIZE: f64 = 1e12;

impl NegativeBinomial {
    /// A fixed size r.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] unless r is between 1e-9 and 1e12.
    pub fn fixed(size: f64) -> Result<Self> {
        let (name, value) = ("the size", size);
        if !(1e-9..=LARGEST_SIZE).contains(&value) {
            return Err(Error::InvalidParameter { name, value, must: "between 1e-9 and 1e12" });
        }
        Ok(Self { size: Positive::fixed(name, value)? })
    }

    /// Sets the lower bound (floor) of a learned r; 0 for none.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] for a floor that is negative or not finite.
    pub fn with_floor(self, floor: f64) -> Result<Self> {
        Ok(Self { size: self.size.with_floor("the floor of a size", floor)? })
    }

    /// The size r, given the parameters.
    pub fn size<T: Real>(&self, parameters: &[T]) -> T {
        finite(self.size_and_slope(|| parameters[0].as_f64()).0)
    }

    fn size_and_slope(&self, parameter: impl FnOnce() -> f64) -> (f64, f64) {
        let (size, slope) = self.size.at(parameter);
        if size > LARGEST_SIZE { (LARGEST_SIZE, 0.0) } else { (size, slope) }
    }
}

impl Entrywise<10, 1> for NegativeBinomial {
    fn slots(&self) -> [Option<usize>; 1] {
        [(!self.size.is_fixed()).then_some(0)]
    }

    /// The constants of [`ln_rising`], ln r, dr/dξ.
    fn constants(&self, parameter: impl Fn(usize) -> f64) -> [f64; 10] {
        let (size, slope) = self.size_and_slope(|| parameter(0));
        let [a, b, c, d, e, f, g, h] = RisingConstants::new(size).0;
        [a, b, c, d, e, f, g, h, size.ln(), slope]
    }

    #[inline(always)]
    fn of_x(x: &[f64; LANES], _: &[[f64; LANES]; 10]) -> [f64; LANES] {
        ln_factorials(x)
    }

    #[inline(always)]
    fn entry(x: f64, y: f64, ln_factorial: f64, constants: [f64; 10]) -> Entry<1> {
        let [size, inverse, a, b, c, d, e, f, ln_size, slope] = constants;
        let (rising, d_rising) = ln_rising(x, &[size, inverse, a, b, c, d, e, f]);
        // ln(1 + μ/r) and μ/(μ + r), with all digits where μ/r is small.
        let (growth, share) = (y - ln_size).quick_softplus_and_sigmoid();
        let total = x + size;
        Entry {
            density: rising - ln_factorial + x * y - total * growth,
            d_output: x - total * share,
            d_parameters: [(d_rising - growth + total * share * inverse) * slope],
        }
    }
}

impl<T: Real> Univariate<T> for NegativeBinomial {
    univariate_by_entries!(10, 1);

    fn mean(&self, y: T, _parameters: &[T]) -> T {
        finite(exp_with_tangent(y.as_f64()).0)
    }

    /// A Poisson variable whose mean is a gamma variable.
    fn sample(&self, y: T, parameters: &[T], rng: &mut dyn Rng) -> T {
        let size = self.size(parameters).as_f64();
        let mean = y.as_f64().min(700.0).exp();
        let rate = match rand_distr::Gamma::new(size, mean / size) {
            Ok(gamma) => gamma.sample(rng),
            Err(_) => mean,
        };
        T::of(sample_poisson(rate, rng))
    }

    fn contains(&self, x: T) -> bool {
        is_count(x)
    }

    fn support(&self) -> &'static str {
        COUNTS
    }

    /// ln Σx − ln Σe^o as for Poisson, and the size by moments.
    fn start(&self, values: &[T], offsets: &[T], parameters: &mut [T]) -> T {
        let exposures = Exposures::new(values, offsets);
        if let Some(parameter) = parameters.first_mut() {
            *parameter = T::of(self.size.parameter_of(exposures.size()));
        }
        T::of(exposures.log_mean())
    }

    fn rests_on_floor(&self, parameters: &[T]) -> bool {
        self.size.rests_on_floor(|| parameters[0].as_f64())
    }
}
