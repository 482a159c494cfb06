//! Whether the rows of a table are its variables.

use elbo::Real;
use elbo::data::files::Table;
use std::collections::HashSet;

/// More variables than this many times the observations draw a note by themselves.
const FAR: usize = 10;

/// A note if the table is probably transposed: a row of a file is an observation.
///
/// It is if there are ten times as many variables as observations or more; or more variables than
/// observations while the rows have names, each of its own, and the columns have none.
pub fn note<T: Real>(table: &Table<T>) -> Option<String> {
    let (variables, observations) = table.values.shape();
    let distinct = |text: &[String]| text.iter().collect::<HashSet<_>>().len() == text.len();
    let rows_have_names = table.apart.iter().any(|column| distinct(&column.text));
    let far = variables >= FAR.saturating_mul(observations.max(1));
    let named = variables > observations && rows_have_names && !table.header;
    (far || named).then(|| {
        format!(
            "note: {observations} observations of {variables} variables: is the table transposed? \
             a row of the file is an observation, a column a variable"
        )
    })
}
