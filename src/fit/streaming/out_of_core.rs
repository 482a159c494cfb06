//! Principal components of data that are read in blocks (out-of-core).

use crate::data::{Centering, Moments, Source, check_latent_dim, resolution_of};
use crate::fit::closed_form::{Principal, SolverReport};
use crate::linalg::{Captured, Solver, add_product};
use crate::{Error, Observations, Real, Result};
use nalgebra::{DMatrix, DVector};

/// Number of variables from which on `Solver::Auto` forms no d×d matrix: 2000² entries in double
/// precision take 32 MB.
const WIDE: usize = 2000;

impl Principal {
    /// Computes the principal components from a source. Few variables: one pass and O(d² + block)
    /// memory for the [moments](Moments). Many variables: matrix-free, with one pass for each
    /// product and O(dk + block) memory.
    pub(crate) fn of_source<T: Real>(
        source: &mut dyn Source<T>,
        mean: Centering,
        latent_dim: usize,
        solver: Solver,
    ) -> Result<Self> {
        let by_products = match solver {
            Solver::Auto => source.data_dim() >= WIDE,
            Solver::Krylov | Solver::Randomized { .. } => true,
            _ => false,
        };
        if by_products {
            return Self::by_passes(source, mean, latent_dim, solver);
        }
        let moments = Moments::of_source(source)?;
        Self::of_root(&moments.scatter_factor(mean)?, moments.weight(), latent_dim, solver)
    }

    fn by_passes<T: Real>(
        source: &mut dyn Source<T>,
        mean: Centering,
        latent_dim: usize,
        solver: Solver,
    ) -> Result<Self> {
        let d = source.data_dim();
        // The mean needs a pass of its own: products with S = (1/n) Σ (x−μ)(x−μ)ᵗ are sums over
        // centred data, as a correction of uncentred products would cancel.
        let (centre, n) = mean_of(source, mean)?;
        check_latent_dim(latent_dim, n, d)?;
        let mut passes = 1;
        let found = solver.leading_of(d, latent_dim, |v, mut out| {
            out.fill(0.0);
            let mut seen = 0;
            source.pass(&mut |x| {
                x.expect_dim(d)?;
                seen += x.len();
                for_each_centred_block(x, &centre, |part| add_product(&part, v, &mut out));
                Ok(())
            })?;
            passes += 1;
            // A source that yields other data in each pass would give products with different
            // matrices, and a wrong answer without an error.
            same_count(n, seen)?;
            out /= n as f64;
            Ok(())
        })?;
        // The variances come from one more pass, as sums of squares along and outside the
        // directions found: both are accurate where tr S − Σλ_j would cancel.
        let mut captured = Captured::new(latent_dim);
        source.pass(&mut |x| {
            for_each_centred_block(x, &centre, |part| captured.add(part, &found.vectors));
            Ok(())
        })?;
        let variances = DVector::from_vec(captured.values) / n as f64;
        let outside = captured.outside / n as f64;
        let tolerance = resolution_of(variances.sum() + outside, &centre, n)?;
        let route =
            SolverReport { solver: found.solver, passes: passes + 1, accuracy: found.accuracy };
        Ok(Self {
            directions: found.vectors,
            variances,
            outside,
            mean: centre,
            weight: n as f64,
            tolerance,
            route,
        })
    }
}

/// Returns the mean μ (0 without centring) and the number n of observations.
fn mean_of<T: Real>(source: &mut dyn Source<T>, mean: Centering) -> Result<(DVector<f64>, usize)> {
    let d = source.data_dim();
    let (mut centre, mut n) = (DVector::<f64>::zeros(d), 0);
    source.pass(&mut |x| {
        x.expect_dim(d)?;
        n += x.len();
        if mean == Centering::Mean {
            // Running mean (Chan, Golub & LeVeque): the plain sum of all observations would lose
            // digits as it grows.
            centre += (x.wide_mean() - &centre) * (x.len() as f64 / n as f64);
        }
        Ok(())
    })?;
    let least = if mean == Centering::Mean { 2 } else { 1 };
    if n < least {
        return Err(Error::TooFewObservations { actual: n, least });
    }
    Ok((centre, n))
}

fn same_count(expected: usize, actual: usize) -> Result<()> {
    crate::data::expect("observations in a later pass over the same source", expected, actual)
}

/// Calls `f` with the centred data in double precision, a part of the block at a time.
fn for_each_centred_block<T: Real>(
    x: Observations<'_, T>,
    mean: &DVector<f64>,
    mut f: impl FnMut(DMatrix<f64>),
) {
    // The caller chooses the block size of the source; parts of bounded size keep the copy in
    // double precision small.
    let block = crate::linalg::block_columns(x.data_dim());
    for first in (0..x.len()).step_by(block) {
        let mut part = x.values().columns(first, block.min(x.len() - first)).map(|v| v.as_f64());
        part.column_iter_mut().for_each(|mut column| column -= mean);
        f(part);
    }
}
