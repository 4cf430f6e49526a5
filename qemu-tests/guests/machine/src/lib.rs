//! What guest programs are written against.
//!
//! A guest program is a library whose entry is `fn(&dyn Machine) -> Outcome`, and a binary
//! of a few lines that runs it as a virtual machine. The same library runs inside the
//! kernel on a memory of its own (the *direct* back-end), and on a host against the
//! `fake` machine. So a program reaches everything through [`Machine`]: its memory by
//! guest-physical address, devices, configuration space, hypercalls, interrupts.
//!
//! On top of it are the things that most programs need: [`Pages`], [`AddressSpace`],
//! [`Calls`], [`iommu`] (the guest's library, `iommu-guest`), [`pci`] and [`Window`].

#![cfg_attr(not(any(test, feature = "fake")), no_std)]
#![cfg_attr(
    not(any(test, feature = "fake")),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

mod calls;
#[cfg(any(test, feature = "fake"))]
pub mod fake;
pub mod iommu;
mod log;
mod pages;
pub mod pci;
pub mod ring;
mod space;
mod trouble;
mod window;

pub use calls::Calls;
pub use pages::Pages;
pub use space::AddressSpace;
pub use trouble::Trouble;
pub use window::Window;

#[cfg(feature = "defmt")]
#[doc(hidden)]
pub use defmt;
pub use edu::Clock;
pub use fastrand::Rng as Random;
pub use hypervisor_abi::{Outcome, Start};
pub use iommu_guest;

use iommu_core::{Gpa, SourceId};

/// There is no memory at this address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Absent(pub Gpa);

/// What a guest program runs on.
///
/// Time is that of [`Clock`].
pub trait Machine: Clock + Send + Sync {
    /// What the program was told when it started.
    fn start(&self) -> Start;

    /// Reads memory. The program's own code and stack are no part of what it may name.
    fn read(&self, at: Gpa, bytes: &mut [u8]) -> Result<(), Absent>;

    /// Writes memory.
    fn write(&self, at: Gpa, bytes: &[u8]) -> Result<(), Absent>;

    /// Reads an aligned 64-bit value in one access.
    fn load(&self, at: Gpa) -> Result<u64, Absent>;

    /// Writes an aligned 64-bit value in one access, after everything written before.
    fn store(&self, at: Gpa, value: u64) -> Result<(), Absent>;

    /// Calls the hypervisor: the operation, the argument's address, the result.
    fn hypercall(&self, operation: u32, argument: Gpa) -> i64;

    /// A 32-bit read of a device's registers. Where there is no device, all ones.
    fn read_register32(&self, at: Gpa) -> u32;

    /// A 64-bit read of a device's registers.
    fn read_register64(&self, at: Gpa) -> u64;

    /// A 32-bit write to a device's registers.
    fn write_register32(&self, at: Gpa, value: u32);

    /// A 64-bit write to a device's registers.
    fn write_register64(&self, at: Gpa, value: u64);

    /// An aligned 32-bit read of configuration space. Where there is no function, all
    /// ones.
    fn read_config(&self, function: SourceId, offset: u8) -> u32;

    /// An aligned 32-bit write to configuration space.
    fn write_config(&self, function: SourceId, offset: u8, value: u32);

    /// Lets waiting interrupts in, and says whether one of this vector came since the last
    /// time.
    fn take_interrupt(&self, vector: u8) -> bool;
}
