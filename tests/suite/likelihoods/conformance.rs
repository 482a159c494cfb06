//! Tests of all distributions of one variable and of the likelihoods made of them.

use elbo::likelihood::{
    Bernoulli, Binomial, Categorical, ConditionalMean, ContinuousBernoulli, DiagonalGaussian,
    DynLikelihood, DynUnivariate, Gaussian, Independent, IsotropicGaussian, Laplace, Likelihood,
    LikelihoodKind, LogNormal, NegativeBinomial, Ordinal, Poisson, Product, StudentT, Univariate,
    Weights, ZeroInflated,
};
use elbo::map::Parameters;
use elbo::testing::check_likelihood;
use elbo::{Error, Observations, Real};
use nalgebra::{DMatrix, DVector, dmatrix};
use rand::{SeedableRng, rngs::StdRng};

fn rng() -> StdRng {
    StdRng::seed_from_u64(7)
}

/// Every distribution with parameters that are learned and that are fixed, and values in its
/// support.
fn distributions() -> Vec<(DynUnivariate, [f64; 4])> {
    let reals = [0.3, -1.2, 2.0, 0.9];
    let counts = [3.0, 0.0, 1.0, 6.0];
    vec![
        (Gaussian::default().into(), reals),
        (Gaussian::fixed(0.7).unwrap().into(), reals),
        (StudentT::default().into(), reals),
        (StudentT::default().with_degrees_of_freedom(5.0).unwrap().into(), reals),
        (StudentT::default().with_scale(0.5).unwrap().into(), reals),
        (Laplace::default().into(), reals),
        (LogNormal::default().into(), [0.3, 1.2, 2.0, 0.9]),
        (Bernoulli.into(), [1.0, 0.0, 1.0, 0.25]),
        (ContinuousBernoulli.into(), [0.3, 0.9, 0.0, 1.0]),
        (Binomial::new(6).unwrap().into(), counts),
        (Poisson.into(), counts),
        (NegativeBinomial::default().into(), counts),
        (NegativeBinomial::fixed(2.0).unwrap().into(), counts),
        (ZeroInflated::new(Poisson).into(), counts),
        (ZeroInflated::fixed(Poisson, 0.3).unwrap().into(), counts),
        (Ordinal::new(2).unwrap().into(), [0.0, 1.0, 1.0, 0.0]),
        (Ordinal::new(7).unwrap().into(), counts),
    ]
}

/// A likelihood of two variables with this distribution and with parameters that differ.
fn likelihood<T: Real>(distribution: DynUnivariate) -> Independent<T, DynUnivariate> {
    let mut likelihood = Independent::new(distribution, 2).unwrap();
    let count = likelihood.parameters().len();
    for (at, p) in likelihood.parameters_mut().iter_mut().enumerate() {
        // Degrees of freedom above 5, so that the moments that the check samples exist.
        let freedom = matches!(distribution, DynUnivariate::StudentT(_)) && at % (count / 2) == 1
            || distribution == StudentT::default().with_scale(0.5).unwrap().into();
        *p = T::of(if freedom { 2.0 } else { 0.3 - 0.25 * at as f64 });
    }
    likelihood
}

fn conforms<T: Real>() {
    let output = dmatrix![0.5, -1.0; 0.1, 0.8].map(T::of);
    for (distribution, values) in distributions() {
        let likelihood = likelihood::<T>(distribution);
        let x = DMatrix::from_column_slice(2, 2, &values).map(T::of);
        let x = Observations::new(x.as_view()).unwrap();
        if let Err(failure) = check_likelihood(&likelihood, x, &output, &mut rng()) {
            panic!("{distribution:?}: {failure}");
        }
    }
}

#[test]
fn each_distribution_conforms() {
    conforms::<f64>();
    conforms::<f32>();
}

