//! The seam through which matrix products reach the backend, chosen by the scalar type.

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for f64 {}
}

/// The matrix kernels of one scalar type; sealed.
pub trait Kernel: sealed::Sealed + Sized {}
impl Kernel for f32 {}
impl Kernel for f64 {}
