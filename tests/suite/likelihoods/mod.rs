//! The likelihoods against another program's values, their normalisation, their limits, and a flat
//! decoder under every posterior family and objective. `reference/likelihoods.py` made the values.

mod conformance;

use elbo::inference::{Amortized, GaussianEncoder};
use elbo::likelihood::{
    Bernoulli, Binomial, Categorical, ContinuousBernoulli, DynLikelihood, DynUnivariate, Gaussian,
    Independent, Laplace, Likelihood, LikelihoodKind, LogNormal, NegativeBinomial, Ordinal,
    Poisson, StudentT, Univariate, ZeroInflated,
};
use elbo::map::Linear;
use elbo::model::GenerativeModel;
use elbo::objective::{
    DifferentiableObjective, Elbo, Gradient, ImportanceWeighted, PathDerivative, Reparameterization,
};
use elbo::posterior::{Diagonal, Full, Isotropic, PosteriorFamily};
use elbo::{Observations, Real};
use nalgebra::{DMatrix, DVector, dmatrix};
use rand::{SeedableRng, rngs::StdRng};
use serde_json::Value;

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().expect("an array").iter().map(|v| v.as_f64().expect("a number")).collect()
}

/// The distribution of a reference case with all parameters fixed, and the parameters that cannot
/// be.
fn of_reference(case: &Value) -> (DynUnivariate, Vec<f64>) {
    let fixed = numbers(&case["parameters"]);
    let distribution = match case["likelihood"].as_str().expect("a name") {
        "gaussian" => Gaussian::fixed(fixed[0]).unwrap().into(),
        "student_t" => StudentT::default()
            .with_scale(fixed[0])
            .and_then(|t| t.with_degrees_of_freedom(fixed[1]))
            .unwrap()
            .into(),
        "laplace" => Laplace::fixed(fixed[0]).unwrap().into(),
        "log_normal" => LogNormal::fixed(fixed[0]).unwrap().into(),
        "bernoulli" => Bernoulli.into(),
        "continuous_bernoulli" => ContinuousBernoulli.into(),
        "binomial" => Binomial::new(fixed[0] as u64).unwrap().into(),
        "poisson" => Poisson.into(),
        "negative_binomial" => NegativeBinomial::fixed(fixed[0]).unwrap().into(),
        "zero_inflated_poisson" => ZeroInflated::fixed(Poisson, fixed[0]).unwrap().into(),
        "ordinal" => {
            let differences = fixed.iter().map(|d| (d - 1e-6).ln()).collect();
            return (Ordinal::new(4).unwrap().into(), differences);
        }
        other => panic!("no likelihood {other}"),
    };
    (distribution, Vec::new())
}

#[test]
fn log_densities_are_those_of_another_program() {
    let reference: Value =
        serde_json::from_str(include_str!("../../reference/likelihoods.json")).unwrap();
    let cases = reference.as_array().unwrap();
    assert_eq!(cases.len(), 47);
    for case in cases {
        let number = |name: &str| case[name].as_f64().unwrap();
        let (x, y) = (number("x"), number("y"));
        let (distribution, parameters) = of_reference(case);
        let mut unused = vec![0.0; parameters.len()];
        let (density, slope) = distribution.log_density_gradient(x, y, &parameters, &mut unused);
        assert_eq!(density, distribution.log_density(x, y, &parameters));
        // Relative to the terms, of which x y is one: counts of 10¹⁵ lose what doubles lose.
        let (value, derivative) = (number("log_density"), number("derivative"));
        let size = 1.0f64.max(value.abs()).max((x * y).abs());
        assert!((density - value).abs() <= 1e-14 * size, "{case}: {density}");
        let size = 1.0f64.max(derivative.abs()).max(x.abs());
        assert!((slope - derivative).abs() <= 2e-14 * size, "{case}: {slope}");
        // In single precision: all of its digits, at the rounded arguments.
        let (x, y) = (x as f32, y as f32);
        let single: Vec<f32> = parameters.iter().map(|&p| p as f32).collect();
        let wide: Vec<f64> = single.iter().map(|&p| f64::from(p)).collect();
        let expected = distribution.log_density(f64::from(x), f64::from(y), &wide);
        let found = f64::from(distribution.log_density(x, y, &single));
        assert!((found - expected).abs() <= 1e-7 * expected.abs(), "{case}: {found} {expected}");
    }
}

