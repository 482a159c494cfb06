mod stress;
use elbo::{
    Ppca,
    data::files::{Missing, ReadOptions, read},
};
use rand::{SeedableRng, rngs::StdRng};
fn main() {
    if std::env::args().nth(1).as_deref() == Some("stress") {
        return stress::main();
    }
    let a: Vec<String> = std::env::args().collect();
    let k: usize = a[2].parse().unwrap();
    let seeds: u64 = a[3].parse().unwrap();
    let mut o = ReadOptions::default().missing(Missing::Allow);
    let mut t = if a[1] == "iris" {
        o = o.ignore(["label"]);
        let mut t = read::<f64>("examples/data/iris.csv.gz", &o)
            .or_else(|_| read::<f64>("examples/data/iris.csv.gz", &ReadOptions::default()))
            .unwrap();
        for i in 0..t.values.ncols() {
            for j in 0..t.values.nrows() {
                if (7 * i + 3 * j) % 11 == 0 {
                    t.values[(j, i)] = f64::NAN;
                }
            }
        }
        t
    } else {
        read::<f64>(&a[1], &o).unwrap()
    };
    if a.len() > 4 {
        let c: f64 = a[4].parse().unwrap();
        let d = t.values.nrows();
        for (j, mut r) in t.values.row_iter_mut().enumerate() {
            r *= 10f64.powf(c * (2.0 * j as f64 / (d - 1) as f64 - 1.0));
        }
    }
    let n = t.values.ncols() as f64;
    for s in 0..seeds {
        let now = std::time::Instant::now();
        let tol = std::env::var("TOL").map_or(1e-7, |t| t.parse().unwrap());
        let sch = match std::env::var("SCH").as_deref() {
            Ok("p") => elbo::fit::Scheme::Plain,
            Ok("e") => elbo::fit::Scheme::Expanded,
            _ => elbo::fit::Scheme::Accelerated,
        };
        match Ppca::builder(k).fit_incomplete_by(
            &elbo::fit::IncompleteEm { tolerance: tol, scheme: sch, ..Default::default() },
            &t.values,
            &mut StdRng::seed_from_u64(s),
        ) {
            Ok(f) => println!(
                "{s} {:.10} per {:.9} it {} rej {} {} {:.2}ms s2 {:e}",
                f.trace.last().unwrap() * n,
                f.trace.last().unwrap(),
                f.iterations(),
                f.trace.rejected_steps(),
                f.stop,
                now.elapsed().as_secs_f64() * 1e3,
                f.noise_variance()
            ),
            Err(e) => println!("{s} {e}"),
        }
    }
}
