//! Other crates, used as their documentation says: page by page for the one that has no
//! ranges, with the TLB flushes that a range needs left out.

use crate::contest::{Contestant, IOVA, Workload};
use crate::pool;
use memory_addr::{PhysAddr as MultiPhys, VirtAddr as MultiVirt};
use page_table_entry::x86_64::X64PTE;
use page_table_multiarch::{MappingFlags, PageTable64, PagingHandler, PagingMetaData};
use std::marker::PhantomData;
use std::ptr::with_exposed_provenance_mut;
use x86_64::structures::paging::mapper::MapToError;
use x86_64::structures::paging::{
    FrameAllocator, Mapper, OffsetPageTable, Page, PageSize, PageTable, PageTableFlags, PhysFrame,
    Size1GiB, Size2MiB, Size4KiB,
};
use x86_64::{PhysAddr, VirtAddr};

pub(crate) fn x86_64(workload: &Workload) -> Option<Box<dyn Contestant>> {
    let pages: Vec<u64> = workload.pages().collect();
    match workload.shift {
        12 => Some(Box::new(X86_64::<Size4KiB>::new(pages))),
        21 => Some(Box::new(X86_64::<Size2MiB>::new(pages))),
        30 => Some(Box::new(X86_64::<Size1GiB>::new(pages))),
        _ => None,
    }
}

struct X86_64<S> {
    pages: Vec<u64>,
    root: usize,
    size: PhantomData<S>,
}

/// Pages come as they are: both crates zero their tables themselves.
struct Pool;

// SAFETY: the pool gives each page to one user.
unsafe impl FrameAllocator<Size4KiB> for Pool {
    fn allocate_frame(&mut self) -> Option<PhysFrame> {
        PhysFrame::from_start_address(PhysAddr::new(pool::take() as u64)).ok()
    }
}

impl<S: PageSize> X86_64<S> {
    fn new(pages: Vec<u64>) -> Self {
        Self {
            pages,
            root: 0,
            size: PhantomData,
        }
    }

    fn mapper(&self) -> OffsetPageTable<'static> {
        // SAFETY: a page of the pool that is ours, zeroed by `prepare`; physical addresses
        // of the pool are addresses.
        unsafe {
            let root = &mut *with_exposed_provenance_mut::<PageTable>(self.root);
            OffsetPageTable::new(root, VirtAddr::zero())
        }
    }

    fn targets() -> impl Iterator<Item = Page<S>> {
        let first = Page::containing_address(VirtAddr::new(IOVA.as_u64()));
        (0..).map(move |number| first + number)
    }
}

impl<S: PageSize> Contestant for X86_64<S>
where
    for<'a> OffsetPageTable<'a>: Mapper<S>,
    MapToError<S>: std::fmt::Debug,
{
    fn name(&self) -> &'static str {
        "x86_64 OffsetPageTable"
    }

    fn prepare(&mut self) {
        self.root = pool::take();
        // SAFETY: a page of the pool that is ours.
        unsafe { (*with_exposed_provenance_mut::<PageTable>(self.root)).zero() };
    }

    fn map(&mut self) {
        let mut mapper = self.mapper();
        let flags =
            PageTableFlags::PRESENT | PageTableFlags::WRITABLE | PageTableFlags::USER_ACCESSIBLE;
        for (page, &hpa) in Self::targets().zip(&self.pages) {
            let frame = PhysFrame::containing_address(PhysAddr::new(hpa));
            // SAFETY: nobody uses these tables to reach memory.
            let flush = unsafe { mapper.map_to(page, frame, flags, &mut Pool) };
            flush.expect("a free page").ignore();
        }
    }

    fn unmap(&mut self) {
        let mut mapper = self.mapper();
        for (page, _) in Self::targets().zip(&self.pages) {
            let (_, flush) = mapper.unmap(page).expect("a mapped page");
            flush.ignore();
        }
    }

    fn clean_up(&mut self) {
        // Unmapping leaves the tables.
        give_back_tables(self.root, 4);
    }

    fn table_bytes(&self) -> usize {
        pool::taken_bytes()
    }
}

/// Gives back a table and those that its entries still lead to.
fn give_back_tables(table: usize, level: u8) {
    if level > 1 {
        // SAFETY: a table in the pool, which nobody else uses now.
        let entries = unsafe { *with_exposed_provenance_mut::<[u64; 512]>(table) };
        let tables = entries.iter().filter(|&&entry| entry & 0x81 == 1);
        for &entry in tables {
            give_back_tables((entry & 0xf_ffff_ffff_f000) as usize, level - 1);
        }
    }
    pool::give_back(table);
}

pub(crate) fn multiarch(workload: &Workload) -> Option<Box<dyn Contestant>> {
    Some(Box::new(Multiarch {
        pages: workload.pages().collect(),
        shift: workload.shift,
        size: workload.bytes() as usize,
        table: None,
    }))
}

/// The crate's x86-64 format, without instructions that user programs may not execute.
struct NoFlush;

impl PagingMetaData for NoFlush {
    const LEVELS: usize = 4;
    const PA_MAX_BITS: usize = 52;
    const VA_MAX_BITS: usize = 48;
    type VirtAddr = MultiVirt;

    fn flush_tlb(_vaddr: Option<MultiVirt>) {}
}

impl PagingHandler for Pool {
    fn alloc_frames(count: usize, _align: usize) -> Option<MultiPhys> {
        (count == 1).then(|| MultiPhys::from_usize(pool::take()))
    }

    fn dealloc_frames(address: MultiPhys, _count: usize) {
        pool::give_back(address.as_usize());
    }

    fn phys_to_virt(address: MultiPhys) -> MultiVirt {
        let page = with_exposed_provenance_mut::<u8>(address.as_usize());
        MultiVirt::from_usize(page.expose_provenance())
    }
}

struct Multiarch {
    pages: Vec<u64>,
    shift: u32,
    size: usize,
    table: Option<PageTable64<NoFlush, X64PTE, Pool>>,
}

impl Contestant for Multiarch {
    fn name(&self) -> &'static str {
        "page_table_multiarch"
    }

    fn prepare(&mut self) {
        self.table = PageTable64::try_new().ok();
    }

    fn map(&mut self) {
        let first = IOVA.as_u64() as usize;
        let (pages, shift) = (&self.pages, self.shift);
        let target = |address: MultiVirt| {
            let number = (address.as_usize() - first) >> shift;
            MultiPhys::from_usize(pages[number] as usize)
        };
        let flags = MappingFlags::READ | MappingFlags::WRITE | MappingFlags::USER;
        let mut cursor = self.table.as_mut().expect("prepared").cursor();
        cursor
            .map_region(
                MultiVirt::from_usize(first),
                target,
                self.size,
                flags,
                shift > 12,
            )
            .expect("a free range");
    }

    fn unmap(&mut self) {
        let first = MultiVirt::from_usize(IOVA.as_u64() as usize);
        let mut cursor = self.table.as_mut().expect("prepared").cursor();
        cursor
            .unmap_region(first, self.size)
            .expect("a mapped range");
    }

    fn clean_up(&mut self) {
        self.table = None;
    }

    fn table_bytes(&self) -> usize {
        pool::taken_bytes()
    }
}
