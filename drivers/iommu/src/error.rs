//! What can go wrong, for the hypervisor and for guests.

use crate::shadow::{SettleError, ShadowError};
use core::fmt;
use iommu_abi::Errno;
use iommu_core::{
    BackendError, DeviceId, FlushError, Gpa, GuestMemoryError, MapError, Pasid, ResetError, VmId,
};

/// Why the hypervisor cannot have what it asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum IommuError {
    /// No memory for what must be there before it is needed.
    OutOfMemory,
    /// The guest's number is not below [`Config::guests`](crate::Config::guests).
    NoSuchSlot(VmId),
    /// No such guest.
    NoGuest(VmId),
    /// There is such a guest already.
    GuestExists(VmId),
    /// The device belongs to a guest already.
    Owned {
        /// The device.
        device: DeviceId,
        /// Its owner.
        by: VmId,
    },
    /// Another device, which cannot be kept apart from this one, is somebody else's.
    Companion {
        /// The device that was asked for.
        device: DeviceId,
        /// The other.
        companion: DeviceId,
        /// The guest that has it; `None` if the hypervisor uses it, or must let it reach
        /// memory.
        by: Option<VmId>,
    },
    /// Requests of the device may come under more ids than are kept track of.
    TooManyAliases(DeviceId),
    /// The device does not belong to this guest.
    NotOwned(DeviceId),
    /// The guest has no such PASID.
    NoPasid {
        /// The guest.
        vm: VmId,
        /// By its numbering.
        pasid: Pasid,
    },
    /// Something is bound to the device.
    InUse(DeviceId),
    /// The device's interrupts are not remapped: whoever owned it could raise any
    /// interrupt of the machine.
    InterruptsNotRemapped(DeviceId),
    /// The guest's quota of objects, or the table of devices, is full.
    Full(DeviceId),
    /// The back-end refused; `Reserved` for a device that must keep a mapping.
    Backend(BackendError),
    /// The second stage of a guest's nested tables could not map a part of its memory: the
    /// memory map leads to what the unit cannot address.
    MemoryMap(MapError),
    /// The guest's memory map tells its holes page by page, and there are too many to go
    /// through: see [`GuestMemory::hole`](iommu_core::GuestMemory::hole).
    HolesByPage(Gpa),
    /// The device could not be reset. It stays blocked.
    Reset(ResetError),
    /// Hardware did not confirm. What it may still know is in quarantine.
    Flush(FlushError),
}

impl fmt::Display for IommuError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfMemory => f.write_str("no memory for what must be there beforehand"),
            Self::NoSuchSlot(vm) => write!(f, "there is no room for a guest {}", vm.0),
            Self::NoGuest(vm) => write!(f, "there is no guest {}", vm.0),
            Self::GuestExists(vm) => write!(f, "there is a guest {} already", vm.0),
            Self::Owned { device, by } => write!(f, "{device} is guest {}'s", by.0),
            Self::Companion {
                device,
                companion,
                by,
            } => {
                write!(f, "{device} cannot be kept apart from {companion}, which ")?;
                match by {
                    Some(vm) => write!(f, "is guest {}'s", vm.0),
                    None => f.write_str("the hypervisor uses or lets reach memory"),
                }
            }
            Self::TooManyAliases(device) => {
                write!(f, "requests of {device} may come under too many ids")
            }
            Self::NotOwned(device) => write!(f, "{device} is not this guest's"),
            Self::NoPasid { vm, pasid } => {
                write!(f, "guest {} has no PASID {:#x}", vm.0, pasid.as_u32())
            }
            Self::InUse(device) => write!(f, "something is bound to {device}"),
            Self::InterruptsNotRemapped(device) => write!(
                f,
                "interrupts of {device} are not remapped: its owner could raise any interrupt"
            ),
            Self::Full(device) => write!(f, "no room for {device}, by quota or in the table"),
            Self::Backend(error) => write!(f, "{error}"),
            Self::MemoryMap(error) => write!(f, "memory of the guest: {error}"),
            Self::HolesByPage(gpa) => write!(
                f,
                "the guest's memory tells its holes page by page, from {gpa} on too many"
            ),
            Self::Reset(error) => write!(f, "{error}"),
            Self::Flush(error) => write!(f, "{error}"),
        }
    }
}

impl core::error::Error for IommuError {}

impl From<BackendError> for IommuError {
    fn from(error: BackendError) -> Self {
        Self::Backend(error)
    }
}

impl From<FlushError> for IommuError {
    fn from(error: FlushError) -> Self {
        Self::Flush(error)
    }
}

/// Why a guest's call was refused, and whether its argument still tells something.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Refusal {
    pub(crate) errno: Errno,
    /// The argument's output fields are valid.
    pub(crate) write_back: bool,
}

impl Refusal {
    /// A refusal whose argument says how far the call came.
    pub(crate) fn with_outputs(errno: Errno) -> Self {
        Self {
            errno,
            write_back: true,
        }
    }
}

impl From<Errno> for Refusal {
    fn from(errno: Errno) -> Self {
        Self {
            errno,
            write_back: false,
        }
    }
}

pub(crate) fn of_memory(_: GuestMemoryError) -> Errno {
    Errno::EFAULT
}

pub(crate) fn of_shadow(error: ShadowError) -> Errno {
    match error {
        ShadowError::Quota => Errno::EDQUOT,
        ShadowError::OutOfFrames(_) => Errno::ENOMEM,
        // No guest sees it: its call goes on.
        ShadowError::Unfinished => Errno::EBUSY,
    }
}

pub(crate) fn of_backend(error: BackendError) -> Errno {
    match error {
        BackendError::Unsupported(_)
        | BackendError::FormatUnsupported { .. }
        | BackendError::AttributesUnsupported(_) => Errno::EOPNOTSUPP,
        BackendError::PasidOutOfRange(_) => Errno::EINVAL,
        BackendError::Reserved(_) => Errno::EPERM,
        BackendError::OutOfDomains => Errno::ENOSPC,
        BackendError::OutOfFrames(_) => Errno::ENOMEM,
        BackendError::Busy(_) => Errno::EBUSY,
        BackendError::Flush(error) => of_flush(error),
        // Ours to have known; a guest cannot bring these about.
        _ => Errno::EIO,
    }
}

pub(crate) fn of_flush(error: FlushError) -> Errno {
    match error {
        FlushError::UnitTimedOut { .. } | FlushError::DeviceTimedOut(_) => Errno::ETIMEDOUT,
        _ => Errno::EIO,
    }
}

pub(crate) fn of_settle(error: SettleError) -> Errno {
    match error {
        SettleError::Refused(_) | SettleError::NoRoom => Errno::EIO,
    }
}

pub(crate) fn of_map(error: MapError) -> Errno {
    match error {
        MapError::Occupied(_) => Errno::EEXIST,
        MapError::OutOfFrames(_) => Errno::ENOMEM,
        MapError::NotPaging(_) | MapError::BeyondHostWidth(_) => Errno::EIO,
        _ => Errno::EINVAL,
    }
}
