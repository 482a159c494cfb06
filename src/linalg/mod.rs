//! The one place that talks to the linear-algebra backend.

mod kernel;
mod shim;
pub use kernel::Kernel;
pub use shim::*;
