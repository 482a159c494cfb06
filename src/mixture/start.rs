//! Where a mixture starts from: k-means++ and a few of Lloyd's iterations.

use super::draw;
use nalgebra::{DMatrix, DVector};
use rand::Rng;

/// The cluster of each column: centres drawn with probabilities proportional to the weight and the
/// squared distance from those there are (Arthur & Vassilvitskii 2007), then moved to their
/// clusters' means a few times.
pub(super) fn clusters(
    x: &DMatrix<f64>,
    weights: &[f64],
    count: usize,
    rng: &mut dyn Rng,
) -> Vec<usize> {
    let n = x.ncols();
    let mut centres = DMatrix::zeros(x.nrows(), count);
    let mut distances = DVector::from_element(n, f64::INFINITY);
    for c in 0..count {
        let chances = distances.iter().zip(weights).map(|(distance, weight)| distance * weight);
        let total = chances.clone().sum::<f64>();
        // All points may coincide with a centre: then any will do.
        let chosen = if c > 0 && total > 0.0 && total.is_finite() {
            draw(chances, rng)
        } else {
            draw(weights.iter().copied(), rng)
        };
        centres.set_column(c, &x.column(chosen));
        for (distance, column) in distances.iter_mut().zip(x.column_iter()) {
            *distance = distance.min((column - centres.column(c)).norm_squared());
        }
    }
    let mut labels = vec![0; n];
    for _ in 0..10 {
        let before = labels.clone();
        for (label, column) in labels.iter_mut().zip(x.column_iter()) {
            let nearest = (0..count).map(|c| (column - centres.column(c)).norm_squared());
            *label = nearest
                .enumerate()
                .fold((0, f64::INFINITY), |best, (c, d)| if d < best.1 { (c, d) } else { best })
                .0;
        }
        if labels == before {
            break;
        }
        let mut sums = DMatrix::zeros(x.nrows(), count);
        let mut sizes = vec![0.0; count];
        for ((&label, column), &weight) in labels.iter().zip(x.column_iter()).zip(weights) {
            sums.column_mut(label).axpy(weight, &column, 1.0);
            sizes[label] += weight;
        }
        // A cluster that lost all its points keeps its centre.
        for (c, &size) in sizes.iter().enumerate().filter(|(_, size)| **size > 0.0) {
            centres.set_column(c, &(sums.column(c) / size));
        }
    }
    labels
}
