//! What may not change a fit (oracle 18), and statistics that add up.

use crate::ladder::common::{
    assert_close, assert_relative, assert_within, iris, normal, observed, rng, wine,
};
use elbo::inference::{Exact, Inference};
use elbo::model::{LinearGaussian, MStep};
use elbo::steps::ModelKind;
use elbo::{Observations, Ppca};
use nalgebra::{DMatrix, DVector};

#[test]
fn rotations_scales_copies_and_order() {
    let x = wine();
    let (d, n, k) = (x.nrows(), x.ncols() as f64, 3);
    let model = Ppca::fit(k, &x).unwrap();
    let value = model.model.log_likelihood(&x).unwrap().sum();
    // z → Rz.
    let rotation = normal(k, k, &mut rng(1)).qr().q();
    let turned = Ppca::from_parameters(
        model.model.loadings() * rotation,
        model.model.mean().into_owned(),
        model.model.noise_variance(),
    )
    .unwrap();
    assert_relative(turned.log_likelihood(&x).unwrap().sum(), value, 1e-12, "rotation of z");
    assert_close(
        &turned.reconstruct(&x).unwrap(),
        &model.model.reconstruct(&x).unwrap(),
        1e-11,
        "reconstruction after a rotation of z",
    );
    // x → Qx.
    let orthogonal = normal(d, d, &mut rng(2)).qr().q() * &x;
    assert_relative(
        Ppca::fit(k, &orthogonal).unwrap().model.log_likelihood(&orthogonal).unwrap().sum(),
        value,
        1e-10,
        "orthogonal map of x",
    );
    // x → cx.
    for c in [1e-130, 1e-60, 1e-6, 3.0, 1e9, 1e60, 1e148] {
        let scaled = &x * c;
        let of_scaled = Ppca::fit(k, &scaled).unwrap();
        assert_within(
            of_scaled.model.log_likelihood(&scaled).unwrap().sum(),
            value - n * d as f64 * c.ln(),
            1e-9 * value.abs(),
            "x → cx",
        );
        assert_relative(
            of_scaled.model.noise_variance(),
            c * c * model.model.noise_variance(),
            1e-10,
            "σ² → c²σ²",
        );
    }
    // Each observation twice.
    let twice = DMatrix::from_fn(d, 2 * x.ncols(), |j, i| x[(j, i / 2)]);
    let of_twice = Ppca::fit(k, &twice).unwrap();
    assert_relative(
        of_twice.model.log_likelihood(&twice).unwrap().sum(),
        2.0 * value,
        1e-11,
        "duplicated data",
    );
    assert_relative(
        of_twice.model.noise_variance(),
        model.model.noise_variance(),
        1e-11,
        "duplicated data",
    );
    // In another order.
    let shuffled = DMatrix::from_fn(d, x.ncols(), |j, i| x[(j, (i * 37 + 5) % x.ncols())]);
    let of_shuffled = Ppca::fit(k, &shuffled).unwrap();
    assert_relative(
        of_shuffled.model.log_likelihood(&shuffled).unwrap().sum(),
        value,
        1e-11,
        "order",
    );
    assert_close(
        &of_shuffled.model.loadings().into_owned(),
        &model.model.loadings().into_owned(),
        1e-9,
        "order",
    );
}

/// J of every step follows the units of x, up to where squares leave the range of the numbers.
#[test]
fn every_step_at_every_scale() {
    let x = iris();
    let of = |step: ModelKind, x: &DMatrix<f64>| {
        let fit = step.fit(2, observed(x), &mut rng(6)).unwrap();
        fit.model.gaps(observed(x), Default::default(), &mut rng(7)).unwrap().unwrap()
    };
    // Those with an exact J.
    let exact = |step: &ModelKind| {
        ["ppca_", "vem_", "amortized_"].iter().any(|kind| step.name().starts_with(kind))
    };
    for step in ModelKind::ALL.into_iter().filter(exact) {
        let gaps = of(step, &x);
        // Powers of two: nothing is rounded on the way.
        for exponent in [-440, -330, -250, 250, 330, 490] {
            let there = of(step, &(&x * 2f64.powi(exponent)));
            let shift = 4.0 * f64::from(exponent) * std::f64::consts::LN_2;
            assert_within(there.log_likelihood + shift, gaps.log_likelihood, 1e-6, step.name());
            assert_within(there.elbo + shift, gaps.elbo, 1e-6, step.name());
            assert_within(there.approximation, gaps.approximation, 1e-6, step.name());
        }
    }
}

#[test]
fn statistics_of_two_chunks_add_up() {
    let x = iris();
    let w = normal(4, 2, &mut rng(3));
    let model = LinearGaussian::from_parameters(w, DVector::from_element(4, 1.0), 0.4).unwrap();
    let of = |x: Observations<'_, f64>| {
        MStep::statistics(&model, x, &Exact.infer(&model, x).unwrap()).unwrap()
    };
    let whole = of(observed(&x));
    let mut sum = of(observed(&x).columns(0, 41).unwrap());
    sum += of(observed(&x).columns(41, 109).unwrap());
    assert_eq!(sum.count(), 150.0);
    let step = |statistics| {
        let mut moved = model.clone();
        MStep::<f64, elbo::posterior::SharedCovariance<f64>>::maximize(&mut moved, statistics)
            .unwrap();
        moved
    };
    let (a, b) = (step(&whole), step(&sum));
    assert_close(&a.loadings().into_owned(), &b.loadings().into_owned(), 1e-12, "W");
    assert_close(&a.mean().into_owned(), &b.mean().into_owned(), 1e-12, "μ");
    assert_relative(a.noise_variance(), b.noise_variance(), 1e-12, "σ²");
    // A mini-batch stands for its population.
    let batch = of(observed(&x).of_population(300));
    assert_eq!(batch.count(), 300.0);
    assert_relative(step(&batch).noise_variance(), a.noise_variance(), 1e-12, "σ² from a batch");
}

/// The M-step is the maximiser: no model nearby has a larger expected log-likelihood under the same
/// q.
#[test]
fn the_m_step_is_a_maximum() {
    use elbo::model::ExpectedLogLikelihood;
    let x = iris();
    let model = LinearGaussian::from_parameters(
        normal(4, 2, &mut rng(4)),
        DVector::from_element(4, 1.0),
        0.4,
    )
    .unwrap();
    let q = Exact.infer(&model, observed(&x)).unwrap();
    let mut best = model.clone();
    let statistics = MStep::statistics(&model, observed(&x), &q).unwrap();
    MStep::<f64, elbo::posterior::SharedCovariance<f64>>::maximize(&mut best, &statistics).unwrap();
    let value = best.expected_log_likelihood(observed(&x), &q).unwrap().sum();
    let rng = &mut rng(5);
    for _ in 0..40 {
        let step = normal(4, 3, rng) * 1e-3;
        let other = LinearGaussian::from_parameters(
            best.loadings() + step.columns(0, 2),
            best.mean() + step.column(2),
            best.noise_variance() * (1.0 + 1e-2 * step[0]),
        )
        .unwrap();
        assert!(other.expected_log_likelihood(observed(&x), &q).unwrap().sum() < value);
    }
}

#[test]
fn rows_are_read_without_a_transpose() {
    let x = iris();
    // By rows of n×d is by columns of d×n: the same memory.
    let rows: &[f64] = x.as_slice();
    let view = Observations::from_rows(rows, 150, 4).unwrap();
    assert!(std::ptr::eq(view.values().as_ptr(), rows.as_ptr()));
    assert_eq!(Ppca::fit(2, view).unwrap(), Ppca::fit(2, &x).unwrap());
}
