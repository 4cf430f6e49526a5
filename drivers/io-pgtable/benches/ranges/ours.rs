//! This crate.

use crate::contest::{Contestant, IOVA, Workload};
use crate::pool;
use io_pgtable::{Limits, PageTable, TableConfig};
use iommu_core::sync::Rank;
use iommu_core::{
    Access, AddressRange, Coherence, Frame, Hpa, Nanoseconds, Order, OutOfFrames, Platform,
    TableFormat,
};
use std::ops::Range;
use std::ptr::{NonNull, with_exposed_provenance_mut};
use std::sync::atomic::{AtomicU64, Ordering, fence};

pub(crate) fn contestant(workload: &Workload) -> Option<Box<dyn Contestant>> {
    Some(Box::new(Ours {
        config: TableConfig {
            limits: Limits {
                host_bits: 52,
                leaves: workload.sizes,
                snoop_control: false,
            },
            iova_bits: 48,
            coherence: Coherence::Snooped,
            snoop: false,
            memory_type: None,
        },
        runs: workload.runs.clone(),
        range: AddressRange::of_bytes(IOVA, workload.bytes()).expect("a range"),
        table: None,
    }))
}

struct Ours {
    config: TableConfig,
    runs: Vec<iommu_core::Run>,
    range: AddressRange<iommu_core::Iova>,
    table: Option<PageTable>,
}

impl Contestant for Ours {
    fn name(&self) -> &'static str {
        "io-pgtable"
    }

    fn prepare(&mut self) {
        // SAFETY: there is one pool.
        let table = unsafe { PageTable::new(&Memory, TableFormat::SecondStage4, self.config) };
        self.table = table.ok();
    }

    fn map(&mut self) {
        let table = self.table.as_mut().expect("prepared");
        let mapped = table.map(&Memory, IOVA, &self.runs, Access::READ_WRITE);
        assert!(mapped.is_ok());
    }

    fn unmap(&mut self) {
        let table = self.table.as_mut().expect("prepared");
        let mut frames = table.unmap(&Memory, self.range).expect("mapped").frames;
        while let Some(frame) = frames.pop() {
            Memory.release(frame);
        }
    }

    fn clean_up(&mut self) {
        let table = self.table.take().expect("prepared");
        let mut frames = table.destroy(&Memory);
        while let Some(frame) = frames.pop() {
            Memory.release(frame);
        }
    }

    fn table_bytes(&self) -> usize {
        pool::taken_bytes()
    }
}

/// The pool as a platform.
struct Memory;

fn frame(page: usize, order: Order) -> Frame {
    let cells = NonNull::new(with_exposed_provenance_mut::<AtomicU64>(page)).expect("a page");
    // SAFETY: pages of the pool are never unmapped, and have one user at a time.
    unsafe { Frame::from_raw(Hpa::new(page as u64), cells, order) }
}

impl Platform for Memory {
    fn allocate(&self, order: Order) -> Result<Frame, OutOfFrames> {
        assert_eq!(order, Order::PAGE);
        let page = pool::take();
        // SAFETY: the page is nobody else's.
        unsafe { with_exposed_provenance_mut::<u8>(page).write_bytes(0, 4096) };
        Ok(frame(page, order))
    }

    fn release(&self, frame: Frame) {
        pool::give_back(frame.leak().as_u64() as usize);
    }

    unsafe fn adopt(&self, hpa: Hpa, order: Order) -> Frame {
        frame(hpa.as_u64() as usize, order)
    }

    fn publish64(&self, frame: &Frame, index: usize, value: u64, _coherence: Coherence) {
        if let Some(cell) = frame.cells().get(index) {
            cell.store(value, Ordering::Release);
        }
    }

    fn publish128(&self, frame: &Frame, index: usize, value: [u64; 2], coherence: Coherence) {
        for (offset, value) in value.into_iter().enumerate() {
            self.publish64(frame, index + offset, value, coherence);
        }
    }

    fn write_back(&self, _frame: &Frame, _cells: Range<usize>) {}

    fn fence(&self) {
        fence(Ordering::SeqCst);
    }

    fn now(&self) -> Nanoseconds {
        Nanoseconds(0)
    }

    fn relax(&self) {}

    fn enter(&self, _rank: Rank) -> u64 {
        0
    }

    fn leave(&self, _rank: Rank, _state: u64) {}
}
