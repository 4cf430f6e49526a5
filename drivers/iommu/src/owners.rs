//! Which guest owns which device, and what its slots lead to: what the fault path needs,
//! which has no turn.

use crate::Config;
use crate::guest_walk::Table;
use alloc::vec::Vec;
use iommu_core::{DeviceId, Pasid, Slot, SourceId, VmId};

/// The owner of a device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Owner {
    pub(crate) vm: VmId,
    /// The guest's handle of the device.
    pub(crate) device_id: u32,
    /// Which of all times that a device was given to somebody.
    pub(crate) assignment: u64,
}

/// What a slot leads to, as far as faults are concerned.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bound {
    pub(crate) slot: Slot,
    pub(crate) guest_pasid: Option<Pasid>,
    pub(crate) ioas_id: u32,
    /// The guest's own table, if it keeps one.
    pub(crate) table: Option<Table>,
    /// The guest answers page requests here.
    pub(crate) page_requests: bool,
}

/// All devices that belong to guests.
#[derive(Debug)]
pub(crate) struct Owners {
    /// Sorted by device.
    devices: Vec<(DeviceId, Owner)>,
    /// Of devices that several guests share, in no order.
    slices: Vec<(DeviceId, Owner)>,
    /// The machine's PASIDs that guests have: whose, and their own number of it. Sorted.
    pasids: Vec<(Pasid, VmId, Pasid)>,
    /// Other ids under which requests of those devices come, and whose they are. An id that
    /// several have in common stands here for each.
    aliases: Vec<(DeviceId, DeviceId)>,
    /// Sorted by slot.
    bound: Vec<Bound>,
    assignments: u64,
}

fn room<T>(count: u16) -> Option<Vec<T>> {
    let mut room = Vec::new();
    room.try_reserve_exact(count.into()).ok()?;
    Some(room)
}
/// Other ids that all devices have together, for each device that there is room for.
const ALIASES: usize = 4;

/// No room.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Full;

impl Owners {
    /// Room for so many; `None` without memory.
    pub(crate) fn new(config: &Config) -> Option<Self> {
        let mut aliases = Vec::new();
        let count = usize::from(config.devices).saturating_mul(ALIASES);
        aliases.try_reserve_exact(count).ok()?;
        Some(Self {
            devices: room(config.devices)?,
            slices: room(config.slices)?,
            pasids: room(config.pasids)?,
            aliases,
            bound: room(config.bindings)?,
            assignments: 0,
        })
    }

    /// Whose a request is: of who has the device, or of who has its PASID and a slice of the
    /// device. With the PASID in its owner's numbering, where that decided.
    pub(crate) fn owner_of(&self, slot: Slot) -> Option<(Owner, Option<Pasid>)> {
        if let Some(owner) = self.owner(slot.device) {
            return Some((owner, None));
        }
        let place = self.pasid_place(slot.pasid?).ok()?;
        let &(_, vm, guest) = self.pasids.get(place)?;
        Some((self.slice(slot.device, vm)?, Some(guest)))
    }

    /// A guest's slice of a device.
    pub(crate) fn slice(&self, device: DeviceId, vm: VmId) -> Option<Owner> {
        let place = self.slice_place(device, vm)?;
        self.slices.get(place).map(|(_, owner)| *owner)
    }

    /// Any of those who share a device.
    pub(crate) fn sharer(&self, device: DeviceId) -> Option<Owner> {
        let mut slices = self.slices.iter();
        slices
            .find(|(known, _)| *known == device)
            .map(|(_, owner)| *owner)
    }

    /// Whether others than this guest have a slice of a device.
    pub(crate) fn is_shared_beside(&self, device: DeviceId, vm: VmId) -> bool {
        let mut slices = self.slices.iter();
        slices.any(|(known, owner)| *known == device && owner.vm != vm)
    }

    /// Gives a guest a slice of a device, which it knows by this handle.
    pub(crate) fn give_slice(
        &mut self,
        device: DeviceId,
        vm: VmId,
        device_id: u32,
    ) -> Result<(), Full> {
        if self.slices.len() == self.slices.capacity() {
            return Err(Full);
        }
        let owner = self.next_owner(vm, device_id);
        self.slices.push((device, owner));
        Ok(())
    }

