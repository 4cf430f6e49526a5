//! Why there is no remapping: what was found, and what a person can do.

use super::table::DmarSource;
use crate::exit::ExitStatus;
use crate::firmware::FirmwareError;
use crate::memory::MapError;
use core::fmt;
use dmar::Finding;
use iommu_core::{BackendError, DeviceId, OutOfFrames};
use vtd::{BringUpError, Command, DiscoveryError, ModeError};

/// Why remapping could not be started.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RemappingError {
    /// There is no DMAR.
    NoDmar,
    /// The firmware's tables cannot be read.
    Firmware(FirmwareError),
    /// The DMAR is malformed.
    BadDmar {
        /// Which one.
        source: DmarSource,
        /// The first thing that does not fit.
        finding: Finding,
    },
    /// The DMAR names no unit.
    NoUnit,
    /// A unit's registers cannot be mapped.
    Unreachable {
        /// The unit.
        unit: u16,
        /// Why.
        error: MapError,
    },
    /// What answers is not a unit that can be driven.
    Discovery(DiscoveryError),
    /// A unit could not be brought up.
    BringUp(BringUpError),
    /// No memory for the driver.
    OutOfFrames(OutOfFrames),
    /// No memory for the list of units.
    OutOfMemory,
    /// No interrupt vector for the fault event.
    OutOfVectors,
    /// A device could not be given the memory that it must keep reaching.
    Reserved {
        /// The device.
        device: DeviceId,
        /// Why.
        error: ReservedError,
    },
}

/// Why a reserved region could not be mapped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReservedError {
    /// No domain, or it could not be attached.
    Backend(BackendError),
    /// The region could not be mapped.
    Map(iommu_core::MapError),
}

impl RemappingError {
    /// The status with which the kernel ends.
    pub fn status(&self) -> ExitStatus {
        match self {
            Self::NoDmar | Self::Firmware(_) => ExitStatus::NoDmar,
            Self::BadDmar { .. } => ExitStatus::BadDmar,
            Self::NoUnit => ExitStatus::NoUnit,
            Self::Unreachable { .. } | Self::Discovery(_) => ExitStatus::DeadUnit,
            Self::BringUp(error) => of_bring_up(error),
            Self::OutOfFrames(_) | Self::OutOfMemory => ExitStatus::NoMemory,
            Self::OutOfVectors | Self::Reserved { .. } => ExitStatus::Failed,
        }
    }
}

fn of_bring_up(error: &BringUpError) -> ExitStatus {
    match error {
        BringUpError::Mode {
            error: ModeError::NoWidth,
            ..
        } => ExitStatus::NoWidth,
        BringUpError::Mode { .. } => ExitStatus::NoMode,
        BringUpError::OutOfFrames(_) => ExitStatus::NoMemory,
        _ => ExitStatus::DeadUnit,
    }
}

impl fmt::Display for RemappingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoDmar => f.write_str(
                "the firmware has no DMAR table: turn VT-d on in its set-up (QEMU: -device intel-iommu), or give a dmar.bin in the boot module",
            ),
            Self::Firmware(error) => write!(
                f,
                "the firmware's tables cannot be read: {error}; give a dmar.bin in the boot module"
            ),
            Self::BadDmar { source, finding } => write!(
                f,
                "{} is malformed: at byte {}, {finding}; give a corrected dmar.bin in the boot module",
                source.name(),
                finding.offset
            ),
            Self::NoUnit => f.write_str(
                "the DMAR table names no remapping unit (DRHD): the firmware describes VT-d but has none turned on",
            ),
            Self::Unreachable { unit, error } => write!(
                f,
                "unit {unit} cannot be reached: {error}; the DMAR's register address is wrong"
            ),
            Self::Discovery(error) => write!(
                f,
                "{error}; check the DMAR's register address and the firmware's VT-d setting"
            ),
            Self::BringUp(error) => bring_up_advice(f, error),
            Self::OutOfFrames(error) => write!(f, "{error}; give the machine more memory"),
            Self::OutOfMemory => f.write_str("no memory for the list of units"),
            Self::OutOfVectors => f.write_str("no interrupt vector is left for the fault event"),
            Self::Reserved { device, error } => write!(
                f,
                "{device} cannot be given its reserved memory (RMRR): {error:?}; the DMAR's region is wrong"
            ),
        }
    }
}

fn bring_up_advice(f: &mut fmt::Formatter<'_>, error: &BringUpError) -> fmt::Result {
    let advice = match error {
        BringUpError::Mode {
            error: ModeError::NoWidth,
            ..
        } => "translation is off in this unit, or it is wider than the driver knows",
        BringUpError::Mode { .. } => "ask for another mode, or for none to get the best there is",
        BringUpError::OutOfFrames(_) => "give the machine more memory",
        BringUpError::TimedOut(error) if error.command == Command::DisableQueue => {
            "whoever ran before left its invalidation queue so that the unit does not give it up; start the machine anew, and turn VT-d off in what runs before"
        }
        _ => "the unit is broken or not a unit",
    };
    write!(f, "{error}; {advice}")
}