#[test]
fn the_likelihoods_of_both_precisions_conform() {
    fn conform<T: Real>() {
        let output = dmatrix![0.5, -1.0; 0.1, 0.8; 0.3, 0.3; -0.2, 0.9; 1.1, 0.0].map(T::of);
        let categorical = Categorical::new(vec![3, 2]).unwrap();
        let x = dmatrix![2.0, 0.0; 1.0, 0.0].map(T::of);
        let of = |x| Observations::new(x).unwrap();
        check_likelihood(&categorical, of(x.as_view()), &output, &mut rng()).unwrap();
        let noise = IsotropicGaussian::new(T::of(0.5)).unwrap();
        let product =
            Product::new((noise, vec![2, 0]), (Categorical::new(vec![3]).unwrap(), vec![1]));
        let x = dmatrix![0.3, -0.5; 2.0, 1.0; 0.1, 0.9].map(T::of);
        check_likelihood(&product.unwrap(), of(x.as_view()), &output, &mut rng()).unwrap();
        let kinds = ["student_t", "categorical", "gaussian"].map(|name| name.parse().unwrap());
        let mut mixed = DynLikelihood::for_data(&kinds, x.as_view()).unwrap();
        mixed.parameters_mut()[1] = T::of(2.0);
        check_likelihood(&mixed, of(x.as_view()), &output, &mut rng()).unwrap();
        let own = DiagonalGaussian::new(DVector::from_vec(vec![T::one(), T::of(0.3)])).unwrap();
        let (x, output) = (x.rows(0, 2), output.rows(0, 2).into_owned());
        check_likelihood(&own, of(x), &output, &mut rng()).unwrap();
        check_likelihood(&noise, of(x), &output, &mut rng()).unwrap();
    }
    conform::<f64>();
    conform::<f32>();
}

/// An expectation in closed form against the trapezoidal rule, whose error at 4,000 points of a
/// smooth integrand that vanishes at both ends is that of rounding.
#[test]
fn closed_forms_of_expectations() {
    let closed = distributions().into_iter().filter(|(u, _)| {
        Univariate::<f64>::expected_log_density(u, 1.0, 0.0, 1.0, &[0.0; 5], &mut [0.0; 5])
            .is_some()
    });
    let mut count = 0;
    for (distribution, values) in closed {
        let likelihood = likelihood::<f64>(distribution);
        let (own, m, v) = (likelihood.parameters_of(0), 0.4, 0.6f64);
        let mut d_parameters = vec![0.0; own.len()];
        for x in values {
            let expected =
                distribution.expected_log_density(x, m, v, own, &mut d_parameters).unwrap();
            let (mut sums, mut d_sum, mut unused) = ([0.0; 3], 0.0, vec![0.0; own.len()]);
            let step = 16.0 / 4000.0;
            for i in 0..=4000 {
                let z = -8.0 + f64::from(i) * step;
                let weight = step * (-0.5 * z * z).exp() / (2.0 * std::f64::consts::PI).sqrt();
                let y = m + v.sqrt() * z;
                let (density, slope) = distribution.log_density_gradient(x, y, own, &mut unused);
                sums[0] += weight * density;
                sums[1] += weight * slope;
                sums[2] += weight * slope * z / (2.0 * v.sqrt());
                d_sum += weight * unused.first().copied().unwrap_or(0.0);
            }
            // The kink of the Laplace density limits the rule to the square of its step.
            let kink = matches!(distribution, DynUnivariate::Laplace(_));
            let tolerance = if kink { 1e-2 } else { 1e-10 };
            let found = [expected.value, expected.d_mean, expected.d_variance];
            for (found, sum) in found.into_iter().zip(sums) {
                assert!((found - sum).abs() < tolerance, "{distribution:?} {x}: {found} {sum}");
            }
            let found = d_parameters.first().copied().unwrap_or(0.0);
            assert!((found - d_sum).abs() < tolerance, "{distribution:?}: {found} {d_sum}");
        }
        count += 1;
    }
    // Gaussian twice, Laplace, log-normal, Poisson.
    assert_eq!(count, 5);
}

#[test]
fn the_closed_form_of_laplace_has_its_limits() {
    let laplace = Laplace::fixed(0.5).unwrap();
    let at = |x: f64, v| laplace.expected_log_density(x, 0.0, v, &[], &mut []).unwrap();
    assert!((at(2.0, 0.0).value - laplace.log_density(2.0, 0.0, &[])).abs() < 1e-15);
    assert!((at(0.0, 1.0).value + (2.0 / std::f64::consts::PI).sqrt() / 0.5).abs() < 1e-15);
    assert!(at(0.0, 0.0).d_variance.is_finite());
}

