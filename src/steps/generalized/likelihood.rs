//! log p(x) by quadrature, maximum likelihood and standard errors, for k ≤ 2.

use super::methods::wide;
use super::{GeneralizedPpca, GeneralizedPpcaBuilder};
use crate::data::Data;
use crate::diagnostics::QuadratureEstimate;
use crate::fit::generalized::{self, LARGEST_DIM, Table};
use crate::fit::{Fitted, PredictorFamily, PredictorForm};
use crate::inference::PerPoint;
use crate::likelihood::Univariate;
use crate::{Error, Real, Result};
use nalgebra::{DMatrix, DVector};
use rand::Rng;

/// Standard errors of the estimates of a [`GeneralizedPpca`], from the observed information of
/// log p(x).
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct StandardErrors<T: Real> {
    /// Of the loadings, d×k.
    pub loadings: DMatrix<T>,
    /// Of the intercepts (d).
    pub intercepts: DVector<T>,
}

/// Returns an error unless k ≤ 2.
fn check_product_rule(latent_dim: usize) -> Result<()> {
    match latent_dim {
        1..=LARGEST_DIM => Ok(()),
        _ => Err(Error::LatentDim { latent_dim, smallest: 1, largest: LARGEST_DIM }),
    }
}

impl<T: Real, U: Univariate<T> + Univariate<f64>, Q: PredictorFamily<T>>
    GeneralizedPpcaBuilder<T, U, Q>
{
    /// Maximises the log-likelihood log p(x) itself in place of the ELBO, by quadrature over z (k ≤
    /// 2) and by its exact gradient, from the maximum of the ELBO. The trace contains log p per
    /// observation; WᵗW of the result is diagonal, and its q_i maximise the ELBO at this θ.
    ///
    /// # Errors
    /// As [`Self::fit`]; [`Error::LatentDim`] for k > 2.
    ///
    /// ```
    /// use elbo::{likelihood::Bernoulli, steps::GeneralizedPpca};
    /// use nalgebra::dmatrix;
    /// use rand::{SeedableRng, rngs::StdRng};
    /// let answers = dmatrix![
    ///     1.0, 1.0, 0.0, 1.0, 0.0, 1.0, 1.0, 0.0; 1.0, 0.0, 0.0, 1.0, 1.0, 1.0, 0.0, 0.0;
    ///     1.0, 1.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0];
    /// let builder = GeneralizedPpca::<f64, Bernoulli>::builder(Bernoulli, 1).max_iterations(50);
    /// let rng = &mut StdRng::seed_from_u64(0);
    /// let by_likelihood = builder.fit_likelihood(&answers, rng)?;
    /// let by_elbo = builder.fit(&answers, rng)?;
    /// assert!(by_likelihood.trace.last() > by_elbo.trace.last());
    /// # Ok::<(), elbo::Error>(())
    /// ```
    pub fn fit_likelihood<X, R>(
        &self,
        x: X,
        mut rng: &mut R,
    ) -> Result<Fitted<GeneralizedPpca<T, U, Q>>>
    where
        X: Data<T>,
        X::Form: PredictorForm<T>,
        R: Rng + ?Sized,
    {
        check_product_rule(self.latent_dim())?;
        let form = x.into_form()?;
        let (table, likelihood, settings) = self.prepare(form)?;
        let fit = generalized::fit_likelihood(
            &table,
            &likelihood,
            (Q::SHAPE, self.latent_dim()),
            self.random_restarts(),
            settings,
            &mut rng,
            &mut (),
        )?;
        let model =
            GeneralizedPpca::<T, U, Q>::from_theta(&likelihood, &fit.theta, form.shape().1)?;
        Ok(Fitted::new(model.with_all_ascended(&table)?, fit.trace, fit.stop))
    }
}

