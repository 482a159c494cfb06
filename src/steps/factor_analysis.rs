//! Factor analysis: probabilistic PCA (step 2) with a noise variance for each variable.

use super::Model;
use super::fit_methods::{deterministic_fit, fit_methods};
use super::linear_gaussian::loaded;
use crate::data::{
    Centering, Dense, IncompleteObservations, Moments, ScatterFactor, Source, Weighted,
    centre_and_resolution, check_latent_dim,
};
use crate::fit::profile_likelihood::{FactorProblem, StandardFactors};
use crate::fit::{
    Deterministic, ExpectationMaximization, FitData, Fitted, MissingDataEm, MissingDataRequest,
    Observed, Observer, ProfileLikelihood, StopReason, Trace,
};
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
use std::ops::ControlFlow;

/// Factor analysis: z ~ N(0, I), x|z ~ N(Wz + μ, diag(ψ_1, …, ψ_d)), with the exact posterior.
///
/// ```math
/// x \sim N(\mu,\; WW^\top + \Psi)
/// ```
///
/// It is [`Ppca`](super::Ppca) with another likelihood, in which each variable has its own noise
/// variance. The fit is equivariant under rescaling of single variables (loadings and √ψ rescale
/// with them), where probabilistic PCA is equivariant under rotations. It takes complete, weighted
/// and incomplete data, [moments](crate::data::Moments) and [sources](crate::data::Source).
///
/// ```
/// use elbo::FactorAnalysis;
/// use nalgebra::{DMatrix, dvector};
/// use rand::{SeedableRng, rngs::StdRng};
/// // One factor behind four variables of very different units and noise.
/// let truth = FactorAnalysis::<f64>::from_parameters(
///     DMatrix::from_column_slice(4, 1, &[1.0, 0.02, -30.0, 2.0]),
///     dvector![0.0, 1.0, 50.0, -3.0],
///     dvector![0.5, 1e-4, 400.0, 0.2],
/// )?;
/// let x = truth.sample(2000, &mut StdRng::seed_from_u64(1));
/// let model = FactorAnalysis::fit(1, &x)?.model;
/// assert!(model.score(&x)? > truth.score(&x)?);
/// assert!((model.noise_variances()[2] - 400.0f64).abs() < 60.0);
/// assert!(model.heywood_variables().is_empty());
/// # Ok::<(), elbo::Error>(())
/// ```
///
/// [Rubin & Thayer 1982](https://doi.org/10.1007/BF02293851) for EM; the default fit is
/// [`ProfileLikelihood`].
pub type FactorAnalysis<T = f64> = Model<T, Linear<T>, DiagonalGaussian<T>, Exact>;

impl<T: Real> FactorAnalysis<T> {
    /// Returns a builder with k factors.
    pub fn builder(latent_dim: usize) -> FactorAnalysisBuilder<T> {
        FactorAnalysisBuilder {
            latent_dim,
            mean: Centering::Mean,
            relative_floor: 1e-6,
            restarts: 0,
            fitter: FactorAnalysisFitter::ProfileLikelihood(ProfileLikelihood::default()),
            missing: MissingDataEm::default(),
            scalar: PhantomData,
        }
    }

    /// Builds a model from loadings W (d×k), mean μ (d) and noise variances ψ (d).
    ///
    /// # Errors
    /// [`Error::DimensionMismatch`], [`Error::NotFinite`], [`Error::InvalidParameter`] for a ψ_j
    /// that is not positive.
    pub fn from_parameters(
        loadings: DMatrix<T>,
        mean: DVector<T>,
        noise_variances: DVector<T>,
    ) -> Result<Self> {
        Self::new(Linear::new(loadings, mean)?, DiagonalGaussian::new(noise_variances)?, Exact)
    }
}

