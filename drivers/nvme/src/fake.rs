//! A controller that answers at once, or wrongly.

use crate::queue::{COMMAND_WORDS, COMPLETION_WORDS, ENTRIES};
use crate::spec::{
    BlockFormat, Cap, Cc, Command0, CommandPair, Completion1, CreateQueue11, Csts, offset, opcode,
};
use crate::{Clock, Memory, Region, Signal};
use core::sync::atomic::{AtomicU64, Ordering};
use iommu_core::{Iova, Mmio, Nanoseconds};
use std::boxed::Box;
use std::sync::{Arc, Mutex};
use std::vec::Vec;

/// What it does wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    None,
    Absent,
    NeverReady,
    Silent,
    Refuses,
    WrongId,
    NoBlocks,
    NoInterrupt,
}

/// Six pages: four queues, identify, data. Page `n` lies at `(n + 1) << 20` for the
/// controller.
pub(crate) struct Pages(Vec<Vec<AtomicU64>>);

const DATA: usize = 5;

fn address(page: usize) -> Iova {
    Iova::new((page as u64 + 1) << 20)
}

impl Pages {
    pub(crate) fn leaked() -> &'static Self {
        let page = || (0..512).map(|_| AtomicU64::new(0)).collect();
        Box::leak(Box::new(Self((0..6).map(|_| page()).collect())))
    }

    fn region(&'static self, page: usize) -> Region<'static> {
        Region {
            cells: &self.0[page],
            iova: address(page),
        }
    }

    pub(crate) fn memory(&'static self) -> Memory<'static> {
        Memory {
            admin_submission: self.region(0),
            admin_completion: self.region(1),
            submission: self.region(2),
            completion: self.region(3),
            identify: self.region(4),
        }
    }

    pub(crate) fn data(&self) -> Iova {
        address(DATA)
    }

    pub(crate) fn first_data_word(&self) -> u64 {
        self.0[DATA][0].load(Ordering::Relaxed)
    }

    fn at(&self, iova: u64) -> &[AtomicU64] {
        &self.0[(iova >> 20) as usize - 1]
    }
}

#[derive(Default)]
struct State {
    ready: bool,
    queues: [Positions; 2],
    vector: Option<u16>,
    interrupts: u64,
}

#[derive(Default, Clone, Copy)]
struct Positions {
    submission: u64,
    completion: u64,
    head: u16,
    tail: u16,
    wrapped: bool,
}

#[derive(Clone)]
pub(crate) struct FakeDisk {
    pages: &'static Pages,
    fault: Fault,
    state: Arc<Mutex<State>>,
}

impl FakeDisk {
    pub(crate) fn new(pages: &'static Pages, fault: Fault) -> Self {
        Self {
            pages,
            fault,
            state: Arc::default(),
        }
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.state.lock().unwrap().ready
    }

    /// The vector that reads raise.
    pub(crate) fn vector(&self) -> Option<u16> {
        self.state.lock().unwrap().vector
    }

    fn work_off(&self, queue: usize, tail: u16) {
        let mut state = self.state.lock().unwrap();
        while state.queues[queue].head != tail {
            let at = state.queues[queue];
            let first = usize::from(at.head) * COMMAND_WORDS;
            let words: Vec<u64> = self.pages.at(at.submission)[first..first + COMMAND_WORDS]
                .iter()
                .map(|cell| cell.load(Ordering::Relaxed))
                .collect();
            self.act(queue, &words, &mut state);
            let place = &mut state.queues[queue];
            place.head = (place.head + 1) % ENTRIES;
            if self.fault == Fault::Silent {
                continue;
            }
            let command = Command0::from_bits(words[0]);
            let id = command.cid() + u16::from(self.fault == Fault::WrongId);
            let completion = Completion1::new()
                .with_cid(id)
                .with_phase(!place.wrapped)
                .with_status(if self.fault == Fault::Refuses { 2 } else { 0 });
            let word = usize::from(place.tail) * COMPLETION_WORDS + 1;
            self.pages.at(place.completion)[word].store(completion.into_bits(), Ordering::Relaxed);
            place.tail = (place.tail + 1) % ENTRIES;
            place.wrapped ^= place.tail == 0;
            if queue == 1 && self.fault == Fault::None && state.vector.is_some() {
                state.interrupts += 1;
            }
        }
    }

    fn act(&self, queue: usize, words: &[u64], state: &mut State) {
        let command = Command0::from_bits(words[0]);
        match (queue, command.opcode()) {
            (0, opcode::CREATE_COMPLETION) => {
                state.queues[1].completion = words[3];
                let flags = CreateQueue11::from_bits(CommandPair::from_bits(words[5]).high());
                state.vector = flags.interrupts().then(|| flags.cqid_or_vector());
            }
            (0, opcode::CREATE_SUBMISSION) => state.queues[1].submission = words[3],
            (0, opcode::IDENTIFY) => {
                let blocks = if self.fault == Fault::NoBlocks {
                    0
                } else {
                    1000
                };
                let page = self.pages.at(words[3]);
                page[0].store(blocks, Ordering::Relaxed);
                let format = BlockFormat::new().with_log2_bytes(9).into_bits();
                page[16].store(format.into(), Ordering::Relaxed);
            }
            (1, opcode::READ) => {
                self.pages.at(words[3])[0].store(0xb10c_0000 + words[5], Ordering::Relaxed);
            }
            other => panic!("{other:?}"),
        }
    }
}

impl Signal for FakeDisk {
    fn count(&self) -> u64 {
        self.state.lock().unwrap().interrupts
    }
}

impl Mmio for FakeDisk {
    fn size(&self) -> usize {
        0x2000
    }

    fn read32(&self, at: usize) -> u32 {
        assert_eq!(at, offset::CSTS);
        Csts::new().with_rdy(self.is_ready()).into_bits()
    }

    fn read64(&self, at: usize) -> u64 {
        assert_eq!(at, offset::CAP);
        match self.fault {
            Fault::Absent => u64::MAX,
            _ => Cap::new().with_mqes(1023).with_to(1).into_bits(),
        }
    }

    fn write32(&self, at: usize, value: u32) {
        match at {
            offset::CC => {
                let on = Cc::from_bits(value).en() && self.fault != Fault::NeverReady;
                self.state.lock().unwrap().ready = on;
            }
            offset::AQA => assert_eq!(value, 0x000f_000f),
            0x1000 => self.work_off(0, value as u16),
            0x1008 => self.work_off(1, value as u16),
            0x1004 | 0x100c => {}
            other => panic!("{other:#x}"),
        }
    }

    fn write64(&self, at: usize, value: u64) {
        let mut state = self.state.lock().unwrap();
        match at {
            offset::ASQ => state.queues[0].submission = value,
            offset::ACQ => state.queues[0].completion = value,
            other => panic!("{other:#x}"),
        }
    }
}

/// Each look takes a tenth of a second.
#[derive(Default)]
pub(crate) struct FakeClock(AtomicU64);

impl Clock for FakeClock {
    fn now(&self) -> Nanoseconds {
        Nanoseconds(self.0.fetch_add(100_000_000, Ordering::Relaxed))
    }

    fn relax(&self) {}
}
