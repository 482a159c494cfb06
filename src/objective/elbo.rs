//! The evidence lower bound (ELBO), in closed form and by Monte Carlo.

use super::{DifferentiableObjective, Gradient, Objective};
use crate::inference::DifferentiableInference;
use crate::likelihood::{Likelihood, Weights};
use crate::linalg::vector::fill_standard_normal;
use crate::linalg::{gemm, r_factor, reshape};
use crate::map::{DifferentiableMap, Parameters};
use crate::model::{ExpectedLogLikelihood, GenerativeModel, LinearGaussian, ProbabilisticModel};
use crate::posterior::{GaussianPosterior, Posterior, PosteriorFamily};
use crate::prior::{Prior, add_log_ratio_gradient, log_ratio_sum};
use crate::{Error, Observations, Real, Result};
use nalgebra::{DMatrix, DVector};
use rand::Rng;

/// The evidence lower bound (ELBO): J(θ, Q) = Σ_i E_{q_i} log p(x_i|z_i) − KL(q_i ‖ π).
///
/// The type parameter selects the estimator of the expectation: [`ClosedForm`],
/// [`Reparameterization`] or [`PathDerivative`](super::PathDerivative). The Kullback–Leibler
/// divergence (KL) from the prior is in closed form in all three.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Elbo<E = ClosedForm> {
    pub(super) estimator: E,
}

/// Estimator of the ELBO's expectation in closed form: exact, for a linear decoder with Gaussian
/// noise. Under [`Independent`](crate::likelihood::Independent) variables a one-dimensional
/// quadrature to 1e-10 counts as a closed form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ClosedForm;

/// Monte Carlo estimator of the ELBO's expectation with the reparameterisation z_i = μ_i + L_i ε_i,
/// ε_i ~ N(0, I): unbiased, and differentiable through z.
///
/// L_i is a square-root factor of the covariance: a standard deviation, not a variance ([Kingma &
/// Welling 2014](https://arxiv.org/abs/1312.6114)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reparameterization {
    /// Monte Carlo samples for each observation.
    pub samples: usize,
}

impl Default for Reparameterization {
    fn default() -> Self {
        // One sample is the usual choice in training: the mini-batch averages the noise (Kingma &
        // Welling 2014, section 2.3).
        Self { samples: 1 }
    }
}

/// The two terms of the ELBO, one entry per observation: the expected log-likelihood and −KL. J_i
/// is their sum.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ElboTerms<T: Real> {
    /// E_{q_i} log p(x_i|z_i) in nats.
    pub reconstruction: DVector<T>,
    /// E_{q_i} log π(z_i)/q_i(z_i) = −KL(q_i ‖ π) in nats; for another prior than N(0, I), that to
    /// N(0, I) is in closed form, and the rest is a mean over Monte Carlo samples.
    pub negative_kl: DVector<T>,
}

impl<T: Real> ElboTerms<T> {
    /// J_i in nats, one entry per observation.
    pub fn values(&self) -> DVector<T> {
        &self.reconstruction + &self.negative_kl
    }
}

