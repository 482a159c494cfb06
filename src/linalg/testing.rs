//! Random and ill-conditioned matrices, and thread pools, for unit tests.

use crate::Real;
use nalgebra::DMatrix;

/// A matrix of uniform random numbers in (−1, 1), the same on every machine.
pub(crate) fn random<T: Real>(rows: usize, columns: usize, seed: u64) -> DMatrix<T> {
    // Xorshift (Marsaglia 2003): `rand` does not promise equal numbers across its versions.
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0x1234_5678_9ABC_DEF1;
    DMatrix::from_fn(rows, columns, |_, _| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        T::of((state >> 11) as f64 / (1u64 << 52) as f64 - 1.0)
    })
}

/// Runs `f` in a rayon pool of `threads` threads; without the feature `rayon`, on this thread.
pub(crate) fn with_threads<R: Send>(threads: usize, f: impl FnOnce() -> R + Send) -> R {
    #[cfg(feature = "rayon")]
    {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool").install(f)
    }
    #[cfg(not(feature = "rayon"))]
    {
        let _ = threads;
        f()
    }
}

/// Rank-deficient, graded and random matrices, tall and wide, for tests of decompositions.
///
/// nalgebra's singular value decomposition is wrong for rank-deficient ones.
pub(crate) fn hard_matrices() -> Vec<DMatrix<f64>> {
    // Columns whose norms span ten orders of magnitude, in an order that is not sorted.
    let graded = |m: usize, n: usize| {
        let mut a = random::<f64>(m, n, 21);
        for j in 0..n {
            a.column_mut(j).scale_mut(10f64.powf(-10.0 * ((j * 7) % n) as f64 / n as f64));
        }
        a
    };
    // Indicators of a categorical variable, of which two categories are empty. Centred, they are
    // linearly dependent.
    let mut one_hot = DMatrix::zeros(60, 5);
    (0..60).for_each(|i| one_hot[(i, i * i % 5)] = 1.0);
    let mut centred = one_hot.clone();
    centred.column_iter_mut().for_each(|mut c| c.add_scalar_mut(-c.mean()));
    // Two equal columns, and a constant one.
    let mut repeated = random::<f64>(40, 6, 22);
    let first = repeated.column(0).clone_owned();
    repeated.column_mut(4).copy_from(&first);
    repeated.column_mut(2).fill(1.0);
    let mut zero_column = random::<f64>(30, 4, 23);
    zero_column.column_mut(0).fill(0.0);
    // Forty observations of ten variables, centred.
    let mut few = random::<f64>(10, 40, 24);
    let mean = few.column_mean();
    few.column_iter_mut().for_each(|mut c| c -= &mean);
    vec![
        random::<f64>(200, 5, 1) * random::<f64>(5, 50, 2),
        one_hot,
        centred,
        repeated,
        zero_column,
        few,
        DMatrix::from_element(21, 41, 1.0),
        DMatrix::from_element(70, 33, 1.0),
        DMatrix::zeros(9, 4),
        DMatrix::identity(7, 7),
        DMatrix::from_element(1, 1, -2.0),
        random(1, 8, 3),
        random(130, 70, 4),
        random(70, 130, 5),
        graded(150, 40),
        graded(12, 12),
    ]
}

/// The largest absolute entry of QᵗQ − I: the loss of orthonormality of the columns of Q.
pub(crate) fn orthonormality<T: Real>(q: &DMatrix<T>) -> f64 {
    let q = q.map(|v| v.as_f64());
    (q.transpose() * &q - DMatrix::identity(q.ncols(), q.ncols())).amax()
}
