//! Dynamic binarisation.

use super::{DifferentiableObjective, Gradient};
use crate::linalg::reshape;
use crate::{Error, Observations, Real, Result};
use nalgebra::DMatrix;
use rand::{Rng, RngExt};

/// An objective whose expectation is over binary data drawn from fractions: in each evaluation
/// every entry of x in \[0, 1\] becomes 1 with the probability of its value, else 0.
///
/// ```math
/// J = E_{b \sim \mathrm{Bernoulli}(x)} J_{inner}(b)
/// ```
///
/// In a fit each epoch has its own draw of grey values (dynamic binarisation, Salakhutdinov & Murray
/// 2008). It differs from the Bernoulli likelihood of the fractions themselves, which is the
/// expectation of log p(b|z) at **one** q for all draws of an image.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Binarized<J> {
    /// The objective of binary data.
    pub objective: J,
    /// Whether entries are drawn; without it this is the objective itself.
    pub draw: bool,
}

/// Buffers of [`Binarized`]: those of its objective, and the drawn data.
#[derive(Debug, Clone)]
pub struct BinarizedWorkspace<T: Real, W> {
    inner: W,
    drawn: DMatrix<T>,
}

impl<T: Real, W: Default> Default for BinarizedWorkspace<T, W> {
    fn default() -> Self {
        Self { inner: W::default(), drawn: DMatrix::zeros(0, 0) }
    }
}

/// Draws each entry; NaN, a missing entry, stays.
pub(super) fn draw<T: Real>(
    x: Observations<'_, T>,
    drawn: &mut DMatrix<T>,
    rng: &mut dyn Rng,
) -> Result<()> {
    let (d, n) = x.values().shape();
    reshape(drawn, d, n);
    for (column, (mut to, from)) in
        drawn.column_iter_mut().zip(x.values().column_iter()).enumerate()
    {
        for (row, (to, &from)) in to.iter_mut().zip(from.iter()).enumerate() {
            if from < T::zero() || from > T::one() {
                let (value, support) = (from.as_f64(), "[0, 1]");
                return Err(Error::OutsideSupport { row, column, value, support });
            }
            *to = match from {
                // No number is drawn where the result is known: most pixels are 0.
                _ if from == T::zero() || from == T::one() => from,
                _ if T::of(rng.random::<f64>()) < from => T::one(),
                _ if crate::likelihood::is_missing(from) => from,
                _ => T::zero(),
            };
        }
    }
    Ok(())
}

impl<T, M, I, J> DifferentiableObjective<T, M, I> for Binarized<J>
where
    T: Real,
    J: DifferentiableObjective<T, M, I>,
{
    type Workspace = BinarizedWorkspace<T, J::Workspace>;

    fn value_and_gradient(
        &self,
        model: &M,
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
        model: &M,
        inference: &I,
        x: Observations<'_, T>,
        rng: &mut dyn Rng,
        workspace: &mut Self::Workspace,
        gradient: &mut Gradient<T>,
    ) -> Result<T> {
        let BinarizedWorkspace { inner, drawn } = workspace;
        let x = if self.draw {
            draw(x, drawn, rng)?;
            Observations::trusted(drawn.as_view(), x.population())
        } else {
            x
        };
        let objective = &self.objective;
        objective.value_and_weighted_gradient(kl_weight, model, inference, x, rng, inner, gradient)
    }

    fn value(
        &self,
        model: &M,
        inference: &I,
        x: Observations<'_, T>,
        rng: &mut dyn Rng,
        workspace: &mut Self::Workspace,
        unused: &mut Gradient<T>,
    ) -> Result<T> {
        let BinarizedWorkspace { inner, drawn } = workspace;
        let x = if self.draw {
            draw(x, drawn, rng)?;
            Observations::trusted(drawn.as_view(), x.population())
        } else {
            x
        };
        self.objective.value(model, inference, x, rng, inner, unused)
    }
}
