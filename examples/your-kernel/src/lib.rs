//! A kernel that is not ours, as far as it concerns its devices' DMA: what it implements
//! ([`Kernel`] as [`Platform`](iommu_core::Platform), [`Window`] as
//! [`Mmio`](iommu_core::Mmio)), and the one function that it then calls ([`protect`]).
//!
//! It builds for a machine without an operating system
//! (`cargo check --lib --target x86_64-unknown-none`); the program beside it runs it on the
//! host, with the hardware model behind the registers.

#![no_std]

extern crate alloc;

mod frames;
mod kernel;
mod protect;
mod window;

pub use frames::Frames;
pub use kernel::Kernel;
pub use protect::{Failure, Protected, protect};
pub use window::Window;
