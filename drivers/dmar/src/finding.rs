//! What is odd about a table, in words.

use crate::scope::ScopeKind;
use crate::structure::name_of;
use core::fmt;
use iommu_core::Hpa;

/// Something odd: where, what, and what was done about it.
///
/// Prints as one sentence without the place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Finding {
    /// In bytes from the start of the table.
    pub offset: usize,
    /// What is odd.
    pub oddity: Oddity,
}

/// Whether the table can be read as it claims.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Severity {
    /// The table reads well and says something that it should not.
    Warning,
    /// The table is malformed: a length, the checksum, or something that does not fit.
    Error,
}

/// What was done about an oddity.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Action {
    /// The thing is left out.
    Refused,
    /// The thing is used with a change.
    Repaired,
    /// The thing is used as it is, as far as it means something.
    Ignored,
}

impl Action {
    /// In one word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Repaired => "repaired",
            Self::Ignored => "ignored",
        }
    }
}

/// What can be odd.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
#[expect(
    missing_docs,
    reason = "each prints its own sentence, with these values"
)]
pub enum Oddity {
    // Malformed.
    HeaderCutOff { bytes: usize },
    LengthBelowHeader { claimed: usize, bytes: usize },
    LengthBeyondData { claimed: usize, bytes: usize },
    Checksum { sum: u8 },
    StructureCutOff { claimed: usize, left: usize },
    StructureWithoutHeader { claimed: usize },
    StructureTooShort { kind: u16, length: usize },
    ScopeCutOff { claimed: usize, left: usize },
    ScopeWithoutHeader { claimed: usize },
    // The table.
    Signature([u8; 4]),
    Revision(u8),
    BytesBehind { bytes: usize },
    Oversized { bytes: usize },
    Width { bits: u16 },
    X2apicOptOutAlone,
    NoUnit,
    NoIoApic,
    OutOfOrder { kind: u16, behind: u16 },
    UnknownStructure { kind: u16, length: usize },
    ReservedBits { field: &'static str, value: u64 },
    // Units.
    NoRegisters { base: Hpa },
    RegistersNotOnPage { base: Hpa },
    RegistersNotOnSize { base: Hpa, bytes: u64 },
    RegistersBeyondWidth { base: Hpa },
    UnitTwice { first: usize },
    UnitOfNothing,
    IncludeAllTwice { first: usize },
    IncludeAllNotLast { next: usize },
    IncludeAllWithDevice { kind: ScopeKind },
    // Regions.
    RegionBackwards { base: Hpa, limit: Hpa },
    RegionNotOnPages { base: Hpa, limit: Hpa },
    RegionBeyondWidth { limit: Hpa },
    RegionOfInterrupts,
    RegionOfNobody,
    RegionsOverlap { other: usize },
    // The rest.
    AllPortsAndSome,
    NoPorts,
    NoDevices { kind: u16 },
    AffinityOfNoUnit { base: Hpa },
    AffinityMissing,
    BytesInStructure { kind: u16, bytes: usize },
    NameUnterminated,
    NameEmpty,
    NameNotAscii,
    DeclaredTwice { number: u8, first: usize },
    DeclaredForNothing { number: u8 },
    // Scopes.
    UnknownScope { kind: u8 },
    ScopeOutOfPlace { kind: ScopeKind, structure: u16 },
    EmptyPath,
    OddPath,
    NoSuchFunction { device: u8, function: u8 },
    PathTooLong { hops: usize },
    ScopeTwice { first: usize },
    Undeclared { number: u8 },
}

impl Finding {
    /// Whether the table is malformed by this.
    pub fn severity(&self) -> Severity {
        match self.oddity {
            Oddity::HeaderCutOff { .. }
            | Oddity::LengthBelowHeader { .. }
            | Oddity::LengthBeyondData { .. }
            | Oddity::Checksum { .. }
            | Oddity::StructureCutOff { .. }
            | Oddity::StructureWithoutHeader { .. }
            | Oddity::StructureTooShort { .. }
            | Oddity::ScopeCutOff { .. }
            | Oddity::ScopeWithoutHeader { .. } => Severity::Error,
            _ => Severity::Warning,
        }
    }

