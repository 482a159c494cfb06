//! Probabilistic PCA of data with missing values: the front doors.

use super::{Ppca, PpcaBuilder};
use crate::data::IntoIncompleteObservations;
use crate::fit::{Fitted, IncompleteEm, IncompleteRequest};
use crate::inference::Exact;
use crate::model::Conditional;
use crate::posterior::{PerPattern, Posterior};
use crate::{Real, Result};
use nalgebra::{DMatrix, DVector};
use rand::Rng;

impl<T: Real> PpcaBuilder<T> {
    /// How often [`Self::fit_incomplete`] starts again, from random loadings, after a first start from correlations estimated pair by pair; the best
    /// is kept, and [`Trace::starts`](crate::fit::Trace::starts) tells where each ended.
    ///
    /// Never by default. The likelihood of few entries, or of variables over many orders of magnitude, may have several maxima: the spread tells.
    pub fn restarts(self, restarts: usize) -> Self {
        Self { restarts, ..self }
    }

    /// The maximum of the likelihood of the observed entries, when some are missing (at random): exact, with a mean that moves.
    ///
    /// ```math
    /// \sum_i \log N(x_{i,o_i};\, \mu_{o_i},\, W_{o_i}W_{o_i}^\top + \sigma^2 I)
    /// ```
    ///
    /// Without a floor, data that a model without noise meets are refused. An observation of which nothing was observed adds nothing.
    /// Fitted by [`IncompleteEm`]. Memory beyond the data: up to 32 times O(d·k²) and some blocks of observations; no copy of the data.
    ///
    /// ```
    /// use elbo::Ppca;
    /// use rand::{SeedableRng, rngs::StdRng};
    /// let mut x = nalgebra::DMatrix::from_fn(4, 60, |j, i| { let t = i as f64; (0.7 * t).sin() * (j + 1) as f64 + 0.1 * (t * t * (j + 2) as f64).cos() });
    /// let hidden = x[(2, 7)];
    /// x[(2, 7)] = f64::NAN;
    /// let fitted = Ppca::builder(1).restarts(2).fit_incomplete(&x, &mut StdRng::seed_from_u64(0))?;
    /// assert_eq!(fitted.trace.starts().len(), 3);
    /// assert!((fitted.impute(&x)?[(2, 7)] - hidden).abs() < 0.5);
    /// assert!((fitted.log_likelihood_observed(&x)?.mean() - fitted.trace.last().unwrap()).abs() < 1e-9);
    /// # Ok::<(), elbo::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of [`IncompleteObservations::new`](crate::data::IncompleteObservations::new); [`Error::NeverObserved`](crate::Error::NeverObserved);
    /// [`Error::LatentDim`](crate::Error::LatentDim); [`Error::TooFewEntries`](crate::Error::TooFewEntries) and
    /// [`Error::NoiseVanished`](crate::Error::NoiseVanished) where the likelihood is unbounded; [`Error::Constant`](crate::Error::Constant);
    /// [`Error::TooFewObservations`](crate::Error::TooFewObservations); [`Error::Setting`](crate::Error::Setting).
    pub fn fit_incomplete<'a, R: Rng + ?Sized>(&self, x: impl IntoIncompleteObservations<'a, T>, rng: &mut R) -> Result<Fitted<Ppca<T>>> {
        self.fit_incomplete_by(&IncompleteEm::default(), x, rng)
    }

    /// The same with a fitter of other settings.
    ///
    /// # Errors
    /// As [`Self::fit_incomplete`].
    pub fn fit_incomplete_by<'a, R: Rng + ?Sized>(
        &self,
        fitter: &IncompleteEm,
        x: impl IntoIncompleteObservations<'a, T>,
        rng: &mut R,
    ) -> Result<Fitted<Ppca<T>>> {
        self.check_settings()?;
        let request = IncompleteRequest {
            latent_dim: self.latent_dim,
            mean: self.mean,
            fixed: self.noise.fixed().map(|v| v.as_f64()),
            floor: self.floor.map(|v| v.as_f64()),
            starts: self.restarts + 1,
        };
        let fitted = fitter.fit(x.into_incomplete()?, &request, rng)?;
        Ok(fitted.map(|model| Ppca::from_parts(model, Exact)))
    }
}

