//! Gaps, importance sampling and active units against the closed forms of linear-Gaussian models.

use elbo::diagnostics::{
    ActiveUnits, GapEstimation, ImportanceSampling, InferenceGaps, KlProjection, kl_to_exact,
};
use elbo::fit::{LocalRefinement, StochasticGradient};
use elbo::inference::{EStep, PerPoint};
use elbo::likelihood::{Bernoulli, IsotropicGaussian};
use elbo::map::{Activation, Mlp, Parameters};
use elbo::model::{
    ExactPosterior, GenerativeModel, LinearGaussian, MarginalLikelihood, ProbabilisticModel,
};
use elbo::objective::{DifferentiableObjective, Elbo, Gradient, ImportanceWeighted, Objective};
use elbo::posterior::{Diagonal, Full, GaussianPosterior, Isotropic, Posterior, PosteriorFamily};
use elbo::steps::{Budget, DynModel};
use elbo::{Observations, Real, Vae};
use nalgebra::{DMatrix, DVector, dmatrix, dvector};
use rand::{SeedableRng, rngs::StdRng};

fn normal<T: Real>(rows: usize, columns: usize, seed: u64) -> DMatrix<T> {
    let rng = &mut StdRng::seed_from_u64(seed);
    DMatrix::from_fn(rows, columns, |_, _| T::standard_normal(rng))
}

fn case<T: Real>() -> (LinearGaussian<T>, DMatrix<T>) {
    let model = LinearGaussian::from_parameters(
        normal(6, 3, 1),
        normal::<T>(6, 1, 2).column(0).into_owned(),
        T::of(0.4),
    )
    .unwrap();
    (model, normal(6, 12, 3) * T::of(2.0))
}

/// Any q_i: oracles 2 to 5 follow.
fn some<T: Real, Q: PosteriorFamily<T>>(n: usize) -> Q {
    Q::from_parameters(3, normal(Q::parameter_count(3), n, 4)).unwrap()
}

fn the_gap_is_log_p_less_j<T: Real, Q: PosteriorFamily<T> + KlProjection<T>>() {
    let (model, x) = case::<T>();
    let x = Observations::new(x.as_view()).unwrap();
    let q: Q = some(12);
    let gaps = InferenceGaps::exact(&model, &q, x).unwrap();
    let (log_p, elbo) = (
        model.log_likelihood(x).unwrap(),
        Elbo::closed_form().terms(&model, &q, x).unwrap().values(),
    );
    let mut table = PerPoint::new(q);
    table.maximize(&model, x).unwrap();
    let best = Elbo::closed_form().terms(&model, &table.posterior, x).unwrap().values();
    for i in 0..12 {
        let tolerance = 100.0 * T::EPSILON.as_f64() * elbo[i].as_f64().abs();
        assert!((gaps.total.values()[i] - (log_p[i] - elbo[i]).as_f64()).abs() < tolerance);
        assert!((gaps.amortization.values()[i] - (best[i] - elbo[i]).as_f64()).abs() < tolerance);
        assert!(
            gaps.approximation.values()[i] > -tolerance
                && gaps.amortization.values()[i] > -tolerance
        );
    }
}

#[test]
fn gaps_of_every_family() {
    the_gap_is_log_p_less_j::<f64, Isotropic<f64>>();
    the_gap_is_log_p_less_j::<f64, Diagonal<f64>>();
    the_gap_is_log_p_less_j::<f64, Full<f64>>();
    the_gap_is_log_p_less_j::<f32, Diagonal<f32>>();
}

/// Oracles 2, 3 and 4: the approximation gap by its own formula, the same for every x.
#[test]
fn approximation_gaps_by_formula() {
    let (model, x) = case::<f64>();
    let x = Observations::new(x.as_view()).unwrap();
    let m = model.loadings().transpose() * model.loadings() + DMatrix::identity(3, 3) * 0.4;
    let precision = &m / 0.4;
    let full = InferenceGaps::exact(&model, &some::<f64, Full<f64>>(12), x).unwrap().approximation;
    let diagonal =
        InferenceGaps::exact(&model, &some::<f64, Diagonal<f64>>(12), x).unwrap().approximation;
    let isotropic =
        InferenceGaps::exact(&model, &some::<f64, Isotropic<f64>>(12), x).unwrap().approximation;
    let of_diagonal = 0.5 * (m.diagonal().map(f64::ln).sum() - m.determinant().ln());
    let of_isotropic = 0.5 * (3.0 * (precision.trace() / 3.0).ln() - precision.determinant().ln());
    for i in 0..12 {
        assert!(full.values()[i].abs() < 1e-12);
        assert!((diagonal.values()[i] - of_diagonal).abs() < 1e-12);
        assert!((isotropic.values()[i] - of_isotropic).abs() < 1e-12);
    }
    assert!(kl_to_exact(&model, &model.posterior(x).unwrap(), x).unwrap().amax() < 1e-12);
}

