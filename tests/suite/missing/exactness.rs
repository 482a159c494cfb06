//! Likelihood, posterior and conditional distributions against the explicit d×d covariance.

use crate::missing::{HOLE, brute_force, rng, table};
use elbo::Ppca;
use elbo::data::Incomplete;
use elbo::posterior::{GaussianPosterior, Posterior};
use nalgebra::{DMatrix, DVector, dmatrix};

fn model(d: usize, k: usize, noise: f64, scale: impl Fn(usize) -> f64) -> Ppca {
    let mut rng = rng(d as u64);
    let loadings = DMatrix::from_fn(d, k, |j, _| scale(j) * crate::missing::normal(&mut rng));
    let mean = DVector::from_fn(d, |j, _| scale(j) * crate::missing::normal(&mut rng));
    Ppca::from_parameters(loadings, mean, noise).unwrap()
}

#[test]
fn agrees_with_the_explicit_covariance() {
    for (d, k, n, holes) in
        [(5, 2, 40, 0.3), (9, 4, 700, 0.5), (70, 3, 60, 0.2), (3, 3, 50, 0.4), (2, 1, 1200, 0.5)]
    {
        let model = model(d, k, 0.7, |_| 1.0);
        let x = table(d, n, 2, 1.0, holes, 3);
        let values = model.log_likelihood(Incomplete(&x)).unwrap();
        let missing = model.conditional(&x).unwrap();
        let posterior = model.encode(Incomplete(&x)).unwrap();
        for (i, column) in x.column_iter().enumerate() {
            let (value, mean, covariance) = brute_force(&model, &column.into_owned());
            assert!(
                (values[i] - value).abs() < 1e-10 * (1.0 + value.abs()),
                "{i}: {} {value}",
                values[i]
            );
            let hidden = (0..d).filter(|&j| column[j].is_nan());
            for (place, j) in hidden.enumerate() {
                assert!((missing.mean[(j, i)] - mean[place]).abs() < 1e-10);
                assert!((missing.variance[(j, i)] - covariance[(place, place)]).abs() < 1e-10);
            }
            // The posterior in information form.
            let seen: Vec<usize> = (0..d).filter(|&j| !column[j].is_nan()).collect();
            let w = model.loadings().select_rows(&seen);
            let precision = DMatrix::identity(k, k) + w.tr_mul(&w) / 0.7;
            let covariance = precision.try_inverse().unwrap();
            let deviation = DVector::from_iterator(
                seen.len(),
                seen.iter().map(|&j| column[j] - model.mean()[j]),
            );
            assert!(
                (posterior.mean().column(i) - &covariance * w.tr_mul(&deviation) / 0.7).amax()
                    < 1e-11
            );
            assert!((posterior.covariance(i) - covariance).amax() < 1e-11);
        }
    }
}

#[test]
fn the_evidence_is_the_likelihood_less_the_divergences() {
    // ln p(x_o) = E_q ln p(x_o|z) − KL(q‖π) with the exact q.
    let model = model(6, 2, 0.5, |_| 1.0);
    let x = table(6, 30, 2, 1.0, 0.3, 8);
    let (values, q) =
        (model.log_likelihood(Incomplete(&x)).unwrap(), model.encode(Incomplete(&x)).unwrap());
    let kl = q.kl_to_prior();
    let mut sum = DMatrix::zeros(2, 2);
    for i in 0..30 {
        sum += q.covariance(i);
        let mut expected = 0.0;
        for j in (0..6).filter(|&j| !x[(j, i)].is_nan()) {
            let w = model.loadings().row(j).transpose();
            let residual = x[(j, i)] - model.mean()[j] - w.dot(&q.mean().column(i));
            let spread = (w.transpose() * q.covariance(i) * &w)[(0, 0)];
            expected -=
                0.5 * ((std::f64::consts::TAU * 0.5).ln() + (residual * residual + spread) / 0.5);
        }
        assert!((expected - kl[i] - values[i]).abs() < 1e-11);
    }
    assert!((q.covariance_sum() - sum).amax() < 1e-12);
    let root = dmatrix![1.0, 2.0; 0.0, 1.0];
    let trace = q.trace_with(root.as_view());
    assert!((trace[4] - (root.transpose() * &root * q.covariance(4)).trace()).abs() < 1e-12);
}

#[test]
fn one_entry_or_none() {
    let model = model(3, 2, 0.5, |_| 1.0);
    let x = dmatrix![HOLE, HOLE, 1.0; HOLE, 2.0, HOLE; HOLE, HOLE, HOLE];
    let values = model.log_likelihood(Incomplete(&x)).unwrap();
    assert_eq!(values[0], 0.0);
    for (column, variable) in [(1, 1), (2, 0)] {
        let variance = model.loadings().row(variable).norm_squared() + 0.5;
        let deviation: f64 = x[(variable, column)] - model.mean()[variable];
        let expected =
            -0.5 * ((std::f64::consts::TAU * variance).ln() + deviation * deviation / variance);
        assert!((values[column] - expected).abs() < 1e-13);
    }
    let q = model.encode(Incomplete(&x)).unwrap();
    assert_eq!(q.mean().column(0).amax(), 0.0);
    assert_eq!(q.covariance(0), DMatrix::identity(2, 2));
    assert!((model.impute(&x).unwrap().column(0) - model.mean()).amax() < 1e-15);
}

#[test]
fn strong_and_weak_variables_side_by_side() {
    // Loadings over ten orders of magnitude, noise at the weakest: M_o itself would lose them.
    // Against the same in variables that are scaled to 1.
    let scale = |j: usize| 10f64.powf(5.0 - j as f64 * 10.0 / 7.0);
    let model = model(8, 3, 1e-10, scale);
    let mut rng = rng(4);
    let mut x = model.sample(40, &mut rng);
    x.apply(|v| {
        if rand::RngExt::random::<f64>(&mut rng) < 0.3 {
            *v = HOLE;
        }
    });
    let values = model.log_likelihood(Incomplete(&x)).unwrap();
    for (i, column) in x.column_iter().enumerate() {
        let seen: Vec<usize> = (0..8).filter(|&j| !column[j].is_nan()).collect();
        // ln N by a sequence of conditionals: R of [W_o; σI], in which nothing is subtracted.
        let mut rows: Vec<(usize, Vec<f64>)> =
            seen.iter().map(|&j| (j, model.loadings().row(j).iter().copied().collect())).collect();
        rows.sort_by_key(|row| row.0);
        let mut stacked = DMatrix::zeros(seen.len() + 3, 3);
        let mut target = DVector::zeros(seen.len() + 3);
        for (place, (j, row)) in rows.iter().enumerate() {
            row.iter().enumerate().for_each(|(a, v)| stacked[(place, a)] = *v);
            target[place] = column[*j] - model.mean()[*j];
        }
        (0..3).for_each(|a| stacked[(seen.len() + a, a)] = 1e-5);
        let (q, r) = elbo::linalg::thin_qr(stacked.as_view()).unwrap();
        let code = r.solve_upper_triangular(&(q.transpose() * &target)).unwrap();
        let distance = (&target - &stacked * code).norm_squared() / 1e-10;
        let determinant: f64 = r.diagonal().iter().map(|v| 2.0 * v.ln()).sum::<f64>()
            + (seen.len() as f64 - 3.0) * 1e-10f64.ln();
        let expected =
            -0.5 * (seen.len() as f64 * std::f64::consts::TAU.ln() + determinant + distance);
        assert!(
            (values[i] - expected).abs() < 1e-3 * (1.0 + distance),
            "{i}: {} {expected} ({distance})",
            values[i]
        );
    }
}
