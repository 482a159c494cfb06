//! A linear decoder under likelihoods of independent columns.

use super::input::{Input, Offsets, Rows};
use super::options::{Columns, Family, Options};
use super::report::{LogLikelihood, Outcome};
use super::support::arguments::{Arguments, Rule};
use super::support::progress::note;
use super::support::refusal::Location;
use elbo::data::{Data, Incomplete, Offset};
use elbo::diagnostics::ImportanceSampling;
use elbo::fit::{Fitted, PredictorFamily, PredictorForm};
use elbo::likelihood::{DynUnivariate, LikelihoodKind};
use elbo::posterior::{Diagonal, Full, Isotropic};
use elbo::selection::Criterion;
use elbo::steps::{GeneralizedPpca, GeneralizedPpcaBuilder};
use elbo::{Real, Result};
use rand::SeedableRng;
use rand::rngs::StdRng;

/// Random restarts beside the first initialisation, unless others are asked for.
const RESTARTS: usize = 4;
/// Importance samples of each row where k > 2.
const SAMPLES: usize = 1_000;
/// The largest latent dimension that a rule tries, and its number of folds.
const LARGEST: usize = 8;
const FOLDS: usize = 10;

pub fn fit<T: Real>(
    input: &Input<T>,
    columns: &Columns,
    arguments: &Arguments,
    options: &Options,
) -> std::result::Result<Outcome<T>, String> {
    let distributions = distributions(columns, input)?;
    let run = Run { input, distributions, arguments, options };
    match options.posterior {
        Family::Isotropic => run.family::<Isotropic<T>>(),
        Family::Diagonal => run.family::<Diagonal<T>>(),
        Family::Full => run.family::<Full<T>>(),
    }
}

/// The distribution of each column, or one for all.
fn distributions<T: Real>(
    columns: &Columns,
    input: &Input<T>,
) -> std::result::Result<Vec<DynUnivariate>, String> {
    let values = &input.rows.values;
    let kinds = columns.kinds(&input.names, values, &input.categories)?;
    // The number of ordered categories is that of the column: each has a distribution of its own.
    let each = kinds.len() > 1 || kinds == [LikelihoodKind::Ordinal];
    let of = |j: usize| {
        let kind = if kinds.len() == 1 { kinds[0] } else { kinds[j] };
        let values: Vec<T> = values.row(j).iter().copied().collect();
        let found = kind.univariate(&values).map_err(|error| input.place().says(error))?;
        found.ok_or_else(|| {
            format!(
                "option '--columns': column {:?} is categorical, which a linear decoder has no \
                 predictors for; use --decoder deep, or ordinal",
                input.names[j]
            )
        })
    };
    (0..if each { values.nrows() } else { 1 }).map(of).collect()
}

struct Run<'a, T: Real> {
    input: &'a Input<T>,
    distributions: Vec<DynUnivariate>,
    arguments: &'a Arguments,
    options: &'a Options,
}

/// Calls a function with the rows in their form: incomplete, with or without offsets.
macro_rules! with_form {
    ($rows:expr, $x:ident => $call:expr) => {{
        let rows: &Rows<T> = $rows;
        let incomplete = Incomplete(&rows.values);
        match &rows.offsets {
            Offsets::None => {
                let $x = incomplete;
                $call
            }
            Offsets::Rows(offsets) => {
                let $x = incomplete.offset(Offset::Observations(offsets));
                $call
            }
            Offsets::Entries(offsets) => {
                let $x = incomplete.offset(offsets);
                $call
            }
        }
    }};
}

