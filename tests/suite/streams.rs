//! Streams, sources, weights and the choice of solver: every way to the closed form leads to the
//! fit of all data at once.

use crate::support::VoidRng;
use elbo::data::Data;
use elbo::data::{Centering, Chunks, Moments};
use elbo::fit::Fitted;
use elbo::likelihood::NoiseVariance;
use elbo::linalg::{PcaAlgorithm, Solver};
use elbo::{Error, IntoObservations, LinearAutoencoder, Observations, Ppca, Real};
use nalgebra::DMatrix;
use proptest::prelude::*;
use rand::{RngExt, SeedableRng, rngs::Xoshiro256PlusPlus as Generator};

/// Observations of a model with three latent dimensions about a mean, with a scale for each
/// variable.
fn table<T: Real>(d: usize, n: usize, seed: u64) -> DMatrix<T> {
    let rng = &mut Generator::seed_from_u64(seed);
    let mut normal =
        |rows, columns| DMatrix::from_fn(rows, columns, |_, _| f64::standard_normal(rng));
    let (w, z, noise) = (normal(d, 3), normal(3, n), normal(d, n));
    let mut x = w * DMatrix::from_diagonal(&nalgebra::dvector![3.0, 2.0, 1.0]) * z + noise * 0.5;
    x.row_iter_mut().enumerate().for_each(|(j, mut row)| row.add_scalar_mut(j as f64 - 2.0));
    x.map(T::of)
}

/// The figures of two models of the same data, which a rotation or a sign would not change.
fn same<T: Real>(a: &Fitted<Ppca<T>>, b: &Fitted<Ppca<T>>, x: &DMatrix<T>, tolerance: f64) {
    let (a, b) = (&a.model, &b.model);
    let (one, other) = (a.log_likelihood(x).unwrap(), b.log_likelihood(x).unwrap());
    let apart = (one - &other).amax().as_f64() / other.amax().as_f64().max(1.0);
    assert!(apart < tolerance, "log p: {apart:e}");
    let noise = (a.noise_variance() / b.noise_variance()).as_f64() - 1.0;
    assert!(noise.abs() < tolerance, "noise: {noise:e}");
    let covariance = |m: &Ppca<T>| m.loadings() * m.loadings().transpose();
    let apart = ((covariance(a) - covariance(b)).amax() / covariance(b).amax()).as_f64();
    assert!(apart < tolerance, "WW': {apart:e}");
    let apart = (a.mean() - b.mean()).amax().as_f64() / b.mean().amax().as_f64().max(1.0);
    assert!(apart < tolerance, "mean: {apart:e}");
}

fn tolerance<T: Real>() -> f64 {
    if T::EPSILON.as_f64() < 1e-10 { 1e-11 } else { 1e-4 }
}

fn chunks_of<T: Real>(x: &DMatrix<T>, cuts: &[usize]) -> Moments {
    let mut moments = Moments::new(x.nrows());
    let mut first = 0;
    for &cut in cuts.iter().cycle() {
        let count = cut.min(x.ncols() - first);
        if count == 0 {
            break;
        }
        moments.update(x.columns(first, count)).unwrap();
        first += count;
    }
    moments
}

fn any_chunking<T: Real>() {
    for mean in [Centering::Mean, Centering::None] {
        for (d, n, k) in [(6, 400, 2), (40, 25, 3), (12, 12, 2)] {
            let x = table::<T>(d, n, 1);
            let builder = Ppca::<T>::builder(k).centering(mean);
            let whole = builder.fit(&x, &mut VoidRng).unwrap();
            for cuts in [&[1][..], &[7], &[n], &[3, 1, 50], &[n - 1, 1]] {
                let moments = chunks_of(&x, cuts);
                assert_eq!((moments.count(), moments.weight()), (n, n as f64));
                same(&builder.fit(&moments, &mut VoidRng).unwrap(), &whole, &x, tolerance::<T>());
            }
        }
    }
}

#[test]
fn any_chunking_is_the_fit_of_all() {
    any_chunking::<f64>();
    any_chunking::<f32>();
}

