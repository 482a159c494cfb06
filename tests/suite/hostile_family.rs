//! Odd tables through every front door of the linear-Gaussian family: a typed error or finite
//! figures, never a panic, an endless loop or a NaN.

use crate::support::VoidRng;
use elbo::data::Data;
use elbo::data::Incomplete;
use elbo::data::{Centering, IncompleteObservations, Moments, SparseObservations};
use elbo::fit::{ExpectationMaximization, MissingDataEm};
use elbo::linalg::Solver;
use elbo::mixture::MixtureOfPpca;
use elbo::rotation::{Promax, Varimax};
use elbo::selection::{BayesianPpca, Criterion, Selection};
use elbo::steps::Pca;
use elbo::{FactorAnalysis, Ppca, Real};
use nalgebra::DMatrix;
use proptest::prelude::*;
use rand::{SeedableRng, rngs::Xoshiro256PlusPlus as Generator};

fn rng() -> Generator {
    Generator::seed_from_u64(5)
}

#[track_caller]
fn finite<'a, T: Real>(what: &str, values: impl IntoIterator<Item = &'a T>) {
    assert!(values.into_iter().all(|v| v.as_f64().is_finite()), "{what} is not finite");
}

fn entry() -> impl Strategy<Value = f64> {
    prop_oneof![
        10 => -3.0f64..3.0,
        3 => Just(0.0),
        3 => Just(1.0),
        1 => prop::sample::select(vec![1e-160, 1e100, -1e100, 1e16, 1e-16, 1e8, f64::EPSILON, 5e-324]),
    ]
}

/// Complete tables of all small shapes, some of them of few distinct columns or of low rank.
fn tables() -> impl Strategy<Value = (DMatrix<f64>, usize)> {
    (1usize..6, 1usize..10, 0usize..4, 0usize..7).prop_flat_map(|(d, n, kind, k)| {
        prop::collection::vec(entry(), d * n).prop_map(move |values| {
            let x = DMatrix::from_vec(d, n, values);
            let x = match kind {
                0 => DMatrix::from_fn(d, n, |j, i| x[(j, i % 2.min(n))]),
                1 => DMatrix::from_fn(d, n, |j, i| (j as f64 - 1.0) * x[(0, i)] + 2.0),
                _ => x,
            };
            (x, k)
        })
    })
}

/// The same with holes: at random, whole observations, whole variables but one entry.
fn tables_with_holes() -> impl Strategy<Value = (DMatrix<f64>, usize)> {
    (tables(), 0usize..4, any::<u64>()).prop_map(|((mut x, k), kind, bits)| {
        let (d, n) = x.shape();
        for i in 0..n {
            for j in 0..d {
                let random = bits.rotate_left((7 * j + 11 * i) as u32 % 64) % 4 == 0;
                let hole = random || (kind == 1 && i == 0) || (kind == 2 && j == 0 && i > 0);
                if hole && kind != 3 {
                    x[(j, i)] = f64::NAN;
                }
            }
        }
        (x, k)
    })
}

