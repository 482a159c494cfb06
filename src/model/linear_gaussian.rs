//! The closed forms of a linear decoder with Gaussian noise: x = Wz + μ + ε, so that x ~ N(μ, C) with C = WWᵗ + σ²I.
//!
//! Noise of another shape is made isotropic first, by its own scales ([`GaussianNoise`]): below, W and x − μ are divided by them, row by row.
//! For factor analysis, C = WWᵗ + Ψ, these are the √ψ_j, and σ² is then 1; for isotropic noise they are 1.
//!
//! Everything stands on the thin singular value decomposition W = Q diag(s) Vᵗ: C has the eigenvalues s_j² + σ² along Q and σ² elsewhere, so that
//! neither C nor its inverse nor its determinant is ever formed, and WᵗW, in which small loadings drown beside large ones, is not formed either.

use super::{ExactPosterior, ExpectedLogLikelihood, GenerativeModel, MStep, MarginalLikelihood};
use crate::likelihood::{GaussianNoise, IsotropicGaussian, log_two_pi_times};
use crate::linalg::parallel::for_each_chunk;
use crate::linalg::vector::vectorized;
use crate::linalg::{gemm, matrix_product, product_tr_left, product_tr_right, r_factor, thin_svd};
use crate::map::{DifferentiableMap, Linear};
use crate::posterior::{Common, GaussianPosterior};
use crate::{Error, Observations, Real, Result};
use nalgebra::{DMatrix, DMatrixView, DVector};

/// x|z ~ N(Wz + μ, noise), z ~ N(0, I): the model of probabilistic PCA, of its variational and amortised forms and of the deep encoder; with
/// [`DiagonalGaussian`](crate::likelihood::DiagonalGaussian) noise, of factor analysis.
pub type LinearGaussian<T, N = IsotropicGaussian<T>> = GenerativeModel<Linear<T>, N>;

impl<T: Real> LinearGaussian<T> {
    /// A model from given loadings W (d×k), mean μ (d) and noise variance σ².
    ///
    /// # Errors
    /// [`Error::Dimension`], [`Error::NotFinite`], [`Error::Setting`] for σ² ≤ 0.
    pub fn from_parameters(loadings: DMatrix<T>, mean: DVector<T>, noise_variance: T) -> Result<Self> {
        Ok(Self::new(Linear::new(loadings, mean)?, IsotropicGaussian::new(noise_variance)?))
    }

    /// σ².
    pub fn noise_variance(&self) -> T {
        self.likelihood.noise_variance()
    }

    /// The decomposition in double precision.
    pub(crate) fn wide_factor(&self) -> Result<MarginalFactor<f64>> {
        MarginalFactor::new(self.loadings().map(|v| v.as_f64()).as_view(), self.noise_variance().as_f64())
    }

    /// μ in double precision.
    pub(crate) fn wide_mean(&self) -> DVector<f64> {
        self.mean().map(|v| v.as_f64())
    }
}

