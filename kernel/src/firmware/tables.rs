//! The tables that the kernel reads: MCFG, MADT, FADT and DMAR.

use super::entries::{MAX_ECAM_REGIONS, MAX_IOAPICS, MAX_PROCESSORS, can_be_walked};
use super::memory::{FirmwareMemory, LONGEST_TABLE, region};
use acpi::address::AddressSpace;
use acpi::fadt::Fadt;
use acpi::madt::{Madt, MadtEntry};
use acpi::mcfg::{Mcfg, McfgEntry};
use acpi::rsdp::Rsdp;
use acpi::sdt::{SdtHeader, Signature};
use acpi::{AcpiError, AcpiTable, AcpiTables};
use alloc::vec::Vec;
use arrayvec::ArrayVec;
use boot::AcpiRoot;
use core::fmt;
use iommu_core::{Hpa, Segment};

/// Bytes of the header that all tables but the RSDP begin with.
const HEADER_BYTES: usize = size_of::<SdtHeader>();
/// Bytes of an MADT before its entries, and of an MCFG before its own.
const LIST_HEADER_BYTES: usize = 44;

/// Why there are no tables, or not the one that is needed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FirmwareError {
    /// The loader did not say where the tables begin.
    NoRoot,
    /// The RSDP is not in the firmware's memory or its signature or checksum is wrong.
    BadRsdp(Hpa),
    /// The RSDT or XSDT is not in the firmware's memory or is malformed.
    BadRoot(Hpa),
    /// No valid table of this name.
    Missing(&'static str),
    /// A table is too short, or its entries do not add up.
    Malformed(&'static str),
    /// No memory for a copy.
    OutOfMemory,
}

impl fmt::Display for FirmwareError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRoot => f.write_str("the loader does not say where the ACPI tables are"),
            Self::BadRsdp(at) => write!(f, "the RSDP at {at} is malformed"),
            Self::BadRoot(at) => write!(f, "the RSDT or XSDT at {at} is malformed"),
            Self::Missing(name) => write!(f, "the firmware has no valid {name} table"),
            Self::Malformed(name) => write!(f, "the firmware's {name} table is malformed"),
            Self::OutOfMemory => f.write_str("no memory for a copy of a table"),
        }
    }
}

/// A range of buses whose configuration space lies in memory (PCI Firmware 3.3, 4.1.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EcamRegion {
    /// Where bus 0 of the segment would lie.
    pub base: Hpa,
    /// The segment.
    pub segment: Segment,
    /// The first bus.
    pub first_bus: u8,
    /// The last bus.
    pub last_bus: u8,
}

/// An I/O APIC.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IoApic {
    /// The id by which a DMAR scope names it.
    pub id: u8,
    /// Its registers.
    pub registers: Hpa,
    /// The number of its first line among all lines of the machine.
    pub first_line: u32,
}

/// What the MADT lists.
#[derive(Clone, Debug, Default)]
pub struct InterruptControllers {
    /// APIC ids of the processors that can be used.
    pub processors: ArrayVec<u32, MAX_PROCESSORS>,
    /// I/O APICs.
    pub ioapics: ArrayVec<IoApic, MAX_IOAPICS>,
}

/// The I/O port of the ACPI power management timer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PmTimerPort {
    /// The port.
    pub port: u16,
    /// 32 bits wide rather than 24.
    pub wide: bool,
}

/// A DMAR as it is found by its signature alone: whether its checksum and its structures
/// are right is for its parser to say, with a better message than that there is none.
#[repr(transparent)]
struct RawDmar(SdtHeader);

// SAFETY: the header is all there is of it.
unsafe impl AcpiTable for RawDmar {
    const SIGNATURE: Signature = Signature::DMAR;

    fn header(&self) -> &SdtHeader {
        &self.0
    }

    fn validate(&self) -> Result<(), AcpiError> {
        if self.0.signature == Signature::DMAR {
            Ok(())
        } else {
            Err(AcpiError::SdtInvalidSignature(Signature::DMAR))
        }
    }
}

/// The firmware's tables.
#[derive(Debug)]
pub struct Firmware {
    tables: AcpiTables<FirmwareMemory>,
}

impl Firmware {
    /// From where the loader says that the tables begin.
    pub fn new(root: Option<AcpiRoot>) -> Result<Self, FirmwareError> {
        let (revision, table) = match root.ok_or(FirmwareError::NoRoot)? {
            AcpiRoot::Rsdp(rsdp) => root_of_rsdp(rsdp)?,
            AcpiRoot::Rsdt(table) => (0, table),
            AcpiRoot::Xsdt(table) => (2, table),
        };
        let error = FirmwareError::BadRoot(table);
        if !root_has_length(table) {
            return Err(error);
        }
        // SAFETY: the table lies in the firmware's memory, and so does all of its length.
        let tables =
            unsafe { AcpiTables::from_rsdt(FirmwareMemory, revision, table.as_u64() as usize) };
        tables.map(|tables| Self { tables }).map_err(|_| error)
    }

