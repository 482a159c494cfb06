//! The ways to principal components: which is to be taken, and which was.

/// From this many variables and observations on, products alone may be quicker.
const KRYLOV: usize = 1000;

/// Which way to principal components is to be taken.
///
/// Each leads to the same subspace; they differ in time, memory and digits. Which one was taken is
/// told by [`PcaAlgorithm`].
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
    /// By the shape of the data and their spectrum: what costs least among those that keep about
    /// nine digits.
    #[default]
    Auto,
    /// The d×d covariance: O(nd²) time, O(d²) memory. Eigenvalues below 1e-5 of the largest lose
    /// digits.
    Covariance,
    /// The n×n inner products: O(dn²) time, O(n²) memory, with the digits of the covariance.
    Gram,
    /// [Block Krylov](crate::linalg::leading_eigenpairs_of) with products alone: O(ndk) time a
    /// product, O(dk) memory. Residuals of 1e-9 of λ_1. Asked for by name it works in double
    /// precision, for `f32` data too; where [`Self::Auto`] takes this way, in the precision of the
    /// data.
    Krylov,
    /// The randomised range finder with power iterations[^1]: `power_iterations` + 2 products with
    /// k + `oversampling` columns, as many as are said and no more, O(dk) memory. The start is
    /// fixed: the same data give the same bits.
    ///
    /// The accuracy is measured, and told: see
    /// [`PrincipalComponents::accuracy`](super::PrincipalComponents::accuracy). Expected is a loss
    /// of captured variance that falls as (λ_{k+p+1}/λ_k)^(2q+2): p = 10 and q = 4 serve all but
    /// the flattest spectra.
    ///
    /// [^1]: N. Halko, P. G. Martinsson and J. A. Tropp, [SIAM Review 53
    /// (2011)](https://doi.org/10.1137/090771806), algorithms 4.4 and 5.3.
    Randomized {
        /// p, columns beyond k.
        oversampling: usize,
        /// q.
        power_iterations: usize,
    },
    /// QR and one-sided Jacobi on the data themselves: all digits, at the cost of a copy of the
    /// data and many times the time.
    Full,
}

/// Which way [`principal_components`](super::principal_components) went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PcaAlgorithm {
    /// The leading eigenvectors of the d×d covariance.
    Covariance,
    /// Those of the n×n matrix of inner products, when n < d.
    Gram,
    /// Products with X and Xᵗ alone, when d and n are both large and k is small: neither d×d nor
    /// n×n is formed.
    Krylov,
    /// The same by the randomised range finder, when it is [asked for](Solver::Randomized).
    Randomized,
    /// QR and one-sided Jacobi on the data, when eigenvalues span more than five orders of
    /// magnitude.
    Full,
}

/// Whether products alone may be quicker than a whole decomposition.
pub(super) fn by_products_alone(d: usize, n: usize, k: usize) -> bool {
    let small = d.min(n);
    // A whole decomposition takes O(min(d, n)³), and the search O(ndk) a product: the larger the
    // table, the more components it is worth.
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

    /// A table with the spectrum of images: falling as a power.
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
    fn every_way_leads_to_the_same_place() {
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
            // An eigenvalue stands within the residual of each value found, and none is overstated.
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
            // More components than directions of variance.
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
