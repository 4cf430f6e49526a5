//! The device, and the unit between it and memory.

use super::{EDU_BAR, Memory};
use edu::{DEVICE, VENDOR};
use iommu_abi::FaultEvent;
use iommu_core::{FaultReason, Gpa};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

const PAGE: u64 = 4096;
const BUFFER: u64 = 0x4_0000;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
/// Addresses of 46 bits, as on a machine without more.
const RESERVED: u64 = 0x000f_c000_0000_0000;

pub(super) const FOREIGN_MESSAGE: u64 = 0xfee0_0018;
pub(super) const OWN_MESSAGE: u64 = 0xfee0_0038;

/// A page and whether it can be written, or why not and at which level.
type Walked = Result<(u64, bool), (FaultReason, u32)>;

/// What the unit does for the device: at most one table, and a cache of every translation
/// ever made.
#[derive(Default)]
pub(super) struct Unit {
    pub(super) root: Option<(u32, u64)>,
    pub(super) faults: VecDeque<FaultEvent>,
    /// The guest was interrupted because of faults.
    pub(super) told: bool,
    pub(super) deaf: bool,
    pub(super) lenient: bool,
    cache: BTreeMap<u64, Walked>,
}

impl Unit {
    pub(super) fn forget(&mut self, first: u64, last: u64) {
        if !self.deaf {
            self.cache.retain(|page, _| *page < first || *page > last);
        }
    }

    pub(super) fn attach(&mut self, table: Option<(u32, u64)>) {
        self.root = table;
        self.cache.clear();
    }

    /// The whole walk, without any cache: page and whether it can be written.
    fn walk(&self, memory: &mut Memory, address: u64) -> Walked {
        let Some((_, root)) = self.root else {
            return Err((FaultReason::CONTEXT_NOT_PRESENT, 0));
        };
        let (mut table, mut writable) = (root, true);
        for level in (1..=4u32).rev() {
            let index = address >> (3 + 9 * level) & 0x1ff;
            let entry = memory
                .load(Gpa::new(table + index * 8))
                .ok_or((FaultReason::NESTED_TABLE_DENIED, level))?;
            if entry & 1 == 0 {
                return Err((FaultReason::FIRST_STAGE_NOT_PRESENT, level));
            }
            if entry & RESERVED != 0 {
                return Err((FaultReason::FIRST_STAGE_RESERVED, level));
            }
            if entry & 4 == 0 {
                return Err((FaultReason::USER_DENIED, level));
            }
            writable &= entry & 2 != 0;
            table = entry & ADDRESS;
        }
        memory
            .load(Gpa::new(table))
            .ok_or((FaultReason::SECOND_STAGE_NOT_PRESENT, 1))?;
        Ok((table, writable))
    }

    fn translate(&mut self, memory: &mut Memory, address: u64, write: bool) -> Option<u64> {
        let page = address & !(PAGE - 1);
        let found = match self.cache.get(&page) {
            Some(found) => *found,
            None => self.walk(memory, address),
        };
        self.cache.insert(page, found);
        let refusal = match found {
            Ok((to, writable)) if writable || !write => return Some(to | address & (PAGE - 1)),
            Ok(_) => (FaultReason::SCALABLE_WRITE_DENIED, 1),
            Err(refusal) => refusal,
        };
        if self.lenient {
            return Some(0);
        }
        self.record(page, write, refusal);
        None
    }

    fn record(&mut self, address: u64, write: bool, (reason, level): (FaultReason, u32)) {
        self.told |= self.faults.is_empty();
        let attached = self.root.map_or(0, |(id, _)| id);
        self.faults.push_back(FaultEvent {
            kind: 1,
            flags: FaultEvent::ADDRESS | if attached == 0 { 0 } else { FaultEvent::IOAS },
            device_id: super::hypervisor::DEVICE_ID,
            ioas_id: attached,
            access: if write {
                FaultEvent::WRITE
            } else {
                FaultEvent::READ
            },
            reason: reason.0.into(),
            level,
            address,
            ..FaultEvent::default()
        });
    }
}

