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
