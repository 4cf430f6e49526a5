//! A rig in QEMU, and cases on it.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Result, ensure};

use super::connection::{Connection, Dead};
use super::trace::Trace;
use crate::aborts::Act;
use crate::answer::{Answer, Seen};
use crate::bench::{Emulator, QUEUE, Rig, STATUS};
use crate::case::{Case, Descriptor, Device, Step};
use crate::hardware::{Told, forget_all, wait};

pub(super) const UNIT: u64 = 0xfed9_0000;
pub(super) const GCMD: u64 = UNIT + 0x18;
const GSTS: u64 = UNIT + 0x1c;
const RTADDR: u64 = UNIT + 0x20;
pub(super) const FSTS: u64 = UNIT + 0x34;
const IQH: u64 = UNIT + 0x80;
const IQT: u64 = UNIT + 0x88;
const IQA: u64 = UNIT + 0x90;
const IRTA: u64 = UNIT + 0xb8;

pub(super) const TE: u32 = 1 << 31;
const SRTP: u32 = 1 << 30;
pub(super) const QIE: u32 = 1 << 26;
pub(super) const IRE: u32 = 1 << 25;
const SIRTP: u32 = 1 << 24;

/// A running rig.
pub(crate) struct Board<'a> {
    pub(super) emulator: &'a Emulator,
    rig: Rig,
    pub(super) qemu: Connection,
    pub(super) trace: Trace,
    tail: u64,
    waits: u32,
    /// The next number that no cell has held.
    pub(super) fresh: u32,
    /// What the first word of each device's buffer holds.
    pub(super) buffers: BTreeMap<Device, u32>,
    pub(super) interrupts_on: bool,
    /// Cells that are not 0.
    dirty: Vec<u64>,
}

impl<'a> Board<'a> {
    /// Starts QEMU and turns the unit on. `home` takes the files of this run.
    ///
    /// # Errors
    /// QEMU does not start, or its unit is not what the model is told that it is.
    pub(crate) fn start(emulator: &'a Emulator, rig: Rig, rom: &Path, home: &Path) -> Result<Self> {
        std::fs::create_dir_all(home)?;
        let trace = home.join("trace");
        let _ = std::fs::remove_file(&trace);
        let mut board = Self {
            emulator,
            rig,
            qemu: Connection::start(emulator, rig, rom, home)?,
            trace: Trace::new(&trace),
            tail: 0,
            waits: 0,
            fresh: 0x1000_0000,
            buffers: BTreeMap::new(),
            interrupts_on: false,
            dirty: Vec::new(),
        };
        board.check_capabilities()?;
        for device in Device::ALL {
            board.plug(device)?;
        }
        let wide = u64::from(rig.is_scalable()) << 11;
        board.write64(IQA, QUEUE | wide)?;
        board.write32(GCMD, QIE)?;
        board.write32(GCMD, QIE | TE)?;
        let status = board.qemu.ask(format_args!("readl {GSTS:#x}"))?;
        ensure!(
            status == u64::from(QIE | TE),
            "QEMU's unit does not turn on: GSTS {status:#x}"
        );
        Ok(board)
    }

    fn check_capabilities(&mut self) -> Result<()> {
        let config = self.emulator.config(self.rig);
        let words = [0x08, 0x10].map(|at| format!("readq {:#x}", UNIT + at));
        let found = self.qemu.ask_all(words)?;
        let wanted = [
            config.capability(),
            config.extended_capability() & !self.emulator.undeclared(self.rig),
        ];
        ensure!(
            found == wanted,
            "{:?} of QEMU {}: CAP and ECAP are {found:x?}; the model has {wanted:x?}",
            self.rig,
            self.emulator.version
        );
        Ok(())
    }

    pub(super) fn write32(&mut self, at: u64, value: u32) -> Result<(), Dead> {
        self.qemu.command(format_args!("writel {at:#x} {value:#x}"))
    }

    pub(super) fn write64(&mut self, at: u64, value: u64) -> Result<(), Dead> {
        self.qemu.command(format_args!("writeq {at:#x} {value:#x}"))
    }

    /// A word of memory that is to be 0 again for the next case.
    fn store(&mut self, at: u64, value: u64) -> Result<(), Dead> {
        self.dirty.push(at);
        self.write64(at, value)
    }

    /// Does one thing outside of any case.
    ///
    /// # Errors
    /// QEMU died of it.
    pub(crate) fn act(&mut self, act: &Act) -> Result<(), Dead> {
        match *act {
            Act::Write64 { register } => self.write64(UNIT + register, 0)?,
            Act::Queue(words) => self.queue(&[words])?,
        }
        self.qemu.ask(format_args!("readl {GSTS:#x}")).map(|_| ())
    }

