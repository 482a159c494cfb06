//! Per-observation optimisation of q_i by gradient: the E-step for decoders without closed forms.

use super::{Adam, AdamSettings, LearningRateSchedule};
use crate::data::expect;
use crate::likelihood::{Likelihood, Weights};
use crate::linalg::reshape;
use crate::map::DifferentiableMap;
use crate::model::GenerativeModel;
use crate::posterior::PosteriorFamily;
use crate::{Error, IntoObservations, Observations, Real, Result};
use nalgebra::{DMatrix, DVector};
use rand::Rng;

/// Gradient ascent on the evidence lower bound (ELBO) J_i(φ_i) of each observation separately, with
/// θ held fixed.
///
/// The Monte Carlo samples ε are the same for all observations and steps (common random numbers),
/// so that J_i is a smooth function of φ_i. They are antithetic pairs ±ε, transformed so that their
/// mean is 0 and their covariance exactly I. J_i is then exact under a linear decoder with Gaussian
/// noise, and exact to second order under any other. Each entry of φ_i moves in units of its own
/// scale ([`parameter_scales`](PosteriorFamily::parameter_scales)). The ELBO of each returned q_i,
/// estimated from these samples, is never below that of the given q_i.
///
/// ```
/// use elbo::inference::PerPoint;
/// use elbo::posterior::{Full, GaussianPosterior, Posterior};
/// use elbo::{
///     Observations,
///     fit::LocalRefinement,
///     model::{ExactPosterior, LinearGaussian},
/// };
/// use nalgebra::{dmatrix, dvector};
/// use rand::{SeedableRng, rngs::StdRng};
/// let model = LinearGaussian::from_parameters(
///     dmatrix![1.0, 0.5; 2.0, 0.0; 0.0, 1.0],
///     dvector![0.0, 0.0, 0.0],
///     0.7,
/// )?;
/// let x = dmatrix![1.0, 2.0; 0.0, 1.0; 1.0, -1.0];
/// let x = Observations::new(x.as_view())?;
/// let start = PerPoint::<Full<f64>>::at_prior(2, 2).posterior;
/// let refined = LocalRefinement { steps: 400, ..LocalRefinement::default() }.refine(
///     &model,
///     start,
///     x,
///     &mut StdRng::seed_from_u64(1),
/// )?;
/// let exact = model.posterior(x)?;
/// assert!((refined.mean() - exact.mean()).amax() < 1e-3);
/// assert!((refined.covariance(0) - exact.covariance(0)).amax() < 1e-3);
/// # Ok::<(), elbo::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LocalRefinement {
    /// Number of gradient steps.
    pub steps: usize,
    /// Number of Monte Carlo samples per observation, raised to an even number of at least 2k.
    pub samples: usize,
    /// Initial learning rate, in units of the standard deviations of q_i. The first third of the
    /// steps uses four times this rate; afterwards it falls to 0 along half a cosine.
    pub learning_rate: f64,
}

impl Default for LocalRefinement {
    fn default() -> Self {
        Self { steps: 200, samples: 32, learning_rate: 0.1 }
    }
}

/// Factor of the learning rate in the first third of the steps (warm-up): the mean that an encoder
/// gives may be many standard deviations away from the optimum.
const WARM_UP_FACTOR: f64 = 4.0;

/// Number of observations that are refined together.
// Bounds the memory: the decoder's activations, z and ε of one block exist at a time, whatever n
// is. The observations of a block do not interact.
const BLOCK: usize = 128;

