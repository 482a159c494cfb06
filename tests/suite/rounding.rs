//! Data that rounding could spoil: columns that are constant but for rounding, single precision
//! beside an offset, transposed tables.

use crate::support::{case, permuted};
use elbo::data::{Centering, Chunks, Moments, ScatterFactor, Standardization};
use elbo::fit::{ExpectationMaximization, PxEm};
use elbo::linalg::Solver;
use elbo::steps::ModelKind;
use elbo::{
    AmortizedPpca, Error, FactorAnalysis, IntoObservations, LinearAutoencoder, Pca, Ppca, Real,
};
use nalgebra::DMatrix;
use rand::{SeedableRng, rngs::StdRng};

const SOLVERS: [Solver; 6] = [
    Solver::Auto,
    Solver::Covariance,
    Solver::Gram,
    Solver::Full,
    Solver::Krylov,
    Solver::Randomized { oversampling: 4, power_iterations: 4 },
];

/// The figures of tests/cases/offset_f32.csv, two variables near 2²², by numpy in double precision.
const OFFSET: [f64; 2] = [3.833_028_62, 0.035_026_94];

fn offset() -> DMatrix<f32> {
    case("offset_f32.csv").map(|v| v as f32)
}

/// A time in seconds, a day apart, beside two signals: λ by numpy, on the values rounded to `f32`.
fn seconds() -> DMatrix<f32> {
    DMatrix::from_fn(3, 40, |j, i| {
        let i = i as f64;
        let value = match j {
            0 => 1.7e9 + i * 86400.0,
            1 => (i * 0.7).sin() * 2.0 + 0.3 * (i * 2.1).cos(),
            _ => -(i * 0.7).sin() + 0.4 * (i * 1.3 + 1.0).sin(),
        };
        value as f32
    })
}

fn near(found: f64, right: f64, tolerance: f64, what: &str) {
    assert!((found / right - 1.0).abs() < tolerance, "{what}: {found} beside {right}");
}

#[test]
fn every_solver_finds_the_variances_beside_an_offset_in_single_precision() {
    let x = offset();
    for solver in SOLVERS {
        let what = format!("{solver:?}");
        let pca = Pca::builder(2).fitter(solver).fit(&x).unwrap().model;
        for (found, right) in pca.explained_variance().iter().zip(OFFSET) {
            near(f64::from(*found), right, 2e-6, &what);
        }
        let rng = &mut StdRng::seed_from_u64(0);
        let ppca = Ppca::builder(1).fitter(solver).fit(&x, rng).unwrap().model;
        near(f64::from(ppca.noise_variance()), OFFSET[1], 2e-6, &what);
        for floor in [1e-8, 1e-4, 1e-2] {
            let ppca = Ppca::builder(1).fitter(solver).noise_floor(floor).fit(&x, rng).unwrap();
            near(f64::from(ppca.model.noise_variance()), OFFSET[1].max(floor * 1.934), 1e-3, &what);
            // -1.9093 about the mean that single precision stores, by numpy.
            let score = ppca.model.score(&x).unwrap();
            assert!((score + 1.9093).abs() < 2e-3, "{what}: {score}");
        }
    }
}

#[test]
fn every_entry_point_agrees_beside_an_offset() {
    let x = offset();
    let rng = &mut StdRng::seed_from_u64(1);
    let (sigma, moments) = (OFFSET[1], Moments::of(&x).unwrap());
    let check = |found: f32, what: &str| near(f64::from(found), sigma, 3e-6, what);
    check(Ppca::<f32>::fit(1, &moments).unwrap().model.noise_variance(), "moments");
    let em = Ppca::builder(1).fitter(ExpectationMaximization::default());
    for em in [em, em.noise_floor(1e-6)] {
        let fit = em.fit(&x, rng).unwrap().model;
        near(f64::from(fit.noise_variance()), sigma, 1e-3, "EM");
    }
    let px = Ppca::builder(1).fitter(PxEm::default()).fit(&x, rng).unwrap().model;
    // Iterative fits end within their tolerance in nats.
    near(f64::from(px.noise_variance()), sigma, 1e-3, "parameter-expanded EM");
    near(f64::from(px.explained_variance().unwrap()[0]), OFFSET[0], 1e-3, "EM");
    let chunk = |c: usize| Ok::<_, Error>(x.columns(2 * c, 2).into_owned());
    let mut source = Chunks::new(2, || (0..3).map(chunk));
    check(Ppca::<f32>::fit(1, &mut source).unwrap().model.noise_variance(), "source");
    let pca = Pca::<f32>::fit(2, &mut source).unwrap().model;
    check(pca.explained_variance()[1], "PCA of a source");
    check(Pca::<f32>::fit(2, &moments).unwrap().model.explained_variance()[1], "PCA of moments");
    // The scores are centred, whatever the stored mean.
    let z = Pca::fit(2, &x).unwrap().model.whiten(&x).unwrap().map(f64::from);
    assert!(z.column_mean().amax() < 1e-6 && (z.row(1).norm_squared() / 6.0 - 1.0).abs() < 1e-5);
    let factor = ScatterFactor::of((&x).into_observations().unwrap(), Centering::Mean).unwrap();
    near(factor.eigenvalues().unwrap()[1], sigma, 1e-7, "scatter factor");
}

