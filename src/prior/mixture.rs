//! A mixture of Gaussians as prior.

use super::Prior;
use crate::likelihood::Weights;
use crate::map::Parameters;
use crate::{Error, Real, Result};
use nalgebra::{DMatrix, DMatrixView, DVector};
use rand::{Rng, RngExt};

/// The prior Σ_c π_c N(m_c, diag(s_c²)): a mixture of C Gaussians with diagonal covariances, whose
/// shares, means and scales are free.
///
/// ```math
/// \ln π(z) = \ln\sum_c π_c \prod_j N(z_j; m_{cj}, s_{cj}^2)
/// ```
///
/// The free parameters are, for each component, the logarithm of its share up to a common constant,
/// its mean, and the logarithms of its standard deviations.
#[derive(Debug, Clone, PartialEq)]
pub struct MixturePrior<T: Real> {
    latent_dim: usize,
    parameters: Vec<T>,
}

impl<T: Real> MixturePrior<T> {
    /// C components with equal shares, scales of 1 and means that are samples of N(0, I), from
    /// which a fit starts.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] for 0 components.
    pub fn random<R: Rng + ?Sized>(
        components: usize,
        latent_dim: usize,
        rng: &mut R,
    ) -> Result<Self> {
        if components == 0 {
            return Err(Error::InvalidParameter {
                name: "the number of components",
                value: 0.0,
                must: "at least 1",
            });
        }
        let size = 1 + 2 * latent_dim;
        let mut parameters = vec![T::zero(); components * size];
        for component in parameters.chunks_exact_mut(size) {
            component[1..=latent_dim].iter_mut().for_each(|m| *m = T::standard_normal(rng));
        }
        Ok(Self { latent_dim, parameters })
    }

    /// The mixture with the given shares (positive; they are normalised), means (k×C) and standard
    /// deviations (k×C).
    ///
    /// # Errors
    /// [`Error::DimensionMismatch`]; [`Error::InvalidParameter`] for a share or a deviation that is
    /// not positive and finite.
    pub fn from_components(
        shares: &[T],
        means: &DMatrix<T>,
        deviations: &DMatrix<T>,
    ) -> Result<Self> {
        let (latent_dim, components) = means.shape();
        crate::data::expect("shares of the components", components.max(1), shares.len())?;
        crate::data::expect("rows of the deviations", latent_dim, deviations.nrows())?;
        crate::data::expect("columns of the deviations", components, deviations.ncols())?;
        for &value in shares.iter().chain(deviations.iter()) {
            if !(value > T::zero() && value.is_finite()) {
                return Err(Error::InvalidParameter {
                    name: "a share or a deviation of a component",
                    value: value.as_f64(),
                    must: "positive and finite",
                });
            }
        }
        let mut parameters = Vec::new();
        for (c, share) in shares.iter().enumerate() {
            parameters.push(share.ln());
            parameters.extend(means.column(c).iter());
            parameters.extend(deviations.column(c).iter().map(|s| s.ln()));
        }
        Ok(Self { latent_dim, parameters })
    }

    /// The number C of components.
    pub fn components(&self) -> usize {
        self.parameters.len() / self.size()
    }

    /// The shares π_c, which sum to 1.
    pub fn shares(&self) -> DVector<T> {
        let logits = DVector::from_iterator(self.components(), self.parts().map(|part| part.0));
        let largest = logits.max();
        let weights = logits.map(|l| (l - largest).exp());
        let sum = weights.sum();
        weights / sum
    }

    /// The means m_c, k×C.
    pub fn means(&self) -> DMatrix<T> {
        let columns: Vec<_> =
            self.parts().map(|(_, mean, _)| DVector::from_column_slice(mean)).collect();
        DMatrix::from_columns(&columns)
    }

    /// The number of parameters of a component.
    fn size(&self) -> usize {
        1 + 2 * self.latent_dim
    }

    /// The log-share, the mean and the logarithms of the deviations of each component.
    fn parts(&self) -> impl Iterator<Item = (T, &[T], &[T])> {
        let k = self.latent_dim;
        self.parameters.chunks_exact(self.size()).map(move |p| (p[0], &p[1..=k], &p[1 + k..]))
    }

