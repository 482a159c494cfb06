//! Principal components as users ask for them, and rotations of loadings.

use elbo::data::files::{ReadOptions, read};
use elbo::fit::StopReason;
use elbo::rotation::{Promax, Varimax};
use elbo::{Error, FactorAnalysis, Pca, Ppca};
use nalgebra::{DMatrix, DVector};
use proptest::prelude::*;
use rand::{SeedableRng, rngs::Xoshiro256PlusPlus as Generator};

fn table(name: &str) -> DMatrix<f64> {
    read::<f64>(
        format!("{}/../examples/data/{name}.csv.gz", env!("CARGO_MANIFEST_DIR")),
        &ReadOptions::default().label("label"),
    )
    .unwrap()
    .values
}

fn normal(rows: usize, columns: usize, seed: u64) -> DMatrix<f64> {
    let mut rng = Generator::seed_from_u64(seed);
    DMatrix::from_fn(rows, columns, |_, _| elbo::Real::standard_normal(&mut rng))
}

#[test]
fn variances_ratios_and_divisors() {
    let x = table("iris");
    let (d, n) = x.shape();
    // numpy: eigvalsh(cov(iris, bias=True)).
    let expected = [
        4.200_053_427_994_632,
        0.241_052_942_942_442_45,
        0.077_688_103_375_966_36,
        0.023_676_192_353_627_116,
    ];
    let pca = Pca::fit(4, &x).unwrap();
    for (found, expected) in pca.model.explained_variance().iter().zip(expected) {
        assert!((found - expected).abs() < 1e-9, "{found} {expected}");
    }
    assert!(
        (pca.model.explained_variance_unbiased() * ((n - 1) as f64 / n as f64)
            - pca.model.explained_variance())
        .amax()
            < 1e-14
    );
    assert!((pca.model.explained_variance_ratio().sum() - 1.0).abs() < 1e-14);
    let first = Pca::fit(1, &x).unwrap();
    assert!(
        (first.model.explained_variance_ratio()[0] - expected[0] / expected.iter().sum::<f64>())
            .abs()
            < 1e-12,
        "of the total, at k = 1 too"
    );
    assert!(
        (pca.model.loadings() * pca.model.loadings().transpose()
            - pca.model.components()
                * DMatrix::from_diagonal(&pca.model.explained_variance())
                * pca.model.components().transpose())
        .amax()
            < 1e-12
    );
    assert_eq!(
        pca.model
            .components()
            .column(2)
            .iter()
            .fold(0.0f64, |a, &b| if b.abs() > a.abs() { b } else { a })
            .signum(),
        1.0
    );
    let model = Ppca::fit(2, &x).unwrap().model.pca(n).unwrap();
    let two = Pca::fit(2, &x).unwrap();
    assert!(
        (model.components() - two.model.components()).amax() < 1e-12
            && (model.explained_variance() - two.model.explained_variance()).amax() < 1e-12
    );
    assert!(
        (model.explained_variance_ratio() - two.model.explained_variance_ratio()).amax() < 1e-12
    );
    assert_eq!(d, pca.model.mean().len());
}

#[test]
fn distances_divide_the_squared_length() {
    let x = table("wine");
    let n = x.ncols();
    let pca = Pca::fit(3, &x).unwrap();
    let distances = pca.model.outlier_distances(&x).unwrap();
    // Σ T² = nk, and Σ Q = n Σ_{j>k} λ_j, over the data of the fit.
    assert!((distances.t_squared.sum() / (3 * n) as f64 - 1.0).abs() < 1e-10);
    let residual = (&x - pca.model.reconstruct(&x).unwrap()).norm_squared();
    assert!((distances.squared_prediction_error.sum() - residual).abs() < 1e-9 * residual);
    let ppca = Ppca::fit(3, &x).unwrap();
    let under_model = ppca.model.squared_mahalanobis(&x).unwrap();
    let sum =
        distances.t_squared + distances.squared_prediction_error / ppca.model.noise_variance();
    assert!((&under_model - sum).amax() < 1e-8 * under_model.amax());
    assert!((under_model.mean() - 13.0).abs() < 1e-9, "at the maximum the mean distance is d");
    let errors = ppca.model.reconstruction_error(&x).unwrap();
    assert!(
        (errors.sum() - (&x - ppca.model.reconstruct(&x).unwrap()).norm_squared()).abs()
            < 1e-8 * errors.sum()
    );
    // An outlier of each kind.
    let mut odd = x.column(0).into_owned();
    odd += pca.model.components().column(0) * 1e5;
    let far = pca.model.outlier_distances(&DMatrix::from_columns(&[odd])).unwrap();
    assert!(far.t_squared[0] > 1e3 && far.squared_prediction_error[0] < 100.0);
}

