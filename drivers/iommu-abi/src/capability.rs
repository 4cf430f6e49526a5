//! What may be used.

bitflags::bitflags! {
    /// What a device, or an address space, can do. A bit that is 0 says that the feature
    /// cannot be used, or that the duty does not exist.
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
    pub struct Capabilities: u64 {
        /// Page tables of the guest's own can be bound.
        const USER_TABLE = 1 << 0;
        /// Address spaces that the hypervisor keeps can be bound.
        const MANAGED = 1 << 1;
        /// Single PASIDs can be bound.
        const PASID = 1 << 2;
        /// A **duty**: every change of an entry must be invalidated, not-present to present
        /// included. Without it only changes of present entries must be.
        const INVALIDATE_ON_MAP = 1 << 3;
        /// The device's accesses set the accessed and dirty bits in the guest's table.
        const ACCESSED_DIRTY = 1 << 4;
        /// The guest's table is used by hardware as it is.
        const HARDWARE_NESTED = 1 << 5;
        /// The table translates the upper half of the address space too.
        const UPPER_HALF = 1 << 6;
        /// 2 MiB pages may be used in the guest's table.
        const PAGE_2M = 1 << 7;
        /// 1 GiB pages may be used in the guest's table.
        const PAGE_1G = 1 << 8;
        /// Supervisor requests can be allowed.
        const SUPERVISOR = 1 << 9;
        /// The device asks for pages that are not present, and the guest may answer.
        const PAGE_REQUESTS = 1 << 10;
        /// A bound address space can be replaced without an instant in which the device
        /// has none.
        const HITLESS_REPLACE = 1 << 11;
        /// Unrecoverable faults are reported to the guest.
        const FAULT_EVENTS = 1 << 12;
        /// The device's requests without PASID can be bound. 0 for a slice of a device that
        /// several guests share, each by its own PASIDs: there they are blocked.
        const WITHOUT_PASID = 1 << 20;
        /// A table of the guest's own can stand on an address space that the hypervisor
        /// keeps.
        const PARENT = 1 << 24;
        /// Of an address space: its devices' requests snoop the CPU's caches whatever they
        /// ask for. Of a device: that can be had for tables of the guest's own.
        const ENFORCE_SNOOP = 1 << 25;
        /// The guest's memory can be used by the tables that its CPUs use.
        const SHARED = 1 << 26;
    }
}

#[cfg(feature = "defmt")]
impl defmt::Format for Capabilities {
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(f, "Capabilities({=u64:#x})", self.bits());
    }
}
