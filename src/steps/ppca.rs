//! Steps 2a and 2b: probabilistic PCA, by maximum likelihood in closed form, by EM, and by
//! parameter-expanded EM.

use super::Step;
use crate::data::{Centering, ScatterFactor};
use crate::fit::closed_form::{Principal, orient};
use crate::fit::em::aligned::{gain_within_reach, random_loadings};
use crate::fit::{ExpectationMaximization, Fitted, PxEm, StopReason};
use crate::inference::Exact;
use crate::likelihood::{IsotropicGaussian, NoiseVariance};
use crate::linalg::{Solver, matrix_product, product_tr_left};
use crate::map::Linear;
use crate::model::LinearGaussian;
use crate::objective::Elbo;
use crate::{IntoObservations, Observations, Real, Result};
use nalgebra::{DMatrix, DVector};
use rand::Rng;

/// Probabilistic PCA: z ~ N(0, I), x|z ~ N(Wz + μ, σ²I), with the exact posterior.
///
/// ```
/// use elbo::Ppca;
/// use nalgebra::DMatrix;
/// // Two variables that move fork_join_scope, and a third that does not; an observation a column.
/// let x = DMatrix::from_fn(3, 50, |j, i| {
///     let t = i as f64 * 0.7;
///     [t.sin(), 2.0 * t.sin() + 0.1 * t.cos(), 0.2 * (3.0 * t).cos()][j]
/// });
/// let model = Ppca::fit(1, &x)?;
/// assert_eq!(model.transform(&x)?.shape(), (1, 50));
/// assert!(model.explained_variance_ratio()?[0] > 0.9);
/// let total = model.log_likelihood(&x)?.sum();
/// let bound = model.elbo(&x)?.values().sum();
/// assert!((total - bound).abs() < 1e-9 * total.abs()); // with the exact posterior the bound is tight
/// # Ok::<(), elbo::Error>(())
/// ```
///
/// [Tipping & Bishop 1999](https://doi.org/10.1111/1467-9868.00196).
pub type Ppca<T = f64> = Step<T, Linear<T>, IsotropicGaussian<T>, Exact>;

impl<T: Real> Ppca<T> {
    /// The maximum of the likelihood with k latent dimensions, in closed form, with an estimated
    /// mean and noise variance.
    ///
    /// ```math
    /// W = U_k(\Lambda_k - \sigma^2 I)^{1/2},\qquad \sigma^2 = \frac1{d-k}\sum_{j>k}\lambda_j
    /// ```
    ///
    /// with λ_j the eigenvalues of S (divisor n); equations (7) and (8) of Tipping & Bishop 1999,
    /// with R = I.
    ///
    /// # Errors
    /// Those of [`Observations::new`]; [`Error::LatentDim`](crate::Error::LatentDim) unless 1 ≤ k ≤
    /// min(n, d); [`Error::Unbounded`](crate::Error::Unbounded) when k reaches the rank;
    /// [`Error::ZeroVariance`](crate::Error::Constant);
    /// [`Error::TooFewObservations`](crate::Error::TooFewObservations) for n = 1;
    /// [`Error::Underflow`](crate::Error::TooSmall) where the squares of the deviations fall below
    /// the smallest number.
    pub fn fit<'a>(latent_dim: usize, x: impl IntoObservations<'a, T>) -> Result<Self> {
        Self::builder(latent_dim).fit(x)
    }

    /// The same with more to say: how the mean and the noise variance are chosen, and which fitter.
    pub fn builder(latent_dim: usize) -> PpcaBuilder<T> {
        PpcaBuilder {
            latent_dim,
            mean: Centering::Mean,
            noise: NoiseVariance::Learned,
            floor: None,
            restarts: 0,
            solver: Solver::Auto,
        }
    }

    /// A model from given loadings W (d×k), mean μ (d) and noise variance σ².
    ///
    /// # Errors
    /// [`Error::DimensionMismatch`](crate::Error::Dimension),
    /// [`Error::NotFinite`](crate::Error::NotFinite),
    /// [`Error::InvalidParameter`](crate::Error::Setting).
    pub fn from_parameters(
        loadings: DMatrix<T>,
        mean: DVector<T>,
        noise_variance: T,
    ) -> Result<Self> {
        Ok(Self::from_parts(
            LinearGaussian::from_parameters(loadings, mean, noise_variance)?,
            Exact,
        ))
    }
}