/// The verbs for observations with holes, those of the fit or new ones.
impl<T: Real> Ppca<T> {
    /// log p(x_o) of the observed entries of each observation, in nats; 0 where nothing was observed.
    ///
    /// ```
    /// use nalgebra::{dmatrix, dvector};
    /// let model = elbo::Ppca::from_parameters(dmatrix![1.0; 1.0], dvector![0.0, 0.0], 1.0)?;
    /// let values = model.log_likelihood_observed(&dmatrix![0.0, f64::NAN; f64::NAN, f64::NAN])?;
    /// let expected = -0.5 * (2.0 * std::f64::consts::PI * 2.0_f64).ln(); // one entry, of variance 1 + σ²
    /// assert!((values[0] - expected).abs() < 1e-14 && values[1] == 0.0);
    /// # Ok::<(), elbo::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of [`IncompleteObservations::new`](crate::data::IncompleteObservations::new), and [`Error::Dimension`](crate::Error::Dimension).
    pub fn log_likelihood_observed<'a>(&self, x: impl IntoIncompleteObservations<'a, T>) -> Result<DVector<T>> {
        self.model.log_likelihood_observed(x)
    }

    /// p(z_i|x_o), a mean for each observation and a covariance for each pattern of holes.
    ///
    /// # Errors
    /// As [`Self::log_likelihood_observed`].
    pub fn encode_incomplete<'a>(&self, x: impl IntoIncompleteObservations<'a, T>) -> Result<PerPattern<T>> {
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
    pub fn transform_incomplete<'a>(&self, x: impl IntoIncompleteObservations<'a, T>) -> Result<DMatrix<T>> {
        Ok(self.encode_incomplete(x)?.into_mean())
    }

    /// The mean and the variance of each missing entry, given the observed ones.
    ///
    /// ```
    /// use nalgebra::{dmatrix, dvector};
    /// let model = elbo::Ppca::from_parameters(dmatrix![1.0; 2.0], dvector![0.0, 5.0], 1.0)?;
    /// let missing = model.conditional(&dmatrix![3.0; f64::NAN])?;
    /// assert!((missing.mean[(1, 0)] - (5.0 + 2.0 * 1.5_f64)).abs() < 1e-14);
    /// assert!((missing.variance[(1, 0)] - (1.0 + 4.0 * 0.5)).abs() < 1e-14 && missing.variance[(0, 0)] == 0.0);
    /// # Ok::<(), elbo::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Self::log_likelihood_observed`].
    pub fn conditional<'a>(&self, x: impl IntoIncompleteObservations<'a, T>) -> Result<Conditional<T>> {
        self.model.conditional(x)
    }

    /// The completed table: each missing entry at its mean given the observed ones, which are kept bit for bit.
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

    /// `count` completed tables, in each of which the missing entries of an observation are drawn together from their distribution given the
    /// observed ones. The parameters are taken as known: what their own uncertainty would add to the spread is left out.
    ///
    /// ```
    /// use nalgebra::{dmatrix, dvector};
    /// use rand::{SeedableRng, rngs::StdRng};
    /// let model = elbo::Ppca::from_parameters(dmatrix![1.0; 2.0], dvector![0.0, 5.0], 1.0)?;
    /// let tables = model.impute_multiple(5, &dmatrix![3.0; f64::NAN], &mut StdRng::seed_from_u64(1))?;
    /// assert!(tables.len() == 5 && tables[0][(1, 0)] != tables[1][(1, 0)] && tables[4][(0, 0)] == 3.0);
    /// # Ok::<(), elbo::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Self::log_likelihood_observed`].
    pub fn impute_multiple<'a, R: Rng + ?Sized>(
        &self,
        count: usize,
        x: impl IntoIncompleteObservations<'a, T>,
        rng: &mut R,
    ) -> Result<Vec<DMatrix<T>>> {
        self.model.impute_multiple(count, x, rng)
    }
}
