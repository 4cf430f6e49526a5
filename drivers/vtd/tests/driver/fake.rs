//! A register file that answers as §11 says, with a queue that runs when its tail is
//! written, and faults and failures on demand. It checks what hardware would choke on:
//! access widths, more than one command a write, descriptors with reserved bits.

use crate::heap::outside;
use iommu_core::{Hpa, Mmio, Order, Platform};
use std::collections::BTreeSet;
use std::mem::ManuallyDrop;
use std::sync::{Arc, Mutex, MutexGuard};
use test_platform::TestPlatform;

pub(crate) const GCMD: usize = 0x18;
pub(crate) const GSTS: usize = 0x1c;
pub(crate) const RTADDR: usize = 0x20;
pub(crate) const CCMD: usize = 0x28;
pub(crate) const FSTS: usize = 0x34;
pub(crate) const FECTL: usize = 0x38;
pub(crate) const IQH: usize = 0x80;
pub(crate) const IQT: usize = 0x88;
pub(crate) const IQA: usize = 0x90;
pub(crate) const IQERCD: usize = 0xb0;
pub(crate) const IRTA: usize = 0xb8;
pub(crate) const PMEN: usize = 0x64;
pub(crate) const PRS: usize = 0xdc;
/// Where ECAP.IRO of all units here says.
pub(crate) const IVA: usize = 0xf0;
pub(crate) const IOTLB: usize = 0xf8;

pub(crate) const TE: u32 = 1 << 31;
pub(crate) const SRTP: u32 = 1 << 30;
pub(crate) const WBF: u32 = 1 << 27;
pub(crate) const QIE: u32 = 1 << 26;
pub(crate) const IRE: u32 = 1 << 25;
pub(crate) const SIRTP: u32 = 1 << 24;
pub(crate) const CFI: u32 = 1 << 23;
const ONE_SHOT: u32 = SRTP | WBF | SIRTP;

pub(crate) const IQE: u32 = 1 << 4;
pub(crate) const ICE: u32 = 1 << 5;
pub(crate) const ITE: u32 = 1 << 6;
pub(crate) const PFO: u32 = 1;
pub(crate) const PPF: u32 = 2;

/// What QEMU 10.0 reports in the three modes.
pub(crate) const CAP: u64 = 0x00d2_008c_222f_0606;
pub(crate) const CAP_FIRST: u64 = 0x01d2_008c_222f_0606;
pub(crate) const ECAP_LEGACY: u64 = 0xf0_0f4a;
pub(crate) const ECAP_SECOND: u64 = 0x4800_80f0_0f4a;
pub(crate) const ECAP_FIRST: u64 = 0x8800_00f0_0f4a;
/// Coherent, second and first stage, nesting, PASIDs of 20 bits, Device-TLBs.
pub(crate) const ECAP_ALL: u64 =
    ECAP_SECOND | ECAP_FIRST | 1 | 1 << 2 | 1 << 26 | 19 << 35 | 1 << 40 | 1 << 48;

pub(crate) struct State {
    registers: [u8; 0x1000],
    /// Status bits that never follow their command.
    pub(crate) stuck: u32,
    /// Words of every descriptor that was executed.
    pub(crate) executed: Vec<[u64; 2]>,
    /// Writes to GCMD, in order.
    pub(crate) commands: Vec<u32>,
    pub(crate) doorbells: usize,
    /// Refuse the n-th descriptor from now on (1 is the next) with this IQEI.
    pub(crate) refuse: Option<(usize, u8)>,
    /// Refuse it again after it was rewritten, so often.
    pub(crate) refuse_again: usize,
    /// Devices that never answer.
    pub(crate) silent: BTreeSet<u16>,
    /// The queue does nothing, and commands by register are not answered.
    pub(crate) asleep: bool,
    /// Words of every invalidation by register that was asked for: CCMD, or IOTLB with IVA.
    pub(crate) by_register: Vec<[u64; 2]>,
    /// The narrowest granularity (3) that such an invalidation is done in; a narrower one is
    /// refused.
    pub(crate) narrowest: u64,
    /// It is done in this granularity, if that is wider, whatever was asked.
    pub(crate) done_as: Option<u64>,
    /// The root table pointer in use.
    pub(crate) root: u64,
    /// PASIDs that were given out by virtual commands.
    pub(crate) pasids: BTreeSet<u32>,
    pub(crate) virtual_commands: usize,
}

