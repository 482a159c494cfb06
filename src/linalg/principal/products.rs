//! Matrix-free leading eigenpairs, and the contributions of blocks of data to the products and sums
//! that they need.
//!
//! Legend: D a block of centred data x − μ (d×b), S the sum of DDᵗ over the blocks (times 1/n), q_j
//! the columns of an orthonormal Q.

use super::{PcaAlgorithm, Solver};
use crate::Result;
use crate::linalg::{
    check_finite, gemm, leading_eigenpairs_of, matrix_product, orthonormalize, product_tr_left,
    symmetric_eigen,
};
use nalgebra::{DMatrix, DMatrixView, DMatrixViewMut};

/// The leading eigenvectors of S, computed matrix-free.
pub(crate) struct Leading {
    /// The eigenvectors u_j, d×k.
    pub(crate) vectors: DMatrix<f64>,
    /// The algorithm that was used.
    pub(crate) solver: PcaAlgorithm,
    /// max_j ‖S u_j − λ_j u_j‖ / λ_1, for the randomised algorithm only.
    pub(crate) accuracy: Option<f64>,
}

impl Solver {
    /// The k leading eigenvectors of the operator `apply`: by the randomised range finder for
    /// [`Solver::Randomized`], otherwise by block Krylov.
    pub(crate) fn leading_of(
        self,
        dimension: usize,
        k: usize,
        apply: impl FnMut(DMatrixView<'_, f64>, DMatrixViewMut<'_, f64>) -> Result<()>,
    ) -> Result<Leading> {
        match self {
            Self::Randomized { oversampling, power_iterations } => {
                randomized(dimension, k, oversampling, power_iterations, apply)
            }
            _ => {
                let found = leading_eigenpairs_of(dimension, k, apply)?;
                Ok(Leading { vectors: found.vectors, solver: PcaAlgorithm::Krylov, accuracy: None })
            }
        }
    }
}

/// The k leading eigenvectors by the randomised range finder: `power_iterations` + 2 products with
/// k + `oversampling` columns (Halko, Martinsson & Tropp 2011, algorithms 4.4 and 5.3).
fn randomized(
    dimension: usize,
    k: usize,
    oversampling: usize,
    power_iterations: usize,
    mut apply: impl FnMut(DMatrixView<'_, f64>, DMatrixViewMut<'_, f64>) -> Result<()>,
) -> Result<Leading> {
    let width = k.saturating_add(oversampling).min(dimension);
    let mut basis =
        orthonormalize(crate::linalg::eigen::pseudo_random::<f64>(dimension, width).as_view())?;
    let mut product = DMatrix::zeros(dimension, width);
    // Orthonormalise after each product: in powers of S the directions of small eigenvalues would
    // be lost to rounding.
    for _ in 0..=power_iterations {
        apply(basis.as_view(), product.as_view_mut())?;
        basis = orthonormalize(product.as_view())?;
    }
    // One more product for Rayleigh–Ritz in this basis, which gives the residuals as well.
    apply(basis.as_view(), product.as_view_mut())?;
    check_finite(product.as_view())?;
    let inner = product_tr_left(&basis, &product);
    let ritz = symmetric_eigen(((&inner + inner.transpose()) * 0.5).as_view())?;
    let coordinates = ritz.vectors.columns(0, k).into_owned();
    let (vectors, products) =
        (matrix_product(&basis, &coordinates), matrix_product(&product, &coordinates));
    let values = ritz.values.rows(0, k).into_owned();
    let residual = |j: usize| (products.column(j) - vectors.column(j) * values[j]).norm();
    let largest = values.iter().copied().fold(0.0, f64::max);
    let worst = (0..k).map(residual).fold(0.0, f64::max);
    let accuracy = Some(if largest > 0.0 { worst / largest } else { 0.0 });
    Ok(Leading { vectors, solver: PcaAlgorithm::Randomized, accuracy })
}

/// Adds the contribution D(DᵗV) of one block to S·V: out ← out + D(DᵗV).
pub(crate) fn add_product(
    block: &DMatrix<f64>,
    v: DMatrixView<'_, f64>,
    out: &mut DMatrixViewMut<'_, f64>,
) {
    let along = product_tr_left(block, v);
    gemm(1.0, block, &along, 1.0, out);
}

/// The sums of squares captured by some orthonormal directions, Σ (q_jᵗx)² for each j, and the
/// residual sum Σ‖x − QQᵗx‖².
///
/// The residual is a sum of squares as well. As the difference of the total and the captured sums
/// it would lose digits by cancellation where it is small.
pub(crate) struct Captured {
    /// Σ (q_jᵗx)² for each direction.
    pub(crate) values: Vec<f64>,
    /// Σ‖x − QQᵗx‖².
    pub(crate) outside: f64,
}

impl Captured {
    /// Zero sums for that many directions.
    pub(crate) fn new(directions: usize) -> Self {
        Self { values: vec![0.0; directions], outside: 0.0 }
    }

    /// Adds the observations in the columns of `block`.
    pub(crate) fn add(&mut self, mut block: DMatrix<f64>, directions: &DMatrix<f64>) {
        let along = product_tr_left(directions, &block);
        gemm(-1.0, directions, &along, 1.0, &mut block);
        self.outside += block.norm_squared();
        self.values
            .iter_mut()
            .zip(along.row_iter())
            .for_each(|(value, row)| *value += row.norm_squared());
    }
}

/// The number of observations of d variables in a block of a pass over the data.
// Some 2¹⁹ numbers, 4 MiB in double precision; at least 16 columns, so that a block is worth a
// matrix product.
pub(crate) fn block_columns(d: usize) -> usize {
    (1usize << 19).div_ceil(d.max(1)).clamp(16, 8192)
}