fn refined<T: Real, Q: PosteriorFamily<T> + KlProjection<T>>(tolerance: f64) {
    let (model, x) = case::<T>();
    let x = Observations::new(x.as_view()).unwrap();
    let start: Q = some(12);
    let refine = LocalRefinement { steps: 600, ..LocalRefinement::default() };
    let best = refine.refine(&model, start, x, &mut StdRng::seed_from_u64(5)).unwrap();
    let left = InferenceGaps::exact(&model, &best, x).unwrap().amortization;
    assert!(left.values().iter().all(|gap| gap.abs() < tolerance), "{:?}", left.values());
}

#[test]
fn refining_finds_the_best_member() {
    refined::<f64, Isotropic<f64>>(1e-6);
    refined::<f64, Diagonal<f64>>(1e-6);
    refined::<f64, Full<f64>>(1e-6);
    refined::<f32, Diagonal<f32>>(1e-4);
}

/// Oracle 8: under the exact posterior every weight is p(x).
#[test]
fn weights_under_the_exact_posterior_are_constant() {
    let (model, x) = case::<f64>();
    let x = Observations::new(x.as_view()).unwrap();
    let sampling = ImportanceSampling { samples: 20, widening: 1.0, prior_weight: 0.0 };
    let estimate = sampling
        .log_likelihood(&model, &model.posterior(x).unwrap(), x, &mut StdRng::seed_from_u64(6))
        .unwrap();
    let exact = model.log_likelihood(x).unwrap();
    for i in 0..12 {
        assert!((estimate.log_likelihood.values()[i] - exact[i]).abs() < 1e-12);
        assert!(
            estimate.log_likelihood.errors()[i] < 1e-12
                && (estimate.effective_samples[i] - 20.0).abs() < 1e-10
        );
    }
}

/// Oracle 8 of the bound: for every K it is log p, with variance 0.
fn the_bound_is_the_likelihood_under_the_exact_posterior<T: Real>(tolerance: f64) {
    let (model, x) = case::<T>();
    let x = Observations::new(x.as_view()).unwrap();
    let (q, log_p) = (model.posterior(x).unwrap(), model.log_likelihood(x).unwrap());
    for samples in [1, 2, 25] {
        let objective = ImportanceWeighted::new(samples);
        let weights = objective.log_weights(&model, &q, x, &mut StdRng::seed_from_u64(31)).unwrap();
        assert_eq!(weights.shape(), (samples, 12));
        for (weights, log_p) in weights.column_iter().zip(log_p.iter()) {
            assert!(weights.iter().all(|w| (*w - *log_p).as_f64().abs() < tolerance));
        }
        let value = objective
            .evaluate(&model, &q, x.of_population(24), &mut StdRng::seed_from_u64(32))
            .unwrap();
        assert!((value - log_p.sum() * T::of(2.0)).as_f64().abs() < 12.0 * tolerance);
    }
}

#[test]
fn the_bound_under_the_exact_posterior() {
    the_bound_is_the_likelihood_under_the_exact_posterior::<f64>(1e-11);
    the_bound_is_the_likelihood_under_the_exact_posterior::<f32>(1e-3);
}

