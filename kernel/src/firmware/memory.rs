//! The firmware's tables as the `acpi` crate sees them.
//!
//! The crate has no way to be told that a region cannot be mapped. A region outside the
//! firmware's memory is therefore shown as zeroes, which have no table's signature, so the
//! crate passes over it.

use crate::memory::map_firmware_tables;
use acpi::{AcpiHandler, PhysicalMapping};
use core::ptr::NonNull;
use iommu_core::{AddressRange, Hpa};

/// Longest table that is mapped: DSDTs, which nobody here reads, are the longest.
pub(super) const LONGEST_TABLE: usize = 1 << 20;

/// What is shown in the place of a region that is not the firmware's.
#[repr(C, align(4096))]
struct Zeroes([u8; 4096]);

static ZEROES: Zeroes = Zeroes([0; 4096]);

/// Maps the firmware's tables, and only these.
#[derive(Clone, Copy, Debug)]
pub(super) struct FirmwareMemory;

/// The bytes of a region, or `None` if it is empty, too long, or not the firmware's.
pub(super) fn region(start: Hpa, bytes: usize) -> Option<&'static [u8]> {
    if bytes > LONGEST_TABLE {
        return None;
    }
    let range = AddressRange::of_bytes(start, bytes as u64).ok()?;
    let pointer = match map_firmware_tables(&range) {
        Ok(pointer) => pointer,
        Err(error) => {
            defmt::warn!("table at {}: {}", start, error);
            return None;
        }
    };
    // SAFETY: mapped read-only for ever; the kernel never writes to the firmware's memory.
    Some(unsafe { core::slice::from_raw_parts(pointer, bytes) })
}

impl AcpiHandler for FirmwareMemory {
    unsafe fn map_physical_region<T>(&self, start: usize, size: usize) -> PhysicalMapping<Self, T> {
        const { assert!(size_of::<T>() <= size_of::<Zeroes>()) };
        let bytes = region(Hpa::new(start as u64), size.max(size_of::<T>()));
        let pointer = bytes.map_or(ZEROES.0.as_ptr(), <[u8]>::as_ptr);
        let pointer = NonNull::from_ref(
            // SAFETY: one byte at the start of a mapped region.
            unsafe { &*pointer },
        );
        // SAFETY: the region is mapped, or the crate is shown zeroes in which it cannot find
        // a table and of which it reads no more than `T`.
        unsafe { PhysicalMapping::new(start, pointer.cast(), size, size, *self) }
    }

    fn unmap_physical_region<T>(_region: &PhysicalMapping<Self, T>) {
        // Tables stay mapped: read-only, and found again at no cost.
    }
}
