//! `struct iommu_cache_invalidate_info`.
//!
//! Translations in the unit and in the device are told of together, so either bit means
//! both. Entries of a PASID table change only where the guest keeps a whole table; where
//! PASIDs are bound one by one, there is nothing of the guest's that could be cached.

use super::structure::{Structure, Versioned, pasid};
use crate::calls::invalidate::range_of;
use crate::dispatch::Answer;
use crate::vm::Vm;
use crate::{Iommu, PasidAllocator};
use alloc::vec::Vec;
use iommu_abi::{
    Errno, InvalidateRange, Layout, LinuxCacheInvalidate, LinuxCacheInvalidateInfo,
    LinuxGranularity, LinuxInvAddrInfo, LinuxInvPasidInfo,
};
use iommu_core::{Backend, GuestMemory, PAGE_SIZE, Pasid, Platform, VmHost};

impl Versioned for LinuxCacheInvalidateInfo {
    const WHOLE: usize = Self::SIZE.saturating_add(LinuxInvAddrInfo::SIZE);

    fn argsz(&self) -> u32 {
        self.argsz
    }

    fn version(&self) -> u32 {
        self.version
    }
}

/// What an invalidation is about.
#[derive(Clone, Copy)]
enum Extent {
    /// All that the device uses.
    Domain,
    Pasid(Pasid),
    /// Addresses of one PASID, or of all that the device uses.
    Addresses(Option<Pasid>, InvalidateRange),
}

/// What is to be forgotten of it.
#[derive(Clone, Copy)]
struct Caches {
    translations: bool,
    entries: bool,
}

impl<B: Backend, P: Platform, H: VmHost, A: PasidAllocator> Iommu<B, P, H, A> {
    pub(crate) fn linux_cache_invalidate(
        &self,
        guest: &mut Vm,
        ask: &mut LinuxCacheInvalidate,
    ) -> Answer {
        let (extent, caches) = extent_of(&*guest.memory, ask.structure)?;
        let device_id = ask.device_id;
        guest.objects.device(device_id)?;
        if let Extent::Pasid(pasid) | Extent::Addresses(Some(pasid), _) = extent {
            // A PASID that is not bound may have an entry that was made just now.
            let known = guest.binding(device_id, Some(pasid)).is_some();
            if !(known || caches.entries && guest.keeps_pasid_table(device_id)) {
                return Err(Errno::ENOENT.into());
            }
        }
        if caches.entries {
            let (first, last) = match extent {
                Extent::Pasid(pasid) => (pasid.as_u32(), pasid.as_u32()),
                _ => (0, Pasid::MAX.as_u32()),
            };
            self.look_at_entries(guest, device_id, first, last)?;
        }
        if caches.translations {
            self.forget_translations(guest, device_id, &extent)?;
        }
        Ok(0)
    }

    fn look_at_entries(
        &self,
        guest: &mut Vm,
        device_id: u32,
        first: u32,
        last: u32,
    ) -> Result<(), Errno> {
        if !guest.keeps_pasid_table(device_id) {
            return Ok(());
        }
        let mut looked = crate::pasid_table::Looked::default();
        self.look_at_pasids(guest, device_id, first..=last, &mut looked)?;
        match looked.next {
            None => Ok(()),
            // The structure has no place to say how far it came.
            Some(_) => Err(Errno::EMSGSIZE),
        }
    }

    fn forget_translations(
        &self,
        guest: &mut Vm,
        device_id: u32,
        extent: &Extent,
    ) -> Result<(), Errno> {
        match *extent {
            Extent::Domain => self.forget_all(guest, device_id, None),
            Extent::Pasid(pasid) => self.forget_pasid(guest, device_id, pasid, None),
            Extent::Addresses(Some(pasid), range) => {
                self.forget_pasid(guest, device_id, pasid, Some(&range))
            }
            Extent::Addresses(None, range) => self.forget_all(guest, device_id, Some(&range)),
        }
    }

