//! Closed-form optima of the linear autoencoder and of probabilistic PCA, from principal
//! components.

use super::em::aligned::AlignedModel;
use crate::data::{
    Centering, Dense, ModelRounding, ScatterFactor, check_latent_dim, largest_square, resolution,
};
use crate::likelihood::IsotropicGaussian;
use crate::linalg::{
    PcaAlgorithm, Solver, fix_directions, principal_components_by, principal_components_centred,
};
use crate::{Error, Observations, Real, Result};
use nalgebra::{DMatrix, DVector};

pub(crate) use crate::linalg::orient;

/// Principal components about a mean: U_k (d×k) and λ_1 ≥ … ≥ λ_k, with the sum of the other
/// eigenvalues.
pub(crate) struct Principal {
    pub(crate) directions: DMatrix<f64>,
    pub(crate) variances: DVector<f64>,
    /// Σ_{j>k} λ_j.
    pub(crate) outside: f64,
    /// μ in double precision.
    pub(crate) mean: DVector<f64>,
    /// n, or the sum of the weights.
    pub(crate) weight: f64,
    /// The variance up to which a direction counts as one without variance.
    pub(crate) tolerance: f64,
    pub(crate) route: SolverReport,
}

/// Report of a closed-form fit: the algorithm that found the principal components, and its
/// accuracy.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct SolverReport {
    /// The algorithm that was used.
    pub solver: PcaAlgorithm,
    /// Passes over the data; 1 for data in memory and for moments.
    pub passes: usize,
    /// The largest residual ‖S u_j − λ_j u_j‖/λ_1, for the solver that
    /// [measures](Solver::Randomized) it.
    pub accuracy: Option<f64>,
}

impl Principal {
    /// The principal components from a square-root factor of the covariance S, for data that are
    /// not in memory. The factor is used as a table of at most d observations with second moment S.
    pub(crate) fn of_root(
        moment: &ScatterFactor,
        weight: f64,
        latent_dim: usize,
        solver: Solver,
    ) -> Result<Self> {
        moment.check_latent_dim(latent_dim)?;
        let root = moment.coordinates();
        // The second moment of a table has its number of columns as divisor.
        let table = root * (root.ncols() as f64).sqrt();
        let found = principal_components_by(table.as_view(), None, latent_dim, solver)?;
        let mut directions = moment.lift(found.vectors);
        fix_directions(&mut directions, found.variances.iter().copied());
        Ok(Self {
            directions,
            variances: found.variances,
            outside: found.residual_variance,
            mean: moment.mean().clone(),
            weight,
            tolerance: moment.tolerance(),
            route: SolverReport { solver: found.solver, passes: 1, accuracy: found.accuracy },
        })
    }

    /// The principal components of complete data, which are validated in the same pass.
    pub(crate) fn of<T: Real>(
        x: Dense<'_, T>,
        mean: Centering,
        latent_dim: usize,
        solver: Solver,
    ) -> Result<Self> {
        // Only the fit about an estimated mean forms sums of squares that prove the data valid.
        let (values, checked) = match x.to_validate() {
            Some(values) if mean == Centering::Mean && !values.is_empty() => (values, false),
            _ => (x.validate()?.values(), true),
        };
        let (d, n) = values.shape();
        mean.expect_enough(n)?;
        check_latent_dim(latent_dim, n, d)?;
        let (mean, found) = match mean {
            Centering::Mean => {
                let check = || if checked { Ok(()) } else { Observations::new(values).map(drop) };
                let limit = largest_square::<T>(d, n).as_f64();
                // The components are those about the mean in double precision, not about the mean
                // that a model in the precision of the data stores.
                principal_components_centred(values, limit, check, latent_dim, solver)
                    .map(|(mean, found)| (DVector::from_vec(mean), found))?
            }
            Centering::None => {
                (DVector::zeros(d), principal_components_by(values, None, latent_dim, solver)?)
            }
        };
        let total = found.total_variance.as_f64();
        let tolerance = resolution(values, &mean, total)?;
        let wide = |v: &T| v.as_f64();
        Ok(Self {
            directions: found.vectors.map(|v| wide(&v)),
            variances: found.variances.map(|v| wide(&v)),
            outside: found.residual_variance.as_f64(),
            mean,
            weight: n as f64,
            tolerance,
            route: SolverReport {
                solver: found.solver,
                passes: 1,
                accuracy: found.accuracy.map(|share| share.as_f64()),
            },
        })
    }

    /// The total variance of the variables.
    pub(crate) fn total_variance(&self) -> f64 {
        self.variances.sum() + self.outside
    }

    /// What rounding to the precision `T` takes from a model with these components.
    pub(crate) fn rounding<T: Real>(&self) -> ModelRounding {
        ModelRounding::of::<T>(&self.mean, self.total_variance())
    }

    /// The number of variances above the rounding error of the data and of a model's loadings.
    pub(crate) fn resolved(&self, rounding: &ModelRounding) -> usize {
        let tolerance = self.tolerance + rounding.loadings;
        self.variances.iter().filter(|&&v| v > tolerance).count()
    }

    /// The maximum-likelihood parameters (Tipping & Bishop 1999): Ŵ = U_k (diag(λ_j) − σ²I)^½, σ²
    /// (the mean variance outside, a fixed value, or its lower bound), and the mean.
    ///
    /// With a lower bound, σ² is not below the square of the [rounding](ModelRounding::noise) of the
    /// mean to the precision `T` either: the model would otherwise give data beside an offset a
    /// likelihood near 0.
    pub(crate) fn maximum_likelihood<T: Real>(
        self,
        fixed: Option<f64>,
        floor: Option<f64>,
    ) -> Result<(AlignedModel, DVector<f64>)> {
        let (d, k) = self.directions.shape();
        let rounding = self.rounding::<T>();
        // Within rounding of 0, σ² would be rounding error: the likelihood counts as unbounded.
        let nothing_left = k == d || self.outside <= self.tolerance + rounding.loadings;
        let learned = if nothing_left { 0.0 } else { self.outside / (d - k) as f64 };
        let least = rounding.noise(&self.directions, &self.variances);
        let likelihood = match (fixed, floor) {
            (Some(variance), _) => IsotropicGaussian::fixed(variance)?,
            (None, Some(floor)) => {
                IsotropicGaussian::new(learned.max(floor).max(least))?.with_floor(floor)?
            }
            (None, None) if nothing_left => {
                return Err(Error::Unbounded { latent_dim: k, rank: self.resolved(&rounding) });
            }
            (None, None) if learned <= least => return Err(rounding.offset_error(&self.mean)),
            (None, None) => IsotropicGaussian::new(learned)?,
        };
        let noise_variance = likelihood.noise_variance();
        // λ_j − σ² < 0 is possible for a fixed σ² or an active lower bound: the column is 0.
        let singular_values = self.variances.map(|v| (v - noise_variance).max(0.0).sqrt());
        Ok((AlignedModel { directions: self.directions, singular_values, likelihood }, self.mean))
    }
}
