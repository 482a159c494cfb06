//! Rotations of loadings to simple structure: varimax and promax.
//!
//! The likelihood of a linear-Gaussian model is invariant under orthogonal rotations of z, so that
//! W can be rotated such that each factor has large loadings on few variables.

use crate::fit::StopReason;
use crate::linalg::{
    cholesky_lower, first_large, matrix_product, product_tr_left, r_factor, solve_cholesky,
};
use crate::{Error, Real, Result};
use nalgebra::{DMatrix, DMatrixView, DVector};

/// Result of a rotation: the rotated loadings, the rotation, and the factor correlations.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Rotation<T: Real> {
    /// The rotated loadings W R, d×k. Columns are in order of decreasing sum of squares; those with
    /// equal sums (to 10⁻⁶) by their first large entry. The first large entry of each column is
    /// positive; large are the entries within 10⁻³ of the largest.
    pub loadings: DMatrix<T>,
    /// R, k×k: orthogonal for varimax, oblique for promax.
    pub rotation: DMatrix<T>,
    /// The correlations of the rotated factors, k×k: the identity for varimax.
    pub factor_correlations: DMatrix<T>,
    /// The varimax criterion Σ_m [mean_j l_jm⁴ − (mean_j l_jm²)²] of the (normalised) loadings,
    /// before any oblique step.
    pub criterion: f64,
    /// [`StopReason::Converged`] if the last sweep rotated no pair of factors by more than the
    /// tolerance, otherwise [`StopReason::IterationLimit`].
    pub stop: StopReason,
    /// The number of sweeps over all pairs of factors.
    pub sweeps: usize,
}

/// Varimax (Kaiser 1958): the orthogonal rotation that maximises the variance of the squared
/// loadings, by plane rotations of pairs of factors.
///
/// ```math
/// \max_R \sum_m\left[\frac1d\sum_j l_{jm}^4-\Big(\frac1d\sum_j l_{jm}^2\Big)^2\right],\qquad L=WR
/// ```
///
/// The optimal angle of a pair has a closed form, so that the criterion never decreases.
///
/// ```
/// use elbo::rotation::Varimax;
/// use nalgebra::DMatrix;
/// // Simple structure with two clusters of variables; its factors are rotated by 45 degrees.
/// let simple = DMatrix::from_row_slice(4, 2, &[3.0, 0.0, 2.0, 0.0, 0.0, 2.0, 0.0, 1.0]);
/// let turned = &simple * DMatrix::from_row_slice(2, 2, &[1.0, -1.0, 1.0, 1.0]) / 2f64.sqrt();
/// let found = Varimax::default().rotate(turned.as_view())?;
/// assert!((found.loadings - simple).amax() < 1e-12);
/// # Ok::<(), elbo::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Varimax {
    /// Whether the loadings of each variable are scaled to length 1 while the angles are computed
    /// (Kaiser normalisation), which gives all variables the same weight.
    pub normalize: bool,
    /// Largest number of sweeps over all pairs of factors.
    pub max_sweeps: usize,
    /// Convergence tolerance: the largest angle of a sweep, in radians.
    pub tolerance: f64,
}

impl Default for Varimax {
    fn default() -> Self {
        // The criterion is stationary in the angles: its relative error is of the order of the
        // square of the tolerance, 10⁻²⁰, which is below rounding.
        Self { normalize: true, max_sweeps: 1_000, tolerance: 1e-10 }
    }
}

impl Varimax {
    /// Rotates d×k loadings.
    ///
    /// # Errors
    /// [`Error::Empty`], [`Error::NotFinite`].
    pub fn rotate<T: Real>(&self, loadings: DMatrixView<'_, T>) -> Result<Rotation<T>> {
        Ok(narrow(self.find(loadings)?))
    }

    /// Computes the rotation in double precision.
    fn find<T: Real>(&self, loadings: DMatrixView<'_, T>) -> Result<Rotation<f64>> {
        let (d, k) = loadings.shape();
        if d == 0 || k == 0 {
            return Err(Error::Empty { rows: d, columns: k });
        }
        crate::linalg::check_finite(loadings)?;
        // 1. Kaiser normalisation, on a copy. A variable without loadings stays 0.
        let given = loadings.map(|v| v.as_f64());
        let mut at = given.clone();
        for mut row in at.row_iter_mut() {
            let length = row.norm();
            if self.normalize && length > 0.0 {
                row /= length;
            }
        }
        // 2. Scale the largest entry to 1, so that its fourth power neither overflows nor
        // underflows. The angles do not depend on the scale.
        let size = at.amax();
        if size > 0.0 {
            at /= size;
        }
        // 3. Sweep over all pairs, as in a Jacobi method, until every angle of a sweep is small.
        let mut rotation = DMatrix::identity(k, k);
        if k > d {
            to_first_columns(&mut at, &mut rotation);
        }
        let (mut sweeps, mut stop) = (0, StopReason::IterationLimit);
        while sweeps < self.max_sweeps {
            sweeps += 1;
            let mut largest = 0.0f64;
            for p in 0..k {
                for q in p + 1..k {
                    let angle = best_angle(&at, p, q);
                    largest = largest.max(angle.abs());
                    if angle == 0.0 {
                        continue;
                    }
                    turn(&mut at, p, q, angle);
                    turn(&mut rotation, p, q, angle);
                }
            }
            if largest <= self.tolerance {
                stop = StopReason::Converged;
                break;
            }
        }
        let criterion = criterion(&(at * size));
        // 4. One product of the given loadings, which are not normalised, with the rotation: the
        // rounding errors of the sweeps enter by the rotation alone.
        let mut rotated = matrix_product(&given, &rotation);
        arrange(&mut rotated, &mut rotation);
        Ok(Rotation {
            loadings: rotated,
            rotation,
            factor_correlations: DMatrix::identity(k, k),
            criterion,
            stop,
            sweeps,
        })
    }
}

