//! Priors beside N(0, I): their derivatives, and identities with models that have it.

use elbo::diagnostics::ImportanceSampling;
use elbo::inference::PerPoint;
use elbo::likelihood::IsotropicGaussian;
use elbo::map::Linear;
use elbo::model::{GenerativeModel, LinearGaussian, MarginalLikelihood, ProbabilisticModel};
use elbo::objective::{Elbo, ImportanceWeighted, Objective};
use elbo::posterior::{Full, PosteriorFamily};
use elbo::prior::{GaussianPrior, MixturePrior, Prior, StandardNormal};
use elbo::testing::{check_objective, check_prior};
use elbo::{Observations, Real};
use nalgebra::{DMatrix, DVector, dmatrix, dvector};
use rand::{SeedableRng, rngs::Xoshiro256PlusPlus as Generator};

fn of<T: Real, const R: usize, const C: usize>(values: nalgebra::SMatrix<f64, R, C>) -> DMatrix<T> {
    DMatrix::from_fn(R, C, |i, j| T::of(values[(i, j)]))
}

fn gaussian<T: Real>() -> GaussianPrior<T> {
    let mean = dvector![0.3, -0.5].map(T::of);
    let factor = dmatrix![1.5, 0.0; -0.7, 0.6].map(T::of);
    GaussianPrior::from_factor(&mean, &factor).unwrap()
}

fn mixture<T: Real>() -> MixturePrior<T> {
    let shares = [0.2, 0.5, 0.3].map(T::of);
    let means = of(nalgebra::matrix![-2.0, 0.5, 1.0; 0.0, 1.0, -1.5]);
    let deviations = of(nalgebra::matrix![0.5, 1.0, 0.3; 0.8, 0.4, 0.6]);
    MixturePrior::from_components(&shares, &means, &deviations).unwrap()
}

fn with_prior<T: Real, P>(prior: P) -> GenerativeModel<Linear<T>, IsotropicGaussian<T>, P> {
    let decoder = Linear::new(
        of(nalgebra::matrix![1.0, 0.5; 2.0, -0.3; 0.0, 1.0]),
        dvector![0.1, 0.0, -0.4].map(T::of),
    )
    .unwrap();
    GenerativeModel::with_prior(decoder, IsotropicGaussian::new(T::of(0.7)).unwrap(), prior)
}

fn x<T: Real>() -> DMatrix<T> {
    of(nalgebra::matrix![1.0, 2.0, -3.0; 0.0, 1.0, -4.0; 1.0, -1.0, 0.5])
}

fn q<T: Real>() -> PerPoint<Full<T>> {
    let phi = DMatrix::from_fn(5, 3, |i, j| T::of(((i * 3 + j) as f64 * 0.7).sin() * 0.6));
    PerPoint::new(Full::from_parameters(2, phi).unwrap())
}

fn conform<T: Real>() {
    let z = of::<T, 2, 3>(nalgebra::matrix![0.3, -1.0, 2.0; 0.5, 0.1, -1.3]);
    let rng = &mut Generator::seed_from_u64(1);
    check_prior(&StandardNormal, &z, rng).unwrap();
    check_prior(&gaussian(), &z, rng).unwrap();
    check_prior(&mixture(), &z, rng).unwrap();
    let x = x::<T>();
    let x = Observations::new(x.as_view()).unwrap();
    let seed = Generator::seed_from_u64(2);
    let q = q();
    for samples in [1, 3] {
        let elbo = Elbo::reparameterized(samples);
        check_objective(&elbo, &with_prior(gaussian()), &q, x, &seed).unwrap();
        check_objective(&elbo, &with_prior(mixture()), &q, x, &seed).unwrap();
    }
    let weighted = ImportanceWeighted::new(4);
    check_objective(&weighted, &with_prior(gaussian()), &q, x, &seed).unwrap();
    check_objective(&weighted, &with_prior(mixture()), &q, x, &seed).unwrap();
}

#[test]
fn derivatives_conform() {
    conform::<f64>();
    conform::<f32>();
}