#[test]
fn extreme_outputs_give_finite_numbers() {
    fn check<T: Real>() {
        for (distribution, values) in distributions() {
            let likelihood = likelihood::<T>(distribution);
            for y in [1e4, -1e4, 89.0, -89.0, 710.0, -710.0] {
                let x = DMatrix::from_column_slice(2, 2, &values).map(T::of);
                let output = DMatrix::repeat(2, 2, T::of(y));
                let (mut d_output, mut d) =
                    (DMatrix::zeros(0, 0), vec![T::zero(); likelihood.parameters().len()]);
                let weights = Weights::Equal(T::one());
                let (x, output) = (x.as_view(), output.as_view());
                let value =
                    likelihood.log_density_gradient(x, output, weights, &mut d_output, &mut d);
                let all = d_output.iter().chain(&d).chain(std::iter::once(&value));
                assert!(all.into_iter().all(|v| v.is_finite()), "{distribution:?} at {y}");
                let mean = likelihood.mean(output);
                assert!(mean.iter().all(|v| v.is_finite()), "{distribution:?}: mean at {y}");
                let drawn = likelihood.sample(output, &mut rng());
                assert!(drawn.iter().all(|&x| distribution.contains(x)), "{distribution:?}");
            }
        }
    }
    check::<f64>();
    check::<f32>();
    let categorical = Categorical::new(vec![3]).unwrap();
    let output = dmatrix![1e4f32; -1e4; 0.0];
    let density = categorical.log_density(dmatrix![1.0f32].as_view(), output.as_view())[0];
    assert_eq!(density, -2e4);
}

#[test]
fn starts_are_near_the_maximum_and_robust() {
    for (distribution, values) in distributions() {
        for values in [&values[..], &values[..1], &[values[0]; 5], &[]] {
            let likelihood = Independent::<f64, _>::new(distribution, 1).unwrap();
            let x = DMatrix::from_row_slice(1, values.len(), values);
            let mut started = likelihood.clone();
            let Ok(y) = started.start(x.as_view(), None) else {
                assert!(values.is_empty());
                continue;
            };
            let sum = |l: &Independent<f64, DynUnivariate>, y: f64| {
                l.log_density(x.as_view(), DMatrix::repeat(1, values.len(), y).as_view()).sum()
            };
            let at_start = sum(&started, y[0]);
            assert!(at_start.is_finite(), "{distribution:?} {values:?}");
            assert!(started.parameters().iter().all(|p| p.is_finite()), "{distribution:?}");
            // Predictors a unit away are worse (where all values are at an end of the support, the
            // one on one side), and with offsets the predictor is the same less them.
            let (below, above) = (sum(&started, y[0] - 1.0), sum(&started, y[0] + 1.0));
            let worst = if values.len() == 4 { below.max(above) } else { below.min(above) };
            assert!(at_start >= worst, "{distribution:?} {values:?}");
            let mut moved = likelihood.clone();
            let offsets = DMatrix::repeat(1, values.len(), 0.5);
            let with_offsets = moved.start(x.as_view(), Some(offsets.as_view())).unwrap();
            let apart = (with_offsets[0] + 0.5 - y[0]).abs();
            // The logits are shrunk without offsets, and bounded with them.
            let logits =
                matches!(distribution, DynUnivariate::Bernoulli(_) | DynUnivariate::Binomial(_));
            let limit = if logits { 2.5 } else { 1e-9 };
            assert!(apart < limit, "{distribution:?}: {apart}");
        }
    }
}

