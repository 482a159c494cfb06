//! Stepwise EM: block by block to the maximum of the likelihood, the same bits each time, and
//! nothing lost on the way.

use crate::support::VoidRng;
use elbo::data::{Centering, Source};
use elbo::likelihood::NoiseVariance;
use elbo::linalg::Solver;
use elbo::{Error, IntoObservations, Ppca, Real};
use nalgebra::DMatrix;
use rand::{SeedableRng, rngs::Xoshiro256PlusPlus as Generator};

fn table<T: Real>(d: usize, n: usize, seed: u64) -> DMatrix<T> {
    let rng = &mut Generator::seed_from_u64(seed);
    let mut normal =
        |rows, columns| DMatrix::from_fn(rows, columns, |_, _| f64::standard_normal(rng));
    let (w, z, noise) = (normal(d, 3), normal(3, n), normal(d, n));
    let mut x = w * DMatrix::from_diagonal(&nalgebra::dvector![3.0, 2.0, 1.0]) * z + noise * 0.5;
    x.row_iter_mut().enumerate().for_each(|(j, mut row)| row.add_scalar_mut(j as f64 - 2.0));
    x.map(T::of)
}

fn pass<T: Real>(online: &mut elbo::fit::OnlineEm<T>, x: &DMatrix<T>, block: usize) {
    for first in (0..x.ncols()).step_by(block) {
        online.partial_fit(x.columns(first, block.min(x.ncols() - first))).unwrap();
    }
}

fn mean_log_likelihood<T: Real>(model: &Ppca<T>, x: &DMatrix<T>) -> f64 {
    model.log_likelihood(x).unwrap().iter().map(|v| v.as_f64()).sum::<f64>() / x.ncols() as f64
}

fn converges<T: Real>(mean: Centering, offset: f64, tolerance: f64) {
    let mut x = table::<T>(8, 1000, 1);
    x.add_scalar_mut(T::of(offset));
    for k in [2, 3] {
        let builder = Ppca::<T>::builder(k).centering(mean);
        let best = mean_log_likelihood(&builder.fit(&x, &mut VoidRng).unwrap().model, &x);
        let mut online = builder.online();
        let mut gaps = Vec::new();
        for _ in 0..4 {
            (0..5).for_each(|_| pass(&mut online, &x, 73));
            gaps.push(best - mean_log_likelihood(&online.model().unwrap(), &x));
        }
        assert!(
            gaps.iter().all(|gap| *gap > -tolerance) && gaps[3] < 2e-4_f64.max(2.0 * tolerance),
            "k={k}: {gaps:?}"
        );
        assert!(gaps[3] < 0.5 * gaps[0].max(2.0 * tolerance), "k={k}: {gaps:?}");
        // Exact passes end it, and never lose.
        let mut source = (&x).into_observations().unwrap();
        let mut before = f64::NEG_INFINITY;
        for _ in 0..40 {
            online.exact_pass(&mut source).unwrap();
            let now = mean_log_likelihood(&online.model().unwrap(), &x);
            assert!(now >= before - tolerance, "k={k}: {now} after {before}");
            before = now;
        }
        assert!((best - before).abs() < tolerance, "k={k}: {:e}", best - before);
    }
}

#[test]
fn repeated_passes_reach_the_maximum() {
    converges::<f64>(Centering::Mean, 0.0, 1e-9);
    converges::<f64>(Centering::None, 0.0, 1e-9);
    converges::<f32>(Centering::Mean, 0.0, 1e-4);
}

/// The superfluous directions turn slowly in any EM; products with all of the data in one space end
/// it.
#[test]
fn a_k_that_is_too_large_is_ended_by_krylov_passes() {
    let x = table::<f64>(8, 1000, 1);
    for k in [5, 7] {
        let best = mean_log_likelihood(&Ppca::fit(k, &x).unwrap().model, &x);
        let gap = |exponent: f64| {
            let mut online = Ppca::<f64>::builder(k).online().exponent(exponent).unwrap();
            (0..50).for_each(|_| pass(&mut online, &x, 73));
            best - mean_log_likelihood(&online.model().unwrap(), &x)
        };
        let (eager, patient) = (gap(0.6), gap(0.8));
        assert!(eager > 0.0 && eager < patient && patient < 1e-2, "k={k}: {eager:e} {patient:e}");
        let mut source = (&x).into_observations().unwrap();
        let found =
            Ppca::<f64>::builder(k).fitter(Solver::Krylov).fit(&mut source, &mut VoidRng).unwrap();
        assert!(
            (best - mean_log_likelihood(&found.model, &x)).abs() < 1e-10
                && found.solver.unwrap().passes <= 10,
            "{:?}",
            found.solver.unwrap()
        );
    }
}

