//! The page of results: the latent plane of each step, reconstructions, samples, the objective J
//! against the iteration, and the spectrum.

use crate::report::{Outcome, Report};
use crate::support::chart::{Chart, Mark};
use crate::support::image::{Strip, square, strips};
use crate::support::page::{Page, Picture, Section};
use crate::support::scatter::{Classes, latent};
use elbo::data::ScatterFactor;
use elbo::data::files::Table;
use elbo::steps::ModelKind;
use elbo::{IntoObservations, Real, Result};
use nalgebra::DMatrix;
use rand::SeedableRng;
use rand::rngs::StdRng;

/// The page that is written to `target/progression/`.
pub fn page<T: Real>(
    report: &Report<T>,
    table: &Table<T>,
    moment: &ScatterFactor,
    seed: u64,
) -> Result<Page> {
    let mut figures = Section::new(
        "The steps",
        "Each step replaces one component of the step before it. log p, J and the gaps are in nats \
         per observation; the squared error is a sum over the data.",
    );
    figures.table = Some(report.table());
    figures.text.extend(report.notes());
    let mut sections = vec![figures, latent_planes(report, table)?];
    if let Some(shape) = square(report.data_dim) {
        sections.push(images(report, table, shape, seed)?);
    }
    sections.push(traces(report));
    sections.push(spectrum(report, moment)?);
    Ok(Page {
        title: format!("The progression on {}", report.data),
        lead: format!(
            "{} observations of {} variables, {} latent dimensions, seed {}.",
            report.observations, report.data_dim, report.latent_dim, report.seed
        ),
        sections,
    })
}

fn latent_planes<T: Real>(report: &Report<T>, table: &Table<T>) -> Result<Section> {
    let classes = table.classes();
    let classes = || classes.as_ref().map(|(of, names)| Classes { of, names });
    let mut section = Section::new(
        "The latent plane",
        "The means of q in the first two latent dimensions of each step, coloured by class.",
    );
    let x = (&table.values).into_observations()?;
    for outcome in &report.outcomes {
        let codes: Vec<f64> = outcome.fit.model.codes(x)?.iter().map(|z| z.as_f64()).collect();
        let name = outcome.step.name();
        let svg = latent(name, &codes, report.latent_dim, classes());
        section.pictures.push(Picture::new(
            &format!("latent_{name}"),
            &format!("Codes of {name}."),
            svg,
        ));
    }
    Ok(section)
}

fn images<T: Real>(
    report: &Report<T>,
    table: &Table<T>,
    shape: (usize, usize),
    seed: u64,
) -> Result<Section> {
    const SHOWN: usize = 12;
    let n = report.observations;
    let chosen: Vec<usize> = (0..SHOWN.min(n)).map(|i| i * n / SHOWN.min(n)).collect();
    let pixels = |values: &DMatrix<T>| values.iter().map(|v| v.as_f64()).collect::<Vec<f64>>();
    let range = (table.values.min().as_f64(), table.values.max().as_f64());
    let x = (&table.values).into_observations()?;
    let originals = pixels(&table.values.select_columns(&chosen));
    let mut reconstructed = vec![("original", originals)];
    let mut sampled = Vec::new();
    for outcome in &report.outcomes {
        let codes = outcome.fit.model.codes(x)?.select_columns(&chosen);
        reconstructed
            .push((outcome.step.name(), pixels(&outcome.fit.model.inverse_transform(&codes)?)));
        if let Some(sample) = outcome.fit.model.sample(SHOWN, &mut StdRng::seed_from_u64(seed)) {
            sampled.push((outcome.step.name(), pixels(&sample)));
        }
    }
    let picture = |title: &str, rows: &[(&str, Vec<f64>)]| {
        let rows: Vec<Strip<'_>> =
            rows.iter().map(|(label, pixels)| Strip { label, pixels }).collect();
        strips(title, &rows, shape, range)
    };
    let mut section =
        Section::new("Images", "Reconstructions of some observations, and samples, by each step.");
    section.pictures.push(Picture::new(
        "reconstructions",
        "Originals, and below them the reconstruction from their codes by each step.",
        picture("Reconstructions", &reconstructed),
    ));
    section.pictures.push(Picture::new(
        "samples",
        "Samples of x from each step that has a density, including its noise.",
        picture("Samples", &sampled),
    ));
    Ok(section)
}

