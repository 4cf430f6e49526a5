//! A unit that answers commands and executes its queue, as far as it is allowed to, and
//! otherwise says what the input says.

use super::platform::Machine;
use crate::Bytes;
use iommu_core::{Hpa, Mmio};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

const CAP: usize = 0x08;
const ECAP: usize = 0x10;
const GCMD: usize = 0x18;
const GSTS: usize = 0x1c;
const FSTS: usize = 0x34;
const PMEN: usize = 0x64;
const IQH: usize = 0x80;
const IQT: usize = 0x88;
const IQA: usize = 0x90;
const IQERCD: usize = 0xb0;
const PQT: usize = 0xc8;
const PQA: usize = 0xd0;
const PRS: usize = 0xdc;

/// Bits of GCMD that act once.
const ONE_SHOT: u32 = 1 << 30 | 1 << 27 | 1 << 24;
const QIE: u32 = 1 << 26;
const IQE: u32 = 1 << 4;
const ITE: u32 = 1 << 6;
/// FSTS bits that are cleared by writing 1, and those of them that stop the queue.
const STICKY: u32 = 0x71;

/// Capabilities that units have: QEMU's in three modes, one with everything, a client's.
const CAPABILITIES: [(u64, u64); 6] = [
    (0x00d2_008c_222f_0606, 0x00f0_0f4a),
    (0x00d2_008c_222f_0606, 0x4800_80f0_0f4a),
    (0x01d2_008c_222f_0606, 0x8800_00f0_0f4a),
    (0x01d2_008c_222f_0606, 0x8d9a_20f0_0f4e),
    (0x01d2_078c_106f_04e6, 0x0001_cf9f_2ef0_50df),
    (0x08d2_078c_106f_0466, 0x00f0_20df),
];

/// More accesses than any run that ends can make.
const ACCESSES_MOST: u64 = 1 << 21;

struct State {
    registers: Vec<u8>,
    accesses: u64,
    /// Status bits that do not follow their commands.
    stuck: u32,
    /// The queue does nothing.
    asleep: bool,
    /// Waits complete without telling.
    mute: bool,
    /// So many descriptors are executed before one is refused: with these bits of FSTS, and
    /// this in IQERCD.
    refusal: Option<(u8, u32, u64)>,
    /// A register reads so, whatever it holds, so often.
    lie: Option<(usize, u64, u8)>,
}

/// A unit.
pub(super) struct Unit {
    machine: Arc<Machine>,
    state: Mutex<State>,
}

