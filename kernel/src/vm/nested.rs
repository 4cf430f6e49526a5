//! Nested page tables: guest-physical to host-physical, in the format of the CPU's own
//! tables (APM 2, 15.25), four levels, 4 KiB pages.
//!
//! An upper entry holds, in bits that hardware leaves to software, which of our tables it
//! leads to. So a walk never turns a physical address into a pointer.

use alloc::vec::Vec;
use bitfield_struct::bitfield;
use core::sync::atomic::{AtomicU64, Ordering};
use iommu_core::{Address, Frame, Gpa, Hpa, Order, OutOfFrames, PAGE_SHIFT, Platform};

const LEVELS: u32 = 4;

/// An entry of any level.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
struct Entry {
    present: bool,
    writable: bool,
    /// Nested walks are user accesses (APM 2, 15.25.5).
    user: bool,
    write_through: bool,
    cache_disable: bool,
    accessed: bool,
    dirty: bool,
    large: bool,
    #[bits(4)]
    __: u8,
    #[bits(40)]
    page: u64,
    /// Upper entries: index of the table in our list.
    #[bits(11)]
    table: u16,
    no_execute: bool,
}

/// Tables that one guest can have: as many as an entry can name.
const MOST_TABLES: usize = 1 << Entry::TABLE_BITS;

/// What lies at a guest-physical page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(target_os = "none", derive(defmt::Format))]
pub enum Kind {
    /// Memory of the guest.
    Memory,
    /// Registers of a device: never cached, never executed.
    Registers,
}

/// Why a page could not be mapped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(target_os = "none", derive(defmt::Format))]
pub enum NestedError {
    /// Something lies there already.
    Occupied(Gpa),
    /// The address has more than 48 bits.
    TooHigh(Gpa),
    /// The host's address has more bits than an entry holds.
    BeyondHostWidth(Hpa),
    /// No memory for tables, or too many tables.
    OutOfFrames,
}

impl From<OutOfFrames> for NestedError {
    fn from(_: OutOfFrames) -> Self {
        Self::OutOfFrames
    }
}

/// The nested page tables of one guest.
///
/// Changed only while no CPU is in the guest.
#[derive(Debug)]
pub struct NestedTables {
    /// The first is the root.
    tables: Vec<Frame>,
    walkers: Walkers,
}

/// Who walks the tables.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(target_os = "none", derive(defmt::Format))]
pub enum Walkers {
    /// The guest's CPUs alone, which set the flags of what was accessed and written.
    Cpus,
    /// Devices too. A unit may be unable to set flags, or to see what lies in a CPU's cache:
    /// all are set from the beginning, and what changes is written back.
    CpusAndDevices,
}

impl NestedTables {
    /// Tables in which nothing is mapped.
    pub fn new(platform: &(impl Platform + ?Sized), walkers: Walkers) -> Result<Self, OutOfFrames> {
        let mut nested = Self {
            tables: Vec::new(),
            walkers,
        };
        nested.add_table(platform)?;
        Ok(nested)
    }

    fn add_table(&mut self, platform: &(impl Platform + ?Sized)) -> Result<u16, OutOfFrames> {
        let no_room = OutOfFrames { order: Order::PAGE };
        let index = self.tables.len();
        if index >= MOST_TABLES {
            return Err(no_room);
        }
        self.tables.try_reserve(1).map_err(|_| no_room)?;
        self.tables.push(platform.allocate(Order::PAGE)?);
        u16::try_from(index).map_err(|_| no_room)
    }

    /// Gives the tables back. No CPU uses them any more.
    pub fn release(self, platform: &(impl Platform + ?Sized)) {
        for table in self.tables {
            platform.release(table);
        }
    }

    /// The root table, for `N_CR3`.
    pub fn root(&self) -> Option<Hpa> {
        self.tables.first().map(Frame::hpa)
    }

    fn cell(&self, table: u16, gpa: Gpa, level: u32) -> Option<&AtomicU64> {
        let cells = self.tables.get(usize::from(table))?.cells();
        cells.get(index(gpa, level))
    }

    /// The cell of the leaf for a page, if there is a table for it.
    fn leaf(&self, gpa: Gpa) -> Option<&AtomicU64> {
        if gpa.as_u64() >> 48 != 0 {
            return None;
        }
        let mut table = 0;
        for level in (2..=LEVELS).rev() {
            let entry = Entry::from_bits(self.cell(table, gpa, level)?.load(Ordering::Relaxed));
            if !entry.present() {
                return None;
            }
            table = entry.table();
        }
        self.cell(table, gpa, 1)
    }

