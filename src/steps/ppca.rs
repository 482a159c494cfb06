//! Steps 2a and 2b: probabilistic PCA, by maximum likelihood in closed form, by EM and by
//! parameter-expanded EM.

use super::fit_methods::{deterministic_fit, fit_methods};
use super::{Model, closed_form::closed_form_fits};
use crate::data::{Centering, Dense, IncompleteObservations, Moments, ScatterFactor, Weighted};
use crate::fit::closed_form::Principal;
use crate::fit::em::aligned::{AlignedModel, gain_within_reach, random_loadings};
use crate::fit::{
    ExpectationMaximization, FitData, Fitted, MissingDataEm, MissingDataRequest, Observed,
    Observer, PxEm, Solver, StopReason,
};
use crate::inference::Exact;
use crate::likelihood::{IsotropicGaussian, NoiseVariance, check_share};
use crate::linalg::{fix_directions, thin_svd};
use crate::map::Linear;
use crate::model::LinearGaussian;
use crate::objective::Elbo;
use crate::{Error, Observations, Real, Result};
use nalgebra::{DMatrix, DVector};
use rand::Rng;

/// Probabilistic PCA: z ~ N(0, I), x|z ~ N(Wz + μ, σ²I), with the exact posterior.
///
/// ```math
/// x \sim N(\mu,\; WW^\top + \sigma^2 I)
/// ```
///
/// Fitted in closed form unless another [fitter](PpcaBuilder::fitter) is set. It takes complete,
/// weighted, incomplete and sparse data, [moments](crate::data::Moments) and
/// [sources](crate::data::Source).
///
/// ```
/// use elbo::Ppca;
/// // Two variables that move together, and a third that does not; one observation per column.
/// let x = nalgebra::dmatrix![
///     1.0_f64, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0;
///     2.1, 3.9, 6.2, 7.8, 10.1, 11.9, 14.2, 15.8;
///     0.3, 0.1, 0.2, 0.3, 0.1, 0.2, 0.3, 0.1];
/// let model = Ppca::fit(1, &x)?.model;
/// assert_eq!(model.transform(&x)?.shape(), (1, 8));
/// assert!(model.explained_variance_ratio()?[0] > 0.99);
/// let total = model.log_likelihood(&x)?.sum();
/// let elbo = model.elbo(&x)?.values().sum();
/// // With the exact posterior the ELBO is tight.
/// assert!((total - elbo).abs() < 1e-9 * total.abs());
/// # Ok::<(), elbo::Error>(())
/// ```
///
/// [Tipping & Bishop 1999](https://doi.org/10.1111/1467-9868.00196).
pub type Ppca<T = f64> = Model<T, Linear<T>, IsotropicGaussian<T>, Exact>;

impl<T: Real> Ppca<T> {
    /// Returns a builder with k latent dimensions.
    pub fn builder(latent_dim: usize) -> PpcaBuilder<T> {
        PpcaBuilder {
            latent_dim,
            mean: Centering::Mean,
            noise: NoiseVariance::Learned,
            floor: None,
            restarts: 0,
            fitter: PpcaFitter::ClosedForm(Solver::Auto),
            missing: MissingDataEm::default(),
        }
    }

    /// Builds a model from loadings W (d×k), mean μ (d) and noise variance σ².
    ///
    /// # Errors
    /// [`Error::DimensionMismatch`](crate::Error::DimensionMismatch),
    /// [`Error::NotFinite`](crate::Error::NotFinite),
    /// [`Error::InvalidParameter`](crate::Error::InvalidParameter).
    pub fn from_parameters(
        loadings: DMatrix<T>,
        mean: DVector<T>,
        noise_variance: T,
    ) -> Result<Self> {
        let generative = LinearGaussian::from_parameters(loadings, mean, noise_variance)?;
        Ok(Self::from_fitting_parts(generative, Exact))
    }
}

deterministic_fit! {
    /// Fits probabilistic PCA with k latent dimensions by maximum likelihood in closed form, with
    /// estimated mean and noise variance.
    ///
    /// ```math
    /// W = U_k(\Lambda_k - \sigma^2 I)^{1/2},\qquad \sigma^2 = \frac1{d-k}\sum_{j>k}\lambda_j
    /// ```
    ///
    /// with λ_j the eigenvalues of the covariance (divisor n); equations (7) and (8) of Tipping &
    /// Bishop 1999, with R = I.
    Ppca, PpcaBuilder
}