impl LocalRefinement {
    /// Maximises J_i for each observation, starting from the given q_i; returns the optimised
    /// posterior.
    ///
    /// # Errors
    /// [`Error::DimensionMismatch`] when model, q and x do not fit each other;
    /// [`Error::InvalidParameter`] for a learning rate that is not positive and finite.
    pub fn refine<'a, T, D, L, Q>(
        &self,
        model: &GenerativeModel<D, L>,
        mut q: Q,
        x: impl IntoObservations<'a, T>,
        rng: &mut dyn Rng,
    ) -> Result<Q>
    where
        T: Real,
        D: DifferentiableMap<T>,
        L: Likelihood<T>,
        Q: PosteriorFamily<T>,
    {
        let x = x.into_observations()?;
        if !(self.learning_rate > 0.0 && self.learning_rate.is_finite()) {
            return Err(Error::InvalidParameter {
                name: "the learning rate",
                value: self.learning_rate,
                must: "positive and finite",
            });
        }
        x.expect_dim(model.likelihood.data_dim(model.decoder.output_dim())?)?;
        expect("observations of q", x.len(), q.len())?;
        expect("latent dimensions of q", model.decoder.input_dim(), q.latent_dim())?;
        // One set of samples for all blocks: the result for an observation does not depend on the
        // block that it falls into.
        let draws = moment_matched_samples(q.latent_dim(), self.samples, rng);
        let mut ascent = Ascent::new(model, &draws);
        for start in (0..x.len()).step_by(BLOCK) {
            let count = BLOCK.min(x.len() - start);
            let own = Q::from_parameters(
                q.latent_dim(),
                q.parameters().columns(start, count).into_owned(),
            )?;
            let refined = ascent.run(self, own, x.columns(start, count)?)?;
            q.parameters_mut().columns_mut(start, count).copy_from(refined.parameters());
        }
        Ok(q)
    }
}

/// Returns standard normal samples in antithetic pairs ±ε with mean 0 and covariance exactly I,
/// k×samples.
fn moment_matched_samples<T: Real>(k: usize, samples: usize, rng: &mut dyn Rng) -> DMatrix<T> {
    // Fewer than k pairs cannot have a covariance of full rank.
    let pairs = samples.div_ceil(2).max(k);
    let mut half = DMatrix::from_fn(k, pairs, |_, _| T::standard_normal(rng));
    // Moment matching: with LLᵗ the sample covariance, L⁻¹ε has the covariance I. Both members of a
    // pair enter it alike, so that half of them are enough.
    let gram = crate::linalg::product_tr_right(half.as_view(), half.as_view()) / T::of_usize(pairs);
    // Samples that span fewer than k dimensions have probability 0; they would be used as they are.
    if let Some(cholesky) = gram.cholesky() {
        cholesky.l_dirty().solve_lower_triangular_mut(&mut half);
    }
    DMatrix::from_fn(
        k,
        2 * pairs,
        |i, j| if j < pairs { half[(i, j)] } else { -half[(i, j - pairs)] },
    )
}

struct Ascent<'a, T: Real, D: DifferentiableMap<T>, L> {
    model: &'a GenerativeModel<D, L>,
    draws: &'a DMatrix<T>,
    tape: D::Tape,
    noise: DMatrix<T>,
    z: DMatrix<T>,
    d_z: DMatrix<T>,
    d_output: DMatrix<T>,
    unused: (Vec<T>, Vec<T>), // the gradient with respect to θ: computed, but not used
}

impl<'a, T: Real, D: DifferentiableMap<T>, L: Likelihood<T>> Ascent<'a, T, D, L> {
    fn new(model: &'a GenerativeModel<D, L>, draws: &'a DMatrix<T>) -> Self {
        let empty = || DMatrix::zeros(0, 0);
        let unused = (
            vec![T::zero(); model.decoder.parameters().len()],
            vec![T::zero(); model.likelihood.parameters().len()],
        );
        Self {
            model,
            draws,
            tape: D::Tape::default(),
            noise: empty(),
            z: empty(),
            d_z: empty(),
            d_output: empty(),
            unused,
        }
    }

