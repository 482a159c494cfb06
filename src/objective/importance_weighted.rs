//! The importance-weighted bound on log p(x): the logarithm of a mean of K importance weights.

use super::{DifferentiableObjective, Gradient, Objective};
use crate::inference::DifferentiableInference;
use crate::likelihood::{Likelihood, Weights};
use crate::linalg::{reshape, vector::fill_standard_normal};
use crate::map::DifferentiableMap;
use crate::model::{GenerativeModel, ProbabilisticModel};
use crate::posterior::{GaussianPosterior, Posterior, PosteriorFamily, add_mean_kl_gradient};
use crate::{Observations, Real, Result};
use nalgebra::{DMatrix, DVector};
use rand::Rng;

/// Estimator of the gradient by φ of an importance-weighted bound. The value and the gradient by θ
/// are the same for all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum WeightedGradient {
    /// The reparameterisation gradient Σ_s w̃_s ∂ ln w_s: unbiased. Its signal-to-noise ratio falls
    /// as K grows ([Rainforth et al. 2018](https://arxiv.org/abs/1802.04537)).
    #[default]
    Reparameterized,
    /// Through z alone, with weights w̃: the φ inside ln q is held constant (Roeder et al. 2017).
    /// Its variance is small near the exact posterior, but **it is biased** for K > 1: the omitted
    /// term has the expectation 0 for equal weights only.
    PathDerivative,
    /// Through z alone, with weights w̃² (DReG, [Tucker et al.
    /// 2019](https://arxiv.org/abs/1810.04152), equation 8): unbiased, and 0 for every sample under
    /// the exact posterior. Its signal-to-noise ratio does not fall as K grows.
    DoublyReparameterized,
}

/// The importance-weighted bound J = Σ_i E ln (1/K) Σ_s w_is on log p(x), with z_is = m_i + L_i
/// ε_is. It is non-decreasing in K, and at K = 1 it is the evidence lower bound (ELBO).
///
/// ```math
/// w_{is} = \frac{p(x_i|z_{is})\,π(z_{is})}{q_i(z_{is})}
/// ```
///
/// ([Burda, Grosse & Salakhutdinov 2016](https://arxiv.org/abs/1509.00519), equation 8). Under the
/// exact posterior every w_is is p(x_i). The gradient by θ is Σ_s w̃_is ∂ ln w_is with w̃ = w/Σw;
/// that by φ has several estimators ([`WeightedGradient`]).
///
/// ```
/// use elbo::objective::{ImportanceWeighted, Objective};
/// use elbo::{
///     Observations,
///     model::{ExactPosterior, LinearGaussian, MarginalLikelihood},
/// };
/// use nalgebra::{dmatrix, dvector};
/// use rand::{SeedableRng, rngs::StdRng};
/// let model = LinearGaussian::from_parameters(
///     dmatrix![1.0, 0.5; 2.0, 0.0; 0.0, 1.0],
///     dvector![0.0, 0.0, 0.0],
///     0.7,
/// )?;
/// let x = dmatrix![1.0f64, 2.0; 0.0, 1.0; 1.0, -1.0];
/// let x = Observations::new(x.as_view())?;
/// let bound = ImportanceWeighted::new(5).evaluate(
///     &model,
///     &model.posterior(x)?,
///     x,
///     &mut StdRng::seed_from_u64(1),
/// )?;
/// assert!((bound - model.log_likelihood(x)?.sum()).abs() < 1e-12);
/// # Ok::<(), elbo::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImportanceWeighted {
    samples: usize,
    gradient: WeightedGradient,
}

impl ImportanceWeighted {
    /// The bound with K = `samples` importance samples for each observation (at least 1).
    pub fn new(samples: usize) -> Self {
        Self { samples: samples.max(1), gradient: WeightedGradient::default() }
    }

    /// Sets the estimator of the gradient by φ.
    pub fn with_gradient(self, gradient: WeightedGradient) -> Self {
        Self { gradient, ..self }
    }