/// Algorithm of a fit of [`Ppca`] to complete data.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum PpcaFitter {
    /// Maximum likelihood in closed form, with the principal components from a [`Solver`].
    ClosedForm(Solver),
    /// Plain EM from random loadings.
    ExpectationMaximization(ExpectationMaximization),
    /// Parameter-expanded EM from random loadings.
    PxEm(PxEm),
}

impl From<Solver> for PpcaFitter {
    fn from(solver: Solver) -> Self {
        Self::ClosedForm(solver)
    }
}

impl From<ExpectationMaximization> for PpcaFitter {
    fn from(fitter: ExpectationMaximization) -> Self {
        Self::ExpectationMaximization(fitter)
    }
}

impl From<PxEm> for PpcaFitter {
    fn from(fitter: PxEm) -> Self {
        Self::PxEm(fitter)
    }
}

/// Builder of a fit of [`Ppca`].
///
/// ```
/// use elbo::{Ppca, data::Centering, fit::PxEm};
/// use rand::{SeedableRng, rngs::StdRng};
/// let x = nalgebra::dmatrix![
///     1.0, 2.0, 3.0, 4.0, 5.0, 6.0;
///     2.1, 3.9, 6.2, 7.8, 10.1, 11.9;
///     0.3, 0.1, 0.2, 0.3, 0.1, 0.2];
/// let builder = Ppca::builder(1).centering(Centering::Mean).fitter(PxEm::default());
/// let fit = builder.fit(&x, &mut StdRng::seed_from_u64(0))?;
/// let closed_form = Ppca::fit(1, &x)?;
/// assert!((fit.model.score(&x)? - closed_form.model.score(&x)?).abs() < 1e-6);
/// # Ok::<(), elbo::Error>(())
/// ```
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PpcaBuilder<T: Real> {
    pub(super) latent_dim: usize,
    pub(super) mean: Centering,
    pub(super) noise: NoiseVariance<T>,
    floor: Option<f64>,
    restarts: usize,
    fitter: PpcaFitter,
    missing: MissingDataEm,
}

fit_methods!([T: Real] T, PpcaBuilder<T> => Ppca<T>);
closed_form_fits!(PpcaBuilder, Ppca);

impl<T: Real> PpcaBuilder<T> {
    /// Sets the mean: estimated (default), or fixed at 0 as in the lecture.
    pub fn centering(self, centering: Centering) -> Self {
        Self { mean: centering, ..self }
    }

    /// Sets the noise variance: learned (default), or fixed.
    pub fn noise_variance(self, noise: NoiseVariance<T>) -> Self {
        Self { noise, ..self }
    }

    /// Sets the algorithm for complete data: a [`Solver`] of the closed form (default
    /// [`Solver::Auto`]), [`ExpectationMaximization`] or [`PxEm`].
    pub fn fitter(self, fitter: impl Into<PpcaFitter>) -> Self {
        Self { fitter: fitter.into(), ..self }
    }

    /// Sets the algorithm for incomplete data.
    pub fn missing_data_fitter(self, fitter: MissingDataEm) -> Self {
        Self { missing: fitter, ..self }
    }

    /// Sets a lower bound of a learned σ², as a share of the mean variance of the variables; none
    /// by default.
    ///
    /// With a lower bound, k may reach the rank of the data.
    /// [`IsotropicGaussian::is_at_floor`] and [`StopReason::Floor`] report an active bound.
    pub fn noise_floor(self, share: f64) -> Self {
        Self { floor: Some(share), ..self }
    }

    /// Sets the number of random restarts after the first initialisation, for incomplete data; 0 by
    /// default.
    ///
    /// The first initialisation uses pairwise correlations, the others random loadings; the best
    /// fit is returned, and [`Trace::starts`](crate::fit::Trace::starts) has the objective of each.
    /// The likelihood of few entries, or of variables over many orders of magnitude, may have
    /// several local maxima, which the objectives of the restarts then reveal.
    pub fn restarts(self, restarts: usize) -> Self {
        Self { restarts, ..self }
    }

    /// Validates a fixed noise variance, or the share of its lower bound.
    pub(super) fn check_settings(&self) -> Result<()> {
        if let Some(variance) = self.noise.fixed() {
            crate::likelihood::check_variance("the noise variance", variance)?;
        }
        self.floor.map_or(Ok(()), |share| check_share("the floor of the noise variance", share))
    }