impl<T: Real, N: GaussianNoise<T>> LinearGaussian<T, N> {
    /// W, d×k.
    pub fn loadings(&self) -> DMatrixView<'_, T> {
        self.decoder.weights()
    }

    /// μ, d×1.
    pub fn mean(&self) -> nalgebra::DVectorView<'_, T> {
        self.decoder.bias()
    }

    /// The decomposition that the closed forms stand on.
    pub(crate) fn factor(&self) -> Result<MarginalFactor<T>> {
        MarginalFactor::new(self.equalized_loadings().as_view(), self.likelihood.common_variance())
    }

    /// W over the scales of the noise, d×k.
    fn equalized_loadings(&self) -> DMatrix<T> {
        let mut loadings = self.loadings().into_owned();
        self.likelihood.equalize(&mut loadings);
        loadings
    }

    /// x − μ, d×n.
    pub(crate) fn deviations(&self, x: Observations<'_, T>) -> Result<DMatrix<T>> {
        x.expect_dim(self.decoder.output_dim())?;
        let (values, mean) = (x.values(), self.mean());
        let mut deviations = DMatrix::zeros(values.nrows(), values.ncols());
        for (i, column) in deviations.as_mut_slice().chunks_exact_mut(values.nrows()).enumerate() {
            subtract(values.column(i).as_slice(), mean.as_slice(), column);
        }
        Ok(deviations)
    }

    /// x − μ over the scales of the noise, d×n.
    pub(crate) fn equalized_deviations(&self, x: Observations<'_, T>) -> Result<DMatrix<T>> {
        let mut deviations = self.deviations(x)?;
        self.likelihood.equalize(&mut deviations);
        Ok(deviations)
    }

    /// The residuals x − μ − W m, d×n.
    fn residuals(&self, x: Observations<'_, T>, codes: DMatrixView<'_, T>) -> Result<DMatrix<T>> {
        crate::data::expect("columns of q", x.len(), codes.ncols())?;
        crate::data::expect("rows of q", self.decoder.input_dim(), codes.nrows())?;
        let mut residuals = self.deviations(x)?;
        gemm(-T::one(), self.loadings(), codes, T::one(), residuals.as_view_mut());
        Ok(residuals)
    }
}

/// difference ← a − b.
fn subtract<T: Real>(a: &[T], b: &[T], difference: &mut [T]) {
    vectorized(
        #[inline(always)]
        || difference.iter_mut().zip(a).zip(b).for_each(|((to, &a), &b)| *to = a - b),
    );
}

/// W = Q diag(s) Vᵗ beside σ²: the spectrum of the marginal covariance, in the scales of the noise.
pub(crate) struct MarginalFactor<T: Real> {
    pub(crate) directions: DMatrix<T>,      // Q, d×k
    pub(crate) singular_values: DVector<T>, // s
    pub(crate) rotation: DMatrix<T>,        // V, k×k
    pub(crate) noise_variance: T,           // σ²
}

impl<T: Real> MarginalFactor<T> {
    pub(crate) fn new(loadings: DMatrixView<'_, T>, noise_variance: T) -> Result<Self> {
        let svd = thin_svd(loadings)?;
        Ok(Self { directions: svd.u, singular_values: svd.singular_values, rotation: svd.v, noise_variance })
    }

    /// s_j² + σ²: the eigenvalues of C along Q.
    pub(crate) fn variances(&self) -> DVector<T> {
        self.singular_values.map(|s| s * s + self.noise_variance)
    }

    /// ln|C|.
    fn log_determinant(&self) -> T {
        let outside = self.directions.nrows() - self.singular_values.len();
        self.variances().iter().fold(T::of_usize(outside) * self.noise_variance.ln(), |sum, v| sum + v.ln())
    }

    /// log N(x; μ, C), one entry a column of the deviations x − μ.
    pub(crate) fn log_density(&self, deviations: &DMatrix<T>) -> DVector<T> {
        let projections = product_tr_left(self.directions.as_view(), deviations.as_view());
        self.log_density_of(&projections, self.outside(deviations, &projections))
    }

    /// (x−μ)ᵗC⁻¹(x−μ), one entry a column of the deviations x − μ.
    pub(crate) fn squared_distances(&self, deviations: &DMatrix<T>) -> DVector<T> {
        let projections = product_tr_left(self.directions.as_view(), deviations.as_view());
        self.squared_distances_of(&projections, self.outside(deviations, &projections))
    }

