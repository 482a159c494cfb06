//! Tables from binary arrays of n observations, whose other axes are flattened into d variables.

use super::element::Element;
use super::options::{Role, numbered_name};
use super::source::Source;
use super::table::{Marks, TextColumn, print};
use super::{FileError, Location, Missing, ReadOptions, Table};
use crate::Real;
use crate::linalg::room;
use nalgebra::DMatrix;

/// Shape and element type of an array in a file.
pub(super) struct Array<'a> {
    pub element: Element,
    pub shape: &'a [u64],
    /// Whether the first axis varies fastest.
    pub fortran: bool,
}

/// Returns the size in bytes of an array of this shape with `item` bytes per element.
///
/// # Errors
/// [`FileError::Oversized`] above `isize::MAX`, the largest allocation in Rust.
pub(super) fn product(shape: &[u64], item: u64) -> Result<u64, FileError> {
    shape
        .iter()
        .try_fold(item, |product, &size| product.checked_mul(size))
        .filter(|&total| isize::try_from(total).is_ok())
        .ok_or_else(|| FileError::Oversized { shape: shape.to_vec() })
}

/// Returns (n, d): the length of the first axis, and the product of the lengths of the others,
/// which is 1 without others.
pub(super) fn flatten(shape: &[u64]) -> Result<(usize, usize), FileError> {
    let [rows, others @ ..] = shape else {
        return Err(FileError::Shape { shape: shape.to_vec() });
    };
    // Both factors are checked: an axis of length 0 would hide the overflow of the others.
    let (rows, columns) = (product(&[*rows], 1)? as usize, product(others, 1)? as usize);
    match rows > 0 && columns > 0 {
        true => Ok((rows, columns)),
        false => Err(FileError::EmptyArray { rows, columns }),
    }
}

/// Returns the index in Fortran order (first axis fastest) of each variable, for the variables in C
/// order (last axis fastest).
pub(super) fn storage(axes: &[u64]) -> Vec<usize> {
    let mut places = vec![0];
    let mut stride = 1;
    // One axis at a time: it varies fastest in the result and has the largest stride in the file.
    for &size in axes {
        let size = size as usize;
        places = places
            .iter()
            .flat_map(|&place| (0..size).map(move |index| place + stride * index))
            .collect();
        stride *= size;
    }
    places
}

/// Reads the elements of an array, whose header has been read from `source`.
pub(super) fn read<T: Real>(
    mut source: Source<'_>,
    array: &Array<'_>,
    options: &ReadOptions,
) -> Result<Table<T>, FileError> {
    let (n, d) = flatten(array.shape)?;
    let element = array.element;
    let bytes = product(array.shape, element.item as u64)?;
    source.announce(bytes)?;
    if d > options.max_columns {
        return Err(FileError::TooManyColumns { limit: options.max_columns });
    }
    if product(array.shape, size_of::<T>() as u64)? > options.max_bytes {
        return Err(FileError::TooMuchMemory { limit: options.max_bytes });
    }
    let roles = options.numbered_roles(d)?;
    // Fortran order: entry (i, j) of n×d lies at i + n·places[j].
    let places = if array.fortran { storage(&array.shape[1..]) } else { Vec::new() };
    let position = |index: usize| match array.fortran {
        false => (index / d, index % d),
        true => {
            let variable = places.iter().position(|&place| place == index / n);
            (index % n, variable.unwrap_or(0))
        }
    };
    // A known file length was compared with the header, so that room for all n·d values can be
    // allocated. The length of a gzip stream is unknown: a forged header could claim any size, and
    // `values` grows with the data instead.
    let mut values: Vec<T> = if source.length().is_some() { room(n * d) } else { Vec::new() };
    // Integers beyond the precision of the numbers, in columns that are kept as text.
    let mut exact: Vec<(usize, usize, String)> = Vec::new();
    source.pieces(bytes, element.item, |piece| {
        for item in piece.chunks_exact(element.item) {
            if let Some(text) = element.inexact(item) {
                let (row, column) = position(values.len());
                if roles[column] == Role::Number {
                    let (place, column) = (Location::Row(row as u64 + 1), numbered_name(column));
                    return Err(FileError::Inexact { place, column, text });
                }
                exact.push((column, row, text));
            }
            values.push(T::of(element.value(item)));
        }
        Ok(())
    })?;
    if array.fortran {
        // Values are gathered in the order of the result, which is written once from start to end.
        let mut transposed = room(n * d);
        transposed.extend(
            (0..n)
                .flat_map(|observation| places.iter().map(move |place| observation + n * place))
                .map(|place| values[place]),
        );
        values = transposed;
    }
    // n×d in C order is d×n in column-major order.
    table(DMatrix::from_vec(d, n, values), &roles, &exact, options)
}

