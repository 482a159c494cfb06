//! What the joint ascent asks of a posterior family: its scale, as constants of the encoder's head.
//!
//! `scale` is φ without the mean, in the family's own parameters (log-variances first); `factor` is
//! the lower triangular L with Σ = LLᵗ.

use crate::Real;
use crate::posterior::{Diagonal, Full, Isotropic, PosteriorFamily};
use nalgebra::{DMatrix, DVector};

/// A posterior family whose affine head the joint ascent can fit.
pub trait AffineScaleHead<T: Real>: PosteriorFamily<T> {
    /// L (k×k) of a scale.
    fn scale_factor(latent_dim: usize, scale: &DVector<f64>) -> DMatrix<f64>;

    /// The derivative of −J per observation by the scale, with Λ = WᵗW/σ² + I.
    fn scale_gradient(
        scale: &DVector<f64>,
        factor: &DMatrix<f64>,
        precision: &DMatrix<f64>,
    ) -> DVector<f64>;

    /// The inverse of the scale's own block of the Hessian, times a derivative.
    fn scale_newton(
        gradient: &DVector<f64>,
        scale: &DVector<f64>,
        factor: &DMatrix<f64>,
        precision: &DMatrix<f64>,
    ) -> DVector<f64>;

    /// How the scale changes under z → (I + T)z, as far as the family can follow.
    fn symmetry_change(transform: &DMatrix<f64>, factor: &DMatrix<f64>) -> DVector<f64>;

    /// The adjoint of [`Self::symmetry_change`].
    fn symmetry_adjoint(gradient: &DVector<f64>, factor: &DMatrix<f64>) -> DMatrix<f64>;

    /// The curvature of −J along T_ij, k×k, from the diagonal of YYᵗ, Σ and Λ.
    fn symmetry_curvature(
        code_squares: &DVector<f64>,
        covariance: &DMatrix<f64>,
        precision: &DMatrix<f64>,
    ) -> DMatrix<f64>;

    /// The lengths of W's columns and the scale that raise J most, when WY has the given singular
    /// values and 1/σ² = `precision`.
    fn balance(strengths: &DVector<f64>, precision: f64) -> (DVector<f64>, DVector<f64>);
}

/// The curvature off the diagonal, which all families share, with a diagonal of their own.
fn curvature(
    code_squares: &DVector<f64>,
    covariance: &DMatrix<f64>,
    precision: &DMatrix<f64>,
    more: impl Fn(usize) -> f64,
    diagonal: impl Fn(usize) -> f64,
) -> DMatrix<f64> {
    let k = code_squares.len();
    DMatrix::from_fn(k, k, |i, j| {
        let off = code_squares[j] + more(j) + (precision[(i, i)] - 1.0) * covariance[(j, j)];
        if i == j { diagonal(j) } else { off }.max(1e-12)
    })
}

/// D² = ½s(s + √(s² + 4σ²)) and ln var = −ln(1 + D²/σ²): the balance of a head with a variance for
/// each dimension.
fn separate_balance(strengths: &DVector<f64>, precision: f64) -> (DVector<f64>, DVector<f64>) {
    let deviation = 1.0 / precision.sqrt();
    let lengths = strengths.map(|s| s.sqrt() * (0.5 * (s + s.hypot(2.0 * deviation))).sqrt());
    let log_variances = lengths.map(|length| -(length / deviation).powi(2).ln_1p());
    (lengths, log_variances)
}

impl<T: Real> AffineScaleHead<T> for Isotropic<T> {
    fn scale_factor(latent_dim: usize, scale: &DVector<f64>) -> DMatrix<f64> {
        DMatrix::from_diagonal_element(latent_dim, latent_dim, (0.5 * scale[0]).exp())
    }

    fn scale_gradient(
        scale: &DVector<f64>,
        _factor: &DMatrix<f64>,
        precision: &DMatrix<f64>,
    ) -> DVector<f64> {
        DVector::from_element(
            1,
            0.5 * (precision.trace() * scale[0].exp() - precision.nrows() as f64),
        )
    }

