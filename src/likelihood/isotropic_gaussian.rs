//! Gaussian likelihood with one noise variance for all variables, as in probabilistic PCA.

use super::entries::any_missing;
use super::gaussian_noise::{log_two_pi_times, narrow_variance};
use super::{ConditionalMean, Likelihood, Weights, is_nan, observed};
use crate::linalg::parallel::sum_over;
use crate::linalg::reshape;
use crate::linalg::vector::vectorized;
use crate::map::Parameters;
use crate::{Error, Real, Result};
use nalgebra::{DMatrix, DMatrixView, DVector};
use rand::Rng;
use std::cell::OnceCell;

/// How the noise variance σ² is determined.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum NoiseVariance<T> {
    /// Estimated together with the other parameters.
    #[default]
    Learned,
    /// Fixed at this value.
    Fixed(T),
    /// Set to its optimum given the other parameters, the mean squared residual, without a step
    /// size. Where the optimum of all parameters is in closed form, this equals `Learned`.
    Analytic,
}

impl<T: Real> NoiseVariance<T> {
    /// The value, if it is fixed.
    pub fn fixed(self) -> Option<T> {
        match self {
            Self::Fixed(variance) => Some(variance),
            Self::Learned | Self::Analytic => None,
        }
    }
}

/// Gaussian likelihood with isotropic covariance: x|y ~ N(y, σ² I).
///
/// ```math
/// \log p(x|y) = -\tfrac d2\ln 2\pi\sigma^2 - \frac{\lVert x-y\rVert^2}{2\sigma^2}
/// ```
///
/// The free parameter is ln σ², unless σ² is fixed. A learned σ² is bounded below by a floor (see
/// [`with_floor`](Self::with_floor)). An [analytic](Self::analytic) σ² is among the parameters, but
/// a gradient fit sets it to the mean squared residual (an exponential moving average over about
/// the last epoch, exact at the end).
///
/// ```
/// use elbo::likelihood::{IsotropicGaussian, Likelihood};
/// use nalgebra::dmatrix;
/// let noise = IsotropicGaussian::new(1.0)?;
/// let at_the_mean = noise.log_density(dmatrix![0.0f64].as_view(), dmatrix![0.0].as_view())[0];
/// assert!((at_the_mean + 0.5 * (2.0 * std::f64::consts::PI).ln()).abs() < 1e-15);
/// # Ok::<(), elbo::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct IsotropicGaussian<T: Real> {
    // The variance as given. It is returned as long as the log-variance has not changed, because
    // exp(ln σ²) differs from σ² by rounding.
    given: T,
    // An array, so that it can be returned as a slice of parameters.
    log_variance: [T; 1],
    fixed: bool,
    analytic: bool,
    floor: T,
}

impl<T: Real> IsotropicGaussian<T> {
    /// Noise with a variance that a fit estimates, starting from σ².
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] unless σ² is finite and a positive normal number: a subnormal
    /// one has lost digits.
    pub fn new(noise_variance: T) -> Result<Self> {
        check_variance("the noise variance", noise_variance)?;
        Ok(Self {
            given: noise_variance,
            log_variance: [noise_variance.ln()],
            fixed: false,
            analytic: false,
            floor: T::zero(),
        })
    }

    /// Noise with a fixed variance σ².
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] unless σ² is finite and a positive normal number: a subnormal
    /// one has lost digits.
    pub fn fixed(noise_variance: T) -> Result<Self> {
        Ok(Self { fixed: true, ..Self::new(noise_variance)? })
    }

    /// Noise whose variance a gradient fit sets to its optimum given the decoder, the mean squared
    /// residual[^1], starting from σ².
    ///
    /// [^1]: O. Rybkin, K. Daniilidis and S. Levine, Simple and effective VAE training with
    /// calibrated decoders, ICML 2021, section 3.2.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] unless σ² is finite and a positive normal number: a subnormal
    /// one has lost digits.
    pub fn analytic(noise_variance: T) -> Result<Self> {
        Ok(Self { analytic: true, ..Self::new(noise_variance)? })
    }

    /// Sets the lower bound (floor) of a learned σ²; 0 for none.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] for a floor that is negative or not finite.
    pub fn with_floor(self, floor: T) -> Result<Self> {
        check_floor("the floor of the noise variance", floor)?;
        Ok(Self { floor, ..self })
    }

    /// The noise variance σ².
    pub fn noise_variance(&self) -> T {
        // The same `ln` was used to set the logarithm, so that equality means that it has not
        // changed.
        let variance = if self.log_variance[0] == self.given.ln() {
            self.given
        } else {
            self.log_variance[0].exp()
        };
        if self.fixed { variance } else { variance.max(self.floor) }
    }

    /// Whether a gradient fit sets σ² to its optimum instead of moving it along the gradient.
    pub fn is_analytic(&self) -> bool {
        self.analytic
    }

    /// Whether σ² is fixed.
    pub fn is_fixed(&self) -> bool {
        self.fixed
    }

    /// The lower bound of σ²; 0 if none was set.
    pub fn floor(&self) -> T {
        self.floor
    }

    /// Whether σ² is at its floor.
    pub fn is_at_floor(&self) -> bool {
        !self.fixed && self.floor > T::zero() && self.noise_variance() <= self.floor
    }

    #[cfg(feature = "serde")]
    pub(crate) fn form(&self) -> crate::saved::IsotropicNoiseForm<T> {
        crate::saved::IsotropicNoiseForm {
            given: self.given,
            log_variance: self.log_variance[0],
            fixed: self.fixed,
            analytic: self.analytic,
            floor: self.floor,
        }
    }

    /// The noise of a saved form; every number is validated, σ² together with its logarithm.
    #[cfg(feature = "serde")]
    pub(crate) fn of_form(form: crate::saved::IsotropicNoiseForm<T>) -> Result<Self> {
        check_variance("the saved noise variance", form.given)?;
        check_variance("the saved noise variance", form.log_variance.exp())?;
        check_floor("the saved floor", form.floor)?;
        let crate::saved::IsotropicNoiseForm { given, log_variance, fixed, analytic, floor } = form;
        Ok(Self { given, log_variance: [log_variance], fixed, analytic, floor })
    }

    /// Converts the noise to another precision; an error where σ² would lose digits.
    pub(crate) fn narrow<U: Real>(&self) -> Result<IsotropicGaussian<U>> {
        let given: U = narrow_variance(self.noise_variance())?;
        let floor = U::of(self.floor.as_f64());
        Ok(IsotropicGaussian {
            given,
            log_variance: [given.ln()],
            fixed: self.fixed,
            analytic: self.analytic,
            floor,
        })
    }

    /// Sets σ², bounded below by the floor; a fixed σ² does not change.
    pub(crate) fn set_noise_variance(&mut self, noise_variance: T) {
        if !self.fixed {
            self.given = noise_variance.max(self.floor);
            self.log_variance = [self.given.ln()];
        }
    }
}

