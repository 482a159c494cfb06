//! What the benchmarks share: the cases of `examples/bench`, pools, growth, memory.
#![allow(dead_code)]

#[path = "../../examples/bench/case.rs"]
pub mod case;
#[path = "../../examples/bench/measure.rs"]
pub mod measure;

use case::{Arguments, Dtype};
use criterion::Criterion;
use std::time::{Duration, Instant};

/// Whether the table's own sizes are wanted (`ELBO_BENCH_FULL=1`), and not smaller ones that end
/// soon.
pub fn full() -> bool {
    std::env::var_os("ELBO_BENCH_FULL").is_some_and(|value| value != "0")
}

/// Criterion for runs that may take a second each.
pub fn criterion() -> Criterion {
    Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args()
}

pub fn case(name: &str) -> Arguments {
    Arguments {
        task: String::new(),
        peer: String::new(),
        case: name.into(),
        dtype: Dtype::F64,
        threads: 1,
        seed: 1,
        max_reps: 9,
        budget: 2.0,
    }
}

/// Times `f` in pools of 1 and of 2 threads, and prints what memory it takes at most.
pub fn on_threads(c: &mut Criterion, name: &str, f: impl Fn() + Sync) {
    // First of all: what a run frees may stay with the process, and would hide the next one's need.
    let memory = measure::Resident::start();
    f();
    println!("{name}: peak memory {:.1} MiB beyond what was there", memory.extra());
    for threads in [1, 2] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
        // The whole loop runs in the pool: what is timed does not wake it.
        let run = |count: u64| pool.install(|| timed(|| (0..count).for_each(|_| f())));
        c.bench_function(&format!("{name}/{threads}"), |bencher| bencher.iter_custom(run));
    }
}

/// Doubles one size at a time and prints the exponent of the growth: log₂ of the ratio of the
/// median times.
pub fn growth(name: &str, start: [usize; 3], mut run: impl FnMut([usize; 3]) -> Duration) {
    let mut median = |size: [usize; 3]| {
        let mut runs: Vec<f64> = (0..5).map(|_| run(size).as_secs_f64()).collect();
        runs.sort_by(f64::total_cmp);
        runs[2]
    };
    let base = median(start);
    for (i, what) in ["n", "d", "k"].into_iter().enumerate() {
        let mut size = start;
        size[i] *= 2;
        println!(
            "{name}: time grows as {what}^{:.2} at n = {}, d = {}, k = {}",
            (median(size) / base).log2(),
            start[0],
            start[1],
            start[2]
        );
    }
}

pub fn timed<R>(f: impl FnOnce() -> R) -> Duration {
    let start = Instant::now();
    std::hint::black_box(f());
    start.elapsed()
}
