//! Initialisation of factor analysis with missing values.

use super::MissingDataRequest;
use super::factor_completion::Completion;
use super::maximization::Theta;
use super::observed::{Observed, ROUNDING};
use super::start::{ALL_CORRELATIONS, LEAST_CORRELATION, NoiseInitialization};
use crate::fit::profile_likelihood::{FactorProblem, ProfileLikelihood};
use crate::likelihood::{DiagonalGaussian, GaussianNoise};
use crate::linalg::symmetric_eigen;
use crate::{Error, Real, Result};
use nalgebra::{DMatrix, DVector};
use rand::Rng;

/// Smallest initial ψ_j, as a fraction of the variance of its variable.
// EM changes a ψ_j near 0 by a vanishing amount per step, and would hardly ever leave a value that
// is too small.
const LEAST: f64 = 0.02;

/// Multiple of its floor below which a ψ_j is tried at the floor whether it decreases or not: an
/// accelerated step may have passed the value at which EM moves it down.
const NEAR_FLOOR: f64 = 10.0;

/// Fraction of the variance of its variable below which a decreasing ψ_j is tried at its floor.
const FLOOR_TRIAL_FRACTION: f64 = 0.1;

/// Bounds of the complete-data optimum that an initialisation is made of.
#[derive(Clone, Copy)]
struct Bounds {
    /// Smallest eigenvalue of the estimated correlations.
    correlation: f64,
    /// Smallest ψ_j, as a fraction of the variance of its variable.
    floor: f64,
    /// See [`ProfileLikelihood::starts`].
    starts: usize,
}

impl<T: Real> Observed<'_, T> {
    /// Returns the indices of the variables that vary, each compared with the rounding error of its
    /// own mean.
    ///
    /// # Errors
    /// [`Error::ZeroVariance`] if no variable varies.
    pub(crate) fn varying(&self) -> Result<Vec<usize>> {
        let varying: Vec<usize> = (0..self.mean.len())
            .filter(|&j| self.variances[j] > ROUNDING * self.mean[j].powi(2))
            .collect();
        let (variables, observations) = (self.mean.len(), self.patterns.order.len());
        if varying.is_empty() {
            Err(Error::ZeroVariance { variables, observations })
        } else {
            Ok(varying)
        }
    }

    /// Returns this noise with the ψ_j of the varying variables set to fractions of their
    /// variances.
    fn with_shares(
        &self,
        noise: &DiagonalGaussian<f64>,
        varying: &[usize],
        shares: &[f64],
        least: f64,
    ) -> DiagonalGaussian<f64> {
        let mut variances = noise.noise_variances();
        for (&j, share) in varying.iter().zip(shares) {
            variances[j] = share.clamp(least, 1.0) * self.variances[j];
        }
        let mut noise = noise.clone();
        noise.set_variances(&variances, &DVector::from_element(variances.len(), 1.0));
        noise
    }
}

impl NoiseInitialization for DiagonalGaussian<f64> {
    /// Returns the best of several models near a maximum: complete-data optima for correlations that
    /// are estimated pair by pair, improved by EM over the missing entries. For many variables,
    /// the complete-data optimum or the principal directions of the correlations themselves.
    fn initialize<T: Real>(
        &self,
        data: &Observed<'_, T>,
        request: &MissingDataRequest,
        rng: &mut dyn Rng,
    ) -> Result<Theta<Self>> {
        let (varying, units) = units(data)?;
        let cautious = Bounds { correlation: LEAST_CORRELATION, floor: LEAST, starts: 2 };
        if varying.len() > ALL_CORRELATIONS {
            return principal_directions(self, data, request, rng);
        }
        let pairwise = data.correlations(&units).select_rows(&varying).select_columns(&varying);
        let first = complete_data_optimum(self, data, request, &pairwise, cautious, rng)?;
        let Some(completion) = Completion::new(data, request.mean, self, request.latent_dim) else {
            return Ok(first);
        };
        let floor = completion.floor();
        let mut candidates = vec![first.clone()];
        // A near-identity between variables survives only without a bound on the eigenvalues, and
        // that of two variables only in the correlations of their common entries.
        let common = completion.common_correlations();
        for (correlations, starts) in [(&pairwise, 2), (&common, 0)] {
            let free = Bounds { correlation: floor, floor, starts };
            candidates
                .extend(complete_data_optimum(self, data, request, correlations, free, rng).ok());
        }
        let better = |candidates: &[Theta<Self>]| {
            let improved = candidates.iter().filter_map(|c| completion.improve(c));
            improved.reduce(|best, other| if other.1 > best.1 { other } else { best })
        };
        let Some(best) = better(&candidates) else { return Ok(first) };
        let with_identities = completion.with_identities(&best.0, &common);
        Ok(better(&with_identities).filter(|other| other.1 > best.1).unwrap_or(best).0)
    }

    fn initialize_randomly<T: Real>(
        &self,
        data: &Observed<'_, T>,
        request: &MissingDataRequest,
        rng: &mut dyn Rng,
    ) -> Theta<Self> {
        // Half of each variance for the factors and half for the noise.
        let loadings = data.random_loadings(request.latent_dim, rng)
            / (2.0 * request.latent_dim as f64).sqrt();
        let varying = data.varying().unwrap_or_default();
        let shares = vec![0.5; varying.len()];
        let start =
            Theta::new(loadings, &data.mean, data.with_shares(self, &varying, &shares, LEAST));
        let completion = Completion::new(data, request.mean, self, request.latent_dim);
        let improved = completion.and_then(|completion| completion.improve(&start));
        improved.map_or(start, |(theta, _)| theta)
    }

