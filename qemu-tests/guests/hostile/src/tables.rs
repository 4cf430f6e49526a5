//! Page tables that no reasonable guest has: that loop, lead outside, and change all the time.

use arrayvec::ArrayVec;
use guest_machine::{Machine, Pages, Random, Trouble};
use iommu_core::{Gpa, PAGE_SIZE};

/// Pages that serve as tables of every level, and as what they lead to.
const PAGES: usize = 12;
const ENTRIES: u64 = 512;

const PRESENT: u64 = 1 << 0;
const WRITABLE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
const LARGE: u64 = 1 << 7;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// The pages.
#[derive(Clone, Debug)]
pub(crate) struct Tables {
    pages: ArrayVec<Gpa, PAGES>,
    /// Places of the host's that it has been told of, and may aim at.
    targets: ArrayVec<u64, 16>,
}

impl Tables {
    pub(crate) fn new(
        machine: &dyn Machine,
        pages: &mut Pages,
        targets: ArrayVec<u64, 16>,
    ) -> Result<Self, Trouble> {
        let mut tables = ArrayVec::new();
        for _ in 0..PAGES {
            // As many as it holds.
            let _ = tables.try_push(pages.take(machine)?);
        }
        Ok(Self {
            pages: tables,
            targets,
        })
    }

    /// A page of them, also a good root.
    pub(crate) fn any(&self, random: &mut Random) -> Gpa {
        let page = random.choice(self.pages.iter().copied());
        page.unwrap_or(Gpa::new(0))
    }

    /// An address that a table of theirs may translate: few bits are set, so that walks meet.
    pub(crate) fn address(&self, random: &mut Random) -> u64 {
        let index = |random: &mut Random| random.u64(..4);
        let page = [39, 30, 21, 12]
            .into_iter()
            .fold(0, |all, shift| all | index(random) << shift);
        match random.u8(..16) {
            0 => random.u64(..),
            1 => random.choice(self.targets.iter().copied()).unwrap_or(page),
            2 => 0xfee0_0000 | random.u64(..0x10_0000),
            _ => page | random.u64(..PAGE_SIZE),
        }
    }

    /// Makes good tables of the first four, which lead to the others: what is spoilt afterwards
    /// was good once. Returns the root.
    pub(crate) fn mend(&self, machine: &dyn Machine) -> Gpa {
        let good = PRESENT | WRITABLE | USER;
        let page = |number: usize| self.pages.get(number).map_or(0, |page| page.as_u64());
        for level in 0..4_usize {
            for index in 0..4_usize {
                let to = match level {
                    3 => page(index.saturating_add(4)),
                    _ => page(level.saturating_add(1)),
                };
                let at = Gpa::new(page(level) | (index as u64) << 3);
                let _ = machine.store(at, to | good);
            }
        }
        Gpa::new(page(0))
    }

    /// Changes some entries.
    pub(crate) fn scramble(&self, machine: &dyn Machine, random: &mut Random) {
        for _ in 0..random.u8(1..24) {
            let table = self.any(random);
            // Entries that `address` uses, for the most part.
            let index = match random.u8(..8) {
                0 => random.u64(..ENTRIES),
                _ => random.u64(..4),
            };
            let at = Gpa::new(table.as_u64() | index << 3);
            let _ = machine.store(at, self.entry(machine, random));
        }
    }

    fn entry(&self, machine: &dyn Machine, random: &mut Random) -> u64 {
        let start = machine.start();
        let good = PRESENT | WRITABLE | USER;
        match random.u8(..16) {
            0 => 0,
            1 => random.u64(..),
            // Behind its memory, below it, into the hypervisor.
            2 => good | start.memory_end() & ADDRESS,
            3 => good | random.u64(..) & 0x0fff_f000,
            4 => good | random.choice(self.targets.iter().copied()).unwrap_or(0) & ADDRESS,
            5 => good | LARGE | start.memory_base & ADDRESS,
            6 => (good | self.any(random).as_u64()) & !(1 << random.u8(..3)),
            7 => good | 1 << random.u8(40..63) | self.any(random).as_u64(),
            _ => good | self.any(random).as_u64(),
        }
    }
}
