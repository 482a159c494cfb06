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
    DimensionMismatch {
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
    /// A value is finite, but its square, summed over the data, is not.
    #[error(
        "the value {value:e} in row {row}, column {column} is too large: the sum of squares overflows beyond {limit:e}"
    )]
    TooLarge {
        /// Row of the entry (a variable), counted from 0.
        row: usize,
        /// Column of the entry (an observation), counted from 0.
        column: usize,
        /// The entry.
        value: f64,
        /// The largest absolute value that can be taken.
        limit: f64,
    },
    /// The data vary, but so little that the square of a deviation is no number of this precision,
    /// or lacks digits.
    #[error("{what} {deviation:e} is too small: its square falls below {limit:e}")]
    Underflow {
        /// Which deviation.
        what: &'static str,
        /// The deviation.
        deviation: f64,
        /// The smallest variance that can be taken.
        limit: f64,
    },
    /// The latent dimension does not fit the data.
    #[error("the latent dimension {latent_dim} is not between {smallest} and {largest}")]
    LatentDim {
        /// The dimension asked for.
        latent_dim: usize,
        /// The smallest that can be had.
        smallest: usize,
        /// The largest that can be had.
        largest: usize,
    },
    /// Every variable is constant: there is no variance to model.
    #[error("all {variables} variables are constant over {observations} observations")]
    ZeroVariance {
        /// The number of variables.
        variables: usize,
        /// The number of observations.
        observations: usize,
    },
    /// So few observations that a variance cannot be estimated.
    #[error("{actual} observations, and at least {least} are needed")]
    TooFewObservations {
        /// The number given.
        actual: usize,
        /// The number needed.
        least: usize,
    },
    /// The latent dimension reaches the rank of the data: no variance is left for the noise, and
    /// the likelihood is unbounded.
    #[error(
        "the data have rank {rank}, and a latent dimension of {latent_dim} leaves no variance for the noise: the likelihood is unbounded"
    )]
    Unbounded {
        /// The dimension asked for.
        latent_dim: usize,
        /// The rank of the (centred) data.
        rank: usize,
    },
    /// A variable of which no entry was observed: nothing can be said of it.
    #[error("variable {variable} was observed in none of {observations} observations")]
    NeverObserved {
        /// The variable (a row), counted from 0.
        variable: usize,
        /// The number of observations.
        observations: usize,
    },
    /// So few entries were observed that a model without noise meets them all.
    #[error(
        "with a latent dimension of {latent_dim} the observed entries leave {entries} residuals for {parameters} parameters: the likelihood is unbounded"
    )]
    TooFewEntries {
        /// The dimension asked for.
        latent_dim: usize,
        /// Σ_i max(0, observed entries of i − k).
        entries: usize,
        /// (d − k)(k + 1), or (d − k)k about a fixed mean.
        parameters: usize,
    },
    /// The noise variance fell until nothing was left of it: the likelihood is unbounded.
    #[error(
        "with a latent dimension of {latent_dim} the noise variance fell to {noise_variance:e}: the likelihood is unbounded"
    )]
    NoiseVanished {
        /// The dimension asked for.
        latent_dim: usize,
        /// Where the fit gave up.
        noise_variance: f64,
    },
    /// No direction of the data stands out of isotropic noise: there is no latent dimension to fit.
    #[error(
        "no direction stands out of the noise: the largest variance is {largest}, the noise variance {noise_variance}"
    )]
    NoSignal {
        /// The noise variance that explains the data.
        noise_variance: f64,
        /// The largest eigenvalue of the covariance.
        largest: f64,
    },
    /// A weight that is no weight.
    #[error("the weight {value} of observation {observation} is not finite and at least 0")]
    InvalidWeight {
        /// The observation, counted from 0.
        observation: usize,
        /// Its weight.
        value: f64,
    },
    /// The offsets of a sparse table do not rise from 0 to the number of its entries.
    #[error(
        "the offsets of column {column} are {start} and {end}, and must rise from 0 to {entries} entries"
    )]
    SparseOffsets {
        /// The observation, counted from 0.
        column: usize,
        /// Where its entries begin.
        start: usize,
        /// Where they end.
        end: usize,
        /// Entries in all.
        entries: usize,
    },
    /// A row of a sparse table beyond its last variable.
    #[error("row {row} in column {column} is beyond the {rows} variables")]
    SparseRow {
        /// The row, counted from 0.
        row: usize,
        /// The observation, counted from 0.
        column: usize,
        /// d.
        rows: usize,
    },
    /// Rows of a sparse observation that do not rise: one is there twice, or they are not sorted.
    #[error("row {row} follows row {before} in column {column}: rows must rise, each at most once")]
    SparseOrder {
        /// The row, counted from 0.
        row: usize,
        /// The one before it.
        before: usize,
        /// The observation, counted from 0.
        column: usize,
    },
    /// A way that these data cannot go.
    #[error("{what} cannot be fitted this way: the solver must be {must}")]
    Unsupported {
        /// The kind of data.
        what: &'static str,
        /// What can be asked for.
        must: &'static str,
    },
    /// A setting is outside the range in which it means something.
    #[error("{name} is {value}, and must be {must}")]
    InvalidParameter {
        /// Which setting.
        name: &'static str,
        /// What was given.
        value: f64,
        /// What it must be.
        must: &'static str,
    },
    /// J is not finite where the fit starts, so that there is nothing to go back to.
    #[error("the objective is {value} at the start of the fit, and must be finite")]
    ObjectiveAtStart {
        /// J per observation.
        value: f64,
    },
    /// A value lies outside what the likelihood can produce.
    #[error(
        "the value {value} in row {row}, column {column} is outside the support of the likelihood, {support}"
    )]
    OutsideSupport {
        /// Row of the entry (a variable), counted from 0.
        row: usize,
        /// Column of the entry (an observation), counted from 0.
        column: usize,
        /// The entry.
        value: f64,
        /// The values that can occur.
        support: &'static str,
    },
    /// A saved model is of a version that is not known.
    #[error("the saved model has format version {found}, and only version {known} is known")]
    FormatVersion {
        /// The version found.
        found: u32,
        /// The version that is known.
        known: u32,
    },
    /// A saved model has other slots than the type that it is to be loaded into.
    #[error("the saved model is `{found}`, and not `{wanted}`")]
    KindMismatch {
        /// The kind found.
        found: String,
        /// The kind wanted.
        wanted: String,
    },
    /// No step of the progression has this name.
    #[error("there is no step named {name:?}")]
    UnknownModelKind {
        /// The name.
        name: String,
    },
}

/// The result of a fallible call of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;