    /// Returns candidates with decreasing, small ψ_j at their floors: all of them at once, and each
    /// by itself.
    fn noise_at_floor(theta: &Theta<Self>, next: &Theta<Self>) -> Vec<Self> {
        let noise = &theta.noise;
        let (variances, floors, after) =
            (noise.noise_variances(), noise.floors(), next.noise.noise_variances());
        let creeps = |&j: &usize| {
            let all = variances[j] + theta.loadings().row(j).norm_squared();
            let near = variances[j] < NEAR_FLOOR * floors[j];
            floors[j] < variances[j]
                && (near || after[j] < variances[j])
                && variances[j] < FLOOR_TRIAL_FRACTION * all
        };
        let creeping: Vec<usize> = (0..variances.len()).filter(creeps).collect();
        let at_floor = |those: &[usize]| {
            let mut lowered = variances.clone();
            those.iter().for_each(|&j| lowered[j] = floors[j]);
            let mut noise = noise.clone();
            noise.set_variances(&lowered, &DVector::from_element(lowered.len(), 1.0));
            noise
        };
        let single = if creeping.len() > 1 { creeping.chunks(1) } else { [].chunks(1) };
        std::iter::once(&creeping[..])
            .filter(|all| !all.is_empty())
            .chain(single)
            .map(at_floor)
            .collect()
    }
}

/// The indices of the variables that vary, and the standard deviation of each variable, 0 for the
/// others.
fn units<T: Real>(data: &Observed<'_, T>) -> Result<(Vec<usize>, DVector<f64>)> {
    let varying = data.varying()?;
    let mut units = DVector::zeros(data.mean.len());
    varying.iter().for_each(|&j| units[j] = data.variances[j].sqrt());
    Ok((varying, units))
}

/// Returns the complete-data optimum for these correlations of the variables that vary, estimated
/// from the observed entries.
fn complete_data_optimum<T: Real>(
    noise: &DiagonalGaussian<f64>,
    data: &Observed<'_, T>,
    request: &MissingDataRequest,
    correlations: &DMatrix<f64>,
    bounds: Bounds,
    rng: &mut dyn Rng,
) -> Result<Theta<DiagonalGaussian<f64>>> {
    let (varying, units) = units(data)?;
    let k = request.latent_dim;
    let eigen = symmetric_eigen(correlations.as_view())?;
    let mut root = eigen.vectors;
    for (mut column, &value) in root.column_iter_mut().zip(eigen.values.iter()) {
        column *= value.max(bounds.correlation).sqrt();
    }
    // Rows of norm 1 again: the bounded eigenvalues no longer have a unit diagonal.
    root.row_iter_mut().for_each(|mut row| row /= row.norm());
    // A low accuracy is enough for an initialisation.
    let roughly = ProfileLikelihood { tolerance: 1e-4, max_iterations: 100, starts: bounds.starts };
    let problem = FactorProblem {
        root: &root,
        observations: data.patterns.order.len(),
        latent_dim: k,
        floor: bounds.floor,
        restarts: 0,
    };
    let found = roughly.fit(&problem, rng, &mut ())?.model;
    let mut loadings = DMatrix::zeros(units.len(), k);
    for (place, &j) in varying.iter().enumerate() {
        loadings.row_mut(j).copy_from(&(found.loadings.row(place) * units[j]));
    }
    let shares: Vec<f64> = found.noise_variances.iter().copied().collect();
    let noise = data.with_shares(noise, &varying, &shares, bounds.floor);
    Ok(Theta::new(loadings, &data.mean, noise))
}

/// Returns the model of the principal directions of the correlations, which are not formed.
fn principal_directions<T: Real>(
    noise: &DiagonalGaussian<f64>,
    data: &Observed<'_, T>,
    request: &MissingDataRequest,
    rng: &mut dyn Rng,
) -> Result<Theta<DiagonalGaussian<f64>>> {
    let (varying, units) = units(data)?;
    let k = request.latent_dim;
    let mut loadings = DMatrix::zeros(units.len(), k);
    // The centred values of a variable that does not vary are 0 in any unit.
    let (directions, variances) =
        data.components(k, &units.map(|unit| if unit > 0.0 { unit } else { 1.0 }), rng)?;
    // In units of the standard deviations the total variance is the number of variables; what the
    // directions leave is shared by the rest.
    let left = (varying.len() as f64 - variances.iter().map(|v| v.max(0.0)).sum::<f64>())
        / (varying.len() - k) as f64;
    let left = left.max(LEAST);
    for (m, &variance) in variances.iter().enumerate() {
        let length = (variance - left).max(left).sqrt();
        loadings.set_column(m, &directions.column(m).component_mul(&units).scale(length));
    }
    let shares: Vec<f64> =
        varying.iter().map(|&j| 1.0 - loadings.row(j).norm_squared() / data.variances[j]).collect();
    Ok(Theta::new(loadings, &data.mean, data.with_shares(noise, &varying, &shares, LEAST)))
}