/// Returns an error unless a variance is finite and a positive normal number.
pub(crate) fn check_variance<T: Real>(name: &'static str, value: T) -> Result<()> {
    if value >= T::MIN_POSITIVE && value.is_finite() {
        Ok(())
    } else {
        // A subnormal number is positive, but has fewer digits, and its reciprocal may overflow.
        let must = if value > T::zero() && value.is_finite() {
            "large enough to have all its digits"
        } else {
            "positive and finite"
        };
        Err(Error::InvalidParameter { name, value: value.as_f64(), must })
    }
}

/// Returns an error unless a share of a variance is at least 0 and below 1.
pub(crate) fn check_share(name: &'static str, share: f64) -> Result<()> {
    if (0.0..1.0).contains(&share) {
        Ok(())
    } else {
        Err(Error::InvalidParameter { name, value: share, must: "at least 0 and below 1" })
    }
}

/// Returns an error unless a floor is finite and not negative.
pub(crate) fn check_floor<T: Real>(name: &'static str, value: T) -> Result<()> {
    if value >= T::zero() && value.is_finite() {
        Ok(())
    } else {
        Err(Error::InvalidParameter {
            name,
            value: value.as_f64(),
            must: "finite and not negative",
        })
    }
}

impl<T: Real> Parameters<T> for IsotropicGaussian<T> {
    fn parameters(&self) -> &[T] {
        &self.log_variance[usize::from(self.fixed)..]
    }
    fn parameters_mut(&mut self) -> &mut [T] {
        &mut self.log_variance[usize::from(self.fixed)..]
    }

    /// With the derivative g = ½(Σe²/σ² − entries), the mean squared residual is σ²(1 +
    /// 2g/entries).
    fn step_to_optimum(&mut self, d_parameters: &[T], entries: T, weight: T) -> bool {
        let Some(&d_log_variance) = d_parameters.first().filter(|_| self.analytic) else {
            return false;
        };
        // At least ε: rounding of g must not make the new variance 0 or negative.
        let ratio = (T::one() + T::of(2.0) * d_log_variance / entries).max(T::EPSILON);
        let moved = self.noise_variance() * (T::one() + weight * (ratio - T::one()));
        if moved.is_finite() {
            self.set_noise_variance(moved);
        }
        true
    }

    fn settle(&mut self) {
        if !self.fixed {
            self.given = self.log_variance[0].exp();
        }
    }

    fn rests_on_floor(&self) -> bool {
        self.is_at_floor()
    }
}

impl<T: Real> ConditionalMean<T> for IsotropicGaussian<T> {
    fn mean(&self, output: DMatrixView<'_, T>) -> DMatrix<T> {
        output.into_owned()
    }

    fn is_identity(&self) -> bool {
        true
    }

    fn gaussian_variances(&self, data_dim: usize) -> Option<DVector<T>> {
        Some(super::GaussianNoise::variances(self, data_dim))
    }
}

