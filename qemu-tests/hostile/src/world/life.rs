//! Guests come and go, and devices with them.

use super::table::lay_tables;
use super::{BASE, CALL_PAGES, LARGE_PAGE, LIMBO, Life, Remains, TABLE_PAGES, World};
use crate::belief::{Belief, Device};
use crate::outline::GuestPlan;
use crate::ram::{Ram, lock};
use iommu::IommuError;
use iommu_core::{Access, Backend};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use vtd_model::Owner;

impl World {
    pub(super) fn kill(&self, guest: usize) -> String {
        let state = &self.guests[guest];
        let Some(life) = lock(&state.life).take() else {
            return "dead already".to_owned();
        };
        let devices: Vec<usize> = (0..self.devices.len())
            .filter(|&device| *lock(&self.devices[device].guest) == Some(guest))
            .collect();
        for &device in &devices {
            self.release(self.devices[device].source, 0, u64::MAX);
        }
        let shared = self.setting.devices.iter().filter(|plan| plan.shared);
        for plan in shared {
            for pasid in self.sharing.of(life.owner) {
                self.floor.model.with_machine(|machine| {
                    machine.release(plan.source, Some(pasid), 0, u64::MAX);
                });
            }
        }
        let ended = self.iommu.destroy_guest(state.vm);
        for &device in &devices {
            *lock(&self.devices[device].guest) = None;
        }
        lock(&state.bound_before).clear();
        lock(&self.tally).kills += 1;
        let remains = Remains {
            pages: life.ram.take_all(),
            devices,
        };
        match ended {
            Ok(()) => {
                self.bury(remains);
                "ended".to_owned()
            }
            Err(error) => {
                if !matches!(error, IommuError::Flush(_)) {
                    self.find(format!("guest {guest} could not be ended: {error:?}"));
                }
                lock(&self.remains).push(remains);
                format!("ended, and {error:?}")
            }
        }
    }

    /// Nothing leads there any more: devices act for nobody, and memory is anybody's.
    pub(super) fn bury(&self, remains: Remains) {
        for device in remains.devices {
            self.act_for(device, LIMBO);
        }
        for page in remains.pages {
            self.pool.put_back(page);
        }
    }

    pub(super) fn revive(&self, guest: usize) -> String {
        let state = &self.guests[guest];
        if let Some(life) = self.life(guest) {
            return self.give_homes(guest, &life);
        }
        let plan = &self.setting.guests[guest];
        let number = self.owners.fetch_add(1, Ordering::Relaxed);
        let owner = Owner::Guest(number);
        let ram = Ram::new(&self.floor, plan.restless, plan.seed ^ u64::from(number));
        for page in 0..plan.pages {
            let Some(hpa) = self.pool.take(owner) else {
                break;
            };
            ram.add(BASE + 0x1000 * page, hpa, Access::READ_WRITE);
        }
        let life = Life {
            owner,
            ram: Arc::new(ram),
            belief: Arc::new(Mutex::new(first_belief(plan))),
        };
        if plan.large {
            // The first of its lives only: afterwards its pages are anywhere.
            for (number, hpa) in self.pool.take_large(owner).enumerate() {
                life.ram
                    .add(LARGE_PAGE + 0x1000 * number as u64, hpa, Access::READ_WRITE);
            }
        }
        if !life.ram.has(BASE + 0x1000 * (CALL_PAGES + TABLE_PAGES)) {
            self.abandon(&life);
            return "no memory for a guest".to_owned();
        }
        lay_tables(&life);
        let memory = life.ram.clone();
        if let Err(error) = self.iommu.create_guest(state.vm, plan.quota, memory) {
            self.abandon(&life);
            self.find(format!("guest {guest} cannot begin: {error:?}"));
            return format!("{error:?}");
        }
        let given = self.give_homes(guest, &life);
        *lock(&state.life) = Some(life);
        format!("begins as {number}{given}")
    }

    /// Gives a guest the devices that are its own and that nobody has.
    fn give_homes(&self, guest: usize, life: &Life) -> String {
        let slices: String = (0..self.devices.len())
            .filter(|&device| self.setting.devices[device].shared)
            .map(|device| format!(", {}", self.give_slice(device, guest, life)))
            .collect();
        let own: String = (0..self.devices.len())
            .filter(|&device| self.setting.devices[device].home == guest)
            .filter(|&device| lock(&self.devices[device].guest).is_none())
            .map(|device| format!(", {}", self.give(device, guest, life)))
            .collect();
        own + &slices
    }