impl<T: Real, U: Univariate<T> + Univariate<f64>, Q: PredictorFamily<T>> GeneralizedPpca<T, U, Q> {
    /// log p(x_i) in nats by quadrature over z, for k ≤ 2, with its estimated error; for data of any
    /// form, of the fit or new.
    ///
    /// The lattice of an observation is placed at the moments of its posterior, which may be
    /// narrow: that of counts in the thousands has a width of 0.01. It has 81 nodes, or 45² for k =
    /// 2.
    ///
    /// # Errors
    /// As [`Self::with_observations`]; [`Error::LatentDim`] for k > 2.
    ///
    /// ```
    /// use elbo::{likelihood::Poisson, steps::GeneralizedPpca};
    /// use nalgebra::dmatrix;
    /// use rand::{SeedableRng, rngs::StdRng};
    /// let counts = dmatrix![
    ///     0.0, 1.0, 4.0, 9.0, 20.0, 3.0; 11.0, 7.0, 3.0, 2.0, 0.0, 5.0;
    ///     2.0, 3.0, 1.0, 2.0, 3.0, 2.0];
    /// let builder = GeneralizedPpca::<f64, Poisson>::builder(Poisson, 1);
    /// let model = builder.fit(&counts, &mut StdRng::seed_from_u64(0))?.model;
    /// let log_p = model.log_likelihood_by_quadrature(&counts)?;
    /// let elbo = model.elbo(&counts)?.values();
    /// assert!(log_p.values.iter().zip(elbo.iter()).all(|(log_p, elbo)| elbo <= log_p));
    /// assert!(log_p.errors.amax() < 1e-8);
    /// # Ok::<(), elbo::Error>(())
    /// ```
    pub fn log_likelihood_by_quadrature<X: Data<T>>(&self, x: X) -> Result<QuadratureEstimate<T>>
    where
        X::Form: PredictorForm<T>,
    {
        check_product_rule(self.latent_dim())?;
        let form = x.into_form()?;
        self.check(&form)?;
        let table = Table::unmerged(form)?;
        let phi = self.phi_of(&table)?;
        let (likelihood, theta) = wide(&self.generative)?;
        let found = generalized::log_likelihood(&table, &likelihood, &theta, (Q::SHAPE, &phi));
        Ok(QuadratureEstimate::of(found))
    }

    /// Standard errors of loadings and intercepts, from the observed information of log p(x) by
    /// quadrature (k ≤ 2): they hold at the maximum of the likelihood, and are an approximation at
    /// that of the ELBO. For k = 2 they are those under the constraint that WᵗW is diagonal. An
    /// estimate of which the data say nothing has the standard error NaN.
    ///
    /// # Errors
    /// As [`Self::log_likelihood_by_quadrature`].
    ///
    /// ```
    /// use elbo::{likelihood::Poisson, steps::GeneralizedPpca};
    /// use nalgebra::dmatrix;
    /// use rand::{SeedableRng, rngs::StdRng};
    /// let counts = dmatrix![
    ///     0.0, 1.0, 4.0, 9.0, 20.0, 3.0; 11.0, 7.0, 3.0, 2.0, 0.0, 5.0;
    ///     2.0, 3.0, 1.0, 2.0, 3.0, 2.0];
    /// let builder = GeneralizedPpca::<f64, Poisson>::builder(Poisson, 1);
    /// let model = builder.fit_likelihood(&counts, &mut StdRng::seed_from_u64(0))?.model;
    /// let errors = model.standard_errors(&counts)?;
    /// assert!(errors.intercepts.iter().all(|error| *error > 0.0 && *error < 2.0));
    /// # Ok::<(), elbo::Error>(())
    /// ```
    pub fn standard_errors<X: Data<T>>(&self, x: X) -> Result<StandardErrors<T>>
    where
        X::Form: PredictorForm<T>,
    {
        check_product_rule(self.latent_dim())?;
        let form = x.into_form()?;
        self.check(&form)?;
        let table = Table::new(form)?;
        let phi = self.phi_of(&table)?;
        let (likelihood, theta) = wide(&self.generative)?;
        let information = generalized::information(&table, &likelihood, &theta, (Q::SHAPE, &phi));
        let (d, k) = theta.loadings.shape();
        let variances = variances(information, &theta.loadings);
        let error = |place: usize| T::of(variances[place].sqrt());
        Ok(StandardErrors {
            loadings: DMatrix::from_fn(d, k, |j, a| error(a * d + j)),
            intercepts: DVector::from_fn(d, |j, _| error(d * k + j)),
        })
    }

