//! The path-derivative estimator of the ELBO's gradient.

use super::elbo::{Derivative, Elbo, ElboWorkspace, Reparameterization};
use super::{DifferentiableObjective, Gradient, Objective};
use crate::inference::DifferentiableInference;
use crate::likelihood::Likelihood;
use crate::linalg::vector::fill_standard_normal;
use crate::map::DifferentiableMap;
use crate::model::{GenerativeModel, ProbabilisticModel};
use crate::posterior::GaussianPosterior;
use crate::prior::Prior;
use crate::{Observations, Real, Result};
use rand::Rng;

/// Reparameterisation estimator whose gradient is that of ln w = log p(x|z) + log π(z) − log q(z)
/// through z alone: the φ inside log q is held constant.
///
/// ```math
/// \nabla_φ J = E_ε\!\left[\frac{\partial z}{\partial φ}^{⊤} \nabla_z \ln w(z)\right],
/// \qquad z = m + Lε
/// ```
///
/// The omitted term is the score ∂ log q/∂φ. Its expectation under q is 0, so that the gradient
/// stays unbiased (\[1\], equation 7). Where q is the exact posterior, ln w does not depend on z:
/// this gradient is 0 for **every** ε, while the standard estimator has a positive variance. Near
/// the optimum it therefore reduces the noise of a fit; far from it, neither estimator always has
/// the smaller variance. The value, and the gradient by θ, are those of [`Reparameterization`].
///
/// ```
/// use elbo::objective::{DifferentiableObjective, Elbo, Gradient};
/// use elbo::posterior::{Full, Posterior, PosteriorFamily};
/// use elbo::{
///     Observations,
///     inference::PerPoint,
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
/// let exact = Full::nearest(
///     model.posterior(x)?.into_mean(),
///     model.posterior_precision_root()?.as_view(),
/// )?;
/// let (q, mut gradient) = (PerPoint { posterior: exact }, Gradient::default());
/// Elbo::path_derivative(1).value_and_gradient(
///     &model,
///     &q,
///     x,
///     &mut StdRng::seed_from_u64(1),
///     &mut Default::default(),
///     &mut gradient,
/// )?;
/// assert!(gradient.phi.iter().all(|d: &f64| d.abs() < 1e-12));
/// # Ok::<(), elbo::Error>(())
/// ```
///
/// \[1\] G. Roeder, Y. Wu and D. Duvenaud, [Sticking the
/// landing](https://arxiv.org/abs/1703.09194), NeurIPS 2017.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PathDerivative {
    /// Monte Carlo samples for each observation.
    pub samples: usize,
}

impl Default for PathDerivative {
    fn default() -> Self {
        Self { samples: 1 }
    }
}

impl Elbo<PathDerivative> {
    /// The ELBO with `samples` Monte Carlo samples for each observation (at least 1) and its
    /// path-derivative gradient.
    pub fn path_derivative(samples: usize) -> Self {
        Self { estimator: PathDerivative { samples: samples.max(1) } }
    }

    /// The standard reparameterisation estimator with the same number of samples: both share their
    /// code, and have the same value.
    fn plain(&self) -> Elbo<Reparameterization> {
        Elbo::reparameterized(self.estimator.samples)
    }
}

impl<T: Real, M, Q> Objective<T, M, Q> for Elbo<PathDerivative>
where
    M: ProbabilisticModel<T>,
    Q: GaussianPosterior<T>,
{
    fn evaluate(&self, model: &M, q: &Q, x: Observations<'_, T>, rng: &mut dyn Rng) -> Result<T> {
        self.plain().evaluate(model, q, x, rng)
    }
}

impl<T, D, L, P, I> DifferentiableObjective<T, GenerativeModel<D, L, P>, I> for Elbo<PathDerivative>
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
        self.plain().monte_carlo_gradient(
            Derivative::AlongThePath,
            T::of(kl_weight),
            model,
            inference,
            x,
            &mut |noise: &mut [T]| fill_standard_normal(noise, rng),
            workspace,
            gradient,
        )
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
        // The estimators differ in the gradient only.
        self.plain().value(model, inference, x, rng, workspace, unused)
    }
}
