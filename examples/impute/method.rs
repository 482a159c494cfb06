//! The fit that completes a table, and the choice of its latent dimension.

use super::support::arguments::{Arguments, Bounds, Rule};
use super::support::progress::note;
use elbo::data::Incomplete;
use elbo::fit::{Fitted, MissingDataEm, StopReason};
use elbo::model::ConditionalMoments;
use elbo::selection::{Criterion, Selection};
use elbo::{Error, FactorAnalysis, Ppca, Real, Result};
use nalgebra::{DMatrix, DVector};
use rand::SeedableRng;
use rand::rngs::StdRng;

/// The lower bound of the noise variance, as a share of the variance, where the observed entries
/// obey an exact identity: the likelihood has no maximum without one.
const FLOOR_OF_IDENTITY: f64 = 1e-8;

/// Number of observed entries below which a table is small.
const FEW_ENTRIES: usize = 50;

/// The default number of random restarts beside the first initialisation: the likelihood of tables
/// whose scales span many orders of magnitude has several maxima.
const RESTARTS: usize = 4;

/// Settings of the fits that choose k: a gain of 10⁻⁴ nats per observation does not change the
/// error of an imputed value that anyone could see.
const ROUGH: MissingDataEm = MissingDataEm {
    max_iterations: 300,
    tolerance: 1e-4,
    scheme: elbo::fit::EmAcceleration::Accelerated,
};

/// The model and its settings.
pub struct Method {
    factor_analysis: bool,
    noise_floor: Option<f64>,
    restarts: usize,
    seed: u64,
}

/// A completed table, and what the report says of the fit.
pub struct Completion<T: Real> {
    pub values: DMatrix<T>,
    /// The conditional variance of each entry, 0 where it is observed.
    pub variances: DMatrix<T>,
    pub log_likelihood: f64,
    /// The mean over the variables.
    pub noise_variance: f64,
    pub iterations: usize,
    pub starts: Vec<f64>,
    pub stop: &'static str,
    /// The share of a floor that was set because the likelihood is unbounded without one.
    pub identity_floor: Option<f64>,
}

/// The chosen k, and how.
pub struct Choice {
    pub latent_dim: usize,
    pub rule: &'static str,
    /// The error at held-out entries of this k and of the column means, in standard deviations.
    pub errors: Option<(f64, f64)>,
    pub at_edge: bool,
}

impl Method {
    pub fn of(arguments: &Arguments) -> Self {
        Self {
            factor_analysis: arguments.factor_analysis,
            noise_floor: arguments.noise_floor,
            restarts: arguments.restarts.unwrap_or(RESTARTS),
            seed: arguments.seed,
        }
    }

    pub fn name(&self) -> &'static str {
        if self.factor_analysis { "factor_analysis" } else { "ppca" }
    }

    /// Completes a table with k latent dimensions; with k = 0 by the mean of each column.
    pub fn complete<T: Real>(&self, latent_dim: usize, x: &DMatrix<T>) -> Result<Completion<T>> {
        let settings = MissingDataEm::default();
        if latent_dim == 0 {
            return Ok(of_means(x));
        }
        self.with_floor(|floor| self.fit(latent_dim, x, settings, self.restarts, floor))
    }

    /// Chooses k by the error at held-out entries (default), or by BIC.
    pub fn choose<T: Real>(
        &self,
        rule: Option<Rule>,
        x: &DMatrix<T>,
    ) -> std::result::Result<Choice, Error> {
        let rng = &mut StdRng::seed_from_u64(self.seed);
        let candidates = 1..x.nrows();
        let rounding = 256.0 * T::EPSILON.as_f64().powi(2);
        let varies = |(mean, variance): (f64, f64)| variance > rounding * mean * mean;
        if !x.row_iter().any(|row| varies(observed_moments(row.iter().copied()))) {
            // Refused by the fit, which names what is constant.
            self.fit(1, x, ROUGH, 0, None)?;
        }
        if let Some(Rule::Bic) = rule {
            let found = if self.factor_analysis {
                Selection::factor_analysis(x, candidates, Criterion::Bic, rng)?
            } else {
                Selection::incomplete_ppca(x, candidates, Criterion::Bic, rng)?
            };
            let at_edge = found.at_edge();
            return Ok(Choice { latent_dim: found.latent_dim, rule: "BIC", errors: None, at_edge });
        }
        let mut told = 0;
        let found = Selection::held_out_entries(x, candidates, rng, |k, table| {
            if k > told {
                note(&format!("held-out entries: k = {k}"));
                told = k;
            }
            let fit = self.with_floor(|floor| self.fit(k, table, ROUGH, 0, floor))?;
            Ok(fit.values)
        })?;
        // With few entries, those that are not hidden may not determine every k. An exact identity
        // shows nevertheless: the likelihood of one dimension less than variables is unbounded.
        let largest = x.nrows() - 1;
        let scored = found.scores.iter().any(|&(k, _)| k == largest);
        let observed = x.iter().filter(|v| !v.as_f64().is_nan()).count();
        if !scored && observed < FEW_ENTRIES {
            let exact = self.fit(largest, x, MissingDataEm::default(), 0, None);
            if matches!(exact, Err(Error::NoiseVanished { .. })) {
                let rule = "an exact identity";
                return Ok(Choice { latent_dim: largest, rule, errors: None, at_edge: false });
            }
        }
        let error = |k: usize| found.scores.iter().find(|s| s.0 == k).map(|s| -s.1);
        Ok(Choice {
            latent_dim: found.latent_dim,
            rule: "held-out entries",
            errors: error(found.latent_dim).zip(error(0)),
            at_edge: false,
        })
    }

    /// A fit without a floor, or with one if the likelihood is unbounded without.
    fn with_floor<T: Real>(
        &self,
        fit: impl Fn(Option<f64>) -> Result<Completion<T>>,
    ) -> Result<Completion<T>> {
        match fit(self.noise_floor) {
            Err(Error::NoiseVanished { .. }) if self.noise_floor.is_none() => {
                let completed = fit(Some(FLOOR_OF_IDENTITY))?;
                Ok(Completion { identity_floor: Some(FLOOR_OF_IDENTITY), ..completed })
            }
            found => found,
        }
    }

    fn fit<T: Real>(
        &self,
        latent_dim: usize,
        x: &DMatrix<T>,
        settings: MissingDataEm,
        restarts: usize,
        floor: Option<f64>,
    ) -> Result<Completion<T>> {
        let rng = &mut StdRng::seed_from_u64(self.seed);
        if self.factor_analysis {
            let builder = FactorAnalysis::builder(latent_dim)
                .restarts(restarts)
                .missing_data_fitter(settings);
            let builder = match floor {
                Some(share) => builder.noise_floor(share),
                None => builder,
            };
            let fitted = builder.fit(Incomplete(x), rng)?;
            let moments = fitted.model.conditional(x)?;
            let noise = fitted.model.noise_variances().map(|v| v.as_f64()).mean();
            let values = fitted.model.log_likelihood(Incomplete(x))?;
            let parts = fitted.map(|_| ());
            return Ok(completion(moments, &parts, noise, values, x.ncols()));
        }
        let builder = Ppca::builder(latent_dim).restarts(restarts).missing_data_fitter(settings);
        let builder = match floor {
            Some(share) => builder.noise_floor(share),
            None => builder,
        };
        let fitted = builder.fit(Incomplete(x), rng)?;
        let moments = fitted.model.conditional(x)?;
        let noise = fitted.model.noise_variance().as_f64();
        let values = fitted.model.log_likelihood(Incomplete(x))?;
        let parts = fitted.map(|_| ());
        Ok(completion(moments, &parts, noise, values, x.ncols()))
    }
}

