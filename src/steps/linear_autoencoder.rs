//! Step 1: the linear autoencoder, z = Ux and x' = Wz.

use super::Step;
use crate::data::{Centering, ScatterFactor};
use crate::fit::closed_form::Principal;
use crate::fit::{AutoencoderDescent, Fitted};
use crate::inference::{Amortized, PointEncoder};
use crate::likelihood::Noiseless;
use crate::linalg::Solver;
use crate::map::{DifferentiableMap, Linear};
use crate::objective::check_weight;
use crate::posterior::Posterior;
use crate::{IntoObservations, Real, Result};
use nalgebra::{DMatrix, DMatrixView, DVector};
use rand::Rng;

/// min Σ‖x − WUx‖² over U (k×d) and W (d×k): two maps, and no density.
///
/// ```
/// use elbo::LinearAutoencoder;
/// use nalgebra::DMatrix;
/// let x = DMatrix::from_fn(3, 30, |j, i| ((1 + j) as f64 * 0.3 * i as f64).sin());
/// let model = LinearAutoencoder::fit(1, &x)?;
/// let error = (&x - model.reconstruct(&x)?).norm_squared();
/// assert!((model.squared_error(&x)? - error).abs() < 1e-12 * error);
/// // U is the transpose of W: the projector WU is orthogonal.
/// assert!((model.encoder_weights().transpose() - model.decoder_weights()).norm() < 1e-12);
/// # Ok::<(), elbo::Error>(())
/// ```
pub type LinearAutoencoder<T = f64> =
    Step<T, Linear<T>, Noiseless, Amortized<PointEncoder<Linear<T>>>>;

impl<T: Real> LinearAutoencoder<T> {
    /// The minimum with k latent dimensions in closed form, about the mean: W = U_k, the leading
    /// eigenvectors of S, and U = Wᵗ.
    ///
    /// The minimum is n Σ_{j>k} λ_j, and every other critical point is a saddle
    /// ([Baldi & Hornik 1989](https://doi.org/10.1016/0893-6080(89)90014-2)).
    ///
    /// # Errors
    /// Those of [`Observations::new`](crate::Observations::new);
    /// [`Error::LatentDim`](crate::Error::LatentDim) unless 1 ≤ k ≤ min(n, d);
    /// [`Error::ZeroVariance`](crate::Error::Constant);
    /// [`Error::Underflow`](crate::Error::TooSmall) where the squares of the deviations fall below
    /// the smallest number; [`Error::TooFewObservations`](crate::Error::TooFewObservations) for n =
    /// 1.
    pub fn fit<'a>(latent_dim: usize, x: impl IntoObservations<'a, T>) -> Result<Self> {
        Self::builder(latent_dim).fit(x)
    }

    /// The same with more to say.
    pub fn builder(latent_dim: usize) -> LinearAutoencoderBuilder<T> {
        LinearAutoencoderBuilder {
            latent_dim,
            mean: Centering::Mean,
            weight: T::zero(),
            solver: Solver::Auto,
        }
    }

    /// U, k×d.
    pub fn encoder_weights(&self) -> DMatrixView<'_, T> {
        self.inference.encoder.map.weights()
    }

    /// W, d×k.
    pub fn decoder_weights(&self) -> DMatrixView<'_, T> {
        self.model.decoder.weights()
    }

    /// Σ_i ‖x_i − x'_i‖², the sum over the data.
    ///
    /// # Errors
    /// Those of [`Observations::new`](crate::Observations::new), and
    /// [`Error::DimensionMismatch`](crate::Error::Dimension).
    pub fn squared_error<'a>(&self, x: impl IntoObservations<'a, T>) -> Result<T> {
        let x = x.into_observations()?;
        let codes = self.encode(x)?;
        Ok(DifferentiableMap::residuals(&self.model.decoder, codes.mean(), x.values())
            .norm_squared())
    }
}

/// What can be said of a fit of [`LinearAutoencoder`] before it is made.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LinearAutoencoderBuilder<T: Real> {
    pub(super) latent_dim: usize,
    pub(super) mean: Centering,
    weight: T,
    pub(super) solver: Solver,
}

