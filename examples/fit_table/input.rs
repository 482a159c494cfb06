//! The table, the rows for testing, and the offsets of both.

use super::categories::{Categories, read_with_categories};
use super::options::{Offset, Options, Scale};
use super::support::arguments::{Arguments, note};
use super::support::orientation;
use super::support::refusal::{Location, read_table};
use elbo::Real;
use elbo::data::files::{Missing, Table};
use elbo::data::{Incomplete, Standardization, log_totals};
use nalgebra::DMatrix;

/// Known offsets of the predictors.
pub enum Offsets<T: Real> {
    None,
    /// One for each row of the file.
    Rows(Vec<T>),
    /// One for each entry, d×n.
    Entries(DMatrix<T>),
}

/// Rows with their offsets; an observation is a column of `values`.
pub struct Rows<T: Real> {
    pub values: DMatrix<T>,
    pub offsets: Offsets<T>,
    pub missing: usize,
}

pub struct Input<T: Real> {
    /// The path of the data.
    pub file: String,
    pub names: Vec<String>,
    pub rows: Rows<T>,
    /// The path and the rows of `--test`.
    pub test: Option<(String, Rows<T>)>,
    /// The class of each row and the names of the classes.
    pub classes: Option<(Vec<usize>, Vec<String>)>,
    /// The factor by which the data were divided.
    pub scale: Option<f64>,
    /// The columns of text, and their categories.
    pub categories: Vec<Categories>,
}

impl<T: Real> Input<T> {
    pub fn read(arguments: &Arguments, options: &Options) -> Result<Self, String> {
        let Some(path) = &arguments.data else {
            return Err("option '--data FILE' is needed".into());
        };
        let reading = arguments.reading.clone().missing(Missing::Allow);
        let file = path.display().to_string();
        let may_be_text = |name: &str| options.may_be_text(name);
        let (mut table, categories): (Table<T>, _) =
            read_with_categories(path, &reading, &may_be_text, None)?;
        if let Some(text) = orientation::note(&table) {
            note(text.trim_start_matches("note: "));
        }
        let classes = table.classes();
        let names = std::mem::take(&mut table.names);
        let mut values = std::mem::replace(&mut table.values, DMatrix::zeros(0, 0));
        let mut test = match &options.test {
            None => None,
            Some(path) => {
                let name = path.display().to_string();
                let known = Some(categories.as_slice());
                let (test, _) = read_with_categories(path, &reading, &|_| false, known)?;
                Some((name.clone(), matched(&name, test, &names, table.header)?))
            }
        };
        let scale = match options.scale {
            Scale::None => None,
            Scale::By(scale) => Some(scale),
            Scale::Auto => largest_byte(&file, &values),
        };
        for values in std::iter::once(&mut values).chain(test.as_mut().map(|(_, test)| test)) {
            if let Some(scale) = scale {
                values.iter_mut().for_each(|v| *v = T::of(v.as_f64() / scale));
            }
        }
        if arguments.standardize {
            let place = Location { file: &file, columns: &names };
            let units = Standardization::fit(&values).map_err(|error| place.says(error))?;
            let apply = |x: &DMatrix<T>| units.transform(x).map_err(|error| place.says(error));
            values = apply(&values)?;
            if let Some((_, test)) = &mut test {
                *test = apply(test)?;
            }
        }
        let place = Location { file: &file, columns: &names };
        let (own, of_test) = offsets(options, &place, &values, test.as_ref())?;
        let rows = |values: DMatrix<T>, offsets| {
            let missing = values.iter().filter(|v| v.as_f64().is_nan()).count();
            Rows { values, offsets, missing }
        };
        let test = test.map(|(name, values)| (name, rows(values, of_test)));
        let rows = rows(values, own);
        Ok(Self { file, names, rows, test, classes, scale, categories })
    }

