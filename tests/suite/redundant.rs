//! The choice of k for tables with redundant variables, which say nothing new.

use crate::support::case;
use elbo::Real;
use elbo::selection::{BayesianPpca, Criterion, Selection, Spectrum};
use nalgebra::DMatrix;
use rand::{SeedableRng, rngs::Xoshiro256PlusPlus as Generator};

// Held-out likelihood has tables of its own: the rows of tests/cases follow cosines, so that a part
// of them is no sample of the rest.
const CRITERIA: [Criterion; 3] = [Criterion::Laplace, Criterion::Bic, Criterion::Ard];

/// The table with one variable more, a function of the others.
fn with(x: &DMatrix<f64>, of: impl Fn(usize) -> f64) -> DMatrix<f64> {
    let d = x.nrows();
    let mut more = x.clone().insert_row(d, 0.0);
    (0..x.ncols()).for_each(|i| more[(d, i)] = of(i));
    more
}

fn normal(d: usize, n: usize, seed: u64) -> DMatrix<f64> {
    let rng = &mut Generator::seed_from_u64(seed);
    DMatrix::from_fn(d, n, |_, _| f64::standard_normal(rng))
}

fn chosen(x: &DMatrix<f64>, criterion: Criterion) -> usize {
    Selection::ppca(x, criterion).unwrap().latent_dim
}

#[test]
fn a_variable_that_says_nothing_new_does_not_change_the_choice() {
    let plain = case("redundant_plain.csv");
    let sum = |i: usize| plain.column(i).sum();
    let mut tables: Vec<(String, DMatrix<f64>)> = ["plain", "constant", "copy", "total", "unit"]
        .map(|name| (name.to_string(), case(&format!("redundant_{name}.csv"))))
        .to_vec();
    tables.push(("zeros".into(), with(&plain, |_| 0.0)));
    tables.push(("two constants".into(), with(&with(&plain, |_| 7.0), |_| -3.0)));
    tables.push(("mean".into(), with(&plain, |i| plain.column(i).mean())));
    for decimals in [1, 2, 3, 6] {
        let unit = 10f64.powi(decimals);
        let rounded = with(&plain, |i| (sum(i) * unit).round() / unit);
        tables.push((format!("total to {decimals} decimals"), rounded));
    }
    for size in [1e-3, 1e-6] {
        let nearly = with(&plain, |i| 5.0 + size * (1.7 * i as f64).sin());
        tables.push((format!("constant but for {size}"), nearly));
    }
    let mut unit = plain.clone();
    unit.row_mut(2).scale_mut(1e-3);
    tables.push(("a larger unit".into(), unit));
    for (name, x) in &tables {
        for criterion in CRITERIA {
            assert_eq!(chosen(x, criterion), 2, "{name}: {criterion:?}");
            let single = Selection::ppca(&x.map(|v| v as f32), criterion).unwrap();
            assert_eq!(single.latent_dim, 2, "{name} in f32: {criterion:?}: {single}");
        }
        assert_eq!(BayesianPpca::fit(x).unwrap().model.latent_dim(), 2, "{name}");
    }
}

#[test]
fn held_out_likelihood_sees_redundant_variables_too() {
    let held_out = Criterion::HeldOut { folds: 10 };
    for seed in 0..5 {
        let rng = &mut Generator::seed_from_u64(seed);
        let loadings = DMatrix::from_row_slice(
            6,
            2,
            &[2.0, 0.0, 1.5, 0.5, 1.0, -1.0, 0.0, 2.0, 0.5, 1.5, -1.0, 1.0],
        );
        let model = elbo::Ppca::from_parameters(loadings, nalgebra::DVector::zeros(6), 0.3);
        let x = model.unwrap().sample(200, rng);
        assert_eq!(chosen(&x, held_out), 2, "seed {seed}");
        assert_eq!(chosen(&with(&x, |_| 7.0), held_out), 2, "seed {seed}");
        // A copy and a total double some of the noise: a direction more may be real.
        let total = with(&x, |i| x.column(i).sum());
        let rounded = with(&x, |i| (x.column(i).sum() * 10.0).round() / 10.0);
        for (table, left_out) in
            [(with(&x, |i| x[(0, i)]), (1, 0)), (total, (1, 0)), (rounded, (0, 1))]
        {
            let found = Selection::ppca(&table, held_out).unwrap();
            assert!(found.latent_dim >= 2 && !found.at_edge(), "{seed}: {found}");
            assert_eq!((found.redundant, found.near_identities), left_out, "seed {seed}");
            let single = Selection::ppca(&table.map(|v| v as f32), held_out).unwrap();
            assert_eq!(single.latent_dim, found.latent_dim, "seed {seed}, f32: {single}");
        }
    }
}

#[test]
fn what_was_left_out_is_reported() {
    let plain = case("redundant_plain.csv");
    let constant = Selection::ppca(&case("redundant_constant.csv"), Criterion::Bic).unwrap();
    assert_eq!((constant.redundant, constant.near_identities), (1, 0));
    assert!(constant.to_string().contains("1 dimensions without variance"), "{constant}");
    let rounded = with(&plain, |i| (plain.column(i).sum() * 10.0).round() / 10.0);
    for criterion in CRITERIA {
        let found = Selection::ppca(&rounded, criterion).unwrap();
        assert_eq!((found.redundant, found.near_identities), (0, 1), "{criterion:?}");
        assert!(found.to_string().contains("near-identities"), "{found}");
        assert!(!found.at_edge());
    }
    let same = Selection::ppca(&plain, Criterion::Bic).unwrap();
    assert_eq!((same.redundant, same.near_identities), (0, 0));
}

