//! The progression against exact truths: closed forms, reference values of an independent program,
//! and identities between steps.
//!
//! S = (1/n) Σ(x−x̄)(x−x̄)ᵗ with eigenvalues λ_1 ≥ λ_2 ≥ …, σ̂² the mean of those after the k-th;
//! figures are nats per observation unless said.

mod amortized;
mod autoencoder;
mod common;
mod deep;
mod gaps;
mod hostile_tables;
mod invariances;
mod ppca;
mod precision;
mod progression;
mod reference;
mod sampling;
mod uncentered;
mod variational;
