//! Initialisation of a mixture: k-means++ seeding and a few Lloyd iterations.

use super::draw;
use nalgebra::{DMatrix, DVector};
use rand::Rng;

/// Returns the cluster of each column, by weighted k-means.
///
/// k-means++ seeding (Arthur & Vassilvitskii 2007): each centre is a column, sampled with
/// probability proportional to its weight times its squared distance from the nearest centre so
/// far. At most ten Lloyd iterations follow.
pub(super) fn clusters(
    x: &DMatrix<f64>,
    weights: &[f64],
    count: usize,
    rng: &mut dyn Rng,
) -> Vec<usize> {
    let n = x.ncols();
    let mut centres = DMatrix::zeros(x.nrows(), count);
    // The first centre is sampled by the weights alone: all distances are infinite.
    let mut distances = DVector::from_element(n, f64::INFINITY);
    for c in 0..count {
        let chances = distances.iter().zip(weights).map(|(distance, weight)| distance * weight);
        let total = chances.clone().sum::<f64>();
        // The total is 0 if every point coincides with a centre: any point is as good as another.
        let chosen = if c > 0 && total > 0.0 && total.is_finite() {
            draw(chances, rng)
        } else {
            draw(weights.iter().copied(), rng)
        };
        centres.set_column(c, &x.column(chosen));
        // Squared distances to the nearest centre are updated by the new centre alone: O(n·d) each.
        for (distance, column) in distances.iter_mut().zip(x.column_iter()) {
            *distance = distance.min((column - centres.column(c)).norm_squared());
        }
    }
    let mut labels = vec![0; n];
    // Ten iterations at most: EM refines the clusters, which need not have converged.
    for _ in 0..10 {
        let before = labels.clone();
        for (label, column) in labels.iter_mut().zip(x.column_iter()) {
            // Ties go to the first centre, so that the labels are deterministic.
            let nearest = (0..count).map(|c| (column - centres.column(c)).norm_squared());
            *label = nearest
                .enumerate()
                .fold((0, f64::INFINITY), |best, (c, d)| if d < best.1 { (c, d) } else { best })
                .0;
        }
        // An unchanged partition has the same means: Lloyd's iteration has converged.
        if labels == before {
            break;
        }
        let mut sums = DMatrix::zeros(x.nrows(), count);
        let mut sizes = vec![0.0; count];
        for ((&label, column), &weight) in labels.iter().zip(x.column_iter()).zip(weights) {
            sums.column_mut(label).axpy(weight, &column, 1.0);
            sizes[label] += weight;
        }
        // An empty cluster keeps its centre.
        for (c, &size) in sizes.iter().enumerate().filter(|(_, size)| **size > 0.0) {
            centres.set_column(c, &(sums.column(c) / size));
        }
    }
    labels
}
