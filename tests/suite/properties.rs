//! What holds for any table, on random ones: sizes, scales, means and ranks vary.

use elbo::diagnostics::InferenceGapSummary;
use elbo::fit::AutoencoderDescent;
use elbo::fit::PxEm;
use elbo::fit::{ExpectationMaximization, SubspaceFamily};
use elbo::inference::{Exact, Inference, PerPoint};
use elbo::model::{LinearGaussian, MStep};
use elbo::posterior::{Diagonal, Full, Isotropic, PosteriorFamily, SharedCovariance};
use elbo::steps::ModelKind;
use elbo::{
    AmortizedPpca, IntoObservations, LinearAutoencoder, Observations, Ppca, VariationalPpca,
};
use nalgebra::{DMatrix, DVector};
use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;
use rand::{SeedableRng, rngs::Xoshiro256PlusPlus as Generator};

fn rng(seed: u64) -> Generator {
    Generator::seed_from_u64(seed)
}

fn normal(rows: usize, columns: usize, rng: &mut Generator) -> DMatrix<f64> {
    DMatrix::from_fn(rows, columns, |_, _| elbo::Real::standard_normal(rng))
}

/// A table with a gap in its spectrum after k: d, n, k, and x.
#[derive(Debug, Clone)]
struct Table {
    k: usize,
    x: DMatrix<f64>,
    seed: u64,
}

prop_compose! {
    fn table()(k in 1usize..4, more in 1usize..5, n in 12usize..50, scale in -6i32..6, mean in -3.0f64..3.0, seed in any::<u64>()) -> Table {
        let (rng, d) = (&mut rng(seed), k + more);
        let x = normal(d, k, rng) * normal(k, n, rng) * 2.0 + normal(d, n, rng) * 0.5;
        Table { k, x: x.map(|v| (v + mean) * 10f64.powi(scale)), seed }
    }
}

fn observed(x: &DMatrix<f64>) -> Observations<'_, f64> {
    x.into_observations().unwrap()
}

/// The largest sine of the principal angles between two spans.
fn sine(a: &DMatrix<f64>, b: &DMatrix<f64>) -> f64 {
    let (a, b) = (a.clone().qr().q(), b.clone().qr().q());
    let outside = &b - &a * a.tr_mul(&b);
    outside.tr_mul(&outside).symmetric_eigenvalues().max().max(0.0).sqrt()
}

fn monotone(values: &[f64]) -> TestCaseResult {
    for pair in values.windows(2) {
        prop_assert!(
            pair[1] >= pair[0] - 1e-10 * pair[0].abs().max(1.0),
            "{} after {}",
            pair[1],
            pair[0]
        );
    }
    Ok(())
}

/// At any θ and any q of the family, J ≤ log p, and the best member is not below it.
fn bounded<Q: PosteriorFamily<f64> + elbo::diagnostics::KlProjection<f64>>(
    table: &Table,
) -> TestCaseResult {
    let (d, n, k) = (table.x.nrows(), table.x.ncols(), table.k);
    let rng = &mut rng(table.seed ^ 1);
    let size = table.x.amax();
    let model =
        LinearGaussian::from_parameters(normal(d, k, rng) * size, DVector::zeros(d), size * size)
            .unwrap();
    let q = Q::from_parameters(k, normal(Q::parameter_count(k), n, rng)).unwrap();
    let gaps = InferenceGapSummary::exact(&model, &PerPoint::new(q), observed(&table.x)).unwrap();
    let rounding = 1e-10 * gaps.log_likelihood.abs().max(1.0);
    prop_assert!(
        gaps.total() >= -rounding
            && gaps.approximation >= -rounding
            && gaps.amortization >= -rounding,
        "{gaps:?}"
    );
    Ok(())
}