    /// Writes ln π_c N(z; m_c, s_c) of each component to `terms`, and returns ln π(z).
    fn terms(&self, z: &[T], log_shares: &[T], terms: &mut [T]) -> T {
        let half = T::of(0.5);
        let constant = T::of(0.5 * std::f64::consts::TAU.ln());
        for ((term, (_, mean, log_deviations)), &share) in
            terms.iter_mut().zip(self.parts()).zip(log_shares)
        {
            *term = share;
            for ((&z, &mean), &log_deviation) in z.iter().zip(mean).zip(log_deviations) {
                let u = (z - mean) * (-log_deviation).exp();
                *term -= half * u * u + log_deviation + constant;
            }
        }
        let largest = terms.iter().copied().fold(terms[0], |a, b| a.max(b));
        if !largest.is_finite() {
            return largest;
        }
        largest + terms.iter().fold(T::zero(), |sum, &t| sum + (t - largest).exp()).ln()
    }
}

impl<T: Real> Parameters<T> for MixturePrior<T> {
    fn parameters(&self) -> &[T] {
        &self.parameters
    }
    fn parameters_mut(&mut self) -> &mut [T] {
        &mut self.parameters
    }
}

impl<T: Real> Prior<T> for MixturePrior<T> {
    fn latent_dim(&self) -> Option<usize> {
        Some(self.latent_dim)
    }

    fn log_density(&self, z: DMatrixView<'_, T>) -> DVector<T> {
        let log_shares = self.shares().map(|s| s.ln());
        let mut terms = vec![T::zero(); self.components()];
        let z = z.into_owned();
        DVector::from_iterator(
            z.ncols(),
            z.column_iter().map(|z| self.terms(z.as_slice(), log_shares.as_slice(), &mut terms)),
        )
    }

    fn add_log_density_gradient(
        &self,
        z: DMatrixView<'_, T>,
        weights: Weights<'_, T>,
        d_z: &mut DMatrix<T>,
        d_parameters: &mut [T],
    ) -> T {
        let (k, shares) = (self.latent_dim, self.shares());
        let log_shares = shares.map(|s| s.ln());
        let mut terms = vec![T::zero(); self.components()];
        let mut sum = T::zero();
        d_parameters.fill(T::zero());
        for (i, (z, mut d_z)) in z.column_iter().zip(d_z.column_iter_mut()).enumerate() {
            let weight = weights.of(i);
            let density = self.terms(z.clone_owned().as_slice(), log_shares.as_slice(), &mut terms);
            sum += weight * density;
            for (c, (own, (_, mean, log_deviations))) in
                d_parameters.chunks_exact_mut(self.size()).zip(self.parts()).enumerate()
            {
                // The responsibility of the component: a number far below 1 has no effect, and its
                // products would be subnormal.
                let responsibility = (terms[c] - density).exp().flushed() * weight;
                // The shares are a softmax: ∂ ln π/∂ logit_c = responsibility − share.
                own[0] += responsibility - weight * shares[c];
                for j in 0..k {
                    let precision = (-log_deviations[j]).exp();
                    let u = (z[j] - mean[j]) * precision;
                    d_z[j] -= responsibility * u * precision;
                    own[1 + j] += responsibility * u * precision;
                    own[1 + k + j] += responsibility * (u * u - T::one());
                }
            }
        }
        sum
    }

    fn sample(&self, latent_dim: usize, n: usize, rng: &mut dyn Rng) -> DMatrix<T> {
        let shares = self.shares();
        let parts: Vec<_> = self.parts().collect();
        let mut z = DMatrix::zeros(latent_dim, n);
        for mut z in z.column_iter_mut() {
            let mut rest = T::of(rng.random::<f64>());
            let mut chosen = parts.len() - 1;
            for (c, &share) in shares.iter().enumerate() {
                if rest < share {
                    chosen = c;
                    break;
                }
                rest -= share;
            }
            let (_, mean, log_deviations) = parts[chosen];
            for (j, z) in z.iter_mut().enumerate() {
                *z = mean[j] + log_deviations[j].exp() * T::standard_normal(rng);
            }
        }
        z
    }
}
