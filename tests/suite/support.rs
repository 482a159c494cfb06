//! What several modules of the suite share.

use rand::TryRng;
use std::convert::Infallible;

/// A generator that panics when it is used: a closed form draws nothing.
pub struct VoidRng;

impl TryRng for VoidRng {
    type Error = Infallible;
    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        panic!("a closed form asked for a random number")
    }
    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        panic!("a closed form asked for a random number")
    }
    fn try_fill_bytes(&mut self, _: &mut [u8]) -> Result<(), Infallible> {
        panic!("a closed form asked for a random number")
    }
}

/// A table of tests/cases: CSV with a header of names and a row for each observation; d×n.
pub fn case(name: &str) -> nalgebra::DMatrix<f64> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("cases").join(name);
    let text = std::fs::read_to_string(&path).unwrap();
    let numbers = |line: &str| line.split(',').map(|v| v.trim().parse().unwrap()).collect();
    let rows: Vec<Vec<f64>> = text.lines().skip(1).map(numbers).collect();
    nalgebra::DMatrix::from_fn(rows[0].len(), rows.len(), |j, i| rows[i][j])
}