impl Unit {
    /// As firmware left it.
    pub(super) fn new(machine: Arc<Machine>, bytes: &mut Bytes<'_>) -> Arc<Self> {
        let mut state = State {
            registers: vec![0; 0x1000],
            accesses: 0,
            stuck: 0,
            asleep: false,
            mute: false,
            refusal: None,
            lie: None,
        };
        let (cap, ecap) = bytes.one_of(&CAPABILITIES);
        let strange = bytes.byte();
        let twist = |bytes: &mut Bytes<'_>, bit: u8| {
            if strange >> bit & 1 != 0 {
                bytes.u64()
            } else {
                0
            }
        };
        state.set32(0, 0x10 + (u32::from(strange) >> 4));
        state.set64(CAP, cap ^ twist(bytes, 0));
        state.set64(ECAP, ecap ^ twist(bytes, 1));
        state.set32(GSTS, u32::from(bytes.u16()) << 16);
        state.set32(FSTS, u32::from(bytes.u16()));
        for register in [IQH, IQT, IQA, 0x20, 0xb8, IQERCD] {
            let value = twist(bytes, 2);
            state.set64(register, value);
        }
        state.set32(
            PMEN,
            u32::from(bytes.byte() & 1) << 31 | u32::from(bytes.byte() & 1),
        );
        if strange & 8 != 0 {
            state.scribble_record(bytes);
        }
        let state = Mutex::new(state);
        Arc::new(Self { machine, state })
    }

    /// Something goes wrong, or is set right again.
    pub(super) fn misbehave(&self, bytes: &mut Bytes<'_>) {
        let mut state = self.state();
        match bytes.byte() % 24 {
            0 => state.stuck = u32::from(bytes.byte()) << 23,
            1 => state.asleep = true,
            2 => state.mute = true,
            3..=6 => {
                let status = bytes.one_of(&[IQE, ITE, IQE | ITE, IQE | 1 << 5]);
                let code = bytes.u64() & 0x0000_ffff_ffff_0007 | bytes.below(8);
                state.refusal = Some((bytes.byte() & 7, status, code));
            }
            7 => state.lie = Some((lied_about(bytes), bytes.u64(), bytes.byte())),
            8 => state.lie = Some((lied_about(bytes), bytes.below(256), bytes.byte())),
            9 => {
                let status = u32::from(bytes.u16());
                state.set32(FSTS, status);
            }
            10 => {
                let head = u64::from(bytes.u16()) << 4;
                state.set64(IQH, head);
            }
            11 | 12 => state.scribble_record(bytes),
            13 => self.scribble_status(&state, bytes.u64()),
            14 | 15 => self.scribble_page_request(&mut state, bytes),
            _ => {
                state.stuck = 0;
                state.asleep = false;
                state.mute = false;
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes over the status word that the last wait in the queue names.
    fn scribble_status(&self, state: &State, value: u64) {
        let base = state.get64(IQA) & !0xfff;
        let slots = (0..64).map(|slot| base.wrapping_add(16 * slot));
        let status = slots
            .filter(|&at| self.load(at).is_some_and(|low| low & 0xf == 5))
            .filter_map(|at| self.load(at.wrapping_add(8)))
            .last();
        if let Some(at) = status
            .map(|at| at & !7)
            .filter(|&at| self.load(at).is_some())
        {
            self.machine.memory.device_store(Hpa::new(at), value);
        }
    }

    /// Puts a request into the page request queue, and moves its tail anywhere.
    fn scribble_page_request(&self, state: &mut State, bytes: &mut Bytes<'_>) {
        let base = state.get64(PQA) & !0xfff;
        let at = base.wrapping_add(32 * bytes.below(128));
        for word in 0..2 {
            let value = bytes.u64();
            let at = at.wrapping_add(8 * word);
            if self.load(at).is_some() {
                self.machine.memory.device_store(Hpa::new(at), value);
            }
        }
        state.set64(PQT, u64::from(bytes.u16()) << 5);
        state.set32(PRS, u32::from(bytes.byte() & 3));
    }

    fn load(&self, at: u64) -> Option<u64> {
        if !at.is_multiple_of(8) {
            return None;
        }
        self.machine.memory.device_load(Hpa::new(at))
    }

    fn run_queue(&self, state: &mut State) {
        let size = 0x1000u64 << (state.get64(IQA) & 7);
        let slot = 16 << (state.get64(IQA) >> 11 & 1);
        for _ in 0..size / slot {
            let stopped = state.get32(FSTS) & (IQE | ITE) != 0;
            let (head, tail) = (state.get64(IQH), state.get64(IQT));
            let is_on = state.get32(GSTS) & QIE != 0;
            if stopped || state.asleep || !is_on || head == tail || state.refuses() {
                return;
            }
            let at = (state.get64(IQA) & !0xfff).wrapping_add(head % size);
            self.execute(state, at);
            state.set64(IQH, head.wrapping_add(slot) % size);
        }
    }

    fn execute(&self, state: &State, at: u64) {
        let (Some(low), Some(high)) = (self.load(at), self.load(at.wrapping_add(8))) else {
            return;
        };
        let is_wait = low & 0xf == 5 && low >> 5 & 1 != 0;
        if !is_wait || state.mute {
            return;
        }
        let cell = high & !7;
        if let Some(old) = self.load(cell) {
            let shift = if high & 4 == 0 { 0 } else { 32 };
            let new = old & !(0xffff_ffff << shift) | (low >> 32) << shift;
            self.machine.memory.device_store(Hpa::new(cell), new);
        }
    }
}

/// A register that the driver believes.
fn lied_about(bytes: &mut Bytes<'_>) -> usize {
    bytes.one_of(&[
        GSTS, FSTS, IQH, IQT, IQERCD, 0xc0, PQT, PRS, PMEN, 0x220, 0x228,
    ])
}

impl State {
    fn get32(&self, offset: usize) -> u32 {
        self.get64(offset & !7).to_le_bytes()[offset & 4..]
            .iter()
            .take(4)
            .rev()
            .fold(0, |value, &byte| value << 8 | u32::from(byte))
    }

    fn get64(&self, offset: usize) -> u64 {
        let cell = self.registers.get(offset..offset + 8);
        cell.map_or(u64::MAX, |cell| {
            cell.iter()
                .rev()
                .fold(0, |value, &byte| value << 8 | u64::from(byte))
        })
    }

    fn set32(&mut self, offset: usize, value: u32) {
        if let Some(cell) = self.registers.get_mut(offset..offset + 4) {
            cell.copy_from_slice(&value.to_le_bytes());
        }
    }

    fn set64(&mut self, offset: usize, value: u64) {
        if let Some(cell) = self.registers.get_mut(offset..offset + 8) {
            cell.copy_from_slice(&value.to_le_bytes());
        }
    }

    /// Counts an access, and says what is lied about it.
    fn access(&mut self, offset: usize) -> Option<u64> {
        self.accesses += 1;
        assert!(self.accesses < ACCESSES_MOST, "the driver does not end");
        match &mut self.lie {
            Some((at, value, left)) if *at == offset && *left > 0 => {
                *left -= 1;
                Some(*value)
            }
            _ => None,
        }
    }

    /// Whether the next descriptor is refused; then the unit says so.
    fn refuses(&mut self) -> bool {
        let Some((left, status, code)) = self.refusal else {
            return false;
        };
        if left > 0 {
            self.refusal = Some((left - 1, status, code));
            return false;
        }
        self.refusal = None;
        self.set64(IQERCD, code);
        self.set32(FSTS, self.get32(FSTS) | status);
        true
    }

    fn records(&self) -> (usize, usize) {
        let cap = self.get64(CAP);
        let first = (cap >> 24 & 0x3ff) as usize * 16;
        (first, (cap >> 40 & 0xff) as usize + 1)
    }

    /// A fault record that holds anything, and FSTS that tells of one.
    fn scribble_record(&mut self, bytes: &mut Bytes<'_>) {
        let (first, count) = self.records();
        let index = usize::from(bytes.byte()) % count;
        self.set64(first + 16 * index, bytes.u64());
        self.set64(first + 16 * index + 8, bytes.u64() | 1 << 63);
        self.set32(FSTS, u32::from(bytes.u16()) | 2);
    }

    fn command(&mut self, value: u32) {
        let status = self.get32(GSTS);
        let follows = !self.stuck;
        let level = value & !ONE_SHOT & follows;
        let kept = status & (!follows | ONE_SHOT);
        // WBF is done at once, the others stay set.
        let done = value & ONE_SHOT & !(1 << 27) & follows;
        if value & QIE == 0 && status & QIE != 0 {
            self.set64(IQH, 0);
        }
        self.set32(GSTS, level | kept | done);
    }
}

/// What the driver is given.
#[derive(Clone)]
pub(super) struct Registers(pub(super) Arc<Unit>);

impl fmt::Debug for Registers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Registers")
    }
}

