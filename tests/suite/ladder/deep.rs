//! The last steps against the linear ones that they contain: a deep model is never worse.

use crate::ladder::common::{
    assert_within, eigenvalues, hostile, iris, isotropic_optimum, likelihood_optimum, normal, rng,
    wine,
};
use elbo::fit::{StochasticGradient, StopReason};
use elbo::likelihood::{DiagonalGaussian, IsotropicGaussian, NoiseVariance};
use elbo::posterior::{Diagonal, Full, Isotropic, PosteriorFamily};
use elbo::steps::DeepInitialization;
use elbo::{AmortizedPpca, DeepEncoderPpca, FactorAnalysis, Real, Vae};
use nalgebra::DMatrix;

/// A share of the default steps, so that the tests take seconds.
fn short(n: usize) -> StochasticGradient {
    StochasticGradient { held_out: 0.2, ..StochasticGradient::of_steps(400, n) }
}

/// Tables of many kinds: raw units, variances over ten orders of magnitude, more variables than
/// observations, constant and duplicated columns, a large mean, one huge outlier, five rows.
fn tables() -> Vec<(&'static str, DMatrix<f64>, usize)> {
    let mut all = hostile();
    // A fifth of the 1,500 variables shows the same: a step takes time in proportion to them.
    for (name, x, _) in all.iter_mut().filter(|(_, x, _)| x.nrows() > 300) {
        *name = "38 observations of 300 variables";
        *x = x.rows(0, 300).into_owned();
    }
    let mut outlier = wine();
    outlier[(3, 17)] = 1e6;
    let few = wine().columns(0, 5).into_owned();
    all.extend([
        ("wine", wine(), 2),
        ("iris", iris(), 3),
        ("wine with an outlier", outlier, 2),
        ("five wines", few, 2),
    ]);
    all
}

/// J of all rows, with the standard error of its Monte Carlo estimate.
fn estimated<T: Real, Q: PosteriorFamily<T>, L: elbo::steps::DeepLikelihood<T>>(
    vae: &Vae<T, Q, L>,
    x: &DMatrix<T>,
    seed: u64,
) -> (f64, f64) {
    let values: Vec<f64> = (0..10)
        .map(|draw| {
            let each = (1_000 / x.ncols()).clamp(1, 25);
            let terms = vae.estimate_elbo(each, x, &mut rng(100 * seed + draw)).unwrap();
            terms.values().iter().map(|v| v.as_f64()).sum::<f64>() / x.ncols() as f64
        })
        .collect();
    let mean = values.iter().sum::<f64>() / 10.0;
    let squares: f64 = values.iter().map(|v| (v - mean).powi(2)).sum();
    (mean, (squares / 90.0).sqrt())
}

/// The deep encoder reaches the optimum of the affine one, which is known in closed form (oracles 1
/// and 6) and cannot be exceeded: the exact posterior is an affine function of x.
#[test]
fn a_deep_encoder_reaches_the_optimum_of_the_affine_one() {
    for (name, x, k) in tables() {
        let values = eigenvalues(&x, true);
        let (best, isotropic) =
            (likelihood_optimum(&values, k), isotropic_optimum(&values, k).unwrap());
        for seed in 1..=3 {
            macro_rules! elbo_of {
                ($family:ident, $scalar:ty) => {{
                    let x = x.map(|v| v as $scalar);
                    let builder = DeepEncoderPpca::<$scalar, $family<$scalar>>::builder(k);
                    let fit = builder.fitter(short(x.ncols())).fit(&x, &mut rng(seed)).unwrap();
                    f64::from(fit.model.elbo(&x).unwrap().values().mean())
                }};
            }
            assert_within(elbo_of!(Isotropic, f64), isotropic, 1e-6, name);
            assert_within(elbo_of!(Diagonal, f64), best, 1e-6, name);
            assert_within(elbo_of!(Full, f64), best, 1e-6, name);
            // A mean of 5e7 is rounded to the units of the noise in single precision.
            if name != "a large mean" {
                assert_within(elbo_of!(Isotropic, f32), isotropic, 0.05, name);
                assert_within(elbo_of!(Diagonal, f32), best, 0.05, name);
            }
        }
    }
}