#[test]
fn floors_come_from_the_data_unless_they_were_set() {
    let x = dmatrix![1.0, 2.0, 3.0; 1000.0, 2000.0, f64::NAN];
    let mut noise = Independent::new(Gaussian::default(), 2).unwrap();
    noise.start(x.as_view(), None).unwrap();
    let at_floor = |j: usize| noise.distribution(j).standard_deviation(&[-50.0]);
    assert!((at_floor(0) - 1e-3 * (2.0f64 / 3.0).sqrt()).abs() < 1e-12);
    assert!((at_floor(1) - 0.5).abs() < 1e-12);
    assert!(!noise.rests_on_floor());
    noise.parameters_mut()[0] = -40.0;
    assert!(noise.rests_on_floor());
    let chosen = Gaussian::default().with_floor(0.25).unwrap();
    let mut noise = Independent::new(chosen, 2).unwrap();
    noise.start(x.as_view(), None).unwrap();
    assert_eq!(noise.distribution(1), &chosen);
    // A variable without an observed entry is reported.
    let never = dmatrix![1.0, 2.0, 3.0; f64::NAN, f64::NAN, f64::NAN];
    assert!(matches!(
        noise.start(never.as_view(), None),
        Err(Error::NeverObserved { variable: 1, observations: 3 })
    ));
}

#[test]
fn values_outside_the_support_are_reported() {
    let bad: Vec<(DynUnivariate, Vec<f64>)> = vec![
        (LogNormal::default().into(), vec![0.0, -1.0]),
        (Bernoulli.into(), vec![-0.1, 1.1]),
        (ContinuousBernoulli.into(), vec![-0.1, 1.5]),
        (Binomial::new(6).unwrap().into(), vec![7.0, 0.5, -1.0]),
        (Poisson.into(), vec![-1.0, 0.5, 1e17]),
        (NegativeBinomial::default().into(), vec![-1.0, 2.5]),
        (ZeroInflated::new(Poisson).into(), vec![-1.0, 0.5]),
        (Ordinal::new(3).unwrap().into(), vec![3.0, -1.0, 0.5]),
    ];
    for (distribution, values) in bad {
        let likelihood = Independent::<f64, _>::new(distribution, 2).unwrap();
        for value in values {
            let x = dmatrix![1.0, 1.0; 1.0, value];
            let found = likelihood.check_support(Observations::new(x.as_view()).unwrap());
            assert!(
                matches!(found, Err(Error::OutsideSupport { row: 1, column: 1, value: v, .. }) if v == value)
            );
        }
    }
    let x = dmatrix![1.0; 3.0];
    let categorical = Categorical::new(vec![3, 3]).unwrap();
    assert!(categorical.check_support(Observations::new(x.as_view()).unwrap()).is_err());
    // In a product the row is that of the whole table.
    let noise = IsotropicGaussian::new(1.0).unwrap();
    let product = Product::new((noise, vec![0]), (Bernoulli, vec![1])).unwrap();
    let found = product.check_support(Observations::new(x.as_view()).unwrap());
    assert!(matches!(found, Err(Error::OutsideSupport { row: 1, column: 0, .. })));
}

#[test]
fn settings_outside_their_range_are_refused() {
    assert!(Gaussian::fixed(-1.0).is_err() && Laplace::fixed(0.0).is_err());
    assert!(StudentT::default().with_degrees_of_freedom(0.0).is_err());
    assert!(StudentT::default().with_floor(f64::NAN).is_err());
    assert!(NegativeBinomial::fixed(0.0).is_err() && Binomial::new(0).is_err());
    assert!(ZeroInflated::fixed(Poisson, 1.0).is_err());
    assert!(Ordinal::new(1).is_err() && Categorical::new(vec![1]).is_err());
    assert!(Categorical::new(vec![]).is_err());
    let noise = || IsotropicGaussian::new(1.0).unwrap();
    assert!(Product::new((noise(), vec![0]), (Bernoulli, vec![0])).is_err());
    assert!(Product::new((noise(), vec![0]), (Bernoulli, vec![2])).is_err());
    assert!(Product::new((noise(), vec![]), (Bernoulli, vec![0])).is_err());
    let few = DiagonalGaussian::new(DVector::repeat(3, 1.0)).unwrap();
    assert!(Product::new((few, vec![0, 1]), (Bernoulli, vec![2])).is_err());
}

