//! Generalised variational EM: E-step and M-step by gradient ascent, for models without closed-form
//! updates.

use crate::fit::{Adam, AdamSettings, Fitted, LearningRateSchedule, Observer, StopReason, Trace};
use crate::map::Parameters;
use crate::model::GenerativeModel;
use crate::objective::{DifferentiableObjective, Gradient};
use crate::{Error, IntoObservations, Real, Result};
use rand::Rng;

/// Variational EM by gradient ascent: in each iteration a number of steps on φ with θ held fixed
/// (E-step), then a number of steps on θ with φ held fixed (M-step), both on the same objective J.
///
/// With local variational parameters φ_i ([`PerPoint`](crate::inference::PerPoint)) it is
/// variational EM for any differentiable decoder; with an encoder it is its amortised form.
/// [`ExpectationMaximization`](super::ExpectationMaximization) is the algorithm for models with
/// closed-form updates.
///
/// ```
/// use elbo::{Observations, objective::Elbo, posterior::Isotropic};
/// use elbo::{
///     fit::GradientVariationalEm, inference::PerPoint, likelihood::IsotropicGaussian,
///     map::Mlp, model::GenerativeModel,
/// };
/// use nalgebra::DMatrix;
/// use rand::{SeedableRng, rngs::StdRng};
/// let rng = &mut StdRng::seed_from_u64(1);
/// let x = DMatrix::from_fn(3, 20, |i, j| ((i + 1) * j % 7) as f64 / 3.0);
/// let model = GenerativeModel::new(
///     Mlp::builder(1, 3).hidden(&[4]).build(rng)?,
///     IsotropicGaussian::analytic(1.0)?,
/// );
/// let table = PerPoint::<Isotropic<f64>>::at_prior(1, 20);
/// let fitter = GradientVariationalEm { iterations: 10, ..Default::default() };
/// let fitted = fitter.fit(
///     &Elbo::reparameterized(1),
///     model,
///     table,
///     Observations::new(x.as_view())?,
///     rng,
///     &mut (),
/// )?;
/// assert!(fitted.trace.last() > fitted.trace.values().first().copied());
/// # Ok::<(), elbo::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GradientVariationalEm {
    /// Number of iterations, each an E-step and an M-step; at least 1.
    pub iterations: usize,
    /// Number of gradient steps on φ in an E-step.
    pub expectation_steps: usize,
    /// Number of gradient steps on θ in an M-step.
    pub maximization_steps: usize,
    /// Initial learning rate of φ.
    pub expectation_rate: f64,
    /// Initial learning rate of θ.
    pub maximization_rate: f64,
    /// Learning-rate schedule of both.
    pub schedule: LearningRateSchedule,
    /// Settings of Adam, for both.
    pub adam: AdamSettings,
}

impl Default for GradientVariationalEm {
    fn default() -> Self {
        Self {
            iterations: 100,
            expectation_steps: 5,
            maximization_steps: 5,
            expectation_rate: 0.05,
            maximization_rate: 5e-3,
            schedule: LearningRateSchedule::Cosine,
            adam: AdamSettings::default(),
        }
    }
}

