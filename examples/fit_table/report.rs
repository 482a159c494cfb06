//! What the program reports.

use super::input::Input;
use super::options::{Decoder, Options};
use super::support::json::Json;
use super::support::page::{Page, Picture, Section};
use super::support::progress::note;
use super::support::scatter::{Classes, latent};
use elbo::Real;
use elbo::data::files::{FileError, Table, write};
use elbo::linalg::thin_svd;
use nalgebra::{DMatrix, DVector};
use std::path::Path;

/// A log-likelihood, a total over the rows in nats.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LogLikelihood {
    pub value: f64,
    pub method: &'static str,
    /// The standard error of a sampled value; `None` for one that is exact.
    pub standard_error: Option<f64>,
}

/// A fit and its figures; all totals over the rows, in nats.
pub struct Outcome<T: Real> {
    pub latent_dim: usize,
    pub elbo: Option<f64>,
    pub log_likelihood: Option<LogLikelihood>,
    pub starts: Vec<f64>,
    /// d×k; `None` for a deep decoder.
    pub loadings: Option<DMatrix<T>>,
    pub intercepts: Option<DVector<T>>,
    pub iterations: usize,
    pub stop: &'static str,
    pub test_elbo: Option<f64>,
    pub test_log_likelihood: Option<f64>,
    /// How the q of the rows for testing were found.
    pub test_inference: Option<&'static str>,
    pub codes: DMatrix<T>,
    /// Standard errors of loadings and intercepts.
    pub standard_errors: Option<(DMatrix<T>, DVector<T>)>,
    /// The figures of a deep fit.
    pub trained: Option<Trained>,
}

/// The figures of a deep fit, in nats for each row.
pub struct Trained {
    /// J, J of the held-out rows, and seconds, after each epoch.
    pub history: Vec<(f64, Option<f64>, f64)>,
    pub test_nll: Option<TestLikelihood>,
    pub active_units: usize,
    /// The mean KL(q ‖ π).
    pub rate: f64,
    pub mutual_information: f64,
    /// The latent dimensions that are not active, counted from 0.
    pub collapsed: Vec<usize>,
}

/// −log p of the rows for testing by importance sampling, a mean in nats for each row.
pub struct TestLikelihood {
    pub value: f64,
    pub standard_error: f64,
    /// A mean over the rows.
    pub effective_sample_size: f64,
    pub observations: usize,
}

impl<T: Real> Outcome<T> {
    /// The rank of the loadings: the number of dimensions on which x depends.
    fn rank(&self) -> Option<usize> {
        let values = thin_svd(self.loadings.as_ref()?.as_view()).ok()?.singular_values;
        let least = 1e-4 * values.max().as_f64();
        Some(values.iter().filter(|v| v.as_f64() > least).count())
    }

    pub fn json(&self, input: &Input<T>, options: &Options, seconds: f64) -> Json {
        let rows = |matrix: &DMatrix<T>| -> Json {
            let row =
                |row: usize| -> Vec<f64> { matrix.row(row).iter().map(|v| v.as_f64()).collect() };
            Json::List((0..matrix.nrows()).map(|j| row(j).into()).collect())
        };
        let log_likelihood = self.log_likelihood;
        let intercepts = self.intercepts.as_ref();
        let mut entries = vec![
            ("observations", input.rows.values.ncols().into()),
            ("data_dim", input.rows.values.nrows().into()),
            ("latent_dim", self.latent_dim.into()),
            ("likelihood", options.likelihood_name().into()),
            ("decoder", name_of(options.decoder).into()),
            ("elbo", self.elbo.into()),
            ("log_likelihood", log_likelihood.map(|found| found.value).into()),
            ("log_likelihood_method", log_likelihood.map(|found| found.method).into()),
            (
                "log_likelihood_standard_error",
                log_likelihood.and_then(|found| found.standard_error).into(),
            ),
            ("starts", self.starts.clone().into()),
            ("loadings", self.loadings.as_ref().map_or(Json::Null, rows)),
            (
                "intercepts",
                intercepts.map(|b| b.iter().map(|v| v.as_f64()).collect::<Vec<_>>()).into(),
            ),
            ("rank", self.rank().into()),
            ("iterations", self.iterations.into()),
            ("stop", self.stop.into()),
            ("seconds", seconds.into()),
            ("test_elbo", self.test_elbo.into()),
            ("test_log_likelihood", self.test_log_likelihood.into()),
        ];
        if let Some(trained) = &self.trained {
            entries.extend(trained.json());
        }
        Json::Object(entries)
    }

