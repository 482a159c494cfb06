//! Signs, orders and bases of directions: one rule for every algorithm, precision, order of the
//! observations and partition into chunks.

use crate::support::{case, permuted};
use elbo::data::Moments;
use elbo::fit::{ExpectationMaximization, PxEm};
use elbo::linalg::Solver;
use elbo::rotation::{Promax, Varimax};
use elbo::{FactorAnalysis, LinearAutoencoder, Pca, Ppca, Real};
use nalgebra::{DMatrix, dmatrix};
use rand::{SeedableRng, rngs::StdRng};

const SOLVERS: [Solver; 6] = [
    Solver::Auto,
    Solver::Covariance,
    Solver::Gram,
    Solver::Full,
    Solver::Krylov,
    Solver::Randomized { oversampling: 4, power_iterations: 4 },
];

/// All orders of six observations.
fn orders() -> Vec<Vec<usize>> {
    let mut orders = vec![vec![]];
    for length in 0..6 {
        orders = orders
            .into_iter()
            .flat_map(|order: Vec<usize>| {
                (0..=length).map(move |at| {
                    let mut longer = order.clone();
                    longer.insert(at, length);
                    longer
                })
            })
            .collect();
    }
    assert_eq!(orders.len(), 720);
    orders
}

/// Both directions of ties.csv, (1, −1) and (1, 1), have entries of the same size.
fn expect<T: Real>(directions: &DMatrix<T>, what: &str) {
    let columns = directions.ncols();
    let right = dmatrix![1.0, 1.0; -1.0, 1.0] / 2f64.sqrt();
    let apart = (directions.map(|v| v.as_f64()) - right.columns(0, columns)).amax();
    assert!(apart < 1e-4, "{what}: {directions}");
}

fn one_sign_in_all_orders<T: Real>() {
    let table = case("ties.csv").map(T::of);
    for (turn, order) in orders().iter().enumerate() {
        let x = permuted(&table, order);
        for solver in SOLVERS {
            let what = format!("{solver:?} {order:?}");
            expect(Pca::builder(2).fitter(solver).fit(&x).unwrap().model.components(), &what);
            let rng = &mut StdRng::seed_from_u64(turn as u64);
            let ppca = Ppca::builder(1).fitter(solver).fit(&x, rng).unwrap().model;
            expect(&ppca.components().unwrap(), &what);
            assert!(ppca.loadings()[0] > T::zero() && ppca.loadings()[1] < T::zero(), "{what}");
        }
        let mut moments = Moments::new(2);
        for (first, count) in [(0, turn % 4 + 1), (turn % 4 + 1, 5 - turn % 4)] {
            moments.update(x.columns(first, count)).unwrap();
        }
        expect(Pca::<T>::fit(2, &moments).unwrap().model.components(), "moments");
        expect(&Ppca::<T>::fit(1, &moments).unwrap().model.components().unwrap(), "moments");
        let decoder = LinearAutoencoder::fit(1, &x).unwrap().model;
        expect(&decoder.decoder().weights().into_owned(), "autoencoder");
    }
    // Iterative fits, from one random start for each order.
    for (turn, order) in orders().iter().enumerate().step_by(60) {
        let (x, rng) = (permuted(&table, order), &mut StdRng::seed_from_u64(turn as u64));
        let em = Ppca::builder(1).fitter(ExpectationMaximization::default()).fit(&x, rng).unwrap();
        let px = Ppca::builder(1).fitter(PxEm::default()).fit(&x, rng).unwrap();
        let floor =
            Ppca::builder(1).noise_floor(1e-6).fit(elbo::data::Incomplete(&x), rng).unwrap();
        for (model, what) in [(em.model, "EM"), (px.model, "PX-EM"), (floor.model, "incomplete")] {
            expect(&model.components().unwrap(), what);
            assert!(model.loadings()[0] > T::zero() && model.loadings()[1] < T::zero(), "{what}");
        }
        let factors = FactorAnalysis::builder(1).noise_floor(0.01).fit(&x, rng).unwrap().model;
        assert!(factors.loadings()[0] > T::zero(), "{}", factors.loadings());
    }
}

