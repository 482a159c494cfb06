//! Gaussian posteriors with a diagonal covariance, the usual choice of variational autoencoders.

use super::{
    GaussianPosterior, Posterior, PosteriorFamily, add_mean_kl_gradient, add_to_means, bounded,
};
use crate::linalg::vector::{LANES, in_lanes, total, vectorized};
use crate::{Real, Result};
use nalgebra::{DMatrix, DMatrixView, DVector};
use std::ops::Range;

/// Gaussian posteriors with diagonal covariance, q(z_i) = N(μ_i, diag(σ_i1², …, σ_ik²)). φ_i (2k
/// rows) is μ_i followed by the ln σ_ij².
///
/// ```
/// use elbo::posterior::{Diagonal, GaussianPosterior, PosteriorFamily};
/// use nalgebra::dmatrix;
/// let q = Diagonal::from_parameters(1, dmatrix![2.0f64; 0.0])?;
/// assert_eq!(q.kl_to_prior()[0], 2.0); // ½‖μ‖²
/// # Ok::<(), elbo::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Diagonal<T: Real> {
    latent_dim: usize,
    parameters: DMatrix<T>,
}

impl<T: Real> Diagonal<T> {
    /// The variances σ_ij², k×n.
    pub fn variances(&self) -> DMatrix<T> {
        self.log_variances().map(|l| bounded(l).0.exp())
    }

    /// Adds 2 KL of the observations `columns` to partial sums, one per SIMD lane. The sum over all
    /// observations is bit-identical to the value of
    /// [`bound_gradient`](PosteriorFamily::bound_gradient).
    fn add_kl(&self, columns: Range<usize>, sums: &mut [T; LANES]) {
        let rows = 2 * self.latent_dim;
        // `chunks_exact` does not accept 0, the size of a column where k is 0.
        let columns = self.parameters.as_slice()[rows * columns.start..rows * columns.end]
            .chunks_exact(rows.max(1));
        vectorized(
            #[inline(always)]
            || {
                for column in columns {
                    let (mean, log_variances) = column.split_at(self.latent_dim);
                    in_lanes([mean, log_variances], [], |[mean, l], []| {
                        // A sum for each lane, added up once at the end: the additions of one
                        // observation then do not wait for each other. A padded lane has mean and
                        // log-variance 0, and adds 0.
                        for i in 0..LANES {
                            sums[i] += twice_kl(mean[i], l[i]).0;
                        }
                        []
                    });
                }
            },
        );
    }

    /// The log-variances of observation i.
    fn column(&self, i: usize) -> &[T] {
        let k = self.latent_dim;
        &self.parameters.as_slice()[2 * k * i + k..2 * k * (i + 1)]
    }

    fn log_variances(&self) -> DMatrixView<'_, T> {
        self.parameters.rows(self.latent_dim, self.latent_dim)
    }

    /// Adds `change(l, a_j, b_j)` to the derivative of each log-variance l that is not clamped,
    /// where (a, b) = `beside(i)` are the columns that belong to observation i.
    #[inline(always)]
    fn add_to_log_variances<'b>(
        &self,
        d: &mut DMatrix<T>,
        beside: impl Fn(usize) -> (&'b [T], &'b [T]),
        change: impl Fn(T, T, T) -> T,
    ) {
        let k = self.latent_dim;
        let columns = self.parameters.as_slice().chunks_exact((2 * k).max(1));
        vectorized(
            #[inline(always)]
            || {
                for (i, (own, d)) in
                    columns.zip(d.as_mut_slice().chunks_exact_mut((2 * k).max(1))).enumerate()
                {
                    let (a, b) = beside(i);
                    // Eight log-variances at a time, padded with zeros where k is smaller. With
                    // that, a training step of the digits' VAE (64-32-8) took 0.74 of the time that
                    // it took one by one (docs/performance.md).
                    in_lanes([&own[k..], a, b], [&mut d[k..]], |[l, a, b], [mut d]| {
                        for i in 0..LANES {
                            // A clamped log-variance does not move the distribution: its derivative
                            // is 0.
                            let (log_variance, held) = bounded(l[i]);
                            let change = change(log_variance, a[i], b[i]);
                            d[i] += if held { T::zero() } else { change };
                        }
                        [d]
                    });
                }
            },
        );
    }
}