/// The variational autoencoder ends at or above the linear model with the same family and noise.
fn vae_is_not_below<T: Real, Q: PosteriorFamily<T>>(
    name: &str,
    (x, k): (&DMatrix<T>, usize),
    noise: NoiseVariance<T>,
    best: f64,
    seeds: &[u64],
) {
    for &seed in seeds {
        let builder = Vae::<T, Q, IsotropicGaussian<T>>::builder(k).noise_variance(noise);
        let fit = builder.fitter(short(x.ncols())).fit(x, &mut rng(seed)).unwrap();
        let (value, error) = estimated(&fit.model, x, seed);
        assert!(
            value > best - 0.05 - 3.0 * error,
            "{name}, seed {seed}: {value} ± {error} and {best} by the linear model ({})",
            fit.stop
        );
        // What the fit reports is what it returns.
        let last = fit.trace.last().unwrap();
        assert!((last - value).abs() < 0.1 + 4.0 * error, "{name}: {last} and {value} ± {error}");
    }
}

#[test]
fn a_vae_is_never_below_the_linear_model_that_it_contains() {
    for (name, x, k) in tables() {
        let values = eigenvalues(&x, true);
        let (best, isotropic) =
            (likelihood_optimum(&values, k), isotropic_optimum(&values, k).unwrap());
        let (analytic, learned) = (NoiseVariance::Analytic, NoiseVariance::Learned);
        let table = (&x, k);
        // A step on 300 variables takes as long as one on all other tables together.
        if x.nrows() > 100 {
            vae_is_not_below::<f64, Isotropic<f64>>(name, table, analytic, isotropic, &[1]);
            continue;
        }
        let seeds: &[u64] = if matches!(name, "wine" | "iris") { &[1, 2, 3] } else { &[1] };
        vae_is_not_below::<f64, Isotropic<f64>>(name, table, analytic, isotropic, seeds);
        vae_is_not_below::<f64, Diagonal<f64>>(name, table, learned, best, &[1]);
        vae_is_not_below::<f64, Full<f64>>(name, table, analytic, best, &[2]);
        let single = x.map(|v| v as f32);
        if name != "a large mean" {
            let (table, analytic) = ((&single, k), NoiseVariance::Analytic);
            vae_is_not_below::<f32, Diagonal<f32>>(name, table, analytic, best, &[3]);
        }
    }
}

/// With a noise variance for each variable the linear model is factor analysis.
#[test]
fn noise_per_variable_starts_at_factor_analysis() {
    for (name, x, k) in [("wine", wine(), 2), ("iris", iris(), 1)] {
        let best = FactorAnalysis::fit(k, &x).unwrap().model.score(&x).unwrap();
        for noise in [NoiseVariance::Analytic, NoiseVariance::Learned] {
            let builder = Vae::<f64, Diagonal<f64>, DiagonalGaussian<f64>>::builder(k);
            let fit = builder
                .noise_variance(noise)
                .fitter(short(x.ncols()))
                .fit(&x, &mut rng(1))
                .unwrap();
            assert!((fit.trace.values()[0] - best).abs() < 1.0, "{name}: {:?}", fit.trace.values());
            let (value, error) = estimated(&fit.model, &x, 1);
            assert!(value > best - 0.05 - 3.0 * error, "{name}: {value} and {best}");
        }
    }
}

/// On a curve, a deep decoder is far better than a line, also on rows that it has not seen.
#[test]
fn a_curve_is_found_from_the_line() {
    let rng = &mut rng(5);
    let noise = normal(4, 400, rng);
    let curve = |t: f64, j: usize| [t, t * t, (2.0 * t).sin(), 0.5 * t.powi(3)][j];
    let t = 1.3 * normal(1, 400, rng);
    let x = DMatrix::from_fn(4, 400, |j, i| curve(t[i], j) + 0.1 * noise[(j, i)]);
    let (training, test) = (x.columns(0, 320).into_owned(), x.columns(320, 80).into_owned());
    let line = AmortizedPpca::<f64, Diagonal<f64>>::builder(1).fit(&training, rng).unwrap().model;
    let line = line.elbo(&test).unwrap().values().mean();
    let builder = Vae::<f64>::builder(1).fitter(StochasticGradient::of_steps(4_000, 320));
    let fit = builder.fit(&training, rng).unwrap();
    let (value, error) = estimated(&fit.model, &test, 1);
    assert!(value > line + 1.0 + 3.0 * error, "{value} and {line} by the line ({})", fit.stop);
}

