//! Gaussian posteriors with a full covariance, parametrised by its Cholesky factor.

use super::{
    GaussianPosterior, Posterior, PosteriorFamily, add_mean_kl_gradient, bounded, excess,
    square_sum,
};
use crate::linalg::r_factor;
use crate::{Error, Real, Result};
use nalgebra::{DMatrix, DMatrixView, DVector};

/// Gaussian posteriors with full covariance, q(z_i) = N(μ_i, L_i L_iᵗ) with L_i lower triangular.
///
/// φ_i is μ_i (k rows), then 2 ln L_jj (k rows), then the entries of L_i below the diagonal, column
/// by column (k(k−1)/2 rows).
///
/// ```
/// use elbo::posterior::{Full, GaussianPosterior, PosteriorFamily};
/// use nalgebra::dmatrix;
/// let q = Full::from_parameters(2, dmatrix![0.0f64; 0.0; 0.0; 0.0; 0.5])?;
/// assert_eq!(q.covariance(0), dmatrix![1.0, 0.5; 0.5, 1.25]);
/// # Ok::<(), elbo::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Full<T: Real> {
    latent_dim: usize,
    parameters: DMatrix<T>,
}

impl<T: Real> Full<T> {
    /// Gaussians with the means and covariances of another posterior (moment matching).
    ///
    /// # Errors
    /// [`Error::NotPositiveDefinite`] when a covariance is not positive definite.
    pub fn from_moments(q: &impl GaussianPosterior<T>) -> Result<Self> {
        let (k, n) = (q.latent_dim(), q.len());
        let mut parameters =
            q.mean().into_owned().resize_vertically(Self::parameter_count(k), T::zero());
        for (i, mut phi) in parameters.column_iter_mut().enumerate().take(n) {
            let cholesky =
                q.covariance(i).cholesky().ok_or(Error::NotPositiveDefinite { size: k })?;
            let factor = cholesky.l_dirty();
            let mut below = 2 * k;
            for j in 0..k {
                phi[k + j] = T::of(2.0) * factor[(j, j)].ln();
                for row in j + 1..k {
                    phi[below] = factor[(row, j)];
                    below += 1;
                }
            }
        }
        Ok(Self { latent_dim: k, parameters })
    }

    /// L_i, the k×k lower Cholesky factor of the covariance for observation `i`.
    pub fn factor(&self, i: usize) -> DMatrix<T> {
        let mut factor = DMatrix::zeros(self.latent_dim, self.latent_dim);
        self.factor_into(i, &mut factor);
        factor
    }

    fn kl_of_each(&self) -> impl Iterator<Item = T> {
        let k = self.latent_dim;
        // tr LLᵗ is Σ L_jj² plus the squares of the entries below the diagonal: these enter the KL
        // like the entries of the mean.
        let of_column = move |column: &[T]| {
            let (log_variances, below) = column[k..].split_at(k);
            T::of(0.5) * (square_sum(&column[..k]) + square_sum(below) + excess(log_variances))
        };
        self.parameters.as_slice().chunks_exact(self.parameters.nrows().max(1)).map(of_column)
    }

    fn factor_into(&self, i: usize, factor: &mut DMatrix<T>) {
        let k = self.latent_dim;
        let column = self.parameters.column(i);
        let mut below = 2 * k;
        for j in 0..k {
            factor[(j, j)] = (T::of(0.5) * bounded(column[k + j]).0).exp();
            for row in j + 1..k {
                factor[(row, j)] = column[below];
                below += 1;
            }
        }
    }

