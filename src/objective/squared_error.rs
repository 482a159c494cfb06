//! The autoencoder's objective: minus the squared error of the reconstruction.

use super::{DifferentiableObjective, Gradient, Objective};
use crate::inference::{Amortized, PointEncoder};
use crate::linalg::reshape;
use crate::map::DifferentiableMap;
use crate::model::{Decoder, GenerativeModel, LatentModel};
use crate::posterior::Posterior;
use crate::{Error, Observations, Real, Result};
use nalgebra::DMatrix;
use rand::Rng;

/// J = −Σ_i ‖x_i − decoder(m_i)‖² − ρ(‖θ‖² + ‖φ‖²), with the codes m_i that the encoder gives; the
/// weight ρ is 0 unless it is set.
///
/// The weight falls on the maps' weights, not on their biases.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct SquaredError<T> {
    weight: T,
}

impl<T: Real> SquaredError<T> {
    /// Without a weight on the maps.
    pub fn new() -> Self {
        Self { weight: T::zero() }
    }

    /// The weight ρ on the squared norm of both maps.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`](crate::Error::Setting) for a weight that is negative or not
    /// finite.
    pub fn with_weight(weight: T) -> Result<Self> {
        check_weight(weight)?;
        Ok(Self { weight })
    }
}

/// Refuses a weight on the maps that is negative or not finite.
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
    /// Without the weight on the maps, which the codes do not show.
    fn evaluate(&self, model: &M, q: &Q, x: Observations<'_, T>, _rng: &mut dyn Rng) -> Result<T> {
        x.expect_dim(model.decoder().observed_dim())?;
        Ok(-model.decoder().residuals(q.mean(), x.values()).norm_squared() * x.scale())
    }
}

/// Buffers of [`SquaredError`].
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
        let weight = T::of(2.0) * x.scale();
        let mut total = T::zero();
        for ((mut d, x), y) in
            d_output.column_iter_mut().zip(x.values().column_iter()).zip(output.column_iter())
        {
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