impl<T: Real> Likelihood<T> for IsotropicGaussian<T> {
    fn log_density(&self, x: DMatrixView<'_, T>, output: DMatrixView<'_, T>) -> DVector<T> {
        let variance = self.noise_variance();
        let half = T::of(0.5);
        let constant = -half * T::of_usize(x.nrows()) * log_two_pi_times(variance);
        // Squared errors are summed before the division by σ²: one division per observation.
        let constants = OnceCell::new();
        let densities = x.column_iter().zip(output.column_iter()).map(|(x, y)| {
            let density = constant - half * squared_distance(x.iter(), y.iter()) / variance;
            // A missing entry makes the sum NaN; complete data are not searched for one.
            if is_nan(density) {
                let constants = constants
                    .get_or_init(|| observed::constants(std::iter::repeat_n(variance, x.nrows())));
                return observed::log_density(x.as_slice(), y.as_slice(), constants);
            }
            density
        });
        DVector::from_iterator(x.ncols(), densities)
    }

    fn log_density_gradient(
        &self,
        x: DMatrixView<'_, T>,
        output: DMatrixView<'_, T>,
        weights: Weights<'_, T>,
        d_output: &mut DMatrix<T>,
        d_parameters: &mut [T],
    ) -> T {
        let (d, n) = x.shape();
        reshape(d_output, d, n);
        let variance = self.noise_variance();
        let (scale, each) = weights.common();
        let (half, precision) = (T::of(0.5), scale / variance);
        let rows = d.max(1);
        // A partial sum for each observation keeps f32 accurate over many of them. Chunks are whole
        // observations of about 8192 entries; their boundaries depend on d alone, and `sum_over`
        // adds them in a fixed binary tree: bit-identical results for any number of threads.
        let piece = rows * (1usize << 13).div_ceil(rows);
        let squared_error =
            sum_over(d_output.as_mut_slice(), piece, 2 * x.len(), &|first, part: &mut [T]| {
                part.chunks_exact_mut(rows).enumerate().fold(T::zero(), |total, (i, d_column)| {
                    let i = first / rows + i;
                    let (x, y) = (x.column(i), output.column(i));
                    let (x, y) = (x.as_slice(), y.as_slice());
                    match each {
                        None => total + weighted_errors(x, y, precision, d_column),
                        Some(each) => {
                            let weight = each[i];
                            total + weight * weighted_errors(x, y, weight * precision, d_column)
                        }
                    }
                })
            });
        if is_nan(squared_error) && any_missing(&x) {
            let constants = observed::constants(std::iter::repeat_n(variance, d));
            let (value, by_variable) = observed::gradient(x, output, weights, d_output, &constants);
            if let Some(to) = d_parameters.first_mut() {
                let sum: f64 = by_variable.iter().sum();
                let held = !self.analytic && self.is_at_floor() && sum < 0.0;
                *to = if held { T::zero() } else { T::of(sum) };
            }
            return value;
        }
        let count = T::of_usize(d) * if each.is_some() { weights.sum(n) } else { T::of_usize(n) };
        if let Some(d_log_variance) = d_parameters.first_mut() {
            // At the floor a derivative towards smaller σ² is 0 (projected gradient); one towards
            // larger σ² remains. For an analytic σ² it must not be: derivatives of batches are
            // added up, and the optimum of their sum is bounded by the floor.
            let held = !self.analytic && self.is_at_floor() && squared_error < count * variance;
            *d_log_variance =
                if held { T::zero() } else { half * (precision * squared_error - scale * count) };
        }
        -half * (scale * count * log_two_pi_times(variance) + precision * squared_error)
    }

    fn sample(&self, output: DMatrixView<'_, T>, rng: &mut dyn Rng) -> DMatrix<T> {
        let deviation = self.noise_variance().sqrt();
        output.map(|mean| mean + deviation * T::standard_normal(rng))
    }
}

/// Computes d ← weight·(x − y) for one observation and returns Σ (x − y)².
fn weighted_errors<T: Real>(x: &[T], y: &[T], weight: T, d: &mut [T]) -> T {
    const LANES: usize = 16;
    vectorized(
        #[inline(always)]
        || {
            // One partial sum per SIMD lane: the additions do not wait for each other.
            let mut sums = [T::zero(); LANES];
            let ((x, x_rest), (y, y_rest), (d, d_rest)) =
                (x.as_chunks::<LANES>(), y.as_chunks::<LANES>(), d.as_chunks_mut::<LANES>());
            for ((x, y), d) in x.iter().zip(y).zip(d) {
                for i in 0..LANES {
                    let error = x[i] - y[i];
                    d[i] = weight * error;
                    sums[i] += error * error;
                }
            }
            for (((&x, &y), d), sum) in x_rest.iter().zip(y_rest).zip(d_rest).zip(&mut sums) {
                let error = x - y;
                *d = weight * error;
                *sum += error * error;
            }
            sums.into_iter().fold(T::zero(), |total, sum| total + sum)
        },
    )
}

/// The squared distance Σ (a − b)².
pub(crate) fn squared_distance<'a, T: Real>(
    a: impl Iterator<Item = &'a T>,
    b: impl Iterator<Item = &'a T>,
) -> T {
    a.zip(b).fold(T::zero(), |sum, (&a, &b)| sum + (a - b) * (a - b))
}
