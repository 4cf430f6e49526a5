//! Domains whose pages hardware marks when devices write them (§3.7.2).
//!
//! Marks are set by units that have ECAP.SSADS, where the PASID entry has SSADE = 1. All
//! entries that lead to a second-stage table say the same (§6.2.3.1), those nested on it
//! too.

use super::Driver;
use super::replace::target_of;
use crate::Event;
use crate::domain::{Domains, Kept};
use crate::invalidation::{Debt, Kind};
use crate::slots::Attributes;
use iommu_core::{
    AddressRange, DirtyBitmap, DirtyError, DirtyRead, DirtyTracking, DomainHandle, FrameList, Iova,
    LargePages, MapError, Mmio, Observer, Owed, Platform, Stage,
};

impl<P: Platform + Observer<Event>, M: Mmio, S> Driver<P, M, S> {
    /// Makes all entries that lead to the domain say whether hardware marks. All or none.
    fn set_marking(&self, domain: DomainHandle, marks: bool) -> Result<(), DirtyError> {
        let mut domains = self.domains.lock(&self.platform);
        self.check_marking(&domains, domain)?;
        let known = domains
            .get_mut(domain)
            .ok_or(DirtyError::NoDomain(domain))?;
        known.attributes.dirty = marks;
        let attributes = known.attributes;
        self.rewrite_entries(&domains, domain, &attributes);
        Ok(())
    }

    /// Whether every unit on which the domain is used can mark.
    fn check_marking(&self, domains: &Domains, domain: DomainHandle) -> Result<(), DirtyError> {
        let known = domains.get(domain).ok_or(DirtyError::NoDomain(domain))?;
        if known.table_format().map(|format| format.stage()) != Some(Stage::Second) {
            return Err(DirtyError::NotSecondStage(domain));
        }
        for attachment in domains.users(domain) {
            let unit = self.units.get(attachment.unit);
            if !unit.is_some_and(|unit| unit.tracks_dirty()) {
                return Err(DirtyError::Unsupported(attachment.slot.device));
            }
        }
        Ok(())
    }

    /// Writes the entries of all slots that lead to the domain, or to one nested on it, once
    /// more. They are there, so this needs no memory and changes 128 bits of each.
    fn rewrite_entries(&self, domains: &Domains, domain: DomainHandle, attributes: &Attributes) {
        for attachment in domains.users(domain).filter(|user| !user.leaving) {
            let unit = self.units.get(attachment.unit);
            let used = attachment.domain.and_then(|index| domains.by_index(index));
            let target =
                used.and_then(|used| target_of(domains, &used.translation, attachment.domain_id));
            let (Some(unit), Some(target)) = (unit, target) else {
                continue;
            };
            let slot = attachment.slot;
            let written = unit.tables.lock(&self.platform).amend(
                &self.platform,
                slot.device.source,
                slot.pasid,
                &target,
                attributes,
            );
            debug_assert!(written.is_ok_and(|change| change.hitless));
        }
    }

    /// Does something with the tables of a domain that is tracked.
    fn with_tracked<R>(
        &self,
        domain: DomainHandle,
        act: impl FnOnce(&mut Kept) -> Result<R, MapError>,
    ) -> Result<R, DirtyError> {
        let known = self.domains.lock(&self.platform).get(domain).is_some();
        if !known {
            return Err(DirtyError::NoDomain(domain));
        }
        self.paging
            .with(&self.platform, domain, |kept| {
                if !kept.table.is_tracking() {
                    return Err(DirtyError::NotTracking(domain));
                }
                act(kept).map_err(DirtyError::Range)
            })
            .ok_or(DirtyError::NotSecondStage(domain))?
    }

    fn end_tracking(&self, domain: DomainHandle) {
        self.paging
            .with(&self.platform, domain, |kept| kept.table.end_tracking());
    }

    fn owe_entries(&self, domain: DomainHandle) -> Owed<'_, Debt> {
        let debt = Debt(Kind::EntriesChanged(domain.into()));
        Owed::new(debt, FrameList::new(), self)
    }

    fn owe_range(
        &self,
        domain: DomainHandle,
        changed: Option<AddressRange<Iova>>,
        leaf_only: bool,
        frames: FrameList,
    ) -> Owed<'_, Debt> {
        let kind = match changed {
            None => Kind::Nothing,
            Some(changed) => Kind::Changed {
                domain: domain.into(),
                range: changed.into(),
                leaf_only,
            },
        };
        Owed::new(Debt(kind), frames, self)
    }
}

impl<P, M, S> DirtyTracking for Driver<P, M, S>
where
    P: Platform + Observer<Event>,
    M: Mmio,
{
    fn track_dirty(
        &self,
        domain: DomainHandle,
        large: LargePages,
    ) -> Result<Owed<'_, Debt>, DirtyError> {
        self.check_marking(&self.domains.lock(&self.platform), domain)?;
        // Before hardware marks anything: what it marks from then on is new.
        self.paging
            .with(&self.platform, domain, |kept| {
                kept.table.begin_tracking(&self.platform, large)
            })
            .ok_or(DirtyError::NotSecondStage(domain))?
            .map_err(DirtyError::OutOfFrames)?;
        if let Err(error) = self.set_marking(domain, true) {
            // Somebody attached it elsewhere meanwhile.
            self.end_tracking(domain);
            return Err(error);
        }
        Ok(self.owe_entries(domain))
    }

    fn stop_tracking(&self, domain: DomainHandle) -> Result<Owed<'_, Debt>, DirtyError> {
        self.with_tracked(domain, |_| Ok(()))?;
        self.set_marking(domain, false)?;
        self.end_tracking(domain);
        Ok(self.owe_entries(domain))
    }

    fn read_dirty(
        &self,
        domain: DomainHandle,
        read: DirtyRead,
        bitmap: &mut DirtyBitmap<'_>,
    ) -> Result<Owed<'_, Debt>, DirtyError> {
        let cleared = self.with_tracked(domain, |kept| {
            kept.table.read_dirty(&self.platform, read, bitmap)
        })?;
        Ok(self.owe_range(domain, cleared, true, FrameList::new()))
    }

    fn unmap_dirty(
        &self,
        domain: DomainHandle,
        bitmap: &mut DirtyBitmap<'_>,
    ) -> Result<Owed<'_, Debt>, DirtyError> {
        let range = bitmap.range();
        let unmapped = self.with_tracked(domain, |kept| {
            kept.unmap_telling(&self.platform, range, &mut |taken| {
                if taken.dirty
                    && let Ok(page) = AddressRange::of_pages(taken.iova, taken.order.pages())
                {
                    bitmap.mark(&page);
                }
            })
        })?;
        Ok(self.owe_range(
            domain,
            unmapped.changed,
            unmapped.leaf_only,
            unmapped.frames,
        ))
    }
}
