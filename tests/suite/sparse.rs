//! Sparse observations: the same figures as the dense table, about the mean, and never made dense.

use crate::support::VoidRng;
use elbo::data::{Centering, SparseObservations};
use elbo::linalg::{PcaAlgorithm, Solver};
use elbo::{Error, LinearAutoencoder, Ppca, Real};
use nalgebra::DMatrix;
use proptest::prelude::*;
use rand::{RngExt, SeedableRng, rngs::Xoshiro256PlusPlus as Generator};

struct Table<T> {
    d: usize,
    offsets: Vec<usize>,
    rows: Vec<usize>,
    values: Vec<T>,
}

impl<T: Real> Table<T> {
    fn view(&self) -> SparseObservations<'_, T> {
        SparseObservations::from_csc(
            self.d,
            self.offsets.len() - 1,
            &self.offsets,
            &self.rows,
            &self.values,
        )
        .unwrap()
    }
}

/// Word counts of documents on a few topics: most words rare, some frequent, ln(1 + count).
fn counts<T: Real>(d: usize, n: usize, words: usize, seed: u64) -> Table<T> {
    let rng = &mut Generator::seed_from_u64(seed);
    let mut table = Table { d, offsets: vec![0], rows: vec![], values: vec![] };
    for i in 0..n {
        let topic = i % 5;
        let mut found = std::collections::BTreeMap::new();
        for _ in 0..words {
            let u: f64 = rng.random();
            // Zipf's law, each topic with an order of the words of its own.
            let rank = ((d as f64).powf(u) - 1.0) as usize;
            *found.entry((rank * (1 + 2 * topic) + topic * 31) % d).or_insert(0.0) += 1.0;
        }
        for (row, count) in found {
            table.rows.push(row);
            table.values.push(T::of((1.0f64 + count).ln()));
        }
        table.offsets.push(table.rows.len());
    }
    table
}

fn equal_dense<T: Real>(tolerance: f64) {
    for (d, n, k, mean) in [
        (40, 200, 3, Centering::Mean),
        (40, 200, 3, Centering::None),
        (700, 90, 4, Centering::Mean),
    ] {
        let table = counts::<T>(d, n, 30, 1);
        let x = table.view();
        let dense = x.to_dense();
        let builder = Ppca::<T>::builder(k).centering(mean);
        let (sparse, whole) =
            (builder.fit(x, &mut VoidRng).unwrap(), builder.fit(&dense, &mut VoidRng).unwrap());
        assert_eq!(sparse.solver.unwrap().solver, PcaAlgorithm::Krylov);
        let relative = |a: &DMatrix<T>, b: &DMatrix<T>| ((a - b).amax() / b.amax()).as_f64();
        let covariance = |m: &Ppca<T>| m.loadings() * m.loadings().transpose();
        assert!(relative(&covariance(&sparse.model), &covariance(&whole.model)) < tolerance);
        assert!(
            ((sparse.model.noise_variance() / whole.model.noise_variance()).as_f64() - 1.0).abs()
                < tolerance
        );
        assert!((sparse.model.mean() - whole.model.mean()).amax().as_f64() < tolerance);
        let column = |v: nalgebra::DVector<T>| DMatrix::from_column_slice(v.len(), 1, v.as_slice());
        let (one, other) =
            (sparse.model.log_likelihood(x).unwrap(), whole.model.log_likelihood(&dense).unwrap());
        assert!(relative(&column(one), &column(other)) < tolerance);
        let (one, other) =
            (sparse.model.transform(x).unwrap(), sparse.model.transform(&dense).unwrap());
        assert!(relative(&one, &other) < tolerance);
        let error =
            (&dense - whole.model.orthogonal_projection(&dense).unwrap()).norm_squared().as_f64();
        assert!(
            (sparse.model.projection_error(x).unwrap().as_f64() / error - 1.0).abs() < tolerance
        );
        let builder =
            LinearAutoencoder::<T>::builder(k).centering(mean).l2_regularization(T::of(0.5));
        let (sparse, whole) =
            (builder.fit(x, &mut VoidRng).unwrap(), builder.fit(&dense, &mut VoidRng).unwrap());
        let error = whole.model.squared_error(&dense).unwrap().as_f64();
        assert!((sparse.model.squared_error(x).unwrap().as_f64() / error - 1.0).abs() < tolerance);
        assert!(
            relative(&sparse.model.transform(x).unwrap(), &sparse.model.transform(&dense).unwrap())
                < tolerance
        );
    }
}

