//! Fits of a linear decoder under any likelihood of variables that are independent given one linear
//! predictor each.
//!
//! J is deterministic: the expectation of a log-density over a normal predictor is in closed form
//! or by quadrature ([`expectation`]). It is maximised over θ and φ together by a quasi-Newton
//! method whose initial inverse curvature has a block for each variable and each observation
//! ([`ascent`]). The distinct observations and their weights are in [`table`], J and its gradient in
//! [`problem`], initialisations in [`start`], and [`arrange`] fixes what J leaves open.

mod arrange;
pub(crate) mod ascent;
mod expectation;
mod likelihood_fit;
mod marginal;
mod problem;
mod shape;
mod start;
mod table;

#[doc(hidden)]
pub use shape::PredictorFamily;
pub(crate) use shape::Shape;
#[doc(hidden)]
pub use table::PredictorForm;
pub(crate) use table::{Table, check_table, expect_shape};

pub(crate) use marginal::{LARGEST_DIM, Place, integrate};
pub(crate) use problem::Theta;

use crate::Result;
use crate::fit::{Observer, StopReason, Trace};
use crate::likelihood::{Independent, Univariate};
use crate::linalg::parallel::map_blocks;
use ascent::{Ascended, Point, Settings, ascend};
use nalgebra::DMatrix;
use problem::{Prior, Problem};
use rand::Rng;

/// A fit: θ, the φ of each distinct observation, and how it was reached.
pub(crate) struct Fit {
    pub(crate) theta: Theta,
    pub(crate) phi: DMatrix<f64>,
    pub(crate) trace: Trace,
    pub(crate) stop: StopReason,
}

/// Maximises J over θ and φ from a data-dependent initialisation and from random ones; the best is
/// kept.
pub(crate) fn fit<U: Univariate<f64>>(
    table: &Table<'_>,
    likelihood: &Independent<f64, U>,
    (shape, latent_dim): (Shape, usize),
    restarts: usize,
    settings: Settings,
    rng: &mut dyn Rng,
    observer: &mut dyn Observer,
) -> Result<Fit> {
    let problem = Problem { table, likelihood, shape, latent_dim, prior: Prior::Best };
    let residuals = problem.residuals(start::width(latent_dim))?;
    let mut best: Option<Ascended> = None;
    let mut finals = Vec::new();
    for index in 0..=restarts {
        let start = match index {
            0 => problem.data_start(&residuals),
            _ => problem.random_start(&residuals, rng),
        };
        // A random initialisation may be one at which J overflows; the first may not.
        let start = match start {
            Err(_) if index > 0 => continue,
            start => start?,
        };
        let found = ascend(&problem, start, false, settings, observer);
        let value = found.trace.last().unwrap_or(f64::NEG_INFINITY);
        finals.push(value);
        let interrupted = found.stop == StopReason::Interrupted;
        let better = |best: &Ascended| best.trace.last().is_none_or(|best| value > best);
        if best.as_ref().is_none_or(better) {
            best = Some(found);
        }
        if interrupted {
            break;
        }
    }
    let Some(Ascended { mut point, mut trace, stop }) = best else {
        return Err(crate::Error::ObjectiveAtStart { value: f64::NAN });
    };
    if restarts > 0 {
        trace.set_starts(finals);
    }
    problem.arrange(&mut point)?;
    Ok(Fit { theta: point.theta, phi: point.phi, trace, stop })
}

/// Maximises log p(x) over θ by quadrature over z (k ≤ 2), from the maximum of J; the returned φ is
/// that of the maximum of J, and belongs to another θ.
pub(crate) fn fit_likelihood<U: Univariate<f64>>(
    table: &Table<'_>,
    likelihood: &Independent<f64, U>,
    (shape, latent_dim): (Shape, usize),
    restarts: usize,
    settings: Settings,
    rng: &mut dyn Rng,
    observer: &mut dyn Observer,
) -> Result<Fit> {
    let family = (shape, latent_dim);
    let bound = fit(table, likelihood, family, restarts, settings, rng, &mut ())?;
    let problem = Problem { table, likelihood, shape, latent_dim, prior: Prior::Standard };
    let start = Point { theta: bound.theta, phi: bound.phi };
    let (theta, trace, stop) = problem.maximize_likelihood(&start, settings, observer);
    let mut point = Point { theta, phi: start.phi };
    // log p does not depend on the rotation of z: that of full covariances is fixed.
    problem.rotate_loadings(&mut point.theta)?;
    Ok(Fit { theta: point.theta, phi: point.phi, trace, stop })
}

/// log p(x_i) and its estimated error, in nats, of each distinct observation, from lattices at the
/// moments of q.
pub(crate) fn log_likelihood<U: Univariate<f64>>(
    table: &Table<'_>,
    likelihood: &Independent<f64, U>,
    theta: &Theta,
    (shape, phi): (Shape, &DMatrix<f64>),
) -> Vec<(f64, f64)> {
    let latent_dim = theta.loadings.ncols();
    let problem = Problem { table, likelihood, shape, latent_dim, prior: Prior::Standard };
    problem.log_likelihood(theta, &problem.places(phi), false).each
}

/// The observed information of log p at θ, in the order loadings, intercepts, ξ.
pub(crate) fn information<U: Univariate<f64>>(
    table: &Table<'_>,
    likelihood: &Independent<f64, U>,
    theta: &Theta,
    (shape, phi): (Shape, &DMatrix<f64>),
) -> DMatrix<f64> {
    let latent_dim = theta.loadings.ncols();
    let problem = Problem { table, likelihood, shape, latent_dim, prior: Prior::Standard };
    let found = problem.log_likelihood(theta, &problem.places(phi), false);
    problem.information(theta, &found.places)
}

/// The φ of some observations of the data that maximise J at fixed θ, each by an ascent of its own.
pub(crate) fn posterior<U: Univariate<f64>>(
    table: &Table<'_>,
    observations: &[usize],
    likelihood: &Independent<f64, U>,
    theta: &Theta,
    shape: Shape,
    settings: Settings,
) -> DMatrix<f64> {
    let latent_dim = theta.loadings.ncols();
    let (d, n) = (table.variables, observations.len());
    let work = n.saturating_mul(d).saturating_mul(64 * (latent_dim + 1));
    let columns = map_blocks(n, work, |place| {
        let own = table.only(observations[place]);
        let problem =
            Problem { table: &own, likelihood, shape, latent_dim, prior: Prior::Standard };
        let phi = problem.posterior_from_prior(theta);
        let start = Point { theta: theta.clone(), phi };
        let value = problem.evaluate(&start.theta, &start.phi).value;
        // From the prior itself where the steps led to where J overflows.
        let start = match value.is_finite() {
            true => start,
            false => Point { phi: DMatrix::zeros(shape.rows(latent_dim), 1), ..start },
        };
        ascend(&problem, start, true, settings, &mut ()).point.phi
    });
    let mut phi = DMatrix::zeros(shape.rows(latent_dim), n);
    for (i, column) in columns.into_iter().enumerate() {
        phi.set_column(i, &column.column(0));
    }
    phi
}

/// E_q ln p(x_i|z_i) of each distinct observation, in nats.
pub(crate) fn expected_log_likelihood<U: Univariate<f64>>(
    table: &Table<'_>,
    likelihood: &Independent<f64, U>,
    theta: &Theta,
    (shape, phi): (Shape, &DMatrix<f64>),
) -> Vec<f64> {
    let latent_dim = theta.loadings.ncols();
    Problem { table, likelihood, shape, latent_dim, prior: Prior::Standard }.expected(theta, phi)
}
