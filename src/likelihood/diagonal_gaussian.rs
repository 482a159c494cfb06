//! Gaussian likelihood with one noise variance per variable, as in factor analysis.

use super::entries::any_missing;
use super::gaussian_noise::{log_two_pi_times, narrow_variance};
use super::isotropic_gaussian::{check_floor, check_variance};
use super::{ConditionalMean, GaussianNoise, Likelihood, Weights, is_nan, observed};
use crate::linalg::reshape;
use crate::map::Parameters;
use crate::{Error, Real, Result};
use nalgebra::{DMatrix, DMatrixView, DVector};
use rand::Rng;
use std::cell::OnceCell;

/// Gaussian likelihood with diagonal covariance: x|y ~ N(y, diag(ψ_1, …, ψ_d)).
///
/// ```math
/// \log p(x|y) = -\tfrac12\sum_j\left(\ln 2\pi\psi_j + \frac{(x_j-y_j)^2}{\psi_j}\right)
/// ```
///
/// The free parameters are the ln ψ_j, unless ψ is fixed. A learned ψ_j is bounded below by a floor
/// of its own (see [`with_floors`](Self::with_floors)).
///
/// ```
/// use elbo::likelihood::{DiagonalGaussian, Likelihood};
/// use nalgebra::{dmatrix, dvector};
/// let noise = DiagonalGaussian::new(dvector![1.0, 4.0])?;
/// let at_the_mean =
///     noise.log_density(dmatrix![0.0; 3.0].as_view(), dmatrix![0.0; 3.0].as_view())[0];
/// assert!(
///     (at_the_mean + (2.0 * std::f64::consts::PI).ln() + 0.5 * 4.0f64.ln()).abs() < 1e-15
/// );
/// # Ok::<(), elbo::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct DiagonalGaussian<T: Real> {
    // The variances as given. They are returned as long as the log-variances have not changed,
    // because exp(ln ψ) differs from ψ by rounding.
    given: DVector<T>,
    log_variances: DVector<T>,
    // Lower bounds of a learned ψ_j, in the same units; 0 for none.
    floors: DVector<T>,
    fixed: bool,
    analytic: bool,
}

impl<T: Real> DiagonalGaussian<T> {
    /// Noise with variances ψ (d) that a fit estimates, starting from these values.
    ///
    /// # Errors
    /// [`Error::Empty`] for d = 0; [`Error::InvalidParameter`] unless each ψ_j is finite and a
    /// positive normal number.
    pub fn new(noise_variances: DVector<T>) -> Result<Self> {
        if noise_variances.is_empty() {
            return Err(Error::Empty { rows: 0, columns: 1 });
        }
        for &variance in noise_variances.iter() {
            check_variance("a noise variance", variance)?;
        }
        let floors = DVector::zeros(noise_variances.len());
        Ok(Self {
            log_variances: noise_variances.map(|v| v.ln()),
            given: noise_variances,
            floors,
            fixed: false,
            analytic: false,
        })
    }

    /// Noise with fixed variances ψ (d).
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn fixed(noise_variances: DVector<T>) -> Result<Self> {
        Ok(Self { fixed: true, ..Self::new(noise_variances)? })
    }

    /// Noise whose variances a gradient fit sets to their optima given the decoder, the mean
    /// squared residual of each variable, starting from ψ (d); see
    /// [`IsotropicGaussian::analytic`](super::IsotropicGaussian::analytic).
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn analytic(noise_variances: DVector<T>) -> Result<Self> {
        Ok(Self { analytic: true, ..Self::new(noise_variances)? })
    }

    /// Sets the lower bound (floor) of each learned ψ_j: d entries, 0 for none.
    ///
    /// # Errors
    /// [`Error::DimensionMismatch`] unless there are d floors; [`Error::InvalidParameter`] for a
    /// floor that is negative or not finite.
    pub fn with_floors(self, floors: DVector<T>) -> Result<Self> {
        crate::data::expect("floors of the noise variances", self.given.len(), floors.len())?;
        for &floor in floors.iter() {
            check_floor("a floor of a noise variance", floor)?;
        }
        Ok(Self { floors, ..self })
    }

