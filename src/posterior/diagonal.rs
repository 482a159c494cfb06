//! One variance for each latent dimension of an observation: what practitioners of variational autoencoders expect.

use super::{GaussianPosterior, Posterior, PosteriorFamily, add_mean_kl_gradient, add_to_means, bounded, excess, square_sum};
use crate::linalg::vector::{in_lanes, vectorized};
use crate::{Real, Result};
use nalgebra::{DMatrix, DMatrixView, DVector};

/// q(z_i) = N(μ_i, diag(σ_i1², …, σ_ik²)); φ_i is μ_i and then ln σ_i² (2k rows).
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
    /// σ_ij², k×n.
    pub fn variances(&self) -> DMatrix<T> {
        self.log_variances().map(|l| bounded(l).0.exp())
    }

    fn kl_of_each(&self) -> impl Iterator<Item = T> {
        let of_column = |column: &[T]| {
            let (mean, log_variances) = column.split_at(self.latent_dim);
            vectorized(
                #[inline(always)]
                || T::of(0.5) * (square_sum(mean) + excess(log_variances)),
            )
        };
        self.parameters.as_slice().chunks_exact((2 * self.latent_dim).max(1)).map(of_column)
    }

    /// The log-variances of observation i.
    fn column(&self, i: usize) -> &[T] {
        let k = self.latent_dim;
        &self.parameters.as_slice()[2 * k * i + k..2 * k * (i + 1)]
    }

    fn log_variances(&self) -> DMatrixView<'_, T> {
        self.parameters.rows(self.latent_dim, self.latent_dim)
    }

    /// Adds `change(l, a_j, b_j)` to the derivative of each log-variance l that no bound holds, for the columns a and b that belong to observation i.
    #[inline(always)]
    fn add_to_log_variances<'b>(&self, d: &mut DMatrix<T>, beside: impl Fn(usize) -> (&'b [T], &'b [T]), change: impl Fn(T, T, T) -> T) {
        let k = self.latent_dim;
        let columns = self.parameters.as_slice().chunks_exact((2 * k).max(1));
        vectorized(
            #[inline(always)]
            || {
                for (i, (own, d)) in columns.zip(d.as_mut_slice().chunks_exact_mut((2 * k).max(1))).enumerate() {
                    let (a, b) = beside(i);
                    in_lanes([&own[k..], a, b], &mut d[k..], |[l, a, b], d| {
                        let (log_variance, held) = bounded(l);
                        let change = change(log_variance, a, b);
                        d + if held { T::zero() } else { change }
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
        DVector::from_iterator(self.len(), self.kl_of_each())
    }

    fn kl_to_prior_sum(&self) -> T {
        self.kl_of_each().fold(T::zero(), |sum, kl| sum + kl)
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
                    let (mean, log_variances) = self.parameters.as_slice()[2 * k * i..2 * k * (i + 1)].split_at(k);
                    in_lanes([mean, log_variances, column_of(&noise, i)], z, |[mean, l, noise], _| {
                        mean + (half * bounded(l).0).quick_exp() * noise
                    });
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
        self.add_to_log_variances(d, own, |l, _, _| -scale * half * l.quick_exp_m1());
    }

    fn add_negative_half_trace_gradient(&self, root: DMatrixView<'_, T>, scale: T, d: &mut DMatrix<T>) {
        let squares = column_squares(root);
        let (same, half) = (|_: usize| (squares.as_slice(), squares.as_slice()), T::of(0.5));
        self.add_to_log_variances(d, same, |l, square, _| -scale * half * square * l.quick_exp());
    }

    fn add_transform_gradient(&self, noise: DMatrixView<'_, T>, d_z: DMatrixView<'_, T>, d: &mut DMatrix<T>) {
        add_to_means(d_z, T::one(), d);
        let half = T::of(0.5);
        let beside = |i: usize| (column_of(&noise, i), column_of(&d_z, i));
        self.add_to_log_variances(d, beside, |l, noise, d_z| half * (half * l).quick_exp() * noise * d_z);
    }

    fn nearest(mean: DMatrix<T>, precision_root: DMatrixView<'_, f64>) -> Result<Self> {
        let k = mean.nrows();
        let precisions = column_squares(precision_root);
        let mut parameters = mean.resize_vertically(2 * k, T::zero());
        for j in 0..k {
            parameters.row_mut(k + j).fill(T::of(-precisions[j].ln()));
        }
        Ok(Self { latent_dim: k, parameters })
    }
}

/// The squared norm of each column of R: the diagonal of RᵗR.
fn column_squares<T: Real>(root: DMatrixView<'_, T>) -> DVector<T> {
    DVector::from_iterator(root.ncols(), root.column_iter().map(|column| column.norm_squared()))
}

/// A column of a view.
fn column_of<'a, T: Real>(matrix: &'a DMatrixView<'_, T>, i: usize) -> &'a [T] {
    matrix.column(i).data.into_slice()
}