    pub fn text(&self, input: &Input<T>, options: &Options, seconds: f64) -> String {
        let (d, n) = input.rows.values.shape();
        let mut text = format!("{n} observations of {d} variables\n");
        let mut line = |name: &str, value: String| text += &format!("{name:<19}{value}\n");
        if input.rows.missing > 0 {
            line("missing", format!("{} of {} entries", input.rows.missing, d * n));
        }
        if let Some(scale) = input.scale {
            line("units", format!("the data were divided by {scale}"));
        }
        line("likelihood", options.likelihood_name().into());
        line("decoder", name_of(options.decoder).into());
        line("latent dimensions", self.latent_dim.to_string());
        if let Some(elbo) = self.elbo {
            line("ELBO", format!("{elbo:.6} nats"));
        }
        if let Some(LogLikelihood { value, method, standard_error }) = self.log_likelihood {
            let error =
                standard_error.map_or(String::new(), |e| format!(", standard error {e:.3}"));
            line("log-likelihood", format!("{value:.6} nats ({method}{error})"));
        }
        if let [_, _, ..] = self.starts.as_slice() {
            let best = self.starts.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let worst = self.starts.iter().copied().fold(f64::INFINITY, f64::min);
            let below = self.starts.iter().filter(|start| best - *start > 0.01).count();
            line(
                "starts",
                format!(
                    "{}, {below} of them more than 0.01 nats below the best, by up to {:.2e}",
                    self.starts.len(),
                    best - worst
                ),
            );
        }
        if let Some(elbo) = self.test_elbo {
            let how = self.test_inference.unwrap_or("by the model");
            line("ELBO of the test", format!("{elbo:.6} nats (q {how})"));
        }
        if let Some(value) = self.test_log_likelihood {
            line("test log-likelihood", format!(" {value:.6} nats"));
        }
        if let Some(trained) = &self.trained {
            trained.lines(&mut line);
        }
        line("fit", format!("{} iterations, {}, {seconds:.3} s", self.iterations, self.stop));
        text + &self.table(input)
    }

    /// Loadings and intercepts, with their standard errors where there are some.
    fn table(&self, input: &Input<T>) -> String {
        const MOST: usize = 40;
        let (Some(loadings), Some(intercepts)) = (&self.loadings, &self.intercepts) else {
            return String::new();
        };
        let width = input.names.iter().map(|name| name.chars().count()).max().unwrap_or(0).min(24);
        let mut text = String::from("\nintercepts and loadings (standard errors)\n");
        for j in 0..loadings.nrows().min(MOST) {
            let name: String = input.names[j].chars().take(width).collect();
            text += &format!("{name:<width$}");
            let errors = self.standard_errors.as_ref();
            let entry = |value: T, error: Option<T>| match error {
                Some(error) => format!("  {:>9.4} ({:.4})", value.as_f64(), error.as_f64()),
                None => format!("  {:>9.4}", value.as_f64()),
            };
            text += &entry(intercepts[j], errors.map(|(_, intercepts)| intercepts[j]));
            for a in 0..loadings.ncols() {
                text += &entry(loadings[(j, a)], errors.map(|(loadings, _)| loadings[(j, a)]));
            }
            text += "\n";
        }
        if loadings.nrows() > MOST {
            text += &format!("… {} more\n", loadings.nrows() - MOST);
        }
        text
    }

    /// Writes the means of q, a row for each row of the data.
    pub fn write_codes(&self, path: &Path) -> Result<(), FileError> {
        let mut table = Table::new(self.codes.clone());
        table.names = (1..=self.latent_dim).map(|a| format!("z{a}")).collect();
        table.header = true;
        write(path, &table)
    }

    /// Draws the codes.
    pub fn draw(&self, input: &Input<T>) -> Result<(), String> {
        let z: Vec<f64> = self.codes.iter().map(|v| v.as_f64()).collect();
        let classes = input.classes.as_ref().map(|(of, names)| Classes { of, names });
        let svg = latent("means of q", &z, self.latent_dim, classes);
        let folder = Path::new("target").join("fit_table");
        let page = page(&input.file, svg);
        let written = page.write(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
        note(&format!("pictures: {}", written.display()));
        Ok(())
    }
}

impl Trained {
    fn json(&self) -> Vec<(&'static str, Json)> {
        let history = self.history.iter().map(|&(elbo, held_out, seconds)| {
            Json::Object(vec![
                ("elbo", elbo.into()),
                ("held_out_elbo", held_out.into()),
                ("seconds", seconds.into()),
            ])
        });
        let test_nll = self.test_nll.as_ref().map_or(Json::Null, |test| {
            Json::Object(vec![
                ("value", test.value.into()),
                ("standard_error", test.standard_error.into()),
                ("effective_sample_size", test.effective_sample_size.into()),
                ("observations", test.observations.into()),
            ])
        });
        let collapsed: Vec<Json> = self.collapsed.iter().map(|&unit| unit.into()).collect();
        vec![
            ("history", Json::List(history.collect())),
            ("test_nll", test_nll),
            ("active_units", self.active_units.into()),
            ("rate", self.rate.into()),
            ("mutual_information", self.mutual_information.into()),
            ("collapsed", Json::List(collapsed)),
        ]
    }

    fn lines(&self, line: &mut impl FnMut(&str, String)) {
        let dead = match self.collapsed.len() {
            0 => String::new(),
            count => format!(", {count} not"),
        };
        line("active dimensions", format!("{}{dead}", self.active_units));
        line("rate", format!("{:.4} nats a row", self.rate));
        line("mutual information", format!(" {:.4} nats a row", self.mutual_information));
        if let Some(test) = &self.test_nll {
            line(
                "−log p of the test",
                format!(
                    " {:.4} ± {:.4} nats a row, of {} rows ({:.0} effective samples)",
                    test.value, test.standard_error, test.observations, test.effective_sample_size
                ),
            );
        }
    }
}

fn page(file: &str, svg: String) -> Page {
    let mut section = Section::new("The latent plane", "The means of q, a point for each row.");
    section.pictures.push(Picture::new("codes", "Means of q(z) of the rows of the data.", svg));
    Page {
        title: format!("A fit to {file}"),
        lead: "One model, fitted to one table.".into(),
        sections: vec![section],
    }
}

fn name_of(decoder: Decoder) -> &'static str {
    match decoder {
        Decoder::Linear => "linear",
        Decoder::Deep => "deep",
    }
}
