//! Pages at made-up physical addresses, seen twice: by the CPU and by hardware.

use iommu_core::{Address, Frame, Hpa, Order};
use std::collections::BTreeMap;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// Where the arena begins for hardware: nothing that a CPU's address could be taken for.
const BASE: Hpa = Hpa::new(0x12_4000_0000);
/// What released memory is filled with: present entries with reserved bits set, so that
/// whoever walks into it stops with an error.
const POISON: u64 = 0xdead_dead_dead_dead;
const CELLS_IN_LINE: usize = 8;

#[repr(C, align(4096))]
struct Page([AtomicU64; Frame::CELLS_IN_PAGE]);

impl Page {
    fn zeroed() -> Self {
        Self([const { AtomicU64::new(0) }; Frame::CELLS_IN_PAGE])
    }
}

/// A block that has an owner.
pub(crate) struct Block {
    pub(crate) hpa: Hpa,
    pub(crate) cells: NonNull<AtomicU64>,
}

pub(crate) struct Arena {
    pages: Box<[Page]>,
    /// What hardware sees, if that is not the same.
    behind_caches: Option<Box<[Page]>>,
    /// Allocated blocks by their first page.
    blocks: Mutex<BTreeMap<usize, Order>>,
    /// The same for those who only look: how many pages the block has that begins here.
    sizes: Box<[AtomicUsize]>,
    /// How often the block that begins here was adopted.
    adoptions: Box<[AtomicU64]>,
}

fn pages(count: usize) -> Box<[Page]> {
    std::iter::repeat_with(Page::zeroed).take(count).collect()
}

fn zeroes<T: Default>(count: usize) -> Box<[T]> {
    std::iter::repeat_with(T::default).take(count).collect()
}

impl Arena {
    pub(crate) fn new(count: usize, non_coherent: bool) -> Self {
        Self {
            pages: pages(count),
            behind_caches: non_coherent.then(|| pages(count)),
            blocks: Mutex::default(),
            sizes: zeroes(count),
            adoptions: zeroes(count),
        }
    }

    pub(crate) fn outstanding(&self) -> usize {
        let blocks = self.blocks();
        blocks.values().map(|order| order.pages() as usize).sum()
    }

    /// A zeroed block that nobody has, for both readers of memory.
    pub(crate) fn take(&self, order: Order) -> Option<Block> {
        let count = order.pages() as usize;
        let mut blocks = self.blocks();
        let mut first = 0;
        // First fit: blocks are sorted, and a gap is as good as its aligned part.
        for (&taken, taken_order) in blocks.iter() {
            if first + count <= taken {
                break;
            }
            first = (taken + taken_order.pages() as usize).next_multiple_of(count);
        }
        if first + count > self.pages.len() {
            return None;
        }
        blocks.insert(first, order);
        self.sizes[first].store(count, Ordering::Release);
        for memory in self.views() {
            fill(&memory[first..first + count], 0);
        }
        Some(self.block(first))
    }

    pub(crate) fn give_back(&self, block: Block, order: Order) {
        let found = self.find(block.hpa, order);
        assert_eq!(found.cells, block.cells, "{} has other cells", block.hpa);
        let first = self.page_of(block.hpa).expect("a page of the arena");
        self.sizes[first].store(0, Ordering::Release);
        self.blocks().remove(&first);
        for memory in self.views() {
            fill(&memory[first..first + order.pages() as usize], POISON);
        }
    }

    /// The block that was allocated with this address and order.
    pub(crate) fn find(&self, hpa: Hpa, order: Order) -> Block {
        let first = self.page_of(hpa).expect("an address of the arena");
        let pages = self.sizes[first].load(Ordering::Acquire);
        let wanted = order.pages() as usize;
        assert_eq!(pages, wanted, "{hpa} is not such a block");
        self.block(first)
    }

    /// Finds a block and counts that.
    pub(crate) fn adopt(&self, hpa: Hpa, order: Order) -> Block {
        let block = self.find(hpa, order);
        let first = self.page_of(hpa).expect("an address of the arena");
        self.adoptions[first].fetch_add(1, Ordering::Relaxed);
        block
    }

