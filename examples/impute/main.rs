//! Imputes the missing values of a table: probabilistic PCA or factor analysis is fitted to the
//! observed entries, and each missing entry is replaced by its conditional mean given the observed
//! entries of its row. The latent dimension is the one with the smallest error at observed entries
//! that are hidden from the fits; if none is better than the mean of each column, that is imputed.
//!
//! `cargo run --release --example impute -- --data FILE --out COMPLETED.csv`; `--help` shows the
//! options.

#[path = "../support/mod.rs"]
mod support;

mod bounds;
mod method;
mod report;

use bounds::truncated_mean;
use elbo::data::IncompleteObservations;
use elbo::data::files::{Missing, Table, write};
use elbo::{Error, Real};
use method::{Choice, Completion, Method, observed_moments, places};
use nalgebra::DMatrix;
use report::Report;
use std::time::Instant;
use support::arguments::{Arguments, Dtype, Program, Rule, or_end};
use support::progress::say;
use support::refusal::{Location, read_table};

const PROGRAM: Program = Program {
    name: "impute",
    about: "Fits probabilistic PCA or factor analysis to a table with missing values (an empty \
            field, NA, nan, n/a, null, ?, ., -, #N/A and others) and completes it. The latent \
            dimension is chosen by held-out entries, or by --latent-dim held_out or bic.",
    options: &[
        "latent-dim",
        "model",
        "noise-floor",
        "standardize",
        "bounds",
        "restarts",
        "seed",
        "dtype",
        "threads",
        "json",
        "out",
    ],
    needs_data: true,
};

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
    if let Some(note) = support::orientation::note(&table) {
        eprintln!("{note}");
    }
    let place = Location { file: &file, columns: &table.names };
    let bounds = or_end(places(&arguments.bounds, &table.names));
    if let Some(rule) = arguments.rule.filter(|rule| !matches!(rule, Rule::HeldOut | Rule::Bic)) {
        or_end::<(), _>(Err(format!(
            "option '--latent-dim': {rule} needs a table without missing values; held_out and bic \
             do not"
        )));
    }
    let started = Instant::now();
    let (report, completed) = {
        let x = or_end(
            IncompleteObservations::new(table.values.view((0, 0), table.values.shape()))
                .map_err(|error| place.says(error)),
        );
        let seen = x.observed_of_variables();
        if let Some(variable) = seen.iter().position(|&count| count == 0) {
            let error = Error::NeverObserved { variable, observations: x.len() };
            or_end::<(), _>(Err(place.says(error)));
        }
        let method = Method::of(arguments);
        // A given k keeps the units of the file; for a chosen one they must be comparable.
        let standardize = arguments.standardize
            || (arguments.latent_dim.is_none() && spread_of_scales(&table.values) > SPREAD);
        let prepared = Prepared::of(&table.values, standardize);
        let choice = match arguments.latent_dim {
            Some(latent_dim) => Choice { latent_dim, rule: "", errors: None, at_edge: false },
            None => or_end(
                method.choose(arguments.rule, &prepared.values).map_err(|error| place.says(error)),
            ),
        };
        let completion = or_end(
            method.complete(choice.latent_dim, &prepared.values).map_err(|error| place.says(error)),
        );
        let mut completed = prepared.restore(&table.values, &completion);
        let bounded: Vec<(String, usize)> = bounds
            .iter()
            .map(|(place, limits)| {
                let count = prepared.truncate(
                    (*place, limits.low, limits.high),
                    &table.values,
                    &completion,
                    &mut completed,
                );
                let (low, high) = (limits.low, limits.high);
                (format!("{:?} within {low} to {high}", limits.column), count)
            })
            .collect();
        let report = Report {
            observations: x.len(),
            data_dim: x.data_dim(),
            missing: x.missing(),
            without_entries: x.without_entries(),
            constant: prepared.constant.len(),
            log_likelihood: completion.log_likelihood - prepared.log_scale(&table.values),
            noise_variance: completion.noise_variance,
            iterations: completion.iterations,
            starts: completion
                .starts
                .iter()
                .map(|v| v - prepared.log_scale(&table.values))
                .collect(),
            stop: completion.stop,
            model: method.name(),
            standardized: standardize,
            identity_floor: completion.identity_floor,
            marks: table.marks.clone(),
            seconds: started.elapsed().as_secs_f64(),
            bounded,
            choice,
        };
        (report, completed)
    };
    say(&report.text());
    if let Some(path) = &arguments.json {
        or_end(report.json().write(path).map_err(|error| format!("{}: {error}", path.display())));
    }
    if let Some(path) = &arguments.out {
        table.values = completed;
        or_end(write(path, &table).map_err(|error| format!("{}: {error}", path.display())));
    }
}

