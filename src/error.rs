//! The one error type: lower-case sentences that carry both numbers.

/// What a call of this crate refused, with the numbers that explain it.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is nothing to fit or to encode.
    #[error("the data are empty: {rows} rows and {columns} columns")]
    Empty {
        /// Rows given.
        rows: usize,
        /// Columns given.
        columns: usize,
    },
    /// A decomposition did not finish within its bound on iterations.
    #[error("{what} did not finish within {limit} iterations")]
    DecompositionLimit {
        /// Which decomposition.
        what: &'static str,
        /// The bound on its iterations.
        limit: usize,
    },
    /// A matrix that must be positive definite is not.
    #[error("a {size}x{size} matrix is not positive definite")]
    NotPositiveDefinite {
        /// Rows of the matrix.
        size: usize,
    },
    /// Two sizes that must agree do not.
    #[error("{what}: expected {expected}, got {actual}")]
    Dimension {
        /// Which size.
        what: &'static str,
        /// The size that was expected.
        expected: usize,
        /// The size that was given.
        actual: usize,
    },
    /// A number that must be finite is not.
    #[error("the value {value} in row {row}, column {column} is not finite")]
    NotFinite {
        /// Row of the entry (a variable), counted from 0.
        row: usize,
        /// Column of the entry (an observation), counted from 0.
        column: usize,
        /// The entry.
        value: f64,
    },
}

/// The result of a fallible call of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;
