//! A guest's memory, as the hypervisor keeps it: one page after the other from address 0 on, each
//! anywhere in the host's memory.

use iommu_core::{
    Access, Address, Backing, Frame, Gpa, GuestMemory, GuestMemoryError, Hpa, PAGE_SHIFT, PAGE_SIZE,
};
use std::sync::atomic::Ordering;
use std::sync::{Mutex, MutexGuard, PoisonError};

pub(crate) struct Ram(Mutex<Vec<Option<Frame>>>);

impl Ram {
    pub(crate) fn new(pages: Vec<Frame>) -> Self {
        Self(Mutex::new(pages.into_iter().map(Some).collect()))
    }

    /// Takes a page from the guest: from now on nothing leads there that is asked for anew.
    pub(crate) fn take(&self, gpa: u64) -> Option<Frame> {
        self.pages().get_mut((gpa >> PAGE_SHIFT) as usize)?.take()
    }

    /// All that is left.
    pub(crate) fn take_all(&self) -> Vec<Frame> {
        self.pages().iter_mut().filter_map(Option::take).collect()
    }

    pub(crate) fn hpa(&self, gpa: u64) -> Result<Hpa, GuestMemoryError> {
        Ok(self.resolve(Gpa::new(gpa), Access::NONE)?.hpa)
    }

    fn pages(&self) -> MutexGuard<'_, Vec<Option<Frame>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something with the page behind an address, and with the address' offset in it.
    fn with<R>(&self, gpa: Gpa, act: impl Fn(&Frame, u64) -> R) -> Result<R, GuestMemoryError> {
        let pages = self.pages();
        let page = pages.get((gpa.as_u64() >> PAGE_SHIFT) as usize);
        let page = page.and_then(Option::as_ref).ok_or(GuestMemoryError::Unmapped(gpa))?;
        Ok(act(page, gpa.offset_in(PAGE_SHIFT)))
    }
}

impl GuestMemory for Ram {
    fn resolve(&self, gpa: Gpa, _: Access) -> Result<Backing, GuestMemoryError> {
        self.with(gpa, |page, offset| Backing {
            hpa: Hpa::new(page.hpa().as_u64() + offset),
            bytes: PAGE_SIZE - offset,
            access: Access::READ_WRITE,
        })
    }

    /// All that is beyond the guest's memory is one hole, which is not gone through page by page.
    fn hole(&self, gpa: Gpa) -> u64 {
        let pages = self.pages();
        let mut from = pages.iter().skip((gpa.as_u64() >> PAGE_SHIFT) as usize);
        match from.position(Option::is_some) {
            Some(0) => 0,
            Some(pages) => (pages as u64 * PAGE_SIZE) - gpa.offset_in(PAGE_SHIFT),
            None => u64::MAX - gpa.as_u64(),
        }
    }

    fn read_once(&self, gpa: Gpa) -> Result<u64, GuestMemoryError> {
        if !gpa.is_aligned(3) {
            return Err(GuestMemoryError::Misaligned(gpa));
        }
        self.with(gpa, |page, offset| page.cells()[offset as usize / 8].load(Ordering::Acquire))
    }

    fn copy_in(&self, gpa: Gpa, buffer: &mut [u8]) -> Result<(), GuestMemoryError> {
        for (at, byte) in (gpa.as_u64()..).zip(buffer) {
            *byte = self.read_once(Gpa::new(at & !7))?.to_le_bytes()[at as usize & 7];
        }
        Ok(())
    }

    fn copy_out(&self, gpa: Gpa, bytes: &[u8]) -> Result<(), GuestMemoryError> {
        // All of it is there, or nothing is written.
        for at in (gpa.as_u64()..).take(bytes.len()) {
            self.resolve(Gpa::new(at), Access::WRITE)?;
        }
        let end = gpa.as_u64() + bytes.len() as u64;
        let mut at = gpa.as_u64();
        while at < end {
            let word = at & !7;
            let mut value = self.read_once(Gpa::new(word))?.to_le_bytes();
            while at < end && at & !7 == word {
                value[at as usize & 7] = bytes[(at - gpa.as_u64()) as usize];
                at += 1;
            }
            let value = u64::from_le_bytes(value);
            self.with(Gpa::new(word), |page, offset| {
                page.cells()[offset as usize / 8].store(value, Ordering::Release);
            })?;
        }
        Ok(())
    }
}
