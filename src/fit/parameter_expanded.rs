//! Parameter-expanded EM: the fixed points of EM, thousands of iterations sooner.

use super::{Fitted, RemainingGain, Stop, Trace};
use crate::data::RootMoment;
use crate::likelihood::IsotropicGaussian;
use crate::linalg::{
    Transpose::{No, Yes},
    gemm, matrix_product, product_tr_left, thin_qr, thin_svd,
};
use crate::{Real, Result};
use nalgebra::{DMatrix, DVector};
use rand::Rng;

/// EM with the prior's covariance set free and folded back into W after each M-step: W ← W chol(mean E[zzᵗ]).
///
/// Plain EM lets E[zzᵗ] reach I at the pace of the smallest signal-to-noise ratio; the expansion gets there in one step. J never falls
/// ([Liu, Rubin & Wu 1998](https://doi.org/10.1093/biomet/85.4.755)).
///
/// With A a square root of S, Q diag(s) = W and m = diag(s/(s²+σ²)) QᵗA, the E-step's moments C = mmᵗ + diag(σ²/(s²+σ²)) have the square root
/// [mᵗ; diag(σ/√(s²+σ²))] = ZL, and the expanded M-step is W ← A Z₁, σ² ← (‖A − W Z₁ᵗ‖² + ‖W Z₂ᵗ‖²)/d: no C is formed, and nothing cancels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ParameterExpanded {
    /// The most iterations that are made.
    pub max_iterations: usize,
    /// The gain of J that may remain, in nats per observation.
    pub tolerance: f64,
}

impl Default for ParameterExpanded {
    fn default() -> Self {
        Self { max_iterations: 10_000, tolerance: 1e-7 }
    }
}

/// W as Q diag(s), beside σ²: the model up to a rotation of z, which the likelihood does not see.
pub(crate) struct AlignedModel {
    pub(crate) directions: DMatrix<f64>,
    pub(crate) singular_values: DVector<f64>,
    pub(crate) likelihood: IsotropicGaussian<f64>,
}

impl AlignedModel {
    pub(crate) fn from_loadings(loadings: &DMatrix<f64>, likelihood: IsotropicGaussian<f64>) -> Result<Self> {
        let svd = thin_svd(loadings.as_view())?;
        Ok(Self { directions: svd.u, singular_values: svd.singular_values, likelihood })
    }

    pub(crate) fn variances(&self) -> DVector<f64> {
        let noise_variance = self.likelihood.noise_variance();
        self.singular_values.map(|s| s * s + noise_variance)
    }

    /// W = Q diag(s).
    pub(crate) fn loadings(&self) -> DMatrix<f64> {
        let mut loadings = self.directions.clone();
        for (mut column, &s) in loadings.column_iter_mut().zip(self.singular_values.iter()) {
            column *= s;
        }
        loadings
    }
}

/// Entry (j, ·) ~ N(0, variance_j).
pub(crate) fn random_loadings<R: Rng + ?Sized>(variances: &DVector<f64>, latent_dim: usize, rng: &mut R) -> DMatrix<f64> {
    let deviations = variances.map(|v| v.sqrt());
    DMatrix::from_fn(variances.len(), latent_dim, |row, _| deviations[row] * f64::standard_normal(rng))
}

/// The smallest variance of a variable that varies: the σ² to start from.
///
/// From a σ² above the variance of a weak direction, that direction's loadings would shrink towards 0, a saddle that takes long to leave.
pub(crate) fn smallest_variance(variances: &DVector<f64>, tolerance: f64) -> f64 {
    let largest = variances.max();
    variances.iter().filter(|&&v| v > tolerance).fold(largest, |smallest, &v| smallest.min(v))
}

/// A beside Q: P = QᵗA, the residual E = A − QP and their squared norms.
pub(crate) struct Projection {
    pub(crate) inside: DMatrix<f64>,
    pub(crate) variances: DVector<f64>,
    pub(crate) outside: f64,
}

impl Projection {
    pub(crate) fn new(root: &DMatrix<f64>, directions: &DMatrix<f64>) -> Self {
        let inside = product_tr_left(directions.as_view(), root.as_view());
        let mut residual = root.clone();
        gemm(-1.0, directions.as_view(), No, inside.as_view(), No, 1.0, residual.as_view_mut());
        let variances = DVector::from_iterator(inside.nrows(), inside.row_iter().map(|row| row.norm_squared()));
        Self { inside, variances, outside: residual.norm_squared() }
    }
}

/// log p per observation of data with spectrum (b along Q, and `outside`) under variances m along Q and σ² elsewhere.
pub(crate) fn log_likelihood(data_dim: usize, model_variances: &DVector<f64>, noise_variance: f64, projection: &Projection) -> f64 {
    let d = data_dim as f64;
    let outside = d - model_variances.len() as f64;
    let noise = noise_variance;
    let mut sum = d * std::f64::consts::TAU.ln() + outside * noise.ln() + projection.outside / noise;
    for (m, b) in model_variances.iter().zip(projection.variances.iter()) {
        sum += m.ln() + b / m;
    }
    -0.5 * sum
}

impl ParameterExpanded {
    /// Raises the likelihood of a model with k latent dimensions from a random start.
    ///
    /// # Errors
    /// Those of the decompositions.
    pub(crate) fn fit<R: Rng + ?Sized>(
        &self,
        moment: &RootMoment,
        latent_dim: usize,
        start: &IsotropicGaussian<f64>,
        rng: &mut R,
    ) -> Result<Fitted<AlignedModel>> {
        let (root, d) = (moment.root(), moment.data_dim());
        let mut model = AlignedModel::from_loadings(&random_loadings(&moment.variances(), latent_dim, rng), *start)?;
        let mut trace = Trace::new();
        let mut rule = RemainingGain::below(self.tolerance);
        let stop = loop {
            let variances = model.variances();
            let projection = Projection::new(root, &model.directions);
            let value = log_likelihood(d, &variances, model.likelihood.noise_variance(), &projection);
            trace.push(value);
            if rule.update(value) {
                break Stop::Converged;
            }
            if trace.len() > self.max_iterations {
                break Stop::IterationLimit;
            }
            // E-step: a square root of the mean of E[zzᵗ].
            let (r, k) = (root.ncols(), latent_dim);
            let mut moments = DMatrix::zeros(r + k, k);
            for j in 0..k {
                let shrinkage = model.singular_values[j] / variances[j];
                for i in 0..r {
                    moments[(i, j)] = shrinkage * projection.inside[(j, i)];
                }
                moments[(r + j, j)] = (model.likelihood.noise_variance() / variances[j]).sqrt();
            }
            let (basis, _) = thin_qr(moments.as_view())?;
            // M-step, with the expansion folded in.
            let loadings = matrix_product(root.as_view(), basis.rows(0, r));
            let mut residual = root.clone();
            gemm(-1.0, loadings.as_view(), No, basis.rows(0, r), Yes, 1.0, residual.as_view_mut());
            let spread = matrix_product(loadings.as_view(), basis.rows(r, k).transpose().as_view());
            let noise_variance = (residual.norm_squared() + spread.norm_squared()) / (d) as f64;
            let mut likelihood = model.likelihood;
            likelihood.set_noise_variance(noise_variance);
            model = AlignedModel::from_loadings(&loadings, likelihood)?;
        };
        Ok(Fitted { model, trace, stop })
    }
}