impl<T: Real> LinearAutoencoderBuilder<T> {
    /// The mean: taken away before encoding and put back after decoding (default), or 0 as in the
    /// lecture.
    pub fn centering(self, centering: Centering) -> Self {
        Self { mean: centering, ..self }
    }

    /// The way to the principal directions in closed form; [by default](Solver::Auto) by the shape
    /// of the data.
    pub fn solver(self, solver: Solver) -> Self {
        Self { solver, ..self }
    }

    /// A weight ρ on the squared norm of both maps: adds ρ(‖U‖² + ‖W‖²) to the error that is
    /// minimised.
    ///
    /// Then U = Wᵗ at the minimum, and W's left singular vectors are the principal directions,
    /// which without it only span the subspace ([Kunin et al.
    /// 2019](https://arxiv.org/abs/1901.08168)).
    pub fn weight(self, weight: T) -> Self {
        Self { weight, ..self }
    }

    pub(super) fn check_settings(&self) -> Result<()> {
        check_weight(self.weight)
    }

    /// The minimum in closed form: W = U_k diag(1 − ρ/(nλ_j))₊^½ and U = Wᵗ.
    ///
    /// # Errors
    /// As [`LinearAutoencoder::fit`], and [`Error::InvalidParameter`](crate::Error::Setting) for a
    /// negative weight.
    pub fn fit<'a>(&self, x: impl IntoObservations<'a, T>) -> Result<LinearAutoencoder<T>> {
        Ok(self.solve(x)?.model)
    }

    /// What the directions of largest variance say of U and W.
    pub(super) fn assemble_principal(&self, principal: Principal) -> Result<LinearAutoencoder<T>> {
        let (count, weight) = (principal.weight, self.weight.as_f64());
        let mut decoder = principal.directions;
        for (mut column, &variance) in decoder.column_iter_mut().zip(principal.variances.iter()) {
            let shrinkage = if weight > 0.0 { 1.0 - weight / (count * variance) } else { 1.0 };
            column *= shrinkage.max(0.0).sqrt();
        }
        self.assemble(&decoder.transpose(), &decoder, &principal.mean)
    }

    /// The same minimum by the [gradient](FactorDescent), from a random start: an independent route
    /// to the same subspace, and with a weight to the same maps, up to a rotation of z.
    ///
    /// The trace holds minus the squared error per observation, and minus the weighted norms over
    /// n.
    ///
    /// # Errors
    /// As [`Self::fit`].
    pub fn fit_by_gradient<'a, R: Rng + ?Sized>(
        &self,
        fitter: &AutoencoderDescent,
        x: impl IntoObservations<'a, T>,
        mut rng: &mut R,
    ) -> Result<Fitted<LinearAutoencoder<T>>> {
        self.check_settings()?;
        let moment = ScatterFactor::of(x.into_observations()?, self.mean)?;
        moment.check_latent_dim(self.latent_dim)?;
        let weight = self.weight.as_f64() / moment.count() as f64;
        let Fitted { model, trace, stop } = match weight > 0.0 {
            true => fitter.fit_weighted(&moment, self.latent_dim, weight, &mut rng)?,
            false => fitter.fit(&moment, self.latent_dim, &mut rng)?,
        };
        Ok(Fitted {
            model: self.assemble(&model.encoder, &model.decoder, moment.mean())?,
            trace,
            stop,
        })
    }

    /// The two maps about the mean: z = U(x − μ), x' = Wz + μ.
    fn assemble(
        &self,
        encoder: &DMatrix<f64>,
        decoder: &DMatrix<f64>,
        mean: &DVector<f64>,
    ) -> Result<LinearAutoencoder<T>> {
        let encoder = Linear::about(encoder, &-(encoder * mean), self.mean)?;
        let decoder = Linear::about(decoder, mean, self.mean)?;
        Ok(LinearAutoencoder::from_slots(
            decoder,
            Noiseless,
            Amortized::new(PointEncoder::new(encoder)),
        ))
    }
}