    /// Maps one page for reading and writing.
    pub fn map(
        &mut self,
        platform: &(impl Platform + ?Sized),
        gpa: Gpa,
        hpa: Hpa,
        kind: Kind,
    ) -> Result<(), NestedError> {
        if gpa.as_u64() >> 48 != 0 {
            return Err(NestedError::TooHigh(gpa));
        }
        let leaf = self
            .entry(hpa)?
            .with_dirty(self.walkers == Walkers::CpusAndDevices)
            .with_cache_disable(kind == Kind::Registers)
            .with_write_through(kind == Kind::Registers)
            .with_no_execute(kind == Kind::Registers);
        let mut table = 0;
        for level in (2..=LEVELS).rev() {
            table = self.descend(platform, table, gpa, level)?;
        }
        let cell = self.cell(table, gpa, 1).ok_or(NestedError::OutOfFrames)?;
        if cell.load(Ordering::Relaxed) != 0 {
            return Err(NestedError::Occupied(gpa));
        }
        cell.store(leaf.into_bits(), Ordering::Release);
        self.write_back(platform, table, gpa, 1);
        Ok(())
    }

    /// Makes an entry seen by units that do not look into the CPUs' caches.
    fn write_back(&self, platform: &(impl Platform + ?Sized), table: u16, gpa: Gpa, level: u32) {
        if self.walkers == Walkers::CpusAndDevices
            && let Some(table) = self.tables.get(usize::from(table))
        {
            let index = index(gpa, level);
            platform.write_back(table, index..index.saturating_add(1));
        }
    }

    /// An entry with full rights that leads to a page or table.
    fn entry(&self, hpa: Hpa) -> Result<Entry, NestedError> {
        let accessed = self.walkers == Walkers::CpusAndDevices;
        Ok(entry(hpa)?.with_accessed(accessed))
    }

    /// Who walks them.
    pub fn walkers(&self) -> Walkers {
        self.walkers
    }

    fn descend(
        &mut self,
        platform: &(impl Platform + ?Sized),
        table: u16,
        gpa: Gpa,
        level: u32,
    ) -> Result<u16, NestedError> {
        let cell = self
            .cell(table, gpa, level)
            .ok_or(NestedError::OutOfFrames)?;
        let present = Entry::from_bits(cell.load(Ordering::Relaxed));
        if present.present() {
            return Ok(present.table());
        }
        let next = self.add_table(platform)?;
        let hpa = self.tables.get(usize::from(next)).map(Frame::hpa);
        let upper = self.entry(hpa.ok_or(NestedError::OutOfFrames)?)?;
        if let Some(cell) = self.cell(table, gpa, level) {
            cell.store(upper.with_table(next).into_bits(), Ordering::Release);
        }
        self.write_back(platform, table, gpa, level);
        Ok(next)
    }

    /// Whether the guest's CPU wrote to a page since the last call. The CPU's translations
    /// must be flushed before the guest runs again. Nobody knows where devices walk the
    /// tables too.
    pub fn take_dirty(&self, gpa: Gpa) -> bool {
        if self.walkers == Walkers::CpusAndDevices {
            return false;
        }
        let dirty = Entry::new().with_dirty(true).into_bits();
        self.leaf(gpa)
            .is_some_and(|cell| cell.fetch_and(!dirty, Ordering::Relaxed) & dirty != 0)
    }

    /// Where a page lies in the host.
    pub fn translate(&self, gpa: Gpa) -> Option<Hpa> {
        let entry = Entry::from_bits(self.leaf(gpa)?.load(Ordering::Relaxed));
        let page = Hpa::new(entry.page() << PAGE_SHIFT);
        entry
            .present()
            .then(|| Hpa::new(page.as_u64() | gpa.offset_in(PAGE_SHIFT)))
    }
}

/// The place of an address's entry in a table of some level.
fn index(gpa: Gpa, level: u32) -> usize {
    let shift = PAGE_SHIFT + 9 * (level - 1);
    (gpa.as_u64() >> shift) as usize % Frame::CELLS_IN_PAGE
}

/// An entry with full rights, and no flag set.
fn entry(hpa: Hpa) -> Result<Entry, NestedError> {
    Entry::new()
        .with_present(true)
        .with_writable(true)
        .with_user(true)
        .with_page_checked(hpa.as_u64() >> PAGE_SHIFT)
        .map_err(|_| NestedError::BeyondHostWidth(hpa))
}

