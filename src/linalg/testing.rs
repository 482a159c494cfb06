//! What the tests of this folder share.

use crate::Real;
use nalgebra::DMatrix;

/// Uniform numbers in (−1, 1) from a small generator of its own, the same on every machine.
pub(crate) fn random<T: Real>(rows: usize, columns: usize, seed: u64) -> DMatrix<T> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0x1234_5678_9ABC_DEF1;
    DMatrix::from_fn(rows, columns, |_, _| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        T::of((state >> 11) as f64 / (1u64 << 52) as f64 - 1.0)
    })
}

/// Runs `f` in a pool of so many threads.
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

/// Rank-deficient, graded and plain matrices, tall and wide: what broke other decompositions.
pub(crate) fn hard_matrices() -> Vec<DMatrix<f64>> {
    let graded = |m: usize, n: usize| {
        let mut a = random::<f64>(m, n, 21);
        for j in 0..n {
            a.column_mut(j).scale_mut(10f64.powf(-10.0 * ((j * 7) % n) as f64 / n as f64));
        }
        a
    };
    let mut one_hot = DMatrix::zeros(60, 5);
    (0..60).for_each(|i| one_hot[(i, i * i % 5)] = 1.0);
    let mut centred = one_hot.clone();
    centred.column_iter_mut().for_each(|mut c| c.add_scalar_mut(-c.mean()));
    let mut repeated = random::<f64>(40, 6, 22);
    let first = repeated.column(0).clone_owned();
    repeated.column_mut(4).copy_from(&first);
    repeated.column_mut(2).fill(1.0);
    let mut zero_column = random::<f64>(30, 4, 23);
    zero_column.column_mut(0).fill(0.0);
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

/// The largest entry of QᵗQ − I.
pub(crate) fn orthonormality<T: Real>(q: &DMatrix<T>) -> f64 {
    let q = q.map(|v| v.as_f64());
    (q.transpose() * &q - DMatrix::identity(q.ncols(), q.ncols())).amax()
}
