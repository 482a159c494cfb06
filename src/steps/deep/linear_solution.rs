//! The linear model that a deep one contains, with the affine encoder of the best q of a family:
//! the initialisation of a deep model.

use super::builder::{DeepBuilder, DeepModel, Scales};
use super::noise::{DeepNoise, NoiseSettings};
use crate::inference::{Amortized, GaussianEncoder};
use crate::linalg::{fix_directions, thin_svd};
use crate::map::Mlp;
use crate::posterior::PosteriorFamily;
use crate::{Error, Observations, Real, Result};
use nalgebra::{DMatrix, DVector};
use rand::Rng;

/// A linear decoder with Gaussian noise and an affine encoder of the family Q at the maximum of J.
///
/// With W̃ = Ψ^−½W = QSVᵗ of the maximum-likelihood model, rotated so that V = I, the posterior
/// precision I + S² is diagonal, and so is the encoder of the best q: its mean is
/// S(I + S²)⁻¹QᵗΨ^−½(x − μ), and its covariance is the KL projection of (I + S²)⁻¹ onto Q.
pub(super) struct LinearSolution<L> {
    /// W, d×k.
    pub(super) loadings: DMatrix<f64>,
    pub(super) noise: L,
    /// The encoder's mean, k×d: it is applied to x − μ.
    projection: DMatrix<f64>,
    /// The rows of φ after the mean, equal for all x.
    scale: DVector<f64>,
    /// The step size of each row of φ: a posterior standard deviation for a mean.
    phi_units: DVector<f64>,
    /// The step size of each output of the decoder: a standard deviation of the noise, or of the
    /// variable where that is smaller.
    pub(super) output_units: DVector<f64>,
}

impl<L> LinearSolution<L> {
    /// The optimum for the data and the settings of a builder.
    pub(super) fn of<T: Real, Q: PosteriorFamily<T>, S: DeepModel<T>>(
        builder: &DeepBuilder<T, S>,
        x: Observations<'_, T>,
        scales: &Scales<T>,
        rng: &mut dyn Rng,
    ) -> Result<Self>
    where
        L: DeepNoise<T>,
    {
        let k = builder.latent_dim;
        let settings = builder.noise_settings(scales);
        let noise = L::of_data(settings, &scales.deviations)?;
        let (d, loadings) = (x.data_dim(), maximum_likelihood::<T, L>(settings, k, x, rng)?);
        let (loadings, noise) = match loadings {
            Some((loadings, variances)) => (loadings, noise.of_linear(settings, &variances)?),
            None => (DMatrix::zeros(d, 0), noise),
        };
        let noise_deviations = noise.variances(d).map(|v| v.as_f64().sqrt());
        let (directions, singular_values) = whitened(loadings, &noise_deviations)?;
        let (singular_values, q) = best_loadings::<T, Q>(&singular_values, k)?;
        // Dimensions beyond those of the linear model have loadings 0: their q is the prior.
        let directions = directions.resize_horizontally(k, 0.0);
        let mut loadings = directions.clone();
        let mut projection = directions.transpose();
        for (m, s) in singular_values.iter().enumerate() {
            loadings.column_mut(m).component_mul_assign(&(&noise_deviations * *s));
            projection.row_mut(m).scale_mut(s / (1.0 + s * s));
        }
        for (j, mut column) in projection.column_iter_mut().enumerate() {
            column /= noise_deviations[j];
        }
        let phi = q.parameters().column(0).map(|v| v.as_f64());
        Ok(Self {
            loadings,
            noise,
            projection,
            scale: phi.rows_range(k..).into_owned(),
            phi_units: q.parameter_scales().column(0).map(|v| v.as_f64()),
            output_units: noise_deviations.zip_map(&scales.deviations, |n, s| n.min(s.as_f64())),
        })
    }

    /// The encoder: the affine map of the solution, with a random network beside it whose last
    /// layer is 0.
    pub(super) fn encoder<T: Real, Q: PosteriorFamily<T>, S: DeepModel<T>>(
        &self,
        builder: &DeepBuilder<T, S>,
        scales: &Scales<T>,
        mut rng: &mut dyn Rng,
    ) -> Result<Amortized<GaussianEncoder<Mlp<T>, Q>>> {
        let (k, d) = self.projection.shape();
        let rows = self.phi_units.len();
        let mut weights = DMatrix::zeros(rows, d);
        weights.rows_mut(0, k).copy_from(&self.projection);
        for (j, mut column) in weights.column_iter_mut().enumerate() {
            column *= scales.deviations[j].as_f64();
            column.component_div_assign(&self.phi_units);
        }
        let mut bias = DVector::zeros(rows);
        bias.rows_range_mut(k..).copy_from(&self.scale);
        bias.component_div_assign(&self.phi_units);
        let mut map = builder
            .layers(d, rows, false)
            .input_standardization(scales.mean.clone(), scales.deviations.clone())
            .output_scale(DVector::zeros(rows), self.phi_units.map(T::of));
        if scales.missing {
            // The indicators of missing values have no weight at first.
            map = map.missing_inputs();
            weights = weights.resize_horizontally(2 * d, 0.0);
        }
        let map = map.build(&mut rng)?.with_affine_map(weights.map(T::of), bias.map(T::of))?;
        Ok(Amortized::new(GaussianEncoder::new(map, k)?))
    }