/// The verbs of every step with a linear decoder and isotropic Gaussian noise.
impl<T: Real, I> Step<T, Linear<T>, IsotropicGaussian<T>, I> {
    /// σ².
    pub fn noise_variance(&self) -> T {
        self.model.noise_variance()
    }

    /// The principal directions: the left singular vectors of W (d×k, orthonormal, in the order of
    /// falling variance), each with its entry of largest size positive.
    ///
    /// # Errors
    /// Those of the singular value decomposition.
    pub fn components(&self) -> Result<DMatrix<T>> {
        let mut directions = self.model.factor()?.directions;
        orient(&mut directions);
        Ok(directions)
    }

    /// The variance of x along each principal direction under the model, s_j² + σ² (k): at the
    /// maximum of the likelihood the eigenvalues λ_j of S, divisor n.
    ///
    /// # Errors
    /// Those of the singular value decomposition.
    pub fn explained_variance(&self) -> Result<DVector<T>> {
        Ok(self.model.wide_factor()?.variances().map(T::of))
    }

    /// [`Self::explained_variance`] over the model's total variance tr(WWᵗ + σ²I), which is tr S at
    /// the maximum of the likelihood.
    ///
    /// # Errors
    /// Those of the singular value decomposition.
    pub fn explained_variance_ratio(&self) -> Result<DVector<T>> {
        let variances = self.model.wide_factor()?.variances();
        // In units of the largest: their sum may be beyond the largest number.
        let unit = variances.max();
        let outside =
            (self.data_dim() - self.latent_dim()) as f64 * (self.noise_variance().as_f64() / unit);
        let shares = variances / unit;
        let total = shares.sum() + outside;
        Ok(shares.map(|share| T::of(share / total)))
    }

    /// The orthogonal projection of x on the span of W, about the mean: what an autoencoder
    /// reconstructs (d×n).
    ///
    /// The posterior mean's reconstruction, [`Self::reconstruct`], is drawn towards μ by the prior.
    ///
    /// # Errors
    /// Those of [`Observations::new`], and [`Error::DimensionMismatch`](crate::Error::Dimension).
    pub fn project<'a>(&self, x: impl IntoObservations<'a, T>) -> Result<DMatrix<T>> {
        let x = x.into_observations()?;
        let deviations = self.model.deviations(x)?;
        let directions = self.model.factor()?.directions;
        let mut projected = matrix_product(
            directions.as_view(),
            product_tr_left(directions.as_view(), deviations.as_view()).as_view(),
        );
        let mean = self.mean();
        projected.column_iter_mut().for_each(|mut column| column += &mean);
        Ok(projected)
    }
}

/// What can be said of a fit of [`Ppca`] before it is made.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PpcaBuilder<T: Real> {
    pub(super) latent_dim: usize,
    pub(super) mean: Centering,
    pub(super) noise: NoiseVariance<T>,
    pub(super) floor: Option<T>,
    pub(super) restarts: usize,
    pub(super) solver: Solver,
}

/// A fitter of probabilistic PCA that iterates: [`ExpectationMaximization`] (plain EM) or [`PxEm`].
pub trait EmFitter<T: Real> {
    /// Raises the likelihood from a random start.
    ///
    /// # Errors
    /// Those of the front door, [`PpcaBuilder::fit_em_by`].
    fn fit_ppca(
        &self,
        moment: &ScatterFactor,
        setting: &PpcaBuilder<T>,
        rng: &mut dyn Rng,
    ) -> Result<Fitted<LinearGaussian<T>>>;
}

