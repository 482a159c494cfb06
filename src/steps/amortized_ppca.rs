//! Step 4: amortised inference, an affine map of x in the place of the table.

use super::Step;
use crate::data::{Centering, ScatterFactor};
use crate::fit::autoencoder_descent::recover_encoder;
use crate::fit::{AffineScaleHead, Fitted, JointQuasiNewton};
use crate::inference::{Amortized, GaussianEncoder};
use crate::likelihood::IsotropicGaussian;
use crate::map::Linear;
use crate::model::LinearGaussian;
use crate::posterior::{Isotropic, PosteriorFamily};
use crate::{IntoObservations, Real, Result};
use nalgebra::{DMatrix, DVector};
use rand::Rng;
use std::marker::PhantomData;

/// Probabilistic PCA with an encoder: q(z_i) = q(z|φ(x_i)) with φ an affine map; isotropic, as in
/// the lecture, unless another family is named.
///
/// ```
/// use elbo::{AmortizedPpca, Ppca, posterior::Diagonal};
/// use nalgebra::DMatrix;
/// use rand::{SeedableRng, rngs::StdRng};
/// let x = DMatrix::from_fn(4, 60, |j, i| {
///     ((1 + j) as f64 * 0.3 * i as f64).sin() * (4 - j) as f64
/// });
/// let fit = AmortizedPpca::<f64, Diagonal<f64>>::builder(2)
///     .fit(&x, &mut StdRng::seed_from_u64(1))?;
/// let best = Ppca::fit(2, &x)?.log_likelihood(&x)?.mean();
/// assert!((fit.elbo(&x)?.values().mean() - best).abs() < 1e-4); // an affine map loses nothing here
/// # Ok::<(), elbo::Error>(())
/// ```
pub type AmortizedPpca<T = f64, Q = Isotropic<T>> =
    Step<T, Linear<T>, IsotropicGaussian<T>, Amortized<GaussianEncoder<Linear<T>, Q>>>;

impl<T: Real, Q: PosteriorFamily<T>> AmortizedPpca<T, Q> {
    /// A fit with k latent dimensions.
    pub fn builder(latent_dim: usize) -> AmortizedPpcaBuilder<T, Q> {
        AmortizedPpcaBuilder { latent_dim, mean: Centering::Mean, slots: PhantomData }
    }
}

/// What can be said of a fit of [`AmortizedPpca`] before it is made.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AmortizedPpcaBuilder<T, Q> {
    latent_dim: usize,
    mean: Centering,
    slots: PhantomData<(T, Q)>,
}

impl<T: Real, Q: AffineScaleHead<T>> AmortizedPpcaBuilder<T, Q> {
    /// The mean: estimated (default), or fixed at 0 as in the lecture.
    pub fn centering(self, centering: Centering) -> Self {
        Self { mean: centering, ..self }
    }

    /// Raises J(θ, φ) by the [gradient](JointAscent), from a random start.
    ///
    /// # Errors
    /// As [`Ppca::fit`](super::Ppca::fit).
    pub fn fit<'a, R: Rng + ?Sized>(
        &self,
        x: impl IntoObservations<'a, T>,
        mut rng: &mut R,
    ) -> Result<Fitted<AmortizedPpca<T, Q>>> {
        self.fit_by(&JointQuasiNewton::default(), x, &mut rng)
    }

    /// The same with other settings.
    ///
    /// # Errors
    /// As [`Ppca::fit`](super::Ppca::fit).
    pub fn fit_by<'a, R: Rng + ?Sized>(
        &self,
        fitter: &JointQuasiNewton,
        x: impl IntoObservations<'a, T>,
        mut rng: &mut R,
    ) -> Result<Fitted<AmortizedPpca<T, Q>>> {
        let moment = ScatterFactor::of(x.into_observations()?, self.mean)?;
        let Fitted { model: at, trace, stop } =
            fitter.fit::<T, Q>(&moment, self.latent_dim, &mut rng)?;
        let k = self.latent_dim;
        let map = recover_encoder(&moment, &at.factors.codes)?;
        // The head: the mean's rows are V(x − μ); the scale's have weight 0, and its constants as
        // bias.
        let weights = map.resize_vertically(Q::parameter_count(k), 0.0);
        let offset: DVector<f64> = -(weights.rows(0, k) * moment.mean());
        let mut bias = DVector::zeros(Q::parameter_count(k));
        bias.rows_mut(0, k).copy_from(&offset);
        bias.rows_mut(k, at.scale.len()).copy_from(&at.scale);
        let encoder = Linear::new(weights.map(T::of), bias.map(T::of))?;
        let loadings: DMatrix<f64> = moment.lift(at.factors.decoder);
        let noise = IsotropicGaussian::new(at.log_noise.exp())?.narrow()?;
        let model = LinearGaussian::new(Linear::about(&loadings, moment.mean(), self.mean)?, noise);
        Ok(Fitted {
            model: Step::from_parts(model, Amortized::new(GaussianEncoder::new(encoder, k)?)),
            trace,
            stop,
        })
    }
}
