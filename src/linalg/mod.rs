//! The one place that talks to the linear-algebra backend: products, decompositions, and the threads they run on.
//!
//! Matrices are nalgebra's; data are d×n, an observation a column. Nothing here returns NaN for finite input, runs without a bound,
//! or depends in its bits on the number of threads.

mod kernel;
mod kernel_gemm;
mod kernel_portable;
mod kernel_x86;
pub mod parallel;
mod product;
#[cfg(test)]
mod testing;

pub use kernel::{Kernel, Operand, OperandMut};
pub use product::{
    gemm, matrix_product, matrix_product_into, product_tr_left, product_tr_left_into, product_tr_right, product_tr_right_into,
};
