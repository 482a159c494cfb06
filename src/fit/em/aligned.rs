//! Shared parts of the accelerated PPCA fitters (steps 2 and 3): the model up to a rotation of z,
//! and a subspace with the Ritz values of the data in it.
//!
//! Legend: A (d×r) is a square-root factor of the second moment, S = AAᵗ; Q (d×k) has orthonormal
//! columns; b_j are the Ritz values of S in the span of Q, and R (k×r) has orthonormal rows.

use crate::data::ScatterFactor;
use crate::likelihood::IsotropicGaussian;
use crate::linalg::{gemm, matrix_product, product_tr_left, product_tr_right, thin_qr, thin_svd};
use crate::model::LinearGaussian;
use crate::{Real, Result};
use nalgebra::{DMatrix, DVector};
use rand::Rng;

/// Linear-Gaussian model with W = Q diag(s): the likelihood does not depend on a rotation of z, so
/// that the right singular vectors of W are dropped.
pub(crate) struct AlignedModel {
    pub(crate) directions: DMatrix<f64>,
    pub(crate) singular_values: DVector<f64>,
    pub(crate) likelihood: IsotropicGaussian<f64>,
}

impl AlignedModel {
    pub(crate) fn from_loadings(
        loadings: &DMatrix<f64>,
        likelihood: IsotropicGaussian<f64>,
    ) -> Result<Self> {
        let svd = thin_svd(loadings.as_view())?;
        Ok(Self { directions: svd.u, singular_values: svd.singular_values, likelihood })
    }

    /// Returns s_j² + σ², the variances of x along the columns of Q.
    pub(crate) fn variances(&self) -> DVector<f64> {
        let noise_variance = self.likelihood.noise_variance();
        self.singular_values.map(|s| s * s + noise_variance)
    }

    /// Returns W = Q diag(s), d×k.
    pub(crate) fn loadings(&self) -> DMatrix<f64> {
        let mut loadings = self.directions.clone();
        for (mut column, &s) in loadings.column_iter_mut().zip(self.singular_values.iter()) {
            column *= s;
        }
        loadings
    }
}

/// Returns random loadings, d×k: row j is drawn from N(0, S_jj), so that each variable starts at
/// its own scale.
pub(crate) fn random_loadings(
    moment: &ScatterFactor,
    latent_dim: usize,
    rng: &mut dyn Rng,
) -> DMatrix<f64> {
    let deviations = moment.coordinate_deviations();
    DMatrix::from_fn(deviations.len(), latent_dim, |row, _| {
        deviations[row] * f64::standard_normal(rng)
    })
}

/// A subspace with orthonormal basis Q, and the projection of A: P = QᵗA = diag(√b) R with R =
/// `right`, and the residual A − QP.
pub(crate) struct Span {
    pub(crate) directions: DMatrix<f64>,
    pub(crate) inside: DMatrix<f64>,
    pub(crate) right: DMatrix<f64>,
    pub(crate) residual: DMatrix<f64>,
    pub(crate) variances: DVector<f64>,
    pub(crate) outside: f64,
}

impl Span {
    /// Creates a span with the given basis Q; b_j is the variance along its column j, and `right`
    /// is empty.
    pub(crate) fn along(root: &DMatrix<f64>, directions: &DMatrix<f64>) -> Self {
        let inside = product_tr_left(directions, root);
        let mut residual = root.clone();
        gemm(-1.0, directions, &inside, 1.0, &mut residual);
        let variances =
            DVector::from_iterator(inside.nrows(), inside.row_iter().map(|row| row.norm_squared()));
        let outside = residual.norm_squared();
        Self {
            directions: directions.clone(),
            inside,
            right: DMatrix::zeros(0, 0),
            residual,
            variances,
            outside,
        }
    }

    /// Creates a span whose basis is rotated to the Ritz vectors of S, in order of decreasing Ritz
    /// value, from the singular value decomposition of QᵗA.
    pub(crate) fn ritz(root: &DMatrix<f64>, directions: &DMatrix<f64>) -> Result<Self> {
        // The Ritz values of S come from the singular values of QᵗA, not from the eigenvalues of
        // QᵗSQ: squaring would lose the small ones beside the large (Golub & Van Loan).
        let svd = thin_svd(product_tr_left(directions, root).as_view())?;
        let right = svd.v.transpose();
        let directions = matrix_product(directions, &svd.u);
        let mut inside = right.clone();
        for (mut row, &s) in inside.row_iter_mut().zip(svd.singular_values.iter()) {
            row *= s;
        }
        // The residual is formed, not its norm as a difference: ‖A‖² − ‖P‖² would cancel.
        let mut residual = root.clone();
        gemm(-1.0, &directions, &inside, 1.0, &mut residual);
        let outside = residual.norm_squared();
        Ok(Self {
            directions,
            inside,
            right,
            residual,
            variances: svd.singular_values.map(|s| s * s),
            outside,
        })
    }