/// PASIDs that virtual commands give out.
pub(crate) const VIRTUAL_PASIDS: std::ops::Range<u32> = 0x70..0x78;
const VCMD: usize = 0xe00;
const VCRSP: usize = 0xe10;

/// A unit.
pub(crate) struct Fake {
    pub(crate) platform: Arc<TestPlatform>,
    state: Mutex<State>,
}

impl Fake {
    pub(crate) fn new(platform: Arc<TestPlatform>, cap: u64, ecap: u64) -> Arc<Self> {
        let state = State {
            registers: [0; 0x1000],
            stuck: 0,
            executed: Vec::new(),
            commands: Vec::new(),
            doorbells: 0,
            refuse: None,
            refuse_again: 0,
            silent: BTreeSet::new(),
            asleep: false,
            by_register: Vec::new(),
            narrowest: 3,
            done_as: None,
            root: 0,
            pasids: BTreeSet::new(),
            virtual_commands: 0,
        };
        let fake = Self {
            platform,
            state: Mutex::new(state),
        };
        fake.set32(0, 0x10);
        fake.set64(8, cap);
        fake.set64(16, ecap);
        fake.set32(FECTL, 1 << 31);
        Arc::new(fake)
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    pub(crate) fn get32(&self, offset: usize) -> u32 {
        self.state().get32(offset)
    }

    pub(crate) fn get64(&self, offset: usize) -> u64 {
        self.state().get64(offset)
    }

    pub(crate) fn set32(&self, offset: usize, value: u32) {
        self.state().set32(offset, value);
    }

    pub(crate) fn set64(&self, offset: usize, value: u64) {
        self.state().set64(offset, value);
    }

    /// Descriptors since the last call, waits left out.
    pub(crate) fn take_executed(&self) -> Vec<[u64; 2]> {
        let all = std::mem::take(&mut self.state().executed);
        all.into_iter().filter(|[low, _]| low & 0xf != 5).collect()
    }

    /// Records a fault, as §7.2.1 says.
    pub(crate) fn fault(&self, index: usize, low: u64, high: u64) {
        let mut state = self.state();
        let at = state.record(index);
        if state.get32(FSTS) & PFO != 0 {
            return;
        }
        if state.get64(at + 8) >> 63 != 0 {
            state.or32(FSTS, PFO);
            return;
        }
        state.set64(at, low);
        state.set64(at + 8, high | 1 << 63);
        if state.get32(FSTS) & PPF == 0 {
            let status = state.get32(FSTS) & 0xff;
            state.set32(FSTS, status | PPF | (index as u32) << 8);
        }
    }

    /// Goes on with what is queued.
    pub(crate) fn wake(&self) {
        self.run_queue(&mut self.state());
    }

    fn run_queue(&self, state: &mut State) {
        while state.step(&self.platform) {}
    }
}

impl State {
    fn get32(&self, offset: usize) -> u32 {
        u32::from_le_bytes(self.registers[offset..offset + 4].try_into().unwrap())
    }

    fn get64(&self, offset: usize) -> u64 {
        u64::from_le_bytes(self.registers[offset..offset + 8].try_into().unwrap())
    }

    fn set32(&mut self, offset: usize, value: u32) {
        self.registers[offset..offset + 4].copy_from_slice(&value.to_le_bytes());
    }

    fn set64(&mut self, offset: usize, value: u64) {
        self.registers[offset..offset + 8].copy_from_slice(&value.to_le_bytes());
    }

    fn or32(&mut self, offset: usize, bits: u32) {
        self.set32(offset, self.get32(offset) | bits);
    }

    fn record(&self, index: usize) -> usize {
        let fro = (self.get64(8) >> 24 & 0x3ff) as usize;
        fro * 16 + index * 16
    }

    fn records(&self) -> usize {
        (self.get64(8) >> 40 & 0xff) as usize + 1
    }

    fn slot_bytes(&self) -> u64 {
        if self.get64(IQA) >> 11 & 1 != 0 {
            32
        } else {
            16
        }
    }

    fn command(&mut self, value: u32) {
        self.commands.push(value);
        let status = self.get32(GSTS);
        let kept = status & 0x96ff_ffff;
        let changed = (value ^ kept) & !ONE_SHOT | value & ONE_SHOT;
        assert!(
            changed.count_ones() <= 1,
            "more than one command at once: {value:#x} on {status:#x}"
        );
        if changed & self.stuck != 0 {
            return;
        }
        let mut status = status ^ (changed & !ONE_SHOT);
        if changed & SRTP != 0 {
            status |= SRTP;
            self.root = self.get64(RTADDR);
        }
        if changed & SIRTP != 0 {
            status |= SIRTP;
        }
        if changed & QIE != 0 && value & QIE == 0 {
            self.set64(IQH, 0);
        }
        if changed & TE != 0 && value & TE != 0 {
            assert!(status & SRTP != 0, "translation without a root table");
        }
        self.set32(GSTS, status);
    }

