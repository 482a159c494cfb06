//! Factor analysis: step 2 with a noise variance for each variable.

use super::Step;
use crate::data::{
    Centering, Moments, ScatterFactor, Source, check_latent_dim, deviations_resolved,
};
use crate::fit::profile_likelihood::StandardFactors;
use crate::fit::{ExpectationMaximization, Fitted, ProfileLikelihood, StopReason, Trace};
use crate::inference::Exact;
use crate::likelihood::DiagonalGaussian;
use crate::linalg::{
    cholesky_lower, leading_eigenpairs, matrix_product, product_tr_left, product_tr_right,
    scatter_matrix, thin_svd,
};
use crate::map::Linear;
use crate::model::{GenerativeModel, LinearGaussian};
use crate::objective::Elbo;
use crate::{Error, IntoObservations, Observations, Real, Result};
use nalgebra::{DMatrix, DVector};
use rand::Rng;
use std::marker::PhantomData;

/// Factor analysis: z ~ N(0, I), x|z ~ N(Wz + μ, diag(ψ_1, …, ψ_d)), with the exact posterior.
///
/// It is [`Ppca`](super::Ppca) with one slot swapped, the likelihood: each variable has a noise
/// variance of its own, and the fit follows the units of the variables (rescale one, and its
/// loadings and √ψ rescale with it), where probabilistic PCA follows rotations.
///
/// ```
/// use elbo::FactorAnalysis;
/// use nalgebra::DMatrix;
/// use rand::{SeedableRng, rngs::StdRng};
/// // One factor behind four variables of very different units and noise.
/// let truth = FactorAnalysis::<f64>::from_parameters(
///     DMatrix::from_column_slice(4, 1, &[1.0, 0.02, -30.0, 2.0]),
///     nalgebra::dvector![0.0, 1.0, 50.0, -3.0],
///     nalgebra::dvector![0.5, 1e-4, 400.0, 0.2],
/// )?;
/// let (_, x) = truth.sample(2000, &mut StdRng::seed_from_u64(1));
/// let fit = FactorAnalysis::fit(1, &x)?;
/// assert!(fit.log_likelihood(&x)?.sum() > truth.log_likelihood(&x)?.sum());
/// assert!((fit.noise_variances()[2] - 400.0f64).abs() < 60.0);
/// assert!(fit.heywood_variables().is_empty());
/// # Ok::<(), elbo::Error>(())
/// ```
///
/// [Rubin & Thayer 1982](https://doi.org/10.1007/BF02293851) for EM; [`ProfileLikelihood`] says how
/// it is fitted by default.
pub type FactorAnalysis<T = f64> = Step<T, Linear<T>, DiagonalGaussian<T>, Exact>;

impl<T: Real> FactorAnalysis<T> {
    /// The maximum of the likelihood with k factors and an estimated mean, by
    /// [`ProfileLikelihood`].
    ///
    /// W is returned in canonical form: WᵗΨ⁻¹W is diagonal with falling entries, and in each column
    /// the entry that is largest against its variable's deviation is positive.
    /// [`StopReason::Floor`] says that some ψ_j is held up by its floor
    /// ([`Self::heywood_variables`]).
    ///
    /// # Errors
    /// Those of [`Observations::new`]; [`Error::LatentDim`] unless 1 ≤ k ≤ min(n, d);
    /// [`Error::Unbounded`] when k reaches the rank of the data; [`Error::ZeroVariance`] when no
    /// variable varies; [`Error::TooFewObservations`] for n = 1; [`Error::Underflow`] where the
    /// squares of the deviations, or a ψ_j, fall below the smallest number.
    pub fn fit<'a>(latent_dim: usize, x: impl IntoObservations<'a, T>) -> Result<Fitted<Self>> {
        Self::builder(latent_dim).fit(x)
    }

    /// The same with more to say: the mean, the floor of the noise variances, and the fitter.
    pub fn builder(latent_dim: usize) -> FactorAnalysisBuilder<T> {
        FactorAnalysisBuilder {
            latent_dim,
            mean: Centering::Mean,
            relative_floor: 1e-6,
            restarts: 0,
            scalar: PhantomData,
        }
    }

    /// A model from given loadings W (d×k), mean μ (d) and noise variances ψ (d).
    ///
    /// # Errors
    /// [`Error::DimensionMismatch`], [`Error::NotFinite`], [`Error::InvalidParameter`] for a ψ_j
    /// that is not positive.
    pub fn from_parameters(
        loadings: DMatrix<T>,
        mean: DVector<T>,
        noise_variances: DVector<T>,
    ) -> Result<Self> {
        crate::data::expect("noise variances", loadings.nrows(), noise_variances.len())?;
        Ok(Self::from_slots(
            Linear::new(loadings, mean)?,
            DiagonalGaussian::new(noise_variances)?,
            Exact,
        ))
    }
}