impl GradientVariationalEm {
    /// Maximises `objective` over θ and φ, starting from the given ones, with all observations in
    /// each gradient.
    ///
    /// The trace holds J per observation, as the objective estimates it: at the initialisation,
    /// then at the end of each iteration. If J or its gradient is not finite, the fit ends as
    /// [`StopReason::Diverged`] and returns the parameters of the end of the last complete
    /// iteration.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] for no iterations, no steps or a learning rate that is not
    /// positive and finite; [`Error::ObjectiveAtStart`]; errors of the objective.
    pub fn fit<'a, T, D, L, I, J>(
        &self,
        objective: &J,
        mut model: GenerativeModel<D, L>,
        mut inference: I,
        x: impl IntoObservations<'a, T>,
        rng: &mut dyn Rng,
        observer: &mut dyn Observer,
    ) -> Result<Fitted<(GenerativeModel<D, L>, I)>>
    where
        T: Real,
        D: Parameters<T> + Clone,
        L: Parameters<T> + Clone,
        I: Parameters<T> + Clone,
        J: DifferentiableObjective<T, GenerativeModel<D, L>, I>,
    {
        let x = x.into_observations()?;
        self.check()?;
        let adam = |parameters: &[T]| Adam::new(parameters.len(), self.adam);
        // One Adam state for each parameter group: φ, the decoder and the likelihood keep their own
        // moment estimates, because they move in different steps.
        let mut states = [
            adam(inference.parameters())?,
            adam(model.decoder.parameters())?,
            adam(model.likelihood.parameters())?,
        ];
        let (mut workspace, mut gradient) = (J::Workspace::default(), Gradient::default());
        let n = T::of_usize(x.population());
        let entries = n * T::of_usize(x.data_dim());
        let decoder_count = model.decoder.parameters().len();
        let mut trace = Trace::new();
        let start = objective.value_and_gradient(
            &model,
            &inference,
            x,
            rng,
            &mut workspace,
            &mut gradient,
        )?;
        trace.push((start / n).as_f64());
        if !start.is_finite() {
            return Err(Error::ObjectiveAtStart { value: (start / n).as_f64() });
        }
        let mut good = (model.clone(), inference.clone());
        let mut stop = StopReason::IterationLimit;
        'rounds: for iteration in 0..self.iterations {
            let factor = self.schedule.factor(iteration as f64 / self.iterations as f64);
            // One evaluation more than there are steps: the last one gives J at the end of the
            // iteration and checks that it is finite there.
            for step in 0..=self.expectation_steps + self.maximization_steps {
                let value = objective.value_and_gradient(
                    &model,
                    &inference,
                    x,
                    rng,
                    &mut workspace,
                    &mut gradient,
                )?;
                let finite = |part: &[T]| part.iter().all(|g| g.is_finite());
                if !(value.is_finite() && finite(&gradient.theta) && finite(&gradient.phi)) {
                    (model, inference) = good.clone();
                    stop = StopReason::Diverged;
                    break 'rounds;
                }
                if step < self.expectation_steps {
                    states[0].step(
                        inference.parameters_mut(),
                        &gradient.phi,
                        factor * self.expectation_rate,
                        T::one() / n,
                    );
                } else if step < self.expectation_steps + self.maximization_steps {
                    let (d_decoder, d_likelihood) = gradient.theta.split_at(decoder_count);
                    let rate = factor * self.maximization_rate;
                    states[1].step(model.decoder.parameters_mut(), d_decoder, rate, T::one() / n);
                    // A noise variance with a closed-form optimum is set to it (weight 1: the
                    // gradient is that of all observations); any other likelihood parameter is
                    // moved by Adam.
                    if !model.likelihood.step_to_optimum(d_likelihood, entries, T::one()) {
                        states[2].step(
                            model.likelihood.parameters_mut(),
                            d_likelihood,
                            rate,
                            T::one() / n,
                        );
                    }
                } else {
                    trace.push((value / n).as_f64());
                }
            }
            good = (model.clone(), inference.clone());
            if observer.observe(iteration + 1, trace.last().unwrap_or(f64::MIN)).is_break() {
                stop = StopReason::Interrupted;
                break;
            }
        }
        Ok(Fitted::new((model, inference), trace, stop))
    }

    fn check(&self) -> Result<()> {
        for (name, value) in [
            ("the number of iterations", self.iterations),
            ("the steps of the E-step", self.expectation_steps),
            ("the steps of the M-step", self.maximization_steps),
        ] {
            if value == 0 {
                return Err(Error::InvalidParameter { name, value: 0.0, must: "at least 1" });
            }
        }
        for (name, value) in [
            ("the rate of the E-step", self.expectation_rate),
            ("the rate of the M-step", self.maximization_rate),
        ] {
            if !(value > 0.0 && value.is_finite()) {
                return Err(Error::InvalidParameter { name, value, must: "positive and finite" });
            }
        }
        self.adam.check()
    }
}