    /// §11.4.6: legacy mode, up to version 5, with the queue off.
    fn invalidate_by_register(&mut self, at: usize, address: u64, asked_at: u32, done_at: u32) {
        let word = self.get64(at);
        assert!(word >> 63 == 1, "a command without its trigger");
        assert!(
            self.get32(GSTS) & QIE == 0,
            "a command while the queue is on"
        );
        assert_eq!(
            self.get64(RTADDR) >> 10 & 3,
            0,
            "a command in scalable mode"
        );
        self.by_register.push([word, address]);
        if self.asleep {
            return;
        }
        let asked = word >> asked_at & 3;
        let done = if asked > self.narrowest { 0 } else { asked };
        let done = self.done_as.map_or(done, |wider| done.min(wider));
        self.set64(at, word & !(1 << 63 | 3 << done_at) | done << done_at);
    }

    /// §11.4.16: allocates or frees a PASID.
    fn virtual_command(&mut self, value: u64) {
        assert_eq!(self.get64(VCRSP) & 1, 0, "one at a time");
        self.virtual_commands += 1;
        if self.asleep {
            self.set64(VCRSP, 1);
            return;
        }
        let named = (value >> 16 & 0xf_ffff) as u32;
        let result = match value & 0xff {
            1 => VIRTUAL_PASIDS
                .into_iter()
                .find(|pasid| self.pasids.insert(*pasid)),
            2 => self.pasids.remove(&named).then_some(0),
            other => panic!("virtual command {other}"),
        };
        let response = result.map_or(16 << 1, |pasid| u64::from(pasid) << 16);
        self.set64(VCRSP, response);
    }

    /// Fetches and executes one descriptor. Says whether there may be another.
    fn step(&mut self, platform: &TestPlatform) -> bool {
        let stopped = self.get32(FSTS) & (IQE | ITE) != 0;
        let (head, tail) = (self.get64(IQH), self.get64(IQT));
        if stopped || self.asleep || self.get32(GSTS) & QIE == 0 || head == tail {
            return false;
        }
        let bytes = self.slot_bytes();
        let words = self.fetch(platform, head, bytes);
        if self.is_refused(words) {
            return false;
        }
        let size = 4096u64 << (self.get64(IQA) & 7);
        self.set64(IQH, (head + bytes) % size);
        self.execute(platform, words);
        true
    }

    /// The queue is snooped on every unit (§6.5.2), so this reads what the CPU sees.
    fn fetch(&self, platform: &TestPlatform, head: u64, bytes: u64) -> [u64; 2] {
        let queue = Hpa::new(self.get64(IQA) & !0xfff);
        let order = Order::new((self.get64(IQA) & 7) as u8).unwrap();
        // SAFETY: the driver's queue; only looked at, and never owned here.
        let frame = ManuallyDrop::new(unsafe { platform.adopt(queue, order) });
        let word = |n: u64| frame.load((head / 8 + n) as usize).unwrap();
        for upper in 2..bytes / 8 {
            assert_eq!(word(upper), 0, "the upper half is reserved");
        }
        [word(0), word(1)]
    }

    fn is_refused(&mut self, words: [u64; 2]) -> bool {
        let code = match self.refuse {
            Some((1, code)) => {
                self.refuse = (self.refuse_again > 0).then_some((1, code));
                self.refuse_again = self.refuse_again.saturating_sub(1);
                Some(code)
            }
            Some((n, code)) => {
                self.refuse = Some((n - 1, code));
                None
            }
            None => None,
        };
        let code = code.or((!is_well_formed(words)).then_some(4));
        if let Some(code) = code {
            self.set64(IQERCD, u64::from(code));
            self.or32(FSTS, IQE);
        }
        code.is_some()
    }