    /// ‖x−μ‖² − ‖Qᵗ(x−μ)‖² of each column.
    fn outside(&self, deviations: &DMatrix<T>, projections: &DMatrix<T>) -> Vec<T> {
        let d = deviations.nrows();
        let squares: Vec<T> = deviations.column_iter().map(|x| x.norm_squared()).collect();
        let largest = squares.iter().fold(T::zero(), |a, &b| a.max(b));
        // ‖x‖² − ‖Qᵗx‖² is exact enough unless ‖x‖² dwarfs σ²: its error is then seen against σ²d, and the residual itself is formed.
        let subtract = largest <= T::of(1000.0) * T::of_usize(d) * self.noise_variance;
        if subtract {
            squares.iter().zip(projections.column_iter()).map(|(&square, p)| (square - p.norm_squared()).max(T::zero())).collect()
        } else {
            let mut residuals = deviations.clone();
            gemm(-T::one(), self.directions.as_view(), projections.as_view(), T::one(), residuals.as_view_mut());
            residuals.column_iter().map(|r| r.norm_squared()).collect()
        }
    }

    /// The log-density from Qᵗ(x−μ), k×n, and ‖x−μ‖² − ‖Qᵗ(x−μ)‖² of each.
    pub(crate) fn log_density_of(&self, projections: &DMatrix<T>, outside: Vec<T>) -> DVector<T> {
        let half = T::of(0.5);
        let constant = -half * (T::of_usize(self.directions.nrows()) * T::two_pi().ln() + self.log_determinant());
        self.squared_distances_of(projections, outside).map(|distance| constant - half * distance)
    }

    fn squared_distances_of(&self, projections: &DMatrix<T>, outside: Vec<T>) -> DVector<T> {
        let precisions = self.variances().map(|v| T::one() / v);
        let inside = projections.column_iter().map(|p| p.iter().zip(precisions.iter()).fold(T::zero(), |sum, (&p, &w)| sum + p * p * w));
        let distances = inside.zip(&outside).map(|(inside, &outside)| inside + outside / self.noise_variance);
        DVector::from_iterator(projections.ncols(), distances)
    }

    /// E(z|x) from Qᵗ(x−μ), k×n.
    pub(crate) fn codes_of(&self, mut projections: DMatrix<T>) -> DMatrix<T> {
        let shrinkage = self.singular_values.zip_map(&self.variances(), |s, v| s / v);
        projections.column_iter_mut().for_each(|mut column| column.component_mul_assign(&shrinkage));
        matrix_product(self.rotation.as_view(), projections.as_view())
    }

    /// V diag(s/(s²+σ²)) Qᵗ (k×d), which makes E(z|x) of x − μ.
    pub(crate) fn posterior_map(&self) -> DMatrix<T> {
        let mut scaled = self.directions.clone();
        for ((mut column, s), v) in scaled.column_iter_mut().zip(self.singular_values.iter()).zip(self.variances().iter()) {
            column *= *s / *v;
        }
        product_tr_right(self.rotation.as_view(), scaled.as_view())
    }

    /// A factor L of the posterior covariance and ln|LLᵗ|: V diag(σ/√(s²+σ²)).
    fn posterior_factor(&self) -> (DMatrix<T>, T) {
        let ratios = self.variances().map(|v| self.noise_variance / v);
        let mut factor = self.rotation.clone();
        for (mut column, ratio) in factor.column_iter_mut().zip(ratios.iter()) {
            column *= ratio.sqrt();
        }
        (factor, ratios.iter().fold(T::zero(), |sum, r| sum + r.ln()))
    }
}

impl<T: Real, N: GaussianNoise<T>> MarginalLikelihood<T> for LinearGaussian<T, N> {
    fn log_likelihood(&self, x: Observations<'_, T>) -> Result<DVector<T>> {
        x.expect_dim(self.decoder.output_dim())?;
        let factor = self.factor()?;
        let blocks =
            x.in_blocks(x.data_dim() * self.decoder.input_dim(), |part| Ok(factor.log_density(&self.equalized_deviations(part)?)))?;
        let constant = T::of(0.5) * self.likelihood.log_scales();
        Ok(DVector::from_iterator(x.len(), blocks.iter().flat_map(|block| block.iter().map(|&value| value - constant))))
    }
}

impl<T: Real, N: GaussianNoise<T>> ExactPosterior<T> for LinearGaussian<T, N> {
    type Posterior = Common<T>;

