//! The data as a fit of a linear-Gaussian model sees them: a square root of their second moment.

use super::Observations;
use crate::linalg::{
    Centred, centred_moments, cholesky_lower, matrix_product, moments_of_rows, product_tr_right,
    r_factor, squares_wide, symmetric_eigen, thin_qr, thin_svd,
};
use crate::{Error, Real, Result};
use nalgebra::{DMatrix, DMatrixView, DVector};

/// What the mean of a model is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Centering {
    /// The mean x̄ of the observations, as the maximum of the likelihood has it.
    #[default]
    Mean,
    /// Fixed at 0, the lecture's: the same closed forms with XXᵗ/n in the place of the covariance.
    None,
}

impl Centering {
    /// Refuses a single observation about its own mean.
    pub(crate) fn expect_enough(self, observations: usize) -> Result<()> {
        let least = if self == Self::Mean { 2 } else { 1 };
        if observations >= least {
            Ok(())
        } else {
            Err(Error::TooFewObservations { actual: observations, least })
        }
    }
}

/// A matrix A (d×r, r = min(n, d)) with AAᵗ = S, the second moment (1/n) Σ (x_i−μ)(x_i−μ)ᵗ of the
/// data about their mean.
///
/// Everything that a fit of a linear-Gaussian model asks of the data is in S, and A holds S to
/// twice the digits: a residual ‖A − QQᵗA‖² is a sum of squares, where tr S − tr QᵗSQ would be what
/// is left after nearly everything has cancelled. It is kept in double precision for data of either
/// precision, so that what `f32` data determine is found to `f32`'s accuracy.
#[derive(Debug, Clone, PartialEq)]
pub struct ScatterFactor {
    root: DMatrix<f64>,
    /// O (d×r) and the r×r matrix R with A = OR, where there are fewer observations than variables.
    basis: Option<(DMatrix<f64>, DMatrix<f64>)>,
    mean: DVector<f64>,
    count: usize,
    tolerance: f64,
    rank_tolerance: f64, // with what models in the precision of the data round away
}

impl ScatterFactor {
    /// The square root of the second moment of some observations: their deviations over √n when n ≤
    /// d, else the triangular factor of these.
    ///
    /// # Errors
    /// [`Error::TooFewObservations`] for n = 1 about an estimated mean, [`Error::ZeroVariance`]
    /// when no variable varies.
    pub fn of<T: Real>(x: Observations<'_, T>, mean: Centering) -> Result<Self> {
        let mut found = match Self::by_cholesky(x, mean)? {
            Some(found) => found,
            None => {
                let (mean, tolerance) = deviations_resolved(x, mean)?;
                let root = Self::by_orthogonalization(x, &mean)?;
                let basis =
                    if x.len() < x.data_dim() { Some(thin_qr(root.as_view())?) } else { None };
                Self { root, basis, mean, count: x.len(), tolerance, rank_tolerance: tolerance }
            }
        };
        found.rank_tolerance += rounding_of_models::<T>(&found.mean, found.total_variance());
        Ok(found)
    }

    /// From a root of S with at most d columns, about a mean.
    ///
    /// # Errors
    /// [`Error::ZeroVariance`] when no variable varies.
    pub(crate) fn from_root(root: DMatrix<f64>, mean: DVector<f64>, count: usize) -> Result<Self> {
        let tolerance = resolution_of(root.norm_squared(), &mean, count)?;
        let (d, columns) = root.shape();
        // As many coordinates as a model may ask directions for.
        let root = root.resize_horizontally(columns.max(count.min(d)), 0.0);
        let basis = if root.ncols() < d { Some(thin_qr(root.as_view())?) } else { None };
        Ok(Self { root, basis, mean, count, tolerance, rank_tolerance: tolerance })
    }

