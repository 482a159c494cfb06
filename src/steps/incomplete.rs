//! Probabilistic PCA and factor analysis of data with missing values: the front doors.

use super::{FactorAnalysis, FactorAnalysisBuilder, Ppca, PpcaBuilder, Step};
use crate::data::{IncompleteObservations, IntoIncompleteObservations};
use crate::fit::{Fitted, MissingDataEm, MissingDataRequest, Observed, StopReason};
use crate::inference::Exact;
use crate::likelihood::{GaussianNoise, IsotropicGaussian};
use crate::map::Linear;
use crate::model::ConditionalMoments;
use crate::posterior::{PatternCovariance, Posterior};
use crate::{Real, Result};
use nalgebra::{DMatrix, DVector};
use rand::Rng;

impl<T: Real> PpcaBuilder<T> {
    /// How often [`Self::fit_incomplete`] starts again, from random loadings, after a first start
    /// from correlations estimated pair by pair; the best is kept, and
    /// [`Trace::starts`](crate::fit::Trace::starts) tells where each ended.
    ///
    /// Never by default. The likelihood of few entries, or of variables over many orders of
    /// magnitude, may have several maxima: the spread tells.
    pub fn restarts(self, restarts: usize) -> Self {
        Self { restarts, ..self }
    }

    /// The maximum of the likelihood of the observed entries, when some are missing (at random):
    /// exact, with a mean that moves.
    ///
    /// ```math
    /// \sum_i \log N(x_{i,o_i};\, \mu_{o_i},\, W_{o_i}W_{o_i}^\top + \sigma^2 I)
    /// ```
    ///
    /// Without a floor, data that a model without noise meets are refused. An observation of which
    /// nothing was observed adds nothing. Fitted by [`MissingDataEm`]. Memory beyond the data: up
    /// to 32 times O(d·k²) and some blocks of observations; no copy of the data.
    ///
    /// ```
    /// use elbo::Ppca;
    /// use rand::{SeedableRng, rngs::StdRng};
    /// let mut x = nalgebra::DMatrix::from_fn(4, 60, |j, i| {
    ///     let t = i as f64;
    ///     (0.7 * t).sin() * (j + 1) as f64 + 0.1 * (t * t * (j + 2) as f64).cos()
    /// });
    /// let hidden = x[(2, 7)];
    /// x[(2, 7)] = f64::NAN;
    /// let fitted =
    ///     Ppca::builder(1).restarts(2).fit_incomplete(&x, &mut StdRng::seed_from_u64(0))?;
    /// assert_eq!(fitted.trace.starts().len(), 3);
    /// assert!((fitted.impute(&x)?[(2, 7)] - hidden).abs() < 0.5);
    /// assert!(
    ///     (fitted.log_likelihood_observed(&x)?.mean() - fitted.trace.last().unwrap()).abs()
    ///         < 1e-9
    /// );
    /// # Ok::<(), elbo::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of [`IncompleteObservations::new`](crate::data::IncompleteObservations::new);
    /// [`Error::NeverObserved`](crate::Error::NeverObserved);
    /// [`Error::LatentDim`](crate::Error::LatentDim);
    /// [`Error::TooFewEntries`](crate::Error::TooFewEntries) and
    /// [`Error::NoiseVanished`](crate::Error::NoiseVanished) where the likelihood is unbounded;
    /// [`Error::ZeroVariance`](crate::Error::Constant);
    /// [`Error::TooFewObservations`](crate::Error::TooFewObservations);
    /// [`Error::InvalidParameter`](crate::Error::Setting).
    pub fn fit_incomplete<'a, R: Rng + ?Sized>(
        &self,
        x: impl IntoIncompleteObservations<'a, T>,
        mut rng: &mut R,
    ) -> Result<Fitted<Ppca<T>>> {
        self.fit_incomplete_by(&MissingDataEm::default(), x, &mut rng)
    }

    fn incomplete(
        &self,
        fitter: &MissingDataEm,
        x: IncompleteObservations<'_, T>,
        weights: Option<&[T]>,
        rng: &mut dyn Rng,
    ) -> Result<Fitted<Ppca<T>>> {
        self.check_settings()?;
        let data = Observed::of(x, weights, self.mean)?;
        data.check_varies()?;
        let (fixed, floor) =
            (self.noise.fixed().map(|v| v.as_f64()), self.floor.map(|v| v.as_f64()));
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
        let (latent_dim, mean, starts) =
            (self.latent_dim, self.mean, self.restarts.saturating_add(1));
        let request = MissingDataRequest {
            latent_dim,
            mean,
            starts,
            may_vanish: fixed.is_none() && floor.is_none(),
        };
        let Fitted { model, trace, stop } = fitter.fit(&data, &request, &noise, rng)?;
        let stop = if model.likelihood.is_at_floor() { StopReason::Floor } else { stop };
        Ok(Fitted { model: Ppca::from_parts(self.narrow(&model)?, Exact), trace, stop })
    }
}

