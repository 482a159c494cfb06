//! Missingness patterns: observations with the same missing values are grouped, so that what
//! depends on the pattern alone (such as a Cholesky factor) is computed once for a group.

use super::IncompleteObservations;
use crate::Real;
use std::collections::HashMap;

/// Largest number of observations in a group. Larger groups are split, so that blocks of similar
/// size can be formed from them; beside 512 observations, the work for the pattern is negligible.
const TOGETHER: usize = 512;

/// Observations ordered by missingness pattern and split into groups of one pattern each;
/// observations without any observed entry are left out.
#[derive(Debug, Clone)]
pub(crate) struct Patterns {
    /// The observations (columns of the data), ordered by pattern.
    pub(crate) order: Vec<usize>,
    /// The start of each group in `order`, and the end of the last group.
    pub(crate) starts: Vec<usize>,
    /// The number of observed entries of each variable.
    pub(crate) observed: Vec<usize>,
    /// The number of observed entries of an observation, for each group.
    pub(crate) entries: Vec<usize>,
}

impl Patterns {
    /// Groups the observations by pattern, in the order of first occurrence; observations with a
    /// weight of 0 are left out, if there are weights.
    pub(crate) fn of<T: Real>(x: &IncompleteObservations<'_, T>, weights: Option<&[f64]>) -> Self {
        let (d, n) = (x.data_dim(), x.len());
        let mut values = vec![0.0; d];
        let mut observed = vec![0; d];
        // 1. A bit mask for each observation, 64 variables a word; a weight of 0 leaves it empty.
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
        // 2. Number the distinct masks. Numbers follow the order of first occurrence and not that
        // of the hash map, whose order is random: results are to be reproducible.
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
        // 3. Counting sort by pattern number; it is stable, so observations of a pattern keep their
        // order. `next` holds the position of the next member of each pattern.
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

    /// Returns the number of groups.
    pub(crate) fn groups(&self) -> usize {
        self.starts.len() - 1
    }

    /// Partitions the groups into blocks of at least `rows` observations (the last may be smaller),
    /// as ranges of groups. The partition depends on the data alone and not on the number of
    /// threads, so that results reduced over blocks are bit-identical.
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