pub(super) struct Device {
    pub(super) unit: Unit,
    pub(super) config: [u32; 64],
    pub(super) interrupts: BTreeSet<u8>,
    buffer: Vec<u8>,
    dma: [u64; 4],
    liveness: u32,
    causes: u32,
}

impl Default for Device {
    fn default() -> Self {
        let mut config = [0; 64];
        config[0] = u32::from(DEVICE) << 16 | u32::from(VENDOR);
        config[1] = 0x0010_0000;
        config[2] = 0x00ff_0010;
        config[4] = EDU_BAR as u32;
        config[13] = 0x40;
        config[16] = 0x0080_0005;
        Self {
            unit: Unit::default(),
            config,
            interrupts: BTreeSet::new(),
            buffer: vec![0; 4096],
            dma: [0; 4],
            liveness: 0,
            causes: 0,
        }
    }
}

impl Device {
    pub(super) fn read(&mut self, offset: u64) -> u64 {
        match offset {
            0 => 0x0100_00ed,
            0x04 => u64::from(!self.liveness),
            0x24 => u64::from(self.causes),
            0x98 => self.dma[3],
            _ => u64::MAX,
        }
    }

    pub(super) fn write(&mut self, offset: u64, value: u64) {
        match offset {
            0x04 => self.liveness = value as u32,
            0x60 => {
                self.causes |= value as u32;
                self.interrupt();
            }
            0x64 => self.causes &= !(value as u32),
            0x80..0xa0 => self.dma[(offset as usize - 0x80) / 8] = value,
            _ => {}
        }
    }

    fn interrupt(&mut self) {
        if self.config[16] & 1 << 16 != 0 {
            self.interrupts.insert(self.config[19] as u8);
        }
    }

    /// Does the copy that was started, if one was.
    pub(super) fn finish(&mut self, memory: &mut Memory) {
        let [source, destination, count, command] = self.dma;
        let bus_master = self.config[1] & 4 != 0;
        if command & 1 == 0 {
            return;
        }
        if bus_master && command & 2 == 0 {
            self.copy_in(memory, source, destination - BUFFER, count);
        } else if bus_master {
            self.copy_out(memory, source - BUFFER, destination, count);
        }
        self.dma[3] &= !1;
        if command & 4 != 0 {
            self.causes |= 0x100;
            self.interrupt();
        }
    }

    fn copy_in(&mut self, memory: &mut Memory, from: u64, offset: u64, count: u64) {
        for (address, length) in pieces(from, count) {
            let at = (offset + address - from) as usize;
            let translated = self.unit.translate(memory, address, false);
            let source = translated.and_then(|to| memory.at(Gpa::new(to), length));
            let buffer = &mut self.buffer[at..at + length];
            match source {
                Some(source) => buffer.copy_from_slice(source),
                None => buffer.fill(0),
            }
        }
    }

    fn copy_out(&mut self, memory: &mut Memory, offset: u64, to: u64, count: u64) {
        if to >> 20 == 0xfee {
            self.message(to);
            return;
        }
        for (address, length) in pieces(to, count) {
            let at = (offset + address - to) as usize;
            let translated = self.unit.translate(memory, address, true);
            if let Some(there) = translated.and_then(|to| memory.at(Gpa::new(to), length)) {
                there.copy_from_slice(&self.buffer[at..at + length]);
            }
        }
    }

    fn message(&mut self, to: u64) {
        if to == OWN_MESSAGE {
            self.interrupt();
        } else {
            let reason = FaultReason::INTERRUPT_SOURCE;
            self.unit.record(0, true, (reason, 0));
            if let Some(fault) = self.unit.faults.back_mut() {
                fault.kind = 2;
                fault.flags = 0;
            }
        }
    }
}

/// A range, cut at page boundaries.
fn pieces(first: u64, count: u64) -> Vec<(u64, usize)> {
    let mut pieces = Vec::new();
    let (mut at, end) = (first, first + count);
    while at < end {
        let next = (at / PAGE + 1) * PAGE;
        pieces.push((at, (next.min(end) - at) as usize));
        at = next;
    }
    pieces
}
