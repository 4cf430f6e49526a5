//! Page tables of the program's own: x86-64 format, four levels, in guest memory.

use crate::{Machine, Pages, Trouble};
use iommu_core::{Address, Gpa, Gva, PAGE_SHIFT};
use x86_64::structures::paging::PageTableFlags;

/// The address of the next table or page in an entry: bits 51:12.
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
/// Levels of tables; the root is at this level.
const LEVELS: u8 = 4;

/// A guest-virtual address space.
///
/// Entries are written whole, the tables that they lead to first. What the device has seen
/// before must be invalidated by whoever changes it.
#[derive(Debug)]
pub struct AddressSpace {
    root: Gpa,
}

impl AddressSpace {
    /// Rights of a page that a device may read and write. U/S is set since requests of
    /// devices are user requests.
    pub const READ_WRITE: PageTableFlags = PageTableFlags::PRESENT
        .union(PageTableFlags::WRITABLE)
        .union(PageTableFlags::USER_ACCESSIBLE);
    /// Rights of a page that a device may only read.
    pub const READ_ONLY: PageTableFlags =
        PageTableFlags::PRESENT.union(PageTableFlags::USER_ACCESSIBLE);

    /// An address space in which nothing is mapped.
    pub fn new(machine: &dyn Machine, pages: &mut Pages) -> Result<Self, Trouble> {
        Ok(Self {
            root: pages.take(machine)?,
        })
    }

    /// The root table.
    pub fn root(&self) -> Gpa {
        self.root
    }

    /// Makes a page lead to `to`, whatever it led to before. Tables on the way are added.
    pub fn map(
        &self,
        machine: &dyn Machine,
        pages: &mut Pages,
        page: Gva,
        to: Gpa,
        rights: PageTableFlags,
    ) -> Result<(), Trouble> {
        let mut table = self.root;
        for level in (2..=LEVELS).rev() {
            table = self.next_table(machine, pages, entry(table, page, level))?;
        }
        let leaf = (to.as_u64() & ADDRESS) | rights.bits();
        Ok(machine.store(entry(table, page, 1), leaf)?)
    }

    fn next_table(
        &self,
        machine: &dyn Machine,
        pages: &mut Pages,
        entry: Gpa,
    ) -> Result<Gpa, Trouble> {
        let value = machine.load(entry)?;
        if value & PageTableFlags::PRESENT.bits() != 0 {
            return Ok(Gpa::new(value & ADDRESS));
        }
        let table = pages.take(machine)?;
        machine.store(entry, table.as_u64() | Self::READ_WRITE.bits())?;
        Ok(table)
    }

    /// Where the entry of `level` (1 for a page of 4 KiB) for an address lies, if there is
    /// a table of that level.
    pub fn entry(
        &self,
        machine: &dyn Machine,
        page: Gva,
        level: u8,
    ) -> Result<Option<Gpa>, Trouble> {
        let mut table = self.root;
        for upper in (level.saturating_add(1)..=LEVELS).rev() {
            let value = machine.load(entry(table, page, upper))?;
            if value & PageTableFlags::PRESENT.bits() == 0 {
                return Ok(None);
            }
            table = Gpa::new(value & ADDRESS);
        }
        Ok(Some(entry(table, page, level)))
    }

    /// Takes a page away. Tables stay.
    pub fn unmap(&self, machine: &dyn Machine, page: Gva) -> Result<(), Trouble> {
        if let Some(entry) = self.entry(machine, page, 1)? {
            machine.store(entry, 0)?;
        }
        Ok(())
    }

    /// Where an address leads, by the guest's own reading of its table.
    pub fn translate(&self, machine: &dyn Machine, address: Gva) -> Result<Option<Gpa>, Trouble> {
        let Some(entry) = self.entry(machine, address, 1)? else {
            return Ok(None);
        };
        let value = machine.load(entry)?;
        let present = value & PageTableFlags::PRESENT.bits() != 0;
        Ok(present.then(|| Gpa::new((value & ADDRESS) | address.offset_in(PAGE_SHIFT))))
    }
}

/// Where the entry for an address lies in a table of this level.
fn entry(table: Gpa, address: Gva, level: u8) -> Gpa {
    let shift = 3_u32.saturating_add(u32::from(level).saturating_mul(9));
    let index = address.as_u64().checked_shr(shift).unwrap_or(0) & 0x1ff;
    Gpa::new(table.as_u64() | (index << 3))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::FakeMachine;

    #[test]
    fn what_was_mapped_is_found_and_what_was_unmapped_is_not() {
        let machine = FakeMachine::new(5);
        let mut random = fastrand::Rng::with_seed(5);
        let mut pages = Pages::new(&machine, &mut random);
        let space = AddressSpace::new(&machine, &mut pages).unwrap();
        let (here, there) = (Gva::new(0x7f12_3456_7000), Gva::new(0x7f12_3456_8000));
        let to = pages.take(&machine).unwrap();
        let rights = AddressSpace::READ_WRITE;
        space.map(&machine, &mut pages, here, to, rights).unwrap();
        let within = Gva::new(here.as_u64() + 0x123);
        assert_eq!(
            space.translate(&machine, within).unwrap(),
            Some(Gpa::new(to.as_u64() + 0x123))
        );
        assert_eq!(space.translate(&machine, there).unwrap(), None);
        space.unmap(&machine, here).unwrap();
        assert_eq!(space.translate(&machine, within).unwrap(), None);
    }

    #[test]
    fn entries_of_all_levels_lie_where_the_address_says() {
        let address = Gva::new(1 << 39 | 2 << 30 | 3 << 21 | 4 << 12);
        let table = Gpa::new(0x5000);
        let at = |level| entry(table, address, level).as_u64();
        assert_eq!(
            [at(4), at(3), at(2), at(1)],
            [0x5008, 0x5010, 0x5018, 0x5020]
        );
    }
}