/// A mean a million times the noise is not what is left of a difference.
#[test]
fn a_large_mean_costs_no_digits() {
    converges::<f64>(Centering::Mean, 1e6, 1e-7);
}

#[test]
fn the_same_blocks_give_the_same_bits() {
    let x = table::<f64>(8, 500, 3);
    let run = || {
        let mut online = Ppca::<f64>::builder(2).online().exponent(0.7).unwrap();
        pass(&mut online, &x, 60);
        online.model().unwrap()
    };
    assert!(run() == run());
}

#[test]
fn a_drifting_mean_is_followed_by_a_least_step() {
    let x = table::<f64>(6, 4000, 5);
    let drifted = x.map(|v| v + 30.0);
    let mut online = Ppca::<f64>::builder(2).online().min_step_size(0.2).unwrap();
    pass(&mut online, &x, 100);
    pass(&mut online, &drifted, 100);
    let best = mean_log_likelihood(&Ppca::fit(2, &drifted).unwrap().model, &drifted);
    let found = mean_log_likelihood(&online.model().unwrap(), &drifted);
    assert!(best - found < 1.0, "{best} {found}");
    assert_eq!(online.observations_seen(), 8000.0);
}

#[test]
fn what_is_refused_leaves_the_model_as_it_was() {
    let x = table::<f64>(5, 100, 7);
    let builder = Ppca::<f64>::builder(2);
    let mut online = builder.online();
    assert!(matches!(online.model(), Err(Error::TooFewObservations { actual: 0, least: 4 })));
    assert!(online.exact_pass(&mut (&x).into_observations().unwrap()).is_err());
    assert!(matches!(
        online.partial_fit(x.columns(0, 1)),
        Err(Error::TooFewObservations { actual: 1, .. })
    ));
    assert!(matches!(online.partial_fit(x.columns(0, 3)), Err(Error::Unbounded { .. })));
    online.partial_fit(x.columns(0, 50)).unwrap();
    let before = online.model().unwrap();
    let mut bad = x.clone();
    bad[(2, 9)] = f64::INFINITY;
    assert!(matches!(online.partial_fit(&bad), Err(Error::NotFinite { row: 2, column: 9, .. })));
    assert!(matches!(
        online.partial_fit(&DMatrix::<f64>::zeros(4, 9)),
        Err(Error::DimensionMismatch { expected: 5, actual: 4, .. })
    ));
    assert!(online.model().unwrap() == before && online.observations_seen() == 50.0);
    assert!(matches!(builder.online().exponent(0.5), Err(Error::InvalidParameter { .. })));
    assert!(matches!(builder.online().min_step_size(1.0), Err(Error::InvalidParameter { .. })));
    // One observation at a time, once begun.
    for i in 50..100 {
        online.partial_fit(x.columns(i, 1)).unwrap();
    }
    assert!(online.model().unwrap().noise_variance() > 0.0);
    let fixed = builder.noise_variance(NoiseVariance::Fixed(0.3));
    let mut online = fixed.online();
    pass(&mut online, &x, 20);
    assert_eq!(online.model().unwrap().noise_variance(), 0.3);
}

#[test]
fn a_source_is_its_blocks() {
    let x = table::<f64>(5, 300, 8);
    let mut source = (&x).into_observations().unwrap();
    let mut count = 0;
    Source::pass(&mut source, &mut |block| {
        count += block.len();
        Ok(())
    })
    .unwrap();
    assert_eq!(count, 300);
    let (mut a, mut b) = (Ppca::<f64>::builder(2).online(), Ppca::<f64>::builder(2).online());
    a.fit_pass(&mut source).unwrap();
    b.partial_fit(&x).unwrap();
    assert!(a.model().unwrap() == b.model().unwrap());
}
