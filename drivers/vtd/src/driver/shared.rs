//! Tables that the CPU walks too: a guest's memory map, used by devices as it is.
//!
//! Entries of the second stage are EPT's bit for bit (§9.8), those of the first stage the
//! CPU's own paging format (§9.7), in which AMD's nested tables are written too. What the
//! unit demands beyond the format is held against what the tables' owner says of them.

use super::Driver;
use crate::Event;
use crate::domain::{Needs, Translation};
use crate::unit::Unit;
use core::error::Error;
use core::fmt;
use iommu_core::{
    Address, BackendError, Coherence, DeviceId, DomainHandle, Hpa, LeafSizes, Mmio, Observer,
    PAGE_SHIFT, Platform, Stage, TableFormat,
};

/// Tables of the CPU, as their owner describes them.
///
/// The owner's part of the contract, as long as the domain exists:
/// - What an entry leads to stays where it is until the entry was changed and
///   [`Backend::invalidate`](iommu_core::Backend::invalidate) of the domain was settled; for
///   entries that led to tables, `leaf_only` is false.
/// - On a unit in caching mode (`DeviceCapabilities::caching_mode`) that is owed for entries
///   that become present too.
/// - Where [`written_back`](Self::written_back) is said, each line of a table is written back
///   before that.
/// - No entry has a bit set that the unit reserves: of EPT bits 11 and 62, and of the CPU's
///   paging none that the CPU reserves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct SharedTables {
    /// The format: of the second stage for EPT, of the first for AMD's nested tables.
    pub format: TableFormat,
    /// The root table (EPTP, nCR3), without flags.
    pub root: Hpa,
    /// Large pages that occur.
    pub leaves: LeafSizes,
    /// Bits of the highest guest-physical address that is mapped.
    pub guest_bits: u8,
    /// Bits of the highest host address that is mapped.
    pub host_bits: u8,
    /// Changes are written back behind the CPUs' caches, for units that do not snoop.
    pub written_back: bool,
    /// Every page that a device may be told of is mapped and stays so: devices that do not
    /// ask for pages cannot wait for one.
    pub pinned: bool,
    /// Accessed flags, and dirty ones of pages that can be written, are set already: a unit
    /// sets them in the first stage, and cannot if it does not snoop.
    pub flags_set: bool,
}

/// Why tables of the CPU cannot be used by devices: the first condition that failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum NotShareable {
    /// The unit does not walk tables of this format in its mode.
    Format(TableFormat),
    /// The root is no page within the unit's physical addresses.
    Root(Hpa),
    /// Large pages occur that the unit does not know.
    LargePages(LeafSizes),
    /// Guest-physical addresses are mapped that are wider than the unit translates.
    GuestWidth {
        /// What the unit translates, in bits.
        unit: u8,
    },
    /// Host addresses are mapped that are wider than the unit's.
    HostWidth {
        /// What the unit has, in bits.
        unit: u8,
    },
    /// The unit does not snoop its walks, and the tables are not written back.
    Coherence,
    /// The unit would have to set accessed and dirty flags, and cannot without snooping.
    Flags,
    /// Pages may be missing when a device comes for them.
    Pinning,
    /// The driver could not.
    Backend(BackendError),
}

impl From<BackendError> for NotShareable {
    fn from(error: BackendError) -> Self {
        Self::Backend(error)
    }
}

impl Error for NotShareable {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Backend(error) => Some(error),
            _ => None,
        }
    }
}

impl fmt::Display for NotShareable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Format(format) => write!(f, "the unit cannot walk {format:?} tables"),
            Self::Root(at) => write!(f, "{at} is no page that the unit can read as a root"),
            Self::LargePages(_) => f.write_str("the unit does not know all large pages in use"),
            Self::GuestWidth { unit } => write!(
                f,
                "the unit translates {unit} bits of guest address, and more are mapped"
            ),
            Self::HostWidth { unit } => write!(
                f,
                "the unit has {unit} bits of host address, and more are mapped"
            ),
            Self::Coherence => {
                f.write_str("the unit does not snoop, and the tables are not written back")
            }
            Self::Flags => f.write_str("the unit cannot set accessed and dirty flags"),
            Self::Pinning => f.write_str("pages are not kept for devices"),
            Self::Backend(error) => error.fmt(f),
        }
    }
}

impl<P: Platform + Observer<Event>, M: Mmio, S> Driver<P, M, S> {
    /// Makes a domain of tables that the CPU walks too, for a device that will be attached
    /// to it. It is used like one of [`DomainSpec::Root`](iommu_core::DomainSpec::Root), and
    /// other units are held to the same conditions when it is attached there.
    pub fn create_shared(
        &self,
        device: DeviceId,
        tables: &SharedTables,
    ) -> Result<DomainHandle, NotShareable> {
        let (_, unit) = self.locate(device)?;
        unit.check_shared(tables)?;
        let translation = Translation::Tables {
            format: tables.format,
            root: tables.root,
            owned: false,
            needs: Needs {
                snooping: !tables.written_back,
                mib2: tables.leaves.mib2,
                gib1: tables.leaves.gib1,
                iova_bits: tables.guest_bits,
                host_bits: tables.host_bits,
            },
        };
        let added = self.domains.lock(&self.platform).add(translation);
        Ok(added.ok_or(BackendError::OutOfDomains)?)
    }
}

impl<M: Mmio> Unit<M> {
    fn check_shared(&self, tables: &SharedTables) -> Result<(), NotShareable> {
        let stage = tables.format.stage();
        if !self.supports(tables.format) {
            return Err(NotShareable::Format(tables.format));
        }
        let beyond = tables.root.as_u64() >> self.abilities.host_bits.min(63) != 0;
        if beyond || !tables.root.is_aligned(PAGE_SHIFT) {
            return Err(NotShareable::Root(tables.root));
        }
        let known = self.leaves(stage);
        if tables.leaves.mib2 && !known.mib2 || tables.leaves.gib1 && !known.gib1 {
            return Err(NotShareable::LargePages(tables.leaves));
        }
        let unit = self.guest_width(tables.format);
        if tables.guest_bits > unit {
            return Err(NotShareable::GuestWidth { unit });
        }
        let unit = self.abilities.host_bits;
        if tables.host_bits > unit {
            return Err(NotShareable::HostWidth { unit });
        }
        let snoops = self.paging_coherence() == Coherence::Snooped;
        if !snoops && !tables.written_back {
            return Err(NotShareable::Coherence);
        }
        if !snoops && stage == Stage::First && !tables.flags_set {
            return Err(NotShareable::Flags);
        }
        if !tables.pinned {
            return Err(NotShareable::Pinning);
        }
        Ok(())
    }

    /// Bits of guest-physical address that tables of a format translate on this unit.
    fn guest_width(&self, format: TableFormat) -> u8 {
        let bits = format
            .input_bits()
            .min(self.abilities.cap.guest_address_bits());
        match format.stage() {
            // The upper half of canonical addresses is none of a guest's memory.
            Stage::First => bits.saturating_sub(1),
            Stage::Second => bits,
        }
    }
}