    /// The bytes of the table that `T` describes, whole.
    fn table<T: AcpiTable>(&self, name: &'static str) -> Result<&'static [u8], FirmwareError> {
        let found = self
            .tables
            .find_table::<T>()
            .map_err(|_| FirmwareError::Missing(name))?;
        let start = Hpa::new(found.physical_start() as u64);
        region(start, found.region_length()).ok_or(FirmwareError::Malformed(name))
    }

    /// Where PCI configuration space lies.
    pub fn ecam_regions(&self) -> Result<ArrayVec<EcamRegion, MAX_ECAM_REGIONS>, FirmwareError> {
        const NAME: &str = "MCFG";
        if self.table::<Mcfg>(NAME)?.len() < LIST_HEADER_BYTES {
            return Err(FirmwareError::Malformed(NAME));
        }
        let table = self
            .tables
            .find_table::<Mcfg>()
            .map_err(|_| FirmwareError::Missing(NAME))?;
        let regions = table.get().get_ref().entries().iter().filter_map(region_of);
        Ok(regions.take(MAX_ECAM_REGIONS).collect())
    }

    /// Processors and I/O APICs.
    pub fn interrupt_controllers(&self) -> Result<InterruptControllers, FirmwareError> {
        const NAME: &str = "MADT";
        let bytes = self.table::<Madt>(NAME)?;
        if !bytes.get(LIST_HEADER_BYTES..).is_some_and(can_be_walked) {
            return Err(FirmwareError::Malformed(NAME));
        }
        let table = self
            .tables
            .find_table::<Madt>()
            .map_err(|_| FirmwareError::Missing(NAME))?;
        let mut found = InterruptControllers::default();
        for entry in table.get().entries() {
            found.take(&entry);
        }
        Ok(found)
    }

    /// The power management timer, if there is one at a port.
    pub fn pm_timer(&self) -> Option<PmTimerPort> {
        /// Up to where the timer's length and the flags lie in every revision.
        const LEAST_BYTES: usize = 116;
        if self.table::<Fadt>("FADT").ok()?.len() < LEAST_BYTES {
            return None;
        }
        let table = self.tables.find_table::<Fadt>().ok()?;
        let flags = table.flags;
        let block = table.pm_timer_block().ok()??;
        Some(PmTimerPort {
            port: (block.address_space == AddressSpace::SystemIo)
                .then(|| u16::try_from(block.address).ok())??,
            wide: flags.pm_timer_is_32_bit(),
        })
    }

    /// A copy, for ever, of the firmware's DMAR, unchecked. `None` if it has none.
    pub fn dmar(&self) -> Result<Option<&'static [u8]>, FirmwareError> {
        match self.table::<RawDmar>("DMAR") {
            Ok(bytes) => leaked_copy(bytes).map(Some),
            Err(FirmwareError::Missing(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl InterruptControllers {
    /// Bit 0 of a processor's flags: it can be used.
    const ENABLED: u32 = 1;

    fn take(&mut self, entry: &MadtEntry<'_>) {
        // What there is no room for is not used.
        match entry {
            MadtEntry::LocalApic(apic) if apic.flags & Self::ENABLED != 0 => {
                let _ = self.processors.try_push(u32::from(apic.apic_id));
            }
            MadtEntry::LocalX2Apic(apic) if apic.flags & Self::ENABLED != 0 => {
                let _ = self.processors.try_push(apic.x2apic_id);
            }
            MadtEntry::IoApic(apic) => {
                let _ = self.ioapics.try_push(IoApic {
                    id: apic.io_apic_id,
                    registers: Hpa::new(u64::from(apic.io_apic_address)),
                    first_line: apic.global_system_interrupt_base,
                });
            }
            _ => {}
        }
    }
}

fn leaked_copy(bytes: &[u8]) -> Result<&'static [u8], FirmwareError> {
    let mut copy = Vec::new();
    copy.try_reserve_exact(bytes.len())
        .map_err(|_| FirmwareError::OutOfMemory)?;
    copy.extend_from_slice(bytes);
    Ok(copy.leak())
}

fn region_of(entry: &McfgEntry) -> Option<EcamRegion> {
    let entry = *entry;
    (entry.bus_number_start <= entry.bus_number_end).then_some(EcamRegion {
        base: Hpa::new(entry.base_address),
        segment: Segment(entry.pci_segment_group),
        first_bus: entry.bus_number_start,
        last_bus: entry.bus_number_end,
    })
}

/// Revision and root table of an RSDP.
fn root_of_rsdp(at: Hpa) -> Result<(u8, Hpa), FirmwareError> {
    /// Where revision and, from revision 1 on, length lie (ACPI 6.5, 5.2.5.3).
    const REVISION: usize = 15;
    const LENGTH: core::ops::Range<usize> = 20..24;

    let error = FirmwareError::BadRsdp(at);
    let bytes = region(at, size_of::<Rsdp>()).ok_or(error)?;
    let is_long = bytes.get(REVISION).is_some_and(|&revision| revision > 0);
    let length = bytes
        .get(LENGTH)
        .and_then(|bytes| bytes.try_into().ok())
        .map_or(0, u32::from_le_bytes) as usize;
    // The crate adds up as many bytes as the length says.
    if is_long && (length < bytes.len() || region(at, length).is_none()) {
        return Err(error);
    }
    // SAFETY: as many bytes as an `Rsdp` has, which is plain bytes without alignment.
    let rsdp = unsafe { &*bytes.as_ptr().cast::<Rsdp>() };
    rsdp.validate().map_err(|_| error)?;
    Ok(match rsdp.revision() {
        0 => (0, Hpa::new(u64::from(rsdp.rsdt_address()))),
        revision => (revision, Hpa::new(rsdp.xsdt_address())),
    })
}

/// Whether a root table is as long as its own header at least, and the firmware's. The
/// crate subtracts the one from the other.
fn root_has_length(table: Hpa) -> bool {
    /// Where a table's length lies.
    const LENGTH: core::ops::Range<usize> = 4..8;
    let length = region(table, HEADER_BYTES)
        .and_then(|header| header.get(LENGTH)?.try_into().ok())
        .map_or(0, u32::from_le_bytes) as usize;
    (HEADER_BYTES..=LONGEST_TABLE).contains(&length) && region(table, length).is_some()
}
