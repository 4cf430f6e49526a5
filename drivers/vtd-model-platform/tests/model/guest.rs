//! A guest: memory whose pages lie anywhere in the host's, and page tables that it keeps.

use crate::rig::Platform;
use iommu_core::{
    Access, Address, Backing, Frame, Gpa, GuestMemory, GuestMemoryError, Hpa, PAGE_SHIFT, PAGE_SIZE,
};
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use vtd_model::Owner;

/// Bits of an x86-64 entry.
pub(crate) const PRESENT: u64 = 1;
pub(crate) const WRITABLE: u64 = 1 << 1;
pub(crate) const USER: u64 = 1 << 2;
pub(crate) const LARGE: u64 = 1 << 7;
pub(crate) const ALL: u64 = PRESENT | WRITABLE | USER;

/// Where the guest's memory begins.
pub(crate) const BASE: u64 = 0x20_0000;

/// A guest's memory.
pub(crate) struct Guest {
    platform: Arc<Platform>,
    number: u32,
    pages: Mutex<BTreeMap<u64, (Frame, Access)>>,
    next_table: Mutex<u64>,
    last: u64,
}

impl Guest {
    /// `count` pages from [`BASE`] on, in a random order of the host's.
    pub(crate) fn new(platform: &Arc<Platform>, number: u32, count: u64, seed: u64) -> Arc<Self> {
        let mut frames: Vec<Frame> = (0..count)
            .map(|_| platform.page_for(Owner::Guest(number)).expect("a page"))
            .collect();
        fastrand::Rng::with_seed(seed).shuffle(&mut frames);
        let pages = frames
            .into_iter()
            .zip((BASE >> PAGE_SHIFT)..)
            .map(|(frame, number)| (number, (frame, Access::READ_WRITE)))
            .collect();
        let last = BASE + (count - 1) * PAGE_SIZE;
        Arc::new(Self {
            platform: Arc::clone(platform),
            number,
            pages: Mutex::new(pages),
            next_table: Mutex::new(last),
            last,
        })
    }

    /// A page that nothing else uses, from the end of memory downwards: for a table.
    pub(crate) fn table(&self) -> u64 {
        let mut next = self.next_table.lock().expect("no panic");
        let table = *next;
        *next -= PAGE_SIZE;
        table
    }

    /// The `index`-th page, for data.
    pub(crate) fn data(&self, index: u64) -> u64 {
        let page = BASE + index * PAGE_SIZE;
        assert!(page < self.last, "memory of the guest");
        page
    }

    pub(crate) fn hpa(&self, gpa: u64) -> Hpa {
        let backing = self.resolve(Gpa::new(gpa), Access::NONE);
        backing.expect("memory of the guest").hpa
    }

    /// The guest stores.
    pub(crate) fn store(&self, gpa: u64, value: u64) {
        let pages = self.pages.lock().expect("no panic");
        let (frame, _) = &pages[&(gpa >> PAGE_SHIFT)];
        frame.cells()[(gpa % PAGE_SIZE / 8) as usize].store(value, Ordering::Release);
        drop(pages);
        // Requests may arrive at once.
        self.platform.with_machine(|_| ());
    }

    /// The guest stores, and no request comes just then.
    pub(crate) fn put_quietly(&self, gpa: u64, value: u64) {
        let pages = self.pages.lock().expect("no panic");
        let (frame, _) = &pages[&(gpa >> PAGE_SHIFT)];
        frame.cells()[(gpa % PAGE_SIZE / 8) as usize].store(value, Ordering::Release);
    }

    pub(crate) fn load(&self, gpa: u64) -> u64 {
        self.read_once(Gpa::new(gpa)).expect("memory of the guest")
    }

    /// The host takes a page out of the guest's memory.
    pub(crate) fn lose(&self, gpa: u64) -> Frame {
        let mut pages = self.pages.lock().expect("no panic");
        pages.remove(&(gpa >> PAGE_SHIFT)).expect("memory").0
    }

    /// The host gives the guest a page where it has none.
    pub(crate) fn gain(&self, gpa: u64) {
        let frame = self.platform.page_for(Owner::Guest(self.number));
        let page = (frame.expect("a page"), Access::READ_WRITE);
        let mut pages = self.pages.lock().expect("no panic");
        let before = pages.insert(gpa >> PAGE_SHIFT, page);
        assert!(before.is_none(), "there is memory already");
    }

