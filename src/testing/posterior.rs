//! Conformance check of variational families.

use super::differences::compare;
use super::{Failure, close, ensure, normal, rounding};
use crate::Real;
use crate::posterior::PosteriorFamily;
use nalgebra::{DMatrix, DVector};
use rand::Rng;

/// The number of observations (columns of φ) in the check.
const MEMBERS: usize = 4;

/// Checks a variational family at random φ with latent dimension k: the KL divergence against its
/// formula from mean and covariance; `transform`, whose factor must be one of the covariance; the
/// traces; each gradient against central differences; and that `nearest` is a stationary point.
///
/// # Errors
/// A [`Failure`] that describes the first violation.
///
/// ```
/// use elbo::{posterior::Full, testing::check_posterior_family};
/// use rand::{SeedableRng, rngs::StdRng};
/// check_posterior_family::<f64, Full<f64>>(3, &mut StdRng::seed_from_u64(1)).unwrap();
/// ```
pub fn check_posterior_family<T, Q>(latent_dim: usize, rng: &mut dyn Rng) -> Result<(), Failure>
where
    T: Real,
    Q: PosteriorFamily<T>,
{
    let k = latent_dim;
    let phi: DMatrix<T> = normal(Q::parameter_count(k), MEMBERS, rng);
    let q = Q::from_parameters(k, phi.clone())?;
    ensure((q.latent_dim(), q.len()) == (k, MEMBERS), || {
        format!("a family of {:?} where {:?} is due", (q.latent_dim(), q.len()), (k, MEMBERS))
    })?;
    ensure(q.mean() == phi.rows(0, k), || "the first k rows of φ are not the mean".to_string())?;
    ensure(Q::from_parameters(k, phi.clone().insert_row(0, T::one())).is_err(), || {
        "a row of φ too many is not refused".to_string()
    })?;
    check_moments(&q, rng)?;

    let members = |moved: &[T]| {
        Q::from_parameters(k, DMatrix::from_column_slice(phi.nrows(), MEMBERS, moved))
            .map_err(Failure::from)
    };
    // Neither 1 nor positive, so that a gradient that ignores scale or sign is found.
    let scale = T::of(-1.5);
    // The gradients must be added to `d`: it starts from other numbers than 0.
    let before: DMatrix<T> = normal(phi.nrows(), MEMBERS, rng);
    let added = |add: &dyn Fn(&mut DMatrix<T>)| {
        let mut d = before.clone();
        add(&mut d);
        d - &before
    };
    let gradient = added(&|d| q.add_negative_kl_gradient(scale, d));
    compare("add_negative_kl_gradient", phi.as_slice(), gradient.as_slice(), &mut |moved| {
        let kl = members(moved)?.kl_to_prior();
        Ok((-scale * kl.sum(), scale * kl.lp_norm(1)))
    })?;
    // More rows than columns: any matrix with k columns is allowed.
    let root: DMatrix<T> = normal(k + 1, k, rng);
    let wide = root.map(|v| v.as_f64());
    let gradient = added(&|d| q.add_negative_half_trace_gradient(root.as_view(), scale, d));
    compare(
        "add_negative_half_trace_gradient",
        phi.as_slice(),
        gradient.as_slice(),
        &mut |moved| {
            let trace = members(moved)?.trace_with(wide.as_view()).sum();
            Ok((T::of(-0.5) * scale * trace, trace))
        },
    )?;
    let (noise, d_z): (DMatrix<T>, DMatrix<T>) = (normal(k, MEMBERS, rng), normal(k, MEMBERS, rng));
    let gradient = added(&|d| q.add_transform_gradient(noise.as_view(), d_z.as_view(), d));
    compare("add_transform_gradient", phi.as_slice(), gradient.as_slice(), &mut |moved| {
        let mut z = DMatrix::zeros(k, MEMBERS);
        members(moved)?.transform(noise.as_view(), &mut z);
        Ok((z.dot(&d_z), z.component_mul(&d_z).lp_norm(1)))
    })?;
    let parts = added(&|d| {
        q.add_transform_gradient(noise.as_view(), d_z.as_view(), d);
        q.add_negative_kl_gradient(scale, d);
    });
    // `bound_gradient` must overwrite `d`: it starts from infinity.
    let mut gradient = DMatrix::from_element(phi.nrows(), MEMBERS, T::one() / T::zero());
    let (total, kl) = (
        q.bound_gradient(noise.as_view(), d_z.as_view(), scale, &mut gradient),
        q.kl_to_prior_sum(),
    );
    ensure(close(&gradient, &parts, rounding::<T>()), || {
        "bound_gradient is not the sum of its parts".to_string()
    })?;
    ensure((total - kl).as_f64().abs() <= rounding::<T>() * kl.as_f64().abs().max(1.0), || {
        format!("bound_gradient returns {total} where the divergences sum to {kl}")
    })?;
    check_nearest::<T, Q>(normal(k, MEMBERS, rng), &root)
}