#[test]
fn varimax_agrees_with_scikit_learn_and_is_a_maximum() {
    let reference: serde_json::Value =
        serde_json::from_str(include_str!("../reference/factor_analysis.json")).unwrap();
    let matrix = |name: &str| {
        let rows: Vec<Vec<f64>> =
            serde_json::from_value(reference["varimax"][name].clone()).unwrap();
        DMatrix::from_fn(rows.len(), rows[0].len(), |i, j| rows[i][j])
    };
    let (loadings, rotated) = (matrix("loadings"), matrix("rotated"));
    let rotated = if rotated.shape() == loadings.shape() { rotated } else { rotated.transpose() };
    let found =
        Varimax { normalize: false, ..Varimax::default() }.rotate(loadings.as_view()).unwrap();
    assert_eq!(found.stop, StopReason::Converged);
    // Up to the order and the signs of the columns.
    let overlap = found.loadings.transpose() * &rotated;
    let lengths = |m: &DMatrix<f64>, j: usize| m.column(j).norm();
    for i in 0..3 {
        let best = (0..3)
            .map(|j| overlap[(i, j)].abs() / lengths(&found.loadings, i) / lengths(&rotated, j))
            .fold(0.0, f64::max);
        assert!((best - 1.0).abs() < 1e-6, "{}{rotated}", found.loadings);
    }
    let value = |l: &DMatrix<f64>| -> f64 {
        let d = l.nrows() as f64;
        l.column_iter()
            .map(|c| c.iter().map(|v| v.powi(4)).sum::<f64>() / d - (c.norm_squared() / d).powi(2))
            .sum()
    };
    assert!((found.criterion - value(&found.loadings)).abs() < 1e-12);
    for seed in 0..200 {
        let turned = &loadings * normal(3, 3, seed).qr().q();
        assert!(value(&turned) <= found.criterion + 1e-12);
    }
}

#[test]
fn a_rotated_model_is_the_same_model() {
    let x = table("wine");
    let fit = FactorAnalysis::fit(3, &x).unwrap();
    let rotation = Varimax::default().rotate(fit.model.loadings()).unwrap();
    let rotated = fit.model.rotated(&rotation).unwrap();
    assert!(
        (rotated.log_likelihood(&x).unwrap() - fit.model.log_likelihood(&x).unwrap()).amax() < 1e-8
    );
    assert!((rotated.loadings() - rotation.loadings).amax() < 1e-9);
    assert!(
        (rotated.transform(&x).unwrap()
            - rotation.rotation.transpose() * fit.model.transform(&x).unwrap())
        .amax()
            < 1e-9
    );
    let oblique = Promax::default().rotate(fit.model.loadings()).unwrap();
    assert!(matches!(fit.model.rotated(&oblique), Err(Error::InvalidParameter { .. })));
    let standardized = fit.model.standardized_loadings();
    let oblique = Promax::default().rotate(standardized.as_view()).unwrap();
    let again = &oblique.loadings * &oblique.factor_correlations * oblique.loadings.transpose();
    let common = &standardized * standardized.transpose();
    assert!((again - &common).amax() < 1e-8 * common.amax());
    assert!(oblique.factor_correlations.diagonal().iter().all(|v| (v - 1.0).abs() < 1e-9));
}

#[test]
fn oblique_factors_that_nearly_coincide_still_have_variance_one() {
    // Loadings in the variables' own units, over three orders of magnitude: promax makes
    // correlations close to ±1 of them.
    let loadings = Pca::fit(12, &table("wine")).unwrap().model.loadings();
    let found = Promax::default().rotate(loadings.as_view()).unwrap();
    let off = found.factor_correlations.diagonal().map(|v| (v - 1.0).abs()).max();
    assert!(off < 1e-6, "{off}");
}