    fn run<Q: PosteriorFamily<T>>(
        &mut self,
        settings: &LocalRefinement,
        mut q: Q,
        x: Observations<'_, T>,
    ) -> Result<Q> {
        let start = q.clone();
        let before = self.values(&start, x);
        // β₂ = 0.99 in place of 0.999: the gradient is deterministic, and 200 steps are too few for
        // a mean of the squares over the last 1000.
        let settings_of_adam = AdamSettings { beta_2: 0.99, ..AdamSettings::default() };
        let scaled = |q: &Q| {
            Adam::new(q.parameters().len(), settings_of_adam)?
                .with_scales(q.parameter_scales().data.into())
        };
        let mut adam = scaled(&q)?;
        let mut d_phi = DMatrix::zeros(q.parameters().nrows(), q.len());
        for step in 0..settings.steps {
            self.gradient(&q, x, &mut d_phi);
            // Warm-up: the first third uses WARM_UP_FACTOR times the learning rate. By its end the
            // scale of q is about right, so Adam restarts with the scales of the current q as its
            // preconditioner.
            let scout = settings.steps / 3;
            if step == scout {
                adam = scaled(&q)?;
            }
            let rest = (settings.steps - scout) as f64;
            let factor = if step < scout {
                WARM_UP_FACTOR
            } else {
                LearningRateSchedule::Cosine.factor((step - scout) as f64 / rest)
            };
            let rate = settings.learning_rate * factor;
            // An observation whose gradient is not finite does not move in this step. If it had
            // moved to such a point before, the comparison below restores its initial q_i.
            d_phi.iter_mut().filter(|d| !d.is_finite()).for_each(|d| *d = T::zero());
            adam.step(q.parameters_mut().as_mut_slice(), d_phi.as_slice(), rate, T::one());
        }
        let after = self.values(&q, x);
        for i in 0..q.len() {
            // Written so that NaN counts as a loss.
            let gained = after[i] >= before[i];
            if !gained {
                q.parameters_mut().set_column(i, &start.parameters().column(i));
            }
        }
        Ok(q)
    }

    fn place_draw<Q: PosteriorFamily<T>>(&mut self, q: &Q, sample: usize) {
        for buffer in [&mut self.noise, &mut self.z] {
            reshape(buffer, self.draws.nrows(), q.len());
        }
        let draw = self.draws.column(sample);
        self.noise.column_iter_mut().for_each(|mut column| column.copy_from(&draw));
        q.transform(self.noise.as_view(), &mut self.z);
    }

    /// Returns J_i of each observation, estimated from the samples.
    fn values<Q: PosteriorFamily<T>>(&mut self, q: &Q, x: Observations<'_, T>) -> DVector<T> {
        let mut sum = DVector::zeros(q.len());
        for sample in 0..self.draws.ncols() {
            self.place_draw(q, sample);
            let output = self.model.decoder.forward(self.z.as_view(), &mut self.tape);
            sum += self.model.likelihood.log_density(x.values(), output);
        }
        // The divergence is exact: only the expected log-likelihood is estimated from samples.
        sum / T::of_usize(self.draws.ncols()) - q.kl_to_prior()
    }

    fn gradient<Q: PosteriorFamily<T>>(
        &mut self,
        q: &Q,
        x: Observations<'_, T>,
        d_phi: &mut DMatrix<T>,
    ) {
        d_phi.as_mut_slice().fill(T::zero());
        let scale = T::one() / T::of_usize(self.draws.ncols());
        for sample in 0..self.draws.ncols() {
            self.place_draw(q, sample);
            let output = self.model.decoder.forward(self.z.as_view(), &mut self.tape);
            self.model.likelihood.log_density_gradient(
                x.values(),
                output,
                Weights::Equal(scale),
                &mut self.d_output,
                &mut self.unused.1,
            );
            let d_output = self.d_output.as_view();
            self.model.decoder.backward_to_input(
                self.z.as_view(),
                &mut self.tape,
                d_output,
                &mut self.unused.0,
                &mut self.d_z,
            );
            q.add_transform_gradient(self.noise.as_view(), self.d_z.as_view(), d_phi);
        }
        // `log_density_gradient` weighted each sample by 1/samples; the divergence counts once.
        q.add_negative_kl_gradient(T::one(), d_phi);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{SeedableRng, rngs::StdRng};

    #[test]
    fn draws_have_the_moments_of_the_prior() {
        for (k, samples) in [(1, 1), (3, 7), (8, 32)] {
            let draws = moment_matched_samples::<f64>(k, samples, &mut StdRng::seed_from_u64(4));
            assert!(draws.ncols() >= samples.max(2 * k));
            assert!(draws.column_sum().amax() < 1e-12);
            let covariance = &draws * draws.transpose() / draws.ncols() as f64;
            assert!((covariance - DMatrix::identity(k, k)).amax() < 1e-12);
        }
    }
}