    pub(crate) fn take_slice(&mut self, device: DeviceId, vm: VmId) {
        if let Some(place) = self.slice_place(device, vm) {
            self.slices.swap_remove(place);
        }
    }

    /// Notes whose a PASID of the machine is.
    pub(crate) fn note_pasid(&mut self, host: Pasid, vm: VmId, guest: Pasid) -> Result<(), Full> {
        match self.pasid_place(host) {
            Err(place) if self.pasids.len() < self.pasids.capacity() => {
                self.pasids.insert(place, (host, vm, guest));
                Ok(())
            }
            _ => Err(Full),
        }
    }

    pub(crate) fn forget_pasid(&mut self, host: Pasid) {
        if let Ok(place) = self.pasid_place(host) {
            self.pasids.remove(place);
        }
    }

    fn pasid_place(&self, host: Pasid) -> Result<usize, usize> {
        self.pasids.binary_search_by_key(&host, |(host, ..)| *host)
    }

    fn slice_place(&self, device: DeviceId, vm: VmId) -> Option<usize> {
        let mut slices = self.slices.iter();
        slices.position(|(known, owner)| *known == device && owner.vm == vm)
    }

    fn next_owner(&mut self, vm: VmId, device_id: u32) -> Owner {
        self.assignments = self.assignments.wrapping_add(1);
        Owner {
            vm,
            device_id,
            assignment: self.assignments,
        }
    }

    pub(crate) fn owner(&self, device: DeviceId) -> Option<Owner> {
        let place = self.place(device).ok()?;
        self.devices.get(place).map(|(_, owner)| *owner)
    }

    /// The device whose requests come under an id: itself, if somebody has it, and else one
    /// whose other id that is.
    pub(crate) fn who_requests_as(&self, id: DeviceId) -> DeviceId {
        if self.owner(id).is_some() {
            return id;
        }
        let mut aliases = self.aliases.iter();
        aliases
            .find(|(alias, _)| *alias == id)
            .map_or(id, |(_, device)| *device)
    }

    /// Gives a device that nobody has to a guest, which knows it by this handle.
    pub(crate) fn give(
        &mut self,
        device: DeviceId,
        vm: VmId,
        device_id: u32,
        aliases: &[SourceId],
    ) -> Result<(), Full> {
        let Err(place) = self.place(device) else {
            return Err(Full);
        };
        let alias_room = self.aliases.capacity().saturating_sub(self.aliases.len());
        if self.devices.len() == self.devices.capacity() || alias_room < aliases.len() {
            return Err(Full);
        }
        let with_segment = |alias: &SourceId| DeviceId::new(device.segment, *alias);
        self.aliases
            .extend(aliases.iter().map(|alias| (with_segment(alias), device)));
        let owner = self.next_owner(vm, device_id);
        self.devices.insert(place, (device, owner));
        Ok(())
    }

    pub(crate) fn take(&mut self, device: DeviceId) {
        if let Ok(place) = self.place(device) {
            self.devices.remove(place);
            self.aliases.retain(|(_, known)| *known != device);
        }
    }

    pub(crate) fn bound(&self, slot: Slot) -> Option<Bound> {
        let place = self.bound_place(slot).ok()?;
        self.bound.get(place).copied()
    }

    /// Notes what a slot leads to, in place of what was noted.
    pub(crate) fn bind(&mut self, bound: Bound) -> Result<(), Full> {
        match self.bound_place(bound.slot) {
            Ok(place) => {
                if let Some(old) = self.bound.get_mut(place) {
                    *old = bound;
                }
                Ok(())
            }
            Err(_) if self.bound.len() == self.bound.capacity() => Err(Full),
            Err(place) => {
                self.bound.insert(place, bound);
                Ok(())
            }
        }
    }

    pub(crate) fn unbind(&mut self, slot: Slot) {
        if let Ok(place) = self.bound_place(slot) {
            self.bound.remove(place);
        }
    }

    fn place(&self, device: DeviceId) -> Result<usize, usize> {
        self.devices
            .binary_search_by_key(&device, |(device, _)| *device)
    }

    fn bound_place(&self, slot: Slot) -> Result<usize, usize> {
        self.bound.binary_search_by_key(&slot, |bound| bound.slot)
    }
}
