//! The tables that the driver itself keeps.
//!
//! # Invariant that the `unsafe` here rests on
//! A driver has one platform, which it gets when it is made and never exchanges; every
//! function of a table is called with it.
#![allow(unsafe_code)]

use alloc::vec::Vec;
use io_pgtable::{PageTable, TableConfig};
use iommu_core::sync::Turn;
use iommu_core::{DomainHandle, FrameList, Order, OutOfFrames, Platform, TableFormat};

/// A table of each domain that has one, by the domain's index.
///
/// Filling a table may take long, so its lock lets interrupts in; it is taken with no other
/// lock held.
#[derive(Debug)]
pub(crate) struct PagingTables(Vec<Turn<Option<Owned>>>);

#[derive(Debug)]
struct Owned {
    generation: u32,
    table: PageTable,
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
        table: PageTable,
    ) -> Result<(), PageTable> {
        let Some(place) = self.0.get(usize::from(domain.index)) else {
            return Err(table);
        };
        *place.take(platform) = Some(Owned {
            generation: domain.generation,
            table,
        });
        Ok(())
    }

    /// Does something with the table of a domain; `None` if it has none.
    pub(crate) fn with<P: Platform, R>(
        &self,
        platform: &P,
        domain: DomainHandle,
        act: impl FnOnce(&mut PageTable) -> R,
    ) -> Option<R> {
        let mut place = self.0.get(usize::from(domain.index))?.take(platform);
        let owned = place
            .as_mut()
            .filter(|owned| owned.generation == domain.generation)?;
        Some(act(&mut owned.table))
    }

    /// Takes all tables apart, which nothing uses any more.
    pub(crate) fn destroy_all<P: Platform>(self, platform: &P) -> FrameList {
        let mut frames = FrameList::new();
        for place in &self.0 {
            if let Some(owned) = place.take(platform).take() {
                frames.append(owned.table.destroy(platform));
            }
        }
        frames
    }

    /// Takes the table of a domain out.
    pub(crate) fn remove<P: Platform>(
        &self,
        platform: &P,
        domain: DomainHandle,
    ) -> Option<PageTable> {
        let mut place = self.0.get(usize::from(domain.index))?.take(platform);
        if place.as_ref()?.generation != domain.generation {
            return None;
        }
        place.take().map(|owned| owned.table)
    }
}