    /// φ of each distinct observation of a table, by ascents.
    pub(super) fn phi_of(&self, table: &Table<'_>) -> Result<DMatrix<f64>> {
        let (likelihood, theta) = wide(&self.generative)?;
        let all = table.representatives();
        Ok(generalized::posterior(
            table,
            all,
            &likelihood,
            &theta,
            Q::SHAPE,
            super::methods::OF_ONE,
        ))
    }

    /// A model of this θ, with q at the prior for n observations.
    pub(super) fn from_theta(
        likelihood: &crate::likelihood::Independent<f64, U>,
        theta: &generalized::Theta,
        n: usize,
    ) -> Result<Self> {
        use crate::map::Parameters;
        let d = likelihood.variables();
        let decoder =
            crate::map::Linear::new(theta.loadings.map(T::of), theta.intercepts.map(T::of))?;
        let distributions = (0..d).map(|j| likelihood.distribution(j).clone()).collect();
        let mut narrow = crate::likelihood::Independent::<T, U>::of_each(distributions)?;
        let parameters = narrow.parameters_mut();
        parameters.iter_mut().zip(&theta.xi).for_each(|(to, &from)| *to = T::of(from));
        Ok(Self::from_fitting_parts(
            crate::model::GenerativeModel::new(decoder, narrow),
            PerPoint::new(Q::at_prior(theta.loadings.ncols(), n)),
        ))
    }

    /// The model with the q_i of all observations of a table by ascents: one for each distinct one.
    pub(super) fn with_all_ascended(mut self, table: &Table<'_>) -> Result<Self> {
        let found = self.phi_of(table)?;
        let mut absent = Vec::new();
        let phi = self.inference.posterior.parameters_mut();
        for (i, place) in table.place.iter().enumerate() {
            match place {
                Some(place) => phi.set_column(i, &found.column(*place).map(T::of)),
                None => absent.push(i),
            }
        }
        self.with_ascended(table, &absent)
    }
}

/// The diagonal of the inverse of an information matrix; for k = 2 under w_1ᵗw_2 = 0.
fn variances(information: DMatrix<f64>, loadings: &DMatrix<f64>) -> Vec<f64> {
    let (d, k) = loadings.shape();
    let count = information.nrows();
    let constraints = k * k.saturating_sub(1) / 2;
    // The information is singular along the rotation; bordered by the derivative of the
    // constraint, it is not (Silvey 1959).
    let mut bordered = information.resize(count + constraints, count + constraints, 0.0);
    if constraints == 1 {
        for j in 0..d {
            for (place, value) in [(j, loadings[(j, 1)]), (d + j, loadings[(j, 0)])] {
                bordered[(place, count)] = value;
                bordered[(count, place)] = value;
            }
        }
    }
    // In units in which the diagonal is 1: parameters differ by orders of magnitude.
    let scales: Vec<f64> = (0..count + constraints)
        .map(|p| if bordered[(p, p)] > 0.0 { bordered[(p, p)].powf(-0.5) } else { 1.0 })
        .collect();
    let scaled = DMatrix::from_fn(count + constraints, count + constraints, |p, q| {
        bordered[(p, q)] * scales[p] * scales[q]
    });
    match scaled.try_inverse() {
        Some(inverse) => (0..count)
            .map(|p| {
                let variance = inverse[(p, p)] * scales[p] * scales[p];
                if variance > 0.0 { variance } else { f64::NAN }
            })
            .collect(),
        None => vec![f64::NAN; count],
    }
}