/// x → cx is the same fit in other units: one c for all columns with isotropic noise, one for each
/// column with noise per variable; a constant column does not count.
#[test]
fn units_do_not_matter() {
    let mut x = iris().insert_rows(4, 1, 3.25);
    x.row_mut(4).fill(3.25);
    let n = x.ncols();
    let fitter = StochasticGradient { epochs: 5, ..StochasticGradient::of_steps(400, n) };
    for initialization in [DeepInitialization::Linear, DeepInitialization::Random] {
        macro_rules! elbo_of {
            ($noise:ident, $x:expr) => {{
                let builder = Vae::<f64, Diagonal<f64>, $noise<f64>>::builder(2);
                let builder = builder.initialization(initialization).fitter(fitter);
                let fit = builder.fit($x, &mut rng(3)).unwrap();
                fit.model.estimate_elbo(20, $x, &mut rng(4)).unwrap().values().mean()
            }};
        }
        let (common, each) = (elbo_of!(IsotropicGaussian, &x), elbo_of!(DiagonalGaussian, &x));
        for c in [1e-4, 1e6] {
            let scaled = &x * c;
            let value = elbo_of!(IsotropicGaussian, &scaled) + 5.0 * f64::ln(c);
            assert_within(value, common, 1e-6, "one unit for all columns");
        }
        let units = [1e3, 1e-3, 10.0, 1e-6, 1e2];
        let scaled = DMatrix::from_fn(5, n, |j, i| units[j] * x[(j, i)]);
        // The noise of a constant variable is that of a mean variance, and has no units of its own.
        let constant = |x: &DMatrix<f64>| {
            let floor = x.rows(0, 4).row_iter().map(|row| row.variance()).sum::<f64>() / 4.0;
            -0.5 * (std::f64::consts::TAU * 1e-6 * floor).ln()
        };
        let logarithms: f64 = units[..4].iter().map(|c| c.ln()).sum();
        let value = elbo_of!(DiagonalGaussian, &scaled) - constant(&scaled) + logarithms;
        assert_within(value, each - constant(&x), 1e-6, "a unit for each column");
    }
}

/// A column that is constant but for rounding is not an input: a new row that deviates there gets
/// the code of one that does not.
#[test]
fn rounding_is_no_input() {
    let x = iris();
    let with = |value: f64| {
        let mut all = x.clone().insert_rows(2, 1, 0.3);
        all[(2, 7)] = value;
        all
    };
    let (rounded, constant) = (with(0.1 + 0.2), with(0.3));
    let new = |value: f64| {
        let mut row = constant.columns(11, 1).into_owned();
        row[2] = value;
        row
    };
    macro_rules! same {
        ($builder:expr) => {
            let builder = $builder.fitter(short(x.ncols()));
            let fit = builder.fit(&rounded, &mut rng(2)).unwrap();
            let control = builder.fit(&constant, &mut rng(2)).unwrap();
            let (code, expected) = (
                fit.model.transform(&new(0.31)).unwrap(),
                control.model.transform(&new(0.3)).unwrap(),
            );
            assert!((code - expected).amax() < 1e-9);
        };
    }
    same!(DeepEncoderPpca::<f64>::builder(2));
    same!(DeepEncoderPpca::<f64>::builder(2).initialization(DeepInitialization::Random));
    same!(Vae::<f64>::builder(2));
    same!(Vae::<f64>::builder(2).initialization(DeepInitialization::Random));
}

/// More latent dimensions than variables, or than observations.
#[test]
fn k_above_the_number_of_variables() {
    let x = iris();
    let fit = Vae::<f64>::builder(6).fitter(short(150)).fit(&x, &mut rng(1)).unwrap();
    // The linear model with the most dimensions that leave noise.
    let best = likelihood_optimum(&eigenvalues(&x, true), 3);
    let (value, error) = estimated(&fit.model, &x, 1);
    assert!(value > best - 0.05 - 3.0 * error, "{value} and {best}");
    // The closed forms of a linear decoder hold for such a k as well.
    let builder = DeepEncoderPpca::<f64, Diagonal<f64>>::builder(6);
    let model = builder.fitter(short(150)).fit(&x, &mut rng(1)).unwrap().model;
    assert_within(model.score(&x).unwrap(), best, 1e-6, "log p");
    assert_within(model.elbo(&x).unwrap().values().mean(), best, 1e-6, "J");
    let few = x.columns(0, 5).into_owned();
    let fit = Vae::<f64>::builder(13).fit(&few, &mut rng(1)).unwrap();
    assert!(fit.trace.values().iter().all(|v| v.is_finite()));
    assert_eq!(fit.model.transform(&few).unwrap().shape(), (13, 5));
}

/// A fit that gains nothing returns its initialisation and says so.
#[test]
fn a_fit_that_gains_nothing_says_so() {
    // Independent variables: there is nothing that a deep decoder could find.
    let x = normal(4, 60, &mut rng(8));
    let fit = Vae::<f64>::builder(1).fitter(short(60)).fit(&x, &mut rng(1)).unwrap();
    assert_eq!(fit.stop, StopReason::NoImprovement);
    assert!(fit.to_string().contains("no_improvement"), "{fit}");
    let decoder = fit.model.decoder();
    assert!(decoder.layer(decoder.layers() - 1).0.iter().all(|w| *w == 0.0));
}