fn variational<Q: SubspaceFamily<f64>>(table: &Table) -> TestCaseResult {
    let rng = &mut rng(table.seed);
    let builder = VariationalPpca::<f64, Q>::builder(table.k);
    let fit = builder.fit(&table.x, rng).unwrap();
    monotone(fit.trace.values())?;
    let (bound, log_p) =
        (fit.model.elbo(&table.x).unwrap().values(), fit.model.log_likelihood(&table.x).unwrap());
    prop_assert!(bound.iter().zip(log_p.iter()).all(|(j, p)| *j <= p + 1e-9 * p.abs().max(1.0)));
    let plain = builder
        .fitter(ExpectationMaximization { max_iterations: 20, tolerance: 0.0 })
        .fit(&table.x, rng)
        .unwrap();
    monotone(plain.trace.values())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn the_autoencoder_by_gradient_spans_pca(table in table()) {
        let fit = LinearAutoencoder::builder(table.k).fitter(AutoencoderDescent::default()).fit(&table.x, &mut rng(table.seed)).unwrap();
        let ppca = Ppca::fit(table.k, &table.x).unwrap();
        // An error within ε of the least leaves an angle of about √ε: where the spectrum has no
        // gap, there is no subspace to find.
        let values = ppca.model.explained_variance().unwrap();
        prop_assume!(values[table.k - 1] > 3.0 * ppca.model.noise_variance() * (table.x.nrows() - table.k) as f64);
        let angle = sine(&fit.model.decoder_weights().into_owned(), &ppca.model.components().unwrap());
        prop_assert!(angle < 3e-3, "sine of the largest principal angle: {angle:e}");
        let error = LinearAutoencoder::fit(table.k, &table.x).unwrap().model.squared_error(&table.x).unwrap();
        prop_assert!(fit.model.squared_error(&table.x).unwrap() <= error * (1.0 + 1e-4));
        monotone(fit.trace.values())?;
    }

    #[test]
    fn no_bound_exceeds_the_likelihood(table in table()) {
        bounded::<Isotropic<f64>>(&table)?;
        bounded::<Diagonal<f64>>(&table)?;
        bounded::<Full<f64>>(&table)?;
    }

    #[test]
    fn no_step_of_em_lowers_j(table in table()) {
        let builder = Ppca::builder(table.k);
        let few = ExpectationMaximization { max_iterations: 40, tolerance: 0.0 };
        monotone(builder.fitter(few).fit(&table.x, &mut rng(table.seed)).unwrap().trace.values())?;
        let expanded = builder.fitter(PxEm::default()).fit(&table.x, &mut rng(table.seed)).unwrap();
        monotone(expanded.trace.values())?;
        let best = Ppca::fit(table.k, &table.x).unwrap().model.log_likelihood(&table.x).unwrap().mean();
        prop_assert!((expanded.model.log_likelihood(&table.x).unwrap().mean() - best).abs() < 1e-5);
    }

    #[test]
    fn variational_em_climbs_and_stays_below(table in table()) {
        variational::<Isotropic<f64>>(&table)?;
        variational::<Diagonal<f64>>(&table)?;
        variational::<Full<f64>>(&table)?;
    }

    #[test]
    fn an_encoder_is_never_better_than_the_table(table in table()) {
        let table_of = VariationalPpca::<f64>::builder(table.k).fit(&table.x, &mut rng(table.seed)).unwrap();
        let encoder = AmortizedPpca::<f64>::builder(table.k).fit(&table.x, &mut rng(table.seed)).unwrap();
        let (best, reached) = (table_of.model.elbo(&table.x).unwrap().values().mean(), encoder.model.elbo(&table.x).unwrap().values().mean());
        prop_assert!(reached <= best + 1e-5 && reached > best - 1e-2, "{reached} beside {best}");
    }

    #[test]
    fn what_does_not_change_a_fit(table in table(), c in prop::sample::select(vec![1e-5, 0.3, 7.0, 1e6])) {
        let Table { k, x, seed } = table;
        let (d, n) = x.shape();
        let model = Ppca::fit(k, &x).unwrap();
        let value = model.model.log_likelihood(&x).unwrap().mean();
        let rounding = 1e-7 * value.abs().max(1.0);
        let mean_of = |x: &DMatrix<f64>| Ppca::fit(k, x).unwrap().model.log_likelihood(x).unwrap().mean();
        let rng = &mut rng(seed ^ 2);
        // Rotations of z.
        let turned = model.model.loadings() * normal(k, k, rng).qr().q();
        let turned = Ppca::from_parameters(turned, model.model.mean().into_owned(), model.model.noise_variance()).unwrap();
        prop_assert!((turned.log_likelihood(&x).unwrap().mean() - value).abs() < rounding);
        // Orthogonal maps of x, scales, copies, order.
        prop_assert!((mean_of(&(normal(d, d, rng).qr().q() * &x)) - value).abs() < rounding);
        prop_assert!((mean_of(&(&x * c)) - value + d as f64 * c.ln()).abs() < rounding);
        prop_assert!((mean_of(&DMatrix::from_fn(d, 2 * n, |j, i| x[(j, i / 2)])) - value).abs() < rounding);
        prop_assert!((mean_of(&DMatrix::from_fn(d, n, |j, i| x[(j, n - 1 - i)])) - value).abs() < rounding);
    }

    #[test]
    fn statistics_of_chunks_add_up(table in table(), cut in 1usize..11) {
        let (d, n, k) = (table.x.nrows(), table.x.ncols(), table.k);
        let size = table.x.amax();
        let model = LinearGaussian::from_parameters(normal(d, k, &mut rng(table.seed)) * size, DVector::zeros(d), size * size).unwrap();
        let of = |x: Observations<'_, f64>| MStep::statistics(&model, x, &Exact.infer(&model, x).unwrap()).unwrap();
        let maximum = |statistics| {
            let mut moved = model.clone();
            MStep::<f64, SharedCovariance<f64>>::maximize(&mut moved, statistics).unwrap();
            moved
        };
        let mut sum = of(observed(&table.x).columns(0, cut).unwrap());
        sum += of(observed(&table.x).columns(cut, n - cut).unwrap());
        let (a, b) = (maximum(&of(observed(&table.x))), maximum(&sum));
        prop_assert!((a.loadings() - b.loadings()).amax() <= 1e-9 * a.loadings().amax());
        prop_assert!((a.noise_variance() / b.noise_variance() - 1.0).abs() < 1e-9);
    }

    #[test]
    fn rows_are_columns_of_the_same_memory(table in table()) {
        let (d, n) = table.x.shape();
        let by_rows = Observations::from_rows(table.x.as_slice(), n, d).unwrap();
        prop_assert_eq!(Ppca::fit(table.k, by_rows).unwrap(), Ppca::fit(table.k, &table.x).unwrap());
    }
}

