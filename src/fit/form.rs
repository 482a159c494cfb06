//! Which forms of data a builder can fit its model to.

use super::{Fitted, Observer};
use crate::Result;
use rand::Rng;

/// A builder that can fit its model to data of form `F` (see [`Data`](crate::data::Data)).
///
/// The `fit` methods of the builders require it, so that a fit that does not exist does not
/// compile: a variational autoencoder of sparse data, for example.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be fitted to data of the form `{F}`",
    label = "this model has no fit for this form of data",
    note = "every model is fitted to complete data in memory (`&x`); the documentation of \
            `elbo::data::Data` lists the other forms"
)]
pub trait FitData<F> {
    /// The fitted model.
    type Model;

    /// Fits the model to data of this form; the observer is called after each iteration.
    ///
    /// # Errors
    /// Those of the `fit` method of the builder.
    fn fit_form(
        &self,
        data: F,
        rng: &mut dyn Rng,
        observer: &mut dyn Observer,
    ) -> Result<Fitted<Self::Model>>;
}

/// A builder whose default fit to data of form `F` draws no random numbers.
#[diagnostic::on_unimplemented(
    message = "fitting `{Self}` to data of the form `{F}` draws random numbers",
    note = "pass a generator: `Model::builder(k).fit(data, &mut rng)`"
)]
pub trait Deterministic<F>: FitData<F> {}

/// The generator of a deterministic fit, which draws nothing from it.
pub(crate) fn unused_generator() -> impl Rng {
    use rand::SeedableRng;
    rand::rngs::Xoshiro256PlusPlus::seed_from_u64(0)
}
