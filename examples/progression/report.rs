//! The results of each step, as a line, a table and JSON.

use crate::support::json::Json;
use crate::support::page::Table;
use elbo::Real;
use elbo::diagnostics::InferenceGapSummary;
use elbo::fit::StopReason;
use elbo::steps::{DynFit, ModelKind};

/// A fitted step with its diagnostics.
pub struct Outcome<T: Real> {
    pub step: ModelKind,
    pub fit: DynFit<T>,
    pub gaps: Option<InferenceGapSummary>,
    pub squared_error: f64,
    pub noise_variance: Option<f64>,
    pub seconds: f64,
}

/// The outcomes of all steps, and the sizes of the data.
pub struct Report<T: Real> {
    pub data: String,
    pub observations: usize,
    pub data_dim: usize,
    pub latent_dim: usize,
    pub seed: u64,
    pub outcomes: Vec<Outcome<T>>,
}

impl<T: Real> Outcome<T> {
    /// The summary that is printed to standard error when the step ends.
    pub fn line(&self) -> String {
        let objective = match &self.gaps {
            Some(gaps) => format!("J {:.6} nats per observation", gaps.elbo),
            None => format!("squared error {:.6e}", self.squared_error),
        };
        format!("{objective}, {} ({} iterations)", self.fit.stop, self.fit.iterations())
    }

    /// Why the fit ended, in the words of the JSON that programs rely on: training that gained
    /// nothing was stopped early as well.
    fn stop(&self) -> &'static str {
        match self.fit.stop {
            StopReason::NoImprovement => StopReason::EarlyStop.name(),
            stop => stop.name(),
        }
    }

    fn json(&self) -> Json {
        let gaps = self.gaps.as_ref();
        let of = |figure: fn(&InferenceGapSummary) -> f64| Json::from(gaps.map(figure));
        Json::Object(vec![
            ("name", self.step.name().into()),
            ("log_likelihood", of(|g| g.log_likelihood)),
            ("log_likelihood_standard_error", of(|g| g.log_likelihood_standard_error)),
            ("elbo", of(|g| g.elbo)),
            ("reconstruction", of(|g| g.reconstruction)),
            ("kl", of(|g| g.kl)),
            ("gap", of(InferenceGapSummary::total)),
            ("approximation_gap", of(|g| g.approximation)),
            ("amortization_gap", of(|g| g.amortization)),
            ("sum_squared_error", self.squared_error.into()),
            ("noise_variance", self.noise_variance.into()),
            ("iterations", self.fit.iterations().into()),
            ("stop", self.stop().into()),
            ("seconds", self.seconds.into()),
        ])
    }
}

impl<T: Real> Report<T> {
    /// The object that `--json` writes.
    pub fn json(&self) -> Json {
        Json::Object(vec![
            ("observations", self.observations.into()),
            ("data_dim", self.data_dim.into()),
            ("latent_dim", self.latent_dim.into()),
            ("seed", self.seed.into()),
            ("steps", Json::List(self.outcomes.iter().map(Outcome::json).collect())),
        ])
    }

    /// The table of the steps.
    pub fn table(&self) -> Table {
        let mut table = Table::new(&[
            "step",
            "log p (nats)",
            "J (nats)",
            "gap (nats)",
            "approximation (nats)",
            "amortisation (nats)",
            "squared error",
            "noise variance",
            "iterations",
            "stop",
            "time (s)",
        ]);
        for outcome in &self.outcomes {
            let nats = |figure: fn(&InferenceGapSummary) -> f64, digits: usize| {
                outcome.gaps.as_ref().map_or("–".into(), |g| fixed(figure(g), digits))
            };
            table.row(vec![
                outcome.step.name().into(),
                log_likelihood(outcome.gaps.as_ref()),
                nats(|g| g.elbo, 5),
                nats(InferenceGapSummary::total, 5),
                nats(|g| g.approximation, 5),
                nats(|g| g.amortization, 5),
                format!("{:.6e}", outcome.squared_error),
                outcome.noise_variance.map_or("–".into(), |v| format!("{v:.6e}")),
                outcome.fit.iterations().to_string(),
                outcome.fit.stop.name().into(),
                format!("{:.3}", outcome.seconds),
            ]);
        }
        table
    }
}

impl<T: Real> Report<T> {
    /// The sizes of the samples behind estimated gaps, a line for each step that has such gaps.
    pub fn notes(&self) -> Vec<String> {
        let note = |outcome: &Outcome<T>| {
            let basis = outcome.gaps.as_ref()?.basis?;
            Some(format!(
                "{}: the gaps are estimates from {} of {} observations with {} Monte Carlo samples \
                 each; log p is estimated as J plus the gap; the smallest effective sample size is \
                 {:.0}",
                outcome.step.name(),
                basis.observations,
                self.observations,
                basis.samples,
                basis.smallest_effective_samples
            ))
        };
        self.outcomes.iter().filter_map(note).collect()
    }
}

fn log_likelihood(gaps: Option<&InferenceGapSummary>) -> String {
    match gaps {
        None => "–".into(),
        Some(gaps) if gaps.log_likelihood_standard_error > 0.0 => {
            format!("{:.3} ± {:.3}", gaps.log_likelihood, gaps.log_likelihood_standard_error)
        }
        Some(gaps) => fixed(gaps.log_likelihood, 5),
    }
}

/// A number with fixed digits, without the minus sign of a rounded zero.
fn fixed(value: f64, digits: usize) -> String {
    let text = format!("{value:.digits$}");
    if text.trim_start_matches('-').chars().all(|c| matches!(c, '0' | '.')) {
        text.trim_start_matches('-').into()
    } else {
        text
    }
}
