//! Which observations miss the same entries: what depends on the pattern alone is computed once for
//! all of them.

use super::IncompleteObservations;
use crate::Real;
use std::collections::HashMap;

/// The most observations of one pattern that are kept together: what is computed once for so many
/// costs nothing beside them.
const TOGETHER: usize = 512;

/// The observations in an order in which equal patterns are neighbours, cut in groups; those
/// without any entry are left out.
#[derive(Debug, Clone)]
pub(crate) struct Patterns {
    /// Columns of the data.
    pub(crate) order: Vec<usize>,
    /// Where each group begins in `order`, and at last where the last one ends.
    pub(crate) starts: Vec<usize>,
    /// How many entries were observed of each variable.
    pub(crate) observed: Vec<usize>,
    /// How many entries each group observes of an observation.
    pub(crate) entries: Vec<usize>,
}

impl Patterns {
    /// The patterns in the order in which they first occur; observations with a weight of 0 are
    /// left out, if there are weights.
    pub(crate) fn of<T: Real>(x: &IncompleteObservations<'_, T>, weights: Option<&[f64]>) -> Self {
        let (d, n) = (x.data_dim(), x.len());
        let mut values = vec![0.0; d];
        let mut observed = vec![0; d];
        let words = d.div_ceil(64);
        let mut bits = vec![0u64; words * n];
        let taken = |column: usize| weights.is_none_or(|weights| weights[column] > 0.0);
        for (column, own) in
            bits.chunks_exact_mut(words).enumerate().filter(|&(column, _)| taken(column))
        {
            x.column_into(column, &mut values);
            for ((word, values), observed) in
                own.iter_mut().zip(values.chunks(64)).zip(observed.chunks_mut(64))
            {
                for (place, (value, observed)) in values.iter().zip(observed).enumerate() {
                    let here = !value.is_nan();
                    *word |= u64::from(here) << place;
                    *observed += usize::from(here);
                }
            }
        }
        let mut numbers: HashMap<&[u64], usize> = HashMap::new();
        let mut pattern_of = Vec::with_capacity(n);
        let (mut members, mut sizes): (Vec<usize>, Vec<usize>) = (Vec::new(), Vec::new());
        for (column, own) in bits.chunks_exact(words).enumerate() {
            if own.iter().all(|&word| word == 0) {
                continue;
            }
            let number = *numbers.entry(own).or_insert_with(|| {
                members.push(0);
                sizes.push(own.iter().map(|word| word.count_ones() as usize).sum());
                members.len() - 1
            });
            members[number] += 1;
            pattern_of.push((number, column));
        }
        let distinct = members.len();
        let mut next = Vec::with_capacity(distinct);
        let (mut starts, mut entries, mut end) =
            (Vec::with_capacity(distinct + 1), Vec::with_capacity(distinct), 0);
        for (&count, &size) in members.iter().zip(&sizes) {
            next.push(end);
            starts.extend((end..end + count).step_by(TOGETHER));
            entries.resize(starts.len(), size);
            end += count;
        }
        starts.push(end);
        let mut order = vec![0; end];
        for (number, column) in pattern_of {
            order[next[number]] = column;
            next[number] += 1;
        }
        Self { order, starts, observed, entries }
    }

    /// The number of groups.
    pub(crate) fn groups(&self) -> usize {
        self.starts.len() - 1
    }

    /// Neighbouring groups in blocks of about `rows` observations, as ranges of groups; the cut
    /// depends on the data alone.
    pub(crate) fn blocks(&self, rows: usize) -> Vec<std::ops::Range<usize>> {
        let mut blocks = Vec::new();
        let mut first = 0;
        for group in 0..self.groups() {
            if self.starts[group + 1] - self.starts[first] >= rows || group + 1 == self.groups() {
                blocks.push(first..group + 1);
                first = group + 1;
            }
        }
        blocks
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::IntoIncompleteObservations;
    use nalgebra::DMatrix;

    #[test]
    fn equal_patterns_are_neighbours() {
        let hole = f64::NAN;
        let x = nalgebra::dmatrix![1.0, hole, 2.0, hole, 4.0; 1.0, 5.0, 2.0, hole, 3.0];
        let patterns = Patterns::of(&(&x).into_incomplete().unwrap(), None);
        assert_eq!(patterns.order, [0, 2, 4, 1]);
        assert_eq!(
            (patterns.starts.as_slice(), patterns.observed.as_slice()),
            ([0, 3, 4].as_slice(), [3, 4].as_slice())
        );
        assert_eq!(patterns.entries, [2, 1]);
    }

    #[test]
    fn a_large_group_is_cut_and_blocks_cover_all() {
        let x = DMatrix::from_element(70, 2000, 1.0);
        let patterns = Patterns::of(&(&x).into_incomplete().unwrap(), None);
        assert_eq!((patterns.groups(), patterns.entries.as_slice()), (4, [70; 4].as_slice()));
        let blocks = patterns.blocks(600);
        assert_eq!(blocks, [0..2, 2..4]);
    }
}
