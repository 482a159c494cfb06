//! Batched Cholesky factorisation of small positive definite matrices, one in each SIMD lane.
//!
//! EM with missing values factors one k×k matrix for each pattern of missing values (k = 5 and 10
//! in the benchmarks), and one for each variable. A single such matrix is too small for SIMD: its
//! loops are short, and each pivot depends on the one before. Here entry (i, j) of eight matrices
//! is one array, so that the scalar algorithm runs on all eight at once.

use super::Elementary;

/// Matrices in a batch.
// Eight numbers in f64 are one AVX-512 register, two with AVX2, four with NEON.
pub(crate) const LANES: usize = 8;

/// One number for each matrix of a batch.
pub(crate) type Lane = [f64; LANES];

/// The index of entry (row, column ≤ row) in a lower triangle that is packed by rows.
#[inline(always)]
pub(crate) fn packed(row: usize, column: usize) -> usize {
    row * (row + 1) / 2 + column
}

/// The number of entries of a packed triangle of a `size` × `size` matrix.
pub(crate) fn packed_len(size: usize) -> usize {
    size * (size + 1) / 2
}

#[inline(always)]
fn add_product(sum: &mut Lane, a: &Lane, b: &Lane) {
    for lane in 0..LANES {
        sum[lane] += a[lane] * b[lane];
    }
}

/// [`LANES`] matrices A = LLᵗ with their Cholesky factors, inverses and log-determinants.
pub(crate) struct Batch {
    size: usize,
    /// A, packed; [`invert`](Self::invert) overwrites it by A⁻¹.
    pub(crate) matrix: Vec<Lane>,
    factor: Vec<Lane>,
    /// L⁻¹, packed.
    pub(crate) inverse_factor: Vec<Lane>,
    /// ln|A|.
    pub(crate) log_determinant: Lane,
    /// The smallest ratio L_jj²/A_jj of a pivot to its diagonal entry.
    ///
    /// The pivot is what the subtraction of a sum of squares leaves of A_jj: a ratio of 10⁻ᵖ means
    /// that p decimal digits were lost to cancellation.
    pub(crate) smallest_pivot_ratio: Lane,
}

impl Batch {
    pub(crate) fn new(size: usize) -> Self {
        let room = vec![[0.0; LANES]; packed_len(size)];
        Self {
            size,
            matrix: room.clone(),
            factor: room.clone(),
            inverse_factor: room,
            log_determinant: [0.0; LANES],
            smallest_pivot_ratio: [1.0; LANES],
        }
    }

    /// Computes L, L⁻¹, ln|A| and the smallest pivot ratio of the matrices in `matrix`.
    ///
    /// A matrix that is not positive definite gets a `smallest_pivot_ratio` ≤ 0; its other results
    /// are then meaningless. A zero on the diagonal of A is not reported: 0/0 is NaN, which is not
    /// below any number.
    ///
    /// To be called within [`super::vector::vectorized`].
    // Row by row: row r of L needs rows 0 … r of L, and row r of L⁻¹ needs row r of L and earlier
    // rows of L⁻¹. Both are packed by rows, so that one loop builds both and reads memory in order.
    #[inline(always)]
    pub(crate) fn factor(&mut self) {
        let size = self.size;
        let (l, inverse) =
            (&mut self.factor[..packed_len(size)], &mut self.inverse_factor[..packed_len(size)]);
        let mut log_determinant = [0.0; LANES];
        let mut smallest = [1.0; LANES];
        for row in 0..size {
            let of_row = packed(row, 0);
            for column in 0..=row {
                let of_column = packed(column, 0);
                let mut sum = [0.0; LANES];
                for c in 0..column {
                    add_product(&mut sum, &l[of_row + c], &l[of_column + c]);
                }
                let entry = self.matrix[of_row + column];
                let mut value = [0.0; LANES];
                if column == row {
                    // Selections and no branches: one lane's failure must not stop the others. A
                    // pivot ≤ 0 is replaced by the smallest normal number, so that its logarithm
                    // and its root are not NaN; the ratio reports it.
                    for lane in 0..LANES {
                        let pivot = entry[lane] - sum[lane];
                        let ratio = pivot / entry[lane];
                        smallest[lane] =
                            if ratio < smallest[lane] { ratio } else { smallest[lane] };
                        let pivot =
                            if pivot > f64::MIN_POSITIVE { pivot } else { f64::MIN_POSITIVE };
                        log_determinant[lane] += pivot.quick_ln();
                        value[lane] = pivot.sqrt();
                    }
                } else {
                    // 1/L_cc is on the diagonal of L⁻¹ already: a product replaces a division, of
                    // which there is one for each row and not one for each entry.
                    let diagonal = inverse[packed(column, column)];
                    for lane in 0..LANES {
                        value[lane] = (entry[lane] - sum[lane]) * diagonal[lane];
                    }
                }
                l[of_row + column] = value;
            }
            // Row r of L⁻¹ from LL⁻¹ = I: (L⁻¹)_rj = −(Σ_{j ≤ c < r} L_rc (L⁻¹)_cj) / L_rr.
            let root = l[packed(row, row)];
            let mut diagonal = [0.0; LANES];
            for lane in 0..LANES {
                diagonal[lane] = 1.0 / root[lane];
            }
            for column in 0..row {
                let mut sum = [0.0; LANES];
                for c in column..row {
                    add_product(&mut sum, &l[of_row + c], &inverse[packed(c, column)]);
                }
                for lane in 0..LANES {
                    sum[lane] *= -diagonal[lane];
                }
                inverse[of_row + column] = sum;
            }
            inverse[packed(row, row)] = diagonal;
        }
        self.log_determinant = log_determinant;
        self.smallest_pivot_ratio = smallest;
    }

