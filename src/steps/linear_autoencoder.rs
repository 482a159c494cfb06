//! Step 1: the linear autoencoder, z = Ux and x' = Wz.

use super::Model;
use super::apply::SquaredErrorOf;
use super::closed_form::closed_form_fits;
use super::fit_methods::{deterministic_fit, fit_methods};
use crate::data::{Centering, Data, Dense, Moments, ScatterFactor};
use crate::fit::closed_form::Principal;
use crate::fit::{AutoencoderDescent, FitData, Fitted, Observer, Solver};
use crate::inference::{Amortized, PointEncoder};
use crate::likelihood::Noiseless;
use crate::map::Linear;
use crate::objective::check_weight;
use crate::{Real, Result};
use nalgebra::{DMatrix, DMatrixView, DVector};
use rand::Rng;

/// The linear autoencoder: an encoder U (k×d) and a decoder W (d×k) without a density.
///
/// ```math
/// \min_{U, W}\; \sum_i \lVert x_i - W U x_i \rVert^2
/// ```
///
/// Fitted in closed form unless another [fitter](LinearAutoencoderBuilder::fitter) is set. It takes
/// complete, weighted and sparse data, [moments](crate::data::Moments) and
/// [sources](crate::data::Source).
///
/// ```
/// use elbo::LinearAutoencoder;
/// let x = nalgebra::dmatrix![
///     1.0_f64, 2.0, 3.0, 4.0, 5.0, 6.0;
///     2.1, 3.9, 6.2, 7.8, 10.1, 11.9;
///     0.3, 0.1, 0.2, 0.3, 0.1, 0.2];
/// let model = LinearAutoencoder::fit(1, &x)?.model;
/// let error = (&x - model.reconstruct(&x)?).norm_squared();
/// assert!((model.squared_error(&x)? - error).abs() < 1e-12);
/// // U is the transpose of W: WU is an orthogonal projection.
/// assert!((model.encoder_weights().transpose() - model.decoder_weights()).norm() < 1e-12);
/// # Ok::<(), elbo::Error>(())
/// ```
pub type LinearAutoencoder<T = f64> =
    Model<T, Linear<T>, Noiseless, Amortized<PointEncoder<Linear<T>>>>;

impl<T: Real> LinearAutoencoder<T> {
    /// Returns a builder with k latent dimensions.
    pub fn builder(latent_dim: usize) -> LinearAutoencoderBuilder<T> {
        LinearAutoencoderBuilder {
            latent_dim,
            mean: Centering::Mean,
            regularization: T::zero(),
            fitter: LinearAutoencoderFitter::ClosedForm(Solver::Auto),
        }
    }

    /// The encoder's weights U, k×d.
    pub fn encoder_weights(&self) -> DMatrixView<'_, T> {
        self.inference.encoder.map.weights()
    }

    /// The decoder's weights W, d×k.
    pub fn decoder_weights(&self) -> DMatrixView<'_, T> {
        self.generative.decoder.weights()
    }

    /// The total squared reconstruction error Σ_i ‖x_i − x'_i‖² of dense or sparse data.
    ///
    /// # Errors
    /// Those of [`Observations::new`](crate::Observations::new), and
    /// [`Error::DimensionMismatch`](crate::Error::DimensionMismatch).
    pub fn squared_error<X: Data<T>>(&self, x: X) -> Result<T>
    where
        Self: SquaredErrorOf<T, X::Form>,
    {
        self.squared_error_form(x.into_form()?)
    }
}

deterministic_fit! {
    /// Fits a linear autoencoder with k latent dimensions in closed form, about the mean: W = U_k,
    /// the leading eigenvectors of the covariance, and U = Wᵗ.
    ///
    /// The minimum is n Σ_{j>k} λ_j, and every other critical point is a saddle
    /// ([Baldi & Hornik 1989](https://doi.org/10.1016/0893-6080(89)90014-2)).
    LinearAutoencoder, LinearAutoencoderBuilder
}

/// Algorithm of a fit of [`LinearAutoencoder`].
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum LinearAutoencoderFitter {
    /// The closed form, with the principal components from a [`Solver`].
    ClosedForm(Solver),
    /// Gradient descent from random weights.
    Descent(AutoencoderDescent),
}

impl From<Solver> for LinearAutoencoderFitter {
    fn from(solver: Solver) -> Self {
        Self::ClosedForm(solver)
    }
}

impl From<AutoencoderDescent> for LinearAutoencoderFitter {
    fn from(fitter: AutoencoderDescent) -> Self {
        Self::Descent(fitter)
    }
}

/// Builder of a fit of [`LinearAutoencoder`].
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LinearAutoencoderBuilder<T: Real> {
    pub(super) latent_dim: usize,
    pub(super) mean: Centering,
    regularization: T,
    fitter: LinearAutoencoderFitter,
}

fit_methods!([T: Real] T, LinearAutoencoderBuilder<T> => LinearAutoencoder<T>);
closed_form_fits!(LinearAutoencoderBuilder, LinearAutoencoder);

