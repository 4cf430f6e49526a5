//! Devices that guests share: whose each PASID of the machine is, told to the oracle before
//! the policy can use it and until it is free.

use crate::floor::Floor;
use crate::ram::lock;
use crate::stage;
use iommu::{PasidAllocator, PasidBitmap};
use iommu_core::{Pasid, Platform};
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex};
use vtd_model::Owner;

/// PASIDs that guests have, and the devices that they share.
pub(crate) struct Sharing {
    floor: Arc<Floor>,
    sources: Vec<u16>,
    /// Nobody.
    limbo: Owner,
    owners: Mutex<BTreeMap<u32, Owner>>,
}

impl Sharing {
    pub(crate) fn new(floor: &Arc<Floor>, sources: Vec<u16>, limbo: Owner) -> Arc<Self> {
        Arc::new(Self {
            floor: Arc::clone(floor),
            sources,
            limbo,
            owners: Mutex::default(),
        })
    }

    /// Whose requests with this PASID are, or without one.
    pub(crate) fn owner(&self, pasid: Option<u32>) -> Owner {
        let owners = lock(&self.owners);
        let owner = pasid.and_then(|pasid| owners.get(&pasid).copied());
        owner.unwrap_or(self.limbo)
    }

    /// All PASIDs that somebody has.
    pub(crate) fn all(&self) -> Vec<(u32, Owner)> {
        let owners = lock(&self.owners);
        owners
            .iter()
            .map(|(pasid, owner)| (*pasid, *owner))
            .collect()
    }

    pub(crate) fn of(&self, owner: Owner) -> Vec<u32> {
        let all = self.all().into_iter();
        all.filter(|(_, of)| *of == owner)
            .map(|(pasid, _)| pasid)
            .collect()
    }

    fn set(&self, pasid: u32, owner: Owner) {
        self.floor.model.with_machine(|machine| {
            for &source in &self.sources {
                machine.assign(source, Some(pasid), owner);
            }
        });
    }
}

/// The machine's PASIDs, few of them, so that they change hands.
pub(crate) struct Pasids {
    pub(crate) bitmap: PasidBitmap,
    pub(crate) sharing: Arc<Sharing>,
}

impl PasidAllocator for Pasids {
    fn allocate(&self, platform: &dyn Platform, range: RangeInclusive<Pasid>) -> Option<Pasid> {
        let pasid = self.bitmap.allocate(platform, range)?;
        let owner = stage::caller().map_or(self.sharing.limbo, Owner::Guest);
        self.sharing.set(pasid.as_u32(), owner);
        lock(&self.sharing.owners).insert(pasid.as_u32(), owner);
        Some(pasid)
    }

    fn free(&self, platform: &dyn Platform, pasid: Pasid) {
        lock(&self.sharing.owners).remove(&pasid.as_u32());
        self.sharing.set(pasid.as_u32(), self.sharing.limbo);
        self.bitmap.free(platform, pasid);
    }
}
