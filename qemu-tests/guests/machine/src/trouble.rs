//! Why a program could not do what it meant to.

use crate::Absent;
use core::fmt;
use edu::{EduError, OutsideBuffer};
use iommu_abi::Errno;
use iommu_core::Gpa;
use iommu_guest::BadMemory;

/// Why a program could not do what it meant to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Trouble {
    /// The program named memory that is not there.
    Absent(Gpa),
    /// All free pages are taken.
    OutOfPages,
    /// A hypercall failed: the operation's number and the error.
    Call(u32, Errno),
    /// The guest's library could not do as told.
    Iommu(iommu_guest::Error),
    /// A page that no argument can be passed in.
    BadMemory,
    /// No device of this kind on the bus.
    NoDevice,
    /// The device does not have what is needed: a register window, an MSI capability.
    Unsuitable(&'static str),
    /// The device did not do as told.
    Edu(EduError),
    /// A copy would leave the device's buffer.
    OutsideBuffer(OutsideBuffer),
    /// Something came out otherwise than it should.
    Unexpected {
        /// What.
        what: &'static str,
        /// What was wanted.
        wanted: u64,
        /// What there was.
        found: u64,
    },
}

impl Trouble {
    /// An error unless both are the same.
    pub fn unless_equal(what: &'static str, wanted: u64, found: u64) -> Result<(), Self> {
        if wanted == found {
            Ok(())
        } else {
            Err(Self::Unexpected {
                what,
                wanted,
                found,
            })
        }
    }

    /// The hypervisor's error number, if it was the one who refused.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::Call(_, errno) => Some(*errno),
            Self::Iommu(error) => error.errno(),
            _ => None,
        }
    }

    /// An error unless a call failed with just this errno.
    pub fn unless_refused<T, E: Into<Self>>(
        what: &'static str,
        wanted: Errno,
        outcome: Result<T, E>,
    ) -> Result<(), Self> {
        let found = match outcome.map_err(Into::into) {
            Ok(_) => 0,
            Err(trouble) => match trouble.errno() {
                Some(errno) => u64::from(errno.as_u32()),
                None => return Err(trouble),
            },
        };
        Self::unless_equal(what, u64::from(wanted.as_u32()), found)
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent(at) => write!(f, "no memory at {at}"),
            Self::OutOfPages => f.write_str("out of pages"),
            Self::Call(operation, errno) => {
                write!(f, "hypercall {operation:#x} failed: {}", errno.name())
            }
            Self::Iommu(error) => write!(f, "{error:?}"),
            Self::BadMemory => f.write_str("a page that no argument can be passed in"),
            Self::NoDevice => f.write_str("no such device"),
            Self::Unsuitable(what) => write!(f, "the device lacks {what}"),
            Self::Edu(error) => write!(f, "{error:?}"),
            Self::OutsideBuffer(refused) => write!(f, "{refused:?}"),
            Self::Unexpected {
                what,
                wanted,
                found,
            } => write!(f, "{what}: {found:#x} instead of {wanted:#x}"),
        }
    }
}

impl From<Absent> for Trouble {
    fn from(Absent(at): Absent) -> Self {
        Self::Absent(at)
    }
}

impl From<iommu_guest::Error> for Trouble {
    fn from(error: iommu_guest::Error) -> Self {
        Self::Iommu(error)
    }
}

impl From<BadMemory> for Trouble {
    fn from(_: BadMemory) -> Self {
        Self::BadMemory
    }
}

impl From<EduError> for Trouble {
    fn from(error: EduError) -> Self {
        Self::Edu(error)
    }
}

impl From<OutsideBuffer> for Trouble {
    fn from(refused: OutsideBuffer) -> Self {
        Self::OutsideBuffer(refused)
    }
}
