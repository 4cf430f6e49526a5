//! DMA for a hypervisor's own drivers.
//!
//! A [`DmaDevice`] is a device confined to a domain of its own: it reaches the buffers that its
//! driver maps, and nothing else. Two kinds of buffers:
//!
//! - [`Coherent`]: memory that driver and device share as long as it exists, for queues;
//! - [`Lent`]: a caller's frame that the device borrows for one transfer. The frame is *moved
//!   in* and comes back when the device can reach it no more.
//!
//! Giving a buffer back changes tables but does not yet tell hardware: what comes of it is a
//! [`Returning`], which holds the frame until [`DmaDevice::settle`] has flushed. Several can be
//! settled at once, with one doorbell and one wait. One that is dropped loses its frame, and the
//! flush goes to the back-end's quarantine: the frame is never reused, because the device may
//! still reach it.
//!
//! Works with any [`Backend`](iommu_core::Backend) and [`Platform`](iommu_core::Platform); allocates nothing but frames.

#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

mod buffer;
mod device;
mod error;
mod windows;

pub use buffer::{Coherent, Lent, Returning};
pub use device::DmaDevice;
pub use error::DmaError;
pub use windows::{WINDOW_BYTES, WINDOWS};