/// The verbs of every step with a linear decoder and a noise variance for each variable.
impl<T: Real, I> Step<T, Linear<T>, DiagonalGaussian<T>, I> {
    /// ψ, the noise variance of each variable (its uniqueness, in the variable's units squared),
    /// d×1.
    pub fn noise_variances(&self) -> DVector<T> {
        self.model.likelihood.noise_variances()
    }

    /// Σ_m w_jm², the variance of each variable that the factors explain, d×1; with ψ_j it adds up
    /// to the model's variance of x_j.
    pub fn communalities(&self) -> DVector<T> {
        DVector::from_iterator(
            self.data_dim(),
            self.loadings().row_iter().map(|row| row.norm_squared()),
        )
    }

    /// The correlation of each variable with each factor under the model, w_jm/√(Σ_m w_jm² + ψ_j),
    /// d×k: what tables of loadings usually show, and what to [rotate](crate::rotation::Varimax)
    /// when the variables have units of their own.
    pub fn standardized_loadings(&self) -> DMatrix<T> {
        let mut loadings = self.loadings().into_owned();
        let deviations = (self.communalities() + self.noise_variances()).map(|v| v.sqrt());
        loadings.column_iter_mut().for_each(|mut column| column.component_div_assign(&deviations));
        loadings
    }

    /// The variables whose noise variance is held up by its floor: the likelihood would have it at
    /// 0 (a Heywood case), or the variable is constant.
    pub fn heywood_variables(&self) -> Vec<usize> {
        self.model.likelihood.at_floor()
    }

    /// Bartlett's factor scores (WᵗΨ⁻¹W)⁻¹WᵗΨ⁻¹(x−μ), k×n: the least-squares codes, unbiased given
    /// z, where the posterior mean of [`Self::transform`] (the regression scores) is drawn towards
    /// 0. A factor without loadings has the score 0.
    ///
    /// # Errors
    /// Those of [`Observations::new`], and [`Error::DimensionMismatch`].
    pub fn bartlett_scores<'a>(&self, x: impl IntoObservations<'a, T>) -> Result<DMatrix<T>> {
        let factor = self.model.factor()?;
        let mut projections = product_tr_left(
            &factor.directions,
            &self.model.equalized_deviations(x.into_observations()?)?,
        );
        let least = factor.singular_values.max() * T::EPSILON.as_f64() * self.data_dim() as f64;
        let inverses =
            factor.singular_values.map(|s| if s > least { T::of(1.0 / s) } else { T::zero() });
        projections.column_iter_mut().for_each(|mut column| column.component_mul_assign(&inverses));
        Ok(matrix_product(&factor.rotation.map(T::of), &projections))
    }
}

/// What can be said of a fit of [`FactorAnalysis`] before it is made.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FactorAnalysisBuilder<T> {
    pub(super) latent_dim: usize,
    pub(super) mean: Centering,
    relative_floor: f64,
    pub(super) restarts: usize,
    scalar: PhantomData<T>,
}

/// The variables that vary, in units of their deviations.
struct Standardized {
    mean: DVector<f64>,
    count: usize,
    varying: Vec<usize>,
    deviations: DVector<f64>,
    root: DMatrix<f64>, // of the correlations, rows of norm 1
}

impl Standardized {
    fn of<T: Real>(x: Observations<'_, T>, setting: &FactorAnalysisBuilder<T>) -> Result<Self> {
        check_latent_dim(setting.latent_dim, x.len(), x.data_dim())?;
        match covariance_root(x, setting.mean)? {
            Some((mean, root)) => Self::of_root(mean, root, x.len(), setting),
            None => Self::of_moment(&ScatterFactor::of(x, setting.mean)?, setting),
        }
    }

    fn of_moment<T>(moment: &ScatterFactor, setting: &FactorAnalysisBuilder<T>) -> Result<Self> {
        Self::of_root(moment.mean().clone(), moment.root().clone(), moment.count(), setting)
    }

