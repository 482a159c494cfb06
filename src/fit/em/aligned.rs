//! A linear-Gaussian model up to a rotation of z, and a span beside the data: what the accelerated
//! fitters of step 2 and 3 share.

use crate::data::ScatterFactor;
use crate::likelihood::IsotropicGaussian;
use crate::linalg::{gemm, matrix_product, product_tr_left, product_tr_right, thin_qr, thin_svd};
use crate::model::LinearGaussian;
use crate::{Real, Result};
use nalgebra::{DMatrix, DVector};
use rand::Rng;

/// W as Q diag(s), beside σ²: the model up to a rotation of z, which the likelihood does not see.
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

    /// s_j² + σ².
    pub(crate) fn variances(&self) -> DVector<f64> {
        let noise_variance = self.likelihood.noise_variance();
        self.singular_values.map(|s| s * s + noise_variance)
    }

    /// W = Q diag(s).
    pub(crate) fn loadings(&self) -> DMatrix<f64> {
        let mut loadings = self.directions.clone();
        for (mut column, &s) in loadings.column_iter_mut().zip(self.singular_values.iter()) {
            column *= s;
        }
        loadings
    }
}

/// N(0, S_jj) in the row of coordinate j.
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

/// An orthonormal Q beside A: P = QᵗA = diag(√b) R with R = `right`, and the residual A − QP.
pub(crate) struct Span {
    pub(crate) directions: DMatrix<f64>,
    pub(crate) inside: DMatrix<f64>,
    pub(crate) right: DMatrix<f64>,
    pub(crate) residual: DMatrix<f64>,
    pub(crate) variances: DVector<f64>,
    pub(crate) outside: f64,
}

impl Span {
    /// Q as it is; b_j is the variance along its column j, and there is no `right`.
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

    /// Q turned to the Ritz directions of S in its span, in the order of falling variance, by the
    /// singular value decomposition of QᵗA.
    pub(crate) fn ritz(root: &DMatrix<f64>, directions: &DMatrix<f64>) -> Result<Self> {
        let svd = thin_svd(product_tr_left(directions, root).as_view())?;
        let right = svd.v.transpose();
        let directions = matrix_product(directions, &svd.u);
        let mut inside = right.clone();
        for (mut row, &s) in inside.row_iter_mut().zip(svd.singular_values.iter()) {
            row *= s;
        }
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

    /// The k leading Ritz directions in the span of Q and of the gradient E Rᵗ together; `None`
    /// where that is the whole space.
    pub(crate) fn look_ahead(&self, root: &DMatrix<f64>) -> Result<Option<Self>> {
        let (rows, k) = self.directions.shape();
        let more = k.min(rows - k).min(root.ncols().saturating_sub(k));
        if more == 0 {
            return Ok(None);
        }
        let gradient = product_tr_right(&self.residual, &self.right);
        let mut order: Vec<(f64, usize)> =
            gradient.column_iter().map(|c| c.norm()).zip(0..).collect();
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
        // Twice: the first pass may leave a gradient that lies nearly in the span only roughly
        // orthogonal to it.
        let basis = thin_qr(thin_qr(both.as_view())?.0.as_view())?.0;
        let svd = thin_svd(product_tr_left(&basis, root).as_view())?;
        let leading = matrix_product(&basis, &svd.u.columns(0, k).into_owned());
        Self::ritz(root, &leading).map(Some)
    }
}

/// log p per observation under variances m along Q and σ² elsewhere, of data with variances b along
/// Q.
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

/// A direction whose loadings are exactly 0 would never be found again; this little above σ² it
/// stays.
pub(crate) const ALIVE: f64 = 1.0 + 1e-9;

/// The PPCA optimum within a span: m = b and σ² the mean of the rest, with directions that are
/// weaker than the noise given to it.
pub(crate) fn likelihood_optimum(
    ritz: &DVector<f64>,
    outside: f64,
    data_dim: usize,
) -> (DVector<f64>, f64) {
    let mut given_up = 0;
    let mut rest = outside;
    loop {
        let noise = rest / (data_dim - ritz.len() + given_up) as f64;
        match ritz.iter().rev().nth(given_up) {
            Some(&weakest) if weakest < noise => {
                rest += weakest;
                given_up += 1;
            }
            _ => return (ritz.map(|b| b.max(noise * ALIVE)), noise),
        }
    }
}

/// What log p per observation gains, at least, over `value`: the best model in the span of W, or in
/// that of W and its gradient.
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
