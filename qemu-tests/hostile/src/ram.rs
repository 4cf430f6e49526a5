//! Memory of the host that guests have, and each guest's map of it.

use crate::floor::Floor;
use crate::stage::{Point, step};
use iommu_core::{
    Access, Address, Backing, Frame, Gpa, GuestMemory, GuestMemoryError, Hpa, Order, PAGE_SHIFT,
    PAGE_SIZE, Platform,
};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use vtd_model::Owner;

/// Nobody holds one of these locks over a step.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Pages of host memory for guests, and who has them.
pub(crate) struct Pool {
    floor: Arc<Floor>,
    blocks: Vec<Frame>,
    free: Mutex<Vec<u64>>,
    /// 2 MiB that lie together, until somebody has them.
    large: Mutex<Option<u64>>,
    owners: Mutex<BTreeMap<u64, Owner>>,
    transfers: AtomicU64,
}

impl Pool {
    /// Pages that are given out in a random order, and 2 MiB that lie together.
    pub(crate) fn new(floor: &Arc<Floor>, random: &mut fastrand::Rng) -> Self {
        let block = |log2: u8| {
            let order = Order::new(log2).expect("a small block");
            floor.model.allocate(order).expect("memory for guests")
        };
        let blocks = vec![block(LOOSE_LOG2), block(LARGE_LOG2)];
        let [first, large] = [0, 1].map(|at: usize| blocks[at].hpa().as_u64());
        let mut free: Vec<u64> = (first..).step_by(0x1000).take(1 << LOOSE_LOG2).collect();
        random.shuffle(&mut free);
        let pool = Self {
            floor: Arc::clone(floor),
            blocks,
            free: Mutex::new(free),
            large: Mutex::new(Some(large)),
            owners: Mutex::default(),
            transfers: AtomicU64::new(0),
        };
        pool.tell(first, PAGE_SIZE << LOOSE_LOG2, Owner::Nobody);
        pool.tell(large, PAGE_SIZE << LARGE_LOG2, Owner::Nobody);
        pool
    }

    /// The 2 MiB that lie together, page by page; nothing if somebody had them before.
    pub(crate) fn take_large(&self, owner: Owner) -> impl Iterator<Item = u64> + use<> {
        let large = lock(&self.large).take();
        let count = if large.is_some() { 1 << LARGE_LOG2 } else { 0 };
        let pages = (large.unwrap_or(0)..).step_by(0x1000).take(count);
        if let Some(first) = large {
            lock(&self.owners).extend(pages.clone().map(|page| (page, owner)));
            self.tell(first, PAGE_SIZE << LARGE_LOG2, owner);
        }
        pages
    }

    /// A page that nobody has, which `owner` gets, zeroed.
    pub(crate) fn take(&self, owner: Owner) -> Option<u64> {
        let page = {
            let mut free = lock(&self.free);
            let last = free.len().checked_sub(1)?;
            // Not always the one that came back last, and mostly not the oldest one.
            let at = last - last.min((self.transfers.load(Ordering::Relaxed) % 3) as usize);
            free.swap_remove(at)
        };
        for cell in (page..page + PAGE_SIZE).step_by(8) {
            self.floor.model.arena().device_store(Hpa::new(cell), 0);
        }
        self.give(page, owner);
        self.floor.model.with_machine(|machine| {
            machine.stored(page, PAGE_SIZE);
            machine.written_back(page, PAGE_SIZE);
        });
        Some(page)
    }

    /// The page changes hands. Nobody else may be able to reach it.
    pub(crate) fn give(&self, page: u64, owner: Owner) {
        lock(&self.owners).insert(page, owner);
        self.tell(page, PAGE_SIZE, owner);
    }

    /// Nobody has the page any more, and anybody may get it.
    pub(crate) fn put_back(&self, page: u64) {
        self.give(page, Owner::Nobody);
        lock(&self.free).push(page);
    }

    pub(crate) fn owner(&self, hpa: u64) -> Option<Owner> {
        lock(&self.owners).get(&(hpa & !0xfff)).copied()
    }

    /// Times that memory changed hands, each of which was checked against every cache.
    pub(crate) fn transfers(&self) -> u64 {
        self.transfers.load(Ordering::Relaxed)
    }

    fn tell(&self, first: u64, bytes: u64, owner: Owner) {
        self.transfers.fetch_add(1, Ordering::Relaxed);
        self.floor
            .model
            .with_machine(|machine| machine.own(first, bytes, owner));
    }

