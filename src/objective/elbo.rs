//! The evidence lower bound, by its formula and by draws.

use super::{DifferentiableObjective, Gradient, Objective};
use crate::inference::DifferentiableInference;
use crate::likelihood::Likelihood;
use crate::linalg::vector::fill_standard_normal;
use crate::linalg::{gemm, r_factor, reshape};
use crate::map::{DifferentiableMap, Parameters};
use crate::model::{ExpectedLogLikelihood, GenerativeModel, LinearGaussian, ProbabilisticModel};
use crate::posterior::{GaussianPosterior, Posterior, PosteriorFamily};
use crate::{Error, Observations, Real, Result};
use nalgebra::{DMatrix, DVector};
use rand::Rng;

/// J(θ, Q) = Σ_i E_{q_i} log p(x_i|z_i) − KL(q_i ‖ π), the lecture's J.
///
/// The type parameter says how the expectation is taken: [`ClosedForm`], or [`Reparameterization`],
/// or [`PathDerivative`](super::PathDerivative). The KL is in closed form in all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Elbo<E = ClosedForm> {
    pub(super) estimator: E,
}

/// The expectation is an exact formula: a linear decoder with Gaussian noise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ClosedForm;

/// The expectation is a mean over draws z_i = μ_i + L_i ε_i, ε_i ~ N(0, I): unbiased, and
/// differentiable through z.
///
/// The factor of ε is the standard deviation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reparameterization {
    /// Draws for each observation.
    pub samples: usize,
}

impl Default for Reparameterization {
    fn default() -> Self {
        Self { samples: 1 }
    }
}

/// The two readable terms of J, one entry an observation; J_i is the first plus the second.
#[derive(Debug, Clone, PartialEq)]
pub struct ElboTerms<T: Real> {
    /// E_{q_i} log p(x_i|z_i) in nats.
    pub reconstruction: DVector<T>,
    /// E_{q_i} log π(z_i)/q_i(z_i) = −KL(q_i ‖ π) in nats.
    pub negative_kl: DVector<T>,
}

impl<T: Real> ElboTerms<T> {
    /// J_i in nats, one entry an observation.
    pub fn values(&self) -> DVector<T> {
        &self.reconstruction + &self.negative_kl
    }
}

/// Nothing can be estimated from no draws.
pub(crate) fn check_draws(samples: usize) -> Result<()> {
    match samples {
        0 => Err(Error::InvalidParameter {
            name: "the number of draws of ε",
            value: 0.0,
            must: "at least 1",
        }),
        _ => Ok(()),
    }
}

impl Elbo<ClosedForm> {
    /// The bound with an exact expectation.
    pub fn closed_form() -> Self {
        Self { estimator: ClosedForm }
    }

    /// The two terms of each observation.
    ///
    /// # Errors
    /// [`Error::DimensionMismatch`](crate::Error::Dimension).
    pub fn terms<T: Real, M, Q>(
        &self,
        model: &M,
        q: &Q,
        x: Observations<'_, T>,
    ) -> Result<ElboTerms<T>>
    where
        M: ExpectedLogLikelihood<T, Q>,
        Q: GaussianPosterior<T>,
    {
        Ok(ElboTerms {
            reconstruction: model.expected_log_likelihood(x, q)?,
            negative_kl: -q.kl_to_prior(),
        })
    }
}

impl Elbo<Reparameterization> {
    /// The bound by `samples` draws for each observation, at least 1.
    pub fn reparameterized(samples: usize) -> Self {
        Self { estimator: Reparameterization { samples: samples.max(1) } }
    }

