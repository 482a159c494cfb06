//! Square-root factor of the second moment of the data: the input of linear-Gaussian fits.
//!
//! Tolerances that belong together: `RESOLUTION` = (16ε)², the relative variance that rounding of
//! the data leaves; the factor 16 in `variance_error`; and `smallest_variance`, which keeps
//! `RESOLUTION` times a variance in range. `ModelRounding` adds the rounding of models in single
//! precision. The thresholds 10⁻⁷ (Cholesky pivots) and 10⁻⁹ (`rank_lower_bound`) are
//! independent of these: they choose between a fast and an accurate algorithm.

use super::{ModelRounding, Observations};
use crate::linalg::{
    Centred, centred_moments, cholesky_lower, matrix_product, product_tr_right, r_factor,
    scatter_f64, sums_of_squares_f64, symmetric_eigen, thin_qr, thin_svd,
};
use crate::{Error, Real, Result};
use nalgebra::{DMatrix, DMatrixView, DVector};

/// Choice of the mean μ of a model: estimated from the data, or 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Centering {
    /// The mean x̄ of the observations, the maximum-likelihood estimate.
    #[default]
    Mean,
    /// Fixed at 0, as in the lecture: the closed forms hold with XXᵗ/n in place of the covariance.
    None,
}

impl Centering {
    /// Returns an error for fewer than 2 observations about an estimated mean, or none about 0.
    pub(crate) fn expect_enough(self, observations: usize) -> Result<()> {
        let least = if self == Self::Mean { 2 } else { 1 };
        if observations >= least {
            Ok(())
        } else {
            Err(Error::TooFewObservations { actual: observations, least })
        }
    }
}

/// Square-root factor A (d×r, r = min(n, d)) of the second moment S = AAᵗ =
/// (1/n) Σ (x_i−μ)(x_i−μ)ᵗ of the data about their mean.
///
/// The fit of a linear-Gaussian model depends on the data through S alone. The condition number of
/// A is the square root of that of S, so that A keeps S to twice the digits. A residual ‖A − QQᵗA‖²
/// is a sum of squares, where tr S − tr QᵗSQ would suffer cancellation. A is kept in double
/// precision also for `f32` data, so that their fits are accurate to `f32`.
#[derive(Debug, Clone, PartialEq)]
pub struct ScatterFactor {
    root: DMatrix<f64>,
    /// For r < d (fewer observations than variables): O (d×r, orthonormal) and R (r×r), A = OR.
    basis: Option<(DMatrix<f64>, DMatrix<f64>)>,
    mean: DVector<f64>,
    count: usize,
    tolerance: f64,
    /// The rounding of a model in the precision of the data.
    rounding: ModelRounding,
}

impl ScatterFactor {
    /// Computes the factor of some observations: their centred data over √n when n ≤ d, otherwise a
    /// triangular factor of these.
    ///
    /// # Errors
    /// [`Error::TooFewObservations`] for n = 1 about an estimated mean; [`Error::ZeroVariance`]
    /// when no variable varies; [`Error::Underflow`] when the variance is too small for the
    /// precision.
    pub fn of<T: Real>(x: Observations<'_, T>, mean: Centering) -> Result<Self> {
        let found = match Self::by_cholesky(x, mean)? {
            Some(found) => found,
            None => {
                let (mean, tolerance) = centre_and_resolution(x, mean)?;
                let root = Self::by_qr(x, &mean)?;
                let basis =
                    if x.len() < x.data_dim() { Some(thin_qr(root.as_view())?) } else { None };
                let rounding = ModelRounding::none(x.data_dim());
                Self { root, basis, mean, count: x.len(), tolerance, rounding }
            }
        };
        Ok(found.for_models_in::<T>())
    }