impl<T: Real> FactorAnalysisBuilder<T> {
    /// The maximum of the likelihood of the observed entries, when some are missing (at random):
    /// exact, with a mean that moves.
    ///
    /// ```math
    /// \sum_i \log N(x_{i,o_i};\, \mu_{o_i},\, W_{o_i}W_{o_i}^\top + \Psi_{o_i})
    /// ```
    ///
    /// The EM of [`PpcaBuilder::fit_incomplete`] with another noise in the slot; W is in the form
    /// of [`FactorAnalysis::fit`]. A ψ_j that the likelihood would have at 0 is held by its floor,
    /// a share of the variance of what was observed of its variable, and
    /// [told](FactorAnalysis::heywood_variables).
    ///
    /// ```
    /// use elbo::FactorAnalysis;
    /// use rand::{SeedableRng, rngs::StdRng};
    /// let rng = &mut StdRng::seed_from_u64(0);
    /// let loadings = nalgebra::DMatrix::from_column_slice(5, 1, &[2.0, 1.0, -30.0, 0.5, 1.0]);
    /// let noise = nalgebra::dvector![1.0, 0.5, 400.0, 0.1, 2.0];
    /// let (_, mut x) = FactorAnalysis::from_parameters(
    ///     loadings,
    ///     nalgebra::dvector![0.0, 9.0, 0.0, 0.0, 0.0],
    ///     noise,
    /// )?
    /// .sample(200, rng);
    /// for i in 0..200 {
    ///     x[(i % 5, i)] = f64::NAN;
    /// }
    /// let fitted = FactorAnalysis::builder(1).fit_incomplete(&x, rng)?;
    /// assert!(
    ///     (fitted.noise_variances()[2] - 400.0).abs() < 150.0
    ///         && fitted.heywood_variables().is_empty()
    /// );
    /// assert!(
    ///     (fitted.log_likelihood_observed(&x)?.mean() - fitted.trace.last().unwrap()).abs()
    ///         < 1e-9
    /// );
    /// assert!(fitted.impute(&x)?.iter().all(|v| v.is_finite()));
    /// # Ok::<(), elbo::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`PpcaBuilder::fit_incomplete`], without
    /// [`Error::NoiseVanished`](crate::Error::NoiseVanished);
    /// [`Error::Unbounded`](crate::Error::Unbounded) unless more than k variables vary.
    pub fn fit_incomplete<'a, R: Rng + ?Sized>(
        &self,
        x: impl IntoIncompleteObservations<'a, T>,
        mut rng: &mut R,
    ) -> Result<Fitted<FactorAnalysis<T>>> {
        self.fit_incomplete_by(&MissingDataEm::default(), x, &mut rng)
    }

    fn incomplete(
        &self,
        fitter: &MissingDataEm,
        x: IncompleteObservations<'_, T>,
        weights: Option<&[T]>,
        rng: &mut dyn Rng,
    ) -> Result<Fitted<FactorAnalysis<T>>> {
        self.check_settings()?;
        let data = Observed::of(x, weights, self.mean)?;
        let varying = data.varying()?;
        data.check_noise_remains(self.latent_dim, self.mean)?;
        let noise = self.noise_of(&data.variances, &varying)?;
        let (latent_dim, mean, starts) =
            (self.latent_dim, self.mean, self.restarts.saturating_add(1));
        let request = MissingDataRequest { latent_dim, mean, starts, may_vanish: false };
        let fitted = fitter.fit(&data, &request, &noise, rng)?;
        self.oriented(fitted)
    }
}