    fn posterior(&self, x: Observations<'_, T>) -> Result<Common<T>> {
        let factor = self.factor()?;
        x.expect_dim(self.decoder.output_dim())?;
        let k = self.decoder.input_dim();
        let mut mean = DMatrix::zeros(k, x.len());
        // D is diagonal: what divides the rows of x divides the columns of the map as well.
        let mut map = factor.posterior_map().transpose();
        self.likelihood.equalize(&mut map);
        let (map, centre) = (map.transpose(), self.mean());
        let (d, block, values) = (x.data_dim(), x.block(), x.values());
        // A block of deviations that stays in the cache, made again and again in the same memory.
        let chunk = block * x.len().div_ceil(16 * block).min(16);
        for_each_chunk(mean.as_mut_slice(), k * chunk, x.values().len() * k, |c, part| {
            let mut deviations = DMatrix::zeros(d, block.min(part.len() / k));
            for (b, part) in part.chunks_mut(k * block).enumerate() {
                let (first, count) = (c * chunk + b * block, part.len() / k);
                let deviations = &mut deviations.as_mut_slice()[..d * count];
                for (i, column) in deviations.chunks_exact_mut(d).enumerate() {
                    subtract(values.column(first + i).as_slice(), centre.as_slice(), column);
                }
                let deviations = DMatrixView::from_slice(deviations, d, count);
                gemm(T::one(), &map, deviations, T::zero(), nalgebra::DMatrixViewMut::from_slice(part, k, count));
            }
        });
        let (root, log_determinant) = factor.posterior_factor();
        Ok(Common::new(mean, root, log_determinant))
    }

    fn posterior_precision_root(&self) -> Result<DMatrix<T>> {
        let k = self.decoder.input_dim();
        let root = r_factor(self.equalized_loadings().as_view())? / self.likelihood.common_variance().sqrt();
        let rows = root.nrows();
        let mut stacked = root.resize_vertically(rows + k, T::zero());
        stacked.rows_mut(rows, k).fill_with_identity();
        Ok(stacked)
    }
}

impl<T: Real, N: GaussianNoise<T>, Q: GaussianPosterior<T>> ExpectedLogLikelihood<T, Q> for LinearGaussian<T, N> {
    fn expected_log_likelihood(&self, x: Observations<'_, T>, q: &Q) -> Result<DVector<T>> {
        let mut residuals = self.residuals(x, q.mean())?;
        self.likelihood.equalize(&mut residuals);
        let spread = q.trace_with(r_factor(self.equalized_loadings().as_view())?.as_view());
        let (half, variance) = (T::of(0.5), self.likelihood.common_variance());
        let constant = -half * (T::of_usize(x.data_dim()) * log_two_pi_times(variance) + self.likelihood.log_scales());
        let squares = residuals.column_iter().map(|e| e.norm_squared());
        Ok(DVector::from_iterator(x.len(), squares.zip(spread.iter()).map(|(square, &s)| constant - half * (square + s) / variance)))
    }
}

/// What the M-step of a linear-Gaussian model needs to know of x and q, taken about the current model.
///
/// The residuals e_i = x_i − μ − W m_i enter, and not x_i itself: the new noise variance is then a small change to a sum of squares, and not what
/// is left of S_jj after nearly all of it has been subtracted. Statistics of two chunks, taken about the same model, add up.
#[derive(Debug, Clone, PartialEq)]
pub struct ResidualStatistics<T: Real> {
    pub(super) count: T,                      // n
    pub(super) squared_residuals: DVector<T>, // Σ e_ij², d
    pub(super) residual_products: DMatrix<T>, // Σ e_i [m_iᵗ 1], d×(k+1)
    pub(super) mean_products: DMatrix<T>,     // Σ [m_i; 1] [m_iᵗ 1], (k+1)×(k+1)
    pub(super) covariances: DMatrix<T>,       // Σ Cov_i, k×k
}

