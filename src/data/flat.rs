//! The header of statistics that are written as numbers: a mark, the kind, and the version.
//!
//! The first number is no size and no likely value, so that other numbers are recognised as such.

use crate::{Error, Result};

const MARK: f64 = -7_518.022_515;
/// The version that is written, and the only one that is read.
const VERSION: u32 = 1;
const HEADER: usize = 3;
/// Integers up to 2⁵³ are numbers of double precision.
const LARGEST: f64 = 9_007_199_254_740_992.0;

/// The statistics that have a flat form, by the number that stands for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Moments of data.
    Moments = 1,
    /// Residual statistics of an M-step.
    ResidualStatistics = 2,
}

/// The header of a list of numbers.
pub(crate) fn header(kind: Kind) -> [f64; HEADER] {
    [MARK, f64::from(kind as u32), f64::from(VERSION)]
}

/// Checks the header, and returns the `sizes` numbers that follow it and the other entries.
///
/// # Errors
/// [`Error::DimensionMismatch`] for too few numbers; [`Error::InvalidParameter`] for other numbers
/// or statistics of another kind; [`Error::FormatVersion`].
pub(crate) fn body(values: &[f64], kind: Kind, sizes: usize) -> Result<(&[f64], &[f64])> {
    let Some((found, body)) = values.split_at_checked(HEADER).filter(|(_, b)| b.len() >= sizes)
    else {
        return Err(Error::DimensionMismatch {
            what: "numbers of statistics, at least",
            expected: HEADER + sizes,
            actual: values.len(),
        });
    };
    if found[0] != MARK {
        return Err(invalid("the first of the numbers", found[0], "the mark of statistics"));
    }
    if found[1] != f64::from(kind as u32) {
        return Err(invalid(
            "the kind of the statistics",
            found[1],
            "1 for moments, 2 for residual statistics",
        ));
    }
    if found[2] != f64::from(VERSION) {
        // 0 for a number out of range, which is no version either.
        return Err(Error::FormatVersion { found: found[2] as u32, known: VERSION });
    }
    Ok(body.split_at(sizes))
}

/// The integer that a number holds exactly.
pub(crate) fn integer(name: &'static str, value: f64) -> Result<usize> {
    if (0.0..LARGEST).contains(&value) && value.fract() == 0.0 {
        Ok(value as usize)
    } else {
        Err(invalid(name, value, "an integer, at least 0 and below 2^53"))
    }
}

pub(crate) fn invalid(name: &'static str, value: f64, must: &'static str) -> Error {
    Error::InvalidParameter { name, value, must }
}
