//! The one place that talks to the linear-algebra backend.

mod kernel;
pub use kernel::Kernel;
