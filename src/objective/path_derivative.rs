//! The path-derivative estimator of the bound's gradient.

use super::elbo::{Derivative, Elbo, ElboWorkspace, Reparameterization};
use super::{DifferentiableObjective, Gradient, Objective};
use crate::inference::DifferentiableInference;
use crate::likelihood::Likelihood;
use crate::linalg::vector::fill_standard_normal;
use crate::map::DifferentiableMap;
use crate::model::{GenerativeModel, ProbabilisticModel};
use crate::posterior::GaussianPosterior;
use crate::{Observations, Real, Result};
use rand::Rng;

/// Draws as in [`Reparameterization`], with the gradient of ln w = log p(x|z) + log π(z) − log q(z)
/// by z alone: φ inside of log q is held.
///
/// ```math
/// \nabla_φ J = E_ε\!\left[\frac{\partial z}{\partial φ}^{⊤} \nabla_z \ln w(z)\right],\qquad z = m + Lε
/// ```
///
/// What is left out, the score E_q ∂ log q/∂φ, is 0 on average, so that the gradient stays unbiased
/// (\[1\], equation 7). Where q is the exact posterior ln w does not depend on z, and this gradient
/// is 0 for **every** ε, while the plain one scatters about 0: near the optimum it steadies a fit.
/// Far from it neither is always the better. The value, and the gradient by θ, are those of
/// [`Reparameterization`].
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
    /// Draws for each observation.
    pub samples: usize,
}

impl Default for PathDerivative {
    fn default() -> Self {
        Self { samples: 1 }
    }
}

impl Elbo<PathDerivative> {
    /// The bound by `samples` draws for each observation, at least 1, its gradient along the path
    /// of z.
    pub fn path_derivative(samples: usize) -> Self {
        Self { estimator: PathDerivative { samples: samples.max(1) } }
    }

    /// The same draws with the plain gradient.
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

impl<T, D, L, I> DifferentiableObjective<T, GenerativeModel<D, L>, I> for Elbo<PathDerivative>
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
        self.plain().through_draws(
            Derivative::AlongThePath,
            model,
            inference,
            x,
            draw,
            workspace,
            gradient,
        )
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
        self.plain().value(model, inference, x, rng, workspace, unused)
    }
}
