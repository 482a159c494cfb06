//! Known offsets of linear predictors.

use super::{Data, expect};
use crate::fit::PredictorForm;
use crate::{Error, Real, Result};
use nalgebra::{DMatrix, DMatrixView, DVector};

/// Known offsets o_ij that are added to the predictors y_ij of a likelihood, such as the logarithm
/// of an exposure: one for each observation, one for each variable, or one for each entry.
///
/// ```
/// use elbo::data::{Data, Offset, log_totals};
/// use elbo::likelihood::Poisson;
/// use elbo::steps::GeneralizedPpca;
/// use rand::{SeedableRng, rngs::StdRng};
/// let counts = nalgebra::dmatrix![3.0, 8.0, 1.0, 4.0; 2.0, 9.0, 2.0, 3.0; 7.0, 1.0, 9.0, 2.0];
/// let totals = log_totals(&counts)?;
/// let builder = GeneralizedPpca::<f64, Poisson>::builder(Poisson, 1);
/// let x = (&counts).offset(Offset::Observations(&totals));
/// let fit = builder.fit(x, &mut StdRng::seed_from_u64(0))?;
/// assert_eq!(fit.model.codes().shape(), (1, 4));
/// # Ok::<(), elbo::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Offset<'a, T: Real> {
    /// One for each observation (n), the same for all of its variables.
    Observations(&'a [T]),
    /// One for each variable (d), the same in all observations.
    Variables(&'a [T]),
    /// One for each entry, d×n.
    Entries(DMatrixView<'a, T>),
}

impl<'a, T: Real> From<&'a DMatrix<T>> for Offset<'a, T> {
    fn from(entries: &'a DMatrix<T>) -> Self {
        Self::Entries(entries.as_view())
    }
}

impl<T: Real> Offset<'_, T> {
    /// Returns an error unless the offsets fit d variables and n observations and are finite.
    pub(crate) fn check(&self, (d, n): (usize, usize)) -> Result<()> {
        let finite = |value: T, row: usize, column: usize| match value.is_finite() {
            true => Ok(()),
            false => Err(Error::InvalidOffset { row, column, value: value.as_f64() }),
        };
        match self {
            Self::Observations(offsets) => {
                expect("offsets, one for each observation", n, offsets.len())?;
                offsets.iter().enumerate().try_for_each(|(i, &o)| finite(o, 0, i))
            }
            Self::Variables(offsets) => {
                expect("offsets, one for each variable", d, offsets.len())?;
                offsets.iter().enumerate().try_for_each(|(j, &o)| finite(o, j, 0))
            }
            Self::Entries(offsets) => {
                expect("rows of the offsets", d, offsets.nrows())?;
                expect("columns of the offsets", n, offsets.ncols())?;
                let columns = offsets.column_iter().enumerate();
                columns.into_iter().try_for_each(|(i, column)| {
                    column.iter().enumerate().try_for_each(|(j, &o)| finite(o, j, i))
                })
            }
        }
    }

    /// Adds the offsets of one observation.
    pub(crate) fn add_to(&self, observation: usize, out: &mut [f64]) {
        match self {
            Self::Observations(offsets) => {
                let offset = offsets[observation].as_f64();
                out.iter_mut().for_each(|out| *out += offset);
            }
            Self::Variables(offsets) => {
                out.iter_mut().zip(*offsets).for_each(|(out, o)| *out += o.as_f64());
            }
            Self::Entries(offsets) => {
                let column = offsets.column(observation);
                out.iter_mut().zip(column.iter()).for_each(|(out, o)| *out += o.as_f64());
            }
        }
    }
}

/// Data with known offsets of the predictors; made by [`Data::offset`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WithOffset<'o, D, T: Real> {
    pub(crate) data: D,
    pub(crate) offset: Offset<'o, T>,
}

impl<'o, T: Real, D: Data<T>> Data<T> for WithOffset<'o, D, T> {
    type Form = WithOffset<'o, D::Form, T>;

    fn into_form(self) -> Result<Self::Form> {
        Ok(WithOffset { data: self.data.into_form()?, offset: self.offset })
    }
}

/// ln Σ_j x_ij of each observation: the usual offset of counts whose total is not of interest.
/// Missing entries are left out of the sum.
///
/// # Errors
/// [`Error::ZeroTotal`] for an observation whose total is not positive; those of the data's
/// constructor.
///
/// ```
/// let counts = nalgebra::dmatrix![1.0, 0.0; 2.0, 5.0];
/// assert_eq!(elbo::data::log_totals(&counts)?[1], 5.0_f64.ln());
/// assert!(elbo::data::log_totals(&nalgebra::dmatrix![1.0, 0.0; 2.0, 0.0]).is_err());
/// # Ok::<(), elbo::Error>(())
/// ```
pub fn log_totals<T: Real, X: Data<T>>(x: X) -> Result<Vec<T>>
where
    X::Form: PredictorForm<T>,
{
    let form = x.into_form()?;
    form.validate()?;
    let (d, n) = form.shape();
    let mut values = DVector::zeros(d);
    (0..n)
        .map(|observation| {
            form.values_into(observation, values.as_mut_slice());
            let total: f64 = values.iter().filter(|v| !v.is_nan()).sum();
            if total > 0.0 {
                Ok(T::of(total.ln()))
            } else {
                Err(Error::ZeroTotal { observation, total })
            }
        })
        .collect()
}