/// Promax (Hendrickson & White 1964): varimax, followed by the oblique rotation that fits the
/// varimax loadings, raised to a power, in least squares.
///
/// The rotated factors have variance 1 and the correlations Φ in [`Rotation::factor_correlations`];
/// with the rotated loadings L, WWᵗ = LΦLᵗ.
///
/// ```
/// use elbo::rotation::Promax;
/// use nalgebra::DMatrix;
/// // Two clusters of variables whose factors are correlated.
/// let loadings = DMatrix::from_row_slice(4, 2, &[2.0_f64, 1.0, 1.8, 1.1, 1.0, 2.0, 0.9, 1.7]);
/// let found = Promax::default().rotate(loadings.as_view())?;
/// assert!(found.factor_correlations[(0, 1)].abs() > 0.4);
/// let common = &found.loadings * &found.factor_correlations * found.loadings.transpose();
/// assert!((common - &loadings * loadings.transpose()).amax() < 1e-12);
/// # Ok::<(), elbo::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Promax {
    /// The power of the target, above 1 and at most 100; 4 is usual.
    pub power: f64,
    /// The orthogonal rotation that precedes the oblique one.
    pub varimax: Varimax,
}

impl Default for Promax {
    fn default() -> Self {
        Self { power: 4.0, varimax: Varimax::default() }
    }
}

impl Promax {
    /// Rotates d×k loadings.
    ///
    /// # Errors
    /// Those of [`Varimax::rotate`]; [`Error::NotPositiveDefinite`] when the rank of the loadings
    /// is below k; [`Error::InvalidParameter`] unless 1 < power ≤ 100.
    pub fn rotate<T: Real>(&self, loadings: DMatrixView<'_, T>) -> Result<Rotation<T>> {
        if self.power.is_nan() || self.power <= 1.0 || self.power > 100.0 {
            return Err(Error::InvalidParameter {
                name: "the power of promax",
                value: self.power,
                must: "above 1 and at most 100",
            });
        }
        let mut found = self.varimax.find(loadings)?;
        // The target: loadings raised to the power, with their signs. Small loadings move towards 0
        // relative to large ones; scaling by the largest avoids overflow.
        let simple = &found.loadings;
        let size = simple.amax().max(f64::MIN_POSITIVE);
        let target = simple.map(|l| l.signum() * (l.abs() / size).powf(self.power) * size);
        // Least squares by the normal equations (LᵗL) U = Lᵗ · target, k×k.
        let mut oblique = product_tr_left(simple, &target);
        let inner = product_tr_left(simple, simple);
        // Rank below k: a column without loadings, or dependent columns. 10⁻¹³ is some 450 ε, in
        // the order of the rounding error of LᵗL.
        let least = inner.diagonal().max() * 1e-13;
        let factor = cholesky_lower(inner.as_view())?;
        if factor.diagonal().iter().any(|&pivot| pivot * pivot <= least) {
            return Err(Error::NotPositiveDefinite { size: inner.nrows() });
        }
        solve_cholesky(&factor, oblique.as_view_mut());
        let correlations = |oblique: &DMatrix<f64>| -> Result<DMatrix<f64>> {
            // (UᵗU)⁻¹ from U = QR: UᵗU itself would have the square of the condition number of U.
            let factor = r_factor(oblique.as_view())?.transpose();
            if factor.diagonal().iter().any(|&pivot| pivot == 0.0) {
                return Err(Error::NotPositiveDefinite { size: oblique.ncols() });
            }
            let mut inverse = DMatrix::identity(oblique.ncols(), oblique.ncols());
            solve_cholesky(&factor, inverse.as_view_mut());
            Ok(inverse)
        };
        // The factors U⁻¹z have the covariance (UᵗU)⁻¹: columns of U are scaled such that all
        // variances are 1.
        let variances = correlations(&oblique)?.diagonal();
        for (mut column, variance) in oblique.column_iter_mut().zip(variances.iter()) {
            column *= variance.sqrt();
        }
        found.loadings = matrix_product(&found.loadings, &oblique);
        found.rotation = matrix_product(&found.rotation, &oblique);
        arrange(&mut found.loadings, &mut found.rotation);
        found.factor_correlations = correlations(&found.rotation)?;
        Ok(narrow(found))
    }
}