    fn scale_newton(
        gradient: &DVector<f64>,
        scale: &DVector<f64>,
        _factor: &DMatrix<f64>,
        precision: &DMatrix<f64>,
    ) -> DVector<f64> {
        gradient / (0.5 * (precision.trace() * scale[0].exp()).max(precision.nrows() as f64))
    }

    fn symmetry_change(transform: &DMatrix<f64>, _factor: &DMatrix<f64>) -> DVector<f64> {
        DVector::from_element(1, 2.0 * transform.trace() / transform.nrows() as f64)
    }

    fn symmetry_adjoint(gradient: &DVector<f64>, factor: &DMatrix<f64>) -> DMatrix<f64> {
        let k = factor.nrows();
        DMatrix::from_diagonal_element(k, k, 2.0 * gradient[0] / k as f64)
    }

    fn symmetry_curvature(
        code_squares: &DVector<f64>,
        covariance: &DMatrix<f64>,
        precision: &DMatrix<f64>,
    ) -> DMatrix<f64> {
        let diagonal =
            |j: usize| 2.0 * (code_squares[j] + (precision[(j, j)] - 1.0) * covariance[(j, j)]);
        curvature(code_squares, covariance, precision, |_| 0.0, diagonal)
    }

    /// √c = ½(s̄/σ + √(s̄²/σ² + 4)), D_j² = s_j σ√c, ln var = −ln c.
    fn balance(strengths: &DVector<f64>, precision: f64) -> (DVector<f64>, DVector<f64>) {
        let deviation = 1.0 / precision.sqrt();
        let ratio = strengths.mean() / deviation;
        let root = 0.5 * (ratio + ratio.hypot(2.0));
        (
            strengths.map(|s| s.sqrt() * (root * deviation).sqrt()),
            DVector::from_element(1, -2.0 * root.ln()),
        )
    }
}

impl<T: Real> AffineScaleHead<T> for Diagonal<T> {
    fn scale_factor(_latent_dim: usize, scale: &DVector<f64>) -> DMatrix<f64> {
        DMatrix::from_diagonal(&scale.map(|l| (0.5 * l).exp()))
    }

    fn scale_gradient(
        scale: &DVector<f64>,
        _factor: &DMatrix<f64>,
        precision: &DMatrix<f64>,
    ) -> DVector<f64> {
        scale.zip_map(&precision.diagonal(), |l, p| 0.5 * (p * l.exp() - 1.0))
    }

    fn scale_newton(
        gradient: &DVector<f64>,
        scale: &DVector<f64>,
        _factor: &DMatrix<f64>,
        precision: &DMatrix<f64>,
    ) -> DVector<f64> {
        gradient.component_div(
            &scale.zip_map(&precision.diagonal(), |l, p| 0.5 * (p * l.exp()).max(1.0)),
        )
    }

    fn symmetry_change(transform: &DMatrix<f64>, _factor: &DMatrix<f64>) -> DVector<f64> {
        transform.diagonal() * 2.0
    }

    fn symmetry_adjoint(gradient: &DVector<f64>, _factor: &DMatrix<f64>) -> DMatrix<f64> {
        DMatrix::from_diagonal(&(gradient * 2.0))
    }

    fn symmetry_curvature(
        code_squares: &DVector<f64>,
        covariance: &DMatrix<f64>,
        precision: &DMatrix<f64>,
    ) -> DMatrix<f64> {
        let diagonal = |j: usize| 2.0 * (code_squares[j] + covariance[(j, j)]).max(1.0);
        curvature(code_squares, covariance, precision, |_| 0.0, diagonal)
    }

    fn balance(strengths: &DVector<f64>, precision: f64) -> (DVector<f64>, DVector<f64>) {
        separate_balance(strengths, precision)
    }
}

/// The scale of a full head as a matrix and back: half the log-variances, or their step, on the
/// diagonal.
fn lower_to_scale(lower: &DMatrix<f64>, diagonal: impl Fn(usize) -> f64) -> DVector<f64> {
    let k = lower.nrows();
    let below = (0..k).flat_map(|j| (j + 1..k).map(move |i| (i, j))).map(|place| lower[place]);
    DVector::from_iterator(k + k * (k - 1) / 2, (0..k).map(diagonal).chain(below))
}

