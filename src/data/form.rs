//! The forms in which data come: one trait for everything that a model can be fitted to or applied
//! to.

use super::{
    Dense, IncompleteObservations, Moments, Observations, Offset, Source, SparseObservations,
    WithOffset,
};
use crate::{Real, Result};
use nalgebra::{DMatrix, DMatrixView};

/// Data in any form: `fit`, `transform` and `log_likelihood` take every form that the model can
/// serve.
///
/// | data | form |
/// |---|---|
/// | `&DMatrix`, a matrix view, [`Observations`] | [`Dense`]: complete, in memory |
/// | [`Incomplete`]`(&x)`, [`IncompleteObservations`] | with missing values |
/// | [`SparseObservations`] | sparse, with an implicit mean |
/// | `&mut` [`Source`] | blocks that are read again and again, such as a file larger than memory |
/// | `&`[`Moments`] | sufficient statistics of data that need no longer exist |
/// | [`Weighted`] | dense or incomplete data with a weight for each observation |
/// | [`WithOffset`] | data with known offsets of the linear predictors |
///
/// A model that cannot serve a form does not compile with it.
///
/// ```
/// use elbo::{Ppca, data::{Data, IncompleteObservations, Moments}};
/// use nalgebra::dmatrix;
/// use rand::{SeedableRng, rngs::StdRng};
/// let x = dmatrix![
///     1.0_f64, 2.0, 3.0, 4.0, 5.0;
///     2.1, 3.9, 6.2, 7.8, 10.1;
///     1.0, 0.0, 1.0, 0.0, 1.0];
/// let dense = Ppca::fit(1, &x)?;
/// let weighted = Ppca::fit(1, x.weighted(&[1.0; 5]))?;
/// let mut moments = Moments::new(3);
/// moments.update(&x)?;
/// let streamed = Ppca::<f64>::fit(1, &moments)?;
/// let mut table = x.clone();
/// table[(2, 4)] = f64::NAN;
/// let incomplete = IncompleteObservations::new(table.as_view())?;
/// let rng = &mut StdRng::seed_from_u64(0);
/// let from_incomplete = Ppca::builder(1).fit(incomplete, rng)?;
/// assert!((dense.model.noise_variance() - streamed.model.noise_variance()).abs() < 1e-12);
/// assert!((dense.model.noise_variance() - weighted.model.noise_variance()).abs() < 1e-12);
/// assert_eq!(from_incomplete.model.transform(incomplete)?.shape(), (1, 5));
/// # Ok::<(), elbo::Error>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not data of scalar `{T}`",
    label = "expected a matrix by reference, a view, or a type of `elbo::data`",
    note = "pass `&x` for a matrix `x` (d×n, an observation a column)"
)]
pub trait Data<T: Real>: Sized {
    /// The form of the data, after validation where it is not fused into the first pass.
    type Form;

    /// Validates the data and brings them into their form.
    ///
    /// # Errors
    /// Those of the constructor of the form.
    fn into_form(self) -> Result<Self::Form>;

    /// The same data with a weight w_i ≥ 0 for each observation.
    fn weighted(self, weights: &[T]) -> Weighted<'_, Self, T> {
        Weighted { data: self, weights }
    }

    /// The same data with known offsets of the predictors, for models whose likelihood has linear
    /// predictors, such as [`GeneralizedPpca`](crate::steps::GeneralizedPpca).
    fn offset<'o>(self, offset: impl Into<Offset<'o, T>>) -> WithOffset<'o, Self, T> {
        WithOffset { data: self, offset: offset.into() }
    }
}

/// A complete matrix type read as incomplete data: NaN marks a missing value.
///
/// ```
/// use elbo::{Ppca, data::Incomplete};
/// use rand::{SeedableRng, rngs::StdRng};
/// let x = nalgebra::dmatrix![
///     1.0, 2.0, 3.0, 4.0, 5.0, 6.0;
///     2.1, 3.9, f64::NAN, 7.8, 10.1, 11.9;
///     0.3, 0.1, 0.2, 0.3, 0.1, 0.2];
/// let fit = Ppca::builder(1).fit(Incomplete(&x), &mut StdRng::seed_from_u64(0))?;
/// let completed = fit.model.impute(&x)?;
/// assert!((completed[(1, 2)] - 6.0).abs() < 0.5);
/// assert_eq!(fit.model.log_likelihood(Incomplete(&x))?.len(), 6);
/// # Ok::<(), elbo::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Incomplete<X>(pub X);

/// Data with a weight w_i ≥ 0 for each observation, by which its log-likelihood is multiplied.
///
/// A weight of 2 equals two copies of the observation, a weight of 0 none; means and covariances
/// have the divisor Σw. The objective in the trace is per unit of weight.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Weighted<'w, D, T> {
    pub(crate) data: D,
    pub(crate) weights: &'w [T],
}

