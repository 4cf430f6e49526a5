//! Requests of devices, each held against who owns what it reached.

use super::table::LEAVES;
use super::{DeviceState, LIMBO, Life, World};
use crate::ram::lock;
use vtd_model::{Outcome, Owner, Request};

impl World {
    /// A device issues a request.
    pub(crate) fn request(&self, random: &mut fastrand::Rng) {
        let number = random.usize(..self.devices.len());
        let device = &self.devices[number];
        let ats = self.caches(number);
        if self.setting.devices[number].shared {
            self.request_shared(device, ats, random);
            return;
        }
        if self.setting.devices[number].asks && random.bool() {
            self.ask(number, random);
            return;
        }
        let guest = *lock(&device.guest);
        let life = guest.and_then(|guest| self.life(guest));
        let Some((pasid, address)) = self.target(device, life.as_ref(), random) else {
            return;
        };
        self.issue(device, pasid, address, ats, random);
    }

    /// Carries a request out, and holds all that could come of it against who owns what.
    /// Says whether it went through.
    fn issue(
        &self,
        device: &DeviceState,
        pasid: Option<u32>,
        address: u64,
        ats: bool,
        random: &mut fastrand::Rng,
    ) -> bool {
        let request = Request {
            pasid,
            ..if random.u8(..3) == 0 {
                Request::write(device.source, address)
            } else {
                Request::read(device.source, address)
            }
        };
        let (outcome, possible) = self.floor.model.as_hardware(|machine| {
            let possible = if self.setting.pessimist {
                machine.possible(&request)
            } else {
                Vec::new()
            };
            let by_its_cache = random.bool() && ats;
            let outcome = if by_its_cache {
                machine.ats_access(
                    request.source,
                    request.pasid,
                    request.address,
                    request.access,
                )
            } else {
                machine.request(&request)
            };
            (outcome, possible)
        });
        let shared = self.setting.devices.iter();
        let shared = shared.filter(|plan| plan.shared);
        let owner = match shared
            .map(|plan| plan.source)
            .any(|source| source == device.source)
        {
            true => self.sharing.owner(request.pasid),
            false => *lock(&device.owner),
        };
        let checks = 1 + possible.len() as u64;
        for outcome in possible.iter().chain([&outcome]) {
            self.contain(device, owner, &request, outcome);
        }
        let mut tally = lock(&self.tally);
        tally.containment += checks;
        tally.requests.0 += 1;
        tally.requests.1 += u64::from(outcome.address().is_some());
        outcome.address().is_some()
    }

    /// A request of a device that guests share: mostly one that its guest may make.
    fn request_shared(&self, device: &DeviceState, ats: bool, random: &mut fastrand::Rng) {
        let taken = self.sharing.all();
        let (pasid, owner) = match random.choice(&taken) {
            Some((pasid, owner)) if random.u8(..8) != 0 => (Some(*pasid), *owner),
            // Nobody's, and those without one.
            _ if random.bool() => (Some(random.u32(1..16)), LIMBO),
            _ => (None, LIMBO),
        };
        let lives = (0..self.guests.len()).filter_map(|guest| self.life(guest));
        let reachable: Vec<u64> = lives
            .filter(|life| life.owner == owner || owner == LIMBO)
            .flat_map(|life| {
                let belief = lock(&life.belief).clone();
                let slots = belief.bound.iter().filter(|bound| bound.pasid.is_some());
                let all = slots.flat_map(|bound| belief.reachable(bound.device, bound.pasid));
                all.map(|(address, ..)| address).collect::<Vec<_>>()
            })
            .collect();
        let Some(&address) = random.choice(&reachable) else {
            return;
        };
        let through = self.issue(device, pasid, address | random.u64(..0x1000), ats, random);
        let mut tally = lock(&self.tally);
        tally.shared_requests.0 += 1;
        tally.shared_requests.1 += u64::from(through);
    }

    fn contain(&self, device: &DeviceState, owner: Owner, request: &Request, outcome: &Outcome) {
        let Some(address) = outcome.address() else {
            return;
        };
        let has = self.pool.owner(address);
        if self.setting.real {
            // It may have changed hands since; the model has judged it at its time.
            return;
        }
        if has != Some(owner) {
            self.find(format!(
                "{}, which acts for {owner:?}, reached {address:#x} of {has:?} by {request:x?}",
                device.id
            ));
        }
    }

    /// Mostly an address that the guest may reach by what it bound.
    fn target(
        &self,
        device: &DeviceState,
        life: Option<&Life>,
        random: &mut fastrand::Rng,
    ) -> Option<(Option<u32>, u64)> {
        const STRANGE: [u64; 6] = [
            0,
            0xfee0_1000,
            0x7fff_ffff_f000,
            0xffff_8000_0000_0000,
            0x20_0000,
            0x12_4000_0000,
        ];
        let strange = STRANGE[random.usize(..STRANGE.len())];
        // Who has nothing seldom asks.
        let seldom = random.u8(..8) == 0;
        let Some(life) = life else {
            return seldom.then_some((None, strange));
        };
        let belief = lock(&life.belief);
        let known = belief
            .devices
            .iter()
            .find(|known| known.source == device.source);
        let handle = known.map_or(0, |known| known.handle);
        if known.is_some_and(|known| known.pasids) && random.u8(..16) == 0 {
            // Host PASIDs are the lowest that are free.
            let address = 0x1000 * LEAVES[random.usize(..LEAVES.len())];
            return Some((Some(random.u32(1..8)), address));
        }
        let reachable = belief.reachable(handle, None);
        match random.choice(&reachable) {
            Some((address, ..)) if !seldom => Some((None, *address | random.u64(..0x1000))),
            _ => seldom.then_some((None, strange)),
        }
    }
}