/// The front doors beside `fit_incomplete`, which says for each model what it is.
macro_rules! front_doors {
    ($builder:ident, $model:ident) => {
        impl<T: Real> $builder<T> {
            /// The same with a fitter of other settings.
            ///
            /// # Errors
            /// As [`Self::fit_incomplete`].
            pub fn fit_incomplete_by<'a, R: Rng + ?Sized>(
                &self,
                fitter: &MissingDataEm,
                x: impl IntoIncompleteObservations<'a, T>,
                mut rng: &mut R,
            ) -> Result<Fitted<$model<T>>> {
                self.incomplete(fitter, x.into_incomplete()?, None, &mut rng)
            }

            /// The same with a weight w_i ≥ 0 for each observation, that of its log-likelihood: 2
            /// is the same as having the observation twice, 0 as not having it. J, in the trace, is
            /// per unit of weight.
            ///
            #[doc = concat!(
                "```\n",
                "use elbo::", stringify!($model), ";\n",
                "use rand::{SeedableRng, rngs::StdRng};\n",
                "let mut x = nalgebra::DMatrix::from_fn(4, 60, |j, i| { let t = i as f64; (0.7 * t).sin() * (j + 1) as f64 + 0.1 * (t * t * (j + 2) as f64).cos() });\n",
                "x[(2, 7)] = f64::NAN;\n",
                "let weights: Vec<f64> = (0..60).map(|i| if i < 50 { 1.0 } else { 0.0 }).collect();\n",
                "let part = ", stringify!($model), "::builder(1).fit_incomplete(&x.columns(0, 50).into_owned(), &mut StdRng::seed_from_u64(0))?;\n",
                "let weighted = ", stringify!($model), "::builder(1).fit_incomplete_weighted(&x, &weights, &mut StdRng::seed_from_u64(0))?;\n",
                "assert!((part.trace.last().unwrap() - weighted.trace.last().unwrap()).abs() < 1e-6);\n",
                "# Ok::<(), elbo::Error>(())\n",
                "```"
            )]
            ///
            /// # Errors
            /// As [`Self::fit_incomplete`]; [`Error::DimensionMismatch`](crate::Error::Dimension)
            /// for another number of weights; [`Error::InvalidWeight`](crate::Error::Weight) for
            /// one that is negative or not finite;
            /// [`Error::TooFewObservations`](crate::Error::TooFewObservations) where all are 0.
            pub fn fit_incomplete_weighted<'a, R: Rng + ?Sized>(
                &self,
                x: impl IntoIncompleteObservations<'a, T>,
                weights: &[T],
                mut rng: &mut R,
            ) -> Result<Fitted<$model<T>>> {
                self.incomplete(&MissingDataEm::default(), x.into_incomplete()?, Some(weights), &mut rng)
            }
        }
    };
}
front_doors!(PpcaBuilder, Ppca);
front_doors!(FactorAnalysisBuilder, FactorAnalysis);

