//! Whatever a fit returns can be saved and loaded: data at the edges of the range of the scalar,
//! of low rank, with constant variables, and with fewer observations than variables.

use super::round_trip;
use elbo::data::{Centering, Moments, Standardization};
use elbo::fit::StochasticGradient;
use elbo::likelihood::DiagonalGaussian;
use elbo::mixture::MixtureOfPpca;
use elbo::posterior::Diagonal;
use elbo::selection::BayesianPpca;
use elbo::{AmortizedPpca, DeepEncoderPpca, FactorAnalysis, LinearAutoencoder, Pca, Ppca};
use elbo::{Real, Vae, VariationalPpca};
use nalgebra::DMatrix;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use std::cell::Cell;

/// The tables, each with the name of what is special about it.
fn tables<T: Real>() -> Vec<(String, DMatrix<T>)> {
    let rng = &mut StdRng::seed_from_u64(7);
    let mut random = |d, n| DMatrix::from_fn(d, n, |_, _| rng.random::<f64>() - 0.5);
    let ordinary = random(4, 30);
    let mut constant = ordinary.clone();
    constant.row_mut(2).fill(3.0);
    let mut outlier = ordinary.clone();
    outlier[(1, 4)] = 1e12;
    let mut tables = vec![
        ("ordinary".into(), ordinary.clone()),
        ("constant variable".into(), constant),
        ("outlier".into(), outlier),
        ("rank 2".into(), random(4, 2) * random(2, 30)),
        ("rank 1, wide".into(), random(9, 1) * random(1, 5)),
        ("wide".into(), random(12, 5)),
        ("offset".into(), ordinary.add_scalar(1e5)),
    ];
    for exponent in [-300, -160, -45, -38, -22, -19, 15, 18, 19, 37, 150, 300] {
        tables.push((format!("1e{exponent}"), &ordinary * 10f64.powi(exponent)));
    }
    let narrow = |(name, x): (String, DMatrix<f64>)| (name, x.map(T::of));
    tables.into_iter().map(narrow).collect()
}

/// Saves what the fits return, and counts it.
fn any_fit<T: Real>() -> usize {
    let saved = Cell::new(0);
    for (name, x) in &tables::<T>() {
        let rng = &mut StdRng::seed_from_u64(3);
        macro_rules! saves {
            ($fit:expr) => {
                // A typed error is an answer as well; which one is tested where it belongs.
                if let Ok(fitted) = $fit {
                    println!("{name}: {}", stringify!($fit));
                    round_trip(&fitted);
                    saved.set(saved.get() + 1);
                }
            };
        }
        let fitter = || StochasticGradient { epochs: 2, ..Default::default() };
        for centering in [Centering::Mean, Centering::None] {
            saves!(Pca::<T>::builder(1).centering(centering).fit(x).map(|fit| fit.model));
            let ppca = Ppca::<T>::builder(1).centering(centering);
            saves!(ppca.fit(x, rng).map(|fit| fit.model));
            let linear = LinearAutoencoder::<T>::builder(1).centering(centering);
            saves!(linear.fit(x, rng).map(|fit| fit.model));
            saves!(BayesianPpca::<T>::builder().centering(centering).fit(x));
        }
        saves!(FactorAnalysis::<T>::fit(1, x).map(|fit| fit.model));
        saves!(VariationalPpca::<T>::builder(1).fit(x, rng).map(|fit| fit.model));
        saves!(AmortizedPpca::<T>::builder(1).fit(x, rng).map(|fit| fit.model));
        let mixture = MixtureOfPpca::<T>::builder(2, 1).restarts(0);
        saves!(mixture.fit(x, rng).map(|fit| fit.model));
        saves!(Standardization::fit(x));
        saves!(Moments::of(x));
        let deep = DeepEncoderPpca::<T>::builder(1).hidden(&[3]).fitter(fitter());
        saves!(deep.fit(x, rng).map(|fit| fit.model));
        let vae = Vae::<T, Diagonal<T>, DiagonalGaussian<T>>::builder(1).hidden(&[3]);
        saves!(vae.fitter(fitter()).fit(x, rng).map(|fit| fit.model));
    }
    saved.get()
}

#[test]
fn whatever_a_fit_returns_is_saved_in_f64() {
    let saved = any_fit::<f64>();
    assert!(saved > 150, "{saved}");
}

#[test]
fn whatever_a_fit_returns_is_saved_in_f32() {
    let saved = any_fit::<f32>();
    // Fewer: most powers of 10 are outside its range.
    assert!(saved > 100, "{saved}");
}