/// Checks the moments: covariance, traces, KL divergence and their sums, none of which depends on
/// the layout of φ.
fn check_moments<T: Real, Q: PosteriorFamily<T>>(q: &Q, rng: &mut dyn Rng) -> Result<(), Failure> {
    let k = q.latent_dim();
    let root: DMatrix<T> = normal(k + 2, k, rng);
    let (kl, traces) = (q.kl_to_prior(), q.trace_with(root.map(|v| v.as_f64()).as_view()));
    // Column j of each factor L_i, from `transform` with one unit of noise along j.
    let mut factors = vec![DMatrix::<T>::zeros(k, k); q.len()];
    let mut z = DMatrix::zeros(k, q.len());
    for j in 0..k {
        let noise =
            DMatrix::from_fn(k, q.len(), |row, _| if row == j { T::one() } else { T::zero() });
        q.transform(noise.as_view(), &mut z);
        let deviations = &z - q.mean();
        factors
            .iter_mut()
            .zip(deviations.column_iter())
            .for_each(|(factor, column)| factor.set_column(j, &column));
    }
    let mut sum = DMatrix::zeros(k, k);
    for (i, factor) in factors.iter().enumerate() {
        let covariance = q.covariance(i);
        sum += &covariance;
        ensure(close(&(factor * factor.transpose()), &covariance, rounding::<T>()), || {
            format!("member {i}: transform's factor times its transpose is not the covariance")
        })?;
        let trace = (&root * factor).norm_squared();
        ensure(
            (traces[i] - trace).as_f64().abs() <= rounding::<T>() * trace.as_f64().max(1.0),
            || format!("member {i}: trace_with gives {} where the factor gives {trace}", traces[i]),
        )?;
        let Some(cholesky) = covariance.clone().cholesky() else {
            return Err(Failure::new(format!(
                "member {i}: the covariance is not positive definite"
            )));
        };
        let half_log_determinant =
            cholesky.l_dirty().diagonal().iter().fold(T::zero(), |sum, l| sum + l.ln());
        let expected = T::of(0.5)
            * (covariance.trace() + q.mean().column(i).norm_squared() - T::of_usize(k))
            - half_log_determinant;
        ensure(
            (kl[i] - expected).as_f64().abs() <= rounding::<T>() * expected.as_f64().abs().max(1.0),
            || {
                format!(
                    "member {i}: kl_to_prior is {} where mean and covariance give {expected}",
                    kl[i]
                )
            },
        )?;
    }
    ensure(close(&sum, &q.covariance_sum(), rounding::<T>()), || {
        "covariance_sum is not the sum of the covariances".to_string()
    })?;
    let (total, parts) = (q.kl_to_prior_sum(), kl.sum());
    ensure(
        (total - parts).as_f64().abs() <= rounding::<T>() * parts.as_f64().abs().max(1.0),
        || format!("kl_to_prior_sum is {total} where the divergences sum to {parts}"),
    )
}

/// Checks the KL projection: at `nearest`, the derivative of KL(q‖N(m, (RᵗR)⁻¹)) by the scale is 0,
/// and the mean is m.
fn check_nearest<T: Real, Q: PosteriorFamily<T>>(
    mean: DMatrix<T>,
    root: &DMatrix<T>,
) -> Result<(), Failure> {
    let k = mean.nrows();
    let q = Q::nearest(mean.clone(), root.map(|v| v.as_f64()).as_view())?;
    ensure(q.mean() == mean, || "nearest has another mean than the target".to_string())?;
    // −KL(q‖p) = −KL(q‖π) + ½ tr Σ − ½ tr RᵗRΣ + terms that do not depend on the scale.
    let mut d = DMatrix::zeros(q.parameters().nrows(), q.len());
    q.add_negative_kl_gradient(T::one(), &mut d);
    q.add_negative_half_trace_gradient(DMatrix::identity(k, k).as_view(), -T::one(), &mut d);
    q.add_negative_half_trace_gradient(root.as_view(), T::one(), &mut d);
    let scales = d.rows(k, d.nrows() - k);
    let size = root.norm_squared()
        * DVector::from_iterator(q.len(), (0..q.len()).map(|i| q.covariance(i).norm())).amax();
    ensure(scales.amax().as_f64() <= rounding::<T>() * size.as_f64().max(1.0), || {
        format!(
            "nearest is not stationary: a derivative by the scale is {:e}",
            scales.amax().as_f64()
        )
    })
}