    /// Adds to `d` the derivative by φ_i, from the derivative by L_i (its lower triangle).
    fn add_factor_gradient(
        &self,
        i: usize,
        factor: &DMatrix<T>,
        d_factor: &DMatrix<T>,
        d: &mut DMatrix<T>,
    ) {
        let k = self.latent_dim;
        let mut below = 2 * k;
        for j in 0..k {
            // L_jj = e^{l/2}, so that ∂L_jj/∂l = ½ L_jj; 0 where l is clamped.
            if !bounded(self.parameters[(k + j, i)]).1 {
                d[(k + j, i)] += T::of(0.5) * factor[(j, j)] * d_factor[(j, j)];
            }
            for row in j + 1..k {
                d[(below, i)] += d_factor[(row, j)];
                below += 1;
            }
        }
    }
}

impl<T: Real> Posterior<T> for Full<T> {
    fn mean(&self) -> DMatrixView<'_, T> {
        self.parameters.rows(0, self.latent_dim)
    }
}

impl<T: Real> GaussianPosterior<T> for Full<T> {
    fn kl_to_prior(&self) -> DVector<T> {
        DVector::from_iterator(self.len(), self.kl_of_each())
    }

    fn kl_to_prior_sum(&self) -> T {
        self.kl_of_each().fold(T::zero(), |sum, kl| sum + kl)
    }

    fn covariance(&self, i: usize) -> DMatrix<T> {
        let factor = self.factor(i);
        &factor * factor.transpose()
    }

    fn trace_with(&self, root: DMatrixView<'_, f64>) -> DVector<T> {
        let mut factor = DMatrix::zeros(self.latent_dim, self.latent_dim);
        // R L_i is formed in double precision: its entries can be small differences of large
        // products.
        let mut wide = DMatrix::zeros(self.latent_dim, self.latent_dim);
        DVector::from_iterator(
            self.len(),
            (0..self.len()).map(|i| {
                self.factor_into(i, &mut factor);
                wide.zip_apply(&factor, |to: &mut f64, from: T| *to = from.as_f64());
                T::of((root * &wide).norm_squared())
            }),
        )
    }

    fn covariance_sum(&self) -> DMatrix<T> {
        let mut sum = DMatrix::zeros(self.latent_dim, self.latent_dim);
        let mut factor = sum.clone();
        for i in 0..self.len() {
            self.factor_into(i, &mut factor);
            sum.gemm(T::one(), &factor, &factor.transpose(), T::one());
        }
        sum
    }

    fn transform(&self, noise: DMatrixView<'_, T>, z: &mut DMatrix<T>) {
        z.copy_from(&self.mean());
        let k = self.latent_dim;
        for ((mut z, noise), phi) in
            z.column_iter_mut().zip(noise.column_iter()).zip(self.parameters.column_iter())
        {
            let mut below = 2 * k;
            for j in 0..k {
                // z = m + Lε column by column of L, read from φ in place: the factor is not formed.
                z[j] += (T::of(0.5) * bounded(phi[k + j]).0).exp() * noise[j];
                for row in j + 1..k {
                    z[row] += phi[below] * noise[j];
                    below += 1;
                }
            }
        }
    }
}

impl<T: Real> PosteriorFamily<T> for Full<T> {
    fn parameter_count(latent_dim: usize) -> usize {
        latent_dim.saturating_mul(latent_dim.saturating_add(3)) / 2 // 2k + k(k−1)/2
    }

    phi_accessors!();

    fn add_negative_kl_gradient(&self, scale: T, d: &mut DMatrix<T>) {
        add_mean_kl_gradient(self.mean(), scale, d);
        let k = self.latent_dim;
        for (mut d, column) in d.column_iter_mut().zip(self.parameters.column_iter()) {
            for j in k..2 * k {
                let (l, held) = bounded(column[j]);
                if !held {
                    d[j] -= scale * T::of(0.5) * l.quick_exp_m1();
                }
            }
            // ½ of the squared entries below the diagonal, as for the mean.
            for j in 2 * k..column.len() {
                d[j] -= scale * column[j];
            }
        }
    }

