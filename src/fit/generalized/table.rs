//! The observations of a fit: their values, offsets and weights, read block by block.

use crate::data::{
    Dense, IncompleteObservations, SparseObservations, Weighted, WithOffset, expect_variables,
};
use crate::fit::check_weights;
use crate::{Error, Real, Result};
use std::collections::HashMap;

/// Forms of data that a model with a linear predictor takes: complete, incomplete or sparse, with
/// offsets and with weights.
#[diagnostic::on_unimplemented(
    message = "a model with this likelihood cannot be fitted to data of the form `{Self}`",
    label = "pass `&x`, `Incomplete(&x)` or sparse observations, with offsets and weights",
    note = "moments and sources have a fit for Gaussian noise only"
)]
pub trait PredictorForm<T: Real>: Copy + Sync {
    /// Variables and observations.
    fn shape(&self) -> (usize, usize);
    /// Validates values, offsets and weights.
    ///
    /// # Errors
    /// Those of the constructor of the form.
    fn validate(&self) -> Result<()>;
    /// The values of one observation, NaN where missing.
    fn values_into(&self, observation: usize, out: &mut [f64]);
    /// Adds the known offset of the predictors of one observation.
    fn add_offset(&self, _observation: usize, _out: &mut [f64]) {}
    /// Whether there is an offset.
    fn has_offset(&self) -> bool {
        false
    }
    /// The weight of one observation.
    fn weight(&self, _observation: usize) -> f64 {
        1.0
    }
    /// Whether most entries are 0 and not stored.
    fn is_sparse(&self) -> bool {
        false
    }
}

impl<T: Real> PredictorForm<T> for Dense<'_, T> {
    fn shape(&self) -> (usize, usize) {
        let values = self.view();
        values.shape()
    }
    fn validate(&self) -> Result<()> {
        Dense::validate(*self).map(|_| ())
    }
    fn values_into(&self, observation: usize, out: &mut [f64]) {
        let values = self.view();
        let column = values.column(observation).data.into_slice();
        out.iter_mut().zip(column).for_each(|(out, v)| *out = v.as_f64());
    }
}

impl<T: Real> PredictorForm<T> for IncompleteObservations<'_, T> {
    fn shape(&self) -> (usize, usize) {
        (self.data_dim(), self.len())
    }
    fn validate(&self) -> Result<()> {
        Ok(())
    }
    fn values_into(&self, observation: usize, out: &mut [f64]) {
        self.column_into(observation, out);
    }
}

impl<T: Real> PredictorForm<T> for SparseObservations<'_, T> {
    fn shape(&self) -> (usize, usize) {
        (self.data_dim(), self.len())
    }
    fn validate(&self) -> Result<()> {
        Ok(())
    }
    fn values_into(&self, observation: usize, out: &mut [f64]) {
        out.fill(0.0);
        self.observation(observation).for_each(|(row, value)| out[row] = value.as_f64());
    }
    fn is_sparse(&self) -> bool {
        true
    }
}

impl<T: Real, F: PredictorForm<T>> PredictorForm<T> for Weighted<'_, F, T> {
    fn shape(&self) -> (usize, usize) {
        self.data.shape()
    }
    fn validate(&self) -> Result<()> {
        check_weights(self.weights, self.shape().1)?;
        self.data.validate()
    }
    fn values_into(&self, observation: usize, out: &mut [f64]) {
        self.data.values_into(observation, out);
    }
    fn add_offset(&self, observation: usize, out: &mut [f64]) {
        self.data.add_offset(observation, out);
    }
    fn has_offset(&self) -> bool {
        self.data.has_offset()
    }
    fn weight(&self, observation: usize) -> f64 {
        self.weights[observation].as_f64() * self.data.weight(observation)
    }
    fn is_sparse(&self) -> bool {
        self.data.is_sparse()
    }
}

impl<T: Real, F: PredictorForm<T>> PredictorForm<T> for WithOffset<'_, F, T> {
    fn shape(&self) -> (usize, usize) {
        self.data.shape()
    }
    fn validate(&self) -> Result<()> {
        self.offset.check(self.shape())?;
        self.data.validate()
    }
    fn values_into(&self, observation: usize, out: &mut [f64]) {
        self.data.values_into(observation, out);
    }
    fn add_offset(&self, observation: usize, out: &mut [f64]) {
        self.offset.add_to(observation, out);
        self.data.add_offset(observation, out);
    }
    fn has_offset(&self) -> bool {
        true
    }
    fn weight(&self, observation: usize) -> f64 {
        self.data.weight(observation)
    }
    fn is_sparse(&self) -> bool {
        self.data.is_sparse()
    }
}

/// The form without its scalar type.
pub(super) trait Rows: Sync {
    fn values_into(&self, observation: usize, out: &mut [f64]);
    fn add_offset(&self, observation: usize, out: &mut [f64]);
}

struct Of<F, T>(F, std::marker::PhantomData<fn() -> T>);

impl<T: Real, F: PredictorForm<T>> Rows for Of<F, T> {
    fn values_into(&self, observation: usize, out: &mut [f64]) {
        self.0.values_into(observation, out);
    }
    fn add_offset(&self, observation: usize, out: &mut [f64]) {
        self.0.add_offset(observation, out);
    }
}