    /// The two terms of each observation; the first is a mean over draws.
    ///
    /// # Errors
    /// [`Error::DimensionMismatch`](crate::Error::Dimension).
    pub fn terms<T: Real, M, Q, R>(
        &self,
        model: &M,
        q: &Q,
        x: Observations<'_, T>,
        rng: &mut R,
    ) -> Result<ElboTerms<T>>
    where
        M: ProbabilisticModel<T>,
        Q: GaussianPosterior<T>,
        R: Rng + ?Sized,
    {
        let mut sum = DVector::zeros(x.len());
        let mut z = DMatrix::zeros(q.latent_dim(), q.len());
        for _ in 0..self.estimator.samples {
            let noise = DMatrix::from_fn(q.latent_dim(), q.len(), |_, _| T::standard_normal(rng));
            q.transform(noise.as_view(), &mut z);
            sum += model.log_density_given(x, z.as_view())?;
        }
        Ok(ElboTerms {
            reconstruction: sum / T::of_usize(self.estimator.samples),
            negative_kl: -q.kl_to_prior(),
        })
    }
}

impl<T: Real, M, Q> Objective<T, M, Q> for Elbo<ClosedForm>
where
    M: ExpectedLogLikelihood<T, Q>,
    Q: GaussianPosterior<T>,
{
    fn evaluate(&self, model: &M, q: &Q, x: Observations<'_, T>, _rng: &mut dyn Rng) -> Result<T> {
        Ok(self.terms(model, q, x)?.values().sum() * x.scale())
    }
}

impl<T: Real, M, Q> Objective<T, M, Q> for Elbo<Reparameterization>
where
    M: ProbabilisticModel<T>,
    Q: GaussianPosterior<T>,
{
    fn evaluate(&self, model: &M, q: &Q, x: Observations<'_, T>, rng: &mut dyn Rng) -> Result<T> {
        Ok(self.terms(model, q, x, rng)?.values().sum() * x.scale())
    }
}

/// Which derivative is asked for, and where that of E_q log π/q comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Derivative {
    /// J alone: nothing is carried back.
    None,
    /// The formula of the KL.
    Formula,
    /// log π(z) − log q(z) at the draws, by z alone.
    AlongThePath,
}

/// Buffers of the bound's gradient.
#[derive(Debug, Clone)]
pub struct ElboWorkspace<T: Real, E, D> {
    encoder: E,
    decoder: D,
    phi: DMatrix<T>,
    d_phi: DMatrix<T>,
    noise: DMatrix<T>,
    z: DMatrix<T>,
    d_z: DMatrix<T>,
    d_output: DMatrix<T>,
    d_theta: Vec<T>, // of the draws after the first
}

impl<T: Real, E: Default, D: Default> Default for ElboWorkspace<T, E, D> {
    fn default() -> Self {
        let empty = || DMatrix::zeros(0, 0);
        Self {
            encoder: E::default(),
            decoder: D::default(),
            phi: empty(),
            d_phi: empty(),
            noise: empty(),
            z: empty(),
            d_z: empty(),
            d_output: empty(),
            d_theta: Vec::new(),
        }
    }
}

impl Elbo<Reparameterization> {
    /// The number of draws for each observation.
    pub fn samples(&self) -> usize {
        self.estimator.samples
    }

    /// J and its gradient for noise of the caller's: `noise` fills ε (k×n, by columns) once for
    /// each draw.
    ///
    /// Noise that is the same from call to call makes J a smooth function of θ and φ; so does noise
    /// from another program make the two comparable.
    ///
    /// # Errors
    /// [`Error::DimensionMismatch`](crate::Error::Dimension) when model, inference and x do not fit
    /// each other.
    pub fn value_and_gradient_at<T, D, L, I>(
        &self,
        model: &GenerativeModel<D, L>,
        inference: &I,
        x: Observations<'_, T>,
        noise: impl FnMut(&mut [T]),
        workspace: &mut ElboWorkspace<T, I::Tape, D::Tape>,
        gradient: &mut Gradient<T>,
    ) -> Result<T>
    where
        T: Real,
        D: DifferentiableMap<T>,
        L: Likelihood<T>,
        I: DifferentiableInference<T>,
    {
        self.through_draws(Derivative::Formula, model, inference, x, noise, workspace, gradient)
    }

