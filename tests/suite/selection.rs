//! The choice of k: Minka's three experiments, invariances, and agreement of the criteria with
//! formulas written out.

use crate::support::VoidRng;
use elbo::data::Centering;
use elbo::data::files::{ReadOptions, read};
use elbo::selection::{BayesianPpca, Criterion, Selection, Spectrum};
use elbo::{Error, IntoObservations, Ppca};
use nalgebra::{DMatrix, DVector};
use proptest::prelude::*;
use rand::{SeedableRng, rngs::Xoshiro256PlusPlus as Generator};

fn normal(rows: usize, columns: usize, rng: &mut Generator) -> DMatrix<f64> {
    DMatrix::from_fn(rows, columns, |_, _| elbo::Real::standard_normal(rng))
}

const FROM_EIGENVALUES: [Criterion; 3] = [Criterion::Laplace, Criterion::Bic, Criterion::Ard];

/// How many of `repeats` data sets with five strong directions each criterion finds k = 5 in.
fn found_five(
    noise: &[f64],
    n: usize,
    repeats: usize,
    seed: u64,
    criteria: &[Criterion],
) -> Vec<f64> {
    let variances: Vec<f64> = [10.0, 8.0, 6.0, 4.0, 2.0].iter().chain(noise).copied().collect();
    let rng = &mut Generator::seed_from_u64(seed);
    let mut found = vec![0.0; criteria.len()];
    for _ in 0..repeats {
        let mut x = normal(variances.len(), n, rng);
        for (mut row, variance) in x.row_iter_mut().zip(&variances) {
            row *= variance.sqrt();
        }
        let spectrum = Spectrum::of((&x).into_observations().unwrap(), Centering::Mean).unwrap();
        for (count, &criterion) in found.iter_mut().zip(criteria) {
            let selection = match criterion {
                Criterion::HeldOut { .. } => Selection::ppca(&x, criterion),
                _ => spectrum.choose(criterion),
            };
            *count += f64::from(u8::from(selection.unwrap().latent_dim == 5));
        }
    }
    found
}

/// T. Minka, Automatic choice of dimensionality for PCA, NIPS 2000, its synthetic experiments:
/// sixty data sets each. The paper shows its counts as bars and says that the Laplace evidence is
/// "convincingly better" than its rivals; the rates below are of an independent program (numpy, the
/// formula of the paper without its shortcuts, k from 0 to below the rank, 3,000 data sets; 800 for
/// the third): Laplace 0.763, 0.624, 0.996; BIC 0.502, 0.000, 0.385. A count is allowed four
/// standard errors, and one more for the rates' own.
#[test]
fn minkas_three_experiments() {
    let repeats = 60;
    let experiments = [
        (vec![1.0; 5], 100, [0.763, 0.502]),
        (vec![0.1; 10], 10, [0.624, 0.0]),
        (vec![0.25; 95], 60, [0.996, 0.385]),
    ];
    for (number, (noise, n, rates)) in experiments.iter().enumerate() {
        let found = found_five(noise, *n, repeats, 2000 + number as u64, &FROM_EIGENVALUES);
        println!(
            "experiment {}: k = 5 found by Laplace, BIC, relevance determination in {found:?} of {repeats}",
            number + 1
        );
        for (count, rate) in found.iter().zip(rates) {
            let repeats = repeats as f64;
            let error = (repeats * rate * (1.0 - rate)).sqrt();
            assert!(
                (count - repeats * rate).abs() <= 4.0 * error + 1.0,
                "experiment {}: {count} where {rate} is expected",
                number + 1
            );
        }
        assert!(found[0] >= found[1], "the Laplace evidence is the better one");
    }
}

#[test]
fn held_out_likelihood_finds_five_where_there_are_data() {
    let found = found_five(&[1.0; 5], 100, 20, 7, &[Criterion::HeldOut { folds: 10 }]);
    println!("held out: {found:?} of 20");
    assert!(found[0] >= 8.0, "{found:?}");
    let found = found_five(&[0.25; 95], 60, 3, 7, &[Criterion::HeldOut { folds: 10 }]);
    println!("held out, n < d: {found:?} of 3");
    assert!(found[0] >= 2.0, "{found:?}");
}