impl<'w, T: Real, D: Data<T>> Data<T> for Weighted<'w, D, T> {
    type Form = Weighted<'w, D::Form, T>;

    fn into_form(self) -> Result<Self::Form> {
        Ok(Weighted { data: self.data.into_form()?, weights: self.weights })
    }
}

/// Implements [`Data`] for a type that is its own form, or becomes it by an infallible expression.
macro_rules! form {
    ($($(#[$note:meta])* [$($generics:tt)*] $data:ty => $form:ty, $self:ident => $value:expr;)*) => {$(
        $(#[$note])*
        impl<$($generics)*> Data<T> for $data {
            type Form = $form;
            fn into_form($self) -> Result<$form> {
                Ok($value)
            }
        }
    )*};
}
form! {
    // Complete matrices are validated in the first pass over them, so that large ones are read
    // once.
    ['a, T: Real] &'a DMatrix<T> => Dense<'a, T>, self => Dense::unvalidated(self.as_view());
    ['a, T: Real] DMatrixView<'a, T> => Dense<'a, T>, self => Dense::unvalidated(self);
    ['a, T: Real] Dense<'a, T> => Dense<'a, T>, self => self;
    ['a, T: Real] Observations<'a, T> => Dense<'a, T>, self => self.into();
    ['a, T: Real] &Observations<'a, T> => Dense<'a, T>, self => (*self).into();
    ['a, T: Real] IncompleteObservations<'a, T> => IncompleteObservations<'a, T>, self => self;
    ['a, T: Real] &IncompleteObservations<'a, T> => IncompleteObservations<'a, T>, self => *self;
    ['a, T: Real] Incomplete<&'a DMatrix<T>> => IncompleteObservations<'a, T>,
        self => IncompleteObservations::new(self.0.as_view())?;
    ['a, T: Real] Incomplete<DMatrixView<'a, T>> => IncompleteObservations<'a, T>,
        self => IncompleteObservations::new(self.0)?;
    ['a, T: Real] Incomplete<IncompleteObservations<'a, T>> => IncompleteObservations<'a, T>,
        self => self.0;
    ['a, T: Real] Incomplete<Observations<'a, T>> => IncompleteObservations<'a, T>,
        self => super::IntoIncompleteObservations::into_incomplete(self.0)?;
    ['a, T: Real] SparseObservations<'a, T> => SparseObservations<'a, T>, self => self;
    ['a, T: Real] &SparseObservations<'a, T> => SparseObservations<'a, T>, self => *self;
    ['a, T: Real] &'a Moments => &'a Moments, self => self;
    ['a, T: Real, S: Source<T>] &'a mut S => &'a mut dyn Source<T>, self => self;
}

/// Complete data in memory, which methods take that need every entry: a matrix by reference, a
/// view, or validated observations.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not complete data in memory",
    label = "this call needs every entry of every observation",
    note = "pass `&x` for a matrix `x` (d×n, an observation a column), a view, or `Observations`"
)]
pub trait IntoObservations<'a, T: Real>: Data<T, Form = Dense<'a, T>> {
    /// Validates the data, unless they are validated already.
    ///
    /// # Errors
    /// As [`Observations::new`].
    fn into_observations(self) -> Result<Observations<'a, T>> {
        self.into_form()?.validate()
    }
}

// One by one and not for every `Data<T, Form = Dense>`: only then does the compiler report the
// words above instead of a mismatch of associated types.
impl<'a, T: Real> IntoObservations<'a, T> for &'a DMatrix<T> {}
impl<'a, T: Real> IntoObservations<'a, T> for DMatrixView<'a, T> {}
impl<'a, T: Real> IntoObservations<'a, T> for Dense<'a, T> {}
impl<'a, T: Real> IntoObservations<'a, T> for Observations<'a, T> {}
impl<'a, T: Real> IntoObservations<'a, T> for &Observations<'a, T> {}

/// The form of data of a model that is fitted to complete data in memory only.
#[diagnostic::on_unimplemented(
    message = "this model cannot be fitted to data of the form `{Self}`",
    label = "this model has no fit for this form of data",
    note = "it is fitted to complete data in memory: pass `&x`; `Ppca`, `FactorAnalysis`, `Vae` and \
            mixtures take incomplete data"
)]
pub trait CompleteForm<T: Real> {
    /// The validated observations.
    ///
    /// # Errors
    /// As [`Observations::new`].
    fn observations(&self) -> Result<Observations<'_, T>>;
}

impl<T: Real> CompleteForm<T> for Dense<'_, T> {
    fn observations(&self) -> Result<Observations<'_, T>> {
        self.validate()
    }
}
