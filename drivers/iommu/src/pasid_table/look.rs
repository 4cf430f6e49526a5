//! Looking at a guest's PASID table, and making the bindings what it says.

use super::PasidTable;
use super::entry::{Found, directory, entry};
use crate::error::Refusal;
use crate::object::Origin;
use crate::user_table::TableAsked;
use crate::vm::Vm;
use crate::{Iommu, PasidAllocator};
use core::ops::RangeInclusive;
use iommu_abi::{Errno, Unbind};
use iommu_core::{Backend, FaultReason, Pasid, Platform, VmHost};

/// PASIDs behind one entry of the directory.
const IN_TABLE: u32 = 64;
/// Steps that one call takes, at most: entries that are read, with [`CHANGE`] for each
/// binding that is changed.
const STEPS: u32 = 1 << 14;
/// What a change of a binding counts.
const CHANGE: u32 = 256;

/// What was found.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Looked {
    /// Present entries that are blocked; of a directory entry one for all behind it.
    pub(crate) refused: u32,
    /// The first of them.
    pub(crate) first_refused: Option<(u32, FaultReason)>,
    /// The first PASID that was not looked at.
    pub(crate) next: Option<u32>,
    steps: u32,
}

impl Looked {
    fn refuse(&mut self, pasid: u32, reason: FaultReason) {
        self.refused = self.refused.saturating_add(1);
        self.first_refused.get_or_insert((pasid, reason));
    }

    fn step(&mut self, count: u32) {
        self.steps = self.steps.saturating_add(count);
    }
}

impl<B: Backend, P: Platform, H: VmHost, A: PasidAllocator> Iommu<B, P, H, A> {
    /// Has these PASIDs of a device's table looked at. On error `next` is the one that
    /// could not be had.
    pub(crate) fn look_at_pasids(
        &self,
        guest: &mut Vm,
        device_id: u32,
        pasids: RangeInclusive<u32>,
        looked: &mut Looked,
    ) -> Result<(), Errno> {
        let table = *guest.pasid_tables.of(device_id).ok_or(Errno::ENOENT)?;
        let last = (*pasids.end()).min(table.pasids.saturating_sub(1));
        let mut pasid = *pasids.start();
        while pasid <= last {
            if looked.steps >= STEPS {
                looked.next = Some(pasid);
                return Ok(());
            }
            looked.step(1);
            let index = pasid / IN_TABLE;
            let end = index.saturating_mul(IN_TABLE).saturating_add(IN_TABLE - 1);
            let block = pasid..=end.min(last);
            match directory(&*guest.memory, table.directory, index) {
                Found::Entry(behind) => {
                    for pasid in block.clone() {
                        looked.step(1);
                        let found = entry(&*guest.memory, behind, pasid % IN_TABLE);
                        self.follow(guest, &table, pasid, &found, looked)
                            .inspect_err(|_| looked.next = Some(pasid))?;
                    }
                }
                Found::NotPresent => self
                    .block(guest, &table, &block, looked)
                    .inspect_err(|_| looked.next = Some(pasid))?,
                Found::Refused(reason) => {
                    looked.refuse(pasid, reason);
                    self.block(guest, &table, &block, looked)
                        .inspect_err(|_| looked.next = Some(pasid))?;
                }
            }
            pasid = block.end().saturating_add(1);
        }
        Ok(())
    }

    /// Makes one PASID use what its entry says.
    fn follow(
        &self,
        guest: &mut Vm,
        table: &PasidTable,
        pasid: u32,
        found: &Found<TableAsked>,
        looked: &mut Looked,
    ) -> Result<(), Errno> {
        let asked = match found {
            Found::NotPresent => return self.block(guest, table, &(pasid..=pasid), looked),
            Found::Refused(reason) => {
                looked.refuse(pasid, *reason);
                return self.block(guest, table, &(pasid..=pasid), looked);
            }
            Found::Entry(asked) => TableAsked {
                page_requests: table.page_requests,
                ..*asked
            },
        };
        if bound_as(guest, table.device_id, pasid, &asked) {
            return Ok(());
        }
        looked.step(CHANGE);
        match self.bind_entry(guest, table.device_id, pasid, &asked) {
            Ok(()) => Ok(()),
            Err(errno) => {
                let Some(reason) = refused_as(errno) else {
                    return Err(errno);
                };
                looked.refuse(pasid, reason);
                self.block(guest, table, &(pasid..=pasid), looked)
            }
        }
    }

