use elbo::Real;
use elbo::{Ppca, fit::IncompleteEm};
use rand::{RngExt, SeedableRng, rngs::StdRng};
pub fn main() {
    let tables: u64 = std::env::args().nth(2).unwrap().parse().unwrap();
    for t in 0..tables {
        let mut r = StdRng::seed_from_u64(1000 + t);
        let n = [400, 60, 150][(t % 3) as usize];
        let d = 12;
        let rank = [0, 3, 5, 2][(t % 4) as usize];
        let holes = [0.2, 0.4, 0.6][(t / 2 % 3) as usize];
        let a = nalgebra::DMatrix::from_fn(d, rank, |_, _| f64::standard_normal(&mut r));
        let z = nalgebra::DMatrix::from_fn(rank, n, |_, _| f64::standard_normal(&mut r));
        let mut x = &a * &z;
        x.apply(|v| {
            *v += 0.5 * f64::standard_normal(&mut r);
            if r.random::<f64>() < holes {
                *v = f64::NAN;
            }
        });
        for k in [1, 2, 4, 6] {
            let run = |tol: f64| -> Vec<(f64, usize, usize)> {
                (0..20)
                    .map(|s| {
                        match Ppca::builder(k).fit_incomplete_by(
                            &IncompleteEm { tolerance: tol, ..Default::default() },
                            &x,
                            &mut StdRng::seed_from_u64(s),
                        ) {
                            Ok(f) => (f.trace.last().unwrap(), f.iterations(), f.trace.rejected_steps()),
                            Err(e) => {
                                if s == 0 && tol > 1e-9 {
                                    println!("{e}");
                                }
                                (f64::NAN, 0, 0)
                            }
                        }
                    })
                    .collect()
            };
            let (c, f) = (run(1e-7), run(1e-12));
            let best = f.iter().map(|v| v.0).fold(f64::NEG_INFINITY, f64::max);
            let local = f.iter().filter(|v| v.0 < best - 1e-6).count();
            let early = c.iter().zip(&f).map(|(a, b)| b.0 - a.0).fold(f64::NEG_INFINITY, f64::max);
            let nearly = c.iter().zip(&f).filter(|(a, b)| b.0 - a.0 > 2e-7).count();
            println!(
                "t{t} n{n} r{rank} h{holes} k{k}: best {best:.7} local {local} early {nearly} worst {early:.1e} its {:?} max {:?} fine {:?} rej {:?}",
                c.iter().map(|v| v.1).sum::<usize>() / 20,
                c.iter().map(|v| v.1).max(),
                f.iter().map(|v| v.1).max(),
                c.iter().map(|v| v.2).max()
            );
        }
    }
}