    /// From the mean and a root of the covariance of `count` observations.
    fn of_root<T>(
        mean: DVector<f64>,
        root: DMatrix<f64>,
        count: usize,
        setting: &FactorAnalysisBuilder<T>,
    ) -> Result<Self> {
        let variances: Vec<f64> = root.row_iter().map(|row| row.norm_squared()).collect();
        // Each variable by itself: what rounding leaves of a deviation is relative to that
        // variable's mean.
        let rounding = 256.0 * f64::EPSILON * f64::EPSILON;
        let varies = |j: &usize| variances[*j] > rounding * mean[*j].powi(2);
        let varying: Vec<usize> = (0..variances.len()).filter(varies).collect();
        let deviations =
            DVector::from_iterator(varying.len(), varying.iter().map(|&j| variances[j].sqrt()));
        let mut root = root.select_rows(&varying);
        for mut column in root.column_iter_mut() {
            column.component_div_assign(&deviations);
        }
        check_noise_remains(&root, setting.latent_dim)?;
        Ok(Self { mean, count, varying, deviations, root })
    }

    /// The fit in the units of x: constant variables have no loadings, and noise at a floor
    /// relative to the mean variance of the others.
    fn restore<T: Real>(
        &self,
        fitted: Fitted<StandardFactors>,
        setting: &FactorAnalysisBuilder<T>,
    ) -> Result<Fitted<FactorAnalysis<T>>> {
        let (d, k) = (self.mean.len(), setting.latent_dim);
        let mean_variance = self.deviations.norm_squared() / self.deviations.len() as f64;
        let mut loadings = DMatrix::zeros(d, k);
        let mut floors = DVector::from_element(d, setting.relative_floor * mean_variance);
        let mut noise_variances = floors.clone();
        for (place, &j) in self.varying.iter().enumerate() {
            let deviation = self.deviations[place];
            floors[j] = setting.relative_floor * deviation * deviation;
            noise_variances[j] =
                (fitted.model.noise_variances[place] * deviation * deviation).max(floors[j]);
            for m in 0..k {
                loadings[(j, m)] = fitted.model.loadings[(place, m)] * deviation;
            }
        }
        let constant = (d - self.varying.len()) as f64
            * (std::f64::consts::TAU * setting.relative_floor * mean_variance).ln();
        let shift = self.deviations.iter().map(|s| s.ln()).sum::<f64>() + 0.5 * constant;
        let mut trace = Trace::new();
        fitted.trace.values().iter().for_each(|value| trace.push(value - shift));
        let decoder = Linear::about(&loadings, &self.mean, setting.mean)?;
        let likelihood = DiagonalGaussian::new(noise_variances)?.with_floors(floors)?;
        let stop = match fitted.stop {
            StopReason::Converged if !likelihood.at_floor().is_empty() => StopReason::Floor,
            stop => stop,
        };
        Ok(Fitted {
            model: FactorAnalysis::from_slots(decoder, likelihood.narrow()?, Exact),
            trace,
            stop,
        })
    }
}

impl<T: Real> FactorAnalysisBuilder<T> {
    /// The mean: estimated (default), or fixed at 0 as in the lecture.
    pub fn centering(self, centering: Centering) -> Self {
        Self { mean: centering, ..self }
    }

    /// The smallest ψ_j, as a share of the variance of its variable; 10⁻⁶ by default.
    ///
    /// Where the likelihood would have ψ_j at 0 (a Heywood case), the floor holds it; it also
    /// stands in for the variance of a constant variable, as a share of the mean variance of the
    /// others. A larger one, such as the 0.005 that is usual in statistics packages, makes the
    /// density of new observations less brittle.
    pub fn noise_floor(self, relative: f64) -> Self {
        Self { relative_floor: relative, ..self }
    }

    /// As [`PpcaBuilder::restarts`](super::PpcaBuilder::restarts): how often
    /// [`Self::fit_incomplete`] starts again, from random loadings.
    pub fn restarts(self, restarts: usize) -> Self {
        Self { restarts, ..self }
    }

    pub(super) fn check_settings(&self) -> Result<()> {
        let floor = self.relative_floor;
        if (1e-12..1.0).contains(&floor) {
            Ok(())
        } else {
            Err(Error::InvalidParameter {
                name: "the relative floor of the noise variances",
                value: floor,
                must: "at least 1e-12 and below 1",
            })
        }
    }

