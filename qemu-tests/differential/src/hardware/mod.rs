//! The model's side: a fresh machine for each case, driven through registers and memory.

mod request;

use std::sync::Arc;

use vtd_model::{Condition, Freedom, HostMemory, Machine, Width};

use crate::answer::Answer;
use crate::bench::{Emulator, QUEUE, Rig, STATUS};
use crate::case::{Case, Descriptor, Device, Step};
use crate::memory::{Memory, is_ram};
use crate::walk::{Walk, Walker};
pub(crate) use request::handle;

const GCMD: usize = 0x18;
const GSTS: usize = 0x1c;
const RTADDR: usize = 0x20;
const FSTS: usize = 0x34;
const IQH: usize = 0x80;
const IQT: usize = 0x88;
const IQA: usize = 0x90;
const IRTA: usize = 0xb8;

const TE: u32 = 1 << 31;
const SRTP: u32 = 1 << 30;
const QIE: u32 = 1 << 26;
const IRE: u32 = 1 << 25;
const SIRTP: u32 = 1 << 24;
const ONE_SHOT: u32 = !0x96ff_ffff;

/// Ticks after which whatever was asked has long been done, in the random mode too.
const PATIENCE: u32 = 2_000;
/// Ticks in which a queue of waits runs to its end.
const SETTLED: u64 = 200;

/// What the model says of one step.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Told {
    /// Every answer that hardware may give, in QEMU's words; without those that QEMU has no
    /// word for.
    pub(crate) answers: Vec<Answer>,
    /// The conditions behind them, whether or not QEMU has a word for them.
    pub(crate) conditions: Vec<Condition>,
    /// What a request met.
    pub(crate) walk: Walk,
    /// The words of the interrupt entry that a request named.
    pub(crate) interrupt_entry: Option<[u64; 2]>,
}

/// The model with the tables of a case.
pub(crate) struct Hardware<'a> {
    emulator: &'a Emulator,
    rig: Rig,
    machine: Machine,
    memory: Arc<Memory>,
    walker: Walker,
    interrupts: Option<u64>,
    tail: u64,
    waits: u32,
}

impl<'a> Hardware<'a> {
    /// Sets the unit up as the case says.
    ///
    /// # Errors
    /// The unit did not do what it was told.
    pub(crate) fn new(
        emulator: &'a Emulator,
        case: &Case,
        freedom: Freedom,
    ) -> Result<Self, String> {
        let memory = Arc::new(Memory::default());
        for (&at, &value) in &case.memory {
            memory.store(at, value);
        }
        let mut builder = Machine::builder()
            .unit(emulator.config(case.rig))
            .freedom(freedom)
            .memory(Arc::clone(&memory) as Arc<dyn HostMemory>);
        for device in Device::ALL {
            builder = builder.device(device.source(), 0);
        }
        let machine = builder.build().map_err(|error| error.to_string())?;
        let mut this = Self {
            emulator,
            rig: case.rig,
            machine,
            memory,
            walker: Walker::of(emulator, case),
            interrupts: case.interrupts,
            tail: 0,
            waits: 0,
        };
        for &frame in case.tables.iter().filter(|frame| is_ram(**frame)) {
            this.machine.written_back(frame, 0x1000);
        }
        this.turn_on(case)?;
        Ok(this)
    }

    fn turn_on(&mut self, case: &Case) -> Result<(), String> {
        let wide = u64::from(self.rig.is_scalable()) << 11;
        self.machine.write(0, IQA, Width::Qword, QUEUE | wide);
        self.command(QIE)?;
        self.machine.write(0, RTADDR, Width::Qword, case.root);
        self.command(SRTP)?;
        if let Some(table) = case.interrupts {
            self.machine.write(0, IRTA, Width::Qword, table);
            self.command(SIRTP)?;
        }
        match self.invalidate(&forget_all(self.rig)) {
            Answer::Done => {}
            other => return Err(format!("the model's first invalidation: {other}")),
        }
        self.command(TE)?;
        if case.interrupts.is_some() {
            self.command(IRE)?;
        }
        match self.machine.take_violations().first() {
            None => Ok(()),
            Some(violation) => Err(format!("set-up violates a rule: {violation}")),
        }
    }

