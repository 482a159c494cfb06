//! The importance-weighted bound: many draws of z for one logarithm.

use super::{DifferentiableObjective, Gradient, Objective};
use crate::inference::DifferentiableInference;
use crate::likelihood::Likelihood;
use crate::linalg::{reshape, vector::fill_standard_normal};
use crate::map::DifferentiableMap;
use crate::model::{GenerativeModel, ProbabilisticModel};
use crate::posterior::{GaussianPosterior, Posterior, PosteriorFamily, add_mean_kl_gradient};
use crate::{Observations, Real, Result};
use nalgebra::{DMatrix, DVector};
use rand::Rng;

/// J = Σ_i E ln (1/K) Σ_s w_is with z_is = m_i + L_i ε_is: a bound on log p(x) that rises with K,
/// the evidence lower bound at K = 1.
///
/// ```math
/// w_{is} = \frac{p(x_i|z_{is})\,π(z_{is})}{q_i(z_{is})}
/// ```
///
/// ([Burda, Grosse & Salakhutdinov 2016](https://arxiv.org/abs/1509.00519), equation 8). Under the
/// exact posterior every w_is is p(x_i). The gradient is the plain one through z, Σ_s w̃_is ∂ ln
/// w_is with w̃ = w/Σw; that by φ fades beside its scatter as K grows, so that a large K is for the
/// value.
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
}

impl ImportanceWeighted {
    /// The bound by K = `samples` draws for each observation, at least 1.
    pub fn new(samples: usize) -> Self {
        Self { samples: samples.max(1) }
    }

    /// ln w_is, K×n.
    ///
    /// # Errors
    /// [`Error::DimensionMismatch`](crate::Error::Dimension).
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
        let log_deviations = log_deviations(q);
        let mut weights = DMatrix::zeros(self.samples, x.len());
        let mut z = DMatrix::zeros(q.latent_dim(), q.len());
        let mut noise = z.clone();
        for s in 0..self.samples {
            fill_standard_normal(noise.as_mut_slice(), rng);
            q.transform(noise.as_view(), &mut z);
            let densities = model.log_density_given(x, z.as_view())?;
            weights.set_row(s, &log_weights(&densities, &z, &noise, &log_deviations).transpose());
        }
        Ok(weights)
    }
}

/// ½ ln|Σ_i|, out of the divergence from the prior.
pub(crate) fn log_deviations<T: Real>(q: &impl GaussianPosterior<T>) -> DVector<T> {
    let k = q.latent_dim();
    let traces = q.trace_with(DMatrix::identity(k, k).as_view());
    let squares = q.mean().column_iter().map(|m| m.norm_squared()).collect::<Vec<_>>();
    let divergences = q.kl_to_prior();
    DVector::from_fn(q.len(), |i, _| {
        T::of(0.5) * (traces[i] + squares[i] - T::of_usize(k)) - divergences[i]
    })
}

/// ln p(x|z) + ln π(z) − ln q(z): the constants of π and q are the same and cancel.
pub(crate) fn log_weights<T: Real>(
    densities: &DVector<T>,
    z: &DMatrix<T>,
    noise: &DMatrix<T>,
    log_deviations: &DVector<T>,
) -> DVector<T> {
    let half = T::of(0.5);
    let ratio = |i: usize| {
        half * (noise.column(i).norm_squared() - z.column(i).norm_squared()) + log_deviations[i]
    };
    DVector::from_fn(densities.len(), |i, _| densities[i] + ratio(i))
}

/// ln of the mean weight of each observation; the log-weights become w̃, which sum to 1.
fn normalize<T: Real>(log_weights: &mut DMatrix<T>) -> DVector<T> {
    let count = T::of_usize(log_weights.nrows());
    let bounds = log_weights.column_iter_mut().map(|mut column| {
        let largest = column.max();
        if !largest.is_finite() {
            // Every weight underflows, and none counts.
            column.fill(T::zero());
            return largest;
        }
        column.apply(|l| *l = (*l - largest).exp());
        let sum = column.sum();
        column /= sum;
        largest + (sum / count).ln()
    });
    DVector::from_vec(bounds.collect())
}

impl<T: Real, M, Q> Objective<T, M, Q> for ImportanceWeighted
where
    M: ProbabilisticModel<T>,
    Q: GaussianPosterior<T>,
{
    fn evaluate(&self, model: &M, q: &Q, x: Observations<'_, T>, rng: &mut dyn Rng) -> Result<T> {
        Ok(normalize(&mut self.log_weights(model, q, x, rng)?).sum() * x.scale())
    }
}