    /// The log-weights ln w_is, K×n.
    ///
    /// # Errors
    /// [`Error::DimensionMismatch`](crate::Error::DimensionMismatch).
    pub fn log_weights<T: Real, M, Q, R>(
        &self,
        model: &M,
        q: &Q,
        x: Observations<'_, T>,
        rng: &mut R,
    ) -> Result<DMatrix<T>>
    where
        M: ProbabilisticModel<T>,
        Q: GaussianPosterior<T>,
        R: Rng + ?Sized,
    {
        let half_log_determinants = half_log_determinants(q);
        let mut weights = DMatrix::zeros(self.samples, x.len());
        let mut z = DMatrix::zeros(q.latent_dim(), q.len());
        let mut noise = z.clone();
        for s in 0..self.samples {
            fill_standard_normal(noise.as_mut_slice(), rng);
            q.transform(noise.as_view(), &mut z);
            let densities = model.log_density_given(x, z.as_view())?;
            weights.set_row(
                s,
                &log_weights(&densities, &z, &noise, &half_log_determinants).transpose(),
            );
        }
        Ok(weights)
    }
}

/// ½ ln|Σ_i|, one entry per observation, derived from KL(q_i ‖ π).
pub(crate) fn half_log_determinants<T: Real>(q: &impl GaussianPosterior<T>) -> DVector<T> {
    // 2 KL = tr Σ + ‖m‖² − k − ln|Σ|, solved for ln|Σ|. Every Gaussian posterior has the trace and
    // the KL, whereas a factor or a determinant is not part of the trait.
    let k = q.latent_dim();
    let traces = q.trace_with(DMatrix::identity(k, k).as_view());
    let squares = q.mean().column_iter().map(|m| m.norm_squared()).collect::<Vec<_>>();
    let divergences = q.kl_to_prior();
    DVector::from_fn(q.len(), |i, _| {
        T::of(0.5) * (traces[i] + squares[i] - T::of_usize(k)) - divergences[i]
    })
}

/// The log-weights ln p(x|z) + ln π(z) − ln q(z), one entry per observation.
///
/// With ε = L⁻¹(z − m), ln π(z) − ln q(z) = ½(‖ε‖² − ‖z‖²) + ½ ln|Σ|: the constants ½k ln 2π of π
/// and q are equal and cancel.
pub(crate) fn log_weights<T: Real>(
    densities: &DVector<T>,
    z: &DMatrix<T>,
    noise: &DMatrix<T>,
    half_log_determinants: &DVector<T>,
) -> DVector<T> {
    let half = T::of(0.5);
    let ratio = |i: usize| {
        half * (noise.column(i).norm_squared() - z.column(i).norm_squared())
            + half_log_determinants[i]
    };
    DVector::from_fn(densities.len(), |i, _| densities[i] + ratio(i))
}

/// The bound (1/(1 − α)) ln (1/K) Σ_s w_s^{1−α} of each observation, for α = 0 the logarithm of the
/// mean weight and for α = 1 the mean of the log-weights. Overwrites the log-weights by the
/// normalised weights w̃ ∝ w^{1−α}, which sum to 1.
pub(super) fn normalize<T: Real>(log_weights: &mut DMatrix<T>, order: f64) -> DVector<T> {
    let count = T::of_usize(log_weights.nrows());
    if order == 1.0 {
        let means = log_weights.column_iter().map(|column| column.sum() / count).collect();
        log_weights.fill(T::one() / count);
        return DVector::from_vec(means);
    }
    let power = T::of(1.0 - order);
    if order != 0.0 {
        *log_weights *= power;
    }
    let bounds = log_weights.column_iter_mut().map(|mut column| {
        let largest = column.max();
        if !largest.is_finite() {
            // All weights are 0 (or the density is not finite): the bound is returned as it is, and
            // no sample of this observation contributes to the gradient.
            column.fill(T::zero());
            return largest;
        }
        // Log-sum-exp: the largest exponent is 0, so that nothing overflows and the sum is at least
        // 1.
        // A weight below ε² of the largest changes neither the sum nor, to rounding, the gradient.
        // As a subnormal number it would take 27 times as long in the likelihood's gradient.
        let negligible = T::EPSILON * T::EPSILON;
        column.apply(|l| {
            let weight = (*l - largest).exp();
            *l = if weight < negligible { T::zero() } else { weight };
        });
        let sum = column.sum();
        column /= sum;
        largest + (sum / count).ln()
    });
    let bounds = DVector::from_vec(bounds.collect());
    if order == 0.0 { bounds } else { bounds / power }
}

