//! The likelihood of factor analysis, maximised over W in closed form, as a function of ln Ψ.

use crate::Result;
use crate::linalg::{
    cholesky_lower, gemm, leading_eigenpairs, matrix_product, product_tr_left, product_tr_right,
    solve_cholesky,
};
use nalgebra::{DMatrix, DVector};

/// The profile likelihood, its gradient and what the approximate Hessian needs, at one ln ψ.
pub(super) struct Profile {
    pub(super) log_variances: DVector<f64>,
    pub(super) directions: DMatrix<f64>, // Q, of the eigenvalues above 1
    pub(super) variances: DVector<f64>,  // these eigenvalues
    pub(super) residual: DMatrix<f64>,   // E
    pub(super) value: f64,               // −2 max_W J, without d ln 2π
    pub(super) gradient: DVector<f64>,
}

impl Profile {
    /// J per observation.
    pub(super) fn objective(&self) -> f64 {
        let dims = self.log_variances.len() as f64;
        -0.5 * (dims * std::f64::consts::TAU.ln() + self.value)
    }

    /// The rounding error of the value: a rise within it is not a rise.
    pub(super) fn rounding(&self) -> f64 {
        4.0 * f64::EPSILON * (self.value.abs() + self.log_variances.len() as f64)
    }
}

/// The data of the profile likelihood: a square-root factor of the correlation matrix, and the
/// matrix itself.
pub(super) struct Correlations<'a> {
    pub(super) root: &'a DMatrix<f64>,
    /// `None` if there are fewer observations than variables: the smaller Gram matrix is decomposed
    /// in that case.
    pub(super) matrix: Option<DMatrix<f64>>,
    pub(super) latent_dim: usize,
}

impl<'a> Correlations<'a> {
    pub(super) fn new(root: &'a DMatrix<f64>, latent_dim: usize) -> Self {
        let matrix = (root.nrows() <= root.ncols()).then(|| product_tr_right(root, root));
        Self { root, matrix, latent_dim }
    }

    /// Returns an orthonormal basis of the span of the `count` leading eigenvectors of
    /// Ψ^−½ S Ψ^−½, in decreasing order of their eigenvalues.
    pub(super) fn leading(
        &self,
        scales: &DVector<f64>,
        scaled: &DMatrix<f64>,
        count: usize,
    ) -> Result<DMatrix<f64>> {
        if let Some(correlations) = &self.matrix {
            let d = correlations.nrows();
            let matrix =
                DMatrix::from_fn(d, d, |i, j| correlations[(i, j)] * scales[i] * scales[j]);
            return Ok(leading_eigenpairs(matrix.as_view(), count)?.vectors);
        }
        // n < d: the eigenvectors of the n×n Gram matrix, mapped to d variables. Orthonormalised,
        // because rounding in a small eigenvalue would be divided by its root.
        let inner = leading_eigenpairs(product_tr_left(scaled, scaled).as_view(), count)?;
        crate::linalg::orthonormalize(matrix_product(scaled, &inner.vectors).as_view())
    }

    /// Evaluates the profile likelihood at ln ψ.
    pub(super) fn profile(&self, log_variances: DVector<f64>) -> Result<Profile> {
        let scales = log_variances.map(|l| (-0.5 * l).exp());
        let mut residual = self.root.clone();
        for mut column in residual.column_iter_mut() {
            column.component_mul_assign(&scales);
        }
        let leading = self.leading(&scales, &residual, self.latent_dim)?;
        // Everything that follows comes from sums of squares of projections, not from the
        // eigenvalues of S*: their absolute rounding error is that of the largest, which grows like
        // 1/ψ_j in a Heywood case.
        let inside = product_tr_left(&leading, &residual);
        let squares: Vec<f64> = inside.row_iter().map(|row| row.norm_squared()).collect();
        // An eigenvalue of at most 1 belongs to no factor: the optimal W is 0 along it.
        let alive: Vec<usize> = (0..squares.len()).filter(|&m| squares[m] > 1.0).collect();
        let (directions, inside) = (leading.select_columns(&alive), inside.select_rows(&alive));
        gemm(-1.0, &directions, &inside, 1.0, &mut residual);
        let variances = DVector::from_iterator(alive.len(), alive.iter().map(|&m| squares[m]));
        let value = log_variances.sum()
            + variances.iter().map(|v| v.ln() + 1.0).sum::<f64>()
            + residual.norm_squared();
        let gradient = DVector::from_fn(log_variances.len(), |j, _| {
            1.0 - directions.row(j).norm_squared() - residual.row(j).norm_squared()
        });
        Ok(Profile { log_variances, directions, variances, residual, value, gradient })
    }
}

/// Approximate Hessian of the profile likelihood in the free ln ψ_j, (I−QQᵗ)∘EEᵗ.
pub(super) struct Curvature {
    free: Vec<usize>,
    diagonal: DVector<f64>,
    /// Its Cholesky factor; `None` if it is not positive definite.
    factor: Option<DMatrix<f64>>,
}

impl Curvature {
    pub(super) fn of(at: &Profile, free: &[usize]) -> Self {
        let (q, e) = (at.directions.select_rows(free), at.residual.select_rows(free));
        let mut matrix = product_tr_right(&e, &e);
        let span = product_tr_right(&q, &q);
        for (i, (h, p)) in matrix.iter_mut().zip(span.iter()).enumerate() {
            let diagonal = i % (free.len() + 1) == 0;
            *h *= if diagonal { 1.0 - p } else { -p };
            if diagonal {
                // A variable that the factors explain entirely has no curvature; the ridge keeps
                // its step finite.
                *h = h.max(0.0) + 1e-6;
            }
        }
        let diagonal = matrix.diagonal();
        let factor = if free.is_empty() { None } else { cholesky_lower(matrix.as_view()).ok() };
        Self { free: free.to_vec(), diagonal, factor }
    }

    /// Applies the inverse of the approximate Hessian, or of its diagonal, to the free entries.
    pub(super) fn solve(&self, gradient: &DVector<f64>) -> DVector<f64> {
        let Some(factor) = &self.factor else { return self.solve_diagonal(gradient) };
        let mut part = DMatrix::from_fn(self.free.len(), 1, |i, _| gradient[self.free[i]]);
        solve_cholesky(factor, part.as_view_mut());
        let mut solution = DVector::zeros(gradient.len());
        self.free.iter().zip(part.iter()).for_each(|(&j, &value)| solution[j] = value);
        solution
    }

    /// Divides the free entries by the diagonal of the approximate Hessian.
    pub(super) fn solve_diagonal(&self, gradient: &DVector<f64>) -> DVector<f64> {
        let mut solution = DVector::zeros(gradient.len());
        for (&j, h) in self.free.iter().zip(self.diagonal.iter()) {
            solution[j] = gradient[j] / h;
        }
        solution
    }
}
