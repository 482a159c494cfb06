//! A linear decoder with Gaussian noise: probabilistic PCA and factor analysis, exactly.

use super::input::Input;
use super::options::{Family, Inference, Likelihood, Options};
use super::report::{LogLikelihood, Outcome};
use super::support::arguments::{Arguments, Rule};
use super::support::progress::note;
use elbo::data::{Centering, Incomplete, IncompleteObservations, ScatterFactor};
use elbo::fit::{AffineScaleHead, Fitted, SubspaceFamily};
use elbo::inference::{EStep, Exact, PerPoint};
use elbo::likelihood::GaussianNoise;
use elbo::map::Linear;
use elbo::model::LinearGaussian;
use elbo::objective::Elbo;
use elbo::posterior::{Diagonal, Full, Isotropic, PosteriorFamily};
use elbo::selection::{Criterion, Selection};
use elbo::{
    AmortizedPpca, Error, FactorAnalysis, IntoObservations, Model, Ppca, Real, Result,
    VariationalPpca,
};
use nalgebra::DMatrix;
use rand::SeedableRng;
use rand::rngs::StdRng;

const FOLDS: usize = 10;

pub fn fit<T: Real>(
    input: &Input<T>,
    arguments: &Arguments,
    options: &Options,
) -> std::result::Result<Outcome<T>, String> {
    let place = input.place();
    let latent_dim = latent_dim(input, arguments)?;
    let run = Run { input, arguments, options, latent_dim };
    let outcome = match options.posterior {
        Family::Isotropic => run.family::<Isotropic<T>>(),
        Family::Diagonal => run.family::<Diagonal<T>>(),
        Family::Full => run.family::<Full<T>>(),
    };
    outcome.map_err(|error| place.says(error))
}

/// The latent dimension that was asked for, that a rule chooses, or min(8, rank − 1).
pub fn latent_dim<T: Real>(
    input: &Input<T>,
    arguments: &Arguments,
) -> std::result::Result<usize, String> {
    let (place, x) = (input.place(), &input.rows.values);
    if let Some(latent_dim) = arguments.latent_dim {
        return Ok(latent_dim);
    }
    if let Some(rule) = arguments.rule {
        if input.rows.missing > 0 {
            return Err(format!(
                "{}: {} entries are missing, and the rule {rule} needs all: give --latent-dim K; \
                 the program impute chooses k for such a table",
                input.file, input.rows.missing
            ));
        }
        let rng = &mut StdRng::seed_from_u64(arguments.seed);
        let criterion = match rule {
            Rule::Bic => Criterion::Bic,
            Rule::Ard => Criterion::Ard,
            Rule::HeldOut => Criterion::HeldOut { folds: FOLDS.min(x.ncols()) },
            _ => Criterion::Laplace,
        };
        let selection = match rule {
            Rule::Parallel => Selection::parallel_analysis(x, rng),
            Rule::Share(share) => Selection::variance_share(x, share),
            _ => Selection::ppca(x, criterion),
        };
        let selection = selection.map_err(|error| place.says(error))?;
        note(&format!("note: {rule}: {selection}"));
        return match selection.latent_dim {
            0 => Err(format!(
                "{}: the rule {rule} finds no latent dimension; give --latent-dim K to fit some \
                 nevertheless",
                place.file
            )),
            latent_dim => Ok(latent_dim),
        };
    }
    let rank = if input.rows.missing > 0 {
        x.nrows().min(x.ncols())
    } else {
        let factor = x.into_observations().and_then(|x| ScatterFactor::of(x, Centering::Mean));
        factor.and_then(|factor| factor.rank()).map_err(|error| place.says(error))?
    };
    Ok(rank.saturating_sub(1).clamp(1, 8))
}

struct Run<'a, T: Real> {
    input: &'a Input<T>,
    arguments: &'a Arguments,
    options: &'a Options,
    latent_dim: usize,
}

type LinearModel<T, N> = Model<T, Linear<T>, N, Exact>;

