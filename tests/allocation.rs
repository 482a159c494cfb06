//! A training step allocates nothing after the first epoch, on one thread and on several: counted by
//! the allocator itself.

use elbo::Observations;
use elbo::fit::StochasticGradient;
use elbo::inference::{Amortized, GaussianEncoder};
use elbo::likelihood::{Bernoulli, IsotropicGaussian, Likelihood};
use elbo::map::{Activation, DifferentiableMap, Linear, Mlp};
use elbo::model::GenerativeModel;
use elbo::objective::Elbo;
use elbo::posterior::{Diagonal, Full, Isotropic, PosteriorFamily};
use nalgebra::{DMatrix, DVector};
use rand::{SeedableRng, rngs::StdRng};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

struct Counting;

/// Allocations of at most this size on a thread of a pool are jobs of rayon's: a worker that leaves
/// the pool after two idle milliseconds comes back as a new job (a box of a few words). Buffers of a
/// training step at the sizes of these tests are larger by an order of magnitude.
const JOB_BYTES: usize = 128;

static ON_POOL_THREADS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    // Of the own thread only: the test harness allocates on others.
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
    static LARGEST: Cell<usize> = const { Cell::new(0) };
    static IS_POOL_THREAD: Cell<bool> = const { Cell::new(false) };
}

fn count(size: usize) {
    // While a thread ends, its counter is gone; nothing is measured then.
    let _ = ALLOCATIONS.try_with(|allocations| allocations.set(allocations.get() + 1));
    let _ = LARGEST.try_with(|largest| largest.set(largest.get().max(size)));
    if size > JOB_BYTES && IS_POOL_THREAD.try_with(Cell::get).unwrap_or(false) {
        ON_POOL_THREADS.fetch_add(1, Relaxed);
    }
}

