//! The options of this program, and which of them have no meaning together.

use super::categories::Categories;
use super::support::arguments::{Arguments, Rule, list, note, positive, wrong};
use super::training::{self, Binarize, Training};
use elbo::Real;
use elbo::likelihood::{LikelihoodKind, propose};
use nalgebra::DMatrix;
use std::path::PathBuf;

/// The likelihood slot.
#[derive(Debug, Clone, PartialEq)]
pub enum Likelihood {
    /// One noise variance.
    Gaussian,
    /// A noise variance for each column.
    GaussianPerVariable,
    /// Another distribution of every column, or of each.
    Each(Columns),
}

/// Which distribution each column has.
#[derive(Debug, Clone, PartialEq)]
pub enum Columns {
    All(LikelihoodKind),
    Named(Vec<(String, LikelihoodKind)>),
    /// As the values suggest.
    Proposed,
}

impl Columns {
    /// The kind of each column, or one for all.
    pub fn kinds<T: Real>(
        &self,
        names: &[String],
        values: &DMatrix<T>,
        texts: &[Categories],
    ) -> Result<Vec<LikelihoodKind>, String> {
        match self {
            Self::All(kind) => Ok(vec![*kind]),
            Self::Named(given) => {
                if let Some((unknown, _)) = given.iter().find(|(name, _)| !names.contains(name)) {
                    return Err(format!(
                        "option '--columns': there is no column {unknown:?} among the {} columns",
                        names.len()
                    ));
                }
                let of = |name: &String| {
                    let found = given.iter().find(|(own, _)| own == name).map(|(_, kind)| *kind);
                    found.ok_or_else(|| {
                        format!("option '--columns': column {name:?} has no likelihood")
                    })
                };
                names.iter().map(of).collect()
            }
            Self::Proposed => Ok(names
                .iter()
                .zip(values.row_iter())
                .map(|(name, row)| {
                    if texts.iter().any(|(text, _)| text == name) {
                        note(format!("column {name:?}: categorical, its values are texts"));
                        return LikelihoodKind::Categorical;
                    }
                    let values: Vec<T> = row.iter().copied().collect();
                    let proposal = propose(&values);
                    note(format!("column {name:?}: {}, {}", proposal.likelihood, proposal.reason));
                    proposal.likelihood
                })
                .collect()),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decoder {
    Linear,
    Deep,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inference {
    PerPoint,
    Amortized,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    Isotropic,
    Diagonal,
    Full,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Offset {
    None,
    Total,
    File(PathBuf),
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Scale {
    Auto,
    None,
    By(f64),
}

/// The options, each with its default.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    pub likelihood: Likelihood,
    pub offset: Offset,
    pub decoder: Decoder,
    pub hidden: Vec<usize>,
    pub inference: Inference,
    pub posterior: Family,
    /// Whether the log-likelihood is maximised in place of the ELBO.
    pub by_likelihood: bool,
    pub scale: Scale,
    pub test: Option<PathBuf>,
    pub codes: Option<PathBuf>,
    /// How a deep model is trained.
    pub training: Training,
    name: String,
}

impl Options {
    /// The options of a command line; a message where one is wrong, or has no meaning with another.
    pub fn of(arguments: &Arguments) -> Result<Self, String> {
        let mut options = Self {
            likelihood: Likelihood::Gaussian,
            offset: Offset::None,
            decoder: Decoder::Linear,
            hidden: vec![64],
            inference: Inference::PerPoint,
            posterior: Family::Diagonal,
            by_likelihood: false,
            scale: Scale::None,
            test: None,
            codes: None,
            training: Training::default(),
            name: "gaussian".into(),
        };
        let given = |name: &str| arguments.table.iter().any(|(given, _)| given == name);
        for (name, value) in &arguments.table {
            options.set(name, value)?;
        }
        if given("likelihood") && given("columns") {
            return Err("options '--likelihood' and '--columns': give one of them".into());
        }
        if options.decoder == Decoder::Deep && !given("inference") {
            options.inference = Inference::Amortized;
        }
        if options.decoder == Decoder::Linear && given("hidden") {
            return Err("option '--hidden': a linear decoder has no hidden units".into());
        }
        options.check(arguments)?;
        Ok(options)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        let one_of = |expected: &str| wrong(name, value, expected);
        match name {
            "likelihood" => {
                self.likelihood = match value {
                    "gaussian" => Likelihood::Gaussian,
                    "gaussian_per_variable" => Likelihood::GaussianPerVariable,
                    _ => Likelihood::Each(Columns::All(kind(name, value)?)),
                };
                self.name = value.to_owned();
            }
            "columns" => {
                self.likelihood = Likelihood::Each(match value {
                    "auto" => Columns::Proposed,
                    _ => columns(name, value)?,
                });
                self.name = "columns".to_owned();
            }
            "offset" => {
                self.offset = match value {
                    "none" => Offset::None,
                    "total" => Offset::Total,
                    "" => return Err(one_of("total, none or a file")),
                    file => Offset::File(file.into()),
                }
            }
            "decoder" => {
                self.decoder = match value {
                    "linear" => Decoder::Linear,
                    "deep" => Decoder::Deep,
                    _ => return Err(one_of("linear or deep")),
                }
            }
            "hidden" => {
                let units = value.split(',').map(|units| positive(name, units.trim()));
                self.hidden = units.collect::<Result<_, _>>()?;
            }
            "inference" => {
                self.inference = match value {
                    "per_point" => Inference::PerPoint,
                    "amortized" => Inference::Amortized,
                    _ => return Err(one_of("per_point or amortized")),
                }
            }
            "posterior" => {
                self.posterior = match value {
                    "isotropic" => Family::Isotropic,
                    "diagonal" => Family::Diagonal,
                    "full" => Family::Full,
                    _ => return Err(one_of("isotropic, diagonal or full")),
                }
            }
            "fit" => {
                self.by_likelihood = match value {
                    "elbo" => false,
                    "likelihood" => true,
                    _ => return Err(one_of("elbo or likelihood")),
                }
            }
            "scale" => {
                self.scale = match value {
                    "auto" => Scale::Auto,
                    "none" => Scale::None,
                    number => {
                        let number: Option<f64> = number.parse().ok();
                        let usable = number.filter(|v| v.is_finite() && *v > 0.0);
                        Scale::By(usable.ok_or_else(|| one_of("auto, none or a positive number"))?)
                    }
                }
            }
            "test" => self.test = Some(value.into()),
            "codes" => self.codes = Some(value.into()),
            _ => return self.training.set(name, value),
        }
        Ok(())
    }

    /// Whether the values of a column may be texts: categories by their names.
    pub fn may_be_text(&self, column: &str) -> bool {
        let categories = |kind: &LikelihoodKind| {
            matches!(kind, LikelihoodKind::Categorical | LikelihoodKind::Ordinal)
        };
        match &self.likelihood {
            Likelihood::Each(Columns::All(kind)) => categories(kind),
            Likelihood::Each(Columns::Named(kinds)) => {
                kinds.iter().any(|(name, kind)| name == column && categories(kind))
            }
            Likelihood::Each(Columns::Proposed) => true,
            _ => false,
        }
    }

    /// Whether the likelihood is Gaussian.
    pub fn is_gaussian(&self) -> bool {
        !matches!(self.likelihood, Likelihood::Each(_))
    }

    /// The name of the likelihood.
    pub fn likelihood_name(&self) -> &str {
        &self.name
    }

    /// Returns a message for options that have no meaning together.
    fn check(&self, arguments: &Arguments) -> Result<(), String> {
        let (gaussian, linear) = (self.is_gaussian(), self.decoder == Decoder::Linear);
        let trains =
            arguments.table.iter().any(|(name, _)| training::NAMES.contains(&name.as_str()));
        self.training.check()?;
        let needs_spectrum =
            arguments.rule.filter(|rule| !matches!(rule, Rule::Bic | Rule::HeldOut));
        let refusals = [
            (
                !gaussian && needs_spectrum.is_some(),
                "option '--latent-dim': laplace, ard, parallel and share need a Gaussian \
                 likelihood; bic and held_out do not",
            ),
            (
                self.by_likelihood && !gaussian && arguments.latent_dim.is_some_and(|k| k > 2),
                "option '--fit likelihood': quadrature over z needs --latent-dim 1 or 2",
            ),
            (
                self.by_likelihood && !linear,
                "option '--fit likelihood': a deep decoder is fitted by the ELBO",
            ),
            (
                self.by_likelihood && self.inference == Inference::Amortized,
                "option '--fit likelihood': no inference is part of this fit; leave --inference out",
            ),
            (
                gaussian && self.offset != Offset::None,
                "option '--offset': a Gaussian likelihood takes none; use it with counts or items",
            ),
            (
                !gaussian && arguments.standardize,
                "option '--standardize': counts and items have no other units; it is for Gaussian \
                 likelihoods",
            ),
            (
                !linear && self.inference == Inference::PerPoint,
                "option '--inference per_point': a deep decoder has an encoder here; use amortized",
            ),
            (
                linear
                    && self.inference == Inference::Amortized
                    && self.likelihood != Likelihood::Gaussian,
                "option '--inference amortized': with a linear decoder it exists for gaussian",
            ),
            (
                !linear && self.offset != Offset::None,
                "option '--offset': a deep decoder takes none",
            ),
            (
                linear
                    && self.likelihood == Likelihood::GaussianPerVariable
                    && self.posterior == Family::Isotropic
                    && !self.by_likelihood,
                "option '--posterior isotropic': the best J of gaussian_per_variable is known for \
                 diagonal and full",
            ),
            (
                linear
                    && self.likelihood
                        == Likelihood::Each(Columns::All(LikelihoodKind::Categorical)),
                "option '--likelihood categorical': a linear decoder has one predictor for each \
                 column; use --decoder deep, or ordinal",
            ),
            (
                self.training.binarize != Binarize::None
                    && self.likelihood != Likelihood::Each(Columns::All(LikelihoodKind::Bernoulli)),
                "option '--binarize': binary data have the likelihood bernoulli",
            ),
            (
                linear && trains,
                "options of training, such as --epochs: a linear decoder is fitted to its optimum \
                 without them",
            ),
            (
                !linear && !gaussian && arguments.rule.is_some(),
                "option '--latent-dim': the rules choose k for a linear decoder; give a number",
            ),
            (
                self.likelihood == Likelihood::GaussianPerVariable && arguments.rule.is_some(),
                "option '--latent-dim': the rules choose k for one noise variance; give a number \
                 for gaussian_per_variable",
            ),
            (
                !linear && arguments.restarts.is_some_and(|restarts| restarts > 0),
                "option '--restarts': a deep fit starts at the linear model",
            ),
        ];
        let found = refusals.into_iter().find(|(wrong, _)| *wrong);
        found.map_or(Ok(()), |(_, message)| Err(message.into()))
    }
}

/// A likelihood by its name.
fn kind(name: &str, value: &str) -> Result<LikelihoodKind, String> {
    value.parse().map_err(|error| format!("option '--{name}': {error}"))
}

/// COLUMN:NAME,…
fn columns(name: &str, value: &str) -> Result<Columns, String> {
    let expected = "COLUMN:NAME,…";
    let one = |entry: &String| -> Result<(String, LikelihoodKind), String> {
        // The name of a likelihood may contain a colon itself: binomial:N.
        let split = match entry.rfind(":binomial:") {
            Some(at) => Some((&entry[..at], &entry[at + 1..])),
            None => entry.rsplit_once(':'),
        };
        let (column, of) = split.ok_or_else(|| wrong(name, value, expected))?;
        Ok((column.to_owned(), kind(name, of)?))
    };
    let entries = list(name, value, expected)?;
    Ok(Columns::Named(entries.iter().map(one).collect::<Result<_, _>>()?))
}