/// Analytic noise variances of a product and of incomplete data are the mean squares of what was
/// observed.
#[test]
fn analytic_variances_count_the_observed_entries() {
    let x = dmatrix![1.0, -3.0, f64::NAN; 2.0, f64::NAN, f64::NAN; 1.0, 0.0, 1.0];
    let noise = DiagonalGaussian::analytic(DVector::from_vec(vec![1.0, 1.0])).unwrap();
    let mut product = Product::new((noise, vec![0, 1]), (Bernoulli, vec![2])).unwrap();
    let (output, mut d_output, mut d) = (DMatrix::zeros(3, 3), DMatrix::zeros(0, 0), [0.0; 2]);
    let weights = Weights::Equal(1.0);
    product.log_density_gradient(x.as_view(), output.as_view(), weights, &mut d_output, &mut d);
    assert!(product.step_to_optimum_of_observed(&d, &[2.0, 1.0, 3.0], 1.0));
    assert!((product.first().noise_variances() - DVector::from_vec(vec![5.0, 4.0])).amax() < 1e-14);
}

#[test]
fn the_kinds_of_a_table_make_its_likelihood() {
    let x = dmatrix![0.0, 1.0, 2.0; 0.3, -0.5, 1.0; 1.0, 0.0, 1.0; 3.0, f64::NAN, 0.0];
    let kinds = |names: &[&str]| -> Vec<LikelihoodKind> {
        names.iter().map(|name| name.parse().unwrap()).collect()
    };
    let of = |names: &[&str]| DynLikelihood::for_data(&kinds(names), x.as_view());
    assert!(matches!(of(&["gaussian"]).unwrap(), DynLikelihood::IsotropicGaussian(_)));
    assert!(matches!(of(&["gaussian_per_variable"]).unwrap(), DynLikelihood::DiagonalGaussian(_)));
    let mixed = of(&["categorical", "gaussian", "bernoulli", "poisson"]).unwrap();
    assert_eq!((mixed.data_dim(6).unwrap(), mixed.output_dim(4).unwrap()), (4, 6));
    let one_by_one = of(&["ordinal", "student_t", "bernoulli", "poisson"]).unwrap();
    assert!(matches!(one_by_one, DynLikelihood::Independent(_)));
    assert!(matches!(of(&["poisson"]), Err(Error::OutsideSupport { row: 1, .. })));
    assert!(of(&["poisson", "gaussian"]).is_err());
    // Whatever the order in which the parts are listed.
    let part = |variable: usize| {
        let noise = DiagonalGaussian::new(DVector::repeat(1, 1.0 + variable as f64)).unwrap();
        (vec![variable], DynLikelihood::DiagonalGaussian(noise))
    };
    let output = DMatrix::zeros(3, 3);
    let density = |order: [usize; 3]| {
        let product = DynLikelihood::product(order.map(part).to_vec()).unwrap();
        product.log_density(x.rows(0, 3), output.as_view())
    };
    assert!((density([0, 1, 2]) - density([2, 0, 1])).amax() < 1e-14);
    assert!(DynLikelihood::product(vec![part(0), part(0)]).is_err());
    assert!(DynLikelihood::product(vec![part(1)]).is_err());
}

/// The bits of a gradient do not depend on the number of threads, nor on whether equal
/// distributions are given once or for each variable.
#[test]
fn any_number_of_threads_gives_identical_bits() {
    let (d, n) = (37, 1500);
    let x = DMatrix::from_fn(d, n, |j, i| ((3 * j + 7 * i) % 11) as f64);
    let output = DMatrix::from_fn(d, n, |j, i| ((5 * j + i) % 13) as f64 / 6.0 - 1.0);
    let run = |likelihood: &Independent<f64, NegativeBinomial>, threads| {
        let (mut d_output, mut d) = (DMatrix::zeros(0, 0), vec![0.0; 37]);
        let mut work = || {
            let weights = Weights::Equal(1.0);
            likelihood.log_density_gradient(
                x.as_view(),
                output.as_view(),
                weights,
                &mut d_output,
                &mut d,
            )
        };
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let value = pool.install(&mut work);
        (value, d_output, d)
    };
    let shared = Independent::new(NegativeBinomial::default(), d).unwrap();
    let each = Independent::of_each(vec![NegativeBinomial::default(); d]).unwrap();
    let one = run(&shared, 1);
    assert!(one == run(&shared, 4) && one == run(&each, 2));
}
