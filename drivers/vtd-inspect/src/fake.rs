//! A unit whose registers and tables a test writes.

use crate::{PAGE_WORDS, Page, Source};
use iommu_core::Hpa;
use std::collections::BTreeMap;
use vtd::registers::{Register32, Register64};

#[derive(Default)]
pub(crate) struct FakeUnit {
    narrow: BTreeMap<usize, u32>,
    wide: BTreeMap<usize, u64>,
    pages: BTreeMap<u64, Page>,
}

impl FakeUnit {
    /// QEMU's CAP, with an ECAP.
    pub(crate) fn new(ecap: u64) -> Self {
        let mut unit = Self::default();
        unit.wide.insert(0x08, 0x80d2_008c_222f_0606);
        unit.wide.insert(0x10, ecap);
        unit
    }

    pub(crate) fn set32<R: Register32>(&mut self, register: R) {
        self.narrow.insert(R::OFFSET, register.into_raw());
    }

    pub(crate) fn set64<R: Register64>(&mut self, register: R) {
        self.wide.insert(R::OFFSET, register.into_raw());
    }

    /// Stores words one after the other.
    pub(crate) fn store(&mut self, at: u64, words: &[u64]) {
        for (at, &word) in (at..).step_by(8).zip(words) {
            let page = self.pages.entry(at & !0xfff).or_insert([0; PAGE_WORDS]);
            page[(at & 0xfff) as usize / 8] = word;
        }
    }
}

impl Source for FakeUnit {
    fn read32(&self, offset: usize) -> Option<u32> {
        Some(self.narrow.get(&offset).copied().unwrap_or(0))
    }

    fn read64(&self, offset: usize) -> Option<u64> {
        Some(self.wide.get(&offset).copied().unwrap_or(0))
    }

    fn page(&self, at: Hpa, page: &mut Page) -> bool {
        match self.pages.get(&at.as_u64()) {
            Some(found) => {
                page.copy_from_slice(found);
                true
            }
            None => false,
        }
    }
}