#[test]
fn the_first_of_several_large_entries_is_positive() {
    one_sign_in_all_orders::<f64>();
    one_sign_in_all_orders::<f32>();
}

/// A 2² design and its double: the variances of a pair of variables are equal, and any rotation of
/// the two directions serves.
#[test]
fn directions_of_equal_variance_are_one_basis() {
    let design = dmatrix![
        1.0, 1.0, -1.0, -1.0, 1.0, 1.0, -1.0, -1.0;
        1.0, -1.0, 1.0, -1.0, 1.0, -1.0, 1.0, -1.0;
        2.0, 2.0, 2.0, 2.0, -2.0, -2.0, -2.0, -2.0];
    let (sine, cosine) = 0.3f64.sin_cos();
    let turned = dmatrix![1.0, 0.0, 0.0; 0.0, cosine, -sine; 0.0, sine, cosine];
    let right = Pca::fit(3, &design).unwrap().model;
    assert!(
        (right.components() - dmatrix![0.0, 1.0, 0.0; 0.0, 0.0, 1.0; 1.0, 0.0, 0.0]).amax() < 1e-12
    );
    for solver in SOLVERS {
        let of = |x: &DMatrix<f64>| Pca::builder(3).fitter(solver).fit(x).unwrap().model;
        for order in [[0, 1, 2, 3, 4, 5, 6, 7], [7, 2, 5, 0, 3, 6, 1, 4]] {
            let x = permuted(&design, &order);
            assert!((of(&x).components() - right.components()).amax() < 1e-7, "{solver:?}");
            let narrow = Pca::builder(3).fitter(solver).fit(&x.map(|v| v as f32)).unwrap().model;
            let narrow = narrow.components().map(f64::from);
            assert!((narrow - right.components()).amax() < 1e-5, "{solver:?}");
        }
        // In other axes the same basis for all algorithms.
        let x = &turned * &design;
        assert!((of(&x).components() - of(&x).components()).amax() == 0.0);
        let auto = Pca::fit(3, &x).unwrap().model;
        assert!((of(&x).components() - auto.components()).amax() < 1e-7, "{solver:?}");
    }
}

#[test]
fn rotations_of_the_same_loadings_are_one() {
    let design = dmatrix![1.0, 1.0; 1.0, -1.0; -1.0, 1.0; -1.0, -1.0];
    let three = dmatrix![
        0.8, 0.1, 0.0; 0.7, 0.0, 0.1; 0.1, 0.8, 0.0; 0.0, 0.7, -0.1; 0.0, 0.1, 0.8; 0.1, 0.0, 0.7];
    let (sine, cosine) = 0.3f64.sin_cos();
    let turn = |k: usize, at: usize| {
        let mut turn = DMatrix::identity(k, k);
        turn[(at, at)] = cosine;
        turn[(at + 1, at + 1)] = cosine;
        turn[(at, at + 1)] = -sine;
        turn[(at + 1, at)] = sine;
        turn
    };
    for loadings in [design, three] {
        let k = loadings.ncols();
        let right = Varimax::default().rotate(loadings.as_view()).unwrap().loadings;
        let oblique = Promax::default().rotate(loadings.as_view()).unwrap().loadings;
        let back = &loadings * turn(k, 0) * turn(k, 0).transpose();
        let other = -(&loadings * turn(k, 0) * turn(k, k - 2));
        for loadings in [back, other] {
            let found = Varimax::default().rotate(loadings.as_view()).unwrap().loadings;
            assert!((&found - &right).amax() < 1e-8, "{found} {right}");
            let found = Promax::default().rotate(loadings.as_view()).unwrap().loadings;
            assert!((&found - &oblique).amax() < 1e-7, "{found} {oblique}");
            let narrow = Varimax::default().rotate(loadings.map(|v| v as f32).as_view()).unwrap();
            assert!((narrow.loadings.map(f64::from) - &right).amax() < 1e-4);
        }
    }
}
