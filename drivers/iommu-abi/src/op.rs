//! The operations.

use crate::number::numbers;

numbers! {
    /// What a hypercall shall do. One number for each operation, never a flag.
    ///
    /// Numbers 0x100 to 0x1FF and 0x300 to 0x3FF belong to this interface; a hypervisor may
    /// give the others a meaning of its own.
    pub enum Op {
        /// Whether something exists in this interface, and how large it is. No effect.
        Probe = 0x100,
        /// Limits and the version of the interface. No effect.
        Info = 0x101,
        /// Which devices the guest has. No effect.
        DeviceList = 0x102,
        /// What a device can do. No effect.
        DeviceInfo = 0x103,
        /// Gives an object up.
        Destroy = 0x104,
        /// Makes an I/O address space: one that the hypervisor keeps, or a page table of
        /// the guest's own.
        IoasAllocate = 0x110,
        /// Which I/O virtual addresses an address space translates. No effect.
        IoasRanges = 0x111,
        /// Maps guest memory into an address space that the hypervisor keeps.
        IoasMap = 0x112,
        /// Takes mappings out of an address space that the hypervisor keeps.
        IoasUnmap = 0x113,
        /// Makes a device, or one PASID of it, use an address space.
        Bind = 0x120,
        /// Blocks a device, or one PASID of it, again.
        Unbind = 0x121,
        /// Makes hardware forget what the guest changed in its table.
        Invalidate = 0x122,
        /// Takes events off a fault queue.
        FaultRead = 0x130,
        /// Answers page requests of the guest's devices. Since version 2.
        PageResponse = 0x131,
        /// Takes a PASID of the guest's own numbering.
        PasidAllocate = 0x140,
        /// Gives a PASID back.
        PasidFree = 0x141,
        /// Takes `struct iommu_gpasid_bind_data` of `linux/iommu.h` (v5.10). Since version 3.
        LinuxBindGpasid = 0x180,
        /// Undoes that. Since version 3.
        LinuxUnbindGpasid = 0x181,
        /// Takes `struct iommu_cache_invalidate_info`. Since version 3.
        LinuxCacheInvalidate = 0x182,
        /// Gives `struct iommu_fault`. Since version 3.
        LinuxFaultRead = 0x183,
        /// Takes `struct iommu_page_response`. Since version 3.
        LinuxPageResponse = 0x184,
        /// Makes a device use a PASID table of the guest's own. Since version 3.
        PasidTableBind = 0x190,
        /// Blocks the device again. Since version 3.
        PasidTableUnbind = 0x191,
        /// Has changed entries of the PASID table looked at. Since version 3.
        PasidTableInvalidate = 0x192,
        /// Makes a ring of operations. Since version 3.
        RingCreate = 0x300,
        /// Does what was submitted to a ring. Since version 3.
        RingEnter = 0x301,
        /// Makes a queue of events. Since version 3.
        QueueAllocate = 0x310,
        /// Lets a queue tell what happens to an address space or a device. Since version 3.
        QueueBind = 0x311,
        /// Undoes that. Since version 3.
        QueueUnbind = 0x312,
    }
}

impl Op {
    /// What the operation register holds means, or `None`.
    pub fn from_register(rax: u64) -> Option<Self> {
        u32::try_from(rax).ok().and_then(Self::from_u32)
    }
}
