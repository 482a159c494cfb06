//! Rules of thumb for k: a share of the variance, and parallel analysis.

use super::{Selection, Spectrum};
use crate::data::Centering;
use crate::{Error, IntoObservations, Observations, Real, Result};
use nalgebra::DMatrix;
use rand::{Rng, RngExt};

/// Number of permuted tables of parallel analysis.
const PERMUTED: usize = 100;

/// Share of the permuted tables whose eigenvalue an eigenvalue must exceed.
const QUANTILE: f64 = 0.95;

/// Rounding error of a share of the variance that does not count: a k that explains all of it has
/// the share 1.
const ROUNDING: f64 = 1e-12;

impl Selection {
    /// Chooses the smallest k whose leading principal components have at least this share of the
    /// variance: Σ_{j≤k} λ_j ≥ share·Σ_j λ_j. The score of each k is its share.
    ///
    /// The boundary belongs to k: with eigenvalues 6, 3, 1 a share of 0.9 gives 2. It is a rule of
    /// thumb: the share says nothing about signal and noise.
    ///
    /// ```
    /// use elbo::selection::Selection;
    /// // Two observations above and below 0 in each direction: variances in the ratio 9 : 1.
    /// let x = nalgebra::dmatrix![3.0, -3.0, 0.0, 0.0; 0.0, 0.0, 1.0, -1.0];
    /// assert_eq!(Selection::variance_share(&x, 0.9)?.latent_dim, 1);
    /// assert_eq!(Selection::variance_share(&x, 0.91)?.latent_dim, 2);
    /// # Ok::<(), elbo::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of [`Self::ppca`]; [`Error::InvalidParameter`] for a share that is not in (0, 1].
    #[doc(alias = "explained variance")]
    pub fn variance_share<'a, T: Real>(
        x: impl IntoObservations<'a, T>,
        share: f64,
    ) -> Result<Self> {
        if !(share > 0.0 && share <= 1.0) {
            return Err(Error::InvalidParameter {
                name: "the share of the variance",
                value: share,
                must: "above 0 and at most 1",
            });
        }
        let spectrum = Spectrum::of(x.into_observations()?, Centering::Mean)?;
        let total: f64 = spectrum.eigenvalues().iter().rev().sum();
        let mut sum = 0.0;
        let mut scores = vec![(0, 0.0)];
        for (j, variance) in spectrum.eigenvalues().iter().take(spectrum.rank()).enumerate() {
            sum += variance;
            scores.push((j + 1, sum / total));
        }
        let reached = scores.iter().find(|(_, found)| *found >= share - ROUNDING);
        let latent_dim = reached.map_or(spectrum.rank(), |&(k, _)| k);
        let (redundant, _) = spectrum.left_out();
        Ok(Self { latent_dim, redundant, ..Self::from_scores(scores) })
    }

    /// Horn's parallel analysis: k is the number of leading eigenvalues of the covariance that
    /// exceed what independent variables have. 0 is an answer.
    ///
    /// The values of each variable are permuted over the observations, in 100 tables; λ_j counts if
    /// it exceeds the 95 % quantile of the j-th eigenvalue of these, and all before it do. The score
    /// of k ≥ 1 is λ_k less that quantile, in units of the data squared. Permuted variables keep
    /// their variances: where these differ by orders of magnitude, standardise them first.
    /// [Horn 1965](https://doi.org/10.1007/BF02289447);
    /// [Buja & Eyuboglu 1992](https://doi.org/10.1207/s15327906mbr2704_2).
    ///
    /// ```
    /// use elbo::{Ppca, selection::Selection};
    /// use nalgebra::{DVector, dmatrix};
    /// use rand::{SeedableRng, rngs::StdRng};
    /// let rng = &mut StdRng::seed_from_u64(1);
    /// let loadings = dmatrix![2.0, 0.0; 2.0, 0.0; 2.0, 0.0; 0.0, 1.5; 0.0, 1.5; 0.0, 1.5];
    /// let x = Ppca::from_parameters(loadings, DVector::zeros(6), 1.0)?.sample(100, rng);
    /// assert_eq!(Selection::parallel_analysis(&x, rng)?.latent_dim, 2);
    /// # Ok::<(), elbo::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of [`Self::ppca`].
    #[doc(alias = "Horn")]
    pub fn parallel_analysis<'a, T: Real, R: Rng + ?Sized>(
        x: impl IntoObservations<'a, T>,
        rng: &mut R,
    ) -> Result<Self> {
        let x = x.into_observations()?;
        let spectrum = Spectrum::of(x, Centering::Mean)?;
        let rank = spectrum.rank();
        let mut rows: DMatrix<T> = x.values().transpose();
        let mut permuted = vec![Vec::with_capacity(PERMUTED); rank];
        for _ in 0..PERMUTED {
            for mut variable in rows.column_iter_mut() {
                for last in (1..variable.len()).rev() {
                    variable.swap_rows(last, rng.random_range(0..=last));
                }
            }
            let table = rows.transpose();
            let found = Spectrum::of(Observations::new(table.as_view())?, Centering::Mean)?;
            for (values, &value) in permuted.iter_mut().zip(found.eigenvalues()) {
                values.push(value);
            }
        }
        let quantile = |values: &mut Vec<f64>| {
            values.sort_by(f64::total_cmp);
            let place = (QUANTILE * values.len() as f64).ceil() as usize;
            values[place.clamp(1, values.len()) - 1]
        };
        let scores: Vec<(usize, f64)> = spectrum
            .eigenvalues()
            .iter()
            .zip(&mut permuted)
            .enumerate()
            .map(|(j, (value, values))| (j + 1, value - quantile(values)))
            .collect();
        let latent_dim = scores.iter().take_while(|(_, margin)| *margin > 0.0).count();
        let (redundant, _) = spectrum.left_out();
        Ok(Self { latent_dim, redundant, ..Self::from_scores(scores) })
    }
}
