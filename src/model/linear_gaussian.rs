//! Closed forms of the linear-Gaussian model x = Wz + μ + ε, under which x ~ N(μ, C) with C = WWᵗ +
//! σ²I.
//!
//! Noise with another diagonal covariance is made isotropic first by a scaling ([`GaussianNoise`]):
//! below, the rows of W and of x − μ are divided by the scales. For factor analysis, C = WWᵗ + Ψ,
//! the scales are the √ψ_j, and σ² is then 1; for isotropic noise they are 1.
//!
//! All closed forms use the thin singular value decomposition W = Q diag(s) Vᵗ. C has the
//! eigenvalues s_j² + σ² along Q and σ² elsewhere, so that C, its inverse and its determinant are
//! never formed. WᵗW is not formed either, because rounding in it would lose small loadings beside
//! large ones.
//!
//! k×k matrices and the sums for each observation are in double precision. Products with d×n
//! entries are in `T`, unless W is so large beside σ that the rounding of x − μ in single precision
//! would be visible beside σ: then these are in double precision as well.

use super::marginal_factor::MarginalFactor;
use super::{ExactPosterior, ExpectedLogLikelihood, GenerativeModel, MStep, MarginalLikelihood};
use crate::data::Dense;
use crate::likelihood::{GaussianNoise, IsotropicGaussian, log_two_pi_times};
use crate::linalg::vector::subtract;
use crate::linalg::{gemm, matrix_product, product_tr_right, r_factor, squared_norms, zeros};
use crate::map::{DifferentiableMap, Linear};
use crate::posterior::{GaussianPosterior, SharedCovariance};
use crate::{Error, Observations, Real, Result};
use nalgebra::{DMatrix, DMatrixView, DVector};

/// The linear-Gaussian model x|z ~ N(Wz + μ, noise), z ~ N(0, I): the model of probabilistic PCA,
/// also in its variational, amortised and deep-encoder forms; with
/// [`DiagonalGaussian`](crate::likelihood::DiagonalGaussian) noise, of factor analysis.
pub type LinearGaussian<T, N = IsotropicGaussian<T>> = GenerativeModel<Linear<T>, N>;

impl<T: Real> LinearGaussian<T> {
    /// A model from loadings W (d×k), mean μ (d) and noise variance σ².
    ///
    /// # Errors
    /// [`Error::DimensionMismatch`], [`Error::NotFinite`]; [`Error::InvalidParameter`] unless σ² is
    /// finite and a positive normal number.
    pub fn from_parameters(
        loadings: DMatrix<T>,
        mean: DVector<T>,
        noise_variance: T,
    ) -> Result<Self> {
        Ok(Self::new(Linear::new(loadings, mean)?, IsotropicGaussian::new(noise_variance)?))
    }

    /// The noise variance σ².
    pub fn noise_variance(&self) -> T {
        self.likelihood.noise_variance()
    }
}

