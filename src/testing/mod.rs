//! Conformance checks for those who implement the traits.