    /// The deviations over √n when n ≤ d, else their triangular factor: twice the digits of S.
    fn by_orthogonalization<T: Real>(
        x: Observations<'_, T>,
        mean: &DVector<f64>,
    ) -> Result<DMatrix<f64>> {
        let (d, n) = (x.data_dim(), x.len());
        let factor = 1.0 / (n as f64).sqrt();
        let mut deviations = x.values().map(|v| v.as_f64());
        for mut column in deviations.column_iter_mut() {
            column.zip_apply(mean, |x: &mut f64, mean| *x = (*x - mean) * factor);
        }
        Ok(if n <= d {
            deviations
        } else {
            r_factor(deviations.transpose().as_view())?.transpose()
        })
    }

    /// By the Cholesky factor of S, at a fraction of the time, where there is much to gain and
    /// little to lose: each pivot keeps a share of its variable's variance that leaves nine digits.
    fn by_cholesky<T: Real>(x: Observations<'_, T>, mean: Centering) -> Result<Option<Self>> {
        let (d, n) = (x.data_dim(), x.len());
        if n < 4 * d || n.saturating_mul(d * d) < 100_000_000 {
            return Ok(None);
        }
        let round = |mean| T::of(mean).as_f64();
        let of_zero = |moments: DMatrix<f64>| (DVector::zeros(d), moments);
        let of_mean = |found: Centred| (DVector::from_vec(found.mean), found.moments);
        let double = size_of::<T>() == size_of::<f64>();
        let wide = if double { DMatrix::zeros(0, 0) } else { x.values().map(|v| v.as_f64()) };
        let (mean, moments) = match (mean, double) {
            (Centering::Mean, true) => of_mean(centred_moments(x.values(), round)),
            (Centering::Mean, false) => of_mean(centred_moments(wide.as_view(), round)),
            (Centering::None, true) => of_zero(moments_of_rows(x.values(), None, None, 1.0)),
            (Centering::None, false) => of_zero(moments_of_rows(wide.as_view(), None, None, 1.0)),
        };
        let moment = moments / n as f64;
        let tolerance = resolution(x.values(), &mean, moment.trace())?;
        let Ok(factor) = cholesky_lower(moment.as_view()) else { return Ok(None) };
        let share = |j: usize| factor[(j, j)].powi(2) / moment[(j, j)];
        let resolved = (0..d).all(|j| moment[(j, j)] > tolerance && share(j) > 1e-7);
        Ok(resolved.then_some(Self {
            root: factor,
            basis: None,
            mean,
            count: n,
            tolerance,
            rank_tolerance: tolerance,
        }))
    }

    /// A, d×r.
    pub fn root(&self) -> &DMatrix<f64> {
        &self.root
    }

    /// A in coordinates of its own span: an r×r matrix with the same r directions, which is A
    /// itself when n ≥ d.
    ///
    /// Isotropic noise looks the same in any orthonormal coordinates, so that a model may be fitted
    /// here and [lifted](Self::lift) back.
    pub(crate) fn coordinates(&self) -> &DMatrix<f64> {
        self.basis.as_ref().map_or(&self.root, |(_, coordinates)| coordinates)
    }

    /// Directions in the coordinates, back in d variables.
    pub(crate) fn lift(&self, directions: DMatrix<f64>) -> DMatrix<f64> {
        match &self.basis {
            Some((basis, _)) => matrix_product(basis.as_view(), directions.as_view()),
            None => directions,
        }
    }

    /// The deviation √S_jj of each coordinate, where a random start takes its scales from.
    pub(crate) fn coordinate_deviations(&self) -> DVector<f64> {
        let coordinates = self.coordinates();
        let deviation = |row: nalgebra::MatrixView<
            '_,
            f64,
            nalgebra::U1,
            nalgebra::Dyn,
            nalgebra::U1,
            nalgebra::Dyn,
        >| row.norm();
        DVector::from_iterator(coordinates.nrows(), coordinates.row_iter().map(deviation))
    }

    /// The smallest variance of a variable that varies: the σ² that an iterative fit starts from.
    ///
    /// From a σ² above the variance of a weak direction, that direction's loadings would shrink
    /// towards 0, a saddle that takes long to leave.
    pub(crate) fn smallest_variance(&self) -> f64 {
        let variances = self.coordinate_deviations().map(|s| s * s);
        variances
            .iter()
            .filter(|&&v| v > self.tolerance)
            .fold(variances.max(), |smallest, &v| smallest.min(v))
    }