#[test]
fn equal_to_the_fit_of_the_dense_table() {
    equal_dense::<f64>(1e-9);
    equal_dense::<f32>(1e-3);
}

#[test]
fn matrices_of_nalgebra_sparse_are_the_same_table() {
    use nalgebra_sparse::{CscMatrix, CsrMatrix};
    let table = counts::<f64>(30, 80, 20, 3);
    let dense = table.view().to_dense();
    let (columns, rows) = (CscMatrix::from(&dense), CsrMatrix::from(&dense.transpose()));
    let fit =
        |x: SparseObservations<'_, f64>| Ppca::<f64>::builder(3).fit(x, &mut VoidRng).unwrap();
    let expected = fit(table.view());
    assert_eq!(fit(SparseObservations::from_csc_matrix(&columns).unwrap()), expected);
    assert_eq!(fit(SparseObservations::from_csr_rows(&rows).unwrap()), expected);
}

/// 20,000 variables: dense, the covariance alone would take 3.2 GB.
#[test]
fn many_variables() {
    let table = counts::<f64>(20_000, 800, 60, 4);
    let x = table.view();
    let randomized = Solver::Randomized { oversampling: 10, power_iterations: 3 };
    let found = Ppca::<f64>::builder(4).fitter(randomized).fit(x, &mut VoidRng).unwrap();
    let exact = Ppca::<f64>::builder(4).fit(x, &mut VoidRng).unwrap();
    let (mean, best) = (
        found.model.log_likelihood(x).unwrap().mean(),
        exact.model.log_likelihood(x).unwrap().mean(),
    );
    // The maximum, whatever the way, as the spectrum has it.
    let (d, k, n) = (20_000.0, 4.0, 800.0);
    let variances = exact.model.explained_variance().unwrap();
    let logs: f64 = variances.iter().map(|v| v.ln()).sum();
    let formula = -0.5
        * (d * std::f64::consts::TAU.ln() + logs + (d - k) * exact.model.noise_variance().ln() + d);
    assert!((best - formula).abs() < 1e-7 * formula.abs(), "{best} {formula}");
    assert!(mean <= best + 1e-6 && best - mean < 1e-3 * best.abs());
    assert!(
        found.solver.unwrap().accuracy.is_some_and(|share| share < 0.05),
        "{:?}",
        found.solver.unwrap()
    );
    assert_eq!(found.solver.unwrap().passes, 5 + 3);
    let outside = exact.model.projection_error(x).unwrap() / n / (d - k);
    assert!((outside / exact.model.noise_variance() - 1.0).abs() < 1e-9);
}

