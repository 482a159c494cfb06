//! Algorithms for principal components: the one to use, and the one that was used.

/// The smallest min(d, n) for which matrix-free block Krylov may be faster than a decomposition.
const KRYLOV: usize = 1000;

/// The algorithm to use for principal components.
///
/// All of them find the same subspace; they differ in time, memory and accuracy. The result reports
/// the one that was used as a [`PcaAlgorithm`].
///
/// ```
/// use elbo::linalg::{principal_components_by, PcaAlgorithm, Solver};
/// let x = nalgebra::dmatrix![1.0, -1.0, 3.0, -3.0; 0.0, 0.0, 1.0, 1.0];
/// let found = principal_components_by(x.as_view(), Some(&x.column_mean()), 1, Solver::Gram)?;
/// assert_eq!(found.solver, PcaAlgorithm::Gram);
/// assert!((found.variances[0] - 5.0_f64).abs() < 1e-12);
/// # Ok::<(), elbo::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Solver {
    /// Chosen by the shape and the spectrum of the data: the fastest algorithm with about nine
    /// correct digits.
    #[default]
    Auto,
    /// The eigenvectors of the d×d covariance: O(nd²) time, O(d²) memory. Eigenvalues below 1e-5 of
    /// the largest are less accurate.
    Covariance,
    /// The eigenvectors of the n×n Gram matrix (inner products of observations): O(dn²) time, O(n²)
    /// memory, as accurate as [`Self::Covariance`].
    Gram,
    /// Matrix-free [block Krylov](crate::linalg::leading_eigenpairs_of): O(ndk) time for each
    /// product, O(dk) memory. Residuals are at most 1e-9 of λ_1. If requested, it works in double
    /// precision, also for `f32` data; if chosen by [`Self::Auto`], in the precision of the data.
    Krylov,
    /// The randomised range finder with power iterations[^1]: exactly `power_iterations` + 2
    /// products with k + `oversampling` columns, O(dk) memory. The starting block is fixed: results
    /// for the same data are bit-identical.
    ///
    /// The accuracy is measured and reported in
    /// [`PrincipalComponents::accuracy`](super::PrincipalComponents::accuracy). The expected loss
    /// of captured variance falls as (λ_{k+p+1}/λ_k)^(2q+2): p = 10 and q = 4 are enough for all
    /// but the flattest spectra.
    ///
    /// [^1]: N. Halko, P. G. Martinsson and J. A. Tropp, [SIAM Review 53
    /// (2011)](https://doi.org/10.1137/090771806), algorithms 4.4 and 5.3.
    Randomized {
        /// p, the number of columns in addition to k.
        oversampling: usize,
        /// q, the number of power iterations.
        power_iterations: usize,
    },
    /// QR and one-sided Jacobi on the centred data: accurate to all digits, also for small
    /// eigenvalues, at the cost of a copy of the data and many times the time.
    Full,
}

/// The algorithm that [`principal_components`](super::principal_components) used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PcaAlgorithm {
    /// The leading eigenvectors of the d×d covariance.
    Covariance,
    /// The leading eigenvectors of the n×n Gram matrix (inner products of observations); the
    /// automatic choice for n < d.
    Gram,
    /// Matrix-free block Krylov with products by X and Xᵗ; the automatic choice where d and n are
    /// both large and k is small. Neither a d×d nor an n×n matrix is formed.
    Krylov,
    /// The matrix-free randomised range finder, used only when [requested](Solver::Randomized).
    Randomized,
    /// QR and one-sided Jacobi on the centred data; the automatic choice where eigenvalues span
    /// more than five orders of magnitude, or where all min(d, n) of them are wanted.
    Full,
}

/// Whether matrix-free block Krylov may be faster than a decomposition, for k components of d×n
/// data.
pub(super) fn prefers_matrix_free(d: usize, n: usize, k: usize) -> bool {
    let small = d.min(n);
    // Forming the Gram matrix and decomposing it takes O(nd · min(d, n)) and O(min(d, n)³)
    // operations, a product of the search O(ndk): the larger the data, the more components are
    // worth it.
    let worth = if small < 5 * KRYLOV { 50 * k <= small } else { 12 * k <= small };
    small >= KRYLOV && worth
}

#[cfg(test)]
mod tests {
    use crate::linalg::testing::{orthonormality, random, with_threads};
    use crate::linalg::{
        PcaAlgorithm, Solver, column_mean, principal_components, principal_components_by,
    };
    use crate::{Error, Real};
    use nalgebra::DMatrix;

    const RANDOMIZED: Solver = Solver::Randomized { oversampling: 10, power_iterations: 4 };

