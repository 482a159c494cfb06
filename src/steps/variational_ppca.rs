//! Step 3: variational EM, with one q_i for each observation.

use super::Step;
use crate::data::{Centering, ScatterFactor};
use crate::fit::em::aligned::random_loadings;
use crate::fit::{ExpectationMaximization, Fitted, SubspaceFamily, SubspaceVem};
use crate::inference::{EStep, PerPoint};
use crate::likelihood::IsotropicGaussian;
use crate::map::Linear;
use crate::model::LinearGaussian;
use crate::objective::Elbo;
use crate::posterior::{Isotropic, PosteriorFamily};
use crate::{IntoObservations, Real, Result};
use nalgebra::DMatrix;
use rand::Rng;
use std::marker::PhantomData;

/// Probabilistic PCA by variational EM: a table of φ_i in the place of the exact posterior;
/// isotropic, as in the lecture, unless another family is named.
///
/// ```
/// use elbo::{VariationalPpca, posterior::Full};
/// use nalgebra::DMatrix;
/// use rand::{SeedableRng, rngs::StdRng};
/// let x = DMatrix::from_fn(3, 40, |j, i| ((1 + j) as f64 * 0.3 * i as f64).sin());
/// let fit = VariationalPpca::<f64, Full<f64>>::builder(1).fit(&x, &mut StdRng::seed_from_u64(1))?;
/// let exact = fit.log_likelihood(&x)?.sum();
/// assert!((fit.elbo(&x)?.values().sum() - exact).abs() < 1e-8); // a full covariance leaves no gap
/// # Ok::<(), elbo::Error>(())
/// ```
pub type VariationalPpca<T = f64, Q = Isotropic<T>> =
    Step<T, Linear<T>, IsotropicGaussian<T>, PerPoint<Q>>;

impl<T: Real, Q: PosteriorFamily<T>> VariationalPpca<T, Q> {
    /// A fit with k latent dimensions.
    pub fn builder(latent_dim: usize) -> VariationalPpcaBuilder<T, Q> {
        VariationalPpcaBuilder {
            latent_dim,
            mean: Centering::Mean,
            family: PhantomData,
            scalar: PhantomData,
        }
    }
}

/// What can be said of a fit of [`VariationalPpca`] before it is made.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct VariationalPpcaBuilder<T, Q> {
    latent_dim: usize,
    mean: Centering,
    family: PhantomData<Q>,
    scalar: PhantomData<T>,
}

impl<T: Real, Q: PosteriorFamily<T>> VariationalPpcaBuilder<T, Q> {
    /// The mean: estimated (default), or fixed at 0 as in the lecture.
    pub fn centering(self, centering: Centering) -> Self {
        Self { mean: centering, ..self }
    }

    /// W about the mean, in the caller's precision.
    fn model(
        &self,
        loadings: &DMatrix<f64>,
        moment: &ScatterFactor,
        likelihood: &IsotropicGaussian<f64>,
    ) -> Result<LinearGaussian<T>> {
        Ok(LinearGaussian::new(
            Linear::about(loadings, moment.mean(), self.mean)?,
            likelihood.narrow()?,
        ))
    }

    /// The optimum of J by the [accelerated fitter](SpanAscent), from a random start.
    ///
    /// # Errors
    /// As [`Ppca::fit`](super::Ppca::fit).
    pub fn fit<'a, R: Rng + ?Sized>(
        &self,
        x: impl IntoObservations<'a, T>,
        mut rng: &mut R,
    ) -> Result<Fitted<VariationalPpca<T, Q>>>
    where
        Q: SubspaceFamily<T>,
    {
        self.fit_by(&SubspaceVem::default(), x, &mut rng)
    }

    /// The same with other settings.
    ///
    /// # Errors
    /// As [`Ppca::fit`](super::Ppca::fit).
    pub fn fit_by<'a, R: Rng + ?Sized>(
        &self,
        fitter: &SubspaceVem,
        x: impl IntoObservations<'a, T>,
        mut rng: &mut R,
    ) -> Result<Fitted<VariationalPpca<T, Q>>>
    where
        Q: SubspaceFamily<T>,
    {
        let x = x.into_observations()?;
        let moment = ScatterFactor::of(x, self.mean)?;
        let Fitted { model, trace, stop } =
            fitter.fit::<T, Q>(&moment, self.latent_dim, &mut rng)?;
        let model = self.model(&moment.lift(model.loadings()), &moment, &model.likelihood)?;
        // The last E-step fills the table: θ, Q and J belong together.
        let mut table = PerPoint::<Q>::at_prior(self.latent_dim, x.len());
        table.maximize(&model, x)?;
        Ok(Fitted { model: Step::from_parts(model, table), trace, stop })
    }

    /// The plain [alternation](Alternate) of E- and M-steps over the table, from a random start:
    /// readable and monotone, and slow.
    ///
    /// # Errors
    /// As [`Ppca::fit`](super::Ppca::fit).
    pub fn fit_plain<'a, R: Rng + ?Sized>(
        &self,
        fitter: &ExpectationMaximization,
        x: impl IntoObservations<'a, T>,
        mut rng: &mut R,
    ) -> Result<Fitted<VariationalPpca<T, Q>>> {
        let x = x.into_observations()?;
        let moment = ScatterFactor::of(x, self.mean)?;
        moment.check_noise_remains(self.latent_dim)?;
        let loadings = moment.lift(random_loadings(&moment, self.latent_dim, &mut rng));
        let start =
            self.model(&loadings, &moment, &IsotropicGaussian::new(moment.smallest_variance())?)?;
        let table = PerPoint::<Q>::at_prior(self.latent_dim, x.len());
        let fitted = fitter.fit(&Elbo::closed_form(), start, table, x, &mut rng)?;
        Ok(fitted.map(|(model, table)| Step::from_parts(model, table)))
    }
}