/// Oracle 10: Σ w̃ ln w = L_K + ln K − H(w̃) with w̃ = w/Σw, so that a "loss" so weighted is not
/// the bound.
#[test]
fn a_weighted_sum_of_log_weights_is_not_the_bound() {
    let (model, x) = case::<f64>();
    let x = Observations::new(x.as_view()).unwrap();
    let q: Full<f64> = some(12);
    let count = 40;
    let objective = ImportanceWeighted::new(count);
    let rng = || StdRng::seed_from_u64(33);
    let weights = objective.log_weights(&model, &q, x, &mut rng()).unwrap();
    let (mut bound, mut weighted, mut entropies) = (0.0, 0.0, 0.0);
    for weights in weights.column_iter() {
        let total = weights.map(|l| (l - weights.max()).exp()).sum();
        bound += weights.max() + (total / count as f64).ln();
        let normalized = weights.map(|l| (l - weights.max()).exp() / total);
        weighted += normalized.dot(&weights);
        entropies -= normalized.iter().filter(|w| **w > 0.0).map(|w| w * w.ln()).sum::<f64>();
    }
    let value = objective.evaluate(&model, &q, x, &mut rng()).unwrap();
    assert!((value - bound).abs() < 1e-10);
    assert!((weighted - (value + 12.0 * (count as f64).ln() - entropies)).abs() < 1e-9);
    assert!(weighted - value > 1.0);
    // The draws of the value with its gradient are the same.
    let mut gradient = Gradient::default();
    let table = PerPoint::new(q.clone());
    let again = objective
        .value_and_gradient(&model, &table, x, &mut rng(), &mut Default::default(), &mut gradient)
        .unwrap();
    assert!((again - value).abs() < 1e-10);
}

/// Oracle 9: the variance of the weights is finite iff 2Λ_p − Λ_q ≻ 0. Where it is, the effective
/// share of the draws is that of the second divergence; where it is not, w² has a tail of index
/// below 1, and a single draw bears a good part of Σw² however many there are.
#[test]
fn a_q_too_narrow_has_weights_of_infinite_variance() {
    let model = LinearGaussian::<f64>::from_parameters(
        dmatrix![1.0; 0.5; -0.7],
        dvector![0.0, 1.0, 0.0],
        0.8,
    )
    .unwrap();
    let x = dmatrix![0.6; 1.4; -0.2];
    let x = Observations::new(x.as_view()).unwrap();
    let exact = model.posterior(x).unwrap();
    let precision = 1.0 / exact.covariance(0)[(0, 0)];
    for ratio in [0.5, 1.0f64, 1.2, 2.6, 4.0] {
        let own = ratio * precision;
        let q = Diagonal::from_parameters(1, dmatrix![exact.mean()[(0, 0)]; -own.ln()]).unwrap();
        for samples in [4_000, 40_000] {
            let weights = ImportanceWeighted::new(samples)
                .log_weights(&model, &q, x, &mut StdRng::seed_from_u64(34))
                .unwrap();
            let largest = weights.max();
            let weights = weights.map(|l| (l - largest).exp());
            let (sum, square) = (weights.sum(), weights.norm_squared());
            let (effective, largest) = (sum * sum / square / samples as f64, 1.0 / square);
            if ratio < 2.0 {
                // e^−D₂ = √(Λ_q(2Λ_p − Λ_q))/Λ_p.
                let expected = (ratio * (2.0 - ratio)).sqrt();
                let tolerance = if samples == 4_000 { 0.05 } else { 0.02 };
                assert!(
                    (effective - expected).abs() < tolerance && largest < 0.02,
                    "{ratio}: {effective} {expected} {largest}"
                );
            } else {
                assert!(largest > 0.05, "{ratio}: {largest}");
            }
        }
    }
}

/// Oracle 9: a q far too narrow has weights of infinite variance by itself; beside the prior it has
/// not, and the standard error can be believed.
#[test]
fn the_standard_error_can_be_believed() {
    let (model, x) = case::<f64>();
    let x = Observations::new(x.as_view()).unwrap();
    let exact = model.log_likelihood(x).unwrap();
    for (samples, narrower, widening) in [(4_000, 1.0, 1.3), (20_000, 0.3, 1.0)] {
        let q = Full::from_moments(&model.posterior(x).unwrap()).unwrap();
        let mut phi = q.into_parameters();
        phi.rows_mut(3, 3).add_scalar_mut(2.0 * f64::ln(narrower));
        phi.rows_mut(6, 3).scale_mut(narrower);
        let q = Full::from_parameters(3, phi).unwrap();
        let sampling = ImportanceSampling { samples, widening, ..Default::default() };
        let estimate = sampling
            .log_likelihood(&model, &q, x, &mut StdRng::seed_from_u64(7))
            .unwrap()
            .log_likelihood;
        let squares: f64 = (0..12)
            .map(|i| ((estimate.values()[i] - exact[i]) / estimate.errors()[i]).powi(2))
            .sum();
        // 12 squared deviations in standard errors: χ² with 12 degrees of freedom passes 32.9 with
        // probability 0.001.
        assert!(squares < 32.9, "{squares}");
        assert!((estimate.mean() - exact.mean()).abs() < 4.0 * estimate.monte_carlo_error());
    }
}