impl<T: Real, M, Q> Objective<T, M, Q> for ImportanceWeighted
where
    M: ProbabilisticModel<T>,
    Q: GaussianPosterior<T>,
{
    fn evaluate(&self, model: &M, q: &Q, x: Observations<'_, T>, rng: &mut dyn Rng) -> Result<T> {
        Ok(normalize(&mut self.log_weights(model, q, x, rng)?, 0.0).sum() * x.scale())
    }
}

/// Buffers of [`ImportanceWeighted`], reused between calls.
#[derive(Debug, Clone)]
pub struct ImportanceWorkspace<T: Real, E, D> {
    encoder: E,
    decoder: D,
    phi: DMatrix<T>,
    d_phi: DMatrix<T>,
    // ε of each sample: the second pass uses the noise of the first.
    noise: Vec<DMatrix<T>>,
    weights: DMatrix<T>,
    z: DMatrix<T>,
    d_z: DMatrix<T>,
    score: DMatrix<T>,
    d_output: DMatrix<T>,
    // The weights w̃_is of one sample s.
    of_sample: Vec<T>,
    d_theta: Vec<T>,
}

impl<T: Real, E: Default, D: Default> Default for ImportanceWorkspace<T, E, D> {
    fn default() -> Self {
        let empty = || DMatrix::zeros(0, 0);
        Self {
            encoder: E::default(),
            decoder: D::default(),
            phi: empty(),
            d_phi: empty(),
            noise: Vec::new(),
            weights: empty(),
            z: empty(),
            d_z: empty(),
            score: empty(),
            d_output: empty(),
            of_sample: Vec::new(),
            d_theta: Vec::new(),
        }
    }
}

impl<T, D, L, I> DifferentiableObjective<T, GenerativeModel<D, L>, I> for ImportanceWeighted
where
    T: Real,
    D: DifferentiableMap<T>,
    L: Likelihood<T>,
    I: DifferentiableInference<T>,
{
    type Workspace = ImportanceWorkspace<T, I::Tape, D::Tape>;

    fn value_and_gradient(
        &self,
        model: &GenerativeModel<D, L>,
        inference: &I,
        x: Observations<'_, T>,
        rng: &mut dyn Rng,
        workspace: &mut Self::Workspace,
        gradient: &mut Gradient<T>,
    ) -> Result<T> {
        self.bound_and_gradient(0.0, model, inference, x, rng, workspace, gradient)
    }
}