/// Returns the angle in the plane of columns p and q that maximises the criterion: a quarter of the
/// argument of Σ(x + iy)⁴ − (Σ(x + iy)²)²/d, for loadings x and y of the two columns (Kaiser 1958).
fn best_angle(loadings: &DMatrix<f64>, p: usize, q: usize) -> f64 {
    let d = loadings.nrows() as f64;
    let (mut a, mut b, mut c, mut e) = (0.0, 0.0, 0.0, 0.0);
    for (&x, &y) in loadings.column(p).iter().zip(loadings.column(q).iter()) {
        // u + iv = (x + iy)².
        let (u, v) = (x * x - y * y, 2.0 * x * y);
        a += u;
        b += v;
        c += u * u - v * v;
        e += 2.0 * u * v;
    }
    let (sine, cosine) = (e - 2.0 * a * b / d, c - (a * a - b * b) / d);
    // Below the rounding error of sums of fourth powers, the criterion does not depend on the
    // angle, which would be arbitrary: the pair is left as it is.
    let size = loadings.column(p).norm_squared() + loadings.column(q).norm_squared();
    if sine.hypot(cosine) <= 64.0 * f64::EPSILON * size * size {
        0.0
    } else {
        0.25 * sine.atan2(cosine)
    }
}

/// Rotates more factors than variables such that only the first d columns of the loadings are not 0,
/// by Householder reflections from the right.
// For a column of 0 the best angle with any other is 0: it stays 0, and the sweeps concern the first
// d columns only. Without this, k = 375 factors of 4 variables took a thousand sweeps of 70,000 pairs.
fn to_first_columns(loadings: &mut DMatrix<f64>, rotation: &mut DMatrix<f64>) {
    let (d, k) = loadings.shape();
    for j in 0..d.min(k - 1) {
        let mut reflector: DVector<f64> =
            loadings.view((j, j), (1, k - j)).transpose().column(0).into_owned();
        let length = reflector.norm();
        // The sign that adds, so that nothing cancels.
        reflector[0] += length.copysign(reflector[0]);
        let square = reflector.norm_squared();
        if square > 0.0 {
            for matrix in [&mut *loadings, &mut *rotation] {
                let mut part = matrix.columns_mut(j, k - j);
                let products = &part * &reflector * (-2.0 / square);
                part.ger(1.0, &products, &reflector, 1.0);
            }
        }
        // Exactly 0, which rounding would leave near 0.
        loadings.view_mut((j, j + 1), (1, k - j - 1)).fill(0.0);
    }
}

/// Rotates columns p and q of a matrix by an angle (Givens rotation).
fn turn(matrix: &mut DMatrix<f64>, p: usize, q: usize, angle: f64) {
    let (sine, cosine) = angle.sin_cos();
    for row in 0..matrix.nrows() {
        let (x, y) = (matrix[(row, p)], matrix[(row, q)]);
        matrix[(row, p)] = cosine * x + sine * y;
        matrix[(row, q)] = cosine * y - sine * x;
    }
}

/// Returns the varimax criterion: the sum over factors of the variance of the squared loadings.
fn criterion(loadings: &DMatrix<f64>) -> f64 {
    let d = loadings.nrows() as f64;
    let of_column = |column: nalgebra::DVectorView<'_, f64>| {
        let squares = column.map(|l| l * l);
        squares.norm_squared() / d - (squares.sum() / d).powi(2)
    };
    loadings.column_iter().map(of_column).sum()
}

/// Sorts the columns by decreasing sum of squares, those with equal sums by their first large entry,
/// and makes this entry positive, in the loadings and with them in the rotation.
fn arrange(loadings: &mut DMatrix<f64>, rotation: &mut DMatrix<f64>) {
    // The criterion determines a rotation up to order and signs; this makes the result unique. Sums
    // of squares count as equal within the rounding of loadings in single precision.
    let mut order: Vec<(f64, usize)> =
        loadings.column_iter().map(|c| c.norm_squared()).zip(0..).collect();
    order.sort_by(|a, b| b.0.total_cmp(&a.0));
    for equal in order.chunk_by_mut(|a, b| a.0 - b.0 <= 1e-6 * a.0) {
        equal.sort_by_key(|&(_, column)| first_large(loadings.column(column).as_slice()));
    }
    let order: Vec<usize> = order.into_iter().map(|(_, column)| column).collect();
    (*loadings, *rotation) = (loadings.select_columns(&order), rotation.select_columns(&order));
    for (mut l, mut r) in loadings.column_iter_mut().zip(rotation.column_iter_mut()) {
        if first_large(l.as_slice()).is_some_and(|j| l[j] < 0.0) {
            l.neg_mut();
            r.neg_mut();
        }
    }
}

/// Casts the matrices of a result to the scalar `T`.
fn narrow<T: Real>(found: Rotation<f64>) -> Rotation<T> {
    let cast = |matrix: &DMatrix<f64>| matrix.map(T::of);
    let (loadings, rotation, factor_correlations) =
        (cast(&found.loadings), cast(&found.rotation), cast(&found.factor_correlations));
    Rotation {
        loadings,
        rotation,
        factor_correlations,
        criterion: found.criterion,
        stop: found.stop,
        sweeps: found.sweeps,
    }
}
