//! The generative model p(x, z): a decoder and a likelihood.

use super::{Decoder, LatentModel, ProbabilisticModel};
use crate::data::expect;
use crate::likelihood::Likelihood;
use crate::{Observations, Real, Result};
use nalgebra::{DMatrix, DMatrixView, DVector};
use rand::Rng;

/// Generative model p(x, z) = N(z; 0, I) p(x | decoder(z)), with the parameters θ of every step of
/// the progression.
///
/// A step of the progression replaces one of its two components.
#[derive(Debug, Clone, PartialEq)]
pub struct GenerativeModel<D, L> {
    /// The map from z to the location parameters of the likelihood.
    pub decoder: D,
    /// The likelihood p(x|z), given the decoder's output.
    pub likelihood: L,
}

impl<D, L> GenerativeModel<D, L> {
    /// Builds a model from its components.
    pub fn new(decoder: D, likelihood: L) -> Self {
        Self { decoder, likelihood }
    }
}

impl<T: Real, D: Decoder<T>, L> LatentModel<T> for GenerativeModel<D, L> {
    type Decoder = D;
    fn decoder(&self) -> &D {
        &self.decoder
    }
}

impl<T: Real, D: Decoder<T>, L: Likelihood<T>> ProbabilisticModel<T> for GenerativeModel<D, L> {
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

    fn sample(&self, n: usize, rng: &mut dyn Rng) -> (DMatrix<T>, DMatrix<T>) {
        let z = DMatrix::from_fn(self.decoder.latent_dim(), n, |_, _| T::standard_normal(rng));
        let x = self.likelihood.sample(self.decoder.decode(z.as_view()).as_view(), rng);
        (z, x)
    }
}
