//! A guest as policy sees it: its memory, and what happens to it.

use crate::{Access, Address, DeviceId, Gpa, Hpa, PAGE_SHIFT, PAGE_SIZE};
use core::sync::atomic::AtomicU64;

/// A guest, by its number in the hypervisor. Never chosen by a guest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct VmId(pub u16);

/// What lies behind a guest-physical address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Backing {
    /// Host address of the byte asked for.
    pub hpa: Hpa,
    /// Bytes from there on that are contiguous in both spaces and have the same rights.
    pub bytes: u64,
    /// What the guest may do with them. Memory only: never a device's registers.
    pub access: Access,
}

/// Why guest memory could not be reached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum GuestMemoryError {
    /// No memory of this guest lies there.
    Unmapped(Gpa),
    /// There is memory, but not for this access.
    Denied(Gpa),
    /// The address is not a multiple of the access size.
    Misaligned(Gpa),
}

/// A guest's memory map. What it says is true until the hypervisor has asked `iommu` to
/// forget the page, and `iommu` has agreed.
pub trait GuestMemory {
    /// What lies at `gpa`, if the guest may access it so.
    fn resolve(&self, gpa: Gpa, access: Access) -> Result<Backing, GuestMemoryError>;

    /// How many bytes from `gpa` on are certainly no memory of the guest, at least; 0 if
    /// there is memory at `gpa`. Who knows the whole hole should say so: a large page that
    /// points into it is then done at once, and not page by page; and where hardware nests,
    /// all of memory must be gone through.
    fn hole(&self, gpa: Gpa) -> u64 {
        match self.resolve(gpa, Access::NONE) {
            Err(GuestMemoryError::Unmapped(_)) => {
                PAGE_SIZE.saturating_sub(gpa.offset_in(PAGE_SHIFT))
            }
            _ => 0,
        }
    }

    /// Reads an aligned 64-bit value in one access: what the guest writes meanwhile is
    /// seen whole or not at all.
    fn read_once(&self, gpa: Gpa) -> Result<u64, GuestMemoryError>;

    /// The 512 values of the page that begins at `gpa`, where the guest may read all of it
    /// and the host reaches it in one piece. For who looks at a whole table: what is read
    /// there is what [`read_once`](Self::read_once) would read. `None`: one by one.
    fn cells(&self, gpa: Gpa) -> Option<&[AtomicU64]> {
        let _ = gpa;
        None
    }

    /// Copies out of the guest. Each byte is read once; the whole is no snapshot. On error
    /// the buffer's content is undefined.
    fn copy_in(&self, gpa: Gpa, buffer: &mut [u8]) -> Result<(), GuestMemoryError>;

    /// Copies into the guest. All of the destination is checked before the first byte. An
    /// aligned 64-bit value is written in one access.
    fn copy_out(&self, gpa: Gpa, bytes: &[u8]) -> Result<(), GuestMemoryError>;

    /// Bytes of contiguous backing that a page-table walker may use for a page of
    /// `1 << shift` bytes at `gpa`: whether the whole page is backed contiguously.
    fn is_contiguous(&self, gpa: Gpa, shift: u32) -> bool {
        let page = gpa.align_down(shift);
        match self.resolve(page, Access::NONE) {
            Ok(backing) => backing.bytes >> shift >= 1 && backing.hpa.is_aligned(shift),
            Err(_) => false,
        }
    }
}

/// What a guest is told without asking.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum VmEvent {
    /// Its queue of faults and page requests was empty and is not any more.
    FaultsPending,
}

/// A device that could not be reset.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum ResetError {
    /// The device has no reset method that we know.
    NoMethod(DeviceId),
    /// The device did not become quiet or ready in time.
    TimedOut(DeviceId),
    /// The device does not answer: it was taken out.
    Gone(DeviceId),
}

/// A device whose translation services could not be turned on or off.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum ServiceError {
    /// The device has no such service, or shall not use it.
    Unsupported(DeviceId),
    /// The device did not come to rest in time.
    TimedOut(DeviceId),
}
