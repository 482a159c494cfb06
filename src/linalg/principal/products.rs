//! Leading pairs of an operator that is known by its products, and what a pass over blocks of data
//! adds to one.
//!
//! Legend: D a block of deviations x − μ (d×b), S the sum of DDᵗ over the blocks (times 1/n), Q
//! orthonormal columns.

use super::{PcaAlgorithm, Solver};
use crate::Result;
use crate::linalg::{
    check_finite, gemm, leading_eigenpairs_of, matrix_product, orthonormalize, product_tr_left,
    symmetric_eigen,
};
use nalgebra::{DMatrix, DMatrixView, DMatrixViewMut};

/// What products alone found: the leading pairs of S.
pub(crate) struct Leading {
    pub(crate) vectors: DMatrix<f64>,
    pub(crate) solver: PcaAlgorithm,
    /// max_j ‖S u_j − λ_j u_j‖ / λ_1, where it was measured.
    pub(crate) accuracy: Option<f64>,
}

impl Solver {
    /// The leading k pairs of an operator known by its products, by the randomised way if that is
    /// asked for, else by block Krylov.
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
    for _ in 0..=power_iterations {
        apply(basis.as_view(), product.as_view_mut())?;
        basis = orthonormalize(product.as_view())?;
    }
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

/// out ← out + D(DᵗV).
pub(crate) fn add_product(
    block: &DMatrix<f64>,
    v: DMatrixView<'_, f64>,
    out: &mut DMatrixViewMut<'_, f64>,
) {
    let along = product_tr_left(block, v);
    gemm(1.0, block, &along, 1.0, out);
}

/// Σ (q_jᵗ x)² along each of some directions, and what is left of Σ‖x‖² outside of them: sums of
/// squares, from which nothing cancels.
pub(crate) struct Captured {
    pub(crate) values: Vec<f64>,
    pub(crate) outside: f64,
}

impl Captured {
    pub(crate) fn new(directions: usize) -> Self {
        Self { values: vec![0.0; directions], outside: 0.0 }
    }

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

/// Columns of a block of d variables that the ways above read at a time.
pub(crate) fn block_of(d: usize) -> usize {
    (1usize << 19).div_ceil(d.max(1)).clamp(16, 8192)
}