#[test]
fn a_gaussian_prior_is_the_standard_one_with_other_loadings() {
    let prior = gaussian::<f64>();
    let (mean, factor) = (prior.mean(), prior.factor());
    let model = with_prior(prior.clone());
    let weights = model.decoder.weights().into_owned();
    let other = LinearGaussian::from_parameters(
        &weights * &factor,
        model.decoder.bias() + &weights * &mean,
        0.7,
    )
    .unwrap();
    // q of u = L⁻¹(z − a), whose samples are those of z.
    let q = q::<f64>().posterior;
    let inverse = factor.clone().try_inverse().unwrap();
    let u: Vec<(DVector<f64>, DMatrix<f64>)> = (0..3)
        .map(|i| {
            let mean = &inverse * (elbo::posterior::Posterior::mean(&q).column(i) - &mean);
            let covariance = elbo::posterior::GaussianPosterior::covariance(&q, i);
            (mean, &inverse * covariance * inverse.transpose())
        })
        .collect();
    let x = x();
    let x = Observations::new(x.as_view()).unwrap();
    let rng = || Generator::seed_from_u64(3);
    let found = ImportanceWeighted::new(3).evaluate(&model, &q, x, &mut rng()).unwrap();
    // A Full q with the given covariance, by the projection of its precision.
    let mut phi = DMatrix::zeros(5, 3);
    for (i, (mean, covariance)) in u.into_iter().enumerate() {
        let precision = covariance.try_inverse().unwrap().cholesky().unwrap().unpack();
        let mean = DMatrix::from_columns(&[mean]);
        let one = Full::nearest(mean, precision.transpose().as_view()).unwrap();
        phi.set_column(i, &one.parameters().column(0));
    }
    let of_u = Full::from_parameters(2, phi).unwrap();
    let expected = ImportanceWeighted::new(3).evaluate(&other, &of_u, x, &mut rng()).unwrap();
    assert!((found - expected).abs() < 1e-10, "{found} {expected}");
}

#[test]
fn under_a_mixture_prior_x_is_a_mixture() {
    let model = with_prior(mixture::<f64>());
    let x = x();
    let data = Observations::new(x.as_view()).unwrap();
    let sampling = ImportanceSampling { samples: 20_000, ..Default::default() };
    let rng = &mut Generator::seed_from_u64(4);
    let standard = with_prior::<f64, _>(StandardNormal);
    let proposal = Full::nearest(
        elbo::model::ExactPosterior::posterior(&standard, data)
            .map(elbo::posterior::Posterior::into_mean)
            .unwrap(),
        elbo::model::ExactPosterior::posterior_precision_root(&standard).unwrap().as_view(),
    )
    .unwrap();
    let estimate = sampling.log_likelihood(&model, &proposal, data, rng).unwrap().log_likelihood;
    // log Σ π_c N(x; Wm_c + μ, W S_c Wᵗ + σ²I), each component by a linear-Gaussian model.
    let prior = &model.prior;
    let (shares, means) = (prior.shares(), prior.means());
    let deviations = dmatrix![0.5, 1.0, 0.3; 0.8, 0.4, 0.6];
    let weights = model.decoder.weights().into_owned();
    let components: Vec<DVector<f64>> = (0..3)
        .map(|c| {
            let scaled = &weights * DMatrix::from_diagonal(&deviations.column(c).into_owned());
            let bias = model.decoder.bias() + &weights * means.column(c);
            LinearGaussian::from_parameters(scaled, bias, 0.7)
                .unwrap()
                .log_likelihood(data)
                .unwrap()
        })
        .collect();
    for (i, (&value, &error)) in estimate.values().iter().zip(estimate.errors()).enumerate() {
        let terms =
            components.iter().zip(shares.iter()).map(|(log_p, share)| share * log_p[i].exp());
        let sum: f64 = terms.sum();
        assert!((value - sum.ln()).abs() < 4.0 * error && error < 0.05, "{value} ± {error}");
    }
    // Equal components are one, and samples have the mean of the mixture.
    let twice = MixturePrior::from_components(
        &[0.3, 0.7],
        &dmatrix![0.0, 0.0; 0.0, 0.0],
        &dmatrix![1.0, 1.0; 1.0, 1.0],
    )
    .unwrap();
    let z = dmatrix![0.3, -2.0; 1.0, 0.4];
    let apart = twice.log_density(z.as_view()) - StandardNormal.log_density(z.as_view());
    assert!(apart.amax() < 1e-14);
    let (z, _) = model.sample(20_000, rng);
    let expected = &means * &shares;
    assert!((z.column_mean() - expected).amax() < 0.05);
}