    fn add_negative_half_trace_gradient(
        &self,
        root: DMatrixView<'_, T>,
        scale: T,
        d: &mut DMatrix<T>,
    ) {
        let mut factor = DMatrix::zeros(self.latent_dim, self.latent_dim);
        let mut d_factor = factor.clone();
        for i in 0..self.len() {
            self.factor_into(i, &mut factor);
            // ∂/∂L of ½‖RL‖² is RᵗRL, computed as Rᵗ(RL) without forming RᵗR.
            d_factor.gemm_tr(-scale, &root, &(root * &factor), T::zero());
            self.add_factor_gradient(i, &factor, &d_factor, d);
        }
    }

    fn add_transform_gradient(
        &self,
        noise: DMatrixView<'_, T>,
        d_z: DMatrixView<'_, T>,
        d: &mut DMatrix<T>,
    ) {
        let (k, half) = (self.latent_dim, T::of(0.5));
        for (i, (noise, d_z)) in noise.column_iter().zip(d_z.column_iter()).enumerate() {
            let (mut d, phi) = (d.column_mut(i), self.parameters.column(i));
            let mut below = 2 * k;
            for j in 0..k {
                d[j] += d_z[j];
                let (l, held) = bounded(phi[k + j]);
                if !held {
                    d[k + j] += half * (half * l).exp() * d_z[j] * noise[j];
                }
                for row in j + 1..k {
                    d[below] += d_z[row] * noise[j];
                    below += 1;
                }
            }
        }
    }

    /// An entry of row j of L scales with the standard deviation of dimension j, like the mean.
    fn parameter_scales(&self) -> DMatrix<T> {
        let k = self.latent_dim;
        let mut scales = DMatrix::from_element(self.parameters.nrows(), self.len(), T::one());
        for (i, mut scales) in scales.column_iter_mut().enumerate() {
            let deviations = self.covariance(i).diagonal().map(|v| v.sqrt());
            scales.rows_mut(0, k).copy_from(&deviations);
            let mut below = 2 * k;
            for j in 0..k {
                for row in j + 1..k {
                    scales[below] = deviations[row];
                    below += 1;
                }
            }
        }
        scales
    }

    fn nearest(mean: DMatrix<T>, precision_root: DMatrixView<'_, f64>) -> Result<Self> {
        let (k, n) = mean.shape();
        // The covariance is (RᵗR)⁻¹. A QR decomposition of R gives RᵗR = TᵗT with T upper
        // triangular, and (RᵗR)⁻¹ = T⁻¹T⁻ᵗ with the *upper* factor T⁻¹. With the columns of R in
        // reverse order before, and rows and columns of T⁻¹ reversed after, the factor is lower
        // triangular.
        let backwards =
            DMatrix::from_fn(precision_root.nrows(), k, |i, j| precision_root[(i, k - 1 - j)]);
        let triangular = r_factor(backwards.as_view())?;
        let mut inverse = DMatrix::identity(k, k);
        if !triangular.solve_upper_triangular_mut(&mut inverse) {
            return Err(Error::NotPositiveDefinite { size: k });
        }
        // QR determines the signs of T's rows only up to ±1. The Cholesky factor has a positive
        // diagonal, whose logarithm is a parameter.
        let sign = |j: usize| {
            if inverse[(j, j)] < 0.0 { -1.0 } else { 1.0 }
        };
        let factor =
            DMatrix::from_fn(k, k, |i, j| sign(k - 1 - j) * inverse[(k - 1 - i, k - 1 - j)]);
        let mut scale = Vec::with_capacity(Self::parameter_count(k) - k);
        scale.extend((0..k).map(|j| T::of(2.0 * factor[(j, j)].ln())));
        scale.extend(
            (0..k)
                .flat_map(|j| (j + 1..k).map(move |row| (row, j)))
                .map(|place| T::of(factor[place])),
        );
        let mut parameters = mean.resize_vertically(Self::parameter_count(k), T::zero());
        for i in 0..n {
            parameters.column_mut(i).rows_mut(k, scale.len()).copy_from_slice(&scale);
        }
        Ok(Self { latent_dim: k, parameters })
    }
}