impl<T: Real> EmFitter<T> for PxEm {
    fn fit_ppca(
        &self,
        moment: &ScatterFactor,
        setting: &PpcaBuilder<T>,
        rng: &mut dyn Rng,
    ) -> Result<Fitted<LinearGaussian<T>>> {
        let Fitted { model, trace, stop } =
            self.fit(moment, setting.latent_dim, setting.start_noise(moment)?, rng)?;
        Ok(Fitted {
            model: setting.model(&moment.lift(model.loadings()), moment, &model.likelihood)?,
            trace,
            stop,
        })
    }
}

impl<T: Real> EmFitter<T> for ExpectationMaximization {
    /// EM over r = min(n, d) pseudo-observations with the same second moment, about a mean that
    /// stays at x̄, where its optimum is.
    fn fit_ppca(
        &self,
        moment: &ScatterFactor,
        setting: &PpcaBuilder<T>,
        rng: &mut dyn Rng,
    ) -> Result<Fitted<LinearGaussian<T>>> {
        let likelihood = setting.start_noise(moment)?;
        let loadings = moment.lift(random_loadings(moment, setting.latent_dim, rng));
        let decoder =
            Linear::about(&loadings, &DVector::zeros(moment.data_dim()), Centering::None)?;
        let columns = moment.pseudo_observations();
        let x = Observations::new(columns.as_view())?.of_population(moment.count());
        let start = LinearGaussian::new(decoder, likelihood);
        let remaining =
            |model: &LinearGaussian<f64>, value: f64| gain_within_reach(moment, model, value);
        let Fitted { model: (model, _), trace, stop } =
            self.fit_confirmed(&Elbo::closed_form(), start, Exact, x, rng, remaining)?;
        Ok(Fitted {
            model: setting.model(&model.loadings().into_owned(), moment, &model.likelihood)?,
            trace,
            stop,
        })
    }
}

impl<T: Real> PpcaBuilder<T> {
    /// The mean: estimated (default), or fixed at 0 as in the lecture.
    pub fn centering(self, centering: Centering) -> Self {
        Self { mean: centering, ..self }
    }

    /// The noise variance: learned (default), or fixed.
    pub fn noise_variance(self, noise: NoiseVariance<T>) -> Self {
        Self { noise, ..self }
    }

    /// The way to the principal directions in closed form; [by default](Solver::Auto) by the shape
    /// of the data.
    pub fn solver(self, solver: Solver) -> Self {
        Self { solver, ..self }
    }

    /// A floor below which a learned σ² is not taken: with it, k may reach the rank. Whether the
    /// floor is what holds σ² is told by [`IsotropicGaussian::is_at_floor`].
    pub fn noise_floor(self, floor: T) -> Self {
        Self { floor: Some(floor), ..self }
    }

    pub(super) fn check_settings(&self) -> Result<()> {
        if let Some(variance) = self.noise.fixed() {
            crate::likelihood::check_variance("the noise variance", variance)?;
        }
        if let Some(floor) = self.floor {
            crate::likelihood::check_variance("the floor of the noise variance", floor)?;
        }
        Ok(())
    }

    /// W about the mean, in the caller's precision.
    fn model(
        &self,
        loadings: &DMatrix<f64>,
        moment: &ScatterFactor,
        likelihood: &IsotropicGaussian<f64>,
    ) -> Result<LinearGaussian<T>> {
        Ok(LinearGaussian::new(
            Linear::about(loadings, moment.mean(), self.mean)?,
            likelihood.narrow()?,
        ))
    }

    /// The same settings in double precision.
    pub(crate) fn wide(&self) -> PpcaBuilder<f64> {
        let noise = match self.noise {
            NoiseVariance::Fixed(variance) => NoiseVariance::Fixed(variance.as_f64()),
            NoiseVariance::Learned => NoiseVariance::Learned,
            NoiseVariance::Analytic => NoiseVariance::Analytic,
        };
        let Self { latent_dim, mean, restarts, solver, .. } = *self;
        PpcaBuilder {
            latent_dim,
            mean,
            noise,
            floor: self.floor.map(|v| v.as_f64()),
            restarts,
            solver,
        }
    }

