//! Objective of the autoencoder: the negative squared error of the reconstruction, with L2
//! regularisation.

use super::{DifferentiableObjective, Gradient, Objective};
use crate::inference::{Amortized, PointEncoder};
use crate::linalg::reshape;
use crate::map::DifferentiableMap;
use crate::model::{Decoder, GenerativeModel, LatentModel};
use crate::posterior::Posterior;
use crate::{Error, Observations, Real, Result};
use nalgebra::DMatrix;
use rand::Rng;

/// The negative squared error with L2 regularisation, J = −Σ_i ‖x_i − decoder(m_i)‖² − ρ(‖θ‖² +
/// ‖φ‖²), where m_i is the code of x_i; ρ is 0 by default.
///
/// The regularisation applies to the weights of encoder and decoder, not to their biases.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct SquaredError<T> {
    weight: T,
}

impl<T: Real> SquaredError<T> {
    /// The squared error without regularisation.
    pub fn new() -> Self {
        Self { weight: T::zero() }
    }

    /// The squared error with L2 regularisation of encoder and decoder, of weight ρ.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`](crate::Error::InvalidParameter) for a weight that is negative or
    /// not finite.
    pub fn with_weight(weight: T) -> Result<Self> {
        check_weight(weight)?;
        Ok(Self { weight })
    }
}

/// Returns an error for an L2 weight that is negative or not finite.
pub(crate) fn check_weight<T: Real>(weight: T) -> Result<()> {
    if weight >= T::zero() && weight.is_finite() {
        return Ok(());
    }
    Err(Error::InvalidParameter {
        name: "the weight on the maps",
        value: weight.as_f64(),
        must: "finite and not negative",
    })
}

impl<T: Real, M: LatentModel<T>, Q: Posterior<T>> Objective<T, M, Q> for SquaredError<T> {
    /// The squared error alone: the regularisation depends on the encoder's weights, which cannot
    /// be seen from its codes.
    fn evaluate(&self, model: &M, q: &Q, x: Observations<'_, T>, _rng: &mut dyn Rng) -> Result<T> {
        x.expect_dim(model.decoder().observed_dim())?;
        Ok(-model.decoder().residuals(q.mean(), x.values()).norm_squared() * x.scale())
    }
}

/// Buffers of [`SquaredError`], reused between calls.
#[derive(Debug, Clone)]
pub struct SquaredErrorWorkspace<T: Real, E, D> {
    encoder: E,
    decoder: D,
    d_output: DMatrix<T>,
    d_code: DMatrix<T>,
}

impl<T: Real, E: Default, D: Default> Default for SquaredErrorWorkspace<T, E, D> {
    fn default() -> Self {
        Self {
            encoder: E::default(),
            decoder: D::default(),
            d_output: DMatrix::zeros(0, 0),
            d_code: DMatrix::zeros(0, 0),
        }
    }
}

impl<T: Real, D, L, F> DifferentiableObjective<T, GenerativeModel<D, L>, Amortized<PointEncoder<F>>>
    for SquaredError<T>
where
    D: DifferentiableMap<T>,
    F: DifferentiableMap<T>,
{
    type Workspace = SquaredErrorWorkspace<T, F::Tape, D::Tape>;

    fn value_and_gradient(
        &self,
        model: &GenerativeModel<D, L>,
        inference: &Amortized<PointEncoder<F>>,
        x: Observations<'_, T>,
        _rng: &mut dyn Rng,
        workspace: &mut Self::Workspace,
        gradient: &mut Gradient<T>,
    ) -> Result<T> {
        let encoder = &inference.encoder.map;
        x.expect_dim(encoder.input_dim())?;
        let SquaredErrorWorkspace {
            encoder: encoder_tape,
            decoder: decoder_tape,
            d_output,
            d_code,
        } = workspace;
        let codes = encoder.forward(x.values(), encoder_tape);
        let output = model.decoder.forward(codes, decoder_tape);
        reshape(d_output, output.nrows(), output.ncols());
        // d/dy of −(x − y)² is 2(x − y).
        let weight = T::of(2.0) * x.scale();
        let mut total = T::zero();
        for ((mut d, x), y) in
            d_output.column_iter_mut().zip(x.values().column_iter()).zip(output.column_iter())
        {
            // A partial sum for each observation: with one running sum over d·n terms, rounding in
            // f32 would grow with n.
            let mut own = T::zero();
            for ((d, &x), &y) in d.iter_mut().zip(x.iter()).zip(y.iter()) {
                let error = x - y;
                *d = weight * error;
                own += error * error;
            }
            total += own;
        }
        gradient.theta.resize(model.decoder.parameters().len(), T::zero());
        gradient.phi.resize(encoder.parameters().len(), T::zero());
        model.decoder.backward(
            codes,
            decoder_tape,
            d_output.as_view(),
            &mut gradient.theta,
            Some(d_code),
        );
        encoder.backward(x.values(), encoder_tape, d_code.as_view(), &mut gradient.phi, None);
        // L2 regularisation. A map's parameters are its weights by columns and then its bias, so
        // that the first output·input entries are the weights.
        let mut penalty = T::zero();
        if self.weight > T::zero() {
            let theta = (
                model.decoder.parameters(),
                &mut gradient.theta,
                model.decoder.output_dim() * model.decoder.input_dim(),
            );
            let phi = (
                encoder.parameters(),
                &mut gradient.phi,
                encoder.output_dim() * encoder.input_dim(),
            );
            for (parameters, gradient, weights) in [theta, phi] {
                for (&p, g) in parameters.iter().zip(gradient.iter_mut()).take(weights) {
                    penalty += p * p;
                    *g -= T::of(2.0) * self.weight * p;
                }
            }
        }
        Ok(-total * x.scale() - self.weight * penalty)
    }
}
