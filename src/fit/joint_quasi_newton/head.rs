//! The scale head of each posterior family, for the joint quasi-Newton ascent: gradient, curvature
//! and optimum of the constants that make up Σ.
//!
//! `scale` is φ without the mean, in the parameters of the family (log-variances first); `factor`
//! is the lower triangular L with Σ = LLᵗ. Both are the same for all observations.

use crate::Real;
use crate::posterior::{Diagonal, Full, Isotropic, PosteriorFamily};
use nalgebra::{DMatrix, DVector};

/// Posterior family whose affine encoder head [`JointQuasiNewton`](super::JointQuasiNewton) can
/// fit.
pub trait AffineScaleHead<T: Real>: PosteriorFamily<T> {
    /// Returns L (k×k) for a scale.
    fn scale_factor(latent_dim: usize, scale: &DVector<f64>) -> DMatrix<f64>;

    /// Returns the gradient of −J per observation with respect to the scale, with Λ = WᵗW/σ² + I as
    /// `precision`.
    fn scale_gradient(
        scale: &DVector<f64>,
        factor: &DMatrix<f64>,
        precision: &DMatrix<f64>,
    ) -> DVector<f64>;

    /// Returns the Newton step of the scale alone: the inverse of its own block of the Hessian,
    /// times a gradient.
    fn scale_newton(
        gradient: &DVector<f64>,
        scale: &DVector<f64>,
        factor: &DMatrix<f64>,
        precision: &DMatrix<f64>,
    ) -> DVector<f64>;

    /// Returns the change of the scale under z → (I + T)z, as far as the family can represent it.
    fn symmetry_change(transform: &DMatrix<f64>, factor: &DMatrix<f64>) -> DVector<f64>;

    /// Returns the adjoint of [`Self::symmetry_change`] applied to a gradient, k×k.
    fn symmetry_adjoint(gradient: &DVector<f64>, factor: &DMatrix<f64>) -> DMatrix<f64>;

    /// Returns the curvature of −J along each T_ij, k×k, from the diagonal of YYᵗ, Σ and Λ.
    fn symmetry_curvature(
        code_squares: &DVector<f64>,
        covariance: &DMatrix<f64>,
        precision: &DMatrix<f64>,
    ) -> DMatrix<f64>;

    /// Returns the column lengths of W and the scale that maximise J, if WY has the given singular
    /// values and 1/σ² = `precision`.
    fn balance(strengths: &DVector<f64>, precision: f64) -> (DVector<f64>, DVector<f64>);
}

/// Returns the curvature along T_ij: the off-diagonal form that all families share (plus `more`),
/// and the diagonal of the family.
fn curvature(
    code_squares: &DVector<f64>,
    covariance: &DMatrix<f64>,
    precision: &DMatrix<f64>,
    more: impl Fn(usize) -> f64,
    diagonal: impl Fn(usize) -> f64,
) -> DMatrix<f64> {
    let k = code_squares.len();
    DMatrix::from_fn(k, k, |i, j| {
        // T_ij adds T_ij·y_j to row i of Y and −T_ij·w_i to column j of W. Along it ½‖Y‖² has the
        // curvature ‖y_j‖², and tr(WᵗWΣ)/2σ² has ‖w_i‖²Σ_jj/σ² = (Λ_ii − 1)Σ_jj. The lower bound
        // keeps the division by the curvature defined where a direction has no codes.
        let off = code_squares[j] + more(j) + (precision[(i, i)] - 1.0) * covariance[(j, j)];
        if i == j { diagonal(j) } else { off }.max(1e-12)
    })
}

/// Returns the balance of a head with one variance per dimension: D² = ½s(s + √(s² + 4σ²)) and ln
/// var = −ln(1 + D²/σ²).
fn separate_balance(strengths: &DVector<f64>, precision: f64) -> (DVector<f64>, DVector<f64>) {
    // `hypot` and ratios to σ, not squares: s² and σ² may overflow or underflow where s and σ do
    // not.
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
        // The second derivative is ½ e^l tr Λ. It vanishes as l → −∞, where the Newton step would
        // explode; from below it is bounded by its value at the optimum, k/2.
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

    /// Returns the balance of an isotropic head: √c = ½(s̄/σ + √(s̄²/σ² + 4)), D_j² = s_j σ√c, ln
    /// var = −ln c.
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

/// Returns the scale vector of a full head from a lower triangular matrix: `diagonal` gives the k
/// leading entries (log-variances or their steps), followed by the entries below the diagonal by
/// columns.
fn lower_to_scale(lower: &DMatrix<f64>, diagonal: impl Fn(usize) -> f64) -> DVector<f64> {
    let k = lower.nrows();
    let below = (0..k).flat_map(|j| (j + 1..k).map(move |i| (i, j))).map(|place| lower[place]);
    DVector::from_iterator(k + k * (k - 1) / 2, (0..k).map(diagonal).chain(below))
}

/// Returns the lower triangular matrix whose entries below the diagonal are those of the scale
/// vector, and whose diagonal is `diagonal`.
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

/// Returns the gradient with respect to L, from that with respect to the scale (whose diagonal
/// entries are derivatives with respect to ln L_jj²).
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

    /// Newton step in the parametrisation L = L₀(I + N), in which the Hessian is nearly diagonal,
    /// with (LᵗΛL)_ii for row i of N.
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

    /// With X = L⁻¹TL, δL = L N, where N is the lower triangle of X + Xᵗ with a halved diagonal.
    fn symmetry_change(transform: &DMatrix<f64>, factor: &DMatrix<f64>) -> DVector<f64> {
        // Σ changes by TΣ + ΣTᵗ = L(X + Xᵗ)Lᵗ, and δL Lᵗ + L δLᵗ = L(N + Nᵗ)Lᵗ: N must be the
        // triangular half of X + Xᵗ.
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