    /// Noise at the variances of some variables, with its floors; `varying` are those that are not
    /// constant.
    ///
    /// # Errors
    /// [`Error::Unbounded`] unless more than k vary.
    pub(super) fn noise_of(
        &self,
        variances: &DVector<f64>,
        varying: &[usize],
    ) -> Result<DiagonalGaussian<f64>> {
        if self.latent_dim >= varying.len() {
            return Err(Error::Unbounded { latent_dim: self.latent_dim, rank: varying.len() });
        }
        let mean_variance =
            varying.iter().map(|&j| variances[j]).sum::<f64>() / varying.len() as f64;
        let mut floors =
            DVector::from_element(variances.len(), self.relative_floor * mean_variance);
        varying.iter().for_each(|&j| floors[j] = self.relative_floor * variances[j]);
        DiagonalGaussian::new(variances.zip_map(&floors, f64::max))?.with_floors(floors)
    }

    /// The same fit in the form of [`FactorAnalysis::fit`], in the caller's precision.
    pub(super) fn oriented(
        &self,
        fitted: Fitted<LinearGaussian<f64, DiagonalGaussian<f64>>>,
    ) -> Result<Fitted<FactorAnalysis<T>>> {
        let Fitted { model, trace, stop } = fitted;
        let mut loadings =
            matrix_product(&model.loadings().into_owned(), &model.factor()?.rotation);
        let variances = model.likelihood.noise_variances();
        let deviations = DVector::from_fn(variances.len(), |j, _| {
            (loadings.row(j).norm_squared() + variances[j]).sqrt()
        });
        loadings.column_iter_mut().for_each(|mut column| column.component_div_assign(&deviations));
        crate::fit::closed_form::orient(&mut loadings);
        loadings.column_iter_mut().for_each(|mut column| column.component_mul_assign(&deviations));
        let decoder = Linear::about(&loadings, &model.mean().into_owned(), self.mean)?;
        let stop = match stop {
            StopReason::Converged if !model.likelihood.at_floor().is_empty() => StopReason::Floor,
            stop => stop,
        };
        Ok(Fitted {
            model: FactorAnalysis::from_slots(decoder, model.likelihood.narrow()?, Exact),
            trace,
            stop,
        })
    }