impl<T: Real, N: GaussianNoise<T>> LinearGaussian<T, N> {
    /// The loadings W, d×k.
    pub fn loadings(&self) -> DMatrixView<'_, T> {
        self.decoder.weights()
    }

    /// The mean μ, d×1.
    pub fn mean(&self) -> nalgebra::DVectorView<'_, T> {
        self.decoder.bias()
    }

    /// The singular value decomposition that the closed forms use, with Q rounded to `T`.
    pub(crate) fn factor(&self) -> Result<MarginalFactor<T>> {
        Ok(self.factor_f64()?.narrow())
    }

    /// The singular value decomposition that the closed forms use, in double precision.
    pub(crate) fn factor_f64(&self) -> Result<MarginalFactor<f64>> {
        MarginalFactor::new(
            self.scaled_loadings().as_view(),
            self.likelihood.common_variance().as_f64(),
        )
    }

    /// The mean μ in double precision.
    pub(crate) fn wide_mean(&self) -> DVector<f64> {
        self.mean().map(|v| v.as_f64())
    }

    /// The scales of the noise in double precision, d×1; `None` where they are 1.
    fn scales_f64(&self) -> Option<DVector<f64>> {
        let common = self.likelihood.common_variance().as_f64();
        (!self.likelihood.is_shared()).then(|| {
            self.likelihood
                .variances(self.decoder.output_dim())
                .map(|v| (v.as_f64() / common).sqrt())
        })
    }

    /// The loadings divided by the scales of the noise, D⁻¹W, d×k, in double precision.
    fn scaled_loadings(&self) -> DMatrix<f64> {
        let mut loadings = self.loadings().map(|v| v.as_f64());
        divide_rows(&mut loadings, self.scales_f64().as_ref());
        loadings
    }

    /// A square-root factor R of WᵗD⁻²W = RᵗR, from a QR decomposition of D⁻¹W; with more latent
    /// dimensions than variables D⁻¹W itself, which is smaller.
    fn loadings_r_factor(&self) -> Result<DMatrix<f64>> {
        let loadings = self.scaled_loadings();
        if loadings.nrows() < loadings.ncols() {
            Ok(loadings)
        } else {
            r_factor(loadings.as_view())
        }
    }

    /// ln|D²| in double precision, D the scales of the noise.
    fn scale_log_determinant(&self) -> f64 {
        self.scales_f64().map_or(0.0, |scales| 2.0 * scales.iter().map(|s| s.ln()).sum::<f64>())
    }

    /// Whether the rounding of x − μ in `T`, for x from this model, would be visible beside the
    /// noise.
    fn needs_double_precision(&self) -> bool {
        if T::EPSILON.as_f64() <= f64::EPSILON {
            return false;
        }
        let (d, variance) =
            (self.decoder.output_dim() as f64, self.likelihood.common_variance().as_f64());
        // `cancellation` bounds ‖x − μ‖² of single observations, of which the model expects tr WWᵗ
        // + dσ². A factor of 8 is left for outliers: the condition is tr WWᵗ > 16 dσ² in single
        // precision.
        8.0 * self.scaled_loadings().norm_squared()
            > MarginalFactor::<T>::cancellation() * d * variance
    }

    /// The centred data x − μ, d×n, in precision `U`.
    pub(crate) fn deviations<U: Real>(&self, x: Observations<'_, T>) -> Result<DMatrix<U>> {
        x.expect_dim(self.decoder.output_dim())?;
        let (values, mean) = (x.values(), self.mean());
        let mut deviations = zeros(values.nrows(), values.ncols());
        subtract(values, mean.as_slice(), deviations.as_mut_slice());
        Ok(deviations)
    }

    /// The centred data divided by the scales of the noise, D⁻¹(x − μ), d×n.
    pub(crate) fn scaled_deviations(&self, x: Observations<'_, T>) -> Result<DMatrix<T>> {
        let mut deviations = self.deviations(x)?;
        self.likelihood.divide_by_scales(&mut deviations);
        Ok(deviations)
    }

    /// The squared Mahalanobis distances (x_i−μ)ᵗC⁻¹(x_i−μ), in blocks of observations, and
    /// ln|D⁻¹CD⁻¹| of the scaled covariance.
    fn wide_distances(&self, x: Observations<'_, T>) -> Result<(Vec<Vec<f64>>, f64)> {
        x.expect_dim(self.decoder.output_dim())?;
        let wide = self.factor_f64()?;
        let log_determinant = wide.log_determinant();
        // Blocks of observations, so that the centred copy of a block stays in cache and no d×n
        // copy is allocated.
        let work = x.data_dim() * self.decoder.input_dim();
        let blocks = if self.needs_double_precision() {
            let (scales, across) = (self.scales_f64(), wide.directions.transpose());
            x.in_blocks(work, |part| {
                let mut deviations = self.deviations::<f64>(part)?;
                divide_rows(&mut deviations, scales.as_ref());
                Ok(wide.squared_distances(&across, &deviations))
            })?
        } else {
            let factor = wide.narrow::<T>();
            let across = factor.directions.transpose();
            x.in_blocks(work, |part| {
                Ok(factor.squared_distances(&across, &self.scaled_deviations(part)?))
            })?
        };
        Ok((blocks, log_determinant))
    }

    /// The squared Mahalanobis distance (x−μ)ᵗC⁻¹(x−μ) from the mean, one entry per observation.
    pub(crate) fn squared_distances(&self, x: Observations<'_, T>) -> Result<DVector<T>> {
        let (distances, _) = self.wide_distances(x)?;
        Ok(DVector::from_iterator(x.len(), distances.into_iter().flatten().map(T::of)))
    }

    /// The posterior means E(z_i|x_i), k×n.
    fn codes(&self, x: Dense<'_, T>, factor: &MarginalFactor<f64>) -> Result<DMatrix<T>> {
        // The map acts on D⁻¹(x − μ). D is diagonal, so that dividing the columns of the k×d map by
        // the scales replaces a pass over the data.
        let mut map = factor.posterior_map().transpose();
        divide_rows(&mut map, self.scales_f64().as_ref());
        let map = map.transpose();
        if self.needs_double_precision() {
            x.deviations_mapped_wide(self.mean(), &map)
        } else {
            x.deviations_mapped(self.mean(), &map.map(T::of))
        }
    }

    /// The residuals x − μ − Wm, d×n.
    fn residuals(&self, x: Observations<'_, T>, codes: DMatrixView<'_, T>) -> Result<DMatrix<T>> {
        self.expect_codes(x, codes)?;
        Ok(self.decoder.residuals(codes, x.values()))
    }

    /// Returns an error unless the shapes of x and of the codes fit the model and each other.
    fn expect_codes(&self, x: Observations<'_, T>, codes: DMatrixView<'_, T>) -> Result<()> {
        x.expect_dim(self.decoder.output_dim())?;
        crate::data::expect("columns of q", x.len(), codes.ncols())?;
        crate::data::expect("rows of q", self.decoder.input_dim(), codes.nrows())
    }

    /// The squared norms of the scaled residuals ‖D⁻¹(x − μ − Wm)‖², one entry per observation.
    fn squared_residuals(
        &self,
        x: Observations<'_, T>,
        codes: DMatrixView<'_, T>,
    ) -> Result<Vec<f64>> {
        if self.needs_double_precision() {
            self.expect_codes(x, codes)?;
            let mut residuals = self.deviations::<f64>(x)?;
            let (loadings, codes) =
                (self.loadings().map(|v| v.as_f64()), codes.map(|v| v.as_f64()));
            gemm(-1.0, &loadings, &codes, 1.0, &mut residuals);
            divide_rows(&mut residuals, self.scales_f64().as_ref());
            return Ok(squared_norms(&residuals));
        }
        let mut residuals = self.residuals(x, codes)?;
        self.likelihood.divide_by_scales(&mut residuals);
        Ok(squared_norms(&residuals))
    }
}

