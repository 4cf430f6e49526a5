//! The rules that the structures of `linux/iommu.h` share.

use crate::argument::{check_tail, copy_entry};
use iommu_abi::{ARGUMENT_MAX, Entry, Errno, LINUX_VERSION_1};
use iommu_core::{Address, Gpa, GuestMemory, Pasid};

/// A structure that begins with `argsz` and `version`, and may go on with a union.
pub(super) struct Structure<'m, H> {
    /// Everything before the union.
    pub(super) header: H,
    memory: &'m dyn GuestMemory,
    at: Gpa,
    given: usize,
}

/// The header of a structure: its own idea of its size, and its version.
pub(super) trait Versioned: Entry {
    /// Size of the structure with its largest union member.
    const WHOLE: usize;

    fn argsz(&self) -> u32;
    fn version(&self) -> u32;
}

impl<'m, H: Versioned> Structure<'m, H> {
    /// Copies what is before the union, and checks what every structure has. The size that
    /// is checked is the one that is used.
    pub(super) fn copy(memory: &'m dyn GuestMemory, at: u64) -> Result<Self, Errno> {
        let at = Gpa::new(at);
        let size = u32::try_from(H::SIZE).map_err(|_| Errno::EINVAL)?;
        let header: H = copy_entry(memory, at, size)?;
        let given = header.argsz() as usize;
        if given < H::SIZE || header.version() != LINUX_VERSION_1 {
            return Err(Errno::EINVAL);
        }
        if given > ARGUMENT_MAX {
            return Err(Errno::E2BIG);
        }
        check_tail(memory, at, H::WHOLE.min(given), given)?;
        Ok(Self {
            header,
            memory,
            at,
            given,
        })
    }

    /// Copies a member of the union, which the caller's structure must have.
    pub(super) fn union<U: Entry>(&self) -> Result<U, Errno> {
        let needed = H::SIZE.checked_add(U::SIZE).ok_or(Errno::EINVAL)?;
        if self.given < needed {
            return Err(Errno::EINVAL);
        }
        let at = self.at.checked_add(H::SIZE as u64).ok_or(Errno::EFAULT)?;
        let size = u32::try_from(U::SIZE).map_err(|_| Errno::EINVAL)?;
        copy_entry(self.memory, at, size)
    }
}

/// A PASID that a process can have: 20 bits, and not 0.
pub(super) fn pasid(number: u64) -> Result<Pasid, Errno> {
    u32::try_from(number)
        .ok()
        .and_then(Pasid::new)
        .filter(|pasid| *pasid != Pasid::ZERO)
        .ok_or(Errno::EINVAL)
}
