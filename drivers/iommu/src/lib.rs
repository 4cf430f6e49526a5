//! Policy and objects between guests and a driver of remapping hardware.
//!
//! [`Iommu`] keeps what guests have (devices, address spaces, PASIDs, events) and executes
//! their hypercalls ([`Iommu::call`]), whose wire format is the crate `iommu-abi`. It asks
//! the driver through [`Backend`](iommu_core::Backend) and knows no register; the guest's
//! memory and the hypervisor around come in as traits too, so that all of this runs in a
//! host test against hardware that remembers everything.
//!
//! * `argument`, `dispatch`, `calls`: what guests ask for. One check for every argument,
//!   one function for each operation.
//! * `ring`: many calls for one exit, in memory of the guest.
//! * `object`, `vm`, `owners`, `pasid`: who has what.
//! * `group`: devices that cannot be kept apart have one owner; `requesters`: every id of a
//!   device leads where the device leads.
//! * `service`: how a page table of a guest's own is used for a device.
//! * `user_table`, `pasid_table`: tables that come with their binding, and whole PASID tables.
//! * `nesting`: on hardware that nests, above a second stage that maps the guest's memory.
//! * `shadow`, `guest_table`: on hardware that cannot.
//! * `fault`, `guest_walk`: refused requests, explained to their guest.
//! * `page_request`: pages that devices ask for, and that their guests answer.
//! * `slice`: devices that several guests share, by PASID.
//! * `inbox`: what waits for a guest until it reads it.
//! * `detach`, `iommu`: how things end, in the right order.
//!
//! # What must always hold
//! Every address that a guest's device can reach is memory that the guest has, and nothing
//! is used again before hardware has confirmed that it forgot it. Whatever a guest passes,
//! the answer is a number: no panic, no endless work, nothing of another guest's.
//!
//! # Locks
//! Calls of one guest, and what the hypervisor does to it, take turns
//! ([`Turn`](iommu_core::sync::Turn)): interrupts stay on, and hardware is waited for
//! there. Under a turn come, for a few instructions each, the locks of ranks `Vm` (the
//! guest's memory, for the fault path), `Owners`, `Pasids`, those of the back-end, and
//! `Events`. [`Iommu::report`] takes no turn and can run in an interrupt handler.
//! [`Iommu::serve_page_requests`] has a turn of its own, which may be taken within a
//! guest's and never the other way round; so has the coming and going of slices.
//!
//! # Memory
//! What a guest needs is reserved when it is created; calls take pages of shadow tables
//! and room for debts, and fail with `ENOMEM` without them.

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

extern crate alloc;
#[cfg(test)]
extern crate std;

mod argument;
mod calls;
mod config;
mod counters;
mod detach;
mod dispatch;
mod error;
mod fault;
mod group;
mod guest_table;
mod guest_walk;
mod inbox;
mod iommu;
mod nesting;
mod object;
mod owners;
mod page_request;
mod pasid;
mod pasid_table;
mod requesters;
mod ring;
mod service;
mod shadow;
mod slice;
mod user_table;
mod vm;

pub use config::{Config, Nesting, Quota};
pub use counters::Figures;
pub use dispatch::Progress;
pub use error::IommuError;
pub use fault::Attribution;
pub use guest_walk::GuestEntry;
pub use iommu::{Forgotten, Iommu};
pub use iommu_core::PasidAllocator;
pub use page_request::PageRequestsServed;
pub use pasid::PasidBitmap;
pub use requesters::MAX_REQUESTERS;
pub use vm::SharedMemory;
