//! Saving and loading of fitted models (feature `serde`; files: feature `save`).
//!
//! `Serialize` and `Deserialize`, for any serde format, are implemented for every
//! [`Model`](crate::Model) whose components (decoder, likelihood, inference) are [`Saved`], and so
//! for every step of the progression; for [`Pca`](crate::Pca),
//! [`MixtureOfPpca`](crate::mixture::MixtureOfPpca),
//! [`BayesianPpca`](crate::selection::BayesianPpca),
//! [`ArdPosterior`](crate::selection::ArdPosterior), [`Rotation`](crate::rotation::Rotation),
//! [`Standardization`](crate::data::Standardization), [`Moments`](crate::data::Moments) and
//! [`ResidualStatistics`](crate::model::ResidualStatistics); for the maps
//! [`Linear`](crate::map::Linear) and [`Mlp`](crate::map::Mlp); and for the optimiser
//! [`Adam`](crate::fit::Adam). With the feature `save`, each has the methods `save(path)` and
//! `load(path)`, which write and read a JSON file:
//!
//! ```
//! # #[cfg(feature = "save")] {
//! use elbo::Ppca;
//! let x = nalgebra::dmatrix![1.0, 2.0, 3.0, 4.0; 2.1, 3.9, 6.2, 7.8; 1.0, 0.0, 1.0, 0.0];
//! let model = Ppca::fit(1, &x)?.model;
//! let path = std::env::temp_dir().join(format!("elbo-doc-{}.json", std::process::id()));
//! model.save(&path)?;
//! assert_eq!(Ppca::load(&path)?, model);
//! let other = elbo::LinearAutoencoder::<f64>::load(&path).unwrap_err().to_string();
//! assert!(other.contains("the saved model is `f64: linear, isotropic_gaussian, exact`, and not"));
//! # std::fs::remove_file(&path).ok();
//! # }
//! # Ok::<(), elbo::Error>(())
//! ```
//!
//! Not saved yet are priors other than N(0, I) and, among the likelihoods,
//! [`Categorical`](crate::likelihood::Categorical), [`Product`](crate::likelihood::Product),
//! [`DynLikelihood`](crate::likelihood::DynLikelihood) and distributions of a variable with a scale or
//! a share of zeros.
//!
//! Weights of an [`Mlp`](crate::map::Mlp) go to PyTorch and JAX, and come from there, in
//! safetensors files: `save_safetensors` and `load_safetensors` (feature `safetensors`).
//!
//! # The format
//!
//! The output begins with the format version and the kind of the model (its scalar and components),
//! such as `f64: linear, isotropic_gaussian, exact`. Another version or kind is an error, returned
//! before anything else is read. A saved model is untrusted input: sizes must agree with each
//! other, every number must be finite, and σ² positive; no memory is allocated for a size before
//! that many numbers have been read. A loaded model is bit-identical to the saved one if the format
//! keeps all bits of a number. JSON files do; with a `serde_json` of your own, enable its feature
//! `float_roundtrip`.
//!
//! | version | change | earlier files |
//! |---|---|---|
//! | 1 | models with linear maps | |
//! | 2 | `DiagonalGaussian` has `analytic`; all other kinds | read, but for `DiagonalGaussian` |
//!
//! # Components of your own
//!
//! Implement [`Saved`] for a map, a likelihood, the distribution of a variable
//! ([`Univariate`](crate::likelihood::Univariate)), an encoder or an inference, and [`NamedFamily`] for
//! a posterior family. Every model and encoder made of them can then be saved.
//!
//! ```
//! use elbo::inference::{Amortized, Encoder, GaussianEncoder};
//! use elbo::map::Linear;
//! use elbo::posterior::Posterior;
//! use elbo::saved::Saved;
//! use elbo::{Observations, Ppca, Result};
//!
//! /// An encoder to the posterior of a model that is kept as it is.
//! #[derive(Clone, PartialEq, Debug)]
//! struct Frozen(Ppca);
//! # impl Encoder<f64> for Frozen {
//! #     type Posterior = elbo::posterior::SharedCovariance<f64>;
//! #     fn observed_dim(&self) -> usize { self.0.data_dim() }
//! #     fn latent_dim(&self) -> usize { self.0.latent_dim() }
//! #     fn encode(&self, x: Observations<'_, f64>) -> Result<Self::Posterior> { self.0.encode(x) }
//! # }
//! impl Saved<f64> for Frozen {
//!     type Form = Ppca; // any type that is serialisable
//!     fn kind() -> String { "frozen".into() }
//!     fn to_form(&self) -> Ppca { self.0.clone() }
//!     fn from_form(form: Ppca) -> Result<Self> { Ok(Self(form)) }
//! }
//!
//! type Model = elbo::Model<f64, Linear<f64>, elbo::likelihood::Bernoulli, Amortized<Frozen>>;
//! let x = nalgebra::dmatrix![1.0, 2.0, 3.0, 4.0; 2.1, 3.9, 6.2, 7.8; 1.0, 0.0, 1.0, 0.0];
//! let ppca = Ppca::fit(1, &x)?.model;
//! let (decoder, inference) = (ppca.decoder().clone(), Amortized::new(Frozen(ppca)));
//! let model: Model = Model::new(decoder, elbo::likelihood::Bernoulli, inference)?;
//! let text = serde_json::to_string(&model)?;
//! assert!(text.contains(r#""kind":"f64: linear, bernoulli, amortized frozen""#));
//! assert_eq!(serde_json::from_str::<Model>(&text)?, model);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#[cfg(feature = "safetensors")]
mod checkpoint;
mod checks;
mod components;
#[cfg(feature = "save")]
mod file;
mod header;
mod models;
mod results;
#[cfg(feature = "safetensors")]
mod safetensors;