    /// The lower bound of σ² for variables of this mean variance, if one is set.
    fn floor(&self, mean_variance: f64) -> Option<f64> {
        // Positive even if the product underflows: an active bound must leave a density.
        self.floor.map(|share| (share * mean_variance).max(f64::MIN_POSITIVE))
    }

    /// The solver of the closed form; `None` for an iterative fitter.
    fn solver(&self) -> Option<Solver> {
        match self.fitter {
            PpcaFitter::ClosedForm(solver) => Some(solver),
            _ => None,
        }
    }

    /// Fits the model to the moments of complete data.
    fn fit_moments(
        &self,
        moments: &Moments,
        rng: &mut dyn Rng,
        observer: &mut dyn Observer,
    ) -> Result<Fitted<Ppca<T>>> {
        self.check_settings()?;
        let moment = moments.scatter_factor(self.mean)?.for_models_in::<T>();
        match self.solver() {
            Some(solver) => {
                self.solved(Principal::of_root(&moment, moments.weight(), self.latent_dim, solver)?)
            }
            None => self.fit_by_em(&moment, rng, observer),
        }
    }

    /// The model with loadings W about the mean, in the precision of the data.
    fn model(
        &self,
        loadings: &DMatrix<f64>,
        moment: &ScatterFactor,
        likelihood: &IsotropicGaussian<f64>,
    ) -> Result<LinearGaussian<T>> {
        let (directions, singular_values) = principal_loadings(loadings)?;
        let noise_variance = likelihood.noise_variance();
        let variances = singular_values.map(|s| s * s + noise_variance);
        // As in the closed form: not below the square of the rounding of the mean.
        let least = moment.rounding().noise(&directions, &variances);
        let likelihood = match self.floor(moment.total_variance() / moment.data_dim() as f64) {
            Some(floor) if self.noise.fixed().is_none() && least > noise_variance => {
                &IsotropicGaussian::new(least)?.with_floor(floor)?
            }
            _ => likelihood,
        };
        let aligned = AlignedModel { directions, singular_values, likelihood: *likelihood };
        let decoder = Linear::about(&aligned.loadings(), moment.mean(), self.mean)?;
        Ok(LinearGaussian::new(decoder, likelihood.narrow()?))
    }

    /// The settings in double precision.
    pub(crate) fn wide(&self) -> PpcaBuilder<f64> {
        let noise = match self.noise {
            NoiseVariance::Fixed(variance) => NoiseVariance::Fixed(variance.as_f64()),
            NoiseVariance::Learned => NoiseVariance::Learned,
            NoiseVariance::Analytic => NoiseVariance::Analytic,
        };
        let Self { latent_dim, mean, floor, restarts, fitter, missing, .. } = *self;
        PpcaBuilder { latent_dim, mean, noise, floor, restarts, fitter, missing }
    }

    /// Converts a model from double precision to the precision of the data.
    pub(crate) fn narrow(&self, model: &LinearGaussian<f64>) -> Result<LinearGaussian<T>> {
        let (loadings, mean) = (model.loadings().into_owned(), model.mean().into_owned());
        let decoder = Linear::about(&loadings, &mean, self.mean)?;
        Ok(LinearGaussian::new(decoder, model.likelihood.narrow()?))
    }

    /// The smallest number of observations whose closed-form fit has a positive noise variance.
    pub(crate) fn least_observations(&self) -> usize {
        // n observations about their mean have rank n − 1 at most; k of it go to the loadings.
        self.latent_dim + 1 + usize::from(self.mean == Centering::Mean)
    }

    /// The initial noise of an iterative fit: the fixed variance, or the smallest variance of a
    /// variable.
    fn start_noise(&self, moment: &ScatterFactor) -> Result<IsotropicGaussian<f64>> {
        let mean_variance = moment.total_variance() / moment.data_dim() as f64;
        match (self.noise.fixed(), self.floor(mean_variance)) {
            (Some(variance), _) => IsotropicGaussian::fixed(variance.as_f64()),
            (None, Some(floor)) => {
                IsotropicGaussian::new(moment.smallest_variance().max(floor))?.with_floor(floor)
            }
            // With k at the rank of the data σ² would go to 0, and the likelihood to infinity.
            (None, None) => {
                moment.check_noise_remains(self.latent_dim)?;
                IsotropicGaussian::new(moment.smallest_variance())
            }
        }
    }

