//! What a model draws has the moments that it says; bounds are 5 standard errors, the seed is
//! fixed.

use crate::ladder::common::{iris, mean, normal, rng};
use elbo::posterior::{Diagonal, Full, Isotropic, PosteriorFamily};
use elbo::{AmortizedPpca, Ppca, VariationalPpca};
use nalgebra::{DMatrix, DVector};

const DRAWS: usize = 20_000;

/// Mean and covariance of the columns against what they should be.
fn check_moments(
    draws: &DMatrix<f64>,
    expected_mean: &DVector<f64>,
    covariance: &DMatrix<f64>,
    what: &str,
) {
    let n = draws.ncols() as f64;
    let found = mean(draws);
    for j in 0..draws.nrows() {
        let error = (covariance[(j, j)] / n).sqrt();
        assert!(
            (found[j] - expected_mean[j]).abs() <= 5.0 * error,
            "{what}: mean {j} is {} and not {}",
            found[j],
            expected_mean[j]
        );
        for i in 0..=j {
            let sum: f64 = draws
                .column_iter()
                .map(|c| (c[i] - expected_mean[i]) * (c[j] - expected_mean[j]))
                .sum();
            // Var of a product of two Gaussians: σ_ii σ_jj + σ_ij².
            let error =
                ((covariance[(i, i)] * covariance[(j, j)] + covariance[(i, j)].powi(2)) / n).sqrt();
            let off = (sum / n - covariance[(i, j)]).abs();
            assert!(
                off <= 5.0 * error,
                "{what}: covariance ({i}, {j}) is off by {off:e}, {:.1} standard errors",
                off / error
            );
        }
    }
}

#[test]
fn draws_have_the_model_s_moments() {
    let x = iris();
    let model = Ppca::fit(2, &x).unwrap();
    let (z, drawn) = model.model.sample_with_codes(DRAWS, &mut rng(1));
    assert_eq!((z.shape(), drawn.shape()), ((2, DRAWS), (4, DRAWS)));
    let w = model.model.loadings().into_owned();
    check_moments(&z, &DVector::zeros(2), &DMatrix::identity(2, 2), "z");
    let marginal = &w * w.transpose() + DMatrix::identity(4, 4) * model.model.noise_variance();
    check_moments(&drawn, &model.model.mean().into_owned(), &marginal, "x");
    // z and x belong together: x − Wz − μ is the noise.
    let mut noise = &drawn - &w * &z;
    noise.column_iter_mut().for_each(|mut c| c -= model.model.mean());
    check_moments(
        &noise,
        &DVector::zeros(4),
        &(DMatrix::identity(4, 4) * model.model.noise_variance()),
        "the noise",
    );
    // A model fitted to what it drew is the model.
    let again = Ppca::fit(2, &drawn).unwrap();
    assert!(
        (again.model.noise_variance() / model.model.noise_variance() - 1.0).abs()
            < 5.0 * (2.0 / (2.0 * DRAWS as f64)).sqrt()
    );
}

#[test]
fn every_step_with_a_density_draws() {
    let x = iris();
    let shapes = |(z, x): (DMatrix<f64>, DMatrix<f64>)| (z.shape(), x.shape());
    assert_eq!(
        shapes(
            VariationalPpca::<f64>::builder(2)
                .fit(&x, &mut rng(2))
                .unwrap()
                .model
                .sample_with_codes(7, &mut rng(3))
        ),
        ((2, 7), (4, 7))
    );
    assert_eq!(
        shapes(
            AmortizedPpca::<f64>::builder(2)
                .fit(&x, &mut rng(2))
                .unwrap()
                .model
                .sample_with_codes(7, &mut rng(3))
        ),
        ((2, 7), (4, 7))
    );
    let model = Ppca::fit(2, &x).unwrap();
    assert_eq!(model.model.sample(5, &mut rng(4)), model.model.sample(5, &mut rng(4)));
    assert_eq!(shapes(model.model.sample_with_codes(0, &mut rng(4))), ((2, 0), (4, 0)));
}

/// z = m + Lε has covariance LLᵗ: the factor is the standard deviation, not the variance.
#[test]
fn reparameterised_draws_have_the_covariance_of_q() {
    fn check<Q: PosteriorFamily<f64>>(what: &str) {
        let rng = &mut rng(6);
        let one = normal(Q::parameter_count(2), 1, rng) * 0.7;
        let phi = DMatrix::from_fn(one.nrows(), DRAWS, |row, _| one[row]);
        let q = Q::from_parameters(2, phi).unwrap();
        let mut z = DMatrix::zeros(2, DRAWS);
        q.transform(normal(2, DRAWS, rng).as_view(), &mut z);
        check_moments(&z, &q.mean().column(0).into_owned(), &q.covariance(0), what);
    }
    check::<Isotropic<f64>>("isotropic");
    check::<Diagonal<f64>>("diagonal");
    check::<Full<f64>>("full");
}
