//! Conformance checks for implementations of this crate's traits.
//!
//! A check returns `Result<(), Failure>`, so that a test is one line: `check_map(&my_map, &mut
//! rng)?` or `.unwrap()`. A failure is a sentence that describes the violation. Derivatives are
//! compared with central differences at points sampled from the caller's generator. The checks
//! themselves do not panic.
//!
//! | trait | check |
//! |---|---|
//! | [`DifferentiableMap`](crate::map::DifferentiableMap) | [`check_map`] |
//! | [`Likelihood`](crate::likelihood::Likelihood) | [`check_likelihood`] |
//! | [`Prior`](crate::prior::Prior) | [`check_prior`] |
//! | [`PosteriorFamily`](crate::posterior::PosteriorFamily) | [`check_posterior_family`] |
//! | [`Decoder`](crate::model::Decoder) | [`check_decoder`] |
//! | [`Encoder`](crate::inference::Encoder) | [`check_encoder`] |
//! | [`DifferentiableObjective`](crate::objective::DifferentiableObjective) | [`check_objective`] |

mod differences;
mod likelihood;
mod map;
mod objective;
mod posterior;
mod prior;

pub use likelihood::check_likelihood;
pub use map::{check_decoder, check_encoder, check_map};
pub use objective::check_objective;
pub use posterior::check_posterior_family;
pub use prior::check_prior;

use crate::Real;
use nalgebra::DMatrix;
use rand::Rng;

/// The failure of a check: one sentence, with the numbers.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Failure(String);

impl Failure {
    pub(crate) fn new(sentence: impl Into<String>) -> Self {
        Self(sentence.into())
    }
}

/// The sentence itself, so that `unwrap` prints it without quotes and escapes.
impl std::fmt::Debug for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<crate::Error> for Failure {
    fn from(error: crate::Error) -> Self {
        Self(format!("the call was refused: {error}"))
    }
}

/// Returns a failure with the sentence unless the condition holds.
fn ensure(condition: bool, sentence: impl FnOnce() -> String) -> Result<(), Failure> {
    if condition { Ok(()) } else { Err(Failure(sentence())) }
}

/// A matrix of standard normal numbers.
fn normal<T: Real>(rows: usize, columns: usize, rng: &mut dyn Rng) -> DMatrix<T> {
    DMatrix::from_fn(rows, columns, |_, _| T::standard_normal(rng))
}

/// Whether two matrices agree to `tolerance` times their largest entry (at least 1).
fn close<T: Real>(a: &DMatrix<T>, b: &DMatrix<T>, tolerance: f64) -> bool {
    let size = a.amax().max(b.amax()).as_f64().max(1.0);
    a.shape() == b.shape() && (a - b).iter().all(|e| e.as_f64().abs() <= tolerance * size)
}

/// The tolerance for rounding errors: 1000 ε, enough for a few hundred operations.
fn rounding<T: Real>() -> f64 {
    1000.0 * T::EPSILON.as_f64()
}