    /// A model found in double precision, in the caller's.
    pub(crate) fn narrow(&self, model: &LinearGaussian<f64>) -> Result<LinearGaussian<T>> {
        let decoder =
            Linear::about(&model.loadings().into_owned(), &model.mean().into_owned(), self.mean)?;
        Ok(LinearGaussian::new(decoder, model.likelihood.narrow()?))
    }

    /// As few observations as have a closed form, and leave something for the noise.
    pub(crate) fn least_observations(&self) -> usize {
        self.latent_dim + 1 + usize::from(self.mean == Centering::Mean)
    }

    /// The noise as given, or at the smallest variance of a variable: where an iterative fit
    /// starts.
    fn start_noise(&self, moment: &ScatterFactor) -> Result<IsotropicGaussian<f64>> {
        match (self.noise.fixed(), self.floor) {
            (Some(variance), _) => IsotropicGaussian::fixed(variance.as_f64()),
            (None, Some(floor)) => {
                let floor = floor.as_f64();
                IsotropicGaussian::new(moment.smallest_variance().max(floor))?.with_floor(floor)
            }
            (None, None) => {
                moment.check_noise_remains(self.latent_dim)?;
                IsotropicGaussian::new(moment.smallest_variance())
            }
        }
    }

    /// The maximum of the likelihood in closed form.
    ///
    /// # Errors
    /// As [`Ppca::fit`], and [`Error::InvalidParameter`](crate::Error::Setting) for a fixed
    /// variance or a floor that is not positive.
    pub fn fit<'a>(&self, x: impl IntoObservations<'a, T>) -> Result<Ppca<T>> {
        Ok(self.solve(x)?.model)
    }

    /// What the directions of largest variance say of θ.
    pub(super) fn assemble_principal(&self, principal: Principal) -> Result<Ppca<T>> {
        let noise = (self.noise.fixed().map(|v| v.as_f64()), self.floor.map(|v| v.as_f64()));
        let (aligned, mean) = principal.maximum_likelihood(noise.0, noise.1)?;
        let decoder = Linear::about(&aligned.loadings(), &mean, self.mean)?;
        Ok(Ppca::from_parts(LinearGaussian::new(decoder, aligned.likelihood.narrow()?), Exact))
    }

    /// The same maximum by [parameter-expanded EM](ParameterExpanded), from a random start.
    ///
    /// # Errors
    /// As [`Self::fit`].
    pub fn fit_em<'a, R: Rng + ?Sized>(
        &self,
        x: impl IntoObservations<'a, T>,
        mut rng: &mut R,
    ) -> Result<Fitted<Ppca<T>>> {
        self.fit_em_by(&PxEm::default(), x, &mut rng)
    }

    /// The same maximum by a chosen fitter: [`PxEm`], or [`ExpectationMaximization`] for plain EM.
    ///
    /// # Errors
    /// As [`Self::fit`].
    pub fn fit_em_by<'a, R: Rng + ?Sized>(
        &self,
        fitter: &impl EmFitter<T>,
        x: impl IntoObservations<'a, T>,
        mut rng: &mut R,
    ) -> Result<Fitted<Ppca<T>>> {
        self.check_settings()?;
        let moment = ScatterFactor::of(x.into_observations()?, self.mean)?;
        moment.check_latent_dim(self.latent_dim)?;
        let fitted = fitter.fit_ppca(&moment, self, &mut rng)?;
        let stop =
            if fitted.model.likelihood.is_at_floor() { StopReason::Floor } else { fitted.stop };
        Ok(Fitted { stop, ..fitted }.map(|model| Ppca::from_parts(model, Exact)))
    }
}