    /// The decoder: the linear map of the solution, with a random network beside it whose last
    /// layer is 0.
    pub(super) fn decoder<T: Real, S: DeepModel<T>>(
        &self,
        builder: &DeepBuilder<T, S>,
        scales: &Scales<T>,
        mut rng: &mut dyn Rng,
    ) -> Result<Mlp<T>> {
        let (d, k) = self.loadings.shape();
        let weights = DMatrix::from_fn(d, k, |j, m| match self.output_units[j] {
            // A constant variable: the output is its mean.
            0.0 => T::zero(),
            unit => T::of(self.loadings[(j, m)] / unit),
        });
        builder
            .layers(k, d, true)
            .output_scale(scales.mean.clone(), self.output_units.map(T::of))
            .build(&mut rng)?
            .with_affine_map(weights, DVector::zeros(d))
    }
}

/// The loadings and noise variances of the linear model with k latent dimensions, or with as many
/// as leave noise; `None` if none do.
fn maximum_likelihood<T: Real, L: DeepNoise<T>>(
    settings: NoiseSettings<T>,
    latent_dim: usize,
    x: Observations<'_, T>,
    rng: &mut dyn Rng,
) -> Result<Option<(DMatrix<f64>, DVector<T>)>> {
    // n observations about their mean have rank n − 1 at most.
    let mut k = latent_dim.min(x.data_dim()).min(x.len() - 1);
    while k > 0 {
        match L::linear_fit(settings, k, x, rng) {
            Ok(model) => {
                let variances = model.likelihood().variances(x.data_dim());
                return Ok(Some((model.loadings().map(|v| v.as_f64()), variances)));
            }
            // With k at the rank of the data the likelihood is unbounded.
            Err(Error::Unbounded { rank, .. }) => k = (k - 1).min(rank.saturating_sub(1)),
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// The left singular vectors and the singular values of Ψ^−½W.
fn whitened(
    mut loadings: DMatrix<f64>,
    noise_deviations: &DVector<f64>,
) -> Result<(DMatrix<f64>, DVector<f64>)> {
    if loadings.is_empty() {
        return Ok((loadings, DVector::zeros(0)));
    }
    for mut column in loadings.column_iter_mut() {
        column.component_div_assign(noise_deviations);
    }
    let mut svd = thin_svd(loadings.as_view())?;
    // The orientation of the closed form, so that codes look alike in all steps.
    fix_directions(&mut svd.u, svd.singular_values.iter().copied());
    Ok((svd.u, svd.singular_values))
}

/// The singular values of Ψ^−½W at which J is largest with the best q of the family, of two
/// candidates, and that q (of one observation at the mean).
///
/// The first are those of maximum likelihood, optimal for a family that contains the exact
/// posterior. The second are the optimum of an isotropic q: with the eigenvalues λ_j of the
/// whitened second moment and m = mean √λ_j, they are √(m√λ_j − 1).
fn best_loadings<T: Real, Q: PosteriorFamily<T>>(
    singular_values: &DVector<f64>,
    latent_dim: usize,
) -> Result<(DVector<f64>, Q)> {
    // At the maximum of the likelihood λ_j = 1 + s_j².
    let variances = singular_values.map(|s| 1.0 + s * s);
    let mean_root = variances.iter().map(|v| v.sqrt()).sum::<f64>() / variances.len().max(1) as f64;
    let balanced = variances.map(|v| (mean_root * v.sqrt() - 1.0).max(0.0).sqrt());
    let maximum = candidate::<T, Q>(singular_values.clone(), &variances, latent_dim)?;
    let balanced = candidate::<T, Q>(balanced, &variances, latent_dim)?;
    let (_, singular_values, q) = if balanced.0 < maximum.0 { balanced } else { maximum };
    Ok((singular_values, q))
}

/// −J of singular values of Ψ^−½W with the best q of the family, but for what all candidates share,
/// with both.
fn candidate<T: Real, Q: PosteriorFamily<T>>(
    singular_values: DVector<f64>,
    variances: &DVector<f64>,
    latent_dim: usize,
) -> Result<(f64, DVector<f64>, Q)> {
    let precisions = singular_values.map(|s| 1.0 + s * s).resize_vertically(latent_dim, 1.0);
    let root = DMatrix::from_diagonal(&precisions.map(f64::sqrt));
    let q = Q::nearest(DMatrix::zeros(latent_dim, 1), root.as_view())?;
    // −log p is ½Σ(ln m_j + λ_j/m_j) with the precisions m_j, and the gap KL(q‖p) is
    // ½(tr ΛΣ − tr Σ − ln|Λ|) + KL(q‖N(0, I)) at the mean 0.
    let log_determinant: f64 = precisions.iter().map(|m| m.ln()).sum();
    let misfit = precisions.iter().zip(variances).map(|(m, v)| v / m).sum::<f64>();
    let trace = |root: &DMatrix<f64>| q.trace_with(root.as_view())[0].as_f64();
    let traces = trace(&root) - trace(&DMatrix::identity(latent_dim, latent_dim));
    let gap = 0.5 * (traces - log_determinant) + q.kl_to_prior()[0].as_f64();
    Ok((0.5 * (log_determinant + misfit) + gap, singular_values, q))
}