    pub(crate) fn protect(&self, gpa: u64, access: Access) {
        let mut pages = self.pages.lock().expect("no panic");
        pages.get_mut(&(gpa >> PAGE_SHIFT)).expect("memory").1 = access;
    }

    /// All of its pages, when it is dead.
    pub(crate) fn take_all(&self) -> Vec<Frame> {
        let pages = std::mem::take(&mut *self.pages.lock().expect("no panic"));
        pages.into_values().map(|(frame, _)| frame).collect()
    }

    /// Where the entry of an address lies in the guest's table, at a level; tables on the
    /// way are made.
    pub(crate) fn entry(&self, root: u64, levels: u8, gva: u64, level: u8) -> u64 {
        let mut table = root;
        for at in (level..=levels).rev() {
            let index = gva >> (12 + 9 * (at - 1)) & 0x1ff;
            let entry = table + 8 * index;
            if at == level {
                return entry;
            }
            if self.load(entry) & PRESENT == 0 {
                self.store(entry, self.table() | ALL);
            }
            table = self.load(entry) & 0x000f_ffff_ffff_f000;
        }
        unreachable!("a level of the table")
    }

    /// Maps a page of 4 KiB in a table of four levels.
    pub(crate) fn map(&self, root: u64, gva: u64, gpa: u64, bits: u64) {
        self.store(self.entry(root, 4, gva, 1), gpa | bits);
    }

    pub(crate) fn unmap(&self, root: u64, gva: u64) {
        self.store(self.entry(root, 4, gva, 1), 0);
    }
}

impl GuestMemory for Guest {
    fn resolve(&self, gpa: Gpa, access: Access) -> Result<Backing, GuestMemoryError> {
        let pages = self.pages.lock().expect("no panic");
        let offset = gpa.offset_in(PAGE_SHIFT);
        let (frame, rights) = pages
            .get(&(gpa.as_u64() >> PAGE_SHIFT))
            .ok_or(GuestMemoryError::Unmapped(gpa))?;
        if !rights.allows(access) {
            return Err(GuestMemoryError::Denied(gpa));
        }
        Ok(Backing {
            hpa: Hpa::new(frame.hpa().as_u64() + offset),
            bytes: PAGE_SIZE - offset,
            access: *rights,
        })
    }

    fn hole(&self, gpa: Gpa) -> u64 {
        let pages = self.pages.lock().expect("no panic");
        let next = pages.range(gpa.as_u64() >> PAGE_SHIFT..).next();
        let end = next.map_or(u64::MAX, |(number, _)| number << PAGE_SHIFT);
        end.saturating_sub(gpa.as_u64())
    }

    fn read_once(&self, gpa: Gpa) -> Result<u64, GuestMemoryError> {
        if !gpa.is_aligned(3) {
            return Err(GuestMemoryError::Misaligned(gpa));
        }
        self.resolve(gpa, Access::READ)?;
        let pages = self.pages.lock().expect("no panic");
        let (frame, _) = &pages[&(gpa.as_u64() >> PAGE_SHIFT)];
        let cell = &frame.cells()[(gpa.offset_in(PAGE_SHIFT) / 8) as usize];
        Ok(cell.load(Ordering::Acquire))
    }

    fn copy_in(&self, gpa: Gpa, buffer: &mut [u8]) -> Result<(), GuestMemoryError> {
        for (at, byte) in (gpa.as_u64()..).zip(buffer) {
            let cell = self.read_once(Gpa::new(at & !7))?;
            *byte = cell.to_le_bytes()[(at & 7) as usize];
        }
        Ok(())
    }

    fn copy_out(&self, gpa: Gpa, bytes: &[u8]) -> Result<(), GuestMemoryError> {
        for at in (gpa.as_u64()..).take(bytes.len()) {
            self.resolve(Gpa::new(at), Access::WRITE)?;
        }
        for (at, &byte) in (gpa.as_u64()..).zip(bytes) {
            let mut cell = self.read_once(Gpa::new(at & !7))?.to_le_bytes();
            cell[(at & 7) as usize] = byte;
            let pages = self.pages.lock().expect("no panic");
            let (frame, _) = &pages[&(at >> PAGE_SHIFT)];
            frame.cells()[(at % PAGE_SIZE / 8) as usize]
                .store(u64::from_le_bytes(cell), Ordering::Release);
        }
        Ok(())
    }
}
