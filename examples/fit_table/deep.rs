//! A deep decoder with a deep encoder: the variational autoencoder.

use super::input::{Input, Rows};
use super::options::{Family, Likelihood, Options};
use super::report::{Outcome, TestLikelihood, Trained};
use super::support::arguments::Arguments;
use super::training::{Binarize, Prior};
use elbo::data::Incomplete;
use elbo::diagnostics::{ActiveUnits, mutual_information};
use elbo::fit::{
    Checkpoint, Checkpoints, EpochProgress, Fitted, LearningRateSchedule, Observer,
    StochasticGradient,
};
use elbo::likelihood::{DynLikelihood, LikelihoodKind};
use elbo::posterior::{Diagonal, Full, Isotropic, PosteriorFamily};
use elbo::prior::{DynPrior, GaussianPrior, MixturePrior};
use elbo::steps::DeepBuilder;
use elbo::{Real, Result, Vae};
use nalgebra::{DMatrix, DVector};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::ops::ControlFlow;
use std::time::Instant;

/// Monte Carlo samples of all rows together for the reported J, and the least and the most of each.
const SAMPLES: usize = 20_000;
const OF_EACH: (usize, usize) = (10, 200);
/// Gradient steps of a quick run.
const QUICK: usize = 500;
/// A dimension whose posterior means have a smaller variance is not active (Burda et al. 2016).
const ACTIVE: f64 = 0.01;

type Model<T, Q> = Vae<T, Q, DynLikelihood<T>, DynPrior<T>>;

pub fn fit<T: Real>(
    input: &Input<T>,
    arguments: &Arguments,
    options: &Options,
) -> std::result::Result<Outcome<T>, String> {
    let latent_dim = match (options.is_gaussian(), arguments.latent_dim) {
        (_, Some(latent_dim)) => latent_dim,
        (true, None) if input.rows.missing == 0 => super::gaussian::latent_dim(input, arguments)?,
        _ => 2.min(input.rows.values.nrows()),
    };
    let kinds = match &options.likelihood {
        Likelihood::Gaussian => vec![LikelihoodKind::Gaussian],
        Likelihood::GaussianPerVariable => vec![LikelihoodKind::GaussianPerVariable],
        Likelihood::Each(columns) => {
            columns.kinds(&input.names, &input.rows.values, &input.categories)?
        }
    };
    // One type for all likelihoods and one for all priors: each combination of types would be
    // compiled by itself.
    let likelihood = DynLikelihood::for_data(&kinds, input.rows.values.as_view());
    let likelihood = likelihood.map_err(|error| input.place().says(error))?;
    let run = Run { input, arguments, options, latent_dim, likelihood };
    match options.posterior {
        Family::Isotropic => run.family::<Isotropic<T>>(),
        Family::Diagonal => run.family::<Diagonal<T>>(),
        Family::Full => run.family::<Full<T>>(),
    }
}

struct Run<'a, T: Real> {
    input: &'a Input<T>,
    arguments: &'a Arguments,
    options: &'a Options,
    latent_dim: usize,
    likelihood: DynLikelihood<T>,
}

/// Reports each epoch, and ends a fit at the limit of time.
struct Watch {
    started: Instant,
    limit: Option<std::time::Duration>,
    history: Vec<(f64, Option<f64>, f64)>,
    shown: Option<Instant>,
    epochs: usize,
}

impl Observer for Watch {
    fn observe(&mut self, _epoch: usize, _value: f64) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }

    fn observe_epoch(&mut self, progress: &EpochProgress) -> ControlFlow<()> {
        let seconds = self.started.elapsed().as_secs_f64();
        self.history.push((progress.objective, progress.held_out, seconds));
        let last = progress.epoch == self.epochs;
        if last || self.shown.is_none_or(|shown| shown.elapsed().as_secs() >= 2) {
            self.shown = Some(Instant::now());
            let held_out =
                progress.held_out.map_or(String::new(), |value| format!(", held out {value:.4}"));
            let (epoch, epochs, value) = (progress.epoch, self.epochs, progress.objective);
            super::support::progress::note(&format!(
                "epoch {epoch} of {epochs}: J {value:.4} nats a row{held_out}, {seconds:.1} s"
            ));
        }
        match self.limit {
            Some(limit) if self.started.elapsed() >= limit => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        }
    }
}