    fn command(&mut self, bit: u32) -> Result<(), String> {
        let status = self.machine.read(0, GSTS, Width::Dword) as u32 & !ONE_SHOT;
        let value = u64::from(status | bit);
        self.machine.write(0, GCMD, Width::Dword, value);
        for _ in 0..PATIENCE {
            if self.machine.read(0, GSTS, Width::Dword) as u32 & bit != 0 {
                return Ok(());
            }
            self.machine.tick();
        }
        Err(format!("the model never answers command {bit:#x}"))
    }

    /// A word of memory.
    pub(crate) fn word(&self, at: u64) -> u64 {
        self.memory.load(at).unwrap_or(0)
    }

    /// One step; `None` for one that has no answer.
    pub(crate) fn step(&mut self, step: &Step) -> Option<Told> {
        match step {
            Step::Store { at, value } => {
                self.machine.write_u64(*at, *value);
                self.machine.written_back(*at, 8);
                None
            }
            Step::Invalidate(descriptors) => Some(Told {
                answers: vec![self.invalidate(descriptors)],
                conditions: Vec::new(),
                walk: Walk::default(),
                interrupt_entry: None,
            }),
            Step::Dma {
                device,
                write,
                address,
            } => Some(self.dma(*device, *write, *address)),
            Step::Interrupt {
                device,
                address,
                data,
                ..
            } => Some(self.interrupt(*device, u64::from(*address), *data)),
        }
    }

    fn invalidate(&mut self, descriptors: &[Descriptor]) -> Answer {
        let size = if self.rig.is_scalable() { 32 } else { 16 };
        let first = self.tail;
        self.waits += 1;
        for words in descriptors.iter().chain([&wait(self.waits)]) {
            for (at, word) in (0..).step_by(8).zip(&words[..size as usize / 8]) {
                self.machine.write_u64(QUEUE + self.tail + at, *word);
            }
            self.tail = (self.tail + size) % 0x1000;
        }
        self.machine.write(0, IQT, Width::Qword, self.tail);
        for _ in 0..PATIENCE {
            self.machine.tick();
            if self.machine.read_u32(STATUS) == self.waits {
                return Answer::Done;
            }
            if self.machine.read(0, FSTS, Width::Dword) & 0x10 != 0 {
                break;
            }
        }
        let head = self.machine.read(0, IQH, Width::Qword);
        let stopped = head.wrapping_sub(first) % 0x1000 / size;
        self.recover(head, size);
        Answer::Stopped(stopped as u32)
    }

    /// Steps over what is left, as a driver does: the queue is filled with waits that do
    /// nothing of their own, and goes on.
    fn recover(&mut self, head: u64, size: u64) {
        let mut at = head;
        while at != self.tail {
            for (place, word) in (0..).step_by(8).zip(&wait(self.waits)[..size as usize / 8]) {
                self.machine.write_u64(QUEUE + at + place, *word);
            }
            at = (at + size) % 0x1000;
        }
        self.machine.write(0, FSTS, Width::Dword, 0x10);
        self.machine.write(0, IQT, Width::Qword, self.tail);
        self.machine.settle(SETTLED);
    }
}

/// Global invalidation of all that a unit caches.
pub(crate) fn forget_all(rig: Rig) -> Vec<Descriptor> {
    const CONTEXT: Descriptor = [0x11, 0, 0, 0];
    const PASID: Descriptor = [0x37, 0, 0, 0];
    const IOTLB: Descriptor = [0x12, 0, 0, 0];
    const ENTRIES: Descriptor = [0x04, 0, 0, 0];
    if rig.is_scalable() {
        vec![CONTEXT, PASID, IOTLB, ENTRIES]
    } else {
        vec![CONTEXT, IOTLB, ENTRIES]
    }
}

/// A fenced wait that reports `number`.
pub(crate) fn wait(number: u32) -> Descriptor {
    [u64::from(number) << 32 | 0x65, STATUS, 0, 0]
}