deterministic_fit! {
    /// Fits factor analysis with k factors and an estimated mean by maximum likelihood
    /// ([`ProfileLikelihood`]).
    ///
    /// W is returned in canonical form: WᵗΨ⁻¹W is diagonal with decreasing entries, and in each
    /// column the entry that is largest in units of its variable's standard deviation is positive.
    /// [`StopReason::Floor`] reports that some ψ_j is at its lower bound
    /// ([`heywood_variables`](Self::heywood_variables)).
    FactorAnalysis, FactorAnalysisBuilder
}

/// Methods of every model with a linear decoder and a noise variance for each variable.
impl<T: Real, I> Model<T, Linear<T>, DiagonalGaussian<T>, I> {
    /// ψ, the noise variance of each variable (its uniqueness, in the variable's units squared),
    /// d×1.
    pub fn noise_variances(&self) -> DVector<T> {
        self.generative.likelihood.noise_variances()
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

    /// The degrees of freedom ½((d − k)² − (d + k)) that the covariances of the d variables have
    /// beyond the parameters of the model. Variables without loadings, such as constant ones, do
    /// not count.
    ///
    /// If they are negative, many ψ give the same likelihood: the noise variances and the loadings
    /// are not determined, although the distribution of x is. `Display` reports it.
    ///
    /// ```
    /// use elbo::FactorAnalysis;
    /// use nalgebra::{DVector, dmatrix};
    /// let model = |loadings: nalgebra::DMatrix<f64>| {
    ///     let d = loadings.nrows();
    ///     FactorAnalysis::from_parameters(loadings, DVector::zeros(d), DVector::repeat(d, 0.5))
    /// };
    /// assert_eq!(model(dmatrix![0.8; 0.7; 0.6; 0.5])?.degrees_of_freedom(), 2);
    /// let two = model(dmatrix![0.8; 0.7])?;
    /// assert_eq!(two.degrees_of_freedom(), -1);
    /// assert!(two.to_string().contains("not determined"));
    /// # Ok::<(), elbo::Error>(())
    /// ```
    pub fn degrees_of_freedom(&self) -> isize {
        degrees_of_freedom(loaded(self.loadings()), self.latent_dim())
    }

    /// The indices of the variables whose noise variance is at its lower bound: the likelihood has
    /// its maximum at ψ_j = 0 (a Heywood case), or the variable is constant.
    pub fn heywood_variables(&self) -> Vec<usize> {
        self.generative.likelihood.at_floor()
    }

    /// Bartlett's factor scores (WᵗΨ⁻¹W)⁻¹WᵗΨ⁻¹(x−μ), k×n: the least-squares codes, unbiased given
    /// z, where the posterior mean of [`Self::transform`] (the regression scores) is shrunk towards
    /// 0. A factor without loadings has the score 0.
    ///
    /// # Errors
    /// Those of [`Observations::new`], and [`Error::DimensionMismatch`].
    pub fn bartlett_scores<'a>(&self, x: impl IntoObservations<'a, T>) -> Result<DMatrix<T>> {
        let factor = self.generative.factor()?;
        let mut projections = product_tr_left(
            &factor.directions,
            &self.generative.scaled_deviations(x.into_observations()?)?,
        );
        // With Ψ^(−½)W = QSVᵗ the scores are V S⁻¹ Qᵗ Ψ^(−½)(x − μ). Singular values below rounding
        // are those of factors without loadings: pseudo-inverse.
        let least = factor.singular_values.max() * T::EPSILON.as_f64() * self.data_dim() as f64;
        let inverses =
            factor.singular_values.map(|s| if s > least { T::of(1.0 / s) } else { T::zero() });
        projections.column_iter_mut().for_each(|mut column| column.component_mul_assign(&inverses));
        Ok(matrix_product(&factor.rotation.map(T::of), &projections))
    }
}

