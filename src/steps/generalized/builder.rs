//! The builder of a fit with another likelihood.

use super::GeneralizedPpca;
use crate::data::check_latent_dim;
use crate::fit::generalized::ascent::Settings;
use crate::fit::generalized::{self, Fit, Table, check_table};
use crate::fit::{FitData, Fitted, Observer, PredictorFamily, PredictorForm};
use crate::inference::PerPoint;
use crate::likelihood::{Independent, Univariate};
use crate::map::{Linear, Parameters};
use crate::model::GenerativeModel;
use crate::steps::{Model, fit_methods};
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

    fn settings(&self) -> Result<Settings> {
        if !(self.tolerance >= 0.0) {
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
        let settings = self.settings()?;
        let (d, n) = data.shape();
        data.validate()?;
        let likelihood = self.likelihood(d)?;
        check_latent_dim(self.latent_dim, n, d)?;
        check_table(&data, |j, value| {
            let distribution = likelihood.distribution(j);
            let contains = <U as Univariate<f64>>::contains(distribution, value);
            (!contains).then(|| <U as Univariate<f64>>::support(distribution))
        })?;
        let table = Table::new(data)?;
        let family = (Q::SHAPE, self.latent_dim);
        let Fit { theta, phi, trace, stop } =
            generalized::fit(&table, &likelihood, family, self.restarts, settings, rng, observer)?;
        let decoder = Linear::new(theta.loadings.map(T::of), theta.intercepts.map(T::of))?;
        let mut narrow = Independent::<T, U>::of_each(
            (0..d).map(|j| likelihood.distribution(j).clone()).collect(),
        )?;
        let parameters = narrow.parameters_mut();
        parameters.iter_mut().zip(&theta.xi).for_each(|(to, &from)| *to = T::of(from));
        let model = Model::from_fitting_parts(
            GenerativeModel::new(decoder, narrow),
            PerPoint::new(Q::at_prior(self.latent_dim, n)),
        );
        let placed = |i: usize| table.place[i];
        let mut table_of_all = DMatrix::zeros(phi.nrows(), n);
        for i in 0..n {
            if let Some(place) = placed(i) {
                table_of_all.set_column(i, &phi.column(place));
            }
        }
        let model = model.with_table(table_of_all)?;
        // An observation of weight 0 has no part in the fit; its q_i is that of a new one.
        let absent: Vec<usize> = (0..n).filter(|&i| placed(i).is_none()).collect();
        let model = model.with_ascended(&table, &absent)?;
        Ok(Fitted::new(model, trace, stop))
    }
}