    /// The same with either way to the derivative of the divergence, or without one.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn through_draws<T, D, L, I>(
        &self,
        derivative: Derivative,
        model: &GenerativeModel<D, L>,
        inference: &I,
        x: Observations<'_, T>,
        mut noise: impl FnMut(&mut [T]),
        workspace: &mut ElboWorkspace<T, I::Tape, D::Tape>,
        gradient: &mut Gradient<T>,
    ) -> Result<T>
    where
        T: Real,
        D: DifferentiableMap<T>,
        L: Likelihood<T>,
        I: DifferentiableInference<T>,
    {
        x.expect_dim(model.decoder.output_dim())?;
        let w = workspace;
        let q = inference.forward(
            x,
            &mut w.encoder,
            std::mem::replace(&mut w.phi, DMatrix::zeros(0, 0)),
        )?;
        let (k, n) = (q.latent_dim(), q.len());
        let decoder_count = model.decoder.parameters().len();
        let theta_count = decoder_count + model.likelihood.parameters().len();
        gradient.theta.resize(theta_count, T::zero());
        gradient.phi.resize(inference.parameters().len(), T::zero());
        reshape(&mut w.d_phi, q.parameters().nrows(), n);
        for buffer in [&mut w.noise, &mut w.z] {
            reshape(buffer, k, n);
        }
        let samples = self.estimator.samples;
        let scale = x.scale() / T::of_usize(samples);
        let mut value = T::zero();
        let mut kl = None;
        if samples > 1 {
            w.d_theta.resize(theta_count, T::zero());
        }
        for sample in 0..samples {
            noise(w.noise.as_mut_slice());
            q.transform(w.noise.as_view(), &mut w.z);
            let target = if sample == 0 { &mut gradient.theta } else { &mut w.d_theta };
            let (d_decoder, d_likelihood) = target.split_at_mut(decoder_count);
            let output = model.decoder.forward(w.z.as_view(), &mut w.decoder);
            value += model.likelihood.log_density_gradient(
                x.values(),
                output,
                scale,
                &mut w.d_output,
                d_likelihood,
            );
            if derivative == Derivative::None {
                continue;
            }
            model.decoder.backward(
                w.z.as_view(),
                &mut w.decoder,
                w.d_output.as_view(),
                d_decoder,
                Some(&mut w.d_z),
            );
            if derivative == Derivative::AlongThePath {
                w.d_z.zip_apply(&w.z, |d: &mut T, z| *d -= scale * z);
                q.add_negative_score(w.z.as_view(), scale, &mut w.d_z)?;
            }
            let (noise, d_z) = (w.noise.as_view(), w.d_z.as_view());
            if sample == 0 && derivative == Derivative::Formula {
                kl = Some(q.bound_gradient(noise, d_z, x.scale(), &mut w.d_phi));
                continue;
            }
            if sample == 0 {
                w.d_phi.as_mut_slice().fill(T::zero());
            }
            q.add_transform_gradient(noise, d_z, &mut w.d_phi);
            if sample > 0 {
                gradient.theta.iter_mut().zip(&w.d_theta).for_each(|(sum, &more)| *sum += more);
            }
        }
        value -= kl.unwrap_or_else(|| q.kl_to_prior_sum()) * x.scale();
        if derivative != Derivative::None {
            inference.backward(x, &mut w.encoder, &w.d_phi, &mut gradient.phi);
        }
        w.phi = q.into_parameters();
        Ok(value)
    }
}

