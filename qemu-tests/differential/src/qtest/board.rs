//! A rig in QEMU, and cases on it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Result, ensure};

use super::connection::{Connection, Dead};
use super::trace::{Event, Trace};
use crate::aborts::Act;
use crate::answer::{Answer, Message, Record, Seen};
use crate::bench::{Emulator, QUEUE, Rig, SCRATCH, STATUS};
use crate::case::{Case, Descriptor, Device, Sending, Step};
use crate::hardware::{Told, forget_all, wait};

const UNIT: u64 = 0xfed9_0000;
const GCMD: u64 = UNIT + 0x18;
const GSTS: u64 = UNIT + 0x1c;
const RTADDR: u64 = UNIT + 0x20;
const FSTS: u64 = UNIT + 0x34;
const IQH: u64 = UNIT + 0x80;
const IQT: u64 = UNIT + 0x88;
const IQA: u64 = UNIT + 0x90;
const IRTA: u64 = UNIT + 0xb8;
const FRCD: u64 = UNIT + 0x220;

const TE: u32 = 1 << 31;
const SRTP: u32 = 1 << 30;
const QIE: u32 = 1 << 26;
const IRE: u32 = 1 << 25;
const SIRTP: u32 = 1 << 24;

/// Where the buffer of `edu` lies in its own address space.
const BUFFER: u64 = 0x4_0000;
/// What `iommu-testdev` writes.
const TESTER_PATTERN: u32 = 0x1234_5678;
/// An APIC that is not there: what is sent to it disturbs nobody.
const NOBODY: u64 = 0xfeef_e000;
/// Longer than a DMA of `edu` takes, in nanoseconds of virtual time.
const DMA_TIME: u64 = 100_000_001;
const POLLS: u32 = 200_000;

