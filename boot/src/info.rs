//! What the loader said, in one form for all protocols.

use crate::layout::{DIRECT_MAP, EARLY_BYTES};
use crate::{multiboot2_info, pvh_info};
use arrayvec::{ArrayString, ArrayVec};
use core::fmt;
use iommu_core::{AddressRange, Hpa};

/// Regions of the memory map that are kept. UEFI firmware lists about a hundred.
const REGIONS: usize = 256;
/// Modules that are kept.
const MODULES: usize = 8;
/// Bytes of command line that are kept.
const COMMAND_LINE_BYTES: usize = 1024;

/// What a loader handed over, unread.
#[derive(Clone, Copy, Debug)]
pub struct Loader {
    magic: u32,
    information: u32,
}

impl Loader {
    /// From the entry point's registers.
    #[doc(hidden)]
    pub fn new(magic: u32, information: u32) -> Self {
        Self { magic, information }
    }
}

/// How the program was started.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Protocol {
    /// Xen's direct boot ABI for HVM, as QEMU's `-kernel` uses it.
    Pvh,
    /// Multiboot2, as GRUB uses it.
    Multiboot2,
}

/// What a region of physical memory is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MemoryKind {
    /// Memory that the firmware does not need. The image, the modules and the loader's own
    /// information lie in such regions too.
    Usable,
    /// Holds ACPI tables.
    Acpi,
    /// Belongs to the firmware for ever.
    AcpiNvs,
    /// Not memory to be used, for any other reason.
    Reserved,
}

/// A region of the machine's memory map.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MemoryRegion {
    /// Where.
    pub range: AddressRange<Hpa>,
    /// What.
    pub kind: MemoryKind,
}

/// Where the ACPI tables begin.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AcpiRoot {
    /// The RSDP lies at this address (PVH).
    Rsdp(Hpa),
    /// The loader gave a copy of an RSDP of revision 0 (Multiboot2 tag 14).
    Rsdt(Hpa),
    /// The loader gave a copy of an RSDP of revision 2 or later (Multiboot2 tag 15).
    Xsdt(Hpa),
}

/// What the loader said, copied out of its memory.
#[derive(Clone, Debug)]
pub struct BootInfo {
    /// How the program was started.
    pub protocol: Protocol,
    /// The memory map, in the firmware's order; regions may overlap.
    pub memory: ArrayVec<MemoryRegion, REGIONS>,
    /// Regions that there was no room for.
    pub memory_dropped: usize,
    /// Where the ACPI tables begin, if the loader knows.
    pub acpi: Option<AcpiRoot>,
    /// The command line, without the program's name.
    pub command_line: ArrayString<COMMAND_LINE_BYTES>,
    /// Where the modules lie. Not reserved in the memory map.
    pub modules: ArrayVec<AddressRange<Hpa>, MODULES>,
}

/// Why a loader's information cannot be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BootInfoError {
    /// Neither protocol's magic number.
    UnknownProtocol {
        /// The number found.
        magic: u32,
    },
    /// The information is absent or does not have its protocol's form.
    Malformed(&'static str),
    /// The command line has more than 1024 bytes, or is not UTF-8.
    CommandLine,
    /// There are more than 8 modules.
    TooManyModules,
}

impl fmt::Display for BootInfoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownProtocol { magic } => {
                write!(f, "neither PVH nor Multiboot2: magic {magic:#x}")
            }
            Self::Malformed(what) => write!(f, "the loader's {what} is missing or malformed"),
            Self::CommandLine => write!(
                f,
                "the command line has more than {COMMAND_LINE_BYTES} bytes or is not UTF-8"
            ),
            Self::TooManyModules => write!(f, "more than {MODULES} modules"),
        }
    }
}

impl BootInfo {
    /// Reads what the loader said.
    ///
    /// # Safety
    /// The early address space is still active, and nothing was written to memory outside
    /// the image since the start.
    pub unsafe fn read(loader: Loader) -> Result<Self, BootInfoError> {
        match loader.magic {
            pvh::start_info::START_MAGIC_VALUE => {
                // SAFETY: the caller's promise.
                unsafe { pvh_info::read(loader.information) }
            }
            multiboot2::MAGIC => {
                // SAFETY: the caller's promise.
                unsafe { multiboot2_info::read(loader.information) }
            }
            magic => Err(BootInfoError::UnknownProtocol { magic }),
        }
    }

    pub(crate) fn new(protocol: Protocol) -> Self {
        Self {
            protocol,
            memory: ArrayVec::new(),
            memory_dropped: 0,
            acpi: None,
            command_line: ArrayString::new(),
            modules: ArrayVec::new(),
        }
    }

    /// Adds a region; empty ones and those that wrap are the firmware's nonsense and are
    /// left out.
    pub(crate) fn add_memory(&mut self, start: u64, bytes: u64, kind: MemoryKind) {
        let Ok(range) = AddressRange::of_bytes(Hpa::new(start), bytes) else {
            return;
        };
        if self.memory.try_push(MemoryRegion { range, kind }).is_err() {
            self.memory_dropped += 1;
        }
    }

    pub(crate) fn add_module(&mut self, start: u64, bytes: u64) -> Result<(), BootInfoError> {
        let Ok(range) = AddressRange::of_bytes(Hpa::new(start), bytes) else {
            return Ok(());
        };
        self.modules
            .try_push(range)
            .map_err(|_| BootInfoError::TooManyModules)
    }

    pub(crate) fn set_command_line(&mut self, text: &str) -> Result<(), BootInfoError> {
        self.command_line = ArrayString::from(text).map_err(|_| BootInfoError::CommandLine)?;
        Ok(())
    }
}

/// Where the early address space shows `bytes` bytes of physical memory, or `None` if it
/// does not reach there.
pub(crate) fn early_pointer(physical: u64, bytes: u64) -> Option<*const u8> {
    let end = physical.checked_add(bytes)?;
    (physical != 0 && end <= EARLY_BYTES)
        .then(|| core::ptr::with_exposed_provenance((DIRECT_MAP | physical) as usize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nonsense_regions_are_left_out() {
        let mut info = BootInfo::new(Protocol::Pvh);
        info.add_memory(0x1000, 0, MemoryKind::Usable);
        info.add_memory(u64::MAX, 2, MemoryKind::Usable);
        info.add_memory(0x1000, 0x1000, MemoryKind::Usable);
        assert_eq!(info.memory.len(), 1);
        assert_eq!(info.memory[0].range.last(), Hpa::new(0x1fff));
    }

    #[test]
    fn regions_beyond_the_room_are_counted() {
        let mut info = BootInfo::new(Protocol::Pvh);
        for n in 0..REGIONS as u64 + 3 {
            info.add_memory(n << 12, 1 << 12, MemoryKind::Usable);
        }
        assert_eq!((info.memory.len(), info.memory_dropped), (REGIONS, 3));
    }

    #[test]
    fn the_early_address_space_ends_at_4_gib() {
        assert!(early_pointer(EARLY_BYTES - 8, 8).is_some());
        assert!(early_pointer(EARLY_BYTES - 8, 9).is_none());
        assert!(early_pointer(0, 8).is_none());
        assert!(early_pointer(u64::MAX, 8).is_none());
    }

    #[test]
    fn an_unknown_magic_number_is_named() {
        // SAFETY: nothing is read for an unknown protocol.
        let error = unsafe { BootInfo::read(Loader::new(7, 0)) }.unwrap_err();
        assert_eq!(error, BootInfoError::UnknownProtocol { magic: 7 });
    }
}
