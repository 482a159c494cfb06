//! Times one case of one task and prints one JSON line:
//! `--task pca --peer elbo --case 60000x784 --dtype f64 --threads 2`.
//!
//! Data are read from `.npy` files in the folder given by the environment variable `PERF_DATA`
//! (`pca_CASE_DTYPE.npy` with `pca_CASE_f64.json`, `missing_CASE_f64.npy`, `vae_WIDTH_DTYPE.npy`);
//! where a file is absent, data of the same kind are generated. The reading is not timed. Tasks:
//! pca, score, ppca, fa, linae, vae. Other shapes: `--case NxD,K`, and for vae
//! `--case D-H1-H2-K,BATCH`.

mod case;
mod deep;
mod linear;
mod measure;

use case::{Arguments, Dtype};

fn main() {
    let arguments = match Arguments::parse() {
        Ok(arguments) => arguments,
        Err(message) => {
            eprintln!("error: {message}");
            std::process::exit(2)
        }
    };
    // With one thread the work runs on the current thread, and no other is started.
    let pool = rayon::ThreadPoolBuilder::new().num_threads(arguments.threads);
    let pool = if arguments.threads == 1 { pool.use_current_thread() } else { pool };
    let run = || match arguments.dtype {
        Dtype::F32 => run::<f32>(&arguments),
        Dtype::F64 => run::<f64>(&arguments),
    };
    let outcome = match pool.build() {
        Ok(pool) if arguments.threads > 1 => pool.install(run),
        Ok(_) => run(),
        Err(error) => Err(format!("{} threads: {error}", arguments.threads)),
    };
    match outcome {
        Ok(line) => println!("{line}"),
        Err(message) => {
            eprintln!("error: {message}");
            std::process::exit(1)
        }
    }
}

fn run<T: elbo::Real>(arguments: &Arguments) -> Result<String, String> {
    let fields = match arguments.task.as_str() {
        "pca" => linear::pca::<T>(arguments),
        "score" => linear::score::<T>(arguments),
        "fa" => linear::factor_analysis::<T>(arguments),
        "linae" => linear::autoencoder::<T>(arguments),
        "ppca" => linear::missing::<T>(arguments),
        "vae" => deep::vae::<T>(arguments),
        task => return Err(format!("there is no task {task:?}: pca, score, ppca, fa, linae, vae")),
    }?;
    Ok(measure::line(arguments, &fields))
}