/// Algorithm of a fit of [`FactorAnalysis`] to complete data.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum FactorAnalysisFitter {
    /// Quasi-Newton ascent of the likelihood profiled over W.
    ProfileLikelihood(ProfileLikelihood),
    /// EM from random loadings: slow if a ψ_j is small, and it may end in a local maximum.
    ExpectationMaximization(ExpectationMaximization),
}

impl From<ProfileLikelihood> for FactorAnalysisFitter {
    fn from(fitter: ProfileLikelihood) -> Self {
        Self::ProfileLikelihood(fitter)
    }
}

impl From<ExpectationMaximization> for FactorAnalysisFitter {
    fn from(fitter: ExpectationMaximization) -> Self {
        Self::ExpectationMaximization(fitter)
    }
}

/// Builder of a fit of [`FactorAnalysis`].
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FactorAnalysisBuilder<T> {
    latent_dim: usize,
    mean: Centering,
    relative_floor: f64,
    restarts: usize,
    fitter: FactorAnalysisFitter,
    missing: MissingDataEm,
    scalar: PhantomData<T>,
}

fit_methods!([T: Real] T, FactorAnalysisBuilder<T> => FactorAnalysis<T>);

/// The second moments of the variables that are not constant, in units of their standard
/// deviations.
struct Standardized {
    mean: DVector<f64>,
    count: usize,
    varying: Vec<usize>,
    deviations: DVector<f64>,
    /// Square-root factor of the correlation matrix: rows of norm 1.
    root: DMatrix<f64>,
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

    /// Standardises a square-root factor of the covariance of `count` observations about a mean.
    fn of_root<T>(
        mean: DVector<f64>,
        root: DMatrix<f64>,
        count: usize,
        setting: &FactorAnalysisBuilder<T>,
    ) -> Result<Self> {
        let variances: Vec<f64> = root.row_iter().map(|row| row.norm_squared()).collect();
        // A variable is constant if its variance is within rounding of its own mean: (16ε)² of the
        // squared mean, which allows sixteen roundings in each centred entry.
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

    /// The constant by which the log-likelihood per observation of the standardised variables
    /// exceeds that of the data: the logarithms of the scales, and the density of the constant
    /// variables.
    fn log_scale<T>(&self, setting: &FactorAnalysisBuilder<T>) -> f64 {
        let mean_variance = self.deviations.norm_squared() / self.deviations.len() as f64;
        let floor_density = (std::f64::consts::TAU * setting.relative_floor * mean_variance).ln();
        let constant = (self.mean.len() - self.varying.len()) as f64 * floor_density;
        self.deviations.iter().map(|s| s.ln()).sum::<f64>() + 0.5 * constant
    }

    /// Converts a fit to the units of x. Constant variables get loadings 0, and as noise variance a
    /// lower bound relative to the mean variance of the other variables.
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
        let shift = self.log_scale(setting);
        let mut trace = Trace::new();
        fitted.trace.values().iter().for_each(|value| trace.push(value - shift));
        trace.set_starts(fitted.trace.starts().iter().map(|value| value - shift).collect());
        let decoder = Linear::about(&loadings, &self.mean, setting.mean)?;
        let likelihood = DiagonalGaussian::new(noise_variances)?.with_floors(floors)?;
        let stop = match fitted.stop {
            StopReason::Converged if !likelihood.at_floor().is_empty() => StopReason::Floor,
            stop => stop,
        };
        let model = FactorAnalysis::new(decoder, likelihood.narrow()?, Exact)?;
        Ok(Fitted::new(model, trace, stop))
    }
}

impl<T: Real> FactorAnalysisBuilder<T> {
    /// Sets the mean: estimated (default), or fixed at 0 as in the lecture.
    pub fn centering(self, centering: Centering) -> Self {
        Self { mean: centering, ..self }
    }