impl<T: Real> LinearAutoencoderBuilder<T> {
    /// Sets the mean: subtracted before encoding and added after decoding (default), or fixed at 0
    /// as in the lecture.
    pub fn centering(self, centering: Centering) -> Self {
        Self { mean: centering, ..self }
    }

    /// Sets the algorithm: a [`Solver`] of the closed form (default [`Solver::Auto`]), or
    /// [`AutoencoderDescent`], an independent route to the same subspace, and with L2
    /// regularisation to the same maps, up to a rotation of z. The trace of the descent holds minus
    /// the squared error per observation, and minus the weighted norms over n.
    pub fn fitter(self, fitter: impl Into<LinearAutoencoderFitter>) -> Self {
        Self { fitter: fitter.into(), ..self }
    }

    /// Sets the weight ρ of L2 regularisation of both maps: ρ(‖U‖² + ‖W‖²) is added to the squared
    /// error; 0 by default.
    ///
    /// With it U = Wᵗ at the minimum, and the left singular vectors of W are the principal
    /// components, of which W only spans the subspace without it
    /// ([Kunin et al. 2019](https://arxiv.org/abs/1901.08168)).
    pub fn l2_regularization(self, weight: T) -> Self {
        Self { regularization: weight, ..self }
    }

    pub(super) fn check_settings(&self) -> Result<()> {
        check_weight(self.regularization)
    }

    /// The solver of the closed form; `None` for the descent.
    fn solver(&self) -> Option<Solver> {
        match self.fitter {
            LinearAutoencoderFitter::ClosedForm(solver) => Some(solver),
            LinearAutoencoderFitter::Descent(_) => None,
        }
    }

    /// Both maps from the principal components: W = U_k diag(1 − ρ/(nλ_j))₊^½ and U = Wᵗ.
    pub(super) fn assemble_principal(&self, principal: Principal) -> Result<LinearAutoencoder<T>> {
        // Codes are Ux − Uμ in the precision of the data: beside an offset they need digits.
        let smallest = principal.variances.min();
        principal.rounding::<T>().check_affine(smallest, &principal.mean)?;
        let (count, weight) = (principal.weight, self.regularization.as_f64());
        let mut decoder = principal.directions;
        for (mut column, &variance) in decoder.column_iter_mut().zip(principal.variances.iter()) {
            let shrinkage = if weight > 0.0 { 1.0 - weight / (count * variance) } else { 1.0 };
            column *= shrinkage.max(0.0).sqrt();
        }
        self.assemble(&decoder.transpose(), &decoder, &principal.mean)
    }

    fn fit_moments(
        &self,
        moments: &Moments,
        rng: &mut dyn Rng,
        observer: &mut dyn Observer,
    ) -> Result<Fitted<LinearAutoencoder<T>>> {
        self.check_settings()?;
        let moment = moments.scatter_factor(self.mean)?;
        match self.fitter {
            LinearAutoencoderFitter::ClosedForm(solver) => {
                let weight = moments.weight();
                self.solved(Principal::of_root(&moment, weight, self.latent_dim, solver)?)
            }
            LinearAutoencoderFitter::Descent(fitter) => {
                self.descend(fitter, &moment, rng, observer)
            }
        }
    }

    fn descend(
        &self,
        fitter: AutoencoderDescent,
        moment: &ScatterFactor,
        rng: &mut dyn Rng,
        observer: &mut dyn Observer,
    ) -> Result<Fitted<LinearAutoencoder<T>>> {
        moment.check_latent_dim(self.latent_dim)?;
        let (k, weight) = (self.latent_dim, self.regularization.as_f64() / moment.count() as f64);
        let fitted = if weight > 0.0 {
            fitter.fit_regularized(moment, k, weight, rng, observer)?
        } else {
            fitter.fit(moment, k, rng, observer)?
        };
        fitted.try_map(|maps| self.assemble(&maps.encoder, &maps.decoder, moment.mean()))
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
        let inference = Amortized::new(PointEncoder::new(encoder));
        LinearAutoencoder::new(decoder, Noiseless, inference)
    }
}

impl<'a, T: Real> FitData<Dense<'a, T>> for LinearAutoencoderBuilder<T> {
    type Model = LinearAutoencoder<T>;

    fn fit_form(
        &self,
        x: Dense<'a, T>,
        rng: &mut dyn Rng,
        observer: &mut dyn Observer,
    ) -> Result<Fitted<LinearAutoencoder<T>>> {
        self.check_settings()?;
        match self.fitter {
            LinearAutoencoderFitter::ClosedForm(solver) => {
                self.solved(Principal::of(x, self.mean, self.latent_dim, solver)?)
            }
            LinearAutoencoderFitter::Descent(fitter) => {
                let moment = ScatterFactor::of(x.validate()?, self.mean)?;
                self.descend(fitter, &moment, rng, observer)
            }
        }
    }
}
