//! Steps 2a and 2b: probabilistic PCA (oracles 1, 11, 12, 14, 15).

use crate::ladder::common::{
    assert_close, assert_relative, assert_within, covariance, eigenvalues, hostile, iris,
    likelihood_optimum, log_determinant,
};
use crate::ladder::common::{mean, noise, normal, observed, rng, wine};
use crate::support::VoidRng;
use elbo::data::{Centering, ScatterFactor};
use elbo::fit::PxEm;
use elbo::fit::{ExpectationMaximization, StopReason};
use elbo::likelihood::NoiseVariance;
use elbo::model::ExactPosterior;
use elbo::posterior::{GaussianPosterior, Posterior};
use elbo::{Error, IntoObservations, Ppca, Real};
use nalgebra::{DMatrix, DVector};
use std::f64::consts::TAU;

#[test]
fn the_maximum_is_oracle_1() {
    for (name, x, k) in hostile().into_iter().chain([("iris", iris(), 2), ("wine", wine(), 3)]) {
        let values = eigenvalues(&x, true);
        let model = Ppca::fit(k, &x).unwrap();
        let value = model.model.log_likelihood(&x).unwrap().mean();
        let expected = likelihood_optimum(&values, k);
        assert_within(value, expected, 1e-8 * expected.abs().max(1.0), name);
        assert_relative(model.model.noise_variance(), noise(&values, k), 1e-8, name);
        for (variance, expected) in
            model.model.explained_variance().unwrap().iter().zip(values.iter())
        {
            assert_relative(*variance, *expected, 1e-9, name);
        }
        // Of the total, and not of the k leading ones.
        let ratio = model.model.explained_variance_ratio().unwrap();
        assert_relative(ratio.sum(), values.rows_range(..k).sum() / values.sum(), 1e-9, name);
        assert_close(&model.model.mean().into_owned(), &mean(&x), 1e-14, name);
    }
}

/// log N(x; μ, WWᵗ + σ²I) with the d×d matrix written out, which the library never does.
#[test]
fn the_density_is_the_gaussian_with_the_marginal_covariance() {
    let rng = &mut rng(2);
    let (w, mu, variance) =
        (normal(5, 2, rng), DVector::from_column_slice(normal(5, 1, rng).as_slice()), 0.3);
    let model = Ppca::from_parameters(w.clone(), mu.clone(), variance).unwrap();
    let x = normal(5, 9, rng) * 3.0;
    let marginal = &w * w.transpose() + DMatrix::identity(5, 5) * variance;
    let (inverse, log_determinant) =
        (marginal.clone().try_inverse().unwrap(), log_determinant(&marginal));
    let densities = model.log_likelihood(&x).unwrap();
    for (i, column) in x.column_iter().enumerate() {
        let deviation = column - &mu;
        let expected = -0.5
            * (5.0 * TAU.ln()
                + log_determinant
                + (deviation.transpose() * &inverse * &deviation)[0]);
        assert_relative(densities[i], expected, 1e-12, "density");
    }
    // M = WᵗW + σ²I; E[z|x] = M⁻¹Wᵗ(x−μ), Cov[z|x] = σ²M⁻¹.
    let m_inverse = (w.tr_mul(&w) + DMatrix::identity(2, 2) * variance).try_inverse().unwrap();
    let posterior = model.generative_model().posterior(observed(&x)).unwrap();
    let deviations = DMatrix::from_fn(5, 9, |j, i| x[(j, i)] - mu[j]);
    assert_close(
        &posterior.mean().into_owned(),
        &(&m_inverse * w.transpose() * deviations),
        1e-12,
        "posterior mean",
    );
    assert_close(&posterior.covariance(3), &(&m_inverse * variance), 1e-12, "posterior covariance");
    let root = model.generative_model().posterior_precision_root().unwrap();
    assert_close(
        &root.tr_mul(&root),
        &(m_inverse.try_inverse().unwrap() / variance),
        1e-12,
        "posterior precision",
    );
}