    /// Where an error of the data lies.
    pub fn place(&self) -> Location<'_> {
        Location { file: &self.file, columns: &self.names }
    }

    /// Where an error of the rows for testing lies.
    pub fn test_place(&self) -> Location<'_> {
        let file = self.test.as_ref().map_or(self.file.as_str(), |(file, _)| file.as_str());
        Location { file, columns: &self.names }
    }
}

/// The columns of a table for testing, matched by name with those of the data.
fn matched<T: Real>(
    file: &str,
    test: Table<T>,
    names: &[String],
    header: bool,
) -> Result<DMatrix<T>, String> {
    if !header || !test.header {
        // Without names on one side only the number can be compared.
        return match test.names.len() == names.len() {
            true => Ok(test.values),
            false => Err(format!(
                "{file}: {} columns, and the data have {}",
                test.names.len(),
                names.len()
            )),
        };
    }
    if let Some(extra) = test.names.iter().find(|name| !names.contains(name)) {
        return Err(format!("{file}: column {extra:?} is not among the columns of the data"));
    }
    let place = |name: &String| {
        let found = test.names.iter().position(|own| own == name);
        found.ok_or_else(|| format!("{file}: there is no column {name:?}, which the data have"))
    };
    let places = names.iter().map(place).collect::<Result<Vec<usize>, String>>()?;
    Ok(test.values.select_rows(&places))
}

/// The largest value of an image file of unsigned bytes.
fn largest_byte<T: Real>(file: &str, values: &DMatrix<T>) -> Option<f64> {
    let largest = values.iter().fold(0.0, |most: f64, v| most.max(v.as_f64()));
    (file.contains("-ubyte") && largest > 0.0).then_some(largest)
}

/// The offsets of the rows and of those for testing. A file of exposures has a row for each row of
/// the data, and then one for each row for testing.
fn offsets<T: Real>(
    options: &Options,
    place: &Location<'_>,
    values: &DMatrix<T>,
    test: Option<&(String, DMatrix<T>)>,
) -> Result<(Offsets<T>, Offsets<T>), String> {
    let (n, extra) = (values.ncols(), test.map_or(0, |(_, test)| test.ncols()));
    match &options.offset {
        Offset::None => Ok((Offsets::None, Offsets::None)),
        Offset::Total => {
            let own = log_totals(Incomplete(values)).map_err(|error| place.says(error))?;
            let of_test = match test {
                None => Offsets::None,
                Some((file, test)) => {
                    let place = Location { file, columns: place.columns };
                    let totals = log_totals(Incomplete(test));
                    Offsets::Rows(totals.map_err(|error| place.says(error))?)
                }
            };
            Ok((Offsets::Rows(own), of_test))
        }
        Offset::File(path) => {
            let file = path.display();
            let table: Table<T> = read_table(path, &elbo::data::files::ReadOptions::default())?;
            let (columns, rows) = table.values.shape();
            if rows != n + extra {
                let for_test =
                    if extra > 0 { format!(" and {extra} for testing") } else { String::new() };
                return Err(format!(
                    "{file}: {rows} rows of exposures, and the data have {n}{for_test}"
                ));
            }
            if columns != 1 && columns != values.nrows() {
                return Err(format!(
                    "{file}: {columns} columns of exposures: give 1, or one for each of the {} \
                     columns of the data",
                    values.nrows()
                ));
            }
            for (i, column) in table.values.column_iter().enumerate() {
                for (j, exposure) in column.iter().enumerate() {
                    let value = exposure.as_f64();
                    if value <= 0.0 || value.is_nan() {
                        return Err(format!(
                            "{file}: row {}, column {:?}: the exposure {exposure} is not positive",
                            i + 1,
                            table.names[j]
                        ));
                    }
                }
            }
            let logs = table.values.map(|v| v.ln());
            let part = |first: usize, count: usize| match columns {
                1 => Offsets::Rows(logs.columns(first, count).iter().copied().collect()),
                _ => Offsets::Entries(logs.columns(first, count).into_owned()),
            };
            Ok((part(0, n), part(n, extra)))
        }
    }
}