/// Divides the rows of a matrix by the scales; does nothing without scales.
fn divide_rows(rows: &mut DMatrix<f64>, scales: Option<&DVector<f64>>) {
    if let Some(scales) = scales {
        rows.column_iter_mut().for_each(|mut column| column.component_div_assign(scales));
    }
}

impl<T: Real, N: GaussianNoise<T>> MarginalLikelihood<T> for LinearGaussian<T, N> {
    fn log_likelihood(&self, x: Observations<'_, T>) -> Result<DVector<T>> {
        // ln|C| = ln|D⁻¹CD⁻¹| + ln|D²|.
        let (distances, log_determinant) = self.wide_distances(x)?;
        let constant = x.data_dim() as f64 * std::f64::consts::TAU.ln()
            + log_determinant
            + self.scale_log_determinant();
        Ok(DVector::from_iterator(
            x.len(),
            distances.into_iter().flatten().map(|distance| T::of(-0.5 * (constant + distance))),
        ))
    }
}

impl<T: Real, N: GaussianNoise<T>> ExactPosterior<T> for LinearGaussian<T, N> {
    type Posterior = SharedCovariance<T>;

    fn posterior(&self, x: Observations<'_, T>) -> Result<SharedCovariance<T>> {
        let factor = self.factor_f64()?;
        let mean = self.codes(x.into(), &factor)?;
        let (root, log_determinant) = factor.posterior_factor();
        Ok(SharedCovariance::new(mean, root, log_determinant))
    }

    fn codes_of_unvalidated(&self, values: DMatrixView<'_, T>) -> Result<DMatrix<T>> {
        self.codes(Dense::unvalidated(values), &self.factor_f64()?)
    }

    fn posterior_precision_root(&self) -> Result<DMatrix<f64>> {
        let k = self.decoder.input_dim();
        // The posterior precision I + WᵗD⁻²W/c is [R/√c; I]ᵗ[R/√c; I]: the stacked square-root
        // factor needs no sum in which small loadings would be lost.
        let root = self.loadings_r_factor()? / self.likelihood.common_variance().as_f64().sqrt();
        let rows = root.nrows();
        let mut stacked = root.resize_vertically(rows + k, 0.0);
        stacked.rows_mut(rows, k).fill_with_identity();
        Ok(stacked)
    }
}

impl<T: Real, N: GaussianNoise<T>, Q: GaussianPosterior<T>> ExpectedLogLikelihood<T, Q>
    for LinearGaussian<T, N>
{
    fn expected_log_likelihood(&self, x: Observations<'_, T>, q: &Q) -> Result<DVector<T>> {
        let squares = self.squared_residuals(x, q.mean())?;
        // E ‖D⁻¹(x − Wz − μ)‖² is the squared residual at the mean code plus tr(RᵗR Cov).
        let spread = q.trace_with(self.loadings_r_factor()?.as_view());
        let variance = self.likelihood.common_variance().as_f64();
        let constant =
            x.data_dim() as f64 * log_two_pi_times(variance) + self.scale_log_determinant();
        let values = squares
            .iter()
            .zip(spread.iter())
            .map(|(square, s)| T::of(-0.5 * (constant + (square + s.as_f64()) / variance)));
        Ok(DVector::from_iterator(x.len(), values))
    }
}