#[test]
fn no_model_nearby_is_more_likely() {
    let x = wine();
    let best = Ppca::fit(2, &x).unwrap();
    let value = best.model.log_likelihood(&x).unwrap().sum();
    let rng = &mut rng(6);
    for size in [1e-1, 1e-3] {
        for _ in 0..10 {
            let w = best
                .model
                .loadings()
                .map(|v| v * (1.0 + size * <f64 as elbo::Real>::standard_normal(rng)));
            let mu = best
                .model
                .mean()
                .map(|v| v * (1.0 + 0.01 * size * <f64 as elbo::Real>::standard_normal(rng)));
            let other =
                Ppca::from_parameters(w, mu, best.model.noise_variance() * (1.0 + 0.1 * size))
                    .unwrap();
            assert!(other.log_likelihood(&x).unwrap().sum() < value);
        }
    }
}

/// Oracle 11, with R = I.
#[test]
fn posterior_at_the_maximum() {
    let x = wine();
    let (k, values) = (3, eigenvalues(&x, true));
    let model = Ppca::fit(k, &x).unwrap();
    let q = model.model.encode(&x).unwrap();
    let variance = noise(&values, k);
    for j in 0..k {
        assert_relative(
            q.common_covariance()[(j, j)],
            variance / values[j],
            1e-9,
            "posterior variance",
        );
        let row = q.mean().row(j).into_owned();
        assert_relative(
            row.norm_squared() / x.ncols() as f64,
            1.0 - variance / values[j],
            1e-9,
            "active-unit variance",
        );
    }
    let aggregated = q.mean() * q.mean().transpose() / x.ncols() as f64 + q.common_covariance();
    assert_close(
        &aggregated,
        &DMatrix::identity(k, k),
        1e-9,
        "covariance of the aggregated posterior",
    );
    let rate = q.kl_to_prior().mean();
    assert_relative(
        rate,
        0.5 * values.rows_range(..k).iter().map(|l| (l / variance).ln()).sum::<f64>(),
        1e-10,
        "rate",
    );
}

/// Oracle 12: at a fixed σ² the squared singular values are λ − σ² where that is positive, and the
/// other units are dead. A β in front of the KL is the same with βσ² in the place of σ².
#[test]
fn fixed_noise_kills_the_units_below_it() {
    let x = iris();
    let values = eigenvalues(&x, true);
    let between = 0.5 * (values[1] + values[2]);
    let fixed = Ppca::builder(3).noise_variance(NoiseVariance::Fixed(between));
    let model = fixed.fit(&x, &mut VoidRng).unwrap();
    assert_eq!(model.model.noise_variance(), between);
    let singular = elbo::linalg::thin_svd(model.model.loadings()).unwrap().singular_values;
    for (s, expected) in singular.iter().zip([values[0] - between, values[1] - between, 0.0]) {
        assert_within(s * s, expected, 1e-10, "squared singular value");
    }
    let by_em = fixed.fitter(PxEm::default()).fit(&x, &mut rng(3)).unwrap();
    assert_eq!(by_em.model.noise_variance(), between);
    assert_within(
        by_em.model.log_likelihood(&x).unwrap().mean(),
        model.model.log_likelihood(&x).unwrap().mean(),
        1e-6,
        "by EM",
    );
}

#[test]
fn one_latent_dimension_and_one_less_than_the_variables() {
    for x in [iris(), wine()] {
        let (d, values) = (x.nrows(), eigenvalues(&x, true));
        for k in [1, d - 1] {
            let model = Ppca::fit(k, &x).unwrap();
            assert_relative(
                model.model.log_likelihood(&x).unwrap().mean(),
                likelihood_optimum(&values, k),
                1e-10,
                "log p",
            );
            assert_relative(
                model.model.noise_variance(),
                noise(&values, k),
                1e-8,
                "noise variance",
            );
            assert!(
                model
                    .model
                    .explained_variance_ratio()
                    .unwrap()
                    .iter()
                    .all(|r| r.is_finite() && *r > 0.0)
            );
            let em = Ppca::builder(k).fitter(PxEm::default()).fit(&x, &mut rng(9)).unwrap();
            assert_within(
                em.model.log_likelihood(&x).unwrap().mean(),
                likelihood_optimum(&values, k),
                1e-5,
                "by EM",
            );
        }
    }
}

