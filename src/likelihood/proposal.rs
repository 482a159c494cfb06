//! A proposal of the likelihood of a column from its values.

use super::{LikelihoodKind, is_missing};
use crate::Real;

/// A likelihood for a column of a table, and the reason.
///
/// It displays as `name: reason`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposal {
    /// The likelihood.
    pub likelihood: LikelihoodKind,
    /// Why, in a few words with the numbers.
    pub reason: String,
}

impl std::fmt::Display for Proposal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.likelihood, self.reason)
    }
}

/// Proposes a likelihood for a column with these values, where NaN is a missing one: by whether
/// they are 0 and 1, few or many integers, or real numbers, and by their dispersion and skewness. A
/// person who knows what was measured may know better.
///
/// ```
/// use elbo::likelihood::{LikelihoodKind, propose};
/// let proposal = propose(&[0.0, 1.0, 1.0, f64::NAN]);
/// assert_eq!(proposal.likelihood, LikelihoodKind::Bernoulli);
/// assert_eq!(proposal.to_string(), "bernoulli: every value is 0 or 1");
/// ```
pub fn propose<T: Real>(values: &[T]) -> Proposal {
    let values: Vec<f64> = values.iter().filter(|x| !is_missing(**x)).map(|x| x.as_f64()).collect();
    let (likelihood, reason) = match Summary::of(&values) {
        None => (LikelihoodKind::GaussianPerVariable, "there is no finite value".to_owned()),
        Some(summary) if summary.integers => of_integers(&summary),
        Some(summary) => of_reals(&values, &summary),
    };
    Proposal { likelihood, reason }
}

struct Summary {
    least: f64,
    largest: f64,
    mean: f64,
    variance: f64,
    integers: bool,
}

impl Summary {
    /// `None` for values that are not all finite, or for none.
    fn of(values: &[f64]) -> Option<Self> {
        let n = values.len() as f64;
        let mean = values.iter().map(|v| v / n).sum::<f64>();
        let variance = values.iter().map(|v| (v - mean) * ((v - mean) / n)).sum::<f64>();
        (n > 0.0 && values.iter().all(|v| v.is_finite())).then(|| Self {
            least: values.iter().copied().fold(f64::INFINITY, f64::min),
            largest: values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            mean,
            variance,
            integers: values.iter().all(|v| v.fract() == 0.0),
        })
    }
}

fn of_integers(summary: &Summary) -> (LikelihoodKind, String) {
    let Summary { least, largest, mean, variance, .. } = *summary;
    let deviation = variance.sqrt();
    if least >= 0.0 && largest <= 1.0 {
        return (LikelihoodKind::Bernoulli, "every value is 0 or 1".to_owned());
    }
    let reals = LikelihoodKind::GaussianPerVariable;
    if least == largest {
        return (reals, format!("every value is {least}"));
    }
    if least < 0.0 {
        return (reals, format!("integers, of which the least is {least}"));
    }
    // Years, or numbers of items: far from 0, where counts are about normal in any case.
    if mean > 100.0 && least > 0.5 * mean {
        return (reals, format!("integers from {least} to {largest}, far from 0"));
    }
    if largest <= 2.0 || least >= 1.0 && largest <= 10.0 {
        return (LikelihoodKind::Ordinal, format!("small integers from {least} to {largest}"));
    }
    let of_counts = format!("counts with the mean {mean:.3} and the variance {variance:.3}");
    // Twice the mean: latent variables of a Poisson model bring dispersion too.
    if deviation * deviation > 2.0 * mean {
        (LikelihoodKind::NegativeBinomial, format!("{of_counts}, more than twice the mean"))
    } else {
        (LikelihoodKind::Poisson, of_counts)
    }
}

fn of_reals(values: &[f64], summary: &Summary) -> (LikelihoodKind, String) {
    let Summary { least, largest, .. } = *summary;
    let range = format!("real numbers from {least} to {largest}");
    let skewness = skewness(values);
    if least > 0.0 && skewness > 1.5 {
        let logarithms: Vec<f64> = values.iter().map(|v| v.ln()).collect();
        let of_logarithms = self::skewness(&logarithms);
        if of_logarithms.abs() < 0.5 * skewness {
            let reason = format!(
                "{range}, with the skewness {skewness:.2}, and {of_logarithms:.2} of the logarithms"
            );
            return (LikelihoodKind::LogNormal, reason);
        }
    }
    (LikelihoodKind::GaussianPerVariable, range)
}

/// Σ(x − x̄)³/n, divided by the cube of the standard deviation; 0 for constant values.
fn skewness(values: &[f64]) -> f64 {
    let n = values.len() as f64;
    let largest = values.iter().fold(f64::MIN_POSITIVE, |a, v| a.max(v.abs()));
    let mean = values.iter().map(|v| v / largest).sum::<f64>() / n;
    let moment = |power| values.iter().map(|v| (v / largest - mean).powi(power)).sum::<f64>() / n;
    let variance = moment(2);
    if variance > 0.0 { moment(3) / variance.powf(1.5) } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use LikelihoodKind::*;

    #[test]
    fn kinds_of_columns() {
        let few = [3.0, 0.0, 4.0, 1.0, 2.0, 2.0, 3.0, 5.0];
        let overdispersed = [0.0, 0.0, 0.0, 0.0, 40.0, 3.0, 0.0, 17.0];
        let skewed: Vec<f64> = (0..50).map(|i| (f64::from(i) * 0.2 - 5.0).exp()).collect();
        for (values, expected) in [
            (&[][..], GaussianPerVariable),
            (&[f64::NAN, f64::INFINITY], GaussianPerVariable),
            (&[0.0, 1.0, 0.0], Bernoulli),
            (&[1.0, 1.0], Bernoulli),
            (&[7.0, 7.0], GaussianPerVariable),
            (&[-3.0, 2.0, 1.0], GaussianPerVariable),
            (&[1998.0, 2004.0, 2011.0], GaussianPerVariable),
            (&[1.0, 5.0, 3.0, 4.0], Ordinal),
            (&[0.0, 2.0, 1.0], Ordinal),
            (&few, Poisson),
            (&overdispersed, NegativeBinomial),
            (&[0.1, 0.5, -0.2], GaussianPerVariable),
            (&skewed, LogNormal),
        ] {
            let proposal = propose(values);
            assert_eq!(proposal.likelihood, expected, "{values:?}: {}", proposal.reason);
            assert!(!proposal.reason.is_empty());
        }
        assert_eq!(propose(&[1e300, -1e300, 0.5]).likelihood, GaussianPerVariable);
    }
}