impl<T: Real> Posterior<T> for Diagonal<T> {
    fn mean(&self) -> DMatrixView<'_, T> {
        self.parameters.rows(0, self.latent_dim)
    }
}

impl<T: Real> GaussianPosterior<T> for Diagonal<T> {
    fn kl_to_prior(&self) -> DVector<T> {
        DVector::from_fn(self.len(), |i, _| {
            let mut sums = [T::zero(); LANES];
            self.add_kl(i..i + 1, &mut sums);
            T::of(0.5) * total(sums)
        })
    }

    // The sum needs no vector of n values, and its lanes are added up once instead of once per
    // observation.
    fn kl_to_prior_sum(&self) -> T {
        let mut sums = [T::zero(); LANES];
        self.add_kl(0..self.len(), &mut sums);
        T::of(0.5) * total(sums)
    }

    fn covariance(&self, i: usize) -> DMatrix<T> {
        DMatrix::from_diagonal(&self.log_variances().column(i).map(|l| bounded(l).0.exp()))
    }

    fn trace_with(&self, root: DMatrixView<'_, f64>) -> DVector<T> {
        self.variances().tr_mul(&column_squares(root).map(T::of))
    }

    fn covariance_sum(&self) -> DMatrix<T> {
        DMatrix::from_diagonal(&self.variances().column_sum())
    }

    fn transform(&self, noise: DMatrixView<'_, T>, z: &mut DMatrix<T>) {
        let (k, half) = (self.latent_dim, T::of(0.5));
        vectorized(
            #[inline(always)]
            || {
                for (i, z) in z.as_mut_slice().chunks_exact_mut(k.max(1)).enumerate() {
                    let (mean, log_variances) =
                        self.parameters.as_slice()[2 * k * i..2 * k * (i + 1)].split_at(k);
                    in_lanes(
                        [mean, log_variances, column_of(&noise, i)],
                        [z],
                        |[mean, l, noise], [mut z]| {
                            for i in 0..LANES {
                                z[i] = mean[i]
                                    // The bound keeps |l/2| within the range of this faster
                                    // exponential.
                                    + (half * bounded(l[i]).0).exp_and_exp_m1_bounded().0 * noise[i];
                            }
                            [z]
                        },
                    );
                }
            },
        );
    }
}

impl<T: Real> PosteriorFamily<T> for Diagonal<T> {
    fn parameter_count(latent_dim: usize) -> usize {
        latent_dim.saturating_mul(2)
    }

    phi_accessors!();

    fn add_negative_kl_gradient(&self, scale: T, d: &mut DMatrix<T>) {
        add_mean_kl_gradient(self.mean(), scale, d);
        let own = |i: usize| (self.column(i), self.column(i));
        let half = T::of(0.5);
        // KL = ½ Σ_j (e^l − 1 − l + μ²), so that ∂KL/∂l = ½(e^l − 1). Both arguments beside l are
        // unused.
        self.add_to_log_variances(d, own, |l, _, _| -scale * half * l.quick_exp_m1());
    }

    fn add_negative_half_trace_gradient(
        &self,
        root: DMatrixView<'_, T>,
        scale: T,
        d: &mut DMatrix<T>,
    ) {
        let squares = column_squares(root);
        // tr(RᵗR Σ) = Σ_j ‖r_j‖² e^{l_j}: the squared column norms serve all observations.
        let (same, half) = (|_: usize| (squares.as_slice(), squares.as_slice()), T::of(0.5));
        self.add_to_log_variances(d, same, |l, square, _| -scale * half * square * l.quick_exp());
    }