/// The verbs for observations with holes, those of the fit or new ones.
impl<T: Real, N: GaussianNoise<T>> Step<T, Linear<T>, N, Exact> {
    /// log p(x_o) of the observed entries of each observation, in nats; 0 where nothing was
    /// observed.
    ///
    /// ```
    /// use nalgebra::{dmatrix, dvector};
    /// let model = elbo::Ppca::from_parameters(dmatrix![1.0; 1.0], dvector![0.0, 0.0], 1.0)?;
    /// let values =
    ///     model.log_likelihood_observed(&dmatrix![0.0, f64::NAN; f64::NAN, f64::NAN])?;
    /// let expected = -0.5 * (2.0 * std::f64::consts::PI * 2.0_f64).ln(); // one entry, of variance 1 + σ²
    /// assert!((values[0] - expected).abs() < 1e-14 && values[1] == 0.0);
    /// # Ok::<(), elbo::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of [`IncompleteObservations::new`](crate::data::IncompleteObservations::new), and
    /// [`Error::DimensionMismatch`](crate::Error::Dimension).
    pub fn log_likelihood_observed<'a>(
        &self,
        x: impl IntoIncompleteObservations<'a, T>,
    ) -> Result<DVector<T>> {
        self.model.log_likelihood_observed(x)
    }

    /// p(z_i|x_o), a mean for each observation and a covariance for each pattern of holes.
    ///
    /// # Errors
    /// As [`Self::log_likelihood_observed`].
    pub fn encode_incomplete<'a>(
        &self,
        x: impl IntoIncompleteObservations<'a, T>,
    ) -> Result<PatternCovariance<T>> {
        self.model.posterior_given_observed(x)
    }

    /// The codes of observations with holes, k×n: the means of p(z_i|x_o).
    ///
    /// ```
    /// use nalgebra::{dmatrix, dvector};
    /// let model = elbo::Ppca::from_parameters(dmatrix![1.0; 1.0], dvector![0.0, 0.0], 1.0)?;
    /// let codes: nalgebra::DMatrix<f64> = model.transform_incomplete(&dmatrix![3.0; f64::NAN])?;
    /// assert!((codes[(0, 0)] - 1.5).abs() < 1e-14);
    /// # Ok::<(), elbo::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Self::log_likelihood_observed`].
    pub fn transform_incomplete<'a>(
        &self,
        x: impl IntoIncompleteObservations<'a, T>,
    ) -> Result<DMatrix<T>> {
        Ok(self.encode_incomplete(x)?.into_mean())
    }

    /// The mean and the variance of each missing entry, given the observed ones; a variance beyond
    /// the largest number of the precision is that number.
    ///
    /// ```
    /// use nalgebra::{dmatrix, dvector};
    /// let model = elbo::Ppca::from_parameters(dmatrix![1.0; 2.0], dvector![0.0, 5.0], 1.0)?;
    /// let missing = model.conditional(&dmatrix![3.0; f64::NAN])?;
    /// assert!((missing.mean[(1, 0)] - (5.0 + 2.0 * 1.5_f64)).abs() < 1e-14);
    /// assert!(
    ///     (missing.variance[(1, 0)] - (1.0 + 4.0 * 0.5)).abs() < 1e-14
    ///         && missing.variance[(0, 0)] == 0.0
    /// );
    /// # Ok::<(), elbo::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Self::log_likelihood_observed`].
    pub fn conditional<'a>(
        &self,
        x: impl IntoIncompleteObservations<'a, T>,
    ) -> Result<ConditionalMoments<T>> {
        self.model.conditional(x)
    }

    /// The completed table: each missing entry at its mean given the observed ones, which are kept
    /// bit for bit.
    ///
    /// ```
    /// use nalgebra::{dmatrix, dvector};
    /// let model = elbo::Ppca::from_parameters(dmatrix![1.0; 2.0], dvector![0.0, 5.0], 1.0)?;
    /// let completed = model.impute(&dmatrix![3.0; f64::NAN])?;
    /// assert!(completed[(0, 0)] == 3.0 && (completed[(1, 0)] - 8.0_f64).abs() < 1e-14);
    /// # Ok::<(), elbo::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Self::log_likelihood_observed`].
    pub fn impute<'a>(&self, x: impl IntoIncompleteObservations<'a, T>) -> Result<DMatrix<T>> {
        self.model.impute(x)
    }

    /// `count` completed tables, in each of which the missing entries of an observation are drawn
    /// together from their distribution given the observed ones. The parameters are taken as known:
    /// what their own uncertainty would add to the spread is left out.
    ///
    /// ```
    /// use nalgebra::{dmatrix, dvector};
    /// use rand::{SeedableRng, rngs::StdRng};
    /// let model = elbo::Ppca::from_parameters(dmatrix![1.0; 2.0], dvector![0.0, 5.0], 1.0)?;
    /// let tables =
    ///     model.impute_multiple(5, &dmatrix![3.0; f64::NAN], &mut StdRng::seed_from_u64(1))?;
    /// assert!(
    ///     tables.len() == 5
    ///         && tables[0][(1, 0)] != tables[1][(1, 0)]
    ///         && tables[4][(0, 0)] == 3.0
    /// );
    /// # Ok::<(), elbo::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Self::log_likelihood_observed`].
    pub fn impute_multiple<'a, R: Rng + ?Sized>(
        &self,
        count: usize,
        x: impl IntoIncompleteObservations<'a, T>,
        mut rng: &mut R,
    ) -> Result<Vec<DMatrix<T>>> {
        self.model.impute_multiple(count, x, &mut rng)
    }
}
