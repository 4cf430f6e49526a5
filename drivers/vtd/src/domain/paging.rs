//! The tables that the driver itself keeps.
//!
//! # Invariant that the `unsafe` here rests on
//! A driver has one platform, which it gets when it is made and never exchanges; every
//! function of a table is called with it.
#![allow(unsafe_code)]

use alloc::vec::Vec;
use io_pgtable::{Mapped, PageTable, PermissionTable, TableConfig, Taken, Unmapped};
use iommu_core::sync::Turn;
use iommu_core::{
    Access, AddressRange, DomainHandle, FrameList, Iova, MapError, Order, OutOfFrames, Platform,
    Run, TableFormat,
};

/// A table of each domain that has one, by the domain's index.
///
/// Filling a table may take long, so its lock lets interrupts in; it is taken with no other
/// lock held.
#[derive(Debug)]
pub(crate) struct PagingTables(Vec<Turn<Option<Owned>>>);

#[derive(Debug)]
struct Owned {
    generation: u32,
    kept: Kept,
}

/// What is kept of a domain.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) table: PageTable,
    /// What devices may reach by addresses that they translated themselves, if that is
    /// checked.
    pub(crate) permissions: Option<PermissionTable>,
}

impl Kept {
    /// Maps runs, and permits them.
    pub(crate) fn map<P: Platform>(
        &mut self,
        platform: &P,
        iova: Iova,
        runs: &[Run],
        access: Access,
    ) -> Result<Mapped, MapError> {
        let Some(permissions) = &mut self.permissions else {
            return self.table.map(platform, iova, runs, access);
        };
        self.table.map_behind(platform, iova, runs, access, || {
            permissions.prepare(platform, runs, access)?;
            permissions.permit(platform, runs, access);
            Ok(())
        })
    }

    /// Unmaps a range, and notes what is to be revoked when devices have forgotten it.
    pub(crate) fn unmap<P: Platform>(
        &mut self,
        platform: &P,
        range: AddressRange<Iova>,
    ) -> Result<Unmapped, MapError> {
        match self.permissions {
            None => self.table.unmap(platform, range),
            Some(_) => self.unmap_telling(platform, range, &mut |_| ()),
        }
    }

    /// The same, and tells every page that goes.
    pub(crate) fn unmap_telling<P: Platform>(
        &mut self,
        platform: &P,
        range: AddressRange<Iova>,
        tell: &mut dyn FnMut(&Taken),
    ) -> Result<Unmapped, MapError> {
        let permissions = &mut self.permissions;
        self.table.unmap_telling(platform, range, &mut |taken| {
            if let Some(permissions) = permissions {
                permissions.withdraw(taken.page, taken.order.pages(), taken.access);
            }
            tell(taken);
        })
    }

    /// Takes everything apart.
    pub(crate) fn destroy<P: Platform>(self, platform: &P) -> FrameList {
        let mut frames = self.table.destroy(platform);
        if let Some(permissions) = self.permissions {
            frames.append(permissions.destroy(platform));
        }
        frames
    }
}

impl PagingTables {
    pub(crate) fn new(capacity: u16) -> Result<Self, OutOfFrames> {
        let mut tables = Vec::new();
        tables
            .try_reserve_exact(usize::from(capacity))
            .map_err(|_| OutOfFrames { order: Order::PAGE })?;
        tables.resize_with(usize::from(capacity), || Turn::new(None));
        Ok(Self(tables))
    }

    /// An empty table.
    pub(crate) fn make<P: Platform>(
        platform: &P,
        format: TableFormat,
        config: TableConfig,
    ) -> Result<PageTable, OutOfFrames> {
        // SAFETY: the driver calls every function of the table with its one platform.
        unsafe { PageTable::new(platform, format, config) }
    }

    /// Keeps the table of a domain that was just made. It comes back if there is no place.
    pub(crate) fn keep<P: Platform>(
        &self,
        platform: &P,
        domain: DomainHandle,
        kept: Kept,
    ) -> Result<(), Kept> {
        let Some(place) = self.0.get(usize::from(domain.index)) else {
            return Err(kept);
        };
        *place.take(platform) = Some(Owned {
            generation: domain.generation,
            kept,
        });
        Ok(())
    }

    /// Does something with the table of a domain; `None` if it has none.
    pub(crate) fn with<P: Platform, R>(
        &self,
        platform: &P,
        domain: DomainHandle,
        act: impl FnOnce(&mut Kept) -> R,
    ) -> Option<R> {
        let mut place = self.0.get(usize::from(domain.index))?.take(platform);
        let owned = place
            .as_mut()
            .filter(|owned| owned.generation == domain.generation)?;
        Some(act(&mut owned.kept))
    }

    /// Revokes, in all host permission tables, what was withdrawn.
    pub(crate) fn revoke_all<P: Platform>(&self, platform: &P) {
        for place in &self.0 {
            let mut place = place.take(platform);
            let kept = place.as_mut().map(|owned| &mut owned.kept);
            if let Some(permissions) = kept.and_then(|kept| kept.permissions.as_mut()) {
                permissions.revoke(platform);
            }
        }
    }

    /// Takes all tables apart, which nothing uses any more.
    pub(crate) fn destroy_all<P: Platform>(self, platform: &P) -> FrameList {
        let mut frames = FrameList::new();
        for place in &self.0 {
            if let Some(owned) = place.take(platform).take() {
                frames.append(owned.kept.destroy(platform));
            }
        }
        frames
    }

    /// Takes the table of a domain out.
    pub(crate) fn remove<P: Platform>(&self, platform: &P, domain: DomainHandle) -> Option<Kept> {
        let mut place = self.0.get(usize::from(domain.index))?.take(platform);
        if place.as_ref()?.generation != domain.generation {
            return None;
        }
        place.take().map(|owned| owned.kept)
    }
}