#[test]
fn what_has_no_components_is_refused_by_name() {
    let x = normal(4, 3, 1);
    assert!(matches!(Pca::fit(3, &x), Err(Error::LatentDim { latent_dim: 3, largest: 2, .. })));
    assert!(matches!(Pca::fit(0, &x), Err(Error::LatentDim { .. })));
    let pca = Pca::fit(2, &x).unwrap();
    assert!(
        pca.model.transform(&normal(3, 2, 1)).is_err()
            && pca.model.unwhiten(&normal(3, 2, 1)).is_err()
            && pca.model.inverse_transform(&normal(1, 2, 1)).is_err()
    );
    assert!(matches!(
        Varimax::default().rotate(DMatrix::<f64>::zeros(0, 2).as_view()),
        Err(Error::Empty { .. })
    ));
    assert!(Varimax::default().rotate(DMatrix::from_element(2, 2, f64::NAN).as_view()).is_err());
    assert!(
        Varimax::default().rotate(DMatrix::<f64>::zeros(3, 2).as_view()).unwrap().loadings.amax()
            == 0.0
    );
    assert!(matches!(
        Promax::default().rotate(DMatrix::<f64>::zeros(3, 2).as_view()),
        Err(Error::NotPositiveDefinite { size: 2 })
    ));
    assert!(matches!(
        Promax { power: 1.0, ..Promax::default() }.rotate(x.as_view()),
        Err(Error::InvalidParameter { .. })
    ));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whitening_whitens_and_comes_back(d in 1usize..7, n in 8usize..30, seed in 0u64..1000) {
        let mut x = normal(d, n, seed);
        for (j, mut row) in x.row_iter_mut().enumerate() {
            row *= 10f64.powi(j as i32 % 5 - 2);
            row.add_scalar_mut(3.0);
        }
        let pca = Pca::fit(d, &x).unwrap();
        let z = pca.model.whiten(&x).unwrap();
        prop_assert!((&z * z.transpose() / n as f64 - DMatrix::identity(d, d)).amax() < 1e-9);
        prop_assert!((pca.model.unwhiten(&z).unwrap() - &x).amax() < 1e-10 * x.amax());
        let single = Pca::<f32>::fit(d, &x.map(|v| v as f32)).unwrap();
        let back = single.model.unwhiten(&single.model.whiten(&x.map(|v| v as f32)).unwrap()).unwrap();
        prop_assert!((back.map(f64::from) - &x).amax() < 1e-5 * x.amax());
    }

    #[test]
    fn varimax_undoes_any_rotation(d in 3usize..9, k in 1usize..5, seed in 0u64..1000) {
        // Perfect simple structure: each variable on one factor.
        let simple = DMatrix::from_fn(d, k, |i, j| if i % k == j { 1.0 + i as f64 } else { 0.0 });
        prop_assume!(d >= 2 * k);
        let turned = &simple * normal(k, k, seed).qr().q();
        let found = Varimax::default().rotate(turned.as_view()).unwrap();
        prop_assert_eq!(found.stop, StopReason::Converged);
        let nonzero = found.loadings.iter().filter(|l| l.abs() > 1e-6).count();
        prop_assert_eq!(nonzero, d);
        prop_assert!((&turned * &found.rotation - &found.loadings).amax() < 1e-10);
        prop_assert!((found.rotation.transpose() * &found.rotation - DMatrix::identity(k, k)).amax() < 1e-10);
        prop_assert!(DVector::from_iterator(k, found.loadings.column_iter().map(|c| -c.norm_squared())).as_slice().is_sorted());
    }
}

/// A thousand sweeps of 70,000 pairs took 46 s: only d columns need not be 0.
#[test]
fn varimax_of_more_factors_than_variables() {
    let loadings = normal(4, 375, 3);
    let found = Varimax::default().rotate(loadings.as_view()).unwrap();
    assert_eq!(found.stop, StopReason::Converged);
    assert!(found.sweeps < 100, "{}", found.sweeps);
    let identity = DMatrix::<f64>::identity(375, 375);
    assert!((found.rotation.tr_mul(&found.rotation) - identity).amax() < 1e-12);
    assert!((&loadings * &found.rotation - &found.loadings).amax() < 1e-11);
    let common = &loadings * loadings.transpose();
    assert!(
        (&found.loadings * found.loadings.transpose() - &common).amax() < 1e-10 * common.amax()
    );
}
