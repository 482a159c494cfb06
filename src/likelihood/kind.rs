//! Names of likelihoods.

use super::{
    Bernoulli, Binomial, ContinuousBernoulli, DynUnivariate, Gaussian, Laplace, LogNormal,
    NegativeBinomial, Ordinal, Poisson, StudentT, ZeroInflated, is_missing,
};
use crate::{Error, Real, Result};
use std::fmt;
use std::str::FromStr;

/// The likelihood of a variable, or of all variables, by its name: what a schema that is read from
/// a file contains.
///
/// ```
/// use elbo::likelihood::LikelihoodKind;
/// let kind: LikelihoodKind = "binomial:12".parse()?;
/// assert_eq!(kind, LikelihoodKind::Binomial(12));
/// assert_eq!(kind.to_string(), "binomial:12");
/// assert!("normal".parse::<LikelihoodKind>().unwrap_err().to_string().contains("gaussian,"));
/// # Ok::<(), elbo::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LikelihoodKind {
    /// `gaussian`: one variance for all variables of this kind.
    Gaussian,
    /// `gaussian_per_variable`
    GaussianPerVariable,
    /// `student_t`
    StudentT,
    /// `laplace`
    Laplace,
    /// `log_normal`
    LogNormal,
    /// `bernoulli`
    Bernoulli,
    /// `continuous_bernoulli`
    ContinuousBernoulli,
    /// `binomial:N` with the number of trials N
    Binomial(u64),
    /// `poisson`
    Poisson,
    /// `negative_binomial`
    NegativeBinomial,
    /// `zero_inflated_poisson`
    ZeroInflatedPoisson,
    /// `categorical`: categories without an order
    Categorical,
    /// `ordinal`: ordered categories
    Ordinal,
}

/// The names in an error.
const NAMES: &str = "gaussian, gaussian_per_variable, student_t, laplace, log_normal, bernoulli, \
                     continuous_bernoulli, binomial:N, poisson, negative_binomial, \
                     zero_inflated_poisson, categorical, ordinal";

/// The kinds whose name has no number.
const PLAIN: [(LikelihoodKind, &str); 12] = [
    (LikelihoodKind::Gaussian, "gaussian"),
    (LikelihoodKind::GaussianPerVariable, "gaussian_per_variable"),
    (LikelihoodKind::StudentT, "student_t"),
    (LikelihoodKind::Laplace, "laplace"),
    (LikelihoodKind::LogNormal, "log_normal"),
    (LikelihoodKind::Bernoulli, "bernoulli"),
    (LikelihoodKind::ContinuousBernoulli, "continuous_bernoulli"),
    (LikelihoodKind::Poisson, "poisson"),
    (LikelihoodKind::NegativeBinomial, "negative_binomial"),
    (LikelihoodKind::ZeroInflatedPoisson, "zero_inflated_poisson"),
    (LikelihoodKind::Categorical, "categorical"),
    (LikelihoodKind::Ordinal, "ordinal"),
];

impl FromStr for LikelihoodKind {
    type Err = Error;

    /// Reads a name.
    ///
    /// # Errors
    /// [`Error::UnknownLikelihood`], which lists the names; [`Error::InvalidParameter`] for a
    /// number of trials that is none.
    fn from_str(name: &str) -> Result<Self> {
        if let Some((kind, _)) = PLAIN.iter().find(|(_, known)| *known == name) {
            return Ok(*kind);
        }
        let trials = name.strip_prefix("binomial:").and_then(|n| n.parse().ok());
        match trials {
            Some(trials) => Ok(Self::Binomial(Binomial::new(trials)?.trials())),
            None => Err(Error::UnknownLikelihood { name: name.into(), known: NAMES }),
        }
    }
}

impl fmt::Display for LikelihoodKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Self::Binomial(trials) = self {
            return write!(f, "binomial:{trials}");
        }
        let name = PLAIN.iter().find(|(kind, _)| kind == self).map_or("", |(_, name)| name);
        f.pad(name)
    }
}

/// The number of categories of values 0, 1, …: one more than the largest, at least 2.
pub(super) fn category_count<T: Real>(values: &[T]) -> usize {
    let largest = values.iter().filter(|x| !is_missing(**x)).map(|x| x.as_f64());
    (largest.fold(1.0, f64::max) as usize).saturating_add(1)
}

impl LikelihoodKind {
    /// The distribution of a variable with these values (NaN is a missing one), which determine the
    /// number of ordered categories; `None` for `categorical`, which has several predictors. Both
    /// Gaussian kinds are a [`Gaussian`] with a standard deviation of its own.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] for more than 10,000 ordered categories.
    pub fn univariate<T: Real>(self, values: &[T]) -> Result<Option<DynUnivariate>> {
        Ok(Some(match self {
            Self::Gaussian | Self::GaussianPerVariable => Gaussian::default().into(),
            Self::StudentT => StudentT::default().into(),
            Self::Laplace => Laplace::default().into(),
            Self::LogNormal => LogNormal::default().into(),
            Self::Bernoulli => Bernoulli.into(),
            Self::ContinuousBernoulli => ContinuousBernoulli.into(),
            Self::Binomial(trials) => Binomial::new(trials)?.into(),
            Self::Poisson => Poisson.into(),
            Self::NegativeBinomial => NegativeBinomial::default().into(),
            Self::ZeroInflatedPoisson => ZeroInflated::new(Poisson).into(),
            Self::Ordinal => Ordinal::new(category_count(values))?.into(),
            Self::Categorical => return Ok(None),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_written() {
        for name in NAMES.split(", ").filter(|name| *name != "binomial:N") {
            assert_eq!(name.parse::<LikelihoodKind>().unwrap().to_string(), name);
        }
        for bad in ["", "Gaussian", "binomial", "binomial:", "binomial:x", "binomial:-1"] {
            let error = bad.parse::<LikelihoodKind>().unwrap_err();
            assert!(matches!(&error, Error::UnknownLikelihood { name, .. } if name == bad));
            assert!(error.to_string().contains("binomial:N, poisson"));
        }
        assert!(matches!(
            "binomial:0".parse::<LikelihoodKind>(),
            Err(Error::InvalidParameter { .. })
        ));
    }
}
