//! The M-step of probabilistic PCA with holes, a regression for each variable, and the expansion of its prior.

use super::expectation::Statistics;
use crate::Result;
use crate::data::Mean;
use crate::likelihood::IsotropicGaussian;
use crate::linalg::vector::vectorized;
use crate::linalg::{Batch, LANES, Lane, matrix_product, packed, packed_len, product_tr_left, solve_batch, symmetric_eigen, thin_svd};
use crate::model::incomplete::Parameters;
use nalgebra::{DMatrix, DMatrixView, DVector};

/// W and μ side by side (d×(k+1)), and σ².
#[derive(Debug, Clone)]
pub(crate) struct Theta {
    pub(crate) augmented: DMatrix<f64>,
    pub(crate) noise: IsotropicGaussian<f64>,
}

impl Theta {
    pub(crate) fn new(loadings: DMatrix<f64>, mean: &DVector<f64>, noise: IsotropicGaussian<f64>) -> Self {
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

    pub(crate) fn parameters(&self) -> Parameters {
        Parameters::new(self.loadings().into_owned(), self.mean(), self.noise.noise_variance())
    }

    /// W ← WR.
    pub(crate) fn rotate(&mut self, rotation: &DMatrix<f64>) {
        let rotated = matrix_product(self.loadings(), rotation);
        let k = self.latent_dim();
        self.augmented.columns_mut(0, k).copy_from(&rotated);
    }

    /// An orthogonal R after which the columns of WR are orthogonal, if they are far from it: M_o then keeps weak loadings beside strong ones.
    pub(crate) fn straightening(&self) -> Result<Option<DMatrix<f64>>> {
        let gram = product_tr_left(self.loadings(), self.loadings());
        let k = self.latent_dim();
        let skew = (0..k).any(|a| (0..a).any(|b| gram[(a, b)].powi(2) > 0.1 * gram[(a, a)] * gram[(b, b)]));
        Ok(if skew { Some(thin_svd(self.loadings())?.v) } else { None })
    }
}

/// Moves θ to the maximum of E ln p(x, z): with r = x − μ and w̃ = [w 0], G_j Δ_j = Σ r_j E[z̃] − G_j w̃_j is the change of [w_j μ_j].
///
/// σ² is the mean of E[(x − Wz − μ)²] over the observed entries: that at the old W and μ, a sum of squares, less Σ_j Δ_jᵗG_jΔ_j.
pub(crate) fn maximize(theta: &mut Theta, statistics: &Statistics, mean: Mean) {
    let (d, k) = (theta.augmented.nrows(), theta.latent_dim());
    let free = k + usize::from(mean == Mean::Estimated);
    let mut batch = Batch::new(free);
    let lanes = || vec![[0.0; LANES]; free];
    let (mut right, mut y, mut change): (Vec<Lane>, Vec<Lane>, Vec<Lane>) = (lanes(), lanes(), lanes());
    let (moments, products) = (statistics.second_moments.as_slice(), statistics.products.as_slice());
    let augmented = theta.augmented.as_mut_slice();
    let mut gained = 0.0;
    for first in (0..d).step_by(LANES) {
        let count = LANES.min(d - first);
        for (pair, lane) in batch.matrix.iter_mut().enumerate() {
            *lane = [1.0; LANES];
            lane[..count].copy_from_slice(&moments[pair * d + first..pair * d + first + count]);
        }
        for (a, lane) in right.iter_mut().enumerate() {
            *lane = [0.0; LANES];
            for (place, out) in lane[..count].iter_mut().enumerate() {
                let j = first + place;
                let explained: f64 = (0..k).map(|b| moments[packed(a.max(b), a.min(b)) * d + j] * augmented[b * d + j]).sum();
                *out = products[a * d + j] - explained;
            }
        }
        vectorized(
            #[inline(always)]
            || {
                batch.factor();
                solve_batch(&batch.inverse_factor, &right, &mut y, &mut change);
            },
        );
        for lane in (0..count).filter(|&lane| batch.smallest_pivot[lane] > 1e-14) {
            gained += y.iter().map(|y| y[lane] * y[lane]).sum::<f64>();
            for (a, change) in change.iter().enumerate() {
                augmented[a * d + first + lane] += change[lane];
            }
        }
    }
    let noise = theta.noise.noise_variance();
    let squares = statistics.squares + noise * statistics.spread - gained;
    theta.noise.set_noise_variance((squares / statistics.observed()).max(f64::MIN_POSITIVE));
}

/// Sets the prior of z free and folds what it becomes, N(ζ, V) over the observations, back into the model: μ ← μ + Wζ, W ← WV^½.
///
/// # Errors
/// Those of the eigenvalues.
pub(crate) fn expand(theta: &mut Theta, statistics: &Statistics, mean: Mean) -> Result<()> {
    let k = theta.latent_dim();
    let n = statistics.rows();
    let total = |a: usize, b: usize| statistics.totals[packed(a.max(b), a.min(b))] / n;
    let centre = match mean {
        Mean::Estimated => DVector::from_fn(k, |a, _| total(k, a)),
        Mean::Zero => DVector::zeros(k),
    };
    let spread = DMatrix::from_fn(k, k, |a, b| total(a, b) - centre[a] * centre[b]);
    let eigen = symmetric_eigen(spread.as_view())?;
    let mut scaled = eigen.vectors.clone();
    for (mut column, &value) in scaled.column_iter_mut().zip(eigen.values.iter()) {
        column *= value.max(0.0).sqrt();
    }
    let root = matrix_product(&scaled, eigen.vectors.transpose().as_view());
    let shift = theta.loadings() * &centre;
    let mut of_mean = theta.augmented.column_mut(k);
    of_mean += shift;
    theta.rotate(&root);
    debug_assert_eq!(statistics.totals.len(), packed_len(k + 1));
    Ok(())
}