/// A running rig.
pub(crate) struct Board<'a> {
    emulator: &'a Emulator,
    rig: Rig,
    qemu: Connection,
    trace: Trace,
    tail: u64,
    waits: u32,
    /// The next number that no cell has held.
    fresh: u32,
    /// What the first word of each device's buffer holds.
    buffers: BTreeMap<Device, u32>,
    interrupts_on: bool,
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

    fn plug(&mut self, device: Device) -> Result<(), Dead> {
        self.configure(device, 0x10, bar(device) as u32)?;
        self.configure(device, 0x04, 0x6)
    }

    fn configure(&mut self, device: Device, register: u32, value: u32) -> Result<(), Dead> {
        let address = 1 << 31 | u32::from(device.source()) << 8 | register;
        self.qemu.command(format_args!("outl 0xcf8 {address:#x}"))?;
        self.qemu.command(format_args!("outl 0xcfc {value:#x}"))
    }

    fn write32(&mut self, at: u64, value: u32) -> Result<(), Dead> {
        self.qemu.command(format_args!("writel {at:#x} {value:#x}"))
    }

    fn write64(&mut self, at: u64, value: u64) -> Result<(), Dead> {
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

    /// Runs a case beside what the model told of each step.
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
        self.end()?;
        Ok(seen)
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

    fn end(&mut self) -> Result<(), Dead> {
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

    fn dma(
        &mut self,
        device: Device,
        write: bool,
        address: u64,
        cells: BTreeSet<u64>,
    ) -> Result<Seen, Dead> {
        let first = self.fresh;
        self.fresh += cells.len() as u32;
        for (cell, value) in cells.iter().zip(first..) {
            self.write32(*cell, value)?;
        }
        let is_tester = device == Device::Tester && self.emulator.has_tester;
        let written = if is_tester {
            self.test(address)?;
            TESTER_PATTERN
        } else {
            let before = self.buffers.get(&device).copied().unwrap_or(0);
            self.transfer(device, write, address)?;
            before
        };
        let record = self.take_record()?;
        let reached = if write {
            let words = cells.iter().map(|cell| format!("readl {cell:#x}"));
            let now = self.qemu.ask_all(words)?;
            let changed: Vec<(u64, u32)> = cells
                .iter()
                .zip(first..)
                .zip(now)
                .filter(|((_, before), now)| u64::from(*before) != *now)
                .map(|((cell, _), now)| (*cell, now as u32))
                .collect();
            if let Some((cell, found)) = changed.iter().find(|(_, found)| *found != written) {
                let text = format!("{found:#x} at {cell:#x}, which nobody wrote");
                return Ok(Seen::Confused(text));
            }
            changed.iter().map(|(cell, _)| *cell).collect()
        } else {
            let value = self.buffer(device)?;
            self.buffers.insert(device, value);
            let found = cells.iter().zip(first..);
            let reached: Vec<u64> = found
                .filter(|(_, held)| *held == value)
                .map(|(cell, _)| *cell)
                .collect();
            if reached.is_empty() && value != 0 {
                let text = format!("the device holds {value:#x}, which no known cell held");
                return Ok(Seen::Confused(text));
            }
            reached
        };
        for cell in cells {
            self.write32(cell, 0)?;
        }
        Ok(judge(&reached, record))
    }

    /// Programs `edu` and waits until it is done.
    fn transfer(&mut self, device: Device, write: bool, address: u64) -> Result<(), Dead> {
        let bar = bar(device);
        let (from, to, command) = if write {
            (BUFFER, address, 3)
        } else {
            (address, BUFFER, 1)
        };
        for (register, value) in [(0x80, from), (0x88, to), (0x90, 4), (0x98, command)] {
            self.write64(bar + register, value)?;
        }
        if self.emulator.is_recent {
            return self.qemu.command(format_args!("clock_step {DMA_TIME}"));
        }
        for _ in 0..POLLS {
            if self.qemu.ask(format_args!("readl {:#x}", bar + 0x98))? & 1 == 0 {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Lets `iommu-testdev` write; its own reading back is of no interest.
    fn test(&mut self, address: u64) -> Result<(), Dead> {
        let bar = bar(Device::Tester);
        let low = address as u32;
        let high = (address >> 32) as u32;
        for (register, value) in [
            (0x04, low),
            (0x08, high),
            (0x0c, 4),
            (0x1c, SCRATCH as u32),
            (0x20, 0),
            (0x14, 1),
        ] {
            self.write32(bar + register, value)?;
        }
        self.qemu.command(format_args!("readl {bar:#x}"))
    }

    /// What the first word of an `edu`'s buffer holds: written to an interrupt address of
    /// nobody's, where no table is asked, it shows in the trace.
    fn buffer(&mut self, device: Device) -> Result<u32, Dead> {
        self.qemu.settle()?;
        self.trace.take();
        self.transfer(device, true, NOBODY)?;
        self.qemu.settle()?;
        let data = self.trace.take().iter().find_map(|event| match event {
            Event::Remapped {
                from: (NOBODY, data),
                ..
            } => Some(*data),
            _ => None,
        });
        Ok(data.unwrap_or(0))
    }

    fn take_record(&mut self) -> Result<Option<Record>, Dead> {
        let words = [FRCD, FRCD + 8].map(|at| format!("readq {at:#x}"));
        let found = self.qemu.ask_all(words)?;
        self.write32(FRCD + 12, 1 << 31)?;
        self.write32(FSTS, 1)?;
        Ok(Record::parse(found[0], found[1]))
    }

    fn interrupt(
        &mut self,
        device: Device,
        address: u32,
        data: u32,
        sending: Sending,
    ) -> Result<Seen, Dead> {
        match sending {
            Sending::Message => {
                self.configure(device, 0x44, address)?;
                self.configure(device, 0x48, 0)?;
                // The capability's data register holds 16 bits, and the rest is 0.
                self.configure(device, 0x4c, data)?;
                self.configure(device, 0x40, 0x81_0005)?;
            }
            Sending::Write => {
                self.load(device, data)?;
            }
        }
        self.qemu.settle()?;
        self.trace.take();
        match sending {
            Sending::Message => {
                self.write32(bar(device) + 0x60, 1)?;
                self.write32(bar(device) + 0x64, 1)?;
            }
            Sending::Write => self.transfer(device, true, u64::from(address))?,
        }
        let record = self.take_record()?;
        self.qemu.settle()?;
        Ok(judge_interrupt(&self.trace.take(), record))
    }

    /// Puts a word into a device's buffer, past the unit: translation is off for as long.
    fn load(&mut self, device: Device, data: u32) -> Result<(), Dead> {
        let kept = QIE | if self.interrupts_on { IRE } else { 0 };
        self.write32(SCRATCH, data)?;
        self.write32(GCMD, kept)?;
        self.transfer(device, false, SCRATCH)?;
        self.write32(GCMD, kept | TE)?;
        self.buffers.insert(device, data);
        Ok(())
    }
}

fn judge(reached: &[u64], record: Option<Record>) -> Seen {
    match (reached, record) {
        ([address], None) => Seen::Answer(Answer::Memory(*address)),
        // Nothing was reached: QEMU blocks without a record, or there is no memory. Which of
        // the two cannot be seen, and does not matter to memory.
        ([], None) => Seen::Answer(Answer::Blocked(None)),
        ([], Some(record)) => Seen::Answer(Answer::Blocked(Some(record))),
        (cells, record) => Seen::Confused(format!("data at {cells:x?}, record {record:x?}")),
    }
}

/// A message counts as delivered if it left the unit and arrived as the same.
fn judge_interrupt(events: &[Event], record: Option<Record>) -> Seen {
    let low = |message: &Message| Message {
        destination: message.destination & 0xff,
        ..*message
    };
    match (events, record) {
        ([], record) => Seen::Answer(Answer::Blocked(record)),
        (
            [
                Event::Remapped {
                    to: (address, data),
                    ..
                },
                Event::Arrived(arrived),
            ],
            None,
        ) if low(&Message::parse(*address, *data)) == *arrived => {
            Seen::Answer(Answer::Delivered(Message::parse(*address, *data)))
        }
        _ => Seen::Confused(format!("events {events:x?} and record {record:x?}")),
    }
}

fn bar(device: Device) -> u64 {
    match device {
        Device::Low => 0xe100_0000,
        Device::High => 0xe110_0000,
        Device::Tester => 0xe120_0000,
    }
}
