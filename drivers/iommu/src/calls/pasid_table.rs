//! Whole PASID tables: bound, looked at again, given up.

use crate::dispatch::Answer;
use crate::error::Refusal;
use crate::pasid_table::{Looked, PasidTable};
use crate::service::Service;
use crate::vm::Vm;
use crate::{Iommu, IommuError, PasidAllocator};
use iommu_abi::{Errno, PasidTableBind, PasidTableInvalidate, PasidTableUnbind};
use iommu_core::{Access, Address, Backend, Gpa, PAGE_SHIFT, Pasid, Platform, VmHost};

/// The largest directory (§9.4, PDTS).
const MAX_DIRECTORY_SIZE: u32 = 7;
/// Log2 of the PASIDs in a directory of size 0: 2^7 entries with 64 PASIDs each.
const PASID_BITS: u32 = 13;

impl<B: Backend, P: Platform, H: VmHost, A: PasidAllocator> Iommu<B, P, H, A> {
    pub(crate) fn pasid_table_bind(&self, guest: &mut Vm, ask: &mut PasidTableBind) -> Answer {
        let device = guest.objects.device(ask.device_id)?;
        if device.slice {
            // The others have PASIDs of it too.
            return Err(Errno::EPERM.into());
        }
        if ask.directory_size > MAX_DIRECTORY_SIZE {
            return Err(Errno::EINVAL.into());
        }
        let page_requests = ask.flags & PasidTableBind::PAGE_REQUESTS != 0;
        let cannot = Service::choose(guest, device, 4).is_none();
        if cannot || page_requests && device.asks.is_none() {
            return Err(Errno::EOPNOTSUPP.into());
        }
        let bits = PASID_BITS.saturating_add(ask.directory_size);
        let table = PasidTable {
            device_id: ask.device_id,
            directory: Gpa::new(ask.directory),
            pasids: 1u32.checked_shl(bits).ok_or(Errno::EINVAL)?,
            page_requests,
        };
        check_directory(guest, &table)?;
        let used = |bound: &crate::vm::Binding| bound.device_id == ask.device_id;
        if guest.keeps_pasid_table(ask.device_id) || guest.bindings.iter().any(used) {
            return Err(Errno::EBUSY.into());
        }
        if !guest.pasid_tables.insert(table) {
            return Err(Errno::EDQUOT.into());
        }
        let mut looked = Looked::default();
        let everything = 0..=Pasid::MAX.as_u32();
        if let Err(errno) = self.look_at_pasids(guest, ask.device_id, everything, &mut looked) {
            // The first error is told. What stays bound is in the guest's hands.
            let _ = self.drop_pasid_table(guest, ask.device_id);
            return Err(errno.into());
        }
        ask.bound = bound_of(guest, ask.device_id);
        (ask.refused, ask.refused_pasid, ask.reason) = told(&looked);
        ask.next_pasid = looked.next.unwrap_or(0);
        Ok(0)
    }

    pub(crate) fn pasid_table_unbind(&self, guest: &mut Vm, ask: &mut PasidTableUnbind) -> Answer {
        guest.objects.device(ask.device_id)?;
        guest.pasid_tables.of(ask.device_id).ok_or(Errno::ENOENT)?;
        match self.drop_pasid_table(guest, ask.device_id) {
            Ok(()) => Ok(0),
            Err(error) => Err(crate::calls::bind::of_detach(error).into()),
        }
    }

    pub(crate) fn pasid_table_invalidate(
        &self,
        guest: &mut Vm,
        ask: &mut PasidTableInvalidate,
    ) -> Answer {
        guest.objects.device(ask.device_id)?;
        guest.pasid_tables.of(ask.device_id).ok_or(Errno::ENOENT)?;
        if ask.first_pasid > ask.last_pasid || ask.last_pasid > Pasid::MAX.as_u32() {
            return Err(Errno::EINVAL.into());
        }
        let mut looked = Looked::default();
        let pasids = ask.first_pasid..=ask.last_pasid;
        let result = self.look_at_pasids(guest, ask.device_id, pasids, &mut looked);
        ask.bound = bound_of(guest, ask.device_id);
        (ask.refused, ask.refused_pasid, ask.reason) = told(&looked);
        ask.next_pasid = looked.next.unwrap_or(0);
        result.map(|()| 0).map_err(Refusal::with_outputs)
    }

    /// Blocks the device and forgets its table. Slots that hardware did not let go of stay
    /// bound, as ones that the guest can unbind.
    fn drop_pasid_table(&self, guest: &mut Vm, device_id: u32) -> Result<(), IommuError> {
        let result = self.unbind_all(guest, |bound| bound.device_id == device_id);
        guest.pasid_tables.remove(device_id);
        self.sweep(guest);
        result
    }

    /// What a device that its guest loses leaves behind. Nothing is bound to it any more.
    pub(crate) fn forget_pasid_table(&self, guest: &mut Vm, device_id: u32) {
        guest.pasid_tables.remove(device_id);
        self.sweep(guest);
    }
}

/// Refuses directories that are not the guest's memory from end to end.
fn check_directory(guest: &Vm, table: &PasidTable) -> Result<(), Errno> {
    if !table.directory.is_aligned(PAGE_SHIFT) {
        return Err(Errno::EINVAL);
    }
    // 8 bytes for each 64 PASIDs.
    let end = table
        .directory
        .checked_add(u64::from(table.pasids / 8))
        .ok_or(Errno::EFAULT)?;
    let mut at = table.directory;
    while at < end {
        let backing = guest.memory.resolve(at, Access::READ);
        let bytes = backing.map_err(crate::error::of_memory)?.bytes;
        at = at.checked_add(bytes.max(1)).ok_or(Errno::EFAULT)?;
    }
    Ok(())
}

fn bound_of(guest: &Vm, device_id: u32) -> u32 {
    let bound = guest
        .bindings
        .iter()
        .filter(|bound| bound.device_id == device_id);
    u32::try_from(bound.count()).unwrap_or(u32::MAX)
}

fn told(looked: &Looked) -> (u32, u32, u32) {
    let (pasid, reason) = looked
        .first_refused
        .map_or((0, 0), |(pasid, reason)| (pasid, reason.0.into()));
    (looked.refused, pasid, reason)
}