/// A lower triangular matrix whose entries below the diagonal are the scale's, and whose diagonal
/// is `diagonal`.
fn scale_to_lower(k: usize, scale: &DVector<f64>, diagonal: impl Fn(usize) -> f64) -> DMatrix<f64> {
    let mut lower = DMatrix::zeros(k, k);
    let mut next = k;
    for j in 0..k {
        lower[(j, j)] = diagonal(j);
        for i in j + 1..k {
            lower[(i, j)] = scale[next];
            next += 1;
        }
    }
    lower
}

/// The derivative by L, from that by the scale (d/d ln L_jj² on its diagonal).
fn factor_gradient(gradient: &DVector<f64>, factor: &DMatrix<f64>) -> DMatrix<f64> {
    scale_to_lower(factor.nrows(), gradient, |j| 2.0 * gradient[j] / factor[(j, j)])
}

impl<T: Real> AffineScaleHead<T> for Full<T> {
    fn scale_factor(latent_dim: usize, scale: &DVector<f64>) -> DMatrix<f64> {
        scale_to_lower(latent_dim, scale, |j| (0.5 * scale[j]).exp())
    }

    fn scale_gradient(
        _scale: &DVector<f64>,
        factor: &DMatrix<f64>,
        precision: &DMatrix<f64>,
    ) -> DVector<f64> {
        let product = precision * factor;
        lower_to_scale(&product, |j| 0.5 * (product[(j, j)] * factor[(j, j)] - 1.0))
    }

    /// In L = L₀(I + N) the Hessian is nearly diagonal, with (LᵗΛL)_ii for row i of N.
    fn scale_newton(
        gradient: &DVector<f64>,
        _scale: &DVector<f64>,
        factor: &DMatrix<f64>,
        precision: &DMatrix<f64>,
    ) -> DVector<f64> {
        let k = factor.nrows();
        let curvatures = (factor.tr_mul(precision) * factor).diagonal();
        let mut n = factor.tr_mul(&factor_gradient(gradient, factor)).lower_triangle();
        for i in 0..k {
            n.row_mut(i).scale_mut(1.0 / curvatures[i].max(1.0));
            n[(i, i)] *= 0.5;
        }
        lower_to_scale(&(factor * &n), |j| 2.0 * n[(j, j)])
    }

    /// With X = L⁻¹TL, δL = L N where N is the lower triangle of X + Xᵗ with a halved diagonal.
    fn symmetry_change(transform: &DMatrix<f64>, factor: &DMatrix<f64>) -> DVector<f64> {
        let x = factor
            .solve_lower_triangular(&(transform * factor))
            .unwrap_or_else(|| transform.clone());
        let mut n = (&x + x.transpose()).lower_triangle();
        for j in 0..n.nrows() {
            n[(j, j)] *= 0.5;
        }
        lower_to_scale(&(factor * &n), |j| 2.0 * n[(j, j)])
    }

    fn symmetry_adjoint(gradient: &DVector<f64>, factor: &DMatrix<f64>) -> DMatrix<f64> {
        let n = factor.tr_mul(&factor_gradient(gradient, factor)).lower_triangle();
        let both = &n + n.transpose() - DMatrix::from_diagonal(&n.diagonal());
        let right = both * factor.transpose();
        factor.tr_solve_lower_triangular(&right).unwrap_or(right)
    }

    fn symmetry_curvature(
        code_squares: &DVector<f64>,
        covariance: &DMatrix<f64>,
        precision: &DMatrix<f64>,
    ) -> DMatrix<f64> {
        let diagonal = |j: usize| 2.0 * (code_squares[j] + covariance[(j, j)]).max(1.0);
        curvature(code_squares, covariance, precision, |j| covariance[(j, j)] + 1.0, diagonal)
    }

    fn balance(strengths: &DVector<f64>, precision: f64) -> (DVector<f64>, DVector<f64>) {
        let k = strengths.len();
        let (lengths, log_variances) = separate_balance(strengths, precision);
        (lengths, log_variances.resize_vertically(k + k * (k - 1) / 2, 0.0))
    }
}