fn complete<T: Real>(x: &DMatrix<T>, k: usize) {
    for builder in [
        FactorAnalysis::<T>::builder(k),
        FactorAnalysis::builder(k).centering(Centering::None),
        FactorAnalysis::builder(k).noise_floor(0.3),
    ] {
        if let Ok(fit) = builder.fit(x, &mut VoidRng) {
            finite("factor scores", fit.model.transform(x).unwrap().iter());
            finite("Bartlett's scores", fit.model.bartlett_scores(x).unwrap().iter());
            finite("standardised loadings", fit.model.standardized_loadings().iter());
            finite("the trace of factor analysis", fit.trace.values());
        }
    }
    let few = ExpectationMaximization { max_iterations: 50, ..ExpectationMaximization::default() };
    if let Ok(fit) = FactorAnalysis::<T>::builder(k).fitter(few).fit(x, &mut rng()) {
        finite("the trace of EM", fit.trace.values());
    }
    for solver in [
        Solver::Gram,
        Solver::Covariance,
        Solver::Krylov,
        Solver::Full,
        Solver::Randomized { oversampling: 2, power_iterations: 2 },
    ] {
        if let Ok(found) = Ppca::<T>::builder(k).fitter(solver).fit(x, &mut VoidRng) {
            finite("loadings", found.model.loadings().iter());
            finite("codes", found.model.transform(x).unwrap().iter());
        }
    }
    for mean in [Centering::Mean, Centering::None] {
        if let Ok(pca) = Pca::builder(k).centering(mean).fit(x) {
            finite("scores", pca.model.transform(x).unwrap().iter());
            if let Ok(white) = pca.model.whiten(x) {
                finite("whitened data", white.iter());
                finite("what was whitened, back", pca.model.unwhiten(&white).unwrap().iter());
            }
            if let Ok(distances) = pca.model.outlier_distances(x) {
                finite(
                    "distances",
                    distances.t_squared.iter().chain(distances.squared_prediction_error.iter()),
                );
            }
            finite("ratios", pca.model.explained_variance_ratio().iter());
            let rotations = [
                Varimax::default().rotate(pca.model.loadings().as_view()),
                Promax::default().rotate(pca.model.loadings().as_view()),
            ];
            for rotated in rotations.into_iter().flatten() {
                finite("rotated loadings", rotated.loadings.iter());
                assert!(rotated.criterion.as_f64().is_finite());
            }
        }
    }
    for criterion in
        [Criterion::Laplace, Criterion::Bic, Criterion::Ard, Criterion::HeldOut { folds: 2 }]
    {
        if let Ok(selection) = Selection::ppca(x, criterion) {
            // A held-out observation may be so far out that its density is 0 in any precision.
            let good = |score: f64| {
                score.is_finite()
                    || (matches!(criterion, Criterion::HeldOut { .. })
                        && score == f64::NEG_INFINITY)
            };
            assert!(
                selection.scores.iter().all(|(_, score)| good(*score)),
                "{criterion:?}: {:?}",
                selection.scores
            );
        }
    }
    if let Ok(fit) = BayesianPpca::fit(x) {
        finite("Bayesian loadings", fit.model.loadings().iter());
    }
    for components in [1, 2, 9] {
        let builder = MixtureOfPpca::<T>::builder(components, k)
            .restarts(1)
            .fitter(ExpectationMaximization { max_iterations: 60, ..Default::default() });
        if let Ok(fit) = builder.fit(x, &mut rng()) {
            finite("the trace of a mixture", fit.trace.values());
            finite("responsibilities", fit.model.responsibilities(x).unwrap().iter());
            finite("weights", fit.model.weights().iter());
            finite("a reconstruction", fit.model.reconstruct(x).unwrap().iter());
        }
    }
    let weights: Vec<T> =
        (0..x.ncols()).map(|i| T::of([0.0, 1.0, 1e-300, 2.5, 1e300][i % 5]).min(T::MAX)).collect();
    if let Ok(model) = Ppca::<T>::builder(k).fit(x.weighted(&weights), &mut VoidRng) {
        finite("weighted loadings", model.model.loadings().iter());
    }
    let mut moments = Moments::new(x.nrows());
    let chunks = (0..x.ncols()).try_for_each(|i| moments.update(x.columns(i, 1)));
    if chunks.is_ok()
        && let Ok(model) = Ppca::<T>::builder(k).fit(&moments, &mut VoidRng)
    {
        finite("loadings of a stream", model.model.loadings().iter());
    }
    let mut online = Ppca::<T>::builder(k).online();
    for _ in 0..2 {
        let _ = online.partial_fit(x);
        (0..x.ncols()).for_each(|i| drop(online.partial_fit(x.columns(i, 1))));
    }
    if let Ok(model) = online.model() {
        finite("stepwise loadings", model.loadings().iter());
        assert!(model.noise_variance().as_f64() > 0.0);
    }
    // Sparse: what is 0 is not stored, so that whole variables and observations may be empty.
    let (mut offsets, mut rows, mut values) = (vec![0], Vec::new(), Vec::new());
    for column in x.column_iter() {
        for (row, &value) in column.iter().enumerate().filter(|(_, v)| **v != T::zero()) {
            rows.push(row);
            values.push(value);
        }
        offsets.push(rows.len());
    }
    if let Ok(sparse) = SparseObservations::from_csc(x.nrows(), x.ncols(), &offsets, &rows, &values)
        && let Ok(found) = Ppca::<T>::builder(k).fit(sparse, &mut VoidRng)
    {
        finite("sparse loadings", found.model.loadings().iter());
        finite("sparse codes", found.model.transform(sparse).unwrap().iter());
        let scores = found.model.log_likelihood(sparse).unwrap();
        assert!(scores.iter().all(|v| !v.as_f64().is_nan()));
    }
}