/// The gradient by the reparameterisation trick: through the likelihood, the decoder, z = μ + Lε,
/// and the encoder.
impl<T, D, L, I> DifferentiableObjective<T, GenerativeModel<D, L>, I> for Elbo<Reparameterization>
where
    T: Real,
    D: DifferentiableMap<T>,
    L: Likelihood<T>,
    I: DifferentiableInference<T>,
{
    type Workspace = ElboWorkspace<T, I::Tape, D::Tape>;

    fn value_and_gradient(
        &self,
        model: &GenerativeModel<D, L>,
        inference: &I,
        x: Observations<'_, T>,
        rng: &mut dyn Rng,
        workspace: &mut Self::Workspace,
        gradient: &mut Gradient<T>,
    ) -> Result<T> {
        let draw = |noise: &mut [T]| fill_standard_normal(noise, rng);
        self.value_and_gradient_at(model, inference, x, draw, workspace, gradient)
    }

    fn value(
        &self,
        model: &GenerativeModel<D, L>,
        inference: &I,
        x: Observations<'_, T>,
        rng: &mut dyn Rng,
        workspace: &mut Self::Workspace,
        unused: &mut Gradient<T>,
    ) -> Result<T> {
        let draw = |noise: &mut [T]| fill_standard_normal(noise, rng);
        self.through_draws(Derivative::None, model, inference, x, draw, workspace, unused)
    }
}

/// The exact gradient where the expectation is a formula: a linear decoder with Gaussian noise.
impl<T, I> DifferentiableObjective<T, LinearGaussian<T>, I> for Elbo<ClosedForm>
where
    T: Real,
    I: DifferentiableInference<T>,
{
    type Workspace =
        ElboWorkspace<T, I::Tape, <crate::map::Linear<T> as DifferentiableMap<T>>::Tape>;

    fn value_and_gradient(
        &self,
        model: &LinearGaussian<T>,
        inference: &I,
        x: Observations<'_, T>,
        _rng: &mut dyn Rng,
        workspace: &mut Self::Workspace,
        gradient: &mut Gradient<T>,
    ) -> Result<T> {
        x.expect_dim(model.decoder.output_dim())?;
        let w = workspace;
        let q = inference.forward(
            x,
            &mut w.encoder,
            std::mem::replace(&mut w.phi, DMatrix::zeros(0, 0)),
        )?;
        let (d, k, scale) = (x.data_dim(), q.latent_dim(), x.scale());
        let (half, variance) = (T::of(0.5), model.noise_variance());
        let decoder_count = model.decoder.parameters().len();
        gradient.theta.resize(decoder_count + model.likelihood.parameters().len(), T::zero());
        gradient.phi.resize(inference.parameters().len(), T::zero());
        let (d_decoder, d_likelihood) = gradient.theta.split_at_mut(decoder_count);
        // The likelihood at the mean code, and its derivative: the part that the covariance of q
        // does not bear.
        let output = model.decoder.forward(q.mean(), &mut w.decoder);
        let at_mean = model.likelihood.log_density_gradient(
            x.values(),
            output,
            scale,
            &mut w.d_output,
            d_likelihood,
        );
        model.decoder.backward(
            q.mean(),
            &mut w.decoder,
            w.d_output.as_view(),
            d_decoder,
            Some(&mut w.d_z),
        );
        // The part that it does: −tr(WᵗW Σ Cov_i)/2σ².
        let root = r_factor(model.loadings())?;
        let weight = scale / variance;
        let spread = weight * q.trace_with(root.map(|v| v.as_f64()).as_view()).sum();
        let covariances = q.covariance_sum();
        let d_weights = nalgebra::DMatrixViewMut::from_slice(&mut d_decoder[..d * k], d, k);
        gemm(-weight, model.loadings(), covariances.as_view(), T::one(), d_weights);
        if let Some(d_log_variance) = d_likelihood.first_mut() {
            *d_log_variance += half * spread;
        }
        reshape(&mut w.d_phi, q.parameters().nrows(), q.len());
        w.d_phi.as_mut_slice().fill(T::zero());
        w.d_phi.rows_mut(0, k).copy_from(&w.d_z);
        q.add_negative_half_trace_gradient(root.as_view(), weight, &mut w.d_phi);
        q.add_negative_kl_gradient(scale, &mut w.d_phi);
        let kl = q.kl_to_prior_sum() * scale;
        inference.backward(x, &mut w.encoder, &w.d_phi, &mut gradient.phi);
        w.phi = q.into_parameters();
        Ok(at_mean - half * spread - kl)
    }
}
