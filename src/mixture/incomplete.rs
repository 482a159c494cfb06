//! Mixtures of probabilistic principal component analysers of data with holes.

use super::fit::{Data, Mixture, Steps, weighing};
use super::{FittedMixture, MixtureOfPpca, MixtureOfPpcaBuilder, normalize};
use crate::data::{Centering, IncompleteObservations, IntoIncompleteObservations};
use crate::fit::{Observed, WeightedEm};
use crate::inference::Exact;
use crate::{Ppca, Real, Result};
use nalgebra::{DMatrix, DVector};
use rand::Rng;

impl<T: Real> MixtureOfPpcaBuilder<T> {
    /// A maximum of the likelihood of the observed entries, when some are missing (at random).
    ///
    /// ```math
    /// \sum_i \log \sum_c π_c N(x_{i,o_i};\, μ_{c,o_i},\, W_{c,o_i}W_{c,o_i}^⊤ + σ_c^2 I)
    /// ```
    ///
    /// Each iteration gives every component one exact step of expanded EM on its share of the
    /// observed entries. The starts are those of [`Self::fit`] on the table that one [`Ppca`]
    /// completes. Memory beyond the data: two copies in double precision.
    ///
    /// ```
    /// use elbo::mixture::MixtureOfPpca;
    /// use rand::{SeedableRng, rngs::StdRng};
    /// let mut x = nalgebra::DMatrix::from_fn(3, 120, |j, i| {
    ///     let (t, e) = ((i as f64 * 0.37).sin(), 0.05 * ((7 * i + 3 * j) as f64).sin());
    ///     if i % 2 == 0 { [t, t, 0.0][j] + e } else { [5.0, t, -t][j] + e }
    /// });
    /// for i in (0..120).step_by(4) {
    ///     x[(i % 3, i)] = f64::NAN;
    /// }
    /// let fit = MixtureOfPpca::builder(2, 1)
    ///     .restarts(2)
    ///     .fit_incomplete(&x, &mut StdRng::seed_from_u64(1))?;
    /// assert!(
    ///     (fit.log_likelihood_observed(&x)?.mean() - fit.trace.last().unwrap()).abs() < 1e-9
    /// );
    /// assert!(fit.impute(&x)?.iter().all(|v| v.is_finite()));
    /// # Ok::<(), elbo::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of [`PpcaBuilder::fit_incomplete`](crate::steps::PpcaBuilder::fit_incomplete) and of
    /// [`Self::fit`].
    pub fn fit_incomplete<'a, R: Rng + ?Sized>(
        &self,
        x: impl IntoIncompleteObservations<'a, T>,
        mut rng: &mut R,
    ) -> Result<FittedMixture<T>> {
        let x = x.into_incomplete()?;
        self.fit_some(x, (0..x.len()).collect(), vec![1.0; x.len()], &mut rng)
    }

    /// The same with a weight for each observation, as in [`Self::fit_weighted`].
    ///
    /// ```
    /// use elbo::mixture::MixtureOfPpca;
    /// use rand::{SeedableRng, rngs::StdRng};
    /// let mut x = nalgebra::DMatrix::from_fn(3, 120, |j, i| {
    ///     let (t, e) = ((i as f64 * 0.37).sin(), 0.05 * ((7 * i + 3 * j) as f64).sin());
    ///     if i % 2 == 0 { [t, t, 0.0][j] + e } else { [5.0, t, -t][j] + e }
    /// });
    /// for i in (0..120).step_by(4) {
    ///     x[(i % 3, i)] = f64::NAN;
    /// }
    /// let weights: Vec<f64> = (0..120).map(|i| if i % 2 == 0 { 3.0 } else { 1.0 }).collect();
    /// let fit = MixtureOfPpca::builder(2, 1).restarts(2).fit_incomplete_weighted(
    ///     &x,
    ///     &weights,
    ///     &mut StdRng::seed_from_u64(1),
    /// )?;
    /// let total: f64 = fit
    ///     .log_likelihood_observed(&x)?
    ///     .iter()
    ///     .zip(&weights)
    ///     .map(|(log_p, weight)| log_p * weight)
    ///     .sum();
    /// assert!((total / weights.iter().sum::<f64>() - fit.trace.last().unwrap()).abs() < 1e-9); // J is per unit of weight
    /// # Ok::<(), elbo::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Self::fit_incomplete`], observations of weight 0 apart, and those of the weights in
    /// [`Self::fit_weighted`].
    pub fn fit_incomplete_weighted<'a, R: Rng + ?Sized>(
        &self,
        x: impl IntoIncompleteObservations<'a, T>,
        weights: &[T],
        mut rng: &mut R,
    ) -> Result<FittedMixture<T>> {
        let x = x.into_incomplete()?;
        let (columns, weights) = weighing(weights, x.len())?;
        self.fit_some(x, columns, weights, &mut rng)
    }

    /// From some columns, with weights that add up to their number.
    fn fit_some(
        &self,
        x: IncompleteObservations<'_, T>,
        columns: Vec<usize>,
        weights: Vec<f64>,
        rng: &mut dyn Rng,
    ) -> Result<FittedMixture<T>> {
        self.check(x.data_dim(), columns.len())?;
        let mut table = DMatrix::zeros(x.data_dim(), columns.len());
        for (&column, out) in
            columns.iter().zip(table.as_mut_slice().chunks_exact_mut(x.data_dim()))
        {
            x.column_into(column, out);
        }
        let x = IncompleteObservations::new(table.as_view())?;
        let observed = Observed::of(x, Some(&weights), Centering::Mean)?;
        observed.check_varies()?;
        let variance = observed.variances.mean();
        // The floor of the components: the likelihood of one for all may be unbounded as well.
        let one = Ppca::<f64>::builder(self.latent_dim)
            .noise_floor(self.relative_floor * variance)
            .fit_incomplete_weighted(x, &weights, rng)?;
        let data = Data::new(one.impute(x)?, weights, self, variance);
        let mut steps = Holes { x, em: WeightedEm::new(&observed, self.latent_dim) };
        self.best_of(&data, &mut steps, rng)
    }
}

