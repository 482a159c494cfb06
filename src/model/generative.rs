//! The generative model p(x, z): a decoder and a likelihood.

use super::{Decoder, LatentModel, ProbabilisticModel};
use crate::data::expect;
use crate::likelihood::Likelihood;
use crate::prior::{Prior, StandardNormal, log_ratio_to_standard};
use crate::{Observations, Real, Result};
use nalgebra::{DMatrix, DMatrixView, DVector};
use rand::Rng;

/// Generative model p(x, z) = π(z) p(x | decoder(z)), with the parameters θ of every step of the
/// progression.
///
/// A step of the progression replaces one of its components. The prior π is N(0, I) in all of
/// them, and can be another [`Prior`] beside a deep decoder.
#[derive(Debug, Clone, PartialEq)]
pub struct GenerativeModel<D, L, P = StandardNormal> {
    /// The map from z to the location parameters of the likelihood.
    pub decoder: D,
    /// The likelihood p(x|z), given the decoder's output.
    pub likelihood: L,
    /// The prior π(z).
    pub prior: P,
}

impl<D, L> GenerativeModel<D, L> {
    /// Builds a model from its components.
    pub fn new(decoder: D, likelihood: L) -> Self {
        Self { decoder, likelihood, prior: StandardNormal }
    }
}

impl<D, L, P> GenerativeModel<D, L, P> {
    /// Builds a model from its components, with a prior of its own.
    pub fn with_prior(decoder: D, likelihood: L, prior: P) -> Self {
        Self { decoder, likelihood, prior }
    }
}

impl<T: Real, D: Decoder<T>, L, P> LatentModel<T> for GenerativeModel<D, L, P> {
    type Decoder = D;
    fn decoder(&self) -> &D {
        &self.decoder
    }
}

impl<T: Real, D: Decoder<T>, L: Likelihood<T>, P: Prior<T>> ProbabilisticModel<T>
    for GenerativeModel<D, L, P>
{
    fn log_density_given(
        &self,
        x: Observations<'_, T>,
        z: DMatrixView<'_, T>,
    ) -> Result<DVector<T>> {
        x.expect_dim(self.likelihood.data_dim(self.decoder.observed_dim())?)?;
        expect("rows of z", self.decoder.latent_dim(), z.nrows())?;
        expect("columns of z", x.len(), z.ncols())?;
        Ok(self.likelihood.log_density(x.values(), self.decoder.decode(z).as_view()))
    }

    fn log_prior_ratio(&self, z: DMatrixView<'_, T>) -> Option<DVector<T>> {
        log_ratio_to_standard(&self.prior, z)
    }

    fn sample(&self, n: usize, rng: &mut dyn Rng) -> (DMatrix<T>, DMatrix<T>) {
        let z = self.prior.sample(self.decoder.latent_dim(), n, rng);
        let x = self.likelihood.sample(self.decoder.decode(z.as_view()).as_view(), rng);
        (z, x)
    }
}
