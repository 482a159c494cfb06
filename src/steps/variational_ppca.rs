//! Step 3: variational EM with local variational parameters, one q_i for each observation.

use super::Model;
use super::fit_methods::fit_methods;
use crate::data::{Centering, CompleteForm, ScatterFactor};
use crate::fit::em::aligned::random_loadings;
use crate::fit::{ExpectationMaximization, FitData, Fitted, Observer, SubspaceFamily, SubspaceVem};
use crate::inference::{EStep, PerPoint};
use crate::likelihood::IsotropicGaussian;
use crate::map::Linear;
use crate::model::LinearGaussian;
use crate::objective::Elbo;
use crate::posterior::{Isotropic, PosteriorFamily};
use crate::{Observations, Real, Result};
use nalgebra::DMatrix;
use rand::Rng;
use std::marker::PhantomData;

/// Probabilistic PCA by variational EM: a table of local variational parameters φ_i in place of the
/// exact posterior; isotropic covariances, as in the lecture, unless another family is named.
///
/// ```
/// use elbo::{VariationalPpca, posterior::Full};
/// use rand::{SeedableRng, rngs::StdRng};
/// let x = nalgebra::dmatrix![
///     1.0, 2.0, 3.0, 4.0, 5.0, 6.0; 2.1, 3.9, 6.2, 7.8, 10.1, 11.9; 0.3, 0.1, 0.2, 0.3, 0.1, 0.2];
/// let builder = VariationalPpca::<f64, Full<f64>>::builder(1);
/// let model = builder.fit(&x, &mut StdRng::seed_from_u64(1))?.model;
/// // A full covariance contains the exact posterior: the ELBO is tight.
/// assert!((model.elbo(&x)?.values().sum() - model.log_likelihood(&x)?.sum()).abs() < 1e-8);
/// # Ok::<(), elbo::Error>(())
/// ```
pub type VariationalPpca<T = f64, Q = Isotropic<T>> =
    Model<T, Linear<T>, IsotropicGaussian<T>, PerPoint<Q>>;

impl<T: Real, Q: PosteriorFamily<T>> VariationalPpca<T, Q> {
    /// Returns a builder with k latent dimensions.
    pub fn builder(latent_dim: usize) -> VariationalPpcaBuilder<T, Q> {
        VariationalPpcaBuilder {
            latent_dim,
            mean: Centering::Mean,
            family: PhantomData,
            fitter: VariationalFitter::Subspace(SubspaceVem::default()),
            scalar: PhantomData,
        }
    }
}

/// Algorithm of a fit of [`VariationalPpca`].
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum VariationalFitter {
    /// The accelerated fit, which profiles the ELBO over subspaces.
    Subspace(SubspaceVem),
    /// Plain alternation of E- and M-steps over the table: monotone, and slow.
    ExpectationMaximization(ExpectationMaximization),
}

impl From<SubspaceVem> for VariationalFitter {
    fn from(fitter: SubspaceVem) -> Self {
        Self::Subspace(fitter)
    }
}

impl From<ExpectationMaximization> for VariationalFitter {
    fn from(fitter: ExpectationMaximization) -> Self {
        Self::ExpectationMaximization(fitter)
    }
}

/// Builder of a fit of [`VariationalPpca`].
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct VariationalPpcaBuilder<T, Q> {
    latent_dim: usize,
    mean: Centering,
    family: PhantomData<Q>,
    fitter: VariationalFitter,
    scalar: PhantomData<T>,
}

fit_methods!(
    [T: Real, Q: PosteriorFamily<T>] T, VariationalPpcaBuilder<T, Q> => VariationalPpca<T, Q>
);

impl<T: Real, Q: PosteriorFamily<T>> VariationalPpcaBuilder<T, Q> {
    /// Sets the mean: estimated (default), or fixed at 0 as in the lecture.
    pub fn centering(self, centering: Centering) -> Self {
        Self { mean: centering, ..self }
    }

    /// Sets the algorithm: [`SubspaceVem`] (default), or [`ExpectationMaximization`] for the plain
    /// alternation; both start from random loadings.
    pub fn fitter(self, fitter: impl Into<VariationalFitter>) -> Self {
        Self { fitter: fitter.into(), ..self }
    }

    /// The generative model with loadings W about the mean, in the precision of the data.
    fn model(
        &self,
        loadings: &DMatrix<f64>,
        moment: &ScatterFactor,
        likelihood: &IsotropicGaussian<f64>,
    ) -> Result<LinearGaussian<T>> {
        let decoder = Linear::about(loadings, moment.mean(), self.mean)?;
        Ok(LinearGaussian::new(decoder, likelihood.narrow()?))
    }

    fn fit_by_plain_em(
        &self,
        fitter: ExpectationMaximization,
        x: Observations<'_, T>,
        rng: &mut dyn Rng,
        observer: &mut dyn Observer,
    ) -> Result<Fitted<VariationalPpca<T, Q>>> {
        let moment = ScatterFactor::of(x, self.mean)?;
        moment.check_noise_remains(self.latent_dim)?;
        let loadings = moment.lift(random_loadings(&moment, self.latent_dim, rng));
        let noise = IsotropicGaussian::new(moment.smallest_variance())?;
        let start = self.model(&loadings, &moment, &noise)?;
        let table = PerPoint::<Q>::at_prior(self.latent_dim, x.len());
        let fitted =
            fitter.fit_with_observer(&Elbo::closed_form(), start, table, x, rng, observer)?;
        Ok(fitted.map(|(model, table)| Model::from_fitting_parts(model, table)))
    }
}

impl<T: Real, Q: SubspaceFamily<T>, F: CompleteForm<T>> FitData<F>
    for VariationalPpcaBuilder<T, Q>
{
    type Model = VariationalPpca<T, Q>;

    fn fit_form(
        &self,
        x: F,
        rng: &mut dyn Rng,
        observer: &mut dyn Observer,
    ) -> Result<Fitted<VariationalPpca<T, Q>>> {
        let x = x.observations()?;
        let fitter = match self.fitter {
            VariationalFitter::Subspace(fitter) => fitter,
            VariationalFitter::ExpectationMaximization(fitter) => {
                return self.fit_by_plain_em(fitter, x, rng, observer);
            }
        };
        let moment = ScatterFactor::of(x, self.mean)?;
        let fitted = fitter.fit::<T, Q>(&moment, self.latent_dim, rng, observer)?;
        fitted.try_map(|aligned| {
            let loadings = moment.lift(aligned.loadings());
            let model = self.model(&loadings, &moment, &aligned.likelihood)?;
            // A last E-step fills the table, so that θ, Q and the ELBO belong together.
            let mut table = PerPoint::<Q>::at_prior(self.latent_dim, x.len());
            table.maximize(&model, x)?;
            Ok(Model::from_fitting_parts(model, table))
        })
    }
}
