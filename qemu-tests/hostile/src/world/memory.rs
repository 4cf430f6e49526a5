//! Memory that changes hands while guests live.

use super::{BASE, LARGE_PAGE, Life, World};
use crate::broken::Fault;
use crate::ram::lock;
use iommu_core::{Access, AddressRange, Gpa, Hpa, Run};

impl World {
    /// Takes a page from a guest. It may be any: one that is mapped, one of its tables, the
    /// one that holds the argument of a call under way.
    pub(super) fn shrink(&self, guest: usize, random: &mut fastrand::Rng) -> String {
        let Some(life) = self.life(guest) else {
            return "dead".to_owned();
        };
        if self.setting.guests[guest].polite {
            return "stays".to_owned();
        }
        let gpa = self.page_to_take(guest, &life, random);
        let Some(hpa) = life.ram.remove(gpa) else {
            return "nothing there".to_owned();
        };
        let gone = AddressRange::page_of(Gpa::new(gpa));
        let run = Run {
            hpa: Hpa::new(hpa),
            pages: 1,
        };
        if self.setting.fault != Some(Fault::GivesMemoryAway)
            && let Err(error) = self.iommu.forget(self.guests[guest].vm, &gone, &[run])
        {
            // It was not agreed to.
            life.ram.add(gpa, hpa, Access::READ_WRITE);
            let grew = self.iommu.memory_grew(self.guests[guest].vm);
            return format!("keeps {gpa:#x}: {error:?}, {grew:?}");
        }
        self.pool.put_back(hpa);
        lock(&self.tally).taken_pages += 1;
        format!("loses {gpa:#x}")
    }

    /// Any page, and often one that devices can reach now.
    fn page_to_take(&self, guest: usize, life: &Life, random: &mut fastrand::Rng) -> u64 {
        let belief = lock(&life.belief).clone();
        let slots = belief.bound.iter();
        let reached: Vec<u64> = slots
            .flat_map(|bound| belief.reachable(bound.device, bound.pasid))
            .map(|(_, gpa, _)| gpa)
            .filter(|gpa| life.ram.has(*gpa))
            .collect();
        let plan = &self.setting.guests[guest];
        match random.choice(&reached) {
            Some(gpa) if random.bool() => *gpa,
            _ if plan.large && random.bool() => LARGE_PAGE + 0x1000 * random.u64(..512),
            _ => BASE + 0x1000 * random.u64(..plan.pages),
        }
    }

    pub(super) fn grow(&self, guest: usize, random: &mut fastrand::Rng) -> String {
        let Some(life) = self.life(guest) else {
            return "dead".to_owned();
        };
        let pages = self.setting.guests[guest].pages;
        let first = random.u64(..pages);
        let hole = (0..pages)
            .map(|step| BASE + 0x1000 * ((first + step) % pages))
            .find(|&gpa| !life.ram.has(gpa));
        let Some((gpa, hpa)) = hole.and_then(|gpa| Some((gpa, self.pool.take(life.owner)?))) else {
            return "has all".to_owned();
        };
        let access = if random.u8(..4) == 0 {
            Access::READ
        } else {
            Access::READ_WRITE
        };
        life.ram.add(gpa, hpa, access);
        let looked = self.iommu.memory_grew(self.guests[guest].vm);
        format!("gets {gpa:#x}: {looked:?}")
    }
}
