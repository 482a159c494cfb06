//! The tasks whose models have a linear decoder.

use crate::case::{Arguments, complete, optimum, with_holes};
use crate::measure::{Field, Resident, median, statistics, time};
use elbo::data::Incomplete;
use elbo::fit::AutoencoderDescent;
use elbo::linalg::{column_mean, product_tr_left, sums_of_squares, thin_qr};
use elbo::{FactorAnalysis, LinearAutoencoder, Ppca, Real};
use nalgebra::DMatrix;
use rand::{SeedableRng, rngs::StdRng};

fn text(error: elbo::Error) -> String {
    error.to_string()
}

/// The share of the total variance that the span of some directions captures, in double precision.
fn captured<T: Real>(x: &DMatrix<T>, directions: &DMatrix<T>) -> Result<f64, String> {
    let basis = thin_qr(directions.map(|v| v.as_f64()).as_view()).map_err(text)?.0;
    let mean = column_mean(x.as_view()).map_err(text)?.map(|v| v.as_f64());
    let (mut total, mut inside) = (0.0, 0.0);
    for start in (0..x.ncols()).step_by(20_000) {
        let count = 20_000.min(x.ncols() - start);
        let mut block = x.columns(start, count).map(|v| v.as_f64());
        block.column_iter_mut().for_each(|mut column| column -= &mean);
        total += block.norm_squared();
        inside += product_tr_left(&basis, &block).norm_squared();
    }
    Ok(inside / total)
}

pub fn pca<T: Real>(arguments: &Arguments) -> Result<Vec<Field>, String> {
    let (x, k) = complete::<T>(arguments)?;
    let memory = Resident::start();
    let mut model = None;
    let fit = time(arguments, || model = Some(Ppca::fit(k, &x)));
    let model = model.ok_or("nothing was fitted")?.map_err(text)?;
    let mut codes = Ok(DMatrix::zeros(0, 0));
    let transform = time(
        &Arguments {
            budget: 1.0,
            task: String::new(),
            peer: String::new(),
            case: String::new(),
            ..*arguments
        },
        || {
            // Freed first, so that the peak of the memory contains one set of codes and not two.
            codes = Ok(DMatrix::zeros(0, 0));
            codes = model.model.transform(&x);
        },
    );
    let extra = memory.extra();
    codes.map_err(text)?;
    let share = captured(&x, &model.model.components().map_err(text)?)?;
    let mut fields = statistics(&fit);
    fields.extend([
        ("transform_s", median(&transform)),
        ("extra_mib", extra),
        ("captured", share),
        ("loss_rel", optimum(&arguments.case).map_or(f64::NAN, |best| 1.0 - share / best)),
    ]);
    Ok(fields)
}

pub fn score<T: Real>(arguments: &Arguments) -> Result<Vec<Field>, String> {
    let (x, k) = complete::<T>(arguments)?;
    let model = Ppca::fit(k, &x).map_err(text)?;
    let mut scores = None;
    let runs = time(arguments, || scores = Some(model.model.log_likelihood(&x)));
    let scores = scores.ok_or("nothing was scored")?.map_err(text)?;
    let mut fields = statistics(&runs);
    fields.push(("llk", scores.iter().map(|v| v.as_f64()).sum::<f64>() / x.ncols() as f64));
    Ok(fields)
}

/// The linear autoencoder by gradient descent, to 1e-6 of the optimum.
pub fn autoencoder<T: Real>(arguments: &Arguments) -> Result<Vec<Field>, String> {
    let (x, k) = complete::<T>(arguments)?;
    let mut fitted = None;
    let fitter = AutoencoderDescent::default();
    let runs = time(arguments, || {
        fitted = Some(
            LinearAutoencoder::builder(k).fitter(fitter).fit(&x, &mut StdRng::seed_from_u64(0)),
        );
    });
    let fitted = fitted.ok_or("nothing was fitted")?.map_err(text)?;
    let error = fitted.model.squared_error(&x).map_err(text)?.as_f64();
    let best = match optimum(&arguments.case) {
        Some(share) => {
            let mean = column_mean(x.as_view()).map_err(text)?;
            let total: f64 = sums_of_squares(x.as_view(), Some(&mean))
                .map_err(text)?
                .iter()
                .map(|v| v.as_f64())
                .sum();
            (1.0 - share) * total
        }
        None => LinearAutoencoder::fit(k, &x)
            .and_then(|best| best.model.squared_error(&x))
            .map_err(text)?
            .as_f64(),
    };
    let mut fields = statistics(&runs);
    fields.extend([
        ("to_tol_s", median(&runs)),
        ("loss_rel", error / best - 1.0),
        ("iters", fitted.iterations() as f64),
    ]);
    Ok(fields)
}

pub fn factor_analysis<T: Real>(arguments: &Arguments) -> Result<Vec<Field>, String> {
    let (x, k) = complete::<T>(arguments)?;
    let memory = Resident::start();
    let mut fitted = None;
    let runs = time(arguments, || fitted = Some(FactorAnalysis::fit(k, &x)));
    let fitted = fitted.ok_or("nothing was fitted")?.map_err(text)?;
    let extra = memory.extra();
    let scores = fitted.model.log_likelihood(&x).map_err(text)?;
    let mut fields = statistics(&runs);
    fields.extend([
        ("iters", fitted.iterations() as f64),
        ("llk", scores.iter().map(|v| v.as_f64()).sum::<f64>() / x.ncols() as f64),
        ("extra_mib", extra),
    ]);
    Ok(fields)
}

/// Probabilistic PCA with missing values, to the maximum of the observed-data likelihood.
pub fn missing<T: Real>(arguments: &Arguments) -> Result<Vec<Field>, String> {
    let (x, k) = with_holes::<T>(arguments)?;
    let memory = Resident::start();
    let mut fitted = None;
    let runs = time(arguments, || {
        fitted = Some(Ppca::builder(k).fit(Incomplete(&x), &mut StdRng::seed_from_u64(0)))
    });
    let fitted = fitted.ok_or("nothing was fitted")?.map_err(text)?;
    let extra = memory.extra();
    let whole = median(&runs);
    let iterations = fitted.iterations() as f64;
    let llk = fitted.trace.last().unwrap_or(f64::NAN);
    let mut fields = vec![
        ("median_s", whole / iterations.max(1.0)),
        ("to_tol_s", whole),
        ("iters_to_tol", iterations),
    ];
    fields.extend([
        ("reps", runs.len() as f64),
        ("llk", llk),
        ("sigma", fitted.model.noise_variance().as_f64().sqrt()),
        ("extra_mib", extra),
    ]);
    Ok(fields)
}