impl ImportanceWeighted {
    /// The bound of order α, (1/(1 − α)) ln (1/K) Σ_s w_s^{1−α}, and its gradient.
    #[allow(clippy::too_many_arguments)] // those of an objective, and the order
    pub(super) fn bound_and_gradient<T, D, L, I>(
        &self,
        order: f64,
        model: &GenerativeModel<D, L>,
        inference: &I,
        x: Observations<'_, T>,
        rng: &mut dyn Rng,
        workspace: &mut ImportanceWorkspace<T, I::Tape, D::Tape>,
        gradient: &mut Gradient<T>,
    ) -> Result<T>
    where
        T: Real,
        D: DifferentiableMap<T>,
        L: Likelihood<T>,
        I: DifferentiableInference<T>,
    {
        x.expect_dim(model.likelihood.data_dim(model.decoder.output_dim())?)?;
        let w = workspace;
        let q = inference.forward(
            x,
            &mut w.encoder,
            std::mem::replace(&mut w.phi, DMatrix::zeros(0, 0)),
        )?;
        let (k, n, scale) = (q.latent_dim(), q.len(), x.scale());
        let half_log_determinants = half_log_determinants(&q);
        w.noise.resize(self.samples, DMatrix::zeros(0, 0));
        reshape(&mut w.weights, self.samples, n);
        reshape(&mut w.z, k, n);
        // First pass: the log-weights of all K samples, without derivatives.
        for (s, noise) in w.noise.iter_mut().enumerate() {
            reshape(noise, k, n);
            fill_standard_normal(noise.as_mut_slice(), rng);
            q.transform(noise.as_view(), &mut w.z);
            let output = model.decoder.forward(w.z.as_view(), &mut w.decoder);
            let densities = model.likelihood.log_density(x.values(), output);
            w.weights.set_row(
                s,
                &log_weights(&densities, &w.z, noise, &half_log_determinants).transpose(),
            );
        }
        let value = normalize(&mut w.weights, order).sum() * scale;

        // Second pass: w̃_is depends on all K samples, so that the backward pass needs the weights
        // of the first. Each sample goes forward and backward again, which costs a second forward
        // pass but keeps one tape instead of K.
        let decoder_count = model.decoder.parameters().len();
        let theta_count = decoder_count + model.likelihood.parameters().len();
        gradient.theta.clear();
        gradient.theta.resize(theta_count, T::zero());
        gradient.phi.resize(inference.parameters().len(), T::zero());
        w.d_theta.resize(theta_count, T::zero());
        reshape(&mut w.d_phi, q.parameters().nrows(), n);
        w.d_phi.as_mut_slice().fill(T::zero());
        for (s, noise) in w.noise.iter().enumerate() {
            q.transform(noise.as_view(), &mut w.z);
            let output = model.decoder.forward(w.z.as_view(), &mut w.decoder);
            let (d_decoder, d_likelihood) = w.d_theta.split_at_mut(decoder_count);
            w.of_sample.clear();
            w.of_sample.extend(w.weights.row(s).iter().map(|&weight| scale * weight));
            model.likelihood.log_density_gradient(
                x.values(),
                output,
                Weights::Each(&w.of_sample),
                &mut w.d_output,
                d_likelihood,
            );
            model.decoder.backward(
                w.z.as_view(),
                &mut w.decoder,
                w.d_output.as_view(),
                d_decoder,
                Some(&mut w.d_z),
            );
            gradient.theta.iter_mut().zip(&w.d_theta).for_each(|(sum, &d)| *sum += d);
            // ∂ ln π(z)/∂z = −z, with the weight of the observation.
            for (i, (mut d_z, z)) in w.d_z.column_iter_mut().zip(w.z.column_iter()).enumerate() {
                d_z.axpy(-w.of_sample[i], &z, T::one());
            }
            if self.gradient != WeightedGradient::Reparameterized {
                // −∂ ln q/∂z = Σ⁻¹(z − m), for each observation with its weight.
                reshape(&mut w.score, k, n);
                w.score.fill(T::zero());
                q.add_negative_score(w.z.as_view(), T::one(), &mut w.score)?;
                let squared = self.gradient == WeightedGradient::DoublyReparameterized;
                for (i, mut d_z) in w.d_z.column_iter_mut().enumerate() {
                    d_z.axpy(w.of_sample[i], &w.score.column(i), T::one());
                    if squared {
                        d_z *= w.weights[(s, i)];
                    }
                }
            }
            q.add_transform_gradient(noise.as_view(), w.d_z.as_view(), &mut w.d_phi);
        }
        if self.gradient == WeightedGradient::Reparameterized {
            // −ln q contributes ½ ln|Σ| = −KL + ½‖m‖² + ½ tr Σ − ½k, and Σ_s w̃_is = 1: its derivative
            // is that of −KL, minus the derivatives of the mean's and the trace's terms of −KL.
            q.add_negative_kl_gradient(scale, &mut w.d_phi);
            add_mean_kl_gradient(q.mean(), -scale, &mut w.d_phi);
            q.add_negative_half_trace_gradient(
                DMatrix::identity(k, k).as_view(),
                -scale,
                &mut w.d_phi,
            );
        }
        inference.backward(x, &mut w.encoder, &w.d_phi, &mut gradient.phi);
        w.phi = q.into_parameters();
        Ok(value)
    }
}