pub use components::MatrixForm;
pub(crate) use components::{DiagonalNoiseForm, IsotropicNoiseForm};
#[cfg(feature = "save")]
pub use file::{SavedFileError, kind_of};

use crate::posterior::{Diagonal, Full, Isotropic};
use crate::{Real, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Version of the saved format that is written; earlier ones are read where the form of all
/// components is what it was.
pub const FORMAT_VERSION: u32 = 2;

/// Component of a model (decoder, likelihood, encoder, inference) that can be saved; implement it
/// for components of your own.
///
/// An implementation converts the component to a serialisable type, [`Form`](Self::Form), and back
/// with validation. Every model made of such components then implements `Serialize` and
/// `Deserialize`. That the components fit each other is checked by the model, as in
/// [`Model::new`](crate::Model::new).
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be saved in a model",
    note = "implement `elbo::saved::Saved` for a map, likelihood, encoder or inference of your own: \
            its serialisable form, and back"
)]
pub trait Saved<T: Real>: Sized {
    /// The serialisable type.
    type Form: Serialize + DeserializeOwned;

    /// The format version in which the form became what it is. A model with this component is not
    /// loaded from a file of an earlier version.
    ///
    /// A component outside this crate changes its [`kind`](Self::kind) with its form instead.
    const FORM_SINCE: u32 = 1;

    /// Returns the name of this component in the kind of a saved model.
    fn kind() -> String;

    /// Converts the component to its serialisable form.
    fn to_form(&self) -> Self::Form;

    /// Converts the serialisable form back to the component, and validates it.
    ///
    /// # Errors
    /// An error for sizes that disagree, for numbers that are not finite, and for a variance that
    /// is not positive.
    fn from_form(form: Self::Form) -> Result<Self>;
}

/// Posterior family with a name in the kind of a saved model.
#[diagnostic::on_unimplemented(
    message = "the posterior family `{Self}` has no name in a saved model",
    note = "implement `elbo::saved::NamedFamily` for a family of your own"
)]
pub trait NamedFamily {
    /// The name of the family, with its settings if it has any.
    fn name() -> String;
}

macro_rules! named {
    ($($family:ident => $name:literal),*) => {
        $(impl<T: Real> NamedFamily for $family<T> {
            fn name() -> String {
                $name.into()
            }
        })*
    };
}
named!(Isotropic => "isotropic", Diagonal => "diagonal", Full => "full");