/// Oracle 9: the mean of ln(Σw/K) over many draws of K weights rises with K, and falls short of log
/// p by (e^D₂ − 1)/(2K) to first order, with D₂(p‖q) the Rényi divergence of order 2 of the
/// posterior from q.
#[test]
fn the_bound_of_many_draws_falls_short_by_the_second_divergence() {
    let model = LinearGaussian::<f64>::from_parameters(
        dmatrix![1.0; 0.5; -0.7],
        dvector![0.0, 1.0, 0.0],
        0.8,
    )
    .unwrap();
    let column = dvector![0.6, 1.4, -0.2];
    let repeats = 40_000;
    let x = DMatrix::from_fn(3, repeats, |j, _| column[j]);
    let x = Observations::new(x.as_view()).unwrap();
    let exact = model.posterior(x).unwrap();
    let (mean, precision) = (exact.mean()[(0, 0)], 1.0 / exact.covariance(0)[(0, 0)]);
    let (shift, own) = (0.3, 1.2 * precision);
    let parameters =
        DMatrix::from_fn(2, repeats, |row, _| if row == 0 { mean + shift } else { -own.ln() });
    let q = Diagonal::from_parameters(1, parameters).unwrap();
    let left = 2.0 * precision - own;
    let second = precision / (own * left).sqrt() * (precision * own * shift * shift / left).exp();
    let log_p = model.log_likelihood(x).unwrap()[0];
    let mut before = f64::NEG_INFINITY;
    for samples in [2, 10, 50] {
        let sampling = ImportanceSampling { samples, widening: 1.0, prior_weight: 0.0 };
        let found = sampling.log_likelihood(&model, &q, x, &mut StdRng::seed_from_u64(9)).unwrap();
        let values = found.log_likelihood.values();
        let bound = values.iter().sum::<f64>() / repeats as f64;
        let error = (values.iter().map(|v| (v - bound).powi(2)).sum::<f64>()
            / repeats as f64
            / repeats as f64)
            .sqrt();
        assert!(
            bound > before + 4.0 * error && bound < log_p,
            "{samples}: {bound} ± {error} after {before}"
        );
        before = bound;
        if samples == 50 {
            let short = (second - 1.0) / 100.0;
            // The next order is about the square of the first.
            assert!(
                (log_p - bound - short).abs() < 4.0 * error + 2.0 * short * short
                    && short > 5.0 * error,
                "{} {short} ± {error}",
                log_p - bound
            );
        }
    }
}

/// Oracle 11: at the maximum-likelihood estimate with R = I.
#[test]
fn active_units_at_the_maximum() {
    let x = DMatrix::from_diagonal(&DVector::from_vec(vec![3.0, 2.0, 1.0, 0.5]))
        * normal::<f64>(4, 200, 8);
    let x = Observations::new(x.as_view()).unwrap();
    let mut deviations = x.values().into_owned();
    deviations.column_iter_mut().for_each(|mut column| column -= &x.mean());
    let eigen = (&deviations * deviations.transpose() / 200.0).symmetric_eigen();
    let mut order: Vec<usize> = (0..4).collect();
    order.sort_by(|&a, &b| eigen.eigenvalues[b].total_cmp(&eigen.eigenvalues[a]));
    let lambda: Vec<f64> = order.iter().map(|&j| eigen.eigenvalues[j]).collect();
    let noise = (lambda[2] + lambda[3]) / 2.0;
    let loadings = DMatrix::from_fn(4, 2, |i, j| {
        eigen.eigenvectors[(i, order[j])] * (lambda[j] - noise).sqrt()
    });
    let model = LinearGaussian::from_parameters(loadings, x.mean(), noise).unwrap();
    let q = model.posterior(x).unwrap();
    let units = ActiveUnits::from_posterior(&q);
    for (j, &lambda) in lambda.iter().enumerate().take(2) {
        assert!((units.activities[j] - (1.0 - noise / lambda)).abs() < 1e-12);
        assert!((q.covariance(0)[(j, j)] - noise / lambda).abs() < 1e-12);
    }
    assert!((units.aggregated_covariance - DMatrix::identity(2, 2)).amax() < 1e-12);
    assert!(
        (units.rate - 0.5 * ((lambda[0] / noise).ln() + (lambda[1] / noise).ln())).abs() < 1e-12
    );
    assert!(units.aggregated_mean.amax() < 1e-12);
}

