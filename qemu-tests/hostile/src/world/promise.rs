//! What a well-behaved guest may rely on: promised to it through the oracle, and taken back
//! before a call that changes it.

use super::call::is_same;
use super::{Life, World, device_id};
use crate::belief::{Belief, Device};
use crate::broken::Fault;
use crate::calls::Disturbs;
use crate::ram::lock;
use iommu_core::Pasid;

impl World {
    /// Ends the promises that a call is about to change.
    pub(crate) fn disturb(&self, life: &Life, disturbs: Disturbs) {
        let belief = lock(&life.belief).clone();
        for device in &belief.devices {
            let ioas = belief
                .bound
                .iter()
                .find(|bound| bound.device == device.handle && bound.pasid.is_none())
                .map(|bound| bound.ioas);
            let (first, bytes) = match disturbs {
                Disturbs::Slot(handle) if handle == device.handle => (0, u64::MAX),
                Disturbs::Pages {
                    ioas: of,
                    iova,
                    pages,
                } if ioas == Some(of) || device.slice => (iova, pages << 12),
                _ => continue,
            };
            self.release_of(life, device, first, bytes);
        }
    }

    /// Ends promises of a device, or of a guest's PASIDs of one that is shared.
    pub(super) fn release_of(&self, life: &Life, device: &Device, first: u64, bytes: u64) {
        if !device.slice {
            self.release(device.source, first, bytes);
            return;
        }
        for pasid in self.sharing.of(life.owner) {
            self.floor.model.with_machine(|machine| {
                machine.release(device.source, Some(pasid), first, bytes);
            });
        }
    }

    pub(super) fn release(&self, source: u16, first: u64, bytes: u64) {
        self.floor
            .model
            .with_machine(|machine| machine.release(source, None, first, bytes));
    }

    /// Promises what the guest may rely on from now on: its requests reach what it bound.
    pub(crate) fn promise(&self, guest: usize, life: &Life) {
        if self.setting.fault == Some(Fault::GivesMemoryAway) {
            return;
        }
        // A guest that is ended meanwhile is promised nothing more.
        let alive = lock(&self.guests[guest].life);
        if !is_same(&alive, life) {
            return;
        }
        let belief = lock(&life.belief).clone();
        for device in &belief.devices {
            self.release_of(life, device, 0, u64::MAX);
            if device.slice {
                self.promise_slice(guest, life, &belief, device);
                continue;
            }
            for (address, gpa, writable) in belief.reachable(device.handle, None) {
                let Some(hpa) = life.ram.hpa(gpa) else {
                    continue;
                };
                self.floor.model.with_machine(|machine| {
                    machine.expect(device.source, None, address, 0x1000, hpa, writable);
                });
            }
        }
    }

    /// The same for what the guest bound of a device that others share.
    fn promise_slice(&self, guest: usize, life: &Life, belief: &Belief, device: &Device) {
        let bound = belief.bound.iter();
        for bound in bound.filter(|bound| bound.device == device.handle) {
            let number = bound.pasid.and_then(Pasid::new);
            let resolved = number.and_then(|number| {
                let vm = self.guests[guest].vm;
                let host = self.iommu.host_pasid(vm, device_id(device.source), number);
                host.ok()
            });
            let Some(host) = resolved.map(Pasid::as_u32) else {
                continue;
            };
            for (address, gpa, writable) in belief.reachable(device.handle, bound.pasid) {
                let Some(hpa) = life.ram.hpa(gpa) else {
                    continue;
                };
                self.floor.model.with_machine(|machine| {
                    machine.expect(device.source, Some(host), address, 0x1000, hpa, writable);
                });
            }
        }
    }
}