    /// The memory goes back to the platform.
    pub(crate) fn dispose(self) {
        for block in self.blocks {
            self.floor.model.release(block);
        }
    }
}

/// Pages that lie anywhere.
const LOOSE_LOG2: u8 = 8;
/// Pages that lie together.
const LARGE_LOG2: u8 = 9;

/// A guest's memory map.
pub(crate) struct Ram {
    floor: Arc<Floor>,
    pages: Mutex<BTreeMap<u64, (u64, Access)>>,
    /// Somebody else of the guest writes while the hypervisor reads: one access in so many.
    restless: u64,
    seed: u64,
    reads: AtomicU64,
}

/// Values with which memory changes under a reader's eyes.
const SURPRISES: [u64; 8] = [
    0,
    u64::MAX,
    1,
    0x7fff_ffff_ffff_f007,
    0x8000_0000_0000_0000,
    0xfee0_0007,
    0xffff_ffff_0000_0018,
    0x27,
];

impl Ram {
    pub(crate) fn new(floor: &Arc<Floor>, restless: u64, seed: u64) -> Self {
        Self {
            floor: Arc::clone(floor),
            pages: Mutex::default(),
            restless,
            seed,
            reads: AtomicU64::new(0),
        }
    }

    /// The host puts a page into the map.
    pub(crate) fn add(&self, gpa: u64, hpa: u64, access: Access) {
        lock(&self.pages).insert(gpa >> PAGE_SHIFT, (hpa, access));
    }

    /// The host takes a page out of the map: where it is, if there was one.
    pub(crate) fn remove(&self, gpa: u64) -> Option<u64> {
        lock(&self.pages)
            .remove(&(gpa >> PAGE_SHIFT))
            .map(|(hpa, _)| hpa)
    }

    /// All pages, of a guest that is dead.
    pub(crate) fn take_all(&self) -> Vec<u64> {
        let pages = std::mem::take(&mut *lock(&self.pages));
        pages.into_values().map(|(hpa, _)| hpa).collect()
    }

    pub(crate) fn hpa(&self, gpa: u64) -> Option<u64> {
        self.find(gpa, Access::NONE).ok()
    }

    pub(crate) fn has(&self, gpa: u64) -> bool {
        self.hpa(gpa).is_some()
    }

    fn find(&self, gpa: u64, access: Access) -> Result<u64, GuestMemoryError> {
        let pages = lock(&self.pages);
        let (hpa, rights) = pages
            .get(&(gpa >> PAGE_SHIFT))
            .ok_or(GuestMemoryError::Unmapped(Gpa::new(gpa)))?;
        if !rights.allows(access) {
            return Err(GuestMemoryError::Denied(Gpa::new(gpa)));
        }
        Ok(hpa | gpa & 0xfff)
    }

    fn load_cell(&self, gpa: u64) -> Result<u64, GuestMemoryError> {
        let hpa = self.find(gpa & !7, Access::READ)?;
        let value = self.floor.model.arena().device_load(Hpa::new(hpa));
        value.ok_or(GuestMemoryError::Unmapped(Gpa::new(gpa)))
    }

    /// A store by the guest or for it. Where there is no memory it is lost.
    fn store_cell(&self, gpa: u64, value: u64) -> Result<(), GuestMemoryError> {
        let hpa = self.find(gpa & !7, Access::NONE)?;
        self.floor.model.foreign_store(Hpa::new(hpa), value);
        Ok(())
    }

    /// The guest reads.
    pub(crate) fn load(&self, gpa: u64) -> Option<u64> {
        self.load_cell(gpa).ok()
    }

    /// The guest writes a cell.
    pub(crate) fn store(&self, gpa: u64, value: u64) {
        let _ = self.store_cell(gpa, value);
    }

    /// The guest writes bytes.
    pub(crate) fn write(&self, gpa: u64, bytes: &[u8]) {
        let _ = self.merge(gpa, bytes, || ());
    }

    /// The guest reads bytes; zeroes where it has no memory.
    pub(crate) fn read(&self, gpa: u64, count: usize) -> Vec<u8> {
        (0..count as u64)
            .map(|offset| {
                let at = gpa.wrapping_add(offset);
                let cell = self.load(at).unwrap_or(0);
                cell.to_le_bytes()[(at & 7) as usize]
            })
            .collect()
    }