/// Creates a table from the array of a file: checks every entry, then moves the label and ignored
/// columns to `apart`.
pub(super) fn table<T: Real>(
    mut values: DMatrix<T>,
    roles: &[Role],
    exact: &[(usize, usize, String)],
    options: &ReadOptions,
) -> Result<Table<T>, FileError> {
    let declared = options.mark_values();
    let mut marks = Marks::default();
    for (row, mut observation) in values.column_iter_mut().enumerate() {
        for (column, (value, role)) in observation.iter_mut().zip(roles).enumerate() {
            // Ignored and label columns may hold anything: only numeric columns are checked.
            if *role != Role::Number {
                continue;
            }
            let number = value.as_f64();
            if number.is_finite() && !declared.contains(&number) {
                continue;
            }
            if number.is_infinite() || options.missing == Missing::Reject {
                let missing = T::of(f64::NAN);
                let value = if number.is_infinite() { *value } else { missing };
                let place = Location::Row(row as u64 + 1);
                super::table::check(value, place, || numbered_name(column), options.missing)?;
            }
            match number.is_nan() {
                true => marks.count("nan"),
                false => marks.count(&print(*value)),
            }
            *value = T::of(f64::NAN);
        }
    }
    let text = |column: usize| -> Vec<String> {
        let mut text: Vec<String> = values.row(column).iter().map(|&value| print(value)).collect();
        for (_, row, digits) in exact.iter().filter(|(apart, ..)| *apart == column) {
            text[*row].clone_from(digits);
        }
        text
    };
    let apart: Vec<TextColumn> = (0..roles.len())
        .filter(|&position| roles[position] != Role::Number)
        .map(|position| TextColumn {
            name: numbered_name(position),
            position,
            label: roles[position] == Role::Label,
            text: text(position),
        })
        .collect();
    let kept: Vec<usize> = (0..roles.len()).filter(|&row| roles[row] == Role::Number).collect();
    // The common case, without a copy of the values.
    let values = if apart.is_empty() { values } else { values.select_rows(&kept) };
    let names = kept.into_iter().map(numbered_name).collect();
    let (missing, notes) = (marks.total(), marks.note().into_iter().collect());
    let marks = marks.into_counts();
    Ok(Table { names, apart, missing, marks, notes, ..Table::without_names(values) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use nalgebra::dmatrix;

    fn table_of<T: Real>(values: DMatrix<T>, options: &ReadOptions) -> Result<Table<T>, FileError> {
        table(values.clone(), &options.numbered_roles(values.nrows())?, &[], options)
    }

    #[test]
    fn an_array_gives_up_its_label_by_number() {
        let values = dmatrix![1.0, 2.0; 7.0, 8.5; 3.0, 4.0];
        let table = table_of(values.clone(), &ReadOptions::default().label("x2")).unwrap();
        assert_eq!(table.names, ["x1", "x3"]);
        assert_eq!(table.labels().unwrap(), ["7", "8.5"]);
        assert_eq!(table.values, dmatrix![1.0, 2.0; 3.0, 4.0]);
        let absent = table_of(values, &ReadOptions::default().ignore(["x4"])).unwrap_err();
        assert_eq!(absent, FileError::UnknownColumn { name: "x4".into(), columns: 3 });
    }

    #[test]
    fn an_array_is_checked_entry_by_entry() {
        let incomplete = dmatrix![1.0f32, 2.0; 3.0, f32::NAN];
        let refused = table_of(incomplete.clone(), &ReadOptions::default()).unwrap_err();
        let message = refused.to_string();
        assert!(message.starts_with(r#"row 2, column "x2": the value is missing"#), "{message}");
        assert_eq!(
            table_of(incomplete, &ReadOptions::default().missing(Missing::Allow)).unwrap().missing,
            1
        );
        let infinite = dmatrix![1.0, f64::NEG_INFINITY];
        let refused =
            table_of(infinite, &ReadOptions::default().missing(Missing::Allow)).unwrap_err();
        assert_eq!(
            refused.to_string(),
            r#"row 2, column "x1": "-inf" is infinite or out of range"#
        );
    }

    #[test]
    fn declared_marks_are_values_of_an_array() {
        let options = ReadOptions::default().missing_marks(["-9999"]);
        let values = dmatrix![1.0f64, -9999.0; f64::NAN, 4.0];
        let error = table_of(values.clone(), &options).unwrap_err();
        assert!(matches!(error, FileError::Missing { place: Location::Row(1), .. }));
        let error = table_of(values.columns(1, 1).into_owned(), &options).unwrap_err();
        assert!(matches!(error, FileError::Missing { .. }));
        let table = table_of(values, &options.missing(Missing::Allow)).unwrap();
        assert_eq!(table.missing, 2);
        assert_eq!(table.marks, [("nan".into(), 1), ("-9999".into(), 1)]);
        assert!(table.values[(0, 1)].is_nan());
    }
}