    /// Sets the algorithm for complete data: [`ProfileLikelihood`] (default) or
    /// [`ExpectationMaximization`].
    ///
    /// ```
    /// use elbo::{FactorAnalysis, fit::ExpectationMaximization};
    /// use rand::{SeedableRng, rngs::StdRng};
    /// let x = nalgebra::dmatrix![
    ///     1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0;
    ///     2.3, 3.6, 6.4, 7.7, 10.5, 11.4, 14.6, 15.5;
    ///     0.9, 2.4, 2.7, 4.3, 4.8, 6.1, 7.5, 7.6];
    /// let builder = FactorAnalysis::builder(1).fitter(ExpectationMaximization::default());
    /// let em = builder.fit(&x, &mut StdRng::seed_from_u64(0))?;
    /// let profile = FactorAnalysis::fit(1, &x)?;
    /// assert!(em.trace.values().is_sorted_by(|a, b| *a <= b + 1e-12)); // EM never decreases it
    /// assert!(em.trace.last().unwrap() <= profile.trace.last().unwrap() + 1e-8);
    /// # Ok::<(), elbo::Error>(())
    /// ```
    pub fn fitter(self, fitter: impl Into<FactorAnalysisFitter>) -> Self {
        Self { fitter: fitter.into(), ..self }
    }

    /// Sets the algorithm for incomplete data.
    pub fn missing_data_fitter(self, fitter: MissingDataEm) -> Self {
        Self { missing: fitter, ..self }
    }

    /// Sets the lower bound of each ψ_j, as a share of the variance of its variable; 10⁻⁶ by
    /// default.
    ///
    /// Where the likelihood has its maximum at ψ_j = 0 (a Heywood case), ψ_j is at the floor; the
    /// noise of a constant variable is the floor relative to the mean variance of the other
    /// variables. A larger floor, such as the 0.005 that is usual in statistics packages, makes the
    /// density of new observations less sensitive.
    pub fn noise_floor(self, share: f64) -> Self {
        Self { relative_floor: share, ..self }
    }

    /// Sets the number of random restarts beside the initialisations of the algorithm, for every
    /// algorithm and form of data; 0 by default. The best fit is returned, and
    /// [`Trace::starts`] has the objective of each, that of the algorithm's own initialisations
    /// first.
    ///
    /// ```
    /// use elbo::FactorAnalysis;
    /// use rand::{SeedableRng, rngs::StdRng};
    /// let x = nalgebra::dmatrix![
    ///     1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0;
    ///     2.3, 3.6, 6.4, 7.7, 10.5, 11.4, 14.6, 15.5;
    ///     0.9, 2.4, 2.7, 4.3, 4.8, 6.1, 7.5, 7.6];
    /// let fit = FactorAnalysis::builder(1).restarts(5).fit(&x, &mut StdRng::seed_from_u64(0))?;
    /// assert_eq!(fit.trace.starts().len(), 6);
    /// let best = fit.trace.starts().iter().copied().fold(f64::NEG_INFINITY, f64::max);
    /// assert!((best - fit.trace.last().unwrap()).abs() < 1e-12);
    /// # Ok::<(), elbo::Error>(())
    /// ```
    pub fn restarts(self, restarts: usize) -> Self {
        Self { restarts, ..self }
    }

