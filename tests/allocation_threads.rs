//! A training step at sizes that use threads allocates nothing once every thread has its buffers:
//! counted over all threads.
#![cfg(feature = "rayon")]

use elbo::Observations;
use elbo::fit::StochasticGradient;
use elbo::inference::{Amortized, GaussianEncoder};
use elbo::likelihood::Bernoulli;
use elbo::map::{Activation, Mlp};
use elbo::model::GenerativeModel;
use elbo::objective::Elbo;
use elbo::posterior::Diagonal;
use nalgebra::DMatrix;
use rand::{SeedableRng, rngs::StdRng};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

struct Counting;

#[allow(unsafe_code)]
// SAFETY: every call is handed to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        unsafe { System.dealloc(memory, layout) }
    }
    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        unsafe { System.realloc(memory, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// The only test of this file: nothing else allocates meanwhile.
#[test]
fn an_epoch_on_threads_allocates_nothing() {
    let counts = |threads: usize| {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(|| {
            let (d, k, rng) = (300, 10, &mut StdRng::seed_from_u64(5));
            let x = DMatrix::from_fn(d, 60, |i, j| ((i * 7 + j * 3) % 5 / 3) as f32);
            let relu = |inputs, outputs| {
                Mlp::builder(inputs, outputs).hidden(&[250]).activation(Activation::Relu)
            };
            let encoder = relu(d, 2 * k).build(rng).unwrap();
            let decoder = relu(k, d).build(rng).unwrap();
            let inference =
                Amortized::new(GaussianEncoder::<_, Diagonal<f32>>::new(encoder, k).unwrap());
            let fitter = StochasticGradient { epochs: 8, batch_size: 30, ..Default::default() };
            let mut seen = Vec::with_capacity(20);
            let mut watch = |_: usize, _: f64| seen.push(ALLOCATIONS.load(Relaxed));
            let x = Observations::new(x.as_view()).unwrap();
            fitter
                .fit(
                    &Elbo::reparameterized(1),
                    GenerativeModel::new(decoder, Bernoulli),
                    inference,
                    x,
                    rng,
                    &mut watch,
                )
                .unwrap();
            seen.windows(2).map(|pair| pair[1] - pair[0]).collect::<Vec<_>>()
        })
    };
    assert!(counts(1).iter().all(|&count| count == 0));
    // Which thread takes which piece is not fixed: a thread may meet its largest product late, and
    // grow its buffers then.
    let free = counts(2).into_iter().filter(|&count| count == 0).count();
    assert!(free >= 4, "{free} epochs of 7 without an allocation");
}
