//! Device scopes: which devices a structure speaks of (§8.3.1).

use crate::flags::DeviceProperties;
use crate::raw;
use crate::records::{Part, Records, ScopeEntries};
use iommu_core::SourceId;
use zerocopy::FromBytes;

/// What a device scope entry names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum ScopeKind {
    /// One PCI function.
    Endpoint,
    /// A bridge, and everything behind it.
    SubHierarchy,
    /// An I/O APIC of the MADT.
    IoApic,
    /// An HPET that can send MSIs.
    Hpet,
    /// A device of the ACPI name space.
    NamespaceDevice,
    /// A type of later revisions.
    Unknown(u8),
}

impl ScopeKind {
    fn from_byte(byte: u8) -> Self {
        match byte {
            1 => Self::Endpoint,
            2 => Self::SubHierarchy,
            3 => Self::IoApic,
            4 => Self::Hpet,
            5 => Self::NamespaceDevice,
            other => Self::Unknown(other),
        }
    }

    /// The number in the table.
    pub fn byte(self) -> u8 {
        match self {
            Self::Endpoint => 1,
            Self::SubHierarchy => 2,
            Self::IoApic => 3,
            Self::Hpet => 4,
            Self::NamespaceDevice => 5,
            Self::Unknown(byte) => byte,
        }
    }

    /// Whether it names PCI functions.
    pub fn is_pci(self) -> bool {
        matches!(self, Self::Endpoint | Self::SubHierarchy)
    }
}

/// One step of a path: a function on the bus that the step before leads to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct PathHop {
    /// Device number. The field has 8 bits, devices have 5.
    pub device: u8,
    /// Function number. The field has 8 bits, functions have 3.
    pub function: u8,
}

/// A device scope entry.
#[derive(Clone, Copy, Debug)]
pub struct Scope<'a> {
    /// Where it begins, in bytes from the start of the table.
    pub offset: usize,
    /// What it names.
    pub kind: ScopeKind,
    /// Properties of the device. Only those in SIDP structures mean something.
    pub flags: DeviceProperties,
    /// Byte 3, which should be 0.
    pub reserved: u8,
    /// Which I/O APIC, HPET or name-space device.
    pub enumeration_id: u8,
    /// The bus that the path begins on.
    pub start_bus: u8,
    path: &'a [u8],
}

impl<'a> Scope<'a> {
    fn parse(part: Part<'a>) -> Option<Self> {
        let (raw, path) = raw::Scope::ref_from_prefix(part.bytes).ok()?;
        Some(Self {
            offset: part.offset,
            kind: ScopeKind::from_byte(raw.kind),
            flags: DeviceProperties::from_bits_retain(raw.flags),
            reserved: raw.reserved,
            enumeration_id: raw.enumeration_id,
            start_bus: raw.start_bus,
            path,
        })
    }

    /// The steps from the start bus to the device.
    pub fn path(&self) -> impl Iterator<Item = PathHop> + Clone + use<'a> {
        let (pairs, _) = self.path.as_chunks::<2>();
        pairs
            .iter()
            .map(|&[device, function]| PathHop { device, function })
    }

    /// Steps of the path.
    pub fn hops(&self) -> usize {
        self.path.as_chunks::<2>().0.len()
    }

    /// Whether the path ends with half a step.
    pub(crate) fn has_odd_byte(&self) -> bool {
        !self.path.as_chunks::<2>().1.is_empty()
    }

    /// The source id of a path of one step, which no bus numbering changes. `None` for
    /// longer ones, and for numbers that no function has.
    pub fn fixed_source(&self) -> Option<SourceId> {
        let mut path = self.path();
        let hop = path.next()?;
        if path.next().is_some() {
            return None;
        }
        SourceId::new(self.start_bus, hop.device, hop.function)
    }

    /// Whether both name the same thing by the same words.
    pub(crate) fn is_same_as(&self, other: &Scope<'_>) -> bool {
        self.kind == other.kind
            && self.enumeration_id == other.enumeration_id
            && self.start_bus == other.start_bus
            && self.path == other.path
    }
}

/// Iterates over the device scope entries of a structure that can be read.
#[derive(Clone, Debug)]
pub struct Scopes<'a>(Records<'a, ScopeEntries>);

impl<'a> Scopes<'a> {
    pub(crate) fn new(part: Part<'a>) -> Self {
        Self(Records::new(part))
    }

    /// The entries, and what is wrong with those that cannot be read.
    pub(crate) fn records(&self) -> Records<'a, ScopeEntries> {
        self.0.clone()
    }
}

impl<'a> Iterator for Scopes<'a> {
    type Item = Scope<'a>;

    fn next(&mut self) -> Option<Scope<'a>> {
        self.0.by_ref().flatten().find_map(Scope::parse)
    }
}
