//! A bound on log p(x) that is estimated from samples, chosen at run time.

use super::elbo::{ElboWorkspace, check_samples};
use super::importance_weighted::ImportanceWorkspace;
use super::{DifferentiableObjective, Elbo, Gradient, ImportanceWeighted, Renyi, WeightedGradient};
use crate::inference::DifferentiableInference;
use crate::likelihood::Likelihood;
use crate::map::DifferentiableMap;
use crate::model::GenerativeModel;
use crate::prior::Prior;
use crate::{Observations, Real, Result};
use rand::Rng;

/// A lower bound on log p(x) that is estimated from samples of q, chosen at run time: one type for
/// all of them, so that a fit is compiled once.
///
/// ```
/// use elbo::objective::SampledBound;
/// assert_eq!(SampledBound::default(), SampledBound::Elbo { samples: 1 });
/// assert_eq!(SampledBound::ImportanceWeighted { samples: 5 }.samples(), 5);
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum SampledBound {
    /// [`Elbo::reparameterized`].
    Elbo {
        /// Monte Carlo samples for each observation.
        samples: usize,
    },
    /// [`Elbo::path_derivative`]: the same bound, with the gradient through z alone.
    PathDerivative {
        /// Monte Carlo samples for each observation.
        samples: usize,
    },
    /// [`ImportanceWeighted::new`].
    ImportanceWeighted {
        /// Importance samples for each observation.
        samples: usize,
    },
    /// [`ImportanceWeighted`] with the gradient
    /// [`DoublyReparameterized`](super::WeightedGradient::DoublyReparameterized).
    DoublyReparameterized {
        /// Importance samples for each observation.
        samples: usize,
    },
    /// [`Renyi::new`].
    Renyi {
        /// The order α, at least 0.
        order: f64,
        /// Samples for each observation.
        samples: usize,
    },
}

impl Default for SampledBound {
    fn default() -> Self {
        Self::Elbo { samples: 1 }
    }
}

impl SampledBound {
    /// The number of samples for each observation.
    pub fn samples(self) -> usize {
        match self {
            Self::Elbo { samples }
            | Self::PathDerivative { samples }
            | Self::ImportanceWeighted { samples }
            | Self::DoublyReparameterized { samples }
            | Self::Renyi { samples, .. } => samples,
        }
    }

    /// The same bound with another number of samples.
    pub fn with_samples(self, samples: usize) -> Self {
        match self {
            Self::Elbo { .. } => Self::Elbo { samples },
            Self::PathDerivative { .. } => Self::PathDerivative { samples },
            Self::ImportanceWeighted { .. } => Self::ImportanceWeighted { samples },
            Self::DoublyReparameterized { .. } => Self::DoublyReparameterized { samples },
            Self::Renyi { order, .. } => Self::Renyi { order, samples },
        }
    }

    /// Validates the settings.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`](crate::Error::InvalidParameter) for 0 samples, or an order outside
    /// its range.
    pub fn check(self) -> Result<()> {
        if let Self::Renyi { order, samples } = self {
            Renyi::new(order, samples)?;
        }
        check_samples(self.samples())
    }
}

/// Buffers of [`SampledBound`]: those of the bound that is used.
#[derive(Debug, Clone)]
pub struct SampledWorkspace<T: Real, E, D> {
    elbo: ElboWorkspace<T, E, D>,
    weighted: ImportanceWorkspace<T, E, D>,
}

impl<T: Real, E: Default, D: Default> Default for SampledWorkspace<T, E, D> {
    fn default() -> Self {
        Self { elbo: Default::default(), weighted: Default::default() }
    }
}

/// Calls the method `$method` of the chosen bound with its own workspace.
macro_rules! of_bound {
    ($self:ident, $workspace:ident, $method:ident($($argument:expr),*; $gradient:expr)) => {
        match *$self {
            SampledBound::Elbo { samples } => Elbo::reparameterized(samples)
                .$method($($argument),*, &mut $workspace.elbo, $gradient),
            SampledBound::PathDerivative { samples } => Elbo::path_derivative(samples)
                .$method($($argument),*, &mut $workspace.elbo, $gradient),
            SampledBound::ImportanceWeighted { samples } => ImportanceWeighted::new(samples)
                .$method($($argument),*, &mut $workspace.weighted, $gradient),
            SampledBound::DoublyReparameterized { samples } => ImportanceWeighted::new(samples)
                .with_gradient(WeightedGradient::DoublyReparameterized)
                .$method($($argument),*, &mut $workspace.weighted, $gradient),
            SampledBound::Renyi { order, samples } => Renyi::new(order, samples)?
                .$method($($argument),*, &mut $workspace.weighted, $gradient),
        }
    };
}

impl<T, D, L, P, I> DifferentiableObjective<T, GenerativeModel<D, L, P>, I> for SampledBound
where
    T: Real,
    D: DifferentiableMap<T>,
    L: Likelihood<T>,
    P: Prior<T>,
    I: DifferentiableInference<T>,
{
    type Workspace = SampledWorkspace<T, I::Tape, D::Tape>;

    fn value_and_gradient(
        &self,
        model: &GenerativeModel<D, L, P>,
        inference: &I,
        x: Observations<'_, T>,
        rng: &mut dyn Rng,
        workspace: &mut Self::Workspace,
        gradient: &mut Gradient<T>,
    ) -> Result<T> {
        of_bound!(self, workspace, value_and_gradient(model, inference, x, rng; gradient))
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
        of_bound!(
            self,
            workspace,
            value_and_weighted_gradient(kl_weight, model, inference, x, rng; gradient)
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
        of_bound!(self, workspace, value(model, inference, x, rng; unused))
    }
}
