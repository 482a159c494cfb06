//! One training step of the variational autoencoder: the batch is gathered, J and its gradient
//! taken, and Adam moves all parameters.

#[path = "../examples/bench/deep.rs"]
#[allow(dead_code)]
mod deep;
mod support;

use deep::Trainer;
use std::hint::black_box;
use std::sync::Mutex;
use support::{case, criterion, full, growth, measure, on_threads, timed};

fn batch(trainer: &Trainer<'_, f32>) -> Vec<usize> {
    (0..trainer.case.batch).map(|i| i * 7 % trainer.case.x.ncols()).collect()
}

fn main() {
    let _ = measure::median;
    let mut c = criterion();
    let small = ["64-32-8,64", "196-100-20,64"];
    let table = ["digits", "mnist400", "deep200b100", "deep200b20"];
    for name in if full() { &table[..] } else { &small[..] } {
        let data = case::deep::<f32>(&case(name)).expect("a known case");
        let trainer = Trainer::new(&data).expect("a known case");
        let chosen = batch(&trainer);
        let trainer = Mutex::new(trainer);
        on_threads(&mut c, &format!("vae/step/{name}"), || {
            let value = trainer.lock().expect("no panic").step(&chosen);
            black_box(value.expect("a step"));
        });
    }
    // n is the batch, d the variables, k the hidden width.
    growth("vae/step", if full() { [64, 784, 400] } else { [32, 128, 128] }, |[n, d, hidden]| {
        let data = case::deep::<f32>(&case(&format!("{d}-{hidden}-16,{n}"))).expect("a case");
        let mut trainer = Trainer::new(&data).expect("a case");
        let chosen = batch(&trainer);
        trainer.step(&chosen).expect("a step");
        timed(|| (0..20).for_each(|_| drop(black_box(trainer.step(&chosen)))))
    });
    c.final_summary();
}