impl Mmio for Registers {
    fn size(&self) -> usize {
        0x1000
    }

    fn read32(&self, offset: usize) -> u32 {
        let mut state = self.0.state();
        let lie = state.access(offset).map(|value| value as u32);
        lie.unwrap_or_else(|| state.get32(offset))
    }

    fn read64(&self, offset: usize) -> u64 {
        let mut state = self.0.state();
        let lie = state.access(offset);
        lie.unwrap_or_else(|| state.get64(offset))
    }

    fn write32(&self, offset: usize, value: u32) {
        let mut state = self.0.state();
        state.access(offset);
        let (first, count) = state.records();
        let last = first + 16 * count;
        match offset {
            GCMD => state.command(value),
            FSTS => {
                let status = state.get32(FSTS) & !(value & STICKY);
                state.set32(FSTS, status);
                self.0.run_queue(&mut state);
            }
            PRS => {
                let status = state.get32(PRS) & !(value & 3);
                state.set32(PRS, status);
            }
            PMEN => state.set32(PMEN, value & 1 << 31 | value >> 31),
            _ if (first..last).contains(&offset) => {
                let record = state.get32(offset) & !(value & 1 << 31);
                state.set32(offset, record);
            }
            _ => state.set32(offset, value),
        }
    }

    fn write64(&self, offset: usize, value: u64) {
        let mut state = self.0.state();
        state.access(offset);
        state.set64(offset, value);
        if offset == IQT {
            self.0.run_queue(&mut state);
        }
    }
}