    fn bind_entry(
        &self,
        guest: &mut Vm,
        device_id: u32,
        pasid: u32,
        asked: &TableAsked,
    ) -> Result<(), Errno> {
        let slot = slot_of(pasid)?;
        let old = guest
            .binding(device_id, slot)
            .and_then(|place| guest.bindings.get(place))
            .map(|binding| binding.ioas_id);
        let before = old.and_then(|old| guest.objects.user_table(old).ok());
        let takes = match (slot, before.map(|table| table.origin.taken_pasid())) {
            (None, _) => None,
            (Some(_), Some(taken)) => taken,
            (Some(pasid), None) => self.take_pasid(guest, device_id, pasid)?,
        };
        let origin = Origin::PasidTable { pasid: takes };
        match self.bind_table(guest, device_id, slot, asked, origin) {
            Ok(_) => {
                if let Some(old) = old {
                    // The PASID belongs to the new one now.
                    guest.objects.set_origin(old, origin.without_pasid());
                }
                self.sweep(guest);
                Ok(())
            }
            Err(errno) => {
                if let (Some(pasid), None) = (takes, old) {
                    self.give_pasid_back(guest, pasid);
                }
                Err(errno)
            }
        }
    }

    /// The guest has a PASID when its table has it. Says whether it was taken for that.
    fn take_pasid(
        &self,
        guest: &mut Vm,
        device_id: u32,
        pasid: Pasid,
    ) -> Result<Option<Pasid>, Errno> {
        let bits = guest.objects.device(device_id)?.capabilities.pasid_bits;
        if pasid.as_u32().checked_shr(bits.into()).unwrap_or(0) != 0 {
            // Told as hardware would.
            return Err(Errno::ENOENT);
        }
        if guest.pasids.host(pasid).is_some() {
            return Ok(None);
        }
        self.allocate_pasid(guest, pasid..=pasid).map(Some)
    }

    fn give_pasid_back(&self, guest: &mut Vm, pasid: Pasid) {
        let bound = |pair: crate::vm::PasidPair| pair.guest == pasid;
        if guest.bindings.iter().any(|b| b.pasid.is_some_and(bound)) {
            return;
        }
        if let Some(host) = guest.pasids.free(pasid) {
            self.give_back(guest, host);
        }
    }

    /// Blocks those of these PASIDs that are bound.
    fn block(
        &self,
        guest: &mut Vm,
        table: &PasidTable,
        pasids: &RangeInclusive<u32>,
        looked: &mut Looked,
    ) -> Result<(), Errno> {
        while let Some(pasid) = bound_within(guest, table.device_id, pasids) {
            looked.step(CHANGE);
            let unbind = Unbind {
                flags: pasid.map_or(0, |_| Unbind::PASID),
                device_id: table.device_id,
                pasid: pasid.map_or(0, Pasid::as_u32),
                ..Unbind::new()
            };
            self.unbind_slot(guest, &unbind)
                .map_err(|refusal: Refusal| refusal.errno)?;
        }
        Ok(())
    }
}

/// The slot of a PASID in a guest's table: entry 0 is for requests without PASID.
fn slot_of(pasid: u32) -> Result<Option<Pasid>, Errno> {
    let pasid = Pasid::new(pasid).ok_or(Errno::EINVAL)?;
    Ok((pasid != Pasid::ZERO).then_some(pasid))
}

/// A bound slot of the device whose PASID is one of these.
fn bound_within(guest: &Vm, device_id: u32, pasids: &RangeInclusive<u32>) -> Option<Option<Pasid>> {
    guest
        .bindings
        .iter()
        .filter(|binding| binding.device_id == device_id)
        .map(|binding| binding.pasid.map(|pair| pair.guest))
        .find(|pasid| pasids.contains(&pasid.map_or(0, Pasid::as_u32)))
}

/// Whether the PASID uses already what its entry says.
fn bound_as(guest: &Vm, device_id: u32, pasid: u32, asked: &TableAsked) -> bool {
    let Ok(slot) = slot_of(pasid) else {
        return false;
    };
    guest
        .binding(device_id, slot)
        .and_then(|place| guest.bindings.get(place))
        .and_then(|binding| guest.objects.user_table(binding.ioas_id).ok())
        .is_some_and(|table| {
            table.root == asked.root
                && table.levels == crate::service::levels_of(asked.format)
                && table.format_flags == asked.format_flags
                && table.enforce_snoop == asked.enforce_snoop
        })
}

/// The fault that requests would have, if the error is the entry's; else nothing.
fn refused_as(errno: Errno) -> Option<FaultReason> {
    match errno {
        // No second stage leads to the root.
        Errno::EFAULT => Some(FaultReason::SECOND_STAGE_NOT_PRESENT),
        Errno::EOPNOTSUPP => Some(FaultReason::PASID_INVALID),
        Errno::ENOENT => Some(FaultReason::PASID_TOO_WIDE),
        _ => None,
    }
}
