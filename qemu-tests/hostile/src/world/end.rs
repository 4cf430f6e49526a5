//! The end: all guests die, and everything that they had must be free.

use super::World;
use super::hardware::is_damage;
use crate::ram::lock;
use crate::tally::Tally;
use iommu_core::Platform;
use std::sync::Arc;

/// What was left of a run.
pub(crate) struct Ended {
    pub(crate) findings: Vec<String>,
    pub(crate) tally: Tally,
}

impl World {
    /// All guests die, and everything that they had must be free. Says what is left.
    pub(crate) fn end(self) -> Ended {
        self.floor.fail_one_in(0);
        for guest in 0..self.guests.len() {
            self.kill(guest);
        }
        for illness in &self.illnesses {
            illness.recover();
        }
        while self
            .illnesses
            .iter()
            .any(|illness| illness.stalls(self.floor.now()))
        {
            self.floor.relax();
        }
        self.end_asking();
        for _ in 0..8 {
            let quiet = self.driver.quarantined() == vtd::Quarantined::default();
            if quiet && lock(&self.remains).is_empty() || !self.setting.sick {
                break;
            }
            self.reclaim();
        }
        let quarantined = self.driver.quarantined();
        let mut findings = self.findings();
        let mut tally = lock(&self.tally).clone();
        tally.failures = self.floor.failures();
        tally.containment += self.pool.transfers();
        tally.runs = 1;
        let parked = u64::from(quarantined.debts) + u64::from(quarantined.frames);
        if parked > 0 {
            findings.push(format!("when all guests are gone, {quarantined:?}"));
        }
        let Self {
            floor,
            driver,
            iommu,
            pool,
            setting,
            ..
        } = self;
        drop(iommu);
        let driver = Arc::into_inner(driver).expect("the policy has gone");
        if let Err(failure) = driver.shut_down() {
            findings.push(format!(
                "the units cannot be turned off: {:?}",
                failure.error
            ));
        }
        pool.dispose();
        let pages = floor.model.arena().outstanding() as u64;
        if pages > 0 {
            findings.push(format!("when all is over, {pages} pages are missing"));
        }
        let violations = floor.model.take_violations();
        findings.extend(
            violations
                .iter()
                .filter(|found| !(setting.sick && is_damage(found)))
                .map(ToString::to_string),
        );
        tally.leaks = parked + pages;
        Ended { findings, tally }
    }
}
