//! The structures of `linux/iommu.h` (v5.10), for guests whose code knows those.
//!
//! They do the same as the operations of this interface: a [`LinuxTable`] is a table and its
//! binding to one PASID, and events come as a [`LinuxEvent`].

mod fault;
mod table;

pub use fault::{
    LinuxAnswer, LinuxEvent, LinuxEventsRead, LinuxFault, LinuxPageGroup, LinuxPageRequest,
};
pub use table::{AddressWidth, LinuxTable};