#[test]
fn merge_is_the_fit_of_both_in_any_order() {
    let x = table::<f64>(8, 900, 3);
    let part = |first, count| Moments::of(x.columns(first, count)).unwrap();
    let (mut ab, mut ba) = (part(0, 350), part(350, 550));
    let b = ba.clone();
    ba.merge(&ab).unwrap();
    ab.merge(&b).unwrap();
    let whole = Ppca::fit(2, &x).unwrap();
    for moments in [&ab, &ba] {
        same(&Ppca::builder(2).fit(moments, &mut VoidRng).unwrap(), &whole, &x, 1e-11);
    }
    let empty = Moments::new(8);
    let before = ab.clone();
    ab.merge(&empty).unwrap();
    assert_eq!(ab, before);
    let mut fresh = Moments::new(8);
    fresh.merge(&before).unwrap();
    assert_eq!(fresh, before);
}

/// Scales that would be lost if the d×d scatter were formed, and an offset that would cancel.
#[test]
fn ten_orders_of_magnitude_survive_the_stream() {
    let mut x = table::<f64>(6, 500, 5);
    for (j, scale) in [1e5, 1e3, 1.0, 1e-2, 1e-4, 1e-5].into_iter().enumerate() {
        x.row_mut(j).scale_mut(scale);
    }
    for solver in [Solver::Auto, Solver::Full] {
        let builder = Ppca::builder(4).fitter(solver);
        let (whole, streamed) = (
            builder.fit(&x, &mut VoidRng).unwrap(),
            builder.fit(&chunks_of(&x, &[11]), &mut VoidRng).unwrap(),
        );
        assert!(
            (streamed.model.noise_variance() / whole.model.noise_variance() - 1.0).abs() < 1e-9
        );
        let apart = (streamed.model.log_likelihood(&x).unwrap()
            - whole.model.log_likelihood(&x).unwrap())
        .amax();
        assert!(apart < 1e-6, "{apart:e}");
    }
    let plain = table::<f64>(5, 300, 6);
    let far = plain.map(|v| v + 1e7);
    let exact = Moments::of(&plain).unwrap().covariance();
    let apart = (chunks_of(&far, &[7]).covariance() - &exact).amax() / exact.amax();
    assert!(apart < 1e-8, "{apart:e}");
}

fn weights<T: Real>() {
    let x = table::<T>(5, 60, 7);
    let twice: Vec<usize> = (0..60).flat_map(|i| vec![i; [1, 2, 0, 3][i % 4]]).collect();
    let repeated = x.select_columns(&twice);
    let weights: Vec<T> = (0..60).map(|i| T::of([1.0, 2.0, 0.0, 3.0][i % 4])).collect();
    let whole = Ppca::fit(2, &repeated).unwrap();
    same(
        &Ppca::builder(2).fit(x.weighted(&weights), &mut VoidRng).unwrap(),
        &whole,
        &x,
        tolerance::<T>(),
    );
    // Scaling all weights changes nothing.
    let halves: Vec<T> = weights.iter().map(|w| *w * T::of(0.37)).collect();
    same(
        &Ppca::builder(2).fit(x.weighted(&halves), &mut VoidRng).unwrap(),
        &whole,
        &x,
        tolerance::<T>(),
    );
    let weight = T::of(2.0);
    let (a, b) = (LinearAutoencoder::builder(2).l2_regularization(weight), &repeated);
    let (one, other) =
        (a.fit(x.weighted(&weights), &mut VoidRng).unwrap(), a.fit(b, &mut VoidRng).unwrap());
    let apart =
        (one.model.reconstruct(&x).unwrap() - other.model.reconstruct(&x).unwrap()).amax().as_f64();
    assert!(apart < 10.0 * tolerance::<T>(), "{apart:e}");
}

#[test]
fn a_weight_of_two_is_a_duplicate() {
    weights::<f64>();
    weights::<f32>();
}

#[test]
fn a_source_is_the_fit_of_all() {
    let x = table::<f64>(30, 700, 9);
    let whole = Ppca::fit(3, &x).unwrap();
    let randomized = Solver::Randomized { oversampling: 10, power_iterations: 6 };
    let ways = [
        (Solver::Auto, PcaAlgorithm::Covariance, 1),
        (Solver::Full, PcaAlgorithm::Full, 1),
        (Solver::Krylov, PcaAlgorithm::Krylov, 3),
        (randomized, PcaAlgorithm::Randomized, 10),
    ];
    for (solver, used, passes) in ways {
        let mut count = 0;
        let mut source = Chunks::new(30, || {
            count += 1;
            (0..10).map(|c| Ok::<_, Error>(x.columns(70 * c, 70).into_owned()))
        });
        let found = Ppca::builder(3).fitter(solver).fit(&mut source, &mut VoidRng).unwrap();
        assert_eq!(
            (found.solver.unwrap().solver, found.solver.unwrap().passes),
            (used, passes),
            "{solver:?}"
        );
        let total = found.model.log_likelihood(&mut source).unwrap();
        assert!((total - found.model.log_likelihood(&x).unwrap()).amax() < 1e-12);
        assert_eq!(count, passes + 1);
        same(&found, &whole, &x, if solver == randomized { 1e-7 } else { 1e-10 });
        let mut codes = Vec::new();
        let visit = |block: nalgebra::DMatrixView<'_, f64>| {
            codes.extend(block.iter().copied());
            Ok(())
        };
        found.model.transform_blocks(&mut (&x).into_observations().unwrap(), visit).unwrap();
        assert_eq!(codes, found.model.transform(&x).unwrap().as_slice());
    }
}