    /// Gives a guest its slice of a device that all share, if it has none.
    fn give_slice(&self, device: usize, guest: usize, life: &Life) -> String {
        let state = &self.devices[device];
        let plan = &self.setting.devices[device];
        let home = self.setting.devices.iter().find(|plan| plan.home == guest);
        // What a well-behaved guest has fits all that it has.
        let fits = home.is_some_and(|home| home.unit == plan.unit);
        let known = lock(&life.belief).devices.clone();
        let has = known.iter().any(|known| known.source == state.source);
        if has || (self.setting.guests[guest].polite && !fits) {
            return "no slice".to_owned();
        }
        let vm = self.guests[guest].vm;
        match self
            .iommu
            .assign_slice(vm, state.id, u32::from(state.source))
        {
            Ok(handle) => {
                lock(&life.belief).devices.push(Device {
                    handle,
                    source: state.source,
                    pasids: true,
                    slice: true,
                    asks: false,
                });
                format!("a slice of {}", state.id)
            }
            Err(error) => format!("no slice of {}: {error:?}", state.id),
        }
    }

    fn abandon(&self, life: &Life) {
        for page in life.ram.take_all() {
            self.pool.put_back(page);
        }
    }

    /// Gives a device that nobody has to a guest.
    fn give(&self, device: usize, guest: usize, life: &Life) -> String {
        let state = &self.devices[device];
        let remains = lock(&self.remains)
            .iter()
            .any(|remains| remains.devices.contains(&device));
        if remains || lock(&state.guest).is_some() {
            return format!("{} is not free", state.id);
        }
        self.act_for(device, life.owner);
        let vm = self.guests[guest].vm;
        match self.iommu.assign(vm, state.id, u32::from(state.source)) {
            Ok(handle) => {
                *lock(&state.guest) = Some(guest);
                let capabilities = self.driver.capabilities(state.id);
                let asks = self.let_ask(device, guest);
                lock(&life.belief).devices.push(Device {
                    handle,
                    source: state.source,
                    pasids: capabilities.is_ok_and(|has| has.pasid_bits > 0),
                    slice: false,
                    asks,
                });
                let asking = if asks { " that asks" } else { "" };
                format!("with {}{asking}", state.id)
            }
            Err(error) => {
                // Blocked, or never his.
                self.act_for(device, LIMBO);
                format!("{}: {error:?}", state.id)
            }
        }
    }

    pub(super) fn move_device(&self, device: usize, random: &mut fastrand::Rng) -> String {
        let state = &self.devices[device];
        if self.setting.devices[device].shared {
            return "is shared".to_owned();
        }
        let home = self.setting.devices[device].home;
        if self.setting.guests[home].polite {
            // Its guest finds it again when it begins anew, and all that it may do with it.
            return "stays".to_owned();
        }
        let holder = *lock(&state.guest);
        if let Some(holder) = holder {
            if self.setting.guests[holder].polite {
                return "stays".to_owned();
            }
            let taken = self.iommu.take_back(self.guests[holder].vm, state.id);
            match taken {
                Ok(()) => {}
                Err(IommuError::Flush(_)) => {
                    *lock(&state.guest) = None;
                    lock(&self.remains).push(Remains {
                        pages: Vec::new(),
                        devices: vec![device],
                    });
                }
                Err(error) => return format!("stays: {error:?}"),
            }
            *lock(&state.guest) = None;
            if let Some(life) = self.life(holder) {
                let mut belief = lock(&life.belief);
                let source = state.source;
                let gone = belief.devices.iter().find(|known| known.source == source);
                if let Some(handle) = gone.map(|known| known.handle) {
                    belief.lose_device(handle);
                    belief.forget_object(handle);
                }
            }
            if let Err(error) = taken {
                return format!("taken, and {error:?}");
            }
            self.act_for(device, LIMBO);
        }
        let to = random.usize(..self.guests.len());
        lock(&self.tally).moves += 1;
        match self.life(to) {
            Some(life) if !self.setting.guests[to].polite => {
                format!("to guest {to}: {}", self.give(device, to, &life))
            }
            _ => "to nobody".to_owned(),
        }
    }
}

pub(super) fn first_belief(plan: &GuestPlan) -> Belief {
    let page = |number: u64| BASE + 0x1000 * number;
    let tables = CALL_PAGES + TABLE_PAGES;
    Belief {
        polite: plan.polite,
        table_pages: (CALL_PAGES..tables).map(page).collect(),
        data_pages: (tables..plan.pages).map(page).collect(),
        buffer: page(CALL_PAGES - 1),
        ..Belief::default()
    }
}