/// Sufficient statistics for the M-step of a linear-Gaussian model, computed from the residuals of
/// the current model.
///
/// They are sums over the residuals e_i = x_i − μ − Wm_i instead of x_i: the new noise variance is
/// then a small change to a sum of squares, whereas the textbook formula subtracts nearly all of
/// S_jj from it and cancels. Statistics of two chunks, computed with the same model, add up.
#[derive(Debug, Clone, PartialEq)]
pub struct ResidualStatistics<T: Real> {
    // n.
    pub(super) count: T,
    // Σ e_ij², d.
    pub(super) squared_residuals: DVector<T>,
    // Σ e_i [m_iᵗ 1], d×(k+1).
    pub(super) residual_products: DMatrix<T>,
    // Σ [m_i; 1] [m_iᵗ 1], (k+1)×(k+1).
    pub(super) mean_products: DMatrix<T>,
    // Σ Cov_i, k×k.
    pub(super) covariances: DMatrix<T>,
}

impl<T: Real> ResidualStatistics<T> {
    /// The number n of observations.
    pub fn count(&self) -> T {
        self.count
    }

    /// The mean second moment of z, (1/n) Σ E z_iz_iᵗ, k×k.
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
        // A row of ones makes the mean μ one more column of the loadings.
        let extended = q.mean().insert_row(q.latent_dim(), T::one());
        Ok(ResidualStatistics {
            count: T::of_usize(x.population()),
            squared_residuals: row_squares(&residuals) * scale,
            residual_products: product_tr_right(residuals.as_view(), extended.as_view()) * scale,
            mean_products: product_tr_right(extended.as_view(), extended.as_view()) * scale,
            covariances: q.covariance_sum() * scale,
        })
    }

    /// With m̃ = [m; 1], the change Δ of [W μ] solves Δ (Σ m̃m̃ᵗ + ΣCov) = Σ e m̃ᵗ − [W ΣCov, 0].
    /// The noise variance is then set from the mean of E(x − Wz − μ)_j² at the new W and μ.
    fn maximize(&mut self, statistics: &ResidualStatistics<T>) -> Result<()> {
        let k = self.decoder.input_dim();
        // A fixed mean drops the last column of [W μ], and with it the last row and column of the
        // system.
        let free = k + usize::from(!self.decoder.bias_is_fixed());
        let covariances = &statistics.covariances;
        let mut second_moments = statistics.mean_products.view((0, 0), (free, free)).into_owned();
        let mut block = second_moments.view_mut((0, 0), (k, k));
        block += covariances;
        let products = statistics.residual_products.columns(0, free);
        let mut change = products.into_owned();
        gemm(-T::one(), self.loadings(), covariances.as_view(), T::one(), change.columns_mut(0, k));
        let cholesky =
            second_moments.cholesky().ok_or(Error::NotPositiveDefinite { size: free })?;
        // The system multiplies Δ from the right: it is solved for Δᵗ.
        let change = cholesky.solve(&change.transpose()).transpose();
        let parameters = self.decoder.augmented_mut();
        let mut moved = parameters.columns_mut(0, free);
        moved += &change;
        if !self.likelihood.is_fixed() {
            // Σ E(x − Wz − μ)_j² at the new parameters: Σ e_j² − 2Δ_j·(Σ e m̃ᵗ)_j + Δ_j (Σ m̃m̃ᵗ)
            // Δ_jᵗ for the mean codes, and w_j ΣCov w_jᵗ for their covariances.
            let of_means = statistics.mean_products.view((0, 0), (free, free));
            let explained = matrix_product(change.as_view(), of_means.into_owned().as_view());
            let moved = explained - products * T::of(2.0);
            let loadings = self.loadings();
            let spread = matrix_product(loadings, covariances.as_view());
            let squares = DVector::from_fn(self.decoder.output_dim(), |j, _| {
                let square = statistics.squared_residuals[j]
                    + moved.row(j).dot(&change.row(j))
                    + spread.row(j).dot(&loadings.row(j));
                // Rounding may leave a tiny negative number where a variable is fitted exactly.
                square.max(T::zero())
            });
            self.likelihood
                .set_variances(&squares, &DVector::from_element(squares.len(), statistics.count));
        }
        Ok(())
    }
}

/// The squared norm of each row, Σ_i a_ji², summed in double precision.
fn row_squares<T: Real>(matrix: &DMatrix<T>) -> DVector<T> {
    let mut squares = DVector::zeros(matrix.nrows());
    for column in matrix.column_iter() {
        squares.zip_apply(&column, |sum: &mut f64, v: T| *sum += (v * v).as_f64());
    }
    squares.map(T::of)
}
