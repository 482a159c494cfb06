//! Parameters (θ, φ) of the joint ascent, the value and gradient of −J at them, and the
//! preconditioner.

use super::AffineScaleHead;
use crate::fit::autoencoder_descent::{FactorPair, solve_gram};
use crate::fit::quasi_newton::Tangent;
use crate::linalg::{
    gemm, matrix_product, product_tr_left, product_tr_right, r_factor, thin_qr, thin_svd,
};
use crate::{Real, Result};
use nalgebra::{DMatrix, DVector};

/// The parameters W, Y = VA, ln σ² and the scale of q (φ without the mean, as its family stores
/// it); also a step in them, or a gradient.
#[derive(Debug, Clone)]
pub(crate) struct JointPoint {
    pub(crate) factors: FactorPair,
    pub(crate) log_noise: f64,
    pub(crate) scale: DVector<f64>,
}

impl Tangent for JointPoint {
    fn dot(&self, other: &Self) -> f64 {
        self.factors.dot(&other.factors)
            + self.log_noise * other.log_noise
            + self.scale.dot(&other.scale)
    }
    fn add_scaled(&mut self, factor: f64, other: &Self) {
        self.factors.add_scaled(factor, &other.factors);
        self.log_noise += factor * other.log_noise;
        self.scale.axpy(factor, &other.scale, 1.0);
    }
    fn scale(&mut self, factor: f64) {
        self.factors.scale(factor);
        self.log_noise *= factor;
        self.scale *= factor;
    }
}

impl JointPoint {
    /// Creates the parameters from two maps without noise: σ² is the mean squared error, and the
    /// scale of q its optimum given σ².
    pub(crate) fn from_factors<T: Real, Q: AffineScaleHead<T>>(
        factors: FactorPair,
        root: &DMatrix<f64>,
        data_dim: usize,
    ) -> Result<Self> {
        let noise = factors.residual(root).norm_squared() / data_dim as f64;
        let k = factors.codes.nrows();
        let scale = DVector::zeros(Q::parameter_count(k) - k);
        Self { factors, log_noise: noise.ln(), scale }.balanced::<T, Q>()
    }

    /// Returns the W, Y and scale that maximise J while WY and σ² stay fixed.
    pub(crate) fn balanced<T: Real, Q: AffineScaleHead<T>>(&self) -> Result<Self> {
        // The SVD of WY = Q(RY) by one of the k×r matrix RY; only singular values and column
        // lengths are free, as J depends on a rotation of z through the family of q alone.
        let (q, r) = thin_qr(self.factors.decoder.as_view())?;
        let svd = thin_svd(matrix_product(&r, &self.factors.codes).as_view())?;
        let precision = (-self.log_noise).exp();
        // A direction without codes would be divided by its length of 0 below. 1e-150 σ has a
        // square that is a number, and no effect on J.
        let least = 1e-150 * (0.5 * self.log_noise).exp();
        let strengths = svd.singular_values.map(|s| s.max(least));
        let (lengths, scale) = Q::balance(&strengths, precision);
        let mut decoder = matrix_product(&q, &svd.u);
        let mut codes = svd.v.transpose();
        for j in 0..lengths.len() {
            decoder.column_mut(j).scale_mut(lengths[j]);
            codes.row_mut(j).scale_mut(strengths[j] / lengths[j]);
        }
        Ok(Self { factors: FactorPair { decoder, codes }, log_noise: self.log_noise, scale })
    }

    /// Returns the largest absolute change of ln σ² and of the log-variances in this step.
    pub(crate) fn largest_log_change(&self) -> f64 {
        let k = self.factors.codes.nrows();
        self.scale.iter().take(k).fold(self.log_noise.abs(), |largest, l| largest.max(l.abs()))
    }
}

/// Value and gradient of −J per observation, and the matrices that the preconditioner reuses.
pub(crate) struct Evaluation {
    pub(crate) value: f64,
    pub(crate) gradient: JointPoint,
    covariance: DMatrix<f64>,
    precision_matrix: DMatrix<f64>, // Λ = WᵗW/σ² + I
    scaled_error: f64,              // (‖E‖² + tr WᵗWΣ)/σ²
}

