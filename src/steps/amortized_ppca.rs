//! Step 4: amortised inference, an affine map of x in place of the table.

use super::Model;
use super::fit_methods::fit_methods;
use crate::data::{Centering, CompleteForm, ScatterFactor};
use crate::fit::autoencoder_descent::recover_encoder;
use crate::fit::{AffineScaleHead, FitData, Fitted, JointQuasiNewton, Observer};
use crate::inference::{Amortized, GaussianEncoder};
use crate::likelihood::IsotropicGaussian;
use crate::map::Linear;
use crate::model::LinearGaussian;
use crate::posterior::{Isotropic, PosteriorFamily};
use crate::{Real, Result};
use nalgebra::{DMatrix, DVector};
use rand::Rng;
use std::marker::PhantomData;

/// Probabilistic PCA with an affine encoder: q(z_i) = q(z|φ(x_i)); isotropic covariances, as in the
/// lecture, unless another family is named.
///
/// ```
/// use elbo::{AmortizedPpca, Ppca, posterior::Diagonal};
/// use rand::{SeedableRng, rngs::StdRng};
/// let x = nalgebra::dmatrix![
///     1.0, 2.0, 3.0, 4.0, 5.0, 6.0; 2.1, 3.9, 6.2, 7.8, 10.1, 11.9; 0.3, 0.1, 0.2, 0.3, 0.1, 0.2];
/// let builder = AmortizedPpca::<f64, Diagonal<f64>>::builder(1);
/// let model = builder.fit(&x, &mut StdRng::seed_from_u64(1))?.model;
/// let best = Ppca::fit(1, &x)?.model.score(&x)?;
/// // An affine encoder loses nothing.
/// assert!((model.elbo(&x)?.values().mean() - best).abs() < 1e-4);
/// # Ok::<(), elbo::Error>(())
/// ```
pub type AmortizedPpca<T = f64, Q = Isotropic<T>> =
    Model<T, Linear<T>, IsotropicGaussian<T>, Amortized<GaussianEncoder<Linear<T>, Q>>>;

impl<T: Real, Q: PosteriorFamily<T>> AmortizedPpca<T, Q> {
    /// Returns a builder with k latent dimensions.
    pub fn builder(latent_dim: usize) -> AmortizedPpcaBuilder<T, Q> {
        AmortizedPpcaBuilder {
            latent_dim,
            mean: Centering::Mean,
            fitter: JointQuasiNewton::default(),
            components: PhantomData,
        }
    }
}

/// Builder of a fit of [`AmortizedPpca`].
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AmortizedPpcaBuilder<T, Q> {
    latent_dim: usize,
    mean: Centering,
    fitter: JointQuasiNewton,
    components: PhantomData<(T, Q)>,
}

fit_methods!([T: Real, Q: PosteriorFamily<T>] T, AmortizedPpcaBuilder<T, Q> => AmortizedPpca<T, Q>);

impl<T: Real, Q: PosteriorFamily<T>> AmortizedPpcaBuilder<T, Q> {
    /// Sets the mean: estimated (default), or fixed at 0 as in the lecture.
    pub fn centering(self, centering: Centering) -> Self {
        Self { mean: centering, ..self }
    }

    /// Sets the settings of the joint ascent in θ and φ, which starts from random loadings.
    pub fn fitter(self, fitter: JointQuasiNewton) -> Self {
        Self { fitter, ..self }
    }
}

impl<T: Real, Q: AffineScaleHead<T>, F: CompleteForm<T>> FitData<F> for AmortizedPpcaBuilder<T, Q> {
    type Model = AmortizedPpca<T, Q>;

    fn fit_form(
        &self,
        x: F,
        rng: &mut dyn Rng,
        observer: &mut dyn Observer,
    ) -> Result<Fitted<AmortizedPpca<T, Q>>> {
        let (moment, k) = (ScatterFactor::of(x.observations()?, self.mean)?, self.latent_dim);
        self.fitter.fit::<T, Q>(&moment, k, rng, observer)?.try_map(|at| {
            let map = recover_encoder(&moment, &at.factors.codes)?;
            // The encoder's rows: V(x − μ) for the mean of q; weight 0 and a constant bias for its
            // scale, whose optimum does not depend on x.
            let weights = map.resize_vertically(Q::parameter_count(k), 0.0);
            let offset: DVector<f64> = -(weights.rows(0, k) * moment.mean());
            let mut bias = DVector::zeros(Q::parameter_count(k));
            bias.rows_mut(0, k).copy_from(&offset);
            bias.rows_mut(k, at.scale.len()).copy_from(&at.scale);
            let encoder = Linear::new(weights.map(T::of), bias.map(T::of))?;
            let loadings: DMatrix<f64> = moment.lift(at.factors.decoder);
            let noise = IsotropicGaussian::new(at.log_noise.exp())?.narrow()?;
            let decoder = Linear::about(&loadings, moment.mean(), self.mean)?;
            let inference = Amortized::new(GaussianEncoder::new(encoder, k)?);
            Ok(Model::from_fitting_parts(LinearGaussian::new(decoder, noise), inference))
        })
    }
}
