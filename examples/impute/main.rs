//! Imputes the missing values of a table: probabilistic PCA is fitted to the observed entries, and
//! each missing entry is replaced by its conditional mean given the observed entries of its row.
//!
//! `cargo run --release --example impute -- --data FILE --out COMPLETED.csv`; `--help` shows the
//! options.

#[path = "../support/mod.rs"]
mod support;

use elbo::data::Incomplete;
use elbo::data::IncompleteObservations;
use elbo::data::files::{Missing, Table, write};
use elbo::selection::{Criterion, Selection};
use elbo::{Error, Ppca, Real};
use rand::SeedableRng;
use rand::rngs::StdRng;
use std::time::Instant;
use support::arguments::{Arguments, Dtype, Program, or_end};
use support::json::Json;
use support::progress::say;
use support::refusal::{Location, read_table};

const PROGRAM: Program = Program {
    name: "impute",
    about: "Fits probabilistic PCA to a table with missing values (an empty field, NA, nan, n/a, \
            null, ?, ., -, #N/A and others) and completes it.",
    options: &["latent-dim", "restarts", "seed", "dtype", "threads", "json", "out"],
    needs_data: true,
};

/// The default number of random restarts beside the first initialisation: the likelihood of tables
/// whose scales span many orders of magnitude has several maxima.
const RESTARTS: usize = 4;

/// The number of latent dimensions that are scored at once when none is given. The search goes on
/// as long as the largest of them has the best score.
const AT_ONCE: usize = 8;

fn main() {
    let arguments = PROGRAM.arguments();
    arguments.run(|| match arguments.dtype {
        Dtype::F32 => run::<f32>(&arguments),
        Dtype::F64 => run::<f64>(&arguments),
    });
}

fn run<T: Real>(arguments: &Arguments) {
    let Some(path) = &arguments.data else { return };
    let options =
        arguments.reading.clone().missing(Missing::Allow).keep_text(arguments.out.is_some());
    let file = path.display().to_string();
    let mut table: Table<T> = or_end(read_table(path, &options));
    let place = Location { file: &file, columns: &table.names };
    let started = Instant::now();
    let (report, completed) = {
        let x = or_end(
            IncompleteObservations::new(table.values.view((0, 0), table.values.shape()))
                .map_err(|error| place.says(error)),
        );
        let latent_dim = match arguments.latent_dim {
            Some(latent_dim) => Ok(latent_dim),
            None => choose(x, arguments.seed),
        };
        let latent_dim = or_end(latent_dim.map_err(|error| place.says(error)));
        let builder = Ppca::builder(latent_dim).restarts(arguments.restarts.unwrap_or(RESTARTS));
        let fitted = or_end(
            builder
                .fit(Incomplete(x), &mut StdRng::seed_from_u64(arguments.seed))
                .map_err(|error| place.says(error)),
        );
        let completed = or_end(fitted.model.impute(x).map_err(|error| place.says(error)));
        let values =
            or_end(fitted.model.log_likelihood(Incomplete(x)).map_err(|error| place.says(error)));
        let report = Report {
            observations: x.len(),
            data_dim: x.data_dim(),
            latent_dim,
            missing: x.missing(),
            without_entries: x.without_entries(),
            marks: table.marks.clone(),
            log_likelihood: values.iter().map(|v| v.as_f64()).sum(),
            noise_variance: fitted.model.noise_variance().as_f64(),
            iterations: fitted.iterations(),
            starts: fitted.trace.starts().iter().map(|start| start * x.len() as f64).collect(),
            stop: fitted.stop.name(),
            seconds: started.elapsed().as_secs_f64(),
        };
        (report, completed)
    };
    say(&report.text(arguments.latent_dim.is_none()));
    if let Some(path) = &arguments.json {
        or_end(report.json().write(path).map_err(|error| format!("{}: {error}", path.display())));
    }
    if let Some(path) = &arguments.out {
        table.values = completed;
        or_end(write(path, &table).map_err(|error| format!("{}: {error}", path.display())));
    }
}