#[test]
fn independent_variables_and_their_mean_have_no_latent_dimension() {
    let x = normal(9, 200, 3);
    let more = with(&x, |i| x.column(i).mean());
    for criterion in [Criterion::Laplace, Criterion::Bic, Criterion::Ard] {
        assert_eq!(chosen(&more, criterion), chosen(&x, criterion), "{criterion:?}");
        assert_eq!(chosen(&more, criterion), 0, "{criterion:?}");
    }
    assert!(BayesianPpca::fit(&more).is_err());
}

#[test]
fn eigenvalues_of_zero_are_no_noise() {
    for criterion in [Criterion::Laplace, Criterion::Bic] {
        let of = |data_dim| {
            let spectrum = Spectrum::from_eigenvalues(&[4.0, 1.0, 1.0], data_dim, 100).unwrap();
            spectrum.choose(criterion).unwrap()
        };
        let (three, four) = (of(3), of(4));
        assert_eq!((three.latent_dim, four.latent_dim), (1, 1), "{criterion:?}");
        assert_eq!(three.scores, four.scores);
        assert_eq!((three.redundant, four.redundant), (0, 1));
    }
}

/// With fewer observations than variables the rank is that of the observations: only constant
/// variables are known to be redundant.
#[test]
fn constants_among_more_variables_than_observations() {
    let mut x = normal(30, 12, 5);
    let factor = normal(1, 12, 6);
    for mut row in x.row_iter_mut() {
        row *= 0.3;
        row += 3.0 * &factor.row(0);
    }
    let more = with(&with(&x, |_| 7.0), |_| 0.1);
    for criterion in
        [Criterion::Laplace, Criterion::Bic, Criterion::Ard, Criterion::HeldOut { folds: 4 }]
    {
        let (a, b) =
            (Selection::ppca(&x, criterion).unwrap(), Selection::ppca(&more, criterion).unwrap());
        assert_eq!(a.latent_dim, b.latent_dim, "{criterion:?}");
        assert_eq!((a.redundant, b.redundant), (0, 2), "{criterion:?}");
    }
}

/// Signals far above the noise are signals: the largest k that was tried is not the best, or no
/// interior choice is left without the direction below the gap.
#[test]
fn strong_signals_are_not_taken_for_independent_variables() {
    for (eigenvalues, k) in [
        (vec![100.0, 90.0, 80.0, 0.01, 0.01, 0.01], 3),
        (vec![10.0, 10.0, 10.0, 0.001], 3),
        (vec![10.0, 8.0, 0.001, 0.001, 0.001], 2),
    ] {
        let spectrum = Spectrum::from_eigenvalues(&eigenvalues, eigenvalues.len(), 200).unwrap();
        for criterion in [Criterion::Laplace, Criterion::Bic] {
            let found = spectrum.choose(criterion).unwrap();
            assert_eq!((found.latent_dim, found.near_identities), (k, 0), "{eigenvalues:?}");
        }
    }
}

#[test]
fn the_edge_is_reported() {
    let eigenvalues: Vec<f64> = (0..8).map(|j| 0.4f64.powi(j)).collect();
    let found =
        Spectrum::from_eigenvalues(&eigenvalues, 8, 1000).unwrap().choose(Criterion::Bic).unwrap();
    assert!(found.at_edge() && found.latent_dim == 7, "{found}");
    assert!(found.to_string().contains("the largest that was tried"), "{found}");
}

#[test]
fn relevance_determination_agrees_with_its_model() {
    for seed in 0..20 {
        let mut x = normal(25, 60, seed);
        for (j, mut row) in x.row_iter_mut().enumerate() {
            row *= 1.0 / (1.0 + j as f64 / 5.0);
        }
        let chosen = chosen(&x, Criterion::Ard);
        let model = BayesianPpca::fit(&x).map_or(0, |fit| fit.model.latent_dim());
        assert_eq!(chosen, model, "seed {seed}");
    }
}

#[test]
fn shares_of_the_variance_and_parallel_analysis() {
    let x = case("redundant_plain.csv");
    let spectrum =
        Spectrum::of(elbo::Observations::new(x.as_view()).unwrap(), elbo::data::Centering::Mean)
            .unwrap();
    let values = spectrum.eigenvalues();
    let total: f64 = values.iter().sum();
    for k in 1..=5 {
        let share: f64 = values[..k].iter().sum::<f64>() / total;
        let found = Selection::variance_share(&x, share.min(1.0)).unwrap();
        assert_eq!(found.latent_dim, k, "the boundary belongs to k");
        assert!((found.scores[k].1 - share).abs() < 1e-12);
    }
    for share in [0.0, -1.0, 1.1, f64::NAN] {
        assert!(Selection::variance_share(&x, share).is_err());
    }
    assert_eq!(
        Selection::variance_share(&case("redundant_constant.csv"), 1.0).unwrap().latent_dim,
        5
    );
    let parallel = |x: &DMatrix<f64>, seed| {
        Selection::parallel_analysis(x, &mut Generator::seed_from_u64(seed)).unwrap()
    };
    for name in ["plain", "constant", "copy", "unit", "total"] {
        let found = parallel(&case(&format!("redundant_{name}.csv")), 1);
        assert_eq!(found.latent_dim, 2, "{name}: {:?}", found.scores);
    }
    assert_eq!(parallel(&x, 7), parallel(&x, 7), "seeded");
    assert_eq!(parallel(&normal(6, 500, 11), 1).latent_dim, 0, "0 is an answer");
}