impl<T: Real> Run<'_, T> {
    fn family<Q>(&self) -> Result<Outcome<T>>
    where
        Q: SubspaceFamily<T> + AffineScaleHead<T>,
    {
        let rng = &mut StdRng::seed_from_u64(self.arguments.seed);
        let (x, k) = (&self.input.rows.values, self.latent_dim);
        let restarts = self.arguments.restarts.unwrap_or(0);
        let own_optimum = self.options.posterior == Family::Isotropic;
        if self.options.likelihood == Likelihood::GaussianPerVariable {
            let builder = FactorAnalysis::builder(k).restarts(restarts);
            let fitted = match self.input.rows.missing {
                0 => builder.fit(x, rng)?,
                _ => builder.fit(Incomplete(x), rng)?,
            };
            return self.exact::<Q, _>(fitted);
        }
        if self.options.inference == Inference::Amortized {
            let fitted = AmortizedPpca::<T, Q>::builder(k).fit(x, rng)?;
            let (iterations, stop) = (fitted.iterations(), fitted.stop.name());
            let elbo = sum(fitted.model.elbo(x)?.values().as_slice());
            let mut outcome = self.exact::<Q, _>(fitted.try_exact()?)?;
            (outcome.iterations, outcome.stop, outcome.elbo) = (iterations, stop, Some(elbo));
            outcome.starts = vec![elbo];
            return Ok(outcome);
        }
        if own_optimum && !self.options.by_likelihood {
            if self.input.rows.missing > 0 {
                return Err(Error::Unsupported {
                    what: "an incomplete table with an isotropic posterior",
                    must: "`--posterior full`, or the program impute for a complete table",
                });
            }
            let fitted = VariationalPpca::<T, Q>::builder(k).fit(x, rng)?;
            return self.exact::<Q, _>(fitted.try_exact()?);
        }
        let builder = Ppca::builder(k).restarts(restarts);
        let fitted = match self.input.rows.missing {
            0 => builder.fit(x, rng)?,
            _ => builder.fit(Incomplete(x), rng)?,
        };
        self.exact::<Q, _>(fitted)
    }

    /// The figures of a model whose log p is exact; J is that of the best q of the family.
    fn exact<Q, N>(&self, fitted: Fitted<LinearModel<T, N>>) -> Result<Outcome<T>>
    where
        Q: PosteriorFamily<T>,
        N: GaussianNoise<T>,
    {
        let (model, n) = (&fitted.model, self.input.rows.values.ncols() as f64);
        let of = |x: &DMatrix<T>| figures::<T, N, Q>(model, x, self.options.posterior);
        let (log_likelihood, elbo, codes) = of(&self.input.rows.values)?;
        if elbo.is_none() {
            note(
                "note: with missing entries the best J is known for full covariances only; \
                 --posterior full gives it",
            );
        }
        let (mut test_elbo, mut test_log_likelihood) = (None, None);
        if let Some((_, test)) = &self.input.test {
            let (log_likelihood, elbo, _) = of(&test.values)?;
            (test_elbo, test_log_likelihood) = (elbo, Some(log_likelihood));
        }
        let starts = match fitted.trace.starts() {
            [] => vec![elbo.unwrap_or(log_likelihood)],
            starts => starts.iter().map(|start| start * n).collect(),
        };
        Ok(Outcome {
            latent_dim: self.latent_dim,
            elbo,
            log_likelihood: Some(LogLikelihood {
                value: log_likelihood,
                method: "exact",
                standard_error: None,
            }),
            starts,
            loadings: Some(model.loadings().into_owned()),
            intercepts: Some(model.mean().into_owned()),
            iterations: fitted.iterations(),
            stop: fitted.stop.name(),
            test_elbo,
            test_log_likelihood,
            test_inference: test_elbo.map(|_| "in closed form at the fitted parameters"),
            codes,
            standard_errors: None,
            trained: None,
        })
    }
}

fn sum<T: Real>(values: &[T]) -> f64 {
    values.iter().map(|v| v.as_f64()).sum()
}

/// log p and the best J of a family, totals over the rows, and the means of q.
fn figures<T, N, Q>(
    model: &LinearModel<T, N>,
    x: &DMatrix<T>,
    family: Family,
) -> Result<(f64, Option<f64>, DMatrix<T>)>
where
    T: Real,
    N: GaussianNoise<T>,
    Q: PosteriorFamily<T>,
{
    let incomplete = IncompleteObservations::new(x.as_view())?;
    let Some(complete) = incomplete.complete() else {
        let log_likelihood = sum(model.log_likelihood(incomplete)?.as_slice());
        let elbo = (family == Family::Full).then_some(log_likelihood);
        return Ok((log_likelihood, elbo, model.transform(incomplete)?));
    };
    let log_likelihood = sum(model.log_likelihood(complete)?.as_slice());
    let mut table = PerPoint::<Q>::at_prior(model.latent_dim(), complete.len());
    let generative: &LinearGaussian<T, N> = model.generative_model();
    table.maximize(generative, complete)?;
    let terms = Elbo::closed_form().terms(generative, &table.posterior, complete)?;
    Ok((log_likelihood, Some(sum(terms.values().as_slice())), model.transform(complete)?))
}

/// The same θ with the exact posterior.
trait TryExact<T: Real, N> {
    fn try_exact(self) -> Result<Fitted<LinearModel<T, N>>>;
}

impl<T: Real, N: GaussianNoise<T>, I> TryExact<T, N> for Fitted<Model<T, Linear<T>, N, I>> {
    fn try_exact(self) -> Result<Fitted<LinearModel<T, N>>> {
        let (trace, stop) = (self.trace.clone(), self.stop);
        let (generative, _) = self.model.into_parts();
        Ok(Fitted::new(Model::from_parts(generative, Exact)?, trace, stop))
    }
}
