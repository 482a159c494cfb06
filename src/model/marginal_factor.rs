//! The spectrum of the marginal covariance of a linear-Gaussian model.

use crate::linalg::vector::vectorized;
use crate::linalg::{gemm, matrix_product, product_tr_right, squared_norms, thin_svd};
use crate::{Real, Result};
use nalgebra::{DMatrix, DMatrixView, DVector};

/// W = Q diag(s) Vᵗ beside σ²: the spectrum of C = WWᵗ + σ²I, in the scales of the noise. Q is as
/// precise as the products that it enters; the rest is small.
pub(crate) struct MarginalFactor<T: Real> {
    pub(crate) directions: DMatrix<T>,        // Q, d×k
    pub(crate) singular_values: DVector<f64>, // s
    pub(crate) rotation: DMatrix<f64>,        // V, k×k
    noise_variance: f64,                      // σ²
}

impl MarginalFactor<f64> {
    pub(crate) fn new(loadings: DMatrixView<'_, f64>, noise_variance: f64) -> Result<Self> {
        let svd = thin_svd(loadings)?;
        Ok(Self {
            directions: svd.u,
            singular_values: svd.singular_values,
            rotation: svd.v,
            noise_variance,
        })
    }

    /// The same with Q rounded.
    pub(crate) fn narrow<T: Real>(self) -> MarginalFactor<T> {
        let Self { directions, singular_values, rotation, noise_variance } = self;
        MarginalFactor {
            directions: directions.map(T::of),
            singular_values,
            rotation,
            noise_variance,
        }
    }

    /// log N(x; μ, C) from Qᵗ(x−μ), k×n, and ‖x−μ‖² − ‖Qᵗ(x−μ)‖² of each.
    pub(crate) fn log_density_of(
        &self,
        projections: &DMatrix<f64>,
        outside: Vec<f64>,
    ) -> DVector<f64> {
        let constant =
            self.directions.nrows() as f64 * std::f64::consts::TAU.ln() + self.log_determinant();
        DVector::from_vec(self.distances_of(projections, outside))
            .map(|distance| -0.5 * (constant + distance))
    }

    /// E(z|x) from Qᵗ(x−μ), k×n.
    pub(crate) fn codes_of(&self, mut projections: DMatrix<f64>) -> DMatrix<f64> {
        let shrinkage = self.singular_values.zip_map(&self.variances(), |s, v| s / v);
        projections
            .column_iter_mut()
            .for_each(|mut column| column.component_mul_assign(&shrinkage));
        matrix_product(&self.rotation, &projections)
    }

    /// V diag(s/(s²+σ²)) Qᵗ (k×d), which makes E(z|x) of x − μ.
    pub(crate) fn posterior_map(&self) -> DMatrix<f64> {
        let mut scaled = self.directions.clone();
        for ((mut column, s), v) in
            scaled.column_iter_mut().zip(self.singular_values.iter()).zip(self.variances().iter())
        {
            column *= *s / *v;
        }
        product_tr_right(&self.rotation, &scaled)
    }

    /// A factor L of the posterior covariance and ln|LLᵗ|: V diag(σ/√(s²+σ²)).
    pub(crate) fn posterior_factor(&self) -> (DMatrix<f64>, f64) {
        let ratios = self.variances().map(|v| self.noise_variance / v);
        let mut factor = self.rotation.clone();
        for (mut column, ratio) in factor.column_iter_mut().zip(ratios.iter()) {
            column *= ratio.sqrt();
        }
        (factor, ratios.iter().map(|r| r.ln()).sum())
    }
}

impl<T: Real> MarginalFactor<T> {
    /// How many times σ²d the square of x − μ may be for ‖x−μ‖² − ‖Qᵗ(x−μ)‖² to be exact enough.
    pub(crate) fn cancellation() -> f64 {
        if T::EPSILON.as_f64() > f64::EPSILON { 128.0 } else { 1000.0 }
    }

    /// s_j² + σ²: the eigenvalues of C along Q.
    pub(crate) fn variances(&self) -> DVector<f64> {
        self.singular_values.map(|s| s * s + self.noise_variance)
    }

    /// ln|C|.
    pub(crate) fn log_determinant(&self) -> f64 {
        let outside = self.directions.nrows() - self.singular_values.len();
        self.variances()
            .iter()
            .fold(outside as f64 * self.noise_variance.ln(), |sum, v| sum + v.ln())
    }

    /// (x−μ)ᵗC⁻¹(x−μ), one entry a column of the deviations x − μ; `across` is Qᵗ, which for many
    /// blocks is turned once.
    pub(crate) fn squared_distances(
        &self,
        across: &DMatrix<T>,
        deviations: &DMatrix<T>,
    ) -> Vec<f64> {
        let projections = matrix_product(across, deviations);
        self.distances_of(&projections, self.outside(deviations, &projections))
    }

    /// ‖x−μ‖² − ‖Qᵗ(x−μ)‖² of each column.
    fn outside(&self, deviations: &DMatrix<T>, projections: &DMatrix<T>) -> Vec<f64> {
        let squares = squared_norms(deviations);
        let largest = squares.iter().fold(0.0f64, |a, &b| a.max(b));
        // Where ‖x‖² dwarfs σ²d, the rounding of the difference is seen: the residual itself is
        // formed.
        if largest <= Self::cancellation() * deviations.nrows() as f64 * self.noise_variance {
            squares
                .iter()
                .zip(squared_norms(projections))
                .map(|(square, along)| (square - along).max(0.0))
                .collect()
        } else {
            let mut residuals = deviations.clone();
            gemm(-T::one(), &self.directions, projections, T::one(), &mut residuals);
            squared_norms(&residuals)
        }
    }

    fn distances_of(&self, projections: &DMatrix<T>, outside: Vec<f64>) -> Vec<f64> {
        let precisions = self.variances().map(|v| 1.0 / v);
        let (weights, last_weights) = precisions.as_slice().as_chunks::<4>();
        let mut distances = outside;
        vectorized(
            #[inline(always)]
            || {
                for (distance, p) in distances
                    .iter_mut()
                    .zip(projections.as_slice().chunks_exact(precisions.len().max(1)))
                {
                    let (whole, rest) = p.as_chunks::<4>();
                    let mut sums = [0.0; 4];
                    for (p, weight) in whole.iter().zip(weights) {
                        for l in 0..4 {
                            sums[l] += p[l].as_f64() * p[l].as_f64() * weight[l];
                        }
                    }
                    for ((sum, p), weight) in sums.iter_mut().zip(rest).zip(last_weights) {
                        *sum += p.as_f64() * p.as_f64() * weight;
                    }
                    *distance = *distance / self.noise_variance + sums.iter().sum::<f64>();
                }
            },
        );
        distances
    }
}