/// More variables than would be wanted squared: passes with products alone.
#[test]
fn wide_sources_take_no_square_matrix() {
    let x = table::<f32>(2100, 150, 11);
    let mut source: Observations<'_, f32> = (&x).into_observations().unwrap();
    let found = Ppca::builder(3).fit(&mut source, &mut VoidRng).unwrap();
    assert_eq!(found.solver.unwrap().solver, PcaAlgorithm::Krylov);
    same(&found, &Ppca::fit(3, &x).unwrap(), &x, 1e-4);
    let autoencoder = LinearAutoencoder::builder(3).fit(&mut source, &mut VoidRng).unwrap();
    let whole = LinearAutoencoder::fit(3, &x).unwrap();
    assert!(
        (autoencoder.model.reconstruct(&x).unwrap() - whole.model.reconstruct(&x).unwrap()).amax()
            < 1e-3
    );
}

#[test]
fn what_is_refused() {
    let x = table::<f64>(3, 20, 1);
    let mut moments = Moments::of(&x).unwrap();
    let before = moments.clone();
    let mut bad = x.clone();
    bad[(1, 4)] = f64::NAN;
    assert!(matches!(moments.update(&bad), Err(Error::NotFinite { row: 1, column: 4, .. })));
    assert!(matches!(
        moments.update(&DMatrix::<f64>::zeros(2, 2)),
        Err(Error::DimensionMismatch { expected: 3, actual: 2, .. })
    ));
    assert!(matches!(
        moments.merge(&Moments::new(4)),
        Err(Error::DimensionMismatch { expected: 3, actual: 4, .. })
    ));
    assert!(matches!(
        moments.update_weighted(&x, &[1.0]),
        Err(Error::DimensionMismatch { expected: 20, actual: 1, .. })
    ));
    for wrong in [-1.0, f64::NAN, f64::INFINITY] {
        let mut weights = [1.0; 20];
        weights[7] = wrong;
        let told = moments.update_weighted(&x, &weights).unwrap_err();
        assert!(matches!(told, Error::InvalidWeight { observation: 7, .. }), "{told}");
    }
    moments.update_weighted(&x, &[0.0; 20]).unwrap();
    assert_eq!(moments, before);
    let fit = |moments: &Moments| Ppca::<f64>::builder(1).fit(moments, &mut VoidRng);
    assert!(matches!(
        fit(&Moments::new(3)),
        Err(Error::TooFewObservations { actual: 0, least: 2 })
    ));
    assert!(matches!(
        fit(&Moments::of(x.columns(0, 1)).unwrap()),
        Err(Error::TooFewObservations { actual: 1, least: 2 })
    ));
    assert!(matches!(
        fit(&Moments::of(&DMatrix::from_element(3, 9, 2.0)).unwrap()),
        Err(Error::ZeroVariance { variables: 3, observations: 9 })
    ));
    let low = DMatrix::from_fn(3, 30, |j, i| (j + 1) as f64 * (i as f64).sin());
    assert!(matches!(
        fit(&Moments::of(&low).unwrap()),
        Err(Error::Unbounded { latent_dim: 1, rank: 1 })
    ));
    assert!(matches!(
        Ppca::<f64>::builder(4).fit(&before, &mut VoidRng),
        Err(Error::LatentDim { latent_dim: 4, .. })
    ));
    let mut seen = 0;
    let mut shrinking = Chunks::new(3, || {
        seen += 1;
        std::iter::once(Ok::<_, Error>(x.columns(0, 21 - seen).into_owned()))
    });
    let told =
        Ppca::builder(1).fitter(Solver::Krylov).fit(&mut shrinking, &mut VoidRng).unwrap_err();
    assert!(matches!(told, Error::DimensionMismatch { expected: 20, actual: 19, .. }), "{told}");
    let mut nothing = Chunks::new(3, std::iter::empty::<Result<DMatrix<f64>, Error>>);
    assert!(matches!(
        Ppca::builder(1).fit(&mut nothing, &mut VoidRng),
        Err(Error::TooFewObservations { actual: 0, least: 2 })
    ));
    let mut late = Chunks::new(3, || [x.clone(), bad.clone()].map(Ok::<_, Error>));
    assert!(matches!(
        Ppca::builder(1).fit(&mut late, &mut VoidRng),
        Err(Error::NotFinite { row: 1, column: 24, .. })
    ));
}