fn with_holes<T: Real>(x: &DMatrix<T>, k: usize) {
    let few = MissingDataEm { max_iterations: 60, ..MissingDataEm::default() };
    let plain = Ppca::<T>::builder(k).restarts(1);
    for builder in [plain, plain.centering(Centering::None), plain.noise_floor(1e-3)] {
        if let Ok(fit) = builder.missing_data_fitter(few).fit(Incomplete(x), &mut rng()) {
            finite("a completed table", fit.model.impute(x).unwrap().iter());
            finite("codes", fit.model.transform(Incomplete(x)).unwrap().iter());
            finite("variances", fit.model.conditional(x).unwrap().variance.iter());
            finite("the trace", fit.trace.values());
            let starts = fit.trace.starts();
            assert!(
                starts.iter().all(|v| v.is_finite())
                    && fit.trace.values().is_sorted_by(|a, b| *b >= a - 1e-9 * a.abs().max(1.0))
            );
        }
    }
    for builder in [
        FactorAnalysis::<T>::builder(k).restarts(1),
        FactorAnalysis::builder(k).centering(Centering::None),
    ] {
        if let Ok(fit) = builder.missing_data_fitter(few).fit(Incomplete(x), &mut rng()) {
            finite("a completed table", fit.model.impute(x).unwrap().iter());
            finite("variances", fit.model.conditional(x).unwrap().variance.iter());
            finite("the trace", fit.trace.values());
            finite("loadings", fit.model.loadings().iter());
            assert!(
                fit.trace.values().is_sorted_by(|a, b| *b >= a - 1e-9 * a.abs().max(1.0)),
                "{:?}",
                fit.trace.values()
            );
        }
    }
    let weights: Vec<T> = (0..x.ncols()).map(|i| T::of([0.0, 1.0, 1e-30, 2.5][i % 4])).collect();
    if let Ok(fit) =
        Ppca::<T>::builder(k).noise_floor(1e-3).fit(Incomplete(x).weighted(&weights), &mut rng())
    {
        finite("a completed table", fit.model.impute(x).unwrap().iter());
    }
    for components in [1, 2] {
        let builder = MixtureOfPpca::<T>::builder(components, k)
            .restarts(0)
            .fitter(ExpectationMaximization { max_iterations: 30, ..Default::default() });
        if let Ok(fit) = builder.fit(Incomplete(x), &mut rng()) {
            finite("a completed table", fit.model.impute(x).unwrap().iter());
            finite("the trace of a mixture", fit.trace.values());
        }
    }
    for criterion in [Criterion::Bic, Criterion::HeldOut { folds: 2 }] {
        if let Ok(selection) = Selection::incomplete_ppca(x, 1..=k.max(1), criterion, &mut rng()) {
            assert!(
                selection.scores.iter().all(|(_, score)| score.is_finite()),
                "{criterion:?}: {:?}",
                selection.scores
            );
        }
    }
    if let Ok(seen) = IncompleteObservations::new(x.as_view()) {
        assert_eq!(seen.missing() + seen.observed(), x.len());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn complete_tables((x, k) in tables()) {
        complete(&x, k);
        complete(&x.map(|v| v as f32), k);
    }

    #[test]
    fn tables_of_holes((x, k) in tables_with_holes()) {
        with_holes(&x, k);
        with_holes(&x.map(|v| v as f32), k);
    }
}
