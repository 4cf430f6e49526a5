//! An `edu` device whose registers stay with the hypervisor.
//!
//! QEMU's device believes whatever offset into its buffer it is told, and some versions then
//! write over the emulator's own memory. So a guest that is not trusted with it names copies,
//! and [`Transfer`](edu::Transfer) refuses those that leave the buffer. Where in memory the
//! device reads and writes is the guest's choice: that is what remapping is for. But where
//! interrupt messages go it may not write: QEMU's device does that without its source id, and
//! QEMU then verifies none, so that every interrupt of the machine would be the guest's.

use super::GuestError;
use crate::memory::RegisterWindow;
use crate::vm::Mediated;
use crate::vm::passthrough::Function;
use edu::{Direction, Edu, EduError, Transfer};
use iommu_abi::Errno;
use iommu_core::{Iova, SourceId};

/// The device, in the hypervisor's hands.
pub(super) struct MediatedEdu {
    virtual_id: SourceId,
    edu: Edu<RegisterWindow>,
}

impl MediatedEdu {
    /// From a function that is an `edu` device.
    pub(super) fn new(function: &Function, virtual_id: SourceId) -> Result<Self, GuestError> {
        let bar = function.bars().first().ok_or(GuestError::NotMediated)?;
        let bytes = Edu::<RegisterWindow>::REGISTER_BYTES;
        let window = RegisterWindow::map(bar.hpa, bytes).map_err(|_| GuestError::NotMediated)?;
        let edu = Edu::new(window).map_err(|_| GuestError::NotMediated)?;
        Ok(Self { virtual_id, edu })
    }
}

/// Whether bytes of a range lie where requests are interrupts (§3.14).
fn touches_interrupts(first: u64, bytes: u32) -> bool {
    let last = first.saturating_add(u64::from(bytes));
    first <= 0xfeef_ffff && last >= 0xfee0_0000
}

impl Mediated for MediatedEdu {
    fn virtual_id(&self) -> SourceId {
        self.virtual_id
    }

    fn start(&self, wanted: &hypervisor_abi::Transfer) -> Result<(), Errno> {
        let direction = match wanted.to_memory {
            0 => Direction::FromMemory,
            _ => Direction::ToMemory,
        };
        let offset = u16::try_from(wanted.offset).map_err(|_| Errno::EINVAL)?;
        let bytes = u16::try_from(wanted.bytes).map_err(|_| Errno::EINVAL)?;
        if touches_interrupts(wanted.address, wanted.bytes) {
            return Err(Errno::EINVAL);
        }
        let at = Iova::new(wanted.address);
        let transfer = Transfer::new(direction, at, offset, bytes).map_err(|_| Errno::EINVAL)?;
        self.edu
            .start(&transfer, false)
            .map_err(|error| match error {
                EduError::Busy => Errno::EBUSY,
                EduError::NotEdu(_) | EduError::Dead { .. } | EduError::TimedOut(_) => Errno::EIO,
            })
    }
}
