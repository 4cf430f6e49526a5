//! The unit as a thread.
//!
//! Registers are relaxed atomics: what orders them with memory are the driver's fence and
//! the unit's own.

use super::platform::Machine;
use super::signal::Signal;
use crate::queue::Queue;
use iommu_core::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
use loom::sync::Arc;
use std::sync::Mutex;
use std::vec::Vec;

const FSTS: usize = 0x34;
const IQH: usize = 0x80;
const IQT: usize = 0x88;
const IQERCD: usize = 0xb0;
const IQE: u32 = 1 << 4;

/// Why a descriptor is refused: a reserved field is set.
pub(super) const CODE: u8 = 4;
const BYTES_IN_SLOT: u64 = 16;

/// Its registers, and what it did.
pub(super) struct Unit {
    fault_status: AtomicU32,
    head: AtomicU64,
    tail: AtomicU64,
    error: AtomicU64,
    /// The number of a descriptor that it refuses.
    refused: Option<u16>,
    /// For the test alone, so not `loom`'s.
    executed: Mutex<Vec<u16>>,
    /// Registers were written.
    told: Signal,
    /// A status was written, or an error reported.
    pub(super) progress: Signal,
}

impl Unit {
    pub(super) fn new() -> Self {
        Self {
            fault_status: AtomicU32::new(0),
            head: AtomicU64::new(0),
            tail: AtomicU64::new(0),
            error: AtomicU64::new(0),
            refused: None,
            executed: Mutex::default(),
            told: Signal::default(),
            progress: Signal::default(),
        }
    }

    pub(super) fn refusing(number: u16) -> Self {
        Self {
            refused: Some(number),
            ..Self::new()
        }
    }

    /// Numbers of the descriptors that were executed, waits left out.
    pub(super) fn executed(&self) -> Vec<u16> {
        self.executed.lock().expect("no panic").clone()
    }

    /// Stops with an error at the descriptor, until software clears it.
    fn refuse(&self, told: &mut u64) {
        self.error.store(CODE.into(), Ordering::Relaxed);
        fence(Ordering::SeqCst);
        self.fault_status.fetch_or(IQE, Ordering::Relaxed);
        self.progress.raise();
        while self.fault_status.load(Ordering::Relaxed) & IQE != 0 {
            self.told.wait(told);
        }
        fence(Ordering::SeqCst);
    }
}

/// Executes what is queued, until `waits` waits of rounds were done.
pub(super) fn run(unit: &Unit, machine: &Machine, queue: &Queue, waits: usize) {
    let ring = queue.ring_address(machine);
    let size = u64::from(crate::queue::SLOTS) * BYTES_IN_SLOT;
    let status = queue.status.hpa();
    let mut done = 0;
    let mut head = 0;
    let mut told = 0;
    while done < waits {
        if unit.tail.load(Ordering::Relaxed) == head {
            unit.told.wait(&mut told);
            continue;
        }
        fence(Ordering::SeqCst);
        let word = |offset| {
            let at = iommu_core::Address::as_u64(ring) + head + offset;
            machine.with_cell(at, |cell| cell.load(Ordering::Relaxed))
        };
        let (low, high) = (word(0), word(8));
        let number = (low >> 16) as u16;
        match low & 0xf {
            1 if unit.refused == Some(number) => {
                unit.refuse(&mut told);
                // It fetches the slot again.
                continue;
            }
            1 => unit.executed.lock().expect("no panic").push(number),
            5 => {
                machine.with_cell(high & !7, |cell| {
                    // Of the two words in a cell only the lower one is used here.
                    cell.store(low >> 32, Ordering::Release);
                });
                unit.progress.raise();
                done += usize::from(high == iommu_core::Address::as_u64(status));
            }
            other => panic!("the unit fetched a descriptor of type {other}: {low:#x}"),
        }
        head = (head + BYTES_IN_SLOT) % size;
        unit.head.store(head, Ordering::Relaxed);
    }
}

/// What the driver is given.
#[derive(Clone)]
pub(super) struct Mmio(pub(super) Arc<Unit>);

impl iommu_core::Mmio for Mmio {
    fn size(&self) -> usize {
        0x1000
    }

    fn read32(&self, offset: usize) -> u32 {
        assert_eq!(offset, FSTS);
        let value = self.0.fault_status.load(Ordering::Relaxed);
        fence(Ordering::SeqCst);
        value
    }

    fn read64(&self, offset: usize) -> u64 {
        match offset {
            IQH => self.0.head.load(Ordering::Relaxed),
            IQERCD => self.0.error.load(Ordering::Relaxed),
            other => panic!("a read of {other:#x}"),
        }
    }

    fn write32(&self, offset: usize, value: u32) {
        assert_eq!(offset, FSTS);
        self.0.fault_status.fetch_and(!value, Ordering::Relaxed);
        self.0.told.raise();
    }

    fn write64(&self, offset: usize, value: u64) {
        assert_eq!(offset, IQT);
        self.0.tail.store(value, Ordering::Relaxed);
        self.0.told.raise();
    }
}
