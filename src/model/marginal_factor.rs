//! The marginal covariance of a linear-Gaussian model in its eigenbasis.

use crate::linalg::vector::vectorized;
use crate::linalg::{gemm, matrix_product, product_tr_right, squared_norms, thin_svd};
use crate::{Real, Result};
use nalgebra::{DMatrix, DMatrixView, DVector};

/// The eigendecomposition of C = WWᵗ + σ²I from the singular value decomposition W = Q diag(s) Vᵗ,
/// in the scales of the noise. Q has the precision of the products with data that it enters; the
/// k-vectors and k×k matrices are in double precision.
pub(crate) struct MarginalFactor<T: Real> {
    // Q, d×k.
    pub(crate) directions: DMatrix<T>,
    // s, k.
    pub(crate) singular_values: DVector<f64>,
    // V, k×k.
    pub(crate) rotation: DMatrix<f64>,
    // σ².
    noise_variance: f64,
}

impl MarginalFactor<f64> {
    /// From W (d×k) and σ², in the scales of the noise.
    pub(crate) fn new(loadings: DMatrixView<'_, f64>, noise_variance: f64) -> Result<Self> {
        let svd = thin_svd(loadings)?;
        Ok(Self {
            directions: svd.u,
            singular_values: svd.singular_values,
            rotation: svd.v,
            noise_variance,
        })
    }

    /// Rounds Q to `T`; the other numbers stay in double precision.
    pub(crate) fn narrow<T: Real>(self) -> MarginalFactor<T> {
        let Self { directions, singular_values, rotation, noise_variance } = self;
        MarginalFactor {
            directions: directions.map(T::of),
            singular_values,
            rotation,
            noise_variance,
        }
    }

    /// log N(x; μ, C) from the projections Qᵗ(x−μ), k×n, and ‖x−μ‖² − ‖Qᵗ(x−μ)‖² of each column.
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

    /// The posterior means E(z|x) from the projections Qᵗ(x−μ), k×n.
    pub(crate) fn codes_of(&self, mut projections: DMatrix<f64>) -> DMatrix<f64> {
        // M⁻¹Wᵗ = V diag(s/(s²+σ²)) Qᵗ with M = WᵗW + σ²I: each coordinate shrinks by itself.
        let shrinkage = self.singular_values.zip_map(&self.variances(), |s, v| s / v);
        projections
            .column_iter_mut()
            .for_each(|mut column| column.component_mul_assign(&shrinkage));
        matrix_product(&self.rotation, &projections)
    }

    /// The k×d matrix V diag(s/(s²+σ²)) Qᵗ that maps x − μ to E(z|x).
    pub(crate) fn posterior_map(&self) -> DMatrix<f64> {
        let mut scaled = self.directions.clone();
        for ((mut column, s), v) in
            scaled.column_iter_mut().zip(self.singular_values.iter()).zip(self.variances().iter())
        {
            column *= *s / *v;
        }
        product_tr_right(&self.rotation, &scaled)
    }

    /// A factor L = V diag(σ/√(s²+σ²)) of the posterior covariance LLᵗ, and ln|LLᵗ|. With more
    /// latent dimensions than variables the covariance is I in the others: L is then the symmetric
    /// I + V(diag(σ/√(s²+σ²)) − I)Vᵗ.
    pub(crate) fn posterior_factor(&self) -> (DMatrix<f64>, f64) {
        let ratios = self.variances().map(|v| self.noise_variance / v);
        let mut factor = self.rotation.clone();
        for (mut column, ratio) in factor.column_iter_mut().zip(ratios.iter()) {
            column *= ratio.sqrt();
        }
        let log_determinant = ratios.iter().map(|r| r.ln()).sum();
        let (k, rank) = factor.shape();
        if k > rank {
            let change = factor - &self.rotation;
            let symmetric = product_tr_right(&change, &self.rotation);
            return (symmetric + DMatrix::identity(k, k), log_determinant);
        }
        (factor, log_determinant)
    }
}

impl<T: Real> MarginalFactor<T> {
    /// The largest ‖x−μ‖², as a multiple of σ²d, for which the difference ‖x−μ‖² − ‖Qᵗ(x−μ)‖² is
    /// accurate enough.
    pub(crate) fn cancellation() -> f64 {
        if T::EPSILON.as_f64() > f64::EPSILON { 128.0 } else { 1000.0 }
    }

    /// The eigenvalues s_j² + σ² of C along Q.
    pub(crate) fn variances(&self) -> DVector<f64> {
        self.singular_values.map(|s| s * s + self.noise_variance)
    }

    /// The log-determinant ln|C|.
    pub(crate) fn log_determinant(&self) -> f64 {
        // σ² is the eigenvalue of the d − k directions orthogonal to Q.
        let outside = self.directions.nrows() - self.singular_values.len();
        self.variances()
            .iter()
            .fold(outside as f64 * self.noise_variance.ln(), |sum, v| sum + v.ln())
    }

    /// The squared Mahalanobis distances (x−μ)ᵗC⁻¹(x−μ) of the columns of the centred data
    /// `deviations`. `across` is Qᵗ, so that many blocks share one transposition.
    pub(crate) fn squared_distances(
        &self,
        across: &DMatrix<T>,
        deviations: &DMatrix<T>,
    ) -> Vec<f64> {
        let projections = matrix_product(across, deviations);
        self.distances_of(&projections, self.outside(deviations, &projections))
    }

    /// The squared norm of the component orthogonal to Q, ‖x−μ‖² − ‖Qᵗ(x−μ)‖², of each column.
    fn outside(&self, deviations: &DMatrix<T>, projections: &DMatrix<T>) -> Vec<f64> {
        let squares = squared_norms(deviations);
        let largest = squares.iter().fold(0.0f64, |a, &b| a.max(b));
        // The difference of two squared norms costs no further product. Where ‖x − μ‖² is large
        // beside σ²d its rounding is visible: then the residual itself is formed, whose square
        // cannot cancel.
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

    /// Σ_j p_j²/(s_j²+σ²) + outside/σ² of each column p of the projections.
    fn distances_of(&self, projections: &DMatrix<T>, outside: Vec<f64>) -> Vec<f64> {
        let precisions = self.variances().map(|v| 1.0 / v);
        // Four partial sums, so that the additions of one observation do not wait for each other.
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
