//! The same bits for any number of threads, through the public API and at sizes where threads are
//! used.

use elbo::fit::{AutoencoderDescent, StochasticGradient};
use elbo::inference::{Amortized, GaussianEncoder};
use elbo::likelihood::{Bernoulli, IsotropicGaussian, Likelihood};
use elbo::map::{Mlp, Parameters};
use elbo::model::GenerativeModel;
use elbo::objective::Elbo;
use elbo::posterior::{Diagonal, Full};
use elbo::{BinaryVae, DeepEncoderPpca, LinearAutoencoder, Observations, Ppca, Real, Vae};
use nalgebra::DMatrix;
use rand::{SeedableRng, rngs::StdRng};

fn on<R: Send>(threads: usize, f: impl FnOnce() -> R + Send) -> R {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(f)
}

fn data<T: Real>(d: usize, n: usize) -> DMatrix<T> {
    let rng = &mut StdRng::seed_from_u64(3);
    let factors = DMatrix::from_fn(d, 4, |_, _| f64::standard_normal(rng));
    let codes = DMatrix::from_fn(4, n, |_, _| f64::standard_normal(rng));
    (factors * codes + DMatrix::from_fn(d, n, |_, _| 0.5 * f64::standard_normal(rng))).map(T::of)
}

fn trained<L: Likelihood<f32> + Send + Sync>(likelihood: L, x: &DMatrix<f32>) -> Vec<f32> {
    let (d, k, rng) = (x.nrows(), 10, &mut StdRng::seed_from_u64(5));
    let encoder = Mlp::builder(d, 2 * k).hidden(&[120]).build(rng).unwrap();
    let decoder = Mlp::builder(k, d).hidden(&[120]).build(rng).unwrap();
    let inference = Amortized::new(GaussianEncoder::<_, Diagonal<f32>>::new(encoder, k).unwrap());
    let fitter = StochasticGradient { epochs: 2, batch_size: 48, ..Default::default() };
    let x = Observations::new(x.as_view()).unwrap();
    let fitted = fitter
        .fit(
            &Elbo::reparameterized(1),
            GenerativeModel::new(decoder, likelihood),
            inference,
            x,
            rng,
            &mut (),
        )
        .unwrap();
    let (model, inference) = fitted.model;
    model
        .decoder
        .parameters()
        .iter()
        .chain(inference.parameters())
        .copied()
        .chain(fitted.trace.values().iter().map(|v| *v as f32))
        .collect()
}

#[test]
fn training() {
    let x = data::<f32>(150, 80);
    let binary = x.map(|v| if v > 0.0 { 1.0 } else { 0.0 });
    let noise = IsotropicGaussian::new(1.0f32).unwrap();
    let (one, one_binary) = on(1, || (trained(noise, &x), trained(Bernoulli, &binary)));
    for threads in [2, 3] {
        assert!(on(threads, || trained(noise, &x)) == one, "{threads}");
        assert!(on(threads, || trained(Bernoulli, &binary)) == one_binary, "{threads}");
    }
}

/// A half of the inputs is more than the matrix kernel sums in one go.
#[test]
fn training_on_many_variables() {
    let x = data::<f32>(1100, 60);
    let noise = IsotropicGaussian::new(1.0f32).unwrap();
    let one = on(1, || trained(noise, &x));
    for threads in [2, 3] {
        assert!(on(threads, || trained(noise, &x)) == one, "{threads}");
    }
}

/// The deep steps by their front doors, with every default but the number of epochs.
#[test]
fn deep_steps() {
    fn fitted<T: Real>(x: &DMatrix<T>, binary: &DMatrix<T>) -> Vec<T> {
        let fitter = StochasticGradient { epochs: 2, held_out: 0.1, ..Default::default() };
        let (hidden, rng) = ([70, 40], &mut StdRng::seed_from_u64(7));
        let encoder =
            DeepEncoderPpca::<T>::builder(6).hidden(&hidden).fitter(fitter).fit(x, rng).unwrap();
        let vae =
            Vae::<T>::builder(6).hidden(&hidden).samples(2).fitter(fitter).fit(x, rng).unwrap();
        let of_binary = BinaryVae::<T, Full<T>>::builder(6)
            .hidden(&hidden)
            .fitter(fitter)
            .fit(binary, rng)
            .unwrap();
        let traces = [&encoder.trace, &vae.trace, &of_binary.trace];
        let values = traces.into_iter().flat_map(|trace| trace.values().iter().map(|v| T::of(*v)));
        let results = [
            encoder.model.reconstruct(x),
            vae.model.reconstruct(x),
            of_binary.model.transform(binary),
        ]
        .map(Result::unwrap);
        let scores = encoder.model.log_likelihood(x).unwrap();
        results
            .iter()
            .flat_map(|m| m.iter().copied())
            .chain(scores.iter().copied())
            .chain(values)
            .collect()
    }
    let (x, single) = (data::<f64>(100, 150), data::<f32>(100, 150));
    let (binary, single_binary) =
        (x.map(|v| f64::from(v > 0.0)), single.map(|v| if v > 0.0 { 1.0f32 } else { 0.0 }));
    let (one, one_single) = on(1, || (fitted(&x, &binary), fitted(&single, &single_binary)));
    for threads in [2, 3] {
        assert!(on(threads, || fitted(&x, &binary)) == one, "{threads}");
        assert!(on(threads, || fitted(&single, &single_binary)) == one_single, "{threads}");
    }
}

#[test]
fn closed_form_and_gradient() {
    fn fitted<T: Real>(x: &DMatrix<T>) -> [DMatrix<T>; 4] {
        let model = Ppca::fit(3, x).unwrap();
        let autoencoder = LinearAutoencoder::builder(3)
            .fitter(AutoencoderDescent::default())
            .fit(x, &mut StdRng::seed_from_u64(2))
            .unwrap();
        let scores = model.model.log_likelihood(x).unwrap();
        let scores = DMatrix::from_column_slice(scores.len(), 1, scores.as_slice());
        [
            model.model.loadings().into_owned(),
            model.model.transform(x).unwrap(),
            scores,
            autoencoder.model.transform(x).unwrap(),
        ]
    }
    // The covariance of many variables, that of few, and more variables than observations.
    for (d, n) in [(200, 300), (20, 5000), (300, 60)] {
        let (x, single) = (data::<f64>(d, n), data::<f32>(d, n));
        let (one, one_single) = on(1, || (fitted(&x), fitted(&single)));
        for threads in [2, 3] {
            assert!(on(threads, || fitted(&x)) == one, "{d}x{n} on {threads}");
            assert!(on(threads, || fitted(&single)) == one_single, "{d}x{n} on {threads}");
        }
    }
}
