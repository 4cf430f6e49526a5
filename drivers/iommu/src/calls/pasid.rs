//! PASIDs of the guest's own numbering.

use crate::dispatch::Answer;
use crate::pasid::PasidError;
use crate::vm::Vm;
use crate::{Iommu, PasidAllocator};
use core::ops::RangeInclusive;
use iommu_abi::{Errno, PasidAllocate, PasidFree};
use iommu_core::{Backend, Pasid, Platform, VmHost};

impl<B: Backend, P: Platform, H: VmHost, A: PasidAllocator> Iommu<B, P, H, A> {
    pub(crate) fn pasid_allocate(&self, guest: &mut Vm, ask: &mut PasidAllocate) -> Answer {
        let number = |number| Pasid::new(number).ok_or(Errno::EINVAL);
        let (first, last) = (number(ask.minimum)?, number(ask.maximum)?);
        if first == Pasid::ZERO || first > last {
            return Err(Errno::EINVAL.into());
        }
        ask.pasid = self.allocate_pasid(guest, first..=last)?.as_u32();
        Ok(0)
    }

    /// Takes the lowest free number of the range for the guest, with one of the host's
    /// behind it.
    pub(crate) fn allocate_pasid(
        &self,
        guest: &mut Vm,
        numbers: RangeInclusive<Pasid>,
    ) -> Result<Pasid, Errno> {
        // The lowest host PASIDs: units and devices may have fewer bits than 20.
        let host = || {
            let one = Pasid::new(1)?;
            self.host_pasids.allocate(&self.platform, one..=Pasid::MAX)
        };
        let allocated = guest.pasids.allocate(numbers, host);
        let pasid = allocated.map_err(|error| match error {
            PasidError::Quota => Errno::EDQUOT,
            PasidError::NoneFree => Errno::ENOSPC,
        })?;
        self.note_pasid(guest, pasid)?;
        Ok(pasid)
    }

    /// Notes for the fault path whose the PASID is. Where there is no room, it is nobody's.
    fn note_pasid(&self, guest: &mut Vm, pasid: Pasid) -> Result<(), Errno> {
        let host = guest.pasids.host(pasid).ok_or(Errno::EIO)?;
        let noted = self
            .owners
            .lock(&self.platform)
            .note_pasid(host, guest.id, pasid);
        if noted.is_ok() {
            return Ok(());
        }
        if let Some(host) = guest.pasids.free(pasid) {
            self.host_pasids.free(&self.platform, host.number);
        }
        Err(Errno::ENOSPC)
    }

    pub(crate) fn pasid_free(&self, guest: &mut Vm, ask: &mut PasidFree) -> Answer {
        let pasid = Pasid::new(ask.pasid).ok_or(Errno::EINVAL)?;
        guest.pasids.host(pasid).ok_or(Errno::ENOENT)?;
        let bound = |pair: crate::vm::PasidPair| pair.guest == pasid;
        if guest.bindings.iter().any(|b| b.pasid.is_some_and(bound)) {
            return Err(Errno::EBUSY.into());
        }
        if let Some(host) = guest.pasids.free(pasid) {
            self.give_back(guest, host);
        }
        Ok(0)
    }
}