    /// Blocks that were adopted, and how often.
    pub(crate) fn adoptions(&self) -> impl Iterator<Item = (Hpa, u64)> {
        let counts = self.adoptions.iter().enumerate();
        counts
            .map(|(page, count)| (hpa_of(page), count.load(Ordering::Relaxed)))
            .filter(|&(_, count)| count > 0)
    }

    pub(crate) fn forget_adoptions(&self) {
        for count in &self.adoptions {
            count.store(0, Ordering::Relaxed);
        }
    }

    pub(crate) fn write_back(&self, frame: &Frame, cells: Range<usize>) {
        assert!(cells.end <= frame.cells().len(), "cells of the frame");
        let Some(behind) = &self.behind_caches else {
            return;
        };
        let first = self.page_of(frame.hpa()).expect("a frame of the arena");
        let line = |cell: usize| cell / CELLS_IN_LINE * CELLS_IN_LINE;
        for index in line(cells.start)..cells.end.next_multiple_of(CELLS_IN_LINE) {
            let (page, cell) = (
                first + index / Frame::CELLS_IN_PAGE,
                index % Frame::CELLS_IN_PAGE,
            );
            let value = self.pages[page].0[cell].load(Ordering::Acquire);
            behind[page].0[cell].store(value, Ordering::Release);
        }
    }

    pub(crate) fn device_load(&self, hpa: Hpa) -> Option<u64> {
        let memory = self.behind_caches.as_ref().unwrap_or(&self.pages);
        let page = self.page_of(hpa)?;
        Some(memory[page].0[cell_of(hpa)].load(Ordering::Acquire))
    }

    pub(crate) fn device_store(&self, hpa: Hpa, value: u64) {
        let page = self.page_of(hpa).expect("an address of the arena");
        for memory in self.views() {
            memory[page].0[cell_of(hpa)].store(value, Ordering::Release);
        }
    }

    pub(crate) fn device_page(&self, hpa: Hpa) -> Option<&[AtomicU64; Frame::CELLS_IN_PAGE]> {
        let memory = self.behind_caches.as_ref().unwrap_or(&self.pages);
        Some(&memory[self.page_of(hpa)?].0)
    }

    pub(crate) fn device_compare_exchange(
        &self,
        hpa: Hpa,
        current: u64,
        new: u64,
    ) -> Option<Result<u64, u64>> {
        let memory = self.behind_caches.as_ref().unwrap_or(&self.pages);
        let cell = &memory[self.page_of(hpa)?].0[cell_of(hpa)];
        let done = cell.compare_exchange(current, new, Ordering::AcqRel, Ordering::Acquire);
        if done.is_ok() {
            self.device_store(hpa, new);
        }
        Some(done)
    }

    fn views(&self) -> impl Iterator<Item = &[Page]> {
        std::iter::once(&*self.pages).chain(self.behind_caches.as_deref())
    }

    fn blocks(&self) -> std::sync::MutexGuard<'_, BTreeMap<usize, Order>> {
        self.blocks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn block(&self, first: usize) -> Block {
        assert!(first < self.pages.len());
        // The pointer may reach all pages, so that larger blocks can be made of it.
        let base = NonNull::from(&*self.pages).cast::<Page>();
        // SAFETY: `first` is an index of the slice.
        let page = unsafe { base.add(first) };
        Block {
            hpa: hpa_of(first),
            cells: page.cast(),
        }
    }

    fn page_of(&self, hpa: Hpa) -> Option<usize> {
        let page = (hpa.checked_sub(BASE)? >> 12) as usize;
        (page < self.pages.len()).then_some(page)
    }
}

fn hpa_of(page: usize) -> Hpa {
    Hpa::new(BASE.as_u64() + ((page as u64) << 12))
}

fn cell_of(hpa: Hpa) -> usize {
    assert!(hpa.is_aligned(3), "hardware reads whole entries");
    hpa.offset_in(12) as usize / 8
}

fn fill(pages: &[Page], value: u64) {
    for cell in pages.iter().flat_map(|page| &page.0) {
        cell.store(value, Ordering::Relaxed);
    }
}
