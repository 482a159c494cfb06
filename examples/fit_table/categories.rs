//! Columns of text whose values are categories.

use super::support::arguments::note;
use super::support::refusal::read_table;
use elbo::Real;
use elbo::data::files::{FileError, ReadOptions, Table, read};
use nalgebra::DMatrix;
use std::path::Path;

/// A column of text and its categories, in the order of their numbers.
pub type Categories = (String, Vec<String>);

/// Reads a table. A column of text for which `may_be_text` is true becomes one of the numbers of its
/// categories, behind the others: by number where all are numbers, else in alphabetical order, or
/// those of `known`.
pub fn read_with_categories<T: Real>(
    path: &Path,
    reading: &ReadOptions,
    may_be_text: &dyn Fn(&str) -> bool,
    known: Option<&[Categories]>,
) -> Result<(Table<T>, Vec<Categories>), String> {
    let mut texts: Vec<String> = match known {
        Some(known) => known.iter().map(|(name, _)| name.clone()).collect(),
        None => Vec::new(),
    };
    let mut table: Table<T> = loop {
        match read::<T>(path, &reading.clone().ignore(texts.clone())) {
            Err(FileError::NotANumber { column, .. })
                if may_be_text(&column) && !texts.contains(&column) =>
            {
                texts.push(column);
            }
            // Anything else is reported as for a table of numbers.
            _ => break read_table(path, &reading.clone().ignore(texts.clone()))?,
        }
    };
    let mut found = Vec::new();
    for name in texts {
        let labels = labels::<T>(path, reading, &name)?;
        let given = known.and_then(|known| known.iter().find(|(own, _)| *own == name));
        let names = match given {
            Some((_, names)) => names.clone(),
            None => {
                let mut names: Vec<String> =
                    labels.iter().filter(|label| !label.is_empty()).cloned().collect();
                names.sort();
                names.dedup();
                note(format!("column {name:?}: {} categories: {}", names.len(), names.join(", ")));
                names
            }
        };
        let (d, n) = table.values.shape();
        let mut values = DMatrix::zeros(d + 1, n);
        values.rows_mut(0, d).copy_from(&table.values);
        for (i, label) in labels.iter().enumerate() {
            values[(d, i)] = match names.iter().position(|own| own == label) {
                Some(category) => T::of_usize(category),
                None if label.is_empty() => T::of(f64::NAN),
                None => {
                    return Err(format!(
                        "{}: row {}, column {name:?}: the category {label:?} does not occur in the \
                         data",
                        path.display(),
                        i + 1
                    ));
                }
            };
        }
        table.values = values;
        table.names.push(name.clone());
        found.push((name, names));
    }
    Ok((table, found))
}

/// The texts of a column.
fn labels<T: Real>(path: &Path, reading: &ReadOptions, name: &str) -> Result<Vec<String>, String> {
    let mut ignored: Vec<String> = Vec::new();
    loop {
        let options = reading.clone().label(name).ignore(ignored.clone());
        match read::<T>(path, &options) {
            Err(FileError::NotANumber { column, .. }) if !ignored.contains(&column) => {
                ignored.push(column);
            }
            read => {
                let table = read.map_err(|error| format!("{}: {error}", path.display()))?;
                let labels = table.labels().map(<[String]>::to_vec);
                return labels
                    .ok_or_else(|| format!("{}: column {name:?} has no texts", path.display()));
            }
        }
    }
}