/// The latent dimension with the best BIC; larger ones are tried as long as the largest tried so
/// far is the best.
fn choose<T: Real>(x: IncompleteObservations<'_, T>, seed: u64) -> elbo::Result<usize> {
    let rng = &mut StdRng::seed_from_u64(seed);
    let (mut best, mut tried) = ((0, f64::NEG_INFINITY), 0);
    let largest = x.data_dim().saturating_sub(1).max(1);
    while tried < largest && best.0 == tried {
        let candidates = tried + 1..=largest.min(tried + AT_ONCE);
        let found = match Selection::incomplete_ppca(x, candidates.clone(), Criterion::Bic, rng) {
            Ok(found) => found,
            // The observed entries do not determine a larger dimension.
            Err(
                Error::TooFewEntries { .. } | Error::NoiseVanished { .. } | Error::LatentDim { .. },
            ) if tried > 0 => break,
            Err(error) => return Err(error),
        };
        let better = found.scores.into_iter().filter(|(_, score)| *score > best.1);
        best = better.fold(best, |best, other| if other.1 > best.1 { other } else { best });
        tried = *candidates.end();
    }
    Ok(best.0)
}

struct Report {
    observations: usize,
    data_dim: usize,
    latent_dim: usize,
    missing: usize,
    without_entries: usize,
    /// How often each mark of a missing value was read.
    marks: Vec<(String, usize)>,
    log_likelihood: f64,
    noise_variance: f64,
    iterations: usize,
    stop: &'static str,
    seconds: f64,
    /// The log-likelihood that each initialisation reached; empty for a single one.
    starts: Vec<f64>,
}

impl Report {
    fn json(&self) -> Json {
        Json::Object(vec![
            ("observations", self.observations.into()),
            ("data_dim", self.data_dim.into()),
            ("latent_dim", self.latent_dim.into()),
            ("missing", self.missing.into()),
            ("log_likelihood", self.log_likelihood.into()),
            ("noise_variance", self.noise_variance.into()),
            ("iterations", self.iterations.into()),
            ("stop", self.stop.into()),
            ("seconds", self.seconds.into()),
        ])
    }

    fn text(&self, chosen: bool) -> String {
        let entries = self.observations * self.data_dim;
        let share = 100.0 * self.missing as f64 / entries as f64;
        let how = if chosen { " (chosen by BIC)" } else { "" };
        let mut text =
            format!("{} observations of {} variables\n", self.observations, self.data_dim);
        text +=
            &format!("missing            {} of {entries} entries ({share:.1} %)\n", self.missing);
        if !self.marks.is_empty() {
            let count = |(mark, count): &(String, usize)| match mark.as_str() {
                "" => format!("{count} empty"),
                _ => format!("{count} {mark}"),
            };
            let counts: Vec<String> = self.marks.iter().map(count).collect();
            text += &format!("                   {}\n", counts.join(", "));
        }
        if self.without_entries > 0 {
            text += &format!(
                "                   {} observations have no entry: the mean is imputed\n",
                self.without_entries
            );
        }
        text += &format!("latent dimensions  {}{how}\n", self.latent_dim);
        text += &format!(
            "log-likelihood     {:.6} nats, of the observed entries\n",
            self.log_likelihood
        );
        if let Some(worst) = self.starts.iter().copied().reduce(f64::min) {
            let below =
                self.starts.iter().filter(|start| self.log_likelihood - *start > 0.01).count();
            let (count, spread) = (self.starts.len(), self.log_likelihood - worst);
            text += &format!(
                "starts             {count}, {below} of them more than 0.01 nats below the best, \
                 by up to {spread:.2e}\n"
            );
        }
        text += &format!("noise variance     {:.6e}\n", self.noise_variance);
        text += &format!(
            "fit                {} iterations, {}, {:.3} s\n",
            self.iterations, self.stop, self.seconds
        );
        text
    }
}