    /// The maximum of the likelihood by [`ProfileLikelihood`].
    ///
    /// # Errors
    /// As [`FactorAnalysis::fit`], and [`Error::InvalidParameter`] for a floor outside of 10⁻¹² to
    /// 1.
    pub fn fit<'a>(&self, x: impl IntoObservations<'a, T>) -> Result<Fitted<FactorAnalysis<T>>> {
        self.fit_by(&ProfileLikelihood::default(), x)
    }

    /// The same with settings of the ascent.
    ///
    /// # Errors
    /// As [`Self::fit`].
    pub fn fit_by<'a>(
        &self,
        fitter: &ProfileLikelihood,
        x: impl IntoObservations<'a, T>,
    ) -> Result<Fitted<FactorAnalysis<T>>> {
        self.check_settings()?;
        let data = Standardized::of(x.into_observations()?, self)?;
        data.restore(fitter.fit(&data.root, self.latent_dim, self.relative_floor)?, self)
    }

    /// The same fit from the [moments](Moments) of data that need no longer be there.
    ///
    /// ```
    /// use elbo::{FactorAnalysis, data::Moments};
    /// let x = nalgebra::DMatrix::from_fn(6, 60, |j, i| {
    ///     ((j + 1) as f64 * 0.7 * (i % 11) as f64).sin() + 0.4 * ((i * (j + 3)) as f64).cos()
    /// });
    /// let mut moments = Moments::new(6);
    /// for first in [0, 20, 40] {
    ///     moments.update(x.columns(first, 20))?;
    /// }
    /// let (streamed, whole) = (
    ///     FactorAnalysis::<f64>::builder(2).fit_moments(&moments)?,
    ///     FactorAnalysis::fit(2, &x)?,
    /// );
    /// assert!((streamed.trace.last().unwrap() - whole.trace.last().unwrap()).abs() < 1e-8);
    /// # Ok::<(), elbo::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Self::fit`].
    pub fn fit_moments(&self, moments: &Moments) -> Result<Fitted<FactorAnalysis<T>>> {
        self.check_settings()?;
        check_latent_dim(self.latent_dim, moments.count(), moments.data_dim())?;
        let data = Standardized::of_moment(&moments.scatter_factor(self.mean)?, self)?;
        data.restore(
            ProfileLikelihood::default().fit(&data.root, self.latent_dim, self.relative_floor)?,
            self,
        )
    }

    /// The same fit of data that are read in blocks: one pass, and O(d² + block) memory.
    ///
    /// ```
    /// use elbo::{FactorAnalysis, data::Chunks};
    /// let x = nalgebra::DMatrix::from_fn(6, 60, |j, i| {
    ///     ((j + 1) as f64 * 0.7 * (i % 11) as f64).sin() + 0.4 * ((i * (j + 3)) as f64).cos()
    /// });
    /// let mut source = Chunks::new(6, || {
    ///     (0..3).map(|c| Ok::<_, elbo::Error>(x.columns(20 * c, 20).into_owned()))
    /// });
    /// let (read, whole) = (
    ///     FactorAnalysis::<f64>::builder(2).fit_source(&mut source)?,
    ///     FactorAnalysis::fit(2, &x)?,
    /// );
    /// assert!(
    ///     (read.log_likelihood_source(&mut source)?.mean() - whole.trace.last().unwrap()).abs()
    ///         < 1e-8
    /// );
    /// # Ok::<(), elbo::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Self::fit`], and those of reading.
    pub fn fit_source<S: Source<T> + ?Sized>(
        &self,
        source: &mut S,
    ) -> Result<Fitted<FactorAnalysis<T>>, S::Error> {
        self.check_settings()?;
        Ok(self.fit_moments(&Moments::of_source(source)?)?)
    }

    /// The same fit with a weight w_i ≥ 0 for each observation: a weight of 2 is the same as having
    /// the observation twice. J, in the trace, is per unit of weight.
    ///
    /// ```
    /// use elbo::FactorAnalysis;
    /// let x = nalgebra::DMatrix::from_fn(6, 60, |j, i| {
    ///     ((j + 1) as f64 * 0.7 * (i % 11) as f64).sin() + 0.4 * ((i * (j + 3)) as f64).cos()
    /// });
    /// let weights: Vec<f64> = (0..60).map(|i| (i % 2) as f64).collect();
    /// let odd = x.select_columns(&(0..30).map(|i| 2 * i + 1).collect::<Vec<_>>());
    /// let (weighted, half) = (
    ///     FactorAnalysis::<f64>::builder(2).fit_weighted(&x, &weights)?,
    ///     FactorAnalysis::fit(2, &odd)?,
    /// );
    /// assert!((weighted.trace.last().unwrap() - half.trace.last().unwrap()).abs() < 1e-8);
    /// # Ok::<(), elbo::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Self::fit`], and those of [`Moments::update_weighted`].
    pub fn fit_weighted<'a>(
        &self,
        x: impl IntoObservations<'a, T>,
        weights: &[T],
    ) -> Result<Fitted<FactorAnalysis<T>>> {
        let x = x.into_observations()?;
        let mut moments = Moments::new(x.data_dim());
        moments.update_weighted(x, weights)?;
        self.fit_moments(&moments)
    }

    /// The same model by EM, from a random start: the loop of probabilistic PCA's EM, with another
    /// noise in the slot.
    ///
    /// It runs on the second moment, so that an iteration does not see n; it is slow where a ψ_j is
    /// small, and it may end in a lesser maximum.
    ///
    /// ```
    /// use elbo::{FactorAnalysis, fit::ExpectationMaximization};
    /// use rand::{SeedableRng, rngs::StdRng};
    /// let x = nalgebra::DMatrix::from_fn(6, 60, |j, i| {
    ///     ((j + 1) as f64 * 0.7 * (i % 11) as f64).sin() + 0.4 * ((i * (j + 3)) as f64).cos()
    /// });
    /// let em = FactorAnalysis::builder(1).fit_em(
    ///     &ExpectationMaximization::default(),
    ///     &x,
    ///     &mut StdRng::seed_from_u64(0),
    /// )?;
    /// let ascent = FactorAnalysis::fit(1, &x)?;
    /// assert!(em.trace.values().is_sorted_by(|a, b| *a <= b + 1e-12)); // J never falls
    /// assert!(em.trace.last().unwrap() <= ascent.trace.last().unwrap() + 1e-8);
    /// # Ok::<(), elbo::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Self::fit`].
    pub fn fit_em<'a, R: Rng + ?Sized>(
        &self,
        fitter: &ExpectationMaximization,
        x: impl IntoObservations<'a, T>,
        mut rng: &mut R,
    ) -> Result<Fitted<FactorAnalysis<T>>> {
        self.check_settings()?;
        let data = Standardized::of(x.into_observations()?, self)?;
        let (d, r) = data.root.shape();
        // r pseudo-observations about 0 with the second moment of all n.
        let columns = &data.root * (r as f64).sqrt();
        let x = Observations::new(columns.as_view())?.of_population(data.count);
        let loadings = DMatrix::from_fn(d, self.latent_dim, |_, _| {
            f64::standard_normal(&mut rng) / (self.latent_dim as f64).sqrt()
        });
        let floors = DVector::from_element(d, self.relative_floor);
        let noise = DiagonalGaussian::new(DVector::from_element(d, 0.5))?.with_floors(floors)?;
        let start: LinearGaussian<f64, _> = GenerativeModel::new(
            Linear::about(&loadings, &DVector::zeros(d), Centering::None)?,
            noise,
        );
        let Fitted { model: (model, _), trace, stop } =
            fitter.fit(&Elbo::closed_form(), start, Exact, x, &mut rng)?;
        let factors = canonical(&model)?;
        data.restore(Fitted { model: factors, trace, stop }, self)
    }
}