impl Evaluation {
    /// Evaluates −J = ½[d ln 2πσ² + (‖A−WY‖² + tr WᵗWΣ)/σ²] + ½[‖Y‖² + tr Σ − k − ln|Σ|].
    pub(crate) fn of<T: Real, Q: AffineScaleHead<T>>(
        at: &JointPoint,
        root: &DMatrix<f64>,
        data_dim: usize,
    ) -> Self {
        let (w, y) = (&at.factors.decoder, &at.factors.codes);
        let k = y.nrows();
        let precision = (-at.log_noise).exp();
        let residual = at.factors.residual(root);
        let factor = Q::scale_factor(k, &at.scale);
        let covariance = product_tr_right(&factor, &factor);
        // tr WᵗWΣ as ‖WL‖²: a sum of squares.
        let spread = matrix_product(w, &factor).norm_squared();
        let scaled_error = precision * (residual.norm_squared() + spread);
        let log_determinant = 2.0 * factor.diagonal().iter().map(|l| l.ln()).sum::<f64>();
        let d = data_dim as f64;
        let likelihood = 0.5 * (d * (std::f64::consts::TAU.ln() + at.log_noise) + scaled_error);
        let divergence =
            0.5 * (y.norm_squared() + factor.norm_squared() - k as f64 - log_determinant);

        let mut precision_matrix = product_tr_left(w, w) * precision;
        for j in 0..k {
            precision_matrix[(j, j)] += 1.0;
        }
        // ∂/∂W = (WΣ − EYᵗ)/σ² and ∂/∂Y = Y − WᵗE/σ², with E = A − WY.
        let mut d_decoder = matrix_product(w, &covariance) * precision;
        gemm(
            -precision,
            &residual,
            crate::linalg::Operand::from(y).transposed(),
            1.0,
            &mut d_decoder,
        );
        let mut d_codes = y.clone();
        gemm(
            -precision,
            crate::linalg::Operand::from(w).transposed(),
            &residual,
            1.0,
            &mut d_codes,
        );
        let gradient = JointPoint {
            factors: FactorPair { decoder: d_decoder, codes: d_codes },
            log_noise: 0.5 * (d - scaled_error),
            scale: Q::scale_gradient(&at.scale, &factor, &precision_matrix),
        };
        Self {
            value: likelihood + divergence,
            gradient,
            covariance,
            precision_matrix,
            scaled_error,
        }
    }
}

/// Preconditioner: an initial inverse Hessian from Gauss–Newton blocks and the curvature along z →
/// Tz.
pub(crate) struct Preconditioner {
    at: JointPoint,
    noise: f64,
    of_codes: DMatrix<f64>,   // R with RᵗR = YYᵗ + Σ
    of_decoder: DMatrix<f64>, // R with RᵗR = Λ
    log_noise_curvature: f64,
    factor: DMatrix<f64>,
    precision_matrix: DMatrix<f64>,
    symmetry_curvature: DMatrix<f64>, // k×k, of T_ij
}

impl Preconditioner {
    pub(crate) fn at<T: Real, Q: AffineScaleHead<T>>(
        at: &JointPoint,
        now: &Evaluation,
        data_dim: usize,
    ) -> Result<Self> {
        let (w, y) = (&at.factors.decoder, &at.factors.codes);
        let (k, r) = y.shape();
        let factor = Q::scale_factor(k, &at.scale);
        // R factors by QR of [Yᵗ; Lᵗ] and [W/σ; I]: the k×k matrices YYᵗ + Σ and Λ are never
        // formed, so that their condition numbers are not squared.
        let mut stacked = DMatrix::zeros(r + k, k);
        stacked.rows_mut(0, r).tr_copy_from(y);
        stacked.rows_mut(r, k).tr_copy_from(&factor);
        let of_codes = r_factor(stacked.as_view())?;
        let rows = w.nrows();
        let mut stacked = DMatrix::identity(rows + k, k);
        stacked.rows_mut(0, rows).copy_from(&(w * (-0.5 * at.log_noise).exp()));
        stacked.rows_mut(rows, k).fill_with_identity();
        let of_decoder = r_factor(stacked.as_view())?;
        let code_squares = DVector::from_iterator(k, y.row_iter().map(|row| row.norm_squared()));
        let symmetry_curvature =
            Q::symmetry_curvature(&code_squares, &now.covariance, &now.precision_matrix);
        Ok(Self {
            at: at.clone(),
            noise: at.log_noise.exp(),
            of_codes,
            of_decoder,
            // ∂²(−J)/∂(ln σ²)² = ½(‖E‖² + tr WᵗWΣ)/σ², which tends to d/2 at the optimum; the bound
            // from below keeps steps short where σ² is much too large.
            log_noise_curvature: 0.5 * now.scaled_error.max(data_dim as f64),
            factor,
            precision_matrix: now.precision_matrix.clone(),
            symmetry_curvature,
        })
    }

    /// Returns H g for a gradient g.
    pub(crate) fn apply<T: Real, Q: AffineScaleHead<T>>(
        &self,
        gradient: &JointPoint,
    ) -> JointPoint {
        let (w, y) = (&self.at.factors.decoder, &self.at.factors.codes);
        let mut decoder = solve_gram(&self.of_codes, &gradient.factors.decoder.transpose())
            .transpose()
            * self.noise;
        let mut codes = solve_gram(&self.of_decoder, &gradient.factors.codes);
        let mut scale =
            Q::scale_newton(&gradient.scale, &self.at.scale, &self.factor, &self.precision_matrix);
        // Along the symmetry δW = −WT, δY = TY (with the change of the scale that belongs to it):
        // the gradient by the adjoint, division by the curvature, and back.
        let mut symmetry = product_tr_right(&gradient.factors.codes, y);
        gemm(
            -1.0,
            crate::linalg::Operand::from(w).transposed(),
            &gradient.factors.decoder,
            1.0,
            &mut symmetry,
        );
        symmetry += Q::symmetry_adjoint(&gradient.scale, &self.factor);
        symmetry.component_div_assign(&self.symmetry_curvature);
        gemm(-1.0, w, &symmetry, 1.0, &mut decoder);
        gemm(1.0, &symmetry, y, 1.0, &mut codes);
        scale += Q::symmetry_change(&symmetry, &self.factor);
        JointPoint {
            factors: FactorPair { decoder, codes },
            log_noise: gradient.log_noise / self.log_noise_curvature,
            scale,
        }
    }
}
