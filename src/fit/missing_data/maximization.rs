//! M-step of a linear-Gaussian model with missing values, one regression per variable, and the
//! parameter expansion of its prior.

use super::expectation::Statistics;
use crate::Result;
use crate::data::Centering;
use crate::likelihood::GaussianNoise;
use crate::linalg::vector::vectorized;
use crate::linalg::{
    Batch, LANES, Lane, matrix_product, packed, packed_len, product_tr_left, solve_batch,
    symmetric_eigen, thin_svd,
};
use crate::model::incomplete::Parameters;
use nalgebra::{DMatrix, DMatrixView, DVector};

/// Parameters: [W μ] (d×(k+1)), and the noise.
#[derive(Debug, Clone)]
pub(crate) struct Theta<N> {
    pub(crate) augmented: DMatrix<f64>,
    pub(crate) noise: N,
}

impl<N: GaussianNoise<f64>> Theta<N> {
    pub(crate) fn new(loadings: DMatrix<f64>, mean: &DVector<f64>, noise: N) -> Self {
        let k = loadings.ncols();
        let mut augmented = loadings.insert_column(k, 0.0);
        augmented.set_column(k, mean);
        Self { augmented, noise }
    }

    pub(crate) fn latent_dim(&self) -> usize {
        self.augmented.ncols() - 1
    }

    pub(crate) fn loadings(&self) -> DMatrixView<'_, f64> {
        self.augmented.columns(0, self.latent_dim())
    }

    pub(crate) fn mean(&self) -> DVector<f64> {
        self.augmented.column(self.latent_dim()).into_owned()
    }

    /// Returns the noise variance of each variable, d×1.
    pub(crate) fn variances(&self) -> DVector<f64> {
        self.noise.variances(self.augmented.nrows())
    }

    pub(crate) fn parameters(&self) -> Parameters {
        Parameters::new(
            self.loadings().into_owned(),
            self.mean(),
            self.variances(),
            self.noise.common_variance(),
        )
    }

    /// Returns D⁻¹W.
    pub(crate) fn scaled_loadings(&self) -> DMatrix<f64> {
        let mut loadings = self.loadings().into_owned();
        self.noise.divide_by_scales(&mut loadings);
        loadings
    }

    /// Applies the rotation W ← WR.
    pub(crate) fn rotate(&mut self, rotation: &DMatrix<f64>) {
        let rotated = matrix_product(self.loadings(), rotation);
        let k = self.latent_dim();
        self.augmented.columns_mut(0, k).copy_from(&rotated);
    }

    /// Returns an orthogonal R for which the columns of D⁻¹WR are orthogonal, or `None` if they
    /// nearly are. M_o = W_oᵗW_o + σ²I then keeps weak loadings accurate beside strong ones.
    pub(crate) fn orthogonalizing_rotation(&self) -> Result<Option<DMatrix<f64>>> {
        let loadings = self.scaled_loadings();
        let gram = product_tr_left(&loadings, &loadings);
        let k = self.latent_dim();
        // Two columns count as far from orthogonal if the squared cosine of their angle exceeds
        // 0.1.
        let skew = (0..k)
            .any(|a| (0..a).any(|b| gram[(a, b)].powi(2) > 0.1 * gram[(a, a)] * gram[(b, b)]));
        Ok(if skew { Some(thin_svd(loadings.as_view())?.v) } else { None })
    }
}