    /// Overwrites `matrix` by the inverses A⁻¹ = L⁻ᵗL⁻¹.
    #[inline(always)]
    pub(crate) fn invert(&mut self) {
        let size = self.size;
        let inverse = &self.inverse_factor[..packed_len(size)];
        for row in 0..size {
            for column in 0..=row {
                let mut sum = [0.0; LANES];
                for c in row..size {
                    add_product(&mut sum, &inverse[packed(c, row)], &inverse[packed(c, column)]);
                }
                self.matrix[packed(row, column)] = sum;
            }
        }
    }
}

/// Writes y = L⁻¹b and x = L⁻ᵗy = A⁻¹b, given the packed L⁻¹ of each lane.
// Products with L⁻¹ in place of substitution: its entries are independent, where substitution waits
// for a division at each row. Row r of L⁻¹ serves y_r and at once the update x += (row r)ᵗ y_r, so
// that the triangle is read once.
#[inline(always)]
pub(crate) fn solve(inverse_factor: &[Lane], b: &[Lane], y: &mut [Lane], x: &mut [Lane]) {
    let size = b.len();
    let (y, x) = (&mut y[..size], &mut x[..size]);
    x.fill([0.0; LANES]);
    for row in 0..size {
        let of_row = &inverse_factor[packed(row, 0)..packed(row + 1, 0)];
        let mut sum = [0.0; LANES];
        for (entry, b) in of_row.iter().zip(b) {
            add_product(&mut sum, entry, b);
        }
        y[row] = sum;
        for (entry, x) in of_row.iter().zip(x.iter_mut()) {
            add_product(x, entry, &sum);
        }
    }
}

/// Copies the first [`LANES`] entries of `from` to `lane`; entries beyond its end are 0.
#[inline(always)]
pub(crate) fn read_lane(lane: &mut Lane, from: &[f64]) {
    if let Some(whole) = from.first_chunk::<LANES>() {
        *lane = *whole;
    } else {
        *lane = [0.0; LANES];
        lane[..from.len()].copy_from_slice(from);
    }
}

/// Copies the entries of `lane` to `to`: all [`LANES`], or as many as `to` has.
#[inline(always)]
pub(crate) fn write_lane(lane: &Lane, to: &mut [f64]) {
    // The tail is out of line: inlined, the compiler merges both branches into one `memcpy` of
    // variable length, a call where a whole lane needs one store.
    #[cold]
    #[inline(never)]
    fn write_some(lane: &Lane, to: &mut [f64]) {
        to.copy_from_slice(&lane[..to.len()]);
    }
    match to.first_chunk_mut::<LANES>() {
        Some(whole) => *whole = *lane,
        None => write_some(lane, to),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linalg::testing::random;
    use crate::linalg::vector::vectorized;

    #[test]
    fn lanes_agree_with_the_cholesky_factor() {
        for size in [1, 2, 5, 11] {
            let mut batch = Batch::new(size);
            let matrices: Vec<_> = (0..LANES)
                .map(|lane| {
                    let a = random::<f64>(size, size + 3, lane as u64 + 1);
                    &a * a.transpose()
                })
                .collect();
            for row in 0..size {
                for column in 0..=row {
                    batch.matrix[packed(row, column)] =
                        std::array::from_fn(|lane| matrices[lane][(row, column)]);
                }
            }
            vectorized(|| batch.factor());
            let b: Vec<Lane> = (0..size).map(|i| [i as f64 - 1.5; LANES]).collect();
            let (mut y, mut x) = (b.clone(), b.clone());
            vectorized(|| solve(&batch.inverse_factor, &b, &mut y, &mut x));
            vectorized(|| batch.invert());
            for (lane, matrix) in matrices.iter().enumerate() {
                let exact = matrix.clone().cholesky().unwrap();
                let right = nalgebra::DVector::from_fn(size, |i, _| b[i][lane]);
                let solution = exact.solve(&right);
                let scale = exact.inverse().amax();
                for i in 0..size {
                    assert!((x[i][lane] - solution[i]).abs() < 1e-10 * scale);
                    assert!(
                        (batch.matrix[packed(i, 0)][lane] - exact.inverse()[(i, 0)]).abs()
                            < 1e-10 * scale
                    );
                }
                assert!((batch.log_determinant[lane] - exact.ln_determinant()).abs() < 1e-10);
                assert!(
                    batch.smallest_pivot_ratio[lane] > 0.0
                        && batch.smallest_pivot_ratio[lane] <= 1.0
                );
            }
        }
    }
}
