//! Where things lie in the kernel's address space. `linker.ld` holds the same numbers.

use iommu_core::Hpa;

/// Virtual address at which all of physical memory is mapped, in order.
pub const DIRECT_MAP: u64 = 0xffff_8000_0000_0000;

/// Bytes of physical address space for which there is room in the direct map: what is
/// left of the upper half below the kernel's own 512 GiB.
pub const DIRECT_MAP_BYTES: u64 = 255 << 39;

/// What is added to a physical address of the kernel's image to get its virtual address.
pub const KERNEL_OFFSET: u64 = 0xffff_ffff_8000_0000;

/// Physical memory that the program can reach when it starts, in bytes from 0.
pub const EARLY_BYTES: u64 = 4 << 30;

/// Where the direct map shows `hpa`, or `None` if it has no room for that address.
///
/// That the address has a place does not mean that something is mapped there.
pub const fn direct_map(hpa: Hpa) -> Option<u64> {
    if hpa.as_u64() < DIRECT_MAP_BYTES {
        Some(DIRECT_MAP | hpa.as_u64())
    } else {
        None
    }
}

/// The physical address behind an address of the direct map.
pub const fn direct_map_to_hpa(address: u64) -> Option<Hpa> {
    match address.checked_sub(DIRECT_MAP) {
        Some(offset) if offset < DIRECT_MAP_BYTES => Some(Hpa::new(offset)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_direct_map_ends_below_the_kernel() {
        let last = Hpa::new(DIRECT_MAP_BYTES - 1);
        assert_eq!(direct_map(last), Some(0xffff_ff7f_ffff_ffff));
        assert_eq!(direct_map(Hpa::new(DIRECT_MAP_BYTES)), None);
        assert_eq!(direct_map_to_hpa(0xffff_ff7f_ffff_ffff), Some(last));
        assert_eq!(direct_map_to_hpa(KERNEL_OFFSET), None);
        assert_eq!(direct_map_to_hpa(0x1000), None);
    }
}
