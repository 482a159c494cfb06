//! Closed-form fits to each form of data: dense, weighted, sparse, moments, sources.

use crate::data::{Centering, SparseObservations, check_latent_dim, resolution_of};
use crate::fit::closed_form::Principal;
use crate::fit::{Solver, SolverReport};
use crate::{Error, Real, Result};
use nalgebra::DVector;

impl Principal {
    /// The principal components of sparse observations, matrix-free: by products with the table and
    /// its transpose. The mean is subtracted from the products, so that the table stays sparse.
    pub(super) fn of_sparse<T: Real>(
        x: SparseObservations<'_, T>,
        mean: Centering,
        latent_dim: usize,
        solver: Solver,
    ) -> Result<Self> {
        if !matches!(solver, Solver::Auto | Solver::Krylov | Solver::Randomized { .. }) {
            return Err(Error::Unsupported {
                what: "sparse observations",
                must: "Solver::Auto, Krylov or Randomized",
            });
        }
        let n = x.len() as f64;
        let centre = x.centre(mean)?;
        check_latent_dim(latent_dim, x.len(), x.data_dim())?;
        let total = x.squared_deviations(&centre) / n;
        resolution_of(total, &centre, x.len())?;
        // The mean and the total variance have taken a pass each.
        let mut passes = 2;
        let found = solver.leading_of(x.data_dim(), latent_dim, |v, mut out| {
            passes += 1;
            out.copy_from(&(x.scatter_product(v, &centre) / n));
            Ok(())
        })?;
        let (along, _) = x.projections(&found.vectors, &centre);
        let variances =
            DVector::from_iterator(latent_dim, along.row_iter().map(|row| row.norm_squared() / n));
        let outside = (total - variances.sum()).max(0.0);
        // The residual variance is a difference of two sums in double precision. Below 1e-12 of the
        // total it is dominated by cancellation, and counts as 0.
        let tolerance = 1e-12 * total;
        let route =
            SolverReport { solver: found.solver, passes: passes + 1, accuracy: found.accuracy };
        Ok(Self {
            directions: found.vectors,
            variances,
            outside,
            mean: centre,
            weight: n,
            tolerance,
            route,
        })
    }
}

/// Implements the closed-form fits of a builder that has `check_settings`, `assemble_principal`,
/// `solver`, `fit_moments` and the fields `mean` and `latent_dim`.
///
/// Weighted data: mean and covariance are weighted, with divisor Σw. Sparse data: time proportional
/// to the stored entries, O((n + d)k) memory. Sources: up to 2000 variables one pass and
/// O(d² + block) memory; beyond, or with [`Solver::Krylov`](crate::fit::Solver::Krylov), one pass
/// for each product and O(dk + block);
/// [`Solver::Randomized`](crate::fit::Solver::Randomized) takes as many passes as its power
/// iterations and 4 more.
macro_rules! closed_form_fits {
    ($builder:ident, $model:ident) => {
        impl<T: Real> $builder<T> {
            /// The closed-form fit from principal components.
            fn solved(&self, principal: Principal) -> Result<Fitted<$model<T>>> {
                let route = principal.route;
                Ok(Fitted::closed_form(self.assemble_principal(principal)?, route))
            }
        }

        impl<'a, T: Real> FitData<crate::data::Weighted<'a, Dense<'a, T>, T>> for $builder<T> {
            type Model = $model<T>;

            fn fit_form(
                &self,
                x: crate::data::Weighted<'a, Dense<'a, T>, T>,
                rng: &mut dyn Rng,
                observer: &mut dyn Observer,
            ) -> Result<Fitted<$model<T>>> {
                let data = x.data.validate()?;
                let mut moments = crate::data::Moments::new(data.data_dim());
                moments.update_weighted(data, x.weights)?;
                self.fit_moments(&moments, rng, observer)
            }
        }

        impl<'a, T: Real> FitData<&'a crate::data::Moments> for $builder<T> {
            type Model = $model<T>;

            fn fit_form(
                &self,
                moments: &'a crate::data::Moments,
                rng: &mut dyn Rng,
                observer: &mut dyn Observer,
            ) -> Result<Fitted<$model<T>>> {
                self.fit_moments(moments, rng, observer)
            }
        }

        impl<'a, T: Real> FitData<&'a mut dyn crate::data::Source<T>> for $builder<T> {
            type Model = $model<T>;

            fn fit_form(
                &self,
                source: &'a mut dyn crate::data::Source<T>,
                rng: &mut dyn Rng,
                observer: &mut dyn Observer,
            ) -> Result<Fitted<$model<T>>> {
                self.check_settings()?;
                // An iterative fit passes once over the source, and iterates on its scatter factor.
                let Some(solver) = self.solver() else {
                    return self.fit_moments(
                        &crate::data::Moments::of_source(source)?,
                        rng,
                        observer,
                    );
                };
                let k = self.latent_dim;
                self.solved(Principal::of_source(source, self.mean, k, solver)?)
            }
        }

        impl<'a, T: Real> FitData<crate::data::SparseObservations<'a, T>> for $builder<T> {
            type Model = $model<T>;

            fn fit_form(
                &self,
                x: crate::data::SparseObservations<'a, T>,
                _rng: &mut dyn Rng,
                _observer: &mut dyn Observer,
            ) -> Result<Fitted<$model<T>>> {
                self.check_settings()?;
                // An iterative fit needs the scatter factor, which is dense.
                let Some(solver) = self.solver() else {
                    return Err(crate::Error::Unsupported {
                        what: "sparse observations",
                        must: "the closed form",
                    });
                };
                self.solved(Principal::of_sparse(x, self.mean, self.latent_dim, solver)?)
            }
        }

        impl<'a, T: Real> crate::fit::Deterministic<Dense<'a, T>> for $builder<T> {}
        impl<'a, T: Real> crate::fit::Deterministic<crate::data::Weighted<'a, Dense<'a, T>, T>>
            for $builder<T>
        {
        }
        impl<'a, T: Real> crate::fit::Deterministic<&'a crate::data::Moments> for $builder<T> {}
        impl<'a, T: Real> crate::fit::Deterministic<&'a mut dyn crate::data::Source<T>>
            for $builder<T>
        {
        }
        impl<'a, T: Real> crate::fit::Deterministic<crate::data::SparseObservations<'a, T>>
            for $builder<T>
        {
        }
    };
}
pub(crate) use closed_form_fits;
