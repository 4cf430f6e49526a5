//! A device for host tests that behaves as QEMU's does, with memory of its own.

use crate::Clock;
use iommu_core::{Mmio, Nanoseconds};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::vec::Vec;

const MEMORY_BYTES: usize = 0x4000;

struct State {
    identification: u32,
    answers: bool,
    liveness: u32,
    interrupts: u32,
    dma: [u64; 4],
    turns_to_copy: u32,
    turns_left: u32,
    buffer: [u8; 4096],
    memory: Vec<u8>,
}

pub(crate) struct FakeEdu(Mutex<State>);

impl FakeEdu {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(State {
            identification: 0x0100_00ed,
            answers: true,
            liveness: 0,
            interrupts: 0,
            dma: [0; 4],
            turns_to_copy: 1,
            turns_left: 0,
            buffer: [0; 4096],
            memory: std::vec![0; MEMORY_BYTES],
        }))
    }

    pub(crate) fn identify_as(&self, identification: u32) {
        self.0.lock().unwrap().identification = identification;
    }

    pub(crate) fn stop_answering(&self) {
        self.0.lock().unwrap().answers = false;
    }

    pub(crate) fn take_turns_to_copy(&self, turns: u32) {
        self.0.lock().unwrap().turns_to_copy = turns;
    }

    pub(crate) fn fill_memory(&self, at: usize, bytes: &[u8]) {
        self.0.lock().unwrap().memory[at..at + bytes.len()].copy_from_slice(bytes);
    }

    pub(crate) fn memory(&self, at: usize, bytes: usize) -> Vec<u8> {
        self.0.lock().unwrap().memory[at..at + bytes].to_vec()
    }
}

impl State {
    fn finish_copy(&mut self) {
        let [source, destination, count, command] = self.dma;
        let count = count as usize;
        if command & 2 == 0 {
            let (at, into) = (source as usize, (destination - 0x4_0000) as usize);
            self.buffer[into..into + count].copy_from_slice(&self.memory[at..at + count]);
        } else {
            let (from, at) = ((source - 0x4_0000) as usize, destination as usize);
            self.memory[at..at + count].copy_from_slice(&self.buffer[from..from + count]);
        }
        if command & 4 != 0 {
            self.interrupts |= 0x100;
        }
        self.dma[3] &= !1;
    }

    fn poll(&mut self) -> u64 {
        if self.dma[3] & 1 != 0 {
            self.turns_left = self.turns_left.saturating_sub(1);
            if self.turns_left == 0 {
                self.finish_copy();
            }
        }
        self.dma[3]
    }
}

impl Mmio for &FakeEdu {
    fn size(&self) -> usize {
        0x10_0000
    }

    fn read32(&self, offset: usize) -> u32 {
        let state = self.0.lock().unwrap();
        match offset {
            0x00 => state.identification,
            0x04 if state.answers => !state.liveness,
            0x24 => state.interrupts,
            _ => u32::MAX,
        }
    }

    fn read64(&self, offset: usize) -> u64 {
        assert!(offset >= 0x80, "narrow register {offset:#x} read wide");
        let mut state = self.0.lock().unwrap();
        match offset {
            0x98 => state.poll(),
            _ => state.dma[(offset - 0x80) / 8],
        }
    }

    fn write32(&self, offset: usize, value: u32) {
        let mut state = self.0.lock().unwrap();
        match offset {
            0x04 => state.liveness = value,
            0x60 => state.interrupts |= value,
            0x64 => state.interrupts &= !value,
            _ => panic!("no narrow register at {offset:#x}"),
        }
    }

    fn write64(&self, offset: usize, value: u64) {
        let mut state = self.0.lock().unwrap();
        assert_eq!(state.dma[3] & 1, 0, "written while a copy is under way");
        state.dma[(offset - 0x80) / 8] = value;
        state.turns_left = state.turns_to_copy;
    }
}

/// A clock that advances by a nanosecond with each turn.
#[derive(Default)]
pub(crate) struct Ticks(AtomicU64);

impl Clock for Ticks {
    fn now(&self) -> Nanoseconds {
        Nanoseconds(self.0.load(Ordering::Relaxed))
    }

    fn relax(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}
