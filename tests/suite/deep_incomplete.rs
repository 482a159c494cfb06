//! Deep models on incomplete data: against the exact linear model where the decoder is linear, and
//! on tables with missing entries.

use elbo::data::{Incomplete, IncompleteObservations};
use elbo::fit::StochasticGradient;
use elbo::inference::{Amortized, GaussianEncoder};
use elbo::likelihood::{
    DiagonalGaussian, DynLikelihood, Independent, IsotropicGaussian, LikelihoodKind, Poisson,
};
use elbo::map::{Linear, Mlp};
use elbo::objective::SampledBound;
use elbo::posterior::{Diagonal, Full};
use elbo::{Error, FactorAnalysis, Model, Ppca, Real, Vae};
use nalgebra::{DMatrix, dmatrix, dvector};
use rand::{RngExt, SeedableRng, rngs::Xoshiro256PlusPlus as Generator};

/// Observations of a factor model with 6 variables, of which a share is missing at random.
fn table<T: Real>(n: usize, share: f64, seed: u64) -> DMatrix<T> {
    let rng = &mut Generator::seed_from_u64(seed);
    let loadings = DMatrix::from_fn(6, 2, |j, m| ((j * 2 + m) as f64 * 1.3).sin() * 1.5);
    let mut x = DMatrix::zeros(6, n);
    for mut column in x.column_iter_mut() {
        let z = dvector![f64::standard_normal(rng), f64::standard_normal(rng)];
        let mean = &loadings * z;
        for (j, value) in column.iter_mut().enumerate() {
            *value = T::of(3.0 + mean[j] + 0.4 * f64::standard_normal(rng));
            if rng.random::<f64>() < share {
                *value = T::of(f64::NAN);
            }
        }
    }
    x
}

type LinearVae<T> =
    Model<T, Linear<T>, IsotropicGaussian<T>, Amortized<GaussianEncoder<Mlp<T>, Full<T>>>>;

/// A linear decoder with a random encoder that reads missing values: no good proposal, but one
/// under which estimates must still be right.
fn linear_vae<T: Real>() -> (LinearVae<T>, Ppca<T>) {
    let rng = &mut Generator::seed_from_u64(5);
    let exact = Ppca::from_parameters(
        dmatrix![1.0; 2.0; -0.5].map(T::of),
        dvector![0.3, 0.0, 1.0].map(T::of),
        T::of(0.6),
    )
    .unwrap();
    let encoder = Mlp::builder(3, 2).hidden(&[4]).missing_inputs().build(rng).unwrap();
    let inference = Amortized::new(GaussianEncoder::new(encoder, 1).unwrap());
    let model = Model::new(exact.decoder().clone(), *exact.likelihood(), inference).unwrap();
    (model, exact)
}

fn estimates_tend_to_the_exact_figures<T: Real>() {
    let (model, exact) = linear_vae::<T>();
    let missing = f64::NAN;
    let x = dmatrix![
        1.0, missing, 0.5, missing;
        missing, 1.5, 0.2, missing;
        0.3, missing, missing, missing]
    .map(T::of);
    let rng = &mut Generator::seed_from_u64(6);
    let completed = model.estimate_imputation(20_000, &x, rng).unwrap();
    let expected = exact.impute(&x).unwrap();
    assert!((completed.clone() - expected).amax().as_f64() < 0.05, "{completed}");
    let found = model.estimate_log_likelihood(20_000, &x, rng).unwrap();
    assert!(found.effective_samples.iter().all(|&worth| (1.0..=20_000.0).contains(&worth)));
    let found = found.log_likelihood;
    let expected = exact.log_likelihood(Incomplete(&x)).unwrap();
    for i in 0..4 {
        let (value, error) = (found.values()[i], found.errors()[i].max(1e-6));
        let apart = (value - expected[i].as_f64()).abs();
        assert!(apart < 4.0 * error && error < 0.05, "{i}: {value} ± {error}, {}", expected[i]);
    }
    // Without an observed entry: the likelihood is 1.
    assert!(found.values()[3].abs() < 4.0 * found.errors()[3].max(1e-6));
    // Multiple imputation has the conditional moments.
    let tables = model.sample_imputations(400, 200, &x, rng).unwrap();
    let moments = exact.conditional(&x).unwrap();
    for (j, i) in [(1, 0), (0, 1), (2, 2)] {
        let values: Vec<f64> = tables.iter().map(|t| t[(j, i)].as_f64()).collect();
        let mean = values.iter().sum::<f64>() / 400.0;
        let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / 399.0;
        let (m, v) = (moments.mean[(j, i)].as_f64(), moments.variance[(j, i)].as_f64());
        assert!((mean - m).abs() < 5.0 * (v / 400.0).sqrt() + 0.02, "{mean} {m}");
        assert!((variance / v - 1.0).abs() < 0.35, "{variance} {v}");
    }
    assert!(tables.iter().all(|t| t[(0, 0)] == T::one()));
}

#[test]
fn estimates_are_those_of_the_exact_model() {
    estimates_tend_to_the_exact_figures::<f64>();
    estimates_tend_to_the_exact_figures::<f32>();
}