    #[cfg(feature = "serde")]
    pub(crate) fn form(&self) -> crate::saved::DiagonalNoiseForm<T> {
        let all = |v: &DVector<T>| v.iter().copied().collect();
        let (given, log_variances, floors) =
            (all(&self.given), all(&self.log_variances), all(&self.floors));
        let (fixed, analytic) = (self.fixed, self.analytic);
        crate::saved::DiagonalNoiseForm { given, log_variances, floors, fixed, analytic }
    }

    /// The noise of a saved form; every number is validated.
    #[cfg(feature = "serde")]
    pub(crate) fn of_form(form: crate::saved::DiagonalNoiseForm<T>) -> Result<Self> {
        crate::data::expect(
            "saved logarithms of the noise variances",
            form.given.len(),
            form.log_variances.len(),
        )?;
        // The current values are the exponentials of the logarithms: these are validated, beside
        // the variances as given.
        for log_variance in &form.log_variances {
            check_variance("a saved noise variance", log_variance.exp())?;
        }
        let noise = Self::new(DVector::from_vec(form.given))?
            .with_floors(DVector::from_vec(form.floors))?;
        Ok(Self {
            log_variances: DVector::from_vec(form.log_variances),
            fixed: form.fixed,
            analytic: form.analytic,
            ..noise
        })
    }

    /// The noise variances ψ, d×1.
    pub fn noise_variances(&self) -> DVector<T> {
        DVector::from_fn(self.given.len(), |j, _| self.variance(j))
    }

    /// The lower bounds of the ψ_j (d); 0 where none was set.
    pub fn floors(&self) -> &DVector<T> {
        &self.floors
    }

    /// The variables whose ψ_j is at its floor (Heywood cases). A ψ_j counts as at its floor within
    /// a factor of 1.001: an iterative fit approaches the floor without reaching it exactly.
    pub fn at_floor(&self) -> Vec<usize> {
        let near = T::of(1.001);
        (0..self.given.len())
            .filter(|&j| !self.fixed && self.variance(j) <= near * self.floors[j])
            .collect()
    }

    fn variance(&self, j: usize) -> T {
        // The same `ln` was used to set the logarithm, so that equality means that it has not
        // changed.
        let variance = if self.log_variances[j] == self.given[j].ln() {
            self.given[j]
        } else {
            self.log_variances[j].exp()
        };
        if self.fixed { variance } else { variance.max(self.floors[j]) }
    }

    // Exact, unlike `at_floor`: it decides whether a gradient step could still lower ψ_j.
    fn is_at_floor(&self, j: usize) -> bool {
        !self.fixed && self.variance(j) <= self.floors[j]
    }

    /// Converts the noise to another precision.
    pub(crate) fn narrow<U: Real>(&self) -> Result<DiagonalGaussian<U>> {
        let variances = self.noise_variances();
        let given: Vec<U> =
            variances.iter().map(|&variance| narrow_variance(variance)).collect::<Result<_>>()?;
        let given = DVector::from_vec(given);
        let floors = self.floors.map(|f| U::of(f.as_f64()));
        Ok(DiagonalGaussian {
            log_variances: given.map(|v| v.ln()),
            given,
            floors,
            fixed: self.fixed,
            analytic: self.analytic,
        })
    }

    /// A step towards the optima. With the derivative g_j = ½(Σe_j²/ψ_j − n_j), the mean squared
    /// residual is ψ_j(1 + 2g_j/n_j).
    fn step_with_counts(
        &mut self,
        d_parameters: &[T],
        count: impl Fn(usize) -> T,
        weight: T,
    ) -> bool {
        if !self.analytic || self.fixed || d_parameters.len() != self.given.len() {
            return false;
        }
        let moved = DVector::from_fn(self.given.len(), |j, _| {
            // At least ε: rounding of g_j must not make the new variance 0 or negative.
            let ratio = (T::one() + T::of(2.0) * d_parameters[j] / count(j)).max(T::EPSILON);
            let moved = self.variance(j) * (T::one() + weight * (ratio - T::one()));
            if moved.is_finite() { moved } else { self.variance(j) }
        });
        self.set(moved);
        true
    }

    /// Sets the variances, each bounded below by its floor.
    fn set(&mut self, variances: DVector<T>) {
        self.given = variances.zip_map(&self.floors, |variance, floor| variance.max(floor));
        self.log_variances = self.given.map(|v| v.ln());
    }
}