/// The observed entries, and EM on them.
struct Holes<'x> {
    x: IncompleteObservations<'x, f64>,
    em: WeightedEm<'x, f64>,
}

impl Steps for Holes<'_> {
    fn log_joint(&mut self, model: &Mixture) -> Result<DMatrix<f64>> {
        model.log_joint_by(self.x.len(), |component| component.log_likelihood_observed(self.x))
    }

    fn improve(&mut self, before: &Ppca<f64>, weights: &[f64], _size: f64) -> Result<Ppca<f64>> {
        Ok(Ppca::from_parts(self.em.step(&before.model, weights)?, Exact))
    }
}

/// The verbs for observations with holes, those of the fit or new ones.
impl<T: Real> MixtureOfPpca<T> {
    fn log_joint_observed(&self, x: IncompleteObservations<'_, T>) -> Result<DMatrix<T>> {
        self.log_joint_by(x.len(), |component| component.log_likelihood_observed(x))
    }

    /// log p(x_o) of the observed entries of each observation, in nats; 0 where nothing was
    /// observed.
    ///
    /// # Errors
    /// Those of [`IncompleteObservations::new`], and
    /// [`Error::DimensionMismatch`](crate::Error::Dimension).
    pub fn log_likelihood_observed<'a>(
        &self,
        x: impl IntoIncompleteObservations<'a, T>,
    ) -> Result<DVector<T>> {
        Ok(normalize(&mut self.log_joint_observed(x.into_incomplete()?)?))
    }

    /// p(c|x_o), components×n: each column adds up to 1, and is π where nothing was observed.
    ///
    /// # Errors
    /// As [`Self::log_likelihood_observed`].
    pub fn responsibilities_observed<'a>(
        &self,
        x: impl IntoIncompleteObservations<'a, T>,
    ) -> Result<DMatrix<T>> {
        let mut joint = self.log_joint_observed(x.into_incomplete()?)?;
        normalize(&mut joint);
        Ok(joint)
    }

    /// The completed table, d×n: each missing entry at its mean given the observed ones, those of
    /// the components weighted by who is responsible; what was observed is kept bit for bit.
    ///
    /// ```math
    /// E[x_{ij}|x_{i,o}] = \sum_c p(c|x_{i,o})\, E[x_{ij}|x_{i,o}, c]
    /// ```
    ///
    /// # Errors
    /// As [`Self::log_likelihood_observed`].
    pub fn impute<'a>(&self, x: impl IntoIncompleteObservations<'a, T>) -> Result<DMatrix<T>> {
        let x = x.into_incomplete()?;
        let shares = self.responsibilities_observed(x)?;
        let mut sum = DMatrix::zeros(x.data_dim(), x.len());
        for (c, component) in self.components.iter().enumerate() {
            let completed = component.impute(x)?;
            for ((mut sum, completed), &share) in
                sum.column_iter_mut().zip(completed.column_iter()).zip(shares.row(c).iter())
            {
                sum.axpy(share, &completed, T::one());
            }
        }
        for i in 0..x.len() {
            for j in 0..x.data_dim() {
                if let Some(value) = x.get(j, i) {
                    sum[(j, i)] = value;
                }
            }
        }
        Ok(sum)
    }
}