fn traces<T: Real>(report: &Report<T>) -> Section {
    let mut section = Section::new(
        "J against iteration",
        "The difference of J from the best value of the same fit, per observation, against the \
         iteration, both on logarithmic axes; for the deep steps J itself, without the first \
         twentieth of the epochs.",
    );
    type Group = (&'static str, &'static str, fn(ModelKind) -> bool);
    let groups: [Group; 3] = [
        ("em", "EM, parameter-expanded EM and variational EM", |s| {
            s.name().starts_with("ppca") || s.name().starts_with("vem")
        }),
        ("amortised", "Amortised inference with a linear encoder", |s| {
            s.name().starts_with("amortized")
        }),
        ("deep", "The deep steps, by epoch", |s| matches!(s.name(), "deep_encoder" | "vae")),
    ];
    for (file, title, member) in groups {
        let deep = file == "deep";
        let mut chart = Chart::new(
            title,
            if deep { "epoch" } else { "iteration" },
            if deep { "J (nats)" } else { "best J − J (nats)" },
        );
        chart = if deep { chart } else { chart.log_x().log_y() };
        for outcome in report.outcomes.iter().filter(|outcome| member(outcome.step)) {
            let values = outcome.fit.trace.values();
            let best = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let below = |(i, &value): (usize, &f64)| {
                (i as f64 + 1.0, if deep { value } else { best - value })
            };
            // The first epochs are far below the others, which would all be drawn at one height.
            let skip = if deep { values.len() / 20 } else { 0 };
            let points =
                values.iter().enumerate().skip(skip).map(below).filter(|&(_, y)| deep || y > 1e-9);
            let points: Vec<(f64, f64)> = points.collect();
            // A closed form has no iterations to draw.
            if points.len() > 1 {
                chart = chart.series(outcome.step.name(), Mark::Line, points);
            }
        }
        section.pictures.push(Picture::new(&format!("trace_{file}"), title, chart.svg()));
    }
    section
}

fn spectrum<T: Real>(report: &Report<T>, moment: &ScatterFactor) -> Result<Section> {
    let eigenvalues = moment.eigenvalues()?;
    let k = report.latent_dim;
    let noise = eigenvalues.rows_range(k..).sum() / (report.data_dim - k) as f64;
    let roots: Vec<f64> = eigenvalues.iter().take(k).map(|v| v.sqrt()).collect();
    let mean_root = roots.iter().sum::<f64>() / k as f64;
    let exact: Vec<f64> = eigenvalues.iter().take(k).copied().collect();
    let isotropic: Vec<f64> = roots.iter().map(|root| root * mean_root).collect();
    let mut chart = Chart::new("Variances along W", "direction", "variance of x under the model");
    if exact[0] > 30.0 * exact[k - 1] {
        chart = chart.log_y();
    }
    chart = chart.values("eigenvalues of S (exact)", Mark::Level, &exact);
    chart = chart.values("isotropic optimum (exact)", Mark::DashedLevel, &isotropic);
    for outcome in &report.outcomes {
        if let Some(variances) = variances(outcome)? {
            chart = chart.values(outcome.step.name(), Mark::Beside, &variances);
        }
    }
    let text = format!(
        "The eigenvalues of WWᵗ + σ²I, compared with those of S and with √λ·mean √λ, the optimum \
         for an isotropic q; for each direction the steps are drawn from left to right in their \
         order. Noise variance at the optimum: {noise:.6e}."
    );
    let mut section = Section::new("The spectrum of W", &text);
    section.pictures.push(Picture::new(
        "spectrum",
        "Variances along the directions of W.",
        chart.svg(),
    ));
    Ok(section)
}

fn variances<T: Real>(outcome: &Outcome<T>) -> Result<Option<Vec<f64>>> {
    Ok(outcome.fit.model.explained_variance()?.map(|v| v.iter().map(|v| v.as_f64()).collect()))
}