#[test]
fn a_time_in_seconds_does_not_hide_the_signals_beside_it() {
    let x = seconds();
    let pca = Pca::fit(3, &x).unwrap().model.explained_variance();
    let right = [9.947_059_20e11, 2.559_600_33, 7.577_189_78e-2];
    assert!((f64::from(pca[0]) / right[0] - 1.0).abs() < 1e-6);
    // Beyond 1e-7 of the largest, the components lie where the loadings in f32 end.
    for k in [1, 2] {
        let floor = Ppca::builder(k).noise_floor(1e-16);
        let fit = floor.fit(&x, &mut StdRng::seed_from_u64(0)).unwrap().model;
        let score = fit.score(&x).unwrap();
        assert!(score > [-18.4, -17.4][k - 1], "{k}: {score}");
    }
}

/// Where the variance left is below the rounding of the stored mean, each fit with an encoder or a
/// noise variance refuses the data with one error.
#[test]
fn what_single_precision_cannot_hold_is_refused_by_name() {
    let x = offset();
    let rng = &mut StdRng::seed_from_u64(2);
    let expect = |error: Error, what: &str| {
        assert!(
            matches!(error, Error::Offset { variable: 0, precision: "f32", spacing: 0.5, .. }),
            "{what}: {error}"
        );
        let said = error.to_string();
        assert!(
            said.contains("f32") && said.contains("subtract") && said.contains("f64"),
            "{said}"
        );
    };
    // Encoders compute Vx − Vμ, two numbers near 4·10⁶ whose difference is a code.
    let amortized = AmortizedPpca::<f32>::builder(1).fit(&x, rng);
    expect(amortized.map(drop).unwrap_err(), "amortised");
    expect(LinearAutoencoder::fit(2, &x).map(drop).unwrap_err(), "autoencoder");
    let by_name = ModelKind::AmortizedLinearDiagonal;
    expect(by_name.fit(1, &x, rng).map(drop).unwrap_err(), "by name");
    // An exact identity, and a mean that is no number of f32: the noise is that of the stored mean.
    let identity =
        DMatrix::from_fn(2, 5, |j, i| 4_194_304.0f32 + (i * i) as f32 * (0.5 + j as f32));
    let floor = Ppca::builder(1).noise_floor(1e-8);
    for x in [identity.clone(), identity.add_scalar(1.0)] {
        let fit = floor.fit(&x, rng).unwrap().model;
        let score = fit.score(&x).unwrap();
        assert!(score > -12.0, "{score}");
        assert!(matches!(Ppca::fit(1, &x), Err(Error::Unbounded { latent_dim: 1, rank: 1 })));
    }
    // The same data in double precision are an exact identity.
    let wide = identity.map(f64::from);
    let fit = floor_of(&wide);
    assert!(fit < 1e-6, "{fit}");
}

fn floor_of(x: &DMatrix<f64>) -> f64 {
    let rng = &mut StdRng::seed_from_u64(2);
    Ppca::builder(1).noise_floor(1e-8).fit(x, rng).unwrap().model.noise_variance()
}

fn constants_are_constant<T: Real>() {
    let x = case("nearly_constant.csv").map(T::of);
    let control = case("constant.csv").map(T::of);
    let standardised = |x: &DMatrix<T>| Standardization::fit(x).unwrap().transform(x).unwrap();
    let (z, right) = (standardised(&x), standardised(&control));
    assert!((&z - &right).amax().as_f64() < 1e-6);
    let error = |z: &DMatrix<T>| LinearAutoencoder::fit(2, z).unwrap().model.squared_error(z);
    assert!((error(&z).unwrap() - error(&right).unwrap()).as_f64().abs() < 1e-4);
}

#[test]
fn a_column_that_is_constant_but_for_rounding_is_constant() {
    constants_are_constant::<f64>();
    constants_are_constant::<f32>();
    let x = case("nearly_constant.csv");
    let constant = (0..x.nrows()).find(|&j| x.row(j).variance() < 1e-20).unwrap();
    // A total of percentages, and a column of scale 10⁻²⁰.
    for (value, is_constant) in [(100.0, true), (0.0, false)] {
        let mut x = x.clone();
        for (i, v) in x.row_mut(constant).iter_mut().enumerate() {
            let unit = if is_constant { 1.421e-14 } else { 1e-20 };
            *v = value + (i as f64 * 0.7).sin().round() * unit;
        }
        let z = Standardization::fit(&x).unwrap().transform(&x).unwrap();
        let variance = z.row(constant).variance();
        let right = if is_constant { 0.0 } else { 1.0 };
        assert!((variance - right).abs() < 1e-12, "{variance}");
    }
}

#[test]
fn errors_of_a_transposed_table_mention_the_orientation() {
    let x = permuted(&case("offset_f32.csv").map(|v| v % 16.0), &[0, 1, 2, 3, 4, 5]);
    let model = Ppca::fit(1, &x).unwrap().model;
    let errors = [
        model.transform(&DMatrix::from_element(6, 2, 1.0)).unwrap_err(),
        Ppca::fit(3, &x).unwrap_err(),
        Ppca::fit(1, &DMatrix::from_element(3, 1, 1.0)).unwrap_err(),
        Ppca::fit(1, &DMatrix::from_element(3, 4, 1.0)).unwrap_err(),
        FactorAnalysis::fit(1, &DMatrix::from_element(3, 1, 1.0)).unwrap_err(),
    ];
    for error in errors {
        assert!(error.to_string().contains("is the table transposed?"), "{error}");
    }
    // Another number of variables that is no sign of it.
    let other = model.transform(&DMatrix::from_element(6, 3, 1.0)).unwrap_err();
    assert!(!other.to_string().contains("transposed"), "{other}");
}