    /// The model at the maximum of the likelihood, from the principal components.
    pub(super) fn assemble_principal(&self, principal: Principal) -> Result<Ppca<T>> {
        let mean_variance = principal.total_variance() / principal.mean.len() as f64;
        let fixed = self.noise.fixed().map(|v| v.as_f64());
        let (aligned, mean) =
            principal.maximum_likelihood::<T>(fixed, self.floor(mean_variance))?;
        let decoder = Linear::about(&aligned.loadings(), &mean, self.mean)?;
        let generative = LinearGaussian::new(decoder, aligned.likelihood.narrow()?);
        Ok(Ppca::from_fitting_parts(generative, Exact))
    }

    /// Fits the model iteratively from random loadings, by the scatter factor of the data.
    fn fit_by_em(
        &self,
        moment: &ScatterFactor,
        rng: &mut dyn Rng,
        observer: &mut dyn Observer,
    ) -> Result<Fitted<Ppca<T>>> {
        moment.check_latent_dim(self.latent_dim)?;
        let start = self.start_noise(moment)?;
        let fitted = match self.fitter {
            PpcaFitter::ExpectationMaximization(fitter) => {
                self.fit_by_plain_em(fitter, moment, start, rng, observer)?
            }
            // PX-EM runs in the coordinates of the scatter factor, of dimension r ≤ min(n, d).
            PpcaFitter::PxEm(fitter) => {
                fitter.fit(moment, self.latent_dim, start, rng, observer)?.try_map(|aligned| {
                    self.model(&moment.lift(aligned.loadings()), moment, &aligned.likelihood)
                })?
            }
            // Not reached: the callers take the closed form where `solver` returns one.
            PpcaFitter::ClosedForm(_) => {
                return Err(Error::Unsupported { what: "EM", must: "an iterative fitter" });
            }
        };
        Ok(with_floor_reported(fitted).map(|model| Ppca::from_fitting_parts(model, Exact)))
    }

    /// Plain EM over r = min(n, d) pseudo-observations that have the second moment of the data. The
    /// mean is fixed at its optimum x̄. An iteration costs O(r·d·k), whatever n is.
    fn fit_by_plain_em(
        &self,
        fitter: ExpectationMaximization,
        moment: &ScatterFactor,
        start: IsotropicGaussian<f64>,
        rng: &mut dyn Rng,
        observer: &mut dyn Observer,
    ) -> Result<Fitted<LinearGaussian<T>>> {
        let loadings = moment.lift(random_loadings(moment, self.latent_dim, rng));
        // The pseudo-observations are centred already: a mean of 0, fixed.
        let centre = DVector::zeros(moment.data_dim());
        let decoder = Linear::about(&loadings, &centre, Centering::None)?;
        let columns = moment.pseudo_observations();
        let x = Observations::new(columns.as_view())?.of_population(moment.count());
        let start = LinearGaussian::new(decoder, start);
        // Where EM is very slow, any extrapolation of the trace reports convergence. The model is
        // also compared with the best one in the span of W and its gradient.
        let remaining =
            |model: &LinearGaussian<f64>, value: f64| gain_within_reach(moment, model, value);
        let objective = Elbo::closed_form();
        let fitted =
            fitter.fit_with_gain_test(&objective, start, Exact, x, rng, observer, remaining)?;
        fitted.try_map(|(model, _)| {
            self.model(&model.loadings().into_owned(), moment, &model.likelihood)
        })
    }