    /// Creates the factor from a given A with at most d columns, about a mean.
    ///
    /// # Errors
    /// [`Error::ZeroVariance`], [`Error::Underflow`].
    pub(crate) fn from_root(root: DMatrix<f64>, mean: DVector<f64>, count: usize) -> Result<Self> {
        let tolerance = resolution_of(root.norm_squared(), &mean, count)?;
        let (d, columns) = root.shape();
        // Columns of 0 up to min(n, d), the largest latent dimension of a model.
        let root = root.resize_horizontally(columns.max(count.min(d)), 0.0);
        let basis = if root.ncols() < d { Some(thin_qr(root.as_view())?) } else { None };
        let rounding = ModelRounding::none(d);
        Ok(Self { root, basis, mean, count, tolerance, rounding })
    }

    /// The same factor for fits of models in precision `T`, whose rounding the checks then include.
    pub(crate) fn for_models_in<T: Real>(self) -> Self {
        let rounding = ModelRounding::of::<T>(&self.mean, self.total_variance());
        Self { rounding, ..self }
    }

    /// Returns the centred data over √n when n ≤ d, otherwise their triangular factor by QR: S is
    /// not formed, which would halve the digits.
    fn by_qr<T: Real>(x: Observations<'_, T>, mean: &DVector<f64>) -> Result<DMatrix<f64>> {
        let (d, n) = (x.data_dim(), x.len());
        // A centred copy in double precision, n·d numbers; `by_cholesky` makes none of `f64` data.
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

    /// Computes the Cholesky factor of S, in a fraction of the time of QR; `None` where there is
    /// little time to gain, or where a pivot keeps fewer than nine digits.
    fn by_cholesky<T: Real>(x: Observations<'_, T>, mean: Centering) -> Result<Option<Self>> {
        let (d, n) = (x.data_dim(), x.len());
        // Operations (Golub & Van Loan): QR 2d²(n − d/3), S and Cholesky d²(n + d/3), which is as
        // much at n = d. Below n = 4d, or below 10⁸ multiply-adds, there is little time to gain.
        if n < 4 * d || n.saturating_mul(d * d) < 100_000_000 {
            return Ok(None);
        }
        // S is taken about the mean in double precision, which is the mean of the data: rounded to
        // the precision of the data, it would add the square of its error to S.
        let round = |mean| mean;
        let of_zero = |moments: DMatrix<f64>| (DVector::zeros(d), moments);
        let of_mean = |found: Centred| (DVector::from_vec(found.mean), found.moments);
        // `f32` data are copied to double precision, so that S is as accurate as for `f64` data.
        let double = size_of::<T>() == size_of::<f64>();
        let wide = if double { DMatrix::zeros(0, 0) } else { x.values().map(|v| v.as_f64()) };
        let (mean, moments) = match (mean, double) {
            (Centering::Mean, true) => of_mean(centred_moments(x.values(), round)),
            (Centering::Mean, false) => of_mean(centred_moments(wide.as_view(), round)),
            (Centering::None, true) => of_zero(scatter_f64(x.values(), None, None, 1.0)),
            (Centering::None, false) => of_zero(scatter_f64(wide.as_view(), None, None, 1.0)),
        };
        let moment = moments / n as f64;
        let tolerance = resolution(x.values(), &mean, moment.trace())?;
        let Ok(factor) = cholesky_lower(moment.as_view()) else { return Ok(None) };
        // The share of S_jj that the variables before j do not explain. Rounding changes S_jj by
        // about εS_jj, so that a share above 10⁻⁷ leaves nine of sixteen digits.
        let share = |j: usize| factor[(j, j)].powi(2) / moment[(j, j)];
        let resolved = (0..d).all(|j| moment[(j, j)] > tolerance && share(j) > 1e-7);
        Ok(resolved.then_some(Self {
            root: factor,
            basis: None,
            mean,
            count: n,
            tolerance,
            rounding: ModelRounding::none(d),
        }))
    }

    /// Returns A, d×r.
    pub fn root(&self) -> &DMatrix<f64> {
        &self.root
    }

    /// Returns A in orthonormal coordinates of its column span, r×r; A itself when n ≥ d.
    ///
    /// Isotropic noise is invariant under orthonormal changes of coordinates, so that a model can
    /// be fitted in these coordinates and [mapped back](Self::lift).
    pub(crate) fn coordinates(&self) -> &DMatrix<f64> {
        self.basis.as_ref().map_or(&self.root, |(_, coordinates)| coordinates)
    }

    /// Maps directions from the coordinates of [`Self::coordinates`] back to the d variables.
    pub(crate) fn lift(&self, directions: DMatrix<f64>) -> DMatrix<f64> {
        match &self.basis {
            Some((basis, _)) => matrix_product(basis.as_view(), directions.as_view()),
            None => directions,
        }
    }

    /// Returns the standard deviation √S_jj of each coordinate, the scale of a random
    /// initialisation.
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

    /// Returns the smallest variance of a coordinate above the tolerance, the initial σ² of
    /// iterative fits.
    ///
    /// With an initial σ² above the variance of a weak direction, the loadings of that direction
    /// shrink towards 0, a saddle point from which the iteration escapes slowly.
    pub(crate) fn smallest_variance(&self) -> f64 {
        let variances = self.coordinate_deviations().map(|s| s * s);
        variances
            .iter()
            .filter(|&&v| v > self.tolerance)
            // The largest variance if none is above the tolerance, so that σ² is positive.
            .fold(variances.max(), |smallest, &v| smallest.min(v))
    }

    /// Returns the mean μ, d×1.
    pub fn mean(&self) -> &DVector<f64> {
        &self.mean
    }

    /// Returns the number n of observations.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Returns the number d of variables.
    pub fn data_dim(&self) -> usize {
        self.root.nrows()
    }

    /// Returns the total variance tr S (divisor n).
    pub fn total_variance(&self) -> f64 {
        self.root.norm_squared()
    }

    /// Returns the variance of each variable about μ (divisor n), d×1.
    pub fn variances(&self) -> DVector<f64> {
        DVector::from_iterator(self.data_dim(), self.root.row_iter().map(|row| row.norm_squared()))
    }

    /// Returns the variance below which rounding of the data makes a direction indistinguishable
    /// from one without variance.
    pub fn tolerance(&self) -> f64 {
        self.tolerance
    }

    /// Returns [`Self::tolerance`] plus the rounding of the loadings of a model in the precision of
    /// the data: the variance below which such a model cannot represent a direction.
    fn rank_tolerance(&self) -> f64 {
        self.tolerance + self.rounding.loadings
    }

    /// Returns the rounding of a model in the precision of the data.
    pub(crate) fn rounding(&self) -> &ModelRounding {
        &self.rounding
    }

    /// Returns the eigenvalues λ_1 ≥ … ≥ λ_r of S; the other d − r are 0.
    ///
    /// # Errors
    /// Those of the singular value decomposition.
    pub fn eigenvalues(&self) -> Result<DVector<f64>> {
        Ok(thin_svd(self.coordinates().as_view())?.singular_values.map(|s| s * s))
    }

    /// Returns the numerical rank of S: the number of eigenvalues that a model in the precision of
    /// the data can represent.
    ///
    /// # Errors
    /// Those of the singular value decomposition.
    pub fn rank(&self) -> Result<usize> {
        Ok(self.eigenvalues()?.iter().filter(|&&variance| variance > self.rank_tolerance()).count())
    }

    /// Returns r pseudo-observations (d×r) with the second moment S about 0, over which a fit may
    /// run in place of the n observations.
    pub(crate) fn pseudo_observations(&self) -> DMatrix<f64> {
        &self.root * (self.root.ncols() as f64).sqrt()
    }

    /// Checks that a model of these data can have k latent dimensions.
    ///
    /// # Errors
    /// [`Error::LatentDim`] unless 1 ≤ k ≤ min(n, d).
    pub fn check_latent_dim(&self, latent_dim: usize) -> Result<()> {
        check_latent_dim(latent_dim, self.count, self.data_dim())
    }

    /// Checks that k latent dimensions leave variance for the noise.
    ///
    /// # Errors
    /// [`Error::Unbounded`] when k reaches the rank, at which σ² → 0 and the likelihood is
    /// unbounded; [`Error::Offset`] when a model in single precision cannot store the mean closely
    /// enough beside that variance; those of [`Self::check_latent_dim`] and of [`Self::rank`].
    pub fn check_noise_remains(&self, latent_dim: usize) -> Result<()> {
        self.check_latent_dim(latent_dim)?;
        // The lower bound is fast; the rank itself takes a singular value decomposition.
        if latent_dim < self.rank_lower_bound(self.clear_variance())? {
            return Ok(());
        }
        let leading = self.leading(latent_dim)?;
        if latent_dim >= leading.rank {
            return Err(Error::Unbounded { latent_dim, rank: leading.rank });
        }
        let least = self.rounding.noise(&leading.directions, &leading.variances);
        if leading.noise > least { Ok(()) } else { Err(self.rounding.offset_error(&self.mean)) }
    }

    /// Checks that k latent dimensions leave variance for the noise, as
    /// [`Self::check_noise_remains`], and that the codes of an encoder in the precision of the data,
    /// an affine map of x, have an error below that noise.
    ///
    /// # Errors
    /// Those of [`Self::check_noise_remains`]; [`Error::Offset`] also for such an encoder.
    pub fn check_encoder(&self, latent_dim: usize) -> Result<()> {
        if self.rounding.affine == 0.0 {
            return self.check_noise_remains(latent_dim);
        }
        self.check_latent_dim(latent_dim)?;
        // Where each of the other variances is above this, their mean is above the error.
        let others = (self.data_dim() - latent_dim).max(1) as f64;
        let clear = self.clear_variance().max(self.rounding.affine * others);
        if latent_dim < self.rank_lower_bound(clear)? {
            return Ok(());
        }
        self.check_noise_remains(latent_dim)?;
        self.rounding.check_affine(self.leading(latent_dim)?.noise, &self.mean)
    }

    /// Returns the variance above which one direction more than k proves that noise remains: then
    /// the square of the error of the mean is below it along any direction.
    fn clear_variance(&self) -> f64 {
        self.rank_tolerance() + self.rounding.mean.norm_squared()
    }

    /// Returns the k leading principal directions, with what remains beside them.
    fn leading(&self, latent_dim: usize) -> Result<Leading> {
        let svd = thin_svd(self.coordinates().as_view())?;
        let variances = svd.singular_values.map(|s| s * s);
        let rank = variances.iter().filter(|&&variance| variance > self.rank_tolerance()).count();
        let k = latent_dim.min(variances.len());
        let outside = variances.iter().skip(k).rev().sum::<f64>();
        Ok(Leading {
            directions: self.lift(svd.u.columns(0, k).into_owned()),
            variances: variances.rows(0, k).into_owned(),
            noise: outside / (self.data_dim() - k).max(1) as f64,
            rank,
        })
    }

    /// Returns a lower bound on the number of eigenvalues above `variance` that is fast to compute.
    ///
    /// With s_j² > 10⁹ · `variance` for the variables that are kept, S of these has at least as
    /// many eigenvalues above `variance` as their correlation matrix has above 10⁻⁹ (Ostrowski's
    /// theorem, S = DRD), and S of all variables has at least as many as S of some (interlacing).
    fn rank_lower_bound(&self, variance: f64) -> Result<usize> {
        // Correlations, not covariances: they are free of units, so that one threshold serves
        // variables of any scale. Variables that are left out get a row of 0.
        let least = self.tolerance.max(1e9 * variance);
        let mut scaled = self.coordinates().clone();
        for mut row in scaled.row_iter_mut() {
            let norm = row.norm();
            row *= if norm * norm > least { 1.0 / norm } else { 0.0 };
        }
        let eigen = symmetric_eigen(product_tr_right(&scaled, &scaled).as_view())?;
        // Rounding leaves about rε in an eigenvalue that should be 0: 2·10⁻¹³ at r = 1000.
        Ok(eigen.values.iter().filter(|&&value| value > 1e-9).count())
    }
}

/// The k leading principal directions (d×k) and their variances, the mean of the other variances,
/// and the numerical rank.
struct Leading {
    directions: DMatrix<f64>,
    variances: DVector<f64>,
    noise: f64,
    rank: usize,
}

/// Checks that a model of n observations of d variables can have k latent dimensions.
///
/// # Errors
/// [`Error::LatentDim`] unless 1 ≤ k ≤ min(n, d).
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

/// Returns μ and the [`resolution`] of the data.
///
/// # Errors
/// [`Error::TooFewObservations`], [`Error::ZeroVariance`], [`Error::Underflow`].
pub(crate) fn centre_and_resolution<T: Real>(
    x: Observations<'_, T>,
    mean: Centering,
) -> Result<(DVector<f64>, f64)> {
    let (mean, squares) = centre(x, mean)?;
    let total = squares.iter().sum::<f64>() / x.len() as f64;
    let tolerance = resolution(x.values(), &mean, total)?;
    Ok((mean, tolerance))
}

/// Returns μ in double precision, and the sum of squared deviations from it for each variable.
///
/// # Errors
/// [`Error::TooFewObservations`].
fn centre<T: Real>(x: Observations<'_, T>, mean: Centering) -> Result<(DVector<f64>, Vec<f64>)> {
    mean.expect_enough(x.len())?;
    match mean {
        Centering::Mean => {
            // Not rounded to the precision of the data, in which models store it: the data keep the
            // variances that they have about their own mean.
            let (mean, squares) = x.mean_and_squares(|mean| mean);
            Ok((DVector::from_vec(mean), squares))
        }
        Centering::None => {
            Ok((DVector::zeros(x.data_dim()), sums_of_squares_f64(x.values(), None, 1.0)))
        }
    }
}

/// Returns the variance below which rounding of the data makes a direction indistinguishable from
/// one without variance.
///
/// Rounding leaves an error of about ε‖x_j‖ in each centred entry; a variance below the square of
/// that error carries no information.
///
/// # Errors
/// [`Error::ZeroVariance`] or [`Error::Underflow`], as [`variance_error`] decides, for a total
/// variance below this or below [`smallest_variance`].
pub(crate) fn resolution<T: Real>(
    x: DMatrixView<'_, T>,
    mean: &DVector<f64>,
    total_variance: f64,
) -> Result<f64> {
    match resolution_of(total_variance, mean, x.ncols()) {
        Ok(tolerance) if total_variance >= smallest_variance::<T>() => Ok(tolerance),
        _ => Err(variance_error(x, mean)),
    }
}

/// Returns the smallest total variance that is accepted: it must be a normal number of `T`, and the
/// tolerance, `RESOLUTION` times as large, a normal number in double precision.
fn smallest_variance<T: Real>() -> f64 {
    T::MIN_POSITIVE.as_f64().max(f64::MIN_POSITIVE / RESOLUTION)
}

/// Share of the second moment about 0 below which a variance is attributed to rounding: (16ε)²,
/// which allows an error of sixteen roundings in each centred entry.
const RESOLUTION: f64 = 256.0 * f64::EPSILON * f64::EPSILON;

/// Returns the [`resolution`] from the total variance, the mean and the number of observations, for
/// data that are not in memory.
///
/// # Errors
/// [`Error::ZeroVariance`], [`Error::Underflow`].
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

/// Returns the error for data without usable variance: [`Error::Underflow`] if entries differ by
/// more than rounding but their squares underflow, otherwise [`Error::ZeroVariance`].
fn variance_error<T: Real>(x: DMatrixView<'_, T>, mean: &DVector<f64>) -> Error {
    let (mut deviation, mut size) = (0.0f64, 0.0f64);
    for column in x.column_iter() {
        for (value, mean) in column.iter().zip(mean.iter()) {
            deviation = deviation.max((value.as_f64() - mean).abs());
            size = size.max(value.as_f64().abs());
        }
    }
    // Sixteen roundings, as in `RESOLUTION`.
    if deviation > 16.0 * T::EPSILON.as_f64() * size {
        return Error::Underflow {
            what: "the largest deviation",
            deviation,
            limit: smallest_variance::<T>(),
        };
    }
    Error::ZeroVariance { variables: x.nrows(), observations: x.ncols() }
}
