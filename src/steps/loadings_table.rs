//! Loadings with the names of their variables, as a table for people.

use crate::{Error, Real, Result};
use nalgebra::DMatrix;

/// Loadings with the names of their variables, for printing.
///
/// ```
/// use elbo::{Ppca, steps::LoadingsTable};
/// let x = nalgebra::dmatrix![
///     1.0, 2.0, 3.0, 4.0, 5.0, 6.0; 2.1, 3.9, 6.2, 7.8, 10.1, 11.9; 0.3, 0.1, 0.2, 0.3, 0.1, 0.2];
/// let model = Ppca::fit(1, &x)?.model;
/// let table = LoadingsTable::new(model.loadings().into_owned(), ["width", "length", "weight"])?;
/// assert!(table.to_string().lines().nth(2).unwrap().starts_with("length"));
/// # Ok::<(), elbo::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct LoadingsTable<T: Real> {
    loadings: DMatrix<T>,
    names: Vec<String>,
}

impl<T: Real> LoadingsTable<T> {
    /// Joins loadings (d×k) and the names of the d variables, such as the `names` of a table that
    /// was read from a file.
    ///
    /// # Errors
    /// [`Error::DimensionMismatch`] for another number of names.
    pub fn new<S: Into<String>>(
        loadings: DMatrix<T>,
        names: impl IntoIterator<Item = S>,
    ) -> Result<Self> {
        let names: Vec<String> = names.into_iter().map(Into::into).collect();
        if names.len() != loadings.nrows() {
            return Err(Error::DimensionMismatch {
                what: "names of variables",
                expected: loadings.nrows(),
                actual: names.len(),
            });
        }
        Ok(Self { loadings, names })
    }

    /// The names of the variables.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The loadings, d×k.
    pub fn loadings(&self) -> &DMatrix<T> {
        &self.loadings
    }
}

impl<T: Real> std::fmt::Display for LoadingsTable<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let width = self.names.iter().map(|name| name.chars().count()).max().unwrap_or(0).max(8);
        write!(f, "{:width$}", "variable")?;
        (1..=self.loadings.ncols()).try_for_each(|factor| write!(f, " {factor:>10}"))?;
        for (name, row) in self.names.iter().zip(self.loadings.row_iter()) {
            write!(f, "\n{name:width$}")?;
            row.iter().try_for_each(|loading| write!(f, " {:>10.4}", loading.as_f64()))?;
        }
        Ok(())
    }
}
