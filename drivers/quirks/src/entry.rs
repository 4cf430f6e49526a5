//! A row of the table: who, what follows, and who says so.

use core::ops::RangeInclusive;

/// What a PCI function says it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Identity {
    /// Vendor id.
    pub vendor: u16,
    /// Device id.
    pub device: u16,
    /// Revision.
    pub revision: u8,
    /// Base class.
    pub class: u8,
}

/// A CPU, as CPUID leaf 1 has it, with the extended fields added.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Processor {
    /// It is Intel's.
    pub intel: bool,
    /// Family.
    pub family: u16,
    /// Model.
    pub model: u8,
    /// Stepping.
    pub stepping: u8,
}

/// Whom a row is about.
#[derive(Clone, Debug)]
pub enum Who {
    /// Functions of these ids.
    Devices {
        /// Vendor id.
        vendor: u16,
        /// Device ids.
        devices: &'static [u16],
        /// Revisions.
        revisions: RangeInclusive<u8>,
    },
    /// Functions whose device ids follow each other.
    Run {
        /// Vendor id.
        vendor: u16,
        /// Device ids.
        devices: RangeInclusive<u16>,
    },
    /// All functions of a vendor and base class.
    Class {
        /// Vendor id.
        vendor: u16,
        /// Base class.
        class: u8,
    },
    /// Functions of a base class whose device id has one of these upper bytes.
    Family {
        /// Vendor id.
        vendor: u16,
        /// Base class.
        class: u8,
        /// Upper bytes of the device id.
        upper: &'static [u8],
    },
    /// Intel's CPUs of these models and steppings, family 6.
    Processors {
        /// Models.
        models: &'static [u8],
        /// Steppings.
        steppings: RangeInclusive<u8>,
    },
}

impl Who {
    /// Whether the row is about this function.
    pub fn is_device(&self, identity: &Identity) -> bool {
        match self {
            Self::Devices {
                vendor,
                devices,
                revisions,
            } => {
                *vendor == identity.vendor
                    && devices.contains(&identity.device)
                    && revisions.contains(&identity.revision)
            }
            Self::Family {
                vendor,
                class,
                upper,
            } => {
                let [high, _] = identity.device.to_be_bytes();
                *vendor == identity.vendor && *class == identity.class && upper.contains(&high)
            }
            Self::Run { vendor, devices } => {
                *vendor == identity.vendor && devices.contains(&identity.device)
            }
            Self::Class { vendor, class } => (*vendor, *class) == (identity.vendor, identity.class),
            Self::Processors { .. } => false,
        }
    }

    /// Whether the row is about this CPU.
    pub fn is_processor(&self, processor: &Processor) -> bool {
        match self {
            Self::Processors { models, steppings } => {
                processor.intel
                    && processor.family == 6
                    && models.contains(&processor.model)
                    && steppings.contains(&processor.stepping)
            }
            Self::Devices { .. } | Self::Run { .. } | Self::Class { .. } | Self::Family { .. } => {
                false
            }
        }
    }
}

/// Another id under which a function's requests come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Alias {
    /// Another function number of the same device.
    Function(u8),
    /// Another device and function (`device << 3 | function`) of the same bus.
    DeviceFunction(u8),
}

/// What follows for who is in a row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Effect {
    /// Its requests come under another id too.
    RequestsAs(Alias),
    /// A bridge without a PCI Express capability that takes requests over as one with it:
    /// under function 0.0 of its secondary bus.
    BridgesAsExpress,
    /// Keeps apart what lies behind it, or its functions from each other, although it has
    /// no access control services.
    Isolates,
    /// A function-level reset does not work or hangs it.
    NoFunctionReset,
    /// Going to D3hot and back does not reset it, whatever it says.
    NoPowerReset,
    /// It does not survive a reset of its bus.
    NoBusReset,
    /// Needs no reset: told to stop, it keeps nothing that could harm its next owner but
    /// the contents of its buffer.
    Harmless,
    /// Its address translation services do not work.
    NoTranslationServices,
    /// What lies behind it is no part of the machine's own buses and requests under its id, or
    /// under ids of its bus that are no function's.
    CarriesOthers,
    /// These bits of the 32-bit configuration register at the offset are set.
    SetConfiguration {
        /// Offset, a multiple of 4.
        offset: u16,
        /// Bits that become 1.
        bits: u32,
    },
    /// All units need write-buffer flushes (as with CAP.RWBF).
    NeedsWriteBufferFlush,
    /// Large pages of the second stage are claimed and do not work (CAP.SSLPS).
    NoSecondStageSuperpages,
    /// Page-selective invalidations have this address mask at most (CAP.MAMV).
    MaskAtMost(u8),
    /// Interrupts must not be remapped.
    NoInterruptRemapping,
    /// Protected memory regions do not work (CAP.PLMR, CAP.PHMR).
    NoProtectedRegions,
    /// Hardware nesting writes into pages that the second stage has read-only (ECAP.NEST).
    NoNesting,
    /// Display devices are not remapped correctly: they are left alone.
    LeaveGraphicsAlone,
    /// Translation, once on, must stay on in the unit of this device: the command to turn
    /// it off may never end.
    KeepsTranslating,
}

impl Effect {
    /// Whether it is about remapping units, and not about the function itself.
    pub const fn concerns_units(self) -> bool {
        matches!(
            self,
            Self::NeedsWriteBufferFlush
                | Self::NoSecondStageSuperpages
                | Self::MaskAtMost(_)
                | Self::NoInterruptRemapping
                | Self::NoProtectedRegions
                | Self::NoNesting
                | Self::KeepsTranslating
        )
    }
}

/// A row.
#[derive(Clone, Debug)]
pub struct Quirk {
    /// What it is called in the log.
    pub name: &'static str,
    /// Whom it is about.
    pub who: Who,
    /// What follows.
    pub effect: Effect,
    /// Who says so.
    pub source: &'static str,
}
