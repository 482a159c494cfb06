//! Step 3: variational EM (oracles 6, 7, 14, 20, 21).

use crate::ladder::common::{
    assert_relative, assert_within, eigenvalues, iris, isotropic_optimum, likelihood_optimum,
    mean_root, noise,
};
use crate::ladder::common::{observed, rng, wine};
use crate::support::VoidRng;
use elbo::data::Centering;
use elbo::fit::{ExpectationMaximization, StopReason, SubspaceFamily};
use elbo::inference::{Exact, PerPoint};
use elbo::model::LinearGaussian;
use elbo::objective::{Elbo, LogLikelihood, Objective};
use elbo::posterior::{Diagonal, Full, Isotropic, PosteriorFamily};
use elbo::{Ppca, VariationalPpca};

/// Oracle 6, in every figure.
#[test]
fn the_isotropic_optimum() {
    for (x, k) in [(iris(), 2), (iris(), 3), (wine(), 2), (wine(), 3)] {
        let values = eigenvalues(&x, true);
        let fit = VariationalPpca::<f64>::builder(k).fit(&x, &mut rng(3)).unwrap();
        assert_eq!(fit.stop, StopReason::Converged);
        let (variance, m) = (noise(&values, k), mean_root(&values, k));
        let best = isotropic_optimum(&values, k).unwrap();
        assert_within(fit.model.elbo(&x).unwrap().values().mean(), best, 1e-6, "J");
        assert_within(
            *fit.trace.values().last().unwrap(),
            fit.model.elbo(&x).unwrap().values().mean(),
            1e-9,
            "the last J of the trace",
        );
        assert_relative(fit.model.noise_variance(), variance, 1e-3, "noise variance");
        let singular = elbo::linalg::thin_svd(fit.model.loadings()).unwrap().singular_values;
        for (s, l) in singular.iter().zip(values.iter()) {
            assert_relative(s * s, l.sqrt() * m - variance, 1e-2, "squared singular value");
        }
        assert_relative(
            fit.model.inference().posterior.variances()[0],
            variance / (m * m),
            1e-2,
            "variance of q",
        );
        // It falls short of log p* by k times the log of the arithmetic over the geometric mean of
        // the roots.
        let geometric =
            (values.rows_range(..k).iter().map(|l| l.sqrt().ln()).sum::<f64>() / k as f64).exp();
        assert_within(
            likelihood_optimum(&values, k) - best,
            k as f64 * (m / geometric).ln(),
            1e-10,
            "what the family costs",
        );
    }
}

/// J may fall as k grows: the lecture's family pays for each direction of another strength.
#[test]
fn more_isotropic_dimensions_may_be_worse() {
    let x = iris();
    let at = |k| {
        VariationalPpca::<f64>::builder(k)
            .fit(&x, &mut rng(3))
            .unwrap()
            .model
            .elbo(&x)
            .unwrap()
            .values()
            .mean()
    };
    assert!(at(3) < at(2));
}

/// Oracle 7.
#[test]
fn the_diagonal_optimum_is_ppca_s_with_principal_columns() {
    for x in [iris(), wine()] {
        let best = Ppca::fit(3, &x).unwrap();
        let fit = VariationalPpca::<f64, Diagonal<f64>>::builder(3).fit(&x, &mut rng(4)).unwrap();
        assert_within(
            fit.model.elbo(&x).unwrap().values().mean(),
            best.model.log_likelihood(&x).unwrap().mean(),
            1e-6,
            "J",
        );
        let directions = best.model.components().unwrap();
        let mut used = [false; 3];
        for column in fit.model.loadings().column_iter() {
            let along = directions.tr_mul(&column.normalize());
            let place = along.iamax();
            assert!(along[place].abs() > 1.0 - 1e-4 && !used[place], "{along}");
            used[place] = true;
        }
    }
}

/// Oracle 20.
#[test]
fn the_order_of_the_ladder() {
    use elbo::AmortizedPpca;
    let x = wine();
    let k = 3;
    let tolerance = 1e-5;
    // A macro: the five builders have five types.
    macro_rules! mean_elbo {
        ($builder:expr) => {
            $builder.fit(&x, &mut rng(1)).unwrap().model.elbo(&x).unwrap().values().mean()
        };
    }
    let log_p = Ppca::fit(k, &x).unwrap().model.log_likelihood(&x).unwrap().mean();
    let full = mean_elbo!(VariationalPpca::<f64, Full<f64>>::builder(k));
    let diagonal = mean_elbo!(VariationalPpca::<f64, Diagonal<f64>>::builder(k));
    let isotropic = mean_elbo!(VariationalPpca::<f64>::builder(k));
    let head_diagonal = mean_elbo!(AmortizedPpca::<f64, Diagonal<f64>>::builder(k));
    let head_isotropic = mean_elbo!(AmortizedPpca::<f64>::builder(k));
    assert_within(full, log_p, tolerance, "full");
    assert_within(diagonal, log_p, tolerance, "diagonal");
    assert!(head_diagonal <= log_p + 1e-9 && head_diagonal > log_p - 1e-2);
    assert!(
        isotropic < log_p - 0.1
            && head_isotropic <= isotropic + tolerance
            && head_isotropic > isotropic - 1e-2
    );
}