    /// μ, d×1.
    pub fn mean(&self) -> &DVector<f64> {
        &self.mean
    }

    /// The number n of observations.
    pub fn count(&self) -> usize {
        self.count
    }

    /// d.
    pub fn data_dim(&self) -> usize {
        self.root.nrows()
    }

    /// tr S, the sum of the variances (divisor n).
    pub fn total_variance(&self) -> f64 {
        self.root.norm_squared()
    }

    /// The variance of each variable about μ (divisor n), d×1.
    pub fn variances(&self) -> DVector<f64> {
        DVector::from_iterator(self.data_dim(), self.root.row_iter().map(|row| row.norm_squared()))
    }

    /// The variance below which a direction cannot be told from one without any.
    pub fn tolerance(&self) -> f64 {
        self.tolerance
    }

    /// The variance below which no model in the precision of the data has a direction.
    pub(crate) fn rank_tolerance(&self) -> f64 {
        self.rank_tolerance
    }

    /// The eigenvalues of S that can be other than 0, λ_1 ≥ … ≥ λ_r.
    ///
    /// # Errors
    /// Those of the singular value decomposition.
    pub fn eigenvalues(&self) -> Result<DVector<f64>> {
        Ok(thin_svd(self.coordinates().as_view())?.singular_values.map(|s| s * s))
    }

    /// The rank of S, as far as rounding lets it be seen by models in the precision of the data.
    ///
    /// # Errors
    /// Those of the singular value decomposition.
    pub fn rank(&self) -> Result<usize> {
        Ok(self.eigenvalues()?.iter().filter(|&&variance| variance > self.rank_tolerance).count())
    }

    /// r pseudo-observations with the second moment S about 0, standing for all n: what a fit may
    /// run over in their place.
    pub(crate) fn pseudo_observations(&self) -> DMatrix<f64> {
        &self.root * (self.root.ncols() as f64).sqrt()
    }

    /// Refuses a latent dimension that no model of these data can have.
    ///
    /// # Errors
    /// [`Error::LatentDim`] unless 1 ≤ k ≤ min(n, d).
    pub fn check_latent_dim(&self, latent_dim: usize) -> Result<()> {
        check_latent_dim(latent_dim, self.count, self.data_dim())
    }

    /// Refuses a latent dimension that leaves nothing for the noise.
    ///
    /// # Errors
    /// [`Error::Unbounded`] when k reaches the rank; those of [`Self::check_latent_dim`].
    pub fn check_noise_remains(&self, latent_dim: usize) -> Result<()> {
        self.check_latent_dim(latent_dim)?;
        if latent_dim < self.clear_rank()? {
            return Ok(());
        }
        let rank = self.rank()?;
        if latent_dim < rank { Ok(()) } else { Err(Error::Unbounded { latent_dim, rank }) }
    }

    /// A lower bound on the rank that is quick to find: the eigenvalues of the correlations that no
    /// rounding can have made.
    fn clear_rank(&self) -> Result<usize> {
        let mut scaled = self.coordinates().clone();
        for mut row in scaled.row_iter_mut() {
            let norm = row.norm();
            row *= if norm * norm > self.tolerance { 1.0 / norm } else { 0.0 };
        }
        let eigen = symmetric_eigen(product_tr_right(&scaled, &scaled).as_view())?;
        Ok(eigen.values.iter().filter(|&&value| value > 1e-9).count())
    }
}

/// Refuses a latent dimension that no model of n observations of d variables can have.
pub(crate) fn check_latent_dim(
    latent_dim: usize,
    observations: usize,
    data_dim: usize,
) -> Result<()> {
    let largest = observations.min(data_dim);
    if (1..=largest).contains(&latent_dim) {
        Ok(())
    } else {
        Err(Error::LatentDim { latent_dim, smallest: 1, largest })
    }
}