/// The estimates of a model with closed forms, as if it had none.
#[test]
fn estimated_gaps_agree_with_exact_ones() {
    let (model, x) = case::<f64>();
    let x = Observations::new(x.as_view()).unwrap();
    // Some way off the best, so that the second part of the gap is there too.
    let mut table = PerPoint::<Diagonal<f64>>::at_prior(3, 12);
    table.maximize(&model, x).unwrap();
    let q =
        Diagonal::from_parameters(3, table.posterior.parameters() + normal::<f64>(6, 12, 13) * 0.3)
            .unwrap();
    let exact = InferenceGaps::exact(&model, &q, x).unwrap();
    let estimation = GapEstimation {
        refine: LocalRefinement { steps: 400, ..LocalRefinement::default() },
        ..Default::default()
    };
    let estimated = estimation.estimate(&model, &q, x, &mut StdRng::seed_from_u64(9)).unwrap().gaps;
    for (exact, estimated) in [
        (&exact.total, &estimated.total),
        (&exact.approximation, &estimated.approximation),
        (&exact.amortization, &estimated.amortization),
    ] {
        let (difference, error) = (exact.mean() - estimated.mean(), estimated.monte_carlo_error());
        assert!(difference.abs() < 4.0 * error && error < 0.5, "{difference} ± {error}");
    }
}

/// Oracle 2: under the exact posterior each draw of J is log p(x), and the estimate has no error.
#[test]
fn the_estimated_bound_of_the_exact_posterior_is_exact() {
    let (model, x) = case::<f64>();
    let x = Observations::new(x.as_view()).unwrap();
    let q = Full::from_moments(&model.posterior(x).unwrap()).unwrap();
    let estimation = GapEstimation { samples: 5, ..Default::default() };
    let elbo = estimation.estimate(&model, &q, x, &mut StdRng::seed_from_u64(14)).unwrap().elbo;
    let exact = model.log_likelihood(x).unwrap();
    assert!(
        elbo.values().iter().zip(exact.iter()).all(|(bound, log_p)| (bound - log_p).abs() < 1e-11)
    );
    assert!(elbo.errors().iter().all(|&error| error < 1e-11));
}

/// A q that is refined already, and a refinement by too few draws: what looks better on those is
/// worse, and must not pass for the best member.
#[test]
fn what_is_better_on_the_draws_of_the_refinement_alone_is_not_the_best_member() {
    let rng = &mut StdRng::seed_from_u64(15);
    let decoder =
        Mlp::<f64>::builder(2, 8).hidden(&[16]).activation(Activation::Tanh).build(rng).unwrap();
    let mut model = GenerativeModel::new(decoder, IsotropicGaussian::new(0.05).unwrap());
    model.decoder.parameters_mut().iter_mut().for_each(|w| *w *= 4.0);
    let (_, x) = model.sample(60, rng);
    let x = Observations::new(x.as_view()).unwrap();
    let well = LocalRefinement { steps: 400, samples: 128, ..LocalRefinement::default() };
    let q =
        well.refine(&model, PerPoint::<Isotropic<f64>>::at_prior(2, 60).posterior, x, rng).unwrap();
    let poorly = LocalRefinement { steps: 200, samples: 2, ..LocalRefinement::default() };
    let estimation = GapEstimation { refine: poorly, ..Default::default() };
    let gain = estimation.estimate(&model, &q, x, rng).unwrap().gaps.amortization;
    assert!(
        gain.mean() > -4.0 * gain.monte_carlo_error(),
        "{} ± {}",
        gain.mean(),
        gain.monte_carlo_error()
    );
    // An observation by itself: a q that was worse was put back.
    let worse = gain
        .values()
        .iter()
        .zip(gain.errors())
        .filter(|&(gain, error)| *gain < -5.0 * error)
        .count();
    assert_eq!(worse, 0);
    assert!(gain.values().contains(&0.0));
}