    /// Writes byte by byte, cell by cell.
    fn merge(
        &self,
        gpa: u64,
        bytes: &[u8],
        before_each: impl Fn(),
    ) -> Result<(), GuestMemoryError> {
        let mut done = 0usize;
        while done < bytes.len() {
            let at = gpa.wrapping_add(done as u64);
            let within = (at & 7) as usize;
            let count = (8 - within).min(bytes.len() - done);
            before_each();
            let mut cell = self.load_cell(at)?.to_le_bytes();
            cell[within..within + count].copy_from_slice(&bytes[done..done + count]);
            self.store_cell(at, u64::from_le_bytes(cell))?;
            done += count;
        }
        Ok(())
    }

    /// Perhaps another virtual CPU of the guest has just written there.
    fn surprise(&self, gpa: u64) {
        if self.restless == 0 {
            return;
        }
        let number = self.reads.fetch_add(1, Ordering::Relaxed);
        let mut random = fastrand::Rng::with_seed(self.seed ^ number);
        if random.u64(..self.restless) == 0 {
            let value = match random.u8(..4) {
                0 => self.load(gpa).unwrap_or(0) ^ (1 << random.u32(..64)),
                1 => self.load(gpa).unwrap_or(0).rotate_left(random.u32(1..64)),
                _ => SURPRISES[random.usize(..SURPRISES.len())],
            };
            self.store(gpa, value);
        }
    }
}

impl GuestMemory for Ram {
    fn resolve(&self, gpa: Gpa, access: Access) -> Result<Backing, GuestMemoryError> {
        step(Point::GuestRead);
        let offset = gpa.offset_in(PAGE_SHIFT);
        let pages = lock(&self.pages);
        let number = gpa.as_u64() >> PAGE_SHIFT;
        let (first, rights) = *pages.get(&number).ok_or(GuestMemoryError::Unmapped(gpa))?;
        if !rights.allows(access) {
            return Err(GuestMemoryError::Denied(gpa));
        }
        let follows = |count: &u64| {
            pages.get(&(number + count)).copied() == Some((first + count * PAGE_SIZE, rights))
        };
        let count = (1..512).take_while(follows).count() as u64 + 1;
        Ok(Backing {
            hpa: Hpa::new(first + offset),
            bytes: count * PAGE_SIZE - offset,
            access: rights,
        })
    }

    fn hole(&self, gpa: Gpa) -> u64 {
        step(Point::GuestRead);
        let pages = lock(&self.pages);
        let next = pages.range(gpa.as_u64() >> PAGE_SHIFT..).next();
        let end = next.map_or(u64::MAX, |(number, _)| number << PAGE_SHIFT);
        end.saturating_sub(gpa.as_u64())
    }

    fn read_once(&self, gpa: Gpa) -> Result<u64, GuestMemoryError> {
        step(Point::GuestRead);
        if !gpa.is_aligned(3) {
            return Err(GuestMemoryError::Misaligned(gpa));
        }
        self.surprise(gpa.as_u64());
        self.load_cell(gpa.as_u64())
    }

    fn copy_in(&self, gpa: Gpa, buffer: &mut [u8]) -> Result<(), GuestMemoryError> {
        let mut done = 0usize;
        while done < buffer.len() {
            let at = gpa
                .as_u64()
                .checked_add(done as u64)
                .ok_or(GuestMemoryError::Unmapped(gpa))?;
            let within = (at & 7) as usize;
            let count = (8 - within).min(buffer.len() - done);
            step(Point::GuestRead);
            self.surprise(at & !7);
            let cell = self.load_cell(at)?.to_le_bytes();
            buffer[done..done + count].copy_from_slice(&cell[within..within + count]);
            done += count;
        }
        Ok(())
    }

    fn copy_out(&self, gpa: Gpa, bytes: &[u8]) -> Result<(), GuestMemoryError> {
        let end = gpa
            .as_u64()
            .checked_add(bytes.len() as u64)
            .ok_or(GuestMemoryError::Unmapped(gpa))?;
        for page in gpa.as_u64() >> PAGE_SHIFT..=end.saturating_sub(1) >> PAGE_SHIFT {
            if !bytes.is_empty() {
                self.find(page << PAGE_SHIFT, Access::WRITE)?;
            }
        }
        self.merge(gpa.as_u64(), bytes, || step(Point::GuestWrite))
    }
}