fn completion<T: Real>(
    moments: ConditionalMoments<T>,
    fitted: &Fitted<()>,
    noise_variance: f64,
    log_likelihoods: DVector<T>,
    observations: usize,
) -> Completion<T> {
    Completion {
        values: moments.mean,
        variances: moments.variance,
        log_likelihood: log_likelihoods.iter().map(|v| v.as_f64()).sum(),
        noise_variance,
        iterations: fitted.iterations(),
        starts: fitted.trace.starts().iter().map(|start| start * observations as f64).collect(),
        stop: fitted.stop.name(),
        identity_floor: None,
    }
}

/// The mean and the variance of the observed entries of a variable.
pub fn observed_moments<T: Real>(values: impl Iterator<Item = T> + Clone) -> (f64, f64) {
    let seen = || values.clone().map(|v| v.as_f64()).filter(|v| !v.is_nan());
    let count = seen().count().max(1) as f64;
    let first: f64 = seen().map(|v| v / count).sum();
    // The second pass removes the rounding of the first.
    let mean = first + seen().map(|v| (v - first) / count).sum::<f64>();
    (mean, seen().map(|v| (v - mean).powi(2) / count).sum())
}

/// Each missing entry replaced by the mean of its variable; the log-likelihood is that of
/// independent normal variables.
fn of_means<T: Real>(x: &DMatrix<T>) -> Completion<T> {
    let (mut values, mut variances) = (x.clone(), x.clone());
    let (mut total, mut noise) = (0.0, 0.0);
    for (j, row) in x.row_iter().enumerate() {
        let (mean, spread) = observed_moments(row.iter().copied());
        noise += spread / x.nrows() as f64;
        for (i, value) in row.iter().enumerate() {
            if value.as_f64().is_nan() {
                values[(j, i)] = T::of(mean);
                variances[(j, i)] = T::of(spread);
            } else {
                variances[(j, i)] = T::zero();
                let square = (value.as_f64() - mean).powi(2) / spread;
                total -= 0.5 * ((std::f64::consts::TAU * spread).ln() + square);
            }
        }
    }
    Completion {
        values,
        variances,
        log_likelihood: total,
        noise_variance: noise,
        iterations: 0,
        starts: Vec::new(),
        stop: StopReason::ClosedForm.name(),
        identity_floor: None,
    }
}

/// The bounds of each variable, by its place.
pub fn places(
    bounds: &[Bounds],
    names: &[String],
) -> std::result::Result<Vec<(usize, Bounds)>, String> {
    let place = |bounds: &Bounds| {
        let found = names.iter().position(|name| *name == bounds.column);
        let count = names.len();
        found.map(|place| (place, bounds.clone())).ok_or_else(|| {
            format!(
                "option '--bounds': there is no column {:?} among the {count} columns",
                bounds.column
            )
        })
    };
    bounds.iter().map(place).collect()
}
