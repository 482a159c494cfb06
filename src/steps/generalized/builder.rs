//! The builder of a fit with another likelihood.

use super::GeneralizedPpca;
use crate::data::check_latent_dim;
use crate::fit::generalized::ascent::Settings;
use crate::fit::generalized::{self, Fit, Table, check_table};
use crate::fit::{FitData, Fitted, Observer, PredictorFamily, PredictorForm};
use crate::likelihood::{Independent, Univariate};
use crate::steps::fit_methods;
use crate::{Error, Real, Result};
use nalgebra::DMatrix;
use rand::Rng;
use std::marker::PhantomData;

/// Builder of a fit of [`GeneralizedPpca`].
#[must_use]
#[derive(Debug, Clone, PartialEq)]
pub struct GeneralizedPpcaBuilder<T, U, Q> {
    // One for all variables, or one for each.
    distributions: Vec<U>,
    latent_dim: usize,
    restarts: usize,
    tolerance: f64,
    max_iterations: usize,
    family: PhantomData<Q>,
    scalar: PhantomData<T>,
}

fit_methods!(
    [T: Real, U: Univariate<T> + Univariate<f64>, Q: PredictorFamily<T>]
    T, GeneralizedPpcaBuilder<T, U, Q> => GeneralizedPpca<T, U, Q>
);

impl<T: Real, U: Univariate<T> + Univariate<f64>, Q: PredictorFamily<T>> GeneralizedPpca<T, U, Q> {
    /// Returns a builder with k latent dimensions, for variables with the same distribution.
    pub fn builder(distribution: U, latent_dim: usize) -> GeneralizedPpcaBuilder<T, U, Q> {
        Self::builder_of_each(vec![distribution], latent_dim)
    }

    /// Returns a builder with k latent dimensions, with a distribution for each variable.
    pub fn builder_of_each(
        distributions: Vec<U>,
        latent_dim: usize,
    ) -> GeneralizedPpcaBuilder<T, U, Q> {
        GeneralizedPpcaBuilder {
            distributions,
            latent_dim,
            restarts: 4,
            tolerance: 1e-9,
            max_iterations: 10_000,
            family: PhantomData,
            scalar: PhantomData,
        }
    }
}

impl<T: Real, U: Univariate<T> + Univariate<f64>, Q: PredictorFamily<T>>
    GeneralizedPpcaBuilder<T, U, Q>
{
    /// Sets the number of random restarts beside the first, data-dependent initialisation (default:
    /// 4). The best is kept; [`Trace::starts`](crate::fit::Trace::starts) contains J of each.
    pub fn restarts(self, restarts: usize) -> Self {
        Self { restarts, ..self }
    }

    /// Sets the gain over ten iterations, in nats per observation, below which the ascent ends
    /// (default: 1e-9).
    pub fn tolerance(self, tolerance: f64) -> Self {
        Self { tolerance, ..self }
    }

    /// Sets the limit on the iterations of each initialisation (default: 10,000).
    pub fn max_iterations(self, max_iterations: usize) -> Self {
        Self { max_iterations, ..self }
    }

    /// The likelihood of d variables, in double precision.
    fn likelihood(&self, d: usize) -> Result<Independent<f64, U>> {
        match self.distributions.as_slice() {
            [distribution] => Independent::new(distribution.clone(), d),
            distributions => {
                crate::data::expect(
                    "distributions, one for each variable",
                    d,
                    distributions.len(),
                )?;
                Independent::of_each(distributions.to_vec())
            }
        }
    }

    pub(super) fn latent_dim(&self) -> usize {
        self.latent_dim
    }

    pub(super) fn with_latent_dim(self, latent_dim: usize) -> Self {
        Self { latent_dim, ..self }
    }

    pub(super) fn random_restarts(&self) -> usize {
        self.restarts
    }

    /// Validates the data and the settings.
    pub(super) fn prepare<'a, F: PredictorForm<T> + 'a>(
        &self,
        data: F,
    ) -> Result<(Table<'a>, Independent<f64, U>, Settings)> {
        let settings = self.settings()?;
        data.validate()?;
        let (d, n) = data.shape();
        let likelihood = self.likelihood(d)?;
        check_latent_dim(self.latent_dim, n, d)?;
        check_table(&data, |j, value| {
            let distribution = likelihood.distribution(j);
            let contains = <U as Univariate<f64>>::contains(distribution, value);
            (!contains).then(|| <U as Univariate<f64>>::support(distribution))
        })?;
        Ok((Table::new(data)?, likelihood, settings))
    }

    fn settings(&self) -> Result<Settings> {
        if self.tolerance < 0.0 || self.tolerance.is_nan() {
            return Err(Error::InvalidParameter {
                name: "the tolerance",
                value: self.tolerance,
                must: "at least 0",
            });
        }
        Ok(Settings { tolerance: self.tolerance, max_iterations: self.max_iterations })
    }
}

impl<T, U, Q, F> FitData<F> for GeneralizedPpcaBuilder<T, U, Q>
where
    T: Real,
    U: Univariate<T> + Univariate<f64>,
    Q: PredictorFamily<T>,
    F: PredictorForm<T>,
{
    type Model = GeneralizedPpca<T, U, Q>;

    fn fit_form(
        &self,
        data: F,
        rng: &mut dyn Rng,
        observer: &mut dyn Observer,
    ) -> Result<Fitted<Self::Model>> {
        let n = data.shape().1;
        let (table, likelihood, settings) = self.prepare(data)?;
        let family = (Q::SHAPE, self.latent_dim);
        let Fit { theta, phi, trace, stop } =
            generalized::fit(&table, &likelihood, family, self.restarts, settings, rng, observer)?;
        let model = GeneralizedPpca::<T, U, Q>::from_theta(&likelihood, &theta, n)?;
        let mut all = DMatrix::zeros(phi.nrows(), n);
        // An observation of weight 0 has no part in the fit; its q_i is that of a new one.
        let mut absent = Vec::new();
        for (i, place) in table.place.iter().enumerate() {
            match place {
                Some(place) => all.set_column(i, &phi.column(*place)),
                None => absent.push(i),
            }
        }
        let model = model.with_table(all)?.with_ascended(&table, &absent)?;
        Ok(Fitted::new(model, trace, stop))
    }
}