#[test]
fn malformed_tables_are_refused_with_their_numbers() {
    let read = |offsets: &[usize], rows: &[usize], values: &[f64]| {
        SparseObservations::from_csc(3, 2, offsets, rows, values).map(|_| ()).unwrap_err()
    };
    assert!(matches!(
        read(&[0, 1], &[0], &[1.0]),
        Error::DimensionMismatch { expected: 3, actual: 2, .. }
    ));
    assert!(matches!(
        read(&[0, 1, 2], &[0], &[1.0, 2.0]),
        Error::DimensionMismatch { expected: 2, actual: 1, .. }
    ));
    assert!(matches!(
        read(&[1, 1, 2], &[0, 1], &[1.0, 2.0]),
        Error::SparseOffsets { column: 0, start: 1, end: 1, entries: 2 }
    ));
    assert!(matches!(
        read(&[0, 2, 1], &[0, 1], &[1.0, 2.0]),
        Error::SparseOffsets { column: 1, start: 2, end: 1, .. }
    ));
    assert!(matches!(
        read(&[0, 1, 1], &[0, 1], &[1.0, 2.0]),
        Error::SparseOffsets { column: 1, end: 1, entries: 2, .. }
    ));
    assert!(matches!(
        read(&[0, 9, 2], &[0, 1], &[1.0, 2.0]),
        Error::SparseOffsets { column: 0, end: 9, .. }
    ));
    assert!(matches!(
        read(&[0, 1, 2], &[0, 3], &[1.0, 2.0]),
        Error::SparseRow { row: 3, column: 1, rows: 3 }
    ));
    assert!(matches!(
        read(&[0, 2, 2], &[1, 1], &[1.0, 2.0]),
        Error::SparseOrder { row: 1, before: 1, column: 0 }
    ));
    assert!(matches!(
        read(&[0, 2, 2], &[2, 0], &[1.0, 2.0]),
        Error::SparseOrder { row: 0, before: 2, column: 0 }
    ));
    assert!(matches!(
        read(&[0, 1, 2], &[0, 2], &[1.0, f64::NAN]),
        Error::NotFinite { row: 2, column: 1, .. }
    ));
    assert!(matches!(
        read(&[0, 1, 2], &[0, 2], &[1e200, 1.0]),
        Error::TooLarge { row: 0, column: 0, .. }
    ));
    let empty = SparseObservations::<f64>::from_csc(0, 2, &[0, 0, 0], &[], &[]).map(|_| ());
    assert!(matches!(empty, Err(Error::Empty { rows: 0, columns: 2 })));
    let told = read(&[0, 2, 2], &[2, 0], &[1.0, 2.0]).to_string();
    assert_eq!(told, "row 0 follows row 2 in column 0: rows must rise, each at most once");
}

#[test]
fn fits_that_cannot_be_are_refused() {
    let table = counts::<f64>(12, 30, 9, 2);
    let x = table.view();
    let fit = |k, solver| Ppca::<f64>::builder(k).fitter(solver).fit(x, &mut VoidRng).map(|_| ());
    assert!(matches!(fit(13, Solver::Auto), Err(Error::LatentDim { latent_dim: 13, .. })));
    assert!(matches!(fit(12, Solver::Auto), Err(Error::Unbounded { latent_dim: 12, .. })));
    assert!(matches!(fit(2, Solver::Covariance), Err(Error::Unsupported { .. })));
    let model = Ppca::fit(2, &DMatrix::from_fn(5, 20, |i, j| ((i * j) as f64).sin())).unwrap();
    assert!(matches!(
        model.model.log_likelihood(x),
        Err(Error::DimensionMismatch { expected: 5, actual: 12, .. })
    ));
    let zeros = SparseObservations::<f64>::from_csc(4, 3, &[0; 4], &[], &[]).unwrap();
    assert!(matches!(
        Ppca::<f64>::builder(1).fit(zeros, &mut VoidRng),
        Err(Error::ZeroVariance { variables: 4, observations: 3 })
    ));
    let one = SparseObservations::<f64>::from_csc(4, 1, &[0, 1], &[2], &[1.0]).unwrap();
    assert!(matches!(
        Ppca::<f64>::builder(1).fit(one, &mut VoidRng),
        Err(Error::TooFewObservations { actual: 1, least: 2 })
    ));
    // Every entry stored and a large mean: the mean is taken out of the projections before they are
    // summed.
    let dense = DMatrix::from_fn(4, 60, |j, i| 1e5 + ((j + 1) as f64 * i as f64).sin());
    let (offsets, rows): (Vec<_>, Vec<_>) =
        ((0..=60).map(|i| 4 * i).collect(), (0..240).map(|e| e % 4).collect());
    let full = SparseObservations::from_csc(4, 60, &offsets, &rows, dense.as_slice()).unwrap();
    let (a, b) =
        (Ppca::<f64>::builder(1).fit(full, &mut VoidRng).unwrap(), Ppca::fit(1, &dense).unwrap());
    assert!(
        (a.model.noise_variance() / b.model.noise_variance() - 1.0).abs() < 1e-5,
        "{} {}",
        a.model.noise_variance(),
        b.model.noise_variance()
    );
}

