//! Conformance checks for those who implement the traits: each says in a sentence what is wrong, or
//! nothing.
//!
//! A check returns `Result<(), Failure>`, so that a test of yours is one line:
//! `check_map(&my_map, &mut rng)?` or `.unwrap()`. Derivatives are compared with central
//! differences, at points that the caller's generator draws; nothing here panics.
//!
//! | you implement | you call |
//! |---|---|
//! | [`DifferentiableMap`](crate::map::DifferentiableMap) | [`check_map`] |
//! | [`Likelihood`](crate::likelihood::Likelihood) | [`check_likelihood`] |
//! | [`PosteriorFamily`](crate::posterior::PosteriorFamily) | [`check_posterior_family`] |
//! | [`Decoder`](crate::model::Decoder) | [`check_decoder`] |
//! | [`Encoder`](crate::inference::Encoder) | [`check_encoder`] |
//! | [`DifferentiableObjective`](crate::objective::DifferentiableObjective) | [`check_objective`] |

mod differences;
mod likelihood;
mod map;
mod objective;
mod posterior;

pub use likelihood::check_likelihood;
pub use map::{check_decoder, check_encoder, check_map};
pub use objective::check_objective;
pub use posterior::check_posterior_family;

use crate::Real;
use nalgebra::DMatrix;
use rand::Rng;

/// What a check found: one sentence, with the numbers.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Failure(String);

impl Failure {
    pub(crate) fn new(sentence: impl Into<String>) -> Self {
        Self(sentence.into())
    }
}

/// The sentence itself, so that an `unwrap` shows it as it is meant to be read.
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

/// Fails with the sentence unless the condition holds.
fn ensure(condition: bool, sentence: impl FnOnce() -> String) -> Result<(), Failure> {
    if condition { Ok(()) } else { Err(Failure(sentence())) }
}

fn normal<T: Real>(rows: usize, columns: usize, rng: &mut dyn Rng) -> DMatrix<T> {
    DMatrix::from_fn(rows, columns, |_, _| T::standard_normal(rng))
}

/// Whether two matrices agree to `tolerance` times the larger entry of the two.
fn close<T: Real>(a: &DMatrix<T>, b: &DMatrix<T>, tolerance: f64) -> bool {
    let size = a.amax().max(b.amax()).as_f64().max(1.0);
    a.shape() == b.shape() && (a - b).iter().all(|e| e.as_f64().abs() <= tolerance * size)
}

/// What rounding may make of a few hundred operations.
fn rounding<T: Real>() -> f64 {
    1000.0 * T::EPSILON.as_f64()
}