/// Returns an error if the number of Monte Carlo samples is 0.
pub(crate) fn check_samples(samples: usize) -> Result<()> {
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
    /// The ELBO with its expectation in closed form.
    pub fn closed_form() -> Self {
        Self { estimator: ClosedForm }
    }

    /// The two terms of the ELBO, one entry per observation.
    ///
    /// # Errors
    /// [`Error::DimensionMismatch`](crate::Error::DimensionMismatch).
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
    /// The ELBO estimated with `samples` Monte Carlo samples for each observation (at least 1).
    pub fn reparameterized(samples: usize) -> Self {
        Self { estimator: Reparameterization { samples: samples.max(1) } }
    }

    /// The two terms of the ELBO, one entry per observation; the first is a mean over Monte Carlo
    /// samples.
    ///
    /// # Errors
    /// [`Error::DimensionMismatch`](crate::Error::DimensionMismatch).
    pub fn terms<T: Real, M, Q>(
        &self,
        model: &M,
        q: &Q,
        x: Observations<'_, T>,
        rng: &mut dyn Rng,
    ) -> Result<ElboTerms<T>>
    where
        M: ProbabilisticModel<T>,
        Q: GaussianPosterior<T>,
    {
        let mut sum = DVector::zeros(x.len());
        let mut of_prior = DVector::zeros(x.len());
        let mut z = DMatrix::zeros(q.latent_dim(), q.len());
        for _ in 0..self.estimator.samples {
            let noise = DMatrix::from_fn(q.latent_dim(), q.len(), |_, _| T::standard_normal(rng));
            q.transform(noise.as_view(), &mut z);
            sum += model.log_density_given(x, z.as_view())?;
            if let Some(ratio) = model.log_prior_ratio(z.as_view()) {
                of_prior += ratio;
            }
        }
        Ok(ElboTerms {
            reconstruction: sum / T::of_usize(self.estimator.samples),
            negative_kl: of_prior / T::of_usize(self.estimator.samples) - q.kl_to_prior(),
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

/// Which derivative to compute, and which estimator to use for that of E_q log π/q.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Derivative {
    /// None: J alone, without a backward pass.
    None,
    /// The derivative of the closed-form KL.
    Formula,
    /// The derivative of log π(z) − log q(z) at the samples, through z alone.
    AlongThePath,
}

/// Buffers reused between evaluations of the ELBO and its gradient.
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
    // The gradient by θ of every sample after the first; the first writes into the result.
    d_theta: Vec<T>,
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
    /// The number of Monte Carlo samples for each observation.
    pub fn samples(&self) -> usize {
        self.estimator.samples
    }

    /// J and its gradient for noise from the caller: `noise` fills ε (k×n, by columns) once for
    /// each sample.
    ///
    /// With the same noise in each call, J is a smooth function of θ and φ (common random numbers).
    /// With the noise of another program, the results of the two programs can be compared.
    ///
    /// # Errors
    /// [`Error::DimensionMismatch`](crate::Error::DimensionMismatch) when model, inference and x do
    /// not fit each other.
    pub fn value_and_gradient_at<T, D, L, P, I>(
        &self,
        model: &GenerativeModel<D, L, P>,
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
        P: Prior<T>,
        I: DifferentiableInference<T>,
    {
        self.monte_carlo_gradient(
            Derivative::Formula,
            T::one(),
            model,
            inference,
            x,
            &mut noise,
            workspace,
            gradient,
        )
    }

    /// J and, unless `derivative` is [`Derivative::None`], its gradient, with the chosen estimator
    /// of the derivative of the divergence, which `kl_weight` multiplies in the gradient.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn monte_carlo_gradient<T, D, L, P, I>(
        &self,
        derivative: Derivative,
        kl_weight: T,
        model: &GenerativeModel<D, L, P>,
        inference: &I,
        x: Observations<'_, T>,
        // Not generic: one instance serves every source of noise.
        noise: &mut dyn FnMut(&mut [T]),
        workspace: &mut ElboWorkspace<T, I::Tape, D::Tape>,
        gradient: &mut Gradient<T>,
    ) -> Result<T>
    where
        T: Real,
        D: DifferentiableMap<T>,
        L: Likelihood<T>,
        P: Prior<T>,
        I: DifferentiableInference<T>,
    {
        x.expect_dim(model.likelihood.data_dim(model.decoder.output_dim())?)?;
        let w = workspace;
        // The buffer of φ is moved into q and taken back at the end, so that a training step does
        // not allocate.
        let q = inference.forward(
            x,
            &mut w.encoder,
            std::mem::replace(&mut w.phi, DMatrix::zeros(0, 0)),
        )?;
        let (k, n) = (q.latent_dim(), q.len());
        let decoder_count = model.decoder.parameters().len();
        let likelihood_count = model.likelihood.parameters().len();
        let theta_count = decoder_count + likelihood_count + model.prior.parameters().len();
        gradient.theta.resize(theta_count, T::zero());
        gradient.phi.resize(inference.parameters().len(), T::zero());
        reshape(&mut w.d_phi, q.parameters().nrows(), n);
        for buffer in [&mut w.noise, &mut w.z] {
            reshape(buffer, k, n);
        }
        let samples = self.estimator.samples;
        // N/n for a mini-batch, and 1/samples for the mean over the samples.
        let scale = x.scale() / T::of_usize(samples);
        let mut value = T::zero();
        let mut kl = None;
        if samples > 1 {
            w.d_theta.resize(theta_count, T::zero());
        }
        for sample in 0..samples {
            // Sample z, then the decoder and the likelihood forward.
            noise(w.noise.as_mut_slice());
            q.transform(w.noise.as_view(), &mut w.z);
            // `backward` overwrites its target. The first sample therefore writes into the result
            // and the later ones into a buffer that is added: the usual case of one sample has no
            // copy.
            let target = if sample == 0 { &mut gradient.theta } else { &mut w.d_theta };
            let (d_decoder, rest) = target.split_at_mut(decoder_count);
            let (d_likelihood, d_prior) = rest.split_at_mut(likelihood_count);
            let output = model.decoder.forward(w.z.as_view(), &mut w.decoder);
            value += model.likelihood.log_density_gradient(
                x.values(),
                output,
                Weights::Equal(scale),
                &mut w.d_output,
                d_likelihood,
            );
            if derivative == Derivative::None {
                value += log_ratio_sum(&model.prior, w.z.as_view(), Weights::Equal(scale));
                continue;
            }
            model.decoder.backward(
                w.z.as_view(),
                &mut w.decoder,
                w.d_output.as_view(),
                d_decoder,
                Some(&mut w.d_z),
            );
            // The divergence below is that from N(0, I); what another prior adds is estimated.
            if !model.prior.is_standard() {
                let (z, weights) = (w.z.as_view(), Weights::Equal(scale * kl_weight));
                let weighted =
                    add_log_ratio_gradient(&model.prior, z, weights, &mut w.d_z, d_prior);
                value += if kl_weight == T::one() {
                    weighted
                } else {
                    log_ratio_sum(&model.prior, z, Weights::Equal(scale))
                };
            }
            // ∂/∂z of log π(z) − log q(z) is −z + Σ⁻¹(z − m), with the φ inside log q held constant
            // (Roeder et al. 2017).
            if derivative == Derivative::AlongThePath {
                let scale = scale * kl_weight;
                w.d_z.zip_apply(&w.z, |d: &mut T, z| *d -= scale * z);
                q.add_negative_score(w.z.as_view(), scale, &mut w.d_z)?;
            }
            let (noise, d_z) = (w.noise.as_view(), w.d_z.as_view());
            // One pass for the derivatives of the sample and of the KL: for a diagonal posterior it
            // needs one exponential per log-variance instead of three.
            if sample == 0 && derivative == Derivative::Formula {
                let scale = x.scale() * kl_weight;
                kl = Some(q.bound_gradient(noise, d_z, scale, &mut w.d_phi));
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
        // Without a gradient the KL has not been computed; `kl_to_prior_sum` gives the result of
        // `bound_gradient` bit for bit, so that the value does not depend on whether a gradient is
        // taken.
        value -= kl.unwrap_or_else(|| q.kl_to_prior_sum()) * x.scale();
        if derivative != Derivative::None {
            inference.backward(x, &mut w.encoder, &w.d_phi, &mut gradient.phi);
        }
        w.phi = q.into_parameters();
        Ok(value)
    }
}

/// Gradient by the reparameterisation trick: through the likelihood, the decoder, z = μ + Lε and
/// the encoder.
impl<T, D, L, P, I> DifferentiableObjective<T, GenerativeModel<D, L, P>, I>
    for Elbo<Reparameterization>
where
    T: Real,
    D: DifferentiableMap<T>,
    L: Likelihood<T>,
    P: Prior<T>,
    I: DifferentiableInference<T>,
{
    type Workspace = ElboWorkspace<T, I::Tape, D::Tape>;

    fn value_and_gradient(
        &self,
        model: &GenerativeModel<D, L, P>,
        inference: &I,
        x: Observations<'_, T>,
        rng: &mut dyn Rng,
        workspace: &mut Self::Workspace,
        gradient: &mut Gradient<T>,
    ) -> Result<T> {
        self.value_and_weighted_gradient(1.0, model, inference, x, rng, workspace, gradient)
    }

    fn value(
        &self,
        model: &GenerativeModel<D, L, P>,
        inference: &I,
        x: Observations<'_, T>,
        rng: &mut dyn Rng,
        workspace: &mut Self::Workspace,
        unused: &mut Gradient<T>,
    ) -> Result<T> {
        let draw = &mut |noise: &mut [T]| fill_standard_normal(noise, rng);
        let (none, one) = (Derivative::None, T::one());
        self.monte_carlo_gradient(none, one, model, inference, x, draw, workspace, unused)
    }

    fn value_and_weighted_gradient(
        &self,
        kl_weight: f64,
        model: &GenerativeModel<D, L, P>,
        inference: &I,
        x: Observations<'_, T>,
        rng: &mut dyn Rng,
        workspace: &mut Self::Workspace,
        gradient: &mut Gradient<T>,
    ) -> Result<T> {
        let draw = &mut |noise: &mut [T]| fill_standard_normal(noise, rng);
        let (formula, weight) = (Derivative::Formula, T::of(kl_weight));
        self.monte_carlo_gradient(formula, weight, model, inference, x, draw, workspace, gradient)
    }
}

/// Exact gradient of the closed-form ELBO, for a linear decoder with Gaussian noise.
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
        // E_q ‖x − Wz − μ‖² = ‖x − Wm − μ‖² + tr(WᵗW Cov). First the term at the mean code, which
        // does not depend on the covariance of q, and its derivatives.
        let output = model.decoder.forward(q.mean(), &mut w.decoder);
        let at_mean = model.likelihood.log_density_gradient(
            x.values(),
            output,
            Weights::Equal(scale),
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
        // Then the term of the covariance, −tr(WᵗW Σ Cov_i)/2σ². R with RᵗR = WᵗW comes from a QR
        // decomposition, so that the trace is a sum of squares and does not cancel.
        // With more latent dimensions than variables R is W itself.
        let factor = if d < k { None } else { Some(r_factor(model.loadings())?) };
        let root = factor.as_ref().map_or(model.loadings(), |factor| factor.as_view());
        let weight = scale / variance;
        let spread = weight * q.trace_with(root.map(|v| v.as_f64()).as_view()).sum();
        let covariances = q.covariance_sum();
        let d_weights = nalgebra::DMatrixViewMut::from_slice(&mut d_decoder[..d * k], d, k);
        gemm(-weight, model.loadings(), covariances.as_view(), T::one(), d_weights);
        // ∂/∂ln σ² of −tr/2σ² is +tr/2σ². A fixed σ² is not among the parameters.
        if let Some(d_log_variance) = d_likelihood.first_mut() {
            *d_log_variance += half * spread;
        }
        reshape(&mut w.d_phi, q.parameters().nrows(), q.len());
        w.d_phi.as_mut_slice().fill(T::zero());
        w.d_phi.rows_mut(0, k).copy_from(&w.d_z);
        q.add_negative_half_trace_gradient(root, weight, &mut w.d_phi);
        q.add_negative_kl_gradient(scale, &mut w.d_phi);
        let kl = q.kl_to_prior_sum() * scale;
        inference.backward(x, &mut w.encoder, &w.d_phi, &mut gradient.phi);
        w.phi = q.into_parameters();
        Ok(at_mean - half * spread - kl)
    }
}