/// Distributions with their parameters, for counts up to a bound beyond which nothing is left.
#[test]
fn probabilities_of_counts_sum_to_one() {
    let cases: Vec<(DynUnivariate, Vec<f64>, usize)> = vec![
        (Bernoulli.into(), vec![], 1),
        (Binomial::new(40).unwrap().into(), vec![], 40),
        (Binomial::new(700).unwrap().into(), vec![], 700),
        (Poisson.into(), vec![], 1500),
        (NegativeBinomial::fixed(0.7).unwrap().into(), vec![], 40_000),
        (NegativeBinomial::fixed(1e7).unwrap().into(), vec![], 1500),
        (ZeroInflated::fixed(Poisson, 0.3).unwrap().into(), vec![], 1500),
        (Ordinal::new(5).unwrap().into(), vec![0.2, -1.0, 0.7], 4),
    ];
    for (distribution, parameters, largest) in cases {
        for y in [-3.0, 0.4, 5.0, 6.2] {
            let density = |x: usize| distribution.log_density(x as f64, y, &parameters);
            let sum: f64 = (0..=largest).map(|x| density(x).exp()).sum();
            assert!((sum - 1.0).abs() < 1e-12, "{distribution:?} at {y}: {sum}");
        }
    }
    let categorical = Categorical::new(vec![4]).unwrap();
    let output = dmatrix![1.0, 1.0, 1.0, 1.0; -3.0, -3.0, -3.0, -3.0; 0.2, 0.2, 0.2, 0.2; 5.0, 5.0, 5.0, 5.0];
    let x = dmatrix![0.0, 1.0, 2.0, 3.0];
    let densities = categorical.log_density(x.as_view(), output.as_view());
    assert!((densities.map(f64::exp).sum() - 1.0).abs() < 1e-14);
}

/// ∫ f(t) dt by the trapezoidal rule, which converges exponentially for a smooth f that vanishes at
/// both ends.
fn integral(f: impl Fn(f64) -> f64) -> f64 {
    (-4000..=4000).map(|i| 0.01 * f(0.01 * f64::from(i))).sum()
}

#[test]
fn densities_integrate_to_one() {
    let student = StudentT::default().with_scale(0.4).unwrap();
    let reals: [DynUnivariate; 4] = [
        Gaussian::fixed(0.7).unwrap().into(),
        student.with_degrees_of_freedom(2.5).unwrap().into(),
        student.with_degrees_of_freedom(1e12).unwrap().into(),
        Laplace::fixed(1.3).unwrap().into(),
    ];
    let y = 0.3;
    for distribution in reals {
        // Each side by x = y ± e^t: the kink of Laplace is at the end.
        let side = |sign: f64| {
            integral(|t| (distribution.log_density(y + sign * t.exp(), y, &[]) + t).exp())
        };
        let sum: f64 = side(1.0) + side(-1.0);
        assert!((sum - 1.0).abs() < 1e-9, "{distribution:?}: {sum}");
    }
    let log_normal = LogNormal::fixed(0.8).unwrap();
    let sum: f64 = integral(|t| (log_normal.log_density(t.exp(), y, &[]) + t).exp());
    assert!((sum - 1.0).abs() < 1e-9);
    for y in [-30.0, -1.01, -1e-9, 0.0, 0.99, 1.01, 8.0] {
        let density = |t: f64| {
            let x = 1.0 / (1.0 + (-t).exp());
            (ContinuousBernoulli.log_density(x, y, &[])).exp() * x / (1.0 + t.exp())
        };
        let sum = integral(density);
        assert!((sum - 1.0).abs() < 1e-9, "{y}: {sum}");
    }
}