/// What a step says of a table, as bits.
fn bits(step: ModelKind, x: &DMatrix<f64>, seed: u64) -> Vec<u64> {
    let fit = step.fit(2, observed(x), &mut rng(seed)).unwrap();
    let codes = fit.model.codes(observed(x)).unwrap();
    let decoded = fit.model.inverse_transform(&codes).unwrap();
    let trace = fit.trace.values().iter();
    codes.iter().chain(decoded.iter()).chain(trace).map(|v| v.to_bits()).collect()
}

fn with_threads<V: Send>(threads: usize, run: impl FnOnce() -> V + Send) -> V {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(run)
}

/// Same seed, same bits, on one thread or two; on a table large enough that the products are
/// divided among them.
#[test]
fn the_same_seed_gives_the_same_bits() {
    let rng = &mut rng(5);
    let x = normal(30, 3, rng) * normal(3, 2000, rng) + normal(30, 2000, rng);
    // The deep steps are covered on the small tables of the command line.
    for step in
        ModelKind::ALL.into_iter().filter(|s| !matches!(s, ModelKind::DeepEncoder | ModelKind::Vae))
    {
        let one = with_threads(1, || bits(step, &x, 9));
        assert!(
            one == with_threads(1, || bits(step, &x, 9)),
            "{} twice on one thread",
            step.name()
        );
        assert!(one == with_threads(2, || bits(step, &x, 9)), "{} on two threads", step.name());
    }
}