    fn execute(&mut self, platform: &TestPlatform, words: [u64; 2]) {
        let [low, high] = words;
        self.executed.push(words);
        if low & 0xf != 5 {
            return;
        }
        // A wait completes only after every device has answered what was sent before it.
        let unanswered = self.executed.iter().rev().skip(1).find_map(|[low, _]| {
            let source = match low & 0xf {
                3 => (low >> 32) as u16,
                8 => (low >> 16) as u16,
                _ => return None,
            };
            self.silent.contains(&source).then_some(source)
        });
        if let Some(source) = unanswered {
            self.executed.clear();
            self.set64(IQERCD, u64::from(source) << 32);
            self.or32(FSTS, ITE);
            return;
        }
        if low >> 5 & 1 != 0 {
            let cell = Hpa::new(high & !7);
            let old = platform.device_load(cell).unwrap();
            let data = low >> 32;
            let new = if high & 4 == 0 {
                old & !0xffff_ffff | data
            } else {
                old & 0xffff_ffff | data << 32
            };
            platform.device_store(cell, new);
        }
    }
}

/// §6.5.2: types and reserved bits.
fn is_well_formed([low, high]: [u64; 2]) -> bool {
    let (low_mask, high_mask) = match low & 0xf {
        1 => (0xfffc_0000_0000_ffc0, u64::MAX),
        2 => (0xffff_ffff_0000_ff00, 0xf80),
        3 => (0x000f_0000_ffe0_0ff0, 0xffe),
        4 => (0xffff_0000_07ff_ffe0, u64::MAX),
        5 => (0xffff_ff00, 3),
        6 => (0xfff0_0000_0000_ffc0, 0xf80),
        7 => (0xfff0_0000_0000_ffc0, u64::MAX),
        8 => (0x0000_0000_0000_0e00, 0x7fe),
        9 => (0xfff0_0000_0000_0fe0, 0xffff_ffff_ffff_f003),
        _ => return false,
    };
    low & low_mask == 0 && high & high_mask == 0
}

/// What the driver is given.
#[derive(Clone)]
pub(crate) struct Registers(pub(crate) Arc<Fake>);

impl std::fmt::Debug for Registers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Registers")
    }
}

const SIZES_OF_64: &[usize] = &[
    CCMD, IVA, IOTLB, VCMD, 0x08, 0x10, 0x20, 0x70, 0x78, 0x80, 0x88, 0x90, 0xb0, 0xb8, 0xc0, 0xc8,
    0xd0,
];

impl Mmio for Registers {
    fn size(&self) -> usize {
        0x1000
    }

    fn read32(&self, offset: usize) -> u32 {
        outside(|| self.0.get32(offset))
    }

    fn read64(&self, offset: usize) -> u64 {
        assert!(
            offset >= 0x100 || SIZES_OF_64.contains(&offset),
            "{offset:#x}"
        );
        outside(|| self.0.get64(offset))
    }

    fn write32(&self, offset: usize, value: u32) {
        outside(|| self.0.write32(offset, value));
    }

    fn write64(&self, offset: usize, value: u64) {
        outside(|| self.0.write64(offset, value));
    }
}

impl Fake {
    fn write32(&self, offset: usize, value: u32) {
        let mut state = self.state();
        match offset {
            GCMD => state.command(value),
            FSTS => {
                let cleared = value & (PFO | IQE | ICE | ITE);
                let status = state.get32(FSTS) & !cleared;
                state.set32(FSTS, status);
            }
            PRS => {
                let status = state.get32(PRS) & !(value & 3);
                state.set32(PRS, status);
            }
            PMEN => {
                let on = value >> 31;
                state.set32(PMEN, value & !1 | on);
            }
            _ if offset >= state.record(0) => {
                assert!(value == 1 << 31 && offset & 0xf == 12, "clears F only");
                let old = state.get32(offset);
                state.set32(offset, old & !value);
                let pending = (0..state.records()).any(|n| {
                    let at = state.record(n);
                    state.get64(at + 8) >> 63 != 0
                });
                if !pending {
                    let status = state.get32(FSTS) & !PPF;
                    state.set32(FSTS, status);
                }
            }
            _ => state.set32(offset, value),
        }
    }

    fn write64(&self, offset: usize, value: u64) {
        assert!(SIZES_OF_64.contains(&offset), "64 bits at {offset:#x}");
        let mut state = self.state();
        state.set64(offset, value);
        match offset {
            IQT => {
                state.doorbells += 1;
                self.run_queue(&mut state);
            }
            VCMD => state.virtual_command(value),
            CCMD => state.invalidate_by_register(CCMD, 0, 61, 59),
            IOTLB => {
                let address = state.get64(IVA);
                state.invalidate_by_register(IOTLB, address, 60, 57);
            }
            _ => {}
        }
    }
}
