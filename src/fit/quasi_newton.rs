//! The limited-memory quasi-Newton direction, over whatever a fit moves.

use std::collections::VecDeque;

/// A point, a step or a derivative in the space that a fit moves in.
pub(crate) trait Tangent: Clone {
    /// The inner product.
    fn dot(&self, other: &Self) -> f64;
    /// Adds `factor` times another.
    fn add_scaled(&mut self, factor: f64, other: &Self);
    /// Multiplies by `factor`.
    fn scale(&mut self, factor: f64);
}

/// The last steps s and changes y of the derivative, from which the inverse Hessian is built
/// (L-BFGS, Nocedal & Wright 2006, algorithm 7.4).
pub(crate) struct History<V> {
    pairs: VecDeque<(V, V, f64)>,
    limit: usize,
}

impl<V: Tangent> History<V> {
    pub(crate) fn new(limit: usize) -> Self {
        Self { pairs: VecDeque::new(), limit }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    pub(crate) fn clear(&mut self) {
        self.pairs.clear();
    }

    /// Remembers a step and the change of the derivative along it, if the curvature is above
    /// `least`.
    pub(crate) fn push(&mut self, step: V, change: V, least: f64) {
        let curvature = step.dot(&change);
        if curvature > least {
            self.pairs.push_back((step, change, 1.0 / curvature));
            if self.pairs.len() > self.limit {
                self.pairs.pop_front();
            }
        }
    }

    /// Changes coordinates: what becomes of a step, and what of a derivative.
    pub(crate) fn transport(&mut self, step: impl Fn(&V) -> V, derivative: impl Fn(&V) -> V) {
        for (s, y, _) in &mut self.pairs {
            *s = step(s);
            *y = derivative(y);
        }
    }

    /// The direction of descent and the slope along it, negative unless the derivative is 0: what
    /// is remembered is forgotten where it leads uphill.
    pub(crate) fn downhill(&mut self, gradient: &V, initial_inverse: impl Fn(&V) -> V) -> (V, f64) {
        let direction = self.descent(gradient, &initial_inverse);
        let slope = direction.dot(gradient);
        if slope < 0.0 {
            return (direction, slope);
        }
        self.clear();
        let direction = self.descent(gradient, &initial_inverse);
        let slope = direction.dot(gradient);
        (direction, slope)
    }

    /// −H g: the direction of descent, from the derivative g and the initial inverse Hessian.
    pub(crate) fn descent(&self, gradient: &V, initial_inverse: impl Fn(&V) -> V) -> V {
        let mut rest = gradient.clone();
        let mut weights = Vec::with_capacity(self.pairs.len());
        for (s, y, inverse) in self.pairs.iter().rev() {
            let weight = inverse * s.dot(&rest);
            rest.add_scaled(-weight, y);
            weights.push(weight);
        }
        let mut direction = initial_inverse(&rest);
        for ((s, y, inverse), weight) in self.pairs.iter().zip(weights.into_iter().rev()) {
            let other = inverse * y.dot(&direction);
            direction.add_scaled(weight - other, s);
        }
        direction.scale(-1.0);
        direction
    }
}
