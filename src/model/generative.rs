//! A decoder and a likelihood together.

use super::{Decoder, LatentModel, ProbabilisticModel};
use crate::data::expect;
use crate::likelihood::Likelihood;
use crate::{Observations, Real, Result};
use nalgebra::{DMatrix, DMatrixView, DVector};
use rand::Rng;

/// θ of every step of the progression: p(x, z) = N(z; 0, I) p(x | decoder(z)).
///
/// The two fields are the slots; a step of the progression swaps what sits in one of them.
#[derive(Debug, Clone, PartialEq)]
pub struct GenerativeModel<D, L> {
    /// z → what the likelihood is centred on.
    pub decoder: D,
    /// p(x|z), given the decoder's output.
    pub likelihood: L,
}

impl<D, L> GenerativeModel<D, L> {
    /// A model from its slots.
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
        x.expect_dim(self.decoder.observed_dim())?;
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