/// Buffers of [`ImportanceWeighted`].
#[derive(Debug, Clone)]
pub struct ImportanceWorkspace<T: Real, E, D> {
    encoder: E,
    decoder: D,
    phi: DMatrix<T>,
    d_phi: DMatrix<T>,
    noise: Vec<DMatrix<T>>, // of each draw
    weights: DMatrix<T>,
    z: DMatrix<T>,
    d_z: DMatrix<T>,
    d_output: DMatrix<T>,
    d_column: DMatrix<T>,
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
            d_output: empty(),
            d_column: empty(),
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
        x.expect_dim(model.decoder.output_dim())?;
        let w = workspace;
        let q = inference.forward(
            x,
            &mut w.encoder,
            std::mem::replace(&mut w.phi, DMatrix::zeros(0, 0)),
        )?;
        let (k, n, scale) = (q.latent_dim(), q.len(), x.scale());
        let log_deviations = log_deviations(&q);
        w.noise.resize(self.samples, DMatrix::zeros(0, 0));
        reshape(&mut w.weights, self.samples, n);
        reshape(&mut w.z, k, n);
        for (s, noise) in w.noise.iter_mut().enumerate() {
            reshape(noise, k, n);
            fill_standard_normal(noise.as_mut_slice(), rng);
            q.transform(noise.as_view(), &mut w.z);
            let output = model.decoder.forward(w.z.as_view(), &mut w.decoder);
            let densities = model.likelihood.log_density(x.values(), output);
            w.weights
                .set_row(s, &log_weights(&densities, &w.z, noise, &log_deviations).transpose());
        }
        let value = normalize(&mut w.weights).sum() * scale;

        // The weights are known now: through each draw once more, each observation by its own.
        let decoder_count = model.decoder.parameters().len();
        let theta_count = decoder_count + model.likelihood.parameters().len();
        gradient.theta.clear();
        gradient.theta.resize(theta_count, T::zero());
        gradient.phi.resize(inference.parameters().len(), T::zero());
        w.d_theta.resize(theta_count, T::zero());
        reshape(&mut w.d_phi, q.parameters().nrows(), n);
        w.d_phi.as_mut_slice().fill(T::zero());
        reshape(&mut w.d_output, x.data_dim(), n);
        for (s, noise) in w.noise.iter().enumerate() {
            q.transform(noise.as_view(), &mut w.z);
            let output = model.decoder.forward(w.z.as_view(), &mut w.decoder);
            let (d_decoder, d_likelihood) = w.d_theta.split_at_mut(decoder_count);
            for i in 0..n {
                let (x, output, weight) =
                    (x.values(), output.columns(i, 1), scale * w.weights[(s, i)]);
                model.likelihood.log_density_gradient(
                    x.columns(i, 1),
                    output,
                    weight,
                    &mut w.d_column,
                    d_likelihood,
                );
                w.d_output.column_mut(i).copy_from(&w.d_column.column(0));
                gradient.theta[decoder_count..]
                    .iter_mut()
                    .zip(&*d_likelihood)
                    .for_each(|(sum, &d)| *sum += d);
            }
            model.decoder.backward(
                w.z.as_view(),
                &mut w.decoder,
                w.d_output.as_view(),
                d_decoder,
                Some(&mut w.d_z),
            );
            gradient.theta.iter_mut().zip(&*d_decoder).for_each(|(sum, &d)| *sum += d);
            for (i, (mut d_z, z)) in w.d_z.column_iter_mut().zip(w.z.column_iter()).enumerate() {
                d_z.axpy(-scale * w.weights[(s, i)], &z, T::one());
            }
            q.add_transform_gradient(noise.as_view(), w.d_z.as_view(), &mut w.d_phi);
        }
        // ½ ln|Σ| is −KL but for the mean and the trace.
        q.add_negative_kl_gradient(scale, &mut w.d_phi);
        add_mean_kl_gradient(q.mean(), -scale, &mut w.d_phi);
        q.add_negative_half_trace_gradient(DMatrix::identity(k, k).as_view(), -scale, &mut w.d_phi);
        inference.backward(x, &mut w.encoder, &w.d_phi, &mut gradient.phi);
        w.phi = q.into_parameters();
        Ok(value)
    }
}