#[test]
fn bic_and_held_out_scores_are_those_of_fitted_models() {
    let x = read::<f64>(
        concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/data/wine.csv.gz"),
        &ReadOptions::default().label("label"),
    )
    .unwrap()
    .values;
    let (d, n) = x.shape();
    let bic = Selection::ppca(&x, Criterion::Bic).unwrap();
    let held_out = Selection::ppca(&x, Criterion::HeldOut { folds: 3 }).unwrap();
    for k in 1..d {
        let parameters = (d * k - k * (k - 1) / 2 + 1 + d) as f64;
        let score = Ppca::fit(k, &x).unwrap().model.log_likelihood(&x).unwrap().sum()
            - 0.5 * parameters * (n as f64).ln();
        assert!(
            (bic.scores[k].1 - score).abs() < 1e-8 * score.abs(),
            "{k}: {} {score}",
            bic.scores[k].1
        );
        let mut total = 0.0;
        for fold in 0..3 {
            let (test, training): (Vec<usize>, Vec<usize>) = (0..n).partition(|i| i % 3 == fold);
            let model = Ppca::fit(k, &x.select_columns(&training)).unwrap();
            total += model.model.log_likelihood(&x.select_columns(&test)).unwrap().sum();
        }
        assert!(
            (held_out.scores[k].1 - total).abs() < 1e-7 * total.abs(),
            "{k}: {} {total}",
            held_out.scores[k].1
        );
    }
    // k = 0 is isotropic noise.
    let variance = Ppca::fit(1, &x).unwrap().model.likelihood().noise_variance();
    assert!(variance > 0.0 && bic.scores[0].1 < bic.scores[1].1);
}

/// The formula as it stands in the paper, with its double product.
#[test]
fn laplace_evidence_is_the_papers() {
    let (d, n) = (6, 40);
    let l = [5.0, 3.0, 1.0, 0.5, 0.4, 0.3];
    let spectrum = Spectrum::from_eigenvalues(&l, d, n).unwrap();
    // ln Γ(m/2), m = 1 … 6.
    let gammas = [
        std::f64::consts::PI.sqrt(),
        1.0,
        std::f64::consts::PI.sqrt() / 2.0,
        1.0,
        std::f64::consts::PI.sqrt() * 0.75,
        2.0,
    ]
    .map(f64::ln);
    let selection = spectrum.choose(Criterion::Laplace).unwrap();
    for k in 0..d {
        let v = l[k..].iter().sum::<f64>() / (d - k) as f64;
        let hat = |j: usize| if j < k { l[j] } else { v };
        let mut value = 0.0;
        for i in 0..k {
            value += gammas[d - i - 1]
                - 0.5 * (d - i) as f64 * std::f64::consts::PI.ln()
                - 2f64.ln()
                - 0.5 * n as f64 * l[i].ln();
            for j in i + 1..d {
                value -= 0.5 * ((1.0 / hat(j) - 1.0 / hat(i)) * (l[i] - l[j]) * n as f64).ln();
            }
        }
        let m = (d * k) as f64 - 0.5 * (k * (k + 1)) as f64;
        value += -0.5 * (n * (d - k)) as f64 * v.ln()
            + 0.5 * (m + k as f64) * std::f64::consts::TAU.ln()
            - 0.5 * k as f64 * (n as f64).ln();
        assert!(
            (selection.scores[k].1 - value).abs() < 1e-10,
            "{k}: {} {value}",
            selection.scores[k].1
        );
    }
}

#[test]
fn noise_alone_has_no_latent_dimension() {
    let rng = &mut Generator::seed_from_u64(3);
    let x = normal(10, 300, rng);
    for criterion in FROM_EIGENVALUES {
        assert_eq!(Selection::ppca(&x, criterion).unwrap().latent_dim, 0, "{criterion:?}");
    }
    let refused = BayesianPpca::fit(&x).unwrap_err();
    assert!(matches!(refused, Error::NoSignal { .. }), "{refused}");
}

#[test]
fn equal_eigenvalues_do_not_make_the_evidence_endless() {
    let spectrum = Spectrum::from_eigenvalues(&[4.0, 4.0, 4.0, 1.0, 1.0, 1.0], 6, 100).unwrap();
    let selection = spectrum.choose(Criterion::Laplace).unwrap();
    assert!(selection.scores.iter().all(|(_, score)| score.is_finite()));
    assert_eq!(selection.latent_dim, 3);
}

