//! The progression on one table of data: every model from the linear autoencoder to the variational
//! autoencoder is fitted, and the results are compared.
//!
//! `cargo run --release --example progression` runs on the embedded digits; `--help` shows the
//! options.

#[path = "../support/mod.rs"]
mod support;

mod pictures;
mod report;

use elbo::data::files::{Format, IdxArray, ReadOptions, Table, decode};
use elbo::data::{Centering, ScatterFactor, Standardization};
use elbo::selection::{Criterion, Selection};
use elbo::steps::{Budget, DynFit, ModelKind};
use elbo::{IntoObservations, Observations, Real};
use rand::SeedableRng;
use rand::rngs::StdRng;
use report::{Outcome, Report};
use std::path::Path;
use std::time::Instant;
use support::arguments::{Arguments, Dtype, Program, Rule, or_end};
use support::progress::{Progress, note, say};
use support::refusal::{Location, read_table};

const PROGRAM: Program = Program {
    name: "progression",
    about: "Fits every step from the linear autoencoder to the variational autoencoder to one \
            table and compares them. The default latent dimension is min(8, rank − 1).",
    options: &[
        "latent-dim",
        "seed",
        "dtype",
        "threads",
        "standardize",
        "quick",
        "no-plots",
        "json",
    ],
    needs_data: false,
};

/// The number of folds of the rule held_out.
const FOLDS: usize = 10;

fn main() {
    let arguments = PROGRAM.arguments();
    arguments.run(|| match arguments.dtype {
        Dtype::F32 => run::<f32>(&arguments),
        Dtype::F64 => run::<f64>(&arguments),
    });
}

fn run<T: Real>(arguments: &Arguments) {
    let (name, mut table) = or_end(table::<T>(arguments));
    let orientation = support::orientation::note(&table);
    if arguments.standardize {
        let place = Location::new(&name, &table);
        let standardized = Standardization::fit(&table.values)
            .and_then(|standardization| standardization.transform(&table.values));
        table.values = or_end(standardized.map_err(|error| place.says(error)));
    }
    let place = Location::new(&name, &table);
    let x = or_end((&table.values).into_observations().map_err(|error| place.says(error)));
    let moment = or_end(ScatterFactor::of(x, Centering::Mean).map_err(|error| place.says(error)));
    let latent_dim = match arguments.latent_dim {
        Some(latent_dim) => latent_dim,
        None if arguments.rule.is_some() => or_end(chosen(arguments, x, &place)),
        None => {
            or_end(moment.rank().map_err(|error| place.says(error))).saturating_sub(1).clamp(1, 8)
        }
    };
    // Before the first step, which needs neither noise nor an encoder, as later steps do.
    or_end(moment.check_encoder(latent_dim).map_err(|error| place.says(error)));
    let mut progress = Progress::new(&ModelKind::ALL.map(ModelKind::name));
    progress.note(&format!(
        "{name}: {} observations of {} variables, {latent_dim} latent dimensions",
        x.len(),
        x.data_dim()
    ));
    if let Some(note) = orientation {
        progress.note(&note);
    }
    let effort = if arguments.quick { Budget::Fast } else { Budget::Full };
    let mut outcomes = Vec::new();
    for (turn, step) in ModelKind::ALL.into_iter().enumerate() {
        progress.begin(step.name());
        // A generator for each step, so that its result does not depend on the steps before it.
        let mut rng = StdRng::seed_from_u64(
            arguments.seed.wrapping_add(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(turn as u64 + 1)),
        );
        let started = Instant::now();
        let fit = or_end(
            step.fit_with(effort, latent_dim, x, &mut rng).map_err(|error| place.says(error)),
        );
        let seconds = started.elapsed().as_secs_f64();
        let outcome = or_end(
            outcome(step, fit, x, effort, seconds, &mut rng).map_err(|error| place.says(error)),
        );
        progress.end(step.name(), &outcome.line());
        outcomes.push(outcome);
    }
    let report = Report {
        data: name.clone(),
        observations: x.len(),
        data_dim: x.data_dim(),
        latent_dim,
        seed: arguments.seed,
        outcomes,
    };
    say(&report.table().text());
    report.notes().iter().for_each(|note| say(&format!("{note}\n")));
    if let Some(path) = &arguments.json {
        or_end(report.json().write(path).map_err(|error| format!("{}: {error}", path.display())));
    }
    if !arguments.no_plots {
        let folder = Path::new("target").join("progression");
        let page = or_end(pictures::page(&report, &table, &moment, arguments.seed));
        let written =
            or_end(page.write(&folder).map_err(|error| format!("{}: {error}", folder.display())));
        progress.note(&format!("pictures: {}", written.display()));
    }
}

/// The latent dimension by the rule of the command line; the rule reports what it left out.
fn chosen<T: Real>(
    arguments: &Arguments,
    x: Observations<'_, T>,
    place: &Location<'_>,
) -> Result<usize, String> {
    let Some(rule) = arguments.rule else { return Ok(1) };
    let selection = match rule {
        Rule::Laplace => Selection::ppca(x, Criterion::Laplace),
        Rule::Bic => Selection::ppca(x, Criterion::Bic),
        Rule::Ard => Selection::ppca(x, Criterion::Ard),
        Rule::HeldOut => Selection::ppca(x, Criterion::HeldOut { folds: FOLDS.min(x.len()) }),
        Rule::Parallel => {
            Selection::parallel_analysis(x, &mut StdRng::seed_from_u64(arguments.seed))
        }
        Rule::Share(share) => Selection::variance_share(x, share),
    };
    let selection = selection.map_err(|error| place.says(error))?;
    note(&format!("{rule}: {selection}"));
    match selection.latent_dim {
        0 => Err(format!(
            "{}: the rule {rule} finds no latent dimension: the variables look independent; give \
             --latent-dim K to fit some nevertheless",
            place.file
        )),
        latent_dim => Ok(latent_dim),
    }
}

fn outcome<T: Real>(
    step: ModelKind,
    fit: DynFit<T>,
    x: Observations<'_, T>,
    effort: Budget,
    seconds: f64,
    rng: &mut StdRng,
) -> elbo::Result<Outcome<T>> {
    let reconstruction = fit.model.inverse_transform(&fit.model.codes(x)?)?;
    let values = x.values();
    let errors =
        values.iter().zip(reconstruction.iter()).map(|(x, y)| (x.as_f64() - y.as_f64()).powi(2));
    Ok(Outcome {
        step,
        gaps: fit.model.gaps(x, effort, rng)?,
        squared_error: errors.sum(),
        noise_variance: fit.model.noise_variance().map(|v| v.as_f64()),
        seconds,
        fit,
    })
}

/// The table to fit: the file given, or the embedded digits.
fn table<T: Real>(arguments: &Arguments) -> Result<(String, Table<T>), String> {
    if let Some(path) = &arguments.data {
        let table = read_table(path, &arguments.reading)?;
        let name = path
            .file_name()
            .map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned());
        return Ok((name, table));
    }
    let images = include_bytes!("../data/digits-images.idx3-ubyte.gz");
    let labels = include_bytes!("../data/digits-labels.idx1-ubyte.gz");
    let mut table = decode::<T>(images, Format::Idx, &ReadOptions::default())
        .map_err(|error| error.to_string())?;
    let labels = IdxArray::decode(labels).map_err(|error| error.to_string())?;
    table.set_labels(labels.bytes.iter().map(ToString::to_string).collect());
    Ok(("digits".into(), table))
}
