//! Latent-variable models, from PCA to the variational autoencoder, each made by a swap of
//! components in the one before.
//!
//! A model is made of a few **slots**: a decoder z → x, a likelihood p(x|z), an inference that says
//! what q(z|x) is, and an objective J that is always *maximised*. Data X are d×n, an observation a
//! column.
//!
//! | step | decoder | likelihood | inference | objective | fitted by |
//! |---|---|---|---|---|---|
//! | [`LinearAutoencoder`] | linear | none | a linear map | −squared error | closed form, gradient |
//! | [`Ppca`] | linear | **Gaussian** | **exact posterior** | log p(x) | closed form |
//! | the same | linear | Gaussian | exact posterior | **evidence lower bound** | (parameter-expanded) EM |
//! | [`VariationalPpca`] | linear | Gaussian | **one q_i for each point** | evidence lower bound | variational EM |
//! | [`AmortizedPpca`] | linear | Gaussian | **a linear map of x** | evidence lower bound | gradient |
//! | [`DeepEncoderPpca`] | linear | Gaussian | **a deep map of x** | evidence lower bound, **reparameterised** | gradient |
//! | [`Vae`] | **deep** | Gaussian, Bernoulli | a deep map of x | evidence lower bound, reparameterised | gradient |
//!
//! ```
//! use elbo::Ppca;
//! use nalgebra::DMatrix;
//! let x =
//!     DMatrix::from_fn(4, 100, |j, i| ((j + 1) as f64 * 0.37 * i as f64).sin() + j as f64);
//! let model = Ppca::fit(2, &x)?; // the maximum of the likelihood, in closed form
//! let codes = model.transform(&x)?; // posterior means, 2×100
//! let scores = model.log_likelihood(&x)?; // log p(x_i) in nats, one an observation
//! let terms = model.elbo(&x)?; // the two terms of J: with the exact posterior they add up to log p(x_i)
//! assert_eq!((codes.ncols(), scores.len()), (100, 100));
//! assert!((terms.values() - scores).amax() < 1e-9);
//! # Ok::<(), elbo::Error>(())
//! ```
//!
//! What a step cannot do does not compile: a table of q_i encodes no new x, a deep decoder has no
//! closed-form posterior, an autoencoder no likelihood; the compiler says so in these words. A step
//! is chosen at run time through [`steps::ModelKind`].
//!
//! The modules are the slots, each listing its alternatives in the order of the progression:
//! [`data`] → [`inference`] → [`posterior`] → [`objective`] → [`fit`], with [`map`], [`likelihood`]
//! and [`model`] for θ; [`diagnostics`] measures the gap between log p and J and where it comes
//! from; [`testing`] checks an implementation of the traits.

pub mod data;
pub mod diagnostics;
mod error;
pub mod fit;
pub mod inference;
pub mod likelihood;
pub mod linalg;
pub mod map;
pub mod mixture;
pub mod model;
pub mod objective;
pub mod posterior;
mod real;
pub mod rotation;
#[cfg(feature = "serde")]
pub mod saved;
pub mod selection;
pub mod steps;
pub mod testing;

pub use data::{IntoObservations, Observations};
pub use error::{Error, Result};
pub use real::Real;
pub use steps::{
    AmortizedPpca, BinaryVae, DeepEncoderPpca, FactorAnalysis, LinearAutoencoder, Pca, Ppca, Step,
    Vae, VariationalPpca,
};

/// The README's code runs as a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