#[test]
fn the_bayesian_model_prunes_and_shrinks() {
    let rng = &mut Generator::seed_from_u64(9);
    let truth = Ppca::from_parameters(normal(12, 3, rng) * 1.5, DVector::zeros(12), 0.5).unwrap();
    let x = truth.sample(80, rng);
    let fit = BayesianPpca::<f64>::builder().centering(Centering::None).fit(&x).unwrap();
    assert_eq!(fit.model.latent_dim(), 3);
    let likeliest = Ppca::builder(3).centering(Centering::None).fit(&x, &mut VoidRng).unwrap();
    let (a, b) = (fit.model.components().unwrap(), likeliest.model.components().unwrap());
    assert!((a - b).amax() < 1e-8);
    for (shrunk, column) in
        fit.model.loadings().column_iter().zip(likeliest.model.loadings().column_iter())
    {
        let ratio = shrunk.norm() / column.norm();
        assert!(ratio < 1.0 && ratio > 0.9, "{ratio}");
    }
    assert!(fit.relevance.precisions.is_sorted());
    let fit = BayesianPpca::fit(&x).unwrap();
    let at_most_two: BayesianPpca =
        BayesianPpca::<f64>::builder().largest_latent_dim(2).fit(&x).unwrap();
    assert_eq!(at_most_two.model.latent_dim(), 2);
    assert!(at_most_two.relevance.bound < fit.relevance.bound);
    let single = BayesianPpca::<f32>::fit(&x.map(|v| v as f32)).unwrap();
    assert_eq!(single.model.latent_dim(), 3);
}

#[test]
fn what_cannot_be_scored_is_refused_by_name() {
    let rng = &mut Generator::seed_from_u64(1);
    let x = normal(4, 2, rng);
    assert!(matches!(
        Selection::ppca(&x, Criterion::Bic),
        Err(Error::TooFewObservations { actual: 2, least: 3 })
    ));
    let x = normal(4, 9, rng);
    for folds in [0, 1, 10] {
        assert!(matches!(
            Selection::ppca(&x, Criterion::HeldOut { folds }),
            Err(Error::InvalidParameter { .. })
        ));
    }
    assert!(matches!(
        Selection::ppca(&DMatrix::from_element(3, 5, 1.0), Criterion::Bic),
        Err(Error::ZeroVariance { .. })
    ));
    assert!(Spectrum::from_eigenvalues(&[1.0, -1.0], 3, 10).is_err());
    assert!(Spectrum::from_eigenvalues(&[1.0, 1.0], 1, 10).is_err());
    assert!(Spectrum::from_eigenvalues(&[], 0, 10).is_err());
    assert!(
        Spectrum::from_eigenvalues(&[2.0, 1.0], 2, 10)
            .unwrap()
            .choose(Criterion::HeldOut { folds: 2 })
            .is_err()
    );
    assert!(Selection::by_score(1..3, |_| Err(Error::Empty { rows: 0, columns: 0 })).is_err());
    assert_eq!(Selection::from_scores(vec![(1, f64::NAN), (2, -1.0)]).latent_dim, 2);
    assert_eq!(Selection::from_scores(vec![]).latent_dim, 0);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn units_and_rotations_do_not_change_the_choice(seed in 0u64..500, power in -6i32..7, n in 8usize..40) {
        let rng = &mut Generator::seed_from_u64(seed);
        let x = Ppca::from_parameters(normal(9, 2, rng) * 2.0, DVector::zeros(9), 0.3).unwrap().sample(n, rng);
        let rotation = normal(9, 9, rng).qr().q();
        let other = rotation * &x * 10f64.powi(power);
        for criterion in [Criterion::Laplace, Criterion::Bic, Criterion::Ard, Criterion::HeldOut { folds: 4 }] {
            for mean in [Centering::Mean, Centering::None] {
                let (a, b) = (Selection::ppca_about(&x, mean, criterion).unwrap(), Selection::ppca_about(&other, mean, criterion).unwrap());
                prop_assert_eq!(a.latent_dim, b.latent_dim);
                prop_assert_eq!(a.scores.len(), b.scores.len());
            }
        }
    }
}