/// The distinct observations of a fit with their total weights; those of weight 0 are not among
/// them.
pub(crate) struct Table<'a> {
    rows: Box<dyn Rows + 'a>,
    /// d.
    pub(super) variables: usize,
    // The observation that stands for each distinct one, and its total weight.
    representatives: Vec<usize>,
    pub(super) weights: Vec<f64>,
    /// The distinct observation of each observation of the data; `None` for a weight of 0.
    pub(crate) place: Vec<Option<usize>>,
    /// Whether there is an offset.
    pub(super) has_offset: bool,
    /// Σ w.
    pub(crate) total_weight: f64,
}

/// Up to so many variables equal observations are merged: tables of items have many of them.
const MERGED: usize = 64;

impl<'a> Table<'a> {
    /// Validates the data. Equal observations with equal offsets become one of their total weight,
    /// which has the same q_i.
    pub(crate) fn new<T: Real, F: PredictorForm<T> + 'a>(data: F) -> Result<Self> {
        let merge = data.shape().0 <= MERGED && !data.is_sparse();
        Self::of(data, merge, |i| data.weight(i))
    }

    /// Validates the data; each observation stands for itself, with weight 1.
    pub(crate) fn unmerged<T: Real, F: PredictorForm<T> + 'a>(data: F) -> Result<Self> {
        Self::of(data, false, |_| 1.0)
    }

    fn of<T: Real, F: PredictorForm<T> + 'a>(
        data: F,
        merge: bool,
        weight: impl Fn(usize) -> f64,
    ) -> Result<Self> {
        data.validate()?;
        let (d, n) = data.shape();
        if d == 0 || n == 0 {
            return Err(Error::Empty { rows: d, columns: n });
        }
        let mut known: HashMap<Vec<u64>, usize> = HashMap::new();
        let (mut representatives, mut weights) = (Vec::new(), Vec::<f64>::new());
        let mut place = Vec::with_capacity(n);
        let mut buffer = vec![0.0; 2 * d];
        for i in 0..n {
            let weight = weight(i);
            if weight == 0.0 {
                place.push(None);
                continue;
            }
            let fresh = weights.len();
            let at = if merge {
                let (values, offset) = buffer.split_at_mut(d);
                data.values_into(i, values);
                offset.fill(0.0);
                data.add_offset(i, offset);
                // NaN has many bit patterns, and all of them are missing.
                let bits = |v: &f64| if v.is_nan() { f64::NAN.to_bits() } else { v.to_bits() };
                *known.entry(buffer.iter().map(bits).collect()).or_insert(fresh)
            } else {
                fresh
            };
            if at == fresh {
                representatives.push(i);
                weights.push(0.0);
            }
            weights[at] += weight;
            place.push(Some(at));
        }
        let total_weight = weights.iter().sum();
        let has_offset = data.has_offset();
        let rows = Box::new(Of(data, std::marker::PhantomData));
        Ok(Self { rows, variables: d, representatives, weights, place, has_offset, total_weight })
    }

    /// The observation of the data that stands for each distinct one.
    pub(crate) fn representatives(&self) -> &[usize] {
        &self.representatives
    }

    /// The number of distinct observations.
    pub(crate) fn len(&self) -> usize {
        self.weights.len()
    }

    /// The values of consecutive distinct observations, d×(their number), NaN where missing.
    pub(super) fn values_into(&self, first: usize, out: &mut [f64]) {
        for (i, out) in out.chunks_exact_mut(self.variables).enumerate() {
            self.rows.values_into(self.representatives[first + i], out);
        }
    }

    /// Adds the offsets of consecutive distinct observations.
    pub(super) fn add_offsets(&self, first: usize, out: &mut [f64]) {
        if self.has_offset {
            for (i, out) in out.chunks_exact_mut(self.variables).enumerate() {
                self.rows.add_offset(self.representatives[first + i], out);
            }
        }
    }

    /// The table of one observation of the data, with weight 1.
    pub(crate) fn only(&self, observation: usize) -> Table<'_> {
        Table {
            rows: Box::new(Borrowed(&*self.rows)),
            variables: self.variables,
            representatives: vec![observation],
            weights: vec![1.0],
            place: vec![Some(0)],
            has_offset: self.has_offset,
            total_weight: 1.0,
        }
    }
}

struct Borrowed<'a>(&'a dyn Rows);

impl Rows for Borrowed<'_> {
    fn values_into(&self, observation: usize, out: &mut [f64]) {
        self.0.values_into(observation, out);
    }
    fn add_offset(&self, observation: usize, out: &mut [f64]) {
        self.0.add_offset(observation, out);
    }
}

/// Returns an error unless every observed entry is in the support, and every variable has one.
pub(crate) fn check_table<T: Real, F: PredictorForm<T>>(
    data: &F,
    outside: impl Fn(usize, f64) -> Option<&'static str>,
) -> Result<()> {
    let (d, n) = data.shape();
    let mut values = vec![0.0; d];
    let mut seen = vec![false; d];
    for column in 0..n {
        data.values_into(column, &mut values);
        for (row, &value) in values.iter().enumerate().filter(|(_, v)| !v.is_nan()) {
            seen[row] = true;
            if let Some(support) = outside(row, value) {
                return Err(Error::OutsideSupport { row, column, value, support });
            }
        }
    }
    match seen.iter().position(|seen| !seen) {
        Some(variable) => Err(Error::NeverObserved { variable, observations: n }),
        None => Ok(()),
    }
}

/// Returns an error unless the data have d variables.
pub(crate) fn expect_shape<T: Real, F: PredictorForm<T>>(data: &F, d: usize) -> Result<()> {
    expect_variables(d, data.shape())
}