/// An error of a reader's own comes through the search for directions.
#[test]
fn a_reader_may_fail_in_a_later_pass() {
    let broken = || Error::source_error(std::io::Error::other("the wire is broken"));
    let x = table::<f64>(4, 20, 1);
    let mut passes = 0;
    let mut source = Chunks::new(4, || {
        passes += 1;
        [if passes < 2 { Ok(x.clone()) } else { Err(broken()) }]
    });
    assert_eq!(
        Ppca::builder(1).fitter(Solver::Krylov).fit(&mut source, &mut VoidRng).unwrap_err(),
        broken()
    );
}

#[test]
fn settings_reach_every_way() {
    let x = table::<f64>(5, 80, 2);
    let fixed = Ppca::builder(2).noise_variance(NoiseVariance::Fixed(0.7));
    let moments = Moments::of(&x).unwrap();
    assert_eq!(fixed.fit(&moments, &mut VoidRng).unwrap().model.noise_variance(), 0.7);
    same(
        &fixed.fit(&moments, &mut VoidRng).unwrap(),
        &fixed.fit(&x, &mut VoidRng).unwrap(),
        &x,
        1e-12,
    );
    let told =
        Ppca::builder(2).noise_variance(NoiseVariance::Fixed(-1.0)).fit(&moments, &mut VoidRng);
    assert!(matches!(told, Err(Error::InvalidParameter { .. })));
    let floor = Ppca::builder(5).noise_floor(1e-3);
    same(
        &floor.fit(&moments, &mut VoidRng).unwrap(),
        &floor.fit(&x, &mut VoidRng).unwrap(),
        &x,
        1e-11,
    );
}

#[test]
fn a_file_in_blocks_is_the_fit_of_the_table() {
    use elbo::data::files::{Missing, NpyBlocks, write_npy};
    let x = table::<f64>(7, 333, 4);
    let path = std::env::temp_dir().join(format!("elbo-streams-{}.npy", std::process::id()));
    write_npy(&path, &x).unwrap();
    let result = (|| {
        let mut source = NpyBlocks::<f64>::open(&path, 50, Missing::Reject)?;
        let found = Ppca::builder(2).fit(&mut source, &mut VoidRng)?;
        let total = found.model.log_likelihood(&mut source)?.sum();
        Ok::<_, Error>((found, total))
    })();
    std::fs::remove_file(&path).ok();
    let (found, total) = result.unwrap();
    let whole = Ppca::fit(2, &x).unwrap();
    same(&found, &whole, &x, 1e-11);
    assert!((total / whole.model.log_likelihood(&x).unwrap().sum() - 1.0).abs() < 1e-12);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// However the stream is cut, and however its parts are merged.
    #[test]
    fn a_tree_of_merges_is_the_whole(seed in 0u64..1000, d in 2usize..9, n in 12usize..120) {
        let x = table::<f64>(d, n, seed);
        let rng = &mut Generator::seed_from_u64(seed);
        let mut parts = Vec::new();
        let mut first = 0;
        while first < n {
            let count = rng.random_range(1..=(n - first).min(30));
            parts.push(Moments::of(x.columns(first, count)).unwrap());
            first += count;
        }
        while parts.len() > 1 {
            let other = parts.swap_remove(rng.random_range(0..parts.len()));
            let place = rng.random_range(0..parts.len());
            parts[place].merge(&other).unwrap();
        }
        let whole = Moments::of(&x).unwrap();
        prop_assert_eq!(parts[0].count(), n);
        prop_assert!((parts[0].mean() - whole.mean()).amax() < 1e-12);
        prop_assert!((parts[0].covariance() - whole.covariance()).amax() < 1e-12 * whole.covariance().amax());
        same(&Ppca::builder(1).fit(&parts[0], &mut VoidRng).unwrap(), &Ppca::fit(1, &x).unwrap(), &x, 1e-10);
    }
}