    fn check_settings(&self) -> Result<()> {
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

    /// The initial noise, at the variances of the variables, with its lower bounds; `varying` are
    /// the indices of the variables that are not constant.
    ///
    /// # Errors
    /// [`Error::Unbounded`] unless more than k variables vary.
    fn noise_of(
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

    /// Converts a fit to the canonical form of [`FactorAnalysis::fit`], in the caller's precision.
    fn oriented(
        &self,
        fitted: Fitted<LinearGaussian<f64, DiagonalGaussian<f64>>>,
    ) -> Result<Fitted<FactorAnalysis<T>>> {
        let Fitted { model, trace, stop, .. } = fitted;
        let mut loadings =
            matrix_product(&model.loadings().into_owned(), &model.factor()?.rotation);
        // The sign of a column is that of its largest entry in units of standard deviations: it
        // does not depend on the units of the variables.
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
        let model = FactorAnalysis::new(decoder, model.likelihood.narrow()?, Exact)?;
        Ok(Fitted::new(model, trace, stop))
    }

    /// Fits the model to standardised variables, and returns it in the units of the data.
    fn fit_standardized(
        &self,
        data: &Standardized,
        rng: &mut dyn Rng,
        observer: &mut dyn Observer,
    ) -> Result<Fitted<FactorAnalysis<T>>> {
        let shift = data.log_scale(self);
        let silent = observer.is_silent();
        // The observer gets the objective in the units of the data, as the trace.
        let mut shifted = |iteration: usize, value: f64| -> ControlFlow<()> {
            observer.observe(iteration, value - shift)
        };
        let observer: &mut dyn Observer = if silent { &mut () } else { &mut shifted };
        let fitted = match self.fitter {
            FactorAnalysisFitter::ProfileLikelihood(fitter) => {
                let problem = FactorProblem {
                    root: &data.root,
                    observations: data.count,
                    latent_dim: self.latent_dim,
                    floor: self.relative_floor,
                    restarts: self.restarts,
                };
                fitter.fit(&problem, rng, observer)?
            }
            FactorAnalysisFitter::ExpectationMaximization(fitter) => {
                self.fit_by_em(fitter, data, rng, observer)?
            }
        };
        data.restore(fitted, self)
    }

    /// Fits the model to the moments of complete data.
    fn fit_moments(
        &self,
        moments: &Moments,
        rng: &mut dyn Rng,
        observer: &mut dyn Observer,
    ) -> Result<Fitted<FactorAnalysis<T>>> {
        self.check_settings()?;
        check_latent_dim(self.latent_dim, moments.count(), moments.data_dim())?;
        let data = Standardized::of_moment(&moments.scatter_factor(self.mean)?, self)?;
        self.fit_standardized(&data, rng, observer)
    }

    /// EM on r pseudo-observations about 0 that have the second moment of all n observations: the
    /// cost of an iteration does not depend on n. From random loadings, and again for each restart.
    fn fit_by_em(
        &self,
        fitter: ExpectationMaximization,
        data: &Standardized,
        rng: &mut dyn Rng,
        observer: &mut dyn Observer,
    ) -> Result<Fitted<StandardFactors>> {
        let (d, r) = data.root.shape();
        let columns = &data.root * (r as f64).sqrt();
        let x = Observations::new(columns.as_view())?.of_population(data.count);
        let floors = DVector::from_element(d, self.relative_floor);
        let mut best: Option<Fitted<LinearGaussian<f64, DiagonalGaussian<f64>>>> = None;
        let mut values = Vec::new();
        for _ in 0..=self.restarts {
            // Σ_m w_jm² has expectation 1, the variance of a standardised variable; ψ_j starts at
            // half of it.
            let loadings = DMatrix::from_fn(d, self.latent_dim, |_, _| {
                f64::standard_normal(rng) / (self.latent_dim as f64).sqrt()
            });
            let noise = DiagonalGaussian::new(DVector::from_element(d, 0.5))?
                .with_floors(floors.clone())?;
            let decoder = Linear::about(&loadings, &DVector::zeros(d), Centering::None)?;
            let start: LinearGaussian<f64, _> = GenerativeModel::new(decoder, noise);
            let objective = Elbo::closed_form();
            let found = fitter
                .fit_with_observer(&objective, start, Exact, x, rng, observer)?
                .map(|(model, _)| model);
            let value = found.trace.last().unwrap_or(f64::NEG_INFINITY);
            values.push(value);
            let interrupted = found.stop == StopReason::Interrupted;
            if best.as_ref().and_then(|best| best.trace.last()).is_none_or(|best| value > best) {
                best = Some(found);
            }
            if let (true, Some(best)) = (interrupted, &mut best) {
                best.stop = StopReason::Interrupted;
                break;
            }
        }
        let Some(mut best) = best else { return Err(Error::ObjectiveAtStart { value: f64::NAN }) };
        if self.restarts > 0 {
            best.trace.set_starts(values);
        }
        best.try_map(|model| canonical(&model))
    }

    /// Fits the model to data in memory without missing values.
    fn fit_complete(
        &self,
        x: Observations<'_, T>,
        weights: Option<&[T]>,
        rng: &mut dyn Rng,
        observer: &mut dyn Observer,
    ) -> Result<Fitted<FactorAnalysis<T>>> {
        self.check_settings()?;
        match weights {
            None => self.fit_standardized(&Standardized::of(x, self)?, rng, observer),
            Some(weights) => {
                let mut moments = Moments::new(x.data_dim());
                moments.update_weighted(x, weights)?;
                self.fit_moments(&moments, rng, observer)
            }
        }
    }

    /// Maximises the likelihood of the observed entries; without missing values, as for complete
    /// data.
    fn fit_incomplete(
        &self,
        x: IncompleteObservations<'_, T>,
        weights: Option<&[T]>,
        rng: &mut dyn Rng,
        observer: &mut dyn Observer,
    ) -> Result<Fitted<FactorAnalysis<T>>> {
        self.check_settings()?;
        if let Some(complete) = x.complete() {
            return self.fit_complete(complete, weights, rng, observer);
        }
        let data = Observed::of(x, weights, self.mean)?;
        let varying = data.varying()?;
        data.check_noise_remains(self.latent_dim, self.mean)?;
        let noise = self.noise_of(&data.variances, &varying)?;
        let request = MissingDataRequest {
            latent_dim: self.latent_dim,
            mean: self.mean,
            initializations: self.restarts.saturating_add(1),
            may_vanish: false,
        };
        self.oriented(self.missing.fit(&data, &request, &noise, rng, observer)?)
    }
}

/// Implements a fit to one form of data.
macro_rules! fits {
    ($(#[$note:meta])* $form:ty, |$builder:ident, $data:ident, $rng:ident, $observer:ident| $fit:expr) => {
        $(#[$note])*
        impl<'a, T: Real> FitData<$form> for FactorAnalysisBuilder<T> {
            type Model = FactorAnalysis<T>;

            fn fit_form(
                &self,
                $data: $form,
                $rng: &mut dyn Rng,
                $observer: &mut dyn Observer,
            ) -> Result<Fitted<FactorAnalysis<T>>> {
                let $builder = self;
                $fit
            }
        }
    };
}
fits!(Dense<'a, T>, |builder, x, rng, observer| {
    builder.fit_complete(x.validate()?, None, rng, observer)
});
fits!(Weighted<'a, Dense<'a, T>, T>, |builder, x, rng, observer| {
    builder.fit_complete(x.data.validate()?, Some(x.weights), rng, observer)
});
fits!(&'a Moments, |builder, x, rng, observer| builder.fit_moments(x, rng, observer));
fits!(
    /// One pass, and O(d² + block) memory.
    &'a mut dyn Source<T>, |builder, x, rng, observer| {
        builder.check_settings()?;
        builder.fit_moments(&Moments::of_source(x)?, rng, observer)
    }
);
fits!(
    /// Maximises the likelihood of the observed entries, exact for values missing at random, with a
    /// mean that is estimated jointly:
    ///
    /// ```math
    /// \sum_i \log N(x_{i,o_i};\, \mu_{o_i},\, W_{o_i}W_{o_i}^\top + \Psi_{o_i})
    /// ```
    ///
    /// The lower bound of ψ_j is relative to the variance of the observed entries of its variable.
    IncompleteObservations<'a, T>,
    |builder, x, rng, observer| builder.fit_incomplete(x, None, rng, observer)
);
fits!(Weighted<'a, IncompleteObservations<'a, T>, T>, |builder, x, rng, observer| {
    builder.fit_incomplete(x.data, Some(x.weights), rng, observer)
});

impl<T: Real> Deterministic<Dense<'_, T>> for FactorAnalysisBuilder<T> {}
impl<'a, T: Real> Deterministic<Weighted<'a, Dense<'a, T>, T>> for FactorAnalysisBuilder<T> {}
impl<T: Real> Deterministic<&Moments> for FactorAnalysisBuilder<T> {}
impl<T: Real> Deterministic<&mut dyn Source<T>> for FactorAnalysisBuilder<T> {}

/// Returns the mean and the Cholesky factor of the covariance; `None` if forming the covariance
/// would lose accuracy that matters to the fit, because a variable is nearly a linear combination
/// of others. It takes a tenth of the time of [`ScatterFactor`] for many observations.
fn covariance_root<T: Real>(
    x: Observations<'_, T>,
    mean: Centering,
) -> Result<Option<(DVector<f64>, DMatrix<f64>)>> {
    // For few observations [`ScatterFactor`] is cheap, and the covariance near singular.
    if x.len() <= 2 * x.data_dim() {
        return Ok(None);
    }
    let (mean, _) = centre_and_resolution(x, mean)?;
    // In double precision for `f32` as well.
    let mut covariance = if std::mem::size_of::<T>() == std::mem::size_of::<f64>() {
        scatter_matrix(x.values(), Some(&mean.map(T::of)), None)?.map(|v| v.as_f64())
    } else {
        scatter_matrix(x.values().map(|v| v.as_f64()).as_view(), Some(&mean), None)?
    };
    covariance /= x.len() as f64;
    let deviations = covariance.diagonal().map(f64::sqrt);
    // Squares that underflow, or a constant variable.
    if deviations.iter().any(|&s| s * s < f64::TINY_SQUARE) {
        return Ok(None);
    }
    let correlations = DMatrix::from_fn(deviations.len(), deviations.len(), |i, j| {
        covariance[(i, j)] / (deviations[i] * deviations[j])
    });
    // A squared pivot is 1 − R² of a variable given those before it. Its rounding error is some ε:
    // from 10⁻⁶ on it has a relative error of at most some 10⁻¹⁰.
    let Ok(mut root) = cholesky_lower(correlations.as_view()) else { return Ok(None) };
    if root.diagonal().iter().any(|&pivot| pivot * pivot < 1e-6) {
        return Ok(None);
    }
    for mut column in root.column_iter_mut() {
        column.component_mul_assign(&deviations);
    }
    Ok(Some((mean, root)))
}

/// Returns an error unless k is below the rank of the correlation matrix, of which `root` (d×r) is
/// a square-root factor: otherwise no variance is left for the noise.
fn check_noise_remains(root: &DMatrix<f64>, latent_dim: usize) -> Result<()> {
    let inner = if root.nrows() <= root.ncols() {
        product_tr_right(root, root)
    } else {
        product_tr_left(root, root)
    };
    // Cheap sufficient test: the (k+1)-th eigenvalue of the smaller product is far above its
    // rounding error. Only otherwise the SVD of the factor, which resolves variances down to
    // (16ε)².
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

/// ½((d − k)² − (d + k)).
pub(crate) fn degrees_of_freedom(variables: usize, factors: usize) -> isize {
    let (d, k) = (variables as isize, factors as isize);
    ((d - k) * (d - k) - (d + k)) / 2
}

/// Rotates z so that WᵗΨ⁻¹W is diagonal, and returns the loadings and the noise variances.
fn canonical(model: &LinearGaussian<f64, DiagonalGaussian<f64>>) -> Result<StandardFactors> {
    let mut loadings = matrix_product(&model.loadings().into_owned(), &model.factor()?.rotation);
    crate::fit::closed_form::orient(&mut loadings);
    Ok(StandardFactors { loadings, noise_variances: model.likelihood.noise_variances() })
}