    /// Maximises the likelihood of the observed entries.
    fn fit_incomplete(
        &self,
        x: IncompleteObservations<'_, T>,
        weights: Option<&[T]>,
        rng: &mut dyn Rng,
        observer: &mut dyn Observer,
    ) -> Result<Fitted<Ppca<T>>> {
        self.check_settings()?;
        let data = Observed::of(x, weights, self.mean)?;
        data.check_varies()?;
        let fixed = self.noise.fixed().map(|v| v.as_f64());
        let floor = self.floor(data.variances.mean());
        let noise = match (fixed, floor) {
            (Some(variance), _) => IsotropicGaussian::fixed(variance)?,
            (None, Some(floor)) => {
                IsotropicGaussian::new(data.smallest_variance().max(floor))?.with_floor(floor)?
            }
            (None, None) => {
                data.check_noise_remains(self.latent_dim, self.mean)?;
                IsotropicGaussian::new(data.smallest_variance())?
            }
        };
        let request = MissingDataRequest {
            latent_dim: self.latent_dim,
            mean: self.mean,
            initializations: self.restarts.saturating_add(1),
            may_vanish: fixed.is_none() && floor.is_none(),
        };
        let fitted = self.missing.fit(&data, &request, &noise, rng, observer)?;
        with_floor_reported(fitted).try_map(|model| {
            let (directions, singular_values) = principal_loadings(&model.loadings().into_owned())?;
            let likelihood = model.likelihood;
            let aligned = AlignedModel { directions, singular_values, likelihood };
            let decoder =
                Linear::about(&aligned.loadings(), &model.mean().into_owned(), self.mean)?;
            let model = LinearGaussian::new(decoder, aligned.likelihood.narrow()?);
            Ok(Ppca::from_fitting_parts(model, Exact))
        })
    }
}

/// Returns the singular vectors and values of loadings that are known up to a rotation of z, of
/// which the likelihood is invariant. Fits of all algorithms then have the loadings of the closed
/// form, with its order and signs.
fn principal_loadings(loadings: &DMatrix<f64>) -> Result<(DMatrix<f64>, DVector<f64>)> {
    let svd = thin_svd(loadings.as_view())?;
    let mut directions = svd.u;
    fix_directions(&mut directions, svd.singular_values.iter().copied());
    Ok((directions, svd.singular_values))
}

/// Sets the stop reason of a fit whose σ² is at its lower bound to [`StopReason::Floor`].
fn with_floor_reported<T: Real>(fitted: Fitted<LinearGaussian<T>>) -> Fitted<LinearGaussian<T>> {
    // An interrupted fit keeps its reason: it has not converged to the bound.
    let at_floor = fitted.model.likelihood.is_at_floor() && fitted.stop != StopReason::Interrupted;
    Fitted { stop: if at_floor { StopReason::Floor } else { fitted.stop }, ..fitted }
}

impl<'a, T: Real> FitData<Dense<'a, T>> for PpcaBuilder<T> {
    type Model = Ppca<T>;

    fn fit_form(
        &self,
        x: Dense<'a, T>,
        rng: &mut dyn Rng,
        observer: &mut dyn Observer,
    ) -> Result<Fitted<Ppca<T>>> {
        self.check_settings()?;
        match self.solver() {
            Some(solver) => self.solved(Principal::of(x, self.mean, self.latent_dim, solver)?),
            None => self.fit_by_em(&ScatterFactor::of(x.validate()?, self.mean)?, rng, observer),
        }
    }
}

/// Maximises the likelihood of the observed entries, exact for values missing at random, with a
/// mean that is estimated jointly:
///
/// ```math
/// \sum_i \log N(x_{i,o_i};\, \mu_{o_i},\, W_{o_i}W_{o_i}^\top + \sigma^2 I)
/// ```
///
/// Without a lower bound of σ², data that can be fitted with σ² = 0 are rejected, because the
/// likelihood is unbounded. Fully missing observations are ignored. Memory beyond the data: up to
/// 32 times O(d·k²) and some blocks of observations; the data are not copied.
impl<'a, T: Real> FitData<IncompleteObservations<'a, T>> for PpcaBuilder<T> {
    type Model = Ppca<T>;

    fn fit_form(
        &self,
        x: IncompleteObservations<'a, T>,
        rng: &mut dyn Rng,
        observer: &mut dyn Observer,
    ) -> Result<Fitted<Ppca<T>>> {
        self.fit_incomplete(x, None, rng, observer)
    }
}

impl<'a, T: Real> FitData<Weighted<'a, IncompleteObservations<'a, T>, T>> for PpcaBuilder<T> {
    type Model = Ppca<T>;

    fn fit_form(
        &self,
        x: Weighted<'a, IncompleteObservations<'a, T>, T>,
        rng: &mut dyn Rng,
        observer: &mut dyn Observer,
    ) -> Result<Fitted<Ppca<T>>> {
        self.fit_incomplete(x.data, Some(x.weights), rng, observer)
    }
}