/// M-step: sets θ to the maximum of E ln p(x, z). With r = x − μ and w̃ = [w 0], the change Δ_j of
/// [w_j μ_j] solves G_j Δ_j = Σ r_j E[z̃] − G_j w̃_j.
///
/// σ² is the mean of E[(x − Wz − μ)²] over the observed entries: its value at the old W and μ, a
/// sum of squares, minus Σ_j Δ_jᵗG_jΔ_j. A ψ_j is the same mean over the entries of its variable: Σ
/// r_j² − w̃_jᵗ(2Σ r_j E[z̃] − G_j w̃_j), minus Δ_jᵗG_jΔ_j. The cancellation in it is bounded by
/// the floor of ψ_j, and a relative error ε of ψ_j costs ε² nats.
pub(crate) fn maximize<N: GaussianNoise<f64>>(
    theta: &mut Theta<N>,
    statistics: &Statistics,
    mean: Centering,
) {
    let (d, k) = (theta.augmented.nrows(), theta.latent_dim());
    let free = k + usize::from(mean == Centering::Mean);
    let mut batch = Batch::new(free);
    let lanes = || vec![[0.0; LANES]; free];
    let (mut right, mut y, mut change): (Vec<Lane>, Vec<Lane>, Vec<Lane>) =
        (lanes(), lanes(), lanes());
    let (moments, products) =
        (statistics.second_moments.as_slice(), statistics.products.as_slice());
    let common = theta.noise.common_variance();
    let scales = theta.variances().map(|variance| (variance / common).sqrt());
    let augmented = theta.augmented.as_mut_slice();
    let mut gained = DVector::<f64>::zeros(d);
    let mut explained = DVector::<f64>::zeros(d);
    // The d regressions have one (k+1)×(k+1) matrix each; eight are factored side by side, one per
    // SIMD lane.
    for first in (0..d).step_by(LANES) {
        let count = LANES.min(d - first);
        for (pair, lane) in batch.matrix.iter_mut().enumerate() {
            // Unused lanes of the last batch keep 1 in all entries: a singular matrix, whose result
            // is never read.
            *lane = [1.0; LANES];
            lane[..count].copy_from_slice(&moments[pair * d + first..pair * d + first + count]);
        }
        for (a, lane) in right.iter_mut().enumerate() {
            *lane = [0.0; LANES];
            for (place, out) in lane[..count].iter_mut().enumerate() {
                let j = first + place;
                let product = scales[j] * products[a * d + j];
                let known: f64 = (0..k)
                    .map(|b| moments[packed(a.max(b), a.min(b)) * d + j] * augmented[b * d + j])
                    .sum();
                *out = product - known;
                if a < k {
                    explained[j] += augmented[a * d + j] * (product + *out);
                }
            }
        }
        vectorized(
            #[inline(always)]
            || {
                batch.factor();
                solve_batch(&batch.inverse_factor, &right, &mut y, &mut change);
            },
        );
        // A variable whose G_j is numerically singular keeps its row: few observations of it, or
        // codes that hardly vary among them, do not determine the regression. ‖y‖² = ΔᵗGΔ comes
        // with the solve.
        for lane in (0..count).filter(|&lane| batch.smallest_pivot_ratio[lane] > 1e-14) {
            gained[first + lane] = y.iter().map(|y| y[lane] * y[lane]).sum::<f64>();
            for (a, change) in change.iter().enumerate() {
                augmented[a * d + first + lane] += change[lane];
            }
        }
    }
    let (squares, counts) = if theta.noise.is_shared() {
        let squares = statistics.squares + common * statistics.spread - gained.sum();
        (DVector::from_element(1, squares), DVector::from_element(1, statistics.observed()))
    } else {
        let square = |j: usize| {
            scales[j] * scales[j] * statistics.squares_of_variables[j] - explained[j] - gained[j]
        };
        (DVector::from_fn(d, |j, _| square(j)), statistics.counts().into_owned())
    };
    // Rounding may leave a difference at or below 0, which has no logarithm.
    theta.noise.set_variances(&squares.map(|square| square.max(f64::MIN_POSITIVE)), &counts);
}

/// Parameter expansion (Liu, Rubin & Wu 1998): estimates the prior N(ζ, V) of z over the
/// observations and absorbs it into the model: μ ← μ + Wζ, W ← WV^½.
///
/// # Errors
/// Errors of the eigendecomposition.
pub(crate) fn expand<N: GaussianNoise<f64>>(
    theta: &mut Theta<N>,
    statistics: &Statistics,
    mean: Centering,
) -> Result<()> {
    let k = theta.latent_dim();
    let n = statistics.rows();
    let total = |a: usize, b: usize| statistics.totals[packed(a.max(b), a.min(b))] / n;
    let centre = match mean {
        Centering::Mean => DVector::from_fn(k, |a, _| total(k, a)),
        Centering::None => DVector::zeros(k),
    };
    let spread = DMatrix::from_fn(k, k, |a, b| total(a, b) - centre[a] * centre[b]);
    let eigen = symmetric_eigen(spread.as_view())?;
    let mut scaled = eigen.vectors.clone();
    for (mut column, &value) in scaled.column_iter_mut().zip(eigen.values.iter()) {
        column *= value.max(0.0).sqrt();
    }
    // The symmetric square root, not a Cholesky factor: near V = I it rotates z only to second
    // order. A rotation leaves J unchanged, but would enter the step that the acceleration
    // extrapolates.
    let root = matrix_product(&scaled, eigen.vectors.transpose().as_view());
    let shift = theta.loadings() * &centre;
    let mut of_mean = theta.augmented.column_mut(k);
    of_mean += shift;
    theta.rotate(&root);
    debug_assert_eq!(statistics.totals.len(), packed_len(k + 1));
    Ok(())
}