#[test]
fn limits_have_their_next_term() {
    let (x, y) = (7.0, 1.3f64);
    let mu = y.exp();
    let poisson = Poisson.log_density(x, y, &[]);
    let second = ((x - mu) * (x - mu) - x) / 2.0;
    let r = 1e6;
    let difference = NegativeBinomial::fixed(r).unwrap().log_density(x, y, &[]) - poisson;
    assert!((r * difference - second).abs() < 1e-4, "{}", r * difference);
    let n = 1_000_000;
    let logit = (mu / n as f64).ln() - (-mu / n as f64).ln_1p();
    let difference = Binomial::new(n).unwrap().log_density(x, logit, &[]) - poisson;
    assert!((n as f64 * difference + second).abs() < 1e-4);
    for nu in [1e4, 1e6] {
        let t = StudentT::default()
            .with_scale(0.5)
            .and_then(|t| t.with_degrees_of_freedom(nu))
            .unwrap()
            .log_density(0.9, 0.2, &[]);
        let (gaussian, u) = (Gaussian::fixed(0.5).unwrap().log_density(0.9, 0.2, &[]), 1.4f64);
        let expected = (u.powi(4) - 2.0 * u * u - 1.0) / 4.0;
        assert!((nu * (t - gaussian) - expected).abs() < 1e-3, "{nu}: {}", nu * (t - gaussian));
    }
    // In single precision the negative binomial distribution of size 1e8 is that of Poisson.
    let single = NegativeBinomial::fixed(1e8).unwrap().log_density(x as f32, y as f32, &[]);
    let limit = Poisson.log_density(x as f32, y as f32, &[]);
    assert!((single - limit).abs() <= 2.0 * f32::EPSILON * limit.abs());
    // The series of the continuous Bernoulli distribution, with its mean.
    for eta in [1e-3, 0.1, -0.4] {
        let normaliser = -ContinuousBernoulli.log_density(0.0, eta, &[]);
        let e2: f64 = eta * eta;
        let series = eta / 2.0 + e2 / 24.0 - e2 * e2 / 2880.0 + e2 * e2 * e2 / 181_440.0;
        let mean = 0.5 + eta / 12.0 - eta * e2 / 720.0 + eta * e2 * e2 / 30_240.0;
        let next = e2.powi(4);
        assert!((normaliser - series).abs() < 1e-6 * next + 1e-15);
        assert!((ContinuousBernoulli.mean(eta, &[]) - mean).abs() < 1e-5 * next + 1e-15);
    }
}

#[test]
fn special_cases_are_each_other() {
    let same = |a: f64, b: f64| assert!((a - b).abs() <= 4e-15 * a.abs().max(1.0), "{a} {b}");
    let categorical = Categorical::new(vec![2]).unwrap();
    for (x, y) in [(0.0, 0.3), (1.0, -2.0), (1.0, 40.0), (0.0, 1e4)] {
        let bernoulli = Univariate::log_density(&Bernoulli, x, y, &[]);
        same(Binomial::new(1).unwrap().log_density(x, y, &[]), bernoulli);
        same(Ordinal::new(2).unwrap().log_density(x, y, &[]), bernoulli);
        let output = dmatrix![0.7; 0.7 + y];
        same(categorical.log_density(dmatrix![x].as_view(), output.as_view())[0], bernoulli);
        let plain = Poisson.log_density(x, y, &[]);
        same(ZeroInflated::fixed(Poisson, 0.0).unwrap().log_density(x, y, &[]), plain);
        let learned = ZeroInflated::new(Poisson).log_density(x, y.min(3.0), &[-800.0]);
        same(learned, Poisson.log_density(x, y.min(3.0), &[]));
    }
}

/// A table with a column of each kind, and its likelihood with all parameters at 0.1, 0.2, ….
fn table() -> (DMatrix<f64>, Vec<LikelihoodKind>) {
    let x = dmatrix![
        0.3, -1.2, 0.8;
        1.0, 0.0, 1.0;
        0.2, 0.9, 0.5;
        3.0, 0.0, 9.0;
        2.0, 0.0, 1.0;
        1.5, 0.4, 7.0
    ];
    let names =
        ["student_t", "bernoulli", "continuous_bernoulli", "poisson", "categorical", "log_normal"];
    (x, names.map(|name| name.parse().unwrap()).to_vec())
}

fn all_likelihoods() -> Vec<(DynLikelihood<f64>, DMatrix<f64>)> {
    let counts = dmatrix![0.0, 3.0, 1.0; 2.0, 0.0, 4.0];
    let shares = dmatrix![0.1, 1.0, 0.4; 0.5, 0.0, 0.9];
    let (mixed, kinds) = table();
    let mut all = vec![(DynLikelihood::for_data(&kinds, mixed.as_view()).unwrap(), mixed)];
    for name in [
        "gaussian",
        "gaussian_per_variable",
        "student_t",
        "laplace",
        "log_normal",
        "bernoulli",
        "continuous_bernoulli",
        "binomial:5",
        "poisson",
        "negative_binomial",
        "zero_inflated_poisson",
        "categorical",
        "ordinal",
    ] {
        let x = match name {
            "bernoulli" | "continuous_bernoulli" => shares.clone(),
            "log_normal" => shares.map(|v| v + 0.1),
            _ => counts.clone(),
        };
        let kind: LikelihoodKind = name.parse().unwrap();
        all.push((DynLikelihood::for_data(&[kind], x.as_view()).unwrap(), x));
    }
    all
}