impl<T: Real> Parameters<T> for DiagonalGaussian<T> {
    fn parameters(&self) -> &[T] {
        if self.fixed { &[] } else { self.log_variances.as_slice() }
    }
    fn parameters_mut(&mut self) -> &mut [T] {
        if self.fixed { &mut [] } else { self.log_variances.as_mut_slice() }
    }

    fn step_to_optimum(&mut self, d_parameters: &[T], entries: T, weight: T) -> bool {
        let n = entries / T::of_usize(self.given.len());
        self.step_with_counts(d_parameters, |_| n, weight)
    }

    fn step_to_optimum_of_observed(&mut self, d_parameters: &[T], counts: &[T], weight: T) -> bool {
        // A variable without an observed entry has the derivative 0, and keeps its variance.
        let count = |j: usize| if counts[j] > T::zero() { counts[j] } else { T::one() };
        counts.len() == self.given.len() && self.step_with_counts(d_parameters, count, weight)
    }

    fn settle(&mut self) {
        if !self.fixed {
            self.given = self.log_variances.map(|v| v.exp());
        }
    }

    fn rests_on_floor(&self) -> bool {
        (0..self.given.len()).any(|j| self.floors[j] > T::zero() && self.is_at_floor(j))
    }
}

impl<T: Real> ConditionalMean<T> for DiagonalGaussian<T> {
    fn mean(&self, output: DMatrixView<'_, T>) -> DMatrix<T> {
        output.into_owned()
    }

    fn is_identity(&self) -> bool {
        true
    }

    fn gaussian_variances(&self, data_dim: usize) -> Option<DVector<T>> {
        Some(super::GaussianNoise::variances(self, data_dim))
    }

    fn has_variance_of_each_variable(&self) -> bool {
        true
    }

    fn data_dim(&self, output_dim: usize) -> Result<usize> {
        crate::data::expect("noise variances", output_dim, self.noise_variances().len())?;
        Ok(output_dim)
    }
}

impl<T: Real> Likelihood<T> for DiagonalGaussian<T> {
    fn log_density(&self, x: DMatrixView<'_, T>, output: DMatrixView<'_, T>) -> DVector<T> {
        let variances = self.noise_variances();
        // d divisions in place of d·n.
        let precisions = variances.map(|v| T::one() / v);
        let half = T::of(0.5);
        let constant =
            -half * variances.iter().fold(T::zero(), |sum, &v| sum + log_two_pi_times(v));
        let constants = OnceCell::new();
        let of_column = |(x, y): (nalgebra::DVectorView<'_, T>, nalgebra::DVectorView<'_, T>)| {
            let errors = x.iter().zip(y.iter()).zip(precisions.iter());
            let density = constant
                - half * errors.fold(T::zero(), |sum, ((&x, &y), &p)| sum + (x - y) * (x - y) * p);
            // A missing entry makes the sum NaN; complete data are not searched for one.
            if is_nan(density) {
                let constants =
                    constants.get_or_init(|| observed::constants(variances.iter().copied()));
                return observed::log_density(x.as_slice(), y.as_slice(), constants);
            }
            density
        };
        DVector::from_iterator(x.ncols(), x.column_iter().zip(output.column_iter()).map(of_column))
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
        let variances = self.noise_variances();
        let (scale, each) = weights.common();
        let precisions = variances.map(|v| scale / v);
        let (half, count) = (T::of(0.5), weights.sum(n));
        // Σ_i w_i e_ij²/ψ_j for each variable; their total is the quadratic term of the
        // log-density.
        let mut squares = DVector::zeros(d);
        for (i, mut d_output) in d_output.column_iter_mut().enumerate() {
            let (x, y) = (x.column(i), output.column(i));
            let weight = each.map_or(T::one(), |each| each[i]);
            for j in 0..d {
                let error = x[j] - y[j];
                d_output[j] = weight * precisions[j] * error;
                squares[j] += weight * precisions[j] * error * error;
            }
        }
        let total: T = squares.sum();
        if is_nan(total) && any_missing(&x) {
            let constants = observed::constants(variances.iter().copied());
            let (value, by_variable) = observed::gradient(x, output, weights, d_output, &constants);
            for (j, (to, d)) in d_parameters.iter_mut().zip(by_variable).enumerate() {
                let held = !self.analytic && self.is_at_floor(j) && d < 0.0;
                *to = if held { T::zero() } else { T::of(d) };
            }
            return value;
        }
        for (j, d_log_variance) in d_parameters.iter_mut().enumerate() {
            // ∂/∂ln ψ_j. At the floor a derivative towards smaller ψ_j is 0 (projected gradient);
            // one towards larger ψ_j remains, so that a variance can leave its floor. For analytic
            // variances the derivatives of batches are added up, and must all be there.
            let derivative = half * (squares[j] - count);
            let held = !self.analytic && self.is_at_floor(j) && derivative < T::zero();
            *d_log_variance = if held { T::zero() } else { derivative };
        }
        let constant = variances.iter().fold(T::zero(), |sum, &v| sum + log_two_pi_times(v));
        -half * (count * constant + total)
    }