/// J differs from one observation to the next, and most of them are not looked at for their gap: J
/// and log p are those of all of them.
#[test]
fn figures_of_a_part_are_not_taken_for_those_of_all() {
    let rng = &mut StdRng::seed_from_u64(16);
    let mut x = normal::<f64>(4, 350, 17);
    // Their squared deviations have heavy tails.
    x.column_iter_mut()
        .enumerate()
        .for_each(|(i, mut column)| column *= 0.2 + (i % 35) as f64 * 0.1);
    let x = Observations::new(x.as_view()).unwrap();
    let fitter = StochasticGradient { epochs: 150, ..Default::default() };
    let vae = Vae::<f64, Isotropic<f64>>::builder(2)
        .hidden(&[8])
        .fitter(fitter)
        .fit(x, rng)
        .unwrap()
        .model;
    let all = GapEstimation::default()
        .estimate(vae.generative_model(), &vae.encode(x).unwrap(), x, rng)
        .unwrap();
    let step: &dyn DynModel<f64> = &vae;
    let mut squares = 0.0;
    for seed in 0..24 {
        let gaps = step.gaps(x, Budget::Fast, &mut StdRng::seed_from_u64(seed)).unwrap().unwrap();
        assert_eq!(gaps.basis.unwrap().observations, 100);
        assert!((gaps.elbo - all.elbo.mean()).abs() < 0.05, "{} {}", gaps.elbo, all.elbo.mean());
        let (difference, error) = (
            gaps.log_likelihood - all.importance.log_likelihood.mean(),
            gaps.log_likelihood_standard_error,
        );
        assert!(difference.abs() < 4.0 * error && error < 0.1, "{difference} ± {error}");
        squares += (difference / error).powi(2) / 24.0;
        assert!((gaps.total() - gaps.approximation - gaps.amortization).abs() < 1e-9);
        assert!((gaps.reconstruction - gaps.kl - gaps.elbo).abs() < 1e-9);
    }
    // The mean square of as many differences over their errors is 1, give or take √(2/24): the
    // error that is told is neither much too small nor too large.
    assert!((squares - 1.0).abs() < 3.0 * (2.0_f64 / 24.0).sqrt(), "{squares}");
}

/// One latent dimension: log p(x) by quadrature on a fine grid, for a deep decoder of either
/// likelihood.
#[test]
fn deep_models_against_quadrature() {
    let rng = &mut StdRng::seed_from_u64(10);
    let decoder =
        Mlp::<f64>::builder(1, 5).hidden(&[8]).activation(Activation::Tanh).build(rng).unwrap();
    let real = normal(5, 6, 11);
    let binary = real.map(|v: f64| if v > 0.0 { 1.0 } else { 0.0 });
    against_quadrature(
        &GenerativeModel::new(decoder.clone(), IsotropicGaussian::new(0.2).unwrap()),
        &real,
    );
    against_quadrature(&GenerativeModel::new(decoder, Bernoulli), &binary);
}

fn against_quadrature<L: elbo::likelihood::Likelihood<f64>>(
    model: &GenerativeModel<Mlp<f64>, L>,
    x: &DMatrix<f64>,
) {
    let observations = Observations::new(x.as_view()).unwrap();
    let q = PerPoint::<Isotropic<f64>>::at_prior(1, 6).posterior;
    let estimation = GapEstimation {
        importance: ImportanceSampling { samples: 4000, ..Default::default() },
        ..Default::default()
    };
    let estimate =
        estimation.estimate(model, &q, observations, &mut StdRng::seed_from_u64(12)).unwrap();
    let (grid, step) = (-8_000..=8_000, 1e-3);
    let z = DMatrix::from_iterator(1, 16_001, grid.map(|i| i as f64 * step));
    for i in 0..6 {
        let repeated = DMatrix::from_fn(5, z.ncols(), |row, _| x[(row, i)]);
        let density = model
            .log_density_given(Observations::new(repeated.as_view()).unwrap(), z.as_view())
            .unwrap();
        let prior = |z: f64| (-0.5 * z * z).exp() / (2.0 * std::f64::consts::PI).sqrt();
        let exact =
            density.iter().zip(z.iter()).map(|(l, &z)| l.exp() * prior(z) * step).sum::<f64>().ln();
        let figures = &estimate.importance.log_likelihood;
        assert!(
            (figures.values()[i] - exact).abs() < 4.5 * figures.errors()[i],
            "{i}: {} {exact}",
            figures.values()[i]
        );
        assert!(estimate.best_elbo.values()[i] < exact + 4.5 * estimate.best_elbo.errors()[i]);
        assert!(estimate.importance.effective_samples[i] > 400.0);
    }
    let gaps = &estimate.gaps;
    assert!(gaps.approximation.mean() > -4.0 * gaps.approximation.monte_carlo_error());
    assert!(gaps.amortization.mean() > 0.0);
}
