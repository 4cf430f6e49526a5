//! Why a guest could not be started.

use crate::exit::ExitStatus;
use crate::rules::Refusal;
use crate::vcpu::svm::SvmError;
use crate::vm::SetupError;
use crate::vm::passthrough::FunctionError;
use core::fmt;
use iommu::IommuError;
use iommu_core::{DeviceId, IrqError, VmId};

/// Why a guest could not be started.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GuestError {
    /// The program is not in the boot module.
    NoProgram,
    /// The program cannot run inside the kernel.
    NotDirect,
    /// The guest could not be made.
    Setup(SetupError),
    /// No virtual CPU.
    Svm(SvmError),
    /// The device that the guest shall have is not there.
    NoDevice,
    /// The rules keep the device from guests.
    Refused {
        /// The device.
        device: DeviceId,
        /// Why.
        why: Refusal,
    },
    /// The device cannot be given to a guest.
    Function(FunctionError),
    /// The device's interrupt cannot be remapped.
    Interrupt(IrqError),
    /// Policy refused.
    Iommu(IommuError),
    /// No interrupt vector is left.
    OutOfVectors,
    /// No log stream is left.
    OutOfStreams,
    /// As many guests as there can be are there.
    TooManyGuests,
    /// The device's registers cannot stay with the hypervisor: it is no `edu` device.
    NotMediated,
    /// No memory.
    OutOfMemory,
}

impl GuestError {
    /// The status with which the kernel ends.
    pub fn status(&self) -> ExitStatus {
        match self {
            Self::NoProgram => ExitStatus::NoGuest,
            Self::Svm(_) => ExitStatus::NoSvm,
            Self::OutOfMemory | Self::Setup(SetupError::OutOfFrames(_)) => ExitStatus::NoMemory,
            Self::Refused { .. }
            | Self::Iommu(IommuError::Companion { .. } | IommuError::Reset(_)) => {
                ExitStatus::NotForGuests
            }
            _ => ExitStatus::Failed,
        }
    }
}

impl fmt::Display for GuestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoProgram => f.write_str(
                "the guest's program is not in the boot module: pack it as guest/NAME.elf into a tar archive and give that as the module (`cargo xtask run` does)",
            ),
            Self::NotDirect => f.write_str("the guest's program cannot run inside the kernel"),
            Self::Setup(error) => write!(f, "{error}"),
            Self::Svm(error) => write!(f, "{error}; guest=direct needs none"),
            Self::NoDevice => f.write_str("the device was not there when the machine was looked through (QEMU: -device edu); what is plugged in later is given to nobody"),
            Self::Refused { device, why } => {
                write!(f, "{device} is not given to a guest: {why}")
            }
            Self::Function(error) => write!(f, "the device cannot be passed through: {error}"),
            Self::Interrupt(error) => write!(f, "the device's interrupt: {error:?}"),
            Self::Iommu(IommuError::Companion {
                device,
                companion,
                by,
            }) => {
                write!(
                    f,
                    "{device} is not given to a guest: it cannot be kept apart from {companion}, which "
                )?;
                match by {
                    Some(VmId(guest)) => write!(f, "guest {guest} has"),
                    None => f.write_str("the hypervisor uses"),
                }
            }
            Self::Iommu(IommuError::Reset(error)) => {
                write!(f, "it is not given to a guest: {error}")
            }
            Self::Iommu(error) => write!(f, "{error}"),
            Self::OutOfVectors => f.write_str("no interrupt vector is left"),
            Self::OutOfStreams => f.write_str("no log stream is left"),
            Self::TooManyGuests => f.write_str("no more guests at a time"),
            Self::NotMediated => f.write_str("the device's registers cannot be mediated"),
            Self::OutOfMemory => f.write_str("no memory"),
        }
    }
}