/// Oracle 21, from the same start: every J of the two traces, and the models that they lead to.
#[test]
fn full_variational_em_is_em_step_by_step() {
    let x = iris();
    let start = || {
        let w = crate::ladder::common::normal(4, 2, &mut rng(5));
        LinearGaussian::from_parameters(w, crate::ladder::common::mean(&x), 0.5).unwrap()
    };
    let fitter = ExpectationMaximization { max_iterations: 25, tolerance: 0.0 };
    let em = fitter.fit(&Elbo::closed_form(), start(), Exact, observed(&x), &mut VoidRng).unwrap();
    let table = PerPoint::<Full<f64>>::at_prior(2, 150);
    let vem = fitter.fit(&Elbo::closed_form(), start(), table, observed(&x), &mut VoidRng).unwrap();
    assert_eq!(em.trace.len(), vem.trace.len());
    for (a, b) in em.trace.values().iter().zip(vem.trace.values()) {
        assert_within(*a, *b, 1e-11, "J");
    }
    crate::ladder::common::assert_close(
        &em.model.0.loadings().into_owned(),
        &vem.model.0.loadings().into_owned(),
        1e-10,
        "W",
    );
    // EM on the log-likelihood as the objective is the same loop once more: J(θ, exact posterior) =
    // log p.
    let direct = fitter.fit(&LogLikelihood, start(), Exact, observed(&x), &mut VoidRng).unwrap();
    for (a, b) in em.trace.values().iter().zip(direct.trace.values()) {
        assert_within(*a, *b, 1e-11, "log p");
    }
}

fn plain<Q: PosteriorFamily<f64> + SubspaceFamily<f64>>(name: &str) {
    let x = wine();
    let fit = VariationalPpca::<f64, Q>::builder(3)
        .fitter(ExpectationMaximization { max_iterations: 150, tolerance: 0.0 })
        .fit(&x, &mut rng(8))
        .unwrap();
    for pair in fit.trace.values().windows(2) {
        assert!(
            pair[1] >= pair[0] - 1e-11 * pair[0].abs(),
            "{name}: {} after {}",
            pair[1],
            pair[0]
        );
    }
    assert_within(
        fit.trace.last().unwrap(),
        fit.model.elbo(&x).unwrap().values().mean(),
        1e-9,
        name,
    );
    // On an easy table it gets to the optimum of the accelerated fitter.
    let rng = &mut rng(31);
    let x = crate::ladder::common::normal(5, 200, rng) * 0.7
        + crate::ladder::common::normal(5, 2, rng)
            * crate::ladder::common::normal(2, 200, rng)
            * 1.5;
    let plain = VariationalPpca::<f64, Q>::builder(2)
        .fitter(ExpectationMaximization::default())
        .fit(&x, rng)
        .unwrap();
    let fast = VariationalPpca::<f64, Q>::builder(2).fit(&x, rng).unwrap();
    let (slow, fast) = (
        plain.model.elbo(&x).unwrap().values().mean(),
        fast.model.elbo(&x).unwrap().values().mean(),
    );
    assert!(
        (slow - fast).abs() < 1e-5,
        "{name}: {slow} beside {fast}, {} after {} iterations",
        plain.stop,
        plain.iterations()
    );
}

#[test]
fn plain_alternation_is_monotone_and_gets_there() {
    plain::<Isotropic<f64>>("isotropic");
    plain::<Diagonal<f64>>("diagonal");
    plain::<Full<f64>>("full");
}

#[test]
fn the_accelerated_fitter_never_falls() {
    fn check<Q: SubspaceFamily<f64>>(x: &nalgebra::DMatrix<f64>, k: usize) {
        let fit = VariationalPpca::<f64, Q>::builder(k).fit(x, &mut rng(2)).unwrap();
        for pair in fit.trace.values().windows(2) {
            assert!(pair[1] >= pair[0] - 1e-11 * pair[0].abs(), "{} after {}", pair[1], pair[0]);
        }
    }
    for (_, x, k) in crate::ladder::common::hostile() {
        check::<Isotropic<f64>>(&x, k);
        check::<Diagonal<f64>>(&x, k);
        check::<Full<f64>>(&x, k);
    }
}

/// The objectives in closed form take a generator, and never ask it.
#[test]
fn closed_forms_ask_for_no_random_number() {
    let x = iris();
    let model = Ppca::fit(2, &x).unwrap();
    let q = model.model.encode(&x).unwrap();
    let bound = Elbo::closed_form()
        .evaluate(model.model.generative_model(), &q, observed(&x), &mut VoidRng)
        .unwrap();
    let likelihood = LogLikelihood
        .evaluate(model.model.generative_model(), &q, observed(&x), &mut VoidRng)
        .unwrap();
    assert_relative(bound, likelihood, 1e-12, "J");
    for mean in [Centering::Mean, Centering::None] {
        Ppca::builder(2).centering(mean).fit(&x, &mut VoidRng).unwrap();
    }
}