/// The variance that models in the precision of the data may add by rounding: that of their
/// loadings, and that of their mean μ. 0 in double precision, where [`resolution`] covers it.
pub(crate) fn rounding_of_models<T: Real>(mean: &DVector<f64>, total_variance: f64) -> f64 {
    if size_of::<T>() == size_of::<f64>() {
        return 0.0;
    }
    // S about a mean that is off by δ is S + δδᵗ, and no entry of δ is above half a rounding.
    let rounding = T::EPSILON.as_f64();
    rounding * rounding * (total_variance + 0.5 * mean.norm_squared())
}

/// μ, and the variance below which a direction cannot be told from one without any; refuses data
/// without any.
pub(crate) fn deviations_resolved<T: Real>(
    x: Observations<'_, T>,
    mean: Centering,
) -> Result<(DVector<f64>, f64)> {
    let (mean, squares) = centre(x, mean)?;
    let total = squares.iter().sum::<f64>() / x.len() as f64;
    let tolerance = resolution(x.values(), &mean, total)?;
    Ok((mean, tolerance))
}

/// μ, and the sums of squared deviations from it; refuses a single observation about its own mean.
fn centre<T: Real>(x: Observations<'_, T>, mean: Centering) -> Result<(DVector<f64>, Vec<f64>)> {
    mean.expect_enough(x.len())?;
    match mean {
        Centering::Mean => {
            // In the precision of the data, in which models hold it.
            let (mean, squares) = x.mean_and_squares(|mean| T::of(mean).as_f64());
            Ok((DVector::from_vec(mean), squares))
        }
        Centering::None => Ok((DVector::zeros(x.data_dim()), squares_wide(x.values(), None, 1.0))),
    }
}

/// The variance below which a direction cannot be told from one without any; refuses a total below
/// it, or below what the precision carries.
///
/// Rounding leaves about ε‖x_j‖ in each deviation; what is below that, squared, says nothing.
pub(crate) fn resolution<T: Real>(
    x: DMatrixView<'_, T>,
    mean: &DVector<f64>,
    total_variance: f64,
) -> Result<f64> {
    match resolution_of(total_variance, mean, x.ncols()) {
        Ok(tolerance) if total_variance >= smallest_variance::<T>() => Ok(tolerance),
        _ => Err(without_variance(x, mean)),
    }
}

/// The smallest variance of data: a number of `T`, beside which what can still be told from 0 is a
/// number in double precision.
fn smallest_variance<T: Real>() -> f64 {
    T::MIN_POSITIVE.as_f64().max(f64::MIN_POSITIVE / RESOLUTION)
}

/// What is below this share of the variance is rounding.
const RESOLUTION: f64 = 256.0 * f64::EPSILON * f64::EPSILON;

/// The same where the data themselves are gone.
pub(crate) fn resolution_of(
    total_variance: f64,
    mean: &DVector<f64>,
    observations: usize,
) -> Result<f64> {
    let tolerance = RESOLUTION * (total_variance + mean.norm_squared());
    let limit = smallest_variance::<f64>();
    if total_variance > tolerance && total_variance >= limit {
        Ok(tolerance)
    } else if total_variance > tolerance {
        Err(Error::Underflow {
            what: "the standard deviation",
            deviation: total_variance.sqrt(),
            limit,
        })
    } else {
        Err(Error::ZeroVariance { variables: mean.len(), observations })
    }
}

/// Data without a variance to go by: constant, or so small that the squares underflow, which is not
/// the same.
fn without_variance<T: Real>(x: DMatrixView<'_, T>, mean: &DVector<f64>) -> Error {
    let (mut deviation, mut size) = (0.0f64, 0.0f64);
    for column in x.column_iter() {
        for (value, mean) in column.iter().zip(mean.iter()) {
            deviation = deviation.max((value.as_f64() - mean).abs());
            size = size.max(value.as_f64().abs());
        }
    }
    if deviation > 16.0 * T::EPSILON.as_f64() * size {
        return Error::Underflow {
            what: "the largest deviation",
            deviation,
            limit: smallest_variance::<T>(),
        };
    }
    Error::ZeroVariance { variables: x.nrows(), observations: x.ncols() }
}