#[allow(unsafe_code)]
// SAFETY: every call is handed to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        unsafe { System.dealloc(memory, layout) }
    }
    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size);
        unsafe { System.realloc(memory, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The allocations of each epoch: 50 observations in batches of 16, so that the last batch is a
/// smaller one.
fn allocations<D: DifferentiableMap<f32> + Clone, L: Likelihood<f32>, Q: PosteriorFamily<f32>>(
    decoder: D,
    likelihood: L,
    samples: usize,
    held_out: f64,
) -> Vec<usize> {
    let rng = &mut StdRng::seed_from_u64(1);
    let (d, k) = (decoder.output_dim(), decoder.input_dim());
    let x = DMatrix::from_fn(d, 50, |i, j| ((i * 7 + j * 3) % 5 / 3) as f32);
    let encoder = Mlp::builder(d, Q::parameter_count(k)).hidden(&[9]).activation(Activation::Relu);
    let encoder = encoder
        .input_standardization(DVector::zeros(d), DVector::from_element(d, 0.5))
        .build(rng)
        .unwrap();
    let inference = Amortized::new(GaussianEncoder::<_, Q>::new(encoder, k).unwrap());
    let fitter = StochasticGradient {
        epochs: 6,
        batch_size: 16,
        held_out,
        patience: 100,
        clip_norm: Some(10.0),
        ..Default::default()
    };
    let mut seen = Vec::with_capacity(10);
    let mut watch = |_: usize, _: f64| seen.push(ALLOCATIONS.get());
    let x = Observations::new(x.as_view()).unwrap();
    fitter
        .fit(
            &Elbo::reparameterized(samples),
            GenerativeModel::new(decoder, likelihood),
            inference,
            x,
            rng,
            &mut watch,
        )
        .unwrap();
    seen.windows(2).map(|pair| pair[1] - pair[0]).collect()
}

#[test]
fn an_epoch_after_the_first_allocates_nothing() {
    let rng = &mut StdRng::seed_from_u64(2);
    let noise = IsotropicGaussian::new(1.0).unwrap();
    let mlp = Mlp::builder(3, 8).hidden(&[9, 7]).activation(Activation::Silu).build(rng).unwrap();
    let linear =
        Linear::new(DMatrix::from_fn(8, 3, |i, j| (i + j) as f32 * 0.1), DVector::zeros(8))
            .unwrap();
    assert_eq!(allocations::<_, _, Diagonal<f32>>(mlp.clone(), Bernoulli, 1, 0.0), [0; 5]);
    assert_eq!(allocations::<_, _, Isotropic<f32>>(mlp.clone(), noise, 2, 0.3), [0; 5]);
    assert_eq!(
        allocations::<_, _, Full<f32>>(mlp, IsotropicGaussian::analytic(1.0).unwrap(), 1, 0.0),
        [0; 5]
    );
    assert_eq!(allocations::<_, _, Full<f32>>(linear, noise, 3, 0.0), [0; 5]);
}

/// The largest allocation while forged bytes are read as a saved value.
fn largest_of<S: serde::de::DeserializeOwned>(read: impl Fn() -> Option<S>) -> usize {
    LARGEST.set(0);
    drop(read());
    LARGEST.get()
}

/// A forged size or count allocates no memory before that many numbers have been read: at most the
/// 1 MiB that serde reserves for a sequence of a stated length.
#[test]
fn a_forged_file_allocates_little() {
    const LIMIT: usize = 1 << 20;
    let network = Mlp::<f64>::builder(3, 4).hidden(&[2]).skip_connection();
    let network = network.build(&mut StdRng::seed_from_u64(3)).unwrap();
    let encoder = GaussianEncoder::<_, Full<f64>>::new(
        Mlp::builder(4, Full::<f64>::parameter_count(3))
            .build(&mut StdRng::seed_from_u64(4))
            .unwrap(),
        3,
    );
    let model: elbo::Vae<f64, Full<f64>> = elbo::Model::new(
        network,
        IsotropicGaussian::new(1.0).unwrap(),
        Amortized::new(encoder.unwrap()),
    )
    .unwrap();
    type Vae = elbo::Vae<f64, Full<f64>>;
    let bytes = postcard::to_allocvec(&model).unwrap();
    // Lengths and sizes are varints in postcard: of 2⁶⁴ − 1, of 2⁴⁰ and of 2²⁸.
    let sizes: [&[u8]; 3] =
        [&[0xff; 9], &[0x80, 0x80, 0x80, 0x80, 0x80, 0x20], &[0x80, 0x80, 0x80, 0x80, 0x01]];
    for place in 0..bytes.len() {
        for size in sizes {
            let end: &[u8] = if size.len() == 9 { &[0x01] } else { &[] };
            let forged = [&bytes[..place], size, end, &bytes[place + 1..]].concat();
            let largest = largest_of(|| postcard::from_bytes::<Vae>(&forged).ok());
            assert!(largest <= LIMIT, "{largest} bytes at {place}");
        }
    }
    let value = serde_json::to_value(&model).unwrap();
    for field in [
        "/decoder/sizes/0",
        "/decoder/sizes/1",
        "/decoder/sizes/2",
        "/inference/map/sizes/0",
        "/inference/map/sizes/1",
        "/inference/latent_dim",
    ] {
        for size in [u64::MAX, 1 << 40, 1 << 28, 0] {
            let mut forged = value.clone();
            *forged.pointer_mut(field).unwrap() = size.into();
            let text = forged.to_string();
            assert!(serde_json::from_str::<Vae>(&text).is_err(), "{field}");
            let largest = largest_of(|| serde_json::from_str::<Vae>(&text).ok());
            assert!(largest <= LIMIT, "{largest} bytes for {field} of {size}");
        }
    }
}

#[test]
fn an_epoch_on_threads_allocates_no_buffer() {
    let counts = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .start_handler(|_| IS_POOL_THREAD.set(true))
            .build()
            .unwrap();
        pool.install(|| {
            let (d, k, rng) = (300, 10, &mut StdRng::seed_from_u64(5));
            let x = DMatrix::from_fn(d, 60, |i, j| ((i * 7 + j * 3) % 5 / 3) as f32);
            let relu = |inputs, outputs| {
                Mlp::builder(inputs, outputs).hidden(&[250]).activation(Activation::Relu)
            };
            let encoder = relu(d, 2 * k).build(rng).unwrap();
            let decoder = relu(k, d).build(rng).unwrap();
            let encoder = GaussianEncoder::<_, Diagonal<f32>>::new(encoder, k).unwrap();
            let fitter = StochasticGradient { epochs: 8, batch_size: 30, ..Default::default() };
            let mut seen = Vec::with_capacity(20);
            let mut watch = |_: usize, _: f64| seen.push(ON_POOL_THREADS.load(Relaxed));
            let model = GenerativeModel::new(decoder, Bernoulli);
            let objective = Elbo::reparameterized(1);
            fitter.fit(&objective, model, Amortized::new(encoder), &x, rng, &mut watch).unwrap();
            seen.windows(2).map(|pair| pair[1] - pair[0]).collect::<Vec<_>>()
        })
    };
    assert_eq!(counts(1), [0; 7]);
    // Which thread takes which job is not fixed: a thread may take its largest product late, and
    // grow its packing buffers then. After that nothing is allocated.
    let on_two = counts(2);
    assert!(on_two.contains(&0), "{on_two:?}");
}
