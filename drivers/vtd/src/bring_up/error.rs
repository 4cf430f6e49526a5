//! Why something is no unit that can be driven, or did not come up.

use crate::mode::ModeError;
use crate::queue::QueueError;
use crate::registers::{Registers, Ver};
use crate::unit::{Command, TimedOut};
use core::error::Error;
use core::fmt;
use iommu_core::{Hpa, Mmio, OutOfFrames};

/// Why something is not a unit that can be driven.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum DiscoveryError {
    /// CAP and ECAP read as all ones or all zeroes: nothing answers at this address.
    Silent {
        /// The unit.
        unit: u16,
        /// Where it was looked for.
        register_base: Hpa,
    },
    /// Registers that CAP and ECAP place beyond what is mapped.
    Beyond {
        /// The unit.
        unit: u16,
        /// Bytes that have to be mapped.
        needed: usize,
        /// Bytes that are mapped.
        mapped: usize,
    },
    /// Its caches cannot be invalidated: it has no queue (ECAP.QI = 0), and its version no
    /// registers for that.
    NoInvalidation {
        /// The unit.
        unit: u16,
        /// VER.
        version: Ver,
    },
}

impl fmt::Display for DiscoveryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Silent {
                unit,
                register_base,
            } => write!(f, "unit {unit} at {register_base} does not answer"),
            Self::Beyond {
                unit,
                needed,
                mapped,
            } => write!(
                f,
                "unit {unit} has registers up to {needed:#x}, but {mapped:#x} bytes are mapped"
            ),
            Self::NoInvalidation { unit, version } => write!(
                f,
                "unit {unit} of version {} has no invalidation queue (ECAP.QI = 0), and the \
                 registers that did without are gone from version 6 on",
                version.max()
            ),
        }
    }
}

/// Why a unit could not be brought up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum BringUpError {
    /// It did not do what it was told.
    TimedOut(TimedOut),
    /// It lacks the mode that was asked for.
    Mode {
        /// The unit.
        unit: u16,
        /// What is missing.
        error: ModeError,
    },
    /// It refused an invalidation, with this IQERCD.IQEI.
    DescriptorRefused {
        /// The unit.
        unit: u16,
        /// Why.
        code: u8,
    },
    /// Interrupt remapping was asked for, and the unit has none (ECAP.IR).
    NoInterruptRemapping {
        /// The unit.
        unit: u16,
    },
    /// 32-bit APIC ids were asked for, and the unit has none (ECAP.EIM).
    NoExtendedInterrupts {
        /// The unit.
        unit: u16,
    },
    /// Translation would have to be turned off, which may never end on this unit
    /// ([`Corrections::keeps_translating`](crate::Corrections::keeps_translating)). Nothing
    /// was done.
    KeepsTranslating {
        /// The unit.
        unit: u16,
    },
    /// No memory for tables.
    OutOfFrames(OutOfFrames),
}

impl fmt::Display for BringUpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TimedOut(error) => write!(f, "{error}"),
            Self::Mode { unit, error } => write!(f, "unit {unit}: {error}"),
            Self::DescriptorRefused { unit, code } => {
                write!(f, "unit {unit} refused an invalidation (IQEI {code})")
            }
            Self::NoInterruptRemapping { unit } => {
                write!(f, "unit {unit} has no interrupt remapping (ECAP.IR = 0)")
            }
            Self::NoExtendedInterrupts { unit } => {
                write!(f, "unit {unit} has no 32-bit APIC ids (ECAP.EIM = 0)")
            }
            Self::KeepsTranslating { unit } => write!(
                f,
                "translation of unit {unit} would have to be turned off, which may never end there"
            ),
            Self::OutOfFrames(error) => write!(f, "{error}"),
        }
    }
}

impl Error for DiscoveryError {}

impl Error for BringUpError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::TimedOut(error) => Some(error),
            Self::Mode { error, .. } => Some(error),
            Self::OutOfFrames(error) => Some(error),
            _ => None,
        }
    }
}

impl From<TimedOut> for BringUpError {
    fn from(error: TimedOut) -> Self {
        Self::TimedOut(error)
    }
}

impl From<OutOfFrames> for BringUpError {
    fn from(error: OutOfFrames) -> Self {
        Self::OutOfFrames(error)
    }
}

impl BringUpError {
    pub(crate) fn of_queue<M: Mmio>(registers: &Registers<M>, error: QueueError) -> Self {
        let unit = registers.unit();
        match error {
            QueueError::TimedOut(waited) => {
                Self::TimedOut(registers.timed_out(Command::Invalidate, waited))
            }
            QueueError::Refused(code) => Self::DescriptorRefused { unit, code },
            // Nothing was asked of a device, so none can have been silent.
            QueueError::Aborted(_) => Self::DescriptorRefused { unit, code: 0 },
        }
    }
}
