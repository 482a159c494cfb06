//! A deep decoder with a deep encoder: the variational autoencoder.

use super::distribution::Distribution;
use super::input::Input;
use super::options::{Columns, Family, Likelihood, Options};
use super::report::Outcome;
use super::support::arguments::Arguments;
use elbo::fit::{Fitted, StochasticGradient};
use elbo::likelihood::{Bernoulli, DiagonalGaussian, IsotropicGaussian};
use elbo::posterior::{Diagonal, Full, Isotropic, PosteriorFamily};
use elbo::steps::DeepLikelihood;
use elbo::{Real, Result, Vae};
use nalgebra::DMatrix;
use rand::SeedableRng;
use rand::rngs::StdRng;

/// Monte Carlo samples of each row for the reported J.
const SAMPLES: usize = 200;
/// Gradient steps of a quick run.
const QUICK: usize = 500;

pub fn fit<T: Real>(
    input: &Input<T>,
    arguments: &Arguments,
    options: &Options,
) -> std::result::Result<Outcome<T>, String> {
    if input.rows.missing > 0 {
        return Err(format!(
            "{}: {} entries are missing, and a deep decoder needs all; --decoder linear does not",
            input.file, input.rows.missing
        ));
    }
    let latent_dim = match (options.is_gaussian(), arguments.latent_dim) {
        (true, _) => super::gaussian::latent_dim(input, arguments)?,
        (false, Some(latent_dim)) => latent_dim,
        (false, None) => 2.min(input.rows.values.nrows()),
    };
    let run = Run { input, arguments, options, latent_dim };
    let outcome = match &options.likelihood {
        Likelihood::Gaussian => run.likelihood::<IsotropicGaussian<T>>(),
        Likelihood::GaussianPerVariable => run.likelihood::<DiagonalGaussian<T>>(),
        Likelihood::Each(Columns::All(Distribution::Bernoulli, _)) => run.likelihood::<Bernoulli>(),
        Likelihood::Each(_) => {
            return Err("option '--decoder deep': the likelihoods are gaussian, \
                        gaussian_per_variable and bernoulli"
                .into());
        }
    };
    outcome.map_err(|error| input.place().says(error))
}

struct Run<'a, T: Real> {
    input: &'a Input<T>,
    arguments: &'a Arguments,
    options: &'a Options,
    latent_dim: usize,
}

impl<T: Real> Run<'_, T> {
    fn likelihood<L>(&self) -> Result<Outcome<T>>
    where
        L: DeepLikelihood<T>,
    {
        match self.options.posterior {
            Family::Isotropic => self.family::<Isotropic<T>, L>(),
            Family::Diagonal => self.family::<Diagonal<T>, L>(),
            Family::Full => self.family::<Full<T>, L>(),
        }
    }

    fn family<Q: PosteriorFamily<T>, L: DeepLikelihood<T>>(&self) -> Result<Outcome<T>> {
        let rng = &mut StdRng::seed_from_u64(self.arguments.seed);
        let x = &self.input.rows.values;
        let latent_dim = self.latent_dim;
        let builder = Vae::<T, Q, L>::builder(latent_dim).hidden(&self.options.hidden);
        let builder = match self.arguments.quick {
            true => builder.fitter(StochasticGradient::of_steps(QUICK, x.ncols())),
            false => builder,
        };
        let fitted: Fitted<Vae<T, Q, L>> = builder.fit(x, rng)?;
        let total = |x: &DMatrix<T>, rng: &mut StdRng| -> Result<f64> {
            let terms = fitted.model.estimate_elbo(SAMPLES, x, rng)?;
            Ok(terms.values().iter().map(|v| v.as_f64()).sum())
        };
        let elbo = total(x, rng)?;
        let test_elbo = match &self.input.test {
            Some((_, test)) => Some(total(&test.values, rng)?),
            None => None,
        };
        Ok(Outcome {
            latent_dim,
            elbo: Some(elbo),
            log_likelihood: None,
            starts: vec![elbo],
            loadings: None,
            intercepts: None,
            iterations: fitted.iterations(),
            stop: fitted.stop.name(),
            test_elbo,
            test_log_likelihood: None,
            test_inference: test_elbo.map(|_| "by the encoder"),
            codes: fitted.model.transform(x)?,
            standard_errors: None,
        })
    }
}
