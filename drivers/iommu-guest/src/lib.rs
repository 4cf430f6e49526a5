//! What a guest kernel uses to drive the IOMMU hypercalls, in place of raw calls.
//!
//! * [`Hypercall`] executes a call; [`Vmmcall`] and [`Vmcall`] do it by instruction.
//! * [`ArgumentMemory`] is the memory that arguments travel in.
//! * [`Iommu`] offers the operations, typed.
//! * [`UserTable`] stands for a page table of the guest's own that devices use. Whoever
//!   changes an entry asks it what is owed, and gets an [`Owed`]; a [`FlushList`] collects
//!   many and [`Iommu::flush`] settles them with one call.
//! * A [`ManagedSpace`] is kept by the hypervisor, which maps and unmaps by calls; the
//!   [`SharedSpace`] is the guest's memory by the tables of its CPUs.
//! * A [`PasidTable`] is a whole PASID table of the guest's own, and [`OwedEntries`] are what
//!   the guest changed in it.
//! * [`LinuxTable`] and [`LinuxEvent`] speak by the structures of `linux/iommu.h` (v5.10).
//! * [`Ring`] has many operations done by one call, or by none while the hypervisor polls.
//! * [`Event`] is what happened to devices: a [`Fault`], or a [`PageRequest`], whose
//!   [`PageGroup`] is given back as an [`Answer`], once. An [`EventQueue`] keeps some
//!   apart from the others.
//!
//! ```no_run
//! # use iommu_guest::*;
//! # use x86_64::{structures::paging::{Page, PhysFrame}, VirtAddr};
//! # fn demo(memory: ArgumentMemory, root: PhysFrame, page: Page) -> Result<(), Error> {
//! let mut iommu = Iommu::new(Vmmcall, memory);
//! let mut first = None;
//! iommu.devices(|device| first = first.or(Some(device)))?;
//! let Some(device) = first else { return Ok(()) };
//!
//! let table = iommu.allocate_user_table(device.id, Format::X86_64Level4, root)?;
//! iommu.bind(device.id, &table)?;
//!
//! // … the guest maps `page` in its table, and the device must see it:
//! let mut flush = FlushList::<(), 8>::new(&table);
//! flush.add(table.mapped(Page::range_inclusive(page, page))).ok();
//! iommu.flush(&mut flush)?;
//! drop(flush); // it borrows the table; a list that still owes something is never lost
//!
//! iommu.read_faults(|fault| { /* … */ })?;
//! iommu.unbind(device.id)?;
//! iommu.destroy_table(table).map_err(|(error, _)| error)?;
//! # Ok(()) }
//! ```
//!
//! Nothing here allocates. The caller vouches for one thing, the address of the memory
//! given to [`ArgumentMemory::new`].

#![no_std]
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

#[cfg(test)]
extern crate std;

mod call;
mod client;
mod device;
mod fault;
mod flush;
mod instruction;
mod linux;
mod managed;
mod memory;
mod page_request;
mod pasid_table;
mod queue;
mod ring;
mod space;
mod table;
#[cfg(test)]
mod wrapped;

pub use call::{Error, Hypercall};
pub use client::Iommu;
pub use device::{Device, DeviceAbilities, DeviceId, InterfaceInfo};
pub use fault::{Event, Fault, FaultEntry, FaultsRead};
pub use flush::{FlushList, Full, Owed};
pub use instruction::{Vmcall, Vmmcall};
pub use iommu_abi::{
    Capabilities, Errno, FaultEventKind, Format, IovaRange, LinuxFaultReason, Op, PageResponseCode,
    QueueKind, Use,
};
pub use linux::{
    AddressWidth, LinuxAnswer, LinuxEvent, LinuxEventsRead, LinuxFault, LinuxPageGroup,
    LinuxPageRequest, LinuxTable,
};
pub use managed::{ManagedSpace, Rights, SharedSpace, Wishes};
pub use memory::{ArgumentMemory, BadMemory};
pub use page_request::{Answer, PageGroup, PageRequest};
pub use pasid_table::{DirectorySize, EntriesLooked, OwedEntries, PasidTable, RefusedEntry};
pub use queue::EventQueue;
pub use ring::{Done, Flushing, Ring, RingMemory, Round, RoundFull, Ticket, Unsettled};
pub use space::AddressSpace;
pub use table::{GuestPasid, UserTable};
