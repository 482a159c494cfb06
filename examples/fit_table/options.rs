//! The options of this program, and which of them have no meaning together.

use super::distribution::{Distribution, NAMES};
use super::support::arguments::{Arguments, Rule, list, positive, wrong};
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
    All(Distribution, &'static str),
    Named(Vec<(String, Distribution)>),
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
                    _ => {
                        let found = Distribution::parse(value).ok_or_else(|| one_of(NAMES))?;
                        Likelihood::Each(Columns::All(found, leaked(value)))
                    }
                }
            }
            "columns" => self.likelihood = Likelihood::Each(columns(name, value)?),
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
            _ => return Err(format!("invalid option '--{name}'")),
        }
        Ok(())
    }

    /// Whether the likelihood is Gaussian.
    pub fn is_gaussian(&self) -> bool {
        !matches!(self.likelihood, Likelihood::Each(_))
    }

    /// The name of the likelihood.
    pub fn likelihood_name(&self) -> &str {
        match &self.likelihood {
            Likelihood::Gaussian => "gaussian",
            Likelihood::GaussianPerVariable => "gaussian_per_variable",
            Likelihood::Each(Columns::All(_, name)) => name,
            Likelihood::Each(Columns::Named(_)) => "columns",
        }
    }

    /// Returns a message for options that have no meaning together.
    fn check(&self, arguments: &Arguments) -> Result<(), String> {
        let (gaussian, linear) = (self.is_gaussian(), self.decoder == Decoder::Linear);
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
                !linear
                    && !matches!(
                        self.likelihood,
                        Likelihood::Gaussian
                            | Likelihood::GaussianPerVariable
                            | Likelihood::Each(Columns::All(Distribution::Bernoulli, _))
                    ),
                "option '--decoder deep': the likelihoods are gaussian, gaussian_per_variable and \
                 bernoulli",
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

/// The names of the command line live as long as the program.
fn leaked(name: &str) -> &'static str {
    match name {
        "bernoulli" => "bernoulli",
        "poisson" => "poisson",
        _ => "other",
    }
}

/// COLUMN:NAME,…
fn columns(name: &str, value: &str) -> Result<Columns, String> {
    let expected = "COLUMN:NAME,…, where NAME is bernoulli or poisson";
    let one = |entry: &String| -> Result<(String, Distribution), String> {
        let (column, kind) = entry.rsplit_once(':').ok_or_else(|| wrong(name, value, expected))?;
        let kind = Distribution::parse(kind).ok_or_else(|| wrong(name, value, expected))?;
        Ok((column.to_owned(), kind))
    };
    let entries = list(name, value, expected)?;
    Ok(Columns::Named(entries.iter().map(one).collect::<Result<_, _>>()?))
}