/// The mean and the Cholesky factor of the covariance, where forming the covariance loses nothing
/// that the fit could see: no variable is nearly a combination of others. A tenth of the time of
/// [`ScatterFactor`] for many observations.
fn covariance_root<T: Real>(
    x: Observations<'_, T>,
    mean: Centering,
) -> Result<Option<(DVector<f64>, DMatrix<f64>)>> {
    if x.len() <= 2 * x.data_dim() {
        return Ok(None);
    }
    let (mean, _) = deviations_resolved(x, mean)?;
    let mut covariance = if std::mem::size_of::<T>() == std::mem::size_of::<f64>() {
        scatter_matrix(x.values(), Some(&mean.map(T::of)), None)?.map(|v| v.as_f64())
    } else {
        scatter_matrix(x.values().map(|v| v.as_f64()).as_view(), Some(&mean), None)?
    };
    covariance /= x.len() as f64;
    let deviations = covariance.diagonal().map(f64::sqrt);
    if deviations.iter().any(|&s| s * s < f64::TINY_SQUARE) {
        return Ok(None);
    }
    let correlations = DMatrix::from_fn(deviations.len(), deviations.len(), |i, j| {
        covariance[(i, j)] / (deviations[i] * deviations[j])
    });
    let Ok(mut root) = cholesky_lower(correlations.as_view()) else { return Ok(None) };
    if root.diagonal().iter().any(|&pivot| pivot * pivot < 1e-6) {
        return Ok(None);
    }
    for mut column in root.column_iter_mut() {
        column.component_mul_assign(&deviations);
    }
    Ok(Some((mean, root)))
}

/// Refuses k at the rank of the correlations, of which `root` (d×r) is a root: no variance would be
/// left for any noise.
fn check_noise_remains(root: &DMatrix<f64>, latent_dim: usize) -> Result<()> {
    let inner = if root.nrows() <= root.ncols() {
        product_tr_right(root, root)
    } else {
        product_tr_left(root, root)
    };
    let clearly = latent_dim < inner.nrows()
        && leading_eigenpairs(inner.as_view(), latent_dim + 1)?.values[latent_dim] > 1e-9;
    if clearly {
        return Ok(());
    }
    let resolved = 256.0 * f64::EPSILON * f64::EPSILON * root.norm_squared();
    let rank =
        thin_svd(root.as_view())?.singular_values.iter().filter(|&&s| s * s > resolved).count();
    if latent_dim < rank { Ok(()) } else { Err(Error::Unbounded { latent_dim, rank }) }
}

/// The same model with z turned so that WᵗΨ⁻¹W is diagonal.
fn canonical(model: &LinearGaussian<f64, DiagonalGaussian<f64>>) -> Result<StandardFactors> {
    let mut loadings = matrix_product(&model.loadings().into_owned(), &model.factor()?.rotation);
    crate::fit::closed_form::orient(&mut loadings);
    Ok(StandardFactors { loadings, noise_variances: model.likelihood.noise_variances() })
}
