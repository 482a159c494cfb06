//! Limited-memory BFGS (L-BFGS) search directions, for any parameter type with an inner product.

use std::collections::VecDeque;

/// A vector space with an inner product: the points, steps and gradients of an optimiser.
pub(crate) trait Tangent: Clone {
    /// Inner product.
    fn dot(&self, other: &Self) -> f64;
    /// Adds `factor`·`other` to `self`.
    fn add_scaled(&mut self, factor: f64, other: &Self);
    /// Multiplies `self` by `factor`.
    fn scale(&mut self, factor: f64);
}

/// L-BFGS memory: the last steps s and gradient changes y, which define the approximate inverse
/// Hessian (Nocedal & Wright 2006, algorithm 7.4).
pub(crate) struct History<V> {
    // (s, y, 1/sᵗy), oldest first.
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

    /// Stores a step s and the change y of the gradient along it, if the curvature sᵗy exceeds
    /// `least`.
    pub(crate) fn push(&mut self, step: V, change: V, least: f64) {
        // Only sᵗy > 0 keeps the approximate inverse Hessian positive definite; a value within
        // rounding of 0 would put an arbitrary large factor 1/sᵗy into every later direction.
        let curvature = step.dot(&change);
        if curvature > least {
            self.pairs.push_back((step, change, 1.0 / curvature));
            if self.pairs.len() > self.limit {
                self.pairs.pop_front();
            }
        }
    }

    /// Applies a change of coordinates to the stored pairs: `step` maps the steps, `derivative` the
    /// gradient changes.
    pub(crate) fn transport(&mut self, step: impl Fn(&V) -> V, derivative: impl Fn(&V) -> V) {
        // The two maps must be adjoint inverses of each other, which leaves sᵗy unchanged: the
        // stored 1/sᵗy stays valid.
        for (s, y, _) in &mut self.pairs {
            *s = step(s);
            *y = derivative(y);
        }
    }

    /// Returns a descent direction and the slope along it. The slope is negative unless the
    /// gradient is 0; if the stored pairs give a direction of ascent, they are cleared first.
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

    /// Returns the quasi-Newton direction −H g for the gradient g, from the initial inverse
    /// Hessian.
    pub(crate) fn descent(&self, gradient: &V, initial_inverse: impl Fn(&V) -> V) -> V {
        // Two-loop recursion: from the newest pair to the oldest, then the initial inverse Hessian,
        // then from the oldest to the newest. H is never formed.
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
