//! Moments that are written, read, merged and made from a published covariance.

use elbo::data::{Data, Moments, Source};
use elbo::fit::PxEm;
use elbo::{Error, FactorAnalysis, LinearAutoencoder, Observations, Pca, Ppca, Real, Result};
use nalgebra::{DMatrix, DVector, dmatrix};
use rand::{SeedableRng, rngs::StdRng};

fn normal(d: usize, n: usize, seed: u64) -> DMatrix<f64> {
    let rng = &mut StdRng::seed_from_u64(seed);
    DMatrix::from_fn(d, n, |_, _| f64::standard_normal(rng))
}

/// The data that a well-known distributed implementation answers with a negative variance: standard
/// deviations ten and eleven orders of magnitude below the mean.
fn beside_an_offset(n: usize, seed: u64) -> DMatrix<f64> {
    let mut x = normal(2, n, seed);
    for (j, (mean, deviation)) in [(1e5, 9e-6), (2e5, 2e-6)].into_iter().enumerate() {
        x.row_mut(j).apply(|v| *v = mean + deviation * *v);
    }
    x
}

/// The covariance, exactly: of the entries as integers, in units of 2⁻³⁶ about an origin.
fn exact_covariance(x: &DMatrix<f64>) -> DMatrix<f64> {
    let unit = 2f64.powi(-36);
    let steps = |j: usize, i: usize| {
        // The difference of neighbouring numbers is exact, and a multiple of the unit.
        let steps = ((x[(j, i)] - x[(j, 0)]) / unit) as i128;
        assert_eq!(steps as f64 * unit, x[(j, i)] - x[(j, 0)]);
        steps
    };
    let n = x.ncols() as i128;
    DMatrix::from_fn(x.nrows(), x.nrows(), |a, b| {
        let sum = |j: usize| (0..x.ncols()).map(|i| steps(j, i)).sum::<i128>();
        let products = (0..x.ncols()).map(|i| steps(a, i) * steps(b, i)).sum::<i128>();
        let scatter = n * products - sum(a) * sum(b);
        scatter as f64 / (n as f64).powi(2) * unit * unit
    })
}

/// Merges the moments of blocks by a binary tree.
fn tree(parts: &[Moments]) -> Moments {
    match parts {
        [one] => one.clone(),
        _ => {
            let (left, right) = parts.split_at(parts.len() / 2);
            let mut both = tree(left);
            both.merge(&tree(right)).unwrap();
            both
        }
    }
}

/// A million rows, merged in any order.
#[test]
fn variances_ten_orders_of_magnitude_below_the_mean() {
    let n = 1_000_000;
    let x = beside_an_offset(n, 1);
    let right = exact_covariance(&x);
    let parts: Vec<Moments> =
        (0..n / 1000).map(|b| Moments::of(x.columns(b * 1000, 1000)).unwrap()).collect();
    let mut in_turn = Moments::new(2);
    parts.iter().for_each(|part| in_turn.merge(part).unwrap());
    let mut reversed = Moments::new(2);
    parts.iter().rev().for_each(|part| reversed.merge(part).unwrap());
    let mut in_rows = Moments::new(2);
    (0..2000).for_each(|i| in_rows.update(x.columns(i, 1)).unwrap());
    in_rows.update(x.columns(2000, n - 2000)).unwrap();
    let of_tree = tree(&parts);
    for (moments, what) in [
        (&in_turn, "in turn"),
        (&reversed, "reversed"),
        (&of_tree, "tree"),
        (&in_rows, "rows first"),
        (&Moments::of(&x).unwrap(), "at once"),
    ] {
        let covariance = moments.covariance();
        assert_eq!(moments.count(), n);
        for j in 0..2 {
            let apart = covariance[(j, j)] / right[(j, j)] - 1.0;
            assert!(apart.abs() < 1e-6, "{what} {j}: {apart:e}");
        }
    }
    // The same tree, from moments that were written and read: bit-identical.
    let read: Vec<Moments> =
        parts.iter().map(|part| Moments::from_values(&part.to_values()).unwrap()).collect();
    assert_eq!(tree(&read), of_tree);
    let model = Pca::<f64>::fit(2, &of_tree).unwrap().model;
    // Both eigenvalues of the exact covariance, from its trace and determinant.
    let (half, determinant) = (0.5 * right.trace(), right.determinant());
    let root = (half * half - determinant).sqrt();
    for (found, right) in model.explained_variance().iter().zip([half + root, half - root]) {
        assert!((found / right - 1.0).abs() < 1e-6, "{found:e} beside {right:e}");
    }
}

/// 70,000 variables of a few observations: a d×d matrix would have 39 GB.
#[test]
fn many_more_variables_than_observations() {
    let (d, n) = (70_000, 12);
    let mut x = normal(d, n, 3);
    x.row_iter_mut()
        .enumerate()
        .for_each(|(j, mut row)| row.add_scalar_mut(100.0 + (j % 7) as f64));
    let whole = Pca::fit(3, &x).unwrap().model;
    let mut merged = Moments::of(x.columns(0, 5)).unwrap();
    let sent = Moments::of(x.columns(5, 7)).unwrap().to_values();
    merged.merge(&Moments::from_values(&sent).unwrap()).unwrap();
    let found = Pca::<f64>::fit(3, &merged).unwrap().model;
    let apart = found.explained_variance().component_div(&whole.explained_variance());
    assert!(apart.add_scalar(-1.0).amax() < 1e-10);
    assert!((found.components() - whole.components()).amax() < 1e-8);
    let ppca = Ppca::<f64>::fit(2, &merged).unwrap().model;
    let right = Ppca::fit(2, &x).unwrap().model;
    assert!((ppca.noise_variance() / right.noise_variance() - 1.0).abs() < 1e-10);
}