    fn add_transform_gradient(
        &self,
        noise: DMatrixView<'_, T>,
        d_z: DMatrixView<'_, T>,
        d: &mut DMatrix<T>,
    ) {
        add_to_means(d_z, T::one(), d);
        let half = T::of(0.5);
        let beside = |i: usize| (column_of(&noise, i), column_of(&d_z, i));
        // z = μ + e^{l/2} ε, so that ∂z/∂l = ½ e^{l/2} ε.
        self.add_to_log_variances(d, beside, |l, noise, d_z| {
            half * (half * l).exp_and_exp_m1_bounded().0 * noise * d_z
        });
    }

    fn bound_gradient(
        &self,
        noise: DMatrixView<'_, T>,
        d_z: DMatrixView<'_, T>,
        scale: T,
        d: &mut DMatrix<T>,
    ) -> T {
        let (k, half) = (self.latent_dim, T::of(0.5));
        let columns = self.parameters.as_slice().chunks_exact((2 * k).max(1));
        vectorized(
            #[inline(always)]
            || {
                // One pass for the KL, its derivatives and those of the sample, with one
                // exponential in place of three: 1.6 of the 17.2 µs that a step of the VAE 64-32-8
                // took (docs/performance.md).
                let mut sums = [T::zero(); LANES];
                for (i, (own, d)) in
                    columns.zip(d.as_mut_slice().chunks_exact_mut((2 * k).max(1))).enumerate()
                {
                    let ((mean, log_variances), (d_mean, d_log_variances)) =
                        (own.split_at(k), d.split_at_mut(k));
                    let inputs = [mean, log_variances, column_of(&noise, i), column_of(&d_z, i)];
                    in_lanes(
                        inputs,
                        [d_mean, d_log_variances],
                        |[mean, l, noise, d_z], [mut d_mean, mut d]| {
                            for i in 0..LANES {
                                let (kl, deviation, variance_less_1, held) =
                                    twice_kl(mean[i], l[i]);
                                sums[i] += kl;
                                let change = half
                                    * (deviation * noise[i] * d_z[i] - scale * variance_less_1);
                                d_mean[i] = d_z[i] - scale * mean[i];
                                d[i] = if held { T::zero() } else { change };
                            }
                            [d_mean, d]
                        },
                    );
                }
                half * total(sums)
            },
        )
    }

    fn nearest(mean: DMatrix<T>, precision_root: DMatrixView<'_, f64>) -> Result<Self> {
        let k = mean.nrows();
        // KL(q‖p) = ½(Σ_j Λ_jj σ_j² − Σ_j ln σ_j²) + const. has its minimum at σ_j² = 1/Λ_jj.
        let precisions = column_squares(precision_root);
        let mut parameters = mean.resize_vertically(2 * k, T::zero());
        for j in 0..k {
            parameters.row_mut(k + j).fill(T::of(-precisions[j].ln()));
        }
        Ok(Self { latent_dim: k, parameters })
    }
}

/// Returns 2 KL of one latent dimension, σ, σ² − 1, and whether the log-variance l is clamped.
///
/// One exponential gives σ and σ² − 1 = (σ − 1)(σ + 1). The product is accurate for σ near 1 too,
/// where σ² − 1 would cancel.
#[inline(always)]
fn twice_kl<T: Real>(mean: T, l: T) -> (T, T, T, bool) {
    let (log_variance, held) = bounded(l);
    let (deviation, less_1) = (T::of(0.5) * log_variance).exp_and_exp_m1_bounded();
    let variance_less_1 = less_1 * (less_1 + T::of(2.0));
    (mean * mean + (variance_less_1 - log_variance), deviation, variance_less_1, held)
}

/// The squared norm of each column of R, which is the diagonal of RᵗR.
fn column_squares<T: Real>(root: DMatrixView<'_, T>) -> DVector<T> {
    DVector::from_iterator(root.ncols(), root.column_iter().map(|column| column.norm_squared()))
}

/// Column `i` of a view as a slice.
fn column_of<'a, T: Real>(matrix: &'a DMatrixView<'_, T>, i: usize) -> &'a [T] {
    matrix.column(i).data.into_slice()
}