    fn sample(&self, output: DMatrixView<'_, T>, rng: &mut dyn Rng) -> DMatrix<T> {
        let deviations = self.noise_variances().map(|v| v.sqrt());
        let mut drawn = output.into_owned();
        for mut column in drawn.column_iter_mut() {
            column.zip_apply(&deviations, |x: &mut T, deviation| {
                *x += deviation * T::standard_normal(rng)
            });
        }
        drawn
    }
}

impl<T: Real> GaussianNoise<T> for DiagonalGaussian<T> {
    fn variances(&self, _data_dim: usize) -> DVector<T> {
        self.noise_variances()
    }

    // D = diag(√ψ_j) takes up all of the noise: D⁻¹x has unit noise variance.
    fn common_variance(&self) -> T {
        T::one()
    }

    fn scale_log_determinant(&self) -> T {
        (0..self.given.len()).fold(T::zero(), |sum, j| sum + self.variance(j).ln())
    }

    fn divide_by_scales(&self, rows: &mut DMatrix<T>) {
        let scales = self.noise_variances().map(|v| T::one() / v.sqrt());
        for mut column in rows.column_iter_mut() {
            column.component_mul_assign(&scales);
        }
    }

    fn is_fixed(&self) -> bool {
        self.fixed
    }

    fn is_shared(&self) -> bool {
        false
    }

    fn set_variances(&mut self, squares: &DVector<T>, counts: &DVector<T>) {
        if !self.fixed {
            // Each ψ_j has its optimum at the mean expected square, and the likelihood has a single
            // maximum in ψ_j: with a floor, the optimum is the larger of the two.
            self.set(squares.component_div(counts));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nalgebra::dvector;

    #[test]
    fn refuses_what_is_no_variance() {
        assert!(DiagonalGaussian::<f64>::new(dvector![]).is_err());
        assert!(DiagonalGaussian::new(dvector![1.0, 0.0]).is_err());
        assert!(DiagonalGaussian::new(dvector![1.0, f64::NAN]).is_err());
        let noise = DiagonalGaussian::new(dvector![1.0, 2.0]).unwrap();
        assert!(noise.clone().with_floors(dvector![0.1]).is_err());
        assert!(noise.with_floors(dvector![0.1, -1.0]).is_err());
    }

    #[test]
    fn tells_which_variances_are_at_their_floor() {
        let mut noise = DiagonalGaussian::new(dvector![1.0, 2.0, 0.1])
            .unwrap()
            .with_floors(dvector![1e-3, 1e-3, 0.0])
            .unwrap();
        noise.set_variances(&dvector![0.0, 1.0, 0.75], &dvector![1.0, 2.0, 3.0]);
        assert_eq!(noise.noise_variances(), dvector![1e-3, 0.5, 0.25]);
        assert_eq!(noise.at_floor(), [0]);
        let single = noise.narrow::<f32>().unwrap();
        assert_eq!(single.at_floor(), [0]);
        let small = DiagonalGaussian::new(dvector![1.0, 1e-40]).unwrap();
        assert!(
            matches!(small.narrow::<f32>(), Err(Error::Underflow { deviation, .. }) if (deviation / 1e-20 - 1.0).abs() < 1e-9)
        );
        let mut fixed = DiagonalGaussian::fixed(dvector![1.0]).unwrap();
        fixed.set_variances(&dvector![3.0], &dvector![1.0]);
        assert_eq!(fixed.noise_variances()[0], 1.0);
        assert!(fixed.parameters().is_empty());
    }
}