/// Oracle 15: the likelihood is unbounded; a typed error with both numbers, or a floor that was
/// declared and is told.
#[test]
fn at_the_rank_of_the_data() {
    let (few, mixing) = (normal(2, 40, &mut rng(1)), normal(5, 2, &mut rng(2)));
    let x = &mixing * &few;
    for k in [2, 3, 4] {
        let refused = Ppca::fit(k, &x).unwrap_err();
        assert_eq!(refused, Error::Unbounded { latent_dim: k, rank: 2 });
        assert!(
            refused.to_string().contains("rank 2") && refused.to_string().contains(&k.to_string())
        );
        assert!(matches!(
            Ppca::builder(k).fitter(PxEm::default()).fit(&x, &mut rng(3)),
            Err(Error::Unbounded { rank: 2, .. })
        ));
        let floored = Ppca::builder(k).noise_floor(1e-3).fit(&x, &mut VoidRng).unwrap();
        let floor = 1e-3 * observed(&x).variances().mean();
        assert!((floored.model.noise_variance() / floor - 1.0).abs() < 1e-12);
        assert!(floored.model.likelihood().is_at_floor());
        let by_em = Ppca::builder(k)
            .noise_floor(1e-3)
            .fitter(PxEm::default())
            .fit(&x, &mut rng(4))
            .unwrap();
        assert!((by_em.model.noise_variance() / floor - 1.0).abs() < 1e-12);
        assert_eq!(by_em.stop, StopReason::Floor);
        assert_within(
            by_em.model.log_likelihood(&x).unwrap().mean(),
            floored.model.log_likelihood(&x).unwrap().mean(),
            1e-5,
            "by EM",
        );
    }
    // d log p/d ln σ² → −(d−r)/2 as the floor falls.
    let at = |floor: f64| {
        Ppca::builder(2)
            .noise_floor(floor)
            .fit(&x, &mut VoidRng)
            .unwrap()
            .model
            .log_likelihood(&x)
            .unwrap()
            .mean()
    };
    let slope = (at(1e-6) - at(1e-8)) / (100f64).ln();
    assert_within(slope, -1.5, 1e-4, "slope in ln σ²");
    // A floor that does not bind changes nothing and is not told.
    let x = iris();
    let free = Ppca::builder(2).noise_floor(1e-6).fit(&x, &mut VoidRng).unwrap();
    assert!(!free.model.likelihood().is_at_floor());
    assert_eq!(free.model.noise_variance(), Ppca::fit(2, &x).unwrap().model.noise_variance());
    // Above the rank there is no such dimension at all.
    assert!(matches!(
        Ppca::fit(5, &x),
        Err(Error::LatentDim { latent_dim: 5, smallest: 1, largest: 4 })
    ));
}

/// Indicator columns add up to 1: six of them have rank 5, and the mean that single precision
/// rounds must not pass for a sixth direction.
#[test]
fn rounding_is_no_direction() {
    fn check<T: Real>() {
        let x =
            DMatrix::from_fn(
                6,
                300,
                |j, i| if (i * i + i / 7) % 6 == j { T::one() } else { T::zero() },
            );
        assert_eq!(
            ScatterFactor::of((&x).into_observations().unwrap(), Centering::Mean)
                .unwrap()
                .rank()
                .unwrap(),
            5
        );
        assert_eq!(Ppca::fit(5, &x).unwrap_err(), Error::Unbounded { latent_dim: 5, rank: 5 });
        assert_eq!(
            Ppca::builder(5).fitter(PxEm::default()).fit(&x, &mut rng(11)).unwrap_err(),
            Error::Unbounded { latent_dim: 5, rank: 5 }
        );
        assert!(Ppca::fit(4, &x).is_ok());
    }
    check::<f64>();
    check::<f32>();
}

#[test]
fn fewer_observations_than_variables() {
    let x =
        normal(40, 9, &mut rng(8)) + normal(40, 2, &mut rng(9)) * normal(2, 9, &mut rng(10)) * 3.0;
    let values = eigenvalues(&x, true);
    for k in [1, 2, 7] {
        let model = Ppca::fit(k, &x).unwrap();
        let value = model.model.log_likelihood(&x).unwrap();
        assert!(value.iter().all(|v| v.is_finite()));
        assert_relative(value.mean(), likelihood_optimum(&values, k), 1e-9, "log p");
        // d − k and not n − k of them share the rest.
        assert_relative(
            model.model.noise_variance(),
            values.rows_range(k..).sum() / (40 - k) as f64,
            1e-9,
            "noise variance",
        );
    }
    assert_eq!(Ppca::fit(8, &x).unwrap_err(), Error::Unbounded { latent_dim: 8, rank: 8 });
    let new = normal(40, 3, &mut rng(11));
    assert!(
        Ppca::fit(2, &x).unwrap().model.log_likelihood(&new).unwrap().iter().all(|v| v.is_finite())
    );
}