impl<T: Real> ResidualStatistics<T> {
    /// The number of observations.
    pub fn count(&self) -> T {
        self.count
    }

    /// The mean over the observations of E zzᵗ, k×k.
    pub fn mean_second_moment(&self) -> DMatrix<T> {
        let k = self.covariances.nrows();
        (self.mean_products.view((0, 0), (k, k)) + &self.covariances) / self.count
    }
}

impl<T: Real> std::ops::AddAssign for ResidualStatistics<T> {
    fn add_assign(&mut self, other: Self) {
        self.count += other.count;
        self.squared_residuals += other.squared_residuals;
        self.residual_products += other.residual_products;
        self.mean_products += other.mean_products;
        self.covariances += other.covariances;
    }
}

impl<T: Real, N: GaussianNoise<T>, Q: GaussianPosterior<T>> MStep<T, Q> for LinearGaussian<T, N> {
    type Statistics = ResidualStatistics<T>;

    fn statistics(&self, x: Observations<'_, T>, q: &Q) -> Result<ResidualStatistics<T>> {
        let residuals = self.residuals(x, q.mean())?;
        let scale = x.scale();
        let extended = q.mean().insert_row(q.latent_dim(), T::one());
        Ok(ResidualStatistics {
            count: T::of_usize(x.population()),
            squared_residuals: row_squares(&residuals) * scale,
            residual_products: product_tr_right(residuals.as_view(), extended.as_view()) * scale,
            mean_products: product_tr_right(extended.as_view(), extended.as_view()) * scale,
            covariances: q.covariance_sum() * scale,
        })
    }

    /// With m̃ = [m; 1] and the change Δ of [W μ], Δ (Σ m̃m̃ᵗ + ΣCov) = Σ e m̃ᵗ − [W ΣCov, 0]; then the noise
    /// is that of the mean of E(x − Wz − μ)_j² at the new W and μ.
    fn maximize(&mut self, statistics: &ResidualStatistics<T>) -> Result<()> {
        let k = self.decoder.input_dim();
        let free = k + usize::from(!self.decoder.bias_is_fixed());
        let covariances = &statistics.covariances;
        let mut second_moments = statistics.mean_products.view((0, 0), (free, free)).into_owned();
        let mut block = second_moments.view_mut((0, 0), (k, k));
        block += covariances;
        let products = statistics.residual_products.columns(0, free);
        let mut change = products.into_owned();
        gemm(-T::one(), self.loadings(), covariances.as_view(), T::one(), change.columns_mut(0, k));
        let cholesky = second_moments.cholesky().ok_or(Error::NotPositiveDefinite { size: free })?;
        let change = cholesky.solve(&change.transpose()).transpose();
        let parameters = self.decoder.augmented_mut();
        let mut moved = parameters.columns_mut(0, free);
        moved += &change;
        if !self.likelihood.is_fixed() {
            let of_means = statistics.mean_products.view((0, 0), (free, free));
            let explained = matrix_product(change.as_view(), of_means.into_owned().as_view());
            let moved = explained - products * T::of(2.0);
            let loadings = self.loadings();
            let spread = matrix_product(loadings, covariances.as_view());
            let squares = DVector::from_fn(self.decoder.output_dim(), |j, _| {
                let square = statistics.squared_residuals[j] + moved.row(j).dot(&change.row(j)) + spread.row(j).dot(&loadings.row(j));
                square.max(T::zero())
            });
            self.likelihood.set_variances(&squares, &DVector::from_element(squares.len(), statistics.count));
        }
        Ok(())
    }
}

/// Σ_i a_ji² of each row.
fn row_squares<T: Real>(matrix: &DMatrix<T>) -> DVector<T> {
    let mut squares = DVector::zeros(matrix.nrows());
    for column in matrix.column_iter() {
        squares.zip_apply(&column, |sum: &mut f64, v: T| *sum += (v * v).as_f64());
    }
    squares.map(T::of)
}
