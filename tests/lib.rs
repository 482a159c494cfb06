//! The integration tests of `elbo` are in `suite/` and `allocation.rs`; this library is empty.