    /// Runs a case beside what the model told of each step. [`Board::forget`] ends it.
    ///
    /// # Errors
    /// QEMU died.
    pub(crate) fn run(
        &mut self,
        case: &Case,
        told: &[Option<Told>],
    ) -> Result<Vec<Option<Seen>>, Dead> {
        self.begin(case)?;
        let mut seen = Vec::new();
        for (step, told) in case.steps.iter().zip(told) {
            seen.push(self.step(case, step, told.as_ref())?);
        }
        Ok(seen)
    }

    /// What the tables of a case hold.
    ///
    /// # Errors
    /// QEMU died.
    pub(crate) fn tables(&mut self, case: &Case) -> Result<BTreeMap<u64, u64>, Dead> {
        let words = case.words();
        let lines = words.iter().map(|at| format!("readq {at:#x}"));
        let found = self.qemu.ask_all(lines)?;
        Ok(words.into_iter().zip(found).collect())
    }

    fn begin(&mut self, case: &Case) -> Result<(), Dead> {
        for (&at, &value) in &case.memory {
            self.store(at, value)?;
        }
        self.write64(RTADDR, case.root)?;
        let on = TE | QIE;
        self.write32(GCMD, on | SRTP)?;
        if let Some(table) = case.interrupts {
            self.write64(IRTA, table)?;
            self.write32(GCMD, on | SIRTP)?;
        }
        self.queue(&forget_all(self.rig))?;
        if case.interrupts.is_some() {
            self.write32(GCMD, on | IRE)?;
        }
        self.interrupts_on = case.interrupts.is_some();
        Ok(())
    }

    /// Makes memory and unit what they were before the case.
    ///
    /// # Errors
    /// QEMU died.
    pub(crate) fn forget(&mut self) -> Result<(), Dead> {
        if std::mem::take(&mut self.interrupts_on) {
            self.write32(GCMD, TE | QIE)?;
        }
        for at in std::mem::take(&mut self.dirty) {
            self.write64(at, 0)?;
        }
        self.qemu.settle()
    }

    fn step(
        &mut self,
        case: &Case,
        step: &Step,
        told: Option<&Told>,
    ) -> Result<Option<Seen>, Dead> {
        match step {
            Step::Store { at, value } => {
                self.store(*at, *value)?;
                Ok(None)
            }
            Step::Invalidate(descriptors) => {
                let answer = self.invalidate(descriptors)?;
                Ok(Some(Seen::Answer(answer)))
            }
            Step::Dma {
                device,
                write,
                address,
            } => {
                let mut cells = case.cells(*address);
                // A rule or a cache may know of others.
                for answer in told.iter().flat_map(|told| &told.answers) {
                    cells.extend(answer.place().filter(|cell| case.is_free(*cell)));
                }
                self.dma(*device, *write, *address, cells).map(Some)
            }
            Step::Interrupt {
                device,
                address,
                data,
                sending,
            } => self.interrupt(*device, *address, *data, *sending).map(Some),
        }
    }

    /// Puts descriptors and a wait into the queue and rings.
    fn queue(&mut self, descriptors: &[Descriptor]) -> Result<(), Dead> {
        let size = self.slot();
        self.waits += 1;
        for words in descriptors.iter().chain([&wait(self.waits)]) {
            for (at, word) in (0..).step_by(8).zip(&words[..size as usize / 8]) {
                self.write64(QUEUE + self.tail + at, *word)?;
            }
            self.tail = (self.tail + size) % 0x1000;
        }
        self.write64(IQT, self.tail)
    }

    fn slot(&self) -> u64 {
        if self.rig.is_scalable() { 32 } else { 16 }
    }

    fn invalidate(&mut self, descriptors: &[Descriptor]) -> Result<Answer, Dead> {
        let first = self.tail;
        self.queue(descriptors)?;
        let found = self.qemu.ask_all([
            format!("readl {STATUS:#x}"),
            format!("readl {FSTS:#x}"),
            format!("readq {IQH:#x}"),
        ])?;
        let [status, faults, head] = found[..] else {
            return Ok(Answer::Done);
        };
        if status == u64::from(self.waits) && faults & 0x10 == 0 {
            return Ok(Answer::Done);
        }
        let stopped = head.wrapping_sub(first) % 0x1000 / self.slot();
        let mut at = head;
        while at != self.tail {
            let words = wait(self.waits);
            for (place, word) in (0..).step_by(8).zip(&words[..self.slot() as usize / 8]) {
                self.write64(QUEUE + at + place, *word)?;
            }
            at = (at + self.slot()) % 0x1000;
        }
        self.write32(FSTS, 0x10)?;
        self.write64(IQT, self.tail)?;
        Ok(Answer::Stopped(stopped as u32))
    }
}