#[cfg(test)]
mod tests {
    use super::*;
    use test_platform::TestPlatform;

    #[test]
    fn a_mapped_page_is_found_and_its_neighbours_are_not() {
        let platform = TestPlatform::new(16);
        let mut nested = NestedTables::new(&platform, Walkers::Cpus).unwrap();
        let gpa = Gpa::new(0x7f_8765_4000);
        nested
            .map(&platform, gpa, Hpa::new(0x12_3000), Kind::Memory)
            .unwrap();
        assert_eq!(
            nested.translate(Gpa::new(0x7f_8765_4321)),
            Some(Hpa::new(0x12_3321))
        );
        assert_eq!(nested.translate(Gpa::new(0x7f_8765_5000)), None);
        assert_eq!(nested.translate(Gpa::new(0x7f_8765_3fff)), None);
        nested.release(&platform);
        assert_eq!(platform.outstanding(), 0);
    }

    #[test]
    fn a_page_is_mapped_once() {
        let platform = TestPlatform::new(16);
        let mut nested = NestedTables::new(&platform, Walkers::Cpus).unwrap();
        let (gpa, hpa) = (Gpa::new(0x1000), Hpa::new(0x5000));
        nested.map(&platform, gpa, hpa, Kind::Memory).unwrap();
        assert_eq!(
            nested.map(&platform, gpa, hpa, Kind::Memory),
            Err(NestedError::Occupied(gpa))
        );
        let next = Gpa::new(0x2000);
        assert_eq!(nested.map(&platform, next, hpa, Kind::Memory), Ok(()));
    }

    #[test]
    fn addresses_that_no_entry_can_hold_are_refused() {
        let platform = TestPlatform::new(16);
        let mut nested = NestedTables::new(&platform, Walkers::Cpus).unwrap();
        let high = Gpa::new(1 << 48);
        assert_eq!(
            nested.map(&platform, high, Hpa::new(0), Kind::Memory),
            Err(NestedError::TooHigh(high))
        );
        let wide = Hpa::new(1 << 52);
        assert_eq!(
            nested.map(&platform, Gpa::new(0), wide, Kind::Memory),
            Err(NestedError::BeyondHostWidth(wide))
        );
        assert_eq!(nested.translate(high), None);
    }

    #[test]
    fn a_page_that_the_cpu_wrote_is_known_once() {
        let platform = TestPlatform::new(16);
        let mut nested = NestedTables::new(&platform, Walkers::Cpus).unwrap();
        let gpa = Gpa::new(0x3000);
        nested
            .map(&platform, gpa, Hpa::new(0x5000), Kind::Memory)
            .unwrap();
        assert!(!nested.take_dirty(gpa));
        nested
            .leaf(gpa)
            .unwrap()
            .fetch_or(1 << 6, Ordering::Relaxed);
        assert!(nested.take_dirty(gpa));
        assert!(!nested.take_dirty(gpa));
    }

    #[test]
    fn registers_are_not_cached_and_not_executed() {
        let platform = TestPlatform::new(16);
        let mut nested = NestedTables::new(&platform, Walkers::Cpus).unwrap();
        let gpa = Gpa::new(0x3000);
        nested
            .map(&platform, gpa, Hpa::new(0xfebf_0000), Kind::Registers)
            .unwrap();
        let leaf = nested.leaf(gpa).unwrap().load(Ordering::Relaxed);
        assert_eq!(leaf, 1 << 63 | 0xfebf_0000 | 0b1_1111);
    }

    #[test]
    fn what_devices_walk_has_its_flags_set_and_keeps_them() {
        let platform = TestPlatform::new(16);
        let flags = |walkers| {
            let mut nested = NestedTables::new(&platform, walkers).unwrap();
            let gpa = Gpa::new(0x3000);
            nested
                .map(&platform, gpa, Hpa::new(0x5000), Kind::Memory)
                .unwrap();
            assert!(!nested.take_dirty(gpa));
            let upper = nested.cell(0, gpa, 4).unwrap().load(Ordering::Relaxed);
            let leaf = nested.leaf(gpa).unwrap().load(Ordering::Relaxed);
            nested.release(&platform);
            [upper & 0x60, leaf & 0x60]
        };
        assert_eq!(flags(Walkers::CpusAndDevices), [0x20, 0x60]);
        assert_eq!(flags(Walkers::Cpus), [0, 0]);
    }
}