#[test]
fn a_fit_fills_in_as_well_as_factor_analysis_where_that_is_right() {
    let truth = table::<f64>(200, 0.0, 1);
    let mut x = truth.clone();
    let rng = &mut Generator::seed_from_u64(2);
    x.iter_mut().for_each(|value| {
        if rng.random::<f64>() < 0.25 {
            *value = f64::NAN;
        }
    });
    let error = |completed: &DMatrix<f64>| {
        let squares = completed.zip_map(&truth, |a, b| (a - b) * (a - b));
        let count = x.iter().filter(|v| v.is_nan()).count() as f64;
        (squares.sum() / count).sqrt()
    };
    let linear = FactorAnalysis::builder(2).fit(Incomplete(&x), rng).unwrap().model;
    let by_linear = error(&linear.impute(&x).unwrap());
    let fitter = StochasticGradient { epochs: 40, learning_rate: 5e-3, ..Default::default() };
    let fitted = Vae::<f64, Diagonal<f64>, DiagonalGaussian<f64>>::builder(2)
        .hidden(&[16])
        .fitter(fitter)
        .objective(SampledBound::ImportanceWeighted { samples: 3 })
        .fit(Incomplete(&x), rng)
        .unwrap();
    let completed = fitted.model.estimate_imputation(500, &x, rng).unwrap();
    let by_deep = error(&completed);
    assert!(by_deep < 1.1 * by_linear, "{by_deep} {by_linear}");
    for (found, given) in completed.iter().zip(x.iter()) {
        assert!(given.is_nan() && found.is_finite() || found == given);
    }
    // The encoder reads the places of what is missing; the trace rises.
    assert!(fitted.trace.last() >= fitted.trace.values().first().copied());
    assert_eq!(fitted.model.transform(Incomplete(&x)).unwrap().shape(), (2, 200));
}

#[test]
fn counts_and_mixed_tables_have_holes_as_well() {
    let rng = &mut Generator::seed_from_u64(3);
    let mut x = DMatrix::from_fn(3, 60, |j, i| ((i % 5) * (j + 1)) as f64);
    x[(1, 4)] = f64::NAN;
    x[(0, 17)] = f64::NAN;
    // One batch an epoch.
    let fitter = StochasticGradient { epochs: 400, learning_rate: 1e-2, ..Default::default() };
    let counts = Independent::new(Poisson, 3).unwrap();
    let fitted = Vae::<f64, Diagonal<f64>, _>::builder_with(counts, 1)
        .hidden(&[8])
        .fitter(fitter)
        .fit(Incomplete(&x), rng)
        .unwrap();
    let completed = fitted.model.estimate_imputation(300, &x, rng).unwrap();
    assert!((completed[(1, 4)] - 8.0).abs() < 3.0, "{}", completed[(1, 4)]);
    let drawn = fitted.model.sample_imputations(3, 50, &x, rng).unwrap();
    assert!(drawn.iter().all(|t| t[(1, 4)] >= 0.0 && t[(1, 4)].fract() == 0.0));
    // A row of reals, one of categories, one of counts.
    let kinds: Vec<LikelihoodKind> = ["gaussian_per_variable", "categorical", "poisson"]
        .map(|name| name.parse().unwrap())
        .into();
    let mut mixed = DMatrix::from_fn(3, 60, |j, i| match j {
        0 => 100.0 + (i % 6) as f64 + 0.1 * (i % 7) as f64,
        1 => (i % 3) as f64,
        _ => (i % 6) as f64,
    });
    mixed[(1, 8)] = f64::NAN;
    mixed[(0, 9)] = f64::NAN;
    let likelihood = DynLikelihood::for_data(&kinds, mixed.as_view()).unwrap();
    let fitted = Vae::<f64, Diagonal<f64>, _>::builder_with(likelihood, 2)
        .hidden(&[8])
        .fitter(fitter)
        .fit(Incomplete(&mixed), rng)
        .unwrap();
    let first = fitted.trace.values()[0];
    assert!(fitted.trace.last().unwrap() > first, "{first} {:?}", fitted.trace.last());
    let completed = fitted.model.estimate_imputation(200, &mixed, rng).unwrap();
    assert!((completed[(0, 9)] - 103.0).abs() < 6.0, "{}", completed[(0, 9)]);
}

#[test]
fn what_cannot_be_read_is_an_error() {
    let mut x = table::<f64>(40, 0.0, 4);
    let rng = &mut Generator::seed_from_u64(4);
    let fitter = StochasticGradient { epochs: 3, ..Default::default() };
    let complete = Vae::<f64>::builder(1).hidden(&[4]).fitter(fitter).fit(&x, rng).unwrap().model;
    x[(2, 3)] = f64::NAN;
    let data = IncompleteObservations::new(x.as_view()).unwrap();
    assert!(matches!(complete.transform(data), Err(Error::Unsupported { .. })));
    let error = complete.estimate_imputation(10, &x, rng).unwrap_err();
    assert!(matches!(error, Error::Unsupported { .. }), "{error}");
    let zero = complete.estimate_imputation(0, &x, rng).unwrap_err();
    assert!(matches!(zero, Error::InvalidParameter { .. }));
    let short = x.rows(0, 3).into_owned();
    assert!(matches!(
        complete.estimate_imputation(5, &short, rng),
        Err(Error::DimensionMismatch { .. })
    ));
    let mut never = x.clone();
    never.row_mut(1).fill(f64::NAN);
    let builder = Vae::<f64>::builder(1).hidden(&[4]).fitter(fitter);
    assert!(matches!(
        builder.fit(Incomplete(&never), rng),
        Err(Error::NeverObserved { variable: 1, observations: 40 })
    ));
}
