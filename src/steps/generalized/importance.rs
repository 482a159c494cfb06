//! log p(x) by importance sampling, for any k and any form of data.

use super::GeneralizedPpca;
use crate::data::Data;
use crate::diagnostics::{Estimates, ImportanceEstimate, ImportanceSampling};
use crate::fit::generalized::Table;
use crate::fit::{PredictorFamily, PredictorForm};
use crate::likelihood::{Independent, Univariate};
use crate::map::{Linear, Parameters};
use crate::model::GenerativeModel;
use crate::{Observations, Real, Result};
use nalgebra::{DMatrix, DVector};
use rand::{Rng, RngExt, SeedableRng, rngs::Xoshiro256PlusPlus};

impl<T: Real, U: Univariate<T> + Univariate<f64>, Q: PredictorFamily<T>> GeneralizedPpca<T, U, Q> {
    /// log p(x_i) in nats by importance sampling, for any k and data of any form, of the fit or new:
    /// the proposals are derived from the q_i that maximise the ELBO.
    ///
    /// # Errors
    /// As [`Self::with_observations`], and those of [`ImportanceSampling::log_likelihood`].
    ///
    /// ```
    /// use elbo::{diagnostics::ImportanceSampling, likelihood::Poisson, steps::GeneralizedPpca};
    /// use nalgebra::dmatrix;
    /// use rand::{SeedableRng, rngs::StdRng};
    /// let counts = dmatrix![
    ///     0.0, 1.0, 4.0, 9.0, 20.0, 3.0; 11.0, 7.0, 3.0, 2.0, 0.0, 5.0;
    ///     2.0, 3.0, 1.0, 2.0, 3.0, 2.0];
    /// let rng = &mut StdRng::seed_from_u64(0);
    /// let model = GeneralizedPpca::<f64, Poisson>::builder(Poisson, 1).fit(&counts, rng)?.model;
    /// let sampled =
    ///     model.log_likelihood_by_importance(&ImportanceSampling::default(), &counts, rng)?;
    /// let exact = model.log_likelihood_by_quadrature(&counts)?;
    /// let difference = sampled.log_likelihood.values()[0] - exact.values[0];
    /// assert!(difference.abs() < 5.0 * sampled.log_likelihood.errors()[0] + 1e-9);
    /// # Ok::<(), elbo::Error>(())
    /// ```
    pub fn log_likelihood_by_importance<X: Data<T>, R: Rng + ?Sized>(
        &self,
        sampling: &ImportanceSampling,
        x: X,
        rng: &mut R,
    ) -> Result<ImportanceEstimate>
    where
        X::Form: PredictorForm<T>,
    {
        let form = x.into_form()?;
        self.check(&form)?;
        let (d, n) = form.shape();
        let phi = self.phi_of(&Table::unmerged(form)?)?;
        let (mut values, mut errors) = (Vec::with_capacity(n), Vec::with_capacity(n));
        let mut effective_samples = Vec::with_capacity(n);
        let (mut column, mut offset) = (vec![0.0; d], vec![0.0; d]);
        for i in 0..n {
            form.values_into(i, &mut column);
            offset.fill(0.0);
            form.add_offset(i, &mut offset);
            let q = Q::from_parameters(self.latent_dim(), phi.columns(i, 1).map(T::of))?;
            let mut own = Xoshiro256PlusPlus::seed_from_u64(rng.random());
            let found = match self.given_observed(&column, &offset)? {
                Some((model, observed)) => {
                    let x = Observations::new(observed.as_view())?;
                    sampling.log_likelihood(&model, &q, x, &mut own)?
                }
                None => {
                    // Nothing was observed: the likelihood is 1.
                    values.push(0.0);
                    errors.push(0.0);
                    effective_samples.push(sampling.samples as f64);
                    continue;
                }
            };
            values.push(found.log_likelihood.values()[0]);
            errors.push(found.log_likelihood.errors()[0]);
            effective_samples.push(found.effective_samples[0]);
        }
        Ok(ImportanceEstimate {
            log_likelihood: Estimates::estimated(values, errors),
            effective_samples,
            samples: sampling.samples,
        })
    }

    /// The model of the observed entries of one observation, with its offsets in the intercepts,
    /// and these entries; `None` if there is none.
    #[allow(clippy::type_complexity)] // a model and its data
    fn given_observed(
        &self,
        x: &[f64],
        offset: &[f64],
    ) -> Result<Option<(GenerativeModel<Linear<T>, Independent<T, U>>, DMatrix<T>)>> {
        let observed: Vec<usize> = (0..x.len()).filter(|&j| !x[j].is_nan()).collect();
        if observed.is_empty() {
            return Ok(None);
        }
        let (decoder, likelihood) = (&self.generative.decoder, &self.generative.likelihood);
        let weights = decoder.weights().select_rows(&observed);
        let bias = DVector::from_fn(observed.len(), |place, _| {
            decoder.bias()[observed[place]] + T::of(offset[observed[place]])
        });
        let distributions = observed.iter().map(|&j| likelihood.distribution(j).clone()).collect();
        let mut own = Independent::<T, U>::of_each(distributions)?;
        let parameters: Vec<T> =
            observed.iter().flat_map(|&j| likelihood.parameters_of(j)).copied().collect();
        own.parameters_mut().copy_from_slice(&parameters);
        let values = DMatrix::from_fn(observed.len(), 1, |place, _| T::of(x[observed[place]]));
        Ok(Some((GenerativeModel::new(Linear::new(weights, bias)?, own), values)))
    }
}