    /// Data with the spectrum of images, a power law, plus noise and means that are not 0.
    fn table<T: Real>(d: usize, n: usize) -> DMatrix<T> {
        let (left, right) = (random::<f64>(d, 40, 5), random::<f64>(40, n, 6));
        let scales =
            DMatrix::from_diagonal(&nalgebra::DVector::from_fn(40, |i, _| 3.0 / (1.0 + i as f64)));
        let mut x = left * scales * right + random::<f64>(d, n, 7) * 0.3;
        x.row_iter_mut().enumerate().for_each(|(i, mut row)| row.add_scalar_mut((i % 7) as f64));
        x.map(T::of)
    }

    fn agree<T: Real>(d: usize, n: usize, tolerance: f64) {
        let x = table::<T>(d, n);
        let mean = column_mean(x.as_view()).unwrap();
        let k = 5;
        let by = |solver| principal_components_by(x.as_view(), Some(&mean), k, solver).unwrap();
        let full = by(Solver::Full);
        assert_eq!(full.solver, PcaAlgorithm::Full);
        let ways = [
            (Solver::Auto, None),
            (Solver::Covariance, Some(PcaAlgorithm::Covariance)),
            (Solver::Gram, Some(PcaAlgorithm::Gram)),
            (Solver::Krylov, Some(PcaAlgorithm::Krylov)),
            (RANDOMIZED, Some(PcaAlgorithm::Randomized)),
        ];
        for (solver, used) in ways {
            let found = by(solver);
            assert!(used.is_none_or(|used| used == found.solver), "{solver:?}");
            assert!(orthonormality(&found.vectors) < 1e3 * T::EPSILON.as_f64(), "{solver:?}");
            let size = full.variances[0].as_f64();
            let values = (&found.variances - &full.variances).amax().as_f64() / size;
            let residual = (found.residual_variance - full.residual_variance).as_f64().abs() / size;
            let cosine = full.vectors.transpose() * &found.vectors;
            let angle = (cosine.transpose() * cosine - DMatrix::identity(k, k)).amax().as_f64();
            assert!(
                values < tolerance && residual < 10.0 * tolerance && angle < 100.0 * tolerance,
                "{solver:?}: {values:e} {residual:e} {angle:e}"
            );
        }
    }

    #[test]
    fn solvers_agree() {
        for (d, n) in [(60, 300), (300, 60), (200, 210)] {
            agree::<f64>(d, n, 1e-9);
            agree::<f32>(d, n, 1e-6);
        }
    }

    #[test]
    fn the_stated_accuracy_holds_and_falls_with_the_iterations() {
        let x = table::<f64>(110, 140);
        let exact = principal_components_by(x.as_view(), None, 8, Solver::Full).unwrap();
        let mut before = f64::INFINITY;
        for power_iterations in [0, 1, 2, 4, 8] {
            let found = principal_components_by(
                x.as_view(),
                None,
                8,
                Solver::Randomized { oversampling: 8, power_iterations },
            )
            .unwrap();
            let stated = found.accuracy.unwrap();
            // The exact eigenvalue is within the residual of each value found, and not below it.
            for (value, exact) in found.variances.iter().zip(exact.variances.iter()) {
                let nearest = (value - exact).abs() / exact.max(1e-300);
                assert!(
                    nearest * exact <= stated * exact.max(found.variances[0]) + 1e-12
                        && *value <= exact * (1.0 + 1e-12)
                );
            }
            assert!(stated < before, "{power_iterations}: {stated:e} after {before:e}");
            before = stated;
        }
        assert!(before < 1e-4, "{before:e}");
    }

    #[test]
    fn refusals_bits_and_corners() {
        let x = random::<f64>(30, 4, 2);
        let refused = principal_components_by(x.as_view(), None, 5, Solver::Gram);
        assert!(matches!(refused, Err(Error::DimensionMismatch { expected: 4, actual: 5, .. })));
        let zero = DMatrix::<f64>::zeros(6, 5);
        for solver in [Solver::Krylov, RANDOMIZED, Solver::Gram, Solver::Covariance, Solver::Full] {
            let none = principal_components_by(zero.as_view(), None, 2, solver).unwrap();
            assert!(none.residual_variance == 0.0 && none.variances[0] == 0.0);
            // As many components as observations.
            let few = principal_components_by(x.as_view(), None, 4, solver).unwrap();
            assert!(
                few.residual_variance < 1e-14 && orthonormality(&few.vectors) < 1e-12,
                "{solver:?}"
            );
            assert_eq!(
                principal_components_by(x.as_view(), None, 0, solver).unwrap().variances.len(),
                0
            );
        }
        let x = table::<f64>(300, 400);
        let run = |t| {
            with_threads(t, || principal_components_by(x.as_view(), None, 3, RANDOMIZED).unwrap())
        };
        assert!(run(1) == run(3));
        let plain = principal_components(x.as_view(), None, 3).unwrap();
        assert_eq!(plain.accuracy, None);
    }
}
