//! Entries of the tables that hardware walks to find a device's translations (§9), one
//! type for each 64-bit word, and the interrupt-remapping entry (§9.9, §9.10).
//!
//! Layout only. Who writes entries is the module `slots`, which is not public.

pub mod context;
pub mod interrupt;
pub mod pasid;
pub mod posted;
pub mod root;

/// Ones from bit `host_bits` (HAW) to bit 63: address bits that no entry may set.
pub const fn above_host_width(host_bits: u8) -> u64 {
    match u64::MAX.checked_shl(host_bits as u32) {
        Some(mask) => mask,
        None => 0,
    }
}

/// The frame number that an entry's address field takes.
pub(crate) const fn frame_number(at: iommu_core::Hpa) -> u64 {
    at.as_u64() >> iommu_core::PAGE_SHIFT
}

/// The address that a frame number in an entry means.
pub(crate) const fn address(frame: u64) -> iommu_core::Hpa {
    iommu_core::Hpa::new(frame << iommu_core::PAGE_SHIFT)
}