    /// Returns the span of the k leading Ritz vectors within the span of Q and the gradient E Rᵗ (E
    /// the residual); `None` if no direction can be added, because Q already spans the whole space
    /// or the gradient is 0.
    pub(crate) fn look_ahead(&self, root: &DMatrix<f64>) -> Result<Option<Self>> {
        let (rows, k) = self.directions.shape();
        let more = k.min(rows - k).min(root.ncols().saturating_sub(k));
        if more == 0 {
            return Ok(None);
        }
        // E Rᵗ diag(√b) is the residual SQ − Q diag(b) of the Ritz vectors, the gradient with
        // respect to the span, and orthogonal to Q. Ritz vectors of the enlarged space are one step
        // of LOBPCG (Knyazev 2001) without its previous directions.
        let gradient = product_tr_right(&self.residual, &self.right);
        let mut order: Vec<(f64, usize)> =
            gradient.column_iter().map(|c| c.norm()).zip(0..).collect();
        // Where fewer than k directions fit, the longest gradient columns are kept.
        order.sort_by(|a, b| b.0.total_cmp(&a.0));
        order.truncate(more);
        order.retain(|&(norm, _)| norm > 0.0);
        if order.is_empty() {
            return Ok(None);
        }
        let mut both = self.directions.clone().resize_horizontally(k + order.len(), 0.0);
        for (place, &(norm, column)) in order.iter().enumerate() {
            both.set_column(k + place, &(gradient.column(column) / norm));
        }
        // The second QR is a safeguard against rounding in a column that lies almost in the span of
        // the others; Householder QR is orthonormal in that case too.
        let basis = thin_qr(thin_qr(both.as_view())?.0.as_view())?.0;
        let svd = thin_svd(product_tr_left(&basis, root).as_view())?;
        let leading = matrix_product(&basis, &svd.u.columns(0, k).into_owned());
        Self::ritz(root, &leading).map(Some)
    }
}

/// Returns log p per observation (nats) of a model with variances m_j along Q and σ² elsewhere, for
/// data with variances b_j along Q.
pub(crate) fn log_likelihood(
    data_dim: usize,
    model_variances: &DVector<f64>,
    noise_variance: f64,
    span: &Span,
) -> f64 {
    let d = data_dim as f64;
    let outside = d - model_variances.len() as f64;
    let mut sum = d * std::f64::consts::TAU.ln()
        + outside * noise_variance.ln()
        + span.outside / noise_variance;
    for (m, b) in model_variances.iter().zip(span.variances.iter()) {
        sum += m.ln() + b / m;
    }
    -0.5 * sum
}

/// Smallest ratio of m_j to σ². Loadings of exactly 0 are a fixed point of EM, which such a
/// direction would never leave; at this ratio it can grow again.
pub(crate) const MIN_VARIANCE_RATIO: f64 = 1.0 + 1e-9;

/// Returns the PPCA optimum within a span (Tipping & Bishop 1999): m = b, and σ² the mean of the
/// remaining variance, to which directions weaker than the noise are added.
pub(crate) fn likelihood_optimum(
    ritz: &DVector<f64>,
    outside: f64,
    data_dim: usize,
) -> (DVector<f64>, f64) {
    let mut given_up = 0;
    let mut rest = outside;
    loop {
        // The Ritz values decrease, so that the directions below the noise are found from the end;
        // σ² falls each time one is added to it, and each direction is visited once.
        let noise = rest / (data_dim - ritz.len() + given_up) as f64;
        match ritz.iter().rev().nth(given_up) {
            Some(&weakest) if weakest < noise => {
                rest += weakest;
                given_up += 1;
            }
            _ => return (ritz.map(|b| b.max(noise * MIN_VARIANCE_RATIO)), noise),
        }
    }
}

/// Returns a lower bound on the gain in log p per observation that is still possible over `value`:
/// the gain of the best model in the span of W, or in the span of W and its gradient; at least 0.
pub(crate) fn gain_within_reach(
    moment: &ScatterFactor,
    model: &LinearGaussian<f64>,
    value: f64,
) -> Result<f64> {
    let (root, d) = (moment.root(), moment.data_dim());
    let span = Span::ritz(root, &thin_qr(model.loadings())?.0)?;
    let ahead = span.look_ahead(root)?;
    let best = std::iter::once(&span).chain(&ahead).map(|span| {
        let (variances, noise) = match model.likelihood.is_fixed() {
            true => (span.variances.map(|b| b.max(model.noise_variance())), model.noise_variance()),
            false => likelihood_optimum(&span.variances, span.outside, d),
        };
        log_likelihood(d, &variances, noise, span)
    });
    Ok(best.fold(value, f64::max) - value)
}