/// The Reuters counts, where they are at hand: a file of lines "document word count" (from 0),
/// named by ELBO_REUTERS.
#[test]
fn reuters() {
    let Some(path) = std::env::var_os("ELBO_REUTERS") else {
        eprintln!("skipped: ELBO_REUTERS names no file of \"document word count\" lines");
        return;
    };
    let text = std::fs::read_to_string(path).unwrap();
    let entry = |line: &str| {
        let mut fields = line.split_whitespace().map(|field| field.parse::<usize>().unwrap());
        (fields.next().unwrap(), fields.next().unwrap(), fields.next().unwrap())
    };
    let mut entries: Vec<_> = text.lines().map(entry).collect();
    entries.sort_unstable();
    let (n, d) = (
        entries.iter().map(|e| e.0).max().unwrap() + 1,
        entries.iter().map(|e| e.1).max().unwrap() + 1,
    );
    let offsets: Vec<usize> = (0..=n).map(|i| entries.partition_point(|e| e.0 < i)).collect();
    let rows: Vec<usize> = entries.iter().map(|e| e.1).collect();
    let values: Vec<f64> = entries.iter().map(|e| (1.0 + e.2 as f64).ln()).collect();
    let x = SparseObservations::from_csc(d, n, &offsets, &rows, &values).unwrap();
    let model = Ppca::<f64>::builder(10).fit(x, &mut VoidRng).unwrap();
    let total = model.model.log_likelihood(x).unwrap().sum();
    eprintln!("{n} documents, {d} words, {} entries: log p = {total:.3}", x.entries());
    assert!(total.is_finite());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_table_in_any_order_is_its_dense_one(d in 2usize..14, n in 3usize..30, k in 1usize..4, share in 0.1f64..0.9, seed in 0u64..1000) {
        let rng = &mut Generator::seed_from_u64(seed);
        // Some variables and observations may have nothing stored.
        let dense = DMatrix::from_fn(d, n, |_, _| if rng.random::<f64>() < share { f64::standard_normal(rng) + 2.0 } else { 0.0 });
        let order: Vec<usize> = (0..n).rev().collect();
        let fit = |dense: &DMatrix<f64>| {
            let table = stored(dense);
            Ppca::<f64>::builder(k).fit(table.view(), &mut VoidRng).map(|fit| fit.model.log_likelihood(table.view()).unwrap())
        };
        match (Ppca::fit(k, &dense), fit(&dense), fit(&dense.select_columns(&order))) {
            (Ok(whole), Ok(sparse), Ok(reversed)) => {
                let expected = whole.model.log_likelihood(&dense).unwrap();
                let size = expected.amax().max(1.0);
                prop_assert!((&sparse - &expected).amax() < 1e-7 * size, "{sparse} {expected}");
                prop_assert!(order.iter().zip(reversed.iter()).all(|(&i, value)| (value - expected[i]).abs() < 1e-7 * size));
            }
            (Err(_), Err(_), Err(_)) => {}
            (whole, sparse, reversed) => prop_assert!(false, "{whole:?} {sparse:?} {reversed:?}"),
        }
    }
}

/// The entries of a dense table that are not 0.
fn stored(dense: &DMatrix<f64>) -> Table<f64> {
    let mut table = Table { d: dense.nrows(), offsets: vec![0], rows: vec![], values: vec![] };
    for column in dense.column_iter() {
        for (row, &value) in column.iter().enumerate().filter(|(_, value)| **value != 0.0) {
            table.rows.push(row);
            table.values.push(value);
        }
        table.offsets.push(table.rows.len());
    }
    table
}