type Encoder<Q> = Amortized<GaussianEncoder<Linear<f64>, Q>>;
type Flat = GenerativeModel<Linear<f64>, DynLikelihood<f64>>;

/// J of an objective at a decoder that ignores z, and an encoder that ignores x.
fn value<Q, O>(objective: &O, parts: (&Flat, &Encoder<Q>), x: &DMatrix<f64>) -> f64
where
    O: DifferentiableObjective<f64, Flat, Encoder<Q>>,
{
    let mut gradient = Gradient::default();
    let x = Observations::new(x.as_view()).unwrap();
    let rng = &mut StdRng::seed_from_u64(5);
    objective
        .value_and_gradient(parts.0, parts.1, x, rng, &mut O::Workspace::default(), &mut gradient)
        .unwrap()
}

fn under_a_flat_decoder<Q>(family: &str)
where
    Q: PosteriorFamily<f64>,
    Elbo<Reparameterization>: DifferentiableObjective<f64, Flat, Encoder<Q>>,
    Elbo<PathDerivative>: DifferentiableObjective<f64, Flat, Encoder<Q>>,
    ImportanceWeighted: DifferentiableObjective<f64, Flat, Encoder<Q>>,
{
    for (mut likelihood, x) in all_likelihoods() {
        let (d, n) = x.shape();
        let bias = likelihood.start(x.as_view()).unwrap();
        let output = DMatrix::from_fn(bias.len(), n, |row, _| bias[row]);
        let log_density = likelihood.log_density(x.as_view(), output.as_view()).sum();
        let decoder = Linear::new(DMatrix::zeros(bias.len(), 2), bias).unwrap();
        let model = GenerativeModel::new(decoder, likelihood);
        let encoder = |phi: f64| {
            let rows = Q::parameter_count(2);
            let map = Linear::new(DMatrix::zeros(rows, d), DVector::repeat(rows, phi)).unwrap();
            Amortized::new(GaussianEncoder::<_, Q>::new(map, 2).unwrap())
        };
        let prior = encoder(0.0);
        let values = [
            value(&Elbo::reparameterized(2), (&model, &prior), &x),
            value(&Elbo::path_derivative(2), (&model, &prior), &x),
            value(&ImportanceWeighted::new(3), (&model, &prior), &x),
        ];
        for (which, value) in values.into_iter().enumerate() {
            let apart = (value - log_density).abs();
            assert!(apart < 1e-12 * log_density.abs().max(1.0), "{family} {which}: {model:?}");
        }
        // Any other q costs its divergence from the prior.
        let rows = Q::parameter_count(2);
        let q = Q::from_parameters(2, DMatrix::repeat(rows, n, 0.3)).unwrap();
        let expected = log_density - q.kl_to_prior().sum();
        let found = value(&Elbo::reparameterized(2), (&model, &encoder(0.3)), &x);
        assert!((found - expected).abs() < 1e-12 * expected.abs().max(1.0), "{family}: {model:?}");
    }
}

#[test]
fn a_flat_decoder_makes_every_bound_the_log_likelihood() {
    under_a_flat_decoder::<Isotropic<f64>>("isotropic");
    under_a_flat_decoder::<Diagonal<f64>>("diagonal");
    under_a_flat_decoder::<Full<f64>>("full");
}

#[test]
fn a_mixed_table_is_the_sum_of_its_columns() {
    fn check<T: Real>() {
        let (x, _) = table();
        let x = x.map(T::of).remove_row(4);
        let kinds: Vec<DynUnivariate> = vec![
            StudentT::default().into(),
            Bernoulli.into(),
            ContinuousBernoulli.into(),
            Poisson.into(),
            LogNormal::default().into(),
        ];
        let mixed = Independent::<T, _>::of_each(kinds.clone()).unwrap();
        let output = DMatrix::from_fn(5, 3, |j, i| T::of(0.3 * j as f64 - 0.5 * i as f64));
        let found = mixed.log_density(x.as_view(), output.as_view()).sum();
        let columns: T = (0..5)
            .map(|j| {
                let alone = Independent::<T, _>::new(kinds[j], 1).unwrap();
                let (x, y) = (x.rows(j, 1).into_owned(), output.rows(j, 1).into_owned());
                alone.log_density(x.as_view(), y.as_view()).sum()
            })
            .fold(T::zero(), |sum, v| sum + v);
        let apart = (found - columns).abs().as_f64();
        assert!(apart <= 10.0 * T::EPSILON.as_f64() * columns.abs().as_f64());
    }
    check::<f64>();
    check::<f32>();
}
