//! PASID directory entries whose absence a unit in caching mode may have cached (§6.1,
//! §6.2.3): it stands for each PASID behind them, tagged with domain id 0.

use crate::faults::Condition;
use rustc_hash::FxHashMap;

#[derive(Clone, Copy)]
struct Absence {
    condition: Condition,
    fpd: bool,
    /// PASIDs (by their lowest six bits) that it still stands for.
    left: u64,
}

/// By source and PASID[19:6].
#[derive(Default)]
pub(crate) struct AbsentDirectories(FxHashMap<(u16, u32), Absence>);

impl AbsentDirectories {
    /// A directory entry led to this fault.
    pub(crate) fn insert(&mut self, source: u16, index: u32, condition: Condition, fpd: bool) {
        let absence = Absence {
            condition,
            fpd,
            left: u64::MAX,
        };
        self.0.insert((source, index), absence);
    }

    /// The fault, and whether FPD was set, that may be cached for a PASID.
    pub(crate) fn find(&self, source: u16, pasid: u32) -> Option<(Condition, bool)> {
        let held = self.0.get(&(source, pasid >> 6))?;
        let there = held.left & 1 << (pasid & 0x3f) != 0;
        there.then_some((held.condition, held.fpd))
    }

    /// PASID-cache invalidation, by the tags of table 17.
    pub(crate) fn drop(&mut self, domain: Option<u16>, pasid: Option<u32>) {
        match (domain, pasid) {
            (None | Some(0), None) => self.0.clear(),
            (None | Some(0), Some(pasid)) => {
                for ((_, index), held) in &mut self.0 {
                    if *index == pasid >> 6 {
                        held.left &= !(1 << (pasid & 0x3f));
                    }
                }
            }
            (Some(_), _) => {}
        }
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}