impl<T: Real> Run<'_, T> {
    fn family<Q: PredictorFamily<T>>(&self) -> std::result::Result<Outcome<T>, String> {
        with_form!(&self.input.rows, x => self.with::<Q, _>(x))
    }

    fn builder<Q: PredictorFamily<T>>(
        &self,
        latent_dim: usize,
    ) -> GeneralizedPpcaBuilder<T, DynUnivariate, Q> {
        let builder = GeneralizedPpca::<T, DynUnivariate, Q>::builder_of_each(
            self.distributions.clone(),
            latent_dim,
        );
        builder.restarts(self.arguments.restarts.unwrap_or(RESTARTS))
    }

    fn with<Q, X>(&self, x: X) -> std::result::Result<Outcome<T>, String>
    where
        Q: PredictorFamily<T>,
        X: Data<T> + Copy,
        X::Form: PredictorForm<T>,
    {
        let place = self.input.place();
        let rng = &mut StdRng::seed_from_u64(self.arguments.seed);
        let latent_dim = self.latent_dim::<Q, X>(x, &place, rng)?;
        let builder = self.builder::<Q>(latent_dim);
        let fitted = if self.options.by_likelihood {
            builder.fit_likelihood(x, rng)
        } else {
            builder.fit(x, rng)
        };
        let fitted = fitted.map_err(|error| place.says(error))?;
        let mut outcome = self.outcome(&fitted, x, rng).map_err(|error| place.says(error))?;
        if let Some((_, test)) = &self.input.test {
            let place = self.input.test_place();
            with_form!(test, x => self.tested(&mut outcome, &fitted.model, x, rng))
                .map_err(|error| place.says(error))?;
        }
        Ok(outcome)
    }

    /// The latent dimension that was asked for, or that a rule chooses.
    fn latent_dim<Q, X>(
        &self,
        x: X,
        place: &Location<'_>,
        rng: &mut StdRng,
    ) -> std::result::Result<usize, String>
    where
        Q: PredictorFamily<T>,
        X: Data<T> + Copy,
        X::Form: PredictorForm<T>,
    {
        let (d, n) = self.input.rows.values.shape();
        if let Some(latent_dim) = self.arguments.latent_dim {
            return Ok(latent_dim);
        }
        let most = if self.options.by_likelihood { 2 } else { LARGEST };
        let Some(rule) = self.arguments.rule else { return Ok(2.min(d).min(n).max(1)) };
        let criterion = match rule {
            Rule::Bic => Criterion::Bic,
            _ => Criterion::HeldOut { folds: FOLDS.min(n) },
        };
        let candidates = 1..=most.min(d).min(n);
        let selection = self.builder::<Q>(1).select(candidates, criterion, x, rng);
        let selection = selection.map_err(|error| place.says(error))?;
        note(&format!("note: {rule}: {selection}"));
        Ok(selection.latent_dim.max(1))
    }

    fn outcome<Q, X>(
        &self,
        fitted: &Fitted<GeneralizedPpca<T, DynUnivariate, Q>>,
        x: X,
        rng: &mut StdRng,
    ) -> Result<Outcome<T>>
    where
        Q: PredictorFamily<T>,
        X: Data<T> + Copy,
        X::Form: PredictorForm<T>,
    {
        let model = &fitted.model;
        let n = self.input.rows.values.ncols() as f64;
        let sum = |values: &[T]| values.iter().map(|v| v.as_f64()).sum::<f64>();
        let elbo = sum(model.elbo_of(x)?.values().as_slice());
        let starts = match fitted.trace.starts() {
            [] => vec![fitted.trace.last().unwrap_or(f64::NAN) * n],
            starts => starts.iter().map(|start| start * n).collect(),
        };
        let standard_errors = match self.options.by_likelihood {
            true => Some(model.standard_errors(x)?),
            false => None,
        };
        Ok(Outcome {
            latent_dim: model.latent_dim(),
            elbo: Some(elbo),
            log_likelihood: Some(log_likelihood(model, x, rng)?),
            starts,
            loadings: Some(model.predictor_loadings().into_owned()),
            intercepts: Some(model.intercepts().into_owned()),
            iterations: fitted.iterations(),
            stop: fitted.stop.name(),
            test_elbo: None,
            test_log_likelihood: None,
            test_inference: None,
            codes: model.codes().into_owned(),
            standard_errors: standard_errors.map(|errors| (errors.loadings, errors.intercepts)),
            trained: None,
        })
    }

    /// Adds the figures of the rows for testing.
    fn tested<Q, X>(
        &self,
        outcome: &mut Outcome<T>,
        model: &GeneralizedPpca<T, DynUnivariate, Q>,
        x: X,
        rng: &mut StdRng,
    ) -> Result<()>
    where
        Q: PredictorFamily<T>,
        X: Data<T> + Copy,
        X::Form: PredictorForm<T>,
    {
        let of_test = model.with_observations(x)?;
        let values = of_test.elbo_of(x)?.values();
        outcome.test_elbo = Some(values.iter().map(|v| v.as_f64()).sum());
        outcome.test_log_likelihood = Some(log_likelihood(&of_test, x, rng)?.value);
        outcome.test_inference = Some("by ascent at the fitted parameters");
        Ok(())
    }
}

/// log p by quadrature where k ≤ 2, else by importance sampling.
fn log_likelihood<T, Q, X>(
    model: &GeneralizedPpca<T, DynUnivariate, Q>,
    x: X,
    rng: &mut StdRng,
) -> Result<LogLikelihood>
where
    T: Real,
    Q: PredictorFamily<T>,
    X: Data<T>,
    X::Form: PredictorForm<T>,
{
    if model.latent_dim() <= 2 {
        let found = model.log_likelihood_by_quadrature(x)?;
        let value = found.values.iter().map(|v| v.as_f64()).sum();
        return Ok(LogLikelihood { value, method: "quadrature", standard_error: None });
    }
    let sampling = ImportanceSampling { samples: SAMPLES, ..ImportanceSampling::default() };
    let found = model.log_likelihood_by_importance(&sampling, x, rng)?.log_likelihood;
    Ok(LogLikelihood {
        value: found.values().iter().sum(),
        method: "importance",
        standard_error: Some(found.errors().iter().map(|e| e * e).sum::<f64>().sqrt()),
    })
}