#[test]
fn reconstruction_is_drawn_towards_the_mean_and_projection_is_not() {
    let x = iris();
    let model = Ppca::fit(2, &x).unwrap();
    let (reconstructed, projected) =
        (model.model.reconstruct(&x).unwrap(), model.model.orthogonal_projection(&x).unwrap());
    let directions = model.model.components().unwrap();
    let along = |y: &DMatrix<f64>| {
        directions.tr_mul(&DMatrix::from_fn(y.nrows(), y.ncols(), |j, i| {
            y[(j, i)] - model.model.mean()[j]
        }))
    };
    assert_close(&along(&projected), &along(&x), 1e-12, "projection");
    // E[x'|x] is the projection shrunk by (λ−σ²)/λ along each direction.
    let (shrunk, variances) = (along(&reconstructed), model.model.explained_variance().unwrap());
    let full = along(&x);
    let expected = DMatrix::from_fn(2, x.ncols(), |j, i| {
        full[(j, i)] * (1.0 - model.model.noise_variance() / variances[j])
    });
    assert_close(&shrunk, &expected, 1e-11, "reconstruction");
    assert!((&x - projected).norm_squared() < (&x - reconstructed).norm_squared());
}

/// Oracle 14.
#[test]
fn em_is_monotone_and_as_slow_as_its_rate() {
    let x = wine();
    let fitter = ExpectationMaximization { max_iterations: 300, tolerance: 0.0 };
    let fit = Ppca::builder(2).fitter(fitter).fit(&x, &mut rng(5)).unwrap();
    let values = fit.trace.values();
    for pair in values.windows(2) {
        assert!(pair[1] >= pair[0] - 1e-12 * pair[0].abs(), "{} after {}", pair[1], pair[0]);
    }
    let x = iris();
    let spectrum = eigenvalues(&x, true);
    let fit = Ppca::builder(2)
        .fitter(ExpectationMaximization { max_iterations: 120, tolerance: 0.0 })
        .fit(&x, &mut rng(6))
        .unwrap();
    let gains: Vec<f64> = fit.trace.values().windows(2).map(|p| p[1] - p[0]).collect();
    let variance = noise(&spectrum, 2);
    let of_scale = spectrum
        .rows_range(..2)
        .iter()
        .map(|l| 1.0 - 2.0 * variance * (l - variance) / (l * l))
        .fold(0.0, f64::max);
    let rate: f64 = of_scale.max(spectrum[2] / spectrum[1]);
    // J gains with the square of the parameters' rate.
    let seen = (gains[110] / gains[90]).powf(1.0 / 20.0);
    assert_within(seen.sqrt(), rate, 0.02, "rate of EM");
    let expanded = Ppca::builder(2).fitter(PxEm::default()).fit(&x, &mut rng(6)).unwrap();
    assert!(expanded.iterations() < 60, "{} iterations", expanded.iterations());
    for pair in expanded.trace.values().windows(2) {
        assert!(pair[1] >= pair[0] - 1e-11 * pair[0].abs(), "{} after {}", pair[1], pair[0]);
    }
}

#[test]
fn the_model_has_the_data_s_covariance_along_its_directions() {
    let x = iris();
    let model = Ppca::fit(2, &x).unwrap();
    let directions = model.model.components().unwrap();
    let s = covariance(&x);
    let marginal = model.model.loadings() * model.model.loadings().transpose()
        + DMatrix::identity(4, 4) * model.model.noise_variance();
    assert_close(
        &(directions.transpose() * &marginal * &directions),
        &(directions.transpose() * &s * &directions),
        1e-12,
        "inside",
    );
    assert_relative(marginal.trace(), s.trace(), 1e-12, "total variance");
}