/// Ratio of the largest to the smallest standard deviation from which columns are taken for
/// quantities of different units: one noise variance for all of them would hide the smaller ones.
const SPREAD: f64 = 100.0;

/// The ratio of the largest to the smallest standard deviation of the columns that vary.
fn spread_of_scales<T: Real>(values: &DMatrix<T>) -> f64 {
    let rounding = 256.0 * T::EPSILON.as_f64().powi(2);
    let deviations: Vec<f64> = values
        .row_iter()
        .map(|row| observed_moments(row.iter().copied()))
        .filter(|(mean, variance)| *variance > rounding * mean * mean)
        .map(|(_, variance)| variance.sqrt())
        .collect();
    let largest = deviations.iter().copied().fold(0.0, f64::max);
    let smallest = deviations.iter().copied().fold(f64::INFINITY, f64::min);
    if smallest < largest { largest / smallest } else { 1.0 }
}

/// The variables that vary, in units of their standard deviations if these were asked for; constant
/// ones are left out of the fit, in which they would lower the noise variance of all others.
struct Prepared<T: Real> {
    varying: Vec<usize>,
    /// Each constant variable with its value.
    constant: Vec<(usize, T)>,
    centres: Vec<f64>,
    scales: Vec<f64>,
    values: DMatrix<T>,
}

impl<T: Real> Prepared<T> {
    fn of(values: &DMatrix<T>, standardize: bool) -> Self {
        let rounding = 256.0 * T::EPSILON.as_f64().powi(2);
        let (mut varying, mut constant) = (Vec::new(), Vec::new());
        let (mut centres, mut scales) = (Vec::new(), Vec::new());
        for (j, row) in values.row_iter().enumerate() {
            let (mean, variance) = observed_moments(row.iter().copied());
            let seen = row.iter().copied().find(|v| !v.as_f64().is_nan());
            match seen {
                Some(value) if variance <= rounding * mean * mean => constant.push((j, value)),
                _ => {
                    varying.push(j);
                    centres.push(if standardize { mean } else { 0.0 });
                    scales.push(if standardize { variance.sqrt() } else { 1.0 });
                }
            }
        }
        // A table of constants is refused by the fit, by name.
        if varying.is_empty() {
            (varying, constant) = ((0..values.nrows()).collect(), Vec::new());
            (centres, scales) = (vec![0.0; varying.len()], vec![1.0; varying.len()]);
        }
        let inside = DMatrix::from_fn(varying.len(), values.ncols(), |place, i| {
            let value = values[(varying[place], i)];
            match standardize {
                true => T::of((value.as_f64() - centres[place]) / scales[place]),
                false => value,
            }
        });
        Self { varying, constant, centres, scales, values: inside }
    }

    /// Σ ln s_j over the observed entries: what log p of the standardised values exceeds that of
    /// the data by, with the opposite sign.
    fn log_scale(&self, values: &DMatrix<T>) -> f64 {
        let of = |(&j, scale): (&usize, &f64)| {
            values.row(j).iter().filter(|v| !v.as_f64().is_nan()).count() as f64 * scale.ln()
        };
        self.varying.iter().zip(&self.scales).map(of).sum()
    }

    /// The completed table in the units of the data; observed entries as they are.
    fn restore(&self, values: &DMatrix<T>, completion: &Completion<T>) -> DMatrix<T> {
        let mut completed = values.clone();
        let missing = |value: &T| value.as_f64().is_nan();
        for &(j, value) in &self.constant {
            completed.row_mut(j).iter_mut().filter(|v| missing(v)).for_each(|v| *v = value);
        }
        for (place, &j) in self.varying.iter().enumerate() {
            for (i, out) in completed.row_mut(j).iter_mut().enumerate() {
                if missing(out) {
                    let value = completion.values[(place, i)].as_f64();
                    *out = T::of(self.centres[place] + self.scales[place] * value);
                }
            }
        }
        completed
    }

    /// Replaces the imputed entries of a variable by the means of their conditional distributions
    /// truncated to limits; returns their number.
    fn truncate(
        &self,
        (variable, low, high): (usize, f64, f64),
        values: &DMatrix<T>,
        completion: &Completion<T>,
        completed: &mut DMatrix<T>,
    ) -> usize {
        let place = self.varying.iter().position(|&j| j == variable);
        let mut count = 0;
        for i in 0..values.ncols() {
            if !values[(variable, i)].as_f64().is_nan() {
                continue;
            }
            let variance = place.map_or(0.0, |place| {
                completion.variances[(place, i)].as_f64() * self.scales[place].powi(2)
            });
            let mean = completed[(variable, i)].as_f64();
            completed[(variable, i)] = T::of(truncated_mean(mean, variance, low, high));
            count += 1;
        }
        count
    }
}