    fn forget_pasid(
        &self,
        guest: &mut Vm,
        device_id: u32,
        pasid: Pasid,
        range: Option<&InvalidateRange>,
    ) -> Result<(), Errno> {
        let bound = guest
            .binding(device_id, Some(pasid))
            .and_then(|place| guest.bindings.get(place));
        match bound.map(|binding| binding.ioas_id) {
            Some(ioas_id) => self.forget_tables(guest, &[(ioas_id, range.copied())]),
            // Its entry is gone, and all that it led to with it.
            None => Ok(()),
        }
    }

    /// All tables of the guest's own that the device uses.
    fn forget_all(
        &self,
        guest: &mut Vm,
        device_id: u32,
        range: Option<&InvalidateRange>,
    ) -> Result<(), Errno> {
        let mut changes = Vec::new();
        changes
            .try_reserve_exact(guest.bindings.len())
            .map_err(|_| Errno::ENOMEM)?;
        for binding in &guest.bindings {
            let seen = |(known, _): &(u32, _)| *known == binding.ioas_id;
            if binding.device_id != device_id || changes.iter().any(seen) {
                continue;
            }
            let Ok(table) = guest.objects.user_table(binding.ioas_id) else {
                continue;
            };
            // A range that this table translates in part only stands for all of it.
            let fits = |range: &&InvalidateRange| range_of(range, table.levels).is_ok();
            changes.push((binding.ioas_id, range.filter(fits).copied()));
        }
        self.forget_tables(guest, &changes)
    }
}

/// Parses and checks the structure. What is not understood whole is refused whole.
fn extent_of(memory: &dyn GuestMemory, at: u64) -> Result<(Extent, Caches), Errno> {
    type Info = LinuxCacheInvalidateInfo;
    let structure = Structure::<Info>::copy(memory, at)?;
    let header = &structure.header;
    let known = Info::IOTLB | Info::DEV_IOTLB | Info::PASID;
    if header.cache & !known != 0 || header.padding != [0; 6] {
        return Err(Errno::EINVAL);
    }
    let granularity = LinuxGranularity::from_u32(header.granularity.into()).ok_or(Errno::EINVAL)?;
    let has = |cache: u8| header.cache & cache != 0;
    let extent = match granularity {
        LinuxGranularity::Domain if has(Info::DEV_IOTLB) => return Err(Errno::EINVAL),
        LinuxGranularity::Domain => Extent::Domain,
        LinuxGranularity::Pasid => pasid_extent(&structure.union()?)?,
        LinuxGranularity::Addr if has(Info::PASID) => return Err(Errno::EINVAL),
        LinuxGranularity::Addr => addresses(&structure.union()?)?,
    };
    let caches = Caches {
        translations: has(Info::IOTLB) || has(Info::DEV_IOTLB),
        entries: has(Info::PASID),
    };
    Ok((extent, caches))
}

fn pasid_extent(info: &LinuxInvPasidInfo) -> Result<Extent, Errno> {
    if info.flags != LinuxInvPasidInfo::PASID {
        return Err(Errno::EINVAL);
    }
    pasid(info.pasid).map(Extent::Pasid)
}

fn addresses(info: &LinuxInvAddrInfo) -> Result<Extent, Errno> {
    if info.flags & !(LinuxInvAddrInfo::PASID | LinuxInvAddrInfo::LEAF) != 0 {
        return Err(Errno::EINVAL);
    }
    let of = match info.flags & LinuxInvAddrInfo::PASID {
        0 => None,
        _ => Some(pasid(info.pasid)?),
    };
    if !info.granule_size.is_multiple_of(PAGE_SIZE) {
        return Err(Errno::EINVAL);
    }
    let bytes = info
        .granule_size
        .checked_mul(info.nb_granules)
        .ok_or(Errno::EOVERFLOW)?;
    let leaf = info.flags & LinuxInvAddrInfo::LEAF != 0;
    let range = InvalidateRange {
        address: info.addr,
        pages: bytes / PAGE_SIZE,
        flags: if leaf { InvalidateRange::LEAF } else { 0 },
        reserved: 0,
    };
    // The widest table that there is: what is wrong for it is wrong for all.
    range_of(&range, 5)?;
    Ok(Extent::Addresses(of, range))
}