/// All latent dimensions, from moments and from a source, wherever a fit to the data has them.
#[test]
fn as_many_latent_dimensions_as_variables() {
    let x = normal(4, 30, 5);
    let (moments, rng) = (Moments::of(&x).unwrap(), &mut StdRng::seed_from_u64(1));
    let mut view = Observations::new(x.as_view()).unwrap();
    let source: &mut dyn Source<f64> = &mut view;
    assert_eq!(source.data_dim(), 4);
    let right = Pca::fit(4, &x).unwrap().model;
    let same = |found: &Pca| {
        assert!((found.components() - right.components()).amax() < 1e-10);
        assert!((found.explained_variance() - right.explained_variance()).amax() < 1e-12);
    };
    same(&Pca::<f64>::fit(4, &moments).unwrap().model);
    same(&Pca::<f64>::fit(4, &mut view).unwrap().model);
    same(&Pca::<f64>::fit(4, x.weighted(&[2.0; 30])).unwrap().model);
    let autoencoder = LinearAutoencoder::<f64>::fit(4, &moments).unwrap().model;
    assert!(autoencoder.squared_error(&x).unwrap() < 1e-20);
    // Without noise the likelihood is unbounded; with a floor there is a model.
    assert!(matches!(Ppca::<f64>::fit(4, &moments), Err(Error::Unbounded { .. })));
    for (builder, tolerance) in
        [(Ppca::<f64>::builder(4), 1e-9), (Ppca::builder(4).fitter(PxEm::default()), 1e-3)]
    {
        let floor = builder.noise_floor(1e-12).fit(&moments, rng).unwrap().model;
        let apart = floor.explained_variance().unwrap() - right.explained_variance();
        assert!(apart.amax() < tolerance, "{apart}");
    }
}

#[test]
fn models_of_a_published_correlation_matrix() {
    // Six ability tests of 112 persons (Smith & Stanley 1983; `ability.cov` of R), and the
    // uniquenesses of two factors that R's manual prints.
    let lower: [&[f64]; 6] = [
        &[24.641],
        &[5.991, 6.700],
        &[33.520, 18.137, 149.831],
        &[6.023, 1.782, 19.424, 12.711],
        &[20.755, 4.936, 31.430, 4.757, 52.604],
        &[29.701, 7.204, 50.753, 9.075, 66.762, 135.292],
    ];
    let covariance = DMatrix::from_fn(6, 6, |i, j| lower[i.max(j)][i.min(j)]);
    let moments = Moments::from_covariance(DVector::zeros(6), &covariance, 112).unwrap();
    let factors = FactorAnalysis::<f64>::fit(2, &moments).unwrap().model;
    let uniqueness = factors.noise_variances().component_div(&covariance.diagonal());
    for (found, right) in uniqueness.iter().zip([0.455, 0.589, 0.218, 0.769, 0.052, 0.334]) {
        assert!((found - right).abs() < 6e-4, "{uniqueness}");
    }
    let pca = Pca::<f64>::fit(6, &moments).unwrap().model;
    assert!((pca.covariance() - &covariance).amax() < 1e-11);
    let ppca = Ppca::<f64>::fit(2, &moments).unwrap().model;
    let outside: f64 = pca.explained_variance().iter().skip(2).sum();
    assert!((ppca.noise_variance() - outside / 4.0).abs() < 1e-12);
}

#[test]
fn moments_in_files() -> Result<()> {
    let x = normal(3, 20, 8);
    let mut moments = Moments::of(&x)?;
    moments.update_weighted(&x, &[0.25; 20])?;
    let text = serde_json::to_string(&moments).unwrap();
    assert!(text.starts_with(r#"{"format_version":2,"kind":"f64: moments","values":["#), "{text}");
    assert_eq!(serde_json::from_str::<Moments>(&text).unwrap(), moments);
    // Version 1 had the same numbers.
    let first = text.replace(r#""format_version":2"#, r#""format_version":1"#);
    assert_eq!(serde_json::from_str::<Moments>(&first).unwrap(), moments);
    let bytes = postcard::to_allocvec(&moments).unwrap();
    assert_eq!(postcard::from_bytes::<Moments>(&bytes).unwrap(), moments);
    let said = |text: &str| serde_json::from_str::<Moments>(text).unwrap_err().to_string();
    let other = text.replace(r#""format_version":2"#, r#""format_version":3"#);
    assert!(said(&other).contains("format version 3"), "{}", said(&other));
    let model = serde_json::to_string(&Ppca::fit(1, &x)?.model).unwrap();
    assert!(said(&model).contains("and not `f64: moments`"), "{}", said(&model));
    assert!(serde_json::from_str::<Ppca>(&text).unwrap_err().to_string().contains("f64: moments"));
    assert!(serde_json::from_str::<Moments>(&text[..text.len() / 2]).is_err());
    let mut value: serde_json::Value = serde_json::from_str(&text).unwrap();
    value["values"].as_array_mut().unwrap().pop();
    assert!(said(&value.to_string()).contains("numbers of moments: expected"), "{value}");
    // Statistics of other variables are not merged, and leave what they were merged into.
    let before = moments.clone();
    assert!(matches!(moments.merge(&Moments::new(4)), Err(Error::DimensionMismatch { .. })));
    assert_eq!(moments, before);
    let covariance = dmatrix![1.0, 0.5; 0.5, 1.0];
    assert!(Moments::from_covariance(DVector::zeros(3), &covariance, 9).is_err());
    Ok(())
}