    /// What was done about it, in [`Dmar::units`](crate::Dmar::units),
    /// [`Dmar::regions`](crate::Dmar::regions) and the questions beside them.
    pub fn action(&self) -> Action {
        match self.oddity {
            Oddity::HeaderCutOff { .. }
            | Oddity::StructureCutOff { .. }
            | Oddity::StructureWithoutHeader { .. }
            | Oddity::StructureTooShort { .. }
            | Oddity::ScopeCutOff { .. }
            | Oddity::ScopeWithoutHeader { .. }
            | Oddity::Oversized { .. }
            | Oddity::UnknownStructure { .. }
            | Oddity::NoRegisters { .. }
            | Oddity::RegistersNotOnPage { .. }
            | Oddity::UnitTwice { .. }
            | Oddity::RegionBackwards { .. }
            | Oddity::RegionOfInterrupts
            | Oddity::UnknownScope { .. }
            | Oddity::EmptyPath
            | Oddity::NoSuchFunction { .. }
            | Oddity::PathTooLong { .. } => Action::Refused,
            Oddity::LengthBelowHeader { .. }
            | Oddity::LengthBeyondData { .. }
            | Oddity::IncludeAllTwice { .. }
            | Oddity::IncludeAllNotLast { .. }
            | Oddity::RegionNotOnPages { .. }
            | Oddity::NameUnterminated
            | Oddity::OddPath => Action::Repaired,
            _ => Action::Ignored,
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.oddity, f)
    }
}

impl fmt::Display for Oddity {
    #[expect(clippy::too_many_lines, reason = "one line or two for each oddity")]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::HeaderCutOff { bytes } => {
                write!(f, "the header has 48 bytes, but only {bytes} are there")
            }
            Self::LengthBelowHeader { claimed, bytes } => write!(
                f,
                "the table claims {claimed} bytes, fewer than its header has; all {bytes} that are there are read"
            ),
            Self::LengthBeyondData { claimed, bytes } => {
                write!(f, "the table claims {claimed} bytes, but only {bytes} are there")
            }
            Self::Checksum { sum } => {
                write!(f, "the bytes of the table sum up to {sum:#04x} and not to 0")
            }
            Self::StructureCutOff { claimed, left } => write!(
                f,
                "a structure claims {claimed} bytes where {left} are left of the table; it and what follows is not read"
            ),
            Self::StructureWithoutHeader { claimed } => write!(
                f,
                "a structure claims {claimed} bytes, fewer than type and length take; it and what follows is not read"
            ),
            Self::StructureTooShort { kind, length } => write!(
                f,
                "{} with {length} bytes, fewer than its fields take; it is not read",
                name_of(kind)
            ),
            Self::ScopeCutOff { claimed, left } => write!(
                f,
                "a device scope claims {claimed} bytes where {left} are left of its structure; it and those behind it are not read"
            ),
            Self::ScopeWithoutHeader { claimed } => write!(
                f,
                "a device scope claims {claimed} bytes, fewer than its fields take; it and those behind it are not read"
            ),
            Self::Signature(found) => {
                write!(f, "the signature is \"{}\" and not \"DMAR\"", found.escape_ascii())
            }
            Self::Revision(revision) => write!(f, "revision {revision}, known is 1"),
            Self::BytesBehind { bytes } => write!(f, "{bytes} bytes behind the table's end"),
            Self::Oversized { bytes } => write!(
                f,
                "the table has {bytes} bytes, more than any machine needs; only the first 65536 are read"
            ),
            Self::Width { bits } => {
                write!(f, "a host address width of {bits} bits, which no machine has")
            }
            Self::X2apicOptOutAlone => {
                f.write_str("X2APIC_OPT_OUT means nothing without INTR_REMAP")
            }
            Self::NoUnit => f.write_str("no remapping unit that can be used"),
            Self::NoIoApic => f.write_str(
                "INTR_REMAP is set, but no unit names an I/O APIC: their interrupts cannot be verified",
            ),
            Self::OutOfOrder { kind, behind } => write!(
                f,
                "{} behind {}, against the order of types",
                name_of(kind),
                name_of(behind)
            ),
            Self::UnknownStructure { kind, length } => {
                write!(f, "a structure of unknown type {kind} is skipped ({length} bytes)")
            }
            Self::ReservedBits { field, value } => {
                write!(f, "{field} should be 0 and is {value:#x}")
            }
            Self::NoRegisters { base } => {
                write!(f, "register base {base} is no address: the unit is left out")
            }
            Self::RegistersNotOnPage { base } => {
                write!(f, "register base {base} is not page-aligned: the unit is left out")
            }
            Self::RegistersNotOnSize { base, bytes } => {
                write!(f, "register base {base} is not aligned to the register set's {bytes:#x} bytes")
            }
            Self::RegistersBeyondWidth { base } => {
                write!(f, "register base {base} is beyond the host address width")
            }
            Self::UnitTwice { first } => write!(
                f,
                "the same registers as the unit at offset {first:#x}: this one is left out"
            ),
            Self::UnitOfNothing => {
                f.write_str("the unit has neither INCLUDE_PCI_ALL nor a device scope: it remaps nothing")
            }
            Self::IncludeAllTwice { first } => write!(
                f,
                "INCLUDE_PCI_ALL again in this segment, after the unit at offset {first:#x}, which counts"
            ),
            Self::IncludeAllNotLast { next } => write!(
                f,
                "the INCLUDE_PCI_ALL unit is not the last of its segment (offset {next:#x} follows); it is matched last"
            ),
            Self::IncludeAllWithDevice { kind } => write!(
                f,
                "an INCLUDE_PCI_ALL unit names {}, which it need not",
                kind_in_words(kind)
            ),
            Self::RegionBackwards { base, limit } => {
                write!(f, "the region ends at {limit}, before it begins at {base}: it is left out")
            }
            Self::RegionNotOnPages { base, limit } => write!(
                f,
                "the region {base} to {limit} is not whole pages: it is widened to the pages that it touches"
            ),
            Self::RegionBeyondWidth { limit } => {
                write!(f, "the region ends at {limit}, beyond the host address width")
            }
            Self::RegionOfInterrupts => f.write_str(
                "the region lies in the interrupt address range 0xfeexxxxx, which cannot be mapped: it is left out",
            ),
            Self::RegionOfNobody => f.write_str("the region names no device"),
            Self::RegionsOverlap { other } => {
                write!(f, "the region overlaps with that at offset {other:#x}")
            }
            Self::AllPortsAndSome => f.write_str("ALL_PORTS, and yet ports are named"),
            Self::NoPorts => f.write_str("no ALL_PORTS, and no port is named"),
            Self::NoDevices { kind } => write!(f, "{} names no device", name_of(kind)),
            Self::AffinityOfNoUnit { base } => {
                write!(f, "no unit has its registers at {base}")
            }
            Self::AffinityMissing => {
                f.write_str("the unit has no RHSA, though others have one")
            }
            Self::BytesInStructure { kind, bytes } => {
                write!(f, "{bytes} bytes behind the fields of {}", name_of(kind))
            }
            Self::NameUnterminated => {
                f.write_str("the object name has no NUL: it ends with the structure")
            }
            Self::NameEmpty => f.write_str("the object name is empty"),
            Self::NameNotAscii => f.write_str("the object name is not printable ASCII"),
            Self::DeclaredTwice { number, first } => write!(
                f,
                "ACPI device number {number} was declared before, at offset {first:#x}"
            ),
            Self::DeclaredForNothing { number } => {
                write!(f, "no unit names ACPI device number {number}")
            }
            Self::UnknownScope { kind } => {
                write!(f, "a device scope of unknown type {kind} is skipped")
            }
            Self::ScopeOutOfPlace { kind, structure } => write!(
                f,
                "{} does not belong into {}",
                kind_in_words(kind),
                name_of(structure)
            ),
            Self::EmptyPath => f.write_str("a device scope with an empty path names nothing"),
            Self::OddPath => {
                f.write_str("a path with half a step at its end, which is left out")
            }
            Self::NoSuchFunction { device, function } => write!(
                f,
                "the path goes through device {device:#x} function {function:#x}, which cannot be: the scope names nothing"
            ),
            Self::PathTooLong { hops } => {
                write!(f, "a path of {hops} steps where one is a source id: the scope names nothing")
            }
            Self::ScopeTwice { first } => write!(
                f,
                "the same device is in the scope of another unit, at offset {first:#x}, which counts"
            ),
            Self::Undeclared { number } => {
                write!(f, "no ANDD declares ACPI device number {number}")
            }
        }
    }
}

fn kind_in_words(kind: ScopeKind) -> &'static str {
    match kind {
        ScopeKind::Endpoint => "a PCI endpoint",
        ScopeKind::SubHierarchy => "a PCI sub-hierarchy",
        ScopeKind::IoApic => "an I/O APIC",
        ScopeKind::Hpet => "an HPET",
        ScopeKind::NamespaceDevice => "an ACPI name-space device",
        ScopeKind::Unknown(_) => "a device scope of unknown type",
    }
}

#[cfg(feature = "defmt")]
impl defmt::Format for Finding {
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(
            f,
            "at {=usize:#x}: {}",
            self.offset,
            defmt::Display2Format(self)
        );
    }
}