impl<T: Real> Run<'_, T> {
    fn prior(&self) -> Result<DynPrior<T>> {
        // A generator of its own: the prior does not move the other random numbers of the seed.
        let rng = &mut StdRng::seed_from_u64(self.arguments.seed ^ 0x7072_696f);
        Ok(match self.options.training.prior {
            Prior::Standard => DynPrior::StandardNormal,
            Prior::Gaussian => GaussianPrior::new(self.latent_dim).into(),
            Prior::Mixture(components) => {
                MixturePrior::random(components, self.latent_dim, rng)?.into()
            }
        })
    }

    /// The optimiser: the library's default, or what the options say, without held-out rows as soon
    /// as the number of epochs is given.
    fn fitter(&self) -> Option<StochasticGradient> {
        let (training, n) = (&self.options.training, self.input.rows.values.ncols());
        let untouched = training.epochs.is_none()
            && training.batch.is_none()
            && training.learning_rate.is_none()
            && training.schedule.is_none();
        let default = match (self.arguments.quick, untouched) {
            (true, _) => StochasticGradient::of_steps(QUICK, n),
            (false, true) if training.kl_weight() == Default::default() => return None,
            _ => StochasticGradient::of_steps(12_000, n),
        };
        let mut fitter = StochasticGradient { kl_weight: training.kl_weight(), ..default };
        if let Some(epochs) = training.epochs {
            fitter = StochasticGradient {
                epochs,
                batch_size: 100,
                learning_rate: 1e-3,
                schedule: LearningRateSchedule::Constant,
                held_out: 0.0,
                ..fitter
            };
        }
        fitter.batch_size = training.batch.unwrap_or(fitter.batch_size);
        fitter.learning_rate = training.learning_rate.unwrap_or(fitter.learning_rate);
        fitter.schedule = training.schedule.unwrap_or(fitter.schedule);
        Some(fitter)
    }

    fn family<Q: PosteriorFamily<T>>(&self) -> std::result::Result<Outcome<T>, String> {
        let (place, training) = (self.input.place(), &self.options.training);
        let rng = &mut StdRng::seed_from_u64(self.arguments.seed);
        let x = &self.input.rows.values;
        let x = match training.binarize {
            Binarize::Fixed => &binarized(x, rng),
            _ => x,
        };
        let prior = self.prior().map_err(|error| place.says(error))?;
        let likelihood = self.likelihood.clone();
        let mut builder = Vae::<T, Q, _>::builder_with(likelihood, self.latent_dim)
            .prior(prior)
            .hidden(&self.options.hidden)
            .objective(training.bound())
            .dynamic_binarization(training.binarize == Binarize::Dynamic);
        if let Some(activation) = training.activation {
            builder = builder.activation(activation);
        }
        let fitter = self.fitter();
        if let Some(fitter) = fitter {
            builder = builder.fitter(fitter);
        }
        let (started, limit) = (Instant::now(), training.time_limit);
        let epochs = fitter.map_or_else(
            || StochasticGradient::of_steps(12_000, x.ncols()).epochs,
            |fitter| fitter.epochs,
        );
        let mut watch = Watch { started, limit, history: Vec::new(), shown: None, epochs };
        let fitted = self.trained(&builder, x, rng, &mut watch)?;
        self.outcome(&fitted, x, watch.history, rng).map_err(|error| place.says(error))
    }

    /// The fit, with checkpoints if there is a file for them.
    fn trained<Q: PosteriorFamily<T>>(
        &self,
        builder: &DeepBuilder<T, Model<T, Q>>,
        x: &DMatrix<T>,
        rng: &mut StdRng,
        watch: &mut Watch,
    ) -> std::result::Result<Fitted<Model<T, Q>>, String> {
        let (place, training) = (self.input.place(), &self.options.training);
        let Some(path) = &training.checkpoint else {
            let fitted = builder.fit_with_observer(Incomplete(x), rng, watch);
            return fitted.map_err(|error| place.says(error));
        };
        let mut keep = |checkpoint: &Checkpoint<T>| checkpoint.save(path);
        let label = format!(
            "likelihood {}, latent dimensions {}, hidden {:?}, posterior {:?}, seed {}, \
             objective {:?}, prior {:?}, binarize {:?}, activation {:?}, scale {:?}",
            self.options.likelihood_name(),
            self.latent_dim,
            self.options.hidden,
            self.options.posterior,
            self.arguments.seed,
            training.bound(),
            training.prior,
            training.binarize,
            training.activation,
            self.input.scale,
        );
        let mut checkpoints = Checkpoints::new(training.checkpoint_every, &mut keep).label(label);
        if training.resume {
            checkpoints = checkpoints.resume(Checkpoint::load(path).map_err(|e| e.to_string())?);
        }
        let fitted = builder.fit_with_checkpoints(Incomplete(x), rng, watch, checkpoints);
        fitted.map_err(|error| place.says(error))
    }

    fn outcome<Q: PosteriorFamily<T>>(
        &self,
        fitted: &Fitted<Model<T, Q>>,
        x: &DMatrix<T>,
        history: Vec<(f64, Option<f64>, f64)>,
        rng: &mut StdRng,
    ) -> Result<Outcome<T>> {
        let model = &fitted.model;
        let training = &self.options.training;
        let of_rows = |rows: &Rows<T>, rng: &mut StdRng| match training.binarize {
            // Binary data are what the model is one of: those for testing are drawn once.
            Binarize::None => rows.values.clone(),
            _ => binarized(&rows.values, rng),
        };
        let own = match training.binarize {
            Binarize::Dynamic => binarized(x, rng),
            _ => x.clone(),
        };
        let terms = model.estimate_elbo_of_observed(samples(own.ncols()), &own, rng)?;
        let elbo = sum(&terms.values());
        let rate_terms = terms.negative_kl;
        let (mut test_elbo, mut test_nll) = (None, None);
        if let Some((_, test)) = &self.input.test {
            let test = of_rows(test, rng);
            let terms = model.estimate_elbo_of_observed(samples(test.ncols()), &test, rng)?;
            test_elbo = Some(sum(&terms.values()));
            let count = training.nll_observations.unwrap_or(test.ncols()).min(test.ncols());
            let some = test.columns(0, count).into_owned();
            let found = model.estimate_log_likelihood(training.nll_samples, &some, rng)?;
            test_nll = Some(TestLikelihood {
                value: -found.log_likelihood.mean(),
                standard_error: found.log_likelihood.monte_carlo_error(),
                effective_sample_size: found.effective_samples.iter().sum::<f64>() / count as f64,
                observations: count,
            });
        }
        let q = model.encode(Incomplete(&own))?;
        let units = ActiveUnits::from_posterior(&q);
        let dead = |unit: &usize| units.activities[*unit].as_f64() <= ACTIVE;
        let rate = -rate_terms.iter().map(|v| v.as_f64()).sum::<f64>() / own.ncols() as f64;
        let trained = Trained {
            history,
            test_nll,
            active_units: units.count(T::of(ACTIVE)),
            rate,
            mutual_information: mutual_information(&q, rng)?,
            collapsed: (0..self.latent_dim).filter(dead).collect(),
        };
        Ok(Outcome {
            latent_dim: self.latent_dim,
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
            codes: q.into_mean(),
            standard_errors: None,
            trained: Some(trained),
        })
    }
}

/// Monte Carlo samples of each of n rows.
fn samples(n: usize) -> usize {
    SAMPLES.div_ceil(n).clamp(OF_EACH.0, OF_EACH.1)
}

fn sum<T: Real>(values: &DVector<T>) -> f64 {
    values.iter().map(|v| v.as_f64()).sum()
}

/// Binary data, drawn with the entries as probabilities.
fn binarized<T: Real>(x: &DMatrix<T>, rng: &mut StdRng) -> DMatrix<T> {
    x.map(|value| match value.as_f64() {
        value if value.is_nan() => T::of(value),
        value if rng.random::<f64>() < value => T::one(),
        _ => T::zero(),
    })
}
