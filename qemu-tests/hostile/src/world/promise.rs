//! What a well-behaved guest may rely on: promised to it through the oracle, and taken back
//! before a call that changes it.

use super::call::is_same;
use super::{Life, World, device_id};
use crate::belief::{Belief, Device};
use crate::broken::Fault;
use crate::calls::Disturbs;
use crate::ram::lock;
use iommu_core::Pasid;
use std::collections::BTreeMap;

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
        let hosts = self.hosts(guest, life);
        // A guest that is ended meanwhile is promised nothing more. From here on there is no
        // step: whoever stopped at one with this lock would stop all others for ever.
        let alive = lock(&self.guests[guest].life);
        if !is_same(&alive, life) {
            return;
        }
        let belief = lock(&life.belief).clone();
        for device in &belief.devices {
            self.release_of(life, device, 0, u64::MAX);
            if device.slice {
                self.promise_slice(life, &belief, device, &hosts);
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

    /// Which PASIDs of the machine stand for those of the guest's that it bound.
    fn hosts(&self, guest: usize, life: &Life) -> Hosts {
        let belief = lock(&life.belief).clone();
        let slices = belief.devices.iter().filter(|device| device.slice);
        let mut numbers = BTreeMap::new();
        for device in slices {
            let bound = belief.bound.iter();
            for bound in bound.filter(|bound| bound.device == device.handle) {
                let Some(number) = bound.pasid.and_then(Pasid::new) else {
                    continue;
                };
                let vm = self.guests[guest].vm;
                let host = self.iommu.host_pasid(vm, device_id(device.source), number);
                if let Ok(host) = host {
                    numbers.insert(number.as_u32(), host.as_u32());
                }
            }
        }
        Hosts {
            taken: belief.pasids_taken,
            numbers,
        }
    }

    /// The same for what the guest bound of a device that others share.
    fn promise_slice(&self, life: &Life, belief: &Belief, device: &Device, hosts: &Hosts) {
        if hosts.taken != belief.pasids_taken {
            // A number may stand for another one by now.
            return;
        }
        let bound = belief.bound.iter();
        for bound in bound.filter(|bound| bound.device == device.handle) {
            let Some(&host) = bound.pasid.and_then(|number| hosts.numbers.get(&number)) else {
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

/// PASIDs of the machine's by those of a guest's.
struct Hosts {
    /// How many the guest had taken up to then.
    taken: u64,
    numbers: BTreeMap<u32, u32>,
}
